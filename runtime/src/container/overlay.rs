//! Layers upon each other, as the kernel stacks them: overlayfs.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno as E;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, mount, move_mount,
};

use super::detached::{failed, shown};
use crate::error::RuntimeError;

/// What is asked for besides the layers: names of one file of a lower layer are copied up each for itself, whatever the kernel was
/// built for.
const OPTIONS: &str = "userxattr,index=off";
/// A crash loses the whole step anyway, so nothing need be synced (Linux 5.10).
const VOLATILE: &str = "volatile";

/// Returns layers upon each other as a mount that is nowhere yet. Each is named in a call of its own (Linux 6.8): as many as there are,
/// with any character in their names. Changes the working directory.
pub(super) fn loose(lower: &[PathBuf], upper: &Path, work: &Path) -> Result<OwnedFd, RuntimeError> {
    keeps_attributes(upper).map_err(|errno| refused(lower, upper, OPTIONS, errno))?;
    // By short names: the kernel walks each of them several times.
    let parent = common_parent(lower, upper, work);
    rustix::process::chdir(parent).map_err(failed(format!("chdir({})", shown(parent))))?;
    let short = |dir: &Path| dir.strip_prefix(parent).map_or_else(|_| dir.to_path_buf(), Path::to_path_buf);
    let names: Vec<PathBuf> = lower.iter().map(|dir| short(dir)).collect();
    stacked(&names, &short(upper), &short(work))
        .map_err(|errno| refused(lower, upper, &format!("{OPTIONS},{VOLATILE}"), errno))
}

/// Returns the longest path that all of them begin with and none of them is.
fn common_parent<'a>(lower: &[PathBuf], upper: &'a Path, work: &Path) -> &'a Path {
    let parents = upper.ancestors().skip(1);
    let is_above = |parent: &Path, dir: &Path| dir != parent && dir.starts_with(parent);
    let mut common = parents.filter(|parent| is_above(parent, work) && lower.iter().all(|dir| is_above(parent, dir)));
    common.next().unwrap_or(Path::new("/"))
}

fn stacked(lower: &[PathBuf], upper: &Path, work: &Path) -> Result<OwnedFd, E> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for dir in lower {
        fsconfig_set_string(&context, "lowerdir+", dir)?;
    }
    // Of these two, unlike those, the kernel takes a backslash for one that takes its meaning from what follows.
    for (key, dir) in [("upperdir", upper), ("workdir", work)] {
        let mut escaped = Vec::with_capacity(dir.as_os_str().len());
        for &byte in dir.as_os_str().as_bytes() {
            escaped.extend((byte == b'\\').then_some(byte));
            escaped.push(byte);
        }
        fsconfig_set_string(&context, key, escaped)?;
    }
    fsconfig_set_flag(&context, "userxattr")?;
    fsconfig_set_string(&context, "index", "off")?;
    fsconfig_set_flag(&context, VOLATILE)?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

fn refused(lower: &[PathBuf], upper: &Path, options: &str, errno: E) -> RuntimeError {
    RuntimeError::Overlay {
        lower: lower.len(),
        upper: upper.to_path_buf(),
        options: options.into(),
        source: errno.into(),
    }
}

/// Checks that the file system of `upper` keeps attributes; memory does not before Linux 6.6. Overlayfs takes one that does not, and then no
/// directory of the layers can be replaced: EIO.
fn keeps_attributes(upper: &Path) -> Result<(), E> {
    match rustix::fs::getxattr(upper, "user.overlay.opaque", &mut [0u8; 0][..]) {
        Err(E::OPNOTSUPP) => Err(E::OPNOTSUPP),
        // Whatever else is wrong, the kernel says so when it mounts.
        _ => Ok(()),
    }
}

/// Mounts layers on "root" in the working directory.
pub(super) fn stack(lower: &[PathBuf], upper: &Path, work: &Path) -> Result<(), RuntimeError> {
    keeps_attributes(upper).map_err(|errno| refused(lower, upper, OPTIONS, errno))?;
    let by_name = stacked(lower, upper, work)
        .and_then(|tree| move_mount(&tree, c"", CWD, c"root", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH));
    // Where that fails, the older call does or says why not.
    if by_name.is_ok() {
        return Ok(());
    }
    let layers = match plain_layers(lower, upper, work) {
        Some(layers) => layers,
        None => linked_layers(lower, upper, work)?,
    };
    let attempt = |options: &str| {
        let data = std::ffi::CString::new(format!("{layers},{options}")).map_err(|_| E::INVAL)?;
        mount("overlay", "root", "overlay", MountFlags::empty(), data.as_c_str())
    };
    if attempt(&format!("{OPTIONS},{VOLATILE}")) == Ok(()) {
        return Ok(());
    }
    attempt(OPTIONS).map_err(|errno| refused(lower, upper, OPTIONS, errno))
}

/// Returns the options that name the directories, where they fit the page that mount(2) reads and no character in them means
/// anything.
fn plain_layers(lower: &[PathBuf], upper: &Path, work: &Path) -> Option<String> {
    // The rest of the page is for what comes after.
    const MOST: usize = 4000;
    let name = |dir: &Path| dir.to_str().filter(|name| !name.contains([':', ',', '\\'])).map(str::to_owned);
    let names: Option<Vec<String>> = lower.iter().map(|dir| name(dir)).collect();
    let layers = format!("lowerdir={},upperdir={},workdir={}", names?.join(":"), name(upper)?, name(work)?);
    (layers.len() <= MOST).then_some(layers)
}

/// As [`plain_layers`], by links with short names that stand for the directories: that way 500 of them fit.
fn linked_layers(lower: &[PathBuf], upper: &Path, work: &Path) -> Result<String, RuntimeError> {
    let link = |target: &Path, name: &str| {
        rustix::fs::symlink(target, name).map_err(failed(format!("symlink({}, scratch/{name})", shown(target))))
    };
    let mut names = Vec::with_capacity(lower.len());
    for (at, dir) in lower.iter().enumerate() {
        let name = at.to_string();
        link(dir, &name)?;
        names.push(name);
    }
    link(upper, "u")?;
    link(work, "w")?;
    Ok(format!("lowerdir={},upperdir=u,workdir=w", names.join(":")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_never_empty() {
        let lower = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        let parent = |paths: &[&str], upper: &'static str, work: &str| {
            common_parent(&lower(paths), Path::new(upper), Path::new(work)).to_path_buf()
        };
        assert_eq!(parent(&["/s/layers/a", "/s/layers/b"], "/s/tmp/1/upper", "/s/tmp/1/work"), Path::new("/s"));
        assert_eq!(parent(&["/s/tmp/1"], "/s/tmp/1/upper", "/s/tmp/1/work"), Path::new("/s/tmp"));
        assert_eq!(parent(&["/a"], "/b", "/c"), Path::new("/"));
        assert_eq!(parent(&["/store"], "/store2/u", "/store2/w"), Path::new("/"));
    }
}
