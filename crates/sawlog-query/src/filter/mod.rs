//! The filter language: what a person types to find events.
//!
//! For: reading `service:checkout severity>=error "timed out" -path:/health` into a tree, saying where a mistake is and
//! what to write instead, and turning the tree into the same expressions that SQL becomes. Not for: running searches
//! ([`crate::search`]). Invariants: parsing never panics; a parsed filter, printed and parsed again, is the same filter;
//! size and nesting are bounded before any recursion.
//!
//! ```
//! let filter = sawlog_query::filter::parse("service:checkout (timeout OR refused) -path:/health").unwrap();
//! assert_eq!(filter.to_string(), "service:checkout (timeout OR refused) NOT path:/health");
//! ```

mod compile;
mod fields;
mod function;
mod matcher;
mod parser;
mod print;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use compile::compile;
pub(crate) use fields::{expression, resolve};
pub(crate) use function::SearchFunction;
pub use matcher::Matcher;
pub use parser::parse;
pub use value::parse_time;

/// A place in the text, in characters. All places are equal, so that trees are compared by what they mean.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    /// First character, from 0.
    pub start: usize,
    /// Character after the last.
    pub end: usize,
}

impl PartialEq for Span {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A filter.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Everything; only as the whole of a filter.
    All,
    /// All of at least two.
    And(Vec<Self>),
    /// One of at least two.
    Or(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// The message contains this, in any case.
    Text(Pattern),
    /// A test of a field.
    Field {
        /// Name as written.
        name: String,
        /// Where the name stands.
        span: Span,
        /// The test.
        test: Test,
    },
}

/// A test of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// The field has a value.
    Exists,
    /// The field is this.
    Is(Pattern),
    /// The field is less or more than this.
    Compare(Comparison, Literal),
    /// The field lies between; `None` is no bound on that side.
    Range {
        /// Lower bound.
        low: Option<Literal>,
        /// Whether the lower bound belongs to it.
        low_included: bool,
        /// Upper bound.
        high: Option<Literal>,
        /// Whether the upper bound belongs to it.
        high_included: bool,
    },
}

/// How values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

impl Comparison {
    /// As written.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::More => ">",
            Self::MoreOrEqual => ">=",
        }
    }
}

/// A value as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal {
    /// The text, without quotes and escapes.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// Text with wildcards.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    /// Texts and wildcards in turn; no two of a kind are neighbours, and no text is empty.
    pub pieces: Vec<Piece>,
    /// Where it stands.
    pub span: Span,
}

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// This text.
    Text(String),
    /// Any text, also none: `*`.
    Any,
}

impl Pattern {
    /// The text, if there is no wildcard in it.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }
}

/// What is wrong with a filter, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct FilterError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
    /// Where.
    pub span: Span,
}

impl FilterError {
    pub(crate) fn new(span: Span, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), span }
    }

    /// The filter with the mistake marked below it, for a terminal.
    #[must_use]
    pub fn pointed(&self, text: &str) -> String {
        let line: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        let width = (self.span.end.saturating_sub(self.span.start)).max(1);
        format!(
            "{}\n  {line}\n  {}{}\n  hint: {}",
            self.message,
            " ".repeat(self.span.start),
            "^".repeat(width),
            self.hint
        )
    }
}
