"""Messages of Cloud Pub/Sub: Google's own publisher, a double of the service, and the real binary."""

import gzip
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from conftest import Server, sawlog, wait_for
from google_doubles import PubsubDouble


@pytest.fixture
def double():
    running = PubsubDouble()
    yield running
    running.stop()


@pytest.fixture
def config(tmp_path: Path, double: PubsubDouble) -> Path:
    path = tmp_path / "sawlog.toml"
    path.write_text(f'[[pubsub]]\nsubscription = "{double.subscription}"\nendpoint = "{double.url}"\n')
    return path


def event(number: int, **fields) -> bytes:
    return json.dumps({"message": f"order {number}", "number": number, **fields}).encode()


def test_messages_become_rows_with_what_their_attributes_say(data: Path, double: PubsubDouble, config: Path):
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


def test_what_was_not_acknowledged_before_kill_9_comes_again_and_is_stored_once(data: Path, double: PubsubDouble, config: Path):
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


def test_the_service_may_go_and_come_back(data: Path, double: PubsubDouble, config: Path):
    server = Server(data, "host-metrics.enabled=false", config=config).start()
    try:
        double.publish((event(1), {}))
        wait_for(lambda: server.value("SELECT count(*) FROM logs") == 1, "the first is there", 30)
        double.kill()
        assert server.get("/readyz")[0] == 200, "other sources go on"
        status, answer, _ = server.post("/v1/events", b'{"message":"by http"}')
        assert status == 200, answer
        double.start()
        double.create()
        double.publish((event(2), {}))
        wait_for(lambda: server.value("SELECT count(*) FROM logs WHERE source = 'orders'") == 2, "the stream is open again", 60)
    finally:
        server.stop()


def test_files_are_published_and_come_in_as_they_were(tmp_path: Path, data: Path, double: PubsubDouble, config: Path):
    events, access = tmp_path / "events.json.gz", tmp_path / "access.log"
    events.write_bytes(gzip.compress(b"\n".join(event(number, user_id=f"u{number % 3}") for number in range(2_000))))
    access.write_text('127.0.0.1 - - [27/Nov/2026:00:00:00 +0000] "GET /a HTTP/1.1" 200 10\n' * 2)
    published = sawlog(
        "publish", str(events), str(access), "--topic", double.topic, "--endpoint", double.url,
        "--ordering-field", "user_id", "--attribute", "service=shop",
    )
    assert published.returncode == 0, published.stderr
    assert b"published 2002 messages" in published.stdout
    server = Server(data, "host-metrics.enabled=false", config=config).start()
    try:
        wait_for(lambda: server.value("SELECT count(*) FROM logs") == 2_002, "all are there", 30)
        kinds = server.sql("SELECT format, count(*) FROM logs WHERE service = 'shop' GROUP BY 1 ORDER BY 2")
        assert sum(count for _, count in kinds) == 2_002, kinds
        assert server.value("SELECT count(*) FROM logs WHERE http_path = '/a' AND http_status = 200") == 2
    finally:
        server.stop()
    for arguments, problem in [
        (["--topic", "orders"], b"is no topic"),
        (["--topic", double.topic, "--format", "xml"], b"unknown"),
        (["--topic", double.topic, "--attribute", "x"], b"NAME=VALUE"),
        (["--topic", double.topic, "--endpoint", "127.0.0.1"], b"no endpoint"),
    ]:
        refused = sawlog("publish", str(access), *arguments)
        assert refused.returncode == 2 and problem in refused.stderr, refused.stderr


def test_a_seek_says_what_it_does_and_what_comes_again_is_stored_once(data: Path, double: PubsubDouble, config: Path):
    before = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    server = Server(data, "host-metrics.enabled=false", config=config).start()
    try:
        path = double.subscribe("kept", retain_acked_messages=True)
        config.write_text(f'{config.read_text()}[[pubsub]]\nsubscription = "{path}"\nendpoint = "{double.url}"\n')
        server.stop()
        server.start()
        double.publish(*[(event(number), {}) for number in range(20)])
        wait_for(lambda: server.value("SELECT count(*) FROM logs WHERE source = 'kept'") == 20, "all are there", 30)
        seek = ["gcp", "seek", path, "--to", before, "--config", str(config)]
        asked = sawlog(*seek)
        assert asked.returncode == 2 and b"--yes" in asked.stderr, asked.stderr
        assert b"come again" in asked.stdout and b"7.0 days" in asked.stdout, asked.stdout
        done = sawlog(*seek, "--yes")
        assert done.returncode == 0 and b"done" in done.stdout, done.stderr
        duplicates = "SELECT coalesce(sum(duplicate), 0) FROM sawlog_ledger WHERE source = 'kept'"
        wait_for(lambda: server.value(duplicates) >= 20, "they came again", 30)
        assert server.value("SELECT count(*) FROM logs WHERE source = 'kept'") == 20
        metrics = server.get("/metrics")[1].decode()
        assert 'sawlog_pubsub_outstanding_messages{source="kept"}' in metrics
    finally:
        server.stop()
    for arguments, problem in [
        (["orders", "--to", before], b"is no subscription"),
        ([path, "--to", "yesterday"], b"2026-11-01T00:00:00Z"),
        ([path, "--to", "projects/sawlog-test/snapshots/none", "--yes"], b"snapshots/none does not exist"),
        ([path, "--to", before, "--endpoint", "127.0.0.1"], b"no endpoint"),
    ]:
        refused = sawlog("gcp", "seek", *arguments, "--config", str(config))
        assert refused.returncode != 0 and problem in refused.stderr, refused.stderr


def test_exactly_once_delivery_is_confirmed(data: Path, double: PubsubDouble, tmp_path: Path):
    path = double.subscribe("once", enable_exactly_once_delivery=True)
    config = tmp_path / "once.toml"
    config.write_text(f'[[pubsub]]\nsubscription = "{path}"\nendpoint = "{double.url}"\n')
    server = Server(data, "host-metrics.enabled=false", config=config).start()
    confirmed = 'sawlog_pubsub_confirmations_total{source="once",outcome="confirmed"} 500'
    try:
        double.publish(*[(event(number), {}) for number in range(500)])
        wait_for(lambda: confirmed in server.get("/metrics")[1].decode(), "all are confirmed", 30)
        assert server.value("SELECT count(*) FROM logs") == 500
    finally:
        server.stop()
