//! `sawlog serve`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use sawlog_gcp::logging::sink::{Entries, SinkWriter};
use sawlog_query::QueryEngine;
use sawlog_seams::SystemClock;
use sawlog_server::auth::{AuthPolicy, KeyStore};
use sawlog_server::postgres::PostgresServer;
use sawlog_server::receive::otlp::{self, LogsServer, MetricsServer, OtlpState};
use sawlog_server::receive::syslog::{self, SyslogState};
use sawlog_server::{Backend, Readiness, ServerState, TAILS_MAX, listen};
use sawlog_stream::Pipeline;
use sawlog_telemetry::{LogFormat, Metrics, init_logging};
use tokio::net::{TcpListener, UdpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use super::serve_reader;
use crate::cli::{SettingsArgs, runtime};
use crate::cloud;
use crate::config::{Config, Loaded, Role, SyslogConfig};
use crate::data_dir::DataDir;
use crate::host_metrics;
use crate::pubsub;
use crate::rules_reload::RulesReload;
use crate::shutdown::{REQUESTS_TIME_MAX, Stop, THREADS_TIME_MAX};
use crate::tail::{self, TailOptions};
use crate::wiring::{Node, age_limits, schedule};

/// Bodies that are in memory at the same time; more requests wait.
pub(super) const BODIES_MAX: usize = 16;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    // Nothing is loaded first: what drops the sender lets the measuring of this machine begin.
    run_with(&args.settings, |_| std::future::pending())
}

/// What runs next to a server gets.
pub(super) struct Beside {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) queries: Arc<QueryEngine>,
    /// Address of the page.
    pub(super) address: String,
    /// To be dropped when history is loaded: this machine is measured from then on, since what is live completes the windows
    /// of the past, and what is loaded into them later teaches the detectors nothing.
    pub(super) history: oneshot::Sender<()>,
}

/// Serves, and runs `beside` next to the server once it is ready. When `beside` ends, the server goes on.
pub(super) fn run_with<F, R>(settings: &SettingsArgs, beside: F) -> anyhow::Result<ExitCode>
where
    F: FnOnce(Beside) -> R,
    R: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let loaded = match settings.load_with_origins() {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let config = &loaded.config;
    let format = if config.log.format.is_json() { LogFormat::Json } else { LogFormat::Text };
    let metrics = Arc::new(Metrics::default());
    let (layer, sink) = match cloud::log_sink(config, &metrics)? {
        Some((layer, writer)) => {
            let entries = layer.entries();
            (Some(layer), Some((entries, writer)))
        }
        None => (None, None),
    };
    init_logging(&config.log.level, format, layer).map_err(anyhow::Error::msg)?;
    let runtime = runtime()?;
    let served = match config.gcp.as_ref().filter(|gcp| gcp.role == Role::Reader) {
        Some(gcp) => runtime.block_on(serve_reader::serve(config, gcp, metrics, sink)),
        None => runtime.block_on(serve(&loaded, settings, metrics, sink, beside)),
    };
    // What was cut off must not hold up the end of the process.
    runtime.shutdown_timeout(THREADS_TIME_MAX);
    served
}

async fn serve<F, R>(
    loaded: &Loaded,
    settings: &SettingsArgs,
    metrics: Arc<Metrics>,
    sink: Option<(Entries, SinkWriter)>,
    beside: F,
) -> anyhow::Result<ExitCode>
where
    F: FnOnce(Beside) -> R,
    R: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    // From here on a signal stops the server in order, however far its start has come.
    let mut signals = StopSignals::listen().context("the handlers of SIGINT and SIGTERM cannot be set")?;
    let config = &loaded.config;
    let listeners = Listeners::bind(config).await?;
    let node = Node::open_counting(config, Arc::clone(&metrics)).await?;
    let readiness = Arc::new(Readiness::default());
    let (state, otlp) = states(config, &node, &readiness, &metrics)?;
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    listeners.announce();
    let address = listeners.http.local_addr()?.to_string();
    listeners.serve(&mut tasks, state, otlp, syslog_state(config, &node), &stopped);
    spawn_tail(config, &node, Arc::clone(&metrics), &stopped, &mut tasks);
    pubsub::spawn(config, &node, &stopped, &mut tasks);
    cloud::spawn(sink, config, &node, &stopped, &mut tasks)?;
    let reload = RulesReload {
        settings: settings.clone(),
        archive: Arc::clone(&node.rules),
        pipeline: Arc::clone(&node.pipeline),
        metrics,
        queries: Arc::clone(&node.queries),
        deploys: config.deploys.clone(),
        known: loaded.settings.clone(),
    };
    tasks.spawn(reload.run(config.rules.clone(), stopped.clone()));
    let (jobs, schedule, mut jobs_stopped) = (Arc::clone(&node.jobs), schedule(config), stopped.clone());
    tasks.spawn(async move {
        jobs.run(schedule, jobs_stopped.clone()).await;
        // A schedule without jobs ends at once, which must not end the server.
        listen::until(&mut jobs_stopped).await;
        Ok(())
    });
    let (history, is_loaded) = oneshot::channel();
    spawn_host_metrics(config, &node, is_loaded, &stopped, &mut tasks);
    readiness.set(true);
    tracing::info!("ready");
    let (pipeline, queries) = (Arc::clone(&node.pipeline), Arc::clone(&node.queries));
    let beside = tokio::spawn(beside(Beside { pipeline, queries, address, history }));
    let ended_early = tokio::select! {
        () = signals.received() => None,
        Some(ended) = tasks.join_next() => Some(ended),
    };
    readiness.set(false);
    beside.abort();
    let stopping = Stop::begin();
    stop.send_replace(true);
    node.pipeline.end_taps();
    let finish = async { while tasks.join_next().await.is_some() {} };
    if stopping.step("open requests and jobs", REQUESTS_TIME_MAX, finish).await.is_none() {
        tasks.abort_all();
    }
    node.close_within(&stopping).await?;
    tracing::info!("stopped");
    match ended_early {
        Some(Ok(Err(error))) => Err(error),
        Some(Err(error)) => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

struct Listeners {
    http: TcpListener,
    otlp_http: TcpListener,
    otlp_grpc: TcpListener,
    postgres: Option<TcpListener>,
    syslog: SyslogListeners,
}

struct SyslogListeners {
    udp: Option<UdpSocket>,
    tcp: Option<TcpListener>,
}

impl Listeners {
    /// Ports are taken before the data folder is opened: a port in use is the most common mistake.
    async fn bind(config: &Config) -> anyhow::Result<Self> {
        let server = &config.server;
        Ok(Self {
            http: bind(server.listen, "server.listen").await?,
            otlp_http: bind(server.otlp_http_listen, "server.otlp-http-listen").await?,
            otlp_grpc: bind(server.otlp_grpc_listen, "server.otlp-grpc-listen").await?,
            postgres: match config.postgres.enabled {
                true => Some(bind(config.postgres.listen, "postgres.listen").await?),
                false => None,
            },
            syslog: SyslogListeners::bind(&config.syslog).await?,
        })
    }

    /// Prints the addresses in use, one a line, for people and for programs that start Sawlog on port 0.
    fn announce(&self) {
        let address =
            |listener: &TcpListener| listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
        println!("sawlog listens on http://{}", address(&self.http));
        let postgres = self.postgres.as_ref().map(|listener| format!(", Postgres on {}", address(listener)));
        println!(
            "OTLP/gRPC on {}, OTLP/HTTP on http://{}{}",
            address(&self.otlp_grpc),
            address(&self.otlp_http),
            postgres.unwrap_or_default()
        );
        if let Some(udp) = &self.syslog.udp {
            println!("syslog/UDP on {}", udp.local_addr().map(|address| address.to_string()).unwrap_or_default());
        }
        if let Some(tcp) = &self.syslog.tcp {
            println!("syslog/TCP on {}", address(tcp));
        }
    }
}

impl Listeners {
    /// Starts a task for each listener.
    fn serve(
        self,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        state: Arc<ServerState>,
        otlp: Arc<OtlpState>,
        syslog: Arc<SyslogState>,
        stopped: &watch::Receiver<bool>,
    ) {
        self.syslog.serve(tasks, syslog, stopped);
        if let Some(listener) = self.postgres {
            let (queries, auth, metrics) = (&state.queries, &state.auth, &state.metrics);
            let postgres = PostgresServer::new(Arc::clone(queries), Arc::clone(auth), Arc::clone(metrics));
            let stopped = stopped.clone();
            tasks.spawn(async move { postgres.serve(listener, stopped).await.context("the Postgres listener failed") });
        }
        tasks.spawn(serve_http(self.http, sawlog_server::router(state), stopped.clone()));
        tasks.spawn(serve_http(self.otlp_http, otlp::router(Arc::clone(&otlp)), stopped.clone()));
        tasks.spawn(serve_grpc(self.otlp_grpc, otlp, stopped.clone()));
    }
}

impl SyslogListeners {
    async fn bind(config: &SyslogConfig) -> anyhow::Result<Self> {
        let udp = match config.udp_listen {
            None => None,
            Some(address) => Some(UdpSocket::bind(address).await.with_context(|| {
                format!("cannot listen on {address}; stop what uses the port or set `syslog.udp-listen`")
            })?),
        };
        let tcp = match config.tcp_listen {
            None => None,
            Some(address) => Some(bind(address, "syslog.tcp-listen").await?),
        };
        Ok(Self { udp, tcp })
    }

    fn serve(self, tasks: &mut JoinSet<anyhow::Result<()>>, state: Arc<SyslogState>, stopped: &watch::Receiver<bool>) {
        if let Some(socket) = self.udp {
            let (state, stopped) = (Arc::clone(&state), stopped.clone());
            tasks.spawn(
                async move { syslog::serve_udp(socket, state, stopped).await.context("syslog over UDP failed") },
            );
        }
        if let Some(listener) = self.tcp {
            let stopped = stopped.clone();
            tasks.spawn(
                async move { syslog::serve_tcp(listener, state, stopped).await.context("syslog over TCP failed") },
            );
        }
    }
}

fn spawn_tail(
    config: &Config,
    node: &Node,
    metrics: Arc<Metrics>,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) {
    if !config.tails.is_empty() {
        let following = TailOptions {
            tails: config.tails.clone(),
            age: age_limits(&config.sources.tail),
            state: node.folder.tail(),
            pipeline: Arc::clone(&node.pipeline),
            metrics,
        };
        tasks.spawn(tail::run(following, stopped.clone()));
    }
}

/// Measures this machine once history is loaded.
fn spawn_host_metrics(
    config: &Config,
    node: &Node,
    is_loaded: oneshot::Receiver<()>,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) {
    if !config.host_metrics.enabled {
        return;
    }
    let (pipeline, interval) = (Arc::clone(&node.pipeline), config.host_metrics.interval.duration());
    let folder = node.folder.path().to_path_buf();
    let (stopped, mut stopped_first) = (stopped.clone(), stopped.clone());
    tasks.spawn(async move {
        tokio::select! {
            _ = is_loaded => {}
            () = listen::until(&mut stopped_first) => {}
        }
        host_metrics::run(pipeline, folder, interval, stopped).await;
        Ok(())
    });
}

fn syslog_state(config: &Config, node: &Node) -> Arc<SyslogState> {
    Arc::new(SyslogState {
        pipeline: Arc::clone(&node.pipeline),
        metrics: Arc::clone(&node.metrics),
        clock: Arc::new(SystemClock::new()),
        age: age_limits(&config.sources.syslog),
        message_bytes_max: config.syslog.message_size_max.bytes() as usize,
        connections_max: config.syslog.connections_max,
    })
}

pub(super) async fn bind(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; stop what uses the port or set `{setting}`"))
}

/// What the receivers share: keys, counters and the budget of bodies in memory.
fn states(
    config: &Config,
    node: &Node,
    readiness: &Arc<Readiness>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Arc<ServerState>, Arc<OtlpState>)> {
    let server = &config.server;
    let postgres = config.postgres.enabled.then_some(config.postgres.listen);
    let listened = [server.listen, server.otlp_grpc_listen, server.otlp_http_listen].into_iter().chain(postgres);
    let auth = auth_policy(&node.folder, listened)?;
    let bodies = Arc::new(Semaphore::new(BODIES_MAX));
    let body_bytes_max = config.server.body_size_max.bytes() as usize;
    let state = ServerState {
        backend: Backend::Worker(Arc::clone(&node.pipeline)),
        queries: Arc::clone(&node.queries),
        auth: Arc::clone(&auth),
        metrics: Arc::clone(metrics),
        readiness: Arc::clone(readiness),
        body_bytes_max,
        age: age_limits(&config.sources.http),
        files_age: age_limits(&config.sources.files),
        bodies: Arc::clone(&bodies),
        push: pubsub::push_receiver(config, node)?,
        tails: Arc::new(Semaphore::new(TAILS_MAX)),
    };
    let otlp = OtlpState {
        pipeline: Arc::clone(&node.pipeline),
        auth,
        metrics: Arc::clone(metrics),
        bodies,
        body_bytes_max,
        age: age_limits(&config.sources.otlp),
    };
    Ok((Arc::new(state), Arc::new(otlp)))
}

/// A non-loopback address without a key would let anyone in: refuse it.
pub(super) fn auth_policy(
    folder: &DataDir,
    mut listened: impl Iterator<Item = SocketAddr>,
) -> anyhow::Result<Arc<AuthPolicy>> {
    let keys = KeyStore::open(&folder.keys())?;
    let exposed = listened.find(|address| !address.ip().is_loopback());
    if let Some(address) = exposed
        && keys.is_empty()
    {
        anyhow::bail!(
            "{address} can be reached from other machines, but there is no API key; \
             make one with `sawlog key create --name NAME --scope ingest --data {}`, or listen on 127.0.0.1",
            folder.path().display()
        );
    }
    Ok(Arc::new(AuthPolicy::new(keys, exposed.is_none())))
}

pub(super) async fn serve_http(
    listener: TcpListener,
    router: axum::Router,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    listen::serve(listener, router, stopped).await.context("the HTTP server failed")
}

async fn serve_grpc(
    listener: TcpListener,
    state: Arc<OtlpState>,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tonic::transport::Server::builder()
        .add_service(LogsServer::new(Arc::clone(&state)))
        .add_service(MetricsServer::new(state))
        .serve_with_incoming_shutdown(incoming, async move { listen::until(&mut stopped).await })
        .await
        .context("the gRPC server failed")
}

/// The signals that ask for a stop. What is sent from its making on is not missed.
pub(super) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub(super) async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
