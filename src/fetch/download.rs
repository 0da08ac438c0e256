//! Files over HTTP.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::credentials::{basic, decoded};
use super::{FetchError, Fetcher, touch};
use crate::address;
use crate::net::{Budget, NetError, Plain, Request, Response, Security, Url};
use crate::oci::{Digest, DigestWriter};
use crate::progress::{Event, Sink};

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// Where it lies. Nobody writes to it any more.
    pub path: PathBuf,
    /// What is in it.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// When it was changed, as the peer says: seconds since 1970.
    pub modified: Option<i64>,
    /// Whether it was found by its digest alone: nobody was asked.
    pub(super) by_digest: bool,
}

/// What is known about a URL: to ask whether it has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Hex digits of the SHA-256.
    sha256: String,
    size: u64,
    etag: Option<String>,
    last_modified: Option<String>,
}

/// How often the display hears of a download.
const TICK: Duration = Duration::from_millis(200);

pub(super) fn download(
    fetcher: &Fetcher,
    url: &str,
    checksum: Option<&Digest>,
    sink: &dyn Sink,
) -> Result<Download, FetchError> {
    let files = fetcher.options.cache.join("files");
    let records = fetcher.options.cache.join("urls");
    let url = url.split('#').next().unwrap_or(url);
    let record_path = records.join(format!("{}.json", Digest::of(url.as_bytes()).hex()));
    let record: Option<Record> = fs::read(&record_path).ok().and_then(|json| serde_json::from_slice(&json).ok());
    if let Some(digest) = checksum
        && let Some(size) = sound(&files.join(digest.hex()), digest)
    {
        touch(&files.join(digest.hex()));
        touch(&record_path);
        let modified = record.filter(|record| record.sha256 == digest.hex()).and_then(|record| record.modified());
        return Ok(Download { path: files.join(digest.hex()), digest: *digest, size, modified, by_digest: true });
    }
    fetcher.may_ask(|| address::shown(url))?;
    for dir in [&files, &records] {
        fs::create_dir_all(dir).map_err(|source| failed("create", dir, source))?;
    }
    // What is damaged is fetched as if it had never been there.
    let record = record.filter(|record| {
        let digest = format!("sha256:{}", record.sha256).parse::<Digest>();
        digest.is_ok_and(|digest| sound(&files.join(digest.hex()), &digest) == Some(record.size))
    });
    let mut attempt = Attempt { fetcher, url, record, files: &files, sink, budget: Budget::default() };
    let (record, is_new) = loop {
        match attempt.make() {
            Ok(done) => break done,
            // That no answer came the agent has tried for itself.
            Err(Stage::Asking(error)) => return Err(error),
            Err(Stage::Reading(error)) => {
                let again = match &error {
                    FetchError::Net(net) => net.is_transient(),
                    FetchError::WrongLength { .. } => true,
                    _ => false,
                };
                let wait = attempt.budget.spend(&fetcher.agent.options().retry, None);
                let Some(wait) = wait.filter(|_| again) else { return Err(error) };
                fetcher.agent.wait(wait)?;
            }
        }
    };
    if is_new {
        let json = serde_json::to_vec(&record).expect("strings and numbers always serialise");
        write(&fetcher.options.tmp, &record_path, &json)?;
    } else {
        touch(&record_path);
    }
    let digest: Digest = format!("sha256:{}", record.sha256).parse().expect("it was made from a digest");
    let (path, size, modified) = (files.join(digest.hex()), record.size, record.modified());
    touch(&path);
    Ok(Download { path, digest, size, modified, by_digest: false })
}

/// Where an attempt failed.
enum Stage {
    Asking(FetchError),
    Reading(FetchError),
}

struct Attempt<'a> {
    fetcher: &'a Fetcher,
    url: &'a str,
    record: Option<Record>,
    files: &'a Path,
    sink: &'a dyn Sink,
    /// What asking and reading have in common.
    budget: Budget,
}

impl Attempt<'_> {
    /// Asks once, and reads what comes. Returns what is known of the file then, and whether that is new.
    fn make(&mut self) -> Result<(Record, bool), Stage> {
        let response = self.ask().map_err(|error| Stage::Asking(error.into()))?;
        if response.status() == 304
            && let Some(record) = self.record.take()
        {
            return Ok((record, false));
        }
        let response = response.success().map_err(|error| Stage::Asking(error.into()))?;
        self.read(response).map(|record| (record, true)).map_err(Stage::Reading)
    }

    fn ask(&self) -> Result<Response, NetError> {
        let mut url = Request::get(self.url)?;
        let parsed = Url::parse(self.url)
            .map_err(|error| NetError::BadUrl { url: address::shown(self.url), reason: error.to_string() })?;
        let host = address::host(self.url).ok_or_else(|| NetError::BadUrl {
            url: address::shown(self.url),
            reason: "its host is written in a way that is read as another one".into(),
        })?;
        let own = (!parsed.username().is_empty())
            .then(|| basic(&decoded(parsed.username()), &decoded(parsed.password().unwrap_or_default())));
        if own.is_some() {
            let mut bare = parsed.clone();
            // A URL with a host can be without them.
            let _ = bare.set_username("").and_then(|()| bare.set_password(None));
            url = Request::get(bare.as_str())?;
        }
        if let Some(value) = own.or_else(|| self.fetcher.options.credentials.for_http(&host)) {
            url = url.header("Authorization", value);
        }
        match &self.record {
            Some(Record { etag: Some(etag), .. }) => url = url.header("If-None-Match", etag),
            Some(Record { last_modified: Some(time), .. }) => url = url.header("If-Modified-Since", time),
            _ => {}
        }
        // A file that is asked for over TLS shall not come without it after a redirect.
        let plain = if parsed.scheme() == "http" { Plain::Allowed } else { Plain::Refused };
        self.fetcher.agent.send(url.budget(&self.budget).security(Arc::new(Security { plain, ..Security::default() })))
    }

    fn read(&self, mut response: Response) -> Result<Record, FetchError> {
        let limit = self.fetcher.options.max_bytes;
        let (place, length) = (response.place(), response.length());
        if length.is_some_and(|length| length > limit) {
            return Err(FetchError::TooLarge { place, limit });
        }
        let header = |name| response.header(name).map(str::to_owned);
        let (etag, last_modified) = (header("etag"), header("last-modified"));
        let tmp = &self.fetcher.options.tmp;
        let file = tempfile::Builder::new().prefix("download-").tempfile_in(tmp);
        let file = file.map_err(|source| failed("create a file in", tmp, source))?;
        // So that nobody takes it for what a killed process left. Who just looks has the lock for a moment.
        file.as_file().lock().map_err(|source| failed("lock", file.path(), source))?;
        let mut writer = DigestWriter::new(file.as_file());
        let mut buffer = vec![0; 128 << 10];
        let (mut size, mut told) = (0u64, Instant::now());
        let tell = |done| {
            self.sink.emit(Event::Transfer { what: address::shown(self.url), done, total: length });
        };
        tell(0);
        loop {
            let n = match response.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let broken = |source| NetError::Broken { place: place.clone(), source };
                    return Err(NetError::from_io(error).unwrap_or_else(broken).into());
                }
            };
            size += n as u64;
            if size > limit {
                return Err(FetchError::TooLarge { place, limit });
            }
            writer.write_all(&buffer[..n]).map_err(|source| failed("write", file.path(), source))?;
            if told.elapsed() >= TICK {
                tell(size);
                told = Instant::now();
            }
        }
        if let Some(expected) = length.filter(|length| *length != size) {
            return Err(FetchError::WrongLength { place, expected, found: size });
        }
        tell(size);
        let (_, digest, _) = writer.finish();
        let path = self.files.join(digest.hex());
        file.persist(&path).map_err(|error| failed("rename", &path, error.error))?;
        Ok(Record { sha256: digest.hex().to_string(), size, etag, last_modified })
    }
}

impl Record {
    fn modified(&self) -> Option<i64> {
        let time = self.last_modified.as_deref()?.trim();
        Some(jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(time).ok()?.as_second())
    }
}

/// Returns the length of the file at `path` if it has this digest.
fn sound(path: &Path, digest: &Digest) -> Option<u64> {
    let mut file = File::open(path).ok().filter(|file| file.metadata().is_ok_and(|meta| meta.is_file()))?;
    let mut writer = DigestWriter::new(io::sink());
    io::copy(&mut file, &mut writer).ok()?;
    let (_, found, size) = writer.finish();
    (found == *digest).then_some(size)
}

/// Replaces the file at `path`.
fn write(tmp: &Path, path: &Path, bytes: &[u8]) -> Result<(), FetchError> {
    let fail = |source| failed("write", path, source);
    let mut file = tempfile::NamedTempFile::new_in(tmp).map_err(fail)?;
    file.as_file().lock().map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    Ok(())
}

fn failed(call: &'static str, path: &Path, source: io::Error) -> FetchError {
    FetchError::Io { call, path: path.to_path_buf(), source }
}
