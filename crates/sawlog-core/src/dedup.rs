//! Dropping repeated rows from a batch.
//!
//! For: deciding between records of one id that are seen together, and removing rows that a wider dedup found to be
//! repeats. Not for: remembering ids between batches ([`sawlog-stream`]). Rule: of two records with one id the one
//! with the smaller payload hash wins, the earlier one on a tie.

use std::collections::HashMap;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_buffer::BooleanBuffer;
use arrow_schema::ArrowError;

use crate::ledger::Outcome;
use crate::schema::Table;
use crate::transform::{RowId, TransformError, Transformed};

/// Resolves repeats inside one transformed batch and notes the ids of the rows that stay.
pub(crate) fn without_repeats(
    mut transformed: Transformed,
    ids: impl Iterator<Item = (RowId, u64)>,
) -> Result<Transformed, TransformError> {
    let mut winners: HashMap<u128, (RowId, u64)> = HashMap::new();
    let mut order = Vec::new();
    let mut losers = Vec::new();
    for (row_id, hash) in ids {
        match winners.get_mut(&row_id.id) {
            None => {
                order.push(row_id.id);
                winners.insert(row_id.id, (row_id, hash));
            }
            Some(winner) if hash < winner.1 => {
                losers.push(winner.0);
                *winner = (row_id, hash);
            }
            Some(_) => losers.push(row_id),
        }
    }
    transformed.ids = order.iter().map(|id| winners[id].0).collect();
    transformed.remove_rows(&losers)?;
    Ok(transformed)
}

impl Transformed {
    /// Removes rows as duplicates and counts them; the ids of the rows that stay are renumbered.
    ///
    /// # Errors
    /// When Arrow refuses to filter; a defect of this crate.
    pub fn remove_rows(&mut self, rows: &[RowId]) -> Result<(), ArrowError> {
        if rows.is_empty() {
            return Ok(());
        }
        for table in Table::ALL {
            let batch = &mut self.tables[table as usize];
            let mut keep = vec![true; batch.num_rows()];
            let mut removed: u64 = 0;
            for row_id in rows.iter().filter(|row_id| row_id.table == table) {
                removed += u64::from(std::mem::replace(&mut keep[row_id.row], false));
                self.outcomes[row_id.record_index] = Outcome::Duplicate;
            }
            if removed == 0 {
                continue;
            }
            self.counts.stored -= removed;
            self.counts.duplicate += removed;
            renumber(&mut self.ids, table, &keep);
            *batch = filter(batch, keep)?;
        }
        Ok(())
    }
}

fn renumber(ids: &mut Vec<RowId>, table: Table, keep: &[bool]) {
    let new_index: Vec<usize> = keep
        .iter()
        .scan(0, |next, &kept| {
            let index = *next;
            *next += usize::from(kept);
            Some(index)
        })
        .collect();
    ids.retain(|id| id.table != table || keep[id.row]);
    for id in ids.iter_mut().filter(|id| id.table == table) {
        id.row = new_index[id.row];
    }
}

fn filter(batch: &RecordBatch, keep: Vec<bool>) -> Result<RecordBatch, ArrowError> {
    let keep = BooleanArray::new(BooleanBuffer::from(keep), None);
    arrow_select::filter::filter_record_batch(batch, &keep)
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64;

    use crate::batch::Format;
    use crate::ledger::Outcome;
    use crate::rules::Rules;
    use crate::shown::{batch, show};
    use crate::transform::{Transformed, transform};

    fn run(source: &str, lines: &[&str]) -> Transformed {
        transform(&batch(Format::Json, source, &lines.join("\n")), &Rules::none()).expect("lines can be split")
    }

    /// Two records of one id, the one with the smaller payload hash first.
    fn by_hash() -> [&'static str; 2] {
        let mut lines = [r#"{"insert_id":"1","message":"a"}"#, r#"{"insert_id":"1","message":"b"}"#];
        lines.sort_by_key(|line| xxh3_64(line.as_bytes()));
        lines
    }

    #[test]
    fn of_two_records_with_one_id_the_smaller_payload_hash_wins_in_any_order() {
        let [winner, loser] = by_hash();
        let wanted = show(&run("s", &[winner]));
        for (lines, outcomes) in [
            ([winner, loser], [Outcome::Stored, Outcome::Duplicate]),
            ([loser, winner], [Outcome::Duplicate, Outcome::Stored]),
        ] {
            let rows = run("s", &lines);
            assert_eq!(show(&rows), wanted);
            assert_eq!(rows.outcomes, outcomes);
            assert_eq!((rows.counts.stored, rows.counts.duplicate), (1, 1));
            assert_eq!((rows.ids.len(), rows.ids[0].row), (1, 0));
        }
    }

    #[test]
    fn of_two_equal_records_the_earlier_stays() {
        let [line, other] = by_hash();
        let rows = run("s", &[other, line, line]);
        assert_eq!(rows.outcomes, [Outcome::Duplicate, Outcome::Stored, Outcome::Duplicate]);
        assert_eq!(rows.ids[0].record_index, 1);
    }

    #[test]
    fn rows_between_repeats_keep_their_ids_and_places() {
        let [winner, loser] = by_hash();
        let (second, none) = (r#"{"insert_id":"2"}"#, r#"{"message":"no id"}"#);
        let rows = run("s", &[loser, none, second, winner, second]);
        assert_eq!(show(&rows), show(&run("s", &[none, second, winner])));
        let places: Vec<_> = rows.ids.iter().map(|id| (id.record_index, id.row)).collect();
        assert_eq!(places, [(3, 2), (2, 1)]);
    }

    #[test]
    fn an_id_counts_within_its_source_and_table() {
        let [line, _] = by_hash();
        let id = |source: &str, line: &str| run(source, &[line]).ids[0].id;
        assert_eq!(id("a", line), id("a", line));
        assert_ne!(id("a", line), id("b", line));
        let activity = r#"{"insert_id":"1","event":"e","user_id":"u"}"#;
        assert_ne!(id("a", line), id("a", activity));
        assert_eq!(run("a", &[line, activity]).counts.stored, 2);
    }
}
