"""Input that was made to do harm: a clear refusal or a dead letter, bounded memory, and neighbours that stay unharmed."""

import gzip
import json
import zlib
from pathlib import Path

import pytest
import zstandard

from conftest import Server, memory_peak, request, reset_memory_peak, sawlog, sawlog_with_memory

MIB = 1 << 20
BOMB_BYTES = 2 << 30
# What a command or server may have in memory while it reads any of these, each of which is far larger when unpacked: a
# few chunks or one body at its limit (64 MiB), with room to grow, beside the program itself.
COMMAND_BYTES_MAX = 200 * MIB
SERVER_BYTES_MAX = 512 * MIB
BEFORE, AFTER = b'{"message":"before"}\n', b'\n{"message":"after"}\n'
# Lines, each with what becomes of it.
LINES = [
    (b'{"message":"good one"}', "stored"),
    (b"[" * 100_000, "json_syntax"),
    (b'{"a":' + b"[" * 100_000, "nesting_too_deep"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nesting_too_deep"),
    (b'{"timestamp":"9999-12-31T23:59:59Z","message":"end of time"}', "time_out_of_range"),
    (b'{"message":"nul \x00 byte"}', "stored"),
    (b"\x00\x00\x00\x00", "json_syntax"),
    (b'{"message":"unterminated', "json_syntax"),
    (b'{"message":"cut escape \\u12', "json_syntax"),
    (b'{"message":"half a pair \\ud800"}', "stored"),
    (b'{"message":"\xff\xfe"}', "invalid_utf8"),
    (b'{"message":"good two"}', "stored"),
]


def compressed(kind: str, head: bytes, tail: bytes, zeros: int = BOMB_BYTES) -> bytes:
    """So many zeros between two texts, in a thousandth of the space or less."""
    packer = zlib.compressobj(6, wbits=31) if kind == "gzip" else zstandard.ZstdCompressor(level=1).compressobj()
    zero = bytes(8 * MIB)
    parts = [packer.compress(head), *(packer.compress(zero) for _ in range(zeros // len(zero))), packer.compress(tail)]
    return b"".join([*parts, packer.flush()])


@pytest.fixture(scope="module", params=["gzip", "zstd"])
def bomb(request) -> tuple[str, bytes]:
    return request.param, compressed(request.param, BEFORE, AFTER)


def test_a_bomb_in_a_file_costs_its_line_and_no_memory(data: Path, tmp_path: Path, bomb: tuple[str, bytes]):
    path = tmp_path / "bomb"
    path.write_bytes(bomb[1])
    done, peak = sawlog_with_memory("ingest", str(path), "--data", str(data), "--format", "json", "--json")
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert (counts["received"], counts["stored"], counts["rejected"]) == (3, 2, 1)
    assert b"more than 1048576 bytes" in done.stderr, "the line is reported"
    assert peak < COMMAND_BYTES_MAX, f"{peak // MIB} MiB"


def test_a_300_mb_line_is_refused_with_bounded_memory(data: Path, tmp_path: Path):
    path = tmp_path / "long.log"
    with open(path, "wb") as file:
        file.write(BEFORE)
        for _ in range(300):
            file.write(b"x" * MIB)
        file.write(AFTER)
    done, peak = sawlog_with_memory("ingest", str(path), "--data", str(data), "--json")
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert (counts["stored"], counts["rejected"]) == (2, 1)
    assert peak < COMMAND_BYTES_MAX, f"{peak // MIB} MiB"
    server = Server(data, "host-metrics.enabled=false").start()
    reset_memory_peak(server.process.pid)
    again = sawlog("ingest", str(path), "--url", server.url, "--again", "--json")
    assert json.loads(again.stdout)["rejected"] == 1 and b"more than 1048576 bytes" in again.stderr
    # Over HTTP the whole body is over its limit: it is refused while it comes, or the connection is closed under it.
    status, _, _ = server.post("/v1/events", path.read_bytes())
    assert status in (413, 0)
    assert memory_peak(server.process.pid) < SERVER_BYTES_MAX, f"{memory_peak(server.process.pid) // MIB} MiB"
    server.stop()


def test_a_bomb_over_http_is_refused_with_bounded_memory(server: Server, bomb: tuple[str, bytes]):
    kind, body = bomb
    reset_memory_peak(server.process.pid)
    for path, content in [
        (server.url + "/v1/events", "application/x-ndjson"),
        (server.url + "/logs/_bulk", "application/x-ndjson"),
        (server.otlp_http + "/v1/logs", "application/x-protobuf"),
    ]:
        status, answer, _ = request("POST", path, body, {"Content-Encoding": kind, "Content-Type": content})
        assert status == 413, (path, status, answer[:200])
    peak = memory_peak(server.process.pid)
    assert peak < SERVER_BYTES_MAX, f"{peak // MIB} MiB"
    assert server.events('{"message":"neighbour"}')["stored"] == 1
    assert server.value("SELECT count(*) FROM logs") == 1


def test_hostile_lines_are_kept_with_a_reason_and_cost_their_neighbours_nothing(server: Server, tmp_path: Path):
    body = b"\n".join(line for line, _ in LINES)
    expected = {index: reason for index, (_, reason) in enumerate(LINES) if reason != "stored"}
    answer = server.events(body)
    assert {problem["index"]: problem["reason"] for problem in answer["problems"]} == expected
    assert all(problem["remedy"] for problem in answer["problems"])
    assert (answer["received"], answer["dead_lettered"]) == (len(LINES), len(expected))
    kept = server.sql("SELECT record_index, reason FROM dead_letters ORDER BY record_index")
    assert dict(kept) == expected
    server.stop()
    path = tmp_path / "hostile.log"
    path.write_bytes(body)
    loaded = sawlog("ingest", str(path), "--format", "json", "--data", str(tmp_path / "other"), "--json")
    counts = json.loads(loaded.stdout)
    assert (counts["stored"], counts["dead_lettered"]) == (len(LINES) - len(expected), len(expected)), counts


@pytest.mark.parametrize("body", [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'[{"message":"a"},{"mess', b'{"message":"a', b"\x00" * 1000])
def test_a_body_that_is_no_json_is_kept_or_refused_and_never_half_read(server: Server, body: bytes):
    status, answer, _ = server.post("/v1/events", body)
    counts = json.loads(answer)
    if status == 200:
        assert counts["received"] == counts["stored"] + counts["dead_lettered"] and counts["dead_lettered"] >= 1, counts
    else:
        assert status in (400, 413) and counts["error"]["hint"], answer
    assert server.events('{"message":"neighbour"}')["stored"] == 1


@pytest.mark.parametrize("time", ["0000-01-01T00:00:00Z", "0000-00-00T00:00:00Z", "9999-12-31T23:59:59Z", "99999-01-01T00:00:00Z", "-1", "1e300"])
def test_impossible_times_are_dead_letters_on_every_way_in(server: Server, tmp_path: Path, time: str):
    event = json.dumps({"timestamp": time, "message": "when?"})
    answer = server.events(event + '\n{"message":"neighbour"}')
    assert (answer["stored"], answer["dead_lettered"]) == (1, 1), answer
    assert answer["problems"][0]["field"] == "timestamp" and answer["problems"][0]["remedy"]
    text = f'10.0.0.1 - - [01/Jan/0000:00:00:00 +0000] "GET / HTTP/1.1" 200 1\n<13>1 {time} host app - - - hello\n'
    loaded = sawlog("ingest", "-", "--data", str(tmp_path / "other"), "--json", stdin=text.encode())
    counts = json.loads(loaded.stdout)
    assert loaded.returncode == 0 and counts["stored"] + counts["dead_lettered"] == 2, (counts, loaded.stderr)


def test_a_damaged_gzip_file_gives_what_stands_before_the_damage_and_other_files_are_loaded(data: Path, tmp_path: Path):
    lines = b"".join(b'{"message":"line %d","n":%d}\n' % (n, n * 7919 % 10_007) for n in range(200_000))
    packed = bytearray(gzip.compress(lines))
    cut, broken, good = tmp_path / "cut.gz", tmp_path / "broken.gz", tmp_path / "good.log"
    cut.write_bytes(packed[: len(packed) // 2])
    packed[len(packed) // 2] ^= 0xFF
    broken.write_bytes(packed)
    good.write_bytes(b'{"message":"from the good file"}\n')
    done = sawlog("ingest", str(cut), str(good), "--data", str(data), "--json")
    counts = json.loads(done.stdout)
    assert done.returncode == 1 and b"cut.gz was loaded in part" in done.stderr, done.stderr
    assert counts["received"] == counts["stored"] > 50_000
    asked = sawlog("query", "SELECT count(*) FROM logs WHERE message = 'from the good file'", "--data", str(data), "--format", "csv")
    assert asked.stdout.split() == [b"count(*)", b"1"], asked
    done = sawlog("ingest", str(broken), "--data", str(tmp_path / "other"), "--json")
    counts = json.loads(done.stdout)
    assert done.returncode == 1 and b"broken.gz was loaded in part" in done.stderr, done.stderr
    assert counts["received"] == sum(counts[name] for name in counts if name != "received"), counts


def test_damaged_compression_over_http_is_refused_whole(server: Server):
    lines = b'{"message":"x"}\n' * 1000
    for kind, packed in [("gzip", gzip.compress(lines)), ("zstd", zstandard.compress(lines))]:
        for damaged in [packed[:-4], packed[: len(packed) // 2], packed[:10] + bytes([packed[10] ^ 0xFF]) + packed[11:], b"\x00" + packed]:
            status, answer, _ = server.post("/v1/events", damaged, {"Content-Encoding": kind})
            assert status == 400 and json.loads(answer)["error"]["code"] == "body_undecodable", (kind, status, answer[:200])
    assert server.value("SELECT count(*) FROM logs") == 0
    assert server.events(gzip.compress(lines), encoding="gzip")["stored"] == 1000
