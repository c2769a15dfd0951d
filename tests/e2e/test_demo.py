"""`sawlog demo` and what the Makefile does around it."""

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from conftest import ROOT, binary, missing, request, wait_for

USUAL_PORTS = [7070, 4317, 4318, 5433]


@pytest.fixture
def taken_ports():
    """The usual ports, all in use."""
    held = []
    for port in USUAL_PORTS:
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind(("127.0.0.1", port))
            holder.listen()
        except OSError:
            pass  # Somebody else has it, which is as good.
        held.append(holder)
    yield
    for holder in held:
        holder.close()


def test_the_demo_answers_three_questions_and_stops_cleanly(data: Path, taken_ports, tmp_path: Path):
    printed, journalctl = tmp_path / "printed", tmp_path / "journalctl"
    journalctl.write_text("#!/bin/sh\nfor n in 1 2 3; do echo \"Jan 0$n 10:00:00 host sshd[$n]: session opened\"; done\n")
    journalctl.chmod(0o755)
    with open(printed, "wb") as out:
        demo = subprocess.Popen(
            [binary(), "demo", "--data", str(data), "--rate", "20"],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        )
    try:
        wait_for(lambda: demo.poll() is not None or "Ctrl-C stops" in printed.read_text(), "the demo says that it is there", 120)
        text = printed.read_text()
        assert demo.poll() is None, text
        opened = re.search(r"Open (http://127\.0\.0\.1:(\d+)) ", text)
        assert opened and int(opened[2]) not in USUAL_PORTS, text
        assert re.search(r"bundled sample: 120 records, 120 stored, 0 there already, 0 dead-lettered", text), text
        has_journal = any(Path(folder).is_dir() for folder in ("/var/log/journal", "/run/log/journal"))
        journal = "the systemd journal: " + ("3 records, 3 stored" if has_journal else "left out (there is none)")
        assert journal in text, text
        commands = re.findall(r"^  (\S+ query --url .*)$", text, re.MULTILINE)
        assert len(commands) == 3, text
        answers = text.count("+\n|")
        assert answers >= 3, f"each question has its answer: {text}"
        for command in commands:
            done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
            assert done.returncode == 0 and len(done.stdout.splitlines()) >= 5, (command, done)
        status, page, _ = request("GET", opened[1] + "/", None, {"Accept": "text/html"})
        assert status == 200 and b"<html" in page
        late = f"{binary()} query --url {opened[1]} --format csv 'SELECT max(late) FROM sawlog_ledger'"
        lines = subprocess.run(late, shell=True, capture_output=True, timeout=60, check=True).stdout.split()
        assert int(lines[1]) < 20, "the history is in the rollups; of the live stream a few events come late on purpose"
        known = "SELECT count(*), count(user_segment), count(country) FROM logs WHERE user_id IS NOT NULL AND source = 'generate'"
        query = [binary(), "query", "--url", opened[1], "--format", "csv", known]
        lines = subprocess.run(query, capture_output=True, timeout=60, check=True).stdout.split()
        users, with_segment, with_country = map(int, lines[1].split(b","))
        assert users == with_segment == with_country > 100, "the demo knows its users"
        count = f"{binary()} query --url {opened[1]} --format csv 'SELECT count(*) FROM logs'"

        def logs() -> int:
            return int(subprocess.run(["sh", "-c", count], capture_output=True, text=True, timeout=60, check=True).stdout.split()[1])

        loaded = logs()
        assert loaded > 1000
        wait_for(lambda: logs() > loaded, "the stream goes on")
        started = time.monotonic()
        demo.send_signal(signal.SIGINT)
        assert demo.wait(timeout=20) == 0, printed.read_text()
        assert time.monotonic() - started < 10
    finally:
        demo.kill()
        demo.wait()


def test_the_demo_can_be_stopped_while_it_loads(data: Path):
    with subprocess.Popen([binary(), "demo", "--data", str(data)], stdout=subprocess.PIPE, text=True) as demo:
        for line in demo.stdout:
            if line.startswith("Loading"):
                break
        started = time.monotonic()
        demo.send_signal(signal.SIGINT)
        demo.stdout.read()
        assert demo.wait(timeout=20) == 0
        assert time.monotonic() - started < 10


def make(folder: Path, *targets: str, path: str | None = None) -> subprocess.CompletedProcess:
    environment = {**os.environ, "CARGO_TARGET_DIR": str(folder / "target")}
    program = next((f"{part}/make" for part in os.environ["PATH"].split(":") if Path(part, "make").exists()), None)
    if not program:
        missing("make is missing: apt-get install make")
    environment["PATH"] = path or environment["PATH"]
    return subprocess.run(
        [program, "-f", str(ROOT / "Makefile"), *targets], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_demo_clean_removes_what_the_demo_stored_and_nothing_else(tmp_path: Path):
    (tmp_path / "sawlog-data/demo/wal").mkdir(parents=True)
    (tmp_path / "sawlog-data/wal").mkdir()
    for _ in range(2):
        done = make(tmp_path, "demo-clean")
        assert done.returncode == 0, done
        assert [path.name for path in (tmp_path / "sawlog-data").iterdir()] == ["wal"]


def test_missing_and_old_tools_are_named_with_their_install_line_before_anything_is_built(tmp_path: Path):
    (tmp_path / "Cargo.toml").write_text((ROOT / "Cargo.toml").read_text())
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ["sh", "sed", "cut", "sort", "head", "printf"]:
        found = next((Path(part, name) for part in os.environ["PATH"].split(":") if Path(part, name).exists()), None)
        if found:
            (programs / name).symlink_to(found)
    done = make(tmp_path, "demo", path=str(programs))
    assert done.returncode != 0
    assert "missing: cc — apt-get install build-essential" in done.stdout, done
    assert "missing: cargo — install Rust with rustup" in done.stdout, done
    old = programs / "rustc"
    old.write_text("#!/bin/sh\necho 'rustc 1.9.0 (old)'\n")
    old.chmod(0o755)
    done = make(tmp_path, "demo", path=str(programs))
    assert re.search(r"too old: Rust 1\.9\.0, \S+ is needed — rustup update stable", done.stdout), done
    assert "building" not in done.stdout
