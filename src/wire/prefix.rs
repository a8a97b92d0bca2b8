//! An address block in canonical form.

use super::Family;
use ipnetwork::IpNetwork;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An IP prefix whose host bits are zero by construction, so that equal blocks are equal values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(IpNetwork);

/// Why a text or pair is no [`Prefix`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Not an address, or not `ADDRESS/LENGTH`.
    #[error("{0:?} is not an address block such as 198.51.100.0/24 or 2001:db8::/64")]
    Malformed(String),
    /// Longer than 32 or 128 bits.
    #[error("a prefix length of {len} is too long for {address}")]
    TooLong {
        /// The address that was given.
        address: IpAddr,
        /// The length that was given, in bits.
        len: u8,
    },
    /// Bits are set to the right of the prefix length.
    #[error("{given} has host bits set; write {network}")]
    HostBits {
        /// As written.
        given: String,
        /// What was probably meant.
        network: Prefix,
    },
}

impl Prefix {
    /// The block of `len` bits around `address`; host bits are cleared.
    ///
    /// # Errors
    /// [`PrefixError::TooLong`].
    pub fn covering(address: IpAddr, len: u8) -> Result<Self, PrefixError> {
        let block = IpNetwork::new(address, len).map_err(|_| PrefixError::TooLong { address, len })?;
        Ok(Self(IpNetwork::new(block.network(), len).expect("the length was accepted above")))
    }

    /// The /32 or /128 of one address.
    pub fn host(address: IpAddr) -> Self {
        Self(IpNetwork::from(address))
    }

    /// The network address.
    pub fn address(&self) -> IpAddr {
        self.0.ip()
    }

    /// The last address of the block; of a host route, the address itself.
    pub fn last_address(&self) -> IpAddr {
        self.0.broadcast()
    }

    /// The length in bits.
    #[expect(
        clippy::len_without_is_empty,
        reason = "the length of a prefix counts bits, not members; no block is empty"
    )]
    pub fn len(&self) -> u8 {
        self.0.prefix()
    }

    /// Whether this is the default route, a block of length zero.
    pub fn is_default(&self) -> bool {
        self.len() == 0
    }

    /// IPv4 or IPv6 unicast.
    pub fn family(&self) -> Family {
        match self.0 {
            IpNetwork::V4(_) => Family::IPV4_UNICAST,
            IpNetwork::V6(_) => Family::IPV6_UNICAST,
        }
    }

    /// Whether `address` lies in this block.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(address)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// Accepts `ADDRESS/LENGTH` with decimal length and clear host bits, or a bare address as a host route.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let malformed = || PrefixError::Malformed(text.to_owned());
        let Some((address, len)) = text.split_once('/') else {
            return text.parse().map(Self::host).map_err(|_| malformed());
        };
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        if !len.bytes().all(|b| b.is_ascii_digit()) || (len.len() > 1 && len.starts_with('0')) {
            return Err(malformed());
        }
        let prefix = Self::covering(address, len.parse().map_err(|_| malformed())?)?;
        if prefix.address() != address {
            return Err(PrefixError::HostBits { given: text.to_owned(), network: prefix });
        }
        Ok(prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_cleared_or_refused() {
        let block = Prefix::covering("10.1.2.3".parse().unwrap(), 8).unwrap();
        assert_eq!(block.to_string(), "10.0.0.0/8");
        let refused = "10.1.2.3/8".parse::<Prefix>().unwrap_err();
        assert_eq!(refused.to_string(), "10.1.2.3/8 has host bits set; write 10.0.0.0/8");
    }

    #[test]
    fn text_that_ipnetwork_would_forgive_is_refused() {
        for text in ["10.0.0.0/08", "10.0.0.0/+8", "10.0.0.0/255.0.0.0", "10.0.0.0/", "010.0.0.0/8", "10.0.0.0/33", ""]
        {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_bare_address_is_a_host_route() {
        assert_eq!("2001:db8::1".parse::<Prefix>().unwrap().len(), 128);
    }
}
