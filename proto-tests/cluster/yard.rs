//! An API server without nodes, and allocators beside it as processes: for what only objects show.

use crate::bed::{Bed, HERALD, go_build};
use crate::control_plane::{ControlPlane, Parts, Site};
use crate::kubectl::Kubectl;
use crate::pki;
use crate::rig::net::Namespace;
use crate::rig::process::Process;
use crate::rig::{Outcome, Rig, run, wait_until, write_file};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SERVER: Ipv4Addr = Ipv4Addr::new(172, 30, 8, 1);

/// The yard; dropping it ends its processes.
#[derive(Debug)]
pub struct Yard<'a> {
    bed: &'a Bed,
    space: Namespace,
    control_plane: ControlPlane,
    parts: Parts,
    folder: PathBuf,
}

impl<'a> Yard<'a> {
    /// Starts an API server with herald's definitions and rights, and writes the allocators' configuration: these pools.
    ///
    /// # Errors
    /// Something did not come up.
    pub fn start(bed: &'a Bed, name: &str, parts: Parts, pools: &str) -> Outcome<Self> {
        let space = Namespace::make(&bed.rig, name)?;
        space.ip(&[format!("address add {SERVER}/32 dev lo")])?;
        let programs = go_build("cluster")?;
        let site = Site { rig: &bed.rig, space: &space, address: SERVER, programs: &programs };
        let control_plane = ControlPlane::start(&site, parts)?;
        let kubectl = &control_plane.kubectl;
        kubectl.run(&["apply", "-k", &bed.overlay()?.display().to_string()])?;
        kubectl.run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;
        let token = kubectl.run(&["-n", HERALD, "create", "token", "herald-allocator"])?;
        let folder = bed.rig.folder(&format!("{name}-allocators"), 0o755)?;
        let (binary, authority) = (folder.join("herald"), folder.join("authority.crt"));
        let certificate = control_plane.kubeconfig.with_file_name("apiserver.crt");
        for (from, to) in [(Path::new(env!("CARGO_BIN_EXE_herald")), &binary), (&certificate, &authority)] {
            fs::copy(from, to).map_err(|e| format!("{} could not be copied: {e}", from.display()))?;
        }
        pki::write_kubeconfig(&folder.join("kubeconfig"), SERVER, &authority, token.trim())?;
        write_file(&folder.join("herald.yaml"), &configuration(pools))?;
        run(Command::new("chown").args(["-R", "65532:65532"]).arg(&folder))?;
        Ok(Self { bed, space, control_plane, parts, folder })
    }

    /// The administrator's kubectl.
    pub fn kubectl(&self) -> &Kubectl {
        &self.control_plane.kubectl
    }

    /// The API server's record of what herald's ServiceAccounts asked.
    pub fn audit(&self) -> &Path {
        &self.control_plane.audit
    }

    /// Replaces the pools in the allocators' configuration and tells an allocator so.
    ///
    /// # Errors
    /// The file could not be written, or the allocator is gone.
    pub fn set_pools(&self, pools: &str, allocator: &Process) -> Outcome {
        crate::rig::replace_file(&self.folder.join("herald.yaml"), &configuration(pools))?;
        allocator.signal(rustix::process::Signal::HUP)
    }

    /// Gives the allocators that start from now on this whole configuration.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn configure(&self, text: &str) -> Outcome {
        crate::rig::replace_file(&self.folder.join("herald.yaml"), text)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.control_plane.kubeconfig
    }

    /// The suite's hold on the machine.
    pub fn rig(&self) -> &Rig {
        &self.bed.rig
    }

    /// A command that will run beside the API server.
    pub fn command(&self, program: &str) -> Command {
        self.space.command(program)
    }

    /// Starts an allocator with its ServiceAccount's rights, as the pod's user. `number` is nobody else's.
    ///
    /// # Errors
    /// It could not be started.
    pub fn allocator(&self, number: u16) -> Outcome<Process> {
        self.allocator_with(number, &[])
    }

    /// The same with more arguments.
    ///
    /// # Errors
    /// It could not be started.
    pub fn allocator_with(&self, number: u16, more: &[&str]) -> Outcome<Process> {
        let more = [&["--lease-seconds", "3"], more].concat();
        self.start_allocator(number, &more, &self.folder.join("kubeconfig"), "info")
    }

    /// The same, which logs whatever it has to say.
    ///
    /// # Errors
    /// It could not be started.
    pub fn chatty_allocator(&self, number: u16) -> Outcome<Process> {
        let kubeconfig = self.folder.join("kubeconfig");
        self.start_allocator(number, &["--lease-seconds", "3"], &kubeconfig, "info,herald=debug")
    }

    /// The same, where the API server is reached through another door, with a lease of so many seconds.
    ///
    /// # Errors
    /// It could not be started.
    pub fn allocator_behind(&self, number: u16, door: SocketAddr, lease: u16) -> Outcome<Process> {
        let kubeconfig = self.leading_to(&format!("https://{door}"), &self.folder.join("kubeconfig"))?;
        self.start_allocator(number, &["--lease-seconds", &lease.to_string()], &kubeconfig, "info")
    }

    /// The same behind a door without TLS.
    ///
    /// # Errors
    /// It could not be started.
    pub fn allocator_behind_plain(&self, number: u16, door: SocketAddr) -> Outcome<Process> {
        let kubeconfig = self.leading_to(&format!("http://{door}"), &self.folder.join("kubeconfig"))?;
        self.start_allocator(number, &["--lease-seconds", "3"], &kubeconfig, "info")
    }

    /// The allocators' kubeconfig.
    pub fn allocators_kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// A copy of a kubeconfig that leads elsewhere.
    fn leading_to(&self, url: &str, kubeconfig: &Path) -> Outcome<PathBuf> {
        let text = fs::read_to_string(kubeconfig).map_err(|e| format!("no kubeconfig: {e}"))?;
        let copy = kubeconfig.with_extension("elsewhere");
        write_file(&copy, &text.replace(&format!("https://{SERVER}:6443"), url))?;
        run(Command::new("chown").arg("65532:65532").arg(&copy))?;
        Ok(copy)
    }

    /// A program of herald's as the pod's user.
    fn as_the_pod(&self) -> Command {
        let mut command = self.space.command("setpriv");
        command
            .args([
                "--reuid",
                "65532",
                "--regid",
                "65532",
                "--clear-groups",
                "--no-new-privs",
                "--bounding-set",
                "-all",
            ])
            .arg(self.folder.join("herald"));
        command
    }

    fn start_allocator(&self, number: u16, more: &[&str], kubeconfig: &Path, log: &str) -> Outcome<Process> {
        let mut command = self.as_the_pod();
        command
            .args(["allocate", "--identity", &format!("allocator-{number}")])
            .args(["--metrics", &format!("127.0.0.1:{}", 7500 + number)])
            .args(more)
            .arg("--config")
            .arg(self.folder.join("herald.yaml"))
            .arg("--socket")
            .arg(self.folder.join(format!("{number}.sock")))
            .env("HERALD_LOG", log)
            .env("KUBECONFIG", kubeconfig);
        Process::start(&self.bed.rig, &format!("{}-allocator-{number}", self.space.short()), command)
    }

    /// Starts a speaker of a node, with its ServiceAccount's rights and these pools; its router is at [`Self::address`].
    ///
    /// # Errors
    /// It could not be started.
    pub fn speaker(&self, node: &str, source: Ipv4Addr, pools: &str) -> Outcome<Process> {
        let kubeconfig = self.speakers_kubeconfig()?;
        self.start_speaker(node, source, pools, &kubeconfig)
    }

    /// The same behind a door without TLS.
    ///
    /// # Errors
    /// It could not be started.
    pub fn speaker_behind_plain(
        &self,
        node: &str,
        source: Ipv4Addr,
        pools: &str,
        door: SocketAddr,
    ) -> Outcome<Process> {
        let kubeconfig = self.leading_to(&format!("http://{door}"), &self.speakers_kubeconfig()?)?;
        self.start_speaker(node, source, pools, &kubeconfig)
    }

    /// Makes a kubeconfig of a speaker.
    ///
    /// # Errors
    /// There is no token, or it could not be written.
    pub fn speakers_kubeconfig(&self) -> Outcome<PathBuf> {
        let token = self.kubectl().run(&["-n", HERALD, "create", "token", "herald-speaker"])?;
        let kubeconfig = self.folder.join("speaker.kubeconfig");
        pki::write_kubeconfig(&kubeconfig, SERVER, &self.folder.join("authority.crt"), token.trim())?;
        run(Command::new("chown").arg("65532:65532").arg(&kubeconfig))?;
        Ok(kubeconfig)
    }

    fn start_speaker(&self, node: &str, source: Ipv4Addr, pools: &str, kubeconfig: &Path) -> Outcome<Process> {
        let config = self.folder.join("speaker.yaml");
        write_file(&config, &speakers_configuration(source, pools))?;
        run(Command::new("chown").arg("65532:65532").arg(&config))?;
        let mut command = self.as_the_pod();
        command.args(["speak", "--node", node, "--metrics", "127.0.0.1:7472", "--config"]).arg(&config);
        command.arg("--socket").arg(self.folder.join("speaker.sock")).env("KUBECONFIG", kubeconfig);
        Process::start(&self.bed.rig, &format!("{}-speaker", self.space.short()), command)
    }

    /// Gives a speaker other pools.
    ///
    /// # Errors
    /// The file could not be written, or the speaker is gone.
    pub fn set_speakers_pools(&self, pools: &str, speaker: &Process) -> Outcome {
        let config = self.folder.join("speaker.yaml");
        let text = fs::read_to_string(&config).map_err(|e| format!("no speaker has been started: {e}"))?;
        let head = text.split("pools:\n").next().unwrap_or_default();
        crate::rig::replace_file(&config, &format!("{head}pools:\n{pools}"))?;
        speaker.signal(rustix::process::Signal::HUP)
    }

    /// What the speaker's `herald routes` prints.
    ///
    /// # Errors
    /// It does not answer.
    pub fn routes(&self) -> Outcome<String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_herald"));
        run(command.arg("routes").arg("--socket").arg(self.folder.join("speaker.sock")))
    }

    /// Runs `herald renumber` as the administrator.
    ///
    /// # Errors
    /// It failed.
    pub fn renumber(&self, arguments: &[&str]) -> Outcome<String> {
        let mut command = self.space.command(env!("CARGO_BIN_EXE_herald"));
        run(command.arg("renumber").args(arguments).env("KUBECONFIG", self.kubeconfig()))
    }

    /// Where the API server is.
    pub fn address(&self) -> Ipv4Addr {
        SERVER
    }

    /// Where everything runs.
    pub fn space(&self) -> &Namespace {
        &self.space
    }

    /// Stops API server and etcd.
    ///
    /// # Errors
    /// One did not end.
    pub fn stop(&mut self) -> Outcome {
        self.control_plane.stop()
    }

    /// Starts them again.
    ///
    /// # Errors
    /// One did not come up.
    pub fn resume(&mut self) -> Outcome {
        let programs = go_build("cluster")?;
        let site = Site { rig: &self.bed.rig, space: &self.space, address: SERVER, programs: &programs };
        self.control_plane.resume(&site, self.parts)
    }

    /// Copies the folder of the stopped etcd.
    ///
    /// # Errors
    /// It could not be copied.
    pub fn copy_database(&self) -> Outcome {
        let database = self.control_plane.database();
        run(Command::new("cp").arg("-a").arg(&database).arg(database.with_extension("copy"))).map(drop)
    }

    /// Puts the copy in the place of the stopped etcd's folder.
    ///
    /// # Errors
    /// There is none, or it could not be moved.
    pub fn put_database_back(&self) -> Outcome {
        let database = self.control_plane.database();
        fs::remove_dir_all(&database).map_err(|e| format!("{} stays: {e}", database.display()))?;
        fs::rename(database.with_extension("copy"), &database).map_err(|e| format!("there is no copy: {e}"))
    }

    /// Our ports of a process' connections to this port.
    ///
    /// # Errors
    /// `ss` failed.
    pub fn connections(&self, pid: u32, port: u16) -> Outcome<Vec<u16>> {
        let table = self.space.run("ss", &["-Htnp", "state", "established", &format!("( dport = :{port} )")])?;
        let of_process = table.lines().filter(|line| line.contains(&format!("pid={pid},")));
        let local = of_process.filter_map(|line| line.split_whitespace().nth(2)?.rsplit_once(':')?.1.parse().ok());
        Ok(local.collect())
    }

    /// What an allocator's `herald pools` prints.
    ///
    /// # Errors
    /// It does not answer.
    pub fn pools(&self, number: u16) -> Outcome<String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_herald"));
        run(command.arg("pools").arg("--socket").arg(self.folder.join(format!("{number}.sock"))))
    }

    /// Creates these services of type LoadBalancer, `kubectl` after `kubectl` side by side.
    ///
    /// # Errors
    /// The API server refused one.
    pub fn create_services(&self, names: &[String]) -> Outcome {
        std::thread::scope(|scope| {
            let share = names.len().div_ceil(8).max(1);
            let workers: Vec<_> = names.chunks(share).map(|names| scope.spawn(|| self.create(names))).collect();
            workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker panicked".to_owned())?)
        })
    }

    fn create(&self, names: &[String]) -> Outcome {
        let text: String = names.iter().map(|name| service(name, "")).collect();
        self.kubectl().create(&text)
    }

    /// Every Service of type LoadBalancer in `default` with the addresses that it shows.
    ///
    /// # Errors
    /// kubectl failed.
    pub fn shown(&self) -> Outcome<BTreeMap<String, Vec<String>>> {
        let list = self.kubectl().json(&["get", "services"])?;
        let services = list["items"].as_array().into_iter().flatten();
        let of_type = services.filter(|service| service["spec"]["type"] == "LoadBalancer");
        Ok(of_type.map(|service| (text(&service["metadata"]["name"]), ingress(service))).collect())
    }

    /// Every `Allocation` with its holders' names; empty for one that cools down.
    ///
    /// # Errors
    /// kubectl failed.
    pub fn allocations(&self) -> Outcome<BTreeMap<String, Vec<String>>> {
        let list = self.kubectl().json(&["get", "allocations"])?;
        let objects = list["items"].as_array().into_iter().flatten();
        let holders = |object: &Value| {
            object["spec"]["holders"].as_array().into_iter().flatten().map(|holder| text(&holder["name"])).collect()
        };
        Ok(objects.map(|object| (text(&object["spec"]["address"]), holders(object))).collect())
    }

    /// Waits until each of `count` services shows one address, none shows another's, and the `Allocation`s say the same.
    ///
    /// # Errors
    /// That did not come about; or an address was shown twice, at any look.
    pub fn settled(&self, within: Duration, count: usize) -> Outcome<Duration> {
        let mut twice = None;
        let (_, took) = wait_until(within, &format!("{count} services to have an address each"), || {
            let shown = self.shown()?;
            let all: Vec<&String> = shown.values().flatten().collect();
            let different: BTreeSet<&String> = all.iter().copied().collect();
            if different.len() < all.len() {
                twice = Some(format!("{} addresses are shown by {} services", different.len(), all.len()));
            }
            let served = shown.values().filter(|addresses| addresses.len() == 1).count();
            if (shown.len(), served) == (count, count) { Ok(()) } else { Err(format!("{served} of {}", shown.len())) }
        })?;
        if let Some(twice) = twice {
            return Err(twice);
        }
        let what = "the Allocations to say what the services show";
        wait_until(Duration::from_secs(20), what, || {
            let shown = self.shown()?;
            let wanted: BTreeMap<&String, &String> =
                shown.iter().flat_map(|(name, addresses)| addresses.iter().map(move |a| (a, name))).collect();
            let held = self.allocations()?;
            let holders = held.iter().filter(|(_, holders)| !holders.is_empty());
            let found: BTreeMap<&String, &String> =
                holders.flat_map(|(address, names)| names.iter().map(move |name| (address, name))).collect();
            if found == wanted { Ok(()) } else { Err(format!("{} held, {} shown", found.len(), wanted.len())) }
        })?;
        Ok(took)
    }
}

/// A Service of type LoadBalancer; `more` are further lines of its spec.
pub fn service(name: &str, more: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec:
  type: LoadBalancer
  allocateLoadBalancerNodePorts: false
  ports: [{{port: 80}}]
{more}"
    )
}

/// The addresses that a Service shows.
pub fn ingress(service: &Value) -> Vec<String> {
    let entries = service["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten();
    entries.map(|entry| text(&entry["ip"])).collect()
}

fn speakers_configuration(source: Ipv4Addr, pools: &str) -> String {
    format!(
        "asn: 64512
peers: [{{name: router, address: {SERVER}, asn: 64601, holdTime: 9s, sourceAddress: {source}}}]
advertisements: [{{name: all, pools: [edge]}}]
pools:
{pools}"
    )
}

/// Without the guard: how it holds is a case of its own.
fn configuration(pools: &str) -> String {
    format!("asn: 64512\nguard: {{maxWithdraw: 100%}}\npeers: []\npools:\n{pools}")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
