"""What is said of complete windows: anomalies with their causes, alerts that late data corrects, silence, and kill -9."""

import json
import random
import time
from pathlib import Path

from conftest import Server, sawlog, wait_for

QUICK = ("windows.out-of-orderness=1s", "windows.idle-timeout=1s", "host-metrics.enabled=false")

ERRORS = """
[[alerts]]
name = "errors"
kind = "ratio"
width = "10s"
group-by = ["service"]
value = 0.5
min-count = 4
resolve-after = "5m"
severity = "critical"
labels = { team = "shop" }
"""


def post(server: Server, *events: dict) -> dict:
    return server.events("\n".join(map(json.dumps, events)))


def log(at: float, level: str = "info", **fields) -> dict:
    return {"timestamp": at, "level": level, "service": "shop", "message": "m", **fields}


def config(folder: Path, text: str) -> Path:
    path = folder / "sawlog.toml"
    path.write_text(text)
    return path


def alerts(server: Server) -> list[dict]:
    status, body, _ = server.get("/v1/alerts")
    assert status == 200, body
    return json.loads(body)["alerts"]


def window_of(at: float) -> float:
    return at - at % 10


def test_an_incident_is_found_with_its_cause_and_the_state_survives_kill_9(data: Path):
    """Five hours of history, in whose last minutes one version of one service fails."""
    random.seed(5)
    now = int(time.time()) // 60 * 60
    start, incident = now - 5 * 3_600, now - 4 * 60
    with open(data.parent / "history.ndjson", "w") as file:
        for second in range(start, now - 60, 2):
            for service, version in (("shop", "1.9.1"), ("shop", "1.9.2"), ("cart", "3.0")):
                is_bad = second >= incident and version == "1.9.2"
                level = "error" if random.random() < (0.8 if is_bad else 0.02) else "info"
                record = log(second, level, service=service, service_version=version, duration_ms=random.randint(20, 40))
                file.write(json.dumps(record | {"http_route": "/pay", "method": "GET"}) + "\n")
    assert sawlog("ingest", str(data.parent / "history.ndjson"), "--data", str(data)).returncode == 0
    server = Server(data, *QUICK).start()
    found = """SELECT service, reason, contributors[1]['service_version'], value > expected_high, kind, window_end - episode_start < interval '10 minutes'
        FROM anomalies WHERE signal = 'error_ratio' AND scope = 'service' ORDER BY score DESC"""
    rows = wait_for(lambda: server.sql(found), "what was loaded is judged when loading has paused")
    assert rows and {row[0] for row in rows} == {"shop"}, rows
    service, reason, version, is_above, kind, is_recent = rows[0]
    assert (version, is_above, is_recent) == ("1.9.2", True, True) and "%" in reason and kind, rows
    scores = "SELECT count(*), count(DISTINCT (signal, scope, service, metric_name, host, series, event_name, window_start)) FROM anomaly_scores"
    [[count, distinct]] = server.sql(scores)
    assert count == distinct > 1_000
    server.kill()
    server.start()
    assert server.sql(scores) == [[count, distinct]] and server.sql(found) == rows
    server.stop()
    server.start()
    assert server.sql(found) == rows and server.value("SELECT count(*) - count(DISTINCT (signal, scope, service, metric_name, host, series, event_name, window_start)) FROM anomaly_scores") == 0
    metrics = server.get("/metrics")[1].decode()
    assert int(metrics.split("\nsawlog_anomaly_series ")[1].split()[0]) > 5
    server.stop()


def test_an_alert_waits_for_the_watermark_fires_once_and_is_taken_back_by_late_data(data: Path):
    server = Server(data, *QUICK, "pipeline.flush-interval=300ms", config=config(data.parent, ERRORS)).start()
    start = window_of(time.time() - 60)
    keep_open = lambda: post(server, log(time.time(), service="other"))  # noqa: E731
    post(server, *(log(start + 1 + number / 10, "error") for number in range(5)), log(start + 2, "error", service="few"))
    events = "SELECT rule, dimensions['service'], change, state, value, severity, labels['team'] FROM alert_events ORDER BY sequence"
    keep_open()
    fired = ["errors", "shop", "firing", "firing", 1.0, "critical", "shop"]
    assert wait_for(lambda: server.sql(events), "the window is complete and the alert fires") == [fired]
    assert [(one["rule"], one["group"], one["state"]) for one in alerts(server)] == [("errors", {"service": "shop"}, "firing")]
    server.kill()
    server.start()
    assert server.sql(events) == [fired], "told once, whatever happens"
    post(server, *(log(start + 3 + number / 10) for number in range(20)))
    changes = wait_for(lambda: (found := server.sql(events))[1:] and found, "late data changes the verdict")
    assert [row[2] for row in changes][:2] == ["firing", "retracted"], changes
    assert alerts(server) == []
    server.stop()
    server.start()
    assert [row[2] for row in server.sql(events)][:2] == ["firing", "retracted"]
    server.stop()


def test_silence_is_told_although_nothing_arrives(data: Path):
    rule = '[[alerts]]\nname = "quiet"\nkind = "silence"\nwidth = "10s"\ngroup-by = ["service"]\nfor = "10s"\n'
    server = Server(data, *QUICK, config=config(data.parent, rule)).start()
    post(server, *(log(time.time() - 25 + second) for second in range(25)))
    assert server.sql("SELECT * FROM alert_events") == []
    wait_for(lambda: server.sql("SELECT change FROM alert_events WHERE rule = 'quiet' AND change = 'firing'"), "silence is told", 90)
    post(server, log(time.time()))
    wait_for(lambda: server.sql("SELECT change FROM alert_events WHERE change = 'resolved'"), "it ends", 90)
    server.stop()


def test_rules_that_make_no_sense_are_refused_with_place_and_remedy(data: Path):
    text = ERRORS.replace('"ratio"', '"ration"') + ERRORS.replace("min-count", "minimum")
    run = sawlog("config", "check", "--config", str(config(data.parent, text)))
    said = (run.stdout + run.stderr).decode()
    assert run.returncode != 0
    assert "ration" in said and "threshold, ratio, anomaly, silence or burn-rate" in said, said
    assert "minimum" in said and "sawlog.toml:" in said, said
