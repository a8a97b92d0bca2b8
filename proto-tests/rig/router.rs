//! What every kind of router in the lab is told, and what each can be asked.

use super::Outcome;
use super::bird::Bird;
use super::frr::Frr;
use super::net::Namespace;
use super::process::Process;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// A neighbour as a router is told of it.
#[derive(Debug, Clone)]
pub struct Neighbour {
    /// A word that the router's configuration may use as a name.
    pub name: String,
    /// Where it is.
    pub address: IpAddr,
    /// The router's own address on that link.
    pub local: IpAddr,
    /// The autonomous system that it must come from.
    pub asn: u32,
    /// The key with which every segment is signed (TCP-MD5), if the router insists on one.
    pub password: Option<&'static str>,
}

/// A router's configuration, in no router's language. Both unicast families run on each session, whatever carries it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its own autonomous system.
    pub asn: u32,
    /// Its BGP Identifier.
    pub router_id: Ipv4Addr,
    /// The hold time that it proposes.
    pub hold: Duration,
    /// Whom it waits for; it does not dial.
    pub neighbours: Vec<Neighbour>,
}

/// The kinds that install routes in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// zebra and bgpd.
    Frr,
    /// BIRD 2.
    Bird,
}

impl Kind {
    /// The kind's name in the names of cases.
    pub fn name(self) -> &'static str {
        match self {
            Self::Frr => "frr",
            Self::Bird => "bird",
        }
    }
}

/// A session that came up or went, as a router saw it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// When, as text that sorts: routers of one machine have one clock.
    pub at: String,
    /// With whom, by the name in the router's plan.
    pub neighbour: String,
    /// What it is since.
    pub session: Session,
}

/// Whether a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Session {
    /// It does.
    Up,
    /// It does not.
    Down,
}

/// The time at the beginning of a log line, in milliseconds and in one form.
pub fn moment(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let (date, time) = (words.next()?, words.next()?);
    time.contains('.').then(|| format!("{} {time}", date.replace('/', "-")))
}

/// A running router.
#[derive(Debug)]
pub enum Router {
    /// zebra and bgpd.
    Frr(Frr),
    /// BIRD 2.
    Bird(Bird),
}

impl Router {
    /// Starts one in a namespace; it answers questions when this returns.
    ///
    /// # Errors
    /// It did not come up; the text holds the end of its log.
    pub fn start(kind: Kind, rig: &super::Rig, space: &Namespace, plan: &Plan) -> Outcome<Self> {
        match kind {
            Kind::Frr => Frr::start(rig, space, plan).map(Self::Frr),
            Kind::Bird => Bird::start(rig, space, plan).map(Self::Bird),
        }
    }

    /// Where it runs.
    pub fn space(&self) -> &Namespace {
        match self {
            Self::Frr(frr) => frr.space(),
            Self::Bird(bird) => bird.space(),
        }
    }

    /// The process that speaks BGP.
    pub fn daemon(&self) -> &Process {
        match self {
            Self::Frr(frr) => frr.daemon(),
            Self::Bird(bird) => bird.daemon(),
        }
    }

    /// All that it says of its sessions and routes: the end of a failure's text.
    pub fn account(&self) -> String {
        let (daemon, answers): (_, Vec<Outcome<String>>) = match self {
            Self::Frr(frr) => (
                frr.daemon(),
                ["show zebra client summary", "show bgp nexthop", "show bgp ipv4 unicast", "show bgp ipv6 unicast"]
                    .into_iter()
                    .chain(["show ip route", "show ipv6 route"])
                    .map(|line| frr.shell(line))
                    .collect(),
            ),
            Self::Bird(bird) => {
                (bird.daemon(), ["show protocols all", "show route all"].map(|line| bird.shell(line)).into())
            }
        };
        let answers: String = answers.into_iter().map(|answer| answer.unwrap_or_else(|what| what) + "\n").collect();
        format!("{}:\n{answers}{}", self.space().short(), daemon.log_end())
    }

    /// Each neighbour's session state in the router's own words; `Established` for both kinds when it is.
    ///
    /// # Errors
    /// The router does not answer.
    pub fn sessions(&self) -> Outcome<BTreeMap<IpAddr, String>> {
        match self {
            Self::Frr(frr) => frr.sessions(),
            Self::Bird(bird) => bird.sessions(),
        }
    }

    /// Sessions that came up and went so far, by its log.
    pub fn changes(&self) -> Vec<Change> {
        match self {
            Self::Frr(frr) => frr.changes(),
            Self::Bird(bird) => bird.changes(),
        }
    }

    /// How many NOTIFICATIONs of Cease with this subcode its log tells of from a neighbour, so far.
    pub fn ceases(&self, from: &Neighbour, subcode: u8) -> usize {
        match self {
            Self::Frr(frr) => frr.ceases(from, subcode),
            Self::Bird(bird) => bird.ceases(from, subcode),
        }
    }

    /// Takes a new plan without losing sessions that stay as they were.
    ///
    /// # Errors
    /// The router refuses it.
    pub fn reload(&mut self, plan: &Plan) -> Outcome {
        match self {
            Self::Frr(frr) => frr.reload(plan),
            Self::Bird(bird) => bird.reload(plan),
        }
    }
}
