//! Kubernetes' own end-to-end tests of load balancers, by the list `e2e.tsv`.

use super::same;
use crate::bed::Bed;
use crate::e2e::{Behind, Suite, Test, When, listed};
use crate::rig::Outcome;
use crate::topology::InternalIps;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many tests run side by side; they wait more than they work.
const ABREAST: usize = 3;

/// The quick ones, one after the other.
pub fn quick(bed: &Bed) -> Outcome {
    bed.herald()?;
    let suite = Suite::start(bed)?;
    for test in listed()?.iter().filter(|test| test.when == When::Quick) {
        suite.prepare(test.behind)?;
        told(test, &suite.run(test))?;
    }
    Ok(())
}

/// All that apply; the list is exactly what the suite has under the name of load balancers.
///
/// On nodes with an InternalIP of each family one of them fails whatever announces: it asks every InternalIP for the health of an
/// IPv4 service, and kube-proxy answers on IPv4 alone.
pub fn all(bed: &Bed) -> Outcome {
    same("the nodes' InternalIPs (the long cases run by `--ignored`)", bed.internal_ips, InternalIps::V4)?;
    bed.herald()?;
    let suite = Suite::start(bed)?;
    let listed = listed()?;
    let names: BTreeSet<String> = listed.iter().map(|test| test.name.to_owned()).collect();
    same("the names in e2e.tsv", names, suite.known()?.into_iter().collect())?;
    let (mut ran, mut failures) = (0, Vec::new());
    for behind in [Behind::Addresses, Behind::Ports, Behind::Finalizers] {
        let tests = listed.iter().filter(|test| test.behind == behind && test.when != When::Never && asked_for(test));
        let tests: Vec<&Test> = tests.collect();
        if tests.is_empty() {
            continue;
        }
        ran += tests.len();
        match suite.prepare(behind) {
            Ok(()) => failures.extend(abreast(&suite, &tests)),
            Err(what) => failures.extend(tests.iter().map(|test| format!("{} could not be run: {what}", test.name))),
        }
    }
    let never: Vec<&str> = listed.iter().filter(|test| test.when == When::Never).map(Test::short).collect();
    println!("  {} of the suite's {} passed; not applicable: {never:?}", ran - failures.len(), listed.len());
    match (ran, failures.is_empty()) {
        (0, _) => Err("no test of the list was asked for".to_owned()),
        (_, true) => Ok(()),
        (_, false) => Err(failures.join("\n")),
    }
}

/// `HERALD_E2E=WORDS` asks for the tests alone whose names hold these words.
fn asked_for(test: &Test) -> bool {
    std::env::var("HERALD_E2E").map_or(true, |words| test.name.contains(&words))
}

/// Runs tests side by side; what failed comes back.
fn abreast(suite: &Suite<'_>, tests: &[&Test]) -> Vec<String> {
    let taken = AtomicUsize::new(0);
    let work = || {
        let mut failures = Vec::new();
        while let Some(test) = tests.get(taken.fetch_add(1, Ordering::Relaxed)) {
            failures.extend(told(test, &suite.run(test)).err());
        }
        failures
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..ABREAST).map(|_| scope.spawn(work)).collect();
        let joined =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| vec!["a worker panicked".into()]));
        joined.flatten().collect()
    })
}

fn told(test: &Test, outcome: &Outcome<Duration>) -> Outcome {
    match outcome {
        Ok(took) => {
            println!("  passed in {:3} s: {}", took.as_secs(), test.short());
            Ok(())
        }
        Err(what) => {
            println!("  FAILED: {}", test.short());
            Err(what.clone())
        }
    }
}
