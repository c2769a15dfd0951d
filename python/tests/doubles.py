"""Doubles of Google's services (tests/doubles), each a process of its own on a port of this machine."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.request import Request, urlopen

import grpc
from conftest import binary, served
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, bigtable, pubsub_v1
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

PROJECT = "sawlog-test"
INSTANCE, TABLE = "instance", "sawlog"


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


class Double:
    """A double and its addresses."""

    def __init__(self, service: str, *arguments: str, addresses: int = 1):
        program = Path(binary()).parents[1] / "doubles" / service
        assert program.exists(), f"{program} is missing: `make test` builds it"
        self.process = subprocess.Popen([str(program), "-listen", "127.0.0.1:0", *arguments], stdout=subprocess.PIPE, text=True)
        self.addresses = [self.process.stdout.readline().strip() for _ in range(addresses)]
        for address in self.addresses:
            wait_for(lambda address=address: is_open(address), f"{service} listens at {address}")

    @property
    def address(self) -> str:
        return self.addresses[0]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def is_open(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


class Cloud:
    """Pub/Sub with a topic and a subscription, a dataset and the served table, as `sawlog gcp init` makes them."""

    topic = f"projects/{PROJECT}/topics/orders"
    subscription = f"projects/{PROJECT}/subscriptions/orders"

    def __init__(self, folder: Path, *bigquery_flags: str):
        self.doubles = [Double("pubsub"), Double("bigquery", *bigquery_flags, addresses=2), Double("bigtable", addresses=2)]
        self.pubsub, self.bigquery, self.bigtable = self.doubles
        self.channel = grpc.insecure_channel(self.pubsub.address)
        self.publisher = pubsub_v1.PublisherClient(transport=PublisherGrpcTransport(channel=self.channel))
        self.subscriber = pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=self.channel))
        self.publisher.create_topic(name=self.topic)
        wish = {"name": self.subscription, "topic": self.topic, "ack_deadline_seconds": 60, "retain_acked_messages": True}
        self.subscriber.create_subscription(request=wish)
        self.config = folder / "gcp.toml"
        self.config.write_text(
            f'[gcp]\nproject = "{PROJECT}"\n[gcp.bigquery]\ndataset = "sawlog"\ndelivery = "at-least-once"\n'
            f'endpoint = "http://{self.bigquery.address}"\nstorage-endpoint = "http://{self.bigquery.addresses[1]}"\n'
            f'[gcp.bigtable]\ninstance = "{INSTANCE}"\nendpoint = "http://{self.bigtable.address}"\n'
        )
        subprocess.run([binary(), "gcp", "init", "--config", str(self.config)], check=True, stdout=subprocess.DEVNULL)

    def publish(self, lines: list[bytes]) -> None:
        for future in [self.publisher.publish(self.topic, line) for line in lines]:
            future.result(timeout=60)

    def flags(self) -> list[str]:
        """Options of the pipeline that name the doubles."""
        return [
            *("--subscription", self.subscription, "--project", PROJECT),
            *("--dataset", f"{PROJECT}.sawlog", "--bigquery-storage-endpoint", self.bigquery.addresses[1]),
            *("--bigtable", f"{PROJECT}/{INSTANCE}/{TABLE}", "--bigtable-endpoint", self.bigtable.address),
        ]

    def environment(self) -> dict[str, str]:
        """Of a process that takes messages from the double."""
        return {**os.environ, "PUBSUB_EMULATOR_HOST": self.pubsub.address}

    def rows(self, sql: str) -> list[tuple]:
        """Rows of a query of the dataset. Not while rows are appended: the double would stand still."""
        options = {"api_endpoint": f"http://{self.bigquery.address}"}
        with bigquery.Client(project=PROJECT, credentials=AnonymousCredentials(), client_options=options) as client:
            return [tuple(row) for row in client.query(sql.replace("{}", f"{PROJECT}.sawlog")).result(timeout=30)]

    def cells(self, family: str) -> dict[bytes, bytes]:
        """The newest value of each row of a family."""
        os.environ["BIGTABLE_EMULATOR_HOST"] = self.bigtable.address
        client = bigtable.Client(project=PROJECT, credentials=AnonymousCredentials())
        rows = client.instance(INSTANCE).table(TABLE).read_rows()
        return {row.row_key: row.cells[family][b"v"][0].value for row in rows if family in row.cells}

    def reader(self, folder: Path) -> AbstractContextManager[str]:
        """The binary before what the pipeline has written; its address."""
        config = folder.with_suffix(".toml")
        config.write_text(self.config.read_text().replace("[gcp]\n", '[gcp]\nrole = "reader"\n'))
        return served(config, folder)

    def fail_bigtable(self, **fault) -> None:
        """Lets calls of Bigtable fail; tests/doubles/internal/bigtable/faults.go has the fields."""
        request = Request(f"http://{self.bigtable.addresses[1]}/faults", json.dumps(fault).encode(), method="POST")
        urlopen(request, timeout=10).close()

    def stop(self) -> None:
        self.channel.close()
        for double in self.doubles:
            double.stop()
