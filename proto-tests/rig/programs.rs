//! Where a daemon's programs are: on this machine, or in a folder that holds another release of the system (`roots.sh`).

use super::net::Namespace;
use super::process::Process;
use super::{Outcome, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A place of programs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Programs {
    /// The machine's own.
    #[default]
    System,
    /// Those of a folder that becomes `/` for them. The suite's folder is where it always is.
    Root(PathBuf),
}

/// Mounts made here end with the program: they are in a mount namespace of its own. `$1` is the root, `$2` the shared folder.
const ENTER: &str = r#"root=$1 shared=$2; shift 2
mkdir -p "$root$shared" && mount --bind "$shared" "$root$shared" && mount --rbind /dev "$root/dev" \
    && mount -t proc proc "$root/proc" && exec chroot "$root" "$@""#;

impl Programs {
    /// A command that will run inside a namespace, from this place.
    pub fn command(&self, rig: &Path, space: &Namespace, program: &str) -> Command {
        match self {
            Self::System => space.command(program),
            Self::Root(root) => {
                let mut command = space.command("unshare");
                command.args(["--mount", "--propagation", "private", "sh", "-c", ENTER, "sh"]);
                command.arg(root).arg(rig).arg(program);
                command
            }
        }
    }

    /// A command that will run where a daemon of this place runs already: in its namespaces and its root.
    pub fn beside(&self, daemon: &Process, space: &Namespace, program: &str) -> Command {
        match self {
            Self::System => space.command(program),
            Self::Root(_) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--target={}", daemon.pid())).args(["--net", "--mount", "--root", program]);
                command
            }
        }
    }

    /// Gives a folder to a user of this place, whose number may be another one on this machine.
    ///
    /// # Errors
    /// There is no such user.
    pub fn give(&self, folder: &Path, user: &str) -> Outcome {
        let root = match self {
            Self::System => Path::new("/"),
            Self::Root(root) => root,
        };
        let users = root.join("etc/passwd");
        let text = fs::read_to_string(&users).map_err(|e| format!("{} cannot be read: {e}", users.display()))?;
        let fields: Option<Vec<&str>> =
            text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&user));
        match fields.as_deref() {
            Some([_, _, uid, gid, ..]) => run(Command::new("chown").arg(format!("{uid}:{gid}")).arg(folder)).map(drop),
            Some(_) | None => Err(format!("{} has no user {user}", users.display())),
        }
    }
}

/// The folders with newer routers, made by `proto-tests/roots.sh`: FRR 10 with BIRD 2.17, and BIRD 3.
///
/// # Errors
/// The script fails.
pub fn roots() -> Outcome<[PathBuf; 2]> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-tests/roots.sh");
    let said = run(&mut Command::new(&script)).map_err(|e| format!("the newer routers are not there: {e}"))?;
    match said.lines().map(PathBuf::from).collect::<Vec<_>>().try_into() {
        Ok(folders) => Ok(folders),
        Err(other) => Err(format!("{} says {other:?}, not two folders", script.display())),
    }
}
