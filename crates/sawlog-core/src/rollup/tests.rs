//! From events to rows of rollups.

use std::collections::HashMap;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type};
use proptest::prelude::*;

use super::*;
use crate::batch::{AgeLimits, Format, RawBatch};
use crate::rules::Rules;
use crate::schema::Table;
use crate::transform::transform;
use crate::window::floor;

const RECEIVED: i64 = 1_795_489_200_000_000;
const NOW: &str = "1795489200";

fn deltas_of(bodies: &[&str], series_max: usize) -> (Deltas, Admission) {
    let (mut deltas, mut admission) = (Deltas::default(), Admission::default());
    let options = RollupOptions { series_max, ..RollupOptions::default() };
    for body in bodies {
        let batch = RawBatch {
            batch_id: "b",
            source: "test",
            file: None,
            format: Format::Json,
            is_declared: true,
            receive_time: RECEIVED,
            age: AgeLimits::any_past(),
            body: body.as_bytes(),
        };
        let rows = transform(&batch, &Rules::none()).expect("a batch");
        for table in Table::ALL {
            deltas.add(table, &rows.tables[table as usize], RECEIVED, &options, &mut admission);
        }
    }
    (deltas, admission)
}

/// Rows of one rollup, in the order of their keys.
fn rows_of(deltas: &Deltas, rollup: Rollup, width: Width) -> RecordBatch {
    let mut found: Vec<(Vec<u8>, RollupRow)> = deltas
        .cells(width)
        .filter(|(prefix, ..)| prefix[0] == rollup.byte())
        .map(|(prefix, window_start, cell)| {
            let key = with_time(prefix, window_start);
            let (_, decoded) = decode(&key).expect("a key");
            assert_eq!((decoded.time, prefix_of(&key)), (window_start, prefix));
            let parts = decoded.parts;
            (key, RollupRow { parts, width, window_start, index: 0, timing: PaneTiming::Early, cell })
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    rollup_rows(rollup, found.iter().map(|(_, row)| row), false).expect("rows")
}

fn counts(rows: &RecordBatch, name: &str) -> Vec<i64> {
    rows.column_by_name(name).expect(name).as_primitive::<Int64Type>().values().to_vec()
}

fn numbers(rows: &RecordBatch, name: &str) -> Vec<Option<f64>> {
    rows.column_by_name(name).expect(name).as_primitive::<Float64Type>().iter().collect()
}

fn texts(rows: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let column = rows.column_by_name(name).expect(name).as_string::<i32>();
    column.iter().map(|text| text.map(ToOwned::to_owned)).collect()
}

#[test]
fn requests_are_counted_by_service_version_and_route() {
    let body = format!(
        "{{\"ts\":{NOW},\"service\":\"a\",\"version\":\"2\",\"level\":\"error\",\"path\":\"/x/1\",\"duration_ms\":100,\"bytes\":7}}\n\
         {{\"ts\":{NOW},\"service\":\"a\",\"version\":\"2\",\"level\":\"warn\",\"path\":\"/x/2\",\"duration_ms\":900,\"bytes\":-1}}\n\
         {{\"ts\":{NOW},\"service\":\"a\",\"version\":\"2\",\"path\":\"/x/3\",\"duration_ms\":9000}}\n\
         {{\"ts\":{NOW},\"service\":\"b\",\"message\":\"no request\"}}\n"
    );
    let rows = rows_of(&deltas_of(&[&body], 100).0, Rollup::Requests, Width::Minute);
    assert_eq!(texts(&rows, "service"), [Some("a".to_owned()), Some("b".to_owned())]);
    assert_eq!(texts(&rows, "http_route"), [Some("/x/{id}".to_owned()), None]);
    assert_eq!((counts(&rows, "count"), counts(&rows, "error_count")), (vec![3, 1], vec![1, 0]));
    assert_eq!((counts(&rows, "request_count"), counts(&rows, "bytes")), (vec![3, 0], vec![7, 0]));
    assert_eq!(numbers(&rows, "apdex"), [Some(0.5), None], "one satisfied, one tolerated, one frustrated");
    let median = numbers(&rows, "duration_p50_us");
    assert!((median[0].expect("a median") - 900_000.0).abs() <= 9_000.0 && median[1].is_none(), "no data is null");
}

#[test]
fn coarser_windows_are_the_sums_of_the_finer_ones() {
    let body: String = (0..500)
        .map(|at| {
            format!(
                "{{\"ts\":{},\"service\":\"a\",\"duration_ms\":{at},\"user_id\":\"u{}\"}}\n",
                1_795_489_100 - at * 7,
                at % 90
            )
        })
        .collect();
    let (deltas, _) = deltas_of(&[&body], 100);
    for width in Width::ALL {
        let rows = rows_of(&deltas, Rollup::Requests, width);
        assert_eq!(counts(&rows, "count").iter().sum::<i64>(), 500);
        assert_eq!(counts(&rows, "duration_count").iter().sum::<i64>(), 500);
    }
    let hours = rows_of(&deltas, Rollup::Users, Width::Hour);
    assert_eq!(hours.num_rows(), 2, "of everything and of the service, all within one hour");
    assert!(counts(&hours, "user_count").iter().all(|count| (84..=96).contains(count)));
}

#[test]
fn metrics_of_all_kinds_have_values_or_observations() {
    let body = format!(
        "{{\"ts\":{NOW},\"metric\":\"cpu\",\"value\":3,\"host\":\"h\",\"core\":\"0\"}}\n\
         {{\"ts\":{NOW},\"metric\":\"cpu\",\"value\":1,\"host\":\"h\",\"core\":\"1\"}}\n\
         {{\"ts\":{NOW},\"metric\":\"cpu\",\"value\":5,\"host\":\"h\",\"core\":\"1\"}}\n"
    );
    let rows = rows_of(&deltas_of(&[&body], 100).0, Rollup::Metrics, Width::TenSeconds);
    assert_eq!(texts(&rows, "series"), [Some("core=0".to_owned()), Some("core=1".to_owned())]);
    assert_eq!(
        (numbers(&rows, "sum"), numbers(&rows, "avg")),
        (vec![Some(3.0), Some(6.0)], vec![Some(3.0), Some(3.0)])
    );
    assert_eq!(
        (numbers(&rows, "min"), numbers(&rows, "max")),
        (vec![Some(3.0), Some(1.0)], vec![Some(3.0), Some(5.0)])
    );
    assert_eq!(counts(&rows, "observation_count"), [0, 0]);
}

#[test]
fn the_most_frequent_routes_users_and_errors_are_listed() {
    let line = |path: &str, user: &str, level: &str, message: &str| {
        format!(
            "{{\"ts\":{NOW},\"service\":\"shop\",\"path\":\"{path}\",\"user_id\":\"{user}\",\"level\":\"{level}\",\"message\":\"{message}\"}}\n"
        )
    };
    let body = [
        line("/cart/1", "u1", "error", "order 5 failed"),
        line("/cart/2", "u1", "error", "order 6 failed"),
        line("/home", "u2", "info", "fine"),
    ]
    .concat();
    let rows = rows_of(&deltas_of(&[&body], 100).0, Rollup::Top, Width::Hour);
    let dimension = texts(&rows, "dimension");
    let rank = rows.column_by_name("rank").expect("ranks").as_primitive::<Int32Type>();
    let value = texts(&rows, "value");
    let first: HashMap<_, _> = (0..rows.num_rows())
        .filter(|&row| rank.value(row) == 1)
        .map(|row| {
            (
                dimension[row].clone().expect("a dimension"),
                (value[row].clone().expect("a value"), counts(&rows, "count")[row]),
            )
        })
        .collect();
    assert_eq!(first["route"], ("/cart/{id}".to_owned(), 2));
    assert_eq!(first["user"], ("u1".to_owned(), 2));
    assert_eq!(first["error"], ("shop: order <num> failed".to_owned(), 2));
}

#[test]
fn series_beyond_the_limit_are_counted_together() {
    let body: String = (0..50).map(|at| format!("{{\"ts\":{NOW},\"service\":\"s{at}\"}}\n")).collect();
    let (deltas, admission) = deltas_of(&[&body], 10);
    let rows = rows_of(&deltas, Rollup::Requests, Width::Hour);
    assert_eq!((rows.num_rows(), counts(&rows, "count").iter().sum::<i64>()), (11, 50));
    let other = texts(&rows, "service").iter().position(|service| service.as_deref() == Some(OTHER)).expect("others");
    assert_eq!((counts(&rows, "count")[other], admission.counts(Rollup::Requests)), (40, (10, 40)));
}

#[test]
fn what_is_merged_again_and_again_takes_the_memory_of_once() {
    let body: String =
        (0..50).map(|at| format!("{{\"ts\":{NOW},\"service\":\"s{at}\",\"user_id\":\"u\"}}\n")).collect();
    let (one, _) = deltas_of(&[&body], 100);
    let mut sum = Deltas::default();
    (0..100).for_each(|_| sum.merge(one.clone()));
    // A copy has no room to spare.
    let (found, once) = (sum.memory_bytes(), one.memory_bytes());
    assert!(found <= once && found > once / 2, "{found} for {once}");
}

#[test]
fn cells_put_one_by_one_are_what_was_counted() {
    let body = |ts: i64| format!("{{\"ts\":{ts},\"service\":\"s\",\"user_id\":\"u\",\"severity\":\"ERROR\"}}\n");
    let start: i64 = NOW.parse().expect("a number");
    let bodies: Vec<String> = (0..40).map(|at| body(start + at * 7)).collect();
    let (whole, _) = deltas_of(&bodies.iter().map(String::as_str).collect::<Vec<_>>(), 100);
    let mut sum = Deltas::default();
    // Each body is counted alone, as workers of Beam do.
    for body in &bodies {
        let (one, _) = deltas_of(&[body], 100);
        for (key, start, cell) in one.cells(Width::TenSeconds) {
            sum.put(key, start, cell);
        }
    }
    for width in Width::ALL {
        for rollup in [Rollup::Requests, Rollup::Users] {
            let rows = rows_of(&sum, rollup, width);
            assert_eq!(rows, rows_of(&whole, rollup, width), "{rollup:?} {width:?}");
        }
        assert_eq!(counts(&rows_of(&sum, Rollup::Requests, width), "count").iter().sum::<i64>(), 40);
    }
    // Sketches that are merged have less room to spare.
    let (found, counted) = (sum.memory_bytes(), whole.memory_bytes());
    assert!(found <= counted && found > counted / 2, "{found} for {counted}");
}

/// Every column that this module's code names is in [`columns_read`], and nothing else: a recount reads no others.
#[test]
fn the_columns_that_are_read_are_those_that_are_named() {
    let code = include_str!("deltas.rs");
    let (code, list) = code.split_once("pub const fn columns_read").expect("the list stands behind the code");
    for table in [Table::Logs, Table::Metrics, Table::Activity] {
        let schema = table.schema();
        for name in columns_read(table) {
            assert!(schema.field_with_name(name).is_ok() && code.contains(&format!("\"{name}\"")), "{name}");
        }
    }
    let named: std::collections::HashSet<&str> = code.split('"').skip(1).step_by(2).collect();
    for table in [Table::Logs, Table::Metrics, Table::Activity] {
        let names = table.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        for name in names.iter().filter(|name| named.contains(name.as_str())) {
            assert!(list.contains(&format!("\"{name}\"")), "{name} of {table:?} is read and not listed");
        }
    }
}

#[test]
fn schemas_name_each_column_once_and_panes_are_partitioned() {
    for rollup in Rollup::ALL {
        let names: Vec<String> = pane_schema(rollup).fields().iter().map(|field| field.name().clone()).collect();
        let distinct: std::collections::HashSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
        assert_eq!(names.last().map(String::as_str), Some(crate::schema::PARTITION_COLUMN));
        assert!(rollup_rows(rollup, [], true).is_ok() && rollup_rows(rollup, [], false).is_ok());
    }
}

proptest! {
    #[test]
    fn the_cells_of_a_range_are_those_of_all_that_start_in_it(events in proptest::collection::vec(event(), 1..40), from in -9_000i64..100, length in 0i64..9_000) {
        let line = |&(back, service, ..): &(i64, u8, u16, bool)| {
            format!("{{\"ts\":{},\"service\":\"s{service}\",\"user_id\":\"u\"}}\n", 1_795_489_200 - back)
        };
        let (deltas, _) = deltas_of(&[&events.iter().map(line).collect::<String>()], 100);
        let start = RECEIVED + from * 1_000_000;
        for range in [start..start + length * 1_000_000, i64::MIN..i64::MAX, i64::MIN..start, start..i64::MAX] {
            for (rollup, width) in [(Rollup::Requests, Width::Minute), (Rollup::Users, Width::Hour)] {
                let sorted = |mut cells: Vec<(Vec<u8>, i64, Cell)>| {
                    cells.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
                    cells
                };
                let own = |(prefix, start, cell): (&[u8], i64, Cell)| (prefix.to_vec(), start, cell);
                let all = deltas.cells(width).filter(|(prefix, start, _)| prefix[0] == rollup.byte() && range.contains(start));
                prop_assert_eq!(sorted(deltas.cells_of(rollup, width, range.clone()).map(own).collect()), sorted(all.map(own).collect()));
            }
        }
    }
}

fn event() -> impl Strategy<Value = (i64, u8, u16, bool)> {
    (0i64..8_000, 0u8..3, 0u16..2_000, any::<bool>())
}

proptest! {
    /// A naive recount: every event by its own window and key.
    #[test]
    fn any_split_and_order_of_events_gives_the_counts_of_a_recount(events in proptest::collection::vec(event(), 1..80), cut in 0usize..80) {
        let line = |&(back, service, duration, is_error): &(i64, u8, u16, bool)| {
            let level = if is_error { "error" } else { "info" };
            format!("{{\"ts\":{},\"service\":\"s{service}\",\"level\":\"{level}\",\"duration_ms\":{duration}}}\n", 1_795_489_200 - back)
        };
        let cut = cut.min(events.len());
        let bodies: Vec<String> = [&events[cut..], &events[..cut]].into_iter().map(|part| part.iter().map(line).collect()).collect();
        let (deltas, _) = deltas_of(&bodies.iter().map(String::as_str).collect::<Vec<_>>(), 100);
        for width in Width::ALL {
            let mut expected: HashMap<(String, i64), (u64, u64, u64)> = HashMap::new();
            for (back, service, duration, is_error) in &events {
                let start = floor(RECEIVED - back * 1_000_000, width.micros());
                let sums = expected.entry((format!("s{service}"), start)).or_default();
                sums.0 += 1;
                sums.1 += u64::from(*is_error);
                sums.2 += u64::from(*duration <= 500);
            }
            let found: HashMap<(String, i64), (u64, u64, u64)> = deltas
                .cells(width)
                .filter_map(|(prefix, start, cell)| match cell {
                    Cell::Requests(cell) => {
                        let (_, key) = decode(&with_time(prefix, start))?;
                        Some(((key.parts[0].clone()?, start), (cell.count, cell.error_count, cell.satisfied_count)))
                    }
                    _ => None,
                })
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
