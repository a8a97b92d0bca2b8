//! Adj-RIB-Out (RFC 4271 §3.2): what one peer holds from us, kept by what was really sent.

use super::egress::{Barred, Egress};
use super::pack::Delta;
use super::route::RouteSet;
use crate::planted::{Bug, planted};
use crate::wire::{EndOfRib, Family, Prefix};
use bytes::BytesMut;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What one peer holds, on one session. Empty when the session begins.
///
/// At rest it *is* the tree that was wanted last, routes that the session does not let out included, so that the next
/// diff skips whatever did not change.
#[derive(Debug, Clone)]
pub struct AdjRibOut {
    /// What the delta in progress started from; what is held, when there is none.
    held: RouteSet,
    /// What the peer holds in a form that must be sent again or withdrawn. None of it is in `held`.
    ghosts: BTreeSet<Prefix>,
    progress: Progress,
    counts: BTreeMap<Family, usize>,
    /// Families whose End-of-RIB is still to be sent (RFC 4724 §2), in order.
    end_of_rib: VecDeque<Family>,
    /// Wanted, and barred from leaving whatever the session.
    barred: BTreeMap<Prefix, Barred>,
}

#[derive(Debug, Clone)]
enum Progress {
    Settled,
    Sending { target: RouteSet, delta: Delta },
}

impl AdjRibOut {
    /// Nothing held, and End-of-RIB due for each family once the first table is out.
    pub fn new(families: impl IntoIterator<Item = Family>) -> Self {
        let end_of_rib: VecDeque<_> = families.into_iter().collect();
        Self {
            held: RouteSet::new(),
            ghosts: BTreeSet::new(),
            progress: Progress::Settled,
            counts: end_of_rib.iter().map(|family| (*family, 0)).collect(),
            end_of_rib,
            barred: BTreeMap::new(),
        }
    }

    /// Appends UPDATEs that lead to `wanted` until `out` holds `limit` octets or the peer holds what is wanted; then
    /// End-of-RIB where it is due. Whole messages only: the last one may end above `limit`. Returns how many they are.
    pub fn write(&mut self, wanted: &RouteSet, egress: &Egress, out: &mut BytesMut, limit: usize) -> u64 {
        let mut messages = 0;
        if planted(Bug::EndOfRibBeforeRoutes) {
            for family in self.end_of_rib.drain(..) {
                EndOfRib(family).encode(&egress.context, out).expect("a negotiated family");
                messages += 1;
            }
        }
        messages += self.write_routes(wanted, egress, out, limit);
        // Room left over: all routes are out.
        while out.len() < limit
            && let Some(family) = self.end_of_rib.pop_front()
        {
            EndOfRib(family).encode(&egress.context, out).expect("End-of-RIB is due for negotiated families only");
            messages += 1;
        }
        messages
    }

    /// The same without End-of-RIB, where nobody can say yet that this is the whole table.
    pub fn write_routes(&mut self, wanted: &RouteSet, egress: &Egress, out: &mut BytesMut, limit: usize) -> u64 {
        let mut messages = 0;
        while out.len() < limit {
            match &mut self.progress {
                Progress::Settled if self.held.is_same(wanted) && self.ghosts.is_empty() => break,
                Progress::Settled => {
                    let delta = Delta::between(&self.held, &self.ghosts, wanted, egress);
                    self.barred.retain(|prefix, _| {
                        wanted.attributes(prefix).is_some_and(|a| egress.barred(prefix, a).is_some())
                    });
                    self.barred.extend(delta.barred().iter().map(|(prefix, why)| (*prefix, *why)));
                    self.progress = Progress::Sending { target: wanted.clone(), delta };
                }
                Progress::Sending { target, .. } if !target.is_same(wanted) => self.settle(),
                Progress::Sending { delta, .. } => match delta.write_next(egress, out) {
                    Some(sent) => {
                        let count = self.counts.entry(sent.family).or_default();
                        *count = *count + sent.gained - sent.lost;
                        messages += 1;
                    }
                    None => self.settle(),
                },
            }
        }
        messages
    }

    /// Withdraws everything at once, however much it is; no End-of-RIB is sent any more.
    pub fn write_withdrawals(&mut self, egress: &Egress, out: &mut BytesMut) -> u64 {
        self.end_of_rib.clear();
        self.write(&RouteSet::new(), egress, out, usize::MAX)
    }

    /// Forgets in which form the peer holds a family: all of it is sent again or withdrawn (RFC 2918 §4, or another next
    /// hop). `egress` is the way out by which it was sent.
    pub fn forget(&mut self, family: Family, egress: &Egress) {
        self.settle();
        let sent = self.held.iter().filter(|(prefix, a)| prefix.family() == family && egress.permits(prefix, a));
        let kept = sent.filter(|_| !planted(Bug::RefreshLosesWithdrawal));
        self.ghosts.extend(kept.map(|(prefix, _)| *prefix));
        self.held = self.held.without(family);
    }

    /// Forgets in which form the peer holds these, as [`Self::forget`] does for a family, at the price of these alone.
    pub fn forget_these(&mut self, prefixes: &BTreeSet<Prefix>, egress: &Egress) {
        self.settle();
        for prefix in prefixes {
            let Some(attributes) = self.held.attributes(prefix) else { continue };
            if egress.permits(prefix, attributes) {
                self.ghosts.insert(*prefix);
            }
            self.held.remove(prefix);
        }
    }

    /// Forgets in which form the peer holds what `which` names; the rest is as it was, and nothing of it is sent again.
    pub fn forget_where(&mut self, which: impl Fn(&Prefix) -> bool, egress: &Egress) {
        self.settle();
        let named = self.held.iter().map(|(prefix, _)| *prefix).filter(which).collect();
        self.forget_these(&named, egress);
    }

    /// Routes that the peer holds, a family.
    pub fn counts(&self) -> &BTreeMap<Family, usize> {
        &self.counts
    }

    /// Wanted prefixes that never leave, see [`super::Barred`].
    pub fn barred(&self) -> &BTreeMap<Prefix, Barred> {
        &self.barred
    }

    /// Whether the first table and End-of-RIB of every family are out.
    pub fn is_initial_table_sent(&self) -> bool {
        self.end_of_rib.is_empty()
    }

    /// Ends a delta, done or not, with `held` and `ghosts` as the peer has them. A done one leaves the wanted tree
    /// itself; of another, the shorter of what is out and what is not is applied, to the tree on its side.
    fn settle(&mut self) {
        let Progress::Sending { target, delta } = std::mem::replace(&mut self.progress, Progress::Settled) else {
            return;
        };
        if !self.ghosts.is_empty() {
            let unsent: BTreeSet<_> = delta.unsent().map(|(prefix, _)| *prefix).collect();
            self.ghosts.retain(|prefix| unsent.contains(prefix));
        }
        let (out, left) = delta.progress();
        if out < left {
            for (prefix, attributes) in delta.sent() {
                match attributes {
                    Some(attributes) => self.held.insert(*prefix, attributes.clone()),
                    None => self.held.remove(prefix),
                }
            }
            return;
        }
        let started_from = std::mem::replace(&mut self.held, target);
        for (prefix, _) in delta.unsent() {
            match started_from.attributes(prefix) {
                Some(attributes) => self.held.insert(*prefix, attributes.clone()),
                None => self.held.remove(prefix),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rib::Attributes;
    use crate::rib::Bounds;
    use crate::wire::{AsWidth, Asn, Context, PeerKind};
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    const V4: Family = Family::IPV4_UNICAST;

    fn egress() -> Egress {
        let context = Context {
            as_width: AsWidth::Four,
            peer_kind: PeerKind::External,
            families: [V4].into(),
            ..Context::before_open()
        };
        Egress {
            asn: Asn(64512),
            context,
            next_hops: [(V4, "192.0.2.1".parse().unwrap())].into(),
            link_locals: [].into(),
            bounds: Bounds::everything(),
            only_to_customer: None,
            remote: "192.0.2.254".parse().unwrap(),
        }
    }

    fn set(range: std::ops::Range<u32>) -> RouteSet {
        let host = |n| Prefix::host(Ipv4Addr::from_bits(0x0A00_0000 + n).into());
        range.map(|n| (host(n), Arc::new(Attributes::default()))).collect()
    }

    /// Writes one message, or all of them.
    fn write(adj_out: &mut AdjRibOut, wanted: &RouteSet, limit: usize) -> u64 {
        adj_out.write(wanted, &egress(), &mut BytesMut::new(), limit)
    }

    #[test]
    fn at_rest_it_is_the_wanted_tree_itself() {
        let (mut adj_out, wanted) = (AdjRibOut::new([V4]), set(0..2000));
        assert_eq!(write(&mut adj_out, &wanted, usize::MAX), 3 + 1);
        assert!(adj_out.held.is_same(&wanted));
        assert_eq!(write(&mut adj_out, &wanted, usize::MAX), 0);
    }

    #[test]
    fn a_newer_plan_is_held_against_what_was_really_sent() {
        // One message holds some 800 routes: an early interruption undoes little, a late one much.
        for written in [1, 2, 3] {
            let mut adj_out = AdjRibOut::new([V4]);
            let first = set(0..3000);
            for _ in 0..written {
                assert_eq!(write(&mut adj_out, &first, 1), 1);
            }
            let sent = adj_out.counts()[&V4];
            adj_out.settle();
            assert_eq!(adj_out.held.len(), sent, "after {written} messages");
            // Of what the newer plan leaves out, only what was sent is withdrawn: as few messages as that takes.
            let none = RouteSet::new();
            let withdrawals = sent.div_ceil(814) as u64;
            assert_eq!(write(&mut adj_out, &none, usize::MAX), withdrawals + 1);
            assert_eq!(adj_out.counts()[&V4], 0);
            assert!(adj_out.held.is_same(&none));
        }
    }

    #[test]
    fn end_of_rib_waits_for_the_whole_table() {
        let (mut adj_out, wanted) = (AdjRibOut::new([V4]), set(0..1000));
        assert_eq!(write(&mut adj_out, &wanted, 1), 1);
        assert_eq!(write(&mut adj_out, &wanted, 1), 1);
        assert!(!adj_out.is_initial_table_sent());
        assert_eq!(write(&mut adj_out, &wanted, 1), 1);
        assert!(adj_out.is_initial_table_sent());
    }

    #[test]
    fn what_is_forgotten_is_sent_again_or_withdrawn() {
        let mut adj_out = AdjRibOut::new([V4]);
        write(&mut adj_out, &set(0..10), usize::MAX);
        adj_out.forget(V4, &egress());
        adj_out.forget(V4, &egress());
        assert_eq!(adj_out.counts()[&V4], 10, "the peer holds them still");
        assert_eq!(write(&mut adj_out, &set(5..20), usize::MAX), 2);
        assert_eq!(adj_out.counts()[&V4], 15);
        adj_out.forget(V4, &egress());
        assert_eq!(write(&mut adj_out, &RouteSet::new(), usize::MAX), 1);
        assert_eq!(adj_out.counts()[&V4], 0);
    }

    #[test]
    fn a_newer_plan_amid_a_refresh_still_withdraws_what_was_not_sent_again() {
        for written in [1, 3] {
            let mut adj_out = AdjRibOut::new([V4]);
            write(&mut adj_out, &set(0..3000), usize::MAX);
            adj_out.forget(V4, &egress());
            for _ in 0..written {
                write(&mut adj_out, &set(0..3000), 1);
            }
            // Every tree here is a new one, so each write begins anew from what was sent.
            assert_eq!(adj_out.counts()[&V4], 3000);
            write(&mut adj_out, &set(0..10), usize::MAX);
            assert_eq!(adj_out.counts()[&V4], 10, "after {written} messages");
        }
    }

    #[test]
    fn ranges_that_grow_or_shrink_send_what_they_concern_and_nothing_else() {
        let (mut adj_out, wanted) = (AdjRibOut::new([V4]), set(0..2000));
        let host = |n: u32| Prefix::host(Ipv4Addr::from_bits(0x0A00_0000 + n).into());
        let up_to =
            |last: u32| Egress { bounds: Bounds::within([(host(0).address(), host(last).address())]), ..egress() };
        let sent = |adj_out: &mut AdjRibOut, egress: &Egress| {
            let mut out = BytesMut::new();
            adj_out.write(&wanted, egress, &mut out, usize::MAX);
            (adj_out.counts()[&V4], out.len())
        };
        let narrow = up_to(1989);
        assert_eq!(sent(&mut adj_out, &narrow).0, 1990);
        for (from, to, count) in [(1989, 1999, 2000), (1999, 1989, 1990), (1989, 60_000, 2000), (60_000, 1999, 2000)] {
            let (old, new) = (up_to(from), up_to(to));
            adj_out.forget_where(|prefix| old.bounds.permit(prefix) != new.bounds.permit(prefix), &old);
            let (held, octets) = sent(&mut adj_out, &new);
            assert_eq!(held, count, "{from} to {to}");
            // Ten routes of five octets each in one UPDATE, or nothing at all.
            assert!(octets < 150, "{from} to {to}: {octets} octets");
        }
    }

    #[test]
    fn bounds_that_move_for_one_address_cost_one_route() {
        let (mut adj_out, wanted) = (AdjRibOut::new([V4]), set(0..2000));
        let host = |n: u32| Prefix::host(Ipv4Addr::from_bits(0x0A00_0000 + n).into());
        let ranges = [(host(0).address(), host(1998).address())];
        let narrow = Egress { bounds: Bounds::within(ranges), ..egress() };
        let wide = Egress {
            bounds: Bounds::within(ranges).retaining([host(1999).address()].into_iter().collect()),
            ..egress()
        };
        let messages =
            |adj_out: &mut AdjRibOut, egress: &Egress| adj_out.write(&wanted, egress, &mut BytesMut::new(), usize::MAX);
        messages(&mut adj_out, &narrow);
        assert_eq!((adj_out.counts()[&V4], adj_out.barred().len()), (1999, 1));
        adj_out.forget_these(&[host(1999)].into(), &narrow);
        assert_eq!(messages(&mut adj_out, &wide), 1);
        assert_eq!((adj_out.counts()[&V4], adj_out.barred().len()), (2000, 0));
        adj_out.forget_these(&[host(1999)].into(), &wide);
        assert_eq!(messages(&mut adj_out, &narrow), 1);
        assert_eq!((adj_out.counts()[&V4], adj_out.barred().len()), (1999, 1));
    }
}
