//! What the SYN of an accepted connection showed. The kernel keeps it for us, so that what the listening socket could not ask of
//! everybody is asked of this router before a word of it is believed.

/// A SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syn {
    /// TTL or hop limit on arrival.
    pub ttl: u8,
    /// Whether it was signed (TCP-MD5). The kernel drops what is signed wrongly.
    pub signed: bool,
}

/// TCP in the protocol and next-header field.
const TCP: u8 = 6;
/// The header of IPv6.
const IPV6_HEADER: usize = 40;
/// Options of TCP: end of the list, padding, MD5 (RFC 2385 §3.0).
const END: u8 = 0;
const PADDING: u8 = 1;
const MD5: u8 = 19;

impl Syn {
    /// Reads headers of IP and TCP. `None` for what is no such thing.
    pub fn read(octets: &[u8]) -> Option<Self> {
        let (ttl, tcp) = match octets.first()? >> 4 {
            4 if *octets.get(9)? == TCP => (*octets.get(8)?, octets.get(usize::from(octets.first()? & 0xF) * 4..)?),
            6 if *octets.get(6)? == TCP => (*octets.get(7)?, octets.get(IPV6_HEADER..)?),
            _ => return None,
        };
        let header = usize::from(tcp.get(12)? >> 4) * 4;
        Some(Self { ttl, signed: has_option(tcp.get(20..header)?, MD5) })
    }
}

fn has_option(mut options: &[u8], wanted: u8) -> bool {
    while let Some((&kind, rest)) = options.split_first() {
        if kind == wanted {
            return true;
        }
        let skip = match kind {
            END => return false,
            PADDING => 1,
            // A length counts itself and its kind; less is no option.
            _ => match rest.first() {
                Some(length @ 2..) => usize::from(*length),
                Some(0 | 1) | None => return false,
            },
        };
        options = options.get(skip..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(options: &[u8]) -> Vec<u8> {
        let mut octets = vec![0; 20];
        octets[12] = u8::try_from((20 + options.len()) / 4).unwrap() << 4;
        octets.extend_from_slice(options);
        octets
    }

    fn v4(options: &[u8]) -> Vec<u8> {
        let mut octets = vec![0; 20];
        (octets[0], octets[8], octets[9]) = (0x45, 254, TCP);
        octets.extend(tcp(options));
        octets
    }

    #[test]
    fn ttl_and_signature_of_both_families() {
        let mut signed = vec![2, 4, 5, 180, PADDING, PADDING, MD5, 18];
        signed.extend([7; 16]);
        assert_eq!(Syn::read(&v4(&signed)), Some(Syn { ttl: 254, signed: true }));
        assert_eq!(Syn::read(&v4(&[2, 4, 5, 180])), Some(Syn { ttl: 254, signed: false }));
        let mut v6 = vec![0; IPV6_HEADER];
        (v6[0], v6[6], v6[7]) = (0x60, TCP, 255);
        v6.extend(tcp(&signed));
        assert_eq!(Syn::read(&v6), Some(Syn { ttl: 255, signed: true }));
    }

    #[test]
    fn the_number_of_md5_inside_another_option_is_no_signature() {
        assert!(!Syn::read(&v4(&[8, 4, MD5, 18])).unwrap().signed);
        assert!(!Syn::read(&v4(&[END, MD5, 18, 0])).unwrap().signed);
    }

    #[test]
    fn what_is_cut_or_of_another_kind_is_no_syn_and_no_panic() {
        let whole = v4(&[8, 0, 0, 0]);
        assert!(Syn::read(&whole).is_some());
        for len in 0..whole.len() {
            assert_eq!(Syn::read(&whole[..len]), None, "{len} octets");
        }
        for first in 0..=u8::MAX {
            let mut other = whole.clone();
            other[0] = first;
            other[32] = first;
            let _read_or_not = Syn::read(&other);
        }
    }
}
