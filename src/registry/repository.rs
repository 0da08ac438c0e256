use std::fmt;

use oci_spec::image::Descriptor;

use super::RegistryError;
use super::patience::Patience;
use super::referrers::referring;
use super::session::{Access, Session};
use crate::net::{Agent, AgentOptions, Body, HeaderMap, Method, NetError, Request, Response, RetryPolicy};
use crate::oci::{Digest, MAX_DOCUMENT, digest_of, media_type};

/// What a manifest may be.
pub(super) const MANIFESTS: [&str; 4] =
    [media_type::MANIFEST, media_type::INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_INDEX];
/// Docker's first schema.
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+";

/// One repository of a registry.
pub struct Repository {
    pub(super) session: Session,
}

/// A manifest or an index as the registry has it, byte by byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its digest.
    pub digest: Digest,
    /// What the registry says that it is, or what it says itself.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Repository {
    /// Returns this repository for who tries nothing again: what fails is done once more later, by somebody else.
    #[must_use]
    pub fn without_retries(mut self) -> Self {
        let options = self.session.agent.options().clone();
        self.session.agent = Agent::new(AgentOptions { retry: RetryPolicy::never(), ..options });
        self
    }

    /// Returns host and repository.
    pub fn name(&self) -> String {
        self.session.name()
    }

    /// Returns the host, with its port where it has one.
    pub fn host(&self) -> String {
        self.session.host()
    }

    /// Returns the repository, without the host.
    pub fn repository(&self) -> &str {
        &self.session.repository
    }

    /// Returns a manifest or an index by its tag or digest.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], [`RegistryError::Digest`] and others.
    pub fn manifest(&self, reference: &str) -> Result<Fetched, RegistryError> {
        let request = self.session.request(Method::GET, self.session.url(&format!("manifests/{reference}")));
        let request = request.header("Accept", MANIFESTS.join(", "));
        let what = || manifest_named(reference);
        let (headers, bytes) = self.read(&request, &what())?;
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let said = header("content-type").map(|kind| kind.split(';').next().unwrap_or_default().trim().to_owned());
        let digest_said = header("docker-content-digest").map(str::to_owned);
        let digest = Digest::of(&bytes);
        let expected = [Some(reference.to_owned()), digest_said];
        for expected in expected.iter().flatten().filter_map(|text| text.parse::<Digest>().ok()) {
            if expected != digest {
                return Err(RegistryError::Digest { what: what(), registry: self.name(), expected, found: digest });
            }
        }
        let own = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
        let own = own.as_ref().and_then(|document| document.get("mediaType")?.as_str().map(str::to_owned));
        let media_type = own.or(said).unwrap_or_default();
        if media_type.starts_with(SCHEMA_1) || is_schema_1(&bytes) {
            return Err(RegistryError::Schema1 { name: format!("{}:{reference}", self.name()) });
        }
        Ok(Fetched { digest, media_type, bytes })
    }

    /// Returns the digest of what a tag or digest leads to; `None` where there is nothing.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn digest(&self, reference: &str) -> Result<Option<Digest>, RegistryError> {
        let request = self.session.request(Method::HEAD, self.session.url(&format!("manifests/{reference}")));
        let request = request.header("Accept", MANIFESTS.join(", "));
        let response = self.session.send(&request, &Access::Pull)?;
        if response.status() == 404 {
            return Ok(None);
        }
        let response = self.checked(response, &manifest_named(reference))?;
        match response.header("docker-content-digest").and_then(|digest| digest.parse().ok()) {
            Some(digest) => Ok(Some(digest)),
            // Not all say it.
            None => self.manifest(reference).map(|fetched| Some(fetched.digest)),
        }
    }

    /// Returns whether a manifest is there, asked for as one who wants to write.
    pub(super) fn exists(&self, reference: &str) -> Result<bool, RegistryError> {
        let request = self.session.request(Method::HEAD, self.session.url(&format!("manifests/{reference}")));
        let request = request.header("Accept", MANIFESTS.join(", "));
        let response = self.session.send(&request, &Access::Push)?;
        match response.status() {
            404 => Ok(false),
            _ => self.checked(response, &manifest_named(reference)).map(|_| true),
        }
    }

    /// Returns the bytes of a document that a descriptor leads to, verified: a manifest, an index, a configuration.
    ///
    /// # Errors
    /// [`RegistryError::Length`], [`RegistryError::Digest`], [`RegistryError::NotFound`] and others.
    pub fn document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, RegistryError> {
        let (expected, size) = (digest_of(descriptor)?, descriptor.size());
        if size > MAX_DOCUMENT {
            let (what, limit) = (what.to_owned(), MAX_DOCUMENT);
            return Err(crate::oci::ImageError::TooLarge { what, found: size, unit: "bytes", limit }.into());
        }
        let is_manifest = MANIFESTS.contains(&descriptor.media_type().as_ref());
        let path = format!("{}/{expected}", if is_manifest { "manifests" } else { "blobs" });
        let mut request = self.session.request(Method::GET, self.session.url(&path));
        if is_manifest {
            request = request.header("Accept", MANIFESTS.join(", "));
        }
        let (_, bytes) = self.read(&request, what)?;
        if bytes.len() as u64 != size {
            let (what, found) = (what.to_owned(), bytes.len() as u64);
            return Err(RegistryError::Length { what, registry: self.name(), expected: size, found });
        }
        let found = Digest::of(&bytes);
        if found != expected {
            return Err(RegistryError::Digest { what: what.into(), registry: self.name(), expected, found });
        }
        Ok(bytes)
    }

    /// Returns whether a blob can be read here.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn offers_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let request = self.session.request(Method::HEAD, self.session.url(&format!("blobs/{digest}")));
        let response = self.session.send(&request, &Access::Pull)?;
        match response.status() {
            404 => Ok(false),
            _ => self.checked(response, &format!("blob {digest}")).map(|_| true),
        }
    }

    /// Returns whether the repository has a blob, asked for as one who wants to write.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let request = self.session.request(Method::HEAD, self.session.url(&format!("blobs/{digest}")));
        let response = self.session.send(&request, &Access::Push)?;
        match response.status() {
            404 => Ok(false),
            _ => self.checked(response, &format!("blob {digest}")).map(|_| true),
        }
    }

    /// Puts a manifest or an index, as it is, under a tag or its digest. Where it refers to another one and the registry keeps no list of
    /// that, it is noted in the list that clients keep.
    ///
    /// # Errors
    /// [`RegistryError`]; a registry refuses one whose blobs it has not.
    pub fn put_manifest(&self, reference: &str, kind: &str, bytes: &[u8]) -> Result<Digest, RegistryError> {
        let digest = Digest::of(bytes);
        let request = self.session.request(Method::PUT, self.session.url(&format!("manifests/{reference}")));
        let request = request.header("Content-Type", kind).body(Body::Bytes(bytes)).body_may_travel();
        let response = self.session.send(&request, &Access::Push)?;
        let response = self.checked(response, &manifest_named(reference))?;
        let said = response.header("docker-content-digest").and_then(|digest| digest.parse::<Digest>().ok());
        if let Some(found) = said.filter(|found| *found != digest) {
            let what = manifest_named(reference);
            return Err(RegistryError::Digest { what, registry: self.name(), expected: digest, found });
        }
        if response.header("oci-subject").is_none()
            && let Some((subject, descriptor)) = referring(kind, bytes)
        {
            self.note_by_tag(&subject, descriptor)?;
        }
        Ok(digest)
    }

    /// Returns headers and body of an answer, both in whole; asked for again where the connection breaks on the way.
    pub(super) fn read(&self, request: &Request<'_>, what: &str) -> Result<(HeaderMap, Vec<u8>), RegistryError> {
        let mut patience = Patience::new(&self.session.agent, 0);
        let request = request.clone().budget(patience.budget());
        loop {
            let response = self.checked(self.session.send(&request, &Access::Pull)?, what)?;
            let headers = response.headers().clone();
            let error = match response.bytes(MAX_DOCUMENT) {
                Ok(bytes) => return Ok((headers, bytes)),
                Err(error) if error.is_transient() => error,
                Err(error) => return Err(error.into()),
            };
            patience.wait(error.into(), None, 0, None)?;
        }
    }

    /// Returns an answer of status 2xx, or the error that it means. `what` is what was asked for.
    pub(super) fn checked(&self, response: Response, what: &str) -> Result<Response, RegistryError> {
        match response.status() {
            200..300 => Ok(response),
            401 => Err(RegistryError::Unauthorized {
                registry: self.name(),
                known: self.session.credentials.is_some(),
                source: Some(response.into_error()),
            }),
            403 => Err(RegistryError::Denied { registry: self.name(), source: response.into_error() }),
            404 => Err(RegistryError::NotFound { what: what.into(), registry: self.name() }),
            _ => Err(NetError::into(response.into_error())),
        }
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repository({})", self.name())
    }
}

fn manifest_named(reference: &str) -> String {
    if reference.contains(':') { format!("manifest {reference}") } else { format!("tag {reference}") }
}

fn is_schema_1(bytes: &[u8]) -> bool {
    let document: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    document.is_some_and(|document| document.get("schemaVersion").and_then(serde_json::Value::as_u64) == Some(1))
}
