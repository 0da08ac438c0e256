//! How coracle ends: exit codes, and the words for what went wrong.

use std::error::Error;
use std::fmt;
use std::fmt::Write as _;
use std::process::ExitCode;

use super::text::visible;

/// What the exit code says. The numbers are a promise to scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitStatus {
    /// 0: done.
    Done = 0,
    /// 1: the user's build failed. The status of a RUN is in the message.
    Failed = 1,
    /// 2: the arguments or the environment make no sense.
    Usage = 2,
    /// 3: an input failed verification: a digest, an archive, a Dockerfile.
    Input = 3,
    /// 4: a registry or the network.
    Network = 4,
    /// 5: the store: space, locks, damage.
    Store = 5,
    /// 6: this machine cannot do it.
    Unable = 6,
    /// 10: not all of a plan is in the cache, and the exit code was asked to say so.
    NotCached = 10,
    /// 125: a fault of coracle itself.
    Fault = 125,
    /// 130: interrupted by a signal.
    Interrupted = 130,
}

impl ExitStatus {
    /// Returns the number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        ExitCode::from(status.code())
    }
}

/// What the face of coracle must know about an error of a room. The implementations are all in `cli::classify`.
pub trait Classify: Error {
    /// Returns the exit code that it ends with.
    fn exit_status(&self) -> ExitStatus;

    /// Returns what the user can do next, where that can be said.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Why a verb failed, with all that is told about it.
#[derive(Debug)]
pub struct Failure {
    status: ExitStatus,
    cause: Cause,
    hints: Vec<String>,
    output: Vec<String>,
}

#[derive(Debug)]
enum Cause {
    Error(Box<dyn Error + Send + Sync>),
    /// Text that is fit to print: a diagnostic with its source lines.
    Rendered(String),
    /// Nothing to say: who read our output has gone.
    Silent,
}

impl<E: Classify + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let (status, hints) = (error.exit_status(), error.hint().into_iter().collect());
        Failure { status, cause: Cause::Error(Box::new(error)), hints, output: Vec::new() }
    }
}

impl Failure {
    /// Returns a failure with a text that is printed as it is: rendered diagnostics, from "error: " on.
    pub fn rendered(status: ExitStatus, text: impl Into<String>) -> Self {
        Failure { status, cause: Cause::Rendered(text.into()), hints: Vec::new(), output: Vec::new() }
    }

    /// Returns an end that prints nothing.
    pub fn silent(status: ExitStatus) -> Self {
        Failure { status, cause: Cause::Silent, hints: Vec::new(), output: Vec::new() }
    }

    /// Returns this with one more hint: what the user can do next.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Returns this with the last lines that the failed step wrote, oldest first.
    pub fn with_output(mut self, lines: Vec<String>) -> Self {
        self.output = lines;
        self
    }

    /// Returns the exit code.
    pub fn status(&self) -> ExitStatus {
        self.status
    }

    /// Returns the hints.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Returns the last lines of the failed step.
    pub fn output(&self) -> &[String] {
        &self.output
    }

    /// Returns what happened in one line, or the rendered text; without hints, colours and "error: ". `None` where
    /// nothing is to be said.
    pub fn message(&self) -> Option<String> {
        match &self.cause {
            Cause::Error(error) => Some(chain(error.as_ref())),
            Cause::Rendered(text) => Some(text.trim_end().to_owned()),
            Cause::Silent => None,
        }
    }

    /// Returns all that is printed about it, lines with line feeds; empty where nothing is to be said.
    pub fn report(&self, style: Style) -> String {
        let mut text = match &self.cause {
            Cause::Error(error) => report(error.as_ref(), &[], style),
            Cause::Rendered(text) => format!("{}\n", text.trim_end()),
            Cause::Silent => return String::new(),
        };
        if !self.output.is_empty() {
            let _ = writeln!(text, "  = the last lines that it wrote:");
            for line in &self.output {
                let _ = writeln!(text, "{}", format!("    | {}", visible(line)).trim_end());
            }
        }
        hints(&mut text, &self.hints, style);
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message().unwrap_or_default())
    }
}

/// Whether a report has colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Style {
    /// No.
    #[default]
    Plain,
    /// Yes: for a terminal.
    Colour,
}

impl Style {
    /// Returns `text` in the colour, where there are colours. `sgr` is the inside of the escape sequence: "1;31".
    pub fn paint(self, sgr: &str, text: &str) -> String {
        match self {
            Style::Plain => text.to_owned(),
            Style::Colour => format!("\x1b[{sgr}m{text}\x1b[0m"),
        }
    }
}

/// Returns `error` and its sources in one line, each text once: "a: b: c". Control characters are escaped.
pub fn chain(error: &dyn Error) -> String {
    let mut text = visible(&error.to_string());
    let mut source = error.source();
    while let Some(error) = source {
        let cause = visible(&error.to_string());
        // A transparent wrapper says what its source says.
        if !cause.is_empty() && !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

/// Returns the report of an error: "error: a: b: c", then a line for each hint. Lines end with line feeds.
pub fn report(error: &dyn Error, advice: &[String], style: Style) -> String {
    let mut text = format!("{} {}\n", style.paint("1;31", "error:"), chain(error));
    hints(&mut text, advice, style);
    text
}

fn hints(text: &mut String, hints: &[String], style: Style) {
    for hint in hints {
        let _ = writeln!(text, "  = {} {}", style.paint("1;36", "hint:"), visible(hint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        #[source]
        source: Option<Box<Link>>,
    }

    impl Classify for Link {
        fn exit_status(&self) -> ExitStatus {
            ExitStatus::Unable
        }

        fn hint(&self) -> Option<String> {
            Some("try \x1b[1mthat\x1b[0m".into())
        }
    }

    fn link(texts: &[&'static str]) -> Link {
        let [text, rest @ ..] = texts else { panic!("a link has a text") };
        Link { text, source: (!rest.is_empty()).then(|| Box::new(link(rest))) }
    }

    #[test]
    fn the_chain_is_joined_once() {
        for (texts, line) in [
            (&["a"][..], "a"),
            (&["a", "b", "c"], "a: b: c"),
            (&["a", "a", "b"], "a: b"),
            (&["cannot open x: no such file", "no such file"], "cannot open x: no such file"),
            (&["a", "", "b"], "a: b"),
            (&["bad \x1b]0;name\x07\nerror: forged"], "bad \\u{1b}]0;name\\u{7}\\nerror: forged"),
        ] {
            assert_eq!(chain(&link(texts)), line);
        }
    }

    #[test]
    fn a_report_has_the_chain_the_output_and_the_hints() {
        let failure = Failure::from(link(&["RUN make failed", "exit status 2"]))
            .with_output(vec!["cc main.c".into(), String::new(), "main.c:1: error".into()])
            .with_hint("run it again with --progress=plain");
        let want = "\
error: RUN make failed: exit status 2
  = the last lines that it wrote:
    | cc main.c
    |
    | main.c:1: error
  = hint: try \\u{1b}[1mthat\\u{1b}[0m
  = hint: run it again with --progress=plain
";
        assert_eq!(failure.report(Style::Plain), want);
        assert_eq!(failure.status(), ExitStatus::Unable);
        let coloured = failure.report(Style::Colour);
        assert!(coloured.starts_with("\x1b[1;31merror:\x1b[0m RUN make failed"), "{coloured}");
    }

    #[test]
    fn a_rendered_diagnostic_is_left_as_it_is() {
        let text = "error: no stage named `a`\n --> Dockerfile:2:13\n";
        let failure = Failure::rendered(ExitStatus::Input, text).with_hint("did you mean `b`?");
        assert_eq!(failure.report(Style::Plain), format!("{text}  = hint: did you mean `b`?\n"));
        assert_eq!(Failure::silent(ExitStatus::Done).report(Style::Plain), "");
    }

    #[test]
    fn the_exit_codes_are_a_promise() {
        use ExitStatus::*;
        let codes = [Done, Failed, Usage, Input, Network, Store, Unable, NotCached, Fault, Interrupted];
        assert_eq!(codes.map(ExitStatus::code), [0, 1, 2, 3, 4, 5, 6, 10, 125, 130]);
    }
}
