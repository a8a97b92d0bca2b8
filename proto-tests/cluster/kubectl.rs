//! kubectl, as a person would type it.

use crate::rig::net::{Namespace, feed};
use crate::rig::{Outcome, run, wait_until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The administrator's kubectl, run in the control plane's namespace.
#[derive(Debug, Clone)]
pub struct Kubectl {
    space: Namespace,
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// A kubectl from the folder `programs` that reads `kubeconfig` and runs in `space`.
    pub fn new(space: &Namespace, programs: &Path, kubeconfig: &Path) -> Self {
        Self { space: space.clone(), program: programs.join("kubectl"), kubeconfig: kubeconfig.to_owned() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.space.command(&self.program.display().to_string());
        let home = self.kubeconfig.parent().unwrap_or(Path::new("/"));
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig).env("HOME", home).stdin(Stdio::null());
        command
    }

    /// Runs to the end and returns standard output.
    ///
    /// # Errors
    /// kubectl failed; the text holds what it said.
    pub fn run(&self, arguments: &[&str]) -> Outcome<String> {
        run(&mut self.command(arguments))
    }

    /// Standard output whatever the exit code: `auth can-i` says no with 1.
    ///
    /// # Errors
    /// kubectl could not be started.
    pub fn answer(&self, arguments: &[&str]) -> Outcome<String> {
        let output = self.command(arguments).output().map_err(|e| format!("kubectl could not be started: {e}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// `kubectl ARGUMENTS -o json`, parsed.
    ///
    /// # Errors
    /// kubectl failed or printed no JSON.
    pub fn json(&self, arguments: &[&str]) -> Outcome<Value> {
        let text = self.run(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).map_err(|e| format!("`kubectl {}` printed no JSON: {e}", arguments.join(" ")))
    }

    /// `kubectl apply -f -` of `yaml`.
    ///
    /// # Errors
    /// The API server refused it; the text holds the manifest as well.
    pub fn apply(&self, yaml: &str) -> Outcome {
        feed(&mut self.command(&["apply", "-f", "-"]), yaml).map_err(|e| format!("{e}\n{yaml}"))
    }

    /// `kubectl create -f -` of `yaml`, which asks once an object.
    ///
    /// # Errors
    /// The API server refused it.
    pub fn create(&self, yaml: &str) -> Outcome {
        feed(&mut self.command(&["create", "-f", "-"]), yaml)
    }

    /// `kubectl replace -f -` of `text`.
    ///
    /// # Errors
    /// The API server refused it.
    pub fn replace(&self, text: &str) -> Outcome {
        feed(&mut self.command(&["replace", "-f", "-"]), text)
    }

    /// Gives a Service its ingress address, as an allocator would.
    ///
    /// # Errors
    /// The API server refused it.
    pub fn set_ingress(&self, namespace: &str, service: &str, address: &str) -> Outcome {
        let patch = format!(r#"{{"status":{{"loadBalancer":{{"ingress":[{{"ip":"{address}"}}]}}}}}}"#);
        let arguments =
            ["-n", namespace, "patch", "service", service, "--subresource=status", "--type=merge", "-p", &patch];
        self.run(&arguments).map(drop)
    }

    /// Waits until exactly `count` pods match the label selector and each is Ready, none on its way out; returns them by name.
    ///
    /// # Errors
    /// The time is up; the text holds the pods as they were.
    pub fn wait_for_pods(&self, namespace: &str, selector: &str, count: usize, within: Duration) -> Outcome<Vec<Pod>> {
        let what = format!("{count} Ready pods {selector} in {namespace}");
        let (pods, _) = wait_until(within, &what, || {
            let pods = self.pods(namespace, selector)?;
            if pods.len() == count && pods.iter().all(|pod| pod.readiness == Readiness::Ready) {
                return Ok(pods);
            }
            Err(format!("{pods:?}"))
        })?;
        Ok(pods)
    }

    /// The pods that match the label selector, by name.
    ///
    /// # Errors
    /// kubectl failed.
    pub fn pods(&self, namespace: &str, selector: &str) -> Outcome<Vec<Pod>> {
        let list = self.json(&["-n", namespace, "get", "pods", "-l", selector])?;
        let mut pods: Vec<Pod> = list["items"].as_array().into_iter().flatten().map(Pod::from_json).collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pods)
    }
}

/// Whether a pod may get traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Its condition `Ready` is true and nobody deleted it.
    Ready,
    /// Not (yet).
    Waiting,
    /// It has a deletion timestamp.
    Terminating,
}

/// What the cases ask of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.name`.
    pub name: String,
    /// `spec.nodeName`, empty until it is scheduled.
    pub node: String,
    /// Its address, empty until it has one.
    pub address: String,
    /// Its readiness.
    pub readiness: Readiness,
    /// Why its first container waits, or last ended; empty when it runs.
    pub trouble: String,
}

impl Pod {
    fn from_json(pod: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let condition =
            pod["status"]["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready");
        let is_ready = condition.is_some_and(|condition| condition["status"] == "True");
        let readiness = match (pod["metadata"]["deletionTimestamp"].is_null(), is_ready) {
            (false, _) => Readiness::Terminating,
            (true, true) => Readiness::Ready,
            (true, false) => Readiness::Waiting,
        };
        let state = &pod["status"]["containerStatuses"][0]["state"];
        let causes = [&state["waiting"]["message"], &state["waiting"]["reason"], &state["terminated"]["reason"]];
        Self {
            name: text(&pod["metadata"]["name"]),
            node: text(&pod["spec"]["nodeName"]),
            address: text(&pod["status"]["podIP"]),
            readiness,
            trouble: causes.into_iter().find(|cause| cause.is_string()).map(text).unwrap_or_default(),
        }
    }
}
