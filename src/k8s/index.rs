//! Everything that is known about the cluster, kept as the view that the planner reads.
//!
//! Synchronous and without a clock: whoever feeds it owns it. The cost of a change is that of the objects it touches; what
//! did not change stays the same memory, also across a re-list. Nothing is given out before every kind was listed once.
//!
//! What goes missing because a list, a folder or a file came back without it is believed, and kept beside it until
//! [`Index::accept`]: whoever guards the routes must know it from what an event deleted.

use super::object::{Key, Kind, Object, Reading, Slice, SliceKey};
use crate::advertise::{ClusterView, Endpoint, Missing, Node, Observation, Service, ServiceKey};
use imbl::{OrdMap, OrdSet};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The index of one source.
#[derive(Debug, Default)]
pub struct Index {
    believed: Objects,
    doubtful: Doubtful,
    /// Objects that went missing by inference, ever.
    step: u64,
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

/// What is missing by inference alone and was not accepted yet.
#[derive(Debug, Default)]
enum Doubtful {
    #[default]
    Nothing,
    /// `missing` are not believed to be there, or to have less than in `kept`; never empty.
    Objects { kept: Objects, missing: BTreeSet<Key>, names: Option<Arc<[String]>> },
}

/// Objects, and the view that they make. A clone costs nothing.
#[derive(Debug, Clone, Default)]
struct Objects {
    view: ClusterView,
    slices: OrdMap<SliceKey, Slice>,
    slices_of: OrdMap<ServiceKey, OrdSet<SliceKey>>,
}

impl Index {
    /// An event: one object is now so.
    pub fn apply(&mut self, object: Object) {
        self.found_again(&object.key());
        if let Doubtful::Objects { kept, .. } = &mut self.doubtful {
            kept.apply(object.clone());
        }
        let changed = self.believed.apply(object);
        self.note(changed);
    }

    /// An event: one object is gone. One that was never held is none of our business.
    pub fn delete(&mut self, key: &Key) {
        self.found_again(key);
        if let Doubtful::Objects { kept, .. } = &mut self.doubtful {
            let changed = kept.delete(key);
            self.note(changed);
        }
        let changed = self.believed.delete(key);
        self.note(changed);
    }

    /// What an event said of one object.
    pub fn take(&mut self, reading: Reading) {
        match reading {
            Reading::Held(object) => self.apply(object),
            Reading::Irrelevant(key) => self.delete(&key),
            Reading::Bad(_) | Reading::Nameless => {}
        }
    }

    /// One object is so by a list, a folder or a file. What it has less than before is missing by inference.
    pub fn infer(&mut self, object: Object) {
        let before = match &self.doubtful {
            Doubtful::Objects { kept, .. } => kept,
            Doubtful::Nothing => &self.believed,
        };
        if !before.has_more_than(&object) {
            return self.apply(object);
        }
        if self.believed.has(&object) {
            return; // missing for longer, and nothing new
        }
        self.doubt(object.key());
        let changed = self.believed.apply(object);
        self.note(changed);
    }

    /// A list, a folder or a file no longer has one object.
    pub fn infer_gone(&mut self, key: &Key) {
        if self.believed.holds(key) {
            self.doubt(key.clone());
            let changed = self.believed.delete(key);
            self.note(changed);
        }
    }

    /// A complete list of one kind: what is not on it is gone, what is bad on it keeps its last good state.
    pub fn reset(&mut self, kind: Kind, readings: Vec<Reading>) {
        let listed: BTreeSet<Key> = readings.iter().filter_map(Reading::present).collect();
        // There, and deciding nothing: that is said of the object itself.
        let irrelevant: BTreeSet<Key> = readings.iter().filter_map(Reading::irrelevant).collect();
        for key in self.keys(kind).filter(|key| !listed.contains(key)).collect::<Vec<_>>() {
            match irrelevant.contains(&key) {
                true => self.delete(&key),
                false => self.infer_gone(&key),
            }
        }
        for reading in readings {
            match reading {
                Reading::Held(object) => self.infer(object),
                Reading::Irrelevant(_) | Reading::Bad(_) | Reading::Nameless => self.take(reading),
            }
        }
        if self.listed.insert(kind) {
            self.news = News::Changed; // an empty list is news, too, when it is the first
        }
    }

    /// What was missing by inference in the observation with this step is accepted as gone.
    pub fn accept(&mut self, step: u64) {
        if step >= self.step && !matches!(self.doubtful, Doubtful::Nothing) {
            self.doubtful = Doubtful::Nothing;
            self.news = News::Changed;
        }
    }

    /// The keys held of one kind.
    pub fn keys(&self, kind: Kind) -> Box<dyn Iterator<Item = Key> + '_> {
        let Objects { view, slices, .. } = &self.believed;
        match kind {
            Kind::Service => Box::new(view.services.keys().cloned().map(Key::Service)),
            Kind::EndpointSlice => Box::new(slices.keys().cloned().map(Key::Slice)),
            Kind::Node => Box::new(view.nodes.keys().cloned().map(Key::Node)),
            Kind::Allocation => Box::new(view.grants.keys().copied().map(Key::Allocation)),
        }
    }

    /// How many objects of a kind are held.
    pub fn count(&self, kind: Kind) -> usize {
        let Objects { view, slices, .. } = &self.believed;
        match kind {
            Kind::Service => view.services.len(),
            Kind::EndpointSlice => slices.len(),
            Kind::Node => view.nodes.len(),
            Kind::Allocation => view.grants.len(),
        }
    }

    /// The view, if it changed since it was last asked for and every kind was listed.
    pub fn poll_view(&mut self) -> Option<Arc<Observation>> {
        if self.news == News::Nothing || self.listed.len() < Kind::ALL.len() {
            return None;
        }
        self.news = News::Nothing;
        let missing = match &mut self.doubtful {
            Doubtful::Nothing => Missing::Nothing,
            Doubtful::Objects { kept, missing, names } => {
                let names = names.get_or_insert_with(|| missing.iter().map(ToString::to_string).collect());
                Missing::Objects { kept: kept.view.clone(), names: Arc::clone(names), step: self.step }
            }
        };
        Some(Arc::new(Observation { view: self.believed.view.clone(), missing }))
    }

    /// This one goes missing: what is held before that is kept.
    fn doubt(&mut self, key: Key) {
        self.step += 1;
        self.news = News::Changed;
        match &mut self.doubtful {
            Doubtful::Objects { missing, names, .. } => {
                missing.insert(key);
                *names = None;
            }
            Doubtful::Nothing => {
                let kept = self.believed.clone();
                self.doubtful = Doubtful::Objects { kept, missing: BTreeSet::from([key]), names: None };
            }
        }
    }

    /// It was heard of: it is no longer missing by inference.
    fn found_again(&mut self, key: &Key) {
        if let Doubtful::Objects { missing, names, .. } = &mut self.doubtful
            && missing.remove(key)
        {
            *names = None;
            self.news = News::Changed;
            if missing.is_empty() {
                self.doubtful = Doubtful::Nothing;
            }
        }
    }

    fn note(&mut self, changed: bool) {
        if changed {
            self.news = News::Changed;
        }
    }
}

impl Objects {
    /// Whether the view changed.
    fn apply(&mut self, object: Object) -> bool {
        let view = &mut self.view;
        match object {
            Object::Service(key, service) => put(&mut view.services, key, service),
            Object::Slice(key, slice) => self.apply_slice(key, slice),
            Object::Node(name, node) => put(&mut view.nodes, name, node),
            Object::Allocation(address, grant) => put(&mut view.grants, address, grant),
        }
    }

    /// Whether the view changed.
    fn delete(&mut self, key: &Key) -> bool {
        match key {
            Key::Service(key) => self.view.services.remove(key).is_some(),
            Key::Node(name) => self.view.nodes.remove(name).is_some(),
            Key::Allocation(address) => self.view.grants.remove(address).is_some(),
            Key::Slice(key) => match self.slices.remove(key) {
                Some(slice) => {
                    self.unlink(key, &slice.service);
                    self.merge(&slice.service)
                }
                None => false,
            },
        }
    }

    fn holds(&self, key: &Key) -> bool {
        match key {
            Key::Service(key) => self.view.services.contains_key(key),
            Key::Node(name) => self.view.nodes.contains_key(name),
            Key::Allocation(address) => self.view.grants.contains_key(address),
            Key::Slice(key) => self.slices.contains_key(key),
        }
    }

    /// Whether exactly this is held, of a kind that can be lessened.
    fn has(&self, object: &Object) -> bool {
        match object {
            Object::Node(name, node) => self.view.nodes.get(name) == Some(node),
            Object::Service(key, service) => self.view.services.get(key) == Some(service),
            Object::Slice(..) | Object::Allocation(..) => false,
        }
    }

    /// Whether a label of a Node or an address of a Service is held that is not there any more. What endpoints do is a condition, and
    /// conditions are never doubted.
    fn has_more_than(&self, object: &Object) -> bool {
        match object {
            Object::Node(name, node) => self.view.nodes.get(name).is_some_and(|held| has_more_labels(held, node)),
            Object::Service(key, service) => {
                self.view.services.get(key).is_some_and(|held| has_more_addresses(held, service))
            }
            Object::Slice(..) | Object::Allocation(..) => false,
        }
    }

    fn apply_slice(&mut self, key: SliceKey, slice: Slice) -> bool {
        let service = slice.service.clone();
        let before = self.slices.insert(key.clone(), slice);
        let mut changed = false;
        match before {
            Some(before) if before.service == service => {}
            Some(before) => {
                // Its label was changed: it serves another service now.
                self.unlink(&key, &before.service);
                changed = self.merge(&before.service);
                self.slices_of.entry(service.clone()).or_default().insert(key);
            }
            None => {
                self.slices_of.entry(service.clone()).or_default().insert(key);
            }
        }
        self.merge(&service) || changed
    }

    fn unlink(&mut self, key: &SliceKey, service: &ServiceKey) {
        if let Some(slices) = self.slices_of.get_mut(service) {
            slices.remove(key);
            if slices.is_empty() {
                self.slices_of.remove(service);
            }
        }
    }

    /// Takes all slices of a service together again; whether the view changed.
    fn merge(&mut self, service: &ServiceKey) -> bool {
        let slices = self.slices_of.get(service).into_iter().flatten().map(|key| &self.slices[key].endpoints);
        let merged = union(slices).filter(|endpoints| !endpoints.is_empty());
        if self.view.endpoints.get(service) == merged.as_ref() {
            return false;
        }
        match merged {
            Some(endpoints) => self.view.endpoints.insert(service.clone(), endpoints),
            None => self.view.endpoints.remove(service),
        };
        true
    }
}

/// Holds a value; whether that is new.
fn put<K: Ord + Clone, V: PartialEq + Clone>(held: &mut OrdMap<K, V>, key: K, value: V) -> bool {
    let changed = held.get(&key) != Some(&value);
    if changed {
        held.insert(key, value);
    }
    changed
}

fn has_more_labels(held: &Node, now: &Node) -> bool {
    held.labels.keys().any(|label| !now.labels.contains_key(label))
}

fn has_more_addresses(held: &Service, now: &Service) -> bool {
    held.ingress.iter().any(|entry| !now.ingress.iter().any(|other| other.ip == entry.ip))
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
