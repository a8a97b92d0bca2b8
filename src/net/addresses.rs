//! The addresses of this node as the kernel has them now, with what it says of each: they come late, leave, grow old and are
//! replaced while sessions live.

use super::complaint::Complaint;
use super::netlink::{self, attributes, drain, long};
use super::socket::readable;
use crate::condition::{Conditions, Reason};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// After a look: what comes together is seen together.
const PAUSE: Duration = Duration::from_millis(50);
/// How long an address must be missing before it is believed to be gone.
const BELIEVED: Duration = Duration::from_millis(500);
/// After the kernel refused to tell.
const RETRY: Duration = Duration::from_secs(5);

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The interface's number.
    pub interface: u32,
    /// The address.
    pub ip: IpAddr,
    /// The length of its prefix.
    pub length: u8,
    /// Whether it is there to stay.
    pub state: State,
}

/// What the kernel says of an address (linux/if_addr.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It is used like any other.
    Settled,
    /// IPv6 alone: deprecated, tentative or a duplicate (RFC 4862 §5.4, §5.5.4), or temporary (RFC 8981).
    Passing,
}

/// All of them.
pub type Addresses = Arc<BTreeSet<Address>>;

/// What is on the interface of one of our addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Beside {
    /// Addresses that routers may send traffic to.
    pub fit: Vec<IpAddr>,
    /// Those that they may only where the Node names them: passing ones, and single ones beside a subnet, as those that move
    /// between nodes are.
    pub unfit: Vec<IpAddr>,
}

/// Publishes the addresses, now and whenever they change, for ever; as long as it cannot, that is `said`.
pub async fn run(out: watch::Sender<Addresses>, said: watch::Sender<Conditions>) {
    let complaint = Complaint::new(Reason::KernelUnreadable, "addresses", said);
    complaint.follow(RETRY, explain, || follow(&out, &complaint)).await;
}

fn explain(error: &io::Error) -> String {
    format!(
        "the addresses of this node cannot be followed ({error}): next hops go by those that were known last, and a session whose \
         own address goes is not ended; tried again every {} s (netlink sockets must be allowed, and descriptors to be had)",
        RETRY.as_secs()
    )
}

async fn follow(out: &watch::Sender<Addresses>, complaint: &Complaint) -> io::Result<std::convert::Infallible> {
    let news = readable(netlink::listen(&[RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR], &question())?)?;
    loop {
        let first = read()?;
        let missing: Vec<Address> = without(&out.borrow(), &first).collect();
        if missing.is_empty() {
            publish(out, first);
        } else {
            // What is put back in a moment was never gone: TCP does not notice either.
            publish(out, first.into_iter().chain(missing).collect());
            sleep(BELIEVED).await;
            publish(out, read()?);
        }
        complaint.clear();
        sleep(PAUSE).await;
        let mut ready = news.readable().await?;
        drain(news.get_ref());
        ready.clear_ready();
    }
}

fn publish(out: &watch::Sender<Addresses>, now: BTreeSet<Address>) {
    out.send_if_modified(|held| {
        let changed = **held != now;
        if changed {
            *held = Arc::new(now);
        }
        changed
    });
}

/// Those whose address is on its interface no more.
fn without<'a>(before: &'a BTreeSet<Address>, now: &'a BTreeSet<Address>) -> impl Iterator<Item = Address> + 'a {
    let is_there = |one: &Address| {
        let least = Address { length: 0, state: State::Settled, ..*one };
        now.range(least..).next().is_some_and(|next| (next.interface, next.ip) == (one.interface, one.ip))
    };
    before.iter().filter(move |one| !is_there(one)).copied()
}

/// The addresses now.
///
/// # Errors
/// The kernel's.
pub fn read() -> io::Result<BTreeSet<Address>> {
    let found = netlink::ask(&question(), |kind, body| if kind == RTM_NEWADDR { address(body) } else { None })?;
    Ok(found.into_iter().collect())
}

/// What is on the interface that `local` is on; where several have it, on `preferred`. An address that no interface lists (another
/// of 127.0.0.0/8, say) is the loopback interface's. `None`: it is no address of this node.
pub fn beside(all: &BTreeSet<Address>, local: IpAddr, preferred: Option<u32>) -> Option<Beside> {
    let has =
        |wanted: &dyn Fn(&Address) -> bool| all.iter().find(|address| wanted(address)).map(|found| found.interface);
    let interface = has(&|address| Some(address.interface) == preferred && address.ip == local)
        .or_else(|| has(&|address| address.ip == local))
        .or_else(|| has(&|address| local.is_loopback() && address.ip.is_loopback()))?;
    let here = || all.iter().filter(|address| address.interface == interface);
    // Only what is there to stay makes a single one beside it doubtful; 127.0.0.0/8 is no subnet that routers know.
    let makes_doubtful = |other: &Address| {
        other.state == State::Settled && !is_single(other) && !is_link_local(other.ip) && !other.ip.is_loopback()
    };
    let in_a_subnet =
        |one: &Address| here().any(|other| other.ip.is_ipv4() == one.ip.is_ipv4() && makes_doubtful(other));
    let is_fit = |one: &Address| one.state == State::Settled && !(is_single(one) && in_a_subnet(one));
    let (fit, unfit): (Vec<_>, Vec<_>) = here().partition(|one| is_fit(one));
    let ips = |of: Vec<&Address>| of.into_iter().map(|one| one.ip).collect();
    Some(Beside { fit: ips(fit), unfit: ips(unfit) })
}

/// Those of these addresses that no interface has, as far as the kernel has told. Of 127.0.0.0/8 it has all and lists few.
pub fn absent(all: &BTreeSet<Address>, named: &[IpAddr]) -> BTreeSet<IpAddr> {
    if all.is_empty() {
        return BTreeSet::new();
    }
    let is_here = |ip: IpAddr| ip.is_loopback() || all.iter().any(|address| address.ip == ip);
    named.iter().copied().filter(|ip| !is_here(ip.to_canonical())).collect()
}

fn is_single(address: &Address) -> bool {
    address.length == if address.ip.is_ipv4() { 32 } else { 128 }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

// === linux/rtnetlink.h, linux/if_addr.h ===

const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// Temporary, optimistic, duplicate, deprecated, tentative.
const PASSING: u32 = 0x01 | 0x04 | 0x08 | 0x20 | 0x40;
/// Family, length of the prefix, flags, scope, interface.
const ENTRY: usize = 8;

fn question() -> Vec<u8> {
    netlink::question(RTM_GETADDR, &[0; ENTRY])
}

fn address(body: &[u8]) -> Option<Address> {
    let (length, mut flags) = (*body.get(1)?, u32::from(*body.get(2)?));
    let interface = long(body, 4)?;
    // On a point-to-point link the address is the other end's, and ours is the local one.
    let (mut local, mut other) = (None, None);
    for (kind, value) in attributes(body.get(ENTRY..)?) {
        match kind {
            IFA_LOCAL => local = ip(value),
            IFA_ADDRESS => other = ip(value),
            IFA_FLAGS => flags = long(value, 0)?,
            _ => {}
        }
    }
    let ip = local.or(other)?;
    // The first of them means "not the first of its subnet" for IPv4, which says nothing against it.
    let state = if ip.is_ipv6() && flags & PASSING != 0 { State::Passing } else { State::Settled };
    Some(Address { interface, ip, length, state })
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(interface: u32, text: &str, length: u8, flags: u32) -> Vec<u8> {
        let ip: IpAddr = text.parse().unwrap();
        let octets = match ip {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let mut body = vec![if ip.is_ipv4() { 2 } else { 10 }, length, flags.to_ne_bytes()[0], 0];
        body.extend(interface.to_ne_bytes());
        for (kind, value) in [(IFA_ADDRESS, &octets[..]), (IFA_FLAGS, &flags.to_ne_bytes())] {
            body.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(value);
        }
        body
    }

    fn node(entries: &[(u32, &str, u8, u32)]) -> BTreeSet<Address> {
        entries.iter().map(|(on, text, length, flags)| address(&entry(*on, text, *length, *flags)).unwrap()).collect()
    }

    fn names(ips: &[IpAddr]) -> Vec<String> {
        ips.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_passes_and_what_moves_between_nodes_is_not_for_routers() {
        let all = node(&[
            (2, "10.77.0.1", 24, 0x80),
            (2, "10.77.0.2", 24, 0x81),
            (2, "10.77.0.200", 32, 0x80),
            (2, "2001:db8:77::1", 64, 0x80),
            (2, "2001:db8:77::2", 64, 0x20),
            (2, "2001:db8:77::3", 64, 0x40),
            (2, "2001:db8:77::4", 64, 0x01),
            (2, "2001:db8:77::aaaa", 128, 0x80),
            (2, "fe80::1", 64, 0x80),
            (1, "127.0.0.1", 8, 0x80),
            (1, "10.0.0.1", 32, 0x80),
            (3, "192.0.2.1", 32, 0x80),
            (3, "2001:db8:3::2", 64, 0x20),
            (3, "2001:db8::1", 128, 0x80),
        ]);
        let beside = |local: &str| beside(&all, local.parse().unwrap(), None);
        let here = beside("10.77.0.1").unwrap();
        assert_eq!(names(&here.fit), ["10.77.0.1", "10.77.0.2", "2001:db8:77::1", "fe80::1"]);
        let unfit = ["10.77.0.200", "2001:db8:77::2", "2001:db8:77::3", "2001:db8:77::4", "2001:db8:77::aaaa"];
        assert_eq!(names(&here.unfit), unfit);
        // Where there is nothing but single ones (DHCPv6 gives them), they are the node's.
        assert_eq!(names(&beside("192.0.2.1").unwrap().fit), ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(names(&beside("10.0.0.1").unwrap().fit), ["10.0.0.1", "127.0.0.1"]);
        assert_eq!(beside("198.51.100.1"), None);
    }

    #[test]
    fn what_no_interface_has_is_absent_once_the_kernel_has_told() {
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let named = ips(&["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2", "127.0.0.9", "2001:db8::1"]);
        let all = node(&[(1, "127.0.0.1", 8, 0x80), (2, "10.0.0.1", 32, 0x80)]);
        assert_eq!(absent(&all, &named).into_iter().collect::<Vec<_>>(), ips(&["10.0.0.2", "2001:db8::1"]));
        assert!(absent(&BTreeSet::new(), &named).is_empty(), "nothing is known yet");
    }

    #[test]
    fn an_answer_in_pieces_or_with_a_wrong_octet_is_no_panic() {
        let whole = entry(2, "2001:db8::1", 64, 0x80);
        for len in 0..whole.len() {
            let _short = address(&whole[..len]);
            let mut wrong = whole.clone();
            wrong[len] ^= 0xFF;
            let _wrong = address(&wrong);
        }
    }

    #[tokio::test]
    async fn the_loopback_interface_is_found_and_has_addresses_that_it_does_not_list() {
        let (out, mut seen) = watch::channel(Addresses::default());
        let task = tokio::spawn(run(out, watch::channel(Conditions::default()).0));
        let all = seen.wait_for(|all| !all.is_empty()).await.unwrap().clone();
        let localhost = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert!(beside(&all, localhost, None).unwrap().fit.contains(&localhost));
        assert!(beside(&all, Ipv4Addr::new(127, 9, 9, 9).into(), None).unwrap().fit.contains(&localhost));
        task.abort();
    }
}
