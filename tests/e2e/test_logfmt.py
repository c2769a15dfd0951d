"""logfmt: detected in files, declared over HTTP, bad lines kept."""

import json
from pathlib import Path

from conftest import Server, sawlog

LINES = [
    'time=2026-11-20T10:00:00Z level=error msg="payment \\"failed\\"\\n at once" service=checkout dur=107ms duration=107ms cached',
    "time=2026-11-20T10:00:01Z level=info msg=ok service=checkout status=200 path=/cart/42 user.id=42",
    'time=2026-11-20T10:00:02Z level=warn msg="tab\\there" ratio=0.5 code=007',
]


def rows(data: Path, sql: str) -> list[list]:
    done = sawlog("query", sql, "--data", str(data), "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["rows"]


def test_a_file_of_pairs_is_detected_and_its_stray_lines_become_text(data: Path, tmp_path: Path):
    path = tmp_path / "app.log"
    path.write_text("\n".join(LINES * 3 + ["that was all for today, no more to come", ""]))
    counts = json.loads(sawlog("ingest", str(path), "--data", str(data), "--json").stdout)
    assert (counts["stored"], counts["dead_lettered"]) == (10, 0)
    assert rows(data, "SELECT format, count(*) FROM logs GROUP BY 1") == [["logfmt", 10]]
    first = "SELECT severity_class, message, service, duration_us FROM logs WHERE severity_class = 'error' LIMIT 1"
    assert rows(data, first) == [["error", 'payment "failed"\n at once', "checkout", 107_000]]
    assert rows(data, "SELECT message FROM logs WHERE format = 'logfmt' AND message LIKE 'that was%'") == [["that was all for today, no more to come"]]


def test_a_declared_file_keeps_lines_without_pairs_as_dead_letters(data: Path):
    text = "\n".join([*LINES, "just words", 'open="never closed']).encode()
    counts = json.loads(sawlog("ingest", "--format", "logfmt", "--data", str(data), "--json", stdin=text).stdout)
    assert (counts["stored"], counts["dead_lettered"]) == (3, 2)
    letters = "SELECT reason, byte_offset, format FROM dead_letters ORDER BY record_index"
    assert rows(data, letters) == [["format_mismatch", 0, "logfmt"], ["format_mismatch", 5, "logfmt"]]


def test_the_parameter_format_takes_it_over_http(server: Server):
    status, answer, _ = server.post("/v1/events?format=logfmt", "\n".join(LINES))
    assert status == 200 and json.loads(answer)["stored"] == 3
    assert server.sql("SELECT http_status, user_id FROM logs WHERE user_id IS NOT NULL") == [[200, "42"]]
    status, answer, _ = server.post("/v1/events?format=logfmd", "a=1")
    assert status == 400 and b"logfmt" in answer
