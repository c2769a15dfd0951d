"""A plain subscriber of Pub/Sub as one writes it with Google's Python clients: parses messages, keeps them as received in
Cloud Storage, appends rows to BigQuery, counts by minute and service in Bigtable, and acknowledges then.

For: what `sawlog serve` is compared with. It has no event log, no dedup, no dead letters, no windows by event time.

usage: subscriber.py SUBSCRIPTION COUNT PUBSUB STORAGE BIGQUERY-REST BIGQUERY-STORAGE (addresses; Bigtable's is in the environment)
"""

import json
import queue
import sys
import time
from collections import Counter
from datetime import datetime

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, bigtable, pubsub_v1, storage
from google.cloud.bigquery_storage_v1 import types
from google.cloud.bigquery_storage_v1.services.big_query_write import BigQueryWriteClient
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

PROJECT = "sawlog-test"
TEXTS = ("severity", "message", "service", "environment", "region", "host", "version", "insert_id", "trace_id", "user_id")
SCHEMA = pa.schema(
    [("timestamp", pa.timestamp("us", "UTC")), *((name, pa.string()) for name in TEXTS)]
    + [("http_status", pa.int64()), ("duration_ms", pa.float64()), ("labels", pa.string())]
)
BATCH = 10_000
BATCH_SECONDS = 1.0


class Sinks:
    def __init__(self, storage_address: str, rest: str, write: str):
        options = {"api_endpoint": f"http://{storage_address}"}
        client = storage.Client(project=PROJECT, credentials=AnonymousCredentials(), client_options=options)
        self.bucket = client.bucket("lake")
        options = {"api_endpoint": f"http://{rest}"}
        rows = bigquery.Client(project=PROJECT, credentials=AnonymousCredentials(), client_options=options)
        columns = ", ".join(f"{name} STRING" for name in (*TEXTS, "labels"))
        rows.query("CREATE SCHEMA IF NOT EXISTS plain").result()
        rows.query(
            f"CREATE TABLE plain.logs (timestamp TIMESTAMP, {columns}, http_status INT64, duration_ms FLOAT64) "
            "PARTITION BY DATE(timestamp) CLUSTER BY service"
        ).result()
        channel = grpc.insecure_channel(write, options=[("grpc.max_send_message_length", -1)])
        self.write = BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=channel))
        instance = bigtable.Client(project=PROJECT, credentials=AnonymousCredentials(), admin=True).instance("instance")
        self.counts = instance.table("plain")
        self.counts.create(column_families={"r": None})
        self.totals: Counter = Counter()

    def store(self, messages: list) -> None:
        events = [json.loads(message.data) for message in messages]
        raw = pa.table({"payload": [message.data for message in messages], "id": [message.message_id for message in messages]})
        parquet = pa.BufferOutputStream()
        pq.write_table(raw, parquet, compression="zstd")
        self.bucket.blob(f"plain/{time.time_ns()}.parquet").upload_from_string(parquet.getvalue().to_pybytes())
        self.append(events)
        touched = set()
        for event in events:
            key = (event["timestamp"][:16], event.get("service", ""))
            self.totals[(*key, "count")] += 1
            self.totals[(*key, "errors")] += event.get("severity") in ("ERROR", "FATAL")
            touched.add(key)
        rows = []
        for minute, service in touched:
            row = self.counts.direct_row(f"{service}#{minute}")
            for name in ("count", "errors"):
                row.set_cell("r", name, self.totals[(minute, service, name)])
            rows.append(row)
        self.counts.mutate_rows(rows)

    def append(self, events: list[dict]) -> None:
        columns = {name: [event.get(name) for event in events] for name in TEXTS}
        columns["timestamp"] = [datetime.fromisoformat(event["timestamp"]) for event in events]
        columns["http_status"] = [event.get("http", {}).get("status") for event in events]
        columns["duration_ms"] = [event.get("duration_ms") for event in events]
        columns["labels"] = [json.dumps(event.get("labels")) for event in events]
        batch = pa.record_batch([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)
        request = types.AppendRowsRequest(write_stream=f"projects/{PROJECT}/datasets/plain/tables/logs/streams/_default")
        request.arrow_rows.writer_schema.serialized_schema = SCHEMA.serialize().to_pybytes()
        request.arrow_rows.rows.serialized_record_batch = batch.serialize().to_pybytes()
        for answer in self.write.append_rows(iter([request])):
            if answer.error.code:
                sys.exit(f"BigQuery: {answer.error}")


def main() -> None:
    subscription, count, pubsub, storage_address, rest, write = sys.argv[1:]
    sinks = Sinks(storage_address, rest, write)
    channel = grpc.insecure_channel(pubsub, options=[("grpc.max_receive_message_length", -1)])
    subscriber = pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
    received: queue.Queue = queue.Queue()
    control = pubsub_v1.types.FlowControl(max_messages=40_000, max_bytes=64 << 20)
    pulling = subscriber.subscribe(subscription, callback=received.put, flow_control=control)
    left = int(count)
    while left > 0:
        batch, deadline = [received.get(timeout=60)], time.monotonic() + BATCH_SECONDS
        while len(batch) < BATCH and (wait := deadline - time.monotonic()) > 0:
            try:
                batch.append(received.get(timeout=wait))
            except queue.Empty:
                break
        sinks.store(batch)
        for message in batch:
            message.ack()
        left -= len(batch)
    pulling.cancel()
    pulling.result(timeout=60)


if __name__ == "__main__":
    main()
