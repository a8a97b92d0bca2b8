//! A router that only receives: it accepts speakers on loopback and keeps what they announce.
//!
//! Deliberately absent: a kernel table, best-path selection beyond "all of them are equal", announcing anything itself.

use super::session::{Session, Settings};
use crate::wire::update::Verdict;
use crate::wire::{Attribute, Family, Prefix, RouterId, Update};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Everything the router holds, by the address and port that a session came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Established sessions.
    pub neighbors: BTreeMap<SocketAddr, Neighbor>,
    /// Why the last session ended that did, and whose it was.
    pub last_down: Option<(SocketAddr, String)>,
}

/// One established session and what came on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbor {
    /// The peer's BGP Identifier.
    pub router_id: RouterId,
    /// Its routes: next hop by prefix.
    pub routes: BTreeMap<Prefix, IpAddr>,
    /// Families whose first table is complete (RFC 4724 §2).
    pub complete: BTreeSet<Family>,
}

/// What an ECMP router would install: for every prefix the neighbours' addresses and the next hop that each gave.
pub type Paths = BTreeMap<Prefix, BTreeMap<IpAddr, IpAddr>>;

impl Table {
    /// All paths, prefix by prefix.
    pub fn paths(&self) -> Paths {
        let mut paths = Paths::new();
        for (from, neighbor) in &self.neighbors {
            for (prefix, next_hop) in &neighbor.routes {
                paths.entry(*prefix).or_default().insert(from.ip(), *next_hop);
            }
        }
        paths
    }

    fn apply(&mut self, happening: Happening) {
        match happening {
            Happening::Up(from, router_id) => {
                let neighbor = Neighbor { router_id, routes: BTreeMap::new(), complete: BTreeSet::new() };
                self.neighbors.insert(from, neighbor);
            }
            Happening::Update(from, update) => {
                if let Some(neighbor) = self.neighbors.get_mut(&from) {
                    neighbor.take(&update);
                }
            }
            Happening::Down(from, reason) => {
                self.neighbors.remove(&from);
                self.last_down = Some((from, reason));
            }
        }
    }
}

impl Neighbor {
    /// Withdrawals first: a prefix that is in both parts of one message stays (RFC 4271 §4.3 leaves no other reading).
    fn take(&mut self, update: &Update) {
        if let Some(family) = update.end_of_rib() {
            self.complete.insert(family);
            return;
        }
        let usable = update.faults.iter().all(|fault| fault.verdict != Verdict::TreatAsWithdraw);
        for nlri in &update.withdrawn {
            self.routes.remove(&nlri.prefix);
        }
        for attribute in &update.attributes {
            if let Attribute::MpUnreach(unreach) = attribute {
                for nlri in &unreach.withdrawn {
                    self.routes.remove(&nlri.prefix);
                }
            }
        }
        for (prefix, next_hop) in announced(update) {
            if usable {
                self.routes.insert(prefix, next_hop);
            } else {
                self.routes.remove(&prefix);
            }
        }
    }
}

/// The prefixes that an UPDATE announces, in the body and in MP_REACH_NLRI, with their next hops.
pub fn announced(update: &Update) -> Vec<(Prefix, IpAddr)> {
    let mut routes = Vec::new();
    for attribute in &update.attributes {
        match attribute {
            Attribute::NextHop(next_hop) => {
                routes.extend(update.nlri.iter().map(|nlri| (nlri.prefix, IpAddr::V4(*next_hop))));
            }
            Attribute::MpReach(reach) => routes.extend(reach.nlri.iter().map(|nlri| (nlri.prefix, reach.next_hop))),
            Attribute::Origin(_)
            | Attribute::AsPath(_)
            | Attribute::MultiExitDisc(_)
            | Attribute::LocalPref(_)
            | Attribute::AtomicAggregate
            | Attribute::Aggregator(_)
            | Attribute::Communities(_)
            | Attribute::OriginatorId(_)
            | Attribute::ClusterList(_)
            | Attribute::MpUnreach(_)
            | Attribute::ExtendedCommunities(_)
            | Attribute::As4Path(_)
            | Attribute::As4Aggregator(_)
            | Attribute::Ipv6ExtendedCommunities(_)
            | Attribute::LargeCommunities(_)
            | Attribute::OnlyToCustomer(_)
            | Attribute::Unknown { .. } => {}
        }
    }
    routes
}

/// What a session tells the router.
#[derive(Debug)]
enum Happening {
    Up(SocketAddr, RouterId),
    Update(SocketAddr, Update),
    Down(SocketAddr, String),
}

/// A running router. Dropping it closes every session.
#[derive(Debug)]
pub struct Router {
    address: SocketAddr,
    table: watch::Receiver<Table>,
    _serve: AbortOnDropHandle<()>,
}

impl Router {
    /// Listens on `address`; port 0 lets the system choose.
    ///
    /// # Errors
    /// The system's, if the address cannot be listened on.
    pub async fn start(address: SocketAddr, settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (publish, table) = watch::channel(Table::default());
        let serve = AbortOnDropHandle::new(tokio::spawn(serve(listener, Arc::new(settings), publish)));
        Ok(Self { address, table, _serve: serve })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it holds, now and later.
    pub fn table(&self) -> watch::Receiver<Table> {
        self.table.clone()
    }
}

/// Owns the table; sessions tell it what happened.
async fn serve(listener: TcpListener, settings: Arc<Settings>, table: watch::Sender<Table>) {
    let (tell, mut happenings) = mpsc::channel(64);
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => { sessions.spawn(converse(stream, from, Arc::clone(&settings), tell.clone())); }
                // Out of descriptors, say: wait for one rather than spin.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            },
            Some(happening) = happenings.recv() => table.send_modify(|table| table.apply(happening)),
            Some(_) = sessions.join_next() => {}
        }
    }
}

/// One session from its connection to its end. A receiver that is gone means that the router is.
async fn converse(stream: TcpStream, from: SocketAddr, settings: Arc<Settings>, tell: mpsc::Sender<Happening>) {
    let down = match Session::accept(stream, &settings).await {
        Ok(mut session) => {
            let mut told = tell.send(Happening::Up(from, session.peer().router_id)).await;
            loop {
                match session.update().await {
                    Ok(update) if told.is_ok() => told = tell.send(Happening::Update(from, update)).await,
                    Ok(_) => return,
                    Err(down) => break down,
                }
            }
        }
        Err(down) => down,
    };
    drop(tell.send(Happening::Down(from, down.to_string())).await);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::attribute::{MpReach, MpUnreach};
    use crate::wire::update::Fault;
    use std::net::Ipv4Addr;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn announce(nlri: &str, next_hop: [u8; 4]) -> Update {
        Update {
            attributes: vec![Attribute::NextHop(Ipv4Addr::from(next_hop))],
            nlri: vec![prefix(nlri).into()],
            ..Update::default()
        }
    }

    fn table(from: &[&str]) -> Table {
        let mut table = Table::default();
        for from in from {
            let id = RouterId::new(Ipv4Addr::new(10, 0, 0, 1)).unwrap();
            table.apply(Happening::Up(from.parse().unwrap(), id));
        }
        table
    }

    #[test]
    fn paths_of_several_neighbours_are_joined_and_end_with_their_session() {
        let mut table = table(&["127.0.0.11:1000", "127.0.0.12:1000"]);
        for (from, last) in [("127.0.0.11:1000", 11), ("127.0.0.12:1000", 12)] {
            let update = announce("198.51.100.10/32", [127, 0, 0, last]);
            table.apply(Happening::Update(from.parse().unwrap(), update));
        }
        assert_eq!(table.paths()[&prefix("198.51.100.10/32")].len(), 2);
        table.apply(Happening::Down("127.0.0.11:1000".parse().unwrap(), "closed".into()));
        let left: Vec<_> = table.paths()[&prefix("198.51.100.10/32")].values().map(ToString::to_string).collect();
        assert_eq!(left, ["127.0.0.12"]);
    }

    #[test]
    fn both_families_come_and_go() {
        let mut table = table(&["127.0.0.11:1000"]);
        let from = "127.0.0.11:1000".parse().unwrap();
        let nlri = vec![prefix("2001:db8::1/128").into()];
        let reach = MpReach {
            family: Family::IPV6_UNICAST,
            next_hop: "fd00::11".parse().unwrap(),
            link_local: None,
            nlri: nlri.clone(),
        };
        let update = Update { attributes: vec![Attribute::MpReach(reach)], ..Update::default() };
        table.apply(Happening::Update(from, update));
        table.apply(Happening::Update(from, announce("198.51.100.10/32", [127, 0, 0, 11])));
        assert_eq!(table.paths().len(), 2);
        let unreach = MpUnreach { family: Family::IPV6_UNICAST, withdrawn: nlri };
        let update = Update { attributes: vec![Attribute::MpUnreach(unreach)], ..Update::default() };
        table.apply(Happening::Update(from, update));
        let update = Update { withdrawn: vec![prefix("198.51.100.10/32").into()], ..Update::default() };
        table.apply(Happening::Update(from, update));
        assert!(table.paths().is_empty());
    }

    #[test]
    fn a_damaged_announcement_withdraws_what_it_names() {
        let mut table = table(&["127.0.0.11:1000"]);
        let from = "127.0.0.11:1000".parse().unwrap();
        table.apply(Happening::Update(from, announce("198.51.100.10/32", [127, 0, 0, 11])));
        let mut damaged = announce("198.51.100.10/32", [127, 0, 0, 11]);
        damaged.faults.push(Fault {
            code: 1,
            verdict: Verdict::TreatAsWithdraw,
            reason: crate::wire::fault::Reason::OriginUndefined,
            offset: 0,
            octets: bytes::Bytes::new(),
        });
        table.apply(Happening::Update(from, damaged));
        assert!(table.paths().is_empty());
    }
}
