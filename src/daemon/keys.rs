//! Passwords that are read from files. A bad file never replaces a good one, and no report shows what is in it.

use crate::config::{Config, PeerConfig};
use crate::peer::settings::Password;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;
use tracing::{error, info};

/// What is read of a file at most: more than a password with its line end is no password anyhow.
const READ_LIMIT: u64 = 1024;

/// The passwords of all files that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyRing(BTreeMap<PathBuf, FileKey>);

/// The password of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKey {
    /// As the file has it.
    Read(Password),
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
    /// Reads every file that a configuration names. What was good once is kept while its file is not.
    #[must_use]
    pub fn next(&self, config: &Config) -> Self {
        let paths = config.peers.values().filter_map(|peer| peer.password_file.as_ref());
        let mut next = Self::default();
        for path in paths {
            if !next.0.contains_key(path) {
                let key = self.0.get(path);
                let now = FileKey::after(key, read(path));
                report(path, key, &now);
                next.0.insert(path.clone(), now);
            }
        }
        next
    }

    /// Brings a published ring up to its files.
    pub fn refresh(held: &watch::Sender<Arc<Self>>, config: &Config) {
        let next = held.borrow().next(config);
        held.send_if_modified(|held| {
            let changed = **held != next;
            if changed {
                *held = Arc::new(next);
            }
            changed
        });
    }

    /// The key that connections with a peer are signed with.
    ///
    /// # Errors
    /// It has one that is not known: nothing must be exchanged with the peer.
    pub fn of(&self, peer: &PeerConfig) -> Result<PeerKey, String> {
        let Some(path) = &peer.password_file else {
            return Ok(PeerKey { password: peer.neighbor.password.clone(), remark: None });
        };
        match self.0.get(path) {
            Some(FileKey::Read(password)) => Ok(PeerKey { password: Some(password.clone()), remark: None }),
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
    fn after(before: Option<&Self>, now: Result<Password, String>) -> Self {
        match (now, before) {
            (Ok(password), _) => Self::Read(password),
            (Err(why), Some(Self::Read(kept) | Self::Kept(kept, _))) => Self::Kept(kept.clone(), why),
            (Err(why), Some(Self::Missing(_)) | None) => Self::Missing(why),
        }
    }
}

fn report(path: &Path, before: Option<&FileKey>, now: &FileKey) {
    if before == Some(now) {
        return;
    }
    match now {
        FileKey::Read(_) if before.is_some() => info!("new password in {}", path.display()),
        FileKey::Read(_) => {}
        FileKey::Kept(_, why) => error!("{why}; the password before it stays in use"),
        FileKey::Missing(why) => error!("{why}; peers that need it are neither dialled nor listened for"),
    }
}

/// The password in a file; one line end after it is no part of it.
fn read(path: &Path) -> Result<Password, String> {
    let said = |what: &dyn std::fmt::Display| format!("the password file {}: {what}", path.display());
    let mut octets = Vec::new();
    // A pipe in its place would hold us: only a plain file is opened.
    match std::fs::metadata(path) {
        Ok(about) if !about.is_file() => return Err(said(&"is no plain file")),
        Ok(_) => {}
        Err(error) => return Err(said(&error)),
    }
    let whole = File::open(path).and_then(|file| file.take(READ_LIMIT).read_to_end(&mut octets));
    whole.map_err(|error| said(&error))?;
    let password = octets.strip_suffix(b"\n").map_or(&octets[..], |line| line.strip_suffix(b"\r").unwrap_or(line));
    let count = match u64::try_from(octets.len()) {
        Ok(READ_LIMIT) => "too many".to_owned(),
        _ => password.len().to_string(),
    };
    Password::new(password).ok_or_else(|| said(&format!("has {count} octets; a password has 1 to {}", Password::MAX)))
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
            assert_eq!(read(&path).ok(), expected.and_then(password), "{text:?}");
        }
        let said = read(&path).unwrap_err();
        assert!(said.contains("too many octets") && !said.contains("xx"), "{said}");
        assert!(read(folder.path()).unwrap_err().contains("no plain file"));
    }

    #[test]
    fn missing_at_first_is_missing_and_good_once_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let config = config(&path);
        let peer = &config.peers["a"];
        let ring = KeyRing::default();
        assert!(ring.of(peer).is_err(), "not read is not without");
        let ring = ring.next(&config);
        assert!(ring.of(peer).unwrap_err().contains("neither dialled nor listened for"));
        fs::write(&path, "one\n").unwrap();
        let ring = ring.next(&config);
        assert_eq!(ring.of(peer).unwrap(), PeerKey { password: password("one"), remark: None });
        for trouble in ["", "\n"] {
            fs::write(&path, trouble).unwrap();
            let kept = ring.next(&config).next(&config).of(peer).unwrap();
            assert_eq!(kept.password, password("one"));
            assert!(kept.remark.unwrap().contains("has 0 octets"));
        }
        fs::remove_file(&path).unwrap();
        let ring = ring.next(&config);
        assert!(ring.of(peer).unwrap().remark.is_some());
        fs::write(&path, "two").unwrap();
        assert_eq!(ring.next(&config).of(peer).unwrap(), PeerKey { password: password("two"), remark: None });
        let shown = format!("{:?}", ring.next(&config));
        assert!(shown.contains("***") && !shown.contains("two"), "{shown}");
    }
}
