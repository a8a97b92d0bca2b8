//! BIRD 2 by hand: one daemon in a namespace, with its own control socket.

use super::net::Namespace;
use super::process::Process;
use super::programs::Programs;
use super::router::{Change, Neighbour, Plan, Session, moment};
use super::{Outcome, Rig, wait_until, write_file};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A running BIRD.
#[derive(Debug)]
pub struct Bird {
    space: Namespace,
    programs: Programs,
    dir: PathBuf,
    plan: Plan,
    daemon: Process,
}

impl Bird {
    /// Starts it as a router and waits until it answers.
    ///
    /// # Errors
    /// It did not come up; the text holds the end of its log.
    pub fn start(rig: &Rig, space: &Namespace, plan: &Plan) -> Outcome<Self> {
        Self::start_with(rig, space, plan, &configuration(plan))
    }

    /// Starts it with a configuration of the caller's own.
    ///
    /// # Errors
    /// It did not come up; the text holds the end of its log.
    pub fn start_with(rig: &Rig, space: &Namespace, plan: &Plan, configuration: &str) -> Outcome<Self> {
        Self::start_from(rig, space, plan, configuration, &Programs::System)
    }

    /// The same with the program of another release.
    ///
    /// # Errors
    /// It did not come up; the text holds the end of its log.
    pub fn start_from(
        rig: &Rig,
        space: &Namespace,
        plan: &Plan,
        configuration: &str,
        programs: &Programs,
    ) -> Outcome<Self> {
        let dir = rig.folder(&format!("bird-{}", space.short()), 0o755)?;
        write_file(&dir.join("bird.conf"), configuration)?;
        let at = dir.display();
        let mut command = programs.command(rig.dir(), space, "bird");
        command.args(["-f", "-c", &format!("{at}/bird.conf"), "-s", &format!("{at}/ctl"), "-P", &format!("{at}/pid")]);
        let daemon = Process::start(rig, &format!("bird-{}", space.short()), command)?;
        let mut bird = Self { space: space.clone(), programs: programs.clone(), dir, plan: plan.clone(), daemon };
        wait_until(Duration::from_secs(30), "BIRD to answer", || {
            bird.daemon.alive()?;
            bird.shell("show status")
        })?;
        Ok(bird)
    }

    /// Where it runs.
    pub fn space(&self) -> &Namespace {
        &self.space
    }

    /// The daemon.
    pub fn daemon(&self) -> &Process {
        &self.daemon
    }

    /// Runs one line of its shell.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn shell(&self, line: &str) -> Outcome<String> {
        let socket = format!("{}/ctl", self.dir.display());
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = self.programs.beside(&self.daemon, &self.space, "birdc");
        super::run(command.args(["-s", &socket]).args(words))
    }

    /// Session states by neighbour, from `show protocols`.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn sessions(&self) -> Outcome<BTreeMap<IpAddr, String>> {
        let text = self.shell("show protocols")?;
        let state = |n: &Neighbour| {
            let line = text.lines().find(|line| line.split_whitespace().next() == Some(&n.name))?;
            Some((n.address, line.split_whitespace().skip(5).collect::<Vec<_>>().join(" ")))
        };
        Ok(self.plan.neighbours.iter().filter_map(state).collect())
    }

    /// Sessions that came up and went, by the log.
    pub fn changes(&self) -> Vec<Change> {
        let log = self.daemon.log();
        let of = |line: &str| {
            let (head, state) = line.split_once(": State changed to ")?;
            let name = head.split_whitespace().last()?;
            let neighbour = self.plan.neighbours.iter().find(|neighbour| neighbour.name == name)?;
            let session = match state.trim() {
                "up" => Session::Up,
                "stop" | "flush" | "down" => Session::Down,
                _ => return None,
            };
            Some(Change { at: moment(line)?, neighbour: neighbour.name.clone(), session })
        };
        log.lines().filter_map(of).collect()
    }

    /// Ceases of a subcode received from a neighbour, by the log, which spells the subcode.
    pub fn ceases(&self, from: &Neighbour, subcode: u8) -> usize {
        let words = match subcode {
            2 => "Administrative shutdown",
            3 => "Peer de-configured",
            4 => "Administrative reset",
            6 => "Other configuration change",
            _other => "Cease",
        };
        let sign = format!("{}: Received: {words}", from.name);
        self.daemon.log().lines().filter(|line| line.contains(&sign)).count()
    }

    /// Reconfigures it.
    ///
    /// # Errors
    /// The daemon refuses the new configuration.
    pub fn reload(&mut self, plan: &Plan) -> Outcome {
        self.reload_with(&configuration(plan))?;
        self.plan = plan.clone();
        Ok(())
    }

    /// Reconfigures it with a configuration of the caller's own.
    ///
    /// # Errors
    /// The daemon refuses it.
    pub fn reload_with(&mut self, configuration: &str) -> Outcome {
        write_file(&self.dir.join("bird.conf"), configuration)?;
        let answer = self.shell("configure")?;
        if answer.contains("Reconfigur") {
            return Ok(());
        }
        Err(format!("BIRD did not take its new configuration: {answer}"))
    }
}

fn configuration(plan: &Plan) -> String {
    let mut text = format!(
        "log stderr all;\ndebug protocols {{ states }};\nrouter id {};\nprotocol device {{ }}\n\
         protocol kernel k4 {{ merge paths on limit 64; ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n\
         protocol kernel k6 {{ merge paths on limit 64; ipv6 {{ import none; export where source = RTS_BGP; }}; }}\n",
        plan.router_id
    );
    for n in &plan.neighbours {
        text.push_str(&session(plan, n, "import all; export none;"));
    }
    text
}

/// A session that carries both families. After an error BIRD refuses the neighbour for a minute unless told otherwise.
pub fn session(plan: &Plan, n: &Neighbour, channels: &str) -> String {
    let mut text = format!("protocol bgp {} {{\n local {} as {};\n", n.name, n.local, plan.asn);
    if let Some(key) = n.password {
        let _infallible = writeln!(text, " password \"{key}\";");
    }
    let _infallible = write!(
        text,
        " neighbor {} as {};\n direct;\n passive on;\n hold time {};\n keepalive time {};\n error wait time 1, 4;\n \
         ipv4 {{ {channels} }};\n ipv6 {{ {channels} }};\n}}\n",
        n.address,
        n.asn,
        plan.hold.as_secs(),
        plan.hold.as_secs() / 3,
    );
    text
}
