use std::fmt;
use std::str::FromStr;

use super::{Digest, DigestError};

/// The registry of a name that names none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The folder of Docker Hub's own images, which short names leave out.
const OFFICIAL: &str = "library/";
/// The tag of a name with neither tag nor digest.
const DEFAULT_TAG: &str = "latest";
/// The longest name (registry and repository), as in the registries.
const MAX_NAME: usize = 255;
/// The longest tag (distribution-spec, "Pulling manifests").
const MAX_TAG: usize = 128;

/// The name of an image in a registry, in full: registry, repository, and a tag or a digest or both.
///
/// Short names mean what they mean to docker:
///
/// ```
/// use coracle::oci::Reference;
/// let name = Reference::parse("demoweb:2")?;
/// assert_eq!(name.to_string(), "docker.io/library/demoweb:2");
/// assert_eq!(name.familiar(), "demoweb:2");
/// # Ok::<(), coracle::oci::ReferenceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text is not the name of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// There is no repository name.
    #[error("{text:?} has no repository name")]
    Empty {
        /// The text.
        text: String,
    },
    /// The repository has upper-case letters.
    #[error("repository name must be lower case: {repository:?}")]
    UpperCase {
        /// The repository.
        repository: String,
    },
    /// The repository has a character or a separator at a place where none may be.
    #[error(
        "repository name {repository:?} is not valid: its parts are a-z and 0-9, with single '.' or '_', or '__', or any '-', between them"
    )]
    Repository {
        /// The repository.
        repository: String,
    },
    /// The registry is not a host name or address, with or without a port.
    #[error("{registry:?} is not a registry host")]
    Registry {
        /// The registry.
        registry: String,
    },
    /// Registry and repository together are too long.
    #[error("image name of {length} characters is longer than {MAX_NAME}")]
    Long {
        /// Its length.
        length: usize,
    },
    /// The name is 64 hexadecimal digits, which would be taken for an image id.
    #[error("repository name {repository:?} looks like an image id")]
    ImageId {
        /// The repository.
        repository: String,
    },
    /// The tag is empty, too long, or has a bad character.
    #[error("tag {tag:?} is not valid: 1 to {MAX_TAG} of A-Z a-z 0-9 _ . -, and neither . nor - first")]
    Tag {
        /// The tag, cut where it is long.
        tag: String,
    },
    /// The digest is not one.
    #[error("image name has a bad digest")]
    Digest(#[from] DigestError),
}

impl Reference {
    /// Returns the reference that `text` means: `[registry/]repository[:tag][@digest]`.
    ///
    /// The first part is a registry where it has a `.`, a `:` or an upper-case letter or is `localhost`; without a
    /// registry it is docker.io, and there a single part is in `library/`. The tag is `latest` where neither a tag
    /// nor a digest is given.
    ///
    /// # Errors
    /// [`ReferenceError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (registry, rest) = split_registry(rest);
        // A colon behind the last slash belongs to the tag: the registry and its port are cut off already.
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (rest, None),
        };
        if repository.is_empty() {
            return Err(ReferenceError::Empty { text: cut(text) });
        }
        check_repository(repository)?;
        let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            if repository.len() == 64 && repository.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(ReferenceError::ImageId { repository: repository.into() });
            }
            format!("{OFFICIAL}{repository}")
        } else {
            repository.to_owned()
        };
        if !is_host(registry) {
            return Err(ReferenceError::Registry { registry: cut(registry) });
        }
        let length = registry.len() + 1 + repository.len();
        if length > MAX_NAME {
            return Err(ReferenceError::Long { length });
        }
        let tag = match (tag, digest) {
            (Some(tag), _) if !is_tag(tag) => return Err(ReferenceError::Tag { tag: cut(tag) }),
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
    }

    /// Returns the registry's host, with its port where it has one: `docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the repository in that registry: `library/demoweb`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag. `None` only where there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns the reference with this tag and digest at another place: `name` is a registry, whatever it looks like, and a
    /// repository in it.
    ///
    /// # Errors
    /// [`ReferenceError`] where it is not.
    pub fn moved_to(&self, name: &str) -> Result<Self, ReferenceError> {
        let (registry, repository) = name.split_once('/').unwrap_or((name, ""));
        if repository.is_empty() {
            return Err(ReferenceError::Empty { text: cut(name) });
        }
        check_repository(repository)?;
        if !is_host(registry) {
            return Err(ReferenceError::Registry { registry: cut(registry) });
        }
        if name.len() > MAX_NAME {
            return Err(ReferenceError::Long { length: name.len() });
        }
        Ok(Reference { registry: registry.to_owned(), repository: repository.to_owned(), ..self.clone() })
    }

    /// Returns registry and repository, without tag and digest: `docker.io/library/demoweb`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Returns the short form that people use: without docker.io and its `library/`. Parsed, it is this reference again.
    pub fn familiar(&self) -> String {
        let mut name = self.name();
        if self.registry == DEFAULT_REGISTRY {
            let short = match self.repository.strip_prefix(OFFICIAL) {
                Some(short) if !short.contains('/') => short,
                _ => &self.repository,
            };
            // "docker.io/example.com/x" must keep its registry.
            if split_registry(short) == (DEFAULT_REGISTRY, short) {
                name = short.to_owned();
            }
        }
        self.append_to(name)
    }

    fn append_to(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.append_to(self.name()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Reference::parse(text)
    }
}

/// Returns the registry and the rest (distribution/reference, `splitDockerDomain`).
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", rest)) => (DEFAULT_REGISTRY, rest),
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn check_repository(repository: &str) -> Result<(), ReferenceError> {
    if repository.chars().any(char::is_uppercase) {
        return Err(ReferenceError::UpperCase { repository: cut(repository) });
    }
    if repository.split('/').all(is_component) {
        Ok(())
    } else {
        Err(ReferenceError::Repository { repository: cut(repository) })
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = bytes.first().copied().is_some_and(word) && bytes.last().copied().is_some_and(word);
    ends && bytes.split(|&b| word(b)).all(|separator| match separator {
        b"" | b"." | b"_" | b"__" => true,
        dashes => dashes.iter().all(|&b| b == b'-'),
    })
}

/// A host name, an IPv4 address or an IPv6 address in brackets, each with or without a port.
fn is_host(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => (None, port),
        Some(_) => return false,
        None => match registry.find(':') {
            Some(colon) => (Some(&registry[..colon]), &registry[colon..]),
            None => (Some(registry), ""),
        },
    };
    let label = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let port_fine = match port.strip_prefix(':') {
        Some(digits) => !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()),
        None => port.is_empty(),
    };
    host.is_none_or(|host| host.split('.').all(label)) && port_fine
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// Long texts are cut in errors.
fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_names_mean_what_they_mean_to_docker() {
        let d = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (text, full, familiar) in [
            ("demoweb:2", "docker.io/library/demoweb:2", "demoweb:2"),
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("me/app", "docker.io/me/app:latest", "me/app:latest"),
            ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("localhost/app:1", "localhost/app:1", "localhost/app:1"),
            ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
            ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
            ("quay.io/a/b/c:v1.0", "quay.io/a/b/c:v1.0", "quay.io/a/b/c:v1.0"),
            ("mcr.microsoft.com/dotnet/core/sdk:3.0-alpine", "mcr.microsoft.com/dotnet/core/sdk:3.0-alpine", ""),
            ("REGISTRY/app", "REGISTRY/app:latest", ""),
            ("[::1]:5000/app", "[::1]:5000/app:latest", ""),
            ("a__b/c--d/e.f_g", "docker.io/a__b/c--d/e.f_g:latest", "a__b/c--d/e.f_g:latest"),
            (&format!("busybox@{d}"), &format!("docker.io/library/busybox@{d}"), &format!("busybox@{d}")),
            (&format!("busybox:1@{d}"), &format!("docker.io/library/busybox:1@{d}"), &format!("busybox:1@{d}")),
            ("docker.io/example.com/x", "docker.io/example.com/x:latest", "docker.io/example.com/x:latest"),
            ("docker.io/index.docker.io/x", "docker.io/index.docker.io/x:latest", ""),
        ] {
            let name = Reference::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(name.to_string(), full, "{text}");
            assert_eq!(name.familiar(), if familiar.is_empty() { full } else { familiar }, "{text}");
        }
    }

    #[test]
    fn a_bad_name_is_told_what_is_wrong_with_it() {
        let long_tag = format!("a:{}", "t".repeat(129));
        let long_name = format!("quay.io/{}", "a".repeat(250));
        for (text, says) in [
            ("", "has no repository name"),
            (":tag", "has no repository name"),
            ("quay.io/", "has no repository name"),
            ("Demo:2", "repository name must be lower case"),
            ("quay.io/Demo", "repository name must be lower case"),
            ("a//b", "is not valid"),
            ("a/-b", "is not valid"),
            ("a/b_", "is not valid"),
            ("a..b", "is not valid"),
            ("a___b", "is not valid"),
            ("../a", "is not a registry host"),
            ("-x.io/a", "is not a registry host"),
            ("x.io:port/a", "is not a registry host"),
            ("a b", "is not valid"),
            ("a\u{1b}[31m", "is not valid"),
            ("a:", "tag \"\" is not valid"),
            ("a:-1", "tag \"-1\" is not valid"),
            ("a:b:c", "is not valid"),
            (&long_tag, "is not valid: 1 to 128"),
            (&long_name, "is longer than 255"),
            ("a@sha256:1", "bad digest"),
            ("a@md5:d41d8cd98f00b204e9800998ecf8427e", "bad digest"),
            ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "looks like an image id"),
        ] {
            let error = Reference::parse(text).expect_err(text).to_string();
            assert!(error.contains(says), "{text:?}: {error}");
            assert!(!error.contains('\u{1b}'), "{error:?}");
        }
    }

    #[test]
    fn the_parts_are_at_hand() {
        let name = Reference::parse("localhost:5000/team/app:1.2").unwrap();
        assert_eq!((name.registry(), name.repository(), name.tag()), ("localhost:5000", "team/app", Some("1.2")));
        assert_eq!(name.name(), "localhost:5000/team/app");
        assert!(name.digest().is_none());
    }

    proptest! {
        #[test]
        fn display_and_familiar_parse_to_the_same_reference(
            registry in proptest::option::of("[a-z0-9]{1,5}(\\.[a-z]{2,4}){1,2}(:[0-9]{1,5})?"),
            repository in "[a-z0-9]{1,8}([._]|__|-{1,3})?[a-z0-9]{1,8}(/[a-z0-9]{1,5}(\\.[a-z]{1,3})?){0,3}",
            tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
            digest in proptest::option::of(any::<[u8; 32]>()),
        ) {
            let mut text = registry.map(|r| r + "/").unwrap_or_default() + &repository;
            tag.iter().for_each(|tag| text += &format!(":{tag}"));
            digest.iter().for_each(|raw| text += &format!("@{}", Digest::from_raw(*raw)));
            if let Ok(name) = Reference::parse(&text) {
                prop_assert_eq!(&Reference::parse(&name.to_string()).unwrap(), &name);
                prop_assert_eq!(&Reference::parse(&name.familiar()).unwrap(), &name);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}") {
            let _ = Reference::parse(&text);
        }
    }
}
