//! Columns in the form in which BigQuery takes them.
//!
//! For: what every writer of a dataset agrees on, the binary and Beam alike: attributes as JSON, whole numbers of one width, no
//! missing lists. Not for: statements, requests, or columns of structures.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, Int64Array, ListArray, MapArray, StringArray};
use arrow_schema::{ArrowError, DataType, Field, TimeUnit};

/// Maps, and the columns with a letter for the type of each of their values, in the order of the map.
pub const TYPED_MAPS: [(&str, &str); 2] = [("attributes", "attribute_types"), ("resource", "resource_types")];

/// Whether a column of that type is JSON in BigQuery.
#[must_use]
pub fn is_json(data_type: &DataType) -> bool {
    match data_type {
        DataType::Map(..) | DataType::Struct(_) => true,
        DataType::List(element) => is_json(element.data_type()),
        _ => false,
    }
}

/// The type of a column in GoogleSQL; `None` where there is none.
#[must_use]
pub fn sql_type(data_type: &DataType) -> Option<String> {
    let name = match data_type {
        DataType::Utf8 => "STRING",
        DataType::Int32 | DataType::Int64 => "INT64",
        DataType::Float64 => "FLOAT64",
        DataType::Boolean => "BOOL",
        DataType::Binary => "BYTES",
        DataType::Date32 => "DATE",
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "TIMESTAMP",
        nested if is_json(nested) => "JSON",
        DataType::List(element) => return Some(format!("ARRAY<{}>", sql_type(element.data_type())?)),
        _ => return None,
    };
    Some(name.to_owned())
}

/// Whether a column of a table must have a value: arrays and attributes that are absent are empty.
#[must_use]
pub fn is_required(field: &Field) -> bool {
    !field.is_nullable() && !matches!(field.data_type(), DataType::List(_) | DataType::Map(..))
}

/// A column as it is announced to BigQuery; JSON is sent as text.
#[must_use]
pub fn field(field: &Field) -> Field {
    match field.data_type() {
        other if is_json(other) => Field::new(field.name(), DataType::Utf8, true),
        DataType::Int32 => Field::new(field.name(), DataType::Int64, field.is_nullable()),
        other => Field::new(field.name(), other.clone(), field.is_nullable()),
    }
}

/// A column in the type of [`field`]; `None` for structures, which are sent as JSON by their fields' names.
///
/// # Errors
/// When Arrow refuses the column; a defect of this module.
pub fn column(column: &ArrayRef) -> Result<Option<ArrayRef>, ArrowError> {
    Ok(Some(match column.data_type() {
        DataType::Map(..) => objects(column.as_map()),
        nested if is_json(nested) => return Ok(None),
        DataType::Int32 => {
            let values = column.as_primitive::<Int32Type>().iter().map(|value| value.map(i64::from));
            Arc::new(Int64Array::from_iter(values))
        }
        DataType::List(field) => {
            // There are no arrays that are null; an absent one is empty.
            let (list, element): (&ListArray, _) = (column.as_list(), Arc::clone(field));
            Arc::new(ListArray::try_new(element, list.offsets().clone(), Arc::clone(list.values()), None)?)
        }
        _ => Arc::clone(column),
    }))
}

/// Letters of maps' values in the order that the maps have as objects: that of the keys, each once. A text that has not a
/// letter for each value stays.
#[must_use]
pub fn letters(maps: &MapArray, types: &StringArray) -> ArrayRef {
    let keys = maps.keys().as_string::<i32>();
    let letters = types.iter().enumerate().map(|(row, letters)| {
        let letters = letters?;
        let range = maps.value_offsets()[row] as usize..maps.value_offsets()[row + 1] as usize;
        if letters.len() != range.len() {
            return Some(letters.to_owned());
        }
        let letters = letters.as_bytes();
        let by_key: BTreeMap<&str, Option<&u8>> =
            range.enumerate().map(|(place, entry)| (keys.value(entry), letters.get(place))).collect();
        Some(by_key.into_values().flatten().map(|letter| char::from(*letter)).collect::<String>())
    });
    Arc::new(letters.collect::<StringArray>())
}

/// Each map as a JSON object, its keys sorted.
fn objects(maps: &MapArray) -> ArrayRef {
    let (keys, values) = (maps.keys().as_string::<i32>(), maps.values().as_string::<i32>());
    let mut objects = StringBuilder::new();
    for row in 0..maps.len() {
        if maps.is_null(row) {
            objects.append_null();
            continue;
        }
        let range = maps.value_offsets()[row] as usize..maps.value_offsets()[row + 1] as usize;
        let entries: BTreeMap<&str, Option<&str>> =
            range.map(|entry| (keys.value(entry), values.is_valid(entry).then(|| values.value(entry)))).collect();
        // Texts are always JSON.
        objects.append_value(serde_json::to_string(&entries).unwrap_or_default());
    }
    Arc::new(objects.finish())
}

#[cfg(test)]
mod tests {
    use arrow_array::builder::MapBuilder;

    use super::*;

    #[test]
    fn letters_of_types_stay_with_their_values() {
        let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for (key, value) in [("team", "a"), ("nested", "[1]"), ("team", "b")] {
            maps.keys().append_value(key);
            maps.values().append_value(value);
        }
        maps.append(true).expect("as many keys as values");
        maps.append(false).expect("none");
        let (maps, types) = (maps.finish(), StringArray::from(vec![Some("tji"), None]));
        assert_eq!(objects(&maps).as_string::<i32>().value(0), "{\"nested\":\"[1]\",\"team\":\"b\"}");
        let letters = letters(&maps, &types);
        assert_eq!(letters.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("ji"), None]);
    }
}
