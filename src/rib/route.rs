//! Routes as policy wants them.

use crate::wire::{Community, LargeCommunity, Prefix};
use std::net::IpAddr;
use std::sync::Arc;

/// What policy says about a route. What the session adds (ORIGIN, AS_PATH, next hop self, LOCAL_PREF 100 towards iBGP) is
/// added when the route is sent. Shared: routes with the same policy point to one value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Attributes {
    /// Where the router should send the traffic.
    pub next_hop: NextHop,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF; sent to iBGP peers only.
    pub local_pref: Option<u32>,
    /// COMMUNITIES, ascending and without duplicates.
    pub communities: Vec<Community>,
    /// LARGE_COMMUNITY, ascending and without duplicates (RFC 8092 §5).
    pub large_communities: Vec<LargeCommunity>,
}

/// The next hop wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum NextHop {
    /// The session's own address of the route's family.
    #[default]
    Own,
    /// A given address.
    Address(IpAddr),
}

/// The routes wanted by, or held by, one peer. A persistent map: a clone costs nothing, a changed copy shares what did not change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteSet(imbl::OrdMap<Prefix, Arc<Attributes>>);

/// One difference between two sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<'a> {
    /// Wanted, and not held or held with other attributes.
    Announce(Prefix, &'a Arc<Attributes>),
    /// Held and no longer wanted.
    Withdraw(Prefix),
}

impl RouteSet {
    /// The empty set: a decision, unlike no set at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route or replaces its attributes.
    pub fn insert(&mut self, prefix: Prefix, attributes: Arc<Attributes>) {
        self.0.insert(prefix, attributes);
    }

    /// Removes a route.
    pub fn remove(&mut self, prefix: &Prefix) {
        self.0.remove(prefix);
    }

    /// The attributes of a route.
    pub fn attributes(&self, prefix: &Prefix) -> Option<&Arc<Attributes>> {
        self.0.get(prefix)
    }

    /// Number of routes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All routes in ascending order of prefix.
    pub fn iter(&self) -> impl Iterator<Item = (&Prefix, &Arc<Attributes>)> {
        self.0.iter()
    }

    /// What leads from `self` (held) to `wanted`, skipping what both share.
    pub fn changes<'a>(&'a self, wanted: &'a RouteSet) -> impl Iterator<Item = Change<'a>> {
        use imbl::ordmap::DiffItem;
        self.0.diff(&wanted.0).map(|item| match item {
            DiffItem::Add(prefix, attributes) => Change::Announce(*prefix, attributes),
            DiffItem::Update { new: (prefix, attributes), .. } => Change::Announce(*prefix, attributes),
            DiffItem::Remove(prefix, _) => Change::Withdraw(*prefix),
        })
    }
}

impl FromIterator<(Prefix, Arc<Attributes>)> for RouteSet {
    fn from_iter<T: IntoIterator<Item = (Prefix, Arc<Attributes>)>>(routes: T) -> Self {
        Self(routes.into_iter().collect())
    }
}
