"""Syslog over UDP and TCP: Python's own handler, framing, limits, a graceful stop."""

import logging
import logging.handlers
import re
import socket
import time
from pathlib import Path

import pytest

from conftest import Server, sawlog, wait_for

ON = ("host-metrics.enabled=false", "syslog.udp-listen=127.0.0.1:0", "syslog.tcp-listen=127.0.0.1:0", "syslog.message-size-max=8KiB")
COUNT = "SELECT count(*) FROM logs"


@pytest.fixture
def server(data: Path):
    running = Server(data, *ON).start()
    yield running
    running.stop()


def address(server: Server, name: str) -> tuple[str, int]:
    host, port = server.syslog[name]
    return host, int(port)


def tcp(server: Server, *pieces: bytes, pause: float = 0.02) -> None:
    with socket.create_connection(address(server, "TCP")) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)


@pytest.mark.parametrize(("name", "kind"), [("UDP", socket.SOCK_DGRAM), ("TCP", socket.SOCK_STREAM)])
def test_pythons_handler_is_understood(server: Server, name: str, kind: socket.SocketKind):
    handler = logging.handlers.SysLogHandler(address(server, name), socktype=kind)
    handler.ident = "shop[42]: "
    logger = logging.Logger("shop")
    logger.addHandler(handler)
    for number in range(100):
        logger.error("payment %d failed", number)
    logger.warning("two\nlines" if name == "UDP" else "one line")
    handler.close()
    wait_for(lambda: server.value(COUNT) == 101, "all messages are there", 10)
    found = server.sql("SELECT severity_number, service, host, source, count(DISTINCT message) FROM logs GROUP BY 1, 2, 3, 4 ORDER BY 1")
    source = f"syslog-{name.lower()}"
    assert found == [[13, "shop", "127.0.0.1", source, 1], [17, "shop", "127.0.0.1", source, 100]]
    last = "two#012lines" if name == "UDP" else "one line"
    assert server.value(f"SELECT count(*) FROM logs WHERE message = '{last}'") == 1
    assert server.value("SELECT min(attributes['process.pid']) FROM logs") == "42"


def test_octet_counting_lines_and_nul_are_told_apart_in_one_connection(server: Server):
    messages = [b"<34>1 2026-11-20T03:00:0%dZ h app %d id - message %d" % (n, n, n) for n in range(5)]
    counted = b"".join(b"%d %s" % (len(message), message) for message in messages[:2])
    multi_line = messages[2] + b"\nsecond line"
    stream = counted + messages[3] + b"\n" + messages[4] + b"\0" + b"%d %s" % (len(multi_line), multi_line)
    tcp(server, stream[:20], stream[20:75], stream[75:])
    wait_for(lambda: server.value(COUNT) == 5, "all messages are there", 10)
    found = [row[0] for row in server.sql("SELECT message FROM logs ORDER BY message")]
    assert found == ["message 0", "message 1", "message 2#012second line", "message 3", "message 4"]
    assert server.value("SELECT min(attributes['process.pid']) FROM logs") == "0"


def test_bad_messages_cost_only_themselves_and_are_counted(server: Server):
    good = b"<34>1 2026-11-20T03:00:00Z h app 1 id - good\n"
    tcp(server, good + b"<34>" + b"x" * 20_000 + b"\n" + b"20000 <34>" + b"y" * 19_996 + good)
    tcp(server, b"\xff\xfe not text\n" + b"no priority at all\n" + b"<999>odd\n" + good)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.sendto(b"<34>" + b"z" * 10_000, address(server, "UDP"))
    sender.sendto(good, address(server, "UDP"))
    wait_for(lambda: server.value(COUNT) == 6, "the good ones are there", 10)
    assert server.value(f"{COUNT} WHERE message = 'good'") == 4
    assert server.sql("SELECT reason, source FROM dead_letters") == [["invalid_utf8", "syslog-tcp"]]
    closes = "SELECT source, sum(received), sum(stored), sum(dead_lettered), sum(rejected) FROM sawlog_ledger GROUP BY 1 ORDER BY 1"
    wait_for(lambda: server.sql(closes) == [["syslog-tcp", 8, 5, 1, 2], ["syslog-udp", 2, 1, 0, 1]], "the ledger closes", 5)
    text = server.get("/metrics")[1].decode()
    assert 'sawlog_syslog_refused_total{source="syslog-tcp",reason="Oversize"} 2' in text


def test_a_stop_stores_what_was_sent(data: Path):
    server = Server(data, *ON).start()
    lines = b"".join(b"<34>1 2026-11-20T03:00:00Z h app 1 id - message %d\n" % n for n in range(20_000))
    with socket.create_connection(address(server, "TCP")) as connection:
        connection.sendall(lines + b"<34>1 2026-11-20T03:00:00Z h app 1 id - without an end")
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for number in range(100):
            sender.sendto(b"<34>1 2026-11-20T03:00:00Z h udp 1 id - datagram %d" % number, address(server, "UDP"))
        time.sleep(0.01)
        assert server.stop() < 10
    assert server.process.returncode == 0
    server.start()
    assert server.sql(f"{COUNT} WHERE service = 'app'") == [[20_001]]
    assert server.sql(f"{COUNT} WHERE service = 'udp'") == [[100]]
    server.stop()


def test_too_many_connections_are_closed_and_counted(data: Path):
    server = Server(data, *ON, "syslog.connections-max=2").start()
    try:
        kept = [socket.create_connection(address(server, "TCP")) for _ in range(2)]
        for connection in kept:
            connection.sendall(b"<34>1 2026-11-20T03:00:00Z h app 1 id - kept\n")
        wait_for(lambda: server.value(COUNT) == 2, "both are read", 5)
        extra = socket.create_connection(address(server, "TCP"))
        extra.settimeout(5)
        assert extra.recv(1) == b""
        kept.pop().close()

        def taken():
            with socket.create_connection(address(server, "TCP")) as again:
                again.sendall(b"<34>1 2026-11-20T03:00:00Z h app 1 id - again\n")
                time.sleep(0.2)
            return server.value(f"{COUNT} WHERE message = 'again'") > 0

        wait_for(taken, "a place is free again", 10)
        assert re.search(r'reason="ConnectionLimit"} [1-9]', server.get("/metrics")[1].decode())
    finally:
        server.stop()


def test_other_machines_are_let_in_only_on_purpose(data: Path):
    done = sawlog("serve", "--data", str(data), "--set", "syslog.udp-listen=0.0.0.0:0")
    assert done.returncode == 2 and b"syslog.allow-remote" in done.stderr
