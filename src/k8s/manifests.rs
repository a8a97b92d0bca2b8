//! The door without a cluster: a folder of ordinary Service, EndpointSlice and Node manifests, read again when it changes.

use super::bell::Bell;
use super::documents::Format;
use super::folder::{Change, Folder, Stamp};
use super::health::{Contact, Listing, Source, SourceHealth, WatchHealth};
use super::index::Index;
use super::object::Kind;
use crate::advertise::Observation;
use crate::files;
use anyhow::Context;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the folder is listed where there is no bell, and how long a file has until the second look at it.
const POLL: Duration = Duration::from_millis(100);
/// How often it is listed where a bell hangs, for the changes that ring none.
const REST: Duration = Duration::from_secs(1);

/// Publishes what the manifests in `dir` say until `stop`. Reads and parses outside the runtime's thread, so that a large
/// file does not hold up a session.
///
/// # Errors
/// When the folder cannot be listed at the start. Later on that is reported in `health`, and the last good state stays.
pub async fn run(
    dir: PathBuf,
    (out, accepted): (watch::Sender<Option<Arc<Observation>>>, watch::Receiver<u64>),
    health: watch::Sender<WatchHealth>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    list(&dir).with_context(|| format!("cannot list the manifests folder {}", dir.display()))?;
    health.send_replace(WatchHealth::of(&[Source::Manifests]));
    let mut door = Door { dir, folder: Folder::default(), index: Index::default(), stage: Stage::Starting };
    let mut bell = Bell::on(&door.dir);
    let mut reported = BTreeSet::new();
    while !stop.is_cancelled() {
        door.index.accept(*accepted.borrow());
        let seen;
        (door, seen) = tokio::task::spawn_blocking(move || {
            let seen = door.look();
            (door, seen)
        })
        .await
        .context("reading the manifests folder broke off: this is a bug")?;
        report(&seen, &mut reported);
        if let Some(view) = &seen.view {
            out.send_replace(Some(view.clone()));
        }
        // After the view: who reads "synced" finds a view.
        publish_health(&health, &door, &seen);
        // What waits for a second look must have had its time: then no bell hurries us.
        let settled = door.folder.is_settled();
        let pause = match bell {
            Bell::Hung(_) if settled => REST,
            Bell::Hung(_) | Bell::Mute => POLL,
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
            () = bell.ring(), if settled => {}
        }
    }
    Ok(())
}

/// Folder and index, moved to the thread that reads and back.
struct Door {
    dir: PathBuf,
    folder: Folder,
    index: Index,
    stage: Stage,
}

/// Whether every file of the folder was read once; before that there is no view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting,
    Following,
}

/// What one look gave.
struct Seen {
    view: Option<Arc<Observation>>,
    listed: Result<(), String>,
    problems: Vec<String>,
    complaints: Vec<String>,
}

impl Door {
    fn look(&mut self) -> Seen {
        let listed = match list(&self.dir) {
            Ok(listing) => {
                let dir = self.dir.clone();
                let changes = self.folder.look(&listing, |name| files::read(&dir.join(name), files::MANIFEST));
                self.follow(changes);
                Ok(())
            }
            Err(error) => Err(format!("the manifests folder {} cannot be listed: {error}", self.dir.display())),
        };
        Seen {
            view: self.index.poll_view(),
            listed,
            problems: self.folder.problems(),
            complaints: self.folder.complaints(),
        }
    }

    fn follow(&mut self, changes: Vec<Change>) {
        match self.stage {
            Stage::Starting if self.folder.is_known() => {
                for kind in Kind::ALL {
                    self.index.reset(kind, self.folder.readings(kind));
                }
                self.stage = Stage::Following;
            }
            Stage::Starting => {}
            Stage::Following => {
                for change in changes {
                    match change {
                        Change::Apply(object) => self.index.infer(object),
                        Change::Delete(key) => self.index.delete(&key),
                        Change::Missing(key) => self.index.infer_gone(&key),
                    }
                }
            }
        }
    }
}

/// The manifests of a folder. Links are followed; what vanishes meanwhile, and what is no file, is left out.
fn list(dir: &Path) -> io::Result<BTreeMap<String, Stamp>> {
    let mut listing = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if Format::of(&name).is_none() {
            continue;
        }
        let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
        if metadata.is_file() {
            listing.insert(name, stamp(&metadata));
        }
    }
    Ok(listing)
}

fn stamp(metadata: &std::fs::Metadata) -> Stamp {
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    Stamp {
        modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        size: metadata.size(),
        inode: metadata.ino(),
    }
}

/// Logs what is newly wrong and what is mended.
fn report(seen: &Seen, reported: &mut BTreeSet<String>) {
    let problems = seen.problems.iter().chain(&seen.complaints).cloned();
    let now: BTreeSet<String> = problems.chain(seen.listed.clone().err()).collect();
    for problem in now.difference(reported) {
        tracing::error!("manifests: {problem}");
    }
    for problem in reported.difference(&now) {
        tracing::info!("manifests: mended: {problem}");
    }
    *reported = now;
}

/// Tells the health where it changed; a quiet folder wakes nobody.
fn publish_health(health: &watch::Sender<WatchHealth>, door: &Door, seen: &Seen) {
    health.send_if_modified(|health| {
        let source = health.sources.entry(Source::Manifests).or_default();
        let before = source.clone();
        describe(source, door, seen);
        *source != before
    });
}

fn describe(source: &mut SourceHealth, door: &Door, seen: &Seen) {
    let now = Instant::now();
    match (&seen.listed, &source.contact) {
        (Ok(()), Contact::Answering) if seen.view.is_none() => {}
        (Ok(()), Contact::Answering | Contact::None | Contact::Failing { .. }) => source.heard(now),
        (Err(error), Contact::Failing { error: known, .. }) if error == known => {}
        (Err(error), Contact::Answering | Contact::None | Contact::Failing { .. }) => source.failed(now, error.clone()),
    }
    source.listing = match door.stage {
        Stage::Starting => Listing::Pending,
        Stage::Following => Listing::Complete,
    };
    source.objects = Kind::ALL.into_iter().map(|kind| door.index.count(kind)).sum();
    source.problems = seen.problems.iter().chain(&seen.complaints).cloned().collect();
}
