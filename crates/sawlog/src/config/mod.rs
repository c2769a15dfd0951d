//! The configuration: typed, layered, and checked as a whole.
//!
//! For: merging defaults, file, environment and flags, and reporting all mistakes at once with their place and remedy.
//! Not for: what the settings do. The known keys are those of `config/default.toml`, which is therefore complete.

mod bigquery_queries;
mod dataflow;
mod gcp;
mod layers;
mod pubsub;
mod reader;
mod rules;
mod tail;
mod upkeep;
mod values;
mod verdicts;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sawlog_core::rules::{Rules, RulesConfig};

pub(crate) use bigquery_queries::BigQueryQueries;
pub(crate) use dataflow::{DataflowConfig, is_place};
pub(crate) use gcp::{BigtableConfig, GcpConfig, LoggingSourceConfig, Role, StorageConfig};
pub(crate) use layers::{ConfigSources, FILE_NAME, Origin};
pub(crate) use pubsub::PubsubMode;
pub(crate) use upkeep::{CompactionConfig, RetentionConfig};
pub(crate) use values::{ByteSize, FromSetting, HumanDuration};

use layers::{Layered, RULES, Section};

use sawlog_core::alert::Rule;
use sawlog_core::anomaly::WatchOptions;

use crate::deploys_file;
use crate::rules_files::read_text;
use pubsub::PubsubConfig;

use crate::tail::Tail;

const INTERVAL_MIN: Duration = Duration::from_millis(10);
const GIB: u64 = 1 << 30;
/// A body and its envelope must fit into one record of the event log.
const BODY_MAX: u64 = 64 << 20;
/// What every receiver must take by RFC 5424, section 6.1.
const SYSLOG_MIN: u64 = 480;
/// Half of what a record may have, since a relay's additions come on top.
const SYSLOG_MAX: u64 = 512 << 10;

/// All settings.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) data: DataConfig,
    pub(crate) server: ServerConfig,
    pub(crate) postgres: PostgresConfig,
    pub(crate) wal: WalConfig,
    pub(crate) pipeline: PipelineConfig,
    pub(crate) lake: LakeConfig,
    pub(crate) compaction: CompactionConfig,
    pub(crate) retention: RetentionConfig,
    pub(crate) query: QueryConfig,
    pub(crate) windows: WindowsConfig,
    pub(crate) rollups: RollupsConfig,
    pub(crate) sessions: SessionsConfig,
    pub(crate) anomalies: WatchOptions,
    pub(crate) alerts: Vec<Rule>,
    pub(crate) sources: SourcesConfig,
    pub(crate) syslog: SyslogConfig,
    pub(crate) tails: Vec<Tail>,
    pub(crate) pubsub: Vec<PubsubConfig>,
    /// `None`: no service of Google Cloud but subscriptions.
    pub(crate) gcp: Option<GcpConfig>,
    pub(crate) host_metrics: HostMetricsConfig,
    pub(crate) log: LogConfig,
    pub(crate) rules: RulesConfig,
    /// The list of deploys; `None`: none.
    pub(crate) deploys: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub(crate) struct DataConfig {
    pub(crate) folder: PathBuf,
    pub(crate) free_min: ByteSize,
}

#[derive(Clone, Debug)]
pub(crate) struct ServerConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) otlp_grpc_listen: SocketAddr,
    pub(crate) otlp_http_listen: SocketAddr,
    pub(crate) body_size_max: ByteSize,
}

#[derive(Clone, Debug)]
pub(crate) struct PostgresConfig {
    pub(crate) enabled: bool,
    pub(crate) listen: SocketAddr,
}

#[derive(Clone, Debug)]
pub(crate) struct WalConfig {
    pub(crate) segment_size: ByteSize,
    pub(crate) queue_size: ByteSize,
}

#[derive(Clone, Debug)]
pub(crate) struct PipelineConfig {
    pub(crate) flush_size: ByteSize,
    pub(crate) flush_interval: HumanDuration,
    pub(crate) memory_max: ByteSize,
    /// 0: one for each core.
    pub(crate) workers: usize,
    pub(crate) dedup_window: HumanDuration,
    pub(crate) dedup_keys_max: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct LakeConfig {
    pub(crate) enabled: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowsConfig {
    pub(crate) out_of_orderness: HumanDuration,
    pub(crate) idle_timeout: HumanDuration,
    pub(crate) allowed_lateness: HumanDuration,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct RollupsConfig {
    pub(crate) apdex_threshold: HumanDuration,
    pub(crate) series_max: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionsConfig {
    pub(crate) gap: HumanDuration,
    pub(crate) length_max: HumanDuration,
}

#[derive(Clone, Debug)]
pub(crate) struct QueryConfig {
    pub(crate) time_max: HumanDuration,
    pub(crate) memory_max: ByteSize,
    pub(crate) rows_max: usize,
    pub(crate) answer_max: ByteSize,
    pub(crate) spill_max: ByteSize,
    /// 0: one for each core.
    pub(crate) concurrent_max: usize,
    /// 0: one for each core.
    pub(crate) threads: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct SourcesConfig {
    pub(crate) http: SourceConfig,
    pub(crate) otlp: SourceConfig,
    pub(crate) files: SourceConfig,
    pub(crate) syslog: SourceConfig,
    pub(crate) tail: SourceConfig,
    pub(crate) pubsub: SourceConfig,
    pub(crate) logging: SourceConfig,
}

#[derive(Clone, Debug)]
pub(crate) struct SyslogConfig {
    /// `None`: off.
    pub(crate) udp_listen: Option<SocketAddr>,
    /// `None`: off.
    pub(crate) tcp_listen: Option<SocketAddr>,
    pub(crate) message_size_max: ByteSize,
    pub(crate) connections_max: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct SourceConfig {
    /// `None`: any past.
    pub(crate) past_max: Option<HumanDuration>,
    pub(crate) future_max: HumanDuration,
}

#[derive(Clone, Debug)]
pub(crate) struct HostMetricsConfig {
    pub(crate) enabled: bool,
    pub(crate) interval: HumanDuration,
}

#[derive(Clone, Debug)]
pub(crate) struct LogConfig {
    pub(crate) level: String,
    pub(crate) format: LogForm,
}

/// Form of Sawlog's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogForm {
    Text,
    Json,
}

impl LogForm {
    pub(crate) fn is_json(self) -> bool {
        self == Self::Json
    }
}

/// A mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigProblem {
    /// Where the setting comes from.
    pub(crate) origin: String,
    /// Dotted key; empty when a whole file is concerned.
    pub(crate) key: String,
    /// What is wrong.
    pub(crate) problem: String,
    /// What to do about it.
    pub(crate) hint: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        write!(f, "{}\n  hint: {}", self.problem, self.hint)
    }
}

/// A configuration and where each setting comes from.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// Key → value as text, and its origin.
    pub(crate) settings: BTreeMap<String, (String, Origin)>,
    /// The same of the sections that have no defaults: rules, files to follow, subscriptions and alerts.
    pub(crate) sections: BTreeMap<String, (String, Origin)>,
}

impl Config {
    /// Loads all layers.
    pub(crate) fn load(sources: &ConfigSources) -> Result<Loaded, Vec<ConfigProblem>> {
        let mut reader = Reader { layered: Layered::load(sources), problems: Vec::new() };
        let config = reader.config();
        let mut problems = std::mem::take(&mut reader.layered.problems);
        problems.append(&mut reader.problems);
        problems.extend(config.iter().flat_map(|config| placed(&reader.layered.gcp, reader::problems(config))));
        match config.filter(|_| problems.is_empty()) {
            Some(config) => {
                let mut sections = reader.layered.rules.shown();
                sections.append(&mut reader.layered.tail.shown());
                sections.append(&mut reader.layered.pubsub.shown());
                sections.append(&mut reader.layered.alerts.shown());
                sections.append(&mut reader.layered.gcp.shown());
                Ok(Loaded { config, settings: reader.layered.shown(), sections })
            }
            None => Err(problems),
        }
    }
}

/// Problems of a section with where each of them stands.
fn placed(section: &Section, problems: Vec<ConfigProblem>) -> impl Iterator<Item = ConfigProblem> {
    problems.into_iter().map(|problem| ConfigProblem { origin: section.origin(&problem.key).to_string(), ..problem })
}

struct Reader {
    layered: Layered,
    problems: Vec<ConfigProblem>,
}

impl Reader {
    /// The typed value of a key; a value that does not fit is noted as a problem.
    fn get<T: FromSetting>(&mut self, key: &str) -> Option<T> {
        let setting = self.layered.settings.get(key)?;
        match T::from_setting(&setting.value) {
            Ok(value) => Some(value),
            Err(expected) => {
                self.problems.push(ConfigProblem {
                    origin: setting.origin.to_string(),
                    key: key.to_owned(),
                    problem: format!("{} is no {expected}", setting.value),
                    hint: format!("write it like the default, {}", self.layered.default_of(key)),
                });
                None
            }
        }
    }

    /// All settings are read before any is missed, so that every mistake is reported.
    fn config(&mut self) -> Option<Config> {
        let data = (self.get("data.folder"), self.get("data.free-min"));
        let server = self.server();
        let postgres = (self.get("postgres.enabled"), self.get("postgres.listen"));
        let wal = (self.get("wal.segment-size"), self.get("wal.queue-size"));
        let pipeline = self.pipeline();
        let lake = self.get("lake.enabled").map(|enabled| LakeConfig { enabled });
        let (compaction, retention) = (upkeep::compaction(self), upkeep::retention(self));
        let query = self.query();
        let (windows, rollups, sessions) = (self.windows(), self.rollups(), self.sessions());
        let sources = (self.source("http"), self.source("otlp"), self.source("files"));
        let more_sources = (self.source("syslog"), self.source("tail"), self.source("pubsub"));
        let logging = self.source("logging");
        let (pubsub, gcp) = (self.pubsub(), self.gcp());
        let (tails, anomalies, alerts) = (self.tails(), verdicts::anomalies(self), verdicts::alerts(self));
        let syslog = self.syslog();
        let host_metrics = (self.get("host-metrics.enabled"), self.get("host-metrics.interval"));
        let log = (self.get("log.level"), self.get("log.format"));
        let (rules, deploys) = (self.rules(), self.deploys());
        self.check_ranges();
        Some(Config {
            data: DataConfig { folder: data.0?, free_min: data.1? },
            server: server?,
            postgres: PostgresConfig { enabled: postgres.0?, listen: postgres.1? },
            wal: WalConfig { segment_size: wal.0?, queue_size: wal.1? },
            pipeline: pipeline?,
            lake: lake?,
            compaction: compaction?,
            retention: retention?,
            query: query?,
            windows: windows?,
            rollups: rollups?,
            sessions: sessions?,
            anomalies: anomalies?,
            alerts: alerts?,
            sources: SourcesConfig {
                http: sources.0?,
                otlp: sources.1?,
                files: sources.2?,
                syslog: more_sources.0?,
                tail: more_sources.1?,
                pubsub: more_sources.2?,
                logging: logging?,
            },
            syslog: syslog?,
            tails: tails?,
            pubsub,
            gcp,
            host_metrics: HostMetricsConfig { enabled: host_metrics.0?, interval: host_metrics.1? },
            log: LogConfig { level: log.0?, format: log.1? },
            rules: rules?,
            deploys: deploys?,
        })
    }

    /// Values that fit their type and would still stop the server or make it spin.
    fn check_ranges(&mut self) {
        for key in ["pipeline.flush-interval", "host-metrics.interval", "query.time-max"] {
            let is_short = self.quiet::<HumanDuration>(key).is_some_and(|value| value.duration() < INTERVAL_MIN);
            if is_short {
                self.note(key, "it is shorter than 10 ms", "give at least 10ms");
            }
        }
        for (key, max) in [("wal.segment-size", GIB), ("wal.queue-size", GIB), ("server.body-size-max", BODY_MAX)] {
            let is_outside = self.quiet::<ByteSize>(key).is_some_and(|value| !(1024..=max).contains(&value.bytes()));
            if is_outside {
                self.note(key, "it is out of range", &format!("give from 1KiB to {}MiB", max >> 20));
            }
        }
    }

    /// A value whose mistakes were reported before.
    fn quiet<T: FromSetting>(&self, key: &str) -> Option<T> {
        T::from_setting(&self.layered.settings.get(key)?.value).ok()
    }

    fn server(&mut self) -> Option<ServerConfig> {
        let mut addresses = vec!["server.listen", "server.otlp-grpc-listen", "server.otlp-http-listen"];
        if self.quiet::<bool>("postgres.enabled") == Some(true) && self.quiet::<SocketAddr>("postgres.listen").is_some()
        {
            addresses.push("postgres.listen");
        }
        let found: Vec<Option<SocketAddr>> = addresses.iter().map(|key| self.get(key)).collect();
        let body_size_max = self.get("server.body-size-max");
        let (listen, otlp_grpc_listen, otlp_http_listen) = (found[0]?, found[1]?, found[2]?);
        for (index, key) in addresses.iter().enumerate().skip(1) {
            let is_taken =
                found[..index].contains(&found[index]) && found[index].is_some_and(|address| address.port() != 0);
            if is_taken {
                self.note(key, "another listener has the same address", "give each listener a port of its own");
            }
        }
        Some(ServerConfig { listen, otlp_grpc_listen, otlp_http_listen, body_size_max: body_size_max? })
    }

    fn pipeline(&mut self) -> Option<PipelineConfig> {
        let sizes = (self.get::<ByteSize>("pipeline.flush-size"), self.get::<ByteSize>("pipeline.memory-max"));
        let times = (self.get("pipeline.flush-interval"), self.get("pipeline.dedup-window"));
        let (workers, dedup_keys_max) = (self.get("pipeline.workers"), self.get("pipeline.dedup-keys-max"));
        let (flush_size, memory_max) = (sizes.0?, sizes.1?);
        if memory_max.bytes() < 2 * flush_size.bytes() {
            let problem = "it is smaller than twice pipeline.flush-size, so that ingest would wait for every flush";
            self.note("pipeline.memory-max", problem, "raise it, or lower pipeline.flush-size");
        }
        Some(PipelineConfig {
            flush_size,
            flush_interval: times.0?,
            memory_max,
            workers: workers?,
            dedup_window: times.1?,
            dedup_keys_max: dedup_keys_max?,
        })
    }

    fn windows(&mut self) -> Option<WindowsConfig> {
        let keys = ["windows.out-of-orderness", "windows.idle-timeout", "windows.allowed-lateness"];
        let [out_of_orderness, idle_timeout, allowed_lateness] = keys.map(|key| self.get(key));
        Some(WindowsConfig {
            out_of_orderness: out_of_orderness?,
            idle_timeout: idle_timeout?,
            allowed_lateness: allowed_lateness?,
        })
    }

    fn rollups(&mut self) -> Option<RollupsConfig> {
        let (apdex_threshold, series_max) = (self.get("rollups.apdex-threshold"), self.get("rollups.series-max"));
        if series_max == Some(0) {
            self.note("rollups.series-max", "it is 0", "give the most series that each rollup may have");
        }
        Some(RollupsConfig { apdex_threshold: apdex_threshold?, series_max: series_max? })
    }

    fn sessions(&mut self) -> Option<SessionsConfig> {
        const DAY: Duration = Duration::from_secs(86_400);
        let (gap, length_max) =
            (self.get::<HumanDuration>("sessions.gap"), self.get::<HumanDuration>("sessions.length-max"));
        for (key, value, min) in [("sessions.gap", gap, "1s"), ("sessions.length-max", length_max, "1m")] {
            let least = Duration::from_secs(if key == "sessions.gap" { 1 } else { 60 });
            if value.is_some_and(|value| !(least..=31 * DAY).contains(&value.duration())) {
                self.note(key, "it is out of range", &format!("give from {min} to 31d"));
            }
        }
        Some(SessionsConfig { gap: gap?, length_max: length_max? })
    }

    fn query(&mut self) -> Option<QueryConfig> {
        let (time_max, memory_max) = (self.get("query.time-max"), self.get("query.memory-max"));
        let (answer_max, spill_max) = (self.get("query.answer-max"), self.get("query.spill-max"));
        let (rows_max, concurrent_max, threads) =
            (self.get("query.rows-max"), self.get("query.concurrent-max"), self.get("query.threads"));
        Some(QueryConfig {
            time_max: time_max?,
            memory_max: memory_max?,
            rows_max: rows_max?,
            answer_max: answer_max?,
            spill_max: spill_max?,
            concurrent_max: concurrent_max?,
            threads: threads?,
        })
    }

    fn syslog(&mut self) -> Option<SyslogConfig> {
        let keys = ["syslog.udp-listen", "syslog.tcp-listen"];
        let found: Vec<Option<values::MaybeAddress>> = keys.iter().map(|key| self.get(key)).collect();
        let allow_remote: Option<bool> = self.get("syslog.allow-remote");
        let (message_size_max, connections_max) =
            (self.get::<ByteSize>("syslog.message-size-max"), self.get("syslog.connections-max"));
        for (key, address) in keys.into_iter().zip(&found) {
            let is_exposed = address.and_then(|found| found.0).is_some_and(|address| !address.ip().is_loopback());
            if is_exposed && allow_remote == Some(false) {
                let problem = "other machines reach this address, and syslog has no keys";
                self.note(key, problem, "listen on 127.0.0.1, or set `syslog.allow-remote = true`");
            }
        }
        if message_size_max.is_some_and(|size| !(SYSLOG_MIN..=SYSLOG_MAX).contains(&size.bytes())) {
            self.note("syslog.message-size-max", "it is out of range", "give from 480B to 512KiB");
        }
        if connections_max == Some(0) {
            self.note(
                "syslog.connections-max",
                "it is 0",
                "give at least 1; `syslog.tcp-listen = \"off\"` turns TCP off",
            );
        }
        Some(SyslogConfig {
            udp_listen: found[0]?.0,
            tcp_listen: found[1]?.0,
            message_size_max: message_size_max?,
            connections_max: connections_max?,
        })
    }

    fn pubsub(&mut self) -> Vec<PubsubConfig> {
        let section = &self.layered.pubsub;
        let (found, problems) = pubsub::read(&section.value);
        self.problems.extend(placed(section, problems));
        found
    }

    fn gcp(&mut self) -> Option<GcpConfig> {
        let section = &self.layered.gcp;
        let problems = match gcp::read(&section.value) {
            Ok(found) => return found,
            Err(problems) => problems,
        };
        self.problems.extend(placed(section, problems));
        None
    }

    fn tails(&mut self) -> Option<Vec<Tail>> {
        let section = &self.layered.tail;
        let (tails, problems) = tail::read(&section.value);
        self.problems.extend(placed(section, problems));
        Some(tails)
    }

    fn source(&mut self, name: &str) -> Option<SourceConfig> {
        let past = self.get::<values::Past>(&format!("sources.{name}.past-max"));
        let future = self.get(&format!("sources.{name}.future-max"));
        Some(SourceConfig { past_max: past?.0, future_max: future? })
    }

    fn rules(&mut self) -> Option<RulesConfig> {
        let section = &self.layered.rules;
        let unknown = rules::unknown_keys(&section.value);
        if !unknown.is_empty() {
            let placed = unknown
                .into_iter()
                .map(|problem| ConfigProblem { origin: section.origin(&problem.key).to_string(), ..problem });
            self.problems.extend(placed);
            return None;
        }
        match section.value.clone().try_into() {
            Ok(rules) => {
                self.compile(&rules);
                Some(rules)
            }
            Err(error) => {
                let hint = "the rules are described in docs/guides/rules.md";
                self.problems.push(ConfigProblem {
                    origin: section.origin(RULES).to_string(),
                    key: RULES.to_owned(),
                    problem: error.to_string().trim().replace('\n', " "),
                    hint: hint.to_owned(),
                });
                None
            }
        }
    }

    /// Reads the list of deploys to find its mistakes.
    fn deploys(&mut self) -> Option<Option<PathBuf>> {
        const KEY: &str = "deploys.file";
        let values::MaybePath(path) = self.get(KEY)?;
        if let Some(Err(problem)) = path.as_ref().map(|path| deploys_file::read(path)) {
            self.note(KEY, &problem, "correct the file; its columns are in docs/guides/enrichment.md");
        }
        Some(path)
    }

    /// Compiles the rules to find the mistakes that types cannot tell.
    fn compile(&mut self, rules: &RulesConfig) {
        let read = |path: &str| read_text(Path::new(path));
        for error in Rules::compile(rules, &read).err().unwrap_or_default() {
            self.problems.push(ConfigProblem {
                origin: self.layered.rules.origin(RULES).to_string(),
                key: format!("{RULES}, {}", error.place),
                problem: error.problem,
                hint: error.hint,
            });
        }
    }

    fn note(&mut self, key: &str, problem: &str, hint: &str) {
        let origin = self.layered.settings.get(key).map_or(String::new(), |setting| setting.origin.to_string());
        let (problem, hint) = (problem.to_owned(), hint.to_owned());
        self.problems.push(ConfigProblem { origin, key: key.to_owned(), problem, hint });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, Vec<ConfigProblem>> {
        let own = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
        };
        let file = (PathBuf::from("test.toml"), file.to_owned());
        Config::load(&ConfigSources { file: Some(Ok(file)), environment: own(environment), flags: own(flags) })
    }

    #[test]
    fn later_layers_win_and_say_so() {
        let file = "[wal]\nsegment-size = \"1MiB\"\nqueue-size = \"2MiB\"\n[query]\nrows-max = 7\n";
        let environment = [("SAWLOG__WAL__QUEUE_SIZE", "3MiB"), ("SAWLOG__LAKE__ENABLED", "false")];
        let loaded = load(file, &environment, &[("query.rows-max", "9")]).expect("a configuration");
        assert_eq!(loaded.config.wal.segment_size.bytes(), 1 << 20);
        assert_eq!(loaded.config.wal.queue_size.bytes(), 3 << 20);
        assert!(!loaded.config.lake.enabled);
        assert_eq!(loaded.config.query.rows_max, 9);
        assert_eq!(loaded.settings["wal.segment-size"].1.to_string(), "test.toml:2");
        assert_eq!(loaded.settings["wal.queue-size"].1.to_string(), "SAWLOG__WAL__QUEUE_SIZE");
        assert_eq!(loaded.settings["query.time-max"].1.to_string(), "default");
    }

    #[test]
    fn a_reader_has_no_sources() {
        let gcp = "[gcp]\nproject = \"p\"\nrole = \"reader\"\n";
        let dataset = "[gcp.bigquery]\ndataset = \"d\"\n";
        load(&format!("{gcp}{dataset}"), &[], &[]).expect("a reader");
        let source = "[[pubsub]]\nsubscription = \"projects/p/subscriptions/s\"\n[[gcp.logging]]\n";
        let problems = load(&format!("{gcp}{dataset}{source}"), &[], &[]).expect_err("sources");
        let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 2, "{text:#?}");
        assert!(text[0].contains("test.toml:3") && text[0].contains("[[pubsub]] is set"), "{text:#?}");
        let problems = load(gcp, &[], &[]).expect_err("no tables");
        assert!(problems[0].to_string().contains("a reader has no tables of its own"), "{problems:#?}");
    }

    #[test]
    fn all_mistakes_are_reported_at_once_with_a_suggestion() {
        let file = "[wal]\nsegmentsize = \"1MiB\"\n[query]\ntime-max = \"soon\"\n";
        let problems =
            load(file, &[("SAWLOG__SERVR__LISTEN", "x")], &[("lake.enabled", "maybe")]).expect_err("mistakes");
        let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 4, "{text:#?}");
        assert!(text.iter().any(|line| line.contains("test.toml:2") && line.contains("wal.segment-size")), "{text:#?}");
        assert!(text.iter().any(|line| line.contains("server.listen")), "{text:#?}");
    }

    #[test]
    fn syslog_is_for_this_machine_unless_said_otherwise() {
        let remote = ("syslog.udp-listen", "0.0.0.0:514");
        let problems = load("", &[], &[remote]).expect_err("a mistake");
        assert!(problems[0].to_string().contains("allow-remote"), "{}", problems[0]);
        let loaded = load("", &[], &[remote, ("syslog.allow-remote", "true")]).expect("a configuration");
        assert_eq!(loaded.config.syslog.udp_listen, "0.0.0.0:514".parse().ok());
        assert_eq!(loaded.config.syslog.tcp_listen, None);
        for bad in [("syslog.tcp-listen", "on"), ("syslog.message-size-max", "1MiB"), ("syslog.connections-max", "0")] {
            assert_eq!(load("", &[], &[bad]).expect_err("a mistake").len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn rules_and_followed_files_are_shown_with_their_lines() {
        let file = "[[tail]]\npaths = [\"/a\"]\n[[tail]]\npaths = [\"/b\"]\n[[rules.filter]]\nname = \"h\"\n\
                    where = [{ field = \"http_path\", equals = \"/healthz\" }]\n[rules.defaults.by-source.nginx]\n\
                    service = \"n\"\n";
        let shown: Vec<String> = load(file, &[], &[])
            .expect("a configuration")
            .sections
            .iter()
            .map(|(key, (value, origin))| format!("{key} = {value} # {origin}"))
            .collect();
        assert_eq!(
            shown,
            [
                "rules.defaults.by-source.nginx.service = \"n\" # test.toml:9",
                "rules.filter[0].name = \"h\" # test.toml:6",
                "rules.filter[0].where[0].equals = \"/healthz\" # test.toml:7",
                "rules.filter[0].where[0].field = \"http_path\" # test.toml:7",
                "tail[0].paths = [\"/a\"] # test.toml:2",
                "tail[1].paths = [\"/b\"] # test.toml:4",
            ]
        );
    }

    #[test]
    fn last_values_of_users_are_kept_as_long_as_events_may_be_old() {
        let loaded = load("", &[], &[]).expect("a configuration");
        assert_eq!(loaded.config.retention.profiles, 400);
        let loaded = load("[retention]\nprofiles = 0\n", &[], &[]).expect("a configuration");
        assert_eq!(loaded.config.retention.profiles, 0, "for ever");
    }

    #[test]
    fn memory_must_hold_two_flushes() {
        let problems = load("", &[], &[("pipeline.memory-max", "64MiB")]).expect_err("a mistake");
        assert_eq!(problems[0].key, "pipeline.memory-max");
    }

    #[test]
    fn rules_are_typed_and_unknown_keys_in_them_are_mistakes() {
        let rules = "[[rules.redact]]\nname = \"e\"\npattern = \"email\"\nat = \"receive\"\n";
        assert_eq!(load(rules, &[], &[]).expect("rules").config.rules.redact.len(), 1);
        let file = "[[rules.redact]]\nname = \"a\"\npattern = \"email\"\n[[rules.redact]]\nnam = \"e\"\n[rules.default]\nservice = \"x\"\n";
        let unknown: Vec<String> =
            load(file, &[], &[]).expect_err("mistakes").iter().map(ToString::to_string).collect();
        assert_eq!(unknown.len(), 2, "{unknown:#?}");
        assert!(
            unknown[0].contains("test.toml:6: `rules.default`") && unknown[0].contains("`defaults`"),
            "{unknown:#?}"
        );
        assert!(unknown[1].contains("test.toml:5: `rules.redact[1].nam`"), "{unknown:#?}");
        assert!(unknown[1].contains("did you mean `name`?"), "{unknown:#?}");
        let broken = load("[[rules.redact]]\nname = \"e\"\npattern = \"(\"\n", &[], &[]).expect_err("a mistake");
        assert!(broken[0].to_string().contains("redact \"e\""), "{}", broken[0]);
    }
}
