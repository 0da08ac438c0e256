// A failure is made seldom, and never kept: its size does not matter.
#![allow(clippy::result_large_err)]

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::meter::Meter;
use super::patience::Patience;
use super::repository::Repository;
use super::session::Access;
use super::{Origin, RegistryError, Unfinished};
use crate::net::{Body, Budget, Method, NetError, Response, Url};
use crate::oci::Digest;

/// Pieces in which a blob goes to a registry that does not take it at once.
const PIECE: u64 = 32 << 20;
/// The smallest such piece.
const SMALLEST: u64 = 1 << 20;
/// The smallest blob whose upload is worth to be gone on with by another process.
const WORTH: u64 = 1 << 20;
/// Repositories that a blob is tried to be mounted from.
const MOUNTS: usize = 2;

/// How a blob came into the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// It was there.
    There,
    /// It was in another repository.
    Mounted,
    /// It was sent.
    Uploaded,
}

/// What all blobs of a push go by.
pub(super) struct Way<'a> {
    pub origin: &'a dyn Origin,
    pub meter: &'a Meter<'a>,
    pub stop: &'a AtomicBool,
    pub unfinished: Option<&'a dyn Unfinished>,
}

/// An upload session.
struct Upload {
    location: Url,
    /// What the registry has got.
    offset: u64,
    /// Whether the whole is sent in one request: the quickest way, tried first.
    at_once: bool,
    /// The most that goes into one request.
    piece: u64,
}

/// Why a blob is not there yet.
enum Failure {
    Stop(RegistryError),
    /// The connection broke, or the registry wants us to come back later: ask it how far it got.
    Again(RegistryError, Option<Duration>),
    /// The registry has forgotten the session.
    Lost(RegistryError),
}

impl<E: Into<RegistryError>> From<E> for Failure {
    fn from(error: E) -> Self {
        match error.into() {
            RegistryError::Net(NetError::Source { source, .. }) => Failure::Stop(RegistryError::Origin(source)),
            RegistryError::Net(error) if error.is_transient() => Failure::Again(error.into(), None),
            error => Failure::Stop(error),
        }
    }
}

impl Repository {
    /// Sees to it that the repository has a blob.
    pub(super) fn upload(
        &self,
        (digest, size): (&Digest, u64),
        elsewhere: &dyn Fn() -> Vec<String>,
        way: &Way<'_>,
    ) -> Result<Sent, RegistryError> {
        let meter = way.meter;
        if self.has_blob(digest)? {
            meter.advance(size);
            return Ok(Sent::There);
        }
        let mut record = way.unfinished.filter(|_| size >= WORTH).and_then(|known| known.session(&self.name(), digest));
        let mut upload = record.as_ref().and_then(|record| self.resume(&record.location()?, size));
        // What an earlier process has sent may be at fault.
        let mut resumed = upload.is_some();
        meter.advance(upload.as_ref().map_or(0, |upload| upload.offset));
        let elsewhere = if resumed { Vec::new() } else { elsewhere() };
        for from in elsewhere.iter().take(MOUNTS) {
            match self.mount(digest, from)? {
                Some(None) => {
                    meter.advance(size);
                    record.into_iter().for_each(|record| record.end());
                    return Ok(Sent::Mounted);
                }
                // It has it not, and begins an upload in its place.
                Some(Some(begun)) => {
                    upload = Some(begun);
                    break;
                }
                None => {}
            }
        }
        let mut patience = Patience::new(&self.session.agent, 0);
        loop {
            let mut current = match upload.take() {
                Some(upload) => upload,
                None => {
                    let begun = self.begin(patience.budget())?;
                    record.iter_mut().for_each(|record| record.begin(begun.location.as_str()));
                    begun
                }
            };
            let moved = &mut |location: &Url| record.iter_mut().for_each(|record| record.go_on(location.as_str()));
            let (error, asked, lost) = match self.go_on(&mut current, (digest, size), way, moved, patience.budget()) {
                Ok(()) => {
                    record.into_iter().for_each(|record| record.end());
                    return Ok(Sent::Uploaded);
                }
                Err(Failure::Stop(RegistryError::Net(error))) if resumed && error.status().is_some() => {
                    resumed = false;
                    (error.into(), None, true)
                }
                Err(Failure::Stop(error)) => return Err(error),
                Err(Failure::Again(error, asked)) => (error, asked, false),
                Err(Failure::Lost(error)) => (error, None, true),
            };
            let before = current.offset;
            patience.wait(error, asked, if lost { 0 } else { before }, Some(meter.sink()))?;
            upload = if lost { None } else { self.how_far(current, size, patience.budget())? };
            let now = upload.as_ref().map_or(0, |upload| upload.offset);
            if now >= before { meter.advance(now - before) } else { meter.take_back(before - now) }
        }
    }

    /// Asks for a blob of another repository: `Some(None)` where it is here now, `None` where the question was not understood.
    fn mount(&self, digest: &Digest, from: &str) -> Result<Option<Option<Upload>>, RegistryError> {
        let mut url = self.session.url("blobs/uploads/");
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
        let request = self.session.request(Method::POST, url).body(Body::Bytes(&[])).repeatable();
        match self.session.send(&request, &Access::Mount(from.to_owned())) {
            Ok(response) => match response.status() {
                201 => Ok(Some(None)),
                202 => Ok(Some(Some(self.begun(&response)?))),
                _ => Ok(None),
            },
            // Not ours to read, then.
            Err(RegistryError::Unauthorized { .. } | RegistryError::Denied { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn begin(&self, budget: &Budget) -> Result<Upload, RegistryError> {
        let request = self.session.request(Method::POST, self.session.url("blobs/uploads/"));
        let response = self.session.send(&request.body(Body::Bytes(&[])).repeatable().budget(budget), &Access::Push)?;
        let response = self.checked(response, "the place for uploads")?;
        self.begun(&response)
    }

    fn begun(&self, response: &Response) -> Result<Upload, RegistryError> {
        Ok(Upload { location: self.location(response)?, offset: 0, at_once: true, piece: u64::MAX })
    }

    /// Returns where an upload goes on.
    fn location(&self, response: &Response) -> Result<Url, RegistryError> {
        let text = response.header("location").ok_or_else(|| self.odd("it does not say where an upload goes"))?;
        let mut url = response.url().join(text).map_err(|_| self.odd("it says no URL where an upload goes"))?;
        let base = &self.session.base;
        // A registry behind a proxy may not know that it is spoken to with TLS.
        if base.scheme() == "https" && url.scheme() == "http" && url.host() == base.host() {
            let port = url.port().filter(|port| *port != 80).or(base.port());
            let _ = url.set_scheme("https").and(url.set_port(port));
        }
        let _ = url.set_username("").and(url.set_password(None));
        Ok(url)
    }

    /// Sends what the registry has not got yet, and ends the upload.
    fn go_on(
        &self,
        upload: &mut Upload,
        (digest, size): (&Digest, u64),
        way: &Way<'_>,
        moved: &mut dyn FnMut(&Url),
        budget: &Budget,
    ) -> Result<(), Failure> {
        let Way { origin, meter, stop, .. } = *way;
        let part = |offset, length| {
            let (blob, passed) = ((digest, size), AtomicU64::new(0));
            Part { origin, blob, offset, length, meter, stop, passed }
        };
        if upload.at_once && upload.offset == 0 {
            let request = self.session.request(Method::PUT, ended(&upload.location, digest));
            let part = part(0, size);
            let open = || part.open();
            let request =
                request.header("Content-Type", "application/octet-stream").once().body_may_travel().budget(budget);
            let body = Body::Stream { length: size, open: &open };
            let result = self.session.send(&request.body(body), &Access::Push);
            let response = match result {
                Ok(response) if response.status() < 300 => return Ok(()),
                other => {
                    // How much of it has arrived is for the registry to say.
                    part.take_back();
                    other?
                }
            };
            upload.at_once = false;
            match response.status() {
                // Too much at once, for the registry or for a proxy before it.
                405 | 413 => upload.piece = PIECE,
                _ => return Err(self.refused(response, digest)),
            }
        }
        while upload.offset < size {
            let length = (size - upload.offset).min(upload.piece);
            let last = upload.offset + length - 1;
            let request = self.session.request(Method::PATCH, upload.location.clone());
            let request = request
                .header("Content-Type", "application/octet-stream")
                .header("Content-Range", format!("{}-{last}", upload.offset))
                .once()
                .body_may_travel()
                .budget(budget);
            let part = part(upload.offset, length);
            let open = || part.open();
            let body = Body::Stream { length, open: &open };
            let result = self.session.send(&request.body(body), &Access::Push);
            let response = match result {
                Ok(response) if response.status() < 300 => response,
                other => {
                    part.take_back();
                    let response = other?;
                    if response.status() == 413 && length > SMALLEST {
                        upload.piece = (length / 2).clamp(SMALLEST, PIECE);
                        continue;
                    }
                    return Err(self.refused(response, digest));
                }
            };
            upload.location = self.location(&response)?;
            moved(&upload.location);
            let before = upload.offset;
            upload.offset = match received(&response) {
                // That is how it says that it has the first byte, too.
                Some(0) if last == 0 => 1,
                Some(offset) => offset,
                None => last + 1,
            };
            if upload.offset > size {
                return Err(Failure::Stop(self.odd("it says that it got more than was sent")));
            }
            // It may have taken a part only.
            meter.take_back((last + 1).saturating_sub(upload.offset));
            if upload.offset < (last + 1).min(before.saturating_add(SMALLEST)) {
                // That could go on for ever.
                return Err(Failure::Again(
                    self.odd("it takes a blob, and says that it has next to nothing of it"),
                    None,
                ));
            }
        }
        let request = self.session.request(Method::PUT, ended(&upload.location, digest));
        let request = request.header("Content-Type", "application/octet-stream").body(Body::Bytes(&[])).once();
        let response = self.session.send(&request.budget(budget), &Access::Push)?;
        if response.status() < 300 { Ok(()) } else { Err(self.refused(response, digest)) }
    }

    fn refused(&self, response: Response, digest: &Digest) -> Failure {
        let (status, asked) = (response.status(), response.retry_after());
        let what = format!("blob {digest}");
        let error = match status {
            404 => return Failure::Lost(NetError::into(response.into_error())),
            _ => self.checked(response, &what).map(drop).err(),
        };
        match error {
            // Out of step: it is asked how far it got.
            Some(error) if status == 416 => Failure::Again(error, asked),
            Some(RegistryError::Net(error)) if error.is_transient() => Failure::Again(error.into(), asked),
            Some(error) => Failure::Stop(error),
            None => Failure::Stop(self.odd("its answer makes no sense")),
        }
    }

    /// Returns the upload that an earlier process began at `location`, if there is anything to be gone on with.
    fn resume(&self, location: &str, size: u64) -> Option<Upload> {
        let location = Url::parse(location).ok()?;
        let begun = Upload { location, offset: 0, at_once: false, piece: u64::MAX };
        self.how_far(begun, size, &Budget::default()).ok().flatten().filter(|upload| upload.offset > 0)
    }

    /// Asks the registry how much of an upload it has got; `None` where it knows nothing of it, and it must begin anew.
    fn how_far(&self, upload: Upload, size: u64, budget: &Budget) -> Result<Option<Upload>, RegistryError> {
        let request = self.session.request(Method::GET, upload.location.clone()).budget(budget);
        let response = match self.session.send(&request, &Access::Push) {
            Ok(response) => response,
            Err(RegistryError::Net(error)) if error.is_transient() => return Ok(None),
            Err(error) => return Err(error),
        };
        if response.status() >= 300 {
            return Ok(None);
        }
        let offset = received(&response).unwrap_or(0);
        if offset > size {
            return Ok(None);
        }
        let location = self.location(&response).unwrap_or(upload.location);
        Ok(Some(Upload { location, offset, at_once: false, piece: upload.piece }))
    }
}

/// How many bytes the Range header says that there are: `0-99` is a hundred. Nothing at all is `0-0` too, for some.
fn received(response: &Response) -> Option<u64> {
    let range = response.header("range")?.trim_start_matches("bytes=").trim();
    let last: u64 = range.strip_prefix("0-")?.parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}

/// Adds the digest, which ends an upload, to its URL.
fn ended(location: &Url, digest: &Digest) -> Url {
    let mut url = location.clone();
    url.query_pairs_mut().append_pair("digest", &digest.to_string());
    url
}

/// A part of a blob that is being sent: opened as often as it takes, with a count of what passes.
struct Part<'a> {
    origin: &'a dyn Origin,
    blob: (&'a Digest, u64),
    offset: u64,
    length: u64,
    meter: &'a Meter<'a>,
    stop: &'a AtomicBool,
    passed: AtomicU64,
}

impl Part<'_> {
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        self.take_back();
        let (digest, size) = self.blob;
        let inner = self.origin.open(digest, size, self.offset)?.take(self.length);
        Ok(Box::new(Counted { inner, part: self }))
    }

    /// It did not arrive, as far as we know.
    fn take_back(&self) {
        self.meter.take_back(self.passed.swap(0, Ordering::Relaxed));
    }
}

struct Counted<'a, R> {
    inner: R,
    part: &'a Part<'a>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.part.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("another blob failed"));
        }
        let length = self.inner.read(buffer)?;
        self.part.passed.fetch_add(length as u64, Ordering::Relaxed);
        self.part.meter.advance(length as u64);
        Ok(length)
    }
}
