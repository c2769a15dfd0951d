"""The compiled module: what it takes, what it gives, and how it refuses."""

import json
import subprocess
import sys
from datetime import datetime, timezone

import pyarrow as pa
import pytest
from conftest import ROOT, Deployment, binary, canonical
from google.cloud.bigquery import SchemaField

import sawlog

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=timezone.utc)


def messages(*data: bytes, attributes: dict[str, str] | None = None) -> pa.RecordBatch:
    lines = [
        {
            "data": one,
            "attributes": list((attributes or {}).items()),
            "message_id": str(place),
            "publish_time": NOW,
            "ordering_key": "",
        }
        for place, one in enumerate(data)
    ]
    return pa.RecordBatch.from_pylist(lines, sawlog.schema("messages"))


def rows(transformer: sawlog.Transformer, *data: bytes, **more) -> dict[str, pa.RecordBatch]:
    return transformer.transform(transformer.receive(messages(*data, **more), "orders"))


def test_messages_become_rows_and_dead_letters():
    found = rows(
        sawlog.Transformer(),
        b'{"message":"paid","level":"error","user_id":"u1","insert_id":"a"}\n{"metric":"cpu","value":0.5}',
        b'{"event":"view","user_id":"u1"}',
        b'{"message":"paid again","insert_id":"a"}',
        b"{broken",
        attributes={"service": "shop"},
    )
    assert {name: len(batch) for name, batch in found.items() if name in ("logs", "metrics", "activity")} == {
        "logs": 1,
        "metrics": 1,
        "activity": 1,
    }
    letter = found["dead_letters"].to_pylist()[0]
    assert (letter["payload"], letter["reason"], letter["batch_id"]) == (b"{broken", "json_syntax", "pubsub/3")
    assert found["activity"]["service"].to_pylist() == ["shop"]
    (ledger,) = found["sawlog_ledger"].to_pylist()
    assert (ledger["received"], ledger["stored"], ledger["duplicate"], ledger["dead_lettered"]) == (5, 3, 1, 1)
    # A message's own id counts where a record has none.
    assert found["ids"]["table"].to_pylist() == ["logs", "metrics", "activity"]
    assert found["logs"].schema == sawlog.schema("logs")


def test_threads_that_are_the_first_to_call_do_not_wait_for_each_other_for_ever():
    """Each of them needs the schemas of pyarrow, which nobody has made yet."""
    code = """
import sys, threading
from datetime import datetime, timezone
import pyarrow as pa, sawlog
sys.setswitchinterval(1e-6)
line = {"data": b"a", "attributes": [], "message_id": "1", "publish_time": datetime.now(timezone.utc), "ordering_key": ""}
batch = pa.RecordBatch.from_pylist([line], sawlog.schema("messages"))
start, transformer, found = threading.Barrier(16), sawlog.Transformer(), []
def run():
    start.wait()
    found.append(transformer.transform(transformer.receive(batch, "orders"))["logs"].num_rows)
threads = [threading.Thread(target=run) for _ in range(16)]
for one in threads: one.start()
for one in threads: one.join()
print(found == [1] * 16)
"""
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT / "python", check=False
        )
        assert done.stdout == "True\n", done.stderr


def test_a_record_of_the_lake_can_be_read_alone():
    transformer = sawlog.Transformer()
    raw = transformer.receive(messages(b"one\ntwo\nthree", b"four"), "orders")
    together = transformer.transform(raw)["logs"].to_pylist()
    alone = [transformer.transform(raw.slice(row, 1))["logs"].to_pylist()[0] for row in range(len(raw))]
    assert together == alone
    assert [row["insert_id"] for row in alone] == ["0/0", "0/1", "0/2", "1"]


@pytest.mark.parametrize("name", ["logs", "metrics", "activity", "dead_letters", "lake", "pane_requests", "pane_sessions"])
def test_schemas_are_those_of_the_files_of_the_binary(name: str, tmp_path_factory):
    schema = sawlog.schema(name)
    assert len(schema) > 5 and schema.field("receive_time" if name in ("logs", "lake") else schema.names[0])


@pytest.mark.parametrize("name", sawlog.table_names())
def test_schemas_of_bigquery_and_spark_have_the_columns_of_tables(name: str):
    schema = sawlog.schema(name)
    columns = [SchemaField.from_api_repr(column) for column in sawlog.bigquery_schema(name)]
    assert [column.name for column in columns] == schema.names
    of_spark = json.loads(sawlog.spark_schema(name))["fields"]
    assert [field["name"] for field in of_spark] == schema.names
    for column, spark, field in zip(columns, of_spark, schema, strict=True):
        assert spark["nullable"] == field.nullable
        if pa.types.is_map(field.type):
            assert column.field_type == "JSON" and spark["type"]["type"] == "map"
        elif pa.types.is_timestamp(field.type):
            assert (column.field_type, spark["type"]) == ("TIMESTAMP", "timestamp")
        elif pa.types.is_list(field.type) and not pa.types.is_nested(field.type.value_type):
            assert column.mode == "REPEATED" and spark["type"]["type"] == "array"
        elif pa.types.is_integer(field.type):
            # 32 bits where Arrow has them: Spark casts nothing.
            assert column.field_type == "INT64" and spark["type"] == ("integer" if field.type.bit_width == 32 else "long")


def test_rules_are_compiled_and_refused_as_by_the_binary(tmp_path):
    rules = '[[rules.filter]]\nname = "noise"\nwhere = [{ field = "message", matches = "(" }]\n'
    config = tmp_path / "sawlog.toml"
    config.write_text(rules)
    with pytest.raises(sawlog.SawlogError) as refused:
        sawlog.Settings.load(config).transformer()
    refusal = subprocess.run([binary(), "config", "check", "--config", str(config)], capture_output=True, text=True, check=False)
    place, problem = str(refused.value).split(": ", 1)
    problem, hint = problem.rsplit("; ", 1)
    assert "pattern" in problem and place in refusal.stderr and hint in refusal.stderr
    assert all(line.strip() in refusal.stderr for line in problem.splitlines())


def test_rules_redact_before_the_lake_and_name_their_files():
    settings = sawlog.Settings.parse(
        '[[rules.redact]]\nname = "mail"\npattern = "email"\nat = "receive"\n[[rules.users]]\nname = "crm"\nfile = "users.csv"\n'
    )
    assert settings.files() == ["users.csv"]
    transformer = settings.transformer({"users.csv": b"user_id,user_segment,country\nu1,gold,DE\n"})
    raw = transformer.receive(messages(b'{"message":"from a@b.example","user_id":"u1"}'), "orders")
    assert b"a@b.example" not in raw["payload"].to_pylist()[0]
    (row,) = transformer.transform(raw)["logs"].to_pylist()
    assert (row["user_segment"], row["message"]) == ("gold", "from [mail]")
    with pytest.raises(sawlog.SawlogError, match="not given"):
        sawlog.Transformer(json.dumps(settings.rules))


def test_wrong_batches_are_refused_with_what_is_wrong():
    transformer = sawlog.Transformer()
    with pytest.raises(sawlog.SawlogError, match="batch_id"):
        transformer.transform(messages(b"a"))
    with pytest.raises(sawlog.SawlogError, match=r"has the columns \(data: Utf8\), not \(data: Binary, "):
        transformer.receive(pa.record_batch({"data": ["a"]}), "orders")
    raw = transformer.receive(messages(b"a"), "orders")
    place = raw.schema.get_field_index("format")
    with pytest.raises(sawlog.SawlogError, match="row 0"):
        transformer.transform(raw.set_column(place, "format", pa.array(["none"])))
    with pytest.raises(sawlog.SawlogError, match="there is no table"):
        sawlog.schema("nothing")
    with pytest.raises(sawlog.SawlogError):
        sawlog.merge_cells(b"q", [b"nonsense"])
    with pytest.raises(sawlog.SawlogError):
        sawlog.merge_chains([])
    with pytest.raises(sawlog.SawlogError, match="1 parts for a key"):
        sawlog.row_key("requests", "1m", ["a"], 0)


def test_cells_are_summed_in_any_order():
    transformer, rollups = sawlog.Transformer(), sawlog.Rollups()
    parts = []
    for start in range(0, 60, 20):
        values = range(start, start + 20)
        lines = [f'{{"message":"m","service":"s","http":{{"status":{500 - value}}},"duration_ms":{value}}}' for value in values]
        parts.append(rollups.cells(rows(transformer, *(line.encode() for line in lines))).to_pylist())
    keys = {cell["key"] for part in parts for cell in part}
    assert {key[:1] for key in keys} == {b"q", b"t"}, "requests and most frequent errors"
    for key in keys:
        cells = [cell["cell"] for part in parts for cell in part if cell["key"] == key]
        if key[:1] != b"t":
            assert sawlog.merge_cells(key, cells) == sawlog.merge_cells(key, cells[::-1])
            assert sawlog.merge_cells(key, [sawlog.merge_cells(key, cells[:2]), cells[2]]) == sawlog.merge_cells(key, cells)


def test_row_keys_are_those_that_the_binary_reads():
    key = sawlog.row_key("requests", "1m", ["shop", None, "/cart"], 60_000_000)
    assert key.startswith(b"q") and b"shop" in key
    other = sawlog.row_key("requests", "1m", ["shop", None, "/cart"], 120_000_000)
    assert other < key, "newest first"
    assert sawlog.session_key("u1") != sawlog.session_key("u2")
    assert sawlog.timeline_key("u1", 0, 1, 2).startswith(b"l")


def test_rows_for_bigquery_have_json_and_wide_numbers():
    found = rows(sawlog.Transformer(), b'{"message":"m","labels":{"b":1,"a":true},"status":404}')
    converted = sawlog.bigquery_rows(found["logs"])
    (row,) = converted.to_pylist()
    attributes = json.loads(row["attributes"])
    assert list(attributes) == sorted(attributes) and converted.schema.field("http_status").type == pa.int64()


def test_the_binary_has_the_same_rows(tmp_path):
    lines = tmp_path / "lines.ndjson"
    lines.write_text('{"message":"a","ts":"2026-11-24T03:00:00Z"}\n{broken\n{"metric":"m","value":1}\n')
    deployment = Deployment(tmp_path, lines)
    found = sawlog.Transformer(past_max=None).transform(deployment.raw())
    for table in ("logs", "metrics", "activity", "dead_letters"):
        ours = sorted(canonical(row, "event_date", "late") for row in found[table].to_pylist())
        assert ours == sorted(canonical(row, "late") for row in deployment.rows(table)), table
