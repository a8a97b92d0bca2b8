//! The rows of the matrix: what is tried with every router.

mod attributes;
mod collide;
mod restart;
mod session;
mod words;

use crate::bed::{Bed, service};
use crate::daemon::{Kind, Places, Router};
use crate::herald::Herald;
use crate::rig::fib::Table;
use crate::rig::{Outcome, Rig, wait_until};
use crate::session::{Family, Session};
use ipnetwork::IpNetwork;
use std::time::Duration;

/// Long enough for a router that starts on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One cell: a row with a router.
#[derive(Debug, Clone, Copy)]
pub struct Cell<'a> {
    /// The suite's hold on the machine.
    pub rig: &'a Rig,
    /// Where the routers are.
    pub places: &'a Places,
    /// Which router.
    pub kind: Kind,
    /// The cell's number, for its names.
    pub number: usize,
}

/// What a row does with a cell.
pub type Work = fn(Cell<'_>) -> Outcome;

/// What a row is called, and what it does.
pub const ROWS: &[(&str, Work)] = &[
    ("ebgp", session::ebgp),
    ("ibgp", session::ibgp),
    ("v4", session::v4),
    ("v6", session::v6),
    ("both", session::both),
    ("rfc8950", session::rfc8950),
    ("md5", session::md5),
    ("gtsm", session::gtsm),
    ("passive", session::passive),
    ("our-range", session::our_range),
    ("their-range", session::their_range),
    ("link-local", session::link_local),
    ("two-octet-as", session::two_octet_as),
    ("hold-3", session::hold_3),
    ("extended-messages", session::extended_messages),
    ("route-refresh", words::route_refresh),
    ("kill-0.3s", restart::kill_300ms),
    ("kill-1s", restart::kill_1s),
    ("kill-5s", restart::kill_5s),
    ("rolling", restart::rolling),
    ("hard-reset", restart::hard_reset),
    ("shutdown-text", words::shutdown_text),
    ("their-text", words::their_text),
    ("both-dial", collide::both_dial),
    ("attributes", attributes::in_the_table),
];

impl Cell<'_> {
    /// The ground.
    pub fn bed(&self, session: &Session) -> Outcome<Bed> {
        Bed::build(self.rig, self.number, session.wires)
    }

    /// The router and herald on it, the router first.
    pub fn start<'b>(&'b self, bed: &'b Bed, session: &Session) -> Outcome<(Box<dyn Router>, Herald<'b>)> {
        let router = self.places.start(self.kind, self.rig, bed, session)?;
        let herald = Herald::start(self.rig, bed, &session.yaml())?;
        Ok((router, herald))
    }

    /// Waits until the session is up and the router holds exactly these services of herald's.
    pub fn settled(&self, session: &Session, router: &dyn Router, herald: &Herald<'_>, services: &[u8]) -> Outcome {
        let want = wanted(session, services);
        let found = wait_until(PATIENCE, "the session and its routes", || {
            match router.state()?.as_str() {
                "Established" => {}
                other => return Err(format!("the session is {other}")),
            }
            let has = ours(router.table()?);
            if has == want { Ok(()) } else { Err(format!("{has:?}, wanted {want:?}")) }
        });
        found.map(drop).map_err(|what| format!("{what}\nherald:\n{}", herald.log_end()))
    }
}

/// The routes of these services.
pub fn wanted(session: &Session, services: &[u8]) -> Table {
    let each = session.families.iter().flat_map(|family| services.iter().map(|number| (*family, *number)));
    each.map(|(family, number)| (route(number, family), [session.next_hop(family)].into())).collect()
}

/// A service's route.
pub fn route(number: u8, family: Family) -> IpNetwork {
    IpNetwork::from(family.of(service(number)))
}

/// What of a table is a service's.
pub fn ours(table: Table) -> Table {
    let ours = |prefix: &IpNetwork| match prefix {
        IpNetwork::V4(prefix) => prefix.ip().octets()[..3] == [198, 51, 100],
        IpNetwork::V6(prefix) => prefix.ip().segments()[..3] == [0x2001, 0xdb8, 5],
    };
    table.into_iter().filter(|(prefix, _)| ours(prefix)).collect()
}
