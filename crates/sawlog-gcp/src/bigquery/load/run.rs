//! The steps of a load.
//!
//! For: their order, and what is noted between them. Not for: which files go together ([`super::plan`]).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sawlog_seams::lake::Lake;
use tokio::sync::mpsc;

use super::super::{BigQueryClient, BigQueryOptions, JobError, Jobs, Statement, prepare};
use super::error::LoadError;
use super::note::{Content, Pending, Stage, TableProgress};
use super::parts::{self, Group};
use super::plan::Source;
use super::{Load, statements};
use crate::call::RetryPolicy;

/// Folder of the objects in between.
pub(super) const FOLDER: &str = "_load";
/// Attempts at a group in one call, where the service says that it failed itself.
const ATTEMPTS_MAX: u32 = 3;
/// Pause before another attempt.
const ATTEMPT_PAUSE: Duration = Duration::from_secs(10);

/// How long a call is tried: nobody waits for a load.
const CALL_MAX: Duration = Duration::from_secs(600);

/// How the calls of a load are tried.
pub(super) fn retry_policy(options: &BigQueryOptions) -> RetryPolicy {
    RetryPolicy { total_max: CALL_MAX, ..options.retry.clone() }
}

/// What a load has done, as it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A table begins, or goes on.
    Table {
        /// Its place among the tables that are left, from 1 on.
        number: usize,
        /// How many these are.
        of: usize,
        /// Its name.
        table: &'static str,
        /// Rows of its files.
        rows: u64,
        /// Rows that are done already.
        rows_done: u64,
        /// Bytes of its files.
        bytes: u64,
    },
    /// An object is in the bucket.
    Uploaded {
        /// Name of the table.
        table: &'static str,
        /// Bytes of the object.
        bytes: u64,
    },
    /// The rows of a group are in the staging table, which is not noted yet.
    Loaded {
        /// Name of the table.
        table: &'static str,
        /// Rows of the group.
        rows: u64,
    },
    /// That is noted, and the statement that inserts the rows begins.
    Inserting {
        /// Name of the table.
        table: &'static str,
    },
    /// The rows are in the table, which is not noted yet.
    Inserted {
        /// Name of the table.
        table: &'static str,
        /// Rows of the group.
        rows: u64,
    },
}

/// What a load did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tables that had something left.
    pub tables: usize,
    /// Rows of these tables in the dataset, those of earlier calls included.
    pub rows: u64,
    /// Bytes of the objects that this call put into the bucket.
    pub bytes: u64,
}

/// Names of one attempt at a group.
pub(super) struct Names {
    pub(super) staging: String,
    pub(super) load_job: String,
    pub(super) insert_job: String,
    /// Folder of its objects.
    pub(super) folder: String,
}

impl Names {
    pub(super) fn new(run: &str, table: &str, group: u64, attempt: u32) -> Self {
        let staging = format!("load_{run}_{table}_{group}_{attempt}");
        Self {
            load_job: format!("sawlog_{staging}_load"),
            insert_job: format!("sawlog_{staging}_insert"),
            folder: format!("{FOLDER}/{run}/{table}/{group}-{attempt}"),
            staging,
        }
    }
}

/// The services, while a load runs.
struct Services<'a> {
    client: BigQueryClient,
    jobs: Arc<Jobs>,
    lake: &'a dyn Lake,
    step: &'a (dyn Fn(Step) + Send + Sync),
}

impl Load {
    /// Loads what is left, telling each step. Dropping it is a stop, after which another load goes on.
    ///
    /// # Errors
    /// When a service fails for longer than it is tried again. What is done is noted.
    pub async fn run(&mut self, lake: &dyn Lake, step: &(dyn Fn(Step) + Send + Sync)) -> Result<LoadReport, LoadError> {
        let client = BigQueryClient::new(&self.options.bigquery).await?;
        prepare(&client, &self.options.bigquery, false).await?;
        let jobs = Jobs::connect(&self.options.bigquery, retry_policy(&self.options.bigquery)).await;
        let jobs = jobs.map_err(|problem| problem.while_doing("reaching BigQuery"))?;
        let services = Services { client, jobs, lake, step };
        self.file.write(&self.content)?;
        let mut report = LoadReport { tables: self.sources.len(), ..LoadReport::default() };
        for (place, source) in self.sources.clone().into_iter().enumerate() {
            step(Step::Table {
                number: place + 1,
                of: self.sources.len(),
                table: source.name(),
                rows: source.rows(),
                rows_done: self.progress(&source).rows_done,
                bytes: source.bytes(),
            });
            while !self.progress(&source).is_done() {
                report.bytes += self.group(&services, &source).await?;
            }
            report.rows += self.progress(&source).rows_done;
        }
        sweep(lake, &self.content).await;
        Ok(report)
    }

    fn progress(&self, source: &Source) -> TableProgress {
        self.content.tables.get(source.name()).cloned().unwrap_or_default()
    }

    /// Changes how far a table is, and notes it.
    fn note(&mut self, source: &Source, change: impl FnOnce(&mut TableProgress)) -> Result<(), LoadError> {
        change(self.content.tables.entry(source.name().to_owned()).or_default());
        Ok(self.file.write(&self.content)?)
    }

    /// One group, as often as it takes. Returns the bytes of its objects.
    async fn group(&mut self, services: &Services<'_>, source: &Source) -> Result<u64, LoadError> {
        let mut attempts = 1;
        loop {
            match self.attempt(services, source).await {
                Err(error) if error.is_passing() && attempts < ATTEMPTS_MAX => {
                    tracing::warn!(table = source.name(), %error, "the group is loaded again");
                    tokio::time::sleep(ATTEMPT_PAUSE).await;
                    attempts += 1;
                }
                done => return done,
            }
        }
    }

    async fn attempt(&mut self, services: &Services<'_>, source: &Source) -> Result<u64, LoadError> {
        let progress = self.progress(source);
        if let Some(Pending { attempt, stage: Stage::Inserting { rows }, .. }) = progress.pending {
            match self.insert(services, source, attempt, rows).await {
                Ok(()) => return Ok(0),
                // The statement has ended without a row, because the staging table has expired, say: from the beginning.
                Err(LoadError::Job { what, problem }) if problem.is_final() => {
                    tracing::warn!(what, %problem, "the rows are staged again");
                }
                Err(error) => return Err(error),
            }
        }
        let files = source.group(progress.files_done, self.options.group_bytes).to_vec();
        let mut attempt = 0;
        self.note(source, |progress| attempt = progress.begin(files.len()))?;
        let names = Names::new(&self.content.run, source.name(), progress.groups_done, attempt);
        let group = Group {
            stored: Arc::clone(&source.stored),
            files,
            times: source.times.clone(),
            writer: self.content.writer(),
            number: progress.groups_done,
        };
        let (rows, bytes, uris) = self.upload(services, source, &names, group).await?;
        if rows == 0 {
            self.note(source, |progress| progress.inserted(0))?;
            return Ok(bytes);
        }
        services.client.run(&statements::staging(&self.options.bigquery, &source.stored.spec, &names.staging)?).await?;
        let what = format!("loading rows of {} into {}", source.name(), names.staging);
        let loaded = services.jobs.run_noted(&names.load_job, services.jobs.loading(uris, &names.staging)).await;
        let loaded = loaded.map_err(|problem| problem.while_doing(&what))?;
        counted(&what, rows, loaded.rows)?;
        (services.step)(Step::Loaded { table: source.name(), rows });
        self.note(source, |progress| progress.staged(rows))?;
        self.insert(services, source, attempt, rows).await?;
        Ok(bytes)
    }

    /// Puts the rows of a group into the bucket. Returns their number, the bytes and the URIs of the objects.
    async fn upload(
        &self,
        services: &Services<'_>,
        source: &Source,
        names: &Names,
        group: Group,
    ) -> Result<(u64, u64, Vec<String>), LoadError> {
        let (sender, mut parts) = mpsc::channel::<Bytes>(1);
        let tables = Arc::clone(&self.tables);
        let writing = tokio::task::spawn_blocking(move || parts::write(tables.as_ref(), &group, &sender));
        let (mut bytes, mut uris) = (0, Vec::new());
        while let Some(part) = parts.recv().await {
            let key = format!("{}/{:05}.parquet", names.folder, uris.len());
            let size = part.len() as u64;
            services.lake.put(&key, part).await?;
            (services.step)(Step::Uploaded { table: source.name(), bytes: size });
            bytes += size;
            uris.push(self.options.uri(&key));
        }
        let rows = writing.await.map_err(|error| LoadError::Encode(format!("a thread died: {error}")))??;
        Ok((rows, bytes, uris))
    }

    /// Inserts the rows that an attempt staged, and notes it.
    async fn insert(
        &mut self,
        services: &Services<'_>,
        source: &Source,
        attempt: u32,
        rows: u64,
    ) -> Result<(), LoadError> {
        let group = self.progress(source).groups_done;
        let names = Names::new(&self.content.run, source.name(), group, attempt);
        let what = format!("inserting rows of {} from {}", source.name(), names.staging);
        (services.step)(Step::Inserting { table: source.name() });
        let sql = statements::insert(&self.options.bigquery, &source.stored.spec, &names.staging);
        let done = services.jobs.run_noted(&names.insert_job, services.jobs.changing(&sql)).await;
        let done = done.map_err(|problem| problem.while_doing(&what))?;
        counted(&what, rows, done.rows)?;
        (services.step)(Step::Inserted { table: source.name(), rows });
        self.note(source, |progress| progress.inserted(rows))?;
        for attempt in 1..=attempt {
            let names = Names::new(&self.content.run, source.name(), group, attempt);
            drop_staging(&services.client, &self.options.bigquery, &names.staging).await;
            delete_below(services.lake, &names.folder).await;
        }
        Ok(())
    }
}

fn counted(what: &str, written: u64, found: Option<u64>) -> Result<(), LoadError> {
    match found {
        Some(found) if found != written => Err(LoadError::Count { what: what.to_owned(), written, found }),
        _ => Ok(()),
    }
}

/// Removes a staging table, which would go by itself.
pub(super) async fn drop_staging(client: &BigQueryClient, options: &BigQueryOptions, name: &str) {
    let drop: Statement = statements::drop(options, name);
    if let Err(error) = client.run(&drop).await {
        tracing::warn!(table = name, %error, "the staging table stays until it expires in a day");
    }
}

/// Removes what attempts that were cut off have left in the bucket.
pub(super) async fn sweep(lake: &dyn Lake, content: &Content) {
    delete_below(lake, &format!("{FOLDER}/{}", content.run)).await;
}

async fn delete_below(lake: &dyn Lake, folder: &str) {
    let deleting = async {
        for key in lake.list(folder).await? {
            lake.delete(&key).await?;
        }
        Ok::<_, sawlog_seams::lake::LakeError>(())
    };
    if let Err(error) = deleting.await {
        tracing::warn!(folder, %error, "objects of the load are left in the bucket");
    }
}

impl JobError {
    /// An error of a job that was to do something, as the load's.
    pub(super) fn while_doing(self, what: &str) -> LoadError {
        LoadError::Job { what: what.to_owned(), problem: self }
    }
}
