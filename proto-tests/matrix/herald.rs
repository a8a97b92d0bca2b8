//! herald on its side of the link, as its pod runs it: no root, no capabilities.

use crate::bed::Bed;
use crate::rig::process::Process;
use crate::rig::{Outcome, Rig, replace_file, run};
use rustix::process::Signal;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The user of the pod.
const UID: &str = "65532";

/// herald, running or between two lives.
#[derive(Debug)]
pub struct Herald<'a> {
    rig: &'a Rig,
    bed: &'a Bed,
    process: Option<Process>,
    dir: PathBuf,
}

impl<'a> Herald<'a> {
    /// Starts it with this configuration.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(rig: &'a Rig, bed: &'a Bed, configuration: &str) -> Outcome<Self> {
        let dir = bed.dir.join("speaker");
        crate::rig::make_folder(&dir, 0o755)?;
        let mut herald = Self { rig, bed, process: None, dir };
        herald.write(configuration)?;
        run(Command::new("chown").arg(format!("{UID}:{UID}")).arg(&herald.dir))?;
        herald.begin()?;
        Ok(herald)
    }

    /// Starts a process, which must not be running.
    ///
    /// # Errors
    /// It could not be started.
    pub fn begin(&mut self) -> Outcome {
        let mut command = self.bed.speaker.command("setpriv");
        command
            .args(["--reuid", UID, "--regid", UID, "--clear-groups", "--no-new-privs", "--bounding-set", "-all"])
            .arg(self.rig.dir().join("herald"))
            .args(["speak", "--node", "n1", "--metrics", "127.0.0.1:7472"])
            .arg("--config")
            .arg(self.dir.join("herald.yaml"))
            .arg("--manifests")
            .arg(self.bed.dir.join("manifests"))
            .arg("--state")
            .arg(self.dir.join("state"))
            .arg("--socket")
            .arg(self.dir.join("herald.sock"));
        self.process = Some(Process::start(self.rig, &format!("herald-{}", self.bed.speaker.short()), command)?);
        Ok(())
    }

    /// Kills the process as nobody can prepare for, and waits until it is gone.
    ///
    /// # Errors
    /// It was gone already.
    pub fn kill(&mut self) -> Outcome {
        self.end(Signal::KILL)
    }

    /// Asks the process to end, as Kubernetes does, and waits until it is gone.
    ///
    /// # Errors
    /// It was gone already, or did not end in two seconds and some patience.
    pub fn terminate(&mut self) -> Outcome {
        self.end(Signal::TERM)
    }

    fn end(&mut self, signal: Signal) -> Outcome {
        let mut process = self.process.take().ok_or("herald does not run")?;
        process.alive()?;
        process.signal(signal)?;
        process.wait(Duration::from_secs(5)).map(drop)
    }

    /// Stops the process for a while, so that it says nothing more.
    ///
    /// # Errors
    /// It is gone.
    pub fn freeze(&self) -> Outcome {
        self.process.as_ref().ok_or("herald does not run")?.signal(Signal::STOP)
    }

    /// Gives it another configuration and tells it.
    ///
    /// # Errors
    /// The file could not be written or the process is gone.
    pub fn reload(&self, configuration: &str) -> Outcome {
        self.write(configuration)?;
        self.process.as_ref().ok_or("herald does not run")?.signal(Signal::HUP)
    }

    fn write(&self, configuration: &str) -> Outcome {
        replace_file(&self.dir.join("herald.yaml"), configuration)
    }

    /// Its peers as `herald peers` shows them.
    ///
    /// # Errors
    /// It does not answer.
    pub fn peers(&self) -> Outcome<Vec<Value>> {
        let mut command = Command::new(self.rig.dir().join("herald"));
        let text = run(command.args(["peers", "--output", "json", "--socket"]).arg(self.dir.join("herald.sock")))?;
        let all: Value = serde_json::from_str(&text).map_err(|e| format!("herald wrote no JSON: {e}: {text}"))?;
        Ok(all["peers"].as_array().cloned().unwrap_or_default())
    }

    /// The one peer.
    ///
    /// # Errors
    /// It does not answer, or has none or several.
    pub fn peer(&self) -> Outcome<Value> {
        let mut peers = self.peers()?;
        match (peers.pop(), peers.len()) {
            (Some(peer), 0) => Ok(peer),
            (_, others) => Err(format!("herald has no peer, or {others} too many")),
        }
    }

    /// The end of its log, for a failure's text.
    pub fn log_end(&self) -> String {
        self.process.as_ref().map(Process::log_end).unwrap_or_default()
    }
}
