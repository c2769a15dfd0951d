"""The page in a real browser, on a server with generated data."""

import os
import shutil
import subprocess

import pytest

from conftest import ROOT, Server, binary, sawlog, wait_for

SHOTS = ["--screenshot", folder] if (folder := os.environ.get("SAWLOG_SCREENSHOTS")) else []


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
        script = str(ROOT / "web/e2e/live.spec.mjs")
        done = subprocess.run(["node", script, server.url, *SHOTS], capture_output=True, timeout=400, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
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
        script = str(ROOT / "web/e2e/live.spec.mjs")
        done = subprocess.run(["node", script, server.url, "--key", keys["query"], *SHOTS], capture_output=True, timeout=200, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    finally:
        server.stop()
