"""Tables of BigQuery by Beam's own sinks, for who prefers them to that of `bigquery.py`.

Streaming inserts cost twice as much as the Storage Write API and take one row at a time, but need nothing else. The sink that
writes each row once is Java's: Beam reaches it through an expansion service that runs beside the launcher, and workers run both
languages. Load jobs are left out: `sawlog gcp load` makes them of the lake.
"""

import base64
import json
import math
import socket
from collections.abc import Iterator
from datetime import date, datetime, timezone
from typing import Any

import apache_beam as beam
from apache_beam.io.gcp.bigquery import BigQueryDisposition, RetryStrategy, WriteToBigQuery
from apache_beam.utils.timestamp import Timestamp
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

import sawlog
from sawlog.beam.rows import EVENT_TABLES, TableRows
from sawlog.beam.sinks.bigquery import Refused, dead_letters, rows_of
from sawlog.beam.transform import LEDGER

STREAMING_INSERTS = "streaming-inserts"
EXACTLY_ONCE = "exactly-once"
FLUSH_COLUMNS = {"flush_writer": "STRING", "flush_position": "INT64", "flush_row": "INT64"}
# Seconds between commits of the sink that writes once.
COMMIT_SECONDS = 5
# Types for which Beam has none of Python's. BigQuery reads them from text.
TEXTS = {"JSON": str, "DATE": str}


def written_tables() -> list[str]:
    """Tables that the pipeline writes."""
    return [*EVENT_TABLES, "dead_letters", LEDGER, *(name for name in sawlog.table_names() if name.startswith("pane_"))]


class WriteWithBeam(beam.PTransform):
    """Writes rows by table; the output are dead letters, of rows that BigQuery refuses for good."""

    def __init__(self, dataset: str, sink: str, endpoint: str | None, expansion_service: str | None, is_streaming: bool):
        super().__init__()
        self.dataset, self.sink, self.endpoint = dataset, sink, endpoint
        self.expansion_service, self.is_streaming = expansion_service, is_streaming

    def expand(self, rows: Any) -> Any:
        """One of Beam's sinks for each table, since each has a schema of its own."""
        tables = written_tables()
        by_table = rows | "Dicts" >> beam.ParDo(ToDicts(self.sink)).with_outputs(*tables)
        letters = []
        for table in tables:
            result = by_table[table] | f"Write {table}" >> self._sink_of(table)
            to_letter = beam.Map(letter_of, table).with_output_types(TableRows)
            letters.append(result.failed_rows_with_errors | f"Letters {table}" >> to_letter)
        return letters | beam.Flatten()

    def _sink_of(self, table: str) -> WriteToBigQuery:
        project, dataset = self.dataset.rsplit(".", 1)
        common: dict[str, Any] = {
            "table": f"{project}:{dataset}.{table}_rows",
            "create_disposition": BigQueryDisposition.CREATE_NEVER,
            "write_disposition": BigQueryDisposition.WRITE_APPEND,
        }
        if self.sink == STREAMING_INSERTS:
            client = Client(self.endpoint, project) if self.endpoint else None
            return WriteToBigQuery(
                method=WriteToBigQuery.Method.STREAMING_INSERTS,
                insert_retry_strategy=RetryStrategy.RETRY_ON_TRANSIENT_ERROR,
                test_client=client,
                **common,
            )
        return WriteToBigQuery(
            method=WriteToBigQuery.Method.STORAGE_WRITE_API,
            schema={"fields": columns_of(table)},
            type_overrides=TEXTS,
            triggering_frequency=COMMIT_SECONDS if self.is_streaming else 0,
            with_auto_sharding=self.is_streaming,
            expansion_service=self.expansion_service,
            **common,
        )


def columns_of(table: str) -> list[dict[str, str]]:
    """Columns of the rows that are written to a table: those that are no events say how they came."""
    added = [] if table in EVENT_TABLES else list(FLUSH_COLUMNS.items())
    return sawlog.bigquery_schema(table) + [{"name": name, "type": sql, "mode": "NULLABLE"} for name, sql in added]


class ToDicts(beam.DoFn):
    """Rows as Beam's sinks take them, tagged by their table."""

    def __init__(self, sink: str):
        self.value = as_json if sink == STREAMING_INSERTS else as_beam

    def process(self, element: TableRows) -> Iterator[Any]:
        """One dictionary for each row."""
        for row in sawlog.bigquery_rows(rows_of(element)).to_pylist():
            yield beam.pvalue.TaggedOutput(element.table, {name: self.value(value) for name, value in row.items()})


def as_json(value: Any) -> Any:
    """A value in the JSON of streaming inserts."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    return value


def as_beam(value: Any) -> Any:
    """A value of Beam's rows."""
    if isinstance(value, datetime):
        return Timestamp.from_utc_datetime(value.astimezone(timezone.utc))
    return value.isoformat() if isinstance(value, date) else value


def letter_of(refused: Any, table: str) -> TableRows:
    """The dead letter of a row that was refused, as each of the two sinks tells it."""
    if isinstance(refused, dict):
        row, problem = refused["failed_row"], refused["error_message"]
    else:
        _, row, errors = refused
        problem = errors if isinstance(errors, str) else json.dumps(errors)
    return TableRows("dead_letters", dead_letters(table, [Refused(row, problem, None)]))


class Client:
    """A client of a double, which connects where it is used: those of Google cannot be sent to workers."""

    def __init__(self, endpoint: str, project: str):
        self.endpoint, self.project = endpoint, project

    def insert_rows_json(self, *arguments: Any, **more: Any) -> Any:
        """`google.cloud.bigquery.Client.insert_rows_json`."""
        options = {"api_endpoint": f"http://{self.endpoint}"}
        client = bigquery.Client(self.project, AnonymousCredentials(), client_options=options)
        return client.insert_rows_json(*arguments, **more)


def answers(address: str) -> bool:
    """Whether something listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
    except (OSError, ValueError):
        return False
    return True
