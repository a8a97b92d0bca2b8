//! `herald confirm`: what is held back may be done.

use super::client;
use std::path::PathBuf;
use std::process::ExitCode;

/// What `herald confirm` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The number that `herald peers` shows with what is held
    number: String,
    /// The Unix socket of the speaker
    #[arg(long, default_value = super::DEFAULT_SOCKET, value_name = "PATH")]
    socket: PathBuf,
}

/// Confirms it.
///
/// # Errors
/// The speaker does not answer, or nothing is held under that number.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let number = super::show::encode(&arguments.number);
    let answer = client::tell("speaker", &arguments.socket, &format!("/v1/confirm?number={number}"))?;
    super::print(&String::from_utf8_lossy(&answer))
}
