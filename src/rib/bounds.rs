//! The addresses that may leave at all: the last line behind policy.

use crate::wire::Prefix;
use imbl::ordset::DiffItem;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Inclusive ranges of addresses, and single addresses retained beyond them, outside of which nothing leaves, whatever a plan says.
/// Without a range nothing does. A clone costs nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bounds {
    ranges: Arc<[(IpAddr, IpAddr)]>,
    retained: imbl::OrdSet<IpAddr>,
}

/// How bounds differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Apart {
    /// Anything may be judged otherwise.
    Everywhere,
    /// These routes may be; none: they are the same.
    At(BTreeSet<Prefix>),
}

impl Bounds {
    /// The given ranges, each of one family, first and last address; no two overlap.
    pub fn within(ranges: impl IntoIterator<Item = (IpAddr, IpAddr)>) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        ranges.sort_unstable();
        Self { ranges: ranges.into(), retained: imbl::OrdSet::new() }
    }

    /// The same, and these addresses as host routes.
    #[must_use]
    pub fn retaining(self, retained: imbl::OrdSet<IpAddr>) -> Self {
        Self { retained, ..self }
    }

    /// Every address of both families: for what has no policy, such as a bench of the machine alone.
    pub fn everything() -> Self {
        Self::within([
            (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into()),
            (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::from_bits(u128::MAX).into()),
        ])
    }

    /// Whether the whole of a prefix lies in one range, or it is the route of a retained address.
    pub fn permit(&self, prefix: &Prefix) -> bool {
        self.retains(prefix) || self.is_in_a_range(prefix)
    }

    /// Whether it is the host route of a retained address.
    pub fn retains(&self, prefix: &Prefix) -> bool {
        self.retained.contains(&prefix.address()) && *prefix == Prefix::host(prefix.address())
    }

    /// How others differ from these.
    pub fn apart(&self, others: &Self) -> Apart {
        if self.ranges != others.ranges {
            return Apart::Everywhere;
        }
        let changed = self.retained.diff(&others.retained).map(|item| match item {
            DiffItem::Add(address) | DiffItem::Remove(address) => *address,
        });
        Apart::At(changed.map(Prefix::host).collect())
    }

    fn is_in_a_range(&self, prefix: &Prefix) -> bool {
        let before = self.ranges.partition_point(|(first, _)| *first <= prefix.address());
        let Some((_, last)) = before.checked_sub(1).and_then(|index| self.ranges.get(index)) else { return false };
        last.is_ipv4() == prefix.address().is_ipv4() && prefix.last_address() <= *last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_permitted_where_all_of_it_lies_in_one_range() {
        let ip = |text: &str| text.parse().unwrap();
        let bounds = Bounds::within([
            (ip("2001:db8::"), ip("2001:db8::ff")),
            (ip("203.0.113.10"), ip("203.0.113.20")),
            (ip("198.51.100.0"), ip("198.51.100.255")),
        ]);
        for inside in
            ["198.51.100.0", "198.51.100.255", "198.51.100.0/24", "203.0.113.20", "203.0.113.16/30", "2001:db8::ff"]
        {
            assert!(bounds.permit(&inside.parse().unwrap()), "{inside}");
        }
        let outside = "198.51.99.255 198.51.101.0 198.51.100.0/23 203.0.113.9 203.0.113.21 203.0.113.16/29 0.0.0.0/0 \
            255.255.255.255 ::/0 2001:db7:ffff:ffff:ffff:ffff:ffff:ffff 2001:db8::100 2001:db8::/119 ::ffff:c633:6401";
        for outside in outside.split_whitespace() {
            assert!(!bounds.permit(&outside.parse().unwrap()), "{outside}");
        }
        assert!(!Bounds::default().permit(&"198.51.100.1".parse().unwrap()), "no range permits nothing");
        for any in ["0.0.0.0/0", "::/0", "198.51.100.1", "255.255.255.255"] {
            assert!(Bounds::everything().permit(&any.parse().unwrap()), "{any}");
        }
    }

    #[test]
    fn a_retained_address_is_permitted_as_a_host_route_and_no_more() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let bounds = Bounds::within([(ip("198.51.100.0"), ip("198.51.100.255"))]);
        let wider = bounds.clone().retaining([ip("203.0.113.9"), ip("2001:db8::9")].into_iter().collect());
        for route in ["203.0.113.9", "2001:db8::9", "198.51.100.4"] {
            assert!(wider.permit(&route.parse().unwrap()), "{route}");
        }
        for route in ["203.0.113.8", "203.0.113.10", "203.0.113.8/31", "2001:db8::8/127", "0.0.0.0/0"] {
            assert!(!wider.permit(&route.parse().unwrap()), "{route}");
        }
        let prefixes = ["203.0.113.9", "2001:db8::9"].map(|text| text.parse().unwrap()).into();
        assert_eq!(bounds.apart(&wider), Apart::At(prefixes));
        assert_eq!(wider.apart(&wider.clone()), Apart::At(BTreeSet::new()));
        assert_eq!(wider.apart(&Bounds::everything()), Apart::Everywhere);
    }
}
