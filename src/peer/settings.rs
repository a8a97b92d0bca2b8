//! What a session needs to be told.

use crate::wire::{Asn, Family, PeerKind, RouterId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use crate::fsm::restart::{Offer, RestartState};
pub use crate::fsm::{MessageSize, Opening, SendHoldTime};
pub use crate::wire::capability::Role;

/// The name of a peer in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerName(pub Arc<str>);

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for PeerName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

/// A key of TCP-MD5: 1 to 80 octets. It is printed and written down as stars; what is read back of it signs with a wrong key, never
/// with none.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Arc<[u8]>);

impl Password {
    /// The longest that Linux takes.
    pub const MAX: usize = 80;

    /// A key, if it has a possible length.
    pub fn new(octets: &[u8]) -> Option<Self> {
        (1..=Self::MAX).contains(&octets.len()).then(|| Self(octets.into()))
    }

    /// The octets, for the socket and nobody else.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

impl Serialize for Password {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(STARS)
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <&str>::deserialize(from).map(|_| Self(STARS.as_bytes().into()))
    }
}

/// What a password is written down as.
const STARS: &str = "***";

/// The name of a network interface, as the kernel takes it: 1 to 15 octets, no `/` and no white space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InterfaceName(Arc<str>);

impl InterfaceName {
    /// The longest that Linux takes (IFNAMSIZ, less the zero at the end).
    pub const MAX: usize = 15;

    /// A name, if it is a possible one.
    pub fn new(name: &str) -> Option<Self> {
        let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        let fits = (1..=Self::MAX).contains(&name.len()) && !matches!(name, "." | "..") && !name.contains(odd);
        fits.then(|| Self(name.into()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a neighbour is: a link-local address is one on its interface only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whereabouts {
    /// Its address.
    pub address: IpAddr,
    /// The interface, where the address is link-local.
    pub interface: Option<InterfaceName>,
}

/// Who this node is in BGP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Our AS.
    pub asn: Asn,
    /// Our BGP Identifier.
    pub router_id: RouterId,
}

/// One neighbour as configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbor {
    /// Its name in the configuration.
    pub name: PeerName,
    /// Where to dial.
    pub address: IpAddr,
    /// TCP port, 179 by default.
    pub port: u16,
    /// Its AS.
    pub asn: Asn,
    /// The hold time we propose: zero, or 3 s to 65535 s. Default 90 s.
    pub hold_time: Duration,
    /// The address we dial from; the kernel chooses where absent.
    pub source_address: Option<IpAddr>,
    /// The interface that the session is bound to; the routing table decides where absent.
    pub interface: Option<InterfaceName>,
    /// The families we offer.
    pub families: BTreeSet<Family>,
    /// How far away the peer may be, and what TTL guards it.
    pub ttl: Ttl,
    /// Whether we dial.
    pub opening: Opening,
    /// How long our OPEN waits for the peer's (RFC 4271 §8.1.1 DelayOpenTime); zero: not at all.
    pub delay_open: Duration,
    /// How long the peer may acknowledge nothing (RFC 9687).
    pub send_hold_time: SendHoldTime,
    /// Graceful restart (RFC 4724), if offered.
    pub graceful_restart: Option<Offer>,
    /// The longest message that we offer to take (RFC 8654).
    pub message_size: MessageSize,
    /// What we are to this neighbour (RFC 9234), where that is said.
    pub role: Option<Role>,
    /// The key that signs every segment (TCP-MD5, RFC 2385), if there is one.
    pub password: Option<Password>,
}

impl Neighbor {
    /// A neighbour with everything as it is where the configuration says nothing.
    pub fn new(name: PeerName, address: IpAddr, asn: Asn) -> Self {
        Self {
            name,
            address,
            port: 179,
            asn,
            hold_time: Duration::from_secs(90),
            source_address: None,
            interface: None,
            families: [Family::IPV4_UNICAST, Family::IPV6_UNICAST].into(),
            ttl: Ttl::Default,
            opening: Opening::Active,
            delay_open: Duration::ZERO,
            send_hold_time: SendHoldTime::Recommended,
            graceful_restart: None,
            message_size: MessageSize::Standard,
            role: None,
            password: None,
        }
    }
}

impl Neighbor {
    /// Where it is.
    pub fn whereabouts(&self) -> Whereabouts {
        let interface = is_link_local(&self.address).then(|| self.interface.clone()).flatten();
        Whereabouts { address: self.address, interface }
    }
}

/// Whether an address means something on one link only: fe80::/10.
pub fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Next hops that are sent instead of our own, a family; the family's own addresses.
pub type NextHopOverrides = BTreeMap<Family, IpAddr>;

/// The TTL (hop limit) of a session's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Ttl {
    /// 1 for eBGP, 64 for iBGP.
    #[default]
    Default,
    /// `ebgpMultihop`: as given, for eBGP peers that are routers away.
    Multihop(u8),
    /// `ttlSecurity: HOPS` (RFC 5082): 255 sent, at least 256 − HOPS accepted.
    Security(u8),
}

/// Everything one session needs to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Us.
    pub identity: Identity,
    /// Them.
    pub neighbor: Neighbor,
    /// How this process stands towards them.
    #[serde(skip)]
    pub restart_state: RestartState,
}

impl Settings {
    /// iBGP or eBGP.
    pub fn peer_kind(&self) -> PeerKind {
        if self.identity.asn == self.neighbor.asn { PeerKind::Internal } else { PeerKind::External }
    }
}
