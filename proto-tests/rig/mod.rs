//! The machinery that the suites with real routers share: network namespaces of their own, processes inside them, the
//! routers' forwarding tables, silent cuts, and traffic that is counted.
//!
//! Everything a suite makes carries one prefix, `hd-SUITE-`, and one folder, `/tmp/hd-SUITE`. [`Rig::begin`] first removes
//! whatever still carries them from a run that crashed; [`Rig`] removes it again when it is dropped. Links are made
//! straight between namespaces, so the root namespace's links and routes stay as they are. Nothing in here knows herald.
#![allow(dead_code, reason = "each suite includes this folder as a module and uses its own part of it")]

pub mod bgp;
pub mod bird;
pub mod clean;
pub mod fib;
pub mod frr;
pub mod gobgp;
pub mod net;
pub mod nft;
pub mod probe;
pub mod process;
pub mod programs;
pub mod respond;
pub mod router;

use std::env;
use std::fs::{self, File, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What a step of a test comes to: a value, or a sentence that says what was expected and what was seen instead.
pub type Outcome<T = ()> = Result<T, String>;

/// One suite's hold on the machine: its prefix, its folder and a lock that keeps a second run of the same suite waiting.
#[derive(Debug)]
pub struct Rig {
    prefix: String,
    dir: PathBuf,
    keep: AtomicBool,
    _lock: File,
}

impl Rig {
    /// Takes the suite's lock, removes what a crashed run left behind and makes a fresh folder.
    ///
    /// # Errors
    /// Not root, a program that is missing, or left-overs that could not be removed.
    pub fn begin(suite: &str, programs: &[&str]) -> Outcome<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(format!(
                "the {suite} suite makes network namespaces and needs root; run it as root, or leave it out with HERALD_WITHOUT={suite}"
            ));
        }
        for program in ["ip", "nft", "nsenter", "setpriv", "ss", "stdbuf", "sysctl"].iter().chain(programs) {
            if !installed(program) {
                return Err(format!(
                    "{program} is missing; proto-tests/packages.sh installs what the {suite} suite needs"
                ));
            }
        }
        let lock = locked(suite)?;
        let rig = Self {
            prefix: format!("hd-{suite}-"),
            dir: PathBuf::from(format!("/tmp/hd-{suite}")),
            keep: AtomicBool::new(false),
            _lock: lock,
        };
        clean::everything(&rig.prefix, &rig.dir)?;
        clean::folder(&rig.dir)?;
        make_folder(&rig.dir, 0o755)?;
        make_folder(&rig.dir.join("pids"), 0o755)?;
        make_folder(&rig.dir.join("log"), 0o755)?;
        Ok(rig)
    }

    /// What every name that this suite makes begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The suite's folder; everything in it is removed by the next run at the latest.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A folder below the suite's own, made if it is not there, with the given mode.
    ///
    /// # Errors
    /// The folder could not be made.
    pub fn folder(&self, name: &str, mode: u32) -> Outcome<PathBuf> {
        let path = self.dir.join(name);
        make_folder(&path, mode)?;
        Ok(path)
    }

    /// Removes the namespaces and processes of the last case, so that the next one starts from nothing.
    ///
    /// # Errors
    /// Something that carries the prefix could not be removed.
    pub fn clear(&self) -> Outcome {
        clean::everything(&self.prefix, &self.dir)
    }

    /// Keeps the folder with its logs when the suite ends, because something failed.
    pub fn keep_logs(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Err(what) = clean::everything(&self.prefix, &self.dir) {
            eprintln!("rig: {what}");
        }
        if self.keep.load(Ordering::Relaxed) || env::var_os("HERALD_KEEP").is_some() {
            eprintln!("rig: logs are kept in {}", self.dir.display());
        } else if let Err(what) = clean::folder(&self.dir) {
            eprintln!("rig: {what}");
        }
    }
}

/// Whether the caller left this suite out by name: `HERALD_WITHOUT=lab,cluster`.
pub fn left_out(suite: &str) -> bool {
    env::var("HERALD_WITHOUT").is_ok_and(|names| names.split([',', ' ']).any(|name| name == suite))
}

/// Runs a program to its end and returns what it wrote.
///
/// # Errors
/// It could not be started or ended with a status other than 0; the text holds what it said.
pub fn run(command: &mut Command) -> Outcome<String> {
    let output = command.output().map_err(|e| format!("{command:?} could not be started: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "{command:?} ended with {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim_end(),
        String::from_utf8_lossy(&output.stdout).trim_end(),
    ))
}

/// Looks again and again (every 20 ms) until `look` finds what it wants; how long that took comes back with the find.
///
/// # Errors
/// The time is up: the text says what was waited for and what was seen last.
pub fn wait_until<T>(within: Duration, what: &str, mut look: impl FnMut() -> Outcome<T>) -> Outcome<(T, Duration)> {
    let begin = Instant::now();
    loop {
        match look() {
            Ok(found) => return Ok((found, begin.elapsed())),
            Err(seen) if begin.elapsed() >= within => {
                return Err(format!("waited {within:?} for {what}; last seen: {seen}"));
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Writes a file, naming it when that fails.
///
/// # Errors
/// The file could not be written.
pub fn write_file(path: &Path, text: &str) -> Outcome {
    fs::write(path, text).map_err(|e| format!("{} could not be written: {e}", path.display()))
}

/// Writes a file by way of another name, so that a reader sees the old or the new text and never a part.
///
/// # Errors
/// The file could not be written or moved into its place.
pub fn replace_file(path: &Path, text: &str) -> Outcome {
    let aside = path.with_extension("new");
    write_file(&aside, text)?;
    fs::rename(&aside, path).map_err(|e| format!("{} could not be replaced: {e}", path.display()))
}

/// Makes a folder with exactly this mode, whatever the umask.
///
/// # Errors
/// The folder could not be made.
pub fn make_folder(path: &Path, mode: u32) -> Outcome {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(|e| format!("{} could not be made: {e}", path.display()))
}

/// Whether a program is found on the path or where Debian keeps daemons.
pub fn installed(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).exists();
    }
    let path = env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"])
        .any(|folder| Path::new(folder).join(program).exists())
}

/// One run of a suite at a time: a second one waits, and says so.
fn locked(suite: &str) -> Outcome<File> {
    let path = format!("/run/lock/hd-{suite}.lock");
    let file = File::create(&path).map_err(|e| format!("{path} could not be made: {e}"))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            eprintln!("rig: another run of {suite} is going on; waiting for it to end")
        }
        Err(TryLockError::Error(e)) => return Err(format!("{path} could not be locked: {e}")),
    }
    file.lock().map_err(|e| format!("{path} could not be locked: {e}"))?;
    Ok(file)
}
