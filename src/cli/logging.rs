//! Log lines of the processes that run for long.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// What is logged unless HERALD_LOG says otherwise. The client library complains of each failed request once more, without
/// saying which; our own lines say it, once an outage.
const DEFAULT_FILTER: &str = "info,kube_client::client::builder=off";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line for people
    Text,
    /// A JSON object a line
    Json,
}

/// HERALD_LOG is no filter.
#[derive(Debug, thiserror::Error)]
#[error("HERALD_LOG is not a filter such as 'info' or 'herald=debug': {0}")]
pub struct BadFilter(#[from] tracing_subscriber::filter::ParseError);

/// Begins to write log lines to standard error.
///
/// # Errors
/// HERALD_LOG is no filter.
pub fn begin_logging(format: LogFormat) -> Result<(), BadFilter> {
    let filter = match std::env::var("HERALD_LOG") {
        Ok(directives) => EnvFilter::builder().parse(directives)?,
        Err(_) => EnvFilter::new(DEFAULT_FILTER),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
