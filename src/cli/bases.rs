//! The images that a Dockerfile names, brought into the store for a build.

use super::arriving::Arriving;
use super::bundled::Bundled;
use super::names;
use super::registry::{LazyClient, Puller, Wants};
use super::report::{ExitStatus, Failure, Style};
use super::request::BuildRequest;
use crate::oci::Platform;
use crate::output::content::Selection;
use crate::output::{self, Location};
use crate::plan::ImageUse;
use crate::progress::Sink;
use crate::source::{Diagnostic, Source};
use crate::store::{Image, Store};

/// Finds base images.
pub(super) struct Bases<'a> {
    pub request: &'a BuildRequest,
    pub arriving: &'a Arriving,
    pub client: &'a LazyClient<'a>,
    pub store: &'a Store,
    pub source: &'a Source,
    pub sink: &'a dyn Sink,
    /// Whether the build is for several platforms: then each image must be for the one that it is wanted for.
    pub several: bool,
    /// Where they are, in place of registries and the store.
    pub bundled: Option<&'a Bundled<'a>>,
}

impl Bases<'_> {
    /// Returns the images that are wanted, in their order. Those of one name are of one index, whatever it leads to meanwhile.
    pub fn find(&self, wanted: &[ImageUse]) -> Result<Vec<Image>, Failure> {
        if let Some(bundled) = self.bundled {
            bundled.images(wanted, self.store)?;
        }
        let mut found: Vec<Option<Image>> = vec![None; wanted.len()];
        for at in 0..wanted.len() {
            if found[at].is_some() {
                continue;
            }
            let same = (at..wanted.len()).filter(|other| wanted[*other].name == wanted[at].name);
            let same: Vec<usize> = same.collect();
            let uses: Vec<&ImageUse> = same.iter().map(|at| &wanted[*at]).collect();
            for (at, image) in same.into_iter().zip(self.one(&uses)?) {
                found[at] = Some(image);
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// Returns the images of one name.
    fn one(&self, uses: &[&ImageUse]) -> Result<Vec<Image>, Failure> {
        let used = uses[0];
        let written = used.name.strip_prefix("docker://").unwrap_or(&used.name);
        let mut images = Vec::with_capacity(uses.len());
        if Location::has_transport(written) {
            let location: Location = written.parse().map_err(|error| {
                self.failed(used, Diagnostic::error(format!("{written:?} is no image: {error}")), ExitStatus::Input)
            })?;
            for used in uses {
                let selection = Selection::Platform(used.platform.clone());
                let imported = output::import_for(&location, &selection, self.store, self.sink)?;
                images.push(self.store.image_for(&imported.descriptor, &used.platform)?);
            }
        } else if let Some(bundled) = self.bundled {
            for used in uses {
                images.push(bundled.image(used, self.store, self.sink)?);
            }
        } else {
            let platforms: Vec<Platform> = uses.iter().map(|used| used.platform.clone()).collect();
            let Bases { arriving, client, store, sink, .. } = *self;
            let wants = Wants::These(&platforms);
            let puller = Puller { arriving, client, store, wants, sink };
            let name = names::normalise(written)
                .map_err(|error| self.failed(used, Diagnostic::error(error.to_string()), ExitStatus::Input))?;
            let descriptor = match puller.find(written, self.request.pull) {
                Ok(Some(found)) => found.descriptor,
                Ok(None) => return Err(self.not_here(used, written, &name)?),
                Err(failure) => return Err(self.not_found(used, written, failure)),
            };
            arriving.named_at(used.span);
            for used in uses {
                let image = self.store.image_for(&descriptor, &used.platform);
                images.push(image.map_err(|error| self.not_found(used, written, error.into()))?);
            }
        }
        for (used, image) in uses.iter().zip(&images) {
            let own = &image.config.platform;
            if self.several && !own.architecture.is_empty() && used.platform.rank(own).is_none() {
                let message = format!("{written} has no image for {}, only for: {own}", used.platform);
                return Err(self.failed(used, Diagnostic::error(message), ExitStatus::Input));
            }
        }
        Ok(images)
    }

    /// Returns the failure that the store has no such image, and nobody else may be asked.
    fn not_here(&self, used: &ImageUse, written: &str, name: &str) -> Result<Failure, Failure> {
        let message = match &used.stage_hint {
            Some(_) => format!("no stage or image named `{written}`"),
            None if self.store.find(name)?.is_some() => {
                format!("image {name} is in the store, but not for {}", used.platform)
            }
            None => format!("image {name} is not in the store"),
        };
        let hint = "with another --pull than never it would be looked for in its registry";
        let hint = used.stage_hint.clone().unwrap_or_else(|| hint.into());
        Ok(self.failed(used, Diagnostic::error(message).hint(hint), ExitStatus::Input))
    }

    fn not_found(&self, used: &ImageUse, written: &str, failure: Failure) -> Failure {
        let cause = failure.message().unwrap_or_default();
        let message = match &used.stage_hint {
            Some(_) => format!("no stage or image named `{written}`: {cause}"),
            None => cause,
        };
        let hints = used.stage_hint.iter().chain(failure.hints()).cloned();
        hints.fold(self.failed(used, Diagnostic::error(message), failure.status()), Failure::with_hint)
    }

    fn failed(&self, used: &ImageUse, diagnostic: Diagnostic, status: ExitStatus) -> Failure {
        let diagnostic = diagnostic.at(used.span);
        Failure::rendered(status, diagnostic.render(self.source, self.request.style == Style::Colour))
    }
}
