//! What is asked of the kernel about sockets and interfaces, and of the C library, that no safe crate of ours offers. The only file
//! with `unsafe`.

use super::syn::Syn;
use crate::peer::settings::{InterfaceName, Password};
use ipnetwork::IpNetwork;
use socket2::{SockAddr, Socket};
use std::ffi::CString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;

// === TCP-MD5 ===

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

// === options that are one number ===

/// DSCP CS6 (network control, RFC 4594 §3.1) as the octet in the IP header.
const CS6: u32 = 0xC0;

/// Marks what a socket sends as network control.
///
/// # Errors
/// The kernel's.
pub fn mark_as_network_control(socket: &Socket, family: &IpAddr) -> io::Result<()> {
    match family {
        IpAddr::V4(_) => socket.set_tos_v4(CS6),
        IpAddr::V6(_) => socket.set_tclass_v6(CS6),
    }
}

/// The least TTL (hop limit) of packets that the kernel takes (RFC 5082 §3); 0 takes all. On a listening socket it holds for
/// SYNs already.
///
/// # Errors
/// The kernel's.
pub fn set_least_ttl(socket: &Socket, family: &IpAddr, least: u8) -> io::Result<()> {
    let (level, option) = least_ttl_option(family);
    set_int(socket, level, option, least.into())
}

/// The same, asked for.
///
/// # Errors
/// The kernel's.
pub fn least_ttl(socket: &Socket, family: &IpAddr) -> io::Result<u8> {
    let (level, option) = least_ttl_option(family);
    get_int(socket, level, option).map(|least| u8::try_from(least).unwrap_or(u8::MAX))
}

fn least_ttl_option(family: &IpAddr) -> (libc::c_int, libc::c_int) {
    match family {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MINTTL),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT),
    }
}

/// Octets of data that a segment of this connection carries now; what options take is off (TCP_MAXSEG).
///
/// # Errors
/// The kernel's.
pub fn segment_size(socket: &Socket) -> io::Result<u16> {
    get_int(socket, libc::IPPROTO_TCP, libc::TCP_MAXSEG).map(|size| u16::try_from(size).unwrap_or(u16::MAX))
}

/// Has a listening socket keep the SYN of each connection, for [`saved_syn`].
///
/// # Errors
/// The kernel's.
pub fn save_syns(socket: &Socket) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, 1)
}

/// Hears of a group of happenings on a netlink socket (NETLINK_ADD_MEMBERSHIP).
///
/// # Errors
/// The kernel's.
pub fn join_netlink_group(socket: &Socket, group: u32) -> io::Result<()> {
    set_int(
        socket,
        libc::SOL_NETLINK,
        libc::NETLINK_ADD_MEMBERSHIP,
        libc::c_int::try_from(group).expect("a small number"),
    )
}

/// A socket that is no TCP one, to be waited for.
///
/// # Errors
/// The kernel's.
pub fn readable(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a `Socket` owns its descriptor, which stays open and the same until it is dropped, by the `AsyncFd` itself.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

fn set_int(socket: &Socket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("an int is 4 octets");
    // SAFETY: the descriptor is open while `socket` is borrowed; the kernel reads `len` octets of a live integer.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), len) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn get_int(socket: &Socket, level: libc::c_int, option: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("an int is 4 octets");
    // SAFETY: the descriptor is open while `socket` is borrowed; the kernel writes at most `len` octets to a live integer.
    let done = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut len) };
    if done == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// The longest that an IPv6 header with extensions and a TCP header are, and more.
const SYN_MAX: usize = 512;

/// The SYN that began an accepted connection; the kernel tells it once. `None` where it kept none: it then answered a flood
/// by SYN cookies.
///
/// # Errors
/// The kernel's.
pub fn saved_syn(stream: &TcpStream) -> io::Result<Option<Syn>> {
    let mut octets = [0_u8; SYN_MAX];
    let mut len = libc::socklen_t::try_from(SYN_MAX).expect("a small number");
    // SAFETY: the descriptor is open while `stream` is borrowed; the kernel writes at most `len` octets to a live array.
    let done = unsafe {
        let to = octets.as_mut_ptr().cast();
        libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_SAVED_SYN, to, &raw mut len)
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let len = usize::try_from(len).expect("a small number").min(SYN_MAX);
    Ok(Syn::read(&octets[..len]))
}

// === what waits ===

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

// === interfaces ===

/// The number of an interface, as scope IDs have it.
///
/// # Errors
/// There is none of this name.
pub fn interface_index(name: &InterfaceName) -> io::Result<u32> {
    let text = CString::new(name.as_str()).expect("a name has no zero octet");
    // SAFETY: `text` ends with a zero and lives until the call is over.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Gives memory that is free back to the kernel, where the C library keeps it because something small lies above.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and may be called by any thread at any time.
    let _whether_any = unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_peer_did_not_acknowledge_is_counted() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
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

    #[test]
    fn interfaces_have_numbers_and_addresses() {
        let lo = InterfaceName::new("lo").unwrap();
        assert!(interface_index(&lo).unwrap() > 0);
        assert!(interface_index(&InterfaceName::new("no-such-one").unwrap()).is_err());
    }
}
