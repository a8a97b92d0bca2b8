//! How well the cluster is known, for `/readyz` and the metrics.

use super::follow::Told;
use super::reply::Identity;
use crate::condition::{Conditions, Reason};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

/// Where objects come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The watch of Services.
    Services,
    /// The watch of EndpointSlices.
    EndpointSlices,
    /// The watch of Nodes.
    Nodes,
    /// The watch of `Allocation`s.
    Allocations,
    /// The folder of manifests.
    Manifests,
}

impl Source {
    /// As labels of metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::Nodes => "nodes",
            Self::Allocations => "allocations",
            Self::Manifests => "manifests",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a source was read completely once. It stays so: what was read is kept while the source is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Listing {
    /// Not yet.
    #[default]
    Pending,
    /// It was.
    Complete,
}

/// Whether the source answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Contact {
    /// Nothing came yet, neither answer nor error.
    #[default]
    None,
    /// The last that was heard was an answer.
    Answering,
    /// Attempts fail; what was read before stays valid as far as we know.
    Failing {
        /// Since when.
        since: Instant,
        /// The last error.
        error: String,
    },
}

/// One source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceHealth {
    /// Whether it was read completely once.
    pub listing: Listing,
    /// Whether it answers.
    pub contact: Contact,
    /// When it last said something; the age of a watch is the time since.
    pub last_event: Option<Instant>,
    /// How many objects of it are held.
    pub objects: usize,
    /// How many attempts failed since the start.
    pub failures: u64,
    /// What is wrong with single objects or files now; their last good state is in use.
    pub problems: Vec<String>,
}

impl SourceHealth {
    /// The source said something.
    pub fn heard(&mut self, now: Instant) {
        self.contact = Contact::Answering;
        self.last_event = Some(now);
    }

    /// An attempt failed.
    pub fn failed(&mut self, now: Instant, error: String) {
        let since = match self.contact {
            Contact::Failing { since, .. } => since,
            Contact::None | Contact::Answering => now,
        };
        self.contact = Contact::Failing { since, error };
        self.failures += 1;
    }
}

/// All sources in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchHealth {
    /// By source.
    pub sources: BTreeMap<Source, SourceHealth>,
}

impl WatchHealth {
    /// Nothing heard yet from any of these.
    pub fn of(sources: &[Source]) -> Self {
        Self { sources: sources.iter().map(|source| (*source, SourceHealth::default())).collect() }
    }

    /// Whether every source was read completely once. False where there is none.
    pub fn is_synced(&self) -> bool {
        !self.sources.is_empty() && self.sources.values().all(|source| source.listing == Listing::Complete)
    }
}

/// Which objects of a kind cannot be read now, by what followers tell.
#[derive(Debug)]
pub struct Unread<K> {
    known: BTreeMap<(K, String), String>,
    listed: BTreeMap<K, BTreeSet<String>>,
}

impl<K: Ord + Copy> Default for Unread<K> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), listed: BTreeMap::new() }
    }
}

impl<K: Ord + Copy> Unread<K> {
    /// A follower told this.
    pub fn take<T: kube::Resource>(&mut self, kind: K, told: &Told<T>) {
        match told {
            Told::Listing => drop(self.listed.insert(kind, BTreeSet::new())),
            Told::Complete => {
                if let Some(listed) = self.listed.remove(&kind) {
                    self.known.retain(|(of, path), _| *of != kind || listed.contains(path));
                }
            }
            Told::Unreadable(bad) => {
                let path = bad.identity.path();
                if let Some(listed) = self.listed.get_mut(&kind) {
                    listed.insert(path.clone());
                }
                self.known.insert((kind, path), bad.why.clone());
            }
            // Most of the time there is nothing to look for.
            Told::Listed(_) | Told::Applied(_) if self.known.is_empty() => {}
            Told::Listed(object) | Told::Applied(object) => {
                self.known.remove(&(kind, Identity::of(object).path()));
            }
            Told::Deleted(identity) => drop(self.known.remove(&(kind, identity.path()))),
            Told::Heard | Told::Absent | Told::Failed(_) => {}
        }
    }

    /// Says which.
    pub fn tell(&self, out: &mut Conditions, name: fn(K) -> &'static str) {
        for ((kind, path), why) in &self.known {
            let message = format!("{why}; what was last read of it stays in use: mend or delete the object");
            out.set(Reason::ObjectUnreadable, &format!("{} {path}", name(*kind)), message);
        }
    }
}

/// A watch without an answer for so long is silent: bookmarks come every minute, and a watch is renewed within three.
pub const SILENCE: Duration = Duration::from_secs(300);

/// Listens to watches for their silence.
#[derive(Debug)]
pub struct Vigil<K> {
    heard: BTreeMap<K, (Instant, Option<String>)>,
}

impl<K: Ord + Copy> Vigil<K> {
    /// Begins, over these.
    pub fn begin(kinds: impl IntoIterator<Item = K>, now: Instant) -> Self {
        Self { heard: kinds.into_iter().map(|kind| (kind, (now, None))).collect() }
    }

    /// A watch said something.
    pub fn heard(&mut self, kind: K, now: Instant) {
        self.heard.insert(kind, (now, None));
    }

    /// An attempt failed.
    pub fn failed(&mut self, kind: K, error: &str) {
        if let Some((_, trouble)) = self.heard.get_mut(&kind) {
            *trouble = Some(error.to_owned());
        }
    }

    /// Says which are silent, by their names.
    pub fn tell(&self, out: &mut Conditions, name: fn(K) -> &'static str, now: Instant) {
        out.clear_all(Reason::WatchSilent);
        for (kind, (since, trouble)) in &self.heard {
            if now - *since < SILENCE {
                continue;
            }
            let why = trouble.as_deref().unwrap_or("no error, and no answer either");
            let message = format!(
                "no answer for more than {} minutes ({why}); what changed in the cluster since then is not known here: see to the \
                 API server and the way to it",
                SILENCE.as_secs() / 60
            );
            out.set(Reason::WatchSilent, name(*kind), message);
        }
    }

    /// When one falls silent next, if none says anything.
    pub fn deadline(&self, now: Instant) -> Instant {
        let ends = self.heard.values().map(|(since, _)| *since + SILENCE).filter(|end| *end > now);
        ends.min().unwrap_or(now + SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::reply::Unreadable;
    use crate::k8s::request::NodeForm;

    #[test]
    fn what_cannot_be_read_is_said_until_it_is_mended_deleted_or_no_longer_listed() {
        let identity = |name: &str| Identity { name: name.to_owned(), ..Identity::default() };
        let bad = |name: &str| Told::Unreadable(Unreadable { identity: identity(name), why: "spec.x: odd".to_owned() });
        let node =
            |name: &str| serde_json::from_value::<NodeForm>(serde_json::json!({"metadata": {"name": name}})).unwrap();
        let mut unread = Unread::default();
        let mut take = |told: Told<NodeForm>| {
            unread.take(Source::Nodes, &told);
            let mut said = Conditions::default();
            unread.tell(&mut said, Source::as_str);
            said.iter().map(|(_, subject, _)| subject.to_owned()).collect::<Vec<_>>()
        };
        take(Told::Listing);
        take(bad("a"));
        take(bad("b"));
        assert_eq!(take(Told::Complete), ["nodes a", "nodes b"]);
        assert_eq!(take(Told::Applied(node("a"))), ["nodes b"]);
        take(bad("c"));
        assert_eq!(take(Told::Deleted(identity("b"))), ["nodes c"]);
        take(Told::Listing);
        take(Told::Listed(node("d")));
        assert_eq!(take(bad("e")), ["nodes c", "nodes e"]);
        assert_eq!(take(Told::Complete), ["nodes e"]);
    }

    #[test]
    fn a_watch_without_an_answer_for_five_minutes_is_said_until_it_answers() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let (mut vigil, mut said) = (Vigil::begin([Source::Services, Source::Nodes], began), Conditions::default());
        let mut lines = |vigil: &Vigil<Source>, now| {
            vigil.tell(&mut said, Source::as_str, now);
            said.lines()
        };
        vigil.heard(Source::Nodes, after(200));
        vigil.failed(Source::Services, "connection refused");
        assert_eq!(vigil.deadline(after(200)), after(300));
        assert_eq!(lines(&vigil, after(299)), Vec::<String>::new());
        let silent = lines(&vigil, after(300));
        assert!(silent.len() == 1 && silent[0].starts_with("WatchSilent services: "), "{silent:?}");
        assert!(silent[0].contains("connection refused"));
        assert_eq!(vigil.deadline(after(300)), after(500));
        assert_eq!(lines(&vigil, after(500)).len(), 2);
        vigil.heard(Source::Services, after(501));
        vigil.heard(Source::Nodes, after(501));
        assert_eq!(lines(&vigil, after(502)), Vec::<String>::new());
    }
}
