"""Repeats and latecomers: what needs to know about events that came before.

Ids are remembered as long as the binary does (`pipeline.dedup-window`, by event time), in as many parts as `--shards` says. A
remembered id costs 16 bytes of state, and some 100 bytes of memory in the worker that has its part. Rows without an id are never
repeats. Objects of the lake have an end: there every repeat is found, and nothing is late.

A row is late when its window of ten seconds, with the allowed lateness, has ended by the watermark. Beam would drop such rows
before each grouping without a word: they are marked and counted here, stored, and kept out of windows. Timers tell a part that
the watermark has passed the windows of its rows; one more goes with the watermark from the start of the job on, so that a part
without rows knows where it is. What comes behind them sees no later watermark than the next of these timers, and Beam's windows
are kept for ten minutes longer, which is two of their steps: what is not marked is not dropped.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Timestamp
from apache_beam.utils.windowed_value import WindowedValue

import sawlog
from sawlog.beam.rows import ID_COLUMN, TableRows, one_batch, schema_of, token_of
from sawlog.beam.transform import LEDGER, without_ids

ID_BYTES = 16
# Ids are forgotten together with those of the same ten minutes of event time.
GENERATION = 600_000_000
WINDOW = 10_000_000
# Rows of a table that are put together at most, about, and their bytes.
GATHERED_ROWS = 4_000
GATHERED_BYTES = 8_000_000
# How much longer than the allowed lateness Beam's windows are kept.
MARGIN = 600_000_000
# How long before the start of a job its watermark may be: as long as Pub/Sub keeps messages by default, and a day.
BACKLOG = 8 * 86_400_000_000
# The steps in which a part follows the watermark, as a share of how long ago it is: half of the margin when it is where it should
# be. Where it is long ago, rows halve them until they are.
STEP_SHARE = 16


def step_after(at: int, now: int) -> int:
    """Where a part that knows that the watermark has passed `at` wants to be told next; UTC microseconds."""
    return at + max(MARGIN // 2, (now - at) // STEP_SHARE)


def micros() -> int:
    """The time, UTC microseconds."""
    return time.time_ns() // 1_000


class Shard(beam.DoFn):
    """Gives each row the part that remembers its id; rows without one, or all if nothing is remembered, go to any."""

    def __init__(self, shards: int, remembers: bool):
        self.shards, self.remembers = shards, remembers
        self.next = 0

    def process(self, element: TableRows) -> Iterator[tuple[int, TableRows]]:
        """The rows by part."""
        self.next = (self.next + 1) % self.shards
        if not self.remembers:
            yield self.next, element
            return
        ids = element.rows[ID_COLUMN].to_pylist()
        parts = [self.next if one is None else int.from_bytes(one[:4], "big") % self.shards for one in ids]
        order = sorted(range(len(parts)), key=parts.__getitem__)
        rows = element.rows.take(pa.array(order, pa.int32()))
        start = 0
        for shard, count in sorted(Counter(parts).items()):
            yield shard, TableRows(element.table, rows.slice(start, count))
            start += count


class Settle(beam.DoFn):
    """Drops repeats, if ids are remembered, and marks what is late. The main output are rows without their ids. With its first
    rows, of which there may be none, a part begins to follow the watermark."""

    IDS = BagStateSpec("ids", beam.coders.BytesCoder())
    WATERMARK = ReadModifyWriteStateSpec("watermark", beam.coders.VarIntCoder())
    TOKEN = ReadModifyWriteStateSpec("token", beam.coders.BytesCoder())
    PENDING = ReadModifyWriteStateSpec("pending", beam.coders.ListCoder(beam.coders.VarIntCoder()))
    FOLLOWED = ReadModifyWriteStateSpec("followed", beam.coders.VarIntCoder())
    TIMER = TimerSpec("watermark", TimeDomain.WATERMARK)
    FOLLOW = TimerSpec("follow", TimeDomain.WATERMARK)

    def __init__(self, settings: sawlog.Settings, has_end: bool, remembers: bool):
        self.dedup_window, self.lateness = settings.dedup_window, settings.allowed_lateness
        self.has_end, self.remembers = has_end, remembers
        self.duplicates, self.late = (Metrics.counter("sawlog", name) for name in ("repeated", "late"))

    def setup(self) -> None:
        """Nothing is known of any part."""
        # By part: what was written with the last ids that are among these. A bundle that failed has written nothing.
        self.known: dict[int, tuple[bytes | None, set[bytes]]] = {}

    def process(
        self,
        element: tuple[int, TableRows],
        ids: Any = beam.DoFn.StateParam(IDS),
        token: Any = beam.DoFn.StateParam(TOKEN),
        watermark: Any = beam.DoFn.StateParam(WATERMARK),
        pending: Any = beam.DoFn.StateParam(PENDING),
        followed: Any = beam.DoFn.StateParam(FOLLOWED),
        timer: Any = beam.DoFn.TimerParam(TIMER),
        follow: Any = beam.DoFn.TimerParam(FOLLOW),
    ) -> Iterator[Any]:
        """The rows of a part that nobody has seen, the late ones marked."""
        shard, (table, rows) = element[0], (element[1].table, element[1].rows)
        if not self.has_end and not followed.read():
            start = micros() - BACKLOG
            followed.write(start)
            follow.set(Timestamp(micros=start))
        times = rows["event_time"].cast(pa.int64()).to_pylist()
        seen = watermark.read()
        if not self.has_end and times:
            self._look_closer(seen, followed, follow)
            steps = {at // WINDOW * WINDOW + WINDOW for at in times}
            waits = sorted({step for step in steps if seen is None or step > seen}.union(pending.read() or []))
            if waits:
                pending.write(waits)
                timer.set(Timestamp(micros=waits[0]))
        kept = self._news(shard, rows, times, ids, token) if self.remembers else rows
        if repeated := len(rows) - len(kept):
            self.duplicates.inc(repeated)
            yield beam.pvalue.TaggedOutput(LEDGER, TableRows(LEDGER, correction(rows, kept), token_of(rows)))
        if len(kept):
            yield without_ids(TableRows(table, self._marked(kept, seen)))

    @on_timer(TIMER)
    def passed(
        self,
        ids: Any = beam.DoFn.StateParam(IDS),
        token: Any = beam.DoFn.StateParam(TOKEN),
        watermark: Any = beam.DoFn.StateParam(WATERMARK),
        pending: Any = beam.DoFn.StateParam(PENDING),
        timer: Any = beam.DoFn.TimerParam(TIMER),
    ) -> None:
        """The watermark has passed a window of rows of this part."""
        waits = pending.read()
        if not waits:
            return
        pending.write(waits[1:])
        if waits[1:]:
            timer.set(Timestamp(micros=waits[1]))
        self._go_on(waits[0], watermark, ids, token)

    @on_timer(FOLLOW)
    def follows(
        self,
        ids: Any = beam.DoFn.StateParam(IDS),
        token: Any = beam.DoFn.StateParam(TOKEN),
        watermark: Any = beam.DoFn.StateParam(WATERMARK),
        followed: Any = beam.DoFn.StateParam(FOLLOWED),
        follow: Any = beam.DoFn.TimerParam(FOLLOW),
    ) -> None:
        """The watermark has come this far. A drained job's goes on for ever: it is followed up to the present."""
        at, now = followed.read(), micros()
        if not at:
            return
        self._go_on(at, watermark, ids, token)
        after = step_after(at, now) if at <= now + MARGIN else 0
        followed.write(after)
        if after:
            follow.set(Timestamp(micros=after))

    def _look_closer(self, seen: int | None, followed: Any, follow: Any) -> None:
        """Halves the step to where the watermark may be, down to half of the margin: it is between what was seen and that."""
        at = followed.read()
        if seen is not None and at - seen > MARGIN:
            nearer = seen + max(MARGIN // 2, (at - seen) // 2)
            followed.write(nearer)
            follow.set(Timestamp(micros=nearer))

    def _go_on(self, at: int, watermark: Any, ids: Any, token: Any) -> None:
        """Notes how far the watermark is; ids that are too old go."""
        before = watermark.read()
        if before is not None and before >= at:
            return
        watermark.write(at)
        if not self.remembers or (before is not None and before // GENERATION == at // GENERATION):
            return
        chunks = list(ids.read())
        kept = [chunk for chunk in chunks if generation_of(chunk) + GENERATION > at - self.dedup_window]
        if len(kept) < len(chunks):
            ids.clear()
            for chunk in kept:
                ids.add(chunk)
            # What a worker remembers is read anew.
            token.write(os.urandom(16))

    def _news(self, shard: int, rows: pa.RecordBatch, times: list[int], ids: Any, token: Any) -> pa.RecordBatch:
        """The rows whose ids were not seen before, which are remembered from now on."""
        written, known = self._known(shard, ids, token)
        fresh: dict[int, list[bytes]] = {}
        news = []
        for one, at in zip(rows[ID_COLUMN].to_pylist(), times, strict=True):
            news.append(one is None or one not in known)
            if one is not None and news[-1]:
                known.add(one)
                fresh.setdefault(at // GENERATION * GENERATION, []).append(one)
        if fresh:
            for generation, of_generation in fresh.items():
                ids.add(generation.to_bytes(8, "big", signed=True) + b"".join(of_generation))
            written = os.urandom(16)
            token.write(written)
        self.known[shard] = (written, known)
        return rows.filter(pa.array(news, pa.bool_()))

    def _known(self, shard: int, ids: Any, token: Any) -> tuple[bytes | None, set[bytes]]:
        """The ids of a part and their token: those in memory if they are what is stored, else those that are stored. They are
        not in memory again before they are: a batch that fails halfway must not be known when it comes again."""
        stored = token.read()
        written, known = self.known.pop(shard, (None, set()))
        if stored is not None and stored == written:
            return stored, known
        return stored, {chunk[at : at + ID_BYTES] for chunk in ids.read() for at in range(8, len(chunk), ID_BYTES)}

    def _marked(self, rows: pa.RecordBatch, seen: int | None) -> pa.RecordBatch:
        if seen is None:
            return rows
        times = rows["event_time"].cast(pa.int64()).to_pylist()
        late = [at // WINDOW * WINDOW + WINDOW + self.lateness <= seen for at in times]
        if any(late):
            self.late.inc(sum(late))
            place = rows.schema.get_field_index("late")
            return rows.set_column(place, rows.schema.field(place), pa.array(late, pa.bool_()))
        return rows


class Gather(beam.DoFn):
    """Puts rows of many parts together again, within a bundle: of 2,000 rows there is a third as much to sum in windows as of the
    same rows in 32 parts."""

    def start_bundle(self) -> None:
        """Nothing is waiting."""
        self.waiting: dict[str, list[pa.RecordBatch]] = {}
        self.rows, self.size = Counter[str](), Counter[str]()
        self.oldest = MAX_TIMESTAMP

    def process(self, element: TableRows, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[TableRows]:
        """Keeps rows until there are enough."""
        table, rows = element.table, element.rows
        self.waiting.setdefault(table, []).append(rows)
        self.rows[table] += len(rows)
        self.size[table] += rows.nbytes
        self.oldest = min(self.oldest, timestamp)
        if self.rows[table] >= GATHERED_ROWS or self.size[table] >= GATHERED_BYTES:
            yield TableRows(table, one_batch(self.waiting.pop(table), rows.schema))
            self.rows[table] = self.size[table] = 0

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """The rows that are left."""
        for table, batches in self.waiting.items():
            yield WindowedValue(TableRows(table, one_batch(batches, batches[0].schema)), self.oldest, [GlobalWindow()])


def generation_of(chunk: bytes) -> int:
    """The first event time of the ids of a chunk, UTC microseconds."""
    return int.from_bytes(chunk[:8], "big", signed=True)


def correction(rows: pa.RecordBatch, kept: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of the ledger that turn stored records into duplicates: those that are in `rows` and not in `kept`."""
    minute = 60_000_000

    def counts(batch: pa.RecordBatch) -> dict[tuple[int, str], int]:
        found: dict[tuple[int, str], int] = {}
        times = batch["receive_time"].cast(pa.int64()).to_pylist()
        for at, source in zip(times, batch["source"].to_pylist(), strict=True):
            key = (at // minute * minute, source)
            found[key] = found.get(key, 0) + 1
        return found

    left = counts(kept)
    schema = sawlog.schema(LEDGER)
    lines = []
    for (start, source), count in sorted(counts(rows).items()):
        if repeated := count - left.get((start, source), 0):
            line = {name: 0 for name in schema.names}
            lines.append(line | {"receive_minute": start, "source": source, "stored": -repeated, "duplicate": repeated})
    return pa.RecordBatch.from_pylist(lines, schema)


def no_rows(shard: int) -> tuple[int, TableRows]:
    """What a part begins with."""
    return shard, TableRows("logs", one_batch([], schema_of("logs", has_ids=True)))


def in_time(element: TableRows) -> TableRows:
    """The rows that are not late."""
    return TableRows(element.table, element.rows.filter(pc.invert(element.rows["late"])))
