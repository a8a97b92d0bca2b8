//! What an attack must leave as it was: a speaker, and a healthy neighbour on its shortest hold time.

use crate::line::{Heard, Line, PATIENCE};
use crate::octets::{Who, keepalive};
use crate::process::{Stage, node, service};
use crate::router::NODE_ASN;
use crate::table::EXTERNAL_ASN;
use serde_json::Value;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The neighbour's hold time in seconds.
pub const HOLD: u16 = 6;
/// Two of the speaker's KEEPALIVEs, a third of the hold time apart at most, have one missed between them then.
const MISSED: Duration = Duration::from_secs(4);

/// Ranges of routers that may dial: name, second octet of 127.N.0.0/12, AS, and whether long messages are offered to them.
pub const RANGES: [(&str, u8, u16, &str); 5] = [
    ("external", EXTERNAL, EXTERNAL_ASN, "false"),
    ("internal", INTERNAL, NODE_ASN as u16, "false"),
    ("frr", 128, 65_002, "false"),
    ("openbsd", 160, 64_502, "false"),
    ("long", LONG, EXTERNAL_ASN, "true"),
];
/// The external one.
pub const EXTERNAL: u8 = 64;
/// The internal one.
pub const INTERNAL: u8 = 96;
/// The one with long messages (RFC 8654).
pub const LONG: u8 = 192;

/// A speaker with a healthy neighbour.
pub struct Ward {
    pub stage: Stage,
    /// Where routers dial.
    pub speaker: SocketAddr,
    neighbour: Neighbour,
    before: Vitals,
    lines_before: usize,
    began: Instant,
}

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vitals {
    pub rss_kib: u64,
    pub descriptors: usize,
    /// Processor time so far, in hundredths of a second.
    pub ticks: u64,
}

/// What an attack may cost.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How much larger the process may be at its largest, and afterwards.
    pub growth_kib: u64,
    /// Lines a second in the log, beyond [`FREE_LINES`].
    pub lines_per_second: f64,
    /// The longest silence on the healthy session.
    pub silence: Duration,
}

/// Lines in the log that an attack may cause at once: each of three ranges may say 64, and that there was more.
const FREE_LINES: f64 = 240.0;

impl Default for Bounds {
    fn default() -> Self {
        Self { growth_kib: 16 * 1024, lines_per_second: 5.0, silence: MISSED }
    }
}

impl Ward {
    /// A speaker that announces one service, with more lines for its configuration's list of peers, and its neighbour.
    pub fn start(more_peers: &str) -> Result<Self, String> {
        Self::holding(HOLD, more_peers)
    }

    /// The same with a neighbour that keeps another hold time, in seconds.
    pub fn holding(hold: u16, more_peers: &str) -> Result<Self, String> {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 1), 0)).map_err(|error| error.to_string())?;
        let speaker = listener.local_addr().map_err(|error| error.to_string())?;
        drop(listener);
        let neighbour = Neighbour::start(hold)?;
        let mut stage = Stage::new();
        stage.write("manifests/node.yaml", &node("n1", ""));
        stage.write("manifests/web.yaml", &service("web", &["198.51.100.7".to_owned()]));
        stage.write("herald.yaml", &config(speaker, neighbour.address, hold, more_peers));
        stage.start("n1");
        neighbour.wait_for([198, 51, 100, 7])?;
        stage.wait_for_log("listening for routers");
        // Once warm, so that what everybody pays is not laid at the attack's door.
        let visitor = Line::established(crate::line::fresh(EXTERNAL), speaker, &Who::new(EXTERNAL_ASN, 9))?;
        let before = vitals(&stage);
        let ward = Self { stage, speaker, neighbour, before, lines_before: 0, began: Instant::now() };
        drop(visitor);
        ward.wait("the first visitor is gone", |ward| vitals(&ward.stage).descriptors < ward.before.descriptors)?;
        let (before, lines_before) = (vitals(&ward.stage), log_lines(&ward.stage));
        Ok(Self { before, lines_before, ..ward })
    }

    pub fn vitals(&self) -> Vitals {
        vitals(&self.stage)
    }

    /// From here on everything is the attack's.
    pub fn settle(&mut self) {
        (self.before, self.lines_before, self.began) = (self.vitals(), log_lines(&self.stage), Instant::now());
    }

    /// A service goes, and the healthy neighbour hears it; how long that took.
    pub fn withdraws(&self) -> Result<Duration, String> {
        let began = Instant::now();
        self.stage.remove("manifests/web.yaml");
        // One host route withdrawn, and a length of no attributes after it.
        self.neighbour.wait_for([100, 7, 0, 0])?;
        Ok(began.elapsed())
    }

    /// The address of the healthy neighbour.
    pub fn neighbour(&self) -> Ipv4Addr {
        match self.neighbour.address.ip() {
            IpAddr::V4(address) => address,
            IpAddr::V6(address) => panic!("{address}"),
        }
    }

    /// One peer as the looking glass shows it; null if it is not there. Only its own part of the answer is read: there may
    /// be hundreds of others.
    pub fn peer(&self, name: &str) -> Value {
        let (_, body) = self.stage.ask("/v1/peers");
        let Some(at) = body.find(&format!("{{\"name\":\"{name}\"")) else { return Value::Null };
        let first = serde_json::Deserializer::from_str(&body[at..]).into_iter::<Value>().next();
        first.expect("an object").unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    /// Of a peer as the looking glass shows it: attributes at fault in its UPDATEs, and those of them for which routes were
    /// treated as withdrawn.
    pub fn faults(peer: &Value) -> (u64, u64) {
        let causes = peer["malformed"].as_array().map_or(&[][..], Vec::as_slice);
        let count = |consequence: &str| {
            let of = causes.iter().filter(|cause| cause["consequence"] == consequence);
            of.map(|cause| cause["count"].as_u64().expect("a number")).sum::<u64>()
        };
        let withdrawn = count("treat-as-withdraw");
        (count("attribute-discard") + withdrawn, withdrawn)
    }

    pub fn wait(&self, what: &str, so: impl Fn(&Self) -> bool) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        while !so(self) {
            if Instant::now() > end {
                return Err(format!("this never came: {what}; {:?}\n{}", self.vitals(), tail(&self.stage.log())));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The attack is over and its connections are closed: everything is as it was, or the sentence says what is not.
    /// `peak` is the largest that the process was seen.
    pub fn unharmed(mut self, bounds: Bounds, peak: Peak) -> Result<String, String> {
        let lasted = self.began.elapsed().as_secs_f64();
        self.wait("as many descriptors as before", |ward| ward.vitals().descriptors <= ward.before.descriptors)?;
        // Not only alive: what changes in the cluster still gets through.
        self.stage.write("manifests/after.yaml", &service("after", &["198.51.100.8".to_owned()]));
        self.neighbour.wait_for([198, 51, 100, 8])?;
        let after = self.vitals();
        let pace = self.neighbour.pace(bounds.silence);
        let heard = pace.as_ref().map_or_else(String::clone, Pace::to_string);
        let lines = log_lines(&self.stage) - self.lines_before;
        let (status, _) = self.stage.stop();
        let log = self.stage.log();
        if !status.success() || log.contains("panicked") {
            return Err(format!("the speaker ended with {status}\n{}", tail(&log)));
        }
        let largest = after.rss_kib.max(peak.rss_kib);
        let told = format!(
            "{lasted:.1} s, {:.1} s of processor; RSS {} KiB, at most {largest}, {} after; descriptors {}, at most {}; {lines} \
             lines; the healthy session's KEEPALIVEs: {heard}",
            (after.ticks - self.before.ticks) as f64 / 100.0,
            self.before.rss_kib,
            after.rss_kib,
            self.before.descriptors,
            peak.descriptors
        );
        if pace.is_err() {
            return Err(told);
        }
        if largest > self.before.rss_kib + bounds.growth_kib {
            return Err(format!("memory grew by more than {} KiB: {told}", bounds.growth_kib));
        }
        if lines as f64 > bounds.lines_per_second * lasted + FREE_LINES {
            return Err(format!("more than {} lines a second: {told}\n{}", bounds.lines_per_second, tail(&log)));
        }
        Ok(told)
    }
}

/// The largest values seen while an attack went on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Peak {
    pub rss_kib: u64,
    pub descriptors: usize,
}

impl Peak {
    pub fn see(&mut self, ward: &Ward) {
        let now = ward.vitals();
        self.rss_kib = self.rss_kib.max(now.rss_kib);
        self.descriptors = self.descriptors.max(now.descriptors);
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    format!("{} lines, the last of them:\n{}", lines.len(), lines[lines.len().saturating_sub(12)..].join("\n"))
}

fn vitals(stage: &Stage) -> Vitals {
    let process = format!("/proc/{}", stage.pid());
    let read = |name: &str| fs::read_to_string(format!("{process}/{name}")).expect("a live process");
    let status = read("status");
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let stat = read("stat");
    let fields: Vec<_> = stat.rsplit_once(')').expect("its name").1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    Vitals {
        rss_kib: rss.trim().trim_end_matches(" kB").parse().expect("a number"),
        descriptors: fs::read_dir(format!("{process}/fd")).expect("a live process").count(),
        ticks: ticks(11) + ticks(12),
    }
}

fn log_lines(stage: &Stage) -> usize {
    stage.log().lines().count()
}

fn config(speaker: SocketAddr, neighbour: SocketAddr, hold: u16, more_peers: &str) -> String {
    let (port, ip) = (neighbour.port(), neighbour.ip());
    let ranges: String = RANGES
        .iter()
        .map(|(name, block, asn, long)| {
            format!(
                "- {{name: {name}, range: 127.{block}.0.0/12, asn: {asn}, holdTime: 9s, extendedMessages: {long}}}\n"
            )
        })
        .collect();
    format!(
        "asn: {NODE_ASN}\nrouterId: 192.0.2.1\nlisten: {{port: {}, addresses: [127.0.0.1]}}\npeers:\n\
         - {{name: healthy, address: {ip}, port: {port}, asn: {EXTERNAL_ASN}, holdTime: {hold}s}}\n{ranges}{more_peers}\
         pools:\n- {{name: pool, addresses: [198.51.100.0/24]}}\nguard:\n  maxWithdraw: 100%\nadvertisements:\n- {{name: all}}\n",
        speaker.port()
    )
}

/// A router that does everything right and writes down when it heard what.
struct Neighbour {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Book {
    /// Moments of the messages since Established.
    heard: Vec<Instant>,
    /// The last four octets of UPDATEs: the address of a host route.
    hosts: Vec<[u8; 4]>,
    /// What should never come.
    wrong: Vec<String>,
}

/// How regularly the speaker spoke.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    messages: usize,
    least: Duration,
    mean: Duration,
    most: Duration,
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: Duration| duration.as_millis();
        write!(f, "{}, {}/{}/{} ms apart", self.messages, ms(self.least), ms(self.mean), ms(self.most))
    }
}

impl Neighbour {
    fn start(hold: u16) -> Result<Self, String> {
        // Addresses of their own, since cases run side by side.
        let ip = crate::line::fresh(8);
        let listener = TcpListener::bind((ip, 0)).map_err(|error| format!("{ip}: {error}"))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let (book, over) = (Arc::new(Mutex::new(Book::default())), Arc::new(AtomicBool::new(false)));
        let (writer, flag) = (book.clone(), over.clone());
        let thread = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("the speaker dials");
            let wrong = converse(&mut Line::of(stream), hold, &writer, &flag).err();
            // A second connection would mean that the speaker gave up the first.
            writer.lock().unwrap().wrong.extend(wrong);
        });
        Ok(Self { address, book, over, thread: Some(thread) })
    }

    fn wait_for(&self, host: [u8; 4]) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let book = self.book.lock().unwrap();
            if let Some(wrong) = book.wrong.first() {
                return Err(format!("the healthy session: {wrong}"));
            }
            if book.hosts.contains(&host) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("the healthy neighbour never heard of {host:?}, only of {:?}", book.hosts));
            }
            drop(book);
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the session from this side.
    fn pace(&mut self, silence: Duration) -> Result<Pace, String> {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| "the healthy neighbour panicked")?;
        }
        let book = self.book.lock().unwrap();
        if let Some(wrong) = book.wrong.first() {
            return Err(format!("the healthy session: {wrong}"));
        }
        let gaps: Vec<_> = book.heard.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let (Some(least), Some(most)) = (gaps.iter().min(), gaps.iter().max()) else {
            return Err("the healthy session said next to nothing".to_owned());
        };
        let mean = gaps.iter().sum::<Duration>() / u32::try_from(gaps.len()).expect("few");
        let pace = Pace { messages: book.heard.len(), least: *least, mean, most: *most };
        if *most >= silence { Err(format!("the healthy session missed a KEEPALIVE: {pace}")) } else { Ok(pace) }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn converse(line: &mut Line, hold: u16, book: &Mutex<Book>, over: &AtomicBool) -> Result<(), String> {
    line.establish(&Who::new(EXTERNAL_ASN, hold))?;
    let mut said = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let heard = line.next(Duration::from_millis(100));
        let now = Instant::now();
        match heard {
            Heard::Message(4, _) => book.lock().unwrap().heard.push(now),
            Heard::Message(2, body) => {
                let mut book = book.lock().unwrap();
                book.heard.push(now);
                book.hosts.extend(body.last_chunk::<4>());
            }
            Heard::Silence => {}
            other => return Err(format!("heard {other:?}")),
        }
        if said.elapsed() >= Duration::from_millis(500) {
            line.say(&keepalive())?;
            said = Instant::now();
        }
    }
    Ok(())
}
