use std::sync::Arc;

use serde_json::Value;

use super::screen::Line;
use super::*;
use crate::cli::report::{ExitStatus, Failure};

#[path = "../../../tests/support/schema.rs"]
mod schema;

fn planned(step: usize, stage: &str, position: (usize, usize), text: &str) -> Event {
    let (step, line) = (StepId(step), step + 1);
    Event::Planned { step, platform: None, stage: stage.into(), position, text: text.into(), line }
}

fn output(step: usize, stream: Stream, text: &str) -> Event {
    Event::Output { step: StepId(step), stream, text: text.into() }
}

fn finished(step: usize, millis: u64, ok: bool) -> Event {
    Event::Finished { step: StepId(step), took: Duration::from_millis(millis), ok }
}

fn transfer(what: &str, done: u64, total: Option<u64>) -> Event {
    Event::Transfer { what: what.into(), done, total }
}

/// A build of two stages of which the second fails: each event with its time in milliseconds.
fn script() -> Vec<(u64, Event)> {
    use Stream::{Stderr, Stdout};
    vec![
        (0, planned(0, "construct", (1, 3), "WORKDIR /web")),
        (0, planned(1, "construct", (2, 3), "COPY . ./")),
        (0, planned(2, "construct", (3, 3), "RUN dotnet publish")),
        (0, planned(3, "1", (1, 1), "RUN \x1b[2Jfalse")),
        (5, transfer("unpack sdk", 1 << 20, Some(4 << 20))),
        (900, transfer("unpack sdk", 4 << 20, Some(4 << 20))),
        (1000, Event::Cached { step: StepId(0) }),
        (1000, Event::Warning { message: "no such ARG: \"A\"".into(), line: Some(3) }),
        (1001, Event::Started { step: StepId(1) }),
        (1001, Event::Again { step: StepId(1), took: Duration::from_millis(150) }),
        (1001, Event::Started { step: StepId(1) }),
        (1100, finished(1, 99, true)),
        (1100, Event::Isolation { mode: "user namespace, subordinate ids".into() }),
        (1100, Event::Started { step: StepId(2) }),
        (1200, Event::Started { step: StepId(3) }),
        (1412, output(2, Stdout, "Determining pro")),
        (1412, output(2, Stderr, "warning: \x1b[33m")),
        (1500, output(2, Stdout, "jects...\n\nRestored.\n  10%\r")),
        (1600, output(2, Stderr, "old\x1b[0m\n")),
        (1700, output(2, Stdout, "  20%\r100%")),
        (2300, finished(2, 1200, true)),
        (2400, output(3, Stderr, "sh: false")),
        (2500, finished(3, 1300, false)),
        (2500, Event::Exported { what: "web:1".into(), digest: Some("sha256:00".into()) }),
    ]
}

/// A file that a test can look into.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("one thread").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("one thread").clone()).expect("UTF-8")
    }
}

fn progress(mode: Mode) -> (Progress, Written) {
    let written = Written::default();
    let size = || Size { columns: 60, rows: 12 };
    (Progress::with(mode, Style::Plain, Box::new(written.clone()), Box::new(size)), written)
}

/// Plays the events of which the time is at most `until`.
fn play(progress: &Progress, until: u64) {
    for (at, event) in script().into_iter().filter(|(at, _)| *at <= until) {
        progress.lock().take(Duration::from_millis(at), &event);
    }
}

#[test]
fn plain_lines_for_a_log() {
    let (progress, written) = progress(Mode::Plain);
    play(&progress, 10_000);
    let want = "\
unpack sdk: 4.0 MiB
#1 [construct 1/3] WORKDIR /web
#1 CACHED
warning: line 3: no such ARG: \"A\"
#2 [construct 2/3] COPY . ./
#2 AGAIN 0.2s
#2 DONE 0.1s
isolation: user namespace, subordinate ids
#3 [construct 3/3] RUN dotnet publish
#4 [1 1/1] RUN \\u{1b}[2Jfalse
#3 0.400 Determining projects...
#3 0.400
#3 0.400 Restored.
#3 0.500 warning: old
#3 1.200 100%
#3 DONE 1.2s
#4 1.300 sh: false
#4 FAILED 1.3s
exported web:1 sha256:00
";
    assert_eq!(written.text(), want);
    assert_eq!(progress.last_lines(StepId(3)), ["sh: false"]);
    assert!(progress.last_lines(StepId(2)).is_empty(), "a step that went well needs no report");
}

#[test]
fn a_long_transfer_is_told_now_and_then() {
    let (progress, written) = progress(Mode::Plain);
    for (at, done) in [(0, 0), (1000, 10), (3000, 20), (4000, 30), (6500, 40), (7000, 100)] {
        progress.lock().take(Duration::from_millis(at), &transfer("pull sdk", done, Some(100)));
    }
    progress.lock().take(Duration::from_secs(8), &transfer("stream", 1, None));
    progress.lock().take(Duration::from_secs(11), &transfer("stream", 2048, None));
    assert_eq!(written.text(), "pull sdk: 20 B of 100 B\npull sdk: 40 B of 100 B\npull sdk: 100 B\nstream: 2.0 KiB\n");
}

#[test]
fn events_of_steps_that_were_not_planned_are_shown_too() {
    let (progress, written) = progress(Mode::Plain);
    progress.emit(output(7, Stream::Stdout, "no line feed"));
    progress.finish();
    let text = written.text();
    assert!(text.starts_with("#8\n#8 0.0") && text.ends_with(" no line feed\n"), "{text}");
}

#[test]
fn quiet_says_nothing_and_still_knows_the_last_lines() {
    let (progress, written) = progress(Mode::Quiet);
    play(&progress, 10_000);
    assert_eq!(written.text(), "");
    assert_eq!(progress.last_lines(StepId(3)), ["sh: false"]);
}

#[test]
fn the_last_lines_hold_a_line_without_an_end() {
    let (progress, _) = progress(Mode::Json);
    play(&progress, 2400);
    assert_eq!(progress.last_lines(StepId(3)), ["sh: false"]);
}

/// Returns the lines on the terminal at a time: those that stay, and those that are live.
fn terminal(until: u64, rows: usize) -> (Vec<String>, Vec<String>) {
    let mut view = Tty::default();
    let mut lines: HashMap<(StepId, usize), Lines> = HashMap::new();
    for (at, event) in script().into_iter().filter(|(at, _)| *at <= until) {
        let at = Duration::from_millis(at);
        if let Event::Output { step, stream, text } = &event {
            let lines = lines.entry((*step, *stream as usize)).or_default();
            lines.push(text, |line| view.line(at, *step, line, &mut String::new()));
            view.rest(*step, lines.rest());
        }
        view.event(at, &event, &mut String::new());
    }
    let texts = |lines: Vec<Line>| lines.into_iter().map(|line| line.text).collect();
    (texts(view.take_settled()), texts(view.live(Duration::from_millis(until), rows)))
}

#[test]
fn a_terminal_shows_what_runs_below_what_is_over() {
    let (settled, live) = terminal(1650, 20);
    assert_eq!(
        settled,
        [
            "    0.9s  unpack sdk: 4.0 MiB",
            "  cached  [construct 1/3] WORKDIR /web",
            " warning  line 3: no such ARG: \"A\"",
            "    0.1s  [construct 2/3] COPY . ./",
            "          isolation: user namespace, subordinate ids",
        ]
    );
    assert_eq!(
        live,
        [
            "    0.6s  [construct 3/3] RUN dotnet publish",
            "          │ Determining projects...",
            "          │",
            "          │ Restored.",
            "          │ warning: old",
            "    0.5s  [1 1/1] RUN \\u{1b}[2Jfalse",
            "          2 of 4 steps, 1.7s",
        ]
    );
}

#[test]
fn a_low_terminal_shows_the_heads_first() {
    let live = |rows| terminal(1650, rows).1;
    assert_eq!(live(5).iter().filter(|line| line.contains('│')).count(), 1);
    assert_eq!(live(3).len(), 3);
    assert_eq!(
        live(2),
        ["    0.6s  [construct 3/3] RUN dotnet publish", "          … and 1 lines more; 2 of 4 steps, 1.7s"]
    );
    assert_eq!(live(1), ["          … and 2 lines more; 2 of 4 steps, 1.7s"]);
    assert!(live(0).is_empty());
}

#[test]
fn a_transfer_is_live_until_it_is_complete() {
    let (settled, live) = terminal(5, 20);
    assert!(settled.is_empty());
    assert_eq!(live, ["          unpack sdk: 1.0 MiB of 4.0 MiB", "          0 of 4 steps, 0.0s"]);
}

#[test]
fn at_the_end_nothing_is_live() {
    let (settled, live) = terminal(10_000, 20);
    assert!(live.is_empty());
    assert_eq!(
        settled[5..],
        [
            "    1.2s  [construct 3/3] RUN dotnet publish",
            "  FAILED  [1 1/1] RUN \\u{1b}[2Jfalse",
            "          exported web:1 sha256:00"
        ]
    );
}

#[test]
fn a_terminal_is_left_as_it_was_even_after_a_panic() {
    let (progress, written) = progress(Mode::Tty);
    let ticked = written.clone();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let progress = Arc::new(progress);
        progress.start_ticking();
        progress.emit(planned(0, "a", (1, 1), "RUN sleep 100"));
        progress.emit(Event::Started { step: StepId(0) });
        // Until the ticking thread has drawn a few times.
        while ticked.text().matches("RUN sleep 100").count() < 3 {
            std::thread::sleep(TICK);
        }
        std::panic::resume_unwind(Box::new("the work ended"));
    }));
    assert!(ended.is_err());
    // The thread may hold the last reference for a moment.
    while !written.text().ends_with("\x1b[?7h") || !written.text().contains("stopped") {
        std::thread::sleep(TICK);
    }
    let text = written.text();
    assert!(text.matches("RUN sleep 100").count() >= 3, "the time is redrawn: {text:?}");
    assert!(text.ends_with("\r\x1b[2A stopped  [a 1/1] RUN sleep 100\x1b[K\r\n\x1b[J\x1b[?7h"), "{text:?}");
}

#[test]
fn json_lines_are_as_the_document_says() {
    let schema = schema::of(include_str!("../../../docs/progress.md"));
    let (progress, written) = progress(Mode::Json);
    play(&progress, 10_000);
    progress.emit(Event::Warning { message: "without a line".into(), line: None });
    progress.emit(transfer("stream", 1, None));
    progress.emit(Event::Missed { step: StepId(1), reasons: vec!["file changed: a".into()] });
    let (file, rule) = ("Dockerfile".to_owned(), Some("UndefinedVar"));
    progress.emit(Event::Finding { rule, message: "m".into(), hint: None, file, line: Some(2) });
    let failure = Failure::rendered(ExitStatus::Failed, "error: no").with_hint("try").with_output(vec!["a".into()]);
    let text = written.text() + &error_line(jiff::Timestamp::UNIX_EPOCH, &failure).expect("a line");
    assert_eq!(text.lines().count(), script().len() + 5);
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).expect(line);
        schema::check(&schema, &value).unwrap_or_else(|error| panic!("{line}: {error}"));
        value["time"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok()).expect("a time");
        seen.insert(value["event"].to_string());
    }
    let documented: Vec<String> = schema["oneOf"]
        .as_array()
        .expect("cases")
        .iter()
        .map(|case| case["properties"]["event"]["const"].to_string())
        .collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), {
        let mut all = documented;
        all.sort();
        all
    });
}

#[test]
fn a_finding_has_its_check_its_file_and_its_line() {
    let (progress, written) = progress(Mode::Plain);
    let finding = |rule, hint: Option<&str>, line| Event::Finding {
        rule,
        message: "m".into(),
        hint: hint.map(str::to_owned),
        file: "Dockerfile".into(),
        line,
    };
    progress.emit(finding(Some("UndefinedVar"), Some("did you mean `b`?"), Some(2)));
    progress.emit(finding(None, None, None));
    let want = "warning: UndefinedVar: m (Dockerfile:2)\n  = hint: did you mean `b`?\nwarning: m (Dockerfile)\n";
    assert_eq!(written.text(), want);
}

#[test]
fn a_json_line_word_by_word() {
    let time = jiff::Timestamp::UNIX_EPOCH;
    assert_eq!(
        json::line(time, &Event::Again { step: StepId(2), took: Duration::from_millis(1250) }),
        "{\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"again\",\"step\":2,\"took\":1.25}\n"
    );
    assert_eq!(
        json::line(time, &finished(2, 1250, true)),
        "{\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"finished\",\"step\":2,\"took\":1.25,\"ok\":true}\n"
    );
    assert_eq!(
        json::line(time, &output(2, Stream::Stderr, "\x1b[31m\n")),
        "{\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"output\",\"step\":2,\"stream\":\"stderr\",\"text\":\"\\u001b[31m\\n\"}\n"
    );
    let failure = Failure::rendered(ExitStatus::Failed, "no");
    assert_eq!(
        error_line(time, &failure).expect("a line"),
        "{\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"error\",\"exit_code\":1,\"message\":\"no\",\"hints\":[],\"output\":[]}\n"
    );
    assert_eq!(error_line(time, &Failure::silent(ExitStatus::Done)), None);
}
