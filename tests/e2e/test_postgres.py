"""The Postgres port with real clients: psql and psycopg, plain sockets for what no client sends."""

import datetime
import json
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from conftest import Server, sawlog, wait_for

TIME = "2026-03-01T10:00:00.123456Z"


def connect(server: Server, **options) -> psycopg.Connection:
    host, port = server.postgres
    return psycopg.connect(host=host, port=port, user="anyone", dbname="sawlog", autocommit=True, **options)


def psql(server: Server, *commands: str, password: str = "") -> subprocess.CompletedProcess:
    host, port = server.postgres
    flags = [flag for command in commands for flag in ("-c", command)]
    where = ["-h", host, "-p", str(port), "-U", "anyone", "-d", "sawlog"]
    environment = {"PATH": "/usr/bin:/bin", "PGPASSWORD": password, "PGCONNECT_TIMEOUT": "10"}
    return subprocess.run(["psql", "-X", "-A", "-t", *where, *flags], env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def filled(server: Server) -> Server:
    lines = [
        {"timestamp": TIME, "message": "it's", "level": "error", "service": "a", "duration_ms": 1.5, "labels": {"team": "x"}},
        {"timestamp": "2026-03-01T10:00:01Z", "message": "zwei", "level": "info", "service": "b", "status": 503},
    ]
    server.events("\n".join(map(json.dumps, lines)))
    return server


def test_psql_lists_and_describes_tables(filled: Server):
    tables = psql(filled, r"\dt").stdout
    assert "public|logs|table" in tables and "public|metrics|table" in tables, tables
    assert "logs_error|view" in psql(filled, r"\d").stdout
    columns = psql(filled, r"\d logs").stdout
    assert "event_time|timestamp with time zone||not null|" in columns, columns
    assert "http_status|integer|" in columns and "attributes|" in columns
    for command in [r"\dn", r"\l", r"\dv", r"\di", r"\du", r"\conninfo"]:
        done = psql(filled, command)
        assert done.returncode == 0 and "ERROR" not in done.stderr, (command, done.stderr)


def test_psql_sees_values_nulls_and_errors(filled: Server):
    rows = psql(filled, "SELECT event_time, service, http_status, attributes FROM logs ORDER BY 1").stdout.splitlines()
    assert rows == ['2026-03-01 10:00:00.123456+00|a||{"team":"x"}', "2026-03-01 10:00:01.000000+00|b|503|"], rows
    assert psql(filled, "SELECT 1; SHOW timezone; SELECT 2").stdout.split() == ["1", "UTC", "2"]
    wrong = psql(filled, "SELECT nope FROM logs")
    assert wrong.returncode == 1 and "nope" in wrong.stderr
    refused = psql(filled, "DELETE FROM logs")
    assert "only SELECT" in refused.stderr and "HINT" in refused.stderr


def test_errors_have_a_code_and_a_position(filled: Server):
    with connect(filled) as connection:
        for sql, code, position in [
            ("SELECT * FROM logs WHERE", "42601", None),
            ("SELECT service\nFROM logs ORDER 1", "42601", "26"),
            ("SELECT service,\n nope FROM logs", "42703", "18"),
            ("SELECT * FROM lgs", "42P01", "15"),
            ("SELECT nope(1)", "42883", None),
            ("DROP TABLE logs", "25006", None),
            ("SELECT 1 / (http_status - 503) FROM logs", "22012", None),
            ("SELECT " + "(" * 500 + "1" + ")" * 500, "54001", None),
        ]:
            with pytest.raises(psycopg.Error) as caught:
                connection.execute(sql)
            assert caught.value.sqlstate == code, (sql[:40], caught.value)
            if position:
                assert caught.value.diag.statement_position == position, (sql, caught.value.diag.statement_position)
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_prepared_statements_take_parameters_of_all_types(filled: Server):
    with connect(filled) as connection:
        when = datetime.datetime(2026, 3, 1, 10, 0, 0, 123456, tzinfo=datetime.timezone.utc)
        for binary in (False, True):
            cursor = connection.cursor(binary=binary, row_factory=dict_row)
            sql = "SELECT service, event_time, duration_us, attributes, http_status FROM logs WHERE event_time = %s AND service = %s"
            found = cursor.execute(sql, (when, "a"), prepare=True).fetchall()
            assert found == [{"service": "a", "event_time": when, "duration_us": 1500, "attributes": {"team": "x"}, "http_status": None}]
            assert cursor.execute(sql, (when, "b"), prepare=True).fetchall() == []
            by_number = cursor.execute("SELECT message FROM logs WHERE http_status >= %s AND http_status < %s LIMIT %s", (500, 600, 10))
            assert by_number.fetchall() == [{"message": "zwei"}]
            row = cursor.execute("SELECT %s::bigint + 1 AS a, %s::text AS b, %s::float8 AS c, %s::bool AS d, %b::bytea AS e, %s::date AS f",
                                 (41, "it's", 1.5, True, b"\x00\xff", datetime.date(2026, 3, 1))).fetchone()
            assert row == {"a": 42, "b": "it's", "c": 1.5, "d": True, "e": b"\x00\xff", "f": datetime.date(2026, 3, 1)}
            assert cursor.execute("SELECT message FROM logs WHERE service = %s", (None,)).fetchall() == []
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("SELECT * FROM logs WHERE http_status = %s::int", ("x",))
        assert caught.value.sqlstate in ("22P02", "22000") and "x" in str(caught.value)


def test_rows_stream_through_cursors_and_large_answers(server: Server):
    with connect(server) as connection:
        total = sum(1 for _ in connection.cursor().stream("SELECT value FROM generate_series(1, 50000) AS s(value)"))
        assert total == 50_000
        with connection.transaction(), connection.cursor("c") as cursor:
            cursor.itersize = 1_000
            cursor.execute("SELECT value FROM generate_series(1, 5000) AS s(value) ORDER BY value")
            assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
            assert [row[0] for row in cursor] == list(range(4, 5_001))
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("SELECT a.value FROM generate_series(1, 1000) a, generate_series(1, 1000) b").fetchall()
        assert caught.value.sqlstate == "54000", "query.rows-max holds, and says so"


def test_limits_of_time_and_turns_hold(data: Path):
    server = Server(data, "host-metrics.enabled=false", "query.time-max=2s", "query.concurrent-max=2").start()
    slow = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b, generate_series(1, 1000) c"
    codes = []

    def run():
        with connect(server) as connection, pytest.raises(psycopg.Error) as caught:
            connection.execute(slow)
        codes.append(caught.value.sqlstate)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert set(codes) <= {"57014", "53200"} and len(codes) == 3, codes
    with connect(server) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    server.stop()


def test_a_cancel_request_ends_the_query_and_not_the_session(server: Server):
    slow = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b"
    with connect(server) as connection:
        started = time.monotonic()
        timer = threading.Timer(0.5, connection.cancel)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(slow)
        assert time.monotonic() - started < 10
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_transactions_and_settings_behave_as_clients_expect(filled: Server):
    with connect(filled) as connection:
        connection.execute("SET TIME ZONE 'Europe/Berlin'")
        assert connection.execute("SHOW TimeZone").fetchone() == ("UTC",)
        connection.execute("SET application_name = 'me'")
        assert connection.execute("SHOW application_name").fetchone() == ("me",)
        with pytest.raises(psycopg.Error), connection.transaction():
            connection.execute("SELECT nope")
        connection.execute("BEGIN")
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT nope")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.execute("ROLLBACK")
        assert connection.execute("SELECT count(*) FROM logs").fetchone() == (2,)


def test_questions_that_dashboards_ask_first_are_answered(filled: Server):
    with connect(filled) as connection:
        for sql in [
            "SELECT version()",
            "SELECT current_schema()",
            "SELECT current_database(), current_user",
            "SHOW server_version_num",
            "SELECT current_setting('server_version_num')::int/100 as version",
            "SET extra_float_digits = 3",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "SET statement_timeout = 0",
            "SELECT oid, typname FROM pg_type WHERE typname IN ('int4', 'text', 'timestamptz')",
            "SELECT t.oid, t.typname FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace LIMIT 5",
            "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' ORDER BY nspname",
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema NOT IN ('information_schema', 'pg_catalog')",
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'logs' ORDER BY ordinal_position",
            "SELECT quote_ident(table_name) FROM information_schema.tables WHERE quote_ident(table_schema) NOT IN ('information_schema','pg_catalog')",
            "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid WHERE c.relname = 'logs' AND a.attnum > 0",
        ]:
            try:
                found = connection.execute(sql)
                rows = found.fetchall() if found.description else []
            except psycopg.Error as error:
                pytest.fail(f"{sql}: {error}")
            if sql.startswith(("SELECT column", "SELECT c.relname", "SELECT oid")):
                assert len(rows) >= 3, sql
        chart = "SELECT date_trunc('minute', event_time) AS time, service AS metric, count(*) FROM logs WHERE event_time BETWEEN '2026-03-01T09:00:00Z' AND '2026-03-01T11:00:00Z' GROUP BY 1, 2 ORDER BY 1"
        assert len(connection.execute(chart).fetchall()) == 2


def test_a_key_with_the_scope_query_is_the_password(data: Path):
    keys = {}
    for scope in ("ingest", "query"):
        made = sawlog("key", "create", "--name", scope, "--scope", scope, "--data", str(data))
        keys[scope] = made.stdout.decode().strip()
    server = Server(data, "host-metrics.enabled=false").start()
    assert psql(server, "SELECT 7", password=keys["query"]).stdout.strip() == "7"
    for wrong in ("", "nonsense", keys["ingest"], keys["query"][:-1] + "x"):
        done = psql(server, "SELECT 7", password=wrong)
        assert done.returncode == 2 and "7" not in done.stdout.split(), (wrong, done)
    with pytest.raises(psycopg.OperationalError):
        connect(server, password=keys["ingest"])
    server.stop()
    refused = sawlog("serve", "--data", str(data.parent / "other"), "--set", "postgres.listen=0.0.0.0:0",
                     "--set", "server.listen=127.0.0.1:0", "--set", "server.otlp-grpc-listen=127.0.0.1:0",
                     "--set", "server.otlp-http-listen=127.0.0.1:0")
    assert refused.returncode == 1 and b"sawlog key create" in refused.stderr


def test_bad_bytes_end_their_connection_only(server: Server):
    start = b"\x00\x03\x00\x00user\x00me\x00\x00"
    start = struct.pack("!I", len(start) + 4) + start
    for sent in [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x00" * 64,
        b"\xff" * 64,
        struct.pack("!II", 16, 80877102) + b"\x00" * 8,
        start + b"Q" + struct.pack("!I", 1 << 30) + b"SELECT",
        start + b"Q" + struct.pack("!I", 0),
        start + b"?" + struct.pack("!I", 4),
        start + b"E" + struct.pack("!I", 4),
        start + b"B" + struct.pack("!I", 12) + b"\x00\x00\x7f\xff\x7f\xff\x00\x00",
        start[:5],
    ]:
        with socket.create_connection(server.postgres, timeout=10) as plain:
            plain.sendall(sent)
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(65536):
                pass
    with connect(server) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_stop_ends_sessions_at_once(server: Server):
    connection = connect(server)
    assert connection.execute("SELECT 1").fetchone() == (1,)
    assert server.stop() < 8
    wait_for(lambda: server.process.poll() == 0, "the server ended well")
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")


def test_connections_are_bounded(server: Server):
    held = [connect(server) for _ in range(100)]
    with pytest.raises(psycopg.OperationalError, match="100 connections"):
        connect(server)
    held.pop().close()
    wait_for(lambda: try_connect(server), "a place is free again")
    for connection in held:
        connection.close()


def try_connect(server: Server) -> bool:
    try:
        connect(server).close()
        return True
    except psycopg.OperationalError:
        return False
