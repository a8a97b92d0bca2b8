//! RFC 4724: graceful restart, the half of a speaker whose routes are kept.

use crate::rig::*;
use herald::peer::{CloseHow, Output};
use herald::rib::Attributes;
use herald::wire::capability::GracefulRestart;
use herald::wire::{Capability, Message, Open};

fn offer(open: &Open) -> GracefulRestart {
    let offers: Vec<_> = open.capabilities.iter().filter(|c| matches!(c, Capability::GracefulRestart(_))).collect();
    assert_eq!(offers.len(), 1, "one instance: {offers:?}");
    open.graceful_restart().unwrap().clone()
}

fn restarting(restart: GracefulRestart) -> Open {
    open_with(&graceful(), [Capability::GracefulRestart(restart)])
}

fn desk() -> Desk {
    Desk::established_by(graceful(), &restarting(GracefulRestart::default()))
}

fn ends(desk: &mut Desk) -> Vec<herald::wire::Family> {
    desk.updates().iter().filter_map(|update| update.end_of_rib()).collect()
}

#[test]
fn s3_a_restarted_peer_is_not_waited_for() {
    let restart = GracefulRestart { restarted: true, ..GracefulRestart::default() };
    let mut desk = Desk::established_by(graceful(), &restarting(restart));
    desk.plan(&["198.51.100.1"], Attributes::default());
    assert_eq!(desk.updates().iter().flat_map(|update| update.announced()).count(), 1);
}

#[test]
fn s3_reserved_bits_are_sent_as_zero_and_ignored() {
    let octets = Desk::open_sent(graceful()).octets();
    let at = octets.windows(2).position(|window| window == [64, 10]).expect("two families");
    assert_eq!(octets[at + 2] & 0x30, 0, "beside R, N and the time");
    assert_eq!((octets[at + 7] & 0x7f, octets[at + 11] & 0x7f), (0, 0), "beside F");
    let with_bits = |first: u8, flags: u8| {
        let capabilities = [65, 4, 0, 0, 0xfc, 0x01, 64, 6, first, 120, 0, 1, 1, flags];
        let parameters = [&[16, 2, 14][..], &capabilities].concat();
        let mut desk = Desk::open_sent(graceful());
        desk.octets();
        desk.receive_octets(&raw_open(&parameters));
        desk.receive(&[Message::Keepalive]);
        assert_eq!(desk.state(), "Established");
        format!("{:?}", desk.peer.status().phase)
    };
    let told = |text: String| text.split("graceful").nth(1).map(str::to_owned);
    assert_eq!(told(with_bits(0, 0)), told(with_bits(0x30, 0x7f)));
}

#[test]
fn s3_our_open_has_the_capability_once() {
    for settings in [graceful(), with(|s| s.neighbor.graceful_restart = graceful().neighbor.graceful_restart)] {
        offer(&Desk::open_sent(settings).open());
    }
}

#[test]
fn s3_of_several_the_last_counts() {
    for (first, last) in [(true, false), (false, true)] {
        let capability =
            |notification| Capability::GracefulRestart(GracefulRestart { notification, ..GracefulRestart::default() });
        let open = open_with(&graceful(), [capability(first), capability(last)]);
        let desk = Desk::established_by(graceful(), &open);
        let text = format!("{:?}", desk.peer.status().phase);
        let wanted = if last { "graceful: WithNotification" } else { "graceful: WithoutNotification" };
        assert!(text.contains(wanted), "{text}");
    }
}

#[test]
fn s4_end_of_rib_follows_the_first_table_also_an_empty_one() {
    for prefixes in [&["198.51.100.1", "2001:db8:1::1"][..], &[]] {
        let mut desk = desk();
        assert_eq!(ends(&mut desk), [], "no plan is not an empty plan");
        desk.plan(prefixes, Attributes::default());
        let said = desk.updates();
        let routes: usize = said.iter().map(|update| update.announced().count()).sum();
        assert_eq!(routes, prefixes.len());
        let last: Vec<_> = said.iter().rev().take(2).filter_map(|update| update.end_of_rib()).collect();
        assert_eq!(last, [V6, V4], "behind the routes");
        desk.plan(&["198.51.100.9"], Attributes::default());
        assert_eq!(ends(&mut desk), [], "once");
    }
}

#[test]
fn s4_after_a_notification_the_whole_table_is_sent_anew() {
    let mut desk = desk();
    desk.plan(&["198.51.100.1"], Attributes::default());
    desk.updates();
    desk.receive(&[Message::Notification(herald::wire::Notification::bare(6, 4))]);
    assert_eq!((desk.state(), desk.said()), ("Idle", vec![]));
    desk.expire();
    desk.outputs().iter().for_each(|output| {
        if let Output::Connect(conn) = output {
            desk.conn = *conn;
        }
    });
    desk.context = herald::wire::Context::before_open();
    desk.peer.handle(herald::peer::Input::Connected(desk.conn, end()), desk.now);
    desk.said();
    desk.receive(&[Message::Open(restarting(GracefulRestart::default())), Message::Keepalive]);
    desk.context = self::desk().context;
    let updates = desk.updates();
    assert_eq!(updates.iter().flat_map(|update| update.announced()).count(), 1, "{updates:?}");
}

#[test]
fn s4_1_a_new_process_says_that_it_restarted_and_s4_2_a_lost_session_is_no_restart() {
    let mut desk = Desk::open_sent(graceful());
    assert!(offer(&desk.open()).restarted, "a new process");
    desk.receive(&[Message::Open(restarting(GracefulRestart::default())), Message::Keepalive]);
    desk.reconnect();
    assert!(offer(&desk.open()).restarted, "it has not told its routes yet");
    let mut desk = self::desk();
    desk.plan(&["198.51.100.1"], Attributes::default());
    assert_eq!(ends(&mut desk).len(), 2);
    desk.reconnect();
    assert!(!offer(&desk.open()).restarted, "only the session was lost");
}

#[test]
fn s4_2_a_new_connection_of_a_restarted_peer_replaces_the_old_one() {
    let mut desk = desk();
    desk.plan(&["198.51.100.1"], Attributes::default());
    desk.updates();
    let (old, context) = (desk.conn, desk.context.clone());
    let new = desk.accept();
    assert!(matches!(desk.said()[..], [Message::Open(_)]));
    assert_eq!(desk.outputs(), [], "until its OPEN comes nothing happens");
    desk.receive(&[Message::Open(restarting(GracefulRestart { restarted: true, ..GracefulRestart::default() }))]);
    assert_eq!(desk.outputs(), [Output::Close(old, CloseHow::Now)]);
    assert_eq!(desk.said_on(old), [], "the old one is closed without a word");
    desk.receive(&[Message::Keepalive]);
    desk.context = context;
    assert_eq!((desk.state(), desk.conn), ("Established", new));
    let said = desk.updates();
    assert_eq!(said.iter().flat_map(|update| update.announced()).count(), 1, "and the table goes out on the new one");
}
