//! The border to Kubernetes: the index against a model, the folder of manifests on a real file system, the watch against an
//! API server that misbehaves on request, and the client through whatever happens to its files.

mod credentials;
mod fake_api;
mod index_model;
mod manifests;
mod refused;
mod releases;
mod schema;
mod turn;
mod watch;

use std::time::Duration;
use tokio::sync::watch::{Receiver, Ref};

/// Waits until a channel of state holds what `wanted` accepts; a test that waits ten seconds for it has failed.
pub async fn until<'a, T>(what: &str, state: &'a mut Receiver<T>, wanted: impl FnMut(&T) -> bool) -> Ref<'a, T> {
    match tokio::time::timeout(Duration::from_secs(10), state.wait_for(wanted)).await {
        Ok(Ok(value)) => value,
        Ok(Err(_)) => panic!("the sender went away before: {what}"),
        Err(_) => panic!("this did not happen within 10 s: {what}"),
    }
}

/// Nothing that went missing is accepted as gone.
fn accepted() -> tokio::sync::watch::Receiver<u64> {
    tokio::sync::watch::channel(0).1
}
