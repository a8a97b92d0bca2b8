//! RFC 9003: why a session is shut down, in words.

use crate::rig::*;
use herald::peer::{Input, Stop};
use herald::wire::{CeaseSubcode, Notification};

/// The NOTIFICATION of a stop, as octets behind the header.
fn stopped(stop: Stop) -> Vec<u8> {
    let mut desk = On::External.desk();
    desk.peer.handle(Input::Stop(stop), desk.now);
    let context = desk.context.clone();
    cut(desk.octets(), &context).pop().unwrap()[19..].to_vec()
}

/// What people read of a NOTIFICATION with these octets of data.
fn read(subcode: u8, data: &[u8]) -> String {
    let mut desk = On::External.desk();
    desk.receive_octets(&message(3, &[&[6, subcode][..], data].concat()));
    assert_eq!((desk.state(), desk.said()), ("Idle", vec![]));
    desk.peer.status().notifications.last().unwrap().clone()
}

#[test]
fn s2_words_go_with_6_2_and_6_4_only() {
    assert_eq!(stopped(Stop::Shutdown("bye".to_owned())), b"\x06\x02\x03bye");
    assert_eq!(stopped(Stop::ConfigurationChange), [6, 6]);
    assert_eq!(stopped(Stop::Deconfigured), [6, 3]);
    assert_eq!(Notification::cease(CeaseSubcode::AdministrativeReset, "bye").data[..], *b"\x03bye");
    for subcode in [CeaseSubcode::MaximumPrefixes, CeaseSubcode::PeerDeconfigured, CeaseSubcode::OutOfResources] {
        assert_eq!(Notification::cease(subcode, "bye").data[..], [0; 0]);
    }
    for (subcode, shown) in [(2, true), (4, true), (3, false), (6, false)] {
        assert_eq!(read(subcode, b"\x03bye").contains("\"bye\""), shown, "6/{subcode}");
    }
}

#[test]
fn s2_what_is_sent_is_utf_8_of_255_octets_at_most() {
    for text in ["Wartung über Nacht", "保守", &"ä".repeat(200), &"🦀".repeat(100)] {
        let octets = stopped(Stop::Shutdown(text.to_owned()));
        let sent = std::str::from_utf8(&octets[3..]).expect("whole characters");
        assert!(text.starts_with(sent) && usize::from(octets[2]) == sent.len() && sent.len() > 5, "{sent}");
    }
}

#[test]
fn s2_invalid_utf_8_is_not_interpreted() {
    for bad in [&b"\x02\xff\xfe"[..], b"\x04\xf0\x90\x80a", b"\x03\xed\xa0\x80"] {
        let text = read(2, bad);
        assert!(text.contains('\u{fffd}'), "{text}");
    }
}

#[test]
fn s2_overlong_forms_stand_for_nothing() {
    for overlong in [&b"\x02\xc0\xaf"[..], b"\x03\xe0\x80\xaf", b"\x02\xc1\x81"] {
        let text = read(2, overlong);
        let words = text.split_once(": ").map_or("", |(_, words)| words);
        assert!(words.contains('\u{fffd}') && !words.contains(['/', 'A']), "{text}");
    }
    let sent = stopped(Stop::Shutdown("a/b\0".to_owned()));
    assert_eq!(sent[3..], *b"a/b\0", "and each character of ours has its shortest form");
}
