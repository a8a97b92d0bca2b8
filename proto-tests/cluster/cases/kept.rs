//! Every speaker's pod replaced while the file is refused, with the state folder on the node.

use super::walk::{conditions, use_file};
use super::{SOON, at, host, same, wait_both};
use crate::app::{App, PROBE};
use crate::bed::{Bed, HERALD, SPEAKERS, tree};
use crate::images;
use crate::rig::probe;
use crate::rig::{Outcome, run, wait_until, write_file};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

/// What it may take until each pod was replaced, one after the other.
const ROLLOUT: &str = "--timeout=180s";

/// What a kubelet may take to bring a file.
const BROUGHT: Duration = Duration::from_secs(120);

/// With `deploy/overlays/kept-state` all speakers' pods go at once, as in a power cut, and the file is refused: each new pod announces
/// by the configuration that was accepted last, and says so.
pub fn new_pods_run_on_what_was_accepted_last(bed: &Bed) -> Outcome {
    bed.herald()?;
    bed.speakers()?;
    let config = bed.kubectl().json(&["-n", HERALD, "get", "configmap", "herald"])?;
    let good = config["data"]["herald.yaml"].as_str().ok_or("the ConfigMap has no herald.yaml")?.to_owned();
    let archive = chown_image(bed)?;
    bed.nodes.iter().try_for_each(|node| node.import(&archive))?;
    let test = bed.overlay()?;
    let outcome = apply_kept_state(bed).and_then(|()| replaced_while_refused(bed, &good));
    // For the cases that come after.
    use_file(bed, &good)?;
    bed.kubectl().run(&["apply", "-k", &test.display().to_string()])?;
    let back = rolled_out(bed);
    outcome.and(back)
}

fn replaced_while_refused(bed: &Bed, good: &str) -> Outcome {
    let address = "198.51.100.64";
    let app = App::start(bed, "kept", 3)?;
    let mut watches = bed.watch()?;
    app.load_balancer("public", address, "")?;
    wait_both(&mut watches, SOON, host(address), &bed.all_hops())?;
    use_file(bed, &format!("{good}pears: []\n"))?;
    let refused = |count| {
        let told = conditions(bed)?;
        let saying = told.iter().filter(|(_, text)| text.contains("ConfigurationRefused")).count();
        if saying == count { Ok(()) } else { Err(format!("{told:?}")) }
    };
    wait_until(BROUGHT, "all to refuse the file", || refused(bed.nodes.len()))?;

    let begun = Instant::now();
    let before: BTreeSet<String> = bed.speakers()?.into_iter().map(|pod| pod.name).collect();
    bed.kubectl().run(&["-n", HERALD, "delete", "pods", "-l", SPEAKERS, "--wait=true"])?;
    let pods = bed.speakers()?;
    same("pods of before", pods.iter().filter(|pod| before.contains(&pod.name)).count(), 0)?;
    wait_both(&mut watches, SOON, host(address), &bed.all_hops())?;
    println!(
        "  three new pods announce by what was kept {:.1} s after all were deleted",
        begun.elapsed().as_secs_f32()
    );
    refused(bed.nodes.len())?;
    same("answers", probe::connections(bed.client(), at(address, PROBE), 60)?.answered(), 60)?;
    println!("  {}", conditions(bed)?[0].1.trim().replace('\n', "\n  "));

    use_file(bed, good)?;
    wait_until(BROUGHT, "all to take the good file", || refused(0))?;
    wait_both(&mut watches, SOON, host(address), &bed.all_hops()).map(drop)
}

/// The overlay as it is shipped, on the test's own one instead of the base.
fn apply_kept_state(bed: &Bed) -> Outcome {
    let shipped = tree().join("deploy/overlays/kept-state/kustomization.yaml");
    let text = fs::read_to_string(&shipped).map_err(|e| format!("{}: {e}", shipped.display()))?;
    let folder = bed.rig.folder("deploy/overlays/kept-cluster", 0o755)?;
    same("whether it stands on the base", text.contains("- ../../base\n"), true)?;
    write_file(&folder.join("kustomization.yaml"), &text.replace("- ../../base\n", "- ../cluster\n"))?;
    bed.kubectl().run(&["apply", "-k", &folder.display().to_string()])?;
    rolled_out(bed)
}

fn rolled_out(bed: &Bed) -> Outcome {
    bed.kubectl().run(&["-n", HERALD, "rollout", "status", "daemonset/herald-speaker", ROLLOUT])?;
    bed.speakers().map(drop)
}

/// What the overlay's init container runs, under the name that it has there: no registry is to be had.
fn chown_image(bed: &Bed) -> Outcome<std::path::PathBuf> {
    let context = bed.rig.folder("image-chown", 0o755)?;
    let libraries = run(Command::new("ldd").arg("/usr/bin/chown"))?;
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    run(Command::new("cp").args(["-L", "--parents", "/usr/bin/chown"]).args(libraries).arg(&context))?;
    let dockerfile = context.join("Dockerfile");
    write_file(&dockerfile, "FROM scratch\nCOPY usr /usr\nCOPY lib /lib\nCOPY lib64 /lib64\n")?;
    images::build(&bed.rig, "docker.io/library/busybox:1.37", &dockerfile, &context)
}
