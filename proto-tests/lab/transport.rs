//! How sessions come about, on one link between a node and a router: keys, TTLs, link-local addresses. The judges are the
//! routers, the kernel's counters and what is on the wire.

use crate::Case;
use crate::manifests::{Manifests, Policy};
use crate::rig::bgp::{Listener, Manner};
use crate::rig::bird::Bird;
use crate::rig::frr::Frr;
use crate::rig::net::{Link, Namespace};
use crate::rig::process::Process;
use crate::rig::router::Plan;
use crate::rig::{Outcome, Rig, replace_file, wait_until};
use crate::speaker::{Rights, Speaker};
use crate::topology::{NODES_ASN, SERVICE_RANGES, network, router_asn};
use rustix::process::Signal;
use serde_json::Value;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
/// No session comes about: so long it is watched after the kernel has shown why.
const NEVER: Duration = Duration::from_secs(1);
const V4: &str = "198.51.100.1/32";
const V6: &str = "2001:db8:5::1";

/// A case as a function.
type Run = fn(&Arc<Rig>) -> Outcome;

/// The cases of this file.
pub fn cases() -> Vec<(String, Case)> {
    let all: [(&str, Run); 7] = [
        ("frr_takes_only_the_right_key_from_next_door", frr_takes_only_the_right_key_from_next_door),
        ("bird_dials_with_the_key_of_a_range", bird_dials_with_the_key_of_a_range),
        ("ttl_and_dscp_of_every_packet", ttl_and_dscp_of_every_packet),
        ("link_local_with_frr", link_local_with_frr),
        ("link_local_with_bird", link_local_with_bird),
        ("unnumbered_with_frr", unnumbered_with_frr),
        ("two_speakers_change_their_key", two_speakers_change_their_key),
    ];
    all.map(|(name, case)| (format!("transport_{name}"), Box::new(case) as Case)).into()
}

/// Which addresses the link has beside the link-local ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbers {
    /// Both families.
    Both,
    /// IPv6 at both ends.
    V6,
    /// IPv6 at the node's end: there must be a next hop.
    NodeOnly,
}

/// A node, a router and a link. Link-local addresses are fe80::2 and fe80::1.
struct Wire {
    rig: Arc<Rig>,
    node: Namespace,
    router: Namespace,
    manifests: Manifests,
}

impl Wire {
    fn build(rig: &Arc<Rig>, numbers: Numbers) -> Outcome<Self> {
        rig.clear()?;
        let (node, router) = (Namespace::make(rig, "n1")?, Namespace::make(rig, "r1")?);
        let ends = |end: u8| match numbers {
            Numbers::Both => vec![format!("172.30.11.{end}/24"), format!("2001:db8:30:11::{end}/64")],
            Numbers::V6 => vec![format!("2001:db8:30:11::{end}/64")],
            Numbers::NodeOnly if end == 2 => vec![format!("2001:db8:30:11::{end}/64")],
            Numbers::NodeOnly => Vec::new(),
        };
        let ends = |end| ends(end).iter().map(|text| network(text)).collect::<Vec<_>>();
        Link::make((&node, &ends(2)), (&router, &ends(1)))?;
        for (space, device, end) in [(&node, "r1", 2), (&router, "n1", 1)] {
            space.ip(&[
                format!("link set dev {device} addrgenmode none"),
                format!("address flush dev {device} to fe80::/10"),
                format!("address add fe80::{end}/64 dev {device} nodad"),
            ])?;
        }
        router.forward()?;
        router.dead_ends(&SERVICE_RANGES.map(network))?;
        let manifests = Manifests::begin(rig)?;
        manifests.service(1, Policy::Cluster, &[1])?;
        Ok(Self { rig: Arc::clone(rig), node, router, manifests })
    }

    fn speaker(&self, peer: &str) -> Outcome<Speaker> {
        Speaker::start_with(&self.rig, &self.node, &config("", peer), &self.manifests, Rights::None)
    }

    /// A file for a password, which the pod's user may read.
    fn key_file(&self, name: &str) -> Outcome<PathBuf> {
        Ok(self.rig.folder("keys", 0o755)?.join(name))
    }

    fn frr(&self, lines: &str) -> Outcome<Frr> {
        let text = format!(
            "hostname r1\nlog stdout informational\ndebug bgp neighbor-events\nrouter bgp {}\n bgp router-id 172.30.255.1\n \
             no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n{lines}",
            router_asn(1)
        );
        Frr::start_with(&self.rig, &self.router, &nobody(), &text)
    }

    fn bird(&self, session: &str) -> Outcome<Bird> {
        let text = format!(
            "log stderr all;\nrouter id 172.30.255.1;\nprotocol device {{ }}\n\
             protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n\
             protocol kernel {{ ipv6 {{ import none; export where source = RTS_BGP; }}; }}\n\
             protocol bgp n1 {{ local as {}; hold time 3; error wait time 1, 1; connect delay time 1; connect retry time 1;\n\
             {session} }}\n",
            router_asn(1)
        );
        Bird::start_with(&self.rig, &self.router, &nobody(), &text)
    }

    /// Waits until the router's kernel sends the service where it should.
    fn wait_for_routes(&self, speaker: &mut Speaker, wanted: &[(&str, &str)]) -> Outcome {
        for (prefix, via) in wanted {
            let family = if prefix.contains(':') { "-6" } else { "-4" };
            let seen = wait_until(SOON, &format!("{prefix} {via} in the router's table"), || {
                let text = self.router.run("ip", &[family, "route", "show", prefix])?;
                if text.contains(via) { Ok(()) } else { Err(format!("{text:?}")) }
            });
            seen.map_err(|what| format!("{what}\n{}", speaker.process().log_end()))?;
        }
        Ok(())
    }
}

/// What the rig's routers are told where the text is the caller's own.
fn nobody() -> Plan {
    let router_id = Ipv4Addr::new(172, 30, 255, 1);
    Plan { asn: router_asn(1), router_id, hold: Duration::from_secs(3), neighbours: Vec::new() }
}

/// A configuration with lines before and in the list of peers.
fn config(top: &str, peers: &str) -> String {
    format!(
        "asn: {NODES_ASN}\nrouterId: 172.30.0.1\n{top}peers:\n{peers}pools:\n- {{name: lab, addresses: [198.51.100.0/24, \"2001:db8:5::/64\"]}}\n\
         guard:\n  maxWithdraw: 100%\nadvertisements:\n- {{name: lab}}\n"
    )
}

/// A counter of the kernel in a namespace, such as TCPMD5Failure.
fn counter(space: &Namespace, name: &str) -> Outcome<u64> {
    let text = space.run("cat", &["/proc/net/netstat"])?;
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let value = lines.chunks(2).find_map(|pair| {
        let at = pair.first()?.iter().position(|word| *word == name)?;
        pair.get(1)?.get(at)?.parse().ok()
    });
    value.ok_or_else(|| format!("the kernel counts no {name}"))
}

fn wait_for_state(speaker: &mut Speaker, peer: &str, state: &str) -> Outcome<Value> {
    let seen = wait_until(SOON, &format!("{peer} to be {state}"), || {
        let shown = speaker.peer(peer)?;
        if shown["state"] == state { Ok(shown) } else { Err(shown.to_string()) }
    });
    seen.map(|(shown, _)| shown).map_err(|what| format!("{what}\n{}", speaker.process().log_end()))
}

/// Waits for the kernel's reason, and then that the router has no session still.
fn no_session(speaker: &mut Speaker, frr: &Frr, reason: &str) -> Outcome {
    wait_until(SOON, &format!("{reason} to be counted"), || match counter(frr.space(), reason)? {
        0 => Err("nothing yet".to_owned()),
        _ => Ok(()),
    })?;
    let stood = wait_until(NEVER, "", || {
        let states = frr.sessions()?;
        if states.values().any(|state| state == "Established") { Ok(()) } else { Err("none".to_owned()) }
    });
    speaker.process().alive()?;
    match stood {
        Ok(_) => Err(format!("a session came about although {reason} was counted")),
        Err(_none) => Ok(()),
    }
}

fn expect(shown: &Value, what: &[(&str, Value)]) -> Outcome {
    for (path, wanted) in what {
        let seen = shown.pointer(path).unwrap_or(&Value::Null);
        if seen != wanted {
            return Err(format!("{path} is {seen}, wanted {wanted}, in {shown}"));
        }
    }
    Ok(())
}

/// FRR with a password and `ttl-security hops 1`: nothing but the right key from next door becomes a session.
fn frr_takes_only_the_right_key_from_next_door(rig: &Arc<Rig>) -> Outcome {
    let wire = Wire::build(rig, Numbers::Both)?;
    let at = "172.30.11.2";
    let frr = wire.frr(&format!(
        " neighbor {at} remote-as {NODES_ASN}\n neighbor {at} passive\n neighbor {at} timers 1 3\n \
         neighbor {at} password right-key\n neighbor {at} ttl-security hops 1\n address-family ipv4 unicast\n  \
         neighbor {at} activate\n address-family ipv6 unicast\n  neighbor {at} activate\n"
    ))?;
    let file = wire.key_file("r1")?;
    let peer =
        |more: &str| format!("- {{name: r1, address: 172.30.11.1, asn: {}, holdTime: 3s{more}}}\n", router_asn(1));
    let keyed = format!(", passwordFile: {}", file.display());
    no_session(&mut wire.speaker(&peer(", ttlSecurity: 1"))?, &frr, "TCPMD5NotFound")?;
    replace_file(&file, "wrong-key\n")?;
    no_session(&mut wire.speaker(&peer(&format!("{keyed}, ttlSecurity: 1")))?, &frr, "TCPMD5Failure")?;
    replace_file(&file, "right-key\n")?;
    no_session(&mut wire.speaker(&peer(&keyed))?, &frr, "TCPMinTTLDrop")?;
    let mut speaker = wire.speaker(&peer(&format!("{keyed}, ttlSecurity: 1")))?;
    let shown = wait_for_state(&mut speaker, "r1", "Established")?;
    expect(
        &shown,
        &[
            ("/transport/ttl", 255.into()),
            ("/transport/leastTtl", 255.into()),
            ("/transport/trafficClass", 192.into()),
            ("/transport/md5", "keyInstalled".into()),
            ("/transport/remote", "172.30.11.1:179".into()),
        ],
    )?;
    wire.wait_for_routes(&mut speaker, &[(V4, "via 172.30.11.2"), (V6, "via")])?;
    // The kernel shows root the key of the live socket; and nobody else is shown it.
    let sockets = wire.node.run("ss", &["-tniHe", "dst", "172.30.11.1"])?;
    if !(sockets.contains("md5keys:172.30.11.1/32") && sockets.contains("right-key")) {
        return Err(format!("no key on the live socket: {sockets}"));
    }
    for said in [speaker.process().log(), speaker.peer("r1")?.to_string()] {
        if said.contains("right-key") || said.contains("wrong-key") {
            return Err(format!("a password is told: {said}"));
        }
    }
    // Without its file the session goes on, and says so.
    std::fs::remove_file(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    speaker.process().signal(Signal::HUP)?;
    wait_until(SOON, "a remark on the missing file", || {
        let shown = speaker.peer("r1")?;
        expect(&shown, &[("/state", "Established".into()), ("/establishedCount", 1.into())])?;
        let remark = shown.pointer("/remarks/0").and_then(Value::as_str).unwrap_or_default().to_owned();
        if remark.contains("the password before it stays in use") { Ok(()) } else { Err(shown.to_string()) }
    })?;
    // A new process has no password from before: it does not dial.
    drop(speaker);
    let mut speaker = wire.speaker(&peer(&format!("{keyed}, ttlSecurity: 1")))?;
    let shown = wait_for_state(&mut speaker, "r1", "Idle")?;
    let why = shown["lastDown"]["reason"].as_str().unwrap_or_default();
    if !why.contains("neither dialled nor listened for") {
        return Err(format!("a peer without its key is {shown}"));
    }
    Ok(())
}

/// BIRD dials a range with a key for the whole block, and guards its TTL; so do we.
fn bird_dials_with_the_key_of_a_range(rig: &Arc<Rig>) -> Outcome {
    let wire = Wire::build(rig, Numbers::Both)?;
    let file = wire.key_file("leaves")?;
    let _not_there_the_first_time = std::fs::remove_file(&file);
    let peers = format!(
        "- {{name: leaves, range: \"2001:db8:30:11::/64\", asn: {}, holdTime: 3s, passwordFile: {}, ttlSecurity: 1}}\n",
        router_asn(1),
        file.display()
    );
    let text = config("listen: {port: 1790}\n", &peers);
    let mut speaker = Speaker::start_with(rig, &wire.node, &text, &wire.manifests, Rights::None)?;
    let _bird = wire.bird(&format!(
        "neighbor 2001:db8:30:11::2 port 1790 as {NODES_ASN}; password \"block-key\"; ttl security on;\n\
         ipv4 {{ import all; export none; }}; ipv6 {{ import all; export none; }};"
    ))?;
    wait_until(SOON, "a signed SYN to be dropped", || match counter(&wire.node, "TCPMD5Unexpected")? {
        0 => Err("none".to_owned()),
        _ => Ok(()),
    })?;
    replace_file(&file, "block-key")?;
    speaker.process().signal(Signal::HUP)?;
    let shown = wait_for_state(&mut speaker, "leaves/2001:db8:30:11::1", "Established")?;
    expect(
        &shown,
        &[
            ("/transport/ttl", 255.into()),
            ("/transport/leastTtl", 255.into()),
            ("/transport/trafficClass", 192.into()),
            ("/transport/md5", "keyInstalled".into()),
        ],
    )?;
    wire.wait_for_routes(&mut speaker, &[(V4, "via"), (V6, "via 2001:db8:30:11::2")])
}

/// Eight sessions with what each must send, read off the link by another program.
fn ttl_and_dscp_of_every_packet(rig: &Arc<Rig>) -> Outcome {
    let wire = Wire::build(rig, Numbers::Both)?;
    // What a guarded router sends. Only that session asks for it.
    wire.router.sysctl(&["net.ipv4.ip_default_ttl=255", "net.ipv6.conf.n1.hop_limit=255"])?;
    let rows = [
        ("external", 1, ""),
        ("multihop", 5, ", ebgpMultihop: 5"),
        ("guarded", 255, ", ttlSecurity: 1"),
        ("internal", 64, ""),
    ];
    let mut peers = String::new();
    let mut receivers = Vec::new();
    let mut wanted = Vec::new();
    for (v, ip) in ["172.30.11.1", "2001:db8:30:11::1"].into_iter().enumerate() {
        for (row, (name, ttl, more)) in rows.iter().enumerate() {
            let port = 1800 + u16::try_from(v * 10 + row).expect("a small number");
            let asn = if *name == "internal" { NODES_ASN } else { router_asn(1) };
            let at = SocketAddr::new(ip.parse().map_err(|e| format!("{ip}: {e}"))?, port);
            let manner = Manner::Honest { asn, router_id: Ipv4Addr::new(172, 30, 255, 1), hold: 9 };
            receivers.push(Listener::start(&wire.router, at, manner)?);
            let _infallible = writeln!(
                peers,
                "- {{name: {name}-{v}, address: \"{ip}\", port: {port}, asn: {asn}, holdTime: 9s{more}}}"
            );
            wanted.push((format!("{name}-{v}"), port, *ttl));
        }
    }
    let mut command = wire.router.command("tcpdump");
    command.args(["-i", "n1", "-nn", "-v", "-l", "tcp and portrange 1799-1820 and inbound"]);
    let dump = Process::start(rig, "tcpdump-r1", command)?;
    wait_until(SOON, "tcpdump to show what comes", || {
        let knock = || TcpStream::connect(("172.30.11.1", 1799)).map(drop);
        let _refused = wire.node.inside(knock)?;
        if dump.log().contains(".1799: Flags") { Ok(()) } else { Err(dump.log_end()) }
    })?;
    let mut speaker = wire.speaker(&peers)?;
    for (name, _, ttl) in &wanted {
        let shown = wait_for_state(&mut speaker, name, "Established")?;
        expect(&shown, &[("/transport/ttl", (*ttl).into()), ("/transport/trafficClass", 192.into())])?;
    }
    for (name, port, ttl) in wanted {
        let (_, took) = wait_until(SOON, &format!("the packets of {name}"), || judge_packets(&dump.log(), port, ttl))
            .map_err(|what| format!("{name}: {what}"))?;
        println!("  {name}: TTL {ttl}, CS6 on SYN and data ({took:.1?})");
    }
    Ok(())
}

/// Every packet towards a port has this TTL and CS6; among them are a SYN and data.
fn judge_packets(log: &str, port: u16, ttl: u8) -> Outcome {
    let (mut syns, mut data) = (0, 0);
    let mut header = "";
    for line in log.lines() {
        // Where both are on one line (IPv6), what follows the header is on it too.
        if line.contains("IP (tos") || line.contains("IP6 (") {
            header = line;
        }
        if !line.contains(&format!(".{port}: Flags")) {
            continue;
        }
        let right = match header.contains("IP6 (") {
            false => header.contains(&format!("tos 0xc0, ttl {ttl},")),
            true => header.contains("class 0xc0") && header.contains(&format!("hlim {ttl},")),
        };
        if !right {
            return Err(format!("this packet has another TTL than {ttl}, or another DSCP: {header} {line}"));
        }
        syns += usize::from(line.contains("Flags [S]"));
        data += usize::from(!line.contains("length 0") && !line.contains("Flags [S]"));
    }
    if syns > 0 && data > 0 { Ok(()) } else { Err(format!("{syns} SYNs and {data} packets with data")) }
}

/// FRR at its link-local address, with IPv4 routes over IPv6 next hops.
fn link_local_with_frr(rig: &Arc<Rig>) -> Outcome {
    let wire = Wire::build(rig, Numbers::NodeOnly)?;
    let at = "fe80::2";
    let frr = wire.frr(&format!(
        " neighbor {at} remote-as {NODES_ASN}\n neighbor {at} interface n1\n neighbor {at} passive\n neighbor {at} timers 1 3\n \
         neighbor {at} capability extended-nexthop\n address-family ipv4 unicast\n  neighbor {at} activate\n \
         address-family ipv6 unicast\n  neighbor {at} activate\n"
    ))?;
    let asn = router_asn(1);
    let mut speaker =
        wire.speaker(&format!("- {{name: r1, address: \"fe80::1\", interface: r1, asn: {asn}, holdTime: 3s}}\n"))?;
    let shown = wait_for_state(&mut speaker, "r1", "Established")?;
    expect(
        &shown,
        &[
            ("/interface", "r1".into()),
            ("/transport/interface", "r1".into()),
            ("/transport/ttl", 1.into()),
            ("/session/nextHops/ipv4-unicast", "2001:db8:30:11::2".into()),
            ("/session/nextHops/ipv6-unicast", "2001:db8:30:11::2".into()),
        ],
    )?;
    wire.wait_for_routes(&mut speaker, &[(V4, "via inet6 fe80::2 dev n1"), (V6, "via fe80::2 dev n1")])?;
    let table = frr.shell("show bgp ipv6 unicast 2001:db8:5::1/128")?;
    if table.contains("2001:db8:30:11::2") && table.contains("fe80::2") {
        return Ok(());
    }
    Err(format!("not both halves of the next hop: {table}"))
}

/// BIRD at its link-local address; it is the one that dials. It takes the global half of a next hop, which it must be able to
/// find.
fn link_local_with_bird(rig: &Arc<Rig>) -> Outcome {
    let wire = Wire::build(rig, Numbers::V6)?;
    let _bird = wire.bird(&format!(
        "neighbor fe80::2 as {NODES_ASN}; interface \"n1\"; local fe80::1; neighbor port 1790; direct;\n\
         ipv4 {{ import all; export none; extended next hop on; }}; ipv6 {{ import all; export none; }};"
    ))?;
    let asn = router_asn(1);
    let peer =
        format!("- {{name: r1, address: \"fe80::1\", interface: r1, asn: {asn}, holdTime: 3s, passive: true}}\n");
    let text = config("listen: {port: 1790}\n", &peer);
    let mut speaker = Speaker::start_with(rig, &wire.node, &text, &wire.manifests, Rights::None)?;
    let shown = wait_for_state(&mut speaker, "r1", "Established")?;
    expect(&shown, &[("/transport/interface", "r1".into()), ("/transport/trafficClass", 192.into())])?;
    let via = ["via inet6 2001:db8:30:11::2 dev n1", "via 2001:db8:30:11::2 dev n1"];
    wire.wait_for_routes(&mut speaker, &[(V4, via[0]), (V6, via[1])])
}

/// The router is found by its flag, as the kernel has it; FRR wants to hear us first, which takes a capability.
fn unnumbered_with_frr(rig: &Arc<Rig>) -> Outcome {
    let wire = Wire::build(rig, Numbers::NodeOnly)?;
    let asn = router_asn(1);
    let text =
        config("", &format!("- {{name: r1, interface: r1, asn: {asn}, holdTime: 3s, routerAdvertisements: true}}\n"));
    let mut speaker = Speaker::start_with(rig, &wire.node, &text, &wire.manifests, Rights::None)?;
    let shown = wait_for_state(&mut speaker, "r1", "Idle")?;
    let why = shown["lastDown"]["reason"].as_str().unwrap_or_default();
    if !why.contains("router") {
        return Err(format!("nothing is said about the missing router: {shown}"));
    }
    let found = |speaker: &Speaker, address: &str| {
        wait_until(SOON, &format!("{address} to be found"), || {
            let shown = speaker.peer("r1")?;
            expect(&shown, &[("/address", address.into())])?;
            let remark = shown.pointer("/remarks/0").and_then(Value::as_str).unwrap_or_default();
            if remark.contains("CAP_NET_RAW") { Ok(()) } else { Err(format!("no word on the capability: {shown}")) }
        })
    };
    for (gone, address) in [(None, "fe80::a"), (Some("fe80::a"), "fe80::b")] {
        if let Some(gone) = gone {
            wire.node.ip(&[format!("neigh del {gone} dev r1")])?;
        }
        wire.node.ip(&[format!("neigh add {address} lladdr 02:00:00:00:00:0a dev r1 router nud permanent")])?;
        found(&speaker, address)?;
    }
    wire.node.ip(&["neigh del fe80::b dev r1"])?;
    drop(speaker);
    let frr = wire.frr(&format!(
        " neighbor n1 interface remote-as {NODES_ASN}\n neighbor n1 timers 1 3\n neighbor n1 capability extended-nexthop\n \
         address-family ipv4 unicast\n  neighbor n1 activate\n address-family ipv6 unicast\n  neighbor n1 activate\n"
    ))?;
    let mut speaker = Speaker::start_with(rig, &wire.node, &text, &wire.manifests, Rights::NetRaw)?;
    let shown = wait_for_state(&mut speaker, "r1", "Established")
        .map_err(|what| format!("{what}\n{}", frr.shell("show bgp neighbors").unwrap_or_default()))?;
    expect(&shown, &[("/address", "fe80::1".into()), ("/interface", "r1".into()), ("/remarks", Value::Array(vec![]))])?;
    wire.wait_for_routes(&mut speaker, &[(V4, "via inet6 fe80::2 dev n1"), (V6, "via fe80::2 dev n1")])
}

/// Two speakers of ours, each of which reads its key from a file: the files change, the session does not.
fn two_speakers_change_their_key(rig: &Arc<Rig>) -> Outcome {
    let wire = Wire::build(rig, Numbers::Both)?;
    let files = [wire.key_file("n1")?, wire.key_file("r1")?];
    for file in &files {
        replace_file(file, "first-key\n")?;
    }
    let asn = router_asn(1);
    let node = config(
        "",
        &format!(
            "- {{name: r1, address: \"2001:db8:30:11::1\", port: 1790, asn: {asn}, holdTime: 3s, passwordFile: {}}}\n",
            files[0].display()
        ),
    );
    let router = format!(
        "asn: {asn}\nrouterId: 172.30.255.1\nlisten: {{port: 1790}}\npeers:\n- {{name: all, range: \"2001:db8:30:11::/64\", \
         asn: {NODES_ASN}, holdTime: 3s, passwordFile: {}}}\n",
        files[1].display()
    );
    let mut speakers = [
        Speaker::start_with(rig, &wire.node, &node, &wire.manifests, Rights::None)?,
        Speaker::start_with(rig, &wire.router, &router, &wire.manifests, Rights::None)?,
    ];
    let names = ["r1", "all/2001:db8:30:11::2"];
    for (speaker, name) in speakers.iter_mut().zip(names) {
        wait_for_state(speaker, name, "Established")?;
    }
    let heard = |speaker: &Speaker, name: &str| -> Outcome<u64> {
        let shown = speaker.peer(name)?;
        expect(&shown, &[("/state", "Established".into()), ("/establishedCount", 1.into())])?;
        shown["received"]["KEEPALIVE"].as_u64().ok_or_else(|| format!("no KEEPALIVEs: {shown}"))
    };
    for round in 0..2 {
        let key = format!("key-of-round-{round}");
        for (file, speaker) in files.iter().zip(&mut speakers) {
            replace_file(file, &format!("{key}\n"))?;
            speaker.process().signal(Signal::HUP)?;
        }
        for (space, name) in [(&wire.node, "n1"), (&wire.router, "r1")] {
            wait_until(SOON, &format!("the new key on the live socket of {name}"), || {
                let sockets = space.run("ss", &["-tniHe", "state", "established"])?;
                if sockets.contains(&key) && sockets.contains("md5keys:") { Ok(()) } else { Err(sockets) }
            })?;
        }
        // Longer than the hold time, on what the new key signs.
        for (speaker, name) in speakers.iter().zip(names) {
            let before = heard(speaker, name)?;
            wait_until(SOON, "KEEPALIVEs signed with the new key", || match heard(speaker, name)? {
                now if now >= before + 4 => Ok(()),
                now => Err(format!("{now} after {before}")),
            })?;
        }
    }
    Ok(())
}
