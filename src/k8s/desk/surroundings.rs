//! News about Nodes, whose addresses are never given, and about Namespaces, whose labels pools select by.

use super::overlaps::overlaps;
use super::{Desk, Footprint, Kind, Moment};
use crate::ipam::{Labels, Uid};
use crate::k8s::due::Key;
use crate::k8s::follow::Told;
use crate::k8s::request::{NamespaceForm, NodeForm, ServiceCidrForm};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use tracing::warn;

impl Desk {
    pub(super) fn take_node(&mut self, told: Told<NodeForm>, now: Moment) {
        match told {
            Told::Listing => self.listed_nodes.begin(),
            Told::Listed(form) => self.listed_nodes.items.push(form),
            Told::Complete => {
                // One that a list no longer has keeps its addresses from being given until its deletion is told: the list may be
                // wrong, and at worst an address of a pool rests that could be given.
                let list = self.listed_nodes.end();
                self.nodes.extend(list.items.iter().filter_map(|form| Some((name(form)?, footprint(form)))));
                self.nodes_changed(now);
                self.complete(Kind::Nodes, now);
            }
            Told::Applied(form) => {
                let Some(name) = name(&form) else { return };
                let footprint = footprint(&form);
                // Nodes report every few minutes; their addresses hardly ever change.
                if self.nodes.get(&name) != Some(&footprint) {
                    self.nodes.insert(name, footprint);
                    self.nodes_changed(now);
                }
            }
            Told::Deleted(identity) => {
                if self.nodes.remove(identity.name.as_str()).is_some() {
                    self.nodes_changed(now);
                }
            }
            Told::Unreadable(bad) => self.listed_nodes.note_unreadable(bad.identity.name),
            Told::Heard | Told::Absent | Told::Failed(_) => {}
        }
    }

    /// Addresses that no Service gets: those of Nodes and of the routers.
    pub(super) fn reserved(&self) -> BTreeSet<IpAddr> {
        let of_nodes = self.nodes.values().flat_map(|node| &node.addresses);
        of_nodes.chain(&self.rules.allocation.peer_addresses).copied().collect()
    }

    pub(super) fn nodes_changed(&mut self, now: Moment) {
        let addresses = self.reserved();
        if let Some(allocator) = &mut self.allocator {
            allocator.set_nodes(addresses, now.civil);
        }
        self.doubt();
    }

    pub(super) fn take_service_cidr(&mut self, told: Told<ServiceCidrForm>) {
        let named = |form: ServiceCidrForm| Some((Arc::from(form.metadata.name.as_deref()?), form.cidrs()));
        match told {
            Told::Listing => self.listed_service_cidrs.begin(),
            Told::Listed(form) => self.listed_service_cidrs.items.push(form),
            Told::Complete => {
                let list = self.listed_service_cidrs.end();
                self.service_cidrs.retain(|name, _| list.unreadable.contains(&**name));
                self.service_cidrs.extend(list.items.into_iter().filter_map(named));
            }
            Told::Applied(form) => self.service_cidrs.extend(named(form)),
            Told::Deleted(identity) => drop(self.service_cidrs.remove(identity.name.as_str())),
            Told::Unreadable(bad) => self.listed_service_cidrs.note_unreadable(bad.identity.name),
            Told::Heard | Told::Absent | Told::Failed(_) => return,
        }
        self.doubt();
    }

    /// Looks for what is doubtful about the pools in this cluster, and says what is new of it.
    pub(super) fn doubt(&mut self) {
        let found = overlaps(&self.rules.allocation.pools, &self.nodes, &self.service_cidrs);
        for doubt in found.iter().filter(|doubt| !self.doubts.contains(doubt)) {
            warn!("{doubt}");
        }
        self.doubts = found;
    }

    pub(super) fn take_namespace(&mut self, told: Told<NamespaceForm>, now: Moment) {
        match told {
            Told::Listing => self.listed_namespaces.begin(),
            Told::Listed(form) => self.listed_namespaces.items.push(form),
            Told::Complete => {
                // One that a list no longer has keeps its labels until its deletion is told: if it is gone, so are its Services, and
                // if it is not, the pools of its Services stay the same.
                let list = self.listed_namespaces.end();
                let former = self.labels.clone();
                for form in list.items {
                    self.label(form);
                }
                let names: BTreeSet<&Arc<str>> = former.keys().chain(self.labels.keys()).collect();
                let differs = |name: &&Arc<str>| former.get(*name) != self.labels.get(*name);
                let differing: BTreeSet<Arc<str>> = names.into_iter().filter(differs).cloned().collect();
                self.judge_namespaces(&differing, now);
                self.complete(Kind::Namespaces, now);
            }
            Told::Applied(form) => {
                if let Some(changed) = self.label(form) {
                    self.judge_namespaces(&BTreeSet::from([changed]), now);
                }
            }
            // Its Services go one by one.
            Told::Deleted(identity) => drop(self.labels.remove(identity.name.as_str())),
            Told::Unreadable(bad) => self.listed_namespaces.note_unreadable(bad.identity.name),
            Told::Heard | Told::Absent | Told::Failed(_) => {}
        }
    }

    /// Notes a Namespace's labels; its name, if they are news.
    fn label(&mut self, form: NamespaceForm) -> Option<Arc<str>> {
        let name: Arc<str> = form.metadata.name?.into();
        let labels: Arc<Labels> = Arc::new(form.metadata.labels.unwrap_or_default());
        let before = self.labels.insert(Arc::clone(&name), Arc::clone(&labels));
        (before != Some(labels)).then_some(name)
    }

    fn judge_namespaces(&mut self, namespaces: &BTreeSet<Arc<str>>, now: Moment) {
        if !self.has_begun() || namespaces.is_empty() {
            return;
        }
        let of_them = self.services.iter().filter(|(_, seen)| namespaces.contains(&seen.service.namespace));
        let uids: Vec<Uid> = of_them.map(|(uid, _)| uid.clone()).collect();
        for uid in uids {
            self.judge(&uid, now);
            self.due.add(Key::Service(uid));
        }
    }
}

fn footprint(form: &NodeForm) -> Footprint {
    Footprint { addresses: form.addresses(), pod_cidrs: form.pod_cidrs() }
}

fn name(form: &NodeForm) -> Option<Arc<str>> {
    form.metadata.name.as_deref().map(Arc::from)
}
