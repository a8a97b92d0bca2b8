//! GoBGP: sessions and a table, no kernel.

use super::{Router, Seen};
use crate::bed::Bed;
use crate::rig::fib::Table;
use crate::rig::gobgp::GoBgp;
use crate::rig::{Outcome, Rig};
use crate::session::{Ask, Dials, Family, OUR_PORT, Session};
use ipnetwork::IpNetwork;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

/// GoBGP with its session.
pub struct Cell {
    gobgp: GoBgp,
    at: IpAddr,
}

pub fn start(rig: &Rig, bed: &Bed, session: &Session, binaries: &Path) -> Outcome<Cell> {
    let gobgp = GoBgp::start_with(rig, &bed.router, &configuration(session), binaries)?;
    Ok(Cell { gobgp, at: session.speaker() })
}

fn configuration(session: &Session) -> String {
    let mut text = format!("[global.config]\n as = {}\n router-id = \"172.30.255.1\"\n", session.theirs);
    let range = session.wants(Ask::RouterRange);
    let (table, key, name) = if range {
        ("peer-groups", "peer-group-name", "speakers".to_owned())
    } else {
        ("neighbors", "neighbor-address", session.scoped(session.speaker()))
    };
    let at = format!("[[{table}]]\n [{table}.config]\n  {key} = \"{name}\"\n  peer-as = {}\n", session.ours);
    text.push_str(&at);
    if let Some(password) = session.password() {
        let _infallible = writeln!(text, "  auth-password = \"{password}\"");
    }
    let _infallible = write!(
        text,
        " [{table}.timers.config]\n  hold-time = {}\n  keepalive-interval = {}\n  connect-retry = 1\n  \
         idle-hold-time-after-reset = 1\n [{table}.transport.config]\n",
        session.hold,
        session.hold / 3
    );
    match session.dials {
        Dials::Herald => text.push_str("  passive-mode = true\n"),
        Dials::Router | Dials::Each => {
            let _infallible = writeln!(text, "  remote-port = {OUR_PORT}");
        }
    }
    if !range {
        let _infallible = writeln!(text, "  local-address = \"{}\"", session.scoped(session.router()));
    }
    if session.wants(Ask::TtlSecurity) {
        let _infallible = write!(text, " [{table}.ttl-security.config]\n  enabled = true\n  ttl-min = 255\n");
    }
    let graceful = session.wants(Ask::GracefulRestart);
    if graceful {
        let _infallible = write!(
            text,
            " [{table}.graceful-restart.config]\n  enabled = true\n  restart-time = 60\n  helper-only = true\n  \
             notification-enabled = true\n"
        );
    }
    for family in &session.families {
        let _infallible = write!(
            text,
            " [[{table}.afi-safis]]\n  [{table}.afi-safis.config]\n   afi-safi-name = \"{}-unicast\"\n",
            family.word()
        );
        if graceful {
            let _infallible = write!(text, "  [{table}.afi-safis.mp-graceful-restart.config]\n   enabled = true\n");
        }
    }
    if range {
        let block = session.over.of(["172.30.1.0/24", "2001:db8:30:1::/64"]);
        let _infallible = write!(
            text,
            "[[dynamic-neighbors]]\n [dynamic-neighbors.config]\n  prefix = \"{block}\"\n  peer-group = \"speakers\"\n"
        );
    }
    text
}

impl Router for Cell {
    fn state(&self) -> Outcome<String> {
        Ok(self.gobgp.sessions()?.remove(&self.at).unwrap_or_else(|| "no session".to_owned()))
    }

    fn table(&self) -> Outcome<Table> {
        let mut all = Table::new();
        for family in ["ipv4", "ipv6"] {
            for (prefix, hops) in self.gobgp.table(family)? {
                let prefix = prefix.parse().map_err(|e| format!("{prefix}: {e}"))?;
                all.insert(prefix, hops.iter().filter_map(|hop| hop.parse().ok()).collect());
            }
        }
        Ok(all)
    }

    fn route(&self, prefix: IpNetwork) -> Outcome<String> {
        let family = if prefix.is_ipv4() { Family::V4 } else { Family::V6 };
        let all = self.gobgp.ask(&["global", "rib", "-a", family.word()])?;
        Ok(all.get(prefix.to_string()).map(ToString::to_string).unwrap_or_default())
    }

    fn looks(&self, attribute: &Seen) -> String {
        match attribute {
            Seen::AsPath(path) => {
                let text = path.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
                if text.is_empty() { "\"as_paths\":[]".to_owned() } else { format!("\"asns\":[{text}]") }
            }
            Seen::Community(asn, value) => (u32::from(*asn) << 16 | u32::from(*value)).to_string(),
            Seen::NoExport => 0xffff_ff01_u32.to_string(),
            Seen::Large(a, b, c) => format!("\"ASN\":{a},\"LocalData1\":{b},\"LocalData2\":{c}"),
            Seen::LocalPref(value) => format!("\"value\":{value}"),
            Seen::Med(value) => format!("\"metric\":{value}"),
            Seen::RouteTarget(asn, value) => format!("{asn}:{value}"),
            Seen::TenGigabits => "\"bandwidth\":1250000000,\"subtype\":4".to_owned(),
        }
    }

    fn refresh(&self) -> Outcome {
        self.gobgp.tell(&["neighbor", &self.at.to_string(), "softresetin"])
    }

    fn shut(&self, text: &str) -> Outcome {
        self.gobgp.tell(&["neighbor", &self.at.to_string(), "shutdown", "--reason", text])
    }

    fn heard(&self) -> Outcome<String> {
        Ok(self.gobgp.ask(&["neighbor"])?.to_string() + &self.gobgp.daemon().log())
    }
}
