//! What holds whatever happens, in whatever order.

use crate::rig::{Rig, event, open, terms};
use herald::fsm::{Down, Event, Opening, Output, Session, State, Terms, Timer};
use herald::wire::{Message, Notification};
use proptest::prelude::*;
use std::time::Duration;

/// One thing thrown at a session after a while.
#[derive(Debug, Clone)]
enum Throw {
    Event(Option<u8>),
    /// An OPEN with this hold time in seconds.
    Open(u16),
    /// Nothing but the session's own next deadline.
    Deadline,
}

/// Mostly what brings a session up, so that deep states are reached; else anything.
fn throws() -> impl Strategy<Value = Vec<(u64, Throw)>> {
    let throw = prop_oneof![
        4 => prop::sample::select(vec![3u8, 5, 13, 16, 17, 26, 27]).prop_map(|number| Throw::Event(Some(number))),
        3 => prop::sample::select(vec![0u16, 3, 9, 90, 65535, 1]).prop_map(Throw::Open),
        3 => prop::option::of(1u8..=29).prop_map(Throw::Event),
        2 => Just(Throw::Deadline),
    ];
    prop::collection::vec((0u64..40_000, throw), 1..60)
}

/// Whether the session has a connection, as the test sees it from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    None,
    Dialling,
    Open,
}

fn after(line: Line, output: &Output) -> Line {
    match output {
        Output::Dial => {
            assert_eq!(line, Line::None, "a dial beside a connection");
            Line::Dialling
        }
        Output::Drop(_) => {
            assert_ne!(line, Line::None, "dropped what was not there");
            Line::None
        }
        Output::Send(message) => {
            assert_eq!(line, Line::Open, "{message:?} without a connection");
            line
        }
        Output::Down(_) => line,
    }
}

/// What the outside does to the line before the session hears of it.
fn before(line: Line, event: &Event) -> Line {
    match (event.number(), line) {
        (Some(16), Line::Dialling) | (Some(17), Line::None) => Line::Open,
        (Some(18), _) => Line::None,
        _ => line,
    }
}

/// Whether the world could send this event: octets need a connection, a dial's end a dial.
fn is_possible(line: Line, session: &Session, event: &Event) -> bool {
    match event.number() {
        Some(16) => line == Line::Dialling,
        // A connection of the peer is given to a session that waits for one, and to no other.
        Some(17) => *session.state() == State::Active,
        Some(18) => line != Line::None,
        Some(19..=22 | 24..=28) | None => line == Line::Open,
        // Timers that do not run expire for nobody.
        Some(9..=13 | 29) => false,
        _ => true,
    }
}

fn check_timers(session: &Session, now: std::time::Instant) {
    let runs = |timer| session.timers().deadline(timer).is_some();
    let established = matches!(session.state(), State::Established(..));
    assert!(established || !runs(Timer::SendHold), "the send hold timer runs outside Established");
    let delayed = matches!(session.state(), State::OpenDelayed(_));
    assert_eq!(runs(Timer::DelayOpen), delayed, "in {:?}", session.state());
    match session.state() {
        State::Idle => assert!(!runs(Timer::Hold) && !runs(Timer::Keepalive) && !runs(Timer::ConnectRetry)),
        State::Connect => assert!(runs(Timer::ConnectRetry) && !runs(Timer::Hold) && !runs(Timer::Keepalive)),
        State::Active => assert!(!runs(Timer::Hold) && !runs(Timer::Keepalive)),
        State::OpenDelayed(_) => {
            assert!(
                runs(Timer::DelayOpen) && !runs(Timer::Hold) && !runs(Timer::Keepalive) && !runs(Timer::ConnectRetry)
            );
        }
        State::OpenSent => assert!(runs(Timer::Hold) && !runs(Timer::Keepalive)),
        State::OpenConfirm(negotiated) | State::Established(negotiated, _) => {
            let hold = negotiated.hold_time;
            assert_eq!(
                (runs(Timer::Hold), runs(Timer::Keepalive)),
                (!hold.is_zero(), !hold.is_zero()),
                "hold {hold:?}"
            );
            assert_eq!(runs(Timer::SendHold), established && !hold.is_zero(), "hold {hold:?}");
            assert!(!runs(Timer::ConnectRetry) && !runs(Timer::IdleHold));
            if let Some(at) = session.timers().deadline(Timer::Keepalive) {
                assert!(at <= now + hold / 3, "the next KEEPALIVE comes later than a third of {hold:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn laws_hold_whatever_happens(
        throws in throws(),
        seed: u64,
        ours in prop::sample::select(vec![0u64, 3, 90]),
        opening in prop::sample::select(vec![Opening::Active, Opening::Passive]),
        delay in prop::sample::select(vec![0u64, 0, 5]),
    ) {
        let delay_open = Duration::from_secs(delay);
        let mut rig = Rig::with(Terms { opening, delay_open, ..terms(Duration::from_secs(ours)) }, seed);
        let mut line = Line::None;
        for (millis, throw) in throws {
            let event = match throw {
                Throw::Event(number) => event(number),
                Throw::Open(hold_time) if matches!(rig.session.state(), State::OpenDelayed(_)) => {
                    Event::BgpOpenWithDelayOpenTimerRunning(open(hold_time))
                }
                Throw::Open(hold_time) => Event::BgpOpen(open(hold_time)),
                Throw::Deadline => {
                    if rig.session.poll_timeout().is_some() {
                        for output in rig.expire() {
                            line = after(line, &output);
                        }
                        check_timers(&rig.session, rig.now);
                    }
                    continue;
                }
            };
            // Deadlines on the way come first, as a driver would have them.
            let arrival = rig.now + Duration::from_millis(millis);
            while rig.session.poll_timeout().is_some_and(|(at, _)| at <= arrival) {
                for output in rig.expire() {
                    line = after(line, &output);
                }
            }
            rig.now = arrival;
            if !is_possible(line, &rig.session, &event) {
                continue;
            }
            line = before(line, &event);
            let (earlier, number) = (rig.session.state().name(), event.number());
            let outputs = rig.throw(event);
            for output in &outputs {
                line = after(line, output);
            }
            if matches!(number, Some(24 | 25)) {
                let answer = outputs.iter().find(|output| matches!(output, Output::Send(_)));
                prop_assert_eq!(answer, None, "a NOTIFICATION was answered");
            }
            let downs = outputs.iter().filter(|output| matches!(output, Output::Down(_))).count();
            let stands = matches!(rig.session.state(), State::Idle | State::Active);
            let rests = !["Idle", "Active"].contains(&earlier);
            let fell = stands && (rests || earlier == "Active" && rig.session.state().name() == "Idle");
            prop_assert_eq!(downs, usize::from(fell), "a fall is reported once, and nothing else is");
            if stands {
                prop_assert_eq!(line, Line::None, "a connection beside Idle or Active");
            }
            let waits = opening == Opening::Passive && *rig.session.state() == State::Active;
            if fell && !matches!(number, Some(2)) && !waits {
                prop_assert!(rig.session.poll_timeout().is_some(), "a session fell and nothing brings it back");
            }
            check_timers(&rig.session, rig.now);
        }
    }
}

/// Seconds between the dials of a session whose every connection ends by `fate`.
fn gaps(seed: u64, dials: usize, fate: impl Fn(&mut Rig)) -> Vec<f64> {
    let mut rig = Rig::new(Duration::from_secs(90), seed);
    rig.throw(Event::AutomaticStart);
    let mut gaps = Vec::new();
    while gaps.len() < dials {
        fate(&mut rig);
        let ended = rig.now;
        let outputs = rig.expire();
        assert_eq!(outputs, [Output::Dial]);
        gaps.push((rig.now - ended).as_secs_f64());
    }
    gaps
}

fn assert_gaps(gaps: &[f64], nominal: &[f64]) {
    assert_eq!(gaps.len(), nominal.len());
    for (gap, nominal) in gaps.iter().zip(nominal) {
        assert!(nominal * 0.75 <= *gap && gap <= nominal, "{gaps:?} instead of {nominal:?}");
    }
}

const DOUBLING: [f64; 10] = [1., 2., 4., 8., 16., 32., 64., 120., 120., 120.];
const UNREACHABLE: [f64; 10] = [1., 2., 4., 8., 16., 30., 30., 30., 30., 30.];

#[test]
fn a_peer_that_closes_at_once_is_backed_off() {
    for seed in 0..20 {
        let gaps = gaps(seed, 10, |rig| {
            rig.throw(Event::TcpCrAcked);
            rig.throw(Event::TcpConnectionFails(None));
        });
        assert_gaps(&gaps, &DOUBLING);
    }
}

#[test]
fn a_peer_that_refuses_us_is_backed_off() {
    for seed in 0..20 {
        let gaps = gaps(seed, 10, |rig| {
            rig.throw(Event::TcpCrAcked);
            rig.throw(Event::NotifMsg(Notification::bare(2, 2)));
        });
        assert_gaps(&gaps, &DOUBLING);
    }
}

#[test]
fn a_peer_that_cannot_be_reached_is_tried_twice_a_minute() {
    for seed in 0..20 {
        assert_gaps(
            &gaps(seed, 10, |rig| {
                rig.throw(Event::TcpConnectionFails(Some("no route to host".to_owned())));
            }),
            &UNREACHABLE,
        );
    }
}

/// Up, held for `seconds` by KEEPALIVEs, then down.
fn session_of(rig: &mut Rig, seconds: u64, end: Event) {
    rig.throw(Event::TcpCrAcked);
    rig.throw(Event::BgpOpen(open(90)));
    rig.throw(Event::KeepAliveMsg);
    let until = rig.now + Duration::from_secs(seconds);
    while rig.now + Duration::from_secs(20) < until {
        rig.wait(Duration::from_secs(20));
        rig.throw(Event::KeepAliveMsg);
    }
    rig.now = until;
    rig.throw(end);
}

#[test]
fn only_half_a_minute_of_established_wipes_the_slate() {
    assert_gaps(&gaps(1, 4, |rig| session_of(rig, 29, Event::TcpConnectionFails(None))), &[1., 2., 4., 8.]);
    assert_gaps(&gaps(1, 4, |rig| session_of(rig, 30, Event::TcpConnectionFails(None))), &[1., 1., 1., 1.]);
}

#[test]
fn a_prefix_limit_is_waited_out_for_a_minute() {
    let cease = || Event::NotifMsg(Notification::bare(6, 1));
    let gaps = gaps(1, 3, |rig| session_of(rig, 100, cease()));
    assert!(gaps.iter().all(|gap| *gap >= 60.), "{gaps:?}");
}

#[test]
fn the_peer_s_open_is_waited_for_no_longer_than_four_minutes() {
    let mut rig = Rig::new(Duration::ZERO, 1);
    rig.throw(Event::AutomaticStart);
    rig.throw(Event::TcpCrAcked);
    let sent = rig.now;
    let outputs = rig.expire();
    assert_eq!((rig.now - sent).as_secs(), 240);
    assert_eq!(outputs[0], Output::Send(Message::Notification(Notification::HOLD_TIMER_EXPIRED)));
    assert!(matches!(outputs[2], Output::Down(Down::NoOpen)));
}

#[test]
fn updates_and_keepalives_are_signs_of_life_and_a_refresh_is_none() {
    for (sign, alive) in [(Some(26), true), (Some(27), true), (None, false)] {
        let mut rig = Rig::new(Duration::from_secs(90), 1);
        for number in [3, 16, 19, 26] {
            rig.throw(event(Some(number)));
        }
        let first = rig.session.timers().deadline(Timer::Hold);
        rig.wait(Duration::from_secs(5));
        rig.throw(event(sign));
        assert_eq!(rig.session.timers().deadline(Timer::Hold) > first, alive, "{sign:?}");
    }
}

#[test]
fn an_update_that_we_send_puts_off_the_next_keepalive() {
    let mut rig = Rig::new(Duration::from_secs(90), 1);
    for number in [3, 16, 19, 26] {
        rig.throw(event(Some(number)));
    }
    rig.wait(Duration::from_secs(20));
    rig.session.sent_update(rig.now);
    let at = rig.session.timers().deadline(Timer::Keepalive).unwrap();
    assert!(at > rig.now + Duration::from_secs(22), "the timer was not restarted");
}

#[test]
fn a_session_that_was_stopped_never_dials_again() {
    for path in [&[][..], &[3], &[3, 16], &[3, 16, 19], &[3, 16, 19, 26], &[3, 18], &[3, 16, 18]] {
        let mut rig = Rig::new(Duration::from_secs(90), 1);
        for number in path {
            rig.throw(event(Some(*number)));
        }
        rig.throw(Event::ManualStop(Notification::bare(6, 2)));
        assert_eq!(rig.session.poll_timeout(), None, "after {path:?}");
    }
}
