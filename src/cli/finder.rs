//! Images that a Dockerfile names, opened where they are: what their names lead to now, without fetching a layer.

use super::registry::{LazyClient, remote_error};
use super::report::{Failure, chain};
use super::{bundled, classify, names};
use crate::address::{self, GitAddress};
use crate::oci::{Digest, ImageConfig, Platform, Reference, digest_of, media_type};
use crate::output::bundle::{Bundle, ImageRow};
use crate::output::content::{Content, InStore, Origin, Selection};
use crate::output::remote::RemoteOrigin;
use crate::output::{Location, OutputError, Place, index};
use crate::plan::{CopySource, Fetch};
use crate::progress::{Event, Sink};
use crate::registry::Remote;
use crate::store::Store;

/// Finds images.
pub(super) struct Finder<'a> {
    pub client: &'a LazyClient<'a>,
    pub store: &'a Store,
    pub sink: &'a dyn Sink,
    /// What is asked in place of all registries.
    pub bundle: Option<&'a Bundle>,
}

/// An image that was found.
pub(super) enum Found<'a> {
    Registry { remote: Box<Remote>, name: Reference },
    Store(Box<InStore<'a>>),
    Place(Place),
    Bundle(&'a Bundle, ImageRow),
}

impl<'a> Finder<'a> {
    /// Returns what a name leads to: in its registry, and where that does not have it or cannot be asked, in the store. With a
    /// `pin` it is the image with that digest, which need not be asked for where the store has it.
    ///
    /// The inner failure says that nobody has such an image; the outer one, that this is not known.
    pub fn find(&self, written: &str, pin: Option<&Digest>) -> Result<Result<Found<'a>, Failure>, Failure> {
        let written = bare(written);
        if Location::has_transport(written) {
            let location: Location = written.parse()?;
            return Ok(Ok(Found::Place(Place::open(&location, &self.store.tmp())?)));
        }
        let written = match pin {
            Some(digest) => pinned(written, digest),
            None => written.to_owned(),
        };
        let reference = Reference::parse(&written)?;
        if reference.digest().is_some()
            && let Some(found) = self.in_store(&reference)?
        {
            return Ok(Ok(found));
        }
        if let Some(bundle) = self.bundle {
            let missing = || OutputError::Missing { what: written.clone(), path: bundle.path().to_path_buf() };
            let row = bundled::find(bundle, &written)?;
            return Ok(row.map(|row| Found::Bundle(bundle, row.clone())).ok_or_else(|| missing().into()));
        }
        let client = self.client.get()?;
        let mut failed = None;
        for name in client.candidates(&written, &reference)? {
            match client.open(&name) {
                Ok(remote) => return Ok(Ok(Found::Registry { remote: Box::new(remote), name })),
                Err(error) if error.is_of_the_place() => failed = Some(error),
                Err(error) => return Err(remote_error(error)),
            }
        }
        match (self.in_store(&reference)?, failed) {
            (Some(found), failed) => {
                if let Some(error) = failed.filter(|error| !error.is_not_found()) {
                    let message =
                        format!("{reference} is that of the store: its registry cannot be asked: {}", chain(&error));
                    self.sink.emit(Event::Warning { message, line: None });
                }
                Ok(Ok(found))
            }
            (None, Some(error)) if error.is_not_found() => Ok(Err(remote_error(error))),
            (None, Some(error)) => Err(remote_error(error)),
            (None, None) => Ok(Err(classify::NoImage { name: written }.into())),
        }
    }

    /// Returns an image, and its configuration for a platform. Of an index that the store has, the image for that platform may not be
    /// there: then it is looked for where the others came from.
    pub fn find_for(
        &self,
        written: &str,
        pin: Option<&Digest>,
        platform: &Platform,
    ) -> Result<(Found<'a>, ImageConfig), Failure> {
        let found = self.find(written, pin)??;
        match (found.config(platform), &found) {
            (Err(_), Found::Store(_)) if self.bundle.is_none() => {
                let reference = Reference::parse(&pinned(written, &found.digest()?))?;
                let remote = self.client.get()?.open(&reference).map_err(remote_error)?;
                let found = Found::Registry { remote: Box::new(remote), name: reference };
                let config = found.config(platform)?;
                Ok((found, config))
            }
            (config, _) => Ok((found, config?)),
        }
    }

    /// Returns what the store has under a name, or a place of this machine.
    pub fn stored(&self, written: &str) -> Result<Option<Found<'a>>, Failure> {
        let written = bare(written);
        if is_place(written) {
            return Ok(Some(Found::Place(Place::open(&written.parse()?, &self.store.tmp())?)));
        }
        self.in_store(&Reference::parse(written)?)
    }

    fn in_store(&self, name: &Reference) -> Result<Option<Found<'a>>, Failure> {
        let name = name.to_string();
        let found = self.store.find(&name)?;
        Ok(found.map(|top| Found::Store(Box::new(InStore { store: self.store, top, name: Some(name) }))))
    }
}

impl Found<'_> {
    /// Returns where it is read.
    pub fn origin(&self) -> Result<Box<dyn Origin + '_>, OutputError> {
        Ok(match self {
            Found::Registry { remote, name } => Box::new(RemoteOrigin { remote, name: name.clone() }),
            Found::Store(image) => Box::new(InStore::clone(image)),
            Found::Place(place) => place.origin(None)?,
            Found::Bundle(bundle, row) => Box::new(bundle.image(row)),
        })
    }

    /// Returns the digest of the manifest or index. Several images that a layout has under one name get an index here.
    pub fn digest(&self) -> Result<Digest, Failure> {
        let top = self.origin()?.top()?;
        Ok(match &top.starts[..] {
            [one] => digest_of(one).map_err(OutputError::from)?,
            several => digest_of(&index::assemble(media_type::INDEX, several).0).map_err(OutputError::from)?,
        })
    }

    /// Returns the configuration of the image for a platform.
    pub fn config(&self, platform: &Platform) -> Result<ImageConfig, Failure> {
        let origin = self.origin()?;
        let content = Content::gather(origin.as_ref(), &origin.top()?, &Selection::Platform(platform.clone()))?;
        let image = content.image().map_err(OutputError::from)?;
        Ok(image.expect("one platform is one image").config)
    }
}

/// Returns the name that an image has in a lock or a bundle: in full, or as written where it is a place of this machine.
pub(super) fn image_key(written: &str) -> Result<String, Failure> {
    let written = bare(written);
    Ok(if is_place(written) { written.to_owned() } else { names::normalise(written)? })
}

/// Returns the name that something fetched has there: without a password.
pub(super) fn fetch_key(fetch: &Fetch<'_>) -> Result<String, Failure> {
    Ok(match fetch.source {
        CopySource::Git(text) => GitAddress::parse(text)?.to_string(),
        CopySource::Url(text) => url_key(text),
        CopySource::Path(text) => text.clone(),
        CopySource::Inline { name, .. } => name.clone(),
    })
}

/// Returns an image by its digest.
pub(super) fn pinned(written: &str, digest: &Digest) -> String {
    let written = bare(written);
    format!("{}@{digest}", written.split('@').next().unwrap_or(written))
}

/// Returns whether an image is at a place of this machine.
pub(super) fn is_place(written: &str) -> bool {
    Location::has_transport(bare(written))
}

/// Returns the name that a URL has in a lock.
pub(super) fn url_key(url: &str) -> String {
    address::shown(url.split('#').next().unwrap_or(url))
}

/// Returns a name without the scheme that says that it is in a registry.
pub(super) fn bare(written: &str) -> &str {
    written.strip_prefix("docker://").unwrap_or(written)
}
