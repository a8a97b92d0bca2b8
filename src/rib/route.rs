//! Routes as policy wants them.

use crate::wire::{Bandwidth, Community, ExtendedCommunity, Family, LargeCommunity, Prefix};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

/// What policy says about a route. What the session adds (ORIGIN, AS_PATH, next hop self, LOCAL_PREF 100 towards iBGP) is
/// added when the route is sent, and what this kind of peer is not told is left out then. Shared: routes with the same policy point to one value.
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
    /// EXTENDED COMMUNITIES (RFC 4360), ascending and without duplicates.
    pub extended_communities: Vec<ExtendedCommunity>,
    /// LARGE_COMMUNITY, ascending and without duplicates (RFC 8092 §5).
    pub large_communities: Vec<LargeCommunity>,
    /// The link bandwidth (RFC 10005) that routers weigh this path by; sent as one more extended community, transitive and
    /// with our AS in it.
    pub link_bandwidth: Option<Bandwidth>,
    /// How often our AS stands in AS_PATH beyond the once that it must; towards eBGP peers only. At most
    /// [`Attributes::PREPEND_MAX`].
    pub prepend: Option<u8>,
}

impl Attributes {
    /// The most times that a path is lengthened. Some networks take no path of more than 50 numbers.
    pub const PREPEND_MAX: u8 = 32;

    /// Octets of the values of all communities: what policy can make so much of that a message has no room for a prefix.
    pub fn community_octets(&self) -> usize {
        let extended = self.extended_communities.len() + usize::from(self.link_bandwidth.is_some());
        4 * self.communities.len() + 8 * extended + 12 * self.large_communities.len()
    }
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// Wanted and not held.
    Add(Prefix, &'a Arc<Attributes>),
    /// Held with other attributes than those wanted.
    Replace {
        /// The prefix.
        prefix: Prefix,
        /// As held.
        held: &'a Arc<Attributes>,
        /// As wanted.
        wanted: &'a Arc<Attributes>,
    },
    /// Held, with these attributes, and no longer wanted.
    Remove(Prefix, &'a Arc<Attributes>),
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

    /// The first route after `prefix`, or of all: for who walks through a set in steps.
    pub fn next(&self, prefix: Option<&Prefix>) -> Option<(&Prefix, &Arc<Attributes>)> {
        let from = prefix.map_or(Bound::Unbounded, Bound::Excluded);
        self.0.range::<_, Prefix>((from, Bound::Unbounded)).next()
    }

    /// What leads from `self` (held) to `wanted`, in ascending order of prefix, skipping what both share.
    pub fn changes<'a>(&'a self, wanted: &'a RouteSet) -> impl Iterator<Item = Change<'a>> {
        use imbl::ordmap::DiffItem;
        self.0.diff(&wanted.0).map(|item| match item {
            DiffItem::Add(prefix, attributes) => Change::Add(*prefix, attributes),
            DiffItem::Update { old: (prefix, held), new: (_, wanted) } => {
                Change::Replace { prefix: *prefix, held, wanted }
            }
            DiffItem::Remove(prefix, attributes) => Change::Remove(*prefix, attributes),
        })
    }

    /// Whether both are the very same tree, not merely equal: an answer at once, and no false yes.
    pub fn is_same(&self, other: &RouteSet) -> bool {
        self.0.ptr_eq(&other.0) || (self.is_empty() && other.is_empty())
    }

    /// All routes but those of one family.
    pub fn without(&self, family: Family) -> RouteSet {
        self.iter().filter(|(p, _)| p.family() != family).map(|(p, a)| (*p, a.clone())).collect()
    }
}

impl FromIterator<(Prefix, Arc<Attributes>)> for RouteSet {
    fn from_iter<T: IntoIterator<Item = (Prefix, Arc<Attributes>)>>(routes: T) -> Self {
        Self(routes.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> RouteSet {
        texts.iter().map(|text| (text.parse().unwrap(), Arc::default())).collect()
    }

    #[test]
    fn changes_name_what_was_added_replaced_and_removed() {
        let held = set(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        let mut wanted = held.clone();
        let other = Arc::new(Attributes { med: Some(1), ..Attributes::default() });
        wanted.remove(&"192.0.2.1".parse().unwrap());
        wanted.insert("192.0.2.2".parse().unwrap(), other.clone());
        wanted.insert("192.0.2.9".parse().unwrap(), other.clone());
        let plain = Arc::default();
        let expected = [
            Change::Remove("192.0.2.1".parse().unwrap(), &plain),
            Change::Replace { prefix: "192.0.2.2".parse().unwrap(), held: &plain, wanted: &other },
            Change::Add("192.0.2.9".parse().unwrap(), &other),
        ];
        assert_eq!(held.changes(&wanted).collect::<Vec<_>>(), expected);
        assert_eq!(held.changes(&held).count(), 0);
    }

    #[test]
    fn a_family_can_be_left_out() {
        let both = set(&["192.0.2.1", "2001:db8::1"]);
        assert_eq!(both.without(Family::IPV4_UNICAST), set(&["2001:db8::1"]));
        assert_eq!(both.without(Family::IPV6_UNICAST), set(&["192.0.2.1"]));
    }

    #[test]
    fn sameness_is_of_the_tree_and_of_nothing_else() {
        let one = set(&["192.0.2.1"]);
        assert!(one.is_same(&one.clone()));
        assert!(!one.is_same(&set(&["192.0.2.1"])));
        assert!(RouteSet::new().is_same(&RouteSet::new()));
        assert!(!one.is_same(&RouteSet::new()));
    }
}
