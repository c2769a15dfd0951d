"""The page in a real browser, on a server with generated data."""

import json
import os
import random
import shutil
import subprocess
import threading
import time

import pytest

from conftest import ROOT, Server, binary, sawlog, wait_for

SHOTS = ["--screenshot", folder] if (folder := os.environ.get("SAWLOG_SCREENSHOTS")) else []


def look(script: str, server: Server, *arguments: str) -> None:
    """Runs a browser test against a server."""
    command = ["node", str(ROOT / "web/e2e" / script), server.url, *arguments, *SHOTS]
    done = subprocess.run(command, capture_output=True, timeout=400, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_the_page_shows_live_data_and_runs_nothing_that_events_say(data):
    if not shutil.which("node"):
        pytest.fail("node is missing")
    server = Server(data, "host-metrics.interval=1s").start()
    load = subprocess.Popen([binary(), "generate", "--rate", "100", "--url", server.url], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: server.value("SELECT count(*) FROM activity") > 0, "activity is there")
        host = "SELECT count(DISTINCT metric_name) FROM metrics WHERE metric_name LIKE 'system.%.utilization'"
        wait_for(lambda: server.value(host) == 3, "host metrics are there")
        wait_for(lambda: server.value("SELECT coalesce(sum(duration_count), 0) FROM rollup_requests_1m") > 0, "latencies")
        look("live.spec.mjs", server)
    finally:
        load.terminate()
        load.wait()
        server.stop()


def test_the_page_of_a_keyed_server_asks_for_the_key(data):
    if not shutil.which("node"):
        pytest.fail("node is missing")
    keys = {}
    for scope in ("ingest", "query"):
        made = sawlog("key", "create", "--name", scope, "--scope", scope, "--data", str(data))
        keys[scope] = made.stdout.decode().strip()
    server = Server(data, "host-metrics.enabled=false").start()
    try:
        sent = server.post("/v1/events", '{"message":"hello"}', {"Authorization": f"Bearer {keys['ingest']}"})
        assert sent[0] == 200
        look("live.spec.mjs", server, "--key", keys["query"])
    finally:
        server.stop()


ERRORS_RULE = """
[[alerts]]
name = "errors"
kind = "ratio"
width = "10s"
group-by = ["service"]
value = 0.2
min-count = 4
resolve-after = "5m"
"""


def request(second: float, version: str, is_bad: bool) -> dict:
    """A request of the shop, of which every fiftieth fails, or four of five where something is wrong."""
    level = "error" if random.random() < (0.8 if is_bad else 0.02) else "info"
    record = {"timestamp": second, "level": level, "service": "shop", "service_version": version, "message": "asked"}
    return record | {"duration_ms": random.randint(20, 40), "http_route": "/pay", "method": "GET"}


def visit(now: float) -> list[dict]:
    """131 events of one user, the newest of them an error."""
    of_user = {"user_id": "u/4711", "service": "shop"}
    pages = [{"event": "page_view", "page": page, "device": "phone"} | of_user for page in ["/cart"] + ["/search"] * 128 + ["/pay"]]
    events = [page | {"timestamp": now - 131 + second} for second, page in enumerate(pages)]
    failure = {"timestamp": now, "level": "error", "message": '<b>no stock</b><img src=x onerror="window.__pwned = 1">', "cart": "c-1"}
    return [*events, failure | of_user]


def test_the_page_shows_an_incident_and_the_user_it_met(data):
    if not shutil.which("node"):
        pytest.fail("node is missing")
    random.seed(5)
    now = int(time.time()) // 60 * 60
    incident = now - 5 * 60
    with open(data.parent / "history.ndjson", "w") as file:
        for second in range(now - 5 * 3_600, now - 60, 6):
            for version in ("1.9.1", "1.9.2"):
                file.write(json.dumps(request(second, version, second >= incident and version == "1.9.2")) + "\n")
    config = data.parent / "sawlog.toml"
    config.write_text(ERRORS_RULE)
    assert sawlog("ingest", str(data.parent / "history.ndjson"), "--data", str(data)).returncode == 0
    server = Server(data, "windows.out-of-orderness=1s", "host-metrics.enabled=false", config=config).start()
    is_over = threading.Event()

    def go_on() -> None:
        while not is_over.wait(0.5):
            server.events("\n".join(json.dumps(request(time.time(), version, version == "1.9.2")) for version in ("1.9.1", "1.9.2")))

    server.events("\n".join(map(json.dumps, visit(time.time()))))
    load = threading.Thread(target=go_on)
    load.start()
    try:
        firing = "SELECT count(*) FROM alert_events WHERE rule = 'errors' AND change = 'firing'"
        wait_for(lambda: server.value(firing) > 0, "the alert fires", 90)
        assert json.loads(server.get("/v1/alerts")[1])["rules"] == ["errors"]
        look("incident.spec.mjs", server)
    finally:
        is_over.set()
        load.join()
        server.stop()
