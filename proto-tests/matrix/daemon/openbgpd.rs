//! OpenBGPD: on Linux it writes no kernel table, so its own is read.

use super::{Router, Seen};
use crate::bed::Bed;
use crate::rig::fib::Table;
use crate::rig::net::Namespace;
use crate::rig::process::Process;
use crate::rig::{Outcome, Rig, wait_until, write_file};
use crate::session::{Ask, Dials, OUR_PORT, Session};
use ipnetwork::IpNetwork;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// OpenBGPD with its session.
pub struct Cell {
    space: Namespace,
    dir: PathBuf,
    at: String,
    daemon: Process,
}

pub fn start(rig: &Rig, bed: &Bed, session: &Session) -> Outcome<Cell> {
    let dir = bed.dir.join("openbgpd");
    crate::rig::make_folder(&dir, 0o755)?;
    // The empty folder that it shuts its processes into; the package leaves making it to its service.
    crate::rig::make_folder(Path::new("/run/openbgpd"), 0o755)?;
    let file = dir.join("bgpd.conf");
    write_file(&file, &configuration(session, &dir.join("ctl").display().to_string()))?;
    let mut command = bed.router.command("bgpd");
    command.arg("-d").arg("-f").arg(&file);
    let daemon = Process::start(rig, &format!("openbgpd-{}", bed.router.short()), command)?;
    let mut cell = Cell { space: bed.router.clone(), dir, at: session.scoped(session.speaker()), daemon };
    wait_until(Duration::from_secs(30), "bgpd to answer", || {
        cell.daemon.alive()?;
        cell.shell(&["show", "summary"])
    })?;
    Ok(cell)
}

fn configuration(session: &Session, socket: &str) -> String {
    let mut text = format!(
        "AS {}\nrouter-id 172.30.255.1\nsocket \"{socket}\"\nfib-update no\nlisten on {}\nconnect-retry 1\n",
        session.theirs,
        session.scoped(session.router())
    );
    let block = session.over.of(["172.30.1.0/24", "2001:db8:30:1::/64"]);
    let at = if session.wants(Ask::RouterRange) { block.to_owned() } else { session.scoped(session.speaker()) };
    let _infallible = write!(text, "neighbor {at} {{\n remote-as {}\n descr speaker\n", session.ours);
    let mut line = |words: String| text.push_str(&format!(" {words}\n"));
    line(format!("local-address {}", session.scoped(session.router())));
    line(format!("holdtime {}", session.hold));
    line("export none".to_owned());
    match session.dials {
        Dials::Herald => line("passive".to_owned()),
        Dials::Router | Dials::Each => line(format!("port {OUR_PORT}")),
    }
    for family in crate::session::BOTH {
        let word = family.of(["IPv4", "IPv6"]);
        let what = if session.families.contains(&family) { "unicast" } else { "none" };
        line(format!("announce {word} {what}"));
    }
    for ask in &session.asks {
        match ask {
            Ask::Password(key) => line(format!("tcp md5sig password {key}")),
            Ask::TtlSecurity => line("ttl-security yes".to_owned()),
            Ask::TwoOctetAs => line("announce as-4byte no".to_owned()),
            Ask::GracefulRestart => line("announce restart yes".to_owned()),
            Ask::ExtendedNextHop | Ask::ExtendedMessages | Ask::RouterRange | Ask::OurRange | Ask::LinkLocal(_) => {}
        }
    }
    text.push_str("}\nallow from any\n");
    text
}

impl Cell {
    fn shell(&self, words: &[&str]) -> Outcome<String> {
        let socket = self.dir.join("ctl").display().to_string();
        self.space.run("bgpctl", &[&["-s", &socket], words].concat())
    }

    fn ask(&self, words: &[&str]) -> Outcome<Value> {
        let text = self.shell(&[&["-j"], words].concat())?;
        serde_json::from_str(&text).map_err(|e| format!("bgpctl wrote no JSON to {words:?}: {e}: {text}"))
    }

    fn neighbour(&self, words: &[&str]) -> Outcome {
        self.shell(&[&["neighbor", &self.at], words].concat()).map(drop)
    }
}

impl Router for Cell {
    fn state(&self) -> Outcome<String> {
        let all = self.ask(&["show", "neighbor"])?;
        let peers = all["neighbors"].as_array().into_iter().flatten();
        let found = peers.filter(|peer| peer["remote_addr"] == self.at.as_str());
        Ok(found.filter_map(|peer| peer["state"].as_str()).next_back().unwrap_or("no session").to_owned())
    }

    fn table(&self) -> Outcome<Table> {
        let all = self.ask(&["show", "rib"])?;
        let mut table = Table::new();
        for route in all["rib"].as_array().into_iter().flatten() {
            let prefix = route["prefix"].as_str().and_then(|text| text.parse().ok());
            let hop = route["exit_nexthop"].as_str().and_then(|text| text.parse().ok());
            if let Some((prefix, hop)) = prefix.zip(hop) {
                table.entry(prefix).or_default().insert(hop);
            }
        }
        Ok(table)
    }

    fn route(&self, prefix: IpNetwork) -> Outcome<String> {
        let value = self.ask(&["show", "rib", "detail", &prefix.to_string()])?;
        Ok(if value["rib"].as_array().is_some_and(|rib| !rib.is_empty()) { value.to_string() } else { String::new() })
    }

    fn looks(&self, attribute: &Seen) -> String {
        match attribute {
            Seen::AsPath(path) => {
                format!("\"aspath\":\"{}\"", path.iter().map(u32::to_string).collect::<Vec<_>>().join(" "))
            }
            Seen::Community(asn, value) => format!("{asn}:{value}"),
            Seen::NoExport => "NO_EXPORT".to_owned(),
            Seen::Large(a, b, c) => format!("{a}:{b}:{c}"),
            Seen::LocalPref(value) => format!("\"localpref\":{value}"),
            Seen::Med(value) => format!("\"metric\":{value}"),
            Seen::RouteTarget(asn, value) => format!("rt {asn}:{value}"),
            Seen::TenGigabits => "[4] 64512:1318388473".to_owned(),
        }
    }

    fn refresh(&self) -> Outcome {
        self.neighbour(&["refresh"])
    }

    fn shut(&self, text: &str) -> Outcome {
        self.neighbour(&["down", text])
    }

    fn heard(&self) -> Outcome<String> {
        Ok(self.shell(&["show", "neighbor"])? + &self.daemon.log())
    }
}
