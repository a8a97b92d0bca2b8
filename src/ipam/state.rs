//! All that the allocator knows, and the few steps that change who has an address. Every index follows from such a step, so
//! that none can be forgotten: what an address meant before and after is compared, and the difference is entered.

use super::book::{Book, Occupancy};
use super::claim::Claim;
use super::family::Family;
use super::name::Uid;
use super::neighbours::Neighbours;
use super::quota::Quotas;
use super::record::{Holder, Tenure};
use super::stock::{Class, Stocks};
use super::subject::{Phase, Subject};
use super::terms::Sharing;
use super::timestamp::Timestamp;
use super::waiting::{Wait, Waiting};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Whether an address rests after its last holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Traffic may have been on its way to it: it cools down.
    CoolDown,
    /// Nobody ever saw it: it is free as before.
    AtOnce,
}

/// What an address means for the indexes. The lists are sorted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Meaning {
    until: Option<Timestamp>,
    namespaces: Vec<Arc<str>>,
    /// Sharing key and namespace of each holder.
    keys: Vec<(Arc<str>, Arc<str>)>,
}

/// What of a sorted list is not in another.
fn gone<'a, T: Ord>(before: &'a [T], after: &'a [T]) -> impl Iterator<Item = &'a T> {
    before.iter().filter(|item| after.binary_search(item).is_err())
}

/// All that the allocator knows.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The pools and what is left in them.
    pub stocks: Stocks,
    /// Who has which address.
    pub book: Book,
    /// What others have.
    pub neighbours: Neighbours,
    /// How much a namespace may have.
    pub quotas: Quotas,
    /// Whom we serve.
    pub subjects: BTreeMap<Uid, Subject>,
    /// Who waits.
    pub waiting: Waiting,
    /// Services of whose status something changed.
    pub changed: BTreeSet<Uid>,
    /// Holders that an `Allocation` named and of whom we have not heard, with what they hold. It stays theirs until we do.
    pub unknown: BTreeMap<Uid, BTreeSet<IpAddr>>,
    /// Addresses of whose `Allocation` a write is under way.
    pub under_way: BTreeSet<IpAddr>,
    /// Addresses that a namespace holds.
    used: BTreeMap<Arc<str>, u32>,
    /// When which address has cooled down.
    rests: BTreeSet<(Timestamp, IpAddr)>,
    /// Sharing key, namespace of a holder, address.
    keys: BTreeSet<(Arc<str>, Arc<str>, IpAddr)>,
}

impl State {
    /// What a Service asks for.
    pub fn claim(&self, uid: &Uid) -> Option<Arc<Claim>> {
        self.subjects.get(uid).map(|subject| Arc::clone(&subject.claim))
    }

    /// One whom we serve.
    pub fn subject(&self, uid: &Uid) -> &Subject {
        self.subjects.get(uid).expect("who is settled is served")
    }

    /// One whom we serve, to change something.
    pub fn subject_mut(&mut self, uid: &Uid) -> &mut Subject {
        self.subjects.get_mut(uid).expect("who is settled is served")
    }

    /// What can be said about an address.
    pub fn class(&self, address: IpAddr) -> Class {
        match self.book.occupancy(address) {
            Occupancy::Held(_) => Class::Held,
            Occupancy::Cooling { .. } => Class::Cooling,
            Occupancy::Vacated if self.neighbours.has(address) => Class::Blocked,
            Occupancy::Vacated => Class::Vacant,
        }
    }

    /// How many addresses a namespace holds.
    pub fn used(&self, namespace: &str) -> u32 {
        self.used.get(namespace).copied().unwrap_or(0)
    }

    /// How many addresses each namespace holds.
    pub fn used_by_namespace(&self) -> &BTreeMap<Arc<str>, u32> {
        &self.used
    }

    /// Addresses of one family on which somebody of this namespace, or of any, has this key.
    pub fn with_key(&self, key: &Arc<str>, namespace: Option<&Arc<str>>, family: Family) -> BTreeSet<IpAddr> {
        let lowest = IpAddr::from([0; 4]);
        let from = (Arc::clone(key), namespace.cloned().unwrap_or_else(|| "".into()), lowest);
        let among = self.keys.range(from..).take_while(|(k, n, _)| k == key && namespace.is_none_or(|own| own == n));
        among.map(|(_, _, address)| *address).filter(|address| Family::of(*address) == family).collect()
    }

    /// When the next address has cooled down.
    pub fn next_rest(&self) -> Option<(Timestamp, IpAddr)> {
        self.rests.first().copied()
    }

    /// When a cooling address is free.
    pub fn until(&self, address: IpAddr, since: Timestamp) -> Timestamp {
        since.after(self.cool_down(address))
    }

    /// How long an address rests: as its range's pool says now, else as the pool it came from says.
    fn cool_down(&self, address: IpAddr) -> Duration {
        let around = self.stocks.around(address);
        let stock = around.or_else(|| self.stocks.named(self.book.pool(address)?));
        stock.map_or(Duration::ZERO, |stock| stock.pool.cool_down)
    }

    fn meaning(&self, address: IpAddr) -> Meaning {
        let mut meaning = Meaning::default();
        match self.book.occupancy(address) {
            Occupancy::Held(holders) => {
                for holder in holders {
                    meaning.namespaces.push(Arc::clone(&holder.service.namespace));
                    match &holder.terms.sharing {
                        Sharing::Key(key) => {
                            meaning.keys.push((Arc::clone(key), Arc::clone(&holder.service.namespace)));
                        }
                        Sharing::Exclusive => {}
                    }
                }
                meaning.namespaces.sort();
                meaning.namespaces.dedup();
                meaning.keys.sort();
                meaning.keys.dedup();
            }
            Occupancy::Cooling { at, .. } => meaning.until = Some(self.until(address, *at)),
            Occupancy::Vacated => {}
        }
        meaning
    }

    /// Says who has an address. The pool stays the one in whose range it lies, else the given one.
    pub fn put(&mut self, address: IpAddr, pool: &Arc<str>, occupancy: Occupancy) {
        let pool = Arc::clone(self.stocks.around(address).map_or(pool, |stock| &stock.pool.name));
        let (class, before) = (self.class(address), self.meaning(address));
        self.book.put(address, pool, occupancy);
        let after = self.meaning(address);
        if let Some(until) = before.until {
            self.rests.remove(&(until, address));
        }
        if let Some(until) = after.until {
            self.rests.insert((until, address));
        }
        for namespace in gone(&before.namespaces, &after.namespaces) {
            let used = self.used.get_mut(namespace).expect("a namespace that holds an address is counted");
            *used -= 1;
            if *used == 0 {
                self.used.remove(namespace);
            }
            self.waiting.stir(Wait::Quota(Arc::clone(namespace)));
        }
        for namespace in gone(&after.namespaces, &before.namespaces) {
            *self.used.entry(Arc::clone(namespace)).or_default() += 1;
        }
        for (key, namespace) in gone(&before.keys, &after.keys) {
            self.keys.remove(&(Arc::clone(key), Arc::clone(namespace), address));
        }
        for (key, namespace) in gone(&after.keys, &before.keys) {
            self.keys.insert((Arc::clone(key), Arc::clone(namespace), address));
        }
        for (key, _) in before.keys.iter().chain(&after.keys) {
            self.waiting.stir(Wait::Sharing(Arc::clone(key)));
        }
        self.waiting.stir(Wait::Address(address));
        self.reclassify(address, class);
    }

    /// Enters that an address was of another class before.
    fn reclassify(&mut self, address: IpAddr, before: Class) {
        let after = self.class(address);
        self.stocks.reclassify(address, before, after);
        if before != after && after == Class::Vacant {
            self.stir_vacant(address);
        }
    }

    fn stir_vacant(&mut self, address: IpAddr) {
        self.waiting.stir(Wait::Address(address));
        if let Some(stock) = self.stocks.around(address) {
            let name = Arc::clone(&stock.pool.name);
            self.waiting.stir(Wait::Pool(name, Family::of(address)));
        }
    }

    /// How far a hold has come that begins now: the object may name its holder already, where it was given back a moment ago.
    /// Then it is held; but not while a write is under way that may take the name out.
    pub fn first_phase(&self, uid: &Uid, address: IpAddr) -> Phase {
        let named = match self.book.persisted(address).map(|record| record.tenure) {
            Some(Tenure::Held(holders)) => holders.iter().any(|holder| holder.uid == *uid),
            Some(Tenure::Released { .. }) | None => false,
        };
        if named && !self.under_way.contains(&address) { Phase::Held } else { Phase::Pending }
    }

    /// A Service takes an address or joins those who hold it.
    pub fn occupy(&mut self, claim: &Claim, address: IpAddr) {
        let phase = self.first_phase(&claim.uid, address);
        let holder = Holder { service: claim.service.clone(), uid: claim.uid.clone(), terms: Arc::clone(&claim.terms) };
        let mut holders = self.book.holders(address).to_vec();
        holders.retain(|other| other.uid != claim.uid);
        holders.push(holder);
        let pool = self.book.pool(address).cloned().unwrap_or_else(|| "".into());
        self.put(address, &pool, Occupancy::Held(holders));
        self.subject_mut(&claim.uid).set_phase(address, phase);
    }

    /// A Service gives an address back.
    pub fn vacate(&mut self, uid: &Uid, address: IpAddr, rest: Rest, now: Timestamp) {
        if let Some(subject) = self.subjects.get_mut(uid) {
            subject.forget(address);
        }
        let Some(leaver) = self.book.holder(address, uid).map(|holder| holder.service.clone()) else { return };
        let mut holders = self.book.holders(address).to_vec();
        holders.retain(|holder| holder.uid != *uid);
        let occupancy = if !holders.is_empty() {
            Occupancy::Held(holders)
        } else {
            match (rest, self.book.persisted(address).map(|record| record.tenure)) {
                // It was taken out of its cool-down and nothing came of it.
                (Rest::AtOnce, Some(Tenure::Released { at, last })) if self.until(address, at) > now => {
                    Occupancy::Cooling { at, last }
                }
                (Rest::AtOnce, Some(Tenure::Released { .. } | Tenure::Held(_)) | None) => Occupancy::Vacated,
                (Rest::CoolDown, _) if self.cool_down(address).is_zero() => Occupancy::Vacated,
                (Rest::CoolDown, _) => Occupancy::Cooling { at: now, last: leaver },
            }
        };
        let pool = self.book.pool(address).cloned().unwrap_or_else(|| "".into());
        self.put(address, &pool, occupancy);
    }

    /// Frees what has cooled down.
    pub fn expire(&mut self, now: Timestamp) {
        while let Some((_, address)) = self.next_rest().filter(|(until, _)| *until <= now) {
            let pool = self.book.pool(address).cloned().unwrap_or_else(|| "".into());
            self.put(address, &pool, Occupancy::Vacated);
        }
    }

    /// Changes what others have; `change` touches no other address than these.
    pub fn neighbours_change(&mut self, addresses: &BTreeSet<IpAddr>, change: impl FnOnce(&mut Neighbours)) {
        let before: Vec<_> = addresses.iter().map(|address| (*address, self.class(*address))).collect();
        change(&mut self.neighbours);
        for (address, class) in before {
            self.reclassify(address, class);
            // Whether it may be joined hangs on it too.
            self.stir_joiners(address);
            self.changed.extend(self.book.holders(address).iter().map(|holder| holder.uid.clone()));
        }
    }

    /// Who would join those who hold an address is to be tried again.
    pub fn stir_joiners(&mut self, address: IpAddr) {
        self.waiting.stir(Wait::Address(address));
        for holder in self.book.holders(address) {
            if let Sharing::Key(key) = &holder.terms.sharing {
                self.waiting.stir(Wait::Sharing(Arc::clone(key)));
            }
        }
    }

    /// Replaces the pools. Nobody loses an address; one that lies in another pool's range now is that pool's.
    pub fn replace_stocks(&mut self, stocks: Stocks) {
        let addresses: Vec<IpAddr> = self.book.addresses().collect();
        self.stocks = stocks;
        self.rests.clear();
        for address in &addresses {
            let pool = self.stocks.around(*address).map(|stock| Arc::clone(&stock.pool.name));
            if let Some(pool) = pool.filter(|pool| self.book.pool(*address) != Some(pool)) {
                let occupancy = self.book.occupancy(*address).clone();
                self.book.put(*address, pool, occupancy);
            }
            if let Some(until) = self.meaning(*address).until {
                self.rests.insert((until, *address));
            }
        }
        for address in addresses.into_iter().chain(self.neighbours.addresses()).collect::<BTreeSet<_>>() {
            let class = self.class(address);
            self.stocks.reclassify(address, Class::Vacant, class);
        }
        self.changed.extend(self.subjects.keys().cloned());
        self.waiting.stir(Wait::Everyone);
    }
}
