"""The transform of JSON messages by hand: what one writes in a DoFn without the core, for the columns that the bench's events fill.

For: what the core is compared with (beam.py), which checks that both give the same values. Not for: other formats, rules, or all
that the core knows to refuse.
"""

import hashlib
import ipaddress
import json
import re
from datetime import datetime, timezone
from functools import cache
from typing import Any

import pyarrow as pa

import sawlog

SEVERITIES = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "NOTICE": 10, "WARN": 13, "WARNING": 13, "ERROR": 17, "CRITICAL": 21, "FATAL": 21}
CLASSES = ((17, "error"), (13, "warning"), (9, "info"), (0, "debug"))
NAMES = {
    "version": "service_version",
    "severity": "severity_text",
    "type": "metric_type",
    "metric": "metric_name",
    "event": "event_name",
}
KNOWN = (
    "message",
    "service",
    "environment",
    "region",
    "host",
    "logger",
    "insert_id",
    "trace_id",
    "span_id",
    "user_id",
    "session_id",
    "unit",
    "value",
    "referrer",
    "device",
    "user_segment",
    "country",
    "user_agent",
)
PROPERTIES = {"country": "country", "segment": "user_segment"}
SEGMENT = re.compile(r"^(\d+|[0-9a-f]{8,}|[0-9a-f-]{36})$")
WORD = re.compile(r"[^\s\"'`()\[\]{}<>,;=|!?]*[\d/@\\][^\s\"'`()\[\]{}<>,;=|!?]*")
QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`")
NUMBER = re.compile(r"^[-+]?\d+(\.\d+)?[a-z%]*$")
FAMILIES = (
    ("okhttp", "OkHttp"),
    ("CFNetwork", "Other"),
    ("Edg/", "Edge"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)


def route_of(path: str) -> str:
    return "/".join("{id}" if SEGMENT.match(part) else part for part in path.split("/"))


@cache
def family_of(agent: str) -> str:
    return next((family for mark, family in FAMILIES if mark in agent), "Other")


def class_of(address: str) -> str:
    found = ipaddress.ip_address(address)
    return "loopback" if found.is_loopback else "private" if found.is_private else "public"


def masked(found: re.Match) -> str:
    word = found[0]
    return "<num>" if NUMBER.match(word) else "<path>" if "/" in word else "<addr>" if word.count(".") == 3 else "<id>"


def signature_of(message: str) -> str:
    template = WORD.sub(masked, QUOTED.sub("<str>", message[:512].split("\n", 1)[0].strip()))
    return hashlib.blake2b(template.encode(), digest_size=8).hexdigest()


def typed(value: Any) -> tuple[str | None, str]:
    if isinstance(value, bool):
        return ("true" if value else "false"), "b"
    if isinstance(value, int):
        return str(value), "i"
    if isinstance(value, float):
        return repr(value), "f"
    if isinstance(value, str):
        return value, "s"
    return json.dumps(value, separators=(",", ":")), "j"


def attribute(row: dict[str, Any], key: str, value: Any) -> None:
    if value is None:
        return
    text, letter = typed(value)
    row["attributes"].append((key, text))
    row["attribute_types"] += letter


def flatten(row: dict[str, Any], prefix: str, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, dict):
            flatten(row, f"{prefix}{name}.", value)
        elif prefix + name in PROPERTIES:
            row[PROPERTIES[prefix + name]] = value
        else:
            attribute(row, prefix + name, value)


def fill_http(row: dict[str, Any], http: dict[str, Any]) -> None:
    for key, value in http.items():
        if key == "path":
            path, _, query = value.partition("?")
            row |= {"http_path": path, "http_route": route_of(path)}
            row["query"] = query
        elif key == "client_ip":
            row |= {"client_address": value, "client_address_class": class_of(value)}
        elif key == "user_agent":
            row |= {"user_agent": value, "user_agent_family": family_of(value)}
        elif key in ("method", "status"):
            row[f"http_{key}"] = value
        elif key in ("request_bytes", "response_bytes", "referrer"):
            row[key] = value
        else:
            attribute(row, f"http.{key}", value)


def row_of(line: bytes, place: int, now: datetime) -> tuple[str, dict[str, Any]]:
    event = json.loads(line.decode())
    row: dict[str, Any] = {"attributes": [], "attribute_types": ""}
    for key, value in event.items():
        if key == "timestamp":
            row["event_time"] = datetime.fromisoformat(value)
        elif key == "http" and isinstance(value, dict):
            fill_http(row, value)
        elif key in ("labels", "properties") and isinstance(value, dict):
            flatten(row, "", value)
        elif key == "page":
            fill_http(row, {"path": value})
        elif key in ("client_ip", "user_agent"):
            fill_http(row, {key: value})
        elif isinstance(value, dict):
            flatten(row, f"{key}.", value)
        elif key == "duration_ms":
            row["duration_us"] = round(value * 1_000)
        elif key in NAMES or key in KNOWN:
            row[NAMES.get(key, key)] = value
        else:
            attribute(row, key, value)
    table = "metrics" if "metric_name" in row else "activity" if "event_name" in row and "message" not in row else "logs"
    if query := row.pop("query", None):
        attribute(row, "url.query", query)
    if table == "logs":
        number = SEVERITIES.get((row.get("severity_text") or "").upper())
        row |= {"severity_number": number, "severity_class": next(name for least, name in CLASSES if (number or 9) >= least)}
        row["signature"] = signature_of(row["message"]) if "message" in row else None
    elif table == "activity":
        row |= {"page_path": row.pop("http_path", None), "page_route": row.pop("http_route", None)}
    row.setdefault("event_time", now)
    own, message = row.get("insert_id"), str(place)
    row["insert_id"] = own or message
    if own:
        row |= {"resource": [("pubsub.message_id", message)], "resource_types": "s"}
    age = (now - row["event_time"]).total_seconds()
    if not -86_400 <= age <= 400 * 86_400:
        raise ValueError(f"timestamp: {row['event_time']} is out of range")
    return table, row


def transform(lines: list[bytes], first: int = 0) -> dict[str, pa.RecordBatch]:
    """Rows by table, of messages that are numbered from `first`."""
    now = datetime.now(timezone.utc)
    tables: dict[str, list[dict[str, Any]]] = {"logs": [], "metrics": [], "activity": [], "dead_letters": []}
    seen: set[bytes] = set()
    for place, line in enumerate(lines, first):
        facts = {
            "source": "bench",
            "format": "pubsub",
            "rules_version": 1,
            "batch_id": f"pubsub/{place}",
            "record_index": 0,
            "receive_time": now,
        }
        try:
            table, row = row_of(line, place, now)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            letter = {"stage": "parse", "reason": type(error).__name__, "error": str(error), "payload": line}
            tables["dead_letters"].append(letter | facts | {"event_date": now.date()})
            continue
        name = hashlib.blake2b(f"bench/{table}/{row['insert_id']}".encode(), digest_size=16).digest()
        if name in seen:
            continue
        seen.add(name)
        tables[table].append(row | facts | {"late": False, "event_date": row["event_time"].date()})
    return {table: pa.RecordBatch.from_pylist(rows, sawlog.schema(table)) for table, rows in tables.items()}
