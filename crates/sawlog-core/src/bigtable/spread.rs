//! How what is written within a short time spreads over tablets.
//!
//! A tablet is a range of rows. Bigtable cuts ranges so that each holds about as much: tablets here are equal parts of a
//! million simulated keys of the past. What counts is how much of the next minute the busiest one gets.

use super::*;
use crate::rollup::with_time;
use crate::rowkey::append_parts;

const TABLETS: usize = 32;
const SECOND: i64 = 1_000_000;
const NOW: i64 = 1_790_000_000 * SECOND;

/// A number below `bound` that looks like drawn by lot.
fn lot(seed: u64, bound: u64) -> u64 {
    xxh3_64(&seed.to_le_bytes()) % bound
}

/// Writes to the busiest tablet, as a multiple of the mean.
fn busiest(mut stored: Vec<Vec<u8>>, written: &[Vec<u8>]) -> f64 {
    assert!(stored.len() > 100_000 && written.len() > 2_000, "{} and {}", stored.len(), written.len());
    stored.sort_unstable();
    let splits: Vec<&[u8]> = (1..TABLETS).map(|part| &*stored[stored.len() * part / TABLETS]).collect();
    let mut counts = [0u32; TABLETS];
    for row in written {
        counts[splits.partition_point(|split| *split <= &**row)] += 1;
    }
    let most = counts.into_iter().max().unwrap_or_default();
    f64::from(most) * TABLETS as f64 / written.len() as f64
}

/// A series of requests, and in how many of 100 windows of ten seconds it has something.
fn series(number: u64) -> (Vec<u8>, u64) {
    let (service, version, route) =
        (number % 60, lot(number, 4), ["/", "/cart", "/pay", "/search", "/users/{id}"][lot(number + 1, 5) as usize]);
    let mut prefix = Vec::new();
    let (service, version) = (format!("service-{service}"), format!("1.{version}.{}", number / 60));
    append_parts(&mut prefix, Rollup::Requests.byte(), &[Some(&service), Some(&version), Some(route)]);
    (prefix, [100, 90, 60, 20, 5][lot(number + 2, 5) as usize])
}

const SERIES: u64 = 6_000;

fn has_something(number: u64, activity: u64, start: i64) -> bool {
    lot(number ^ (start as u64).rotate_left(20), 100) < activity
}

#[test]
fn rollups_of_one_minute_go_to_all_tablets() {
    let (mut stored, mut written) = (Vec::new(), Vec::new());
    for number in 0..SERIES {
        let (prefix, activity) = series(number);
        let row = |family, width: i64, start: i64| {
            row_key(family, &with_time(&prefix, start - start.rem_euclid(width * SECOND)))
        };
        // Half an hour of ten-second windows, four hours of minutes, four days of hours.
        for back in 1..=180 {
            let start = NOW - back * 10 * SECOND;
            if has_something(number, activity, start) {
                stored.push(row(Family::Rollup10s, 10, start));
            }
        }
        stored.extend((1..=24).map(|back| row(Family::Rollup1m, 60, NOW - back * 600 * SECOND)));
        stored.extend((1..=24).map(|back| row(Family::Rollup1h, 3_600, NOW - back * 14_400 * SECOND)));
        // Each of six flushes writes the window of ten seconds, the minute and the hour.
        for start in (0..6).map(|flush| NOW + flush * 10 * SECOND) {
            if has_something(number, activity, start) {
                let widths = [(Family::Rollup10s, 10), (Family::Rollup1m, 60), (Family::Rollup1h, 3_600)];
                written.extend(widths.map(|(family, width)| row(family, width, start)));
            }
        }
    }
    let most = busiest(stored, &written);
    assert!(most < 1.5, "{most}");
}

/// An id as the stream keys it: slot of ten minutes, hash.
fn id(time: i64, number: u64) -> Vec<u8> {
    let slot = (time / (600 * SECOND)) as u32;
    [&slot.to_be_bytes()[..], &lot(number, u64::MAX).to_be_bytes(), &number.to_be_bytes()].concat()
}

#[test]
fn ids_of_one_minute_go_to_all_tablets_and_without_salts_to_one() {
    let past = (0..1_000_000).map(|number| id(NOW - (number as i64 % 86_400) * SECOND, number));
    let past: Vec<_> = past.collect();
    let minute: Vec<_> = (0..30_000).map(|number| id(NOW + 60 * SECOND, 2_000_000 + number)).collect();
    let rows = |keys: &[Vec<u8>]| keys.iter().map(|key| row_key(Family::EventId, key)).collect::<Vec<_>>();
    let most = busiest(rows(&past), &rows(&minute));
    assert!(most < 1.5, "{most}");
    assert!(busiest(past, &minute) > TABLETS as f64 * 0.9, "the salts are not needed any more");
}

#[test]
fn a_new_table_takes_ids_in_all_of_its_tablets_for_them() {
    let splits = BigtableTable::State.split_keys();
    assert!(splits.is_sorted() && splits.iter().all(|key| !key.is_empty()), "{splits:?}");
    let mut counts = std::collections::BTreeMap::<usize, u32>::new();
    for number in 0..30_000 {
        let row = row_key(Family::EventId, &id(NOW, number));
        *counts.entry(splits.partition_point(|split| **split <= *row)).or_default() += 1;
    }
    let most = counts.values().max().copied().unwrap_or_default();
    assert_eq!(counts.len(), usize::from(ID_TABLETS));
    assert!(f64::from(most) < 1.2 * 30_000.0 / f64::from(ID_TABLETS), "{most}");
    assert_eq!(BigtableTable::Served.split_keys().len(), Rollup::ALL.len());
}

#[test]
fn deadlines_of_one_minute_go_to_all_tablets() {
    let deadline = |number: u64, width: i64, end: i64| {
        let end = end - end.rem_euclid(width * SECOND);
        let key = with_time(&series(number).0, end - width * SECOND);
        let end = ((end as u64) ^ (1 << 63)).to_be_bytes();
        row_key(Family::Deadline, &[&end[..], &[(width / 60).min(2) as u8], &key].concat())
    };
    let open = |number, now: i64| {
        let tens = (0..18).map(move |back| deadline(number, 10, now - back * 10 * SECOND));
        tens.chain([deadline(number, 60, now + 60 * SECOND), deadline(number, 3_600, now + 3_600 * SECOND)])
    };
    let stored = (0..SERIES).flat_map(|number| open(number, NOW)).collect();
    // A flush lists the windows that began and takes those off that are complete.
    let written: Vec<_> = (0..SERIES)
        .flat_map(|number| [NOW + 10 * SECOND, NOW - 170 * SECOND].map(|end| deadline(number, 10, end)))
        .collect();
    let most = busiest(stored, &written);
    assert!(most < 1.5, "{most}");
}

#[test]
fn users_of_one_minute_go_to_all_tablets() {
    let chunk = |user: u64, time: i64| row_key(Family::Timeline, &timeline::key(&format!("user-{user}"), time, 7, 0));
    let user = |seed: u64| lot(seed, 100_000);
    let stored = (0..1_000_000).map(|number| chunk(user(number), NOW - lot(number + 1, 86_400 * 30) as i64 * SECOND));
    let written: Vec<_> = (0..10_000).map(|number| chunk(user(3_000_000 + number), NOW)).collect();
    let most = busiest(stored.collect(), &written);
    assert!(most < 1.5, "{most}");
}
