//! What each instruction looks like.

use super::command::{Command, FlagKind};
use super::{Arg, CommandLine, Copy, Instruction, Pair, Spanned, Stage, Word};
use crate::source::Diagnostic;

/// All keywords of the language.
pub(super) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Returns the stage that FROM starts. Errors go to `found`; there is a stage even then, so that what follows has one.
pub(super) fn from(command: &Command<'_>, found: &mut Vec<Diagnostic>) -> Stage {
    let kind = |name: &str| (name == "platform").then_some(FlagKind::Unsupported);
    command.check_flags(kind, &["platform"], found);
    let words = command.plain_words();
    let name = match &words[..] {
        [_] => None,
        [_, word, name] if word.text.eq_ignore_ascii_case("as") => stage_name(name, found),
        [_, .., name] if words.len() == 2 => {
            let error = Diagnostic::error("FROM takes one word, or `image AS name`").at(name.span);
            let name = if name.text.eq_ignore_ascii_case("as") { "NAME" } else { &name.text };
            found.push(error.hint(format!("write `AS {name}` to name the stage")));
            None
        }
        _ => {
            found.push(Diagnostic::error("FROM takes one word, or `image AS name`").at(command.rest_span()));
            None
        }
    };
    let from = words.into_iter().next().unwrap_or_default();
    Stage { from, name, span: command.line.whole(), instructions: Vec::new() }
}

/// Returns the name of a stage in lower case, if it can be one.
fn stage_name(word: &Word, found: &mut Vec<Diagnostic>) -> Option<Spanned<String>> {
    let name = word.text.to_lowercase();
    let mut letters = name.bytes();
    let good = letters.next().is_some_and(|b| b.is_ascii_lowercase())
        && letters.all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'));
    if !good {
        found.push(
            Diagnostic::error(format!("`{}` cannot be the name of a stage", word.text))
                .at(word.span)
                .hint("a name starts with a letter; letters, digits, `-`, `_` and `.` follow"),
        );
        return None;
    }
    if matches!(name.as_str(), "scratch" | "context") {
        found.push(
            Diagnostic::warning(format!("the stage name `{name}` has a meaning of its own"))
                .at(word.span)
                .hint("choose another name"),
        );
    }
    Some(Spanned { value: name, span: word.span, text: word.text.clone() })
}

/// Returns what an instruction other than FROM says; `None` where it cannot be read, and `found` says why.
pub(super) fn read(command: &Command<'_>, escape: char, found: &mut Vec<Diagnostic>) -> Option<Instruction> {
    let keyword = command.keyword().to_ascii_uppercase();
    let errors = found.len();
    let read = match keyword.as_str() {
        "COPY" => {
            let kind = |name: &str| match name {
                "from" | "chown" | "chmod" => Some(FlagKind::Value),
                "link" | "parents" | "exclude" => Some(FlagKind::Unsupported),
                _ => None,
            };
            command.check_flags(kind, &["from", "chown", "chmod", "link", "parents", "exclude"], found);
            copy(command)
        }
        "RUN" => {
            let known = ["mount", "network", "security", "device"];
            command.check_flags(|name| known.contains(&name).then_some(FlagKind::Unsupported), &known, found);
            run(command, found)
        }
        "ADD" | "ONBUILD" | "HEALTHCHECK" => {
            Err(Diagnostic::error(format!("{keyword} is not supported yet")).at(command.keyword_span()))
        }
        _ => {
            command.check_flags(|_| None, &[], found);
            plain(&keyword, command, escape, found)
        }
    };
    match read {
        Ok(instruction) if found[errors..].iter().all(|one| one.severity != crate::source::Severity::Error) => {
            Some(instruction)
        }
        Ok(_) => None,
        Err(error) => {
            found.push(error);
            None
        }
    }
}

/// Returns what an instruction without flags says.
fn plain(
    keyword: &str,
    command: &Command<'_>,
    escape: char,
    found: &mut Vec<Diagnostic>,
) -> Result<Instruction, Diagnostic> {
    Ok(match keyword {
        "ARG" => Instruction::Arg(args(command, escape)?),
        "ENV" => Instruction::Env(pairs(command, escape)?),
        "LABEL" => Instruction::Label(pairs(command, escape)?),
        "WORKDIR" => Instruction::Workdir(command.only_word("a directory")?),
        "USER" => Instruction::User(command.only_word("a user")?),
        "STOPSIGNAL" => Instruction::StopSignal(command.only_word("a signal")?),
        "CMD" | "ENTRYPOINT" => {
            if command.rest.is_empty() {
                let warning =
                    Diagnostic::warning(format!("{keyword} without a command runs an empty text in the shell"));
                found.push(warning.at(command.keyword_span()).hint(format!("write {keyword} [] for none")));
            }
            let line = command.command_line(found)?;
            if keyword == "CMD" { Instruction::Cmd(line) } else { Instruction::Entrypoint(line) }
        }
        "MAINTAINER" => {
            found.push(
                Diagnostic::warning("MAINTAINER is deprecated")
                    .at(command.keyword_span())
                    .hint("write LABEL org.opencontainers.image.authors=…"),
            );
            Instruction::Maintainer(command.only_word("a name")?.text)
        }
        "EXPOSE" => Instruction::Expose(at_least_one(command, command.plain_words(), "a port")?),
        "VOLUME" => {
            let words = at_least_one(command, command.list()?, "a path")?;
            if let Some(empty) = words.iter().find(|word| word.text.trim().is_empty()) {
                return Err(Diagnostic::error("a path of VOLUME is empty").at(empty.span));
            }
            let trimmed = |word: Word| Word { text: word.text.trim().into(), ..word };
            Instruction::Volume(words.into_iter().map(trimmed).collect())
        }
        "SHELL" => match command.json()? {
            Some(shell) if !shell.is_empty() => Instruction::Shell(shell),
            Some(_) => return Err(command.needs("a program")),
            None => {
                return Err(Diagnostic::error("SHELL must be a JSON array")
                    .at(command.rest_span())
                    .hint("as in SHELL [\"/bin/bash\", \"-c\"]"));
            }
        },
        _ => {
            let error = Diagnostic::error(format!("unknown instruction `{}`", command.keyword()));
            let hint = super::suggest::did_you_mean(keyword, KEYWORDS);
            return Err(error.at(command.keyword_span()).maybe_hint(hint));
        }
    })
}

fn at_least_one(command: &Command<'_>, words: Vec<Word>, what: &str) -> Result<Vec<Word>, Diagnostic> {
    if words.is_empty() { Err(command.needs(what)) } else { Ok(words) }
}

/// RUN: a command must be there.
fn run(command: &Command<'_>, found: &mut Vec<Diagnostic>) -> Result<Instruction, Diagnostic> {
    match command.command_line(found)? {
        CommandLine::Exec(args) if args.is_empty() => Err(command.needs("a command")),
        CommandLine::Shell(text) if text.is_empty() => Err(command.needs("a command")),
        line => Ok(Instruction::Run(line)),
    }
}

fn copy(command: &Command<'_>) -> Result<Instruction, Diagnostic> {
    let mut words = command.list()?;
    if words.len() < 2 {
        return Err(command.needs("at least one source and a destination"));
    }
    let destination = words.pop().unwrap_or_default();
    Ok(Instruction::Copy(Copy {
        from: command.flag("from"),
        chown: command.flag("chown"),
        chmod: command.flag("chmod"),
        sources: words,
        destination,
    }))
}

/// The variables of ARG: each a name, or `name=default`.
pub(super) fn args(command: &Command<'_>, escape: char) -> Result<Vec<Arg>, Diagnostic> {
    let words = command.quoted_words(escape);
    if words.is_empty() {
        return Err(command.needs("the name of a variable"));
    }
    let arg = |(word, _): (Word, _)| match word.text.split_once('=') {
        Some(("", _)) => Err(Diagnostic::error("ARG without a name before `=`").at(word.span)),
        Some((name, default)) => Ok(Arg {
            name: name.into(),
            default: Some(Word { text: default.into(), span: word.span }),
            span: word.span,
        }),
        None => Ok(Arg { name: word.text, default: None, span: word.span }),
    };
    words.into_iter().map(arg).collect()
}

/// The pairs of ENV and LABEL: `name=value …`, or the old form `name value with spaces`.
fn pairs(command: &Command<'_>, escape: char) -> Result<Vec<Pair>, Diagnostic> {
    let words = command.quoted_words(escape);
    let Some((first, _)) = words.first() else { return Err(command.needs("a name and a value")) };
    if !first.text.contains('=') {
        let text = &command.line.text;
        let length = command.rest().find(super::split::is_blank).unwrap_or(command.rest.len());
        let name = command.rest.start..command.rest.start + length;
        let value = super::split::trim(text, name.end..command.rest.end);
        if value.is_empty() {
            return Err(command.needs("a value").hint(format!("write {}=…", first.text)));
        }
        return Ok(vec![Pair { name: command.word(name), value: command.word(value) }]);
    }
    let pair = |(word, range): (Word, std::ops::Range<usize>)| match word.text.split_once('=') {
        None => {
            let error = Diagnostic::error(format!("`{}` is not of the form name=value", word.text)).at(word.span);
            Err(error.hint("put quotes around a value with spaces"))
        }
        Some(("", _)) => Err(Diagnostic::error("there is no name before `=`").at(word.span)),
        Some((name, value)) => {
            // The place of the value; with an escape at its end the word is shorter than what is written.
            let start = (range.start + name.len() + 1).min(range.end);
            let value_span = command.line.place(start..range.end);
            let name_span = command.line.place(range.start..range.start + name.len());
            Ok(Pair {
                name: Word { text: name.into(), span: name_span },
                value: Word { text: value.into(), span: value_span },
            })
        }
    };
    words.into_iter().map(pair).collect()
}
