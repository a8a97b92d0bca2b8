//! How well the cluster is known, for `/readyz` and the metrics.

use std::collections::BTreeMap;
use std::fmt;
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
