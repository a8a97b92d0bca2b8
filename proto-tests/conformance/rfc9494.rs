//! RFC 9494: long-lived graceful restart. herald reads the capability and neither offers nor uses it.

use crate::rig::*;
use herald::peer::{Phase, Settings};
use herald::wire::capability::{GracefulRestart, LongLived};
use herald::wire::{Capability, Message, Open};

fn long_lived() -> Capability {
    Capability::LongLivedGracefulRestart(vec![LongLived { family: V4, preserved: true, stale_time: 3600 }])
}

#[test]
fn s5_the_capability_is_not_offered() {
    for settings in [settings(), graceful(), internal()] {
        let open = Desk::open_sent(settings).open();
        assert!(open.capabilities.iter().all(|capability| capability.code() != 71), "{open:?}");
    }
}

#[test]
fn s3_1_reserved_bits_are_sent_as_zero_and_ignored() {
    let octets = octets_of(&open_with(&settings(), [long_lived()]));
    assert!(octets.ends_with(&[71, 7, 0, 1, 1, 0x80, 0, 0x0e, 0x10]), "{octets:?}");
    let mut with_bits = octets.clone();
    let at = with_bits.len() - 4;
    with_bits[at] = 0xff;
    let read = |octets: &[u8]| Message::decode(octets, &herald::wire::Context::before_open()).unwrap();
    assert_eq!(read(&with_bits), read(&octets));
}

/// What is settled with a router of that OPEN, for people.
fn settled(settings: Settings, open: &Open) -> String {
    match &Desk::established_by(settings, open).peer.status().phase {
        Phase::Established { hold_time, graceful, families, end_of_rib, .. } => {
            format!("{hold_time:?} {graceful:?} {families:?} {end_of_rib:?}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn s4_1_what_a_peer_offers_changes_nothing_with_or_without_graceful_restart() {
    for settings in [settings(), graceful()] {
        for restart in [None, Some(Capability::GracefulRestart(GracefulRestart::default()))] {
            let without = open_with(&settings, restart.clone());
            let with = open_with(&settings, restart.into_iter().chain([long_lived()]));
            assert_eq!(settled(settings.clone(), &with), settled(settings.clone(), &without));
        }
    }
}
