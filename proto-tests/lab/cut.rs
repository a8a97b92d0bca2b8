//! A node loses both its uplinks, silently: its next hop leaves within the hold time, traffic to the others goes on, and
//! the next hop comes back with the links.

use crate::rig::probe::{Datagrams, Flow, LongFlows, Sample, legs};
use crate::rig::router::Kind;
use crate::rig::{Outcome, Rig};
use crate::site::{HOLD, START, Site};
use crate::topology::{FAMILIES, Family, hops, service_route, service_socket};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const FLOWS: usize = 48;
const LONG_FLOWS: usize = 24;
const PACE: Duration = Duration::from_millis(20);
/// The node that is cut off: an outer leg, so that the kernel moves some flows of the others when it goes.
const CUT: usize = 1;
/// A table is read within this after it changed; a datagram sent later than that has the new table.
const READING: Duration = Duration::from_millis(100);
/// How late a router may see that a hold time is over, and its kernel hear of it.
const LATE: Duration = Duration::from_millis(500);
/// How long a healed node may take.
const BACK: Duration = Duration::from_secs(40);

/// When the tables changed after an instant: the first and the last of the two routers.
#[derive(Debug, Clone, Copy)]
struct Change {
    first: Instant,
    last: Instant,
}

/// Traffic of one family while a node is cut and healed.
struct Traffic {
    family: Family,
    datagrams: Datagrams,
    long: LongFlows,
}

/// The whole case.
pub fn silent_cut(rig: &Arc<Rig>, kind: Kind, transport: Family) -> Outcome {
    let mut site = Site::start(rig, kind, transport)?;
    site.wait_nodes(START, 1, &[1, 2, 3], Instant::now())?;
    let traffic = FAMILIES.map(|family| begin(&site, family));
    let traffic = traffic.into_iter().collect::<Outcome<Vec<_>>>()?;
    // A second of traffic over three legs, so that each flow's leg is known before the cut.
    thread::sleep(Duration::from_secs(1));

    let cut_at = Instant::now();
    let cut = site.lab.cut(CUT)?;
    // A router may hear of the node until its own end of the links is cut: its hold time begins no later than now.
    let cut_off = Instant::now();
    let gone = changes(&mut site, &[2, 3], cut_off, HOLD + LATE)?;
    site.all_answered(1, 100, &[2, 3])?;
    let heal_at = Instant::now();
    cut.heal();
    let back = changes(&mut site, &[1, 2, 3], heal_at, BACK)?;
    site.all_answered(1, 100, &[1, 2, 3])?;
    for (traffic, (gone, back)) in traffic.into_iter().zip(gone.into_iter().zip(back)) {
        let family = traffic.family;
        println!(
            "  {family:?}: next hop gone {:.2?} and {:.2?} after the cut, back {:.2?} and {:.2?} after the healing",
            gone.first - cut_at,
            gone.last - cut_at,
            back.first - heal_at,
            back.last - heal_at
        );
        let samples = traffic.datagrams.end()?;
        judge_datagrams(family, &samples, cut_at, gone)?;
        judge_long(family, &traffic.long.close()?, gone, heal_at)?;
    }
    Ok(())
}

fn begin(site: &Site, family: Family) -> Outcome<Traffic> {
    let to = service_socket(1, family);
    Ok(Traffic {
        family,
        long: LongFlows::open(&site.lab.client, to, LONG_FLOWS)?,
        datagrams: Datagrams::begin(&site.lab.client, to, FLOWS, PACE),
    })
}

/// Waits until both routers have exactly these nodes, a change a family.
fn changes(site: &mut Site, nodes: &[usize], since: Instant, within: Duration) -> Outcome<Vec<Change>> {
    site.wait_nodes(within, 1, nodes, since)?;
    FAMILIES
        .into_iter()
        .map(|family| {
            let mut at = Vec::new();
            for (j, watch) in site.watches.iter_mut().enumerate() {
                let want = hops(nodes, j + 1, family);
                let has = |table: &crate::rig::fib::Table| table.get(&service_route(1, family)) == Some(&want);
                let history = watch.history();
                let since_when = history.iter().rposition(|s| !has(&s.table)).map_or(0, |n| n + 1);
                let snapshot = history.get(since_when).ok_or_else(|| format!("r{} changed again", j + 1))?;
                at.push(snapshot.at);
            }
            Ok(Change { first: at[0].min(at[1]), last: at[0].max(at[1]) })
        })
        .collect()
}

/// Flows over surviving legs lose nothing at all; every flow is answered again once both tables have changed.
fn judge_datagrams(family: Family, samples: &[Sample], cut_at: Instant, gone: Change) -> Outcome {
    let before = legs(samples, cut_at);
    if before.len() != FLOWS {
        return Err(format!("{family:?}: only {} of {FLOWS} flows were answered before the cut", before.len()));
    }
    let cut_name = format!("n{CUT}");
    let lost = |from: Instant, to: Option<Instant>, whose: &dyn Fn(usize) -> bool| {
        samples
            .iter()
            .filter(|s| s.node.is_none() && s.sent >= from && to.is_none_or(|to| s.sent < to) && whose(s.flow))
            .count()
    };
    let survivor = |flow: usize| before.get(&flow).is_some_and(|node| *node != cut_name);
    let doomed = |flow: usize| !survivor(flow);
    let start = samples.first().map_or(cut_at, |s| s.sent);
    let survivors = (0..FLOWS).filter(|flow| survivor(*flow)).count();
    let moved = moved(samples, &before, cut_at, gone.last + READING, &cut_name);
    println!(
        "  {family:?}: {} datagrams; {survivors} flows on surviving legs lost {}, {} on the cut leg lost {} until the tables \
         changed and {} after; {moved} surviving flows moved",
        samples.len(),
        lost(start, None, &survivor),
        FLOWS - survivors,
        lost(cut_at, Some(gone.last + READING), &doomed),
        lost(gone.last + READING, None, &doomed),
    );
    if lost(start, Some(cut_at), &|_| true) > 0 {
        return Err(format!("{family:?}: datagrams were lost before the cut"));
    }
    if doomed_flows_never_noticed(survivors) {
        return Err(format!("{family:?}: no flow used the node that was cut: the case proves nothing"));
    }
    match (lost(start, None, &survivor), lost(gone.last + READING, None, &doomed)) {
        (0, 0) => Ok(()),
        (a, b) => Err(format!(
            "{family:?}: {a} datagrams lost on surviving legs, {b} on the others after the tables had changed"
        )),
    }
}

fn doomed_flows_never_noticed(survivors: usize) -> bool {
    survivors == FLOWS
}

/// Surviving flows that another node answered once the tables had changed: the kernel's hash, no announcer's doing.
fn moved(
    samples: &[Sample],
    before: &BTreeMap<usize, String>,
    cut_at: Instant,
    after: Instant,
    cut_name: &str,
) -> usize {
    let mut now: BTreeMap<usize, &str> = BTreeMap::new();
    for sample in samples.iter().filter(|s| s.sent > cut_at && s.sent > after) {
        if let Some(node) = &sample.node {
            now.entry(sample.flow).or_insert(node);
        }
    }
    now.iter().filter(|(flow, node)| before.get(flow).is_some_and(|old| old != cut_name && old != *node)).count()
}

/// Long connections may break only when a table changes, which is up to a reading before it is seen: on the cut node, or because
/// the hash moved them.
fn judge_long(family: Family, flows: &[Flow], gone: Change, heal_at: Instant) -> Outcome {
    let cut_name = format!("n{CUT}");
    let on_cut = flows.iter().filter(|flow| flow.node == cut_name).count();
    let broken: Vec<&Flow> = flows.iter().filter(|flow| flow.node != cut_name && flow.broke.is_some()).collect();
    println!(
        "  {family:?}: {} long connections, {on_cut} on the cut node; {} on surviving nodes were moved by the hash and broke",
        flows.len(),
        broken.len()
    );
    for flow in broken {
        if let Some((at, why)) = &flow.broke
            && *at + READING < gone.first.min(heal_at)
        {
            return Err(format!("{family:?}: a connection to {} broke before any table had changed: {why}", flow.node));
        }
    }
    Ok(())
}
