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
/// The table changed while it was read: what was told lacks entries, or has some twice.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// Length, type, flags, sequence number, port.
const HEADER: usize = 16;
/// The kernel answers at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// How often a table is read that changes while it is read.
const TRIES: usize = 5;

/// Whether more follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It does.
    Partial,
    /// That was all.
    Complete,
    /// The table changed meanwhile: nothing of it is to be believed.
    Torn,
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

/// Asks, and gives what `read` makes of kind and body of each answer. A table that changed while it was read is read again.
///
/// # Errors
/// The kernel's, an answer that makes no sense, or a table that changes whenever it is read.
pub fn ask<T>(question: &[u8], read: impl Fn(u16, &[u8]) -> Option<T>) -> io::Result<Vec<T>> {
    let open = || {
        let mut socket = socket()?;
        socket.set_read_timeout(Some(ANSWER_LIMIT))?;
        socket.write_all(question)?;
        Ok(socket)
    };
    whole(open, read)
}

/// The same with what is read from what `open` opens, a piece at a time.
fn whole<S: Read, T>(
    mut open: impl FnMut() -> io::Result<S>,
    read: impl Fn(u16, &[u8]) -> Option<T>,
) -> io::Result<Vec<T>> {
    let mut octets = vec![0; 65_536];
    for _ in 0..TRIES {
        let (mut from, mut found) = (open()?, Vec::new());
        loop {
            let len = from.read(&mut octets)?;
            match answer(&octets[..len], &mut |kind, body| found.extend(read(kind, body)))? {
                Answer::Partial => {}
                Answer::Complete => return Ok(found),
                Answer::Torn => break,
            }
        }
    }
    Err(io::Error::other(format!("it changed each of the {TRIES} times that it was read")))
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
    while let Some((len, (kind, flags))) = long(octets, 0).zip(short(octets, 4).zip(short(octets, 6))) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(body) = octets.get(HEADER..len) else { return Err(io::ErrorKind::InvalidData.into()) };
        let code = || long(body, 0).map_or(0, u32::cast_signed);
        match kind {
            NLMSG_ERROR => return Err(io::Error::from_raw_os_error(code().saturating_neg())),
            // The end of one that the kernel could not finish has the error in it.
            NLMSG_DONE if code() < 0 => return Err(io::Error::from_raw_os_error(code().saturating_neg())),
            _ if flags & NLM_F_DUMP_INTR != 0 => return Ok(Answer::Torn),
            NLMSG_DONE => return Ok(Answer::Complete),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A message of this kind with one octet.
    fn message(kind: u16, flags: u16, octet: u8) -> Vec<u8> {
        let mut octets = 17_u32.to_ne_bytes().to_vec();
        octets.extend(kind.to_ne_bytes());
        octets.extend(flags.to_ne_bytes());
        octets.extend([0, 0, 0, 0, 0, 0, 0, 0, octet, 0, 0, 0]);
        octets
    }

    fn done(flags: u16, code: i32) -> Vec<u8> {
        let mut octets = 20_u32.to_ne_bytes().to_vec();
        octets.extend(NLMSG_DONE.to_ne_bytes());
        octets.extend(flags.to_ne_bytes());
        octets.extend([0; 8]);
        octets.extend(code.to_ne_bytes());
        octets
    }

    /// A socket that gives a piece at each read, as the kernel does.
    struct Pieces(VecDeque<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let piece = self.0.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
            into[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    /// What comes of these dumps, and how many were asked for.
    fn told(dumps: &[&[Vec<u8>]]) -> (Result<Vec<u8>, String>, usize) {
        let mut asked = 0;
        let open = || {
            let pieces = dumps[asked.min(dumps.len() - 1)].iter().cloned().collect();
            asked += 1;
            Ok(Pieces(pieces))
        };
        let found = whole(open, |kind, body| (kind == 20).then(|| body[0]));
        (found.map_err(|error| error.to_string()), asked)
    }

    #[test]
    fn a_table_that_changed_while_it_was_read_is_read_again_and_not_believed() {
        let entry = |octet| message(20, 2, octet);
        let torn = |octet| message(20, 2 | NLM_F_DUMP_INTR, octet);
        let well = [[entry(1), entry(2)].concat(), [entry(3), message(16, 2, 9)].concat(), done(2, 0)];
        assert_eq!(told(&[&well]), (Ok(vec![1, 2, 3]), 1));
        // The mark is on whatever came after the change: an entry of a later piece, or the end alone.
        let within = [entry(7), [entry(8), torn(9)].concat(), done(2 | NLM_F_DUMP_INTR, 0)];
        let at_the_end = [entry(7), [entry(8), done(2 | NLM_F_DUMP_INTR, 0)].concat()];
        assert_eq!(told(&[&within, &at_the_end, &well]), (Ok(vec![1, 2, 3]), 3));
        let (never, asked) = told(&[&within]);
        assert_eq!((never.unwrap_err().as_str(), asked), ("it changed each of the 5 times that it was read", TRIES));
    }

    #[test]
    fn a_dump_that_the_kernel_could_not_finish_is_an_error() {
        let (failed, asked) = told(&[&[message(20, 2, 1), done(2, -libc::ENOMEM)]]);
        assert!(failed.as_ref().unwrap_err().contains("Cannot allocate memory"), "{failed:?}");
        assert_eq!(asked, 1);
        let (silent, _) = told(&[&[message(20, 2, 1)]]);
        assert!(silent.is_err(), "half an answer is none");
    }
}
