//! What a reader must not have: settings of sources and rules, which a process without a pipeline cannot serve.

use super::gcp::Role;
use super::{Config, ConfigProblem};

/// A problem for each setting of a reader that only a worker can have.
pub(super) fn problems(config: &Config) -> Vec<ConfigProblem> {
    let Some(gcp) = config.gcp.as_ref().filter(|gcp| gcp.role == Role::Reader) else { return Vec::new() };
    let settings = [
        ("[[tail]]", !config.tails.is_empty()),
        ("[[pubsub]]", !config.pubsub.is_empty()),
        ("[[gcp.logging]]", !gcp.logging.is_empty()),
        ("[gcp.storage]", gcp.storage.is_some()),
        ("syslog.udp-listen", config.syslog.udp_listen.is_some()),
        ("syslog.tcp-listen", config.syslog.tcp_listen.is_some()),
        ("[[alerts]]", !config.alerts.is_empty()),
    ];
    let problem = |(setting, _)| ConfigProblem {
        origin: String::new(),
        key: "gcp.role".to_owned(),
        problem: format!("a reader takes no events and writes nothing, and {setting} is set"),
        hint: format!("leave {setting} to a worker's configuration"),
    };
    settings.into_iter().filter(|(_, is_set)| *is_set).map(problem).collect()
}
