//! A change that resets sessions and has not come to its end, written down for a process that begins in the middle of it. Passwords
//! are not in it.

use super::state_folder::{File, Previous, Record, Writer};
use crate::advertise::NodeName;
use crate::config::rollout::Pending;
use tracing::{info, warn};

const FILE: File = File {
    name: "walk",
    heading: "herald walk 1",
    cost: "after a restart every peer takes a change at once that has not come to it, or that has failed",
};

/// Where it is written, and what is there.
#[derive(Debug)]
pub struct Interrupted {
    node: NodeName,
    writer: Writer,
    pending: Pending,
}

impl Interrupted {
    /// What the process before this one left of this node's walk.
    pub fn by(previous: &mut Previous, node: &NodeName, writer: Writer) -> Self {
        let pending = match previous.read(&FILE) {
            Record::Absent => Pending::default(),
            Record::Whole(body) => read(&body, node).unwrap_or_else(|why| refuse(previous, &why)),
            Record::Torn(why) => refuse(previous, &why),
        };
        if pending != Pending::default() {
            let (peers, failed) = (pending.before.len(), pending.failed.as_ref().map(|failed| failed.peer.to_string()));
            info!(peers, failed, "a restart in the middle of a change: these peers begin with what they had");
        }
        Self { node: node.clone(), writer, pending }
    }

    /// What was left.
    pub fn pending(&self) -> &Pending {
        &self.pending
    }

    /// Has it follow.
    pub fn write(&mut self, pending: Pending) {
        if self.pending != pending {
            self.writer.write(FILE, body(&self.node, &pending));
            self.pending = pending;
        }
    }
}

fn refuse(previous: &Previous, why: &str) -> Pending {
    warn!("{} is not used: {why}; every peer begins with what is configured", previous.place(&FILE));
    Pending::default()
}

fn body(node: &NodeName, pending: &Pending) -> String {
    format!("node {node}\n{}", serde_json::to_string(pending).unwrap_or_default())
}

fn read(body: &str, node: &NodeName) -> Result<Pending, String> {
    let (of, pending) = body.split_once('\n').unwrap_or_default();
    if of != format!("node {node}") {
        return Err(format!("it is of the {of}, and this is {node}"));
    }
    serde_json::from_str(pending).map_err(|error| format!("another version of herald wrote it: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::state_folder;
    use super::*;
    use crate::condition::Conditions;
    use crate::config::Config;
    use crate::config::rollout::Failed;
    use crate::peer::settings::{Password, RestartState};
    use crate::peer::{PeerName, Settings};
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    /// Everything that the examples say of a peer, as of a walk that stopped at it.
    fn pendings() -> Vec<Pending> {
        let mut found = Vec::new();
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config")).unwrap() {
            let Ok(text) = fs::read_to_string(entry.unwrap().path()) else { continue };
            let Ok((config, _)) = Config::parse("example", &text) else { continue };
            let identity = config.identity("n1", &[[192, 0, 2, 1].into()]);
            for (name, peer) in &config.peers {
                let mut neighbor = peer.neighbor.clone();
                neighbor.password = neighbor.password.map(|_| Password::new(b"***").unwrap());
                let settings = Settings { identity, neighbor, restart_state: RestartState::default() };
                let peer = PeerName(name.clone());
                let failed = Failed { peer: peer.clone(), wanted: settings.clone(), patience: Duration::from_secs(60) };
                found.push(Pending { before: [(peer, settings)].into(), failed: Some(failed) });
            }
        }
        found
    }

    #[test]
    fn what_is_written_is_read_by_the_next_process_of_this_node_and_has_no_password() {
        let folder = tempfile::tempdir().unwrap();
        let (n1, n2): (NodeName, NodeName) = ("n1".into(), "n2".into());
        let left = |node: &NodeName| {
            let (writer, _) = state_folder::writer(None, tokio::sync::watch::channel(Conditions::default()).0);
            Interrupted::by(&mut Previous::of(Some(folder.path())), node, writer).pending
        };
        assert_eq!(left(&n1), Pending::default());
        let pendings = pendings();
        assert!(pendings.len() > 5, "only {} peers", pendings.len());
        for pending in pendings {
            state_folder::write(folder.path(), &FILE, &body(&n1, &pending)).unwrap();
            assert_eq!(left(&n1), pending);
            assert_eq!(left(&n2), Pending::default());
        }
        let newer = "node n1\n{\"before\":{},\"failed\":null,\"quantum\":1}";
        state_folder::write(folder.path(), &FILE, newer).unwrap();
        assert_eq!(left(&n1), Pending::default());
    }
}
