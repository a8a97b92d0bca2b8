//! Which routers have a session, written down for the next process: it is ready only when one of them speaks with it again.

use super::state_folder::{File, Previous, Record, Writer};
use crate::admin::{Before, Handles, readiness};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::warn;

const FILE: File = File {
    name: "established",
    heading: "herald established 1",
    cost: "the next process does not know which routers it must have a session with before it is ready",
};

/// How often it is looked at who has a session.
const PAUSE: Duration = Duration::from_secs(2);

/// Who had a session with the process before this one.
pub fn before(previous: &mut Previous) -> Before {
    match previous.read(&FILE) {
        Record::Absent => Before::Unknown,
        Record::Torn(why) => {
            warn!("{} is not used: {why}; any router's session makes this speaker ready", previous.place(&FILE));
            Before::Unknown
        }
        Record::Whole(body) => {
            let routers: Result<_, _> = body.lines().map(str::parse::<IpAddr>).collect();
            routers.map_or(Before::Unknown, Before::Routers)
        }
    }
}

/// Writes down who has a session, from the moment on at which this process is ready, until it stops: what a process that never
/// came so far has reached says nothing about the routers.
pub async fn run(writer: Writer, handles: Handles, stop: CancellationToken) {
    let mut tick = tokio::time::interval(PAUSE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        // Also where nobody asks: readiness is reached at a look.
        let _missing = readiness::look(&handles, tokio::time::Instant::now().into_std());
        if handles.readiness.is_reached() {
            writer.write(FILE, body(&readiness::established(&handles.speakers.borrow())));
        }
    }
}

fn body(routers: &BTreeSet<IpAddr>) -> String {
    routers.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::state_folder::write;
    use super::*;

    #[test]
    fn what_is_written_down_is_read_by_the_next_process_and_nonsense_is_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let before = |folder| before(&mut Previous::of(folder));
        assert_eq!(before(None), Before::Unknown);
        assert_eq!(before(Some(folder.path())), Before::Unknown);
        for routers in [vec![], vec!["10.0.0.1"], vec!["10.0.0.1", "2001:db8::1"]] {
            let routers: BTreeSet<IpAddr> = routers.iter().map(|text| text.parse().unwrap()).collect();
            write(folder.path(), &FILE, &body(&routers)).unwrap();
            assert_eq!(before(Some(folder.path())), Before::Routers(routers));
        }
        write(folder.path(), &FILE, "10.0.0.1\nnobody").unwrap();
        assert_eq!(before(Some(folder.path())), Before::Unknown);
    }
}
