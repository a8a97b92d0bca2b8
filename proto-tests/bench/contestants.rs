//! Who is measured: herald, two of the field, and the bar. Each holds its whole table before it is let Established.

use super::bare;
use super::receiver::{RECEIVER_ASN, SPEAKER_ASN};
use crate::rig::gobgp::binaries;
use crate::rig::process::Process;
use crate::rig::{Outcome, Rig, run, wait_until, write_file};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a program may take to load its table.
const LOADING: Duration = Duration::from_secs(120);

/// Addresses a service of herald's input has.
const ADDRESSES: u32 = 100;

/// Where herald serves /readyz: the bench has a network namespace, and thus all ports, of its own.
pub const HERALD_PORT: u16 = 7472;

/// A program that announces the table to whoever listens on the receiver's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contestant {
    /// Prebuilt octets.
    Bare,
    /// herald, fed from a folder of manifests.
    Herald,
    /// BIRD 2, its routes in its configuration.
    Bird,
    /// GoBGP, which learned the routes by BGP.
    GoBgp,
}

/// A contestant that is ready to be accepted.
#[derive(Debug)]
pub enum Running {
    /// A loop that is started anew for each round.
    Loop(SocketAddr, Vec<u8>, Vec<JoinHandle<Outcome>>),
    /// A program, and what has to stay alive beside it.
    Program {
        /// It.
        process: Process,
        /// The session that feeds it, where it learned its routes by BGP.
        _feed: Option<TcpStream>,
    },
}

impl Contestant {
    /// All of them, the bar first.
    pub const ALL: [Self; 4] = [Self::Bare, Self::Herald, Self::Bird, Self::GoBgp];

    /// What the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "prebuilt octets",
            Self::Herald => "herald",
            Self::Bird => "BIRD",
            Self::GoBgp => "GoBGP",
        }
    }

    /// Starts it with a table of `routes` /32 and waits until it holds them.
    ///
    /// # Errors
    /// It could not be started, or did not load its table.
    pub fn start(self, rig: &Rig, port: u16, routes: u32) -> Outcome<Running> {
        match self {
            Self::Bare => {
                let octets = bare::table(routes, SPEAKER_ASN, Ipv4Addr::new(127, 0, 0, 2));
                Ok(Running::Loop((Ipv4Addr::LOCALHOST, port).into(), octets, Vec::new()))
            }
            Self::Herald => herald(rig, port, routes),
            Self::Bird => bird(rig, port, routes),
            Self::GoBgp => gobgp(rig, port, routes),
        }
    }
}

impl Running {
    /// Called before each accept.
    pub fn prepare(&mut self) {
        if let Self::Loop(to, octets, loops) = self {
            loops.push(bare::spawn(*to, octets.clone()));
        }
    }

    /// Its memory in KiB, where it is a program.
    pub fn rss(&self) -> Option<u64> {
        match self {
            Self::Loop(..) => None,
            Self::Program { process, .. } => process.rss().ok(),
        }
    }

    /// The end of its log, for a failure's text.
    pub fn log_end(&self) -> String {
        match self {
            Self::Loop(..) => String::new(),
            Self::Program { process, .. } => process.log_end(),
        }
    }
}

/// What herald reads instead of a cluster: one JSON list, as `kubectl get -o json` writes it.
fn manifests(routes: u32) -> String {
    let mut items = vec![json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "bench"},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.2"}]}})];
    for service in 0..routes.div_ceil(ADDRESSES) {
        let name = format!("s{service}");
        let addresses = service * ADDRESSES..routes.min((service + 1) * ADDRESSES);
        let ingress: Vec<_> = addresses.map(|n| json!({"ip": bare::address(n)})).collect();
        items.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "bench", "name": name},
            "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Cluster", "ports": [{"port": 80}]},
            "status": {"loadBalancer": {"ingress": ingress}}}));
        items.push(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "bench", "name": name, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [{"addresses": ["10.1.0.1"], "nodeName": "bench", "conditions": {"ready": true}}]}));
    }
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// herald's configuration for a receiver on 127.0.0.1.
pub fn herald_configuration(port: u16) -> String {
    format!(
        "asn: {SPEAKER_ASN}\npeers:\n- {{name: receiver, address: 127.0.0.1, port: {port}, asn: {RECEIVER_ASN}, \
         sourceAddress: 127.0.0.2}}\npools:\n- {{name: bench, addresses: [198.18.0.0/15]}}\nguard:\n  maxWithdraw: 100%\nadvertisements:\n\
         - {{name: bench, pools: [bench]}}\n"
    )
}

/// `herald speak` on the node `bench`; its flags but where it reads services from.
pub fn herald_command(config: &Path, socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herald"));
    command.arg("speak").arg("--config").arg(config).arg("--socket").arg(socket);
    command.args(["--node", "bench", "--metrics", &format!("127.0.0.1:{HERALD_PORT}")]);
    command
}

/// Waits until herald has read and planned everything: all that `/readyz` still misses is the session.
///
/// # Errors
/// It ended, or took too long.
pub fn herald_planned(process: &mut Process) -> Outcome {
    wait_until(LOADING, "herald's first plan", || {
        process.alive()?;
        let said = ask(HERALD_PORT, "/readyz")?;
        let (_, body) = said.split_once("\r\n\r\n").ok_or("no answer yet")?;
        let of_the_session =
            |line: &str| line.starts_with("peer receiver: ") || line.starts_with("no router has a session");
        let unplanned = |line: &&str| !of_the_session(line) || line.contains("nothing planned");
        match body.lines().find(unplanned) {
            Some("ready") | None if !body.is_empty() => Ok(()),
            other => Err(other.unwrap_or("nothing").to_owned()),
        }
    })
    .map(drop)
}

fn ask(port: u16, path: &str) -> Outcome<String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    };
    ask().map_err(|e| format!("{path}: {e}"))
}

fn herald(rig: &Rig, port: u16, routes: u32) -> Outcome<Running> {
    let folder = rig.folder("herald", 0o755)?;
    let input = rig.folder("herald/manifests", 0o755)?;
    write_file(&input.join("table.json"), &manifests(routes))?;
    let config = folder.join("herald.yaml");
    write_file(&config, &herald_configuration(port))?;
    let mut command = herald_command(&config, &folder.join("herald.sock"));
    command.arg("--manifests").arg(&input);
    let mut process = Process::start(rig, "herald", command)?;
    herald_planned(&mut process)?;
    Ok(Running::Program { process, _feed: None })
}

fn bird(rig: &Rig, port: u16, routes: u32) -> Outcome<Running> {
    let folder = rig.folder("bird", 0o755)?;
    let table: String = (0..routes).map(|n| format!("  route {}/32 blackhole;\n", bare::address(n))).collect();
    let config = folder.join("bird.conf");
    let text = format!(
        "router id 10.0.0.3;\nlog stderr all;\nprotocol device {{}}\nprotocol static {{\n  ipv4;\n{table}}}\n\
         protocol bgp receiver {{\n  local 127.0.0.3 port 1793 as {SPEAKER_ASN};\n  \
         neighbor 127.0.0.1 port {port} as {RECEIVER_ASN};\n  multihop;\n  ipv4 {{ import none; export all; next hop self; }};\n  \
         connect delay time 1;\n  connect retry time 1;\n  error wait time 1, 2;\n}}\n"
    );
    write_file(&config, &text)?;
    let socket = folder.join("bird.ctl");
    let mut command = Command::new("bird");
    command.arg("-f").arg("-c").arg(&config).arg("-s").arg(&socket);
    let mut process = Process::start(rig, "bird", command)?;
    wait_until(LOADING, "BIRD's table", || {
        process.alive()?;
        let said = run(Command::new("birdc").arg("-s").arg(&socket).args(["show", "route", "count"]))?;
        if said.contains(&format!("{routes} of {routes} routes")) { Ok(()) } else { Err(said) }
    })?;
    Ok(Running::Program { process, _feed: None })
}

fn gobgp(rig: &Rig, port: u16, routes: u32) -> Outcome<Running> {
    const FEEDER_ASN: u32 = 64700;
    let programs = binaries()?;
    let folder = rig.folder("gobgp", 0o755)?;
    let config = folder.join("gobgpd.toml");
    let own = Ipv4Addr::new(127, 0, 0, 4);
    let feeder = Ipv4Addr::new(127, 0, 0, 5);
    let text = format!(
        "[global.config]\n as = {SPEAKER_ASN}\n router-id = \"10.0.0.4\"\n port = 1790\n local-address-list = [\"{own}\"]\n\
         [[neighbors]]\n [neighbors.config]\n  neighbor-address = \"127.0.0.1\"\n  peer-as = {RECEIVER_ASN}\n \
         [neighbors.transport.config]\n  remote-port = {port}\n  local-address = \"{own}\"\n \
         [neighbors.timers.config]\n  connect-retry = 1\n  idle-hold-time-after-reset = 1\n \
         [neighbors.ebgp-multihop.config]\n  enabled = true\n\
         [[neighbors]]\n [neighbors.config]\n  neighbor-address = \"{feeder}\"\n  peer-as = {FEEDER_ASN}\n \
         [neighbors.transport.config]\n  passive-mode = true\n  local-address = \"{own}\"\n"
    );
    write_file(&config, &text)?;
    let mut command = Command::new(programs.join("gobgpd"));
    command.arg("-f").arg(&config).args(["--api-hosts", "127.0.0.1:50051", "--pprof-disable"]);
    let mut process = Process::start(rig, "gobgpd", command)?;
    let octets = bare::table(routes, FEEDER_ASN, feeder);
    let (feed, _) = wait_until(LOADING, "gobgpd to take its table", || {
        process.alive()?;
        bare::speak(feeder, (own, 1790).into(), FEEDER_ASN, &octets)
    })?;
    wait_until(LOADING, "GoBGP's table", || {
        process.alive()?;
        let said = run(Command::new(programs.join("gobgp")).args(["global", "rib", "summary"]))?;
        if said.contains(&format!("Destination: {routes},")) { Ok(()) } else { Err(said) }
    })?;
    Ok(Running::Program { process, _feed: Some(feed) })
}
