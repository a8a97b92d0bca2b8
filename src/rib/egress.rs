//! What a session adds to a route, and what it does not let out.

use super::bounds::Bounds;
use super::route::{Attributes, NextHop};
use crate::planted::{Bug, planted};
use crate::wire::{AsPath, Asn, Context, ExtendedCommunity, Family, Outbound, PeerKind, Prefix, Scope};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// LOCAL_PREF towards iBGP where policy names none (RFC 4271 §5.1.5 leaves the value to us; 100 is everybody's).
const LOCAL_PREF: u32 = 100;
/// Octets that a message keeps free of communities: for its frame, all other attributes at their longest, and a few prefixes.
const BESIDE_COMMUNITIES: usize = 512;

/// The way out of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// Our AS.
    pub asn: Asn,
    /// What the session agreed on.
    pub context: Context,
    /// Our own next hop, for each family that was negotiated and has one. What is not here is not announced.
    pub next_hops: BTreeMap<Family, IpAddr>,
    /// Our link-local address, for each family that sends it beside its own next hop (RFC 2545 §3).
    pub link_locals: BTreeMap<Family, Ipv6Addr>,
    /// The addresses outside of which nothing leaves.
    pub bounds: Bounds,
    /// ONLY_TO_CUSTOMER, where the roles of the session ask for it (RFC 9234 §5).
    pub only_to_customer: Option<Asn>,
    /// The peer's address: no route of ours has it as next hop (RFC 4271 §5.1.3).
    pub remote: IpAddr,
}

/// Why a route does not leave as long as the session lasts, whoever wants it announced: the last line behind policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Barred {
    /// Length zero.
    DefaultRoute,
    /// 0.0.0.0/8 or the unspecified IPv6 address.
    ThisNetwork,
    /// 127.0.0.0/8, ::1.
    Loopback,
    /// 169.254.0.0/16, fe80::/10.
    LinkLocal,
    /// 224.0.0.0/4, ff00::/8.
    Multicast,
    /// 255.255.255.255.
    Broadcast,
    /// ::ffff:0:0/96, IPv4 addresses in the clothes of IPv6.
    Mapped,
    /// In no pool, and nothing else that may be announced.
    OutOfBounds,
    /// More communities than fit a message.
    TooManyCommunities,
    /// The peer would have to send the traffic to itself.
    PeersOwnAddress,
}

const BARRED_V4: [(Ipv4Addr, u8, Barred); 5] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, Barred::ThisNetwork),
    (Ipv4Addr::new(127, 0, 0, 0), 8, Barred::Loopback),
    (Ipv4Addr::new(169, 254, 0, 0), 16, Barred::LinkLocal),
    (Ipv4Addr::new(224, 0, 0, 0), 4, Barred::Multicast),
    (Ipv4Addr::BROADCAST, 32, Barred::Broadcast),
];

const BARRED_V6: [(Ipv6Addr, u8, Barred); 5] = [
    (Ipv6Addr::UNSPECIFIED, 128, Barred::ThisNetwork),
    (Ipv6Addr::LOCALHOST, 128, Barred::Loopback),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, Barred::LinkLocal),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, Barred::Multicast),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, Barred::Mapped),
];

impl Barred {
    /// Whether a prefix is barred: it lies in a barred block, or covers one.
    pub fn of(prefix: &Prefix) -> Option<Self> {
        if prefix.is_default() {
            return Some(Barred::DefaultRoute);
        }
        match prefix.address() {
            IpAddr::V4(address) => BARRED_V4.iter().find_map(|(block, len, why)| {
                let shorter = u32::from(prefix.len().min(*len));
                ((address.to_bits() ^ block.to_bits()) >> (32 - shorter) == 0).then_some(*why)
            }),
            IpAddr::V6(address) => BARRED_V6.iter().find_map(|(block, len, why)| {
                let shorter = u32::from(prefix.len().min(*len));
                ((address.to_bits() ^ block.to_bits()) >> (128 - shorter) == 0).then_some(*why)
            }),
        }
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Barred::DefaultRoute => "a default route",
            Barred::ThisNetwork => "the unspecified network",
            Barred::Loopback => "loopback",
            Barred::LinkLocal => "link-local",
            Barred::Multicast => "multicast",
            Barred::Broadcast => "broadcast",
            Barred::Mapped => "IPv4-mapped",
            Barred::OutOfBounds => "in none of the pools",
            Barred::TooManyCommunities => "more communities than fit a message",
            Barred::PeersOwnAddress => "its next hop is the router's own address",
        }
    }
}

impl Egress {
    /// Whether a route leaves on this session.
    pub fn permits(&self, prefix: &Prefix, attributes: &Attributes) -> bool {
        self.next_hop(prefix.family(), attributes).is_some() && self.barred(prefix, attributes).is_none()
    }

    /// Why a route does not leave as long as this session lasts.
    pub fn barred(&self, prefix: &Prefix, attributes: &Attributes) -> Option<Barred> {
        let room = self.context.max_len.saturating_sub(BESIDE_COMMUNITIES);
        Barred::of(prefix)
            .or((!planted(Bug::OutOfBounds) && !self.bounds.permit(prefix)).then_some(Barred::OutOfBounds))
            .or((attributes.community_octets() > room).then_some(Barred::TooManyCommunities))
            .or(self.leads_back(prefix.family(), attributes).then_some(Barred::PeersOwnAddress))
    }

    /// On loopback both ends may have one address, and nothing leads back.
    fn leads_back(&self, family: Family, attributes: &Attributes) -> bool {
        let remote = self.remote.to_canonical();
        let next_hop = self.next_hop(family, attributes).map(|address| address.to_canonical());
        next_hop == Some(remote) && !remote.is_loopback()
    }

    /// The next hop sent with a route of `family`; of the same family always, as long as RFC 8950 is not spoken.
    pub fn next_hop(&self, family: Family, attributes: &Attributes) -> Option<IpAddr> {
        match attributes.next_hop {
            NextHop::Own => self.next_hops.get(&family).copied(),
            NextHop::Address(address) => {
                let address = address.to_canonical();
                let fits = family == if address.is_ipv4() { Family::IPV4_UNICAST } else { Family::IPV6_UNICAST };
                (fits && self.context.families.contains(&family)).then_some(address)
            }
        }
    }

    /// What goes along with the next hop of a route of `family`: only with our own.
    pub fn link_local(&self, family: Family, attributes: &Attributes) -> Option<Ipv6Addr> {
        match attributes.next_hop {
            NextHop::Own => self.link_locals.get(&family).copied(),
            NextHop::Address(_) => None,
        }
    }

    /// The attributes sent, next hop excepted, as octets in ascending order of type.
    pub fn attributes(&self, policy: &Attributes) -> Bytes {
        let path = match self.context.peer_kind {
            // Routers of our AS would take a path with our AS in it for a loop (RFC 4271 §9.1.2).
            PeerKind::Internal => AsPath::default(),
            PeerKind::External => AsPath::default().prepended(self.asn, 1 + usize::from(policy.prepend.unwrap_or(0))),
        };
        let own =
            policy.link_bandwidth.map(|rate| ExtendedCommunity::link_bandwidth(Scope::Transitive, self.asn, rate));
        let mut extended: Vec<_> = policy.extended_communities.iter().copied().chain(own).collect();
        extended.sort_unstable();
        extended.dedup();
        let outbound = Outbound {
            med: policy.med,
            // RFC 4271 §5.1.5: towards iBGP always; towards eBGP the codec leaves it out.
            local_pref: Some(policy.local_pref.unwrap_or(LOCAL_PREF)),
            communities: &policy.communities,
            extended_communities: &extended,
            large_communities: &policy.large_communities,
            only_to_customer: self.only_to_customer,
            ..Outbound::new(&path)
        };
        outbound.encode(&self.context).expect("what would be too long is barred")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Announce, AsWidth, Bandwidth, Community, LargeCommunity};

    fn egress(peer_kind: PeerKind) -> Egress {
        let context = Context {
            as_width: AsWidth::Four,
            peer_kind,
            families: [Family::IPV4_UNICAST].into(),
            ..Context::before_open()
        };
        Egress {
            asn: Asn(64512),
            context,
            next_hops: [(Family::IPV4_UNICAST, "192.0.2.1".parse().unwrap())].into(),
            link_locals: BTreeMap::new(),
            bounds: Bounds::everything(),
            only_to_customer: None,
            remote: "192.0.2.254".parse().unwrap(),
        }
    }

    #[test]
    fn what_must_never_leave_is_barred_and_its_neighbours_are_not() {
        let barred = "0.0.0.0/0 ::/0 0.1.2.3 127.0.0.1 126.0.0.0/7 169.254.1.0/24 224.0.0.5 239.255.255.255 0.0.0.0/1 255.255.255.255 \
                      :: ::1 fe80::1 febf::/16 ff02::1 ::ffff:192.0.2.1 fe00::/8 ::/8";
        for text in barred.split_whitespace() {
            assert!(Barred::of(&text.parse().unwrap()).is_some(), "{text}");
        }
        let free = "1.0.0.0/8 126.0.0.0/8 128.0.0.0/8 169.253.0.0/16 169.255.0.0/16 223.255.255.0/24 240.0.0.0/8 10.0.0.1 ::2 \
                    fec0::1 fd00::1 2001:db8::/32";
        for text in free.split_whitespace() {
            assert_eq!(Barred::of(&text.parse().unwrap()), None, "{text}");
        }
    }

    /// Whether the octets of one attribute are among those sent.
    fn sends(egress: &Egress, policy: &Attributes, attribute: &[u8]) -> bool {
        egress.attributes(policy).windows(attribute.len()).any(|window| window == attribute)
    }

    #[test]
    fn ebgp_has_our_as_and_no_local_pref_and_ibgp_the_reverse() {
        let policy = Attributes { local_pref: Some(7), med: Some(3), ..Attributes::default() };
        let (our_as, no_as) = ([0x40, 2, 6, 2, 1, 0, 0, 0xfc, 0], [0x40, 2, 0]);
        let (external, internal) = (egress(PeerKind::External), egress(PeerKind::Internal));
        assert!(sends(&external, &policy, &our_as));
        assert!(!sends(&external, &policy, &[0x40, 5, 4]));
        assert!(sends(&external, &policy, &[0x80, 4, 4, 0, 0, 0, 3]));
        assert!(sends(&internal, &policy, &no_as));
        assert!(sends(&internal, &policy, &[0x40, 5, 4, 0, 0, 0, 7]));
        assert!(sends(&internal, &Attributes::default(), &[0x40, 5, 4, 0, 0, 0, 100]));
    }

    #[test]
    fn a_two_octet_peer_never_sees_four_octet_numbers_in_as_path() {
        let mut egress = egress(PeerKind::External);
        egress.context.as_width = AsWidth::Two;
        assert!(sends(&egress, &Attributes::default(), &[0x40, 2, 4, 2, 1, 0xfc, 0]));
        egress.asn = Asn(4_200_000_000);
        assert!(sends(&egress, &Attributes::default(), &[0x40, 2, 4, 2, 1, 0x5b, 0xa0]), "AS_TRANS, 23456");
    }

    #[test]
    fn a_longer_path_is_ours_alone_and_stays_out_of_our_as() {
        let policy = Attributes { prepend: Some(2), ..Attributes::default() };
        assert!(sends(
            &egress(PeerKind::External),
            &policy,
            &[0x40, 2, 14, 2, 3, 0, 0, 0xfc, 0, 0, 0, 0xfc, 0, 0, 0, 0xfc, 0]
        ));
        assert!(sends(&egress(PeerKind::Internal), &policy, &[0x40, 2, 0]));
        let mut old = egress(PeerKind::External);
        old.context.as_width = AsWidth::Two;
        old.asn = Asn(70_000);
        assert!(sends(&old, &policy, &[0x40, 2, 8, 2, 3, 0x5b, 0xa0, 0x5b, 0xa0, 0x5b, 0xa0]), "AS_TRANS each time");
        assert!(sends(&old, &policy, &[0xc0, 17, 14, 2, 3, 0, 1, 0x11, 0x70, 0, 1, 0x11, 0x70, 0, 1, 0x11, 0x70]));
    }

    #[test]
    fn a_bandwidth_is_a_transitive_community_with_our_as_beside_the_others() {
        let policy = Attributes {
            link_bandwidth: Bandwidth::new(1.25e8),
            extended_communities: vec![ExtendedCommunity([0, 2, 0, 1, 0, 0, 0, 2])],
            ..Attributes::default()
        };
        let bandwidth = [0, 4, 0xfc, 0, 0x4c, 0xee, 0x6b, 0x28];
        for kind in [PeerKind::External, PeerKind::Internal] {
            let wanted = [&[0xc0, 16, 16, 0, 2, 0, 1, 0, 0, 0, 2][..], &bandwidth].concat();
            assert!(sends(&egress(kind), &policy, &wanted), "{kind:?}");
        }
        // The same one written out is not sent twice.
        let twice = Attributes { extended_communities: vec![ExtendedCommunity(bandwidth)], ..policy };
        assert!(sends(&egress(PeerKind::External), &twice, &[&[0xc0, 16, 8][..], &bandwidth].concat()));
    }

    #[test]
    fn communities_travel_where_there_are_any_and_too_many_keep_the_route_home() {
        let (egress, prefix) = (egress(PeerKind::External), "198.51.100.1".parse().unwrap());
        let policy = |count| Attributes { communities: (0..count).map(Community).collect(), ..Attributes::default() };
        assert!(sends(&egress, &policy(1), &[0xc0, 8, 4, 0, 0, 0, 0]));
        assert!(egress.permits(&prefix, &policy(896)));
        assert!(!egress.permits(&prefix, &policy(897)));
        assert_eq!(egress.barred(&prefix, &policy(897)), Some(Barred::TooManyCommunities));
        // Every kind counts by its octets.
        let full = policy(895);
        let large = vec![LargeCommunity { global: 1, local1: 2, local2: 3 }];
        assert!(!egress.permits(&prefix, &Attributes { link_bandwidth: Bandwidth::new(1.0), ..full.clone() }));
        assert!(!egress.permits(&prefix, &Attributes { large_communities: large, ..full.clone() }));
        assert!(
            !egress.permits(&prefix, &Attributes { extended_communities: vec![ExtendedCommunity([0; 8])], ..full })
        );
    }

    /// What is permitted fits, with everything else at its longest: no kind of peer, width of numbers, family or length of
    /// message is an exception.
    #[test]
    fn what_is_permitted_fits_a_message() {
        let mut worst = Attributes {
            med: Some(1),
            local_pref: Some(1),
            large_communities: vec![LargeCommunity { global: 1, local1: 2, local2: 3 }],
            link_bandwidth: Bandwidth::new(1.0),
            prepend: Some(Attributes::PREPEND_MAX),
            ..Attributes::default()
        };
        let both = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
        for (kind, as_width, max_len) in [PeerKind::External, PeerKind::Internal]
            .into_iter()
            .flat_map(|kind| [AsWidth::Two, AsWidth::Four].map(|width| (kind, width)))
            .flat_map(|(kind, width)| [4096, 65_535].map(|max_len| (kind, width, max_len)))
        {
            let mut egress = egress(kind);
            (egress.asn, egress.only_to_customer) = (Asn(4_200_000_000), Some(Asn(4_200_000_000)));
            egress.context =
                Context { as_width, max_len, families: both.into(), ipv6_next_hops: both.into(), ..egress.context };
            egress.context.path_ids_sent = both.into();
            let next_hop: IpAddr = "2001:db8::1".parse().unwrap();
            for prefix in ["198.51.100.1", "2001:db8::1"].map(|text| text.parse::<Prefix>().unwrap()) {
                worst.communities.clear();
                while egress.barred(&prefix, &worst).is_none() {
                    worst.communities.extend([Community(7); 16]);
                }
                worst.communities.truncate(worst.communities.len() - 16);
                while egress.barred(&prefix, &worst).is_none() {
                    worst.communities.push(Community(7));
                }
                worst.communities.pop();
                let attributes = &egress.attributes(&worst);
                let link_local = Some("fe80::1".parse().unwrap());
                let prefixes = [prefix; 4];
                let announce =
                    Announce { attributes, next_hop, link_local, family: prefix.family(), prefixes: &prefixes };
                let mut out = bytes::BytesMut::new();
                assert_eq!(announce.encode(&egress.context, &mut out), Ok(4), "{kind:?} {as_width:?} {max_len}");
                assert!(out.len() <= max_len && out.len() > max_len - BESIDE_COMMUNITIES, "{} of {max_len}", out.len());
            }
        }
    }

    #[test]
    fn a_next_hop_of_the_wrong_family_or_of_none_keeps_the_route_home() {
        let egress = egress(PeerKind::External);
        let via =
            |text: &str| Attributes { next_hop: NextHop::Address(text.parse().unwrap()), ..Attributes::default() };
        let (v4, v6) = ("198.51.100.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        assert!(egress.permits(&v4, &Attributes::default()));
        assert!(!egress.permits(&v6, &Attributes::default()));
        assert!(egress.permits(&v4, &via("192.0.2.77")));
        assert!(!egress.permits(&v4, &via("2001:db8::77")));
        assert_eq!(egress.next_hop(v4.family(), &via("::ffff:192.0.2.77")), Some("192.0.2.77".parse().unwrap()));
        assert!(!egress.permits(&v6, &via("2001:db8::77")), "the family was not negotiated");
    }
}
