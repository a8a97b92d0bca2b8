//! The definition of an Allocation, as a real API server understands it: it takes what herald writes, and nothing that herald cannot
//! read.

use super::same;
use crate::bed::Bed;
use crate::control_plane::Parts;
use crate::rig::Outcome;
use crate::yard::Yard;

const POOLS: &str = "- {name: edge, addresses: [198.18.0.0/24], coolDown: 1s}\n";

const RELEASED: &str = "released: {at: '2026-01-01T00:00:00Z', namespace: web, name: shop}";

/// Name, address and the rest of the spec of objects that are taken.
const TAKEN: &[(&str, &str, &str)] = &[
    ("v4-198-18-0-1", "198.18.0.1", RELEASED),
    ("v4-0-0-0-0", "0.0.0.0", "released: {at: '2999-12-31T23:59:59.123456789+23:59', namespace: web, name: shop}"),
    ("v6-2001-0db8-0000-0000-0000-0000-0000-0007", "2001:db8::7", RELEASED),
    ("v6-0000-0000-0000-0000-0000-0000-0000-0000", "'::'", RELEASED),
    ("v6-0000-0000-0000-0000-0000-0000-0000-0001", "'::1'", RELEASED),
    ("v6-2001-0000-0000-0000-0000-0000-0000-0000", "'2001::'", RELEASED),
    ("v6-0001-0002-0003-0004-0005-0006-0007-0008", "'1:2:3:4:5:6:7:8'", RELEASED),
    (
        "v4-198-18-0-2",
        "198.18.0.2",
        "holders: [{namespace: web, name: shop, uid: u, externalTrafficPolicy: Local, ports: [{protocol: SCTP, port: 9}]}]",
    ),
];

/// The same of objects that are refused, with words of the refusal.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    ("v4-198-18-0-3", "198.18.0.4", RELEASED, "named after its address"),
    ("v6-2001-0db8-0000-0000-0000-0000-0000-0008", "2001:db8::7", RELEASED, "named after its address"),
    ("v6-2001-db8--7", "2001:db8::7", RELEASED, "named after its address"),
    ("v4-198-18-0", "198.18.0", RELEASED, "spec.address"),
    ("v4-198-18-0-256", "198.18.0.256", RELEASED, "spec.address"),
    ("v6-2001-0db8-0000-0000-0000-0000-0000-000a", "'2001:DB8::A'", RELEASED, "spec.address"),
    (
        "v4-198-18-0-5",
        "198.18.0.5",
        "released: {at: '2026-01-01T00:00:00+99:00', namespace: web, name: shop}",
        "spec.released.at",
    ),
    (
        "v4-198-18-0-5",
        "198.18.0.5",
        "released: {at: '9999-12-31T23:59:59Z', namespace: web, name: shop}",
        "spec.released.at",
    ),
    (
        "v4-198-18-0-5",
        "198.18.0.5",
        "released: {at: '2026-01-01t00:00:00.1234567890123z', namespace: web, name: shop}",
        "spec.released.at",
    ),
    (
        "v4-198-18-0-5",
        "198.18.0.5",
        "released: {at: '2026-01-01T00:00:00Z', until: '2026-01-01T00:00:00+24:00', namespace: web, name: shop}",
        "spec.released.until",
    ),
];

fn object(name: &str, address: &str, rest: &str) -> String {
    format!(
        "{{apiVersion: herald.bgp/v1alpha1, kind: Allocation, metadata: {{name: {name}}},\n  spec: {{address: {address}, pool: edge, {rest}}}}}\n"
    )
}

/// What is taken, and what is refused with which words.
pub fn takes_what_can_be_read(bed: &Bed) -> Outcome {
    let yard = Yard::start(bed, "schema", Parts::ApiServer, POOLS)?;
    for (name, address, rest) in TAKEN {
        yard.kubectl().create(&object(name, address, rest)).map_err(|why| format!("{name} is refused: {why}"))?;
    }
    for (name, address, rest, words) in REFUSED {
        match yard.kubectl().create(&object(name, address, rest)) {
            Err(why) if why.contains(words) => {}
            Err(why) => return Err(format!("{name} ({rest}) is refused without {words:?}: {why}")),
            Ok(()) => return Err(format!("{name} is taken: {rest}")),
        }
    }
    same(
        "Allocations",
        yard.kubectl().json(&["get", "allocations"])?["items"].as_array().map_or(0, Vec::len),
        TAKEN.len(),
    )
}
