//! Writes filters so that they read back as the same filter.

use std::fmt;

use super::parser::is_name;
use super::{Filter, Literal, Pattern, Piece, Test};

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::And(parts) => list(f, parts, " "),
            Self::Or(parts) => list(f, parts, " OR "),
            Self::Not(inner) => {
                f.write_str("NOT ")?;
                operand(f, inner)
            }
            Self::Text(pattern) => write!(f, "{}", text(pattern)),
            Self::Field { name, test, .. } => field(f, &field_name(name), test),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, parts: &[Filter], separator: &str) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        operand(f, part)?;
    }
    Ok(())
}

fn operand(f: &mut fmt::Formatter<'_>, part: &Filter) -> fmt::Result {
    match part {
        Filter::And(_) | Filter::Or(_) => write!(f, "({part})"),
        _ => write!(f, "{part}"),
    }
}

fn field(f: &mut fmt::Formatter<'_>, name: &str, test: &Test) -> fmt::Result {
    match test {
        Test::Exists => write!(f, "_exists_:{name}"),
        Test::Is(pattern) => write!(f, "{name}:{}", text(pattern)),
        Test::Compare(comparison, literal) => write!(f, "{name}{}{}", comparison.symbol(), value(literal)),
        Test::Range { low, low_included, high, high_included } => {
            let bound = |bound: &Option<Literal>| bound.as_ref().map_or_else(|| "*".to_owned(), value);
            let open = if *low_included { '[' } else { '{' };
            let close = if *high_included { ']' } else { '}' };
            write!(f, "{name}:{open}{} TO {}{close}", bound(low), bound(high))
        }
    }
}

fn field_name(name: &str) -> String {
    if is_name(name) && name != "_exists_" && !is_keyword(name) { name.to_owned() } else { quoted(name) }
}

fn is_keyword(text: &str) -> bool {
    ["AND", "OR", "NOT", "TO"].contains(&text)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Whether a text without quotes is read as this text, wherever a value may stand.
fn is_bare(text: &str) -> bool {
    let is_harmless = |letter: char| letter.is_alphanumeric() || "_.@/-+%,;#~&|$§€°^'".contains(letter);
    text.chars().all(is_harmless) && !text.is_empty() && !text.starts_with('-') && !is_keyword(text)
}

fn value(literal: &Literal) -> String {
    if is_bare(&literal.text) { literal.text.clone() } else { quoted(&literal.text) }
}

fn text(pattern: &Pattern) -> String {
    match pattern.literal() {
        Some(literal) if is_bare(literal) => literal.to_owned(),
        Some(literal) => quoted(literal),
        None => pattern.pieces.iter().map(piece).collect(),
    }
}

/// Outside quotes every character but the plain ones is escaped, since a wildcard has no meaning inside them.
fn piece(piece: &Piece) -> String {
    let Piece::Text(text) = piece else { return "*".to_owned() };
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if !(letter.is_alphanumeric() || "_./".contains(letter)) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}
