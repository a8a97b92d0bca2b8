//! `herald confirm`: what is held back may be done.

use super::client;
use std::path::PathBuf;
use std::process::ExitCode;

/// What `herald confirm` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The number that `herald peers` or `herald pools` shows with what is held
    number: String,
    /// The Unix socket of the speaker, or of the allocator
    #[arg(long, default_value = super::DEFAULT_SOCKET, value_name = "PATH")]
    socket: PathBuf,
}

/// Confirms it.
///
/// # Errors
/// Nobody answers there, or nothing is held under that number.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let number = super::show::encode(&arguments.number);
    let answer = client::tell("process", &arguments.socket, &format!("/v1/confirm?number={number}"))?;
    super::print(&String::from_utf8_lossy(&answer))
}
