//! What an Established session sends: the Adj-RIB-Out with its way out.

use super::next_hop;
use super::seam::LocalEnd;
use super::settings::Settings;
use super::status::EndOfRib;
use crate::fsm::Negotiated;
use crate::rib::{AdjRibOut, Egress, RouteSet};
use crate::wire::Family;
use bytes::BytesMut;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

/// Barred routes named in the status.
const BARRED_NAMED: usize = 8;

/// The sending half of an Established session.
#[derive(Debug)]
pub(super) struct Export {
    egress: Egress,
    adj_out: AdjRibOut,
    /// Families that the peer asked for again (RFC 2918); answered when there is room, however often it asked.
    refresh: BTreeSet<Family>,
    /// Families offered by us of which nothing can be announced, and why.
    unannounced: BTreeMap<Family, String>,
    end_of_rib: EndOfRib,
}

impl Export {
    pub(super) fn new(settings: &Settings, negotiated: &Negotiated, end: &LocalEnd, node_addresses: &[IpAddr]) -> Self {
        let context = negotiated.context.clone();
        let mut export = Self {
            adj_out: AdjRibOut::new(context.families.iter().copied()),
            refresh: BTreeSet::new(),
            unannounced: settings
                .neighbor
                .families
                .difference(&context.families)
                .map(|family| (*family, format!("the peer did not offer {family}")))
                .collect(),
            egress: Egress { asn: settings.identity.asn, context, next_hops: BTreeMap::new() },
            end_of_rib: EndOfRib::Pending,
        };
        export.relocate(end, node_addresses);
        export
    }

    /// Chooses next hops anew. What went out with another one goes out again, or is withdrawn.
    pub(super) fn relocate(&mut self, end: &LocalEnd, node_addresses: &[IpAddr]) {
        let families = &self.egress.context.families;
        let chosen = next_hop::choose(families, end, node_addresses);
        for family in families {
            if self.egress.next_hops.get(family) != chosen.found.get(family) {
                self.adj_out.forget(*family, &self.egress);
            }
            self.unannounced.remove(family);
        }
        self.unannounced.extend(chosen.missing);
        self.egress.next_hops = chosen.found;
    }

    /// The peer asks for a family again. One that was not negotiated is ignored (RFC 2918 §4).
    pub(super) fn refresh(&mut self, family: Family) {
        if self.egress.context.families.contains(&family) {
            self.refresh.insert(family);
        }
    }

    /// Appends what leads to `wanted`; see [`AdjRibOut::write`].
    pub(super) fn write(&mut self, wanted: &RouteSet, out: &mut BytesMut, limit: usize, now: Instant) -> u64 {
        if out.len() < limit {
            for family in std::mem::take(&mut self.refresh) {
                self.adj_out.forget(family, &self.egress);
            }
        }
        let messages = self.adj_out.write(wanted, &self.egress, out, limit);
        if self.end_of_rib == EndOfRib::Pending && self.adj_out.is_initial_table_sent() {
            self.end_of_rib = EndOfRib::Sent(now);
        }
        messages
    }

    /// Appends withdrawals of all that the peer holds, at whatever length.
    pub(super) fn write_withdrawals(&mut self, out: &mut BytesMut) -> u64 {
        self.adj_out.write_withdrawals(&self.egress, out)
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

    pub(super) fn barred(&self) -> Vec<String> {
        let barred = self.adj_out.barred().iter().take(BARRED_NAMED);
        barred.map(|(prefix, why)| format!("{prefix}: {}", why.name())).collect()
    }
}
