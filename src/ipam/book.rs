//! Who has which address, and what of that is written down.
//!
//! Each address has what should be true and what the API server is known to have; where they differ there is something to
//! write. Usually they are equal, and then the second costs nothing.

use super::name::{ServiceName, Uid};
use super::record::{Holder, Record, Tenure};
use super::timestamp::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What should be true of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occupancy {
    /// These hold it, in the order in which they joined.
    Held(Vec<Holder>),
    /// It cools down.
    Cooling {
        /// Since when.
        at: Timestamp,
        /// Whose it was.
        last: ServiceName,
    },
    /// Nobody has it.
    Vacated,
}

/// What the API server is known to have.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ledger {
    /// No object.
    Absent,
    /// What should be true.
    Current,
    /// Something else.
    Other(Box<Record>),
}

#[derive(Debug, Clone)]
struct Entry {
    pool: Arc<str>,
    occupancy: Occupancy,
    ledger: Ledger,
}

impl Entry {
    fn desired(&self, address: IpAddr) -> Option<Record> {
        let tenure = match &self.occupancy {
            Occupancy::Held(holders) => Tenure::Held(holders.clone()),
            Occupancy::Cooling { at, last } => Tenure::Released { at: *at, last: last.clone() },
            Occupancy::Vacated => return None,
        };
        Some(Record { address, pool: Arc::clone(&self.pool), tenure })
    }
}

/// All addresses that somebody has, or of which something is written down.
#[derive(Debug, Clone, Default)]
pub struct Book {
    entries: BTreeMap<IpAddr, Entry>,
    unwritten: BTreeSet<IpAddr>,
    touched: BTreeSet<IpAddr>,
}

impl Book {
    /// What is true of an address.
    pub fn occupancy(&self, address: IpAddr) -> &Occupancy {
        self.entries.get(&address).map_or(&Occupancy::Vacated, |entry| &entry.occupancy)
    }

    /// Who holds it, in the order in which they joined.
    pub fn holders(&self, address: IpAddr) -> &[Holder] {
        match self.occupancy(address) {
            Occupancy::Held(holders) => holders,
            Occupancy::Cooling { .. } | Occupancy::Vacated => &[],
        }
    }

    /// What one of them holds it on.
    pub fn holder(&self, address: IpAddr, uid: &Uid) -> Option<&Holder> {
        self.holders(address).iter().find(|holder| holder.uid == *uid)
    }

    /// The pool it was given from.
    pub fn pool(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.entries.get(&address).map(|entry| &entry.pool)
    }

    /// Every address that somebody has or had.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.entries.keys().copied()
    }

    /// What should be written about an address; none where there should be no object.
    pub fn desired(&self, address: IpAddr) -> Option<Record> {
        self.entries.get(&address)?.desired(address)
    }

    /// What is known to be written.
    pub fn persisted(&self, address: IpAddr) -> Option<Record> {
        let entry = self.entries.get(&address)?;
        match &entry.ledger {
            Ledger::Absent => None,
            Ledger::Current => entry.desired(address),
            Ledger::Other(record) => Some((**record).clone()),
        }
    }

    /// Addresses of which something is to be written.
    pub fn unwritten(&self) -> &BTreeSet<IpAddr> {
        &self.unwritten
    }

    /// Those of them that changed since the last call.
    pub fn take_touched(&mut self) -> BTreeSet<IpAddr> {
        std::mem::take(&mut self.touched)
    }

    /// Says what should be true of an address.
    pub fn put(&mut self, address: IpAddr, pool: Arc<str>, occupancy: Occupancy) {
        let persisted = self.persisted(address);
        self.entries.insert(address, Entry { pool, occupancy, ledger: Ledger::Absent });
        self.compare(address, persisted);
    }

    /// Says what the API server has.
    pub fn learn(&mut self, address: IpAddr, persisted: Option<Record>) {
        if let Some(record) = &persisted {
            self.entries.entry(address).or_insert_with(|| Entry {
                pool: Arc::clone(&record.pool),
                occupancy: Occupancy::Vacated,
                ledger: Ledger::Absent,
            });
        }
        self.compare(address, persisted);
    }

    fn compare(&mut self, address: IpAddr, persisted: Option<Record>) {
        let Some(entry) = self.entries.get_mut(&address) else { return };
        let desired = entry.desired(address);
        if desired == persisted {
            self.unwritten.remove(&address);
            self.touched.remove(&address);
            match desired {
                Some(_) => entry.ledger = Ledger::Current,
                None => drop(self.entries.remove(&address)),
            }
            return;
        }
        entry.ledger = persisted.map_or(Ledger::Absent, |record| Ledger::Other(Box::new(record)));
        self.unwritten.insert(address);
        self.touched.insert(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cooling(millis: u64) -> Occupancy {
        let last = ServiceName { namespace: "n".into(), name: "a".into() };
        Occupancy::Cooling { at: Timestamp::from_unix_millis(millis), last }
    }

    #[test]
    fn what_is_to_be_written_is_the_difference() {
        let address: IpAddr = "198.51.100.7".parse().unwrap();
        let mut book = Book::default();
        book.put(address, "p".into(), cooling(1));
        let first = book.desired(address);
        assert_eq!((book.persisted(address), book.unwritten().len()), (None, 1));
        book.learn(address, first.clone());
        assert!(book.unwritten().is_empty() && book.take_touched().is_empty());
        book.put(address, "p".into(), cooling(2));
        assert_eq!(book.persisted(address), first);
        // Back to what is written: nothing to write.
        book.put(address, "p".into(), cooling(1));
        assert!(book.unwritten().is_empty());
        book.put(address, "p".into(), Occupancy::Vacated);
        assert_eq!((book.desired(address), book.unwritten().len()), (None, 1));
        book.learn(address, None);
        assert_eq!((book.addresses().count(), book.unwritten().len()), (0, 0));
    }
}
