//! The program under test as a process, its folder, and its doors.

use crate::router::PATIENCE;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The program.
pub fn herald() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herald"));
    command.env_remove("NODE_NAME").env_remove("HERALD_LOG").env_remove("KUBECONFIG");
    command
}

/// A folder with configuration and manifests, and at most one speaker process on it. Dropping it kills the process.
pub struct Stage {
    folder: TempDir,
    child: Option<Child>,
}

impl Stage {
    /// An empty manifests folder and no configuration yet.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("manifests")).unwrap();
        Self { folder, child: None }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("run/herald.sock")
    }

    /// Writes a file as one step, so that nobody reads half of it.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        let temporary = path.with_extension("new");
        fs::write(&temporary, text).unwrap();
        fs::rename(&temporary, &path).unwrap();
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// The command of a speaker for `node` on this stage.
    pub fn speak(&self, node: &str) -> Command {
        self.speak_with(node, &self.socket(), "127.0.0.1:0")
    }

    /// The same with doors of the caller's choice.
    pub fn speak_with(&self, node: &str, socket: &Path, metrics: &str) -> Command {
        let mut command = herald();
        command.arg("speak").arg("--config").arg(self.path("herald.yaml"));
        command.arg("--manifests").arg(self.path("manifests")).arg("--socket").arg(socket);
        command.args(["--node", node, "--metrics", metrics, "--log-format", "json"]);
        command
    }

    /// Starts the speaker.
    pub fn start(&mut self, node: &str) {
        self.start_with(node, &[]);
    }

    /// The same with a standard error of the caller's choice.
    pub fn start_logging_to(&mut self, node: &str, stderr: impl Into<Stdio>) {
        let mut command = self.speak(node);
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap());
    }

    /// Starts a command that becomes the speaker.
    pub fn start_command(&mut self, mut command: Command) {
        let log = fs::File::create(self.path("log")).unwrap();
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    /// The same with more arguments.
    pub fn start_with(&mut self, node: &str, more: &[&str]) {
        let mut command = self.speak(node);
        command.args(more);
        self.start_command(command);
    }

    /// Starts a speaker that watches a cluster whose API server does not answer.
    pub fn start_in_a_cluster_that_is_down(&mut self, node: &str) {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        self.start_in_a_cluster(node, closed, &[]);
    }

    /// Starts a speaker that watches a cluster whose API server is there, with more arguments.
    pub fn start_in_a_cluster(&mut self, node: &str, server: SocketAddr, more: &[&str]) {
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: \"http://{server}\"}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
        );
        self.write("kubeconfig", &config);
        let log = fs::File::create(self.path("log")).unwrap();
        let mut command = herald();
        command.arg("speak").arg("--config").arg(self.path("herald.yaml")).arg("--socket").arg(self.socket());
        command.args(["--metrics", "127.0.0.1:0", "--log-format", "json"]).args(more).env("NODE_NAME", node);
        command.env("KUBECONFIG", self.path("kubeconfig")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until the log has a line with this text.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        self.wait(&format!("{text:?} in the log"), || self.log().contains(text));
    }

    /// Waits until something that can only be asked for is so.
    #[track_caller]
    pub fn wait(&self, what: &str, so: impl Fn() -> bool) {
        let began = Instant::now();
        while !so() {
            assert!(began.elapsed() < PATIENCE, "this never came: {what}\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a started speaker").id()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").arg(format!("-{name}")).arg(pid).status().unwrap().success());
    }

    /// Ends the speaker without a chance to tidy up, and waits until the kernel has closed everything it held.
    pub fn kill(&mut self) {
        let mut speaker = self.child.take().expect("a started speaker");
        speaker.kill().unwrap();
        speaker.wait().unwrap();
    }

    /// Sends SIGTERM and waits for the end; how the process ended and how long that took.
    pub fn stop(&mut self) -> (ExitStatus, Duration) {
        self.signal("TERM");
        let began = Instant::now();
        let status = self.child.take().expect("a started speaker").wait().unwrap();
        (status, began.elapsed())
    }

    /// Asks the Unix socket; status line and body. Empty while nobody listens.
    pub fn ask(&self, path: &str) -> (String, String) {
        UnixStream::connect(self.socket()).map(|stream| ask(stream, path)).unwrap_or_default()
    }

    /// The address of the loopback door, as the log says.
    pub fn port(&self) -> SocketAddr {
        self.wait_for_log("probes, metrics and the looking glass");
        let log = self.log();
        let line = log.lines().find(|line| line.contains("probes, metrics")).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["address"].as_str().unwrap().parse().unwrap()
    }

    /// What a command of the line says when it asks this speaker.
    pub fn show(&self, arguments: &[&str]) -> Output {
        herald().args(arguments).arg("--socket").arg(self.socket()).output().unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ended = child.kill();
            let _status = child.wait();
        }
        if thread::panicking() {
            eprintln!("--- what the speaker said ---\n{}", self.log());
        }
    }
}

/// One request, without keeping the connection.
pub fn ask(mut stream: impl Read + Write, path: &str) -> (String, String) {
    // HTTP/1.0 has no chunks: what is long comes as it is, up to the end.
    let version = if path.starts_with("/v1/") { "1.0" } else { "1.1" };
    write!(stream, "GET {path} HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    (head.to_owned(), body.to_owned())
}

/// The same over TCP.
pub fn ask_port(address: SocketAddr, path: &str) -> (String, String) {
    ask(TcpStream::connect(address).unwrap(), path)
}

/// What a configuration of a test says of one peer.
pub struct Peer<'a> {
    pub name: &'a str,
    pub address: SocketAddr,
    /// More lines of the peer, indented by two.
    pub more: &'a str,
}

/// A configuration with these peers, one pool of both families, and these communities; without a guard, since cases take away all
/// they have.
pub fn config(peers: &[Peer<'_>], communities: &str) -> String {
    let asn = crate::router::NODE_ASN;
    let mut text = format!("asn: {asn}\nrouterId: 192.0.2.1\npeers:\n");
    for Peer { name, address, more } in peers {
        let remote = crate::router::ROUTER_ASN;
        let (ip, port) = (address.ip(), address.port());
        write!(text, "- name: {name}\n  address: {ip}\n  port: {port}\n  asn: {remote}\n  holdTime: 9s\n{more}")
            .unwrap();
    }
    text += "pools:\n- name: pool\n  addresses: [198.51.100.0/24, \"2001:db8:5::/64\"]\n";
    write!(text, "guard:\n  maxWithdraw: 100%\nadvertisements:\n- name: all\n  communities: [{communities}]\n")
        .unwrap();
    text
}

/// A node with an IPv4 and an IPv6 address and these labels.
pub fn node(name: &str, labels: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n  labels: {{{labels}}}\nstatus:\n  addresses:\n  \
         - {{type: InternalIP, address: 192.0.2.11}}\n  - {{type: InternalIP, address: \"2001:db8::11\"}}\n"
    )
}

/// A service with policy `Cluster`, these addresses and one ready endpoint.
pub fn service(name: &str, addresses: &[String]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{namespace: shop, name: {name}}}\nspec:\n  type: LoadBalancer\n  \
         ports: [{{port: 80}}]\nstatus:\n  loadBalancer:\n    ingress:\n"
    );
    for address in addresses {
        writeln!(text, "    - ip: \"{address}\"").unwrap();
    }
    for (family, pod) in [("IPv4", "10.244.1.5"), ("IPv6", "fd00:244:1::5")] {
        write!(
            text,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  namespace: shop\n  name: {name}-{family}\n  \
             labels: {{kubernetes.io/service-name: {name}}}\naddressType: {family}\nports: [{{port: 8080}}]\nendpoints:\n\
             - {{addresses: [\"{pod}\"], nodeName: n1, conditions: {{ready: true}}}}\n"
        )
        .unwrap();
    }
    text
}

/// Octets that the kernel holds for the connection to `remote`, from /proc/net/tcp: sent but not taken.
pub fn unsent(remote: SocketAddr) -> usize {
    let SocketAddr::V4(remote) = remote else { panic!("an IPv4 address") };
    let wanted = format!("{:08X}:{:04X}", u32::from_le_bytes(remote.ip().octets()), remote.port());
    let table = fs::read_to_string(Path::new("/proc/net/tcp")).unwrap();
    let of = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let queue = fields.get(4)?.split(':').next()?;
        (fields.get(2) == Some(&wanted.as_str())).then(|| usize::from_str_radix(queue, 16).ok())?
    };
    table.lines().filter_map(of).max().unwrap_or(0)
}
