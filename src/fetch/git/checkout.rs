//! The files of a commit on the disk.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::mirror::{Commit, Mirror, ask};
use super::program::{Call, git};
use super::{listing, submodules, tree};
use crate::address::GitAddress;
use crate::fetch::{FetchError, Fetcher};
use crate::tree::{Entry, TreePath};

/// Whether the folder `.git` is among the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GitDir {
    /// It is, with the history of one commit. Not where a directory of the repository is asked for.
    Kept,
    /// It is not.
    Dropped,
}

/// Who asks for a repository: that decides which keys ssh may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trust {
    /// The user: with their keys and their agent.
    CommandLine,
    /// A Dockerfile: with the agent that the build was given, if any.
    Dockerfile,
}

/// The files of a commit.
#[derive(Debug, Clone)]
pub struct Checkout {
    /// The folder that they are in.
    pub root: PathBuf,
    /// What they are: modes are 0644 or 0755, all times that of the commit, and digests are known.
    pub entries: Vec<Entry>,
    /// When the commit was made: seconds since 1970.
    pub time: i64,
}

pub(in crate::fetch) fn check_out(
    fetcher: &Fetcher,
    address: &GitAddress,
    commit: &Commit,
    git_dir: GitDir,
    trust: Trust,
    into: &Path,
) -> Result<Checkout, FetchError> {
    let keep = git_dir == GitDir::Kept && address.subdir.is_none();
    let files = into.join("files");
    fs::create_dir(&files).map_err(|source| FetchError::Io { call: "create", path: files.clone(), source })?;
    let mirror = Mirror::with(fetcher, address, commit, &address.host, trust)?;
    let time = time_of(fetcher, &mirror, address, commit)?;
    if let Some(subdir) = &address.subdir {
        let object = format!("{}:{subdir}", commit.id);
        let kind = ask(fetcher, &mirror.path, &address.url, &["cat-file", "-t", object.as_str()]);
        if !matches!(&kind, Ok(kind) if kind.trim_ascii() == b"tree") {
            return Err(FetchError::NoFolder { url: address.to_string(), folder: subdir.clone() });
        }
    }
    let links = listing::links(fetcher, &mirror, address, commit)?;
    if keep {
        with_git_dir(fetcher, &mirror, address, commit, &files)?;
    } else {
        files_of(fetcher, &mirror, address, commit, &files)?;
    }
    let modules = match address.submodules {
        true => submodules::of(fetcher, &mirror, address, commit, links)?,
        false => Vec::new(),
    };
    drop(mirror);
    submodules::check_out(fetcher, address, modules, trust, &files)?;
    let root = address.subdir.as_ref().map_or(files.clone(), |subdir| files.join(subdir));
    if let Some(subdir) = &address.subdir {
        let no_folder = || FetchError::NoFolder { url: address.to_string(), folder: subdir.clone() };
        let path = TreePath::new(subdir).map_err(|_| no_folder())?;
        // What is read there must be what was put there.
        listing::open_below(&files, &path).map_err(|_| no_folder())?;
    }
    let entries = tree::entries(&root, time)?;
    Ok(Checkout { root, entries, time })
}

/// Puts the files of `commit` into the empty folder `files`; those of one directory where the address says so. Its trees are known to be
/// in order ([`listing::links`]).
pub(super) fn files_of(
    fetcher: &Fetcher,
    mirror: &Mirror,
    address: &GitAddress,
    commit: &Commit,
    files: &Path,
) -> Result<(), FetchError> {
    let mut args: Vec<OsString> = ["checkout", "--quiet", "--force"].map(OsString::from).into();
    args.extend([commit.id.clone().into(), "--".into()]);
    args.push(address.subdir.clone().unwrap_or_else(|| ".".into()).into());
    // The index and the files must not be in each other's way.
    let index = files.with_extension("index");
    let call = Call { work_tree: Some((files, &index)), ..Call::new("check out", args) }.within(&mirror.path);
    let done = git(fetcher, &call, &address.url);
    let _ = fs::remove_file(index);
    match done {
        // A commit without files.
        Err(FetchError::Git { message, .. }) if message.contains("pathspec '.' did not match") => Ok(()),
        done => done.map(drop),
    }
}

/// Makes a repository of the one commit in `files`, with its files.
fn with_git_dir(
    fetcher: &Fetcher,
    mirror: &Mirror,
    address: &GitAddress,
    commit: &Commit,
    files: &Path,
) -> Result<(), FetchError> {
    let dir = files.join(".git");
    let run = |call: Call<'_>| git(fetcher, &call, &address.url).map(drop);
    // An id can be asked for only where a name shows it.
    let shown = format!("refs/coracle/shown/{}", commit.id);
    run(Call::new("read", ["update-ref", shown.as_str(), commit.id.as_str()]).within(&mirror.path))?;
    let mut args: Vec<OsString> = ["init", "--quiet", "--template=", "--"].map(OsString::from).into();
    args.push(files.into());
    run(Call::new("prepare a copy of", args))?;
    // The tag that was asked for is there too, so that `git describe` knows it.
    let tag = commit.reference.as_deref().filter(|name| name.starts_with("refs/tags/"));
    let mut args: Vec<OsString> =
        ["fetch", "--quiet", "--no-tags", "--update-head-ok", "--depth=1", "--"].map(OsString::from).into();
    let mut url = OsString::from("file://");
    url.push(&mirror.path);
    args.push(url);
    args.push(tag.map_or(shown.clone(), |name| format!("{shown}:{name}")).into());
    run(Call { from_disk: true, ..Call::new("copy", args) }.within(&dir))?;
    let index = dir.join("index");
    let checkout = Call::new("check out", ["checkout", "--quiet", "--force", "--detach", commit.id.as_str()]);
    run(Call { work_tree: Some((files, &index)), ..checkout }.within(&dir))?;
    run(Call::new("set up", ["config", "remote.origin.url", address.url.as_str()]).within(&dir))?;
    run(Call::new("set up", ["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"]).within(&dir))?;
    // What depends on this disk and this moment: the index has inodes and times in it, logs have the time.
    for name in ["FETCH_HEAD", "ORIG_HEAD", "index"] {
        let _ = fs::remove_file(dir.join(name));
    }
    let _ = fs::remove_dir_all(dir.join("logs"));
    // And what depends on how the commit came here: all of its objects are packed anew.
    run(Call::new("pack", ["repack", "-a", "-d", "-F", "-q", "-n"]).within(&dir))?;
    run(Call::new("set up", ["read-tree", "HEAD"]).within(&dir))
}

fn time_of(fetcher: &Fetcher, mirror: &Mirror, address: &GitAddress, commit: &Commit) -> Result<i64, FetchError> {
    let text =
        ask(fetcher, &mirror.path, &address.url, &["show", "--no-patch", "--format=%ct", commit.id.as_str(), "--"])?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.trim().parse().unwrap_or_default())
}
