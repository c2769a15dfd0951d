//! Taking over changed rules without a restart.
//!
//! For: the configuration file, the files that rules name and the list of deploys, looked at every second and on SIGHUP.
//! What has mistakes changes nothing: the old rules and deploys stay and the mistakes are logged and counted. Not for: the other
//! settings, whose changes are named and wait for a restart. A batch is always transformed under one version of the
//! rules, which stands in its rows and in the log.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sawlog_core::rules::RulesConfig;
use sawlog_query::QueryEngine;
use sawlog_stream::Pipeline;
use sawlog_telemetry::Metrics;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::SettingsArgs;
use crate::config::{Config, ConfigProblem, Loaded, Origin};
use crate::deploys_file;
use crate::rules_files::{RulesFiles, named_files};

const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What reloading needs.
pub(crate) struct RulesReload {
    pub(crate) settings: SettingsArgs,
    pub(crate) archive: Arc<RulesFiles>,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) queries: Arc<QueryEngine>,
    /// The list of deploys that the server was started with.
    pub(crate) deploys: Option<PathBuf>,
    /// The settings as last loaded.
    pub(crate) known: BTreeMap<String, (String, Origin)>,
}

impl RulesReload {
    /// Looks for changes until stopped.
    pub(crate) async fn run(mut self, rules: RulesConfig, mut stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut watched = self.watched(&rules);
        let mut seen = stamps(&watched);
        loop {
            let is_asked = tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
                _ = hangup.recv() => true,
                () = tokio::time::sleep(LOOK_INTERVAL) => false,
            };
            let now = stamps(&watched);
            if !is_asked && now == seen {
                continue;
            }
            seen = now;
            // Files of millions of users take their time, which other tasks of this thread must not wait for.
            if let Some(rules) = tokio::task::block_in_place(|| self.reload()) {
                watched = self.watched(&rules);
                seen = stamps(&watched);
            }
        }
    }

    /// The files that rules are made of.
    fn watched(&self, rules: &RulesConfig) -> Vec<PathBuf> {
        let named = named_files(rules).map(PathBuf::from);
        std::iter::once(self.settings.file()).chain(named).chain(self.deploys.clone()).collect()
    }

    /// Loads the configuration anew; the rules in force from now on, unless they have mistakes.
    fn reload(&mut self) -> Option<RulesConfig> {
        let loaded = match self.settings.sources().map(|sources| Config::load(&sources)) {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(problems)) => return self.refuse(problems.iter().map(ConfigProblem::to_string)),
            Err(problem) => return self.refuse([problem]),
        };
        match self.archive.save(&loaded.config.rules) {
            Ok(rules) => {
                if rules.version() != self.pipeline.rules().version() {
                    tracing::info!(version = rules.version(), "rules changed");
                    self.metrics.count_rules_reload(true);
                    self.pipeline.set_rules(rules);
                }
                if let Some(problem) = self.reload_deploys().err() {
                    return self.refuse([problem]);
                }
                self.name_what_waits(&loaded);
                Some(loaded.config.rules)
            }
            Err(error) => self.refuse([format!("{error:#}")]),
        }
    }

    fn reload_deploys(&self) -> Result<(), String> {
        if let Some(path) = &self.deploys {
            let deploys = deploys_file::read(path)?;
            self.queries.set_deploys(&deploys).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn refuse(&self, problems: impl IntoIterator<Item = String>) -> Option<RulesConfig> {
        self.metrics.count_rules_reload(false);
        for problem in problems {
            tracing::error!(%problem, "the changed configuration is not used; the rules stay as they were");
        }
        None
    }

    fn name_what_waits(&mut self, loaded: &Loaded) {
        for (key, (value, _)) in &loaded.settings {
            if self.known.get(key).is_none_or(|(known, _)| known != value) {
                tracing::warn!(key, value, "this setting changes when the server is started again");
            }
        }
        self.known.clone_from(&loaded.settings);
    }
}

/// When each file changed last and how long it is; `None` for one that cannot be read.
fn stamps(files: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    let stamp = |file: &PathBuf| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.iter().map(stamp).collect()
}
