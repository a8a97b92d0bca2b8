//! Which Services that the API server's list no longer has give back their addresses, and when. Time is an argument; whether a
//! Service is there is asked by others.
//!
//! A list may be wrong: it comes from a server that lags or was put back, or through rights that see less. So whoever is missing from
//! one is asked for by name, and only who is not there either may be released: at most the guard's share of the addresses that are
//! held within `guard.hold`, the others after that, without another list. Where nobody would hold anything after it, all wait until
//! that is confirmed; once the first are back, the others have a `guard.hold` to follow. Whose deletion was told never comes here.

use crate::advertise::{Cause, Limits};
use crate::condition::{Conditions, Reason};
use crate::ipam::{ServiceName, Uid};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tokio::time::Instant;

/// Who is missing, and what was released of late.
#[derive(Debug, Default)]
pub struct Releases {
    missing: BTreeMap<Uid, Missing>,
    /// Kind and name of everybody who has been missing since nobody was, but for who came back: the number is of these, so that it
    /// stays the same while one after the other is released.
    cause: BTreeSet<String>,
    /// Steps within the window, oldest first.
    taken: VecDeque<Taken>,
    held: Held,
}

/// One that the list no longer has.
#[derive(Debug)]
struct Missing {
    service: ServiceName,
    answer: Answer,
    consent: Consent,
}

/// What the API server says of one who is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet.
    Asked,
    /// Nothing of use, in words. It is asked again.
    Unclear(String),
    /// It has no such Service.
    Gone,
}

/// Whether an operator let one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consent {
    Wanted,
    Given,
}

/// What was released at once.
#[derive(Debug)]
struct Taken {
    at: Instant,
    /// Addresses that were held before.
    before: usize,
    addresses: usize,
}

/// Addresses of ours that are held at some moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holdings {
    /// All of them.
    pub all: usize,
    /// Those that somebody holds who is not missing.
    pub staying: usize,
    /// How many each of the missing holds.
    pub of_missing: BTreeMap<Uid, usize>,
}

impl Holdings {
    fn of(&self, missing: &Uid) -> usize {
        self.of_missing.get(missing).copied().unwrap_or_default()
    }
}

/// What stays held for now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Held {
    #[default]
    Nothing,
    /// So many addresses of these, until the window allows more or until it is confirmed.
    Addresses { count: usize, services: Vec<ServiceName>, until: Until },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Time(Instant),
    Confirmed,
    /// They are asked for again.
    Answered,
}

impl Releases {
    /// One that goes on from what was released by whoever led before: when, an address each. How many were held then is not known:
    /// not more than these, for all that is sure.
    pub fn after(released: impl IntoIterator<Item = Instant>) -> Self {
        let mut times: Vec<Instant> = released.into_iter().collect();
        times.sort();
        let left = |(index, at): (usize, &Instant)| Taken { at: *at, before: times.len() - index, addresses: 1 };
        Self { taken: times.iter().enumerate().map(left).collect(), ..Self::default() }
    }

    /// A list no longer has it: it is to be asked for.
    pub fn miss(&mut self, uid: &Uid, service: &ServiceName) {
        self.note(uid, service, Answer::Asked);
    }

    /// It was asked for, and is not there.
    pub fn gone(&mut self, uid: &Uid, service: &ServiceName) {
        self.note(uid, service, Answer::Gone);
    }

    fn note(&mut self, uid: &Uid, service: &ServiceName, answer: Answer) {
        self.cause.insert(name(service));
        let fresh = Missing { service: service.clone(), answer: Answer::Asked, consent: Consent::Wanted };
        self.missing.entry(uid.clone()).or_insert(fresh).answer = answer;
    }

    /// It was asked for, and the answer is of no use.
    pub fn unclear(&mut self, uid: &Uid, why: &str) {
        if let Some(missing) = self.missing.get_mut(uid) {
            missing.answer = Answer::Unclear(why.to_owned());
        }
    }

    /// It is there, or its deletion was told.
    pub fn forget(&mut self, uid: &Uid) {
        if let Some(missing) = self.missing.remove(uid) {
            self.cause.remove(&name(&missing.service));
            self.end();
        }
    }

    /// One who is missing: its name, and what is known of it.
    pub fn answer(&self, uid: &Uid) -> Option<(&ServiceName, &Answer)> {
        self.missing.get(uid).map(|missing| (&missing.service, &missing.answer))
    }

    /// One who is missing by this name: where another one has it, it is gone for sure.
    pub fn namesake(&self, service: &ServiceName) -> Option<Uid> {
        self.missing.iter().find(|(_, missing)| missing.service == *service).map(|(uid, _)| uid.clone())
    }

    /// Whether it is missing.
    pub fn has(&self, uid: &Uid) -> bool {
        self.missing.contains_key(uid)
    }

    /// Whether anybody is missing.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }

    /// By which people confirm that those who are missing are released: 16 hexadecimal digits.
    pub fn number(&self) -> String {
        Cause { configuration: None, missing: self.cause.iter().cloned().collect::<Vec<_>>().into() }.hash()
    }

    /// An operator lets those go that have this number.
    pub fn confirm(&mut self, number: &str) {
        if !self.missing.is_empty() && self.number() == number {
            self.missing.values_mut().for_each(|missing| missing.consent = Consent::Given);
        }
    }

    /// Who gives back what it holds, now. Asked again, it answers by the time that has passed.
    pub fn judge(&mut self, holdings: &Holdings, limits: &Limits, now: Instant) -> Vec<Uid> {
        self.taken.retain(|taken| now.saturating_duration_since(taken.at) < limits.hold);
        if self.waits_for_consent() && holdings.staying > 0 {
            let addresses = limits.share(holdings.all);
            self.taken.push_back(Taken { at: now, before: holdings.all, addresses });
            self.held = self.describe(holdings, limits);
        }
        // Whether anything would be left is known when all have been asked for.
        if self.missing.values().any(|missing| missing.answer == Answer::Asked) {
            if self.missing.values().any(|missing| matches!(missing.answer, Answer::Unclear(_))) {
                self.held = self.describe(holdings, limits);
            }
            return Vec::new();
        }
        if let Some(number) = &limits.confirmed {
            self.confirm(number);
        }
        let gone = self.missing.iter().filter(|(_, missing)| missing.answer == Answer::Gone);
        let is_free = |uid: &Uid, missing: &Missing| {
            limits.allow_all() || missing.consent == Consent::Given || holdings.of(uid) == 0
        };
        let (free, mut waiting): (Vec<_>, Vec<_>) = gone.partition(|(uid, missing)| is_free(uid, missing));
        waiting.sort_by_key(|(_, missing)| &missing.service);
        let waiting: Vec<Uid> = waiting.into_iter().map(|(uid, _)| uid.clone()).collect();
        let mut going: Vec<Uid> = free.into_iter().map(|(uid, _)| uid.clone()).collect();
        going.extend(self.fitting(waiting, holdings, limits, now));
        going.iter().for_each(|uid| drop(self.missing.remove(uid)));
        self.held = self.describe(holdings, limits);
        self.end();
        going
    }

    /// Those of whom nobody let go that go by the guard's share, in this order; it notes that they do.
    fn fitting(&mut self, waiting: Vec<Uid>, holdings: &Holdings, limits: &Limits, now: Instant) -> Vec<Uid> {
        if holdings.staying == 0 {
            return Vec::new();
        }
        let (mut going, mut addresses) = (Vec::new(), 0);
        for uid in waiting {
            let more = addresses + holdings.of(&uid);
            // One with more than a share would wait for ever: it goes alone.
            let alone = going.is_empty() && self.taken.is_empty();
            if !alone && !self.is_little(holdings.all, more, limits) {
                break;
            }
            addresses = more;
            going.push(uid);
        }
        if !going.is_empty() {
            self.taken.push_back(Taken { at: now, before: holdings.all, addresses });
        }
        going
    }

    /// Whether so many may go at once: in no window that ends now is it too much.
    fn is_little(&self, held: usize, going: usize, limits: &Limits) -> bool {
        let mut sum = going;
        going <= limits.share(held)
            && self.taken.iter().rev().all(|taken| {
                sum += taken.addresses;
                sum <= limits.share(taken.before)
            })
    }

    fn describe(&self, holdings: &Holdings, limits: &Limits) -> Held {
        let holders = self.missing.iter().filter(|(uid, _)| holdings.of(uid) > 0);
        let services: Vec<ServiceName> = holders.clone().map(|(_, missing)| missing.service.clone()).collect();
        if services.is_empty() {
            return Held::Nothing;
        }
        let waits = holders.clone().any(|(_, missing)| missing.answer == Answer::Gone);
        let until = match self.taken.front() {
            _ if !waits => Until::Answered,
            _ if holdings.staying == 0 => Until::Confirmed,
            Some(first) => Until::Time(first.at + limits.hold),
            None => Until::Answered,
        };
        Held::Addresses { count: holders.map(|(uid, _)| holdings.of(uid)).sum(), services, until }
    }

    fn waits_for_consent(&self) -> bool {
        matches!(self.held, Held::Addresses { until: Until::Confirmed, .. })
    }

    /// Nobody is missing any more: what goes missing from now on is another matter.
    fn end(&mut self) {
        if self.missing.is_empty() {
            self.cause.clear();
            self.held = Held::Nothing;
        }
    }

    /// When [`Self::judge`] is due next by time alone.
    pub fn deadline(&self) -> Option<Instant> {
        match self.held {
            Held::Addresses { until: Until::Time(at), .. } => Some(at),
            Held::Addresses { until: Until::Confirmed | Until::Answered, .. } | Held::Nothing => None,
        }
    }

    /// Says what is held. `socket` is where it is confirmed.
    pub fn tell(&self, conditions: &mut Conditions, limits: &Limits, socket: &str) {
        let Held::Addresses { count, services, until } = &self.held else { return };
        let some: Vec<String> = services.iter().take(3).map(ToString::to_string).collect();
        let more = if services.len() > 3 { format!(" and {} more", services.len() - 3) } else { String::new() };
        let why = self.missing.values().find_map(|missing| match &missing.answer {
            Answer::Unclear(why) => Some(format!("; asking for {} failed: {why}", missing.service)),
            Answer::Asked | Answer::Gone => None,
        });
        let until = match until {
            Until::Confirmed => {
                "nobody would hold an address after that, so they stay until that is confirmed or what is missing is back"
                    .to_owned()
            }
            Until::Time(_) => format!(
                "of all that are held at most {} % go within 'guard.hold' ({} s), and the others after that",
                limits.max_withdraw,
                limits.hold.as_secs()
            ),
            Until::Answered => "they stay until the API server says that they are gone".to_owned(),
        };
        let number = self.number();
        let words = format!(
            "{count} addresses of {} services ({}{more}) stay theirs though the services are missing without having been \
             deleted; {until}{}; to release them now: 'herald confirm {number} --socket {socket}' where this allocator runs, or \
             'guard: {{confirm: \"{number}\"}}' in the configuration",
            services.len(),
            some.join(", "),
            why.unwrap_or_default()
        );
        conditions.set(Reason::ReleasesHeld, "", words);
    }
}

fn name(service: &ServiceName) -> String {
    format!("Service {service}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const HOLD: Duration = Duration::from_secs(60);

    fn service(n: u8) -> ServiceName {
        ServiceName { namespace: "web".into(), name: format!("s{n:03}").as_str().into() }
    }

    fn uid(n: u8) -> Uid {
        format!("u{n}").as_str().into()
    }

    /// An API server and an allocator that asks it: who there is, and who holds how many addresses of his own.
    struct World {
        releases: Releases,
        there: BTreeSet<u8>,
        held: BTreeMap<u8, usize>,
        now: Instant,
        limits: Limits,
        /// Whom an operator let go, as long as they are missing.
        let_go: BTreeSet<u8>,
        /// By inference and without consent: when, how many addresses, of how many.
        taken: Vec<(Instant, usize, usize)>,
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// So many Services are made.
        Create(u8),
        /// These vanish, and nobody tells.
        Vanish(Vec<u8>),
        /// This one is deleted, and the watch tells.
        Delete(u8),
        /// These come back as they were.
        Return(Vec<u8>),
        /// A list without these, and answers; those of some are of no use.
        List {
            hides: Vec<u8>,
            unclear: Vec<u8>,
        },
        Pass(u16),
        Confirm,
        /// Another process leads.
        Succeed,
    }

    fn some() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![prop::collection::vec(0..40u8, 0..6), Just((0..40).collect::<Vec<u8>>())]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => (1..20u8).prop_map(Step::Create),
            3 => some().prop_map(Step::Vanish),
            2 => (0..40u8).prop_map(Step::Delete),
            1 => some().prop_map(Step::Return),
            4 => (some(), some()).prop_map(|(hides, unclear)| Step::List { hides, unclear }),
            4 => (0..90u16).prop_map(Step::Pass),
            1 => Just(Step::Confirm),
            1 => Just(Step::Succeed),
        ]
    }

    impl World {
        fn new() -> Self {
            Self {
                releases: Releases::default(),
                there: BTreeSet::new(),
                held: BTreeMap::new(),
                now: Instant::now(),
                limits: Limits::default(),
                let_go: BTreeSet::new(),
                taken: Vec::new(),
            }
        }

        fn all(&self) -> usize {
            self.held.values().sum()
        }

        fn holdings(&self) -> Holdings {
            let missing = self.held.iter().filter(|(n, _)| self.releases.has(&uid(**n)));
            let of_missing: BTreeMap<Uid, usize> = missing.map(|(n, count)| (uid(*n), *count)).collect();
            Holdings { all: self.all(), staying: self.all() - of_missing.values().sum::<usize>(), of_missing }
        }

        /// Judges, and checks what goes.
        fn judge(&mut self) -> Result<(), TestCaseError> {
            let before = self.all();
            self.let_go.retain(|n| self.releases.has(&uid(*n)));
            let going = self.releases.judge(&self.holdings(), &self.limits, self.now);
            let mut gone = 0;
            for n in (0..40).filter(|n| going.contains(&uid(*n))) {
                prop_assert!(!self.there.contains(&n), "s{n} is there");
                let count = self.held.remove(&n).unwrap_or_default();
                gone += if self.let_go.contains(&n) { 0 } else { count };
            }
            if gone == 0 {
                return Ok(());
            }
            prop_assert!(self.all() > 0, "nothing is left");
            self.taken.push((self.now, gone, before));
            for (first, (at, _, before)) in self.taken.iter().enumerate() {
                let within = self.taken[first..].iter().filter(|(when, ..)| *when - *at < HOLD);
                let sum: usize = within.map(|(_, count, _)| count).sum();
                prop_assert!(sum <= (before / 4).max(3), "{sum} of {before} within {HOLD:?}");
            }
            Ok(())
        }

        fn list(&mut self, hides: &[u8], unclear: &[u8]) {
            for n in self.held.keys().filter(|n| !self.there.contains(n) || hides.contains(n)) {
                self.releases.miss(&uid(*n), &service(*n));
            }
            for n in 0..40 {
                match (self.releases.has(&uid(n)), self.there.contains(&n)) {
                    (true, _) if unclear.contains(&n) => self.releases.unclear(&uid(n), "no answer"),
                    (true, true) => self.releases.forget(&uid(n)),
                    (true, false) => self.releases.gone(&uid(n), &service(n)),
                    (false, _) => {}
                }
            }
        }

        fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
            match step {
                Step::Create(count) => {
                    for n in 0..count {
                        self.there.insert(n);
                        self.held.entry(n).or_insert(usize::from(n) % 2 + 1);
                        self.releases.forget(&uid(n));
                    }
                }
                Step::Vanish(all) => self.there.retain(|n| !all.contains(n)),
                Step::Delete(n) => {
                    self.there.remove(&n);
                    self.held.remove(&n);
                    self.releases.forget(&uid(n));
                }
                Step::Return(all) => {
                    self.there.extend(all.iter().filter(|n| self.held.contains_key(n)));
                    let there = all.iter().filter(|n| self.there.contains(n));
                    there.for_each(|n| self.releases.forget(&uid(*n)));
                }
                Step::List { hides, unclear } => self.list(&hides, &unclear),
                Step::Pass(seconds) => self.now += Duration::from_secs(seconds.into()),
                Step::Confirm => {
                    let number = self.releases.number();
                    self.releases.confirm(&number);
                    self.let_go = (0..40).filter(|n| self.releases.has(&uid(*n))).collect();
                }
                Step::Succeed => {
                    let recent = self.taken.iter().filter(|(at, ..)| self.now - *at < HOLD);
                    let released = recent.flat_map(|(at, count, _)| vec![*at; *count]);
                    self.releases = Releases::after(released);
                    self.let_go.clear();
                    self.list(&[], &[]);
                }
            }
            self.judge()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        /// Whatever happens, no more than the share goes by inference within any `guard.hold`, none of it leaves nothing, and who
        /// is there keeps what he has. In the end nobody is held for longer than his turn takes.
        #[test]
        fn no_history_releases_more_than_the_share_or_all(steps in prop::collection::vec(step(), 1..60)) {
            let mut world = World::new();
            for step in steps {
                world.take(step)?;
            }
            world.list(&[], &[]);
            let gone: Vec<u8> = world.held.keys().filter(|n| !world.there.contains(n)).copied().collect();
            for _ in 0..30 {
                world.judge()?;
                world.now = world.releases.deadline().unwrap_or(world.now + HOLD);
            }
            let stays = gone.iter().filter(|n| world.held.contains_key(n)).count();
            let left = world.held.keys().any(|n| world.there.contains(n));
            prop_assert!(stays == 0 || !left, "{stays} wait for ever");
        }
    }

    #[test]
    fn who_comes_back_one_by_one_takes_nothing_of_the_others_along() {
        let mut world = World::new();
        world.take(Step::Create(20)).unwrap();
        let all = world.all();
        world.take(Step::Vanish((0..20).collect())).unwrap();
        world.take(Step::List { hides: Vec::new(), unclear: Vec::new() }).unwrap();
        world.now += 10 * HOLD;
        world.there.insert(0);
        world.take(Step::Return(vec![0])).unwrap();
        world.take(Step::Pass(59)).unwrap();
        assert_eq!(world.all(), all, "the first is back: the others have a while to follow");
        world.take(Step::Pass(1)).unwrap();
        assert!(world.all() < all);
    }

    #[test]
    fn the_number_is_the_guards_of_the_same_objects() {
        let mut releases = Releases::default();
        [2, 1].iter().for_each(|n| releases.miss(&uid(*n), &service(*n)));
        let missing = vec!["Service web/s001".to_owned(), "Service web/s002".to_owned()];
        assert_eq!(releases.number(), Cause { configuration: None, missing: missing.into() }.hash());
    }
}
