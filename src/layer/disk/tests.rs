use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::*;
use crate::tree::Meta;

fn entry(path: &str, kind: Kind, mode: u32) -> Entry {
    let meta = Meta { mode, mtime: Mtime::from_secs(1_000_000), ..Meta::default() };
    Entry { path: TreePath::new(path).unwrap(), kind, meta, implied: false }
}

fn file(path: &str, size: u64) -> Entry {
    entry(path, Kind::File { size, digest: None }, 0o640)
}

fn tree(dir: &tempfile::TempDir) -> DiskTree {
    DiskTree::open(dir.path(), Owners::Exported).unwrap()
}

#[test]
fn contents_come_from_a_reader_or_a_file_and_holes_stay_holes() {
    let dir = tempfile::tempdir().unwrap();
    let source = tempfile::tempfile().unwrap();
    source.write_all_at(b"head", 0).unwrap();
    source.write_all_at(b"tail", 3 << 20).unwrap();
    let size = (3 << 20) + 4;
    let mut expected = vec![0; size];
    source.read_exact_at(&mut expected, 0).unwrap();
    let size = size as u64;

    let mut tree = tree(&dir);
    assert_eq!(tree.create(&file("cloned", size), Contents::File(&source)).unwrap(), None);
    let digest = tree.create(&file("read", size), Contents::Reader(&mut &expected[..])).unwrap();
    assert_eq!(digest, Some(FileDigest(*crate::oci::Digest::of(&expected).raw())));
    tree.create(&file("zeros", 1 << 20), Contents::Reader(&mut io::repeat(0).take(1 << 20))).unwrap();
    tree.create(&file("empty", 0), Contents::None).unwrap();
    tree.finish().unwrap();
    for name in ["cloned", "read"] {
        assert!(std::fs::read(dir.path().join(name)).unwrap() == expected, "{name}");
        let meta = dir.path().join(name).metadata().unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()), (0o640, 1_000_000, 0));
    }
    assert!(dir.path().join("read").metadata().unwrap().blocks() * 512 < 1 << 20, "a hole stays a hole");
    assert_eq!(dir.path().join("zeros").metadata().unwrap().len(), 1 << 20);
}

#[test]
fn a_file_of_another_length_than_announced_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut tree = tree(&dir);
    for (size, data) in [(3, &b"ab"[..]), (1, b"ab"), (1, b"")] {
        let error = tree.create(&file("f", size), Contents::Reader(&mut &data[..])).unwrap_err();
        assert!(matches!(error, LayerError::Length { found, .. } if found == data.len() as u64), "{error}");
    }
}

#[test]
fn everything_replaces_everything() {
    let target = b"/nowhere".to_vec();
    let kinds = [
        Kind::File { size: 0, digest: None },
        Kind::Dir,
        Kind::Symlink { target },
        Kind::Fifo,
        Kind::Whiteout,
        Kind::Char { device: (1, 3) },
        Kind::Hardlink { target: TreePath::new("other").unwrap() },
    ];
    let dir = tempfile::tempdir().unwrap();
    let mut tree = tree(&dir);
    tree.create(&file("other", 0), Contents::None).unwrap();
    for first in &kinds {
        for second in &kinds {
            tree.create(&entry("x", first.clone(), 0o755), Contents::None).unwrap();
            if first.is_dir() {
                tree.create(&entry("x/deep", Kind::Dir, 0o000), Contents::None).unwrap();
                tree.create(&file("x/deep/file", 0), Contents::None).unwrap();
            }
            tree.create(&entry("x", second.clone(), 0o755), Contents::None)
                .unwrap_or_else(|error| panic!("{} over {}: {error:?}", second.word(), first.word()));
            let there = dir.path().join("x").symlink_metadata();
            assert_eq!(there.is_err(), matches!(second, Kind::Char { .. }));
            assert_eq!(there.is_ok_and(|meta| meta.is_dir()), second.is_dir());
            tree.remove(&TreePath::new("x").unwrap()).unwrap();
        }
    }
    tree.finish().unwrap();
}

#[test]
fn a_missing_parent_or_a_link_in_its_place_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/tmp", dir.path().join("link")).unwrap();
    let mut tree = tree(&dir);
    for parent in ["none", "link"] {
        for kind in [Kind::File { size: 0, digest: None }, Kind::Dir, Kind::Fifo, Kind::Char { device: (1, 3) }] {
            let entry = entry(&format!("{parent}/coracle-test"), kind, 0o755);
            let error = tree.create(&entry, Contents::None).unwrap_err();
            assert!(matches!(error, LayerError::Io { .. }), "{error}");
        }
        tree.remove(&TreePath::new(format!("{parent}/x")).unwrap()).unwrap_or_default();
    }
    assert!(!std::path::Path::new("/tmp/coracle-test").exists());
}

#[test]
fn an_error_of_the_system_can_be_reached_through_its_source() {
    use std::error::Error as _;
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(Errno::NOSPC.raw_os_error()))
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let error = tree(&dir).create(&file("f", 1), Contents::Reader(&mut Broken)).unwrap_err();
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>()).unwrap();
    assert_eq!(source.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    assert_eq!(error.to_string(), "cannot read the contents of f");
    if let Ok(full) = File::options().write(true).open("/dev/full") {
        let mut copier = contents::Copier::default();
        let path = TreePath::new("f").unwrap();
        let error = copier.stream(&mut &b"x"[..], &full.into(), &path).unwrap_err();
        assert!(matches!(error, LayerError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull));
    }
}

#[test]
fn native_owners_keep_setuid_bits_and_capabilities() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root may change owners");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut tree = DiskTree::open(dir.path(), Owners::Native).unwrap();
    let capability = [&[1, 0, 0, 2, 0, 4][..], &[0; 14]].concat();
    let mut program = file("program", 0);
    program.meta = Meta {
        mode: 0o6755,
        uid: 1000,
        gid: 2000,
        mtime: Mtime::from_secs(5),
        xattrs: BTreeMap::from([(b"security.capability".to_vec(), capability.clone())]),
    };
    tree.create(&program, Contents::None).unwrap();
    let mut link = entry("link", Kind::Symlink { target: b"program".to_vec() }, 0o777);
    link.meta.uid = 7;
    tree.create(&link, Contents::None).unwrap();
    tree.finish().unwrap();
    let path = dir.path().join("program");
    let meta = path.metadata().unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.mtime()), (0o6755, 1000, 2000, 5));
    let mut value = [0; 100];
    match rustix::fs::getxattr(&path, "security.capability", &mut value) {
        Ok(length) => assert_eq!(&value[..length], capability),
        Err(error) => eprintln!("not checked: capabilities: {error}"),
    }
    assert_eq!(dir.path().join("link").symlink_metadata().unwrap().uid(), 7);
}

#[test]
fn a_spare_file_is_moved_and_gets_the_attributes() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let spare = other.path().join("spare");
    std::fs::write(&spare, "text").unwrap();
    let mut tree = tree(&dir);
    tree.create(&file("there", 3), Contents::Reader(&mut &b"old"[..])).unwrap();
    assert_eq!(tree.create(&file("there", 4), Contents::Spare(&spare)).unwrap(), None);
    tree.finish().unwrap();
    let (now, before) = (dir.path().join("there").metadata().unwrap(), spare.metadata().unwrap());
    assert_eq!((now.ino(), now.mode() & 0o7777, now.mtime()), (before.ino(), 0o640, 1_000_000));
    assert_eq!(std::fs::read(dir.path().join("there")).unwrap(), b"text");
}
