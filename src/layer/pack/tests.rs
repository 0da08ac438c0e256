use std::collections::BTreeMap;
use std::io::{Read, Seek};

use proptest::prelude::*;

use super::*;
use crate::layer::{UnpackOptions, Unpacked, scan};
use crate::tree::{FileDigest, Meta, Mtime};

/// An index, and the contents of its files.
type Layer = (Vec<Entry>, BTreeMap<TreePath, Vec<u8>>);

fn archive((entries, contents): &Layer, options: &PackOptions) -> Result<Vec<u8>, LayerError> {
    let mut out = Vec::new();
    let mut open = |entry: &Entry| {
        let mut file = tempfile::tempfile()?;
        file.write_all(&contents[&entry.path])?;
        file.rewind()?;
        Ok(file)
    };
    pack(entries, &mut open, &mut out, options)?;
    Ok(out)
}

fn scanned(archive: &[u8]) -> Unpacked {
    scan(&mut &archive[..], &UnpackOptions::default()).expect("what we wrote can be read")
}

fn entry(path: impl AsRef<[u8]>, kind: Kind) -> Entry {
    let meta = Meta { mode: 0o644, mtime: Mtime::from_secs(1_600_000_000), ..Meta::default() };
    Entry { path: TreePath::new(path).unwrap(), kind, meta, implied: false }
}

fn file(path: impl AsRef<[u8]>, data: &[u8]) -> (Entry, Vec<u8>) {
    let digest = Some(FileDigest(*crate::oci::Digest::of(data).raw()));
    (entry(path, Kind::File { size: data.len() as u64, digest }), data.to_vec())
}

fn layer(entries: Vec<(Entry, Vec<u8>)>) -> Layer {
    let contents = entries.iter().map(|(entry, data)| (entry.path.clone(), data.clone())).collect();
    (entries.into_iter().map(|(entry, _)| entry).collect(), contents)
}

#[test]
fn plain_entries_are_plain_ustar() {
    let dir = Entry { meta: Meta { mode: 0o755, ..Meta::default() }, ..entry("etc", Kind::Dir) };
    let out = archive(&layer(vec![(dir, vec![]), file("etc/os", b"ID=x\n")]), &PackOptions::default()).unwrap();
    assert_eq!(out.len(), 512 * (1 + 2 + 2), "two headers, one block, two blocks of zeros");
    assert_eq!(&out[..5], b"etc/\0");
    assert_eq!(&out[100..156], b"0000755\x000000000\x000000000\x0000000000000\x0000000000000\x00007760\0 ");
    assert_eq!(&out[257..265], b"ustar\x0000");
    assert!(out[265..329].iter().all(|&b| b == 0), "no names of users");
    assert_eq!(&out[512 + 136..512 + 147], b"13727410000", "whole seconds");
}

#[test]
fn a_whiteout_is_an_empty_file_and_a_root_is_a_dot() {
    let mut root = entry("", Kind::Dir);
    root.meta.mode = 0o755;
    let gone = Entry { meta: Meta::default(), ..entry("a/gone", Kind::Whiteout) };
    let implied = Entry { implied: true, meta: Meta { mode: 0o755, ..Meta::default() }, ..entry("a", Kind::Dir) };
    let entries = vec![root, implied, gone];
    let out = archive(&(entries.clone(), BTreeMap::new()), &PackOptions::default()).unwrap();
    assert_eq!((&out[..3], out[156]), (&b"./\0"[..], b'5'));
    assert_eq!((&out[512..512 + 11], out[512 + 156]), (&b"a/.wh.gone\0"[..], b'0'));
    assert_eq!(scanned(&out).entries, entries);
}

#[test]
fn times_are_clamped_and_not_set() {
    let (mut old, data) = file("old", b"");
    old.meta.mtime = Mtime { secs: -5, nanos: 999 };
    let layer = layer(vec![file("new", b""), (old, data)]);
    let out = archive(&layer, &PackOptions { clamp: Some(1000) }).unwrap();
    let times: Vec<i64> = scanned(&out).entries[1..].iter().map(|entry| entry.meta.mtime.secs).collect();
    assert_eq!(times, [1000, -5]);
}

#[test]
fn what_an_archive_cannot_hold_is_an_error_that_names_it() {
    let device = Kind::Char { device: (1 << 22, 0) };
    let mut odd = entry("odd", Kind::Dir);
    odd.meta.xattrs.insert(b"user.a=b".to_vec(), vec![]);
    let mut big = entry("big", Kind::Dir);
    big.meta.xattrs.insert(b"user.a".to_vec(), vec![0; 2 << 20]);
    for (entry, says) in [
        (entry("d/.wh.x", Kind::Dir), "d/.wh.x: no file in a layer"),
        (entry(".wh.d/x", Kind::Fifo), ".wh.d/x: no file in a layer"),
        (entry("x".repeat(252), Kind::Whiteout), "xxx: an archive cannot hold the removal of so long a name"),
        (entry("node", device), "node: an archive cannot hold so large a device"),
        (odd, "odd/: an archive cannot hold"),
        (big, "big/: an archive cannot hold"),
    ] {
        let error = archive(&(vec![entry], BTreeMap::new()), &PackOptions::default()).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_file_that_changed_its_length_is_an_error_that_names_it() {
    for (announced, data) in [(5, &b"four"[..]), (3, b"four"), (0, b"four"), (1 << 20, b"")] {
        let (mut entry, data) = file("etc/changing", data);
        entry.kind = Kind::File { size: announced, digest: None };
        let error = archive(&layer(vec![(entry, data)]), &PackOptions::default()).unwrap_err();
        assert!(matches!(&error, LayerError::Tar(TarError::Length { expected, .. }) if *expected == announced));
        assert!(error.to_string().starts_with("etc/changing: "), "{error}");
    }
}

#[test]
fn sizes_and_ids_beyond_ustar_are_pax_records() {
    let (mut entry, data) = file("f", b"");
    entry.meta = Meta { uid: 2_097_152, gid: u32::MAX - 1, mtime: Mtime::from_secs(-1), ..entry.meta };
    let at_limit = Entry { meta: Meta { uid: 2_097_151, ..Meta::default() }, ..file("g", b"").0 };
    let layer = layer(vec![(entry, data.clone()), (at_limit, data)]);
    let out = archive(&layer, &PackOptions::default()).unwrap();
    assert_eq!(&out[512..570], b"18 gid=4294967294\n12 mtime=-1\n15 uid=2097152\n\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(out.len(), 512 * (3 + 1 + 2), "the second one needs none");
    assert_eq!(scanned(&out).entries[1..], layer.0);

    // A file of 8 GiB: only its headers are looked at.
    struct Start(Vec<u8>);
    impl Write for Start {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.extend_from_slice(buf);
            if self.0.len() > 1 << 20 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(buf.len()) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let huge = Member {
        name: b"huge".to_vec(),
        kind: MemberKind::File { size: 8 << 30 },
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 0,
        xattrs: BTreeMap::new(),
    };
    let mut start = Start(Vec::new());
    let error = Writer::new(&mut start).append(&huge, &mut io::repeat(1)).unwrap_err();
    assert!(matches!(error, TarError::Write { .. }));
    let read = crate::layer::tar::Reader::new(&start.0[..]).next_member().unwrap().unwrap();
    assert_eq!(read, huge);
}

/// A tree with all that can be in it.
fn everything() -> Layer {
    let long = "a-long-name/".repeat(20) + "end";
    let mut all = vec![
        file("a", b"first"),
        (Entry { ..entry("b", Kind::Hardlink { target: TreePath::new("a").unwrap() }) }, vec![]),
        (entry("link", Kind::Symlink { target: b"/etc/\xc3\xa4".to_vec() }), vec![]),
        file("n\u{f6}n-ascii", &[7; 70_000]),
        file(b"not-\xff\xfe-utf-8", b"x"),
        (entry("pipe", Kind::Fifo), vec![]),
        (entry("tty", Kind::Char { device: (5, 1) }), vec![]),
    ];
    all.push((entry(&long, Kind::Symlink { target: long.clone().into_bytes() }), vec![]));
    all[0].0.meta.xattrs.insert(b"user.note".to_vec(), b"a=b\n\0".to_vec());
    all[1].0.meta = all[0].0.meta.clone();
    all.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    layer(all)
}

#[test]
fn the_tar_crate_reads_what_we_write() {
    let layer = everything();
    let out = archive(&layer, &PackOptions::default()).unwrap();
    let mut judge = ::tar::Archive::new(&out[..]);
    let mut count = 0;
    for (item, ours) in judge.entries().unwrap().zip(&layer.0) {
        let mut item = item.unwrap();
        assert_eq!(&*item.path_bytes(), ours.path.as_bytes());
        assert_eq!(item.header().mode().unwrap(), ours.meta.mode);
        assert_eq!(item.header().mtime().unwrap() as i64, ours.meta.mtime.secs);
        match &ours.kind {
            Kind::Symlink { target } => assert_eq!(&*item.link_name_bytes().unwrap(), target.as_slice()),
            Kind::Hardlink { target } => assert_eq!(&*item.link_name_bytes().unwrap(), target.as_bytes()),
            _ => {}
        }
        let mut data = Vec::new();
        item.read_to_end(&mut data).unwrap();
        assert!(data == layer.1[&ours.path], "{}", ours.path);
        count += 1;
    }
    assert_eq!(count, layer.0.len());
}

#[test]
fn gnu_tar_reads_what_we_write() {
    let layer = everything();
    let out = archive(&layer, &PackOptions::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("layer.tar");
    std::fs::write(&path, &out).unwrap();
    let Ok(list) = std::process::Command::new("tar").args(["--quoting-style=literal", "-tf"]).arg(&path).output()
    else {
        eprintln!("skipped: there is no tar");
        return;
    };
    assert!(list.status.success() && list.stderr.is_empty(), "{}", String::from_utf8_lossy(&list.stderr));
    let expected: Vec<&[u8]> = layer.0.iter().map(|entry| entry.path.as_bytes()).collect();
    let found: Vec<&[u8]> = list.stdout.split(|&b| b == b'\n').filter(|line| !line.is_empty()).collect();
    assert_eq!(found, expected);
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-d]{1,2}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(1u8.., 1..40),
        1 => "[a-zäöü\n]{90,120}".prop_map(String::into_bytes),
    ]
    .prop_filter("a name", |name| {
        !name.contains(&b'/') && !name.starts_with(b".wh.") && name != b"." && name != b".." && name.len() <= 251
    })
}

fn kind() -> impl Strategy<Value = (Kind, Vec<u8>)> {
    let file = proptest::collection::vec(any::<u8>(), 0..1500).prop_map(|data| {
        let digest = Some(FileDigest(*crate::oci::Digest::of(&data).raw()));
        (Kind::File { size: data.len() as u64, digest }, data)
    });
    let target = proptest::collection::vec(1u8.., 1..150);
    let device = (0u32..1 << 12, 0u32..1 << 20);
    prop_oneof![
        3 => file,
        3 => Just((Kind::Dir, vec![])),
        1 => target.prop_map(|target| (Kind::Symlink { target }, vec![])),
        1 => device.clone().prop_map(|device| (Kind::Char { device }, vec![])),
        1 => device.prop_map(|device| (Kind::Block { device }, vec![])),
        1 => Just((Kind::Fifo, vec![])),
        1 => Just((Kind::Whiteout, vec![])),
    ]
}

fn meta() -> impl Strategy<Value = Meta> {
    let id = prop_oneof![0u32..3000, 2_097_150u32..2_097_154, Just(u32::MAX - 1)];
    let secs = prop_oneof![0i64..1 << 35, Just(-1i64), any::<i64>().prop_map(|s| s.max(-i64::MAX))];
    let xattrs = proptest::collection::btree_map(
        "user\\.[a-c]{1,3}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..20),
        0..3,
    );
    (0u32..0o10000, id.clone(), id, secs, xattrs).prop_map(|(mode, uid, gid, secs, xattrs)| Meta {
        mode,
        uid,
        gid,
        mtime: Mtime::from_secs(secs),
        xattrs,
    })
}

/// A layer as an index has it: the root first, all parents there, hard links to an earlier file.
fn layers() -> impl Strategy<Value = Layer> {
    let path = proptest::collection::vec(name(), 1..5);
    proptest::collection::vec((path, kind(), meta(), any::<bool>()), 0..30).prop_map(|items| {
        let implied = Meta { mode: 0o755, ..Meta::default() };
        let mut all: BTreeMap<TreePath, (Entry, Vec<u8>)> = BTreeMap::new();
        let dir = |path: TreePath| (Entry { path, kind: Kind::Dir, meta: implied.clone(), implied: true }, vec![]);
        all.insert(TreePath::root(), dir(TreePath::root()));
        for (parts, (kind, data), mut meta, link) in items {
            let path = TreePath::new(parts.join(&b'/')).unwrap();
            let blocked = path.ancestors().any(|up| all.get(&up).is_some_and(|(entry, _)| !entry.kind.is_dir()));
            if blocked || all.contains_key(&path) {
                continue;
            }
            for up in path.ancestors() {
                all.entry(up.clone()).or_insert_with(|| dir(up));
            }
            if !matches!(kind, Kind::File { .. } | Kind::Dir) {
                meta.xattrs.clear();
            }
            let first = all.values().find(|(entry, _)| matches!(entry.kind, Kind::File { .. } | Kind::Fifo));
            let entry = match (&kind, first) {
                (Kind::Whiteout, _) => Entry { path, kind, meta: Meta::default(), implied: false },
                (Kind::Fifo, Some((first, _))) if link && first.path < path => {
                    let kind = Kind::Hardlink { target: first.path.clone() };
                    Entry { path, kind, meta: first.meta.clone(), implied: false }
                }
                _ => Entry { path, kind, meta, implied: false },
            };
            all.insert(entry.path.clone(), (entry, data));
        }
        layer(all.into_values().collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_packed_is_what_is_read_and_twice_the_same_bytes(layer in layers()) {
        let out = archive(&layer, &PackOptions::default()).unwrap();
        let read = scanned(&out);
        prop_assert_eq!(&read.entries, &layer.0);
        prop_assert_eq!(read.opaque, vec![]);
        prop_assert!(archive(&layer, &PackOptions::default()).unwrap() == out);
    }

    #[test]
    fn a_damaged_archive_never_panics(layer in layers(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut out = archive(&layer, &PackOptions::default()).unwrap();
        let at = at.index(out.len());
        out[at] = byte;
        let _ = scan(&mut &out[..], &UnpackOptions::default());
    }
}
