//! FRR by hand: zebra and bgpd in a namespace, with folders of their own, no service manager and no watchfrr.

use super::net::Namespace;
use super::process::Process;
use super::programs::Programs;
use super::router::{Change, Neighbour, Plan, Session, moment};
use super::{Outcome, Rig, wait_until, write_file};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIB: &str = "/usr/lib/frr";

/// A running FRR. The fields end in this order: bgpd first, so that zebra takes its routes away.
#[derive(Debug)]
pub struct Frr {
    space: Namespace,
    programs: Programs,
    dir: PathBuf,
    plan: Plan,
    bgpd: Process,
    zebra: Process,
}

impl Frr {
    /// Starts zebra, then bgpd, and waits until bgpd answers and has found zebra.
    ///
    /// # Errors
    /// One of them did not come up; the text holds the end of its log.
    pub fn start(rig: &Rig, space: &Namespace, plan: &Plan) -> Outcome<Self> {
        Self::start_with(rig, space, plan, &configuration(space.short(), plan))
    }

    /// The same with a configuration of the caller's own for bgpd.
    ///
    /// # Errors
    /// One of them did not come up; the text holds the end of its log.
    pub fn start_with(rig: &Rig, space: &Namespace, plan: &Plan, configuration: &str) -> Outcome<Self> {
        Self::start_from(rig, space, plan, configuration, &Programs::System)
    }

    /// The same with programs of another release.
    ///
    /// # Errors
    /// One of them did not come up; the text holds the end of its log.
    pub fn start_from(
        rig: &Rig,
        space: &Namespace,
        plan: &Plan,
        configuration: &str,
        programs: &Programs,
    ) -> Outcome<Self> {
        let dir = rig.folder(&format!("frr-{}", space.short()), 0o755)?;
        // The daemons give up root for the package's own user, who must be able to make its sockets here.
        programs.give(&dir, "frr")?;
        write_file(&dir.join("zebra.conf"), &format!("hostname {}\nlog stdout informational\n", space.short()))?;
        write_file(&dir.join("bgpd.conf"), configuration)?;
        let mut zebra =
            Process::start(rig, &format!("zebra-{}", space.short()), daemon(rig, space, &dir, "zebra", programs))?;
        let socket = dir.join("zserv.api");
        wait_until(Duration::from_secs(30), "zebra's socket", || {
            zebra.alive()?;
            if socket.exists() { Ok(()) } else { Err("it is not there".to_owned()) }
        })?;
        let mut bgpd =
            Process::start(rig, &format!("bgpd-{}", space.short()), daemon(rig, space, &dir, "bgpd", programs))?;
        // Its shell's socket is there before it has read its configuration, so it is asked and not looked for.
        let vty = dir.join("bgpd.vty");
        wait_until(Duration::from_secs(30), "bgpd's socket", || {
            bgpd.alive()?;
            if vty.exists() { Ok(()) } else { Err("it is not there".to_owned()) }
        })?;
        let mut frr = Self { space: space.clone(), programs: programs.clone(), dir, plan: plan.clone(), bgpd, zebra };
        wait_until(Duration::from_secs(30), "bgpd to answer", || {
            frr.bgpd.alive()?;
            frr.shell("show bgp summary json")
        })?;
        // A bgpd that missed zebra tries again only after 10 s; until then it has paths and no route.
        wait_until(Duration::from_secs(30), "zebra to have bgpd as its client", || {
            frr.zebra.alive()?;
            let clients = frr.shell("show zebra client summary")?;
            if clients.lines().any(|line| line.starts_with("bgp ")) { Ok(()) } else { Err(clients) }
        })?;
        Ok(frr)
    }

    /// Where it runs.
    pub fn space(&self) -> &Namespace {
        &self.space
    }

    /// bgpd.
    pub fn daemon(&self) -> &Process {
        &self.bgpd
    }

    /// zebra, which writes the kernel's table.
    pub fn zebra(&self) -> &Process {
        &self.zebra
    }

    /// Runs one line of its shell.
    ///
    /// # Errors
    /// The shell fails.
    pub fn shell(&self, line: &str) -> Outcome<String> {
        self.lines(&[line])
    }

    /// Runs several lines of its shell, one after the other: what one of them enters, the next one is in.
    ///
    /// # Errors
    /// The shell refuses a line.
    pub fn lines(&self, lines: &[&str]) -> Outcome<String> {
        let dir = text(&self.dir);
        let mut command = self.programs.beside(&self.bgpd, &self.space, "vtysh");
        command.args(["--vty_socket", &dir, "--config_dir", &dir]);
        super::run(command.args(lines.iter().flat_map(|line| ["-c", line])))
    }

    /// Session states by neighbour.
    ///
    /// # Errors
    /// bgpd does not answer.
    pub fn sessions(&self) -> Outcome<BTreeMap<IpAddr, String>> {
        let text = self.shell("show bgp neighbors json")?;
        let all: Value = serde_json::from_str(&text).map_err(|e| format!("bgpd wrote no JSON: {e}: {text}"))?;
        let entries = all.as_object().into_iter().flatten();
        Ok(entries.filter_map(|(at, peer)| Some((at.parse().ok()?, peer["bgpState"].as_str()?.to_owned()))).collect())
    }

    /// Sessions that came up and went, by the log: it tells of each neighbour by its address.
    pub fn changes(&self) -> Vec<Change> {
        let log = self.bgpd.log();
        let of = |line: &str| {
            let (head, states) = line.split_once(" went from ")?;
            let session = match states.split_once(" to ")? {
                (_, "Established") => Session::Up,
                ("Established", _) => Session::Down,
                (_, _) => return None,
            };
            let address: IpAddr = head.split_whitespace().last()?.parse().ok()?;
            let neighbour = self.plan.neighbours.iter().find(|neighbour| neighbour.address == address)?;
            Some(Change { at: moment(line)?, neighbour: neighbour.name.clone(), session })
        };
        log.lines().filter_map(of).collect()
    }

    /// Ceases of a subcode received from a neighbour, by the log.
    pub fn ceases(&self, from: &Neighbour, subcode: u8) -> usize {
        let sign = format!("received from neighbor {} 6/{subcode} ", from.address);
        self.bgpd.log().lines().filter(|line| line.contains(&sign)).count()
    }

    /// Applies the difference between its plan and a new one as shell lines.
    ///
    /// # Errors
    /// bgpd refuses a line.
    pub fn reload(&mut self, plan: &Plan) -> Outcome {
        let gone =
            self.plan.neighbours.iter().filter(|old| plan.neighbours.iter().all(|new| new.address != old.address));
        let gone: Vec<String> = gone.map(|old| format!("no neighbor {}", old.address)).collect();
        let mut lines = vec!["configure terminal".to_owned(), format!("router bgp {}", plan.asn)];
        lines.extend(gone);
        lines.extend(neighbours(plan).lines().map(str::to_owned));
        self.lines(&lines.iter().map(String::as_str).collect::<Vec<_>>())?;
        self.plan = plan.clone();
        Ok(())
    }
}

fn daemon(rig: &Rig, space: &Namespace, dir: &Path, name: &str, programs: &Programs) -> Command {
    let mut command = programs.command(rig.dir(), space, &format!("{LIB}/{name}"));
    let dir = text(dir);
    command
        .args(["-f", &format!("{dir}/{name}.conf"), "-i", &format!("{dir}/{name}.pid")])
        .args(["--vty_socket", &dir, "-z", &format!("{dir}/zserv.api"), "-P", "0"])
        .args(["--log", "stdout", "-u", "frr", "-g", "frr"]);
    if name == "zebra" {
        // Without it zebra replaces an IPv6 route by taking it out and putting the new one in, and what arrives between is lost.
        command.arg("--v6-rr-semantics");
    }
    command
}

fn configuration(name: &str, plan: &Plan) -> String {
    format!(
        "hostname {name}\nlog stdout informational\nlog timestamp precision 3\ndebug bgp neighbor-events\nrouter bgp {}\n bgp router-id {}\n \
         no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n bgp bestpath as-path multipath-relax\n{}",
        plan.asn,
        plan.router_id,
        neighbours(plan)
    )
}

fn neighbours(plan: &Plan) -> String {
    let (hold, keepalive) = (plan.hold.as_secs(), plan.hold.as_secs() / 3);
    let mut lines = String::new();
    for n in &plan.neighbours {
        let at = n.address;
        let _infallible = write!(
            lines,
            " neighbor {at} remote-as {}\n neighbor {at} description {}\n neighbor {at} passive\n \
             neighbor {at} timers {keepalive} {hold}\n neighbor {at} update-source {}\n",
            n.asn, n.name, n.local
        );
        if let Some(key) = n.password {
            let _infallible = writeln!(lines, " neighbor {at} password {key}");
        }
    }
    for family in ["ipv4", "ipv6"] {
        let _infallible = writeln!(lines, " address-family {family} unicast");
        for n in &plan.neighbours {
            let _infallible = writeln!(lines, "  neighbor {} activate", n.address);
        }
        lines.push_str("  maximum-paths 64\n exit-address-family\n");
    }
    lines
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
