//! The command line: data on standard output, messages on standard error, exit code 0 fine, 1 failed, 2 misused.

mod anomalies;
mod compact;
mod config;
mod confirm;
mod dataflow;
mod demo;
mod gcp;
mod generate;
mod ingest;
mod key;
mod publish;
mod query;
mod query_bigquery;
mod recount;
mod retention;
mod search;
mod seek;
mod serve;
mod serve_reader;
mod tail;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::client::Client;
use crate::config::{Config, ConfigProblem, ConfigSources, FILE_NAME, Loaded};

/// Real-time log analytics in one binary.
#[derive(Debug, Parser)]
#[command(name = "sawlog", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive, store and serve until stopped.
    Serve(serve::ServeArgs),
    /// Load files (or standard input) into a data folder or a running server.
    Ingest(ingest::IngestArgs),
    /// Publish the records of files (or standard input) to a topic of Google Cloud Pub/Sub, a message each.
    Publish(publish::PublishArgs),
    /// Show or make what a configuration needs in Google Cloud.
    Gcp(gcp::GcpArgs),
    /// Launch, replace, drain and watch the job of the Beam pipeline in Google Cloud Dataflow.
    Dataflow(dataflow::DataflowArgs),
    /// Run one SQL query on a data folder or a running server.
    Query(query::QueryArgs),
    /// Find events with a filter, in a data folder or a running server.
    Search(search::SearchArgs),
    /// Watch events of a running server as they arrive.
    Tail(tail::TailArgs),
    /// Make realistic events at a set pace.
    Generate(generate::GenerateArgs),
    /// Score how surprising the values of a series are.
    Anomalies(anomalies::AnomaliesArgs),
    /// Show what it does: a server with this machine's logs and a generated stream.
    Demo(demo::DemoArgs),
    /// Merge small files of a data folder and delete what nobody needs any more.
    Compact(compact::CompactArgs),
    /// Count stored rows again and correct rollups: what came too late is made good.
    Recount(recount::RecountArgs),
    /// Delete what is older than `[retention]` keeps.
    Retention(retention::RetentionArgs),
    /// Check and show the configuration.
    Config(config::ConfigArgs),
    /// Make, list and revoke API keys.
    Key(key::KeyArgs),
}

/// Where settings come from.
#[derive(Debug, Clone, Args)]
pub(crate) struct SettingsArgs {
    /// Data folder [default: ./sawlog-data].
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Configuration file [default: ./sawlog.toml where there is one].
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One setting, e.g. `--set pipeline.flush-interval=10s`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// Which server to go through, if one.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArgs {
    /// Go through a running server instead of opening the data folder.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// API key for the server.
    #[arg(long, env = "SAWLOG_API_KEY", hide_env_values = true, value_name = "KEY")]
    key: Option<String>,
}

impl ServerArgs {
    /// A client of the server, where one is named.
    pub(crate) fn client(&self) -> anyhow::Result<Option<Client>> {
        self.url.as_ref().map(|url| Client::new(url, self.key.as_deref())).transpose()
    }
}

impl SettingsArgs {
    /// Loads the configuration; on mistakes reports all of them.
    pub(crate) fn load(&self) -> Result<Config, ExitCode> {
        self.load_with_origins().map(|loaded| loaded.config)
    }

    /// Loads the configuration and where each setting comes from.
    pub(crate) fn load_with_origins(&self) -> Result<Loaded, ExitCode> {
        let sources = match self.sources() {
            Ok(sources) => sources,
            Err(problem) => {
                eprintln!("error: {problem}");
                return Err(ExitCode::from(2));
            }
        };
        Config::load(&sources).map_err(|problems| report(&problems))
    }

    /// The configuration file, whether it is there or not.
    pub(crate) fn file(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| PathBuf::from(FILE_NAME))
    }

    /// The layers that these arguments name.
    pub(crate) fn sources(&self) -> Result<ConfigSources, String> {
        let mut flags = Vec::new();
        if let Some(folder) = &self.data {
            flags.push(("data.folder".to_owned(), folder.display().to_string()));
        }
        for assignment in &self.set {
            let (key, value) = assignment
                .split_once('=')
                .ok_or_else(|| format!("`--set {assignment}` has no `=`; write `--set KEY=VALUE`"))?;
            flags.push((key.trim().to_owned(), value.trim().to_owned()));
        }
        Ok(ConfigSources::from_process(self.config.clone(), flags))
    }
}

fn report(problems: &[ConfigProblem]) -> ExitCode {
    for problem in problems {
        eprintln!("error: {problem}");
    }
    ExitCode::from(2)
}

/// Runs the program.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not mistakes.
            let code = if error.use_stderr() { 2 } else { 0 };
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let result = match cli.command {
        None => {
            print!("{}", welcome());
            return ExitCode::SUCCESS;
        }
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Ingest(args)) => ingest::run(&args),
        Some(Command::Gcp(args)) => gcp::run(&args),
        Some(Command::Dataflow(args)) => dataflow::run(&args),
        Some(Command::Publish(args)) => publish::run(&args),
        Some(Command::Query(args)) => query::run(&args),
        Some(Command::Search(args)) => search::run(&args),
        Some(Command::Tail(args)) => tail::run(&args),
        Some(Command::Generate(args)) => generate::run(&args),
        Some(Command::Demo(args)) => demo::run(&args),
        Some(Command::Compact(args)) => compact::run(&args),
        Some(Command::Recount(args)) => recount::run(&args),
        Some(Command::Retention(args)) => retention::run(&args),
        Some(Command::Anomalies(args)) => anomalies::run(&args),
        Some(Command::Config(args)) => config::run(&args),
        Some(Command::Key(args)) => key::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn welcome() -> &'static str {
    "Sawlog: real-time log analytics in one binary.

Start it:        sawlog serve
Load a file:     sawlog ingest /var/log/*.log
Send events:     curl -d '{\"message\":\"hello\",\"level\":\"info\",\"service\":\"demo\"}' http://localhost:7070/v1/events
Ask:             sawlog query \"SELECT service, count(*) FROM logs GROUP BY service\"
Find:            sawlog search 'service:demo severity>=error' --from -1h
Watch:           sawlog tail 'severity>=warn'
Try with data:   sawlog generate --rate 100 --url http://localhost:7070
Look:            http://localhost:7070

`ingest`, `query` and `search` work on the data folder alone, or through a running server with --url.
All commands: sawlog --help
"
}

/// A runtime for a command.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
