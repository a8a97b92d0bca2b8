//! The allocator: who gets which address. See the room's page for how a shell goes about it.

use super::claim::Claim;
use super::keep::Standing;
use super::name::{ServiceName, Uid};
use super::neighbours::Foreign;
use super::observe;
use super::pool::Pool;
use super::quota::{Quota, Quotas};
use super::record::{Holder, Record};
use super::settle::{adopt_shown, amend, run, settle};
use super::state::{Rest, State};
use super::status::{Assigned, Status, ingress, status};
use super::stock::{Stocks, Usage};
use super::subject::{Phase, StatusWrite, Subject};
use super::timestamp::Timestamp;
use super::waiting::Wait;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// All that there is when an allocator begins. Every watch has synced, or the allocator must not begin.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// The pools.
    pub pools: Vec<Pool>,
    /// The quotas.
    pub quotas: Quotas,
    /// The addresses of all nodes.
    pub nodes: BTreeSet<IpAddr>,
    /// Services that are not ours and have addresses.
    pub foreign: Vec<Foreign>,
    /// Every `Allocation`. A holder that is none of `claims` is none of ours any more, unless it is `absent`.
    pub records: Vec<Record>,
    /// Every Service that is ours.
    pub claims: Vec<Claim>,
    /// Holders that the list of services does not have and that may live all the same: what they hold stays theirs, as with
    /// [`Allocator::unknown_holders`].
    pub absent: BTreeSet<Uid>,
}

/// What is to be done about an `Allocation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Nothing: it is as it should be, or on its way there.
    Nothing,
    /// Create it, or replace it under the resourceVersion that was read.
    Put(Record),
    /// Delete it under the resourceVersion that was read.
    Delete,
}

/// What changed since it was asked for last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Services that may have to be told something.
    pub services: BTreeSet<Uid>,
    /// Addresses whose `Allocation` is to be written.
    pub addresses: BTreeSet<IpAddr>,
}

impl Changes {
    /// Whether nothing did.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.addresses.is_empty()
    }
}

/// A namespace that holds more addresses than its quota allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overshoot {
    /// The namespace.
    pub namespace: Arc<str>,
    /// How many it holds.
    pub used: u32,
    /// How many it may hold.
    pub limit: u32,
}

/// Who gets which address.
#[derive(Debug, Clone)]
pub struct Allocator {
    state: State,
}

impl Allocator {
    /// Takes over what is there, and only then gives what is missing.
    ///
    /// First every `Allocation`: its living and its absent holders hold it, and one without any cools down from now. Then every address that
    /// a status shows and nobody holds, the oldest Service first. Then all who lack something, the oldest first.
    pub fn adopt(start: Start, now: Timestamp) -> Self {
        let mut state = State::default();
        state.quotas = start.quotas;
        state.replace_stocks(Stocks::new(start.pools));
        state.neighbours_change(&start.nodes.clone(), |neighbours| neighbours.set_nodes(start.nodes));
        for foreign in start.foreign {
            state.neighbours_change(&foreign.addresses.clone(), |neighbours| neighbours.put(foreign));
        }
        let mut ranks = BTreeSet::new();
        for claim in start.claims {
            ranks.insert(claim.rank());
            state.subjects.insert(claim.uid.clone(), Subject::new(Arc::new(claim)));
        }
        let records: BTreeMap<IpAddr, Record> =
            start.records.into_iter().map(|record| (record.address, record)).collect();
        for (address, record) in records {
            observe::take_in(&mut state, address, Some(record), observe::Unknown::SweepBut(&start.absent), now);
        }
        for rank in &ranks {
            let claim = state.claim(&rank.uid).expect("it has just been put there");
            adopt_shown(&mut state, &claim, now);
        }
        for rank in ranks {
            let claim = state.claim(&rank.uid).expect("it has just been put there");
            amend(&mut state, &claim);
            state.waiting.join(Wait::Everyone, rank);
        }
        state.waiting.stir(Wait::Everyone);
        run(&mut state, now);
        Self { state }
    }

    /// A Service of ours is now this. Also what its status shows is news, as after a write of it.
    pub fn apply(&mut self, claim: Claim, now: Timestamp) {
        self.state.expire(now);
        let (uid, rank) = (claim.uid.clone(), claim.rank());
        self.forget_foreign(&uid);
        match self.state.claim(&uid) {
            Some(before) if *before == claim => {}
            Some(before) if before.rank() == rank => {
                if before.terms != claim.terms {
                    // What it holds on other terms than it asks for is joined by nobody, and may be again.
                    for holding in self.state.subject(&uid).holdings.clone() {
                        self.state.stir_joiners(holding.address);
                    }
                }
                self.state.subject_mut(&uid).claim = Arc::new(claim);
            }
            Some(_) => {
                // Neither name nor age of an object ever changes; whoever says so speaks of another.
                self.leave(&uid, now);
                self.enter(claim);
            }
            None => self.enter(claim),
        }
        settle(&mut self.state, &uid, now);
        run(&mut self.state, now);
    }

    /// Begins the write of a Service's status, if it shows something else than it should and no write is under way: what it is
    /// to show. It ends with [`Self::end_status`], or with [`Self::remove`] where the Service is gone.
    pub fn begin_status(&mut self, uid: &Uid) -> Option<Vec<IpAddr>> {
        let ingress = self.due_status(uid)?;
        let subject = self.state.subjects.get_mut(uid)?;
        subject.write = StatusWrite::UnderWay(ingress.clone());
        Some(ingress)
    }

    /// What [`Self::begin_status`] would begin.
    pub fn due_status(&self, uid: &Uid) -> Option<Vec<IpAddr>> {
        let subject = self.state.subjects.get(uid)?;
        match subject.write {
            StatusWrite::UnderWay(_) => None,
            StatusWrite::None => Some(ingress(&self.state, subject)).filter(|new| *new != subject.claim.shown),
        }
    }

    /// The write that [`Self::begin_status`] began has an answer; the Service is now this, as the answer or a read after a
    /// conflict says.
    pub fn end_status(&mut self, claim: Claim, now: Timestamp) {
        if let Some(subject) = self.state.subjects.get_mut(&claim.uid) {
            subject.write = StatusWrite::None;
        }
        self.apply(claim, now);
    }

    /// A Service is gone, or is none of ours any more: all that it has is given back.
    pub fn remove(&mut self, uid: &Uid, now: Timestamp) {
        self.state.expire(now);
        self.forget_foreign(uid);
        self.leave(uid, now);
        run(&mut self.state, now);
    }

    /// A Service that is not ours shows these addresses: they are not given, and it is not touched. What it had from us, it
    /// gives back.
    pub fn foreign(&mut self, foreign: Foreign, now: Timestamp) {
        self.state.expire(now);
        self.leave(&foreign.uid, now);
        let mut touched = self.state.neighbours.shown_by(&foreign.uid);
        touched.extend(&foreign.addresses);
        self.state.neighbours_change(&touched, |neighbours| neighbours.put(foreign));
        run(&mut self.state, now);
    }

    /// The pools are now these. No live address moves.
    pub fn set_pools(&mut self, pools: Vec<Pool>, now: Timestamp) {
        self.state.replace_stocks(Stocks::new(pools));
        self.state.expire(now);
        run(&mut self.state, now);
    }

    /// The nodes have these addresses now.
    pub fn set_nodes(&mut self, nodes: BTreeSet<IpAddr>, now: Timestamp) {
        self.state.expire(now);
        let touched: BTreeSet<IpAddr> = self.state.neighbours.nodes().symmetric_difference(&nodes).copied().collect();
        self.state.neighbours_change(&touched, |neighbours| neighbours.set_nodes(nodes));
        run(&mut self.state, now);
    }

    /// The quotas are now these. Nobody loses an address.
    pub fn set_quotas(&mut self, quotas: Quotas, now: Timestamp) {
        self.state.expire(now);
        if self.state.quotas != quotas {
            self.state.quotas = quotas;
            self.state.waiting.stir(Wait::Everyone);
        }
        run(&mut self.state, now);
    }

    /// The write that [`Self::begin_write`] began got through: what waited for it goes on. `written` is what was written; none
    /// after a deletion.
    pub fn confirm(&mut self, address: IpAddr, written: Option<Record>, now: Timestamp) {
        self.state.expire(now);
        observe::confirm(&mut self.state, address, written, now);
        run(&mut self.state, now);
    }

    /// The `Allocation` of an address is this: as a watch tells, or as was read after a write failed, which ends that write.
    /// It rolls back what does not go beside it.
    pub fn observe(&mut self, address: IpAddr, object: Option<Record>, now: Timestamp) {
        self.state.expire(now);
        observe::observe(&mut self.state, address, object, now);
        run(&mut self.state, now);
    }

    /// Time has passed: what has cooled down is free.
    pub fn tick(&mut self, now: Timestamp) {
        self.state.expire(now);
        run(&mut self.state, now);
    }

    /// When [`Self::tick`] is due next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.state.next_rest().map(|(until, _)| until)
    }

    /// What changed since the last call. A status that could not be written stays the caller's to try again.
    pub fn take_changes(&mut self) -> Changes {
        let services = std::mem::take(&mut self.state.changed);
        let mut addresses = self.state.book.take_touched();
        addresses.retain(|address| !self.state.under_way.contains(address));
        Changes { services, addresses }
    }

    /// Every address whose `Allocation` is not as it should be and of which no write is under way.
    pub fn unwritten(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.state.book.unwritten().difference(&self.state.under_way).copied()
    }

    /// Begins the write of an address's `Allocation`, if there is anything to write and none is under way. It ends with
    /// [`Self::confirm`], or, whatever went wrong, with [`Self::observe`] of what was read afterwards.
    pub fn begin_write(&mut self, address: IpAddr) -> Write {
        let write = self.due_write(address);
        if write != Write::Nothing {
            self.state.under_way.insert(address);
        }
        write
    }

    /// What [`Self::begin_write`] would begin.
    pub fn due_write(&self, address: IpAddr) -> Write {
        if self.state.under_way.contains(&address) || !self.state.book.unwritten().contains(&address) {
            return Write::Nothing;
        }
        self.state.book.desired(address).map_or(Write::Delete, Write::Put)
    }

    /// What a Service is to be told; none if it is not served.
    pub fn status(&self, uid: &Uid) -> Option<Status> {
        Some(status(&self.state, self.state.subjects.get(uid)?))
    }

    /// Holders that an `Allocation` names and of whom nothing was heard: a former leader served them, and either they are gone or
    /// our watch is behind. What they hold stays theirs; whoever reads the Service says [`Self::apply`] or
    /// [`Self::remove`].
    pub fn unknown_holders(&self) -> Vec<Holder> {
        let of = |(uid, addresses): (&Uid, &BTreeSet<IpAddr>)| {
            let first = addresses.first()?;
            self.state.book.holder(*first, uid).cloned()
        };
        self.state.unknown.iter().filter_map(of).collect()
    }

    /// Of [`Self::unknown_holders`], who they are.
    pub fn strangers(&self) -> impl Iterator<Item = &Uid> {
        self.state.unknown.keys()
    }

    /// Every address that somebody of ours has, with whose it is.
    pub fn held(&self) -> impl Iterator<Item = (IpAddr, &[Holder])> + '_ {
        let book = &self.state.book;
        book.addresses().map(|address| (address, book.holders(address))).filter(|(_, holders)| !holders.is_empty())
    }

    /// Every Service that is served.
    pub fn services(&self) -> impl Iterator<Item = (&Uid, &Claim)> {
        self.state.subjects.iter().map(|(uid, subject)| (uid, &*subject.claim))
    }

    /// What should be written about every address that somebody has or that rests, in order.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.state.book.addresses().filter_map(|address| self.state.book.desired(address))
    }

    /// Every address that somebody has and that would not be given to him today, with whose it is, by Service.
    pub fn irregular(&self) -> impl Iterator<Item = (&ServiceName, Assigned)> + '_ {
        let of = |subject: &'_ Subject| {
            let assigned = status(&self.state, subject).assigned;
            assigned.into_iter().filter(|assigned| assigned.standing != Standing::Regular)
        };
        self.state
            .subjects
            .values()
            .flat_map(move |subject| of(subject).map(|assigned| (&subject.claim.service, assigned)))
    }

    /// Figures of every pool and family, in the order in which pools are asked.
    pub fn usage(&self) -> Vec<Usage> {
        self.state.stocks.usage()
    }

    /// Namespaces beyond their quota: it was lowered, or a grant of a former leader came late.
    pub fn overshoots(&self) -> Vec<Overshoot> {
        let over = |(namespace, used): (&Arc<str>, &u32)| match self.state.quotas.of(namespace) {
            Quota::Addresses(limit) if *used > limit => {
                Some(Overshoot { namespace: Arc::clone(namespace), used: *used, limit })
            }
            Quota::Addresses(_) | Quota::Unlimited => None,
        };
        self.state.used_by_namespace().iter().filter_map(over).collect()
    }

    fn enter(&mut self, claim: Claim) {
        let uid = claim.uid.clone();
        self.state.waiting.join(Wait::Everyone, claim.rank());
        let mut subject = Subject::new(Arc::new(claim));
        for address in self.state.unknown.remove(&uid).unwrap_or_default() {
            subject.set_phase(address, self.state.first_phase(&uid, address));
        }
        self.state.subjects.insert(uid, subject);
    }

    fn leave(&mut self, uid: &Uid, now: Timestamp) {
        for address in self.state.unknown.remove(uid).unwrap_or_default() {
            self.state.vacate(uid, address, Rest::CoolDown, now);
        }
        let Some(subject) = self.state.subjects.get(uid).cloned() else { return };
        for holding in &subject.holdings {
            let unseen = !subject.visible(holding.address) && !self.state.under_way.contains(&holding.address);
            let rest = match holding.phase {
                Phase::Pending if unseen => Rest::AtOnce,
                Phase::Pending | Phase::Held | Phase::Leaving => Rest::CoolDown,
            };
            self.state.vacate(uid, holding.address, rest, now);
        }
        let rank = subject.claim.rank();
        self.state.waiting.leave(&Wait::Everyone, &rank);
        subject.waits.iter().for_each(|wait| self.state.waiting.leave(wait, &rank));
        self.state.subjects.remove(uid);
        self.state.changed.remove(uid);
    }

    fn forget_foreign(&mut self, uid: &Uid) {
        let shown = self.state.neighbours.shown_by(uid);
        self.state.neighbours_change(&shown, |neighbours| neighbours.drop(uid));
    }
}

/// What everybody would be told if an allocator began with this: the whole of the room as one function.
pub fn allocate(start: Start, now: Timestamp) -> BTreeMap<ServiceName, Status> {
    let allocator = Allocator::adopt(start, now);
    let told = |(uid, claim): (&Uid, &Claim)| Some((claim.service.clone(), allocator.status(uid)?));
    allocator.services().filter_map(told).collect()
}
