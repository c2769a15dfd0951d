//! `sawlog gcp load`: the tables of a data folder into BigQuery, its lake into Cloud Storage.
//!
//! For: moving in from one machine. Not for: what a load does (`sawlog_gcp::bigquery::load`), or what a worker flushes.

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use sawlog_core::time::days_from_civil;
use sawlog_gcp::bigquery::load::{Load, LoadError, LoadOptions, Selection, Step, undo};
use sawlog_gcp::storage::{Copied, GcsLake, GcsLakeOptions, copy};
use sawlog_seams::RealDisk;
use sawlog_seams::stored_rows::StoredRows;
use sawlog_store::{DeltaWarehouse, LocalLake};

use crate::cli::SettingsArgs;
use crate::cli::query_bigquery::size;
use crate::cloud;
use crate::config::{Config, StorageConfig};
use crate::data_dir::DataDir;

/// Stored bytes that go together.
const GROUP_BYTES: u64 = 2 << 30;
/// How long a call to the bucket is tried: nothing waits for a load.
const BUCKET_CALL_MAX: Duration = Duration::from_secs(300);
const BUCKET_TRY_MAX: Duration = Duration::from_secs(30);
/// Objects of the lake between two lines that tell how far the copy is.
const OBJECTS_TOLD: usize = 100;
/// Folder of the lake with raw records.
const RAW: &str = "raw";

#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// Load this table only; may be repeated.
    #[arg(long, value_name = "NAME")]
    table: Vec<String>,
    /// First day to load, UTC, such as 2026-11-01.
    #[arg(long, value_name = "DAY", value_parser = day)]
    from: Option<i32>,
    /// Day to stop before, UTC.
    #[arg(long, value_name = "DAY", value_parser = day)]
    until: Option<i32>,
    /// Only say what would be loaded.
    #[arg(long, conflicts_with = "undo")]
    dry_run: bool,
    /// Leave the raw records of the lake where they are.
    #[arg(long)]
    no_lake: bool,
    /// Take back what was loaded: delete its rows from the dataset, and the note that it was loaded.
    #[arg(long, conflicts_with_all = ["table", "from", "until", "no_lake"])]
    undo: bool,
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
}

pub(super) async fn run(args: &LoadArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let Some((storage, options)) = options(config) else {
        eprintln!("error: a load needs [gcp.storage] and [gcp.bigquery]; docs/gcp.md shows them");
        return Ok(ExitCode::from(2));
    };
    if args.from.zip(args.until).is_some_and(|(from, until)| from >= until) {
        eprintln!("error: --until is not after --from: the day of --until is not loaded any more");
        return Ok(ExitCode::from(2));
    }
    let folder = &config.data.folder;
    if !folder.join("tables").is_dir() {
        eprintln!("error: {} has no tables; name the data folder of the server with --data", folder.display());
        return Ok(ExitCode::from(2));
    }
    let folder = DataDir::open(folder)?;
    let lake = GcsLake::open(GcsLakeOptions {
        bucket: storage.bucket.clone(),
        prefix: storage.prefix.clone(),
        access: storage.access.clone(),
        try_deadline: BUCKET_TRY_MAX,
        call_deadline: BUCKET_CALL_MAX,
    })?;
    if args.undo {
        return take_back(&options, &lake, folder.path()).await;
    }
    let tables = Arc::new(DeltaWarehouse::open(&folder.tables()).await?) as Arc<dyn StoredRows>;
    let selection = Selection { tables: args.table.clone(), from: args.from, until: args.until };
    let load = match Load::open(options, &selection, tables, Arc::new(RealDisk), folder.path()) {
        Ok(load) => load,
        Err(error) => return Ok(failed(&error)),
    };
    if args.dry_run {
        print_plan(&load);
        return Ok(ExitCode::SUCCESS);
    }
    if let Err(error) = load_tables(load, &lake).await {
        return Ok(failed(&error));
    }
    if !args.no_lake && folder.lake().is_dir() {
        copy_lake(&folder, &lake).await?;
    }
    Ok(ExitCode::SUCCESS)
}

fn options(config: &Config) -> Option<(&StorageConfig, LoadOptions)> {
    let gcp = config.gcp.as_ref()?;
    let storage = gcp.storage.as_ref()?;
    let options = LoadOptions {
        bigquery: cloud::bigquery_options(gcp)?,
        bucket: storage.bucket.clone(),
        prefix: storage.prefix.clone(),
        group_bytes: GROUP_BYTES,
    };
    Some((storage, options))
}

fn failed(error: &LoadError) -> ExitCode {
    eprintln!("error: {error}\n  hint: {}", error.hint());
    ExitCode::FAILURE
}

fn print_plan(load: &Load) {
    let plan = load.plan();
    for table in plan.iter().filter(|table| table.files > 0) {
        println!(
            "{}: {} of {} rows are left, {} in {} files",
            table.table,
            table.rows.saturating_sub(table.rows_done),
            table.rows,
            size(table.bytes),
            table.files
        );
    }
    if plan.iter().all(|table| table.files == 0) {
        println!("nothing is left to load");
    }
}

async fn load_tables(mut load: Load, lake: &GcsLake) -> Result<(), LoadError> {
    if load.plan().is_empty() {
        println!("nothing is left to load");
        return Ok(());
    }
    let told = Mutex::new(Told::default());
    let step = |step: Step| {
        if let Some(line) = told.lock().unwrap_or_else(PoisonError::into_inner).line(step) {
            eprintln!("{line}");
        }
    };
    let report = load.run(lake, &step).await?;
    println!("loaded {} rows of {} tables by objects of {}", report.rows, report.tables, size(report.bytes));
    Ok(())
}

/// What was told of the table that is under way.
#[derive(Default)]
struct Told {
    /// `table 2 of 18, logs: `
    prefix: String,
    rows: u64,
    rows_done: u64,
    /// Bytes of objects since the last insert.
    bytes: u64,
}

impl Told {
    /// The line that tells a step, if it is worth one.
    fn line(&mut self, step: Step) -> Option<String> {
        match step {
            Step::Table { number, of, table, rows, rows_done, bytes } => {
                *self = Self { prefix: format!("table {number} of {of}, {table}"), rows, rows_done, bytes: 0 };
                (rows > 0)
                    .then(|| format!("{}: {rows_done} of {rows} rows are there, {} stored", self.prefix, size(bytes)))
            }
            Step::Uploaded { bytes, .. } => {
                self.bytes += bytes;
                Some(format!("{}: {} in the bucket", self.prefix, size(self.bytes)))
            }
            Step::Loaded { rows, .. } => Some(format!("{}: {rows} rows staged", self.prefix)),
            Step::Inserting { .. } => None,
            Step::Inserted { rows, .. } => {
                (self.rows_done, self.bytes) = (self.rows_done + rows, 0);
                Some(format!("{}: {} of {} rows are there", self.prefix, self.rows_done, self.rows))
            }
        }
    }
}

async fn copy_lake(folder: &DataDir, lake: &GcsLake) -> anyhow::Result<()> {
    let local = LocalLake::open(&folder.lake()).context("the lake folder cannot be opened")?;
    let tell = |done: &Copied| {
        if done.copied.is_multiple_of(OBJECTS_TOLD) {
            eprintln!("lake: {} of {} objects are there", done.there + done.copied, done.objects);
        }
    };
    let copied = copy(&local, lake, RAW, &tell).await;
    let copied = copied.context("the lake is not copied whole; run `sawlog gcp load` again, which goes on")?;
    println!("copied {} of {} objects of the lake ({})", copied.copied, copied.objects, size(copied.bytes));
    Ok(())
}

async fn take_back(options: &LoadOptions, lake: &GcsLake, folder: &Path) -> anyhow::Result<ExitCode> {
    match undo(options, lake, Arc::new(RealDisk), folder).await {
        Ok(Some(tables)) => println!("took back the rows of {tables} tables; objects of the lake stay in the bucket"),
        Ok(None) => println!("nothing was loaded from this data folder"),
        Err(error) => return Ok(failed(&error)),
    }
    Ok(ExitCode::SUCCESS)
}

/// A day since the epoch.
fn day(text: &str) -> Result<i32, String> {
    let wrong = || format!("{text:?} is no day; write it like 2026-11-01");
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts[..] else { return Err(wrong()) };
    let part = |text: &str| text.parse::<i64>().map_err(|_| wrong());
    let days = days_from_civil(part(year)?, part(month)?, part(day)?).ok_or_else(wrong)?;
    i32::try_from(days).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read() {
        assert_eq!((day("1970-01-02"), day("2026-11-01")), (Ok(1), Ok(20_758)));
        for text in ["", "2026", "2026-13-01", "2026-02-30", "yesterday", "2026-11-01T00:00:00Z"] {
            assert_eq!(day(text), Err(format!("{text:?} is no day; write it like 2026-11-01")));
        }
    }

    #[test]
    fn lines_add_up() {
        let mut told = Told::default();
        let begin = Step::Table { number: 2, of: 3, table: "logs", rows: 9, rows_done: 4, bytes: 2_048 };
        assert_eq!(told.line(begin).as_deref(), Some("table 2 of 3, logs: 4 of 9 rows are there, 2.0 KiB stored"));
        told.line(Step::Uploaded { table: "logs", bytes: 1_000 });
        let uploaded = told.line(Step::Uploaded { table: "logs", bytes: 24 });
        assert_eq!(uploaded.as_deref(), Some("table 2 of 3, logs: 1.0 KiB in the bucket"));
        let inserted = told.line(Step::Inserted { table: "logs", rows: 5 });
        assert_eq!(inserted.as_deref(), Some("table 2 of 3, logs: 9 of 9 rows are there"));
    }
}
