"""Moving in: the tables of an embedded deployment into BigQuery, on doubles, by the real binary."""

import re
import subprocess
import time
from pathlib import Path

import pytest

from conftest import Server, binary, sawlog, wait_for
from google_doubles import PROJECT, BigQueryDouble, StorageDouble
from test_gcp import Columns
from test_gcp_reader import events

SETTINGS = ("host-metrics.enabled=false", "pipeline.flush-interval=1s", "query.rows-max=200000")
EVENTS = ("logs", "metrics", "activity", "dead_letters")
LEDGER = "SELECT sum(received), sum(stored), sum(duplicate), sum(dead_lettered) FROM sawlog_ledger"


class Cloud:
    """Doubles of the services that a load needs. That of BigQuery reads the objects of that of Cloud Storage."""

    def __init__(self, folder: Path):
        self.storage = StorageDouble(folder / "buckets")
        self.bigquery = BigQueryDouble("-root", str(folder / "buckets"))
        self.config = folder / "gcp.toml"
        self.config.write_text(
            f'[gcp]\nproject = "{PROJECT}"\n'
            f'[gcp.storage]\nbucket = "{self.storage.bucket}"\nprefix = "raw-lake"\nendpoint = "{self.storage.url}"\n'
            f'[gcp.bigquery]\ndataset = "sawlog"\nendpoint = "{self.bigquery.url}"\n'
            f'storage-endpoint = "http://{self.bigquery.storage}"\n'
        )

    def counts(self, tables) -> dict[str, int]:
        return {table: self.bigquery.rows(f"SELECT COUNT(*) FROM `{{}}.{table}_rows`")[0][0] for table in tables}

    def stop(self) -> None:
        self.storage.stop()
        self.bigquery.stop()


@pytest.fixture
def cloud(tmp_path: Path):
    running = Cloud(tmp_path)
    yield running
    running.stop()


class AllColumns(Columns):
    """The columns of a table but for lists, those of places and times of receipt included."""

    def __init__(self, server: Server, table: str):
        super().__init__(server, table)
        sql = f"SELECT column_name, data_type FROM information_schema.columns WHERE table_name = '{table}' ORDER BY ordinal_position"
        self.types = [(name, kind) for name, kind in server.sql(sql) if not kind.startswith("List")]

    def embedded(self, server: Server) -> list[tuple]:
        return self.alike(super().embedded(server))

    def bigquery(self, double: BigQueryDouble) -> list[tuple]:
        return self.alike(super().bigquery(double))

    def alike(self, rows: list[tuple]) -> list[tuple]:
        """Rows whose letters of types are sorted: in BigQuery they are in the order of the keys of a JSON object."""
        names = [name for name, _ in self.types]

        def one(name: str, value: str) -> str:
            return "".join(sorted(value)) if name.endswith("_types") else value

        return sorted(tuple(map(one, names, row)) for row in rows)


def embedded(data: Path, count: int, seed: int) -> None:
    """A deployment on one machine that took events and stopped."""
    server = Server(data, *SETTINGS).start()
    try:
        for part in range(3):
            server.events(events(count // 3, seed=seed + part).replace(b'"id-', f'"id-{part}-'.encode()))
            time.sleep(1.2)  # flushes, so that tables have several files
    finally:
        server.stop()


def load(data: Path, cloud: Cloud, *arguments: str) -> subprocess.CompletedProcess:
    return sawlog("gcp", "load", "--config", str(cloud.config), "--data", str(data), *arguments, timeout=200)


def planned(data: Path, cloud: Cloud) -> dict[str, int]:
    """Rows of each table that are left to load."""
    made = load(data, cloud, "--dry-run")
    assert made.returncode == 0, made.stderr
    return {table: int(rows) for table, rows in re.findall(r"^(\w+): (\d+) of", made.stdout.decode(), re.MULTILINE)}


def test_history_moves_in_and_new_rows_follow(data: Path, cloud: Cloud):
    embedded(data, 3_000, seed=11)
    plan = planned(data, cloud)
    assert plan["logs"] > 1_500 and plan["metrics"] > 50 and plan["activity"] > 200 and plan["dead_letters"] > 20, plan
    assert plan["sawlog_ledger"] > 0 and plan["pane_requests"] > 100, plan
    moved = load(data, cloud)
    assert moved.returncode == 0, moved.stderr.decode()
    assert f"loaded {sum(plan.values())} rows of".encode() in moved.stdout, moved.stdout
    assert cloud.counts(plan) == plan
    again = load(data, cloud)
    assert (again.returncode, again.stdout.splitlines()[0]) == (0, b"nothing is left to load")
    assert list(cloud.storage.objects("raw-lake/_load/")) == [], "nothing in between is left"
    lake = sorted(path.relative_to(data / "lake").as_posix() for path in (data / "lake").rglob("*.parquet"))
    assert len(lake) >= 3
    assert sorted(cloud.storage.objects("raw-lake/raw/")) == [f"raw-lake/{key}" for key in lake]
    worker = Server(data, *SETTINGS, config=cloud.config).start()
    try:
        worker.events(events(300, seed=21).replace(b'"id-', b'"id-new-'))
        wait_for(lambda: worker.value("SELECT count(*) FROM logs") > plan["logs"], "new rows are there")
        columns = [AllColumns(worker, table) for table in EVENTS]
        expected = {one.table: one.embedded(worker) for one in columns}
        ledger = worker.sql(LEDGER)
    finally:
        worker.stop()
    for one in columns:
        assert len(expected[one.table]) > plan[one.table]
        assert one.bigquery(cloud.bigquery) == expected[one.table], one.table
    found = cloud.bigquery.rows(LEDGER.replace("sawlog_ledger", "`{}.sawlog_ledger`"))
    assert [[int(value) for value in row] for row in found] == ledger
    assert load(data, cloud).stdout.startswith(b"nothing is left to load"), "the worker has brought the rest"


def test_a_load_that_is_killed_again_and_again_loads_each_row_once(data: Path, cloud: Cloud):
    embedded(data, 900, seed=31)
    plan = planned(data, cloud)
    lines = 1
    while True:
        command = [binary(), "gcp", "load", "--config", str(cloud.config), "--data", str(data)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            seen = 0
            while seen < lines and process.stderr.readline():
                seen += 1
            process.kill()
        if seen < lines:
            break
        if lines == 5:
            refused = sawlog("query", "--data", str(data), "SELECT 1")
            assert refused.returncode == 1 and b"gcp load --undo" in refused.stderr, refused.stderr
        lines += 4
    assert lines > 12, "it was killed a few times"
    assert load(data, cloud).returncode == 0
    assert cloud.counts(plan) == plan
    places = "SELECT COUNT(DISTINCT CONCAT(batch_id, '/', CAST(record_index AS STRING))) FROM `{}.logs_rows`"
    assert cloud.bigquery.rows(places) == [(plan["logs"],)]


def test_what_would_be_twice_or_missing_is_refused_and_a_load_is_taken_back(data: Path, cloud: Cloud):
    worker = Server(data, *SETTINGS, config=cloud.config).start()
    try:
        worker.events(events(60, seed=41))
        held = load(data, cloud)
        assert held.returncode == 1 and b"in use by process" in held.stderr, held.stderr
    finally:
        worker.stop()
    refused = load(data, cloud)
    assert refused.returncode == 1 and b"which a load would repeat" in refused.stderr, refused.stderr
    other = data.parent / "other"
    embedded(other, 90, seed=51)
    before = cloud.counts(["logs", "activity"])
    days = ("--table", "logs", "--from", "2000-01-01")
    assert load(other, cloud, *days, "--no-lake").returncode == 0
    assert cloud.counts(["logs"])["logs"] > before["logs"]
    assert cloud.counts(["activity"])["activity"] == before["activity"]
    changed = load(other, cloud)
    assert changed.returncode == 1 and b"the days from 2000-01-01" in changed.stderr, changed.stderr
    undone = load(other, cloud, "--undo")
    assert undone.returncode == 0, undone.stderr
    assert cloud.counts(["logs", "activity"]) == before
    for arguments in (["--from", "yesterday"], ["--table", "lgs"], ["--from", "2026-01-02", "--until", "2026-01-02"]):
        assert load(other, cloud, *arguments).returncode in (1, 2), arguments
    nowhere = load(data.parent / "nowhere", cloud)
    assert nowhere.returncode == 2 and not (data.parent / "nowhere").exists()
