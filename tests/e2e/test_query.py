"""SQL: what is allowed, what is refused, formats, views."""

import csv
import io
import json
from pathlib import Path

import pyarrow.ipc

from conftest import Server, sawlog


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


def test_an_answer_that_is_cut_off_says_so_in_every_form(data: Path):
    server = Server(data, "query.rows-max=3", "query.answer-max=32KiB", "host-metrics.enabled=false").start()
    lines = [json.dumps({"message": str(index) * 20_000}) for index in range(10)]
    server.events("\n".join(lines))
    forms = ("application/json", "application/x-ndjson", "text/csv", "application/vnd.apache.arrow.stream")
    for sql, limit in {"SELECT event_time FROM logs": "rows", "SELECT message FROM logs LIMIT 3": "bytes", "SELECT 1": None}.items():
        for form in forms:
            status, body, headers = server.post("/v1/sql", sql, {"Content-Type": "text/plain", "Accept": form})
            assert (status, headers.get("x-sawlog-cut-by")) == (200, limit), (sql, form)
        answer = json.loads(server.post("/v1/sql", sql, {"Content-Type": "text/plain"})[1])
        assert (answer["truncated"], answer["cut_by"]) == (limit is not None, limit)
        told = sawlog("query", sql, "--url", server.url, "--format", "csv").stderr.decode()
        assert (f"limit of {limit}" in told) == (limit is not None), told
    page = json.loads(server.post("/v1/search", json.dumps({"limit": 3, "columns": ["message"]}))[1])
    assert page["next"] and 0 < len(page["rows"]) < 4, "a page that is too large goes on on the next"
    server.stop()


def test_queries_spill_no_more_than_they_may(data: Path):
    settings = ("query.memory-max=24MiB", "query.spill-max=1MiB", "host-metrics.enabled=false")
    server = Server(data, *settings).start()
    rows = "SELECT value || repeat('x', 200) AS v FROM generate_series(1, 600000)"
    sort = f"SELECT max(r) FROM (SELECT row_number() OVER (ORDER BY v) AS r FROM ({rows}))"
    status, answer, _ = server.post("/v1/sql", sort, {"Content-Type": "text/plain"})
    assert (status, json.loads(answer)["error"]["code"]) == (422, "sql_memory"), answer
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


def test_the_command_prints_tables_json_ndjson_and_csv_with_and_without_a_server(server: Server):
    server.events("\n".join(json.dumps({"message": message, "service": "a,b"}) for message in ["=1+1", 'say "hi"']))
    sql = "SELECT service, message, http_status AS nothing, 1.5 AS number FROM logs ORDER BY message"

    def answer(form: str, *target: str) -> str:
        done = sawlog("query", sql, "--format", form, *target)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def check(*target: str):
        names = ["service", "message", "nothing", "number"]
        rows = [["a,b", "=1+1", None, 1.5], ["a,b", 'say "hi"', None, 1.5]]
        found = json.loads(answer("json", *target))
        assert found["rows"] == rows and [column["name"] for column in found["columns"]] == names, found
        objects = [json.loads(line) for line in answer("ndjson", *target).splitlines()]
        assert [[row.get(name) for name in names] for row in objects] == rows
        assert list(csv.reader(io.StringIO(answer("csv", *target)))) == [names, ["a,b", "'=1+1", "", "1.5"], ["a,b", 'say "hi"', "", "1.5"]]
        table = answer("table", *target)
        assert "| service | message  | nothing | number |" in table and '| a,b     | say "hi" |         | 1.5    |' in table, table

    check("--url", server.url)
    refused = sawlog("query", "DROP TABLE logs", "--url", server.url)
    assert refused.returncode == 1 and b"only SELECT" in refused.stderr and not refused.stdout
    server.stop()
    check("--data", str(server.data))
    assert sawlog("query", "SELECT nope FROM logs", "--data", str(server.data)).returncode == 1
    assert sawlog("query", "SELECT 1", "--format", "xml").returncode == 2


def test_tables_views_and_rollups_agree(server: Server):
    lines = [{"service": "a", "level": level, "path": f"/u/{n}", "duration_ms": n} for n, level in enumerate(["error", "info", "info"])]
    server.events("\n".join(map(json.dumps, lines)))
    assert server.sql("SELECT (SELECT count(*) FROM logs_error) AS e, (SELECT count(*) FROM logs_info) AS i") == [[1, 2]]
    rollup = "SELECT sum(count), sum(error_count), sketch_quantile(sketch_merge(latency), 1.0) FROM rollup_requests_1m"
    count, errors, slowest = server.sql(rollup)[0]
    assert (count, errors) == (3, 1) and abs(slowest - 2000) < 20
    assert server.sql("SELECT DISTINCT http_route FROM logs") == [["/u/{id}"]]
    assert server.sql("SELECT attributes['x'] FROM logs LIMIT 1") == [[None]]
    assert server.sql("SELECT NULL AS nothing") == [[None]]
    names = {row[2] for row in server.sql("SHOW TABLES")}
    assert {"logs", "metrics", "activity", "dead_letters", "sawlog_ledger", "logs_error", "rollup_metrics_1m"} <= names
