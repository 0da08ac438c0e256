use std::io;
use std::path::PathBuf;

use crate::address::AddressError;
use crate::net::NetError;

/// Something cannot be fetched. No text of it holds a credential.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The network, or what answers there.
    #[error(transparent)]
    Net(#[from] NetError),
    /// It is not here, and nobody is asked.
    #[error("{what} is not known without asking for it")]
    NotHere {
        /// What is wanted.
        what: String,
    },
    /// What came is not what was asked for.
    #[error("{what} is {found}, not {expected}")]
    WrongDigest {
        /// What was fetched.
        what: String,
        /// What it should be: a digest, or a commit.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A body ended early, or went on.
    #[error("{place} sent {found} bytes, not the {expected} that it said")]
    WrongLength {
        /// Host and path.
        place: String,
        /// What it said.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// A file is larger than any sensible one.
    #[error("{place} has more than {limit} bytes")]
    TooLarge {
        /// Host and path.
        place: String,
        /// The limit.
        limit: u64,
    },
    /// A Git repository is to be fetched, and the program git is not there.
    #[error("{url} is a Git repository, and the program git is not installed")]
    NoGit {
        /// The repository.
        url: String,
    },
    /// git failed.
    #[error("git cannot {what} {url}: {message}")]
    Git {
        /// What it should do.
        what: &'static str,
        /// The repository.
        url: String,
        /// What it said.
        message: String,
    },
    /// git was silent for too long.
    #[error("git cannot {what} {url}: nothing came for {seconds} seconds")]
    GitSilent {
        /// What it should do.
        what: &'static str,
        /// The repository.
        url: String,
        /// The limit.
        seconds: u64,
    },
    /// A repository has no such branch or tag.
    #[error("{url} has no branch and no tag {reference:?}")]
    NoReference {
        /// The repository.
        url: String,
        /// What was asked for.
        reference: String,
    },
    /// A repository does not give a commit.
    #[error("{url} has no commit {commit}, or does not give it")]
    NoCommit {
        /// The repository.
        url: String,
        /// The commit.
        commit: String,
    },
    /// A bundle has no such thing, and nobody else is asked.
    #[error("{what} is not in {bundle}", bundle = bundle.display())]
    NotBundled {
        /// What was asked for.
        what: String,
        /// The bundle.
        bundle: PathBuf,
    },
    /// The objects of a commit are not what they should be.
    #[error("the pack of commit {commit} of {url} is damaged: {reason}")]
    BadPack {
        /// The repository.
        url: String,
        /// The commit.
        commit: String,
        /// What git says.
        reason: String,
    },
    /// A commit holds what cannot be put on a disk as it says.
    #[error("commit {commit} of {url} is not checked out: {path:?}: {reason}")]
    UnsafeTree {
        /// The repository.
        url: String,
        /// The commit.
        commit: String,
        /// What is wrong.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// A directory of a repository is not there.
    #[error("there is no directory {folder:?} in {url}")]
    NoFolder {
        /// The repository, with its reference.
        url: String,
        /// The directory.
        folder: String,
    },
    /// A submodule has an address that is none, or none that is fetched.
    #[error("the submodule {path:?} of {url} cannot be fetched")]
    Submodule {
        /// The repository that holds it.
        url: String,
        /// Where it is in there.
        path: String,
        /// Why not.
        #[source]
        source: AddressError,
    },
    /// Submodules hold submodules without end.
    #[error("the submodules of {url} are nested more than {limit} deep, or more than {most} in all")]
    TooManySubmodules {
        /// The repository.
        url: String,
        /// How deep.
        limit: usize,
        /// How many.
        most: usize,
    },
    /// A call on a file failed.
    #[error("cannot {call} {path}", path = path.display())]
    Io {
        /// What was attempted.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}
