//! Repositories that are kept between builds, each with the commits that were asked for.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::Trust;
use super::program::{Call, Remote, git};
use crate::address::{GitAddress, reference_is_safe};
use crate::fetch::lock::lock;
use crate::fetch::{FetchError, Fetcher, touch};
use crate::oci::Digest;

/// Packs of one repository that are left as they are.
const MOST_PACKS: usize = 50;

/// What an address names at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its id: 40 or 64 hexadecimal digits, lower case.
    pub id: String,
    /// What to ask for: `refs/heads/…`, `refs/tags/…`, `HEAD`; `None` where only the id is known.
    pub(super) reference: Option<String>,
    /// The id of the tag that names the commit.
    tag: Option<String>,
}

impl Commit {
    /// Returns the commit with the whole id `id`, the name by which it was found, and the id of the tag that has this name, as
    /// another fetcher has found them; `None` where one of them cannot be that.
    pub fn known(id: &str, reference: Option<&str>, tag: Option<&str>) -> Option<Self> {
        let whole = |id: &str| is_id(id) && !id.bytes().any(|b| b.is_ascii_uppercase());
        let name = |name: &str| name == "HEAD" || (name.starts_with("refs/") && reference_is_safe(name));
        let good = whole(id) && tag.is_none_or(whole) && reference.is_none_or(name);
        let owned = |text: Option<&str>| text.map(str::to_owned);
        good.then(|| Commit { id: id.to_owned(), reference: owned(reference), tag: owned(tag) })
    }

    /// Returns the name by which it was found: `refs/heads/…`, `refs/tags/…`, `HEAD`.
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    /// Returns the id of the tag that names it, where that is an object of its own.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the commit with this whole id.
    pub(super) fn of_id(id: &str) -> Self {
        Commit { id: id.to_ascii_lowercase(), reference: None, tag: None }
    }

    /// Checks that this is the commit that `address` demands, if it demands one.
    ///
    /// # Errors
    /// [`FetchError::WrongDigest`].
    pub fn check(&self, address: &GitAddress) -> Result<(), FetchError> {
        let ids = [Some(&self.id), self.tag.as_ref()];
        let is = |expected: &str| ids.into_iter().flatten().any(|id| id.starts_with(expected));
        let named = address.reference.as_ref().filter(|reference| is_id(reference)).map(|id| id.to_ascii_lowercase());
        match named.as_ref().into_iter().chain(&address.checksum).find(|expected| !is(expected)) {
            None => Ok(()),
            Some(expected) => Err(FetchError::WrongDigest {
                what: address.to_string(),
                expected: expected.clone(),
                found: self.id.clone(),
            }),
        }
    }
}

/// Returns the commit that `address` names, by asking its repository.
pub(in crate::fetch) fn resolve(fetcher: &Fetcher, address: &GitAddress, trust: Trust) -> Result<Commit, FetchError> {
    if let Some(id) = address.reference.as_ref().filter(|reference| is_id(reference)) {
        return Ok(Commit::of_id(id));
    }
    // A commit alone, of which the whole id is given.
    if let (None, Some(id)) = (&address.reference, address.checksum.as_ref().filter(|id| is_id(id))) {
        return Ok(Commit::of_id(id));
    }
    let names: Vec<String> = match &address.reference {
        None => vec!["HEAD".into()],
        Some(name) if name.starts_with("refs/") => vec![name.clone()],
        // As git checkout has it, a branch counts before a tag.
        Some(name) => vec![format!("refs/heads/{name}"), format!("refs/tags/{name}"), format!("refs/{name}")],
    };
    let mut args: Vec<OsString> = ["ls-remote", "--", &address.url].map(OsString::from).into();
    for name in &names {
        args.push(name.into());
        args.push(format!("{name}^{{}}").into());
    }
    let remote = Some(Remote { address, primary: &address.host, trust });
    let call = Call { remote, ..Call::new("list the branches of", args) };
    let output = git(fetcher, &call, &address.url)?;
    let output = String::from_utf8_lossy(&output);
    let lines: Vec<(&str, &str)> = output.lines().filter_map(|line| line.split_once('\t')).collect();
    let find =
        |name: &str| lines.iter().find(|(id, found)| *found == name && is_id(id)).map(|(id, _)| (*id).to_owned());
    for name in names {
        let Some(id) = find(&name) else { continue };
        // Of a tag with a message, the second line is the commit.
        return Ok(match find(&format!("{name}^{{}}")) {
            Some(commit) => Commit { id: commit, reference: Some(name), tag: Some(id) },
            None => Commit { id, reference: Some(name), tag: None },
        });
    }
    let reference = address.reference.clone().unwrap_or_else(|| "HEAD".into());
    Err(FetchError::NoReference { url: address.url.clone(), reference })
}

/// A repository on this disk that no other process writes to as long as this value lives.
pub(super) struct Mirror {
    pub path: PathBuf,
    _lock: File,
}

impl Mirror {
    /// Returns the repository for `address`, with `commit` in it.
    pub fn with(
        fetcher: &Fetcher,
        address: &GitAddress,
        commit: &Commit,
        primary: &str,
        trust: Trust,
    ) -> Result<Self, FetchError> {
        if !is_begun(&folder(fetcher).join(name_of(&address.url))) {
            fetcher.may_ask(|| address.to_string())?;
        }
        let mirror = Mirror::open(fetcher, &address.url)?;
        if mirror.has(fetcher, commit, address)? {
            return Ok(mirror);
        }
        let remote = Remote { address, primary, trust };
        match mirror.fetch(fetcher, address, commit, remote) {
            // What a power cut or a full disk has left.
            Err(FetchError::Git { .. } | FetchError::NoCommit { .. }) if !mirror.is_sound(fetcher, &address.url)? => {
                let path = mirror.path.clone();
                fs::remove_dir_all(&path).map_err(|source| FetchError::Io { call: "remove", path, source })?;
                mirror.begin(fetcher, &address.url)?;
                mirror.fetch(fetcher, address, commit, remote)?;
            }
            fetched => fetched?,
        }
        Ok(mirror)
    }

    /// Returns the repository for `url`, empty where there was none.
    pub fn open(fetcher: &Fetcher, url: &str) -> Result<Self, FetchError> {
        let folder = folder(fetcher);
        fs::create_dir_all(&folder).map_err(|source| FetchError::Io {
            call: "create",
            path: folder.clone(),
            source,
        })?;
        let name = name_of(url);
        let lock = lock(&folder.join(format!("{name}.lock")), &fetcher.agent)?;
        let mirror = Mirror { path: folder.join(name), _lock: lock };
        if !is_begun(&mirror.path) {
            mirror.begin(fetcher, url)?;
        }
        // Nobody else is here.
        remove_locks(&mirror.path);
        touch(&mirror.path);
        Ok(mirror)
    }

    /// Makes the repository, also where a part of it is there.
    fn begin(&self, fetcher: &Fetcher, url: &str) -> Result<(), FetchError> {
        let mut args: Vec<OsString> = ["init", "--quiet", "--bare", "--template=", "--"].map(OsString::from).into();
        args.push(self.path.clone().into());
        git(fetcher, &Call::new("prepare a copy of", args), url).map(drop)
    }

    /// Returns whether this is a repository, and has all that its references lead to.
    fn is_sound(&self, fetcher: &Fetcher, url: &str) -> Result<bool, FetchError> {
        succeeds(ask(fetcher, &self.path, url, &["rev-list", "--objects", "--all", "--quiet"]))
    }

    /// Returns whether the commit, and with it all of its files, is there.
    fn has(&self, fetcher: &Fetcher, commit: &Commit, address: &GitAddress) -> Result<bool, FetchError> {
        // A fetch that was interrupted may have left the commit without its files.
        let whole = ["rev-list", "--objects", "--no-walk", "--quiet", commit.id.as_str(), "--"];
        succeeds(ask(fetcher, &self.path, &address.url, &whole))
    }

    pub fn fetch(
        &self,
        fetcher: &Fetcher,
        address: &GitAddress,
        commit: &Commit,
        remote: Remote<'_>,
    ) -> Result<(), FetchError> {
        let place = |name: &str| format!("refs/coracle/{}", Digest::of(name.as_bytes()).hex());
        let by_name = commit.reference.as_ref().map(|name| vec![format!("+{name}:{}", place(name))]);
        let by_id = vec![format!("+{0}:{1}", commit.id, place(&commit.id))];
        // Servers that show no commit but the ends of branches still give all that leads to those.
        let all = vec!["+refs/heads/*:refs/coracle/heads/*".to_owned(), "+refs/tags/*:refs/coracle/tags/*".to_owned()];
        let mut first = None;
        for (specs, depth) in [(by_name, Depth::One), (Some(by_id), Depth::One), (Some(all), Depth::All)] {
            let Some(specs) = specs else { continue };
            match self.fetch_specs(fetcher, address, &specs, depth, remote) {
                Ok(()) if self.has(fetcher, commit, address)? => {
                    self.repack(fetcher, &address.url);
                    return Ok(());
                }
                Ok(()) => {}
                Err(error @ FetchError::Git { .. }) => first = first.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        let missing = || FetchError::NoCommit { url: address.url.clone(), commit: commit.id.clone() };
        Err(first.filter(|_| commit.reference.is_some()).unwrap_or_else(missing))
    }

    /// Makes one pack of many: each fetch leaves one. All that was fetched stays, also what no branch leads to any more.
    fn repack(&self, fetcher: &Fetcher, url: &str) {
        let entries = fs::read_dir(self.path.join("objects/pack")).into_iter().flatten().flatten();
        let packs = entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "pack")).count();
        if packs > MOST_PACKS {
            // It saves time later; where it cannot be done, all goes on as it is.
            let _ = ask(fetcher, &self.path, url, &["repack", "-a", "-d", "-k", "-q"]);
        }
    }

    fn fetch_specs(
        &self,
        fetcher: &Fetcher,
        address: &GitAddress,
        specs: &[String],
        depth: Depth,
        remote: Remote<'_>,
    ) -> Result<(), FetchError> {
        let mut args: Vec<OsString> =
            ["fetch", "--progress", "--no-tags", "--no-write-fetch-head", "--force"].map(OsString::from).into();
        match depth {
            Depth::One => args.push("--depth=1".into()),
            Depth::All if self.path.join("shallow").exists() => args.push("--unshallow".into()),
            Depth::All => {}
        }
        args.push("--".into());
        args.push(address.url.clone().into());
        args.extend(specs.iter().map(OsString::from));
        let call = Call { remote: Some(remote), ..Call::new("fetch", args) };
        git(fetcher, &call.within(&self.path), &address.url).map(drop)
    }
}

/// Returns the folder of all repositories.
fn folder(fetcher: &Fetcher) -> PathBuf {
    fetcher.options.cache.join("git")
}

fn name_of(url: &str) -> String {
    Digest::of(url.as_bytes()).hex().to_string()
}

/// Returns whether a repository was made at `path`: this is the last that git makes.
fn is_begun(path: &Path) -> bool {
    path.join("objects/info").is_dir()
}

/// Returns whether git could do what it was asked.
fn succeeds(asked: Result<Vec<u8>, FetchError>) -> Result<bool, FetchError> {
    match asked {
        Ok(_) => Ok(true),
        Err(FetchError::Git { .. }) => Ok(false),
        Err(other) => Err(other),
    }
}

/// Removes the locks of a git that was killed: no other one would ever go on.
fn remove_locks(mirror: &Path) {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let mut todo = vec![mirror.to_path_buf(), mirror.join("refs")];
    while let Some(dir) = todo.pop() {
        for entry in entries(&dir) {
            let path = entry.path();
            if is_dir(&entry) && dir != mirror {
                todo.push(path);
            } else if path.extension().is_some_and(|end| end == "lock") {
                let _ = fs::remove_file(path);
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Depth {
    One,
    All,
}

/// Returns whether `text` is the whole id of an object.
pub(super) fn is_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Returns what git says about an object in the repository at `path`, as text.
pub(super) fn ask(fetcher: &Fetcher, path: &Path, url: &str, args: &[&str]) -> Result<Vec<u8>, FetchError> {
    git(fetcher, &Call::new("read", args.iter().copied()).within(path), url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_fetcher_says_of_a_commit_is_checked() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let known = Commit::known(id, Some("refs/tags/v1"), Some(id)).expect("a commit");
        assert_eq!((known.reference(), known.tag()), (Some("refs/tags/v1"), Some(id)));
        assert!(Commit::known(id, Some("HEAD"), None).is_some() && Commit::known(id, None, None).is_some());
        for (id, reference, tag) in [
            ("0123", None, None),
            ("../../../../../../../../../../../../etc/x", None, None),
            ("0123456789ABCDEF0123456789abcdef01234567", None, None),
            (id, Some("main"), None),
            (id, Some("--upload-pack=x"), None),
            (id, Some("refs/heads/../x"), None),
            (id, Some("refs/heads/a:refs/heads/b"), None),
            (id, None, Some("v1")),
        ] {
            assert_eq!(Commit::known(id, reference, tag), None, "{id} {reference:?} {tag:?}");
        }
    }
}
