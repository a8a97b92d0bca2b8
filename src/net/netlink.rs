//! Asking the kernel by netlink (linux/netlink.h, linux/rtnetlink.h): one question, all answers; and a socket that says when to ask
//! again. Neither needs a capability.

use super::socket::join_netlink_group;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read, Write};
use std::time::Duration;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
/// Length, type, flags, sequence number, port.
const HEADER: usize = 16;
/// The kernel answers at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Whether more follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It does.
    Partial,
    /// That was all.
    Complete,
}

/// A question of one kind for everything there is; `body` is what follows the header.
pub fn question(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    octets.extend(u32::try_from(HEADER + body.len()).expect("a small number").to_ne_bytes());
    octets.extend(kind.to_ne_bytes());
    octets.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    octets.extend([0; 8]);
    octets.extend(body);
    octets
}

/// Asks, and gives kind and body of each answer to `take`.
///
/// # Errors
/// The kernel's, or an answer that makes no sense.
pub fn ask(question: &[u8], mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
    let mut socket = socket()?;
    socket.set_read_timeout(Some(ANSWER_LIMIT))?;
    socket.write_all(question)?;
    let mut octets = vec![0; 65_536];
    loop {
        let len = socket.read(&mut octets)?;
        if answer(&octets[..len], &mut take)? == Answer::Complete {
            return Ok(());
        }
    }
}

/// A socket that becomes readable when something of these groups changes. `question` is any that the kernel answers: it gives a
/// socket its port at the first one, and one without hears nothing, since it would be taken for the sender.
///
/// # Errors
/// The kernel's.
pub fn listen(groups: &[u32], question: &[u8]) -> io::Result<Socket> {
    let socket = socket()?;
    socket.set_nonblocking(true)?;
    for group in groups {
        join_netlink_group(&socket, *group)?;
    }
    (&socket).write_all(question)?;
    Ok(socket)
}

/// What the news are does not matter: they say when to ask. Lost ones (ENOBUFS) are news too.
pub fn drain(mut news: &Socket) {
    let mut octets = [0; 16_384];
    for _ in 0..1_000 {
        match news.read(&mut octets) {
            Ok(1..) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// Takes one piece of an answer apart.
///
/// # Errors
/// The kernel's, or that it makes no sense.
pub fn answer(mut octets: &[u8], take: &mut impl FnMut(u16, &[u8])) -> io::Result<Answer> {
    while let Some((len, kind)) = long(octets, 0).zip(short(octets, 4)) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(body) = octets.get(HEADER..len) else { return Err(io::ErrorKind::InvalidData.into()) };
        match kind {
            NLMSG_DONE => return Ok(Answer::Complete),
            NLMSG_ERROR => {
                let code = long(body, 0).map_or(0, u32::cast_signed);
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            _ => take(kind, body),
        }
        octets = octets.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Answer::Partial)
}

/// Kind and value of each attribute.
pub fn attributes(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (len, kind) = short(octets, 0).zip(short(octets, 2))?;
        let value = octets.get(4..usize::from(len))?;
        octets = octets.get(usize::from(len).next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A number of two octets.
pub fn short(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(octets.get(at..at + 2)?.try_into().expect("two octets")))
}

/// A number of four octets.
pub fn long(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(octets.get(at..at + 4)?.try_into().expect("four octets")))
}

fn socket() -> io::Result<Socket> {
    Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE)))
}
