"""A stream on doubles of Google's services: Pub/Sub to BigQuery and Bigtable, over a kill.

The DirectRunner acknowledges messages before they are processed, which Dataflow does not: after the kill the subscription is set
back, and messages come again.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import generated
from doubles import Cloud, wait_for

import sawlog

# The DirectRunner takes ten messages at a time.
COUNT = 5_000 if os.environ.get("SAWLOG_LONG") else 1_000
EVENTS = ("logs", "metrics", "activity")


@pytest.fixture
def cloud(tmp_path: Path):
    made = Cloud(tmp_path)
    yield made
    made.stop()


def start(cloud: Cloud, folder: Path, name: str, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "sawlog.beam", "--runner", "DirectRunner", *cloud.flags(), *more]
    log = open(folder / f"{name}.log", "wb")
    return subprocess.Popen(command, stdout=log, stderr=log, env=cloud.environment(), cwd=Path(__file__).parents[1])


def rows_in(folder: Path, *tables: str) -> int:
    return sum(pq.ParquetFile(file).metadata.num_rows for table in tables for file in folder.glob(f"{table}/*.parquet"))


def expected_of(lines: list[bytes]) -> dict[str, pa.RecordBatch]:
    """Rows of the messages; what has no id of its own has one of its message, which nobody knows before."""
    now = datetime.now(timezone.utc)
    messages = [
        {"data": line, "attributes": [], "message_id": f"m{place}", "publish_time": now, "ordering_key": ""}
        for place, line in enumerate(lines)
    ]
    transformer = sawlog.Transformer()
    batch = pa.RecordBatch.from_pylist(messages, sawlog.schema("messages"))
    return transformer.transform(transformer.receive(batch, "orders"))


def hours(rows: dict[str, pa.RecordBatch]) -> dict[bytes, bytes]:
    """Final cells of the hours of rows, by row key; without lists of most frequent values, whose bounds depend on the order."""
    parts: dict[tuple[bytes, int], list[bytes]] = {}
    for cell in sawlog.Rollups().cells(rows).to_pylist():
        if cell["key"][:1] != b"t":
            start = cell["window_start"].replace(minute=0, second=0, microsecond=0)
            parts.setdefault((cell["key"], start), []).append(cell["cell"])
    panes = [
        {
            "key": key,
            "width": "1h",
            "window_start": start,
            "pane_index": 0,
            "pane_timing": "on_time",
            "cell": sawlog.merge_cells(key, cells),
        }
        for (key, start), cells in parts.items()
    ]
    cells = sawlog.bigtable_cells(pa.RecordBatch.from_pylist(panes, sawlog.schema("panes"))).to_pylist()
    return {cell["row_key"]: without_number(cell["value"]) for cell in cells}


def without_number(pane: bytes) -> bytes:
    """A cell without the version, the timing and the number (a varint) of its pane."""
    place = 2
    while pane[place] & 0x80:
        place += 1
    return pane[place + 1 :]


def test_messages_are_in_bigquery_and_bigtable_once_over_a_kill(cloud: Cloud, tmp_path: Path):
    began = datetime.now(timezone.utc)
    stream_start = (began - timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = generated(COUNT, "--late", "0", "--duplicate", "0.05", "--malformed", "0.02", start=stream_start).splitlines()
    output = tmp_path / "out"
    cloud.publish(lines)
    flags = ("--output", str(output), "--early", "5", "--dead-letters-max", "1")
    process = start(cloud, tmp_path, "first", *flags)
    wait_for(lambda: rows_in(output, "logs") > 100, "some rows are written", 120)
    process.kill()
    process.wait()
    cloud.subscriber.seek(request={"subscription": cloud.subscription, "time": began - timedelta(minutes=5)})
    expected = expected_of(lines)
    wanted = hours(expected)

    def settled() -> bool:
        cells = cloud.cells("rollup_1h")
        return {key: without_number(cell) for key, cell in cells.items() if key[:1] != b"t"} == wanted

    def stored() -> dict[str, int]:
        count = "SELECT COUNT(DISTINCT insert_id) FROM `{}.%s` WHERE event_time > '2000-01-01'"
        return {table: cloud.rows(count % table)[0][0] for table in EVENTS}

    process = start(cloud, tmp_path, "second", *flags)
    try:
        wait_for(settled, "the windows in Bigtable are those of all events", 180)
        # Rows are appended beside the cells. The double would stand still if it were asked while they are.
        time.sleep(5)
        wait_for(lambda: stored() == {table: len(expected[table]) for table in EVENTS}, "all rows are in BigQuery", 60)
    finally:
        process.kill()
        process.wait()
    ids = Counter(row for (row,) in cloud.rows("SELECT insert_id FROM `{}.logs` WHERE event_time > '2000-01-01'"))
    assert max(ids.values()) == 1 and len(ids) == len(expected["logs"])
    own = {json.loads(line)["insert_id"] for line in lines if b'"insert_id"' in line and is_json(line)}
    assert {one for one in expected["logs"]["insert_id"].to_pylist() if one in own} <= set(ids)
    letters = cloud.rows("SELECT COUNT(DISTINCT payload) FROM `{}.dead_letters` WHERE receive_time > '2000-01-01'")
    assert letters == [(len(set(expected["dead_letters"]["payload"].to_pylist())),)]


def is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
