"""Other programs on what Sawlog stores: Delta readers on the tables, Parquet readers on the lake."""

import json
import time
from pathlib import Path

import duckdb
import duckdb_extension_delta
import pyarrow.dataset
from deltalake import DeltaTable

from conftest import Server, sawlog


def test_delta_readers_open_the_tables_and_every_row_names_its_raw_record(server: Server):
    lines = [{"message": f"m{n}", "service": "a", "level": "error" if n % 3 else "info", "labels": {"n": n}} for n in range(100)]
    server.events("\n".join(map(json.dumps, lines)) + "\n{broken")
    server.stop()
    table = DeltaTable(str(server.data / "tables/logs"))
    logs = table.to_pyarrow_dataset()
    count, errors = duckdb.sql("SELECT count(*), count(*) FILTER (severity_class = 'error') FROM logs").fetchall()[0]
    assert (count, errors) == (100, 66)
    assert table.metadata().partition_columns == ["event_date"]
    lake = pyarrow.dataset.dataset(str(server.data / "lake/raw"), format="parquet", partitioning="hive")
    joined = duckdb.sql(
        "SELECT logs.message, decode(lake.payload) FROM logs JOIN lake USING (batch_id, record_index)"
    ).fetchall()
    assert len(joined) == 100
    assert all(json.loads(payload)["message"] == message for message, payload in joined)
    assert lake.count_rows() == 101
    ledger = DeltaTable(str(server.data / "tables/sawlog_ledger")).to_pyarrow_dataset()
    assert duckdb.sql("SELECT sum(received), sum(stored), sum(dead_lettered) FROM ledger").fetchall() == [(101, 100, 1)]


def duckdb_with_delta() -> duckdb.DuckDBPyConnection:
    """DuckDB with its own reader of Delta tables, from a file: nothing is looked for on the Internet."""
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    package = Path(duckdb_extension_delta.__file__).parent
    connection.execute(f"LOAD '{package}/extensions/v{duckdb.__version__}/delta.duckdb_extension'")
    return connection


def test_duckdb_scans_the_tables_as_they_grow_and_after_compaction(data: Path):
    settings = ("host-metrics.enabled=false", "compaction.enabled=false", "pipeline.flush-interval=100ms")
    server = Server(data, *settings).start()
    days = ["2026-10-01", "2026-10-02"]
    for batch in range(8):
        lines = [
            {"timestamp": f"{day}T10:00:00Z", "message": f"m{batch}-{n}", "service": f"s{n % 3}", "level": "error", "labels": {"n": n}}
            for day in days
            for n in range(10)
        ]
        lines += [{"metric": "load", "value": batch + 0.5}, {"event": "view", "user_id": f"u{batch}"}]
        server.events("\n".join(map(json.dumps, lines)) + "\n{broken")
        time.sleep(0.15)
    server.stop()
    connection = duckdb_with_delta()
    names = ["logs", "metrics", "activity", "dead_letters", "sawlog_ledger"]
    digest = "SELECT count(*), count(DISTINCT message), sum(severity_number), count(DISTINCT batch_id) FROM {}"
    times = f"SELECT epoch_us(min(event_time)), epoch_us(max(event_time)) FROM delta_scan('{data}/tables/logs')"

    def look() -> list:
        counts = [connection.execute(f"SELECT count(*) FROM delta_scan('{data}/tables/{name}')").fetchone()[0] for name in names]
        logs = connection.execute(digest.format(f"delta_scan('{data}/tables/logs')")).fetchone()
        return [*counts[:4], logs, connection.execute(times).fetchone()]

    before = look()
    assert before[:5] == [160, 8, 8, 8, (160, 80, 160 * 17, 8)]
    assert before[5][1] - before[5][0] == 86_400_000_000
    scan = f"delta_scan('{data}/tables/logs')"
    one_day = connection.execute(f"SELECT count(*) FROM {scan} WHERE event_date = '2026-10-02' AND service = 's1'").fetchone()
    assert one_day == (24,)
    assert connection.execute(f"SELECT DISTINCT attributes['n'] FROM {scan} WHERE message = 'm3-7'").fetchall() == [("7",)]
    files = len(list((data / "tables/logs").rglob("*.parquet")))
    done = sawlog("compact", "--json", "--data", str(data), "--set", "compaction.age-min=0s", "--set", "compaction.files-min=2",
                  "--set", "query.time-max=10ms", "--set", "compaction.grace=10ms")
    counts = json.loads(done.stdout)
    assert done.returncode == 0 and counts["files_in"] >= files > counts["files_out"] >= 2, (done, files)
    assert look() == before
    time.sleep(0.1)
    again = sawlog("compact", "--json", "--data", str(data), "--set", "query.time-max=10ms", "--set", "compaction.grace=10ms")
    assert again.returncode == 0 and len(list((data / "tables/logs").rglob("*.parquet"))) == 2, "replaced files are deleted"
    assert look() == before
    ours = sawlog("query", digest.format("logs"), "--data", str(data), "--format", "json")
    assert json.loads(ours.stdout)["rows"] == [list(before[4])], "Sawlog's own SQL sees the same"
