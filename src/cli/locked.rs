//! `build --locked`: what the Dockerfile names elsewhere is what its lock says.

use std::path::{Path, PathBuf};

use super::classify::LockProblem;
use super::elsewhere::Elsewhere;
use super::finder::{self, Finder};
use super::lock;
use super::report::{ExitStatus, Failure, Style};
use crate::build::{BuildError, Remote};
use crate::fetch::FetchError;
use crate::plan::{ImageUse, Pins, Plan};
use crate::source::{Diagnostic, Source};

/// A lock, and the Dockerfile that it is for.
pub(super) struct Locked<'a> {
    pub pins: Pins,
    path: PathBuf,
    source: &'a Source,
    style: Style,
}

impl<'a> Locked<'a> {
    /// Reads the lock of the Dockerfile at this path.
    pub fn load(dockerfile: Option<&Path>, source: &'a Source, style: Style) -> Result<Self, Failure> {
        let path = lock::path_of(dockerfile.ok_or(LockProblem::NoFile)?);
        let pins = lock::load(&path)?.ok_or_else(|| LockProblem::None { path: path.clone() })?;
        Ok(Locked { pins, path, source, style })
    }

    /// Returns images by the digests of the lock. All that are not there, or are others now, are told together.
    pub fn images(&self, images: Vec<ImageUse>, finder: &Finder<'_>) -> Result<Vec<ImageUse>, Failure> {
        let (mut pinned, mut wrong) = (Vec::with_capacity(images.len()), Vec::new());
        for used in images {
            let key = finder::image_key(&used.name)?;
            let Some(pin) = self.pins.images.get(&key) else {
                wrong.push(self.missing(&key).at(used.span));
                continue;
            };
            let found = finder.find(&used.name, Some(pin));
            let found = found.map_err(|failure| super::needs::at(used.span, failure, self.source, self.style))?;
            match found.and_then(|found| found.digest()) {
                Ok(digest) if digest == *pin => {
                    let name = match finder::is_place(&used.name) {
                        true => used.name.clone(),
                        false => finder::pinned(&used.name, pin),
                    };
                    pinned.push(ImageUse { name, ..used });
                }
                Ok(digest) => wrong.push(drifted(&key, &pin.to_string(), &format!("it is {digest} now")).at(used.span)),
                Err(failure) => {
                    let cause = failure.message().unwrap_or_default();
                    wrong.push(drifted(&key, &pin.to_string(), &cause).at(used.span));
                }
            }
        }
        self.check(wrong).map(|()| pinned)
    }

    /// Fetches all that ADD names elsewhere, so that it is known before anything is done whether it is what the lock says.
    pub fn fetches(&self, plan: &Plan, elsewhere: &Elsewhere<'_>) -> Result<(), Failure> {
        let mut wrong = Vec::new();
        for fetch in plan.fetches() {
            let key = finder::fetch_key(&fetch)?;
            let pin = self.pins.urls.get(&key).map(ToString::to_string).or_else(|| self.pins.git.get(&key).cloned());
            let Some(pin) = pin else {
                wrong.push(self.missing(&key).at(fetch.span));
                continue;
            };
            match elsewhere.fetch(fetch.source, fetch.add) {
                Ok(_) => {}
                Err(BuildError::Fetch(FetchError::WrongDigest { found, .. })) => {
                    wrong.push(drifted(&key, &pin, &format!("it is {found} now")).at(fetch.span));
                }
                Err(BuildError::Fetch(error @ FetchError::NoCommit { .. })) => {
                    wrong.push(drifted(&key, &pin, &error.to_string()).at(fetch.span));
                }
                Err(error) => return Err(super::needs::at(fetch.span, error.into(), self.source, self.style)),
            }
        }
        self.check(wrong)
    }

    fn missing(&self, key: &str) -> Diagnostic {
        Diagnostic::error(format!("{key} is not in {}", self.path.display()))
    }

    fn check(&self, wrong: Vec<Diagnostic>) -> Result<(), Failure> {
        if wrong.is_empty() {
            return Ok(());
        }
        let mut text: Vec<String> =
            wrong.iter().map(|error| error.render(self.source, self.style == Style::Colour)).collect();
        // An image for several platforms is wrong once.
        text.dedup();
        let hint = "`coracle lock` adds what is missing, `coracle lock --update` looks for all of it anew";
        Err(Failure::rendered(ExitStatus::Input, text.join("\n")).with_hint(hint))
    }
}

fn drifted(key: &str, pin: &str, now: &str) -> Diagnostic {
    Diagnostic::error(format!("{key} is not what the lock says, {pin}: {now}"))
}
