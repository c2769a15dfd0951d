"""Windows of event time: rollups of three widths, panes that wait for the watermark, late events, and kill -9."""

import json
import random
import time
from pathlib import Path

from conftest import Server, sawlog, wait_for

QUICK = ("windows.out-of-orderness=1s", "windows.idle-timeout=1s", "host-metrics.enabled=false")


def post(server: Server, *events: dict) -> dict:
    return server.events("\n".join(map(json.dumps, events)))


def at(seconds_ago: float, **fields) -> dict:
    return {"timestamp": time.time() - seconds_ago, **fields}


def test_widths_agree_and_no_data_is_null(data: Path):
    server = Server(data, "host-metrics.enabled=false").start()
    events = [
        at(offset, service="shop", level="error" if offset % 3 == 0 else "info", path=f"/u/{offset}", user_id=f"u{offset % 7}")
        for offset in range(0, 200, 4)
    ]
    assert post(server, *events)["stored"] == 50
    for width in ("10s", "1m", "1h"):
        table = f"rollup_requests_{width}"
        assert server.sql(f"SELECT sum(count), sum(error_count), sum(request_count) FROM {table}") == [[50, 17, 50]]
        assert server.sql(f"SELECT DISTINCT apdex, duration_p99_us FROM {table}") == [[None, None]], "no durations, no latency"
        start = f"SELECT window_start FROM {table} ORDER BY 1 LIMIT 1"
        some = server.value(f"SELECT sum(count) FROM {table} WHERE window_start = ({start})")
        assert 0 < some <= 50
    assert server.value("SELECT max(user_count) FROM rollup_users_1h WHERE service IS NULL") == 7
    top = server.sql("SELECT value, sum(count) FROM rollup_top_1h WHERE dimension = 'route' GROUP BY value")
    assert top == [["/u/{id}", 50]]
    assert server.sql("SELECT count(*) FROM rollup_requests_10s WHERE window_start < now() - interval '1 day'") == [[0]]
    server.stop()


def test_series_beyond_the_limit_are_counted_under_other_and_reported(data: Path):
    server = Server(data, "rollups.series-max=5", "host-metrics.enabled=false").start()
    post(server, *(at(0, service=f"s{number}") for number in range(30)))
    rows = dict(server.sql("SELECT service, sum(count) FROM rollup_requests_1h GROUP BY 1"))
    assert (len(rows), rows["__other__"], sum(rows.values())) == (6, 25, 30)
    metrics = server.get("/metrics")[1].decode()
    assert 'sawlog_rollup_series{rollup="requests"} 5' in metrics
    assert 'sawlog_rollup_other_events_total{rollup="requests"} 25' in metrics
    watermark = int(metrics.split("\nsawlog_watermark_seconds ")[1].split()[0])
    assert 0 < time.time() - watermark < 30
    server.stop()


def test_late_events_are_stored_marked_and_in_no_rollup(data: Path):
    server = Server(data, *QUICK, "windows.allowed-lateness=10s").start()
    post(server, at(0, service="a"))
    time.sleep(0.1)
    answer = post(server, at(0, service="a"), at(25, service="late"), at(3_600, service="late"))
    assert answer["stored"] == 3
    assert server.sql("SELECT service, late, count(*) FROM logs GROUP BY 1, 2 ORDER BY 1") == [["a", False, 2], ["late", True, 2]]
    assert server.sql("SELECT service, sum(count) FROM rollup_requests_1h GROUP BY 1") == [["a", 2]]
    assert server.sql("SELECT sum(late), sum(received - stored) FROM sawlog_ledger") == [[2, 0]]
    old = data.parent / "old.ndjson"
    old.write_text(json.dumps({"timestamp": "2015-05-17T10:05:03Z", "service": "history"}))
    server.stop()

    assert sawlog("ingest", str(old), "--data", str(data)).returncode == 0
    server.start()
    history = "SELECT sum(count), bool_or(pane_timing = 'on_time') FROM rollup_requests_1h WHERE service = 'history'"
    assert server.sql(history) == [[1, True]], "history is never late"
    server.stop()


def test_a_window_is_complete_by_the_watermark_although_nothing_more_arrives(data: Path):
    server = Server(data, *QUICK, "pipeline.flush-interval=300ms").start()
    post(server, at(0, service="shop"))
    assert server.value("SELECT pane_timing FROM rollup_requests_10s WHERE service = 'shop'") == "early"
    on_time = "SELECT count(*) FROM pane_requests WHERE width = '10s' AND pane_timing = 'on_time'"
    wait_for(lambda: server.value(on_time) == 1, "the pane on time is written", 30)
    assert server.value("SELECT pane_timing FROM rollup_requests_10s WHERE service = 'shop'") == "on_time"
    server.stop()


def test_final_panes_equal_a_recount_over_kill_9(data: Path):
    """Events of the last minutes in any order, and kills between batches: what the panes hold in the end is what the rows
    say."""
    settings = (*QUICK, "pipeline.flush-interval=200ms", "windows.allowed-lateness=1h")
    random.seed(7)
    server = Server(data, *settings).start()
    for round_number in range(6):
        for _ in range(5):
            post(
                server,
                *(
                    at(random.uniform(0, 150), service=f"s{random.randrange(3)}", level=random.choice(["info", "error"]))
                    for _ in range(40)
                ),
            )
            time.sleep(random.uniform(0, 0.25))
        server.kill()
        server.start()
    recount = """
        SELECT date_bin(interval '10 seconds', event_time) AS w, service, count(*), count(*) FILTER (WHERE severity_class = 'error')
        FROM logs WHERE NOT late GROUP BY 1, 2 ORDER BY 1, 2"""
    panes = "FROM pane_requests_latest WHERE width = '10s'"
    final = f"SELECT window_start, service, count, error_count {panes} ORDER BY 1, 2"
    expected = server.sql(recount)
    assert sum(row[2] for row in expected) == 6 * 5 * 40
    assert server.sql("SELECT window_start, service, count, error_count FROM rollup_requests_10s ORDER BY 1, 2") == expected
    wait_for(lambda: server.sql(final) == expected, "every window is complete and its last pane holds what the rows say", 40)
    once = "SELECT count(*) - count(DISTINCT (window_start, service, pane_index)) FROM pane_requests WHERE width = '10s'"
    assert server.value(once) == 0, "no pane is there twice"
    server.stop()
