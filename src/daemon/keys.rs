//! Passwords that are read from files. A bad file never replaces a good one, and no report shows what is in it.

use super::reload::Sureness;
use crate::condition::{Conditions, Reason};
use crate::config::{Config, PeerConfig, kept};
use crate::files::Reader;
use crate::peer::settings::Password;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;
use tracing::info;

/// What is read of a file at most: more than a password with its line end is no password anyhow.
const READ_LIMIT: u64 = 1024;

/// Of a peer whose password stood in the configuration file.
const LEFT_OUT: &str = "its password stood in the configuration file, which is refused and has it no more, and passwords are \
    not kept in the state folder: mend the file, or use passwordFile; without it the peer is neither dialled nor listened for";

/// The passwords of all files that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyRing(BTreeMap<PathBuf, FileKey>);

/// The password of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKey {
    /// As the file has it.
    Read(Password),
    /// As the file had it, and what it has now, which may be half of what is being written: another look decides.
    Changing(Password, Password),
    /// As the file had it once; what is wrong with the file now.
    Kept(Password, String),
    /// There never was one; why.
    Missing(String),
}

/// The key of a peer, if it has one, and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerKey {
    /// The password.
    pub password: Option<Password>,
    /// What is wrong with its file.
    pub remark: Option<String>,
}

impl KeyRing {
    /// With the keys of files that only others know: peers that are kept for now need theirs.
    #[must_use]
    pub fn with_those_of(&self, others: &Self) -> Self {
        let mut all = others.0.clone();
        all.extend(self.0.iter().map(|(path, key)| (path.clone(), key.clone())));
        Self(all)
    }

    /// Reads every file that a configuration names. What was good once is kept while its file is not.
    #[must_use]
    pub fn next(&self, config: &Config, reader: &mut Reader) -> Self {
        let paths = config.peers.values().filter_map(|peer| peer.password_file.as_ref());
        let mut next = Self::default();
        for path in paths {
            if !next.0.contains_key(path) {
                let key = self.0.get(path);
                let now = FileKey::after(key, read(reader, path));
                next.0.insert(path.clone(), now);
            }
        }
        next
    }

    /// What is wrong with the files, by path, and whose password is not known otherwise, by peer.
    fn conditions(&self, config: &Config) -> Conditions {
        let mut conditions = Conditions::default();
        for (name, peer) in &config.peers {
            if peer.neighbor.password.as_ref().is_some_and(kept::is_left_out) {
                conditions.set(Reason::PasswordUnavailable, name, LEFT_OUT);
            }
        }
        for (path, key) in &self.0 {
            let message = match key {
                FileKey::Read(_) | FileKey::Changing(..) => continue,
                FileKey::Kept(_, why) => format!("{why}; the password before it stays in use"),
                FileKey::Missing(why) => format!("{why}; peers that need it are neither dialled nor listened for"),
            };
            conditions.set(Reason::PasswordUnavailable, &path.display().to_string(), message);
        }
        conditions
    }

    /// The key that connections with a peer are signed with.
    ///
    /// # Errors
    /// It has one that is not known: nothing must be exchanged with the peer.
    pub fn of(&self, peer: &PeerConfig) -> Result<PeerKey, String> {
        if peer.neighbor.password.as_ref().is_some_and(kept::is_left_out) {
            return Err(LEFT_OUT.to_owned());
        }
        let Some(path) = &peer.password_file else {
            return Ok(PeerKey { password: peer.neighbor.password.clone(), remark: None });
        };
        match self.0.get(path) {
            Some(FileKey::Read(password) | FileKey::Changing(password, _)) => {
                Ok(PeerKey { password: Some(password.clone()), remark: None })
            }
            Some(FileKey::Kept(password, why)) => {
                let remark = format!("{why}; the password before it stays in use");
                Ok(PeerKey { password: Some(password.clone()), remark: Some(remark) })
            }
            Some(FileKey::Missing(why)) => {
                Err(format!("{why}; without it the peer is neither dialled nor listened for"))
            }
            None => Err(format!("the password file {} was not read yet", path.display())),
        }
    }
}

impl FileKey {
    /// The password that connections are signed with now.
    fn in_use(&self) -> Option<&Password> {
        match self {
            Self::Read(password) | Self::Changing(password, _) | Self::Kept(password, _) => Some(password),
            Self::Missing(_) => None,
        }
    }

    fn after(before: Option<&Self>, now: Result<Password, String>) -> Self {
        match (now, before) {
            (Ok(new), Some(Self::Changing(_, seen))) if new == *seen => Self::Read(new),
            (Ok(new), Some(Self::Read(old) | Self::Changing(old, _) | Self::Kept(old, _))) if new != *old => {
                Self::Changing(old.clone(), new)
            }
            (Ok(password), _) => Self::Read(password),
            (Err(why), Some(Self::Read(kept) | Self::Changing(kept, _) | Self::Kept(kept, _))) => {
                Self::Kept(kept.clone(), why)
            }
            (Err(why), Some(Self::Missing(_)) | None) => Self::Missing(why),
        }
    }
}

/// Keeps a published ring up to its files.
pub struct Keys {
    ring: watch::Sender<Arc<KeyRing>>,
    reader: Reader,
    conditions: watch::Sender<Conditions>,
}

impl Keys {
    /// Reads what a configuration names, and keeps of `before` what cannot be read now.
    pub fn after(
        before: &Arc<KeyRing>,
        config: &Config,
        conditions: watch::Sender<Conditions>,
    ) -> (Self, watch::Receiver<Arc<KeyRing>>) {
        let (ring, seen) = watch::channel(Arc::clone(before));
        let mut keys = Self { ring, reader: Reader::default(), conditions };
        keys.refresh(config);
        (keys, seen)
    }

    /// Looks at every file that a configuration names.
    pub fn refresh(&mut self, config: &Config) -> Sureness {
        let before = self.ring.borrow().clone();
        let next = before.next(config, &mut self.reader);
        for (path, _) in next.0.iter().filter(|(path, key)| {
            let of_another = |before: &FileKey| before.in_use() != key.in_use() && key.in_use().is_some();
            before.0.get(*path).is_some_and(of_another)
        }) {
            info!("new password in {}", path.display());
        }
        self.conditions.send_if_modified(|mine| {
            let now = next.conditions(config);
            let changed = *mine != now;
            *mine = now;
            changed
        });
        let sureness = match next.0.values().any(|key| matches!(key, FileKey::Changing(..))) {
            true => Sureness::Doubted,
            false => Sureness::Settled,
        };
        self.ring.send_if_modified(|held| {
            let changed = **held != next;
            if changed {
                *held = Arc::new(next);
            }
            changed
        });
        sureness
    }
}

/// The password in a file; one line end after it is no part of it.
fn read(reader: &mut Reader, path: &Path) -> Result<Password, String> {
    let said = |what: &dyn std::fmt::Display| format!("the password file {}: {what}", path.display());
    let octets = reader.read(path, READ_LIMIT).map_err(|error| said(&error))?;
    let password = octets.strip_suffix(b"\n").map_or(&octets[..], |line| line.strip_suffix(b"\r").unwrap_or(line));
    Password::new(password)
        .ok_or_else(|| said(&format!("has {} octets; a password has 1 to {}", password.len(), Password::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn config(path: &Path) -> Config {
        let text = format!(
            "asn: 64512\npeers: [{{name: a, address: 10.0.0.1, asn: 64500, passwordFile: {}}}]\npools: []\n",
            path.display()
        );
        Config::parse("test.yaml", &text).unwrap_or_else(|found| panic!("{found}")).0
    }

    fn password(text: &str) -> Option<Password> {
        Password::new(text.as_bytes())
    }

    #[test]
    fn one_line_end_is_no_part_of_a_password_and_more_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let mut reader = Reader::default();
        let longest = "x".repeat(80);
        for (text, expected) in [
            ("secret", Some("secret")),
            ("secret\n", Some("secret")),
            ("secret\r\n", Some("secret")),
            (" two words \n\n", Some(" two words \n")),
            (&format!("{longest}\n"), Some(longest.as_str())),
            ("", None),
            ("\n", None),
            (&"x".repeat(81), None),
            (&"x".repeat(100_000), None),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&mut reader, &path).ok(), expected.and_then(password), "{text:?}");
        }
        let said = read(&mut reader, &path).unwrap_err();
        assert!(said.contains("at most 1024 octets are read") && !said.contains("xx"), "{said}");
        assert!(read(&mut reader, folder.path()).unwrap_err().contains("only a plain file"));
    }

    #[test]
    fn missing_at_first_is_missing_and_good_once_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let config = config(&path);
        let mut reader = Reader::default();
        let peer = &config.peers["a"];
        let ring = KeyRing::default();
        assert!(ring.of(peer).is_err(), "not read is not without");
        let ring = ring.next(&config, &mut reader);
        assert!(ring.of(peer).unwrap_err().contains("neither dialled nor listened for"));
        fs::write(&path, "one\n").unwrap();
        let ring = ring.next(&config, &mut reader);
        assert_eq!(ring.of(peer).unwrap(), PeerKey { password: password("one"), remark: None });
        for trouble in ["", "\n"] {
            fs::write(&path, trouble).unwrap();
            let kept = ring.next(&config, &mut reader).next(&config, &mut reader).of(peer).unwrap();
            assert_eq!(kept.password, password("one"));
            assert!(kept.remark.unwrap().contains("has 0 octets"));
        }
        fs::remove_file(&path).unwrap();
        let ring = ring.next(&config, &mut reader);
        assert!(ring.of(peer).unwrap().remark.is_some());
        // Half of a new one is not used; the whole one is, at the second look that shows it.
        let mut ring = ring;
        for (written, used) in [("tw", "one"), ("two", "one"), ("two", "two")] {
            fs::write(&path, written).unwrap();
            ring = ring.next(&config, &mut reader);
            assert_eq!(ring.of(peer).unwrap(), PeerKey { password: password(used), remark: None });
        }
        let shown = format!("{:?}", ring.next(&config, &mut reader));
        assert!(shown.contains("***") && !shown.contains("two"), "{shown}");
    }
}
