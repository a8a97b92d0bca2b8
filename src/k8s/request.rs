//! The border of the allocator: a Service as far as its addresses go, Nodes and Namespaces as far as they decide about them.

use super::allocation::{GROUP, protocol, timestamp};
use crate::advertise::policy::LOAD_BALANCER_CLASS;
use crate::ipam::terms::{Backend, Port, Sharing, Terms};
use crate::ipam::{Claim, Families, Family, Labels, PoolChoice, Renumber, ServiceName, Uid};
use crate::wire::Prefix;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, Time};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The name under which the allocator owns fields.
pub const FIELD_MANAGER: &str = "herald-allocator";
/// Annotation: the pool that a Service wants an address of.
pub const POOL: &str = "herald.bgp/pool";
/// Annotation: the addresses that a Service wants, separated by commas; at most one a family.
pub const ADDRESSES: &str = "herald.bgp/addresses";
/// Annotation: the key by which a Service shares its address.
pub const SHARING_KEY: &str = "herald.bgp/sharing-key";
/// Annotation: `true` lets a Service leave an address that no pool would give it today.
pub const RENUMBER: &str = "herald.bgp/renumber";
/// Annotation that the allocator writes: the pools that the addresses come from.
pub const GIVEN_FROM: &str = "herald.bgp/allocated-from-pool";
/// The finalizer by which Kubernetes lets a Service wait until its load balancer has been taken down.
pub const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";
/// The condition of a Service that says whether it has what it asks for.
pub const CONDITION: &str = "herald.bgp/AddressAllocated";

/// A Service, as far as its addresses go.
#[derive(Debug, Clone, Deserialize, kube::Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Service)]
pub struct ServiceForm {
    /// Who it is, what it asks for, who wrote its addresses.
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    r#type: Option<String>,
    load_balancer_class: Option<String>,
    #[serde(rename = "loadBalancerIP")]
    load_balancer_ip: Option<String>,
    external_traffic_policy: Option<String>,
    ip_families: Option<Vec<String>>,
    ip_family_policy: Option<String>,
    ports: Option<Vec<ServicePort>>,
    selector: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Deserialize)]
struct ServicePort {
    protocol: Option<String>,
    port: i32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    load_balancer: Option<LoadBalancer>,
    conditions: Option<Vec<ConditionEntry>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct LoadBalancer {
    ingress: Option<Vec<IngressEntry>>,
}

#[derive(Debug, Clone, Deserialize)]
struct IngressEntry {
    ip: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct ConditionEntry {
    r#type: String,
    status: String,
    reason: String,
    message: String,
}

/// A Node, as far as its addresses go.
#[derive(Debug, Clone, Deserialize, kube::Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Node)]
pub struct NodeForm {
    /// Its name.
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    spec: Option<NodeSpec>,
    status: Option<NodeStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct NodeSpec {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct NodeStatus {
    addresses: Option<Vec<NodeAddress>>,
}

#[derive(Debug, Clone, Deserialize)]
struct NodeAddress {
    address: String,
}

impl NodeForm {
    /// Every address that it has, inside and outside.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        let addresses = self.status.iter().flat_map(|status| status.addresses.iter().flatten());
        addresses.filter_map(|entry| read_ip(&entry.address)).collect()
    }

    /// The ranges of its pods; what is none is left out.
    pub fn pod_cidrs(&self) -> Vec<Prefix> {
        let cidrs = self.spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten());
        cidrs.filter_map(|text| text.parse().ok()).collect()
    }
}

/// A ServiceCIDR: ranges from which ClusterIPs are given.
#[derive(Debug, Clone, Deserialize, kube::Resource)]
#[resource(inherit = k8s_openapi::api::networking::v1::ServiceCIDR)]
pub struct ServiceCidrForm {
    /// Its name.
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    spec: Option<ServiceCidrSpec>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct ServiceCidrSpec {
    cidrs: Option<Vec<String>>,
}

impl ServiceCidrForm {
    /// Its ranges; what is none is left out.
    pub fn cidrs(&self) -> Vec<Prefix> {
        let cidrs = self.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
        cidrs.filter_map(|text| text.parse().ok()).collect()
    }
}

/// A Namespace, as far as its labels go.
#[derive(Debug, Clone, Deserialize, kube::Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Namespace)]
pub struct NamespaceForm {
    /// Its name and labels.
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
}

/// What somebody reads of the metadata. Of the managed fields only who owns the addresses is kept.
fn slim_metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Slim {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        labels: Option<BTreeMap<String, String>>,
        annotations: Option<BTreeMap<String, String>>,
        creation_timestamp: Option<Time>,
        deletion_timestamp: Option<Time>,
        resource_version: Option<String>,
        finalizers: Option<Vec<String>>,
        managed_fields: Option<Vec<Managed>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Managed {
        manager: Option<String>,
        fields_v1: Option<Fields>,
    }
    #[derive(Deserialize)]
    struct Fields {
        #[serde(rename = "f:status")]
        status: Option<StatusFields>,
    }
    #[derive(Deserialize)]
    struct StatusFields {
        #[serde(rename = "f:loadBalancer")]
        load_balancer: Option<LoadBalancerFields>,
    }
    #[derive(Deserialize)]
    struct LoadBalancerFields {
        #[serde(rename = "f:ingress")]
        ingress: Option<IgnoredAny>,
    }
    let slim = Slim::deserialize(deserializer)?;
    let owns = |entry: &Managed| {
        let status = entry.fields_v1.as_ref().and_then(|fields| fields.status.as_ref());
        status.and_then(|status| status.load_balancer.as_ref()).is_some_and(|fields| fields.ingress.is_some())
    };
    let owners = slim.managed_fields.into_iter().flatten().filter(owns);
    let owners = owners.map(|entry| ManagedFieldsEntry { manager: entry.manager, ..ManagedFieldsEntry::default() });
    let mut annotations = slim.annotations.unwrap_or_default();
    annotations.retain(|key, _| key.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/')));
    Ok(ObjectMeta {
        name: slim.name,
        namespace: slim.namespace,
        uid: slim.uid,
        labels: slim.labels,
        annotations: Some(annotations),
        creation_timestamp: slim.creation_timestamp,
        deletion_timestamp: slim.deletion_timestamp,
        resource_version: slim.resource_version,
        finalizers: slim.finalizers,
        managed_fields: Some(owners.collect()),
        ..ObjectMeta::default()
    })
}

/// `spec.loadBalancerClass`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// None is named.
    Unnamed,
    /// Ours.
    Ours,
    /// Another implementation's.
    Other,
}

/// Whether a Service is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It is not.
    Staying,
    /// It has a deletion timestamp.
    Ending,
}

/// Whether a Service has [`FINALIZER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finalizer {
    /// It has.
    Present,
    /// It has not.
    Absent,
}

/// Who wrote the addresses in a Service's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// Nobody, or nobody knows.
    Unknown,
    /// An allocator of ours.
    Us,
    /// Somebody else.
    Other,
}

/// Our condition, as the Service shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `True` or `False`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// A Service of type LoadBalancer as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Its UID.
    pub uid: Uid,
    /// Its name.
    pub service: ServiceName,
    /// `metadata.resourceVersion`.
    pub version: String,
    /// Whose it is.
    pub class: Class,
    /// Whether it is being deleted.
    pub life: Life,
    /// Whether its deletion waits for us.
    pub finalizer: Finalizer,
    /// What it asks for, without its namespace's labels; or why that cannot be read.
    pub request: Result<Claim, String>,
    /// The addresses in its status.
    pub shown: Vec<IpAddr>,
    /// Entries of its status that are no addresses: hostnames.
    pub hostnames: usize,
    /// Who wrote them.
    pub writer: Writer,
    /// The annotation [`GIVEN_FROM`].
    pub given_from: Option<String>,
    /// Our condition.
    pub condition: Option<Condition>,
}

impl ServiceForm {
    /// Its UID, if it has one.
    pub fn uid(&self) -> Option<Uid> {
        self.metadata.uid.as_deref().map(Uid::from)
    }

    /// Whether it is of type LoadBalancer.
    pub fn is_load_balancer(&self) -> bool {
        self.spec.as_ref().and_then(|spec| spec.r#type.as_deref()) == Some("LoadBalancer")
    }

    /// What is seen of it; none if it does not say which Service it is.
    pub fn sighting(self) -> Option<Sighting> {
        let uid = self.uid()?;
        let Self { metadata, spec, status } = self;
        let service = ServiceName {
            namespace: metadata.namespace.as_deref()?.into(),
            name: metadata.name.as_deref().filter(|name| !name.is_empty())?.into(),
        };
        let (spec, status) = (spec.unwrap_or_default(), status.unwrap_or_default());
        let entries = status.load_balancer.and_then(|status| status.ingress).unwrap_or_default();
        let shown: Vec<IpAddr> = entries.iter().filter_map(|entry| read_ip(entry.ip.as_deref()?)).collect();
        let condition = status.conditions.into_iter().flatten().find(|condition| condition.r#type == CONDITION);
        Some(Sighting {
            class: match spec.load_balancer_class.as_deref().filter(|class| !class.is_empty()) {
                None => Class::Unnamed,
                Some(LOAD_BALANCER_CLASS) => Class::Ours,
                Some(_) => Class::Other,
            },
            life: if metadata.deletion_timestamp.is_some() { Life::Ending } else { Life::Staying },
            finalizer: match metadata.finalizers.iter().flatten().any(|name| name == FINALIZER) {
                true => Finalizer::Present,
                false => Finalizer::Absent,
            },
            request: claim(&uid, &service, &metadata, spec, shown.clone()),
            hostnames: entries.len() - shown.len(),
            writer: writer(&metadata),
            given_from: annotation(&metadata, GIVEN_FROM).map(str::to_owned),
            condition: condition.map(|entry| Condition {
                status: entry.status,
                reason: entry.reason,
                message: entry.message,
            }),
            version: metadata.resource_version.unwrap_or_default(),
            shown,
            uid,
            service,
        })
    }
}

fn writer(metadata: &ObjectMeta) -> Writer {
    let owners = || metadata.managed_fields.iter().flatten().filter_map(|entry| entry.manager.as_deref());
    match (owners().next(), owners().any(|owner| owner == FIELD_MANAGER)) {
        (None, _) => Writer::Unknown,
        (Some(_), true) => Writer::Us,
        (Some(_), false) => Writer::Other,
    }
}

fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(|text| text.trim()).filter(|text| !text.is_empty())
}

fn claim(
    uid: &Uid,
    service: &ServiceName,
    metadata: &ObjectMeta,
    spec: Spec,
    shown: Vec<IpAddr>,
) -> Result<Claim, String> {
    let created = metadata.creation_timestamp.as_ref().map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0);
    Ok(Claim {
        uid: uid.clone(),
        service: service.clone(),
        created: timestamp(created),
        families: families(&spec)?,
        addresses: addresses(metadata, &spec)?,
        pool: annotation(metadata, POOL).map_or(PoolChoice::Any, |pool| PoolChoice::Named(pool.into())),
        terms: Arc::new(terms(metadata, spec)?),
        labels: Arc::new(metadata.labels.clone().unwrap_or_default()),
        namespace_labels: Arc::new(Labels::new()),
        renumber: match annotation(metadata, RENUMBER) {
            None | Some("false") => Renumber::Stay,
            Some("true") => Renumber::Move,
            Some(other) => return Err(format!("the annotation {RENUMBER} is {other:?}: neither true nor false")),
        },
        shown,
    })
}

fn families(spec: &Spec) -> Result<Families, String> {
    let family = |text: &String| match text.as_str() {
        "IPv4" => Ok(Family::V4),
        "IPv6" => Ok(Family::V6),
        other => Err(format!("spec.ipFamilies names {other:?}, which is no address family")),
    };
    let families = spec.ip_families.iter().flatten().map(family).collect::<Result<Vec<_>, _>>()?;
    // A Service that nobody gave families, in a cluster of one.
    let primary = families.first().copied().unwrap_or(Family::V4);
    Ok(match (families.len(), spec.ip_family_policy.as_deref()) {
        (0 | 1, _) | (_, Some("SingleStack")) => Families::Single(primary),
        (_, Some("RequireDualStack")) => Families::Require(primary),
        (_, _) => Families::Prefer(primary),
    })
}

fn addresses(metadata: &ObjectMeta, spec: &Spec) -> Result<BTreeSet<IpAddr>, String> {
    let (place, text) = match (annotation(metadata, ADDRESSES), spec.load_balancer_ip.as_deref()) {
        (Some(text), _) => (format!("the annotation {ADDRESSES}"), text),
        (None, Some(text)) if !text.is_empty() => ("spec.loadBalancerIP".to_owned(), text),
        (None, _) => return Ok(BTreeSet::new()),
    };
    let address =
        |text: &str| read_ip(text.trim()).ok_or_else(|| format!("{place} names {text:?}, which is no IP address"));
    text.split(',').map(address).collect()
}

fn terms(metadata: &ObjectMeta, spec: Spec) -> Result<Terms, String> {
    let ports = spec.ports.into_iter().flatten().map(|port| {
        let protocol = protocol(port.protocol.as_deref().unwrap_or("TCP"));
        let number = u16::try_from(port.port).ok();
        let read = protocol.zip(number).map(|(protocol, number)| Port { protocol, number });
        read.ok_or_else(|| format!("spec.ports has {port:?}"))
    });
    let backend = match spec.external_traffic_policy.as_deref() {
        None | Some("" | "Cluster") => Backend::Cluster,
        Some("Local") => {
            let labels = spec.selector.iter().flatten().map(|(key, value)| format!("{key}={value}"));
            Backend::Local(labels.collect::<Vec<_>>().join(",").into())
        }
        Some(other) => return Err(format!("spec.externalTrafficPolicy is {other:?}: neither Cluster nor Local")),
    };
    let sharing = annotation(metadata, SHARING_KEY).map_or(Sharing::Exclusive, |key| Sharing::Key(key.into()));
    Ok(Terms { sharing, backend, ports: ports.collect::<Result<_, _>>()? })
}

/// An address; IPv4 written as IPv6 is IPv4, as it is to kube-proxy.
fn read_ip(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipam::Protocol;
    use serde_json::{Value, json};

    /// A Service of two families with something about it changed.
    fn seen(changes: &[(&str, Value)]) -> Sighting {
        let mut object = json!({
            "metadata": {"name": "shop", "namespace": "web", "uid": "u-1", "resourceVersion": "7", "annotations": {},
                         "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"tier": "edge"}},
            "spec": {"type": "LoadBalancer", "ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "PreferDualStack",
                     "ports": [{"port": 53, "protocol": "UDP"}, {"port": 80}], "selector": {"b": "2", "a": "1"}},
            "status": {},
        });
        for (path, value) in changes {
            let (parent, key) = path.rsplit_once('.').unwrap();
            let parent = parent.split('.').fold(&mut object, |object, key| &mut object[key]);
            parent[key] = value.clone();
        }
        serde_json::from_value::<ServiceForm>(object).unwrap().sighting().unwrap()
    }

    fn annotated(key: &str, value: &str) -> Result<Claim, String> {
        seen(&[("metadata.annotations", json!({key: value}))]).request
    }

    #[test]
    fn what_a_service_asks_for() {
        let claim = seen(&[]).request.unwrap();
        assert_eq!(
            (claim.families, claim.pool, claim.renumber),
            (Families::Prefer(Family::V6), PoolChoice::Any, Renumber::Stay)
        );
        assert_eq!(claim.created.to_string(), "2026-01-01T00:00:00Z");
        let port = |protocol, number| Port { protocol, number };
        assert_eq!(claim.terms.ports, BTreeSet::from([port(Protocol::Udp, 53), port(Protocol::Tcp, 80)]));
        assert_eq!((&claim.terms.sharing, &claim.terms.backend), (&Sharing::Exclusive, &Backend::Cluster));
        assert_eq!(annotated(POOL, "edge").unwrap().pool, PoolChoice::Named("edge".into()));
        assert_eq!(annotated(SHARING_KEY, "k").unwrap().terms.sharing, Sharing::Key("k".into()));
        assert_eq!(annotated(RENUMBER, "true").unwrap().renumber, Renumber::Move);
        let both = BTreeSet::from(["198.51.100.7".parse().unwrap(), "2001:db8::7".parse().unwrap()]);
        assert_eq!(annotated(ADDRESSES, "198.51.100.7, 2001:db8::7").unwrap().addresses, both);
        let local = seen(&[("spec.externalTrafficPolicy", "Local".into())]).request.unwrap();
        assert_eq!(local.terms.backend, Backend::Local("a=1,b=2".into()));
        let named = seen(&[("spec.loadBalancerIP", "198.51.100.9".into())]).request.unwrap();
        assert_eq!(named.addresses, BTreeSet::from(["198.51.100.9".parse().unwrap()]));
    }

    #[test]
    fn families_by_list_and_policy() {
        for (list, policy, expected) in [
            (json!(["IPv4"]), "PreferDualStack", Families::Single(Family::V4)),
            (json!(["IPv6"]), "SingleStack", Families::Single(Family::V6)),
            (json!(["IPv4", "IPv6"]), "RequireDualStack", Families::Require(Family::V4)),
            (json!(["IPv6", "IPv4"]), "SingleStack", Families::Single(Family::V6)),
            (Value::Null, "SingleStack", Families::Single(Family::V4)),
        ] {
            let claim = seen(&[("spec.ipFamilies", list), ("spec.ipFamilyPolicy", policy.into())]).request.unwrap();
            assert_eq!(claim.families, expected);
        }
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (unclear, words) in [
            (annotated(ADDRESSES, "198.51.100.7,nowhere"), "nowhere"),
            (annotated(RENUMBER, "maybe"), "maybe"),
            (seen(&[("spec.loadBalancerIP", "x".into())]).request, "loadBalancerIP"),
            (seen(&[("spec.ipFamilies", json!(["IPX"]))]).request, "IPX"),
            (seen(&[("spec.externalTrafficPolicy", "Sideways".into())]).request, "Sideways"),
            (seen(&[("spec.ports", json!([{"port": 70_000}]))]).request, "70000"),
        ] {
            let why = unclear.unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn who_wrote_the_addresses() {
        let owned = |manager: &str| {
            json!([
                {"manager": "kubectl", "fieldsV1": {"f:spec": {"f:type": {}}}},
                {"manager": manager, "subresource": "status", "fieldsV1": {"f:status": {"f:loadBalancer": {"f:ingress": {}}}}},
            ])
        };
        for (fields, expected) in [
            (owned(FIELD_MANAGER), Writer::Us),
            (owned("k3s"), Writer::Other),
            (json!([{"manager": FIELD_MANAGER, "fieldsV1": {"f:status": {"f:conditions": {}}}}]), Writer::Unknown),
            (Value::Null, Writer::Unknown),
        ] {
            assert_eq!(seen(&[("metadata.managedFields", fields)]).writer, expected);
        }
        let ingress =
            json!({"ingress": [{"ip": "198.51.100.7"}, {"hostname": "a.example"}, {"ip": "::ffff:198.51.100.8"}]});
        let shown = seen(&[("status.loadBalancer", ingress)]);
        let expected: Vec<IpAddr> = ["198.51.100.7", "198.51.100.8"].map(|text| text.parse().unwrap()).into();
        assert_eq!((shown.shown, shown.hostnames), (expected, 1));
    }
}
