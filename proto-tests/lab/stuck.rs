//! One router's daemon stands still while 100,000 routes change under it: the other router must not feel it, memory must
//! not grow, and both tables must be right afterwards.

use crate::manifests::{Manifests, Policy};
use crate::rig::bgp::{Event, Listener, Manner, Seen, Update};
use crate::rig::bird::{Bird, session};
use crate::rig::{Outcome, Rig, wait_until};
use crate::speaker::{Config, Speaker};
use crate::topology::{Family, Lab, address, link_address, router_asn, service_route};
use ipnetwork::IpNetwork;
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Routes that change at once.
const MANY: u32 = 100_000;
/// Rounds without and with the stop, alternating.
const ROUNDS: usize = 2;
/// Single changes in a round's half without the stop, and in its half with it; even, so that each half ends as it began.
const CHANGES: [usize; 2] = [150, 250];
/// Longer than the case: a stopped daemon sends no KEEPALIVE.
const HOLD: Duration = Duration::from_secs(90);
/// So long must our socket have been unwritable.
const STUCK: Duration = Duration::from_secs(5);
/// The service that changes alone.
const SINGLE: u8 = 3;

struct Case {
    // Speakers end first, the wiring last.
    speaker: Speaker,
    bird: Bird,
    receiver: Listener,
    manifests: Manifests,
    lab: Lab,
    config: Config,
    /// What the receiver holds: each prefix with its community's second half.
    table: BTreeMap<IpNetwork, u16>,
    /// The community's second half as configured now.
    mark: u16,
}

/// The whole case.
pub fn a_stopped_daemon_delays_nobody(rig: &Arc<Rig>) -> Outcome {
    let mut case = Case::start(rig)?;
    let (mut free, mut stopped) = (Vec::new(), Vec::new());
    let mut memory = Vec::new();
    for round in 0..ROUNDS {
        free.extend(case.single_changes(CHANGES[0])?);
        case.bird.daemon().signal(Signal::STOP)?;
        case.flip_until_stuck()?;
        let before = case.speaker.process().rss()?;
        stopped.extend(case.single_changes(CHANGES[1])?);
        let after = case.speaker.process().rss()?;
        case.still_stuck()?;
        case.bird.daemon().signal(Signal::CONT)?;
        let took = case.tables_agree()?;
        println!(
            "  round {round}: RSS {before} -> {after} KiB while stopped; both tables right {took:.1?} after SIGCONT"
        );
        memory.push((before, after));
    }
    for (name, samples) in [("without", &mut free), ("with", &mut stopped)] {
        samples.sort();
        println!(
            "  {name} the stop: p50 {:.1?}, p99 {:.1?} over {}",
            quantile(samples, 50),
            quantile(samples, 99),
            samples.len()
        );
    }
    if quantile(&stopped, 99) > quantile(&free, 99) + Duration::from_millis(10) {
        return Err(format!("p99 {:?} with the stop, {:?} without", quantile(&stopped, 99), quantile(&free, 99)));
    }
    match memory.iter().find(|(before, after)| *after > before + before / 20) {
        None => Ok(()),
        Some((before, after)) => Err(format!("RSS grew from {before} to {after} KiB during single changes")),
    }
}

fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

impl Case {
    fn start(rig: &Arc<Rig>) -> Outcome<Self> {
        let lab = Lab::build(rig)?;
        // Small socket buffers on the link to r1: the kernel would hide several megabytes of what nobody reads.
        for space in [&lab.nodes[0], &lab.routers[0]] {
            space.sysctl(&["net.ipv4.tcp_wmem=4096 16384 65536", "net.ipv4.tcp_rmem=4096 32768 65536"])?;
        }
        let manifests = Manifests::begin(rig)?;
        manifests.write_as("many.json", &many())?;
        manifests.service(SINGLE, Policy::Local, &[2])?;
        let mut plan = lab.plan(1, Family::V4, HOLD);
        plan.neighbours.truncate(1);
        let text = format!(
            "log stderr {{ info, warning, error, fatal, trace }};\nrouter id {};\nprotocol device {{ }}\n{}",
            plan.router_id,
            session(&plan, &plan.neighbours[0], "import all; export none;")
        );
        let bird = Bird::start_with(rig, &lab.routers[0], &plan, &text)?;
        let manner = Manner::Honest { asn: router_asn(2), router_id: Ipv4Addr::new(172, 30, 255, 2), hold: 90 };
        let receiver =
            Listener::start(&lab.routers[1], SocketAddr::new(link_address(1, 2, 1, Family::V4), 179), manner)?;
        let mut config = Config::of_node(1, Family::V4, HOLD);
        config.pools = vec!["198.18.0.0/15".into(), "198.51.100.0/24".into(), "2001:db8:5::/64".into()];
        config.without_endpoints = true;
        config.communities = vec!["64512:1".into()];
        let speaker = Speaker::start(rig, &lab.nodes[0], &config, &manifests)?;
        let mut case = Self { speaker, bird, receiver, manifests, lab, config, table: BTreeMap::new(), mark: 1 };
        let begin = Instant::now();
        case.settle(Duration::from_secs(120))
            .map_err(|what| format!("{what}\n{}", case.speaker.process().log_end()))?;
        case.tables_agree()?;
        println!(
            "  {MANY} routes at both routers {:.1?} after the start; RSS {} KiB",
            begin.elapsed(),
            case.speaker.process().rss()?
        );
        Ok(case)
    }

    /// Takes in what the receiver has heard.
    fn absorb(&mut self, events: &[Event]) -> Outcome {
        for event in events {
            match &event.what {
                Seen::Update(update) => apply(&mut self.table, update)?,
                Seen::Notification(..) | Seen::Closed | Seen::Broken(_) | Seen::Unreadable(_) => {
                    return Err(format!("the other router's session ended: {:?}", event.what));
                }
                Seen::Connected | Seen::Open(_) | Seen::Keepalive | Seen::EndOfRib(_) => {}
            }
        }
        Ok(())
    }

    /// Waits until the receiver holds every route with the present community.
    fn settle(&mut self, within: Duration) -> Outcome {
        let want = usize::try_from(MANY).expect("it fits");
        wait_until(within, "all routes with the present community at the other router", || {
            let events = self.receiver.drain();
            self.absorb(&events)?;
            let right = self.table.iter().filter(|(p, mark)| is_many(p) && **mark == self.mark).count();
            if right == want { Ok(()) } else { Err(format!("{right} of {want}")) }
        })
        .map(drop)
    }

    /// Flips the community until our socket to the stopped daemon has not moved for five seconds.
    fn flip_until_stuck(&mut self) -> Outcome {
        let end = Instant::now() + Duration::from_secs(60);
        let mut last = (0, Instant::now());
        let mut flips = 0;
        loop {
            self.mark += 1;
            flips += 1;
            self.config.communities = vec![format!("64512:{}", self.mark)];
            self.speaker.reload(&self.config)?;
            self.settle(Duration::from_secs(20))?;
            let queue = self.send_queue()?;
            if queue == 0 || queue != last.0 {
                last = (queue, Instant::now());
            } else if last.1.elapsed() >= STUCK {
                println!(
                    "  stuck: {queue} octets in the send queue for {:.1?}, {flips} flips of {MANY} routes",
                    last.1.elapsed()
                );
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("the socket never stood still: {queue} octets after {flips} flips"));
            }
        }
    }

    fn still_stuck(&self) -> Outcome {
        match self.send_queue()? {
            0 => Err("the send queue is empty although nobody reads".to_owned()),
            _ => Ok(()),
        }
    }

    /// Octets that the stopped daemon has not taken, by `ss`.
    fn send_queue(&self) -> Outcome<u64> {
        let to = link_address(1, 1, 1, Family::V4).to_string();
        let text = self.lab.nodes[0].run("ss", &["-tnH", "state", "established", "dst", &to])?;
        let queue = text.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        queue.ok_or_else(|| format!("no established connection to the stopped router: {text:?}"))
    }

    /// The only endpoint of a `Local` service moves here and away again; how long until the other router is told, each time.
    fn single_changes(&mut self, count: usize) -> Outcome<Vec<Duration>> {
        let route = service_route(SINGLE, Family::V4);
        let events = self.receiver.drain();
        self.absorb(&events)?;
        let mut times = Vec::new();
        let (start, before) = (Instant::now(), self.speaker.process().cpu()?);
        for n in 0..count {
            let there = n % 2 == 0;
            let begin = Instant::now();
            self.manifests.service(SINGLE, Policy::Local, if there { &[1] } else { &[2] })?;
            let event = self.receiver.next(Duration::from_secs(10), "a single change", |event| match &event.what {
                Seen::Update(update) if there => update.announced.contains(&route),
                Seen::Update(update) => update.withdrawn.contains(&route),
                Seen::Connected
                | Seen::Open(_)
                | Seen::Keepalive
                | Seen::EndOfRib(_)
                | Seen::Notification(..)
                | Seen::Unreadable(_)
                | Seen::Closed
                | Seen::Broken(_) => false,
            })?;
            times.push(event.at - begin);
            self.absorb(std::slice::from_ref(&event))?;
        }
        let used = self.speaker.process().cpu()? - before;
        println!("  {count} single changes in {:.1?}, {used:.1?} of processor time", start.elapsed());
        Ok(times)
    }

    /// Waits until BIRD's table is the receiver's, each route with the present community.
    fn tables_agree(&mut self) -> Outcome<Duration> {
        let mark = self.mark;
        let filter = format!("show route where (64512,{mark}) ~ bgp_community count");
        let want: BTreeSet<IpNetwork> = self.table.keys().copied().filter(IpNetwork::is_ipv4).collect();
        let marked = format!("{} of {} routes", want.len(), want.len());
        let (_, took) = wait_until(Duration::from_secs(60), "BIRD's table to be right", || {
            let text = self.bird.shell(&filter)?;
            if text.contains(&marked) { Ok(()) } else { Err(format!("{text}, wanted {marked}")) }
        })?;
        let text = self.bird.shell("show route table master4")?;
        let has = text.lines().filter_map(|line| line.split_whitespace().next()?.parse::<IpNetwork>().ok()).collect();
        if want != has {
            let (missing, extra) = (want.difference(&has).count(), has.difference(&want).count());
            return Err(format!(
                "BIRD lacks {missing} routes that the other router has, and has {extra} that it lacks"
            ));
        }
        Ok(took)
    }
}

fn is_many(prefix: &IpNetwork) -> bool {
    matches!(prefix, IpNetwork::V4(p) if p.ip().octets()[0] == 198 && p.ip().octets()[1] < 20)
}

fn apply(table: &mut BTreeMap<IpNetwork, u16>, update: &Update) -> Outcome {
    for prefix in &update.withdrawn {
        table.remove(prefix);
    }
    if !update.announced.is_empty() {
        let communities = update.attributes.get(&8).ok_or("routes without a community")?;
        let mark =
            communities.get(2..4).map(|half| u16::from_be_bytes([half[0], half[1]])).ok_or("a short community")?;
        table.extend(update.announced.iter().map(|prefix| (*prefix, mark)));
    }
    Ok(())
}

/// 100,000 Services in one List, as `kubectl get -o json` would write them.
fn many() -> String {
    let mut text = String::from("{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[\n");
    let first = u32::from(Ipv4Addr::new(198, 18, 0, 0));
    for n in 0..MANY {
        let ip = address(&Ipv4Addr::from(first + n).to_string());
        let comma = if n + 1 < MANY { "," } else { "" };
        let _infallible = writeln!(
            text,
            "{{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{{\"name\":\"many-{n}\",\"namespace\":\"lab\",\"uid\":\"many-{n}\"}},\
             \"spec\":{{\"type\":\"LoadBalancer\",\"ports\":[{{\"port\":80,\"protocol\":\"TCP\"}}]}},\
             \"status\":{{\"loadBalancer\":{{\"ingress\":[{{\"ip\":\"{ip}\"}}]}}}}}}{comma}"
        );
    }
    text.push_str("]}\n");
    text
}
