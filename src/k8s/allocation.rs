//! The `Allocation` object: one an address, cluster-scoped, named after it. Its existence is what makes a grant: a second
//! leader's create of the same name fails, and joining and leaving go by resourceVersion.

use crate::ipam::terms::{Backend, Port, Protocol, Sharing, Terms};
use crate::ipam::{Holder, Record, ServiceName, Tenure, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// The API group, and the prefix of annotations and conditions.
pub const GROUP: &str = "herald.bgp";

/// The `apiVersion` of an `Allocation`.
pub const VERSION: &str = "herald.bgp/v1alpha1";

/// Our CustomResourceDefinitions, as `herald crds` prints them.
pub const CRDS: &str = include_str!("../../deploy/base/crds.yaml");

/// An `Allocation`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, kube::CustomResource)]
#[kube(group = "herald.bgp", version = "v1alpha1", kind = "Allocation", plural = "allocations", schema = "disabled")]
#[serde(rename_all = "camelCase")]
pub struct AllocationSpec {
    /// The address.
    pub address: String,
    /// The pool that it was given from.
    pub pool: String,
    /// The services that have it, in the order in which they joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<HolderEntry>,
    /// Since when nobody has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<Released>,
}

/// One holder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HolderEntry {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The key by which it shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing_key: Option<String>,
    /// `Cluster` or `Local`.
    pub external_traffic_policy: String,
    /// With `Local`, where its traffic ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Its ports.
    pub ports: Vec<PortEntry>,
}

/// One port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PortEntry {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Its number.
    pub port: u16,
}

/// The end of the last holder's time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Released {
    /// When it left.
    pub at: jiff::Timestamp,
    /// When the cool-down ends, as reckoned when this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<jiff::Timestamp>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The name of an address's object: `v4-198-51-100-7`, `v6-2001-0db8-0000-…` (names are DNS subdomains: no colon).
pub fn name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("v4-{}", v4.octets().map(|octet| octet.to_string()).join("-")),
        IpAddr::V6(v6) => format!("v6-{}", v6.segments().map(|group| format!("{group:04x}")).join("-")),
    }
}

/// The object of a record; `until` is when its cool-down ends, for people.
pub fn object(record: &Record, until: Option<Timestamp>, resource_version: Option<&str>) -> Allocation {
    let (holders, released) = match &record.tenure {
        Tenure::Held(holders) => (holders.iter().map(entry).collect(), None),
        Tenure::Released { at, last } => {
            let (namespace, name) = (last.namespace.to_string(), last.name.to_string());
            (Vec::new(), Some(Released { at: civil(*at), until: until.map(civil), namespace, name }))
        }
    };
    let pool = record.pool.to_string();
    let spec = AllocationSpec { address: record.address.to_string(), pool, holders, released };
    let metadata = ObjectMeta {
        name: Some(name(record.address)),
        resource_version: resource_version.map(str::to_owned),
        ..ObjectMeta::default()
    };
    Allocation { metadata, spec }
}

/// What an object says.
///
/// # Errors
/// It makes no sense, or its name is another address's; in words.
pub fn record(object: &Allocation) -> Result<Record, String> {
    let spec = &object.spec;
    let address: IpAddr = spec.address.parse().map_err(|_| format!("{:?} is no IP address", spec.address))?;
    let expected = name(address);
    if object.metadata.name.as_deref() != Some(&expected) {
        return Err(format!("the object of {address} would be named {expected}"));
    }
    let tenure = match &spec.released {
        Some(released) => Tenure::Released {
            at: timestamp(released.at),
            last: ServiceName { namespace: released.namespace.as_str().into(), name: released.name.as_str().into() },
        },
        None if spec.holders.is_empty() => return Err("it names no holder".to_owned()),
        None => Tenure::Held(spec.holders.iter().map(holder).collect::<Result<_, _>>()?),
    };
    Ok(Record { address, pool: spec.pool.as_str().into(), tenure })
}

/// The address that an object's name stands for.
pub fn address_of(name: &str) -> Option<IpAddr> {
    let (family, rest) = name.split_once('-')?;
    match family {
        "v4" => rest.replace('-', ".").parse().ok().map(IpAddr::V4),
        "v6" => rest.replace('-', ":").parse().ok().map(IpAddr::V6),
        _ => None,
    }
}

fn entry(holder: &Holder) -> HolderEntry {
    let (external_traffic_policy, selector) = match &holder.terms.backend {
        Backend::Cluster => ("Cluster", None),
        Backend::Local(selector) => ("Local", Some(selector.to_string())),
    };
    HolderEntry {
        namespace: holder.service.namespace.to_string(),
        name: holder.service.name.to_string(),
        uid: holder.uid.to_string(),
        sharing_key: match &holder.terms.sharing {
            Sharing::Exclusive => None,
            Sharing::Key(key) => Some(key.to_string()),
        },
        external_traffic_policy: external_traffic_policy.to_owned(),
        selector,
        ports: holder.terms.ports.iter().map(port_entry).collect(),
    }
}

fn port_entry(port: &Port) -> PortEntry {
    let protocol = match port.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    };
    PortEntry { protocol: protocol.to_owned(), port: port.number }
}

fn holder(entry: &HolderEntry) -> Result<Holder, String> {
    let ports = entry.ports.iter().map(|port| {
        let protocol = protocol(&port.protocol).ok_or_else(|| format!("{:?} is no protocol", port.protocol))?;
        Ok(Port { protocol, number: port.port })
    });
    let backend = match entry.external_traffic_policy.as_str() {
        "Cluster" => Backend::Cluster,
        "Local" => Backend::Local(entry.selector.as_deref().unwrap_or_default().into()),
        other => return Err(format!("{other:?} is no externalTrafficPolicy")),
    };
    let sharing = entry.sharing_key.as_deref().map_or(Sharing::Exclusive, |key| Sharing::Key(key.into()));
    Ok(Holder {
        service: ServiceName { namespace: entry.namespace.as_str().into(), name: entry.name.as_str().into() },
        uid: entry.uid.as_str().into(),
        terms: Arc::new(Terms { sharing, backend, ports: ports.collect::<Result<BTreeSet<_>, String>>()? }),
    })
}

/// A protocol by its name.
pub fn protocol(name: &str) -> Option<Protocol> {
    match name {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// A time of the room as one that JSON can carry, to the millisecond.
pub fn civil(at: Timestamp) -> jiff::Timestamp {
    let millis = i64::try_from(at.unix_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX)
}

/// The other way; times before 1970 are 1970.
pub fn timestamp(at: jiff::Timestamp) -> Timestamp {
    Timestamp::from_unix_millis(u64::try_from(at.as_millisecond()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn held(sharing: Sharing, backend: Backend) -> Record {
        let ports = [(Protocol::Tcp, 80), (Protocol::Udp, 53), (Protocol::Sctp, 9)];
        let ports = ports.map(|(protocol, number)| Port { protocol, number }).into();
        let service = ServiceName { namespace: "web".into(), name: "shop".into() };
        let holder = Holder { service, uid: "u-1".into(), terms: Arc::new(Terms { sharing, backend, ports }) };
        Record { address: "198.51.100.7".parse().unwrap(), pool: "edge".into(), tenure: Tenure::Held(vec![holder]) }
    }

    fn released(address: &str) -> Record {
        let last = ServiceName { namespace: "web".into(), name: "shop".into() };
        let tenure = Tenure::Released { at: Timestamp::from_unix_millis(1_790_000_000_123), last };
        Record { address: address.parse().unwrap(), pool: "edge".into(), tenure }
    }

    fn samples() -> [Record; 4] {
        [
            held(Sharing::Exclusive, Backend::Cluster),
            held(Sharing::Key("k".into()), Backend::Local("app=web".into())),
            released("198.51.100.7"),
            released("2001:db8::7"),
        ]
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for sample in samples() {
            let text = serde_json::to_string(&object(&sample, Some(Timestamp::default()), Some("5"))).unwrap();
            assert_eq!(record(&serde_json::from_str(&text).unwrap()), Ok(sample), "{text}");
        }
    }

    #[test]
    fn names_are_those_of_addresses() {
        for (address, expected) in
            [("198.51.100.7", "v4-198-51-100-7"), ("2001:db8::7", "v6-2001-0db8-0000-0000-0000-0000-0000-0007")]
        {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(name(address), expected);
            assert_eq!(address_of(expected), Some(address));
        }
        for none in ["", "v4", "v4-1-2-3", "v5-1-2-3-4", "v6-1-2", "v4-1-2-3-256"] {
            assert_eq!(address_of(none), None, "{none}");
        }
        let mut other = object(&samples()[0], None, None);
        other.metadata.name = Some("v4-198-51-100-8".to_owned());
        assert!(record(&other).is_err());
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        let good = serde_json::to_value(object(&samples()[1], None, None)).unwrap();
        for (pointer, nonsense) in [
            ("/spec/address", Value::from("198.51.100")),
            ("/spec/holders", Value::from(Vec::<Value>::new())),
            ("/spec/holders/0/externalTrafficPolicy", "Sideways".into()),
            ("/spec/holders/0/ports/0/protocol", "QUIC".into()),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = nonsense;
            assert!(record(&serde_json::from_value(bad).unwrap()).is_err(), "{pointer}");
        }
    }

    /// Every field that is written is in the schema, and every field of the schema is written by some sample.
    #[test]
    fn the_schema_is_the_object() {
        let crd: Value = serde_saphyr::from_str(CRDS).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut known = BTreeSet::new();
        fields_of_schema("", schema, &mut known);
        let mut written = BTreeSet::new();
        for sample in samples() {
            let object = object(&sample, Some(Timestamp::default()), None);
            fields("", &serde_json::to_value(object.spec).unwrap(), &mut written);
        }
        assert_eq!(written, known);
        assert_eq!(crd["metadata"]["name"], format!("allocations.{GROUP}"));
        assert_eq!(crd["spec"]["group"], GROUP);
        assert_eq!(crd["spec"]["versions"][0]["name"], "v1alpha1");
    }

    fn fields(path: &str, value: &Value, out: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| {
                out.insert(format!("{path}/{key}"));
                fields(&format!("{path}/{key}"), value, out);
            }),
            Value::Array(items) => items.iter().for_each(|item| fields(path, item, out)),
            _ => {}
        }
    }

    fn fields_of_schema(path: &str, schema: &Value, out: &mut BTreeSet<String>) {
        let items = schema.get("items").into_iter();
        for object in items.chain(std::iter::once(schema)) {
            for (key, value) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
                out.insert(format!("{path}/{key}"));
                fields_of_schema(&format!("{path}/{key}"), value, out);
            }
        }
    }
}
