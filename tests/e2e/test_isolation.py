"""Queries and ingest beside each other: a query may wait or die, ingest goes on, and what is acknowledged is soon seen."""

import json
import os
import socket
import statistics
import threading
import time
import uuid
from pathlib import Path

from conftest import Server, request, wait_for

# So much work that no machine finishes it within the tests' limits of time; and none of it can be skipped.
HEAVY = [
    "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b WHERE (a.value * b.value) % 7 = 3",
    "SELECT a.value, count(*) FROM generate_series(1, 3000000) a, generate_series(1, 1000) b GROUP BY 1 ORDER BY 2 LIMIT 1",
]
BODY = "\n".join(json.dumps({"message": f"m{n}", "service": "s", "duration_ms": n}) for n in range(100))
# The clock ticks of /proc/PID/stat.
TICKS = os.sysconf("SC_CLK_TCK")


def latencies(server: Server, count: int) -> list[float]:
    found = []
    for _ in range(count):
        started = time.monotonic()
        server.events(BODY)
        found.append(time.monotonic() - started)
        time.sleep(0.02)
    return found


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def is_busy(server: Server) -> bool:
    before = cpu_seconds(server.process.pid)
    time.sleep(0.5)
    return cpu_seconds(server.process.pid) - before > 0.2


def test_ingest_keeps_its_pace_while_queries_run_into_their_limits(data: Path):
    server = Server(data, "host-metrics.enabled=false", "query.time-max=4s", "query.memory-max=128MiB").start()
    alone = latencies(server, 40)
    ended: list[tuple[int, str]] = []
    stopped = threading.Event()

    def ask(sql: str):
        while not stopped.is_set():
            status, answer, _ = server.post("/v1/sql", json.dumps({"query": sql}), {"Content-Type": "application/json"})
            ended.append((status, json.loads(answer)["error"]["code"]))

    askers = [threading.Thread(target=ask, args=(HEAVY[n % 2],)) for n in range(6)]
    for asker in askers:
        asker.start()
    time.sleep(0.5)
    beside = []
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        beside += latencies(server, 10)
    stopped.set()
    for asker in askers:
        asker.join(timeout=30)
    assert len(ended) >= 8 and set(ended) <= {(408, "sql_timeout"), (422, "sql_memory")}, ended
    # All cores are busy with queries, so that a share of them is lost to scheduling, but no turn is waited for.
    limit = 0.1 + 5 * statistics.median(alone)
    assert statistics.median(beside) < limit, (statistics.median(alone), statistics.median(beside))
    assert statistics.quantiles(beside, n=100)[98] < 1.5, sorted(beside)[-5:]
    assert server.value("SELECT count(*) FROM logs") == 100 * (len(alone) + len(beside))
    server.stop()


def test_a_client_that_hangs_up_ends_its_query(data: Path):
    server = Server(data, "host-metrics.enabled=false", "compaction.enabled=false", "query.time-max=120s").start()
    address = server.url.removeprefix("http://").split(":")
    for sql in HEAVY:
        body = json.dumps({"query": sql}).encode()
        head = f"POST /v1/sql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection((address[0], int(address[1]))) as client:
            client.sendall(head.encode() + body)
            wait_for(lambda: is_busy(server), "the query runs")
        wait_for(lambda: not is_busy(server), "the query ends with its connection", 10)
    assert server.value("SELECT 1") == 1
    server.stop()


def test_an_acknowledged_event_is_visible_within_a_second_under_load(data: Path):
    """Through flushes, which swap rows in memory for files, and beside other senders and queries."""
    settings = ("host-metrics.enabled=false", "pipeline.flush-interval=300ms", "compaction.interval=500ms", "compaction.age-min=0s")
    server = Server(data, *settings).start()
    stopped = threading.Event()

    def send():
        while not stopped.is_set():
            server.events(BODY)
            time.sleep(0.02)

    senders = [threading.Thread(target=send) for _ in range(2)]
    for sender in senders:
        sender.start()
    waits = []
    for _ in range(25):
        id = uuid.uuid4().hex
        assert server.events(json.dumps({"message": "mark", "insert_id": id}), ack="disk")["ack"] == "disk"
        acknowledged = asked = time.monotonic()
        while True:
            asked = time.monotonic()
            if server.value(f"SELECT count(*) FROM logs WHERE insert_id = '{id}'") == 1:
                break
            assert asked - acknowledged < 10, "the event is not seen"
        # What counts is when the query that sees it began, not how long it took.
        waits.append(asked - acknowledged)
    stopped.set()
    for sender in senders:
        sender.join(timeout=30)
    assert max(waits) < 1, waits
    server.stop()


def test_a_server_with_all_turns_taken_still_says_how_it_is(data: Path):
    server = Server(data, "host-metrics.enabled=false", "query.time-max=3s", "query.concurrent-max=1").start()
    asker = threading.Thread(target=lambda: request("POST", server.url + "/v1/sql", HEAVY[0].encode(), {"Content-Type": "text/plain"}))
    asker.start()
    for path in ["/healthz", "/readyz", "/metrics"]:
        started = time.monotonic()
        assert server.get(path)[0] == 200
        assert time.monotonic() - started < 1, path
    asker.join()
    server.stop()
