//! Collects what every part of the process says is not as it should be, and logs what appears and what is over.

use crate::condition::Conditions;
use futures_util::future::select_all;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// The parts that say what is wrong with them. Each has one sender of its own.
#[derive(Debug, Default)]
pub struct Board {
    sources: Vec<watch::Receiver<Conditions>>,
}

/// Where the parts of *control* say what is wrong with them.
#[derive(Debug, Clone)]
pub struct Outlets {
    /// The configuration file.
    pub file: watch::Sender<Conditions>,
    /// The watches of the cluster, and its objects.
    pub cluster: watch::Sender<Conditions>,
    /// The files that lead to the API server.
    pub credentials: watch::Sender<Conditions>,
    /// The password files.
    pub keys: watch::Sender<Conditions>,
    /// What the guard holds.
    pub guard: watch::Sender<Conditions>,
    /// This node.
    pub node: watch::Sender<Conditions>,
    /// Whose turn it is among the nodes.
    pub turn: watch::Sender<Conditions>,
}

impl Outlets {
    /// One of each kind.
    pub fn new(board: &mut Board) -> Self {
        let mut one = || board.source();
        Self { file: one(), cluster: one(), credentials: one(), keys: one(), guard: one(), node: one(), turn: one() }
    }

    /// Nothing is known to be wrong: whoever begins anew looks again.
    pub fn clear(&self) {
        let Self { file, cluster, credentials, keys, guard, node, turn } = self;
        for outlet in [file, cluster, credentials, keys, guard, node, turn] {
            outlet.send_replace(Conditions::default());
        }
    }
}

impl Board {
    /// Where one more part says what is wrong with it.
    pub fn source(&mut self) -> watch::Sender<Conditions> {
        let (sender, receiver) = watch::channel(Conditions::default());
        self.sources.push(receiver);
        sender
    }

    /// Publishes all of them together, for as long as anybody may still say something.
    pub async fn run(mut self, all: watch::Sender<Arc<Conditions>>) {
        loop {
            let mut now = Conditions::default();
            self.sources.iter_mut().for_each(|source| now.join(&source.borrow_and_update()));
            tell(&all.borrow(), &now);
            all.send_if_modified(|held| {
                let changed = **held != now;
                if changed {
                    *held = Arc::new(now);
                }
                changed
            });
            if self.sources.is_empty() {
                return;
            }
            let changes = self.sources.iter_mut().map(|source| Box::pin(source.changed()));
            let (changed, index, _) = select_all(changes).await;
            if changed.is_err() {
                // A part that ended is no longer wrong about anything; whoever supervises it knows.
                self.sources.swap_remove(index);
            }
        }
    }
}

/// What appears is a warning; a text that changes meanwhile may count something, and is for who looks closely.
fn tell(before: &Conditions, now: &Conditions) {
    for (reason, subject, message) in now.iter() {
        if !before.contains(reason, subject) {
            warn!(%reason, subject, "{message}");
        } else if !before.iter().any(|held| held == (reason, subject, message)) {
            debug!(%reason, subject, "{message}");
        }
    }
    for (reason, subject, _) in before.iter().filter(|(reason, subject, _)| !now.contains(*reason, subject)) {
        info!(%reason, subject, "no longer so");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::Reason::ConfigurationRefused;

    #[tokio::test]
    async fn what_any_part_says_is_seen_until_it_is_over_or_the_part_has_ended() {
        let mut board = Board::default();
        let (one, other) = (board.source(), board.source());
        let (all, mut seen) = watch::channel(Arc::new(Conditions::default()));
        let running = tokio::spawn(board.run(all));
        one.send_modify(|mine| mine.set(ConfigurationRefused, "a", "wrong"));
        other.send_modify(|mine| mine.set(ConfigurationRefused, "b", "wrong too"));
        seen.wait_for(|now| now.count(ConfigurationRefused) == 2).await.unwrap();
        one.send_modify(|mine| mine.clear(ConfigurationRefused, "a"));
        seen.wait_for(|now| now.lines() == ["ConfigurationRefused b: wrong too"]).await.unwrap();
        drop(other);
        seen.wait_for(|now| now.lines().is_empty()).await.unwrap();
        drop(one);
        running.await.unwrap();
    }
}
