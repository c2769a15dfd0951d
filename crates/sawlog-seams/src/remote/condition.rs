//! Conditions on the rows of a remote table.
//!
//! For: what a service can check as exactly as this process would. Not for: all that SQL can say; the rest is checked where
//! the rows arrive.
//!
//! Rules: as in SQL, a comparison with a missing value is unknown, and a row passes where the condition is true. Texts
//! are compared by their bytes.

/// A condition on one row.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// A column compared with a value.
    Compare {
        /// The column, by its place in the table's schema.
        column: usize,
        /// How they are compared.
        comparison: Comparison,
        /// A value of the column's type.
        value: Value,
    },
    /// A column that has one of some values.
    OneOf {
        /// The column, by its place in the table's schema.
        column: usize,
        /// Values of the column's type.
        values: Vec<Value>,
    },
    /// A column without a value.
    IsMissing {
        /// The column, by its place in the table's schema.
        column: usize,
    },
    /// A text column that a pattern of SQL's LIKE fits: `%` for any text, `_` for any character, `\\` before one that is meant
    /// as it is.
    Like {
        /// The column, by its place in the table's schema.
        column: usize,
        /// The pattern.
        pattern: String,
        /// Whether small and capital letters count as the same (Unicode's simple case folding).
        is_any_case: bool,
    },
    /// What is true, rather than false or unknown.
    IsTrue(Box<Self>),
    /// What is not so.
    Not(Box<Self>),
    /// All of these.
    All(Vec<Self>),
    /// One of these at least.
    Any(Vec<Self>),
}

/// How a column and a value are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// A value that columns are compared with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Of a text column.
    Text(String),
    /// Of a column of whole numbers of any width.
    Integer(i64),
    /// Of a column of truth values.
    Boolean(bool),
    /// Of a time column, UTC microseconds.
    Time(i64),
    /// Of a date column, days since the epoch.
    Date(i32),
}
