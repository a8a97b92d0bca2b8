//! Allocators over an API server that takes a write only under the version that was read. They crash, stand still, hear late,
//! never hear an answer, and two lead at once; their writes land whenever they land. What is promised is checked after every
//! write; and when things calm down, everybody has what a new allocator would give.

use crate::rig::*;
use herald::ipam::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// What can happen. Numbers choose among what there is.
#[derive(Debug, Clone)]
enum Step {
    Put(Claim),
    Delete(&'static str),
    /// A leader hears the next of the Services, or of the Allocations.
    Hear(usize, Kind),
    /// A leader sends one of the writes that it owes.
    Send(usize, usize),
    /// A write that was sent is taken or refused.
    Land(usize),
    /// Its sender hears so; or loses patience, and sends the same again.
    Answer(usize, Heard),
    Crash(usize),
    Pass(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Services,
    Allocations,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Yes,
    Never,
}

#[derive(Debug, Clone, PartialEq)]
enum Body {
    Allocation(IpAddr, Option<Record>),
    Status(Uid, Vec<IpAddr>),
}

#[derive(Debug, Clone)]
struct Sent {
    by: usize,
    /// Which of that leader's lives sent it.
    life: u64,
    body: Body,
    /// The version that was read; none for an object that was not there.
    under: Option<u64>,
    landed: Option<Landing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Landing {
    Taken(u64),
    Conflict,
}

/// The API server.
#[derive(Default)]
struct Server {
    promise: Promise,
    version: u64,
    services: BTreeMap<Uid, (u64, Claim)>,
    records: BTreeMap<IpAddr, (u64, Record)>,
    /// Who has ever asked to share.
    sharers: BTreeSet<Uid>,
    service_log: Vec<(u64, Uid, Option<Claim>)>,
    record_log: Vec<(u64, IpAddr, Option<Record>)>,
}

impl Server {
    fn put_service(&mut self, claim: Claim) {
        self.version += 1;
        if claim.terms.sharing != Sharing::Exclusive {
            self.sharers.insert(claim.uid.clone());
        }
        self.service_log.push((self.version, claim.uid.clone(), Some(claim.clone())));
        self.services.insert(claim.uid.clone(), (self.version, claim));
    }

    fn delete_service(&mut self, uid: &Uid) {
        if self.services.remove(uid).is_some() {
            self.version += 1;
            self.service_log.push((self.version, uid.clone(), None));
        }
    }

    fn land(&mut self, body: &Body, under: Option<u64>) -> Landing {
        match body {
            Body::Allocation(address, record) => {
                if self.records.get(address).map(|(version, _)| *version) != under {
                    return Landing::Conflict;
                }
                self.version += 1;
                match record {
                    Some(record) => drop(self.records.insert(*address, (self.version, record.clone()))),
                    None => drop(self.records.remove(address)),
                }
                self.record_log.push((self.version, *address, record.clone()));
            }
            Body::Status(uid, shown) => {
                let Some((version, claim)) = self.services.get(uid).cloned() else { return Landing::Conflict };
                if Some(version) != under {
                    return Landing::Conflict;
                }
                if self.promise >= Promise::Unshared {
                    self.keeps_what_it_shows(&claim, shown);
                }
                self.put_service(Claim { shown: shown.clone(), ..claim });
            }
        }
        self.check();
        Landing::Taken(self.version)
    }

    /// A write of a status takes an address away only if the user asked for that.
    fn keeps_what_it_shows(&self, claim: &Claim, shown: &[IpAddr]) {
        for before in claim.shown.iter().filter(|before| !shown.contains(before)) {
            if self.promise == Promise::Unshared && self.sharers.contains(&claim.uid) {
                continue;
            }
            let family = Family::of(*before);
            let unwanted = !claim.families.wanted().contains(&family);
            let other = claim.exact(family).is_some_and(|exact| exact != *before && shown.contains(&exact));
            let pool = match &claim.pool {
                PoolChoice::Any => false,
                PoolChoice::Named(_) => shown.iter().any(|new| Family::of(*new) == family),
            };
            assert!(unwanted || other || pool, "{} loses {before} for {shown:?}", claim.service);
        }
    }

    fn names(&self, address: IpAddr, uid: &Uid) -> bool {
        match self.records.get(&address).map(|(_, record)| &record.tenure) {
            Some(Tenure::Held(holders)) => holders.iter().any(|holder| holder.uid == *uid),
            Some(Tenure::Released { .. }) | None => false,
        }
    }

    fn check(&self) {
        let records = self.records.iter().map(|(address, (_, record))| (*address, record.clone())).collect();
        no_address_is_held_twice(&records, |_| SharingScope::Namespace);
        if self.promise >= Promise::Statuses {
            self.check_statuses();
        }
    }

    fn check_statuses(&self) {
        let mut shown: BTreeMap<IpAddr, Vec<&Claim>> = BTreeMap::new();
        for (_, claim) in self.services.values() {
            claim.shown.iter().for_each(|address| shown.entry(*address).or_default().push(claim));
        }
        // An address that others go on sharing does not rest: who has just left it may be shown once more, by a late write of
        // another leader. That can befall only who has asked to share; whoever has not is alone with its address.
        for (address, claims) in shown.iter().filter(|(_, claims)| claims.len() > 1) {
            for claim in claims.iter().filter(|claim| !self.names(*address, &claim.uid)) {
                let sharer = self.sharers.contains(&claim.uid);
                assert!(sharer, "{} shows {address}, which is held by others", claim.service);
            }
        }
    }
}

/// What is promised, each of these beside the ones below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Promise {
    /// No record names two who may not share. Whatever happens.
    Records,
    /// No two statuses show one address. As long as what two leaders write lands within a cool-down.
    Statuses,
    /// Nobody who never asked to share loses what its status shows. As long as one leads, and the writes of the dead land within a
    /// cool-down.
    Unshared,
    /// Nobody loses what its status shows. As long as one leads, and no dead one's write lands.
    #[default]
    All,
}

/// One process that believes it leads.
struct Leader {
    life: u64,
    allocator: Allocator,
    services: BTreeMap<Uid, (u64, Claim)>,
    /// The newest version of each Allocation that it has read or written; also of a deletion.
    versions: BTreeMap<IpAddr, (u64, Option<u64>)>,
    heard_services: usize,
    heard_records: usize,
}

impl Leader {
    fn begin(server: &Server, life: u64, pools: &[Pool], now: Timestamp) -> Self {
        let start = Start {
            pools: pools.to_vec(),
            records: server.records.values().map(|(_, record)| record.clone()).collect(),
            claims: server.services.values().map(|(_, claim)| claim.clone()).collect(),
            ..Start::default()
        };
        let versions = server.records.iter().map(|(address, (version, _))| (*address, (*version, Some(*version))));
        Self {
            life,
            allocator: Allocator::adopt(start, now),
            services: server.services.clone(),
            versions: versions.collect(),
            heard_services: server.service_log.len(),
            heard_records: server.record_log.len(),
        }
    }

    fn learn_service(&mut self, uid: &Uid, state: Option<(u64, Claim)>, now: Timestamp) {
        match state {
            Some((version, claim)) => {
                if self.services.get(uid).is_some_and(|(known, _)| *known >= version) {
                    return;
                }
                self.services.insert(uid.clone(), (version, claim.clone()));
                self.allocator.apply(claim, now);
            }
            None => {
                self.services.remove(uid);
                self.allocator.remove(uid, now);
            }
        }
    }

    fn learn_record(&mut self, address: IpAddr, at: u64, record: Option<Record>, now: Timestamp) {
        if self.versions.get(&address).is_some_and(|(known, _)| *known >= at) {
            return;
        }
        self.versions.insert(address, (at, record.as_ref().map(|_| at)));
        self.allocator.observe(address, record, now);
    }

    /// Reads the services of holders of whom it has not heard.
    fn look_for_the_unknown(&mut self, server: &Server, now: Timestamp) {
        for holder in self.allocator.unknown_holders() {
            self.learn_service(&holder.uid, server.services.get(&holder.uid).cloned(), now);
        }
    }

    fn hear(&mut self, server: &Server, kind: Kind, now: Timestamp) {
        match kind {
            Kind::Services => {
                let Some((version, uid, claim)) = server.service_log.get(self.heard_services).cloned() else { return };
                self.heard_services += 1;
                self.learn_service(&uid, claim.map(|claim| (version, claim)), now);
            }
            Kind::Allocations => {
                let Some((version, address, record)) = server.record_log.get(self.heard_records).cloned() else {
                    return;
                };
                self.heard_records += 1;
                self.learn_record(address, version, record, now);
            }
        }
    }

    /// What it owes and has not sent.
    fn owes(&self) -> Vec<(Body, Option<u64>)> {
        let mut owed = Vec::new();
        for address in self.allocator.unwritten() {
            let body = match self.allocator.due_write(address) {
                Write::Nothing => panic!("{address} is said to be unwritten"),
                Write::Put(record) => Body::Allocation(address, Some(record)),
                Write::Delete => Body::Allocation(address, None),
            };
            owed.push((body, self.versions.get(&address).and_then(|(_, version)| *version)));
        }
        for (uid, (version, claim)) in &self.services {
            assert!(self.allocator.status(uid).is_some(), "{} is not served", claim.service);
            if let Some(shown) = self.allocator.due_status(uid) {
                owed.push((Body::Status(uid.clone(), shown), Some(*version)));
            }
        }
        owed
    }

    /// Sends one of the writes that it owes.
    fn send(&mut self, choice: usize) -> Option<(Body, Option<u64>)> {
        let owed = self.owes();
        let (body, under) = owed.get(choice % owed.len().max(1))?.clone();
        match &body {
            Body::Allocation(address, _) => assert_ne!(self.allocator.begin_write(*address), Write::Nothing),
            Body::Status(uid, _) => assert!(self.allocator.begin_status(uid).is_some()),
        }
        Some((body, under))
    }

    /// It met a conflict: it reads what is there.
    fn reads(&mut self, server: &Server, body: &Body, now: Timestamp) {
        match body {
            Body::Allocation(address, _) => {
                let current = server.records.get(address).cloned();
                let at = current.as_ref().map_or(server.version, |(version, _)| *version);
                self.versions.insert(*address, (at, current.as_ref().map(|(version, _)| *version)));
                self.allocator.observe(*address, current.map(|(_, record)| record), now);
            }
            Body::Status(uid, _) => self.status_ends(uid, server.services.get(uid).cloned(), now),
        }
    }

    fn status_ends(&mut self, uid: &Uid, state: Option<(u64, Claim)>, now: Timestamp) {
        let known = self.services.get(uid).cloned();
        let newest = match (known, state) {
            // The watch was faster; of what is gone it may not yet have told.
            (Some(known), Some(state)) => {
                if known.0 > state.0 {
                    known
                } else {
                    state
                }
            }
            (None, _) | (_, None) => return self.learn_service(uid, None, now),
        };
        self.services.insert(uid.clone(), newest.clone());
        self.allocator.end_status(newest.1, now);
    }

    fn answered(&mut self, server: &Server, body: &Body, landing: Landing, now: Timestamp) {
        match (body, landing) {
            (Body::Allocation(address, record), Landing::Taken(version)) => {
                if self.versions.get(address).is_none_or(|(known, _)| *known < version) {
                    self.versions.insert(*address, (version, record.as_ref().map(|_| version)));
                    self.allocator.confirm(*address, record.clone(), now);
                } else {
                    // The watch was faster.
                    self.reads(server, body, now);
                }
            }
            (Body::Status(uid, shown), Landing::Taken(version)) => {
                let Some((_, claim)) = self.services.get(uid).cloned() else { return };
                self.status_ends(uid, Some((version, Claim { shown: shown.clone(), ..claim })), now);
            }
            (Body::Allocation(..) | Body::Status(..), Landing::Conflict) => self.reads(server, body, now),
        }
    }
}

struct Cluster {
    server: Server,
    pools: Vec<Pool>,
    now: Timestamp,
    lives: u64,
    leaders: Vec<Leader>,
    sent: Vec<Sent>,
    /// Services that were made under one name get UIDs of their own.
    made: u64,
    landed: usize,
    conflicts: usize,
}

impl Cluster {
    fn new(leaders: u64, cool_down: u64, promise: Promise) -> Self {
        let pools = [("x", "10.0.0.1-10.0.0.3"), ("y", "10.0.1.1-10.0.1.2 2001:db8::1-2001:db8::3")]
            .map(|(name, ranges)| Pool { cool_down: Duration::from_secs(cool_down), ..pool(name, ranges) })
            .to_vec();
        let server = Server { promise, ..Server::default() };
        let now = at(100);
        let begun = (0..leaders).map(|life| Leader::begin(&server, life, &pools, now)).collect();
        Self { server, pools, now, lives: leaders, leaders: begun, sent: Vec::new(), made: 0, landed: 0, conflicts: 0 }
    }

    fn uid_of(&self, service: &ServiceName) -> Option<Uid> {
        self.server.services.values().find(|(_, claim)| claim.service == *service).map(|(_, claim)| claim.uid.clone())
    }

    fn step(&mut self, step: Step) {
        let count = self.leaders.len();
        match step {
            Step::Put(mut claim) => {
                match self.uid_of(&claim.service) {
                    Some(uid) => claim.shown.clone_from(&self.server.services[&uid].1.shown),
                    None => self.made += 1,
                }
                claim.uid = self
                    .uid_of(&claim.service)
                    .unwrap_or_else(|| format!("{}#{}", claim.service, self.made).as_str().into());
                self.server.put_service(claim);
            }
            Step::Delete(service) => {
                if let Some(uid) = self.uid_of(&claim(service).service) {
                    self.server.delete_service(&uid);
                }
            }
            Step::Hear(leader, kind) => self.leaders[leader % count].hear(&self.server, kind, self.now),
            Step::Send(by, choice) => {
                let leader = &mut self.leaders[by % count];
                leader.look_for_the_unknown(&self.server, self.now);
                if let Some((body, under)) = leader.send(choice) {
                    self.sent.push(Sent { by: by % count, life: leader.life, body, under, landed: None });
                }
            }
            Step::Land(choice) => {
                let waiting: Vec<usize> = (0..self.sent.len()).filter(|at| self.sent[*at].landed.is_none()).collect();
                if let Some(at) = waiting.get(choice % waiting.len().max(1)) {
                    let Sent { body, under, .. } = self.sent[*at].clone();
                    let landing = self.server.land(&body, under);
                    self.sent[*at].landed = Some(landing);
                    self.landed += usize::from(landing != Landing::Conflict);
                    self.conflicts += usize::from(landing == Landing::Conflict);
                }
            }
            Step::Answer(choice, Heard::Yes) => {
                let landed: Vec<usize> = (0..self.sent.len()).filter(|at| self.sent[*at].landed.is_some()).collect();
                if let Some(at) = landed.get(choice % landed.len().max(1)) {
                    let sent = self.sent.remove(*at);
                    self.answer(&sent);
                }
            }
            Step::Answer(choice, Heard::Never) => {
                let count = self.sent.len().max(1);
                if let Some(sent) = self.sent.get_mut(choice % count) {
                    let again = Sent { landed: None, ..sent.clone() };
                    // Nobody waits for this one any more; it may still land.
                    sent.life = u64::MAX;
                    self.sent.push(again);
                }
            }
            Step::Crash(leader) => {
                self.leaders[leader % count] = Leader::begin(&self.server, self.lives, &self.pools, self.now);
                self.lives += 1;
            }
            Step::Pass(seconds) => {
                self.now = self.now.after(Duration::from_secs(seconds));
                self.leaders.iter_mut().for_each(|leader| leader.allocator.tick(self.now));
            }
        }
    }

    fn answer(&mut self, sent: &Sent) {
        let leader = &mut self.leaders[sent.by];
        if leader.life == sent.life {
            leader.answered(&self.server, &sent.body, sent.landed.expect("it landed"), self.now);
        }
    }

    /// One leader, everything lands, everybody hears.
    fn calm_down(&mut self) {
        self.leaders.truncate(1);
        for sent in std::mem::take(&mut self.sent) {
            let landing = sent.landed.unwrap_or_else(|| self.server.land(&sent.body, sent.under));
            if sent.by == 0 {
                self.answer(&Sent { landed: Some(landing), ..sent });
            }
        }
        for _ in 0..2000 {
            let leader = &mut self.leaders[0];
            leader.hear(&self.server, Kind::Services, self.now);
            leader.hear(&self.server, Kind::Allocations, self.now);
            leader.look_for_the_unknown(&self.server, self.now);
            let owed = leader.send(0);
            let heard = (leader.heard_services, leader.heard_records);
            let all = (self.server.service_log.len(), self.server.record_log.len());
            match owed {
                Some((body, under)) => {
                    let landed = Some(self.server.land(&body, under));
                    let life = self.leaders[0].life;
                    self.answer(&Sent { by: 0, life, body, under, landed });
                }
                None if heard == all => return,
                None => {}
            }
        }
        panic!("it finds no rest");
    }

    /// What must be true when all is quiet.
    fn quiet(&self) {
        let leader = &self.leaders[0];
        let records: Vec<Record> = self.server.records.values().map(|(_, record)| record.clone()).collect();
        assert_eq!(leader.allocator.records().collect::<Vec<_>>(), records);
        let live: BTreeSet<&Uid> = self.server.services.keys().collect();
        for record in &records {
            if let Tenure::Held(holders) = &record.tenure {
                for holder in holders {
                    assert!(live.contains(&holder.uid), "{} is held by one who is gone", record.address);
                    let (_, claim) = &self.server.services[&holder.uid];
                    assert!(
                        claim.shows(record.address),
                        "{} holds {} and does not show it",
                        holder.service,
                        record.address
                    );
                }
            }
        }
        let fresh = Leader::begin(&self.server, 0, &self.pools, self.now);
        assert_eq!(fresh.allocator.records().collect::<Vec<_>>(), records, "a new allocator sees it otherwise");
        for (uid, (_, claim)) in &self.server.services {
            assert!(
                claim.shown.iter().all(|shown| self.server.names(*shown, uid)),
                "{} shows what it has not",
                claim.service
            );
            // Which of several reasons a refusal names depends on when it was tried; that it is one does not.
            let told = |leader: &Leader| {
                let status = leader.allocator.status(uid).expect("it is served");
                (status.ingress, status.assigned, status.refusals.is_empty())
            };
            assert_eq!(told(leader), told(&fresh), "{}", claim.service);
        }
    }
}

const SERVICES: [&str; 6] = ["web/a", "web/b", "web/c", "web/d", "db/a", "db/b"];

fn a_claim() -> impl Strategy<Value = Claim> {
    let families = select(&[
        Families::Single(Family::V4),
        Families::Single(Family::V4),
        Families::Prefer(Family::V4),
        Families::Require(Family::V6),
    ]);
    let exact = prop_oneof![3 => Just(""), 1 => select(&["10.0.0.1", "10.0.0.2", "10.0.1.1"])];
    let key = prop_oneof![2 => Just(""), 1 => Just("k")];
    let pool = prop_oneof![4 => Just(""), 1 => select(&["x", "y"])];
    (select(&SERVICES), families, exact, key, select(&[80u16, 81]), pool).prop_map(
        |(service, families, exact, key, port, pool)| {
            let mut new = claim(service).families(families).exact(exact);
            if !key.is_empty() {
                new = new.shared(key, &[port]);
            }
            if !pool.is_empty() && exact.is_empty() {
                new = new.from(pool);
            }
            new
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = select(&[Kind::Services, Kind::Allocations]);
    let heard = prop_oneof![6 => Just(Heard::Yes), 1 => Just(Heard::Never)];
    let one = prop_oneof![
        5 => a_claim().prop_map(Step::Put),
        2 => select(&SERVICES).prop_map(Step::Delete),
        14 => (any::<usize>(), kind).prop_map(|(leader, kind)| Step::Hear(leader, kind)),
        14 => (any::<usize>(), any::<usize>()).prop_map(|(leader, choice)| Step::Send(leader, choice)),
        12 => any::<usize>().prop_map(Step::Land),
        12 => (any::<usize>(), heard).prop_map(|(choice, heard)| Step::Answer(choice, heard)),
        1 => any::<usize>().prop_map(Step::Crash),
        1 => select(&[1u64, 3]).prop_map(Step::Pass),
    ];
    vec(one, 1..160)
}

fn run(leaders: u64, cool_down: u64, promise: Promise, steps: Vec<Step>) {
    let mut cluster = Cluster::new(leaders, cool_down, promise);
    steps.into_iter().for_each(|step| cluster.step(step));
    cluster.calm_down();
    cluster.quiet();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// One after the other, the writes of the dead landing late, but within a cool-down.
    #[test]
    fn a_leader_that_dies_again_and_again(steps in steps()) {
        run(1, 100_000, Promise::Unshared, steps);
    }

    /// The same without any cool-down.
    #[test]
    fn a_leader_that_dies_and_no_cool_down(steps in steps()) {
        run(1, 0, Promise::Records, steps);
    }

    /// One that lives, slow and impatient, without any cool-down.
    #[test]
    fn a_leader_that_lives(mut steps in steps()) {
        steps.retain(|step| !matches!(step, Step::Crash(_)));
        run(1, 0, Promise::All, steps);
    }

    /// Two at once for all their life, within one cool-down.
    #[test]
    fn two_leaders_at_once(steps in steps()) {
        run(2, 100_000, Promise::Statuses, steps);
    }

    /// Two at once, and cool-downs that end under way.
    #[test]
    fn two_leaders_and_short_cool_downs(steps in steps()) {
        run(2, 4, Promise::Records, steps);
    }
}

/// The histories above are worth something only if writes land and meet conflicts.
#[test]
fn histories_have_writes_and_conflicts() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut landed, mut conflicts) = (0, 0);
    for _ in 0..50 {
        let history = steps().new_tree(&mut runner).expect("a history").current();
        let mut cluster = Cluster::new(2, 100_000, Promise::Statuses);
        history.into_iter().for_each(|step| cluster.step(step));
        landed += cluster.landed;
        conflicts += cluster.conflicts;
    }
    println!("50 histories: {landed} writes landed, {conflicts} met a conflict");
    assert!(landed > 200 && conflicts > 20, "{landed} landed, {conflicts} conflicts");
}

/// A Service that asks again for the terms on which it still holds an address makes that address one to join: who waits for such
/// a one is tried.
#[test]
fn terms_that_are_taken_back_are_news() {
    use Kind::{Allocations, Services};
    use Step::{Answer, Hear, Land, Put, Send};
    let shared = |service: &str, port: u16| claim(service).shared("k", &[port]);
    let steps = vec![
        Put(claim("web/d")),
        Put(shared("web/c", 81).families(Families::Prefer(Family::V4))),
        Put(claim("web/c").from("x")),
        Put(shared("web/a", 80).exact("10.0.1.1")),
        Put(claim("web/b")),
        Hear(0, Services),
        Put(claim("web/b")),
        Hear(0, Allocations),
        Hear(0, Services),
        Put(shared("web/c", 81).exact("10.0.1.1")),
        Send(0, 0),
        Send(0, 0),
        Land(0),
        Put(claim("web/b")),
        Hear(0, Services),
        Send(0, 0),
        Hear(0, Services),
        Land(1),
        Answer(1, Heard::Yes),
    ];
    run(1, 0, Promise::All, steps);
}
