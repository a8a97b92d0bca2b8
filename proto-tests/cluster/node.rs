//! A node: containerd, kubelet and kube-proxy in namespaces of their own.
//!
//! Besides the network namespace a node has a PID and a mount namespace whose first process is `pause`: when that one ends,
//! every container, shim and mount of the node ends with it, however the run was left. Inside, `/run`, `/var/lib` and `/var/log`
//! are the node's own, so that three kubelets never meet and the machine keeps none of it; the cgroups are removed by [`Cgroups`].

use crate::rig::process::Process;
use crate::rig::{Outcome, Rig, make_folder, run, wait_until, write_file};
use crate::topology::{CONTROL_PLANE, InternalIps, NodeSite, PODS};
use ipnetwork::IpNetwork;
use std::ffi::OsStr;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SOCKET: &str = "/run/containerd/containerd.sock";
/// The cgroup below which all pods are.
const CGROUP: &str = "hd-cluster";

/// What every node is started from.
#[derive(Debug)]
pub struct NodeParts<'a> {
    /// The suite.
    pub rig: &'a Rig,
    /// Where `go-build.sh cluster` put kubelet and kube-proxy.
    pub programs: &'a Path,
    /// Where `go-build.sh app` put `pause`.
    pub app: &'a Path,
    /// Which addresses the nodes show.
    pub internal_ips: InternalIps,
}

/// A running node; dropping it ends everything that runs on it.
#[derive(Debug)]
pub struct Node {
    /// Its name, addresses and networks.
    pub site: NodeSite,
    folder: PathBuf,
    /// `pause`, the node's first process: its number outside.
    first: u32,
    // Dropped in order: the node's programs first, the holder of its namespaces last.
    programs: Vec<Process>,
    holder: Process,
}

impl Node {
    /// Starts the node up to its containerd; its images may be imported afterwards.
    ///
    /// # Errors
    /// Something could not be started; the text holds the end of its log.
    pub fn start(site: NodeSite, parts: &NodeParts<'_>) -> Outcome<Self> {
        let folder = parts.rig.folder(&site.name, 0o755)?;
        make_folder(&folder.join("cni"), 0o755)?;
        write_configuration(&site, &folder)?;
        site.space.sysctl(&["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])?;
        let holder = hold_namespaces(&site, &folder, parts)?;
        let first = first_process(&holder, &folder)?;
        let mut node = Self { site, folder: folder.clone(), first, programs: Vec::new(), holder };
        let configuration = folder.join("containerd.toml");
        node.launch(
            parts.rig,
            "containerd",
            Path::new("containerd"),
            &[format!("--config={}", configuration.display())],
        )?;
        wait_until(Duration::from_secs(30), "containerd to answer", || {
            node.alive()?;
            node.ctr(&["version"])
        })?;
        Ok(node)
    }

    /// Starts kubelet and kube-proxy with the credentials in `kubeconfig`: the node joins the cluster.
    ///
    /// # Errors
    /// One of them could not be started.
    pub fn join(&mut self, parts: &NodeParts<'_>, kubeconfig: &Path) -> Outcome {
        let internal_ips = match parts.internal_ips {
            InternalIps::Both => format!("{},{}", self.site.address, self.site.address6),
            InternalIps::V4 => self.site.address.to_string(),
        };
        let kubelet = [
            format!("--config={}", self.folder.join("kubelet.yaml").display()),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--hostname-override={}", self.site.name),
            format!("--node-ip={internal_ips}"),
            "--root-dir=/var/lib/kubelet".to_owned(),
            "--cert-dir=/var/lib/kubelet/pki".to_owned(),
        ];
        let proxy = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--hostname-override={}", self.site.name),
            "--proxy-mode=iptables".to_owned(),
            format!("--cluster-cidr={}", PODS.join(",")),
            // The limit is the machine's, not the namespace's.
            "--conntrack-max-per-core=0".to_owned(),
            format!("--nodeport-addresses={}", own_addresses(&self.site)),
        ];
        self.launch(parts.rig, "kubelet", &parts.programs.join("kubelet"), &kubelet)?;
        self.launch(parts.rig, "kube-proxy", &parts.programs.join("kube-proxy"), &proxy)
    }

    /// Imports an image archive under the name that it carries.
    ///
    /// # Errors
    /// containerd refused it.
    pub fn import(&self, archive: &Path) -> Outcome {
        self.ctr(&["-n", "k8s.io", "images", "import", &archive.display().to_string()]).map(drop)
    }

    /// Fails when one of the node's processes has ended by itself.
    ///
    /// # Errors
    /// One has; the text holds the end of its log.
    pub fn alive(&mut self) -> Outcome {
        self.holder.alive()?;
        self.programs.iter_mut().try_for_each(Process::alive)
    }

    /// Runs a program on the node's root file system and in all of its namespaces.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--pid", "--target"]).arg(self.first.to_string()).arg("--").arg(program);
        command
    }

    fn launch(&mut self, rig: &Rig, name: &str, program: &Path, flags: &[String]) -> Outcome {
        let mut command = self.command(program);
        command.args(flags).env("HOME", &self.folder).current_dir(&self.folder);
        self.programs.push(Process::start(rig, &format!("{}-{name}", self.site.name), command)?);
        Ok(())
    }

    fn ctr(&self, arguments: &[&str]) -> Outcome<String> {
        run(self.command("ctr").args(["-a", SOCKET]).args(arguments))
    }
}

/// The pods' cgroups, which outlive their processes: dropping this, when the nodes are gone, removes them.
#[derive(Debug)]
pub struct Cgroups;

impl Cgroups {
    /// Removes what a crashed run left.
    pub fn claim() -> Self {
        remove_cgroups();
        Self
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        remove_cgroups();
    }
}

/// Removes our cgroup in every hierarchy (version 2 has its only one at the top, version 1 a folder for each).
pub fn remove_cgroups() {
    let top = Path::new("/sys/fs/cgroup");
    let below = fs::read_dir(top).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    for hierarchy in below.chain([top.to_owned()]) {
        remove_tree(&hierarchy.join(CGROUP));
    }
}

/// Removes a cgroup and those below it. Its files go with it; a cgroup that still has processes stays.
fn remove_tree(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _busy_or_not_there = fs::remove_dir(cgroup);
}

/// Starts the process that keeps the node's PID and mount namespace alive.
fn hold_namespaces(site: &NodeSite, folder: &Path, parts: &NodeParts<'_>) -> Outcome<Process> {
    let script = format!(
        "set -e
for folder in /run /var/lib /var/log; do mount -t tmpfs -o mode=755 node $folder; done
mkdir -p /run/lock /run/netns /var/lib/kubelet
touch {ready}
exec {pause}",
        ready = folder.join("ready").display(),
        pause = parts.app.join("pause").display(),
    );
    let mut command = site.space.command("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--", "/bin/sh", "-c", &script]);
    Process::start(parts.rig, &format!("{}-holder", site.name), command)
}

/// Waits for the namespaces to be furnished and finds their first process.
fn first_process(holder: &Process, folder: &Path) -> Outcome<u32> {
    let (first, _) = wait_until(Duration::from_secs(10), "the node's namespaces to be furnished", || {
        if !folder.join("ready").exists() {
            return Err(holder.log_end());
        }
        child_of(holder.pid()).ok_or_else(|| format!("process {} has no child", holder.pid()))
    })?;
    Ok(first)
}

/// A child of `parent`, from `/proc`.
fn child_of(parent: u32) -> Option<u32> {
    let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut children = pids.filter(|pid| {
        // PID (COMM) STATE PPID …; the name may hold blanks and parentheses.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let ppid = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        ppid == Some(parent)
    });
    children.next()
}

/// Where a node answers node ports: all of its addresses, each as a range of one.
fn own_addresses(site: &NodeSite) -> String {
    let addresses: [IpAddr; 4] =
        [site.address.into(), site.uplink_address.into(), site.address6.into(), site.uplink_address6.into()];
    addresses.map(|address| IpNetwork::from(address).to_string()).join(",")
}

fn write_configuration(site: &NodeSite, folder: &Path) -> Outcome {
    let containerd = format!(
        r#"version = 2
root = "{root}"
state = "/run/containerd"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{opt}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "herald.test/pause:1"
  # Without it runc dies: a process in a PID namespace may not lower its score.
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
"#,
        root = folder.join("containerd").display(),
        opt = folder.join("opt").display(),
        cni = folder.join("cni").display(),
    );
    let cni = format!(
        r#"{{"cniVersion": "0.4.0", "name": "pods", "plugins": [{{"type": "ptp", "ipMasq": false, "ipam": {{
  "type": "host-local", "dataDir": "/run/cni", "ranges": [[{{"subnet": "{pods}"}}], [{{"subnet": "{pods6}"}}]],
  "routes": [{{"dst": "0.0.0.0/0"}}, {{"dst": "::/0"}}]}}}}]}}
"#,
        pods = site.pods,
        pods6 = site.pods6
    );
    let kubelet = format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
cgroupDriver: cgroupfs
cgroupRoot: /{CGROUP}
cgroupsPerQOS: false
clusterDNS: [{CONTROL_PLANE}]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://{SOCKET}
enforceNodeAllocatable: []
evictionHard: {{memory.available: 50Mi}}
failCgroupV1: false
failSwapOn: false
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
resolvConf: {resolv}
",
        resolv = folder.join("resolv.conf").display()
    );
    write_file(&folder.join("containerd.toml"), &containerd)?;
    write_file(&folder.join("cni/10-pods.conflist"), &cni)?;
    write_file(&folder.join("kubelet.yaml"), &kubelet)?;
    // The node's own file names the machine's resolvers, which no pod can reach.
    write_file(&folder.join("resolv.conf"), "nameserver 127.0.0.1\n")
}
