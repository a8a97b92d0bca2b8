//! Names: unique where they are given, known where they are used, and the nearest one where they are not.

use super::error::{Finding, Place};
use super::raw::List;
use serde_saphyr::Spanned;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The names given to one kind of thing.
#[derive(Debug)]
pub struct Names {
    kind: &'static str,
    /// The key of the file that lists them.
    key: &'static str,
    given: BTreeMap<Arc<str>, Place>,
}

impl Names {
    /// No names yet for things of `kind`, which the file lists under `key`.
    pub fn new(kind: &'static str, key: &'static str) -> Self {
        Self { kind, key, given: BTreeMap::new() }
    }

    /// Takes the name of an object that begins at `object`. `None`: it has none of its own, and that was reported.
    pub fn give(&mut self, object: Place, name: Option<&Spanned<String>>, out: &mut Vec<Finding>) -> Option<Arc<str>> {
        let Some(name) = name else {
            let title = format!("this {} has no name", self.kind);
            out.push(Finding::error(object, title).help("add 'name: …'; logs, metrics and references use it"));
            return None;
        };
        let place = Place::of(name);
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.value.is_empty() || name.value.len() > 253 || !name.value.chars().all(fits) {
            let title = format!("{:?} is no name for a {}", name.value, self.kind);
            out.push(Finding::error(place, title).help("use 1 to 253 letters, digits, '.', '_' and '-'"));
            return None;
        }
        if let Some(first) = self.given.get(name.value.as_str()) {
            out.push(
                Finding::error(place, format!("two {} are named {:?}", self.key, name.value))
                    .related(*first, "the name is taken here")
                    .help("give each a name of its own"),
            );
            return None;
        }
        let given: Arc<str> = name.value.as_str().into();
        self.given.insert(Arc::clone(&given), place);
        Some(given)
    }

    /// The things that a list names: all where it is absent. Unknown names are reported.
    pub fn chosen(&self, list: &List<String>, out: &mut Vec<Finding>) -> BTreeSet<Arc<str>> {
        let Some(list) = list else { return self.given.keys().cloned().collect() };
        let mut chosen = BTreeSet::new();
        for name in list {
            match self.given.get_key_value(name.value.as_str()) {
                Some((known, _)) if !chosen.insert(Arc::clone(known)) => {
                    let title = format!("{} {:?} is named twice in this list", self.kind, name.value);
                    out.push(Finding::warning(Place::of(name), title).help("once is enough"));
                }
                Some(_) => {}
                None => out.push(self.unknown(name)),
            }
        }
        chosen
    }

    fn unknown(&self, name: &Spanned<String>) -> Finding {
        let finding = Finding::error(Place::of(name), format!("there is no {} {:?}", self.kind, name.value));
        match nearest(&name.value, self.given.keys().map(Arc::as_ref)) {
            Some(near) => {
                finding.related(self.given[near], "a similar name is given here").help(format!("write {near:?}"))
            }
            None if self.given.is_empty() => finding.help(format!("list it under '{}' first", self.key)),
            None => finding.help(format!("known {}: {}", self.key, listed(self.given.keys().map(Arc::as_ref)))),
        }
    }
}

/// Words joined by commas, at most ten.
pub fn listed<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut words: Vec<_> = words.collect();
    if words.len() > 10 {
        words.truncate(10);
        words.push("…");
    }
    words.join(", ")
}

/// The known word that was probably meant, if one is near enough.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The cost of the distance is the product of both lengths; nobody mistypes a word this long.
    const LONGEST: usize = 64;
    if word.chars().count() > LONGEST {
        return None;
    }
    let limit = (word.chars().count() / 3).max(1);
    let near = known.into_iter().filter(|k| k.chars().count() <= LONGEST).map(|k| (distance(word, k), k));
    near.filter(|(distance, _)| *distance <= limit).min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// Edits that lead from one word to the other, letter case aside: a character added, left out, replaced, or two
/// neighbours swapped.
fn distance(a: &str, b: &str) -> usize {
    let [a, b]: [Vec<char>; 2] = [a, b].map(|word| word.to_lowercase().chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_edits() {
        for (a, b, edits) in
            [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("peer", "Peers", 1), ("edge", "egde", 1)]
        {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }

    #[test]
    fn near_is_near() {
        assert_eq!(nearest("holdtime", ["holdTime", "port"]), Some("holdTime"));
        assert_eq!(nearest("addres", ["address", "asn"]), Some("address"));
        assert_eq!(nearest("zzz", ["address", "asn"]), None);
        assert_eq!(nearest(&"x".repeat(1000), ["address"]), None);
    }
}
