//! `herald demo`.

use std::path::PathBuf;
use std::process::ExitCode;

/// What `herald demo` is told.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Arguments {
    /// Leave everything running after the story, on a folder of manifests that you may edit
    #[arg(long)]
    pub stay: bool,
}

/// Runs the demo.
pub async fn run(_arguments: &Arguments, _program: PathBuf) -> ExitCode {
    ExitCode::FAILURE
}
