//! The whole table against the pure peer: every message, one by one, each with its verdict or its NOTIFICATION.

use crate::Form;
use crate::octets::{Told, Who, keepalive};
use crate::table::{Beside, EXTERNAL_ASN, SHOTS, Shot, shots};
use crate::verdicts::{Expected, Session};
use bytes::BytesMut;
use herald::peer::settings::RestartState;
use herald::peer::status::Consequence;
use herald::peer::{CloseHow, ConnId, Identity, Input, LocalEnd, Neighbor, Output, Peer, Phase, Settings, Status};
use herald::wire::{Asn, RouterId};
use std::collections::BTreeMap;
use std::time::Instant;

const NODE_ASN: u16 = 64_512;

/// A peer in Established, whose words so far are read.
struct Desk {
    peer: Peer,
    conn: ConnId,
    now: Instant,
}

/// Who the other end of such a session is.
pub fn who(session: Session) -> Who {
    match session {
        Session::External => Who::new(EXTERNAL_ASN, 9),
        Session::Old => Who::old(EXTERNAL_ASN, 9),
        Session::Internal => Who::new(NODE_ASN, 9),
        Session::OldInternal => Who::old(NODE_ASN, 9),
    }
}

impl Desk {
    fn established(session: Session) -> Self {
        let router_id = RouterId::new([192, 0, 2, 1].into()).unwrap();
        let asn = Asn(who(session).asn.into());
        let settings = Settings {
            identity: Identity { asn: Asn(NODE_ASN.into()), router_id },
            restart_state: RestartState::default(),
            neighbor: Neighbor::new("router".into(), "192.0.2.254".parse().unwrap(), asn),
        };
        let now = Instant::now();
        let mut peer = Peer::new(settings, 1, now);
        peer.handle(Input::Start, now);
        let Some(Output::Connect(conn)) = peer.poll_output() else { panic!("no dial") };
        let (local, remote) = ("192.0.2.1:40000".parse().unwrap(), "192.0.2.254:179".parse().unwrap());
        peer.handle(Input::Connected(conn, LocalEnd { local, remote, interface: vec![], unfit: Vec::new() }), now);
        let mut desk = Self { peer, conn, now };
        desk.hear(&[who(session).open(), keepalive()].concat());
        assert_eq!(desk.said().len(), 2, "an OPEN and a KEEPALIVE");
        assert!(desk.is_up());
        desk
    }

    fn is_up(&self) -> bool {
        matches!(self.peer.status().phase, Phase::Established { .. })
    }

    fn hear(&mut self, octets: &[u8]) {
        let mut octets = BytesMut::from(octets);
        self.peer.handle(Input::Received(self.conn, &mut octets), self.now);
        assert!(octets.is_empty(), "whole messages are taken whole");
    }

    /// Types and bodies of what the peer says.
    fn said(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut out = BytesMut::new();
        self.peer.transmit(self.conn, &mut out, usize::MAX, self.now);
        let mut said = Vec::new();
        while !out.is_empty() {
            let len = u16::from_be_bytes([out[16], out[17]]);
            let message = out.split_to(len.into());
            said.push((message[18], message[19..].to_vec()));
        }
        said
    }
}

/// What was made of a message, as far as a peer's status and its words tell.
fn judged(desk: &mut Desk, shot: &Shot) -> (Expected, Option<Told>) {
    let before = desk.peer.status().clone();
    desk.hear(&shot.octets());
    let outputs: Vec<_> = std::iter::from_fn(|| desk.peer.poll_output()).collect();
    let after = desk.peer.status().clone();
    if !desk.is_up() {
        assert_eq!(outputs[..], [Output::Close(desk.conn, CloseHow::AfterFlush)], "{shot:?}");
        let said = desk.said();
        let [(3, body)] = &said[..] else { panic!("{shot:?}: {said:?}") };
        return (Expected::Reset, Some(Told::read(body)));
    }
    assert_eq!((&outputs[..], &desk.said()[..]), (&[][..], &[][..]), "{shot:?}");
    let withdrawn = |status: &Status| {
        let causes =
            status.malformed.iter().filter(|((_, consequence), _)| *consequence == Consequence::TreatAsWithdraw);
        causes.map(|(_, count)| count).sum::<u64>()
    };
    let grown = (after.faults - before.faults, withdrawn(&after) - withdrawn(&before));
    match grown {
        (0, 0) => (Expected::Good, None),
        (1, 0) => (Expected::Discard, None),
        (1, 1) => (Expected::Withdraw, None),
        other => panic!("{shot:?}: counted {other:?}"),
    }
}

/// One kind of session; how often each verdict was reached. What ends the session for each of many unknown types is left to
/// the long form, since all that differs between them is a number.
pub fn all(session: Session, beside: Beside, form: Form) -> Result<String, String> {
    let mut counts: BTreeMap<Expected, usize> = BTreeMap::new();
    let mut desk = Desk::established(session);
    let left_out = |code: u8| form == Form::Short && beside == Beside::Nothing && code > 40 && code % 16 != 8;
    for shot in (0..=255).filter(|code| !left_out(*code)).flat_map(|code| shots(session, beside, code)) {
        let wanted = shot.expected();
        let (verdict, told) = judged(&mut desk, &shot);
        if verdict != wanted {
            return Err(format!("{shot:?}: {verdict:?} instead of {wanted:?} (told: {told:?})"));
        }
        if verdict == Expected::Reset {
            let wanted = shot.told();
            if told.as_ref() != Some(&wanted) {
                return Err(format!("{shot:?}: told {told:?} instead of {wanted:?}"));
            }
            desk = Desk::established(session);
        }
        *counts.entry(verdict).or_default() += 1;
    }
    let unknown = (0..=255).filter(|code| left_out(*code)).count();
    match counts.values().sum::<usize>() {
        count if count == SHOTS - unknown * 256 * 4 => Ok(format!("{count} messages: {counts:?}")),
        other => Err(format!("{other} messages instead of {SHOTS}")),
    }
}
