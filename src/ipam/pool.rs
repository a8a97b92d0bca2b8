//! A pool: the addresses it gives, to whom, and when again.

use super::claim::Claim;
use super::family::{Family, number};
use super::interval::IntervalSet;
use super::labels::Selector;
use super::numbering::Numbering;
use super::terms::SharingScope;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// `autoAssign`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoAssign {
    /// It serves whoever asks for any address.
    #[default]
    Yes,
    /// It serves only who names it or one of its addresses.
    OnRequest,
}

/// Whether a pool is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Intake {
    /// It gives.
    #[default]
    Open,
    /// `draining`: it gives nothing new and keeps what is given.
    Draining,
}

/// What becomes of IPv4 addresses that end in `.0` or `.255`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Edges {
    /// Given like any other.
    #[default]
    Given,
    /// Kept out: some old devices take them for network and broadcast addresses.
    KeptOut,
}

/// Who may have addresses of a pool. Names and labels of namespaces are joined by "or"; that and the Service's labels by "and".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Admission {
    /// Namespaces by name.
    pub namespaces: BTreeSet<Arc<str>>,
    /// Namespaces by label; one of them selects.
    pub namespace_selectors: Vec<Selector>,
    /// Services by label; one of them selects. Empty admits every Service.
    pub service_selectors: Vec<Selector>,
}

/// Why a pool does not serve a Service at all, full or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It is for other namespaces.
    Namespace,
    /// It is for services with other labels.
    Labels,
    /// It is draining.
    Draining,
    /// It has no address of this family.
    Family(Family),
    /// It serves only on request.
    OnRequest,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace => f.write_str("is for other namespaces"),
            Self::Labels => f.write_str("is for services with other labels"),
            Self::Draining => f.write_str("is draining"),
            Self::Family(family) => write!(f, "has no {family} addresses"),
            Self::OnRequest => f.write_str("serves only on request (autoAssign: false)"),
        }
    }
}

impl Admission {
    /// Whether a Service may have addresses.
    ///
    /// # Errors
    /// What keeps it out.
    pub fn admits(&self, claim: &Claim) -> Result<(), Unfit> {
        let everywhere = self.namespaces.is_empty() && self.namespace_selectors.is_empty();
        let by_name = || self.namespaces.contains(&claim.service.namespace);
        let by_label = || self.namespace_selectors.iter().any(|selector| selector.selects(&claim.namespace_labels));
        if !everywhere && !by_name() && !by_label() {
            return Err(Unfit::Namespace);
        }
        let any = self.service_selectors.is_empty();
        if !any && !self.service_selectors.iter().any(|selector| selector.selects(&claim.labels)) {
            return Err(Unfit::Labels);
        }
        Ok(())
    }
}

/// A pool of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: Arc<str>,
    /// The lower is asked first; of equals the first by name. `u32::MAX` where none is given.
    pub priority: u32,
    /// First and last address of each range, both of one family.
    pub ranges: Vec<(IpAddr, IpAddr)>,
    /// Addresses inside the ranges that are never given: first and last of each range.
    pub kept_out: Vec<(IpAddr, IpAddr)>,
    /// Whether `.0` and `.255` are given.
    pub edges: Edges,
    /// Whether it serves without being named.
    pub auto_assign: AutoAssign,
    /// Whether it gives at all.
    pub intake: Intake,
    /// Whom it serves.
    pub admission: Admission,
    /// Who may share an address.
    pub sharing: SharingScope,
    /// How long an address rests before it is given to somebody else.
    pub cool_down: Duration,
}

impl Pool {
    /// A pool with these ranges and nothing else said.
    pub fn new(name: &str, ranges: Vec<(IpAddr, IpAddr)>) -> Self {
        Self {
            name: name.into(),
            priority: u32::MAX,
            ranges,
            kept_out: Vec::new(),
            edges: Edges::default(),
            auto_assign: AutoAssign::default(),
            intake: Intake::default(),
            admission: Admission::default(),
            sharing: SharingScope::default(),
            cool_down: Duration::ZERO,
        }
    }

    /// How its addresses of a family are counted through.
    pub fn numbering(&self, family: Family) -> Numbering {
        match (self.edges, family) {
            (Edges::KeptOut, Family::V4) => Numbering::WithoutEdges,
            (Edges::KeptOut, Family::V6) | (Edges::Given, Family::V4 | Family::V6) => Numbering::All,
        }
    }

    /// The ranges of a family as numbers, ascending and joined.
    pub(super) fn spans(&self, family: Family) -> IntervalSet {
        spans(&self.ranges, family)
    }

    /// The addresses of a family that are kept out by name, as numbers.
    pub(super) fn kept_out(&self, family: Family) -> IntervalSet {
        spans(&self.kept_out, family)
    }
}

fn spans(ranges: &[(IpAddr, IpAddr)], family: Family) -> IntervalSet {
    let mut set = IntervalSet::default();
    for (first, last) in ranges.iter().filter(|(first, last)| [*first, *last].map(Family::of) == [family; 2]) {
        set.insert(number(*first), number(*last));
    }
    set
}
