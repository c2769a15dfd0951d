"""Messages that Cloud Pub/Sub pushes: a double of the service with tokens that it signs, and the real binary."""

import base64
import json
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from conftest import Server, wait_for
from google_doubles import PubsubDouble

ACCOUNT = "push@sawlog-test.iam.gserviceaccount.com"


@pytest.fixture
def double():
    running = PubsubDouble()
    yield running
    running.stop()


@pytest.fixture
def port() -> int:
    """A port that stays the same when the server is started again, as an address behind a load balancer does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def endpoint_of(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1/pubsub/push"


@pytest.fixture
def config(tmp_path: Path, double: PubsubDouble, port: int) -> Path:
    path = tmp_path / "sawlog.toml"
    path.write_text(
        f"""
        [[pubsub]]
        subscription = "projects/sawlog-test/subscriptions/pushed"
        mode = "push"
        audience = "{endpoint_of(port)}"
        service-account = "{ACCOUNT}"
        keys-url = "{double.url}/certs"
        messages-max = 5
        """
    )
    return path


def event(number: int) -> bytes:
    return json.dumps({"message": f"order {number}"}).encode()


def statuses(server: Server) -> set[str]:
    lines = server.get("/metrics")[1].decode().splitlines()
    pushes = [line for line in lines if line.startswith('sawlog_http_requests_total{route="/v1/pubsub/push"')]
    return {line.split('status="')[1][:3] for line in pushes}


def test_each_message_is_stored_once_over_refusals_and_kill_9(data: Path, double: PubsubDouble, config: Path, port: int):
    double.push_to(endpoint_of(port), "pushed", ACCOUNT)
    count = 300
    double.publish(*[(event(number), {"service": "shop"}) for number in range(count)])
    server = Server(data, "host-metrics.enabled=false", f"server.listen=127.0.0.1:{port}", config=config).start()
    wait_for(lambda: server.value("SELECT count(*) FROM logs") > 50, "some are there", 30)
    assert "429" in statuses(server), "more come at once than may wait"
    server.kill()
    server.start()
    try:
        wait_for(lambda: server.value("SELECT count(DISTINCT message) FROM logs") == count, "all are there", 60)
        # What was stored and not answered before the kill comes again.
        double.publish((event(count), {}))
        wait_for(lambda: server.value(f"SELECT count(*) FROM logs WHERE message = 'order {count}'") == 1, "the last", 30)
        assert server.value("SELECT count(*) FROM logs") == count + 1
        assert "204" in statuses(server)
        rows = server.sql("SELECT count(*), min(service), min(source) FROM logs WHERE service = 'shop'")
        assert rows == [[count, "shop", "pushed"]]
        assert server.value("SELECT count(DISTINCT insert_id) FROM logs") == count + 1
        # A bounded number of appends: messages that come together share one.
        ledger = server.sql("SELECT sum(stored), sum(in_flight) FROM sawlog_ledger WHERE source = 'pushed'")
        assert ledger == [[count + 1, 0]]
    finally:
        server.stop()


def test_only_the_subscriptions_own_account_may_push(data: Path, double: PubsubDouble, config: Path, port: int):
    endpoint = endpoint_of(port)
    server = Server(data, "host-metrics.enabled=false", f"server.listen=127.0.0.1:{port}", config=config).start()
    published = datetime.now(UTC).isoformat()
    wrapped = {"message": {"data": base64.b64encode(event(1)).decode(), "messageId": "1", "publishTime": published}, "subscription": "projects/sawlog-test/subscriptions/pushed"}

    def push(token: str | None, body: bytes) -> tuple[int, str, str]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        status, answer, _ = server.post("/v1/pubsub/push", body, headers)
        error = json.loads(answer)["error"] if answer else {"code": "", "message": ""}
        return status, error["code"], error["message"]

    try:
        body, good = json.dumps(wrapped).encode(), double.token(ACCOUNT, endpoint)
        assert push(None, body)[:2] == (401, "token_missing")
        assert push("sawlog_1_2", body)[:2] == (401, "token_malformed")
        assert push(good[:-8] + "AAAAAAAA", body)[:2] == (401, "token_signature")
        assert push(double.token(ACCOUNT, "https://other"), body)[:2] == (401, "token_audience")
        assert push(double.token("other@sawlog-test.iam.gserviceaccount.com", endpoint), body)[:2] == (403, "token_account")
        assert push(good, b'{"message": {"messageId": "1", "data": "?"}, "subscription": "s"}')[:2] == (400, "push_malformed")
        status, _, message = push(good, b'{"message": {"data": "e30="}, "subscription": "s"}')
        assert status == 400 and "message.messageId at byte 12" in message, message
        other = json.dumps(wrapped | {"subscription": "projects/sawlog-test/subscriptions/other"}).encode()
        assert push(good, other)[:2] == (403, "subscription_unknown")
        assert push(good, b"x" * (15 << 20))[:2] == (413, "body_too_large")
        assert server.value("SELECT count(*) FROM logs") == 0, "nothing of these is kept"
        assert push(good, body) == (204, "", "")
        assert push(good, body) == (204, "", ""), "a repeat is taken too"
        assert server.sql("SELECT message, insert_id FROM logs") == [["order 1", "1"]]
        assert good not in server.log() and good.split(".")[2] not in server.log()
    finally:
        server.stop()


def test_keys_may_change_while_the_server_runs(data: Path, double: PubsubDouble, config: Path, port: int):
    double.push_to(endpoint_of(port), "pushed", ACCOUNT)
    server = Server(data, "host-metrics.enabled=false", f"server.listen=127.0.0.1:{port}", config=config).start()
    try:
        double.publish((event(1), {}))
        wait_for(lambda: server.value("SELECT count(*) FROM logs") == 1, "the first is there", 30)
        double.rotate_keys()
        double.publish((event(2), {}))
        # Keys are asked for at most every ten seconds.
        wait_for(lambda: server.value("SELECT count(*) FROM logs") == 2, "the second is there", 30)
    finally:
        server.stop()


def test_without_a_push_subscription_the_path_says_so(server: Server):
    status, answer, _ = server.post("/v1/pubsub/push", b"{}")
    assert status == 404 and json.loads(answer)["error"]["code"] == "push_off"
