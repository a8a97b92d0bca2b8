//! Log lines of the processes that run for long.
//!
//! Lines go through a bounded queue to a thread that alone writes. A reader that has gone or does not read, or a full disk, costs
//! lines, which are counted and said when lines can be written again: never a standstill, nor the process.

use prometheus_client::metrics::counter::Counter;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::Duration;
use tracing::{error, warn};
use tracing_subscriber::EnvFilter;

/// What is logged unless HERALD_LOG says otherwise.
const DEFAULT_FILTER: &str = "info";
/// The client library complains of each failed request once more, without saying which; our own lines say it, once an outage.
/// Who wants to read it says so: what HERALD_LOG says of it goes before this.
const REPEATED: &str = "kube_client::client=off";
/// The words for what is logged.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Lines that wait to be written, at most, and their octets.
const LINES: usize = 4096;
const OCTETS: usize = 1 << 20;
/// How long the end of the process waits for what is still to be written, in all, and a step of it.
const LAST_STEPS: u32 = 10;
const LAST_STEP: Duration = Duration::from_millis(10);
/// How soon a standard error that can take nothing now is tried again.
const AGAIN: Duration = Duration::from_millis(20);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line for people
    Text,
    /// A JSON object a line
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum NoLog {
    /// A part of HERALD_LOG that would silence everything, or nothing.
    #[error(
        "HERALD_LOG: '{0}' says no level: write one of {levels}, or TARGET=LEVEL such as herald=debug, separated by commas",
        levels = LEVELS.join(", ")
    )]
    NoLevel(String),
    /// HERALD_LOG is no filter for another reason.
    #[error("HERALD_LOG is not a filter such as 'info' or 'herald=debug': {0}")]
    BadFilter(#[from] tracing_subscriber::filter::ParseError),
    /// The process may have no more threads or descriptors.
    #[error("cannot begin to write log lines: {0}")]
    Writer(#[from] io::Error),
}

/// The log of this process; [`Log::finish`] ends it.
#[derive(Debug)]
pub struct Log(Queue);

/// Begins to write log lines to standard error; panics are among them.
///
/// # Errors
/// HERALD_LOG is no filter, or there is no thread to be had.
pub fn begin_logging(format: LogFormat) -> Result<Log, NoLog> {
    let filter = filter(&std::env::var("HERALD_LOG").unwrap_or_default())?;
    // A descriptor of its own: whoever writes to standard error otherwise holds a lock of the library meanwhile.
    let to = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let (queue, waiting) = Queue::new();
    let written = queue.clone();
    thread::Builder::new().name("log".to_owned()).spawn(move || written.write_all_of(&waiting, to))?;
    let writer = queue.clone();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone());
    match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = thread::current();
        let thread = thread.name().unwrap_or("without a name");
        error!(place, thread, "panicked: {}", panic.payload_as_str().unwrap_or("no words"));
    }));
    Ok(Log(queue))
}

impl Log {
    /// Counts the lines that were lost.
    pub fn lost(&self) -> Counter {
        self.0.lost_ever.clone()
    }

    /// Gives what is still to be written a tenth of a second: the end of a process does not wait for whoever reads its log.
    pub fn finish(self) {
        let (done, is_done) = mpsc::sync_channel(1);
        let mut last = Entry::Last(done);
        for _ in 0..LAST_STEPS {
            match self.0.entries.try_send(last) {
                Ok(()) => {
                    // Written or not: this is the end.
                    let _written = is_done.recv_timeout(LAST_STEPS * LAST_STEP);
                    return;
                }
                Err(TrySendError::Full(again)) => last = again,
                Err(TrySendError::Disconnected(_)) => return,
            }
            thread::sleep(LAST_STEP);
        }
    }
}

/// The filter that HERALD_LOG says. A word that is no level would be taken for the name of a module, and silence all others.
fn filter(said: &str) -> Result<EnvFilter, NoLog> {
    let said = if said.trim().is_empty() { DEFAULT_FILTER } else { said };
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    // Spans in brackets may hold commas and equals signs of their own: those are left to the parser.
    if !said.contains('[') {
        for directive in said.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
            if !is_level(level.trim()) {
                return Err(NoLog::NoLevel(directive.to_owned()));
            }
        }
    }
    Ok(EnvFilter::builder().parse(format!("{REPEATED},{said}"))?)
}

enum Entry {
    Line(Vec<u8>),
    /// Everything before it has been written when this is answered.
    Last(SyncSender<()>),
}

/// Lines on their way; a clone adds to the same queue.
#[derive(Debug, Clone)]
struct Queue {
    entries: SyncSender<Entry>,
    octets: Arc<AtomicUsize>,
    /// Lines lost since one was written.
    lost: Arc<AtomicU64>,
    /// And ever.
    lost_ever: Counter,
}

impl Queue {
    fn new() -> (Self, Receiver<Entry>) {
        let (entries, waiting) = mpsc::sync_channel(LINES);
        (Self { entries, octets: Arc::default(), lost: Arc::default(), lost_ever: Counter::default() }, waiting)
    }

    fn lose_one(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.lost_ever.inc();
    }

    /// The work of the thread that writes.
    fn write_all_of(&self, waiting: &Receiver<Entry>, mut to: impl Write) {
        for entry in waiting {
            match entry {
                Entry::Line(line) => {
                    let written = put(&mut to, &line);
                    self.octets.fetch_sub(line.len(), Ordering::Relaxed);
                    match written {
                        Err(_) => self.lose_one(),
                        // Only now that lines arrive again: it is one itself.
                        Ok(()) => match self.lost.swap(0, Ordering::Relaxed) {
                            0 => {}
                            lost => {
                                warn!(lost, "{lost} lines before this one were not written: nobody took them in time")
                            }
                        },
                    }
                }
                // Who asked may have gone.
                Entry::Last(done) => drop(done.try_send(())),
            }
        }
    }
}

/// The subscriber writes a line at once.
impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let before = self.octets.fetch_add(line.len(), Ordering::Relaxed);
        if before + line.len() > OCTETS || self.entries.try_send(Entry::Line(line.to_owned())).is_err() {
            self.octets.fetch_sub(line.len(), Ordering::Relaxed);
            self.lose_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a line, and waits while nothing can be taken, also where standard error does not block.
fn put(to: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match to.write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => line = &line[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(AGAIN),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_level_is_refused_with_the_levels() {
        for bad in ["verbose", "herald=verbose", "info,herald", "herald"] {
            let refused = filter(bad).unwrap_err().to_string();
            assert!(refused.contains("off, error, warn, info, debug, trace"), "{bad}: {refused}");
        }
        for good in ["", "info", "WARN", "herald=debug", "info,herald::net=trace", "off", "herald[peer]=debug"] {
            filter(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        assert!(filter("info").unwrap().to_string().contains(REPEATED));
    }

    #[test]
    fn a_queue_that_nobody_empties_loses_lines_and_holds_up_nobody() {
        let (mut queue, waiting) = Queue::new();
        for _ in 0..LINES + 7 {
            queue.write_all(b"line\n").unwrap();
        }
        assert_eq!(queue.lost.load(Ordering::Relaxed), 7);
        Log(queue.clone()).finish();
        let (mut long, _waiting) = Queue::new();
        for _ in 0..3 {
            long.write_all(&[b'x'; OCTETS / 2]).unwrap();
        }
        assert_eq!(long.lost.load(Ordering::Relaxed), 1, "octets count too");
        assert_eq!(waiting.try_iter().count(), LINES, "what was taken is still there, in order");
    }

    /// Takes so many octets a call, and every third call nothing.
    struct Slow(Vec<u8>, u32);

    impl Write for Slow {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.1 += 1;
            if self.1.is_multiple_of(3) {
                return Err(ErrorKind::WouldBlock.into());
            }
            let count = octets.len().min(4);
            self.0.extend_from_slice(&octets[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_standard_error_that_does_not_block_gets_whole_lines() {
        let mut slow = Slow(Vec::new(), 0);
        put(&mut slow, b"one line of some octets\n").unwrap();
        assert_eq!(slow.0, b"one line of some octets\n");
    }

    /// A disk that is full for so many calls.
    struct Full(Arc<std::sync::Mutex<Vec<u8>>>, u32);

    impl Write for Full {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.1 = self.1.saturating_sub(1);
            if self.1 > 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.0.lock().unwrap().write(octets)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_was_lost_is_counted_and_said_when_lines_arrive_again() {
        let (queue, waiting) = Queue::new();
        let (written, writer, lost) = (Arc::default(), queue.clone(), queue.lost_ever.clone());
        let full = Full(Arc::clone(&written), 4);
        let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let writes = thread::spawn(move || {
            tracing::subscriber::with_default(lines, || {
                for line in ["first", "second", "third", "fourth"] {
                    warn!("{line}");
                }
                queue.write_all_of(&waiting, full);
            });
        });
        let said = || String::from_utf8(written.lock().unwrap().clone()).unwrap();
        while !said().contains("were not written") {
            assert!(!writes.is_finished());
            thread::yield_now();
        }
        assert!(said().contains("fourth") && said().contains("3 lines before this one were not written"), "{}", said());
        assert!(!said().contains("third"));
        assert_eq!(lost.get(), 3);
    }
}
