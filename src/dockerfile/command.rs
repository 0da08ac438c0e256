use std::ops::Range;

use super::lines::Logical;
use super::split::{self, Flag};
use super::{CommandLine, Word};
use crate::source::{Diagnostic, Span};

/// An instruction, cut into keyword, flags and the rest; the meaning of the rest depends on the keyword.
#[derive(Debug)]
pub(super) struct Command<'a> {
    pub line: &'a Logical,
    /// The keyword as written.
    pub keyword: Range<usize>,
    pub flags: Vec<Flag>,
    /// What follows the flags, without white space at either end.
    pub rest: Range<usize>,
}

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlagKind {
    /// A value.
    Value,
    /// A value, and it may come several times.
    Values,
    /// `true`, `false`, or nothing, which is `true`.
    Bool,
    /// It is known, and refused for this reason.
    Refused(&'static str),
}

impl<'a> Command<'a> {
    pub fn new(line: &'a Logical) -> Self {
        Self::within(line, 0..line.text.len())
    }

    /// Returns the instruction that is the rest of this one, as in ONBUILD.
    pub fn inner(&self) -> Self {
        Self::within(self.line, self.rest.clone())
    }

    /// Returns the rest, which begins with a word of its own and has no flags, as in HEALTHCHECK.
    pub fn inner_plain(&self) -> Self {
        let (keyword, rest) = split::keyword(&self.line.text, self.rest.clone());
        Command { line: self.line, keyword, flags: Vec::new(), rest }
    }

    fn within(line: &'a Logical, range: Range<usize>) -> Self {
        let (keyword, rest) = split::keyword(&line.text, range);
        let (flags, rest) = split::flags(&line.text, rest);
        Command { line, keyword, flags, rest }
    }

    /// Returns all of it, from the keyword on.
    pub fn whole(&self) -> Range<usize> {
        split::trim(&self.line.text, self.keyword.start..self.line.text.len())
    }

    /// Returns the keyword as written.
    pub fn keyword(&self) -> &str {
        &self.line.text[self.keyword.clone()]
    }

    pub fn keyword_span(&self) -> Span {
        self.line.place(self.keyword.clone())
    }

    /// Returns what follows the flags.
    pub fn rest(&self) -> &str {
        &self.line.text[self.rest.clone()]
    }

    /// Returns where the rest is written; the keyword, where there is no rest.
    pub fn rest_span(&self) -> Span {
        if self.rest.is_empty() { self.keyword_span() } else { self.line.place(self.rest.clone()) }
    }

    pub fn word(&self, range: Range<usize>) -> Word {
        Word { text: self.line.text[range.clone()].into(), span: self.line.place(range) }
    }

    /// Returns the rest as one word.
    ///
    /// # Errors
    /// There is nothing.
    pub fn only_word(&self, what: &str) -> Result<Word, Diagnostic> {
        if self.rest.is_empty() { Err(self.needs(what)) } else { Ok(self.word(self.rest.clone())) }
    }

    /// Returns the words of the rest, parted by white space alone.
    pub fn plain_words(&self) -> Vec<Word> {
        split::by_blanks(&self.line.text, self.rest.clone()).into_iter().map(|range| self.word(range)).collect()
    }

    /// Returns the words of the rest, parted by white space outside of quotes.
    pub fn quoted_words(&self, escape: char) -> Vec<(Word, Range<usize>)> {
        split::quoted_words(&self.line.text, self.rest.clone(), escape)
            .into_iter()
            .map(|(text, range)| (Word { text, span: self.line.place(range.clone()) }, range))
            .collect()
    }

    /// Returns the strings of the rest if that is a JSON array of them.
    ///
    /// # Errors
    /// It is a JSON array, but not of strings.
    pub fn json(&self) -> Result<Option<Vec<String>>, Diagnostic> {
        if !self.rest().starts_with('[') {
            return Ok(None);
        }
        let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(self.rest()) else { return Ok(None) };
        let strings = values.into_iter().map(|value| match value {
            serde_json::Value::String(text) => Some(text),
            _ => None,
        });
        strings.collect::<Option<Vec<String>>>().map(Some).ok_or_else(|| {
            Diagnostic::error("a JSON array here may hold strings only")
                .at(self.rest_span())
                .hint("put quotes around each element")
        })
    }

    /// Returns the words of a JSON array, or else those parted by white space.
    ///
    /// # Errors
    /// It is a JSON array, but not of strings.
    pub fn list(&self) -> Result<Vec<Word>, Diagnostic> {
        Ok(match self.json()? {
            Some(strings) => strings.into_iter().map(|text| Word { text, span: self.rest_span() }).collect(),
            None => self.plain_words(),
        })
    }

    /// Returns the command: a JSON array is a program and its arguments, all else is for the shell.
    ///
    /// # Errors
    /// It is a JSON array, but not of strings.
    pub fn command_line(&self, found: &mut Vec<Diagnostic>) -> Result<CommandLine, Diagnostic> {
        if let Some(args) = self.json()? {
            return Ok(CommandLine::Exec(args));
        }
        let rest = self.rest();
        let quoted = rest.strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with(['\'', '"', '“', '”']));
        if quoted && rest.ends_with(']') {
            found.push(
                Diagnostic::warning("this is not JSON, so it is read as a text for the shell")
                    .at(self.rest_span())
                    .hint("JSON strings stand in double quotes, with a comma between them"),
            );
        }
        Ok(CommandLine::Shell(rest.into()))
    }

    /// Checks all flags against those that the instruction has: `known`.
    pub fn check_flags(&self, known: &[(&str, FlagKind)], found: &mut Vec<Diagnostic>) {
        let keyword = self.keyword().to_ascii_uppercase();
        for (index, flag) in self.flags.iter().enumerate() {
            let span = self.line.place(flag.range.clone());
            let name = &flag.name;
            let kind = known.iter().find(|(other, _)| other == name).map(|(_, kind)| *kind);
            let twice = || self.flags[..index].iter().any(|before| before.name == *name);
            match (kind, flag.value.as_deref()) {
                (None, _) => {
                    let names = || known.iter().map(|(name, _)| *name);
                    let hint = match super::suggest::closest(name, names()) {
                        Some(name) => format!("did you mean `--{name}`?"),
                        None if known.is_empty() => format!("{keyword} has no flags"),
                        None => {
                            let names: Vec<&str> = names().collect();
                            format!("the flags of {keyword} are: --{}", names.join(", --"))
                        }
                    };
                    found.push(Diagnostic::error(format!("unknown flag `--{name}` of {keyword}")).at(span).hint(hint));
                }
                (Some(FlagKind::Refused(why)), _) => {
                    found.push(Diagnostic::error(format!("`{keyword} --{name}` is not allowed")).at(span).hint(why));
                }
                (Some(FlagKind::Value | FlagKind::Bool), _) if twice() => {
                    found.push(Diagnostic::error(format!("the flag `--{name}` is given twice")).at(span));
                }
                (Some(FlagKind::Value | FlagKind::Values), None) => {
                    found.push(
                        Diagnostic::error(format!("the flag `--{name}` needs a value"))
                            .at(span)
                            .hint(format!("write `--{name}=…`")),
                    );
                }
                (Some(FlagKind::Bool), Some(value)) if switch(value).is_none() => {
                    let message = format!("the flag `--{name}` is true or false, not `{value}`");
                    found.push(Diagnostic::error(message).at(span));
                }
                (Some(_), _) => {}
            }
        }
    }

    /// Returns the value of the flag `name`; `None` where that is empty.
    pub fn flag(&self, name: &str) -> Option<Word> {
        self.flag_values(name).next().filter(|word| !word.text.is_empty())
    }

    /// Returns the values of the flag `name`, in order.
    pub fn flag_values(&self, name: &str) -> impl Iterator<Item = Word> {
        let flags = self.flags.iter().filter(move |flag| flag.name == name);
        flags.filter_map(|flag| {
            Some(Word { text: flag.value.clone()?, span: self.line.place(flag.value_range.clone()) })
        })
    }

    /// Returns "true" or "false" for the flag `name`.
    pub fn flag_switch(&self, name: &str) -> Option<Word> {
        let flag = self.flags.iter().find(|flag| flag.name == name)?;
        let on = switch(flag.value.as_deref().unwrap_or("true"))?;
        Some(Word { text: on.to_string(), span: self.line.place(flag.range.clone()) })
    }

    /// Returns the error that something is missing.
    pub fn needs(&self, what: &str) -> Diagnostic {
        Diagnostic::error(format!("{} needs {what}", self.keyword().to_ascii_uppercase())).at(self.rest_span())
    }
}

/// Returns what the value of a flag says that is on or off.
fn switch(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}
