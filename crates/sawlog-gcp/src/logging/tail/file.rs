//! The file that says what a tail has and what it lacks.
//!
//! For: reading and writing it. Not for: what follows from it ([`super::marks`]). Layout: docs/formats/logging.md.

use std::path::Path;
use std::sync::Arc;

use sawlog_seams::Disk;
use serde::{Deserialize, Serialize};

use super::super::entry::{Nanos, Place};
use super::super::files::SmallFile;
use super::super::pages::Range;
use super::marks::Marks;

const VERSION: u32 = 2;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    complete_until: Nanos,
    // Version 1 ends here.
    #[serde(default)]
    unsure: Vec<Range>,
    #[serde(default)]
    missing: Vec<Range>,
    #[serde(default)]
    stored: Vec<Place>,
}

/// The file.
pub(super) struct TailFile(SmallFile);

impl TailFile {
    pub(super) fn new(disk: Arc<dyn Disk>, path: &Path) -> Self {
        Self(SmallFile::new(disk, path))
    }

    /// What it says; `None` if there is none. One that cannot be read is logged and counts as none: the tail begins now.
    pub(super) async fn load(&self) -> Option<Marks> {
        let read = async {
            let Some(bytes) = self.0.read().await? else { return Ok(None) };
            let content: Content = serde_json::from_slice(&bytes)?;
            if !(1..=VERSION).contains(&content.version) {
                let problem = format!("version {} is not known", content.version);
                return Err(std::io::Error::other(problem));
            }
            Ok(Some(content))
        };
        match read.await {
            Ok(content) => content.map(|content| {
                Marks::restored(content.complete_until, &content.unsure, content.missing, content.stored)
            }),
            Err(error) => {
                tracing::error!(%error, path = %self.0.path().display(), "the file of a tail cannot be read; entries since it stopped must be back-filled");
                None
            }
        }
    }

    /// Writes it, with a further range that is unsure; whether it is written. A failure is logged.
    pub(super) async fn save(&self, marks: &Marks, more: Option<Range>) -> bool {
        let content = Content {
            version: VERSION,
            complete_until: marks.seen,
            unsure: marks.unsure().into_iter().chain(more).collect(),
            missing: marks.missing().to_vec(),
            stored: marks.stored().cloned().collect(),
        };
        let written = match serde_json::to_vec(&content) {
            Ok(bytes) => self.0.write(bytes).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = &written {
            tracing::warn!(%error, path = %self.0.path().display(), "the file of a tail cannot be written");
        }
        written.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use sawlog_seams::SimDisk;

    use super::*;

    async fn planted(bytes: &[u8]) -> Option<Marks> {
        let disk = Arc::new(SimDisk::new(1));
        disk.plant(Path::new("/d/f"), bytes);
        TailFile::new(disk, Path::new("/d/f")).load().await
    }

    #[tokio::test]
    async fn files_of_all_versions_are_read() {
        let marks = planted(include_bytes!("../../../../../tests/formats/logging-tail-v1.json")).await;
        assert_eq!(marks, Some(Marks::new(1_794_700_805_000_000_000)));
        let marks = planted(include_bytes!("../../../../../tests/formats/logging-tail-v2.json")).await.expect("read");
        assert_eq!(marks.seen, 1_794_700_805_000_000_000);
        assert_eq!(marks.unsure(), [Range { from: 1_794_700_800_000_000_000, until: 1_794_700_820_000_000_000 }]);
        assert_eq!(marks.missing(), [Range { from: 1_794_614_400_000_000_000, until: 1_794_699_000_000_000_000 }]);
        let id = "projects/shop-17/logs/orders/a7".to_owned();
        assert!(marks.has(&Place { time: 1_794_700_805_000_000_000, id }));
        assert_eq!(planted(br#"{"version": 3, "complete_until": 1}"#).await, None);
    }

    #[tokio::test]
    async fn the_file_is_read_back() {
        let disk = Arc::new(SimDisk::new(1));
        disk.create_dir_all(Path::new("/d")).expect("a folder");
        let file = TailFile::new(disk, Path::new("/d/tail.json"));
        assert_eq!(file.load().await, None);
        let (unsure, missing) = (Range { from: 3, until: 9 }, Range { from: 1, until: 2 });
        let marks = Marks::restored(7, &[unsure], vec![missing], vec![Place { time: 7, id: "a".to_owned() }]);
        assert!(file.save(&marks, None).await);
        assert_eq!(file.load().await, Some(marks.clone()));
        let asked = Range { from: 10, until: 11 };
        assert!(file.save(&marks, Some(asked)).await);
        assert_eq!(file.load().await.expect("read").unsure(), [unsure, asked]);
    }
}
