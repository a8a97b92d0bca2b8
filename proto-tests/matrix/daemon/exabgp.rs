//! ExaBGP: it keeps no table. What it tells its process is written down here, and the table is made of that.

use super::{Router, Seen};
use crate::bed::Bed;
use crate::rig::fib::Table;
use crate::rig::process::Process;
use crate::rig::{Outcome, Rig, wait_until, write_file};
use crate::session::{Ask, BOTH, Dials, OUR_PORT, Session};
use ipnetwork::IpNetwork;
use serde_json::Value;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

/// ExaBGP with its session.
pub struct Cell {
    dir: PathBuf,
    at: IpAddr,
    daemon: Process,
}

pub fn start(rig: &Rig, bed: &Bed, session: &Session) -> Outcome<Cell> {
    let dir = bed.dir.join("exabgp");
    crate::rig::make_folder(&dir, 0o755)?;
    let (file, script) = (dir.join("exabgp.conf"), dir.join("told"));
    write_file(&dir.join("orders"), "")?;
    let at = dir.display();
    // What ExaBGP says goes to one file; what is appended to the other is an order.
    write_file(&script, &format!("#!/bin/sh\ntail -n 0 -F {at}/orders &\nexec cat >> {at}/events\n"))?;
    fs::set_permissions(&script, Permissions::from_mode(0o755)).map_err(|e| format!("{}: {e}", script.display()))?;
    write_file(&file, &configuration(session, &script.display().to_string()))?;
    // It knows no interface behind an address and cannot listen at a link-local one alone.
    let bind = if session.devices().is_some() { "::".to_owned() } else { session.router().to_string() };
    let mut command = bed.router.command("exabgp");
    command
        .env("exabgp.daemon.user", "root")
        .env("exabgp.tcp.bind", bind)
        .env("exabgp.tcp.port", "179")
        .env("exabgp.api.cli", "false")
        .env("exabgp.log.destination", "stdout")
        .arg(&file);
    let daemon = Process::start(rig, &format!("exabgp-{}", bed.router.short()), command)?;
    let mut cell = Cell { dir, at: session.speaker(), daemon };
    wait_until(Duration::from_secs(30), "ExaBGP's process", || {
        cell.daemon.alive()?;
        if cell.dir.join("events").exists() { Ok(()) } else { Err("it has not begun".to_owned()) }
    })?;
    Ok(cell)
}

fn configuration(session: &Session, script: &str) -> String {
    // An AS number of four octets is AS_TRANS to one that knows two (RFC 6793 §4.2.2).
    let asn = if session.wants(Ask::TwoOctetAs) { 23456 } else { session.ours };
    let mut text = format!(
        "process told {{ run {script}; encoder json; }}\nneighbor {} {{\n router-id 172.30.255.1;\n local-address {};\n \
         local-as {};\n peer-as {};\n hold-time {};\n",
        session.speaker(),
        session.router(),
        session.theirs,
        asn,
        session.hold
    );
    let mut line = |words: String| text.push_str(&format!(" {words}\n"));
    match session.dials {
        Dials::Herald => line("passive true;".to_owned()),
        Dials::Router | Dials::Each => line(format!("connect {OUR_PORT};")),
    }
    let mut capabilities = "route-refresh; ".to_owned();
    for ask in &session.asks {
        match ask {
            Ask::Password(key) => line(format!("md5-password \"{key}\";")),
            Ask::TtlSecurity => line("outgoing-ttl 255; incoming-ttl 255;".to_owned()),
            Ask::TwoOctetAs => capabilities.push_str("asn4 disable; "),
            Ask::GracefulRestart => capabilities.push_str("graceful-restart 60; "),
            Ask::ExtendedMessages => capabilities.push_str("extended-message enable; "),
            Ask::ExtendedNextHop => {
                capabilities.push_str("nexthop enable; ");
                line("nexthop { ipv4 unicast ipv6; }".to_owned());
            }
            Ask::RouterRange | Ask::OurRange | Ask::LinkLocal(_) => {}
        }
    }
    line(format!("capability {{ {capabilities}}}"));
    let families: String = session.families.iter().map(|family| format!("{} unicast; ", family.word())).collect();
    line(format!("family {{ {families}}}"));
    line("api { processes [ told ]; neighbor-changes; receive { parsed; packets; update; notification; } }".to_owned());
    text.push_str("}\n");
    text
}

impl Cell {
    /// Everything told so far, oldest first.
    fn events(&self) -> Outcome<Vec<Value>> {
        let path = self.dir.join("events");
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        // The last line may be half written.
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    fn order(&self, words: &str) -> Outcome {
        let path = self.dir.join("orders");
        let open = File::options().append(true).open(&path);
        open.and_then(|mut file| writeln!(file, "{words}")).map_err(|e| format!("{}: {e}", path.display()))
    }
}

impl Router for Cell {
    fn state(&self) -> Outcome<String> {
        let events = self.events()?;
        let last = events.iter().rev().find_map(|event| event["neighbor"]["state"].as_str());
        Ok(match last {
            Some("up") => "Established".to_owned(),
            Some(other) => other.to_owned(),
            None => "no session yet".to_owned(),
        })
    }

    fn table(&self) -> Outcome<Table> {
        let mut table = Table::new();
        for event in self.events()? {
            if event["neighbor"]["state"] == "down" {
                table.clear();
            }
            let update = &event["neighbor"]["message"]["update"];
            for family in BOTH.map(|family| format!("{} unicast", family.word())) {
                let gone = update["withdraw"][&family].as_array().into_iter().flatten();
                for prefix in gone.filter_map(prefix) {
                    table.remove(&prefix);
                }
                for (hop, routes) in update["announce"][&family].as_object().into_iter().flatten() {
                    let Ok(hop) = hop.parse() else { continue };
                    for prefix in routes.as_array().into_iter().flatten().filter_map(prefix) {
                        table.insert(prefix, [hop].into());
                    }
                }
            }
        }
        Ok(table)
    }

    fn route(&self, prefix: IpNetwork) -> Outcome<String> {
        let text = prefix.to_string();
        let events = self.events()?;
        let last = events.iter().rev().find(|event| {
            let announced = &event["neighbor"]["message"]["update"]["announce"];
            announced.is_object() && announced.to_string().contains(&text)
        });
        Ok(last.map(ToString::to_string).unwrap_or_default())
    }

    fn looks(&self, attribute: &Seen) -> String {
        match attribute {
            Seen::AsPath(path) => {
                format!("\"as-path\":[{}]", path.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
            }
            Seen::Community(asn, value) => format!("[{asn},{value}]"),
            Seen::NoExport => "[65535,65281]".to_owned(),
            Seen::Large(a, b, c) => format!("[{a},{b},{c}]"),
            Seen::LocalPref(value) => format!("\"local-preference\":{value}"),
            Seen::Med(value) => format!("\"med\":{value}"),
            Seen::RouteTarget(asn, value) => format!("target:{asn}:{value}"),
            Seen::TenGigabits => 0x0004_fc00_4e95_02f9_u64.to_string(),
        }
    }

    fn refresh(&self) -> Outcome {
        BOTH.iter().try_for_each(|family| self.order(&format!("announce route-refresh {} unicast", family.word())))
    }

    fn shut(&self, _text: &str) -> Outcome {
        self.order(&format!("neighbor {} teardown 2", self.at))
    }

    fn heard(&self) -> Outcome<String> {
        let events = self.events()?;
        let shown: String = events.iter().map(|event| format!("{event}\n{}\n", said(event))).collect();
        Ok(shown + &self.daemon.log())
    }
}

/// The text in a NOTIFICATION's octets. ExaBGP 4.2 shows them, and fails over decoding the text itself.
fn said(event: &Value) -> String {
    let body = event["neighbor"]["message"]["body"].as_str().unwrap_or_default().as_bytes();
    let octets = body.chunks_exact(2).filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    String::from_utf8_lossy(&octets.collect::<Vec<_>>()).into_owned()
}

fn prefix(value: &Value) -> Option<IpNetwork> {
    value["nlri"].as_str().or(value.as_str())?.parse().ok()
}
