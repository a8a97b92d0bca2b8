//! News about `Allocation`s: what the watch tells, and what became of our own writes.

use super::{Desk, Kind, Known, Moment, is_newer};
use crate::ipam::Record;
use crate::k8s::allocation::{Allocation, address_of, record};
use crate::k8s::due::Key;
use crate::k8s::follow::Told;
use std::collections::BTreeMap;
use std::net::IpAddr;
use tracing::warn;

impl Desk {
    pub(super) fn take_allocation(&mut self, told: Told<Allocation>, now: Moment) {
        match told {
            Told::Listing => self.listed_allocations.begin(),
            Told::Listed(object) => self.listed_allocations.items.push(object),
            Told::Complete => self.allocations_listed(now),
            Told::Applied(object) => {
                if let Some((record, version)) = read(&object)
                    && !self.is_stale(record.address, &version)
                {
                    self.note(record.address, Known::At(version));
                    self.observe(record.address, Some(record), now);
                }
            }
            Told::Deleted(object) => {
                let name = object.metadata.name.as_deref().unwrap_or_default();
                let version = object.metadata.resource_version.unwrap_or_default();
                if let Some(address) = address_of(name)
                    && !self.is_stale(address, &version)
                {
                    self.known.remove(&address);
                    self.observe(address, None, now);
                }
            }
            Told::Heard | Told::Failed(_) => {}
        }
    }

    fn allocations_listed(&mut self, now: Moment) {
        let list = self.listed_allocations.end();
        let mut listed: BTreeMap<IpAddr, (Record, String)> = BTreeMap::new();
        listed.extend(list.items.iter().filter_map(read).map(|(record, version)| (record.address, (record, version))));
        let written = |address: &IpAddr| list.written.contains(&Key::Address(*address));
        let known: Vec<IpAddr> = self.known.keys().copied().collect();
        for address in known.into_iter().filter(|address| !written(address) && !listed.contains_key(address)) {
            self.known.remove(&address);
            self.observe(address, None, now);
        }
        for (address, (record, version)) in listed.into_iter().filter(|(address, _)| !written(address)) {
            self.note(address, Known::At(version));
            if self.has_begun() {
                self.observe(address, Some(record), now);
            } else {
                self.first_records.retain(|first| first.address != address);
                self.first_records.push(record);
            }
        }
        self.complete(Kind::Allocations, now);
    }

    /// An object is now so.
    fn observe(&mut self, address: IpAddr, record: Option<Record>, now: Moment) {
        match &mut self.allocator {
            Some(allocator) => {
                allocator.observe(address, record, now.civil);
                // A conflict waits for this.
                self.due.add_now(Key::Address(address));
            }
            None => {
                self.first_records.retain(|first| first.address != address);
                self.first_records.extend(record);
            }
        }
    }

    /// Our write got through.
    pub(super) fn written(&mut self, address: IpAddr, object: &Allocation, now: Moment) {
        // The watch may have told of it already, and of what came after. An answer without sense: the watch will tell.
        let Some((record, version)) = read(object).filter(|(_, version)| !self.is_stale(address, version)) else {
            return;
        };
        self.confirm(address, Known::At(version), Some(record), now);
    }

    /// Our deletion of this version got through.
    pub(super) fn deleted(&mut self, address: IpAddr, version: String, now: Moment) {
        match self.known.get(&address) {
            Some(Known::At(known)) if *known == version => {
                self.confirm(address, Known::Deleted(version), None, now);
            }
            // The watch has told of it already.
            Some(Known::At(_) | Known::Deleted(_)) | None => {}
        }
    }

    fn confirm(&mut self, address: IpAddr, known: Known, record: Option<Record>, now: Moment) {
        self.note(address, known);
        self.listed_allocations.note_write(Key::Address(address));
        if let Some(allocator) = &mut self.allocator {
            allocator.confirm(address, record, now.civil);
        }
    }

    fn note(&mut self, address: IpAddr, known: Known) {
        self.known.insert(address, known);
    }

    fn is_stale(&self, address: IpAddr, version: &str) -> bool {
        self.known.get(&address).is_some_and(|known| is_newer(known.version(), version))
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
