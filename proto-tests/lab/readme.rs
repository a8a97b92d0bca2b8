//! What the README tells the owner of a router, on routers: the texts are taken from it as they stand.

use crate::manifests::{Manifests, Policy, service_object};
use crate::rig::bird::Bird;
use crate::rig::fib::Watch;
use crate::rig::frr::Frr;
use crate::rig::{Outcome, Rig};
use crate::site::{HOLD, SOON, START};
use crate::speaker::{Config, Speaker};
use crate::topology::{FAMILIES, Family, Lab, address, hops, service_route};
use ipnetwork::IpNetwork;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The AS of the README's routers.
const ROUTER_ASN: u32 = 64500;
/// In a pool of the lab and in none of the README's.
const FOREIGN: &str = "203.0.113.1";

/// Each router with the README's lines, and a speaker that has a session with both: the routes come, and go with the
/// service.
pub fn router_snippets_work(rig: &Arc<Rig>) -> Outcome {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&readme).map_err(|e| format!("{}: {e}", readme.display()))?;
    let lab = Lab::build(rig)?;
    let manifests = Manifests::begin(rig)?;
    manifests.service(1, Policy::Cluster, &[1])?;
    let foreign = address(FOREIGN);
    manifests.write("foreign", &service_object("foreign", Policy::Cluster, &[foreign]))?;
    let _frr = Frr::start_with(rig, &lab.routers[0], &lab.plan(1, Family::V4, HOLD), &snippet(&readme, "FRR:", 1)?)?;
    let bird = format!("log stderr all;\n{}", snippet(&readme, "BIRD 2:", 2)?);
    let _bird = Bird::start_with(rig, &lab.routers[1], &lab.plan(2, Family::V4, HOLD), &bird)?;
    let mut watches = lab.routers.iter().map(Watch::begin).collect::<Outcome<Vec<_>>>()?;
    let mut config = Config::of_node(1, Family::V4, HOLD);
    config.peers.iter_mut().for_each(|peer| peer.asn = ROUTER_ASN);
    config.without_endpoints = true;
    let begin = Instant::now();
    let mut speaker = Speaker::start(rig, &lab.nodes[0], &config, &manifests)?;
    for (j, watch) in watches.iter_mut().enumerate() {
        for family in FAMILIES {
            let at = watch
                .wait_hops(START, service_route(1, family), &hops(&[1], j + 1, family))
                .map_err(|what| format!("r{}: {what}\n{}", j + 1, speaker.process().log_end()))?;
            println!("  r{} {family:?}: {:.1?} after the speaker's start", j + 1, at - begin);
        }
    }
    // It was announced in the same messages, so what a filter lets pass would be there by now.
    for (j, watch) in watches.iter_mut().enumerate() {
        if watch.history().iter().any(|snapshot| snapshot.table.contains_key(&IpNetwork::from(foreign))) {
            return Err(format!("r{} took {FOREIGN}, which its filter should keep out", j + 1));
        }
    }
    manifests.delete(1)?;
    for watch in &mut watches {
        for family in FAMILIES {
            watch.wait_hops(SOON, service_route(1, family), &[].into())?;
        }
    }
    Ok(())
}

/// The fenced text below a line of the README, with the subnet of router `router`'s link to n1 in place of its example's.
fn snippet(readme: &str, title: &str, router: usize) -> Outcome<String> {
    let after = readme.lines().skip_while(|line| *line != title).skip_while(|line| !line.starts_with("```")).skip(1);
    let text: String = after.take_while(|line| !line.starts_with("```")).flat_map(|line| [line, "\n"]).collect();
    let (example, ours) = ("172.30.1.0/24", format!("172.30.{router}1.0/24"));
    match text.contains(example) {
        true => Ok(text.replace(example, &ours)),
        false => Err(format!("below {title:?} the README has no text with {example}: {text:?}")),
    }
}
