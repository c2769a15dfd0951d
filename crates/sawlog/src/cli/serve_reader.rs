//! `sawlog serve` as a reader: queries and the page before BigQuery and Bigtable.
//!
//! For: starting and stopping a process that keeps nothing but keys and what queries spill. Not for: workers
//! ([`super::serve`]).

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use sawlog_gcp::logging::sink::{Entries, SinkWriter};
use sawlog_query::QueryEngine;
use sawlog_seams::view::ViewSource;
use sawlog_seams::{RealDisk, SystemClock};
use sawlog_server::postgres::PostgresServer;
use sawlog_server::{Backend, Readiness, ServerState, TAILS_MAX};
use sawlog_telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::serve::{BODIES_MAX, StopSignals, auth_policy, bind, serve_http};
use crate::config::{Config, GcpConfig};
use crate::data_dir::DataDir;
use crate::deploys_file;
use crate::reader::CloudReader;
use crate::shutdown::{REQUESTS_TIME_MAX, Stop};
use crate::wiring::{age_limits, query_limits};

/// Serves until a stop.
pub(super) async fn serve(
    config: &Config,
    gcp: &GcpConfig,
    metrics: Arc<Metrics>,
    sink: Option<(Entries, SinkWriter)>,
) -> anyhow::Result<ExitCode> {
    let mut signals = StopSignals::listen().context("the handlers of SIGINT and SIGTERM cannot be set")?;
    let http = bind(config.server.listen, "server.listen").await?;
    let postgres = match config.postgres.enabled {
        true => Some(bind(config.postgres.listen, "postgres.listen").await?),
        false => None,
    };
    let folder = DataDir::open(&config.data.folder)?;
    let reader = Arc::new(CloudReader::open(config, gcp).await?);
    let state = Arc::new(state(config, &folder, &reader, &metrics)?);
    announce(&http, postgres.as_ref(), gcp)?;
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    if let Some(listener) = postgres {
        let (queries, auth) = (Arc::clone(&state.queries), Arc::clone(&state.auth));
        let (postgres, stopped) = (PostgresServer::new(queries, auth, Arc::clone(&metrics)), stopped.clone());
        tasks.spawn(async move { postgres.serve(listener, stopped).await.context("the Postgres listener failed") });
    }
    if let Some((_, writer)) = sink {
        let stopped = stopped.clone();
        tasks.spawn(async move {
            writer.run(stopped).await;
            Ok(())
        });
    }
    let looking = Arc::clone(&reader).run(stopped.clone());
    tasks.spawn(async move {
        looking.await;
        Ok(())
    });
    tasks.spawn(serve_http(http, sawlog_server::router(Arc::clone(&state)), stopped));
    state.readiness.set(true);
    tracing::info!("reads; ready when the services answer");
    let ended_early = tokio::select! {
        () = signals.received() => None,
        Some(ended) = tasks.join_next() => Some(ended),
    };
    state.readiness.set(false);
    let stopping = Stop::begin();
    stop.send_replace(true);
    let finish = async { while tasks.join_next().await.is_some() {} };
    if stopping.step("open requests", REQUESTS_TIME_MAX, finish).await.is_none() {
        tasks.abort_all();
    }
    stopping.step("queries of BigQuery", stopping.rest(), reader.settle()).await;
    tracing::info!("stopped");
    match ended_early {
        Some(Ok(Err(error))) => Err(error),
        Some(Err(error)) => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn state(
    config: &Config,
    folder: &DataDir,
    reader: &Arc<CloudReader>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<ServerState> {
    let source = Arc::clone(reader) as Arc<dyn ViewSource>;
    let limits = query_limits(config, folder);
    let queries = QueryEngine::new(source, Arc::new(SystemClock::new()), Arc::new(RealDisk), limits)
        .context("the query engine cannot start")?;
    if let Some(path) = &config.deploys {
        queries.set_deploys(&deploys_file::read(path).map_err(anyhow::Error::msg)?)?;
    }
    let listened = [Some(config.server.listen), config.postgres.enabled.then_some(config.postgres.listen)];
    Ok(ServerState {
        backend: Backend::Reader(Arc::clone(reader) as _),
        queries: Arc::new(queries),
        auth: auth_policy(folder, listened.into_iter().flatten())?,
        metrics: Arc::clone(metrics),
        readiness: Arc::new(Readiness::default()),
        body_bytes_max: config.server.body_size_max.bytes() as usize,
        age: age_limits(&config.sources.http),
        files_age: age_limits(&config.sources.files),
        bodies: Arc::new(Semaphore::new(BODIES_MAX)),
        tails: Arc::new(Semaphore::new(TAILS_MAX)),
        push: None,
    })
}

/// Prints the addresses in use, as a worker does, and what is read.
fn announce(http: &TcpListener, postgres: Option<&TcpListener>, gcp: &GcpConfig) -> std::io::Result<()> {
    println!("sawlog listens on http://{}", http.local_addr()?);
    let postgres = postgres.map(TcpListener::local_addr).transpose()?;
    let postgres = postgres.map(|address| format!(", Postgres on {address}")).unwrap_or_default();
    let dataset = gcp.bigquery.as_ref().map(|bigquery| bigquery.dataset.as_str()).unwrap_or_default();
    println!("reads {}.{dataset}{postgres}", gcp.project);
    Ok(())
}
