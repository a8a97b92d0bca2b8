//! The first table: so many /32 to one peer, from Established to the last octet.

use super::Effort;
use super::contestants::Contestant;
use super::receiver::{Measure, Receiver};
use crate::rig::net::Namespace;
use crate::rig::{Outcome, Rig};
use std::time::Duration;

/// The time that herald may take for 100,000 /32.
const LIMIT: Duration = Duration::from_millis(50);

/// One contestant's rounds.
struct Result {
    contestant: Contestant,
    rounds: Vec<Measure>,
    rss_kib: Option<u64>,
}

impl Result {
    /// The round whose time is the median.
    fn median(&self) -> &Measure {
        &self.rounds[self.rounds.len() / 2]
    }
}

/// Measures everybody in turn, prints the table, and compares herald with its limits.
///
/// # Errors
/// Somebody could not be measured, or herald's table is wrong, or (at full effort) too slow.
pub fn run(rig: &Rig, _space: &Namespace, effort: Effort) -> Outcome {
    let (routes, rounds) = match effort {
        Effort::Smoke => (5_000, 1),
        Effort::Full => (100_000, 5),
    };
    println!("{routes} /32 to one peer, from Established to the last octet; {rounds} rounds, median");
    println!(
        "{:<18} {:>10} {:>10} {:>10} {:>8} {:>4} {:>10} {:>9}",
        "", "last, ms", "slowest", "first, ms", "UPDATEs", "EoR", "octets", "RSS, MB"
    );
    let mut herald = None;
    for contestant in Contestant::ALL {
        let result = measure(rig, contestant, routes, rounds).map_err(|e| format!("{}: {e}", contestant.name()))?;
        print(&result);
        if contestant == Contestant::Herald {
            herald = Some(result);
        }
    }
    judge(&herald.ok_or("herald was not measured")?, routes, effort)
}

fn measure(rig: &Rig, contestant: Contestant, routes: u32, rounds: usize) -> Outcome<Result> {
    let receiver = Receiver::listen()?;
    let mut running = contestant.start(rig, receiver.port()?, routes)?;
    let mut measures = Vec::new();
    for _ in 0..rounds {
        running.prepare();
        let measure = receiver.accept().and_then(|line| line.table(routes as usize));
        measures.push(measure.map_err(|e| format!("{e}\n{}", running.log_end()))?);
    }
    measures.sort_by_key(|measure| measure.last);
    Ok(Result { contestant, rounds: measures, rss_kib: running.rss() })
}

fn print(result: &Result) {
    let median = result.median();
    let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1000.0);
    let slowest = result.rounds.last().map_or(median.last, |slowest| slowest.last);
    println!(
        "{:<18} {:>10} {:>10} {:>10} {:>8} {:>4} {:>10} {:>9}",
        result.contestant.name(),
        ms(median.last),
        ms(slowest),
        ms(median.first),
        median.updates,
        median.end_of_rib,
        median.octets,
        result.rss_kib.map_or("-".to_owned(), |kib| format!("{:.1}", kib as f64 / 1024.0)),
    );
}

/// 4096 octets hold 810 /32 with the attributes that eBGP demands; no message may be wasted, and End-of-RIB
/// comes once for each of the two families that the receiver offers.
fn judge(herald: &Result, routes: u32, effort: Effort) -> Outcome {
    let wanted = (routes as usize).div_ceil(810);
    for round in &herald.rounds {
        if (round.updates, round.end_of_rib, round.prefixes) != (wanted, 2, routes as usize) {
            return Err(format!(
                "herald should send {routes} prefixes in {wanted} UPDATEs and End-of-RIB; it sent {round:?}"
            ));
        }
    }
    let took = herald.median().last;
    match effort {
        Effort::Full if took > LIMIT => Err(format!("herald took {took:?}; at most {LIMIT:?} are allowed")),
        Effort::Full | Effort::Smoke => Ok(()),
    }
}
