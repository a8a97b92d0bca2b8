//! The configuration that was accepted last, kept in the state folder for a process that finds a refused one. Passwords are
//! not in it: they stay in the file that people keep them in.

use super::state_folder::{self, File, Previous, Record, Writer};
use crate::config::{Config, kept};
use jiff::Timestamp;
use std::path::PathBuf;

const FILE: File = File {
    name: "configuration",
    heading: "herald configuration 1",
    cost: "after a restart, a configuration that is refused leaves this node without any",
};

/// A configuration's content without its passwords, and the name of that content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// When it was accepted first.
    pub at: Timestamp,
    /// Equal for texts that say the same, on all nodes; passwords do not count.
    pub hash: String,
    /// As it is written down.
    content: String,
}

/// What was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its configuration; passwords that stood in it are left out ([`kept::is_left_out`]).
    pub config: Config,
    /// Which it is.
    pub accepted: Accepted,
}

/// Where it is kept, and for whom: another node's configuration is not this one's.
#[derive(Debug, Clone)]
pub enum Keeper {
    /// In this state folder, for this node.
    Folder(PathBuf, String, Writer),
    /// Nowhere; why, and what to do about it.
    Nowhere(&'static str),
}

impl Accepted {
    /// A good text, accepted now.
    pub fn now(text: &str, at: Timestamp) -> Self {
        let content = kept::without_passwords(text).and_then(|file| serde_json::to_value(file).ok());
        let content = content.map(written).unwrap_or_default().to_string();
        Self { at, hash: state_folder::checksum(&content), content }
    }
}

/// Keys that are absent are not written.
fn written(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let map = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(map.map(|(key, value)| (key, written(value))).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(written).collect()),
        other => other,
    }
}

impl Keeper {
    /// Has written down what was accepted.
    pub fn write(&self, accepted: &Accepted) {
        match self {
            Self::Folder(_, node, writer) => writer.write(FILE, body(node, accepted)),
            Self::Nowhere(_) => {}
        }
    }

    /// What was written down last.
    ///
    /// # Errors
    /// There is nothing to be used; why.
    pub fn read(&self) -> Result<Kept, String> {
        let (folder, node) = match self {
            Self::Folder(folder, node, _) => (folder, node),
            Self::Nowhere(why) => return Err((*why).to_owned()),
        };
        let mut previous = Previous::of(Some(folder));
        let refuse = |why: &str| format!("{} is not used: {why}", folder.join(FILE.name).display());
        let body = match previous.read(&FILE) {
            Record::Whole(body) => body,
            Record::Absent => return Err(format!("no earlier configuration is kept in {}", folder.display())),
            Record::Torn(why) => return Err(refuse(&why)),
        };
        let mut lines = body.splitn(3, '\n');
        let mut value = |key: &str| lines.next().and_then(|line| line.strip_prefix(key));
        let (of, at, content) = (value("node "), value("accepted "), value(""));
        let (Some(of), Some(at), Some(content)) = (of, at.and_then(|at| at.parse().ok()), content) else {
            return Err(refuse("it lacks its node, its time or its content"));
        };
        if of != node {
            return Err(refuse(&format!("it is of the node {of}, and this is {node}")));
        }
        match Config::parse("what was kept", content) {
            Ok((config, _)) => {
                let accepted = Accepted { at, hash: state_folder::checksum(content), content: content.to_owned() };
                Ok(Kept { config, accepted })
            }
            Err(report) => {
                Err(refuse(&format!("another version of herald wrote it, and this one refuses it:\n{report}")))
            }
        }
    }
}

fn body(node: &str, Accepted { at, content, .. }: &Accepted) -> String {
    format!("node {node}\naccepted {at}\n{content}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::Conditions;
    use std::fs;
    use std::path::Path;

    fn keeper(folder: &Path, node: &str) -> Keeper {
        let (writer, _) = state_folder::writer(None, tokio::sync::watch::channel(Conditions::default()).0);
        Keeper::Folder(folder.join("state"), node.to_owned(), writer)
    }

    /// As if it were handed over, at once.
    fn write(folder: &Path, node: &str, accepted: &Accepted) {
        state_folder::write(&folder.join("state"), &FILE, &body(node, accepted)).unwrap();
    }

    fn accepted(text: &str) -> Accepted {
        Accepted::now(text, "2026-01-02T03:04:05Z".parse().unwrap())
    }

    #[test]
    fn every_example_is_kept_as_it_means_but_for_its_passwords() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = keeper(folder.path(), "n1");
        let mut count = 0;
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let config = Config::parse("example", &text).unwrap_or_else(|found| panic!("{found}")).0;
            write(folder.path(), "n1", &accepted(&text));
            let written = fs::read_to_string(folder.path().join("state").join(FILE.name)).unwrap();
            let passwords = kept::passwords(&text);
            for password in passwords.values() {
                assert!(!written.contains(std::str::from_utf8(password.octets()).unwrap()), "{}", path.display());
            }
            let mut kept = keeper.read().unwrap();
            assert_eq!(kept.accepted, accepted(&text));
            kept::put_back(&mut kept.config, &passwords);
            assert_eq!(kept.config, config, "{}", path.display());
            count += 1;
        }
        assert!(count >= 3, "only {count} examples");
    }

    #[test]
    fn what_is_of_another_node_format_or_version_or_torn_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state").join(FILE.name);
        let ours = keeper(folder.path(), "n1");
        let said = |keeper: &Keeper| keeper.read().unwrap_err();
        assert!(said(&ours).starts_with("no earlier configuration is kept in "));
        assert_eq!(said(&Keeper::Nowhere("name a folder")), "name a folder");
        write(folder.path(), "n1", &accepted("asn: 64512\n"));
        assert!(ours.read().is_ok());
        assert!(said(&keeper(folder.path(), "n2")).contains("it is of the node n1, and this is n2"));
        let whole = fs::read_to_string(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(ours.read().is_err(), "cut to {cut} octets");
        }
        fs::write(&path, whole.replace("configuration 1", "configuration 2")).unwrap();
        assert!(said(&ours).contains("another format than 'herald configuration 1'"), "{}", said(&ours));
        let newer = "node n1\naccepted 2026-01-02T03:04:05Z\n{\"asn\":64512,\"quantum\":true}";
        state_folder::write(&folder.path().join("state"), &FILE, newer).unwrap();
        let refused = said(&ours);
        assert!(refused.contains("another version of herald wrote it") && refused.contains("quantum"), "{refused}");
    }

    #[test]
    fn the_hash_names_what_is_said_and_not_how_or_by_which_password() {
        let hash = |text: &str| accepted(text).hash;
        let text = "asn: 64512\npeers: [{name: a, address: 10.0.0.1, asn: 64500, password: x}]\n";
        assert_eq!(hash(text), hash(&text.replace("password: x", "password: \"y\"").replace('\n', "\n# said\n")));
        assert_ne!(hash(text), hash(&text.replace(", password: x", "")));
        assert_ne!(hash(text), hash(&text.replace("64500", "64501")));
    }
}
