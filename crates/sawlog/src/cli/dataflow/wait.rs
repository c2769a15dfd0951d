//! Waiting until a job is in a state.

use std::time::Duration;

use sawlog_gcp::dataflow::{Dataflow, DataflowError, Job, JobState};
use tokio::time::sleep;

/// Between two looks, at first and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Looks at a job until it has ended, or is in the state that is waited for. Each state on the way is told on standard error.
pub(super) async fn wait(client: &Dataflow, job: Job, until: JobState) -> Result<Job, DataflowError> {
    let (mut job, mut told, mut pause) = (job, None, PAUSE_FIRST);
    loop {
        if told != Some(job.state) {
            eprintln!("{}: {}", job.id, job.state.name());
            told = Some(job.state);
        }
        if job.state == until || job.state.is_final() {
            return Ok(job);
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        job = client.job(&job.id).await?;
    }
}
