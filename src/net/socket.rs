//! TCP sockets for BGP, and the addresses of interfaces. The only file with `unsafe`: socket options, a count and a list
//! that no safe crate of ours offers.

use crate::peer::settings::{Password, Ttl};
use crate::peer::{LocalEnd, Settings};
use crate::wire::PeerKind;
use ipnetwork::IpNetwork;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// A dial is given up after this long; Linux alone would repeat a lost SYN for more than a minute.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// DSCP CS6 (network control, RFC 4594 §3.1) as the octet in the IP header.
const TOS_CS6: u32 = 0xC0;

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
    /// TCP let a socket connect to itself: nobody listens, and the port that the kernel chose for us was the one we dialled.
    #[error("nobody listens on {remote}")]
    Ourselves {
        /// Where we wanted to go.
        remote: SocketAddr,
    },
}

/// Opens a connection to a neighbour: source address, TTL and its guard, DSCP CS6, no delay; all set before the SYN leaves.
///
/// # Errors
/// See [`DialError`]; an option that cannot be set is an error, never a connection without it.
pub async fn dial(settings: &Settings) -> Result<(TcpStream, LocalEnd), DialError> {
    let remote = SocketAddr::new(settings.neighbor.address, settings.neighbor.port);
    let socket = prepare(settings, remote)?;
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
    let end = LocalEnd { local, remote, interface: addresses_beside(local.ip()) };
    Ok((stream, end))
}

/// A connection that a neighbour opened to us becomes like one that we dialled.
///
/// # Errors
/// As [`dial`]: an option that cannot be set is an error.
pub fn admit(settings: &Settings, stream: &TcpStream) -> Result<LocalEnd, DialError> {
    let local = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?)));
    let remote = SocketAddr::new(settings.neighbor.address, settings.neighbor.port);
    let (local, remote) = local.map_err(|source| DialError::Connect { remote, source })?;
    let (local, remote) = (canonical(local), canonical(remote));
    dress(&SockRef::from(stream), settings, remote)?;
    Ok(LocalEnd { local, remote, interface: addresses_beside(local.ip()) })
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Listens. Answers leave with the largest TTL: a router that guards its session (RFC 5082) would not see another.
///
/// # Errors
/// The address cannot be had.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_ttl_v4(255)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_unicast_hops_v6(255)?;
        }
    }
    mark_as_network_control(&socket, address)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn prepare(settings: &Settings, remote: SocketAddr) -> Result<Socket, DialError> {
    let refused = |what: &str| {
        let what = what.to_owned();
        move |source| DialError::Prepare { remote, what, source }
    };
    let socket =
        Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP)).map_err(refused("socket"))?;
    socket.set_nonblocking(true).map_err(refused("non-blocking mode"))?;
    dress(&socket, settings, remote)?;
    if let Some(source) = settings.neighbor.source_address {
        let address = SockAddr::from(SocketAddr::new(source, 0));
        socket.bind(&address).map_err(refused(&format!("sourceAddress {source} (is it an address of this node?)")))?;
    }
    Ok(socket)
}

/// What every connection to a neighbour carries, whoever opened it.
fn dress(socket: &Socket, settings: &Settings, remote: SocketAddr) -> Result<(), DialError> {
    let refused = |what: &str| {
        let what = what.to_owned();
        move |source| DialError::Prepare { remote, what, source }
    };
    socket.set_tcp_nodelay(true).map_err(refused("TCP_NODELAY"))?;
    socket.set_send_buffer_size(SEND_BUFFER).map_err(refused("SO_SNDBUF"))?;
    socket.set_tcp_user_timeout(user_timeout(settings)).map_err(refused("TCP_USER_TIMEOUT"))?;
    mark_as_network_control(socket, remote).map_err(refused("DSCP CS6"))?;
    if let Some(password) = &settings.neighbor.password {
        let whom = IpNetwork::from(remote.ip());
        sign(socket, whom, Some(password)).map_err(refused("the TCP-MD5 password"))?;
    }
    let ttl = Hops::of(settings);
    ttl.apply(socket, remote).map_err(refused(&format!("a TTL of {}", ttl.sent)))
}

/// How long the kernel waits for an acknowledgement: a little longer than the send hold timer (RFC 9687), so that the
/// timer names the fault. `None`: as the kernel does by itself.
fn user_timeout(settings: &Settings) -> Option<Duration> {
    let neighbor = &settings.neighbor;
    let send_hold_time = neighbor.send_hold_time.of(neighbor.hold_time);
    (!send_hold_time.is_zero()).then(|| send_hold_time + Duration::from_secs(10))
}

fn mark_as_network_control(socket: &Socket, remote: SocketAddr) -> io::Result<()> {
    match remote {
        SocketAddr::V4(_) => socket.set_tos_v4(TOS_CS6),
        SocketAddr::V6(_) => socket.set_tclass_v6(TOS_CS6),
    }
}

/// The TTL (hop limit) that we send, and the least that we accept; 0 accepts all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hops {
    sent: u8,
    least: u8,
}

impl Hops {
    fn of(settings: &Settings) -> Self {
        match (settings.neighbor.ttl, settings.peer_kind()) {
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
        if self.least == 0 {
            return Ok(());
        }
        match remote {
            SocketAddr::V4(_) => set_int(socket, libc::IPPROTO_IP, libc::IP_MINTTL, self.least.into()),
            SocketAddr::V6(_) => set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, self.least.into()),
        }
    }
}

/// The kernel's `struct tcp_md5sig`, which libc lacks (linux/tcp.h).
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    interface: libc::c_int,
    key: [u8; Password::MAX],
}

const _: () = assert!(size_of::<TcpMd5Sig>() == 216);
/// The prefix length counts.
const TCP_MD5SIG_FLAG_PREFIX: u8 = 1;

/// Signs what is exchanged with a host, or with every host of a block, and takes nothing unsigned from it (RFC 2385);
/// `None` ends that. A key of a narrower block goes before one of a wider.
///
/// # Errors
/// The kernel's. The socket would then talk without signatures: it must not be used.
pub fn sign(socket: &Socket, whom: IpNetwork, password: Option<&Password>) -> io::Result<()> {
    let octets = password.map_or(&[][..], Password::octets);
    let mut key = [0; Password::MAX];
    key[..octets.len()].copy_from_slice(octets);
    let address = SockAddr::from(SocketAddr::new(whom.network(), 0));
    // SAFETY: all zeros is a socket address without family; the copy stays inside both, since no address is longer than
    // the storage for any of them.
    let storage = unsafe {
        let mut storage: libc::sockaddr_storage = std::mem::zeroed();
        let len = usize::try_from(address.len()).expect("a small number").min(size_of::<libc::sockaddr_storage>());
        std::ptr::copy_nonoverlapping(address.as_ptr().cast::<u8>(), (&raw mut storage).cast::<u8>(), len);
        storage
    };
    let request = TcpMd5Sig {
        address: storage,
        flags: TCP_MD5SIG_FLAG_PREFIX,
        prefix_len: whom.prefix(),
        key_len: u16::try_from(octets.len()).expect("at most 80 octets"),
        interface: 0,
        key,
    };
    let len = libc::socklen_t::try_from(size_of::<TcpMd5Sig>()).expect("216 octets");
    // SAFETY: the descriptor is open while `socket` is borrowed; the kernel reads `len` octets of a live structure.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_MD5SIG_EXT, (&raw const request).cast(), len)
    };
    let error = io::Error::last_os_error();
    match (done, password) {
        (0, _) => Ok(()),
        // There was none to end.
        (_, None) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        _ => Err(error),
    }
}

fn set_int(socket: &Socket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("an int is 4 octets");
    // SAFETY: the descriptor is open while `socket` is borrowed; the kernel reads `len` octets of a live integer.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), len) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Octets that the kernel holds for the peer and the peer has not acknowledged (SIOCOUTQ).
///
/// # Errors
/// The kernel's.
pub fn unacknowledged(stream: &TcpStream) -> io::Result<usize> {
    let mut waiting: libc::c_int = 0;
    // SAFETY: the descriptor is open while `stream` is borrowed; the kernel writes one int to a live one.
    let done = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut waiting) };
    if done == 0 { Ok(usize::try_from(waiting).unwrap_or(0)) } else { Err(io::Error::last_os_error()) }
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

// === Addresses of interfaces ===

/// All addresses of the interface that `local` is on, as the kernel lists them. An address that no interface lists
/// (another of 127.0.0.0/8, say) belongs to the loopback interface or to none.
fn addresses_beside(local: IpAddr) -> Vec<IpAddr> {
    let all = interface_addresses().unwrap_or_default();
    let named = |wanted: &dyn Fn(&IpAddr) -> bool| all.iter().find(|(_, ip)| wanted(ip)).map(|(name, _)| name.clone());
    let interface = named(&|ip| *ip == local).or_else(|| named(&|ip| local.is_loopback() && ip.is_loopback()));
    all.iter().filter(|(name, _)| Some(name) == interface.as_ref()).map(|(_, ip)| *ip).collect()
}

/// Interface name and address, for every address of this network namespace.
fn interface_addresses() -> io::Result<Vec<(Vec<u8>, IpAddr)>> {
    let mut head = std::ptr::null_mut();
    // SAFETY: `head` is a valid place for the list's first element, which is freed below.
    if unsafe { libc::getifaddrs(&raw mut head) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = head;
    while !next.is_null() {
        // SAFETY: the elements and what they point to live until freeifaddrs; names end with a zero octet.
        let (name, address) = unsafe {
            let element = &*next;
            next = element.ifa_next;
            (std::ffi::CStr::from_ptr(element.ifa_name).to_bytes().to_vec(), ip_of(element.ifa_addr))
        };
        found.extend(address.map(|ip| (name, ip)));
    }
    // SAFETY: `head` came from getifaddrs and nothing refers to the list any more.
    unsafe { libc::freeifaddrs(head) };
    Ok(found)
}

/// # Safety
/// `address` is null or points to a socket address as long as its family says.
unsafe fn ip_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: as promised by the caller; the reads do not assume alignment.
    unsafe {
        match libc::c_int::from(std::ptr::addr_of!((*address).sa_family).read_unaligned()) {
            libc::AF_INET => {
                let v4 = address.cast::<libc::sockaddr_in>().read_unaligned();
                Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
            }
            libc::AF_INET6 => {
                let v6 = address.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::settings::RestartState;
    use crate::peer::{Identity, Neighbor};
    use crate::wire::{Asn, RouterId};

    fn settings(address: IpAddr, port: u16, ttl: Ttl) -> Settings {
        Settings {
            identity: Identity { asn: Asn(64512), router_id: RouterId::new(Ipv4Addr::new(192, 0, 2, 1)).unwrap() },
            restart_state: RestartState::default(),
            neighbor: Neighbor { port, ttl, ..Neighbor::new("r1".into(), address, Asn(64513)) },
        }
    }

    #[test]
    fn the_guard_accepts_what_came_over_at_most_that_many_hops() {
        let hops = |ttl| Hops::of(&settings(Ipv4Addr::LOCALHOST.into(), 179, ttl));
        assert_eq!(hops(Ttl::Security(1)), Hops { sent: 255, least: 255 });
        assert_eq!(hops(Ttl::Security(3)), Hops { sent: 255, least: 253 });
        assert_eq!(hops(Ttl::Multihop(5)), Hops { sent: 5, least: 0 });
        assert_eq!(hops(Ttl::Default), Hops { sent: 1, least: 0 });
    }

    fn option(stream: &TcpStream, level: libc::c_int, option: libc::c_int) -> libc::c_int {
        let mut value: libc::c_int = -1;
        let mut len = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap();
        // SAFETY: value and len are live and agree.
        let done =
            unsafe { libc::getsockopt(stream.as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut len) };
        assert_eq!(done, 0);
        value
    }

    #[tokio::test]
    async fn a_guarded_ipv4_connection_carries_its_options() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        // The answer of an unguarded listener on this machine has TTL 64, so a guard of 192 hops lets it pass.
        let mut settings =
            settings(Ipv4Addr::LOCALHOST.into(), listener.local_addr().unwrap().port(), Ttl::Security(192));
        settings.neighbor.source_address = Some(Ipv4Addr::new(127, 0, 0, 9).into());
        let (stream, end) = dial(&settings).await.unwrap();
        assert_eq!(option(&stream, libc::IPPROTO_IP, libc::IP_TTL), 255);
        assert_eq!(option(&stream, libc::IPPROTO_IP, libc::IP_MINTTL), 64);
        assert_eq!(option(&stream, libc::IPPROTO_IP, libc::IP_TOS), 0xC0);
        assert_eq!(option(&stream, libc::IPPROTO_TCP, libc::TCP_NODELAY), 1);
        assert_eq!(option(&stream, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT), 490_000);
        assert_eq!(end.local.ip(), Ipv4Addr::new(127, 0, 0, 9));
        assert!(end.interface.contains(&Ipv4Addr::LOCALHOST.into()), "{:?}", end.interface);
    }

    #[tokio::test]
    async fn a_guarded_ipv6_connection_carries_its_options() {
        let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
        let settings = settings(Ipv6Addr::LOCALHOST.into(), listener.local_addr().unwrap().port(), Ttl::Security(192));
        let (stream, end) = dial(&settings).await.unwrap();
        assert_eq!(option(&stream, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS), 255);
        assert_eq!(option(&stream, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT), 64);
        assert_eq!(option(&stream, libc::IPPROTO_IPV6, libc::IPV6_TCLASS), 0xC0);
        assert!(end.interface.contains(&Ipv6Addr::LOCALHOST.into()), "{:?}", end.interface);
    }

    #[tokio::test]
    async fn a_router_away_is_out_of_reach_of_ebgp_and_within_that_of_ibgp() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = settings(Ipv4Addr::LOCALHOST.into(), listener.local_addr().unwrap().port(), Ttl::Default);
        let (external, _) = dial(&settings).await.unwrap();
        assert_eq!(option(&external, libc::IPPROTO_IP, libc::IP_TTL), 1);
        settings.neighbor.asn = settings.identity.asn;
        let (internal, _) = dial(&settings).await.unwrap();
        assert_eq!(option(&internal, libc::IPPROTO_IP, libc::IP_TTL), 64);
        assert_eq!(option(&internal, libc::IPPROTO_IP, libc::IP_MINTTL), 0);
    }

    #[tokio::test]
    async fn an_accepted_connection_carries_the_same_options() {
        for (ip, level, ttl, least) in [
            ("127.0.0.1", libc::IPPROTO_IP, libc::IP_TTL, libc::IP_MINTTL),
            ("::1", libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, libc::IPV6_MINHOPCOUNT),
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            let listener = listen(SocketAddr::new(ip, 0)).unwrap();
            let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let end = admit(&settings(ip, 179, Ttl::Security(192)), &stream).unwrap();
            assert_eq!((end.remote, end.local), (dialled.local_addr().unwrap(), dialled.peer_addr().unwrap()));
            assert_eq!(option(&stream, level, ttl), 255);
            assert_eq!(option(&stream, level, least), 64);
            assert_eq!(option(&stream, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT), 490_000);
        }
    }

    #[tokio::test]
    async fn a_signed_connection_needs_the_same_key_on_both_sides() {
        let address: IpAddr = Ipv4Addr::LOCALHOST.into();
        let listener = listen(SocketAddr::new(address, 0)).unwrap();
        let mut settings = settings(address, listener.local_addr().unwrap().port(), Ttl::Default);
        settings.neighbor.password = Password::new(b"right");
        let block: IpNetwork = "127.0.0.0/8".parse().unwrap();
        let key = |octets: &[u8]| sign(&SockRef::from(&listener), block, Password::new(octets).as_ref());
        let dialled = async || tokio::time::timeout(Duration::from_millis(400), dial(&settings)).await;
        key(b"wrong").unwrap();
        assert!(dialled().await.is_err(), "the SYN is dropped: no answer, and no connection");
        key(b"right").unwrap();
        assert!(dialled().await.unwrap().is_ok());
        // Ended, and ended once more: who signs gets no answer from who does not.
        key(b"").unwrap();
        key(b"").unwrap();
        assert!(dialled().await.is_err());
    }

    #[tokio::test]
    async fn what_the_peer_did_not_acknowledge_is_counted() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        assert_eq!(unacknowledged(&stream).unwrap(), 0);
        // More than the peer's socket takes while nobody reads: the window closes, and the rest stays with us.
        let mut written = 0;
        loop {
            stream.writable().await.unwrap();
            match stream.try_write(&[7; 65_536]) {
                Ok(count) => written += count,
                Err(_) if unacknowledged(&stream).unwrap() > 0 => break,
                Err(error) => panic!("{error}"),
            }
        }
        stream.shutdown().await.unwrap();
        let mut all = Vec::new();
        peer.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), written);
    }

    #[tokio::test]
    async fn refusal_and_a_foreign_source_are_told_apart() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let refused = dial(&settings(Ipv4Addr::LOCALHOST.into(), closed, Ttl::Default)).await.unwrap_err();
        assert!(refused.to_string().contains("nothing listens there"), "{refused}");
        let mut foreign = settings(Ipv4Addr::LOCALHOST.into(), closed, Ttl::Default);
        foreign.neighbor.source_address = Some(Ipv4Addr::new(198, 51, 100, 77).into());
        let refused = dial(&foreign).await.unwrap_err();
        assert!(refused.to_string().contains("sourceAddress 198.51.100.77"), "{refused}");
    }
}
