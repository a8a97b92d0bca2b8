//! The matrix as it is written down in `matrix.txt`, and as it is printed with what came of it.

use crate::daemon::{KINDS, Kind};
use crate::rig::Outcome;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// When a cell is run, or why it never is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// In `make test`, and in soak.
    Always,
    /// In soak only.
    Soak,
    /// Never: the mark of the reason.
    Cannot(char),
}

/// The whole table.
#[derive(Debug)]
pub struct Matrix {
    rows: Vec<(String, BTreeMap<Kind, When>)>,
    reasons: BTreeMap<char, String>,
}

const TEXT: &str = include_str!("matrix.txt");

impl Matrix {
    /// Reads the file: a line of columns, a line a row, and lines `MARK: reason`.
    ///
    /// # Errors
    /// A row is not complete, a mark has no reason, or a reason is used by nobody.
    pub fn read() -> Outcome<Self> {
        let mut lines = TEXT.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let columns: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().skip(1).collect();
        if columns != KINDS.map(Kind::name) {
            return Err(format!("the columns are {columns:?}, not {:?}", KINDS.map(Kind::name)));
        }
        let mut matrix = Self { rows: Vec::new(), reasons: BTreeMap::new() };
        for line in lines {
            if let Some((mark, reason)) = line.split_once(": ") {
                let mark = mark.trim().chars().next().unwrap_or('?');
                matrix.reasons.insert(mark, reason.to_owned());
                continue;
            }
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default().to_owned();
            let cells: Vec<When> = words.map(when).collect();
            if cells.len() != KINDS.len() {
                return Err(format!("row {name} has {} cells", cells.len()));
            }
            matrix.rows.push((name, KINDS.into_iter().zip(cells).collect()));
        }
        matrix.check()?;
        Ok(matrix)
    }

    fn check(&self) -> Outcome {
        let used = |mark: char| self.rows.iter().any(|(_, cells)| cells.values().any(|w| *w == When::Cannot(mark)));
        for (name, cells) in &self.rows {
            for cell in cells.values() {
                if let When::Cannot(mark) = cell
                    && !self.reasons.contains_key(mark)
                {
                    return Err(format!("row {name}: the mark {mark} has no reason"));
                }
            }
        }
        match self.reasons.keys().find(|mark| !used(**mark)) {
            None => Ok(()),
            Some(mark) => Err(format!("the reason {mark} is nobody's")),
        }
    }

    /// The names of the rows.
    pub fn rows(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|(name, _)| name.as_str())
    }

    /// Each cell, row by row.
    pub fn cells(&self) -> impl Iterator<Item = (&str, Kind, &When)> {
        self.rows.iter().flat_map(|(name, cells)| cells.iter().map(move |(kind, when)| (name.as_str(), *kind, when)))
    }

    /// The table with what came of each cell: `ok` with its seconds, `FAILED`, `·` where it was not run, a mark where it cannot.
    pub fn printed(&self, results: &BTreeMap<(String, Kind), (bool, f64)>) -> String {
        let mut text = format!("{:<18}", "");
        for kind in KINDS {
            let _infallible = write!(text, "{:>10}", kind.name());
        }
        for (name, cells) in &self.rows {
            let _infallible = write!(text, "\n{name:<18}");
            for (kind, when) in cells {
                let word = match (results.get(&(name.clone(), *kind)), when) {
                    (Some((true, seconds)), _) => format!("ok {seconds:.0}s"),
                    (Some((false, _)), _) => "FAILED".to_owned(),
                    (None, When::Cannot(mark)) => mark.to_string(),
                    (None, When::Always | When::Soak) => "·".to_owned(),
                };
                let _infallible = write!(text, "{word:>10}");
            }
        }
        text.push_str("\n· not run this time");
        for (mark, reason) in &self.reasons {
            let _infallible = write!(text, "\n{mark} {reason}");
        }
        text
    }
}

fn when(word: &str) -> When {
    match word {
        "test" => When::Always,
        "soak" => When::Soak,
        mark => When::Cannot(mark.chars().next().unwrap_or('?')),
    }
}
