use std::io::Read;

use super::*;
use crate::layer::archive::{Archive, Raw};

/// Returns the entries and their contents.
fn read(archive: &[u8]) -> Result<Vec<(Member, Vec<u8>)>, TarError> {
    let mut reader = Reader::new(archive);
    let mut all = Vec::new();
    while let Some(member) = reader.next_member()? {
        let mut data = Vec::new();
        reader.read_to_end(&mut data).map_err(|source| TarError::Read { offset: 0, source })?;
        all.push((member, data));
    }
    reader.drain()?;
    Ok(all)
}

fn one(archive: Archive) -> (Member, Vec<u8>) {
    let mut all = read(&archive.end()).expect("a good archive");
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[test]
fn headers_from_before_posix_are_read() {
    let old = Raw { name: b"old", flag: 0, magic: b"", size: b"         2 ", ..Raw::default() };
    let (member, data) = one(Archive::new().raw(&old, b"hi"));
    assert_eq!((member.kind, &data[..], member.mtime), (MemberKind::File { size: 2 }, &b"hi"[..], 100));
    let (member, _) = one(Archive::new().raw(&Raw { name: b"old/", flag: 0, magic: b"", ..Raw::default() }, b""));
    assert_eq!(member.kind, MemberKind::Dir);
    let (member, data) = one(Archive::new().raw(&Raw { flag: b'7', size: b"00000000001", ..Raw::default() }, b"c"));
    assert_eq!((member.kind, &data[..]), (MemberKind::File { size: 1 }, &b"c"[..]), "a contiguous file");
}

#[test]
fn long_names_of_gnu_and_of_pax_are_read() {
    let long = "d/".repeat(200) + "name";
    let size = format!("{:011o}", long.len() + 1);
    let gnu = |flag| Raw { name: b"././@LongLink", flag, size: size.as_bytes(), magic: b"ustar  \0", ..Raw::default() };
    let text = [long.as_bytes(), b"\0"].concat();
    let (member, _) = one(Archive::new().raw(&gnu(b'L'), &text).raw(&gnu(b'K'), &text).symlink("short", "short"));
    assert_eq!(member.name, long.as_bytes());
    assert_eq!(member.kind, MemberKind::Symlink { target: long.clone().into_bytes() });

    let (member, _) = one(Archive::new().pax("path", &long).pax("linkpath", b"a\xff\n").symlink("short", "short"));
    assert_eq!(member.name, long.as_bytes());
    assert_eq!(member.kind, MemberKind::Symlink { target: b"a\xff\n".to_vec() });
}

#[test]
fn pax_records_win_over_the_header_and_only_for_one_entry() {
    let archive = Archive::new()
        .pax("size", "3")
        .pax("uid", "4000000000")
        .pax("gid", "7")
        .pax("mtime", "-1.25")
        .pax("SCHILY.xattr.user.x", b"\0=\n")
        .pax("comment", "none")
        .raw(&Raw { size: b"00000000777", ..Raw::default() }, b"abc")
        .file("next", b"");
    let all = read(&archive.end()).unwrap();
    let (first, data) = &all[0];
    assert_eq!((first.uid, first.gid, first.mtime, &data[..]), (4_000_000_000, 7, -2, &b"abc"[..]));
    assert_eq!(first.xattrs[&b"user.x"[..]], b"\0=\n");
    assert_eq!((all[1].0.uid, all[1].0.mtime, all[1].0.xattrs.len()), (0, 100, 0));
}

#[test]
fn global_headers_and_labels_are_skipped() {
    let global = Raw { name: b"g", flag: b'g', size: b"00000000020", ..Raw::default() };
    let label = Raw { name: b"tape", flag: b'V', magic: b"ustar  \0", ..Raw::default() };
    let (member, _) = one(Archive::new().raw(&global, b"16 path=evil...\n").raw(&label, b"").file("file", b""));
    assert_eq!(member.name, b"file");
}

#[test]
fn numbers_in_base_256_are_read() {
    let raw = Raw {
        uid: b"\x80\0\0\0\0\x20\0\0",
        mtime: b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe",
        size: b"\x80\0\0\0\0\0\0\0\0\0\0\x02",
        magic: b"ustar  \0",
        ..Raw::default()
    };
    let (member, data) = one(Archive::new().raw(&raw, b"hi"));
    assert_eq!((member.uid, member.mtime, &data[..]), (0x20_0000, -2, &b"hi"[..]));
}

#[test]
fn entries_without_contents_may_say_a_size_and_dumpdirs_have_some() {
    let link = Raw { name: b"l", flag: b'1', link: b"f", size: b"00000001000", ..Raw::default() };
    let dump = Raw { name: b"d/", flag: b'D', size: b"00000000004", magic: b"ustar  \0", ..Raw::default() };
    let all = read(&Archive::new().raw(&link, b"").raw(&dump, b"Yf\0\0").file("f", b"x").end()).unwrap();
    assert_eq!(all[0].0.kind, MemberKind::Hardlink { target: b"f".to_vec() });
    assert_eq!(all[1].0.kind, MemberKind::Dir);
    assert_eq!(all[2].1, b"x");
}

#[test]
fn sparse_files_of_every_format_are_files_with_zeros() {
    let expected = [&b"head"[..], &[0; 1000], b"tail", &[0; 20]].concat();
    let size = expected.len().to_string();
    let data = Raw { name: b"GNUSparseFile.0/s", size: b"00000000010", ..Raw::default() };

    let mut archives = vec![
        (
            "PAX 0.0",
            Archive::new()
                .pax("GNU.sparse.size", &size)
                .pax("GNU.sparse.numblocks", "2")
                .pax("GNU.sparse.offset", "0")
                .pax("GNU.sparse.numbytes", "4")
                .pax("GNU.sparse.offset", "1004")
                .pax("GNU.sparse.numbytes", "4")
                .raw(&Raw { name: b"s", ..data }, b"headtail"),
        ),
        (
            "PAX 0.1",
            Archive::new()
                .pax("GNU.sparse.name", "s")
                .pax("GNU.sparse.size", &size)
                .pax("GNU.sparse.map", "0,4,1004,4")
                .raw(&data, b"headtail"),
        ),
    ];
    let mut map = b"2\n0\n4\n1004\n4\n".to_vec();
    map.resize(512, 0);
    map.extend_from_slice(b"headtail");
    archives.push((
        "PAX 1.0",
        Archive::new()
            .pax("GNU.sparse.major", "1")
            .pax("GNU.sparse.minor", "0")
            .pax("GNU.sparse.name", "s")
            .pax("GNU.sparse.realsize", &size)
            .raw(&Raw { size: b"00000001010", ..data }, &map),
    ));
    for (format, archive) in archives {
        let (member, contents) = one(archive.file("after", b"x").only_first());
        assert_eq!((&member.name[..], member.kind), (&b"s"[..], MemberKind::File { size: 1028 }), "{format}");
        assert!(contents == expected, "{format}");
    }
}

#[test]
fn gnu_tar_and_this_reader_agree_on_sparse_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("s")).unwrap();
    use std::os::unix::fs::FileExt;
    // So many fragments that the old format needs blocks of continuation.
    for at in 0..60u8 {
        file.write_at(&[at + 1; 4096], u64::from(at) * 128 * 1024).unwrap();
    }
    file.set_len(10 << 20).unwrap();
    let expected = std::fs::read(dir.path().join("s")).unwrap();
    for format in
        ["--format=gnu", "--format=pax --sparse-version=0.0", "--format=pax --sparse-version=0.1", "--format=pax"]
    {
        let args = format.split(' ').chain(["--sparse", "--hole-detection=raw", "-cf", "-", "s"]);
        let Ok(output) = std::process::Command::new("tar").args(args).current_dir(dir.path()).output() else {
            eprintln!("skipped: there is no tar");
            return;
        };
        if !output.status.success() {
            eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
            return;
        }
        assert!(output.stdout.len() < 1 << 20, "{format}: tar wrote no holes");
        let all = read(&output.stdout).unwrap();
        assert_eq!((all.len(), &all[0].0.name[..]), (1, &b"s"[..]), "{format}");
        assert!(all[0].1 == expected, "{format}");
    }
}

#[test]
fn what_is_no_archive_is_an_error_that_says_so() {
    let huge_pax = Raw { name: b"pax", flag: b'x', size: b"77777777777", ..Raw::default() };
    let huge_name = Raw { name: b"long", flag: b'L', size: b"00010000001", ..Raw::default() };
    let mut checksum = Archive::new().file("file", b"x").end();
    checksum[5] ^= 1;
    let sparse = |map: &str, size: &str| {
        let archive = Archive::new().pax("GNU.sparse.size", size).pax("GNU.sparse.map", map);
        archive.raw(&Raw { size: b"00000000004", ..Raw::default() }, b"abcd").end()
    };
    let field = |raw: Raw<'_>| Archive::new().raw(&raw, b"").end();
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("text", b"This is no archive, just some text. ".repeat(30), "no tar header at byte 0"),
        ("checksum", checksum, "no tar header at byte 0"),
        (
            "zeros inside",
            Archive::new().file("a", b"").block(&[0; 512]).file("b", b"").end(),
            "no tar header at byte 512",
        ),
        ("half a header", Archive::new().file("a", b"").cut()[..300].to_vec(), "cut off"),
        ("half a file", Archive::new().file("a", &[1; 2000]).cut()[..1500].to_vec(), "cut off"),
        ("no padding", Archive::new().file("a", &[1; 100]).file("b", b"").cut()[..700].to_vec(), "cut off"),
        ("only an extended header", Archive::new().pax("path", "x").file("a", b"").cut()[..1024].to_vec(), "cut off"),
        ("mode", field(Raw { mode: b"rw-r--r", ..Raw::default() }), "file: the archive gives a bad mode"),
        ("uid", field(Raw { uid: b"\x80\0\0\x01\0\0\0\0", ..Raw::default() }), "bad uid"),
        ("uid -1", Archive::new().pax("uid", "4294967295").file("f", b"").end(), "bad uid"),
        ("gid", Archive::new().pax("gid", "-1").file("f", b"").end(), "bad gid"),
        ("size", Archive::new().pax("size", "9223372036854775808").file("f", b"").end(), "bad size"),
        ("negative size", field(Raw { size: &[0xff; 12], ..Raw::default() }), "bad size"),
        ("time", Archive::new().pax("mtime", "now").file("f", b"").end(), "bad time"),
        ("type", field(Raw { flag: b'M', ..Raw::default() }), "unknown type 'M'"),
        ("socket", field(Raw { flag: b's', ..Raw::default() }), "unknown type 's'"),
        ("pax size", Archive::new().raw(&huge_pax, b"").end(), "more than 1048576 bytes"),
        ("name size", Archive::new().raw(&huge_name, b"").end(), "more than 1048576 bytes"),
        ("map out of order", sparse("4,2,0,2", "10"), "bad map"),
        ("map too long", sparse("0,2,9,2", "10"), "bad map"),
        ("map overflows", sparse("0,4,18446744073709551615,2", "10"), "bad map"),
        ("map and data differ", sparse("0,2", "10"), "bad map"),
        ("odd map", sparse("0,2,3", "10"), "bad map"),
    ];
    for (what, archive, says) in table {
        let error = read(&archive).map(|all| all.len()).expect_err(what);
        let text = match &error {
            TarError::Read { source, .. } => source.to_string(),
            error => error.to_string(),
        };
        assert!(text.contains(says), "{what}: {text}");
    }
}

#[test]
fn an_archive_may_end_without_zeros_and_go_on_after_them() {
    assert_eq!(read(b"").unwrap(), []);
    assert_eq!(read(&Archive::new().file("a", b"x").cut()).unwrap().len(), 1);
    assert_eq!(read(&Archive::new().file("a", b"x").block(&[0; 512]).cut()).unwrap().len(), 1);
    let mut reader_input = Archive::new().file("a", b"x").block(&[0; 1024]).block(&[7; 70_000]).file("b", b"").cut();
    reader_input.push(1);
    let mut input = &reader_input[..];
    let mut reader = Reader::new(&mut input);
    while reader.next_member().unwrap().is_some() {}
    reader.drain().unwrap();
    drop(reader);
    assert!(input.is_empty(), "all of it was read, for the digest");
}

impl Archive {
    /// Returns the archive without its last entry, which is a small file.
    fn only_first(self) -> Archive {
        let bytes = self.cut();
        Archive::new().block(&bytes[..bytes.len() - 1024])
    }
}
