"""kill -9 under load: what was acknowledged is there once, and the ledger closes."""

import json
import random
import threading
import time
import uuid
from pathlib import Path

from conftest import Server

KILLS = 6
LEDGER = (
    "SELECT coalesce(sum(received), 0), coalesce(sum(stored + duplicate + filtered + dead_lettered + rejected + in_flight), 0)"
    " FROM sawlog_ledger"
)


class Sender(threading.Thread):
    """Sends batches and remembers which events were acknowledged."""

    def __init__(self, server: Server):
        super().__init__(daemon=True)
        self.server = server
        self.acknowledged: set[str] = set()
        self.sent: set[str] = set()
        self.pending: tuple[str, str, list[str]] | None = None
        self.stopped = threading.Event()

    def run(self):
        while not self.stopped.is_set():
            if self.pending is None:
                ids = [uuid.uuid4().hex for _ in range(20)]
                lines = [json.dumps({"message": f"event {id}", "insert_id": id, "level": "info"}) for id in ids]
                lines.append("{broken " + ids[0])
                self.pending = (uuid.uuid4().hex, "\n".join(lines), ids)
                self.sent.update(ids)
            key, body, ids = self.pending
            status, answer, _ = self.server.post("/v1/events", body, {"Idempotency-Key": key})
            if status == 200:
                counts = json.loads(answer)
                assert counts["stored"] + counts["duplicate"] + counts["dead_lettered"] == counts["received"] == 21
                self.acknowledged.update(ids)
                self.pending = None
            else:
                time.sleep(0.02)


def test_acknowledged_events_survive_kill_9_once(data: Path):
    random.seed(11)
    # Flushes come often, so that kills hit them too.
    settings = ("host-metrics.enabled=false", "pipeline.flush-interval=300ms", "wal.segment-size=64KiB", "query.rows-max=10000000")
    server = Server(data, *settings).start()
    senders = [Sender(server) for _ in range(3)]
    for sender in senders:
        sender.start()
    for _ in range(KILLS):
        time.sleep(random.uniform(0.2, 1.5))
        server.kill()
        server.start()
    time.sleep(0.5)
    for sender in senders:
        sender.stopped.set()
    for sender in senders:
        sender.join(timeout=30)
    server.kill()
    server.start()
    acknowledged = set().union(*(sender.acknowledged for sender in senders))
    sent = set().union(*(sender.sent for sender in senders))
    rows = server.sql("SELECT insert_id, count(*) FROM logs GROUP BY insert_id")
    stored = {row[0] for row in rows}
    assert len(acknowledged) > 500, "the load was too small to prove anything"
    assert not acknowledged - stored, f"{len(acknowledged - stored)} acknowledged events are lost"
    assert not stored - sent
    assert all(row[1] == 1 for row in rows), [row for row in rows if row[1] > 1][:5]
    received, accounted = server.sql(LEDGER)[0]
    assert received == accounted
    server.stop()


def test_a_stop_drains_and_the_next_start_has_nothing_to_recover(data: Path):
    server = Server(data, "host-metrics.enabled=false").start()
    server.events("\n".join(json.dumps({"message": f"m{n}"}) for n in range(1000)))
    assert server.stop() < 10
    assert server.process.returncode == 0
    server.start()
    assert server.value("SELECT count(*) FROM logs") == 1000
    log = (data.parent / f"{data.name}.log").read_text()
    assert "recovered from the event log" not in log
    server.stop()
