"""Rows as they arrive: GET /v1/tail and `sawlog tail`."""

import http.client
import json
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path

from conftest import Server, binary, sawlog, wait_for


class Tail:
    """A client of /v1/tail that notes each line and when it came."""

    def __init__(self, server: Server, text: str = "", accept: str = "application/x-ndjson", **options: str):
        self.connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
        self.connection.request("GET", "/v1/tail?" + urllib.parse.urlencode({"filter": text, **options}), headers={"Accept": accept})
        self.answer = self.connection.getresponse()
        self.lines: list[tuple[float, bytes]] = []

    def start(self) -> "Tail":
        assert self.answer.status == 200, self.answer.read()
        threading.Thread(target=self.read, daemon=True).start()
        wait_for(lambda: self.lines, "the tail greets")
        return self

    def read(self) -> None:
        try:
            for line in self.answer:
                self.lines.append((time.monotonic(), line.strip()))
        except (OSError, http.client.HTTPException, ValueError):
            pass

    def rows(self) -> list[dict]:
        return [json.loads(line) for _, line in list(self.lines) if line.startswith(b"{")]


def test_a_row_is_seen_within_a_second_of_its_acknowledgement(server: Server):
    tail = Tail(server, "service:shop severity>=warn").start()
    for number in range(5):
        events = [{"message": f"no {number}", "level": level, "service": "shop", "n": number} for level in ("error", "info")]
        server.events("\n".join(map(json.dumps, events)))
        acknowledged = time.monotonic()
        wait_for(lambda: len(tail.rows()) == number + 1, "the row is seen", 5)
        assert tail.lines[-1][0] - acknowledged < 1
    assert [row["attributes"]["n"] for row in tail.rows()] == ["0", "1", "2", "3", "4"]
    assert {row["severity_class"] for row in tail.rows()} == {"error"}
    server.events('{"message":"again","level":"error","service":"shop"}', idempotency_key="k")
    server.events('{"message":"again","level":"error","service":"shop"}', idempotency_key="k")
    server.events('{"message":"last","level":"error","service":"shop"}')
    wait_for(lambda: tail.rows()[-1]["message"] == "last", "the last row is seen")
    assert [row["message"] for row in tail.rows()][-2:] == ["again", "last"], "a repeat is not shown twice"


def test_events_come_as_server_sent_events(server: Server):
    tail = Tail(server, "", accept="text/event-stream").start()
    assert tail.answer.headers["content-type"] == "text/event-stream"
    server.events('{"message":"a\\nb"}')
    wait_for(lambda: any(line.startswith(b"data:") for _, line in tail.lines), "the event is seen")
    kinds = [line for _, line in tail.lines if line.startswith((b"event:", b"data:"))]
    assert kinds[0] == b"event: row" and json.loads(kinds[1][5:])["message"] == "a\nb"


def test_too_many_rows_are_skipped_and_counted(server: Server):
    tail = Tail(server).start()
    total = 0
    for _ in range(5):
        server.events("\n".join(json.dumps({"message": "x", "n": n}) for n in range(2_000)))
        total += 2_000

    def seen() -> int:
        rows = tail.rows()
        return sum(row.get("_skipped", 1) for row in rows)

    wait_for(lambda: seen() == total, "each row is shown or counted")
    assert any("_skipped" in row for row in tail.rows())


def test_a_client_that_does_not_read_does_not_stop_ingest(server: Server):
    silent = Tail(server)
    body = "\n".join(json.dumps({"message": "y" * 1_000}) for _ in range(5_000))
    started = time.monotonic()
    for _ in range(20):
        server.events(body)
    assert time.monotonic() - started < 60
    assert server.value("SELECT count(*) FROM logs") == 100_000
    silent.connection.close()


def test_mistakes_keys_and_limits_are_answered(data: Path):
    server = Server(data, "host-metrics.enabled=false").start()
    status, body, _ = server.get("/v1/tail?" + urllib.parse.urlencode({"filter": "a (b"}))
    assert status == 400 and json.loads(body)["error"]["position"]["start"] == 2
    assert server.get("/v1/tail?filter=status:abc")[0] == 400
    assert server.get("/v1/tail?table=nope")[0] == 400
    tails = [Tail(server) for _ in range(50)]
    wait_for(lambda: server.get("/v1/tail")[0] == 503, "the 51st is refused")
    for tail in tails:
        tail.connection.close()
    wait_for(lambda: Tail(server).answer.status == 200, "places are free again")
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 8, "watchers do not hold up a stop"
    sawlog("key", "create", "--name", "a", "--scope", "ingest", "--data", str(data))
    server = Server(data, "host-metrics.enabled=false").start()
    assert server.get("/v1/tail")[0] == 401
    server.stop()


def test_the_command_shows_lines_and_whole_rows(server: Server):
    commands = [["tail", "service:shop", "--url", server.url], ["tail", "service:shop", "--json", "--url", server.url]]
    watching = [subprocess.Popen([binary(), *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for command in commands]
    found: list[bytes] = []
    readers = [threading.Thread(target=lambda one=one: found.append(one.stdout.readline()), daemon=True) for one in watching]
    for reader in readers:
        reader.start()

    def sent() -> bool:
        server.events(json.dumps({"message": "sold", "level": "warn", "service": "shop"}))
        return len(found) == 2

    wait_for(sent, "both commands show a row")
    line, row = sorted(found, key=lambda text: text.startswith(b"{"))
    assert b"warning shop sold" in line and b"\x1b" not in line
    assert json.loads(row)["message"] == "sold"
    server.stop()
    assert [one.wait(timeout=20) for one in watching] == [1, 1]
    assert sawlog("tail", "a (", "--url", server.url).returncode == 2
    assert sawlog("tail", "--url", server.url).returncode == 1
