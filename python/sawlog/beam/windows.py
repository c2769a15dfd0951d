"""Windows: rollups by series and sessions by user, summed by Beam from what the core makes of each batch."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterProcessingTime, AfterWatermark
from apache_beam.transforms.window import GlobalWindows, IntervalWindow, Sessions, TimestampedValue, WindowFn
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PaneInfoTiming

import sawlog
from sawlog.beam.rows import TableRows, one_batch, schema_of
from sawlog.beam.settle import MARGIN

WIDTHS = {"10s": 10, "1m": 60, "1h": 3_600}
SLIDE = r"(\d{1,6})([smh])/(\d{1,6})([smh])"
UNITS = {"s": 1, "m": 60, "h": 3_600}
# Windows that an event counts in at most.
OVERLAP_MAX = 60
TIMINGS = {PaneInfoTiming.EARLY: "early", PaneInfoTiming.LATE: "late"}
# Sessions whose rows are made together.
SESSIONS = 500
# Panes that are written together.
PANES = 1_000
# Parts of the series of an hour, in a run with an end: most workers that sum one hour.
SERIES_PARTS = 16
# Values that are summed at once.
SUMMED = 64
# A cell, behind the first byte of the key of its series, which says what it is a cell of.
RollupCell = bytes
Pane = dict[str, Any]


class Cells(beam.DoFn):
    """What rows add to windows of ten seconds, before anything is shuffled."""

    def __init__(self, settings: sawlog.Settings):
        self.settings = settings

    def setup(self) -> None:
        """Each worker admits series of its own, up to `rollups.series-max`."""
        self.rollups = self.settings.rollups()

    def process(self, element: TableRows) -> Iterator[TableRows]:
        """Cells by series and window."""
        if len(cells := self.rollups.cells({element.table: element.rows})):
            yield TableRows("cells", cells)


def each_cell(element: TableRows) -> Iterator[Any]:
    """Cells by series, each at the start of its window."""
    cells = element.rows
    columns = (cells["key"], cells["window_start"].cast(pa.int64()), cells["cell"])
    for key, start, cell in zip(*(column.to_pylist() for column in columns), strict=True):
        yield TimestampedValue((key, key[:1] + cell), Timestamp(micros=start))


class SumCells(beam.CombineFn):
    """The sum of the cells of a series: sums of whole numbers, histograms and sketches merge exactly, in any order."""

    def create_accumulator(self) -> list[RollupCell]:
        """Cells that are not summed yet."""
        return []

    def add_input(self, accumulator: list[RollupCell], cell: RollupCell) -> list[RollupCell]:
        """One more cell."""
        accumulator.append(cell)
        return summed(accumulator) if len(accumulator) >= SUMMED else accumulator

    def merge_accumulators(self, accumulators: Iterable[list[RollupCell]]) -> list[RollupCell]:
        """The cells of all."""
        return summed([cell for accumulator in accumulators for cell in accumulator])

    def extract_output(self, accumulator: list[RollupCell]) -> bytes:
        """The cell of the window."""
        return summed(accumulator)[0][1:]


def summed(cells: list[RollupCell]) -> list[RollupCell]:
    """One cell instead of many."""
    if len(cells) < 2:
        return cells
    kind = cells[0][:1]
    return [kind + sawlog.merge_cells(kind, [cell[1:] for cell in cells])]


class ToPane(beam.DoFn):
    """Names the window and the emission of a sum."""

    def __init__(self, width: str, first: int):
        self.width, self.first = width, first

    def process(
        self,
        element: tuple[bytes, bytes],
        window: Any = beam.DoFn.WindowParam,
        pane: Any = beam.DoFn.PaneInfoParam,
    ) -> Iterator[Pane]:
        """A row of `schema("panes")`."""
        if is_closing(pane):
            return
        yield {
            "key": element[0],
            "width": self.width,
            "window_start": window.start.micros,
            "pane_index": self.first + max(pane.index, 0),
            "pane_timing": TIMINGS.get(pane.timing, "on_time"),
            "cell": element[1],
        }


def trigger(early: int) -> Any:
    """Early panes every so many seconds, one when the watermark passes, and one for each late arrival."""
    late = AfterCount(1)
    return AfterWatermark(early=AfterProcessingTime(early), late=late) if early else AfterWatermark(late=late)


class Rollups(beam.PTransform):
    """Panes of windows of one kind, from the cells of rows that are not late."""

    def __init__(self, name: str, windows: WindowFn, settings: sawlog.Settings, early: int, first: int):
        super().__init__()
        self.name, self.windows, self.settings, self.early, self.first = name, windows, settings, early, first

    def expand(self, cells: Any) -> Any:
        """Sums by series and window."""
        windows = beam.WindowInto(
            self.windows,
            trigger=trigger(self.early),
            accumulation_mode=AccumulationMode.ACCUMULATING,
            allowed_lateness=kept_for(self.settings),
        )
        sums = cells | "Windows" >> windows | "Sum" >> beam.CombinePerKey(SumCells())
        panes = sums | "Panes" >> beam.ParDo(ToPane(self.name, self.first)).with_output_types(dict)
        return panes | "Globally" >> beam.WindowInto(GlobalWindows())


class HourSums(beam.PTransform):
    """Panes of windows of all widths, of a run with an end: one for each window, made when all that adds to it is there. What is
    shuffled are batches, of one hour and one part of the series each, which no window reaches across."""

    def __init__(self, first: int):
        super().__init__()
        self.first = first

    def expand(self, cells: Any) -> Any:
        """Rows of the pane tables, and cells of Bigtable, as `PaneBatches` has them."""
        parts = cells | "Split" >> beam.FlatMap(split).with_output_types(tuple[int, TableRows])
        groups = parts | "By hour" >> beam.GroupByKey()
        return groups | "Sum" >> beam.ParDo(SumHour(self.first)).with_outputs("rows", main="cells")


def split(element: TableRows) -> Iterator[tuple[int, TableRows]]:
    """Cells by hour and part of the series."""
    for number, cells in sawlog.split_cells(element.rows, SERIES_PARTS):
        yield number, TableRows(element.table, cells)


class SumHour(beam.DoFn):
    """The panes of one hour."""

    def __init__(self, first: int):
        self.first = first

    def process(self, element: tuple[int, Iterable[TableRows]]) -> Iterator[Any]:
        """Panes, so many at a time."""
        sums = sawlog.WindowSums()
        for cells in element[1]:
            sums.add(cells.rows)
        panes = sums.panes(self.first)
        for start in range(0, len(panes), PANES):
            yield from written(panes.slice(start, PANES))


@dataclass(frozen=True)
class Slide:
    """Windows that overlap: one of `size` seconds begins every `period` seconds."""

    name: str
    size: int
    period: int

    @classmethod
    def parse(cls, text: str) -> "Slide":
        """Reads `5m/1m`. Raises `ValueError`, which says what is wrong."""
        found = re.fullmatch(SLIDE, text)
        if not found:
            raise ValueError(f"{text!r} is no size and period like 5m/1m")
        size, period = (int(number) * UNITS[unit] for number, unit in (found.group(1, 2), found.group(3, 4)))
        if not period or period % 10 or size % period:
            raise ValueError(f"{text!r}: the period is not a multiple of 10s, or the size not one of the period")
        if not period < size <= OVERLAP_MAX * period:
            raise ValueError(f"{text!r}: the size is not 2 to {OVERLAP_MAX} periods; every event counts in so many windows")
        return cls(text, size, period)


class SlidingRows(beam.DoFn):
    """Panes of windows that overlap as rows of the pane tables, where `width` says of which."""

    def __init__(self, slide: Slide):
        self.slide = slide

    def process(self, panes: list[Pane]) -> Iterator[TableRows]:
        """One batch of rows for each rollup."""
        # The core knows the widths that are served: of others it is told the shortest one.
        batch = pa.RecordBatch.from_pylist([pane | {"width": next(iter(WIDTHS))} for pane in panes], schema_of("panes"))
        for table, rows in sawlog.pane_rows(batch).items():
            starts = rows["window_start"].cast(pa.int64())
            ends = pc.add(starts, self.slide.size * 1_000_000).cast(rows.schema.field("window_end").type)
            columns = {"width": pa.array([self.slide.name] * len(rows)), "window_end": ends}
            for name, column in columns.items():
                place = rows.schema.get_field_index(name)
                rows = rows.set_column(place, rows.schema.field(place), column)
            yield TableRows(table, rows)


def kept_for(settings: sawlog.Settings) -> int:
    """How long Beam keeps windows after their end, seconds. Which rows are too late for them is decided before."""
    return (settings.allowed_lateness + MARGIN) // 1_000_000


def is_closing(pane: Any) -> bool:
    """Whether a window is only let go of: Beam's Python SDK always has runners make a pane then. Each late arrival had its own."""
    return bool(pane.is_last and not pane.is_first and pane.timing == PaneInfoTiming.LATE)


class PaneBatches(beam.DoFn):
    """Panes as they are written."""

    def process(self, panes: list[Pane]) -> Iterator[Any]:
        """One batch of cells, and one of rows for each rollup."""
        yield from written(pa.RecordBatch.from_pylist(panes, schema_of("panes")))


def written(panes: pa.RecordBatch) -> Iterator[Any]:
    """Panes as cells of Bigtable, and as rows by table (tagged `rows`)."""
    yield sawlog.bigtable_cells(panes).to_pylist()
    for table, rows in sawlog.pane_rows(panes).items():
        yield beam.pvalue.TaggedOutput("rows", TableRows(table, rows))


class ChainSessions(Sessions):
    """Windows of chains of events: from the first event to a gap after the last one; those that touch are one."""

    def assign(self, context: Any) -> list[IntervalWindow]:
        """The window of a chain, whose last event's time (UTC microseconds) stands in front of it."""
        last = int.from_bytes(context.element[1][:8], "big", signed=True)
        return [IntervalWindow(context.timestamp, Timestamp(micros=last) + self.gap_size)]


class Chains(beam.DoFn):
    """Chains of events by user, before anything is shuffled."""

    def __init__(self, settings: sawlog.Settings):
        self.settings = settings

    def setup(self) -> None:
        """Settings for the core."""
        self.sessions = self.settings.sessions()

    def process(self, element: TableRows) -> Iterator[Any]:
        """Chains by user, each at its first event."""
        chains = self.sessions.chains({element.table: element.rows})
        times = (chains[name].cast(pa.int64()).to_pylist() for name in ("first", "last"))
        for user, first, last, chain in zip(chains["user_id"].to_pylist(), *times, chains["chain"].to_pylist(), strict=True):
            value = last.to_bytes(8, "big", signed=True) + chain
            yield TimestampedValue((user, value), Timestamp(micros=first))


class SumChains(beam.CombineFn):
    """The chain of all events of a user's session window."""

    def create_accumulator(self) -> list[bytes]:
        """Chains that are not summed yet."""
        return []

    def add_input(self, accumulator: list[bytes], chain: bytes) -> list[bytes]:
        """One more chain."""
        accumulator.append(chain[8:])
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[list[bytes]]) -> list[bytes]:
        """The chains of all."""
        return [sawlog.merge_chains(chains)] if (chains := [one for many in accumulators for one in many]) else []

    def extract_output(self, accumulator: list[bytes]) -> bytes:
        """The chain."""
        return sawlog.merge_chains(accumulator)


# User, chains, number of the emission, whether a late event has made it.
ClosedChains = tuple[str, list[bytes], int, bool]


class Numbered(beam.DoFn):
    """Adds to the chain of a user's window which emission it is."""

    def __init__(self, first: int):
        self.first = first

    def process(self, element: tuple[str, bytes], pane: Any = beam.DoFn.PaneInfoParam) -> Iterator[ClosedChains]:
        """The chain of a pane."""
        if is_closing(pane):
            return
        yield element[0], [element[1]], self.first + max(pane.index, 0), pane.timing == PaneInfoTiming.LATE


class SessionRows(beam.DoFn):
    """Rows of the sessions of complete windows."""

    def __init__(self, settings: sawlog.Settings):
        self.settings = settings

    def setup(self) -> None:
        """Settings for the core."""
        self.sessions = self.settings.sessions()

    def process(self, chains: list[ClosedChains]) -> Iterator[TableRows]:
        """The sessions of chains: one each, or one for each day of those that are too long."""
        rows = [self.sessions.rows(*chain) for chain in chains]
        yield TableRows("pane_sessions", one_batch(rows, schema_of("pane_sessions")))


class UserSessions(beam.PTransform):
    """Rows of `pane_sessions`; the rows must not be late. With an end, all chains of a user are there at once, and the core joins
    those that touch: no runner needs windows that merge, which Prism has no triggers for."""

    def __init__(self, settings: sawlog.Settings, has_end: bool, first: int):
        super().__init__()
        self.settings, self.has_end, self.first = settings, has_end, first

    def expand(self, rows: Any) -> Any:
        """Sums by user and session."""
        chains = rows | "Chains" >> beam.ParDo(Chains(self.settings)).with_output_types(tuple[str, bytes])
        closed = self._of_users(chains) if self.has_end else self._of_windows(chains)
        batches = closed | "Batch" >> beam.BatchElements(min_batch_size=1, max_batch_size=SESSIONS)
        return batches | "Rows" >> beam.ParDo(SessionRows(self.settings)).with_output_types(TableRows)

    def _of_users(self, chains: Any) -> Any:
        first = self.first

        def all_of(user: str, values: Iterable[bytes]) -> ClosedChains:
            return user, [value[8:] for value in values], first, False

        return chains | "By user" >> beam.GroupByKey() | "All" >> beam.MapTuple(all_of).with_output_types(ClosedChains)

    def _of_windows(self, chains: Any) -> Any:
        windows = beam.WindowInto(
            ChainSessions(self.settings.session_gap / 1e6),
            trigger=trigger(0),
            accumulation_mode=AccumulationMode.ACCUMULATING,
            allowed_lateness=kept_for(self.settings),
        )
        sums = chains | "Windows" >> windows | "Sum" >> beam.CombinePerKey(SumChains())
        numbered = sums | "Number" >> beam.ParDo(Numbered(self.first)).with_output_types(ClosedChains)
        return numbered | "Globally" >> beam.WindowInto(GlobalWindows())
