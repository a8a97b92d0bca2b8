//! The container images of the test, built from scratch by buildah.

use crate::rig::{Outcome, Rig, run, write_file};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds `dockerfile` in the folder `context` and writes an archive that containerd imports under `name`.
///
/// # Errors
/// buildah failed; the text holds what it said.
pub fn build(rig: &Rig, name: &str, dockerfile: &Path, context: &Path) -> Outcome<PathBuf> {
    let store = rig.folder("buildah", 0o700)?;
    let archive = rig.dir().join(format!("{}.tar", name.replace(['/', ':'], "-")));
    let buildah = || {
        let mut command = Command::new("buildah");
        command
            .arg("--root")
            .arg(store.join("root"))
            .arg("--runroot")
            .arg(store.join("run"))
            .args(["--storage-driver", "vfs"]);
        command
    };
    run(buildah().args(["bud", "--isolation", "chroot", "-t", name, "-f"]).arg(dockerfile).arg(context))?;
    run(buildah().args(["push", name]).arg(format!("oci-archive:{}:{name}", archive.display())))?;
    Ok(archive)
}

/// Builds an image that holds one static program and starts it.
///
/// # Errors
/// The program could not be read, or buildah failed.
pub fn from_program(rig: &Rig, name: &str, program: &Path) -> Outcome<PathBuf> {
    let file = program
        .file_name()
        .and_then(|file| file.to_str())
        .ok_or_else(|| format!("{} has no name", program.display()))?;
    let context = rig.folder(&format!("image-{file}"), 0o755)?;
    fs::copy(program, context.join(file)).map_err(|e| format!("{} could not be copied: {e}", program.display()))?;
    let dockerfile = context.join("Dockerfile");
    write_file(&dockerfile, &format!("FROM scratch\nCOPY {file} /{file}\nENTRYPOINT [\"/{file}\"]\n"))?;
    build(rig, name, &dockerfile, &context)
}
