"""The pipeline: raw records in, a copy of them to the lake, rows and panes out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import FixedWindows, SlidingWindows

import sawlog
from sawlog.beam.options import STORAGE_WRITE, SawlogOptions
from sawlog.beam.rows import TableRows
from sawlog.beam.settle import Gather, Settle, Shard, in_time, no_rows
from sawlog.beam.sinks.beam_bigquery import WriteWithBeam
from sawlog.beam.sinks.bigquery import WriteBigQuery
from sawlog.beam.sinks.bigtable import WriteBigtable
from sawlog.beam.sinks.objects import WriteDeadLetters, WriteFiles, WriteLake
from sawlog.beam.sources import ReadLake, ReadMessages
from sawlog.beam.timelines import Timelines
from sawlog.beam.transform import LEDGER, BySeverity, Transform, read_file, read_files, without_ids
from sawlog.beam.windows import PANES, WIDTHS, Cells, HourSums, PaneBatches, Rollups, SlidingRows, UserSessions, each_cell


@dataclass(frozen=True)
class Outputs:
    """What a pipeline makes, before it is written: rows by table, and cells of Bigtable."""

    tables: Mapping[str, Any]
    cells: tuple[Any, ...]

    def all_rows(self) -> tuple[Any, ...]:
        """The rows of all tables."""
        return tuple(self.tables.values())


def settings_of(options: SawlogOptions) -> sawlog.Settings:
    """The settings that a run is started with."""
    if options.settings is None:
        return sawlog.Settings()
    return sawlog.Settings.parse(read_file(options.settings, "--settings").decode())


def build(pipeline: beam.Pipeline, options: SawlogOptions) -> None:
    """Adds all steps to a pipeline. Raises `sawlog.SawlogError` with all that is wrong with the options."""
    options.check()
    settings = settings_of(options)
    settings.transformer(read_files(settings.files()))
    raw = read(pipeline, options, settings)
    if options.lake:
        raw | "Keep raw" >> WriteLake(options.lake, options.has_end)
    if not options.only_copies:
        write(transform(raw, options, settings), options)


def read(pipeline: beam.Pipeline, options: SawlogOptions, settings: sawlog.Settings) -> Any:
    """Raw records of all subscriptions or objects."""
    sources: dict[str, Any] = {name: ReadMessages(name, options, settings) for name in options.subscription}
    sources |= {pattern: ReadLake(pattern) for pattern in options.input}
    return [pipeline | f"From {name}" >> source for name, source in sources.items()] | "All sources" >> beam.Flatten()


def transform(raw: Any, options: SawlogOptions, settings: sawlog.Settings) -> Outputs:
    """From raw records to rows, panes and cells."""
    has_end = options.has_end
    # Windows of objects are complete at once.
    early = 0 if has_end else options.early
    step = beam.ParDo(Transform(settings, options.dead_letters_max, options.refresh))
    made = raw | "Transform" >> step.with_outputs(*Transform.OTHERS, main="events")
    ledgers = [made[LEDGER]]
    remembers = not options.without_dedup
    if has_end and not remembers:
        events = made.events | "Without ids" >> beam.Map(without_ids).with_output_types(TableRows)
    else:
        parts = made.events | "Shard" >> beam.ParDo(Shard(options.shards, remembers)).with_output_types(tuple[int, TableRows])
        if not has_end:
            numbers = raw.pipeline | "Parts" >> beam.Create(range(options.shards))
            first = numbers | "Begin" >> beam.Map(no_rows).with_output_types(tuple[int, TableRows])
            parts = [parts, first] | "To all parts" >> beam.Flatten()
        settle = beam.ParDo(Settle(settings, has_end, remembers)).with_outputs(LEDGER, main="events")
        settled = parts | "Settle" >> settle
        events = settled.events | "Together" >> beam.ParDo(Gather()).with_output_types(TableRows)
        ledgers.append(settled[LEDGER])
    tables = events | "By severity" >> beam.ParDo(BySeverity()).with_outputs(*BySeverity.TAGS)
    counted = events | "In time" >> beam.Map(in_time).with_output_types(TableRows)
    cells = counted | "Cells" >> beam.ParDo(Cells(settings)).with_output_types(TableRows)
    if options.slides or not has_end:
        single = cells | "Each cell" >> beam.FlatMap(each_cell).with_output_types(tuple[bytes, bytes])
    if has_end:
        written = cells | "Hours" >> HourSums(options.first_pane)
    else:
        panes = [
            single | f"Windows {name}" >> Rollups(name, FixedWindows(seconds), settings, early, options.first_pane)
            for name, seconds in WIDTHS.items()
        ]
        batches = panes | "All panes" >> beam.Flatten() | "Batch panes" >> in_batches(PANES)
        written = batches | "Pane rows" >> beam.ParDo(PaneBatches()).with_outputs("rows", main="cells")
    sessions = counted | "Sessions" >> UserSessions(settings, has_end, options.first_pane)
    found = {tag: tables[tag] for tag in BySeverity.TAGS}
    found["dead_letters"] = made["dead_letters"]
    found[LEDGER] = ledgers | "All counts" >> beam.Flatten()
    found["panes"] = written["rows"]
    for slide in options.slides:
        windows = SlidingWindows(slide.size, slide.period)
        # Steps within a step are named with a slash.
        name = slide.name.replace("/", " by ")
        sliding = single | f"Sliding {name}" >> Rollups(slide.name, windows, settings, early, options.first_pane)
        rows = beam.ParDo(SlidingRows(slide)).with_output_types(TableRows)
        found[f"sliding {name}"] = sliding | f"Batch {name}" >> in_batches(PANES) | f"Rows {name}" >> rows
    found["sessions"] = sessions
    served = [written.cells]
    if options.bigtable and not options.without_timelines:
        served.append(counted | "Timelines" >> Timelines(settings, early, options.first_pane))
    return Outputs(found, tuple(served))


def in_batches(most: int) -> Any:
    """Elements together, up to so many."""
    return beam.BatchElements(min_batch_size=1, max_batch_size=most)


def write(outputs: Outputs, options: SawlogOptions) -> None:
    """Writes to all sinks that the options name."""
    rows = outputs.all_rows() | "All rows" >> beam.Flatten()
    letters = [outputs.tables["dead_letters"]]
    if options.dataset:
        refused = rows | "To BigQuery" >> bigquery_sink(options)
        refused | "Refused to BigQuery" >> bigquery_sink(options)
        letters.append(refused)
    if options.bigtable:
        cells = outputs.cells | "All cells" >> beam.Flatten()
        cells | "To Bigtable" >> WriteBigtable(options.bigtable, options.bigtable_endpoint)
    if options.output:
        rows | "To files" >> WriteFiles(options.output, options.has_end)
    if options.dead_letters:
        all_letters = letters | "All dead letters" >> beam.Flatten()
        all_letters | "Dead letters to files" >> WriteDeadLetters(options.dead_letters, options.has_end)


def bigquery_sink(options: SawlogOptions) -> beam.PTransform:
    """The sink of the dataset: rows in, dead letters out."""
    if options.bigquery_sink == STORAGE_WRITE:
        return WriteBigQuery(options.dataset, options.bigquery_storage_endpoint)
    return WriteWithBeam(
        options.dataset,
        options.bigquery_sink,
        options.bigquery_endpoint,
        options.bigquery_expansion_service,
        not options.has_end,
    )
