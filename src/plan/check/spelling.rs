//! Checks of how a Dockerfile is written, for which nothing need be known of its variables.

use super::comments;
use crate::dockerfile::{Arg, CommandLine, Dockerfile, Instruction, Pair};
use crate::source::{Diagnostic, Source, Span};

/// Adds what is found to `found`.
pub(super) fn check(source: &Source, file: &Dockerfile, found: &mut Vec<Diagnostic>) {
    keyword_casing(source, file, found);
    for stage in &file.stages {
        from(source, stage, found);
        healthchecks(stage, found);
        for instruction in &stage.instructions {
            let span = instruction.span;
            match &instruction.value {
                Instruction::Env(pairs) => {
                    legacy(source, "ENV", pairs, found);
                    found.extend(pairs.iter().filter_map(|pair| secret("ENV", &pair.name.text, pair.name.span)));
                }
                Instruction::Label(pairs) => legacy(source, "LABEL", pairs, found),
                Instruction::Arg(args) => {
                    found.extend(args.iter().filter_map(|arg| secret("ARG", &arg.name, arg.span)));
                    describe_args(source, args, span, found);
                }
                _ => {}
            }
        }
    }
    // Each is of one line or of several; of several ARGs in a line the first has the comments.
    let mut seen = usize::MAX;
    for (at, arg) in file.global_args.iter().enumerate() {
        let line = source.line_of(arg.span.start);
        if std::mem::replace(&mut seen, line) != line {
            let same = |other: &&Arg| source.line_of(other.span.start) == line;
            let args: Vec<Arg> = file.global_args[at..].iter().take_while(same).cloned().collect();
            describe_args(source, &args, arg.span, found);
        }
    }
}

/// Returns the keyword at `at`, as it is written.
fn keyword(source: &Source, at: usize) -> &str {
    source.text().get(at..).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default()
}

fn is_lower(word: &str) -> bool {
    word == word.to_ascii_lowercase()
}

fn is_upper(word: &str) -> bool {
    word == word.to_ascii_uppercase()
}

fn keyword_casing(source: &Source, file: &Dockerfile, found: &mut Vec<Diagnostic>) {
    let spans = file.stages.iter().flat_map(|stage| {
        std::iter::once(stage.span.start).chain(stage.instructions.iter().map(|instruction| instruction.span.start))
    });
    let words: Vec<(usize, &str)> = spans.map(|at| (at, keyword(source, at))).collect();
    let lower = words.iter().filter(|(_, word)| is_lower(word)).count();
    let upper = words.iter().filter(|(_, word)| is_upper(word)).count();
    let lower_wins = lower > upper;
    for (at, word) in words {
        let (good, case) = if lower_wins { (is_lower(word), "small letters") } else { (is_upper(word), "capitals") };
        if !good {
            let message = format!("the keyword `{word}` is not in {case}, as most of this file are");
            let fixed = if lower_wins { word.to_ascii_lowercase() } else { word.to_ascii_uppercase() };
            found.push(
                Diagnostic::warning(message)
                    .at(at..at + word.len())
                    .hint(format!("write `{fixed}`"))
                    .rule("ConsistentInstructionCasing"),
            );
        }
    }
}

fn from(source: &Source, stage: &crate::dockerfile::Stage, found: &mut Vec<Diagnostic>) {
    let Some(name) = &stage.name else { return };
    if name.text != name.value {
        found.push(
            Diagnostic::warning(format!("the stage name `{}` is not in small letters", name.text))
                .at(name.span)
                .hint(format!("write `{}`", name.value))
                .rule("StageNameCasing"),
        );
    }
    let from = keyword(source, stage.span.start);
    // The word in front of the name; where it is not found, a continuation line lies between.
    let before = source.text().get(..name.span.start).unwrap_or_default().trim_end();
    let word = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    if word.eq_ignore_ascii_case("as") {
        let wrong = if is_lower(from) { !is_lower(word) } else { is_upper(from) && !is_upper(word) };
        if wrong {
            let fixed = if is_lower(from) { "as" } else { "AS" };
            found.push(
                Diagnostic::warning(format!("`{word}` is not written in the case of its `{from}`"))
                    .at(before.len() - word.len()..before.len())
                    .hint(format!("write `{fixed}`"))
                    .rule("FromAsCasing"),
            );
        }
    }
    let comments = comments::above(source, stage.span.start);
    misdescribed("FROM", &[&name.text], &comments, stage.span, found);
}

/// A comment right above something that has a name is taken for its description.
fn misdescribed(keyword: &str, names: &[&str], comments: &[&str], span: Span, found: &mut Vec<Diagnostic>) {
    let Some(last) = comments.last() else { return };
    let first = last.split(' ').next().unwrap_or_default();
    if names.is_empty() || names.contains(&first) {
        return;
    }
    let name = if let [name] = names { name } else { "NAME" };
    found.push(
        Diagnostic::warning(format!("the comment above this {keyword} does not begin with the name that it describes"))
            .at(span)
            .hint(format!("write `# {name} …`, or put an empty line between them"))
            .rule("InvalidDefinitionDescription"),
    );
}

fn describe_args(source: &Source, args: &[Arg], span: Span, found: &mut Vec<Diagnostic>) {
    let names: Vec<&str> = args.iter().map(|arg| arg.name.as_str()).collect();
    misdescribed("ARG", &names, &comments::above(source, span.start), span, found);
}

/// `ENV name value with spaces`.
fn legacy(source: &Source, keyword: &str, pairs: &[Pair], found: &mut Vec<Diagnostic>) {
    let [pair] = pairs else { return };
    let between = source.text().get(pair.name.span.end..pair.value.span.start).unwrap_or("=");
    // With continuation lines between them the text between has a backslash, but no `=` either.
    if pair.value.span.start > pair.name.span.end && !between.contains('=') {
        found.push(
            Diagnostic::warning(format!("{keyword} in the old form `name value`"))
                .at(pair.name.span.to(pair.value.span))
                .hint(format!("write `{keyword} {}=…`, with quotes around a value with spaces", pair.name.text))
                .rule("LegacyKeyValueFormat"),
        );
    }
}

/// What words of a name say that it holds a secret.
const SECRETS: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

/// What words of a name say that it does not.
const NO_SECRETS: [&str; 3] = ["public", "file", "version"];

/// Returns a warning where `name` is that of a secret, by the words between its underscores.
fn secret(keyword: &str, name: &str, span: Span) -> Option<Diagnostic> {
    let has = |words: &[&str]| name.split('_').any(|word| words.iter().any(|other| other.eq_ignore_ascii_case(word)));
    (has(&SECRETS) && !has(&NO_SECRETS)).then(|| {
        Diagnostic::warning(format!("{keyword} `{name}`: a secret does not belong into the image or its history"))
            .at(span)
            .hint("give it to the RUN that needs it: RUN --mount=type=secret,id=…")
            .rule("SecretsUsedInArgOrEnv")
    })
}

/// Of several HEALTHCHECKs in a stage only the last counts. (CMD and ENTRYPOINT are looked at by the parser.)
fn healthchecks(stage: &crate::dockerfile::Stage, found: &mut Vec<Diagnostic>) {
    let all = stage.instructions.iter().filter(|it| it.value.keyword() == "HEALTHCHECK");
    let spans: Vec<Span> = all.map(|it| it.span).collect();
    for span in spans.iter().rev().skip(1) {
        found.push(
            Diagnostic::warning("a later HEALTHCHECK of this stage replaces this one")
                .at(*span)
                .rule("MultipleInstructionsDisallowed"),
        );
    }
}

/// Returns a warning for a CMD or ENTRYPOINT that a shell runs.
pub(super) fn shell_form(keyword: &str, line: &CommandLine, span: Span) -> Option<Diagnostic> {
    matches!(line, CommandLine::Shell(_)).then(|| {
        Diagnostic::warning(format!("{keyword} is run by a shell, which does not hand signals on to the program"))
            .at(span)
            .hint(format!("write {keyword} [\"program\", \"argument\"], or choose a shell with SHELL"))
            .rule("JSONArgsRecommended")
    })
}
