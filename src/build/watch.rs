//! Sees through which of its names a file is changed, while a step works on a tree in place.

use std::collections::{BTreeSet, HashMap};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::layer::{Record, Touched};
use crate::tree::TreePath;

/// A watch on the folders of a tree in which names of files with several names lie. The kernel tells the name through which
/// a file was opened; it is asked all the time, since it keeps only so much news.
pub(super) struct NameWatch {
    /// `None` where the kernel has no watch for us.
    news: Option<OwnedFd>,
    /// Folders by the number of their watch.
    dirs: HashMap<i32, TreePath>,
    complete: bool,
}

impl NameWatch {
    /// Returns a watch on the files of `record` in the folder `tree`; `None` where each has one name only. Where the kernel
    /// refuses to watch them all, the news are incomplete.
    pub fn new(tree: &Path, record: &Record) -> Option<Self> {
        let folders: BTreeSet<TreePath> = record.linked().filter_map(TreePath::parent).collect();
        if folders.is_empty() {
            return None;
        }
        let news = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        let mut dirs = HashMap::new();
        let what = WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        let count = folders.len();
        for dir in folders {
            let Some(news) = &news else { break };
            if let Ok(number) = inotify::add_watch(news, tree.join(dir.as_os_path()), what) {
                dirs.insert(number, dir);
            }
        }
        let complete = dirs.len() == count;
        Some(NameWatch { news, dirs, complete })
    }

    /// Calls `step`, and returns what it returns and the names that it changed files through.
    pub fn during<T>(self, step: impl FnOnce() -> T) -> (T, Touched) {
        let mut touched = Touched { incomplete: !self.complete, ..Touched::default() };
        let (Some(news), Ok(end)) = (&self.news, eventfd(0, EventfdFlags::CLOEXEC)) else {
            touched.incomplete = true;
            return (step(), touched);
        };
        let result = std::thread::scope(|scope| {
            let reader = std::thread::Builder::new().spawn_scoped(scope, || self.listen(news, &end));
            let result = step();
            match reader {
                Ok(reader) => {
                    let told = rustix::io::write(&end, &1u64.to_ne_bytes());
                    debug_assert!(told.is_ok());
                    if let Ok(seen) = reader.join() {
                        touched.names = seen.names;
                        touched.incomplete |= seen.incomplete;
                    }
                }
                // What the kernel kept must do.
                Err(_) => self.read(news, &mut touched),
            }
            result
        });
        (result, touched)
    }

    /// Reads the news until `end` is written to, and then what is left.
    fn listen(&self, news: &OwnedFd, end: &OwnedFd) -> Touched {
        let mut touched = Touched::default();
        loop {
            let mut fds = [PollFd::new(news, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => touched.incomplete = true,
            }
            let ended = !fds[1].revents().is_empty() || touched.incomplete;
            self.read(news, &mut touched);
            if ended {
                return touched;
            }
        }
    }

    fn read(&self, news: &OwnedFd, touched: &mut Touched) {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = inotify::Reader::new(news, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => touched.incomplete = true,
                Ok(event) => {
                    if let (Some(dir), Some(name)) = (self.dirs.get(&event.wd()), event.file_name())
                        && !name.is_empty()
                    {
                        touched.names.insert(dir.child(name.to_bytes()));
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    touched.incomplete = true;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_change_is_told_by_the_name_that_was_used() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("d")).unwrap();
        for (file, link) in [("a", "d/b"), ("w", "x"), ("q", "r")] {
            fs::write(at(file), "old").unwrap();
            fs::hard_link(at(file), at(link)).unwrap();
        }
        fs::write(at("alone"), "old").unwrap();
        let watch = NameWatch::new(dir.path(), &Record::of(dir.path()).unwrap()).expect("there are links");
        let ((), touched) = watch.during(|| {
            fs::write(at("d/b"), "new").unwrap();
            fs::set_permissions(at("x"), fs::Permissions::from_mode(0o600)).unwrap();
            fs::hard_link(at("q"), at("again")).unwrap();
            fs::remove_file(at("q")).unwrap();
        });
        let mut names: Vec<_> = touched.names.iter().map(ToString::to_string).collect();
        names.sort();
        assert_eq!((names, touched.incomplete), (vec!["d/b".to_owned(), "x".to_owned()], false));
    }

    #[test]
    fn a_tree_without_links_is_not_watched() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "").unwrap();
        assert!(NameWatch::new(dir.path(), &Record::of(dir.path()).unwrap()).is_none());
    }
}
