//! The face: commands and what they print.

/// Runs the command line and returns the exit code.
pub fn main() -> std::process::ExitCode {
    todo!()
}
