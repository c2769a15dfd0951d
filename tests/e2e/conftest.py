"""The real binary on free ports and a folder of its own."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def binary() -> str:
    target = os.environ.get("CARGO_TARGET_DIR") or str(Path.home() / ".cache/sawlog/target")
    path = Path(target) / "debug" / "sawlog"
    assert path.exists(), f"{path} is missing: run `make test`, which builds it"
    return str(path)


def test_data() -> Path:
    folder = Path(os.environ.get("SAWLOG_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.fail(f"SAWLOG_TEST_DATA names no folder with test data, and {folder} is none")
    return folder


test_data.__test__ = False


def missing(what: str):
    """Ends a test whose tool or right is not there: a failure, since `make test` installs the tools."""
    if os.environ.get("SAWLOG_ALLOW_SKIPS") == "1":
        pytest.skip(what)
    pytest.fail(f"{what} (SAWLOG_ALLOW_SKIPS=1 leaves such tests out)")


def sawlog(*arguments: str, stdin: bytes | None = None, timeout: float = 120) -> subprocess.CompletedProcess:
    return subprocess.run([binary(), *arguments], input=stdin, capture_output=True, timeout=timeout, check=False)


def memory_peak(pid: int) -> int:
    """Bytes that a process had in memory at most, since its start or the last `reset_memory_peak`; 0 when it is gone."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) << 10 if found else 0


def reset_memory_peak(pid: int) -> None:
    """Lets the peak begin anew (proc(5), `clear_refs`)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def sawlog_with_memory(*arguments: str, timeout: float = 120) -> tuple[subprocess.CompletedProcess, int]:
    """Runs a command and watches its memory: the peak only grows, so that the last look before its end is good enough."""
    with subprocess.Popen([binary(), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        peak = 0
        deadline = time.monotonic() + timeout
        while process.poll() is None:
            assert time.monotonic() < deadline, f"{arguments} takes over {timeout} s"
            peak = max(peak, memory_peak(process.pid))
            time.sleep(0.005)
        stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr), peak


class Server:
    """One `sawlog serve` process."""

    def __init__(self, data: Path, *settings: str, config: Path | None = None, prefix: tuple[str, ...] = ()):
        self.data = data
        self.config = config
        self.settings = settings
        # A program that starts the server: strace, nsenter. It must end with the server.
        self.prefix = prefix
        self.process: subprocess.Popen | None = None
        self.url = ""
        self.grpc = ""
        self.otlp_http = ""
        self.postgres = ("127.0.0.1", 0)
        self.syslog: dict[str, tuple[str, str]] = {}

    def start(self, wait: bool = True) -> "Server":
        """Starts the server; with `wait=False` it may die at any moment, and then has no `url`."""
        ports = ["server.listen", "server.otlp-grpc-listen", "server.otlp-http-listen", "postgres.listen"]
        flags = [flag for port in ports for flag in ("--set", f"{port}=127.0.0.1:0")]
        flags += [flag for setting in self.settings for flag in ("--set", setting)]
        flags += ["--config", str(self.config)] if self.config else []
        log = open(self.data.parent / f"{self.data.name}.log", "ab")
        self.process = subprocess.Popen(
            [*self.prefix, binary(), "serve", "--data", str(self.data), *flags], stdout=subprocess.PIPE, stderr=log
        )
        first = self.process.stdout.readline().decode()
        second = self.process.stdout.readline().decode()
        found = re.search(r"http://(\S+)", first)
        if not found and not wait:
            self.url = ""
            return self
        assert found, f"no address in {first!r}; the log is {log.name}: {Path(log.name).read_text()[-2000:]}"
        self.url = f"http://{found[1]}"
        grpc = re.search(r"gRPC on ([\d.:]+)", second)
        otlp_http = re.search(r"HTTP on http://([\d.:]+)", second)
        self.grpc = grpc[1] if grpc else ""
        self.otlp_http = f"http://{otlp_http[1]}" if otlp_http else ""
        postgres = re.search(r"Postgres on ([\d.]+):(\d+)", second)
        self.postgres = (postgres[1], int(postgres[2])) if postgres else ("", 0)
        self.syslog = {
            name: re.search(rf"syslog/{name} on ([\d.]+):(\d+)", self.process.stdout.readline().decode()).groups()
            for name in ("UDP", "TCP")
            if any(setting.startswith(f"syslog.{name.lower()}-listen") for setting in self.settings)
        }
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        wait_for(lambda: self.get("/readyz")[0] == 200, "the server is ready")

    def get(self, path: str, headers: dict | None = None) -> tuple[int, bytes, dict]:
        return request("GET", self.url + path, None, headers)

    def post(self, path: str, body: bytes | str, headers: dict | None = None) -> tuple[int, bytes, dict]:
        return request("POST", self.url + path, body.encode() if isinstance(body, str) else body, headers)

    def events(self, body: bytes | str, **headers: str) -> dict:
        names = {"idempotency_key": "Idempotency-Key", "ack": "X-Sawlog-Ack", "encoding": "Content-Encoding"}
        status, answer, _ = self.post("/v1/events", body, {names[name]: value for name, value in headers.items()})
        assert status == 200, answer
        return json.loads(answer)

    def sql(self, query: str) -> list[list]:
        status, answer, _ = self.post("/v1/sql", json.dumps({"query": query}), {"Content-Type": "application/json"})
        assert status == 200, answer
        answer = json.loads(answer)
        assert not answer["truncated"], "the test needs all rows: raise query.rows-max"
        return answer["rows"]

    def csv(self, query: str) -> list[list[str]]:
        """Rows as texts: for answers too large for a test to have them as JSON."""
        status, answer, _ = self.post("/v1/sql", query, {"Content-Type": "text/plain", "Accept": "text/csv"})
        assert status == 200, answer
        return list(csv.reader(io.StringIO(answer.decode())))[1:]

    def log(self) -> str:
        return (self.data.parent / f"{self.data.name}.log").read_text()

    def value(self, query: str):
        return self.sql(query)[0][0]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> float:
        started = time.monotonic()
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=30)
        return time.monotonic() - started


def request(method: str, url: str, body: bytes | None, headers: dict | None) -> tuple[int, bytes, dict]:
    made = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(made, timeout=60) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)
    except (urllib.error.URLError, ConnectionError):
        return 0, b"", {}


def wait_for(condition, what: str, seconds: float = 30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    pytest.fail(f"waited {seconds} s in vain until {what}")


@pytest.fixture
def data(tmp_path: Path):
    yield tmp_path / "data"
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def server(data: Path):
    running = Server(data, "host-metrics.enabled=false").start()
    yield running
    running.stop()
