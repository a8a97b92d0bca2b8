//! Messages of 65,535 octets as fast as they are taken (RFC 8654), from several routers at once.

use crate::Form;
use crate::line::{Line, fresh};
use crate::octets::{LONG_MESSAGES, REFRESHES, Who, attribute, hex, update};
use crate::table::EXTERNAL_ASN;
use crate::ward::{Bounds, HOLD, LONG, Peak, Ward};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The longest message.
const LONGEST: usize = 65_535;

/// ORIGIN, AS_PATH and NEXT_HOP.
fn mandatory() -> Vec<u8> {
    hex("40010100 400206 0201 0000fde8 400304 c0000201")
}

/// What is sent over and over, with a name: each as long as can be, or shorter by less than one item.
fn loads() -> Vec<(&'static str, Vec<u8>)> {
    let room = LONGEST - 23 - mandatory().len();
    let announced = update(&[], &mandatory(), &[24, 10, 0, 0].repeat(room / 4));
    let withdrawn = update(&[8, 10].repeat((LONGEST - 23) / 2), &[], &[]);
    let unknown = [mandatory(), attribute(0xd0, 200, &vec![7; room - 6])].concat();
    let repeated = [mandatory(), [0xc0, 200, 0].repeat((room - 2) / 3)].concat();
    let well_known = [mandatory(), [0x40, 200, 0].repeat((room - 2) / 3)].concat();
    let path =
        [hex("40010100 400304 c0000201"), attribute(0x50, 2, &hex("02010000fde8").repeat((room - 20) / 6))].concat();
    vec![
        ("announced prefixes", announced),
        ("withdrawn prefixes", withdrawn),
        ("one unknown attribute", update(&[], &unknown, &[8, 10])),
        ("an attribute 21,000 times", update(&[], &repeated, &[8, 10])),
        ("21,000 bad attributes", update(&[], &well_known, &[8, 10])),
        ("a path of 10,000 segments", update(&[], &path, &[8, 10])),
    ]
}

/// One router for each load, all at once.
pub fn long_messages(form: Form) -> Result<String, String> {
    let lasts = Duration::from_secs(if form == Form::Long { 60 } else { 6 });
    let ward = Ward::start("")?;
    let speaker = ward.speaker;
    let total = Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    for (name, octets) in loads() {
        assert!(octets.len() <= LONGEST && octets.len() > LONGEST - 64, "{name}: {}", octets.len());
        let total = total.clone();
        threads.push(thread::spawn(move || {
            let source = fresh(LONG);
            let mut line =
                Line::established(source, speaker, &Who::new(EXTERNAL_ASN, 9).with(LONG_MESSAGES).with(REFRESHES))?;
            let began = Instant::now();
            let mut count = 0;
            while began.elapsed() < lasts {
                line.say(&octets).map_err(|what| format!("{name}: {what}: {:?}", line.last_words()))?;
                count += 1;
                total.fetch_add(octets.len() as u64, Ordering::Relaxed);
            }
            Ok::<_, String>((name, source, count, line))
        }));
    }
    let mut peak = Peak::default();
    while !threads.iter().all(thread::JoinHandle::is_finished) {
        peak.see(&ward);
        thread::sleep(Duration::from_millis(50));
    }
    let mut counts = Vec::new();
    let mut lines = Vec::new();
    for thread in threads {
        let (name, source, count, mut line) = thread.join().map_err(|_| "a router panicked")??;
        line.in_step()?;
        let peer = ward.peer(&format!("long/{source}"));
        if peer["received"]["UPDATE"].as_u64() != Some(count) {
            return Err(format!("{count} of {name} were sent: {peer}"));
        }
        counts.push(format!("{count} of {name}"));
        lines.push(line);
    }
    drop(lines);
    let rate = total.load(Ordering::Relaxed) as f64 / lasts.as_secs_f64() / 1e6;
    // Six buffers of a message and of what is read at once, each with room to grow. Without optimisation a message of 21,000
    // faults takes its time, six of them in turn more than a KEEPALIVE may wait for on a busy machine: the hold time counts.
    let silence = Duration::from_secs(HOLD.into());
    let bounds = Bounds { growth_kib: 24 * 1024, silence, ..Bounds::default() };
    Ok(format!("{rate:.0} MB/s: {}; {}", counts.join(", "), ward.unharmed(bounds, peak)?))
}
