//! RFC 8538: graceful restart after a NOTIFICATION.

use crate::rig::*;
use herald::peer::{Input, Stop};
use herald::wire::capability::GracefulRestart;
use herald::wire::{Capability, Message, Notification};

fn desk(notification: bool) -> Desk {
    let restart = GracefulRestart { notification, ..GracefulRestart::default() };
    Desk::established_by(graceful(), &open_with(&graceful(), [Capability::GracefulRestart(restart)]))
}

#[test]
fn s4_the_n_bit_is_set_in_our_offer() {
    let open = Desk::open_sent(graceful()).open();
    assert!(open.graceful_restart().unwrap().notification);
}

#[test]
fn s3_2_a_hard_reset_ends_the_session_without_an_answer() {
    for data in [&b"\x06\x02\x03bye"[..], b"\x06", b""] {
        let mut desk = desk(true);
        desk.receive_octets(&message(3, &[&[6, 9][..], data].concat()));
        assert_eq!((desk.state(), desk.said()), ("Idle", vec![]));
    }
}

#[test]
fn s5_2_words_are_wrapped_and_read_inside() {
    let mut desk = desk(true);
    desk.peer.handle(Input::Stop(Stop::Leave("drain".to_owned())), desk.now);
    assert_eq!(desk.octets()[19..], *b"\x06\x09\x06\x02\x05drain");
    let mut desk = self::desk(true);
    let wrapped = Notification::cease(herald::wire::CeaseSubcode::AdministrativeReset, "moved").hard_reset();
    desk.receive(&[Message::Notification(wrapped)]);
    let told = desk.peer.status().notifications.last().unwrap().clone();
    assert!(told.contains("Hard Reset (6/9)") && told.contains("(6/4): \"moved\""), "{told}");
}

#[test]
fn s6_it_is_reported_as_a_hard_reset_with_what_it_wraps() {
    let mut desk = desk(true);
    desk.receive_octets(&message(3, &[6, 9, 6, 3]));
    let (_, why) = desk.peer.status().last_down.clone().unwrap();
    assert!(why.contains("Cease, Hard Reset (6/9) because of Cease, Peer De-configured (6/3)"), "{why}");
}
