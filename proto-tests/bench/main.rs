//! Benches that run the field in the same run, on the same receiver. `cargo bench` measures in earnest, with limits;
//! `cargo test --bench bench` runs a small version of each without limits of time, so that they cannot rot.

#[path = "../rig/mod.rs"]
mod rig;

#[path = "../cluster/control_plane.rs"]
#[allow(dead_code, reason = "the cluster suite uses the rest")]
mod control_plane;
#[path = "../cluster/kubectl.rs"]
#[allow(dead_code, reason = "the cluster suite uses the rest")]
mod kubectl;
#[path = "../cluster/pki.rs"]
mod pki;

mod bare;
mod contestants;
mod first_table;
mod grants;
#[path = "../ipam/price.rs"]
mod price;
mod receiver;
mod slices;

use rig::net::Namespace;
use rig::{Outcome, Rig};
use std::process::ExitCode;
use std::sync::Arc;

/// How hard to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// A little of everything; what is sent is checked, how fast is only printed.
    Smoke,
    /// Everything, with limits.
    Full,
}

/// A bench; it runs inside the bench's own network namespace.
type Bench = fn(&Rig, &Namespace, Effort) -> Outcome;

const BENCHES: [(&str, Bench); 3] = [("first_table", first_table::run), ("grants", grants::run), ("slices", slices::run)];

fn main() -> ExitCode {
    // Cargo says so when it is `cargo bench` that runs us.
    let effort = if std::env::args().any(|word| word == "--bench") { Effort::Full } else { Effort::Smoke };
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if rig::left_out("bench") {
        println!("bench: left out by HERALD_WITHOUT");
        return ExitCode::SUCCESS;
    }
    let rig = match Rig::begin("bench", &["bird", "birdc"]) {
        Ok(rig) => Arc::new(rig),
        Err(what) => {
            eprintln!("bench: {what}");
            return ExitCode::FAILURE;
        }
    };
    let (mut passed, mut failed) = (0, 0);
    for (name, bench) in BENCHES.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| w == name)) {
        match run(&rig, *bench, effort) {
            Ok(()) => passed += 1,
            Err(what) => {
                rig.keep_logs();
                eprintln!("bench {name}: {what}");
                failed += 1;
            }
        }
        println!();
    }
    let verdict = if failed == 0 && passed > 0 { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(rig: &Arc<Rig>, bench: Bench, effort: Effort) -> Outcome {
    rig.clear()?;
    let space = Namespace::make(rig, "all")?;
    let (rig, inside) = (Arc::clone(rig), space.clone());
    space.inside(move || bench(&rig, &inside, effort))?
}
