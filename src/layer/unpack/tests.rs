use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::*;
use crate::layer::archive::{Archive, Raw};
use crate::tree::Owners;

/// A folder with a layer in it, and beside it a canary that nothing may touch.
struct Place {
    dir: tempfile::TempDir,
    before: Vec<String>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("layer")).unwrap();
        std::fs::create_dir_all(dir.path().join("canary/dir")).unwrap();
        std::fs::write(dir.path().join("canary/file"), "alive").unwrap();
        let before = listing(&dir.path().join("canary"));
        Place { dir, before }
    }

    fn layer(&self) -> PathBuf {
        self.dir.path().join("layer")
    }

    fn canary(&self) -> String {
        self.dir.path().join("canary").to_str().unwrap().to_owned()
    }

    fn unpack(&self, archive: &[u8]) -> Result<Unpacked, LayerError> {
        let owners = if rustix::process::geteuid().is_root() { Owners::Native } else { Owners::Exported };
        let mut tree = DiskTree::open(&self.layer(), owners).unwrap();
        let result = unpack(&mut &archive[..], &mut tree, &UnpackOptions::default());
        let result = result.and_then(|unpacked| tree.finish().map(|()| unpacked));
        assert_eq!(listing(&self.dir.path().join("canary")), self.before, "the canary is as it was");
        assert_eq!(std::fs::read_dir(self.dir.path()).unwrap().count(), 2, "nothing is beside the layer");
        let scanned = scan(&mut &archive[..], &UnpackOptions::default());
        match (&result, &scanned) {
            (Ok(unpacked), Ok(scanned)) => assert_eq!(unpacked, scanned, "scan says what unpack does"),
            (Err(_), Err(_)) => {}
            _ => panic!("unpack: {result:?}, scan: {scanned:?}"),
        }
        result
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.layer().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

fn listing(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for item in std::fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        let data = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        let (mode, uid, nlink) = (meta.mode(), meta.uid(), meta.nlink());
        all.push(format!("{path:?} {mode:o} {uid} {nlink} {}.{} {data:?}", meta.mtime(), meta.mtime_nsec()));
    }
    all.sort();
    all
}

/// Returns the index as lines: path, type, what goes with it; `?` for implied directories.
fn lines(unpacked: &Unpacked) -> Vec<String> {
    let line = |entry: &Entry| {
        let more = match &entry.kind {
            Kind::File { size, .. } => format!(" {size}"),
            Kind::Symlink { target } => format!(" {}", String::from_utf8_lossy(target)),
            Kind::Hardlink { target } => format!(" {target}"),
            Kind::Char { device } | Kind::Block { device } => format!(" {}:{}", device.0, device.1),
            Kind::Dir if entry.implied => "?".to_owned(),
            _ => String::new(),
        };
        format!("{} {}{more}", entry.path, entry.kind.word())
    };
    unpacked.entries.iter().map(line).collect()
}

#[track_caller]
fn index(archive: Archive, expected: &[&str]) -> (Place, Unpacked) {
    let place = Place::new();
    let unpacked = place.unpack(&archive.end()).unwrap();
    assert_eq!(lines(&unpacked), expected);
    (place, unpacked)
}

#[test]
fn files_get_their_contents_and_attributes_and_parents_are_implied() {
    let archive = Archive::new()
        .dir("tmp/", 0o1777)
        .pax("mtime", "-5.5")
        .file("tmp/x", b"hello")
        .raw(&Raw { name: b"bin/su", mode: b"0004755", ..Raw::default() }, b"")
        .dir("locked", 0o500)
        .file("locked/in", b"")
        .node("pipe", b'6', 0, 0);
    let (place, unpacked) = index(
        archive,
        &[
            ". directory?",
            "bin directory?",
            "bin/su file 0",
            "locked directory",
            "locked/in file 0",
            "pipe fifo",
            "tmp directory",
            "tmp/x file 5",
        ],
    );
    let meta = |path: &str| place.layer().join(path).symlink_metadata().unwrap();
    assert_eq!((meta("tmp").mode() & 0o7777, meta("tmp").mtime()), (0o1777, 100), "after its children");
    assert_eq!((meta("tmp/x").mtime(), place.read("tmp/x")), (-6, "hello".to_owned()));
    assert_eq!(meta("bin/su").mode() & 0o7777, 0o4755);
    assert_eq!(meta("bin").mode() & 0o7777, 0o755);
    assert_eq!(meta("locked").mode() & 0o7777, 0o500);
    assert!(meta("pipe").file_type().is_fifo());
    let Kind::File { digest: Some(digest), .. } = &unpacked.entries[7].kind else { panic!("no digest") };
    assert_eq!(digest.0, *crate::oci::Digest::of(b"hello").raw());
}

#[test]
fn names_are_cleaned_and_stay_inside() {
    let (place, _) = index(
        Archive::new().file("../../a", b"1").file("/b", b"2").file("./c/../../d", b"3").file("e//./f", b"4"),
        &[". directory?", "a file 1", "b file 1", "d file 1", "e directory?", "e/f file 1"],
    );
    assert_eq!(place.read("d"), "3");
}

#[test]
fn no_entry_is_written_through_a_link_out_of_the_layer() {
    let place = Place::new();
    let canary = place.canary();
    let up = "../".repeat(20) + &canary[1..];
    for target in [&canary, &up, "..", "/.."] {
        let archive = Archive::new()
            .symlink("out", target)
            .file("out/file", b"dead")
            .file("out/dir/new", b"dead")
            .file("out/.wh.file", b"")
            .link("mine", "out/file")
            .dir("out", 0o777);
        place.unpack(&archive.end()).unwrap();
        assert!(place.layer().join("out").symlink_metadata().unwrap().is_dir(), "the directory replaced the link");
        std::fs::remove_dir_all(place.layer()).unwrap();
        std::fs::create_dir(place.layer()).unwrap();
    }
    // A link to a file is no way to write to it, and an attribute of it is its own.
    let file = canary.clone() + "/file";
    let archive = Archive::new().symlink("f", &file).file("f", b"dead").symlink("g", &file).link("h", "g");
    let unpacked = place.unpack(&archive.end()).unwrap();
    assert_eq!(lines(&unpacked)[2..], [format!("g symbolic link {file}"), format!("h symbolic link {file}")]);
    for target in [&file[..], "../canary/file", "../../../../etc/passwd"] {
        let error = place.unpack(&Archive::new().link("h", target).end()).unwrap_err();
        assert!(matches!(error, LayerError::NoLinkTarget { .. }), "{error}");
    }
}

#[test]
fn links_of_the_same_archive_are_followed_inside_the_root() {
    index(
        Archive::new()
            .dir("usr/lib/", 0o755)
            .symlink("lib", "usr/lib")
            .file("lib/x", b"1")
            .symlink("abs", "/usr/../../lib")
            .file("abs/y", b"2")
            .symlink("dangling", "made/here")
            .file("dangling/z", b"3")
            .file("dangling/.wh.w", b"")
            .link("hard", "abs/x"),
        &[
            ". directory?",
            "abs symbolic link /usr/../../lib",
            "dangling symbolic link made/here",
            "hard file 1",
            "lib symbolic link usr/lib",
            "made directory?",
            "made/here directory?",
            "made/here/w whiteout",
            "made/here/z file 1",
            "usr directory?",
            "usr/lib directory",
            "usr/lib/x hard link hard",
            "usr/lib/y file 1",
        ],
    );
}

#[test]
fn a_later_entry_replaces_an_earlier_one_and_directories_merge() {
    let (place, unpacked) = index(
        Archive::new()
            .file("f", b"old")
            .file("f", b"new!")
            .dir("d", 0o700)
            .file("d/in", b"")
            .dir("d", 0o711)
            .dir("gone/deep/down", 0o000)
            .file("gone/deep/down/x", b"")
            .file("gone/.wh.y", b"")
            .file("gone/deep/.wh..wh..opq", b"")
            .file("gone", b"file")
            .symlink("s", "d")
            .dir("s", 0o755)
            .file("s/own", b""),
        &[". directory?", "d directory", "d/in file 0", "f file 4", "gone file 4", "s directory", "s/own file 0"],
    );
    assert_eq!((place.read("f"), place.read("gone")), ("new!".to_owned(), "file".to_owned()));
    assert_eq!(unpacked.entries[1].meta.mode, 0o711);
    assert_eq!(unpacked.opaque, []);
}

#[test]
fn names_of_one_file_are_the_first_by_path_and_links_to_it() {
    let (place, _) = index(
        Archive::new()
            .file("z", b"one")
            .link("m", "z")
            .link("a", "./m")
            .file("z", b"two")
            .link("k", "k2/../m")
            .node("pipe", b'6', 0, 0)
            .link("pipe2", "pipe"),
        &[
            ". directory?",
            "a file 3",
            "k hard link a",
            "m hard link a",
            "pipe fifo",
            "pipe2 hard link pipe",
            "z file 3",
        ],
    );
    assert_eq!((place.read("k"), place.read("z")), ("one".to_owned(), "two".to_owned()));
    assert_eq!(place.layer().join("m").metadata().unwrap().nlink(), 3);
    // What the last header says is true for all names.
    let last = Raw { name: b"b", flag: b'1', link: b"a", mode: b"0000400", ..Raw::default() };
    let place = Place::new();
    let unpacked = place.unpack(&Archive::new().file("a", b"x").raw(&last, b"").end()).unwrap();
    assert!(unpacked.entries[1..].iter().all(|entry| entry.meta.mode == 0o400));
    assert_eq!(place.layer().join("a").metadata().unwrap().mode() & 0o7777, 0o400);
}

#[test]
fn devices_are_in_the_index_and_never_on_disk() {
    let (place, _) = index(
        Archive::new()
            .file("dev/null", b"x")
            .node("dev/null", b'3', 1, 3)
            .node("dev/zero0", b'3', 0, 0)
            .node("sda", b'4', 8, 0)
            .link("sdb", "sda"),
        &[
            ". directory?",
            "dev directory?",
            "dev/null character device 1:3",
            "dev/zero0 character device 0:0",
            "sda block device 8:0",
            "sdb hard link sda",
        ],
    );
    for name in ["dev/null", "dev/zero0", "sda", "sdb"] {
        match place.layer().join(name).symlink_metadata() {
            Ok(meta) => assert!(meta.is_file() && meta.len() == 0, "{name}: an empty file stands for it"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
    }
}

#[test]
fn whiteouts_hide_what_is_below_and_never_what_is_here() {
    let (place, unpacked) = index(
        Archive::new()
            .file("a/.wh.gone", b"")
            .file(".wh.file", b"")
            .file("file", b"")
            .file("dir/in", b"")
            .file(".wh.dir", b"")
            .file("late/.wh..wh..opq", b"")
            .file("late/in", b"")
            .file("opq/in", b"")
            .file("opq/.wh..wh..opq", b"")
            .file(".wh..wh.plnk/12.34", b"x")
            .file(".wh..wh.orph", b""),
        &[
            ". directory?",
            "a directory?",
            "a/gone whiteout",
            "dir directory?",
            "dir/in file 0",
            "file file 0",
            "late directory?",
            "late/in file 0",
            "opq directory?",
            "opq/in file 0",
        ],
    );
    assert_eq!(unpacked.opaque.iter().map(ToString::to_string).collect::<Vec<_>>(), ["dir", "late", "opq"]);
    let gone = place.layer().join("a/gone").symlink_metadata().unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0, "as overlayfs has it");
    let root = place.unpack(&Archive::new().file(".wh..wh..opq", b"").end()).unwrap();
    assert_eq!(root.opaque, [TreePath::root()]);
}

#[test]
fn extended_attributes_that_speak_to_overlayfs_are_dropped() {
    let archive = Archive::new()
        .pax("SCHILY.xattr.user.overlay.opaque", "y")
        .pax("SCHILY.xattr.trusted.overlay.opaque", "y")
        .pax("SCHILY.xattr.user.coracle.owner", "0")
        .pax("SCHILY.xattr.user.kept", "yes")
        .dir("d", 0o755)
        .pax("SCHILY.xattr.user.kept", "yes")
        .raw(&Raw { name: b"f", mode: b"0000000", ..Raw::default() }, b"");
    let place = Place::new();
    let unpacked = place.unpack(&archive.end()).unwrap();
    let kept = BTreeMap::from([(b"user.kept".to_vec(), b"yes".to_vec())]);
    for entry in &unpacked.entries[1..] {
        assert_eq!(entry.meta.xattrs, kept);
        let path = place.layer().join(entry.path.as_os_path());
        let mut names = [0; 1000];
        let n = rustix::fs::llistxattr(&path, &mut names).unwrap();
        let names = String::from_utf8_lossy(&names[..n]);
        assert!(!names.contains("overlay") && !names.contains("coracle"), "{names:?}");
    }
}

#[test]
fn strange_names_and_numbers_are_taken_as_they_are() {
    let long = "n".repeat(255);
    let deep = "d/".repeat(1000) + "end";
    let archive = Archive::new()
        .pax("path", &long)
        .file("x", b"")
        .pax("path", b"new\nline\xff\x1b")
        .file("x", b"")
        .pax("path", &deep)
        .file("x", b"deep")
        .pax("path", b"deep/".repeat(2).as_slice())
        .pax("mtime", "99999999999999")
        .file("x", b"")
        .raw(&Raw { name: b"mode", mode: b"7777777", ..Raw::default() }, b"");
    let place = Place::new();
    let unpacked = place.unpack(&archive.end()).unwrap();
    assert_eq!(unpacked.entries.len(), 1 + 1 + 1 + 1001 + 2 + 1);
    let by_name = |name: &[u8]| unpacked.entries.iter().find(|e| e.path.as_bytes() == name).unwrap();
    assert_eq!(by_name(b"mode").meta.mode, 0o7777);
    assert_eq!(by_name(b"deep/deep").meta.mtime.secs, 99_999_999_999_999);
    by_name(b"new\nline\xff\x1b");
    assert_eq!(place.read(&deep), "deep");
    // And all of it can be replaced, with two descriptors.
    let mut again = Archive::new().pax("path", &deep).file("x", b"deep").file("d", b"flat").end();
    again.extend_from_slice(b"what follows the end is read and does not matter");
    place.unpack(&again).unwrap();
    assert_eq!(place.read("d"), "flat");
}

#[test]
fn a_root_entry_sets_the_attributes_of_the_root() {
    for name in ["./", "/", ".", "a/.."] {
        let place = Place::new();
        let unpacked = place.unpack(&Archive::new().dir(name, 0o751).end()).unwrap();
        let root = &unpacked.entries[0];
        assert!(root.path.is_root() && !root.implied && root.meta.mode == 0o751, "{name}");
        assert_eq!(place.layer().metadata().unwrap().permissions().mode() & 0o7777, 0o751);
    }
}

#[test]
fn what_cannot_be_is_an_error_that_names_the_entry() {
    let name = |name: &str| Archive::new().pax("path", name).file("x", b"");
    let mut chain = Archive::new();
    for at in 0..60 {
        chain = chain.symlink(&format!("l{at}"), &format!("l{}", at + 1));
    }
    let table: Vec<(Archive, &str)> = vec![
        (Archive::new().symlink("./", "/etc"), "the archive makes the root directory a symbolic link"),
        (Archive::new().file("/", b""), "the archive makes the root directory a file"),
        (Archive::new().file("a", b"").file("a/b", b""), "a/b: a is not a directory"),
        (Archive::new().file("a", b"").file("a/.wh.b", b""), "a/.wh.b: a is not a directory"),
        (Archive::new().node("n", b'3', 1, 1).dir("n/d", 0o755), "n/d: n is not a directory"),
        (Archive::new().symlink("a", "b").symlink("b", "a").file("a/x", b""), "a/x: too many symbolic links"),
        (chain.file("l0/x", b""), "l0/x: too many symbolic links"),
        (Archive::new().link("a", "none"), "a: a hard link to none, which"),
        (Archive::new().dir("d", 0o755).link("a", "d"), "a: a hard link to d, which"),
        (Archive::new().file(".wh.d", b"").link("a", "d"), "a: a hard link to d, which"),
        (Archive::new().file("d/f", b"").link("d", "d/f"), "d: a hard link to d/f, which"),
        (Archive::new().file(".wh.", b""), ".wh.: this whiteout"),
        (Archive::new().file("d/.wh..", b""), "d/.wh..: this whiteout"),
        (Archive::new().file(".wh...", b""), ".wh...: this whiteout"),
        (Archive::new().file(".wh.d/x", b""), ".wh.d/x: no file in a layer"),
        (Archive::new().symlink("s", ""), "s: a symbolic link with a text"),
        (Archive::new().pax("linkpath", "x".repeat(4096)).symlink("s", "x"), "s: a symbolic link with a text"),
        (Archive::new().pax("linkpath", "x\0y").symlink("s", "x"), "s: a symbolic link with a text"),
        (name("a\0b"), "path \"a\\0b\" has a NUL byte"),
        (name(&"x".repeat(256)), "has a component of more than 255 bytes"),
        (name(&"x/".repeat(2100)), "more than 4096"),
        (name(&"/x".repeat(100_000)), "the path has 200000 bytes, more than 4096"),
        (
            Archive::new().pax("path", "new\nline").raw(&Raw { flag: b'9', ..Raw::default() }, b""),
            "new\\nline: the archive gives an unknown type '9'",
        ),
        (Archive::new().pax("size", "9000000000000000000").file("big", b""), "big: the layer has more than"),
        (
            Archive::new().pax("GNU.sparse.map", "0,0").pax("GNU.sparse.size", "9000000000000000000").file("hole", b""),
            "hole: the layer has more than",
        ),
    ];
    for (archive, says) in table {
        let error = Place::new().unpack(&archive.end()).map(|u| lines(&u)).expect_err(says);
        assert!(error.to_string().contains(says), "{error} should say {says}");
    }
}

#[test]
fn an_archive_that_is_cut_off_anywhere_in_an_entry_is_an_error() {
    let archive = Archive::new().pax("path", "long").file("a", &[7; 3000]).cut();
    for length in (1..archive.len()).step_by(97) {
        assert!(Place::new().unpack(&archive[..length]).is_err(), "{length}");
    }
}

#[test]
fn bounds_hold_for_what_an_archive_makes_of_few_bytes() {
    let options = UnpackOptions { max_bytes: 1 << 20, max_index: 100_000, ..UnpackOptions::default() };
    let scan = |archive: Archive| scan(&mut &archive.end()[..], &options);
    assert!(scan(Archive::new().file("fits", &[1; 1000])).is_ok());
    assert!(matches!(scan(Archive::new().pax("size", "2000000").file("f", b"")), Err(LayerError::TooLarge { .. })));
    assert!(scan(Archive::new().block(&[0; 2 << 20])).is_err(), "also after its end");
    let mut links = Archive::new().pax("SCHILY.xattr.user.big", vec![b'x'; 10_000]).file("f", b"");
    for at in 0..20 {
        links = links.link(&format!("l{at}"), "f");
    }
    assert!(matches!(scan(links), Err(LayerError::IndexTooLarge { .. })), "each link has a copy of the attributes");
    let deep = Archive::new().pax("path", "a/".repeat(1500)).file("x", b"");
    assert!(matches!(scan(deep), Err(LayerError::IndexTooLarge { .. })), "implied directories count");
}

#[test]
fn in_a_plain_archive_no_name_removes_anything() {
    let options = UnpackOptions { names: Names::Plain, ..UnpackOptions::default() };
    for name in [&b"a/.wh.b"[..], b".wh..wh..opq", b".wh..wh.plnk/1", b".wh.d/f"] {
        let archive = Archive::new().raw(&Raw { name, ..Raw::default() }, b"").end();
        let error = scan(&mut &archive[..], &options).unwrap_err();
        assert!(matches!(error, LayerError::Reserved { .. }), "{error}");
    }
}
