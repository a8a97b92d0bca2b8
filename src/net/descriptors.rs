//! The process' descriptors: routers may have all but a few, so that files, the API server and the admin doors go on when routers
//! are many and the limit is low.
//!
//! The kernel gives the lowest number that is free. So one that is close to the limit says that nearly all are in use; no count is
//! kept, and a limit that is changed from outside is known at once.

use super::complaint::Complaint;
use crate::condition::{Conditions, Reason};
use rustix::process::{Resource, getrlimit};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Kept for what is not BGP: the API server, files, the admin doors.
const KEPT: u64 = 16;
/// Kept for peers that the configuration names, where routers of a range would take all.
const KEPT_FOR_PEERS: u64 = 16;
/// Between two looks at whether descriptors are short.
const LOOK: Duration = Duration::from_secs(1);

/// For whom a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// A peer that the configuration names.
    Peer,
    /// One of the routers of a range.
    Member,
}

/// How many the process may have.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether a descriptor that was just given is one of those that are kept for others.
pub fn is_kept(given: &impl AsFd, from: For) -> bool {
    let number = u64::try_from(given.as_fd().as_raw_fd()).unwrap_or_default();
    let kept = match from {
        For::Peer => KEPT,
        For::Member => KEPT + KEPT_FOR_PEERS,
    };
    number >= limit().saturating_sub(kept)
}

/// Whether an error says that there is none.
pub fn are_out(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.raw_os_error().is_some_and(|code| [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error).contains(&code))
}

/// What to do about it.
pub fn advice() -> String {
    format!(
        "the process may have {} descriptors, {KEPT} of which are kept for files, the API server and the admin doors: raise the \
         hard limit (LimitNOFILE of the unit, or the default of the container runtime), or have fewer peers here",
        limit()
    )
}

/// Says for ever from whom descriptors are kept.
pub async fn watch(to: watch::Sender<Conditions>) {
    let complaint = Complaint::new(Reason::DescriptorsShort, "", to);
    let mut before = None;
    loop {
        let now = kept_from();
        if now != before {
            match now {
                None => complaint.clear(),
                Some(For::Member) => complaint.set(format!("routers of ranges are turned away (6/8): {}", advice())),
                Some(For::Peer) => complaint.set(format!(
                    "sessions that are up stay, and no other router is connected to, nor let in: {}",
                    advice()
                )),
            }
        }
        before = now;
        sleep(LOOK).await;
    }
}

/// For whom the next descriptor would not be.
fn kept_from() -> Option<For> {
    match UnixDatagram::unbound() {
        Ok(probe) => [For::Peer, For::Member].into_iter().find(|from| is_kept(&probe, *from)),
        Err(error) => are_out(&error).then_some(For::Peer),
    }
}
