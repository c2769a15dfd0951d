"""Background jobs: small files become one, queries and other readers never miss a row, kill -9 at any moment."""

import json
import random
import threading
import time
from pathlib import Path

from deltalake import DeltaTable

from conftest import Server, sawlog, wait_for

OFTEN = (
    "host-metrics.enabled=false",
    "pipeline.flush-interval=100ms",
    "compaction.interval=150ms",
    "compaction.files-min=3",
    "compaction.age-min=0s",
    "compaction.quiet=0s",
    "query.time-max=2s",
    "compaction.grace=2s",
    "query.rows-max=1000000",
)


def files(data: Path, table: str = "logs") -> list[Path]:
    return list((data / "tables" / table).rglob("*.parquet"))


def metric(server: Server, name: str) -> float:
    text = server.get("/metrics")[1].decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def send(server: Server, first: int, count: int = 20) -> None:
    lines = [
        {"message": f"m{first + n}", "service": f"s{n % 3}", "labels": {"n": first + n, "even": n % 2 == 0}} for n in range(count)
    ]
    server.events("\n".join(map(json.dumps, lines)))


def test_files_are_merged_beside_ingest_and_no_query_misses_a_row(data: Path):
    server = Server(data, *OFTEN).start()
    wrong: list[object] = []
    stop = threading.Event()

    def ask():
        last = 0
        while not stop.is_set():
            count, distinct = server.sql("SELECT count(*), count(DISTINCT message) FROM logs")[0]
            if count != distinct or count < last:
                wrong.append((last, count, distinct))
            last = count

    readers = [threading.Thread(target=ask) for _ in range(2)]
    for reader in readers:
        reader.start()
    for batch in range(60):
        send(server, batch * 20)
        time.sleep(0.05)
    wait_for(lambda: metric(server, "sawlog_compaction_files_in_total") > 10, "files are merged")
    wait_for(lambda: metric(server, "sawlog_swept_files_total") > 5, "old files are deleted after the grace")
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong, wrong[:5]
    assert server.value("SELECT count(*) FROM logs") == 1200
    assert server.value("SELECT count(*) FROM logs WHERE message = 'm' || attributes['n']") == 1200
    assert metric(server, "sawlog_compaction_failures_total") == 0
    server.stop()
    table = DeltaTable(str(data / "tables/logs"))
    rows = table.to_pyarrow_table(columns=["message"])
    assert rows.num_rows == 1200 == len(set(rows["message"].to_pylist()))
    operations = [entry["operation"] for entry in table.history()]
    assert "OPTIMIZE" in operations


def test_kill_9_while_files_are_merged_and_deleted_loses_and_doubles_nothing(data: Path):
    random.seed(5)
    server = Server(data, *OFTEN).start()
    sent = 0
    for _ in range(8):
        for _ in range(random.randint(5, 25)):
            send(server, sent)
            sent += 20
            time.sleep(random.uniform(0, 0.06))
        server.kill()
        server.start()
        count, distinct = server.sql("SELECT count(*), count(DISTINCT message) FROM logs")[0]
        assert count == distinct == sent
    wait_for(lambda: metric(server, "sawlog_compaction_runs_total") > 1, "jobs run")
    received, stored = server.sql("SELECT sum(received), sum(stored) FROM sawlog_ledger")[0]
    assert received == stored == sent
    server.stop()
    assert DeltaTable(str(data / "tables/logs")).to_pyarrow_table(columns=["message"]).num_rows == sent


def test_compact_works_on_a_folder_without_a_server(data: Path):
    server = Server(data, "host-metrics.enabled=false", "compaction.enabled=false", "pipeline.flush-interval=50ms").start()
    for batch in range(10):
        send(server, batch * 20)
        time.sleep(0.12)
    refused = sawlog("compact", "--data", str(data))
    assert refused.returncode == 1 and b"in use" in refused.stderr
    server.stop()
    before = len(files(data))
    assert before > 3
    settings = ["--data", str(data), "--set", "query.time-max=10ms", "--set", "compaction.grace=10ms"]
    done = sawlog("compact", "--json", *settings)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts["files_in"] >= before and counts["rows"] >= 200 and counts["failures"] == 0
    (data / "tables/logs/event_date=2020-01-01").mkdir()
    (data / "tables/logs/event_date=2020-01-01/merged-2-00.zstd.parquet").write_bytes(b"left by a crash")
    time.sleep(0.05)
    again = json.loads(sawlog("compact", "--json", *settings).stdout)
    assert again["files_in"] == 0 and again["deleted_orphans"] == 1, again
    assert len(files(data)) == 1
    asked = sawlog("query", "SELECT count(*), count(DISTINCT message) FROM logs", "--data", str(data), "--format", "json")
    assert json.loads(asked.stdout)["rows"] == [[200, 200]]


def test_settings_that_would_hurt_are_refused():
    flags = ["--set", "compaction.grace=1s", "--set", "compaction.files-min=1", "--set", "compaction.file-size=1KiB"]
    done = sawlog("config", "check", *flags)
    text = done.stderr.decode()
    assert done.returncode == 2
    for part in ["compaction.grace", "query.time-max", "compaction.files-min", "compaction.file-size"]:
        assert part in text, text


def at(day: float) -> str:
    return time.strftime("%Y-%m-%dT12:00:00Z", time.gmtime(time.time() - day * 86_400))


def history(data: Path, days: int = 20) -> None:
    lines = [json.dumps({"message": f"m{day}", "timestamp": at(day), "duration_ms": 5, "http_route": "/a"}) for day in range(days)]
    done = sawlog("ingest", "--data", str(data), stdin="\n".join(lines).encode())
    assert done.returncode == 0, done.stderr


def rows(data: Path, sql: str = "SELECT count(*) FROM logs") -> int:
    return json.loads(sawlog("query", sql, "--data", str(data), "--format", "json").stdout)["rows"][0][0]


def retention(data: Path, *flags: str) -> tuple[int, dict]:
    done = sawlog("retention", "--json", "--data", str(data), *flags)
    return done.returncode, {report["subject"]: report for report in json.loads(done.stdout)}


def test_retention_says_deletes_and_refuses(data: Path):
    history(data)
    keep = ["--set", "retention.logs=12", "--set", "retention.rollups-1m=12"]
    assert retention(data, "--set", "retention.rollups-10s=0", "--set", "retention.timelines=0", "--set", "retention.profiles=0", "--set", "retention.anomalies=0") == (0, {})
    code, plan = retention(data, "--dry-run", *keep)
    assert code == 0 and plan["logs"]["outcome"] == plan["rollup_1m"]["outcome"] == "planned", plan
    assert (plan["logs"]["rows"], plan["logs"]["rows_in_all"]) == (7, 20)
    assert rows(data) == 20
    code, done = retention(data, *keep)
    assert code == 0 and done["logs"]["outcome"] == "deleted" and done["logs"]["rows"] == 7
    assert rows(data) == 13
    assert rows(data, "SELECT count(DISTINCT window_start) FROM rollup_requests_1m") == 13
    code, refused = retention(data, "--set", "retention.logs=1")
    assert code == 1 and refused["logs"]["outcome"] == "refused"
    text = sawlog("retention", "--data", str(data), "--set", "retention.logs=1").stdout.decode()
    assert "--force" in text and "delete-percent-max" in text
    assert rows(data) == 13
    assert retention(data, "--force", "--set", "retention.logs=1")[0] == 0
    assert rows(data) == 2
    # What retention deleted is not lost: the ledger still says that it was stored.
    assert rows(data, "SELECT sum(stored) FROM sawlog_ledger") == 20
    operations = [entry["operation"] for entry in DeltaTable(str(data / "tables/logs")).history()]
    assert operations.count("DELETE") == 2


def test_a_clock_that_is_years_ahead_deletes_nothing(data: Path):
    history(data, 10)
    # The newest data is of today by the real clock: one that is right for it cannot be had without changing the clock,
    # so the data is made old instead, and the clock is the one that is far ahead of it.
    old = data.parent / "old"
    lines = [json.dumps({"message": f"m{day}", "timestamp": f"2019-05-{day:02}T00:00:00Z"}) for day in range(1, 11)]
    sawlog("ingest", "--data", str(old), stdin="\n".join(lines).encode())
    code, reports = retention(old, "--set", "retention.logs=30", "--force")
    assert code == 0 and reports["logs"]["outcome"] == "nothing" and reports["logs"]["disputed_days"] == 10
    assert rows(old) == 10


def test_retention_runs_in_the_server_and_is_counted(data: Path):
    history(data)
    settings = ("host-metrics.enabled=false", "retention.logs=12", "retention.interval=200ms", "compaction.enabled=false")
    server = Server(data, *settings, "query.time-max=1s", "compaction.grace=1s").start()
    wait_for(lambda: server.value("SELECT count(*) FROM logs") == 13, "old days are gone")
    assert metric(server, 'sawlog_retention_deleted_rows_total{subject="logs"}') == 7
    wait_for(lambda: metric(server, "sawlog_swept_files_total") == 7, "their files are deleted after the grace")
    send(server, 0)
    assert server.value("SELECT count(*) FROM logs") == 33
    server.stop()
    assert DeltaTable(str(data / "tables/logs")).to_pyarrow_table(columns=["message"]).num_rows == 33


def test_mistakes_in_retention_are_named():
    done = sawlog("config", "check", "--set", "retention.logs=-1", "--set", "retention.delete-percent-max=0", "--set", "retention.lake=30d")
    text = done.stderr.decode()
    assert done.returncode == 2 and all(key in text for key in ["retention.logs", "delete-percent-max", "retention.lake"]), text
