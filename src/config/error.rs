//! Errors and warnings of a configuration, with file, line and column.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_saphyr::{Location, Spanned};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Reports printed in full; the rest is counted. A file that is wrong in a thousand places has one cause.
const PRINTED: usize = 50;

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Doubtful; the configuration is used.
    Warning,
    /// Wrong; the configuration is refused.
    Error,
}

/// What a report looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// Text alone, for pipes, logs and tests.
    #[default]
    Plain,
    /// With terminal colours.
    Coloured,
}

/// A piece of the file's text, in octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    start: usize,
    end: usize,
}

impl Place {
    /// The value's place; the file's beginning where the reader knows none.
    pub fn of<T>(value: &Spanned<T>) -> Self {
        Self::spanned(&value.referenced).unwrap_or_default()
    }

    /// So many octets from one on.
    pub fn at(start: usize, len: usize) -> Self {
        Self { start, end: start + len }
    }

    /// Where the reader failed. Its scanner knows line and column only.
    pub fn of_failure(location: &Location, text: &str) -> Self {
        let by_line = || {
            let line = usize::try_from(location.line()).ok()?.checked_sub(1)?;
            let column = usize::try_from(location.column()).ok()?.checked_sub(1)?;
            let lines = text.split_inclusive('\n');
            let start = lines.clone().take(line).map(str::len).sum::<usize>();
            let start = start + lines.clone().nth(line)?.chars().take(column).map(char::len_utf8).sum::<usize>();
            Some(Self { start, end: start })
        };
        Self::spanned(location).or_else(by_line).unwrap_or(Self { start: text.len(), end: text.len() })
    }

    fn spanned(location: &Location) -> Option<Self> {
        let octets = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok());
        let start = octets(location.span().byte_offset())?;
        Some(Self { start, end: start + octets(location.span().byte_len()).unwrap_or(0) })
    }

    /// Where it begins in the text, on a character's boundary.
    pub fn start_in(&self, text: &str) -> usize {
        text.floor_char_boundary(self.start.min(text.len()))
    }

    fn range(&self, text: &str) -> Range<usize> {
        let start = self.start_in(text);
        let end = text.ceil_char_boundary(self.end.min(text.len()));
        let line_end = text[start..].find(['\n', '\r']).map_or(text.len(), |n| start + n);
        // A value of several lines is pointed at by its first one, an empty one by the word that begins there.
        let word = || text[start..line_end].find([':', ' ', ',']).map_or(line_end, |n| start + n);
        start..if end > start { end.min(line_end) } else { word().max(start) }
    }
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    severity: Severity,
    title: String,
    place: Place,
    label: String,
    related: Vec<(Place, String)>,
    help: Option<String>,
}

impl Finding {
    /// Something wrong at a place.
    pub fn error(place: Place, title: impl Into<String>) -> Self {
        Self::new(Severity::Error, place, title.into())
    }

    /// Something doubtful at a place.
    pub fn warning(place: Place, title: impl Into<String>) -> Self {
        Self::new(Severity::Warning, place, title.into())
    }

    fn new(severity: Severity, place: Place, title: String) -> Self {
        Self { severity, title, place, label: String::new(), related: Vec::new(), help: None }
    }

    /// Words under the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Another place that has to do with it.
    #[must_use]
    pub fn related(mut self, place: Place, label: impl Into<String>) -> Self {
        self.related.push((place, label.into()));
        self
    }

    /// What to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong, in one line.
    pub fn title(&self) -> &str {
        &self.title
    }
}

/// Everything found in one file. `Display` prints a report in the manner of a good compiler, without colours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics {
    name: Arc<str>,
    text: Arc<str>,
    findings: Vec<Finding>,
}

impl Diagnostics {
    /// Findings about `text`, ordered by place. `name` is the file's name.
    pub fn new(name: &str, text: &str, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| (finding.place, std::cmp::Reverse(finding.severity)));
        Self { name: name.into(), text: text.into(), findings }
    }

    /// Everything found, in the order of the file.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// How many findings are of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Line and column of a finding, both from 1; columns count characters.
    pub fn line_and_column(&self, finding: &Finding) -> (usize, usize) {
        let before = &self.text[..finding.place.range(&self.text).start];
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The whole report, with a line that counts at its end; empty where nothing was found.
    pub fn render(&self, style: Style) -> String {
        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Coloured => Renderer::styled(),
        };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut report = String::new();
        for finding in self.findings.iter().take(PRINTED) {
            report += &self.report(finding, &renderer);
            report += "\n\n";
        }
        if self.findings.len() > PRINTED {
            report += &format!("... and {} more\n\n", self.findings.len() - PRINTED);
        }
        if !self.is_empty() {
            report += &self.summary();
            report += "\n";
        }
        report
    }

    fn summary(&self) -> String {
        let counted = |n: usize, what| match n {
            1 => format!("1 {what}"),
            _ => format!("{n} {what}s"),
        };
        let errors = counted(self.count(Severity::Error), "error");
        format!("{}: {errors}, {}", self.name, counted(self.count(Severity::Warning), "warning"))
    }

    fn report(&self, finding: &Finding, renderer: &Renderer) -> String {
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let places: Vec<_> = std::iter::once(&finding.place)
            .chain(finding.related.iter().map(|(place, _)| place))
            .map(|place| place.range(&self.text))
            .collect();
        let window = self.window(&places);
        let inside = |range: &Range<usize>| range.start - window.start..range.end - window.start;
        let label = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let primary = AnnotationKind::Primary.span(inside(&places[0])).label(label(&finding.label));
        let related = finding.related.iter().zip(&places[1..]);
        let snippet = Snippet::source(&self.text[window.clone()])
            .path(&*self.name)
            .line_start(self.text[..window.start].matches('\n').count() + 1)
            .annotation(primary)
            .annotations(
                related.map(|((_, text), place)| AnnotationKind::Context.span(inside(place)).label(label(text))),
            );
        let group = level.primary_title(&*finding.title).element(snippet);
        let help = finding.help.as_deref().map(annotate_snippets::normalize_untrusted_str);
        let group = group.elements(help.map(|help| Level::HELP.message(help)));
        renderer.render(&[group])
    }

    /// The lines from the first to the last of these places: what a report costs must not grow with the file.
    fn window(&self, places: &[Range<usize>]) -> Range<usize> {
        let first = places.iter().map(|range| range.start).min().unwrap_or(0);
        let last = places.iter().map(|range| range.end).max().unwrap_or(0);
        let start = self.text[..first].rfind('\n').map_or(0, |n| n + 1);
        start..self.text[last..].find('\n').map_or(self.text.len(), |n| last + n)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(start: usize, end: usize) -> Place {
        Place { start, end }
    }

    #[test]
    fn places_outside_the_text_or_inside_a_character_do_not_panic() {
        let text = "ä: 1\nb: 2";
        for start in 0..20 {
            for end in 0..20 {
                let finding = Finding::error(place(start, end), "t").related(place(end, start), "r").help("h");
                let found = Diagnostics::new("f.yaml", text, vec![finding]);
                assert!(found.to_string().ends_with("f.yaml: 1 error, 0 warnings\n"));
            }
        }
    }

    #[test]
    fn an_empty_file_can_be_wrong_too() {
        let found = Diagnostics::new("f.yaml", "", vec![Finding::error(Place::default(), "nothing here")]);
        assert!(found.to_string().starts_with("error: nothing here\n"), "{found}");
        assert!(found.to_string().contains("f.yaml:1:1"), "{found}");
    }

    #[test]
    fn the_order_is_that_of_the_file_and_the_flood_is_dammed() {
        let findings = (0..60).rev().map(|n| Finding::warning(place(n * 5, n * 5 + 1), format!("w{n}"))).collect();
        let found = Diagnostics::new("f.yaml", &"a: 1\n".repeat(60), findings);
        let report = found.to_string();
        assert!(report.starts_with("warning: w0\n"), "{report}");
        assert!(report.contains("... and 10 more"));
        assert!(report.ends_with("f.yaml: 0 errors, 60 warnings\n"));
        assert_eq!(found.line_and_column(&found.findings()[7]), (8, 1));
    }
}
