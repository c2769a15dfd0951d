//! Statements of a session, by the simple and by the extended protocol.
//!
//! For: parsing, describing, binding and running statements one after the other, sending rows as they come. Not for:
//! what a statement may do (`sawlog-query`). A cancel request ends the statement at any point, also while it sends.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::{Sink, SinkExt};
use pgwire::api::portal::{Format, Portal, PortalExecutionState};
use pgwire::api::query::{
    ExtendedQueryHandler, SimpleQueryHandler, send_describe_response, send_execution_response,
    send_partial_query_response, send_query_response, send_ready_for_query,
};
use pgwire::api::results::{DescribePortalResponse, FieldInfo, QueryResponse, Response};
use pgwire::api::stmt::{QueryParser, StoredStatement};
use pgwire::api::store::{Entry, PortalStore};
use pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, PgWireConnectionState, Type};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete, TARGET_TYPE_BYTE_PORTAL,
    TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::{EmptyQueryResponse, TransactionStatus};
use pgwire::messages::simplequery::Query;
use sawlog_query::postgres::{ReadStatement, SessionStatement, Statement, parse};
use sawlog_query::{ParameterValue, QueryEngine};
use sawlog_telemetry::Metrics;
use tokio::sync::Mutex;

use super::error::{error, of_query};
use super::parameters;
use super::rows::{Reader, check_format, fields, rows};
use super::session::Session;

/// A parsed statement and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    sql: Arc<str>,
    statement: Statement,
    schema: SchemaRef,
    parameters: Vec<DataType>,
}

/// Runs statements.
pub(super) struct Handler {
    queries: Arc<QueryEngine>,
    metrics: Arc<Metrics>,
}

impl Handler {
    pub(super) fn new(queries: Arc<QueryEngine>, metrics: Arc<Metrics>) -> Self {
        Self { queries, metrics }
    }

    async fn read(
        &self,
        query: &ReadStatement,
        parameters: &[(ParameterValue, DataType)],
        sql: &Arc<str>,
    ) -> PgWireResult<Arc<Mutex<Reader>>> {
        let started = Instant::now();
        let stream = self.queries.stream(query, parameters).await.map_err(|problem| of_query(&problem, sql))?;
        self.metrics.observe_query(started.elapsed().as_secs_f64());
        Ok(Reader::new(stream, Arc::clone(sql)))
    }

    /// Runs one statement up to its first row.
    async fn run<C>(
        &self,
        client: &C,
        statement: &Statement,
        parameters: &[(ParameterValue, DataType)],
        format: &Format,
        sql: &Arc<str>,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Send + Sync,
        C::PortalStore: PortalStore,
    {
        let session = session(client);
        check_transaction(client.transaction_status(), statement)?;
        match statement {
            Statement::Read(query) => {
                let reader = self.read(query, parameters, sql).await?;
                let schema = Arc::clone(reader.lock().await.schema());
                check_format(format, schema.fields().len())?;
                let fields = fields(&schema, format)?;
                Ok(Response::Query(QueryResponse::new(Arc::clone(&fields), rows(reader, fields, None))))
            }
            Statement::Session(SessionStatement::Declare { name, query }) => {
                session.check_new_cursor(name)?;
                session.open_cursor(name.clone(), self.read(query, parameters, sql).await?);
                Ok(Response::Execution(pgwire::api::results::Tag::new("DECLARE CURSOR")))
            }
            Statement::Session(statement) => {
                if let SessionStatement::Deallocate(name) = statement {
                    deallocate(client, &session, name.as_deref());
                }
                let schema = session_schema(&session, statement).await?;
                check_format(format, schema.fields().len())?;
                session.run(statement, fields(&schema, format)?, client.transaction_status())
            }
        }
    }
}

impl Handler {
    /// Runs a bound statement up to its first row.
    async fn run_portal<C>(&self, client: &C, portal: &Portal<Prepared>) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Send + Sync,
        C::PortalStore: PortalStore,
    {
        let prepared = &portal.statement.statement;
        let mut values = Vec::with_capacity(prepared.parameters.len());
        for (index, data_type) in prepared.parameters.iter().enumerate() {
            let declared = portal.statement.parameter_types.get(index).cloned().flatten();
            let pg_type = declared
                .filter(|declared| *declared != Type::UNKNOWN)
                .unwrap_or_else(|| parameters::told_type(data_type));
            let is_binary = portal.parameter_format.is_binary(index);
            let bytes = portal.parameters.get(index).and_then(Option::as_ref);
            values.push((parameters::value(index + 1, bytes, is_binary, &pg_type)?, data_type.clone()));
        }
        self.run(client, &prepared.statement, &values, &portal.result_column_format, &prepared.sql).await
    }
}

/// The session of a client.
fn session(client: &impl ClientInfo) -> Arc<Session> {
    client.session_extensions().get_or_insert_with(Session::default)
}

fn deallocate<C>(client: &C, session: &Session, name: Option<&str>)
where
    C: ClientPortalStore,
    C::PortalStore: PortalStore,
{
    let names = name.map_or_else(|| session.names(TARGET_TYPE_BYTE_STATEMENT), |name| vec![name.to_owned()]);
    for name in names {
        client.portal_store().rm_statement(&name);
        session.remove_name(TARGET_TYPE_BYTE_STATEMENT, &name);
    }
}

/// After an error in a transaction only its end is accepted, as clients expect.
fn check_transaction(status: TransactionStatus, statement: &Statement) -> PgWireResult<()> {
    let ends = matches!(statement, Statement::Session(SessionStatement::Commit | SessionStatement::Rollback))
        || matches!(statement, Statement::Session(SessionStatement::Acknowledge("ROLLBACK")));
    if status == TransactionStatus::Error && !ends {
        let problem = "current transaction is aborted, commands ignored until end of transaction block";
        return Err(error("25P02", problem, "send ROLLBACK"));
    }
    Ok(())
}

/// Columns of what a session statement answers.
async fn session_schema(session: &Session, statement: &SessionStatement) -> PgWireResult<SchemaRef> {
    Ok(match statement {
        SessionStatement::Show(name) => Arc::new(Schema::new(vec![Field::new(name.as_str(), DataType::Utf8, false)])),
        SessionStatement::Fetch { name, .. } => Arc::clone(session.cursor(name)?.lock().await.schema()),
        _ => Arc::new(Schema::empty()),
    })
}

/// Runs until the client cancels.
async fn unless_canceled<T>(session: &Session, work: impl Future<Output = PgWireResult<T>> + Send) -> PgWireResult<T> {
    let canceled = session.canceled();
    tokio::select! {
        done = work => done,
        () = canceled => Err(PgWireError::QueryCanceled),
    }
}

#[async_trait]
impl SimpleQueryHandler for Handler {
    async fn on_query<C>(&self, client: &mut C, query: Query) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let sql: Arc<str> = query.query.into();
        let statements = parse(&sql).map_err(|problem| of_query(&problem, &sql))?;
        client.set_state(PgWireConnectionState::QueryInProgress);
        if statements.is_empty() {
            client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
        }
        let session = session(client);
        // One after the other, each to its end: every running query holds a turn.
        for statement in &statements {
            unless_canceled(&session, async {
                let response = self.run(client, statement, &[], &Format::UnifiedText, &sql).await?;
                send(client, response).await
            })
            .await?;
        }
        client.set_state(PgWireConnectionState::ReadyForQuery);
        let status = client.transaction_status();
        send_ready_for_query(client, status).await
    }

    async fn do_query<C>(&self, _: &mut C, _: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        // `on_query` above does all of it.
        Ok(Vec::new())
    }
}

/// Sends the answer to one statement.
async fn send<C>(client: &mut C, response: Response) -> PgWireResult<()>
where
    C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    match response {
        Response::Query(rows) => send_query_response(client, rows, true).await,
        other => send_tag(client, other).await,
    }
}

/// Sends an answer without rows.
async fn send_tag<C>(client: &mut C, response: Response) -> PgWireResult<()>
where
    C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let status = client.transaction_status();
    let (tag, status) = match response {
        Response::Execution(tag) => (tag, status),
        Response::TransactionStart(tag) => (tag, status.to_in_transaction_state()),
        Response::TransactionEnd(tag) => (tag, status.to_idle_state()),
        _ => return Ok(()),
    };
    client.set_transaction_status(status);
    send_execution_response(client, tag).await
}

#[async_trait]
impl ExtendedQueryHandler for Handler {
    type Statement = Prepared;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Parser> {
        Arc::new(Parser { queries: Arc::clone(&self.queries) })
    }

    async fn on_parse<C>(&self, client: &mut C, message: Parse) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = session(client);
        session.add_name(TARGET_TYPE_BYTE_STATEMENT, message.name.as_deref())?;
        let parsing = StoredStatement::parse(&*client, &message, self.query_parser());
        match unless_canceled(&session, parsing).await? {
            Some(statement) => client.portal_store().put_statement(Arc::new(statement)),
            None => client.portal_store().put_empty_statement(message.name.as_deref().unwrap_or(DEFAULT_NAME)),
        }
        client.feed(PgWireBackendMessage::ParseComplete(ParseComplete::new())).await?;
        Ok(())
    }

    async fn on_bind<C>(&self, client: &mut C, message: Bind) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.statement_name.as_deref().unwrap_or(DEFAULT_NAME);
        let statement = client.portal_store().get_statement(name);
        let statement = statement.ok_or_else(|| PgWireError::StatementNotFound(name.to_owned()))?;
        session(client).add_name(TARGET_TYPE_BYTE_PORTAL, message.portal_name.as_deref())?;
        let needed = statement.value().map_or(0, |statement| statement.statement.parameters.len());
        let (given, formats) = (message.parameters.len(), message.parameter_format_codes.len());
        if given != needed || (formats > 1 && formats != given) {
            let problem = format!("the statement has {needed} parameters, but {given} come with {formats} formats");
            return Err(error("08P01", problem, "bind one value for each of $1, $2, …"));
        }
        match statement {
            Entry::Value(statement) => {
                client.portal_store().put_portal(Arc::new(Portal::try_new(&message, statement)?));
            }
            Entry::Empty => {
                client.portal_store().put_empty_portal(message.portal_name.as_deref().unwrap_or(DEFAULT_NAME));
            }
        }
        client.feed(PgWireBackendMessage::BindComplete(BindComplete::new())).await?;
        Ok(())
    }

    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal = match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) => portal,
            Some(Entry::Empty) => {
                client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
                return Ok(());
            }
            None => return Err(PgWireError::PortalNotFound(name.to_owned())),
        };
        let row_count = usize::try_from(message.max_rows).unwrap_or(0);
        let session = session(client);
        let state = portal.state();
        let mut state = state.lock().await;
        // Whatever ends this early leaves a portal that gives no more rows.
        let before = std::mem::replace(&mut *state, PortalExecutionState::Finished);
        let after = unless_canceled(&session, async {
            let mut rows = match before {
                PortalExecutionState::Suspended(rows) => rows,
                PortalExecutionState::Finished => QueryResponse::new(Arc::default(), futures::stream::empty()),
                PortalExecutionState::Initial => match self.run_portal(client, &portal).await? {
                    Response::Query(rows) => rows,
                    other => {
                        send_tag(client, other).await?;
                        return Ok(PortalExecutionState::Finished);
                    }
                },
            };
            let is_suspended = send_partial_query_response(client, &mut rows, row_count).await?;
            Ok(if is_suspended { PortalExecutionState::Suspended(rows) } else { PortalExecutionState::Finished })
        })
        .await;
        *state = after?;
        Ok(())
    }

    /// A cursor is described as a portal of its name.
    async fn on_describe<C>(&self, client: &mut C, message: Describe) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let is_portal = message.target_type == TARGET_TYPE_BYTE_PORTAL;
        if is_portal
            && client.portal_store().get_portal(name).is_none()
            && let Ok(cursor) = session(client).cursor(name)
        {
            let schema = Arc::clone(cursor.lock().await.schema());
            let fields = fields(&schema, &Format::UnifiedText)?.as_ref().clone();
            return send_describe_response(client, &DescribePortalResponse::new(fields)).await;
        }
        self._on_describe(client, message).await
    }

    async fn on_close<C>(&self, client: &mut C, message: Close) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        if message.target_type == TARGET_TYPE_BYTE_STATEMENT {
            client.portal_store().rm_statement(name);
        } else {
            client.portal_store().rm_portal(name);
            session(client).close_cursor(name);
        }
        session(client).remove_name(message.target_type, name);
        client.feed(PgWireBackendMessage::CloseComplete(CloseComplete::new())).await?;
        Ok(())
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Prepared>, _: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.run_portal(client, portal).await
    }
}

/// Parses and describes statements.
pub(super) struct Parser {
    queries: Arc<QueryEngine>,
}

#[async_trait]
impl QueryParser for Parser {
    type Statement = Prepared;

    async fn parse_sql<C>(&self, client: &C, sql: &str, types: &[Option<Type>]) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut statements = parse(sql).map_err(|problem| of_query(&problem, sql))?;
        let Some(statement) = statements.pop() else { return Ok(None) };
        if !statements.is_empty() {
            let problem = "cannot insert multiple commands into a prepared statement";
            return Err(error("42601", problem, "prepare them one by one"));
        }
        check_transaction(client.transaction_status(), &statement)?;
        let (schema, parameters) = match &statement {
            Statement::Read(query) | Statement::Session(SessionStatement::Declare { query, .. }) => {
                let declared: Vec<Option<DataType>> =
                    types.iter().map(|declared| parameters::declared_type(declared.as_ref()?)).collect();
                let known = self.queries.describe(query, &declared).await;
                let known = known.map_err(|problem| of_query(&problem, sql))?;
                let is_read = matches!(statement, Statement::Read(_));
                (if is_read { known.schema } else { Arc::new(Schema::empty()) }, known.parameters)
            }
            Statement::Session(statement) => (session_schema(&session(client), statement).await?, Vec::new()),
        };
        Ok(Some(Prepared { sql: sql.into(), statement, schema, parameters }))
    }

    fn get_parameter_types(&self, prepared: &Prepared) -> PgWireResult<Vec<Type>> {
        Ok(prepared.parameters.iter().map(parameters::told_type).collect())
    }

    fn get_result_schema(&self, prepared: &Prepared, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        let format = format.unwrap_or(&Format::UnifiedText);
        check_format(format, prepared.schema.fields().len())?;
        Ok(fields(&prepared.schema, format)?.as_ref().clone())
    }
}
