//! `coracle doctor`: what this machine allows, and what a build will use.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use coracle_runtime::probe::{self, Status};
use serde_json::json;

use super::print;
use super::report::{Failure, Style, chain};
use super::request::{DoctorRequest, UsageError};
use super::text::visible;

/// Tries everything that a build needs, and says what came of it.
pub(super) fn doctor(request: &DoctorRequest) -> Result<ExitCode, Failure> {
    let root = request.root.as_deref();
    let dir = existing(root.unwrap_or(&request.temp));
    let mode = probe::mode(&dir);
    let checks = probe::all(&dir)?;
    let text = if request.json { json(&mode, &checks, root) } else { words(&mode, &checks, root, request.colour) };
    print(&text).map(|()| ExitCode::SUCCESS)
}

/// The store, or the nearest folder above it that is there.
fn existing(root: &Path) -> PathBuf {
    root.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_path_buf()
}

/// The store's folder, or why there is none.
type Root<'a> = Result<&'a Path, &'a UsageError>;

type Mode = Result<coracle_runtime::IdMaps, coracle_runtime::RuntimeError>;

fn words(mode: &Mode, checks: &[probe::Check], root: Root<'_>, colour: bool) -> String {
    let style = if colour { Style::Colour } else { Style::Plain };
    let store = root.map_or_else(no_store, |root| root.display().to_string());
    let mut text = format!("store    {}\n", visible(&store));
    match mode {
        Ok(maps) => text.push_str(&format!("mode     {maps}\n")),
        Err(error) => {
            text.push_str("mode     none: no build is possible here yet; ");
            text.push_str("version, images, inspect, history, tag, push, pull work\n");
            text.push_str(&format!("blocker  {}\n", visible(&chain(error))));
            if let Some(hint) = error.hint() {
                text.push_str(&format!("fix      {}\n", visible(&hint)));
            }
        }
    }
    text.push('\n');
    for check in checks {
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

fn no_store(error: &UsageError) -> String {
    let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("none: {error}{hint}")
}

fn json(mode: &Mode, checks: &[probe::Check], root: Root<'_>) -> String {
    let checks: Vec<_> = checks
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
                "errno": check.seen.as_ref().and_then(|seen| seen.errno()).map(|errno| errno.raw()),
            })
        })
        .collect();
    let report = json!({
        "version": 1,
        "store": root.ok().map(|root| root.display().to_string()),
        "mode": mode.as_ref().ok().map(ToString::to_string),
        "blocker": mode.as_ref().err().map(|error| chain(error)),
        "fix": mode.as_ref().err().and_then(|error| error.hint()),
        "checks": checks,
    });
    serde_json::to_string_pretty(&report).expect("strings and numbers always serialise") + "\n"
}
