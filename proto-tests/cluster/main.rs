//! herald on a real Kubernetes: three nodes with kubelets, containers, a CNI and kube-proxy, behind two real routers.
//!
//! The cluster is started once, by the first case that needs it, and the cases run one after the other on it. Whatever happens,
//! nothing of it stays: not after a failure, a panic or an interrupt, and what a killed run left is removed by the next.
//!
//! | variable | meaning |
//! |---|---|
//! | `HERALD_BINARY` | a static herald to put into the image, instead of building one |
//! | `HERALD_KEEP` | keep the folder with the logs |
//! | `HERALD_STAY` | after the cases, leave the cluster running until an interrupt |
//! | `HERALD_E2E` | of Kubernetes' own tests, only those whose names hold these words (case `e2e_all`) |
//! | `HERALD_WITHOUT` | suites to leave out, `cluster` among them |

#[path = "../rig/mod.rs"]
mod rig;

mod app;
mod bed;
mod cases;
mod control_plane;
mod delay;
mod e2e;
mod filter;
mod images;
mod kubectl;
mod node;
mod pki;
mod topology;
mod yard;

use bed::Bed;
use libtest_mimic::{Arguments, Failed, Trial};
use rig::{Outcome, clean};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use topology::InternalIps;

/// The cluster, once it was needed: it runs, or it could not be started and the first case said why.
type Shared = Arc<OnceLock<Outcome<Bed>>>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One cluster, one case at a time.
    arguments.test_threads = Some(1);
    if rig::left_out("cluster") {
        println!("cluster: left out by HERALD_WITHOUT");
        return ExitCode::SUCCESS;
    }
    on_interrupt();
    let shared = Shared::default();
    // There is one cluster a run; the long cases want one of their own kind.
    let internal_ips = if arguments.ignored { InternalIps::V4 } else { InternalIps::Both };
    let trial = |&(name, case)| trial(name, case, internal_ips, &shared);
    let short = cases::ALL.iter().map(trial);
    let long = cases::LONG.iter().map(|case| trial(case).with_ignored_flag(true));
    let trials = short.chain(long).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(Ok(bed)) = shared.get() {
        if conclusion.has_failed() {
            bed.keep_logs();
        }
        if std::env::var_os("HERALD_STAY").is_some() {
            bed.describe();
            loop {
                std::thread::park();
            }
        }
    }
    drop(shared);
    if conclusion.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn trial(name: &str, case: cases::Case, internal_ips: InternalIps, shared: &Shared) -> Trial {
    let shared = Arc::clone(shared);
    Trial::test(name, move || {
        let bed = shared.get_or_init(|| Bed::start(internal_ips));
        bed.as_ref().map_err(|e| format!("there is no cluster: {e}")).and_then(case).map_err(Failed::from)
    })
}

/// On the terminal's interrupt or a request to end: clean up, then end.
fn on_interrupt() {
    std::thread::spawn(|| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime for signals");
        runtime.block_on(async {
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                .expect("SIGTERM can be caught");
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        });
        eprintln!("cluster: interrupted; cleaning up");
        let folder = Path::new(bed::FOLDER);
        if let Err(what) = clean::everything(bed::PREFIX, folder).and_then(|()| clean::folder(folder)) {
            eprintln!("cluster: {what}");
        }
        node::remove_cgroups();
        std::process::exit(130);
    });
}
