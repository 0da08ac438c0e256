use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::report::Failure;
use crate::progress::Event;

/// Returns the line of an event, with a line feed: the event, and the time before it. `docs/progress.md` is the norm.
pub fn line(time: jiff::Timestamp, event: &Event) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        time: String,
        #[serde(flatten)]
        event: &'a Event,
    }
    encode(&Line { time: format!("{time:.3}"), event })
}

/// Returns the line for a build that failed, with a line feed: the last line of its output. `None` where there is nothing
/// to say.
pub fn error_line(time: jiff::Timestamp, failure: &Failure) -> Option<String> {
    #[derive(Serialize)]
    struct Line<'a> {
        time: String,
        event: &'static str,
        exit_code: u8,
        message: String,
        hints: &'a [String],
        output: &'a [String],
    }
    Some(encode(&Line {
        time: format!("{time:.3}"),
        event: "error",
        exit_code: failure.status().code(),
        message: failure.message()?,
        hints: failure.hints(),
        output: failure.output(),
    }))
}

fn encode(line: &impl Serialize) -> String {
    // Maps with string keys, strings and finite numbers: there is nothing in them that JSON cannot hold.
    let mut text = serde_json::to_string(line).unwrap_or_else(|error| {
        let error = BTreeMap::from([("event", "error".to_owned()), ("message", error.to_string())]);
        serde_json::json!(error).to_string()
    });
    text.push('\n');
    text
}
