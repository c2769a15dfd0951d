"""One core, two runtimes, one truth: the same raw records through the binary and through Beam give the same rows.

Rows are compared without the id of their batch, their place in it and the `late` mark; of windows the final pane, without its
number. Of a record that was received twice either may stay: its time of receipt is not compared. The raw records are those that the
binary kept, so that both runs have the same times of receipt.
"""

import hashlib
import json
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Deployment, binary, canonical, data_of_tests, generated, rows_of
from conftest import run as binary_says

import sawlog
from sawlog.beam import SawlogOptions, build

IS_LONG = bool(os.environ.get("SAWLOG_LONG"))
EVENTS, SHUFFLES = (1_000_000, 20) if IS_LONG else (20_000, 3)
TABLES = ("logs", "metrics", "activity", "dead_letters")
ROW_EXTRAS = ("batch_id", "record_index", "late", "event_date")
PANE_EXTRAS = ("pane_index", "pane_timing", "event_date", "width")
SESSION_EXTRAS = (*PANE_EXTRAS, "is_open")
ROLLUPS = ("requests", "metrics", "activity", "users")
WIDTHS = ("10s", "1m", "1h")
# A late repeat may be hours from what it repeats.
LONG_MEMORY = '[pipeline]\ndedup-window = "1d"\n'


def shuffled(raw: pa.RecordBatch, seed: int, folder: Path) -> str:
    """The records in another order, in several objects."""
    order = list(range(len(raw)))
    random.Random(seed).shuffle(order)
    mixed = raw.take(pa.array(order))
    folder.mkdir(parents=True)
    part = max(1, len(raw) // 5)
    for place, start in enumerate(range(0, len(raw), part)):
        pq.write_table(pa.Table.from_batches([mixed.slice(start, part)]), folder / f"{place}.parquet")
    return str(folder / "*.parquet")


class Run:
    """What a run through Beam has written."""

    def __init__(self, pattern: str, output: Path, *more: str):
        self.output = output
        options = SawlogOptions(["--input", pattern, "--output", str(output), "--dead-letters-max", "1", *more])
        options.choose_runner()
        with beam.Pipeline(options=options) as pipeline:
            build(pipeline, options)

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """The rows of a table, a file at a time."""
        return rows_of(sorted(self.output.glob(f"{table}/*.parquet")))


def counted(rows: Iterable[str]) -> Counter[bytes]:
    """How often each row is there. A million rows are remembered by their hashes."""
    return Counter(digest(row) for row in rows)


def digest(row: str) -> bytes:
    return hashlib.blake2b(row.encode("utf-8", "surrogatepass"), digest_size=12).digest()


def final(panes: Iterable[dict[str, Any]], *key: str) -> Iterable[dict[str, Any]]:
    """The panes that views show: of each window the one with the highest number, once."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for pane in panes:
        name = tuple(pane[column] for column in key)
        if name not in found or found[name]["pane_index"] <= pane["pane_index"]:
            found[name] = pane
    return found.values()


class Truth:
    """The rows of a deployment, with which those of runs are compared."""

    def __init__(self, deployment: Deployment):
        texts = deployment.raw()["payload"].to_pylist()
        repeated = {text for text, count in Counter(texts).items() if count > 1}
        objects = (json.loads(text) for text in repeated if text.startswith(b"{") and text.endswith(b"}"))
        self.repeated_ids = {found.get("insert_id") for found in objects} - {None}
        self.counts = {table: counted(map(self._of_table, deployment.rows(table))) for table in TABLES}
        for name in (f"rollup_{rollup}_{width}" for rollup in ROLLUPS for width in WIDTHS):
            self.counts[name] = counted(canonical(row, *PANE_EXTRAS) for row in deployment.query(f"SELECT * FROM {name}"))
        self.counts["sessions"] = counted(canonical(row, *SESSION_EXTRAS) for row in deployment.query("SELECT * FROM sessions"))

    def _of_table(self, row: dict[str, Any]) -> str:
        is_repeated = row.get("insert_id") in self.repeated_ids
        return canonical(row, *ROW_EXTRAS, *(["receive_time"] if is_repeated else []))

    def differences(self, run: Run) -> dict[str, int]:
        """How many rows one side has more often than the other, by table; empty when all are the same."""
        ours = {table: counted(map(self._of_table, run.rows(table))) for table in TABLES}
        for rollup in ROLLUPS:
            by_width: dict[str, Counter[bytes]] = {width: Counter() for width in WIDTHS}
            for pane in run.rows(f"pane_{rollup}"):
                if pane["width"] in by_width:
                    by_width[pane["width"]][digest(canonical(pane, *PANE_EXTRAS))] += 1
            ours |= {f"rollup_{rollup}_{width}": count for width, count in by_width.items()}
        sessions = final(run.rows("pane_sessions"), "session_key")
        ours["sessions"] = counted(canonical(row, *SESSION_EXTRAS) for row in sessions)
        found = {name: ((count - self.counts[name]) + (self.counts[name] - count)).total() for name, count in ours.items()}
        return {name: count for name, count in found.items() if count}


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Deployment:
    """Events of a shop: late, sent twice, and broken ones among them."""
    folder = tmp_path_factory.mktemp("shop")
    lines = folder / "shop.ndjson"
    lines.write_bytes(generated(EVENTS, "--late", "0.03", "--duplicate", "0.05", "--malformed", "0.02"))
    return Deployment(folder, lines, settings=LONG_MEMORY)


@pytest.fixture(scope="module")
def truth(shop: Deployment) -> Truth:
    return Truth(shop)


@pytest.mark.parametrize("seed", range(1, SHUFFLES + 1))
def test_a_shuffled_stream_gives_the_same_rows_and_windows(shop: Deployment, truth: Truth, tmp_path: Path, seed: int):
    run = Run(shuffled(shop.raw(), seed, tmp_path / "raw"), tmp_path / "out")
    assert truth.differences(run) == {}
    least = {"pane_requests": 1_000, "pane_sessions": 100, "dead_letters": 100}
    assert all(sum(1 for _ in run.rows(table)) > count for table, count in least.items())
    counts = {name: sum(row[name] for row in run.rows("sawlog_ledger")) for name in sawlog.schema("sawlog_ledger").names[2:]}
    (ledger,) = shop.query(f"SELECT {', '.join(f'sum({name}) AS {name}' for name in counts)} FROM sawlog_ledger")
    assert counts == ledger


def test_most_frequent_values_are_within_their_bounds(shop: Deployment, tmp_path: Path):
    """Space-saving counts too much by no more than it says, in whatever order it has met the values."""
    run = Run(shuffled(shop.raw(), 4, tmp_path / "raw"), tmp_path / "out")
    exact = shop.query(
        "SELECT date_trunc('hour', event_time) AS start, user_id, count(*) AS n FROM "
        "(SELECT event_time, user_id FROM logs UNION ALL SELECT event_time, user_id FROM activity) "
        "WHERE user_id IS NOT NULL GROUP BY 1, 2"
    )
    counts = {(row["start"][:19], row["user_id"]): row["n"] for row in exact}
    top = [pane for pane in run.rows("pane_top") if pane["width"] == "1h" and pane["dimension"] == "user"]
    assert len(top) >= 20
    for pane in top:
        true = counts.get((pane["window_start"].strftime("%Y-%m-%dT%H:%M:%S"), pane["value"]), 0)
        assert pane["count"] - pane["count_error"] <= true <= pane["count"], pane


def test_windows_that_overlap_have_what_is_in_their_parts(shop: Deployment, tmp_path: Path):
    run = Run(shuffled(shop.raw(), 8, tmp_path / "raw"), tmp_path / "out", "--sliding", "1m/20s")
    series = ("service", "service_version", "http_route")
    expected: Counter[tuple[Any, ...]] = Counter()
    for part in shop.query("SELECT * FROM rollup_requests_10s"):
        start = int(datetime.fromisoformat(part["window_start"]).timestamp())
        for first in range(start // 20 * 20 - 40, start + 1, 20):
            for name in ("count", "error_count", "request_count", "duration_count"):
                expected[(first, *(part.get(column) for column in series), name)] += part[name]
    found: Counter[tuple[Any, ...]] = Counter()
    for pane in run.rows("pane_requests"):
        if pane["width"] == "1m/20s":
            assert (pane["window_end"] - pane["window_start"]).total_seconds() == 60
            for name in ("count", "error_count", "request_count", "duration_count"):
                found[(int(pane["window_start"].timestamp()), *(pane[column] for column in series), name)] += pane[name]
    assert found == expected and len(found) > 1_000
    assert {row["width"] for table in ("pane_users", "pane_top") for row in run.rows(table)} == {*WIDTHS, "1m/20s"}


def test_real_and_hostile_lines_give_the_same_rows(tmp_path: Path):
    data = data_of_tests()
    files = [*sorted(data.glob("loghub/**/*.log"))[:6], *sorted(data.glob("**/access*.log*"))[:1]]
    assert len(files) >= 3, f"{data} has no logs"
    hostile = tmp_path / "hostile.ndjson"
    hostile.write_bytes(
        b'{"message":"' + b"x" * 100_000 + b'"}\n' + b"[" * 200 + b"\n" + b'{"a":' * 100 + b"1" + b"}" * 100 + b"\n"
        b'\xff\xfe{"message":"no text"}\n{"ts":"0001-01-01T00:00:00Z"}\n{"ts":1e400}\n{"message":"\\ud800"}\n'
        b'{"message":null,"level":7,"service":["a"]}\n{"metric":"m","value":"NaN"}\n{"metric":"m"}\n\n   \n{}\n'
    )
    deployment = Deployment(tmp_path, *files, hostile)
    run = Run(shuffled(deployment.raw(), 5, tmp_path / "raw"), tmp_path / "out", "--settings", any_age(tmp_path))
    assert Truth(deployment).differences(run) == {}
    assert sum(1 for _ in run.rows("logs")) > 5_000


def test_what_came_too_late_is_the_same_after_a_recount(tmp_path: Path):
    """The binary keeps it out of windows until its rows are counted again; a run with an end has nothing that is late."""
    now = datetime.now(timezone.utc)
    start = (now - timedelta(hours=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = generated(4_000, "--late", "0.2", "--duplicate", "0.05", start=start).splitlines(keepends=True)
    deployment = Deployment(tmp_path, settings='[windows]\nallowed-lateness = "0s"\nout-of-orderness = "0s"\n')
    # The last one lets all windows of the others end; its own are not late whenever it comes.
    end = b'{"message":"end","service":"end","ts":"%s"}\n' % (now + timedelta(minutes=2)).isoformat().encode()
    deployment.receive(b"".join(lines[2_000:]), b"".join(lines[:2_000]), end)
    assert deployment.query("SELECT sum(late) AS n FROM sawlog_ledger")[0]["n"] > 50
    run = Run(shuffled(deployment.raw(), 9, tmp_path / "raw"), tmp_path / "out")
    before = Truth(deployment).differences(run)
    assert {"rollup_requests_10s", "rollup_activity_1h"} <= before.keys() and not before.keys() & set(TABLES), before
    recount = [
        "recount",
        "--from",
        f"{now - timedelta(days=2):%Y-%m-%d}",
        "--data",
        str(deployment.folder),
        "--config",
        str(deployment.config),
    ]
    assert "windows differed and are corrected" in binary_says(*recount)
    assert Truth(deployment).differences(run).keys() <= {"sessions"}


def test_another_runner_gives_the_same_rows_and_windows(tmp_path: Path):
    """Prism, Beam's portable runner: workers behind its Fn API, as Dataflow has them. In Beam 2.77 it loses values of jobs with
    bundles of several megabytes, also where all steps are Beam's own: these are smaller."""
    lines = tmp_path / "shop.ndjson"
    lines.write_bytes(generated(5_000, "--late", "0.03", "--duplicate", "0.05", "--malformed", "0.02"))
    deployment = Deployment(tmp_path, lines, settings=LONG_MEMORY)
    prism = Path(binary()).parents[1] / "doubles" / "prism"
    runner = ["--runner", "PrismRunner", "--prism_location", str(prism), "--environment_type", "LOOPBACK"]
    run = Run(shuffled(deployment.raw(), 7, tmp_path / "raw"), tmp_path / "out", *runner)
    assert Truth(deployment).differences(run) == {}
    assert {pane["pane_timing"] for pane in run.rows("pane_requests")} == {"on_time"}


def any_age(folder: Path) -> str:
    """Settings under which events may be of any age, as files of the binary may."""
    path = folder / "beam.toml"
    path.write_text('[sources.pubsub]\npast-max = "unlimited"\n')
    return str(path)


def test_planted_differences_are_found(shop: Deployment, truth: Truth, tmp_path: Path):
    raw = shop.raw()
    payloads = raw["payload"].to_pylist()
    place = next(place for place, payload in enumerate(payloads) if b'"severity":"INFO"' in payload and b'"user_id"' in payload)
    payloads[place] = payloads[place].replace(b'"severity":"INFO"', b'"severity":"WARN"')
    planted = raw.set_column(raw.schema.get_field_index("payload"), raw.schema.field("payload"), pa.array(payloads, pa.binary()))
    run = Run(shuffled(planted, 6, tmp_path / "raw"), tmp_path / "out")
    different = truth.differences(run)
    assert different["logs"] == 2 and "rollup_requests_1m" in different, different
    for table in ("pane_sessions", "pane_users"):
        next(run.output.glob(f"{table}/*.parquet")).unlink()
    assert {"sessions", "rollup_users_1m"} <= truth.differences(run).keys() - different.keys()
