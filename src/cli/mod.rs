//! The face: commands and what they print.

pub mod demo;

/// Runs the command line and returns the exit code.
pub fn main() -> std::process::ExitCode {
    todo!()
}
