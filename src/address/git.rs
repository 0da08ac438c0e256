use std::fmt;

use super::AddressError;
use super::error::check;

/// How a Git repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `https://`
    Https,
    /// `http://`
    Http,
    /// `ssh://` and `user@host:path`
    Ssh,
    /// `git://`
    Git,
}

/// A tree in a Git repository, as one text names it: `https://host/repository.git#reference:directory`, or with parameters,
/// `https://host/repository.git?ref=…&subdir=…`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct GitAddress {
    /// What git is to be given: without parameters, fragment and password.
    pub url: String,
    /// How it is reached.
    pub scheme: Scheme,
    /// The host, with a port where one is written.
    pub host: String,
    /// User and password of an `http` or `https` URL, as they were written there (percent-encoded).
    pub credentials: Option<(String, String)>,
    /// A branch, a tag or a commit; the default branch where there is none. [`reference_is_safe`] holds.
    pub reference: Option<String>,
    /// The directory that is taken, cleaned; all of it where there is none.
    pub subdir: Option<String>,
    /// The commit that it has to be: 7 to 64 hexadecimal digits, lower case.
    pub checksum: Option<String>,
    /// Whether `.git` is kept; where the address does not say, an instruction does.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched too.
    pub submodules: bool,
}

impl GitAddress {
    /// Returns what `text` names.
    ///
    /// # Errors
    /// [`AddressError`] for what is no address, or one that could be taken for an option.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (text, fragment) = text.split_once('#').map_or((text, None), |(text, rest)| (text, Some(rest)));
        let (url, query) = text.split_once('?').map_or((text, None), |(text, rest)| (text, Some(rest)));
        let mut address = if is_scp(url) { GitAddress::of_scp(url)? } else { GitAddress::of_url(url)? };
        if let Some(query) = query {
            address.parameters(query)?;
        }
        if let Some(fragment) = fragment {
            let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
            if !reference.is_empty() {
                once("the reference", &mut address.reference, reference)?;
            }
            if !subdir.is_empty() {
                once("the directory", &mut address.subdir, subdir)?;
            }
        }
        if let Some(reference) = address.reference.as_ref().filter(|reference| !reference_is_safe(reference)) {
            return Err(AddressError::BadReference { reference: reference.clone() });
        }
        address.subdir = address.subdir.as_deref().map(clean).filter(|subdir| !subdir.is_empty());
        address.checksum = address.checksum.as_deref().map(commit).transpose()?;
        Ok(address)
    }

    /// Returns this address with `checksum`, the text of ADD's `--checksum`, as the commit that it has to be.
    ///
    /// # Errors
    /// [`AddressError`] where that is no commit, or the address names another.
    pub fn with_checksum(mut self, checksum: &str) -> Result<Self, AddressError> {
        let checksum = commit(checksum)?;
        once("the commit", &mut self.checksum, &checksum)?;
        Ok(self)
    }

    /// Returns whether `.git` is kept; `flag` is what an instruction says of it.
    ///
    /// # Errors
    /// [`AddressError::GitDir`] where the address says something else.
    pub fn keeps_git_dir(&self, flag: Option<bool>) -> Result<bool, AddressError> {
        match (self.keep_git_dir, flag) {
            (Some(url), Some(flag)) if url != flag => Err(AddressError::GitDir { url, flag }),
            (url, flag) => Ok(url.or(flag).unwrap_or(false)),
        }
    }

    /// Returns the name of the repository: the last part of its path, without `.git`.
    pub fn name(&self) -> &str {
        let name = self.url.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
        name.strip_suffix(".git").unwrap_or(name)
    }

    fn of_url(url: &str) -> Result<Self, AddressError> {
        check(url)?;
        let bad = |reason: &str| AddressError::NoUrl { url: super::shown(url), reason: reason.to_owned() };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("it has no scheme"))?;
        let scheme = match &scheme.to_ascii_lowercase()[..] {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            "ssh" => Scheme::Ssh,
            "git" => Scheme::Git,
            _ => return Err(bad("git is reached by https, http, ssh and git")),
        };
        let (authority, path) = rest.split_once('/').ok_or_else(|| bad("it names no repository"))?;
        if path.is_empty() {
            return Err(bad("it names no repository"));
        }
        refuse_option(url, "path", path)?;
        let host = super::host(url).ok_or_else(|| bad("it names no host"))?;
        let is_http = matches!(scheme, Scheme::Https | Scheme::Http);
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        let credentials = user.filter(|_| is_http).map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            (name.to_owned(), password.to_owned())
        });
        let clear = match scheme {
            Scheme::Https => format!("https://{host}/{path}"),
            Scheme::Http => format!("http://{host}/{path}"),
            Scheme::Git => format!("git://{host}/{path}"),
            Scheme::Ssh => {
                let user = user.map(|user| format!("{}@", user.split(':').next().unwrap_or_default()));
                format!("ssh://{}{host}/{path}", user.unwrap_or_default())
            }
        };
        Ok(GitAddress { credentials, ..GitAddress::bare(clear, scheme, host) })
    }

    fn of_scp(text: &str) -> Result<Self, AddressError> {
        let bad = |reason: &str| AddressError::NoUrl { url: text.to_owned(), reason: reason.to_owned() };
        let (user, rest) = text.split_once('@').ok_or_else(|| bad("it names no user"))?;
        let (host, path) = rest.split_once(':').ok_or_else(|| bad("it names no repository"))?;
        for (part, value) in [("user", user), ("host", host), ("path", path)] {
            refuse_option(text, part, value)?;
        }
        if path.is_empty() || text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(bad("it names no repository"));
        }
        Ok(GitAddress::bare(text.to_owned(), Scheme::Ssh, host.to_owned()))
    }

    fn bare(url: String, scheme: Scheme, host: String) -> Self {
        GitAddress {
            url,
            scheme,
            host,
            credentials: None,
            reference: None,
            subdir: None,
            checksum: None,
            keep_git_dir: None,
            submodules: true,
        }
    }

    fn parameters(&mut self, query: &str) -> Result<(), AddressError> {
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match &*name {
                "ref" => once("the reference", &mut self.reference, &value)?,
                "tag" => once("the reference", &mut self.reference, &format!("refs/tags/{value}"))?,
                "branch" => once("the reference", &mut self.reference, &format!("refs/heads/{value}"))?,
                "commit" | "checksum" => once("the commit", &mut self.checksum, &value)?,
                "subdir" => once("the directory", &mut self.subdir, &value)?,
                "submodules" => self.submodules = truth(&name, &value)?,
                "keep-git-dir" => self.keep_git_dir = Some(truth(&name, &value)?),
                _ => return Err(AddressError::UnknownParameter { name: name.into_owned() }),
            }
        }
        Ok(())
    }
}

impl fmt::Display for GitAddress {
    /// Writes the URL with its reference and directory; never a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)?;
        match (&self.reference, &self.subdir) {
            (None, None) => Ok(()),
            (reference, None) => write!(f, "#{}", reference.as_deref().unwrap_or_default()),
            (reference, Some(subdir)) => write!(f, "#{}:{subdir}", reference.as_deref().unwrap_or_default()),
        }
    }
}

impl fmt::Debug for GitAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = self.credentials.as_ref().map(|_| "***");
        f.debug_struct("GitAddress")
            .field("url", &self.url)
            .field("credentials", &hidden)
            .field("reference", &self.reference)
            .field("subdir", &self.subdir)
            .field("checksum", &self.checksum)
            .field("keep_git_dir", &self.keep_git_dir)
            .field("submodules", &self.submodules)
            .finish_non_exhaustive()
    }
}

/// Returns whether `text` is `user@host:path`, as scp(1) has it.
pub(super) fn is_scp(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, path)) = rest.split_once(':') else { return false };
    let word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    !user.is_empty() && !host.is_empty() && word(user) && word(host) && !path.starts_with("//")
}

/// Returns whether git takes `reference` for the name of a branch, a tag or a commit, and for nothing else: no option, no
/// refspec, no expression over revisions.
pub fn reference_is_safe(reference: &str) -> bool {
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    !reference.starts_with('-')
        && !reference.ends_with('.')
        && !reference.contains("..")
        && !reference.contains("@{")
        && reference != "@"
        && reference.len() <= 1024
        && !reference.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c))
        && reference.split('/').all(part)
}

fn refuse_option(url: &str, part: &'static str, value: &str) -> Result<(), AddressError> {
    if value.starts_with('-') {
        return Err(AddressError::LooksLikeOption { url: super::shown(url), part, value: value.to_owned() });
    }
    Ok(())
}

fn once(what: &'static str, slot: &mut Option<String>, value: &str) -> Result<(), AddressError> {
    match slot {
        Some(first) if first != value => {
            Err(AddressError::Twice { what, first: first.clone(), second: value.to_owned() })
        }
        _ => {
            *slot = Some(value.to_owned());
            Ok(())
        }
    }
}

fn truth(name: &str, value: &str) -> Result<bool, AddressError> {
    match value {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(AddressError::NotBool { name: name.to_owned(), value: value.to_owned() }),
    }
}

fn commit(text: &str) -> Result<String, AddressError> {
    let good = (7..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    if good { Ok(text.to_ascii_lowercase()) } else { Err(AddressError::BadCommit { checksum: text.to_owned() }) }
}

/// Returns `path` from the root of the repository, cleaned by its text: `..` stays at the root.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
