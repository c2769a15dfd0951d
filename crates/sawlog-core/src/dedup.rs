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
    use crate::batch::Format;
    use crate::rules::Rules;
    use crate::shown::batch;
    use crate::transform::{Transformed, transform};

    fn run(source: &str, lines: &[&str]) -> Transformed {
        transform(&batch(Format::Json, source, &lines.join("\n")), &Rules::none()).expect("lines can be split")
    }

    #[test]
    fn an_id_counts_within_its_source_and_table() {
        let line = r#"{"insert_id":"1","message":"a"}"#;
        let id = |source: &str, line: &str| run(source, &[line]).ids[0].id;
        assert_eq!(id("a", line), id("a", line));
        assert_ne!(id("a", line), id("b", line));
        let activity = r#"{"insert_id":"1","event":"e","user_id":"u"}"#;
        assert_ne!(id("a", line), id("a", activity));
        assert_eq!(run("a", &[line, activity]).counts.stored, 2);
    }
}
