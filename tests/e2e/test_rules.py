"""Rules of a running server: redaction before anything is written, and changes without a restart."""

import json
from pathlib import Path

from conftest import Server, wait_for

DROP_NOISE = """
[[rules.filter]]
name = "noise"
where = [{ field = "message", equals = "noise" }]
"""
LOOKUP = """
[[rules.lookup]]
name = "customer"
file = "{file}"
key = "id"
field = "user_id"
"""


def send(server: Server, **event) -> dict:
    return server.events(json.dumps(event))


def test_changed_rules_are_taken_over_while_the_server_runs(data: Path, tmp_path: Path):
    config = tmp_path / "sawlog.toml"
    config.write_text("")
    server = Server(data, "host-metrics.enabled=false", config=config).start()
    assert send(server, message="noise")["stored"] == 1
    config.write_text(DROP_NOISE)
    wait_for(lambda: send(server, message="noise")["filtered"] == 1, "the filter works")
    assert server.value("SELECT count(DISTINCT rules_version) FROM logs") == 1
    assert send(server, message="signal")["stored"] == 1
    assert server.value("SELECT count(DISTINCT rules_version) FROM logs") == 2

    config.write_text(DROP_NOISE + '[[rules.redact]]\nname = "r"\npattern = "("\n')
    reloads = "sawlog_rules_reloads_total{result=\"error\"}"
    wait_for(lambda: reloads in server.get("/metrics")[1].decode(), "the mistake is counted")
    assert send(server, message="noise")["filtered"] == 1, "the old rules stay in force"

    server.kill()
    config.write_text("")
    server.start()
    assert server.value("SELECT count(*) FROM logs WHERE message = 'signal'") == 1
    assert server.value("SELECT sum(received - stored - filtered) FROM sawlog_ledger") == 0
    server.stop()


def test_a_changed_lookup_file_counts_for_new_events(data: Path, tmp_path: Path):
    table = tmp_path / "customers.csv"
    table.write_text("id,segment\nu1,silver\n")
    config = tmp_path / "sawlog.toml"
    config.write_text(LOOKUP.format(file=table))
    server = Server(data, "host-metrics.enabled=false", config=config).start()
    segments = "SELECT DISTINCT attributes['customer.segment'] FROM logs ORDER BY 1"
    send(server, message="a", user_id="u1")
    table.write_text("id,segment\nu1,golden\n")

    def is_golden():
        send(server, message="b", user_id="u1")
        return [row[0] for row in server.sql(segments)] == ["golden", "silver"]

    wait_for(is_golden, "the new table is used")
    server.stop()
