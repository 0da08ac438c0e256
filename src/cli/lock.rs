//! `coracle lock`: what a Dockerfile names elsewhere is written down as it is now.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::classify::{FileLost, LockProblem};
use super::finder;
use super::needs::{Needs, Reader};
use super::progress::{Mode, Progress};
use super::report::{Failure, Style};
use super::request::LockRequest;
use super::result::write_file;
use super::{print, text};
use crate::address::GitAddress;
use crate::fetch::Trust;
use crate::oci::Digest;
use crate::plan::{CopySource, Pins};
use crate::progress::{Event, Sink};

/// The largest lock, in bytes.
const LARGEST: u64 = 16 << 20;

/// Writes the lock, and says what has changed.
pub(super) fn lock(request: &LockRequest, mode: Mode, style: Style) -> Result<ExitCode, Failure> {
    let progress = Progress::new(mode, style);
    let result = run(request, style, &progress);
    progress.finish();
    print(&result?).map(|()| ExitCode::SUCCESS)
}

fn run(request: &LockRequest, style: Style, sink: &dyn Sink) -> Result<String, Failure> {
    let reader = Reader::open(&request.needs, sink)?;
    let read = reader.read(style)?;
    let file = read.dockerfile.as_deref().ok_or(LockProblem::NoFile)?;
    let path = path_of(file);
    let old = load(&path)?.unwrap_or_default();
    let mut pins = if request.update { Pins::default() } else { old.clone() };
    let finder = reader.finder();
    let platforms = match &request.platforms[..] {
        [] => vec![None],
        platforms => platforms.iter().map(Some).collect(),
    };
    for platform in platforms {
        let needs = read.needs(platform, &mut |used| {
            let key = finder::image_key(&used.name)?;
            // Those of one name are of one index, though its tag may move meanwhile.
            let (found, config) = finder.find_for(&used.name, pins.images.get(&key), &used.platform)?;
            pins.images.insert(key, found.digest()?);
            Ok(config)
        })?;
        fetches(&reader, &needs, &mut pins, sink)?;
    }
    let text = pins.render();
    let is_new = fs::read_to_string(&path).map_or(true, |there| there != text);
    if is_new {
        write_file(&path, text.as_bytes())?;
        sink.emit(Event::Exported { what: path.display().to_string(), digest: None });
    }
    Ok(old.changes(&pins).iter().map(|line| text::visible(line) + "\n").collect())
}

/// Finds what ADD fetches, and what is not known yet.
fn fetches(reader: &Reader<'_>, needs: &Needs, pins: &mut Pins, sink: &dyn Sink) -> Result<(), Failure> {
    for fetch in needs.plan.fetches() {
        let key = finder::fetch_key(&fetch)?;
        if pins.urls.contains_key(&key) || pins.git.contains_key(&key) {
            continue;
        }
        let at = |failure: Failure| needs.at(fetch.span, failure);
        match fetch.source {
            CopySource::Url(url) => {
                let checksum = fetch.add.checksum.as_deref().and_then(|text| text.parse::<Digest>().ok());
                let file = reader.fetcher.download(url, checksum.as_ref(), sink).map_err(|error| at(error.into()))?;
                pins.urls.insert(key, file.digest);
            }
            CopySource::Git(text) => {
                let mut address = GitAddress::parse(text)?;
                if let Some(checksum) = &fetch.add.checksum {
                    address = address.with_checksum(checksum)?;
                }
                let commit = reader.fetcher.resolve(&address, Trust::Dockerfile).map_err(|error| at(error.into()))?;
                pins.git.insert(key, commit.id);
            }
            CopySource::Path(_) | CopySource::Inline { .. } => {}
        }
    }
    Ok(())
}

/// Returns where the lock of a Dockerfile is.
pub(super) fn path_of(dockerfile: &Path) -> PathBuf {
    let mut name = dockerfile.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Reads a lock; `None` where there is none.
pub(super) fn load(path: &Path) -> Result<Option<Pins>, Failure> {
    let lost = |source| FileLost { call: "read", path: path.display().to_string(), source };
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(lost)?,
    };
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text).map_err(lost)?;
    let bad = |source| LockProblem::Bad { path: path.to_path_buf(), source };
    Ok(Some(Pins::parse(&text).map_err(bad)?))
}
