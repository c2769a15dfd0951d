//! `sawlog gcp`: what a configuration needs and makes in Google Cloud, and changes by hand there.

mod check;
mod load;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use sawlog_gcp::bigquery::{BigQueryClient, prepare, statements};

use super::seek::{self, SeekArgs};
use super::{SettingsArgs, runtime};
use crate::cloud;
use crate::config::Config;

#[derive(Debug, Args)]
pub(crate) struct GcpArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the statements and changes that `init` makes, and change nothing.
    Plan(SettingsArgs),
    /// Make what is missing: dataset, tables and views of BigQuery, tables and families of Bigtable.
    Init(SettingsArgs),
    /// Say whether all that the configuration names is there and may be used, and what to do where not. Changes nothing.
    Check(check::CheckArgs),
    /// Take messages of a Pub/Sub subscription again from a time or snapshot on; says what it does first.
    Seek(SeekArgs),
    /// Bring the tables and the lake of a data folder into BigQuery and Cloud Storage, each row once.
    Load(load::LoadArgs),
}

pub(crate) fn run(args: &GcpArgs) -> anyhow::Result<ExitCode> {
    let settings = match &args.action {
        Action::Plan(settings) | Action::Init(settings) | Action::Check(check::CheckArgs { settings, .. }) => settings,
        Action::Load(args) => &args.settings,
        Action::Seek(args) => return seek::run(args),
    };
    let config = match settings.load() {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    if config.gcp.is_none() && config.pubsub.is_empty() {
        eprintln!("error: the configuration has no [gcp] and no [[pubsub]]; docs/gcp.md shows them");
        return Ok(ExitCode::from(2));
    }
    runtime()?.block_on(async {
        match &args.action {
            Action::Check(args) => return check::run(args, &config).await,
            Action::Load(args) => return load::run(args, &config).await,
            Action::Init(_) => init(&config).await?,
            _ => plan(&config).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn plan(config: &Config) -> anyhow::Result<()> {
    let Some(gcp) = &config.gcp else { return Ok(()) };
    if let Some(options) = cloud::bigquery_options(gcp) {
        for statement in statements(&options)? {
            println!("-- {}\n{};\n", statement.makes, statement.sql);
        }
    }
    if let Some(bigtable) = &gcp.bigtable {
        let options = cloud::bigtable_options(gcp, bigtable, &config.retention);
        for change in cloud::table_changes(options, false).await? {
            println!("-- Bigtable: {change}");
        }
    }
    Ok(())
}

async fn init(config: &Config) -> anyhow::Result<()> {
    let Some(gcp) = &config.gcp else { return Ok(()) };
    if let Some(options) = cloud::bigquery_options(gcp) {
        prepare(&BigQueryClient::new(&options).await?, &options, true).await?;
        println!("BigQuery: dataset {} is as this version needs it", options.dataset);
    }
    if let Some(bigtable) = &gcp.bigtable {
        let options = cloud::bigtable_options(gcp, bigtable, &config.retention);
        for change in cloud::table_changes(options, true).await? {
            println!("Bigtable: {change}");
        }
        println!("Bigtable: table {} is as this version needs it", bigtable.table);
    }
    Ok(())
}
