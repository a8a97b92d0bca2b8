//! Rings when the kernel says that something in a folder changed, so that a change is seen at once and not at the next look.
//! Only a convenience: who listens looks again anyhow after a while, since some changes (through links, on some file
//! systems) ring no bell.

use futures_util::StreamExt;
use inotify::{EventMask, EventStream, Inotify, WatchMask};
use std::path::Path;

/// Room for the events of one reading; what they say does not matter, so a full queue loses nothing.
type Buffer = [u8; 4096];

/// A bell on one folder.
pub enum Bell {
    /// Rings.
    Hung(Box<EventStream<Buffer>>),
    /// The kernel gave none, or what it hung on is elsewhere or gone: it never rings.
    Mute,
}

impl Bell {
    /// Hangs a bell on `dir`. It rings for files that were written and closed, moved here or away, or removed; never for a
    /// file that is still being written.
    pub fn on(dir: &Path) -> Self {
        let what = WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::MOVE_SELF;
        let hung = || {
            let bell = Inotify::init()?;
            bell.watches().add(dir, what | WatchMask::ONLYDIR)?;
            bell.into_event_stream([0; 4096])
        };
        hung().map_or_else(
            |error| {
                tracing::debug!("no inotify on {}: {error}; it is looked at regularly", dir.display());
                Self::Mute
            },
            |events| Self::Hung(Box::new(events)),
        )
    }

    /// Waits for the next ring. Several changes may ring several times: looking once too often costs a listing.
    pub async fn ring(&mut self) {
        match self {
            Self::Hung(events) => {
                let next = events.next().await;
                let stays = |mask: EventMask| !mask.intersects(EventMask::IGNORED | EventMask::MOVE_SELF);
                if !matches!(next, Some(Ok(event)) if stays(event.mask)) {
                    *self = Self::Mute;
                }
            }
            Self::Mute => std::future::pending().await,
        }
    }
}
