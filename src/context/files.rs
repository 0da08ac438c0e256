//! Where the files of a context are: in a folder of the host, or gathered from somewhere else.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, MemfdFlags};
use rustix::io::Errno;

use super::gathered::Known;
use super::host_dir::{HostDir, Listed, Stat};
use crate::tree::{self, Kind, Node, TreePath};

#[derive(Debug)]
pub(super) enum Files {
    /// A folder that may change under our hands.
    Host(HostDir),
    /// Files that nobody else writes to, all of them known.
    Known(Known),
}

impl Files {
    /// Returns the type of what is at `path`; `None` where nothing is.
    pub(super) fn file_type(&self, path: &TreePath) -> Result<Option<FileType>, tree::Error> {
        match self {
            Files::Host(dir) => Ok(dir.stat(path)?.map(|stat| stat.file_type)),
            Files::Known(known) => Ok(known.node(path).map(|node| type_of(&node.kind))),
        }
    }

    /// Returns what is at `path`, as COPY shall see it; `None` where nothing is.
    pub(super) fn node(&self, path: &TreePath) -> Result<Option<Node>, tree::Error> {
        match self {
            Files::Host(dir) => dir.node(path),
            Files::Known(known) => Ok(known.node(path).cloned()),
        }
    }

    /// Returns the files in the directory `path` for which `filter` returns a mark, sorted by name, as
    /// [`HostDir::list`].
    pub(super) fn list<M>(
        &self,
        path: &TreePath,
        mut filter: impl FnMut(&TreePath, FileType) -> Option<M>,
    ) -> Result<Vec<Listed<M>>, tree::Error> {
        match self {
            Files::Host(dir) => {
                let listed: Vec<Listed<(Stat, M)>> = dir.list(path, filter)?;
                Ok(listed
                    .into_iter()
                    .map(|Listed { path, node, mark: (_, mark) }| Listed { path, node, mark })
                    .collect())
            }
            Files::Known(known) => {
                let children = known
                    .children(path)
                    .ok_or_else(|| tree::Error::in_context("read directory", path, Errno::NOTDIR))?;
                let marked = children.iter().filter_map(|child| {
                    let node = known.node(child)?;
                    let mark = filter(child, type_of(&node.kind))?;
                    Some(Listed { path: child.clone(), node: node.clone(), mark })
                });
                Ok(marked.collect())
            }
        }
    }

    /// Opens the regular file at `path` for reading; a socket is an empty one.
    pub(super) fn open(&self, path: &TreePath) -> Result<File, tree::Error> {
        if let Files::Host(dir) = self
            && dir.stat(path)?.is_some_and(|stat| stat.file_type == FileType::Socket)
        {
            let empty = rustix::fs::memfd_create("socket", MemfdFlags::CLOEXEC);
            return Ok(File::from(empty.map_err(|errno| tree::Error::in_context("open", path, errno))?));
        }
        self.open_file(path).map(File::from)
    }

    /// Opens the regular file at `path` for reading.
    pub(super) fn open_file(&self, path: &TreePath) -> Result<OwnedFd, tree::Error> {
        match self {
            Files::Host(dir) => Ok(dir.open_file(path)?.0),
            Files::Known(known) => known.open(path),
        }
    }
}

fn type_of(kind: &Kind) -> FileType {
    match kind {
        Kind::File { .. } | Kind::Hardlink { .. } => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink { .. } => FileType::Symlink,
        Kind::Char { .. } => FileType::CharacterDevice,
        Kind::Block { .. } => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        Kind::Whiteout => FileType::Unknown,
    }
}
