//! GoBGP as a router: its session and its table.

use crate::manifests::{Manifests, Policy};
use crate::rig::gobgp::{GoBgp, binaries};
use crate::rig::{Outcome, Rig, wait_until};
use crate::site::{HOLD, SOON, START, ends};
use crate::speaker::{Config, Speaker};
use crate::topology::{FAMILIES, Family, Lab, hops, service_route};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Three speakers, one session each over IPv4, both families' routes in the table with the right next hops.
pub fn sees_v4_and_v6_on_one_session(rig: &Arc<Rig>) -> Outcome {
    let programs = binaries()?;
    let lab = Lab::build(rig)?;
    let manifests = Manifests::begin(rig)?;
    manifests.service(1, Policy::Cluster, &[1])?;
    manifests.service(2, Policy::Local, &[2, 3])?;
    let router = GoBgp::start(rig, &lab.routers[0], &lab.plan(1, Family::V4, HOLD), &programs)?;
    let start = |node: usize| {
        let mut config = Config::of_node(node, Family::V4, HOLD);
        config.peers.truncate(1);
        Speaker::start(rig, &lab.nodes[node - 1], &config, &manifests)
    };
    let mut speakers = (1..=3).map(start).collect::<Outcome<Vec<_>>>()?;
    let found = wait_until(START, "the table to be right", || table_is(&router, &[(1, &[1, 2, 3]), (2, &[2, 3])]));
    let ((), took) = found.map_err(|what| format!("{what}{}", ends(&mut speakers)))?;
    let sessions = router.sessions()?;
    println!("  right after {took:.1?}; {sessions:?}");
    if sessions.len() != 3 || sessions.values().any(|state| state != "Established") {
        return Err(format!("sessions: {sessions:?}"));
    }
    manifests.service(2, Policy::Local, &[1])?;
    let ((), took) = wait_until(SOON, "the moved endpoint", || table_is(&router, &[(1, &[1, 2, 3]), (2, &[1])]))?;
    manifests.delete(2)?;
    let ((), gone) = wait_until(SOON, "the deleted service to go", || table_is(&router, &[(1, &[1, 2, 3])]))?;
    println!("  moved in {took:.1?}, gone in {gone:.1?}");
    Ok(())
}

/// Whether the table holds exactly these services, from these nodes.
fn table_is(router: &GoBgp, services: &[(u8, &[usize])]) -> Outcome {
    for family in FAMILIES {
        let want: BTreeMap<String, BTreeSet<String>> = services
            .iter()
            .map(|(number, nodes)| {
                let via = hops(nodes, 1, family).iter().map(ToString::to_string).collect();
                (service_route(*number, family).to_string(), via)
            })
            .collect();
        let has = router.table(if family == Family::V4 { "ipv4" } else { "ipv6" })?;
        if has != want {
            return Err(format!("{has:?}, wanted {want:?}"));
        }
    }
    Ok(())
}
