"""What becomes of rows that a service refuses, and of services that fail for a while."""

import base64
import json
import logging
import subprocess
import sys
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam import coders
from apache_beam.io.gcp.bigquery_tools import beam_row_from_dict, get_beam_typehints_from_tableschema
from apache_beam.typehints.row_type import RowTypeConstraint
from conftest import binary, generated
from doubles import Cloud

import sawlog
from sawlog.beam.logs import DeadLetterSummary
from sawlog.beam.rows import TableRows
from sawlog.beam.sinks.beam_bigquery import EXACTLY_ONCE, TEXTS, ToDicts, columns_of
from sawlog.beam.transform import Transform

NOW = datetime.now(timezone.utc)


def run_version() -> str:
    """The version of the binary, which the package has as well."""
    return subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout.split()[1]


def objects(folder: Path, **sources: list[bytes]) -> str:
    """Raw records of messages by source, as an object of the lake."""
    folder.mkdir(exist_ok=True)
    batches = []
    for source, data in sources.items():
        lines = [
            {"data": one, "attributes": [], "message_id": f"{source}{place}", "publish_time": NOW, "ordering_key": ""}
            for place, one in enumerate(data)
        ]
        messages = pa.RecordBatch.from_pylist(lines, sawlog.schema("messages"))
        batches.append(sawlog.Transformer().receive(messages, source))
    pq.write_table(pa.Table.from_batches(batches), folder / "raw.parquet")
    return str(folder / "*.parquet")


def run(pattern: str, *flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "sawlog.beam", "--input", pattern, *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[1], check=False)


@pytest.fixture
def faults(tmp_path: Path) -> Path:
    path = tmp_path / "faults"
    path.touch()
    return path


@pytest.fixture
def cloud(tmp_path: Path, faults: Path):
    made = Cloud(tmp_path, "-faults", str(faults))
    yield made
    made.stop()


def test_rows_that_bigquery_refuses_become_dead_letters_and_the_others_are_stored_once(cloud: Cloud, faults: Path, tmp_path: Path):
    lines = [f'{{"message":"order {place}","insert_id":"{place}"}}'.encode() for place in range(50)]
    large = b'{"message":"' + b"x" * 9_500_000 + b'"}'
    pattern = objects(tmp_path / "raw", orders=[*lines, large], refuse=lines[:2])
    faults.write_text("unavailable\nlost\n\nunavailable\n")
    letters = tmp_path / "letters"
    done = run(pattern, *cloud.flags()[2:], "--dead-letters", str(letters))
    assert done.returncode == 0, done.stderr[-3000:]
    found = cloud.rows("SELECT source, COUNT(*) FROM `{}.logs` WHERE event_time > '2000-01-01' GROUP BY source")
    assert found == [("orders", 50)]
    sql = (
        "SELECT stage, reason, error, attempt, code_version FROM `{}.dead_letters` WHERE receive_time > '2000-01-01' ORDER BY error"
    )
    stored = cloud.rows(sql)
    refused = [row for row in stored if row[0] == "bigquery"]
    of_range = [row for row in refused if "range" in row[2]]
    assert [row[2] for row in of_range] == ["table logs: a value is out of range"] * 2 and all(1 <= row[3] <= 6 for row in of_range)
    assert {row[4] for row in stored} == {run_version()}
    assert [row[3] for row in stored if row[0] == "parse"] in ([1], [])
    told = [json.loads(line[line.index("{") :]) for line in done.stderr.splitlines() if '"event": "' in line]
    summaries = {(one["stage"], one["reason"]) for one in told if one["event"] == "dead_letters"}
    assert summaries == {("parse", "record_too_large"), ("bigquery", "row_refused")}
    retries = [(one["sink"], one["attempt"]) for one in told if one["event"] == "retry"]
    assert ("bigquery", 1) in retries, "the answer that was lost"
    # The record is too large for a row, and its dead letter too large for a request.
    assert [row[1] for row in refused if "more than a request may have" in row[2]] == ["row_refused"]
    kept = [json.loads(line) for file in letters.rglob("*.ndjson") for line in file.read_text().splitlines()]
    assert {(one["stage"], one["reason"]) for one in kept} >= {("bigquery", "row_refused"), ("parse", "record_too_large")}
    assert {one["code_version"] for one in kept} == {run_version()}
    rows = [json.loads(base64.b64decode(one["payload"])) for one in kept if "range" in one["error"]]
    assert sorted(row["insert_id"] for row in rows) == ["0", "1"] and {row["source"] for row in rows} == {"refuse"}


def test_beams_own_sink_stores_the_same_rows(cloud: Cloud, tmp_path: Path):
    lines = generated(60, "--late", "0", start=NOW.strftime("%Y-%m-%dT%H:%M:%SZ")).splitlines()
    pattern = objects(tmp_path / "raw", orders=lines, large=[b'{"message":"' + b"x" * 9_500_000 + b'"}'])
    sink = ["--bigquery-sink", "streaming-inserts", "--bigquery-endpoint", cloud.bigquery.address]
    done = run(pattern, *cloud.flags()[2:6], *sink)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = sawlog.Transformer().transform(pq.read_table(tmp_path / "raw/raw.parquet").combine_chunks().to_batches()[0])
    names = ["service", "message", "severity_class", "duration_us", "event_time", "insert_id"]
    stored = cloud.rows(f"SELECT {', '.join(names)} FROM `{{}}.logs` WHERE event_time > '2000-01-01'")
    expected = rows["logs"].select(names).to_pylist()
    times = [row["event_time"].timestamp() for row in expected]
    assert Counter(row[:4] for row in stored) == Counter(tuple(row[name] for name in names[:4]) for row in expected)
    assert sorted(row[4].timestamp() for row in stored) == sorted(times) and len(times) > 20
    sql = "SELECT TO_JSON_STRING(attributes) FROM `{}.logs` WHERE event_time > '2000-01-01' AND attributes IS NOT NULL"
    attributes = [dict(row) for row in rows["logs"]["attributes"].to_pylist() if row]
    assert sorted(row[0] for row in cloud.rows(sql)) == sorted(
        json.dumps(one, separators=(",", ":"), sort_keys=True) for one in attributes
    )
    assert cloud.rows("SELECT COUNT(*) FROM `{}.pane_requests` WHERE window_start > '2000-01-01'")[0][0] > 10
    # The record is too large, and so is its dead letter.
    letters = cloud.rows("SELECT stage, reason, error FROM `{}.dead_letters` WHERE receive_time > '2000-01-01'")
    assert [row[:2] for row in letters] == [("bigquery", "row_refused")] and "exceeds the maximum" in letters[0][2]


def test_rows_are_those_of_beams_sink_in_java(tmp_path: Path):
    """What Java takes: rows of a schema without types that Beam has none for. The service itself is not at hand."""
    pattern = objects(tmp_path / "raw", orders=generated(60).splitlines())
    raw = pq.read_table(pattern.replace("*", "raw")).combine_chunks().to_batches()[0]
    found = sawlog.Transformer().transform(raw)
    for table in ("logs", "metrics", "activity", "sawlog_ledger"):
        columns = {"fields": columns_of(table)}
        rows = [row.value for row in ToDicts(EXACTLY_ONCE).process(TableRows(table, found[table]))]
        coder = coders.registry.get_coder(RowTypeConstraint.from_fields(get_beam_typehints_from_tableschema(columns, TEXTS)))
        assert len(rows) == len(found[table]) > 0
        for row in rows:
            given = beam_row_from_dict(dict(row), columns).as_dict()
            assert given == {column["name"]: row.get(column["name"]) for column in columns["fields"]}
            back = coder.decode(coder.encode(beam.Row(**given)))._asdict()
            assert {name: value or None for name, value in back.items()} == {name: value or None for name, value in given.items()}


def test_cells_are_written_over_failures_of_bigtable(cloud: Cloud, tmp_path: Path):
    lines = generated(300, "--late", "0", start=NOW.strftime("%Y-%m-%dT%H:%M:%SZ")).splitlines()
    pattern = objects(tmp_path / "raw", orders=lines)
    cloud.fail_bigtable(method="MutateRows", when="before", code="UNAVAILABLE", times=2)
    done = run(pattern, *cloud.flags()[2:])
    assert done.returncode == 0, done.stderr[-3000:]
    raw = pq.read_table(tmp_path / "raw/raw.parquet").combine_chunks().to_batches()[0]
    expected = {cell["key"] for cell in sawlog.Rollups().cells(sawlog.Transformer().transform(raw)).to_pylist()}
    found = cloud.cells("rollup_1h")
    assert len(found) == len(expected) > 20 and all(any(row.startswith(key) for key in expected) for row in found)


def test_a_reader_shows_the_timelines_of_users(cloud: Cloud, tmp_path: Path):
    """All entries of the busiest users, page by page, as the binary answers before what the pipeline has written."""
    lines = generated(2_000, "--late", "0", start=NOW.strftime("%Y-%m-%dT%H:%M:%SZ")).splitlines()
    pattern = objects(tmp_path / "raw", orders=lines)
    done = run(pattern, *cloud.flags()[2:])
    assert done.returncode == 0, done.stderr[-3000:]
    rows = sawlog.Transformer().transform(pq.read_table(tmp_path / "raw/raw.parquet").combine_chunks().to_batches()[0])
    expected: dict[str, list[tuple[str, int, str]]] = {}
    for table in ("logs", "activity"):
        for row in rows[table].select(["user_id", "batch_id", "record_index"]).to_pylist():
            expected.setdefault(row["user_id"], []).append((row["batch_id"], row["record_index"], table))
    del expected[None]
    busiest = sorted(expected, key=lambda user: -len(expected[user]))[:5]
    assert len(expected[busiest[0]]) > 10
    with cloud.reader(tmp_path / "reader") as url:
        for user in busiest:
            found, query = [], "?limit=7"
            while query:
                page = json.load(urlopen(f"{url}/v1/users/{quote(user, safe='')}/timeline{query}", timeout=30))
                found += [(entry["batch_id"], entry["record_index"], entry["table"]) for entry in page["entries"]]
                query = page["next"] and f"?limit=7&cursor={page['next']}"
                assert page["profile"] is None and page["omitted_count"] == 0
            assert sorted(found) == sorted(expected[user])


def test_a_service_that_stays_away_fails_the_job_with_its_reason(tmp_path: Path):
    pattern = objects(tmp_path / "raw", orders=[b'{"message":"a"}'])
    flags = ("--bigtable", "sawlog-test/instance/sawlog", "--bigtable-endpoint", "127.0.0.1:1")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PAUSES, "--input", pattern, *flags],
        capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[1], check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "Bigtable" in done.stderr, done.stderr[-2000:]
    assert '"event": "retry", "sink": "bigtable"' in done.stderr, done.stderr[-2000:]


# As the command, without the pauses between attempts.
WITHOUT_PAUSES = """
import sys
from sawlog.beam import __main__
from sawlog.beam.sinks import bigtable
bigtable.ATTEMPTS, bigtable.SECONDS_MAX = 2, 1
sys.exit(__main__.main())
"""


def test_too_many_dead_letters_fail_the_job_with_the_first_reason(tmp_path: Path):
    pattern = objects(tmp_path / "raw", orders=[b"{broken"] * 1_500 + [b'{"message":"a"}'] * 500)
    done = run(pattern, "--output", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "1500 of 2000 records became dead letters, more than --dead-letters-max allows" in done.stderr
    assert "json_syntax: the record is not valid JSON" in done.stderr
    assert run(pattern, "--output", str(tmp_path / "out"), "--dead-letters-max", "1").returncode == 0


def test_rules_and_their_files_are_those_of_the_settings(tmp_path: Path):
    (tmp_path / "users.csv").write_text("user_id,user_segment,country\nu1,gold,DE\n")
    settings = tmp_path / "sawlog.toml"
    settings.write_text(
        f'[[rules.users]]\nname = "crm"\nfile = "{tmp_path / "users.csv"}"\n'
        '[[rules.filter]]\nname = "health"\nwhere = [{ field = "http_path", equals = "/health" }]\n'
    )
    data = [b'{"message":"a","user_id":"u1"}', b'{"message":"b","path":"/health"}']
    done = run(objects(tmp_path / "raw", orders=data), "--output", str(tmp_path / "out"), "--settings", str(settings))
    assert done.returncode == 0, done.stderr[-2000:]
    (rows,) = [pq.read_table(file).to_pylist() for file in (tmp_path / "out/logs").glob("*.parquet")]
    assert [(row["message"], row["user_segment"], row["country"]) for row in rows] == [("a", "gold", "DE")]
    counts = [row for file in (tmp_path / "out/sawlog_ledger").glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    assert [(row["received"], row["stored"], row["filtered"]) for row in counts] == [(2, 1, 1)]
    settings.write_text('[[rules.users]]\nname = "crm"\nfile = "users.csv"\n')
    done = run(str(tmp_path / "raw/*.parquet"), "--output", str(tmp_path / "out"), "--settings", str(settings))
    assert done.returncode == 2 and "[rules]: the file users.csv cannot be read" in done.stderr, done.stderr[-500:]


def test_a_worker_takes_a_changed_file_of_the_rules_and_keeps_the_old_one_when_the_new_is_wrong(tmp_path: Path, caplog):
    caplog.set_level(logging.INFO, "sawlog")
    users = tmp_path / "users.csv"
    users.write_text("user_id,user_segment,country\nu1,gold,DE\n")
    settings = sawlog.Settings.parse(f'[[rules.users]]\nname = "crm"\nfile = "{users}"\n')
    raw = pq.read_table(objects(tmp_path / "raw", orders=[b'{"message":"a","user_id":"u1"}']).replace("*", "raw"))
    worker = Transform(settings, 1.0, refresh=0)
    worker.setup()

    def segments() -> list[str]:
        made = [one for one in worker.process(raw.to_batches()[0]) if isinstance(one, TableRows)]
        return made[0].rows["user_segment"].to_pylist()

    assert segments() == ["gold"]
    users.write_text("user_id,user_segment,country\nu1,silver,DE\n")
    assert segments() == ["silver"]
    users.write_text("nonsense")
    assert segments() == ["silver"]
    users.unlink()
    assert segments() == ["silver"]
    told = [json.loads(record.getMessage()) for record in caplog.records]
    assert [one["event"] for one in told] == ["rules_changed", "rules_kept", "rules_kept"]
    assert str(users) in told[2]["error"] and told[2]["rules_version"] == told[0]["rules_version"]


def test_dead_letters_are_told_at_once_and_then_a_minute_later(caplog, monkeypatch):
    now = 0.0
    monkeypatch.setattr("sawlog.beam.logs.time.monotonic", lambda: now)
    summary = DeadLetterSummary()

    def told() -> list[dict[str, object]]:
        summary.tell()
        found = [json.loads(record.getMessage()) for record in caplog.records]
        caplog.clear()
        return found

    summary.add("parse", "json_syntax", "first")
    summary.add("parse", "json_syntax", "second")
    letters = {"event": "dead_letters", "stage": "parse", "reason": "json_syntax"}
    assert told() == [letters | {"count": 2, "error": "first"}]
    summary.add("parse", "json_syntax", "third")
    now = 59.0
    assert told() == []
    now = 60.0
    assert told() == [letters | {"count": 1, "error": "third"}] and told() == []
    summary.add("parse", "json_syntax", "last")
    assert told() == []
    summary.tell(is_last=True)
    assert [json.loads(record.getMessage()) for record in caplog.records] == [letters | {"count": 1, "error": "last"}]


def test_the_raw_copy_is_that_of_the_embedded_lake(tmp_path: Path):
    pattern = objects(tmp_path / "raw", orders=[b'{"message":"a"}\n{"message":"b"}', b"text"])
    lake = tmp_path / "lake"
    assert run(pattern, "--lake", str(lake)).returncode == 0
    (copy,) = lake.glob(f"raw/receive_date={NOW:%Y-%m-%d}/receive_hour={NOW:%H}/*.parquet")
    before = pq.read_table(tmp_path / "raw/raw.parquet").to_pylist()
    assert pq.ParquetFile(copy).read().to_pylist() == before
    assert run(pattern, "--lake", str(lake)).returncode == 0
    assert len(list(lake.rglob("*.parquet"))) == 1, "a repeat meets its own object"
