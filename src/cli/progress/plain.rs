use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::{View, head};
use crate::cli::text::{duration, size, visible};
use crate::progress::{Event, StepId};

/// How often a transfer that goes on is told.
const EVERY: Duration = Duration::from_secs(3);

/// Lines for a log: each stands for itself, none is ever changed, and there are no escape sequences.
///
/// ```text
/// #3 [construct 3/4] RUN dotnet publish
/// #3 0.312 Determining projects to restore...
/// #3 DONE 1.2s
/// ```
#[derive(Debug, Default)]
pub struct Plain {
    steps: HashMap<StepId, Step>,
    /// When each transfer was told last.
    transfers: HashMap<String, Duration>,
}

#[derive(Debug, Default)]
struct Step {
    head: String,
    started: Option<Duration>,
    cached: bool,
}

impl Plain {
    fn step(&mut self, id: StepId) -> &mut Step {
        self.steps.entry(id).or_default()
    }

    /// Writes the line of a step that does something for the first time.
    fn begin(&mut self, at: Duration, id: StepId, out: &mut String) -> &mut Step {
        let step = self.step(id);
        if step.started.is_none() {
            step.started = Some(at);
            let _ = writeln!(out, "{}", format!("{} {}", number(id), step.head).trim_end());
        }
        step
    }
}

impl View for Plain {
    fn event(&mut self, at: Duration, event: &Event, out: &mut String) {
        let _ = match event {
            Event::Planned { step, platform, stage, position, text, line: _ } => {
                self.step(*step).head = head(platform.as_deref(), stage, *position, text);
                Ok(())
            }
            Event::Started { step } => {
                self.begin(at, *step, out);
                Ok(())
            }
            Event::Cached { step } => {
                self.begin(at, *step, out).cached = true;
                writeln!(out, "{} CACHED", number(*step))
            }
            Event::Missed { step, reasons } => {
                self.begin(at, *step, out);
                let line = |reason: &String| writeln!(out, "{} MISS {}", number(*step), visible(reason));
                reasons.iter().try_for_each(line)
            }
            Event::Output { .. } => Ok(()),
            Event::Transfer { what, done, total } => {
                let first = *self.transfers.entry(what.clone()).or_insert(at);
                let complete = *total == Some(*done);
                if complete {
                    self.transfers.remove(what);
                } else if at.saturating_sub(first) < EVERY {
                    return;
                } else {
                    self.transfers.insert(what.clone(), at);
                }
                match total {
                    Some(total) if !complete => {
                        writeln!(out, "{}: {} of {}", visible(what), size(*done), size(*total))
                    }
                    _ => writeln!(out, "{}: {}", visible(what), size(*done)),
                }
            }
            Event::Warning { message, line: Some(line) } => {
                writeln!(out, "warning: line {line}: {}", visible(message))
            }
            Event::Warning { message, line: None } => writeln!(out, "warning: {}", visible(message)),
            Event::Finding { rule, message, hint, file, line } => {
                let rule = rule.map(|rule| format!("{rule}: ")).unwrap_or_default();
                let line = line.map(|line| format!(":{line}")).unwrap_or_default();
                let hint = hint.iter().map(|hint| format!("\n  = hint: {}", visible(hint))).collect::<String>();
                writeln!(out, "warning: {rule}{} ({}{line}){hint}", visible(message), visible(file))
            }
            Event::Finished { step, took, ok } => {
                if std::mem::take(&mut self.begin(at, *step, out).cached) {
                    return;
                }
                writeln!(out, "{} {} {}", number(*step), if *ok { "DONE" } else { "FAILED" }, duration(*took))
            }
            Event::Again { step, took } => {
                self.begin(at, *step, out);
                writeln!(out, "{} AGAIN {}", number(*step), duration(*took))
            }
            Event::Isolation { mode } => writeln!(out, "isolation: {}", visible(mode)),
            Event::Exported { what, digest: Some(digest) } => {
                writeln!(out, "exported {} {}", visible(what), visible(digest))
            }
            Event::Exported { what, digest: None } => writeln!(out, "exported {}", visible(what)),
        };
    }

    fn line(&mut self, at: Duration, id: StepId, line: &str, out: &mut String) {
        let started = self.begin(at, id, out).started.unwrap_or(at);
        let since = at.saturating_sub(started).as_secs_f64();
        let _ = writeln!(out, "{}", format!("{} {since:.3} {line}", number(id)).trim_end());
    }
}

/// People count steps from 1.
fn number(StepId(step): StepId) -> String {
    format!("#{}", step.saturating_add(1))
}
