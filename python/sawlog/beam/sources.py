"""Raw records: messages of Pub/Sub, and objects of the lake."""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io import ReadFromPubSub, fileio

import sawlog
from sawlog.beam.rows import schema_of

# Rows of an object that are transformed at once.
OBJECT_ROWS = 8_192


def source_of(subscription: str) -> str:
    """The source of a subscription in the ledger: its name, as the binary has it by default."""
    return subscription.rsplit("/", 1)[-1]


class ReadMessages(beam.PTransform):
    """Records of a subscription's messages."""

    def __init__(self, subscription: str, options: Any, settings: sawlog.Settings):
        super().__init__()
        self.subscription, self.options, self.settings = subscription, options, settings

    def expand(self, begin: Any) -> Any:
        """Takes messages, up to so many at once."""
        read = ReadFromPubSub(
            subscription=self.subscription,
            with_attributes=True,
            id_label=self.options.id_label,
            timestamp_attribute=self.options.timestamp_attribute,
        )
        batch = beam.BatchElements(min_batch_size=1, max_batch_size=self.options.batch_size)
        receive = beam.ParDo(Receive(source_of(self.subscription), self.settings))
        return begin | "Read" >> read | "Batch" >> batch | "Receive" >> receive.with_output_types(pa.RecordBatch)


class Receive(beam.DoFn):
    """Messages to raw records."""

    def __init__(self, source: str, settings: sawlog.Settings):
        self.source, self.settings = source, settings

    def setup(self) -> None:
        """Compiles the rules, of which only redactions matter here: files are not needed."""
        rules = {name: rule for name, rule in self.settings.rules.items() if name == "redact"}
        self.transformer = sawlog.Settings(rules=rules).transformer()

    def process(self, messages: list[Any]) -> Iterator[pa.RecordBatch]:
        """One batch of records for a batch of messages."""
        columns = [
            [message.data or b"" for message in messages],
            pa.array([list((message.attributes or {}).items()) for message in messages], schema_of("messages").field(1).type),
            [message.message_id or "" for message in messages],
            [message.publish_time for message in messages],
            [message.ordering_key or "" for message in messages],
        ]
        yield self.transformer.receive(
            pa.RecordBatch.from_arrays(
                [pa.array(column, field.type) for column, field in zip(columns, schema_of("messages"), strict=True)],
                schema=schema_of("messages"),
            ),
            self.source,
        )


class ReadLake(beam.PTransform):
    """Records of the lake's objects that a pattern names."""

    def __init__(self, pattern: str):
        super().__init__()
        self.pattern = pattern

    def expand(self, begin: Any) -> Any:
        """Reads the objects, a part at a time."""
        files = begin | "Match" >> fileio.MatchFiles(self.pattern) | "Open" >> fileio.ReadMatches()
        spread = files | "Spread" >> beam.Reshuffle()
        return spread | "Read" >> beam.ParDo(read_object).with_output_types(pa.RecordBatch)


def read_object(file: fileio.ReadableFile) -> Iterator[pa.RecordBatch]:
    """The records of an object; those of older builds lack columns, which are null then."""
    wanted = schema_of("lake")
    with file.open() as opened:
        for batch in pq.ParquetFile(opened).iter_batches(OBJECT_ROWS):
            columns = [
                batch.column(field.name).cast(field.type) if field.name in batch.schema.names else pa.nulls(len(batch), field.type)
                for field in wanted
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=wanted)
