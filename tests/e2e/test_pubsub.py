"""Messages of Cloud Pub/Sub: Google's own publisher, a double of the service, and the real binary."""

import gzip
import json
import os
import subprocess
import time
from pathlib import Path

import grpc
import pytest
from google.cloud import pubsub_v1
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from conftest import ROOT, Server, missing, wait_for

PROJECT = "sawlog-test"
TOPIC, SUBSCRIPTION = f"projects/{PROJECT}/topics/orders", f"projects/{PROJECT}/subscriptions/orders"


@pytest.fixture(scope="session")
def double_binary(tmp_path_factory) -> str:
    """The double, built once."""
    path = tmp_path_factory.mktemp("doubles") / "pubsub"
    try:
        subprocess.run(["go", "build", "-o", str(path), "./cmd/pubsub"], cwd=ROOT / "tests/doubles", check=True, timeout=600)
    except FileNotFoundError:
        missing("Go is missing, in which the doubles of Google's services are written")
    return str(path)


class Double:
    """A running double with a topic and a subscription."""

    def __init__(self, path: str):
        self.process = subprocess.Popen([path], stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        # An emulator's variable would make the clients ignore their transport.
        os.environ.pop("PUBSUB_EMULATOR_HOST", None)
        self.channel = grpc.insecure_channel(self.address, options=[("grpc.max_receive_message_length", -1)])
        self.publisher = pubsub_v1.PublisherClient(transport=PublisherGrpcTransport(channel=self.channel))
        self.subscriber = pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=self.channel))
        self.publisher.create_topic(name=TOPIC)
        self.subscriber.create_subscription(name=SUBSCRIPTION, topic=TOPIC, ack_deadline_seconds=10)

    def publish(self, *messages: tuple[bytes, dict[str, str]]) -> list[str]:
        futures = [self.publisher.publish(TOPIC, data, **attributes) for data, attributes in messages]
        return [future.result(timeout=30) for future in futures]

    def left(self) -> int:
        """Messages that nobody has acknowledged, as far as none is out."""
        return len(self.subscriber.pull(subscription=SUBSCRIPTION, max_messages=1_000).received_messages)

    def stop(self) -> None:
        self.channel.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def double(double_binary: str):
    running = Double(double_binary)
    yield running
    running.stop()


@pytest.fixture
def config(tmp_path: Path, double: Double) -> Path:
    path = tmp_path / "sawlog.toml"
    path.write_text(f'[[pubsub]]\nsubscription = "{SUBSCRIPTION}"\nendpoint = "http://{double.address}"\n')
    return path


def event(number: int, **fields) -> bytes:
    return json.dumps({"message": f"order {number}", "number": number, **fields}).encode()


def test_messages_become_rows_with_what_their_attributes_say(data: Path, double: Double, config: Path):
    published = double.publish(
        (event(1), {"service": "shop", "team": "a"}),
        (event(2, insert_id="own"), {"event_time": "2026-11-20T00:00:00Z"}),
        (event(3) + b"\n" + event(4), {}),
        (gzip.compress(event(5)), {"content-encoding": "gzip"}),
        (b"", {"only": "attributes"}),
        (b'{"message": broken', {}),
        (event(6), {}),
    )
    server = Server(data, "sources.pubsub.past-max=unlimited", config=config).start()
    try:
        wait_for(lambda: server.value("SELECT count(*) FROM logs") == 6, "the rows are there", 30)
        rows = server.sql("SELECT message, insert_id, service, source FROM logs WHERE source = 'orders' ORDER BY message")
        ids = [published[0], "own", f"{published[2]}/0", f"{published[2]}/1", published[3], published[6]]
        services = ["shop", None, None, None, None, None]
        assert rows == [[f"order {n + 1}", ids[n], services[n], "orders"] for n in range(6)]
        assert server.value("SELECT resource['team'] FROM logs WHERE message = 'order 1'") == "a"
        assert server.value("SELECT event_time::text FROM logs WHERE message = 'order 2'").startswith("2026-11-20")
        reasons = server.sql("SELECT reason FROM dead_letters ORDER BY reason")
        assert reasons == [["empty_message"], ["json_syntax"]]
        ledger = server.sql("SELECT sum(received), sum(stored), sum(dead_lettered), sum(in_flight) FROM sawlog_ledger WHERE source = 'orders'")
        assert ledger == [[8, 6, 2, 0]]
    finally:
        server.stop()
    assert double.left() == 0, "all are acknowledged"


def test_what_was_not_acknowledged_before_kill_9_comes_again_and_is_stored_once(data: Path, double: Double, config: Path):
    count = 5_000
    server = Server(data, "host-metrics.enabled=false", config=config).start()
    double.publish(*[(event(number), {}) for number in range(count // 2)])
    wait_for(lambda: server.value("SELECT count(*) FROM logs") > 100, "some are there", 30)
    server.process.kill()
    server.process.wait()
    double.publish(*[(event(number), {}) for number in range(count // 2, count)])
    server.start()
    try:
        wait_for(lambda: server.value("SELECT count(DISTINCT message) FROM logs") == count, "all are there", 60)
        # The leases of the killed process run out, and what it had stored comes again.
        time.sleep(1)
        assert server.value("SELECT count(*) FROM logs") == count
    finally:
        server.stop()
    wait_for(lambda: double.left() == 0, "all are acknowledged", 30)


def test_the_service_may_go_and_come_back(data: Path, double_binary: str, double: Double, config: Path):
    server = Server(data, "host-metrics.enabled=false", config=config).start()
    try:
        double.publish((event(1), {}))
        wait_for(lambda: server.value("SELECT count(*) FROM logs") == 1, "the first is there", 30)
        double.stop()
        assert server.get("/readyz")[0] == 200, "other sources go on"
        status, answer, _ = server.post("/v1/events", b'{"message":"by http"}')
        assert status == 200, answer
    finally:
        server.stop()
