"""A worker on Google Cloud: Pub/Sub in, Cloud Storage, BigQuery and Bigtable out, on doubles, by the real binary."""

import io
import json
import random
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet
import pytest

from conftest import Server, sawlog, wait_for
from google_doubles import PROJECT, BigQueryDouble, BigtableDouble, LoggingDouble, PubsubDouble, StorageDouble
from test_page import look

# What differs between two runs of the same messages: when and in which batch they came.
PLACE = {"receive_time", "observed_time", "observed_time_nanos", "batch_id", "record_index", "rules_version", "late"}
SMALL = ("host-metrics.enabled=false", "pipeline.flush-interval=1s", "sources.pubsub.past-max=unlimited", "query.rows-max=200000")

# Batches of a subscription reach the log in any order: a day's messages that come within seconds span hours in what is under way.
DAY_AT_ONCE = (*SMALL, "pipeline.dedup-window=2d")


class Cloud:
    """Doubles of all services, and the configuration of a worker that uses them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.pubsub, self.storage = PubsubDouble(), StorageDouble(folder / "buckets")
        self.bigquery, self.bigtable = BigQueryDouble(), BigtableDouble()

    def config(self, subscription: str, more: str = "") -> Path:
        path = self.folder / "gcp.toml"
        path.write_text(
            f'[[pubsub]]\nsubscription = "{subscription}"\nsource = "orders"\nendpoint = "{self.pubsub.url}"\n'
            f'[gcp]\nproject = "{PROJECT}"\n'
            f'[gcp.storage]\nbucket = "{self.storage.bucket}"\nprefix = "raw-lake"\nendpoint = "{self.storage.url}"\n'
            f'[gcp.bigquery]\ndataset = "sawlog"\nendpoint = "{self.bigquery.url}"\n'
            f'storage-endpoint = "http://{self.bigquery.storage}"\n'
            f'[gcp.bigtable]\ninstance = "{self.bigtable.instance}"\nendpoint = "{self.bigtable.url}"\n{more}'
        )
        return path

    def stop(self) -> None:
        for double in (self.pubsub, self.storage, self.bigquery):
            double.stop()
        self.bigtable.kill()


@pytest.fixture
def cloud(tmp_path: Path):
    running = Cloud(tmp_path)
    yield running
    running.stop()


def messages(count: int, seed: int) -> list[tuple[bytes, dict[str, str]]]:
    """Orders of one day: some late, some repeated, some broken, empty, of another schema, or very large."""
    chance = random.Random(seed)
    start = 1_795_600_000
    found = []
    for number in range(count):
        when = start + number * 86_400 // count - (chance.random() < 0.02) * chance.randrange(7_200)
        event = {
            "timestamp": f"{when}", "severity": chance.choice(["INFO", "INFO", "INFO", "ERROR"]),
            "message": f"order {number}", "service": chance.choice(["shop", "pay"]), "http_status": chance.choice([200, 500]),
            "duration_ms": chance.randrange(1, 900), "user_id": f"u{chance.randrange(200)}", "http_route": "/orders/{id}",
            "attempt": chance.randrange(3),
        }
        kind = chance.random()
        if number == count // 2:
            found.append((b'{"message": "' + b"x" * 9_900_000 + b'"}', {}))
        elif kind < 0.01:
            found.append((b'{"message": "broken', {}))
        elif kind < 0.02:
            found.append((b"", {"only": "attributes"}))
        elif kind < 0.03:
            found.append((json.dumps({"timestamp": when, "nothing": [1, {"known": True}]}).encode(), {}))
        elif kind < 0.05:
            repeated = json.dumps({**event, "insert_id": f"twice-{number}"}).encode()
            found += [(repeated, {}), (repeated, {})]
        elif kind < 0.06:
            found.append((json.dumps({"event_name": "view", "user_id": event["user_id"], "timestamp": f"{when}"}).encode(), {}))
        else:
            found.append((json.dumps(event).encode(), {"team": "a"}))
    return found


def settled(server: Server, count: int) -> None:
    """Waits until so many messages are in the ledger and nothing is in flight."""
    sql = "SELECT coalesce(sum(received), 0), coalesce(sum(in_flight), 0) FROM sawlog_ledger WHERE source = 'orders'"
    wait_for(lambda: server.sql(sql)[0] == [count, 0], f"{count} messages are stored", 120)


class Columns:
    """The columns of a table that two runs of the same messages agree in, as each engine is asked for them."""

    def __init__(self, server: Server, table: str):
        sql = f"SELECT column_name, data_type FROM information_schema.columns WHERE table_name = '{table}' ORDER BY ordinal_position"
        self.table = table
        # Lists and maps of metrics are not in these messages.
        self.types = [(name, kind) for name, kind in server.sql(sql) if name not in PLACE and not kind.startswith("List")]

    def embedded(self, server: Server) -> list[tuple]:
        return sorted(tuple(as_text(value) for value in row) for row in server.sql(f"SELECT {self.listed(False)} FROM {self.table}"))

    def bigquery(self, double: BigQueryDouble) -> list[tuple]:
        when = "receive_time" if self.table == "dead_letters" else "event_time"
        rows = double.rows(f"SELECT {self.listed(True)} FROM `{{}}.{self.table}` WHERE {when} > '2000-01-01'")
        return sorted(tuple(as_text(value) for value in row) for row in rows)

    def listed(self, is_bigquery: bool) -> str:
        def one(name: str, kind: str) -> str:
            if kind.startswith("Timestamp"):
                return f"UNIX_MICROS(`{name}`)" if is_bigquery else f'CAST("{name}" AS BIGINT)'
            if kind.startswith("Binary"):
                return f"TO_HEX(`{name}`)" if is_bigquery else f"""encode("{name}", 'hex')"""
            return f"`{name}`" if is_bigquery else f'"{name}"'

        return ", ".join(one(*column) for column in self.types)


def as_text(value) -> str:
    if value is None:
        return ""
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value)


def test_a_worker_on_google_cloud_stores_what_an_embedded_one_does(data: Path, cloud: Cloud, tmp_path: Path):
    here = cloud.pubsub.subscribe("embedded")
    sent = messages(50_000, seed=7)
    embedded_config = tmp_path / "embedded.toml"
    embedded_config.write_text(f'[[pubsub]]\nsubscription = "{here}"\nsource = "orders"\nendpoint = "{cloud.pubsub.url}"\n')
    embedded = Server(tmp_path / "embedded", *DAY_AT_ONCE, config=embedded_config).start()
    worker = Server(data, *DAY_AT_ONCE, config=cloud.config(cloud.pubsub.subscription)).start()
    try:
        cloud.pubsub.publish(*sent)
        for server in (embedded, worker):
            settled(server, len(sent))
        tables = [Columns(worker, table) for table in ("logs", "activity", "dead_letters")]
        expected = {columns.table: columns.embedded(embedded) for columns in tables}
        assert all(len(rows) > 10 for rows in expected.values()), "the messages have some of each kind"
        ledger = "SELECT source, sum(received), sum(stored), sum(duplicate), sum(dead_lettered) FROM sawlog_ledger GROUP BY 1"
        assert worker.sql(ledger) == embedded.sql(ledger)
        status, page, _ = worker.get("/")
        assert status == 200 and b"<html" in page.lower()
    finally:
        worker.stop()
        embedded.stop()
    assert cloud.pubsub.left() == 0, "all are acknowledged"
    for columns in tables:
        assert columns.bigquery(cloud.bigquery) == expected[columns.table], columns.table
    objects = cloud.storage.objects("raw-lake/raw/")
    lake = sum(pyarrow.parquet.read_table(io.BytesIO(body)).num_rows for body in objects.values())
    assert lake == len(sent), "every record as it was received"
    assert len(cloud.bigtable.cells("rollup_1m")) > 100 and len(cloud.bigtable.cells("timeline")) > 100


def test_a_worker_that_is_killed_loses_nothing_and_stores_nothing_twice(data: Path, cloud: Cloud):
    config = cloud.config(cloud.pubsub.subscription)
    worker = Server(data, *SMALL, config=config).start()
    count = 2_000
    body = [json.dumps({"message": f"order {number}", "timestamp": f"{1_795_600_000 + number}"}).encode() for number in range(count)]
    for round_ in range(4):
        part = body[round_ * count // 4 : (round_ + 1) * count // 4]
        cloud.pubsub.publish(*[(one, {}) for one in part])
        time.sleep(0.3 + 0.4 * round_)
        worker.kill()
        worker.start()
    try:
        wait_for(lambda: worker.value("SELECT count(*) FROM logs") == count, "all are there", 120)
    finally:
        worker.stop()
    rows = cloud.bigquery.rows("SELECT COUNT(*), COUNT(DISTINCT message) FROM `{}.logs` WHERE event_time > '2000-01-01'")
    assert rows == [(count, count)]


def test_a_worker_that_lost_its_disk_goes_on_with_what_the_services_have(data: Path, cloud: Cloud):
    config = cloud.config(cloud.pubsub.subscription)
    one = json.dumps({"message": "once", "insert_id": "id-1", "timestamp": "1795600000", "http_status": 200, "service": "shop"}).encode()
    worker = Server(data, *SMALL, config=config).start()
    cloud.pubsub.publish((one, {}))
    wait_for(lambda: worker.value("SELECT count(*) FROM logs") == 1, "it is there", 30)
    worker.stop()
    shutil.rmtree(data)
    worker.start()
    try:
        another = one.replace(b"once", b"again").replace(b"id-1", b"id-2")
        cloud.pubsub.publish((one, {}), (another, {}))
        wait_for(lambda: worker.value("SELECT count(*) FROM logs") == 1, "the new one is there", 30)
        outcome = worker.sql("SELECT sum(stored), sum(duplicate) FROM sawlog_ledger WHERE source = 'orders'")
        assert outcome == [[1, 1]], "the id of the first is known from Bigtable"
        counted = worker.value("SELECT sum(request_count) FROM rollup_requests_1m WHERE service = 'shop'")
        assert counted == 2, "the window goes on where it was"
    finally:
        worker.stop()
    rows = cloud.bigquery.rows("SELECT message FROM `{}.logs` WHERE event_time > '2000-01-01' ORDER BY 1")
    assert rows == [("again",), ("once",)]


def test_a_bucket_that_is_away_holds_nothing_up(data: Path, cloud: Cloud):
    worker = Server(data, *SMALL, config=cloud.config(cloud.pubsub.subscription)).start()
    try:
        cloud.pubsub.publish((b'{"message":"before"}', {}))
        wait_for(lambda: cloud.storage.objects("raw-lake/raw/"), "the first object is there", 30)
        cloud.storage.kill()
        cloud.pubsub.publish((b'{"message":"while it is away"}', {}))
        wait_for(lambda: "sawlog_spool_objects 1" in worker.get("/metrics")[1].decode(), "it waits on the disk", 60)
        cloud.storage.start()
        wait_for(lambda: len(cloud.storage.objects("raw-lake/raw/")) == 2, "it is brought over", 60)
    finally:
        worker.stop()


def test_entries_of_cloud_logging_come_in_and_the_own_log_goes_out(data: Path, tmp_path: Path):
    double = LoggingDouble()
    config = tmp_path / "logging.toml"
    config.write_text(
        f'[gcp]\nproject = "{PROJECT}"\nworker = "w1"\n[[gcp.logging]]\nendpoint = "{double.url}"\n[gcp.log]\nendpoint = "{double.url}"\n'
    )
    worker = Server(data, "host-metrics.enabled=false", config=config).start()
    try:
        time.sleep(1)
        double.write("app", {"message": "from another program"}, severity="ERROR", labels={"team": "a"})
        wait_for(lambda: worker.value("SELECT count(*) FROM logs WHERE message = 'from another program'") == 1, "it is there", 60)
        assert worker.post("/v1/events", b'{"message": broken')[0] in (200, 400, 422)
        wait_for(lambda: double.entries(f'logName="projects/{PROJECT}/logs/sawlog"'), "the own log is there", 30)
        assert worker.value("SELECT count(*) FROM logs WHERE source = 'cloud-logging' AND message = 'ready'") == 0
        filtered = "SELECT coalesce(sum(filtered), 0) FROM sawlog_ledger WHERE source = 'cloud-logging'"
        wait_for(lambda: worker.value(filtered) > 0, "own entries are filtered", 30)
    finally:
        worker.stop()
        double.stop()


def test_what_is_written_while_the_past_is_loaded_is_not_missed(data: Path, tmp_path: Path):
    double = LoggingDouble()
    now = datetime.now(UTC)
    double.write("app", {"message": "of the past"}, timestamp=now - timedelta(hours=3))
    # The first list stands still: the back-fill's, or the tail's.
    double.fail("ListLogEntries", delay_ms=8_000)
    config = tmp_path / "logging.toml"
    config.write_text(
        f'[gcp]\nproject = "{PROJECT}"\n[[gcp.logging]]\nendpoint = "{double.url}"\ntail = true\n'
        f'backfill-from = "{now - timedelta(hours=4):%Y-%m-%dT%H:%M:%SZ}"\n'
        f'backfill-until = "{now - timedelta(hours=2):%Y-%m-%dT%H:%M:%SZ}"\n'
    )
    worker = Server(data, "host-metrics.enabled=false", config=config).start()
    count = "SELECT count(*) FROM logs WHERE source = 'cloud-logging' AND message = '{}'"
    try:
        wait_for(lambda: double.calls("TailLogEntries") == 1, "the tail is open", 6)
        time.sleep(1)
        # Its time is not in the range, and no list of the tail's beginning asks for it.
        double.write("app", {"message": "meanwhile"}, timestamp=now - timedelta(minutes=30))
        wait_for(lambda: worker.value(count.format("meanwhile")) == 1, "it is there", 30)
        wait_for(lambda: worker.value(count.format("of the past")) == 1, "the past is loaded", 30)
    finally:
        worker.stop()
        double.stop()


def test_what_a_configuration_makes_is_shown_and_made(cloud: Cloud):
    config = str(cloud.config(cloud.pubsub.subscription))
    plan = sawlog("gcp", "plan", "--config", config)
    assert plan.returncode == 0, plan.stderr
    assert b"CREATE TABLE IF NOT EXISTS `sawlog-test.sawlog.logs_rows`" in plan.stdout and b"Bigtable: " in plan.stdout
    for _ in range(2):
        made = sawlog("gcp", "init", "--config", config)
        assert made.returncode == 0, made.stderr
    assert cloud.bigquery.rows("SELECT COUNT(*) FROM `{}.rollup_requests_1m` WHERE window_start > '2000-01-01'") == [(0,)]
    assert b"Bigtable: " not in sawlog("gcp", "plan", "--config", config).stdout, "nothing is left to make"
    assert sawlog("gcp", "init").returncode == 2


def test_the_page_of_a_worker_shows_what_comes_from_pubsub(data: Path, cloud: Cloud, tmp_path: Path):
    worker = Server(data, *SMALL[1:], "host-metrics.interval=1s", config=cloud.config(cloud.pubsub.subscription)).start()
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
    stream = sawlog("generate", "--no-pace", "--count", "6000", "--seed", "1", "--start", start).stdout
    messages = tmp_path / "messages.ndjson"
    messages.write_bytes(stream)
    try:
        sawlog("publish", str(messages), "--topic", cloud.pubsub.topic, "--endpoint", cloud.pubsub.url)
        wait_for(lambda: worker.value("SELECT count(*) FROM activity") > 100, "activity is there", 60)
        host = "SELECT count(DISTINCT metric_name) FROM metrics WHERE metric_name LIKE 'system.%.utilization'"
        wait_for(lambda: worker.value(host) == 3, "host metrics are there")
        look("live.spec.mjs", worker)
    finally:
        worker.stop()
