//! The routers, one file a family of them, behind one face.

mod bird;
mod exabgp;
mod frr;
mod gobgp;
mod openbgpd;

use crate::bed::Bed;
use crate::rig::fib::Table;
use crate::rig::programs::{self, Programs};
use crate::rig::{Outcome, Rig, gobgp as built};
use crate::session::Session;
use ipnetwork::IpNetwork;
use std::path::PathBuf;

/// A router and its release: a column of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// FRR of the machine's Debian.
    Frr8,
    /// BIRD of the machine's Debian.
    Bird2,
    /// FRR of a newer Debian.
    Frr10,
    /// BIRD 2 of a newer Debian.
    Bird217,
    /// BIRD 3.
    Bird3,
    /// GoBGP, built from source.
    GoBgp,
    /// ExaBGP of the machine's Debian.
    ExaBgp,
    /// OpenBGPD of the machine's Debian.
    OpenBgpd,
}

/// All of them, in the order of the matrix.
pub const KINDS: [Kind; 8] =
    [Kind::Frr8, Kind::Bird2, Kind::Frr10, Kind::Bird217, Kind::Bird3, Kind::GoBgp, Kind::ExaBgp, Kind::OpenBgpd];

impl Kind {
    /// Its name in the matrix and in the names of cells.
    pub fn name(self) -> &'static str {
        match self {
            Self::Frr8 => "frr8.4",
            Self::Bird2 => "bird2.0",
            Self::Frr10 => "frr10",
            Self::Bird217 => "bird2.17",
            Self::Bird3 => "bird3",
            Self::GoBgp => "gobgp",
            Self::ExaBgp => "exabgp",
            Self::OpenBgpd => "openbgpd",
        }
    }

    /// Whether it writes the kernel's table.
    pub fn has_fib(self) -> bool {
        match self {
            Self::Frr8 | Self::Bird2 | Self::Frr10 | Self::Bird217 | Self::Bird3 => true,
            Self::GoBgp | Self::ExaBgp | Self::OpenBgpd => false,
        }
    }

    /// Whether, made to say that it knows two octets only, it does read AS4_PATH. FRR sees our capability and does not.
    pub fn merges_as4_path(self) -> bool {
        match self {
            Self::Frr8 | Self::Frr10 => false,
            Self::Bird2 | Self::Bird217 | Self::Bird3 | Self::GoBgp | Self::ExaBgp | Self::OpenBgpd => true,
        }
    }

    /// Whether connections that it accepts are signed (RFC 2385). OpenBGPD 7.7 installs a key on Linux where it dials.
    pub fn signs_what_it_accepts(self) -> bool {
        match self {
            Self::Frr8 | Self::Bird2 | Self::Frr10 | Self::Bird217 | Self::Bird3 | Self::GoBgp | Self::ExaBgp => true,
            Self::OpenBgpd => false,
        }
    }

    /// Whether it answers a connection with a TTL of 255 (RFC 5082 §3). ExaBGP 4.2 sends 255 where it dials.
    pub fn guards_what_it_accepts(self) -> bool {
        match self {
            Self::Frr8 | Self::Bird2 | Self::Frr10 | Self::Bird217 | Self::Bird3 | Self::GoBgp | Self::OpenBgpd => true,
            Self::ExaBgp => false,
        }
    }

    /// Whether it offers the N bit and knows a Hard Reset (RFC 8538).
    pub fn knows_hard_reset(self) -> bool {
        match self {
            Self::Frr8 | Self::Frr10 | Self::GoBgp => true,
            Self::Bird2 | Self::Bird217 | Self::Bird3 | Self::ExaBgp | Self::OpenBgpd => false,
        }
    }
}

/// An attribute as a row looks for it in a router's table.
#[derive(Debug, Clone)]
pub enum Seen {
    /// AS_PATH, all of it.
    AsPath(Vec<u32>),
    /// A standard community.
    Community(u16, u16),
    /// NO_EXPORT.
    NoExport,
    /// A large community.
    Large(u32, u32, u32),
    /// LOCAL_PREF.
    LocalPref(u32),
    /// MULTI_EXIT_DISC.
    Med(u32),
    /// A route target of an AS of two octets.
    RouteTarget(u16, u32),
    /// Link bandwidth of 10 Gbit/s from AS 64512, transitive (RFC 10005): octets a second as a float.
    TenGigabits,
}

/// A running router with one session.
pub trait Router {
    /// The session's state in its own words; `Established` for all when it is.
    ///
    /// # Errors
    /// It does not answer.
    fn state(&self) -> Outcome<String>;

    /// What it holds: the kernel's table of those that write it, else its own.
    ///
    /// # Errors
    /// It does not answer.
    fn table(&self) -> Outcome<Table>;

    /// All that it shows of a route; empty without one.
    ///
    /// # Errors
    /// It does not answer.
    fn route(&self, prefix: IpNetwork) -> Outcome<String>;

    /// How an attribute looks in what [`Router::route`] shows.
    fn looks(&self, attribute: &Seen) -> String;

    /// Has the operator ask for all routes again (RFC 2918).
    ///
    /// # Errors
    /// It refuses.
    fn refresh(&self) -> Outcome;

    /// Has the operator shut the session down, with a text where it can send one (RFC 9003).
    ///
    /// # Errors
    /// It refuses.
    fn shut(&self, text: &str) -> Outcome;

    /// All that it tells of the session's last end: its log, and what it remembers.
    ///
    /// # Errors
    /// It does not answer.
    fn heard(&self) -> Outcome<String>;
}

/// Where the programs are that this machine has not packaged.
#[derive(Debug)]
pub struct Places {
    newer: PathBuf,
    bird3: PathBuf,
    gobgp: PathBuf,
}

impl Places {
    /// Builds or unpacks what is not there yet.
    ///
    /// # Errors
    /// One of them is not to be had.
    pub fn find() -> Outcome<Self> {
        let [newer, bird3] = programs::roots()?;
        Ok(Self { newer, bird3, gobgp: built::binaries()? })
    }

    /// Starts a router on a bed.
    ///
    /// # Errors
    /// It did not come up; the text holds the end of its log.
    pub fn start(&self, kind: Kind, rig: &Rig, bed: &Bed, session: &Session) -> Outcome<Box<dyn Router>> {
        let newer = Programs::Root(self.newer.clone());
        let bird3 = Programs::Root(self.bird3.clone());
        Ok(match kind {
            Kind::Frr8 => Box::new(frr::start(rig, bed, session, &Programs::System)?),
            Kind::Frr10 => Box::new(frr::start(rig, bed, session, &newer)?),
            Kind::Bird2 => Box::new(bird::start(rig, bed, session, &Programs::System, bird::Release::Two)?),
            Kind::Bird217 => Box::new(bird::start(rig, bed, session, &newer, bird::Release::Two)?),
            Kind::Bird3 => Box::new(bird::start(rig, bed, session, &bird3, bird::Release::Three)?),
            Kind::GoBgp => Box::new(gobgp::start(rig, bed, session, &self.gobgp)?),
            Kind::ExaBgp => Box::new(exabgp::start(rig, bed, session)?),
            Kind::OpenBgpd => Box::new(openbgpd::start(rig, bed, session)?),
        })
    }
}
