//! The forwarding table of a router, as its kernel holds it: the judge of every case.
//!
//! Read by iproute2, both families. A multipath route comes as `nexthops`, a single one as `gateway`, and IPv6 may also
//! come as several entries of one destination: all of them end as one set of next hops.

use super::net::Namespace;
use super::{Outcome, run};
use ipnetwork::IpNetwork;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Routes that have a next hop: destination to next hops. Connected and unreachable routes are not in it.
pub type Table = BTreeMap<IpNetwork, BTreeSet<IpAddr>>;

/// How often a watcher reads the table even when nothing seems to happen.
const PERIOD: Duration = Duration::from_millis(50);

/// Reads the main table once.
///
/// # Errors
/// `ip` failed or wrote something that is no table.
pub fn read(space: &Namespace) -> Outcome<Table> {
    let mut table = Table::new();
    for family in ["-4", "-6"] {
        let text = run(Command::new("ip").args(["-n", space.name(), "-j", family, "route", "show", "table", "main"]))?;
        parse(&text, family, &mut table)?;
    }
    Ok(table)
}

/// The next hops of one destination, empty when there is no such route.
///
/// # Errors
/// The table could not be read.
pub fn next_hops(space: &Namespace, prefix: IpNetwork) -> Outcome<BTreeSet<IpAddr>> {
    Ok(read(space)?.remove(&prefix).unwrap_or_default())
}

/// Adds what `ip -j route show` wrote to a table.
fn parse(text: &str, family: &str, table: &mut Table) -> Outcome {
    if text.trim().is_empty() {
        return Ok(());
    }
    let routes: Vec<Value> = serde_json::from_str(text).map_err(|e| format!("ip wrote no JSON table: {e}: {text}"))?;
    for route in &routes {
        let Some(to) = destination(route, family) else {
            continue;
        };
        let hops = route["nexthops"].as_array().into_iter().flatten().chain([route]);
        let gateways = hops.filter_map(|hop| hop["gateway"].as_str().or(hop["via"]["host"].as_str())?.parse().ok());
        let found: BTreeSet<IpAddr> = gateways.collect();
        if !found.is_empty() {
            table.entry(to).or_default().extend(found);
        }
    }
    Ok(())
}

/// A route's destination; `default` is spelled out, a bare address is a host route.
fn destination(route: &Value, family: &str) -> Option<IpNetwork> {
    match (route["dst"].as_str()?, family) {
        ("default", "-4") => "0.0.0.0/0".parse().ok(),
        ("default", _) => "::/0".parse().ok(),
        (text, _) => text.parse().ok(),
    }
}

/// The table as it was from one instant on.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When the reading that first showed it began.
    pub at: Instant,
    /// What it held.
    pub table: Table,
}

/// Watches a table: reads it every 50 ms and at once when `ip monitor route nexthop` says something, and keeps each change.
#[derive(Debug)]
pub struct Watch {
    space: Namespace,
    changes: Receiver<Outcome<Snapshot>>,
    history: Vec<Snapshot>,
    stop: Arc<AtomicBool>,
    monitor: Child,
    threads: Vec<JoinHandle<Outcome<()>>>,
}

impl Watch {
    /// Begins to watch. The first snapshot is there when this returns.
    ///
    /// # Errors
    /// A program could not be started or the table not be read.
    pub fn begin(space: &Namespace) -> Outcome<Self> {
        let mut monitor = space
            .command("stdbuf")
            .args(["-oL", "ip", "monitor", "route", "nexthop"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("ip monitor could not be started: {e}"))?;
        let output = monitor.stdout.take().ok_or("ip monitor has no output")?;
        let (nudge, nudged) = sync_channel(1);
        let (send, changes) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let listen = space.thread("fib-monitor", move || listen(output, &nudge));
        let (flag, inside) = (Arc::clone(&stop), space.clone());
        let look = space.thread("fib-reader", move || look(&inside, &nudged, &send, &flag));
        let mut watch =
            Self { space: space.clone(), changes, history: Vec::new(), stop, monitor, threads: vec![listen, look] };
        watch.wait(Duration::from_secs(5), "the first reading", |_| Ok(()))?;
        Ok(watch)
    }

    /// Where it watches.
    pub fn space(&self) -> &Namespace {
        &self.space
    }

    /// Every state of the table so far, oldest first.
    pub fn history(&mut self) -> &[Snapshot] {
        while let Ok(Ok(snapshot)) = self.changes.try_recv() {
            self.history.push(snapshot);
        }
        &self.history
    }

    /// The table as it is now.
    pub fn now(&mut self) -> Table {
        self.history().last().map(|snapshot| snapshot.table.clone()).unwrap_or_default()
    }

    /// Waits until the table is as wanted, and says since when it is.
    ///
    /// # Errors
    /// The time is up: the text says what was wanted and what the table lacked.
    pub fn wait(&mut self, within: Duration, what: &str, want: impl Fn(&Table) -> Outcome) -> Outcome<Instant> {
        let end = Instant::now() + within;
        self.history();
        loop {
            let seen = match self.history.last() {
                None => "no reading yet".to_owned(),
                Some(snapshot) => match want(&snapshot.table) {
                    Ok(()) => return Ok(snapshot.at),
                    Err(seen) => seen,
                },
            };
            match self.changes.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Ok(snapshot)) => self.history.push(snapshot),
                Ok(Err(broken)) => return Err(broken),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("{}: waited {within:?} for {what}; last seen: {seen}", self.space.short()));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("{}: the watcher has ended", self.space.short()));
                }
            }
        }
    }

    /// Waits until a destination has exactly these next hops (none of them: no route).
    ///
    /// # Errors
    /// The time is up: the text says which next hops it had instead.
    pub fn wait_hops(&mut self, within: Duration, prefix: IpNetwork, hops: &BTreeSet<IpAddr>) -> Outcome<Instant> {
        self.wait(within, &format!("{prefix} via {hops:?}"), |table| {
            let has = table.get(&prefix).cloned().unwrap_or_default();
            if has == *hops { Ok(()) } else { Err(format!("via {has:?}")) }
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _gone_already = self.monitor.kill();
        let _reaped_already = self.monitor.wait();
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

/// Passes on that the monitor said something; a nudge that is not yet taken stands for all that follow.
fn listen(output: ChildStdout, nudge: &SyncSender<()>) {
    for _line in BufReader::new(output).lines().map_while(Result::ok) {
        let _one_is_waiting = nudge.try_send(());
    }
}

/// Reads again and again until it is told to stop, and reports what differs from the reading before.
fn look(space: &Namespace, nudged: &Receiver<()>, send: &Sender<Outcome<Snapshot>>, stop: &AtomicBool) {
    let mut last: Option<Table> = None;
    let mut readers = match Reader::pair(space) {
        Ok(readers) => readers,
        Err(broken) => {
            let _nobody_left = send.send(Err(broken));
            return;
        }
    };
    while !stop.load(Ordering::Relaxed) {
        let at = Instant::now();
        let mut table = Table::new();
        let read = readers.iter_mut().try_for_each(|reader| reader.add_to(&mut table));
        let sent = match read {
            Err(broken) => send.send(Err(broken)).is_ok(),
            Ok(()) if last.as_ref() == Some(&table) => true,
            Ok(()) => {
                last = Some(table.clone());
                send.send(Ok(Snapshot { at, table })).is_ok()
            }
        };
        if !sent {
            return;
        }
        if nudged.recv_timeout(PERIOD) == Err(RecvTimeoutError::Disconnected) {
            std::thread::sleep(PERIOD);
        }
    }
}

/// One `ip -batch` process that answers the same question as often as it is asked: cheaper than twenty processes a second.
struct Reader {
    family: &'static str,
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Reader {
    fn pair(space: &Namespace) -> Outcome<[Self; 2]> {
        Ok([Self::start(space, "-4")?, Self::start(space, "-6")?])
    }

    fn start(space: &Namespace, family: &'static str) -> Outcome<Self> {
        let mut child = space
            .command("stdbuf")
            .args(["-oL", "ip", "-j", family, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("ip could not be started: {e}"))?;
        let orders = child.stdin.take().ok_or("ip takes no orders")?;
        let answers = BufReader::new(child.stdout.take().ok_or("ip gives no answers")?);
        Ok(Self { family, child, orders, answers })
    }

    fn add_to(&mut self, table: &mut Table) -> Outcome {
        let mut line = String::new();
        self.orders
            .write_all(b"route show table main\n")
            .and_then(|()| self.answers.read_line(&mut line))
            .map_err(|e| format!("ip {} stopped answering: {e}", self.family))?;
        if line.is_empty() {
            return Err(format!("ip {} has ended", self.family));
        }
        parse(&line, self.family, table)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}
