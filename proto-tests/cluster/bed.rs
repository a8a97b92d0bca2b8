//! What the cases lie on: the cluster, the routers and the client, and how herald gets there.

use crate::control_plane::{ControlPlane, Parts, Site};
use crate::images;
use crate::kubectl::{Kubectl, Pod};
use crate::node::{Cgroups, Node, NodeParts};
use crate::rig::fib::Watch;
use crate::rig::net::Namespace;
use crate::rig::router::{Kind, Neighbour, Plan, Router};
use crate::rig::{Outcome, Rig, run, wait_until, write_file};
use crate::topology::{CONTROL_PLANE, Family, InternalIps, NodeSite, ROUTERS, SERVICES, SERVICES6, Topology};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What every name that this suite makes begins with.
pub const PREFIX: &str = "hd-cluster-";
/// The suite's folder.
pub const FOLDER: &str = "/tmp/hd-cluster";
/// herald's namespace, as `deploy/base` names it.
pub const HERALD: &str = "herald-system";
/// Finds the allocator's pods.
pub const ALLOCATORS: &str = "app.kubernetes.io/name=herald,app.kubernetes.io/component=allocator";
/// Finds the speaker's pods.
pub const SPEAKERS: &str = "app.kubernetes.io/name=herald,app.kubernetes.io/component=speaker";
/// The routers' hold time.
pub const HOLD: Duration = Duration::from_secs(9);

/// What the first router wants segments signed with (TCP-MD5); the second takes them as they are.
const KEY: &str = "from-the-secret";
const NODES_ASN: u32 = 64512;
const ROUTERS_ASN: u32 = 64601;
const PROGRAMS: [&str; 12] = [
    "birdc",
    "buildah",
    "containerd",
    "ctr",
    "curl",
    "iptables",
    "openssl",
    "runc",
    "unshare",
    "vtysh",
    "/usr/lib/cni/ptp",
    "/usr/lib/frr/bgpd",
];

/// Everything that runs. The fields end in this order; the rig, last, removes what may be left.
#[derive(Debug)]
pub struct Bed {
    /// The routers: FRR, then BIRD.
    pub routers: [Router; 2],
    /// The nodes, `n1` first.
    pub nodes: Vec<Node>,
    _cgroups: Cgroups,
    control_plane: ControlPlane,
    /// All namespaces.
    pub topology: Topology,
    programs: PathBuf,
    /// Which addresses the nodes show.
    pub internal_ips: InternalIps,
    herald: OnceLock<Outcome>,
    /// The suite's hold on the machine.
    pub rig: Rig,
}

impl Bed {
    /// Starts the cluster and the routers and waits until all nodes are Ready. herald is not there yet.
    ///
    /// # Errors
    /// Something did not come up; the text says what.
    pub fn start(internal_ips: InternalIps) -> Outcome<Self> {
        let programs = go_build("cluster")?;
        let app = go_build("app")?;
        let begun = Instant::now();
        let rig = Rig::begin("cluster", &PROGRAMS)?;
        let cgroups = Cgroups::claim();
        let topology = Topology::make(&rig)?;
        let site = Site { rig: &rig, space: &topology.control_plane, address: CONTROL_PLANE, programs: &programs };
        let parts = NodeParts { rig: &rig, programs: &programs, app: &app, internal_ips };
        let (control_plane, nodes) = std::thread::scope(|scope| {
            let nodes = scope.spawn(|| start_nodes(&topology.nodes, &parts));
            (
                ControlPlane::start(&site, Parts::Whole),
                nodes.join().unwrap_or_else(|_| Err("starting nodes panicked".to_owned())),
            )
        });
        let (mut control_plane, mut nodes) = (control_plane?, nodes?);
        for node in &mut nodes {
            node.join(&parts, &control_plane.kubeconfig)?;
        }
        let routers = start_routers(&rig, &topology)?;
        wait_for_nodes(&mut control_plane, &mut nodes)?;
        eprintln!("cluster: three nodes Ready {:.1} s after the first command", begun.elapsed().as_secs_f32());
        let herald = OnceLock::new();
        Ok(Self { routers, nodes, _cgroups: cgroups, control_plane, topology, programs, internal_ips, herald, rig })
    }

    /// The administrator's kubectl.
    pub fn kubectl(&self) -> &Kubectl {
        &self.control_plane.kubectl
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.control_plane.kubeconfig
    }

    /// Where kubectl and its kin are.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// The API server's record of what herald's ServiceAccounts asked.
    pub fn audit(&self) -> &Path {
        &self.control_plane.audit
    }

    /// Begins to watch both routers' kernel tables.
    ///
    /// # Errors
    /// A table could not be read.
    pub fn watch(&self) -> Outcome<[Watch; 2]> {
        let [first, second] = &self.topology.routers;
        Ok([Watch::begin(first)?, Watch::begin(second)?])
    }

    /// The client behind the routers.
    pub fn client(&self) -> &Namespace {
        &self.topology.client
    }

    /// The node of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn node(&self, name: &str) -> Outcome<&Node> {
        self.nodes.iter().find(|node| node.site.name == name).ok_or_else(|| format!("no node is called {name:?}"))
    }

    /// The next hops that stand for these nodes.
    ///
    /// # Errors
    /// A name is no node's.
    pub fn hops<'a>(&self, nodes: impl IntoIterator<Item = &'a str>) -> Outcome<BTreeSet<IpAddr>> {
        self.hops_of(Family::V4, nodes)
    }

    /// The next hops that stand for these nodes, of a family.
    ///
    /// # Errors
    /// A name is no node's.
    pub fn hops_of<'a>(&self, family: Family, nodes: impl IntoIterator<Item = &'a str>) -> Outcome<BTreeSet<IpAddr>> {
        nodes.into_iter().map(|name| Ok(self.node(name)?.site.next_hop(family))).collect()
    }

    /// The next hops of all nodes.
    pub fn all_hops(&self) -> BTreeSet<IpAddr> {
        self.all_hops_of(Family::V4)
    }

    /// The next hops of all nodes, of a family.
    pub fn all_hops_of(&self, family: Family) -> BTreeSet<IpAddr> {
        self.nodes.iter().map(|node| node.site.next_hop(family)).collect()
    }

    /// Applies `deploy/` with the image that it builds, once, and waits until every speaker is Ready.
    ///
    /// # Errors
    /// The image could not be built, the API server refused a manifest, or the speakers did not become Ready.
    pub fn herald(&self) -> Outcome {
        self.herald.get_or_init(|| self.deploy_herald()).clone()
    }

    /// The speakers' pods, once all of them are Ready.
    ///
    /// # Errors
    /// They are not within a minute; the text says what holds them up.
    pub fn speakers(&self) -> Outcome<Vec<Pod>> {
        let within = Duration::from_secs(60);
        self.kubectl().wait_for_pods(HERALD, SPEAKERS, self.nodes.len(), within).map_err(|e| {
            let words = self.kubectl().run(&["-n", HERALD, "logs", "-l", SPEAKERS, "--tail=8", "--prefix"]);
            format!("{e}\n{}", words.unwrap_or_else(|why| why))
        })
    }

    /// Keeps the folder, with the speakers' words in it, because a case failed.
    pub fn keep_logs(&self) {
        self.rig.keep_logs();
        for pod in self.kubectl().pods(HERALD, SPEAKERS).unwrap_or_default() {
            for (life, previous) in [("", "--previous=false"), ("-before", "--previous=true")] {
                let words = self.kubectl().run(&["-n", HERALD, "logs", &pod.name, previous]);
                if let (Ok(words), path) =
                    (words, self.rig.dir().join(format!("log/{}-{}{life}.log", pod.node, pod.name)))
                {
                    let _reported_by_its_absence = write_file(&path, &words);
                }
            }
        }
    }

    /// Tells a person who lets the cluster stay how to look at it.
    pub fn describe(&self) {
        let kubeconfig = self.control_plane.kubeconfig.display();
        eprintln!("cluster: it stays until an interrupt; logs are in {FOLDER}/log; to look at it:");
        eprintln!(
            "  export KUBECONFIG={kubeconfig}; nsenter --net={} kubectl get pods -A",
            self.topology.control_plane.path()
        );
        eprintln!("  ip -n {} route", self.topology.routers[0].name());
    }

    fn deploy_herald(&self) -> Outcome {
        let archive = self.rig.dir().join("herald.oci");
        run(Command::new("sh").arg(tree().join("deploy/image.sh")).arg(&archive))?;
        self.nodes.iter().try_for_each(|node| node.import(&archive))?;
        let overlay = self.overlay()?;
        self.kubectl().run(&["apply", "-k", &overlay.display().to_string()])?;
        self.speakers()?;
        self.kubectl().wait_for_pods(HERALD, ALLOCATORS, 2, Duration::from_secs(60))?;
        self.routers.iter().try_for_each(|router| self.sessions_stand(router))
    }

    /// Waits until a router has a session with every node.
    fn sessions_stand(&self, router: &Router) -> Outcome {
        let what = format!("{} to have a session with every node", router.space().short());
        wait_until(Duration::from_secs(10), &what, || {
            let sessions = router.sessions()?;
            let standing = sessions.values().filter(|state| *state == "Established").count();
            if standing == self.nodes.len() { Ok(()) } else { Err(format!("{sessions:?}")) }
        })
        .map(drop)
    }

    /// `deploy/overlays/test` with this bed's routers written into the ConfigMap and the key of one into the Secret, in the
    /// suite's folder.
    ///
    /// # Errors
    /// A file could not be written.
    pub fn overlay(&self) -> Outcome<PathBuf> {
        run(Command::new("cp").arg("-r").arg(tree().join("deploy")).arg(self.rig.dir()))?;
        let folder = self.rig.folder("deploy/overlays/cluster", 0o755)?;
        let kustomization = "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../test, keys.yaml]
patches: [{path: config.yaml}]
";
        let config = format!(
            "apiVersion: v1
kind: ConfigMap
metadata: {{name: herald, namespace: {HERALD}}}
data:
  herald.yaml: |
    asn: {NODES_ASN}
    peers:
      - {{name: r1, address: {}, asn: {ROUTERS_ASN}, holdTime: 9s, passwordFile: /etc/herald-keys/r1}}
      - {{name: r2, address: {}, asn: {ROUTERS_ASN}, holdTime: 9s}}
    pools:
      - {{name: public, addresses: [{SERVICES}, \"{SERVICES6}\"]}}
    advertisements:
      - {{name: public, pools: [public]}}
",
            ROUTERS[0], ROUTERS[1],
        );
        write_file(&folder.join("kustomization.yaml"), kustomization)?;
        write_file(&folder.join("config.yaml"), &config)?;
        let keys = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: herald-keys, namespace: {HERALD}}}\nstringData: {{r1: {KEY}}}\n"
        );
        write_file(&folder.join("keys.yaml"), &keys)?;
        Ok(folder)
    }
}

/// The root of the source tree.
pub fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of a set of Go programs, built if need be.
///
/// # Errors
/// A program could not be built; the text holds what the compiler said.
pub fn go_build(set: &str) -> Outcome<PathBuf> {
    let script = tree().join("proto-tests/go-build.sh");
    Ok(run(Command::new(script).arg(set))?.trim().into())
}

/// Builds the images and starts each node with them.
fn start_nodes(sites: &[NodeSite], parts: &NodeParts<'_>) -> Outcome<Vec<Node>> {
    let images = [
        images::from_program(parts.rig, "herald.test/pause:1", &parts.app.join("pause"))?,
        images::from_program(parts.rig, "herald.test/backend-app:1", &parts.app.join("backend-app"))?,
    ];
    let start = |site: &NodeSite| {
        let node = Node::start(site.clone(), parts)?;
        images.iter().try_for_each(|image| node.import(image))?;
        Ok(node)
    };
    sites.iter().map(start).collect()
}

fn start_routers(rig: &Rig, topology: &Topology) -> Outcome<[Router; 2]> {
    let plan = |index: usize| Plan {
        asn: ROUTERS_ASN,
        router_id: ROUTERS[index],
        hold: HOLD,
        neighbours: topology.nodes.iter().map(|site| neighbour(site, index)).collect(),
    };
    Ok([
        Router::start(Kind::Frr, rig, &topology.routers[0], &plan(0))?,
        Router::start(Kind::Bird, rig, &topology.routers[1], &plan(1))?,
    ])
}

fn neighbour(site: &NodeSite, router: usize) -> Neighbour {
    Neighbour {
        name: site.name.clone(),
        address: site.uplink_address.into(),
        local: ROUTERS[router].into(),
        asn: NODES_ASN,
        password: (router == 0).then_some(KEY),
    }
}

fn wait_for_nodes(control_plane: &mut ControlPlane, nodes: &mut [Node]) -> Outcome {
    let condition = r#"{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}"#;
    wait_until(Duration::from_secs(60), "all nodes to be Ready", || {
        control_plane.alive()?;
        nodes.iter_mut().try_for_each(Node::alive)?;
        let text = control_plane.kubectl.run(&["get", "nodes", "-o", &format!("jsonpath={condition}")])?;
        if text.matches("=True").count() == nodes.len() { Ok(()) } else { Err(text) }
    })
    .map(drop)
}
