//! Rows out of the chunks of a stream.
//!
//! For: the rules of `ReadRowsResponse.CellChunk`: what a chunk leaves out is that of the one before it, a value may come
//! in parts, and a row counts once it is committed. Not for: which of a cell's versions count ([`super::cells`]).

use bytes::{Bytes, BytesMut};
use googleapis_tonic_google_bigtable_v2::google::bigtable::v2::read_rows_response::CellChunk;
use googleapis_tonic_google_bigtable_v2::google::bigtable::v2::read_rows_response::cell_chunk::RowStatus;

use super::error::BigtableError;

/// A version of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) family: String,
    pub(super) column: Vec<u8>,
    /// UTC microseconds.
    pub(super) time: i64,
    pub(super) value: Bytes,
}

/// A row with its versions, those of a column newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: Bytes,
    pub(super) versions: Vec<Version>,
}

impl Row {
    /// Bytes of keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.key.len() + self.versions.iter().map(|version| version.value.len()).sum::<usize>()
    }
}

/// Puts chunks together. One for each stream: a new stream begins with a new row.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    row: Row,
    /// The version whose value has not come completely, and its value so far.
    partial: Option<(Version, BytesMut)>,
    /// Whether a row has begun.
    is_open: bool,
}

impl Assembly {
    /// Takes a chunk; gives the row that it ends.
    pub(super) fn push(&mut self, chunk: CellChunk) -> Result<Option<Row>, BigtableError> {
        if let Some(RowStatus::ResetRow(_)) = chunk.row_status {
            *self = Self::default();
            return Ok(None);
        }
        let damaged = |problem: &str| BigtableError::Damaged(problem.to_owned());
        if !self.is_open {
            if chunk.row_key.is_empty() {
                return Err(damaged("a row without a key"));
            }
            self.is_open = true;
            self.row.key = chunk.row_key.clone();
        } else if !chunk.row_key.is_empty() && chunk.row_key != self.row.key {
            return Err(damaged("a row that begins before the last one has ended"));
        }
        let (version, mut value) = match self.partial.take() {
            Some(partial) => partial,
            None => {
                let last = self.row.versions.last();
                let family = chunk.family_name.or_else(|| last.map(|last| last.family.clone()));
                let column = chunk.qualifier.or_else(|| last.map(|last| last.column.clone()));
                let (family, column) = family.zip(column).ok_or_else(|| damaged("a cell without a column"))?;
                (Version { family, column, time: chunk.timestamp_micros, value: Bytes::new() }, BytesMut::new())
            }
        };
        let is_whole = chunk.value_size == 0;
        if value.is_empty() && is_whole {
            self.row.versions.push(Version { value: chunk.value, ..version });
        } else {
            value.extend_from_slice(&chunk.value);
            match is_whole {
                true => self.row.versions.push(Version { value: value.freeze(), ..version }),
                false => self.partial = Some((version, value)),
            }
        }
        if !matches!(chunk.row_status, Some(RowStatus::CommitRow(_))) {
            return Ok(None);
        }
        if self.partial.is_some() {
            return Err(damaged("a row that ends within a value"));
        }
        self.is_open = false;
        Ok(Some(std::mem::take(&mut self.row)))
    }

    /// Whether a stream may end here.
    pub(super) const fn is_between_rows(&self) -> bool {
        !self.is_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(key: &str, column: Option<&str>, value: &str, status: Option<RowStatus>) -> CellChunk {
        CellChunk {
            row_key: Bytes::copy_from_slice(key.as_bytes()),
            family_name: column.map(|_| "f".to_owned()),
            qualifier: column.map(|column| column.as_bytes().to_vec()),
            timestamp_micros: 1_000,
            value: Bytes::copy_from_slice(value.as_bytes()),
            row_status: status,
            ..CellChunk::default()
        }
    }

    /// Rows as texts: key, then column and value of each version.
    fn rows(chunks: Vec<CellChunk>) -> Vec<String> {
        let mut assembly = Assembly::default();
        let rows = chunks.into_iter().filter_map(|chunk| assembly.push(chunk).expect("a chunk"));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let of_version = |version: &Version| format!(" {}={}", text(&version.column), text(&version.value));
        rows.map(|row| text(&row.key) + &row.versions.iter().map(of_version).collect::<String>()).collect()
    }

    const COMMIT: Option<RowStatus> = Some(RowStatus::CommitRow(true));

    #[test]
    fn what_a_chunk_leaves_out_is_that_of_the_one_before() {
        let chunks = vec![
            chunk("a", Some("p"), "1", None),
            chunk("", None, "2", None),
            chunk("", Some("v"), "3", COMMIT),
            chunk("b", Some("v"), "", COMMIT),
        ];
        assert_eq!(rows(chunks), ["a p=1 p=2 v=3", "b v="]);
    }

    #[test]
    fn a_value_in_parts_is_put_together_and_a_row_that_is_taken_back_is_gone() {
        let part = |value: &str, value_size| CellChunk { value_size, ..chunk("", None, value, None) };
        let chunks = vec![
            chunk("a", Some("v"), "gone", None),
            chunk("", None, "", Some(RowStatus::ResetRow(true))),
            CellChunk { value_size: 6, ..chunk("a", Some("v"), "on", None) },
            part("e t", 6),
            chunk("", None, "wo", COMMIT),
        ];
        assert_eq!(rows(chunks), ["a v=one two"]);
    }

    #[test]
    fn what_no_server_sends_is_an_error() {
        let wrong = |chunks: Vec<CellChunk>| {
            let mut assembly = Assembly::default();
            chunks.into_iter().map(|chunk| assembly.push(chunk)).find_map(Result::err).expect("an error").to_string()
        };
        assert!(wrong(vec![chunk("", Some("v"), "1", None)]).contains("without a key"));
        assert!(wrong(vec![chunk("a", None, "1", None)]).contains("without a column"));
        assert!(wrong(vec![chunk("a", Some("v"), "1", None), chunk("b", None, "1", None)]).contains("begins before"));
        let part = CellChunk { value_size: 9, ..chunk("a", Some("v"), "1", COMMIT) };
        assert!(wrong(vec![part]).contains("ends within"));
    }
}
