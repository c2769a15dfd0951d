"""Options are checked before anything runs, and each mistake says what to do."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import StandardOptions

import sawlog
from sawlog.beam import SawlogOptions
from sawlog.beam.template import metadata
from sawlog.beam.windows import Slide

GOOD = ["--subscription", "projects/p/subscriptions/s", "--dataset", "project.sawlog"]


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (GOOD[:2], "nowhere to write"),
        (GOOD[2:], "nothing to read"),
        ([*GOOD, "--input", "gs://b/raw/**"], "run two jobs"),
        ([*GOOD, "--subscription", "orders"], "--subscription: 'orders' does not fit projects/"),
        (["--subscription", GOOD[1], "--dataset", "sawlog"], "--dataset: 'sawlog' does not fit"),
        ([*GOOD, "--bigtable", "sawlog"], "--bigtable: 'sawlog' does not fit"),
        ([*GOOD, "--batch-size", "0"], "--batch-size: 0 is below 1"),
        ([*GOOD, "--dead-letters-max", "2"], "--dead-letters-max: 2.0 is not between 0 and 1"),
        ([*GOOD, "--sliding", "5m"], "--sliding: '5m' is no size and period like 5m/1m"),
        ([*GOOD, "--sliding", "5m/15s"], "--sliding: '5m/15s': the period is not a multiple of 10s"),
        ([*GOOD, "--sliding", "5m/2m"], "or the size not one of the period"),
        ([*GOOD, "--sliding", "5m/5m,1h/10s"], "'5m/5m': the size is not 2 to 60 periods"),
        ([*GOOD, "--sliding", "5m/0s"], "--sliding: '5m/0s'"),
        ([*GOOD, "--bigquery-sink", "exactly-once"], "start it (java -jar "),
        (
            [*GOOD, "--bigquery-sink", "exactly-once", "--bigquery-expansion-service", "127.0.0.1:1"],
            "nothing answers at '127.0.0.1:1'",
        ),
        ([*GOOD, "--bigquery-expansion-service", "127.0.0.1:1"], "only --bigquery-sink exactly-once needs it"),
        ([*GOOD, "--id-label", "id"], "--id-label: DirectRunner refuses it"),
    ],
)
def test_mistakes_are_named(flags: list[str], problem: str):
    with pytest.raises(sawlog.SawlogError) as refused:
        SawlogOptions(flags).check()
    assert problem in str(refused.value)


def test_all_mistakes_are_told_at_once():
    problems = SawlogOptions(["--batch-size", "0", "--shards", "0"]).problems()
    assert len(problems) == 4, problems


def test_good_options_have_no_problems():
    SawlogOptions(GOOD).check()
    slides = SawlogOptions([*GOOD, "--sliding", "5m/1m,1h/10m", "--sliding", "5m/1m"]).slides
    assert slides == [Slide("5m/1m", 300, 60), Slide("1h/10m", 3_600, 600)]
    SawlogOptions([*GOOD, "--id-label", "id", "--runner", "DataflowRunner"]).check()


@pytest.mark.parametrize(
    ("flags", "runner"),
    [
        (["--input", "raw/*"], "FnApiRunner"),
        (["--input", "raw/*", "--runner", "DirectRunner"], "FnApiRunner"),
        (["--input", "raw/*", "--runner", "PrismRunner"], "PrismRunner"),
        (["--input", "gs://b/raw/*", "--runner", "DataflowRunner"], "DataflowRunner"),
        ([*GOOD, "--runner", "DirectRunner"], "DirectRunner"),
    ],
)
def test_no_runner_is_downloaded(flags: list[str], runner: str):
    """Beam's DirectRunner would get Prism from elsewhere for jobs with an end."""
    options = SawlogOptions(flags)
    options.choose_runner()
    assert options.view_as(StandardOptions).runner == runner


def test_settings_that_are_not_there_are_named():
    command = [sys.executable, "-m", "sawlog.beam", "--input", "x", "--output", "y", "--settings", "/none/sawlog.toml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "error: --settings: the file /none/sawlog.toml cannot be read" in done.stderr


def test_the_command_refuses_them_with_exit_code_2():
    done = subprocess.run([sys.executable, "-m", "sawlog.beam", "--batch-size", "0"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "error: --subscription or --input: there is nothing to read" in done.stderr


def test_options_are_taken_as_a_template_passes_them():
    flags = ["--subscription=projects/p/subscriptions/a,projects/p/subscriptions/b", "--dead_letters=gs://bucket/dead"]
    options = SawlogOptions([*flags, "--without_dedup=true", "--batch_size=10", *GOOD])
    assert options.subscription == [f"projects/p/subscriptions/{name}" for name in "abs"]
    assert (options.dead_letters, options.without_dedup, options.batch_size) == ("gs://bucket/dead", True, 10)
    assert SawlogOptions(GOOD).without_dedup is False and SawlogOptions(["--without-dedup"]).without_dedup is True


METADATA = Path(__file__).parents[2] / "deploy/dataflow/metadata.json"


def test_the_metadata_of_the_template_are_the_options():
    assert json.loads(METADATA.read_text()) == metadata()
    for parameter in metadata()["parameters"]:
        assert parameter["helpText"] and len(parameter["regexes"]) == 1, parameter


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("subscription", "projects/p/subscriptions/a,projects/p/subscriptions/b", True),
        ("subscription", "orders", False),
        ("dataset", "project.sawlog", True),
        ("dataset", "project:sawlog", False),
        ("bigtable", "project/instance/sawlog", True),
        ("lake", "gs://bucket/folder", True),
        ("lake", "/var/lake", False),
        ("dead_letters_max", "0.25", True),
        ("dead_letters_max", "1.5", False),
        ("sliding", "5m/1m,1h/10m", True),
        ("sliding", "5m", False),
        ("without_dedup", "yes", False),
        ("shards", "-1", False),
    ],
)
def test_a_template_checks_values_before_a_launch(name: str, value: str, fits: bool):
    (regex,) = next(one["regexes"] for one in metadata()["parameters"] if one["name"] == name)
    assert (re.fullmatch(regex, value) is not None) == fits
