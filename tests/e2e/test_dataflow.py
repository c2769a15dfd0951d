"""`sawlog dataflow`: jobs of the Beam pipeline by the real binary and a double of Dataflow."""

import json
import subprocess
from pathlib import Path

import pytest

from conftest import sawlog
from google_doubles import PROJECT, Double

A, B = (f"projects/{PROJECT}/subscriptions/{name}" for name in "ab")
DATAFLOW = """
[gcp.dataflow]
region = "europe-west1"
template = "gs://lake/template.json"
settings = "gs://lake/sawlog.toml"
workers-max = 4
"""


class World:
    """A double, and a configuration that names it."""

    def __init__(self, folder: Path, pace: str = "150ms"):
        self.double = Double("dataflow", "-pace", pace)
        self.path = folder / "sawlog.toml"
        self.text = (
            f'[[pubsub]]\nsubscription = "{A}"\n[[pubsub]]\nsubscription = "{B}"\n[gcp]\nproject = "{PROJECT}"\n'
            f'[gcp.storage]\nbucket = "lake"\n[gcp.bigquery]\ndataset = "sawlog"\ndelivery = "at-least-once"\n'
            f'{DATAFLOW}endpoint = "{self.double.url}"\n'
        )
        self.path.write_text(self.text)

    def run(self, action: str, *flags: str) -> subprocess.CompletedProcess:
        return sawlog("dataflow", action, "--config", str(self.path), *flags)

    def well(self, action: str, *flags: str) -> str:
        done = self.run(action, *flags)
        assert done.returncode == 0, done
        return done.stdout.decode()

    def badly(self, action: str, *flags: str, code: int = 1) -> str:
        done = self.run(action, *flags)
        assert done.returncode == code, done
        return done.stderr.decode()

    def change(self, *replacements: tuple[str, str]) -> None:
        """The configuration with other settings."""
        text = self.text
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        self.path.write_text(text)

    def launch(self) -> str:
        """The id of a job that runs."""
        return self.well("launch", "--wait").split(":")[0]

    def status(self, *flags: str) -> dict:
        return json.loads(self.well("status", "--format", "json", *flags))

    def calls(self, call: str) -> int:
        # Nothing was called yet: null.
        return (json.loads(self.double.ask("GET", "/_faults", None)) or {}).get(call, 0)


@pytest.fixture
def world(tmp_path: Path):
    running = World(tmp_path)
    yield running
    running.double.kill()


def test_a_job_is_launched_with_the_configuration_and_shows_how_it_fares(world: World):
    request = json.loads(world.well("launch", "--dry-run"))["launchParameter"]
    assert request["parameters"] == {
        "subscription": f"{A},{B}", "lake": "gs://lake", "dataset": f"{PROJECT}.sawlog", "settings": "gs://lake/sawlog.toml",
        "shards": "32", "early": "60", "without_dedup": "false", "without_timelines": "false",
    }
    assert request["environment"]["maxWorkers"] == 4 and request["environment"]["enableStreamingEngine"]
    assert world.calls("LaunchFlexTemplate") == 0, "a dry run asks nobody"
    job = world.launch()
    world.double.ask("POST", "/_dataflow", {"job": job, "error": "a worker ran out of memory", "metrics": {"metrics": [
        {"name": {"name": "F3-windmill-data-watermark"}, "scalar": 1_793_491_200_000_000},
        {"name": {"name": "F3-windmill-system-watermark"}, "scalar": 1_793_491_200_000_000},
        {"name": {"name": "late", "context": {"namespace": "sawlog", "step": "s7"}}, "scalar": 12},
    ]}})
    status = world.status()
    assert (status["id"], status["state"], status["counters"]) == (job, "RUNNING", {"late": 12})
    assert status["data_watermark"] == "2026-11-01T00:00:00.000000Z" and status["system_lag_seconds"] == status["data_lag_seconds"] > 0
    assert status["errors"][0]["text"] == "a worker ran out of memory" and "2.77.0" in status["sdk"]
    text = world.well("status")
    for part in (f"job      {job} (sawlog)", "state    RUNNING since 20", "counter  late = 12", "a worker ran out of memory"):
        assert part in text


def test_a_second_launch_is_refused_with_what_to_do(world: World):
    first = world.launch()
    told = world.badly("launch")
    assert first in told and "RUNNING" in told and "sawlog dataflow update" in told and "sawlog dataflow drain" in told
    assert world.calls("LaunchFlexTemplate") == 1


def test_a_compatible_replacement_goes_on_in_the_place_of_the_job(world: World):
    first = world.launch()
    world.change((f'subscription = "{B}"\n', f'subscription = "{B}"\n[[pubsub]]\nsubscription = "{B}2"\n'), ("workers-max = 4", "workers-max = 9"))
    done = world.run("update", "--wait", "--settings", "gs://lake/2.toml")
    told = done.stderr.decode()
    assert done.returncode == 0 and f"subscription: {A},{B} -> {A},{B},{B}2" in told, done
    assert "settings: gs://lake/sawlog.toml -> gs://lake/2.toml" in told and "error" not in told
    status = world.status()
    assert status["replaces"] == first and world.status("--job", first)["state"] == "UPDATED"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("workers-max = 4", "shards = 64", "error: shards: 32 -> 64: ids are remembered by part"),
        ("workers-max = 4", "without-dedup = true", "error: without_dedup: false -> true: "),
        ("workers-max = 4", 'timestamp-attribute = "ts"', "error: timestamp_attribute: nothing -> ts: the watermark"),
        (f'[[pubsub]]\nsubscription = "{B}"\n', "", f"From {B} would be gone"),
        ('[gcp.storage]\nbucket = "lake"\n', "", "--rename-step 'Keep raw='"),
    ],
)
def test_what_state_does_not_survive_is_refused_before_anything_happens(world: World, old: str, new: str, told: str):
    job = world.launch()
    world.change((old, new))
    refused = world.badly("update")
    assert told in refused and f"end job {job} with `sawlog dataflow drain --wait`" in refused, refused
    assert world.calls("LaunchFlexTemplate") == 1 and world.status()["id"] == job


def test_a_step_may_go_when_it_is_named(world: World):
    world.launch()
    world.change(('[gcp.storage]\nbucket = "lake"\n', ""))
    assert "has no step Keep row; it has" in world.badly("update", "--rename-step", "Keep row=", code=2)
    request = json.loads(world.well("update", "--rename-step", "Keep raw=", "--dry-run"))["launchParameter"]
    assert request["update"] is True and request["transformNameMappings"] == {"Keep raw": ""}
    world.well("update", "--rename-step", "Keep raw=", "--wait")


def test_a_replacement_that_the_service_refuses_leaves_the_job_alone(world: World):
    job = world.launch()
    reason = "The Coder or type for step Settle has changed."
    world.double.ask("POST", "/_dataflow", {"failing": reason})
    told = world.badly("update", "--wait")
    assert "FAILED" in told and reason in told
    assert world.status()["id"] == job


def test_a_drain_says_what_it_does_and_waits_for_the_end(world: World):
    assert "no job sawlog in europe-west1 runs" in world.badly("drain", "--yes")
    job = world.launch()
    unasked = world.run("drain")
    assert unasked.returncode == 2 and b"add --yes" in unasked.stderr and b"every open window closes" in unasked.stdout
    assert world.status()["state"] == "RUNNING"
    done = world.run("drain", "--yes", "--wait")
    assert done.returncode == 0 and b"DRAINING" in done.stderr and f"{job}: DRAINED since".encode() in done.stdout
    assert world.status()["state"] == "DRAINED", "the newest one is shown when none is active"
    world.launch()


def test_a_drain_that_is_under_way_keeps_others_from_starting(tmp_path: Path):
    world = World(tmp_path, pace="2s")
    try:
        world.launch()
        world.well("drain", "--yes")
        for action in ("launch", "update"):
            assert "it is about to end" in world.badly(action)
        world.well("drain", "--yes", "--wait")
    finally:
        world.double.kill()


def test_a_cancel_ends_the_job_at_once(world: World):
    job = world.launch()
    done = world.run("cancel", "--yes", "--wait")
    assert done.returncode == 0 and b"are dropped" in done.stdout and f"{job}: CANCELLED since".encode() in done.stdout


def test_refusals_that_pass_are_tried_again(world: World):
    for status in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"):
        world.double.fail("LaunchFlexTemplate", status=status)
        world.double.fail("ListJobs", status=status, skip=1)
    job = world.launch()
    assert world.calls("LaunchFlexTemplate") == 3
    world.double.fail("LaunchFlexTemplate", after=True, reset=True)
    world.well("update", "--wait")
    assert world.calls("LaunchFlexTemplate") == 4 and world.status()["replaces"] == job


def test_a_permission_that_is_lacking_is_told_with_its_role(world: World):
    world.double.deny("dataflow.jobs.create")
    told = world.badly("launch")
    assert "PERMISSION_DENIED" in told and "dataflow.jobs.create" in told and "roles/dataflow.developer" in told
    world.double.deny("dataflow.jobs.list")
    assert "dataflow.jobs.list" in world.badly("status")


def test_a_service_that_is_away_is_told_within_the_deadline(world: World):
    world.double.kill()
    told = world.badly("status", "--deadline", "2s")
    assert "UNAVAILABLE" in told and "Connection refused" in told, told
    world.double.start()
    world.double.fail("ListJobs", hang=True, count=100)
    assert "TIMED_OUT" in world.badly("status", "--deadline", "1s")


def test_misuse_is_told_with_all_its_mistakes(world: World, tmp_path: Path):
    world.change(('delivery = "at-least-once"\n', ""))
    told = world.badly("launch", "--settings", "sawlog.toml", code=2)
    assert "gcp.bigquery.delivery is exactly-once" in told and "--settings:" in told
    world.change(("template = \"gs://lake/template.json\"", 'template = "template.json"'), ("workers-max = 4", "workers-max = 0"))
    told = world.badly("launch", code=2)
    assert "gcp.dataflow.template" in told and "gcp.dataflow.workers-max" in told
    empty = tmp_path / "empty.toml"
    empty.write_text("")
    done = sawlog("dataflow", "status", "--config", str(empty))
    assert done.returncode == 2 and b"[gcp.dataflow]" in done.stderr
