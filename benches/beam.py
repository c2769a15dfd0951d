"""The step that transforms, with the core and in plain Python, on the same messages in one process.

For: what the core is worth in a worker of Beam, and what the way into it costs. The plain step (plain.py)
is what one writes by hand for the same columns; both are compared before they are timed.
Runs in the environment of the package, with an optimized module.

usage: beam.py SAWLOG-BINARY RUNS EVENTS
"""

import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import bench  # noqa: E402
import plain  # noqa: E402
import pyarrow as pa  # noqa: E402

import sawlog  # noqa: E402

BATCH = 1_000
# Values that both must give alike: those that do not hang on a hash or on names of reasons.
COMPARED = (
    "event_time",
    "message",
    "severity_class",
    "service",
    "service_version",
    "http_method",
    "http_path",
    "http_route",
    "http_status",
    "duration_us",
    "user_id",
    "session_id",
    "client_address_class",
    "user_agent_family",
    "insert_id",
    "attribute_types",
    "value",
    "metric_name",
    "event_name",
    "page_route",
)


def messages(lines: list[bytes]) -> pa.RecordBatch:
    now = datetime.now(timezone.utc)
    count = len(lines)
    columns = [lines, [[]] * count, [str(place) for place in range(count)], [now] * count, [""] * count]
    schema = sawlog.schema("messages")
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def same_values(transformer: sawlog.Transformer, lines: list[bytes]) -> float:
    """The share of compared values that both give alike, by message."""
    ours, theirs = transformer.transform(transformer.receive(messages(lines), "bench")), plain.transform(lines)
    same = count = 0
    for table in ("logs", "metrics", "activity"):
        rows = {row["batch_id"]: row for row in theirs[table].to_pylist()}
        for row in ours[table].to_pylist():
            other = rows.get(row["batch_id"], {})
            for name in COMPARED:
                if name in row:
                    count += 1
                    same += row[name] == other.get(name)
    return same / count


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
    share = same_values(transformer, lines[:20_000])
    print(f"  {share:.2%} of the compared values are the same")
    if share < 0.98:
        sys.exit("the plain step is none of the same transform")
    ready = [messages(batch) for batch in batches]
    raw = [transformer.receive(batch, "bench") for batch in ready]
    figures = bench.Figures(f"{count} events in batches of {BATCH}: CPU seconds per million, and events a second on a core")
    for _ in range(runs):
        core = cpu_of(lambda batch: transformer.transform(transformer.receive(messages(batch), "bench")), batches)
        figures.add("with the core: messages to rows", **{"CPU s": core, "events/s": 1e6 / core})
        by_hand = cpu_of(plain.transform, batches)
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
