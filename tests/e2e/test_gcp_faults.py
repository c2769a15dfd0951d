"""Services that fail while messages flow: nothing is lost, nothing is there twice, and the ledger closes.

Each test is one run of the real binary, during which one service fails in all ways; the others are fine. What a service has
outlives its failures, as it does at Google, so doubles that keep their state in memory fail by the link to them.
"""

import io
import json
import os
import threading
import time
from pathlib import Path

import pyarrow.parquet
import pytest

from conftest import Server, sawlog, wait_for
from google_doubles import PROJECT, BigQueryDouble, BigtableDouble, PubsubDouble, StorageDouble
from link import Link
from test_gcp import SMALL

LONG = bool(os.environ.get("SAWLOG_LONG"))
# How often each fault is met.
ROUNDS = 5 if LONG else 1
SETTINGS = (*SMALL, "pipeline.flush-interval=300ms")
COUNTS = ("received", "stored", "duplicate", "filtered", "dead_lettered", "rejected", "in_flight")


class Doubles:
    """All services, each behind a link where its state is in memory."""

    def __init__(self, folder: Path):
        self.faults = folder / "appends"
        self.pubsub, self.storage = PubsubDouble(), StorageDouble(folder / "buckets")
        self.bigquery, self.bigtable = BigQueryDouble("-faults", str(self.faults)), BigtableDouble()
        made = folder / "init.toml"
        made.write_text(
            f'[gcp]\nproject = "{PROJECT}"\n[gcp.bigquery]\ndataset = "{self.bigquery.dataset}"\n'
            f'endpoint = "{self.bigquery.url}"\nstorage-endpoint = "http://{self.bigquery.storage}"\n'
        )
        init = sawlog("gcp", "init", "--config", str(made))
        assert init.returncode == 0, init.stderr
        self.links = {
            "pubsub": Link(self.pubsub.address), "bigtable": Link(self.bigtable.address),
            "query": Link(self.bigquery.address), "append": Link(self.bigquery.storage),
        }

    def stop(self) -> None:
        for link in self.links.values():
            link.stop()
        for double in (self.pubsub, self.storage, self.bigquery):
            double.stop()
        self.bigtable.kill()


@pytest.fixture(scope="module")
def doubles(tmp_path_factory):
    running = Doubles(tmp_path_factory.mktemp("doubles"))
    yield running
    running.stop()


class Run:
    """A worker with a name, a topic and a folder of its own, and messages that flow to it. Workers share the dataset."""

    def __init__(self, doubles: Doubles, folder: Path, name: str, answer_max: str):
        self.doubles, self.folder, self.name = doubles, folder, name
        self.topic = f"projects/{PROJECT}/topics/{name}"
        self.subscription = f"projects/{PROJECT}/subscriptions/{name}"
        doubles.pubsub.publisher.create_topic(name=self.topic)
        doubles.pubsub.subscriber.create_subscription(name=self.subscription, topic=self.topic, ack_deadline_seconds=10)
        links = doubles.links
        self.config = folder / "faults.toml"
        self.config.write_text(
            f'[[pubsub]]\nsubscription = "{self.subscription}"\nsource = "orders"\nendpoint = "{links["pubsub"].url}"\n'
            f'[gcp]\nproject = "{PROJECT}"\nworker = "{name}"\nanswer-max = "{answer_max}"\n'
            f'[gcp.storage]\nbucket = "{doubles.storage.bucket}"\nprefix = "{name}"\nendpoint = "{doubles.storage.url}"\n'
            f'[gcp.bigquery]\ndataset = "{doubles.bigquery.dataset}"\nendpoint = "{links["query"].url}"\nstorage-endpoint = "{links["append"].url}"\n'
            f'[gcp.bigtable]\ninstance = "{doubles.bigtable.instance}"\ntable = "{name}"\nendpoint = "{links["bigtable"].url}"\n'
        )
        self.worker = Server(folder / "data", *SETTINGS, config=self.config)
        self.sent, self.is_flowing = 0, True
        self.flow = threading.Thread(target=self.send)

    def __enter__(self) -> "Run":
        self.worker.start()
        self.flow.start()
        return self

    def __exit__(self, *_) -> None:
        self.is_flowing = False
        self.flow.join()
        self.worker.stop()

    def send(self) -> None:
        """Ten messages at a time: two with one id, one that is broken, and seven others."""
        publisher = self.doubles.pubsub.publisher
        while self.is_flowing:
            events = [
                {"timestamp": f"{1_795_600_000 + self.sent}", "message": f"order {self.sent * 10 + place}", "service": "shop", "http_status": 200}
                for place in range(8)
            ]
            bodies = [json.dumps(event).encode() for event in events]
            twice = json.dumps({**events[0], "insert_id": f"id-{self.sent}"}).encode()
            bodies = [twice, twice, *bodies[1:], b'{"message": "broken']
            for future in [publisher.publish(self.topic, body) for body in bodies]:
                future.result(timeout=30)
            self.sent += 1
            time.sleep(0.05)

    def stored(self) -> int:
        return self.worker.value("SELECT count(*) FROM logs")

    def goes_on(self, what: str) -> None:
        """After a fault: what was sent until now is stored and out of the worker's memory."""
        expected = self.sent * 8
        wait_for(lambda: self.stored() >= expected, f"messages are stored after {what}", 40)

    def ledger(self) -> dict[str, int]:
        sums = ", ".join(f"coalesce(sum({name}), 0)" for name in COUNTS)
        return dict(zip(COUNTS, self.worker.sql(f"SELECT {sums} FROM sawlog_ledger WHERE source = 'orders'")[0]))

    def calls(self, service: str) -> dict[tuple[str, str], int]:
        """Counts of calls by name and outcome, from the worker's own metrics."""
        found = {}
        for line in self.worker.get("/metrics")[1].decode().splitlines():
            if line.startswith("sawlog_cloud_calls_total{"):
                labels = dict(part.split("=", 1) for part in line[line.index("{") + 1 : line.index("}")].replace('"', "").split(","))
                if labels["service"] == service:
                    found[labels["call"], labels["outcome"]] = int(line.rsplit(" ", 1)[1])
        return found

    def check(self) -> None:
        """Ends the flow and the worker; then all services agree with what was sent."""
        self.is_flowing = False
        self.flow.join()
        expected = self.sent * 8
        wait_for(lambda: self.stored() == expected and self.ledger()["in_flight"] == 0, f"{expected} events are stored", 60)
        for metric in ("sawlog_hot_bytes 0", "sawlog_spool_objects 0"):
            wait_for(lambda: metric in self.worker.get("/metrics")[1].decode(), f"everything is flushed: {metric}", 60)
        ledger = self.ledger()
        assert ledger["received"] == sum(ledger[name] for name in COUNTS[1:]), ledger
        assert ledger["stored"] == expected and ledger["dead_lettered"] >= self.sent and ledger["duplicate"] >= self.sent, ledger
        self.worker.stop()
        assert "panicked" not in self.worker.log()
        assert not self.doubles.pubsub.subscriber.pull(subscription=self.subscription, max_messages=10).received_messages
        rows = self.doubles.bigquery.rows(
            "SELECT COUNT(*), COUNT(DISTINCT message) FROM `{}.logs_rows` WHERE event_time > '2000-01-01' "
            f"AND flush_writer = '{self.name}'"
        )
        assert rows == [(expected, expected)]
        self.check_lake(ledger["received"])
        self.check_cells(expected)

    def check_lake(self, received: int) -> None:
        places = []
        for body in self.doubles.storage.objects(f"{self.name}/raw/").values():
            table = pyarrow.parquet.read_table(io.BytesIO(body), columns=["batch_id", "record_index"])
            places += zip(table.column("batch_id").to_pylist(), table.column("record_index").to_pylist())
        assert len(places) == len(set(places)) == received

    def check_cells(self, expected: int) -> None:
        """A worker with a new disk has no counts but those of Bigtable."""
        other = Server(self.folder / "new-disk", *SETTINGS, config=self.config).start()
        try:
            assert other.value("SELECT sum(request_count) FROM rollup_requests_1m WHERE service = 'shop'") == expected
        finally:
            other.stop()


def test_pubsub_fails_in_all_ways(doubles: Doubles, tmp_path: Path):
    link = doubles.links["pubsub"]
    with Run(doubles, tmp_path, "pubsub", "5s") as run:
        run.goes_on("the start")
        for _ in range(ROUNDS):
            link.down()
            time.sleep(0.5)
            link.up()
            run.goes_on("a restart of Pub/Sub")
            for status in ("RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE"):
                for call in ("StreamingPull", "Acknowledge", "ModifyAckDeadline"):
                    doubles.pubsub.fail(call, status=status, after=call == "StreamingPull", count=2)
            run.goes_on("errors of streams and acknowledgements")
            link.freeze(2)
            run.goes_on("a hang")
            link.cut(3)
            run.goes_on("answers that were cut off")
            link.mute(1)
            run.goes_on("acknowledgements without an answer")
            doubles.pubsub.ask("POST", "/_expire", None)
            run.goes_on("leases that ran out")
        run.worker.kill()
        doubles.pubsub.ask("POST", "/_expire", None)
        run.worker.start()
        run.goes_on("a kill of the worker")
        assert any(call == "StreamingPull" for call, _ in run.calls("pubsub")) or link.cuts == 0
        run.check()


def test_cloud_storage_fails_in_all_ways(doubles: Doubles, tmp_path: Path):
    storage = doubles.storage
    with Run(doubles, tmp_path, "storage", "1s") as run:
        run.goes_on("the start")
        for _ in range(ROUNDS):
            for status in (429, 500, 503):
                storage.fault(Kind="put", Action="status", Status=status, Count=2)
                storage.fault(Kind="put", Action="status", Status=status, When="after")
            run.goes_on("refusals before and after a put was done")
            for fault in ({"Action": "reset"}, {"Action": "reset", "When": "after"}, {"Action": "corrupt"}, {"Action": "truncate"}):
                storage.fault(Kind="put", **fault)
            run.goes_on("resets before and after a put was done")
            storage.fault(Kind="put", Action="hang")
            storage.fault(Kind="put", Action="hang", When="after")
            run.goes_on("puts without an answer")
            storage.kill()
            time.sleep(1)
            storage.start()
            run.goes_on("a restart of Cloud Storage")
        run.worker.kill()
        run.worker.start()
        wait_for(lambda: ("InsertObject", "OK") in run.calls("storage"), "the calls are counted")
        run.check()


def test_bigtable_fails_in_all_ways(doubles: Doubles, tmp_path: Path):
    link = doubles.links["bigtable"]
    with Run(doubles, tmp_path, "bigtable", "1s") as run:
        run.goes_on("the start")

        def fail(method: str, when: str, code: str = "UNAVAILABLE", times: int = 2) -> None:
            met = run_calls(doubles, method)
            doubles.bigtable.ask("POST", "/faults", {"method": method, "when": when, "code": code, "times": times})
            wait_for(lambda: run_calls(doubles, method) > met + times, f"{method} is called after {when}", 40)

        for _ in range(ROUNDS):
            for code in ("RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE"):
                fail("MutateRows", "before", code)
            for when in ("after", "partly", "reset"):
                fail("MutateRows", when)
                fail("CheckAndMutateRow", "before" if when == "partly" else when)
            fail("MutateRows", "hang", times=1)
            fail("CheckAndMutateRow", "hang", times=1)
            run.goes_on("all failures of calls")
            link.cut(2)
            run.goes_on("answers that were cut off")
            link.mute(1.5)
            run.goes_on("writes without an answer")
            link.down()
            time.sleep(1)
            link.up()
            run.goes_on("a restart of Bigtable")
        wait_for(lambda: run.calls("bigtable").get(("MutateRows", "RESOURCE_EXHAUSTED"), 0) >= 2, "failures are counted")
        run.worker.kill()
        run.worker.start()
        run.goes_on("a kill of the worker")
        run.check()


def run_calls(doubles: Doubles, method: str) -> int:
    return json.loads(doubles.bigtable.ask("GET", "/calls", None)).get(method, 0)


def test_bigquery_fails_in_all_ways(doubles: Doubles, tmp_path: Path):
    query, append = doubles.links["query"], doubles.links["append"]
    doubles.bigquery.ask("PUT", "/_statuses", [429, 500, 503])
    with Run(doubles, tmp_path, "bigquery", "6s") as run:
        run.goes_on("the start")
        wait_for(lambda: run.calls("bigquery").get(("AppendRows", "OK")), "rows are appended", 60)
        refused = {outcome for call, outcome in run.calls("bigquery") if call == "Query"}
        assert {"RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE", "OK"} <= refused, refused

        def fail(*faults: str) -> None:
            doubles.faults.write_text("\n".join(faults))
            wait_for(lambda: not doubles.faults.read_text().strip(), f"{faults} are met", 60)

        for _ in range(ROUNDS):
            fail("unavailable", "exhausted", "internal", "lost", "unavailable", "lost")
            fail("hang")
            append.cut(2)
            time.sleep(1)
            append.mute(1)
            append.down()
            query.down()
            time.sleep(1)
            append.up()
            query.up()
        run.worker.kill()
        run.worker.start()
        run.goes_on("a kill of the worker")
        run.check()
