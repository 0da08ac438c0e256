//! What happens during a build, as values: rooms emit an [`Event`], a [`Sink`] shows it.
//!
//! This room prints nothing. `cli::progress` draws the events on a terminal, as plain lines, or as JSON, a line
//! for each: that is the machine interface, so a change of these types changes it.

use std::time::Duration;

use serde::Serialize;

/// Names a step in the events of one build: numbered from 0 in the order of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct StepId(pub usize);

/// Something that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A step is part of the build. All come before the first other event of a step.
    Planned {
        /// The step.
        step: StepId,
        /// In a build for several platforms: that of the stage, and after an arrow that of the image, where it is another one.
        #[serde(skip_serializing_if = "Option::is_none")]
        platform: Option<String>,
        /// Its stage: the name, or the number where it has none.
        stage: String,
        /// Its number within its stage, from 1, and how many the stage has.
        position: (usize, usize),
        /// The instruction as written, in one line.
        text: String,
        /// Line in the Dockerfile, from 1.
        line: usize,
    },
    /// A step began.
    Started {
        /// The step.
        step: StepId,
    },
    /// A step need not run: its result is in the cache.
    Cached {
        /// The step.
        step: StepId,
    },
    /// A step is not in the cache, and this is what is known about why. Told only where it is asked for.
    Missed {
        /// The step.
        step: StepId,
        /// What changed, or why nothing is known of that: each without a full stop, at least one.
        reasons: Vec<String>,
    },
    /// A RUN step wrote something. Bytes as they came, not lines.
    Output {
        /// The step.
        step: StepId,
        /// Standard output or standard error.
        stream: Stream,
        /// What it wrote, with what is not UTF-8 replaced.
        text: String,
    },
    /// Data move: a pull, an unpacking, a compression, an export.
    Transfer {
        /// What moves, for a person.
        what: String,
        /// Bytes so far.
        done: u64,
        /// Bytes in all, where known.
        total: Option<u64>,
    },
    /// Something the user should know. The build goes on.
    Warning {
        /// Without a full stop.
        message: String,
        /// Line in the Dockerfile, from 1, where there is one.
        line: Option<usize>,
    },
    /// Something the user should know of the Dockerfile. The build goes on. For programs it is a warning that says more.
    #[serde(rename = "warning")]
    Finding {
        /// The check that found it, where it is a matter of a check.
        rule: Option<&'static str>,
        /// Without a full stop.
        message: String,
        /// What to do about it.
        hint: Option<String>,
        /// The name of the Dockerfile.
        file: String,
        /// Line in the Dockerfile, from 1, where there is one.
        line: Option<usize>,
    },
    /// A step ended.
    Finished {
        /// The step.
        step: StepId,
        /// How long it took.
        #[serde(serialize_with = "seconds")]
        took: Duration,
        /// Whether it worked.
        ok: bool,
    },
    /// A step ended that is begun again: with it the whole build is, in another mode.
    Again {
        /// The step.
        step: StepId,
        /// How long it took.
        #[serde(serialize_with = "seconds")]
        took: Duration,
    },
    /// The mode in which RUN steps are isolated, once, before the first of them.
    Isolation {
        /// For a person: "user namespace, subordinate ids".
        mode: String,
    },
    /// An image or file is ready.
    Exported {
        /// What was written: a name, a path.
        what: String,
        /// Digest of its manifest, where it has one.
        digest: Option<String>,
    },
}

/// Where a RUN step wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes events, from several threads at once.
pub trait Sink: Sync {
    /// Shows, records or drops an event. Must not block for long: the build waits.
    fn emit(&self, event: Event);
}

/// Drops every event.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Sink for Silent {
    fn emit(&self, _: Event) {}
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
