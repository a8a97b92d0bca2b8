//! `herald check FILE --against-running`: what a file would do to the sessions of a speaker that runs.

use super::client;
use crate::admin::running::{Established, Running, RunningPeer};
use crate::advertise::Node;
use crate::config::diff::{Cause, Effect, restart_causes_of_written};
use crate::config::rollout::join;
use crate::config::{Config, PeerConfig, Reach, kept};
use crate::peer::settings::RestartState;
use crate::peer::{Neighbor, Settings};
use anyhow::{Context, bail};
use std::fmt;
use std::path::Path;
use std::process::ExitCode;

/// Said where a session would end: nothing is wrong, and something is different.
const DIFFERENT: u8 = 3;

/// What becomes of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Nothing,
    /// It takes these at its next session.
    NextSession(Vec<Cause>),
    /// It takes these at once; it has no session to lose.
    AtOnce(Vec<Cause>),
    /// Its session begins anew.
    Reset(Vec<Cause>),
    /// Its session ends for good.
    Ends,
    /// It is no longer there, and had no session.
    Leaves,
    /// It is new.
    Begins,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fate::Nothing => f.write_str("nothing"),
            Fate::NextSession(causes) => {
                write!(f, "soft: the next session has another {}, this one goes on", join(causes))
            }
            Fate::AtOnce(causes) => write!(f, "soft: it has no session, and takes another {} at once", join(causes)),
            Fate::Reset(causes) => write!(f, "reset: another {}", join(causes)),
            Fate::Ends => f.write_str("reset: its session ends, the file does not have it on this node"),
            Fate::Leaves => f.write_str("soft: it goes, and has no session"),
            Fate::Begins => f.write_str("soft: it is new here"),
        }
    }
}

/// Asks the speaker, and says what becomes of each of its peers.
///
/// # Errors
/// The speaker does not answer, is of another version, or does not know its node yet.
pub fn run(config: &Config, socket: &Path) -> anyhow::Result<ExitCode> {
    let body = client::ask("speaker", socket, "/v1/running")?;
    let running: Running =
        serde_json::from_slice(&body).context("the speaker is of another version: the answer is not understood")?;
    let ours = env!("CARGO_PKG_VERSION");
    if running.version != ours {
        bail!("the speaker is herald {}, and this is {ours}: compare by the speaker's own program", running.version);
    }
    let Some(seen) = &running.seen else {
        bail!("the speaker has not read its cluster yet, and does not know this node's labels: ask again in a moment");
    };
    let node = Node { labels: seen.labels.clone(), internal_ips: seen.internal_ips.clone(), ..Node::default() };
    let fates = fates(config, &running, &node);
    super::print(&text(config, &running, &fates))?;
    let resets = fates.iter().any(|(_, fate)| matches!(fate, Fate::Reset(_) | Fate::Ends));
    Ok(if resets { ExitCode::from(DIFFERENT) } else { ExitCode::SUCCESS })
}

/// By name: peers that run, then those that are new.
fn fates(config: &Config, running: &Running, node: &Node) -> Vec<(String, Fate)> {
    let here = |entry: &str| config.peers.get(entry).filter(|peer| peer.nodes.matches(node));
    let those = running.peers.iter().map(|peer| {
        let wanted = here(&peer.entry).and_then(|entry| wanted(entry, peer));
        let identity = config.identity(&running.node, &node.internal_ips);
        let settings = |neighbor| Settings { identity, neighbor, restart_state: RestartState::default() };
        (peer.name.clone(), fate(peer, wanted.map(settings)))
    });
    let known = |name: &str| running.peers.iter().any(|peer| peer.entry == name);
    let new = config
        .peers
        .iter()
        .filter(|(name, peer)| !known(name) && peer.nodes.matches(node) && !matches!(peer.reach, Reach::Range(_)));
    those.chain(new.map(|(name, _)| (name.to_string(), Fate::Begins))).collect()
}

fn fate(peer: &RunningPeer, wanted: Option<Settings>) -> Fate {
    let causes = wanted.map(|wanted| restart_causes_of_written(&peer.terms, &wanted));
    match (causes, peer.session) {
        (None, Established::Up) => Fate::Ends,
        (None, Established::Down) => Fate::Leaves,
        (Some(causes), _) if causes.is_empty() => Fate::Nothing,
        (Some(causes), Established::Down) => Fate::AtOnce(causes),
        (Some(causes), Established::Up) if causes.iter().any(|cause| cause.effect() == Effect::Reset) => {
            Fate::Reset(causes)
        }
        (Some(causes), Established::Up) => Fate::NextSession(causes),
    }
}

/// The neighbour that a running peer would be by the file's entry, if it would be one. A router that was found, or dialled, has its
/// address from the wire.
fn wanted(entry: &PeerConfig, peer: &RunningPeer) -> Option<Neighbor> {
    let address = match entry.reach {
        Reach::One => entry.neighbor.address,
        Reach::OnLink => peer.address,
        Reach::Range(range) if range.contains(peer.address) && peer.name != peer.entry => peer.address,
        Reach::Range(_) => return None,
    };
    // Whether it is signed is compared, by which key is not.
    let password = entry.neighbor.password.clone().or_else(|| entry.is_signed().then(kept::left_out));
    Some(Neighbor { address, password, ..entry.neighbor.clone() })
}

fn text(config: &Config, running: &Running, fates: &[(String, Fate)]) -> String {
    let mut text = format!("Node {}:\n", running.node);
    for (name, fate) in fates {
        text += &format!("  {name}: {fate}\n");
    }
    text += match config.fingerprint() == running.fingerprint {
        true => "The speaker has this configuration already.\n",
        false => "What else differs, such as pools and advertisements, ends no session.\n",
    };
    let resets = fates.iter().filter(|(_, fate)| matches!(fate, Fate::Reset(_))).count();
    if resets > 1 {
        text += &format!("{resets} sessions begin anew, one after the other: the next when the one before is back.\n");
    }
    if config.peers.values().any(PeerConfig::is_signed) {
        text += "note: passwords are not compared, only whether there is one; another one ends no session\n";
    }
    if let Some(confirm) = &config.guard.confirmed
        && **confirm != *config.fingerprint()
        && !running.conditions.iter().any(|line| line.contains(&**confirm))
    {
        text += &format!("note: 'guard.confirm: {confirm}' is of nothing that is held on this node: take it out\n");
    }
    text
}
