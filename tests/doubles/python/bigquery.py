"""The double of BigQuery: bqemulator, made to start without the Internet and to take what Google's Rust client sends.

Prints the address of its REST API and of its Storage API on two lines. `-listen HOST:PORT` and `-storage HOST:PORT` set
them, `-root FOLDER` is where `gs://bucket/key` is read as a file, `-data FOLDER` keeps tables over restarts,
`-faults FILE` has a fault on each line (`next_fault`). A test PUTs a list of permissions to `/_denied` to take them away, and a list of
statuses to `/_statuses`, with which the next queries are answered. With `-with-input` it ends when its standard input does, and so with
the process that started it.
"""

import argparse
import asyncio
import json
import logging
import os
import secrets
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pyarrow.ipc
import sqlglot
import structlog
from bqemulator.cli import main
from bqemulator.domain.errors import AlreadyExistsError, DomainError
from bqemulator.grpc_api import write_servicer
from bqemulator.storage import engine
from google.cloud.bigquery_storage_v1 import types
from google.rpc import status_pb2
from starlette.responses import JSONResponse


def serve_many_streams() -> None:
    """Gives the Storage API a thread for each stream that is open: its default of a few would keep the next one waiting."""
    make = grpc.aio.server
    grpc.aio.server = lambda *given, **options: make(*given, **{"migration_thread_pool": ThreadPoolExecutor(256), **options})


def start_without_downloads() -> None:
    """Leaves out an extension for geography, which is downloaded at each start."""
    for found in list(vars(engine).values()):
        if isinstance(found, type) and hasattr(found, "_load_spatial"):
            found._load_spatial = lambda self: None


def answer_as_the_service(faults: str | None) -> None:
    """Takes each request of a connection as the service does, or fails as `next_fault` says."""
    for found in list(vars(write_servicer).values()):
        if isinstance(found, type) and "_handle_append_rows" in found.__dict__:
            found._handle_append_rows = one_by_one(found._handle_append_rows, faults)


def one_by_one(handle, faults: str | None):
    def handle_one_by_one(self, requests, context):
        first = None
        for serialized in requests:
            request = types.AppendRowsRequest.deserialize(serialized)
            # The service remembers stream and schema of a connection.
            first = first or request
            request.write_stream = request.write_stream or first.write_stream
            request.arrow_rows.writer_schema = first.arrow_rows.writer_schema
            fault = next_fault(faults)
            if fault in REFUSALS:
                context.abort(REFUSALS[fault], "a fault that the test asked for")
            if fault == "hang":
                while context.is_active():
                    time.sleep(0.05)
                return
            if refused := refused_rows(request):
                yield types.AppendRowsResponse.serialize(refused)
                continue
            for answer in handle(self, iter([types.AppendRowsRequest.serialize(request)]), context):
                if fault == "lost":
                    context.abort(grpc.StatusCode.UNAVAILABLE, "the answer is lost, as the test asked for")
                yield answer

    return handle_one_by_one


def refused_rows(request) -> types.AppendRowsResponse | None:
    """Refuses the events whose `source` is `refuse`, and with them all of the request, as the service does."""
    rows = request.arrow_rows
    with pyarrow.ipc.open_stream(bytes(rows.writer_schema.serialized_schema) + bytes(rows.rows.serialized_record_batch)) as found:
        table = found.read_all()
    sources = table.column("source").to_pylist() if {"source", "event_time"} <= set(table.column_names) else []
    errors = [
        types.RowError(index=index, code=types.RowError.RowErrorCode.FIELDS_ERROR, message="a value is out of range")
        for index, source in enumerate(sources)
        if source == "refuse"
    ]
    status = status_pb2.Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message="rows have errors")
    return types.AppendRowsResponse(row_errors=errors, error=status) if errors else None


def answer_as_tests_want() -> None:
    """Adds what the emulator lacks: permissions that a test may take away, told of tables and needed by dry runs; failures."""
    from bqemulator import server  # which writes to standard output while it is imported

    make = server.create_app
    denied: set[str] = set()
    statuses: list[int] = []

    def with_permissions(context):
        app = make(context)

        @app.middleware("http")
        async def answer(request, call_next):
            path = request.scope["path"]
            if path == "/_denied":
                denied.clear()
                denied.update(json.loads(await request.body()))
                return JSONResponse({})
            if path == "/_statuses":
                statuses[:] = json.loads(await request.body())
                return JSONResponse({})
            if statuses and request.method == "POST" and path.endswith("/queries"):
                status = statuses.pop(0)
                return JSONResponse({"error": {"code": status, "message": "a fault that the test asked for"}}, status)
            if path.endswith(":testIamPermissions") and "/tables/" in path:
                asked = json.loads(await request.body())["permissions"]
                request.scope.update(method="GET", path=path.removesuffix(":testIamPermissions"))
                found = await call_next(request)
                held = [one for one in asked if one not in denied]
                return JSONResponse({"permissions": held}) if found.status_code == 200 else found
            for permission in needed_by(request.method, path, await request.body()):
                if permission in denied:
                    message = f"Access Denied: the user does not have {permission}"
                    return JSONResponse({"error": {"code": 403, "message": message, "status": "PERMISSION_DENIED"}}, 403)
            return await call_next(request)

        return app

    server.create_app = with_permissions


def needed_by(method: str, path: str, body: bytes) -> list[str]:
    """The permissions that a call needs, as far as `sawlog gcp check` makes it."""
    if method == "GET" and path.split("/")[-2:-1] == ["datasets"]:
        return ["bigquery.datasets.get"]
    if method != "POST" or not path.endswith("/queries"):
        return []
    query = json.loads(body)
    makes = {"CREATE SCHEMA": "bigquery.datasets.create", "CREATE TABLE": "bigquery.tables.create"}
    of_statement = [permission for words, permission in makes.items() if query["query"].startswith(words)]
    return ["bigquery.jobs.create", *of_statement] if query.get("dryRun") else []


FAULTS = threading.Lock()


REFUSALS = {
    "unavailable": grpc.StatusCode.UNAVAILABLE,
    "exhausted": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "internal": grpc.StatusCode.INTERNAL,
}


def next_fault(path: str | None) -> str:
    """Takes the first line of a file off it: one of `REFUSALS` or `hang` before anything is done, `lost` after it."""
    if not path or not os.path.exists(path):
        return ""
    with FAULTS, open(path, "r+") as file:
        first, *rest = file.read().split("\n")
        file.seek(0)
        file.truncate()
        file.write("\n".join(rest))
    return first


# What one row of a table counts as, bytes.
ROW_BYTES = 1_000


def count_bytes() -> None:
    """Lets queries read `ROW_BYTES` for each row of the tables that they name, as the service counts bytes: in dry runs,
    against `maximumBytesBilled`, and not at all for an answer that was given before over as many rows."""
    # Its import writes to standard output.
    from bqemulator.api.routes import jobs

    handle, given_before = jobs._handle_query_job, set()

    async def handle_counted(project_id, job_id, config, *, dry_run, ctx, caller, now):
        query = config["query"]
        read = await bytes_read(jobs, project_id, query, ctx, caller)
        limit = int(query.get("maximumBytesBilled") or 0)
        if limit and read > limit and not dry_run:
            problem = f"Query exceeded limit for bytes billed: {limit}. {read} or higher required."
            error = {"reason": "bytesBilledLimitExceeded", "message": problem}
            return jobs._failed_job_meta(project_id, job_id, "QUERY", config, error, now)
        answer = await handle(project_id, job_id, config, dry_run=dry_run, ctx=ctx, caller=caller, now=now)
        statistics = answer["statistics"] if isinstance(answer, dict) else answer.statistics
        is_hit = query.get("useQueryCache", True) and (query["query"], read) in given_before
        if not dry_run:
            given_before.add((query["query"], read))
        processed = "0" if is_hit else str(read)
        statistics["query"].update(totalBytesProcessed=processed, totalBytesBilled=processed, cacheHit=is_hit)
        return answer

    jobs._handle_query_job = handle_counted


async def bytes_read(jobs, project_id: str, query: dict, ctx, caller) -> int:
    try:
        sql = jobs._apply_default_dataset(query["query"], query, request_project_id=project_id)
        tables = {table.sql("bigquery") for table in sqlglot.parse_one(sql, read="bigquery").find_all(sqlglot.exp.Table) if table.db}
    except sqlglot.errors.SqlglotError:
        return 0  # the query fails by itself
    count = 0
    for table in tables:
        name = f"count_{secrets.token_hex(8)}"
        try:
            await jobs.execute_query_job(project_id, name, f"SELECT COUNT(*) AS n FROM {table}", None, ctx, caller=caller)
            count += jobs.JOB_RESULTS.pop(name).column(0)[0].as_py()
        except DomainError:
            pass  # as above
    return count * ROW_BYTES


def refuse_repeated_jobs() -> None:
    """Begins one job of an id, as the service does, and answers 409 to others once it can be asked for."""
    from bqemulator.api.routes import jobs

    begun: dict[str, asyncio.Event] = {}

    def once(handle):
        async def handle_once(project_id, job_id, config, *given, **options):
            if job_id in begun:
                await begun[job_id].wait()
                raise AlreadyExistsError(f"Already Exists: Job {project_id}:US.{job_id}")
            ended = begun[job_id] = asyncio.Event()
            try:
                return await handle(project_id, job_id, config, *given, **options)
            finally:
                ended.set()

        return handle_once

    jobs._handle_query_job = once(jobs._handle_query_job)
    jobs._handle_load_job_with_async_envelope = once(jobs._handle_load_job_with_async_envelope)


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
    parser.add_argument("-faults")
    parser.add_argument("-with-input", action="store_true")
    options = parser.parse_args()
    (host, port), (storage_host, storage_port) = options.listen, options.storage
    if options.with_input:
        threading.Thread(target=end_with_input, daemon=True).start()
    # It warns of each clause that its DuckDB has no use for, and of what it cannot download.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    start_without_downloads()
    serve_many_streams()
    answer_as_the_service(options.faults)
    if options.root:
        os.environ["BQEMU_GCS_LOCAL_ROOT"] = options.root
    kept = ["--persistent", "--data-dir", options.data] if options.data else ["--ephemeral"]
    print(f"{host}:{port}\n{storage_host}:{storage_port}", flush=True)
    os.dup2(2, 1)
    answer_as_tests_want()
    count_bytes()
    refuse_repeated_jobs()
    sys.exit(main([
        "start", "--rest-host", host, "--rest-port", str(port), "--grpc-host", storage_host, "--grpc-port", str(storage_port),
        "--project", "sawlog-test", "--log-level", "error", *kept,
    ]))
