//! Both ends dial at once, again and again: one session comes of it (RFC 4271 §6.8).

use super::{Cell, PATIENCE};
use crate::bed::Bed;
use crate::daemon::Kind;
use crate::rig::net::feed;
use crate::rig::{Outcome, wait_until};
use crate::session::{Dials, OUR_PORT, Session};
use std::collections::BTreeMap;
use std::process::Command;

/// Rounds in `make test`; HERALD_MATRIX_DIALS asks for another number.
const ROUNDS: u32 = 10;

/// Attempts that a round may take. Jitter parts the ends after the first: a third attempt was seen once in about 1,000 rounds.
const ATTEMPTS: u64 = 4;

fn rounds(kind: Kind) -> Outcome<u32> {
    let Ok(text) = std::env::var("HERALD_MATRIX_DIALS") else { return Ok(ROUNDS) };
    let wanted: u32 = text.parse().map_err(|e| format!("HERALD_MATRIX_DIALS={text}: {e}"))?;
    // GoBGP waits a quarter of a minute before it dials again.
    Ok(if kind == Kind::GoBgp { wanted.div_ceil(5).max(ROUNDS) } else { wanted })
}

/// What is sent over TCP is held back until each end has a connection of its own to the other, so that every round is a
/// collision: OPENs cross on both.
pub fn both_dial(cell: Cell<'_>) -> Outcome {
    let rounds = rounds(cell.kind)?;
    let session = Session { dials: Dials::Each, ..Session::default() };
    let bed = cell.bed(&session)?;
    let router = cell.places.start(cell.kind, cell.rig, &bed, &session)?;
    let mut attempts = BTreeMap::new();
    for round in 1..=rounds {
        let in_round = |what: String| format!("round {round}: {what}");
        hold_back(&bed)?;
        let mut herald = crate::herald::Herald::start(cell.rig, &bed, &session.yaml())?;
        wait_until(PATIENCE, "a connection of each end", || {
            let (ours, theirs) = connections(&bed)?;
            if ours > 0 && theirs > 0 { Ok(()) } else { Err(format!("{ours} of herald's, {theirs} of the router's")) }
        })
        .map_err(in_round)?;
        let_through(&bed)?;
        cell.settled(&session, &*router, &herald, &[1, 2]).map_err(in_round)?;
        wait_until(PATIENCE, "one connection alone to be left", || match connections(&bed)? {
            (1, 0) | (0, 1) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .map_err(in_round)?;
        let peer = herald.peer()?;
        // Where one end is Established before the other has heard its OPEN, each closes another connection, as RFC 4271 §6.8
        // has it, and the next attempt is the session; unless both ends dial at once by chance, and it comes out so again.
        match peer["establishedCount"].as_u64() {
            Some(count @ 1..=ATTEMPTS) => *attempts.entry(count).or_insert(0) += 1,
            other => return Err(in_round(format!("Established was reached {other:?} times: {peer}"))),
        }
        herald.terminate()?;
        wait_until(PATIENCE, "the routes to go", || {
            if super::ours(router.table()?).is_empty() { Ok(()) } else { Err("they are there".to_owned()) }
        })
        .map_err(in_round)?;
    }
    println!("  {} {rounds} collisions, each ended in one session; rounds by attempts: {attempts:?}", cell.kind.name());
    Ok(())
}

/// Established connections that herald dialled, and those that the router dialled.
fn connections(bed: &Bed) -> Outcome<(usize, usize)> {
    let count = |filter: &str| -> Outcome<usize> {
        let text = bed.speaker.run("ss", &["-tnH", "state", "established", filter])?;
        Ok(text.lines().count())
    };
    Ok((count("dport = :179")?, count(&format!("sport = :{OUR_PORT}"))?))
}

/// From here on only empty segments pass: connections are made, and nothing is said on them.
fn hold_back(bed: &Bed) -> Outcome {
    let table = "table inet hold {\n chain in { type filter hook input priority 0; tcp flags & psh == psh drop; }\n \
                 chain out { type filter hook output priority 0; tcp flags & psh == psh drop; }\n}\n";
    nft(bed, table)
}

fn let_through(bed: &Bed) -> Outcome {
    nft(bed, "delete table inet hold\n")
}

fn nft(bed: &Bed, text: &str) -> Outcome {
    feed(Command::new("nsenter").arg(format!("--net={}", bed.speaker.path())).args(["nft", "-f", "-"]), text)
}
