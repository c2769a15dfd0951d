"""Pushing events over HTTP: outcomes, acknowledgement, compression, limits."""

import gzip
import json
import time

import zstandard

from conftest import Server, wait_for

NOW = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def test_mixed_kinds_in_one_body_reach_their_tables(server: Server):
    lines = [
        {"timestamp": NOW, "level": "error", "message": "payment failed", "service": "checkout", "duration_ms": 107},
        {"metric": "cpu", "value": 0.5, "service": "checkout"},
        {"event": "page_view", "user_id": "u1", "page": "/cart/42"},
    ]
    answer = server.events("\n".join(map(json.dumps, lines)))
    assert (answer["ack"], answer["received"], answer["stored"]) == ("disk", 3, 3)
    logs = "SELECT severity_number, severity_class, message, service, duration_us FROM logs"
    assert server.sql(logs) == [[17, "error", "payment failed", "checkout", 107000]]
    assert server.sql("SELECT metric_name, metric_type, value FROM metrics") == [["cpu", "gauge", 0.5]]
    assert server.sql("SELECT event_name, user_id, page_route FROM activity") == [["page_view", "u1", "/cart/{id}"]]


def test_the_answer_names_each_bad_record_with_reason_and_remedy(server: Server):
    body = b'{"message":"good"}\n{"message":"cut off\n{"timestamp":"9999-01-01","message":"x"}\n\xff\xfe\n{"message":"good too"}'
    answer = server.events(body)
    assert (answer["received"], answer["stored"], answer["dead_lettered"]) == (5, 2, 3)
    problems = {problem["index"]: problem for problem in answer["problems"]}
    assert {index: problem["reason"] for index, problem in problems.items()} == {
        1: "json_syntax",
        2: "time_out_of_range",
        3: "invalid_utf8",
    }
    assert problems[2]["field"] == "timestamp" and all(problem["remedy"] for problem in problems.values())
    kept = server.sql("SELECT record_index, reason, encode(payload, 'hex') FROM dead_letters ORDER BY record_index")
    assert [row[:2] for row in kept] == [[1, "json_syntax"], [2, "time_out_of_range"], [3, "invalid_utf8"]]
    assert bytes.fromhex(kept[2][2]) == b"\xff\xfe"


def test_arrays_gzip_and_zstd_are_read(server: Server):
    array = json.dumps([{"message": "a"}, {"message": "b"}]).encode()
    assert server.events(array)["stored"] == 2
    assert server.events(gzip.compress(array), encoding="gzip")["stored"] == 2
    assert server.events(zstandard.compress(array), encoding="zstd")["stored"] == 2
    assert server.value("SELECT count(*) FROM logs") == 6


def test_repeats_are_counted_and_not_stored(server: Server):
    body = json.dumps({"message": "once", "insert_id": "a1"})
    assert server.events(body)["stored"] == 1
    assert server.events(body)["duplicate"] == 1
    other = json.dumps({"message": "other"})
    assert server.events(other, idempotency_key="k1")["stored"] == 1
    assert server.events(other, idempotency_key="k1")["duplicate"] == 1
    assert server.value("SELECT count(*) FROM logs") == 2


def test_the_client_chooses_the_level_and_gets_it_echoed(server: Server):
    answer = server.events('{"message":"fast"}', ack="memory")
    assert answer["ack"] == "memory"
    wait_for(lambda: server.value("SELECT count(*) FROM logs") == 1, "the event is visible", 2)
    status, body, _ = server.post("/v1/events", "{}", {"X-Sawlog-Ack": "paper"})
    assert status == 400 and b"disk" in body


def test_what_cannot_be_kept_is_refused_and_counted(server: Server):
    bomb = gzip.compress(bytes(100 << 20))
    cases = [
        (bomb, {"Content-Encoding": "gzip"}, 413),
        (b"no gzip at all", {"Content-Encoding": "gzip"}, 400),
        (b"{}", {"Content-Encoding": "br"}, 415),
        (b'{"message":"' + b"x" * (3 << 20) + b'"}', {}, 413),
    ]
    for body, headers, expected in cases:
        status, answer, _ = server.post("/v1/events", body, headers)
        assert status == expected, (status, answer[:300])
    wait_for(lambda: server.value("SELECT sum(rejected) FROM sawlog_ledger") == 4, "the refusals are in the ledger")
    assert server.value("SELECT count(*) FROM logs") == 0


def test_hostile_records_cost_nothing_but_themselves(server: Server):
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    brackets = b"[" * 100_000
    wide = json.dumps({f"k{index}": index for index in range(5_000)}).encode()
    lines = [b'{"message":"before"}', deep, b'{"x":' + brackets, wide, b'{"message":"nul \x00 byte"}', b'{"message":"after"}']
    started = time.monotonic()
    answer = server.events(b"\n".join(lines))
    assert time.monotonic() - started < 5
    assert (answer["stored"], answer["dead_lettered"]) == (3, 3), answer
    reasons = [problem["reason"] for problem in answer["problems"]]
    assert reasons == ["nesting_too_deep", "nesting_too_deep", "too_many_fields"]


def test_the_ledger_closes_over_all_outcomes(server: Server):
    server.events('{"message":"a","insert_id":"1"}\n{broken\n{"message":"a","insert_id":"1"}')
    server.post("/v1/events", b"junk", {"Content-Encoding": "zstd"})

    def closes():
        row = server.sql(
            "SELECT sum(received), sum(stored), sum(duplicate), sum(filtered), sum(dead_lettered), sum(rejected), "
            "sum(in_flight) FROM sawlog_ledger"
        )[0]
        return row == [4, 1, 1, 0, 1, 1, 0]

    wait_for(closes, "the ledger closes", 5)
