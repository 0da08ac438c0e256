//! Addresses of what lies elsewhere: files behind a URL, and trees in Git repositories.
//!
//! Text only: nothing is fetched here, and no name is looked up.

mod error;
mod git;

pub use error::AddressError;
pub use git::{GitAddress, Scheme, reference_is_safe};

/// What a text names that lies elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// A file: an `http://` or `https://` URL.
    File(String),
    /// A tree in a Git repository.
    Git(GitAddress),
}

/// Where an address is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// As a context, on the command line: `github.com/owner/repository` is an address there.
    AsContext,
    /// As a source of ADD.
    AsSource,
}

/// Returns what `text` names elsewhere; `None` where it is a path of here.
///
/// A URL of HTTP is a Git repository where its path ends in `.git`; `git://…`, `ssh://…` and `user@host:path` always are.
///
/// ```
/// use coracle::address::{Remote, Written, remote};
/// let git = remote("https://example.com/a/b.git#v1:docs", Written::AsSource).unwrap().unwrap();
/// assert!(matches!(git, Remote::Git(git) if git.subdir.as_deref() == Some("docs")));
/// assert!(matches!(remote("https://example.com/b.tar", Written::AsSource), Some(Ok(Remote::File(_)))));
/// assert!(remote("github.com/a/b", Written::AsSource).is_none());
/// ```
///
/// # Errors
/// [`AddressError`] in the option where it is an address, and a bad one.
pub fn remote(text: &str, written: Written) -> Option<Result<Remote, AddressError>> {
    if text.starts_with(['.', '/']) {
        return None;
    }
    let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    let is_http = lower.starts_with("http://") || lower.starts_with("https://");
    if is_http && !names_repository(text) {
        return Some(error::check(text).map(|()| Remote::File(text.to_owned())));
    }
    let text = match text.strip_prefix("github.com/") {
        Some(path) if written == Written::AsContext && !path.is_empty() => &format!("https://github.com/{path}"),
        _ if is_http || lower.starts_with("git://") || lower.starts_with("ssh://") || git::is_scp(text) => text,
        _ => return None,
    };
    Some(GitAddress::parse(text).map(Remote::Git))
}

/// Returns `url` as it may be shown: without the password, and without a user where that may be a token.
pub fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some(at) = rest[..end].rfind('@') else { return url.to_owned() };
    let user = match rest[..at].split_once(':') {
        Some((user, _)) => format!("{user}:***"),
        None if scheme.eq_ignore_ascii_case("ssh") => rest[..at].to_owned(),
        None => "***".to_owned(),
    };
    format!("{scheme}://{user}{}", &rest[at..])
}

/// Returns the host of `url`, with its port where one is written: as it is written, but for letters beyond ASCII. `None` where there is
/// none, or where who reads the text and who follows the rules of URLs find two different ones: a credential for the one would go to
/// the other.
///
/// ```
/// use coracle::address::host;
/// assert_eq!(host("https://ann:x@Example.com:443/a").as_deref(), Some("Example.com:443"));
/// assert_eq!(host(r"http://there.example\@example.com/a"), None);
/// ```
pub fn host(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let written = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (name, port) = match written.rsplit_once(':') {
        // The colons in an address of IPv6 are none before a port.
        Some((name, port)) if !port.contains(']') => (name, Some(port).filter(|port| !port.is_empty())),
        _ => (written, None),
    };
    let parsed = url::Url::parse(url).ok()?;
    let meant = parsed.host_str().filter(|host| !host.is_empty())?;
    let same_port = match port {
        Some(port) => port.parse().ok() == parsed.port_or_known_default(),
        None => parsed.port().is_none(),
    };
    let v6 = |host: &str| host.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok();
    let same_name = name.eq_ignore_ascii_case(meant) || (v6(name).is_some() && v6(name) == v6(meant));
    let name = match name.is_ascii() {
        true => Some(name).filter(|_| same_name)?,
        false => meant,
    };
    same_port.then(|| port.map_or_else(|| name.to_owned(), |port| format!("{name}:{port}")))
}

/// Returns the name that the file behind `url` gets in a directory: the last part of the path, decoded; `None` where there is
/// none.
pub fn file_name(url: &str) -> Option<Vec<u8>> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
    let (_, path) = path.split_once('/')?;
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let name: Vec<u8> = percent_decoded(name);
    let name = name.rsplit(|&b| b == b'/').next().unwrap_or_default().to_vec();
    let usable = !matches!(&name[..], b"" | b"." | b"..") && !name.contains(&0) && name.len() <= 255;
    usable.then_some(name)
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let hex = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while at < bytes.len() {
        let pair = (bytes.get(at + 1).copied().and_then(hex), bytes.get(at + 2).copied().and_then(hex));
        match (bytes[at], pair) {
            (b'%', (Some(high), Some(low))) => {
                decoded.push(high << 4 | low);
                at += 3;
            }
            (byte, _) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

/// Returns whether the path of the URL `text` ends in `.git`.
fn names_repository(text: &str) -> bool {
    let path = &text[..text.find(['?', '#']).unwrap_or(text.len())];
    let path = path.strip_suffix('/').unwrap_or(path);
    path.ends_with(".git") && path.matches('/').count() > 2
}

#[cfg(test)]
mod tests;
