//! Checks on SQL text before it is planned.
//!
//! For: refusing what must not run (anything but one SELECT, EXPLAIN, SHOW or DESCRIBE) and what would exhaust the
//! planner's stack: planners recurse once for each nesting level and each link of an operator chain. Not for: limits
//! on what a running query uses ([`crate::engine`]).

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::engine::QueryError;

/// Longest SQL text.
pub(crate) const SQL_BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting of parentheses, brackets and CASE.
const NESTING_MAX: usize = 50;
/// Most binary operators, set operations and joins in one statement.
const OPERATORS_MAX: usize = 500;
const SET_OPERATIONS_MAX: usize = 20;

/// Parses one read-only statement.
pub(crate) fn parse(sql: &str) -> Result<Statement, QueryError> {
    let dialect = GenericDialect {};
    check_limits(sql, &dialect)?;
    let syntax = |error: datafusion::error::DataFusionError| QueryError::Syntax(error.strip_backtrace());
    let mut statements = DFParserBuilder::new(sql)
        .with_dialect(&dialect)
        .with_recursion_limit(NESTING_MAX * 2)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(syntax)?;
    match (statements.pop_back(), statements.is_empty()) {
        (Some(statement), true) if is_read_only(&statement) => Ok(statement),
        (Some(_), true) => Err(QueryError::NotReadOnly),
        (None, _) => Err(QueryError::Syntax("the query is empty".to_owned())),
        (Some(_), false) => Err(QueryError::Syntax("there is more than one statement".to_owned())),
    }
}

fn is_read_only(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(statement) => is_reading(statement),
        Statement::Explain(explain) => is_read_only(&explain.statement),
        _ => false,
    }
}

/// Whether a statement only reads.
pub(crate) fn is_reading(statement: &ast::Statement) -> bool {
    match statement {
        ast::Statement::Query(_)
        | ast::Statement::ShowTables { .. }
        | ast::Statement::ShowColumns { .. }
        | ast::Statement::ExplainTable { .. } => true,
        ast::Statement::Explain { statement, .. } => is_reading(statement),
        _ => false,
    }
}

/// Checks size, nesting and operators without parsing.
pub(crate) fn check_limits(sql: &str, dialect: &dyn Dialect) -> Result<(), QueryError> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(QueryError::TooComplex(format!("the text has {} bytes, more than {SQL_BYTES_MAX}", sql.len())));
    }
    let tokens = Tokenizer::new(dialect, sql).tokenize().map_err(|error| QueryError::Syntax(error.to_string()))?;
    let (mut depth, mut operators, mut set_operations) = (0usize, 0usize, 0usize);
    for token in &tokens {
        match token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
            Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::Mod
            | Token::StringConcat
            | Token::DoubleColon => {
                operators += 1;
            }
            Token::Word(word) => match word.keyword {
                Keyword::AND | Keyword::OR | Keyword::NOT | Keyword::BETWEEN => operators += 1,
                Keyword::CASE => depth += 1,
                Keyword::END => depth = depth.saturating_sub(1),
                Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::JOIN | Keyword::RECURSIVE => {
                    set_operations += 1;
                }
                _ => {}
            },
            _ => {}
        }
        if depth > NESTING_MAX {
            return Err(QueryError::TooComplex(format!("it nests deeper than {NESTING_MAX} levels")));
        }
    }
    if operators > OPERATORS_MAX {
        return Err(QueryError::TooComplex(format!("it has {operators} operators, more than {OPERATORS_MAX}")));
    }
    if set_operations > SET_OPERATIONS_MAX {
        return Err(QueryError::TooComplex(format!(
            "it has {set_operations} joins and set operations, more than {SET_OPERATIONS_MAX}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_statements_pass() {
        for sql in
            ["SELECT 1", "WITH a AS (SELECT 1) SELECT * FROM a", "EXPLAIN SELECT 1", "SHOW TABLES", "DESCRIBE logs"]
        {
            assert!(parse(sql).is_ok(), "{sql}: {:?}", parse(sql).err());
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for sql in [
            "",
            "DROP TABLE logs",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "COPY logs TO '/tmp/x.csv'",
            "INSERT INTO logs VALUES (1)",
            "SET datafusion.execution.batch_size = 1",
            "SELECT 1; DROP TABLE logs",
            "EXPLAIN DROP TABLE logs",
            "CREATE VIEW v AS SELECT 1",
            "DELETE FROM logs",
            "BEGIN",
            "PREPARE p AS SELECT 1",
        ] {
            assert!(parse(sql).is_err(), "{sql}");
        }
    }

    #[test]
    fn what_would_exhaust_the_planner_is_refused_before_it() {
        let chains = [
            format!("SELECT {}1", "1+".repeat(2_000)),
            format!("SELECT 1 WHERE {}true", "1=1 OR ".repeat(20_000)),
            format!("SELECT 1 {}", "UNION SELECT 1 ".repeat(3_000)),
            format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
            format!("SELECT {}1{}", "(".repeat(1_000), ")".repeat(1_000)),
            format!("SELECT {} 1", "NOT ".repeat(1_000)),
        ];
        for sql in chains {
            assert!(matches!(parse(&sql), Err(QueryError::TooComplex(_))), "{}", &sql[..40]);
        }
    }
}
