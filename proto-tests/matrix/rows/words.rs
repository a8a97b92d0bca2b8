//! Rows about what one operator does and the other end sees.

use super::Cell;
use super::{PATIENCE, ours};
use crate::rig::{Outcome, wait_until};
use crate::session::{Dials, Session};

/// The router's operator asks for all routes again: herald sends them, and nothing goes in between.
pub fn route_refresh(cell: Cell<'_>) -> Outcome {
    let session = Session::default();
    let bed = cell.bed(&session)?;
    let (router, herald) = cell.start(&bed, &session)?;
    cell.settled(&session, &*router, &herald, &[1, 2])?;
    let sent = |name: &str| -> Outcome<u64> { Ok(herald.peer()?["sent"][name].as_u64().unwrap_or_default()) };
    let before = sent("UPDATE")?;
    router.refresh()?;
    wait_until(PATIENCE, "both families again", || {
        let (now, came) = (sent("UPDATE")?, herald.peer()?["received"]["ROUTE-REFRESH"].as_u64().unwrap_or_default());
        if came >= 2 && now >= before + 2 {
            return Ok(());
        }
        Err(format!("{came} requests received, {before} then {now} UPDATEs sent"))
    })?;
    cell.settled(&session, &*router, &herald, &[1, 2])
}

/// herald ends in order: the router shows why.
pub fn shutdown_text(cell: Cell<'_>) -> Outcome {
    let session = Session::default();
    let bed = cell.bed(&session)?;
    let (router, mut herald) = cell.start(&bed, &session)?;
    cell.settled(&session, &*router, &herald, &[1, 2])?;
    herald.terminate()?;
    wait_until(PATIENCE, "herald's text at the router", || {
        let heard = router.heard()?;
        if heard.contains("herald is stopping") { Ok(()) } else { Err(last(&heard)) }
    })?;
    wait_until(PATIENCE, "the routes to go", || {
        let has = ours(router.table()?);
        if has.is_empty() { Ok(()) } else { Err(format!("{has:?}")) }
    })
    .map(drop)
}

/// The router's operator shuts the session down with a text: herald shows it.
pub fn their_text(cell: Cell<'_>) -> Outcome {
    let session = Session { dials: Dials::Herald, ..Session::default() };
    let bed = cell.bed(&session)?;
    let (router, herald) = cell.start(&bed, &session)?;
    cell.settled(&session, &*router, &herald, &[1, 2])?;
    router.shut("maintenance until 14:30")?;
    wait_until(PATIENCE, "the router's text at herald", || {
        let peer = herald.peer()?;
        // Why the last attempt failed may be said already; the NOTIFICATION is remembered.
        let shown = peer["notifications"].to_string();
        if shown.contains("maintenance until 14:30") { Ok(()) } else { Err(peer.to_string()) }
    })
    .map(drop)
}

fn last(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
