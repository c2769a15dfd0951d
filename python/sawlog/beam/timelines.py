"""Timelines: what each user did, as cells of Bigtable under the keys of the binary.

What arrives of a user within some seconds is written together, as a flush of the binary does: each pane has what came since the
one before it, and a key of its own. Windows are as long as a chunk of a timeline may be.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.trigger import AccumulationMode
from apache_beam.transforms.window import FixedWindows, GlobalWindows, TimestampedValue
from apache_beam.utils.timestamp import Timestamp

import sawlog
from sawlog.beam.rows import TableRows
from sawlog.beam.windows import kept_for, trigger

SPAN = 600


class Timelines(beam.PTransform):
    """Cells of the timelines of users, a list for each user and pane; the rows must not be late."""

    def __init__(self, settings: sawlog.Settings, early: int, first: int):
        super().__init__()
        self.settings, self.early, self.first = settings, early, first

    def expand(self, rows: Any) -> Any:
        """Groups parts by user."""
        windows = beam.WindowInto(
            FixedWindows(SPAN),
            trigger=trigger(self.early),
            accumulation_mode=AccumulationMode.DISCARDING,
            allowed_lateness=kept_for(self.settings),
        )
        parts = rows | "Parts" >> beam.ParDo(Parts()).with_output_types(tuple[str, bytes])
        users = parts | "Windows" >> windows | "By user" >> beam.GroupByKey()
        return users | "Cells" >> beam.ParDo(ToCells(self.first)) | "Globally" >> beam.WindowInto(GlobalWindows())


class Parts(beam.DoFn):
    """Parts of timelines by user, before anything is shuffled."""

    def process(self, element: TableRows) -> Iterator[Any]:
        """Parts, each at its newest entry."""
        parts = sawlog.timelines({element.table: element.rows})
        columns = (parts["user_id"], parts["newest"].cast(pa.int64()), parts["chunk"])
        for user, newest, chunk in zip(*(column.to_pylist() for column in columns), strict=True):
            yield TimestampedValue((user, chunk), Timestamp(micros=newest))


class ToCells(beam.DoFn):
    """The cells of a user's parts."""

    def __init__(self, first: int):
        self.first = first

    def process(self, element: tuple[str, Iterable[bytes]], pane: Any = beam.DoFn.PaneInfoParam) -> Iterator[list[dict[str, Any]]]:
        """A list of rows of `schema("bigtable")`; none for a window that is only let go of."""
        user, chunks = element[0], list(element[1])
        if chunks:
            yield sawlog.timeline_cells(user, chunks, self.first + max(pane.index, 0)).to_pylist()
