//! Everything that a route carries, as routers show it, and what they make of it: r1 is an eBGP router, r2 an iBGP one.

use crate::manifests::{Manifests, Policy, service_object};
use crate::rig::fib::{Table, Watch};
use crate::rig::frr::Frr;
use crate::rig::net::Namespace;
use crate::rig::router::{Kind, Router};
use crate::rig::{Outcome, Rig, run, wait_until};
use crate::site::{HOLD, SOON, START, ends};
use crate::speaker::Speaker;
use crate::topology::{FAMILIES, Family, Lab, NODES_ASN, hops, link_address, router_asn, service_route};
use ipnetwork::IpNetwork;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

/// A path as a router shows it: each attribute in that router's own words.
type Shown = BTreeMap<&'static str, String>;

/// What node 1's routes carry at first; node 2's differ in what a choice is made by.
const FULL: &str = "  communities: [no-export, \"64512:100\", \"64512:1:2\", \"rt:64512:100\", \"ro:192.0.2.1:7\", \"rt:4200000000:9\"]\n  \
                    prepend: 2\n  linkBandwidth: 1Gbit/s\n  med: 50\n  localPreference: 250\n";
const RIVAL: &str = "  prepend: 2\n  linkBandwidth: 3Gbit/s\n  med: 10\n  localPreference: 150\n";
/// The same for both but for the bandwidth.
const EVEN: [&str; 2] = ["  linkBandwidth: 1Gbit/s\n", "  linkBandwidth: 3Gbit/s\n"];

/// A speaker's whole file.
fn config(node: usize, attributes: &str) -> String {
    let at = |router| link_address(node, router, 1, Family::V4);
    format!(
        "asn: {NODES_ASN}\npeers:\n- {{name: r1, address: {}, asn: {}, holdTime: 9s, role: provider}}\n\
         - {{name: r2, address: {}, asn: {NODES_ASN}, holdTime: 9s}}\npools:\n\
         - {{name: lab, addresses: [198.51.100.0/24, \"2001:db8:5::/64\"]}}\nguard:\n  maxWithdraw: 100%\nadvertisements:\n- name: lab\n{attributes}",
        at(1),
        router_asn(1),
        at(2)
    )
}

/// Two nodes with one service: first with attributes that differ, so that each router has a choice; then with equal ones
/// but for the bandwidth.
pub fn attributes(rig: &Arc<Rig>, kind: Kind) -> Outcome {
    let lab = Lab::build(rig)?;
    let manifests = Manifests::begin(rig)?;
    manifests.service(1, Policy::Cluster, &[1])?;
    let plans = [1, 2].map(|router| lab.plan(router, Family::V4, HOLD));
    let [external, mut internal] = plans;
    internal.asn = NODES_ASN;
    let routers =
        [Router::start(kind, rig, &lab.routers[0], &external)?, Router::start(kind, rig, &lab.routers[1], &internal)?];
    let mut watches = lab.routers.iter().map(Watch::begin).collect::<Outcome<Vec<_>>>()?;
    let mut speakers = Vec::new();
    for (node, text) in [(1, FULL), (2, RIVAL)] {
        speakers.push(Speaker::start_on(rig, &lab.nodes[node - 1], &config(node, text), &manifests)?);
    }
    let begin = Instant::now();
    for family in FAMILIES {
        let prefix = service_route(1, family);
        for (router, wanted) in routers.iter().zip([External, Internal]) {
            let found = wait_until(START, "both paths with their attributes", || {
                let shown = paths(router, prefix)?;
                let via = |node| link_address(node, wanted.router(), 2, family);
                let want = [1, 2].map(|node| (via(node), expected(kind, wanted, node))).into();
                if shown == want { Ok(()) } else { Err(format!("{prefix}: {shown:#?}, wanted {want:#?}")) }
            });
            found.map_err(|what| format!("{what}{}", ends(&mut speakers)))?;
        }
        // The lower MED at the eBGP router, the higher LOCAL_PREF at the iBGP one.
        for ((watch, router), (node, to)) in watches.iter_mut().zip(&routers).zip([(2, 1), (1, 2)]) {
            let chosen = watch.wait_hops(SOON, prefix, &hops(&[node], to, family));
            chosen.map_err(|what| format!("{what}\n{}", router.account()))?;
        }
    }
    println!("  all attributes in both tables, and both choices made, after {:.1?}", begin.elapsed());
    for (node, text) in (1..).zip(EVEN) {
        speakers[node - 1].reload_on(&config(node, text))?;
    }
    for family in FAMILIES {
        let prefix = service_route(1, family);
        watches[0].wait_hops(SOON, prefix, &hops(&[1, 2], 1, family))?;
        let weights = wait_until(SOON, "weights", || weighed(kind, &lab.routers[0], prefix, family))?.0;
        println!("  {prefix}: weights {weights:?}");
    }
    Ok(())
}

/// An FRR that accepts ten prefixes, and twelve services: told of its limit we stay below it and the session lives; not told,
/// the router ends it, and nothing is reachable any more.
pub fn a_prefix_limit_saves_the_session(rig: &Arc<Rig>) -> Outcome {
    let lab = Lab::build(rig)?;
    let manifests = Manifests::begin(rig)?;
    let all: Vec<IpAddr> = (1..=12).map(|last| IpAddr::from([198, 51, 100, last])).collect();
    manifests.write("many", &service_object("many", Policy::Cluster, &all))?;
    let (node, ours) = (link_address(1, 1, 2, Family::V4), link_address(1, 1, 1, Family::V4));
    let bgpd = format!(
        "log stdout informational\nrouter bgp {}\n bgp router-id 172.30.255.1\n no bgp ebgp-requires-policy\n \
         neighbor {node} remote-as {NODES_ASN}\n neighbor {node} passive\n neighbor {node} update-source {ours}\n \
         address-family ipv4 unicast\n  neighbor {node} maximum-prefix 10\n",
        router_asn(1)
    );
    let frr = Frr::start_with(rig, &lab.routers[0], &lab.plan(1, Family::V4, HOLD), &bgpd)?;
    let mut watch = Watch::begin(&lab.routers[0])?;
    let file = |more: &str| {
        format!(
            "asn: {NODES_ASN}\npeers:\n- {{name: r1, address: {ours}, asn: {}, families: [ipv4]{more}}}\n\
             pools:\n- {{name: lab, addresses: [198.51.100.0/24]}}\n\
             guard:\n  maxWithdraw: 100%\nadvertisements:\n- {{name: lab, announceWithoutEndpoints: true}}\n",
            router_asn(1)
        )
    };
    let mut speaker = Speaker::start_on(rig, &lab.nodes[0], &file(", prefixLimit: {ipv4: 10}"), &manifests)?;
    let ours = |table: &Table| table.keys().filter(|route| route.prefix() == 32).copied().collect::<Vec<_>>();
    let nine: Vec<IpNetwork> = all.iter().take(9).copied().map(IpNetwork::from).collect();
    let wait = |watch: &mut Watch, what: &str, want: &[IpNetwork]| {
        watch.wait(START, what, |table| {
            let has: Vec<_> = ours(table).into_iter().filter(|route| all.contains(&route.ip())).collect();
            if has == want { Ok(()) } else { Err(format!("{has:?}")) }
        })
    };
    wait(&mut watch, "the nine lowest", &nine).map_err(|what| format!("{what}\n{}", speaker.process().log_end()))?;
    if !speaker.process().log_end().contains("routes are held back") {
        return Err(format!("the speaker says nothing of what it holds back:\n{}", speaker.process().log_end()));
    }
    speaker.reload_on(&file(""))?;
    wait(&mut watch, "a router that has had too much", &[])?;
    let state = frr.sessions()?.remove(&node);
    println!("  nine of twelve with the limit; without it the session is {state:?}");
    if state.as_deref() == Some("Established") {
        Err("the limit would not have been needed".to_owned())
    } else {
        Ok(())
    }
}

/// Which of the two routers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    External,
    Internal,
}
use Side::{External, Internal};

impl Side {
    fn router(self) -> usize {
        match self {
            External => 1,
            Internal => 2,
        }
    }
}

/// What a router should show of a node's path.
fn expected(kind: Kind, side: Side, node: usize) -> Shown {
    let mut shown = Shown::new();
    let (med, preference, gigabits) = if node == 1 { ("50", "250", 1) } else { ("10", "150", 3) };
    shown.insert("med", med.to_owned());
    match side {
        External => drop(shown.insert("path", [NODES_ASN; 3].map(|asn| asn.to_string()).join(" "))),
        Internal => drop(shown.insert("path", String::new())),
    }
    match (side, kind) {
        (Internal, Kind::Frr | Kind::Bird) => drop(shown.insert("preference", preference.to_owned())),
        // Its own default, as nothing came.
        (External, Kind::Bird) => drop(shown.insert("preference", "100".to_owned())),
        (External, Kind::Frr) => {}
    }
    if side == External {
        shown.insert("otc", NODES_ASN.to_string());
    }
    let full = node == 1;
    let mut extended: BTreeSet<String> = BTreeSet::new();
    match kind {
        Kind::Frr => {
            extended.insert(format!("LB:{NODES_ASN}:{} ({gigabits}.000 Gbps)", 125_000_000 * gigabits));
            if full {
                shown.insert("communities", "64512:100 no-export".to_owned());
                shown.insert("large", "64512:1:2".to_owned());
                extended.extend(["RT:64512:100", "SoO:192.0.2.1:7", "RT:4200000000:9"].map(str::to_owned));
            }
        }
        Kind::Bird => {
            // Sub-type 4 is not known to it by name; the number is the IEEE 754 form of the rate in bytes.
            let rate = if gigabits == 1 { 0x4cee_6b28 } else { 0x4db2_d05e };
            extended.insert(format!("(unknown 0x4, {NODES_ASN}, {rate})"));
            if full {
                shown.insert("communities", "(64512,100) (65535,65281)".to_owned());
                shown.insert("large", "(64512, 1, 2)".to_owned());
                extended.extend(["(rt, 64512, 100)", "(ro, 192.0.2.1, 7)", "(rt, 4200000000, 9)"].map(str::to_owned));
            }
        }
    }
    shown.insert("extended", extended.into_iter().collect::<Vec<_>>().join(" "));
    shown
}

/// A router's paths of a prefix, by who sent them.
fn paths(router: &Router, prefix: IpNetwork) -> Outcome<BTreeMap<IpAddr, Shown>> {
    match router {
        Router::Frr(frr) => {
            let family = if prefix.is_ipv4() { "ipv4" } else { "ipv6" };
            frr_paths(&frr.shell(&format!("show bgp {family} unicast {prefix} json"))?)
        }
        Router::Bird(bird) => Ok(bird_paths(&bird.shell(&format!("show route {prefix} all"))?)),
    }
}

fn frr_paths(text: &str) -> Outcome<BTreeMap<IpAddr, Shown>> {
    let answer: Value = serde_json::from_str(text).map_err(|e| format!("no JSON: {e}: {text}"))?;
    let words = |value: &Value| value.as_str().map(str::to_owned);
    let number = |value: &Value| value.as_u64().map(|number| number.to_string());
    let path = |path: &Value| {
        let hop = path["nexthops"].as_array()?.iter().find(|hop| hop["scope"] != "link-local")?;
        let internal = path["peer"]["type"] == "internal";
        let large = path["largeCommunity"]["list"]
            .as_array()
            .map(|all| all.iter().map(|one| one.as_str().unwrap_or_default()).collect::<Vec<_>>().join(" "));
        let extended = words(&path["extendedCommunity"]["string"]).map(|text| sorted(&text, &["RT:", "SoO:", "LB:"]));
        let all = [
            ("path", words(&path["aspath"]["string"]).map(|text| text.replace("Local", ""))),
            ("med", number(&path["metric"])),
            ("preference", number(&path["locPrf"]).filter(|_| internal)),
            ("communities", words(&path["community"]["string"])),
            ("extended", extended),
            ("large", large),
            ("otc", number(&path["otc"])),
        ];
        Some((hop["ip"].as_str()?.parse().ok()?, all.into_iter().filter_map(|(name, it)| Some((name, it?))).collect()))
    };
    Ok(answer["paths"].as_array().into_iter().flatten().filter_map(path).collect())
}

/// Words that begin with one of these, in order; what follows one up to the next belongs to it.
fn sorted(text: &str, begins: &[&str]) -> String {
    let mut items: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match items.last_mut() {
            Some(last) if !begins.iter().any(|begin| word.starts_with(begin)) => *last += &format!(" {word}"),
            Some(_) | None => items.push(word.to_owned()),
        }
    }
    items.sort();
    items.join(" ")
}

fn bird_paths(text: &str) -> BTreeMap<IpAddr, Shown> {
    let mut found = BTreeMap::new();
    let mut now: Option<IpAddr> = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("via ") {
            now = rest.split(' ').next().and_then(|at| at.parse().ok());
        }
        let (Some(at), Some((key, value))) = (now, line.split_once(':')) else { continue };
        let value = value.trim();
        let shown: &mut Shown = found.entry(at).or_default();
        match key {
            "BGP.as_path" => drop(shown.insert("path", value.to_owned())),
            "BGP.med" => drop(shown.insert("med", value.to_owned())),
            "BGP.local_pref" => drop(shown.insert("preference", value.to_owned())),
            "BGP.community" => drop(shown.insert("communities", value.to_owned())),
            "BGP.large_community" => drop(shown.insert("large", value.to_owned())),
            "BGP.otc" => drop(shown.insert("otc", value.to_owned())),
            "BGP.ext_community" => {
                let mut items: Vec<&str> = value.split_inclusive(')').map(str::trim).collect();
                items.sort_unstable();
                shown.insert("extended", items.join(" "));
            }
            _ => {}
        }
    }
    found
}

/// The weights of the two next hops in the kernel's table: FRR shares one to three, BIRD 2 knows no bandwidth.
fn weighed(kind: Kind, space: &Namespace, prefix: IpNetwork, family: Family) -> Outcome<[u64; 2]> {
    let flag = if prefix.is_ipv4() { "-4" } else { "-6" };
    let at = prefix.to_string();
    let text = run(Command::new("ip").args(["-n", space.name(), "-j", flag, "route", "show", &at]))?;
    let routes: Value = serde_json::from_str(&text).map_err(|e| format!("ip wrote no JSON: {e}: {text}"))?;
    let hops: Vec<&Value> =
        routes.as_array().into_iter().flatten().filter_map(|r| r["nexthops"].as_array()).flatten().collect();
    let weight = |node: usize| {
        let via = link_address(node, 1, 2, family).to_string();
        hops.iter().find(|hop| hop["gateway"] == *via)?["weight"].as_u64()
    };
    let (Some(one), Some(two)) = (weight(1), weight(2)) else { return Err(format!("no weights: {text}")) };
    let wanted = match kind {
        Kind::Frr => two == 3 * one,
        Kind::Bird => two == one,
    };
    if wanted { Ok([one, two]) } else { Err(format!("weights {one} and {two}: {text}")) }
}
