"""The step that transforms, with the core and in plain Python, on the same messages in one process.

For: what the core is worth in a worker of Beam, and what the way into it costs. The plain step does what one writes by hand: parse
JSON, pick columns, tell kinds apart, build the same number of Arrow rows; no rules, signatures, dead letters by reason or ids.
Runs in the environment of the package, with an optimized module.

usage: beam.py SAWLOG-BINARY RUNS EVENTS
"""

import json
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import pyarrow as pa  # noqa: E402

import bench  # noqa: E402
import sawlog  # noqa: E402

BATCH = 1_000
TEXTS = ("message", "service", "environment", "region", "host", "version", "insert_id", "trace_id", "span_id", "user_id", "session_id")


def messages(lines: list[bytes]) -> pa.RecordBatch:
    now = datetime.now(timezone.utc)
    count = len(lines)
    columns = [lines, [[]] * count, [str(place) for place in range(count)], [now] * count, [""] * count]
    schema = sawlog.schema("messages")
    return pa.RecordBatch.from_arrays([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)


def plain(lines: list[bytes]) -> int:
    """The same messages by hand."""
    tables: dict[str, list[dict]] = {"logs": [], "metrics": [], "activity": [], "dead_letters": []}
    for line in lines:
        try:
            event = json.loads(line)
            text = event.get("timestamp") or event.get("ts")
            time_ = datetime.fromisoformat(text) if isinstance(text, str) else datetime.fromtimestamp(text, timezone.utc)
            http = event.get("http") or {}
            row = {name: event.get(name) for name in TEXTS}
            row |= {"event_time": time_, "severity": (event.get("severity") or "INFO").upper(), "http_status": http.get("status")}
            row |= {"http_path": (http.get("path") or "").split("?")[0] or None, "duration_us": duration(event)}
            row["attributes"] = [(key, str(value)) for key, value in (event.get("labels") or {}).items()]
            kind = "metrics" if "metric" in event else "activity" if "event" in event and "message" not in event else "logs"
            tables[kind].append(row)
        except (ValueError, TypeError, AttributeError) as error:
            tables["dead_letters"].append({"payload": line, "error": str(error)})
    return sum(len(pa.RecordBatch.from_pylist(rows)) for rows in tables.values() if rows)


def duration(event: dict) -> int | None:
    value = event.get("duration_ms")
    return None if value is None else int(value * 1_000)


def cpu_of(run, batches: list) -> float:
    """CPU seconds for a million events."""
    started = time.process_time()
    for batch in batches:
        run(batch)
    return (time.process_time() - started) * 1e6 / sum(len(batch) for batch in batches)


def main() -> None:
    binary, runs, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    generate = [binary, "generate", "--no-pace", "--seed", "3", "--count", str(count)]
    lines = subprocess.run(generate, stdout=subprocess.PIPE, check=True).stdout.splitlines()
    batches = [lines[start : start + BATCH] for start in range(0, len(lines), BATCH)]
    transformer = sawlog.Transformer()
    ready = [messages(batch) for batch in batches]
    raw = [transformer.receive(batch, "bench") for batch in ready]
    figures = bench.Figures(f"{count} events in batches of {BATCH}: CPU seconds per million, and events a second on a core")
    for _ in range(runs):
        core = cpu_of(lambda batch: transformer.transform(transformer.receive(messages(batch), "bench")), batches)
        figures.add("with the core: messages to rows", **{"CPU s": core, "events/s": 1e6 / core})
        by_hand = cpu_of(plain, batches)
        figures.add("plain Python: messages to rows", **{"CPU s": by_hand, "events/s": 1e6 / by_hand})
        whole = cpu_of(transformer.transform, raw)
        figures.add("of it: transform", **{"CPU s": whole, "events/s": 1e6 / whole})
    figures.print()
    empty = raw[0].slice(0, 0)
    crossing = median(crossing_of(transformer, empty) for _ in range(runs))
    per_batch = figures.samples["of it: transform"]["CPU s"]
    share = crossing / (median(per_batch) * BATCH / 1e6)
    print(f"\n  a call without rows takes {crossing * 1e6:.0f} µs: {share:.1%} of one with {BATCH}")


def crossing_of(transformer: sawlog.Transformer, empty: pa.RecordBatch) -> float:
    """Seconds of a call that has nothing to do."""
    started = time.process_time()
    for _ in range(1_000):
        transformer.transform(empty)
    return (time.process_time() - started) / 1_000


if __name__ == "__main__":
    main()
