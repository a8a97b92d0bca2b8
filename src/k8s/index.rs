//! Everything that is known about the cluster, kept as the view that the planner reads.
//!
//! Synchronous and without a clock: whoever feeds it owns it. The cost of a change is that of the objects it touches; what
//! did not change stays the same memory, also across a re-list. Nothing is given out before every kind was listed once.

use super::object::{Key, Kind, Object, Reading, Slice, SliceKey};
use crate::advertise::{ClusterView, Endpoint, ServiceKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The index of one source.
#[derive(Debug, Default)]
pub struct Index {
    view: ClusterView,
    slices: BTreeMap<SliceKey, Slice>,
    slices_of: BTreeMap<ServiceKey, BTreeSet<SliceKey>>,
    listed: BTreeSet<Kind>,
    news: News,
}

/// Whether the view differs from the one last given out.
#[derive(Debug, Default, PartialEq, Eq)]
enum News {
    #[default]
    Nothing,
    Changed,
}

impl Index {
    /// One object is now so.
    pub fn apply(&mut self, object: Object) {
        match object {
            Object::Service(key, service) => {
                if self.view.services.get(&key) != Some(&service) {
                    self.view.services.insert(key, service);
                    self.news = News::Changed;
                }
            }
            Object::Slice(key, slice) => self.apply_slice(key, slice),
            Object::Node(name, node) => {
                if self.view.nodes.get(&name) != Some(&node) {
                    self.view.nodes.insert(name, node);
                    self.news = News::Changed;
                }
            }
            Object::Allocation(address, grant) => {
                if self.view.grants.get(&address) != Some(&grant) {
                    self.view.grants.insert(address, grant);
                    self.news = News::Changed;
                }
            }
        }
    }

    /// One object is gone. One that was never held is none of our business.
    pub fn delete(&mut self, key: &Key) {
        let removed = match key {
            Key::Service(key) => self.view.services.remove(key).is_some(),
            Key::Node(name) => self.view.nodes.remove(name).is_some(),
            Key::Allocation(address) => self.view.grants.remove(address).is_some(),
            Key::Slice(key) => {
                if let Some(slice) = self.slices.remove(key) {
                    self.unlink(key, &slice.service);
                    self.merge(&slice.service);
                }
                return; // `merge` knows whether anything changed
            }
        };
        if removed {
            self.news = News::Changed;
        }
    }

    /// What became of one object.
    pub fn take(&mut self, reading: Reading) {
        match reading {
            Reading::Held(object) => self.apply(object),
            Reading::Irrelevant(key) => self.delete(&key),
            Reading::Bad(_) | Reading::Nameless => {}
        }
    }

    /// A complete list of one kind: what is not on it is gone, what is bad on it keeps its last good state.
    pub fn reset(&mut self, kind: Kind, readings: Vec<Reading>) {
        let listed: BTreeSet<Key> = readings.iter().filter_map(Reading::present).collect();
        for key in self.keys(kind).filter(|key| !listed.contains(key)).collect::<Vec<_>>() {
            self.delete(&key);
        }
        for reading in readings {
            self.take(reading);
        }
        if self.listed.insert(kind) {
            self.news = News::Changed; // an empty list is news, too, when it is the first
        }
    }

    /// The keys held of one kind.
    pub fn keys(&self, kind: Kind) -> Box<dyn Iterator<Item = Key> + '_> {
        match kind {
            Kind::Service => Box::new(self.view.services.keys().cloned().map(Key::Service)),
            Kind::EndpointSlice => Box::new(self.slices.keys().cloned().map(Key::Slice)),
            Kind::Node => Box::new(self.view.nodes.keys().cloned().map(Key::Node)),
            Kind::Allocation => Box::new(self.view.grants.keys().copied().map(Key::Allocation)),
        }
    }

    /// How many objects of a kind are held.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Service => self.view.services.len(),
            Kind::EndpointSlice => self.slices.len(),
            Kind::Node => self.view.nodes.len(),
            Kind::Allocation => self.view.grants.len(),
        }
    }

    /// The view, if it changed since it was last asked for and every kind was listed.
    pub fn poll_view(&mut self) -> Option<Arc<ClusterView>> {
        if self.news == News::Nothing || self.listed.len() < Kind::ALL.len() {
            return None;
        }
        self.news = News::Nothing;
        Some(Arc::new(self.view.clone()))
    }

    fn apply_slice(&mut self, key: SliceKey, slice: Slice) {
        let service = slice.service.clone();
        let before = self.slices.insert(key.clone(), slice);
        match before {
            Some(before) if before.service == service => {}
            Some(before) => {
                // Its label was changed: it serves another service now.
                self.unlink(&key, &before.service);
                self.merge(&before.service);
                self.slices_of.entry(service.clone()).or_default().insert(key);
            }
            None => {
                self.slices_of.entry(service.clone()).or_default().insert(key);
            }
        }
        self.merge(&service);
    }

    fn unlink(&mut self, key: &SliceKey, service: &ServiceKey) {
        if let Some(slices) = self.slices_of.get_mut(service) {
            slices.remove(key);
            if slices.is_empty() {
                self.slices_of.remove(service);
            }
        }
    }

    /// Takes all slices of a service together again.
    fn merge(&mut self, service: &ServiceKey) {
        let slices = self.slices_of.get(service).into_iter().flatten().map(|key| &self.slices[key].endpoints);
        let merged = union(slices).filter(|endpoints| !endpoints.is_empty());
        if self.view.endpoints.get(service) == merged.as_ref() {
            return;
        }
        match merged {
            Some(endpoints) => self.view.endpoints.insert(service.clone(), endpoints),
            None => self.view.endpoints.remove(service),
        };
        self.news = News::Changed;
    }
}

/// All endpoints of these sets; a single set is shared, not copied. `None` where there is no set.
fn union<'a>(mut sets: impl Iterator<Item = &'a Arc<BTreeSet<Endpoint>>>) -> Option<Arc<BTreeSet<Endpoint>>> {
    let first = sets.next()?.clone();
    let Some(second) = sets.next() else { return Some(first) };
    let mut all = BTreeSet::clone(&first);
    all.extend(second.iter().cloned());
    all.extend(sets.flat_map(|set| set.iter().cloned()));
    Some(Arc::new(all))
}
