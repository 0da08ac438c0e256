use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use super::DepotError;
use crate::net::{Agent, NetError, Response};
use crate::oci::Digest;

/// Whoever came this far since the last failure may fail as often as at the beginning.
const PROGRESS: u64 = 1 << 20;

/// Asks for a blob, from so many bytes on. It returns answers of status 2xx only.
pub(in crate::output::cache) type Ask<'a> = Box<dyn Fn(u64) -> Result<Response, DepotError> + Send + 'a>;

/// Reads a blob of a service. Where the connection breaks it goes on with another one. Nothing is verified: who reads it does that.
pub(in crate::output::cache) struct Resuming<'a> {
    agent: &'a Agent,
    ask: Ask<'a>,
    response: Option<Response>,
    offset: u64,
    size: u64,
    failed: u32,
    waited: Duration,
    mark: u64,
}

impl<'a> Resuming<'a> {
    /// Asks for a blob, which must be as long as `blob` says. `place` is for errors.
    pub fn open(
        agent: &'a Agent,
        (digest, size): (&Digest, u64),
        place: &str,
        ask: Ask<'a>,
    ) -> Result<Self, DepotError> {
        let response = ask(0)?;
        match response.length() {
            Some(found) if found != size => {
                Err(DepotError::Length { digest: *digest, place: place.into(), expected: size, found })
            }
            _ => Ok(Resuming {
                agent,
                ask,
                response: Some(response),
                offset: 0,
                size,
                failed: 0,
                waited: Duration::ZERO,
                mark: 0,
            }),
        }
    }

    /// Asks for what is missing.
    fn reopen(&mut self) -> Result<(), io::Error> {
        let mut response = (self.ask)(self.offset).map_err(io::Error::other)?;
        let begins = format!("bytes {}-", self.offset);
        let goes_on = response.status() == 206
            && response.header("content-range").is_some_and(|range| range.starts_with(&begins));
        if !goes_on {
            // It knows no ranges: what was read already comes once more.
            io::copy(&mut response.by_ref().take(self.offset), &mut io::sink())?;
        }
        self.response = Some(response);
        Ok(())
    }

    /// Waits until it may be tried again; fails with `error` where it is not to be.
    fn wait(&mut self, error: io::Error) -> io::Result<()> {
        self.response = None;
        if self.offset >= self.mark.saturating_add(PROGRESS) {
            (self.failed, self.waited) = (0, Duration::ZERO);
        }
        self.mark = self.mark.max(self.offset);
        self.failed += 1;
        let cancelled = self.agent.options().cancel.is_set();
        let wait = self.agent.options().retry.wait(self.failed, None, self.waited).filter(|_| !cancelled);
        let Some(wait) = wait else { return Err(error) };
        self.agent.wait(wait).map_err(io::Error::other)?;
        self.waited += wait;
        Ok(())
    }
}

/// Reads a document of `limit` bytes at the most; `None` where `ask` finds none. Where the connection breaks it is asked for again.
pub(in crate::output::cache) fn read_whole(
    agent: &Agent,
    limit: u64,
    ask: &dyn Fn() -> Result<Option<Response>, DepotError>,
) -> Result<Option<Vec<u8>>, DepotError> {
    let (mut failed, mut waited) = (0, Duration::ZERO);
    loop {
        let Some(response) = ask()? else { return Ok(None) };
        let error = match response.bytes(limit) {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) => error,
        };
        failed += 1;
        let wait = agent.options().retry.wait(failed, None, waited).filter(|_| error.is_transient());
        let Some(wait) = wait else { return Err(error.into()) };
        agent.wait(wait)?;
        waited += wait;
    }
}

impl Read for Resuming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let error = match &mut self.response {
                None => match self.reopen() {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                Some(response) => match response.read(buffer) {
                    Ok(0) if self.offset < self.size && !buffer.is_empty() => {
                        let source = ErrorKind::UnexpectedEof.into();
                        io::Error::other(NetError::Broken { place: response.place(), source })
                    }
                    Ok(length) => {
                        self.offset += length as u64;
                        return Ok(length);
                    }
                    Err(error) => error,
                },
            };
            self.wait(error)?;
        }
    }
}
