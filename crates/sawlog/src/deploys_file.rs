//! The list of deploys that a user keeps in a file.
//!
//! For: reading it, at start and when it changes ([`crate::rules_reload`]). Not for: what its columns mean
//! ([`sawlog_core::deploys`]) or showing it (`sawlog-query`).

use std::path::Path;

use sawlog_core::deploys::{self, Deploy};

use crate::rules_files::read_text;

/// The deploys of a file, or what is wrong with it.
pub(crate) fn read(path: &Path) -> Result<Vec<Deploy>, String> {
    let text = read_text(path)
        .map_err(|problem| format!("file {:?} cannot be read: {problem}", path.display().to_string()))?;
    deploys::parse(&text).map_err(|error| format!("file {:?}, {error} ({})", path.display().to_string(), error.hint))
}
