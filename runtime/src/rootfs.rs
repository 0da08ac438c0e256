//! Paths inside a directory that is the root of something else. Links and `..` never lead out of it, whoever changes
//! the tree meanwhile. Follows no magic links, opens nothing that could block.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno as E;

/// Links followed in one look-up at the most, as in the kernel (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// A directory that is the root of its paths.
#[derive(Debug)]
pub struct Rootfs {
    dir: OwnedFd,
}

impl Rootfs {
    /// Returns the root at `dir`, a path of the host.
    ///
    /// # Errors
    /// What open(2) reports; ENOTDIR where `dir` is no directory.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Rootfs { dir: rustix::fs::open(dir, flags, Mode::empty())? })
    }

    /// Returns the root at `dir`, a directory that is open.
    pub(crate) fn of(dir: OwnedFd) -> Self {
        Rootfs { dir }
    }

    /// Returns the directory that is the root.
    pub(crate) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Returns a handle (O_PATH) to what is at `path`, and its type. No link is followed at all: one on the way, or at
    /// the end, is ELOOP.
    pub(crate) fn place(&self, path: &str) -> Result<(OwnedFd, FileType), E> {
        let found = self.at(path.as_bytes(), OFlags::PATH | OFlags::CLOEXEC, 0)?;
        let file_type = FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
        Ok((found, file_type))
    }

    /// Returns the file at `path`, open for reading: a regular file, never a device, pipe or directory. Links are
    /// followed inside of the root; `path` is taken from the root, with or without a slash in front.
    ///
    /// # Errors
    /// What openat2(2) reports; EISDIR for a directory, EINVAL for what else is no regular file.
    pub fn open_file(&self, path: &[u8]) -> io::Result<File> {
        // Looking before opening: opening a device may do something.
        let place = self.resolve(path)?;
        match FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(E::ISDIR.into()),
            _ => return Err(E::INVAL.into()),
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = self.at(path, flags, MAX_LINKS)?;
        // Somebody may have changed the tree between the two.
        if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(E::INVAL.into());
        }
        Ok(File::from(file))
    }

    /// Returns a handle (O_PATH) to what is at `path`, of whatever type, links followed inside of the root.
    ///
    /// # Errors
    /// What openat2(2) reports: ENOENT, ENOTDIR, ELOOP, …
    pub fn resolve(&self, path: &[u8]) -> io::Result<OwnedFd> {
        Ok(self.at(path, OFlags::PATH | OFlags::CLOEXEC, MAX_LINKS)?)
    }

    /// Returns a handle to what is at `path`, as [`resolve`](Self::resolve) finds it. What is missing on the way, or where a link
    /// leads, `make` makes; never on a way through a link in a /proc, where nothing can be made.
    pub(crate) fn resolve_making(&self, path: &[u8], make: &Make<'_>) -> Result<OwnedFd, E> {
        self.walk(path, OFlags::PATH | OFlags::CLOEXEC, MAX_LINKS, Some(make))
    }

    /// With `max_links` 0 no link is followed; else some.
    fn at(&self, path: &[u8], flags: OFlags, max_links: u32) -> Result<OwnedFd, E> {
        let mut how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        how.set(ResolveFlags::NO_SYMLINKS, max_links == 0);
        let whole: &[u8] = if path.is_empty() { b"." } else { path };
        loop {
            match rustix::fs::openat2(&self.dir, whole, flags, Mode::empty(), how) {
                // A rename or mount elsewhere made the kernel unsure about "..".
                Err(E::AGAIN) => {}
                // Some sandboxes say EPERM of all that they do not know; openat2 itself never does of such files.
                Err(E::NOSYS | E::PERM) => return self.walk(path, flags, max_links, None),
                other => return other,
            }
        }
    }

    /// As openat2 does it, a component at a time. `parents` holds the way back, so that `..` needs no look-up. `make` makes what is
    /// missing.
    fn walk(&self, path: &[u8], flags: OFlags, max_links: u32, make: Option<&Make<'_>>) -> Result<OwnedFd, E> {
        let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut parents: Vec<OwnedFd> = Vec::new();
        let mut todo: Vec<Vec<u8>> = components(path).rev().collect();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                parents.pop();
                continue;
            }
            let here: BorrowedFd<'_> = parents.last().map_or(self.dir.as_fd(), AsFd::as_fd);
            let next = match (rustix::fs::openat(here, name.as_slice(), step, Mode::empty()), make) {
                (Err(E::NOENT), Some(make)) => make(here, &name)?,
                (found, _) => found?,
            };
            if FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode) != FileType::Symlink {
                parents.push(next);
                continue;
            }
            // Its text is no path there.
            if make.is_some() && rustix::fs::fstatfs(&next)?.f_type == rustix::fs::PROC_SUPER_MAGIC {
                return Err(E::NOENT);
            }
            links += 1;
            if links > max_links {
                return Err(E::LOOP);
            }
            let target = rustix::fs::readlinkat(&next, c"", Vec::new())?.into_bytes();
            if target.first() == Some(&b'/') {
                parents.clear();
            }
            todo.extend(components(&target).rev());
        }
        let found = parents.pop().map_or_else(|| rustix::io::fcntl_dupfd_cloexec(&self.dir, 3), Ok)?;
        if flags.contains(OFlags::PATH) {
            return Ok(found);
        }
        // The handle is of the very file; this opens it again for reading.
        let again: PathBuf = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found)).into();
        rustix::fs::openat(CWD, &again, flags, Mode::empty())
    }
}

/// Makes a name in a directory, and returns a handle to it.
pub(crate) type Make<'a> = dyn Fn(BorrowedFd<'_>, &[u8]) -> Result<OwnedFd, E> + 'a;

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> + '_ {
    path.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, Rootfs) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("etc")).expect("mkdir");
        std::fs::write(dir.path().join("etc/passwd"), "inside").expect("write");
        symlink("/etc/passwd", dir.path().join("absolute")).expect("link");
        symlink("../../../../etc/passwd", dir.path().join("etc/up")).expect("link");
        symlink("loop", dir.path().join("loop")).expect("link");
        rustix::fs::mknodat(CWD, dir.path().join("fifo"), FileType::Fifo, 0o600.into(), 0).expect("mkfifo");
        let rootfs = Rootfs::open(dir.path()).expect("opens");
        (dir, rootfs)
    }

    #[test]
    fn links_stay_inside_whichever_way_they_are_followed() {
        let (_dir, root) = root();
        for path in ["etc/passwd", "/etc/passwd", "absolute", "etc/up", "../../etc/./passwd"] {
            let mut text = String::new();
            root.open_file(path.as_bytes()).expect(path).read_to_string(&mut text).expect(path);
            assert_eq!(text, "inside", "{path}");
            let walked = root.walk(path.as_bytes(), OFlags::RDONLY | OFlags::CLOEXEC, MAX_LINKS, None).expect(path);
            text.clear();
            File::from(walked).read_to_string(&mut text).expect(path);
            assert_eq!(text, "inside", "{path}, walked");
        }
    }

    #[test]
    fn only_regular_files_are_opened() {
        let (_dir, root) = root();
        let errno = |path: &[u8]| root.open_file(path).expect_err("refused").raw_os_error();
        assert_eq!(errno(b"fifo"), Some(libc::EINVAL));
        assert_eq!(errno(b"etc"), Some(libc::EISDIR));
        assert_eq!(errno(b""), Some(libc::EISDIR));
        assert_eq!(errno(b"missing"), Some(libc::ENOENT));
        assert_eq!(errno(b"loop"), Some(libc::ELOOP));
        assert_eq!(root.walk(b"loop", OFlags::PATH, MAX_LINKS, None).map(drop), Err(E::LOOP));
        assert_eq!(root.walk(b"etc/passwd/x", OFlags::PATH, MAX_LINKS, None).map(drop), Err(E::NOTDIR));
    }

    #[test]
    fn a_place_is_reached_through_no_link() {
        let (dir, root) = root();
        symlink("etc", dir.path().join("linked")).expect("link");
        assert_eq!(root.place("etc").map(|(_, kind)| kind), Ok(FileType::Directory));
        assert_eq!(root.place("etc/passwd").map(|(_, kind)| kind), Ok(FileType::RegularFile));
        for path in ["absolute", "etc/up", "linked", "linked/passwd"] {
            assert_eq!(root.place(path).map(drop), Err(E::LOOP), "{path}");
            assert_eq!(root.walk(path.as_bytes(), OFlags::PATH, 0, None).map(drop), Err(E::LOOP), "{path}, walked");
        }
    }
    #[test]
    fn directories_are_made_inside_and_only_where_they_are_missing() {
        let (dir, root) = root();
        symlink("/../../new/by", dir.path().join("dangling")).expect("link");
        let mkdir = |here: BorrowedFd<'_>, name: &[u8]| {
            rustix::fs::mkdirat(here, name, Mode::RWXU)?;
            rustix::fs::openat(here, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        };
        for (path, count) in [("a/b/c", 3), ("/a/b", 0), ("etc/x/../y", 2), ("dangling/link", 3), ("/", 0)] {
            let made = std::cell::Cell::new(0);
            let found = root.resolve_making(path.as_bytes(), &|here, name| {
                made.set(made.get() + 1);
                mkdir(here, name)
            });
            let found = rustix::fs::fstat(found.expect(path)).expect("stat");
            assert_eq!(made.get(), count, "{path}");
            assert_eq!(
                found.st_ino,
                rustix::fs::fstat(root.resolve(path.as_bytes()).expect(path)).expect("stat").st_ino
            );
        }
        assert!(dir.path().join("new/by/link").is_dir());
        assert_eq!(root.resolve_making(b"etc/passwd/x", &mkdir).map(drop), Err(E::NOTDIR));
        assert_eq!(root.resolve_making(b"loop/x", &mkdir).map(drop), Err(E::LOOP));
        assert_eq!(root.resolve_making(b"refused", &|_, _| Err(E::DQUOT)).map(drop), Err(E::DQUOT));
    }
}
