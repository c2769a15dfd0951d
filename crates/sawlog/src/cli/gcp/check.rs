//! `sawlog gcp check`: whether what a configuration names is there, and may be used.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use sawlog_gcp::check::{CheckOptions, CredentialsFile, Finding, State, check};
use sawlog_seams::{Disk, RealDisk, SystemClock};

use crate::cli::SettingsArgs;
use crate::cloud;
use crate::config::{Config, FromSetting, HumanDuration};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
    /// How to print what was found.
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
    /// Longest wait for one answer.
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = seconds)]
    deadline: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A line for each thing, and one below it with what to do.
    Text,
    /// `{"ok": …, "findings": […]}`.
    Json,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let time = HumanDuration::from_setting(&toml::Value::String(text.to_owned()));
    time.map(|time| time.duration()).map_err(|expected| format!("it is no {expected}; write it like 10s"))
}

/// Exit code 0 when nothing is lacking and every service answered, 1 otherwise.
pub(super) async fn run(args: &CheckArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let findings = check(options(args, config)).await;
    let is_ok = !findings.iter().any(|finding| matches!(finding.state, State::Lacking | State::Unknown));
    match args.format {
        Form::Json => {
            let report = serde_json::json!({"ok": is_ok, "findings": findings});
            println!("{}", serde_json::to_string_pretty(&report)?);
        }
        Form::Text => {
            findings.iter().for_each(print);
            println!("{}", summary(&findings));
        }
    }
    Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn options(args: &CheckArgs, config: &Config) -> CheckOptions {
    let gcp = config.gcp.as_ref();
    let subscriptions = config.pubsub.iter().map(|one| (one.subscription.clone(), one.access.clone()));
    let entries = gcp.iter().flat_map(|gcp| &gcp.logging).map(|one| (one.resource.clone(), one.access.clone()));
    let bigtable = gcp.and_then(|gcp| {
        let tables = gcp.bigtable.as_ref()?;
        Some(cloud::bigtable_options(gcp, tables, &config.retention))
    });
    CheckOptions {
        project: gcp.map(|gcp| gcp.project.clone()).unwrap_or_default(),
        subscriptions: subscriptions.collect(),
        bucket: gcp.and_then(|gcp| gcp.storage.as_ref()).map(|one| (one.bucket.clone(), one.access.clone())),
        bigquery: gcp.and_then(cloud::bigquery_options),
        bigtable,
        entries: entries.collect(),
        log: gcp.and_then(|gcp| gcp.log.as_ref()).map(|one| (one.log_id.clone(), one.access.clone())),
        credentials: credentials_file(),
        deadline: args.deadline,
        clock: Arc::new(SystemClock::new()),
    }
}

/// The file that Google's libraries take the application default credentials from.
fn credentials_file() -> Option<CredentialsFile> {
    let path = match std::env::var_os("GOOGLE_APPLICATION_CREDENTIALS") {
        Some(path) => PathBuf::from(path),
        None => {
            let home = PathBuf::from(std::env::var_os("HOME")?);
            let path = home.join(".config/gcloud/application_default_credentials.json");
            path.exists().then_some(path)?
        }
    };
    let content = RealDisk.read(&path).map_err(|error| error.to_string());
    Some(CredentialsFile { path, content })
}

fn print(finding: &Finding) {
    let Finding { service, resource, subject, state, detail, remedy, .. } = finding;
    let state = match state {
        State::Ok => "ok",
        State::Lacking => "LACKING",
        State::Warning => "warning",
        State::Unknown => "unknown",
        State::Unseen => "unseen",
    };
    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    println!("{state:8} {service} {resource}: {subject}{detail}");
    if !remedy.is_empty() {
        println!("         {remedy}");
    }
}

fn summary(findings: &[Finding]) -> String {
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (lacking, unknown) = (count(State::Lacking), count(State::Unknown));
    format!("{} checks: {lacking} lacking, {unknown} unknown, {} warnings", findings.len(), count(State::Warning))
}
