//! Between registries and all other places.

use std::collections::BTreeMap;
use std::io::{self, Read};

use oci_spec::image::Descriptor;

use super::OutputError;
use super::content::{Blob, Content, Origin, Selection, StoreOrigin, Top};
use crate::oci::{Digest, DigestReader, Reference, digest_of};
use crate::progress::{Event, Sink};
use crate::registry::{
    self, BoxError, Client, Incoming, Manifest, Outgoing, PushOptions, Pushed, RegistryError, Remote, Repository,
};
use crate::store::{Arrivals, Packed, PartialBlob, Store, UploadRecord, describe};

/// An image in a registry, opened: see [`Client::open`].
#[derive(Debug)]
pub struct RemoteOrigin<'a> {
    /// What was found in the registry.
    pub remote: &'a Remote,
    /// The name by which it was asked for.
    pub name: Reference,
}

impl Origin for RemoteOrigin<'_> {
    fn place(&self) -> String {
        self.name.to_string()
    }

    fn top(&self) -> Result<Top, OutputError> {
        let names = self.name.tag().map(|_| self.name.to_string()).into_iter().collect();
        Ok(Top { starts: vec![self.remote.descriptor.clone()], names })
    }

    fn document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, OutputError> {
        Ok(self.remote.document(descriptor, what)?)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Blob<'_>, OutputError> {
        self.blob_from(descriptor, 0)
    }

    fn blob_from(&self, descriptor: &Descriptor, offset: u64) -> Result<Blob<'_>, OutputError> {
        Ok((Box::new(self.remote.repository.blob(descriptor, offset)?), descriptor.size()))
    }

    fn repository(&self) -> Option<&Repository> {
        Some(&self.remote.repository)
    }

    fn is_remote(&self) -> bool {
        true
    }
}

/// Pushes an image or an index, with all that it leads to, under the tag of each of `names`, which must be of one repository; by
/// its digest alone where they have none.
///
/// # Errors
/// [`OutputError`]. The registry keeps what it has by then, but no name leads to it.
pub fn push(
    content: &Content,
    from: &dyn Origin,
    client: &Client,
    names: &[Reference],
    options: PushOptions<'_>,
    sink: &dyn Sink,
) -> Result<Pushed, OutputError> {
    let Some(first) = names.first() else { return Ok(Pushed::default()) };
    let (repository, _) = client.target(first)?;
    let tags: Vec<&str> = names.iter().filter_map(Reference::tag).collect();
    let mut blobs: Vec<(Digest, u64)> = Vec::new();
    for descriptor in content.blobs.values().filter(|blob| !stays_outside(blob)) {
        blobs.push((digest_of(descriptor)?, descriptor.size()));
    }
    for (digest, bytes) in &content.configs {
        if blobs.iter().all(|(known, _)| known != digest) {
            blobs.push((*digest, bytes.len() as u64));
        }
    }
    let manifests: Vec<Manifest<'_>> = content
        .documents
        .iter()
        .map(|(descriptor, bytes)| Manifest { media_type: descriptor.media_type().as_ref(), bytes })
        .collect();
    let outgoing = Outgoing { manifests: &manifests, blobs: &blobs };
    let pushed = repository.push(outgoing, &tags, &Blobs { content, from }, options, sink)?;
    for name in names {
        sink.emit(Event::Exported { what: format!("docker://{name}"), digest: Some(content.digest().to_string()) });
    }
    Ok(pushed)
}

/// Pushes one layer of the store, without an image that it belongs to.
///
/// # Errors
/// As [`push`].
pub fn push_layer(
    layer: &Packed,
    store: &Store,
    repository: &Repository,
    options: PushOptions<'_>,
    sink: &dyn Sink,
) -> Result<(), OutputError> {
    let top = describe(&layer.media_type, &layer.digest, layer.size);
    let blobs = BTreeMap::from([(layer.digest, top.clone())]);
    let content = Content { top, documents: Vec::new(), configs: BTreeMap::new(), blobs };
    let origin = Blobs { content: &content, from: &StoreOrigin(store) };
    repository.push_blobs(&[(layer.digest, layer.size)], &origin, options, sink)?;
    Ok(())
}

/// Brings an image or an index, with all that it leads to, into the store: from the first place of the name that has it. Returns what
/// leads to it; the caller names it.
///
/// # Errors
/// [`OutputError`]. Blobs that were complete by then stay in the store.
pub fn pull_all(client: &Client, name: &Reference, store: &Store, sink: &dyn Sink) -> Result<Descriptor, OutputError> {
    let content = client.first_place(name, &|remote| {
        let origin = RemoteOrigin { remote: &remote, name: name.clone() };
        let gathered = origin.top().and_then(|top| Content::gather(&origin, &top, &Selection::All));
        let content = gathered.map_err(|error| match error {
            OutputError::Registry(error) => *error,
            // It becomes what it was on its way back.
            error => RegistryError::Origin(io::Error::other(error)),
        })?;
        let layers = content.blobs.iter().filter(|(digest, _)| !content.configs.contains_key(*digest));
        let layers: Vec<Descriptor> = layers.map(|(_, blob)| blob.clone()).collect();
        remote.repository.fetch_blobs(&layers, &IntoStore(store), sink, 0)?;
        Ok(content)
    })?;
    for config in content.configs.values() {
        store.put_blob(config)?;
    }
    for (_, bytes) in &content.documents {
        store.put_blob(bytes)?;
    }
    Ok(content.top)
}

/// Layers that their owner does not want redistributed: they have addresses of their own.
fn stays_outside(blob: &Descriptor) -> bool {
    let kind = blob.media_type().as_ref();
    let foreign = kind.contains("nondistributable") || kind.contains("foreign");
    foreign && blob.urls().as_ref().is_some_and(|urls| !urls.is_empty())
}

/// The blobs of a content, verified as they are read.
struct Blobs<'a> {
    content: &'a Content,
    from: &'a dyn Origin,
}

impl registry::Origin for Blobs<'_> {
    fn open(&self, digest: &Digest, size: u64, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let inner: Box<dyn Read + Send + '_> = match (self.content.configs.get(digest), self.content.blobs.get(digest))
        {
            (Some(bytes), _) => Box::new(bytes.as_slice()),
            (None, Some(descriptor)) => {
                let (reader, length) = self.from.blob(descriptor).map_err(io::Error::other)?;
                if length != size {
                    return Err(io::Error::other(self.from.wrong((*digest, size), (*digest, length))));
                }
                reader
            }
            (None, None) => return Err(io::ErrorKind::NotFound.into()),
        };
        let mut reader =
            Verified { inner: Some(DigestReader::new(inner)), left: size, from: self.from, blob: (*digest, size) };
        // From the start, so that all of it is verified.
        io::copy(&mut reader.by_ref().take(offset), &mut io::sink())?;
        Ok(Box::new(reader))
    }
}

struct Verified<'a> {
    /// `None` after the last byte.
    inner: Option<DigestReader<Box<dyn Read + Send + 'a>>>,
    left: u64,
    from: &'a dyn Origin,
    blob: (Digest, u64),
}

impl Read for Verified<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let Some(inner) = self.inner.as_mut().filter(|_| most > 0) else { return Ok(0) };
        let length = inner.read(&mut buffer[..most])?;
        self.left -= length as u64;
        if self.left == 0 || length == 0 {
            // Before the last bytes are handed on: what is damaged must not be complete.
            let (_, found, read) = self.inner.take().expect("there just now").finish();
            if (found, read) != self.blob {
                return Err(io::Error::other(self.from.wrong(self.blob, (found, read))));
            }
        }
        Ok(length)
    }
}

/// The store, as pulls see it: what is interrupted goes on next time.
#[derive(Debug, Clone, Copy)]
pub struct IntoStore<'a>(pub &'a Store);

impl registry::Destination for IntoStore<'_> {
    fn has(&self, digest: &Digest, size: u64) -> bool {
        self.0.blob_is_sound(digest, size)
    }

    fn begin(&self, digest: &Digest, size: u64) -> Result<Box<dyn Incoming>, BoxError> {
        Ok(Box::new(Part(self.0.partial_blob(digest, size)?)))
    }
}

/// Uploads that are gone on with by the next process, as the store knows them.
#[derive(Debug, Clone, Copy)]
pub struct UploadsIn<'a>(pub &'a Store);

impl registry::Unfinished for UploadsIn<'_> {
    fn session(&self, place: &str, digest: &Digest) -> Option<Box<dyn registry::Session>> {
        Some(Box::new(Known(self.0.upload(place, digest)?)))
    }
}

struct Known(UploadRecord);

impl registry::Session for Known {
    fn location(&self) -> Option<String> {
        self.0.location().map(str::to_owned)
    }

    fn begin(&mut self, location: &str) {
        self.0.begin(location);
    }

    fn go_on(&mut self, location: &str) {
        self.0.go_on(location);
    }

    fn end(self: Box<Self>) {
        self.0.end();
    }
}

/// As [`IntoStore`]; who unpacks the blobs can read them as they come.
#[derive(Debug, Clone, Copy)]
pub struct ArrivingIn<'a> {
    /// The store.
    pub store: &'a Store,
    /// Where readers hear of the blobs.
    pub arrivals: &'a Arrivals,
}

impl registry::Destination for ArrivingIn<'_> {
    fn has(&self, digest: &Digest, size: u64) -> bool {
        self.store.blob_is_sound(digest, size) && self.arrivals.is_there(digest, self.store).is_ok()
    }

    fn begin(&self, digest: &Digest, size: u64) -> Result<Box<dyn Incoming>, BoxError> {
        let mut blob = self.store.partial_blob(digest, size)?;
        self.arrivals.announce(digest, &mut blob)?;
        Ok(Box::new(Part(blob)))
    }
}

struct Part(PartialBlob);

impl io::Write for Part {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Incoming for Part {
    fn kept(&self) -> u64 {
        self.0.kept()
    }

    fn restart(&mut self) -> io::Result<()> {
        self.0.restart()
    }

    fn finish(self: Box<Self>) -> Result<Option<Digest>, BoxError> {
        Ok(self.0.finish()?)
    }
}

impl From<RegistryError> for OutputError {
    /// What went wrong on our side of a transfer is what it was.
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Origin(error) => match error.downcast::<OutputError>() {
                Ok(error) => error,
                Err(error) => OutputError::Registry(Box::new(RegistryError::Origin(error))),
            },
            RegistryError::Destination(error) => match error.downcast() {
                Ok(error) => OutputError::Store(*error),
                Err(error) => OutputError::Registry(Box::new(RegistryError::Destination(error))),
            },
            RegistryError::Image(error) => OutputError::Image(error),
            other => OutputError::Registry(Box::new(other)),
        }
    }
}
