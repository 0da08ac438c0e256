//! What a COPY reads: its sources, with globs and links resolved, walked once and digested.

use sha2::{Digest as _, Sha256};

use crate::context::{Glob, PatternError};
use crate::plan::{self, Chmod, CopySource};
use crate::tree::{self, FileDigest, Kind, Node, PathError, Tree, TreePath, resolve};

/// The extended attributes that COPY keeps. BuildKit drops `user.*`.
const KEPT_XATTR: &[u8] = b"security.capability";

/// What a COPY reads: found and digested once, for its cache key and for its plan.
#[derive(Debug, Clone)]
pub struct Selection {
    pub(super) sources: Vec<Source>,
    pub(super) destination: String,
    pub(super) chmod: Option<Chmod>,
    warnings: Vec<String>,
    has_chown: bool,
}

/// One source: what was written, or one match of a glob.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A directory, whose contents are copied.
    Dir {
        /// Where it is in the source tree, links resolved.
        at: TreePath,
        /// All that is in it, by its path from there: parents first, sorted.
        files: Vec<(TreePath, Node)>,
    },
    /// Anything else.
    File {
        /// Its name as it was written or matched: that of the link, where a link was followed.
        name: Vec<u8>,
        /// Where it is in the source tree, links resolved.
        at: TreePath,
        /// What it is.
        node: Node,
    },
}

/// A COPY cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// Nothing is at the place of a source (or an ignore file hides it).
    #[error("{source_path:?} is not there{hint}", hint = similar.as_ref().map(|name| format!("; did you mean {name:?}?")).unwrap_or_default())]
    NotFound {
        /// The source as written.
        source_path: String,
        /// Where it should be: from the root of the context, stage or image.
        path: TreePath,
        /// A file beside it that has almost this name; its path.
        similar: Option<String>,
    },
    /// A source is a link to nothing.
    #[error("{source_path:?} is a symbolic link to {path}, which is not there")]
    DanglingLink {
        /// The source as written.
        source_path: String,
        /// Where the link leads.
        path: TreePath,
    },
    /// A source is no pattern of Go's filepath.Match.
    #[error("source {source_path:?} is malformed")]
    BadPattern {
        /// The source as written.
        source_path: String,
        /// What is wrong with it.
        #[source]
        source: PatternError,
    },
    /// A source or the destination is a path that no file can have.
    #[error("{path:?} cannot be a path")]
    BadPath {
        /// The path as written.
        path: String,
        /// What is wrong with it.
        #[source]
        source: PathError,
    },
    /// A directory would have to replace something else.
    #[error("cannot copy the directory {from} to {target}: a {found} is there")]
    DirectoryOntoOther {
        /// The directory in the source tree.
        from: TreePath,
        /// Its place in the image.
        target: TreePath,
        /// What is there.
        found: &'static str,
    },
    /// A file would have to replace a directory.
    #[error("cannot copy {from} to {target}: a directory is there")]
    FileOntoDirectory {
        /// The file in the source tree.
        from: TreePath,
        /// Its place in the image.
        target: TreePath,
    },
    /// What has to be a directory in the image is something else.
    #[error("cannot copy to {destination:?}: {path} is a {found}, not a directory")]
    NotADirectory {
        /// The destination as written.
        destination: String,
        /// What is no directory.
        path: TreePath,
        /// What it is.
        found: &'static str,
    },
    /// The context, stage or image cannot be read.
    #[error("cannot read what COPY needs")]
    Tree(#[from] tree::Error),
}

/// Returns what `copy` reads from `source`: each file is looked at and digested once.
///
/// A glob that matches nothing is a warning, a plain source that is missing an error.
///
/// # Errors
/// [`CopyError`]; where it is `NotFound`, an ignore file may be the reason (see
/// [`Context::explain`](crate::context::Context::explain)).
pub fn select(copy: &plan::Copy, source: &dyn Tree) -> Result<Selection, CopyError> {
    let mut selection = Selection {
        sources: Vec::new(),
        destination: copy.destination.clone(),
        chmod: copy.chmod.clone(),
        warnings: Vec::new(),
        has_chown: copy.chown.is_some(),
    };
    // What is no path is refused before (`unbuilt`).
    let paths = copy.sources.iter().filter_map(|source| match source {
        CopySource::Path(path) => Some(path),
        _ => None,
    });
    for written in paths {
        let places = expand(source, written)?;
        if let Some([]) = places.as_deref() {
            selection.warnings.push(format!("{written:?} matches no file; nothing is copied for it"));
        }
        let plain = || Ok(vec![TreePath::new(written).map_err(|source| bad_path(written, source))?]);
        for place in places.map_or_else(plain, Ok::<_, CopyError>)? {
            selection.sources.push(found(source, written, &place)?);
        }
    }
    selection.add_digests(source)?;
    Ok(selection)
}

impl Selection {
    /// Returns the digest of what the COPY reads, for its cache key: names, types, modes, contents, texts of links,
    /// extended attributes, and owners where no `--chown` replaces them. Never a time, and not the mode of a directory
    /// whose contents are copied, because it is not.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(b"coracle copy 1\0");
        for source in &self.sources {
            match source {
                Source::Dir { files, .. } => {
                    hasher.update(b"D");
                    hasher.update((files.len() as u64).to_le_bytes());
                    files.iter().for_each(|(path, node)| self.digest_file(&mut hasher, path.as_bytes(), node));
                }
                Source::File { name, node, .. } => {
                    hasher.update(b"F");
                    self.digest_file(&mut hasher, name, node);
                }
            }
        }
        hasher.finalize().into()
    }

    /// Hands to `then` each path that is read, from the root of the source tree, and a digest of all that counts of it.
    pub(super) fn each_content(&self, then: &mut dyn FnMut(String, String)) {
        let mut hand = |path: &TreePath, node: &Node| {
            let mut hasher = Sha256::new();
            self.digest_file(&mut hasher, b"", node);
            let digest: [u8; 32] = hasher.finalize().into();
            then(path.to_string(), digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect());
        };
        for source in &self.sources {
            match source {
                Source::Dir { at, files } => files.iter().for_each(|(path, node)| hand(&at.join(path), node)),
                Source::File { at, node, .. } => hand(at, node),
            }
        }
    }

    /// Returns what the user should know, one line each, without control characters.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn digest_file(&self, hasher: &mut Sha256, name: &[u8], node: &Node) {
        text(hasher, name);
        hasher.update(node.meta.mode.to_le_bytes());
        if !self.has_chown {
            hasher.update(node.meta.uid.to_le_bytes());
            hasher.update(node.meta.gid.to_le_bytes());
        }
        let device = |hasher: &mut Sha256, tag: &[u8], (major, minor): (u32, u32)| {
            hasher.update(tag);
            hasher.update(major.to_le_bytes());
            hasher.update(minor.to_le_bytes());
        };
        match &node.kind {
            Kind::File { digest, .. } => {
                hasher.update(b"f");
                hasher.update(digest.expect("select digests every file").0);
            }
            Kind::Dir => hasher.update(b"d"),
            Kind::Symlink { target } => {
                hasher.update(b"l");
                text(hasher, target);
            }
            Kind::Hardlink { target } => {
                hasher.update(b"h");
                text(hasher, target.as_bytes());
            }
            Kind::Char { device: numbers } => device(hasher, b"c", *numbers),
            Kind::Block { device: numbers } => device(hasher, b"b", *numbers),
            Kind::Fifo => hasher.update(b"p"),
            Kind::Whiteout => hasher.update(b"w"),
        }
        hasher.update((node.meta.xattrs.len() as u64).to_le_bytes());
        for (name, value) in &node.meta.xattrs {
            text(hasher, name);
            text(hasher, value);
        }
    }

    /// Fills in the digest of each regular file that has none.
    fn add_digests(&mut self, source: &dyn Tree) -> Result<(), CopyError> {
        let mut paths = Vec::new();
        self.each_undigested(|path, _| paths.push(path));
        let mut digests = source.digests(&paths)?.into_iter();
        self.each_undigested(|_, digest| *digest = digests.next());
        Ok(())
    }

    fn each_undigested(&mut self, mut then: impl FnMut(TreePath, &mut Option<FileDigest>)) {
        for source in &mut self.sources {
            match source {
                Source::Dir { at, files } => {
                    for (path, node) in files {
                        if let Kind::File { digest: digest @ None, .. } = &mut node.kind {
                            then(at.join(path), digest);
                        }
                    }
                }
                Source::File { at, node, .. } => {
                    if let Kind::File { digest: digest @ None, .. } = &mut node.kind {
                        then(at.clone(), digest);
                    }
                }
            }
        }
    }
}

/// Returns the paths that the glob `written` matches, sorted; `None` where it is no glob.
fn expand(source: &dyn Tree, written: &str) -> Result<Option<Vec<TreePath>>, CopyError> {
    // Cleaned by its text alone, as filepath.Join does it, before anything is looked up.
    let mut parts: Vec<&str> = Vec::new();
    for part in written.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let Some(first) = parts.iter().position(|part| Glob::is_pattern(part)) else { return Ok(None) };
    let mut patterns = Vec::new();
    for part in &parts[first..] {
        let bad = |source| CopyError::BadPattern { source_path: written.to_owned(), source };
        patterns.push(Glob::new(part).map_err(bad)?);
    }
    let start = parts[..first].join("/");
    TreePath::new(&start).map_err(|source| bad_path(written, source))?;
    // In front of the first pattern links are followed, behind it they are not.
    let start = follow(source, start.as_bytes())?;
    let mut places: Vec<(TreePath, bool)> =
        start.map(|(path, node)| (path, node.is_some_and(|node| node.kind.is_dir()))).into_iter().collect();
    for pattern in &patterns {
        let mut next = Vec::new();
        for (dir, _) in places.into_iter().filter(|(_, is_dir)| *is_dir) {
            for (name, node) in source.read_dir(&dir)? {
                if pattern.matches(&name) {
                    next.push((dir.child(&name), node.kind.is_dir()));
                }
            }
        }
        places = next;
    }
    Ok(Some(places.into_iter().map(|(path, _)| path).collect()))
}

/// Returns the source at `place`, a link there followed, with all that is in it.
fn found(source: &dyn Tree, written: &str, place: &TreePath) -> Result<Source, CopyError> {
    let (at, node) = match follow(source, place.as_bytes())? {
        Some((at, Some(node))) => (at, node),
        found => return Err(missing(source, written, place, found.map(|(at, _)| at))),
    };
    if node.kind.is_dir() {
        let files = walk(source, &at)?;
        return Ok(Source::Dir { at, files });
    }
    Ok(Source::File { name: place.name().unwrap_or_default().to_vec(), at, node: kept(node) })
}

/// Returns all that is in the directory `at`, by its path from there: parents first, sorted. It keeps its own stack: a
/// context may be deeper than that of a thread.
fn walk(source: &dyn Tree, at: &TreePath) -> Result<Vec<(TreePath, Node)>, CopyError> {
    let mut files = Vec::new();
    // What is still to list, the next one last.
    let mut todo: Vec<(TreePath, Node)> = Vec::new();
    let list = |dir: &TreePath, todo: &mut Vec<(TreePath, Node)>| -> Result<(), CopyError> {
        let children = source.read_dir(&at.join(dir))?;
        todo.extend(children.into_iter().rev().map(|(name, node)| (dir.child(&name), kept(node))));
        Ok(())
    };
    list(&TreePath::root(), &mut todo)?;
    while let Some((path, node)) = todo.pop() {
        if node.kind.is_dir() {
            list(&path, &mut todo)?;
        }
        files.push((path, node));
    }
    Ok(files)
}

/// Returns where `path` leads, as [`resolve`]; `None` where a file is used as a directory.
fn follow(source: &dyn Tree, path: &[u8]) -> Result<Option<(TreePath, Option<Node>)>, CopyError> {
    match resolve(source, path) {
        Ok(found) => Ok(Some((found.path, found.node))),
        Err(error) if error.source.raw_os_error() == Some(rustix::io::Errno::NOTDIR.raw_os_error()) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn kept(mut node: Node) -> Node {
    node.meta.xattrs.retain(|name, _| name == KEPT_XATTR);
    node
}

fn text(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

pub(super) fn bad_path(path: &str, source: PathError) -> CopyError {
    CopyError::BadPath { path: path.to_owned(), source }
}

/// Returns the error that says that nothing is at `place`; `leads` is where its links lead.
fn missing(source: &dyn Tree, written: &str, place: &TreePath, leads: Option<TreePath>) -> CopyError {
    let source_path = written.to_owned();
    if let Some(path) = leads.filter(|_| matches!(source.lookup(place), Ok(Some(_)))) {
        return CopyError::DanglingLink { source_path, path };
    }
    let similar = similar(source, place).map(|path| path.to_string());
    CopyError::NotFound { source_path, path: place.clone(), similar }
}

/// Returns the file beside `place` whose name is nearest to its name, where one is near. What cannot be read gives no
/// hint.
fn similar(source: &dyn Tree, place: &TreePath) -> Option<TreePath> {
    /// Files that are looked at: a hint is not worth more.
    const LIMIT: usize = 2000;
    let (name, parent) = (place.name()?, place.parent()?);
    let (dir, node) = follow(source, parent.as_bytes()).ok()??;
    if !node?.kind.is_dir() {
        return None;
    }
    let allowed = (name.len() / 3).clamp(1, 2);
    let names = source.read_dir(&dir).ok()?.into_iter().map(|(name, _)| name).take(LIMIT);
    let near = names.filter(|other| other.len().abs_diff(name.len()) <= allowed);
    let best = near.map(|other| (distance(&name.to_ascii_lowercase(), &other.to_ascii_lowercase()), other)).min();
    best.filter(|(distance, _)| *distance <= allowed).map(|(_, name)| parent.child(&name))
}

/// Returns how many bytes must be added, removed or changed to make `a` of `b` (Levenshtein).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
