//! An API server without streaming lists, as they were before Kubernetes 1.34: the speaker, with exactly its account's rights,
//! lists in pages and announces just the same.

use super::host;
use crate::bed::{Bed, HERALD, go_build};
use crate::control_plane::{ControlPlane, Parts, Site};
use crate::pki;
use crate::rig::bgp::{Listener, Manner, Seen};
use crate::rig::net::Namespace;
use crate::rig::process::Process;
use crate::rig::{Outcome, run, write_file};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const SERVER: Ipv4Addr = Ipv4Addr::new(172, 30, 9, 1);
const NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 9, 2);
const ADDRESS: &str = "198.51.100.50";

/// What exists on that server: a node, a Service that has its address, and an endpoint.
const OBJECTS: &str = "apiVersion: v1
kind: Node
metadata: {name: old}
status: {addresses: [{type: InternalIP, address: 172.30.9.2}]}
---
apiVersion: v1
kind: Service
metadata: {name: public, namespace: default}
spec: {type: LoadBalancer, ports: [{port: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: public-1, namespace: default, labels: {kubernetes.io/service-name: public}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.244.9.9], nodeName: old, conditions: {ready: true}}]
";

/// Runs a speaker on such a server until its route is on the wire; returns the server's record of what it asked.
pub fn announces_from_pages(bed: &Bed) -> Outcome<PathBuf> {
    let space = Namespace::make(&bed.rig, "old")?;
    space.ip(&[format!("address add {SERVER}/32 dev lo"), format!("address add {NODE}/32 dev lo")])?;
    let programs = go_build("cluster")?;
    let site = Site { rig: &bed.rig, space: &space, address: SERVER, programs: &programs };
    let control_plane = ControlPlane::start(&site, Parts::OlderApiServer)?;
    let kubectl = &control_plane.kubectl;
    kubectl.run(&["apply", "-k", &bed.overlay()?.display().to_string()])?;
    kubectl.apply(OBJECTS)?;
    kubectl.set_ingress("default", "public", ADDRESS)?;
    let token = kubectl.run(&["-n", HERALD, "create", "token", "herald-speaker"])?;
    let router = Manner::Honest { asn: 64601, router_id: SERVER, hold: 9 };
    let listener = Listener::start(&space, SocketAddr::new(SERVER.into(), 179), router)?;
    let mut speaker = speaker(bed, &space, &control_plane, token.trim())?;
    let announced = |what: &Seen| matches!(what, Seen::Update(update) if update.announced.contains(&host(ADDRESS)));
    listener
        .next(Duration::from_secs(20), "the route of the service", |event| announced(&event.what))
        .map_err(|e| format!("{e}\n{}", speaker.log_end()))?;
    speaker.alive()?;
    Ok(control_plane.audit.clone())
}

/// herald outside of a pod, as the pod's user and with the token of its account.
fn speaker(bed: &Bed, space: &Namespace, control_plane: &ControlPlane, token: &str) -> Outcome<Process> {
    let folder = bed.rig.folder("old-speaker", 0o755)?;
    let binary = folder.join("herald");
    fs::copy(env!("CARGO_BIN_EXE_herald"), &binary).map_err(|e| format!("herald could not be copied: {e}"))?;
    let authority = folder.join("authority.crt");
    let certificate = control_plane.kubeconfig.with_file_name("apiserver.crt");
    fs::copy(&certificate, &authority).map_err(|e| format!("{} could not be copied: {e}", certificate.display()))?;
    let kubeconfig = folder.join("kubeconfig");
    pki::write_kubeconfig(&kubeconfig, SERVER, &authority, token)?;
    let config = folder.join("herald.yaml");
    write_file(
        &config,
        &format!(
            "asn: 64512
peers: [{{name: router, address: {SERVER}, asn: 64601, holdTime: 9s, sourceAddress: {NODE}}}]
pools: [{{name: public, addresses: [198.51.100.0/24]}}]
advertisements: [{{name: public, pools: [public]}}]
"
        ),
    )?;
    run(Command::new("chown").args(["-R", "65532:65532"]).arg(&folder))?;
    let mut command = space.command("setpriv");
    command
        .args(["--reuid", "65532", "--regid", "65532", "--clear-groups", "--no-new-privs", "--bounding-set", "-all"])
        .arg(&binary)
        .args(["speak", "--node", "old", "--metrics", "127.0.0.1:7472"])
        .arg("--config")
        .arg(&config)
        .arg("--socket")
        .arg(folder.join("herald.sock"))
        .env("KUBECONFIG", &kubeconfig);
    Process::start(&bed.rig, "old-herald", command)
}
