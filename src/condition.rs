//! What is not as it should be, for as long as it is so. Every room says it in this one form; log, `/readyz`, metrics, `/v1` and
//! the tables of the command line then show the same, and stop showing it together.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

macro_rules! reasons {
    ($($(#[doc = $words:literal])* $name:ident,)*) => {
        /// The kind of a condition: CamelCase, as Kubernetes writes reasons; a label of the metric `herald_conditions`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $words])* $name,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its word.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

reasons! {
    /// The configuration file is refused: what is in use is older than the file.
    ConfigurationRefused,
    /// The task of a peer failed by a bug of ours; it is begun again, and the others go on.
    PeerPanicked,
    /// A task that watches or serves something failed by a bug of ours; it is begun anew, and what it told last is in use.
    TaskPanicked,
    /// A thread of the process stands still: what it does waits.
    ThreadStands,
    /// The kernel does not tell what it knows (the node's addresses, its neighbours): what was known last is in use.
    KernelUnreadable,
    /// This node announces nothing, whatever its services do.
    NodeOutOfService,
    /// A change of the file was not taken by every peer: one did not come back with it, and has what it had before.
    ReloadStopped,
    /// An object of the cluster cannot be read, or not wholly: what was last read of it is in use.
    ObjectUnreadable,
    /// A watch of the API server has had no answer for minutes: what changed meanwhile is not known.
    WatchSilent,
    /// The files that lead to the API server cannot be read: those read before are in use.
    ApiCredentialsUnreadable,
    /// The configuration file never shows the same text twice: none is taken.
    ConfigurationRestless,
    /// A password is not known, or is an old one because its file is no good: by peer or by file.
    PasswordUnavailable,
    /// Routes stay announced that a list, a folder, a file or the configuration no longer has.
    GuardHolds,
    /// A pool holds addresses of a link of this node: neighbours there look for them on the link.
    PoolOnLink,
    /// Much of what the process before this one announced is missing: routers are not told that the table is whole.
    EndOfRibWaits,
    /// Addresses stay held whose services the API server's list no longer has, though nobody said that they were deleted.
    ReleasesHeld,
    /// It cannot be asked whose turn it is among the nodes: sessions here begin anew without knowing what other nodes do.
    LeaseUnavailable,
    /// The state folder cannot be written or read: what outlives the process is at risk.
    StateFolder,
    /// An address or port to listen on cannot be had; routers that dial get no answer there.
    ListenFailed,
    /// The process has as many descriptors as it may, but for the few that are kept: no other router gets a session.
    DescriptorsShort,
    /// A range has as many routers with a session as it may: another one is turned away.
    RangeFull,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is wrong now, by kind and by what it is about (a peer, an object, a file; empty where there is only one), in words that
/// say what to change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions(BTreeMap<(Reason, Arc<str>), String>);

impl Conditions {
    /// It is so, in these words, until [`Self::clear`].
    pub fn set(&mut self, reason: Reason, subject: &str, message: impl Into<String>) {
        self.0.insert((reason, subject.into()), message.into());
    }

    /// It is no longer so.
    pub fn clear(&mut self, reason: Reason, subject: &str) {
        self.0.remove(&(reason, subject.into()));
    }

    /// Everything of one kind is no longer so.
    pub fn clear_all(&mut self, reason: Reason) {
        self.0.retain(|(kind, _), _| *kind != reason);
    }

    /// Adds what others say.
    pub fn join(&mut self, others: &Self) {
        self.0.extend(others.0.iter().map(|(key, message)| (key.clone(), message.clone())));
    }

    /// Kind, subject and words, by kind and subject.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, &str, &str)> {
        self.0.iter().map(|((reason, subject), message)| (*reason, &**subject, &**message))
    }

    /// Whether it is so.
    pub fn contains(&self, reason: Reason, subject: &str) -> bool {
        self.0.contains_key(&(reason, subject.into()))
    }

    /// In which words it is so.
    pub fn words(&self, reason: Reason, subject: &str) -> Option<&str> {
        self.0.get(&(reason, subject.into())).map(String::as_str)
    }

    /// How many there are of a kind.
    pub fn count(&self, reason: Reason) -> usize {
        self.0.keys().filter(|(kind, _)| *kind == reason).count()
    }

    /// A line each: kind, subject, words.
    pub fn lines(&self) -> Vec<String> {
        self.iter()
            .map(|(reason, subject, message)| match subject {
                "" => format!("{reason}: {message}"),
                _ => format!("{reason} {subject}: {message}"),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_holds_until_it_is_cleared_and_says_what_it_is_about() {
        let mut conditions = Conditions::default();
        conditions.set(Reason::ConfigurationRefused, "", "line 3 is no key");
        conditions.set(Reason::ConfigurationRefused, "a.yaml", "line 4 is no key");
        assert_eq!(
            conditions.lines(),
            ["ConfigurationRefused: line 3 is no key", "ConfigurationRefused a.yaml: line 4 is no key"]
        );
        assert_eq!(conditions.count(Reason::ConfigurationRefused), 2);
        conditions.clear(Reason::ConfigurationRefused, "");
        assert!(!conditions.contains(Reason::ConfigurationRefused, ""));
        conditions.clear_all(Reason::ConfigurationRefused);
        assert_eq!(conditions, Conditions::default());
    }
}
