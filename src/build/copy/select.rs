//! What a COPY or ADD reads: its sources, with globs and links resolved, walked once and digested.

use sha2::{Digest as _, Sha256};

use super::filter::Filter;
use super::find::{self, Picked};
use super::inline::{Fetched, OtherTree, inline};
use super::{CopyError, kept};
use crate::context::Glob;
use crate::plan::{self, Chmod, CopySource};
use crate::tree::{FileDigest, Kind, Node, Tree, TreePath};

/// What a COPY or ADD reads: found and digested once, for its cache key and for its plan.
#[derive(Debug, Clone)]
pub struct Selection {
    pub(super) sources: Vec<Source>,
    pub(super) others: Vec<OtherTree>,
    pub(super) destination: String,
    pub(super) chmod: Option<Chmod>,
    warnings: Vec<String>,
    has_chown: bool,
}

/// Which tree a file is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Origin {
    /// The context, stage or image.
    Main,
    /// One of [`Selection::others`].
    Other(usize),
    /// The archive that was the source with this number.
    Archive(usize),
}

/// One source: what was written, or one match of a glob.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A directory, whose contents are copied.
    Dir {
        from: Origin,
        /// Where it is, links resolved.
        at: TreePath,
        files: Vec<Picked>,
    },
    /// Anything else.
    File {
        from: Origin,
        /// Its name as it was written or matched: that of the link, where a link was followed.
        name: Vec<u8>,
        /// Where it is, links resolved.
        at: TreePath,
        node: Node,
        /// What happens if it is an archive.
        archive: Archives,
    },
}

/// What happens to archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Archives {
    /// They are copied as they are.
    Copy,
    /// What is in them is copied.
    Unpack,
}

impl Archives {
    fn unpack(wanted: bool) -> Self {
        if wanted { Archives::Unpack } else { Archives::Copy }
    }
}

/// Returns what `copy` reads: each file is looked at and digested once. The paths among the sources are in `source`; `fetched`
/// are those that are URLs or git repositories, in their order.
///
/// A glob that matches nothing is a warning, a plain source that is missing an error.
///
/// # Errors
/// [`CopyError`]; where it is `NotFound`, an ignore file may be the reason (see
/// [`Context::explain`](crate::context::Context::explain)).
pub(in crate::build) fn select(
    copy: &plan::Copy,
    source: &dyn Tree,
    fetched: Vec<Fetched>,
) -> Result<Selection, CopyError> {
    let mut selection = Selection {
        sources: Vec::new(),
        others: Vec::new(),
        destination: copy.destination.clone(),
        chmod: copy.chmod.clone(),
        warnings: Vec::new(),
        has_chown: copy.chown.is_some(),
    };
    let filter = Filter::without(&copy.exclude)?;
    let unpack = |of_itself: bool| match &copy.add {
        Some(add) => Archives::unpack(add.unpack.unwrap_or(of_itself)),
        None => Archives::Copy,
    };
    let mut fetched = fetched.into_iter();
    for written in &copy.sources {
        match written {
            CopySource::Path(path) if copy.parents => selection.add_with_parents(source, path, &filter)?,
            CopySource::Path(path) => selection.add_path(source, path, &filter, unpack(true))?,
            CopySource::Inline { .. } => {}
            CopySource::Url(_) | CopySource::Git(_) => {
                let there = fetched.next().expect("the caller fetches each source that is elsewhere");
                selection.add_other(there, &filter, unpack(false))?;
            }
        }
    }
    // As BuildKit does it: they come last, wherever they are written.
    for written in &copy.sources {
        if let CopySource::Inline { name, text } = written {
            let file = inline(name, text, crate::build::now())?;
            selection.add_other(file, &Filter::default(), Archives::Copy)?;
        }
    }
    selection.add_digests(source)?;
    Ok(selection)
}

impl Selection {
    /// Returns the digest of what is read, for the cache key: names, types, modes, contents, texts of links, extended
    /// attributes, and owners where no `--chown` replaces them. Never a time, and not the mode of a directory whose contents
    /// are copied, because it is not.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(b"coracle copy 2\0");
        for source in &self.sources {
            match source {
                Source::Dir { files, .. } => {
                    hasher.update(b"D");
                    hasher.update((files.len() as u64).to_le_bytes());
                    for file in files {
                        hasher.update(if file.leads { b"l" } else { b"t" });
                        self.digest_file(&mut hasher, file.path.as_bytes(), &file.node);
                    }
                }
                Source::File { name, node, .. } => {
                    hasher.update(b"F");
                    self.digest_file(&mut hasher, name, node);
                }
            }
        }
        hasher.finalize().into()
    }

    /// Hands to `then` each path that is read, from the root of its tree, and a digest of all that counts of it.
    pub fn each_content(&self, then: &mut dyn FnMut(String, String)) {
        let mut hand = |path: &TreePath, node: &Node| {
            let mut hasher = Sha256::new();
            self.digest_file(&mut hasher, b"", node);
            let digest: [u8; 32] = hasher.finalize().into();
            then(path.to_string(), digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect());
        };
        for source in &self.sources {
            match source {
                Source::Dir { at, files, .. } => files.iter().for_each(|file| hand(&at.join(&file.path), &file.node)),
                Source::File { at, node, .. } => hand(at, node),
            }
        }
    }

    /// Returns what the user should know, one line each, without control characters.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn add_path(
        &mut self,
        source: &dyn Tree,
        written: &str,
        filter: &Filter,
        archive: Archives,
    ) -> Result<(), CopyError> {
        let globbed = find::expand(source, written)?;
        if let Some([]) = globbed.as_deref() {
            self.warn_of_nothing(written);
        }
        let plain = globbed.is_none();
        let bad = |source| CopyError::bad_path(written, source);
        let places = match globbed {
            Some(places) => places,
            None => vec![TreePath::new(written).map_err(bad)?],
        };
        for place in places {
            let (at, node) = find::found(source, written, &place)?;
            if node.kind.is_dir() {
                let files = find::walk(source, &at, filter)?;
                self.sources.push(Source::Dir { from: Origin::Main, at, files });
                continue;
            }
            let name = place.name().unwrap_or_default().to_vec();
            if TreePath::new(&name).is_ok_and(|name| filter.leaves_out(&name)) {
                if plain {
                    self.warnings.push(format!("{written:?} is left out by --exclude; nothing is copied for it"));
                }
                continue;
            }
            self.sources.push(Source::File { from: Origin::Main, name, at, node: kept(node), archive });
        }
        Ok(())
    }

    /// Adds the source `written` with `--parents`: what stands before the pivot `/./` is a directory, or a glob of some, and what
    /// stands behind it a pattern for the files in it.
    fn add_with_parents(&mut self, source: &dyn Tree, written: &str, filter: &Filter) -> Result<(), CopyError> {
        let (start, pattern) = written.split_once("/./").unwrap_or(("", written));
        let pattern = find::clean(pattern);
        let globbed = find::expand(source, start)?;
        let plain = globbed.is_none() && !pattern.iter().any(|part| Glob::is_pattern(part));
        let pattern = pattern.join("/");
        let bad = |source| CopyError::BadPattern { source_path: written.to_owned(), source };
        let taken = if pattern.is_empty() { filter.clone() } else { filter.only(&pattern).map_err(bad)? };
        let starts = match globbed {
            Some(places) => places,
            None => vec![TreePath::new(start).map_err(|source| CopyError::bad_path(written, source))?],
        };
        let mut found_any = false;
        for place in starts {
            let (at, node) = find::found(source, written, &place)?;
            if !node.kind.is_dir() {
                continue;
            }
            let files = find::walk(source, &at, &taken)?;
            if plain && files.is_empty() {
                self.why_nothing(source, written, &at, &pattern)?;
            }
            found_any |= !files.is_empty() || plain;
            // Also where nothing is taken: the destination is made.
            self.sources.push(Source::Dir { from: Origin::Main, at, files });
        }
        if !found_any {
            self.warn_of_nothing(written);
        }
        Ok(())
    }

    /// Says why nothing is taken of a path without patterns: an error, unless `--exclude` is the reason.
    fn why_nothing(&mut self, source: &dyn Tree, written: &str, at: &TreePath, pattern: &str) -> Result<(), CopyError> {
        // Backslashes in front of what needs none are all that a pattern without patterns can have.
        let literal = pattern.replace('\\', "");
        let place = at.join(&TreePath::new(&literal).map_err(|source| CopyError::bad_path(written, source))?);
        let (path, _) = find::found(source, written, &place)?;
        if path != place {
            return Err(CopyError::ThroughLink { source_path: written.to_owned(), path });
        }
        self.warnings.push(format!("{written:?} is left out by --exclude; nothing is copied for it"));
        Ok(())
    }

    fn warn_of_nothing(&mut self, written: &str) {
        self.warnings.push(format!("{written:?} matches no file; nothing is copied for it"));
    }

    fn add_other(&mut self, other: Fetched, filter: &Filter, archive: Archives) -> Result<(), CopyError> {
        let Fetched { tree, at, name } = other;
        let from = Origin::Other(self.others.len());
        let (at, node) = find::found(&*tree, &at.to_string(), &at)?;
        self.sources.push(if node.kind.is_dir() {
            let files = find::walk(&*tree, &at, filter)?;
            Source::Dir { from, at, files }
        } else {
            Source::File { from, name, at, node: kept(node), archive }
        });
        self.others.push(tree);
        Ok(())
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
        let others = self.others.clone();
        let trees = others.iter().enumerate().map(|(at, tree)| (Origin::Other(at), &**tree as &dyn Tree));
        for (which, tree) in [(Origin::Main, source)].into_iter().chain(trees) {
            let mut paths = Vec::new();
            self.each_undigested(which, |path, _| paths.push(path));
            let mut digests = tree.digests(&paths)?.into_iter();
            self.each_undigested(which, |_, digest| *digest = digests.next());
        }
        Ok(())
    }

    fn each_undigested(&mut self, which: Origin, mut then: impl FnMut(TreePath, &mut Option<FileDigest>)) {
        for source in &mut self.sources {
            match source {
                Source::Dir { from, at, files } if *from == which => {
                    for Picked { path, node, .. } in files {
                        if let Kind::File { digest: digest @ None, .. } = &mut node.kind {
                            then(at.join(path), digest);
                        }
                    }
                }
                Source::File { from, at, node, .. } if *from == which => {
                    if let Kind::File { digest: digest @ None, .. } = &mut node.kind {
                        then(at.clone(), digest);
                    }
                }
                Source::Dir { .. } | Source::File { .. } => {}
            }
        }
    }
}

fn text(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}
