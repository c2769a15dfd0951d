//! `sawlog key`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use sawlog_core::time;
use sawlog_server::auth::{KeyStore, Scope};

use crate::cli::SettingsArgs;
use crate::data_dir::keys_of;

#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key and print it once.
    Create {
        /// What the key is for.
        #[arg(long)]
        name: String,
        /// ingest, query or admin; may be repeated.
        #[arg(long, required = true)]
        scope: Vec<Scope>,
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// List keys, without their secrets.
    List {
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Revoke a key; running servers notice within two seconds.
    Revoke {
        /// Id of the key, as `sawlog key list` prints it.
        id: String,
        #[command(flatten)]
        settings: SettingsArgs,
    },
}

pub(crate) fn run(args: &KeyArgs) -> anyhow::Result<ExitCode> {
    let settings = match &args.command {
        KeyCommand::Create { settings, .. } | KeyCommand::List { settings } | KeyCommand::Revoke { settings, .. } => {
            settings
        }
    };
    let config = match settings.load() {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    std::fs::create_dir_all(&config.data.folder)?;
    let keys = KeyStore::open(&keys_of(&config.data.folder))?;
    match &args.command {
        KeyCommand::Create { name, scope, .. } => {
            let token = keys.create(name, scope)?;
            eprintln!("key {} is shown once; from now on requests need a key:", token.id());
            println!("{}", token.reveal());
        }
        KeyCommand::List { .. } => {
            for key in keys.list() {
                let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.name()).collect();
                println!("{}  {}  {}  {}", key.id, time::to_rfc3339(key.created_micros), scopes.join(","), key.name);
            }
        }
        KeyCommand::Revoke { id, .. } => {
            let key = keys.revoke(id)?;
            eprintln!("revoked {} ({})", key.id, key.name);
        }
    }
    Ok(ExitCode::SUCCESS)
}
