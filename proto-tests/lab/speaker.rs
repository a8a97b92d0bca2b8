//! herald on a node, as its pod runs it: no root, no capabilities, nothing to be gained.

use crate::manifests::Manifests;
use crate::rig::net::Namespace;
use crate::rig::process::Process;
use crate::rig::{Outcome, Rig, replace_file, run};
use crate::topology::{Family, NODES_ASN, link_address, router_asn};
use rustix::process::Signal;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// The user of the pod.
const UID: &str = "65532";

/// A peer in a speaker's configuration.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its name there.
    pub name: String,
    /// Where to dial.
    pub address: IpAddr,
    /// Which port.
    pub port: u16,
    /// Its autonomous system.
    pub asn: u32,
    /// The hold time to propose.
    pub hold: Duration,
}

/// A speaker's configuration: some peers, the lab's pools, one advertisement of all of them to all of them.
#[derive(Debug, Clone)]
pub struct Config {
    /// The routers.
    pub peers: Vec<Peer>,
    /// Communities on every route.
    pub communities: Vec<String>,
    /// Address blocks that may be announced.
    pub pools: Vec<String>,
    /// Announce also what nothing serves.
    pub without_endpoints: bool,
    /// The BGP Identifier, where it shall not come from the Node's InternalIP.
    pub router_id: Option<Ipv4Addr>,
}

impl Config {
    /// What node `node` (from 1) says to both routers, over sessions of one family.
    pub fn of_node(node: usize, family: Family, hold: Duration) -> Self {
        Self {
            peers: [1, 2].map(|router| Peer::router(node, router, family, hold)).into(),
            communities: Vec::new(),
            pools: crate::topology::SERVICE_RANGES.map(str::to_owned).into(),
            without_endpoints: false,
            router_id: None,
        }
    }

    fn text(&self) -> String {
        let router_id = self.router_id.map(|id| format!("routerId: {id}\n")).unwrap_or_default();
        let mut text = format!("asn: {NODES_ASN}\n{router_id}peers:\n");
        for peer in &self.peers {
            let _infallible = write!(
                text,
                "- name: {}\n  address: \"{}\"\n  port: {}\n  asn: {}\n  holdTime: {}s\n",
                peer.name,
                peer.address,
                peer.port,
                peer.asn,
                peer.hold.as_secs()
            );
        }
        let quoted = |list: &[String]| list.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let _infallible = write!(
            text,
            "pools:\n- name: lab\n  addresses: [{}]\nguard:\n  maxWithdraw: 100%\nadvertisements:\n- name: lab\n  pools: [lab]\n  communities: [{}]\n  \
             announceWithoutEndpoints: {}\n",
            quoted(&self.pools),
            quoted(&self.communities),
            self.without_endpoints
        );
        text
    }
}

impl Peer {
    /// Router `router` as node `node` sees it, both from 1.
    pub fn router(node: usize, router: usize, family: Family, hold: Duration) -> Self {
        Self {
            name: format!("r{router}"),
            address: link_address(node, router, 1, family),
            port: 179,
            asn: router_asn(router),
            hold,
        }
    }
}

/// What a speaker may do beyond any other process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Nothing.
    None,
    /// Raw sockets.
    NetRaw,
}

/// A running speaker.
#[derive(Debug)]
pub struct Speaker {
    process: Process,
    file: PathBuf,
}

impl Speaker {
    /// Starts herald on a node.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(rig: &Rig, node: &Namespace, config: &Config, manifests: &Manifests) -> Outcome<Self> {
        Self::start_on(rig, node, &config.text(), manifests)
    }

    /// The same with a configuration of the caller's own.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start_on(rig: &Rig, node: &Namespace, config: &str, manifests: &Manifests) -> Outcome<Self> {
        Self::start_with(rig, node, config, manifests, Rights::None)
    }

    /// The same, perhaps with a capability.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start_with(
        rig: &Rig,
        node: &Namespace,
        config: &str,
        manifests: &Manifests,
        rights: Rights,
    ) -> Outcome<Self> {
        let name = node.short();
        let dir = rig.folder(&format!("speaker-{name}"), 0o755)?;
        run(Command::new("chown").arg(format!("{UID}:{UID}")).arg(&dir))?;
        let file = dir.join("herald.yaml");
        replace_file(&file, config)?;
        let mut command = node.command("setpriv");
        command.args(["--reuid", UID, "--regid", UID, "--clear-groups", "--no-new-privs"]);
        match rights {
            Rights::None => command.args(["--bounding-set", "-all"]),
            Rights::NetRaw => command.args(["--inh-caps", "+net_raw", "--ambient-caps", "+net_raw"]),
        };
        command
            .arg(binary(rig)?)
            .arg("speak")
            .arg("--config")
            .arg(&file)
            .arg("--manifests")
            .arg(manifests.dir())
            .args(["--node", name, "--metrics", "127.0.0.1:7472", "--socket"])
            .arg(dir.join("herald.sock"));
        let process = Process::start(rig, &format!("herald-{name}"), command)?;
        Ok(Self { process, file })
    }

    /// A peer as its looking glass shows it.
    ///
    /// # Errors
    /// It does not answer, or has no such peer.
    pub fn peer(&self, name: &str) -> Outcome<Value> {
        let mut stream =
            UnixStream::connect(self.file.with_file_name("herald.sock")).map_err(|e| format!("its socket: {e}"))?;
        let mut answer = String::new();
        write!(stream, "GET /v1/peers HTTP/1.0\r\nHost: herald\r\nConnection: close\r\n\r\n")
            .and_then(|()| stream.read_to_string(&mut answer))
            .map_err(|e| format!("its socket: {e}"))?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no answer: {answer:?}"))?;
        let all: Value = serde_json::from_str(body).map_err(|e| format!("no JSON: {e}: {body}"))?;
        let peer = all["peers"].as_array().into_iter().flatten().find(|peer| peer["name"] == name);
        peer.cloned().ok_or_else(|| format!("no peer {name} in {all}"))
    }

    /// What `herald peers` prints.
    ///
    /// # Errors
    /// It does not answer.
    pub fn peers(&self, rig: &Rig) -> Outcome<String> {
        run(Command::new(binary(rig)?).arg("peers").arg("--socket").arg(self.file.with_file_name("herald.sock")))
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Gives it a new configuration and tells it.
    ///
    /// # Errors
    /// The file could not be written or the process is gone.
    pub fn reload(&mut self, config: &Config) -> Outcome {
        self.reload_on(&config.text())
    }

    /// The same with a configuration of the caller's own.
    ///
    /// # Errors
    /// The file could not be written or the process is gone.
    pub fn reload_on(&mut self, config: &str) -> Outcome {
        replace_file(&self.file, config)?;
        self.process.alive()?;
        self.process.signal(Signal::HUP)
    }

    /// Asks it to end, as Kubernetes does, and waits for that.
    ///
    /// # Errors
    /// It was gone already, or did not end in time.
    pub fn terminate(&mut self, within: Duration) -> Outcome<(ExitStatus, Duration)> {
        self.process.alive()?;
        self.process.signal(Signal::TERM)?;
        self.process.wait(within)
    }
}

/// The program (`HERALD_BINARY` names another build of it), copied to where the pod's user can reach it: a build folder may lie below a private home.
fn binary(rig: &Rig) -> Outcome<PathBuf> {
    let copy = rig.dir().join("herald");
    let built =
        std::env::var_os("HERALD_BINARY").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_herald")), PathBuf::from);
    if !copy.exists() {
        std::fs::copy(&built, &copy).map_err(|e| format!("{} could not be copied: {e}", built.display()))?;
    }
    Ok(copy)
}
