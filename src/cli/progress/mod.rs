//! Shows what happens during a build, on standard error. It decides nothing: the build is the same however it is shown.
//!
//! [`Progress`] is the [`Sink`]. It cuts what steps write into lines once, keeps the last of them for the report, and
//! hands the rest to a view: a pure function from events and times to text. Only [`Progress`] has a clock, a lock and a
//! file.
//!
//! The terminal is drawn by a renderer of our own (`screen`, 100 lines) rather than by the crate indicatif: a step with its
//! last lines is one thing here and would be seven bars there, a frame as a pure function can be tested, and the
//! cursor is never hidden, so that no death of coracle, not even SIGKILL, leaves the terminal in need of repair.

mod json;
mod lines;
mod plain;
mod screen;
mod tail;
mod tty;

pub use json::error_line;
pub use lines::Lines;
pub use tail::LastLines;

use std::collections::HashMap;
use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::progress::{Event, Sink, StepId, Stream};

use super::report::Style;
use super::text::visible;
use plain::Plain;
use screen::{Screen, Size};
use tty::Tty;

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// `tty` on a terminal, else `plain`.
    #[default]
    Auto,
    /// Lines that are redrawn, for a terminal.
    Tty,
    /// One line for each thing, for logs.
    Plain,
    /// One line of JSON for each event, for programs.
    Json,
    /// Nothing but errors.
    Quiet,
    /// Nothing but warnings and errors: what kaniko's --verbosity=warn asks for.
    #[value(skip)]
    Warnings,
}

impl Mode {
    /// Returns the mode that [`Mode::Auto`] means; the others mean themselves.
    pub fn resolve(self, terminal: bool) -> Mode {
        match self {
            Mode::Auto if terminal => Mode::Tty,
            Mode::Auto => Mode::Plain,
            mode => mode,
        }
    }
}

/// How often a terminal is redrawn.
const TICK: Duration = Duration::from_millis(100);

/// Text for events. `at` is the time since the beginning.
trait View {
    /// Adds to `out` what is to be written for an event. [`Event::Output`] says nothing here.
    fn event(&mut self, at: Duration, event: &Event, out: &mut String);

    /// Adds to `out` what is to be written for a line of a step.
    fn line(&mut self, at: Duration, step: StepId, line: &str, out: &mut String);
}

/// Returns what a step is called: the platform and the stage, its number in that, and the instruction.
fn head(platform: Option<&str>, stage: &str, (n, of): (usize, usize), text: &str) -> String {
    let platform = platform.map(|platform| visible(platform) + " ").unwrap_or_default();
    format!("[{platform}{} {n}/{of}] {}", visible(stage), visible(text))
}

/// Shows the events of a build.
pub struct Progress {
    begin: Instant,
    shown: Mutex<Shown>,
}

struct Shown {
    face: Face,
    /// What the steps write, for each of their streams.
    lines: HashMap<StepId, [Lines; 2]>,
    last: LastLines,
    /// Nothing is redrawn any more.
    finished: bool,
    out: Box<dyn Write + Send>,
}

enum Face {
    Tty { view: Tty, screen: Screen, size: Box<dyn Fn() -> Size + Send>, drawn: Option<Duration> },
    Plain(Plain),
    Json,
    Warnings(Plain),
    Quiet,
}

impl Progress {
    /// Returns what shows events on standard error. [`Mode::Auto`] is taken for [`Mode::Plain`]. Starts no thread.
    pub fn new(mode: Mode, style: Style) -> Self {
        Progress::with(mode, style, Box::new(std::io::stderr()), Box::new(screen::size))
    }

    fn with(mode: Mode, style: Style, out: Box<dyn Write + Send>, size: Box<dyn Fn() -> Size + Send>) -> Self {
        let face = match mode {
            Mode::Tty => Face::Tty { view: Tty::default(), screen: Screen::new(style), size, drawn: None },
            Mode::Plain | Mode::Auto => Face::Plain(Plain::default()),
            Mode::Json => Face::Json,
            Mode::Warnings => Face::Warnings(Plain::default()),
            Mode::Quiet => Face::Quiet,
        };
        let shown = Shown { face, lines: HashMap::new(), last: LastLines::default(), finished: false, out };
        Progress { begin: Instant::now(), shown: Mutex::new(shown) }
    }

    /// Redraws the times on a terminal from now on, in a thread: to be called behind the last point at which the process must
    /// have only one.
    pub fn start_ticking(self: &Arc<Self>) {
        if !matches!(self.lock().face, Face::Tty { .. }) {
            return;
        }
        let progress = Arc::downgrade(self);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(TICK);
                let Some(progress) = progress.upgrade() else { break };
                let at = progress.begin.elapsed();
                let mut shown = progress.lock();
                if shown.finished {
                    break;
                }
                shown.draw(at, false);
            }
        });
    }

    /// Returns the last lines that a step wrote, at most 20, oldest first; none for a step that ended well.
    pub fn last_lines(&self, step: StepId) -> Vec<String> {
        let mut shown = self.lock();
        shown.flush(self.begin.elapsed(), step);
        shown.last.of(step)
    }

    /// Shows all that is left, and leaves the terminal as it was. Later events are shown as lines of their own.
    pub fn finish(&self) {
        let at = self.begin.elapsed();
        let mut shown = self.lock();
        if std::mem::replace(&mut shown.finished, true) {
            return;
        }
        let mut steps: Vec<StepId> = shown.lines.keys().copied().collect();
        steps.sort();
        for step in steps {
            shown.flush(at, step);
        }
        shown.draw(at, true);
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        // Text is all there is behind the lock: a panic of another thread has broken nothing.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Progress {
    fn emit(&self, event: Event) {
        let at = self.begin.elapsed();
        self.lock().take(at, &event);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

impl Shown {
    fn take(&mut self, at: Duration, event: &Event) {
        if let Event::Output { step, stream, text } = event {
            let mut whole = Vec::new();
            let lines = &mut self.lines.entry(*step).or_default()[*stream as usize];
            lines.push(text, |line| whole.push(line.to_owned()));
            if let Face::Tty { view, .. } = &mut self.face {
                view.rest(*step, lines.rest());
            }
            self.show_lines(at, *step, &whole);
        }
        if let Event::Finished { step, .. } | Event::Again { step, .. } = event {
            self.flush(at, *step);
            self.lines.remove(step);
        }
        let mut text = String::new();
        match &mut self.face {
            Face::Tty { view, .. } => view.event(at, event, &mut text),
            Face::Plain(view) => view.event(at, event, &mut text),
            Face::Json => text = json::line(jiff::Timestamp::now(), event),
            Face::Warnings(view) if matches!(event, Event::Warning { .. }) => view.event(at, event, &mut text),
            Face::Warnings(_) | Face::Quiet => {}
        }
        self.write(&text);
        self.draw(at, false);
        if let Event::Finished { step, ok: true, .. } | Event::Again { step, .. } | Event::Cached { step } = event {
            self.last.forget(*step);
        }
    }

    /// Takes the lines of a step that have no end as ended.
    fn flush(&mut self, at: Duration, step: StepId) {
        let mut whole = Vec::new();
        for lines in self.lines.get_mut(&step).into_iter().flatten() {
            lines.finish(|line| whole.push(line.to_owned()));
        }
        self.show_lines(at, step, &whole);
    }

    fn show_lines(&mut self, at: Duration, step: StepId, lines: &[String]) {
        let mut text = String::new();
        for line in lines {
            self.last.add(step, line);
            match &mut self.face {
                Face::Tty { view, .. } => view.line(at, step, line, &mut text),
                Face::Plain(view) => view.line(at, step, line, &mut text),
                Face::Json | Face::Warnings(_) | Face::Quiet => {}
            }
        }
        self.write(&text);
    }

    /// Redraws the terminal where it is time, or the end.
    fn draw(&mut self, at: Duration, end: bool) {
        let Face::Tty { view, screen, size, drawn } = &mut self.face else { return };
        // A little less than a tick, so that the ticks themselves are never left out.
        if !end && drawn.is_some_and(|drawn| at.saturating_sub(drawn) < TICK / 2) {
            return;
        }
        *drawn = Some(at);
        let size = size();
        if end {
            view.stop(at);
        }
        let live = if end { Vec::new() } else { view.live(at, size.rows.saturating_sub(1)) };
        let text = screen.frame(&view.take_settled(), &live, size);
        self.write(&text);
    }

    fn write(&mut self, text: &str) {
        // Nobody can be told that standard error is gone, and the build is worth more than its log.
        let _ = self.out.write_all(text.as_bytes());
    }
}

// As indices of `Shown::lines`.
const _: () = assert!(Stream::Stdout as usize == 0 && Stream::Stderr as usize == 1);

#[cfg(test)]
mod tests;
