"""Messages of Pub/Sub to Cloud Storage, BigQuery and Bigtable: Sawlog beside a plain Python subscriber, on the doubles of
the tests.

For: the CPU that a message costs a worker, and how fast one worker goes. The doubles run on the same cores and the one of
BigQuery is slow, so that the wall clock is theirs as well. Runs in the environment of the tests, which has Google's clients.

usage: pubsub.py SAWLOG-BINARY RUNS MESSAGES
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests/e2e")]

import bench  # noqa: E402
from google_doubles import PROJECT, BigQueryDouble, BigtableDouble, PubsubDouble, StorageDouble  # noqa: E402


class Doubles:
    """All doubles, with messages waiting in the subscription."""

    def __init__(self, binary: str, messages: Path, folder: Path):
        self.pubsub, self.storage = PubsubDouble(), StorageDouble(folder / "buckets")
        self.bigquery, self.bigtable = BigQueryDouble(), BigtableDouble()
        command = [binary, "publish", str(messages), "--topic", self.pubsub.topic, "--endpoint", self.pubsub.url]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        for double in (self.pubsub, self.storage, self.bigquery):
            double.stop()
        self.bigtable.kill()


def worker(binary: str, doubles: Doubles, folder: Path, *settings: str) -> bench.Server:
    """A worker whose dataset and tables are there."""
    config = folder / "gcp.toml"
    config.write_text(
        f'[[pubsub]]\nsubscription = "{doubles.pubsub.subscription}"\nsource = "orders"\nendpoint = "{doubles.pubsub.url}"\n'
        f'[gcp]\nproject = "{PROJECT}"\n[gcp.storage]\nbucket = "lake"\nendpoint = "{doubles.storage.url}"\n'
        f'[gcp.bigquery]\ndataset = "sawlog"\nendpoint = "{doubles.bigquery.url}"\n'
        f'storage-endpoint = "http://{doubles.bigquery.storage}"\n'
        f'[gcp.bigtable]\ninstance = "instance"\nendpoint = "{doubles.bigtable.url}"\n'
    )
    subprocess.run([binary, "gcp", "init", "--config", str(config)], check=True, stdout=subprocess.DEVNULL)
    return bench.Server(binary, folder / "data", *settings, config=config)


def settle(server: bench.Server, count: int) -> None:
    """Waits until so many rows of events are in BigQuery: the last step of a flush but for the cells."""
    line = re.compile(r'^sawlog_bigquery_rows_total\{.*table="(?:logs|metrics|activity|dead_letters)".*\} (\d+)', re.MULTILINE)
    while sum(map(int, line.findall(bench.get(server.address, "/metrics")))) < count:
        time.sleep(0.1)


def sawlog(binary: str, doubles: Doubles, count: int, folder: Path) -> tuple[float, float, int]:
    """Wall and CPU seconds until all is in all sinks, and peak memory in bytes."""
    started = time.monotonic()
    server = worker(binary, doubles, folder, "pipeline.flush-interval=5s")
    settle(server, count)
    cpu, memory = server.stop()
    return time.monotonic() - started, cpu, memory


def catch_up(binary: str, doubles: Doubles, count: int, folder: Path) -> float:
    """Messages a second that come from the spool to the bucket, from the first object that does to the last."""
    server = worker(binary, doubles, folder, "pipeline.flush-interval=1s", "pipeline.flush-size=1MiB")
    doubles.storage.kill()
    settle(server, count)
    spooled = lambda: len(list((folder / "data").glob("lake-spool/**/*.parquet")))  # noqa: E731
    waiting = -1
    while waiting != (waiting := spooled()) or waiting == 0:
        time.sleep(3)
    doubles.storage.start()
    while spooled() > 0:
        time.sleep(0.05)
    server.stop()
    objects = sorted((file.stat().st_mtime, file.stat().st_size) for file in (folder / "buckets").rglob("*.parquet"))
    if len(objects) < 2:
        sys.exit(f"{count} messages are one object: give more")
    first, total = objects[0], sum(size for _, size in objects)
    return count * (1 - first[1] / total) / (objects[-1][0] - first[0])


def plain(doubles: Doubles, count: int) -> tuple[float, float, int]:
    addresses = [doubles.pubsub.address, doubles.storage.address, doubles.bigquery.address, doubles.bigquery.storage]
    return bench.usage_of([sys.executable, str(HERE / "subscriber.py"), doubles.pubsub.subscription, str(count), *addresses])


def logical_bytes(files: list[Path]) -> int:
    """Bytes of rows as BigQuery counts them: 8 for a number or time, 2 and its length for a text."""
    total = 0
    for column in (column for file in files for column in pq.read_table(file).columns):
        present = len(column) - column.null_count
        if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            total += (pc.sum(pc.binary_length(column)).as_py() or 0) + 2 * present
        elif pa.types.is_nested(column.type):
            total += sum(2 + len(json.dumps(value)) for value in column.to_pylist() if value)
        else:
            total += present * (1 if pa.types.is_boolean(column.type) else 8)
    return total


def sizes(doubles: Doubles, count: int, folder: Path) -> dict[str, float]:
    """What a message leaves in each service. Rows are counted in the worker's own tables, which have the same."""
    tables = folder / "data/tables"
    of_events, others = [], []
    for file in tables.rglob("*.parquet"):
        is_event = file.relative_to(tables).parts[0] in ("logs", "metrics", "activity", "dead_letters")
        (of_events if is_event else others).append(file)
    cells = state = stored = 0
    for name in (doubles.bigtable.table, f"{doubles.bigtable.table}_state"):
        for row in doubles.bigtable.client.instance(doubles.bigtable.instance).table(name).read_rows():
            versions = [cell for columns in row.cells.values() for column in columns.values() for cell in column]
            cells, state = cells + len(versions), state + (len(versions) if name.endswith("_state") else 0)
            stored += sum(len(row.row_key) + len(cell.value) + 8 for cell in versions)
    return {
        "bucket B": bench.size_of(folder / "buckets") / count,
        "rows of events B": logical_bytes(of_events) / count,
        "other rows B": logical_bytes(others) / count,
        "cells": cells / count,
        "of them state": state / count,
        "cells B": stored / count,
    }


def main() -> None:
    binary, runs, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    figures = bench.Figures(f"{count} messages of Pub/Sub to Cloud Storage, BigQuery and Bigtable")
    with tempfile.TemporaryDirectory(prefix="sawlog-bench-") as root:
        messages = Path(root) / "messages.ndjson"
        with open(messages, "wb") as out:
            generate = ["generate", "--scenario", "bench", "--seed", "3", "--no-pace", "--count", str(count)]
            subprocess.run([binary, *generate], stdout=out, check=True)
        for run in range(runs):
            for name in ("sawlog", "plain Python subscriber"):
                folder = Path(root) / f"{run}-{name.split()[0]}"
                folder.mkdir()
                with Doubles(binary, messages, folder) as doubles:
                    measured = sawlog(binary, doubles, count, folder) if name == "sawlog" else plain(doubles, count)
                wall, cpu, memory = measured
                rates = {"messages/s": count / wall, "CPU s per million": cpu * 1e6 / count, "peak MiB": memory / 2**20}
                figures.add(name, **rates)
        figures.print()
        left = bench.Figures("What a message leaves behind (sawlog generate, demo: logs, metrics and activity)")
        folder = Path(root) / "sizes"
        folder.mkdir()
        with open(messages, "wb") as out:
            # A hundred events a second until now: ids of what is older than the dedup window are not kept.
            start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - count / 100))
            generate = ["generate", "--seed", "3", "--no-pace", "--duplicate", "0", "--count", str(count), "--start", start]
            subprocess.run([binary, *generate], stdout=out, check=True)
        received = sum(1 for _ in open(messages, "rb"))
        with Doubles(binary, messages, folder) as doubles:
            sawlog(binary, doubles, count, folder)
            left.add("sawlog", **{"message B": messages.stat().st_size / received}, **sizes(doubles, received, folder))
        left.print()
        spool = bench.Figures(f"{count} messages from the spool to Cloud Storage after it was away")
        for run in range(runs):
            folder = Path(root) / f"{run}-spool"
            folder.mkdir()
            with Doubles(binary, messages, folder) as doubles:
                rate = catch_up(binary, doubles, count, folder)
            spool.add("sawlog", **{"messages/s": rate, "of a million a minute": rate / bench.EVENTS_PER_SECOND})
        spool.print()


if __name__ == "__main__":
    main()
