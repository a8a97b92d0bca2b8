//! Router advertisements on a link, for routers that peer only with whom they hear (RFC 4861 §4.2). They offer nothing: the
//! lifetime is zero, so that no host takes us for a default router.

use super::socket::interface_index;
use crate::peer::settings::InterfaceName;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Duration;
use tokio::sync::watch;
use tracing::{error, info};

/// Between two of them; of the first few, less.
const INTERVAL: Duration = Duration::from_secs(10);
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// How many come quickly.
const FIRST: u32 = 3;

/// Type 134, code 0; a checksum that the kernel fills in; hop limit, flags, lifetime, reachable time and retransmission
/// timer all unspecified.
const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Why nothing is sent, by interface, in words.
pub type Silent = BTreeMap<InterfaceName, String>;

/// Sends on one interface, for ever; says where it cannot.
pub async fn run(interface: InterfaceName, silent: watch::Sender<Silent>) {
    let mut sent = 0_u32;
    loop {
        match send(&interface) {
            Ok(()) => {
                if sent == 0 {
                    info!(%interface, "sending router advertisements");
                }
                sent = sent.saturating_add(1);
                tell(&silent, &interface, None);
            }
            Err(error) => tell(&silent, &interface, Some(explain(&interface, &error))),
        }
        tokio::time::sleep(if (1..FIRST).contains(&sent) { FIRST_INTERVAL } else { INTERVAL }).await;
    }
}

fn tell(silent: &watch::Sender<Silent>, interface: &InterfaceName, why: Option<String>) {
    silent.send_if_modified(|all| {
        if all.get(interface) == why.as_ref() {
            return false;
        }
        match why {
            Some(why) => {
                error!("{why}");
                all.insert(interface.clone(), why);
            }
            None => drop(all.remove(interface)),
        }
        true
    });
}

fn send(interface: &InterfaceName) -> io::Result<()> {
    let index = interface_index(interface)?;
    // A socket a time: the interface may be another one of the same name by now.
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.set_multicast_hops_v6(255)?;
    socket.set_multicast_if_v6(index)?;
    let to = SockAddr::from(SocketAddrV6::new(ALL_NODES, 0, 0, index));
    socket.send_to(&ADVERTISEMENT, &to).map(drop)
}

fn explain(interface: &InterfaceName, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "this process lacks the capability CAP_NET_RAW; give it that, or remove 'routerAdvertisements' and name the \
             router's address on both sides"
        }
        _ => "it is tried again",
    };
    format!("router advertisements cannot be sent on {interface}: {error}: {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_interface_is_said_once_and_the_capability_by_name() {
        let name = InterfaceName::new("no-such-one").unwrap();
        let (silent, mut said) = watch::channel(Silent::new());
        let task = tokio::spawn(run(name.clone(), silent));
        let why = said.wait_for(|all| all.contains_key(&name)).await.unwrap()[&name].clone();
        assert!(why.contains("on no-such-one"), "{why}");
        task.abort();
        let denied = explain(&name, &io::Error::from_raw_os_error(libc::EPERM));
        assert!(denied.contains("CAP_NET_RAW"), "{denied}");
    }
}
