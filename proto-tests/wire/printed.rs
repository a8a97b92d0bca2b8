//! Captures, and what another decoder prints of them: every line that our types can say must be said by both.

use crate::corpora::{corpus, files, name, octets, rows, say, unpacked};
use crate::generate;
use herald::wire::capability::{AddPathMode, Role};
use herald::wire::{
    AsWidth, Attribute, Capability, Context, Family, Message, Nlri, Notification, Open, Origin, PeerKind, Prefix,
    RefreshKind, Update,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Normalized lines with how often each is there.
type Facts = BTreeMap<String, usize>;

/// How one capture compares: lines that both have, that only we have, that only tcpdump has.
type Comparison = (usize, usize, usize);

/// Captures where not everything agrees, with the reason.
const DIFFERENCES: &[(&str, Comparison, &str)] = &[
    ("bgp-4byte-asn.pcap", (136, 0, 3), "it calls three UPDATEs that withdraw prefixes an End-of-RIB; they are none"),
    ("bgp-addpath.pcap", (0, 0, 17), "MP_REACH_NLRI twice in one UPDATE: RFC 7606 §3 g resets"),
    ("bgp-aigp-2.pcap", (4, 0, 1), "the next hop of labelled prefixes, a family that we keep unread"),
    ("bgp-aigp.pcap", (10, 0, 1), "the next hop of labelled prefixes, a family that we keep unread"),
    ("bgp-bgp_capabilities_print-oobr-1.pcap", (0, 0, 1), "an OPEN of version 255"),
    ("bgp-bgp_capabilities_print-oobr-2.pcap", (0, 0, 1), "an OPEN with unknown optional parameters"),
    ("bgp-infinite-loop.pcap", (0, 0, 5), "UPDATEs whose lengths exceed them, made to loop a printer"),
    ("bgp-lu-multiple-labels.pcap", (50, 0, 2), "the next hop of labelled prefixes, a family that we keep unread"),
    ("bgp-orf.pcapng", (0, 0, 4), "ROUTE-REFRESH with filters (RFC 5291), which nobody here offers to take"),
    ("bgp-rt-prefix.pcap", (32, 0, 5), "the next hop of route target prefixes, a family that we keep unread"),
    (
        "bgp-ub.pcap",
        (59, 28, 40),
        "crafted to confuse a printer: it stops early, and prints parts of messages that are malformed",
    ),
    ("bgp_mp_reach_nlri-oobr.pcap", (0, 0, 6), "UPDATEs whose lengths exceed them, made to overrun a printer"),
    ("bgp_mvpn_6_and_7_oobr.pcap", (0, 0, 2), "an UPDATE whose lengths exceed it, made to overrun a printer"),
    ("bgp_pmsi_tunnel-oobr.pcap", (0, 0, 2), "an UPDATE whose lengths exceed it, made to overrun a printer"),
    ("bgp_vpn_attrset.pcap", (4, 0, 5), "the attributes inside ATTR_SET, which we keep unread"),
    ("bgp_vpn_rt-oobr.pcap", (0, 0, 5), "UPDATEs whose lengths exceed them, made to overrun a printer"),
];

/// The lines of all captures that both have.
const AGREED: usize = 688;

#[test]
fn tcpdump_prints_what_we_read() {
    let Some(folder) = corpus("tcpdump") else { return };
    let (mut agreed, mut captures, mut differing) = (0, 0, Vec::new());
    for path in files(&folder) {
        let Some(text) = expected(&folder, name(&path)) else { continue };
        let theirs = their_facts(&text);
        let ours = our_facts(&unpacked(&path));
        let comparison = compare(&ours, &theirs);
        captures += 1;
        agreed += comparison.0;
        if (comparison.1, comparison.2) != (0, 0) {
            let only: Vec<_> =
                ours.keys().chain(theirs.keys()).filter(|line| ours.get(*line) != theirs.get(*line)).collect();
            println!("{}: {comparison:?} {:?}", name(&path), &only[..only.len().min(12)]);
            differing.push((name(&path).to_owned(), comparison));
        }
    }
    say(&format!("tcpdump: {agreed} lines of {captures} captures agree"));
    let wanted: Vec<_> = DIFFERENCES.iter().map(|(name, comparison, _)| ((*name).to_owned(), *comparison)).collect();
    assert_eq!(differing, wanted);
    assert!(DIFFERENCES.iter().all(|(_, _, reason)| reason.len() > 20), "every difference has its reason");
    assert_eq!((captures, agreed), (36, AGREED));
}

/// The text that belongs to a capture. A few are named differently.
fn expected(folder: &std::path::Path, capture: &str) -> Option<String> {
    let stem = capture.split('.').next()?;
    let stem = match stem {
        "bgp-infinite-loop" => "bgp_infloop-v",
        stem => stem,
    };
    std::fs::read_to_string(folder.join("expected").join(format!("{stem}.out"))).ok()
}

fn compare(ours: &Facts, theirs: &Facts) -> Comparison {
    let only = |one: &Facts, other: &Facts| -> usize {
        one.iter().map(|(line, count)| count.saturating_sub(other.get(line).copied().unwrap_or(0))).sum()
    };
    let total: usize = ours.values().sum();
    let (only_ours, only_theirs) = (only(ours, theirs), only(theirs, ours));
    (total - only_ours, only_ours, only_theirs)
}

fn add(facts: &mut Facts, line: String) {
    *facts.entry(line).or_default() += 1;
}

fn their_facts(text: &str) -> Facts {
    let mut facts = Facts::new();
    let mut large = false;
    for line in text.lines().map(str::trim) {
        if std::mem::take(&mut large) {
            line.split(", ").for_each(|one| add(&mut facts, format!("large {one}")));
        }
        large = line.starts_with("Large Community (32)") && line.ends_with(':');
        their_fact(line).into_iter().for_each(|fact| add(&mut facts, fact));
    }
    facts
}

/// What follows `Flags [..]: ` of an attribute with this head.
fn value<'a>(line: &'a str, head: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(head)?;
    Some(rest.split_once("]:")?.1.trim()).filter(|value| !value.contains("invalid"))
}

fn their_fact(line: &str) -> Option<String> {
    for kind in ["Open Message (1)", "Update Message (2)", "Keepalive Message (4)", "Route Refresh Message (5)"] {
        if line.starts_with(kind) {
            return Some(kind.to_owned());
        }
    }
    if let Some(rest) = line.strip_prefix("Notification Message (3), length: ") {
        let mut told = rest.split_once(", ")?.1;
        for extra in [", Shutdown", ", empty Shutdown", ", invalid Shutdown", ", Data"] {
            told = told.split(extra).next()?;
        }
        return Some(format!("notification {}", told.replace(", subcode", " subcode")));
    }
    for (head, name) in [
        ("Origin (1), ", "origin"),
        ("AS Path (2), ", "path"),
        ("AS4 Path (17), ", "path4"),
        ("Next Hop (3), ", "hop"),
        ("Multi Exit Discriminator (4), ", "med"),
        ("Local Preference (5), ", "preference"),
        ("Originator ID (9), ", "originator"),
        ("Cluster List (10), ", "clusters"),
        ("Community (8), ", "communities"),
    ] {
        if let Some(value) = value(line, head) {
            return Some(format!("{name} {value}"));
        }
    }
    if line.starts_with("Version 4, my AS")
        || line.starts_with("Restart Flags")
        || line.starts_with("4 Byte AS")
        || line.starts_with("Role name")
        || line.contains("Send/Receive")
        || line.contains("Forwarding state preserved")
        || line.starts_with("OTC ")
        || line.starts_with("End-of-Rib Marker")
        || line.contains(", Subtype ")
    {
        return Some(line.to_owned());
    }
    if let Some(rest) = line.strip_prefix("nexthop: ") {
        let hop = rest.split(", nh-length").next()?;
        return hop.split(", ").all(|one| one.parse::<std::net::IpAddr>().is_ok()).then(|| format!("nexthop {hop}"));
    }
    let mut words = line.split_whitespace();
    let (address, len) = words.next()?.split_once('/')?;
    let prefix = Prefix::covering(address.parse().ok()?, len.parse().ok()?).ok()?;
    let id = line.split_once("Path Id: ").and_then(|(_, id)| id.trim().parse::<u32>().ok());
    Some(format!("prefix {}", Nlri { prefix, path_id: id }))
}

/// Messages as they stand in the file, behind each marker.
fn our_facts(file: &[u8]) -> Facts {
    let mut facts = Facts::new();
    let mut at = 0;
    while let Some(next) = file[at..].windows(16).position(|window| window == [0xff; 16]) {
        at += next;
        let len = file.get(at + 16..at + 18).map_or(0, |len| usize::from(u16::from_be_bytes([len[0], len[1]])));
        let message = &file[at..file.len().min(at + len.max(19))];
        if let Some(message) = read(message) {
            said(&message, &mut facts);
        }
        at += 16;
    }
    facts
}

/// The message in the first session in which nothing is wrong with it: a capture does not say what was agreed on.
fn read(octets: &[u8]) -> Option<Message> {
    let mut first = None;
    for ids in [false, true] {
        for as_width in [AsWidth::Four, AsWidth::Two] {
            for peer_kind in [PeerKind::External, PeerKind::Internal] {
                let families = generate::both_families();
                let path_ids_received = if ids { families.clone() } else { [].into() };
                let ipv6_next_hops = [Family::IPV4_UNICAST].into();
                let terms = Context { max_len: 65_535, ..Context::before_open() };
                let context = Context { as_width, peer_kind, families, path_ids_received, ipv6_next_hops, ..terms };
                match Message::decode(octets, &context) {
                    Ok(Message::Update(update)) if !update.faults.is_empty() => {
                        first.get_or_insert(Message::Update(update));
                    }
                    Ok(message) => return Some(message),
                    Err(_) => {}
                }
            }
        }
    }
    first
}

fn said(message: &Message, facts: &mut Facts) {
    match message {
        Message::Open(open) => open_said(open, facts),
        Message::Update(update) => update_said(update, facts),
        Message::Notification(told) => {
            add(facts, format!("notification {}", notification_said(told).replace(", subcode", " subcode")))
        }
        Message::Keepalive => add(facts, "Keepalive Message (4)".to_owned()),
        Message::RouteRefresh(refresh) => {
            add(facts, "Route Refresh Message (5)".to_owned());
            let kind = match refresh.kind() {
                RefreshKind::Request => "Normal route refresh request (0)".to_owned(),
                RefreshKind::Begin => "Demarcation of the beginning of a route refresh (1)".to_owned(),
                RefreshKind::End => "Demarcation of the ending of a route refresh (2)".to_owned(),
                RefreshKind::Unknown(octet) => format!("Unknown ({octet})"),
            };
            add(facts, format!("{}, Subtype {kind}", family_said(refresh.family)));
        }
    }
}

fn family_said(family: Family) -> String {
    match family {
        Family::IPV4_UNICAST => "AFI IPv4 (1), SAFI Unicast (1)".to_owned(),
        Family::IPV6_UNICAST => "AFI IPv6 (2), SAFI Unicast (1)".to_owned(),
        Family { afi: 1, safi: 4 } => "AFI IPv4 (1), SAFI labeled Unicast (4)".to_owned(),
        Family { afi, safi } => format!("AFI {afi}, SAFI {safi}"),
    }
}

fn notification_said(told: &Notification) -> String {
    // `Cease, Hard Reset (6/9)` here is `Cease (6), subcode Hard Reset (9)` there.
    let one = |told: &Notification| {
        let text = Notification::bare(told.code, told.subcode).to_string();
        let names = text.rsplit_once(" (").map_or("", |(names, _)| names).to_owned();
        match names.split_once(", ") {
            Some((code, "Peer De-configured")) => {
                format!("{code} ({}), subcode Peer Unconfigured ({})", told.code, told.subcode)
            }
            Some((code, subcode)) => format!("{code} ({}), subcode {subcode} ({})", told.code, told.subcode),
            None => format!("{names} ({})", told.code),
        }
    };
    match told.wrapped() {
        Some(inner) => format!("{}, {}", one(told), one(&inner)),
        None => one(told),
    }
}

fn open_said(open: &Open, facts: &mut Facts) {
    add(facts, "Open Message (1)".to_owned());
    add(facts, format!("Version 4, my AS {}, Holdtime {}s, ID {}", open.my_as, open.hold_time, open.router_id));
    for capability in &open.capabilities {
        match capability {
            Capability::FourOctetAs(asn) => add(facts, format!("4 Byte AS {asn}")),
            Capability::GracefulRestart(restart) => {
                let flags = match (restart.restarted, restart.notification) {
                    (true, true) => "R, N",
                    (true, false) => "R",
                    (false, true) => "N",
                    (false, false) => "none",
                };
                add(facts, format!("Restart Flags: [{flags}], Restart Time {}s", restart.restart_time));
                for one in &restart.families {
                    let kept = if one.preserved { "yes" } else { "no" };
                    add(facts, format!("{}, Forwarding state preserved: {kept}", family_said(one.family)));
                }
            }
            Capability::AddPath(list) => {
                for one in list {
                    let mode = match one.mode {
                        AddPathMode::Receive => "Receive",
                        AddPathMode::Send => "Send",
                        AddPathMode::Both => "Both",
                    };
                    add(facts, format!("{}, Send/Receive: {mode}", family_said(one.family)));
                }
            }
            Capability::Role(role) => {
                let (name, number) = match role {
                    Role::Provider => ("Provider", 0),
                    Role::RouteServer => ("RS", 1),
                    Role::RouteServerClient => ("RS-Client", 2),
                    Role::Customer => ("Customer", 3),
                    Role::Peer => ("Peer", 4),
                    Role::Unassigned(number) => ("Unassigned", *number),
                };
                add(facts, format!("Role name {name} ({number})"));
            }
            _ => {}
        }
    }
}

fn update_said(update: &Update, facts: &mut Facts) {
    add(facts, "Update Message (2)".to_owned());
    if update.end_of_rib().is_some() {
        add(facts, "End-of-Rib Marker (empty NLRI)".to_owned());
    }
    update.withdrawn.iter().chain(&update.nlri).for_each(|nlri| add(facts, format!("prefix {nlri}")));
    for attribute in &update.attributes {
        attribute_said(attribute, facts);
    }
}

fn attribute_said(attribute: &Attribute, facts: &mut Facts) {
    let path = |path: String| if path.is_empty() { "empty".to_owned() } else { path };
    match attribute {
        Attribute::Origin(Origin::Igp) => add(facts, "origin IGP".to_owned()),
        Attribute::Origin(Origin::Egp) => add(facts, "origin EGP".to_owned()),
        Attribute::Origin(Origin::Incomplete) => add(facts, "origin Incomplete".to_owned()),
        Attribute::AsPath(one) => add(facts, format!("path {}", path(one.to_string()))),
        Attribute::As4Path(one) => add(facts, format!("path4 {}", path(one.to_string()))),
        Attribute::NextHop(hop) => add(facts, format!("hop {hop}")),
        Attribute::MultiExitDisc(med) => add(facts, format!("med {med}")),
        Attribute::LocalPref(preference) => add(facts, format!("preference {preference}")),
        Attribute::OriginatorId(id) => add(facts, format!("originator {id}")),
        Attribute::ClusterList(list) => {
            let list: Vec<_> = list.iter().map(ToString::to_string).collect();
            add(facts, format!("clusters {}", list.join(", ")));
        }
        Attribute::Communities(list) => {
            let list: Vec<_> = list.iter().map(|one| format!("{}:{}", one.0 >> 16, one.0 & 0xffff)).collect();
            add(facts, format!("communities {}", list.join(", ")));
        }
        Attribute::LargeCommunities(list) => list.iter().for_each(|one| add(facts, format!("large {one}"))),
        Attribute::OnlyToCustomer(asn) => add(facts, format!("OTC {asn}")),
        Attribute::MpReach(reach) => {
            let local = reach.link_local.map(|address| format!(", {address}")).unwrap_or_default();
            add(facts, format!("nexthop {}{local}", reach.next_hop));
            reach.nlri.iter().for_each(|nlri| add(facts, format!("prefix {nlri}")));
        }
        Attribute::MpUnreach(unreach) => unreach.withdrawn.iter().for_each(|nlri| add(facts, format!("prefix {nlri}"))),
        _ => {}
    }
}

/// Attributes that ExaBGP's decoder cases name, against ours: every value of a kind that we have must be the same.
#[test]
fn exabgp_says_what_we_read() {
    let Some(folder) = corpus("exabgp") else { return };
    let (mut cases, mut compared) = (0, 0);
    for row in rows(&folder.join("decoding.jsonl")) {
        let attributes = &row["json"]["neighbor"]["message"]["update"]["attribute"];
        let Some(attributes) = attributes.as_object() else { continue };
        let whole = octets(&row["hex"]);
        let message = if row["full_message"] == true { whole } else { enclosed(&whole) };
        let Some(Message::Update(update)) = read(&message) else { panic!("{}: not read", row["file"]) };
        for (key, value) in attributes {
            if let Some(ours) = exabgp_value(key, &update) {
                assert_eq!(ours, *value, "{} {key}", row["file"]);
                compared += 1;
            }
        }
        cases += 1;
    }
    say(&format!("exabgp: {compared} attributes of {cases} cases agree"));
    assert_eq!((cases, compared), (19, 47));
}

fn enclosed(body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(19 + body.len()).unwrap().to_be_bytes();
    [&[0xff; 16][..], &len, &[2], body].concat()
}

/// Our value of what ExaBGP calls so, in its form; `None` for what we keep unread.
fn exabgp_value(key: &str, update: &Update) -> Option<Value> {
    update.attributes.iter().find_map(|attribute| match (key, attribute) {
        ("origin", Attribute::Origin(origin)) => Some(["igp", "egp", "incomplete"][*origin as usize].into()),
        ("local-preference", Attribute::LocalPref(number)) => Some((*number).into()),
        ("med", Attribute::MultiExitDisc(number)) => Some((*number).into()),
        ("originator-id", Attribute::OriginatorId(id)) => Some(id.to_string().into()),
        ("cluster-list", Attribute::ClusterList(list)) => {
            Some(list.iter().map(ToString::to_string).collect::<Vec<_>>().into())
        }
        ("as-path", Attribute::AsPath(path)) => {
            let numbers: Vec<u32> = path.asns().map(|asn| asn.0).collect();
            Some(serde_json::json!({"0": {"element": "as-sequence", "value": numbers}}))
        }
        _ => None,
    })
}
