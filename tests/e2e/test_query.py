"""SQL: what is allowed, what is refused, formats, views."""

import io
import json
from pathlib import Path

import pyarrow.ipc

from conftest import Server


def error(server: Server, sql: str) -> tuple[int, str]:
    status, body, _ = server.post("/v1/sql", json.dumps({"query": sql}), {"Content-Type": "application/json"})
    return status, json.loads(body).get("error", {}).get("code", "")


def test_only_reading_statements_run(server: Server):
    refused = [
        "DROP TABLE logs",
        "INSERT INTO logs SELECT * FROM logs",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "COPY logs TO '/tmp/x.parquet'",
        "SET datafusion.execution.batch_size = 1",
        "SELECT 1; SELECT 2",
    ]
    for sql in refused:
        assert error(server, sql)[0] == 400, sql
    for sql in ["SELECT * FROM '/etc/passwd'", "SELECT * FROM \"file:///etc/passwd\"", "SELECT * FROM read_csv('/etc/passwd')"]:
        assert error(server, sql)[0] == 400, sql


def test_a_query_that_would_exhaust_the_server_is_stopped(data: Path):
    server = Server(data, "host-metrics.enabled=false", "query.time-max=3s").start()
    for sql in [
        "SELECT " + "1+" * 2_000 + "1",
        "SELECT 1 WHERE " + "1=1 OR " * 9_000 + "true",
        "SELECT " + "(" * 10_000 + "1" + ")" * 10_000,
        "SELECT '" + "x" * 100_000 + "'",
    ]:
        assert error(server, sql) == (400, "sql_too_complex")
    status, code = error(server, "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b, generate_series(1,1000) c")
    assert (status, code) in [(408, "sql_timeout"), (422, "sql_memory")], (status, code)
    assert server.value("SELECT 1") == 1
    server.stop()


def test_answers_come_as_json_ndjson_csv_and_arrow(server: Server):
    server.events(json.dumps({"message": "=1+1", "service": "a,b", "labels": {"team": "x"}}))
    sql = "SELECT service, message, attributes FROM logs"
    assert server.sql(sql) == [["a,b", "=1+1", {"team": "x"}]]
    answer = lambda accept: server.post("/v1/sql", sql, {"Accept": accept, "Content-Type": "text/plain"})[1]
    assert json.loads(answer("application/x-ndjson")) == {"service": "a,b", "message": "=1+1", "attributes": {"team": "x"}}
    assert answer("text/csv").decode().splitlines()[1] == "\"a,b\",'=1+1,\"{\"\"team\"\":\"\"x\"\"}\""
    table = pyarrow.ipc.open_stream(io.BytesIO(answer("application/vnd.apache.arrow.stream"))).read_all()
    assert table.to_pylist() == [{"service": "a,b", "message": "=1+1", "attributes": [("team", "x")]}]


def test_tables_views_and_rollups_agree(server: Server):
    lines = [{"service": "a", "level": level, "path": f"/u/{n}", "duration_ms": n} for n, level in enumerate(["error", "info", "info"])]
    server.events("\n".join(map(json.dumps, lines)))
    assert server.sql("SELECT (SELECT count(*) FROM logs_error) AS e, (SELECT count(*) FROM logs_info) AS i") == [[1, 2]]
    rollup = "SELECT sum(count), sum(error_count), sketch_quantile(sketch_merge(latency), 1.0) FROM rollup_requests_1m"
    count, errors, slowest = server.sql(rollup)[0]
    assert (count, errors) == (3, 1) and abs(slowest - 2000) < 20
    assert server.sql("SELECT DISTINCT http_route FROM logs") == [["/u/{id}"]]
    assert server.sql("SELECT attributes['x'] FROM logs LIMIT 1") == [[None]]
    names = {row[2] for row in server.sql("SHOW TABLES")}
    assert {"logs", "metrics", "activity", "dead_letters", "sawlog_ledger", "logs_error", "rollup_metrics_1m"} <= names
