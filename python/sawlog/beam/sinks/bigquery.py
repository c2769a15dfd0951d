"""Tables of BigQuery through the Storage Write API: the default stream, at least once.

The views of a dataset that `sawlog gcp init` made for `delivery = "at-least-once"` leave repeats out: of events by their ids, of
other rows by what says how they came, which is made of their content here. A row that BigQuery refuses, or that no request can
carry, becomes a dead letter; the others of its request go on.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import apache_beam as beam
import grpc
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud.bigquery_storage_v1 import types
from google.cloud.bigquery_storage_v1.services.big_query_write import BigQueryWriteClient
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport

import sawlog
from sawlog.beam.logs import DeadLetterSummary, note
from sawlog.beam.rows import EVENT_TABLES, TableRows, number_of, one_batch, schema_of

# The service takes requests of 10 MB.
REQUEST_BYTES_MAX = 9_000_000
FLUSH_BYTES = 8_000_000
ATTEMPTS = 6
SECONDS_MAX = 60
PASSES = (
    exceptions.ServiceUnavailable,
    exceptions.InternalServerError,
    exceptions.TooManyRequests,
    exceptions.Aborted,
    exceptions.DeadlineExceeded,
    exceptions.ResourceExhausted,
    exceptions.Unknown,
)


@dataclass(frozen=True)
class Refused:
    """A row that BigQuery does not take, why, and which attempt said so, if any was made."""

    row: dict[str, Any]
    problem: str
    attempt: int | None


class WriteBigQuery(beam.PTransform):
    """Appends rows by table; the output are dead letters."""

    def __init__(self, dataset: str, endpoint: str | None):
        super().__init__()
        self.dataset, self.endpoint = dataset, endpoint

    def expand(self, rows: Any) -> Any:
        """Rows of one bundle are appended together."""
        write = beam.ParDo(Append(self.dataset, self.endpoint))
        return rows | "Append" >> write.with_output_types(TableRows)


class Append(beam.DoFn):
    """Appends the rows of a bundle; when it fails for good, the bundle is repeated by the runner."""

    def __init__(self, dataset: str, endpoint: str | None):
        self.dataset, self.endpoint = dataset, endpoint
        self.written, self.refused = (Metrics.counter("sawlog", f"bigquery_{name}") for name in ("rows", "refused"))
        self.pause: Callable[[float], None] = time.sleep

    def setup(self) -> None:
        """Connects."""
        self.client = client(self.endpoint)
        self.summary = DeadLetterSummary()

    def start_bundle(self) -> None:
        """Nothing is waiting."""
        self.waiting: dict[str, list[pa.RecordBatch]] = {}

    def process(self, element: TableRows) -> Iterator[TableRows]:
        """Keeps rows until a request is full."""
        batches = self.waiting.setdefault(element.table, [])
        batches.append(rows_of(element))
        if sum(batch.nbytes for batch in batches) >= FLUSH_BYTES:
            yield from self._flush(element.table)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Appends what is left."""
        for table in list(self.waiting):
            for letters in self._flush(table):
                yield WindowedValue(letters, MIN_TIMESTAMP, [GlobalWindow()])
        self.summary.tell()

    def teardown(self) -> None:
        """Tells of the last rows that were refused."""
        self.summary.tell(is_last=True)

    def _flush(self, table: str) -> Iterator[TableRows]:
        batches = self.waiting.pop(table)
        rows = one_batch(batches, batches[0].schema)
        letters: list[Refused] = []
        self._append(table, rows, letters)
        self.written.inc(len(rows) - len(letters))
        if letters:
            self.refused.inc(len(letters))
            for refused in letters:
                self.summary.add("bigquery", "row_refused", f"table {table}: {refused.problem}")
            yield TableRows("dead_letters", dead_letters(table, letters))

    def _append(self, table: str, rows: pa.RecordBatch, letters: list[Refused]) -> None:
        converted = sawlog.bigquery_rows(rows)
        content = converted.serialize().to_pybytes()
        if len(content) > REQUEST_BYTES_MAX:
            if len(rows) == 1:
                problem = f"{len(content)} bytes are more than a request may have"
                letters.append(Refused(rows.to_pylist()[0], problem, None))
                return
            half = len(rows) // 2
            self._append(table, rows.slice(0, half), letters)
            self._append(table, rows.slice(half), letters)
            return
        attempt, errors = self._send(table, converted.schema, content, len(rows))
        if errors:
            values = rows.to_pylist()
            letters.extend(Refused(values[place], problem, attempt) for place, problem in sorted(errors.items()))
            kept = [place for place in range(len(rows)) if place not in errors]
            if kept:
                self._append(table, rows.take(pa.array(kept)), letters)

    def _send(self, table: str, schema: pa.Schema, content: bytes, count: int) -> tuple[int, dict[int, str]]:
        """Which attempt went through, and the rows that were refused, with the reason; none when all are stored."""
        project, dataset = self.dataset.rsplit(".", 1)
        data = types.AppendRowsRequest.ArrowData()
        data.writer_schema.serialized_schema = schema.serialize().to_pybytes()
        data.rows.serialized_record_batch = content
        data.rows.row_count = count
        stream = f"projects/{project}/datasets/{dataset}/tables/{table}_rows/streams/_default"
        request = types.AppendRowsRequest(write_stream=stream, arrow_rows=data)
        for attempt in range(ATTEMPTS):
            try:
                answer = next(iter(self.client.append_rows(iter([request]), timeout=SECONDS_MAX)), None)
                if answer is None:
                    raise exceptions.Unknown("the stream ended without an answer")
            except PASSES as error:
                if attempt + 1 == ATTEMPTS:
                    raise sawlog.SawlogError(f"{table}: BigQuery took no rows in {ATTEMPTS} attempts: {error}") from error
                note(logging.WARNING, "retry", sink="bigquery", table=table, attempt=attempt + 1, error=str(error))
                self.pause(min(2.0**attempt, 30))
                continue
            if answer.row_errors:
                return attempt + 1, {error.index: error.message for error in answer.row_errors}
            if answer.error.code:
                raise sawlog.SawlogError(f"{table}: BigQuery refuses the rows: {answer.error.message}")
            return attempt + 1, {}
        return ATTEMPTS, {}


def rows_of(element: TableRows) -> pa.RecordBatch:
    """The rows; those that are no events with what says how they came."""
    rows = element.rows
    if element.table in EVENT_TABLES:
        return rows
    numbers = [element.token or number_of(repr(row).encode()) for row in rows.to_pylist()]
    columns: list[tuple[str, pa.Array]] = [
        ("flush_writer", pa.array(["beam"] * len(rows))),
        ("flush_position", pa.array(numbers, pa.int64())),
        ("flush_row", pa.array(range(len(rows)) if element.token else [0] * len(rows), pa.int64())),
    ]
    for name, column in columns:
        rows = rows.append_column(name, column)
    return rows


def client(endpoint: str | None) -> BigQueryWriteClient:
    """A client of the service, or of a double without encryption and credentials."""
    if endpoint is None:
        return BigQueryWriteClient()
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    channel = grpc.insecure_channel(endpoint, options=options)
    return BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=channel, credentials=AnonymousCredentials()))


def dead_letters(table: str, letters: list[Refused]) -> pa.RecordBatch:
    """Rows that BigQuery refused, as rows of `dead_letters`: the payload is the row as JSON."""
    now = datetime.now(timezone.utc)
    schema = schema_of("dead_letters")
    lines = []
    for refused in letters:
        row = refused.row
        line = {name: row.get(name) for name in schema.names}
        line |= {
            "stage": "bigquery",
            "reason": "row_refused",
            "error": f"table {table}: {refused.problem}",
            "remedy": "see the reason; the raw record is in the lake",
            "receive_time": now,
            "event_date": now.date(),
            "attempt": refused.attempt,
            "code_version": sawlog.__version__,
            "payload": json.dumps(row, default=str).encode()[: 1 << 20],
        }
        lines.append(line | {name: 0 for name in ("rules_version", "record_index") if line.get(name) is None})
    for line in lines:
        for name in ("source", "format", "batch_id"):
            line[name] = line.get(name) or "beam"
    return pa.RecordBatch.from_pylist(lines, schema)
