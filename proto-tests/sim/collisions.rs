//! Scenes of a peer with two connections, and of one that is dialled.

use crate::desk::{Desk, end, open};
use crate::scenes::{plan, words};
use herald::peer::settings::{Opening, SendHoldTime};
use herald::peer::{CloseHow, Input, Output, Stop};
use herald::wire::capability::GracefulRestart;
use herald::wire::{Capability, Message, Notification, Open, RouterId};
use std::time::Duration;

/// The peer's OPEN with its identifier; ours is 10.0.0.1.
fn open_of(last: u8) -> Message {
    Message::Open(Open { router_id: RouterId::new([10, 0, 0, last].into()).unwrap(), ..open() })
}

/// The same with the graceful restart capability: restart time 120 s, no family.
fn restarting_open_of(last: u8) -> Message {
    let Message::Open(mut open) = open_of(last) else { panic!("an OPEN") };
    open.capabilities.push(Capability::GracefulRestart(GracefulRestart { restart_time: 120, ..Default::default() }));
    Message::Open(open)
}

#[test]
fn a_connection_of_the_peer_becomes_the_session_and_our_dial_is_cancelled() {
    let mut desk = Desk::dialling();
    desk.plan(plan(&["198.51.100.1"]));
    let dial = desk.conn;
    let accepted = desk.accept();
    assert_ne!(dial, accepted);
    assert_eq!(words(&desk.said()), ["OPEN"]);
    desk.receive(&[open_of(2)]);
    assert_eq!(words(&desk.said()), ["KEEPALIVE"]);
    assert_eq!((desk.state(), desk.outputs()), ("OpenConfirm", vec![]));
    desk.receive(&[Message::Keepalive]);
    assert_eq!(desk.state(), "Established");
    assert_eq!(desk.outputs(), [Output::Close(dial, CloseHow::Now)]);
    // The dial that succeeds a moment too late is nobody's.
    desk.peer.handle(Input::Connected(dial, end()), desk.now);
    desk.context = Desk::established().context;
    assert!(words(&desk.said())[0].starts_with("+198.51.100.1/32"));
    assert_eq!(desk.peer.status().established_count, 1);
    // When it falls, we dial again.
    desk.peer.handle(Input::Closed(accepted, None), desk.now);
    desk.wait(1);
    desk.expect_dial();
}

/// Both ends have dialled; ours is in OpenConfirm, theirs awaits its OPEN.
fn collided() -> (Desk, herald::peer::ConnId, herald::peer::ConnId) {
    let mut desk = Desk::open_sent();
    let ours = desk.conn;
    let theirs = desk.accept();
    assert_eq!(words(&desk.said_on(ours)), ["OPEN"]);
    assert_eq!(words(&desk.said_on(theirs)), ["OPEN"]);
    (desk, ours, theirs)
}

#[test]
fn of_two_in_open_confirm_the_higher_identifier_s_connection_is_kept() {
    // Theirs is higher: their connection is kept, whichever OPEN comes first.
    for theirs_first in [false, true] {
        let (mut desk, ours, theirs) = collided();
        let order = if theirs_first { [theirs, ours] } else { [ours, theirs] };
        desk.receive_on(order[0], &[open_of(2)]);
        assert_eq!(words(&desk.said_on(order[0])), ["KEEPALIVE"]);
        desk.receive_on(order[1], &[open_of(2)]);
        assert_eq!(desk.outputs(), [Output::Close(ours, CloseHow::AfterFlush)], "theirs first: {theirs_first}");
        assert_eq!(words(&desk.said_on(ours)), ["6/7"]);
        let answer: &[&str] = if theirs_first { &[] } else { &["KEEPALIVE"] };
        assert_eq!(words(&desk.said_on(theirs)), answer, "the loser is not told KEEPALIVE, the winner is");
        desk.receive_on(theirs, &[Message::Keepalive]);
        assert_eq!((desk.state(), desk.peer.status().collisions), ("Established", 1));
        assert_eq!(desk.peer.status().last_down, None, "a collision is no failure");
        desk.receive_on(theirs, &[Message::Keepalive]);
        // Nothing is left that would dial.
        desk.wait(80);
        assert_eq!(desk.outputs(), []);
    }
}

#[test]
fn our_connection_is_kept_where_our_identifier_is_higher() {
    let lower = || {
        let mut desk = Desk::open_sent();
        let ours = desk.conn;
        let theirs = desk.accept();
        desk.said_on(ours);
        desk.said_on(theirs);
        (desk, ours, theirs)
    };
    let low = || Message::Open(Open { router_id: RouterId::new([9, 0, 0, 1].into()).unwrap(), ..open() });
    let (mut desk, ours, theirs) = lower();
    desk.receive_on(ours, &[low()]);
    desk.receive_on(theirs, &[low()]);
    assert_eq!(desk.outputs(), [Output::Close(theirs, CloseHow::AfterFlush)]);
    assert_eq!(words(&desk.said_on(theirs)), ["6/7"], "and no KEEPALIVE, which would make it a session over there");
    desk.receive_on(ours, &[Message::Keepalive]);
    assert_eq!(desk.state(), "Established");
}

#[test]
fn an_unacceptable_open_wins_no_collision() {
    let (mut desk, ours, theirs) = collided();
    desk.receive_on(ours, &[open_of(2)]);
    let stranger = Message::Open(Open { my_as: 64999, capabilities: vec![], ..open() });
    desk.receive_on(theirs, &[stranger]);
    assert_eq!(words(&desk.said_on(theirs)), ["2/2"]);
    assert_eq!(desk.outputs(), [Output::Close(theirs, CloseHow::AfterFlush)]);
    desk.receive_on(ours, &[Message::Keepalive]);
    assert_eq!(desk.state(), "Established");
}

#[test]
fn established_wins_against_what_comes_later_and_against_what_came_before() {
    let mut desk = Desk::established();
    let later = desk.accept();
    assert_eq!(words(&desk.said()), ["OPEN"]);
    desk.receive(&[open_of(2)]);
    assert_eq!(words(&desk.said()), ["6/7"]);
    assert_eq!(desk.outputs(), [Output::Close(later, CloseHow::AfterFlush)]);
    assert_eq!((desk.state(), desk.peer.status().last_down.clone()), ("Established", None));

    let (mut desk, ours, theirs) = collided();
    desk.receive_on(ours, &[open_of(2), Message::Keepalive]);
    assert_eq!(desk.state(), "Established");
    assert_eq!(desk.outputs(), [Output::Close(theirs, CloseHow::AfterFlush)]);
    assert_eq!(words(&desk.said_on(theirs)), ["6/7"]);
}

#[test]
fn a_peer_that_restarts_gracefully_replaces_its_session_once_its_open_came() {
    let mut desk = Desk::open_sent();
    let old = desk.conn;
    desk.receive(&[restarting_open_of(2), Message::Keepalive]);
    desk.said();
    desk.plan(plan(&["198.51.100.1"]));
    desk.context = Desk::established().context;
    assert!(words(&desk.said())[0].starts_with("+198.51.100.1/32"));

    // A bare connection ends nothing; nor does a stranger's OPEN.
    let stranger = desk.accept();
    assert_eq!(desk.state(), "Established");
    desk.receive(&[restarting_open_of(3)]);
    assert_eq!(words(&desk.said()), ["OPEN", "6/7"]);
    assert_eq!((desk.state(), desk.outputs()), ("Established", vec![Output::Close(stranger, CloseHow::AfterFlush)]));

    let new = desk.accept();
    desk.receive(&[restarting_open_of(2)]);
    assert_eq!(desk.outputs(), [Output::Close(old, CloseHow::Now)], "without a NOTIFICATION");
    assert_eq!(words(&desk.said_on(old)), [""; 0]);
    assert_eq!(words(&desk.said()), ["OPEN", "KEEPALIVE"]);
    assert!(desk.peer.status().last_down.as_ref().is_some_and(|(_, why)| why.contains("restarted gracefully")));
    desk.receive(&[Message::Keepalive]);
    desk.context = Desk::established().context;
    assert!(words(&desk.said())[0].starts_with("+198.51.100.1/32"), "the whole table again");
    assert_eq!((desk.conn, desk.peer.status().established_count), (new, 2));
}

#[test]
fn without_the_capability_on_the_old_session_nothing_is_replaced() {
    let mut desk = Desk::established();
    desk.accept();
    desk.receive(&[restarting_open_of(2)]);
    assert_eq!(words(&desk.said()), ["OPEN", "6/7"], "what the new OPEN offers does not matter");
    assert_eq!(desk.state(), "Established");
}

#[test]
fn a_newer_connection_of_the_peer_takes_the_place_of_one_that_came_to_nothing() {
    let mut desk = Desk::dialling();
    let first = desk.accept();
    assert_eq!(words(&desk.said()), ["OPEN"]);
    let second = desk.accept();
    assert_eq!(desk.outputs(), [Output::Close(first, CloseHow::AfterFlush)]);
    assert_eq!(words(&desk.said_on(first)), ["6/7"]);
    desk.receive_on(second, &[open_of(2), Message::Keepalive]);
    assert_eq!(desk.state(), "Established");
}

#[test]
fn a_connection_of_the_peer_that_never_speaks_is_given_up_after_half_a_minute() {
    let mut desk = Desk::with(|neighbor| neighbor.opening = Opening::Passive);
    desk.peer.handle(Input::Start, desk.now);
    let silent = desk.accept();
    desk.said();
    desk.wait(29);
    assert_eq!(desk.outputs(), []);
    desk.wait(1);
    assert_eq!(desk.outputs(), [Output::Close(silent, CloseHow::AfterFlush)]);
    assert_eq!(words(&desk.said()), ["4/0"]);
    assert_eq!(desk.state(), "Active");
}

#[test]
fn a_passive_peer_never_dials_and_waits_out_the_end_of_a_session() {
    let mut desk = Desk::with(|neighbor| neighbor.opening = Opening::Passive);
    assert_eq!(desk.peer.accept(end(), desk.now), None, "before the start nobody is welcome");
    desk.peer.handle(Input::Start, desk.now);
    assert_eq!((desk.state(), desk.peer.poll_timeout(), desk.outputs()), ("Active", None, vec![]));
    for round in 0..3 {
        let conn = desk.accept();
        desk.receive(&[open_of(2), Message::Keepalive]);
        assert_eq!(desk.state(), "Established", "round {round}");
        desk.peer.handle(Input::Closed(conn, None), desk.now);
        assert_eq!(desk.state(), "Idle");
        assert_eq!(desk.peer.accept(end(), desk.now), None, "the damping holds for the peer's dials too");
        desk.wait(4);
        assert_eq!((desk.state(), desk.outputs()), ("Active", vec![]));
    }
    desk.accept();
    desk.peer.handle(Input::Stop(Stop::Shutdown(String::new())), desk.now);
    assert_eq!(words(&desk.said()), ["OPEN", "6/2"]);
    assert_eq!(desk.peer.accept(end(), desk.now), None);
    assert!(desk.peer.is_finished() || !desk.outputs().is_empty());
}

#[test]
fn a_peer_that_cannot_be_dialled_may_dial_us() {
    let mut desk = Desk::dialling();
    desk.peer.handle(Input::ConnectFailed(desk.conn, "refused".to_owned()), desk.now);
    assert_eq!(desk.state(), "Idle");
    desk.accept();
    desk.receive(&[open_of(2), Message::Keepalive]);
    assert_eq!(desk.state(), "Established");
    desk.receive(&[Message::Keepalive]);
    desk.wait(60);
    assert_eq!(desk.outputs(), [], "no dial beside the session");
}

#[test]
fn our_open_waits_for_the_peer_s_or_for_its_time() {
    let delayed = || {
        let mut desk = Desk::with(|neighbor| neighbor.delay_open = Duration::from_secs(5));
        desk.peer.handle(Input::Start, desk.now);
        desk.expect_dial();
        desk.peer.handle(Input::Connected(desk.conn, end()), desk.now);
        assert_eq!((desk.state(), words(&desk.said())), ("Connect", vec![]));
        desk
    };
    let mut desk = delayed();
    desk.wait(5);
    assert_eq!((desk.state(), words(&desk.said())), ("OpenSent", vec!["OPEN".to_owned()]));
    let mut desk = delayed();
    desk.receive(&[open_of(2)]);
    assert_eq!(words(&desk.said()), ["OPEN", "KEEPALIVE"]);
    desk.receive(&[Message::Keepalive]);
    assert_eq!(desk.state(), "Established");
}

#[test]
fn a_peer_that_keeps_talking_and_takes_nothing_is_given_up() {
    let mut desk = Desk::with(|neighbor| {
        neighbor.hold_time = Duration::from_secs(9);
        neighbor.send_hold_time = SendHoldTime::Fixed(Duration::from_secs(18));
    });
    desk.peer.handle(Input::Start, desk.now);
    desk.expect_dial();
    desk.peer.handle(Input::Connected(desk.conn, end()), desk.now);
    desk.receive(&[open_of(2), Message::Keepalive]);
    for second in 1..=40 {
        desk.wait(1);
        desk.receive(&[Message::Keepalive]);
        if second <= 20 {
            desk.acknowledge();
        }
        // The last acknowledgement came after 20 s.
        assert_eq!(desk.state() == "Established", second < 38, "after {second} s");
        if second == 38 {
            assert_eq!(desk.outputs(), [Output::Close(desk.conn, CloseHow::AfterFlush)]);
            let last = desk.said().pop();
            assert_eq!(last, Some(Message::Notification(Notification::bare(8, 0))), "tried, at least");
            return;
        }
    }
}
