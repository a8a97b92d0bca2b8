//! The configuration file in use. A bad file never replaces a good one, and a file that is being rewritten neither.

use super::last_known_good::{Accepted, Keeper, Kept};
use crate::admin::{Freshness, Reloads};
use crate::condition::{Conditions, Reason};
use crate::config::{Config, kept};
use crate::files::{self, Reader};
use crate::peer::settings::Password;
use anyhow::{Context, anyhow};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

/// How often the file is looked at. The kubelet itself takes up to a minute to refresh a ConfigMap; SIGHUP is at once.
const POLL: Duration = Duration::from_secs(5);

/// When a file that changed is looked at again, to see whether it is still being written.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// How often the file is looked at again at the start, at most.
const FIRST_LOOKS: u32 = 5;

/// After so many looks that each showed another text, people are told. Looks are a second apart, but for SIGHUP.
const RESTLESS: u32 = 60;

/// The file, and what was last read from it.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    reader: Reader,
    looks: Looks,
    conditions: watch::Sender<Conditions>,
    keeper: Keeper,
    in_use: InUse,
}

/// Which configuration is in use.
#[derive(Debug)]
enum InUse {
    /// The one that the file has.
    Current(Accepted),
    /// An older one, because the file is refused; why.
    Older(Accepted, String),
    /// That of one who was here before.
    Inherited,
}

/// What a look at the file showed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Unreadable(String),
}

impl Seen {
    /// A good text as accepted: since when what was kept was, where it says the same.
    fn accepted(&self, kept: Option<Kept>) -> Accepted {
        let now = Accepted::now(self.text(), Timestamp::now());
        match kept {
            Some(Kept { accepted, .. }) if accepted.hash == now.hash => accepted,
            Some(_) | None => now,
        }
    }

    fn passwords(&self) -> BTreeMap<Arc<str>, Password> {
        kept::passwords(self.text())
    }

    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Unreadable(_) => "",
        }
    }
}

/// Whether what was looked at may be believed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sureness {
    /// It is as it was, or is believed.
    Settled,
    /// It changed: it is looked at again soon, and believed then if it is the same.
    Doubted,
}

/// Believes what two looks have shown with [`SECOND_LOOK`] between them and nothing else meanwhile. Half a file may well be a configuration: without its last peers and pools, or
/// with a peer that lacks its password still and an advertisement its `no-export`; so what is added waits as well.
#[derive(Debug)]
struct Looks {
    believed: Seen,
    /// What was seen last, and when it was seen first.
    doubted: Option<(Seen, Instant)>,
    /// Looks in a row that each showed something else.
    restless: u32,
}

impl Looks {
    fn at(believed: Seen) -> Self {
        Self { believed, doubted: None, restless: 0 }
    }

    /// One more look; what is believed from now on, if that is something else.
    fn look(&mut self, seen: Seen, now: Instant) -> Option<&Seen> {
        match self.doubted.take() {
            _ if seen == self.believed => {
                self.restless = 0;
                None
            }
            Some((same, since)) if same == seen && now.saturating_duration_since(since) >= SECOND_LOOK => {
                self.restless = 0;
                self.believed = seen;
                Some(&self.believed)
            }
            Some((same, since)) if same == seen => {
                self.doubted = Some((same, since));
                None
            }
            Some(_) | None => {
                self.restless = self.restless.saturating_add(1);
                self.doubted = Some((seen, now));
                None
            }
        }
    }

    fn sureness(&self) -> Sureness {
        if self.doubted.is_some() { Sureness::Doubted } else { Sureness::Settled }
    }
}

/// Where a followed file's content goes.
pub struct Uses<Beside> {
    /// The configuration in use.
    pub config: watch::Sender<Arc<Config>>,
    /// Counts.
    pub reloads: Reloads,
    /// Looks at other files that a configuration names, before it is published.
    pub beside: Beside,
}

impl ConfigFile {
    /// Reads the file for the first time, apart from the runtime's thread. Where it is refused, what was kept is used.
    ///
    /// # Errors
    /// It cannot be read, or is not a configuration, and none is kept; with the whole report.
    pub async fn open(
        path: PathBuf,
        keeper: Keeper,
        conditions: watch::Sender<Conditions>,
    ) -> anyhow::Result<(Self, Config)> {
        let opened = tokio::task::spawn_blocking(move || Self::open_now(path, keeper, conditions));
        opened.await.context("reading the configuration broke off: this is a bug")?
    }

    fn open_now(
        path: PathBuf,
        keeper: Keeper,
        conditions: watch::Sender<Conditions>,
    ) -> anyhow::Result<(Self, Config)> {
        let mut reader = Reader::default();
        let kept = keeper.read();
        let seen = see_settled(&mut reader, &path, kept.as_ref().ok());
        let (in_use, config) = match parse(&path, &seen) {
            Ok((config, warnings)) => {
                warn_of(&path, &warnings);
                (InUse::Current(seen.accepted(kept.ok())), config)
            }
            Err(report) => {
                let Kept { mut config, accepted } = kept.map_err(|why| anyhow!("{report}\n{why}"))?;
                kept::put_back(&mut config, &seen.passwords());
                error!("{} is refused; the configuration that was accepted last is used:\n{report}", path.display());
                (InUse::Older(accepted, report), config)
            }
        };
        Ok((Self { path, reader, looks: Looks::at(seen), conditions, keeper, in_use }, config))
    }

    /// The file of one that was here before: whatever it holds is news.
    pub fn again(path: PathBuf, keeper: Keeper, conditions: watch::Sender<Conditions>) -> Self {
        let looks = Looks::at(Seen::Unreadable("not read yet".to_owned()));
        Self { path, reader: Reader::default(), looks, conditions, keeper, in_use: InUse::Inherited }
    }

    /// Looks at the file every five seconds and at each `hangup`; publishes what is new and good. All of that happens on a
    /// thread of its own. Never ends by itself.
    pub async fn follow<Beside>(self, mut hangup: Signal, uses: Uses<Beside>)
    where
        Beside: FnMut(&Config) -> Sureness + Send + 'static,
    {
        let (ask, asked) = sync_channel(1);
        let path = self.path.clone();
        let mut looking = tokio::task::spawn_blocking(move || self.keep_looking(&asked, uses));
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    info!("SIGHUP: looking at {}", path.display());
                    // One that waits already is enough.
                    let _waiting = ask.try_send(());
                }
                ended = &mut looking => return ended.unwrap_or_else(|panicked| {
                    std::panic::resume_unwind(panicked.into_panic())
                }),
            }
        }
    }

    fn keep_looking<Beside>(mut self, asked: &Receiver<()>, mut uses: Uses<Beside>)
    where
        Beside: FnMut(&Config) -> Sureness,
    {
        let mut pause = SECOND_LOOK;
        self.tell_in_use(&uses.reloads);
        loop {
            match asked.recv_timeout(pause) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let seen = see(&mut self.reader, &self.path);
            let in_use = uses.config.borrow().clone();
            let new = self.look(seen, tokio::time::Instant::now().into_std(), &uses.reloads);
            let new = new.or_else(|| self.with_passwords(&in_use));
            let beside = (uses.beside)(new.as_ref().unwrap_or(&in_use));
            if let Some(new) = new {
                publish(&uses.config, new);
            }
            pause = match (self.looks.sureness(), beside) {
                (Sureness::Settled, Sureness::Settled) => POLL,
                (Sureness::Doubted, _) | (_, Sureness::Doubted) => SECOND_LOOK,
            };
        }
    }

    /// The configuration that a look brought, if it brought a good one.
    fn look(&mut self, seen: Seen, now: Instant, reloads: &Reloads) -> Option<Config> {
        let believed = self.looks.look(seen, now).map(|seen| parse(&self.path, seen));
        self.tell_restlessness();
        let new = match believed? {
            Ok((new, warnings)) => {
                reloads.succeeded();
                warn_of(&self.path, &warnings);
                self.in_use = InUse::Current(self.looks.believed.accepted(None));
                Some(new)
            }
            Err(report) => {
                reloads.failed();
                let name = self.path.display();
                error!("{name} is refused; the configuration before it stays in use:\n{report}");
                self.in_use = match std::mem::replace(&mut self.in_use, InUse::Inherited) {
                    InUse::Current(accepted) | InUse::Older(accepted, _) => InUse::Older(accepted, report),
                    InUse::Inherited => match self.keeper.read() {
                        Ok(kept) => InUse::Older(kept.accepted, report),
                        Err(_) => InUse::Inherited,
                    },
                };
                None
            }
        };
        self.tell_in_use(reloads);
        new
    }

    /// Says which configuration is in use, and whether that is what the file says, which then is kept.
    fn tell_in_use(&self, reloads: &Reloads) {
        match &self.in_use {
            InUse::Current(accepted) => {
                self.keeper.write(accepted);
                reloads.in_use(&accepted.hash, accepted.at.as_second(), Freshness::Current);
                self.conditions.send_modify(|mine| mine.clear(Reason::ConfigurationRefused, ""));
            }
            InUse::Older(accepted, report) => {
                reloads.in_use(&accepted.hash, accepted.at.as_second(), Freshness::Stale);
                let Accepted { at, hash, .. } = accepted;
                let brief = report.lines().next().unwrap_or_default();
                let message = format!(
                    "{} is refused; what is in use was accepted at {at:.0} (hash {hash}): {brief}; herald check says more",
                    self.path.display()
                );
                self.conditions.send_modify(|mine| mine.set(Reason::ConfigurationRefused, "", message));
            }
            InUse::Inherited => {}
        }
    }

    /// What is in use with passwords that were left out of it when it was kept, as far as the refused file has them again.
    fn with_passwords(&self, in_use: &Config) -> Option<Config> {
        let lacks = |peer: &crate::config::PeerConfig| peer.neighbor.password.as_ref().is_some_and(kept::is_left_out);
        if !in_use.peers.values().any(lacks) {
            return None;
        }
        let mut config = in_use.clone();
        kept::put_back(&mut config, &self.looks.believed.passwords()).then_some(config)
    }

    fn tell_restlessness(&self) {
        let name = self.path.display();
        let looks = self.looks.restless;
        if looks > 0 {
            debug!("{name} changed: it is used when another look shows the same");
        }
        let message = format!(
            "{name} showed another text at each of the last {RESTLESS} looks, so none of them is used: write it once and leave it"
        );
        self.conditions.send_if_modified(|mine| {
            let said = mine.contains(Reason::ConfigurationRestless, "");
            match looks {
                0 => mine.clear(Reason::ConfigurationRestless, ""),
                RESTLESS.. => mine.set(Reason::ConfigurationRestless, "", message),
                _ => {}
            }
            said != mine.contains(Reason::ConfigurationRestless, "")
        });
    }
}

/// The configuration that a file holds, with what is doubtful about it; or why it is none.
fn parse(path: &std::path::Path, seen: &Seen) -> Result<(Config, String), String> {
    match seen {
        Seen::Text(text) => Config::parse(&path.display().to_string(), text)
            .map(|(config, warnings)| (config, if warnings.is_empty() { String::new() } else { warnings.to_string() }))
            .map_err(|report| report.to_string()),
        Seen::Unreadable(error) => Err(error.clone()),
    }
}

fn warn_of(path: &std::path::Path, warnings: &str) {
    if !warnings.is_empty() {
        warn!("{} is used, but look at this:\n{warnings}", path.display());
    }
}

fn publish(config: &watch::Sender<Arc<Config>>, new: Config) {
    config.send_if_modified(|held| {
        if **held == new {
            info!("the configuration means the same as before");
            return false;
        }
        info!("new configuration");
        *held = Arc::new(new);
        true
    });
}

fn see(reader: &mut Reader, path: &std::path::Path) -> Seen {
    match reader.read(path, files::CONFIGURATION).and_then(files::text) {
        Ok(text) => Seen::Text(text),
        Err(error) => Seen::Unreadable(format!("cannot read the configuration {}: {error}", path.display())),
    }
}

/// What the file shows at the start. What differs from the configuration before may be half of what is being written, and is
/// looked at until two looks agree.
fn see_settled(reader: &mut Reader, path: &std::path::Path, kept: Option<&Kept>) -> Seen {
    let mut seen = see(reader, path);
    let Some(kept) = kept else { return seen };
    for _ in 0..FIRST_LOOKS {
        if Accepted::now(seen.text(), kept.accepted.at) == kept.accepted {
            break;
        }
        std::thread::sleep(SECOND_LOOK);
        let again = see(reader, path);
        let same = again == seen;
        seen = again;
        if same {
            break;
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OLD: &str = "asn: 64512
peers:
- {name: a, address: 172.30.1.1, asn: 64500}
pools:
- {name: edge, addresses: [198.51.100.0/24]}
advertisements:
- {name: all}
";
    const NEW: &str = "asn: 64512
routerId: 10.0.0.1
pools:
- name: edge
  addresses:
  - 198.51.100.0/24
  - 203.0.113.0/24
peers:
- name: a
  address: 172.30.1.1
  asn: 64500
- name: b
  address: 172.30.1.2
  asn: 64500
  password: hunter2
advertisements:
- name: all
  communities: [no-export]
";

    fn text(text: &str) -> Seen {
        Seen::Text(text.to_owned())
    }

    /// A file that is looked at.
    struct Scene {
        file: ConfigFile,
        reloads: Reloads,
        said: watch::Receiver<Conditions>,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            let (conditions, said) = watch::channel(Conditions::default());
            let (path, reader) = (PathBuf::from("/nowhere/herald.yaml"), Reader::default());
            let file = ConfigFile {
                path,
                reader,
                looks: Looks::at(text(OLD)),
                conditions,
                keeper: Keeper::Nowhere("a test"),
                in_use: InUse::Current(text(OLD).accepted(None)),
            };
            Self { file, reloads: Reloads::default(), said, now: tokio::time::Instant::now().into_std() }
        }

        fn look_after(&mut self, milliseconds: u64, seen: Seen) -> Option<Config> {
            self.now += Duration::from_millis(milliseconds);
            self.file.look(seen, self.now, &self.reloads)
        }

        fn look(&mut self, seen: Seen) -> Option<Config> {
            self.look_after(1000, seen)
        }

        fn says(&self, reason: Reason) -> bool {
            self.said.borrow().contains(reason, "")
        }
    }

    fn config(text: &str) -> Config {
        Config::parse("test.yaml", text).unwrap_or_else(|found| panic!("{found}")).0
    }

    #[test]
    fn a_file_cut_at_any_octet_is_not_used_and_the_whole_one_is_at_its_second_look() {
        let mut valid = 0;
        for cut in 0..NEW.len() {
            let mut scene = Scene::new();
            valid += u32::from(Config::parse("cut.yaml", &NEW[..cut]).is_ok());
            for _ in 0..3 {
                assert_eq!(scene.look_after(300, text(&NEW[..cut])), None, "cut to {cut} octets");
            }
            assert_eq!((scene.look(text(NEW)), scene.file.looks.sureness()), (None, Sureness::Doubted));
            assert_eq!(scene.look_after(999, text(NEW)), None, "asking often does not make it surer");
            assert_eq!(scene.look_after(1, text(NEW)), Some(config(NEW)));
            assert_eq!((scene.look(text(NEW)), scene.file.looks.sureness()), (None, Sureness::Settled));
            assert_eq!(*scene.said.borrow(), Conditions::default(), "half a file is no reason to alarm anybody");
        }
        assert!(valid > 20, "only {valid} of the cuts are configurations: this test shows little");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        /// The file is truncated and written anew, and looked at whenever it may be; no state of it lasts a second.
        #[test]
        fn no_moment_of_a_rewriting_is_ever_in_use(
            cuts in proptest::collection::btree_set(0..NEW.len(), 0..40),
            pauses in proptest::collection::vec((0..500_u64, 0..499_u64), 40),
        ) {
            let mut scene = Scene::new();
            for (cut, (first, second)) in cuts.into_iter().zip(pauses) {
                prop_assert_eq!(scene.look_after(first, text(&NEW[..cut])), None);
                prop_assert_eq!(scene.look_after(second, text(&NEW[..cut])), None);
            }
            prop_assert_eq!(scene.look(text(NEW)), None);
            prop_assert_eq!(scene.look(text(NEW)), Some(config(NEW)));
        }
    }

    #[test]
    fn a_bad_file_is_said_at_its_second_look_until_a_good_one_is_there() {
        let mut scene = Scene::new();
        for bad in [text("asn: 64512\npears: []\n"), Seen::Unreadable("gone".to_owned())] {
            assert_eq!(scene.look(bad.clone()), None);
            assert!(!scene.says(Reason::ConfigurationRefused));
            assert_eq!(scene.look(bad), None);
            assert!(scene.says(Reason::ConfigurationRefused));
            assert_eq!(scene.look(text(OLD)), None);
            assert_eq!(scene.look(text(OLD)), Some(config(OLD)), "good again");
            assert!(!scene.says(Reason::ConfigurationRefused));
        }
    }

    #[test]
    fn a_file_that_never_rests_is_said() {
        let mut scene = Scene::new();
        for count in 1..=RESTLESS {
            assert!(!scene.says(Reason::ConfigurationRestless));
            scene.look(text(&format!("{OLD}# {count}\n")));
        }
        assert!(scene.says(Reason::ConfigurationRestless));
        scene.look(text(OLD));
        assert_eq!(*scene.said.borrow(), Conditions::default());
    }
}
