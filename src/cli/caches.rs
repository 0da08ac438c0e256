//! `coracle cache`: what is in cache mounts, out of this machine and into another.
//!
//! What is exported is a list, `coracle-caches.json`, and for each cache an archive of its files, compressed with zstd: in a
//! folder, or as members of an archive that is not compressed. See docs/store.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::slice;
use std::sync::Arc;

use coracle_runtime::container::Control;
use coracle_runtime::probe::{Wanted, full_map};
use coracle_runtime::userns;
use serde::{Deserialize, Serialize};

use super::args::{CacheExportArgs, CacheImportArgs, CachePruneArgs, CacheVerb};
use super::classify::{BuildProblem, FileLost};
use super::doctor::existing;
use super::progress::{Mode, Progress};
use super::report::{Failure, Style};
use super::request::CacheRequest;
use super::table::Table;
use super::{print, say, text, work};
use crate::build::{Builder, Isolation, OnFailure};
use crate::layer::{Compression, Compressor, decompress};
use crate::oci::{Digest, DigestReader};
use crate::output::replace_file;
use crate::store::{CacheInfo, CacheMounts, Store, is_sound};

const LIST: &str = "coracle-caches.json";
const VERSION: u32 = 1;
/// How the names of the files end.
const ENDING: &str = ".tar.zst";
/// Bytes of a list at the most.
const LONGEST_LIST: u64 = 8 << 20;

/// What an export holds.
#[derive(Debug, Serialize, Deserialize)]
struct List {
    version: u32,
    caches: Vec<Exported>,
}

/// One cache of an export.
#[derive(Debug, Serialize, Deserialize)]
struct Exported {
    id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    variant: String,
    file: String,
    size: u64,
    digest: Digest,
}

/// Does what the verb says.
pub(super) fn cache(request: &CacheRequest, style: Style) -> Result<ExitCode, Failure> {
    let caches = CacheMounts::at(&request.cache_dir.clone().unwrap_or_else(|| request.root.join("cache/mounts")));
    match &request.verb {
        CacheVerb::Ls(args) => list(request, &caches, args.json)?,
        CacheVerb::Rm(args) => {
            let all = listed(request, &caches);
            if let Some(id) = args.ids.iter().find(|id| !all.iter().any(|info| info.id == **id)) {
                return Err(BuildProblem::NoCache { id: id.clone() }.into());
            }
            let wanted = all.into_iter().filter(|info| args.all || args.ids.contains(&info.id));
            remove(&caches, wanted.collect())?;
        }
        CacheVerb::Prune(args) => prune(request, &caches, args)?,
        CacheVerb::Export(args) => export(request, &caches, args, style)?,
        CacheVerb::Import(args) => import(request, &caches, args, style)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns all caches. Files of other ids can be counted and removed only by root of the user namespace in which they were made.
fn listed(request: &CacheRequest, caches: &CacheMounts) -> Vec<CacheInfo> {
    if let Ok(maps) = full_map(&existing(&request.root)) {
        let _ = userns::enter(&maps);
    }
    caches.list()
}

fn list(request: &CacheRequest, caches: &CacheMounts, json: bool) -> Result<(), Failure> {
    let found = listed(request, caches);
    if json {
        return print(&(serde_json::to_string_pretty(&found).expect("text and numbers always serialise") + "\n"));
    }
    let mut table = match found.iter().all(|info| info.variant.is_empty()) {
        true => Table::new(["ID", "SIZE", "USED", "FOR"]),
        false => Table::new(["ID", "SIZE", "USED", "FOR", "BEGINS WITH"]),
    };
    for info in found {
        let used = jiff::Timestamp::from_second(info.used).map(|time| time.to_string()).unwrap_or_default();
        let used = if info.busy { "now".into() } else { text::ago(&used, jiff::Timestamp::now()) };
        table.row([text::visible(&info.id), text::size(info.bytes), used, info.realm, info.variant]);
    }
    print(&table.render())
}

fn remove(caches: &CacheMounts, wanted: Vec<CacheInfo>) -> Result<(), Failure> {
    let (mut count, mut bytes) = (0, 0);
    for info in wanted {
        if caches.remove(&info)? {
            count += 1;
            bytes += info.bytes;
        } else {
            say(&format!("warning: the cache mount {:?} is in use, and stays\n", text::visible(&info.id)));
        }
    }
    print(&format!("removed {count} cache mounts: {}\n", text::size(bytes)))
}

fn prune(request: &CacheRequest, caches: &CacheMounts, args: &CachePruneArgs) -> Result<(), Failure> {
    let mut found = listed(request, caches);
    found.sort_by_key(|info| info.used);
    let now = jiff::Timestamp::now().as_second();
    let is_old = |info: &CacheInfo| args.older_than.is_some_and(|limit| now.saturating_sub(info.used) > limit.0);
    let (mut wanted, kept): (Vec<_>, Vec<_>) = found.into_iter().partition(is_old);
    let mut bytes: u64 = kept.iter().map(|info| info.bytes).sum();
    for info in kept {
        if args.max_size.is_some_and(|most| bytes > most.0) {
            bytes -= info.bytes;
            wanted.push(info);
        }
    }
    remove(caches, wanted)
}

/// Calls `act` with what can enter the way in which steps are run.
fn with_builder<T>(
    request: &CacheRequest,
    style: Style,
    act: impl FnOnce(&mut Builder<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let store = Store::open(&request.root)?;
    let control = Arc::new(Control::new());
    let progress = Arc::new(Progress::new(Mode::Warnings, style));
    let on_enter = work::on_enter(&control, &progress);
    let mut builder = Builder {
        store: &store,
        sink: progress.as_ref(),
        control: &control,
        isolation: Isolation::Undecided(Wanted::Any),
        on_enter: &on_enter,
        remote: None,
        journal: Arc::default(),
        on_failure: OnFailure::Nothing,
        ship: None,
    };
    let done = act(&mut builder);
    progress.finish();
    done
}

fn export(request: &CacheRequest, caches: &CacheMounts, args: &CacheExportArgs, style: Style) -> Result<(), Failure> {
    with_builder(request, style, |builder| {
        let mut found = builder.caches(caches)?;
        if let Some(id) = args.ids.iter().find(|id| !found.iter().any(|info| info.id == **id)) {
            return Err(BuildProblem::NoCache { id: id.clone() }.into());
        }
        found.retain(|info| args.ids.is_empty() || args.ids.contains(&info.id));
        // What was used last is worth most.
        found.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| (&a.id, &a.variant).cmp(&(&b.id, &b.variant))));
        let tmp = builder.store.tmp();
        let lost = |source| FileLost { call: "write", path: tmp.display().to_string(), source };
        let (mut files, mut list, mut bytes) = (Vec::new(), List { version: VERSION, caches: Vec::new() }, 0);
        for info in found {
            let mut out = Compressor::new(tempfile::tempfile_in(&tmp).map_err(lost)?, Compression::Zstd(3), 1);
            let warnings = builder.pack_cache(caches, (&info.id, &info.variant), &mut out)?;
            let mut file = out.finish().map_err(lost)?;
            let size = file.metadata().map_err(lost)?.len();
            if args.max_size.is_some_and(|most| bytes + size > most.0) {
                say(&format!(
                    "warning: the cache mount {} is left out: it has {}\n",
                    text::visible(&info.id),
                    text::size(size)
                ));
                continue;
            }
            for warning in warnings {
                say(&format!("warning: {}: {}\n", text::visible(&info.id), text::visible(&warning)));
            }
            bytes += size;
            io::Seek::rewind(&mut file).map_err(lost)?;
            let mut reader = DigestReader::new(BufReader::new(&file));
            io::copy(&mut reader, &mut io::sink()).map_err(lost)?;
            let (_, digest, _) = reader.finish();
            io::Seek::rewind(&mut file).map_err(lost)?;
            let file_name = name_of(&digest);
            list.caches.push(Exported { id: info.id, variant: info.variant, file: file_name, size, digest });
            files.push(file);
        }
        let text = serde_json::to_vec_pretty(&list).expect("text and numbers always serialise");
        write(&args.destination, &text, &list, files)?;
        say(&format!("exported {} cache mounts: {}\n", list.caches.len(), text::size(bytes)));
        Ok(())
    })
}

/// Writes an export. One that is there already stays until the new one is whole.
fn write(destination: &Path, text: &[u8], list: &List, files: Vec<File>) -> Result<(), Failure> {
    let lost = |source| FileLost { call: "write", path: destination.display().to_string(), source };
    // Caches with the same content are one file.
    let mut names = BTreeSet::new();
    let files: Vec<(&Exported, File)> =
        list.caches.iter().zip(files).filter(|(cache, _)| names.insert(cache.file.as_str())).collect();
    if destination == Path::new("-") {
        return Ok(write_archive(&mut io::stdout().lock(), text, &files).map_err(lost)?);
    }
    let is_folder = destination.is_dir() || destination.as_os_str().as_encoded_bytes().ends_with(b"/");
    if !is_folder {
        return Ok(replace_file(destination, &mut |out| write_archive(out, text, &files))?);
    }
    fs::create_dir_all(destination).map_err(lost)?;
    for (cache, file) in &files {
        let path = destination.join(&cache.file);
        if !is_sound(&path, &cache.digest, cache.size) {
            replace_file(&path, &mut |out| io::copy(&mut &*file, out).map(drop))?;
        }
    }
    // After them: it says what the export is. What only an earlier one had goes last.
    replace_file(&destination.join(LIST), &mut |out| out.write_all(text))?;
    for entry in fs::read_dir(destination).map_err(lost)?.flatten() {
        let name = entry.file_name();
        let is_old = |name: &str| is_ours(name) && !names.contains(name);
        if name.to_str().is_some_and(is_old) {
            // One that stays does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn write_archive(out: &mut dyn Write, text: &[u8], files: &[(&Exported, File)]) -> io::Result<()> {
    let mut archive = tar::Builder::new(BufWriter::new(out));
    let mut append = |name: &str, size: u64, input: &mut dyn Read| {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        archive.append_data(&mut header, name, input)
    };
    append(LIST, text.len() as u64, &mut &text[..])?;
    for (cache, file) in files {
        append(&cache.file, cache.size, &mut &*file)?;
    }
    archive.into_inner()?.flush()
}

/// The name of the file of a cache with this content.
fn name_of(digest: &Digest) -> String {
    format!("{}{ENDING}", digest.hex())
}

/// Whether an export may have written a file of this name.
fn is_ours(name: &str) -> bool {
    let is_hex = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    name.strip_suffix(ENDING).is_some_and(is_hex)
}

fn import(request: &CacheRequest, caches: &CacheMounts, args: &CacheImportArgs, style: Style) -> Result<(), Failure> {
    with_builder(request, style, |builder| {
        builder.enter()?;
        let mut take = Import { builder, caches, args, done: 0 };
        let source = &args.source;
        if source.is_dir() {
            let open = |path: &Path| {
                let lost = |source| FileLost { call: "read", path: path.display().to_string(), source };
                // A link may lead anywhere, and a pipe is waited for without end.
                if !fs::symlink_metadata(path).map_err(lost)?.is_file() {
                    return Err(bad_export(source, format!("{} is no file", path.display())));
                }
                Ok(File::open(path).map_err(lost)?)
            };
            let list = read_list(source, &mut open(&source.join(LIST))?)?;
            for cache in list.caches.into_iter().filter(|cache| take.wants(cache)).collect::<Vec<_>>() {
                take.all(slice::from_ref(&cache), &mut open(&source.join(&cache.file))?)?;
            }
        } else {
            take.archive(source)?;
        }
        let done = take.done;
        say(&format!("imported {done} cache mounts\n"));
        Ok(())
    })
}

struct Import<'a, 'b> {
    builder: &'a mut Builder<'b>,
    caches: &'a CacheMounts,
    args: &'a CacheImportArgs,
    done: usize,
}

impl Import<'_, '_> {
    /// Brings in an archive: the list comes first, and the caches follow in any order.
    fn archive(&mut self, source: &Path) -> Result<(), Failure> {
        let bad = |reason: String| bad_export(source, reason);
        let input: Box<dyn Read> = match source == Path::new("-") {
            true => Box::new(io::stdin().lock()),
            false => {
                let lost = |error| FileLost { call: "read", path: source.display().to_string(), source: error };
                Box::new(File::open(source).map_err(lost)?)
            }
        };
        let mut archive = tar::Archive::new(BufReader::new(input));
        // Several caches may have one content.
        let mut known: Option<BTreeMap<String, Vec<Exported>>> = None;
        for entry in archive.entries().map_err(|error| bad(error.to_string()))? {
            let mut entry = entry.map_err(|error| bad(error.to_string()))?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            match &mut known {
                None if name == LIST => {
                    let list = read_list(source, &mut entry)?;
                    let files = known.insert(BTreeMap::new());
                    for cache in list.caches.into_iter().filter(|cache| self.wants(cache)) {
                        files.entry(cache.file.clone()).or_default().push(cache);
                    }
                }
                None => return Err(bad(format!("{LIST} does not come first"))),
                Some(known) => {
                    if let Some(caches) = known.remove(&name) {
                        self.all(&caches, &mut entry)?;
                    }
                }
            }
        }
        match known {
            None => Err(bad(format!("there is no {LIST}"))),
            Some(left) => match left.into_keys().next() {
                Some(file) => Err(bad(format!("{file} is missing"))),
                None => Ok(()),
            },
        }
    }

    fn wants(&self, cache: &Exported) -> bool {
        self.args.ids.is_empty() || self.args.ids.contains(&cache.id)
    }

    /// Brings in the caches whose file this is. Nothing is there of them before its digest is known to be right.
    fn all(&mut self, caches: &[Exported], input: &mut dyn Read) -> Result<(), Failure> {
        let bad = |reason: String| bad_export(&self.args.source, reason);
        let tmp = self.builder.store.tmp();
        let lost = |source| FileLost { call: "write", path: tmp.display().to_string(), source };
        let Some(Exported { file: name, size: expected, .. }) = caches.first() else { return Ok(()) };
        // What is compressed is hardly ever larger than what it becomes; and a hole in an archive costs nobody but us.
        if *expected > self.args.max_size.0 {
            return Err(bad(format!("{name} has {}, which is more than --max-size", text::size(*expected))));
        }
        let mut file = tempfile::tempfile_in(&tmp).map_err(lost)?;
        let mut reader = DigestReader::new(input.take(expected.saturating_add(1)));
        io::copy(&mut reader, &mut file).map_err(lost)?;
        let (_, digest, size) = reader.finish();
        if caches.iter().any(|cache| (digest, size) != (cache.digest, cache.size)) {
            return Err(bad(format!("{name} is not what the list says")));
        }
        for cache in caches {
            io::Seek::rewind(&mut file).map_err(lost)?;
            let copy = file.try_clone().map_err(lost)?;
            let mut input = decompress(BufReader::new(copy)).map_err(|error| bad(error.to_string()))?;
            let name = (cache.id.as_str(), cache.variant.as_str());
            self.builder.unpack_cache(self.caches, name, &mut input, self.args.max_size.0)?;
            self.done += 1;
        }
        Ok(())
    }
}

fn bad_export(source: &Path, reason: String) -> Failure {
    BuildProblem::BadExport { from: source.into(), reason }.into()
}

fn read_list(source: &Path, input: &mut dyn Read) -> Result<List, Failure> {
    let bad = |reason: String| bad_export(source, reason);
    let mut text = Vec::new();
    input.take(LONGEST_LIST).read_to_end(&mut text).map_err(|error| bad(error.to_string()))?;
    let list: List = serde_json::from_slice(&text).map_err(|error| bad(format!("{LIST}: {error}")))?;
    if list.version != VERSION {
        return Err(bad(format!("{LIST} has version {}, and {VERSION} is known", list.version)));
    }
    let plain = |name: &str| !name.contains('/') && name != ".." && name != ".";
    match list.caches.iter().find(|cache| !plain(&cache.file) || cache.id.is_empty()) {
        Some(cache) => Err(bad(format!("{LIST} names the file {:?}", text::visible(&cache.file)))),
        None => Ok(list),
    }
}
