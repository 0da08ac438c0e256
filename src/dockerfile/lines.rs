use std::ops::Range;

use super::directives::DirectiveReader;
use crate::source::{Diagnostic, Span};

/// An instruction with its continuation lines joined, and where each part of it is written.
#[derive(Debug, Default)]
pub(super) struct Logical {
    /// The joined text.
    pub text: String,
    /// For each part: where it starts in `text`, and where in the source.
    parts: Vec<(usize, usize)>,
    /// Where all of it is said to be: the text comes from elsewhere.
    elsewhere: Option<Span>,
}

impl Logical {
    /// Returns where the bytes `range` of the text are written.
    pub fn place(&self, range: Range<usize>) -> Span {
        if let Some(span) = self.elsewhere {
            return span;
        }
        let start = self.position(range.start, false);
        // The end belongs to the part of the last byte, not to the one that begins behind it.
        let end = if range.is_empty() { start } else { self.position(range.end, true) };
        Span { start, end }
    }

    /// Returns where all of it is written.
    pub fn whole(&self) -> Span {
        let trimmed = self.text.trim();
        let start = self.text.len() - self.text.trim_start().len();
        self.place(start..start + trimmed.len())
    }

    fn position(&self, at: usize, is_end: bool) -> usize {
        let index = self.parts.partition_point(|&(start, _)| if is_end { start < at } else { start <= at });
        let (start, written) = self.parts[index.saturating_sub(1)];
        written + (at - start)
    }

    fn push(&mut self, text: &str, written: usize) {
        if !text.is_empty() || self.parts.is_empty() {
            self.parts.push((self.text.len(), written));
            self.text.push_str(text);
        }
    }
}

/// Reads a Dockerfile line by line. A line ends with a line feed; carriage returns before it are dropped.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    text: &'a str,
    at: usize,
    elsewhere: Option<Span>,
    pub directives: DirectiveReader,
}

impl<'a> Lines<'a> {
    pub fn new(text: &'a str) -> Self {
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Lines { text, at, elsewhere: None, directives: DirectiveReader::default() }
    }

    /// Returns the lines of a text that is no part of the file and has no directives. All of it is said to be at `span`.
    pub fn of_trigger(text: &'a str, span: Span) -> Self {
        Lines { elsewhere: Some(span), directives: DirectiveReader::none(), ..Lines::new(text) }
    }

    /// Returns the next line and where it starts.
    fn physical(&mut self) -> Option<(&'a str, usize)> {
        if self.at >= self.text.len() {
            return None;
        }
        let start = self.at;
        let rest = &self.text[start..];
        let line = match rest.find('\n') {
            Some(length) => {
                self.at = start + length + 1;
                &rest[..length]
            }
            None => {
                self.at = self.text.len();
                rest
            }
        };
        Some((line.trim_end_matches('\r'), start))
    }

    /// Returns the next instruction, past comments and empty lines. Errors and warnings of what lies between go to
    /// `found`.
    pub fn instruction(&mut self, found: &mut Vec<Diagnostic>) -> Option<Logical> {
        loop {
            let (line, start) = self.physical()?;
            let trimmed = line.trim_start();
            let start = start + (line.len() - trimmed.len());
            self.directives.line(trimmed, start, found);
            if trimmed.starts_with('#') {
                continue;
            }
            let mut logical = Logical { elsewhere: self.elsewhere, ..Logical::default() };
            let (text, mut goes_on) = self.continued(trimmed);
            if text.is_empty() && !goes_on {
                continue;
            }
            logical.push(text, start);
            let mut empty_line = None;
            while goes_on {
                let Some((line, start)) = self.physical() else { break };
                let trimmed = line.trim_start();
                if trimmed.starts_with('#') {
                    continue;
                }
                if trimmed.is_empty() {
                    empty_line.get_or_insert(start);
                    continue;
                }
                let text;
                (text, goes_on) = self.continued(line);
                logical.push(text, start);
            }
            if let Some(at) = empty_line {
                found.push(
                    Diagnostic::warning("empty line inside an instruction")
                        .at(self.elsewhere.unwrap_or(Span::new(at, at)))
                        .hint("remove the line, or the continuation character before it")
                        .rule("NoEmptyContinuation"),
                );
            }
            if !logical.text.trim().is_empty() {
                return Some(logical);
            }
        }
    }

    /// Returns `line` without the escape character at its end, and whether there was one. A doubled one does not count.
    fn continued<'l>(&self, line: &'l str) -> (&'l str, bool) {
        let escape = self.directives.escape();
        match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
            Some(before) if !before.ends_with(escape) => (before, true),
            _ => (line, false),
        }
    }

    /// Returns the body of a here-document and where it is written, up to its `terminator`, which with `tabs` may be indented by
    /// tabs. `None`, and nothing is left, where it does not end.
    pub fn body(&mut self, terminator: &str, tabs: bool) -> Option<(&'a str, Span)> {
        let start = self.at;
        let mut end = start;
        while let Some((line, _)) = self.physical() {
            let line = if tabs { line.trim_start_matches('\t') } else { line };
            if line == terminator {
                return Some((&self.text[start..end], self.elsewhere.unwrap_or(Span::new(start, end))));
            }
            end = self.at;
        }
        None
    }
}
