"""`sawlog recount`: what came too late is made good, once, over kill -9 at any moment."""

import datetime
import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Server, binary, sawlog

QUICK = (
    "windows.out-of-orderness=1s",
    "windows.idle-timeout=1s",
    "windows.allowed-lateness=10s",
    "host-metrics.enabled=false",
)
HOUR = 3_600
DAY = 24 * HOUR


def post(server: Server, *events: dict) -> dict:
    return server.events("\n".join(map(json.dumps, events)))


def noon() -> float:
    """Noon of the day before yesterday: a day whose windows of all widths have been complete for long."""
    return (time.time() // DAY - 2) * DAY + DAY / 2


def events(service: str, start: float, count: int, step: float = 7.0) -> list[dict]:
    return [
        {
            "timestamp": start + number * step,
            "service": service,
            "level": "error" if number % 4 == 0 else "info",
            "path": "/cart",
            "duration_ms": number,
            "user_id": f"u{number % 9}",
            "message": f"{service} {number}",
        }
        for number in range(count)
    ]


def metrics(start: float, values: list[float]) -> list[dict]:
    return [
        {"timestamp": start + number * 13, "metric": "queue", "value": value, "host": "h"}
        for number, value in enumerate(values)
    ]


def activity(start: float, count: int) -> list[dict]:
    return [
        {"timestamp": start + number * 11, "event": "buy", "user_id": f"a{number}", "country": "de"} for number in range(count)
    ]


def recount(data: Path, *arguments: str) -> tuple[int, dict]:
    day = datetime.datetime.fromtimestamp(noon(), datetime.UTC).date().isoformat()
    settings = [flag for setting in QUICK for flag in ("--set", setting)]
    done = sawlog("recount", "--from", day, "--to", day, "--data", str(data), "--format", "json", *settings, *arguments)
    assert done.returncode in (0, 1) and done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


def of_rollup(answer: dict, name: str) -> dict:
    return next(report for report in answer["rollups"] if report["rollup"] == name)


@pytest.fixture
def late(data: Path) -> Path:
    """A folder with 200 log records, 20 values and 20 purchases in time, and 60, 10 and 5 that came too late."""
    server = Server(data, *QUICK).start()
    post(server, *events("shop", noon(), 200), *metrics(noon(), [1.5] * 20), *activity(noon(), 20))
    # Time goes on: what belongs to noon is late from now on.
    post(server, {"timestamp": time.time(), "service": "now"})
    answer = post(
        server,
        *events("shop", noon() + 3, 40),
        *events("new", noon() + HOUR, 20),
        *metrics(noon() + 1, [4.0] * 10),
        *activity(noon() + 5, 5),
    )
    assert answer["stored"] == 75
    assert server.value("SELECT sum(late) FROM sawlog_ledger") == 75, "the test needs late events"
    server.stop()
    return data


COUNTS = {
    "requests by hour": "SELECT service, sum(count), sum(error_count) FROM rollup_requests_1h WHERE service <> 'now' GROUP BY 1 ORDER BY 1",
    "requests by ten seconds": "SELECT service, sum(count), sum(error_count) FROM rollup_requests_10s WHERE service <> 'now' GROUP BY 1 ORDER BY 1",
    "panes": "SELECT service, sum(count), sum(error_count) FROM pane_requests_latest WHERE width = '1m' AND service <> 'now' GROUP BY 1 ORDER BY 1",
    "rows": "SELECT service, count(*), count(*) FILTER (WHERE severity_class = 'error') FROM logs WHERE service <> 'now' GROUP BY 1 ORDER BY 1",
    "metrics": "SELECT count, sum FROM rollup_metrics_1h WHERE metric_name = 'queue'",
    "activity": "SELECT sum(count), max(user_count) FROM rollup_activity_1h WHERE event_name = 'buy'",
    "top": "SELECT value, sum(count) FROM rollup_top_1h WHERE dimension = 'route' AND window_start < now() - interval '1 day' GROUP BY 1",
}
RIGHT = {
    "requests by hour": [["new", 20, 5], ["shop", 240, 60]],
    "requests by ten seconds": [["new", 20, 5], ["shop", 240, 60]],
    "panes": [["new", 20, 5], ["shop", 240, 60]],
    "rows": [["new", 20, 5], ["shop", 240, 60]],
    "metrics": [[30, 70.0]],
    "activity": [[25, 20]],
    "top": [["/cart", 260]],
}


def counts(data: Path) -> dict:
    """What the folder says, through a server of its own; no pane may be there twice."""
    server = Server(data, *QUICK).start()
    found = {name: server.sql(query) for name, query in COUNTS.items()}
    for table, key in (("pane_requests", "service, http_route"), ("pane_users", "service"), ("pane_activity", "event_name")):
        twice = f"SELECT count(*) - count(DISTINCT (width, window_start, pane_index, {key})) FROM {table}"
        assert server.value(twice) == 0, f"a pane of {table} is there twice"
    server.stop()
    return found


def test_late_events_are_told_corrected_and_then_right(late: Path):
    before = counts(late)
    assert before["requests by hour"] == [["shop", 200, 50]] and before["metrics"] == [[20, 30.0]]

    code, told = recount(late, "--check")
    assert code == 1 and not told["agrees"] and told["corrected"] == 0
    requests = of_rollup(told, "requests")
    assert requests["events_added"] == 60 and 0 < requests["differing"] < requests["windows"]
    assert of_rollup(told, "metrics")["events_added"] == 10 and of_rollup(told, "activity")["events_added"] == 5
    assert of_rollup(told, "users")["events_added"] is None
    assert {difference["key"]["service"] for difference in requests["differences"]} <= {"shop", "new"}
    first = min(requests["differences"], key=lambda difference: (difference["window_start"], difference["width"]))
    assert first["recounted_events"] > first["stored_events"]
    assert counts(late) == before, "a check changes nothing"

    code, corrected = recount(late)
    assert code == 0 and corrected["corrected"] == corrected["differing"] == told["differing"]
    assert counts(late) == RIGHT
    assert recount(late)[1]["differing"] == 0, "a second run has nothing to correct"
    assert recount(late, "--check")[0] == 0
    assert counts(late) == RIGHT


def test_corrected_panes_are_late_and_follow_the_ones_before(late: Path):
    recount(late)
    server = Server(late, *QUICK).start()
    panes = "FROM pane_requests WHERE width = '1h' AND service IN ('shop', 'new')"
    rows = server.sql(f"SELECT service, pane_index, pane_timing, count {panes} ORDER BY service, pane_index")
    assert rows[-1][1:] == [rows[-2][1] + 1, "late", 240] and rows[-2][3] == 200, "the pane before stays as history"
    assert [row[1:] for row in rows if row[0] == "new"] == [[0, "late", 20]], "a window that the stream never had"
    server.stop()


def test_kill_9_at_any_moment_and_again_is_right(late: Path, tmp_path: Path):
    settings = [flag for setting in QUICK for flag in ("--set", setting)]
    started = time.monotonic()
    copy = tmp_path / "measured"
    shutil.copytree(late, copy)
    recount(copy)
    whole = time.monotonic() - started
    killed = 0
    for attempt in range(10):
        copy = tmp_path / f"copy{attempt}"
        shutil.copytree(late, copy)
        day = datetime.datetime.fromtimestamp(noon(), datetime.UTC).date().isoformat()
        arguments = ["recount", "--from", day, "--data", str(copy), *settings]
        with subprocess.Popen([binary(), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(whole * (attempt + 1) / 11)
            killed += process.poll() is None
            process.kill()
        code, _ = recount(copy)
        assert code == 0
        assert counts(copy) == RIGHT, f"killed after {attempt + 1} elevenths"
        assert recount(copy, "--check")[0] == 0
        shutil.rmtree(copy)
    assert killed >= 3, "the test must kill some while they run"


def test_events_under_other_stay_there(data: Path):
    few = (*QUICK, "rollups.series-max=3")
    server = Server(data, *few).start()
    post(server, *(event for number in range(6) for event in events(f"s{number}", noon(), 10)))
    post(server, {"timestamp": time.time(), "service": "s0"})
    post(server, *events("s1", noon() + 2, 5), *events("s5", noon() + 3, 5))
    by_service = "SELECT service, sum(count) FROM rollup_requests_1h WHERE window_start < now() - interval '1 day' GROUP BY 1"
    assert dict(server.sql(by_service)) == {"s0": 10, "s1": 10, "s2": 10, "__other__": 30}
    server.stop()
    assert recount(data, "--set", "rollups.series-max=3")[0] == 0
    server.start()
    assert dict(server.sql(by_service)) == {"s0": 10, "s1": 15, "s2": 10, "__other__": 35}
    server.stop()
    assert recount(data, "--check", "--set", "rollups.series-max=3")[0] == 0


def test_windows_that_the_stream_may_still_change_are_left_to_it(data: Path):
    server = Server(data, *QUICK, "windows.allowed-lateness=1h").start()
    post(server, {"timestamp": time.time(), "service": "shop"})
    server.stop()
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    done = sawlog("recount", "--from", today, "--data", str(data), "--format", "json", "--check")
    requests = of_rollup(json.loads(done.stdout), "requests")
    assert (done.returncode, requests["windows"], requests["open"]) == (0, 0, 3)


def test_a_folder_in_use_and_days_that_are_none_are_told(data: Path):
    server = Server(data, *QUICK).start()
    done = sawlog("recount", "--from", "2026-01-01", "--data", str(data))
    assert done.returncode == 1 and b"in use" in done.stderr and not done.stdout, done.stderr
    server.stop()
    wrong = sawlog("recount", "--from", "2026-02-30", "--data", str(data))
    assert wrong.returncode == 2 and b"calendar" in wrong.stderr and b"--from" in wrong.stderr
    backwards = sawlog("recount", "--from", "2026-02-03", "--to", "2026-02-01", "--data", str(data))
    assert backwards.returncode == 1 and b"--to 2026-02-01 is before --from 2026-02-03" in backwards.stderr
    text = sawlog("recount", "--from", "2026-02-03", "--data", str(data))
    assert text.returncode == 0 and text.stdout.endswith(b"no window was compared\n"), text.stdout


def test_people_read_what_differs(late: Path):
    day = datetime.datetime.fromtimestamp(noon(), datetime.UTC).date().isoformat()
    settings = [flag for setting in QUICK for flag in ("--set", setting)]
    check = sawlog("recount", "--from", day, "--to", day, "--data", str(late), "--check", *settings)
    text = check.stdout.decode()
    assert check.returncode == 1 and f"{day} metrics: " in text and "+10 events" in text
    hours = [line for line in text.splitlines() if line.startswith("  1h") and "service=" in line and "http_route" in line]
    assert hours == [
        f'  1h from {day}T12:00:00.000000Z service="shop" http_route="/cart": 200 events, 240 by the rows',
        f'  1h from {day}T13:00:00.000000Z service="new" http_route="/cart": 0 events, 20 by the rows',
    ]
    assert text.endswith("without --check they are corrected\n")
    history = late.parent / "history.ndjson"
    history.write_text(json.dumps({"timestamp": "2015-05-17T10:05:03Z", "service": "history"}))
    fresh = str(late.parent / "fresh")
    assert sawlog("ingest", str(history), "--data", fresh).returncode == 0
    alone = sawlog("recount", "--from", "2015-01-01", "--data", fresh, "--check").stdout.decode()
    # A minute and an hour: windows of ten seconds are not kept for so long (`retention.rollups-10s`).
    assert "requests: 0 of 0 windows differ, +0 events, 2 still open" in alone
    assert "history alone closes no window" in alone
