//! Sawlog's own log: to standard error, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

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

/// Starts logging. `filter` is a level (`info`) or a list such as `info,sawlog_wal=debug`. Only the first call counts.
///
/// # Errors
/// When the filter is not understood.
pub fn init_logging(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(format!("{QUIET},{filter}")).map_err(|error| error.to_string())?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    // A second start, as tests do it, keeps the first one's settings.
    drop(started);
    Ok(())
}
