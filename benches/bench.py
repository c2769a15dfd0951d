"""Sawlog and its peers on one machine, in one run.

For: the figures of docs/performance.md. Each figure is the median of several runs; what counts are ratios between
systems measured in turn, since machines are noisy. CPU is user plus system seconds of the whole process (and of the
server it talks to) per million events. Not for: pass or fail.

usage: bench.py SAWLOG-BINARY [--runs 5] [--events 1000000] [--only NAME]
"""

import argparse
import http.client
import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# A million a minute.
EVENTS_PER_SECOND = 1_000_000 / 60


def usage_of(command: list[str], **options) -> tuple[float, float, int]:
    """Runs a command; returns wall seconds, CPU seconds and peak memory in bytes."""
    started = time.monotonic()
    process = subprocess.Popen(command, **options)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"failed: {' '.join(command)} ({status})")
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Figures:
    """Samples by system and measure, printed as medians and as ratios to the first system."""

    def __init__(self, title: str):
        self.title = title
        self.samples: dict[str, dict[str, list[float]]] = {}

    def add(self, system: str, **measures: float) -> None:
        for name, value in measures.items():
            self.samples.setdefault(system, {}).setdefault(name, []).append(value)

    def print(self) -> None:
        print(f"\n{self.title}")
        names = list(dict.fromkeys(name for measures in self.samples.values() for name in measures))
        print(f"  {'':34}" + "".join(f"{name:>22}" for name in names))
        first = next(iter(self.samples.values()))
        for system, measures in self.samples.items():
            cells = []
            for name in names:
                if name not in measures:
                    cells.append(f"{'–':>22}")
                    continue
                median = statistics.median(measures[name])
                base = statistics.median(first[name]) if name in first else 0
                ratio = f" ({median / base:.2f}×)" if base and measures is not first else ""
                cells.append(f"{median:>{22 - len(ratio)}.3f}{ratio}")
            print(f"  {system:34}" + "".join(cells))


def load_file(binary: str, events: int, runs: int, work: Path) -> None:
    """NDJSON file to durable and queryable."""
    for insert_ids in (False, True):
        source = work / f"events-{insert_ids}.ndjson"
        flags = [] if insert_ids else ["--no-insert-ids"]
        with open(source, "wb") as out:
            command = [binary, "generate", "--scenario", "bench", "--seed", "1", "--no-pace", "--count", str(events)]
            subprocess.run([*command, *flags], stdout=out, check=True)
        size = source.stat().st_size / events
        note = "with insert_id (deduplicated)" if insert_ids else "without insert_id"
        figures = Figures(f"File of {events} NDJSON events of {size:.0f} B, {note}, to durable and queryable; per million events")
        for _ in range(runs):
            for name, settings in {
                "sawlog, lake on": [],
                "sawlog, lake off": ["--set", "lake.enabled=false"],
            }.items():
                data = work / "sawlog"
                shutil.rmtree(data, ignore_errors=True)
                ingest = [binary, "ingest", str(source), "--data", str(data), *settings]
                wall, cpu, memory = usage_of(ingest, stdout=subprocess.DEVNULL)
                record(figures, name, events, wall, cpu, memory, size_of(data / "tables"))
            for name, peer in {"ClickHouse (chdb, MergeTree)": "chdb", "DuckDB (read_ndjson)": "duckdb"}.items():
                target = work / peer
                shutil.rmtree(target, ignore_errors=True)
                wall, cpu, memory = usage_of([sys.executable, str(HERE / "peer.py"), peer, str(source), str(target)])
                record(figures, name, events, wall, cpu, memory, size_of(target))
        figures.print()


def record(figures: Figures, name: str, events: int, wall: float, cpu: float, memory: int, stored: int) -> None:
    scale = 1e6 / events
    figures.add(
        name, **{"wall s": wall * scale, "CPU s": cpu * scale, "peak MiB": memory / 2**20, "table MB": stored / 1e6 * scale}
    )


class Server:
    def __init__(self, binary: str, data: Path, *settings: str, config: Path | None = None):
        shutil.rmtree(data, ignore_errors=True)
        ports = [f"server.{name}=127.0.0.1:0" for name in ("listen", "otlp-grpc-listen", "otlp-http-listen")]
        ports.append("postgres.listen=127.0.0.1:0")
        flags = [flag for port in [*ports, "host-metrics.enabled=false", "log.level=warn", *settings] for flag in ("--set", port)]
        flags += ["--config", str(config)] if config else []
        self.process = subprocess.Popen([binary, "serve", "--data", str(data), *flags], stdout=subprocess.PIPE)
        self.address = self.process.stdout.readline().decode().split("http://")[1].strip()
        self.process.stdout.readline()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                connection = http.client.HTTPConnection(self.address)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.02)
        sys.exit("the server did not start")

    def stop(self) -> tuple[float, int]:
        """CPU seconds and peak memory of the server, its last flush included."""
        self.process.terminate()
        _, _, usage = os.wait4(self.process.pid, 0)
        return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def batches_of(binary: str, batches: int, size: int) -> list[bytes]:
    command = [binary, "generate", "--scenario", "bench", "--seed", "2", "--no-pace", "--no-insert-ids"]
    lines = subprocess.run([*command, "--count", str(batches * size)], stdout=subprocess.PIPE, check=True).stdout.splitlines()
    return [b"\n".join(lines[start : start + size]) for start in range(0, len(lines), size)]


def post_all(address: str, batches: list[bytes], latencies: list[float], pace: float | None) -> None:
    connection = http.client.HTTPConnection(address)
    started = time.monotonic()
    for index, batch in enumerate(batches):
        due = started + index * pace if pace else time.monotonic()
        time.sleep(max(0.0, due - time.monotonic()))
        connection.request("POST", "/v1/events", batch)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200 or json.loads(body)["stored"] == 0:
            sys.exit(f"a batch was not taken: {answer.status} {body[:200]!r}")
        # From the time the batch was due: a slow answer may not hide the wait of those behind it.
        latencies.append(time.monotonic() - due)


def post_paced(address: str, of_clients: list[list[bytes]]) -> tuple[float, dict[str, float]]:
    """Posts each client's batches of 1,000 so that all together make a million events a minute; returns wall seconds and
    latencies."""
    latencies: list[float] = []
    pace = len(of_clients) * 1000 / EVENTS_PER_SECOND
    threads = [threading.Thread(target=post_all, args=(address, batches, latencies, pace)) for batches in of_clients]
    started = time.monotonic()
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    wall = time.monotonic() - started
    latencies.sort()
    return wall, {"p50 ms": latencies[len(latencies) // 2] * 1e3, "p99 ms": latencies[len(latencies) * 99 // 100] * 1e3}


def http_durable(binary: str, runs: int, work: Path) -> None:
    """HTTP batches, each synced before its answer, against inserts that are synced."""
    batches = batches_of(binary, 200, 1000)
    events = len(batches) * 1000
    source = work / "http.ndjson"
    source.write_bytes(b"\n".join(batches) + b"\n")
    figures = Figures(f"{events} events in synced batches, one client; per million events")
    for _ in range(runs):
        server = Server(binary, work / "sawlog")
        latencies: list[float] = []
        started = time.monotonic()
        post_all(server.address, batches, latencies, None)
        wall = time.monotonic() - started
        cpu, memory = server.stop()
        figures.add("sawlog, HTTP batches of 1,000", **{"wall s": wall * 1e6 / events, "CPU s": cpu * 1e6 / events, "peak MiB": memory / 2**20})
        target = work / "chdb"
        shutil.rmtree(target, ignore_errors=True)
        peer = [sys.executable, str(HERE / "peer.py"), "chdb-synced", str(source), str(target)]
        wall, cpu, memory = usage_of(peer)
        figures.add("chdb, synced inserts of 10,000", **{"wall s": wall * 1e6 / events, "CPU s": cpu * 1e6 / events, "peak MiB": memory / 2**20})
    figures.print()


def http_paced(binary: str, runs: int, work: Path) -> None:
    """A million events a minute: acknowledgement latency and the share of a core it takes."""
    seconds = 20
    clients = 4
    batches = batches_of(binary, int(EVENTS_PER_SECOND) * seconds // 1000 // clients, 1000)
    figures = Figures("A million events a minute over HTTP, batches of 1,000 from 4 clients")
    for _ in range(max(1, runs // 2)):
        server = Server(binary, work / "sawlog")
        wall, latencies = post_paced(server.address, [batches] * clients)
        cpu, memory = server.stop()
        figures.add("sawlog", **latencies, **{"cores": cpu / wall, "peak MiB": memory / 2**20})
    figures.print()


def get(address: str, path: str) -> str:
    connection = http.client.HTTPConnection(address)
    connection.request("GET", path)
    return connection.getresponse().read().decode()


def timelines(address: str, users: list[str]) -> list[float]:
    """Milliseconds that the timelines of users take, sorted."""
    connection = http.client.HTTPConnection(address)
    taken = []
    for user in users:
        started = time.monotonic()
        connection.request("GET", f"/v1/users/{user}/timeline")
        answer = connection.getresponse()
        answer.read()
        if answer.status == 200:
            taken.append((time.monotonic() - started) * 1e3)
    return sorted(taken)


def mixed_paced(binary: str, runs: int, work: Path) -> None:
    """The generated mix of logs, metrics and activity at a million events a minute: the whole stream path."""
    seconds, clients, rate = 90, 4, EVENTS_PER_SECOND
    figures = Figures("A million generated events of all kinds a minute for 90 s, batches of 1,000 from 4 clients")
    for _ in range(max(1, runs // 2)):
        server = Server(binary, work / "sawlog")
        start = time.time() + 20
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start))
        command = [binary, "generate", "--rate", str(rate), "--start", stamp, "--no-pace", "--count", str(int(rate * seconds))]
        lines = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()
        batches = [b"\n".join(lines[at : at + 1000]) for at in range(0, len(lines), 1000)]
        time.sleep(max(0.0, int(start) - time.time()))
        before = cpu_of(server.process.pid)
        wall, latencies = post_paced(server.address, [batches[client::clients] for client in range(clients)])
        cpu = cpu_of(server.process.pid) - before
        known = json.loads(sql(server.address, "SELECT DISTINCT user_id FROM activity WHERE user_id IS NOT NULL LIMIT 500"))
        users = [row[0] for row in known["rows"]]
        taken = timelines(server.address, users)
        delay = metric(get(server.address, "/metrics"), 'sawlog_on_time_delay_seconds{quantile="0.99"}')
        _, memory = server.stop()
        figures.add(
            "sawlog",
            **latencies,
            **{
                "cores": cpu / wall,
                "on-time p99 s": delay,
                "timeline p95 ms": taken[len(taken) * 95 // 100],
                "peak MiB": memory / 2**20,
            },
        )
    figures.print()


def sql(address: str, query: str) -> str:
    connection = http.client.HTTPConnection(address)
    connection.request("POST", "/v1/sql", json.dumps({"query": query}), {"Content-Type": "application/json"})
    return connection.getresponse().read().decode()


def metric(text: str, name: str) -> float:
    return next((float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name)), math.nan)


def cpu_of(pid: int) -> float:
    """CPU seconds of a running process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def soak(binary: str, events: int, work: Path) -> None:
    """Many events of a million users in 10,000 series, as fast as they are taken: does memory stay as it is?"""
    size, bodies = 10_000, 100
    print(f"\n{events} events of a million users in 10,000 series, batches of {size} from 2 clients", flush=True)
    made = [soak_body(number, size) for number in range(bodies)]
    # Retention reads all cells once a day: within the run.
    settings = ["lake.enabled=false", "sources.http.past-max=unlimited", "retention.interval=15m"]
    server = Server(binary, work / "sawlog", *settings)
    left = iter(range(events // size))
    lock = threading.Lock()
    sent = 0

    def post_next() -> None:
        nonlocal sent
        connection = http.client.HTTPConnection(server.address)
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                return
            while True:
                connection.request("POST", "/v1/events", made[number % bodies])
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    break
                time.sleep(0.5)  # more than it can take now: the answer says when to come again
            with lock:
                sent += size

    threads = [threading.Thread(target=post_next) for _ in range(2)]
    started = time.monotonic()
    [thread.start() for thread in threads]
    print(f"  {'events':>14}{'events/s':>12}{'CPU s/million':>16}{'memory MiB':>14}", flush=True)
    last_sent, last_time, last_cpu = 0, started, cpu_of(server.process.pid)
    while any(thread.is_alive() for thread in threads):
        threads[0].join(timeout=20)
        now, cpu, done = time.monotonic(), cpu_of(server.process.pid), sent
        if done > last_sent:
            rate, cost = (done - last_sent) / (now - last_time), (cpu - last_cpu) * 1e6 / (done - last_sent)
            print(f"  {done:>14}{rate:>12.0f}{cost:>16.2f}{memory_of(server.process.pid) / 2**20:>14.0f}", flush=True)
            last_sent, last_time, last_cpu = done, now, cpu
    _, memory = server.stop()
    print(f"  peak {memory / 2**20:.0f} MiB, {size_of(work / 'sawlog') / 1e9:.2f} GB on the disk")


def soak_body(number: int, size: int) -> bytes:
    """Events without a time of their own: they happen when they are received."""
    lines = []
    for at in range(number * size, (number + 1) * size):
        user, kind = f"u{at}", at % 10
        if kind < 6:
            fields = {"level": "error" if at % 50 == 0 else "info", "message": f"request {at} done", "service": f"s{at % 20}"}
            fields |= {"service_version": f"v{at // 20 % 5}", "http_route": f"/r/{at // 100 % 50}", "duration_ms": at % 300, "user_id": user}
        elif kind < 8:
            fields = {"metric_name": f"load.{at % 5}", "metric_type": "gauge", "value": at % 100, "host": f"h{at // 10 % 1000}"}
        else:
            fields = {"event_name": f"e{at % 30}", "user_id": user, "page": f"/p/{at % 40}"}
        lines.append(json.dumps(fields))
    return "\n".join(lines).encode()


def anomalies(binary: str, runs: int, work: Path) -> None:
    """Values that one core scores: a series with a day's wave, reading and printing lines included."""
    values = 500_000
    source = work / "series.csv"
    with open(source, "w", encoding="utf-8") as out:
        out.write("timestamp,value\n")
        for index in range(values):
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(1_700_000_000 + index * 300))
            out.write(f"{stamp},{100 + 40 * math.sin(index / 288 * math.tau) + index * 7919 % 101 / 25:.3f}\n")
    figures = Figures(f"Anomaly scores of {values} values")
    for _ in range(runs):
        command = [binary, "anomalies", "score", str(source), "--csv"]
        wall, cpu, memory = usage_of(command, stdout=subprocess.DEVNULL)
        figures.add("sawlog", **{"values per CPU s": values / cpu, "wall s": wall, "peak MiB": memory / 2**20})
    figures.print()


def beam(binary: str, runs: int, work: Path) -> None:
    """The step of Beam's workers, with the module that was built beside the binary."""
    package = work / "package/sawlog"
    shutil.copytree(HERE.parent / "python/sawlog", package, ignore=shutil.ignore_patterns("*.so"))
    shutil.copy(Path(binary).parent / "lib_native.so", package / "_native.abi3.so")
    environment = os.environ | {"PYTHONPATH": str(package.parent)}
    python = HERE.parent / ".venv-beam/bin/python"
    subprocess.run([str(python), str(HERE / "beam.py"), binary, str(runs), "100000"], env=environment, check=True)


def pubsub(binary: str, runs: int) -> None:
    """Messages of Pub/Sub to Google Cloud's services; Google's clients are in the environment of the tests."""
    python = HERE.parent / ".venv/bin/python"
    subprocess.run([str(python), str(HERE / "pubsub.py"), binary, str(runs), "200000"], check=True)


# What takes long and is asked for by name.
CAMPAIGNS = {"soak": lambda options, work: soak(options.binary, options.events, work)}
SCENARIOS = {
    "file": lambda options, work: load_file(options.binary, options.events, options.runs, work),
    "http": lambda options, work: http_durable(options.binary, options.runs, work),
    "paced": lambda options, work: http_paced(options.binary, options.runs, work),
    "mixed": lambda options, work: mixed_paced(options.binary, options.runs, work),
    "anomalies": lambda options, work: anomalies(options.binary, options.runs, work),
    "pubsub": lambda options, _: pubsub(options.binary, options.runs),
    "beam": lambda options, work: beam(options.binary, options.runs, work),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--only", choices=SCENARIOS | CAMPAIGNS)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(f"{os.cpu_count()} cores, {options.runs} runs, medians")
    with tempfile.TemporaryDirectory(prefix="sawlog-bench-") as folder:
        for name, scenario in (SCENARIOS | CAMPAIGNS).items():
            if options.only == name or (options.only is None and name in SCENARIOS):
                scenario(options, Path(folder))


if __name__ == "__main__":
    main()
