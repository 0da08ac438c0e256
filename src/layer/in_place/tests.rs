use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode};

use super::*;
use crate::store::{Index, View, ViewLayer};
use crate::tree::Kind;

/// What is done to a tree, which is given the paths of names in it.
type Change = fn(&dyn Fn(&str) -> std::path::PathBuf);

/// A tree with a file of each kind, the layer that it is, and its record.
struct Tried {
    dir: tempfile::TempDir,
    below: View,
    before: Record,
}

const OLD: Duration = Duration::from_secs(1_000_000_000);

/// Owners are not the point here: with these, all files are root's, whoever runs the test.
fn ownership(special: &HashMap<u64, (u32, u32)>) -> Ownership<'_> {
    Ownership::Emulated { special, lower_inode: &|_| None }
}

impl Tried {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("d/e")).unwrap();
        for name in ["alone", "p", "d/f", "d/e/g"] {
            fs::write(at(name), name).unwrap();
        }
        for name in ["q", "r"] {
            fs::hard_link(at("p"), at(name)).unwrap();
        }
        std::os::unix::fs::symlink("alone", at("link")).unwrap();
        for name in ["alone", "p", "d/f", "d/e/g", "d/e", "d", "."] {
            fs::File::open(at(name)).unwrap().set_modified(SystemTime::UNIX_EPOCH + OLD).unwrap();
        }
        let none = View::new(vec![]);
        let all =
            changes_in_place(dir.path(), &Record::default(), &Touched::default(), &none, ownership(&HashMap::new()));
        let index = Index::new(all.unwrap().entries);
        assert_eq!(index.entries().len(), 9, "all but the root, which is no change: {:?}", index.entries());
        let layer = ViewLayer { id: index.layer_id(), index: Arc::new(index), dir: dir.path().into() };
        let before = Record::of(dir.path()).unwrap();
        let tried = Tried { below: View::new(vec![layer]), before, dir };
        tried.wait();
        tried
    }

    /// Until whatever changes gets another time.
    fn wait(&self) {
        let clock = tempfile::NamedTempFile::new_in(self.dir.path().parent().unwrap()).unwrap();
        loop {
            fs::write(clock.path(), "x").unwrap();
            let stat = rustix::fs::stat(clock.path()).unwrap();
            if (stat.st_ctime, stat.st_ctime_nsec as i64) > self.before.latest() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn after(
        &self,
        touched: &[&str],
        change: impl FnOnce(&dyn Fn(&str) -> std::path::PathBuf),
    ) -> (Vec<String>, Vec<String>) {
        change(&|name| self.dir.path().join(name));
        let names = touched.iter().map(|name| TreePath::new(name).unwrap()).collect();
        let touched = Touched { names, incomplete: false };
        let special = HashMap::new();
        let found =
            changes_in_place(self.dir.path(), &self.before, &touched, &self.below, ownership(&special)).unwrap();
        let word = |entry: &Entry| match &entry.kind {
            Kind::Hardlink { target } => format!("{} = {target}", entry.path),
            Kind::Whiteout => format!("-{}", entry.path),
            Kind::Dir => format!("{}/", entry.path),
            _ => entry.path.to_string(),
        };
        (found.entries.iter().map(word).collect(), found.stale.iter().map(ToString::to_string).collect())
    }
}

#[test]
fn names_of_one_file_change_as_they_do_in_an_overlay() {
    type Line<'a> = (&'a [&'a str], Change, &'a [&'a str], &'a [&'a str]);
    // What was touched, what was done, the layer, and what is to be made again in the tree.
    let table: [Line<'_>; 9] = [
        (&["q"], |at| fs::write(at("q"), "new").unwrap(), &["q"], &["p", "q", "r"]),
        (&["q", "r"], |at| fs::write(at("q"), "new").unwrap(), &["q", "r"], &["p", "q", "r"]),
        // Through a name that is gone.
        (&["p"], |at| fs::write(at("p"), "new").and_then(|()| fs::remove_file(at("p"))).unwrap(), &["-p"], &["q", "r"]),
        // Nobody saw through which name.
        (&[], |at| fs::write(at("q"), "new").unwrap(), &["p", "q = p", "r = p"], &[]),
        // A touch that changed nothing.
        (&["q"], |at| fs::set_permissions(at("q"), at("q").metadata().unwrap().permissions()).unwrap(), &[], &[]),
        (&[], |at| fs::remove_file(at("p")).unwrap(), &["-p"], &[]),
        (&[], |at| fs::rename(at("p"), at("s")).unwrap(), &["-p", "s"], &["s"]),
        (&[], |at| fs::hard_link(at("p"), at("s")).unwrap(), &["s"], &["s"]),
        (&[], |at| fs::hard_link(at("alone"), at("s")).unwrap(), &["alone", "s = alone"], &[]),
    ];
    for (touched, change, layer, stale) in table {
        let found = Tried::new().after(touched, |at| change(at));
        assert_eq!((&found.0[..], &found.1[..]), (&strings(layer)[..], &strings(stale)[..]), "{touched:?}");
    }
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn what_stacked_layers_would_not_let_a_step_do_is_told() {
    let after = |touched: &[&str], change: Change| {
        let tried = Tried::new();
        change(&|name| tried.dir.path().join(name));
        let names = touched.iter().map(|name| TreePath::new(name).unwrap()).collect();
        let touched = Touched { names, incomplete: false };
        let special = HashMap::new();
        changes_in_place(tried.dir.path(), &tried.before, &touched, &tried.below, ownership(&special))
            .unwrap()
            .otherwise
    };
    let path = |name: &str| TreePath::new(name).unwrap();
    assert_eq!(after(&["p"], |at| fs::write(at("p"), "new").unwrap()), [Otherwise::Shared(path("p"))]);
    assert_eq!(after(&["p", "q", "r"], |at| fs::write(at("p"), "new").unwrap()), []);
    let quiet = after(&["p"], |at| {
        fs::set_permissions(at("p"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::remove_dir_all(at("d")).unwrap();
        for number in 0..20 {
            fs::create_dir_all(at(&format!("new{number}/in"))).unwrap();
        }
        fs::rename(at("new1"), at("again")).unwrap();
        fs::rename(at("alone"), at("file")).unwrap();
    });
    assert_eq!(quiet, []);
    let renamed = after(&[], |at| fs::rename(at("d"), at("moved")).unwrap());
    // Not every file system knows when a folder was made.
    let knows = birth(tempfile::tempdir().unwrap().path()).is_some();
    assert_eq!(renamed, if knows { vec![Otherwise::Renamed(path("moved"))] } else { vec![] });
}

#[test]
fn new_names_of_a_file_that_had_several_may_be_otherwise_and_that_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let chmod = |path: std::path::PathBuf| fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    type Case<'a> = (&'a [&'a str], &'a dyn Fn(&dyn Fn(&str) -> std::path::PathBuf), Option<&'a str>);
    let cases: [Case<'_>; 12] = [
        // On an overlay: s is as p was; it would be q, changed; and both names of the copy.
        (&["p"], &|at| fs::rename(at("q"), at("s")).map(|()| chmod(at("p"))).unwrap(), Some("s")),
        (&["s"], &|at| fs::hard_link(at("p"), at("s")).and_then(|()| fs::write(at("s"), "new")).unwrap(), Some("s")),
        (&["s"], &|at| fs::hard_link(at("p"), at("s")).map(|()| chmod(at("s"))).unwrap(), Some("s")),
        (
            &["q"],
            &|at| {
                fs::rename(at("p"), at("s")).and_then(|()| fs::hard_link(at("s"), at("p"))).unwrap();
                chmod(at("q"));
            },
            Some("s"),
        ),
        // Two files of their own on an overlay, or two names of one.
        (&[], &|at| fs::rename(at("p"), at("s")).and_then(|()| fs::rename(at("q"), at("t"))).unwrap(), Some("s")),
        (&[], &|at| fs::hard_link(at("p"), at("s")).and_then(|()| fs::hard_link(at("q"), at("t"))).unwrap(), Some("s")),
        // Through a name that is gone, or a mapping: nobody saw which.
        (&[], &|at| chmod(at("p")), Some("p")),
        // The same everywhere.
        (&["p"], &|at| chmod(at("p")), None),
        (&["p"], &|at| fs::remove_file(at("q")).map(|()| chmod(at("p"))).unwrap(), None),
        (&[], &|at| fs::rename(at("p"), at("s")).unwrap(), None),
        (&[], &|at| fs::hard_link(at("p"), at("s")).unwrap(), None),
        (&["alone", "s"], &|at| fs::hard_link(at("alone"), at("s")).map(|()| chmod(at("s"))).unwrap(), None),
    ];
    for (number, (touched, change, told)) in cases.into_iter().enumerate() {
        let tried = Tried::new();
        change(&|name| tried.dir.path().join(name));
        let names = touched.iter().map(|name| TreePath::new(name).unwrap()).collect();
        let touched = Touched { names, incomplete: false };
        let special = HashMap::new();
        let found =
            changes_in_place(tried.dir.path(), &tried.before, &touched, &tried.below, ownership(&special)).unwrap();
        let told: Vec<_> = told.map(|name| Otherwise::Names(TreePath::new(name).unwrap())).into_iter().collect();
        assert_eq!(found.otherwise, told, "{number}");
    }
}

#[test]
fn what_no_layer_can_have_is_gone() {
    let tried = Tried::new();
    let found = tried.after(&[], |at| {
        fs::remove_file(at("alone")).unwrap();
        rustix::fs::mknodat(CWD, at("alone"), FileType::Socket, Mode::RWXU, 0).unwrap();
        rustix::fs::mknodat(CWD, at("d/socket"), FileType::Socket, Mode::RWXU, 0).unwrap();
        assert!(at("alone").metadata().unwrap().file_type().is_socket());
        if rustix::fs::mknodat(CWD, at("white"), FileType::CharacterDevice, Mode::empty(), 0).is_err() {
            fs::write(at("white"), "").and_then(|()| fs::remove_file(at("white"))).unwrap();
        }
    });
    assert_eq!(found.0, ["-alone", "d/"], "the folder has another time");
    assert!(found.1.iter().all(|name| ["alone", "d/socket", "white"].contains(&name.as_str())), "{found:?}");
}

#[test]
fn a_time_that_was_set_back_hides_no_change() {
    let tried = Tried::new();
    let found = tried.after(&[], |at| {
        fs::write(at("alone"), "ALONE").unwrap();
        fs::write(at("d/f"), "d/f").unwrap();
        for name in ["alone", "d/f"] {
            fs::File::open(at(name)).unwrap().set_modified(SystemTime::UNIX_EPOCH + OLD).unwrap();
        }
    });
    assert_eq!(found.0, ["alone"], "what holds the same bytes as before is no change");
}

#[test]
fn only_the_topmost_of_what_is_gone_has_a_whiteout() {
    let found = Tried::new().after(&[], |at| fs::remove_dir_all(at("d")).unwrap());
    assert_eq!(found.0, ["-d"]);
    let found = Tried::new().after(&[], |at| {
        fs::remove_dir_all(at("d")).unwrap();
        fs::create_dir_all(at("d/e")).unwrap();
    });
    assert_eq!(found.0, ["d/", "d/e/", "-d/e/g", "-d/f"]);
    let found = Tried::new().after(&[], |at| {
        fs::remove_dir_all(at("d")).unwrap();
        fs::write(at("d"), "a file").unwrap();
    });
    assert_eq!(found.0, ["d"], "a file hides all by itself");
}
