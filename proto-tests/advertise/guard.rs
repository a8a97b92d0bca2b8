//! The guard against the words of its rule, over random histories: what leaves by inference, when, and what is left.

use herald::advertise::guard::{ALWAYS, Step, Until};
use herald::advertise::{Cause, Guard, Holding, Inferred, Limits, Plan};
use herald::rib::RouteSet;
use herald::wire::Prefix;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PEERS: [&str; 3] = ["a", "b", "c"];

/// A route of a peer, by the last octet of its address.
type Route = (&'static str, u8);
type Routes = BTreeSet<Route>;

/// What happens next.
#[derive(Debug, Clone)]
enum Happening {
    /// Objects are deleted one by one: their routes go, whatever the peer.
    Deleted(BTreeSet<u8>),
    /// Objects are missing from a list, or the rules changed: these are no longer wanted.
    Missing(BTreeSet<u8>),
    /// Only so many are still in the list.
    Cut(u8),
    /// A peer is gone from the configuration.
    PeerGone(&'static str),
    /// Everything is back, and more.
    Back,
    /// The session of a peer ends.
    Down(&'static str),
    /// The sessions are back.
    Up,
    /// What is held is confirmed.
    Confirmed,
    /// Nothing but time.
    Time,
}

fn happening() -> impl Strategy<Value = Happening> {
    let few = || btree_set(0..24u8, 0..6);
    prop_oneof![
        2 => few().prop_map(Happening::Deleted),
        4 => few().prop_map(Happening::Missing),
        2 => (0..24u8).prop_map(Happening::Cut),
        1 => select(&PEERS).prop_map(Happening::PeerGone),
        2 => Just(Happening::Back),
        1 => select(&PEERS).prop_map(Happening::Down),
        1 => Just(Happening::Up),
        1 => Just(Happening::Confirmed),
        5 => Just(Happening::Time),
    ]
}

fn everything() -> Routes {
    PEERS.iter().flat_map(|peer| (0..24).map(|n| (*peer, n))).collect()
}

fn prefix(n: u8) -> Prefix {
    Prefix::host([198, 51, 100, n].into())
}

fn plan(routes: &Routes, peers: &BTreeSet<&'static str>) -> Plan {
    let of = |peer: &'static str| -> RouteSet {
        let mine = routes.iter().filter(|(name, _)| *name == peer);
        mine.map(|(_, n)| (prefix(*n), Arc::default())).collect()
    };
    let sets = peers.iter().map(|peer| (Arc::from(*peer), of(peer)));
    Plan { routes: sets.collect(), ..Plan::default() }
}

fn read(routes: &BTreeMap<Arc<str>, RouteSet>) -> Routes {
    let name = |peer: &Arc<str>| *PEERS.iter().find(|name| **name == &**peer).expect("a peer of ours");
    let octet = |prefix: &Prefix| match prefix.address() {
        std::net::IpAddr::V4(address) => address.octets()[3],
        std::net::IpAddr::V6(_) => panic!("only IPv4 here"),
    };
    routes.iter().flat_map(|(peer, set)| set.iter().map(move |(prefix, _)| (name(peer), octet(prefix)))).collect()
}

/// What left before its time.
struct Left {
    at: Instant,
    routes: Routes,
    /// Addresses that nobody else was to have then.
    lost: BTreeSet<u8>,
    /// What was announced before.
    before: Routes,
}

/// The world around a guard, and what it knows of the past without asking the guard.
struct World {
    guard: Guard,
    limits: Limits,
    now: Instant,
    wanted: Routes,
    /// What nobody deleted: what is wanted, and what is only missing.
    kept: Routes,
    peers: BTreeSet<&'static str>,
    up: BTreeSet<&'static str>,
    confirmed: bool,
    announced: Routes,
    /// Since when what is announced is missing while something is left.
    missing_since: BTreeMap<Route, Instant>,
    left: Vec<Left>,
    /// When it was asked last, all that was held would have left nothing.
    nothing_was_left: bool,
}

impl World {
    fn new() -> Self {
        let all = everything();
        let peers = BTreeSet::from(PEERS);
        Self {
            guard: Guard::after(plan(&all, &peers).routes),
            limits: Limits::default(),
            now: Instant::now(),
            wanted: all.clone(),
            kept: all.clone(),
            up: peers.clone(),
            peers,
            confirmed: false,
            announced: all,
            missing_since: BTreeMap::new(),
            left: Vec::new(),
            nothing_was_left: false,
        }
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Deleted(gone) => {
                self.wanted.retain(|(_, n)| !gone.contains(n));
                self.kept.retain(|(_, n)| !gone.contains(n));
            }
            Happening::Missing(gone) => self.wanted.retain(|(_, n)| !gone.contains(n)),
            Happening::Cut(left) => self.wanted.retain(|(_, n)| n < left),
            Happening::PeerGone(gone) => {
                self.peers.remove(gone);
                self.wanted.retain(|(peer, _)| peer != gone);
            }
            Happening::Back => {
                self.peers = BTreeSet::from(PEERS);
                self.wanted = everything();
                self.kept = everything();
            }
            Happening::Down(peer) => drop(self.up.remove(peer)),
            Happening::Up => self.up = BTreeSet::from(PEERS),
            Happening::Confirmed => self.confirmed = true,
            Happening::Time => {}
        }
    }

    /// Asks the guard, and holds what it answers against the words.
    fn judge(&mut self) -> Result<(), TestCaseError> {
        let cause = Cause { configuration: Some("c".into()), missing: Arc::default() };
        self.limits.confirmed = std::mem::take(&mut self.confirmed).then(|| cause.hash().into());
        let (wanted, kept) = (plan(&self.wanted, &self.peers), plan(&self.kept, &BTreeSet::from(PEERS)));
        let established = self.up.iter().map(|peer| Arc::from(*peer)).collect();
        let step =
            Step { wanted: &wanted, inferred: Inferred::BeyondWanted(&kept), cause: &cause, established: &established };
        let outcome = self.guard.judge(&step, &self.limits, self.now);
        let after = read(&outcome.routes);
        prop_assert!(self.wanted.is_subset(&after), "what is wanted goes out during a hold too");
        let stays = &after - &self.wanted;
        prop_assert!(stays.is_subset(&(&self.announced & &self.kept)), "deleted, or never announced: {stays:?}");
        self.look_at_what_left(&after)?;
        let held = match &outcome.holding {
            Holding::Nothing => 0,
            Holding::Routes(held) => held.routes,
        };
        prop_assert_eq!(held, stays.len(), "what stays beyond the plan is said");
        let of_a_session = stays.iter().any(|(peer, _)| self.up.contains(peer));
        let has = |(peer, _): &Route| !of_a_session || self.up.contains(peer);
        self.nothing_was_left = !stays.is_empty() && !self.wanted.iter().any(has);
        if let Holding::Routes(held) = &outcome.holding {
            match held.until {
                Until::Time(until) => {
                    prop_assert!(until > self.now && !self.nothing_was_left, "held beyond its time, or too short")
                }
                Until::Confirmed => prop_assert!(self.nothing_was_left, "held for no reason"),
            }
        }
        self.announced = after;
        Ok(())
    }

    fn look_at_what_left(&mut self, after: &Routes) -> Result<(), TestCaseError> {
        let (now, hold) = (self.now, self.limits.hold);
        let missing: Routes = &(&self.announced & &self.kept) - &self.wanted;
        self.missing_since.retain(|route, _| missing.contains(route));
        if self.nothing_was_left {
            self.missing_since.clear();
        }
        for route in &missing {
            self.missing_since.entry(*route).or_insert(now);
        }
        let gone = &missing - after;
        if self.limits.confirmed.is_some() || gone.is_empty() {
            if self.limits.confirmed.is_some() && !missing.is_empty() {
                prop_assert_eq!(&gone, &missing, "confirmed, and yet kept");
                self.left.clear();
            }
            return Ok(());
        }
        let concerns_a_session = gone.iter().any(|(peer, _)| self.up.contains(peer));
        let left = after.iter().any(|(peer, _)| !concerns_a_session || self.up.contains(peer));
        prop_assert!(left, "nothing is left, and nobody allowed it");
        let is_due = |route: &Route| now - self.missing_since[route] >= hold;
        let (due, early): (Routes, Routes) = gone.into_iter().partition(is_due);
        if !due.is_empty() {
            self.left.clear();
        }
        if early.is_empty() {
            return Ok(());
        }
        self.left.retain(|left| now - left.at < hold);
        let nobody_has = |n: &u8| !self.wanted.iter().any(|(_, wanted)| wanted == n);
        let lost = early.iter().map(|(_, n)| *n).filter(nobody_has).collect();
        self.left.push(Left { at: now, routes: early, lost, before: &self.announced - &due });
        let (mut routes, mut lost) = (Routes::new(), BTreeSet::new());
        for left in self.left.iter().rev() {
            routes.extend(left.routes.iter().copied());
            lost.extend(left.lost.iter().copied());
            self.is_a_share(&routes, &lost, &left.before)?;
        }
        Ok(())
    }

    /// Of each peer that is still there, and of all of them together.
    fn is_a_share(&self, gone: &Routes, lost: &BTreeSet<u8>, before: &Routes) -> Result<(), TestCaseError> {
        let limit = |announced: usize| (announced / 4).max(ALWAYS);
        for peer in &self.peers {
            let of = |routes: &Routes| routes.iter().filter(|(name, _)| name == peer).count();
            prop_assert!(of(gone) <= limit(of(before)), "{} of {} of {peer}", of(gone), of(before));
        }
        let all = before.iter().map(|(_, n)| *n).collect::<BTreeSet<_>>().len();
        prop_assert!(lost.len() <= limit(all), "{} of {all} addresses", lost.len());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// No inferred step takes away more than the limit before the hold has passed, and none leaves nothing unless allowed.
    #[test]
    fn whatever_happens_inference_takes_a_share_a_hold_and_never_the_last(
        history in vec((happening(), 0..45u64), 1..40),
    ) {
        let mut world = World::new();
        for (happening, seconds) in history {
            world.now += Duration::from_secs(seconds);
            world.happen(&happening);
            world.judge()?;
        }
    }

    /// What is held and stays missing is gone after the hold, where something is left: nothing is held for ever.
    #[test]
    fn what_stays_missing_goes_when_its_time_is_over(left in 1..24u8, seconds in vec(1..59u64, 0..8)) {
        let mut world = World::new();
        world.happen(&Happening::Cut(left));
        world.judge()?;
        for seconds in seconds {
            world.now += Duration::from_secs(seconds);
            world.judge()?;
        }
        world.now += Duration::from_secs(60);
        world.judge()?;
        prop_assert_eq!(&world.announced, &world.wanted);
    }
}
