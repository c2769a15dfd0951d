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
        // Text columns of one merge must stay below 2 GiB.
        if size.is_some_and(|size| !(1 << 20..=1 << 30).contains(&size.bytes())) {
            reader.note(key, "it is out of range", "give from 1MiB to 1GiB");
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

/// How long things are kept; 0 days keep for ever.
#[derive(Clone, Debug)]
pub(crate) struct RetentionConfig {
    pub(crate) logs: usize,
    pub(crate) metrics: usize,
    pub(crate) activity: usize,
    pub(crate) dead_letters: usize,
    pub(crate) lake: usize,
    /// Of 10 seconds, a minute, an hour.
    pub(crate) rollups: [usize; 3],
    pub(crate) panes: usize,
    pub(crate) sessions: usize,
    pub(crate) anomalies: usize,
    pub(crate) alerts: usize,
    pub(crate) timelines: usize,
    pub(crate) profiles: usize,
    pub(crate) delete_percent_max: usize,
    pub(crate) interval: HumanDuration,
}

/// Reads `[retention]`; every mistake is noted.
pub(super) fn retention(reader: &mut Reader) -> Option<RetentionConfig> {
    const DAYS_MAX: usize = 100_000;
    let names = [
        "logs",
        "metrics",
        "activity",
        "dead-letters",
        "lake",
        "rollups-10s",
        "rollups-1m",
        "rollups-1h",
        "panes",
        "sessions",
        "anomalies",
        "alerts",
        "timelines",
        "profiles",
    ];
    let days = names.map(|name| {
        let key = format!("retention.{name}");
        let days = reader.get::<usize>(&key);
        if days.is_some_and(|days| days > DAYS_MAX) {
            reader.note(&key, "it is more than 100000 days", "give a number of days, or 0 to keep for ever");
        }
        days
    });
    let percent = reader.get::<usize>("retention.delete-percent-max");
    if percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
        reader.note("retention.delete-percent-max", "it is out of range", "give from 1 to 100");
    }
    let interval = reader.get::<HumanDuration>("retention.interval");
    if interval.is_some_and(|interval| interval.duration() < INTERVAL_MIN) {
        reader.note("retention.interval", "it is shorter than 10 ms", "give at least 10ms");
    }
    let [
        logs,
        metrics,
        activity,
        dead_letters,
        lake,
        ten_seconds,
        minutes,
        hours,
        panes,
        sessions,
        anomalies,
        alerts,
        timelines,
        profiles,
    ] = days;
    Some(RetentionConfig {
        logs: logs?,
        metrics: metrics?,
        activity: activity?,
        dead_letters: dead_letters?,
        lake: lake?,
        rollups: [ten_seconds?, minutes?, hours?],
        panes: panes?,
        sessions: sessions?,
        anomalies: anomalies?,
        alerts: alerts?,
        timelines: timelines?,
        profiles: profiles?,
        delete_percent_max: percent?,
        interval: interval?,
    })
}
