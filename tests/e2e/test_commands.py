"""The command line: ingest, query, config, keys, folder lock."""

import gzip
import json
import time
from pathlib import Path

import pytest

from conftest import Server, request, sawlog, test_data

LOGHUB = ["Apache", "BGL", "HDFS", "HPC", "Hadoop", "Linux", "OpenSSH", "Proxifier", "Spark", "Zookeeper"]


def rows(data: Path, sql: str) -> list[list]:
    done = sawlog("query", sql, "--data", str(data), "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["rows"]


def test_bare_sawlog_says_what_to_do_next():
    done = sawlog()
    assert done.returncode == 0 and b"sawlog serve" in done.stdout


def test_real_files_are_loaded_whole_and_only_once(data: Path):
    files = [str(test_data() / "access/apache_combined.log")]
    files += [str(test_data() / f"loghub/{name}_2k.log") for name in LOGHUB]
    done = sawlog("ingest", *files, "--data", str(data), "--json")
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts["received"] == 30_000 and counts["stored"] + counts["dead_lettered"] == 30_000
    again = json.loads(sawlog("ingest", *files, "--data", str(data), "--json").stdout)
    assert again["duplicate"] == 30_000
    assert rows(data, "SELECT count(*) FROM logs")[0][0] == counts["stored"]
    formats = rows(data, "SELECT format, count(*) FROM logs GROUP BY format ORDER BY format")
    assert formats == [["access", 10_000], ["syslog", 4_000], ["text", 16_000]]
    top = rows(data, "SELECT http_status, count(*) FROM logs WHERE format = 'access' GROUP BY 1 ORDER BY 2 DESC LIMIT 2")
    assert top == [[200, 9126], [304, 445]]


def test_standard_input_and_compression_are_read(data: Path):
    lines = b'{"message":"one"}\n{"message":"two"}\n'
    done = sawlog("ingest", "--data", str(data), stdin=gzip.compress(lines))
    assert done.returncode == 0 and b"2 received, 2 stored" in done.stdout, done


def test_ingest_and_query_work_through_a_server(server: Server):
    path = str(test_data() / "loghub/Apache_2k.log")
    counts = json.loads(sawlog("ingest", path, "--url", server.url, "--json").stdout)
    assert counts["stored"] == 2_000
    done = sawlog("query", "SELECT severity_class, count(*) AS n FROM logs GROUP BY 1 ORDER BY 1", "--url", server.url)
    assert b"| error          | 595  |" in done.stdout, done.stdout


def test_problems_are_told_alike_by_a_folder_and_through_a_server(server: Server, tmp_path: Path):
    path = tmp_path / "bad.log"
    path.write_bytes(b'{"message":"good"}\n{broken\n{"message":"' + b"x" * (2 << 20) + b'"}\n{"message":"good too"}')
    told = []
    for target in [("--data", str(tmp_path / "other")), ("--url", server.url)]:
        done = sawlog("ingest", str(path), "--format", "json", *target)
        assert done.returncode == 0 and b"4 received, 2 stored" in done.stdout, done
        told.append(sorted(done.stderr.decode().splitlines()))
    assert told[0] == told[1] and len(told[0]) == 2, told
    assert told[0][0].startswith("dead-lettered: ") and told[0][1].startswith("rejected: "), told
    assert "more than 1048576" in told[0][1]
    path.write_bytes(b'{"message":"' + b"x" * (2 << 20) + b'"}\n' + b"{broken\n" * 30)
    done = sawlog("ingest", str(path), "--format", "json", "--url", server.url)
    assert b"rejected: " in done.stderr and b"more: SELECT reason" in done.stderr, done.stderr
    # A chunk of which nothing can be kept is an answer with counts, not a failure.
    path.write_bytes(b'{"message":"' + b"x" * (1 << 20) + b'"}\n')
    done = sawlog("ingest", str(path), "--format", "json", "--url", server.url, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["rejected"] == 1, done


def test_a_second_process_is_told_who_holds_the_folder(server: Server):
    done = sawlog("query", "SELECT 1", "--data", str(server.data))
    assert done.returncode == 1
    assert str(server.process.pid).encode() in done.stderr and b"--url" in done.stderr


def test_configuration_mistakes_are_all_reported_with_place_and_suggestion(tmp_path: Path):
    path = tmp_path / "bad.toml"
    path.write_text('[wal]\nsegmentsize = "1MiB"\n\n[query]\ntime-max = "soon"\n')
    done = sawlog("config", "check", "--config", str(path))
    assert done.returncode == 2
    text = done.stderr.decode()
    assert "bad.toml:2" in text and "did you mean `wal.segment-size`" in text and "bad.toml:5" in text
    shown = sawlog("config", "show", "--origin", "--set", "query.rows-max=5").stdout.decode()
    assert 'query.rows-max = "5"  # flag for query.rows-max' in shown
    assert "# no rules" in shown and "# no files to follow" in shown


def test_rules_and_followed_files_are_shown_with_their_origin_and_their_unknown_keys_are_named(tmp_path: Path):
    path = tmp_path / "rules.toml"
    path.write_text(
        '[rules.defaults]\nservice = "shop"\n\n[[rules.redact]]\nname = "mail"\npattern = "email"\n\n[[tail]]\npaths = ["/var/log/*.log"]\n'
    )
    shown = sawlog("config", "show", "--origin", "--config", str(path)).stdout.decode()
    for line in [
        f'rules.defaults.service = "shop"  # {path}:2',
        f'rules.redact[0].name = "mail"  # {path}:5',
        f'tail[0].paths = ["/var/log/*.log"]  # {path}:9',
    ]:
        assert line in shown, shown
    entries = {entry["key"]: entry for entry in json.loads(sawlog("config", "show", "--json", "--config", str(path)).stdout)}
    assert entries["rules.redact[0].pattern"]["origin"] == f"{path}:6"
    path.write_text('[[rules.redact]]\nname = "mail"\npatern = "email"\n[rules.default]\nservice = "x"\n')
    done = sawlog("config", "check", "--config", str(path))
    text = done.stderr.decode()
    assert done.returncode == 2 and f"{path}:3: `rules.redact[0].patern`" in text and "did you mean `pattern`?" in text, text
    assert f"{path}:4: `rules.default`" in text and "did you mean `defaults`?" in text, text


@pytest.mark.parametrize("setting", ["server.listen", "server.otlp-grpc-listen", "server.otlp-http-listen", "postgres.listen"])
def test_every_address_that_others_reach_needs_a_key(data: Path, setting: str):
    ports = ["server.listen", "server.otlp-grpc-listen", "server.otlp-http-listen", "postgres.listen"]
    flags = [flag for port in ports for flag in ("--set", f"{port}={'0.0.0.0' if port == setting else '127.0.0.1'}:0")]
    done = sawlog("serve", "--data", str(data), *flags, timeout=30)
    assert done.returncode == 1 and b"0.0.0.0:0 can be reached from other machines" in done.stderr, done.stderr
    assert b"sawlog key create" in done.stderr
    made = sawlog("key", "create", "--name", "any", "--scope", "ingest", "--data", str(data))
    assert made.returncode == 0
    server = Server(data, "host-metrics.enabled=false", f"{setting}=[::1]:0" if setting != "server.listen" else "log.level=info").start()
    assert server.get("/healthz")[0] == 200
    server.stop()


def old(days: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - days * 86_400))


def test_each_source_accepts_the_ages_that_its_settings_say(data: Path, tmp_path: Path):
    settings = ["host-metrics.enabled=false", "sources.http.past-max=10d", "sources.otlp.past-max=20d", "sources.http.future-max=1h"]
    server = Server(data, *settings).start()

    def outcome(days: float, path: str = "/v1/events") -> str:
        _, answer, _ = server.post(path, json.dumps({"timestamp": old(days), "message": "m"}))
        counts = json.loads(answer)
        return next(name for name in ("stored", "dead_lettered") if counts[name] == 1)

    assert [outcome(days) for days in (9, 11, -0.03, -0.1)] == ["stored", "dead_lettered", "stored", "dead_lettered"]
    # The name of a source is a name, not a key.
    assert outcome(11, "/v1/events?source=files") == "dead_lettered"
    assert outcome(11, "/v1/events?ages=files") == "stored"
    for days, expected in [(15, 1), (25, 0)]:
        nanos = str(int((time.time() - days * 86_400) * 1e9))
        body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": nanos, "body": {"stringValue": "otlp"}}]}]}]}
        before = server.value("SELECT count(*) FROM logs WHERE source = 'otlp-http'")
        status, _, _ = request("POST", server.otlp_http + "/v1/logs", json.dumps(body).encode(), {"Content-Type": "application/json"})
        assert status == 200 and server.value("SELECT count(*) FROM logs WHERE source = 'otlp-http'") == before + expected
    server.stop()
    path = tmp_path / "old.log"
    path.write_text(json.dumps({"timestamp": "1999-01-01T00:00:00Z", "message": "old"}))
    for flags, expected in [([], 1), (["--set", "sources.files.past-max=400d"], 0)]:
        counts = json.loads(sawlog("ingest", str(path), "--data", str(data), "--json", "--again", *flags).stdout)
        assert (counts["stored"], counts["dead_lettered"]) == (expected, 1 - expected)


def test_only_administrators_load_history_through_a_server_with_keys(data: Path, tmp_path: Path):
    keys = {}
    for scope in ("ingest", "admin"):
        made = sawlog("key", "create", "--name", scope, "--scope", scope, "--data", str(data))
        keys[scope] = made.stdout.decode().strip()
    server = Server(data, "host-metrics.enabled=false").start()
    path = tmp_path / "old.log"
    path.write_text("".join(json.dumps({"timestamp": day, "message": "m"}) + "\n" for day in ("1999-01-01T00:00:00Z", old(1))))
    for scope, stored in [("ingest", 1), ("admin", 2)]:
        done = sawlog("ingest", str(path), "--url", server.url, "--key", keys[scope], "--json", "--again")
        counts = json.loads(done.stdout)
        assert (counts["stored"], counts["dead_lettered"]) == (stored, 2 - stored), (scope, done)
        assert (b"dead-lettered: " in done.stderr) == (scope == "ingest")
    server.stop()


def test_generate_repeats_itself_for_one_seed_and_start():
    def stream(*flags: str) -> bytes:
        done = sawlog("generate", "--no-pace", "--count", "2000", "--start", "2026-01-01T00:00:00Z", *flags)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = stream("--seed", "7")
    assert first == stream("--seed", "7") and first.count(b"\n") == 2000
    assert first != stream("--seed", "8")
    assert first.count(b'"timestamp":"2026-01-01T00:00:') > 1000, first[:300]
    for form in ("combined", "syslog", "logfmt"):
        assert stream("--seed", "7", "--format", form) == stream("--seed", "7", "--format", form) != first
    refused = sawlog("generate", "--start", "yesterday-ish")
    assert refused.returncode == 2 and b"2026-01-01T00:00:00Z" in refused.stderr


def test_an_open_port_needs_a_key_and_keys_have_scopes(data: Path):
    ports = ["--set", "server.otlp-grpc-listen=127.0.0.1:0", "--set", "server.otlp-http-listen=127.0.0.1:0"]
    ports += ["--set", "postgres.enabled=false"]
    done = sawlog("serve", "--data", str(data), "--set", "server.listen=0.0.0.0:0", *ports)
    assert done.returncode == 1 and b"sawlog key create" in done.stderr
    made = sawlog("key", "create", "--name", "agent", "--scope", "ingest", "--data", str(data))
    key = made.stdout.decode().strip()
    server = Server(data, "host-metrics.enabled=false").start()
    bearer = {"Authorization": f"Bearer {key}"}
    assert server.post("/v1/events", '{"message":"x"}')[0] == 401
    assert server.post("/v1/events", '{"message":"x"}', {"Authorization": "Bearer "})[0] == 401
    assert server.post("/v1/events", '{"message":"x"}', bearer)[0] == 200
    assert server.post("/v1/sql", "SELECT 1", bearer)[0] == 403
    assert key not in (data / "keys.json").read_text()
    server.stop()
