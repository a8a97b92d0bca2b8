//! The bar: a loop that writes octets which were built beforehand. Nothing that computes can be quicker.

use super::receiver::SPEAKER_ASN;
use crate::rig::Outcome;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long the other end may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// The `n`-th address of the table.
pub fn address(n: u32) -> Ipv4Addr {
    // 198.18.0.0/15, the range for benchmarks (RFC 2544).
    Ipv4Addr::from(0xC612_0000 + n)
}

/// A whole table as messages: `routes` /32 with the smallest set of attributes, as many a message as fit, then End-of-RIB.
pub fn table(routes: u32, asn: u32, next_hop: Ipv4Addr) -> Vec<u8> {
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1];
    attributes.extend_from_slice(&asn.to_be_bytes());
    attributes.extend_from_slice(&[0x40, 3, 4]);
    attributes.extend_from_slice(&next_hop.octets());
    let fit = (4096 - 23 - attributes.len()) / 5;
    let mut octets = Vec::new();
    for block in (0..routes).collect::<Vec<_>>().chunks(fit) {
        let mut body = vec![0, 0];
        body.extend_from_slice(&u16::try_from(attributes.len()).unwrap_or_default().to_be_bytes());
        body.extend_from_slice(&attributes);
        for n in block {
            body.push(32);
            body.extend_from_slice(&address(*n).octets());
        }
        message(2, &body, &mut octets);
    }
    message(2, &[0; 4], &mut octets);
    octets
}

/// Dials `to` from `from`, exchanges OPENs as AS `asn`, and writes `octets`. No hold time: the session lives as long as
/// the stream.
///
/// # Errors
/// The connection's.
pub fn speak(from: Ipv4Addr, to: SocketAddr, asn: u32, octets: &[u8]) -> Outcome<TcpStream> {
    let speak = || -> std::io::Result<TcpStream> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.connect(&to.into())?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut open = Vec::new();
        let mut body = vec![4];
        body.extend_from_slice(&u16::try_from(asn).unwrap_or(23456).to_be_bytes());
        body.extend_from_slice(&[0, 0, 10, 0, 0, 1, 14, 2, 12, 1, 4, 0, 1, 0, 1, 65, 4]);
        body.extend_from_slice(&asn.to_be_bytes());
        message(1, &body, &mut open);
        stream.write_all(&open)?;
        skip(&mut stream)?;
        let mut keepalive = Vec::new();
        message(4, &[], &mut keepalive);
        stream.write_all(&keepalive)?;
        skip(&mut stream)?;
        stream.write_all(octets)?;
        Ok(stream)
    };
    speak().map_err(|e| format!("the bare loop: {e}"))
}

/// Speaks to the receiver in a thread of its own and ends when the receiver closes.
pub fn spawn(to: SocketAddr, octets: Vec<u8>) -> std::thread::JoinHandle<Outcome> {
    std::thread::spawn(move || {
        let mut stream = speak(Ipv4Addr::new(127, 0, 0, 2), to, SPEAKER_ASN, &octets)?;
        let _closed_either_way = stream.read(&mut [0; 64]);
        Ok(())
    })
}

fn skip(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut header = [0; 19];
    stream.read_exact(&mut header)?;
    let rest = usize::from(u16::from_be_bytes([header[16], header[17]])).saturating_sub(19);
    stream.read_exact(&mut vec![0; rest])
}

fn message(kind: u8, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xff; 16]);
    out.extend_from_slice(&u16::try_from(body.len() + 19).unwrap_or_default().to_be_bytes());
    out.push(kind);
    out.extend_from_slice(body);
}
