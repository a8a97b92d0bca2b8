//! Routers of ranges that come in numbers: honest ones are not sent away for that, and what others leave unfinished is bounded
//! over all of them.

use crate::Form;
use crate::flood::room_for_many;
use crate::line::{Heard, Line, PATIENCE, fresh};
use crate::octets::{LONG_MESSAGES, Who, header};
use crate::table::EXTERNAL_ASN;
use crate::ward::{Bounds, Peak, Ward};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Second octets of 127.N.0.0/12 of the ranges here.
const BLOCKS: [u8; 5] = [32, 48, 80, 112, 144];
/// Routers of one range at a time.
const RANGE_LIMIT: usize = 256;
/// Octets that may be unfinished in all.
const UNFINISHED: usize = 28 * 1024 * 1024;
/// The memory that these may take, in KiB.
const MEMORY_KIB: u64 = 32 * 1024;
/// What an allocator may keep of memory that is free again, in KiB.
const BESIDE_KIB: u64 = 8 * 1024;
/// Turned away at once, more than are waited for.
const TOO_MANY: usize = 40;

fn ranges() -> String {
    let line = |block: &u8| {
        format!(
            "- {{name: crowd{block}, range: 127.{block}.0.0/12, asn: {EXTERNAL_ASN}, holdTime: 180s, extendedMessages: true}}\n"
        )
    };
    BLOCKS.iter().map(line).collect()
}

fn who() -> Who {
    Who::new(EXTERNAL_ASN, 180).with(LONG_MESSAGES)
}

/// Dials so many times before the first word is said, then has all of them get a session.
fn at_once(block: u8, count: usize, speaker: SocketAddr) -> Result<Vec<Line>, String> {
    let mut lines = (0..count).map(|_| Line::dial(fresh(block), speaker)).collect::<Result<Vec<_>, _>>()?;
    for (number, line) in lines.iter_mut().enumerate() {
        line.establish(&who()).map_err(|what| format!("router {number} of {count} that dialled at once: {what}"))?;
    }
    Ok(lines)
}

/// As many routers as a range may have dial at once and all come up; those beyond are told so, as long as it is so.
pub fn a_full_range() -> Result<String, String> {
    room_for_many();
    let ward = Ward::start(&ranges())?;
    let began = Instant::now();
    let mut lines = at_once(BLOCKS[0], RANGE_LIMIT, ward.speaker)?;
    let all_up = began.elapsed();
    let mut beyond =
        (0..TOO_MANY).map(|_| Line::dial(fresh(BLOCKS[0]), ward.speaker)).collect::<Result<Vec<_>, _>>()?;
    for line in &mut beyond {
        // It may be closed by now.
        let _told_already = line.say(&who().open());
        match line.last_words()? {
            Some(told) if (told.code, told.subcode) == (6, 5) => {}
            other => return Err(format!("one beyond the limit of its range is told {other:?}")),
        }
    }
    drop(beyond);
    let said = |ward: &Ward| ward.stage.ask("/readyz").1.contains("RangeFull crowd32");
    ward.wait("RangeFull is said", said)?;
    // Every one of them is still up, and one that leaves makes room.
    for line in &mut lines {
        line.drain()?;
    }
    drop(lines.pop());
    ward.wait("RangeFull is no longer said", |ward| !said(ward))?;
    lines.push(Line::established(fresh(BLOCKS[0]), ward.speaker, &who())?);
    let mut peak = Peak::default();
    peak.see(&ward);
    drop(lines);
    let bounds = Bounds { growth_kib: 32 * 1024, ..Bounds::default() };
    let told = format!("{RANGE_LIMIT} that dialled at once were up after {all_up:.1?}, {TOO_MANY} more told 6/5");
    Ok(format!("{told}; {}", ward.unharmed(bounds, peak)?))
}

/// Five ranges full of routers that each leave the longest message unfinished.
pub fn unfinished_of_five_ranges(form: Form) -> Result<String, String> {
    room_for_many();
    let ward = Ward::start(&ranges())?;
    let each = if form == Form::Long { RANGE_LIMIT } else { 160 };
    let started = ward.vitals().rss_kib;
    let mut lines = Vec::new();
    for block in BLOCKS {
        lines.extend(at_once(block, each, ward.speaker)?);
    }
    let sessions = ward.vitals().rss_kib;
    let mut peak = Peak::default();
    let part = header(65_535, 2, &[0; 65_000 - 19]);
    for (number, line) in lines.iter_mut().enumerate() {
        line.say(&part)?;
        if number % 8 == 0 {
            peak.see(&ward);
        }
    }
    let left = UNFINISHED / part.len();
    let wanted = lines.len() - left;
    let (mut crowded, began) = (0, Instant::now());
    while crowded < wanted {
        let mut staying = Vec::new();
        for mut line in lines {
            match line.next(Duration::ZERO) {
                Heard::Silence | Heard::Message(..) => staying.push(line),
                Heard::Told(told) if (told.code, told.subcode) == (6, 8) => crowded += 1,
                other => return Err(format!("one that there is no room for hears {other:?}")),
            }
        }
        lines = staying;
        peak.see(&ward);
        if began.elapsed() > PATIENCE {
            return Err(format!(
                "only {crowded} of {wanted} were told that there is no room; {:?}, {peak:?}",
                ward.vitals()
            ));
        }
    }
    if crowded > wanted + 8 {
        return Err(format!("{crowded} were told that there is no room, of {wanted} for which there is none"));
    }
    let grown = peak.rss_kib.saturating_sub(sessions);
    if grown > MEMORY_KIB {
        return Err(format!("{grown} KiB for unfinished messages; the sessions alone: {sessions} KiB"));
    }
    drop(lines);
    // Each range has its own budget of lines.
    let bounds = Bounds { growth_kib: sessions - started + MEMORY_KIB, lines_per_second: 25.0, ..Bounds::default() };
    ward.wait("the memory is given back", |ward| ward.vitals().rss_kib < sessions + BESIDE_KIB)?;
    let after = ward.vitals().rss_kib;
    let told = format!(
        "{crowded} of {} told 6/8; {sessions} KiB with their sessions, {grown} more with their messages, {after} after",
        each * BLOCKS.len()
    );
    Ok(format!("{told}; {}", ward.unharmed(bounds, peak)?))
}
