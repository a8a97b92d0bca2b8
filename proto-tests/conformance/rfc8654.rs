//! RFC 8654: messages above 4096 octets.

use crate::rig::*;
use herald::peer::Settings;
use herald::peer::settings::MessageSize;
use herald::rib::Attributes;
use herald::wire::Capability;

fn offering() -> Settings {
    with(|settings| settings.neighbor.message_size = MessageSize::Extended)
}

fn desk(ours: bool, theirs: bool) -> Desk {
    let settings = if ours { offering() } else { settings() };
    let more = [Some(Capability::EnhancedRouteRefresh), theirs.then_some(Capability::ExtendedMessage)];
    let open = open_with(&settings, more.into_iter().flatten());
    Desk::established_by(settings, &open)
}

/// An announcement of that many octets in all, padded by an attribute that nobody knows.
fn long(len: usize, mandatory: &[u8]) -> Vec<u8> {
    let padding = len - 23 - mandatory.len() - 4 - NLRI.len();
    let octets = update(&[], &[mandatory, &attribute(0xd0, 99, &vec![0; padding])].concat(), &NLRI);
    assert_eq!(octets.len(), len);
    octets
}

#[test]
fn s3_faults_in_long_messages_are_survived() {
    let mut desk = desk(true, true);
    desk.receive_octets(&long(9000, &replaced(On::External, 1, &[0x40, 1, 1, 7])));
    assert_eq!((desk.state(), desk.said(), desk.peer.status().faults), ("Established", vec![], 1));
}

#[test]
fn s4_messages_of_65535_octets_are_taken_once_offered() {
    for theirs in [true, false] {
        let mut desk = desk(true, theirs);
        desk.receive_octets(&long(65_535, &On::External.mandatory()));
        let status = desk.peer.status();
        assert_eq!((desk.state(), status.discarded, status.faults), ("Established", 1, 0), "offered back: {theirs}");
    }
}

#[test]
fn s4_nothing_is_longer_than_the_peer_takes() {
    let many: Vec<String> = (0..20_000).map(|n| format!("10.1.{}.{}", n / 256, n % 256)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (ours, theirs, longest) in
        [(true, true, 65_535), (true, false, 4096), (false, true, 4096), (false, false, 4096)]
    {
        let mut desk = desk(ours, theirs);
        desk.plan(&many, Attributes::default());
        let context = desk.context.clone();
        let lengths: Vec<usize> = cut(desk.octets(), &context).iter().map(Vec::len).collect();
        assert!(lengths.iter().all(|len| *len <= longest), "{lengths:?}");
        assert!(lengths.iter().any(|len| longest - *len < 5), "and the room is used: {lengths:?}");
    }
}

#[test]
fn s5_without_our_offer_a_long_message_is_1_2() {
    for theirs in [true, false] {
        let mut desk = desk(false, theirs);
        desk.receive_octets(&long(4097, &On::External.mandatory()));
        let told = desk.notification().unwrap();
        assert_eq!((told.code, told.subcode, &told.data[..]), (1, 2, &be(4097)[..]));
    }
}

#[test]
fn s5_a_notification_to_a_peer_that_takes_4096_is_no_longer() {
    // A mark of 5000 octets is to be returned whole.
    for (theirs, len) in [(false, 4096), (true, 5021)] {
        let mut desk = desk(true, theirs);
        desk.receive_octets(&message(5, &[&[0, 1, 1, 1][..], &[0; 4977]].concat()));
        let octets = desk.octets();
        assert_eq!((octets[18], octets[19], octets[20], octets.len()), (3, 7, 1, len));
    }
}
