//! Reading CSV files (RFC 4180) that a user keeps beside the configuration.
//!
//! For: tables of users, of attributes and of deploys, with the place of every mistake. Not for: the events themselves or
//! the CSV of query answers. Quotes, doubled quotes and line breaks inside quotes are as in RFC 4180; a byte order mark
//! at the start and blank lines are passed over. Values are parts of the text and are copied only to take out doubled
//! quotes.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memchr2};

/// Largest file, bytes: places in it fit into 32 bits.
pub const FILE_BYTES_MAX: usize = 1 << 30;

/// A mistake in a file.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}{}: {problem}", column.as_ref().map(|column| format!(", column {column}")).unwrap_or_default())]
pub struct CsvError {
    /// Line, from 1, in which the record starts.
    pub line: usize,
    /// Column by its name, or by its number from 1 where it has none.
    pub column: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub hint: String,
}

impl CsvError {
    pub(crate) fn new(line: usize, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { line, column: None, problem: problem.into(), hint: hint.into() }
    }

    pub(crate) fn in_column(self, column: impl Into<String>) -> Self {
        Self { column: Some(column.into()), ..self }
    }
}

/// The bytes of a file as text.
///
/// # Errors
/// When it is too large or not UTF-8, with the line of the first wrong byte.
pub fn to_text(bytes: Vec<u8>) -> Result<String, CsvError> {
    if bytes.len() > FILE_BYTES_MAX {
        let problem = format!("the file has {} B, more than {FILE_BYTES_MAX}", bytes.len());
        return Err(CsvError::new(1, problem, "split it into several files"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..place];
        let line = 1 + memchr_iter(b'\n', before).count();
        let byte = 1 + place - memchr::memrchr(b'\n', before).map_or(0, |end| end + 1);
        CsvError::new(line, format!("byte {byte} of the line is not UTF-8"), "save the file as UTF-8")
    })
}

/// A line and the values of the record that starts in it.
type LineValues<'r, 'a> = (usize, &'r [Cow<'a, str>]);

/// The records of a text below its header. All have as many values as the header.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    text: &'a str,
    at: usize,
    /// Line of the record that was read last.
    line: usize,
    next_line: usize,
    header: Vec<String>,
    values: Vec<Cow<'a, str>>,
}

impl<'a> Records<'a> {
    /// Reads the header.
    pub(crate) fn new(text: &'a str) -> Result<Self, CsvError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut records = Self { text, at: 0, line: 1, next_line: 1, header: Vec::new(), values: Vec::new() };
        if !records.read()? {
            return Err(CsvError::new(1, "the file is empty", "begin it with a line that names the columns"));
        }
        for (index, name) in records.values.iter().enumerate() {
            if records.values[..index].contains(name) {
                let hint = "give each column a name of its own";
                return Err(CsvError::new(records.line, "two columns have this name", hint).in_column(name.as_ref()));
            }
        }
        records.header = records.values.iter().map(|name| name.as_ref().to_owned()).collect();
        Ok(records)
    }

    /// Names of the columns.
    pub(crate) fn header(&self) -> &[String] {
        &self.header
    }

    /// Place of a column that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<usize, CsvError> {
        self.column(name).ok_or_else(|| {
            let problem = format!("there is no column {name:?}");
            CsvError::new(1, problem, format!("the header names {}; add the column to it", self.header.join(", ")))
        })
    }

    /// Place of a column.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|known| known == name)
    }

    /// The line in which the next record starts, and its values; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<LineValues<'_, 'a>>, CsvError> {
        if !self.read()? {
            return Ok(None);
        }
        if self.values.len() != self.header.len() {
            let problem = format!("it has {} values, the header has {}", self.values.len(), self.header.len());
            let hint = "put quotes around a value that contains a comma or a line break";
            return Err(CsvError::new(self.line, problem, hint));
        }
        Ok(Some((self.line, &self.values)))
    }

    /// Reads the next record that is not blank into `values`. Returns whether there was one.
    fn read(&mut self) -> Result<bool, CsvError> {
        while self.at < self.text.len() {
            self.line = self.next_line;
            self.values.clear();
            while self.read_value()? {}
            self.next_line += 1;
            if self.values.len() > 1 || self.values.iter().any(|value| !value.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads a value and what ends it. Returns whether another one follows in the record.
    fn read_value(&mut self) -> Result<bool, CsvError> {
        let bytes = self.text.as_bytes();
        if bytes.get(self.at) == Some(&b'"') {
            return self.read_quoted();
        }
        let end = memchr2(b',', b'\n', &bytes[self.at..]).map_or(bytes.len(), |len| self.at + len);
        let is_last = bytes.get(end) != Some(&b',');
        let value = &self.text[self.at..end];
        self.values.push(Cow::Borrowed(if is_last { value.strip_suffix('\r').unwrap_or(value) } else { value }));
        self.at = end + 1;
        Ok(!is_last)
    }

    fn read_quoted(&mut self) -> Result<bool, CsvError> {
        let (bytes, start) = (self.text.as_bytes(), self.at + 1);
        let (mut end, mut is_plain) = (start, true);
        loop {
            let Some(len) = memchr(b'"', &bytes[end..]) else {
                return Err(self.in_value("the quote at its start is never closed", "close it, or leave both out"));
            };
            end += len;
            if bytes.get(end + 1) != Some(&b'"') {
                break;
            }
            (end, is_plain) = (end + 2, false);
        }
        let value = &self.text[start..end];
        self.next_line += memchr_iter(b'\n', value.as_bytes()).count();
        let value = if is_plain { Cow::Borrowed(value) } else { Cow::Owned(value.replace("\"\"", "\"")) };
        let is_last = match &bytes[end + 1..] {
            [b',', ..] => false,
            [] | [b'\n', ..] => true,
            [b'\r', b'\n', ..] => {
                end += 1;
                true
            }
            _ => {
                return Err(self.in_value("text follows its closing quote", "double a quote that is part of the value"));
            }
        };
        self.values.push(value);
        self.at = end + 2;
        Ok(!is_last)
    }

    fn in_value(&self, problem: &str, hint: &str) -> CsvError {
        let place = self.values.len();
        let column = self.header.get(place).cloned().unwrap_or_else(|| (place + 1).to_string());
        CsvError::new(self.line, problem, hint).in_column(column)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<(usize, Vec<String>)>, CsvError> {
        let mut records = Records::new(text)?;
        let mut all = vec![(1, records.header().to_vec())];
        while let Some((line, values)) = records.next()? {
            all.push((line, values.iter().map(|value| value.as_ref().to_owned()).collect()));
        }
        Ok(all)
    }

    #[track_caller]
    fn check_error(text: &str, error: &str) {
        let found = read(text).expect_err("a mistake");
        assert_eq!(found.to_string(), error);
        assert!(!found.hint.is_empty());
    }

    #[test]
    fn quotes_line_breaks_and_blank_lines_are_those_of_the_rfc() {
        let text = "\u{feff}a,b\r\n\"x,1\",\"say \"\"hi\"\"\nthere\"\n\n,\r\n5\" disk,\"\"\nlast,one";
        let expected: [(usize, [&str; 2]); 5] = [
            (1, ["a", "b"]),
            (2, ["x,1", "say \"hi\"\nthere"]),
            (5, ["", ""]),
            (6, ["5\" disk", ""]),
            (7, ["last", "one"]),
        ];
        let expected = expected.map(|(line, values)| (line, values.map(str::to_owned).to_vec()));
        assert_eq!(read(text).expect("a table"), expected);
    }

    #[test]
    fn mistakes_have_their_line_and_column() {
        check_error("", "line 1: the file is empty");
        check_error("\n\n", "line 1: the file is empty");
        check_error("a,b,a\n", "line 1, column a: two columns have this name");
        check_error("a,b\n1,2\n\n3\n", "line 4: it has 1 values, the header has 2");
        check_error("a,b\n1,\"2\n3", "line 2, column b: the quote at its start is never closed");
        check_error("a,b\n\"1\"x,2\n", "line 2, column a: text follows its closing quote");
        let error = to_text(b"a,b\nx,\xff\n".to_vec()).expect_err("no text");
        assert_eq!(error.to_string(), "line 2: byte 3 of the line is not UTF-8");
    }

    proptest! {
        #[test]
        fn what_is_written_by_the_rfc_is_read_back(rows in proptest::collection::vec(proptest::array::uniform2("[a-z\",\r\n ü]{0,8}"), 0..20)) {
            let quoted = |value: &String| format!("\"{}\"", value.replace('"', "\"\""));
            let lines: Vec<String> = rows.iter().map(|row| row.each_ref().map(quoted).join(",")).collect();
            let found = read(&format!("a,b\r\n{}", lines.join("\r\n"))).expect("a table");
            let found: Vec<Vec<String>> = found.into_iter().skip(1).map(|(_, values)| values).collect();
            prop_assert_eq!(found, rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>());
        }

        #[test]
        fn no_text_makes_it_panic(text in "[a,\"\r\n]{0,60}") {
            let _ = read(&text);
        }
    }
}
