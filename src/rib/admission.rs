//! How many routes a peer is sent at most: nine tenths of what it accepts, where that is known. A router that is sent more
//! than it accepts ends the session (RFC 4271 §6.7), and then it has none of them.

use super::egress::Egress;
use super::route::{Attributes, Change, RouteSet};
use crate::wire::{Family, Prefix};
use imbl::OrdSet;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many prefixes a router accepts, a family. What is not here has no limit that we know of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PrefixLimits(pub BTreeMap<Family, u32>);

impl PrefixLimits {
    /// The most routes of a family that are sent: 90 % of what is accepted, rounded down.
    pub fn most(&self, family: Family) -> usize {
        self.0.get(&family).map_or(usize::MAX, |accepts| share(*accepts, 90))
    }

    /// Whether `count` routes of a family are so many that somebody should know: 75 % of what is accepted.
    pub fn is_near(&self, family: Family, count: usize) -> bool {
        self.0.get(&family).is_some_and(|accepts| count as u128 * 100 >= u128::from(*accepts) * 75)
    }
}

fn share(accepts: u32, percent: u64) -> usize {
    usize::try_from(u64::from(accepts) * percent / 100).unwrap_or(usize::MAX)
}

/// Which of the routes wanted are sent.
///
/// What was let through once stays, as long as it is wanted: a route does not go because another one came. Free places are
/// taken in ascending order of prefix. Outlives a session, so that a router that keeps our routes across two of them
/// (RFC 4724) never sees another selection beside the first.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// The way out, and the limits, that everything below was counted for.
    counted_for: Option<(Egress, PrefixLimits)>,
    wanted: RouteSet,
    /// What is wanted without what is held back. What the session does not let out is in it, and is not counted.
    admitted: RouteSet,
    held_back: BTreeMap<Family, OrdSet<Prefix>>,
    counts: BTreeMap<Family, usize>,
}

impl Admission {
    /// What of `wanted` is sent by this way out under these limits. The very same tree as long as nothing changes; without
    /// limits `wanted` itself.
    pub fn admit(&mut self, wanted: &RouteSet, egress: &Egress, limits: &PrefixLimits) -> &RouteSet {
        if limits.0.is_empty() {
            *self = Self { wanted: wanted.clone(), admitted: wanted.clone(), ..Self::default() };
            return &self.admitted;
        }
        match &self.counted_for {
            Some((counted, same)) if counted == egress && same == limits => self.advance(wanted, egress, limits),
            Some(_) | None => self.begin(wanted, egress, limits),
        }
        &self.admitted
    }

    /// Routes of each limited family that wait for a place, ascending.
    pub fn held_back(&self) -> &BTreeMap<Family, OrdSet<Prefix>> {
        &self.held_back
    }

    /// Routes of a family that have a place.
    pub fn count(&self, family: Family) -> usize {
        self.counts.get(&family).copied().unwrap_or(0)
    }

    /// Counts anew. Places go to what had one before, then to the rest.
    fn begin(&mut self, wanted: &RouteSet, egress: &Egress, limits: &PrefixLimits) {
        let before = std::mem::take(&mut self.admitted);
        *self = Self {
            counted_for: Some((egress.clone(), limits.clone())),
            wanted: wanted.clone(),
            admitted: wanted.clone(),
            ..Self::default()
        };
        for (prefix, _) in wanted.iter().filter(|(prefix, attributes)| egress.permits(prefix, attributes)) {
            let family = prefix.family();
            // Beyond a limit that was lowered the older ones wait as well.
            if before.attributes(prefix).is_some() && self.count(family) < limits.most(family) {
                *self.counts.entry(family).or_default() += 1;
            } else {
                self.admitted.remove(prefix);
                self.held_back.entry(family).or_default().insert(*prefix);
            }
        }
        self.fill(limits);
    }

    fn advance(&mut self, wanted: &RouteSet, egress: &Egress, limits: &PrefixLimits) {
        if self.wanted.is_same(wanted) {
            return;
        }
        let before = std::mem::replace(&mut self.wanted, wanted.clone());
        for change in before.changes(wanted) {
            match change {
                Change::Add(prefix, attributes) => self.enter(prefix, attributes, egress),
                Change::Remove(prefix, attributes) => self.leave(prefix, attributes, egress),
                Change::Replace { prefix, held, wanted } => {
                    let stays = self.admitted.attributes(&prefix).is_some()
                        && egress.permits(&prefix, held)
                        && egress.permits(&prefix, wanted);
                    if stays {
                        self.admitted.insert(prefix, Arc::clone(wanted));
                    } else {
                        self.leave(prefix, held, egress);
                        self.enter(prefix, wanted, egress);
                    }
                }
            }
        }
        self.fill(limits);
    }

    /// A route that the session lets out waits for a place; another one needs none.
    fn enter(&mut self, prefix: Prefix, attributes: &Arc<Attributes>, egress: &Egress) {
        if egress.permits(&prefix, attributes) {
            self.held_back.entry(prefix.family()).or_default().insert(prefix);
        } else {
            self.admitted.insert(prefix, Arc::clone(attributes));
        }
    }

    fn leave(&mut self, prefix: Prefix, attributes: &Arc<Attributes>, egress: &Egress) {
        let family = prefix.family();
        let waited = self.held_back.get_mut(&family).and_then(|waiting| waiting.remove(&prefix)).is_some();
        self.admitted.remove(&prefix);
        if !waited && egress.permits(&prefix, attributes) {
            let count = self.counts.entry(family).or_default();
            *count = count.checked_sub(1).expect("a route that was let out and did not wait had a place");
        }
    }

    /// Gives the free places away, lowest prefix first.
    fn fill(&mut self, limits: &PrefixLimits) {
        for (family, waiting) in &mut self.held_back {
            let count = self.counts.entry(*family).or_default();
            while *count < limits.most(*family) {
                let Some(prefix) = waiting.remove_min() else { break };
                let attributes = self.wanted.attributes(&prefix).expect("only what is wanted waits");
                self.admitted.insert(prefix, Arc::clone(attributes));
                *count += 1;
            }
        }
        self.held_back.retain(|_, waiting| !waiting.is_empty());
        if self.held_back.is_empty() {
            self.admitted = self.wanted.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rib::Bounds;
    use crate::wire::{Asn, Context};
    use std::collections::BTreeSet;
    use std::net::{IpAddr, Ipv4Addr};

    const V4: Family = Family::IPV4_UNICAST;

    /// Lets out what lies in 10.0.0.0/8 and is not loopback.
    fn egress() -> Egress {
        let bounds = Bounds::within([(Ipv4Addr::new(10, 0, 0, 0).into(), Ipv4Addr::new(10, 255, 255, 255).into())]);
        Egress {
            asn: Asn(64512),
            context: Context { families: [V4].into(), ..Context::before_open() },
            next_hops: [(V4, IpAddr::from([192, 0, 2, 1]))].into(),
            link_locals: BTreeMap::new(),
            bounds,
            only_to_customer: None,
            remote: IpAddr::from([192, 0, 2, 254]),
        }
    }

    fn limits(accepts: u32) -> PrefixLimits {
        PrefixLimits([(V4, accepts)].into())
    }

    fn prefix(last: u8) -> Prefix {
        Prefix::host(Ipv4Addr::new(10, 0, 0, last).into())
    }

    fn set(last: impl IntoIterator<Item = u8>) -> RouteSet {
        last.into_iter().map(|last| (prefix(last), Arc::default())).collect()
    }

    fn last(routes: &RouteSet) -> Vec<u8> {
        routes
            .iter()
            .map(|(prefix, _)| if let IpAddr::V4(v4) = prefix.address() { v4.octets()[3] } else { 0 })
            .collect()
    }

    #[test]
    fn nine_tenths_are_sent_and_three_quarters_are_told() {
        let limits = limits(10);
        assert_eq!((limits.most(V4), limits.most(Family::IPV6_UNICAST)), (9, usize::MAX));
        assert_eq!([7, 8, 9].map(|count| limits.is_near(V4, count)), [false, true, true]);
        assert_eq!([2, 3, 99, 101, u32::MAX].map(|accepts| share(accepts, 90)), [1, 2, 89, 90, 3_865_470_565]);
    }

    #[test]
    fn without_limits_it_is_the_wanted_tree_itself() {
        let (mut admission, wanted) = (Admission::default(), set(1..100));
        assert!(admission.admit(&wanted, &egress(), &PrefixLimits::default()).is_same(&wanted));
        assert!(admission.admit(&wanted, &egress(), &limits(200)).is_same(&wanted));
    }

    #[test]
    fn the_lowest_come_first_and_who_is_in_stays_in() {
        let (mut admission, egress, limits) = (Admission::default(), egress(), limits(4));
        let mut admit = |wanted: &RouteSet| last(admission.admit(wanted, &egress, &limits));
        assert_eq!(admit(&set([5, 7, 9, 11])), [5, 7, 9]);
        assert_eq!(admit(&set([1, 5, 7, 9, 11])), [5, 7, 9], "a lower one that came later drives nobody out");
        assert_eq!(admit(&set([1, 3, 5, 9, 11])), [1, 5, 9], "a free place goes to the lowest that waits");
        assert_eq!(admit(&set([11])), [11]);
        assert_eq!(admit(&set([2, 3, 4, 11])), [2, 3, 11]);
    }

    #[test]
    fn a_lowered_limit_keeps_the_lowest_and_a_raised_one_lets_the_rest_in() {
        let (mut admission, egress, wanted) = (Admission::default(), egress(), set(1..=8));
        let mut admit = |accepts| last(admission.admit(&wanted, &egress, &limits(accepts)));
        assert_eq!(admit(100), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(admit(5), [1, 2, 3, 4]);
        assert_eq!(admit(7), [1, 2, 3, 4, 5, 6]);
        let all = admission.admit(&wanted, &egress, &PrefixLimits::default());
        assert!(all.is_same(&wanted));
        assert!(admission.held_back().is_empty());
    }

    #[test]
    fn what_does_not_leave_takes_no_place() {
        let (mut admission, limits) = (Admission::default(), limits(4));
        let mut wanted = set([1, 2, 3]);
        wanted.insert("192.0.2.9".parse().unwrap(), Arc::default());
        assert_eq!(admission.admit(&wanted, &egress(), &limits).len(), 4);
        assert!(admission.held_back().is_empty());
        // With other bounds it does, and those that were out stay out.
        let wide = Egress { bounds: Bounds::everything(), ..egress() };
        assert_eq!(last(admission.admit(&wanted, &wide, &limits)), [1, 2, 3]);
        assert_eq!(admission.held_back()[&V4].len(), 1);
        assert_eq!(last(admission.admit(&wanted, &egress(), &limits)), [1, 2, 3, 9]);
    }

    #[test]
    fn who_is_in_stays_in_by_another_way_out_too() {
        let (mut admission, limits) = (Admission::default(), limits(4));
        assert_eq!(last(admission.admit(&set([5, 7, 9]), &egress(), &limits)), [5, 7, 9]);
        let wide = Egress { bounds: Bounds::everything(), ..egress() };
        assert_eq!(last(admission.admit(&set([1, 5, 7, 9]), &wide, &limits)), [5, 7, 9]);
        assert_eq!(last(admission.admit(&set([1, 3, 5, 9]), &egress(), &limits)), [1, 5, 9]);
    }

    /// Random plans against the three laws: never too many, no place left empty, nobody driven out.
    #[test]
    fn random_histories_keep_the_laws() {
        let mut state = 7u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (egress, mut full) = (egress(), 0);
        for _ in 0..200 {
            let limits = limits(u32::try_from(2 + draw(20)).unwrap());
            let (mut admission, mut wanted, mut before) = (Admission::default(), RouteSet::new(), BTreeSet::new());
            for _ in 0..40 {
                for _ in 0..draw(5) {
                    let prefix = prefix(u8::try_from(draw(30)).unwrap());
                    let med = Attributes { med: u32::try_from(draw(3)).ok(), ..Attributes::default() };
                    if draw(3) == 0 { wanted.remove(&prefix) } else { wanted.insert(prefix, Arc::new(med)) }
                }
                let admitted = admission.admit(&wanted, &egress, &limits).clone();
                let now: BTreeSet<Prefix> = admitted.iter().map(|(prefix, _)| *prefix).collect();
                let waiting: BTreeSet<Prefix> = admission.held_back().values().flatten().copied().collect();
                assert!(admitted.iter().all(|(prefix, held)| wanted.attributes(prefix) == Some(held)), "as wanted");
                assert_eq!(now.len(), wanted.len().min(limits.most(V4)));
                assert_eq!(now.len() + waiting.len(), wanted.len());
                assert_eq!(admission.count(V4), now.len());
                let stay = before.iter().filter(|prefix| wanted.attributes(prefix).is_some());
                assert!(stay.clone().all(|prefix| now.contains(prefix)), "nobody is driven out");
                let newest = now.difference(&before).max();
                assert!(newest.is_none_or(|newest| waiting.iter().all(|waits| waits > newest)), "the lowest first");
                full += usize::from(!waiting.is_empty());
                before = now;
            }
        }
        assert!(full > 1000, "only {full} of the plans were too large");
    }
}
