"""The binary and the package on the same input."""

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sawlog

ROOT = Path(__file__).resolve().parents[2]


def binary() -> str:
    target = os.environ.get("CARGO_TARGET_DIR") or str(Path.home() / ".cache/sawlog/target")
    path = Path(target) / "debug" / "sawlog"
    assert path.exists(), f"{path} is missing: run `make test`, which builds it"
    return str(path)


def run(*arguments: str, stdin: bytes | None = None) -> str:
    """What the binary prints."""
    done = subprocess.run([binary(), *arguments], input=stdin, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def generated(count: int, *more: str, start: str = "2026-11-24T00:00:00Z") -> bytes:
    """A stream of logs, metrics and activity, the same each time."""
    flags = ["--no-pace", "--seed", "7", "--count", str(count), "--start", start, *more]
    return subprocess.run([binary(), "generate", *flags], capture_output=True, timeout=300, check=True).stdout


def data_of_tests() -> Path:
    folder = Path(os.environ.get("SAWLOG_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.fail(f"SAWLOG_TEST_DATA names no folder with test data, and {folder} is none")
    return folder


def canonical(row: dict[str, Any], *without: str) -> str:
    """A row as one text, without some columns; times and bytes as the binary's answers have them."""

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        if isinstance(value, datetime):
            return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
        return value.isoformat() if isinstance(value, date) else str(value)

    kept = {name: value for name, value in row.items() if name not in without}
    return json.dumps(kept, default=plain, sort_keys=True)


def rows_of(files: list[Path]) -> Iterator[dict[str, Any]]:
    """The rows of files, some thousands at a time."""
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(8_192):
            yield from batch.to_pylist()


@contextmanager
def served(config: Path, folder: Path) -> Iterator[str]:
    """A server of the binary that is ready; its address."""
    ports = ("server.listen", "server.otlp-grpc-listen", "server.otlp-http-listen", "postgres.listen")
    flags = [flag for port in ports for flag in ("--set", f"{port}=127.0.0.1:0")]
    command = [binary(), "serve", "--config", str(config), "--data", str(folder), *flags]
    with folder.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        found = re.search(r"http://[\d.:]+", process.stdout.readline())
        assert found, folder.with_suffix(".log").read_text()
        deadline = time.monotonic() + 60
        while not is_ready(found.group()):
            assert time.monotonic() < deadline, folder.with_suffix(".log").read_text()
            time.sleep(0.1)
        yield found.group()
        process.terminate()
        process.wait(60)
    finally:
        process.kill()
        process.wait()


def is_ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/readyz", timeout=30) as answer:
            return answer.status == 200
    except OSError:
        return False


class Deployment:
    """A data folder of the binary that has taken files in."""

    def __init__(self, folder: Path, *files: Path, settings: str = ""):
        self.folder = folder / "data"
        self.config = folder / "sawlog.toml"
        self.config.write_text(settings)
        for file in files:
            run("ingest", str(file), "--data", str(self.folder), "--config", str(self.config))

    def receive(self, *bodies: bytes) -> None:
        """Sends bodies of JSON lines to a server, one after the other, which is stopped then."""
        with served(self.config, self.folder) as url:
            for body in bodies:
                request = Request(f"{url}/v1/events", body, {"Content-Type": "application/x-ndjson"})
                urlopen(request, timeout=60).close()

    def query(self, sql: str) -> list[dict[str, Any]]:
        flags = ["--data", str(self.folder), "--format", "ndjson", "--set", "query.rows-max=10000000"]
        return [json.loads(line) for line in run("query", sql, *flags).splitlines()]

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """All rows of a table, from its files."""
        return rows_of(sorted((self.folder / "tables" / table).rglob("*.parquet")))

    def raw(self) -> pa.RecordBatch:
        """The raw records as the lake has them."""
        files = sorted((self.folder / "lake").rglob("*.parquet"))
        table = pa.concat_tables(pq.ParquetFile(file).read() for file in files).cast(sawlog.schema("lake"))
        return table.combine_chunks().to_batches()[0]
