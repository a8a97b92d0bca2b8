//! The routers on a link, as the kernel's neighbour table flags them: whoever sent router advertisements, or says in neighbour
//! advertisements that it is a router (RFC 4861 §4.2, §4.4). Reading the table needs no capability.

use super::socket::{interface_index, join_netlink_group, readable};
use crate::peer::settings::InterfaceName;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::Ipv6Addr;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::warn;

/// The routers of each interface, by their link-local addresses; or why they cannot be known.
pub type Found = BTreeMap<InterfaceName, Result<BTreeSet<Ipv6Addr>, String>>;

/// After a look: a busy link changes its table many times a second.
const PAUSE: Duration = Duration::from_millis(100);
/// After the kernel refused to tell.
const RETRY: Duration = Duration::from_secs(5);
/// The kernel answers at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Looks at the interfaces asked for, and again whenever a neighbour or an interface changes, for ever.
pub async fn run(mut interfaces: watch::Receiver<BTreeSet<InterfaceName>>, found: watch::Sender<Found>) {
    loop {
        let Err(error) = follow(&mut interfaces, &found).await;
        warn!(%error, "cannot follow the neighbour table; trying again");
        sleep(RETRY).await;
    }
}

async fn follow(
    interfaces: &mut watch::Receiver<BTreeSet<InterfaceName>>,
    found: &watch::Sender<Found>,
) -> io::Result<std::convert::Infallible> {
    let news = readable(listen()?)?;
    loop {
        let wanted = interfaces.borrow_and_update().clone();
        let seen: Found = wanted.into_iter().map(|name| (name.clone(), look(&name))).collect();
        found.send_if_modified(|held| {
            let changed = *held != seen;
            *held = seen;
            changed
        });
        sleep(PAUSE).await;
        tokio::select! {
            ready = news.readable() => {
                let mut ready = ready?;
                drain(news.get_ref());
                ready.clear_ready();
            }
            changed = interfaces.changed() => if changed.is_err() {
                // Nobody asks any more.
                std::future::pending::<()>().await;
            },
        }
    }
}

/// What the news are does not matter: they say when to look. Lost ones (ENOBUFS) are news too.
fn drain(mut news: &Socket) {
    let mut octets = [0; 16_384];
    for _ in 0..1_000 {
        match news.read(&mut octets) {
            Ok(1..) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

fn look(name: &InterfaceName) -> Result<BTreeSet<Ipv6Addr>, String> {
    let index = interface_index(name).map_err(|error| format!("there is no interface {name} here ({error})"))?;
    routers_on(index).map_err(|error| format!("cannot read the neighbour table of {name}: {error}"))
}

// === netlink (linux/netlink.h, linux/rtnetlink.h, linux/neighbour.h) ===

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_NEIGH: u32 = 3;
const NDA_DST: u16 = 1;
const NDA_IFINDEX: u16 = 8;
const NTF_ROUTER: u8 = 0x80;
const NUD_INCOMPLETE: u16 = 0x01;
const NUD_FAILED: u16 = 0x20;
/// The first interface of every namespace.
const LOOPBACK: u32 = 1;
/// Length, type, flags, sequence number, port.
const HEADER: usize = 16;
/// Family, three of padding, interface, state, flags, type.
const NEIGHBOUR: usize = 12;

fn netlink() -> io::Result<Socket> {
    Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE)))
}

fn listen() -> io::Result<Socket> {
    let socket = netlink()?;
    socket.set_nonblocking(true)?;
    join_netlink_group(&socket, RTNLGRP_LINK)?;
    join_netlink_group(&socket, RTNLGRP_NEIGH)?;
    // The kernel gives a socket its port at the first question. One without hears nothing: it would be taken for the sender.
    (&socket).write_all(&request(LOOPBACK))?;
    Ok(socket)
}

fn routers_on(index: u32) -> io::Result<BTreeSet<Ipv6Addr>> {
    let mut socket = netlink()?;
    socket.set_read_timeout(Some(ANSWER_LIMIT))?;
    socket.write_all(&request(index))?;
    let mut routers = BTreeSet::new();
    let mut octets = vec![0; 65_536];
    loop {
        let len = socket.read(&mut octets)?;
        if answer(&octets[..len], index, &mut routers)? == Answer::Complete {
            return Ok(routers);
        }
    }
}

fn request(index: u32) -> Vec<u8> {
    let mut octets = Vec::new();
    octets.extend(u32::try_from(HEADER + NEIGHBOUR + 8).expect("a small number").to_ne_bytes());
    octets.extend(RTM_GETNEIGH.to_ne_bytes());
    octets.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    octets.extend([0; 8]);
    octets.push(u8::try_from(libc::AF_INET6).expect("a small number"));
    octets.extend([0; NEIGHBOUR - 1]);
    octets.extend(8_u16.to_ne_bytes());
    octets.extend(NDA_IFINDEX.to_ne_bytes());
    octets.extend(index.to_ne_bytes());
    octets
}

/// Whether more follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Partial,
    Complete,
}

fn answer(mut octets: &[u8], index: u32, routers: &mut BTreeSet<Ipv6Addr>) -> io::Result<Answer> {
    while let Some((len, kind)) = long(octets, 0).zip(short(octets, 4)) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(body) = octets.get(HEADER..len) else { return Err(io::ErrorKind::InvalidData.into()) };
        match kind {
            NLMSG_DONE => return Ok(Answer::Complete),
            NLMSG_ERROR => {
                let code = long(body, 0).map_or(0, u32::cast_signed);
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            RTM_NEWNEIGH => routers.extend(router(body, index)),
            _ => {}
        }
        octets = octets.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Answer::Partial)
}

/// The address, if this entry is a router on the interface that somebody has heard of lately.
fn router(body: &[u8], index: u32) -> Option<Ipv6Addr> {
    let (state, flags) = (short(body, 8)?, *body.get(10)?);
    let lost = state == 0 || state & (NUD_INCOMPLETE | NUD_FAILED) != 0;
    if long(body, 4)? != index || flags & NTF_ROUTER == 0 || lost {
        return None;
    }
    let mut attributes = body.get(NEIGHBOUR..)?;
    while let Some((len, kind)) = short(attributes, 0).zip(short(attributes, 2)) {
        let value = attributes.get(4..usize::from(len))?;
        if kind == NDA_DST {
            let address = Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?);
            return address.is_unicast_link_local().then_some(address);
        }
        attributes = attributes.get(usize::from(len).next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

fn short(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(octets.get(at..at + 2)?.try_into().expect("two octets")))
}

fn long(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(octets.get(at..at + 4)?.try_into().expect("four octets")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u32, state: u16, flags: u8, address: &str) -> Vec<u8> {
        let address: Ipv6Addr = address.parse().unwrap();
        let mut octets = 48_u32.to_ne_bytes().to_vec();
        octets.extend(RTM_NEWNEIGH.to_ne_bytes());
        octets.extend([0; 10]);
        octets.extend([10, 0, 0, 0]);
        octets.extend(index.to_ne_bytes());
        octets.extend(state.to_ne_bytes());
        octets.extend([flags, 1]);
        octets.extend(20_u16.to_ne_bytes());
        octets.extend(NDA_DST.to_ne_bytes());
        octets.extend(address.octets());
        octets
    }

    fn done() -> Vec<u8> {
        let mut octets = 20_u32.to_ne_bytes().to_vec();
        octets.extend(NLMSG_DONE.to_ne_bytes());
        octets.extend([0; 14]);
        octets
    }

    #[test]
    fn routers_of_the_interface_that_live_and_nobody_else() {
        let all = [
            entry(7, 4, NTF_ROUTER, "fe80::1"),
            entry(7, 2, 0, "fe80::2"),
            entry(8, 2, NTF_ROUTER, "fe80::3"),
            entry(7, NUD_FAILED, NTF_ROUTER, "fe80::4"),
            entry(7, 2, NTF_ROUTER, "2001:db8::5"),
            entry(7, 2, NTF_ROUTER | 1, "fe80::6"),
            done(),
        ]
        .concat();
        let mut routers = BTreeSet::new();
        assert_eq!(answer(&all, 7, &mut routers).unwrap(), Answer::Complete);
        assert_eq!(routers, ["fe80::1", "fe80::6"].map(|text| text.parse().unwrap()).into());
        // In whatever pieces or with whatever octet wrong: no panic.
        for len in 0..all.len() {
            let _short = answer(&all[..len], 7, &mut routers);
            let mut wrong = all.clone();
            wrong[len] ^= 0xFF;
            let _wrong = answer(&wrong, 7, &mut routers);
        }
    }

    #[tokio::test]
    async fn loopback_has_none_and_a_missing_interface_is_named() {
        let names = ["lo", "no-such-one"].map(|name| InterfaceName::new(name).unwrap());
        let (_ask, interfaces) = watch::channel(names.clone().into());
        let (found, mut seen) = watch::channel(Found::new());
        let task = tokio::spawn(run(interfaces, found));
        let seen = seen.wait_for(|found| found.len() == 2).await.unwrap().clone();
        assert_eq!(seen[&names[0]], Ok(BTreeSet::new()), "the kernel answers who has no capability");
        assert!(seen[&names[1]].as_ref().unwrap_err().contains("there is no interface no-such-one"));
        task.abort();
    }
}
