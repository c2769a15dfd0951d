"""Options are checked before anything runs, and each mistake says what to do."""

import subprocess
import sys

import pytest

import sawlog
from sawlog.beam import SawlogOptions

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
    SawlogOptions([*GOOD, "--id-label", "id", "--runner", "DataflowRunner"]).check()


def test_the_command_refuses_them_with_exit_code_2():
    done = subprocess.run([sys.executable, "-m", "sawlog.beam", "--batch-size", "0"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "error: --subscription or --input: there is nothing to read" in done.stderr
