//! MRT files (RFC 6396), as far as they hold BGP messages.

use herald::wire::AsWidth;
use std::net::IpAddr;

/// One recorded message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recorded {
    /// Who sent it.
    pub peer: IpAddr,
    /// The message with its header.
    pub message: Vec<u8>,
}

/// How wide the AS numbers of a record are.
pub struct Record {
    pub width: AsWidth,
    pub recorded: Recorded,
}

/// All messages of a file; other records are passed over (RFC 6396 §4.4).
pub fn messages(mut file: &[u8]) -> Vec<Record> {
    let mut all = Vec::new();
    while let Some((header, rest)) = file.split_first_chunk::<12>() {
        let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let len = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let (record, next) = rest.split_at(len);
        file = next;
        let record = match number(4) {
            16 => record,
            17 => &record[4..],
            _ => continue,
        };
        let width = match number(6) {
            1 | 6 => AsWidth::Two,
            4 | 7 => AsWidth::Four,
            _ => continue,
        };
        all.push(Record { width, recorded: recorded(&record[2 * width.octets()..]) });
    }
    assert!(file.is_empty(), "the file ends inside a record header");
    all
}

/// Reads from the interface index on.
fn recorded(record: &[u8]) -> Recorded {
    let (peer, rest): (IpAddr, &[u8]) = match u16::from_be_bytes([record[2], record[3]]) {
        1 => (<[u8; 4]>::try_from(&record[4..8]).unwrap().into(), &record[12..]),
        2 => (<[u8; 16]>::try_from(&record[4..20]).unwrap().into(), &record[36..]),
        family => panic!("a peer of address family {family}"),
    };
    Recorded { peer, message: rest.to_vec() }
}
