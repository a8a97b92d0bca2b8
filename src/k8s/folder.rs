//! A folder of manifests as a set of objects: what a changed listing means for the index. Pure: it is told what the folder
//! looks like and given the bytes it asks for.
//!
//! A file that cannot be read keeps its last good objects. What would take something away (a file gone, objects missing
//! from a file, a file that does not parse) is believed when a second look agrees: editors truncate, rename and replace,
//! and a half-written file must not withdraw a route. What only adds or changes is taken at once.

use super::convert::Converter;
use super::documents::{Document, Format, decode};
use super::object::{Key, Kind, Object, Reading};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Time of the last change of the content, nanoseconds since 1970.
    pub modified_ns: i128,
    /// Time of the last change of content or inode, nanoseconds since 1970.
    pub changed_ns: i128,
    /// Octets.
    pub size: u64,
    /// Another number where a file replaced another.
    pub inode: u64,
}

/// What the index must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An object is new or different.
    Apply(Object),
    /// An object decides nothing any more; its file says so.
    Delete(Key),
    /// An object is in no file any more.
    Missing(Key),
}

/// Everything read so far.
#[derive(Debug, Default)]
pub struct Folder {
    files: BTreeMap<Arc<str>, File>,
    /// By object: the files that hold it, in order; the first one counts.
    claims: BTreeMap<Key, Vec<Arc<str>>>,
    /// The objects that more than one file holds.
    contested: BTreeSet<Key>,
    converter: Converter,
    foreign: BTreeSet<String>,
}

#[derive(Debug)]
struct File {
    look: Look,
    read: Read,
    objects: BTreeMap<Key, Object>,
    /// Objects that made no sense when the file was last read.
    bad: BTreeSet<Key>,
    /// Objects that are there and decide nothing.
    irrelevant: BTreeSet<Key>,
    faults: Vec<String>,
}

/// Whether a file ever parsed. Until then nobody knows what it wants announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Never,
    Once,
}

/// How sure we are of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Read in this state.
    Settled(Stamp),
    /// It would take something away: look again.
    Doubted,
    /// Not in the last listing: look again.
    Missing,
}

/// What reading a file gave.
#[derive(Debug, Default)]
struct Parsed {
    objects: BTreeMap<Key, Object>,
    bad: BTreeSet<Key>,
    irrelevant: BTreeSet<Key>,
    faults: Vec<String>,
}

impl Folder {
    /// Compares a listing (names and stamps of the manifests) with what is known, reads what is new, and says what
    /// changes. `read` gives the bytes of a listed file.
    pub fn look(
        &mut self,
        listing: &BTreeMap<String, Stamp>,
        mut read: impl FnMut(&str) -> io::Result<Vec<u8>>,
    ) -> Vec<Change> {
        let mut touched = BTreeSet::new();
        for (name, stamp) in listing {
            let doubted = match self.files.get(name.as_str()).map(|file| file.look) {
                Some(Look::Settled(known)) if known == *stamp => continue,
                Some(Look::Doubted) => Doubt::Second,
                Some(Look::Settled(_) | Look::Missing) | None => Doubt::First,
            };
            self.look_at(name, *stamp, doubted, read(name), &mut touched);
        }
        let absent: Vec<Arc<str>> = self.files.keys().filter(|name| !listing.contains_key(&***name)).cloned().collect();
        for name in absent {
            self.miss(&name, &mut touched);
        }
        let (claims, files) = (&self.claims, &self.files);
        self.converter.retain(|key| claims.contains_key(key) || files.values().any(|file| file.bad.contains(key)));
        touched.into_iter().map(|key| self.verdict(key)).collect()
    }

    /// Whether nothing waits for a second look, and every file was read at least once: a folder with a file that never
    /// parsed is not known, and what is not known must not be taken for an empty wish.
    pub fn is_known(&self) -> bool {
        self.is_settled() && self.files.values().all(|file| file.read == Read::Once)
    }

    /// Whether nothing waits for a second look.
    pub fn is_settled(&self) -> bool {
        self.files.values().all(|file| matches!(file.look, Look::Settled(_)))
    }

    /// All objects of a kind, for the index's first list.
    pub fn readings(&self, kind: Kind) -> Vec<Reading> {
        let of_kind = self.claims.iter().filter(|(key, _)| key.kind() == kind);
        of_kind.map(|(key, files)| Reading::Held(self.files[&files[0]].objects[key].clone())).collect()
    }

    /// Everything that is wrong with files now, each with what to do.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.files.values().flat_map(|file| file.faults.iter().cloned()).collect();
        let missing = |name: &Arc<str>| self.files[name].look == Look::Missing;
        for key in &self.contested {
            let files = &self.claims[key];
            if let [first, others @ ..] = files.as_slice()
                && !files.iter().any(missing)
            {
                problems.push(format!(
                    "{key} is in {first} and in {}: {first} counts; remove the other",
                    others.join(", ")
                ));
            }
        }
        problems
    }

    /// What is wrong with single objects now (already in the log).
    pub fn complaints(&self) -> Vec<String> {
        self.converter.complaints().iter().map(|(key, what)| format!("{key}: {what}")).collect()
    }

    fn look_at(
        &mut self,
        name: &str,
        stamp: Stamp,
        doubt: Doubt,
        bytes: io::Result<Vec<u8>>,
        touched: &mut BTreeSet<Key>,
    ) {
        let name: Arc<str> = self.files.get_key_value(name).map_or_else(|| name.into(), |(name, _)| name.clone());
        let parsed = self.parse(&name, bytes);
        let file = self.files.entry(name.clone()).or_insert_with(|| File {
            look: Look::Doubted,
            read: Read::Never,
            objects: BTreeMap::new(),
            bad: BTreeSet::new(),
            irrelevant: BTreeSet::new(),
            faults: Vec::new(),
        });
        let takes_away = match &parsed {
            Ok(parsed) => file.objects.keys().any(|key| !parsed.objects.contains_key(key)),
            Err(_) => true,
        };
        if takes_away && doubt == Doubt::First {
            file.look = Look::Doubted;
            return;
        }
        file.look = Look::Settled(stamp);
        match parsed {
            Err(fault) => file.faults = vec![fault],
            Ok(Parsed { objects, bad, irrelevant, faults }) => {
                file.read = Read::Once;
                (file.bad, file.irrelevant, file.faults) = (bad, irrelevant, faults);
                let before = std::mem::replace(&mut file.objects, objects);
                self.reclaim(&name, &before, touched);
            }
        }
    }

    /// A known file is not in the listing.
    fn miss(&mut self, name: &Arc<str>, touched: &mut BTreeSet<Key>) {
        let file = self.files.get_mut(name).expect("the name was taken from this map");
        if file.look != Look::Missing {
            file.look = Look::Missing;
            return;
        }
        let before = std::mem::take(&mut file.objects);
        self.reclaim(name, &before, touched);
        self.files.remove(name);
    }

    /// Brings the claims of a file up to date and notes which objects are touched by that.
    fn reclaim(&mut self, name: &Arc<str>, before: &BTreeMap<Key, Object>, touched: &mut BTreeSet<Key>) {
        let now = &self.files[name].objects;
        for key in before.keys().filter(|key| !now.contains_key(key)) {
            if let Some(files) = self.claims.get_mut(key) {
                files.retain(|file| file != name);
                if files.is_empty() {
                    self.claims.remove(key);
                }
            }
            self.contested.remove(key);
            if self.claims.get(key).is_some_and(|files| files.len() > 1) {
                self.contested.insert(key.clone());
            }
            touched.insert(key.clone());
        }
        for (key, object) in now {
            if before.get(key) == Some(object) {
                continue;
            }
            let files = self.claims.entry(key.clone()).or_default();
            if let Err(place) = files.binary_search(name) {
                files.insert(place, name.clone());
            }
            if files.len() > 1 {
                self.contested.insert(key.clone());
            }
            touched.insert(key.clone());
        }
    }

    fn verdict(&self, key: Key) -> Change {
        match self.claims.get(&key) {
            Some(files) => Change::Apply(self.files[&files[0]].objects[&key].clone()),
            None if self.files.values().any(|file| file.irrelevant.contains(&key)) => Change::Delete(key),
            None => Change::Missing(key),
        }
    }

    fn parse(&mut self, name: &Arc<str>, bytes: io::Result<Vec<u8>>) -> Result<Parsed, String> {
        let bytes = bytes.map_err(|error| format!("{name}: cannot be read ({error}); its last good state stays"))?;
        let format = Format::of(name).unwrap_or(Format::Yaml);
        let contents =
            decode(&bytes, format).map_err(|fault| format!("{name}:{fault}; the last good state of the file stays"))?;
        for foreign in contents.foreign {
            if self.foreign.insert(foreign.clone()) {
                tracing::warn!(file = %name, "{name}: {foreign} is ignored; only Service, EndpointSlice and Node matter here");
            }
        }
        let mut parsed = Parsed::default();
        for document in contents.documents {
            self.add(name, document, &mut parsed);
        }
        Ok(parsed)
    }

    fn add(&mut self, name: &Arc<str>, document: Document, parsed: &mut Parsed) {
        let reading = match document {
            Document::Service(object) => self.converter.service(object),
            Document::EndpointSlice(object) => self.converter.slice(object),
            Document::Node(object) => self.converter.node(object),
            Document::Allocation(object) => self.converter.allocation(*object),
        };
        let (key, object) = match reading {
            Reading::Held(object) => (object.key(), Some(object)),
            Reading::Bad(key) => {
                let last_good = self.files.get(name).and_then(|file| file.objects.get(&key)).cloned();
                parsed.bad.insert(key.clone());
                (key, last_good)
            }
            Reading::Irrelevant(key) => {
                parsed.irrelevant.insert(key);
                return;
            }
            Reading::Nameless => {
                parsed.faults.push(format!("{name}: an object has no metadata.name and is left out"));
                return;
            }
        };
        match (parsed.objects.entry(key), object) {
            (Entry::Occupied(first), _) => {
                let key = first.key();
                parsed.faults.push(format!("{name}: {key} is in this file twice: the first counts; remove the other"));
            }
            (Entry::Vacant(place), Some(object)) => {
                place.insert(object);
            }
            (Entry::Vacant(_), None) => {}
        }
    }
}

/// Which look at a file this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    First,
    Second,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder in memory: every write gives a new stamp.
    #[derive(Default)]
    struct Disk {
        files: BTreeMap<String, (Stamp, String)>,
        writes: i128,
    }

    impl Disk {
        fn write(&mut self, name: &str, text: &str) {
            self.writes += 1;
            let stamp = Stamp { modified_ns: self.writes, changed_ns: self.writes, size: text.len() as u64, inode: 1 };
            self.files.insert(name.to_owned(), (stamp, text.to_owned()));
        }

        /// One look: the names that were applied (`+`) and deleted (`-`).
        fn look(&self, folder: &mut Folder) -> Vec<String> {
            let listing = self.files.iter().map(|(name, (stamp, _))| (name.clone(), *stamp)).collect();
            let changes = folder.look(&listing, |name| Ok(self.files[name].1.clone().into_bytes()));
            changes
                .iter()
                .map(|change| match change {
                    Change::Apply(object) => format!("+{}", object.key()),
                    Change::Delete(key) | Change::Missing(key) => format!("-{key}"),
                })
                .collect()
        }
    }

    fn node(name: &str) -> String {
        format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n---\n")
    }

    const NOTHING: [&str; 0] = [];

    #[test]
    fn what_adds_is_taken_at_once_and_what_takes_away_at_the_second_look() {
        let (mut disk, mut folder) = (Disk::default(), Folder::default());
        disk.write("a.yaml", &(node("n1") + &node("n2")));
        assert_eq!(disk.look(&mut folder), ["+Node n1", "+Node n2"]);
        assert_eq!(disk.look(&mut folder), NOTHING);
        disk.write("a.yaml", &node("n1"));
        assert_eq!(disk.look(&mut folder), NOTHING);
        assert!(!folder.is_known());
        assert_eq!(disk.look(&mut folder), ["-Node n2"]);
        assert!(folder.is_known());
    }

    #[test]
    fn a_file_caught_half_written_takes_nothing_away() {
        let (mut disk, mut folder) = (Disk::default(), Folder::default());
        disk.write("a.yaml", &(node("n1") + &node("n2")));
        disk.look(&mut folder);
        for half in ["", &node("n1"), "apiVersion: v1\nkind: [", &node("n2")] {
            disk.write("a.yaml", half);
            assert_eq!(disk.look(&mut folder), NOTHING, "{half:?}");
            assert_eq!(folder.problems(), NOTHING);
            disk.write("a.yaml", &(node("n1") + &node("n2")));
            assert_eq!(disk.look(&mut folder), NOTHING);
            assert!(folder.is_known());
        }
    }

    #[test]
    fn a_broken_file_keeps_its_objects_and_says_where() {
        let (mut disk, mut folder) = (Disk::default(), Folder::default());
        disk.write("a.yaml", &node("n1"));
        disk.look(&mut folder);
        disk.write("a.yaml", "apiVersion: v1\nkind: Node\nmetadata: 7\n");
        assert_eq!(disk.look(&mut folder), NOTHING);
        assert_eq!(disk.look(&mut folder), NOTHING);
        let problems = folder.problems();
        assert!(problems.len() == 1 && problems[0].starts_with("a.yaml:3:11: "), "{problems:?}");
        assert_eq!(folder.readings(Kind::Node).len(), 1);
        disk.write("a.yaml", &node("n3"));
        assert_eq!(disk.look(&mut folder), NOTHING);
        assert_eq!(disk.look(&mut folder), ["-Node n1", "+Node n3"]);
        assert_eq!(folder.problems(), NOTHING);
    }

    #[test]
    fn a_file_that_moves_is_never_missed() {
        let (mut disk, mut folder) = (Disk::default(), Folder::default());
        disk.write("a.yaml", &node("n1"));
        disk.look(&mut folder);
        let moved = disk.files.remove("a.yaml").unwrap();
        assert_eq!(disk.look(&mut folder), NOTHING, "a listing between the names");
        disk.files.insert("b.yaml".to_owned(), moved);
        // The new name claims what the old one still holds, or takes over; the object is applied, never deleted.
        let changes = [disk.look(&mut folder), disk.look(&mut folder), disk.look(&mut folder)].concat();
        assert!(changes.iter().all(|change| change == "+Node n1"), "{changes:?}");
        assert!(folder.is_known() && folder.problems().is_empty());
        assert_eq!(folder.readings(Kind::Node).len(), 1);
        disk.files.clear();
        assert_eq!(disk.look(&mut folder), NOTHING);
        assert_eq!(disk.look(&mut folder), ["-Node n1"]);
    }

    #[test]
    fn the_first_file_by_name_wins_and_both_are_named() {
        let (mut disk, mut folder) = (Disk::default(), Folder::default());
        disk.write("b.yaml", &node("n1"));
        disk.write("a.yaml", &(node("n1") + &node("n1")));
        assert_eq!(disk.look(&mut folder), ["+Node n1"]);
        let problems = folder.problems();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("a.yaml: Node n1 is in this file twice"), "{problems:?}");
        assert!(problems[1].contains("Node n1 is in a.yaml and in b.yaml"), "{problems:?}");
        disk.files.remove("a.yaml");
        disk.look(&mut folder);
        assert_eq!(disk.look(&mut folder), ["+Node n1"], "b.yaml's word counts now");
        assert_eq!(folder.problems(), NOTHING);
    }

    #[test]
    fn a_bad_object_keeps_its_last_good_state_until_it_leaves_the_file() {
        let (mut disk, mut folder) = (Disk::default(), Folder::default());
        let service = |policy: &str| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\n\
                 spec: {{type: LoadBalancer, externalTrafficPolicy: {policy}}}\n"
            )
        };
        disk.write("a.yaml", &service("Local"));
        disk.look(&mut folder);
        let good = folder.readings(Kind::Service);
        disk.write("a.yaml", &service("Sideways"));
        disk.look(&mut folder);
        assert_eq!(folder.readings(Kind::Service), good);
        assert_eq!(folder.complaints().len(), 1);
        disk.write("a.yaml", "");
        disk.look(&mut folder);
        assert_eq!(disk.look(&mut folder), ["-Service default/s"]);
        assert_eq!(folder.complaints(), NOTHING);
    }
}
