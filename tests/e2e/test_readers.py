"""Other programs on what Sawlog stores: Delta readers on the tables, Parquet readers on the lake."""

import json

import duckdb
import pyarrow.dataset
from deltalake import DeltaTable

from conftest import Server


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
