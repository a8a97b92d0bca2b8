//! Programs that run beside the test: each in a process group of its own, with a log, recorded by process number so that
//! the next run finds it if this one crashes, and killed when its owner is dropped.

use super::{Outcome, Rig, wait_until};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A running program. Dropping it kills its whole process group.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    record: PathBuf,
}

impl Process {
    /// Starts a program; `Namespace::command` makes one that runs inside a namespace. Its output goes to `log/NAME.log`,
    /// appended, so that a restarted program's earlier words stay.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(rig: &Rig, name: &str, mut command: Command) -> Outcome<Self> {
        let log = rig.dir().join("log").join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|e| format!("{} could not be opened: {e}", log.display()))?;
        let copy = file.try_clone().map_err(|e| format!("{}: {e}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .process_group(0)
            .spawn()
            .map_err(|e| format!("{command:?} could not be started: {e}"))?;
        let record = rig.dir().join("pids").join(format!("{name}.{}", child.id()));
        let begun = start_time(child.id()).unwrap_or_default();
        super::write_file(&record, &format!("{} {begun}\n", child.id()))?;
        Ok(Self { name: name.to_owned(), child, log, record })
    }

    /// The name that it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it (and earlier ones of that name) wrote.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|octets| String::from_utf8_lossy(&octets).into_owned()).unwrap_or_default()
    }

    /// The last lines of its log, for a failure's text.
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Sends a signal to its process group.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Outcome {
        kill_process_group(self.group(), signal).map_err(|e| format!("{} takes no {signal:?}: {e}", self.name))
    }

    /// How it ended, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It still runs when the time is up.
    pub fn wait(&mut self, within: Duration) -> Outcome<(ExitStatus, Duration)> {
        let what = format!("{} to end", self.name);
        wait_until(within, &what, || self.ended().ok_or_else(|| "it runs".to_owned()))
    }

    /// Fails if it has ended, with the end of its log.
    ///
    /// # Errors
    /// It has ended.
    pub fn alive(&mut self) -> Outcome {
        match self.ended() {
            None => Ok(()),
            Some(status) => Err(format!("{} has ended with {status}:\n{}", self.name, self.log_end())),
        }
    }

    /// Processor time that it has used since it began, in user and in kernel mode together.
    ///
    /// # Errors
    /// It is gone.
    pub fn cpu(&self) -> Outcome<Duration> {
        let fields = stat_fields(self.pid()).ok_or_else(|| format!("{} is gone", self.name))?;
        let ticks: u64 = [13, 14].iter().filter_map(|at| fields.get(at - 2)?.parse::<u64>().ok()).sum();
        let hertz = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_millis(ticks * 1000 / hertz))
    }

    /// Memory that it occupies now, in KiB.
    ///
    /// # Errors
    /// It is gone.
    pub fn rss(&self) -> Outcome<u64> {
        self.status("VmRSS:")
    }

    /// How often its first thread has gone to sleep since it began. Counts what wakes it, and does not hang on how fast the
    /// machine is just now, as processor time does.
    ///
    /// # Errors
    /// It is gone.
    pub fn sleeps(&self) -> Outcome<u64> {
        self.status("voluntary_ctxt_switches:")
    }

    /// A number of its `/proc/PID/status`, by the name in front of it.
    fn status(&self, name: &str) -> Outcome<u64> {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.pid())).map_err(|e| format!("{}: {e}", self.name))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
            .ok_or_else(|| format!("{} has no {name} is it gone?", self.name))
    }

    fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process number fits"))
            .expect("a child's number is not 0")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone_already = kill_process_group(self.group(), Signal::KILL);
        let _reaped_already = self.child.wait();
        let _removed_already = fs::remove_file(&self.record);
    }
}

/// Kills what earlier runs recorded and did not end; a number that now belongs to another program is left alone.
pub fn kill_recorded(pids: &Path) {
    let Ok(entries) = fs::read_dir(pids) else {
        return;
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut words = text.split_whitespace();
        let (Some(pid), Some(begun)) = (words.next().and_then(|w| w.parse::<u32>().ok()), words.next()) else {
            continue;
        };
        if start_time(pid).as_deref() == Some(begun)
            && let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw)
        {
            let _gone_already = kill_process_group(group, Signal::KILL);
        }
        let _removed_already = fs::remove_file(&path);
    }
}

/// When a process began, in the kernel's own count: with it a number names one process for good.
fn start_time(pid: u32) -> Option<String> {
    stat_fields(pid)?.get(19).cloned()
}

/// The fields of `/proc/PID/stat` behind the name, which may hold spaces: the first one here is field 3.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split(' ').map(str::to_owned).collect())
}
