//! What a speaker puts on the wire, and in which order, judged by a receiver that keeps every message.

use crate::manifests::{Manifests, Policy, service_object};
use crate::rig::bgp::{Event, Listener, Manner, Seen, brief};
use crate::rig::{Outcome, Rig};
use crate::site::{HOLD, SOON, START};
use crate::speaker::{Config, Speaker};
use crate::topology::{FAMILIES, Family, Lab, address, link_address, router_asn, service_route};
use ipnetwork::IpNetwork;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Services in the first table, two addresses each.
const MANY: u16 = 5000;

/// One node, and two receivers in the places of the routers.
struct Bench {
    lab: Lab,
    manifests: Manifests,
    receivers: [Listener; 2],
}

impl Bench {
    fn start(rig: &Arc<Rig>) -> Outcome<Self> {
        let lab = Lab::build(rig)?;
        let manifests = Manifests::begin(rig)?;
        let listen = |router: usize| {
            let manner = Manner::Honest {
                asn: router_asn(router),
                router_id: Ipv4Addr::new(172, 30, 255, u8::try_from(router).expect("there are two")),
                hold: 9,
            };
            let at = SocketAddr::new(link_address(1, router, 1, Family::V4), 179);
            Listener::start(&lab.routers[router - 1], at, manner)
        };
        let receivers = [listen(1)?, listen(2)?];
        Ok(Self { lab, manifests, receivers })
    }

    fn speaker(&self, config: &Config) -> Outcome<Speaker> {
        Speaker::start(&self.lab.rig, &self.lab.nodes[0], config, &self.manifests)
    }
}

/// All events up to the first that `last` picks, with a failure that tells the tail of what came.
fn until(
    receiver: &Listener,
    within: Duration,
    what: &str,
    mut last: impl FnMut(&Seen) -> bool,
) -> Outcome<Vec<Event>> {
    let mut events: Vec<Event> = Vec::new();
    let end = Instant::now() + within;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match receiver.next(left, what, |_| true) {
            Ok(event) => {
                let done = last(&event.what);
                events.push(event);
                if done {
                    return Ok(events);
                }
            }
            Err(_) => {
                let tail: Vec<String> = events.iter().rev().take(6).rev().map(|e| brief(&e.what)).collect();
                return Err(format!("waited {within:?} for {what}; the last that came: {tail:?}"));
            }
        }
    }
}

/// The whole table first, in full messages, then one End-of-RIB a family, and none before.
pub fn end_of_rib_follows_the_first_plan(rig: &Arc<Rig>) -> Outcome {
    let bench = Bench::start(rig)?;
    let mut want: BTreeSet<IpNetwork> = BTreeSet::new();
    let mut text = String::new();
    for n in 0..MANY {
        let [high, low] = n.to_be_bytes();
        let addresses = [address(&format!("198.18.{high}.{low}")), address(&format!("2001:db8:6::{n:x}"))];
        want.extend(addresses.map(IpNetwork::from));
        text.push_str(&service_object(&format!("many-{n}"), Policy::Cluster, &addresses));
    }
    bench.manifests.write("many", &text)?;
    let mut config = Config::of_node(1, Family::V4, HOLD);
    config.pools = vec!["198.18.0.0/15".into(), "2001:db8:6::/64".into()];
    config.without_endpoints = true;
    // Said in the file, so that the speaker can dial before it has read a Node.
    config.router_id = Some(Ipv4Addr::new(172, 30, 0, 1));
    let mut speaker = bench.speaker(&config)?;
    let mut ended = BTreeSet::new();
    let events = until(&bench.receivers[0], Duration::from_secs(60), "End-of-RIB of both families", |seen| {
        if let Seen::EndOfRib(family) = seen {
            ended.insert(*family);
        }
        ended.len() == 2
    });
    let events = events.map_err(|what| format!("{what}\n{}", speaker.process().log_end()))?;
    judge_first_table(&events, &want)?;
    let later =
        bench.receivers[0].next(Duration::from_secs(1), "", |e| matches!(e.what, Seen::EndOfRib(_) | Seen::Update(_)));
    match later {
        Err(_nothing_came) => Ok(()),
        Ok(event) => Err(format!("after End-of-RIB of both families came {}", brief(&event.what))),
    }
}

fn judge_first_table(events: &[Event], want: &BTreeSet<IpNetwork>) -> Outcome {
    let mut has = BTreeSet::new();
    let mut ended = BTreeSet::new();
    let mut updates = 0;
    let stands = events.iter().find(|e| e.what == Seen::Keepalive).ok_or("no KEEPALIVE before the table")?.at;
    let begin = events.iter().find(|e| matches!(e.what, Seen::Update(_))).ok_or("no UPDATE before End-of-RIB")?.at;
    // Else there was no time in which an empty plan could have been taken for a complete one.
    if begin < stands + Duration::from_millis(50) {
        return Err(format!(
            "the first UPDATE came {:?} after the session stood: let there be more services",
            begin - stands
        ));
    }
    for event in events {
        match &event.what {
            Seen::Update(update) => {
                updates += 1;
                if !update.withdrawn.is_empty() {
                    return Err(format!("a first table withdraws {:?}", update.withdrawn.first()));
                }
                if let Some(late) = update.announced.iter().find(|p| ended.contains(&family_of(p))) {
                    return Err(format!("{late} was announced after its family's End-of-RIB"));
                }
                has.extend(update.announced.iter().copied());
            }
            Seen::EndOfRib(family) => {
                if !ended.insert(*family) {
                    return Err(format!("two End-of-RIBs of family {family}"));
                }
            }
            Seen::Notification(..) | Seen::Unreadable(_) | Seen::Closed | Seen::Broken(_) => {
                return Err(format!("in place of a table came {}", brief(&event.what)));
            }
            Seen::Connected | Seen::Open(_) | Seen::Keepalive => {}
        }
    }
    let last = events.last().map_or(begin, |e| e.at);
    println!(
        "  the session stood {:.1?} before the plan; {} prefixes in {updates} UPDATEs, End-of-RIB {:.1?} after the first",
        begin - stands,
        has.len(),
        last - begin
    );
    if has != *want {
        let missing = want.difference(&has).count();
        return Err(format!("before End-of-RIB {missing} of {} prefixes had not come", want.len()));
    }
    // 4096 octets hold about 800 host routes of IPv4 and 230 of IPv6.
    let bound = usize::from(MANY) / 750 + usize::from(MANY) / 200 + 2;
    if updates > bound { Err(format!("{updates} UPDATEs where {bound} are enough")) } else { Ok(()) }
}

fn family_of(prefix: &IpNetwork) -> u16 {
    if prefix.is_ipv4() { 1 } else { 2 }
}

/// A peer that leaves the configuration hears its routes withdrawn, then Cease 6/3; the other peer hears nothing.
pub fn a_removed_peer_hears_withdrawals_then_cease_6_3(rig: &Arc<Rig>) -> Outcome {
    let (bench, mut speaker, mut config) = one_service(rig)?;
    bench.receivers[1].drain();
    config.peers.remove(0);
    speaker.reload(&config)?;
    let events =
        until(&bench.receivers[0], SOON, "the connection to end", |s| matches!(s, Seen::Closed | Seen::Broken(_)))?;
    let mut withdrawn = BTreeSet::new();
    let mut ceased = false;
    for event in &events {
        match &event.what {
            Seen::Update(update) if ceased || !update.announced.is_empty() => {
                return Err(format!("unexpected {} (Cease seen: {ceased})", brief(&event.what)));
            }
            Seen::Update(update) => withdrawn.extend(update.withdrawn.iter().copied()),
            Seen::Notification(6, 3, _) if !ceased => ceased = true,
            Seen::Keepalive | Seen::Closed => {}
            other => return Err(format!("unexpected {}", brief(other))),
        }
    }
    if !ceased || withdrawn != FAMILIES.map(|family| service_route(1, family)).into() {
        return Err(format!("Cease 6/3 seen: {ceased}; withdrawn before it: {withdrawn:?}"));
    }
    quiet(&bench.receivers[1])?;
    // What stays must still work.
    bench.manifests.service(2, Policy::Cluster, &[1])?;
    bench.receivers[1].next(SOON, "a new service at the peer that stayed", |e| announces(&e.what, 2)).map(drop)
}

/// SIGTERM: Cease 6/2 with a text, read to the end and closed in order, exit 0 within two seconds.
pub fn sigterm_is_cease_6_2_and_an_orderly_close(rig: &Arc<Rig>) -> Outcome {
    let (bench, mut speaker, _) = one_service(rig)?;
    let (status, took) = speaker.terminate(Duration::from_secs(2))?;
    println!("  {status} after {took:.1?}");
    if !status.success() {
        return Err(format!("SIGTERM ended it with {status}"));
    }
    for receiver in &bench.receivers {
        let events = until(receiver, SOON, "the connection to end", |s| matches!(s, Seen::Closed | Seen::Broken(_)))?;
        let said: Vec<String> = events.iter().map(|e| brief(&e.what)).collect();
        let cease = events.iter().find_map(|e| match &e.what {
            Seen::Notification(6, 2, data) => Some(data.clone()),
            _ => None,
        });
        let data = cease.ok_or_else(|| format!("no Cease 6/2 in {said:?}"))?;
        // RFC 9003: a length octet and that many octets of text.
        let text = data.split_first().filter(|(n, text)| usize::from(**n) == text.len() && !text.is_empty());
        let text = text.and_then(|(_, text)| std::str::from_utf8(text).ok());
        println!("  Cease 6/2 says {:?}", text.ok_or_else(|| format!("Cease 6/2 without a text: {data:02x?}"))?);
        if !matches!(events.last().map(|e| &e.what), Some(Seen::Closed)) {
            return Err(format!("the connection did not end in order: {said:?}"));
        }
    }
    Ok(())
}

/// A speaker with one service, which both receivers have heard of, End-of-RIBs included.
fn one_service(rig: &Arc<Rig>) -> Outcome<(Bench, Speaker, Config)> {
    let bench = Bench::start(rig)?;
    bench.manifests.service(1, Policy::Cluster, &[1])?;
    let config = Config::of_node(1, Family::V4, HOLD);
    let mut speaker = bench.speaker(&config)?;
    for receiver in &bench.receivers {
        let mut left: BTreeSet<u16> = [1, 2].into();
        receiver
            .next(START, "End-of-RIB of both families", |event| {
                if let Seen::EndOfRib(family) = event.what {
                    left.remove(&family);
                }
                left.is_empty()
            })
            .map_err(|what| format!("{what}\n{}", speaker.process().log_end()))?;
    }
    Ok((bench, speaker, config))
}

fn announces(what: &Seen, number: u8) -> bool {
    let route = service_route(number, Family::V4);
    matches!(what, Seen::Update(update) if update.announced.contains(&route))
}

/// Nothing but KEEPALIVEs has come.
fn quiet(receiver: &Listener) -> Outcome {
    match receiver.drain().iter().find(|e| e.what != Seen::Keepalive) {
        None => Ok(()),
        Some(event) => Err(format!("the other peer was told {}", brief(&event.what))),
    }
}
