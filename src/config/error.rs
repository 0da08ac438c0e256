use std::io;
use std::path::PathBuf;

/// A file about registries cannot be used, or forbids what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file cannot be read or written.
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
    /// A file that the user named is not there.
    #[error("there is no file {path}", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file is not what it should be. The text says nothing of what it holds.
    #[error("{path} cannot be used: {reason}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A credential helper did not do its work.
    #[error("the credential helper {program} failed for {registry}: {reason}")]
    Helper {
        /// The program.
        program: String,
        /// For which registry.
        registry: String,
        /// What it said.
        reason: String,
    },
    /// registries.conf forbids this.
    #[error("{name} is blocked by {path}", path = path.display())]
    Blocked {
        /// The image.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// registries.conf leaves open which image is meant.
    #[error("{name:?} may be any of {candidates}: {path} does not say which", path = path.display())]
    Ambiguous {
        /// The short name.
        name: String,
        /// What it may mean.
        candidates: String,
        /// The file.
        path: PathBuf,
    },
    /// A mirror from the command line is no place.
    #[error("the mirror {place:?} is none: images would be looked for as {made:?}")]
    BadMirror {
        /// As it was given.
        place: String,
        /// What it makes of a name.
        made: String,
    },
    /// A name, put together from registries.conf, is none.
    #[error("{path} turns {name} into something that is no name of an image: {made:?}", path = path.display())]
    BadLocation {
        /// The image.
        name: String,
        /// What it became.
        made: String,
        /// The file.
        path: PathBuf,
    },
    /// policy.json forbids this.
    #[error("{name} is rejected by {path}", path = path.display())]
    Rejected {
        /// The image.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// policy.json demands a signature.
    #[error("{path} demands {kind} of {name}, and coracle cannot check signatures yet", path = path.display())]
    Signature {
        /// The image.
        name: String,
        /// The type of the requirement.
        kind: String,
        /// The file.
        path: PathBuf,
    },
    /// There is nobody to log out.
    #[error("there are no credentials for {registry} in {path}", path = path.display())]
    NotLoggedIn {
        /// The registry.
        registry: String,
        /// The file.
        path: PathBuf,
    },
    /// There is no place for a file with credentials.
    #[error("no folder for credentials is known")]
    NoAuthFile,
}
