//! The border: Kubernetes types end here.
//!
//! The structs are slim on purpose: serde skips every field that decides nothing, so that a list of thousands of objects
//! never exists in memory. They decode both what an API server sends and what a manifest says.

use super::allocation::{Allocation, address_of, record};
use super::object::{Key, Kind, Object, Reading, Slice, SliceKey};
use super::reply::{Identity, Unreadable};
use crate::advertise::cluster::{Lifecycle, Network};
use crate::advertise::{Endpoint, Grant, Ingress, IpMode, Node, Service, ServiceKey, TrafficPolicy};
use crate::ipam::{Holder, Tenure};
use crate::wire::Family;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The label by which an EndpointSlice names its service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// A Service, as far as it matters.
#[derive(Debug, Clone, Deserialize, kube::Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Service)]
pub struct ServiceObject {
    /// Name, namespace, deletion.
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    spec: Option<ServiceSpec>,
    status: Option<ServiceStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceSpec {
    r#type: Option<String>,
    load_balancer_class: Option<String>,
    external_traffic_policy: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceStatus {
    load_balancer: Option<LoadBalancerStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct LoadBalancerStatus {
    ingress: Option<Vec<IngressEntry>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IngressEntry {
    ip: Option<String>,
    ip_mode: Option<String>,
}

/// An EndpointSlice, as far as it matters.
#[derive(Debug, Clone, Deserialize, kube::Resource)]
#[resource(inherit = k8s_openapi::api::discovery::v1::EndpointSlice)]
#[serde(rename_all = "camelCase")]
pub struct SliceObject {
    /// Name, namespace, the label that names the service.
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    address_type: Option<String>,
    endpoints: Option<Vec<SliceEndpoint>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SliceEndpoint {
    node_name: Option<String>,
    conditions: Option<EndpointConditions>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct EndpointConditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

impl EndpointConditions {
    /// Ready, or still serving while it terminates. Unset conditions mean what the API says they mean: ready is true,
    /// serving is what ready is, terminating is false.
    fn servable(&self) -> bool {
        let ready = self.ready.unwrap_or(true);
        ready || (self.terminating.unwrap_or(false) && self.serving.unwrap_or(ready))
    }
}

/// A Node, as far as it matters.
#[derive(Debug, Clone, Deserialize, kube::Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Node)]
pub struct NodeObject {
    /// Name and labels.
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    status: Option<NodeStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct NodeStatus {
    addresses: Option<Vec<NodeAddress>>,
    conditions: Option<Vec<NodeCondition>>,
}

#[derive(Debug, Clone, Deserialize)]
struct NodeAddress {
    r#type: String,
    address: String,
}

#[derive(Debug, Clone, Deserialize)]
struct NodeCondition {
    r#type: String,
    status: String,
}

/// The metadata that somebody reads; managed fields and annotations are most of the bytes of many objects.
fn slim_metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Slim {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        labels: Option<BTreeMap<String, String>>,
        deletion_timestamp: Option<Time>,
        resource_version: Option<String>,
    }
    let Slim { name, namespace, uid, labels, deletion_timestamp, resource_version } = Slim::deserialize(deserializer)?;
    Ok(ObjectMeta { name, namespace, uid, labels, deletion_timestamp, resource_version, ..ObjectMeta::default() })
}

/// Turns Kubernetes objects into ours. Remembers names, so that equal ones share memory, and what is wrong with
/// which.
#[derive(Debug, Default)]
pub struct Converter {
    names: Names,
    complaints: BTreeMap<Key, String>,
}

impl Converter {
    /// What is wrong with which object now. An object leaves when it is mended or deleted.
    pub fn complaints(&self) -> &BTreeMap<Key, String> {
        &self.complaints
    }

    /// A complete list was read: complaints about objects that are not on it are dropped.
    pub fn retain(&mut self, listed: impl Fn(&Key) -> bool) {
        self.complaints.retain(|key, _| listed(key));
    }

    /// Reads a Service.
    pub fn service(&mut self, object: ServiceObject) -> Reading {
        let Some(key) = self.namespaced(&object.metadata).map(|(namespace, name)| ServiceKey { namespace, name })
        else {
            return Reading::Nameless;
        };
        let spec = object.spec.unwrap_or_default();
        if spec.r#type.as_deref() != Some("LoadBalancer") {
            return self.gone(Some(Key::Service(key)));
        }
        let traffic_policy = match spec.external_traffic_policy.as_deref() {
            None | Some("" | "Cluster") => TrafficPolicy::Cluster,
            Some("Local") => TrafficPolicy::Local,
            Some(other) => {
                let what = format!("spec.externalTrafficPolicy is {other:?}: neither Cluster nor Local");
                return self.bad(Key::Service(key), what);
            }
        };
        let mut doubts = Vec::new();
        let entries = object.status.and_then(|status| status.load_balancer).and_then(|status| status.ingress);
        let ingress = entries.into_iter().flatten().filter_map(|entry| read_ingress(entry, &mut doubts)).collect();
        self.note(&Key::Service(key.clone()), &doubts);
        let service = Service {
            uid: object.metadata.uid.as_deref().unwrap_or_default().into(),
            load_balancer_class: spec.load_balancer_class.filter(|class| !class.is_empty()),
            ingress,
            traffic_policy,
            lifecycle: lifecycle(&object.metadata),
        };
        Reading::Held(Object::Service(key, Arc::new(service)))
    }

    /// Reads an EndpointSlice.
    pub fn slice(&mut self, object: SliceObject) -> Reading {
        let Some(key) = self.namespaced(&object.metadata).map(|(namespace, name)| SliceKey { namespace, name }) else {
            return Reading::Nameless;
        };
        let service = object.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME_LABEL));
        let family = match object.address_type.as_deref() {
            Some("IPv4") => Some(Family::IPV4_UNICAST),
            Some("IPv6") => Some(Family::IPV6_UNICAST),
            Some(_) | None => None,
        };
        let (Some(service), Some(family)) = (service, family) else {
            return Reading::Irrelevant(Key::Slice(key));
        };
        let service = ServiceKey { namespace: key.namespace.clone(), name: self.names.shared(service) };
        let servable = object.endpoints.into_iter().flatten().filter(|endpoint| match &endpoint.conditions {
            Some(conditions) => conditions.servable(),
            None => true,
        });
        let endpoints: BTreeSet<Endpoint> = servable
            .map(|endpoint| Endpoint {
                family,
                node: endpoint.node_name.filter(|name| !name.is_empty()).map(|name| self.names.shared(&name)),
            })
            .collect();
        if endpoints.is_empty() {
            return Reading::Irrelevant(Key::Slice(key));
        }
        Reading::Held(Object::Slice(key, Slice { service, endpoints: Arc::new(endpoints) }))
    }

    /// Reads a Node.
    pub fn node(&mut self, object: NodeObject) -> Reading {
        let Some(name) = object.metadata.name.as_deref().filter(|name| !name.is_empty()) else {
            return Reading::Nameless;
        };
        let name = self.names.shared(name);
        let status = object.status.unwrap_or_default();
        let mut doubts = Vec::new();
        let (mut internal_ips, mut external_ips) = (Vec::new(), Vec::new());
        for address in status.addresses.into_iter().flatten() {
            let ips = match address.r#type.as_str() {
                "InternalIP" => &mut internal_ips,
                "ExternalIP" => &mut external_ips,
                _ => continue,
            };
            match read_ip(&address.address) {
                Ok(ip) => ips.push(ip),
                Err(why) => doubts.push(format!("its {} {why}, which is left out", address.r#type)),
            }
        }
        let unavailable = |condition: NodeCondition| {
            condition.r#type == "NetworkUnavailable" && condition.status.eq_ignore_ascii_case("True")
        };
        let network = match status.conditions.into_iter().flatten().any(unavailable) {
            true => Network::Unavailable,
            false => Network::Available,
        };
        self.note(&Key::Node(name.clone()), &doubts);
        let node = Node { labels: object.metadata.labels.unwrap_or_default(), internal_ips, external_ips, network };
        Reading::Held(Object::Node(name, Arc::new(node)))
    }

    /// Reads an `Allocation`. One without holders decides nothing here.
    pub fn allocation(&mut self, object: Allocation) -> Reading {
        let Some(key) = allocation_key(&object) else { return Reading::Nameless };
        match record(&object).map(|record| (record.address, record.pool, record.tenure)) {
            Ok((address, pool, Tenure::Held(holders))) => {
                self.complaints.remove(&key);
                let mut holder = |holder: Holder| {
                    let (namespace, name) = (&holder.service.namespace, &holder.service.name);
                    let key = ServiceKey { namespace: self.names.shared(namespace), name: self.names.shared(name) };
                    (key, Arc::from(&*holder.uid.to_string()))
                };
                let holders = holders.into_iter().map(&mut holder).collect();
                Reading::Held(Object::Allocation(address, Arc::new(Grant { pool: self.names.shared(&pool), holders })))
            }
            Ok((_, _, Tenure::Released { .. })) => self.gone(Some(key)),
            Err(why) => self.bad(key, why),
        }
    }

    /// An object is gone.
    pub fn deleted(&mut self, kind: Kind, identity: &Identity) -> Reading {
        let key = self.key(kind, identity);
        self.gone(key)
    }

    /// An object cannot be read.
    pub fn unreadable(&mut self, kind: Kind, bad: Unreadable) -> Reading {
        match self.key(kind, &bad.identity) {
            Some(key) => self.bad(key, bad.why),
            None => Reading::Nameless,
        }
    }

    fn key(&mut self, kind: Kind, identity: &Identity) -> Option<Key> {
        let name = Some(identity.name.as_str()).filter(|name| !name.is_empty())?;
        let namespace =
            Some(identity.namespace.as_str()).filter(|namespace| !namespace.is_empty()).unwrap_or("default");
        match kind {
            Kind::Allocation => address_of(name).map(Key::Allocation),
            Kind::Node => Some(Key::Node(self.names.shared(name))),
            Kind::Service => {
                let (namespace, name) = (self.names.shared(namespace), self.names.shared(name));
                Some(Key::Service(ServiceKey { namespace, name }))
            }
            Kind::EndpointSlice => {
                let (namespace, name) = (self.names.shared(namespace), self.names.shared(name));
                Some(Key::Slice(SliceKey { namespace, name }))
            }
        }
    }

    fn gone(&mut self, key: Option<Key>) -> Reading {
        let Some(key) = key else { return Reading::Nameless };
        self.complaints.remove(&key);
        Reading::Irrelevant(key)
    }

    /// Namespace (`default` where a manifest names none) and name.
    fn namespaced(&mut self, metadata: &ObjectMeta) -> Option<(Arc<str>, Arc<str>)> {
        let name = metadata.name.as_deref().filter(|name| !name.is_empty())?;
        let namespace = metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default");
        Some((self.names.shared(namespace), self.names.shared(name)))
    }

    fn bad(&mut self, key: Key, what: String) -> Reading {
        self.note(&key, &[format!("{what}; its last good state stays")]);
        Reading::Bad(key)
    }

    /// Notes what is wrong; an empty list says that nothing is wrong any more.
    fn note(&mut self, key: &Key, doubts: &[String]) {
        if doubts.is_empty() {
            self.complaints.remove(key);
            return;
        }
        self.complaints.insert(key.clone(), doubts.join("; "));
    }
}

fn allocation_key(object: &Allocation) -> Option<Key> {
    object.metadata.name.as_deref().and_then(address_of).map(Key::Allocation)
}

fn lifecycle(metadata: &ObjectMeta) -> Lifecycle {
    match metadata.deletion_timestamp {
        Some(_) => Lifecycle::Deleting,
        None => Lifecycle::Live,
    }
}

/// One ingress entry; `None` for one that names no address (a hostname) or none that can be read.
fn read_ingress(entry: IngressEntry, doubts: &mut Vec<String>) -> Option<Ingress> {
    let text = entry.ip.filter(|text| !text.is_empty())?;
    let mode = match entry.ip_mode.as_deref() {
        None | Some("" | "VIP") => IpMode::Vip,
        Some("Proxy") => IpMode::Proxy,
        Some(other) => {
            doubts.push(format!("the ingress address {text} has the unknown ipMode {other:?} and is not announced"));
            return None;
        }
    };
    match read_ip(&text) {
        Ok(ip) => Some(Ingress { ip, mode }),
        Err(why) => {
            doubts.push(format!("its ingress address {why}, which is not announced"));
            None
        }
    }
}

/// An address; IPv4 written as IPv6 (`::ffff:192.0.2.1`) is IPv4, as it is to kube-proxy.
fn read_ip(text: &str) -> Result<IpAddr, String> {
    text.parse::<IpAddr>().map(|ip| ip.to_canonical()).map_err(|_| format!("{text:?} is not an IP address"))
}

/// Names that occur many times, each held once.
#[derive(Debug, Default)]
struct Names {
    held: BTreeSet<Arc<str>>,
    after_sweep: usize,
}

impl Names {
    /// The shared copy of a name.
    fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some(held) = self.held.get(name) {
            return held.clone();
        }
        // Names of deleted objects go when the set has doubled: each costs one look in its life, on average.
        if self.held.len() >= 2 * self.after_sweep + 1024 {
            self.held.retain(|name| Arc::strong_count(name) > 1);
            self.after_sweep = self.held.len();
        }
        let name: Arc<str> = name.into();
        self.held.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(converter: &mut Converter, object: Value) -> Reading {
        converter.service(serde_json::from_value(object).unwrap())
    }

    fn load_balancer(extra: Value) -> Value {
        let mut object = json!({"metadata": {"name": "s", "namespace": "ns"}, "spec": {"type": "LoadBalancer"}});
        for (key, value) in extra.as_object().unwrap() {
            match object.get_mut(key) {
                Some(Value::Object(known)) => known.extend(value.as_object().unwrap().clone()),
                Some(_) | None => drop(object.as_object_mut().unwrap().insert(key.clone(), value.clone())),
            }
        }
        object
    }

    fn held(reading: Reading) -> Service {
        match reading {
            Reading::Held(Object::Service(_, service)) => Service::clone(&service),
            other => panic!("not held: {other:?}"),
        }
    }

    #[test]
    fn endpoint_conditions_with_the_defaults_of_the_api() {
        // ready, serving, terminating -> servable
        let table = [
            (None, None, None, true),
            (Some(true), None, None, true),
            (Some(false), None, None, false),
            (Some(false), Some(true), None, false),
            (Some(false), Some(true), Some(false), false),
            (Some(false), Some(true), Some(true), true),
            (Some(false), Some(false), Some(true), false),
            (Some(false), None, Some(true), false),
            (None, None, Some(true), true),
        ];
        for (ready, serving, terminating, servable) in table {
            let conditions = EndpointConditions { ready, serving, terminating };
            assert_eq!(conditions.servable(), servable, "{conditions:?}");
        }
    }

    #[test]
    fn other_service_types_are_irrelevant() {
        let mut converter = Converter::default();
        for spec in [json!({"type": "ClusterIP"}), json!({"type": "NodePort"}), json!({}), Value::Null] {
            let reading = service(&mut converter, json!({"metadata": {"name": "s"}, "spec": spec}));
            assert!(matches!(reading, Reading::Irrelevant(_)), "{reading:?}");
        }
        assert_eq!(service(&mut converter, json!({"metadata": {}})), Reading::Nameless);
    }

    #[test]
    fn what_counts_of_a_service() {
        let mut converter = Converter::default();
        let read = held(service(
            &mut converter,
            load_balancer(json!({
                "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{"fieldsV1": {}}]},
                "spec": {"loadBalancerClass": "a/b", "externalTrafficPolicy": "Local", "ports": "of no concern"},
                "status": {"loadBalancer": {"ingress": [
                    {"ip": "198.51.100.1"}, {"hostname": "only.example"}, {"ip": "2001:db8::1", "ipMode": "Proxy"},
                    {"ip": "::ffff:198.51.100.2", "ipMode": "VIP"}]}},
            })),
        ));
        let ingress = |text: &str, mode| Ingress { ip: text.parse().unwrap(), mode };
        assert_eq!(
            read,
            Service {
                uid: "".into(),
                load_balancer_class: Some("a/b".to_owned()),
                ingress: vec![
                    ingress("198.51.100.1", IpMode::Vip),
                    ingress("2001:db8::1", IpMode::Proxy),
                    ingress("198.51.100.2", IpMode::Vip)
                ],
                traffic_policy: TrafficPolicy::Local,
                lifecycle: Lifecycle::Deleting,
            }
        );
        assert!(converter.complaints().is_empty());
        let empty =
            held(service(&mut converter, load_balancer(json!({"status": {"loadBalancer": {"ingress": null}}}))));
        assert_eq!((empty.ingress.len(), empty.lifecycle), (0, Lifecycle::Live));
    }

    #[test]
    fn a_bad_address_is_a_complaint_and_not_a_failure() {
        let mut converter = Converter::default();
        let with = |entries: Value| load_balancer(json!({"status": {"loadBalancer": {"ingress": entries}}}));
        let entries =
            json!([{"ip": "198.51.100.300"}, {"ip": "198.51.100.1", "ipMode": "Odd"}, {"ip": "198.51.100.2"}]);
        assert_eq!(held(service(&mut converter, with(entries))).ingress.len(), 1);
        let complaint = converter.complaints().values().next().unwrap();
        assert!(complaint.contains("198.51.100.300") && complaint.contains("Odd"), "{complaint}");
        held(service(&mut converter, with(json!([{"ip": "198.51.100.2"}]))));
        assert!(converter.complaints().is_empty());
    }

    #[test]
    fn a_policy_that_does_not_exist_is_bad_and_a_deletion_forgets_that() {
        let mut converter = Converter::default();
        let object = load_balancer(json!({"spec": {"externalTrafficPolicy": "Sideways"}}));
        assert!(matches!(service(&mut converter, object.clone()), Reading::Bad(_)));
        assert_eq!(converter.complaints().len(), 1);
        let identity = Identity { namespace: "ns".to_owned(), name: "s".to_owned(), ..Identity::default() };
        assert!(matches!(converter.deleted(Kind::Service, &identity), Reading::Irrelevant(_)));
        assert!(converter.complaints().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_named_by_kind_and_forgotten_when_it_is_mended() {
        let mut converter = Converter::default();
        for (kind, name, subject) in [
            (Kind::Service, "s", "Service ns/s"),
            (Kind::EndpointSlice, "s-1", "EndpointSlice ns/s-1"),
            (Kind::Node, "n", "Node n"),
            (Kind::Allocation, "v4-198-51-100-7", "Allocation v4-198-51-100-7"),
        ] {
            let identity = Identity { namespace: "ns".to_owned(), name: name.to_owned(), ..Identity::default() };
            let bad = Unreadable { identity: identity.clone(), why: "spec.x: no number".to_owned() };
            let reading = converter.unreadable(kind, bad);
            assert!(reading.present().is_some_and(|key| key.to_string() == subject), "{reading:?}");
            assert!(
                converter.complaints().iter().all(|(key, why)| key.to_string() == subject && why.contains("spec.x"))
            );
            converter.deleted(kind, &identity);
            assert!(converter.complaints().is_empty());
        }
    }

    #[test]
    fn slices_of_a_service_with_servable_endpoints() {
        let mut converter = Converter::default();
        let mut read = |address_type: &str, labels: Value, endpoints: Value| {
            let metadata = json!({"name": "x", "namespace": "ns", "labels": labels});
            let object = json!({"metadata": metadata, "addressType": address_type, "endpoints": endpoints});
            converter.slice(serde_json::from_value(object).unwrap())
        };
        let labels = json!({"kubernetes.io/service-name": "web"});
        let endpoints = json!([
            {"nodeName": "n2"}, {"nodeName": "n1", "conditions": null}, {"nodeName": "n1"}, {"addresses": ["10.0.0.1"]},
            {"nodeName": "n3", "conditions": {"ready": false}}
        ]);
        let Reading::Held(Object::Slice(_, slice)) = read("IPv4", labels.clone(), endpoints.clone()) else { panic!() };
        assert_eq!(slice.service.to_string(), "ns/web");
        let nodes: Vec<_> = slice.endpoints.iter().map(|endpoint| endpoint.node.as_deref()).collect();
        assert_eq!(nodes, [None, Some("n1"), Some("n2")]);
        let irrelevant = [
            read("FQDN", labels.clone(), endpoints.clone()),
            read("IPv4", Value::Null, endpoints),
            read("IPv6", labels.clone(), Value::Null),
            read("IPv6", labels, json!([{"nodeName": "n1", "conditions": {"ready": false}}])),
        ];
        assert!(irrelevant.iter().all(|reading| matches!(reading, Reading::Irrelevant(_))), "{irrelevant:?}");
    }

    #[test]
    fn what_counts_of_a_node() {
        let mut converter = Converter::default();
        let mut read = |status: Value| {
            let object = json!({"metadata": {"name": "n1", "labels": {"a": "b"}}, "status": status});
            match converter.node(serde_json::from_value(object).unwrap()) {
                Reading::Held(Object::Node(_, node)) => Node::clone(&node),
                other => panic!("{other:?}"),
            }
        };
        let address = |kind: &str, address: &str| json!({"type": kind, "address": address});
        let node = read(json!({
            "addresses": [address("Hostname", "n1"), address("InternalIP", "172.30.0.1"),
                          address("ExternalIP", "198.51.100.1"), address("InternalIP", "fd00::1")],
            "conditions": [{"type": "Ready", "status": "False"}, {"type": "NetworkUnavailable", "status": "True"}],
        }));
        assert_eq!(node.labels["a"], "b");
        assert_eq!(node.internal_ips, ["172.30.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
        assert_eq!(node.network, Network::Unavailable);
        for status in ["False", "Unknown"] {
            let node = read(json!({"conditions": [{"type": "NetworkUnavailable", "status": status}]}));
            assert_eq!(node.network, Network::Available);
        }
    }

    #[test]
    fn equal_names_share_memory_and_unused_ones_go() {
        let mut names = Names::default();
        let kept = names.shared("kept");
        assert!(Arc::ptr_eq(&kept, &names.shared("kept")));
        for n in 0..10_000 {
            names.shared(&format!("gone-{n}"));
        }
        assert!(names.held.len() < 2_000, "{}", names.held.len());
        assert!(Arc::ptr_eq(&kept, &names.shared("kept")));
    }
}
