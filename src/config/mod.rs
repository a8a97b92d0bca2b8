//! From a file to certainty: one schema, every error with its place, all semantic errors at once.
//!
//! Deliberately absent: reading files (text is an argument) and acting on what changed.

pub mod diff;
pub mod error;
pub mod raw;
pub mod resolve;

pub use error::{Diagnostics, Severity};
pub use resolve::{Config, PeerConfig};
