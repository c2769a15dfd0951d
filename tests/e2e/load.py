"""Senders that remember what was acknowledged, and what must be true of it afterwards."""

import json
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from conftest import Server, missing, wait_for

LEDGER = (
    "SELECT coalesce(sum(received), 0), coalesce(sum(stored + duplicate + filtered + dead_lettered + rejected + in_flight), 0)"
    " FROM sawlog_ledger"
)
# Records of one batch, by what becomes of them.
WITH_ID, WITHOUT_ID, FILTERED, BROKEN = 20, 5, 2, 1
BATCH = WITH_ID + WITHOUT_ID + FILTERED + BROKEN
RULES = """
[[rules.filter]]
name = "noise"
where = [{ field = "message", prefix = "noise" }]
"""


def rules(folder: Path) -> Path:
    """The configuration of a server that senders send to: it drops what they send as noise."""
    path = folder / "load.toml"
    path.write_text(RULES)
    return path


@dataclass
class Batch:
    """A body, its idempotency key, and the names of its records."""

    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    ids: list[str] = field(default_factory=lambda: [uuid.uuid4().hex for _ in range(WITH_ID)])

    def __post_init__(self):
        # Without an id nothing but the batch's key tells a repeat: the text shows whether there is one.
        self.texts = [f"plain {self.key} {n}" for n in range(WITHOUT_ID)]
        self.broken = [f"{{broken {self.key} {n}" for n in range(BROKEN)]

    def body(self, filler: str) -> str:
        events = [{"message": f"event {id}{filler}", "insert_id": id, "level": "info"} for id in self.ids]
        events += [{"message": text, "level": "warn"} for text in self.texts]
        events += [{"message": f"noise {self.key} {n}"} for n in range(FILTERED)]
        return "\n".join([*map(json.dumps, events), *self.broken])


class Sender(threading.Thread):
    """Sends batches until it is stopped; a batch that was not acknowledged is sent again under the same key."""

    def __init__(self, server: Server, filler: str = ""):
        super().__init__(daemon=True)
        self.server = server
        self.filler = filler
        self.batches: list[Batch] = []
        self.acknowledged_batches: list[Batch] = []
        self.refusals: list[tuple[int, bytes, dict]] = []
        self.pending: Batch | None = None
        self.stopped = threading.Event()

    @property
    def acknowledged(self) -> set[str]:
        return {id for batch in list(self.acknowledged_batches) for id in batch.ids}

    def run(self):
        while not self.stopped.is_set():
            if self.pending is None:
                self.pending = Batch()
                self.batches.append(self.pending)
            batch = self.pending
            status, answer, headers = self.server.post("/v1/events", batch.body(self.filler), {"Idempotency-Key": batch.key})
            if status == 200:
                counts = json.loads(answer)
                as_new = {"stored": WITH_ID + WITHOUT_ID, "filtered": FILTERED, "dead_lettered": BROKEN, "duplicate": 0}
                as_repeat = {"stored": 0, "filtered": 0, "dead_lettered": 0, "duplicate": BATCH}
                outcome = {name: counts[name] for name in as_new}
                assert counts["received"] == BATCH and outcome in (as_new, as_repeat), counts
                self.acknowledged_batches.append(batch)
                self.pending = None
            else:
                self.refusals.append((status, answer, headers))
                time.sleep(0.02)

    def stop(self):
        self.stopped.set()
        self.join(timeout=30)


def check(server: Server, senders: list[Sender], acknowledged_min: int = 1) -> None:
    """What was acknowledged is there, nothing is there twice or unsent, and the ledger counts exactly what is there."""
    acknowledged = [batch for sender in senders for batch in sender.acknowledged_batches]
    sent = [batch for sender in senders for batch in sender.batches]
    assert len(acknowledged) * WITH_ID >= acknowledged_min, "the load was too small to prove anything"
    kinds = [
        ("insert_id", "logs WHERE insert_id IS NOT NULL", lambda batch: batch.ids),
        ("message", "logs WHERE insert_id IS NULL", lambda batch: batch.texts),
        ("CAST(payload AS VARCHAR)", "dead_letters", lambda batch: batch.broken),
    ]
    for column, table, names in kinds:
        rows = server.csv(f"SELECT {column}, count(*) FROM {table} GROUP BY 1")
        there = {row[0] for row in rows}
        lost = {name for batch in acknowledged for name in names(batch)} - there
        assert not lost, f"{len(lost)} acknowledged records are lost: {table}: {list(lost)[:3]}"
        assert not there - {name for batch in sent for name in names(batch)}, f"{table} has what nobody sent"
        assert all(row[1] == "1" for row in rows), [row for row in rows if row[1] != "1"][:5]
    # Batches are kept whole: their number says what else must have happened, and how often.
    kept = server.value("SELECT count(*) FROM dead_letters") // BROKEN
    received, accounted = server.sql(LEDGER)[0]
    assert received == accounted
    counted = server.sql("SELECT sum(stored), sum(filtered), sum(dead_lettered), sum(in_flight) FROM sawlog_ledger")[0]
    assert counted == [kept * (WITH_ID + WITHOUT_ID), kept * FILTERED, kept * BROKEN, 0], (counted, kept)
    assert server.value("SELECT count(*) FROM logs") == counted[0]
    assert server.value("SELECT sum(duplicate) FROM sawlog_ledger") % BATCH == 0


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
