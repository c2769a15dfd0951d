//! Timelines of batches.

use arrow_array::RecordBatch;
use proptest::prelude::*;

use super::*;
use crate::batch::{AgeLimits, Format, RawBatch};
use crate::rules::Rules;
use crate::schema::Table;
use crate::transform::{Transformed, transform};

#[test]
fn the_newest_chunk_of_a_user_comes_first_and_those_of_others_lie_elsewhere() {
    let (start, end) = range_of("ab", 700 * SECOND);
    assert!(key("ab", 1_199 * SECOND, 0, 0) >= start, "its chunk may reach back to 600 s");
    assert!(key("ab", 1_200 * SECOND, 9, 9) < start && key("ab", 4_000_000, 0, 0) < end);
    assert!(key("ab", 4_000_000, 0, 0) < key("ab", 3_000_000, 0, 0));
    for other in ["a", "abc", "ab\u{0}", "b"] {
        let key = key(other, 4_000_000, 0, 0);
        assert!(key < start || key >= end, "{other:?}");
    }
    assert_eq!(time_of(&key("ab", 5_900_000, 7, 7)), Some(5_000_000));
}

const SECOND: i64 = 1_000_000;

/// Logs and activity of JSON lines.
fn tables_of(body: &str) -> Transformed {
    let batch = RawBatch {
        batch_id: "b1",
        source: "app",
        file: None,
        format: Format::Json,
        is_declared: true,
        receive_time: 1_795_489_200 * SECOND,
        age: AgeLimits::any_past(),
        body: body.as_bytes(),
    };
    transform(&batch, &Rules::none()).expect("a batch")
}

fn rows_of(transformed: &Transformed) -> [(Table, &RecordBatch); 2] {
    [Table::Logs, Table::Activity].map(|table| (table, &transformed.tables[table as usize]))
}

#[test]
fn logs_and_activity_of_a_user_are_one_timeline_newest_first() {
    let tables = tables_of(concat!(
        r#"{"time":"2026-03-01T10:00:01Z","event_name":"view","user_id":"ann","page":"/cart","device":"phone"}"#,
        "\n",
        r#"{"time":"2026-03-01T10:00:03Z","severity":"error","message":"no stock","user_id":"ann","service":"shop"}"#,
        "\n",
        r#"{"time":"2026-03-01T10:00:02Z","event_name":"buy","user_id":"ann","device":"laptop"}"#,
        "\n",
        r#"{"time":"2026-03-01T10:00:02Z","event_name":"buy","user_id":"bob"}"#,
        "\n",
    ));
    let rows = UserRows::of(rows_of(&tables), None);
    assert_eq!(rows.users().count(), 2);
    let only = UserRows::of(rows_of(&tables), Some("ann"));
    let parts: Vec<_> = only.users().collect();
    let (user, ann) = parts.first().expect("a user");
    let entries: Vec<_> =
        ann.entries().map(|entry| (entry.kind, entry.name.unwrap_or_default().into_string())).collect();
    let expected = [(EntryKind::Log, "no stock"), (EntryKind::Activity, "buy"), (EntryKind::Activity, "view")];
    assert_eq!((*user, entries), ("ann", expected.map(|(kind, name)| (kind, name.to_owned())).to_vec()));
    let profile = ann.profile();
    let latest = |name: &str| {
        let place = Profile::NAMES.iter().position(|one| *one == name).expect("a name");
        profile.latest[place].as_ref().map(|(_, text)| text.as_ref())
    };
    assert_eq!((profile.event_count, profile.error_count, profile.last_seen - profile.first_seen), (3, 1, 2 * SECOND));
    assert_eq!(
        (latest("event_name"), latest("device"), latest("service")),
        (Some("buy"), Some("laptop"), Some("shop"))
    );
}

#[test]
fn too_many_entries_at_once_are_left_out_and_counted() {
    let line = |at: u32| format!("{{\"time\":{},\"event_name\":\"e{at}\",\"user_id\":\"u\"}}\n", 1_771_000_000 + at);
    let tables = tables_of(&(0..1_250).map(line).collect::<String>());
    let rows = UserRows::of(rows_of(&tables), None);
    let (_, part) = rows.users().next().expect("a user");
    let chunks = part.chunks();
    assert_eq!(chunks.last().map(|chunk| chunk.omitted_count), Some(250));
    assert_eq!(chunks.iter().map(|chunk| chunk.entries.len()).sum::<usize>(), 1_000);
    assert!(chunks.iter().all(|chunk| {
        let of = |entry: Option<&Entry>| entry.map(|entry| floor(entry.time, CHUNK_SPAN));
        chunk.entries.len() <= 100 && of(chunk.entries.first()) == of(chunk.entries.last())
    }));
    assert_eq!(chunks[0].entries[0].name.as_deref(), Some("e1249"));
    assert_eq!(part.profile().event_count, 1_250);
}

fn texts() -> impl Strategy<Value = Option<Box<str>>> {
    proptest::option::of(".{1,20}".prop_map(String::into_boxed_str))
}

fn entries() -> impl Strategy<Value = Entry> {
    let numbers = (any::<i64>(), any::<bool>(), proptest::option::of(any::<i64>()), proptest::option::of(any::<i64>()));
    (numbers, "[a-f0-9]{0,20}", any::<u32>(), texts(), texts(), texts(), texts()).prop_map(
        |((time, is_log, status, duration), batch_id, record_index, name, service, route, severity)| Entry {
            time,
            kind: if is_log { EntryKind::Log } else { EntryKind::Activity },
            status,
            duration,
            batch_id: batch_id.into_boxed_str(),
            record_index,
            name,
            service,
            route,
            severity,
        },
    )
}

fn profiles() -> impl Strategy<Value = Profile> {
    let value = proptest::option::of((0i64..50, "[a-c]{1,2}".prop_map(String::into_boxed_str)));
    (0i64..100, 0i64..100, 1u64..9, 0u64..9, proptest::collection::vec(value, Profile::NAMES.len())).prop_map(
        |(first_seen, span, event_count, error_count, latest)| Profile {
            first_seen,
            last_seen: first_seen + span,
            event_count,
            error_count,
            latest: std::array::from_fn(|at| latest[at].clone()),
        },
    )
}

proptest! {
    #[test]
    fn chunks_in_any_order_are_one_timeline_in_as_few_chunks_as_hold_it(
        parts in proptest::collection::vec(proptest::collection::vec(entries(), 1..60), 0..5),
    ) {
        let chunk = |entries: &Vec<Entry>| Chunk { entries: entries.clone(), omitted_count: 1 };
        let chunks: Vec<Chunk> = parts.iter().map(chunk).collect();
        let one = merged(chunks.clone());
        prop_assert_eq!(&one, &merged(chunks.into_iter().rev().collect()));
        let entries: Vec<&Entry> = one.iter().flat_map(|chunk| &chunk.entries).collect();
        prop_assert_eq!(entries.len(), parts.iter().map(Vec::len).sum::<usize>());
        prop_assert!(entries.is_sorted_by(|newer, older| newer.time >= older.time));
        prop_assert_eq!(one.iter().map(|chunk| chunk.omitted_count).sum::<u64>(), parts.len() as u64);
        for chunk in &one {
            let stretch = |entry: &Entry| floor(entry.time, CHUNK_SPAN);
            prop_assert!(chunk.entries.iter().all(|entry| stretch(entry) == stretch(&chunk.entries[0])));
        }
    }

    #[test]
    fn chunks_are_read_back(entries in proptest::collection::vec(entries(), 0..8), omitted_count: u64) {
        let chunk = Chunk { entries, omitted_count };
        prop_assert_eq!(Chunk::from_bytes(&chunk.to_bytes()), Ok(chunk));
    }

    #[test]
    fn profiles_merge_in_any_order_and_are_read_back(one in profiles(), two in profiles(), three in profiles()) {
        let merge = |a: &Profile, b: &Profile| { let mut sum = a.clone(); sum.merge(b); sum };
        prop_assert_eq!(merge(&one, &two), merge(&two, &one));
        prop_assert_eq!(merge(&merge(&one, &two), &three), merge(&one, &merge(&two, &three)));
        prop_assert_eq!(Profile::from_bytes(&one.to_bytes()), Ok(one.clone()));
        prop_assert_eq!(merge(&Profile::default(), &one), one);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = Chunk::from_bytes(&[&[1], bytes.as_slice()].concat());
        let _ = Profile::from_bytes(&[&[1], bytes.as_slice()].concat());
    }
}
