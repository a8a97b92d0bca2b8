//! `table.txt` against the machine.

use crate::rig::{Rig, event, terms};
use herald::fsm::{Opening, Output, Parting, Terms, Timer};
use herald::wire::Message;
use std::collections::BTreeMap;
use std::time::Duration;

const TABLE: &str = include_str!("table.txt");
const STATES: [&str; 14] = [
    "Idle",
    "IdleHeld",
    "Connect",
    "Active",
    "DelayedOut",
    "DelayedIn",
    "OpenSent",
    "OpenSentIn",
    "OpenConfirm",
    "Established",
    "Steady",
    "PassiveIdleHeld",
    "PassiveActive",
    "PassiveOpenSent",
];

/// What a row promises, or what the machine did: the same words.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    next: String,
    sends: Vec<String>,
    connection: Vec<String>,
    counter: u32,
    timers: Vec<String>,
}

/// A session in a state of the table, a second after it got there.
fn rig(state: &str, seed: u64) -> Rig {
    let opening = if state.starts_with("Passive") { Opening::Passive } else { Opening::Active };
    let delay_open = if state.starts_with("Delayed") { Duration::from_secs(5) } else { Duration::ZERO };
    let mut rig = Rig::with(Terms { opening, delay_open, ..terms(Duration::from_secs(90)) }, seed);
    let path: &[u8] = match state {
        "Idle" => &[],
        "IdleHeld" => &[3, 18, 13, 18],
        "Connect" => &[3, 18, 13, 18, 13],
        "Active" => &[3, 18, 13, 16, 18],
        "DelayedOut" => &[3, 18, 13, 18, 13, 16],
        "DelayedIn" => &[3, 18, 13, 18, 13, 17],
        "OpenSent" => &[3, 18, 13, 18, 13, 16],
        "OpenSentIn" => &[3, 18, 13, 18, 13, 17],
        "OpenConfirm" => &[3, 18, 13, 18, 13, 16, 19],
        "Established" | "Steady" => &[3, 18, 13, 18, 13, 16, 19, 26],
        "PassiveIdleHeld" => &[5, 18, 13, 18],
        "PassiveActive" => &[5, 18, 13, 18, 13],
        "PassiveOpenSent" => &[5, 18, 13, 18, 13, 17],
        _ => panic!("no state {state}"),
    };
    for number in path {
        rig.throw(event(Some(*number)));
    }
    rig.wait(Duration::from_secs(1));
    if state == "Steady" {
        // Half a minute, with a sign of life so that the hold timer stands where it stands in Established.
        rig.wait(Duration::from_secs(28));
        rig.throw(event(Some(26)));
        rig.wait(Duration::from_secs(1));
    }
    rig
}

/// Rows by state and event.
fn rows() -> BTreeMap<(String, String), (Answer, String)> {
    let mut rows = BTreeMap::new();
    let lines = TABLE.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    for line in lines.skip(1) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [state, events, next, sends, connection, counter, timers] = cells[..] else { panic!("not a row: {line}") };
        assert!(STATES.contains(&state), "no such state: {line}");
        let words = |cell: &str| cell.split_whitespace().filter(|word| *word != "-").map(str::to_owned).collect();
        let before = rig(state, 1).session.connect_retry_counter();
        let counter = match counter {
            "same" => before,
            "+1" => before + 1,
            _ => counter.strip_prefix('=').expect("same, +1 or =N").parse().expect("a number"),
        };
        for event in events.split(',').flat_map(|part| expand(part.trim())) {
            let answer = Answer {
                next: next.to_owned(),
                sends: words(sends),
                connection: words(connection),
                counter,
                timers: words(timers),
            };
            let earlier = rows.insert((state.to_owned(), event.clone()), (answer, line.to_owned()));
            assert!(earlier.is_none(), "{state} × {event} is there twice: {line}");
        }
    }
    rows
}

/// `3-7` means five events.
fn expand(part: &str) -> Vec<String> {
    match part.split_once('-') {
        None => vec![part.to_owned()],
        Some((first, last)) => {
            (first.parse::<u8>().unwrap()..=last.parse().unwrap()).map(|number| number.to_string()).collect()
        }
    }
}

/// What the machine does, in the words of the table; `promised` only tells how a jittered deadline is to be read.
fn observe(state: &str, number: &str, seed: u64, promised: &Answer) -> Answer {
    let mut rig = rig(state, seed);
    let before = rig.session.timers().clone();
    let outputs = rig.throw(event(number.parse().ok()));
    let mut sends = Vec::new();
    let mut connection = Vec::new();
    for output in outputs {
        match output {
            Output::Dial => connection.push("dial".to_owned()),
            Output::Drop(Parting::Now) => connection.push("close".to_owned()),
            Output::Drop(Parting::AfterFlush) => connection.push("flush".to_owned()),
            Output::Send(message) => sends.push(spell(&message)),
            Output::Down(_) => {}
        }
    }
    let mut timers = Vec::new();
    for timer in Timer::ALL {
        let Some(at) = rig.session.timers().deadline(timer) else { continue };
        if before.deadline(timer) == Some(at) {
            timers.push(format!("{timer:?}"));
        } else {
            timers.push(format!("{timer:?}={}", nominal(timer, at - rig.now, promised)));
        }
    }
    Answer {
        next: rig.session.state().name().to_owned(),
        sends,
        connection,
        counter: rig.session.connect_retry_counter(),
        timers,
    }
}

/// The promised seconds, if a duration that was drawn from three quarters of them to all of them may be meant.
fn nominal(timer: Timer, drawn: Duration, promised: &Answer) -> String {
    let word = promised.timers.iter().find_map(|word| word.strip_prefix(&format!("{timer:?}=")));
    let seconds = word.and_then(|word| word.parse().ok()).map_or(Duration::ZERO, Duration::from_secs);
    let lowest = match timer {
        Timer::DelayOpen | Timer::SendHold => seconds,
        Timer::Hold | Timer::ConnectRetry if promised.next != "Active" => seconds,
        Timer::Hold | Timer::ConnectRetry | Timer::Keepalive | Timer::IdleHold => seconds * 3 / 4,
    };
    if lowest <= drawn && drawn <= seconds { seconds.as_secs().to_string() } else { format!("{}", drawn.as_secs_f64()) }
}

fn spell(message: &Message) -> String {
    match message {
        Message::Open(_) => "OPEN".to_owned(),
        Message::Keepalive => "KEEPALIVE".to_owned(),
        Message::Update(_) => "UPDATE".to_owned(),
        Message::RouteRefresh(_) => "ROUTE-REFRESH".to_owned(),
        Message::Notification(n) if n.data.is_empty() => format!("{}/{}", n.code, n.subcode),
        Message::Notification(n) => {
            let data: String = n.data.iter().map(|octet| format!("{octet:02x}")).collect();
            format!("{}/{}:{data}", n.code, n.subcode)
        }
    }
}

#[test]
fn table_and_machine_agree() {
    let rows = rows();
    let mut wrong = Vec::new();
    for ((state, event), (promised, line)) in &rows {
        for seed in 0..8 {
            let seen = observe(state, event, seed, promised);
            if seen != *promised {
                wrong.push(format!("{state} × {event} (seed {seed})\n  row     {line}\n  machine {seen:?}"));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{} pairs differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn table_names_every_pair() {
    let rows = rows();
    let events = (1..=29).map(|number: u8| number.to_string()).chain(["RR".to_owned()]);
    let pairs = events.flat_map(|event| STATES.map(|state| (state.to_owned(), event.clone())));
    let missing: Vec<_> = pairs.filter(|pair| !rows.contains_key(pair)).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
    assert_eq!(rows.len(), STATES.len() * 30, "a row names an event that does not exist");
}

#[test]
fn events_carry_the_numbers_of_the_rfc() {
    for number in 1..=29 {
        assert_eq!(event(Some(number)).number(), Some(number));
    }
}
