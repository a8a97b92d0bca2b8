//! A peer's whole table over a history of plans, as the messages that carry it: whatever interrupts them, what the peer
//! holds in the end is what is wanted, and nothing leaves that must not.

use bytes::BytesMut;
use herald::rib::{AdjRibOut, Attributes, Bounds, Egress, RouteSet};
use herald::wire::{AsWidth, Asn, Attribute, Context, Family, Message, PeerKind, Prefix, Update, frame};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const FAMILIES: [Family; 2] = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
/// Routes of the pool, the same number outside of it, and those that never leave.
const POOL: u32 = 40;
/// More than a message holds at its least.
const BULK: u32 = 2000;
const NEVER: [&str; 6] = ["0.0.0.0/0", "::/0", "127.0.0.1/32", "169.254.0.0/16", "224.0.0.5/32", "0.0.0.0/8"];

#[derive(Debug, Clone)]
enum Step {
    /// Changes of the plan: which prefix, and its MED or none for a route that goes.
    Plan(Vec<(Prefix, Option<u32>)>),
    /// All of the bulk comes with this MED, or goes.
    Bulk(Option<u32>),
    /// As much as fits so many octets.
    Write(usize),
    /// The peer asks again.
    Refresh(Family),
    /// Only the pool may leave, or everything.
    Confine(bool),
}

fn host4(base: [u8; 4], n: u32) -> Prefix {
    Prefix::host(Ipv4Addr::from(u32::from_be_bytes(base) + n).into())
}

fn prefix() -> impl Strategy<Value = Prefix> {
    prop_oneof![
        4 => (0..POOL).prop_map(|n| host4([198, 51, 100, 0], n)),
        1 => (0..POOL).prop_map(|n| host4([203, 0, 113, 0], n)),
        4 => (0..POOL).prop_map(|n| Prefix::host(Ipv6Addr::from((0x2001_0db8 << 96) + u128::from(n)).into())),
        1 => prop::sample::select(NEVER.to_vec()).prop_map(|text| text.parse().unwrap()),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec((prefix(), prop_oneof![Just(None), (0..3u32).prop_map(Some)]), 0..30).prop_map(Step::Plan),
        1 => prop_oneof![Just(None), (0..2u32).prop_map(Some)].prop_map(Step::Bulk),
        6 => prop::sample::select(vec![1, 60, 200, 5000, usize::MAX]).prop_map(Step::Write),
        2 => prop::sample::select(FAMILIES.to_vec()).prop_map(Step::Refresh),
        1 => any::<bool>().prop_map(Step::Confine),
    ]
}

/// What may leave, said without the code under test.
fn may_leave(prefix: &Prefix, confined: bool) -> bool {
    let text = prefix.to_string();
    let pool = ["198.51.100.", "10.", "2001:db8:"].iter().any(|start| text.starts_with(start));
    !NEVER.contains(&text.as_str()) && (pool || !confined)
}

fn bounds(confined: bool) -> Bounds {
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    let pool = [("198.51.100.0", "198.51.100.255"), ("10.0.0.0", "10.255.255.255"), ("2001:db8::", "2001:db8::ffff")];
    if confined { Bounds::within(pool.map(|(first, last)| (ip(first), ip(last)))) } else { Bounds::everything() }
}

/// The sender, and the peer at the other end of it.
struct Story {
    egress: Egress,
    out: AdjRibOut,
    wanted: RouteSet,
    confined: bool,
    held: BTreeMap<Prefix, u32>,
    ended: BTreeSet<Family>,
}

impl Story {
    fn new(max_len: usize) -> Self {
        let context = Context {
            as_width: AsWidth::Four,
            peer_kind: PeerKind::External,
            max_len,
            families: FAMILIES.into(),
            ..Context::before_open()
        };
        let hops = [(FAMILIES[0], "192.0.2.1".parse().unwrap()), (FAMILIES[1], "2001:db8:ffff::1".parse().unwrap())];
        let egress = Egress {
            asn: Asn(65_000),
            context,
            next_hops: hops.into(),
            bounds: bounds(true),
            remote: "192.0.2.254".parse().unwrap(),
            link_locals: Default::default(),
            only_to_customer: None,
        };
        let out = AdjRibOut::new(FAMILIES);
        Self { egress, out, wanted: RouteSet::new(), confined: true, held: BTreeMap::new(), ended: BTreeSet::new() }
    }

    fn want(&mut self, prefix: Prefix, med: Option<u32>) {
        match med {
            Some(med) => self.wanted.insert(prefix, Arc::new(Attributes { med: Some(med), ..Attributes::default() })),
            None => self.wanted.remove(&prefix),
        }
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Plan(changes) => changes.into_iter().for_each(|(prefix, med)| self.want(prefix, med)),
            Step::Bulk(med) => (0..BULK).for_each(|n| self.want(host4([10, 0, 0, 0], n), med)),
            Step::Write(limit) => self.write(limit)?,
            Step::Refresh(family) => self.out.forget(family, &self.egress),
            Step::Confine(confined) => {
                FAMILIES.iter().for_each(|family| self.out.forget(*family, &self.egress));
                self.egress.bounds = bounds(confined);
                self.confined = confined;
            }
        }
        Ok(())
    }

    fn write(&mut self, limit: usize) -> Result<(), TestCaseError> {
        let mut octets = BytesMut::new();
        let messages = self.out.write(&self.wanted, &self.egress, &mut octets, limit);
        let max_len = self.egress.context.max_len;
        prop_assert!(octets.len() < limit.saturating_add(max_len), "the buffer is not bounded");
        let (mut read, mut touched) = (0, BTreeSet::new());
        while let Some(cut) = frame(&mut octets, &self.egress.context).expect("every message within the limit") {
            let Ok(Message::Update(update)) = Message::decode(&cut, &self.egress.context) else {
                return Err(TestCaseError::fail("no UPDATE"));
            };
            read += 1;
            self.hear(&update, &mut touched)?;
        }
        prop_assert!(octets.is_empty(), "a message without its end");
        prop_assert_eq!(read, messages);
        Ok(())
    }

    /// The peer takes a message. `touched` are the prefixes of messages before it in the same step.
    fn hear(&mut self, update: &Update, touched: &mut BTreeSet<Prefix>) -> Result<(), TestCaseError> {
        prop_assert!(update.faults.is_empty());
        if let Some(family) = update.end_of_rib() {
            prop_assert!(self.ended.insert(family), "End-of-RIB twice");
            let wanted = self.permitted().into_iter().filter(|(prefix, _)| prefix.family() == family);
            let held = self.held.iter().filter(|(prefix, _)| prefix.family() == family).map(|(p, med)| (*p, *med));
            prop_assert_eq!(held.collect::<BTreeMap<_, _>>(), wanted.collect(), "End-of-RIB before the table");
            return Ok(());
        }
        let gone: Vec<Prefix> = update.gone().collect();
        let come: Vec<Prefix> = update.announced().map(|(prefix, _)| prefix).collect();
        prop_assert!(gone.is_empty() != come.is_empty(), "one message mixes, or is empty");
        let med = update
            .attributes
            .iter()
            .find_map(|a| if let Attribute::MultiExitDisc(med) = a { Some(*med) } else { None });
        for prefix in gone {
            prop_assert!(self.held.remove(&prefix).is_some(), "{} is withdrawn and was never announced", prefix);
            prop_assert!(touched.insert(prefix), "{} twice in one step", prefix);
        }
        for prefix in come {
            prop_assert!(may_leave(&prefix, self.confined), "{} must not leave", prefix);
            prop_assert!(touched.insert(prefix), "{} twice in one step", prefix);
            self.held.insert(prefix, med.expect("every route here has one"));
        }
        Ok(())
    }

    fn permitted(&self) -> BTreeMap<Prefix, u32> {
        let wanted = self.wanted.iter().filter(|(prefix, _)| may_leave(prefix, self.confined));
        wanted.map(|(prefix, attributes)| (*prefix, attributes.med.expect("given"))).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(192) })]

    #[test]
    fn whatever_interrupts_it_the_peer_holds_what_is_wanted(
        steps in prop::collection::vec(step(), 1..25),
        max_len in prop::sample::select(vec![4096usize, 65_535]),
    ) {
        let mut story = Story::new(max_len);
        for step in steps {
            story.take(step)?;
        }
        story.write(usize::MAX)?;
        prop_assert_eq!(&story.held, &story.permitted());
        prop_assert_eq!(story.ended.len(), FAMILIES.len());
        let count = |family: Family| story.held.keys().filter(|prefix| prefix.family() == family).count();
        for family in FAMILIES {
            prop_assert_eq!(story.out.counts()[&family], count(family), "{} is counted wrong", family);
        }
        // At rest nothing is left to say.
        story.write(usize::MAX)?;
        prop_assert_eq!(&story.held, &story.permitted());
    }
}
