//! Submodules: repositories in a repository. git's own command for them would run what `.gitmodules` says; this does not.

use std::fs;
use std::path::Path;

use super::checkout::{Trust, files_of};
use super::listing::{self, Link};
use super::mirror::{Commit, Mirror, ask};
use crate::address::{GitAddress, Scheme};
use crate::fetch::{FetchError, Fetcher};
use crate::tree::TreePath;

/// How deep submodules may be nested.
const DEPTH: usize = 10;

/// How many there may be in all.
const MOST: usize = 500;

/// A submodule: where it is in the work tree, from its root, and what it is.
#[derive(Debug)]
pub(super) struct Module {
    path: TreePath,
    pub address: GitAddress,
    pub commit: Commit,
    depth: usize,
}

/// Returns the submodules of `commit`, of which `links` are known.
pub(super) fn of(
    fetcher: &Fetcher,
    mirror: &Mirror,
    address: &GitAddress,
    commit: &Commit,
    links: Vec<Link>,
) -> Result<Vec<Module>, FetchError> {
    if links.is_empty() {
        return Ok(Vec::new());
    }
    let object = format!("{}:.gitmodules", commit.id);
    if ask(fetcher, &mirror.path, &address.url, &["cat-file", "-e", object.as_str()]).is_err() {
        return Ok(Vec::new());
    }
    let blob = format!("--blob={object}");
    let listed = ["config", blob.as_str(), "-z", "--get-regexp", r"^submodule\..*\.(path|url)$"];
    let Ok(listed) = ask(fetcher, &mirror.path, &address.url, &listed) else { return Ok(Vec::new()) };
    let settings: Vec<(&[u8], &[u8])> = listed.split(|&b| b == 0).filter_map(setting).collect();
    let url_of = |path: &TreePath| {
        let (key, _) = settings.iter().find(|(key, value)| key.ends_with(b".path") && *value == path.as_bytes())?;
        let key = [key.strip_suffix(b".path")?, b".url"].concat();
        settings.iter().find(|(name, _)| *name == key).map(|(_, url)| String::from_utf8_lossy(url))
    };
    let mut modules = Vec::new();
    for Link { path, id } in links {
        // A link to a commit that .gitmodules does not explain stays an empty directory.
        let Some(url) = url_of(&path) else { continue };
        let address = GitAddress::parse(&absolute(&url, address)).map_err(|source| FetchError::Submodule {
            url: address.url.clone(),
            path: path.to_string(),
            source,
        })?;
        modules.push(Module { path, address, commit: Commit::of_id(&id), depth: 1 });
    }
    Ok(modules)
}

/// Takes a line of git's configuration apart: the key, a line break, the value.
fn setting(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = entry.iter().position(|&b| b == b'\n')?;
    Some((&entry[..end], &entry[end + 1..]))
}

/// Puts the files of `modules`, and of those in them, into the work tree `files`.
pub(super) fn check_out(
    fetcher: &Fetcher,
    address: &GitAddress,
    modules: Vec<Module>,
    trust: Trust,
    files: &Path,
) -> Result<(), FetchError> {
    // git never writes to a folder in which there are already files that somebody else chose.
    let apart = files.with_extension("module");
    each(fetcher, address, modules, trust, &mut |mirror, module| {
        fs::create_dir(&apart).map_err(|source| FetchError::Io { call: "create", path: apart.clone(), source })?;
        files_of(fetcher, mirror, &module.address, &module.commit, &apart)?;
        listing::place(&apart, files, &module.path)
    })
}

/// Calls `act` for each of `modules`, and of those in them.
pub(super) fn each(
    fetcher: &Fetcher,
    address: &GitAddress,
    modules: Vec<Module>,
    trust: Trust,
    act: &mut dyn FnMut(&Mirror, &Module) -> Result<(), FetchError>,
) -> Result<(), FetchError> {
    let (mut todo, mut count) = (modules, 0);
    while let Some(module) = todo.pop() {
        count += 1;
        if module.depth > DEPTH || count > MOST {
            return Err(FetchError::TooManySubmodules { url: address.url.clone(), limit: DEPTH, most: MOST });
        }
        let mirror = Mirror::with(fetcher, &module.address, &module.commit, &address.host, trust)?;
        let links = listing::links(fetcher, &mirror, &module.address, &module.commit)?;
        act(&mirror, &module)?;
        for inner in of(fetcher, &mirror, &module.address, &module.commit, links)? {
            todo.push(Module { path: module.path.join(&inner.path), depth: module.depth + 1, ..inner });
        }
    }
    Ok(())
}

/// Returns the URL of a submodule: one that begins with `./` or `../` goes on from that of the repository.
fn absolute(url: &str, parent: &GitAddress) -> String {
    if !url.starts_with("./") && !url.starts_with("../") {
        return url.to_owned();
    }
    let mut base = parent.url.trim_end_matches('/').to_owned();
    let mut rest = url;
    // What must stay: the scheme and the host.
    let least = match parent.url.split_once("://") {
        Some((scheme, after)) => scheme.len() + 3 + after.find('/').unwrap_or(after.len()),
        None => parent.url.find(':').unwrap_or(0),
    };
    loop {
        if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("../") {
            rest = after;
            let end = base.rfind(['/', ':']).filter(|end| *end > least);
            base.truncate(end.unwrap_or(least));
        } else {
            break;
        }
    }
    let separator =
        if base.len() == least && parent.scheme == Scheme::Ssh && !parent.url.contains("://") { ":" } else { "/" };
    format!("{base}{separator}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_url_goes_on_from_that_of_the_repository() {
        let of = |parent: &str, url: &str| absolute(url, &GitAddress::parse(parent).expect("an address"));
        assert_eq!(of("https://h/a/b.git", "../c.git"), "https://h/a/c.git");
        assert_eq!(of("https://h/a/b.git", "./c.git"), "https://h/a/b.git/c.git");
        assert_eq!(of("https://h/a/b.git/", "../../x/c.git"), "https://h/x/c.git");
        assert_eq!(of("https://h/a/b.git", "../../../../c.git"), "https://h/c.git");
        assert_eq!(of("git@h:a/b.git", "../c.git"), "git@h:a/c.git");
        assert_eq!(of("git@h:b.git", "../c.git"), "git@h:c.git");
        assert_eq!(of("https://h/a/b.git", "https://i/c.git"), "https://i/c.git");
    }
}
