//! The configuration file in use. A bad file never replaces a good one.

use crate::admin::Reloads;
use crate::condition::{Conditions, Reason};
use crate::config::Config;
use anyhow::{Context, anyhow};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

/// How often the file is looked at. The kubelet itself takes up to a minute to refresh a ConfigMap; SIGHUP is at once.
const POLL: Duration = Duration::from_secs(5);

/// The file, and what was last read from it.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    seen: Seen,
}

/// What a look at the file showed.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Text(String),
    Unreadable(String),
}

impl ConfigFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// It cannot be read, or is not a configuration; with the whole report.
    pub fn open(path: PathBuf) -> anyhow::Result<(Self, Config)> {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read the configuration {}", path.display()))?;
        let name = path.display().to_string();
        let (config, warnings) = Config::parse(&name, &text).map_err(|report| anyhow!("{report}"))?;
        if !warnings.is_empty() {
            warn!("{name} is used, but look at this:\n{warnings}");
        }
        Ok((Self { path, seen: Seen::Text(text) }, config))
    }

    /// The file of one that was here before: whatever it holds is news.
    pub fn again(path: PathBuf) -> Self {
        Self { path, seen: Seen::Unreadable("not read yet".to_owned()) }
    }

    /// Looks at the file every five seconds and at each `hangup`; publishes what is new and good. Each time `beside` may look
    /// at other files that the configuration names, before that is published. Never ends by itself.
    pub async fn follow(
        mut self,
        mut hangup: Signal,
        config: watch::Sender<Arc<Config>>,
        (reloads, conditions): (Reloads, watch::Sender<Conditions>),
        beside: impl Fn(&Config),
    ) {
        let mut tick = tokio::time::interval(POLL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = hangup.recv() => info!("SIGHUP: looking at {}", self.path.display()),
            }
            let now = look(&self.path);
            let new = (now != self.seen).then(|| {
                self.seen = now;
                self.take(&reloads, &conditions)
            });
            let new = new.flatten();
            let in_use = config.borrow().clone();
            beside(new.as_ref().unwrap_or(&in_use));
            if let Some(new) = new {
                publish(&config, new);
            }
        }
    }

    /// The configuration that the file now holds, if it is a good one.
    fn take(&self, reloads: &Reloads, conditions: &watch::Sender<Conditions>) -> Option<Config> {
        let name = self.path.display().to_string();
        let read = match &self.seen {
            Seen::Text(text) => Config::parse(&name, text).map_err(|report| report.to_string()),
            Seen::Unreadable(error) => Err(error.clone()),
        };
        match read {
            Ok((new, warnings)) => {
                reloads.succeeded();
                conditions.send_modify(|mine| mine.clear(Reason::ConfigurationRefused, ""));
                if !warnings.is_empty() {
                    warn!("{name} is used, but look at this:\n{warnings}");
                }
                Some(new)
            }
            Err(report) => {
                reloads.failed();
                let brief = report.lines().next().unwrap_or_default();
                let message = format!("{name} is refused, and what was good before it stays in use: {brief}");
                conditions.send_modify(|mine| mine.set(Reason::ConfigurationRefused, "", message));
                error!("{name} is refused; the configuration before it stays in use:\n{report}");
                None
            }
        }
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

fn look(path: &std::path::Path) -> Seen {
    match fs::read_to_string(path) {
        Ok(text) => Seen::Text(text),
        Err(error) => Seen::Unreadable(format!("cannot read it: {error}")),
    }
}
