/// A text begins as an address does, and is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It is no URL.
    #[error("{url:?} is no URL: {reason}")]
    NoUrl {
        /// As written, without a password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A part of it begins with `-`: a program that is given it would take it for an option.
    #[error("{url:?}: the {part} {value:?} begins with `-`")]
    LooksLikeOption {
        /// As written, without a password.
        url: String,
        /// Which part.
        part: &'static str,
        /// The part.
        value: String,
    },
    /// A reference is none that Git allows.
    #[error("{reference:?} is no name of a branch, a tag or a commit")]
    BadReference {
        /// As written.
        reference: String,
    },
    /// A commit is no hexadecimal number.
    #[error("{checksum:?} is no commit: 7 to 64 hexadecimal digits")]
    BadCommit {
        /// As written.
        checksum: String,
    },
    /// A parameter of a Git URL that there is none of.
    #[error(
        "the URL of a Git repository has no parameter {name:?}: there are ref, tag, branch, commit, checksum, subdir, submodules and keep-git-dir"
    )]
    UnknownParameter {
        /// Its name.
        name: String,
    },
    /// A parameter of a Git URL that takes true or false.
    #[error("the parameter {name:?} is {value:?}: it is true or false")]
    NotBool {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// An instruction and its Git URL say two different things of `.git`.
    #[error("the URL says keep-git-dir={url}, and the instruction --keep-git-dir={flag}")]
    GitDir {
        /// What the URL says.
        url: bool,
        /// What the flag says.
        flag: bool,
    },
    /// Two parts of a Git URL name two different things.
    #[error("the URL says twice what {what} is: {first:?} and {second:?}")]
    Twice {
        /// What.
        what: &'static str,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
}

/// Checks that `url` is one, with a host.
pub(super) fn check(text: &str) -> Result<(), AddressError> {
    let bad = |reason: String| AddressError::NoUrl { url: super::shown(text), reason };
    if let Some(c) = text.chars().find(|c| c.is_control() || *c == ' ') {
        return Err(bad(format!("it has the character {c:?}")));
    }
    let parsed = url::Url::parse(text).map_err(|error| bad(error.to_string()))?;
    if parsed.host_str().is_none_or(str::is_empty) {
        return Err(bad("it names no host".into()));
    }
    let host =
        super::host(text).ok_or_else(|| bad("its host is written in a way that is read as another one".into()))?;
    let parts = [("host", host.as_str()), ("user", parsed.username())];
    match parts.iter().find(|(_, value)| value.starts_with('-')) {
        Some(&(part, value)) => {
            Err(AddressError::LooksLikeOption { url: super::shown(text), part, value: value.to_owned() })
        }
        None => Ok(()),
    }
}
