//! From a file to certainty: one schema, every error with its place, all semantic errors at once.
//!
//! Promises: a configuration that parsed holds together (names resolve, pools do not overlap, nothing in a pool is
//! forbidden); a report names file, line, column and what to write instead; hostile files cost little.
//! Deliberately absent: reading files (text is an argument) and acting on what changed.

mod advertisements;
mod allocation;
mod communities;
pub mod diff;
pub mod error;
mod guard;
pub mod kept;
mod listen;
mod names;
pub mod nodes;
mod peers;
mod pools;
pub mod raw;
pub mod resolve;
mod review;
pub mod rollout;
mod selector;
mod shape;
mod transport;
mod values;

pub use allocation::Allocation;
pub use diff::{Changes, PeerChange, PolicyChange, diff};
pub use error::{Diagnostics, Finding, Severity, Style};
pub use listen::Listen;
pub use peers::PeerConfig;
pub use resolve::Config;
pub use transport::{Reach, RouterAdvertisements};
