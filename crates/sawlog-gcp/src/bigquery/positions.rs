//! How far each table of the dataset is, in a small file beside the checkpoint.
//!
//! For: appending each row once over crashes. What an append is about to send is noted before the first request, so that a
//! repeated append sends the same requests at the same offsets, which the service recognizes. Not for: tables that only
//! this process has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sawlog_seams::disk::write_atomic;
use sawlog_seams::{Disk, Position};
use serde::{Deserialize, Serialize};

const FILE_NAME: &str = "bigquery.json";
const VERSION: u32 = 1;

/// The file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PositionsError {
    /// The file system failed.
    #[error("{path} cannot be {action}")]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The content makes no sense, or is of another dataset.
    #[error("{path} {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// How far a table is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TablePosition {
    /// Everything up to it is in the table.
    pub(super) position: u64,
    /// The stream of this worker, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stream: Option<String>,
    /// Rows in the stream before the append that is under way.
    #[serde(default)]
    pub(super) offset: u64,
    /// The append that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pending: Option<Pending>,
}

/// An append that is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pending {
    /// Position that the table has after it.
    pub(super) position: u64,
    /// Rows of each request, refused ones included.
    pub(super) requests: Vec<usize>,
    /// Up to which place its rows came into the table by a stream that has ended since.
    #[serde(default)]
    pub(super) there: usize,
    /// Rows that the service refused.
    #[serde(default)]
    pub(super) refused: Vec<Refused>,
}

/// A row that the service does not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refused {
    /// Its place in the append.
    pub(super) row: usize,
    /// What the service says.
    pub(super) problem: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    dataset: String,
    tables: BTreeMap<String, TablePosition>,
}

/// The file.
pub(super) struct Positions {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    content: Mutex<Content>,
}

impl Positions {
    /// Reads the file in a folder; without one nothing was appended yet.
    pub(super) fn open(disk: Arc<dyn Disk>, folder: &Path, dataset: &str) -> Result<Self, PositionsError> {
        let path = folder.join(FILE_NAME);
        let io = |source| PositionsError::Io { path: path.clone(), action: "read", source };
        let wrong = |problem: String| PositionsError::Content { path: path.clone(), problem };
        let mut content = Content { version: VERSION, dataset: dataset.to_owned(), tables: BTreeMap::new() };
        if disk.exists(&path).map_err(io)? {
            let bytes = disk.read(&path).map_err(io)?;
            content = serde_json::from_slice(&bytes).map_err(|error| wrong(format!("is damaged: {error}")))?;
            if content.version != VERSION {
                return Err(wrong(format!("has version {}, which is not {VERSION}", content.version)));
            }
            if content.dataset != dataset {
                let problem = format!(
                    "is of dataset {}; the rows up to its positions are there. Move the file away to begin with dataset \
                     {dataset} from here on",
                    content.dataset
                );
                return Err(wrong(problem));
            }
        }
        Ok(Self { disk, path: path.clone(), content: Mutex::new(content) })
    }

    /// How far a table is.
    pub(super) fn get(&self, table: &str) -> TablePosition {
        let content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.tables.get(table).cloned().unwrap_or_default()
    }

    /// Position of a table.
    pub(super) fn committed(&self, table: &str) -> Position {
        Position(self.get(table).position)
    }

    /// Notes how far a table is, durably.
    pub(super) fn set(&self, table: &str, position: TablePosition) -> Result<(), PositionsError> {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.tables.insert(table.to_owned(), position);
        let io = |source| PositionsError::Io { path: self.path.clone(), action: "written", source };
        let bytes = serde_json::to_vec_pretty(&*content).map_err(|error| io(error.into()))?;
        write_atomic(self.disk.as_ref(), &self.path, &bytes).map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use sawlog_seams::SimDisk;

    use super::*;

    #[test]
    fn positions_survive_and_belong_to_one_dataset() {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/data")).expect("a folder");
        let open = |dataset: &str| Positions::open(Arc::new(disk.clone()), Path::new("/data"), dataset);
        let positions = open("p.a").expect("none yet");
        assert_eq!(positions.committed("logs"), Position(0));
        let refused = vec![Refused { row: 1, problem: "out of range".to_owned() }];
        let pending = Pending { position: 9, requests: vec![2, 1], there: 1, refused };
        let noted = TablePosition { position: 7, stream: Some("s".to_owned()), offset: 3, pending: Some(pending) };
        positions.set("logs", noted.clone()).expect("written");
        assert_eq!(open("p.a").expect("readable").get("logs"), noted);
        let error = open("p.b").err().expect("another dataset").to_string();
        assert!(error.contains("dataset p.a") && error.contains("Move the file away"), "{error}");
    }
}
