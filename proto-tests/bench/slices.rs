//! One EndpointSlice changes at a real API server: how long until the UPDATE is at the peer, and how long until a bare
//! watch has the event, which nobody who asks the API server can beat?
//!
//! The bare watch and the BGP receiver are threads of this process, herald is another process. Each sample takes a
//! service's only endpoint away or gives it back, and waits for both ends before the next.

use super::Effort;
use super::bare;
use super::contestants::{herald_command, herald_configuration, herald_planned};
use super::receiver::{Heard, Receiver};
use crate::control_plane::{ControlPlane, Parts, Site};
use crate::rig::net::Namespace;
use crate::rig::process::Process;
use crate::rig::{Outcome, Rig, run as run_command, write_file};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver as Queue, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The API server's address inside the bench's own namespace: it refuses to advertise one of 127.0.0.0/8.
const SERVER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);

/// Where the services are.
const NAMESPACE: &str = "default";

/// A change that is not seen for this long is lost.
const LOST: Duration = Duration::from_secs(10);

/// How much longer than the bare watch herald may take.
const LIMIT: f64 = 1.3;

/// Measures, prints, and (at full effort) compares with the limit.
///
/// # Errors
/// The cluster or herald did not come up, a change was lost, or herald is too slow.
pub fn run(rig: &Rig, space: &Namespace, effort: Effort) -> Outcome {
    let (services, samples) = match effort {
        Effort::Smoke => (50, 20),
        Effort::Full => (1_000, 400),
    };
    space.ip(&[format!("address add {SERVER}/32 dev lo")])?;
    let site = Site { rig, space, address: SERVER, programs: &programs()? };
    let control_plane = ControlPlane::start(&site, Parts::ApiServer)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let client = runtime.block_on(connect(&control_plane.kubeconfig))?;
    runtime.block_on(fill(&client, services))?;

    let (tell, heard) = channel();
    let receiver = Receiver::listen()?;
    let mut herald = herald(rig, receiver.port()?, &control_plane.kubeconfig)?;
    let _updates = receiver.follow(tell);
    await_table(&heard, services)?;
    let (watched, _watch) = watch(&control_plane.kubeconfig)?;

    let mut bench = Bench { slices: Api::namespaced(client, NAMESPACE), watched, heard, samples: Vec::new() };
    for sample in 0..samples {
        runtime
            .block_on(bench.sample(sample, services))
            .map_err(|e| format!("sample {sample}: {e}\n{}", herald.log_end()))?;
    }
    herald.alive()?;
    judge(&bench.samples, services, effort)
}

/// One sample: from just before the request to the event at the bare watch, and to the UPDATE at the receiver.
#[derive(Debug, Clone, Copy)]
struct Sample {
    watch: Duration,
    update: Duration,
}

/// The names of slices that changed, and when the bare watch had the event.
type Watched = Queue<(String, Instant)>;

struct Bench {
    slices: Api<EndpointSlice>,
    watched: Watched,
    heard: Queue<Heard>,
    samples: Vec<Sample>,
}

impl Bench {
    /// Even samples take an endpoint away, odd ones give it back.
    async fn sample(&mut self, sample: u32, services: u32) -> Outcome {
        let service = sample / 2 * 7 % services;
        let gone = sample.is_multiple_of(2);
        let endpoints = if gone { json!([]) } else { endpoint() };
        let patch = Patch::Merge(json!({ "endpoints": endpoints }));
        let began = Instant::now();
        self.slices
            .patch(&name(service), &PatchParams::default(), &patch)
            .await
            .map_err(|e| format!("the API server refused: {e}"))?;
        let (seen, watch) = self.watched.recv_timeout(LOST).map_err(|_| "the bare watch saw nothing")?;
        if seen != name(service) {
            return Err(format!("the bare watch saw {seen} instead of {}", name(service)));
        }
        let heard = self.heard.recv_timeout(LOST).map_err(|_| format!("no UPDATE within {LOST:?}"))?;
        let (wanted, other) =
            if gone { (&heard.withdrawn, &heard.announced) } else { (&heard.announced, &heard.withdrawn) };
        if wanted.as_slice() != [bare::address(service)] || !other.is_empty() {
            return Err(format!("expected {} alone; heard {heard:?}", bare::address(service)));
        }
        self.samples.push(Sample { watch: watch.duration_since(began), update: heard.at.duration_since(began) });
        Ok(())
    }
}

fn judge(samples: &[Sample], services: u32, effort: Effort) -> Outcome {
    println!(
        "one EndpointSlice of {services} services changes at the API server; {} samples, write to event, ms",
        samples.len()
    );
    println!("{:<18} {:>8} {:>8} {:>8}", "", "p50", "p90", "p99");
    let of = |name: &str, pick: fn(&Sample) -> Duration| {
        let mut times: Vec<f64> = samples.iter().map(|sample| pick(sample).as_secs_f64() * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
        println!("{name:<18} {:>8.2} {:>8.2} {:>8.2}", at(50), at(90), at(99));
        [at(50), at(99)]
    };
    let watch = of("bare watch", |sample| sample.watch);
    let update = of("herald's UPDATE", |sample| sample.update);
    let ratios = [update[0] / watch[0], update[1] / watch[1]];
    println!("{:<18} {:>8.2} {:>8} {:>8.2}", "ratio", ratios[0], "", ratios[1]);
    match effort {
        Effort::Full if ratios.iter().any(|ratio| *ratio > LIMIT) => Err(format!(
            "herald took {:.2} (p50) and {:.2} (p99) times as long as a bare watch; {LIMIT} is allowed",
            ratios[0], ratios[1]
        )),
        Effort::Full | Effort::Smoke => Ok(()),
    }
}

fn name(service: u32) -> String {
    format!("s{service}")
}

fn endpoint() -> Value {
    json!([{"addresses": ["10.244.0.9"], "nodeName": "bench", "conditions": {"ready": true}}])
}

async fn connect(kubeconfig: &Path) -> Outcome<Client> {
    let file = Kubeconfig::read_from(kubeconfig).map_err(|e| e.to_string())?;
    let config =
        Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(|e| e.to_string())?;
    Client::try_from(config).map_err(|e| e.to_string())
}

/// Makes the node and the services, each with an address and an endpoint.
async fn fill(client: &Client, services: u32) -> Outcome {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "bench"}});
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.create(&PostParams::default(), &typed(node)?).await.map_err(|e| e.to_string())?;
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": SERVER}]}});
    nodes.patch_status("bench", &PatchParams::default(), &Patch::Merge(status)).await.map_err(|e| e.to_string())?;
    futures_util::stream::iter((0..services).map(|service| fill_one(client, service)))
        .buffer_unordered(8)
        .try_collect::<()>()
        .await
}

async fn fill_one(client: &Client, service: u32) -> Outcome {
    let name = name(service);
    let post = PostParams::default();
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}]}});
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    services.create(&post, &typed(object)?).await.map_err(|e| format!("{name}: {e}"))?;
    let status = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": [{"ip": bare::address(service)}]}}}));
    services.patch_status(&name, &PatchParams::default(), &status).await.map_err(|e| format!("{name}: {e}"))?;
    let object = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "ports": [{"port": 80}], "endpoints": endpoint()});
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    slices.create(&post, &typed(object)?).await.map(drop).map_err(|e| format!("{name}: {e}"))
}

fn typed<T: serde::de::DeserializeOwned>(object: Value) -> Outcome<T> {
    serde_json::from_value(object).map_err(|e| e.to_string())
}

fn herald(rig: &Rig, port: u16, kubeconfig: &Path) -> Outcome<Process> {
    let folder = rig.folder("herald", 0o755)?;
    let config = folder.join("herald.yaml");
    write_file(&config, &herald_configuration(port))?;
    let mut command = herald_command(&config, &folder.join("herald.sock"));
    command.env("KUBECONFIG", kubeconfig);
    let mut process = Process::start(rig, "herald", command)?;
    herald_planned(&mut process)?;
    Ok(process)
}

/// Takes the first table from the queue: every service once.
fn await_table(heard: &Queue<Heard>, services: u32) -> Outcome {
    let mut announced = 0;
    while announced < services as usize {
        announced +=
            heard.recv_timeout(LOST).map_err(|_| format!("{announced} of {services} routes came"))?.announced.len();
    }
    Ok(())
}

/// A watch and nothing else, in a thread of its own; it has begun when this returns.
fn watch(kubeconfig: &Path) -> Outcome<(Watched, JoinHandle<Outcome>)> {
    let kubeconfig = kubeconfig.to_owned();
    let (tell, watched) = channel();
    let (begun, wait) = channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(follow(kubeconfig, &tell, &begun))
    });
    match wait.recv_timeout(LOST) {
        Ok(()) => Ok((watched, thread)),
        Err(_) => Err("the bare watch did not begin".to_owned()),
    }
}

async fn follow(kubeconfig: PathBuf, tell: &Sender<(String, Instant)>, begun: &Sender<()>) -> Outcome {
    let slices: Api<EndpointSlice> = Api::namespaced(connect(&kubeconfig).await?, NAMESPACE);
    let list = slices.list(&Default::default()).await.map_err(|e| e.to_string())?;
    let version = list.metadata.resource_version.unwrap_or_default();
    let events = slices.watch(&WatchParams::default(), &version).await.map_err(|e| e.to_string())?;
    let mut events = std::pin::pin!(events);
    begun.send(()).map_err(|e| e.to_string())?;
    while let Some(event) = events.try_next().await.map_err(|e| e.to_string())? {
        let now = Instant::now();
        if let WatchEvent::Modified(slice) = event
            && tell.send((slice.name_any(), now)).is_err()
        {
            return Ok(());
        }
    }
    Err("the bare watch ended".to_owned())
}

fn programs() -> Outcome<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-tests/go-build.sh");
    let said = run_command(Command::new(&script).arg("cluster"))?;
    Ok(PathBuf::from(said.lines().last().unwrap_or_default().trim()))
}
