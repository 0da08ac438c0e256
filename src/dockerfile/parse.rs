use std::collections::HashSet;

use super::command::Command;
use super::lines::Lines;
use super::{Dockerfile, Instruction, Spanned, Stage, heredoc, instruction};
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
        let Some(heredocs) = heredoc::bodies(&mut lines, &command, &mut found) else { break };
        if keyword == "FROM" {
            let stage = instruction::from(&command, &mut found);
            warn_of_duplicate(&stage, &mut names, &mut found);
            stages.push(stage);
            continue;
        }
        let Some(stage) = stages.last_mut() else {
            if keyword == "ARG" {
                command.check_flags(&[], &mut found);
                match instruction::args(&command, escape) {
                    Ok(args) => global_args.extend(args),
                    Err(error) => found.push(error),
                }
            } else if let Some(value) = instruction::read(&command, heredocs, escape, &mut found) {
                // One error is enough: the first FROM is missing, not one for each line.
                misplaced.get_or_insert((value.keyword(), command.keyword_span(), found.len()));
            }
            continue;
        };
        if let Some(value) = instruction::read(&command, heredocs, escape, &mut found) {
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

/// Returns the instruction in `text`, a trigger (ONBUILD) of a stage or an image. All of it is said to be at `span`: the text is not
/// the file that is built.
///
/// # Errors
/// All errors of the text.
pub fn parse_trigger(text: &str, span: Span) -> Result<Spanned<Instruction>, Vec<Diagnostic>> {
    let mut lines = Lines::of_trigger(text, span);
    let mut found = Vec::new();
    let mut trigger = None;
    while let Some(line) = lines.instruction(&mut found) {
        if trigger.is_some() {
            found.push(Diagnostic::error("a trigger is one instruction, not several").at(span));
            break;
        }
        let command = Command::new(&line);
        let Some(heredocs) = heredoc::bodies(&mut lines, &command, &mut found) else { break };
        let value = instruction::read_trigger(&command, heredocs, &mut found);
        trigger = value.map(|value| Spanned { value, span, text: line.text.trim().to_owned() });
    }
    found.retain(is_error);
    match trigger {
        Some(trigger) if found.is_empty() => Ok(trigger),
        None if found.is_empty() => Err(vec![Diagnostic::error("a trigger has no instruction").at(span)]),
        _ => Err(found),
    }
}

fn is_error(diagnostic: &Diagnostic) -> bool {
    diagnostic.severity == Severity::Error
}

fn warn_of_duplicate(stage: &Stage, names: &mut HashSet<String>, found: &mut Vec<Diagnostic>) {
    let Some(name) = &stage.name else { return };
    if !names.insert(name.value.clone()) {
        found.push(
            Diagnostic::warning(format!("there is a stage named `{}` already", name.value))
                .at(name.span)
                .hint("the later one is meant from here on")
                .rule("DuplicateStageName"),
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
                    Diagnostic::warning(message).at(span).rule("MultipleInstructionsDisallowed")
                }));
            }
        }
    }
}
