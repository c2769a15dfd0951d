"""One peer loading one file: its own process, so that its CPU and memory can be told apart.

usage: peer.py chdb|chdb-synced|duckdb FILE TARGET
"""

import sys

COLUMNS = """
    timestamp DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    severity LowCardinality(String) CODEC(ZSTD(1)),
    message String CODEC(ZSTD(1)),
    service LowCardinality(String) CODEC(ZSTD(1)),
    environment LowCardinality(String) CODEC(ZSTD(1)),
    region LowCardinality(String) CODEC(ZSTD(1)),
    host LowCardinality(String) CODEC(ZSTD(1)),
    version LowCardinality(String) CODEC(ZSTD(1)),
    logger LowCardinality(String) CODEC(ZSTD(1)),
    insert_id String CODEC(ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    user_id String CODEC(ZSTD(1)),
    http Tuple(method LowCardinality(String), path String, status UInt16, client_ip String, user_agent String,
        request_bytes UInt32, response_bytes UInt32, referrer String) CODEC(ZSTD(1)),
    duration_ms Float64 CODEC(ZSTD(1)),
    attempt Nullable(UInt32) CODEC(ZSTD(1)),
    cache_hit Nullable(Bool) CODEC(ZSTD(1)),
    labels Map(LowCardinality(String), String) CODEC(ZSTD(1))
"""
TABLE = f"CREATE TABLE logs ({COLUMNS}) ENGINE = MergeTree PARTITION BY toDate(timestamp) ORDER BY (service, severity, timestamp)"
INPUT = "input_format_skip_unknown_fields=1, date_time_input_format='best_effort', input_format_null_as_default=1"


def chdb(source: str, target: str) -> None:
    from chdb import session

    database = session.Session(target)
    database.query("CREATE DATABASE bench ENGINE = Atomic")
    database.query(TABLE.replace("TABLE logs", "TABLE bench.logs"))
    structure = COLUMNS.replace(" CODEC(ZSTD(1))", "").replace(" CODEC(Delta, ZSTD(1))", "").replace("'", "\\'")
    database.query(f"INSERT INTO bench.logs SELECT * FROM file('{source}', 'JSONEachRow', '{structure}') SETTINGS {INPUT}")
    print(database.query("SELECT count() FROM bench.logs"), file=sys.stderr)
    database.close()


def chdb_synced(source: str, target: str) -> None:
    from chdb import session

    database = session.Session(target)
    database.query("CREATE DATABASE bench ENGINE = Atomic")
    database.query(TABLE.replace("TABLE logs", "TABLE bench.logs") + " SETTINGS fsync_after_insert=1, fsync_part_directory=1")
    lines = open(source, encoding="utf-8").read().splitlines()
    for start in range(0, len(lines), 10_000):
        rows = "\n".join(lines[start : start + 10_000])
        database.query(f"INSERT INTO bench.logs SETTINGS {INPUT} FORMAT JSONEachRow {rows}")
    print(database.query("SELECT count() FROM bench.logs"), file=sys.stderr)
    database.close()


def duckdb(source: str, target: str) -> None:
    import os

    import duckdb as engine

    os.makedirs(target)
    database = engine.connect(f"{target}/logs.db")
    database.execute(f"CREATE TABLE logs AS SELECT * FROM read_ndjson('{source}')")
    database.execute("CHECKPOINT")
    print(database.execute("SELECT count(*) FROM logs").fetchall(), file=sys.stderr)
    database.close()


if __name__ == "__main__":
    {"chdb": chdb, "chdb-synced": chdb_synced, "duckdb": duckdb}[sys.argv[1]](*sys.argv[2:])
