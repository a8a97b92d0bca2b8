//! What the story is played on: a folder of manifests, and a speaker process for every node.
//!
//! The speakers are children of this process that run this very program as `speak --manifests`: what dies here by
//! `kill -9` dies as a node's speaker would. Dropping the stage ends them and removes the folder.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The AS of the nodes.
pub const NODE_ASN: u32 = 64512;

/// The AS of the router.
pub const ROUTER_ASN: u32 = 64500;

/// The nodes; each has loopback addresses of its own.
pub const NODES: [Node; 3] =
    [Node { name: "node-a", number: 11 }, Node { name: "node-b", number: 12 }, Node { name: "node-c", number: 13 }];

/// How much of a speaker's log is shown when something went wrong, in octets.
const LOG_TAIL: u64 = 2000;

/// A node of the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: &'static str,
    number: u8,
}

impl Node {
    /// Where its sessions come from; the next hop of its IPv4 routes.
    pub fn address(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, self.number))
    }

    /// Its other InternalIP; the next hop of its IPv6 routes.
    pub fn address_v6(&self) -> IpAddr {
        let last = u16::from(self.number) / 10 * 16 + u16::from(self.number) % 10;
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last))
    }
}

/// The folder, and who runs.
#[derive(Debug)]
pub struct Stage {
    folder: PathBuf,
    program: PathBuf,
    speakers: Vec<Speaker>,
}

/// A speaker process. Dropping it kills it.
#[derive(Debug)]
struct Speaker {
    node: &'static str,
    child: Child,
}

impl Drop for Speaker {
    fn drop(&mut self) {
        // Either fails only where the process is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.speakers.clear();
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl Stage {
    /// Makes the folder, writes a configuration for every node that dials `router`, and the manifest of the nodes.
    /// `program` is herald itself.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn build(program: PathBuf, router: SocketAddr) -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("herald-demo-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&folder).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot make {}: {error}; set TMPDIR to a folder that can be written", folder.display()),
            )
        })?;
        let stage = Self { folder, program, speakers: Vec::new() };
        fs::create_dir(stage.manifests())?;
        for node in NODES {
            fs::write(stage.folder.join(node.name).with_extension("yaml"), configuration(node, router))?;
        }
        stage.put("nodes.yaml", &NODES.map(node_manifest).concat())?;
        Ok(stage)
    }

    /// The folder that the speakers watch.
    pub fn manifests(&self) -> PathBuf {
        self.folder.join("manifests")
    }

    /// The Unix socket of a node's speaker.
    pub fn socket(&self, node: Node) -> PathBuf {
        self.folder.join(node.name).with_extension("sock")
    }

    /// The program that the speakers run.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Writes a manifest; it appears whole or not at all.
    ///
    /// # Errors
    /// The system's.
    pub fn put(&self, file: &str, text: &str) -> io::Result<()> {
        let draft = self.folder.join("draft");
        fs::write(&draft, text)?;
        fs::rename(draft, self.manifests().join(file))
    }

    /// Removes a manifest.
    ///
    /// # Errors
    /// The system's, also where there is none.
    pub fn remove(&self, file: &str) -> io::Result<()> {
        fs::remove_file(self.manifests().join(file))
    }

    /// Starts a node's speaker.
    ///
    /// # Errors
    /// The system's.
    pub fn start(&mut self, node: Node) -> io::Result<()> {
        let log = File::create(self.log(node.name))?;
        let child = Command::new(&self.program)
            .arg("speak")
            .arg("--config")
            .arg(self.folder.join(node.name).with_extension("yaml"))
            .arg("--manifests")
            .arg(self.manifests())
            .arg("--socket")
            .arg(self.socket(node))
            .args(["--node", node.name, "--metrics", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.speakers.push(Speaker { node: node.name, child });
        Ok(())
    }

    /// Ends a node's speaker by SIGKILL, as a power cut would: it cannot say a last word.
    pub fn kill(&mut self, node: Node) {
        self.speakers.retain(|speaker| speaker.node != node.name);
    }

    /// The process of a node's speaker.
    pub fn pid(&self, node: Node) -> Option<u32> {
        self.speakers.iter().find(|speaker| speaker.node == node.name).map(|speaker| speaker.child.id())
    }

    /// What the speakers said last, and which of them ended unasked: for the report of a failure.
    pub fn last_words(&mut self) -> String {
        let logs: Vec<_> = self.speakers.iter().map(|speaker| (speaker.node, self.log(speaker.node))).collect();
        let mut words = String::new();
        for (speaker, (node, log)) in self.speakers.iter_mut().zip(logs) {
            let state = match speaker.child.try_wait() {
                Ok(Some(status)) => format!("ended by itself, {status}"),
                Ok(None) | Err(_) => "runs".to_owned(),
            };
            words += &format!("{node} {state}; its log ends:\n");
            for line in tail(&log).unwrap_or_else(|error| error.to_string()).lines() {
                words += &format!("    {line}\n");
            }
        }
        words
    }

    fn log(&self, node: &str) -> PathBuf {
        self.folder.join(node).with_extension("log")
    }
}

fn tail(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
    let mut octets = Vec::new();
    file.read_to_end(&mut octets)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

fn configuration(node: Node, router: SocketAddr) -> String {
    format!(
        "asn: {NODE_ASN}
peers:
- name: router
  address: {}
  port: {}
  asn: {ROUTER_ASN}
  holdTime: 9s
  sourceAddress: {}
pools:
- name: demo
  addresses: [198.51.100.0/24, \"2001:db8:5::/64\"]
guard:
  maxWithdraw: 100%
advertisements:
- name: demo
  pools: [demo]
",
        router.ip(),
        router.port(),
        node.address(),
    )
}

fn node_manifest(node: Node) -> String {
    format!(
        "apiVersion: v1
kind: Node
metadata:
  name: {}
status:
  addresses:
  - type: InternalIP
    address: {}
  - type: InternalIP
    address: \"{}\"
---
",
        node.name,
        node.address(),
        node.address_v6(),
    )
}

/// A Service of type LoadBalancer as a cluster would show it, with the EndpointSlice of one pod on each of `nodes`.
pub fn service(name: &str, policy: &str, ingress: &[IpAddr], nodes: &[Node]) -> String {
    let mut text = format!(
        "apiVersion: v1
kind: Service
metadata:
  namespace: shop
  name: {name}
spec:
  type: LoadBalancer
  externalTrafficPolicy: {policy}
  ports:
  - port: 80
    protocol: TCP
status:
  loadBalancer:
    ingress:
"
    );
    for address in ingress {
        text += &format!("    - ip: \"{address}\"\n");
    }
    let families: std::collections::BTreeSet<&str> =
        ingress.iter().map(|address| if address.is_ipv4() { "IPv4" } else { "IPv6" }).collect();
    families.into_iter().for_each(|family| text += &slice(name, family, nodes));
    text
}

/// The EndpointSlice of one family, with one pod on each of `nodes`.
fn slice(name: &str, family: &str, nodes: &[Node]) -> String {
    let mut text = format!(
        "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  namespace: shop
  name: {name}-{family}
  labels:
    kubernetes.io/service-name: {name}
addressType: {family}
ports:
- port: 8080
  protocol: TCP
endpoints:
"
    );
    for node in nodes {
        let Node { number, name } = node;
        let pod = if family == "IPv4" { format!("10.244.{number}.5") } else { format!("fd00:244:{number}::5") };
        text += &format!("- addresses: [\"{pod}\"]\n  nodeName: {name}\n  conditions: {{ready: true}}\n");
    }
    text
}
