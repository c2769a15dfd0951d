//! Bringing the tables of a data folder into a dataset, each row once, by load jobs of Parquet objects.
//!
//! For: moving in from one machine: history that was stored before BigQuery was configured. Not for: what a worker flushes
//! ([`super::warehouse`]), which begins where the stored tables end.
//!
//! Files are loaded a group at a time: their rows go to the bucket as Parquet objects, a load job brings these into a staging
//! table, and one statement inserts its rows, all or none. What is done is noted before and after ([`note`]): a load that
//! stopped at any moment goes on, and a statement that was begun is recognized by the id of its job.

mod error;
mod note;
mod parts;
mod plan;
mod run;
mod statements;
mod undo;

use std::path::Path;
use std::sync::Arc;

use sawlog_seams::Disk;
use sawlog_seams::stored_rows::StoredRows;

pub use error::LoadError;
pub use plan::Selection;
pub use run::{LoadReport, Step};
pub use undo::undo;

use super::positions::{Positions, TablePosition};
use super::{BigQueryOptions, PositionsError};
use note::{Content, NoteFile, TableProgress};
use plan::{Source, days_text};

/// Where a load goes.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The dataset.
    pub bigquery: BigQueryOptions,
    /// Bucket of the objects in between.
    pub bucket: String,
    /// Folder in the bucket that has all objects of the lake; empty for the bucket itself.
    pub prefix: String,
    /// Bytes of stored files that go together; a single file may have more. More takes longer to repeat after a stop, less
    /// needs more jobs, of which a table has 1,500 a day.
    pub group_bytes: u64,
}

impl LoadOptions {
    fn dataset(&self) -> String {
        format!("{}.{}", self.bigquery.project, self.bigquery.dataset)
    }

    /// URI of an object of the lake.
    fn uri(&self, key: &str) -> String {
        let prefix = self.prefix.trim_end_matches('/');
        match prefix.is_empty() {
            true => format!("gs://{}/{key}", self.bucket),
            false => format!("gs://{}/{prefix}/{key}", self.bucket),
        }
    }
}

/// What of a table is left to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TablePlan {
    /// Name of the table.
    pub table: &'static str,
    /// Files that are left.
    pub files: usize,
    /// Rows of all files to load, those that are done included.
    pub rows: u64,
    /// Rows that are done.
    pub rows_done: u64,
    /// Bytes of all files to load.
    pub bytes: u64,
}

/// A load that may begin or go on.
pub struct Load {
    options: LoadOptions,
    tables: Arc<dyn StoredRows>,
    file: NoteFile,
    content: Content,
    /// Tables that something is left of.
    sources: Vec<Source>,
}

impl Load {
    /// Finds out what is left to load of the tables of a data folder, whose lock the caller has. Changes nothing.
    ///
    /// # Errors
    /// When rows would be in the dataset twice or be left out, and when a note or a table cannot be read.
    pub fn open(
        options: LoadOptions,
        selection: &Selection,
        tables: Arc<dyn StoredRows>,
        disk: Arc<dyn Disk>,
        folder: &Path,
    ) -> Result<Self, LoadError> {
        let dataset = options.dataset();
        let specs = selection.specs()?;
        let file = NoteFile::new(Arc::clone(&disk), folder);
        let content = match file.read()? {
            Some(content) if content.dataset != dataset => {
                return Err(LoadError::OtherDataset { noted: content.dataset, given: dataset });
            }
            Some(content) if (content.from, content.until) != (selection.from, selection.until) => {
                let noted = days_text(content.from, content.until);
                return Err(LoadError::OtherDays { noted, given: days_text(selection.from, selection.until) });
            }
            Some(content) => content,
            None => Content::new(&dataset, drawn()?, selection.from, selection.until),
        };
        let positions = Positions::open(disk, folder, &dataset)?;
        let mut load = Self { options, tables, file, content, sources: Vec::new() };
        for spec in specs {
            let source = Source::of(load.tables.as_ref(), &spec, selection)?;
            load.consider(source, &positions)?;
        }
        Ok(load)
    }

    /// Takes a table in if something of it is left.
    fn consider(&mut self, source: Source, positions: &Positions) -> Result<(), LoadError> {
        let name = source.name();
        let table = || name.to_owned();
        let of_worker = positions.get(name);
        let Some(progress) = self.content.tables.get(name) else {
            if of_worker != TablePosition::default() {
                return Err(LoadError::Appended { table: table() });
            }
            let (position, files, file_rows) = (source.position, source.files.len(), source.rows());
            let begun = TableProgress { position, files, file_rows, ..TableProgress::default() };
            self.content.tables.insert(table(), begun);
            self.sources.push(source);
            return Ok(());
        };
        let is_same = (progress.position, progress.files, progress.file_rows)
            == (source.position, source.files.len(), source.rows());
        let grown = LoadError::Grown { table: table(), then: progress.position, now: source.position };
        match progress.is_done() {
            // A worker brings what came after the load.
            true if source.position > progress.position.max(of_worker.position) => Err(grown),
            true => Ok(()),
            false if !is_same => Err(grown),
            false => {
                self.sources.push(source);
                Ok(())
            }
        }
    }

    /// What is left, by table.
    #[must_use]
    pub fn plan(&self) -> Vec<TablePlan> {
        let plan = |source: &Source| {
            let done = self.content.tables.get(source.name()).cloned().unwrap_or_default();
            TablePlan {
                table: source.name(),
                files: source.files.len() - done.files_done.min(source.files.len()),
                rows: source.rows(),
                rows_done: done.rows_done,
                bytes: source.bytes(),
            }
        };
        self.sources.iter().map(plan).collect()
    }
}

/// The dataset that a load of a data folder into is under way, if one is. Meanwhile no other process may change the folder's
/// tables.
///
/// # Errors
/// When the note cannot be read.
pub fn under_way(disk: Arc<dyn Disk>, folder: &Path) -> Result<Option<String>, PositionsError> {
    let content = NoteFile::new(disk, folder).read()?;
    Ok(content.filter(Content::is_under_way).map(|content| content.dataset))
}

/// A random name.
fn drawn() -> Result<String, LoadError> {
    let random = getrandom::u64().map_err(|error| LoadError::Random(error.to_string()))?;
    Ok(format!("{random:016x}"))
}

#[cfg(test)]
mod tests;
