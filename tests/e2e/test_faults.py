"""A full disk and a disk that fails to sync: what is acknowledged stays true, reads go on, and the server says why."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from conftest import Server, missing, wait_for
from load import LEDGER, Injection, Sender, check, injected, rules

DISK_MIB = 96
FREE_MIN_MIB = 16
SETTINGS = ("host-metrics.enabled=false", "pipeline.flush-interval=400ms", "wal.segment-size=1MiB", "query.rows-max=10000000")


class SmallDisk:
    """A file system in memory, seen only by a process that keeps it and by what is started in it."""

    def __init__(self, folder: Path):
        folder.mkdir()
        self.folder = folder
        script = f"mount -t tmpfs -o size={DISK_MIB}m tmpfs '{folder}' && echo mounted && exec sleep infinity"
        # Without rights of its own the process gets a namespace of users in which it has them.
        users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self.keeper = subprocess.Popen(
            ["unshare", *users, "--mount", "--propagation", "private", "sh", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if self.keeper.stdout.readline() != b"mounted\n":
            reason = self.keeper.stderr.read().decode().strip()
            missing(f"a file system of limited size cannot be mounted here (needs CAP_SYS_ADMIN): {reason}")
        enter_users = ("--user", "--preserve-credentials") if users else ()
        self.prefix = ("nsenter", *enter_users, "--mount", f"--target={self.keeper.pid}", "--")
        self.seen_from_here = Path(f"/proc/{self.keeper.pid}/root{folder}")

    def free(self) -> int:
        found = os.statvfs(self.seen_from_here)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int) -> None:
        """Takes all space but so many bytes, as another program would."""
        with open(self.seen_from_here / "ballast", "ab", buffering=0) as ballast:
            while (taken := self.free() - leave) > 0:
                try:
                    ballast.write(b"\0" * min(taken, 1 << 20))
                except OSError:
                    return

    def empty(self) -> None:
        (self.seen_from_here / "ballast").unlink()

    def remove(self) -> None:
        self.keeper.kill()
        self.keeper.wait()


@pytest.fixture
def disk(tmp_path: Path):
    if not shutil.which("unshare") or not shutil.which("nsenter"):
        missing("unshare and nsenter are missing: apt-get install util-linux")
    made = SmallDisk(tmp_path / "disk")
    yield made
    made.remove()


# With a reserve Sawlog refuses in time; without one it runs into the wall, and so do the stores.
@pytest.mark.parametrize("free_min", [f"{FREE_MIN_MIB}MiB", "0"])
def test_a_full_disk_refuses_events_keeps_reads_and_recovers_by_itself(disk: SmallDisk, free_min: str):
    settings = (*SETTINGS, f"data.free-min={free_min}")
    config = rules(disk.folder.parent)
    server = Server(disk.folder / "data", *settings, config=config, prefix=disk.prefix).start()
    senders = [Sender(server, filler="x" * 500) for _ in range(3)]
    for sender in senders:
        sender.start()
    wait_for(lambda: sum(len(sender.acknowledged) for sender in senders) > 500, "events flow")
    # Rows wait in memory while the space goes.
    disk.fill(leave=0)
    wait_for(lambda: all(sender.refusals for sender in senders), "every sender is refused")
    time.sleep(3)  # flushes fail, and are tried again
    acknowledged = sum(len(sender.acknowledged) for sender in senders)
    for sender in senders:
        status, answer, headers = sender.refusals[-1]
        assert status == 503, answer
        assert json.loads(answer)["error"]["code"] == "disk_full"
        assert int(headers["retry-after"]) >= 1
    assert server.get("/healthz")[0] == 200
    if free_min != "0":
        status, reason, _ = server.get("/readyz")
        assert (status, b"data.free-min" in reason) == (503, True), reason
    assert server.value("SELECT count(insert_id) FROM logs") >= acknowledged, "reads go on"
    disk.empty()
    before = sum(len(sender.acknowledged) for sender in senders)
    wait_for(lambda: sum(len(sender.acknowledged) for sender in senders) > before, "events are taken again", 10)
    wait_for(lambda: server.get("/readyz")[0] == 200, "the server is ready again", 10)
    for sender in senders:
        sender.stop()
    check(server, senders, acknowledged_min=500)
    server.stop()
    assert server.process.returncode == 0, "the last flush succeeds"
    server.start()
    check(server, senders, acknowledged_min=500)
    server.stop()


def test_a_failed_sync_of_the_event_log_ends_acknowledging_until_a_restart(data: Path):
    settings = (*SETTINGS, "pipeline.flush-interval=1h")
    config = rules(data.parent)
    Server(data, *settings, config=config).start().stop()
    # One sync fails; the later ones would succeed, and must not be believed.
    server = Server(data, *settings, config=config, prefix=injected("fdatasync", "error=EIO:when=25")).start()
    sender = Sender(server)
    sender.start()
    wait_for(lambda: sender.refusals, "the sync fails")
    at_failure = len(sender.acknowledged)
    time.sleep(1)
    sender.stop()
    assert len(sender.acknowledged) == at_failure > 0, "nothing is acknowledged after the failure"
    assert all(status == 503 and json.loads(answer)["error"]["code"] == "log_failed" for status, answer, _ in sender.refusals)
    status, reason, _ = server.get("/readyz")
    assert (status, b"failed to sync" in reason) == (503, True), reason
    assert server.value("SELECT count(insert_id) FROM logs") >= at_failure, "reads go on"
    server.kill()
    server = Server(data, *settings, config=config).start()
    check(server, [sender])
    again = Sender(server)
    again.pending = sender.pending
    again.start()
    wait_for(lambda: len(again.acknowledged) >= 40, "events are taken again")
    again.stop()
    check(server, [sender, again])
    server.stop()


@pytest.mark.parametrize("when", ["1", "2+3", "4+5"])
def test_failed_syncs_of_the_stores_lose_and_repeat_nothing(data: Path, when: str):
    """Files of tables, log entries, lake objects and the serving store are synced with fsync, the event log is not."""
    server = Server(data, *SETTINGS, config=rules(data.parent)).start()
    senders = [Sender(server) for _ in range(2)]
    for sender in senders:
        sender.start()
    # A failed sync of the event log's folder, for its first file, would end the load before it began.
    wait_for(lambda: all(len(sender.acknowledged) >= 40 for sender in senders), "events flow")
    with Injection(server.process.pid, "fsync", f"error=EIO:when={when}") as injection:
        wait_for(lambda: injection.count() >= 1, "syncs fail")
        time.sleep(2)
    for sender in senders:
        sender.stop()
    acknowledged = sum(len(sender.acknowledged) for sender in senders)
    assert server.value("SELECT count(insert_id) FROM logs") >= acknowledged, "reads go on"
    server.kill()
    server.start()
    check(server, senders)
    server.stop()


def test_a_stop_ends_in_time_on_a_disk_that_is_slow_and_the_next_start_has_everything(data: Path):
    settings = (*SETTINGS, "pipeline.flush-interval=1h")
    Server(data, *settings).start().stop()
    # Every day has files of its own, and each sync of one takes a while: the last flush needs more than ten seconds.
    server = Server(data, *settings, prefix=injected("fsync", "delay_enter=300000")).start()
    now = time.time()
    days = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - day * 86_400)) for day in range(390)]
    events = [{"timestamp": day, "message": "event", "insert_id": day} for day in days]
    assert server.events("\n".join(map(json.dumps, events)))["stored"] == len(days)
    seconds = server.stop()
    assert seconds < 10, f"the stop took {seconds:.1f} s"
    assert server.process.returncode == 0
    log = (data.parent / f"{data.name}.log").read_text()
    assert "cut off" in log, log
    server = Server(data, *settings).start()
    assert server.value("SELECT count(DISTINCT insert_id) FROM logs") == len(days)
    assert server.sql(LEDGER)[0] == [len(days), len(days)]
    server.stop()
