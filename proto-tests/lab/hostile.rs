//! Routers that refuse us, never answer, close at once, or are not there: we come back at the settled pace, spend next to
//! nothing on it, and the session beside them does not notice.

use crate::manifests::{Manifests, Policy};
use crate::rig::bgp::{Listener, Manner};
use crate::rig::fib::Watch;
use crate::rig::net::{Namespace, feed};
use crate::rig::process::Process;
use crate::rig::router::{Kind, Router};
use crate::rig::{Outcome, Rig, wait_until};
use crate::site::{HOLD, SOON, START};
use crate::speaker::{Config, Peer, Speaker};
use crate::topology::{Family, Lab, address, hops, service_route};
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the storm is watched.
const WINDOW: Duration = Duration::from_secs(30);
/// How long the speaker is watched before it: it looks at its files and keeps its session then too.
const QUIET: Duration = Duration::from_secs(15);
/// How often a second the four may wake it beyond that. An attempt takes a few wakes; something that looks after one of them
/// five times a second is over it.
const WAKES: f64 = 5.0;
/// What it may take of a core at most, in a hundred, so that it does not spin. How little it takes is nothing to hold a test
/// to: the same work takes much longer on a machine whose caches others use.
const SPIN: f64 = 10.0;
/// A connection attempt is given up after this long.
const GIVE_UP: f64 = 5.0;

/// A neighbour that does not do what a neighbour should.
struct Bad {
    name: &'static str,
    address: IpAddr,
    port: u16,
    /// What one attempt takes by itself, in seconds; `None`: the first attempt lasts longer than the window.
    attempt: Option<f64>,
}

fn bad_neighbours() -> [Bad; 4] {
    let bad = |name, at, port, attempt| Bad { name, address: address(at), port, attempt };
    [
        bad("refuses", "172.30.11.1", 179, Some(0.0)),
        bad("mute", "172.30.11.11", 1791, None),
        bad("hangup", "172.30.11.12", 1792, Some(0.0)),
        bad("silent", "172.30.11.13", 1793, Some(GIVE_UP)),
    ]
}

/// The whole case: r1 hosts the four bad ones, r2 is an honest FRR.
pub fn bad_neighbours_cost_nothing(rig: &Arc<Rig>) -> Outcome {
    let lab = Lab::build(rig)?;
    let manifests = Manifests::begin(rig)?;
    manifests.service(1, Policy::Cluster, &[1])?;
    let neighbours = bad_neighbours();
    let r1 = &lab.routers[0];
    let _listeners = host(&lab, &neighbours)?;
    let mut wrong = lab.plan(1, Family::V4, HOLD);
    wrong.neighbours.iter_mut().for_each(|n| n.asn = 64999);
    let refuser = Router::start(Kind::Frr, rig, r1, &wrong)?;
    let _honest = Router::start(Kind::Frr, rig, &lab.routers[1], &lab.plan(2, Family::V4, HOLD))?;
    let mut watch = Watch::begin(&lab.routers[1])?;
    let mut capture = syns(rig, r1)?;
    let mut config = Config::of_node(1, Family::V4, HOLD);
    config.peers.remove(0);
    let mut speaker = Speaker::start(rig, &lab.nodes[0], &config, &manifests)?;
    let up = watch.wait_hops(START, service_route(1, Family::V4), &hops(&[1], 2, Family::V4));
    up.map_err(|what| format!("{what}\n{}", speaker.process().log_end()))?;
    let alone = effort(&mut speaker, QUIET, || Ok(()))?;
    config.peers.extend(neighbours.iter().map(|bad| Peer {
        name: bad.name.to_owned(),
        address: bad.address,
        port: bad.port,
        asn: 65001,
        hold: HOLD,
    }));
    speaker.reload(&config)?;
    let cost = storm(&mut speaker, &alone, &mut watch, &manifests);
    capture.alive()?;
    let attempts = parse(&capture.log());
    for bad in &neighbours {
        judge(bad, attempts.get(&SocketAddr::new(bad.address, bad.port)).map_or(&[], Vec::as_slice))?;
    }
    let states = refuser.sessions()?;
    if states.values().any(|state| state == "Established") {
        return Err(format!("a router that was told another AS number is Established: {states:?}"));
    }
    cost
}

/// Addresses, listeners and the silence of the neighbours that are no routers.
fn host(lab: &Lab, neighbours: &[Bad]) -> Outcome<Vec<Listener>> {
    let r1 = &lab.routers[0];
    let extra: Vec<IpNetwork> = neighbours.iter().skip(1).map(|bad| IpNetwork::from(bad.address)).collect();
    r1.address("n1", &extra)?;
    let silence = "table inet hd_silence {\n chain c {\n type filter hook prerouting priority -300; policy accept;\n \
                   tcp dport 1793 drop\n }\n}\n";
    feed(r1.command("nft").args(["-f", "-"]), silence)?;
    let listen = |bad: &Bad, manner| Listener::start(r1, SocketAddr::new(bad.address, bad.port), manner);
    Ok(vec![listen(&neighbours[1], Manner::Mute)?, listen(&neighbours[2], Manner::Hangup)?])
}

/// Half a minute of it: what it does beyond what it does without, the honest router's table, and a change that must get
/// through in the middle.
fn storm(speaker: &mut Speaker, alone: &Effort, watch: &mut Watch, manifests: &Manifests) -> Outcome {
    let changes_before = watch.history().len();
    let beside = effort(speaker, WINDOW, || {
        let told = Instant::now();
        manifests.service(2, Policy::Cluster, &[1])?;
        let at = watch.wait_hops(SOON, service_route(2, Family::V4), &hops(&[1], 2, Family::V4))?;
        println!("  a new service reached the honest router in {:.1?}", at - told);
        Ok(())
    })?;
    println!("  over {WINDOW:?} {beside}; without them {alone}");
    if beside.wakes - alone.wakes >= WAKES || beside.share >= SPIN {
        return Err(format!("bad neighbours cost too much: {beside}; without them {alone}"));
    }
    let lost = watch.history()[changes_before..]
        .iter()
        .find(|s| [Family::V4, Family::V6].iter().any(|family| !s.table.contains_key(&service_route(1, *family))));
    match lost {
        None => Ok(()),
        Some(_) => Err("the honest router lost its route meanwhile".to_owned()),
    }
}

/// What the speaker did over a while.
struct Effort {
    /// How often its sessions' thread was woken, a second.
    wakes: f64,
    /// How much of a core it took, in a hundred.
    share: f64,
}

impl fmt::Display for Effort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "woken {:.1} times a second, {:.2} % of a core", self.wakes, self.share)
    }
}

/// What the speaker does over a while, in the middle of which something happens.
fn effort(speaker: &mut Speaker, window: Duration, midway: impl FnOnce() -> Outcome) -> Outcome<Effort> {
    let (begin, sleeps, cpu) = (Instant::now(), speaker.process().sleeps()?, speaker.process().cpu()?);
    wait_until(window, "half of the window", || passed(begin, window / 2))?;
    midway()?;
    wait_until(window, "the end of the window", || passed(begin, window))?;
    let (sleeps, cpu) = (speaker.process().sleeps()? - sleeps, speaker.process().cpu()? - cpu);
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Effort { wakes: sleeps as f64 / seconds, share: 100.0 * cpu.as_secs_f64() / seconds })
}

fn passed(begin: Instant, time: Duration) -> Outcome {
    if begin.elapsed() >= time { Ok(()) } else { Err(format!("{:?} passed", begin.elapsed())) }
}

/// Every first SYN that reaches r1 from n1, on the wire: tcpdump sees it before any rule drops it.
fn syns(rig: &Rig, r1: &Namespace) -> Outcome<Process> {
    let mut command = r1.command("tcpdump");
    command.args(["-i", "n1", "-nn", "-tt", "-l", "--immediate-mode", "-Q", "in", "ip and tcp[13] & 18 == 2"]);
    let capture = Process::start(rig, "syns", command)?;
    wait_until(SOON, "tcpdump to listen", || {
        if capture.log().contains("listening on") { Ok(()) } else { Err(capture.log()) }
    })?;
    Ok(capture)
}

/// The time of each attempt by where it went. An attempt has a source port of its own; a repeated SYN is no new attempt.
fn parse(log: &str) -> BTreeMap<SocketAddr, Vec<f64>> {
    let mut first: BTreeMap<(SocketAddr, SocketAddr), f64> = BTreeMap::new();
    for line in log.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let [time, "IP", from, ">", to, ..] = words.as_slice()
            && let (Ok(time), Some(from), Some(to)) = (time.parse(), socket(from), socket(to.trim_end_matches(':')))
        {
            first.entry((to, from)).or_insert(time);
        }
    }
    let mut attempts: BTreeMap<SocketAddr, Vec<f64>> = BTreeMap::new();
    for ((to, _), time) in first {
        attempts.entry(to).or_default().push(time);
    }
    attempts.values_mut().for_each(|times| times.sort_by(f64::total_cmp));
    attempts
}

/// tcpdump writes `172.30.11.2.40123`.
fn socket(text: &str) -> Option<SocketAddr> {
    let (at, port) = text.rsplit_once('.')?;
    Some(SocketAddr::new(at.parse().ok()?, port.parse().ok()?))
}

/// The pause before attempt k+1 is 2^k seconds times 0.75 to 1, plus what the attempt itself took.
fn judge(bad: &Bad, times: &[f64]) -> Outcome {
    let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let shown: Vec<String> = gaps.iter().map(|gap| format!("{gap:.2}")).collect();
    println!("  {}: {} attempts, {} s apart", bad.name, times.len(), shown.join(", "));
    let Some(attempt) = bad.attempt else {
        return match times.len() {
            1 => Ok(()),
            other => Err(format!("{}: {other} attempts where the first still waits for an OPEN", bad.name)),
        };
    };
    // With the shortest and the longest pauses that are allowed, over the window.
    let fits = |factor: f64| {
        let mut at = 0.0;
        (0..12)
            .take_while(|k| {
                at += attempt + factor * f64::from(1 << k);
                at < WINDOW.as_secs_f64()
            })
            .count()
    };
    if times.len() < 1 + fits(1.0).saturating_sub(1) {
        return Err(format!("{}: only {} attempts", bad.name, times.len()));
    }
    for (k, gap) in gaps.iter().enumerate() {
        let pause = f64::from(1_u32 << k);
        let (least, most) = (attempt + 0.75 * pause - 0.1, attempt + pause + 1.0);
        if *gap < least || *gap > most {
            return Err(format!("{}: {gap:.2} s before attempt {}, wanted {least:.2} to {most:.2}", bad.name, k + 2));
        }
    }
    Ok(())
}
