//! From two OPENs to the terms of a session (RFC 4271 §4.2, §6.2; RFC 4760 §8; RFC 6286 §2; RFC 6793 §4).

use super::restart::{Graceful, Offer, Restart, RestartState};
use crate::planted::{Bug, planted};
use crate::wire::capability::{NextHopEncoding, Role};
use crate::wire::{AsWidth, Asn, Capability, Context, Family, Notification, Open, PeerKind, RouterId, Subtypes};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// What we bring to the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Our AS.
    pub asn: Asn,
    /// Our BGP Identifier.
    pub router_id: RouterId,
    /// The AS that the peer must be in.
    pub peer_asn: Asn,
    /// The hold time that we propose: zero, or 3 s to 65535 s.
    pub hold_time: Duration,
    /// The families that we offer.
    pub families: BTreeSet<Family>,
    /// Whether we dial.
    pub opening: Opening,
    /// How long our OPEN waits for the peer's (DelayOpenTime); zero: not at all.
    pub delay_open: Duration,
    /// How long the peer may take nothing.
    pub send_hold_time: SendHoldTime,
    /// Graceful restart, if we offer it.
    pub graceful_restart: Option<Offer>,
    /// The longest message that we offer to take.
    pub message_size: MessageSize,
    /// What we are to the peer (RFC 9234), where that is said.
    pub role: Option<Role>,
}

/// The longest message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MessageSize {
    /// 4096 octets (RFC 4271 §4.1).
    #[default]
    Standard,
    /// 65,535 octets where the peer offers it too (RFC 8654).
    Extended,
}

/// What is done for a request to send a family again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// The routes are sent again (RFC 2918).
    Plain,
    /// Between two marks, so that the peer can drop what was not among them (RFC 7313).
    Marked,
}

/// Who opens the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Opening {
    /// We dial. The peer may dial too.
    #[default]
    Active,
    /// The peer does; we never dial (RFC 4271 §8.1.1 PassiveTcpEstablishment).
    Passive,
}

/// How long the peer may acknowledge nothing before the session ends (RFC 9687 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SendHoldTime {
    /// The larger of 8 minutes and twice the negotiated hold time (RFC 9687 §6).
    #[default]
    Recommended,
    /// As configured, more than the hold time; zero: for ever.
    Fixed(Duration),
}

/// IPv4 unicast with an IPv6 next hop (RFC 8950 §4).
const IPV4_OVER_IPV6: NextHopEncoding = NextHopEncoding { family: Family::IPV4_UNICAST, next_hop_afi: 2 };
/// Octets of the longest message (RFC 4271 §4.1, RFC 8654 §3).
const BASE_MESSAGE: usize = 4096;
const EXTENDED_MESSAGE: usize = 65_535;

/// The least of RFC 9687 §6.
const SEND_HOLD_TIME: Duration = Duration::from_secs(480);

impl MessageSize {
    fn octets(self) -> usize {
        match self {
            MessageSize::Standard => BASE_MESSAGE,
            MessageSize::Extended => EXTENDED_MESSAGE,
        }
    }
}

impl SendHoldTime {
    /// The time for a session with this hold time; zero: no limit. Without a hold time nothing needs to be taken regularly.
    pub fn of(self, hold_time: Duration) -> Duration {
        match self {
            _ if hold_time.is_zero() => Duration::ZERO,
            SendHoldTime::Recommended => SEND_HOLD_TIME.max(2 * hold_time),
            SendHoldTime::Fixed(time) => time,
        }
    }
}

/// What both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The peer's BGP Identifier.
    pub router_id: RouterId,
    /// The smaller of both hold times; zero: no hold timer and no KEEPALIVEs after the first.
    pub hold_time: Duration,
    /// How long the peer may take nothing; zero: no limit.
    pub send_hold_time: Duration,
    /// Whether the peer can restart gracefully.
    pub restart: Restart,
    /// Whether the peer keeps our routes when the session ends.
    pub graceful: Graceful,
    /// How requests for a family are answered.
    pub refresh: Refresh,
    /// What the codec must know: families both offered, width of AS numbers, iBGP or eBGP.
    pub context: Context,
    /// The same for what the peer sends: its messages may be long where we offered that, whatever it takes itself (RFC 8654
    /// §4).
    pub reading: Context,
}

/// Why an OPEN that could be read is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not the AS that was configured (RFC 4271 §6.2), or AS 0 (RFC 7607 §2).
    #[error("the peer says it is in AS {offered}, and the configuration expects AS {expected}")]
    BadPeerAs {
        /// As configured.
        expected: Asn,
        /// As the peer has it.
        offered: Asn,
    },
    /// An iBGP peer with our own identifier (RFC 6286 §2.2).
    #[error("the peer has our own BGP Identifier {0}: two speakers of one AS must differ in it")]
    BadIdentifier(RouterId),
    /// One or two seconds (RFC 4271 §4.2).
    #[error("the peer proposes a hold time of {0} s, and only 0 or 3 s and more are allowed")]
    UnacceptableHoldTime(u16),
    /// Roles that do not go together, or two of them from the peer (RFC 9234 §4.2).
    #[error("our role is {ours:?}, and the peer says that it is {theirs:?}: correct 'role' here or on the router")]
    RoleMismatch {
        /// What we are.
        ours: Role,
        /// What the peer says it is.
        theirs: Vec<Role>,
    },
}

impl Refusal {
    /// What the peer is told (RFC 4271 §6.2).
    pub fn notification(&self) -> Notification {
        match self {
            Refusal::BadPeerAs { .. } => Notification::bare(2, 2),
            Refusal::BadIdentifier(_) => Notification::bare(2, 3),
            Refusal::UnacceptableHoldTime(_) => Notification::bare(2, 6),
            Refusal::RoleMismatch { .. } => Notification::ROLE_MISMATCH,
        }
    }
}

impl Terms {
    /// iBGP or eBGP.
    pub fn peer_kind(&self) -> PeerKind {
        if self.asn == self.peer_asn { PeerKind::Internal } else { PeerKind::External }
    }

    /// Our OPEN. Capability 65 always goes with it (RFC 6793 §4.1).
    pub fn open(&self, restart_state: RestartState) -> Open {
        let families = self.families.iter().map(|family| Capability::Multiprotocol(*family));
        Open {
            my_as: self.asn.two_octets(),
            hold_time: u16::try_from(self.hold_time.as_secs()).unwrap_or(u16::MAX),
            router_id: self.router_id,
            capabilities: families
                .chain([Capability::RouteRefresh, Capability::FourOctetAs(self.asn), Capability::EnhancedRouteRefresh])
                .chain(self.offers_ipv6_next_hops().then(|| Capability::ExtendedNextHop(vec![IPV4_OVER_IPV6])))
                .chain(match self.message_size {
                    MessageSize::Standard => None,
                    MessageSize::Extended => Some(Capability::ExtendedMessage),
                })
                .chain(self.role.map(Capability::Role))
                .chain(self.graceful_restart.map(|offer| offer.capability(restart_state, &self.families)))
                .collect(),
        }
    }

    /// IPv4 routes with an IPv6 next hop (RFC 8950): wherever there are IPv4 routes.
    fn offers_ipv6_next_hops(&self) -> bool {
        self.families.contains(&Family::IPV4_UNICAST)
    }

    /// The AS that paths from the peer must begin with (RFC 4271 §6.3). A route server does not add its own (RFC 7947 §2.2.2).
    fn first_as(&self) -> Option<Asn> {
        match (self.peer_kind(), self.role) {
            (PeerKind::Internal, _) | (PeerKind::External, Some(Role::RouteServerClient)) => None,
            (PeerKind::External, _) => Some(self.peer_asn),
        }
    }

    /// RFC 9234 §4.2: no role on one side is none on both.
    fn check_role(&self, theirs: &Open) -> Result<(), Refusal> {
        let said =
            theirs.capabilities.iter().filter_map(|c| if let Capability::Role(role) = c { Some(*role) } else { None });
        let said: BTreeSet<Role> = said.collect();
        match (self.role, said.first()) {
            (Some(ours), Some(first)) if said.len() > 1 || !ours.goes_with(*first) => {
                Err(Refusal::RoleMismatch { ours, theirs: said.into_iter().collect() })
            }
            (Some(_), Some(_) | None) | (None, _) => Ok(()),
        }
    }

    /// What comes of our OPEN and theirs.
    ///
    /// # Errors
    /// The first rule of RFC 4271 §6.2 that theirs breaks.
    pub fn negotiate(&self, theirs: &Open) -> Result<Negotiated, Refusal> {
        let offered = theirs.asn();
        if offered != self.peer_asn || offered.0 == 0 {
            return Err(Refusal::BadPeerAs { expected: self.peer_asn, offered });
        }
        if self.peer_kind() == PeerKind::Internal && theirs.router_id == self.router_id {
            return Err(Refusal::BadIdentifier(theirs.router_id));
        }
        if matches!(theirs.hold_time, 1 | 2) {
            return Err(Refusal::UnacceptableHoldTime(theirs.hold_time));
        }
        self.check_role(theirs)?;
        let offered = |capability: &Capability| theirs.capabilities.contains(capability);
        let ipv6_next_hops = theirs.capabilities.iter().any(|capability| match capability {
            Capability::ExtendedNextHop(encodings) => encodings.contains(&IPV4_OVER_IPV6),
            _ => false,
        });
        let four_octets = theirs.capabilities.iter().any(|c| matches!(c, Capability::FourOctetAs(_)));
        let context = Context {
            as_width: if four_octets || planted(Bug::WideToNarrow) { AsWidth::Four } else { AsWidth::Two },
            peer_kind: self.peer_kind(),
            first_as: self.first_as(),
            families: theirs.families().into_iter().filter(|family| self.families.contains(family)).collect(),
            max_len: if offered(&Capability::ExtendedMessage) || planted(Bug::LongUnasked) {
                self.message_size.octets()
            } else {
                BASE_MESSAGE
            },
            ipv6_next_hops: (ipv6_next_hops && self.offers_ipv6_next_hops())
                .then_some(Family::IPV4_UNICAST)
                .into_iter()
                .collect(),
            subtypes: if offered(&Capability::EnhancedRouteRefresh) { Subtypes::Defined } else { Subtypes::Reserved },
            ..Context::before_open()
        };
        let refresh = match context.subtypes {
            Subtypes::Defined => Refresh::Marked,
            Subtypes::Reserved => Refresh::Plain,
        };
        let hold_time = self.hold_time.min(Duration::from_secs(theirs.hold_time.into()));
        let (restart, theirs_graceful) = Restart::of(theirs);
        let graceful = if self.graceful_restart.is_some() { theirs_graceful } else { Graceful::No };
        let send_hold_time = self.send_hold_time.of(hold_time);
        let reading = Context { max_len: self.message_size.octets(), ..context.clone() };
        let router_id = theirs.router_id;
        Ok(Negotiated { router_id, hold_time, send_hold_time, restart, graceful, refresh, context, reading })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn terms() -> Terms {
        Terms {
            asn: Asn(4_200_000_001),
            router_id: RouterId::new(Ipv4Addr::new(10, 0, 0, 1)).unwrap(),
            peer_asn: Asn(64512),
            hold_time: Duration::from_secs(90),
            families: [Family::IPV4_UNICAST, Family::IPV6_UNICAST].into(),
            opening: Opening::Active,
            delay_open: Duration::ZERO,
            send_hold_time: SendHoldTime::Recommended,
            graceful_restart: None,
            message_size: MessageSize::Standard,
            role: None,
        }
    }

    fn open(capabilities: Vec<Capability>) -> Open {
        let router_id = RouterId::new(Ipv4Addr::new(10, 0, 0, 2)).unwrap();
        Open { my_as: 64512, hold_time: 9, router_id, capabilities }
    }

    #[test]
    fn the_smaller_hold_time_wins_and_zero_is_the_smallest() {
        assert_eq!(terms().negotiate(&open(vec![])).unwrap().hold_time, Duration::from_secs(9));
        let theirs = Open { hold_time: 0, ..open(vec![]) };
        assert_eq!(terms().negotiate(&theirs).unwrap().hold_time, Duration::ZERO);
        let ours = Terms { hold_time: Duration::from_secs(3), ..terms() };
        assert_eq!(ours.negotiate(&open(vec![])).unwrap().hold_time, Duration::from_secs(3));
    }

    #[test]
    fn the_send_hold_time_follows_the_hold_time_and_is_none_without_one() {
        let of = |time: SendHoldTime, hold| time.of(Duration::from_secs(hold)).as_secs();
        assert_eq!([0, 9, 90, 240, 300].map(|hold| of(SendHoldTime::Recommended, hold)), [0, 480, 480, 480, 600]);
        let fixed = SendHoldTime::Fixed(Duration::from_secs(18));
        assert_eq!([0, 9].map(|hold| of(fixed, hold)), [0, 18]);
    }

    #[test]
    fn only_families_of_both_are_spoken_and_no_capability_means_ipv4() {
        let families = |capabilities| terms().negotiate(&open(capabilities)).unwrap().context.families;
        assert_eq!(families(vec![]), [Family::IPV4_UNICAST].into());
        assert_eq!(families(vec![Capability::Multiprotocol(Family::IPV6_UNICAST)]), [Family::IPV6_UNICAST].into());
        assert_eq!(families(vec![Capability::Multiprotocol(Family { afi: 1, safi: 128 })]), BTreeSet::new());
    }

    #[test]
    fn as_numbers_are_wide_only_where_the_peer_said_so() {
        assert_eq!(terms().negotiate(&open(vec![])).unwrap().context.as_width, AsWidth::Two);
        let wide = open(vec![Capability::FourOctetAs(Asn(64512))]);
        assert_eq!(terms().negotiate(&wide).unwrap().context.as_width, AsWidth::Four);
        assert_eq!(terms().open(RestartState::Running).my_as, 23456);
        assert!(
            terms().open(RestartState::Running).capabilities.contains(&Capability::FourOctetAs(Asn(4_200_000_001)))
        );
    }

    #[test]
    fn a_wrong_as_a_shared_identifier_and_a_short_hold_time_are_refused() {
        let code = |terms: Terms, open: Open| {
            let told = terms.negotiate(&open).unwrap_err().notification();
            (told.code, told.subcode)
        };
        assert_eq!(code(terms(), Open { my_as: 64513, ..open(vec![]) }), (2, 2));
        assert_eq!(code(terms(), open(vec![Capability::FourOctetAs(Asn(7))])), (2, 2));
        let zero = Terms { peer_asn: Asn(0), ..terms() };
        assert_eq!(code(zero, Open { my_as: 0, ..open(vec![]) }), (2, 2));
        let ibgp = Terms { asn: Asn(64512), router_id: open(vec![]).router_id, ..terms() };
        assert_eq!(code(ibgp, open(vec![])), (2, 3));
        for short in [1, 2] {
            assert_eq!(code(terms(), Open { hold_time: short, ..open(vec![]) }), (2, 6));
        }
    }

    #[test]
    fn options_hold_where_both_sides_offer_them() {
        let all = vec![
            Capability::ExtendedMessage,
            Capability::EnhancedRouteRefresh,
            Capability::ExtendedNextHop(vec![IPV4_OVER_IPV6]),
        ];
        let wide = Terms { message_size: MessageSize::Extended, ..terms() };
        let both = wide.negotiate(&open(all.clone())).unwrap();
        assert_eq!((both.context.max_len, both.refresh), (65_535, Refresh::Marked));
        assert_eq!(both.context.ipv6_next_hops, [Family::IPV4_UNICAST].into());
        for (terms, theirs) in [(wide.clone(), vec![]), (terms(), vec![Capability::ExtendedMessage])] {
            assert_eq!(terms.negotiate(&open(theirs)).unwrap().context.max_len, 4096);
        }
        let none = wide.negotiate(&open(vec![])).unwrap();
        assert_eq!((none.refresh, none.context.ipv6_next_hops), (Refresh::Plain, BTreeSet::new()));
        let only_v6 = Terms { families: [Family::IPV6_UNICAST].into(), ..terms() };
        assert_eq!(only_v6.negotiate(&open(all)).unwrap().context.ipv6_next_hops, BTreeSet::new());
        let offers =
            |terms: Terms| terms.open(RestartState::Running).capabilities.contains(&Capability::ExtendedMessage);
        assert_eq!([offers(wide), offers(terms())], [true, false]);
    }

    #[test]
    fn roles_go_together_or_the_session_is_refused() {
        let terms = |role| Terms { role, ..terms() };
        let judge = |ours: Option<Role>, theirs: &[Role]| {
            let theirs = theirs.iter().map(|role| Capability::Role(*role)).collect();
            terms(ours).negotiate(&open(theirs)).map(|_| ()).map_err(|refusal| refusal.notification())
        };
        let mismatch = Err(Notification::bare(2, 11));
        assert_eq!(judge(Some(Role::Customer), &[Role::Provider]), Ok(()));
        assert_eq!(judge(Some(Role::Customer), &[Role::Provider, Role::Provider]), Ok(()));
        assert_eq!(judge(Some(Role::Customer), &[]), Ok(()), "a peer without roles is none the worse");
        assert_eq!(judge(None, &[Role::Provider]), Ok(()));
        assert_eq!(judge(Some(Role::Customer), &[Role::Customer]), mismatch);
        assert_eq!(judge(Some(Role::Customer), &[Role::Provider, Role::Peer]), mismatch);
        assert_eq!(judge(Some(Role::Peer), &[Role::Unassigned(9)]), mismatch);
    }

    #[test]
    fn paths_of_an_external_peer_begin_with_it_unless_it_is_a_route_server() {
        let first = |change: fn(&mut Terms)| {
            let mut terms = Terms { asn: Asn(64512), peer_asn: Asn(64513), ..terms() };
            change(&mut terms);
            let theirs = Open { my_as: terms.peer_asn.two_octets(), ..open(vec![]) };
            terms.negotiate(&theirs).unwrap().context.first_as
        };
        assert_eq!(first(|_| {}), Some(Asn(64513)));
        assert_eq!(first(|terms| terms.role = Some(Role::Customer)), Some(Asn(64513)));
        assert_eq!(first(|terms| terms.role = Some(Role::RouteServerClient)), None);
        assert_eq!(first(|terms| terms.peer_asn = terms.asn), None);
    }

    #[test]
    fn an_ebgp_peer_may_share_our_identifier() {
        let theirs = Open { router_id: terms().router_id, ..open(vec![]) };
        assert!(terms().negotiate(&theirs).is_ok());
    }
}
