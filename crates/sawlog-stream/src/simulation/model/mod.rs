//! The naive recount: what the pipeline must have made of the log, worked out event by event.
//!
//! For: the expected state after each record of the log and at each end of a generation, in plain maps and without the
//! code that it checks. Not for: comparing ([`super::check`]). It shares with the product the names of tables, rollups and
//! widths, the limits of age, and the hash that decides between two records of one id.

mod dedup;
mod marks;
mod recount;
mod series;
mod users;

use std::collections::{BTreeMap, BTreeSet};

use sawlog_core::ledger::{Counts, Outcome};
use sawlog_core::rollup::{PaneTiming, Rollup, Width};

use super::input::{Batch, Event, FILTERED_PATH, Item, Log, What};
use super::options::Options;
pub(super) use recount::{Recount, Share};
pub(super) use users::{Session, User};

use dedup::{Dedup, kind_of};
use marks::Marks;
use series::{Parts, Series};
use users::{Users, Visit};

/// Number of dead letters' table among the tables.
pub(super) const DEAD_LETTERS: u8 = 3;

const MINUTE: i64 = 60_000_000;
const SECONDS_10: i64 = 10_000_000;

/// A window of one series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WindowKey {
    pub(super) rollup: Rollup,
    pub(super) width: Width,
    pub(super) parts: Parts,
    pub(super) start: i64,
}

impl WindowKey {
    pub(super) fn end(&self) -> i64 {
        self.start + self.width.micros()
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// Everything counted so far.
    pub(super) recount: Recount,
    /// What was counted when the last generation with something for it ended.
    pub(super) flushed: Recount,
    /// Its panes so far: their timings in order; the number of each is its place.
    pub(super) panes: Vec<PaneTiming>,
    is_changed: bool,
}

/// A stored row: its event time (its receive time for dead letters) and whether it is late.
pub(super) type Row = (i64, bool);

/// What became of a batch: its counts, and the outcome of each record.
pub(super) type Answer = (Counts, Vec<Outcome>);

pub(super) struct Model {
    options: Options,
    dedup: Dedup,
    marks: Marks,
    series: Series,
    pub(super) windows: BTreeMap<WindowKey, Window>,
    pub(super) users: Users,
    /// By minute of receive time and source.
    pub(super) ledger: BTreeMap<(i64, String), Counts>,
    /// By number of the table, batch and place in it.
    pub(super) rows: BTreeMap<(u8, String, i32), Row>,
    /// Raw records that the lake must get: batch and number of records.
    pub(super) raw: BTreeMap<String, usize>,
    /// Watermark at the end of the last generation.
    pub(super) flushed_watermark: i64,
    /// Whether ids were given up since the clock was behind: which, the ends of generations decide.
    pub(super) gives_up_ids: bool,
    /// How often the clock was set back.
    pub(super) set_back_count: u64,
}

impl Model {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            dedup: Dedup::new(options.dedup_window, options.dedup_keys_max),
            marks: Marks::new(options.stream.watermark),
            series: Series::new(options.stream.rollup.series_max),
            windows: BTreeMap::new(),
            users: Users::default(),
            ledger: BTreeMap::new(),
            rows: BTreeMap::new(),
            raw: BTreeMap::new(),
            flushed_watermark: i64::MIN,
            gives_up_ids: false,
            set_back_count: 0,
        }
    }

    pub(super) fn watermark(&self) -> i64 {
        self.marks.combined
    }

    /// Number of series and of events beyond them.
    pub(super) fn series_counts(&self, rollup: Rollup) -> (usize, u64) {
        self.series.counts(rollup)
    }

    /// Whether a window with something in it would be complete if nothing came until then.
    pub(super) fn is_due(&self, receive_time: i64) -> bool {
        let (now, then) = (self.watermark(), self.marks.at(receive_time));
        if self.marks.is_behind(receive_time) {
            return true;
        }
        let between = |end: i64| end > now && end <= then;
        // Sessions of one ten seconds end together.
        let round_up = |time: i64| (time.div_euclid(SECONDS_10) + 1) * SECONDS_10;
        let gap = self.options.stream.session.gap;
        self.windows.iter().any(|(key, window)| {
            // A watermark that went back passes windows anew that have had their pane on time.
            let is_open = window.panes.last().is_none_or(|timing| *timing == PaneTiming::Early);
            is_open && between(key.end())
        }) || self.set_back_count == 0 && self.users.visit_times().any(|time| between(round_up(time) + gap))
    }

    /// Counts one record of the log. Returns what became of a batch.
    pub(super) fn take(&mut self, item: &Item) -> Option<Answer> {
        match item {
            Item::Tick(receive_time) => {
                self.follow_clock(*receive_time);
                self.marks.pass_to(*receive_time);
                None
            }
            Item::Note { source, receive_time, rejected } => {
                self.count(*receive_time, source, Counts::rejected(*rejected));
                None
            }
            Item::Batch(batch) => {
                self.follow_clock(batch.receive_time);
                let answer = self.take_batch(batch);
                self.count(batch.receive_time, &batch.source, answer.0);
                Some(answer)
            }
        }
    }

    fn follow_clock(&mut self, receive_time: i64) {
        self.gives_up_ids |= self.dedup.set_back(receive_time);
        if self.marks.set_back(receive_time) {
            self.set_back_count += 1;
            self.users.now.values_mut().for_each(|user| user.is_rewritten = true);
        }
    }

    fn count(&mut self, receive_time: i64, source: &str, counts: Counts) {
        let minute = receive_time - receive_time.rem_euclid(MINUTE);
        *self.ledger.entry((minute, source.to_owned())).or_default() += counts;
    }

    fn take_batch(&mut self, batch: &Batch) -> Answer {
        let received = batch.events.len() as u64;
        let mut counts = Counts { received: received + batch.rejected, rejected: batch.rejected, ..Counts::default() };
        if self.dedup.is_repeated_batch(batch) {
            counts.duplicate = received;
            return (counts, vec![Outcome::Duplicate; batch.events.len()]);
        }
        self.raw.insert(batch.id.clone(), batch.events.len());
        let mut outcomes = vec![Outcome::Stored; batch.events.len()];
        let mut candidates = Vec::new();
        for (at, event) in batch.events.iter().enumerate() {
            let is_broken = kind_of(event).is_none();
            if is_broken || !batch.age.accept(event.time, batch.receive_time) {
                outcomes[at] = Outcome::DeadLettered;
                self.rows.insert((DEAD_LETTERS, batch.id.clone(), at as i32), (batch.receive_time, false));
            } else if matches!(&event.what, What::Log(log) if log.path == Some(FILTERED_PATH)) {
                outcomes[at] = Outcome::Filtered;
            } else {
                candidates.push(at);
            }
        }
        let repeats = self.dedup.repeats(batch, &candidates);
        repeats.iter().for_each(|at| outcomes[*at] = Outcome::Duplicate);
        candidates.retain(|at| !repeats.contains(at));
        for outcome in &outcomes {
            match outcome {
                Outcome::Stored => counts.stored += 1,
                Outcome::Duplicate => counts.duplicate += 1,
                Outcome::Filtered => counts.filtered += 1,
                Outcome::DeadLettered => counts.dead_lettered += 1,
                Outcome::Rejected => counts.rejected += 1,
            }
        }
        let (late, newest_in_time) = self.count_events(batch, &candidates);
        counts.late = late;
        match (batch.age.is_history, newest_in_time) {
            (true, _) => self.marks.observe_history(batch.receive_time),
            (false, Some(newest)) => self.marks.observe(&batch.source, batch.receive_time, newest),
            (false, None) => self.marks.pass_to(batch.receive_time),
        }
        (counts, outcomes)
    }

    /// Rolls up what is in time; returns how many are late, and the latest time of the others. Logs come first, then
    /// metrics, then activity; of each those that correct complete windows.
    fn count_events(&mut self, batch: &Batch, stored: &[usize]) -> (u64, Option<i64>) {
        let (is_history, watermark) = (batch.age.is_history, self.watermark());
        let complete_until = watermark.saturating_sub(watermark.rem_euclid(SECONDS_10));
        let (mut late_count, mut newest) = (0, None);
        for kind in 0..3 {
            let mut in_time = Vec::new();
            for &at in stored.iter().filter(|at| kind_of(&batch.events[**at]) == Some(kind)) {
                let event = &batch.events[at];
                let end = event.time - event.time.rem_euclid(SECONDS_10) + SECONDS_10;
                let is_expired = end.saturating_add(self.options.stream.allowed_lateness) <= watermark;
                let is_late = is_expired && !is_history;
                self.rows.insert((kind, batch.id.clone(), at as i32), (event.time, is_late));
                late_count += u64::from(is_late);
                self.follow_user(event, is_late, is_expired && is_history);
                if !is_late {
                    newest = newest.max(Some(event.time));
                    in_time.push(event);
                }
            }
            in_time.sort_by_key(|event| is_history || event.time >= complete_until);
            in_time.into_iter().for_each(|event| self.roll_up(event, batch.receive_time));
        }
        (late_count, newest)
    }

    fn roll_up(&mut self, event: &Event, receive_time: i64) {
        for (rollup, parts, share) in shares(event) {
            let parts = self.series.place(rollup, parts, receive_time);
            for width in Width::ALL {
                let start = event.time - event.time.rem_euclid(width.micros());
                let window = self.windows.entry(WindowKey { rollup, width, parts: parts.clone(), start }).or_default();
                window.recount.add(share.clone());
                window.is_changed = true;
            }
        }
    }

    fn follow_user(&mut self, event: &Event, is_late: bool, is_rewriting: bool) {
        let (user, is_error, is_step, has_duration) = match &event.what {
            What::Log(Log { user: Some(user), level, duration_ms, .. }) => {
                (user, *level == "error", false, duration_ms.is_some())
            }
            What::Activity(activity) => (&activity.user, false, true, false),
            _ => return,
        };
        let user = self.users.user(user);
        user.row_count += 1;
        user.error_count += u64::from(is_error);
        user.is_rewritten |= is_rewriting;
        if !is_late {
            user.visit(Visit { time: event.time, is_error, is_step, has_duration });
        }
    }

    /// A generation ends here: each window that got something has a pane, and each that became complete.
    pub(super) fn end_generation(&mut self) {
        self.dedup.end_generation();
        self.users.end_generation();
        let watermark = self.watermark();
        self.flushed_watermark = watermark;
        for (key, window) in &mut self.windows {
            let is_complete = key.end() <= watermark;
            let is_early = window.panes.last() == Some(&PaneTiming::Early);
            let is_due = is_complete && is_early;
            if !window.is_changed && !is_due {
                continue;
            }
            window.panes.push(match window.panes.last() {
                None | Some(PaneTiming::Early) if is_complete => PaneTiming::OnTime,
                None | Some(PaneTiming::Early) => PaneTiming::Early,
                Some(_) => PaneTiming::Late,
            });
            if std::mem::take(&mut window.is_changed) {
                window.flushed = window.recount.clone();
            }
        }
    }

    /// The windows that had a pane and are not complete as of the last end of a generation.
    pub(super) fn open_windows(&self) -> BTreeSet<&WindowKey> {
        self.windows
            .iter()
            .filter(|(_, window)| window.panes.last() == Some(&PaneTiming::Early))
            .map(|(key, _)| key)
            .collect()
    }
}

/// What an event adds to which series of which rollup.
fn shares(event: &Event) -> Vec<(Rollup, Parts, Share)> {
    let text = |text: Option<&str>| text.map(str::to_owned);
    let mut shares = Vec::new();
    let top =
        |dimension: &str, value: &str| (Rollup::Top, vec![Some(dimension.to_owned())], Share::Top(value.to_owned()));
    let users = |user: &str, service: &Option<String>| {
        let scopes = [None].into_iter().chain(service.clone().map(Some));
        scopes.map(|scope| (Rollup::Users, vec![scope], Share::User(user.to_owned()))).collect::<Vec<_>>()
    };
    match &event.what {
        What::Broken => {}
        What::Log(log) => {
            let parts = vec![log.service.clone(), log.version.clone(), text(log.path)];
            let duration = log.duration_ms.map(|millis| millis * 1_000);
            let is_request = log.path.is_some() || duration.is_some();
            let bytes = log.bytes.unwrap_or(0);
            shares.push((Rollup::Requests, parts, Share::Request { level: log.level, is_request, duration, bytes }));
            if let Some(user) = &log.user {
                shares.extend(users(user, &log.service));
                shares.push(top("user", user));
            }
            shares.extend(log.path.map(|route| top("route", route)));
            if log.level == "error" {
                let service = log.service.as_ref().map(|service| format!("{service}: ")).unwrap_or_default();
                shares.push(top("error", &format!("{service}{}", log.message)));
            }
        }
        What::Metric(metric) => {
            let series = metric.core.map(|core| format!("core={core}"));
            let parts = vec![Some(metric.name.clone()), metric.service.clone(), text(metric.host), series];
            shares.push((Rollup::Metrics, parts, Share::Value { time: event.time, value: metric.value }));
        }
        What::Activity(activity) => {
            let parts = vec![Some(activity.name.clone()), None, None];
            shares.push((Rollup::Activity, parts, Share::Activity { user: activity.user.clone() }));
            shares.extend(users(&activity.user, &activity.service));
            shares.push(top("user", &activity.user));
            shares.extend(activity.page.map(|route| top("route", route)));
        }
    }
    shares
}
