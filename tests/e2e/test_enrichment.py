"""Segments and countries from tables of users, signatures, and deploys."""

import csv
import json
import shutil
import time
import urllib.parse
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from conftest import ROOT, Server, sawlog, wait_for

USERS = """
[[rules.users]]
name = "crm"
file = "{folder}/users.csv"
[[rules.users]]
name = "billing"
file = "{folder}/more.csv"
"""
LOOKUPS = "sawlog_enrichment_total"


def post(server: Server, *events: dict) -> dict:
    answer = server.events("\n".join(map(json.dumps, events)))
    assert answer["stored"] == len(events), answer
    return answer


def lookups(server: Server) -> dict[tuple[str, str], int]:
    lines = server.get("/metrics")[1].decode().splitlines()
    found = (line.removeprefix(f"{LOOKUPS}{{").split("} ") for line in lines if line.startswith(f"{LOOKUPS}{{"))
    return {tuple(part.split('"')[1] for part in labels.split(",")): int(count) for labels, count in found}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "users.csv").write_text("user_id,user_segment,country\nu1,gold,DE\nu2,silver,\n")
    (tmp_path / "more.csv").write_text("user_id,country\nu2,FR\n")
    path = tmp_path / "sawlog.toml"
    path.write_text(USERS.format(folder=tmp_path))
    return path


def start(data: Path, config: Path, *settings: str) -> Server:
    return Server(data, "host-metrics.enabled=false", *settings, config=config).start()


SEGMENTS = "SELECT user_id, user_segment, country FROM logs ORDER BY event_time, user_id"


def test_users_are_looked_up_counted_and_overruled_by_the_event_itself(data: Path, config: Path):
    server = start(data, config)
    assert LOOKUPS + "{" not in server.get("/metrics")[1].decode(), "nothing was looked up"
    now = time.time()
    own = {"user_id": "u1", "country": "PL", "segment": "own"}
    for index, event in enumerate([{"user_id": "u1"}, {"user_id": "u2"}, {"user_id": "u3"}, own, {"message": "no user"}]):
        post(server, {"timestamp": now + index / 1000, **event})
    expected = [["u1", "gold", "DE"], ["u2", "silver", "FR"], ["u3", None, None], ["u1", "own", "PL"], [None, None, None]]
    assert server.sql(SEGMENTS) == expected
    counts = {("crm", "match"): 2, ("crm", "miss"): 1, ("billing", "match"): 1, ("billing", "miss"): 1}
    assert lookups(server) == counts
    post(server, {"event": "buy", "user_id": "u1"}, {"event": "buy", "user_id": "u9"})
    rollup = "SELECT user_segment, country, sum(count) FROM rollup_activity_1h GROUP BY 1, 2 ORDER BY 1 NULLS LAST"
    assert server.sql(rollup) == [["gold", "DE", 1], [None, None, 1]]
    server.stop()


def test_a_replay_uses_the_tables_of_the_time_of_receipt(data: Path, config: Path, tmp_path: Path):
    server = start(data, config, "pipeline.flush-interval=1h")
    post(server, {"user_id": "u1", "message": "before"})
    (tmp_path / "users.csv").write_text("user_id,user_segment,country\nu1,platinum,AT\n")

    def is_new():
        post(server, {"user_id": "u1", "message": "after"})
        return server.value("SELECT count(*) FROM logs WHERE user_segment = 'platinum'") > 0

    wait_for(is_new, "the new table is used")
    query = "SELECT message, user_segment, country, count(*), rules_version FROM logs GROUP BY 1, 2, 3, 5 ORDER BY 1, 2"
    rows = server.sql(query)
    assert rows[-1][:3] == ["before", "gold", "DE"]
    counted = lookups(server)
    server.kill()
    # What the files say now must not matter to what was accepted before.
    (tmp_path / "users.csv").write_text("user_id,user_segment,country\nu1,other,XX\n")
    server.start()
    assert "recovered from the event log" in server.log()
    assert server.sql(query) == rows
    assert counted and lookups(server) == {}, "a replay counts nothing twice"
    contents = list((data / "rules" / "files").iterdir())
    assert len(contents) == 4, "each content is kept once, whatever the number of versions"
    server.stop()


def test_a_bad_table_changes_nothing_and_says_where_and_what(data: Path, config: Path, tmp_path: Path):
    server = start(data, config)
    bad = {
        "user_id,country\nu1,DE\nu1,FR\n": 'line 3, column user_id: user "u1" is in line 2 already',
        "id,country\nu1,DE\n": 'line 1: there is no column "user_id"',
        "user_id,country\nu1\n": "line 2: it has 1 values, the header has 2",
        b"user_id,country\nu1,\xff\n": "line 2: byte 4 of the line is not UTF-8",
    }
    for text, problem in bad.items():
        (tmp_path / "users.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        wait_for(lambda: problem in server.log(), f"the log says {problem!r}")
        checked = sawlog("config", "check", "--config", str(config))
        assert checked.returncode != 0 and problem in checked.stderr.decode() + checked.stdout.decode()
    assert 'sawlog_rules_reloads_total{result="error"}' in server.get("/metrics")[1].decode()
    post(server, {"user_id": "u1"})
    assert server.sql(SEGMENTS) == [["u1", "gold", "DE"]], "the old table stays in force"
    server.stop()
    refused = sawlog("serve", "--data", str(data), "--config", str(config))
    assert refused.returncode != 0 and b"users.csv" in refused.stderr


def test_signatures_group_messages_and_are_made_after_redaction(data: Path, tmp_path: Path):
    config = tmp_path / "sawlog.toml"
    config.write_text('[[rules.redact]]\nname = "name"\npattern = "(alice|bob)"\n')
    server = start(data, config)
    events = [f"login of {name} from 10.0.0.{number} failed" for number, name in enumerate(["alice", "bob", "alice"])]
    post(server, *({"message": message} for message in events), {"message": "logout"}, {"level": "info"})
    groups = server.sql("SELECT signature, count(*) FROM logs GROUP BY 1 ORDER BY 2 DESC, 1 NULLS LAST")
    assert [count for _, count in groups] == [3, 1, 1]
    assert [signature is None for signature, _ in groups] == [False, False, True]
    assert all(len(signature) == 16 and int(signature, 16) >= 0 for signature, _ in groups[:2])
    server.stop()


def test_tables_of_an_earlier_build_are_read_and_go_on(data: Path, config: Path):
    shutil.copytree(ROOT / "tests" / "formats" / "tables-v1", data / "tables")
    server = start(data, config, "pipeline.flush-interval=200ms")
    old = ["before the upgrade, number 1", None, None]
    query = "SELECT message, signature, user_segment FROM logs ORDER BY event_time"
    assert server.sql(query) == [old]
    post(server, {"user_id": "u1", "message": "after"})
    wait_for(lambda: server.value("SELECT count(*) FROM sawlog_ledger WHERE in_flight = 0") > 0, "it is counted")
    server.stop()
    server.start()
    rows = server.sql(query)
    assert rows[0] == old and rows[1][0::2] == ["after", "gold"] and rows[1][1]
    assert server.sql("SELECT event_name, country FROM activity") == [["buy", None]]
    server.stop()


def moment(ago: timedelta) -> str:
    return (datetime.now(timezone.utc) - ago).isoformat(timespec="seconds").replace("+00:00", "Z")


def deploys(server: Server, **parameters: str) -> list[list[str]]:
    status, answer, _ = server.get(f"/v1/deploys?{urllib.parse.urlencode(parameters)}")
    assert status == 200, answer
    document = json.loads(answer)
    assert not document["truncated"]
    return [[row["service"], row["service_version"], row["origin"], row["description"]] for row in document["deploys"]]


def test_deploys_come_from_events_from_the_list_and_from_first_records(data: Path, tmp_path: Path):
    listed = tmp_path / "deploys.csv"
    minutes = lambda count: timedelta(minutes=count)
    listed.write_text(f'time,service,service_version,description\n{moment(minutes(30))},cart,9,"new, faster"\n')
    config = tmp_path / "sawlog.toml"
    config.write_text(f'[deploys]\nfile = "{listed}"\n')
    server = start(data, config)
    record = lambda ago, **fields: {"timestamp": moment(minutes(ago)), "message": "served", **fields}
    post(
        server,
        *(record(ago, service="shop", version="1") for ago in (50, 49)),
        record(40, service="shop", version="2"),
        record(20, service="shop", version="3"),
        record(50, service="cart", version="8"),
        record(29, service="cart", version="9"),
        {"timestamp": moment(minutes(21)), "event": "deploy", "service": "shop", "version": "3", "message": "by the pipeline"},
        {"timestamp": moment(minutes(10)), "event": "deployment", "service": "web", "version": "5", "user_id": "ci"},
        # Nobody's version, and one without a service.
        record(15, service="shop"),
        record(15, version="17"),
    )
    expected = [
        ["web", "5", "event", None],
        ["shop", "3", "event", "by the pipeline"],
        ["cart", "9", "file", "new, faster"],
        ["shop", "2", "first_seen", None],
    ]
    assert deploys(server) == expected
    assert deploys(server, service="cart") == [expected[2]]
    assert deploys(server, to="-25m") == expected[2:]
    assert deploys(server, **{"from": "-25m"}) == expected[:2]
    rows = server.sql("SELECT service, service_version, origin, description FROM deploys ORDER BY time DESC")
    assert rows == expected
    seen = server.value("SELECT time FROM deploys WHERE origin = 'first_seen'")
    assert seen[:16] == moment(minutes(40))[:16], "to the minute"
    assert server.value("SELECT count(*) FROM deploys WHERE time > now() - interval '5 minutes'") == 0

    listed.write_text(f"time,service,service_version\n{moment(minutes(5))},cart,10\n")
    wait_for(lambda: ["cart", "10", "file", None] in deploys(server), "the list is read again")
    assert ["cart", "9", "first_seen", None] in deploys(server), "nobody announces it any more"
    listed.write_text("time,service,service_version\nsoon,cart,10\n")
    problem = "line 2, column time"
    wait_for(lambda: problem in server.log(), "the mistake is in the log")
    assert ["cart", "10", "file", None] in deploys(server), "the old list stays"

    for query in ("from=soon", "from=-1d&to=-2d", "serice=x"):
        status, answer, _ = server.get(f"/v1/deploys?{query}")
        error = json.loads(answer)["error"]
        assert (status, error["code"]) == (400, "request_invalid") and error["hint"], answer
    listed.write_text(f"time,service,service_version\n{moment(minutes(5))},cart,10\n")
    before = deploys(server)
    server.kill()
    server.start()
    assert deploys(server) == before
    server.stop()


def test_first_records_are_found_in_a_long_history(data: Path, tmp_path: Path):
    """Windows in the store and in memory, with gaps, of many routes."""
    path = tmp_path / "history.ndjson"
    start_time = datetime(2026, 1, 1, tzinfo=timezone.utc)
    versions = {"1": 0, "2": 97, "3": 98, "4": 1000}
    with open(path, "w") as out:
        for hour in (*range(0, 200), *range(900, 1100, 7), 1500):
            version = max((version for version, first in versions.items() if first <= hour), key=int)
            for route in ("/a", "/b", "/c"):
                at = start_time + timedelta(hours=hour, minutes=17)
                event = {"timestamp": at.isoformat(), "service": "shop", "version": version, "path": route, "status": 200}
                out.write(json.dumps(event) + "\n")
    assert sawlog("ingest", str(path), "--data", str(data)).returncode == 0
    query = "SELECT service_version, time FROM deploys WHERE origin = 'first_seen' ORDER BY 1"
    answer = sawlog("query", query, "--data", str(data), "--format", "csv")
    assert answer.returncode == 0, answer.stderr
    found = list(csv.reader(answer.stdout.decode().splitlines()))[1:]
    first = {version: next(hour for hour in (*range(0, 200), *range(900, 1100, 7), 1500) if hour >= at) for version, at in versions.items()}
    expected = [[version, (start_time + timedelta(hours=hour, minutes=17))] for version, hour in first.items() if version != "1"]
    assert [[version, datetime.fromisoformat(at)] for version, at in found] == expected
