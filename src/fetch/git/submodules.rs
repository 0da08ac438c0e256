//! Submodules: repositories in a repository. git's own command for them would run what `.gitmodules` says; this does not.

use std::path::Path;

use super::checkout::{Trust, files_of};
use super::mirror::{Commit, Mirror, ask, is_id};
use crate::address::{GitAddress, Scheme};
use crate::fetch::{FetchError, Fetcher};

/// How deep submodules may be nested.
const DEPTH: usize = 10;

/// How many there may be in all.
const MOST: usize = 500;

/// A submodule: where it is in the work tree, from its root, and what it is.
#[derive(Debug)]
pub(super) struct Module {
    path: String,
    pub address: GitAddress,
    pub commit: Commit,
    depth: usize,
}

/// Returns the submodules of `commit` that are in the directory which `address` names.
pub(super) fn of(
    fetcher: &Fetcher,
    mirror: &Mirror,
    address: &GitAddress,
    commit: &Commit,
) -> Result<Vec<Module>, FetchError> {
    let object = format!("{}:.gitmodules", commit.id);
    // Most repositories have none.
    if ask(fetcher, &mirror.path, &address.url, &["cat-file", "-e", object.as_str()]).is_err() {
        return Ok(Vec::new());
    }
    let blob = format!("--blob={object}");
    let listed = ["config", blob.as_str(), "-z", "--get-regexp", r"^submodule\..*\.(path|url)$"];
    let Ok(listed) = ask(fetcher, &mirror.path, &address.url, &listed) else { return Ok(Vec::new()) };
    let listed = String::from_utf8_lossy(&listed);
    let settings: Vec<(&str, &str)> = listed.split('\0').filter_map(|entry| entry.split_once('\n')).collect();
    let url_of = |path: &str| {
        let (key, _) = settings.iter().find(|(key, value)| key.ends_with(".path") && *value == path)?;
        let key = format!("{}.url", key.strip_suffix(".path")?);
        settings.iter().find(|(name, _)| *name == key).map(|(_, url)| *url)
    };
    let mut args = vec!["ls-tree", "-r", "-z", commit.id.as_str(), "--"];
    args.extend(address.subdir.as_deref());
    let tree = ask(fetcher, &mirror.path, &address.url, &args)?;
    let tree = String::from_utf8_lossy(&tree);
    let mut modules = Vec::new();
    for (about, path) in tree.split('\0').filter_map(|line| line.split_once('\t')) {
        let mut fields = about.split(' ');
        let (Some("160000"), Some(_), Some(id)) = (fields.next(), fields.next(), fields.next()) else { continue };
        // A link to a commit that .gitmodules does not explain stays an empty directory.
        let Some(url) = url_of(path).filter(|_| is_id(id)) else { continue };
        let address = GitAddress::parse(&absolute(url, address)).map_err(|source| FetchError::Submodule {
            url: address.url.clone(),
            path: path.to_owned(),
            source,
        })?;
        let commit = Commit::of_id(id);
        modules.push(Module { path: path.to_owned(), address, commit, depth: 1 });
    }
    Ok(modules)
}

/// Puts the files of `modules`, and of those in them, into the work tree `files`.
pub(super) fn check_out(
    fetcher: &Fetcher,
    address: &GitAddress,
    modules: Vec<Module>,
    trust: Trust,
    files: &Path,
    index: &Path,
) -> Result<(), FetchError> {
    each(fetcher, address, modules, trust, &mut |mirror, module| {
        // git made an empty directory for it, and every directory on the way.
        files_of(fetcher, mirror, &module.address, &module.commit, (&files.join(&module.path), index))
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
        act(&mirror, &module)?;
        for inner in of(fetcher, &mirror, &module.address, &module.commit)? {
            let path = format!("{}/{}", module.path, inner.path);
            todo.push(Module { path, depth: module.depth + 1, ..inner });
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
