//! herald: a BGP-speaking route announcer for bare-metal Kubernetes.
//!
//! The crate is a house of rooms on floors; a room uses only rooms below it (see ARCHITECTURE.md). Everything up to
//! `config` is pure: no runtime, no socket, no clock, no chance. The feature `shell` adds what stands above that wall.

pub mod advertise;
pub mod condition;
pub mod config;
pub mod fsm;
pub mod ipam;
pub mod peer;
mod planted;
pub mod rib;
pub mod wire;

#[cfg(feature = "shell")]
pub mod admin;
#[cfg(feature = "shell")]
pub mod cli;
#[cfg(feature = "shell")]
pub mod daemon;
#[cfg(feature = "shell")]
pub mod files;
#[cfg(feature = "shell")]
pub mod k8s;
#[cfg(feature = "shell")]
pub mod net;
