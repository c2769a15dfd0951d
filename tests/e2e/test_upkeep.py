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
    server.events("\n".join(json.dumps({"message": f"m{first + n}", "service": f"s{n % 3}"}) for n in range(count)))


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
