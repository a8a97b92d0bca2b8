//! The running binary on loopback: what routers receive, what operators see, how it stops.
//!
//! Routers are threads of this process on 127.0.0.x; speakers are child processes with a folder of manifests. Every test
//! waits for conditions, and kills what it started also when it fails.

mod dialled;
mod doors;
mod files;
mod frozen;
mod graceful;
mod guard;
mod kept;
mod limits;
mod malformed;
mod process;
mod rollout;
mod router;
mod sessions;
mod transport;
