//! Connections to neighbours: what each carries before the first octet leaves, and which ones are taken.

use super::addresses::{self, Address, Beside};
use super::descriptors::{self, For};
use super::socket::{self, sign};
use super::syn::Syn;
use crate::peer::Settings;
use crate::peer::settings::{InterfaceName, Password, Ttl};
use crate::peer::transport::{Signed, Transport};
use crate::wire::PeerKind;
use ipnetwork::IpNetwork;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// A dial is given up after this long; Linux alone would repeat a lost SYN for more than a minute.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the kernel may hold for a peer that does not read. The rest waits as a diff that is not taken yet.
const SEND_BUFFER: usize = 256 * 1024;

/// Why there is no connection. `Display` says it for people.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// A socket option or address of ours was refused; dialling without it would be less than what was asked.
    #[error("cannot prepare a connection to {remote}: {what}: {source}")]
    Prepare {
        /// Where we wanted to go.
        remote: SocketAddr,
        /// What was being set.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// All descriptors that connections may have are in use.
    #[error("no connection to {remote}: descriptors are short; {advice}")]
    Descriptors {
        /// Where we wanted to go.
        remote: SocketAddr,
        /// What to do about it.
        advice: String,
    },
    /// The other end, or the way to it, said no.
    #[error("cannot connect to {remote}: {}", explain(.source))]
    Connect {
        /// Where we wanted to go.
        remote: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nobody answered in time.
    #[error("no answer from {remote} within {} s: is it up, and does a filter (or a TTL guard) drop our packets?", CONNECT_TIMEOUT.as_secs())]
    Timeout {
        /// Where we wanted to go.
        remote: SocketAddr,
    },
    /// Our end is at an address that has gone.
    #[error("its source address {} is no longer an address of this node", .ends.local.ip())]
    NotOurs {
        /// Where the connection is.
        ends: Ends,
    },
    /// What the router sent first was not what was asked of it.
    #[error("a connection from {remote} is not taken: {why}")]
    Unwelcome {
        /// Who dialled.
        remote: SocketAddr,
        /// For people.
        why: String,
    },
    /// TCP let a socket connect to itself: nobody listens, and the port that the kernel chose for us was the one we dialled.
    #[error("nobody listens on {remote}")]
    Ourselves {
        /// Where we wanted to go.
        remote: SocketAddr,
    },
}

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Here.
    pub local: SocketAddr,
    /// There.
    pub remote: SocketAddr,
}

/// Opens a connection to a neighbour: interface, source address, key, TTL and its guard, DSCP CS6, no delay; all set before the
/// SYN leaves.
///
/// # Errors
/// See [`DialError`]; an option that cannot be set is an error, never a connection without it.
pub async fn dial(settings: &Settings) -> Result<(TcpStream, Ends), DialError> {
    let (socket, remote) = prepare(settings)?;
    let connecting = TcpSocket::from_std_stream(socket.into()).connect(remote);
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(source)) => return Err(DialError::Connect { remote, source }),
        Err(_) => return Err(DialError::Timeout { remote }),
    };
    let local = stream.local_addr().map_err(|source| DialError::Connect { remote, source })?;
    if local == remote {
        return Err(DialError::Ourselves { remote });
    }
    Ok((stream, Ends { local, remote }))
}

/// A connection that a neighbour opened to us becomes like one that we dialled.
///
/// # Errors
/// As [`dial`]: an option that cannot be set is an error; and so is a SYN from too far away (RFC 5082), or unsigned.
pub fn admit(settings: &Settings, stream: &TcpStream, syn: Option<Syn>) -> Result<Ends, DialError> {
    let configured = SocketAddr::new(settings.neighbor.address, settings.neighbor.port);
    let ends = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?)));
    let (local, remote) = ends.map_err(|source| DialError::Connect { remote: configured, source })?;
    let (local, remote) = (canonical(local), canonical(remote));
    if let Some(why) = objection(settings, syn) {
        return Err(DialError::Unwelcome { remote, why });
    }
    dress(&SockRef::from(stream), settings, remote)?;
    Ok(Ends { local, remote })
}

/// What is wrong with the SYN. The listening socket is everybody's, so that it asks for no more than the most trusted peer of
/// it must show; what it let through in the moment before a key or a guard was set is caught here too.
fn objection(settings: &Settings, syn: Option<Syn>) -> Option<String> {
    let least = Hops::of(settings).least;
    let keyed = settings.neighbor.password.is_some();
    if least == 0 && !keyed {
        return None;
    }
    let Some(Syn { ttl, signed }) = syn else {
        return Some("the kernel kept no SYN to look at, as under a flood; the router will try again".to_owned());
    };
    if ttl < least {
        return Some(format!("its SYN arrived with TTL {ttl}, and ttlSecurity asks for {least} at least"));
    }
    (keyed && !signed).then(|| "its SYN was not signed, and this peer has a password".to_owned())
}

/// What is beside our end of a connection; `None`: that address is no longer ours.
pub fn beside(settings: &Settings, local: SocketAddr, all: &BTreeSet<Address>) -> Option<Beside> {
    let preferred = settings.neighbor.interface.as_ref().and_then(|name| socket::interface_index(name).ok());
    addresses::beside(all, local.ip(), preferred)
}

/// Without the IPv6 clothes of an IPv4 address; a scope stays.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    let ip = address.ip().to_canonical();
    if ip == address.ip() { address } else { SocketAddr::new(ip, address.port()) }
}

/// Gives a live connection another key; what is in flight is signed with it when it is sent again.
///
/// # Errors
/// The kernel's. The connection must then not be used: it would go on with the old key.
pub fn rekey(stream: &TcpStream, password: &Password) -> io::Result<()> {
    let whom = IpNetwork::from(stream.peer_addr()?.ip());
    sign(&SockRef::from(stream), whom, Some(password))
}

/// What the kernel says about a connection. `signed`: whether a key was set on it, which cannot be read back.
///
/// # Errors
/// The kernel's: the connection is gone.
pub fn read_back(stream: &TcpStream, signed: Signed) -> io::Result<Transport> {
    let socket = SockRef::from(stream);
    let (local, remote) = (canonical(stream.local_addr()?), canonical(stream.peer_addr()?));
    let (ttl, traffic_class) = match remote {
        SocketAddr::V4(_) => (socket.ttl_v4()?, socket.tos_v4()?),
        SocketAddr::V6(_) => (socket.unicast_hops_v6()?, socket.tclass_v6()?),
    };
    let octet = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
    let device = socket.device()?.and_then(|name| InterfaceName::new(&String::from_utf8_lossy(&name)));
    Ok(Transport {
        local,
        remote,
        interface: device,
        ttl: octet(ttl),
        least_ttl: socket::least_ttl(&socket, &remote.ip())?,
        traffic_class: octet(traffic_class),
        user_timeout: socket.tcp_user_timeout()?.filter(|time| !time.is_zero()),
        segment_size: socket::segment_size(&socket)?,
        signed,
    })
}

fn prepare(settings: &Settings) -> Result<(Socket, SocketAddr), DialError> {
    let neighbor = &settings.neighbor;
    let configured = SocketAddr::new(neighbor.address, neighbor.port);
    let refused = |what: &str| {
        let what = what.to_owned();
        move |source| DialError::Prepare { remote: configured, what, source }
    };
    let remote = match (configured, &neighbor.interface) {
        (SocketAddr::V6(v6), Some(interface)) if v6.ip().is_unicast_link_local() => {
            let index = socket::interface_index(interface).map_err(refused(&format!("interface {interface}")))?;
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, index).into()
        }
        (SocketAddr::V4(_) | SocketAddr::V6(_), _) => configured,
    };
    let short = || DialError::Descriptors { remote, advice: descriptors::advice() };
    let socket = match Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP)) {
        Ok(socket) if descriptors::is_kept(&socket, For::Peer) => return Err(short()),
        Ok(socket) => socket,
        Err(error) if descriptors::are_out(&error) => return Err(short()),
        Err(error) => return Err(refused("socket")(error)),
    };
    socket.set_nonblocking(true).map_err(refused("non-blocking mode"))?;
    dress(&socket, settings, remote)?;
    if let Some(source) = neighbor.source_address {
        let address = SockAddr::from(SocketAddr::new(source, 0));
        socket.bind(&address).map_err(refused(&format!("sourceAddress {source} (is it an address of this node?)")))?;
    }
    Ok((socket, remote))
}

/// What every connection to a neighbour carries, whoever opened it.
fn dress(socket: &Socket, settings: &Settings, remote: SocketAddr) -> Result<(), DialError> {
    let refused = |what: &str| {
        let what = what.to_owned();
        move |source| DialError::Prepare { remote, what, source }
    };
    // First of all: from here on nothing unsigned is believed.
    if let Some(password) = &settings.neighbor.password {
        let whom = IpNetwork::from(remote.ip());
        sign(socket, whom, Some(password)).map_err(refused("the TCP-MD5 password"))?;
    }
    let ttl = Hops::of(settings);
    ttl.apply(socket, remote).map_err(refused(&format!("a TTL of {}", ttl.sent)))?;
    if let Some(interface) = &settings.neighbor.interface {
        bind_to(socket, interface).map_err(refused(&format!("interface {interface}")))?;
    }
    socket.set_tcp_nodelay(true).map_err(refused("TCP_NODELAY"))?;
    socket.set_send_buffer_size(SEND_BUFFER).map_err(refused("SO_SNDBUF"))?;
    socket.set_tcp_user_timeout(user_timeout(settings)).map_err(refused("TCP_USER_TIMEOUT"))?;
    socket::mark_as_network_control(socket, &remote.ip()).map_err(refused("DSCP CS6"))
}

/// Binds a socket to an interface, which needs no capability as long as it is bound to none. One that was accepted over a
/// link-local address is bound already.
fn bind_to(socket: &Socket, interface: &InterfaceName) -> io::Result<()> {
    let name = interface.as_str().as_bytes();
    if socket.device()?.is_some_and(|bound| bound == name) {
        return Ok(());
    }
    socket.bind_device(Some(name))
}

/// How long the kernel waits for an acknowledgement: a little longer than the send hold timer (RFC 9687), so that the
/// timer names the fault. `None`: as the kernel does by itself.
fn user_timeout(settings: &Settings) -> Option<Duration> {
    let neighbor = &settings.neighbor;
    let send_hold_time = neighbor.send_hold_time.of(neighbor.hold_time);
    (!send_hold_time.is_zero()).then(|| send_hold_time + Duration::from_secs(10))
}

/// The TTL (hop limit) that we send, and the least that we accept; 0 accepts all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hops {
    /// Sent.
    pub sent: u8,
    /// Accepted at least.
    pub least: u8,
}

impl Hops {
    fn of(settings: &Settings) -> Self {
        Self::new(settings.neighbor.ttl, settings.peer_kind())
    }

    /// What a session of this kind has.
    pub fn new(ttl: Ttl, kind: PeerKind) -> Self {
        match (ttl, kind) {
            (Ttl::Security(hops), _) => Self { sent: 255, least: 255 - hops.saturating_sub(1) },
            (Ttl::Multihop(hops), _) => Self { sent: hops, least: 0 },
            (Ttl::Default, PeerKind::External) => Self { sent: 1, least: 0 },
            (Ttl::Default, PeerKind::Internal) => Self { sent: 64, least: 0 },
        }
    }

    fn apply(self, socket: &Socket, remote: SocketAddr) -> io::Result<()> {
        match remote {
            SocketAddr::V4(_) => socket.set_ttl_v4(self.sent.into())?,
            SocketAddr::V6(_) => socket.set_unicast_hops_v6(self.sent.into())?,
        }
        // Also where all are welcome: an accepted socket has what the listening one asks.
        socket::set_least_ttl(socket, &remote.ip(), self.least)
    }
}

/// A connection error in words, with what to look at next.
pub fn explain(error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there, or it refuses this address",
        io::ErrorKind::ConnectionReset => "the peer reset the connection",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "no route to it from this node",
        io::ErrorKind::TimedOut => "the peer no longer acknowledges",
        _ => return error.to_string(),
    };
    format!("{hint} ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::settings::RestartState;
    use crate::peer::{Identity, Neighbor};
    use crate::wire::{Asn, RouterId};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use tokio::net::TcpListener;

    fn settings(address: IpAddr, port: u16, ttl: Ttl) -> Settings {
        Settings {
            identity: Identity { asn: Asn(64512), router_id: RouterId::new(Ipv4Addr::new(192, 0, 2, 1)).unwrap() },
            restart_state: RestartState::default(),
            neighbor: Neighbor { port, ttl, ..Neighbor::new("r1".into(), address, Asn(64513)) },
        }
    }

    fn lo() -> InterfaceName {
        InterfaceName::new("lo").unwrap()
    }

    /// A listener that keeps SYNs, whose answers have the TTL of this machine.
    async fn listener(ip: IpAddr) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        socket::save_syns(&SockRef::from(&listener)).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[test]
    fn the_guard_accepts_what_came_over_at_most_that_many_hops() {
        let hops = |ttl| Hops::of(&settings(Ipv4Addr::LOCALHOST.into(), 179, ttl));
        assert_eq!(hops(Ttl::Security(1)), Hops { sent: 255, least: 255 });
        assert_eq!(hops(Ttl::Security(3)), Hops { sent: 255, least: 253 });
        assert_eq!(hops(Ttl::Multihop(5)), Hops { sent: 5, least: 0 });
        assert_eq!(hops(Ttl::Default), Hops { sent: 1, least: 0 });
        let mut internal = settings(Ipv4Addr::LOCALHOST.into(), 179, Ttl::Default);
        internal.neighbor.asn = internal.identity.asn;
        assert_eq!(Hops::of(&internal), Hops { sent: 64, least: 0 });
    }

    #[tokio::test]
    async fn a_dialled_connection_carries_what_was_asked() {
        for ip in ["127.0.0.1", "::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            let (_listener, address) = listener(ip).await;
            // The answer of an unguarded listener on this machine has TTL 64, so a guard of 192 hops lets it pass.
            let mut settings = settings(ip, address.port(), Ttl::Security(192));
            if ip.is_ipv4() {
                settings.neighbor.source_address = Some(Ipv4Addr::new(127, 0, 0, 9).into());
            }
            settings.neighbor.interface = Some(lo());
            let (stream, end) = dial(&settings).await.unwrap();
            let read = read_back(&stream, Signed::No).unwrap();
            assert_eq!((read.ttl, read.least_ttl, read.traffic_class), (255, 64, 0xC0), "{ip}");
            assert_eq!((read.user_timeout, &read.interface), (Some(Duration::from_secs(490)), &Some(lo())));
            assert!(read.segment_size > 500, "{read:?}");
            assert_eq!((read.remote, read.local), (address, end.local));
            assert!(SockRef::from(&stream).tcp_nodelay().unwrap());
            if ip.is_ipv4() {
                assert_eq!(end.local.ip(), Ipv4Addr::new(127, 0, 0, 9));
            }
            let beside = beside(&settings, end.local, &addresses::read().unwrap()).unwrap();
            assert!(beside.fit.contains(&ip), "{beside:?}");
        }
    }

    #[tokio::test]
    async fn a_router_away_is_out_of_reach_of_ebgp_and_within_that_of_ibgp() {
        for ip in ["127.0.0.1", "::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            let (_listener, address) = listener(ip).await;
            let mut settings = settings(ip, address.port(), Ttl::Default);
            let ttl = async |settings: &Settings| {
                let (stream, _) = dial(settings).await.unwrap();
                let read = read_back(&stream, Signed::No).unwrap();
                (read.ttl, read.least_ttl)
            };
            assert_eq!(ttl(&settings).await, (1, 0));
            settings.neighbor.ttl = Ttl::Multihop(7);
            assert_eq!(ttl(&settings).await, (7, 0));
            settings.neighbor.ttl = Ttl::Default;
            settings.neighbor.asn = settings.identity.asn;
            assert_eq!(ttl(&settings).await, (64, 0));
        }
    }

    #[tokio::test]
    async fn an_accepted_connection_carries_the_same_and_its_syn_is_judged() {
        for ip in ["127.0.0.1", "::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            let (listener, address) = listener(ip).await;
            // An accepted socket inherits what the listening one asks.
            socket::set_least_ttl(&SockRef::from(&listener), &ip, 10).unwrap();
            let accept = async |ttl| {
                let dialled = TcpStream::connect(address).await.unwrap();
                let (stream, _) = listener.accept().await.unwrap();
                let syn = socket::saved_syn(&stream).unwrap();
                (dialled, admit(&settings(ip, 179, ttl), &stream, syn), stream, syn)
            };
            let (dialled, end, stream, syn) = accept(Ttl::Security(192)).await;
            assert_eq!(syn, Some(Syn { ttl: 64, signed: false }));
            let end = end.unwrap();
            assert_eq!((end.remote, end.local), (dialled.local_addr().unwrap(), dialled.peer_addr().unwrap()));
            let read = read_back(&stream, Signed::No).unwrap();
            assert_eq!((read.ttl, read.least_ttl, read.traffic_class), (255, 64, 0xC0));
            assert_eq!(read.user_timeout, Some(Duration::from_secs(490)));
            let (_, end, stream, _) = accept(Ttl::Default).await;
            end.unwrap();
            assert_eq!(read_back(&stream, Signed::No).unwrap().least_ttl, 0);
            let (_, end, ..) = accept(Ttl::Security(191)).await;
            let why = end.unwrap_err().to_string();
            assert!(why.contains("arrived with TTL 64, and ttlSecurity asks for 65 at least"), "{why}");
        }
    }

    #[tokio::test]
    async fn whoever_must_show_something_and_cannot_is_not_taken() {
        let (listener, address) = listener(Ipv4Addr::LOCALHOST.into()).await;
        let _dialled = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let plain = settings(Ipv4Addr::LOCALHOST.into(), 179, Ttl::Default);
        let keyed = Neighbor { password: Password::new(b"key"), ..plain.neighbor.clone() };
        let keyed = Settings { neighbor: keyed, ..plain.clone() };
        let refusal = |settings: &Settings, syn| admit(settings, &stream, syn).unwrap_err().to_string();
        assert!(refusal(&keyed, Some(Syn { ttl: 64, signed: false })).contains("was not signed"));
        assert!(refusal(&keyed, None).contains("kept no SYN"));
        assert!(refusal(&settings(Ipv4Addr::LOCALHOST.into(), 179, Ttl::Security(254)), None).contains("kept no SYN"));
        assert!(admit(&plain, &stream, None).is_ok());
    }

    #[tokio::test]
    async fn a_signed_connection_needs_the_same_key_on_both_sides() {
        let (listener, address) = listener(Ipv4Addr::LOCALHOST.into()).await;
        let mut settings = settings(address.ip(), address.port(), Ttl::Default);
        settings.neighbor.password = Password::new(b"right");
        let block: IpNetwork = "127.0.0.0/8".parse().unwrap();
        let key = |octets: &[u8]| sign(&SockRef::from(&listener), block, Password::new(octets).as_ref());
        let dialled = async || tokio::time::timeout(Duration::from_millis(400), dial(&settings)).await;
        key(b"wrong").unwrap();
        assert!(dialled().await.is_err(), "the SYN is dropped: no answer, and no connection");
        key(b"right").unwrap();
        let _signed = dialled().await.unwrap().unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert_eq!(socket::saved_syn(&accepted).unwrap().map(|syn| syn.signed), Some(true));
        // Ended, and ended once more: who signs gets no answer from who does not.
        key(b"").unwrap();
        key(b"").unwrap();
        assert!(dialled().await.is_err());
    }

    #[tokio::test]
    async fn a_live_connection_takes_another_key_and_loses_nothing() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (listener, address) = listener(Ipv4Addr::LOCALHOST.into()).await;
        let mut settings = settings(address.ip(), address.port(), Ttl::Default);
        let keys = [Password::new(b"old").unwrap(), Password::new(b"new").unwrap()];
        settings.neighbor.password = Some(keys[0].clone());
        sign(&SockRef::from(&listener), address.ip().into(), Some(&keys[0])).unwrap();
        let (mut ours, _) = dial(&settings).await.unwrap();
        let (mut theirs, _) = listener.accept().await.unwrap();
        let mut octet = [0];
        for round in 0..4 {
            let [old, new] = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            ours.write_all(b"a").await.unwrap();
            theirs.read_exact(&mut octet).await.unwrap();
            rekey(&ours, &keys[new]).unwrap();
            // What is signed with a key that the other end does not have is no segment at all.
            ours.write_all(b"b").await.unwrap();
            let early = tokio::time::timeout(Duration::from_millis(50), theirs.read_exact(&mut octet)).await;
            assert!(early.is_err(), "{:?} was taken with {:?}", keys[new].octets(), keys[old].octets());
            rekey(&theirs, &keys[new]).unwrap();
            theirs.read_exact(&mut octet).await.unwrap();
            assert_eq!(octet, *b"b");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_prepared_is_named() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let plain = settings(Ipv4Addr::LOCALHOST.into(), closed, Ttl::Default);
        let refused = async |neighbor| {
            let refused = dial(&Settings { neighbor, ..plain.clone() }).await.unwrap_err();
            refused.to_string()
        };
        let text = refused(plain.neighbor.clone()).await;
        assert!(text.contains("nothing listens there"), "{text}");
        let foreign = Some(Ipv4Addr::new(198, 51, 100, 77).into());
        let text = refused(Neighbor { source_address: foreign, ..plain.neighbor.clone() }).await;
        assert!(text.contains("sourceAddress 198.51.100.77"), "{text}");
        let interface = InterfaceName::new("no-such-one");
        let text = refused(Neighbor { interface: interface.clone(), ..plain.neighbor.clone() }).await;
        assert!(text.contains("interface no-such-one"), "{text}");
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into();
        let text = refused(Neighbor { address: link_local, interface, ..plain.neighbor.clone() }).await;
        assert!(text.contains("interface no-such-one"), "{text}");
    }
}
