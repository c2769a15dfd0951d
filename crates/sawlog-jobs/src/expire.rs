//! Deleting what is too old: from tables, the lake, and cells of rollups and users.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use sawlog_core::rollup::{Expired, PaneCell, Width};
use sawlog_core::timeline::Profile;
use sawlog_core::{rowkey, time, timeline};
use sawlog_seams::lake::Lake;
use sawlog_seams::serving::{Family, ServingError, ServingSnapshot, ServingStore};
use sawlog_seams::upkeep::Moment;

use crate::jobs::Jobs;
use crate::retention::{Amount, AmountByDay, RetentionMode, RetentionOptions, RetentionOutcome, RetentionReport, plan};

const DAY_MICROS: i64 = 86_400_000_000;
/// Cells of one deletion.
const CELLS_PER_DELETE: usize = 10_000;

impl Jobs {
    /// Deletes what is older than its days, and reports every subject that has any.
    pub async fn expire(&self, options: &RetentionOptions, mode: RetentionMode) -> Vec<RetentionReport> {
        let _turn = self.turn().await;
        let percent = if mode == RetentionMode::Force { 100 } else { options.delete_percent_max };
        let now = self.stores().clock.now_micros();
        let mut reports = Vec::new();
        for &(table, days) in options.tables.iter().filter(|(_, days)| *days > 0) {
            reports.push(self.expire_table(table, days, percent, mode, now).await);
        }
        if let (days @ 1.., Some(lake)) = (options.lake_days, &self.stores().lake) {
            reports.push(expire_lake(lake, days, percent, mode, now).await);
        }
        for &(family, days) in options.cells.iter().filter(|(_, days)| *days > 0) {
            let today = now.div_euclid(DAY_MICROS);
            if let Some(report) = self.seen_today(family, days, today).filter(|_| mode == RetentionMode::Careful) {
                reports.push(report);
                continue;
            }
            let serving = Arc::clone(&self.stores().serving);
            // What the finest cells say is in the coarser ones too: however many go at once, nothing is lost.
            let percent = if family == Family::Rollup10s { 100 } else { percent };
            let expire = move || expire_cells(serving.as_ref(), family, days, percent, mode, now);
            let expired = tokio::task::spawn_blocking(expire).await;
            let report = expired.unwrap_or_else(|error| failed(family.name(), days, &error));
            let is_done = matches!(report.outcome, RetentionOutcome::Nothing | RetentionOutcome::Deleted);
            // Without data of today a day more is kept, which its first record ends.
            let is_todays = i64::from(report.first_kept_day) == today - i64::from(days);
            if is_done && is_todays {
                self.looked_at.lock().unwrap_or_else(PoisonError::into_inner).insert(family, (today, report.clone()));
            }
            reports.push(report);
        }
        if reports.iter().any(|report| report.outcome == RetentionOutcome::Deleted) {
            self.show().await;
        }
        reports.iter().for_each(|report| self.note(report, options.delete_percent_max));
        reports
    }

    /// The report of a family that was looked at today: days go as wholes, so that there is nothing to do before tomorrow, and
    /// looking means reading all cells.
    fn seen_today(&self, family: Family, days: u32, today: i64) -> Option<RetentionReport> {
        let looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, report) = looked_at.get(&family).filter(|(day, report)| *day == today && report.days == days)?;
        let (outcome, old) = (RetentionOutcome::Nothing, Amount::default());
        Some(RetentionReport { outcome, old, ..report.clone() })
    }

    async fn expire_table(
        &self,
        table: &'static str,
        days: u32,
        percent: u32,
        mode: RetentionMode,
        now: i64,
    ) -> RetentionReport {
        let stored = match self.stores().tables.stored(table) {
            Ok(stored) => stored,
            Err(error) => return failed(table, days, &error),
        };
        let files = stored.files.iter().filter_map(|file| {
            let amount = Amount { items: 1, rows: file.rows, bytes: file.bytes };
            Some((file.partition_days?, amount, file.path.clone()))
        });
        let (amounts, files) = by_day(files);
        let report = plan(table, days, percent, now, &amounts);
        carry_out(report, mode, async |first_kept_day| {
            let paths: Vec<String> = before(first_kept_day, files).collect();
            let at = Moment::now(self.stores().clock.as_ref());
            self.stores().tables.remove(table, &paths, at).await.map(drop).map_err(|error| error.to_string())
        })
        .await
    }

    fn note(&self, report: &RetentionReport, percent_max: u32) {
        let (subject, old) = (report.subject, report.old);
        let first_kept = date(report.first_kept_day);
        match &report.outcome {
            RetentionOutcome::Nothing | RetentionOutcome::Planned => {}
            RetentionOutcome::Deleted => {
                tracing::info!(
                    subject,
                    first_kept,
                    items = old.items,
                    rows = old.rows,
                    bytes = old.bytes,
                    "deleted what is too old"
                );
                self.stores().metrics.add_expired(subject, old.items, old.rows, old.bytes);
            }
            RetentionOutcome::Refused => {
                tracing::error!(
                    subject,
                    first_kept,
                    rows = old.rows,
                    rows_in_all = report.total.rows,
                    percent_max,
                    "retention refused: more than the allowed share is too old; check the clock and the settings, then \
                     run `sawlog retention --force`"
                );
                self.stores().metrics.add_retention_problem(subject, "refused");
            }
            RetentionOutcome::Failed(problem) => {
                tracing::warn!(subject, problem, "deleting what is too old failed; it is tried again");
                self.stores().metrics.add_retention_problem(subject, "failed");
            }
        }
        if report.disputed_days > 0 {
            tracing::warn!(
                subject,
                days = report.disputed_days,
                "the clock says that these days are too old, the newest data says that they are not: kept"
            );
        }
    }
}

/// A day as a date.
#[must_use]
pub fn date(days: i32) -> String {
    let (year, month, day) = time::civil_from_days(i64::from(days));
    format!("{year:04}-{month:02}-{day:02}")
}

fn failed(subject: &'static str, days: u32, error: &dyn std::fmt::Display) -> RetentionReport {
    let (old, total) = (Amount::default(), Amount::default());
    let outcome = RetentionOutcome::Failed(error.to_string());
    RetentionReport { subject, days, first_kept_day: 0, old, total, disputed_days: 0, outcome }
}

/// Amounts by day of items that are few, and the items with their days.
fn by_day<T>(items: impl Iterator<Item = (i32, Amount, T)>) -> (AmountByDay, Vec<(i32, T)>) {
    let mut amounts = AmountByDay::new();
    let with_day = items.map(|(day, amount, item)| {
        amounts.entry(day).or_default().add(amount);
        (day, item)
    });
    let with_day = with_day.collect();
    (amounts, with_day)
}

fn before<T>(first_kept_day: i32, items: Vec<(i32, T)>) -> impl Iterator<Item = T> {
    items.into_iter().filter(move |(day, _)| *day < first_kept_day).map(|(_, item)| item)
}

/// Deletes what is of a day before the first that is kept, where the mode and the plan allow it.
async fn carry_out(
    mut report: RetentionReport,
    mode: RetentionMode,
    delete: impl AsyncFnOnce(i32) -> Result<(), String>,
) -> RetentionReport {
    if is_to_delete(&report, mode) {
        report.outcome = outcome_of(delete(report.first_kept_day).await);
    }
    report
}

fn is_to_delete(report: &RetentionReport, mode: RetentionMode) -> bool {
    report.outcome == RetentionOutcome::Planned && mode != RetentionMode::DryRun
}

fn outcome_of(deleted: Result<(), String>) -> RetentionOutcome {
    deleted.map_or_else(RetentionOutcome::Failed, |()| RetentionOutcome::Deleted)
}

async fn expire_lake(lake: &Arc<dyn Lake>, days: u32, percent: u32, mode: RetentionMode, now: i64) -> RetentionReport {
    let keys = match lake.list("raw").await {
        Ok(keys) => keys,
        Err(error) => return failed("lake", days, &error),
    };
    let one = Amount { items: 1, ..Amount::default() };
    let (amounts, keys) = by_day(keys.into_iter().filter_map(|key| Some((receive_day(&key)?, one, key))));
    carry_out(plan("lake", days, percent, now, &amounts), mode, async |first_kept_day| {
        for key in before(first_kept_day, keys) {
            lake.delete(&key).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    })
    .await
}

/// The day in a key such as `raw/receive_date=2026-11-24/…`.
fn receive_day(key: &str) -> Option<i32> {
    let date = key.split('/').find_map(|part| part.strip_prefix("receive_date="))?;
    let mut parts = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    time::days_from_civil(year, month, day).and_then(|days| i32::try_from(days).ok())
}

/// Day that decides when a cell is too old, days since the epoch.
fn day_of(family: Family, key: &[u8], value: &[u8]) -> Option<i32> {
    let time = match family {
        Family::Timeline => timeline::time_of(key)?,
        Family::Profile => Profile::from_bytes(value).ok()?.last_seen,
        _ => rowkey::time_of(key)?,
    };
    i32::try_from(time.div_euclid(DAY_MICROS)).ok()
}

/// Reads the cells twice, so that memory does not depend on how many there are: once for the amounts by day, once to
/// delete. Both times as of one moment: what comes in meanwhile is left alone.
fn expire_cells(
    serving: &dyn ServingStore,
    family: Family,
    days: u32,
    percent: u32,
    mode: RetentionMode,
    now: i64,
) -> RetentionReport {
    let snapshot = serving.snapshot();
    let width = Width::ALL.into_iter().find(|width| Family::of_width(*width) == family);
    let mut amounts = AmountByDay::new();
    let mut newest_panes: BTreeMap<i32, u32> = BTreeMap::new();
    let scanned = snapshot.scan_each(family, b"", None, &mut |key, value| {
        if let Some(day) = day_of(family, key, value) {
            let bytes = (key.len() + value.len()) as u64;
            amounts.entry(day).or_default().add(Amount { items: 1, rows: 0, bytes });
            if let Some(index) = width.and_then(|_| PaneCell::index_of(value)) {
                newest_panes.entry(day).and_modify(|newest| *newest = index.max(*newest)).or_insert(index);
            }
        }
        ControlFlow::Continue(())
    });
    if let Err(error) = scanned {
        return failed(family.name(), days, &error);
    }
    let mut report = plan(family.name(), days, percent, now, &amounts);
    if is_to_delete(&report, mode) {
        let first_kept_day = report.first_kept_day;
        let newest_pane = newest_panes.range(..first_kept_day).map(|(_, index)| *index).max();
        let noted = match (width, newest_pane) {
            (Some(width), Some(newest)) => note_expired(serving, snapshot.as_ref(), width, first_kept_day, newest),
            _ => Ok(()),
        };
        let deleted = noted.and_then(|()| delete_before(serving, snapshot.as_ref(), family, first_kept_day));
        report.outcome = outcome_of(deleted.map_err(|error| error.to_string()));
    }
    report
}

/// Notes up to which number the panes of deleted windows have come, so that none is numbered again.
fn note_expired(
    serving: &dyn ServingStore,
    snapshot: &dyn ServingSnapshot,
    width: Width,
    first_kept_day: i32,
    newest_pane: u32,
) -> Result<(), ServingError> {
    let key = Expired::key(width);
    let noted = snapshot.get(Family::StreamState, &key)?.and_then(|bytes| Expired::from_bytes(&bytes));
    let expired = noted.unwrap_or_default().with(i64::from(first_kept_day) * DAY_MICROS, newest_pane);
    serving.note(Family::StreamState, (key, expired.to_bytes()))
}

/// Deletes the cells of the snapshot that are of a day before `first_kept_day`, in parts: those that are as they were then. A cell
/// that got more since then is for the next look, and so is a profile, which is young again.
fn delete_before(
    serving: &dyn ServingStore,
    snapshot: &dyn ServingSnapshot,
    family: Family,
    first_kept_day: i32,
) -> Result<(), ServingError> {
    let mut part = Vec::new();
    let mut deleted = Ok(());
    snapshot.scan_each(family, b"", None, &mut |key, value| {
        if day_of(family, key, value).is_some_and(|day| day < first_kept_day) {
            part.push((key.to_vec(), value.to_vec()));
        }
        if part.len() == CELLS_PER_DELETE {
            deleted = serving.delete_unchanged(family, std::mem::take(&mut part));
        }
        if deleted.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    deleted.and_then(|()| serving.delete_unchanged(family, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_of_a_raw_object_is_read_from_its_key() {
        assert_eq!(receive_day("raw/receive_date=1970-01-03/receive_hour=07/a.parquet"), Some(2));
        for odd in
            ["raw/a.parquet", "raw/receive_date=1970-13-03/a", "raw/receive_date=x/a", "raw/receive_date=1970-01/a"]
        {
            assert_eq!(receive_day(odd), None, "{odd}");
        }
        assert_eq!(date(2), "1970-01-03");
    }
}
