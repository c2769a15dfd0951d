//! Errors as Postgres clients see them: SQLSTATE, message, hint and position.

use pgwire::error::{ErrorInfo, PgWireError};
use sawlog_query::QueryError;

/// An error that ends a statement.
pub(super) fn error(code: &str, message: impl Into<String>, hint: impl Into<String>) -> PgWireError {
    let mut info = ErrorInfo::new("ERROR".to_owned(), code.to_owned(), message.into());
    info.hint = Some(hint.into());
    PgWireError::UserError(Box::new(info))
}

/// An error that ends the connection.
pub(super) fn fatal(code: &str, message: impl Into<String>, hint: impl Into<String>) -> PgWireError {
    let mut info = ErrorInfo::new("FATAL".to_owned(), code.to_owned(), message.into());
    info.hint = Some(hint.into());
    PgWireError::UserError(Box::new(info))
}

/// The error of a query in `sql`.
pub(super) fn of_query(problem: &QueryError, sql: &str) -> PgWireError {
    let mut info = ErrorInfo::new("ERROR".to_owned(), sqlstate(problem).to_owned(), problem.to_string());
    info.hint = Some(problem.hint().to_owned());
    info.position = problem.place().and_then(|place| position(sql, place)).map(|position| position.to_string());
    PgWireError::UserError(Box::new(info))
}

fn sqlstate(problem: &QueryError) -> &'static str {
    match problem {
        QueryError::TooComplex(_) => "54001",
        QueryError::Syntax(_) => "42601",
        QueryError::NotReadOnly => "25006",
        QueryError::Plan(text) => plan_state(text),
        QueryError::Timeout(_) => "57014",
        QueryError::Memory(_) => "53200",
        QueryError::TooManyRows(_) => "54000",
        QueryError::Parameter { .. } => "22P02",
        QueryError::Remote { .. } => "58000",
        QueryError::Execution(text) if text.to_lowercase().contains("divide by zero") => "22012",
        QueryError::Execution(_) => "22000",
        QueryError::Stopped => "57P01",
    }
}

/// The planner tells its reasons in words only.
fn plan_state(text: &str) -> &'static str {
    let text = text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["invalid function", "no function matches", "failed to coerce arguments"]) {
        "42883"
    } else if has(&["table '"]) && has(&["not found"]) {
        "42P01"
    } else if has(&["no field named", "column '"]) {
        "42703"
    } else if has(&["not implemented", "unsupported", "not supported"]) {
        "0A000"
    } else {
        "42000"
    }
}

/// Characters from the start of the text, from 1.
fn position(sql: &str, (line, column): (usize, usize)) -> Option<usize> {
    let lines: Vec<&str> = sql.split('\n').collect();
    let before = lines.get(..line.checked_sub(1)?)?;
    (line <= lines.len() && column > 0)
        .then(|| before.iter().map(|line| line.chars().count() + 1).sum::<usize>() + column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_over_lines() {
        assert_eq!(position("SELECT x", (1, 8)), Some(8));
        assert_eq!(position("SELECT 'ä',\n x", (2, 2)), Some(14));
        assert_eq!(position("SELECT", (3, 1)), None);
        assert_eq!(position("SELECT", (0, 0)), None);
    }

    #[test]
    fn reasons_have_the_codes_that_clients_know() {
        for (problem, code) in [
            (QueryError::Plan("table 'sawlog.public.lgs' not found".to_owned()), "42P01"),
            (QueryError::Plan("Schema error: No field named mesage.".to_owned()), "42703"),
            (QueryError::Plan("Invalid function 'nope'. at Line: 1, Column: 8".to_owned()), "42883"),
            (QueryError::Execution("Arrow error: Divide by zero error".to_owned()), "22012"),
            (QueryError::NotReadOnly, "25006"),
        ] {
            assert_eq!(sqlstate(&problem), code, "{problem}");
        }
    }
}
