use crate::context::PatternError;
use crate::tree::{self, PathError, TreePath};

/// A COPY or ADD cannot be done.
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
    /// A source with `--parents` is there, but behind a link, whose directory could not be kept.
    #[error("the way to {source_path:?} is a symbolic link, which --parents does not follow: name {path}")]
    ThroughLink {
        /// The source as written.
        source_path: String,
        /// Where it is.
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
    /// A pattern of `--exclude` is malformed.
    #[error("a pattern of --exclude is malformed")]
    BadExclude {
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
    /// The name of an inline file has nothing that could be a file name.
    #[error("{name:?} cannot be the name of a file")]
    BadName {
        /// The name.
        name: String,
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
    /// `--link` makes a layer that knows no other, so that no name can be looked up.
    #[error(
        "--chown={owner} with --link: there is no /etc/passwd to look up a name in; give numbers, as in --chown=1000:1000"
    )]
    NameWithLink {
        /// What `--chown` says.
        owner: String,
    },
    /// A folder that the Dockerfile names was not given to the build.
    #[error("no context named {name:?} was given")]
    NoContext {
        /// Its name.
        name: String,
    },
    /// An archive of ADD cannot be unpacked.
    #[error("cannot unpack {path}")]
    Archive {
        /// The archive, in the context or stage.
        path: TreePath,
        /// Why not.
        #[source]
        source: crate::layer::LayerError,
    },
    /// The context, stage or image cannot be read.
    #[error("cannot read what COPY needs")]
    Tree(#[from] tree::Error),
}

impl CopyError {
    pub(super) fn bad_path(path: &str, source: PathError) -> Self {
        CopyError::BadPath { path: path.to_owned(), source }
    }
}
