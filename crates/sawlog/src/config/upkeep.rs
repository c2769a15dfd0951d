//! Settings of the background jobs.

use std::time::Duration;

use super::{ByteSize, HumanDuration, INTERVAL_MIN, Reader};

/// When and how far small files are merged.
#[derive(Clone, Debug)]
pub(crate) struct CompactionConfig {
    pub(crate) enabled: bool,
    pub(crate) interval: HumanDuration,
    pub(crate) file_size: ByteSize,
    pub(crate) files_min: usize,
    pub(crate) age_min: HumanDuration,
    pub(crate) quiet: HumanDuration,
    pub(crate) memory_max: ByteSize,
    pub(crate) grace: HumanDuration,
}

/// Reads `[compaction]`; every mistake is noted.
pub(super) fn compaction(reader: &mut Reader) -> Option<CompactionConfig> {
    let enabled = reader.get("compaction.enabled");
    let times = ["interval", "age-min", "quiet", "grace"].map(|name| reader.get(&format!("compaction.{name}")));
    let sizes = (reader.get::<ByteSize>("compaction.file-size"), reader.get::<ByteSize>("compaction.memory-max"));
    let files_min = reader.get::<usize>("compaction.files-min");
    let [interval, age_min, quiet, grace]: [Option<HumanDuration>; 4] = times;
    if interval.is_some_and(|interval| interval.duration() < INTERVAL_MIN) {
        reader.note("compaction.interval", "it is shorter than 10 ms", "give at least 10ms");
    }
    if files_min.is_some_and(|count| count < 2) {
        reader.note("compaction.files-min", "it is less than 2", "give at least 2; turn merging off with `enabled`");
    }
    for (key, size) in [("compaction.file-size", sizes.0), ("compaction.memory-max", sizes.1)] {
        if size.is_some_and(|size| !(1 << 20..=16 << 30).contains(&size.bytes())) {
            reader.note(key, "it is out of range", "give from 1MiB to 16GiB");
        }
    }
    let query_time = reader.quiet::<HumanDuration>("query.time-max").map_or(Duration::ZERO, |time| time.duration());
    if grace.is_some_and(|grace| grace.duration() < query_time) {
        let problem = "it is shorter than query.time-max, so that a query could lose the files that it reads";
        reader.note("compaction.grace", problem, "raise it, or lower query.time-max");
    }
    Some(CompactionConfig {
        enabled: enabled?,
        interval: interval?,
        file_size: sizes.0?,
        files_min: files_min?,
        age_min: age_min?,
        quiet: quiet?,
        memory_max: sizes.1?,
        grace: grace?,
    })
}
