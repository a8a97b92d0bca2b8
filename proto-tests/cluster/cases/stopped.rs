//! A node that shall take no traffic, and the looking glass as a person at the cluster asks it.

use super::{SOON, at, host, same, wait_both};
use crate::app::{App, PROBE};
use crate::bed::{Bed, HERALD};
use crate::rig::fib::Watch;
use crate::rig::probe::{self, Datagrams, Sample};
use crate::rig::{Outcome, wait_until};
use std::time::{Duration, Instant};

const LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// The label and the condition that stop a node: both routers lose exactly its next hop, and have it back when they are gone. The
/// node itself is well, so nothing is lost at any time.
pub fn by_a_label_and_by_a_condition(bed: &Bed) -> Outcome {
    let address = "198.51.100.60";
    bed.herald()?;
    let app = App::start(bed, "stopped", 3)?;
    let mut watches = bed.watch()?;
    app.load_balancer("public", address, "")?;
    wait_both(&mut watches, SOON, host(address), &bed.all_hops())?;
    wait_until(SOON, "the service to answer", || {
        same("answers", probe::connections(bed.client(), at(address, PROBE), 60)?.answered(), 60)
    })?;
    let datagrams = Datagrams::begin(bed.client(), at(address, PROBE), 40, Duration::from_millis(50));
    let label = |value: &str| bed.kubectl().run(&["label", "node", "n2", &format!("{LABEL}{value}")]).map(drop);
    let condition = |status: &str| network_unavailable(bed, "n2", status);
    let outcome = stops(bed, &mut watches, address, "the label", || label("="), || label("-"))
        .and_then(|()| stops(bed, &mut watches, address, "the condition", || condition("True"), || condition("False")));
    let samples = datagrams.end()?;
    outcome?;
    let lost: Vec<&Sample> = samples.iter().filter(|sample| sample.node.is_none()).collect();
    println!("  datagrams all the while: {} sent, {} lost", samples.len(), lost.len());
    same("datagrams lost", lost.len(), 0)
}

/// Something stops n2, and its end starts it again.
fn stops(
    bed: &Bed,
    watches: &mut [Watch; 2],
    address: &str,
    what: &str,
    begin: impl Fn() -> Outcome,
    end: impl Fn() -> Outcome,
) -> Outcome {
    let asked = Instant::now();
    begin()?;
    let gone = wait_both(watches, SOON, host(address), &bed.hops(["n1", "n3"])?)?;
    let tally = probe::connections(bed.client(), at(address, PROBE), 100)?;
    same(&format!("connections answered under {what}"), tally.answered(), 100)?;
    let ended = Instant::now();
    end()?;
    let whole = wait_both(watches, SOON, host(address), &bed.all_hops())?;
    let seconds = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f32();
    println!(
        "  {what}: the next hop left after {:.2} s, was back after {:.2} s",
        seconds(asked, gone),
        seconds(ended, whole)
    );
    same("connections answered after it", probe::connections(bed.client(), at(address, PROBE), 100)?.answered(), 100)
}

/// What a cloud's or a CNI's controller writes where a node's network is not set up.
fn network_unavailable(bed: &Bed, node: &str, status: &str) -> Outcome {
    let patch = format!(
        r#"{{"status":{{"conditions":[{{"type":"NetworkUnavailable","status":"{status}","reason":"Test","message":"by the test"}}]}}}}"#
    );
    bed.kubectl().run(&["patch", "node", node, "--subresource=status", "--type=strategic", "-p", &patch]).map(drop)
}

/// `kubectl exec … /herald peers` and `… /herald routes` print the tables.
pub fn tables_by_exec(bed: &Bed) -> Outcome {
    let address = "198.51.100.61";
    bed.herald()?;
    let app = App::start(bed, "glass", 3)?;
    let mut watches = bed.watch()?;
    app.load_balancer("public", address, "")?;
    wait_both(&mut watches, SOON, host(address), &bed.all_hops())?;
    for pod in bed.speakers()? {
        let ask = |what: &str| bed.kubectl().run(&["-n", HERALD, "exec", &pod.name, "--", "/herald", what]);
        let (peers, routes) = (ask("peers")?, ask("routes")?);
        println!("  {}", peers.trim().replace('\n', "\n  "));
        println!("  {}", routes.trim().replace('\n', "\n  "));
        if !peers.starts_with(&format!(
            "Node {}, AS 64512, router ID {}\n",
            pod.node,
            bed.node(&pod.node)?.site.address
        )) {
            return Err(format!("the first line of herald peers on {} is wrong:\n{peers}", pod.node));
        }
        for router in ["r1", "r2"] {
            let established = row(&peers, router, "NAME")?.contains(&"Established".to_owned());
            same(&format!("whether {router} is Established by herald peers on {}", pod.node), established, true)?;
        }
        let next_hop = bed.node(&pod.node)?.site.uplink_address.to_string();
        let prefix = format!("{address}/32");
        let both: Vec<&str> = routes.lines().filter(|line| line.starts_with(&prefix)).collect();
        let right = both.iter().filter(|line| line.split_whitespace().any(|word| word == next_hop)).count();
        same(&format!("rows of {prefix} with next hop {next_hop} in herald routes"), right, 2)?;
    }
    Ok(())
}

/// The words of the row that begins with `first`, in the table whose header begins with `header`.
fn row(table: &str, first: &str, header: &str) -> Outcome<Vec<String>> {
    let rows = table.lines().skip_while(|line| !line.starts_with(header)).skip(1);
    let mut words = rows.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    words
        .find(|words| words.first().is_some_and(|word| word == first))
        .ok_or_else(|| format!("no row {first}:\n{table}"))
}
