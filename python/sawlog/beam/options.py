"""Options of the pipeline, checked before anything runs."""

import re
import time
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

import sawlog
from sawlog.beam.sinks.beam_bigquery import EXACTLY_ONCE, STREAMING_INSERTS, answers
from sawlog.beam.windows import Slide

SUBSCRIPTION = r"projects/[a-z0-9.:-]+/subscriptions/[A-Za-z0-9._~%+-]+"
DATASET = r"[a-z0-9.:-]+\.[A-Za-z0-9_]+"
# 2026-01-01T00:00:00Z
EPOCH = 1_767_225_600
LOCAL_RUNNER = "FnApiRunner"
STORAGE_WRITE = "storage-write"
START_SERVICE = "start it (java -jar beam-sdks-java-io-google-cloud-platform-expansion-service-2.77.0.jar PORT)"
BIGTABLE = r"[a-z0-9.:-]+/[a-z0-9-]+/[A-Za-z0-9._-]+"


def truth(text: str) -> bool:
    """`true` or `false`."""
    if text not in ("true", "false"):
        raise ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"


def listed(text: str) -> list[str]:
    """Values that commas separate."""
    return [value for value in text.split(",") if value]


def sink_problems(sink: str, service: str | None) -> list[str]:
    """What is wrong with the sink of BigQuery and the expansion service that is named for it."""
    if sink != EXACTLY_ONCE:
        return [f"--bigquery-expansion-service: only --bigquery-sink {EXACTLY_ONCE} needs it; leave it out"] if service else []
    if not service:
        return [
            f"--bigquery-sink: {EXACTLY_ONCE} is Beam's sink in Java; {START_SERVICE}, and name it by --bigquery-expansion-service"
        ]
    return [] if answers(service) else [f"--bigquery-expansion-service: nothing answers at {service!r}; {START_SERVICE}"]


class SawlogOptions(PipelineOptions):
    """What comes in, what is made of it and where it goes."""

    @classmethod
    def _add_argparse_args(cls, parser: ArgumentParser) -> None:
        def add(name: str, **more: Any) -> None:
            """Takes a name as Beam writes its own too, which is how a template passes it."""
            names = dict.fromkeys((name, "--" + name[2:].replace("-", "_")))
            parser.add_argument(*names, **more)

        add(
            "--subscription",
            action="extend",
            type=listed,
            default=[],
            help="subscription of Pub/Sub to take messages from, projects/PROJECT/subscriptions/NAME; may be repeated",
        )
        add(
            "--timestamp-attribute",
            help="attribute with the event time, for the watermark; by default the publish time",
        )
        add(
            "--input",
            action="extend",
            type=listed,
            default=[],
            help="objects of the raw lake to transform again, such as gs://BUCKET/raw/receive_date=2026-11-24/**; may be repeated",
        )
        add("--settings", help="configuration file of sawlog, local or in gs://: rules, windows, sessions")
        add(
            "--lake",
            help="folder that gets raw records as received, such as gs://BUCKET/PREFIX; alone, nothing else is made of them",
        )
        add("--dataset", help="dataset of BigQuery, PROJECT.DATASET, as `sawlog gcp init` makes it")
        add(
            "--bigquery-sink",
            choices=(STORAGE_WRITE, STREAMING_INSERTS, EXACTLY_ONCE),
            default=STORAGE_WRITE,
            help=f"{STORAGE_WRITE}: Arrow batches, at least once; {STREAMING_INSERTS}: Beam's own, row by row; {EXACTLY_ONCE}: "
            "Beam's own in Java, which needs --bigquery-expansion-service",
        )
        add(
            "--bigquery-expansion-service",
            help="HOST:PORT of Beam's Java expansion service for Google Cloud, which runs while the pipeline is started",
        )
        add("--bigtable", help="served table of Bigtable, PROJECT/INSTANCE/TABLE, as `sawlog gcp init` makes it")
        add("--output", help="folder that gets all rows as Parquet files, by table")
        add("--dead-letters", help="folder that gets dead letters as NDJSON files, such as gs://BUCKET/dead")
        add("--batch-size", type=int, default=2_000, help="most messages that are transformed at once")
        add("--shards", type=int, default=32, help="parts in which ids are remembered: most workers that do so at once")
        add(
            "--early",
            type=int,
            default=60,
            help="seconds between early panes of windows that are not complete; 0 for none",
        )
        add(
            "--sliding",
            action="extend",
            type=listed,
            default=[],
            help="windows that overlap, SIZE/PERIOD such as 5m/1m, as rows of the pane tables with this width; may be repeated",
        )
        add(
            "--pane-base",
            type=int,
            default=None,
            help="number of a window's first pane; by default made of the start's time, so that panes of a job that reads messages "
            "again follow those of the job before it",
        )
        add("--refresh", type=int, default=300, help="seconds after which files that the rules name are read again")
        add(
            "--dead-letters-max",
            type=float,
            default=0.5,
            help="share of dead letters in a batch of a thousand or more above which the job fails; 1 never does",
        )
        add(
            "--without-dedup",
            nargs="?",
            const=True,
            default=False,
            type=truth,
            help="store repeats as well: no ids are remembered, at least once",
        )
        add(
            "--without-timelines",
            nargs="?",
            const=True,
            default=False,
            type=truth,
            help="write no timelines of users to Bigtable: up to a write for each event that names a user",
        )
        add("--id-label", help="attribute by which the service itself drops repeats; only Dataflow does")
        for service in ("bigquery", "bigquery-storage", "bigtable"):
            add(f"--{service}-endpoint", help=f"address of a double of {service}, HOST:PORT")

    @property
    def first_pane(self) -> int:
        """Number of a window's first pane: eight for each minute since 2026, unless it is given."""
        return self.pane_base if self.pane_base is not None else int(time.time() - EPOCH) // 60 * 8

    @property
    def slides(self) -> list[Slide]:
        """Windows that overlap, each once. Raises `ValueError`."""
        return [Slide.parse(text) for text in dict.fromkeys(self.sliding)]

    @property
    def has_end(self) -> bool:
        """Whether a run comes to its end by itself, as one over objects does."""
        return not self.subscription

    @property
    def only_copies(self) -> bool:
        """Whether raw records are all that is written."""
        return not any(self.get_all_options()[name] for name in ("dataset", "bigtable", "output", "dead_letters"))

    def choose_runner(self) -> None:
        """Lets a job with an end that would run on this machine do so in Beam's FnApiRunner. The DirectRunner would hand it to
        Prism, which it downloads, and which in Beam 2.77 loses values of bundles of several megabytes."""
        standard = self.view_as(StandardOptions)
        if self.has_end and standard.runner in (None, "DirectRunner"):
            standard.runner = LOCAL_RUNNER

    def problems(self) -> list[str]:
        """What is wrong with the options, each with what to do; empty when nothing is."""
        given = self.get_all_options()
        found = []
        patterns = [("subscription", SUBSCRIPTION), ("dataset", DATASET), ("bigtable", BIGTABLE)]
        for name, pattern in patterns:
            values = given[name] if isinstance(given[name], list) else [given[name]]
            for value in values:
                if value is not None and not re.fullmatch(pattern, value):
                    found.append(f"--{name}: {value!r} does not fit {pattern}")
        if not given["subscription"] and not given["input"]:
            found.append("--subscription or --input: there is nothing to read; give one of them")
        if given["subscription"] and given["input"]:
            found.append("--input: objects have an end and subscriptions have none; run two jobs")
        if not any(given[name] for name in ("dataset", "bigtable", "output", "lake")):
            found.append("--dataset, --bigtable, --output or --lake: there is nowhere to write; give one of them")
        for text in given["sliding"]:
            try:
                Slide.parse(text)
            except ValueError as error:
                found.append(f"--sliding: {error}")
        for name, least in (("batch_size", 1), ("shards", 1), ("early", 0), ("refresh", 1)):
            if given[name] < least:
                found.append(f"--{name.replace('_', '-')}: {given[name]} is below {least}")
        if not 0 <= given["dead_letters_max"] <= 1:
            found.append(f"--dead-letters-max: {given['dead_letters_max']} is not between 0 and 1")
        found.extend(sink_problems(given["bigquery_sink"], given["bigquery_expansion_service"]))
        runner = self.view_as(StandardOptions).runner or "DirectRunner"
        if given["id_label"] and "Dataflow" not in runner:
            found.append(f"--id-label: {runner} refuses it; leave it out, repeats are found by this pipeline")
        return found

    def check(self) -> None:
        """Raises `sawlog.SawlogError` with all problems."""
        if problems := self.problems():
            raise sawlog.SawlogError("\n".join(problems))
