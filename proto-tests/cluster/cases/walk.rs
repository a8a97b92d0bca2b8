//! A change of the file that ends sessions, in a cluster: one node at a time, and one that is wrong stays on the first.

use super::{SOON, at, host, same, wait_both};
use crate::app::{App, PROBE};
use crate::bed::{Bed, HERALD, SPEAKERS};
use crate::node::Node;
use crate::rig::probe::{self, Datagrams, Sample};
use crate::rig::router::{Change, Router, Session};
use crate::rig::{Outcome, wait_until};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// Three nodes, each with two peers, and at most as long again for the kubelets to bring the file.
const WALK: Duration = Duration::from_secs(120);

/// What the edits change: each line ends every session that takes it.
const LARGER: &str = ", extendedMessages: true}";
const WRONG: &str = ", extendedMessages: true, sourceAddress: 203.0.113.77}";

/// All nodes have the edit at the same moment; one after the other takes it. Then one that no router can answer: it costs the first
/// node one session for a while and the others nothing. Then all of it is taken back. No datagram is lost in any of it.
pub fn one_node_at_a_time_and_a_wrong_one_on_none_but_the_first(bed: &Bed) -> Outcome {
    let address = "198.51.100.63";
    bed.herald()?;
    bed.speakers()?;
    let app = App::start(bed, "walk", 3)?;
    let mut watches = bed.watch()?;
    app.load_balancer("public", address, "")?;
    wait_both(&mut watches, SOON, host(address), &bed.all_hops())?;
    wait_until(SOON, "the service to answer", || {
        same("answers", probe::connections(bed.client(), at(address, PROBE), 60)?.answered(), 60)
    })?;
    let config = bed.kubectl().json(&["-n", HERALD, "get", "configmap", "herald"])?;
    let before = config["data"]["herald.yaml"].as_str().ok_or("the ConfigMap has no herald.yaml")?.to_owned();
    let datagrams = Datagrams::begin(bed.client(), at(address, PROBE), 40, Duration::from_millis(50));
    let outcome = edits(bed, &before);
    if outcome.is_err() {
        // For the cases that come after.
        use_file(bed, &before)?;
    }
    let samples = datagrams.end()?;
    outcome?;
    let lost: Vec<&Sample> = samples.iter().filter(|sample| sample.node.is_none()).collect();
    println!("  datagrams all the while: {} sent, {} lost", samples.len(), lost.len());
    same("datagrams lost", lost.len(), 0)
}

fn edits(bed: &Bed, before: &str) -> Outcome {
    let nodes = bed.nodes.len();
    let all = |seen: &Seen| Ok(seen.ended.len() == nodes * bed.routers.len());
    let larger = peers_with(before, LARGER);
    let seen = watched(bed, "every node took it", &larger, all)?;
    println!("  a change that is right: {seen}");
    let seen = watched(bed, "one node stopped and the others are told", &peers_with(before, WRONG), |_| {
        let told = conditions(bed)?;
        let stopped = told.iter().filter(|(_, text)| text.contains("did not come back within")).count();
        let barred = told.iter().filter(|(_, text)| text.contains("this configuration failed on the node")).count();
        Ok((stopped, barred) == (1, nodes - 1))
    })?;
    println!("  one that is wrong: {seen}");
    same("sessions that it cost", seen.ended.len(), 1)?;
    // Nobody has it: what is right costs nothing.
    let seen = watched(bed, "nobody is told anything any more", &larger, |_| {
        Ok(conditions(bed)?.iter().all(|(_, text)| !text.contains("ReloadStopped")))
    })?;
    println!("  taken back: {seen}");
    same("sessions that this cost", seen.ended.len(), 0)?;
    let seen = watched(bed, "every node went back", before, all)?;
    println!("  as it was before: {seen}");
    Ok(())
}

/// The file with more said of each peer, and little patience.
fn peers_with(file: &str, more: &str) -> String {
    let lines = file.lines().map(|line| match line.contains("asn: 64601") {
        true => line.trim_end_matches('}').to_owned() + more + "\n",
        false => line.to_owned() + "\n",
    });
    lines.collect::<String>() + "reload: {patience: 10s}\n"
}

/// What the routers saw of their sessions.
#[derive(Debug, Default)]
struct Seen {
    /// Sessions that ended, by node and router.
    ended: BTreeSet<(String, usize)>,
    /// From the first end to the last return, as the routers write times.
    from: String,
    to: String,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nodes: BTreeSet<&str> = self.ended.iter().map(|(node, _)| node.as_str()).collect();
        let count = self.ended.len();
        write!(f, "{count} sessions ended, of {nodes:?}, never of two nodes at once, from {} to {}", self.from, self.to)
    }
}

impl Seen {
    /// What both routers have seen after their first `before` changes, which is an error if two nodes lacked a session at once.
    fn after(bed: &Bed, before: usize) -> Outcome<Self> {
        let mut seen = Self::default();
        let mut down = BTreeSet::new();
        for (change, router) in changes(bed).into_iter().skip(before) {
            let session = (change.neighbour, router);
            match change.session {
                Session::Up => drop(down.remove(&session)),
                Session::Down => drop(down.insert(session.clone())),
            }
            let nodes: BTreeSet<&String> = down.iter().map(|(node, _)| node).collect();
            if nodes.len() > 1 {
                return Err(format!("{down:?} lacked a session at the same time, at {}", change.at));
            }
            if change.session == Session::Down && seen.ended.insert(session) && seen.from.is_empty() {
                seen.from.clone_from(&change.at);
            }
            seen.to = change.at;
        }
        Ok(seen)
    }
}

/// What both routers saw of their sessions, in order.
fn changes(bed: &Bed) -> Vec<(Change, usize)> {
    let of = |(n, router): (usize, &Router)| router.changes().into_iter().map(move |change| (change, n));
    let mut all: Vec<_> = bed.routers.iter().enumerate().flat_map(of).collect();
    // Stable: of one router's, those of one millisecond stay as they were.
    all.sort_by(|a, b| a.0.at.cmp(&b.0.at));
    all
}

/// Has all nodes use a file and waits until `done` says so and all sessions stand again.
fn watched(bed: &Bed, what: &str, file: &str, done: impl Fn(&Seen) -> Outcome<bool>) -> Outcome<Seen> {
    let before = changes(bed).len();
    use_file(bed, file)?;
    wait_until(WALK, what, || {
        let seen = Seen::after(bed, before)?;
        match done(&seen)? && without_a_session(bed)?.is_empty() {
            true => Ok(()),
            false => Err(format!("{seen}; {:?}", conditions(bed)?)),
        }
    })?;
    Seen::after(bed, before)
}

fn without_a_session(bed: &Bed) -> Outcome<BTreeSet<String>> {
    let mut down = BTreeSet::new();
    for router in &bed.routers {
        let sessions = router.sessions()?;
        let stands =
            |at: IpAddr| sessions.get(&at).is_some_and(|state| state.split_whitespace().next() == Some("Established"));
        let nodes = bed.nodes.iter().filter(|node| !stands(node.site.uplink_address.into()));
        down.extend(nodes.map(|node| node.site.name.clone()));
    }
    Ok(down)
}

/// What each node's speaker says is not as it should be.
pub(super) fn conditions(bed: &Bed) -> Outcome<Vec<(String, String)>> {
    let ask = |node: &Node| {
        let text = node.site.space.run("curl", &["-s", "http://127.0.0.1:7472/readyz"])?;
        Ok((node.site.name.clone(), text))
    };
    bed.nodes.iter().map(ask).collect()
}

/// Gives the ConfigMap this text, and has the kubelets bring it to all nodes at once: a pod that changes is looked at anew.
pub(super) fn use_file(bed: &Bed, text: &str) -> Outcome {
    let patch = json!({"data": {"herald.yaml": text}}).to_string();
    bed.kubectl().run(&["-n", HERALD, "patch", "configmap", "herald", "--type=merge", "-p", &patch])?;
    let stamp = format!("herald.test/edit={}", text.len());
    bed.kubectl().run(&["-n", HERALD, "annotate", "pods", "-l", SPEAKERS, "--overwrite", &stamp]).map(drop)
}
