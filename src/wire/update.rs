//! UPDATE (RFC 4271 §4.3) as it is read, and what becomes of a bad one (RFC 7606). What we send is in `announce`.
//!
//! ```text
//! 19           21
//! | length (2) | prefixes withdrawn … | length (2) | path attributes … | prefixes announced …
//! ```

use super::attribute_list;
use super::emit::prefixed_u16;
use super::error::EncodeError;
use super::nlri::{self, Unicast};
use super::parse::Reader;
use super::{Attribute, Context, Error, Family, Prefix};
use bytes::BytesMut;
use std::net::IpAddr;

pub use super::announce::{Announce, EndOfRib, Withdraw};
pub use super::fault::{Fault, Verdict};

/// An UPDATE as read from the wire.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// IPv4 prefixes withdrawn in the body.
    pub withdrawn: Vec<Prefix>,
    /// Path attributes in wire order, without those that are at fault.
    pub attributes: Vec<Attribute>,
    /// IPv4 prefixes announced in the body.
    pub nlri: Vec<Prefix>,
    /// What was wrong but does not end the session, strongest verdict first.
    pub faults: Vec<Fault>,
}

impl Update {
    /// The family whose End-of-RIB this is (RFC 4724 §2), if it is one. A message that is empty only because something in
    /// it was at fault is none.
    pub fn end_of_rib(&self) -> Option<Family> {
        if !self.faults.is_empty() || !self.withdrawn.is_empty() || !self.nlri.is_empty() {
            return None;
        }
        match &self.attributes[..] {
            [] => Some(Family::IPV4_UNICAST),
            [Attribute::MpUnreach(unreach)] if unreach.withdrawn.is_empty() => Some(unreach.family),
            _ => None,
        }
    }

    /// The strongest verdict of all faults.
    pub fn verdict(&self) -> Option<Verdict> {
        self.faults.iter().map(|fault| fault.verdict).max()
    }

    /// What the message announces, each prefix with its next hop: nothing if it is to be treated as a withdrawal. To be
    /// looked at after [`Update::gone`]: a prefix in both is announced (RFC 4271 §4.3).
    pub fn announced(&self) -> impl Iterator<Item = (Prefix, IpAddr)> {
        let wanted = self.verdict() < Some(Verdict::TreatAsWithdraw);
        let body_hop = self.attributes.iter().find_map(|attribute| match attribute {
            Attribute::NextHop(address) => Some(IpAddr::V4(*address)),
            _ => None,
        });
        let body = self.nlri.iter().filter_map(move |prefix| Some((*prefix, body_hop?)));
        let mp = self.attributes.iter().flat_map(|attribute| match attribute {
            Attribute::MpReach(reach) => reach.nlri.iter().map(|prefix| (*prefix, reach.next_hop)).collect(),
            _ => Vec::new(),
        });
        mp.chain(body).filter(move |_| wanted)
    }

    /// What the message takes back: what it withdraws, and what it announces if that is to be treated as a withdrawal.
    pub fn gone(&self) -> impl Iterator<Item = Prefix> {
        let announced_too = self.verdict() == Some(Verdict::TreatAsWithdraw);
        let mp = self.attributes.iter().flat_map(move |attribute| match attribute {
            Attribute::MpUnreach(unreach) => &unreach.withdrawn[..],
            Attribute::MpReach(reach) if announced_too => &reach.nlri,
            _ => &[],
        });
        let body = self.nlri.iter().filter(move |_| announced_too);
        self.withdrawn.iter().chain(mp).chain(body).copied()
    }

    /// Reads the body.
    pub(super) fn decode(mut reader: Reader<'_>, context: &Context) -> Result<Self, Error> {
        let withdrawn = part(&mut reader, "Withdrawn Routes Length")?;
        let attributes = part(&mut reader, "Total Path Attribute Length")?;
        let withdrawn = body_prefixes(withdrawn, "Withdrawn Routes")?;
        let nlri = body_prefixes(reader, "NLRI")?;
        let (attributes, faults) = attribute_list::decode(attributes, context)?.conclude(&nlri, context)?;
        Ok(Self { withdrawn, attributes, nlri, faults })
    }

    /// Appends the body, as it is: faults leave no octets.
    pub(super) fn encode(&self, context: &Context, out: &mut BytesMut) -> Result<(), EncodeError> {
        prefixed_u16(out, "withdrawn routes", |out| {
            nlri::encode(&self.withdrawn, out);
            Ok(())
        })?;
        prefixed_u16(out, "path attributes", |out| {
            self.attributes.iter().try_for_each(|attribute| attribute.encode(context.as_width, out))
        })?;
        nlri::encode(&self.nlri, out);
        Ok(())
    }
}

/// A part of the body with its length in front.
fn part<'a>(reader: &mut Reader<'a>, field: &'static str) -> Result<Reader<'a>, Error> {
    let offset = reader.offset();
    let exceeds = |_| Error::UpdateLengths { offset, field };
    let len = reader.u16().map_err(exceeds)?;
    reader.sub(len.into()).map_err(exceeds)
}

fn body_prefixes(reader: Reader<'_>, field: &'static str) -> Result<Vec<Prefix>, Error> {
    nlri::decode(reader, Unicast::V4).map_err(|bad| Error::Network { offset: bad.offset, what: bad.what, field })
}
