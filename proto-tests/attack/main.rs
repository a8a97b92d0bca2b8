//! Attacks on a session and on the machine around it: every attribute with every flags octet and lengths around the right
//! one, the inputs that brought other speakers down, hostile TCP and besieged admin doors. The judge is the wire, `/proc` of the speaker and a
//! healthy neighbour on its shortest hold time: it must hear every KEEPALIVE, and nothing else.
//!
//! Everything runs on loopback. `HERALD_ATTACK=long` takes the long forms; `HERALD_CORPORA` names the folder with messages
//! that nobody here wrote.

mod classes;
mod corpora;
mod crowd;
mod doors;
mod drip;
mod flood;
mod line;
mod line_rate;
mod octets;
#[path = "../shell/process.rs"]
#[expect(dead_code, reason = "another suite's, which needs more of it")]
mod process;
mod pure;
mod sweep;
mod table;
#[path = "../wire/tar.rs"]
mod tar;
#[path = "../wire/verdicts.rs"]
#[expect(dead_code, reason = "another suite's, which needs more of it")]
mod verdicts;
mod ward;
mod window;

/// What `process` wants to know of the routers.
mod router {
    pub const NODE_ASN: u32 = 64_512;
    pub const ROUTER_ASN: u32 = 64_513;
    pub use crate::line::PATIENCE;
}

use libtest_mimic::{Arguments, Failed, Trial};
use std::process::ExitCode;
use std::time::Instant;
use table::{Beside, SESSIONS};

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// What fits into every run of the tests.
    Short,
    /// All of it.
    Long,
}

/// What a case comes to: figures, or a sentence that says what was expected and what was seen instead.
type Case = (String, Box<dyn FnOnce() -> Result<String, String> + Send>);

fn main() -> ExitCode {
    let form = match std::env::var("HERALD_ATTACK").as_deref() {
        Ok("long") => Form::Long,
        Ok("short") | Err(_) => Form::Short,
        Ok(other) => panic!("HERALD_ATTACK is short or long, not {other}"),
    };
    let mut arguments = Arguments::from_args();
    // Five wait most of their time; beside them two cores are kept busy.
    arguments.test_threads = Some(7);
    let together =
        libtest_mimic::run(&arguments, trials([waiting(form), pure(form), live(form)].into_iter().flatten()));
    // How soon somebody is answered is measured: no more of them than there are cores.
    arguments.test_threads = Some(2);
    let besieged = libtest_mimic::run(&arguments, trials(besieged(form)));
    // What needs the machine for itself.
    arguments.test_threads = Some(1);
    let alone = libtest_mimic::run(&arguments, trials(alone(form)));
    if together.has_failed() || besieged.has_failed() || alone.has_failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn trials(cases: impl IntoIterator<Item = Case>) -> Vec<Trial> {
    let wrap = |(name, case): Case| {
        Trial::test(name.clone(), move || {
            let began = Instant::now();
            let outcome = case();
            if let Ok(figures) = &outcome {
                println!("{name} ({:.1} s): {figures}", began.elapsed().as_secs_f64());
            }
            outcome.map(drop).map_err(Failed::from)
        })
    };
    cases.into_iter().map(wrap).collect()
}

fn case(name: &str, case: impl FnOnce() -> Result<String, String> + Send + 'static) -> Case {
    (name.to_owned(), Box::new(case))
}

fn waiting(form: Form) -> Vec<Case> {
    vec![
        case("the_table_knows_nothing_of_the_program", table::knows_nothing_of_the_program),
        case("one_octet_a_second", move || drip::one_octet_a_second(form)),
        case("half_open_from_strangers", move || flood::half_open_from_strangers(form)),
        case("half_open_from_a_range", move || flood::half_open_from_a_range(form)),
        case("unfinished_of_five_ranges", move || crowd::unfinished_of_five_ranges(form)),
        case("a_full_range", crowd::a_full_range),
        case("out_of_descriptors", move || flood::out_of_descriptors(form)),
        case("a_window_that_closes", window::closes),
    ]
}

fn besieged(form: Form) -> Vec<Case> {
    let mut cases = Vec::new();
    for (siege, count) in doors::SIEGES {
        for which in [doors::Which::Port, doors::Which::Socket] {
            let name = format!("besieged_{which:?}_{siege:?}").to_lowercase();
            cases.push(case(&name, move || doors::besieged(siege, count, which, form)));
        }
    }
    cases
}

fn pure(form: Form) -> Vec<Case> {
    let mut cases = Vec::new();
    for session in SESSIONS {
        for beside in [Beside::Route, Beside::Nothing] {
            let name = format!("every_attribute_{session:?}_beside_{beside:?}").to_lowercase();
            cases.push(case(&name, move || pure::all(session, beside, form)));
        }
    }
    cases
}

fn live(form: Form) -> Vec<Case> {
    let mut cases = Vec::new();
    for session in SESSIONS {
        let name = format!("live_every_attribute_that_keeps_the_session_{session:?}").to_lowercase();
        cases.push(case(&name, move || sweep::survived(session)));
    }
    cases.extend([
        case("live_every_sort_of_reset", move || sweep::resets(form)),
        case("live_classes", classes::all),
        case("live_corpora", move || corpora::all(form)),
    ]);
    cases
}

fn alone(form: Form) -> Vec<Case> {
    vec![
        case("connects_from_strangers", move || flood::connects_from_strangers(form)),
        case("connects_from_the_neighbours_address", move || flood::connects_from_the_neighbours_address(form)),
        case("connects_from_a_range", move || flood::connects_from_a_range(form)),
        case("long_messages_at_line_rate", move || line_rate::long_messages(form)),
    ]
}
