//! From any message to one that a speaker has reason to send: families that exist, codes that are assigned, text that is
//! text, addresses that hosts have. Other codecs may refuse anything else with good right.

use herald::wire::capability::Role;
use herald::wire::{Attribute, Capability, Family, Message, Nlri, Notification, Open, Prefix, RouterId, Text};
use std::net::{IpAddr, Ipv4Addr};

/// Subcodes of the error codes 1 to 8; without any, 0 is the only one.
const SUBCODES: [&[u8]; 8] = [
    &[1, 2, 3],
    &[0, 1, 2, 3, 4, 6, 7, 11],
    &[1, 2, 3, 4, 5, 6, 8, 9, 10, 11],
    &[0],
    &[1, 2, 3],
    &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    &[1],
    &[0],
];

pub fn sayable(message: Message) -> Message {
    match message {
        Message::Open(open) => Message::Open(Open {
            router_id: RouterId::new(host(open.router_id.octets().into())).unwrap(),
            capabilities: open.capabilities.into_iter().map(capability).collect(),
            ..open
        }),
        Message::Update(mut update) => {
            update.withdrawn.iter_mut().for_each(unicast);
            update.nlri.iter_mut().for_each(unicast);
            update.attributes.iter_mut().for_each(attribute);
            Message::Update(update)
        }
        Message::Notification(told) => {
            let code = told.code % 8;
            let subcodes = SUBCODES[usize::from(code)];
            let subcode = subcodes[usize::from(told.subcode) % subcodes.len()];
            Message::Notification(Notification { code: code + 1, subcode, data: told.data })
        }
        Message::Keepalive => Message::Keepalive,
        Message::RouteRefresh(mut refresh) => {
            refresh.family = family(refresh.family);
            refresh.subtype %= 3;
            Message::RouteRefresh(refresh)
        }
    }
}

fn family(any: Family) -> Family {
    if any.afi.is_multiple_of(2) { Family::IPV6_UNICAST } else { Family::IPV4_UNICAST }
}

/// An address of class A, B or C.
fn host(address: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, d] = address.octets();
    Ipv4Addr::new(1 + a % 126, b, c, d)
}

fn unicast(nlri: &mut Nlri) {
    if let IpAddr::V4(address) = nlri.prefix.address()
        && nlri.prefix.len() >= 8
    {
        nlri.prefix = Prefix::covering(host(address).into(), nlri.prefix.len()).unwrap();
    }
    if nlri.prefix.len() < 8 {
        nlri.prefix = Prefix::covering(nlri.prefix.address(), 0).unwrap();
        nlri.prefix = match nlri.prefix.address() {
            IpAddr::V4(_) => "10.0.0.0/8".parse().unwrap(),
            IpAddr::V6(_) => "2001:db8::/32".parse().unwrap(),
        };
    }
    if let IpAddr::V6(address) = nlri.prefix.address()
        && address.is_multicast()
    {
        nlri.prefix = "2001:db8:ffff::/48".parse().unwrap();
    }
}

fn attribute(attribute: &mut Attribute) {
    match attribute {
        Attribute::NextHop(address) => *address = host(*address),
        Attribute::MpReach(reach) => {
            reach.nlri.iter_mut().for_each(unicast);
            if let IpAddr::V4(address) = reach.next_hop {
                reach.next_hop = host(address).into();
            }
        }
        Attribute::MpUnreach(unreach) => {
            if unreach.withdrawn.is_empty() {
                unreach.family = family(unreach.family);
            }
            unreach.withdrawn.iter_mut().for_each(unicast);
        }
        _ => {}
    }
}

fn text(any: Text) -> Text {
    let letter = |octet: &u8| b'a' + octet % 26;
    Text(any.0.iter().map(letter).collect())
}

fn capability(any: Capability) -> Capability {
    match any {
        Capability::Multiprotocol(one) => Capability::Multiprotocol(family(one)),
        Capability::ExtendedNextHop(mut list) => {
            list.iter_mut().for_each(|one| (one.family, one.next_hop_afi) = (Family::IPV4_UNICAST, 2));
            Capability::ExtendedNextHop(list)
        }
        Capability::GracefulRestart(mut restart) => {
            restart.families.iter_mut().for_each(|one| one.family = family(one.family));
            Capability::GracefulRestart(restart)
        }
        Capability::AddPath(mut list) => {
            list.iter_mut().for_each(|one| one.family = family(one.family));
            Capability::AddPath(list)
        }
        Capability::LongLivedGracefulRestart(mut list) => {
            list.iter_mut().for_each(|one| one.family = family(one.family));
            Capability::LongLivedGracefulRestart(list)
        }
        Capability::PathsLimit(mut list) => {
            list.iter_mut().for_each(|one| one.family = family(one.family));
            Capability::PathsLimit(list)
        }
        Capability::Fqdn { host, domain } => Capability::Fqdn { host: text(host), domain: text(domain) },
        Capability::SoftwareVersion(version) => Capability::SoftwareVersion(text(version)),
        Capability::Role(Role::Unassigned(_)) => Capability::Role(Role::Peer),
        // A code that nobody has assigned, and none will soon.
        Capability::Unknown { code: _, data } => Capability::Unknown { code: 200, data },
        plain @ (Capability::RouteRefresh
        | Capability::ExtendedMessage
        | Capability::Role(_)
        | Capability::FourOctetAs(_)
        | Capability::EnhancedRouteRefresh
        | Capability::LinkLocalNextHop) => plain,
    }
}
