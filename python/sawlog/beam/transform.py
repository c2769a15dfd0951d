"""From raw records to rows, by the core."""

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

import sawlog
from sawlog.beam.logs import DeadLetterSummary, note
from sawlog.beam.rows import EVENT_TABLES, ID_COLUMN, ID_FIELD, TableRows, token_of

LEDGER = "sawlog_ledger"
# Records from which on the share of dead letters says something.
DEAD_LETTERS_OF = 1_000


class Transform(beam.DoFn):
    """Raw records to rows. Events are the main output, with ids where they have one; others are tagged by their table."""

    OTHERS = ("dead_letters", LEDGER)

    def __init__(self, settings: sawlog.Settings, dead_letters_max: float, refresh: float):
        self.settings, self.dead_letters_max, self.refresh = settings, dead_letters_max, refresh
        self.batches = Metrics.distribution("sawlog", "batch_records")
        self.waited = Metrics.distribution("sawlog", "receive_to_transform_ms")
        self.outcomes = {
            name: Metrics.counter("sawlog", name) for name in ("received", "stored", "duplicate", "filtered", "dead_lettered")
        }

    def setup(self) -> None:
        """Compiles the rules."""
        self.files = read_files(self.settings.files())
        self.transformer = self.settings.transformer(self.files)
        self.looked = time.monotonic()
        self.letters = DeadLetterSummary()

    def process(self, raw: pa.RecordBatch) -> Iterator[Any]:
        """Rows by table."""
        self._look()
        found = self.transformer.transform(raw)
        self.batches.update(len(raw))
        if len(raw):
            oldest = pc.min(raw["receive_time"].cast(pa.int64())).as_py()
            self.waited.update(max(0, time.time_ns() // 1_000_000 - oldest // 1_000))
        self._count(found)
        for letter in found["dead_letters"].select(["stage", "reason", "error"]).to_pylist():
            self.letters.add(**letter)
        for table in EVENT_TABLES:
            if len(rows := found[table]):
                yield TableRows(table, rows.append_column(ID_FIELD, ids_of(table, len(rows), found["ids"])))
        for table in self.OTHERS:
            if len(rows := found[table]):
                yield beam.pvalue.TaggedOutput(table, TableRows(table, rows, token_of(raw) if table == LEDGER else 0))

    def finish_bundle(self) -> None:
        """Tells of dead letters."""
        self.letters.tell()

    def teardown(self) -> None:
        """Tells of the last ones."""
        self.letters.tell(is_last=True)

    def _look(self) -> None:
        """Compiles the rules anew when a file that they name has changed. Each worker looks for itself: a side input would be
        that of an element's window, and messages may be older than any that was read."""
        if time.monotonic() - self.looked < self.refresh or not self.files:
            return
        self.looked = time.monotonic()
        try:
            files = read_files(list(self.files))
            if files == self.files:
                return
            self.transformer, self.files = self.settings.transformer(files), files
        except sawlog.SawlogError as error:
            note(logging.ERROR, "rules_kept", error=str(error), rules_version=self.transformer.rules_version)
        else:
            note(logging.INFO, "rules_changed", rules_version=self.transformer.rules_version)

    def _count(self, found: Mapping[str, pa.RecordBatch]) -> None:
        ledger = found[LEDGER]
        counts = {name: pc.sum(ledger[name]).as_py() or 0 for name in self.outcomes}
        for name, counter in self.outcomes.items():
            counter.inc(counts[name])
        received, dead = counts["received"], counts["dead_lettered"]
        if received >= DEAD_LETTERS_OF and dead > self.dead_letters_max * received:
            first = found["dead_letters"].slice(0, 1).to_pylist()[0]
            raise sawlog.SawlogError(
                f"{dead} of {received} records became dead letters, more than --dead-letters-max allows; "
                f"the first one: {first['reason']}: {first['error']}; {first['remedy']}"
            )


def read_files(names: list[str]) -> dict[str, bytes]:
    """Contents of the files that rules name."""
    return {name: read_file(name, "[rules]") for name in names}


def read_file(name: str, place: str) -> bytes:
    """Content of a file that a place in the settings or an option names."""
    try:
        with FileSystems.open(name) as opened:
            content: bytes = opened.read()
            return content
    except OSError as error:
        raise sawlog.SawlogError(f"{place}: the file {name} cannot be read: {error}") from error


def ids_of(table: str, count: int, ids: pa.RecordBatch) -> pa.Array:
    """The id of each row of a table, null where it has none."""
    mine = ids.filter(pc.equal(ids["table"], table))
    places = pc.index_in(pa.array(range(count), pa.int64()), mine["row"])
    return mine["id"].take(places)


class BySeverity(beam.DoFn):
    """Tags logs: errors are `logs_error`, others `logs_info`; other tables are tagged by their names."""

    TAGS = ("logs_error", "logs_info", "metrics", "activity")

    def process(self, element: TableRows) -> Iterator[Any]:
        """The parts of a batch."""
        if element.table != "logs":
            yield beam.pvalue.TaggedOutput(element.table, element)
            return
        is_error = pc.fill_null(pc.equal(element.rows["severity_class"], "error"), False)
        for tag, mask in (("logs_error", is_error), ("logs_info", pc.invert(is_error))):
            if len(rows := element.rows.filter(mask)):
                yield beam.pvalue.TaggedOutput(tag, TableRows("logs", rows))


def without_ids(element: TableRows) -> TableRows:
    """Rows as the table has them."""
    if not element.has_ids:
        return element
    return TableRows(element.table, element.rows.drop_columns([ID_COLUMN]))
