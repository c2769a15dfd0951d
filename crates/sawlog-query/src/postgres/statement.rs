//! Statements of Postgres clients, sorted into queries and session statements.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::sql::sqlparser::ast::{self, CloseCursor, FetchDirection, Set, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;

use crate::engine::QueryError;
use crate::guard;

/// Statements in one text.
const STATEMENTS_MAX: usize = 50;

/// A statement of a Postgres client.
#[derive(Clone, Debug)]
pub enum Statement {
    /// Reads data.
    Read(Box<ReadStatement>),
    /// Concerns the session alone.
    Session(SessionStatement),
}

/// A statement that reads: SELECT, VALUES, EXPLAIN, SHOW TABLES. It can only be made by [`parse`].
#[derive(Clone, Debug)]
pub struct ReadStatement(ast::Statement);

impl ReadStatement {
    pub(crate) fn ast(&self) -> &ast::Statement {
        &self.0
    }
}

/// A statement that concerns the session alone and changes no data.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionStatement {
    /// BEGIN: a server that only reads has nothing to undo.
    Begin,
    /// COMMIT or END.
    Commit,
    /// ROLLBACK or ABORT.
    Rollback,
    /// Has no effect here and is acknowledged with this tag, e.g. SAVEPOINT.
    Acknowledge(&'static str),
    /// SET name = value.
    Set {
        /// Name of the setting.
        name: String,
        /// Its new value.
        value: String,
    },
    /// RESET of a setting, or of all.
    Reset(Option<String>),
    /// SHOW of a setting.
    Show(String),
    /// DECLARE a cursor.
    Declare {
        /// Name of the cursor.
        name: String,
        /// What it reads.
        query: Box<ReadStatement>,
    },
    /// FETCH from a cursor.
    Fetch {
        /// Name of the cursor.
        name: String,
        /// How many rows; `None` for the rest.
        row_count: Option<usize>,
    },
    /// CLOSE a cursor, or all.
    Close(Option<String>),
    /// DEALLOCATE a prepared statement, or all.
    Deallocate(Option<String>),
    /// DISCARD ALL.
    DiscardAll,
}

impl PartialEq for ReadStatement {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// Parses the statements of a text.
///
/// # Errors
/// When it is no SQL, too large, or holds a statement that is neither a query nor about the session alone.
pub fn parse(sql: &str) -> Result<Vec<Statement>, QueryError> {
    static PARSER: LazyLock<PostgresCompatibilityParser> = LazyLock::new(PostgresCompatibilityParser::new);
    guard::check_limits(sql, &PostgreSqlDialect {})?;
    let statements = statements(sql, &PARSER)?;
    if statements.len() > STATEMENTS_MAX {
        let problem = format!("the text has {} statements, more than {STATEMENTS_MAX}", statements.len());
        return Err(QueryError::TooComplex(problem));
    }
    statements.into_iter().map(sort).collect()
}

/// Parses, and rewrites what Postgres' clients write and DataFusion does not know. Questions about the catalog are
/// recognized by their tokens, which loses the places of mistakes: all others are parsed with them.
fn statements(sql: &str, compatible: &PostgresCompatibilityParser) -> Result<Vec<ast::Statement>, QueryError> {
    let placed = Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).and_then(|mut parser| parser.parse_statements());
    let is_about_catalog = ["pg_", "information_schema"].iter().any(|word| sql.to_lowercase().contains(word));
    let mut statements = match placed {
        Ok(statements) if !is_about_catalog => statements.into_iter().map(|one| compatible.rewrite(one)).collect(),
        Ok(_) => compatible.parse(sql).map_err(|error| QueryError::Syntax(error.to_string()))?,
        Err(error) => compatible.parse(sql).map_err(|_| QueryError::Syntax(error.to_string()))?,
    };
    for statement in &mut statements {
        // The visitor never breaks.
        let _ = statement.visit(&mut ArraySubqueries);
    }
    Ok(statements)
}

/// Turns `ARRAY(SELECT x …)` into `(SELECT array_agg(x) …)`.
struct ArraySubqueries;

impl VisitorMut for ArraySubqueries {
    type Break = ();

    fn post_visit_expr(&mut self, expression: &mut ast::Expr) -> ControlFlow<()> {
        let ast::Expr::Function(function) = expression else { return ControlFlow::Continue(()) };
        if !function.name.to_string().eq_ignore_ascii_case("array") {
            return ControlFlow::Continue(());
        }
        let ast::FunctionArguments::Subquery(query) = &function.args else { return ControlFlow::Continue(()) };
        let mut query = query.clone();
        query.order_by = None;
        if let ast::SetExpr::Select(select) = query.body.as_mut()
            && let [ast::SelectItem::UnnamedExpr(item) | ast::SelectItem::ExprWithAlias { expr: item, .. }] =
                select.projection.as_mut_slice()
        {
            let aggregate = Parser::new(&PostgreSqlDialect {})
                .try_with_sql("array_agg(x)")
                .and_then(|mut parser| parser.parse_expr());
            if let Ok(ast::Expr::Function(mut aggregate)) = aggregate {
                if let ast::FunctionArguments::List(list) = &mut aggregate.args {
                    list.args = vec![ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(item.clone()))];
                }
                select.projection = vec![ast::SelectItem::UnnamedExpr(ast::Expr::Function(aggregate))];
                *expression = ast::Expr::Subquery(query);
            }
        }
        ControlFlow::Continue(())
    }
}

fn sort(statement: ast::Statement) -> Result<Statement, QueryError> {
    if guard::is_reading(&statement) {
        return Ok(Statement::Read(Box::new(ReadStatement(statement))));
    }
    session(statement).map(Statement::Session)
}

fn session(statement: ast::Statement) -> Result<SessionStatement, QueryError> {
    use ast::Statement as Ast;
    Ok(match statement {
        Ast::StartTransaction { .. } => SessionStatement::Begin,
        Ast::Commit { .. } => SessionStatement::Commit,
        Ast::Rollback { savepoint: None, .. } => SessionStatement::Rollback,
        Ast::Rollback { savepoint: Some(_), .. } => SessionStatement::Acknowledge("ROLLBACK"),
        Ast::Savepoint { .. } => SessionStatement::Acknowledge("SAVEPOINT"),
        Ast::ReleaseSavepoint { .. } => SessionStatement::Acknowledge("RELEASE"),
        Ast::LISTEN { .. } => SessionStatement::Acknowledge("LISTEN"),
        Ast::UNLISTEN { .. } => SessionStatement::Acknowledge("UNLISTEN"),
        Ast::Discard { .. } => SessionStatement::DiscardAll,
        Ast::Deallocate { name, .. } => SessionStatement::Deallocate(unless_all(&name)),
        Ast::Set(set) => assignment(&set)?,
        Ast::Reset(reset) => match reset.reset {
            ast::Reset::ALL => SessionStatement::Reset(None),
            ast::Reset::ConfigurationParameter(name) => SessionStatement::Reset(Some(plain_name(&name))),
        },
        Ast::ShowVariable { variable } => SessionStatement::Show(shown_name(&variable)),
        Ast::Close { cursor: CloseCursor::All } => SessionStatement::Close(None),
        Ast::Close { cursor: CloseCursor::Specific { name } } => SessionStatement::Close(Some(name.value)),
        Ast::Declare { stmts } => cursor(stmts)?,
        Ast::Fetch { name, direction, into: None, .. } => {
            SessionStatement::Fetch { name: name.value, row_count: fetch_count(&direction)? }
        }
        _ => return Err(QueryError::NotReadOnly),
    })
}

fn unless_all(name: &ast::Ident) -> Option<String> {
    (name.quote_style.is_some() || !name.value.eq_ignore_ascii_case("all")).then(|| name.value.clone())
}

fn plain_name(name: &ast::ObjectName) -> String {
    name.to_string().replace('"', "").to_lowercase()
}

/// `SHOW TRANSACTION ISOLATION LEVEL` and `SHOW TIME ZONE` name settings in words of their own.
fn shown_name(words: &[ast::Ident]) -> String {
    let words: Vec<String> = words.iter().map(|word| word.value.to_lowercase()).collect();
    match words.join(" ").as_str() {
        "transaction isolation level" => "transaction_isolation".to_owned(),
        "time zone" => "timezone".to_owned(),
        "session authorization" => "session_authorization".to_owned(),
        other => other.replace(' ', "."),
    }
}

fn assignment(set: &Set) -> Result<SessionStatement, QueryError> {
    let text = |value: &ast::Expr| match value {
        ast::Expr::Value(value) => value.clone().into_string().unwrap_or_else(|| value.to_string()),
        other => other.to_string(),
    };
    Ok(match set {
        Set::SingleAssignment { variable, values, .. } => {
            let values: Vec<String> = values.iter().map(text).collect();
            SessionStatement::Set { name: plain_name(variable), value: values.join(", ") }
        }
        Set::SetTimeZone { value, .. } => SessionStatement::Set { name: "timezone".to_owned(), value: text(value) },
        Set::SetNames { charset_name, .. } => {
            SessionStatement::Set { name: "client_encoding".to_owned(), value: charset_name.value.clone() }
        }
        Set::SetNamesDefault {}
        | Set::SetRole { .. }
        | Set::SetSessionAuthorization(_)
        | Set::SetTransaction { .. } => SessionStatement::Acknowledge("SET"),
        _ => return Err(QueryError::NotReadOnly),
    })
}

fn cursor(mut declared: Vec<ast::Declare>) -> Result<SessionStatement, QueryError> {
    let one = declared.pop().filter(|one| declared.is_empty() && one.declare_type == Some(ast::DeclareType::Cursor));
    let Some(ast::Declare { names, for_query: Some(query), scroll, .. }) = one else {
        return Err(QueryError::NotReadOnly);
    };
    if scroll == Some(true) {
        return Err(QueryError::Plan("a cursor only moves forward; declare it without SCROLL".to_owned()));
    }
    let name = names.into_iter().next().map(|name| name.value).unwrap_or_default();
    let query = ast::Statement::Query(query);
    match sort(query)? {
        Statement::Read(query) => Ok(SessionStatement::Declare { name, query }),
        Statement::Session(_) => Err(QueryError::NotReadOnly),
    }
}

fn fetch_count(direction: &FetchDirection) -> Result<Option<usize>, QueryError> {
    let forward = || QueryError::Plan("a cursor only moves forward; use FETCH n, FETCH NEXT or FETCH ALL".to_owned());
    match direction {
        FetchDirection::Next | FetchDirection::Forward { limit: None } => Ok(Some(1)),
        FetchDirection::All | FetchDirection::ForwardAll => Ok(None),
        FetchDirection::Count { limit } | FetchDirection::Forward { limit: Some(limit) } => {
            limit.to_string().parse().map(Some).map_err(|_| forward())
        }
        _ => Err(forward()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn session_of(sql: &str) -> SessionStatement {
        match parse(sql).unwrap_or_else(|error| panic!("{sql}: {error}")).pop() {
            Some(Statement::Session(statement)) => statement,
            other => panic!("{sql} is {other:?}"),
        }
    }

    #[test]
    fn session_statements_of_real_clients_are_known() {
        for (sql, tag) in [
            ("SAVEPOINT a", "SAVEPOINT"),
            ("RELEASE SAVEPOINT a", "RELEASE"),
            ("ROLLBACK TO SAVEPOINT a", "ROLLBACK"),
            ("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED", "SET"),
            ("SET TRANSACTION READ ONLY", "SET"),
            ("UNLISTEN *", "UNLISTEN"),
        ] {
            assert_eq!(session_of(sql), SessionStatement::Acknowledge(tag), "{sql}");
        }
        for sql in ["BEGIN", "START TRANSACTION READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ"] {
            assert_eq!(session_of(sql), SessionStatement::Begin, "{sql}");
        }
        assert_eq!(session_of("COMMIT"), SessionStatement::Commit);
        assert_eq!(session_of("END"), SessionStatement::Commit);
        assert_eq!(session_of("ABORT"), SessionStatement::Rollback);
        assert_eq!(session_of("DISCARD ALL"), SessionStatement::DiscardAll);
        assert_eq!(session_of("DEALLOCATE ALL"), SessionStatement::Deallocate(None));
        assert_eq!(session_of("CLOSE ALL"), SessionStatement::Close(None));
        assert_eq!(session_of("RESET ALL"), SessionStatement::Reset(None));
        assert_eq!(
            session_of("FETCH FORWARD 100 FROM c"),
            SessionStatement::Fetch { name: "c".to_owned(), row_count: Some(100) }
        );
    }

    #[test]
    fn settings_keep_name_and_value() {
        for (sql, name, value) in [
            ("SET extra_float_digits = 3", "extra_float_digits", "3"),
            ("set DateStyle to 'ISO'", "datestyle", "ISO"),
            ("SET TIME ZONE 'UTC'", "timezone", "UTC"),
            ("SET NAMES 'utf8'", "client_encoding", "utf8"),
            ("SET search_path TO public, pg_catalog", "search_path", "public, pg_catalog"),
        ] {
            let expected = SessionStatement::Set { name: name.to_owned(), value: value.to_owned() };
            assert_eq!(session_of(sql), expected, "{sql}");
        }
        for (sql, name) in [
            ("SHOW TRANSACTION ISOLATION LEVEL", "transaction_isolation"),
            ("show timezone", "timezone"),
            ("SHOW TIME ZONE", "timezone"),
            ("SHOW server_version", "server_version"),
        ] {
            assert_eq!(session_of(sql), SessionStatement::Show(name.to_owned()), "{sql}");
        }
    }

    #[test]
    fn nothing_that_writes_passes() {
        for sql in [
            "INSERT INTO logs VALUES (1)",
            "CREATE TABLE t (a int)",
            "CREATE TEMP TABLE t AS SELECT 1",
            "DROP TABLE logs",
            "COPY logs TO STDOUT",
            "COPY logs FROM '/etc/passwd'",
            "TRUNCATE logs",
            "PREPARE p AS SELECT 1",
            "EXPLAIN DELETE FROM logs",
            "SELECT 1; DELETE FROM logs",
            "DECLARE c SCROLL CURSOR FOR SELECT 1",
            "FETCH BACKWARD 1 FROM c",
            "LOCK TABLE logs",
            "GRANT SELECT ON logs TO me",
            "CALL f()",
            "DO $$ BEGIN END $$",
            "NOTIFY a",
            "VACUUM",
        ] {
            assert!(parse(sql).is_err(), "{sql}");
        }
    }

    #[test]
    fn limits_of_other_queries_hold() {
        let deep = format!("SELECT {}1{}", "(".repeat(1_000), ")".repeat(1_000));
        assert!(matches!(parse(&deep), Err(QueryError::TooComplex(_))));
        assert!(matches!(parse(&"SELECT 1;".repeat(100)), Err(QueryError::TooComplex(_))));
        assert!(matches!(parse(&format!("SELECT '{}'", "x".repeat(100_000))), Err(QueryError::TooComplex(_))));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_without_panic(sql in "\\PC{0,200}") {
            let _ = parse(&sql);
        }

        #[test]
        fn words_of_sql_in_any_order_never_panic(
            words in proptest::collection::vec(prop::sample::select(&[
                "SELECT", "SET", "SHOW", "FETCH", "DECLARE", "CURSOR", "FOR", "FROM", "c", "1", "'x'", "(", ")", ";",
                "BEGIN", "DEALLOCATE", "ALL", "RESET", "CLOSE", "$1", "::", "regclass", "=", "ANY", "ARRAY", "[", "]",
                "EXPLAIN", "WITH", "AS", ",", "CASE", "END", "TIME", "ZONE", "TO", "public.logs", "pg_class",
            ][..]), 0..30)
        ) {
            let _ = parse(&words.join(" "));
        }
    }
}
