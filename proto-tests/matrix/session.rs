//! A session in no router's language: what a row wants of the router, and what it tells herald.

use crate::bed::{self, LINK_LOCAL, ROUTER, SPEAKER, Wires};
use std::fmt::Write as _;
use std::net::IpAddr;

/// The port on which herald listens where a row lets it: one that needs no rights.
pub const OUR_PORT: u16 = 1790;
/// herald's AS where a row does not say otherwise.
pub const OUR_ASN: u32 = 64512;
/// The router's.
pub const ROUTER_ASN: u32 = 65001;

/// Which of the two families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// As configuration files write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// The one of a pair, IPv4 first.
    pub fn of<T: Copy>(self, pair: [T; 2]) -> T {
        match self {
            Self::V4 => pair[0],
            Self::V6 => pair[1],
        }
    }
}

/// Both.
pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

/// Who dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dials {
    /// herald alone.
    Herald,
    /// The router alone, to [`OUR_PORT`].
    Router,
    /// Each the other.
    Each,
}

/// What more a row asks of both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// TCP-MD5 with this key.
    Password(&'static str),
    /// RFC 5082, one hop.
    TtlSecurity,
    /// RFC 8950: IPv4 routes over an IPv6 next hop.
    ExtendedNextHop,
    /// The router says that it knows no AS numbers of four octets.
    TwoOctetAs,
    /// RFC 8654.
    ExtendedMessages,
    /// RFC 4724 and RFC 8538, the router as the one that waits.
    GracefulRestart,
    /// The router names a block, not our address.
    RouterRange,
    /// herald names a block, not the router's address.
    OurRange,
    /// Each end is at its link-local address, on the link of the cell of this number.
    LinkLocal(usize),
}

/// A session as a row wants it.
#[derive(Debug, Clone)]
pub struct Session {
    /// The wiring below it.
    pub wires: Wires,
    /// herald's AS.
    pub ours: u32,
    /// The router's AS.
    pub theirs: u32,
    /// The family of the connection.
    pub over: Family,
    /// The families of the routes.
    pub families: Vec<Family>,
    /// Hold time in seconds, at both ends.
    pub hold: u64,
    /// Who dials.
    pub dials: Dials,
    /// What more.
    pub asks: Vec<Ask>,
    /// Keys of herald's advertisement, a line each.
    pub advertisement: Vec<String>,
}

impl Default for Session {
    /// eBGP over IPv4, both families, herald dials.
    fn default() -> Self {
        Self {
            wires: Wires::Both,
            ours: OUR_ASN,
            theirs: ROUTER_ASN,
            over: Family::V4,
            families: BOTH.into(),
            hold: 30,
            dials: Dials::Herald,
            asks: Vec::new(),
            advertisement: Vec::new(),
        }
    }
}

impl Session {
    /// The default with these asks.
    pub fn asking(asks: &[Ask]) -> Self {
        Self { asks: asks.into(), ..Self::default() }
    }

    /// Whether a row asks for this.
    pub fn wants(&self, ask: Ask) -> bool {
        self.asks.contains(&ask)
    }

    /// The key of TCP-MD5.
    pub fn password(&self) -> Option<&'static str> {
        self.asks.iter().find_map(|ask| match ask {
            Ask::Password(key) => Some(*key),
            Ask::TtlSecurity
            | Ask::ExtendedNextHop
            | Ask::TwoOctetAs
            | Ask::ExtendedMessages
            | Ask::GracefulRestart
            | Ask::RouterRange
            | Ask::OurRange
            | Ask::LinkLocal(_) => None,
        })
    }

    /// The interfaces of herald and of the router, where link-local addresses need them.
    pub fn devices(&self) -> Option<[String; 2]> {
        self.asks.iter().find_map(|ask| match ask {
            Ask::LinkLocal(number) => Some(["r", "s"].map(|end| format!("{}{end}", bed::name(*number)))),
            Ask::Password(_)
            | Ask::TtlSecurity
            | Ask::ExtendedNextHop
            | Ask::TwoOctetAs
            | Ask::ExtendedMessages
            | Ask::GracefulRestart
            | Ask::RouterRange
            | Ask::OurRange => None,
        })
    }

    /// Where the router is.
    pub fn router(&self) -> IpAddr {
        if self.devices().is_some() { LINK_LOCAL[0] } else { self.over.of(ROUTER) }
    }

    /// Where herald is.
    pub fn speaker(&self) -> IpAddr {
        if self.devices().is_some() { LINK_LOCAL[1] } else { self.over.of(SPEAKER) }
    }

    /// One of the two addresses as the router's own files write it: with the router's interface behind it where it needs one.
    pub fn scoped(&self, address: IpAddr) -> String {
        match self.devices() {
            Some([_, device]) => format!("{address}%{device}"),
            None => address.to_string(),
        }
    }

    /// The next hop of a family's routes.
    pub fn next_hop(&self, family: Family) -> IpAddr {
        match (family, self.wires) {
            (Family::V4, Wires::SixOnly) => SPEAKER[1],
            (Family::V4 | Family::V6, Wires::Both | Wires::SixOnly) => family.of(SPEAKER),
        }
    }

    /// herald's configuration.
    pub fn yaml(&self) -> String {
        let mut text = format!("asn: {}\n", self.ours);
        if self.dials != Dials::Herald {
            let _infallible = writeln!(text, "listen: {{port: {OUR_PORT}}}");
        }
        text.push_str(&self.peer());
        text.push_str("pools:\n- name: lab\n  addresses: [198.51.100.0/24, 198.18.0.0/15, \"2001:db8:5::/64\"]\n");
        text.push_str("guard:\n  maxWithdraw: 100%\nadvertisements:\n- name: lab\n  announceWithoutEndpoints: true\n");
        self.advertisement.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        text
    }

    /// herald's configuration once the peer is gone from it.
    pub fn yaml_without_peer(&self) -> String {
        self.yaml().replace(&self.peer(), "peers: []\n")
    }

    fn peer(&self) -> String {
        let mut text = "peers:\n- name: router\n".to_owned();
        let mut line = |words: String| text.push_str(&format!("  {words}\n"));
        if self.wants(Ask::OurRange) {
            line(format!("range: \"{}\"", self.over.of(["172.30.1.0/24", "2001:db8:30:1::/64"])));
        } else {
            line(format!("address: \"{}\"", self.router()));
            if let Some([device, _]) = self.devices() {
                line(format!("interface: {device}"));
            }
            if self.dials == Dials::Router {
                line("passive: true".to_owned());
            }
        }
        line(format!("asn: {}", self.theirs));
        line(format!("holdTime: {}s", self.hold));
        line(format!("families: [{}]", self.families.iter().map(|f| f.word()).collect::<Vec<_>>().join(", ")));
        for ask in &self.asks {
            match ask {
                Ask::Password(key) => line(format!("password: {key}")),
                Ask::TtlSecurity => line("ttlSecurity: 1".to_owned()),
                Ask::ExtendedMessages => line("extendedMessages: true".to_owned()),
                Ask::GracefulRestart => line("gracefulRestart: {restartTime: 60s}".to_owned()),
                // Offered always, or the router's business alone.
                Ask::ExtendedNextHop | Ask::TwoOctetAs | Ask::RouterRange | Ask::OurRange | Ask::LinkLocal(_) => {}
            }
        }
        text
    }
}
