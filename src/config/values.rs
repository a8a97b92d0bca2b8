//! Single values: numbers in range, addresses, times.

use super::error::{Finding, Place};
use crate::peer::settings::{InterfaceName, is_link_local};
use crate::wire::{Asn, Bandwidth, RouterId};
use serde_saphyr::Spanned;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// A number within a range.
pub fn number<T: TryFrom<i64>>(
    what: &str,
    value: &Spanned<i64>,
    range: RangeInclusive<i64>,
    out: &mut Vec<Finding>,
) -> Option<T> {
    if range.contains(&value.value) {
        return T::try_from(value.value).ok();
    }
    let title = format!("'{what}' cannot be {}", value.value);
    let help = format!("write a number from {} to {}", range.start(), range.end());
    out.push(Finding::error(Place::of(value), title).help(help));
    None
}

/// An AS number that a speaker may have.
pub fn asn(value: &Spanned<i64>, out: &mut Vec<Finding>) -> Option<Asn> {
    let number: u32 = number("asn", value, 0..=i64::from(u32::MAX), out)?;
    let why = match number {
        0 => "0 is no AS number (RFC 7607)",
        23456 => "AS 23456 stands for numbers that an old router cannot write (RFC 6793 §9); nobody has it",
        65535 | u32::MAX => "the last AS numbers of 16 and of 32 bits are reserved (RFC 7300)",
        _ => return Some(Asn(number)),
    };
    let help = "for an AS of your own choose from 64512 to 65534 or 4200000000 to 4294967294 (RFC 6996)";
    out.push(Finding::error(Place::of(value), why).help(help));
    None
}

/// A BGP Identifier.
pub fn router_id(value: &Spanned<String>, out: &mut Vec<Finding>) -> Option<RouterId> {
    let id = value.value.parse::<Ipv4Addr>().ok().and_then(RouterId::new);
    if id.is_none() {
        let title = format!("{:?} is no router ID", value.value);
        let help = "write four numbers such as 10.0.0.1, not all of them 0; IPv6-only nodes have one of this form too";
        out.push(Finding::error(Place::of(value), title).help(help));
    }
    id
}

/// An address that one end of a session may have.
pub fn session_address(what: &str, value: &Spanned<String>, out: &mut Vec<Finding>) -> Option<IpAddr> {
    let place = Place::of(value);
    let Ok(address) = value.value.parse::<IpAddr>() else {
        let title = format!("{:?} is no IP address", value.value);
        let help = match instead(what, &value.value) {
            Some(help) => help,
            None => "write it in numbers, such as 172.30.1.1 or 2001:db8::1".to_owned(),
        };
        out.push(Finding::error(place, title).help(help));
        return None;
    };
    let wrong = match address {
        IpAddr::V4(v4) if v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast() => "is no address of one host",
        IpAddr::V6(v6) if v6.is_unspecified() || v6.is_multicast() => "is no address of one host",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "is an IPv4 address in disguise",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "is link-local and means nothing without an interface",
        IpAddr::V4(_) | IpAddr::V6(_) => return Some(address),
    };
    let help = match address.to_canonical() {
        canonical if canonical != address => format!("write {canonical}"),
        address if what == "address" && is_link_local(&address) => {
            "add 'interface: eth0', the interface that leads to the router".to_owned()
        }
        _ => "write an address such as 172.30.1.1 or 2001:db8::1".to_owned(),
    };
    out.push(Finding::error(place, format!("{address} {wrong}")).help(help));
    None
}

/// The address of a router that is reached by an interface: it may be link-local.
pub fn address_on_link(value: &Spanned<String>, out: &mut Vec<Finding>) -> Option<IpAddr> {
    match value.value.parse::<IpAddr>() {
        Ok(address) if is_link_local(&address) => Some(address),
        Ok(_) | Err(_) => session_address("address", value, out),
    }
}

/// The name of a network interface.
pub fn interface(value: &Spanned<String>, out: &mut Vec<Finding>) -> Option<InterfaceName> {
    let name = InterfaceName::new(&value.value);
    if name.is_none() {
        let title = format!("{:?} is no name of an interface", value.value);
        let help = format!("write it as 'ip link' shows it, such as eth0: 1 to {} characters", InterfaceName::MAX);
        out.push(Finding::error(Place::of(value), title).help(help));
    }
    name
}

/// What was probably meant by a text that is more than an address.
fn instead(what: &str, text: &str) -> Option<String> {
    if let Ok(with_port) = text.parse::<SocketAddr>() {
        return Some(format!("write {}; the port has a key of its own: 'port: {}'", with_port.ip(), with_port.port()));
    }
    let (address, _) = text.split_once(['/', '%'])?;
    let address: IpAddr = address.parse().ok()?;
    if let Some((_, interface)) = text.split_once('%') {
        return Some(match what {
            "address" => {
                format!("write {address}; the interface has a key of its own: 'interface: {interface}'")
            }
            _ => "an interface cannot be named here; use an address that is not link-local".to_owned(),
        });
    }
    Some(format!("'{what}' is one address; write {address}"))
}

/// Seconds as written; anything else is reported.
fn in_seconds(value: &Spanned<String>, out: &mut Vec<Finding>) -> Option<u64> {
    let seconds = seconds(&value.value);
    if seconds.is_none() {
        let title = format!("{:?} is no length of time", value.value);
        let help = match value.value.parse::<u64>() {
            Ok(number) => format!("say the unit: {number}s"),
            Err(_) => "write 90s or 1m30s".to_owned(),
        };
        out.push(Finding::error(Place::of(value), title).help(help));
    }
    seconds
}

/// A hold time: none, or 3 s to 65535 s (RFC 4271 §4.2).
pub fn hold_time(value: &Spanned<String>, out: &mut Vec<Finding>) -> Option<Duration> {
    let place = Place::of(value);
    let seconds = in_seconds(value, out)?;
    let finding = match seconds {
        0 => Finding::warning(place, "without a hold time a dead peer is never noticed")
            .help("write 'holdTime: 90s' unless something else watches the session"),
        1 | 2 => {
            out.push(
                Finding::error(place, format!("a hold time of {seconds} s is impossible"))
                    .help("BGP allows 0 (none) and 3 s to 65535 s (RFC 4271 §4.2)"),
            );
            return None;
        }
        3..9 => Finding::warning(place, format!("a hold time of {seconds} s is short"))
            .label("a keepalive every second or less")
            .help("a busy router loses such sessions; 9s and more is usual"),
        9..=65535 => return Some(Duration::from_secs(seconds)),
        65536.. => {
            out.push(
                Finding::error(place, format!("a hold time of {seconds} s is impossible"))
                    .help("the longest that BGP can say is 65535s; 0 means none (RFC 4271 §4.2)"),
            );
            return None;
        }
    };
    out.push(finding);
    Some(Duration::from_secs(seconds))
}

/// A length of time within a range of seconds.
pub fn duration(
    what: &str,
    value: &Spanned<String>,
    range: RangeInclusive<u64>,
    out: &mut Vec<Finding>,
) -> Option<Duration> {
    let place = Place::of(value);
    let seconds = in_seconds(value, out)?;
    if !range.contains(&seconds) {
        let title = format!("'{what}' cannot be {seconds} s");
        let help = format!("write a time from {}s to {}s", range.start(), range.end());
        out.push(Finding::error(place, title).help(help));
        return None;
    }
    Some(Duration::from_secs(seconds))
}

/// What a link carries, and by how much each unit multiplies bits per second.
const RATES: [(&str, f64); 5] = [("bit/s", 1.0), ("kbit/s", 1e3), ("Mbit/s", 1e6), ("Gbit/s", 1e9), ("Tbit/s", 1e12)];

/// A rate above zero, in bits per second with a unit, such as `10Gbit/s` or `2.5Gbit/s`.
pub fn rate(what: &str, value: &Spanned<String>, out: &mut Vec<Finding>) -> Option<Bandwidth> {
    let place = Place::of(value);
    let Some(bits) = bits_per_second(&value.value) else {
        let title = format!("{:?} is no rate of a link", value.value);
        let unit = value.value.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == ' ');
        let number = value.value[..value.value.len() - unit.len()].trim_end();
        let help = match super::names::nearest(unit, RATES.map(|(unit, _)| unit)) {
            Some(near) if number.parse::<f64>().is_ok() => format!("write {number}{near}"),
            Some(_) | None => "write a number and bit/s, kbit/s, Mbit/s, Gbit/s or Tbit/s, such as 10Gbit/s".to_owned(),
        };
        out.push(Finding::error(place, title).help(help));
        return None;
    };
    // The octets on the wire are a 32-bit float; routers compare rates and do not count with them.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a narrower float is what is sent; an overflow is infinite and refused"
    )]
    let bandwidth = Bandwidth::new((bits / 8.0) as f32).filter(|rate| rate.bytes_per_second() > 0.0);
    if bandwidth.is_none() {
        let title = format!("'{what}' cannot be {}", value.value);
        let help = "write what the node's link carries; a node that shall get nothing must not announce";
        out.push(Finding::error(place, title).help(help));
    }
    bandwidth
}

/// Digits with at most one point in them, and a unit.
fn bits_per_second(text: &str) -> Option<f64> {
    let digits = text.bytes().take_while(|octet| octet.is_ascii_digit() || *octet == b'.').count();
    let (number, unit) = text.split_at(digits);
    let (_, times) = RATES.iter().find(|(known, _)| *known == unit)?;
    number.parse::<f64>().ok().map(|number| number * times)
}

/// `1h2m3s` with each unit at most once and in this order, or a bare 0.
fn seconds(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0u64;
    for (unit, seconds) in [('h', 3600), ('m', 60), ('s', 1)] {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 && rest[digits..].starts_with(unit) {
            let count: u64 = rest[..digits].parse().ok()?;
            total = total.checked_add(count.checked_mul(seconds)?)?;
            rest = &rest[digits + 1..];
        }
    }
    (rest.is_empty() && !text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_written() {
        for (text, expected) in [
            ("10Gbit/s", Some(1e10)),
            ("2.5Gbit/s", Some(2.5e9)),
            ("800bit/s", Some(800.0)),
            ("100Mbit/s", Some(1e8)),
            ("1kbit/s", Some(1e3)),
            ("1Tbit/s", Some(1e12)),
            ("0Mbit/s", Some(0.0)),
            ("10", None),
            ("10G", None),
            ("10 Gbit/s", None),
            ("10gbit/s", None),
            ("-1Mbit/s", None),
            ("1e3Mbit/s", None),
            ("1.2.3Mbit/s", None),
            (".Mbit/s", None),
            ("infMbit/s", None),
            ("Mbit/s", None),
            ("", None),
        ] {
            assert_eq!(bits_per_second(text), expected, "{text:?}");
        }
    }

    #[test]
    fn times_are_read_as_written() {
        for (text, expected) in [
            ("90s", Some(90)),
            ("1m30s", Some(90)),
            ("1h", Some(3600)),
            ("1h0m1s", Some(3601)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("90", None),
            ("", None),
            ("s", None),
            ("1s1m", None),
            ("1s1s", None),
            ("-1s", None),
            ("1.5s", None),
            ("90 s", None),
            ("90ms", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(seconds(text), expected, "{text:?}");
        }
    }
}
