//! `sawlog config`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::{SettingsArgs, report};
use crate::config::{Config, Loaded};

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check all layers and report every mistake.
    Check {
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Print all settings.
    Show {
        /// Say where each value comes from.
        #[arg(long)]
        origin: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: SettingsArgs,
    },
}

pub(crate) fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let settings = match &args.command {
        ConfigCommand::Check { settings } | ConfigCommand::Show { settings, .. } => settings,
    };
    let sources = settings.sources().map_err(anyhow::Error::msg)?;
    let loaded = match Config::load(&sources) {
        Ok(loaded) => loaded,
        Err(problems) => return Ok(report(&problems)),
    };
    match &args.command {
        ConfigCommand::Check { .. } => println!("the configuration is valid"),
        ConfigCommand::Show { json: true, .. } => print_json(&loaded)?,
        ConfigCommand::Show { origin, .. } => print_text(&loaded, *origin),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_text(loaded: &Loaded, with_origin: bool) {
    for (key, (value, origin)) in loaded.settings.iter().chain(&loaded.sections) {
        if with_origin {
            println!("{key} = {value}  # {origin}");
        } else {
            println!("{key} = {value}");
        }
    }
    for (section, what) in [("rules", "rules"), ("tail", "files to follow")] {
        if !loaded.sections.keys().any(|key| key.starts_with(section)) {
            println!("# no {what}");
        }
    }
}

fn print_json(loaded: &Loaded) -> anyhow::Result<()> {
    let entries: Vec<serde_json::Value> = loaded
        .settings
        .iter()
        .chain(&loaded.sections)
        .map(|(key, (value, origin))| serde_json::json!({"key": key, "value": value, "origin": origin.to_string()}))
        .collect();
    println!("{}", serde_json::to_string_pretty(&entries)?);
    Ok(())
}
