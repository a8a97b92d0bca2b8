//! Composition: wire the rooms together, keep running peers equal to the configuration, stop in order.
//!
//! Promises: a bad configuration never replaces a good one; a task that panics ends the process with an error; a stop ends
//! within two seconds whatever a peer does.
//! Deliberately absent: every decision that can be made without a runtime. Those live below the wall.

pub mod allocate;
pub mod announced;
pub mod boot;
pub mod conditions;
pub mod control;
pub mod door;
pub mod established;
pub mod guarded;
mod identity;
mod interrupted;
pub mod keys;
pub mod last_known_good;
pub mod on_link;
pub mod overlaps;
pub mod reload;
pub mod run;
pub mod speaker;
pub mod spec;
pub mod state_folder;
mod supervised;
pub mod thread;
mod turn;
pub mod wanted;

pub use control::Source;
pub use run::{Options, run};
