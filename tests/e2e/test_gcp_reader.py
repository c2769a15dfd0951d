"""A reader before BigQuery and Bigtable, and queries of BigQuery from the command line, on doubles, by the real binary.

The double of BigQuery stands still when rows are appended while others query: workers are stopped before anybody reads.
"""

import csv
import io
import json
import os
import random
import shutil
import signal
import time
import urllib.parse
from pathlib import Path

import pytest

from conftest import Server, sawlog, wait_for
from google_doubles import PROJECT, BigQueryDouble, BigtableDouble
from test_page import look

WORKER = ("host-metrics.enabled=false", "pipeline.flush-interval=1s", "lake.enabled=false")
READER = ("query.time-max=30s", "query.rows-max=100000")
# Tables in the order in which both answer.
RAW = "ORDER BY batch_id, record_index"
# What a worker and a reader of what it wrote answer alike. Windows become complete and sessions end by themselves, so that
# their states are left out.
QUERIES = [
    "SELECT count(*) FROM logs",
    "SELECT count(*), min(event_time), max(event_time) FROM logs WHERE event_time > now() - interval '1 day'",
    "SELECT count(*) FROM logs WHERE event_time < '2020-01-01'",
    f"SELECT * FROM logs {RAW}",
    f"SELECT * FROM metrics {RAW}",
    f"SELECT * FROM activity {RAW}",
    f"SELECT * FROM dead_letters {RAW}",
    "SELECT message FROM logs WHERE message ILIKE '%ORDER 1%' AND service = 'shop' ORDER BY event_time DESC, message LIMIT 7",
    "SELECT service, severity_class, count(*), avg(duration_us) FROM logs GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT attributes['team'] AS team, count(*) FROM logs GROUP BY 1 ORDER BY 1",
    "SELECT count(*) FROM logs WHERE attributes['team'] = 'a' AND http_status IN (200, 500) AND user_id IS NOT NULL",
    "SELECT count(*) FROM logs_error",
    "SELECT l.service, count(*) FROM logs l JOIN activity a ON l.user_id = a.user_id GROUP BY 1 ORDER BY 1",
    "SELECT event_date, count(DISTINCT user_id) FROM logs GROUP BY 1 ORDER BY 1",
    "SELECT count(*) FROM search('logs', 'service:shop -http_status:200 order')",
    "SELECT source, sum(received), sum(stored), sum(duplicate), sum(dead_lettered) FROM sawlog_ledger GROUP BY 1 ORDER BY 1",
    "SELECT window_start, service, http_route, \"count\", error_count, duration_p50_us, duration_p99_us FROM rollup_requests_1m ORDER BY 1, 2, 3",
    "SELECT service, sum(\"count\"), sum(request_count) FROM rollup_requests_10s GROUP BY 1 ORDER BY 1",
    "SELECT sum(\"count\") FROM rollup_activity_1h",
    "SELECT dimension, \"value\", sum(\"count\") FROM rollup_top_1h GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT user_id, session_start, session_end, event_count, path FROM sessions ORDER BY 1, 2",
    "SELECT service, service_version FROM deploys ORDER BY 1, 2",
    "SELECT sketch_quantile(sketch_merge(latency), 0.5) FROM rollup_requests_1m WHERE service = 'shop'",
]
USER = "u 1/ü"
APIS = [
    "/v1/fields?table=logs&filter=service:shop&from=-1d",
    f"/v1/users/{urllib.parse.quote(USER, safe='')}/timeline?limit=20",
    "/v1/deploys?from=-2d",
]


class Cloud:
    """Doubles of BigQuery and Bigtable, and configurations of processes that use them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.bigquery, self.bigtable = BigQueryDouble(), BigtableDouble()

    def config(self, name: str, role: str = "", bigtable: bool = True, more: str = "") -> Path:
        path = self.folder / f"{name}.toml"
        text = (
            f'[gcp]\nproject = "{PROJECT}"\n{role}\n'
            f'[gcp.bigquery]\ndataset = "sawlog"\nendpoint = "{self.bigquery.url}"\n'
            f'storage-endpoint = "http://{self.bigquery.storage}"\n{more}\n'
        )
        if bigtable:
            text += f'[gcp.bigtable]\ninstance = "{self.bigtable.instance}"\nendpoint = "{self.bigtable.url}"\n'
        path.write_text(text)
        return path

    def reader(self, folder: Path, *settings: str, **config) -> Server:
        return Server(folder, *READER, *settings, config=self.config("reader", 'role = "reader"', **config))

    def stop(self) -> None:
        self.bigquery.stop()
        self.bigtable.kill()


@pytest.fixture
def cloud(tmp_path: Path):
    running = Cloud(tmp_path)
    yield running
    running.stop()


def events(count: int, seed: int) -> bytes:
    """Logs, activity and metrics of the last hour and a half, some broken, repeated, or of other shapes."""
    chance = random.Random(seed)
    start = time.time() - 5_400
    lines = []
    for number in range(count):
        when = start + number * 5_300 / count
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when)) + f".{chance.randrange(1_000_000):06}Z"
        event = {
            "timestamp": stamp, "severity": chance.choice(["INFO", "INFO", "ERROR"]), "message": f"order {number} it's \"ok\" \\ ☃\n{number}",
            "service": chance.choice(["shop", "pay"]), "version": "1" if number < count // 2 else "2",
            "http_status": chance.choice([200, 404, 500]), "duration_ms": chance.randrange(1, 900), "http_route": "/orders/{id}",
            "user_id": chance.choice([USER, "u2", "u3", None]), "team": chance.choice(["a", "b c", ""]), "nested": {"deep": [1, {"x": "ü"}]},
            "insert_id": f"id-{number % (count - 3)}",
        }
        kind = chance.random()
        if kind < 0.02:
            lines.append('{"broken')
        elif kind < 0.2:
            lines.append(json.dumps({"timestamp": stamp, "event_name": chance.choice(["view", "buy"]), "user_id": chance.choice([USER, "u2"])}))
        elif kind < 0.25:
            lines.append(json.dumps({"timestamp": stamp, "metric": "queue.depth", "value": number / 7, "host": "h1"}))
        else:
            lines.append(json.dumps({name: value for name, value in event.items() if value is not None}))
    deploy = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start + 60))
    lines.append(json.dumps({"timestamp": deploy, "event": "deploy", "service": "shop", "version": "7", "message": "faster"}))
    return "".join(f"{line}\n" for line in lines).encode()


def filled(data: Path, cloud: Cloud, count: int = 400) -> dict[str, list]:
    """What a worker answers to the queries, all of whose rows are in the services when it has stopped."""
    worker = Server(data, *WORKER, "query.rows-max=100000", config=cloud.config("worker")).start()
    try:
        assert worker.events(events(count, seed=3))["received"] > count
        answers = {query: worker.sql(query) for query in QUERIES}
        answers |= {path: api(worker, path) for path in APIS}
        answers["search"] = found(worker)
    finally:
        worker.stop()
    return answers


def api(server: Server, path: str) -> dict:
    status, answer, _ = server.get(path)
    assert status == 200, answer
    document = json.loads(answer)
    # The letters of types are in another order in BigQuery.
    document["fields"] = [field for field in document.get("fields", []) if not field["name"].endswith("_types")]
    # Sessions end and windows become complete while nobody looks.
    for session in document.get("sessions", []):
        session.pop("is_open")
    return document


def found(server: Server) -> list[dict]:
    """All pages of a search."""
    rows, cursor = [], None
    while True:
        asked = {"filter": "service:shop AND order AND NOT http_status:404", "from": "-1d", "limit": 40, "cursor": cursor}
        status, answer, _ = server.post("/v1/search", json.dumps(asked), {"Content-Type": "application/json"})
        assert status == 200, answer
        page = json.loads(answer)
        rows += page["rows"]
        cursor = page["next"]
        if cursor is None:
            return rows


def any_order(rows: list[list]) -> list[list]:
    """Rows with the letters of types in one order: that of the maps before them is by keys in BigQuery. That each letter stands
    for its value is seen in /v1/fields."""
    for row in rows:
        for place, value in enumerate(row):
            if isinstance(value, dict) and isinstance(row[place + 1], str):
                row[place + 1] = sorted(row[place + 1])
    return rows


def failure(server: Server, sql: str) -> tuple[int, dict]:
    status, answer, _ = server.post("/v1/sql", json.dumps({"query": sql}), {"Content-Type": "application/json"})
    return status, json.loads(answer).get("error", {})


def test_a_reader_answers_what_the_worker_did_and_takes_nothing(data: Path, cloud: Cloud, tmp_path: Path):
    expected = filled(data, cloud)
    assert len(expected["search"]) > 80 and len(expected[f"SELECT * FROM logs {RAW}"]) > 200
    reader = cloud.reader(tmp_path / "reader").start()
    try:
        for query in QUERIES:
            assert any_order(reader.sql(query)) == any_order(expected[query]), query
        for path in APIS:
            assert api(reader, path) == expected[path], path
        assert any_order(found(reader)) == any_order(expected["search"])
        assert not any((tmp_path / "reader" / name).exists() for name in ("wal", "tables", "serving", "lake"))
        refusals = [("/v1/events", '{"message":"hello"}'), ("/_bulk", '{"index":{}}\n{"message":"hello"}\n')]
        for path, body in refusals:
            status, answer, _ = reader.post(path, body, {"Content-Type": "application/json"})
            assert status == 501 and b"this server is a reader" in answer, answer
        for path in ("/v1/tail", "/v1/alerts"):
            status, answer, _ = reader.get(path)
            assert status == 501 and json.loads(answer)["error"]["code"] == "reader_only", answer
        metrics = reader.get("/metrics")[1].decode()
        for call in ('service="bigquery",call="InsertJob",outcome="OK"', 'service="bigtable",call="ReadRows",outcome="OK"'):
            assert call in metrics, metrics
    finally:
        reader.stop()


def test_a_reader_says_what_is_away_and_recovers(data: Path, cloud: Cloud, tmp_path: Path):
    filled(data, cloud, count=60)
    reader = cloud.reader(tmp_path / "reader", "query.time-max=3s").start()
    logs, rollup = "SELECT count(*) FROM logs", "SELECT count(*) FROM rollup_requests_1m"

    def is_back() -> bool:
        return reader.get("/readyz")[0] == 200 and failure(reader, logs)[0] == 200 and failure(reader, rollup)[0] == 200

    try:
        assert is_back()
        for double, name, query in ((cloud.bigquery, "BigQuery", logs), (cloud.bigtable, "Bigtable", rollup)):
            os.kill(double.process.pid, signal.SIGSTOP)
            status, error = failure(reader, query)
            assert status in (408, 503) or name in error["message"], (status, error)
            wait_for(lambda: name.encode() in reader.get("/readyz")[1], f"{name} is told to be away", 60)
            os.kill(double.process.pid, signal.SIGCONT)
            wait_for(is_back, f"{name} is back", 60)
        log = reader.log()
        assert log.count("a service has no answers") >= 2, log
    finally:
        reader.stop()


def test_a_reader_without_bigtable_says_what_lacks_it(data: Path, cloud: Cloud, tmp_path: Path):
    filled(data, cloud, count=60)
    more = 'query-bytes-max = "200KB"'
    reader = cloud.reader(tmp_path / "reader", bigtable=False, more=more).start()
    try:
        assert reader.value("SELECT count(*) FROM activity") > 0
        status, error = failure(reader, "SELECT count(*) FROM rollup_requests_1m")
        assert status == 400 and "no [gcp.bigtable]" in error["message"], error
        assert reader.value("SELECT count(*) FROM pane_requests_latest WHERE window_start > now() - interval '1 day'") >= 0
    finally:
        reader.stop()
    reader = cloud.reader(tmp_path / "reader", bigtable=False, more='query-bytes-max = "5KB"').start()
    try:
        status, error = failure(reader, "SELECT count(DISTINCT message) FROM logs")
        assert status == 422 and error["code"] == "warehouse_too_expensive" and "query-bytes-max" in error["hint"], error
    finally:
        reader.stop()


def test_a_configuration_of_a_reader_has_no_sources(cloud: Cloud, tmp_path: Path):
    config = cloud.config("reader", 'role = "reader"', more="[[tail]]\npaths = [\"/var/log/*.log\"]")
    done = sawlog("config", "check", "--config", str(config))
    assert done.returncode == 2 and b"[[tail]] is set" in done.stderr, done.stderr
    done = sawlog("query", "SELECT 1", "--config", str(cloud.config("reader", 'role = "reader"')), "--data", str(tmp_path / "r"))
    assert done.returncode == 1 and b"--engine bigquery" in done.stderr, done.stderr


def test_queries_of_bigquery_say_their_price_and_give_their_rows(data: Path, cloud: Cloud):
    expected = filled(data, cloud, count=60)
    config = str(cloud.config("worker", more="price-per-tib = 1_000_000"))

    def ask(sql: str, *arguments: str, code: int = 0) -> tuple[str, str]:
        done = sawlog("query", "--engine", "bigquery", sql, "--config", config, *arguments)
        assert done.returncode == code, done.stderr
        return done.stdout.decode(), done.stderr.decode()

    logs = expected["SELECT count(*) FROM logs"][0][0]
    sql = "SELECT service, COUNT(*) AS n, MAX(event_time) AS last FROM logs WHERE event_time > '2020-01-01' GROUP BY service ORDER BY service"
    out, told = ask(sql, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["service"] for row in rows] == sorted({"pay", "shop"}) and sum(int(row["n"]) for row in rows) == logs
    assert f"({logs * 1_000} B)" in told and "at $1000000 per TiB" in told and "not from the cache" in told, told
    assert "the answer was cached" in ask(sql)[1]
    assert "not from the cache" in ask(sql, "--no-cache")[1]
    out, told = ask(sql, "--dry-run")
    assert out == "" and f"({logs * 1_000} B)" in told
    _, told = ask(sql, "--bytes-max", "1KB", code=1)
    assert "the query would read" in told and "--bytes-max" in told
    _, told = ask("SELECT nothing FROM logs WHERE event_time > '2020-01-01'", code=1)
    assert "nothing" in told and "hint: " in told
    _, told = ask("DELETE FROM logs_rows WHERE TRUE", code=1)
    assert "only SELECT is run, and this is DELETE" in told
    assert json.loads(ask("SELECT 1 AS one", "--format", "json")[0])["rows"] == [[1]]


def test_the_page_of_a_reader_shows_data(data: Path, cloud: Cloud, tmp_path: Path):
    if not shutil.which("node"):
        pytest.fail("node is missing")
    filled(data, cloud)
    reader = cloud.reader(tmp_path / "reader").start()
    try:
        look("reader.spec.mjs", reader, "--timeout", "20")
    finally:
        reader.stop()
