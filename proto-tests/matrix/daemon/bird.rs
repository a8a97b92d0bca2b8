//! BIRD 2 and 3, as their configuration says.

use super::{Router, Seen};
use crate::bed::Bed;
use crate::rig::bird::Bird;
use crate::rig::fib::{self, Table};
use crate::rig::programs::Programs;
use crate::rig::router::Plan;
use crate::rig::{Outcome, Rig};
use crate::session::{Ask, Dials, Family, OUR_PORT, Session};
use ipnetwork::IpNetwork;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

/// The router's BGP Identifier.
const ROUTER_ID: Ipv4Addr = Ipv4Addr::new(172, 30, 255, 1);

/// BIRD with its session, which is called `speaker`.
pub struct Cell {
    bird: Bird,
    release: Release,
}

/// Where the shells of two releases differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// BIRD 2.
    Two,
    /// BIRD 3.
    Three,
}

pub fn start(rig: &Rig, bed: &Bed, session: &Session, programs: &Programs, release: Release) -> Outcome<Cell> {
    let plan =
        Plan { asn: session.theirs, router_id: ROUTER_ID, hold: Duration::from_secs(session.hold), neighbours: vec![] };
    Ok(Cell { bird: Bird::start_from(rig, &bed.router, &plan, &configuration(session), programs)?, release })
}

/// After an error BIRD refuses the neighbour for a minute unless told otherwise.
fn configuration(session: &Session) -> String {
    let mut text = format!(
        "log stderr all;\nrouter id {ROUTER_ID};\nprotocol device {{ }}\n\
         protocol kernel k4 {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n\
         protocol kernel k6 {{ ipv6 {{ import none; export where source = RTS_BGP; }}; }}\n\
         protocol bgp speaker {{\n local {} as {};\n direct;\n error wait time 1, 2;\n connect delay time 1;\n \
         connect retry time 1;\n hold time {};\n keepalive time {};\n",
        session.router(),
        session.theirs,
        session.hold,
        session.hold / 3,
    );
    let mut line = |words: String| {
        let _infallible = writeln!(text, " {words};");
    };
    let port = if session.dials == Dials::Herald { String::new() } else { format!(" port {OUR_PORT}") };
    // Without four octets BIRD writes no larger AS number down.
    let asn = if session.wants(Ask::TwoOctetAs) { "external".to_owned() } else { format!("as {}", session.ours) };
    if session.wants(Ask::RouterRange) {
        let block = session.over.of(["172.30.1.0/24", "2001:db8:30:1::/64"]);
        line(format!("neighbor range {block}{port} {asn}"));
        line("dynamic name \"speaker\"".to_owned());
    } else {
        line(format!("neighbor {}{port} {asn}", session.speaker()));
    }
    if let Some([_, device]) = session.devices() {
        line(format!("interface \"{device}\""));
    }
    if session.dials == Dials::Herald {
        line("passive on".to_owned());
    }
    for ask in &session.asks {
        match ask {
            Ask::Password(key) => line(format!("password \"{key}\"")),
            Ask::TtlSecurity => line("ttl security on".to_owned()),
            Ask::TwoOctetAs => line("enable as4 off".to_owned()),
            Ask::ExtendedMessages => line("enable extended messages on".to_owned()),
            Ask::GracefulRestart => line("graceful restart aware".to_owned()),
            // Below, above, or not the router's business.
            Ask::ExtendedNextHop | Ask::RouterRange | Ask::OurRange | Ask::LinkLocal(_) => {}
        }
    }
    for family in &session.families {
        let more =
            if session.wants(Ask::ExtendedNextHop) && *family == Family::V4 { "extended next hop on; " } else { "" };
        line(format!("{} {{ import all; export none; {more}}}", family.word()));
    }
    text.push_str("}\n");
    text
}

impl Cell {
    /// The session's line of `show protocols`: its name, which BIRD numbers where a block is configured, and its state.
    fn line(&self) -> Outcome<Option<(String, String)>> {
        let text = self.bird.shell("show protocols")?;
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        // The pattern of a block stays passive in state "start"; the session made from it is listed too.
        let found: Vec<Vec<String>> =
            text.lines().map(words).filter(|words| words.get(1).is_some_and(|kind| kind == "BGP")).collect();
        let best = found.iter().max_by_key(|words| words.iter().any(|word| word == "Established"));
        Ok(best.map(|words| (words[0].clone(), words.get(5..).unwrap_or_default().join(" "))))
    }

    fn name(&self) -> Outcome<String> {
        Ok(self.line()?.ok_or("BIRD has no session")?.0)
    }
}

impl Router for Cell {
    fn state(&self) -> Outcome<String> {
        Ok(self.line()?.map_or("no session".to_owned(), |(_, state)| state))
    }

    fn table(&self) -> Outcome<Table> {
        fib::read(self.bird.space())
    }

    fn route(&self, prefix: IpNetwork) -> Outcome<String> {
        let text = self.bird.shell(&format!("show route {prefix} all"))?;
        Ok(if text.contains(&prefix.to_string()) { text } else { String::new() })
    }

    fn looks(&self, attribute: &Seen) -> String {
        match attribute {
            Seen::AsPath(path) => {
                let text: String = path.iter().map(|asn| format!(" {asn}")).collect();
                format!("path:{text}\n")
            }
            Seen::Community(asn, value) => format!("({asn},{value})"),
            Seen::NoExport => "(65535,65281)".to_owned(),
            Seen::Large(a, b, c) => format!("({a}, {b}, {c})"),
            Seen::LocalPref(value) => format!("local_pref: {value}\n"),
            Seen::Med(value) => format!("med: {value}\n"),
            Seen::RouteTarget(asn, value) => format!("(rt, {asn}, {value})"),
            Seen::TenGigabits => "0x4, 64512, 1318388473)".to_owned(),
        }
    }

    fn refresh(&self) -> Outcome {
        let words = match self.release {
            Release::Two => "reload in",
            Release::Three => "reload bgp in",
        };
        self.bird.shell(&format!("{words} {}", self.name()?)).map(drop)
    }

    fn shut(&self, text: &str) -> Outcome {
        self.bird.shell(&format!("disable {} \"{text}\"", self.name()?)).map(drop)
    }

    fn heard(&self) -> Outcome<String> {
        Ok(self.bird.shell("show protocols all")? + &self.bird.daemon().log())
    }
}
