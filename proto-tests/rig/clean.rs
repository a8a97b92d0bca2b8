//! Removing what carries a suite's name: processes, namespaces, links, mounts and files, also those of a crashed run.

use super::{Outcome, process, run};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Kills the processes and removes the namespaces and links whose names begin with `prefix`. Files stay.
///
/// # Errors
/// Something is still there afterwards.
pub fn everything(prefix: &str, dir: &Path) -> Outcome {
    let spaces = namespaces(prefix);
    for space in &spaces {
        let pids = run(Command::new("ip").args(["netns", "pids", space])).unwrap_or_default();
        for pid in pids.lines().filter_map(|line| line.trim().parse().ok()).filter_map(Pid::from_raw) {
            let _gone_already = kill_process(pid, Signal::KILL);
        }
    }
    process::kill_recorded(&dir.join("pids"));
    for space in &spaces {
        super::wait_until(Duration::from_secs(5), &format!("namespace {space} to be empty"), || {
            let pids = run(Command::new("ip").args(["netns", "pids", space])).unwrap_or_default();
            let own = std::process::id().to_string();
            match pids.lines().map(str::trim).find(|pid| *pid != own) {
                None => Ok(()),
                Some(pid) => Err(format!("process {pid} is still in it")),
            }
        })?;
        run(Command::new("ip").args(["netns", "del", space]))?;
    }
    for link in root_links(prefix) {
        run(Command::new("ip").args(["link", "del", &link]))?;
    }
    Ok(())
}

/// Unmounts what is mounted below a folder, newest first, and removes the folder.
///
/// # Errors
/// Something could not be unmounted or removed.
pub fn folder(dir: &Path) -> Outcome {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let below = |line: &&str| line.split(' ').nth(1).is_some_and(|at| Path::new(at).starts_with(dir));
    for line in mounts.lines().rev().filter(below) {
        if let Some(at) = line.split(' ').nth(1) {
            run(Command::new("umount").args(["-l", at]))?;
        }
    }
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{} could not be removed: {e}", dir.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The names of the namespaces that carry the prefix.
pub fn namespaces(prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    names
}

/// Links of the root namespace that carry the prefix. The rig makes none there; a suite may have.
fn root_links(prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/class/net") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect()
}
