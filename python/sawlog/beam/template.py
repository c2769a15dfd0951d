"""The metadata of the Flex Template: its parameters are the options of the pipeline, each checked by a regex before a launch.

`python -m sawlog.beam.template > deploy/dataflow/metadata.json`
"""

import argparse
import json
from typing import Any

from sawlog.beam.options import BIGTABLE, DATASET, SUBSCRIPTION, SawlogOptions
from sawlog.beam.windows import SLIDE

FOLDER = r"gs://[a-z0-9][a-z0-9._-]{1,221}(/.*)?"
NUMBER = r"[0-9]{1,9}"
# What a value must look like; the service has one parameter of each name, which lists separate by commas.
REGEXES = {
    "subscription": rf"{SUBSCRIPTION}(,{SUBSCRIPTION})*",
    "timestamp_attribute": r"[^\s]{1,256}",
    "input": rf"{FOLDER}(,{FOLDER})*",
    "settings": FOLDER,
    "lake": FOLDER,
    "dataset": DATASET,
    "bigtable": BIGTABLE,
    "output": FOLDER,
    "dead_letters": FOLDER,
    "batch_size": NUMBER,
    "shards": NUMBER,
    "early": NUMBER,
    "sliding": rf"{SLIDE}(,{SLIDE})*",
    "pane_base": NUMBER,
    "refresh": NUMBER,
    "dead_letters_max": r"(0(\.[0-9]+)?|1(\.0+)?)",
    "without_dedup": r"(true|false)",
    "without_timelines": r"(true|false)",
    "id_label": r"[^\s]{1,256}",
}
# Doubles of the tests are no service that a template reaches.
LEFT_OUT = {
    *("bigquery_endpoint", "bigquery_storage_endpoint", "bigtable_endpoint"),
    # The service has to run where the pipeline is started, and an update would need to know of another sink.
    *("bigquery_sink", "bigquery_expansion_service"),
}


def options() -> list[argparse.Action]:
    """The options of the pipeline, in their order."""
    parser = argparse.ArgumentParser(add_help=False)
    SawlogOptions._add_argparse_args(parser)
    return [action for action in parser._actions if action.dest not in LEFT_OUT]


def metadata() -> dict[str, Any]:
    """The metadata as the service reads it."""
    return {
        "name": "Sawlog",
        "description": "Messages of Pub/Sub through Sawlog's core to Cloud Storage, BigQuery and Bigtable",
        "streaming": True,
        "supportsAtLeastOnce": True,
        "supportsExactlyOnce": True,
        "defaultStreamingMode": "EXACTLY_ONCE",
        "parameters": [
            {
                "name": action.dest,
                "label": action.dest.replace("_", " ").capitalize(),
                "helpText": action.help,
                "isOptional": True,
                "regexes": [f"^{REGEXES[action.dest]}$"],
            }
            for action in options()
        ],
    }


if __name__ == "__main__":
    print(json.dumps(metadata(), indent=2))
