//! What the targets share. The terms of a session are taken from the end of an input, so that octets of other people's
//! corpora mean the same here as there.

use bytes::BytesMut;
use herald::wire::{AsWidth, Asn, Context, Error, Family, Message, PeerKind, Subtypes};
use std::collections::BTreeSet;

/// Splits the terms of a session off the end.
pub fn terms(input: &[u8]) -> (&[u8], Context) {
    let Some((bits, rest)) = input.split_last() else { return (input, Context::before_open()) };
    let bit = |at: u8| bits & 1 << at != 0;
    let both: BTreeSet<_> = [Family::IPV4_UNICAST, Family::IPV6_UNICAST].into();
    let when = |set: bool| if set { both.clone() } else { BTreeSet::new() };
    let context = Context {
        as_width: if bit(0) { AsWidth::Four } else { AsWidth::Two },
        peer_kind: if bit(1) { PeerKind::Internal } else { PeerKind::External },
        max_len: if bit(2) { 65_535 } else { 4096 },
        first_as: bit(3).then_some(Asn(65_000)),
        // What is sent has the shape of what is received: so that what was read can be written and read again.
        path_ids_received: when(bit(4)),
        path_ids_sent: when(bit(4)),
        ipv6_next_hops: if bit(5) { [Family::IPV4_UNICAST].into() } else { BTreeSet::new() },
        subtypes: if bit(6) { Subtypes::Defined } else { Subtypes::Reserved },
        families: both,
    };
    (rest, context)
}

/// A message of this type with this body. A header that the input brings along is replaced.
pub fn enclose(kind: u8, body: &[u8]) -> Vec<u8> {
    let body = if body.starts_with(&[0xff; 16]) { body.get(19..).unwrap_or_default() } else { body };
    let body = &body[..body.len().min(65_535 - 19)];
    let len = u16::try_from(19 + body.len()).expect("cut above").to_be_bytes();
    [&[0xff; 16][..], &len, &[kind], body].concat()
}

/// Reads a message and looks at all that comes of it.
pub fn read(octets: &[u8], context: &Context) {
    match Message::decode(octets, context) {
        Ok(message) => examine(&message, context),
        Err(error) => refuse(&error),
    }
}

/// A line of a log.
pub fn is_a_line(text: &str) {
    assert!(!text.is_empty() && text.len() < 4096 && !text.chars().any(char::is_control), "{text:?}");
}

fn examine(message: &Message, context: &Context) {
    if let Message::Notification(notification) = message {
        is_a_line(&notification.to_string());
    }
    if let Message::Update(update) = message {
        let routes = update.announced().count() + update.astray().count() + update.gone().count();
        assert!(update.end_of_rib().is_none() || routes == 0);
        if let Some(path) = update.as_path() {
            let _ = path.to_string();
        }
        update.faults.iter().for_each(|fault| is_a_line(&fault.to_string()));
        if !update.faults.is_empty() {
            return;
        }
    }
    let mut out = BytesMut::new();
    if message.encode(context, &mut out).is_ok() {
        assert_eq!(Message::decode(&out, context).as_ref(), Ok(message));
    }
}

/// What the log says, and what the peer is told.
pub fn refuse(error: &Error) {
    is_a_line(&error.to_string());
    let mut out = BytesMut::new();
    let told = Message::Notification(error.notification());
    told.encode(&Context::before_open(), &mut out).expect("a NOTIFICATION is cut to fit");
    assert!(Message::decode(&out, &Context::before_open()).is_ok());
}
