"""Elasticsearch's bulk protocol: the official client's helpers, raw requests, keys, errors."""

import base64
import gzip
import json
import time
from pathlib import Path

import pytest
from elasticsearch import AuthenticationException, BadRequestError, Elasticsearch, helpers

from conftest import Server, request, sawlog, wait_for

NOW = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
NDJSON = {"Content-Type": "application/x-ndjson"}


def bulk(server: Server, lines: list, path: str = "/_bulk", method: str = "POST", **headers: str) -> tuple[int, dict]:
    body = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines).encode()
    status, answer, found = request(method, server.url + path, body, {**NDJSON, **headers})
    assert found["x-elastic-product"] == "Elasticsearch"
    return status, json.loads(answer)


def test_the_official_client_stores_documents_with_its_bulk_helper(server: Server):
    client = Elasticsearch(server.url)
    assert client.ping() and client.info()["tagline"] == "You Know, for Search"
    actions = [
        {"_op_type": "create", "_index": "logs-shop-default", "@timestamp": NOW, "message": f"order {n}", "log.level": "error"}
        for n in range(1500)
    ]
    assert helpers.bulk(client, actions, chunk_size=400) == (1500, [])
    assert server.sql(
        "SELECT count(*), count(DISTINCT message), min(severity_class), min(attributes['es.index']) FROM logs"
    ) == [[1500, 1500, "error", "logs-shop-default"]]
    ledger = "SELECT sum(received), sum(stored) FROM sawlog_ledger WHERE source = 'elasticsearch'"
    assert server.sql(ledger) == [[1500, 1500]]


def test_the_client_compresses_and_learns_of_conflicts(server: Server):
    client = Elasticsearch(server.url, http_compress=True)
    actions = [{"_op_type": "create", "_index": "a", "_id": str(n), "message": "once"} for n in range(50)]
    assert helpers.bulk(client, actions) == (50, [])
    stored, errors = helpers.bulk(client, actions, raise_on_error=False)
    assert stored == 0 and {error["create"]["status"] for error in errors} == {409}
    assert helpers.bulk(client, [{**action, "_op_type": "index"} for action in actions]) == (50, [])
    assert helpers.bulk(client, [{**action, "_index": "b"} for action in actions]) == (50, [])
    assert server.sql("SELECT attributes['es.index'], count(*) FROM logs GROUP BY 1 ORDER BY 1") == [["a", 50], ["b", 50]]
    assert server.value("SELECT count(*) FROM logs WHERE insert_id = 'a/7'") == 1
    with pytest.raises(BadRequestError, match="Malformed action"):
        client.bulk(operations=[{"upsert": {}}, {}], index="a")


def test_each_item_tells_what_became_of_it(server: Server):
    status, answer = bulk(
        server,
        [
            {"index": {"_index": "logs", "_id": "1"}},
            {"message": "kept"},
            {"index": {"_index": "logs", "_id": "1"}},
            {"message": "kept"},
            {"create": {"_index": "logs"}},
            '{"message": cut off',
            {"update": {"_index": "logs", "_id": "1"}},
            {"doc": {"message": "changed"}},
            {"delete": {"_index": "logs", "_id": "1"}},
            {"create": {}},
            {"message": "x" * (2 << 20)},
            {"create": {"_index": "other"}},
            {"message": "the last"},
        ],
        "/fallback/_bulk",
        "PUT",
    )
    assert status == 200 and answer["errors"] is True
    outcomes = [(name, item["_index"], item["status"]) for entry in answer["items"] for name, item in entry.items()]
    assert outcomes == [
        ("index", "logs", 201),
        ("index", "logs", 200),
        ("create", "logs", 201),
        ("update", "logs", 400),
        ("delete", "logs", 400),
        ("create", "fallback", 413),
        ("create", "other", 201),
    ]
    dead = answer["items"][2]["create"]["sawlog"]
    assert (dead["outcome"], dead["reason"]) == ("dead_lettered", "json_syntax") and dead["remedy"]
    assert "update" in answer["items"][3]["update"]["error"]["reason"]
    assert server.sql("SELECT message FROM logs ORDER BY message") == [["kept"], ["the last"]]
    assert server.value("SELECT count(*) FROM dead_letters WHERE source = 'elasticsearch'") == 1

    def closes():
        row = server.sql("SELECT sum(received), sum(stored), sum(duplicate), sum(dead_lettered), sum(rejected) FROM sawlog_ledger")
        return row == [[7, 2, 1, 1, 3]]

    wait_for(closes, "the ledger closes", 5)


def test_a_broken_action_line_refuses_the_whole_request(server: Server):
    status, answer = bulk(server, [{"index": {}}, {"message": "a"}, '{"index":', {"message": "b"}], "/logs/_bulk")
    assert status == 400 and answer["status"] == 400
    assert "line [3]" in answer["error"]["reason"] and answer["error"]["type"] == "illegal_argument_exception"
    assert server.value("SELECT count(*) FROM logs") == 0
    assert bulk(server, [], "/logs/_bulk")[0] == 400
    wait_for(lambda: server.value("SELECT sum(rejected) FROM sawlog_ledger") == 2, "the refusals are in the ledger", 5)
    bomb = gzip.compress(bytes(100 << 20))
    status, answer, _ = server.post("/_bulk", bomb, {"Content-Encoding": "gzip"})
    assert status == 413 and json.loads(answer)["error"]["type"] == "content_too_long_exception"


def test_batches_and_levels_work_as_for_events(server: Server):
    lines = [{"create": {"_index": "logs"}}, {"message": "once"}]
    key = {"Idempotency-Key": "k1"}
    assert bulk(server, lines, **key)[1]["items"][0]["create"]["result"] == "created"
    again = bulk(server, lines, **key)[1]["items"][0]["create"]
    assert (again["status"], again["sawlog"]["outcome"]) == (200, "duplicate")
    assert server.value("SELECT count(*) FROM logs") == 1
    status, answer = bulk(server, lines, **{"X-Sawlog-Ack": "paper"})
    assert status == 400 and "disk" in answer["error"]["reason"]


def test_keys_are_taken_as_clients_send_them(data: Path):
    made = sawlog("key", "create", "--name", "beats", "--scope", "ingest", "--data", str(data))
    assert made.returncode == 0, made.stderr
    key = next(word for word in made.stdout.decode().split() if word.startswith("sawlog_"))
    server = Server(data, "host-metrics.enabled=false").start()
    try:
        for auth in [
            {"api_key": ("any", key)},
            {"api_key": base64.b64encode(f"any:{key}".encode()).decode()},
            {"basic_auth": ("elastic", key)},
            {"bearer_auth": key},
        ]:
            client = Elasticsearch(server.url, **auth)
            assert client.info()["version"]["number"] >= "8"
            assert client.license.get()["license"]["type"] == "basic"
            assert helpers.bulk(client, [{"_index": "a", "message": "m"}]) == (1, [])
        stranger = Elasticsearch(server.url, basic_auth=("elastic", "changeme"))
        with pytest.raises(AuthenticationException):
            stranger.info()
        with pytest.raises(AuthenticationException):
            helpers.bulk(stranger, [{"_index": "a", "message": "m"}])
        assert server.get("/")[0] == 200, "the page needs no key"
    finally:
        server.stop()


def test_a_browser_gets_the_page_and_a_client_the_handshake(server: Server):
    page = server.get("/", {"Accept": "text/html,*/*"})
    assert page[0] == 200 and b"<html" in page[1].lower()
    for path in ["/", "/_license", "/_xpack", "/_cluster/health"]:
        status, body, headers = server.get(path, {"Accept": "application/json"})
        assert status == 200 and json.loads(body) and headers["x-elastic-product"] == "Elasticsearch"
    status, body, headers = request("HEAD", server.url + "/", None, {"x-elastic-product-origin": "logstash-output-elasticsearch"})
    assert (status, body, headers["x-elastic-product"]) == (200, b"", "Elasticsearch")
