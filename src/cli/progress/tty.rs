use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::screen::{Line, Look};
use super::{View, head};
use crate::cli::text::{beginning, duration, size, visible};
use crate::progress::{Event, StepId};

/// How many lines of a running step are shown at most.
const SHOWN: usize = 6;
/// No more of a line is kept than any terminal shows, in bytes.
const LONGEST: usize = 4096;
/// A transfer that took less leaves no line.
const WORTH_A_LINE: Duration = Duration::from_millis(500);
/// A transfer of unknown size that does not move is over.
const OVER: Duration = Duration::from_secs(2);

/// Lines for a terminal: what is over takes one line and stays; below is what runs now, with the last lines of each step.
///
/// ```text
///   cached  [construct 2/4] WORKDIR /web
///     0.1s  [construct 3/4] COPY . ./
///    12.3s  [construct 4/4] RUN dotnet publish
///           │ Determining projects to restore...
///           3 of 6 steps, 12.5s
/// ```
#[derive(Debug, Default)]
pub struct Tty {
    steps: BTreeMap<StepId, Step>,
    transfers: Vec<Transfer>,
    settled: Vec<Line>,
    over: usize,
    planned: usize,
}

#[derive(Debug, Default)]
struct Step {
    head: String,
    started: Option<Duration>,
    over: bool,
    lines: VecDeque<String>,
    rest: String,
}

#[derive(Debug)]
struct Transfer {
    what: String,
    done: u64,
    total: Option<u64>,
    first: Duration,
    last: Duration,
}

impl Tty {
    /// Returns the lines that are settled since the last call: they are to stay on the terminal.
    pub fn take_settled(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.settled)
    }

    /// Sets the line that a step has not ended yet.
    pub fn rest(&mut self, id: StepId, rest: &str) {
        let step = self.steps.entry(id).or_default();
        step.rest.clear();
        step.rest.push_str(&kept(rest));
    }

    /// Returns what is going on, at most `rows` lines.
    pub fn live(&self, at: Duration, rows: usize) -> Vec<Line> {
        let running: Vec<&Step> = self.steps.values().filter(|step| step.runs()).collect();
        let moving = self.transfers.iter().filter(|t| t.total.is_some() || at.saturating_sub(t.last) < OVER);
        let moving: Vec<Line> = moving.map(|t| beside("", t.words(), Look::Normal)).collect();
        if running.is_empty() && moving.is_empty() && (self.planned == 0 || self.over == self.planned) {
            return Vec::new();
        }
        // The last line counts; then every step its head; what is left over is shared by their output.
        let heads = running.len() + moving.len() + 1;
        let each = rows.saturating_sub(heads).checked_div(running.len()).unwrap_or(0).min(SHOWN);
        let mut lines = Vec::new();
        for step in running {
            let since = at.saturating_sub(step.started.unwrap_or(at));
            lines.push(beside(&duration(since), step.head.clone(), Look::Bold));
            let rest = (!step.rest.is_empty()).then_some(&step.rest);
            let written: Vec<&String> = step.lines.iter().chain(rest).collect();
            let hidden = written.len().saturating_sub(each);
            lines.extend(written[hidden..].iter().map(|line| beside("", format!("│ {line}"), Look::Dim)));
        }
        lines.extend(moving);
        let words = if self.planned > 0 {
            format!("{} of {} steps, {}", self.over, self.planned, duration(at))
        } else {
            duration(at)
        };
        if lines.len() >= rows {
            let room = rows.saturating_sub(1);
            let hidden = lines.len() - room;
            lines.truncate(room);
            lines.push(beside("", format!("… and {hidden} lines more; {words}"), Look::Dim));
        } else {
            lines.push(beside("", words, Look::Dim));
        }
        lines.truncate(rows);
        lines
    }

    /// Settles what still runs: it will not go on.
    pub fn stop(&mut self, at: Duration) {
        let running = self.steps.values_mut().filter(|step| step.runs());
        let stopped = running.map(|step| {
            step.over = true;
            beside("stopped", step.head.clone(), Look::Warning)
        });
        self.settled.extend(stopped);
        let unfinished = self.transfers.drain(..).filter(|t| at.saturating_sub(t.first) >= WORTH_A_LINE);
        self.settled.extend(unfinished.map(|t| beside("", t.words(), Look::Normal)));
    }

    fn settle(&mut self, id: StepId, beside_it: &str, look: Look) {
        let step = self.steps.entry(id).or_default();
        if std::mem::replace(&mut step.over, true) {
            return;
        }
        (step.lines, step.rest) = Default::default();
        self.over += 1;
        self.settled.push(beside(beside_it, step.head.clone(), look));
    }

    fn transfer(&mut self, at: Duration, what: &str, done: u64, total: Option<u64>) {
        let known = self.transfers.iter().position(|transfer| transfer.what == what);
        let index = known.unwrap_or_else(|| {
            self.transfers.push(Transfer { what: what.to_owned(), done, total, first: at, last: at });
            self.transfers.len() - 1
        });
        let transfer = &mut self.transfers[index];
        (transfer.done, transfer.total, transfer.last) = (done, total, at);
        if total == Some(done) {
            let transfer = self.transfers.remove(index);
            let took = at.saturating_sub(transfer.first);
            if took >= WORTH_A_LINE {
                let words = format!("{}: {}", visible(&transfer.what), size(done));
                self.settled.push(beside(&duration(took), words, Look::Normal));
            }
        }
    }
}

impl View for Tty {
    fn event(&mut self, at: Duration, event: &Event, _: &mut String) {
        match event {
            Event::Planned { step, platform, stage, position, text, line: _ } => {
                self.planned += 1;
                self.steps.entry(*step).or_default().head = head(platform.as_deref(), stage, *position, text);
            }
            Event::Started { step } => self.steps.entry(*step).or_default().started = Some(at),
            Event::Cached { step } => self.settle(*step, "cached", Look::Known),
            Event::Finished { step, took, ok: true } => self.settle(*step, &duration(*took), Look::Good),
            Event::Finished { step, ok: false, .. } => self.settle(*step, "FAILED", Look::Bad),
            // Not over: it is started once more.
            Event::Again { step, .. } => {
                let step = self.steps.entry(*step).or_default();
                step.started = None;
                (step.lines, step.rest) = Default::default();
            }
            Event::Output { .. } => {}
            Event::Transfer { what, done, total } => self.transfer(at, what, *done, *total),
            Event::Warning { message, line } => {
                let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
                self.settled.push(beside("warning", format!("{place}{}", visible(message)), Look::Warning));
            }
            Event::Missed { step, reasons } => {
                let head = self.steps.entry(*step).or_default().head.clone();
                self.settled.push(beside("miss", head, Look::Dim));
                self.settled
                    .extend(reasons.iter().map(|reason| beside("", format!("│ {}", visible(reason)), Look::Dim)));
            }
            Event::Finding { rule, message, hint, file, line } => {
                let rule = rule.map(|rule| format!("{rule}: ")).unwrap_or_default();
                let line = line.map(|line| format!(":{line}")).unwrap_or_default();
                let text = format!("{rule}{} ({}{line})", visible(message), visible(file));
                self.settled.push(beside("warning", text, Look::Warning));
                let hint = hint.iter().map(|hint| beside("", format!("= hint: {}", visible(hint)), Look::Normal));
                self.settled.extend(hint);
            }
            Event::Isolation { mode } => {
                self.settled.push(beside("", format!("isolation: {}", visible(mode)), Look::Dim));
            }
            Event::Exported { what, digest } => {
                let digest = digest.iter().map(|digest| format!(" {}", visible(digest))).collect::<String>();
                self.settled.push(beside("", format!("exported {}{digest}", visible(what)), Look::Normal));
            }
        }
    }

    fn line(&mut self, _: Duration, id: StepId, line: &str, _: &mut String) {
        let step = self.steps.entry(id).or_default();
        if step.lines.len() == SHOWN {
            step.lines.pop_front();
        }
        step.lines.push_back(kept(line));
        step.rest.clear();
    }
}

impl Step {
    fn runs(&self) -> bool {
        self.started.is_some() && !self.over
    }
}

impl Transfer {
    fn words(&self) -> String {
        let what = visible(&self.what);
        match self.total {
            Some(total) => format!("{what}: {} of {}", size(self.done), size(total)),
            None => format!("{what}: {}", size(self.done)),
        }
    }
}

/// Returns the line with something short on its left.
fn beside(left: &str, text: String, look: Look) -> Line {
    Line { text: format!("{left:>8}  {text}").trim_end().to_owned(), look }
}

/// Returns what is kept of a line, with tabs as spaces: a terminal would jump, and we could not measure it.
fn kept(line: &str) -> String {
    beginning(line, LONGEST).replace('\t', "    ")
}
