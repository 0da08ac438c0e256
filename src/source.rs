//! Text with places: sources, spans and diagnostics.
//!
//! This room reads no file and prints nothing: it knows a text, where its lines are, and how to draw a message at a place.

use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// A range of bytes in a [`Source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte behind the last.
    pub end: usize,
}

/// A text that has a name: a Dockerfile.
#[derive(Debug, Clone)]
pub struct Source {
    name: String,
    text: String,
    line_starts: Vec<usize>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// It cannot go on.
    Error,
    /// It goes on, but the user should know.
    Warning,
}

/// Something to tell the user about a place in a [`Source`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: lower case, without a full stop.
    pub message: String,
    /// Where; `None` where there is no place, as for an option.
    pub span: Option<Span>,
    /// What to write under the place.
    pub label: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The check that found it; `None` where it is no matter of a check.
    pub rule: Option<&'static str>,
}

/// A line of the source is cut to about this many bytes around the place, so that a line of megabytes stays readable.
const LONGEST_LINE: usize = 400;

impl Span {
    /// Returns the span from `start` to before `end`.
    pub const fn new(start: usize, end: usize) -> Self {
        Span { start, end }
    }

    /// Returns the span from the start of this one to the end of `other`.
    pub fn to(self, other: Span) -> Self {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Span { start: range.start, end: range.end }
    }
}

impl Source {
    /// Returns `text` under `name`, which is shown to the user.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let line_starts = std::iter::once(0)
            .chain(text.bytes().enumerate().filter(|&(_, b)| b == b'\n').map(|(at, _)| at + 1))
            .collect();
        Source { name: name.into(), text, line_starts }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the number of the line that holds the byte `position`, from 1. Behind the end: the last line.
    pub fn line_of(&self, position: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= position.min(self.text.len()))
    }

    /// Returns the text of the line `number` (from 1), without its line end; empty where there is no such line.
    pub fn line_text(&self, number: usize) -> &str {
        if number == 0 || number > self.line_starts.len() { "" } else { &self.text[self.line(number)] }
    }

    /// Returns the bytes of line `number` (from 1), without its line end.
    fn line(&self, number: usize) -> Range<usize> {
        let start = self.line_starts[number - 1];
        let end = self.line_starts.get(number).map_or(self.text.len(), |next| next - 1);
        let end = start + self.text[start..end].trim_end_matches('\r').len();
        start..end
    }
}

impl Diagnostic {
    /// Returns an error.
    pub fn error(message: impl Into<String>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            message: message.into(),
            span: None,
            label: None,
            hint: None,
            rule: None,
        }
    }

    /// Returns a warning.
    pub fn warning(message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(message) }
    }

    /// Sets the place.
    #[must_use]
    pub fn at(mut self, span: impl Into<Span>) -> Self {
        self.span = Some(span.into());
        self
    }

    /// Sets what to write under the place.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Sets what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the check that found it.
    #[must_use]
    pub fn rule(mut self, rule: &'static str) -> Self {
        self.rule = Some(rule);
        self
    }

    /// Sets what to do about it, where there is something.
    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    /// Returns this as the user sees it, some lines without a line end behind the last. The place is that in `source`; of
    /// a place that spans several lines the first is shown. Control characters come out escaped. With `color`, there
    /// are ANSI colours.
    ///
    /// ```
    /// use coracle::source::{Diagnostic, Source, Span};
    /// let source = Source::new("Dockerfile", "FROM a\nRNU b\n");
    /// let error = Diagnostic::error("unknown instruction `RNU`").at(7..10).hint("did you mean `RUN`?");
    /// let shown = error.render(&source, false);
    /// assert!(shown.starts_with("error: unknown instruction `RNU`\n --> Dockerfile:2:1\n"));
    /// ```
    pub fn render(&self, source: &Source, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut title = level.primary_title(escaped(&self.message));
        if let Some(rule) = self.rule {
            title = title.id(rule);
        }
        let mut group = annotate_snippets::Group::with_title(title);
        if let Some(span) = self.span {
            let line = source.line_of(span.start);
            let (text, place) = shown_line(&source.text, source.line(line), span);
            let label = self.label.as_deref().map(escaped);
            group = group.element(
                Snippet::source(text)
                    .line_start(line)
                    .path(escaped(&source.name))
                    .annotation(AnnotationKind::Primary.span(place).label(label)),
            );
        }
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.with_name("hint").message(escaped(hint)));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

/// Returns what is shown of the line at `line`, and where `span` is in that.
fn shown_line(text: &str, line: Range<usize>, span: Span) -> (String, Range<usize>) {
    let start = floor(text, span.start.clamp(line.start, line.end));
    let end = floor(text, span.end.clamp(start, line.end));
    let mut from = line.start;
    let mut to = line.end;
    if line.len() > LONGEST_LINE {
        from = floor(text, start.saturating_sub(LONGEST_LINE / 4).max(line.start));
        to = floor(text, (from + LONGEST_LINE).min(line.end));
    }
    let end = end.min(to);
    let mut shown = String::new();
    if from > line.start {
        shown.push('…');
    }
    shown.push_str(&escaped_line(&text[from..start]));
    let first = shown.len();
    shown.push_str(&escaped_line(&text[start..end]));
    let last = shown.len();
    shown.push_str(&escaped_line(&text[end..to]));
    if to < line.end {
        shown.push('…');
    }
    (shown, first..last)
}

/// Returns the nearest character boundary at or before `at`.
fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Returns `text` without characters that a terminal obeys.
pub(crate) fn escaped(text: &str) -> String {
    escape(text, false)
}

fn escaped_line(text: &str) -> String {
    escape(text, true)
}

fn escape(text: &str, keep_tabs: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() && !(keep_tabs && c == '\t')) || is_bidi_control(c) {
            write!(out, "{}", c.escape_debug()).expect("writing to a string does not fail");
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that turn the direction of the text around them: they make a line read as what it is not.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests;
