//! Nodes and speakers that fail.

use super::{SOON, at, host, same, wait_both};
use crate::app::{App, PROBE};
use crate::bed::{Bed, HERALD, HOLD};
use crate::rig::nft::Cut;
use crate::rig::probe::{self, Datagrams, LongFlows, Sample};
use crate::rig::{Outcome, fib::Watch, wait_until};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What reading a table and two routers' own timers may add to a hold time.
const SLACK: Duration = Duration::from_millis(1500);
/// A speaker's back-off may have grown while its router was out of reach.
const RETURN: Duration = Duration::from_secs(40);

/// The links between one node and both routers fall silent: its next hop leaves within the hold time, nobody else loses
/// anything, and when the links are back, so is the next hop.
///
/// `Local`, so that the node that answers is the leg that was taken; the pods' network is not cut.
pub fn silent_cut_and_return(bed: &Bed) -> Outcome {
    let address = "198.51.100.30";
    bed.herald()?;
    let app = App::start(bed, "cut", 3)?;
    let mut watches = bed.watch()?;
    app.load_balancer("public", address, "  externalTrafficPolicy: Local")?;
    wait_both(&mut watches, SOON, host(address), &bed.all_hops())?;
    serves(bed, address)?;

    let lost = bed.node("n2")?;
    let others = bed.hops(["n1", "n3"])?;
    let datagrams = Datagrams::begin(bed.client(), at(address, PROBE), 60, Duration::from_millis(50));
    let flows = LongFlows::open(bed.client(), at(address, PROBE), 60)?;
    std::thread::sleep(Duration::from_secs(1)); // the time in which each flow shows which leg it takes
    let cut_at = Instant::now();
    let cut = Cut::links(&[&lost.site.uplink])?;
    let gone = wait_both(&mut watches, HOLD + SLACK, host(address), &others)?;
    let tally = probe::connections(bed.client(), at(address, PROBE), 200)?;
    println!("  cut: the next hop left both routers after {:.1} s; then {tally}", (gone - cut_at).as_secs_f32());
    same("new connections answered after the change", tally.answered(), 200)?;
    same("nodes that answered them", tally.nodes(), BTreeSet::from(["n1", "n3"]))?;
    judge_datagrams(&datagrams.end()?, cut_at, gone)?;
    let flows = flows.close()?;
    let moved = flows.iter().filter(|flow| flow.node != "n2" && flow.broke.is_some()).count();
    let healthy = flows.iter().filter(|flow| flow.node != "n2").count();
    println!("  of {healthy} long connections over surviving legs, {moved} were hashed to another leg and broke");
    never_left(&mut watches, address, &others)?;

    let healed = Instant::now();
    cut.heal();
    let whole = wait_both(&mut watches, RETURN, host(address), &bed.all_hops())?;
    println!("  healed: the next hop is back in both routers after {:.1} s", (whole - healed).as_secs_f32());
    same("new connections after the return", probe::connections(bed.client(), at(address, PROBE), 100)?.answered(), 100)
}

/// Flows over surviving legs lose nothing, at any time; the others lose nothing once the tables have changed.
fn judge_datagrams(samples: &[Sample], cut: Instant, gone: Instant) -> Outcome {
    let legs = probe::legs(samples, cut);
    let on_lost = |flow: &usize| legs.get(flow).map(String::as_str) == Some("n2");
    let lost: Vec<&Sample> = samples.iter().filter(|sample| sample.node.is_none()).collect();
    let surviving = lost.iter().filter(|sample| !on_lost(&sample.flow)).count();
    let late = lost.iter().filter(|sample| sample.sent > gone).count();
    let affected = legs.values().filter(|node| *node == "n2").count();
    println!(
        "  datagrams: {} sent on {} flows; {affected} flows took the cut leg; lost: {} (surviving legs {surviving}, after the change {late})",
        samples.len(),
        legs.len(),
        lost.len()
    );
    if affected == 0 || affected == legs.len() {
        return Err(format!("{affected} of {} flows took the leg that was cut: this shows nothing", legs.len()));
    }
    same("datagrams lost over surviving legs", surviving, 0).map_err(|e| {
        let seconds = |at: Instant| if at < cut { -(cut - at).as_secs_f32() } else { (at - cut).as_secs_f32() };
        let told = lost.iter().filter(|sample| !on_lost(&sample.flow));
        let told: Vec<String> = told.map(|sample| format!("{}:{:.2}", sample.flow, seconds(sample.sent))).collect();
        format!("{e}; as flow:seconds after the cut: {}", told.join(" "))
    })?;
    same("datagrams lost after the change", late, 0)
}

/// In the whole history, the legs that were not cut never left a router's route.
fn never_left(watches: &mut [Watch; 2], address: &str, others: &BTreeSet<std::net::IpAddr>) -> Outcome {
    for watch in watches {
        let name = watch.space().short().to_owned();
        let seen = watch.history().iter().filter_map(|snapshot| snapshot.table.get(&host(address)));
        // Before the service was there the route grew leg by leg; from the first whole state on it may only lose the cut one.
        let mut after_whole = seen.skip_while(|hops| hops.len() < others.len() + 1);
        if let Some(hops) = after_whole.find(|hops| !hops.is_superset(others)) {
            return Err(format!("{name} had {hops:?} for a while, without some of {others:?}"));
        }
    }
    Ok(())
}

/// A speaker's pod is deleted: its routes go at once and in order, its DaemonSet brings it back, and the tables are whole again.
pub fn pod_deleted_daemonset_restores(bed: &Bed) -> Outcome {
    let address = "198.51.100.40";
    bed.herald()?;
    let app = App::start(bed, "restore", 3)?;
    let mut watches = bed.watch()?;
    app.load_balancer("public", address, "  externalTrafficPolicy: Local")?;
    wait_both(&mut watches, SOON, host(address), &bed.all_hops())?;
    serves(bed, address)?;

    let speakers = bed.speakers()?;
    let victim = speakers.iter().find(|pod| pod.node == "n1").ok_or("no speaker runs on n1")?;
    let begun = Instant::now();
    bed.kubectl().run(&["-n", HERALD, "delete", "pod", &victim.name, "--wait=false"])?;
    let gone = wait_both(&mut watches, SOON, host(address), &bed.hops(["n2", "n3"])?)?;
    let whole = wait_both(&mut watches, Duration::from_secs(60), host(address), &bed.all_hops())?;
    println!(
        "  its next hop left {:.1} s after the order and was back {:.1} s after it",
        (gone - begun).as_secs_f32(),
        (whole - begun).as_secs_f32()
    );
    let tally = probe::connections(bed.client(), at(address, PROBE), 100)?;
    same("new connections once the tables are whole", tally.answered(), 100)?;
    same("nodes that answered them", tally.nodes(), BTreeSet::from(["n1", "n2", "n3"]))?;
    let after = bed.speakers()?;
    match after.iter().find(|pod| pod.name == victim.name) {
        None => Ok(()),
        Some(_) => Err(format!("{} was deleted and is still there", victim.name)),
    }
}

/// Waits until kube-proxy on every node passes the service's connections on.
fn serves(bed: &Bed, address: &str) -> Outcome {
    wait_until(SOON, "the service to answer on every node", || {
        let tally = probe::connections(bed.client(), at(address, PROBE), 60)?;
        if tally.answered() == 60 && tally.nodes().len() == bed.nodes.len() { Ok(()) } else { Err(tally.to_string()) }
    })
    .map(drop)
}
