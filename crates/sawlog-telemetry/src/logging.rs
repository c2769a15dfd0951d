//! Sawlog's own log: to standard error, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Libraries that report their normal work as errors; what matters of it comes back as an error to the caller.
const QUIET: &str = "buoyant_kernel=off,buoyant_kernel_engine=off,delta_kernel=off,deltalake_core=warn";

/// Starts logging. `filter` is a level (`info`) or a list such as `info,sawlog_wal=debug`; `more` gets all events too, to
/// filter by itself. Only the first call counts.
///
/// # Errors
/// When the filter is not understood.
pub fn init_logging<L>(filter: &str, format: LogFormat, more: Option<L>) -> Result<(), String>
where
    L: Layer<Registry> + Send + Sync,
{
    let filter = EnvFilter::try_new(format!("{QUIET},{filter}")).map_err(|error| error.to_string())?;
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.with_target(false).with_filter(filter).boxed(),
        LogFormat::Json => lines.json().with_filter(filter).boxed(),
    };
    let started = tracing_subscriber::registry().with(more).with(lines).try_init();
    // A second start, as tests do it, keeps the first one's settings.
    drop(started);
    Ok(())
}
