"""What reaches the disk: every file and name is synced before the event log lets go, and a failed sync is final."""

import json
import re
import shutil
import subprocess
from pathlib import Path

from conftest import Server, binary, missing

CALL = re.compile(r"^\d+\s+(fsync|fdatasync|link|linkat|rename|renameat2?|unlink|unlinkat)\((.*)\)\s+= 0")
PATH = re.compile(r'<([^<>]+)>|"([^"]+)"')


def need_strace():
    if not shutil.which("strace"):
        missing("strace is missing: apt-get install strace")


def calls(trace: Path) -> list[tuple[str, list[str]]]:
    """Successful calls in order, each with the paths that it names."""
    found = []
    unfinished: dict[str, str] = {}
    for line in trace.read_text(errors="replace").splitlines():
        thread = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            unfinished[thread] = line.removesuffix("<unfinished ...>").rstrip()
            continue
        if "resumed>" in line and thread in unfinished:
            line = unfinished.pop(thread) + line.split("resumed>", 1)[1].strip()
        match = CALL.match(line)
        if match:
            named = PATH.findall(match[2])
            # Calls on open files show the path with `-y`, the others quote it.
            paths = [quoted for _, quoted in named if quoted] or [shown for shown, _ in named]
            found.append((match[1], paths))
    return found


def test_files_names_and_log_entries_are_synced_in_this_order(tmp_path: Path):
    need_strace()
    data, trace = tmp_path / "data", tmp_path / "trace"
    days = [f"2026-{month:02}-{day:02}" for month in range(1, 11) for day in range(1, 11)]
    lines = [json.dumps({"message": f"m{day}", "timestamp": f"{day}T12:00:00Z"}) for day in days]
    strace = ["strace", "-f", "-y", "-s", "300", "-o", str(trace)]
    strace += ["-e", "trace=fsync,fdatasync,link,linkat,rename,renameat,renameat2,unlink,unlinkat"]
    done = subprocess.run(
        [*strace, binary(), "ingest", "--data", str(data)], input="\n".join(lines).encode(), capture_output=True, check=False
    )
    if b"ptrace" in done.stderr.lower() and done.returncode != 0:
        missing(f"strace may not trace here: {done.stderr[-300:]!r}")
    assert done.returncode == 0, done.stderr
    made = calls(trace)
    synced_at: dict[str, int] = {}
    for index, (call, paths) in enumerate(made):
        if call in ("fsync", "fdatasync"):
            synced_at.setdefault(paths[0], index)
    released = [index for index, (call, paths) in enumerate(made) if call in ("rename", "renameat", "renameat2") and paths[-1].endswith("checkpoint.json")]
    released = released[-1]
    files = [str(path) for path in (data / "tables/logs").rglob("*.parquet")]
    assert len(files) == len(days)
    for file in files:
        assert synced_at.get(file, released) < released, f"{file} was not synced before the checkpoint moved"
        assert synced_at.get(str(Path(file).parent), released) < released, f"the name of {file} was not synced"
    entries = [(index, paths) for index, (call, paths) in enumerate(made) if call in ("link", "linkat") and paths[-1].endswith(".json")]
    logged = [index for index, paths in entries if "tables/logs/_delta_log" in paths[-1]]
    assert len(logged) == 2, "one entry makes the table, one adds the rows"
    for index, paths in entries:
        staged, folder = paths[-2], str(Path(paths[-1]).parent)
        assert synced_at.get(staged, index) < index, f"{paths[-1]} got its name before its content was synced"
        assert any(call == "fsync" and synced == [folder] for call, synced in made[index + 1 : released]), folder
    commit = logged[-1]
    assert all(synced_at[file] < commit for file in files), "the commit names files that are not on the disk yet"


def test_a_rotten_record_of_the_event_log_is_set_aside_and_costs_nothing_else(data: Path):
    """One bit of a batch in the middle changes on the disk while the server is down: its neighbours are all there, the
    damaged bytes are kept aside, and the loss is reported."""
    server = Server(data, "host-metrics.enabled=false", "pipeline.flush-interval=1h").start()
    for number in range(60):
        server.events(json.dumps({"message": f"event-{number:03}"}))
    server.kill()
    segment = next(path for path in (data / "wal").iterdir() if path.is_file() and b"event-030" in path.read_bytes())
    content = bytearray(segment.read_bytes())
    content[content.index(b"event-030")] ^= 0x10
    segment.write_bytes(content)
    server.start()
    found = {row[0] for row in server.sql("SELECT message FROM logs")}
    assert found == {f"event-{number:03}" for number in range(60) if number != 30}
    aside = list((data / "wal/quarantine").glob("*.bad"))
    assert len(aside) == 1 and b"vent-030" in aside[0].read_bytes(), aside
    assert "part of the event log is lost" in server.log()
    assert "sawlog_wal_quarantined_records_total 1" in server.get("/metrics")[1].decode()
    server.events(json.dumps({"message": "event-new"}))
    server.stop()
    server.start()
    assert server.value("SELECT count(DISTINCT message) FROM logs") == server.value("SELECT count(*) FROM logs") == 60
    server.stop()
