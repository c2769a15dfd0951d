"""Names of steps: `sawlog dataflow update` knows which of them come and go with an option (tests/golden/dataflow-steps.json)."""

import json

import apache_beam as beam
from conftest import ROOT

from sawlog.beam import SawlogOptions, build

SUBSCRIPTION = "projects/project-1/subscriptions/s"
VALUES = {"lake": "gs://b/raw", "dataset": "p.d", "bigtable": "p/i/t", "dead_letters": "gs://b/dead", "sliding": "5m/1m"}


def outermost_steps(*left_out: str) -> set[str]:
    """Steps of the pipeline with all sinks but some. It is built and not run."""
    flags = ["--streaming", "--subscription", SUBSCRIPTION]
    # Something has to be written in any case.
    flags += ["--output", "gs://b/out"]
    flags += [f"--{name}={value}" for name, value in VALUES.items() if name not in left_out]
    return steps_of(flags)


def steps_of(flags: list[str]) -> set[str]:
    pipeline = beam.Pipeline(options=SawlogOptions(flags))
    build(pipeline, pipeline.options.view_as(SawlogOptions))
    return {part.full_label for part in pipeline.transforms_stack[0].parts}


def test_an_option_brings_the_steps_that_are_written_down():
    every = outermost_steps()
    assert f"From {SUBSCRIPTION}" in every
    known = json.loads((ROOT / "tests/golden/dataflow-steps.json").read_text())
    assert set(known) == set(VALUES)
    for option, steps in known.items():
        assert every - outermost_steps(option) == set(steps), option


def test_a_copy_of_raw_records_transforms_nothing():
    flags = ["--streaming", "--subscription", SUBSCRIPTION, "--lake", "gs://b/raw"]
    assert steps_of(flags) == {f"From {SUBSCRIPTION}", "All sources", "Keep raw"}
