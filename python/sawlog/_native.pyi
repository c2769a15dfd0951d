"""The compiled part: batches cross by Arrow's C data interface, and the interpreter is released while they are worked on."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

__version__: str
"""The version of the package, which is that of the binary."""

class SawlogError(ValueError):
    """What Sawlog refuses, with the reason and what to do."""

class Transformer:
    """Rules and limits, compiled once; raw records in, rows out. May be shared by threads."""

    def __init__(
        self,
        rules: str = "{}",
        *,
        files: Mapping[str, bytes] | None = None,
        past_max: int | None = 34_560_000_000_000,
        future_max: int = 86_400_000_000,
    ) -> None:
        """Compiles rules: the table `[rules]` of the configuration as JSON, and the contents of the files that it names.

        `past_max` and `future_max` are how old an event may be and how far ahead, in microseconds; `None` is for any age.
        Raises `SawlogError` with all mistakes in the rules.
        """

    @property
    def rules_version(self) -> int:
        """The version that stands in each row: a hash of the rules and of what their files say."""

    def receive(self, messages: pa.RecordBatch, source: str) -> pa.RecordBatch:
        """Records of messages (`schema("messages")`) as rows of the raw lake (`schema("lake")`).

        Each message is a batch of its own, received when it was published; its id is `pubsub/` and that of the message.
        Redactions `at = "receive"` are done.
        """

    def transform(self, raw: pa.RecordBatch) -> dict[str, pa.RecordBatch]:
        """Rows of `logs`, `metrics`, `activity` and `dead_letters`, and what is known of them.

        `ids` names the rows that have an `insert_id` (table, row in it, hash of source, table and id, event time);
        `sawlog_ledger` counts records by source and minute of receipt. Of rows with one id the one with the smaller hash of
        its payload stays; others count as duplicates. Raises `SawlogError` for rows that Sawlog did not write.
        """

class Rollups:
    """Counts rows into windows of ten seconds. The series that it has met are counted on their own, others as `__other__`."""

    def __init__(self, *, apdex_threshold: int = 500_000, series_max: int = 20_000) -> None:
        """`apdex_threshold` is in microseconds, `series_max` the most series of each rollup."""

    def cells(self, tables: Mapping[str, pa.RecordBatch]) -> pa.RecordBatch:
        """What rows of `logs`, `metrics` and `activity` add: series, start of a window of 10 s, cell (`schema("cells")`)."""

class WindowSums:
    """Sums of windows of all widths, which have one pane each: that of all that adds to them."""

    def __init__(self) -> None:
        """Nothing is counted."""

    def add(self, cells: pa.RecordBatch) -> None:
        """Adds cells (`schema("cells")`)."""

    def panes(self, pane_index: int) -> pa.RecordBatch:
        """The panes (`schema("panes")`), on time and with that number, by width, series and start."""

class Sessions:
    """Makes sessions of the rows that name a user."""

    def __init__(self, *, gap: int = 1_800_000_000, length_max: int = 86_400_000_000) -> None:
        """The pause that ends a session, and the length beyond which one is cut at midnight, in microseconds."""

    def chains(self, tables: Mapping[str, pa.RecordBatch]) -> pa.RecordBatch:
        """Chains of events by user, with the times of their first and last event (`schema("chains")`)."""

    def rows(self, user_id: str, chains: Sequence[bytes], pane_index: int, is_late: bool = False) -> pa.RecordBatch:
        """The sessions of chains of a user as rows of `pane_sessions`; chains that touch are one. `is_late` for what a late
        event has changed."""

def merge_cells(key: bytes, cells: Sequence[bytes]) -> bytes:
    """The sum of cells of the series with that key."""

def split_cells(cells: pa.RecordBatch, parts: int) -> list[tuple[int, pa.RecordBatch]]:
    """Cells by the hour of their windows and one of so many parts of all series; a number names both, in all workers the same."""

def merge_chains(chains: Sequence[bytes]) -> bytes:
    """The chain of the events of all of these, which one user's session window holds."""

def pane_rows(panes: pa.RecordBatch) -> dict[str, pa.RecordBatch]:
    """Panes (`schema("panes")`) as rows of the tables `pane_…`; tables without rows are left out."""

def bigtable_cells(panes: pa.RecordBatch) -> pa.RecordBatch:
    """Panes as cells of the served table of Bigtable (`schema("bigtable")`): of two panes of a window the newer one wins."""

def timelines(tables: Mapping[str, pa.RecordBatch]) -> pa.RecordBatch:
    """Parts of the timelines of the users whom rows of `logs` and `activity` name (`schema("timelines")`), newest entry first."""

def timeline_cells(user_id: str, chunks: Sequence[bytes], position: int) -> pa.RecordBatch:
    """Parts of one user's timeline, in any order, as cells of the served table of Bigtable. The position tells these from others
    whose newest entry is of the same second."""

def bigquery_rows(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of a table as BigQuery takes them: attributes as JSON, whole numbers of one width, no missing lists."""

def row_key(rollup: str, width: str, parts: Sequence[str | None], window_start: int) -> bytes:
    """Row key in Bigtable of the window (start in UTC microseconds) of a series, by the parts of its key."""

def session_key(user_id: str) -> bytes:
    """Row key in Bigtable of a user's sessions."""

def timeline_key(user_id: str, newest: int, position: int, number: int) -> bytes:
    """Row key in Bigtable of a chunk of a user's timeline."""

def schema(name: str) -> pa.Schema:
    """The schema of a table, or `lake`, `messages`, `ids`, `cells`, `panes`, `chains`, `timelines` or `bigtable`."""

def bigquery_schema(name: str) -> list[dict[str, str]]:
    """Columns of a table as `google.cloud.bigquery.SchemaField.from_api_repr` takes them: `name`, `type`, `mode`."""

def spark_schema(name: str) -> str:
    """The schema of a table, or of `lake`, as JSON: `pyspark.sql.types.StructType.fromJson(json.loads(…))` makes it Spark's."""

def table_names() -> list[str]:
    """Names of all tables."""

def layout(name: str) -> tuple[str, str | None, list[str]]:
    """Of a table: column of the time that rows are of, column of the partitions, columns by which it is sorted."""
