//! The running binary on loopback: what routers receive, what operators see, how it stops.
//!
//! Routers are threads of this process on 127.0.0.x; speakers are child processes with a folder of manifests. Every test
//! waits for conditions, and kills what it started also when it fails.

mod descriptors;
mod dialled;
mod doors;
#[path = "../k8s/fake_api.rs"]
#[expect(dead_code, reason = "another suite's, which needs more of it")]
mod fake_api;
mod files;
mod frozen;
mod graceful;
mod guard;
mod kept;
mod limits;
mod lists;
mod malformed;
mod process;
mod rollout;
mod router;
mod sessions;
mod standstill;
mod starved;
mod transport;
