"""The served table of Bigtable: cells of panes under the row keys of the binary.

The time of a cell is its window's end and the number of its pane, so that a repeat writes the same cell and a newer pane wins.
"""

import logging
import os
import time
from collections.abc import Callable
from datetime import timezone
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigtable
from google.cloud.bigtable.row import DirectRow
from google.cloud.bigtable.table import DEFAULT_RETRY

import sawlog
from sawlog.beam.logs import note

VALUE_COLUMN = b"v"
REQUEST_CELLS = 1_000
ATTEMPTS = 6
SECONDS_MAX = 30
# Codes of google.rpc.Code that pass: DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, INTERNAL, UNAVAILABLE.
PASSES = {4, 8, 10, 13, 14}


class WriteBigtable(beam.PTransform):
    """Writes cells, each bundle in requests of so many cells."""

    def __init__(self, table: str, endpoint: str | None):
        super().__init__()
        self.table, self.endpoint = table, endpoint

    def expand(self, cells: Any) -> Any:
        """Cells come as lists of rows of `schema("bigtable")`."""
        return cells | "Mutate" >> beam.ParDo(Mutate(self.table, self.endpoint))


class Mutate(beam.DoFn):
    """Writes the cells of a bundle; when it fails for good, the bundle is repeated by the runner."""

    def __init__(self, table: str, endpoint: str | None):
        self.table, self.endpoint = table, endpoint
        self.written = Metrics.counter("sawlog", "bigtable_cells")
        self.pause: Callable[[float], None] = time.sleep

    def setup(self) -> None:
        """Connects."""
        project, instance, table = self.table.split("/")
        client = bigtable.Client(project=project) if self.endpoint is None else double_of(project, self.endpoint)
        self.opened = client.instance(instance).table(table)

    def start_bundle(self) -> None:
        """Nothing is waiting."""
        self.waiting: list[dict[str, Any]] = []

    def process(self, cells: list[dict[str, Any]]) -> None:
        """Keeps cells until a request is full."""
        self.waiting.extend(cells)
        while len(self.waiting) >= REQUEST_CELLS:
            self._write(self.waiting[:REQUEST_CELLS])
            del self.waiting[:REQUEST_CELLS]

    def finish_bundle(self) -> None:
        """Writes what is left."""
        self._write(self.waiting)

    def _write(self, cells: list[dict[str, Any]]) -> None:
        rows: dict[bytes, DirectRow] = {}
        for cell in cells:
            row = rows.setdefault(cell["row_key"], self.opened.direct_row(cell["row_key"]))
            row.set_cell(cell["family"], VALUE_COLUMN, cell["value"], timestamp=cell["cell_time"].astimezone(timezone.utc))
        left = list(rows.values())
        for attempt in range(ATTEMPTS):
            if not left:
                break
            statuses = self.opened.mutate_rows(left, retry=DEFAULT_RETRY.with_timeout(SECONDS_MAX), timeout=SECONDS_MAX)
            refused = [status for status in statuses if status.code and status.code not in PASSES]
            if refused:
                raise sawlog.SawlogError(f"Bigtable refuses cells: {refused[0].message} (code {refused[0].code})")
            left = [row for row, status in zip(left, statuses, strict=True) if status.code]
            if left:
                problem = next(status.message for status in statuses if status.code)
                note(logging.WARNING, "retry", sink="bigtable", rows=len(left), attempt=attempt + 1, error=problem)
                self.pause(min(2.0**attempt, 30))
        if left:
            raise sawlog.SawlogError(f"Bigtable took {len(left)} of {len(rows)} rows not in {ATTEMPTS} attempts")
        self.written.inc(len(cells))


def double_of(project: str, endpoint: str) -> bigtable.Client:
    """A client of a double. Google's client has no other way to an address without encryption than this variable."""
    os.environ["BIGTABLE_EMULATOR_HOST"] = endpoint
    return bigtable.Client(project=project, credentials=AnonymousCredentials())
