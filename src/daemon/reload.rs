//! The configuration file in use. A bad file never replaces a good one, and a file that is being rewritten neither.

use crate::admin::Reloads;
use crate::condition::{Conditions, Reason};
use crate::config::Config;
use crate::files::{self, Reader};
use anyhow::{Context, anyhow};
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

/// After so many looks that each showed another text, people are told. Looks are a second apart, but for SIGHUP.
const RESTLESS: u32 = 60;

/// The file, and what was last read from it.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    reader: Reader,
    looks: Looks,
    conditions: watch::Sender<Conditions>,
}

/// What a look at the file showed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Unreadable(String),
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
    /// Reads the file for the first time, apart from the runtime's thread.
    ///
    /// # Errors
    /// It cannot be read, or is not a configuration; with the whole report.
    pub async fn open(path: PathBuf, conditions: watch::Sender<Conditions>) -> anyhow::Result<(Self, Config)> {
        let opened = tokio::task::spawn_blocking(move || Self::open_now(path, conditions));
        opened.await.context("reading the configuration broke off: this is a bug")?
    }

    fn open_now(path: PathBuf, conditions: watch::Sender<Conditions>) -> anyhow::Result<(Self, Config)> {
        let mut reader = Reader::default();
        let seen = see(&mut reader, &path);
        let (config, warnings) = parse(&path, &seen).map_err(|report| anyhow!("{report}"))?;
        warn_of(&path, &warnings);
        Ok((Self { path, reader, looks: Looks::at(seen), conditions }, config))
    }

    /// The file of one that was here before: whatever it holds is news.
    pub fn again(path: PathBuf, conditions: watch::Sender<Conditions>) -> Self {
        let looks = Looks::at(Seen::Unreadable("not read yet".to_owned()));
        Self { path, reader: Reader::default(), looks, conditions }
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
        loop {
            match asked.recv_timeout(pause) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let seen = see(&mut self.reader, &self.path);
            let new = self.look(seen, tokio::time::Instant::now().into_std(), &uses.reloads);
            let in_use = uses.config.borrow().clone();
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
        match believed? {
            Ok((new, warnings)) => {
                reloads.succeeded();
                self.conditions.send_modify(|mine| mine.clear(Reason::ConfigurationRefused, ""));
                warn_of(&self.path, &warnings);
                Some(new)
            }
            Err(report) => {
                reloads.failed();
                let name = self.path.display();
                let brief = report.lines().next().unwrap_or_default();
                let message = format!("{name} is refused, and what was good before it stays in use: {brief}");
                self.conditions.send_modify(|mine| mine.set(Reason::ConfigurationRefused, "", message));
                error!("{name} is refused; the configuration before it stays in use:\n{report}");
                None
            }
        }
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
            let file = ConfigFile { path, reader, looks: Looks::at(text(OLD)), conditions };
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
