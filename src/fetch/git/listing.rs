//! What a commit holds, as its trees say it, looked at before any of it is put on a disk.
//!
//! A tree is a list that anybody can write: it may name one thing twice, once as a link and once as a directory or a submodule, and
//! what is put into the one would go through the other. git skips some such entries and takes others; here they are an error.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use super::mirror::{Commit, Mirror, ask, is_id};
use crate::address::GitAddress;
use crate::fetch::{FetchError, Fetcher};
use crate::tree::TreePath;

/// A commit of another repository that is to be at some place: what a submodule is in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub path: TreePath,
    pub id: String,
}

/// An entry of a tree: its mode, its object and its path.
type Line<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Returns the links to other repositories in `commit`, or in the directory that `address` names.
///
/// # Errors
/// [`FetchError::UnsafeTree`] where the commit holds what cannot be on a disk, or not in one way only.
pub(super) fn links(
    fetcher: &Fetcher,
    mirror: &Mirror,
    address: &GitAddress,
    commit: &Commit,
) -> Result<Vec<Link>, FetchError> {
    let mut args = vec!["ls-tree", "-r", "-t", "-z", commit.id.as_str(), "--"];
    args.extend(address.subdir.as_deref());
    let said = ask(fetcher, &mirror.path, &address.url, &args)?;
    check(&said).map_err(|(path, reason)| FetchError::UnsafeTree {
        url: address.url.clone(),
        commit: commit.id.clone(),
        path: String::from_utf8_lossy(path).into_owned(),
        reason,
    })
}

/// Returns the links to other repositories in a list of all entries, or the first path that is not to be trusted and why.
fn check(said: &[u8]) -> Result<Vec<Link>, (&[u8], &'static str)> {
    let lines = said.split(|&b| b == 0).filter(|line| !line.is_empty());
    let mut lines: Vec<Line<'_>> = lines.map(parse).collect::<Option<_>>().ok_or((&b""[..], "git lists it oddly"))?;
    for (_, _, path) in &lines {
        if let Some(reason) = path.split(|&b| b == b'/').find_map(no_name) {
            return Err((path, reason));
        }
    }
    lines.sort_unstable_by_key(|(_, _, path)| *path);
    if let Some(twice) = lines.windows(2).find(|pair| pair[0].2 == pair[1].2) {
        return Err((twice[0].2, "it is there twice"));
    }
    let mut links = Vec::new();
    for (mode, id, path) in &lines {
        if let Some(end) = path.iter().rposition(|&b| b == b'/') {
            let above = lines.binary_search_by_key(&&path[..end], |&(_, _, path)| path);
            if !above.is_ok_and(|at| lines[at].0 == b"040000") {
                return Err((*path, "it is in what is no directory"));
            }
        }
        if *mode == b"160000" {
            let id = std::str::from_utf8(id).ok().filter(|id| is_id(id)).ok_or((*path, "it is no commit"))?;
            let path = TreePath::new(path).map_err(|_| (*path, "no file can have that name"))?;
            links.push(Link { path, id: id.to_owned() });
        }
    }
    Ok(links)
}

/// Takes `mode type id<TAB>path` apart.
fn parse(line: &[u8]) -> Option<Line<'_>> {
    let tab = line.iter().position(|&b| b == b'\t')?;
    let mut fields = line[..tab].split(|&b| b == b' ');
    let (mode, _, id) = (fields.next()?, fields.next()?, fields.next()?);
    Some((mode, id, &line[tab + 1..]))
}

/// Returns why no file in a checkout may have the name `name`.
fn no_name(name: &[u8]) -> Option<&'static str> {
    // Some file systems take names for equal that differ in case, or in dots and spaces at the end.
    let end = name.iter().rposition(|b| !matches!(b, b'.' | b' ')).map_or(0, |at| at + 1);
    match name {
        b"" => Some("a name in it is empty"),
        b"." | b".." => Some("it leads to another directory"),
        _ if name[..end].eq_ignore_ascii_case(b".git") || name.eq_ignore_ascii_case(b"git~1") => {
            Some("the folder .git is none of a commit's")
        }
        _ if name.len() > 255 => Some("a name in it has more than 255 bytes"),
        _ => None,
    }
}

/// Opens the directory at `path` below `root`, through no link.
pub(super) fn open_below(root: &Path, path: &TreePath) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir = rustix::fs::openat(CWD, root, flags, Mode::empty())?;
    for name in path.components() {
        dir = rustix::fs::openat(&dir, name, flags, Mode::empty())?;
    }
    Ok(dir)
}

/// Moves the folder `from` to `path` below `root`, through no link, in place of the empty directory that git made there. The kernel
/// refuses it where there is anything else.
pub(super) fn place(from: &Path, root: &Path, path: &TreePath) -> Result<(), FetchError> {
    let placed = || {
        let parent = open_below(root, &path.parent().unwrap_or_default())?;
        rustix::fs::renameat(CWD, from, parent.as_fd(), OsStr::from_bytes(path.name().unwrap_or_default()))
    };
    placed().map_err(|errno| FetchError::Io {
        call: "put a submodule to",
        path: root.join(path.as_os_path()),
        source: errno.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    fn listed(entries: &[(&str, &str)]) -> Vec<u8> {
        entries.iter().flat_map(|(mode, path)| format!("{mode} kind {ID}\t{path}\0").into_bytes()).collect()
    }

    #[test]
    fn links_are_found_where_a_tree_is_in_order() {
        let said = listed(&[("040000", "a"), ("160000", "a/m"), ("100644", "a-b"), ("120000", "l"), ("100755", "a/x")]);
        assert_eq!(check(&said), Ok(vec![Link { path: TreePath::new("a/m").unwrap(), id: ID.into() }]));
        assert_eq!(check(b""), Ok(Vec::new()));
        // Names that only look like it.
        let said = listed(&[("100644", ".gitmodules"), ("100644", "a.git"), ("100644", ".git-x"), ("100644", "...")]);
        assert_eq!(check(&said), Ok(Vec::new()));
    }

    #[test]
    fn a_tree_that_says_one_thing_twice_is_refused() {
        for entries in [
            &[("160000", "d"), ("120000", "d")][..],
            &[("120000", "d"), ("040000", "d"), ("160000", "d/m")],
            &[("120000", "d"), ("160000", "d/m")],
            &[("160000", "d"), ("160000", "d/m")],
            &[("160000", "d/m")],
            &[("160000", "..")],
            &[("040000", ".."), ("160000", "../m")],
            &[("100644", "a//b")],
            &[("160000", ".git")],
            &[("040000", "a"), ("100644", "a/.GIT")],
            &[("160000", ".git. ")],
            &[("160000", "GIT~1")],
        ] {
            assert!(check(&listed(entries)).is_err(), "{entries:?}");
        }
    }

    #[test]
    fn a_folder_goes_to_an_empty_directory_and_to_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (root, out) = (dir.path().join("root"), dir.path().join("out"));
        for path in ["out/empty", "root/a/empty", "root/full/x", "root/a/full/x"] {
            std::fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        for link in ["root/link", "root/a/link"] {
            std::os::unix::fs::symlink(&out, dir.path().join(link)).unwrap();
        }
        for (path, good) in [
            ("link", false),
            ("link/empty", false),
            ("a/link", false),
            ("a/link/empty", false),
            ("full", false),
            ("a/full", false),
            ("a/empty", true),
        ] {
            let from = dir.path().join("from");
            std::fs::create_dir_all(from.join("file")).unwrap();
            let placed = place(&from, &root, &TreePath::new(path).unwrap());
            assert_eq!(placed.is_ok(), good, "{path}: {placed:?}");
            assert_eq!(from.exists(), !good, "{path}");
        }
        assert!(root.join("a/empty/file").is_dir());
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);
        assert!(open_below(&root, &TreePath::new("a/link").unwrap()).is_err());
        assert!(open_below(&root, &TreePath::new("a").unwrap()).is_ok());
    }
}
