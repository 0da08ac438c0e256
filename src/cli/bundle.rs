//! `coracle bundle`: all that a Dockerfile names elsewhere, in one archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::classify::FileLost;
use super::finder::{self, Found};
use super::needs::{Needs, Reader};
use super::progress::{Mode, Progress};
use super::report::{Failure, Style};
use super::request::{BundleCreateRequest, BundleLsRequest};
use super::table::Table;
use super::{lock, print, text};
use crate::address::GitAddress;
use crate::fetch::{FetchError, Trust};
use crate::oci::{Digest, DigestWriter, Platform};
use crate::output::bundle::{self, Bundle, BundledFile, BundledImage, FileRow, GitRow};
use crate::output::content::{Content, Origin};
use crate::plan::{CopySource, Fetch, ImageUse, Pins};
use crate::progress::{Event, Sink};
use crate::store::Workplace;

/// Writes a bundle.
pub(super) fn create(request: &BundleCreateRequest, mode: Mode, style: Style) -> Result<ExitCode, Failure> {
    let progress = Progress::new(mode, style);
    let result = write(request, style, &progress);
    progress.finish();
    result.map(|()| ExitCode::SUCCESS)
}

fn write(request: &BundleCreateRequest, style: Style, sink: &dyn Sink) -> Result<(), Failure> {
    let reader = Reader::open(&request.needs, sink)?;
    let read = reader.read(style)?;
    let pins = read.dockerfile.as_deref().map(lock::path_of).map(|path| lock::load(&path)).transpose()?.flatten();
    let place = reader.store.workplace()?;
    let mut gathering =
        Gathering { reader: &reader, pins: pins.as_ref(), place, images: BTreeMap::new(), files: Vec::new() };
    let platforms = match &request.platforms[..] {
        [] => vec![None],
        platforms => platforms.iter().map(Some).collect(),
    };
    for platform in platforms {
        let needs = read.needs(platform, &mut |used| gathering.image(used))?;
        for fetch in needs.plan.fetches() {
            gathering.fetch(&fetch, &needs)?;
        }
    }
    let Gathering { images, files, place: _place, .. } = gathering;
    let origins: BTreeMap<&String, Box<dyn Origin + '_>> =
        images.iter().map(|(name, image)| Ok((name, image.found.origin()?))).collect::<Result<_, Failure>>()?;
    let mut bundled = Vec::new();
    for (name, image) in &images {
        let origin = origins[name].as_ref();
        let mut platforms = image.platforms.clone();
        platforms.sort_by_key(ToString::to_string);
        let content = Content::gather_some(origin, &origin.top()?, &platforms)?;
        bundled.push(BundledImage { name: name.clone(), platforms, content, origin });
    }
    Ok(bundle::write(&request.output, &bundled, &files, &reader.store, sink)?)
}

/// An image that was found, and for which platforms it is wanted.
struct Wanted<'a> {
    found: Found<'a>,
    platforms: Vec<Platform>,
}

/// What was found so far.
struct Gathering<'a> {
    reader: &'a Reader<'a>,
    pins: Option<&'a Pins>,
    /// Where packs lie for the time being.
    place: Workplace,
    images: BTreeMap<String, Wanted<'a>>,
    files: Vec<BundledFile>,
}

impl Gathering<'_> {
    /// Looks for an image, and returns its configuration.
    fn image(&mut self, used: &ImageUse) -> Result<crate::oci::ImageConfig, Failure> {
        let finder = self.reader.finder();
        if finder::is_place(&used.name) {
            // What is on this machine comes along as the context does.
            return finder.find(&used.name, None)??.config(&used.platform);
        }
        let key = finder::image_key(&used.name)?;
        if !self.images.contains_key(&key) {
            let pin = self.pin(&key, |pins| pins.images.get(&key));
            let (found, _) = finder.find_for(&used.name, pin, &used.platform)?;
            self.images.insert(key.clone(), Wanted { found, platforms: Vec::new() });
        }
        let wanted = self.images.get_mut(&key).expect("there since just now");
        if !wanted.platforms.contains(&used.platform) {
            wanted.platforms.push(used.platform.clone());
        }
        match wanted.found.config(&used.platform) {
            // Of an index in the store not all images need be there.
            Err(_) if matches!(wanted.found, Found::Store(_)) => {
                let (found, config) = finder.find_for(&used.name, Some(&wanted.found.digest()?), &used.platform)?;
                wanted.found = found;
                Ok(config)
            }
            config => config,
        }
    }

    /// Fetches what ADD names.
    fn fetch(&mut self, fetch: &Fetch<'_>, needs: &Needs) -> Result<(), Failure> {
        let key = finder::fetch_key(fetch)?;
        let done = |file: &BundledFile| match file {
            // Of a file it is to be checked whether it is what this instruction demands.
            BundledFile::File(..) => false,
            BundledFile::Git(row, _) => row.address.as_ref() == Some(&key) && fetch.add.checksum.is_none(),
        };
        if self.files.iter().any(done) {
            return Ok(());
        }
        let found = match fetch.source {
            CopySource::Url(url) => self.url(key, url, fetch),
            CopySource::Git(text) => self.git(key, text, fetch),
            CopySource::Path(_) | CopySource::Inline { .. } => Ok(()),
        };
        found.map_err(|failure| needs.at(fetch.span, failure))
    }

    fn url(&mut self, key: String, url: &str, fetch: &Fetch<'_>) -> Result<(), Failure> {
        let said = fetch.add.checksum.as_deref().and_then(|text| text.parse::<Digest>().ok());
        let pin = self.pin(&key, |pins| pins.urls.get(&key)).copied();
        if let (Some(said), Some(pin)) = (said, pin.filter(|pin| Some(*pin) != said)) {
            let (expected, found) = (pin.to_string(), said.to_string());
            return Err(FetchError::WrongDigest { what: key, expected, found }.into());
        }
        let (fetcher, sink) = (&self.reader.fetcher, self.reader.sink);
        let expected = said.or(pin);
        // With the time that the server says, which belongs into the image: what is found by its digest alone has none.
        let fresh = fetcher.download(url, None, sink).map(Some);
        let file = match (fresh, &expected) {
            (Ok(Some(file)), Some(expected)) if file.digest == *expected => file,
            (_, Some(expected)) => fetcher.download(url, Some(expected), sink)?,
            (fresh, None) => fresh?.expect("put in just now"),
        };
        let row = FileRow { url: key, digest: file.digest, size: file.size, modified: file.modified };
        self.files.push(BundledFile::File(row, file.path));
        Ok(())
    }

    fn git(&mut self, key: String, text: &str, fetch: &Fetch<'_>) -> Result<(), Failure> {
        let mut address = GitAddress::parse(text)?;
        if let Some(checksum) = &fetch.add.checksum {
            address = address.with_checksum(checksum)?;
        }
        if let Some(commit) = self.pin(&key, |pins| pins.git.get(&key)) {
            address.reference = Some(commit.clone());
        }
        let fetcher = &self.reader.fetcher;
        let commit = fetcher.resolve(&address, Trust::Dockerfile)?;
        for pack in fetcher.pack(&address, &commit, Trust::Dockerfile, &self.place.root())? {
            let (digest, size) = measure(&pack.path)?;
            let module = GitRow {
                address: None,
                repository: pack.url,
                commit: pack.commit,
                reference: None,
                tag: None,
                digest,
                size,
            };
            let row = match module.commit == commit.id && module.repository == address.url {
                true => GitRow {
                    address: Some(key.clone()),
                    reference: commit.reference().map(str::to_owned),
                    tag: commit.tag().map(str::to_owned),
                    ..module
                },
                false => module,
            };
            self.files.push(BundledFile::Git(row, pack.path));
        }
        Ok(())
    }

    /// Returns what the lock says. Where there is one, and it does not say anything, the user hears of it.
    fn pin<T>(&self, key: &str, get: impl Fn(&Pins) -> Option<&T>) -> Option<&T> {
        let pins = self.pins?;
        let pin = get(pins);
        if pin.is_none() {
            let message = format!("{key} is not in the lock, so it is taken as it is now");
            self.reader.sink.emit(Event::Warning { message, line: None });
        }
        pin
    }
}

fn measure(path: &Path) -> Result<(Digest, u64), Failure> {
    let lost = |source| FileLost { call: "read", path: path.display().to_string(), source };
    let mut writer = DigestWriter::new(io::sink());
    io::copy(&mut File::open(path).map_err(lost)?, &mut writer).map_err(lost)?;
    let (_, digest, size) = writer.finish();
    Ok((digest, size))
}

/// Lists a bundle.
pub(super) fn ls(request: &BundleLsRequest) -> Result<ExitCode, Failure> {
    let bundle = Bundle::open(&request.file, &request.temp)?;
    let text = if request.json { as_json(&bundle) } else { as_table(&bundle) };
    print(&text).map(|()| ExitCode::SUCCESS)
}

fn as_table(bundle: &Bundle) -> String {
    let mut table = Table::new(["KIND", "NAME", "DIGEST OR COMMIT", "DETAILS"]);
    for row in bundle.images() {
        let platforms: Vec<String> = row.platforms.iter().map(ToString::to_string).collect();
        table.row(["image", &row.name, &row.digest.to_string(), &platforms.join(",")]);
    }
    for row in bundle.files() {
        table.row(["url", &row.url, &row.digest.to_string(), &text::size(row.size)]);
    }
    for row in bundle.git() {
        match &row.address {
            Some(address) => table.row(["git", address, &row.commit, &text::size(row.size)]),
            None => table.row(["submodule", &row.repository, &row.commit, &text::size(row.size)]),
        }
    }
    table.render()
}

fn as_json(bundle: &Bundle) -> String {
    let images: Vec<_> = bundle
        .images()
        .map(|row| {
            let platforms: Vec<String> = row.platforms.iter().map(ToString::to_string).collect();
            json!({"name": row.name, "digest": row.digest, "platforms": platforms})
        })
        .collect();
    let urls: Vec<_> = bundle
        .files()
        .iter()
        .map(|row| json!({"url": row.url, "digest": row.digest, "size": row.size, "modified": row.modified}))
        .collect();
    let git: Vec<_> = bundle
        .git()
        .iter()
        .map(|row| {
            json!({
                "address": row.address, "repository": row.repository, "commit": row.commit,
                "reference": row.reference, "tag": row.tag, "digest": row.digest, "size": row.size,
            })
        })
        .collect();
    format!("{}\n", json!({"images": images, "urls": urls, "git": git}))
}
