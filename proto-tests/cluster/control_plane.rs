//! etcd, the API server, the controllers and the scheduler, in one network namespace.

use crate::kubectl::Kubectl;
use crate::pki::{self, Pki};
use crate::rig::net::Namespace;
use crate::rig::process::Process;
use crate::rig::{Outcome, Rig, make_folder, wait_until, write_file};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The namespace whose ServiceAccounts' requests are written down.
pub const AUDITED: &str = "herald-system";

/// How much of a control plane to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "the bench starts less than the cluster suite does")]
pub enum Parts {
    /// etcd and the API server: enough to hold objects and to be watched.
    ApiServer,
    /// The same without streaming lists, as API servers were before Kubernetes 1.34.
    OlderApiServer,
    /// Also the controllers and the scheduler: enough to run pods on nodes.
    Whole,
}

/// Where a control plane lives.
#[derive(Debug)]
pub struct Site<'a> {
    /// The suite.
    pub rig: &'a Rig,
    /// A namespace that holds `address`.
    pub space: &'a Namespace,
    /// What the API server's certificate names and its clients use.
    pub address: Ipv4Addr,
    /// Where `go-build.sh cluster` put the programs.
    pub programs: &'a Path,
}

/// A running control plane; dropping it ends its processes.
#[derive(Debug)]
pub struct ControlPlane {
    /// A kubectl for its administrator.
    pub kubectl: Kubectl,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// What ServiceAccounts of the namespace [`AUDITED`] asked of the API server: a JSON object a line.
    pub audit: PathBuf,
    processes: Vec<Process>,
    pki: Pki,
    folder: PathBuf,
}

impl ControlPlane {
    /// Starts the chosen parts and waits until the API server is ready (and, with controllers, until the default ServiceAccount
    /// exists). Data and keys go to the folder `control-plane-NAMESPACE` of the rig.
    ///
    /// # Errors
    /// A program could not be started, ended by itself, or did not become ready in time; the text holds the end of its log.
    pub fn start(site: &Site<'_>, parts: Parts) -> Outcome<Self> {
        let folder = site.rig.folder(&format!("control-plane-{}", site.space.short()), 0o755)?;
        let pki = Pki::create(&folder)?;
        let mut processes = vec![start_etcd(site, &folder)?, start_api_server(site, &folder, &pki, parts)?];
        let kubeconfig = folder.join("admin.kubeconfig");
        let certificate = folder.join("apiserver.crt");
        pki::write_kubeconfig(&kubeconfig, site.address, &certificate, pki::ADMIN_TOKEN)?;
        wait_until_ready(site, &mut processes)?;
        let kubectl = Kubectl::new(site.space, site.programs, &kubeconfig);
        if parts == Parts::Whole {
            processes.push(start_controllers(site, &folder, &pki)?);
            processes.push(start_scheduler(site, &folder)?);
            wait_until(Duration::from_secs(60), "the default ServiceAccount", || {
                processes.iter_mut().try_for_each(Process::alive)?;
                kubectl.run(&["get", "serviceaccount", "default", "-o", "name"])
            })?;
        }
        Ok(Self { kubectl, kubeconfig, audit: folder.join("audit.log"), processes, pki, folder })
    }

    /// Ends everything in order, the database last, and waits until it has ended.
    ///
    /// # Errors
    /// A process did not end.
    pub fn stop(&mut self) -> Outcome {
        for mut process in std::mem::take(&mut self.processes).into_iter().rev() {
            process.signal(rustix::process::Signal::TERM)?;
            // An API server that has just begun does not always end when it is asked to.
            if process.wait(Duration::from_secs(10)).is_err() {
                process.signal(rustix::process::Signal::KILL)?;
                process.wait(Duration::from_secs(10))?;
            }
        }
        Ok(())
    }

    /// Starts etcd and the API server again, with the same keys and whatever the database holds now.
    ///
    /// # Errors
    /// A program could not be started, or did not become ready in time.
    pub fn resume(&mut self, site: &Site<'_>, parts: Parts) -> Outcome {
        self.processes = vec![start_etcd(site, &self.folder)?, start_api_server(site, &self.folder, &self.pki, parts)?];
        wait_until_ready(site, &mut self.processes)
    }

    /// The folder of the database.
    pub fn database(&self) -> PathBuf {
        self.folder.join("etcd")
    }

    /// Fails when one of the processes has ended by itself.
    ///
    /// # Errors
    /// One has; the text holds the end of its log.
    pub fn alive(&mut self) -> Outcome {
        self.processes.iter_mut().try_for_each(Process::alive)
    }
}

fn start(site: &Site<'_>, folder: &Path, name: &str, flags: &[String]) -> Outcome<Process> {
    let mut command = site.space.command(&site.programs.join(name).display().to_string());
    command.args(flags).env("HOME", folder).current_dir(folder);
    Process::start(site.rig, &format!("{}-{name}", site.space.short()), command)
}

fn start_etcd(site: &Site<'_>, folder: &Path) -> Outcome<Process> {
    let clients = "http://127.0.0.1:2379";
    let peers = "http://127.0.0.1:2380";
    let data = folder.join("etcd");
    make_folder(&data, 0o700)?;
    let flags = [
        format!("--data-dir={}", data.display()),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
    ];
    start(site, folder, "etcd", &flags)
}

fn start_api_server(site: &Site<'_>, folder: &Path, pki: &Pki, parts: Parts) -> Outcome<Process> {
    let policy = folder.join("audit-policy.yaml");
    write_file(
        &policy,
        &format!(
            "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {{level: Metadata, userGroups: ['system:serviceaccounts:{AUDITED}']}}
  - {{level: None}}
"
        ),
    )?;
    let flags = [
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        "--bind-address=0.0.0.0".to_owned(),
        format!("--advertise-address={}", site.address),
        format!("--cert-dir={}", folder.display()),
        "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", pki.service_account_public_key.display()),
        format!("--service-account-signing-key-file={}", pki.service_account_key.display()),
        format!("--token-auth-file={}", pki.tokens.display()),
        "--authorization-mode=RBAC".to_owned(),
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", folder.join("audit.log").display()),
        "--allow-privileged=true".to_owned(),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--feature-gates=WatchList={}", parts != Parts::OlderApiServer),
    ];
    start(site, folder, "kube-apiserver", &flags)
}

fn start_controllers(site: &Site<'_>, folder: &Path, pki: &Pki) -> Outcome<Process> {
    let flags = [
        format!("--kubeconfig={}", folder.join("admin.kubeconfig").display()),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--cert-dir={}", folder.join("controllers").display()),
        format!("--service-account-private-key-file={}", pki.service_account_key.display()),
        // Without it there is no kube-root-ca.crt, and pods with tokens do not start.
        format!("--root-ca-file={}", folder.join("apiserver.crt").display()),
    ];
    start(site, folder, "kube-controller-manager", &flags)
}

fn start_scheduler(site: &Site<'_>, folder: &Path) -> Outcome<Process> {
    let flags = [
        format!("--kubeconfig={}", folder.join("admin.kubeconfig").display()),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--cert-dir={}", folder.join("scheduler").display()),
    ];
    start(site, folder, "kube-scheduler", &flags)
}

fn wait_until_ready(site: &Site<'_>, processes: &mut [Process]) -> Outcome {
    let url = format!("https://{}:6443/readyz", site.address);
    wait_until(Duration::from_secs(90), "the API server to be ready", || {
        processes.iter_mut().try_for_each(Process::alive)?;
        site.space.run("curl", &["-sfk", "--max-time", "2", &url])
    })
    .map(drop)
}
