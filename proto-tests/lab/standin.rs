//! The lab without herald: BIRD on the nodes announces, and everything that the other cases rest on is shown to work.
//! When a case fails and these do not, the fault is not the lab's.

use crate::rig::bird::{Bird, session};
use crate::rig::clean::namespaces;
use crate::rig::fib::Watch;
use crate::rig::net::Namespace;
use crate::rig::probe::connections;
use crate::rig::process::Process;
use crate::rig::router::{Kind, Neighbour, Plan, Router};
use crate::rig::{Outcome, Rig};
use crate::topology::{
    FAMILIES, Family, Lab, NODES_ASN, hops, link_address, router_asn, service, service_route, service_socket,
};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const HOLD: Duration = Duration::from_secs(9);

/// Three announcers, two routers: three next hops in each FIB, traffic on each node, and none of it once they are gone.
pub fn the_lab_itself(rig: &Arc<Rig>, kind: Kind) -> Outcome {
    let lab = Lab::build(rig)?;
    let routers = (1..=2)
        .map(|j| Router::start(kind, rig, &lab.routers[j - 1], &lab.plan(j, Family::V4, HOLD)))
        .collect::<Outcome<Vec<_>>>()?;
    let mut watches = routers.iter().map(|router| Watch::begin(router.space())).collect::<Outcome<Vec<_>>>()?;
    let none = connections(&lab.client, service_socket(1, Family::V4), 3)?;
    if none.answered() != 0 {
        return Err(format!("nothing is announced and yet: {none}"));
    }
    let mut announcers = (1..=3).map(|i| announce(&lab, i)).collect::<Outcome<Vec<_>>>()?;
    for (j, watch) in watches.iter_mut().enumerate() {
        watch.wait_hops(Duration::from_secs(20), service_route(1, Family::V4), &hops(&[1, 2, 3], j + 1, Family::V4))?;
        // BIRD sends its link-local address beside the global one, and FRR prefers that: here only their number counts.
        watch.wait(Duration::from_secs(20), "three IPv6 next hops", |table| {
            match table.get(&service_route(1, Family::V6)).map_or(0, BTreeSet::len) {
                3 => Ok(()),
                other => Err(format!("{other} next hops")),
            }
        })?;
    }
    let counters = lab.uplink_counters()?;
    for family in FAMILIES {
        let tally = connections(&lab.client, service_socket(1, family), 60)?;
        println!("  {family:?}: {tally}");
        if tally.answered() != 60 || tally.nodes().len() != 3 {
            return Err(format!("{family:?}: {tally}"));
        }
    }
    for (node, counter) in lab.nodes.iter().zip(&counters) {
        println!("  {}: {:?}", node.short(), counter.read()?);
    }
    announcers.clear();
    for watch in &mut watches {
        for family in FAMILIES {
            watch.wait_hops(Duration::from_secs(5), service_route(1, family), &[].into())?;
        }
    }
    Ok(())
}

/// What a crashed run left behind is gone after the next one began: processes, also one outside any namespace, and names.
pub fn a_crashed_run_is_cleared_away(rig: &Arc<Rig>) -> Outcome {
    rig.clear()?;
    let space = Namespace::make(rig, "crashed")?;
    let sleep = |command: Command| {
        let mut command = command;
        command.arg("1000");
        Process::start(rig, "crashed", command)
    };
    let left = [sleep(space.command("sleep"))?, sleep(Command::new("sleep"))?];
    let pids = [left[0].pid(), left[1].pid()];
    // A crash runs no destructor. The children are still ours, so that they can be waited for below.
    let mut left = left.map(std::mem::ManuallyDrop::new);
    rig.clear()?;
    for process in &mut left {
        process.wait(Duration::from_secs(2))?;
    }
    match namespaces(rig.prefix()) {
        names if names.is_empty() => Ok(()),
        names => Err(format!("{names:?} are still there; the processes were {pids:?}")),
    }
}

/// BIRD on node `i` announces service 1 to both routers and installs nothing.
fn announce(lab: &Lab, i: usize) -> Outcome<Bird> {
    let neighbour = |j: usize| Neighbour {
        name: format!("r{j}"),
        address: link_address(i, j, 1, Family::V4),
        local: link_address(i, j, 2, Family::V4),
        asn: router_asn(j),
        password: None,
    };
    let plan = Plan {
        asn: NODES_ASN,
        router_id: Ipv4Addr::new(172, 30, 0, u8::try_from(i).expect("there are three nodes")),
        hold: HOLD,
        neighbours: vec![neighbour(1), neighbour(2)],
    };
    let mut text = format!(
        "log stderr all;\nrouter id {};\nprotocol device {{ }}\n\
         protocol static {{ ipv4; route {}/32 blackhole; }}\nprotocol static {{ ipv6; route {}/128 blackhole; }}\n",
        plan.router_id,
        service(1, Family::V4),
        service(1, Family::V6)
    );
    for (j, n) in plan.neighbours.iter().enumerate() {
        let six = link_address(i, j + 1, 2, Family::V6);
        let both =
            session(&plan, n, "import none; export all; next hop self;").replace("passive on", "connect retry time 1");
        // On a session over IPv4 BIRD would derive the other family's next hop from nothing: say it.
        let last = both.rfind(" ipv6 {").unwrap_or(both.len());
        text.push_str(&format!("{} ipv6 {{ import none; export all; next hop address {six}; }};\n}}\n", &both[..last]));
    }
    Bird::start_with(&lab.rig, &lab.nodes[i - 1], &plan, &text)
}
