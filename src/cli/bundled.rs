//! `build --bundle`: what the Dockerfile names elsewhere is in a bundle, and nowhere else.

use std::path::Path;
use std::sync::Arc;

use super::finder;
use super::report::{ExitStatus, Failure, Style};
use crate::oci::Reference;
use crate::output::OutputError;
use crate::output::bundle::{Bundle, ImageRow};
use crate::plan::{CopySource, ImageUse, Plan};
use crate::progress::Sink;
use crate::source::{Diagnostic, Source};
use crate::store::{Image, Store};

/// What to do where something is not in a bundle.
pub(super) const ANEW: &str =
    "`coracle bundle create` writes one with all that the Dockerfile names, where there is a network";

/// A bundle, and the Dockerfile that it is used for.
pub(super) struct Bundled<'a> {
    pub bundle: Arc<Bundle>,
    source: &'a Source,
    style: Style,
}

impl<'a> Bundled<'a> {
    /// Opens the bundle at this path.
    pub fn open(path: &Path, store: &Store, source: &'a Source, style: Style) -> Result<Self, Failure> {
        Ok(Bundled { bundle: Arc::new(Bundle::open(path, &store.tmp())?), source, style })
    }

    /// Checks that images are there. All that are not are told together.
    pub fn images(&self, images: &[ImageUse], store: &Store) -> Result<(), Failure> {
        let mut missing = Vec::new();
        for used in images.iter().filter(|used| !finder::is_place(&used.name)) {
            let found = find(&self.bundle, &used.name);
            if found.map_err(|failure| self.at(used, failure))?.is_some() || in_store(&used.name, store)?.is_some() {
                continue;
            }
            let place = self.bundle.path().display();
            let error = match &used.stage_hint {
                Some(hint) => Diagnostic::error(format!("no stage named `{}`, and no image in {place}", used.name))
                    .hint(hint.clone()),
                None => Diagnostic::error(format!("image {} is not in {place}", finder::image_key(&used.name)?)),
            };
            missing.push(error.at(used.span));
        }
        self.check(&missing)
    }

    /// Checks that all that ADD names elsewhere is there.
    pub fn fetches(&self, plan: &Plan) -> Result<(), Failure> {
        let mut missing = Vec::new();
        for fetch in plan.fetches() {
            let key = finder::fetch_key(&fetch)?;
            let is_there = match fetch.source {
                CopySource::Git(_) => self.bundle.git().iter().any(|row| row.address.as_deref() == Some(&key)),
                _ => self.bundle.files().iter().any(|row| row.url == key),
            };
            if !is_there {
                let message = format!("{key} is not in {}", self.bundle.path().display());
                missing.push(Diagnostic::error(message).at(fetch.span));
            }
        }
        self.check(&missing)
    }

    /// Brings an image into the store, where it gets no name: what a name means there is not the bundle's to say.
    pub fn image(&self, used: &ImageUse, store: &Store, sink: &dyn Sink) -> Result<Image, Failure> {
        let image = || -> Result<Image, Failure> {
            let descriptor = match find(&self.bundle, &used.name)? {
                Some(row) => self.bundle.import(row, &used.platform, store, sink)?,
                None => in_store(&used.name, store)?.ok_or_else(|| OutputError::Missing {
                    what: used.name.clone(),
                    path: self.bundle.path().to_path_buf(),
                })?,
            };
            Ok(store.image_for(&descriptor, &used.platform)?)
        };
        image().map_err(|failure| self.at(used, failure))
    }

    fn at(&self, used: &ImageUse, failure: Failure) -> Failure {
        super::needs::at(used.span, failure, self.source, self.style)
    }

    fn check(&self, missing: &[Diagnostic]) -> Result<(), Failure> {
        if missing.is_empty() {
            return Ok(());
        }
        let text: Vec<String> =
            missing.iter().map(|error| error.render(self.source, self.style == Style::Colour)).collect();
        Err(Failure::rendered(ExitStatus::Input, text.join("\n")).with_hint(ANEW))
    }
}

/// Returns the image of the bundle that `written` means: the one with its name, or the one with its digest.
pub(super) fn find<'b>(bundle: &'b Bundle, written: &str) -> Result<Option<&'b ImageRow>, Failure> {
    let reference = Reference::parse(finder::bare(written))?;
    let name = reference.to_string();
    let by_name = bundle.images().find(|row| row.name == name);
    let Some(expected) = reference.digest() else { return Ok(by_name) };
    match by_name {
        Some(row) if row.digest != *expected => {
            Err(OutputError::Digest { what: name, expected: *expected, found: row.digest }.into())
        }
        Some(row) => Ok(Some(row)),
        None => Ok(bundle.images().find(|row| row.digest == *expected)),
    }
}

/// Returns what the store has of an image that is named by its digest: that is the same, wherever it came from.
fn in_store(written: &str, store: &Store) -> Result<Option<oci_spec::image::Descriptor>, Failure> {
    let reference = Reference::parse(finder::bare(written))?;
    match reference.digest() {
        Some(_) => Ok(store.find(&reference.to_string())?),
        None => Ok(None),
    }
}
