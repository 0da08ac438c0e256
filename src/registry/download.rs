// A failure is made seldom, and never kept: its size does not matter.
#![allow(clippy::result_large_err)]

use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::meter::Meter;
use super::patience::Patience;
use super::repository::Repository;
use super::session::Access;
use super::{Destination, Incoming, RegistryError};
use crate::net::{Budget, Method, NetError, Request, Response, Security};
use crate::oci::Digest;

/// How many bytes are copied at once.
const CHUNK: usize = 256 << 10;

/// A blob to fetch.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub digest: Digest,
    pub size: u64,
    /// Where else it may be had from: layers that their owner does not want redistributed.
    pub urls: Vec<String>,
}

/// Why a blob is not there yet.
pub(super) enum Failure {
    /// It is of no use to try again.
    Stop(RegistryError),
    /// It may work later; so long the peer wants to be left alone.
    Again(RegistryError, Option<Duration>),
}

impl<E: Into<RegistryError>> From<E> for Failure {
    fn from(error: E) -> Self {
        match error.into() {
            RegistryError::Net(error) if error.is_transient() => Failure::Again(error.into(), None),
            error => Failure::Stop(error),
        }
    }
}

impl Repository {
    /// Brings a blob to its destination, in as many attempts as it takes; each goes on where the last one stopped.
    pub(super) fn download(
        &self,
        blob: &Wanted,
        destination: &dyn Destination,
        meter: &Meter<'_>,
        stop: &AtomicBool,
    ) -> Result<(), RegistryError> {
        let begin = || destination.begin(&blob.digest, blob.size).map_err(RegistryError::Destination);
        let mut incoming = begin()?;
        let mut resumed = incoming.kept() > 0;
        meter.advance(incoming.kept());
        let mut patience = Patience::new(&self.session.agent, incoming.kept());
        loop {
            match self.fetch(blob, incoming.as_mut(), (meter, stop), &mut resumed, patience.budget()) {
                Ok(()) => match incoming.finish().map_err(RegistryError::Destination)? {
                    None => return Ok(()),
                    // What an earlier attempt left may be at fault.
                    Some(_) if resumed => {
                        resumed = false;
                        meter.take_back(blob.size);
                        incoming = begin()?;
                    }
                    Some(found) => {
                        let (what, registry) = (format!("blob {}", blob.digest), self.name());
                        return Err(RegistryError::Digest { what, registry, expected: blob.digest, found });
                    }
                },
                Err(Failure::Stop(error)) => return Err(error),
                Err(Failure::Again(error, asked)) => {
                    patience.wait(error, asked, incoming.kept(), Some(meter.sink()))?;
                }
            }
        }
    }

    /// Fetches what is missing of a blob.
    fn fetch(
        &self,
        blob: &Wanted,
        incoming: &mut dyn Incoming,
        (meter, stop): (&Meter<'_>, &AtomicBool),
        resumed: &mut bool,
        budget: &Budget,
    ) -> Result<(), Failure> {
        if incoming.kept() > blob.size {
            self.restart(incoming, meter)?;
        }
        let offset = incoming.kept();
        if offset == blob.size && offset > 0 {
            return Ok(());
        }
        let mut response = self.ask(blob, offset, budget)?;
        match response.status() {
            206 if offset > 0 => {
                if !self.begins_at(&response, offset) {
                    self.restart(incoming, meter)?;
                    return Err(Failure::Again(self.odd("it answers with another range than it was asked for"), None));
                }
                *resumed = true;
            }
            // Of the whole, though a part was asked for: it knows no ranges.
            200..300 => self.restart(incoming, meter)?,
            416 => {
                self.restart(incoming, meter)?;
                return Err(Failure::Again(self.odd("it does not have the range that is missing"), None));
            }
            _ => return Err(self.not_given(response, &blob.digest)),
        }
        let missing = blob.size - incoming.kept();
        let wrong = |found| {
            let (what, registry) = (format!("blob {}", blob.digest), self.name());
            Failure::Stop(RegistryError::Length { what, registry, expected: blob.size, found })
        };
        if let Some(length) = response.length()
            && length != missing
        {
            return Err(wrong((blob.size - missing).saturating_add(length)));
        }
        let mut buffer = vec![0; CHUNK];
        let mut left = missing;
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::Stop(NetError::Cancelled.into()));
            }
            let length = match response.read(&mut buffer) {
                Ok(0) if left == 0 => return Ok(()),
                Ok(0) => {
                    let source = ErrorKind::UnexpectedEof.into();
                    return Err(NetError::Broken { place: response.place(), source }.into());
                }
                Ok(length) => length,
                Err(error) => {
                    let place = response.place();
                    return Err(NetError::from_io(error)
                        .unwrap_or_else(|source| NetError::Broken { place, source })
                        .into());
                }
            };
            if length as u64 > left {
                return Err(wrong(blob.size.saturating_add(length as u64 - left)));
            }
            let written = incoming.write_all(&buffer[..length]);
            written.map_err(|error| Failure::Stop(RegistryError::Destination(error.into())))?;
            left -= length as u64;
            meter.advance(length as u64);
        }
    }

    /// Asks the registry for a blob from `offset` on, else those who are said to have it.
    pub(super) fn ask(&self, blob: &Wanted, offset: u64, budget: &Budget) -> Result<Response, Failure> {
        let ranged = |request: Request<'static>| match offset {
            0 => request,
            offset => request.header("Range", format!("bytes={offset}-")),
        };
        let url = self.session.url(&format!("blobs/{}", blob.digest));
        let request = ranged(self.session.request(Method::GET, url)).once().budget(budget);
        let response = self.session.send(&request, &Access::Pull)?;
        let mut response = passing(response)?;
        for url in blob.urls.iter().filter(|url| url.starts_with("https://")) {
            if response.status() != 404 {
                break;
            }
            // Who we are to the registry is none of their business.
            let request = Request::get(url)?.security(Arc::new(Security::default())).once();
            response = passing(self.session.agent.send(ranged(request))?)?;
        }
        Ok(response)
    }

    /// Whether a part of a blob is the one that begins at `offset`.
    pub(super) fn begins_at(&self, response: &Response, offset: u64) -> bool {
        let range = response.header("content-range").unwrap_or_default();
        let start = range.trim_start_matches("bytes").trim().split('-').next().unwrap_or_default();
        start.parse() == Ok(offset)
    }

    /// The error for an answer that is no blob.
    pub(super) fn not_given(&self, response: Response, digest: &Digest) -> Failure {
        match self.checked(response, &format!("blob {digest}")) {
            Err(error) => error.into(),
            Ok(_) => Failure::Stop(self.odd("its answer makes no sense")),
        }
    }

    fn restart(&self, incoming: &mut dyn Incoming, meter: &Meter<'_>) -> Result<(), Failure> {
        let kept = incoming.kept();
        if kept > 0 {
            meter.take_back(kept);
            incoming.restart().map_err(|error| Failure::Stop(RegistryError::Destination(error.into())))?;
        }
        Ok(())
    }

    pub(super) fn odd(&self, reason: &str) -> RegistryError {
        RegistryError::Protocol { registry: self.name(), reason: reason.into() }
    }
}

/// Returns the answer, unless it only says that there may be another one later.
fn passing(response: Response) -> Result<Response, Failure> {
    let asked = response.retry_after();
    match response.status() {
        408 | 425 | 429 | 500..600 => {
            let error = response.into_error();
            if error.is_transient() {
                Err(Failure::Again(error.into(), asked))
            } else {
                Err(Failure::Stop(error.into()))
            }
        }
        _ => Ok(response),
    }
}
