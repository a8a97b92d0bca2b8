//! The application of the story: pods that say who they are, and the Services in front of them.

use crate::bed::Bed;
use crate::kubectl::Pod;
use crate::rig::Outcome;
use crate::rig::net::Namespace;
use std::collections::BTreeMap;
use std::time::Duration;

/// Where the pods answer `POD NODE CLIENT` over HTTP.
pub const HTTP: u16 = 8080;
/// Where they answer the rig's probes, TCP and UDP.
pub const PROBE: u16 = 8081;

/// A namespace of the cluster with a Deployment `backend-app`; dropping it deletes the namespace and all that is in it.
#[derive(Debug)]
pub struct App<'a> {
    bed: &'a Bed,
    namespace: String,
    replicas: usize,
}

impl<'a> App<'a> {
    /// Makes the namespace and the Deployment and waits for its pods; never two of them on one node.
    ///
    /// # Errors
    /// The pods did not become Ready.
    pub fn start(bed: &'a Bed, namespace: &str, replicas: usize) -> Outcome<Self> {
        let app = Self { bed, namespace: namespace.to_owned(), replicas };
        bed.kubectl().apply(&format!(
            "apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: backend-app, namespace: {namespace}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: backend-app}}}}
  strategy: {{rollingUpdate: {{maxSurge: 0, maxUnavailable: 1}}}}
  template:
    metadata: {{labels: {{app: backend-app}}}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            - {{topologyKey: kubernetes.io/hostname, labelSelector: {{matchLabels: {{app: backend-app}}}}}}
      containers:
        - name: backend-app
          image: herald.test/backend-app:1
          imagePullPolicy: Never
          env:
            - {{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
            - {{name: NODE_NAME, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}}
          ports: [{{containerPort: {HTTP}}}, {{containerPort: {PROBE}}}, {{containerPort: {PROBE}, protocol: UDP}}]
          # Patient: on a starved machine a pod that answers late must not lose its route in the midst of a case.
          readinessProbe: {{httpGet: {{port: {HTTP}, path: /}}, periodSeconds: 1, timeoutSeconds: 5}}
"
        ))?;
        app.pods()?;
        Ok(app)
    }

    /// The pods, once as many as wanted are Ready.
    ///
    /// # Errors
    /// They are not within a minute; the text says what holds them up.
    pub fn pods(&self) -> Outcome<Vec<Pod>> {
        self.bed.kubectl().wait_for_pods(&self.namespace, "app=backend-app", self.replicas, Duration::from_secs(60))
    }

    /// Creates or changes a Service in front of the pods; `spec` holds what is special about it, indented by two.
    ///
    /// # Errors
    /// The API server refused it.
    pub fn service(&self, name: &str, spec: &str) -> Outcome {
        self.annotated_service(name, "", spec)
    }

    /// The same with annotations, in one line: `key: value, key: value`.
    fn annotated_service(&self, name: &str, annotations: &str, spec: &str) -> Outcome {
        self.bed.kubectl().apply(&format!(
            "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}, annotations: {{{annotations}}}}}
spec:
  selector: {{app: backend-app}}
{spec}
",
            namespace = self.namespace
        ))
    }

    /// A Service of type LoadBalancer with the three ports and this ingress address; `more` are further lines of its spec.
    ///
    /// # Errors
    /// The API server refused it.
    pub fn load_balancer(&self, name: &str, address: &str, more: &str) -> Outcome {
        let spec = format!(
            "  type: LoadBalancer
  ports:
    - {{name: http, port: {HTTP}}}
    - {{name: probe, port: {PROBE}}}
    - {{name: datagrams, port: {PROBE}, protocol: UDP}}
{more}"
        );
        // Asked of the allocator, and written by hand where none runs; both say the same.
        self.annotated_service(name, &format!("herald.bgp/addresses: \"{address}\""), &spec)?;
        self.bed.kubectl().set_ingress(&self.namespace, name, address)
    }

    /// Deletes a Service.
    ///
    /// # Errors
    /// There is none, or the API server refused.
    pub fn delete_service(&self, name: &str) -> Outcome {
        self.bed.kubectl().run(&["-n", &self.namespace, "delete", "service", name]).map(drop)
    }

    /// The ClusterIP of a Service.
    ///
    /// # Errors
    /// There is no such Service.
    pub fn cluster_ip(&self, name: &str) -> Outcome<String> {
        self.bed.kubectl().run(&["-n", &self.namespace, "get", "service", name, "-o", "jsonpath={.spec.clusterIP}"])
    }

    /// Asks a URL from inside a pod.
    ///
    /// # Errors
    /// No answer, or anything but 200.
    pub fn get_from_pod(&self, pod: &str, url: &str) -> Outcome<Answer> {
        let text = self.bed.kubectl().run(&["-n", &self.namespace, "exec", pod, "--", "/backend-app", "get", url])?;
        Answer::parse(&text)
    }

    fn delete_pod(&self, name: &str) -> Outcome {
        self.bed.kubectl().run(&["-n", &self.namespace, "delete", "pod", name, "--wait=false"]).map(drop)
    }

    /// Makes one pod move to a node that has none, and waits until all are Ready again.
    ///
    /// # Errors
    /// They are not within a minute.
    pub fn move_a_pod(&self) -> Outcome {
        let moving = self.pods()?.swap_remove(0);
        let _until_it_moved = Cordon::set(self.bed, &moving.node)?;
        self.delete_pod(&moving.name)?;
        self.pods().map(drop)
    }
}

/// A node that takes no new pods until this is dropped.
struct Cordon<'a> {
    bed: &'a Bed,
    node: String,
}

impl<'a> Cordon<'a> {
    fn set(bed: &'a Bed, node: &str) -> Outcome<Self> {
        bed.kubectl().run(&["cordon", node])?;
        Ok(Self { bed, node: node.to_owned() })
    }
}

impl Drop for Cordon<'_> {
    fn drop(&mut self) {
        if let Err(what) = self.bed.kubectl().run(&["uncordon", &self.node]) {
            eprintln!("cluster: {} takes no pods any more: {what}", self.node);
        }
    }
}

impl Drop for App<'_> {
    fn drop(&mut self) {
        let name = &self.namespace;
        if let Err(what) = self.bed.kubectl().run(&["delete", "namespace", name, "--wait=false", "--ignore-not-found"])
        {
            eprintln!("cluster: namespace {name} is not deleted: {what}");
        }
    }
}

/// Who answered, and whom the pod took the asker for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The pod.
    pub pod: String,
    /// Its node.
    pub node: String,
    /// The asker's address, without the port.
    pub client: String,
}

impl Answer {
    /// Reads `POD NODE CLIENT:PORT`.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(text: &str) -> Outcome<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            [pod, node, client] => Ok(Self {
                pod: pod.to_owned(),
                node: node.to_owned(),
                client: client
                    .rsplit_once(':')
                    .map_or(client, |(address, _)| address.trim_matches(['[', ']']))
                    .to_owned(),
            }),
            _ => Err(format!("no answer of backend-app: {text:?}")),
        }
    }
}

/// Runs `curl` this often, one after the other, each with a connection of its own; returns the answers that came.
///
/// # Errors
/// The namespace could not be entered, or an answer is not the application's.
pub fn curl(from: &Namespace, host: &str, port: u16, times: usize) -> Outcome<Vec<Answer>> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let script =
        format!("for i in $(seq {times}); do curl -sf --noproxy '*' --max-time 3 http://{host}:{port}/ || true; done");
    from.run("sh", &["-c", &script])?.lines().map(Answer::parse).collect()
}

/// How many answers each node gave.
pub fn by_node(answers: &[Answer]) -> BTreeMap<&str, usize> {
    let mut count = BTreeMap::new();
    for answer in answers {
        *count.entry(answer.node.as_str()).or_default() += 1;
    }
    count
}
