//! OPEN (RFC 4271 §4.2).

use super::{Asn, Capability, Family, RouterId};

/// An OPEN message. The version is 4: any other is an error of decoding (RFC 4271 §6.2, subcode 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The two-octet "My Autonomous System" field: AS_TRANS where the real number needs four.
    pub my_as: u16,
    /// Proposed hold time in seconds: 0 or at least 3 (1 and 2 are refused, RFC 4271 §4.2).
    pub hold_time: u16,
    /// BGP Identifier.
    pub router_id: RouterId,
    /// All capabilities in wire order, of however many parameters they came in.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// The sender's AS number: capability 65 if present, else the two-octet field.
    pub fn asn(&self) -> Asn {
        self.capabilities
            .iter()
            .find_map(|c| if let Capability::FourOctetAs(asn) = c { Some(*asn) } else { None })
            .unwrap_or(Asn(self.my_as.into()))
    }

    /// The families offered; IPv4 unicast alone where no capability 1 came (RFC 4760 §8).
    pub fn families(&self) -> Vec<Family> {
        let offered: Vec<_> = self
            .capabilities
            .iter()
            .filter_map(|c| if let Capability::Multiprotocol(family) = c { Some(*family) } else { None })
            .collect();
        if offered.is_empty() { vec![Family::IPV4_UNICAST] } else { offered }
    }
}
