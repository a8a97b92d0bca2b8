//! The folder of ordinary Kubernetes objects that the speakers read instead of a cluster.

use crate::rig::{Outcome, Rig, make_folder, replace_file};
use crate::topology::{FAMILIES, PORT, node_address, service};
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A Service's traffic policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Any node may take the traffic.
    Cluster,
    /// Only nodes with an endpoint.
    Local,
}

/// A folder of manifests.
#[derive(Debug)]
pub struct Manifests {
    dir: PathBuf,
}

impl Manifests {
    /// Makes the folder, empty but for the three nodes.
    ///
    /// # Errors
    /// A file could not be written.
    pub fn begin(rig: &Rig) -> Outcome<Self> {
        let dir = rig.dir().join("manifests");
        let _not_there_the_first_time = fs::remove_dir_all(&dir);
        make_folder(&dir, 0o755)?;
        let manifests = Self { dir };
        manifests.write("nodes", &(1..=3).map(node).collect::<String>())?;
        Ok(manifests)
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes or replaces service `number` with endpoints on these nodes (from 1), both families.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn service(&self, number: u8, policy: Policy, endpoints: &[usize]) -> Outcome {
        let addresses = FAMILIES.map(|family| service(number, family));
        let mut text = service_object(&format!("s{number}"), policy, &addresses);
        text.push_str(&slice(&format!("s{number}"), endpoints));
        self.write(&format!("service-{number}"), &text)
    }

    /// Deletes service `number`.
    ///
    /// # Errors
    /// There is no such file.
    pub fn delete(&self, number: u8) -> Outcome {
        let path = self.path(&format!("service-{number}"));
        fs::remove_file(&path).map_err(|e| format!("{} could not be removed: {e}", path.display()))
    }

    /// Writes a file of any content.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn write(&self, name: &str, text: &str) -> Outcome {
        replace_file(&self.path(name), text)
    }

    /// Writes a file whose name has an ending of its own.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn write_as(&self, name: &str, text: &str) -> Outcome {
        replace_file(&self.dir.join(name), text)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.yaml"))
    }
}

fn node(number: usize) -> String {
    let addresses = FAMILIES.map(|family| node_address(number, family));
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: n{number}\n  labels: {{ kubernetes.io/hostname: n{number} }}\n\
         status:\n  addresses:\n  - {{ type: InternalIP, address: \"{}\" }}\n  - {{ type: InternalIP, address: \"{}\" }}\n  \
         conditions:\n  - {{ type: Ready, status: \"True\" }}\n",
        addresses[0], addresses[1]
    )
}

/// A Service of type LoadBalancer with these ingress addresses.
pub fn service_object(name: &str, policy: Policy, addresses: &[IpAddr]) -> String {
    let ingress: String = addresses.iter().fold(String::new(), |mut text, address| {
        let _infallible = writeln!(text, "    - {{ ip: \"{address}\" }}");
        text
    });
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: lab, uid: {name} }}\nspec:\n  type: LoadBalancer\n  \
         externalTrafficPolicy: {policy:?}\n  ports:\n  - {{ name: web, port: {PORT}, protocol: TCP }}\n\
         status:\n  loadBalancer:\n    ingress:\n{ingress}"
    )
}

fn slice(service: &str, nodes: &[usize]) -> String {
    let of = |family, pod: fn(&usize) -> String| slice_of(service, family, nodes.iter().map(|n| (*n, pod(n))));
    of("IPv4", |n| format!("10.244.{n}.2")) + &of("IPv6", |n| format!("fd00:244:{n}::2"))
}

fn slice_of(service: &str, family: &str, pods: impl Iterator<Item = (usize, String)>) -> String {
    let mut text = format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {service}-{family}\n  namespace: lab\n  \
         labels: {{ kubernetes.io/service-name: {service} }}\naddressType: {family}\nports:\n- {{ name: web, port: {PORT}, protocol: TCP }}\n"
    );
    let mut pods = pods.peekable();
    text.push_str(if pods.peek().is_none() { "endpoints: []\n" } else { "endpoints:\n" });
    for (node, pod) in pods {
        let _infallible = write!(
            text,
            "- addresses: [\"{pod}\"]\n  nodeName: n{node}\n  conditions: {{ ready: true, serving: true, terminating: false }}\n"
        );
    }
    text
}
