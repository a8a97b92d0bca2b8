//! Items 1 to 3 of the main job, without the cut: the routers spread traffic over all nodes, follow the endpoints of a
//! `Local` service, lose a speaker that ends and get it back.

use crate::manifests::Policy;
use crate::rig::router::Kind;
use crate::rig::{Outcome, Rig, wait_until};
use crate::site::{SOON, START, Site};
use crate::topology::{FAMILIES, Family, hops, service_route};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections in the first act.
const CONNECTIONS: usize = 200;

/// All of it with one kind of router and sessions over one family; services have both.
pub fn story(rig: &Arc<Rig>, kind: Kind, transport: Family) -> Outcome {
    let begin = Instant::now();
    let mut site = Site::start(rig, kind, transport)?;
    spread_over_three_nodes(&mut site, begin)?;
    local_follows_its_endpoints(&mut site)?;
    a_speaker_ends_and_comes_back(&mut site)?;
    nothing_is_left(&mut site)
}

fn spread_over_three_nodes(site: &mut Site, begin: Instant) -> Outcome {
    let whole = site.wait_nodes(START, 1, &[1, 2, 3], begin)?;
    println!("  three next hops in both tables, both families, {whole:.1?} after the first command");
    let counters = site.lab.uplink_counters()?;
    site.all_answered(1, CONNECTIONS, &[1, 2, 3])?;
    for (node, counter) in site.lab.nodes.iter().zip(&counters) {
        let carried = counter.read()?;
        println!("  {} carried {carried:?}", node.short());
        if ["v4", "v6"].iter().any(|family| carried.get(*family).copied().unwrap_or_default() == 0) {
            return Err(format!("{} carried nothing of one family: {carried:?}", node.short()));
        }
    }
    Ok(())
}

fn local_follows_its_endpoints(site: &mut Site) -> Outcome {
    site.wait_nodes(SOON, 2, &[1, 2], Instant::now())?;
    site.all_answered(2, 40, &[1, 2])?;
    let moved = Instant::now();
    site.manifests.service(2, Policy::Local, &[1, 3])?;
    let followed = site.wait_nodes(SOON, 2, &[1, 3], moved)?;
    println!("  an endpoint moved from n2 to n3: the tables followed in {followed:.1?}");
    site.all_answered(2, 40, &[1, 3])?;
    stayed_reachable(site, moved)?;
    let deleted = Instant::now();
    site.manifests.delete(2)?;
    let gone = site.wait_nodes(SOON, 2, &[], deleted)?;
    println!("  the service was deleted: gone from both tables in {gone:.1?}");
    site.wait_nodes(SOON, 1, &[1, 2, 3], Instant::now()).map(drop)
}

/// While one endpoint moved, n1 served all the time: no table may have been without it for a moment.
fn stayed_reachable(site: &mut Site, since: Instant) -> Outcome {
    for (j, watch) in site.watches.iter_mut().enumerate() {
        for snapshot in watch.history().iter().filter(|snapshot| snapshot.at > since) {
            for family in FAMILIES {
                let has = snapshot.table.get(&service_route(2, family)).cloned().unwrap_or_default();
                if !has.is_superset(&hops(&[1], j + 1, family)) {
                    return Err(format!("r{} lost n1 while an endpoint moved from n2 to n3: {has:?}", j + 1));
                }
            }
        }
    }
    Ok(())
}

fn a_speaker_ends_and_comes_back(site: &mut Site) -> Outcome {
    let before: Vec<usize> = (1..=2).map(|j| ceases(site, j, 3)).collect();
    let told = Instant::now();
    let (status, took) = site.speakers[2].terminate(Duration::from_secs(2))?;
    let gone = site.wait_nodes(SOON, 1, &[1, 2], told)?;
    println!("  SIGTERM: {status} after {took:.1?}, its next hop left in {gone:.1?}");
    if !status.success() {
        return Err(format!("SIGTERM ended n3's speaker with {status}: {}", site.speakers[2].process().log_end()));
    }
    for j in 1..=2 {
        wait_until(SOON, &format!("r{j} to tell of Cease 6/2"), || match ceases(site, j, 3) {
            n if n == before[j - 1] + 1 => Ok(()),
            n => Err(format!("{} of them", n - before[j - 1])),
        })?;
    }
    site.all_answered(1, 40, &[1, 2])?;
    let again = Instant::now();
    site.speakers[2] = site.speaker(3)?;
    let whole = site.wait_nodes(START, 1, &[1, 2, 3], again)?;
    println!("  restarted: the tables were whole in {whole:.1?}");
    site.all_answered(1, 60, &[1, 2, 3])
}

fn ceases(site: &Site, router: usize, node: usize) -> usize {
    site.routers[router - 1].ceases(&site.neighbour(router, node), 2)
}

fn nothing_is_left(site: &mut Site) -> Outcome {
    let told = Instant::now();
    for speaker in &mut site.speakers {
        let (status, _) = speaker.terminate(Duration::from_secs(2))?;
        if !status.success() {
            return Err(format!("SIGTERM ended a speaker with {status}: {}", speaker.process().log_end()));
        }
    }
    site.wait_nodes(SOON, 1, &[], told).map(drop)
}
