//! How far a load is, in a small file beside the checkpoint (docs/formats/bigquery-load.md).
//!
//! For: going on after a stop at any moment. A group of files is `loading` until its rows are staged; before the statement
//! that inserts them is begun, the note says `inserting`, so that there is one statement of its id at most. Not for: what is
//! done at each step ([`super::run`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sawlog_seams::Disk;
use sawlog_seams::disk::write_atomic;
use serde::{Deserialize, Serialize};

use super::super::PositionsError;

const FILE_NAME: &str = "bigquery-load.json";
const VERSION: u32 = 1;

/// What the note says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Content {
    version: u32,
    /// `PROJECT.DATASET` that is loaded into.
    pub(super) dataset: String,
    /// Drawn at the beginning; part of the names of objects, tables and jobs.
    pub(super) run: String,
    /// First day that is loaded, since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<i32>,
    /// The day behind the last one that is loaded, since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<i32>,
    /// Each table that is loaded, or was.
    pub(super) tables: BTreeMap<String, TableProgress>,
}

/// How far a table is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableProgress {
    /// Position of the table when the load began; it has all rows up to it, and no others.
    pub(super) position: u64,
    /// Files to load.
    pub(super) files: usize,
    /// Rows of these files.
    pub(super) file_rows: u64,
    /// Files whose rows are in the dataset, from the first on.
    #[serde(default)]
    pub(super) files_done: usize,
    /// Groups that these files made.
    #[serde(default)]
    pub(super) groups_done: u64,
    /// Rows that they had.
    #[serde(default)]
    pub(super) rows_done: u64,
    /// The group that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pending: Option<Pending>,
}

/// A group of files that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pending {
    /// Files of the group.
    pub(super) files: usize,
    /// How often the group was begun, from 1 on. Each attempt has objects, a staging table and jobs of its own.
    pub(super) attempt: u32,
    /// Where it is.
    pub(super) stage: Stage,
}

/// Where a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Stage {
    /// Its rows are on their way to the staging table. Nothing of it is in the dataset's own tables.
    Loading,
    /// So many rows are staged, and the statement that inserts them may have been begun.
    Inserting {
        /// Rows in the staging table.
        rows: u64,
    },
}

impl TableProgress {
    /// Whether all files are in the dataset.
    pub(super) const fn is_done(&self) -> bool {
        self.files_done == self.files
    }

    /// Begins a group, or another attempt of the one that is under way: none of its rows are in the dataset.
    pub(super) fn begin(&mut self, files: usize) -> u32 {
        let attempt = self.pending.as_ref().map_or(0, |pending| pending.attempt) + 1;
        self.pending = Some(Pending { files, attempt, stage: Stage::Loading });
        attempt
    }

    /// The rows of the group are staged.
    pub(super) fn staged(&mut self, rows: u64) {
        if let Some(pending) = &mut self.pending {
            pending.stage = Stage::Inserting { rows };
        }
    }

    /// The rows of the group are in the dataset.
    pub(super) fn inserted(&mut self, rows: u64) {
        if let Some(pending) = self.pending.take() {
            self.files_done += pending.files;
            self.groups_done += 1;
            self.rows_done += rows;
        }
    }
}

impl Content {
    pub(super) fn new(dataset: &str, run: String, from: Option<i32>, until: Option<i32>) -> Self {
        Self { version: VERSION, dataset: dataset.to_owned(), run, from, until, tables: BTreeMap::new() }
    }

    /// Whether something is left to load.
    pub(super) fn is_under_way(&self) -> bool {
        self.tables.values().any(|table| !table.is_done())
    }

    /// Name of the worker in the rows.
    pub(super) fn writer(&self) -> String {
        format!("load/{}", self.run)
    }
}

/// The file.
#[derive(Clone)]
pub(super) struct NoteFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl NoteFile {
    pub(super) fn new(disk: Arc<dyn Disk>, folder: &Path) -> Self {
        Self { disk, path: folder.join(FILE_NAME) }
    }

    /// What it says; `None` without one.
    pub(super) fn read(&self) -> Result<Option<Content>, PositionsError> {
        let io = |source| PositionsError::Io { path: self.path.clone(), action: "read", source };
        if !self.disk.exists(&self.path).map_err(io)? {
            return Ok(None);
        }
        let wrong = |problem: String| PositionsError::Content { path: self.path.clone(), problem };
        let bytes = self.disk.read(&self.path).map_err(io)?;
        let content: Content = serde_json::from_slice(&bytes).map_err(|error| wrong(format!("is damaged: {error}")))?;
        if content.version != VERSION {
            return Err(wrong(format!("has version {}, which is not {VERSION}", content.version)));
        }
        Ok(Some(content))
    }

    /// Writes it, durably.
    pub(super) fn write(&self, content: &Content) -> Result<(), PositionsError> {
        let io = |source| PositionsError::Io { path: self.path.clone(), action: "written", source };
        let bytes = serde_json::to_vec_pretty(content).map_err(|error| io(error.into()))?;
        write_atomic(self.disk.as_ref(), &self.path, &bytes).map_err(io)
    }

    /// Removes it, durably.
    pub(super) fn remove(&self) -> Result<(), PositionsError> {
        let io = |source| PositionsError::Io { path: self.path.clone(), action: "removed", source };
        self.disk.remove(&self.path).map_err(io)?;
        self.disk.sync_dir(self.path.parent().unwrap_or(Path::new("."))).map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use sawlog_seams::SimDisk;

    use super::*;

    fn file() -> NoteFile {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/data")).expect("a folder");
        NoteFile::new(Arc::new(disk), Path::new("/data"))
    }

    #[test]
    fn the_note_survives_in_every_state() {
        let file = file();
        assert_eq!(file.read().expect("readable"), None);
        let mut content = Content::new("p.d", "run".to_owned(), Some(20_000), None);
        let table = TableProgress { position: 9, files: 3, file_rows: 30, ..TableProgress::default() };
        content.tables.insert("logs".to_owned(), table);
        let steps: [&dyn Fn(&mut TableProgress); 5] = [
            &|_| {},
            &|table| assert_eq!(table.begin(2), 1),
            &|table| assert_eq!(table.begin(2), 2, "another attempt has another number"),
            &|table| table.staged(20),
            &|table| table.inserted(20),
        ];
        for step in steps {
            step(content.tables.get_mut("logs").expect("a table"));
            file.write(&content).expect("written");
            assert_eq!(file.read().expect("readable"), Some(content.clone()));
            assert!(content.is_under_way());
        }
        let table = content.tables.get_mut("logs").expect("a table");
        assert_eq!((table.files_done, table.groups_done, table.rows_done, &table.pending), (2, 1, 20, &None));
        assert_eq!(table.begin(1), 1, "attempts are counted by group");
        table.staged(10);
        table.inserted(10);
        assert!(table.is_done() && !content.is_under_way());
        file.remove().expect("removed");
        assert_eq!(file.read().expect("readable"), None);
    }

    #[test]
    fn a_note_of_a_newer_build_or_a_damaged_one_is_refused() {
        for (bytes, problem) in [
            (&b"{"[..], "is damaged"),
            (br#"{"version": 2, "dataset": "p.d", "run": "r", "tables": {}}"#, "has version 2"),
        ] {
            let file = file();
            write_atomic(file.disk.as_ref(), &file.path, bytes).expect("written");
            let error = file.read().expect_err("refused").to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
