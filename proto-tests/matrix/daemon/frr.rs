//! FRR, as its shell is told.

use super::{Router, Seen};
use crate::bed::Bed;
use crate::rig::fib::{self, Table};
use crate::rig::frr::Frr;
use crate::rig::programs::Programs;
use crate::rig::router::Plan;
use crate::rig::{Outcome, Rig};
use crate::session::{Ask, Dials, OUR_PORT, Session};
use ipnetwork::IpNetwork;
use serde_json::Value;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The router's BGP Identifier: above herald's, so that herald's connection loses a collision.
const ROUTER_ID: Ipv4Addr = Ipv4Addr::new(172, 30, 255, 1);

/// FRR with its session.
pub struct Cell {
    frr: Frr,
    at: IpAddr,
    asn: u32,
}

pub fn start(rig: &Rig, bed: &Bed, session: &Session, programs: &Programs) -> Outcome<Cell> {
    let plan =
        Plan { asn: session.theirs, router_id: ROUTER_ID, hold: Duration::from_secs(session.hold), neighbours: vec![] };
    let frr = Frr::start_from(rig, &bed.router, &plan, &configuration(session), programs)?;
    Ok(Cell { frr, at: session.speaker(), asn: session.theirs })
}

fn configuration(session: &Session) -> String {
    let mut text = format!(
        "hostname r\nlog stdout informational\ndebug bgp neighbor-events\nrouter bgp {}\n bgp router-id {ROUTER_ID}\n \
         no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n",
        session.theirs
    );
    if session.wants(Ask::GracefulRestart) {
        text.push_str(" bgp graceful-restart notification\n");
    }
    text.push_str(&neighbour(session));
    text
}

/// The lines of one neighbour, a block of them as a group.
fn neighbour(session: &Session) -> String {
    let at = session.speaker().to_string();
    let range = session.wants(Ask::RouterRange);
    let name = if range { "SPEAKERS" } else { &at };
    let mut text = String::new();
    let mut first_as = "";
    let mut line = |words: String| {
        let _infallible = writeln!(text, " neighbor {name} {words}");
    };
    if range {
        line("peer-group".to_owned());
    }
    line(format!("remote-as {}", session.ours));
    line(format!("timers {} {}", session.hold / 3, session.hold));
    line("timers connect 1".to_owned());
    match session.dials {
        Dials::Herald if !range => line("passive".to_owned()),
        Dials::Herald => {}
        Dials::Router | Dials::Each => line(format!("port {OUR_PORT}")),
    }
    if let Some([_, device]) = session.devices() {
        line(format!("interface {device}"));
    } else if !range {
        line(format!("update-source {}", session.router()));
    }
    for ask in &session.asks {
        match ask {
            Ask::Password(key) => line(format!("password {key}")),
            Ask::TtlSecurity => line("ttl-security hops 1".to_owned()),
            Ask::ExtendedNextHop => line("capability extended-nexthop".to_owned()),
            Ask::TwoOctetAs => {
                line("dont-capability-negotiate".to_owned());
                // It wants to see the large number where AS_TRANS has to be.
                first_as = "no";
            }
            Ask::GracefulRestart => line("graceful-restart-helper".to_owned()),
            // Offered always, or told elsewhere.
            Ask::ExtendedMessages | Ask::RouterRange | Ask::OurRange | Ask::LinkLocal(_) => {}
        }
    }
    let _infallible = writeln!(text, " {first_as} neighbor {name} enforce-first-as");
    if range {
        let block = session.over.of(["172.30.1.0/24", "2001:db8:30:1::/64"]);
        let _infallible = writeln!(text, " bgp listen range {block} peer-group SPEAKERS");
    }
    for family in &session.families {
        let _infallible = write!(
            text,
            " address-family {} unicast\n  neighbor {name} activate\n exit-address-family\n",
            family.word()
        );
    }
    text
}

impl Cell {
    fn ask(&self, line: &str) -> Outcome<Value> {
        let text = self.frr.shell(line)?;
        serde_json::from_str(&text).map_err(|e| format!("bgpd wrote no JSON to {line:?}: {e}: {text}"))
    }

    fn configure(&self, lines: &[&str]) -> Outcome {
        let router = format!("router bgp {}", self.asn);
        self.frr.lines(&[&["configure terminal", &router], lines].concat()).map(drop)
    }
}

impl Router for Cell {
    fn state(&self) -> Outcome<String> {
        let all = self.ask("show bgp neighbors json")?;
        let peer = &all[self.at.to_string()];
        Ok(peer["bgpState"].as_str().unwrap_or("no such neighbour").to_owned())
    }

    fn table(&self) -> Outcome<Table> {
        fib::read(self.frr.space())
    }

    fn route(&self, prefix: IpNetwork) -> Outcome<String> {
        let family = if prefix.is_ipv4() { "ipv4" } else { "ipv6" };
        let value = self.ask(&format!("show bgp {family} unicast {prefix} json"))?;
        Ok(if value["paths"].is_array() { value.to_string() } else { String::new() })
    }

    fn looks(&self, attribute: &Seen) -> String {
        match attribute {
            Seen::AsPath(path) => {
                let text = path.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
                // Inside an AS the path is empty, and written so.
                let text = if text.is_empty() { "Local".to_owned() } else { text };
                format!("\"string\":\"{text}\"")
            }
            Seen::Community(asn, value) => format!("{asn}:{value}"),
            Seen::NoExport => "noExport".to_owned(),
            Seen::Large(a, b, c) => format!("{a}:{b}:{c}"),
            Seen::LocalPref(value) => format!("\"locPrf\":{value}"),
            Seen::Med(value) => format!("\"metric\":{value}"),
            Seen::RouteTarget(asn, value) => format!("RT:{asn}:{value}"),
            Seen::TenGigabits => "LB:64512:1250000000".to_owned(),
        }
    }

    fn refresh(&self) -> Outcome {
        self.frr.shell(&format!("clear bgp {} soft in", self.at)).map(drop)
    }

    fn shut(&self, text: &str) -> Outcome {
        self.configure(&[&format!("neighbor {} shutdown message {text}", self.at)])
    }

    fn heard(&self) -> Outcome<String> {
        Ok(self.frr.shell("show bgp neighbors")? + &self.frr.daemon().log())
    }
}
