//! The Postgres protocol: SQL for every program that can talk to Postgres.
//!
//! For: connections, start of sessions, keys as passwords, cancel requests. Not for: statements ([`handler`]) or limits
//! of queries (`sawlog-query`, the same as for HTTP). Connections, messages, prepared statements, cursors and settings
//! are bounded. There is no encryption on this port: the password is an API key in clear text, so listen on loopback or
//! put an encrypting tunnel in front.

mod error;
mod handler;
mod limit;
mod parameters;
mod rows;
mod session;

use std::collections::HashMap;
use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::{Sink, SinkExt, StreamExt};
use pgwire::api::auth::{
    DefaultServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use pgwire::api::cancel::CancelHandler;
use pgwire::api::{
    ClientInfo, DefaultClient, NoopHandler, PgWireConnectionState, PidSecretKeyGenerator, RandomPidSecretKeyGenerator,
};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::response::{GssEncResponse, SslResponse};
use pgwire::messages::startup::Authentication;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage, SslNegotiationMetaMessage};
use pgwire::tokio::server::{PgWireMessageServerCodec, process_error, process_message};
use sawlog_query::QueryEngine;
use sawlog_telemetry::Metrics;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::codec::Framed;

use crate::auth::{AuthPolicy, Scope};
use crate::listen::until;
use handler::{Handler, Prepared};
use limit::Limited;
use session::Session;

/// Connections at the same time; more are refused.
const CONNECTIONS_MAX: usize = 100;
/// Time from a connection to the end of its start.
const START_TIME_MAX: Duration = Duration::from_secs(20);
/// How often a client may ask for encryption: once for TLS, once for GSS.
const ENCRYPTION_REQUESTS_MAX: usize = 2;

/// Serves Postgres clients.
pub struct PostgresServer {
    handler: Arc<Handler>,
    auth: Arc<AuthPolicy>,
    keys: RandomPidSecretKeyGenerator,
    /// Sessions by their process id and secret, which a cancel request names.
    sessions: Mutex<HashMap<CancelKey, Arc<Session>>>,
}

impl Debug for PostgresServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresServer").finish_non_exhaustive()
    }
}

/// Process id and secret of a session.
type CancelKey = (i32, Vec<u8>);
type Socket = Framed<Limited<TcpStream>, PgWireMessageServerCodec<Prepared>>;

impl PostgresServer {
    /// A server over an engine.
    #[must_use]
    pub fn new(queries: Arc<QueryEngine>, auth: Arc<AuthPolicy>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            handler: Arc::new(Handler::new(queries, metrics)),
            auth,
            keys: RandomPidSecretKeyGenerator::default(),
            sessions: Mutex::default(),
        })
    }

    /// Serves until `stopped`, then lets running statements end.
    ///
    /// # Errors
    /// When the listener fails for good.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stopped: watch::Receiver<bool>) -> io::Result<()> {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        let mut stopping = stopped.clone();
        loop {
            let stream = tokio::select! {
                () = until(&mut stopping) => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of file descriptors, most likely: connections that end make room.
                        tracing::warn!(%error, "a Postgres connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let (server, stopped) = (Arc::clone(&self), stopped.clone());
            let place = Arc::clone(&places).try_acquire_owned().ok();
            connections.spawn(async move {
                if let Err(error) = server.connection(stream, stopped, place.is_some()).await {
                    tracing::debug!(%error, "a Postgres connection broke");
                }
                drop(place);
            });
        }
        while connections.join_next().await.is_some() {}
        Ok(())
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        mut stopped: watch::Receiver<bool>,
        has_place: bool,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let client = DefaultClient::new(stream.peer_addr()?, false);
        let mut socket: Socket = Framed::new(Limited::new(stream), PgWireMessageServerCodec::new(client));
        let started = tokio::time::timeout(START_TIME_MAX, self.start(&mut socket, has_place)).await;
        if !matches!(started, Ok(Ok(true))) {
            return Ok(());
        }
        let key = cancel_key(&socket);
        loop {
            let message = tokio::select! {
                () = until(&mut stopped) => {
                    let bye = error::fatal("57P01", "the server stops", "connect again when it is back");
                    process_error(&mut socket, bye, false).await?;
                    break;
                }
                message = socket.next() => message,
            };
            let Some(Ok(message)) = message else { break };
            if matches!(message, PgWireFrontendMessage::Terminate(_)) {
                break;
            }
            self.process(message, &mut socket).await?;
        }
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        Ok(())
    }

    /// Negotiates and authenticates; `false` when there is no session to serve.
    async fn start(self: &Arc<Self>, socket: &mut Socket, has_place: bool) -> io::Result<bool> {
        let mut encryption_requests = 0;
        while matches!(socket.state(), PgWireConnectionState::AwaitingSslRequest) {
            let Some(Ok(PgWireFrontendMessage::SslNegotiation(request))) = socket.next().await else {
                return Ok(false);
            };
            encryption_requests += 1;
            let refusal = match request {
                SslNegotiationMetaMessage::PostgresSsl(_) => PgWireBackendMessage::SslResponse(SslResponse::Refuse),
                SslNegotiationMetaMessage::PostgresGss(_) => {
                    PgWireBackendMessage::GssEncResponse(GssEncResponse::Refuse)
                }
                _ => {
                    socket.set_state(PgWireConnectionState::AwaitingStartup);
                    break;
                }
            };
            if encryption_requests > ENCRYPTION_REQUESTS_MAX {
                return Ok(false);
            }
            socket.send(refusal).await?;
        }
        while !matches!(socket.state(), PgWireConnectionState::ReadyForQuery) {
            let Some(Ok(message)) = socket.next().await else { return Ok(false) };
            let is_cancel = matches!(message, PgWireFrontendMessage::CancelRequest(_));
            if !has_place && !is_cancel {
                let problem = format!("there are {CONNECTIONS_MAX} connections already");
                let full = error::fatal("53300", problem, "close some, or use a connection pool");
                process_error(socket, full, false).await?;
                return Ok(false);
            }
            if let Err(error) = self.process_start(message, socket).await {
                process_error(socket, error, false).await?;
                return Ok(false);
            }
            if is_cancel {
                return Ok(false);
            }
        }
        let session = socket.session_extensions().get_or_insert_with(Session::default);
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(cancel_key(socket), session);
        Ok(true)
    }

    async fn process_start(self: &Arc<Self>, message: PgWireFrontendMessage, socket: &mut Socket) -> PgWireResult<()> {
        let (handler, noop) = (Arc::clone(&self.handler), Arc::new(NoopHandler));
        process_message(message, socket, Arc::clone(self), Arc::clone(&handler), handler, noop, Arc::clone(self)).await
    }

    async fn process(self: &Arc<Self>, message: PgWireFrontendMessage, socket: &mut Socket) -> io::Result<()> {
        let is_extended = message.is_extended_query();
        match self.process_start(message, socket).await {
            Ok(()) => Ok(()),
            Err(error) => process_error(socket, error, is_extended).await,
        }
    }

    /// Lets the holder of a key in.
    fn check_password(&self, password: &str) -> PgWireResult<()> {
        self.auth.check(Some(&format!("Bearer {password}")), Scope::Query).map(|_| ()).map_err(|refused| {
            let hint = "the password is an API key with the scope query: `sawlog key create --name NAME --scope query`";
            error::fatal("28P01", format!("password authentication failed: {refused}"), hint)
        })
    }
}

fn cancel_key(client: &impl ClientInfo) -> CancelKey {
    let (process, secret) = client.pid_and_secret_key();
    (process, secret.to_bytes().to_vec())
}

#[async_trait]
impl StartupHandler for PostgresServer {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        match message {
            PgWireFrontendMessage::Startup(startup) => {
                protocol_negotiation(client, &startup).await?;
                save_startup_parameters_to_metadata(client, &startup);
                if client.metadata().contains_key("replication") {
                    return Err(error::fatal("0A000", "replication is not served", "connect without `replication`"));
                }
                if !self.auth.is_open() {
                    client.set_state(PgWireConnectionState::AuthenticationInProgress);
                    let ask = PgWireBackendMessage::Authentication(Authentication::CleartextPassword);
                    client.send(ask).await?;
                    return Ok(());
                }
            }
            PgWireFrontendMessage::PasswordMessageFamily(password) => {
                self.check_password(&password.into_password()?.password)?;
            }
            _ => return Err(error::fatal("08P01", "this message cannot start a session", "use a Postgres client")),
        }
        let (process, secret) = self.keys.generate(&*client);
        client.set_pid_and_secret_key(process, secret);
        finish_authentication(client, &parameters()).await
    }
}

/// What a client is told about the server when a session starts.
fn parameters() -> DefaultServerParameterProvider {
    let mut parameters = DefaultServerParameterProvider::default();
    let setting = |name| sawlog_query::postgres::setting_default(name).unwrap_or_default().to_owned();
    parameters.server_version = setting("server_version");
    parameters.time_zone = setting("timezone");
    parameters.date_style = setting("datestyle");
    parameters.is_superuser = false;
    parameters.default_transaction_read_only = true;
    parameters
}

#[async_trait]
impl CancelHandler for PostgresServer {
    async fn on_cancel_request(&self, request: CancelRequest) {
        let key = (request.pid, request.secret_key.to_bytes().to_vec());
        let session = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(session) = session {
            session.cancel();
        }
    }
}
