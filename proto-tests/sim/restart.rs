//! Graceful restart, our half: what OPENs say, and how sessions end.

use crate::desk::{Desk, end, open};
use crate::scenes::{plan, words};
use herald::peer::settings::{Offer, RestartState};
use herald::peer::{CloseHow, Input, Output, Stop};
use herald::wire::capability::GracefulRestart;
use herald::wire::{Capability, Message, Notification, Open};
use std::time::Duration;

/// What the router offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Router {
    Nothing,
    WithoutN,
    WithN,
}

fn router_open(router: Router) -> Message {
    let mut open = open();
    if router != Router::Nothing {
        let notification = router == Router::WithN;
        let offer = GracefulRestart { notification, restart_time: 120, ..Default::default() };
        open.capabilities.push(Capability::GracefulRestart(offer));
    }
    Message::Open(open)
}

fn graceful(state: RestartState) -> Desk {
    let offer = Offer { restart_time: Duration::from_secs(90) };
    let mut desk = Desk::in_state(state, |neighbor| neighbor.graceful_restart = Some(offer));
    desk.peer.handle(Input::Start, desk.now);
    desk
}

/// Connects, reads our OPEN, and brings the session up.
fn rise(desk: &mut Desk, router: Router) -> GracefulRestart {
    desk.expect_dial();
    desk.context = herald::wire::Context::before_open();
    desk.peer.handle(Input::Connected(desk.conn, end()), desk.now);
    let [Message::Open(Open { capabilities, .. })] = &desk.said()[..] else { panic!("an OPEN") };
    let offers = capabilities.iter().filter_map(|capability| match capability {
        Capability::GracefulRestart(offer) => Some(offer.clone()),
        _ => None,
    });
    let offers: Vec<_> = offers.collect();
    let [offer] = &offers[..] else { panic!("one offer: {offers:?}") };
    desk.receive(&[router_open(router), Message::Keepalive]);
    assert_eq!(words(&desk.said())[0], "KEEPALIVE");
    desk.context = Desk::established().context;
    offer.clone()
}

fn bits(offer: &GracefulRestart) -> (bool, bool, u16, Vec<bool>) {
    let preserved = offer.families.iter().map(|family| family.preserved).collect();
    (offer.restarted, offer.notification, offer.restart_time, preserved)
}

#[test]
fn every_open_says_restarted_until_end_of_rib_was_sent_once() {
    for (state, preserved) in [(RestartState::Restarting, true), (RestartState::RestartingAfterBoot, false)] {
        let mut desk = graceful(state);
        assert_eq!(bits(&rise(&mut desk, Router::WithN)), (true, true, 90, vec![preserved; 2]));
        // Nothing is planned yet: the session falls, and the next OPEN still says so.
        desk.peer.handle(Input::Closed(desk.conn, None), desk.now);
        desk.wait(1);
        assert_eq!(bits(&rise(&mut desk, Router::WithN)), (true, true, 90, vec![preserved; 2]));
        desk.plan(plan(&["198.51.100.1"]));
        assert_eq!(words(&desk.said())[1..], ["end ipv4-unicast", "end ipv6-unicast"]);
        // Whatever happens to the session from now on, this process is not restarting, and its data path is there.
        for _ in 0..2 {
            desk.peer.handle(Input::Closed(desk.conn, None), desk.now);
            desk.wait(4);
            assert_eq!(bits(&rise(&mut desk, Router::WithN)), (false, true, 90, vec![true; 2]));
        }
    }
}

#[test]
fn without_the_key_nothing_is_offered_and_nothing_negotiated() {
    let mut desk = Desk::dialling();
    desk.peer.handle(Input::Connected(desk.conn, end()), desk.now);
    let [Message::Open(ours)] = &desk.said()[..] else { panic!("an OPEN") };
    assert!(!ours.capabilities.iter().any(|capability| matches!(capability, Capability::GracefulRestart(_))));
    desk.receive(&[router_open(Router::WithN), Message::Keepalive]);
    desk.said();
    desk.peer.handle(Input::Stop(Stop::Shutdown(String::new())), desk.now);
    assert_eq!(words(&desk.said()), ["6/2"]);
}

/// What the router hears at the end: messages, or nothing at all.
#[test]
fn stops_as_the_table_has_them() {
    let shutdown = || Stop::Shutdown("rolled out".to_owned());
    let leave = || Stop::Leave("drained".to_owned());
    for (stop, router, heard) in [
        (shutdown(), Router::Nothing, &["6/2"][..]),
        (shutdown(), Router::WithoutN, &[]),
        (shutdown(), Router::WithN, &[]),
        (leave(), Router::WithoutN, &["6/2"]),
        (leave(), Router::WithN, &["6/9"]),
        (Stop::Deconfigured, Router::WithoutN, &["-198.51.100.1/32", "6/3"]),
        (Stop::Deconfigured, Router::WithN, &["-198.51.100.1/32", "6/9"]),
        (Stop::ConfigurationChange, Router::Nothing, &["6/6"]),
        (Stop::ConfigurationChange, Router::WithoutN, &[]),
        (Stop::ConfigurationChange, Router::WithN, &["6/6"]),
    ] {
        let mut desk = graceful(RestartState::Restarting);
        rise(&mut desk, router);
        desk.plan(plan(&["198.51.100.1"]));
        desk.said();
        desk.peer.handle(Input::Stop(stop.clone()), desk.now);
        let how = if heard.is_empty() { CloseHow::Now } else { CloseHow::AfterFlush };
        assert_eq!(desk.outputs(), [Output::Close(desk.conn, how)], "{stop:?} {router:?}");
        assert_eq!(words(&desk.said()), heard, "{stop:?} {router:?}");
        assert!(desk.peer.is_finished());
        let told = desk.peer.status().notifications.len();
        assert_eq!(told, usize::from(!heard.is_empty()), "only what was sent is shown as sent");
    }
}

#[test]
fn a_hard_reset_wraps_the_reason_and_faults_keep_their_own_words() {
    let mut desk = graceful(RestartState::Restarting);
    rise(&mut desk, Router::WithN);
    desk.peer.handle(Input::Stop(Stop::Deconfigured), desk.now);
    let Some(Message::Notification(told)) = desk.said().pop() else { panic!("a NOTIFICATION") };
    assert_eq!(told.wrapped(), Some(Notification::bare(6, 3)));
    // The hold timer: the router is to keep our routes, so nothing is wrapped.
    let mut desk = graceful(RestartState::Restarting);
    rise(&mut desk, Router::WithN);
    desk.wait(90);
    assert_eq!(words(&desk.said()).last().unwrap(), "4/0");
}

#[test]
fn a_stop_before_established_is_said() {
    let mut desk = graceful(RestartState::Restarting);
    desk.expect_dial();
    desk.peer.handle(Input::Connected(desk.conn, end()), desk.now);
    desk.receive(&[router_open(Router::WithN)]);
    desk.peer.handle(Input::Stop(Stop::Shutdown(String::new())), desk.now);
    assert_eq!(words(&desk.said()), ["OPEN", "KEEPALIVE", "6/2"], "there is nothing yet that could be kept");
}
