//! Graceful restart: herald is gone for a while and the routes stay; or it goes for good and they leave at once.

use super::{Cell, PATIENCE, ours, wanted};
use crate::bed::Bed;
use crate::capture::{Capture, Message};
use crate::daemon::Router;
use crate::herald::Herald;
use crate::rig::fib::{Table, Watch};
use crate::rig::process::Process;
use crate::rig::{Outcome, wait_until};
use crate::session::{Ask, Session};
use std::thread;
use std::time::{Duration, Instant};

pub fn kill_300ms(cell: Cell<'_>) -> Outcome {
    gone_for(cell, Duration::from_millis(300), |herald| herald.kill())
}

pub fn kill_1s(cell: Cell<'_>) -> Outcome {
    gone_for(cell, Duration::from_secs(1), |herald| herald.kill())
}

pub fn kill_5s(cell: Cell<'_>) -> Outcome {
    gone_for(cell, Duration::from_secs(5), |herald| herald.kill())
}

/// A rolling update: the process ends in order and the next one takes over.
pub fn rolling(cell: Cell<'_>) -> Outcome {
    gone_for(cell, Duration::from_secs(1), |herald| herald.terminate())
}

/// Service 1 is there all the time and its routes never change. Service 2 is deleted while herald is away: its routes stay
/// until the next process has said everything, and then go at once, long before the restart time of a minute.
fn gone_for(cell: Cell<'_>, away: Duration, end: fn(&mut Herald<'_>) -> Outcome) -> Outcome {
    let session = Session::asking(&[Ask::GracefulRestart]);
    let bed = cell.bed(&session)?;
    let (router, mut herald) = cell.start(&bed, &session)?;
    cell.settled(&session, &*router, &herald, &[1, 2])?;
    told_everything(&herald)?;
    let mut guard = Guard::begin(cell, &bed, &session, &*router)?;
    end(&mut herald)?;
    guard.look(away)?;
    bed.delete(2)?;
    herald.begin()?;
    let begin = Instant::now();
    let gone = guard.until(|has| if *has == wanted(&session, &[1]) { Ok(()) } else { Err(format!("{has:?}")) });
    gone.map_err(|what| format!("{what}\nherald:\n{}\nrouter:\n{}", herald.log_end(), tail(&*router)))?;
    let took = begin.elapsed();
    told_everything(&herald)?;
    guard.look(Duration::from_secs(1))?;
    cell.settled(&session, &*router, &herald, &[1])?;
    let seen = guard.end()?;
    println!("  {} away {away:?}, what had changed was right {took:.1?} after the start; {seen}", cell.kind.name());
    Ok(())
}

/// Waits until herald has sent its whole table and End-of-RIB.
fn told_everything(herald: &Herald<'_>) -> Outcome {
    let told = wait_until(PATIENCE, "End-of-RIB to be sent", || match &herald.peer()?["session"]["endOfRib"] {
        at if at.is_string() => Ok(()),
        other => Err(other.to_string()),
    });
    told.map(drop)
}

fn tail(router: &dyn Router) -> String {
    let text = router.heard().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Watches that the routes of service 1 never change: in the kernel by `ip monitor` and by readings every 50 ms, elsewhere in
/// the router's own table as often as it answers.
struct Guard<'a> {
    keep: Table,
    router: &'a dyn Router,
    kernel: Option<(Watch, Process)>,
    readings: usize,
}

impl<'a> Guard<'a> {
    fn begin(cell: Cell<'_>, bed: &Bed, session: &Session, router: &'a dyn Router) -> Outcome<Self> {
        let kernel = if cell.kind.has_fib() {
            let mut command = bed.router.command("stdbuf");
            command.args(["-oL", "ip", "-ts", "monitor", "route", "nexthop"]);
            let monitor = Process::start(cell.rig, &format!("monitor-{}", bed.router.short()), command)?;
            Some((Watch::begin(&bed.router)?, monitor))
        } else {
            None
        };
        Ok(Self { keep: wanted(session, &[1]), router, kernel, readings: 0 })
    }

    /// The table now; fails if anything of service 1 has changed since the last call.
    fn table(&mut self) -> Outcome<Table> {
        let Some((watch, _)) = &mut self.kernel else {
            self.readings += 1;
            let table = ours(self.router.table()?);
            self.kept(&table)?;
            return Ok(table);
        };
        let history: Vec<Table> = watch.history().iter().map(|snapshot| ours(snapshot.table.clone())).collect();
        self.readings = history.len();
        history.iter().try_for_each(|table| self.kept(table))?;
        Ok(history.last().cloned().unwrap_or_default())
    }

    fn kept(&self, table: &Table) -> Outcome {
        for (prefix, hops) in &self.keep {
            let has = table.get(prefix);
            if has != Some(hops) {
                return Err(format!("{prefix} changed from {hops:?} to {has:?}"));
            }
        }
        Ok(())
    }

    fn look(&mut self, during: Duration) -> Outcome {
        let end = Instant::now() + during;
        while Instant::now() < end {
            self.table()?;
            thread::sleep(Duration::from_millis(20).min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    fn until(&mut self, want: impl Fn(&Table) -> Outcome) -> Outcome {
        let end = Instant::now() + PATIENCE;
        loop {
            let table = self.table()?;
            match want(&table) {
                Ok(()) => return Ok(()),
                Err(seen) if Instant::now() > end => {
                    return Err(format!("the routes are not right after {PATIENCE:?}: {seen}"));
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// What the monitor said of service 1's routes must be nothing.
    fn end(mut self) -> Outcome<String> {
        self.table()?;
        let Some((_, monitor)) = &self.kernel else { return Ok(format!("{} readings of its table", self.readings)) };
        let log = monitor.log();
        let words: Vec<String> = self.keep.keys().map(|prefix| prefix.ip().to_string()).collect();
        let said: Vec<&str> =
            log.lines().filter(|line| line.split_whitespace().any(|word| words.iter().any(|w| w == word))).collect();
        if said.is_empty() {
            return Ok(format!("{} states of the kernel's table, none without service 1", self.readings));
        }
        Err(format!("the kernel's routes of service 1 were touched:\n{}", said.join("\n")))
    }
}

/// The peer leaves herald's configuration: the routes go at once, although both had agreed on graceful restart.
pub fn hard_reset(cell: Cell<'_>) -> Outcome {
    let session = Session::asking(&[Ask::GracefulRestart]);
    let bed = cell.bed(&session)?;
    let capture = Capture::begin(cell.rig, &bed)?;
    let (router, herald) = cell.start(&bed, &session)?;
    cell.settled(&session, &*router, &herald, &[1, 2])?;
    let agreed = herald.peer()?["session"]["gracefulRestart"].clone();
    // Peer De-configured, inside a Hard Reset where both know it (RFC 4486 §4, RFC 8538 §3.1).
    let (want, cease): (_, &[u8]) = match cell.kind.knows_hard_reset() {
        true => ("withNotification", &[6, 9, 6, 3]),
        false => ("withoutNotification", &[6, 3]),
    };
    if agreed != want {
        return Err(format!("graceful restart was agreed on as {agreed}, not as {want}"));
    }
    herald.reload(&session.yaml_without_peer())?;
    let ((), took) = wait_until(PATIENCE, "the routes to go", || {
        let has = ours(router.table()?);
        if has.is_empty() { Ok(()) } else { Err(format!("{has:?}\n{}", tail(&*router))) }
    })?;
    wait_until(PATIENCE, "the Cease on the wire", || {
        let said: Vec<Message> = capture.messages()?.into_iter().filter(|message| message.kind == 3).collect();
        if said.iter().any(|message| message.body == cease) { Ok(()) } else { Err(format!("{said:?}")) }
    })?;
    println!("  {} gone {took:.1?} after the signal, {cease:?}", cell.kind.name());
    if took <= Duration::from_secs(5) { Ok(()) } else { Err(format!("the routes went only after {took:?}")) }
}
