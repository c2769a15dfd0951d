"""Following files through the real binary: rotation, truncation, kill -9, resume; every line exactly once."""

import os
import random
import threading
import time
from pathlib import Path

from conftest import Server, sawlog, wait_for

COUNT = "SELECT count(*) FROM logs WHERE source = 'tail'"
LEDGER = (
    "SELECT coalesce(sum(received), 0), coalesce(sum(stored + duplicate + filtered + dead_lettered + rejected + in_flight), 0)"
    " FROM sawlog_ledger"
)


class Follower(Server):
    """A server with a configuration file."""

    def __init__(self, data: Path, section: str, *settings: str):
        super().__init__(data, "host-metrics.enabled=false", "query.rows-max=10000000", *settings)
        self.config = data.parent / "sawlog.toml"
        self.config.write_text(section)

    def start(self) -> "Server":
        folder = os.getcwd()
        os.chdir(self.data.parent)
        try:
            return super().start()
        finally:
            os.chdir(folder)


def messages(server: Server) -> list[str]:
    return sorted(row[0] for row in server.sql("SELECT message FROM logs WHERE source = 'tail'"))


def test_lines_rotation_truncation_and_removal(data: Path, tmp_path: Path):
    logs = tmp_path / "logs"
    logs.mkdir()
    path = logs / "app.log"
    path.write_text("2026-11-20T10:00:00Z INFO first\n2026-11-20T10:00:01Z ERROR second\nhalf a li")
    (logs / "old.log.gz").write_bytes(b"\x1f\x8b\x08\x00junk\n")
    server = Follower(data, f'[[tail]]\npaths = ["{logs}/*.log", "{logs}/*.gz"]\n').start()
    try:
        wait_for(lambda: server.value(COUNT) == 2, "the whole lines are there", 10)
        with open(path, "a") as file:
            file.write("ne\n")
        wait_for(lambda: server.value(COUNT) == 3, "the line is whole", 10)
        # Rotation by rename: the writer goes on in the old file for a moment.
        with open(path, "a") as file:
            os.rename(path, logs / "app.log.1")
            path.write_text("in the new file\n")
            file.write("late in the old file\n")
        wait_for(lambda: server.value(COUNT) == 5, "both files are read", 10)
        # Truncation in place, grown past the old length before anyone can look.
        os.truncate(path, 0)
        with open(path, "a") as file:
            file.write("after truncation\nand more, so that it is longer than before\n")
        wait_for(lambda: server.value(f"{COUNT} AND message LIKE 'and more%'") == 1, "the truncated file is read", 10)
        assert server.value(COUNT) == 7
        path.unlink()
        path.write_bytes(b"after removal\n\xff\xfe broken\n" + b"x" * (2 << 20) + b"\n" + b"the end\n")
        wait_for(lambda: server.value(f"{COUNT} AND message = 'the end'") == 1, "the new file is read", 10)
        assert server.sql("SELECT reason, log_file FROM dead_letters") == [["invalid_utf8", str(path)]]
        wait_for(lambda: server.value("SELECT sum(rejected) FROM sawlog_ledger WHERE source = 'tail'") == 1, "the long line is counted", 5)
        assert "half a line" in messages(server) and server.sql(f"{COUNT} AND message LIKE '%junk%'") == [[0]]
        assert server.sql("SELECT severity_class, log_file FROM logs WHERE message = 'second'") == [["error", str(path)]]
        received, accounted = server.sql(LEDGER)[0]
        assert received == accounted
    finally:
        server.stop()


class Writer(threading.Thread):
    """Writes numbered lines in pieces, and rotates now and then."""

    def __init__(self, path: Path):
        super().__init__(daemon=True)
        self.path = path
        self.lines: list[str] = []
        self.stopped = threading.Event()
        self.rotations = 0

    def run(self):
        random.seed(5)
        file = open(self.path, "ab", buffering=0)
        written = 0
        while not self.stopped.is_set():
            for _ in range(random.randint(1, 200)):
                line = f"line {len(self.lines)} {'x' * random.randint(0, 100)}end"
                self.lines.append(line)
                data = line.encode() + b"\n"
                cut = random.randint(0, len(data))
                file.write(data[:cut])
                file.write(data[cut:])
                written += len(data)
            if written > 400_000:
                self.rotations += 1
                written = 0
                os.rename(self.path, f"{self.path}.{self.rotations}")
                fresh = open(self.path, "ab", buffering=0)
                file.write(b"last words %d\n" % self.rotations)
                self.lines.append(f"last words {self.rotations}")
                file.close()
                file = fresh
            time.sleep(random.uniform(0, 0.02))
        file.close()


def test_every_line_is_there_once_over_kill_9_and_rotation(data: Path, tmp_path: Path):
    path = tmp_path / "busy.log"
    path.touch()
    # Files may be rotated twice while nobody looks, so the pattern finds the old names too.
    section = f'[[tail]]\npaths = ["{path}*"]\nformat = "text"\n'
    server = Follower(data, section, "pipeline.flush-interval=300ms", "wal.segment-size=256KiB").start()
    writer = Writer(path)
    wait_for(lambda: (data / "tail.json").exists(), "the file is followed", 10)
    writer.start()
    try:
        for _ in range(5):
            time.sleep(random.uniform(0.3, 1.2))
            server.kill()
            time.sleep(random.uniform(0, 0.2))
            server.start()
        writer.stopped.set()
        writer.join()
        assert len(writer.lines) > 3000 and writer.rotations >= 1, (len(writer.lines), writer.rotations)
        wait_for(lambda: server.value("SELECT count(DISTINCT message) FROM logs") >= len(writer.lines), "all lines are there", 30)
        time.sleep(0.5)
        assert messages(server) == sorted(writer.lines)
        received, accounted = server.sql(LEDGER)[0]
        assert received == accounted
        server.stop()
        server.start()
        time.sleep(0.7)
        assert server.value(COUNT) == len(writer.lines), "a restart stores nothing again"
    finally:
        writer.stopped.set()
        server.stop()


def test_mistakes_in_the_section_are_named(data: Path, tmp_path: Path):
    config = tmp_path / "bad.toml"
    config.write_text('[[tail]]\npaths = ["a"]\nformat = "xml"\n[[tail]]\npath = "b"\n')
    done = sawlog("serve", "--data", str(data), "--config", str(config))
    assert done.returncode == 2
    assert b"tail[0]" in done.stderr and b"xml" in done.stderr and b"tail[1]" in done.stderr, done.stderr
