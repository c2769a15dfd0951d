"""Users: sessions that open, close, merge and survive kill -9, and the timeline of each user."""

import json
import random
import time
from pathlib import Path

from conftest import Server, wait_for

QUICK = ("windows.out-of-orderness=1s", "windows.idle-timeout=1s", "host-metrics.enabled=false")


def post(server: Server, *events: dict) -> dict:
    return server.events("\n".join(map(json.dumps, events)))


def view(user: str, seconds_ago: float, **fields) -> dict:
    return {"timestamp": time.time() - seconds_ago, "event_name": "view", "user_id": user, **fields}


def timeline(server: Server, user: str, query: str = "", expected: int = 200) -> dict:
    status, body, _ = server.get(f"/v1/users/{user}/timeline{query}")
    assert status == expected, (status, body)
    return json.loads(body)


def test_a_session_is_visible_while_it_is_open_and_a_row_when_it_is_closed(data: Path):
    server = Server(data, *QUICK, "sessions.gap=4s", "pipeline.flush-interval=300ms").start()
    post(
        server,
        view("ann", 2, page="/cart", device="phone"),
        view("ann", 1, page="/pay"),
        {"timestamp": time.time() - 0.5, "level": "error", "message": "card 4711 refused", "user_id": "ann", "duration_ms": 120},
    )
    columns = "is_open, event_count, step_count, entry, exit, error_count, top_error, request_count, latency_max_us, device, path"
    session = [3, 2, "/cart", "/pay", 1, "card <num> refused", 1, 120_000, "phone", ["/cart", "/pay"]]
    assert server.sql(f"SELECT {columns} FROM sessions WHERE user_id = 'ann'") == [[True, *session]]
    assert server.value("SELECT count(*) FROM pane_sessions") == 0
    wait_for(lambda: server.value("SELECT count(*) FROM pane_sessions") == 1, "the closed session is written", 30)
    assert server.sql(f"SELECT {columns} FROM sessions") == [[False, *session]]
    assert server.sql("SELECT pane_timing, pane_index > 0, is_cut, is_retracted FROM pane_sessions") == [["on_time", True, False, False]]
    server.stop()
    server.start()
    assert server.sql(f"SELECT {columns} FROM sessions") == [[False, *session]]
    server.stop()


def test_a_late_event_makes_two_sessions_one(data: Path):
    server = Server(data, *QUICK, "sessions.gap=10s", "pipeline.flush-interval=200ms").start()
    now = time.time()
    at = lambda seconds: {"timestamp": now - seconds, "event_name": "view", "user_id": "ann"}  # noqa: E731
    post(server, at(60), at(45), at(0) | {"user_id": "bob"})
    wait_for(lambda: server.value("SELECT count(*) FROM pane_sessions WHERE user_id = 'ann'") == 2, "both are written", 30)
    assert server.sql("SELECT event_count, is_open FROM sessions WHERE user_id = 'ann'") == [[1, False]] * 2
    post(server, at(52))
    merged = "SELECT event_count, duration_us, is_open FROM sessions WHERE user_id = 'ann'"
    assert server.sql(merged) == [[3, 15_000_000, False]], "at once"
    taken_back = "SELECT count(*) FROM pane_sessions WHERE is_retracted"
    wait_for(lambda: server.value(taken_back) == 1, "the second session is taken back", 30)
    assert server.sql(merged) == [[3, 15_000_000, False]]
    assert server.sql("SELECT pane_timing FROM pane_sessions WHERE event_count = 3") == [["late"]]
    server.stop()


def test_sessions_equal_a_recount_over_kill_9(data: Path):
    settings = (*QUICK, "pipeline.flush-interval=200ms", "sessions.gap=5s")
    random.seed(11)
    server = Server(data, *settings).start()
    for _ in range(5):
        for _ in range(5):
            post(server, *(view(f"u{random.randrange(12)}", random.uniform(0, 100)) for _ in range(12)))
            time.sleep(random.uniform(0, 0.25))
        server.kill()
        server.start()
    recount = """
        WITH gaps AS (
            SELECT user_id, event_time, CASE WHEN event_time - lag(event_time) OVER (PARTITION BY user_id ORDER BY event_time)
                < interval '5 seconds' THEN 0 ELSE 1 END AS is_first FROM activity),
        numbered AS (SELECT user_id, event_time, sum(is_first) OVER (PARTITION BY user_id ORDER BY event_time) AS number FROM gaps)
        SELECT user_id, min(event_time), max(event_time), count(*) FROM numbered GROUP BY user_id, number ORDER BY 1, 2"""
    expected = server.sql(recount)
    assert sum(row[3] for row in expected) == 5 * 5 * 12 and len(expected) > 50
    found = "SELECT user_id, session_start, session_end, event_count FROM sessions {} ORDER BY 1, 2"
    assert server.sql(found.format("")) == expected
    closed = lambda: server.sql(found.format("WHERE NOT is_open")) == expected  # noqa: E731
    wait_for(closed, "all sessions are closed and say what the rows say", 40)
    assert server.value("SELECT count(*) - count(DISTINCT (session_key, pane_index)) FROM pane_sessions") == 0
    server.stop()


def test_the_timeline_of_a_user_is_whole_in_memory_in_the_store_and_after_kill_9(data: Path):
    server = Server(data, *QUICK, "pipeline.flush-interval=1h").start()
    events = [view("ann", 600 - number, page=f"/p/{number}") for number in range(250)]
    events += [view("bob", 5), {"timestamp": time.time(), "level": "error", "message": "oops", "user_id": "ann", "service": "shop"}]
    random.seed(3)
    random.shuffle(events)
    post(server, *events[:150])
    server.stop()
    server.start()
    post(server, *events[150:])

    def check():
        found, query = [], "?limit=100"
        for _ in range(5):
            page = timeline(server, "ann", query)
            found += page["entries"]
            if page["next"] is None:
                break
            query = f"?limit=100&cursor={page['next']}"
        assert [entry["name"] for entry in found] == ["oops"] + ["view"] * 250
        times = [entry["event_time"] for entry in found]
        assert times == sorted(times, reverse=True)
        assert len({(entry["batch_id"], entry["record_index"]) for entry in found}) == 251
        profile = page["profile"]
        assert (profile["event_count"], profile["error_count"]) == (251, 1)
        assert profile["latest"]["service"]["value"] == "shop" and profile["latest"]["event_name"]["value"] == "view"
        assert (profile["first_seen"], profile["last_seen"]) == (times[-1], times[0])
        assert [(one["is_open"], one["event_count"]) for one in page["sessions"]] == [(True, 251)]

    check()
    server.kill()
    server.start()
    check()
    server.stop()
    server.start()
    check()
    entry = timeline(server, "ann", "?limit=1")["entries"][0]
    row = server.sql(f"SELECT message FROM {entry['table']} WHERE batch_id = '{entry['batch_id']}' AND record_index = {entry['record_index']}")
    assert row == [["oops"]], "an entry names its row"
    assert len(timeline(server, "ann", "?from=-400s&to=-390s&limit=1000")["entries"]) in (9, 10, 11)
    server.stop()


def test_requests_that_make_no_sense_are_refused_with_a_reason(server: Server):
    post(server, view("a/b ü", 1))
    assert len(timeline(server, "a%2Fb%20%C3%BC")["entries"]) == 1
    assert timeline(server, "nobody", expected=404)["error"]["code"] == "user_unknown"
    for query, word in [("?limit=0", "limit"), ("?limit=x", "limit"), ("?cursor=x", "cursor"), ("?from=soon", "from"), ("?size=3", "size")]:
        error = timeline(server, "a%2Fb%20%C3%BC", query, expected=400)["error"]
        assert word in error["message"] and error["hint"], error


def test_names_of_any_length_stop_no_flush(data: Path):
    """The serving store bounds its keys; names are cut there and stay apart."""
    server = Server(data, *QUICK, "pipeline.flush-interval=200ms").start()
    long = ["u" * 100_000, "u" * 99_999, "\0" * 40_000]
    post(server, *(view(user, 1, service="s" * 70_000, page="/" + "p" * 70_000) for user in long))
    wait_for(lambda: server.get("/metrics")[1].decode().count("sawlog_hot_bytes 0\n"), "all of it is flushed")
    post(server, view("v" * 2_000, 0))
    assert server.sql("SELECT count(*), count(DISTINCT user_id) FROM activity") == [[4, 4]]
    found = timeline(server, "v" * 2_000)
    assert (len(found["entries"]), [one["event_count"] for one in found["sessions"]]) == (1, [1])
    assert server.sql("SELECT count(*), count(DISTINCT user_id) FROM sessions") == [[4, 4]]
    server.kill()
    server.start()
    assert server.sql("SELECT count(*), count(DISTINCT user_id) FROM sessions") == [[4, 4]]
    assert "panicked" not in server.log()
    server.stop()
