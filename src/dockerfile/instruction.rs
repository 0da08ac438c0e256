//! What each instruction looks like.

use super::command::{Command, FlagKind};
use super::{
    AddFlags, Arg, CommandLine, Copy, CopySource, Healthcheck, Heredoc, Instruction, OnBuild, Pair, Run, Spanned,
    Stage, Word, duration, heredoc,
};
use crate::source::{Diagnostic, Severity};

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
    command.check_flags(&[("platform", FlagKind::Value)], found);
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
    Stage { from, platform: command.flag("platform"), name, span: command.line.whole(), instructions: Vec::new() }
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
                .hint("choose another name")
                .rule("ReservedStageName"),
        );
    }
    Some(Spanned { value: name, span: word.span, text: word.text.clone() })
}

const COPY_FLAGS: [(&str, FlagKind); 6] = [
    ("from", FlagKind::Value),
    ("chown", FlagKind::Value),
    ("chmod", FlagKind::Value),
    ("link", FlagKind::Bool),
    ("parents", FlagKind::Bool),
    ("exclude", FlagKind::Values),
];

const ADD_FLAGS: [(&str, FlagKind); 7] = [
    ("chown", FlagKind::Value),
    ("chmod", FlagKind::Value),
    ("link", FlagKind::Bool),
    ("exclude", FlagKind::Values),
    ("keep-git-dir", FlagKind::Bool),
    ("checksum", FlagKind::Value),
    ("unpack", FlagKind::Bool),
];

const RUN_FLAGS: [(&str, FlagKind); 4] = [
    ("mount", FlagKind::Values),
    ("network", FlagKind::Value),
    ("security", FlagKind::Value),
    ("device", FlagKind::Refused("a step never sees devices of this machine")),
];

const HEALTHCHECK_FLAGS: [(&str, FlagKind); 5] = [
    ("interval", FlagKind::Value),
    ("timeout", FlagKind::Value),
    ("start-period", FlagKind::Value),
    ("start-interval", FlagKind::Value),
    ("retries", FlagKind::Value),
];

/// Returns what an instruction other than FROM says; `None` where it cannot be read, and `found` says why. `heredocs` are its
/// here-documents.
pub(super) fn read(
    command: &Command<'_>,
    heredocs: Vec<Heredoc>,
    escape: char,
    found: &mut Vec<Diagnostic>,
) -> Option<Instruction> {
    let keyword = command.keyword().to_ascii_uppercase();
    let errors = found.len();
    let read = match keyword.as_str() {
        "COPY" => {
            command.check_flags(&COPY_FLAGS, found);
            copy(command, heredocs, None)
        }
        "ADD" => {
            command.check_flags(&ADD_FLAGS, found);
            let add = AddFlags {
                keep_git_dir: command.flag_switch("keep-git-dir"),
                checksum: command.flag("checksum"),
                unpack: command.flag_switch("unpack"),
            };
            copy(command, heredocs, Some(add))
        }
        "RUN" => {
            command.check_flags(&RUN_FLAGS, found);
            run(command, heredocs, found)
        }
        "HEALTHCHECK" => {
            command.check_flags(&HEALTHCHECK_FLAGS, found);
            healthcheck(command, found)
        }
        "ONBUILD" => {
            command.check_flags(&[], found);
            return on_build(command, heredocs, found);
        }
        _ => {
            command.check_flags(&[], found);
            plain(&keyword, command, escape, found)
        }
    };
    match read {
        Ok(instruction) if found[errors..].iter().all(|one| one.severity != Severity::Error) => Some(instruction),
        Ok(_) => None,
        Err(error) => {
            found.push(error);
            None
        }
    }
}

/// Returns what the instruction in an ONBUILD says. Such an instruction is read with `\`, whatever the file says.
pub(super) fn read_trigger(
    command: &Command<'_>,
    heredocs: Vec<Heredoc>,
    found: &mut Vec<Diagnostic>,
) -> Option<Instruction> {
    let keyword = command.keyword().to_ascii_uppercase();
    if matches!(keyword.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
        let error = Diagnostic::error(format!("{keyword} cannot be the instruction of an ONBUILD"));
        found.push(error.at(command.keyword_span()));
        return None;
    }
    read(command, heredocs, '\\', found)
}

/// ONBUILD: another instruction.
fn on_build(command: &Command<'_>, heredocs: Vec<Heredoc>, found: &mut Vec<Diagnostic>) -> Option<Instruction> {
    if command.rest.is_empty() {
        found.push(command.needs("an instruction"));
        return None;
    }
    let inner = command.inner();
    let mut trigger = command.line.text[command.rest.start..].to_owned();
    for Heredoc { name, body, .. } in &heredocs {
        trigger.extend(["\n", body, name]);
    }
    let value = read_trigger(&inner, heredocs, found)?;
    let whole = inner.whole();
    let text = command.line.text[whole.clone()].to_owned();
    let instruction = Box::new(Spanned { value, span: command.line.place(whole), text });
    Some(Instruction::OnBuild(OnBuild { trigger, instruction }))
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
                    .hint("write LABEL org.opencontainers.image.authors=…")
                    .rule("MaintainerDeprecated"),
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
fn run(command: &Command<'_>, heredocs: Vec<Heredoc>, found: &mut Vec<Diagnostic>) -> Result<Instruction, Diagnostic> {
    let network = command.flag("network");
    one_of(&network, "network", &["default", "none", "host"], found);
    let security = command.flag("security");
    match &security {
        Some(word) if word.text == "insecure" => found.push(
            Diagnostic::error("`--security=insecure` is not allowed")
                .at(word.span)
                .hint("a step never has more rights than the user who builds"),
        ),
        _ => one_of(&security, "security", &["sandbox"], found),
    }
    let line = match command.command_line(found)? {
        CommandLine::Exec(args) if args.is_empty() => return Err(command.needs("a command")),
        CommandLine::Shell(text) if text.is_empty() => return Err(command.needs("a command")),
        line => line,
    };
    let mounts = command.flag_values("mount").collect();
    Ok(Instruction::Run(Run { command: line, heredocs, mounts, network, security }))
}

/// Checks that the value of a flag is one of `values`.
fn one_of(word: &Option<Word>, flag: &str, values: &[&str], found: &mut Vec<Diagnostic>) {
    let Some(word) = word else { return };
    if !values.contains(&word.text.as_str()) {
        let hint = super::suggest::did_you_mean(&word.text, values.iter().copied());
        let hint = hint.unwrap_or_else(|| format!("the values are: {}", values.join(", ")));
        found.push(Diagnostic::error(format!("`--{flag}={}` is unknown", word.text)).at(word.span).hint(hint));
    }
}

/// COPY and ADD: sources, and a destination.
fn copy(command: &Command<'_>, heredocs: Vec<Heredoc>, add: Option<AddFlags>) -> Result<Instruction, Diagnostic> {
    let is_json = matches!(command.json(), Ok(Some(_)));
    let mut words = command.list()?;
    if words.len() < 2 {
        return Err(command.needs("at least one source and a destination"));
    }
    let opening = |word: &Word| heredoc::opening(&word.text).filter(|_| !is_json);
    let destination = words.pop().unwrap_or_default();
    if opening(&destination).is_some() {
        return Err(Diagnostic::error("a here-document cannot be the destination").at(destination.span));
    }
    let (mut sources, mut inline) = (Vec::with_capacity(words.len()), Vec::new());
    for word in words {
        let Some(opening) = opening(&word) else {
            sources.push(CopySource::Path(word));
            continue;
        };
        // Of several of one name the last one counts.
        let Some(body) = heredocs.iter().rfind(|heredoc| heredoc.name == opening.name) else {
            let error = Diagnostic::error(format!("the here-document `{}` stands in quotes", opening.name));
            return Err(error.at(word.span).hint("quotes do not hold the words of COPY and ADD together"));
        };
        inline.push(CopySource::Heredoc(Heredoc { expand: opening.expand, chomp: opening.chomp, ..body.clone() }));
    }
    sources.extend(inline);
    let is_source = |heredoc: &Heredoc| {
        sources.iter().any(|source| matches!(source, CopySource::Heredoc(other) if other.name == heredoc.name))
    };
    if let Some(lost) = heredocs.iter().find(|heredoc| !is_source(heredoc)) {
        let error = Diagnostic::error(format!("the here-document `{}` is no source", lost.name));
        return Err(error.at(command.rest_span()).hint("its name has no white space in it or before it"));
    }
    Ok(Instruction::Copy(Copy {
        from: command.flag("from"),
        chown: command.flag("chown"),
        chmod: command.flag("chmod"),
        link: command.flag_switch("link"),
        parents: command.flag_switch("parents"),
        exclude: command.flag_values("exclude").collect(),
        sources,
        destination,
        add,
    }))
}

/// HEALTHCHECK: `CMD` and a command, or `NONE`.
fn healthcheck(command: &Command<'_>, found: &mut Vec<Diagnostic>) -> Result<Instruction, Diagnostic> {
    let inner = command.inner_plain();
    if command.rest.is_empty() {
        return Err(command.needs("CMD and a command, or NONE"));
    }
    let check = match inner.keyword().to_ascii_uppercase().as_str() {
        "NONE" if !inner.rest.is_empty() => {
            return Err(Diagnostic::error("HEALTHCHECK NONE takes nothing else").at(inner.rest_span()));
        }
        "NONE" => None,
        "CMD" => match inner.command_line(found)? {
            CommandLine::Exec(args) if args.is_empty() => return Err(command.needs("a command behind CMD")),
            CommandLine::Shell(text) if text.is_empty() => return Err(command.needs("a command behind CMD")),
            line => Some(line),
        },
        other => {
            let error = Diagnostic::error(format!("`{other}` is no kind of HEALTHCHECK")).at(inner.keyword_span());
            return Err(error.hint("write HEALTHCHECK CMD …, or HEALTHCHECK NONE"));
        }
    };
    let mut time = |name: &str| {
        let word = command.flag(name)?;
        duration::at_least_a_millisecond(&word.text)
            .map_err(|error| found.push(Diagnostic::error(format!("`--{name}`: {error}")).at(word.span)))
            .ok()
    };
    let mut health = Healthcheck {
        check,
        interval: time("interval").unwrap_or_default(),
        timeout: time("timeout").unwrap_or_default(),
        start_period: time("start-period").unwrap_or_default(),
        start_interval: time("start-interval").unwrap_or_default(),
        retries: 0,
    };
    if let Some(word) = command.flag("retries") {
        match word.text.parse::<i32>().ok().and_then(|retries| u32::try_from(retries).ok()) {
            Some(retries) => health.retries = retries,
            None => found.push(Diagnostic::error(format!("`{}` is not a number of retries", word.text)).at(word.span)),
        }
    }
    if health.check.is_none() && !command.flags.is_empty() {
        // Written out, it would have no effect: what is stored is NONE.
        health = Healthcheck { check: None, interval: 0, timeout: 0, start_period: 0, start_interval: 0, retries: 0 };
        let warning = Diagnostic::warning("HEALTHCHECK NONE has no use for its flags");
        found.push(warning.at(command.line.place(command.flags[0].range.clone())));
    }
    Ok(Instruction::Healthcheck(health))
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
