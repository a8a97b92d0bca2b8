//! News about `Allocation`s: what the watch tells, and what became of our own writes.
//!
//! While a write of ours is on its way, what the watch tells of that address waits: it may be older than the write. When the
//! answer came, what is newer is taken; when none came, the object is read.

use super::{Desk, Kind, Known, Moment, Stage, is_newer};
use crate::ipam::{Allocator, Foreign, Record, ServiceName};
use crate::k8s::allocation::{Allocation, address_of, name, record};
use crate::k8s::due::Key;
use crate::k8s::follow::Told;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use tracing::warn;

impl Desk {
    pub(super) fn take_allocation(&mut self, told: Told<Allocation>, now: Moment) {
        match told {
            Told::Listing => self.listed_allocations.begin(),
            Told::Listed(object) => self.listed_allocations.items.push(object),
            Told::Complete => self.allocations_listed(now),
            Told::Applied(object) => {
                if let Some((record, version)) = read(&object) {
                    self.hear(record.address, Some(record), Known::At(version), now);
                }
            }
            Told::Deleted(identity) => {
                if let Some(address) = address_of(&identity.name) {
                    self.hear(address, None, Known::Deleted(identity.version), now);
                }
            }
            Told::Unreadable(bad) => {
                let Some(address) = address_of(&bad.identity.name) else { return };
                match self.listed_allocations.stage {
                    Stage::Open => self.listed_allocations.note_unreadable(bad.identity.name),
                    Stage::Closed => self.leave_alone(address, now),
                }
            }
            Told::Heard | Told::Absent | Told::Failed(_) => {}
        }
    }

    fn allocations_listed(&mut self, now: Moment) {
        let list = self.listed_allocations.end();
        let mut listed: BTreeMap<IpAddr, (Record, String)> = BTreeMap::new();
        listed.extend(list.items.iter().filter_map(read).map(|(record, version)| (record.address, (record, version))));
        let written = |address: &IpAddr| list.written.contains(&Key::Address(*address));
        let unreadable: BTreeSet<IpAddr> = list.unreadable.iter().filter_map(|name| address_of(name)).collect();
        let missing = self.known.keys().chain(&self.left_alone).filter(|address| !listed.contains_key(*address));
        let missing: BTreeSet<IpAddr> = missing.filter(|address| !unreadable.contains(*address)).copied().collect();
        // A list may be wrong: none is given up before it was read itself.
        for address in missing.into_iter().filter(|address| !written(address)) {
            self.uncertain.insert(address);
            self.due.add(Key::Address(address));
        }
        for (address, (record, version)) in listed.into_iter().filter(|(address, _)| !written(address)) {
            self.take_up(address, now);
            if self.awaits_an_answer(address) {
                self.deferred.insert(address, (Some(record), Known::At(version)));
            } else {
                self.known.insert(address, Known::At(version));
                self.observe(address, Some(record), now);
            }
        }
        unreadable.into_iter().for_each(|address| self.leave_alone(address, now));
        self.complete(Kind::Allocations, now);
    }

    /// The object of an address cannot be read: it stays as it was last read, and nothing is written. One that was never read
    /// holds its address all the same.
    fn leave_alone(&mut self, address: IpAddr, now: Moment) {
        self.left_alone.insert(address);
        let held = held_by_nobody_knows_whom(address);
        let in_use = |allocator: &Allocator| allocator.services().any(|(_, claim)| claim.shows(address));
        match &mut self.allocator {
            Some(allocator) if !self.known.contains_key(&address) && !in_use(allocator) => {
                allocator.foreign(held, now.civil);
            }
            Some(_) | None => {}
        }
    }

    /// The object of an address can be read, or is gone.
    fn take_up(&mut self, address: IpAddr, now: Moment) {
        if self.left_alone.remove(&address) {
            if let Some(allocator) = &mut self.allocator {
                allocator.remove(&held_by_nobody_knows_whom(address).uid, now.civil);
            }
            self.due.add(Key::Address(address));
        }
    }

    /// The watch tells of an address.
    fn hear(&mut self, address: IpAddr, record: Option<Record>, known: Known, now: Moment) {
        if self.is_stale(address, known.version()) {
            return;
        }
        self.take_up(address, now);
        if self.awaits_an_answer(address) {
            self.deferred.insert(address, (record, known));
            return;
        }
        match known {
            Known::At(_) => drop(self.known.insert(address, known)),
            // What comes after a deletion is a new object; nothing older follows within a watch.
            Known::Deleted(_) => drop(self.known.remove(&address)),
        }
        self.observe(address, record, now);
    }

    fn awaits_an_answer(&self, address: IpAddr) -> bool {
        self.due.is_busy(&Key::Address(address)) || self.uncertain.contains(&address)
    }

    /// An object is now so.
    fn observe(&mut self, address: IpAddr, record: Option<Record>, now: Moment) {
        match &mut self.allocator {
            Some(allocator) => allocator.observe(address, record, now.civil),
            None => {
                self.first_records.retain(|first| first.address != address);
                self.first_records.extend(record);
            }
        }
    }

    /// Our write got through.
    pub(super) fn written(&mut self, address: IpAddr, object: &Allocation, now: Moment) {
        match read(object) {
            Some((record, version)) => self.confirm(address, Known::At(version), Some(record), now),
            None => drop(self.uncertain.insert(address)),
        }
    }

    /// Our deletion of this version got through.
    pub(super) fn deleted(&mut self, address: IpAddr, version: String, now: Moment) {
        self.confirm(address, Known::Deleted(version), None, now);
    }

    fn confirm(&mut self, address: IpAddr, known: Known, record: Option<Record>, now: Moment) {
        self.known.insert(address, known);
        self.listed_allocations.note_write(Key::Address(address));
        if let Some(allocator) = &mut self.allocator {
            allocator.confirm(address, record, now.civil);
        }
        self.catch_up(address, now);
    }

    /// What was read after a write of which nobody knew what became.
    pub(super) fn found(&mut self, address: IpAddr, object: Option<&Allocation>, now: Moment) {
        self.uncertain.remove(&address);
        self.take_up(address, now);
        let (record, known) = match object.map(read) {
            Some(Some((record, version))) => (Some(record), Some(Known::At(version))),
            // An object without sense is in the way; it was reported.
            Some(None) | None => (None, None),
        };
        match known {
            Some(known) => drop(self.known.insert(address, known)),
            None => drop(self.known.remove(&address)),
        }
        self.listed_allocations.note_write(Key::Address(address));
        self.observe(address, record, now);
        self.catch_up(address, now);
    }

    /// Takes what was told meanwhile, where it is newer than the answer.
    fn catch_up(&mut self, address: IpAddr, now: Moment) {
        if let Some((record, known)) = self.deferred.remove(&address) {
            self.hear(address, record, known, now);
        }
    }

    fn is_stale(&self, address: IpAddr, version: &str) -> bool {
        self.known.get(&address).is_some_and(|known| is_newer(known.version(), version))
    }
}

/// Who stands for the holders of an `Allocation` that was never read.
pub(super) fn held_by_nobody_knows_whom(address: IpAddr) -> Foreign {
    let name = name(address);
    Foreign {
        uid: format!("Allocation {name}").as_str().into(),
        service: ServiceName { namespace: "allocations.herald.bgp".into(), name: name.as_str().into() },
        addresses: BTreeSet::from([address]),
    }
}

/// What an object says, with its version. One that makes no sense is reported; its address cannot be given then.
fn read(object: &Allocation) -> Option<(Record, String)> {
    let version = object.metadata.resource_version.clone().unwrap_or_default();
    match record(object) {
        Ok(record) => Some((record, version)),
        Err(why) => {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            warn!(name, "an Allocation makes no sense and is left alone: {why}");
            None
        }
    }
}
