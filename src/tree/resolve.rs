use std::io;

use super::{Error, Kind, Node, Tree, TreePath};

/// Links followed in one look-up at the most, as in the kernel (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// Where a path leads when links are followed, never out of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The path without links in it. Where nothing is there, the path that would have to be made.
    pub path: TreePath,
    /// The file there; `None` where it (or a parent) is missing.
    pub node: Option<Node>,
}

/// Returns where `path` leads in `tree`, following links in every component, the last included. `..` and
/// absolute links stay inside the tree, as after chroot(2).
///
/// # Errors
/// [`Error`] with ELOOP after 40 links, with ENOTDIR where a file is used as a directory, and what the tree reports.
pub fn resolve(tree: &dyn Tree, path: &[u8]) -> Result<Resolved, Error> {
    walk(tree, path, true)
}

/// As [`resolve`], but a link in the last component is not followed.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_parent(tree: &dyn Tree, path: &[u8]) -> Result<Resolved, Error> {
    walk(tree, path, false)
}

fn walk(tree: &dyn Tree, path: &[u8], follow_last: bool) -> Result<Resolved, Error> {
    let fail = |errno: i32| Error {
        call: "resolve",
        path: String::from_utf8_lossy(path).into_owned(),
        source: io::Error::from_raw_os_error(errno),
    };
    // Components still to walk, the next one last.
    let mut todo: Vec<Vec<u8>> = split(path);
    let mut at = TreePath::root();
    let mut node = tree.lookup(&at)?;
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part == b".." {
            at = at.parent().unwrap_or_default();
            node = tree.lookup(&at)?;
            continue;
        }
        if part.len() > 255 || part.contains(&0) {
            return Err(fail(rustix::io::Errno::NAMETOOLONG.raw_os_error()));
        }
        if let Some(file) = &node
            && !file.kind.is_dir()
        {
            return Err(fail(rustix::io::Errno::NOTDIR.raw_os_error()));
        }
        let next = at.child(&part);
        let found = if node.is_some() { tree.lookup(&next)? } else { None };
        match &found {
            Some(Node { kind: Kind::Symlink { target }, .. }) if follow_last || !todo.is_empty() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(fail(rustix::io::Errno::LOOP.raw_os_error()));
                }
                if target.first() == Some(&b'/') {
                    at = TreePath::root();
                    node = tree.lookup(&at)?;
                }
                todo.extend(split(target));
            }
            _ => {
                at = next;
                node = found;
            }
        }
    }
    Ok(Resolved { path: at, node })
}

fn split(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&b| b == b'/').filter(|p| !p.is_empty() && *p != b".").rev().map(<[u8]>::to_vec).collect()
}
