//! What capabilities offer: the values of those that are more than a code. Reading gives `None` for what is malformed;
//! what follows from that, `capability` says.

use super::emit::prefixed_u8;
use super::error::EncodeError;
use super::parse::Reader;
use super::{Family, Text};
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// One triple of code 5 (RFC 8950 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHopEncoding {
    /// Family of the prefixes.
    pub family: Family,
    /// AFI that their next hop may be of: 2 for IPv6.
    pub next_hop_afi: u16,
}

/// What the sender of an OPEN is to its receiver (RFC 9234 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// 0: sells transit to the receiver.
    Provider,
    /// 1: a route server, and the receiver is its client.
    RouteServer,
    /// 2: a client of the receiver's route server.
    RouteServerClient,
    /// 3: buys transit from the receiver.
    Customer,
    /// 4: exchanges routes of both their customers.
    Peer,
    /// A number that RFC 9234 does not assign; it goes with none.
    Unassigned(u8),
}

/// Code 64 (RFC 4724 §3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GracefulRestart {
    /// The R bit: the sender has restarted and does not know its routes yet.
    pub restarted: bool,
    /// The N bit (RFC 8538 §2): routes also survive a NOTIFICATION that is no Hard Reset.
    pub notification: bool,
    /// Restart Time in seconds: how long until the sender is back; 12 bits, so at most 4095, and written as that if larger.
    pub restart_time: u16,
    /// The families in question.
    pub families: Vec<Forwarding>,
}

/// One family of code 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forwarding {
    /// Which.
    pub family: Family,
    /// The F bit: forwarding survived the restart.
    pub preserved: bool,
}

/// One family of code 69 (RFC 7911 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddPath {
    /// Which.
    pub family: Family,
    /// What the sender of the OPEN will do.
    pub mode: AddPathMode,
}

/// Send/Receive of RFC 7911 §4, seen from the sender of the OPEN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddPathMode {
    /// 1: takes several paths.
    Receive,
    /// 2: sends several paths.
    Send,
    /// 3: both.
    Both,
}

/// One family of code 71 (RFC 9494 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LongLived {
    /// Which.
    pub family: Family,
    /// The F bit.
    pub preserved: bool,
    /// Seconds that stale routes may stay: 24 bits, so at most 16,777,215, and written as that if larger.
    pub stale_time: u32,
}

/// One family of code 76.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathsLimit {
    /// Which.
    pub family: Family,
    /// The most paths that the sender wants for one prefix.
    pub limit: u16,
}

/// R, N and the two unassigned bits stand above twelve bits of Restart Time (RFC 4724 §3, RFC 8538 §2).
const RESTARTED: u16 = 0x8000;
const NOTIFICATION: u16 = 0x4000;
const RESTART_TIME: u16 = 0x0fff;
/// The F bit of a family's flags (RFC 4724 §3, RFC 9494 §3.1).
const FORWARDING: u8 = 0x80;
/// Twenty-four bits of stale time (RFC 9494 §3.1).
const STALE_TIME: u32 = 0x00ff_ffff;

impl Role {
    pub(super) fn from_octet(octet: u8) -> Self {
        match octet {
            0 => Role::Provider,
            1 => Role::RouteServer,
            2 => Role::RouteServerClient,
            3 => Role::Customer,
            4 => Role::Peer,
            octet => Role::Unassigned(octet),
        }
    }

    pub(super) fn octet(self) -> u8 {
        match self {
            Role::Provider => 0,
            Role::RouteServer => 1,
            Role::RouteServerClient => 2,
            Role::Customer => 3,
            Role::Peer => 4,
            Role::Unassigned(octet) => octet,
        }
    }

    /// Whether the two ends of a session may have these roles (RFC 9234 §4.2); if not, the answer is Role Mismatch, 2/11.
    pub fn goes_with(self, other: Role) -> bool {
        matches!(
            (self, other),
            (Role::Provider, Role::Customer)
                | (Role::Customer, Role::Provider)
                | (Role::RouteServer, Role::RouteServerClient)
                | (Role::RouteServerClient, Role::RouteServer)
                | (Role::Peer, Role::Peer)
        )
    }
}

impl AddPathMode {
    /// Whether the sender of the OPEN takes path identifiers.
    pub fn receives(self) -> bool {
        match self {
            AddPathMode::Receive | AddPathMode::Both => true,
            AddPathMode::Send => false,
        }
    }

    /// Whether the sender of the OPEN sends path identifiers.
    pub fn sends(self) -> bool {
        match self {
            AddPathMode::Send | AddPathMode::Both => true,
            AddPathMode::Receive => false,
        }
    }
}

/// A value that is a list of items of `N` octets, or none if something is left over.
fn items<'a, const N: usize>(value: Reader<'a>) -> Option<&'a [[u8; N]]> {
    let (items, rest) = value.rest().as_chunks::<N>();
    rest.is_empty().then_some(items)
}

fn family(afi_high: u8, afi_low: u8, safi: u8) -> Family {
    Family { afi: u16::from_be_bytes([afi_high, afi_low]), safi }
}

fn put_family(family: Family, out: &mut BytesMut) {
    out.put_u16(family.afi);
    out.put_u8(family.safi);
}

/// AFI (2), SAFI (2), next hop AFI (2); a SAFI of two octets exists nowhere else, and none above 255.
pub(super) fn next_hops(value: Reader<'_>) -> Option<Vec<NextHopEncoding>> {
    let one = |octets: &[u8; 6]| match *octets {
        [high, low, 0, safi, hop_high, hop_low] => Some(NextHopEncoding {
            family: family(high, low, safi),
            next_hop_afi: u16::from_be_bytes([hop_high, hop_low]),
        }),
        _ => None,
    };
    items(value)?.iter().map(one).collect()
}

pub(super) fn put_next_hops(list: &[NextHopEncoding], out: &mut BytesMut) {
    for encoding in list {
        out.put_u16(encoding.family.afi);
        out.put_u16(encoding.family.safi.into());
        out.put_u16(encoding.next_hop_afi);
    }
}

/// One octet.
pub(super) fn role(mut value: Reader<'_>) -> Option<Role> {
    let role = value.u8().ok()?;
    value.is_empty().then_some(Role::from_octet(role))
}

/// Flags and time (2), then AFI (2), SAFI and flags of each family.
pub(super) fn graceful_restart(mut value: Reader<'_>) -> Option<GracefulRestart> {
    let head = value.u16().ok()?;
    let one = |[high, low, safi, flags]: &[u8; 4]| Forwarding {
        family: family(*high, *low, *safi),
        preserved: flags & FORWARDING != 0,
    };
    Some(GracefulRestart {
        restarted: head & RESTARTED != 0,
        notification: head & NOTIFICATION != 0,
        restart_time: head & RESTART_TIME,
        families: items(value)?.iter().map(one).collect(),
    })
}

pub(super) fn put_graceful_restart(restart: &GracefulRestart, out: &mut BytesMut) {
    let bit = |set: bool, bit: u16| if set { bit } else { 0 };
    let time = restart.restart_time.min(RESTART_TIME);
    out.put_u16(bit(restart.restarted, RESTARTED) | bit(restart.notification, NOTIFICATION) | time);
    for Forwarding { family, preserved } in &restart.families {
        put_family(*family, out);
        out.put_u8(if *preserved { FORWARDING } else { 0 });
    }
}

/// AFI (2), SAFI and mode; one wrong mode spoils the capability (RFC 7911 §4).
pub(super) fn add_paths(value: Reader<'_>) -> Option<Vec<AddPath>> {
    let one = |[high, low, safi, mode]: &[u8; 4]| {
        let mode = match mode {
            1 => AddPathMode::Receive,
            2 => AddPathMode::Send,
            3 => AddPathMode::Both,
            _ => return None,
        };
        Some(AddPath { family: family(*high, *low, *safi), mode })
    };
    items(value)?.iter().map(one).collect()
}

pub(super) fn put_add_paths(list: &[AddPath], out: &mut BytesMut) {
    for AddPath { family, mode } in list {
        put_family(*family, out);
        out.put_u8(match mode {
            AddPathMode::Receive => 1,
            AddPathMode::Send => 2,
            AddPathMode::Both => 3,
        });
    }
}

/// AFI (2), SAFI, flags and stale time (3).
pub(super) fn long_lived(value: Reader<'_>) -> Option<Vec<LongLived>> {
    let one = |octets: &[u8; 7]| {
        let [high, low, safi, flags, time @ ..] = *octets;
        LongLived {
            family: family(high, low, safi),
            preserved: flags & FORWARDING != 0,
            stale_time: u32::from_be_bytes([0, time[0], time[1], time[2]]),
        }
    };
    Some(items(value)?.iter().map(one).collect())
}

pub(super) fn put_long_lived(list: &[LongLived], out: &mut BytesMut) {
    for LongLived { family, preserved, stale_time } in list {
        put_family(*family, out);
        let flags = if *preserved { u32::from(FORWARDING) << 24 } else { 0 };
        out.put_u32(flags | (*stale_time).min(STALE_TIME));
    }
}

/// AFI (2), SAFI and limit (2).
pub(super) fn paths_limits(value: Reader<'_>) -> Option<Vec<PathsLimit>> {
    let one = |[high, low, safi, limit_high, limit_low]: &[u8; 5]| PathsLimit {
        family: family(*high, *low, *safi),
        limit: u16::from_be_bytes([*limit_high, *limit_low]),
    };
    Some(items(value)?.iter().map(one).collect())
}

pub(super) fn put_paths_limits(list: &[PathsLimit], out: &mut BytesMut) {
    for PathsLimit { family, limit } in list {
        put_family(*family, out);
        out.put_u16(*limit);
    }
}

/// Two texts, each with its length in front.
pub(super) fn fqdn(mut value: Reader<'_>) -> Option<(Text, Text)> {
    let host = text(&mut value)?;
    let domain = text(&mut value)?;
    value.is_empty().then_some((host, domain))
}

/// One text with its length in front, and nothing else.
pub(super) fn only_text(mut value: Reader<'_>) -> Option<Text> {
    let text = text(&mut value)?;
    value.is_empty().then_some(text)
}

fn text(value: &mut Reader<'_>) -> Option<Text> {
    let len = value.u8().ok()?;
    let octets = value.take(len.into()).ok()?;
    Some(Text(Bytes::copy_from_slice(octets)))
}

pub(super) fn put_text(text: &Text, out: &mut BytesMut) -> Result<(), EncodeError> {
    prefixed_u8(out, "text of a capability", |out| {
        out.put_slice(&text.0);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_go_in_pairs() {
        let all = (0..=5).map(Role::from_octet).collect::<Vec<_>>();
        let pairs = |role: Role| all.iter().filter(move |other| role.goes_with(**other)).map(|other| other.octet());
        let partners: Vec<Vec<u8>> = all.iter().map(|role| pairs(*role).collect()).collect();
        assert_eq!(partners, [vec![3], vec![2], vec![1], vec![0], vec![4], vec![]]);
    }
}
