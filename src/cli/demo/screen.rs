//! What the demo shows: the router's table, a column a node, a line for every prefix that changed.

use super::router::{Paths, Table};
use super::stage::{NODES, Node, Stage};
use super::story::Step;
use crate::wire::Prefix;
use std::collections::BTreeSet;
use std::io::{IsTerminal, Stdout, Write, stdout};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Columns of a prefix, and of a node.
const PREFIX: usize = 20;
const NODE: usize = 12;

/// How to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Text alone: for files, pipes, and where NO_COLOR is set.
    Plain,
    /// For terminals.
    Colour,
}

#[derive(Debug, Clone, Copy)]
enum Ink {
    Bold,
    Dim,
    Green,
    Red,
    Cyan,
}

/// Where the story is shown. What cannot be written (a closed pipe) is not worth failing for: the exit code tells.
#[derive(Debug)]
pub struct Screen<W = Stdout> {
    out: W,
    style: Style,
    shown: Table,
}

impl Screen<Stdout> {
    /// Standard output, coloured where somebody looks.
    pub fn new() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let style = if stdout().is_terminal() && !plain { Style::Colour } else { Style::Plain };
        Self::onto(stdout(), style)
    }
}

impl Default for Screen<Stdout> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: Write> Screen<W> {
    /// Any other place.
    pub fn onto(out: W, style: Style) -> Self {
        Self { out, style, shown: Table::default() }
    }

    /// Who plays.
    pub fn cast(&mut self, stage: &Stage, router: SocketAddr) {
        let title = self.ink(Ink::Bold, "herald demo");
        self.line(&format!("{title}   three nodes and a router on loopback; no root, no cluster, no other software"));
        self.line("");
        self.line(&format!("  router   {router:<18} keeps what it is told"));
        for node in NODES {
            let address = node.address().to_string();
            self.line(&format!("  {:<8} {address:<18} a `herald speak` of its own, next hop of its routes", node.name));
        }
        self.line(&format!("  folder   {}", stage.manifests().display()));
    }

    /// A step begins.
    pub fn begin(&mut self, number: usize, title: &str) {
        let title = self.ink(Ink::Bold, &format!("{number}. {title}"));
        self.line("");
        self.line(&title);
        self.header();
    }

    /// The names of the columns.
    pub fn header(&mut self) {
        let mut head = format!("  {:>9}  {:<PREFIX$}", "time", "router's table");
        for node in NODES {
            head += &format!(" {:<NODE$}", node.name);
        }
        let head = self.ink(Ink::Dim, head.trim_end());
        self.line(&head);
    }

    /// Shows what changed since the last table that was shown.
    pub fn table(&mut self, table: &Table, at: Duration) {
        let time = format!("  {:>6.3} s", at.as_secs_f64());
        let sessions = |table: &Table| table.neighbors.keys().map(SocketAddr::ip).collect::<BTreeSet<_>>();
        let (old, new) = (sessions(&self.shown), sessions(table));
        if old != new {
            let cell = |node: Node| match (new.contains(&node.address()), old.contains(&node.address())) {
                (true, true) => (Ink::Dim, "up"),
                (true, false) => (Ink::Green, "up"),
                (false, true) => (Ink::Red, "down"),
                (false, false) => (Ink::Dim, "-"),
            };
            let row = NODES.map(|node| {
                let (ink, text) = cell(node);
                (ink, text.to_owned())
            });
            self.row(&time, "session", row);
        }
        let (old, new) = (self.shown.paths(), table.paths());
        let prefixes: BTreeSet<Prefix> = old.keys().chain(new.keys()).copied().collect();
        for prefix in prefixes.into_iter().filter(|prefix| old.get(prefix) != new.get(prefix)) {
            self.row(&time, &prefix.to_string(), NODES.map(|node| path(prefix, node, &old, &new)));
        }
        self.shown = table.clone();
    }

    /// A step came true.
    pub fn end(&mut self, step: &Step, took: Duration) {
        let ok = self.ink(Ink::Green, "ok");
        self.line(&format!("  {:>6.3} s  {ok}  {}", took.as_secs_f64(), step.moral));
    }

    /// The story came to its end.
    pub fn applause(&mut self, steps: usize, took: Duration) {
        let done = self.ink(Ink::Green, &format!("{steps} of {steps} steps as told"));
        self.line("");
        self.line(&format!("{done}, {:.1} s", took.as_secs_f64()));
    }

    /// A step did not come true.
    pub fn failure(&mut self, number: usize, title: &str, wrong: &str, last_words: &str) {
        let failed = self.ink(Ink::Red, &format!("step {number} failed: {title}"));
        self.line("");
        self.line(&failed);
        for line in wrong.lines().chain(last_words.lines()) {
            self.line(&format!("  {line}"));
        }
    }

    /// What a user may do now.
    pub fn invitation(&mut self, stage: &Stage) {
        let folder = stage.manifests();
        let folder = folder.display();
        let [a, _, c] = NODES;
        self.line("");
        let title = self.ink(
            Ink::Bold,
            "Everything stays up. Edit the folder and watch the table; Ctrl-C ends it and removes the folder.",
        );
        self.line(&title);
        let pid = stage.pid(c).map_or_else(|| "PID".to_owned(), |pid| pid.to_string());
        let tries = [
            (format!("sed -i 's/Policy: Cluster/Policy: Local/' {folder}/web.yaml"), "only nodes with a pod are left"),
            (format!("sed -i 's/ready: true/ready: false/' {folder}/web.yaml"), "no endpoint, no route"),
            (format!("cp {folder}/web.yaml /tmp/ && rm {folder}/web.yaml"), "the service is deleted"),
            (format!("kill -9 {pid}"), "node-c dies"),
            (
                format!("{} routes --socket {}", stage.program().display(), stage.socket(a).display()),
                "what node-a announces",
            ),
        ];
        for (command, meaning) in tries {
            let meaning = self.ink(Ink::Dim, &format!("# {meaning}"));
            let command = self.ink(Ink::Cyan, &command);
            self.line(&format!("  {command}   {meaning}"));
        }
        self.line("");
        self.header();
    }

    fn row(&mut self, time: &str, what: &str, cells: [(Ink, String); NODES.len()]) {
        let mut line = format!("{time}  {what:<PREFIX$}");
        for (ink, text) in cells {
            line += &format!(" {}", self.ink(ink, &format!("{text:<NODE$}")));
        }
        let line = line.trim_end().to_owned();
        self.line(&line);
    }

    fn line(&mut self, text: &str) {
        drop(writeln!(self.out, "{text}"));
        drop(self.out.flush());
    }

    fn ink(&self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Green => "32",
            Ink::Red => "31",
            Ink::Cyan => "36",
        };
        match self.style {
            Style::Plain => text.to_owned(),
            Style::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// One cell: the next hop by which a node's path leads, new ones green; a lost one leaves a red dash.
fn path(prefix: Prefix, node: Node, old: &Paths, new: &Paths) -> (Ink, String) {
    let of = |paths: &Paths| -> Option<IpAddr> { paths.get(&prefix)?.get(&node.address()).copied() };
    match (of(old), of(new)) {
        (before, Some(now)) if before == Some(now) => (Ink::Dim, now.to_string()),
        (_, Some(now)) => (Ink::Green, now.to_string()),
        (Some(_), None) => (Ink::Red, "-".to_owned()),
        (None, None) => (Ink::Dim, "-".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::router::Neighbor;
    use super::*;
    use crate::wire::RouterId;
    use std::collections::BTreeMap;

    fn table(nodes: &[Node]) -> Table {
        let mut table = Table::default();
        for node in nodes {
            let routes = BTreeMap::from([("198.51.100.10/32".parse().unwrap(), node.address())]);
            let router_id = RouterId::new([10, 0, 0, 1].into()).unwrap();
            table
                .neighbors
                .insert((node.address(), 1).into(), Neighbor { router_id, routes, complete: BTreeSet::new() });
        }
        table
    }

    #[test]
    fn only_what_changed_is_shown_and_a_lost_path_is_a_dash() {
        let mut screen = Screen::onto(Vec::new(), Style::Plain);
        screen.table(&table(&NODES), Duration::from_millis(10));
        screen.table(&table(&NODES), Duration::from_millis(11));
        screen.table(&table(&NODES[..2]), Duration::from_millis(1234));
        let text = String::from_utf8(screen.out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "   0.010 s  session              up           up           up",
                "   0.010 s  198.51.100.10/32     127.0.0.11   127.0.0.12   127.0.0.13",
                "   1.234 s  session              up           up           down",
                "   1.234 s  198.51.100.10/32     127.0.0.11   127.0.0.12   -",
            ]
        );
    }

    #[test]
    fn plain_text_carries_no_escapes_and_coloured_text_does() {
        for (style, escapes) in [(Style::Plain, 0), (Style::Colour, 6)] {
            let mut screen = Screen::onto(Vec::new(), style);
            screen.table(&table(&NODES), Duration::ZERO);
            assert_eq!(screen.out.iter().filter(|octet| **octet == 0x1b).count() / 2, escapes);
        }
    }
}
