//! Routers that say one octet a second.

use crate::Form;
use crate::line::{Heard, Line, PATIENCE, fresh};
use crate::octets::{Told, Who, attribute, keepalive, update};
use crate::table::EXTERNAL_ASN;
use crate::ward::{Bounds, EXTERNAL, Peak, Ward};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long an accepted connection may take for its OPEN.
const OPEN_HOLD: Duration = Duration::from_secs(30);
/// What the speaker offers in the ranges.
const HOLD: Duration = Duration::from_secs(9);
/// How much later than due an answer may come.
const LATE: Duration = Duration::from_secs(3);

/// An end that has to come, and when.
struct End {
    told: (u8, u8),
    after: Duration,
}

/// OPENs, KEEPALIVEs and UPDATEs in drops: the hold timers count whole messages, so each comes to its end at its time.
pub fn one_octet_a_second(form: Form) -> Result<String, String> {
    let ward = Ward::start("")?;
    let each = if form == Form::Long { 60 } else { 16 };
    let mut drops: Vec<JoinHandle<Result<(), String>>> = Vec::new();
    let speaker = ward.speaker;
    let before = ward.vitals().descriptors;
    for round in 1..=each {
        drops.push(thread::spawn(move || {
            // Thirty octets of capabilities more than there is time for.
            let open = Who::new(EXTERNAL_ASN, 90).with(&[200, 40]).with(&[0; 40]).open();
            let line = Line::dial(fresh(EXTERNAL), speaker)?;
            drip(line, &open, &End { told: (4, 0), after: OPEN_HOLD })
        }));
        for octets in [keepalive(), update(&[], &attribute(0xc0, 200, &[0; 30]), &[])] {
            drops.push(thread::spawn(move || {
                let line = Line::established(fresh(EXTERNAL), speaker, &Who::new(EXTERNAL_ASN, 90))?;
                drip(line, &octets, &End { told: (4, 0), after: HOLD })
            }));
        }
        // Only so many may wait at the door at once.
        ward.wait("the dripping routers are in", |ward| ward.vitals().descriptors >= before + 3 * round)?;
    }
    let mut peak = Peak::default();
    while !drops.iter().all(JoinHandle::is_finished) {
        peak.see(&ward);
        thread::sleep(Duration::from_millis(250));
    }
    for drop in drops {
        drop.join().map_err(|_| "a dripping router panicked")??;
    }
    let told = format!("{each} OPENs ended after {OPEN_HOLD:?}, {each} KEEPALIVEs and {each} UPDATEs after {HOLD:?}");
    Ok(format!("{told}; {}", ward.unharmed(Bounds::default(), peak)?))
}

fn drip(mut line: Line, octets: &[u8], end: &End) -> Result<(), String> {
    let began = Instant::now();
    for (at, octet) in octets.iter().enumerate() {
        if line.say(&[*octet]).is_err() {
            break;
        }
        let next = began + Duration::from_secs(at as u64 + 1);
        loop {
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match line.next(left) {
                Heard::Message(..) | Heard::Silence => {}
                Heard::Told(told) => return judge(&told, began.elapsed(), end, &mut line),
                other => return Err(format!("{other:?} after {:?}", began.elapsed())),
            }
        }
    }
    match line.next(PATIENCE) {
        Heard::Told(told) => judge(&told, began.elapsed(), end, &mut line),
        other => Err(format!("all of it was taken; then {other:?}")),
    }
}

fn judge(told: &Told, after: Duration, end: &End, line: &mut Line) -> Result<(), String> {
    if (told.code, told.subcode) != end.told || after < end.after.mul_f64(0.95) || after > end.after + LATE {
        return Err(format!("told {told:?} after {after:?} instead of {:?} after {:?}", end.told, end.after));
    }
    line.last_words().map(drop)
}
