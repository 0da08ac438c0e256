//! Commits in files: all objects of one commit, to be taken to where its repository cannot be reached.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use super::mirror::{Commit, Mirror, ask};
use super::program::{Call, git};
use super::{Trust, listing, submodules};
use crate::address::GitAddress;
use crate::fetch::{FetchError, Fetcher};
use crate::oci::Digest;

/// The objects of a commit, in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPack {
    /// The URL of the repository, without a password.
    pub url: String,
    /// The whole id of the commit.
    pub commit: String,
    /// The file, in git's format of packs.
    pub path: PathBuf,
}

pub(in crate::fetch) fn pack(
    fetcher: &Fetcher,
    address: &GitAddress,
    commit: &Commit,
    trust: Trust,
    into: &Path,
) -> Result<Vec<CommitPack>, FetchError> {
    let mirror = Mirror::with(fetcher, address, commit, &address.host, trust)?;
    if let Some(tag) = commit.tag()
        && ask(fetcher, &mirror.path, &address.url, &["cat-file", "-e", tag]).is_err()
    {
        // The commit came by another name before, so the tag did not come with it.
        let remote = super::program::Remote { address, primary: &address.host, trust };
        mirror.fetch(fetcher, address, commit, remote)?;
    }
    let mut packs = vec![write(fetcher, &mirror, address, commit, into)?];
    let links = listing::links(fetcher, &mirror, address, commit)?;
    let modules = match address.submodules {
        true => submodules::of(fetcher, &mirror, address, commit, links)?,
        false => Vec::new(),
    };
    // One of them may be in the same repository.
    drop(mirror);
    submodules::each(fetcher, address, modules, trust, &mut |mirror, module| {
        let (url, id) = (&module.address.url, &module.commit.id);
        if !packs.iter().any(|pack| pack.url == *url && pack.commit == *id) {
            packs.push(write(fetcher, mirror, &module.address, &module.commit, into)?);
        }
        Ok(())
    })?;
    Ok(packs)
}

/// Writes a pack. Nothing in it depends on how the objects came to the mirror: none is taken as it lies there, and none is written as
/// the difference to another.
fn write(
    fetcher: &Fetcher,
    mirror: &Mirror,
    address: &GitAddress,
    commit: &Commit,
    into: &Path,
) -> Result<CommitPack, FetchError> {
    let url = &address.url;
    let listed = ["rev-list", "--objects", "--no-walk", commit.id.as_str(), "--"];
    let mut list = ask(fetcher, &mirror.path, url, &listed)?;
    if let Some(tag) = commit.tag() {
        list.extend_from_slice(format!("{tag}\n").as_bytes());
    }
    let tmp = &fetcher.options.tmp;
    let failed = |call| move |source| FetchError::Io { call, path: tmp.clone(), source };
    let mut stdin = tempfile::tempfile_in(tmp).map_err(failed("create a file in"))?;
    stdin.write_all(&list).and_then(|()| stdin.rewind()).map_err(failed("write a file in"))?;
    let base = into.join(format!("{}-{}", Digest::of(url.as_bytes()).hex(), commit.id));
    let mut call = Call::new("pack", ["pack-objects", "-q", "--window=0", "--no-reuse-delta", "--no-reuse-object"]);
    call.args.extend(["--".into(), base.clone().into_os_string()]);
    let said = git(fetcher, &Call { stdin: Some(&stdin), ..call }.within(&mirror.path), url)?;
    let mut path = base.into_os_string();
    path.push(format!("-{}.pack", String::from_utf8_lossy(&said).trim()));
    Ok(CommitPack { url: url.clone(), commit: commit.id.clone(), path: path.into() })
}

pub(in crate::fetch) fn unpack(fetcher: &Fetcher, url: &str, commit: &Commit, pack: &Path) -> Result<(), FetchError> {
    let mirror = Mirror::open(fetcher, url)?;
    let bad = |reason: String| FetchError::BadPack { url: url.to_owned(), commit: commit.id.clone(), reason };
    let said = |error| match error {
        FetchError::Git { message, .. } => bad(message),
        other => other,
    };
    let failed = |path: &Path, call: &'static str| {
        let path = path.to_path_buf();
        move |source| FetchError::Io { call, path, source }
    };
    let name = format!("pack-{}-{}.pack", commit.id, commit.tag().unwrap_or("commit"));
    let place = mirror.path.join("objects/pack").join(name);
    fs::rename(pack, &place).map_err(failed(&place, "create"))?;
    // It takes no `--`; the path is absolute.
    let mut index = Call::new("read the pack of", ["index-pack"]);
    index.args.push(place.into());
    git(fetcher, &index.within(&mirror.path), url).map_err(said)?;
    // Its parents are not here, and git must not look for them.
    let shown = ask(fetcher, &mirror.path, url, &["cat-file", "commit", commit.id.as_str()]).map_err(said)?;
    if shown.split(|&b| b == b'\n').take_while(|line| !line.is_empty()).any(|line| line.starts_with(b"parent ")) {
        let shallow = mirror.path.join("shallow");
        let mut file = File::options().create(true).append(true).open(&shallow).map_err(failed(&shallow, "open"))?;
        // A line may be there twice.
        file.write_all(format!("{}\n", commit.id).as_bytes()).map_err(failed(&shallow, "write"))?;
    }
    // All that belongs to the commit must be here: a check-out would find out late, and say it worse.
    let whole = ["rev-list", "--objects", "--no-walk", "--quiet", commit.id.as_str(), "--"];
    ask(fetcher, &mirror.path, url, &whole).map_err(said)?;
    if let Some(tag) = commit.tag() {
        let of_tag = format!("{tag}^{{commit}}");
        let found = ask(fetcher, &mirror.path, url, &["rev-parse", "--verify", of_tag.as_str()]).map_err(said)?;
        if found.trim_ascii() != commit.id.as_bytes() {
            return Err(bad(format!("the tag {tag} in it is of another commit")));
        }
    }
    Ok(())
}
