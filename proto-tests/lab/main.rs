//! Real routers around bare speakers: FRR, BIRD and GoBGP in network namespaces, three nodes, a client behind two routers.
//!
//! The judge is the routers' kernel tables, the wire and traffic, never herald's own log. Cases run one after the other,
//! each in a lab of its own.

#[path = "../rig/mod.rs"]
mod rig;
mod standin;
mod topology;

use libtest_mimic::{Arguments, Failed, Trial};
use rig::router::Kind;
use rig::{Outcome, Rig};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// A case: it gets the suite's rig and builds its own lab.
type Case = Box<dyn FnOnce(&Arc<Rig>) -> Outcome + Send>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    if rig::left_out("lab") {
        println!("lab: left out by HERALD_WITHOUT");
        return ExitCode::SUCCESS;
    }
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    let rig = match Rig::begin("lab", &["bird", "birdc", "vtysh", "/usr/lib/frr/bgpd", "tcpdump"]) {
        Ok(rig) => Arc::new(rig),
        Err(what) => {
            eprintln!("lab: {what}");
            return ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials(Some(&rig)));
    if conclusion.has_failed() {
        rig.keep_logs();
    }
    conclusion.exit_code()
}

fn cases() -> Vec<(String, Case)> {
    let mut cases: Vec<(String, Case)> = Vec::new();
    for kind in [Kind::Frr, Kind::Bird] {
        cases
            .push((format!("{}_the_lab_itself", kind.name()), Box::new(move |rig| standin::the_lab_itself(rig, kind))));
    }
    cases
}

fn trials(rig: Option<&Arc<Rig>>) -> Vec<Trial> {
    let wrap = |(name, case): (String, Case)| {
        let rig = rig.cloned();
        Trial::test(name, move || {
            let rig = rig.ok_or("only listed")?;
            let begin = Instant::now();
            let outcome = case(&rig);
            println!("  ({:.1} s)", begin.elapsed().as_secs_f64());
            if outcome.is_err() {
                rig.keep_logs();
            }
            outcome.map_err(Failed::from)
        })
    };
    cases().into_iter().map(wrap).collect()
}
