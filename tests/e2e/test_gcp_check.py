"""`sawlog gcp check`: what a configuration names is there and may be used, by the real binary and doubles of all services."""

import json
from pathlib import Path

import pytest

from conftest import Server, sawlog
from google_doubles import PROJECT, BigtableDouble, LoggingDouble
from test_gcp import Cloud

SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/orders"
INSTANCE = f"projects/{PROJECT}/instances/instance"
# Each permission of a worker whose dataset and tables are there: its double, resource, role, and what grants the role.
PERMISSIONS = [
    ("pubsub", "pubsub.subscriptions.consume", SUBSCRIPTION, "pubsub.subscriber", "gcloud pubsub subscriptions add-iam-policy-binding orders "),
    *(
        ("storage", f"storage.{what}", "gs://lake", "storage.objectUser", "gcloud storage buckets add-iam-policy-binding gs://lake ")
        for what in (
            "objects.create", "objects.get", "objects.list", "objects.delete", "multipartUploads.create", "multipartUploads.abort",
        )
    ),
    ("bigquery", "bigquery.jobs.create", f"projects/{PROJECT}", "bigquery.jobUser", f"gcloud projects add-iam-policy-binding {PROJECT} "),
    *(
        ("bigquery", f"bigquery.{what}", f"{PROJECT}.sawlog", "bigquery.dataEditor", "GRANT `roles/bigquery.dataEditor` ON SCHEMA")
        for what in ("datasets.get", "tables.create", "tables.get", "tables.getData", "tables.updateData", "tables.update")
    ),
    *(
        ("bigtable", f"bigtable.tables.{what}", f"{INSTANCE}/tables/sawlog", "bigtable.user", "gcloud bigtable tables add-iam-policy-binding sawlog ")
        for what in ("get", "readRows", "mutateRows", "checkAndMutateRow")
    ),
    ("logging", "logging.logEntries.list", f"projects/{PROJECT}", "logging.viewer", f"gcloud projects add-iam-policy-binding {PROJECT} "),
    ("logging", "logging.logEntries.create", f"projects/{PROJECT}/logs/sawlog", "logging.logWriter", "gcloud projects add-iam-policy-binding "),
]


class Checked:
    """One run of the command."""

    def __init__(self, config: Path, *more: str):
        run = sawlog("gcp", "check", "--config", str(config), "--format", "json", *more)
        report = json.loads(run.stdout)
        self.code, self.is_ok, self.findings = run.returncode, report["ok"], report["findings"]
        assert self.is_ok == (self.code == 0)

    def of(self, state: str) -> list[dict]:
        return [finding for finding in self.findings if finding["state"] == state]

    def subjects(self, state: str) -> set[tuple[str, str]]:
        return {(finding["service"], finding["subject"]) for finding in self.of(state)}


class World(Cloud):
    """Doubles of all services with a subscription, a bucket, a dataset and tables as a careful person makes them."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.logging = LoggingDouble()
        more = f'[[gcp.logging]]\nendpoint = "{self.logging.url}"\n[gcp.log]\nendpoint = "{self.logging.url}"\n'
        self.path = self.config(self.careful_subscription(), more)
        abort = {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 1}}
        self.storage.ask("PUT", "/control/bucket", {"lifecycle": {"rule": [abort]}})

    def careful_subscription(self) -> str:
        self.pubsub.subscriber.delete_subscription(subscription=SUBSCRIPTION)
        dead = f"projects/{PROJECT}/topics/dead"
        self.pubsub.publisher.create_topic(name=dead)
        policy = {"dead_letter_topic": dead, "max_delivery_attempts": 20}
        self.pubsub.subscriber.create_subscription(
            request={"name": SUBSCRIPTION, "topic": self.pubsub.topic, "ack_deadline_seconds": 60, "dead_letter_policy": policy}
        )
        return SUBSCRIPTION

    def stop(self) -> None:
        super().stop()
        self.logging.stop()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    running = World(tmp_path_factory.mktemp("world"))
    yield running
    running.stop()


def test_before_and_after_the_first_start_nothing_is_lacking_and_nothing_is_changed(world: World):
    before = Checked(world.path)
    assert before.code == 0 and not before.of("warning"), before.findings
    assert ("BigQuery", "can be made") in before.subjects("ok"), "the dataset is not there"
    assert any("create table sawlog" in finding["detail"] for finding in before.of("ok"))
    again = Checked(world.path)
    assert ("BigQuery", "can be made") in again.subjects("ok"), "a check makes nothing"
    assert not world.logging.entries(f'logName="projects/{PROJECT}/logs/sawlog"')
    made = sawlog("gcp", "init", "--config", str(world.path))
    assert made.returncode == 0, made.stderr
    after = Checked(world.path)
    assert after.code == 0 and not after.of("warning") + after.of("unseen"), after.findings
    told = {finding["subject"] for finding in after.findings}
    held = {permission for _, permission, *_ in PERMISSIONS} - {"bigquery.datasets.get"}
    assert held | {"skew", "one region", "tables", "kind"} <= told
    text = sawlog("gcp", "check", "--config", str(world.path))
    assert text.returncode == 0 and b"0 lacking, 0 unknown, 0 warnings" in text.stdout.splitlines()[-1]


def test_each_permission_that_is_taken_away_is_named_with_its_role_and_command(world: World):
    sawlog("gcp", "init", "--config", str(world.path))
    for name, permission, resource, role, command in PERMISSIONS:
        double = getattr(world, name)
        double.deny(permission)
        checked = Checked(world.path)
        double.deny()
        lacking = [finding for finding in checked.of("lacking") if finding["resource"] == resource]
        assert checked.code == 1 and [finding["subject"] for finding in lacking] == [permission], (permission, checked.of("lacking"))
        grant = lacking[0]["grant"]
        assert grant["role"] == f"roles/{role}" and command in grant["command"], grant
        assert grant["command"] in lacking[0]["remedy"]
    # Without these a worker works; what they would show is not seen.
    world.pubsub.deny("pubsub.subscriptions.get")
    world.storage.deny("storage.buckets.get")
    world.bigtable.deny("bigtable.clusters.list")
    checked = Checked(world.path)
    for double in (world.pubsub, world.storage, world.bigtable):
        double.deny()
    assert checked.code == 0 and len(checked.of("unseen")) == 3


def test_a_missing_resource_is_told_with_what_makes_it(world: World, tmp_path: Path):
    text = world.path.read_text()
    for old, new, service in [
        (SUBSCRIPTION, f"projects/{PROJECT}/subscriptions/none", "Pub/Sub"),
        ('bucket = "lake"', 'bucket = "none"', "Cloud Storage"),
        ('instance = "instance"', 'instance = "none"', "Bigtable"),
    ]:
        path = tmp_path / "missing.toml"
        path.write_text(text.replace(old, new))
        checked = Checked(path)
        lacking = checked.of("lacking")
        assert [(one["service"], one["subject"]) for one in lacking] == [(service, "exists")], lacking
        assert checked.code == 1 and "create" in lacking[0]["remedy"]


def test_settings_that_lose_data_clocks_and_regions_are_told(world: World, tmp_path: Path):
    world.storage.ask("PUT", "/control/bucket", {
        "location": "EUROPE-WEST1", "hierarchicalNamespace": {"enabled": True}, "retentionPolicy": {"retentionPeriod": "86400"},
        "lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 30}}]},
    })
    world.storage.ask("PUT", "/control/clock", 90)
    careless = world.pubsub.subscribe("careless")
    path = tmp_path / "careless.toml"
    path.write_text(world.path.read_text().replace(SUBSCRIPTION, careless).replace('dataset = "sawlog"', 'dataset = "sawlog"\nlocation = "EU"'))
    sawlog("gcp", "init", "--config", str(world.path))
    try:
        checked = Checked(path)
    finally:
        world.storage.ask("PUT", "/control/clock", 0)
    expected = {
        ("Cloud Storage", "hierarchical namespace"), ("Cloud Storage", "retention policy"), ("Cloud Storage", "lifecycle"),
        ("Pub/Sub", "ack deadline"), ("Pub/Sub", "dead-letter topic"), ("this configuration", "one region"),
    }
    assert expected <= checked.subjects("warning"), checked.of("warning")
    assert {("this machine", "skew"), ("BigQuery", "location")} <= checked.subjects("lacking"), checked.of("lacking")


def test_a_service_that_is_away_is_unknown_and_not_lacking(world: World):
    sawlog("gcp", "init", "--config", str(world.path))
    for double, service in [(world.logging, "Cloud Logging"), (world.pubsub, "Pub/Sub"), (world.storage, "Cloud Storage"), (world.bigtable, "Bigtable")]:
        double.kill()
        checked = Checked(world.path, "--deadline", "3s")
        double.start()
        assert checked.code == 1 and not checked.of("lacking"), checked.of("lacking")
        assert {name for name, _ in checked.subjects("unknown")} == {service}, checked.of("unknown")
        assert all(finding["detail"] for finding in checked.of("unknown"))
        if double is world.pubsub:
            world.pubsub.create()
            world.careful_subscription()


def test_calls_go_over_tls_with_a_token_that_nobody_else_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    double = BigtableDouble("-tls", str(tmp_path))
    config = tmp_path / "tls.toml"
    port = double.address.rsplit(":", 1)[1]
    config.write_text(f'[gcp]\nproject = "{PROJECT}"\n[gcp.bigtable]\ninstance = "instance"\nendpoint = "https://localhost:{port}"\n')
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    monkeypatch.setenv("RUST_LOG", "trace")
    refused = Checked(config, "--deadline", "3s")
    assert refused.code == 1 and not json.loads(double.ask("GET", "/authorizations", None)), "an unknown authority gets no token"
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    worker = Server(tmp_path / "data", "host-metrics.enabled=false", "log.level=trace", config=config).start()
    try:
        double.deny("bigtable.tables.readRows")
        denied = sawlog("gcp", "check", "--config", str(config))
        assert denied.returncode == 1 and b"--member=serviceAccount:worker@sawlog-test." in denied.stdout, denied.stdout
        double.ask("POST", "/faults", {"method": "GetTable", "when": "before", "code": "PERMISSION_DENIED", "times": 1})
        failed = sawlog("gcp", "init", "--config", str(config))
        assert failed.returncode == 1 and b"PERMISSION_DENIED" in failed.stderr
    finally:
        worker.stop()
    seen = json.loads(double.ask("GET", "/authorizations", None))
    double.kill()
    assert seen and all(authorization.startswith("Bearer ") for authorization in seen)
    secret = json.loads((tmp_path / "key.json").read_text())["private_key"].splitlines()[1]
    told = worker.log().encode() + denied.stdout + denied.stderr + failed.stdout + failed.stderr
    for token in (secret, *(authorization.removeprefix("Bearer ") for authorization in seen)):
        # A part of it is too much already.
        assert token[-40:].encode() not in told


def test_a_configuration_without_google_cloud_is_a_misuse(tmp_path: Path):
    empty = tmp_path / "empty.toml"
    empty.write_text("")
    assert sawlog("gcp", "check", "--config", str(empty)).returncode == 2
