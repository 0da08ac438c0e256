//! The image of a build as it goes out: in the compression, the form and with the annotations that were asked for, and with the
//! cache of its steps in it.

use std::collections::BTreeMap;

use oci_spec::image::Descriptor;

use super::args::{Annotation, CacheFailure, FormName, Level, Look};
use super::report::Failure;
use super::request::BuildRequest;
use super::{changes, provenance};
use crate::build::{Builder, Built};
use crate::layer::Compression;
use crate::oci::{Platform, media_type};
use crate::output::OutputError;
use crate::output::attest::{self, Attestation, Claim};
use crate::output::cache::{InlineStep, inline_cache};
use crate::output::content::{Content, Form, convert};
use crate::output::dress::{Dress, dress, dress_each, is_compressed_so};
use crate::output::index;
use crate::plan::{FORMAT_VERSION, Plan};
use crate::progress::{Event, Sink};
use crate::store::{Image, Store};

/// Makes images look as the outputs want them.
pub(super) struct Dresser<'a> {
    request: &'a BuildRequest,
    store: &'a Store,
    sink: &'a dyn Sink,
    /// What goes into each image; `None` where nobody wants it.
    steps: Option<Vec<Vec<InlineStep>>>,
    /// The keys of images, and when they were made first.
    made: Vec<(String, i64)>,
    /// What is said about each image; nothing at all where nothing is to be said.
    claims: Vec<Vec<Claim>>,
    /// The names under which that is said of them.
    names: Vec<String>,
    /// For each image, the annotations that its base hands on.
    inherited: Vec<Vec<(String, String)>>,
}

impl<'a> Dresser<'a> {
    /// Returns what knows the steps of a build that was done.
    pub fn new(request: &'a BuildRequest, builder: &Builder<'a>, plan: &Plan, bases: &BTreeMap<String, Image>) -> Self {
        let wanted = request.cache_to.iter().any(|to| to.place.is_none());
        let step = |made: crate::build::Made| {
            // Those of its making: the same wherever and whenever it is found again.
            let mut keys = made.step.keys.clone();
            if keys.is_empty() {
                keys.extend(made.keys);
            }
            keys.sort();
            let diff_id =
                builder.store.packed_as_it_is(&made.step.layer, &request.cache.from).map(|(_, packed)| packed.diff_id);
            InlineStep { keys, layer: made.step.layer, created: made.step.created, diff_id }
        };
        let of_target = |target| builder.journal.made_for(plan, target).into_iter().map(step).collect();
        let steps = wanted.then(|| plan.targets().map(of_target).collect());
        let made = builder.journal.images();
        let inherited = match request.changes.inherits_annotations {
            true => changes::inherited(plan, bases),
            false => Vec::new(),
        };
        Dresser {
            request,
            store: builder.store,
            sink: builder.sink,
            steps,
            made,
            claims: Vec::new(),
            names: Vec::new(),
            inherited,
        }
    }

    /// Returns this, with what is said about each image, which has these names.
    pub fn with_claims(self, claims: Vec<Vec<Claim>>, names: Vec<String>) -> Self {
        Dresser { claims, names, ..self }
    }

    /// Returns what is said about the image with the number `at`.
    pub fn claims(&self, at: usize) -> &[Claim] {
        self.claims.get(at).map_or(&[], Vec::as_slice)
    }

    /// Returns the names under which something is said of an image for `platform`, as addresses of packages.
    pub fn subjects(&self, platform: &Platform) -> Vec<String> {
        self.names.iter().filter_map(|name| provenance::package(name, Some(platform))).collect()
    }

    /// Returns the images in `built`, or the index of them, as an output wants it that says `look`. All is in the store then.
    ///
    /// # Errors
    /// [`Failure`] where the form has no word for something, or a layer cannot be read.
    pub fn content(&self, built: &[Built], look: &Look) -> Result<Content, Failure> {
        let look = self.request.look.with(look);
        let dressed = built.iter().enumerate().map(|(at, built)| self.dressed((at, built), &look));
        let mut dressed = dressed.collect::<Result<Vec<_>, Failure>>()?;
        let form = look.form.map_or(Form::Oci, Form::from);
        let content = match &mut dressed[..] {
            [(image, descriptor)] if !self.request.makes_index() => {
                let mut content = Content::of_image(image);
                content.top = descriptor.clone();
                content
            }
            dressed => {
                let attestations = self.attestations(dressed)?;
                let mut members: Vec<Descriptor> = dressed.iter().map(|(_, descriptor)| descriptor.clone()).collect();
                members.extend(attestations.iter().map(|attestation| attestation.entry.clone()));
                let (top, bytes) = index::join(&members, &of_level(&look.annotations, Level::Index, None))?;
                let images: Vec<&Image> = dressed.iter().map(|(image, _)| image).collect();
                let mut content = Content::of_index(&images, top, bytes);
                attestations.into_iter().for_each(|attestation| attestation.add_to(&mut content));
                let mut content = convert(content, form)?;
                let (_, bytes) = content.documents.last().expect("that of the index");
                self.store.put_blob(bytes)?;
                annotate(&mut content.top, of_level(&look.annotations, Level::IndexDescriptor, None));
                content
            }
        };
        self.store.sync()?;
        Ok(content)
    }

    /// Returns what is said about each image as it goes out.
    fn attestations(&self, dressed: &[(Image, Descriptor)]) -> Result<Vec<Attestation>, Failure> {
        let each = dressed.iter().zip(&self.claims).filter(|(_, claims)| !claims.is_empty());
        each.map(|((image, _), claims)| {
            let subjects = self.subjects(&image.config.platform.normalised());
            Ok(attest::attest(image, claims, &subjects, self.store)?)
        })
        .collect()
    }

    /// Returns an image as it goes out, and what leads to it; `at` is its number.
    fn dressed(&self, (at, built): (usize, &Built), look: &Look) -> Result<(Image, Descriptor), Failure> {
        let image = &built.image;
        let platform = image.config.platform.normalised();
        let compression = look.compression.unwrap_or_default();
        let layers = image.layers();
        let is_forced = look.forced == Some(true);
        let changes = |at: &usize| {
            let kind = layers[*at].descriptor.media_type().as_ref();
            match *at < built.base_layers() {
                // Of which level the layers of a base are, is for those to say who made it.
                true => is_forced && !is_compressed_so(kind, compression) && !media_type::is_foreign(kind),
                false => compression != self.request.compression(),
            }
        };
        let numbers: Vec<usize> = (0..layers.len()).filter(changes).collect();
        let wish = Dress {
            recompress: (!numbers.is_empty()).then_some((compression, numbers)),
            annotations: self.annotations(at, look, &platform),
            form: Some(look.form.map_or(Form::Oci, Form::from)),
            cache: self.cache((at, image), compression)?,
        };
        let image = dress(image, &wish, self.store)?;
        let mut descriptor = image.descriptor();
        descriptor.set_platform(Some(index::platform_of(&image.config)));
        annotate(&mut descriptor, of_level(&look.annotations, Level::ManifestDescriptor, Some(&platform)));
        Ok((image, descriptor))
    }

    /// Returns the annotations of the manifest of the image `at`.
    fn annotations(&self, at: usize, look: &Look, platform: &Platform) -> Vec<(String, String)> {
        let mut all = match look.form {
            // It has no word for them.
            Some(FormName::Docker) => Vec::new(),
            _ => self.inherited.get(at).cloned().unwrap_or_default(),
        };
        all.extend(of_level(&look.annotations, Level::Manifest, Some(platform)));
        all.retain(|(key, _)| !self.request.changes.unset_annotations.contains(key));
        all
    }

    /// Returns what the configuration says of the steps, where that is wanted.
    fn cache(
        &self,
        (at, image): (usize, &Image),
        compression: Compression,
    ) -> Result<Option<serde_json::Value>, Failure> {
        let Some(steps) = self.steps.as_ref().map(|steps| &steps[at]) else { return Ok(None) };
        let (cache, count) = inline_cache(steps, &self.made, FORMAT_VERSION, image, compression);
        if count < steps.len() {
            let message = format!(
                "the cache in the image has {count} of {} steps: the times of the files of the others were changed",
                steps.len()
            );
            let inline = |to: &&super::request::CacheTarget| to.place.is_none();
            if self.request.cache_to.iter().filter(inline).any(|to| to.failure == CacheFailure::Fails) {
                return Err(Failure::rendered(super::report::ExitStatus::Failed, format!("error: {message}")));
            }
            self.sink.emit(Event::Warning { message, line: None });
        }
        Ok(Some(cache))
    }
}

/// Returns an index of the store with each of its images as `look` wants it.
pub(super) fn all_as_pushed(content: Content, look: &Look, store: &Store) -> Result<Content, Failure> {
    let content = match look.compression {
        Some(_) => dress_each(content, &mut |image| changed(image, look, store))?,
        None => content,
    };
    store.sync()?;
    match look.form {
        Some(form) => Ok(convert(content, form.into())?),
        None => Ok(content),
    }
}

/// Returns an image of the store as `look` wants it; of what that does not say it stays as it is.
pub(super) fn as_pushed(image: &Image, look: &Look, store: &Store) -> Result<Image, Failure> {
    let image = changed(image, look, store)?;
    store.sync()?;
    Ok(image)
}

fn changed(image: &Image, look: &Look, store: &Store) -> Result<Image, OutputError> {
    let layers = image.layers();
    let kind = |at: usize| layers[at].descriptor.media_type().as_ref();
    let recompress = look.compression.map(|compression| {
        let changes = |at: &usize| look.forced == Some(true) || !is_compressed_so(kind(*at), compression);
        (compression, (0..layers.len()).filter(|at| changes(at) && !media_type::is_foreign(kind(*at))).collect())
    });
    let form = match look.form {
        Some(form) => Some(form.into()),
        // Layers that were made anew are called as in the rest of the manifest.
        None if image.media_type == media_type::DOCKER_MANIFEST => Some(Form::Docker),
        None => Some(Form::Oci),
    };
    dress(image, &Dress { recompress, form, ..Dress::default() }, store)
}

/// Returns the annotations of this level, for an image of this platform: those for it alone count more.
fn of_level(all: &[Annotation], level: Level, platform: Option<&Platform>) -> Vec<(String, String)> {
    let of_level = || all.iter().filter(|annotation| annotation.level == level);
    let general = of_level().filter(|annotation| annotation.platform.is_none());
    let special = of_level().filter(|annotation| platform.is_some() && annotation.platform.as_ref() == platform);
    general.chain(special).map(|annotation| (annotation.key.clone(), annotation.value.clone())).collect()
}

fn annotate(descriptor: &mut Descriptor, annotations: Vec<(String, String)>) {
    if !annotations.is_empty() {
        descriptor.set_annotations(Some(annotations.into_iter().collect()));
    }
}
