"""Messages of Pub/Sub to Cloud Storage, BigQuery and Bigtable: Sawlog beside a plain Python subscriber, on the doubles of
the tests.

For: the CPU that a message costs a worker, and how fast one worker goes. The doubles run on the same cores and the one of
BigQuery is slow, so that the wall clock is theirs as well. Runs in the environment of the tests, which has Google's clients.

usage: pubsub.py SAWLOG-BINARY RUNS MESSAGES
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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

    def stop(self) -> None:
        for double in (self.pubsub, self.storage, self.bigquery):
            double.stop()
        self.bigtable.kill()


def sawlog(binary: str, doubles: Doubles, count: int, folder: Path) -> tuple[float, float, int]:
    """Wall and CPU seconds until all is in all sinks, and peak memory in bytes."""
    config = folder / "gcp.toml"
    config.write_text(
        f'[[pubsub]]\nsubscription = "{doubles.pubsub.subscription}"\nsource = "orders"\nendpoint = "{doubles.pubsub.url}"\n'
        f'[gcp]\nproject = "{PROJECT}"\n[gcp.storage]\nbucket = "lake"\nendpoint = "{doubles.storage.url}"\n'
        f'[gcp.bigquery]\ndataset = "sawlog"\nendpoint = "{doubles.bigquery.url}"\n'
        f'storage-endpoint = "http://{doubles.bigquery.storage}"\n'
        f'[gcp.bigtable]\ninstance = "instance"\nendpoint = "{doubles.bigtable.url}"\n'
    )
    subprocess.run([binary, "gcp", "init", "--config", str(config)], check=True, stdout=subprocess.DEVNULL)
    started = time.monotonic()
    server = bench.Server(binary, folder / "data", config=config)
    received = "SELECT coalesce(sum(stored + duplicate + dead_lettered), 0) FROM sawlog_ledger WHERE source = 'orders'"
    while json.loads(bench.sql(server.address, received))["rows"][0][0] < count:
        time.sleep(0.1)
    cpu, memory = server.stop()
    return time.monotonic() - started, cpu, memory


def plain(doubles: Doubles, count: int) -> tuple[float, float, int]:
    addresses = [doubles.pubsub.address, doubles.storage.address, doubles.bigquery.address, doubles.bigquery.storage]
    return bench.usage_of([sys.executable, str(HERE / "subscriber.py"), doubles.pubsub.subscription, str(count), *addresses])


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
                doubles = Doubles(binary, messages, folder)
                measured = sawlog(binary, doubles, count, folder) if name == "sawlog" else plain(doubles, count)
                doubles.stop()
                wall, cpu, memory = measured
                rates = {"messages/s": count / wall, "CPU s per million": cpu * 1e6 / count, "peak MiB": memory / 2**20}
                figures.add(name, **rates)
    figures.print()


if __name__ == "__main__":
    main()
