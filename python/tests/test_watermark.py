"""What the watermark decides: late panes, latecomers, and ids that are forgotten."""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import StandardOptions
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.test_stream import TestStream
from apache_beam.utils.timestamp import Timestamp
from conftest import rows_of

import sawlog
from sawlog.beam import SawlogOptions
from sawlog.beam.pipeline import transform, write
from sawlog.beam.rows import ID_FIELD, RawCoder, TableRows
from sawlog.beam.settle import BACKLOG, MARGIN, Gather, Settle, step_after
from sawlog.beam.transform import ids_of

START = datetime(2026, 11, 24, 3, 0, tzinfo=timezone.utc)
SETTINGS = sawlog.Settings(allowed_lateness=60_000_000, dedup_window=600_000_000)


def at(seconds: float) -> Timestamp:
    return Timestamp(micros=int((START + timedelta(seconds=seconds)).timestamp() * 1e6))


def raw(*events: tuple[float, str]) -> pa.RecordBatch:
    """Logs of a user at some seconds, with ids."""
    text = '{"message":"m","service":"shop","user_id":"u","insert_id":"%s","ts":%f}'
    lines = [
        {
            "data": (text % (one, at(seconds).micros / 1e6)).encode(),
            "attributes": [],
            "message_id": one,
            "publish_time": START + timedelta(seconds=seconds),
            "ordering_key": "",
        }
        for seconds, one in events
    ]
    return sawlog.Transformer().receive(pa.RecordBatch.from_pylist(lines, sawlog.schema("messages")), "orders")


def run(folder: Path, stream: Callable[[TestStream], TestStream], *more: str) -> dict[str, list[dict[str, Any]]]:
    """All rows that a stream of events and watermarks leads to, by table."""
    options = SawlogOptions(
        [
            "--subscription",
            "projects/p/subscriptions/s",
            "--output",
            str(folder),
            "--early",
            "0",
            "--shards",
            "1",
            "--pane-base",
            "0",
            *more,
        ]
    )
    options.view_as(StandardOptions).streaming = True
    with TestPipeline(options=options) as pipeline:
        events = pipeline | stream(TestStream(coder=RawCoder())).advance_watermark_to_infinity()
        write(transform(events, options, SETTINGS), options)
    return {table.name: list(rows_of(sorted(table.glob("*.parquet")))) for table in folder.iterdir()}


def minutes(found: dict[str, list[dict[str, Any]]]) -> list[tuple[int, int, str, int]]:
    """Panes of the requests of a minute: second of its start, number, timing, count."""
    panes = [pane for pane in found.get("pane_requests", []) if pane["width"] == "1m"]
    return sorted(
        (int((pane["window_start"] - START).total_seconds()), pane["pane_index"], pane["pane_timing"], pane["count"])
        for pane in panes
    )


def test_an_event_within_the_lateness_makes_a_late_pane(tmp_path: Path):
    found = run(
        tmp_path,
        lambda stream: (
            stream.advance_watermark_to(at(0))
            .add_elements([raw((1, "a"), (2, "b"))])
            .advance_watermark_to(at(70))
            .add_elements([raw((15, "c"))])
            .advance_watermark_to(at(100))
        ),
    )
    assert minutes(found) == [(0, 0, "on_time", 2), (0, 1, "late", 3)]
    assert [row["late"] for row in found["logs"]] == [False] * 3


def test_an_event_beyond_the_lateness_is_stored_and_marked_and_in_no_window(tmp_path: Path):
    found = run(
        tmp_path,
        lambda stream: (
            stream.advance_watermark_to(at(0))
            .add_elements([raw((1, "a"), (200, "b"))])
            .advance_watermark_to(at(210))
            .add_elements([raw((2, "c"), (205, "d"))])
        ),
    )
    late = {row["insert_id"]: row["late"] for row in found["logs"]}
    assert late == {"a": False, "b": False, "c": True, "d": False}
    assert minutes(found) == [(0, 0, "on_time", 1), (180, 0, "on_time", 2)]
    assert sum(row["event_count"] for row in found["pane_sessions"] if row["pane_index"] == 0) == 3


def test_a_part_knows_where_the_watermark_is_before_it_has_rows(tmp_path: Path):
    """Its first rows, and those after a long time without any; it follows in steps, the longer the further back."""
    now = (datetime.now(timezone.utc) - START).total_seconds() // 60 * 60
    found = run(
        tmp_path,
        lambda stream: (
            stream.advance_watermark_to(at(now - 86_400))
            .add_elements([raw((now - 3 * 86_400, "a"), (now - 86_400, "b"))])
            .advance_watermark_to(at(now - 600))
            .add_elements([raw((now - 4_000, "c"), (now - 600, "d"))])
        ),
    )
    assert {row["insert_id"]: row["late"] for row in found["logs"]} == {"a": True, "b": False, "c": True, "d": False}
    assert sum(pane[-1] for pane in minutes(found)) == 2


def test_a_part_with_rows_finds_a_watermark_that_is_a_day_back_to_some_minutes(tmp_path: Path):
    day = (datetime.now(timezone.utc) - START).total_seconds() // 60 * 60 - 86_400

    def stream(stream: TestStream) -> TestStream:
        stream = stream.advance_watermark_to(at(day))
        for place in range(12):
            stream = stream.add_elements([raw((day + place, f"a{place}"))])
        return stream.add_elements([raw((day - 400, "late"))])

    found = run(tmp_path, stream)
    late = {row["insert_id"] for row in found["logs"] if row["late"]}
    assert late == {"late"}
    assert sum(pane[-1] for pane in minutes(found)) == 12


def test_what_is_late_is_marked_where_repeats_are_stored(tmp_path: Path):
    found = run(
        tmp_path,
        lambda stream: (
            stream.advance_watermark_to(at(0))
            .add_elements([raw((1, "a"), (1, "a"), (200, "b"))])
            .advance_watermark_to(at(210))
            .add_elements([raw((2, "c"), (205, "b"))])
        ),
        "--without-dedup",
    )
    assert sorted((row["insert_id"], row["late"]) for row in found["logs"]) == [
        ("a", False),
        ("b", False),
        ("b", False),
        ("c", True),
    ]
    assert "_id" not in found["logs"][0]


def test_a_part_follows_the_watermark_of_a_new_job_in_some_hundred_steps():
    now = 1_800_000_000_000_000
    place, steps = now - BACKLOG, 0
    while place < now:
        place, steps = step_after(place, now), steps + 1
    assert steps < 150 and place - now <= MARGIN


def test_a_repeat_is_dropped_and_the_ledger_says_so(tmp_path: Path):
    found = run(tmp_path, lambda stream: stream.add_elements([raw((1, "a"), (2, "b"))]).add_elements([raw((1, "a"), (3, "c"))]))
    assert sorted(row["insert_id"] for row in found["logs"]) == ["a", "b", "c"]
    counts = {name: sum(row[name] for row in found["sawlog_ledger"]) for name in ("received", "stored", "duplicate")}
    assert counts == {"received": 4, "stored": 3, "duplicate": 1}
    assert minutes(found) == [(0, 0, "on_time", 3)]


class State:
    """A state of one part: a bag, or a value, that can refuse to be written."""

    def __init__(self):
        self.values: list[Any] = []
        self.fails = False

    def read(self) -> Any:
        return self.values if self.is_bag else (self.values or [None])[-1]

    def write(self, value: Any) -> None:
        if self.fails:
            raise OSError("the state is away")
        self.values.append(value)

    is_bag = False
    add = write


class Bag(State):
    is_bag = True


def test_a_batch_that_failed_halfway_is_no_repeat_when_it_comes_again():
    settle = Settle(SETTINGS, has_end=True, remembers=True)
    settle.setup()
    ids, token, other = Bag(), State(), State()

    def rows(one: str) -> list[int]:
        made = sawlog.Transformer().transform(raw((1, one)))
        element = TableRows("logs", made["logs"].append_column(ID_FIELD, ids_of("logs", 1, made["ids"])))
        return [
            len(found.rows)
            for found in settle.process((0, element), ids, token, other, other, other, other, other)
            if hasattr(found, "rows")
        ]

    assert rows("a") == [1] and rows("a") == []
    ids.fails = True
    with pytest.raises(OSError, match="away"):
        rows("b")
    ids.fails = False
    assert rows("b") == [1] and rows("b") == []


def test_ids_are_forgotten_after_the_dedup_window(tmp_path: Path):
    long = SETTINGS.dedup_window / 1e6
    found = run(
        tmp_path,
        lambda stream: (
            stream.advance_watermark_to(at(0))
            .add_elements([raw((1, "a"))])
            .advance_watermark_to(at(long - 60))
            .add_elements([raw((1, "a"), (long, "b"))])
            .advance_watermark_to(at(4 * long))
            .add_elements([raw((4 * long, "c"))])
            .advance_watermark_to(at(4 * long + 15))
            .add_elements([raw((4 * long, "a"))])
        ),
    )
    assert sorted(row["insert_id"] for row in found["logs"]) == ["a", "a", "b", "c"]


@pytest.mark.parametrize("most", [4_000, 7])
def test_rows_of_parts_are_put_together_again_and_none_is_lost(monkeypatch: pytest.MonkeyPatch, most: int):
    monkeypatch.setattr("sawlog.beam.settle.GATHERED_ROWS", most)
    found = sawlog.Transformer().transform(raw(*((place, str(place)) for place in range(100))))
    single = [TableRows(table, found["logs"].slice(place, 1)) for place in range(100) for table in ("logs", "activity")]
    gather, together = Gather(), []
    gather.start_bundle()
    for place, element in enumerate(single):
        together += gather.process(element, at(place))
    left = list(gather.finish_bundle())
    assert {value.timestamp for value in left} == {at(0)}
    together += [value.value for value in left]
    assert max(len(rows.rows) for rows in together) == min(most, 100)
    for table in ("logs", "activity"):
        assert pa.Table.from_batches([rows.rows for rows in together if rows.table == table]).equals(
            pa.Table.from_batches([found["logs"]])
        )
