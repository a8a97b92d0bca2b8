//! The index against a model that computes the view from scratch.

use herald::advertise::cluster::{Lifecycle, Network};
use herald::advertise::{
    ClusterView, Endpoint, Grant, Ingress, IpMode, Missing, Node, Observation, Service, ServiceKey, TrafficPolicy,
};
use herald::k8s::{Index, Key, Kind, Object, Reading, Slice, SliceKey};
use herald::wire::Family;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn service_key(n: u8) -> ServiceKey {
    ServiceKey { namespace: format!("ns{}", n % 2).into(), name: format!("service{n}").into() }
}

fn service(n: u8, variant: u8) -> Object {
    let policy = if variant.is_multiple_of(2) { TrafficPolicy::Cluster } else { TrafficPolicy::Local };
    let ingress = vec![Ingress { ip: [198, 51, 100, variant].into(), mode: IpMode::Vip }];
    let (uid, lifecycle) = ("u".into(), Lifecycle::Live);
    let service = Service { uid, load_balancer_class: None, ingress, traffic_policy: policy, lifecycle };
    Object::Service(service_key(n), Arc::new(service))
}

fn slice_key(n: u8) -> SliceKey {
    SliceKey { namespace: "ns0".into(), name: format!("slice{n}").into() }
}

fn slice(n: u8, of: u8, nodes: &BTreeSet<u8>) -> Object {
    let endpoints = nodes
        .iter()
        .map(|n| Endpoint { family: Family::IPV4_UNICAST, node: (*n > 0).then(|| format!("n{n}").into()) })
        .collect();
    Object::Slice(slice_key(n), Slice { service: service_key(of), endpoints: Arc::new(endpoints) })
}

fn node(n: u8, variant: u8) -> Object {
    let network = if variant.is_multiple_of(2) { Network::Available } else { Network::Unavailable };
    let node = Node { labels: BTreeMap::new(), internal_ips: vec![[172, 30, 0, n].into()], network, ..Node::default() };
    Object::Node(format!("n{n}").into(), Arc::new(node))
}

fn allocation(n: u8, of: u8) -> Object {
    let grant = Grant { pool: "edge".into(), holders: BTreeSet::from([(service_key(of), "u".into())]) };
    Object::Allocation([198, 51, 100, n].into(), Arc::new(grant))
}

fn object() -> impl Strategy<Value = Object> {
    prop_oneof![
        (0..4u8, 0..3u8).prop_map(|(n, variant)| service(n, variant)),
        (0..5u8, 0..3u8, prop::collection::btree_set(0..4u8, 1..4)).prop_map(|(n, of, nodes)| slice(n, of, &nodes)),
        (0..3u8, 0..2u8).prop_map(|(n, variant)| node(n, variant)),
        (0..3u8, 0..4u8).prop_map(|(n, of)| allocation(n, of)),
    ]
}

fn reading() -> impl Strategy<Value = Reading> {
    prop_oneof![
        6 => object().prop_map(Reading::Held),
        1 => object().prop_map(|object| Reading::Irrelevant(object.key())),
        1 => object().prop_map(|object| Reading::Bad(object.key())),
        1 => Just(Reading::Nameless),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Take(Reading),
    Delete(Key),
    Reset(Kind, Vec<Reading>),
    /// What is held of a kind, listed again.
    Relist(Kind),
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => reading().prop_map(Step::Take),
        2 => object().prop_map(|object| Step::Delete(object.key())),
        2 => (kind(), prop::collection::vec(reading(), 0..8)).prop_map(|(kind, readings)| Step::Reset(kind, readings)),
        1 => kind().prop_map(Step::Relist),
    ]
}

/// The model: what is there, and which kinds were listed.
#[derive(Default)]
struct Model {
    objects: BTreeMap<Key, Object>,
    /// Gone from a list.
    missing: BTreeMap<Key, Object>,
    listed: BTreeSet<&'static str>,
}

impl Model {
    fn take(&mut self, reading: Reading) {
        match &reading {
            Reading::Held(object) => drop(self.missing.remove(&object.key())),
            Reading::Irrelevant(key) => drop(self.missing.remove(key)),
            Reading::Bad(_) | Reading::Nameless => {}
        }
        match reading {
            Reading::Held(object) => drop(self.objects.insert(object.key(), object)),
            Reading::Irrelevant(key) => drop(self.objects.remove(&key)),
            Reading::Bad(_) | Reading::Nameless => {}
        }
    }

    fn reset(&mut self, kind: Kind, readings: Vec<Reading>) {
        let listed: BTreeSet<Key> = readings.iter().filter_map(Reading::present).collect();
        let stays = |key: &Key| key.kind() != kind || listed.contains(key);
        // What was missing of it before stays missing.
        for (key, object) in self.objects.iter().filter(|(key, _)| !stays(key)) {
            self.missing.entry(key.clone()).or_insert_with(|| object.clone());
        }
        self.objects.retain(|key, _| stays(key));
        for reading in readings {
            let lesser = match &reading {
                Reading::Held(object) => {
                    let key = object.key();
                    let before = self.missing.get(&key).or_else(|| self.objects.get(&key));
                    before.filter(|before| has_more(before, object)).cloned().map(|before| (key, before))
                }
                Reading::Irrelevant(_) | Reading::Bad(_) | Reading::Nameless => None,
            };
            self.take(reading);
            self.missing.extend(lesser);
        }
        self.listed.insert(kind.as_str());
    }

    fn of_kind(&self, kind: Kind) -> Vec<Reading> {
        let of_kind = self.objects.values().filter(|object| object.key().kind() == kind);
        of_kind.cloned().map(Reading::Held).collect()
    }

    fn missing(&self) -> Vec<String> {
        self.missing.keys().map(ToString::to_string).collect()
    }

    /// From scratch.
    fn view(&self) -> ClusterView {
        let mut view = ClusterView::default();
        let mut endpoints: BTreeMap<ServiceKey, BTreeSet<Endpoint>> = BTreeMap::new();
        for object in self.objects.values() {
            match object {
                Object::Service(key, service) => drop(view.services.insert(key.clone(), service.clone())),
                Object::Node(name, node) => drop(view.nodes.insert(name.clone(), node.clone())),
                Object::Allocation(address, grant) => drop(view.grants.insert(*address, grant.clone())),
                Object::Slice(_, slice) => {
                    endpoints.entry(slice.service.clone()).or_default().extend(slice.endpoints.iter().cloned());
                }
            }
        }
        view.endpoints = endpoints.into_iter().map(|(key, set)| (key, Arc::new(set))).collect();
        view
    }
}

fn has_more(before: &Object, now: &Object) -> bool {
    match (before, now) {
        (Object::Service(_, before), Object::Service(_, now)) => before.ingress != now.ingress,
        _ => false,
    }
}

fn missing(given: Option<&Observation>) -> Vec<String> {
    match given.map(|given| &given.missing) {
        Some(Missing::Objects { names, .. }) => names.to_vec(),
        Some(Missing::Nothing) | None => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Whatever happened, the view is the one from scratch; nothing is given out before every kind was listed; what is
    /// given out is given out once; a list that says nothing new wakes nobody.
    #[test]
    fn any_history_gives_the_view_from_scratch(steps in prop::collection::vec(step(), 1..40)) {
        let (mut index, mut model) = (Index::default(), Model::default());
        let mut given = None;
        for step in steps {
            let quiet = match step {
                Step::Take(reading) => {
                    index.take(reading.clone());
                    model.take(reading);
                    false
                }
                Step::Delete(key) => {
                    index.delete(&key);
                    model.take(Reading::Irrelevant(key));
                    false
                }
                // A list holds objects of one kind; foreign ones would be a caller's mistake.
                Step::Reset(kind, readings) => {
                    let readings: Vec<Reading> = readings.into_iter().filter(|reading| match reading {
                        Reading::Held(object) => object.key().kind() == kind,
                        Reading::Irrelevant(key) | Reading::Bad(key) => key.kind() == kind,
                        Reading::Nameless => true,
                    }).collect();
                    index.reset(kind, readings.clone());
                    model.reset(kind, readings);
                    false
                }
                Step::Relist(kind) => {
                    let known = model.listed.contains(kind.as_str());
                    index.reset(kind, model.of_kind(kind));
                    model.reset(kind, model.of_kind(kind));
                    known && given.is_some()
                }
            };
            let expected = model.view();
            let polled = index.poll_view();
            if model.listed.len() < 4 {
                prop_assert_eq!(&polled, &None);
            } else {
                match polled {
                    Some(view) => {
                        prop_assert_eq!(&view.view, &expected);
                        prop_assert!(!quiet, "the same list again was given out as news");
                        given = Some(view);
                        prop_assert_eq!(missing(given.as_deref()), model.missing());
                    }
                    None => prop_assert_eq!(given.as_ref().map(|given| &given.view), Some(&expected)),
                }
            }
            prop_assert_eq!(index.poll_view(), None);
            for kind in Kind::ALL {
                prop_assert_eq!(index.count(kind), model.of_kind(kind).len());
            }
        }
    }
}

/// An index that has listed three services with an endpoint each, and one node.
fn filled() -> Index {
    let mut index = Index::default();
    index.reset(Kind::Service, (0..3).map(|n| Reading::Held(service(n, 0))).collect());
    index.reset(Kind::EndpointSlice, (0..3).map(|n| Reading::Held(slice(n, n, &[1].into()))).collect());
    assert_eq!(index.poll_view(), None, "nodes are not listed yet");
    index.reset(Kind::Node, vec![Reading::Held(node(1, 0))]);
    assert_eq!(index.poll_view(), None, "what was given is not listed yet");
    index.reset(Kind::Allocation, vec![Reading::Held(allocation(1, 1))]);
    index
}

#[test]
fn a_relist_keeps_what_did_not_change_in_place() {
    let mut index = filled();
    let before = index.poll_view().unwrap();
    index.reset(Kind::Service, vec![Reading::Held(service(0, 0)), Reading::Held(service(1, 1))]);
    let after = index.poll_view().unwrap();
    assert!(Arc::ptr_eq(&before.services[&service_key(0)], &after.services[&service_key(0)]));
    assert!(!Arc::ptr_eq(&before.services[&service_key(1)], &after.services[&service_key(1)]));
    assert!(!after.services.contains_key(&service_key(2)));
    assert!(before.endpoints.ptr_eq(&after.endpoints) && before.nodes.ptr_eq(&after.nodes));
}

#[test]
fn an_empty_cluster_is_news_too() {
    let mut index = Index::default();
    for kind in Kind::ALL {
        assert_eq!(index.poll_view(), None);
        index.reset(kind, Vec::new());
    }
    assert_eq!(index.poll_view().map(|seen| seen.view.clone()), Some(ClusterView::default()));
    index.reset(Kind::Node, Vec::new());
    assert_eq!(index.poll_view(), None);
}

#[test]
fn a_slice_that_changes_its_service_leaves_the_old_one() {
    let mut index = filled();
    index.apply(slice(0, 1, &[2].into()));
    let view = index.poll_view().unwrap();
    assert!(!view.endpoints.contains_key(&service_key(0)));
    let nodes: Vec<_> = view.endpoints[&service_key(1)].iter().map(|e| e.node.as_deref().unwrap().to_owned()).collect();
    assert_eq!(nodes, ["n1", "n2"]);
}

#[test]
fn what_an_event_deletes_is_not_missing_and_what_a_list_lacks_is_kept_beside_until_it_is_accepted() {
    let mut index = filled();
    index.poll_view();
    index.reset(Kind::EndpointSlice, Vec::new());
    let seen = index.poll_view().unwrap();
    assert!(seen.view.endpoints.is_empty());
    let Missing::Objects { kept, step, .. } = &seen.missing else { panic!("{seen:?}") };
    assert_eq!((kept.endpoints.len(), *step), (3, 3));
    // A Service is really deleted meanwhile, an endpoint comes back.
    index.delete(&Key::Service(service_key(1)));
    index.apply(slice(2, 2, &[2].into()));
    let seen = index.poll_view().unwrap();
    let Missing::Objects { kept, .. } = &seen.missing else { panic!("{seen:?}") };
    assert!(!kept.services.contains_key(&service_key(1)));
    assert_eq!(missing(Some(&seen)), ["EndpointSlice ns0/slice0", "EndpointSlice ns0/slice1"]);
    index.accept(*step - 1);
    assert_eq!(index.poll_view(), None, "not all of it was accepted");
    index.accept(*step);
    assert_eq!(index.poll_view().unwrap().missing, Missing::Nothing);
}
