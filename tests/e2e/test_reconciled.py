"""Days whose aggregates a batch run replaces, by tables that another program writes."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from conftest import Server, wait_for

SETTINGS = (
    "windows.out-of-orderness=1s",
    "windows.idle-timeout=1s",
    "host-metrics.enabled=false",
    "pipeline.flush-interval=200ms",
    "sources.http.past-max=30d",
)
VIEWS = {"v_error_rate": "count", "v_performance": "request_count", "v_activity": "count"}


def append(server: Server, table: str, rows: list[dict]) -> None:
    """Appends rows with the table's own schema; columns that a row lacks are null."""
    path = str(server.data / "tables" / table)
    schema = pa.schema(DeltaTable(path).schema().to_arrow())
    write_deltalake(path, pa.Table.from_pylist(rows, schema=schema), mode="append")


def test_a_run_replaces_a_day_when_the_control_table_names_it_and_not_before(data: Path):
    server = Server(data, *SETTINGS).start()
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first, second = today - timedelta(days=2), today - timedelta(days=1)
    for noon in (first + timedelta(hours=12), second + timedelta(hours=12), datetime.now(UTC)):
        at = {"timestamp": noon.timestamp()}
        lines = [{**at, "service": "stream", "level": level, "path": "/a", "duration_ms": 20} for level in ("info", "error")]
        lines += [{**at, "event": "buy", "user_id": f"u{n}"} for n in range(3)]
        assert server.events("\n".join(map(json.dumps, lines)))["stored"] == 5

    def days(view: str) -> dict:
        figure, key = VIEWS[view], "event_name" if view == "v_activity" else "service"
        sql = f"SELECT CAST(event_date AS VARCHAR), {key}, {figure} FROM {view} WHERE window_start < '{today.isoformat()}' ORDER BY 1"
        return {day: (name, count) for day, name, count in server.sql(sql)}

    one, other = f"{first:%Y-%m-%d}", f"{second:%Y-%m-%d}"
    streamed = {"v_error_rate": ("stream", 2), "v_performance": ("stream", 2), "v_activity": ("buy", 3)}
    for view, row in streamed.items():
        wait_for(lambda: days(view) == {one: row, other: row}, f"{view} shows complete windows: {days(view)}", 30)
    server.stop()

    batch = {"run_id": "r1", "window_start": first, "window_end": first + timedelta(minutes=1), "event_date": first.date()}
    counts = {"count": 70, "error_count": 7, "warning_count": 0, "error_ratio": 0.1}
    append(server, "batch_error_rate", [{**batch, "service": "batch", **counts}])
    latency = {"request_count": 70, "bytes": 0, "duration_count": 70, "duration_p99_us": 5.0}
    append(server, "batch_performance", [{**batch, "service": "batch", **latency}])
    append(server, "batch_activity", [{**batch, "event_name": "batch", "count": 70, "user_count": 9, "users": b""}])
    server.start()
    assert all(days(view) == {one: row, other: row} for view, row in streamed.items()), "no entry names the run"
    server.stop()

    def entry(name: str, run: str | None) -> dict:
        return {"aggregate": name, "event_date": first.date(), "run_id": run, "reconciled_at": datetime.now(UTC), "note": "by hand"}

    names = ("error_rate", "performance", "activity")
    append(server, "sawlog_reconciled", [entry(name, "r1") for name in names])
    server.start()
    for view, row in streamed.items():
        assert days(view) == {one: ("batch", 70), other: row}, view
    ratio = f"SELECT sum(error_count) / CAST(sum(count) AS DOUBLE) FROM v_error_rate WHERE event_date = '{one}'"
    assert server.value(ratio) == 0.1
    plan = "\n".join(row[1] for row in server.sql(f"EXPLAIN SELECT count FROM v_error_rate WHERE window_start >= '{today.isoformat()}'"))
    assert plan.count(f"{today:%Y-%m-%dT%H}") + plan.count(f"{int(today.timestamp())}") >= 2, f"both halves read the range only: {plan}"
    server.stop()

    time.sleep(0.01)
    append(server, "sawlog_reconciled", [entry("error_rate", None)])
    server.start()
    assert days("v_error_rate") == {one: ("stream", 2), other: ("stream", 2)}, "an entry without a run gives the day back"
    assert days("v_activity")[one] == ("batch", 70)
    server.stop()
