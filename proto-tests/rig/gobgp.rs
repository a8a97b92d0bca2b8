//! GoBGP as a router without a kernel: sessions and tables only.

use super::net::Namespace;
use super::process::Process;
use super::router::Plan;
use super::{Outcome, Rig, run, wait_until, write_file};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The port of its own interface, on the namespace's loopback.
const API: u16 = 50051;

/// A running gobgpd.
#[derive(Debug)]
pub struct GoBgp {
    space: Namespace,
    client: PathBuf,
    daemon: Process,
}

impl GoBgp {
    /// Starts it and waits until it answers. `binaries` is where gobgpd and gobgp are.
    ///
    /// # Errors
    /// It did not come up; the text holds the end of its log.
    pub fn start(rig: &Rig, space: &Namespace, plan: &Plan, binaries: &Path) -> Outcome<Self> {
        Self::start_with(rig, space, &configuration(plan), binaries)
    }

    /// The same with a configuration of the caller's own.
    ///
    /// # Errors
    /// It did not come up; the text holds the end of its log.
    pub fn start_with(rig: &Rig, space: &Namespace, configuration: &str, binaries: &Path) -> Outcome<Self> {
        let dir = rig.folder(&format!("gobgp-{}", space.short()), 0o755)?;
        let file = dir.join("gobgpd.toml");
        write_file(&file, configuration)?;
        let mut command = space.command(&binaries.join("gobgpd").display().to_string());
        command.arg("-f").arg(&file).args(["--api-hosts", &format!("127.0.0.1:{API}"), "--pprof-disable"]);
        let daemon = Process::start(rig, &format!("gobgpd-{}", space.short()), command)?;
        let mut gobgp = Self { space: space.clone(), client: binaries.join("gobgp"), daemon };
        wait_until(Duration::from_secs(30), "gobgpd to answer", || {
            gobgp.daemon.alive()?;
            gobgp.ask(&["global"])
        })?;
        Ok(gobgp)
    }

    /// Asks its client program, in JSON.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn ask(&self, words: &[&str]) -> Outcome<Value> {
        let client = self.client.display().to_string();
        let text = self.space.run(&client, &[&["-p", &API.to_string(), "-j"], words].concat())?;
        serde_json::from_str(&text).map_err(|e| format!("gobgp {words:?} wrote no JSON: {e}: {text}"))
    }

    /// Has its client program do something that answers with words or with nothing.
    ///
    /// # Errors
    /// The daemon refuses.
    pub fn tell(&self, words: &[&str]) -> Outcome {
        let client = self.client.display().to_string();
        self.space.run(&client, &[&["-p", &API.to_string()], words].concat()).map(drop)
    }

    /// Whether each neighbour is Established.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn sessions(&self) -> Outcome<BTreeMap<IpAddr, String>> {
        const STATES: [&str; 7] = ["Unknown", "Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"];
        let all = self.ask(&["neighbor"])?;
        let entries = all.as_array().into_iter().flatten().map(|entry| &entry["state"]);
        Ok(entries
            .filter_map(|state| {
                // Behind a link-local address it writes the interface.
                let at = state["neighbor_address"].as_str()?.split('%').next()?.parse().ok()?;
                let number = state["session_state"].as_u64().unwrap_or_default();
                let word = usize::try_from(number).ok().and_then(|n| STATES.get(n)).copied().unwrap_or("?");
                Some((at, word.to_owned()))
            })
            .collect())
    }

    /// Its table of one family (`ipv4` or `ipv6`): each destination's next hops.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn table(&self, family: &str) -> Outcome<BTreeMap<String, BTreeSet<String>>> {
        let all = self.ask(&["global", "rib", "-a", family])?;
        let mut table = BTreeMap::new();
        for (destination, paths) in all.as_object().into_iter().flatten() {
            let attributes =
                paths.as_array().into_iter().flatten().filter_map(|path| path["attrs"].as_array()).flatten();
            let hops: BTreeSet<String> =
                attributes.filter_map(|attribute| Some(attribute["nexthop"].as_str()?.to_owned())).collect();
            table.insert(destination.clone(), hops);
        }
        Ok(table)
    }

    /// The daemon.
    pub fn daemon(&self) -> &Process {
        &self.daemon
    }
}

/// Where gobgpd and gobgp are: built by `proto-tests/go-build.sh`, whose last line is the folder.
///
/// # Errors
/// The script is missing or fails.
pub fn binaries() -> Outcome<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-tests/go-build.sh");
    let said = run(Command::new(&script).arg("gobgp")).map_err(|e| format!("GoBGP could not be built: {e}"))?;
    let folder = PathBuf::from(said.lines().last().unwrap_or_default().trim());
    if folder.join("gobgpd").exists() {
        return Ok(folder);
    }
    Err(format!("{} says {} but there is no gobgpd in it", script.display(), folder.display()))
}

fn configuration(plan: &Plan) -> String {
    let mut text = format!(
        "[global.config]\n as = {}\n router-id = \"{}\"\n[global.use-multiple-paths.config]\n enabled = true\n",
        plan.asn, plan.router_id
    );
    for n in &plan.neighbours {
        let _infallible = write!(
            text,
            "[[neighbors]]\n [neighbors.config]\n  neighbor-address = \"{}\"\n  peer-as = {}\n [neighbors.transport.config]\n  \
             passive-mode = true\n  local-address = \"{}\"\n [neighbors.timers.config]\n  hold-time = {}\n  keepalive-interval = {}\n",
            n.address,
            n.asn,
            n.local,
            plan.hold.as_secs(),
            plan.hold.as_secs() / 3
        );
        for family in ["ipv4-unicast", "ipv6-unicast"] {
            let _infallible = write!(
                text,
                " [[neighbors.afi-safis]]\n  [neighbors.afi-safis.config]\n   afi-safi-name = \"{family}\"\n"
            );
        }
    }
    text
}
