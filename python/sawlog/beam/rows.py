"""What travels between the steps of the pipeline: Arrow batches, with coders that write no schema."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import apache_beam as beam
import pyarrow as pa

import sawlog

# Column of events between transform and dedup: the hash of source, table and insert id, null without one.
ID_COLUMN = "_id"
ID_FIELD = pa.field(ID_COLUMN, pa.binary(16))
EVENT_TABLES = ("logs", "metrics", "activity")


@dataclass(frozen=True)
class TableRows:
    """Rows of one table. Where equal rows may be right, as in the ledger, the token tells repeats from others."""

    table: str
    rows: pa.RecordBatch
    token: int = 0

    @property
    def has_ids(self) -> bool:
        """Whether the rows still have the column of their ids."""
        return self.rows.schema.names[-1] == ID_COLUMN


@cache
def schema_of(table: str, has_ids: bool = False) -> pa.Schema:
    """The schema of a table, with the column of ids or without it."""
    schema = sawlog.schema(table)
    return schema.append(ID_FIELD) if has_ids else schema


class TableRowsCoder(beam.coders.Coder):
    """Table, whether there are ids, token, and the batch without its schema, which both sides know by the table."""

    def encode(self, value: TableRows) -> bytes:
        """The bytes of rows."""
        name = value.table.encode()
        head = bytes([len(name), value.has_ids]) + value.token.to_bytes(8, "big") + name
        return head + value.rows.serialize().to_pybytes()

    def decode(self, encoded: bytes) -> TableRows:
        """Rows of the bytes."""
        length, has_ids = encoded[0], bool(encoded[1])
        table = encoded[10 : 10 + length].decode()
        rows = pa.ipc.read_record_batch(pa.py_buffer(encoded[10 + length :]), schema_of(table, has_ids))
        return TableRows(table, rows, int.from_bytes(encoded[2:10], "big"))

    def is_deterministic(self) -> bool:
        """Equal rows may be laid out in other bytes."""
        return False


class RawCoder(beam.coders.Coder):
    """Batches of raw records without their schema."""

    def encode(self, value: pa.RecordBatch) -> bytes:
        """The bytes of a batch."""
        return value.serialize().to_pybytes()

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        """The batch of the bytes."""
        return pa.ipc.read_record_batch(pa.py_buffer(encoded), schema_of("lake"))

    def is_deterministic(self) -> bool:
        """Equal rows may be laid out in other bytes."""
        return False


beam.coders.registry.register_coder(TableRows, TableRowsCoder)
beam.coders.registry.register_coder(pa.RecordBatch, RawCoder)


def one_batch(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    """All rows in one batch."""
    table = pa.Table.from_batches(list(batches), schema).combine_chunks()
    found = table.to_batches()
    return found[0] if found else pa.RecordBatch.from_pylist([], schema)


def token_of(records: pa.RecordBatch) -> int:
    """A number of 63 bits that names these records, the same whenever they come together."""
    names = zip(records["batch_id"].to_pylist(), records["record_index"].to_pylist(), strict=True)
    return number_of(repr(sorted(names)).encode())


def number_of(content: bytes) -> int:
    """A number of 63 bits that names a content."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") >> 1
