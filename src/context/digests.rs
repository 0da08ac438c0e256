//! The digests of files: those that an earlier build knows already, and the rest by reading on all cores.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::files::Files;
use super::host_dir::{HostDir, Stat, stat_fd, stat_in};
use super::{Context, FileKey, StatCache, changed, lock};
use crate::tree::{self, FileDigest, TreePath};

/// How much of a file is read by one call.
const CHUNK: usize = 256 * 1024;

/// How many files one thread looks up at a time.
const PIECE: usize = 512;

/// The digests that are kept between builds, and where.
#[derive(Debug, Default)]
pub(super) struct DigestStore {
    cache: Mutex<StatCache>,
    file: Option<PathBuf>,
}

/// A file that was read.
struct Hashed {
    key: FileKey,
    digest: FileDigest,
    read_at: SystemTime,
}

impl DigestStore {
    /// Loads what is known in `folder` about the context in `path`. What goes wrong here only costs time.
    pub(super) fn open(folder: &Path, path: &Path, dir: &HostDir) -> Self {
        // Only itself: whoever looks at a store that is not there must not make one.
        let _ = std::fs::create_dir(folder);
        let (Ok(path), Ok((device, inode))) = (path.canonicalize(), dir.id()) else { return DigestStore::default() };
        let mut name = Sha256::new();
        name.update(device.to_le_bytes());
        name.update(inode.to_le_bytes());
        name.update(path.as_os_str().as_bytes());
        let name: [u8; 32] = name.finalize().into();
        let hex: String = name.iter().take(16).map(|b| format!("{b:02x}")).collect();
        let file = folder.join(format!("{hex}.stat"));
        DigestStore { cache: Mutex::new(StatCache::load(&file)), file: Some(file) }
    }
}

/// Returns the digests of `paths`, in their order.
pub(super) fn digests(context: &Context, paths: &[TreePath]) -> Result<Vec<FileDigest>, tree::Error> {
    let dir = match &context.files {
        Files::Host(dir) => dir,
        Files::Known(known) => {
            let digest = |path| match context.rules.is_ignored(path) {
                true => Err(tree::Error::in_context("open", path, Errno::NOENT)),
                false => known.digest(path),
            };
            return paths.iter().map(digest).collect();
        }
    };
    let mut digests = vec![None; paths.len()];
    let unknown = known(context, dir, paths, &mut digests)?;
    let hashed = hash_all(context, dir, paths, &unknown)?;
    let mut cache = lock(&context.digests.cache);
    for (at, file) in unknown.into_iter().zip(hashed) {
        digests[at] = Some(file.digest);
        if context.digests.file.is_some() {
            cache.insert(file.key, file.digest, file.read_at);
        }
    }
    if let Some(file) = context.digests.file.as_ref().filter(|_| cache.is_changed()) {
        // It saves time in the next build; this one does not need it.
        let _ = cache.save(file);
    }
    Ok(digests.into_iter().map(|digest| digest.expect("every file is known or was read")).collect())
}

/// Fills in the digests that are known. Returns which are not.
fn known(
    context: &Context,
    host: &HostDir,
    paths: &[TreePath],
    digests: &mut [Option<FileDigest>],
) -> Result<Vec<usize>, tree::Error> {
    // By folder: each is opened once, or a few times where it is large.
    let mut folders: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
    for (at, path) in paths.iter().enumerate() {
        let end = path.as_bytes().iter().rposition(|&b| b == b'/').unwrap_or(0);
        folders.entry(&path.as_bytes()[..end]).or_default().push(at);
    }
    let pieces: Vec<&[usize]> = folders.values().flat_map(|files| files.chunks(PIECE)).collect();
    // A thread is worth it for many files only.
    let threads = threads().min(paths.len() / PIECE + 1);
    let found = each(threads, pieces.len(), || |turn| known_in_folder(context, host, paths, pieces[turn]))?;
    let mut unknown = Vec::new();
    for (piece, found) in pieces.into_iter().zip(found) {
        for (&at, digest) in piece.iter().zip(found) {
            digests[at] = digest;
            if digest.is_none() {
                unknown.push(at);
            }
        }
    }
    Ok(unknown)
}

/// Returns the digests of the files `which` of `paths`, all in one folder; `None` for those that must be read.
fn known_in_folder(
    context: &Context,
    host: &HostDir,
    paths: &[TreePath],
    which: &[usize],
) -> Result<Vec<Option<FileDigest>>, tree::Error> {
    let Some(first) = which.first().map(|&at| &paths[at]) else { return Ok(Vec::new()) };
    let folder = first.parent().unwrap_or_default();
    let parent = context.rules.matches_of(&folder);
    let dir = host.open_dir(&folder, OFlags::PATH).map_err(|errno| tree::Error::in_context("open", first, errno))?;
    let mut stats = Vec::with_capacity(which.len());
    for path in which.iter().map(|&at| &paths[at]) {
        if context.rules.is_ignored_in(&parent, path) {
            return Err(tree::Error::in_context("open", path, Errno::NOENT));
        }
        let name = path.name().unwrap_or(b".");
        stats
            .push((path, stat_in(dir.as_fd(), name).map_err(|errno| tree::Error::in_context("look up", path, errno))?));
    }
    let shown = lock(&context.shown);
    let resized = |(path, stat): &&(&TreePath, Stat)| shown.get(*path).is_some_and(|&size| size != stat.key.size);
    let is_file = |stat: &Stat| stat.file_type == FileType::RegularFile;
    if let Some((path, _)) = stats.iter().filter(|(_, stat)| is_file(stat)).find(resized) {
        return Err(changed(path));
    }
    drop(shown);
    let mut cache = lock(&context.digests.cache);
    let digest = |(_, stat): (_, Stat)| match stat.file_type {
        FileType::RegularFile => cache.get(&stat.key),
        FileType::Socket => Some(FileDigest(Sha256::digest([]).into())),
        _ => None,
    };
    Ok(stats.into_iter().map(digest).collect())
}

/// Reads the files `which` of `paths`, on as many threads as there are cores.
fn hash_all(
    context: &Context,
    host: &HostDir,
    paths: &[TreePath],
    which: &[usize],
) -> Result<Vec<Hashed>, tree::Error> {
    each(threads(), which.len(), || {
        let mut buffer = vec![0; CHUNK];
        move |turn| hash(context, host, &paths[which[turn]], &mut buffer)
    })
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Returns what the work on each of the turns 0 to `count` gives, done by at most so many threads. Each thread asks for a
/// worker of its own. After an error no further turn begins.
fn each<T: Send, W: FnMut(usize) -> Result<T, tree::Error>>(
    threads: usize,
    count: usize,
    worker: impl Fn() -> W + Sync,
) -> Result<Vec<T>, tree::Error> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut worker = worker();
        let mut done = Vec::new();
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn >= count {
                return done;
            }
            let result = worker(turn);
            if result.is_err() {
                next.store(count, Ordering::Relaxed);
            }
            done.push((turn, result));
        }
    };
    let threads = threads.min(count);
    let mut all = if threads <= 1 {
        work()
    } else {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("reading files does not panic")).collect()
        })
    };
    all.sort_by_key(|(turn, _)| *turn);
    all.into_iter().map(|(_, result)| result).collect()
}

fn hash(context: &Context, host: &HostDir, path: &TreePath, buffer: &mut [u8]) -> Result<Hashed, tree::Error> {
    let read_at = SystemTime::now();
    let (file, before) = host.open_file(path)?;
    if lock(&context.shown).get(path).is_some_and(|&size| size != before.key.size) {
        return Err(changed(path));
    }
    let (digest, length) = read(&file, buffer).map_err(|errno| tree::Error::in_context("read", path, errno))?;
    let after = stat_fd(file.as_fd()).map_err(|errno| tree::Error::in_context("look up", path, errno))?;
    if before.key != after.key || length != after.key.size {
        return Err(changed(path));
    }
    Ok(Hashed { key: before.key, digest, read_at })
}

fn read(file: &OwnedFd, buffer: &mut [u8]) -> rustix::io::Result<(FileDigest, u64)> {
    let mut hasher = Sha256::new();
    let mut length = 0;
    loop {
        match rustix::io::read(file, &mut *buffer) {
            Ok(0) => return Ok((FileDigest(hasher.finalize().into()), length)),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                length += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
