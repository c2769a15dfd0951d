"""The double of Dataflow (tests/doubles/cmd/dataflow) in the eyes of Google's own client of the service."""

from collections.abc import Iterator

import pytest
from doubles import PROJECT, Double, wait_for
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import dataflow_v1beta3 as dataflow

REGION = "europe-west1"
PARAMETERS = {"subscription": "projects/p/subscriptions/a,projects/p/subscriptions/b", "shards": "8", "lake": "gs://b"}


class Client:
    """Google's clients of jobs, templates, messages and metrics, at a double."""

    def __init__(self) -> None:
        self.double = Double("dataflow", "-pace", "100ms")

        def client(kind):
            make = kind.get_transport_class("rest")
            return kind(transport=make(host=self.double.address, credentials=AnonymousCredentials(), url_scheme="http"))

        self.templates = client(dataflow.FlexTemplatesServiceClient)
        self.jobs = client(dataflow.JobsV1Beta3Client)
        self.messages = client(dataflow.MessagesV1Beta3Client)
        self.metrics = client(dataflow.MetricsV1Beta3Client)

    def launch(self, name: str = "sawlog", **more) -> dataflow.Job:
        parameter = {"job_name": name, "container_spec_gcs_path": "gs://b/t.json", "parameters": PARAMETERS, **more}
        request = {"project_id": PROJECT, "location": REGION, "launch_parameter": parameter}
        return self.templates.launch_flex_template(request=request).job

    def get(self, job_id: str) -> dataflow.Job:
        request = {"project_id": PROJECT, "location": REGION, "job_id": job_id, "view": dataflow.JobView.JOB_VIEW_ALL}
        return self.jobs.get_job(request=request)

    def become(self, job_id: str, state: str) -> dataflow.Job:
        wanted = dataflow.JobState[f"JOB_STATE_{state}"]
        wait_for(lambda: self.get(job_id).current_state == wanted, f"{job_id} is {state}", 10)
        return self.get(job_id)

    def request(self, job_id: str, state: str) -> dataflow.Job:
        request = {"project_id": PROJECT, "location": REGION, "job_id": job_id, "job": {"requested_state": f"JOB_STATE_{state}"}}
        return self.jobs.update_job(request=request)

    def names(self, **more) -> list[str]:
        request = {"project_id": PROJECT, "location": REGION, **more}
        return [job.id for job in self.jobs.list_jobs(request=request)]


@pytest.fixture
def client() -> Iterator[Client]:
    found = Client()
    yield found
    found.double.stop()


def test_a_job_runs_with_the_options_that_beam_hands_in_and_ends_by_a_drain(client: Client):
    launched = client.launch()
    assert launched.current_state == dataflow.JobState.JOB_STATE_QUEUED
    running = client.become(launched.id, "RUNNING")
    options = running.environment.sdk_pipeline_options["options"]
    assert list(options["subscription"]) == PARAMETERS["subscription"].split(",")
    assert (options["shards"], options["without_dedup"], options["early"]) == (8, False, 60)
    assert client.request(launched.id, "DRAINED").current_state == dataflow.JobState.JOB_STATE_DRAINING
    client.become(launched.id, "DRAINED")
    with pytest.raises(exceptions.BadRequest, match="terminal state"):
        client.request(launched.id, "CANCELLED")


def test_a_name_has_one_active_job_which_another_can_replace(client: Client):
    with pytest.raises(exceptions.NotFound, match="no active job"):
        client.launch(update=True)
    first = client.launch()
    with pytest.raises(exceptions.Conflict, match="There is already an active job named sawlog"):
        client.launch()
    client.become(first.id, "RUNNING")
    second = client.launch(update=True, transform_name_mappings={"Keep raw": ""})
    replaced = client.become(first.id, "UPDATED")
    assert replaced.replaced_by_job_id == second.id and client.get(second.id).replace_job_id == first.id


def test_lists_come_in_pages_by_state_and_name(client: Client):
    ids = [client.launch(name).id for name in ("a", "b", "c")]
    client.request(ids[0], "CANCELLED")
    client.become(ids[0], "CANCELLED")
    assert client.names(page_size=1) == ids[::-1]
    kinds = dataflow.ListJobsRequest.Filter
    assert client.names(filter=kinds.ACTIVE) == [ids[2], ids[1]] and client.names(filter=kinds.TERMINATED) == [ids[0]]
    assert client.names(name="b") == [ids[1]]


def test_what_the_service_would_refuse_is_refused(client: Client):
    with pytest.raises(exceptions.BadRequest, match="JobName invalid"):
        client.launch("Sawlog")
    with pytest.raises(exceptions.BadRequest, match="no path in Cloud Storage"):
        client.launch(container_spec_gcs_path="t.json")
    with pytest.raises(exceptions.NotFound, match="could not be found"):
        client.get("none")


def test_messages_and_metrics_are_empty_until_a_test_gives_some(client: Client):
    job = {"project_id": PROJECT, "location": REGION, "job_id": client.launch().id}
    assert list(client.messages.list_job_messages(request=job)) == []
    assert list(client.metrics.get_job_metrics(request=job).metrics) == []
