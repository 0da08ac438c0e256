//! `coracle doctor`: what this machine allows, and what a build will use.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use coracle_runtime::RuntimeError;
use coracle_runtime::probe::{self, Attempt, Choice, Status};
use serde_json::json;

use super::print;
use super::report::{Classify, Failure, Style, chain};
use super::request::{DoctorRequest, UsageError};
use super::text::visible;
use crate::build;

/// Tries everything that a build needs, and says what came of it.
pub(super) fn doctor(request: &DoctorRequest) -> Result<ExitCode, Failure> {
    let root = request.root.as_deref();
    let dir = existing(root.unwrap_or(&request.temp));
    let emulated = build::emulated(&dir).iter().map(ToString::to_string).collect();
    let found = Found { choice: probe::climb(&dir), checks: probe::all(&dir), emulated, root };
    let text = if request.json { found.json() } else { found.words(request.colour) };
    print(&text).map(|()| ExitCode::SUCCESS)
}

/// The store, or the nearest folder above it that is there.
pub(super) fn existing(root: &Path) -> PathBuf {
    root.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_path_buf()
}

/// What was found out.
struct Found<'a> {
    choice: Choice,
    checks: Vec<probe::Check>,
    /// Platforms of other processors whose programs run here.
    emulated: Vec<String>,
    /// The store's folder, or why there is none.
    root: Result<&'a Path, &'a UsageError>,
}

impl Found<'_> {
    /// Why there is nothing better than what there is.
    fn blocker(&self) -> Option<RuntimeError> {
        // What cannot be run at all counts first.
        let better = || self.choice.obstacle().map(|(_, error)| error.clone());
        better().or_else(|| build::obstacle(&self.choice.mode))
    }

    fn words(&self, colour: bool) -> String {
        let style = if colour { Style::Colour } else { Style::Plain };
        let store = self.root.map_or_else(no_store, |root| root.display().to_string());
        let mut text = format!("store    {}\nmode     {}\n", visible(&store), self.choice.mode);
        let run = match build::obstacle(&self.choice.mode) {
            None => "yes".to_owned(),
            Some(_) => "no; builds whose RUNs are all in the cache, or that have none, work".to_owned(),
        };
        text.push_str(&format!("RUN      {run}\n"));
        let emulated = match &self.emulated[..] {
            [] => "no emulator for other processors (docs/platforms.md)".to_owned(),
            platforms => platforms.join(", "),
        };
        text.push_str(&format!("emulated {emulated}\n"));
        if let Some(error) = self.blocker() {
            let line = match self.choice.obstacle() {
                Some((rung, _)) if build::obstacle(&self.choice.mode).is_none() => format!("better   no {rung}: "),
                _ => "blocker  ".into(),
            };
            text.push_str(&format!("{line}{}\n", visible(&chain(&error))));
            if let Some(fix) = Classify::hint(&error) {
                text.push_str(&format!("fix      {}\n", visible(&fix)));
            }
        }
        text.push_str("\nways to run a step, best first:\n");
        for attempt in &self.choice.attempts {
            match &attempt.refused {
                None => text.push_str(&format!("{} {}\n", style.paint("32", "ok      "), described(attempt))),
                Some(error) => {
                    let (mark, why) = (style.paint("31", "refused "), visible(&chain(error)));
                    text.push_str(&format!("{mark} {}: {why}\n", described(attempt)));
                    if let Some(fix) = Classify::hint(error) {
                        text.push_str(&format!("         {}\n", visible(&fix)));
                    }
                }
            }
        }
        text.push_str("\nfeatures of the kernel:\n");
        for check in &self.checks {
            let (mark, rest) = match &check.status {
                Status::Ok => (style.paint("32", "ok      "), String::new()),
                Status::Degraded { fallback } => (style.paint("33", "fallback"), format!(": {fallback}")),
                Status::Missing { hint } => (style.paint("31", "missing "), format!(": {hint}")),
            };
            text.push_str(&format!("{mark} {} ({}){}\n", check.name, check.used_for, visible(&rest)));
            if let Some(seen) = &check.seen {
                text.push_str(&format!("         {}\n", visible(&chain(seen))));
            }
        }
        text
    }

    /// The document that docs/doctor.md describes.
    fn json(&self) -> String {
        let errno = |error: Option<&RuntimeError>| error.and_then(RuntimeError::errno).map(|errno| errno.raw());
        let rungs: Vec<_> = self
            .choice
            .attempts
            .iter()
            .map(|attempt| {
                let refused = attempt.refused.as_ref();
                json!({
                    "name": attempt.rung.name(),
                    "description": described(attempt),
                    "works": refused.is_none(),
                    "seen": refused.map(|error| chain(error)),
                    "errno": errno(refused),
                    "fix": refused.and_then(Classify::hint),
                })
            })
            .collect();
        let checks: Vec<_> = self
            .checks
            .iter()
            .map(|check| {
                let (status, next) = match &check.status {
                    Status::Ok => ("ok", None),
                    Status::Degraded { fallback } => ("fallback", Some(fallback)),
                    Status::Missing { hint } => ("missing", Some(hint)),
                };
                json!({
                    "name": check.name,
                    "since": check.since,
                    "used_for": check.used_for,
                    "status": status,
                    "next": next,
                    "seen": check.seen.as_ref().map(|seen| chain(seen)),
                    "errno": errno(check.seen.as_ref()),
                })
            })
            .collect();
        let blocker = self.blocker();
        let report = json!({
            "version": 2,
            "store": self.root.ok().map(|root| root.display().to_string()),
            "mode": self.choice.mode.name(),
            "description": self.choice.mode.to_string(),
            "run": build::obstacle(&self.choice.mode).is_none(),
            "emulated": self.emulated,
            "blocker": blocker.as_ref().map(|error| chain(error)),
            "errno": errno(blocker.as_ref()),
            "fix": blocker.as_ref().and_then(Classify::hint),
            "rungs": rungs,
            "checks": checks,
        });
        serde_json::to_string_pretty(&report).expect("strings and numbers always serialise") + "\n"
    }
}

/// What a rung is, with its ids where they are known.
fn described(attempt: &Attempt) -> String {
    match &attempt.maps {
        Some(maps) => maps.to_string(),
        None => attempt.rung.to_string(),
    }
}

fn no_store(error: &UsageError) -> String {
    let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("none: {error}{hint}")
}
