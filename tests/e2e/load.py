"""Senders that remember what was acknowledged, and what must be true of it afterwards."""

import json
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from pathlib import Path

from conftest import Server, missing, wait_for

LEDGER = (
    "SELECT coalesce(sum(received), 0), coalesce(sum(stored + duplicate + filtered + dead_lettered + rejected + in_flight), 0)"
    " FROM sawlog_ledger"
)
EVENTS = 20


class Sender(threading.Thread):
    """Sends batches until it is stopped; a batch that was not acknowledged is sent again under the same key."""

    def __init__(self, server: Server, filler: str = ""):
        super().__init__(daemon=True)
        self.server = server
        self.filler = filler
        self.acknowledged: set[str] = set()
        self.sent: set[str] = set()
        self.refusals: list[tuple[int, bytes, dict]] = []
        self.pending: tuple[str, str, list[str]] | None = None
        self.stopped = threading.Event()

    def run(self):
        while not self.stopped.is_set():
            if self.pending is None:
                ids = [uuid.uuid4().hex for _ in range(EVENTS)]
                lines = [json.dumps({"message": f"event {id}{self.filler}", "insert_id": id, "level": "info"}) for id in ids]
                lines.append("{broken " + ids[0])
                self.pending = (uuid.uuid4().hex, "\n".join(lines), ids)
                self.sent.update(ids)
            key, body, ids = self.pending
            status, answer, headers = self.server.post("/v1/events", body, {"Idempotency-Key": key})
            if status == 200:
                counts = json.loads(answer)
                assert counts["stored"] + counts["duplicate"] + counts["dead_lettered"] == counts["received"] == EVENTS + 1
                self.acknowledged.update(ids)
                self.pending = None
            else:
                self.refusals.append((status, answer, headers))
                time.sleep(0.02)

    def stop(self):
        self.stopped.set()
        self.join(timeout=30)


def check(server: Server, senders: list[Sender], acknowledged_min: int = 1) -> None:
    """What was acknowledged is there, nothing is there twice or unsent, and the ledger closes."""
    acknowledged = set().union(*(sender.acknowledged for sender in senders))
    sent = set().union(*(sender.sent for sender in senders))
    rows = server.sql("SELECT insert_id, count(*) FROM logs WHERE insert_id IS NOT NULL GROUP BY insert_id")
    stored = {row[0] for row in rows}
    assert len(acknowledged) >= acknowledged_min, "the load was too small to prove anything"
    assert not acknowledged - stored, f"{len(acknowledged - stored)} acknowledged events are lost"
    assert not stored - sent
    assert all(row[1] == 1 for row in rows), [row for row in rows if row[1] > 1][:5]
    received, accounted = server.sql(LEDGER)[0]
    assert received == accounted


def injected(call: str, fault: str) -> tuple[str, ...]:
    """What to put before a command so that a system call of it fails: `strace(1)`, option `inject`."""
    if not shutil.which("strace"):
        missing("strace is missing: apt-get install strace")
    return ("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{fault}")


class Injection:
    """Makes a system call of a running process fail, counted from now on and for each thread."""

    def __init__(self, pid: int, call: str, fault: str):
        if not shutil.which("strace"):
            missing("strace is missing: apt-get install strace")
        folder = Path(tempfile.mkdtemp())
        self.folder, self.trace, self.messages = folder, folder / "trace", folder / "messages"
        command = ["strace", "-f", "-o", str(self.trace), "-e", f"trace={call}", "-e", f"inject={call}:{fault}", "-p", str(pid)]
        with open(self.messages, "wb") as messages:
            self.process = subprocess.Popen(command, stderr=messages)

    def __enter__(self) -> "Injection":
        wait_for(lambda: self.process.poll() is not None or b"attached" in self.messages.read_bytes(), "strace is attached")
        if self.process.poll() is not None and b"attached" not in self.messages.read_bytes():
            missing(f"strace may not trace here: {self.messages.read_text().strip()}")
        return self

    def count(self) -> int:
        """How many calls failed."""
        return self.trace.read_text(errors="replace").count("(INJECTED)")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=10)
        shutil.rmtree(self.folder, ignore_errors=True)
