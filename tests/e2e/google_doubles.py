"""Doubles of Google's services (tests/doubles), each a process of its own on a port of this machine."""

import json
import os
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import grpc
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, bigtable, pubsub_v1, storage
from google.cloud import logging as cloud_logging
from google.cloud.bigtable.row_filters import FamilyNameRegexFilter
from google.cloud.logging_v2._gapic import _LoggingAPI
from google.cloud.logging_v2.entries import LogEntry
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
from google.cloud.logging_v2.services.logging_service_v2.transports import LoggingServiceV2GrpcTransport
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from conftest import binary, missing, wait_for

PROJECT = "sawlog-test"

# An emulator's variable would make Google's clients ignore the transport that they are given.
for name in ("PUBSUB_EMULATOR_HOST", "BIGTABLE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
    os.environ.pop(name, None)


class Double:
    """The double of a service, at an address that it keeps over restarts."""

    def __init__(self, service: str, *arguments: str):
        # Beside what cargo builds, where `make test` puts them.
        self.program = Path(binary()).parents[1] / "doubles" / service
        if not self.program.exists():
            missing(f"{self.program} is missing: `make test` builds it")
        self.arguments = arguments
        self.address = "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        command = [str(self.program), "-listen", self.address, *self.arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        assert self.address, f"{command} did not start"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    # Where permissions are taken away: a path at an address, of all but a few.
    denied_at = "/_denied"

    def ask(self, method: str, path: str, wish, address: str | None = None) -> bytes:
        """What tests want of a double and no client of Google's can."""
        body = b"" if wish is None else json.dumps(wish).encode()
        with urlopen(Request(f"http://{address or self.address}{path}", body, method=method), timeout=10) as answer:
            return answer.read()

    def fail(self, call: str, **fault) -> None:
        """Makes calls of Pub/Sub or Cloud Logging go wrong: tests/doubles/internal/faults has the fields."""
        self.ask("POST", "/_faults", {"call": call, **fault})

    def deny(self, *permissions: str) -> None:
        """Takes these permissions away from whoever asks, and gives all others back."""
        self.ask("PUT", self.denied_at, permissions)


class PubsubDouble(Double):
    """The double of Pub/Sub with a topic and a subscription, and Google's clients of it."""

    topic = f"projects/{PROJECT}/topics/orders"
    subscription = f"projects/{PROJECT}/subscriptions/orders"

    def __init__(self):
        super().__init__("pubsub")
        self.channel = grpc.insecure_channel(self.address, options=[("grpc.max_receive_message_length", -1)])
        self.publisher = pubsub_v1.PublisherClient(transport=PublisherGrpcTransport(channel=self.channel))
        self.subscriber = pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=self.channel))
        self.create()

    def create(self) -> None:
        """Makes topic and subscription, which are in memory and go with the process."""
        self.publisher.create_topic(name=self.topic)
        self.subscriber.create_subscription(name=self.subscription, topic=self.topic, ack_deadline_seconds=10)

    def subscribe(self, name: str, **settings) -> str:
        """Another subscription of the topic, with all messages from now on."""
        path = f"projects/{PROJECT}/subscriptions/{name}"
        request = {"name": path, "topic": self.topic, "ack_deadline_seconds": 10, **settings}
        self.subscriber.create_subscription(request=request)
        return path

    def push_to(self, endpoint: str, name: str, account: str, **settings) -> str:
        """A subscription that pushes all messages from now on, with tokens of an account."""
        path = f"projects/{PROJECT}/subscriptions/{name}"
        oidc = {"service_account_email": account, "audience": endpoint}
        push = {"push_endpoint": endpoint, "oidc_token": oidc}
        self.subscriber.create_subscription(
            request={"name": path, "topic": self.topic, "ack_deadline_seconds": 10, "push_config": push, **settings}
        )
        return path

    def token(self, account: str, audience: str) -> str:
        """A token as a push carries it."""
        query = urlencode({"email": account, "audience": audience})
        with urlopen(f"{self.url}/token?{query}", timeout=10) as answer:
            return json.load(answer)["token"]

    def rotate_keys(self) -> None:
        """From now on tokens are signed with another key, and the old one is withdrawn."""
        for method in ("POST", "DELETE"):
            urlopen(Request(f"{self.url}/certs", method=method), timeout=10).close()

    def publish(self, *messages: tuple[bytes, dict[str, str]]) -> list[str]:
        futures = [self.publisher.publish(self.topic, data, **attributes) for data, attributes in messages]
        return [future.result(timeout=30) for future in futures]

    def left(self) -> int:
        """Messages that nobody has acknowledged, as far as none is out."""
        return len(self.subscriber.pull(subscription=self.subscription, max_messages=1_000).received_messages)

    def stop(self) -> None:
        self.channel.close()
        self.kill()


class StorageDouble(Double):
    """The double of Cloud Storage with a bucket, and Google's client of it. Objects are files: `root`/`bucket`/key."""

    bucket = "lake"
    denied_at = "/control/denied"

    def __init__(self, root: Path):
        super().__init__("storage", "-root", str(root), "-bucket", self.bucket)
        options = {"api_endpoint": self.url}
        self.client = storage.Client(project=PROJECT, credentials=AnonymousCredentials(), client_options=options)

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Contents by name, as Google's client reads them; it compares checksums."""
        return {blob.name: blob.download_as_bytes() for blob in self.client.list_blobs(self.bucket, prefix=prefix)}

    def fault(self, **fault) -> None:
        """Lets calls fail; internal/storage/faults.go of the doubles says how."""
        self.ask("POST", "/control/faults", fault)

    def heal(self) -> None:
        self.ask("DELETE", "/control/faults", None)

    def stop(self) -> None:
        self.client.close()
        self.kill()


class LoggingDouble(Double):
    """The double of Cloud Logging and Cloud Monitoring, and Google's client of the former."""

    def __init__(self):
        super().__init__("logging")
        self.channel = grpc.insecure_channel(self.address)
        self.client = cloud_logging.Client(project=PROJECT, credentials=AnonymousCredentials())
        # The client has no option for a channel without TLS.
        transport = LoggingServiceV2GrpcTransport(channel=self.channel)
        self.client._logging_api = _LoggingAPI(LoggingServiceV2Client(transport=transport), self.client)

    def entries(self, filter: str = "") -> list[LogEntry]:
        """The entries that pass a filter of the last day, oldest first."""
        return list(self.client.list_entries(filter_=filter or None, order_by=cloud_logging.ASCENDING, page_size=1_000))

    def write(self, log: str, *payloads: dict, **fields) -> None:
        """Writes entries of a log as another program would."""
        batch = self.client.logger(log).batch()
        for payload in payloads:
            batch.log_struct(payload, **fields)
        batch.commit()

    def calls(self, call: str) -> int:
        """How often a method was called."""
        return json.loads(self.ask("GET", "/_faults", None)).get(call, 0)

    def stop(self) -> None:
        self.channel.close()
        self.kill()


class BigtableDouble(Double):
    """The double of Bigtable, and Google's client of it. Its tables are in memory and go with the process."""

    instance = "instance"
    table = "sawlog"

    def __init__(self, *arguments: str):
        super().__init__("bigtable", *arguments)

    def start(self) -> None:
        super().start()
        self.control = self.process.stdout.readline().strip()
        # Google's client of the data has no other way to an address without TLS, and sends metrics to the Internet without it.
        os.environ["BIGTABLE_EMULATOR_HOST"] = self.address
        self.client = bigtable.Client(project=PROJECT, credentials=AnonymousCredentials())

    def kill(self) -> None:
        os.environ.pop("BIGTABLE_EMULATOR_HOST", None)
        super().kill()

    def ask(self, method: str, path: str, wish, address: str | None = None) -> bytes:
        return super().ask(method, path, wish, address or self.control)

    def cells(self, family: str) -> dict[bytes, bytes]:
        """Served cells of a family by row key, as docs/formats/bigtable.md says that they are read."""
        table = self.client.instance(self.instance).table(self.table)
        progress = table.read_row(b"!position")
        position = int.from_bytes(progress.cells["meta"][b"position"][0].value) if progress else 0
        found = {}
        for row in table.read_rows(filter_=FamilyNameRegexFilter(family)):
            columns = row.cells[family]
            written = {cell.timestamp_micros: int.from_bytes(cell.value) for cell in columns.get(b"p", [])}
            deleted = {cell.timestamp_micros for cell in columns.get(b"d", [])}
            counting = [cell for cell in columns[b"v"] if written.get(cell.timestamp_micros, 0) <= position]
            if counting and counting[0].timestamp_micros not in deleted:  # newest first
                found[row.row_key] = counting[0].value
        return found


class BigQueryDouble(Double):
    """The double of BigQuery, and Google's client of it. Its tables are in memory and go with the process. It loads objects
    from the folder of a double of Cloud Storage."""

    dataset = "sawlog"

    def __init__(self, *arguments: str):
        super().__init__("bigquery", *arguments)

    def start(self) -> None:
        super().start()
        self.storage = self.process.stdout.readline().strip()
        for address in (self.address, self.storage):
            wait_for(lambda: is_open(address), "the double of BigQuery listens", 60)
        options = {"api_endpoint": self.url}
        self.client = bigquery.Client(project=PROJECT, credentials=AnonymousCredentials(), client_options=options)

    def rows(self, sql: str) -> list[tuple]:
        """Rows of a query, in which `{}` is the dataset. Not while a flush is under way: the double would stand still."""
        return [tuple(row) for row in self.client.query(sql.replace("{}", f"{PROJECT}.{self.dataset}")).result()]

    def stop(self) -> None:
        self.client.close()
        self.kill()


def is_open(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
