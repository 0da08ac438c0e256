use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::layer::{Contents, DiskTree};
use crate::tree::Owners;
use crate::tree::memory::MemoryTree;

fn entry(path: &str, kind: Kind, mode: u32, (uid, gid): (u32, u32)) -> Entry {
    let meta = Meta { mode, uid, gid, mtime: Mtime::from_secs(1_000_000), ..Meta::default() };
    Entry { path: TreePath::new(path).unwrap(), kind, meta, implied: false }
}

fn file(text: &str) -> Kind {
    let digest = FileDigest(*crate::oci::Digest::of(text.as_bytes()).raw());
    Kind::File { size: text.len() as u64, digest: Some(digest) }
}

/// A layer with a file of each kind, each with an owner of its own, sorted by path.
fn one_of_each() -> Vec<Entry> {
    let mut tagged = entry("dir/tagged", file("text"), 0o640, (3, 4));
    tagged.meta.xattrs = BTreeMap::from([(b"user.mime".to_vec(), b"text/plain".to_vec())]);
    let to_disk = Kind::Hardlink { target: TreePath::new("dev/disk").unwrap() };
    vec![
        entry("dev", Kind::Dir, 0o755, (0, 0)),
        entry("dev/disk", Kind::Block { device: (8, 1) }, 0o640, (0, 6)),
        entry("dev/disk2", to_disk, 0o640, (0, 6)),
        entry("dev/null", Kind::Char { device: (1, 3) }, 0o666, (0, 0)),
        entry("dev/zero-zero", Kind::Char { device: (0, 0) }, 0o600, (0, 0)),
        entry("dir", Kind::Dir, 0o2775, (1, 2)),
        entry("dir/program", file("elf"), 0o4755, (0, 7)),
        tagged,
        entry("link", Kind::Symlink { target: b"dir".to_vec() }, 0o777, (5, 6)),
        entry("pipe", Kind::Fifo, 0o644, (7, 4_294_967_294)),
        entry("plain", file("text"), 0o644, (0, 0)),
    ]
}

fn contents(entry: &Entry) -> &'static [u8] {
    match entry.path.name() {
        Some(b"program") => b"elf",
        Some(b"tagged" | b"plain") => b"text",
        Some(b"f") => b"x",
        _ => b"",
    }
}

/// Makes `entries` in a new folder.
fn made(entries: &[Entry], owners: Owners) -> tempfile::TempDir {
    // Not /tmp, which may be in memory and then has no attributes on old kernels.
    let parent = std::env::var_os("TMPDIR").unwrap_or("/var/tmp".into());
    let dir = tempfile::tempdir_in(parent).unwrap();
    let mut tree = DiskTree::open(dir.path(), owners).unwrap();
    for entry in entries {
        match entry.kind {
            Kind::File { .. } => tree.create(entry, Contents::Reader(&mut contents(entry))).map(drop),
            _ => tree.create(entry, Contents::None).map(drop),
        }
        .unwrap();
    }
    tree.finish().unwrap();
    dir
}

/// Reads a folder back as a step left it. Links and fifos belong to whom `special` says, and others to nobody.
fn read(dir: &tempfile::TempDir, below: &dyn Tree, special: &[(&str, (u32, u32))]) -> Vec<Entry> {
    let inode = |name: &str| dir.path().join(name).symlink_metadata().unwrap().ino();
    let special = special.iter().map(|(name, owner)| (inode(name), *owner)).collect();
    let ownership = Ownership::Emulated { special: &special, lower_inode: &|_| None };
    changes(dir.path(), below, ownership).unwrap()
}

const SPECIAL: [(&str, (u32, u32)); 2] = [("link", (5, 6)), ("pipe", (7, 4_294_967_294))];

#[test]
fn every_owner_and_device_comes_back_though_all_belongs_to_one_user_on_disk() {
    let dir = made(&one_of_each(), Owners::Emulated);
    let own = dir.path().metadata().unwrap().uid();
    for entry in one_of_each() {
        let meta = dir.path().join(entry.path.as_os_path()).symlink_metadata().unwrap();
        assert_eq!(meta.uid(), own, "{}", entry.path);
        let is_device = entry.path.as_bytes().starts_with(b"dev/");
        assert!(!is_device || meta.is_file() && meta.len() == 0 && meta.mode() & 0o7777 == 0o600, "{}", entry.path);
    }
    let read = read(&dir, &MemoryTree::new(), &SPECIAL);
    assert_eq!(read, one_of_each());
}

#[test]
fn what_root_owns_has_no_attribute() {
    let dir = made(&one_of_each(), Owners::Emulated);
    let attribute =
        |name: &str| get_xattr(&dir.path().join(name), XATTR).unwrap().map(|v| String::from_utf8(v).unwrap());
    assert_eq!(attribute("plain"), None);
    assert_eq!(attribute("dev"), None);
    assert_eq!(attribute("dir").as_deref(), Some("1:2"));
    assert_eq!(attribute("dev/null").as_deref(), Some("0:0:20666:1:3"));
    assert_eq!(attribute("dev/disk2").as_deref(), Some("0:6:60640:8:1"));
}

#[test]
fn a_new_owner_replaces_the_old_one() {
    let first = [entry("d", Kind::Dir, 0o755, (1, 2)), entry("d/f", file("x"), 0o644, (1, 2))];
    let dir = made(&first, Owners::Emulated);
    let mut tree = DiskTree::open(dir.path(), Owners::Emulated).unwrap();
    let again = [entry("d", Kind::Dir, 0o755, (0, 0)), entry("d/f", file("x"), 0o644, (0, 9))];
    tree.create(&again[0], Contents::None).unwrap();
    tree.create(&again[1], Contents::Reader(&mut &b"x"[..])).unwrap();
    tree.finish().unwrap();
    assert_eq!(read(&dir, &MemoryTree::new(), &[]), again);
}

#[test]
fn an_attribute_that_makes_no_sense_is_no_owner_and_nothing_of_it_gets_into_a_layer() {
    let dir = made(&[entry("f", file("x"), 0o644, (0, 0))], Owners::Exported);
    for value in ["", "1", "root:root", "1:2:100644:1:3", "1:2\0"] {
        rustix::fs::setxattr(dir.path().join("f"), XATTR, value.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
        let read = read(&dir, &MemoryTree::new(), &[]);
        let [file] = &read[..] else { panic!("{read:?}") };
        assert_eq!((file.meta.uid, file.meta.gid), (0, 0));
        assert_eq!((file.kind.word(), file.meta.xattrs.len()), ("file", 0));
    }
}

#[test]
fn a_link_that_overlayfs_copied_up_keeps_the_owner_that_it_had_below() {
    let link = |owner| entry("link", Kind::Symlink { target: b"x".to_vec() }, 0o777, owner);
    let (dir, lower) = (made(&[link((0, 0))], Owners::Emulated), made(&[link((0, 0))], Owners::Emulated));
    let inode = lower.path().join("link").symlink_metadata().unwrap().ino();
    let special = HashMap::from([(inode, (5, 6))]);
    let ownership = Ownership::Emulated { special: &special, lower_inode: &|_| Some(inode) };
    let below = MemoryTree::new().link("link", "x").owner(5, 6).mtime(1_000_000);
    assert_eq!(changes(dir.path(), &below, ownership).unwrap(), [], "only its time of change is another one");
    let below = MemoryTree::new().link("link", "x").mtime(1_000_000);
    let dir = made(&[link((0, 0))], Owners::Emulated);
    assert_eq!(changes(dir.path(), &below, ownership).unwrap(), [link((5, 6))]);
}

#[test]
fn in_a_full_map_a_device_has_the_owner_and_permissions_of_its_file() {
    let device = |mode, owner| entry("tun", Kind::Char { device: (10, 200) }, mode, owner);
    // Only root may give a file away.
    let is_root = rustix::process::geteuid().is_root();
    let owner =
        if is_root { (5, 6) } else { (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()) };
    let dir = made(&[device(0o640, owner)], Owners::Native);
    let path = dir.path().join("tun");
    // The root, which belongs to the caller, comes first where that is not root.
    let read = || changes(dir.path(), &MemoryTree::new(), Ownership::Native).unwrap().pop();
    assert_eq!(read(), Some(device(0o640, owner)));
    // What chmod(1) in a step does.
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(read(), Some(device(0o600, owner)));
}

#[test]
fn a_caller_without_privileges_can_read_and_remove_all_whatever_its_mode_is() {
    let closed: Vec<Entry> = one_of_each()
        .into_iter()
        .map(|entry| Entry { meta: Meta { mode: 0, ..entry.meta }, ..entry })
        .chain([entry("zone", Kind::Whiteout, 0, (0, 0))])
        .collect();
    let dir = made(&closed, Owners::Caller);
    for entry in &closed {
        let there = dir.path().join(entry.path.as_os_path()).symlink_metadata();
        match entry.kind {
            Kind::Whiteout => assert!(there.is_err(), "only the index needs to know"),
            Kind::Dir => assert_eq!(there.unwrap().mode() & 0o7777, 0o700),
            Kind::Symlink { .. } => assert!(there.unwrap().is_symlink()),
            _ => assert_eq!(there.unwrap().mode() & 0o7777, 0o600, "{}", entry.path),
        }
    }
    assert_eq!(std::fs::read(dir.path().join("dir/program")).unwrap(), b"elf");
    dir.close().unwrap();
}
