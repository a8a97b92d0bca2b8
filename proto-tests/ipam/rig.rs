//! Services and pools in few words, and a world without faults: an API server that takes every write at once.

use herald::ipam::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no address"))
}

pub fn ips(text: &str) -> Vec<IpAddr> {
    text.split_whitespace().map(ip).collect()
}

pub fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_millis(1_700_000_000_000 + seconds * 1000)
}

/// A pool of ranges such as `10.0.0.1-10.0.0.4 2001:db8::1`.
pub fn pool(name: &str, ranges: &str) -> Pool {
    let range = |text: &str| match text.split_once('-') {
        Some((first, last)) => (ip(first), ip(last)),
        None => (ip(text), ip(text)),
    };
    Pool::new(name, ranges.split_whitespace().map(range).collect())
}

pub fn tcp(numbers: &[u16]) -> BTreeSet<Port> {
    numbers.iter().map(|number| Port { protocol: Protocol::Tcp, number: *number }).collect()
}

/// A claim of Service `namespace/name` with port 80 and family IPv4; its UID is `uid-namespace/name`, its age the order of names.
pub fn claim(service: &str) -> Claim {
    let (namespace, name) = service.split_once('/').unwrap_or(("web", service));
    Claim {
        uid: format!("uid-{namespace}/{name}").as_str().into(),
        service: ServiceName { namespace: namespace.into(), name: name.into() },
        created: at(0),
        families: Families::Single(Family::V4),
        addresses: BTreeSet::new(),
        pool: PoolChoice::Any,
        terms: Arc::new(Terms { sharing: Sharing::Exclusive, backend: Backend::Cluster, ports: tcp(&[80]) }),
        labels: Arc::default(),
        namespace_labels: Arc::default(),
        renumber: Renumber::Stay,
        shown: Vec::new(),
    }
}

/// Changes a claim in place of a constructor with ten arguments.
pub trait With {
    fn shared(self, key: &str, ports: &[u16]) -> Self;
    fn local(self, selector: &str) -> Self;
    fn families(self, families: Families) -> Self;
    fn exact(self, addresses: &str) -> Self;
    fn from(self, pool: &str) -> Self;
    fn labelled(self, key: &str, value: &str) -> Self;
    fn in_labelled(self, key: &str, value: &str) -> Self;
    fn renumbered(self) -> Self;
    fn showing(self, addresses: &str) -> Self;
}

impl With for Claim {
    fn shared(mut self, key: &str, ports: &[u16]) -> Self {
        let terms = Arc::make_mut(&mut self.terms);
        terms.sharing = Sharing::Key(key.into());
        terms.ports = tcp(ports);
        self
    }

    fn local(mut self, selector: &str) -> Self {
        Arc::make_mut(&mut self.terms).backend = Backend::Local(selector.into());
        self
    }

    fn families(mut self, families: Families) -> Self {
        self.families = families;
        self
    }

    fn exact(mut self, addresses: &str) -> Self {
        self.addresses = ips(addresses).into_iter().collect();
        self
    }

    fn from(mut self, pool: &str) -> Self {
        self.pool = PoolChoice::Named(pool.into());
        self
    }

    fn labelled(mut self, key: &str, value: &str) -> Self {
        Arc::make_mut(&mut self.labels).insert(key.into(), value.into());
        self
    }

    fn in_labelled(mut self, key: &str, value: &str) -> Self {
        Arc::make_mut(&mut self.namespace_labels).insert(key.into(), value.into());
        self
    }

    fn renumbered(mut self) -> Self {
        self.renumber = Renumber::Move;
        self
    }

    fn showing(mut self, addresses: &str) -> Self {
        self.shown = ips(addresses);
        self
    }
}

pub fn selector(key: &str, value: &str) -> Selector {
    Selector { requirements: vec![Requirement::In(key.into(), BTreeSet::from([value.to_owned()]))] }
}

/// No two holders of any record clash, unless that was so before anybody looked.
pub fn no_address_is_held_twice(records: &BTreeMap<IpAddr, Record>, scope: impl Fn(IpAddr) -> SharingScope) {
    for (address, record) in records {
        let Tenure::Held(holders) = &record.tenure else { continue };
        assert!(!holders.is_empty(), "{address} is written down as held by nobody");
        for (place, a) in holders.iter().enumerate() {
            for b in &holders[..place] {
                let verdict = terms::clash((&a.service, &a.terms), (&b.service, &b.terms), scope(*address));
                assert_eq!(verdict, Ok(()), "{address} is held by {} and {}", a.service, b.service);
            }
        }
    }
}

/// An API server with an allocator that writes at once.
pub struct World {
    pub allocator: Allocator,
    pub now: Timestamp,
    pub pools: Vec<Pool>,
    pub nodes: BTreeSet<IpAddr>,
    pub quotas: Quotas,
    /// Services of ours, with what their status shows.
    pub services: BTreeMap<Uid, Claim>,
    pub foreign: BTreeMap<Uid, Foreign>,
    pub records: BTreeMap<IpAddr, Record>,
}

impl World {
    pub fn new(pools: Vec<Pool>) -> Self {
        let start = Start { pools: pools.clone(), ..Start::default() };
        Self {
            allocator: Allocator::adopt(start, at(0)),
            now: at(0),
            pools,
            nodes: BTreeSet::new(),
            quotas: Quotas::default(),
            services: BTreeMap::new(),
            foreign: BTreeMap::new(),
            records: BTreeMap::new(),
        }
    }

    /// All there is, as a new allocator finds it.
    pub fn start(&self) -> Start {
        Start {
            pools: self.pools.clone(),
            quotas: self.quotas.clone(),
            nodes: self.nodes.clone(),
            foreign: self.foreign.values().cloned().collect(),
            records: self.records.values().cloned().collect(),
            claims: self.services.values().cloned().collect(),
            ..Start::default()
        }
    }

    /// The allocator dies and another one begins.
    pub fn restart(&mut self) {
        self.allocator = Allocator::adopt(self.start(), self.now);
        self.flush();
    }

    /// A user writes a Service; what its status shows stays, unless the claim says otherwise.
    pub fn put(&mut self, mut claim: Claim) {
        if let Some(before) = self.services.get(&claim.uid).filter(|_| claim.shown.is_empty()) {
            claim.shown = before.shown.clone();
        }
        self.foreign.remove(&claim.uid);
        self.services.insert(claim.uid.clone(), claim.clone());
        self.allocator.apply(claim, self.now);
        self.flush();
    }

    pub fn delete(&mut self, service: &str) {
        let uid = claim(service).uid;
        self.services.remove(&uid);
        self.foreign.remove(&uid);
        self.allocator.remove(&uid, self.now);
        self.flush();
    }

    /// A Service of others shows these addresses.
    pub fn put_foreign(&mut self, service: &str, addresses: &str) {
        let Claim { uid, service, .. } = claim(service);
        let foreign = Foreign { uid: uid.clone(), service, addresses: ips(addresses).into_iter().collect() };
        self.services.remove(&uid);
        self.foreign.insert(uid, foreign.clone());
        self.allocator.foreign(foreign, self.now);
        self.flush();
    }

    pub fn set_pools(&mut self, pools: Vec<Pool>) {
        self.pools.clone_from(&pools);
        self.allocator.set_pools(pools, self.now);
        self.flush();
    }

    pub fn set_nodes(&mut self, nodes: &str) {
        self.nodes = ips(nodes).into_iter().collect();
        self.allocator.set_nodes(self.nodes.clone(), self.now);
        self.flush();
    }

    pub fn set_quotas(&mut self, quotas: Quotas) {
        self.quotas = quotas.clone();
        self.allocator.set_quotas(quotas, self.now);
        self.flush();
    }

    pub fn pass(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.allocator.tick(self.now);
        self.flush();
    }

    /// Writes until nothing is left to write: first the records in order, then the services.
    pub fn flush(&mut self) {
        for _ in 0..1000 {
            let changes = self.allocator.take_changes();
            if changes.is_empty() {
                assert_eq!(self.allocator.unwritten().collect::<Vec<_>>(), [] as [IpAddr; 0]);
                self.check();
                return;
            }
            changes.addresses.into_iter().for_each(|address| self.write(address));
            changes.services.into_iter().for_each(|uid| self.show(&uid));
        }
        panic!("the allocator finds no rest");
    }

    fn write(&mut self, address: IpAddr) {
        let written = match self.allocator.begin_write(address) {
            Write::Nothing => return,
            Write::Put(record) => Some(record),
            Write::Delete => None,
        };
        match &written {
            Some(record) => drop(self.records.insert(address, record.clone())),
            None => drop(self.records.remove(&address)),
        }
        self.allocator.confirm(address, written, self.now);
    }

    fn show(&mut self, uid: &Uid) {
        let Some(shown) = self.allocator.begin_status(uid) else { return };
        let service = self.services.get_mut(uid).expect("who is served is there");
        service.shown = shown;
        let claim = service.clone();
        self.allocator.end_status(claim, self.now);
    }

    /// What must hold whenever all is written.
    fn check(&self) {
        for (uid, service) in &self.services {
            for shown in &service.shown {
                let named = match self.records.get(shown).map(|record| &record.tenure) {
                    Some(Tenure::Held(holders)) => holders.iter().any(|holder| holder.uid == *uid),
                    Some(Tenure::Released { .. }) | None => false,
                };
                let of_others = self.pool_of(*shown).is_none();
                assert!(named || of_others, "{} shows {shown}, which is not written down as its own", service.service);
            }
        }
        let own: Vec<Record> = self.allocator.records().collect();
        assert_eq!(own, self.records.values().cloned().collect::<Vec<_>>());
    }

    /// The pool in whose ranges an address lies.
    pub fn pool_of(&self, address: IpAddr) -> Option<&Pool> {
        let has = |(first, last): &(IpAddr, IpAddr)| *first <= address && address <= *last;
        self.pools.iter().find(|pool| pool.ranges.iter().any(has))
    }

    /// What a Service's status shows, as text.
    pub fn shown(&self, service: &str) -> String {
        let shown = self.services.get(&claim(service).uid).map(|claim| claim.shown.clone()).unwrap_or_default();
        shown.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    /// What a Service is told about what it did not get.
    pub fn refusals(&self, service: &str) -> String {
        let refusals = self.allocator.status(&claim(service).uid).map(|status| status.refusals).unwrap_or_default();
        refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    /// How a Service's address stands.
    pub fn standing(&self, service: &str) -> Standing {
        let status = self.allocator.status(&claim(service).uid).expect("it is served");
        status.assigned.into_iter().next().expect("it has an address").standing
    }

    /// The pool that a Service's address is written down under.
    pub fn pool(&self, service: &str) -> String {
        let status = self.allocator.status(&claim(service).uid).expect("it is served");
        status.assigned.iter().map(|assigned| assigned.pool.to_string()).collect::<Vec<_>>().join(" ")
    }
}
