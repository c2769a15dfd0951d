//! Which fields rows have: names, types, how often, and their most frequent values.
//!
//! For: a list of fields to choose from, made of the newest rows that pass a filter. Not for: exact counts over much
//! history, which are SQL's. Rows, fields, distinct values and lengths are bounded.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::engine::QueryEngine;
use crate::search::{Search, SearchError};

/// Rows that are looked at.
pub const SAMPLE_ROWS: usize = 5_000;
/// Attributes that are told of.
const ATTRIBUTES_MAX: usize = 500;
/// Distinct values of a field that are counted; what comes after them is not.
const VALUES_MAX: usize = 1_000;
/// Characters of a value that are told.
const VALUE_CHARS_MAX: usize = 200;
/// Values told of a field.
const TOP: usize = 10;

/// Fields of the rows that were looked at.
#[derive(Debug)]
pub struct FieldSummary {
    /// How many rows were looked at.
    pub row_count: usize,
    /// Whether there are more rows than were looked at.
    pub is_sample: bool,
    /// Columns in the order of the table, then attributes by their name.
    pub fields: Vec<FieldStatistics>,
}

/// One field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldStatistics {
    /// Name in a filter.
    pub name: String,
    /// Whether it is an attribute rather than a column.
    pub is_attribute: bool,
    /// Types of its values.
    pub types: Vec<&'static str>,
    /// Rows that have it.
    pub row_count: u64,
    /// The most frequent values and how many rows have them.
    pub values: Vec<(String, u64)>,
}

impl QueryEngine {
    /// The fields of the newest rows that a search finds; its limit, cursor and columns do not matter.
    ///
    /// # Errors
    /// As [`QueryEngine::search`].
    pub async fn fields(&self, search: &Search) -> Result<FieldSummary, SearchError> {
        let sample = Search {
            limit: SAMPLE_ROWS.min(self.limits.rows_max),
            cursor: None,
            columns: Vec::new(),
            ..search.clone()
        };
        let page = self.search(&sample).await?;
        let (schema, batches) = (page.result.schema.clone(), page.result.batches);
        let row_count = batches.iter().map(RecordBatch::num_rows).sum();
        let counted = tokio::task::spawn_blocking(move || count(&schema, &batches)).await;
        let fields = counted.map_err(|_| SearchError::Query(crate::engine::QueryError::Stopped))?;
        Ok(FieldSummary { row_count, is_sample: page.next.is_some(), fields })
    }
}

#[derive(Default)]
struct Tally {
    types: Vec<&'static str>,
    row_count: u64,
    values: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, value: &str) {
        self.row_count += 1;
        let value: String = value.chars().take(VALUE_CHARS_MAX).collect();
        let is_full = self.values.len() >= VALUES_MAX;
        match self.values.entry(value) {
            Entry::Occupied(mut count) => *count.get_mut() += 1,
            Entry::Vacant(place) if !is_full => {
                place.insert(1);
            }
            Entry::Vacant(_) => {}
        }
    }

    fn statistics(self, name: String, is_attribute: bool) -> FieldStatistics {
        let mut values: Vec<(String, u64)> = self.values.into_iter().collect();
        values.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
        values.truncate(TOP);
        FieldStatistics { name, is_attribute, types: self.types, row_count: self.row_count, values }
    }
}

fn count(schema: &SchemaRef, batches: &[RecordBatch]) -> Vec<FieldStatistics> {
    let mut found = Vec::new();
    let mut attributes: BTreeMap<String, Tally> = BTreeMap::new();
    for (index, field) in schema.fields().iter().enumerate() {
        if matches!(field.data_type(), DataType::Map(..)) {
            let types = schema.index_of(if field.name() == "resource" { "resource_types" } else { "attribute_types" });
            for batch in batches {
                let types = types.as_ref().ok().map(|at| batch.column(*at));
                count_map(batch.column(index), types, &mut attributes);
            }
            continue;
        }
        let mut tally = Tally { types: vec![type_name(field.data_type())], ..Tally::default() };
        for batch in batches {
            count_column(batch.column(index), &mut tally);
        }
        found.push(tally.statistics(field.name().clone(), false));
    }
    found.extend(attributes.into_iter().map(|(name, tally)| tally.statistics(name, true)));
    found
}

fn count_column(column: &ArrayRef, tally: &mut Tally) {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options).ok();
    // Values of times and blobs are no choice to click on.
    let has_values = !matches!(column.data_type(), DataType::Timestamp(..) | DataType::Binary | DataType::List(_));
    for row in (0..column.len()).filter(|row| !column.is_null(*row)) {
        match formatter.as_ref().filter(|_| has_values) {
            Some(formatter) => tally.add(&formatter.value(row).to_string()),
            None => tally.row_count += 1,
        }
    }
}

fn count_map(column: &ArrayRef, types: Option<&ArrayRef>, attributes: &mut BTreeMap<String, Tally>) {
    let maps = column.as_map();
    let types = types.and_then(|types| arrow::compute::cast(types, &DataType::Utf8).ok());
    for row in (0..maps.len()).filter(|row| !maps.is_null(*row)) {
        let entries = maps.value(row);
        let text = |at: usize| arrow::compute::cast(entries.column(at), &DataType::Utf8).ok();
        let (Some(keys), Some(values)) = (text(0), text(1)) else { continue };
        let (keys, values) = (keys.as_string::<i32>(), values.as_string::<i32>());
        let letters = types.as_ref().map(|types| types.as_string::<i32>()).filter(|types| !types.is_null(row));
        let letters = letters.map_or(&b""[..], |types| types.value(row).as_bytes());
        for entry in 0..keys.len() {
            let key = keys.value(entry);
            if attributes.len() >= ATTRIBUTES_MAX && !attributes.contains_key(key) {
                continue;
            }
            let tally = attributes.entry(key.to_owned()).or_default();
            let name = letters.get(entry).map_or("text", |letter| letter_name(*letter));
            if !tally.types.contains(&name) {
                tally.types.push(name);
            }
            if values.is_null(entry) { tally.row_count += 1 } else { tally.add(values.value(entry)) }
        }
    }
}

const fn letter_name(letter: u8) -> &'static str {
    match letter {
        b'i' => "integer",
        b'd' => "number",
        b'b' => "boolean",
        b'j' => "json",
        b'x' => "bytes",
        b'n' => "null",
        _ => "text",
    }
}

const fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "boolean",
        DataType::Int32 | DataType::Int64 => "integer",
        DataType::Float64 => "number",
        DataType::Timestamp(..) => "time",
        DataType::Date32 => "date",
        DataType::List(_) => "list",
        DataType::Binary => "bytes",
        _ => "text",
    }
}
