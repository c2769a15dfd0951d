"""The filter language through POST /v1/search, GET /v1/fields and `sawlog search`."""

import csv
import io
import json
import time
import urllib.parse
from pathlib import Path

import pytest

from conftest import Server, sawlog


def search(server: Server, text: str = "", **options) -> list[dict]:
    status, body, _ = server.post("/v1/search", json.dumps({"filter": text, **options}), {"Content-Type": "application/json"})
    assert status == 200, body
    answer = json.loads(body)
    names = [column["name"] for column in answer["columns"]]
    return [dict(zip(names, row)) for row in answer["rows"]]


def mistake(server: Server, **request) -> dict:
    status, body, _ = server.post("/v1/search", json.dumps(request), {"Content-Type": "application/json"})
    assert status == 400, body
    return json.loads(body)["error"]


def numbers(rows: list[dict]) -> list[int]:
    return sorted(int(row["attributes"]["n"]) for row in rows)


EVENTS = [
    {"n": 0, "service": "checkout", "level": "error", "message": "Payment TIMED out", "path": "/pay/1", "status": 503, "duration_ms": 700, "user_id": "x y"},
    {"n": 1, "service": "checkout", "level": "info", "message": "paid", "path": "/pay/2", "status": 200, "duration_ms": 20, "tenant": "red"},
    {"n": 2, "service": "web", "level": "warn", "message": "slow", "path": "/health", "status": 200, "duration_ms": 900, "retries": 12},
    {"n": 3, "service": "web", "level": "fatal", "message": "100% full", "tenant": "red", "retries": 9},
    {"n": 4, "message": "nothing else"},
]


@pytest.fixture
def filled(server: Server) -> Server:
    server.events("\n".join(map(json.dumps, EVENTS)))
    return server


def test_filters_find_what_they_say_in_memory_and_in_files(data: Path):
    server = Server(data, "host-metrics.enabled=false", "pipeline.flush-interval=100ms").start()
    server.events("\n".join(map(json.dumps, EVENTS)))
    cases = {
        "": [0, 1, 2, 3, 4],
        "timed": [0],
        "service:checkout severity>=error": [0],
        "severity>=warn": [0, 2, 3],
        "status:5*": [0],
        "http.status:[200 TO 299] -path:/health": [1],
        "-path:/health": [0, 1, 3, 4],
        "(paid OR slow) duration>100ms": [2],
        'user_id:"x y"': [0],
        "tenant:red": [1, 3],
        "retries>9": [2],
        "_exists_:retries NOT service:checkout": [2, 3],
        '"100%"': [3],
        "service:(checkout OR nope) level=info": [1],
        "nothing:here": [],
    }
    for _ in range(2):
        for text, expected in cases.items():
            assert numbers(search(server, text)) == expected, text
        deadline = time.monotonic() + 20
        while not list(Path(data).glob("tables/logs/**/*.parquet")) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert list(Path(data).glob("tables/logs/**/*.parquet")), "the rows are in files for the second round"
    server.stop()


def test_pages_neither_repeat_nor_skip(server: Server):
    lines = [{"n": n, "message": "x", "timestamp": "2026-03-01T10:00:00Z"} for n in range(95)]
    for start in range(0, 95, 19):
        server.events("\n".join(map(json.dumps, lines[start : start + 19])))
    for order in ("newest", "oldest"):
        seen, cursor = [], None
        for _ in range(20):
            request = {"filter": "message:x", "limit": 10, "order": order, "columns": ["n"], "cursor": cursor}
            answer = json.loads(server.post("/v1/search", json.dumps(request))[1])
            seen += [int(row[0]) for row in answer["rows"]]
            cursor = answer["next"]
            if not cursor:
                break
        assert sorted(seen) == list(range(95)), order


def test_times_bound_a_search(filled: Server):
    assert len(search(filled, "", **{"from": "-15m"})) == 5
    assert search(filled, "", **{"to": "-15m"}) == []
    assert len(search(filled, "time>-5m")) == 5
    assert mistake(filled, filter="", **{"from": "soon"})["message"].startswith("from:")


def test_a_mistake_has_a_place_and_a_remedy(filled: Server):
    for text, start in [("service: checkout", 8), ("a (b OR", 7), ("status:abc", 7), ("x severity>loud", 11), ('"open', 0)]:
        error = mistake(filled, filter=text)
        assert error["code"] == "filter_invalid" and error["position"]["start"] == start, (text, error)
        assert error["hint"] and error["message"]
    for request in [{"limit": 0}, {"limit": 10_001}, {"order": "up"}, {"table": "sawlog_ledger"}, {"cursor": "x"}, {"nope": 1},
                    {"columns": ["a", "a"]}, {"filter": "x" * 5000}, {"filter": "(" * 4000}, {"limit": "many"}]:
        error = mistake(filled, **request)
        assert error["hint"], request
    assert filled.post("/v1/search", b"\xff\xfe")[0] == 400
    assert len(search(filled, "")) == 5


def test_answers_come_in_all_forms_and_with_chosen_columns(filled: Server):
    body = json.dumps({"filter": "tenant:red", "columns": ["message", "tenant", "http.status"], "order": "oldest", "limit": 1})
    status, answer, headers = filled.post("/v1/search", body, {"Accept": "text/csv"})
    assert status == 200 and list(csv.reader(io.StringIO(answer.decode()))) == [["message", "tenant", "http.status"], ["paid", "red", "200"]]
    assert headers.get("x-sawlog-next-cursor")
    ndjson = filled.post("/v1/search", body, {"Accept": "application/x-ndjson"})[1]
    assert json.loads(ndjson) == {"message": "paid", "tenant": "red", "http.status": 200}


def test_other_tables_are_searched_too(server: Server):
    server.events('{"event_name":"click","user_id":"u1","page":"/a"}\n{"timestamp":"1999-01-01T00:00:00Z","message":"old"}')
    assert search(server, "click user:u1", table="activity")[0]["event_name"] == "click"
    assert search(server, "reason:time_out_of_range", table="dead_letters")[0]["reason"] == "time_out_of_range"


def test_sql_can_search_too(filled: Server):
    assert filled.value("SELECT count(*) FROM search('logs', 'severity>=warn') WHERE service = 'web'") == 2
    assert filled.value("SELECT count(*) FROM search('logs', '')") == 5
    for sql in ["SELECT * FROM search('logs', 'a (')", "SELECT * FROM search('nope', '')", "SELECT * FROM search('logs')", "SELECT * FROM search(1, 2)"]:
        status, body, _ = filled.post("/v1/sql", sql)
        assert status == 400 and "search" in body.decode() or "filter" in body.decode(), (sql, body)


def test_fields_are_listed_with_types_and_values(filled: Server):
    status, body, _ = filled.get("/v1/fields?" + urllib.parse.urlencode({"filter": "-nothing", "from": "-1h"}))
    answer = json.loads(body)
    assert status == 200 and answer["rows"] == 4 and answer["sample"] is False
    fields = {field["name"]: field for field in answer["fields"]}
    assert fields["service"] == {"name": "service", "kind": "column", "types": ["text"], "rows": 4,
                                 "values": [{"value": "checkout", "rows": 2}, {"value": "web", "rows": 2}]}
    assert fields["tenant"]["kind"] == "attribute" and fields["tenant"]["values"] == [{"value": "red", "rows": 2}]
    assert fields["retries"]["types"] == ["integer"] and fields["http_status"]["types"] == ["integer"]
    assert filled.get("/v1/fields?filter=%28")[0] == 400
    assert filled.get("/v1/fields?nope=1")[0] == 400


def test_fields_are_bounded(server: Server):
    wide = [{"message": "m", **{f"k{n}_{row}": "v" * 500 for n in range(50)}} for row in range(40)]
    server.events("\n".join(map(json.dumps, wide)))
    answer = json.loads(server.get("/v1/fields")[1])
    attributes = [field for field in answer["fields"] if field["kind"] == "attribute"]
    assert len(attributes) == 500 and all(len(field["values"][0]["value"]) == 200 for field in attributes)


def test_the_command_searches_a_folder_and_a_server(data: Path):
    server = Server(data, "host-metrics.enabled=false").start()
    server.events("\n".join(map(json.dumps, EVENTS)))
    through = sawlog("search", "service:checkout severity>=error", "--from", "-1h", "--url", server.url)
    assert through.returncode == 0 and b"TIMED out" in through.stdout, through
    page = sawlog("search", "--limit", "2", "--format", "ndjson", "--url", server.url)
    assert len(page.stdout.splitlines()) == 2 and b"--cursor" in page.stderr
    server.stop()
    local = sawlog("search", "tenant:red", "--from", "-1h", "--format", "json", "--data", str(data))
    assert json.loads(local.stdout)["row_count"] == 2
    table = sawlog("search", "timed", "--columns", "user_id,attributes.n", "--data", str(data)).stdout.decode()
    assert "x y" in table and "attributes.n" in table
    first = sawlog("search", "--limit", "3", "--format", "ndjson", "--data", str(data))
    cursor = first.stderr.decode().split("--cursor ")[1].strip()
    rest = sawlog("search", "--format", "ndjson", "--cursor", cursor, "--data", str(data))
    assert len(first.stdout.splitlines()) + len(rest.stdout.splitlines()) == 5
    wrong = sawlog("search", "service:x (a OR", "--data", str(data))
    assert wrong.returncode == 2 and b"^" in wrong.stderr and b"hint" in wrong.stderr
    assert sawlog("search", "status:abc", "--data", str(data)).returncode == 1
    assert sawlog("search", "--from", "soon", "--data", str(data)).returncode == 2
    assert sawlog("search", "--limit", "0", "--data", str(data)).returncode == 2


def test_a_keyed_server_wants_the_scope_query(data: Path):
    key = sawlog("key", "create", "--name", "a", "--scope", "ingest", "--data", str(data)).stdout.decode().strip()
    server = Server(data, "host-metrics.enabled=false").start()
    assert server.post("/v1/search", "{}")[0] == 401 and server.get("/v1/fields")[0] == 401
    bearer = {"Authorization": f"Bearer {key}"}
    assert server.post("/v1/search", "{}", bearer)[0] == 403 and server.get("/v1/fields", bearer)[0] == 403
    server.stop()
