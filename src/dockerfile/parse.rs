use std::collections::HashSet;

use super::command::Command;
use super::heredoc::heredocs;
use super::lines::Lines;
use super::{Dockerfile, Spanned, Stage, instruction};
use crate::source::{Diagnostic, Severity, Source, Span};

/// A Dockerfile of more bytes is refused.
const LARGEST: usize = 64 << 20;

/// Returns what `source` says.
///
/// ```
/// use coracle::{dockerfile, source::Source};
/// let file = dockerfile::parse(&Source::new("Dockerfile", "FROM scratch\nCOPY a /\n")).unwrap();
/// assert_eq!(file.stages[0].instructions[0].value.keyword(), "COPY");
/// let errors = dockerfile::parse(&Source::new("Dockerfile", "FROM a\nRNU x\nCOPY y\n")).unwrap_err();
/// assert_eq!(errors.len(), 2);
/// ```
///
/// # Errors
/// All errors of the file, in its order. What BuildKit knows and coracle does not is one of them: nothing is skipped.
pub fn parse(source: &Source) -> Result<Dockerfile, Vec<Diagnostic>> {
    let text = source.text();
    if text.len() > LARGEST {
        return Err(vec![Diagnostic::error(format!("the file has more than {} MiB", LARGEST >> 20))]);
    }
    let mut found = Vec::new();
    if let Some(at) = text.find('\0') {
        found.push(Diagnostic::error("the file has a NUL byte: it is not a text").at(at..at + 1));
        return Err(found);
    }
    let mut lines = Lines::new(text);
    let mut global_args = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    let mut names = HashSet::new();
    let mut misplaced = None;
    while let Some(line) = lines.instruction(&mut found) {
        let escape = lines.directives.escape();
        let command = Command::new(&line);
        let keyword = command.keyword().to_ascii_uppercase();
        if skip_heredoc(&mut lines, &command, &keyword, &mut found) {
            continue;
        }
        if keyword == "FROM" {
            let stage = instruction::from(&command, &mut found);
            warn_of_duplicate(&stage, &mut names, &mut found);
            stages.push(stage);
            continue;
        }
        let Some(stage) = stages.last_mut() else {
            if keyword == "ARG" {
                command.check_flags(|_| None, &[], &mut found);
                match instruction::args(&command, escape) {
                    Ok(args) => global_args.extend(args),
                    Err(error) => found.push(error),
                }
            } else if let Some(value) = instruction::read(&command, escape, &mut found) {
                // One error is enough: the first FROM is missing, not one for each line.
                misplaced.get_or_insert((value.keyword(), command.keyword_span(), found.len()));
            }
            continue;
        };
        if let Some(value) = instruction::read(&command, escape, &mut found) {
            let text = line.text.trim().to_owned();
            stage.instructions.push(Spanned { value, span: line.whole(), text });
        }
    }
    if let Some((keyword, span, at)) = misplaced {
        let error = Diagnostic::error(format!("{keyword} before the first FROM")).at(span);
        found.insert(at, error.hint("only ARG may stand there"));
    } else if stages.is_empty() && !found.iter().any(is_error) {
        found.push(Diagnostic::error("there is no FROM").at(Span::new(text.len(), text.len())));
    }
    if found.iter().any(is_error) {
        found.retain(is_error);
        return Err(found);
    }
    warn_of_repetition(&stages, &mut found);
    found.sort_by_key(|one| one.span);
    Ok(Dockerfile { directives: lines.directives.finish(), global_args, stages, warnings: found })
}

fn is_error(diagnostic: &Diagnostic) -> bool {
    diagnostic.severity == Severity::Error
}

/// Refuses a here-document and skips its body. Returns whether there was one.
fn skip_heredoc(lines: &mut Lines<'_>, command: &Command<'_>, keyword: &str, found: &mut Vec<Diagnostic>) -> bool {
    let owner = match keyword {
        // ONBUILD holds an instruction of its own.
        "ONBUILD" => command.rest().split_whitespace().next().unwrap_or_default().to_ascii_uppercase(),
        keyword => keyword.into(),
    };
    if !matches!(owner.as_str(), "RUN" | "COPY" | "ADD") || matches!(command.json(), Ok(Some(_))) {
        return false;
    }
    let heredocs = heredocs(&command.line.text);
    let Some(first) = heredocs.first() else { return false };
    let start = command.line.text.find("<<").unwrap_or(command.rest.start);
    let length = command.line.text[start..].find(char::is_whitespace).unwrap_or(command.line.text.len() - start);
    let error = if matches!(keyword, "ONBUILD" | "ADD") {
        Diagnostic::error(format!("{keyword} is not supported yet")).at(command.keyword_span())
    } else {
        let span = command.line.place(start..start + length);
        Diagnostic::error("a here-document (`<<`) is not supported yet").at(span)
    };
    let ended = heredocs.iter().all(|heredoc| lines.skip_body(&heredoc.name, heredoc.chomp));
    found.push(if ended { error } else { error.hint(format!("and no line `{}` ends it", first.name)) });
    true
}

fn warn_of_duplicate(stage: &Stage, names: &mut HashSet<String>, found: &mut Vec<Diagnostic>) {
    let Some(name) = &stage.name else { return };
    if !names.insert(name.value.clone()) {
        found.push(
            Diagnostic::warning(format!("there is a stage named `{}` already", name.value))
                .at(name.span)
                .hint("the later one is meant from here on"),
        );
    }
}

/// Of several CMD or ENTRYPOINT in a stage only the last counts.
fn warn_of_repetition(stages: &[Stage], found: &mut Vec<Diagnostic>) {
    for stage in stages {
        for keyword in ["CMD", "ENTRYPOINT"] {
            let mut spans =
                stage.instructions.iter().filter(|it| it.value.keyword() == keyword).map(|it| it.span).rev();
            if spans.next().is_some() {
                found.extend(spans.map(|span| {
                    let message = format!("a later {keyword} of this stage replaces this one");
                    Diagnostic::warning(message).at(span)
                }));
            }
        }
    }
}
