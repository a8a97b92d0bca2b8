//! The `Allocation` object: one an address, cluster-scoped, named after it. Its existence is what makes a grant: a second
//! leader's create of the same name fails, and joining and leaving go by resourceVersion.

use super::follow::Told;
use super::reply::{Identity, Unreadable};
use crate::ipam::terms::{Backend, Port, Protocol, Sharing, Terms};
use crate::ipam::{Holder, Record, ServiceName, Tenure, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
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
    #[serde(deserialize_with = "whole")]
    pub port: u16,
}

/// The end of the last holder's time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Released {
    /// When it left.
    #[serde(deserialize_with = "moment")]
    pub at: jiff::Timestamp,
    /// When the cool-down ends, as reckoned when this was written.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "moment_or_none")]
    pub until: Option<jiff::Timestamp>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A time as an API server takes it, whose `date-time` is wider than RFC 3339: any year of four digits, any offset, any number of
/// decimals, letters of either case. What lies beyond what can be represented is the nearest that can.
fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<jiff::Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    read_moment(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no time such as 2026-01-31T12:00:00Z")))
}

/// A time that only people read: what is none is left out.
fn moment_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<jiff::Timestamp>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.as_deref().and_then(read_moment))
}

fn read_moment(text: &str) -> Option<jiff::Timestamp> {
    let (civil, rest) = text.split_at_checked("2026-01-31T12:00:00".len())?;
    let civil: jiff::civil::DateTime = civil.to_ascii_uppercase().parse().ok()?;
    let offset_at = rest.find(['Z', 'z', '+', '-'])?;
    let (decimals, offset) = rest.split_at(offset_at);
    let millis: i64 = match decimals.strip_prefix('.') {
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) && !digits.is_empty() => {
            format!("{digits:0<3}")[..3].parse().ok()?
        }
        None if decimals.is_empty() => 0,
        Some(_) | None => return None,
    };
    let ahead: i64 = match offset.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let number = |text: Option<&str>| text?.parse::<u8>().ok().map(i64::from);
            let minutes = number(offset.get(1..3))? * 60 + number(offset.get(4..6))?;
            if *sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    let days = civil.date().since(jiff::civil::date(1970, 1, 1)).ok()?.get_days();
    let time = civil.time();
    let (hour, minute, second) = (i64::from(time.hour()), i64::from(time.minute()), i64::from(time.second()));
    let seconds = i64::from(days) * 86_400 + hour * 3_600 + (minute - ahead) * 60 + second;
    let beyond = if seconds < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    Some(jiff::Timestamp::from_millisecond(seconds * 1_000 + millis).unwrap_or(beyond))
}

/// A port number; JSON of whole numbers may have a decimal point.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let number = f64::deserialize(deserializer)?;
    // Beyond its range `as` gives the nearest, and what is not whole is cut: both are seen by the way back.
    Some(number as u16)
        .filter(|port| f64::from(*port) == number)
        .ok_or_else(|| D::Error::custom(format!("{number} is no port number")))
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

/// What was told, with an object that makes no sense told as one that cannot be read.
pub fn checked(told: Told<Allocation>) -> Told<Allocation> {
    let bad = match &told {
        Told::Listed(object) | Told::Applied(object) => record(object).err().map(|why| (Identity::of(object), why)),
        _ => None,
    };
    bad.map_or(told, |(identity, why)| Told::Unreadable(Unreadable { identity, why }))
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

    #[test]
    fn times_are_read_as_api_servers_take_them() {
        let at = |text: &str| read_moment(text).map(|at| at.to_string());
        for (text, expected) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01T00:00:00+99:00", "2025-12-27T21:00:00Z"),
            ("2026-01-01T00:00:00-01:30", "2026-01-01T01:30:00Z"),
            ("2026-01-01t00:00:00.1234567890123z", "2026-01-01T00:00:00.123Z"),
            ("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.5Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
        ] {
            assert_eq!(at(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(
            read_moment("9999-12-31T23:59:59Z").map(|at| at.as_second()),
            Some(jiff::Timestamp::MAX.as_second())
        );
        for none in [
            "",
            "2026-01-01",
            "2026-13-01T00:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00x1Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00+a0:00",
            "2026-01-01T00:00:0é",
        ] {
            assert_eq!(at(none), None, "{none}");
        }
        // However it is read, no time is refused that the record cannot hold.
        let mut object = serde_json::to_value(object(&samples()[2], Some(Timestamp::default()), None)).unwrap();
        object["spec"]["released"]["at"] = "9999-12-31T23:59:59Z".into();
        object["spec"]["released"]["until"] = "whenever".into();
        let read: Allocation = serde_json::from_value(object).unwrap();
        assert!(record(&read).is_ok() && read.spec.released.unwrap().until.is_none());
    }

    #[test]
    fn port_numbers_are_whole() {
        let mut object = serde_json::to_value(object(&samples()[0], None, None)).unwrap();
        for (number, port) in [
            (Value::from(80), Some(80)),
            (80.0.into(), Some(80)),
            (80.5.into(), None),
            (65_536.into(), None),
            ((-1).into(), None),
        ] {
            object["spec"]["holders"][0]["ports"][0]["port"] = number;
            let read: Option<Allocation> = serde_json::from_value(object.clone()).ok();
            assert_eq!(read.map(|read| read.spec.holders[0].ports[0].port), port);
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
