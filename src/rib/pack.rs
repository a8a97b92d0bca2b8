//! From a difference to full UPDATEs.
//!
//! The packing rule is the data structure: one part is one family, and either withdrawals or one set of attributes, so
//! no message can mix them (RFC 7606 §5.1). Withdrawals go first, then announcements in the order of their attributes.

use super::egress::{Barred, Egress};
use super::route::{Attributes, Change, RouteSet};
use crate::planted::{Bug, planted};
use crate::wire::{Announce, Family, Prefix, Withdraw};
use bytes::BytesMut;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Whether the peer held a prefix before a message changed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Absent,
    Held,
}

/// What a part says of its prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Withdraw,
    Announce(Arc<Attributes>),
}

/// Prefixes that can share messages, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    family: Family,
    what: What,
    prefixes: Vec<Prefix>,
    before: Vec<Before>,
}

impl Part {
    fn new(family: Family, what: What) -> Self {
        Self { family, what, prefixes: Vec::new(), before: Vec::new() }
    }

    fn push(&mut self, prefix: Prefix, before: Before) {
        self.prefixes.push(prefix);
        self.before.push(before);
    }
}

/// The messages that lead from what a peer holds to what is wanted, and how many of them are out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    parts: Vec<Part>,
    /// The part that is being sent, and how many of its prefixes are out.
    part: usize,
    prefix: usize,
    barred: BTreeMap<Prefix, Barred>,
}

/// What one message changed at the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The family of all its prefixes.
    pub family: Family,
    /// Routes that the peer did not hold before.
    pub gained: usize,
    /// Routes that it holds no longer.
    pub lost: usize,
}

/// One prefix of a delta and what the peer is told of it: attributes, or `None` for a withdrawal.
pub type Told<'a> = (&'a Prefix, Option<&'a Arc<Attributes>>);

impl Delta {
    /// What leads from `held` to `wanted` on a session with this way out. The peer may also hold `ghosts`, in whatever
    /// form: each is announced again or withdrawn. No prefix is in both `held` and `ghosts`.
    pub fn between(held: &RouteSet, ghosts: &BTreeSet<Prefix>, wanted: &RouteSet, egress: &Egress) -> Self {
        let mut sorted = Sorted::default();
        for change in held.changes(wanted) {
            match change {
                Change::Add(prefix, attributes) if egress.permits(&prefix, attributes) => {
                    let before = if ghosts.contains(&prefix) { Before::Held } else { Before::Absent };
                    sorted.announce(prefix, attributes, before);
                }
                Change::Add(prefix, attributes) => sorted.keep_home(prefix, attributes, egress),
                Change::Replace { prefix, held, wanted } => {
                    match (egress.permits(&prefix, held), egress.permits(&prefix, wanted)) {
                        (true, true) => sorted.announce(prefix, wanted, Before::Held),
                        (false, true) => sorted.announce(prefix, wanted, Before::Absent),
                        (true, false) => {
                            sorted.withdraw(prefix);
                            sorted.keep_home(prefix, wanted, egress);
                        }
                        (false, false) => sorted.keep_home(prefix, wanted, egress),
                    }
                }
                Change::Remove(prefix, attributes) if egress.permits(&prefix, attributes) => sorted.withdraw(prefix),
                Change::Remove(..) => {}
            }
        }
        for prefix in ghosts {
            if !wanted.attributes(prefix).is_some_and(|attributes| egress.permits(prefix, attributes)) {
                sorted.withdraw(*prefix);
            }
        }
        sorted.into_delta()
    }

    /// Prefixes among the changes that are wanted and never leave, see [`Barred`].
    pub fn barred(&self) -> &BTreeMap<Prefix, Barred> {
        &self.barred
    }

    /// Whether every message is out.
    pub fn is_done(&self) -> bool {
        self.part == self.parts.len()
    }

    /// Writes the next message: as many prefixes of one part as fit. `None` when every message is out.
    pub fn write_next(&mut self, egress: &Egress, out: &mut BytesMut) -> Option<Sent> {
        let part = self.parts.get(self.part)?;
        let rest = &part.prefixes[self.prefix..];
        let count = match &part.what {
            What::Withdraw => write_withdrawal(part.family, rest, egress, out),
            What::Announce(attributes) => write_announcement(part.family, attributes, rest, egress, out),
        };
        let gained = match &part.what {
            What::Withdraw => 0,
            What::Announce(_) => {
                part.before[self.prefix..][..count].iter().filter(|before| **before == Before::Absent).count()
            }
        };
        let lost = match &part.what {
            What::Withdraw => count,
            What::Announce(_) => 0,
        };
        let sent = Sent { family: part.family, gained, lost };
        self.prefix += count;
        if self.prefix == part.prefixes.len() || planted(Bug::TailDropped) {
            self.part += 1;
            self.prefix = 0;
        }
        Some(sent)
    }

    /// What is out.
    pub fn sent(&self) -> impl Iterator<Item = Told<'_>> {
        let current = self.parts.get(self.part).into_iter().flat_map(|part| part.told(0..self.prefix));
        self.parts[..self.part].iter().flat_map(|part| part.told(0..part.prefixes.len())).chain(current)
    }

    /// What is not out yet.
    pub fn unsent(&self) -> impl Iterator<Item = Told<'_>> {
        let current =
            self.parts.get(self.part).into_iter().flat_map(|part| part.told(self.prefix..part.prefixes.len()));
        let later = self.parts.get(self.part + 1..).unwrap_or_default();
        current.chain(later.iter().flat_map(|part| part.told(0..part.prefixes.len())))
    }

    /// Numbers of prefixes: out, and not out yet.
    pub fn progress(&self) -> (usize, usize) {
        let all: usize = self.parts.iter().map(|part| part.prefixes.len()).sum();
        let out = self.parts[..self.part].iter().map(|part| part.prefixes.len()).sum::<usize>() + self.prefix;
        (out, all - out)
    }
}

/// The invariant of every `expect` here: only what [`Egress::permits`] gets into a delta.
const PERMITTED: &str = "only routes that the session lets out are announced or withdrawn";

fn write_withdrawal(family: Family, prefixes: &[Prefix], egress: &Egress, out: &mut BytesMut) -> usize {
    Withdraw { family, prefixes }.encode(&egress.context, out).expect(PERMITTED)
}

fn write_announcement(
    family: Family,
    attributes: &Attributes,
    prefixes: &[Prefix],
    egress: &Egress,
    out: &mut BytesMut,
) -> usize {
    let next_hop = egress.next_hop(family, attributes).expect(PERMITTED);
    let (policy, attributes) = (attributes, &egress.attributes(attributes));
    let announce = Announce { attributes, next_hop, link_local: egress.link_local(family, policy), family, prefixes };
    announce.encode(&egress.context, out).expect(PERMITTED)
}

impl Part {
    fn told(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = Told<'_>> {
        let attributes = match &self.what {
            What::Withdraw => None,
            What::Announce(attributes) => Some(attributes),
        };
        self.prefixes[range].iter().map(move |prefix| (prefix, attributes))
    }
}

/// Changes on their way into parts.
#[derive(Debug, Default)]
struct Sorted {
    withdrawn: BTreeMap<Family, Part>,
    announced: Vec<Part>,
    /// Where in `announced` a family and attributes are.
    index: BTreeMap<(Family, Arc<Attributes>), usize>,
    last: usize,
    barred: BTreeMap<Prefix, Barred>,
}

impl Sorted {
    fn keep_home(&mut self, prefix: Prefix, attributes: &Attributes, egress: &Egress) {
        self.barred.extend(egress.barred(&prefix, attributes).map(|why| (prefix, why)));
    }

    fn withdraw(&mut self, prefix: Prefix) {
        let family = prefix.family();
        let part = self.withdrawn.entry(family).or_insert_with(|| Part::new(family, What::Withdraw));
        part.push(prefix, Before::Held);
    }

    fn announce(&mut self, prefix: Prefix, attributes: &Arc<Attributes>, before: Before) {
        let family = prefix.family();
        // Neighbours mostly share one value: then nothing is compared.
        let fits = |part: &Part| {
            matches!(&part.what, What::Announce(a) if Arc::ptr_eq(a, attributes)) && part.family == family
        };
        if !self.announced.get(self.last).is_some_and(fits) {
            let next = self.announced.len();
            self.last = *self.index.entry((family, attributes.clone())).or_insert(next);
            if self.last == next {
                self.announced.push(Part::new(family, What::Announce(attributes.clone())));
            }
        }
        self.announced[self.last].push(prefix, before);
    }

    fn into_delta(mut self) -> Delta {
        // Ghosts came after the rest.
        for part in self.withdrawn.values_mut() {
            part.prefixes.sort_unstable();
        }
        let mut parts: Vec<Part> = self.withdrawn.into_values().collect();
        let mut announced: Vec<Option<Part>> = self.announced.into_iter().map(Some).collect();
        parts.extend(self.index.into_values().filter_map(|at| announced[at].take()));
        Delta { parts, part: 0, prefix: 0, barred: self.barred }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rib::Bounds;
    use crate::wire::{AsWidth, Asn, Context, Message, PeerKind, frame};

    fn egress() -> Egress {
        let families = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
        let context = Context {
            as_width: AsWidth::Four,
            peer_kind: PeerKind::External,
            families: families.into(),
            ..Context::before_open()
        };
        let next_hops = [(families[0], "192.0.2.1".parse().unwrap()), (families[1], "2001:db8::1".parse().unwrap())];
        Egress {
            asn: Asn(64512),
            context,
            next_hops: next_hops.into(),
            link_locals: BTreeMap::new(),
            bounds: Bounds::everything(),
            only_to_customer: None,
            remote: "192.0.2.254".parse().unwrap(),
        }
    }

    fn with_med(med: u32) -> Arc<Attributes> {
        Arc::new(Attributes { med: Some(med), ..Attributes::default() })
    }

    fn set(routes: &[(&str, u32)]) -> RouteSet {
        routes.iter().map(|(text, med)| (text.parse().unwrap(), with_med(*med))).collect()
    }

    /// A line a message: what it announces (+) and withdraws (-).
    fn lines(mut delta: Delta) -> Vec<String> {
        let (mut out, egress) = (BytesMut::new(), egress());
        while delta.write_next(&egress, &mut out).is_some() {}
        assert!(delta.is_done());
        let mut lines = Vec::new();
        while let Some(whole) = frame(&mut out, &egress.context).unwrap() {
            let Message::Update(update) = Message::decode(&whole, &egress.context).unwrap() else { panic!() };
            let gone = update.gone().map(|prefix| format!("-{}", prefix.address()));
            let announced = update.announced().map(|(prefix, _)| format!("+{}", prefix.address()));
            lines.push(gone.chain(announced).collect::<Vec<_>>().join(" "));
        }
        lines
    }

    #[test]
    fn withdrawals_first_then_one_message_a_family_and_attributes() {
        let held = set(&[("192.0.2.9", 1), ("2001:db8::9", 1), ("192.0.2.2", 1)]);
        let wanted = set(&[("192.0.2.2", 7), ("192.0.2.3", 1), ("192.0.2.4", 7), ("2001:db8::1", 7), ("192.0.2.5", 1)]);
        let delta = Delta::between(&held, &BTreeSet::new(), &wanted, &egress());
        let expected = ["-192.0.2.9", "-2001:db8::9", "+192.0.2.3 +192.0.2.5", "+192.0.2.2 +192.0.2.4", "+2001:db8::1"];
        assert_eq!(lines(delta), expected);
    }

    #[test]
    fn ghosts_are_announced_again_or_withdrawn_once() {
        let ghosts = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|text| text.parse().unwrap()).into();
        let held = set(&[("192.0.2.8", 1)]);
        let wanted = set(&[("192.0.2.2", 1)]);
        let delta = Delta::between(&held, &ghosts, &wanted, &egress());
        assert_eq!(lines(delta), ["-192.0.2.1 -192.0.2.3 -192.0.2.8", "+192.0.2.2"]);
    }

    #[test]
    fn a_route_that_may_not_leave_any_more_is_withdrawn_and_one_that_never_could_is_silent() {
        let via = |text: &str| {
            Arc::new(Attributes {
                next_hop: crate::rib::NextHop::Address(text.parse().unwrap()),
                ..Attributes::default()
            })
        };
        let prefix: Prefix = "192.0.2.1".parse().unwrap();
        let one = |attributes| [(prefix, attributes)].into_iter().collect::<RouteSet>();
        let (good, bad) = (one(via("192.0.2.77")), one(via("2001:db8::77")));
        let between =
            |held: &RouteSet, wanted: &RouteSet| lines(Delta::between(held, &BTreeSet::new(), wanted, &egress()));
        assert_eq!(between(&good, &bad), ["-192.0.2.1"]);
        assert_eq!(between(&bad, &good), ["+192.0.2.1"]);
        assert_eq!(between(&RouteSet::new(), &bad), [""; 0]);
        assert_eq!(between(&bad, &RouteSet::new()), [""; 0]);
    }

    #[test]
    fn progress_divides_what_is_out_from_what_is_not() {
        let wanted = set(&[("192.0.2.1", 1), ("192.0.2.2", 1), ("192.0.2.3", 2)]);
        let mut delta = Delta::between(&RouteSet::new(), &BTreeSet::new(), &wanted, &egress());
        assert_eq!((delta.progress(), delta.sent().count(), delta.unsent().count()), ((0, 3), 0, 3));
        let sent = delta.write_next(&egress(), &mut BytesMut::new()).unwrap();
        assert_eq!((sent.gained, sent.lost), (2, 0));
        assert_eq!((delta.progress(), delta.sent().count(), delta.unsent().count()), ((2, 1), 2, 1));
        delta.write_next(&egress(), &mut BytesMut::new());
        assert_eq!((delta.progress(), delta.sent().count(), delta.unsent().count()), ((3, 0), 3, 0));
        assert!(delta.is_done() && delta.write_next(&egress(), &mut BytesMut::new()).is_none());
    }
}
