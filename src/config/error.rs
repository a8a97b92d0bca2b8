//! Errors and warnings of a configuration, with file, line and column.

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Doubtful; the configuration is used.
    Warning,
    /// Wrong; the configuration is refused.
    Error,
}

/// Everything found in one file. `Display` prints a report in the manner of a good compiler.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics {}
