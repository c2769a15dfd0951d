"""Objects in a bucket or files in a folder: the raw lake, rows as Parquet, dead letters as NDJSON."""

import base64
import hashlib
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timezone
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from sawlog.beam.rows import TableRows, one_batch, schema_of

HOUR = 3_600_000_000
# Batches of one object at most, and how long they wait for others.
OBJECT_BATCHES = 64
OBJECT_SECONDS = 60


class WriteObjects(beam.PTransform):
    """Writes values by folder. An object is named by its content, so that a repeated write meets its own."""

    def __init__(self, base: str, suffix: str, has_end: bool, encode: Callable[[list[Any]], bytes]):
        super().__init__()
        self.base, self.suffix, self.has_end, self.encode = base.rstrip("/"), suffix, has_end, encode

    def expand(self, values: Any) -> Any:
        """Groups values of one folder, without windows: nothing of them may come too late."""
        keyed = values | "Globally" >> beam.WindowInto(beam.window.GlobalWindows())
        if self.has_end:
            groups = keyed | "Group" >> beam.GroupByKey() | "Batch" >> beam.FlatMapTuple(in_batches)
        else:
            groups = keyed | "Group" >> beam.GroupIntoBatches(OBJECT_BATCHES, OBJECT_SECONDS)
        return groups | "Write" >> beam.MapTuple(self._write)

    def _write(self, folder: str, values: Iterable[Any]) -> str:
        content = self.encode(list(values))
        name = hashlib.blake2b(content, digest_size=16).hexdigest()
        parent = FileSystems.join(self.base, folder)
        if "://" not in parent and not FileSystems.exists(parent):
            make_folder(parent)
        path = f"{parent}/beam-{name}{self.suffix}"
        with FileSystems.create(path) as out:
            out.write(content)
        return path


def in_batches(folder: str, values: Iterable[Any]) -> Iterator[tuple[str, list[Any]]]:
    """The values of one folder, by object."""
    left = iter(values)
    while batch := list(itertools.islice(left, OBJECT_BATCHES)):
        yield folder, batch


def make_folder(path: str) -> None:
    """Makes a local folder, which another thread may do as well."""
    try:
        FileSystems.mkdirs(path)
    except OSError:
        if not FileSystems.exists(path):
            raise


def parquet(batches: list[pa.RecordBatch], schema: pa.Schema) -> bytes:
    """One object of the rows of batches."""
    out = io.BytesIO()
    options: dict[str, Any] = {"compression": "zstd", "compression_level": 1}
    pq.write_table(pa.Table.from_batches(batches, schema), out, **options)
    return out.getvalue()


class ByHour(beam.DoFn):
    """Raw records by the folder of their hour of receipt, as the lake of the binary has them."""

    def process(self, raw: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
        """The parts of a batch."""
        hours = [time // HOUR for time in raw["receive_time"].cast(pa.int64()).to_pylist()]
        for hour in sorted(set(hours)):
            start = datetime.fromtimestamp(hour * 3_600, timezone.utc)
            folder = f"raw/receive_date={start:%Y-%m-%d}/receive_hour={start:%H}"
            yield folder, raw.filter(pa.array([one == hour for one in hours]))


class WriteLake(beam.PTransform):
    """Raw records as objects of the lake."""

    def __init__(self, base: str, has_end: bool):
        super().__init__()
        self.base, self.has_end = base, has_end

    def expand(self, raw: Any) -> Any:
        """One folder for each hour of receipt."""
        parts = raw | "By hour" >> beam.ParDo(ByHour()).with_output_types(tuple[str, pa.RecordBatch])
        return parts | WriteObjects(self.base, ".parquet", self.has_end, lambda batches: parquet(batches, schema_of("lake")))


class WriteFiles(beam.PTransform):
    """Rows as Parquet files, in a folder for each table."""

    def __init__(self, base: str, has_end: bool):
        super().__init__()
        self.base, self.has_end = base, has_end

    def expand(self, rows: Any) -> Any:
        """One folder for each table."""
        keyed = rows | "By table" >> beam.Map(lambda one: (one.table, one)).with_output_types(tuple[str, TableRows])
        return keyed | WriteObjects(self.base, ".parquet", self.has_end, table_file)


def table_file(values: list[TableRows]) -> bytes:
    """One file of the rows of one table."""
    schema = schema_of(values[0].table)
    return parquet([one_batch((one.rows for one in values), schema)], schema)


class WriteDeadLetters(beam.PTransform):
    """Dead letters as NDJSON, in a folder for each day of receipt; payloads in base64."""

    def __init__(self, base: str, has_end: bool):
        super().__init__()
        self.base, self.has_end = base, has_end

    def expand(self, rows: Any) -> Any:
        """Each letter has all that is known of it."""
        days = rows | "By day" >> beam.FlatMap(by_day).with_output_types(tuple[str, str])
        return days | WriteObjects(self.base, ".ndjson", self.has_end, lambda lines: "".join(lines).encode())


def by_day(letters: TableRows) -> Iterator[tuple[str, str]]:
    """Lines by folder."""

    def plain(value: Any) -> str:
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        return value.isoformat() if isinstance(value, datetime | date) else str(value)

    for letter in letters.rows.to_pylist():
        yield f"receive_date={letter['event_date']}", json.dumps(letter, default=plain) + "\n"
