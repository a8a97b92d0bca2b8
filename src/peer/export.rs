//! What an Established session sends: the Adj-RIB-Out with its way out.

use super::next_hop;
use super::seam::{Extent, LocalEnd, Plan};
use super::settings::{Role, Settings};
use super::status::{EndOfRib, Limit, Room};
use crate::fsm::{Negotiated, Refresh};
use crate::planted::{Bug, planted};
use crate::rib::{AdjRibOut, Admission, Apart, Bounds, Egress, PrefixLimits};
use crate::wire::route_refresh::RefreshKind;
use crate::wire::{Asn, Context, Family, Message, Prefix, RouteRefresh};
use bytes::BytesMut;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

/// Barred routes named in the status.
const BARRED_NAMED: usize = 8;

/// Messages that one step of writing appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// UPDATEs.
    pub(super) updates: u64,
    /// Beginnings and ends of an answer (RFC 7313), ROUTE-REFRESH messages.
    pub(super) marks: u64,
}

/// What RFC 9234 §5 adds to routes towards a customer, a peer or a client of our route server.
fn only_to_customer(settings: &Settings) -> Option<Asn> {
    match settings.neighbor.role? {
        Role::Provider | Role::Peer | Role::RouteServer => Some(settings.identity.asn),
        Role::Customer | Role::RouteServerClient | Role::Unassigned(_) => None,
    }
}

/// The sending half of an Established session.
#[derive(Debug, Clone)]
pub(super) struct Export {
    egress: Egress,
    adj_out: AdjRibOut,
    /// Families that the peer asked for again (RFC 2918); answered when there is room, however often it asked.
    asked: BTreeSet<Family>,
    /// Families that are being sent again, their end not marked yet (RFC 7313).
    open: BTreeSet<Family>,
    refresh: Refresh,
    /// Families offered by us of which nothing can be announced, and why.
    unannounced: BTreeMap<Family, String>,
    end_of_rib: EndOfRib,
}

impl Export {
    pub(super) fn new(settings: &Settings, negotiated: &Negotiated, end: &LocalEnd, plan: Option<&Plan>) -> Self {
        let context = negotiated.context.clone();
        let mut export = Self {
            adj_out: AdjRibOut::new(context.families.iter().copied()),
            asked: BTreeSet::new(),
            open: BTreeSet::new(),
            refresh: negotiated.refresh,
            unannounced: settings
                .neighbor
                .families
                .difference(&context.families)
                .map(|family| (*family, format!("the peer did not offer {family}")))
                .collect(),
            egress: Egress {
                asn: settings.identity.asn,
                context,
                next_hops: BTreeMap::new(),
                link_locals: BTreeMap::new(),
                bounds: Bounds::default(),
                only_to_customer: only_to_customer(settings),
                remote: end.remote.ip(),
            },
            end_of_rib: EndOfRib::Pending,
        };
        let nothing = Plan::default();
        export.relocate(end, plan.unwrap_or(&nothing));
        if let Some(plan) = plan {
            export.confine(&plan.bounds);
        }
        export
    }

    /// Chooses next hops anew. What went out with another one goes out again, or is withdrawn.
    pub(super) fn relocate(&mut self, end: &LocalEnd, plan: &Plan) {
        let families = &self.egress.context.families;
        let chosen = next_hop::choose(&self.egress.context, end, plan);
        for family in families {
            let same = self.egress.next_hops.get(family) == chosen.found.get(family)
                && self.egress.link_locals.get(family) == chosen.link_locals.get(family);
            if !same {
                self.adj_out.forget(*family, &self.egress);
            }
            self.unannounced.remove(family);
        }
        self.unannounced.extend(chosen.missing);
        self.egress.next_hops = chosen.found;
        self.egress.link_locals = chosen.link_locals;
    }

    /// Takes other bounds. What they judge otherwise goes out, or is withdrawn; nothing else is sent again.
    pub(super) fn confine(&mut self, bounds: &Bounds) {
        match self.egress.bounds.apart(bounds) {
            Apart::Everywhere => {
                let differs = |prefix: &Prefix| self.egress.bounds.permit(prefix) != bounds.permit(prefix);
                self.adj_out.forget_where(differs, &self.egress);
            }
            Apart::At(prefixes) if prefixes.is_empty() => return,
            Apart::At(prefixes) => self.adj_out.forget_these(&prefixes, &self.egress),
        }
        self.egress.bounds = bounds.clone();
    }

    /// The peer asks for a family again. One that was not negotiated is ignored (RFC 2918 §4).
    pub(super) fn refresh(&mut self, family: Family) {
        if self.egress.context.families.contains(&family) {
            self.asked.insert(family);
        }
    }

    /// Appends what leads to as much of the plan as `admission` lets through; see [`AdjRibOut::write`]. Families that were asked for again go between two marks
    /// where the peer knows them, and not before the first table is out (RFC 7313 §4.1).
    pub(super) fn write(
        &mut self,
        plan: &Plan,
        admission: &mut Admission,
        out: &mut BytesMut,
        limit: usize,
        now: Instant,
    ) -> Written {
        let mut written = Written { updates: 0, marks: 0 };
        if planted(Bug::ForeignFamilyAwaited) && !self.unannounced.is_empty() {
            return written;
        }
        let held_back = self.refresh == Refresh::Marked && !self.adj_out.is_initial_table_sent();
        if out.len() < limit && !held_back {
            for family in std::mem::take(&mut self.asked) {
                self.adj_out.forget(family, &self.egress);
                // Asked again before the end of the last answer: a new beginning replaces the old one.
                if self.refresh == Refresh::Marked {
                    written.marks += self.mark(family, RefreshKind::Begin, out);
                    self.open.insert(family);
                }
            }
        }
        let admitted = admission.admit(&plan.routes, &self.egress, &plan.prefix_limits);
        written.updates = match plan.extent {
            Extent::Whole => self.adj_out.write(admitted, &self.egress, out, limit),
            Extent::Doubtful => self.adj_out.write_routes(admitted, &self.egress, out, limit),
        };
        // Room left over means that nothing is left to be sent.
        if out.len() < limit {
            for family in std::mem::take(&mut self.open) {
                written.marks += self.mark(family, RefreshKind::End, out);
            }
        }
        if self.end_of_rib == EndOfRib::Pending && self.adj_out.is_initial_table_sent() {
            self.end_of_rib = EndOfRib::Sent(now);
        }
        written
    }

    fn mark(&self, family: Family, kind: RefreshKind, out: &mut BytesMut) -> u64 {
        let mark = Message::RouteRefresh(RouteRefresh::new(family, kind));
        mark.encode(&self.egress.context, out).expect("a ROUTE-REFRESH has 23 octets");
        1
    }

    /// Appends withdrawals of all that the peer holds, at whatever length.
    pub(super) fn write_withdrawals(&mut self, out: &mut BytesMut) -> u64 {
        self.adj_out.write_withdrawals(&self.egress, out)
    }

    /// What the session agreed on.
    pub(super) fn context(&self) -> &Context {
        &self.egress.context
    }

    pub(super) fn next_hops(&self) -> &BTreeMap<Family, IpAddr> {
        &self.egress.next_hops
    }

    pub(super) fn unannounced(&self) -> &BTreeMap<Family, String> {
        &self.unannounced
    }

    pub(super) fn advertised(&self) -> &BTreeMap<Family, usize> {
        self.adj_out.counts()
    }

    pub(super) fn end_of_rib(&self) -> EndOfRib {
        self.end_of_rib
    }

    /// Where each family of the session stands that has a limit.
    pub(super) fn limits(&self, limits: &PrefixLimits, admission: &Admission) -> BTreeMap<Family, Limit> {
        let of = |family: &Family| {
            let accepts = *limits.0.get(family)?;
            let held_back = admission.held_back().get(family).cloned().unwrap_or_default();
            let room = match held_back.is_empty() {
                false => Room::Full,
                true if limits.is_near(*family, admission.count(*family)) => Room::Scarce,
                true => Room::Ample,
            };
            Some((*family, Limit { accepts, most: limits.most(*family), held_back, room }))
        };
        self.egress.context.families.iter().filter_map(of).collect()
    }

    pub(super) fn barred(&self) -> Vec<String> {
        let barred = self.adj_out.barred().iter().take(BARRED_NAMED);
        barred.map(|(prefix, why)| format!("{prefix}: {}", why.name())).collect()
    }
}
