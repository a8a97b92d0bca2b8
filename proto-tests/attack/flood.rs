//! Connections in numbers: from strangers, from a range, from the address of a neighbour.

use crate::Form;
use crate::line::{Heard, Line, PATIENCE, bound, fresh};
use crate::octets::Who;
use crate::table::EXTERNAL_ASN;
use crate::ward::{Bounds, EXTERNAL, Peak, Ward};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use socket2::Socket;
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

/// Addresses of 127.16.0.0/12: of nobody.
const STRANGERS: u8 = 16;
/// Routers of one range at a time.
const RANGE_LIMIT: usize = 256;
/// Connections that may wait to be looked at.
const QUEUE: usize = 64;

/// This process may hold as many connections as it is allowed to ask for.
pub fn room_for_many() {
    let limit = getrlimit(Resource::Nofile);
    let _as_it_was = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Opens a connection and says nothing.
fn silent(source: Ipv4Addr, speaker: SocketAddr) -> Result<Line, String> {
    Line::dial(source, speaker)
}

/// Far more connections than the listener's bound, none of which says a word: all are closed unanswered.
pub fn half_open_from_strangers(form: Form) -> Result<String, String> {
    room_for_many();
    let ward = Ward::start("")?;
    let before = ward.vitals().descriptors;
    let mut peak = Peak::default();
    let mut lines = Vec::new();
    for at in 0..if form == Form::Long { 8000 } else { 3000 } {
        lines.push(silent(fresh(STRANGERS), ward.speaker)?);
        if at % 64 == 0 {
            peak.see(&ward);
        }
    }
    let count = lines.len();
    for mut line in lines {
        match line.last_words()? {
            None => {}
            Some(told) => return Err(format!("a stranger is told {told:?}")),
        }
    }
    if peak.descriptors > before + QUEUE + 16 {
        return Err(format!("{} descriptors for strangers, {before} before", peak.descriptors));
    }
    Ok(format!("{count} closed unanswered; {}", ward.unharmed(Bounds::default(), peak)?))
}

/// More silent routers than a range may have: the bound holds, a router that speaks gets in all the same, and the silence
/// ends them all.
pub fn half_open_from_a_range(form: Form) -> Result<String, String> {
    room_for_many();
    let ward = Ward::start("")?;
    let before = ward.vitals().descriptors;
    let mut peak = Peak::default();
    let mut lines = Vec::new();
    for at in 0..if form == Form::Long { 10_000 } else { 1500 } {
        lines.push(silent(fresh(EXTERNAL), ward.speaker)?);
        if at % 16 == 0 {
            peak.see(&ward);
        }
    }
    let count = lines.len();
    // Goodbyes are bounded as well, so it may have to come twice, as routers do.
    let came = Instant::now();
    let mut honest = loop {
        match Line::established(fresh(EXTERNAL), ward.speaker, &Who::new(EXTERNAL_ASN, 90)) {
            Ok(line) => break line,
            Err(_) if came.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(100)),
            Err(what) => return Err(format!("a router that speaks does not get in: {what}")),
        }
    };
    let waited = came.elapsed();
    honest.drain()?;
    drop(honest);
    if peak.descriptors > before + 2 * RANGE_LIMIT + QUEUE + 16 {
        return Err(format!("{} descriptors for a range, {before} before", peak.descriptors));
    }
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for mut line in lines {
        let end = loop {
            match line.next(2 * PATIENCE) {
                Heard::Message(..) => {}
                Heard::Told(told) => break format!("{}/{}", told.code, told.subcode),
                Heard::End | Heard::Broken(_) => break "closed".to_owned(),
                Heard::Silence => return Err("a silent router is waited for without end".to_owned()),
            }
        };
        *told.entry(end).or_default() += 1;
    }
    let bounds = Bounds { growth_kib: 32 * 1024, ..Bounds::default() };
    Ok(format!("{count} ended: {told:?}; one that speaks got in after {waited:.1?}; {}", ward.unharmed(bounds, peak)?))
}

/// More connections than the process may hold: the healthy session stays, and routers get in again afterwards.
pub fn out_of_descriptors(_form: Form) -> Result<String, String> {
    let ward = Ward::start("")?;
    let limit = ward.vitals().descriptors + 40;
    let pid = Pid::from_raw(i32::try_from(ward.stage.pid()).unwrap()).ok_or("no process")?;
    let limits = Rlimit { current: Some(limit as u64), maximum: Some(limit as u64) };
    prlimit(Some(pid), Resource::Nofile, limits).map_err(|error| error.to_string())?;
    let mut peak = Peak::default();
    let mut lines = Vec::new();
    for _ in 0..120 {
        lines.push(silent(fresh(EXTERNAL), ward.speaker)?);
        peak.see(&ward);
    }
    // Of which some are kept for peers that the configuration names, and for what is not BGP.
    ward.wait("no descriptor left for a range", |ward| ward.vitals().descriptors + 34 >= limit)?;
    ward.wait("that to be said", |ward| ward.stage.ask("/readyz").1.contains("DescriptorsShort"))?;
    // Longer than the healthy neighbour's hold time: what would starve it has the time to.
    thread::sleep(Duration::from_secs(7));
    peak.see(&ward);
    drop(lines);
    drop(Line::established(fresh(EXTERNAL), ward.speaker, &Who::new(EXTERNAL_ASN, 9))?);
    Ok(format!("a limit of {limit} descriptors; {}", ward.unharmed(Bounds::default(), peak)?))
}

/// 5,000 connects a second from addresses of nobody.
pub fn connects_from_strangers(form: Form) -> Result<String, String> {
    let ward = Ward::start("")?;
    under_fire(ward, form, NOTHING_KEPT, || fresh(STRANGERS))
}

/// The same from the address of the healthy session: none of them is that session.
pub fn connects_from_the_neighbours_address(form: Form) -> Result<String, String> {
    let ward = Ward::start("")?;
    let neighbour = ward.neighbour();
    under_fire(ward, form, NOTHING_KEPT, move || neighbour)
}

/// The same from a range, each from another address.
pub fn connects_from_a_range(form: Form) -> Result<String, String> {
    let ward = Ward::start("")?;
    under_fire(ward, form, 32 * 1024, || fresh(EXTERNAL))
}

/// Growth in KiB where nothing may be kept of a connection: in the short form, a third of a kilobyte of each would be more.
const NOTHING_KEPT: u64 = 5 * 1024;

/// The storm, once more where the machine was too busy for one that counts.
fn under_fire(
    ward: Ward,
    form: Form,
    growth_kib: u64,
    source: impl Fn() -> Ipv4Addr + Clone + Send + 'static,
) -> Result<String, String> {
    room_for_many();
    let lasts = Duration::from_secs(if form == Form::Long { 60 } else { 4 });
    let mut peak = Peak::default();
    let mut rates = Vec::new();
    while rates.len() < 3 {
        let (fired, hit, rate) = storm(&ward, &mut peak, &source, lasts)?;
        rates.push(rate);
        if rate >= 5000.0 {
            let bounds = Bounds { growth_kib, ..Bounds::default() };
            let harm = ward.unharmed(bounds, peak)?;
            return Ok(format!("{rate:.0} connects a second, {hit} of {fired} accepted; {harm}"));
        }
    }
    Err(format!("only {rates:.0?} connects a second: the machine is too busy to say anything"))
}

/// All guns for a while: connects begun, those that came about, and how many a second.
fn storm(
    ward: &Ward,
    peak: &mut Peak,
    source: &(impl Fn() -> Ipv4Addr + Clone + Send + 'static),
    lasts: Duration,
) -> Result<(u64, u64, f64), String> {
    let (speaker, began) = (ward.speaker, Instant::now());
    let gun = |_| {
        let source = source.clone();
        thread::spawn(move || fire(&source, speaker, RATE / GUNS, lasts))
    };
    let guns: Vec<_> = (0..GUNS).map(gun).collect();
    while !guns.iter().all(thread::JoinHandle::is_finished) {
        peak.see(ward);
        thread::sleep(Duration::from_millis(50));
    }
    let lasted = began.elapsed().as_secs_f64();
    let (mut fired, mut hit) = (0, 0);
    for gun in guns {
        let (shots, hits) = gun.join().map_err(|_| "a gun jammed")??;
        fired += shots;
        hit += hits;
    }
    Ok((fired, hit, fired as f64 / lasted))
}

/// Connects a second, all guns together; a little more than wanted, since the clock is not exact.
const RATE: u64 = 5600;
/// Threads that connect.
const GUNS: u64 = 4;

/// Connects at this pace; the newest 128 are held, older ones end with a reset.
fn fire(source: &impl Fn() -> Ipv4Addr, speaker: SocketAddr, rate: u64, lasts: Duration) -> Result<(u64, u64), String> {
    let began = Instant::now();
    let (mut fired, mut hit) = (0, 0);
    let mut held: VecDeque<Socket> = VecDeque::new();
    while began.elapsed() < lasts {
        let due = began.elapsed().as_micros() as u64 * rate / 1_000_000;
        while fired < due {
            let socket = bound(source()).map_err(|error| format!("no socket: {error}"))?;
            socket
                .set_nonblocking(true)
                .and_then(|()| socket.set_linger(Some(Duration::ZERO)))
                .expect("an open socket");
            // In progress, as a rule.
            let _pending = socket.connect(&speaker.into());
            held.push_back(socket);
            fired += 1;
            if held.len() > 128 {
                hit += u64::from(held.pop_front().is_some_and(|socket| socket.peer_addr().is_ok()));
            }
        }
        thread::sleep(Duration::from_micros(500));
    }
    hit += held.iter().filter(|socket| socket.peer_addr().is_ok()).count() as u64;
    Ok((fired, hit))
}
