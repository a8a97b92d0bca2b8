//! What may be taken away at once by inference: by what a list, a folder or a file no longer has, and by a changed configuration.
//! What an event said of one object is not looked at here; it passes.
//!
//! A step that would take more than a share of what is announced, or leave nothing, is held: what it takes stays announced, and
//! everything else goes on. After a while it is done; one that leaves nothing waits until it is confirmed, or what is missing is back,
//! and the while begins when something is.
//! Never announced here: a route that was not announced before and is not wanted.

use super::plan::Plan;
use crate::rib::{Change, RouteSet};
use crate::wire::Prefix;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many routes a step may take whatever their share is, as long as something is left.
pub const ALWAYS: usize = 3;

/// How much may go, by the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The window over which steps are added up, and how long one that takes more is held.
    pub hold: Duration,
    /// Per cent of what was announced (or, by an allocator, held) at the window's beginning, at least [`ALWAYS`]; 100: whatever is
    /// asked.
    pub max_withdraw: u8,
    /// The [`Cause::hash`] of a step that may be done at once.
    pub confirmed: Option<Arc<str>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { hold: Duration::from_secs(60), max_withdraw: 25, confirmed: None }
    }
}

impl Limits {
    /// How many of so many may go within a window.
    pub fn share(&self, of: usize) -> usize {
        (of.saturating_mul(usize::from(self.max_withdraw)) / 100).max(ALWAYS)
    }

    /// Whether there is no limit.
    pub fn allow_all(&self) -> bool {
        self.max_withdraw >= 100
    }
}

/// Why routes are missing: the same on every node that sees the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cause {
    /// What tells the new configuration from others, where it decides by other rules than before.
    pub configuration: Option<Arc<str>>,
    /// The objects that are missing by inference, by kind and name, ascending.
    pub missing: Arc<[String]>,
}

impl Cause {
    /// By which people confirm it: 16 hexadecimal digits.
    pub fn hash(&self) -> String {
        let lines = self.configuration.iter().map(AsRef::as_ref).chain(["--"]);
        fingerprint(lines.chain(self.missing.iter().map(String::as_str)))
    }
}

/// A short number for texts, the same in every process (FNV-1a, 64 bits). It guards against mistakes, not against malice.
pub fn fingerprint<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let step = |hash: u64, octet: &u8| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3);
    let hash = texts.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, text| {
        // No octet of UTF-8 is 0xff: two texts are never taken for one.
        text.as_bytes().iter().chain(&[0xff]).fold(hash, step)
    });
    format!("{hash:016x}")
}

/// What is missing from a plan only by inference.
#[derive(Debug, Clone, Copy)]
pub enum Inferred<'a> {
    /// Nothing.
    Nothing,
    /// What this plan has beyond the wanted one: made of the old rules and with the missing objects, but without what events deleted.
    BeyondWanted(&'a Plan),
    /// Whatever is announced and not wanted: who has just begun knows no better.
    Anything,
}

/// One plan to be judged.
#[derive(Debug)]
pub struct Step<'a> {
    /// What should be announced by all that is known now.
    pub wanted: &'a Plan,
    /// What of the difference is inferred.
    pub inferred: Inferred<'a>,
    /// Why.
    pub cause: &'a Cause,
    /// The entries under `peers` that have a session.
    pub established: &'a BTreeSet<Arc<str>>,
}

/// What is to be announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// By entry under `peers`.
    pub routes: BTreeMap<Arc<str>, RouteSet>,
    /// What of it is held back from withdrawal.
    pub holding: Holding,
}

/// Whether routes stay announced that the plan does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holding {
    /// None.
    Nothing,
    /// These.
    Routes(Held),
}

/// What stays announced for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// How many routes, all peers together.
    pub routes: usize,
    /// Their addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// To whom.
    pub peers: BTreeSet<Arc<str>>,
    /// Until when.
    pub until: Until,
}

/// When a held step is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// At the latest then.
    Time(Instant),
    /// Not before it is confirmed: nothing would be left.
    Confirmed,
}

/// The route of one peer.
type Route = (Arc<str>, Prefix);

/// What is announced, what was taken of late, what is held.
#[derive(Debug, Default)]
pub struct Guard {
    announced: BTreeMap<Arc<str>, RouteSet>,
    /// Inferred steps that were done within the window, oldest first.
    taken: VecDeque<Taken>,
    held: BTreeMap<Route, Clock>,
}

/// How long a route has been held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// Since then.
    Runs(Instant),
    /// Nothing would be left. Should something be, the time begins then: what was all missing may come back one by one.
    Stands,
}

#[derive(Debug)]
struct Taken {
    at: Instant,
    before: Sizes,
    routes: BTreeSet<Route>,
    lost: BTreeSet<Prefix>,
}

/// How much was announced at some time.
#[derive(Debug)]
struct Sizes {
    peers: BTreeMap<Arc<str>, usize>,
    all: usize,
}

impl Guard {
    /// One that goes on from what is announced.
    pub fn after(announced: BTreeMap<Arc<str>, RouteSet>) -> Self {
        Self { announced, ..Self::default() }
    }

    /// The same router is a peer by another name now.
    pub fn rename(&mut self, before: &Arc<str>, now: &Arc<str>) {
        if let Some(routes) = self.announced.remove(before) {
            self.announced.entry(Arc::clone(now)).or_insert(routes);
        }
        let (renamed, others) = std::mem::take(&mut self.held).into_iter().partition(|((peer, _), _)| peer == before);
        self.held = others;
        let renamed: BTreeMap<Route, Clock> = renamed;
        self.held.extend(renamed.into_iter().map(|((_, prefix), clock)| ((Arc::clone(now), prefix), clock)));
    }

    /// What is to be announced now that this plan is wanted. Asked again with the same plan it answers by the time that has passed.
    pub fn judge(&mut self, step: &Step<'_>, limits: &Limits, now: Instant) -> Outcome {
        self.taken.retain(|taken| now.saturating_duration_since(taken.at) < limits.hold);
        let mut missing = self.missing(step);
        if missing.is_empty() || limits.allow_all() {
            self.held.clear();
        } else if limits.confirmed.as_deref() == Some(&step.cause.hash()) {
            self.held.clear();
            self.taken.clear();
        } else {
            self.release(step, limits, now, &mut missing);
        }
        let held = self.describe(limits);
        self.announced = self.joined(step.wanted);
        Outcome { routes: self.announced.clone(), holding: held }
    }

    /// Announced, not wanted, and that only by inference.
    fn missing(&self, step: &Step<'_>) -> BTreeSet<Route> {
        if matches!(step.inferred, Inferred::Nothing) {
            return BTreeSet::new();
        }
        let nothing = RouteSet::new();
        let of_peer = |(peer, announced): (&Arc<str>, &RouteSet)| {
            let wanted = step.wanted.routes.get(peer).unwrap_or(&nothing);
            let is_inferred = |prefix: &Prefix| match step.inferred {
                Inferred::Nothing => false,
                Inferred::BeyondWanted(kept) => {
                    kept.routes.get(peer).is_some_and(|kept| kept.attributes(prefix).is_some())
                }
                Inferred::Anything => true,
            };
            let gone = announced.changes(wanted).filter_map(|change| match change {
                Change::Remove(prefix, _) => Some(prefix),
                Change::Add(..) | Change::Replace { .. } => None,
            });
            gone.filter(is_inferred).map(|prefix| (Arc::clone(peer), prefix)).collect::<Vec<_>>()
        };
        self.announced.iter().flat_map(of_peer).collect()
    }

    /// Lets go what has been held long enough, and what is little enough; the rest is held.
    fn release(&mut self, step: &Step<'_>, limits: &Limits, now: Instant, missing: &mut BTreeSet<Route>) {
        let before = std::mem::take(&mut self.held);
        let since = |route: &Route| match before.get(route) {
            Some(Clock::Runs(since)) => *since,
            Some(Clock::Stands) | None => now,
        };
        let is_due = |route: &Route| now.saturating_duration_since(since(route)) >= limits.hold;
        let (due, fresh): (BTreeSet<Route>, BTreeSet<Route>) = missing.iter().cloned().partition(is_due);
        if !due.is_empty() && !leaves_nothing(step, &due, &fresh) {
            for (peer, prefix) in &due {
                if let Some(routes) = self.announced.get_mut(peer) {
                    routes.remove(prefix);
                }
            }
            self.taken.clear();
            *missing = fresh;
        }
        let lost = lost(step, missing);
        // What is held waits for its time, though others came back meanwhile; but for a peer that is gone, once another has it all.
        let waits = |(peer, prefix): &Route| step.wanted.routes.contains_key(peer) || lost.contains(prefix);
        let is_held = missing.iter().any(|route| before.contains_key(route) && waits(route));
        if !is_held && self.is_little(step, missing, &lost, limits) {
            let before = self.sizes();
            let routes = std::mem::take(missing);
            if !routes.is_empty() {
                self.taken.push_back(Taken { at: now, before, routes, lost });
            }
        }
        let stands = leaves_nothing(step, missing, &BTreeSet::new());
        let clock = |route: &Route| if stands { Clock::Stands } else { Clock::Runs(since(route)) };
        self.held = missing.iter().map(|route| (route.clone(), clock(route))).collect();
    }

    /// Whether this may go at once: in no window that ends now is it too much, and something is left.
    fn is_little(&self, step: &Step<'_>, going: &BTreeSet<Route>, lost: &BTreeSet<Prefix>, limits: &Limits) -> bool {
        if leaves_nothing(step, going, &BTreeSet::new()) {
            return false;
        }
        let (mut routes, mut gone) = (going.clone(), lost.clone());
        let fits = |before: &Sizes, routes: &BTreeSet<Route>, gone: &BTreeSet<Prefix>| {
            let mut by_peer: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
            // Of a peer that is gone itself only counts what nobody else has.
            for (peer, _) in routes.iter().filter(|(peer, _)| step.wanted.routes.contains_key(peer)) {
                *by_peer.entry(peer).or_default() += 1;
            }
            let of_peer = |peer: &Arc<str>| before.peers.get(peer).copied().unwrap_or_default();
            gone.len() <= limits.share(before.all)
                && by_peer.iter().all(|(peer, count)| *count <= limits.share(of_peer(peer)))
        };
        fits(&self.sizes(), &routes, &gone)
            && self.taken.iter().rev().all(|taken| {
                routes.extend(taken.routes.iter().cloned());
                gone.extend(taken.lost.iter().copied());
                fits(&taken.before, &routes, &gone)
            })
    }

    fn sizes(&self) -> Sizes {
        let peers = self.announced.iter().map(|(peer, routes)| (Arc::clone(peer), routes.len())).collect();
        let mut sets = self.announced.values();
        let all = match sets.next() {
            None => 0,
            Some(first) if sets.all(|other| other.is_same(first)) => first.len(),
            Some(_) => {
                let prefixes = self.announced.values().flat_map(|routes| routes.iter().map(|(prefix, _)| *prefix));
                prefixes.collect::<BTreeSet<_>>().len()
            }
        };
        Sizes { peers, all }
    }

    fn describe(&self, limits: &Limits) -> Holding {
        if self.held.is_empty() {
            return Holding::Nothing;
        }
        let runs = self.held.values().filter_map(|clock| match clock {
            Clock::Runs(since) => Some(*since),
            Clock::Stands => None,
        });
        let until = runs.max().map_or(Until::Confirmed, |last| Until::Time(last + limits.hold));
        Holding::Routes(Held {
            routes: self.held.len(),
            addresses: self.held.keys().map(|(_, prefix)| prefix.address()).collect(),
            peers: self.held.keys().map(|(peer, _)| Arc::clone(peer)).collect(),
            until,
        })
    }

    /// What is wanted, and what is held, as it is announced already.
    fn joined(&self, wanted: &Plan) -> BTreeMap<Arc<str>, RouteSet> {
        let mut all = wanted.routes.clone();
        let holders: BTreeSet<&Arc<str>> = self.held.keys().map(|(peer, _)| peer).collect();
        for peer in holders {
            let Some(announced) = self.announced.get(peer) else { continue };
            // From what is announced on, so that what stays is the same memory.
            let mut routes = announced.clone();
            for change in announced.changes(wanted.routes.get(peer).unwrap_or(&RouteSet::new())) {
                match change {
                    Change::Add(prefix, attributes) | Change::Replace { prefix, wanted: attributes, .. } => {
                        routes.insert(prefix, Arc::clone(attributes));
                    }
                    Change::Remove(prefix, _) if self.held.contains_key(&(Arc::clone(peer), prefix)) => {}
                    Change::Remove(prefix, _) => routes.remove(&prefix),
                }
            }
            all.insert(Arc::clone(peer), routes);
        }
        all
    }
}

/// Whether no peer at all has a route once these are gone. Where a session loses something, only what a session has counts.
fn leaves_nothing(step: &Step<'_>, going: &BTreeSet<Route>, staying: &BTreeSet<Route>) -> bool {
    let of_a_session = going.iter().any(|(peer, _)| step.established.contains(peer));
    let counts = |peer: &Arc<str>| !of_a_session || step.established.contains(peer);
    let left = step.wanted.routes.iter().any(|(peer, routes)| !routes.is_empty() && counts(peer));
    !left && !staying.iter().any(|(peer, _)| counts(peer))
}

/// The prefixes that nobody has once these are gone, or that only peers without a session have while one with a session had them.
fn lost(step: &Step<'_>, going: &BTreeSet<Route>) -> BTreeSet<Prefix> {
    let mut losers: BTreeMap<Prefix, bool> = BTreeMap::new();
    for (peer, prefix) in going {
        *losers.entry(*prefix).or_default() |= step.established.contains(peer);
    }
    let is_lost = |prefix: &Prefix, of_a_session: bool| {
        let counts = |peer: &Arc<str>| !of_a_session || step.established.contains(peer);
        let wanted = step.wanted.routes.iter();
        !wanted.filter(|(_, routes)| routes.attributes(prefix).is_some()).any(|(peer, _)| counts(peer))
    };
    losers
        .into_iter()
        .filter(|(prefix, of_a_session)| is_lost(prefix, *of_a_session))
        .map(|(prefix, _)| prefix)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn plan(peers: &[(&str, std::ops::Range<u8>)]) -> Plan {
        let routes = |range: std::ops::Range<u8>| {
            range.map(|n| (Prefix::host([198, 51, 100, n].into()), Arc::default())).collect::<RouteSet>()
        };
        let peers = peers.iter().map(|(name, range)| (Arc::from(*name), routes(range.clone())));
        Plan { routes: peers.collect(), ..Plan::default() }
    }

    /// A guard that announces this, and what it hands out when it then should be something else.
    struct Scene {
        guard: Guard,
        kept: Plan,
        limits: Limits,
        established: BTreeSet<Arc<str>>,
        start: Instant,
    }

    impl Scene {
        fn new(announced: &[(&str, std::ops::Range<u8>)]) -> Self {
            let kept = plan(announced);
            let established = kept.routes.keys().cloned().collect();
            let guard = Guard::after(kept.routes.clone());
            Self { guard, kept, limits: Limits::default(), established, start: Instant::now() }
        }

        /// What is announced after so many seconds, and whether it is held until somebody confirms.
        fn step(&mut self, wanted: &Plan, seconds: u64) -> (Outcome, Cause) {
            let cause = Cause { configuration: Some("c".into()), missing: Arc::default() };
            let inferred = Inferred::BeyondWanted(&self.kept);
            let step = Step { wanted, inferred, cause: &cause, established: &self.established };
            (self.guard.judge(&step, &self.limits, self.start + Duration::from_secs(seconds)), cause)
        }

        fn count(&mut self, wanted: &[(&str, std::ops::Range<u8>)], seconds: u64) -> usize {
            self.step(&plan(wanted), seconds).0.routes.values().map(RouteSet::len).sum()
        }
    }

    #[test]
    fn more_than_a_share_is_held_for_a_while_and_less_goes_at_once() {
        let mut scene = Scene::new(&[("a", 0..20)]);
        assert_eq!(scene.count(&[("a", 0..15)], 0), 15, "a quarter");
        let mut scene = Scene::new(&[("a", 0..20)]);
        assert_eq!(scene.count(&[("a", 0..14)], 0), 20, "more than that");
        assert_eq!(scene.count(&[("a", 0..14)], 59), 20);
        assert_eq!(scene.count(&[("a", 0..14)], 60), 14);
        let mut few = Scene::new(&[("a", 0..4)]);
        assert_eq!(few.count(&[("a", 0..1)], 0), 1, "three always may, where something is left");
    }

    #[test]
    fn steps_within_one_window_are_added_up() {
        let mut scene = Scene::new(&[("a", 0..20)]);
        assert_eq!(scene.count(&[("a", 0..17)], 0), 17);
        assert_eq!(scene.count(&[("a", 0..15)], 10), 15);
        assert_eq!(scene.count(&[("a", 0..14)], 20), 15, "the sixth of twenty");
        assert_eq!(scene.count(&[("a", 0..14)], 79), 15);
        assert_eq!(scene.count(&[("a", 0..14)], 80), 14);
    }

    #[test]
    fn nothing_left_waits_until_it_is_confirmed_or_back() {
        let mut scene = Scene::new(&[("a", 0..1)]);
        assert_eq!(scene.count(&[("a", 0..0)], 0), 1);
        let (outcome, cause) = scene.step(&plan(&[]), 6000);
        let Holding::Routes(held) = outcome.holding else { panic!("{outcome:?}") };
        assert_eq!((held.until, held.routes), (Until::Confirmed, 1));
        scene.limits.confirmed = Some("another".into());
        assert_eq!(scene.count(&[], 6001), 1);
        scene.limits.confirmed = Some(cause.hash().into());
        assert_eq!(scene.count(&[], 6002), 0);
        let mut slowly = Scene::new(&[("a", 0..20)]);
        assert_eq!(slowly.count(&[], 0), 20);
        assert_eq!(slowly.count(&[("a", 0..1)], 6000), 20, "the first is back: the others have a while to follow");
        assert_eq!(slowly.count(&[("a", 0..19)], 6059), 20, "also when only one is still missing");
        assert_eq!(slowly.count(&[("a", 0..19)], 6060), 19);
        let mut back = Scene::new(&[("a", 0..9)]);
        assert_eq!(back.count(&[("a", 0..0)], 0), 9);
        assert_eq!(back.step(&plan(&[("a", 0..9)]), 1).0.holding, Holding::Nothing);
    }

    #[test]
    fn what_is_really_deleted_goes_at_once_and_what_is_new_comes_during_a_hold() {
        let mut scene = Scene::new(&[("a", 0..20)]);
        assert_eq!(scene.count(&[("a", 0..0)], 0), 20);
        scene.kept = plan(&[("a", 0..6)]); // fourteen were deleted by events
        let (outcome, _) = scene.step(&plan(&[("a", 30..32)]), 1);
        let prefixes: Vec<_> = outcome.routes["a"].iter().map(|(prefix, _)| prefix.address().to_string()).collect();
        assert_eq!(prefixes.len(), 8, "{prefixes:?}");
        assert!(prefixes.contains(&"198.51.100.30".to_owned()) && prefixes.contains(&"198.51.100.4".to_owned()));
    }

    #[test]
    fn a_peer_may_go_when_another_with_a_session_has_its_addresses() {
        let mut both = Scene::new(&[("a", 0..20), ("b", 0..20)]);
        assert_eq!(both.count(&[("b", 0..20)], 0), 20);
        let mut down = Scene::new(&[("a", 0..20), ("b", 0..20)]);
        down.established.remove("b");
        assert_eq!(down.count(&[("b", 0..20)], 0), 40);
        assert_eq!(down.count(&[("b", 0..20)], 600), 40, "nothing that reaches anybody would be left");
        down.established.insert("b".into());
        assert_eq!(down.count(&[("b", 0..20)], 601), 20);
    }

    #[test]
    fn the_limit_can_be_turned_off_and_who_has_just_begun_keeps_everything() {
        let mut off = Scene::new(&[("a", 0..20)]);
        off.limits.max_withdraw = 100;
        assert_eq!(off.count(&[], 0), 0);
        let Scene { mut guard, established, start, limits, .. } = Scene::new(&[("a", 0..20)]);
        let (wanted, cause) = (plan(&[]), Cause::default());
        let step = Step { wanted: &wanted, inferred: Inferred::Anything, cause: &cause, established: &established };
        assert_eq!(guard.judge(&step, &limits, start).routes["a"].len(), 20);
        assert_eq!(guard.judge(&step, &limits, start + MINUTE).routes["a"].len(), 20);
    }

    #[test]
    fn the_number_of_a_cause_is_the_same_everywhere_and_of_each_part() {
        let cause = |config: Option<&str>, missing: &[&str]| {
            let missing = missing.iter().map(|name| (*name).to_owned()).collect();
            Cause { configuration: config.map(Into::into), missing }.hash()
        };
        assert_eq!(cause(Some("a"), &["Node n1"]), cause(Some("a"), &["Node n1"]));
        let all = [cause(None, &["a"]), cause(Some("a"), &[]), cause(None, &["a", "b"]), cause(None, &["ab"])];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 4);
        assert!(all.iter().all(|hash| hash.len() == 16));
    }
}
