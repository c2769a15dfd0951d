"""The transform core of Sawlog: raw records in, the rows of the binary out, as Arrow batches."""

from sawlog._native import (
    Rollups,
    SawlogError,
    Sessions,
    Transformer,
    __version__,
    bigquery_rows,
    bigtable_cells,
    layout,
    merge_cells,
    merge_chains,
    pane_rows,
    row_key,
    schema,
    session_key,
    table_names,
    timeline_key,
)
from sawlog.settings import Settings

__all__ = [
    "Rollups",
    "SawlogError",
    "Sessions",
    "Settings",
    "Transformer",
    "__version__",
    "bigquery_rows",
    "bigtable_cells",
    "layout",
    "merge_cells",
    "merge_chains",
    "pane_rows",
    "row_key",
    "schema",
    "session_key",
    "table_names",
    "timeline_key",
]
