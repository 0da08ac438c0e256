// A failure is made seldom, and never kept: its size does not matter.
#![allow(clippy::result_large_err)]

use std::io::{self, ErrorKind, Read};

use oci_spec::image::Descriptor;

use super::RegistryError;
use super::download::{Failure, Wanted};
use super::patience::Patience;
use super::repository::Repository;
use crate::net::{NetError, Response};
use crate::oci::digest_of;

/// Reads a blob of a registry. Where the connection breaks it goes on with another one. Nothing is verified: who reads it does that.
pub struct BlobReader<'a> {
    repository: &'a Repository,
    blob: Wanted,
    offset: u64,
    response: Option<Response>,
    patience: Patience<'a>,
}

impl Repository {
    /// Opens a blob for reading, `offset` bytes from its beginning.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] and others; [`RegistryError::Length`] where it has another length than its descriptor says.
    pub fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobReader<'_>, RegistryError> {
        let (digest, size) = (digest_of(descriptor)?, descriptor.size());
        let blob = Wanted { digest, size, urls: descriptor.urls().clone().unwrap_or_default() };
        let patience = Patience::new(&self.session.agent, offset);
        let mut reader = BlobReader { repository: self, blob, offset, response: None, patience };
        while reader.response.is_none() {
            if let Err(failure) = reader.open() {
                reader.wait(failure)?;
            }
        }
        Ok(reader)
    }
}

impl BlobReader<'_> {
    /// Asks for what is missing.
    fn open(&mut self) -> Result<(), Failure> {
        let mut response = self.repository.ask(&self.blob, self.offset, self.patience.budget())?;
        match response.status() {
            206 if self.offset > 0 => {
                if !self.repository.begins_at(&response, self.offset) {
                    return Err(Failure::Stop(
                        self.repository.odd("it answers with another range than it was asked for"),
                    ));
                }
                self.check_length(&response, self.blob.size - self.offset)?;
            }
            200..300 => {
                self.check_length(&response, self.blob.size)?;
                // It knows no ranges: what was read already comes once more.
                let copied = io::copy(&mut response.by_ref().take(self.offset), &mut io::sink());
                let place = response.place();
                copied.map_err(|error| broken(error, place))?;
            }
            _ => return Err(self.repository.not_given(response, &self.blob.digest)),
        }
        self.response = Some(response);
        Ok(())
    }

    fn check_length(&self, response: &Response, expected: u64) -> Result<(), Failure> {
        match response.length() {
            Some(found) if found != expected => {
                let (what, registry) = (format!("blob {}", self.blob.digest), self.repository.name());
                Err(Failure::Stop(RegistryError::Length { what, registry, expected, found }))
            }
            _ => Ok(()),
        }
    }

    /// Waits until it may be tried again.
    fn wait(&mut self, failure: Failure) -> Result<(), RegistryError> {
        self.response = None;
        match failure {
            Failure::Stop(error) => Err(error),
            Failure::Again(error, asked) => self.patience.wait(error, asked, self.offset, None),
        }
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let failure = match &mut self.response {
                None => match self.open() {
                    Ok(()) => continue,
                    Err(failure) => failure,
                },
                Some(response) => match response.read(buffer) {
                    Ok(0) if self.offset < self.blob.size && !buffer.is_empty() => {
                        let source = ErrorKind::UnexpectedEof.into();
                        NetError::Broken { place: response.place(), source }.into()
                    }
                    Ok(length) => {
                        self.offset += length as u64;
                        return Ok(length);
                    }
                    Err(error) => broken(error, response.place()).into(),
                },
            };
            self.wait(failure).map_err(io::Error::other)?;
        }
    }
}

impl std::fmt::Debug for BlobReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlobReader({} of {}, at {})", self.blob.digest, self.repository.name(), self.offset)
    }
}

fn broken(error: io::Error, place: String) -> NetError {
    NetError::from_io(error).unwrap_or_else(|source| NetError::Broken { place, source })
}
