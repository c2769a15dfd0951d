//! What must hold for any bytes in any format. Shared by the property tests and the fuzz targets.

use std::sync::LazyLock;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use sawlog_core::batch::{self, AgeLimits, Format, RawBatch};
use sawlog_core::lake;
use sawlog_core::ledger::{Counts, Outcome};
use sawlog_core::rollup::{Admission, Cell, Deltas, Rollup, RollupOptions, Width};
use sawlog_core::rules::{RedactAt, RedactConfig, Rules, RulesConfig, UsersConfig};
use sawlog_core::schema::Table;
use sawlog_core::signature;
use sawlog_core::transform::{Transformed, transform};

/// 2026-11-24T03:00:00Z
const RECEIVED: i64 = 1_795_489_200_000_000;

/// Rules of every sort, so that they meet any record too.
static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let mut config = RulesConfig::default();
    config.defaults.environment = Some("test".to_owned());
    let (name, pattern) = ("digits".to_owned(), "[0-9]{3}".to_owned());
    config.redact.push(RedactConfig { name, pattern, replace: None, at: RedactAt::default() });
    config.users.push(UsersConfig { name: "users".to_owned(), file: "users.csv".to_owned() });
    Rules::compile(&config, &|_| Ok("user_id,user_segment,country\nu1,gold,DE\n7,,FR\n".to_owned()))
        .expect("the rules are right")
});

fn raw(format: Format, body: &[u8]) -> RawBatch<'_> {
    RawBatch {
        batch_id: "b",
        source: "test",
        file: None,
        format,
        is_declared: true,
        receive_time: RECEIVED,
        age: AgeLimits::default(),
        body,
    }
}

fn run(format: Format, body: &[u8]) -> Option<Transformed> {
    match transform(&raw(format, body), &RULES) {
        Ok(transformed) => Some(transformed),
        Err(error) => {
            assert!(!format.is_lines(), "lines can always be split: {error}");
            None
        }
    }
}

/// Transforms a body and checks that every record is counted in one outcome and has its row, that a second run gives
/// the same, that nothing is left of what is to be redacted, and that a good record before and after keeps its row.
pub(crate) fn check(format: Format, body: &[u8]) {
    let Some(first) = run(format, body) else { return };
    let spans = batch::split(format, body).expect("it was split before");
    let counts = first.counts;
    assert!(counts.closes(), "{counts:?}");
    assert_eq!(counts.received, spans.len() as u64);
    let rows = |table: Table| first.tables[table as usize].num_rows() as u64;
    assert_eq!(counts.stored, rows(Table::Logs) + rows(Table::Metrics) + rows(Table::Activity));
    assert_eq!(counts.dead_lettered, rows(Table::DeadLetters));
    let second = run(format, body).expect("it was transformed before");
    assert_eq!((first.counts, &first.tables, &first.ids), (second.counts, &second.tables, &second.ids));
    for table in [Table::Logs, Table::Metrics, Table::Activity] {
        check_redacted(&first.tables[table as usize]);
    }
    check_signatures(&first.tables[Table::Logs as usize]);
    check_rollups(&first);
    check_lake(&raw(format, body), &first);
    if format.is_lines() && body.trim_ascii_start().first() != Some(&b'[') {
        check_neighbours(format, body, &first);
    }
}

/// The rows of the lake give the rows of the body, read together or one by one.
fn check_lake(raw: &RawBatch<'_>, whole: &Transformed) {
    let stored = lake::rows(&[*raw]).expect("it was split before");
    let again = lake::transform(&stored, raw.age, &RULES).expect("rows of the lake");
    assert_eq!((again.counts, &again.tables, &again.ids), (whole.counts, &whole.tables, &whole.ids));
    let mut counts = Counts::default();
    for row in 0..stored.num_rows() {
        let one = lake::transform(&stored.slice(row, 1), raw.age, &RULES).expect("a row of the lake");
        let is_repeat = whole.outcomes[row] == Outcome::Duplicate;
        assert!(one.outcomes[0] == whole.outcomes[row] || is_repeat, "row {row}: {:?}", one.outcomes);
        counts += one.counts;
    }
    assert_eq!(counts.stored, whole.counts.stored + whole.counts.duplicate);
}

/// Whatever the events say, their cells have bytes that are read back, and keep every log record.
fn check_rollups(rows: &Transformed) {
    let (mut deltas, mut admission) = (Deltas::default(), Admission::default());
    for table in Table::ALL {
        let batch = &rows.tables[table as usize];
        deltas.add(table, batch, RECEIVED, &RollupOptions::default(), &mut admission);
    }
    let mut log_count = 0;
    for (prefix, _, cell) in deltas.cells(Width::Hour) {
        let rollup = Rollup::of_byte(prefix[0]).expect("a rollup");
        let mut bytes = Vec::new();
        cell.write_to(&mut bytes);
        sawlog_core::rollup::merge(rollup, &bytes, &bytes).expect("a cell merges with itself");
        assert_eq!(Cell::from_bytes(rollup, &bytes).expect("a cell"), cell);
        if let Cell::Requests(cell) = cell {
            log_count += cell.count;
        }
    }
    assert_eq!(log_count, rows.tables[Table::Logs as usize].num_rows() as u64);
}

/// A log row has a signature where it has a message, and it is that of the message in the row.
fn check_signatures(logs: &RecordBatch) {
    let column = |name: &str| logs.column_by_name(name).expect("a column").as_string::<i32>();
    for (message, found) in column("message").iter().zip(column("signature")) {
        assert_eq!(found, message.map(|message| format!("{:016x}", signature::signature(message))).as_deref());
    }
}

/// No three digits in a row are left in what a sender wrote. The other texts are words of the program or of the batch.
fn check_redacted(rows: &RecordBatch) {
    const OTHERS: [&str; 6] = ["source", "format", "log_file", "batch_id", "temporality", "signature"];
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        let texts = match column.as_map_opt() {
            Some(map) => map.values().as_string_opt::<i32>(),
            None => column.as_string_opt::<i32>(),
        };
        let Some(texts) = texts.filter(|_| !OTHERS.contains(&field.name().as_str())) else { continue };
        for text in (0..texts.len()).filter(|row| texts.is_valid(*row)).map(|row| texts.value(row)) {
            let is_redacted = !text.as_bytes().windows(3).any(|three| three.iter().all(u8::is_ascii_digit));
            assert!(is_redacted, "{} is {text:?}", field.name());
        }
    }
}

fn check_neighbours(format: Format, body: &[u8], alone: &Transformed) {
    let good: &[u8] = match format {
        Format::Json => b"{\"message\":\"a good neighbour\"}",
        Format::Access => b"10.0.0.1 - - [24/Nov/2026:02:59:00 +0000] \"GET / HTTP/1.1\" 200 5",
        Format::Syslog => b"<13>1 2026-11-24T02:59:00Z host app - - - a good neighbour",
        _ => b"message=neighbour level=info",
    };
    let between = run(format, &[good, b"\n", body, b"\n", good].concat()).expect("lines can be split");
    assert_eq!(between.counts.received, alone.counts.received + 2);
    assert_eq!(between.counts.stored, alone.counts.stored + 2, "the neighbours are stored");
}
