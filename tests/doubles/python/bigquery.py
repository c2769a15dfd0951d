"""The double of BigQuery: bqemulator, made to start without the Internet and to take what Google's Rust client sends.

Prints the address of its REST API and of its Storage API on two lines. `-listen HOST:PORT` and `-storage HOST:PORT` set
them, `-root FOLDER` is where `gs://bucket/key` is read as a file, `-data FOLDER` keeps tables over restarts. With
`-with-input` it ends when its standard input does, and so with the process that started it.
"""

import argparse
import logging
import os
import socket
import sys
import threading

from bqemulator.cli import main
from bqemulator.grpc_api import write_servicer
from bqemulator.storage import engine
from google.cloud.bigquery_storage_v1 import types


def start_without_downloads() -> None:
    """Leaves out an extension for geography, which is downloaded at each start."""
    for found in list(vars(engine).values()):
        if isinstance(found, type) and hasattr(found, "_load_spatial"):
            found._load_spatial = lambda self: None


def accept_streams_named_once() -> None:
    """Lets requests after a connection's first leave the stream out, as the service does."""
    for found in list(vars(write_servicer).values()):
        if isinstance(found, type) and "_handle_append_rows" in found.__dict__:
            found._handle_append_rows = with_stream_names(found._handle_append_rows)


def with_stream_names(handle):
    def handle_named(self, requests, context):
        return handle(self, named(requests), context)

    return handle_named


def named(requests):
    stream = ""
    for serialized in requests:
        request = types.AppendRowsRequest.deserialize(serialized)
        if not request.write_stream:
            request.write_stream = stream
            serialized = types.AppendRowsRequest.serialize(request)
        stream = request.write_stream
        yield serialized


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def address(text: str) -> tuple[str, int]:
    host, port = text.rsplit(":", 1)
    return host, int(port) or free_port(host)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("-listen", type=address, default="127.0.0.1:0")
    parser.add_argument("-storage", type=address, default="127.0.0.1:0")
    parser.add_argument("-root")
    parser.add_argument("-data")
    parser.add_argument("-with-input", action="store_true")
    options = parser.parse_args()
    (host, port), (storage_host, storage_port) = options.listen, options.storage
    if options.with_input:
        threading.Thread(target=end_with_input, daemon=True).start()
    # It warns of each clause that its DuckDB has no use for.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    start_without_downloads()
    accept_streams_named_once()
    if options.root:
        os.environ["BQEMU_GCS_LOCAL_ROOT"] = options.root
    kept = ["--persistent", "--data-dir", options.data] if options.data else ["--ephemeral"]
    print(f"{host}:{port}\n{storage_host}:{storage_port}", flush=True)
    os.dup2(2, 1)
    sys.exit(main([
        "start", "--rest-host", host, "--rest-port", str(port), "--grpc-host", storage_host, "--grpc-port", str(storage_port),
        "--project", "sawlog-test", "--log-level", "warning", *kept,
    ]))
