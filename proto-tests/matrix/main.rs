//! The matrix: every kind of session with every router, on links of their own. Rows are `rows/`, columns `daemon/`; which cells
//! are run when, and why some cannot be, is `matrix.txt`. The table with what came of it is printed at the end.
//!
//! Cells run side by side (most of a cell is waiting), each in namespaces of its own. `HERALD_MATRIX=all` runs every cell.

mod bed;
mod capture;
mod daemon;
mod herald;
#[path = "../rig/mod.rs"]
mod rig;
mod rows;
mod session;
mod table;

use daemon::{Kind, Places};
use libtest_mimic::{Arguments, Failed, Trial};
use rig::{Outcome, Rig};
use rows::{Cell, ROWS};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use table::{Matrix, When};

/// Cells at once, where the caller does not say otherwise.
const SIDE_BY_SIDE: usize = 6;

/// What came of the cells that were run: whether they passed, and the seconds that they took.
type Results = Arc<Mutex<BTreeMap<(String, Kind), (bool, f64)>>>;

/// What all cells share.
struct Ground {
    rig: Rig,
    places: Places,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(SIDE_BY_SIDE);
    if rig::left_out("matrix") {
        println!("matrix: left out by HERALD_WITHOUT");
        return ExitCode::SUCCESS;
    }
    let outcome = Matrix::read().and_then(|matrix| {
        check_rows(&matrix)?;
        Ok(matrix)
    });
    let matrix = match outcome {
        Ok(matrix) => matrix,
        Err(what) => return give_up(&what),
    };
    let results = Results::default();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(&matrix, None, &results)).exit_code();
    }
    let ground = match begin() {
        Ok(ground) => Arc::new(ground),
        Err(what) => return give_up(&what),
    };
    let conclusion = libtest_mimic::run(&arguments, trials(&matrix, Some(&ground), &results));
    if conclusion.has_failed() {
        ground.rig.keep_logs();
    }
    println!("{}", matrix.printed(&results.lock().unwrap_or_else(PoisonError::into_inner)));
    conclusion.exit_code()
}

fn give_up(what: &str) -> ExitCode {
    eprintln!("matrix: {what}");
    ExitCode::FAILURE
}

/// The file and the code name the same rows.
fn check_rows(matrix: &Matrix) -> Outcome {
    let (written, coded): (Vec<&str>, Vec<&str>) =
        (matrix.rows().collect(), ROWS.iter().map(|(name, _)| *name).collect());
    if written == coded { Ok(()) } else { Err(format!("matrix.txt has the rows {written:?}, the code has {coded:?}")) }
}

fn begin() -> Outcome<Ground> {
    let programs =
        ["bird", "birdc", "vtysh", "/usr/lib/frr/bgpd", "exabgp", "bgpd", "bgpctl", "tcpdump", "unshare", "chroot"];
    let rig = Rig::begin("matrix", &programs)?;
    let built =
        std::env::var_os("HERALD_BINARY").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_herald")), PathBuf::from);
    // Copied to where the pod's user can reach it: a build folder may lie below a private home.
    std::fs::copy(&built, rig.dir().join("herald"))
        .map_err(|e| format!("{} could not be copied: {e}", built.display()))?;
    Ok(Ground { rig, places: Places::find()? })
}

fn trials(matrix: &Matrix, ground: Option<&Arc<Ground>>, results: &Results) -> Vec<Trial> {
    let all = std::env::var("HERALD_MATRIX").is_ok_and(|which| which == "all");
    let wanted = |when: &When| match when {
        When::Always => true,
        When::Soak => all,
        When::Cannot(_) => false,
    };
    let mut chosen: Vec<_> = matrix.cells().filter(|(_, _, when)| wanted(when)).collect();
    // What takes longest by far begins first, and the rest finds place beside it.
    chosen.sort_by_key(|(row, _, _)| *row != "both-dial");
    let trial = |(number, (row, kind, _)): (usize, (&str, Kind, &When))| {
        let (row, ground, results) = (row.to_owned(), ground.cloned(), Arc::clone(results));
        Trial::test(format!("{row}::{}", kind.name()), move || {
            let ground = ground.ok_or("only listed")?;
            let (_, work) = ROWS.iter().find(|(name, _)| *name == row).ok_or("no such row")?;
            let begin = Instant::now();
            let outcome = work(Cell { rig: &ground.rig, places: &ground.places, kind, number });
            let seconds = begin.elapsed().as_secs_f64();
            results.lock().unwrap_or_else(PoisonError::into_inner).insert((row, kind), (outcome.is_ok(), seconds));
            outcome.map_err(Failed::from)
        })
    };
    chosen.into_iter().enumerate().map(trial).collect()
}
