"""kill -9 under load: what was acknowledged is there once, and the ledger closes."""

import json
import os
import random
import time
from pathlib import Path

import pytest

from conftest import Server, wait_for
from load import Injection, Sender, check, injected, rules

LONG = bool(os.environ.get("SAWLOG_LONG"))
KILLS = 300 if LONG else 30
# Calls by which the event log and a flush reach the disk, and which of a thread's calls the kill comes instead of.
CALLS = ["linkat", "rename", "fsync", "fdatasync", "unlink", "write"]
MOMENTS = [(call, nth) for call in CALLS for nth in ((1, 2, 3, 4, 6) if LONG else (2,))]
START_MOMENTS = [("fsync", 1), ("fsync", 2), ("unlink", 2)]
if LONG:
    START_MOMENTS += [("rename", 1), ("unlink", 1), ("write", 1), ("write", 2), ("write", 4)]
# Flushes and merges come often, and merged files go soon, so that kills hit them too.
SETTINGS = (
    "host-metrics.enabled=false",
    "pipeline.flush-interval=300ms",
    "wal.segment-size=64KiB",
    "query.rows-max=10000000",
    "query.time-max=1s",
    "compaction.interval=200ms",
    "compaction.files-min=2",
    "compaction.age-min=0s",
    "compaction.grace=1s",
)


def test_acknowledged_events_survive_kill_9_once(data: Path):
    random.seed(11)
    server = Server(data, *SETTINGS, config=rules(data.parent)).start()
    senders = [Sender(server) for _ in range(3)]
    for sender in senders:
        sender.start()
    for _ in range(KILLS):
        # Times of all sizes: while the first batches come, in the middle of flushes and merges, and soon after a start.
        time.sleep(2 ** random.uniform(-7, 1))
        server.kill()
        server.start()
    time.sleep(0.5)
    for sender in senders:
        sender.stop()
    server.kill()
    server.start()
    check(server, senders, acknowledged_min=5_000)
    server.stop()


@pytest.mark.parametrize(("call", "nth"), MOMENTS)
def test_a_kill_instead_of_a_write_to_the_disk_loses_and_repeats_nothing(data: Path, call: str, nth: int):
    """The process dies exactly where it would have synced, named or removed a file."""
    server = Server(data, *SETTINGS, config=rules(data.parent)).start()
    senders = [Sender(server) for _ in range(2)]
    for sender in senders:
        sender.start()
    wait_for(lambda: all(len(sender.acknowledged) >= 40 for sender in senders), "events flow")
    with Injection(server.process.pid, call, f"signal=SIGKILL:when={nth}"):
        wait_for(lambda: server.process.poll() is not None, f"the server dies at {call} {nth}")
    for sender in senders:
        sender.stop()
    server.start()
    check(server, senders)
    server.stop()


@pytest.mark.parametrize(("call", "nth"), START_MOMENTS)
def test_a_kill_during_recovery_loses_and_repeats_nothing(data: Path, call: str, nth: int):
    server = Server(data, *SETTINGS, config=rules(data.parent)).start()
    sender = Sender(server)
    sender.start()
    wait_for(lambda: len(sender.acknowledged) >= 200, "events flow")
    server.kill()
    sender.stop()
    traced = Server(data, *SETTINGS, config=server.config, prefix=injected(call, f"signal=SIGKILL:when={nth}"))
    traced.start(wait=False)
    wait_for(lambda: traced.process.poll() is not None, f"the server dies at {call} {nth}")
    server.start()
    check(server, [sender])
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
