//! Which routers have a session, written down for the next process: it is ready only when one of them speaks with it again.

use super::state_folder::{self, Record};
use crate::admin::{Before, Handles, readiness};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The file in the state folder, and its first line.
const FILE: &str = "established";
const HEADING: &str = "herald established 1";

/// How often it is looked at who has a session.
const PAUSE: Duration = Duration::from_secs(2);

/// Who had a session with the process before this one.
pub fn before(folder: Option<&Path>) -> Before {
    let Some(folder) = folder else { return Before::Unknown };
    match state_folder::read(folder, FILE, HEADING) {
        Record::Absent => Before::Unknown,
        Record::Torn(why) => {
            warn!("{} is not used: {why}; any router's session makes this speaker ready", folder.join(FILE).display());
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
pub async fn run(folder: Option<PathBuf>, handles: Handles, stop: CancellationToken) {
    let mut written = None;
    let mut tick = tokio::time::interval(PAUSE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        // Also where nobody asks: readiness is reached at a look.
        let _missing = readiness::look(&handles, tokio::time::Instant::now().into_std());
        let Some(folder) = folder.clone().filter(|_| handles.readiness.is_reached()) else { continue };
        let routers = readiness::established(&handles.speakers.borrow());
        if written.as_ref() == Some(&routers) || stop.is_cancelled() {
            continue;
        }
        let body = body(&routers);
        // A disk that hangs holds up nothing but this.
        let outcome = tokio::task::spawn_blocking(move || state_folder::write(&folder, FILE, HEADING, &body)).await;
        if let Ok(Err(error)) = outcome
            && written.is_none()
        {
            warn!("cannot write down which routers have a session: {error}; the next process will not know them");
        }
        written = Some(routers);
    }
}

fn body(routers: &BTreeSet<IpAddr>) -> String {
    routers.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_read_by_the_next_process_and_nonsense_is_nobody() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(before(None), Before::Unknown);
        assert_eq!(before(Some(folder.path())), Before::Unknown);
        for routers in [vec![], vec!["10.0.0.1"], vec!["10.0.0.1", "2001:db8::1"]] {
            let routers: BTreeSet<IpAddr> = routers.iter().map(|text| text.parse().unwrap()).collect();
            state_folder::write(folder.path(), FILE, HEADING, &body(&routers)).unwrap();
            assert_eq!(before(Some(folder.path())), Before::Routers(routers));
        }
        state_folder::write(folder.path(), FILE, HEADING, "10.0.0.1\nnobody").unwrap();
        assert_eq!(before(Some(folder.path())), Before::Unknown);
    }
}
