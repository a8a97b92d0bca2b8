//! The table on a live speaker. What keeps a session goes down one session in a stream, and the speaker's counters are read
//! after each type; what ends one needs a session each, and is read off the wire.

use crate::Form;
use crate::line::{Line, fresh};
use crate::octets::REFRESHES;
use crate::pure::who;
use crate::table::{Beside, SESSIONS, Shot, is_known, shots};
use crate::verdicts::{Expected, Session};
use crate::ward::{Bounds, EXTERNAL, INTERNAL, Peak, Ward};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// The range that routers of this kind dial from: its name, and an address of it.
fn home(session: Session) -> (&'static str, Ipv4Addr) {
    match session {
        Session::External | Session::Old => ("external", fresh(EXTERNAL)),
        Session::Internal | Session::OldInternal => ("internal", fresh(INTERNAL)),
    }
}

/// What the speaker counted on one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counted {
    updates: u64,
    faults: u64,
    withdrawn: u64,
}

fn counted(ward: &Ward, name: &str) -> Result<Counted, String> {
    let peer = ward.peer(name);
    if peer["state"] != "Established" {
        return Err(format!("the session is over: {peer}"));
    }
    let (faults, withdrawn) = Ward::faults(&peer);
    Ok(Counted { updates: peer["received"]["UPDATE"].as_u64().unwrap_or(0), faults, withdrawn })
}

/// Everything of the table that a session survives, on one session.
pub fn survived(session: Session) -> Result<String, String> {
    let ward = Ward::start("")?;
    let (range, source) = home(session);
    let name = format!("{range}/{source}");
    let mut line = Line::established(source, ward.speaker, &who(session).with(REFRESHES))?;
    let mut counts: BTreeMap<Expected, u64> = BTreeMap::new();
    let (mut wanted, mut peak) = (Counted::default(), Peak::default());
    for code in 0..=255 {
        let mut octets = Vec::new();
        for shot in shots(session, Beside::Route, code) {
            let verdict = shot.expected();
            if verdict == Expected::Reset {
                continue;
            }
            octets.extend(shot.octets());
            wanted.updates += 1;
            wanted.faults += u64::from(verdict != Expected::Good);
            wanted.withdrawn += u64::from(verdict == Expected::Withdraw);
            *counts.entry(verdict).or_default() += 1;
        }
        line.say(&octets)?;
        line.in_step().map_err(|what| format!("type {code}: {what}"))?;
        let counted = counted(&ward, &name).map_err(|what| format!("type {code}: {what}"))?;
        if counted != wanted {
            return Err(format!("type {code}: counted {counted:?} instead of {wanted:?}"));
        }
        peak.see(&ward);
    }
    drop(line);
    Ok(format!("{counts:?}; {}", ward.unharmed(Bounds::default(), peak)?))
}

/// One of every sort of reset, for some unknown types or for all: the NOTIFICATION with its data, then an orderly end. (Each
/// value of the flags is in `pure`: half a million resets, of which a live session would show nothing more.)
pub fn resets(form: Form) -> Result<String, String> {
    let ward = Ward::start("")?;
    let mut peak = Peak::default();
    let mut counts: BTreeMap<(u8, u8), usize> = BTreeMap::new();
    for shot in SESSIONS.into_iter().flat_map(|session| reset_by(session, form)) {
        let (_, source) = home(shot.session);
        let mut line = Line::established(source, ward.speaker, &who(shot.session))
            .map_err(|what| format!("after {counts:?}: {what}"))?;
        line.say(&shot.octets())?;
        let (told, wanted) = (line.last_words()?, shot.told());
        if told.as_ref() != Some(&wanted) {
            return Err(format!("{shot:?}: told {told:?} instead of {wanted:?}"));
        }
        let count = counts.entry((wanted.code, wanted.subcode)).or_default();
        *count += 1;
        if (*count).is_multiple_of(32) {
            peak.see(&ward);
        }
    }
    // Thousands of routers come and go: two ranges remember the newest 256 of each, and there the growth ends.
    let growth_kib = if form == Form::Long { 24 * 1024 } else { Bounds::default().growth_kib };
    let bounds = Bounds { growth_kib, ..Bounds::default() };
    Ok(format!("sessions reset, by NOTIFICATION: {counts:?}; {}", ward.unharmed(bounds, peak)?))
}

fn reset_by(session: Session, form: Form) -> Vec<Shot> {
    let mut seen = BTreeSet::new();
    // Unknown types differ by their number only: in the short form some of them, over one kind of session.
    let chosen =
        |code: &u8| form == Form::Long || is_known(*code, session) || (session == Session::External && code % 16 == 8);
    let of =
        move |code| [Beside::Route, Beside::Nothing].map(|beside| shots(session, beside, code)).into_iter().flatten();
    let all = (0..=255).filter(chosen).flat_map(of).filter(|shot| shot.expected() == Expected::Reset);
    all.filter(|shot| seen.insert((shot.beside == Beside::Route, shot.code, shot.class()))).collect()
}
