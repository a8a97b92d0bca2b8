//! What goes over a link: written down by tcpdump, and read here, because tcpdump decodes no message above 4096 octets.

use crate::bed::Bed;
use crate::rig::process::Process;
use crate::rig::{Outcome, Rig, wait_until};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const MARKER: [u8; 16] = [0xff; 16];

/// A BGP message as its header says (RFC 4271 §4.1), with what of its body was in the same segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Octets, the header's included.
    pub length: u16,
    /// The type: 3 is a NOTIFICATION.
    pub kind: u8,
    /// The first octets of the body.
    pub body: Vec<u8>,
}

/// A running capture at the router's end of a bed's link.
#[derive(Debug)]
pub struct Capture {
    _process: Process,
    file: PathBuf,
}

impl Capture {
    /// Begins to look; nothing is missed once this has returned.
    ///
    /// # Errors
    /// tcpdump did not come up.
    pub fn begin(rig: &Rig, bed: &Bed) -> Outcome<Self> {
        let file = bed.dir.join("capture");
        let mut command = bed.router.command("tcpdump");
        command
            .args(["-i", &bed.link.b.device, "--immediate-mode", "-U", "-s", "0", "-Z", "root", "-w"])
            .arg(&file)
            .arg("tcp");
        let process = Process::start(rig, &format!("tcpdump-{}", bed.router.short()), command)?;
        wait_until(Duration::from_secs(30), "tcpdump to listen", || {
            if process.log().contains("listening on") { Ok(()) } else { Err(process.log()) }
        })?;
        Ok(Self { _process: process, file })
    }

    /// Every message whose header was seen whole, in order.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn messages(&self) -> Outcome<Vec<Message>> {
        let octets = fs::read(&self.file).map_err(|e| format!("{}: {e}", self.file.display()))?;
        let mut found = Vec::new();
        let mut rest = &octets[..];
        while let Some(at) = rest.windows(MARKER.len()).position(|window| window == MARKER) {
            rest = &rest[at + MARKER.len()..];
            if let [high, low, kind @ 1..=5, body @ ..] = rest {
                let length = u16::from_be_bytes([*high, *low]);
                let body = &body[..body.len().min(usize::from(length.saturating_sub(19))).min(64)];
                found.push(Message { length, kind: *kind, body: body.to_vec() });
            }
        }
        Ok(found)
    }
}
