//! The routers on a link, as the kernel's neighbour table flags them: whoever sent router advertisements, or says in neighbour
//! advertisements that it is a router (RFC 4861 §4.2, §4.4). Reading the table needs no capability.

use super::complaint::Complaint;
use super::netlink::{self, attributes, drain, long, short};
use super::socket::{interface_index, readable};
use crate::condition::{Conditions, Reason};
use crate::peer::settings::InterfaceName;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv6Addr;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// The routers of each interface, by their link-local addresses; or why they cannot be known.
pub type Found = BTreeMap<InterfaceName, Result<BTreeSet<Ipv6Addr>, String>>;

/// After a look: a busy link changes its table many times a second.
const PAUSE: Duration = Duration::from_millis(100);
/// After the kernel refused to tell.
const RETRY: Duration = Duration::from_secs(5);

/// Looks at the interfaces asked for, and again whenever a neighbour or an interface changes, for ever; as long as it cannot, that
/// is `said`, and the routers that were found stay.
pub async fn run(
    interfaces: watch::Receiver<BTreeSet<InterfaceName>>,
    found: watch::Sender<Found>,
    said: watch::Sender<Conditions>,
) {
    let complaint = Complaint::new(Reason::KernelUnreadable, "neighbours", said);
    let unread = |error: &io::Error| {
        let why = explain(error);
        // Who waits for a router hears why there is none.
        let waiting = interfaces.borrow().clone();
        found.send_if_modified(|held| {
            let known = |held: &Found, name: &InterfaceName| held.get(name).is_some_and(Result::is_ok);
            let news: Vec<_> = waiting.into_iter().filter(|name| !known(held, name)).collect();
            let changed = !news.is_empty();
            held.extend(news.into_iter().map(|name| (name, Err(why.clone()))));
            changed
        });
        why
    };
    complaint.follow(RETRY, unread, || follow(interfaces.clone(), &found, &complaint)).await;
}

fn explain(error: &io::Error) -> String {
    format!(
        "the neighbour table cannot be followed ({error}): routers on links are those that were found last; tried again every {} s \
         (netlink sockets must be allowed, and descriptors to be had)",
        RETRY.as_secs()
    )
}

async fn follow(
    mut interfaces: watch::Receiver<BTreeSet<InterfaceName>>,
    found: &watch::Sender<Found>,
    complaint: &Complaint,
) -> io::Result<std::convert::Infallible> {
    let news = readable(netlink::listen(&[RTNLGRP_LINK, RTNLGRP_NEIGH], &question(LOOPBACK))?)?;
    loop {
        let wanted = interfaces.borrow_and_update().clone();
        let seen: Found = wanted.into_iter().map(|name| Ok((name.clone(), look(&name)?))).collect::<io::Result<_>>()?;
        found.send_if_modified(|held| {
            let changed = *held != seen;
            *held = seen;
            changed
        });
        complaint.clear();
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

/// The routers on an interface; or why there can be none, in words.
fn look(name: &InterfaceName) -> io::Result<Result<BTreeSet<Ipv6Addr>, String>> {
    match interface_index(name) {
        Ok(index) => routers_on(index).map(Ok),
        Err(error) => Ok(Err(format!("there is no interface {name} here ({error})"))),
    }
}

// === linux/rtnetlink.h, linux/neighbour.h ===

const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_NEIGH: u32 = 3;
const NDA_DST: u16 = 1;
const NDA_IFINDEX: u16 = 8;
const NTF_ROUTER: u8 = 0x80;
const NUD_INCOMPLETE: u16 = 0x01;
const NUD_FAILED: u16 = 0x20;
/// The first interface of every namespace.
const LOOPBACK: u32 = 1;
/// Family, three of padding, interface, state, flags, type.
const NEIGHBOUR: usize = 12;

fn routers_on(index: u32) -> io::Result<BTreeSet<Ipv6Addr>> {
    let read = |kind, body: &[u8]| if kind == RTM_NEWNEIGH { router(body, index) } else { None };
    Ok(netlink::ask(&question(index), read)?.into_iter().collect())
}

fn question(index: u32) -> Vec<u8> {
    let mut body = vec![0; NEIGHBOUR];
    body[0] = u8::try_from(libc::AF_INET6).expect("a small number");
    body.extend(8_u16.to_ne_bytes());
    body.extend(NDA_IFINDEX.to_ne_bytes());
    body.extend(index.to_ne_bytes());
    netlink::question(RTM_GETNEIGH, &body)
}

/// The address, if this entry is a router on the interface that somebody has heard of lately.
fn router(body: &[u8], index: u32) -> Option<Ipv6Addr> {
    let (state, flags) = (short(body, 8)?, *body.get(10)?);
    let lost = state == 0 || state & (NUD_INCOMPLETE | NUD_FAILED) != 0;
    if long(body, 4)? != index || flags & NTF_ROUTER == 0 || lost {
        return None;
    }
    let (_, value) = attributes(body.get(NEIGHBOUR..)?).find(|(kind, _)| *kind == NDA_DST)?;
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?);
    address.is_unicast_link_local().then_some(address)
}

#[cfg(test)]
mod tests {
    use super::super::netlink::{Answer, answer};
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
        octets.extend(3_u16.to_ne_bytes());
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
        let mut take = |kind: u16, body: &[u8]| routers.extend(router(body, 7).filter(|_| kind == RTM_NEWNEIGH));
        assert_eq!(answer(&all, &mut take).unwrap(), Answer::Complete);
        assert_eq!(routers, ["fe80::1", "fe80::6"].map(|text| text.parse().unwrap()).into());
        // In whatever pieces or with whatever octet wrong: no panic.
        for len in 0..all.len() {
            let mut take = |_: u16, body: &[u8]| assert!(router(body, 7).is_none_or(|found| !found.is_unspecified()));
            let _short = answer(&all[..len], &mut take);
            let mut wrong = all.clone();
            wrong[len] ^= 0xFF;
            let _wrong = answer(&wrong, &mut take);
        }
    }

    #[tokio::test]
    async fn loopback_has_none_and_a_missing_interface_is_named() {
        let names = ["lo", "no-such-one"].map(|name| InterfaceName::new(name).unwrap());
        let (_ask, interfaces) = watch::channel(names.clone().into());
        let (found, mut seen) = watch::channel(Found::new());
        let task = tokio::spawn(run(interfaces, found, watch::channel(Conditions::default()).0));
        let seen = seen.wait_for(|found| found.len() == 2).await.unwrap().clone();
        assert_eq!(seen[&names[0]], Ok(BTreeSet::new()), "the kernel answers who has no capability");
        assert!(seen[&names[1]].as_ref().unwrap_err().contains("there is no interface no-such-one"));
        task.abort();
    }
}
