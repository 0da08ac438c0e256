use super::*;

fn location(text: &str) -> ContextLocation {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn what_a_context_can_be() {
    assert_eq!(location("-"), ContextLocation::Stdin);
    for path in [".", "a/b", "/a:b", "./-", "context.tar.gz", "github.com"] {
        assert_eq!(location(path), ContextLocation::Path(path.into()));
    }
    assert_eq!(location("http://a/b.tar"), ContextLocation::Url("http://a/b.tar".into()));
    for git in ["https://a/b.git", "git@a:b", "ssh://a/b", "git://a/b", "github.com/a/b#v1"] {
        assert!(matches!(location(git), ContextLocation::Git(_)), "{git}");
    }
    for (bad, word) in [("", "no build context"), ("s3://bucket/a", "s3"), ("https://a/b.git#-x", "no build context")] {
        let error = bad.parse::<ContextLocation>().expect_err(bad).to_string();
        assert!(error.contains(word), "{error}");
    }
    assert!(!"https://u:secret@a/b.git#-x".parse::<ContextLocation>().expect_err("bad").to_string().contains("secret"));
}

#[test]
fn what_a_context_with_a_name_can_be() {
    let named = |text: &str| text.parse::<NamedContext>().unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(named("a=docs").location, NamedLocation::Files(ContextLocation::Path("docs".into())));
    assert_eq!(named("docker.io/library/a=docker-image://b:1").location, NamedLocation::Image("b:1".into()));
    let layout = |path: &str, tag: Option<&str>, digest: Option<&str>| NamedLocation::Layout {
        path: path.into(),
        tag: tag.map(str::to_owned),
        digest: digest.map(str::to_owned),
    };
    assert_eq!(named("a=oci-layout:///x/y").location, layout("/x/y", None, None));
    assert_eq!(named("a=oci-layout://./x:1").location, layout("./x", Some("1"), None));
    assert_eq!(named("a=oci-layout:///x:y/z:1@sha256:0").location, layout("/x:y/z", Some("1"), Some("sha256:0")));
    for bad in ["a", "=b", "a=", "a=target:b", "a=-", "a=oci-layout://", "a=docker-image://", "a=https://h/b.git#-x"] {
        assert!(bad.parse::<NamedContext>().is_err(), "{bad}");
    }
}

#[test]
fn an_archive_is_known_by_its_contents() {
    let mut header = [0; 512];
    header[..5].copy_from_slice(b"a.txt");
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(is_archive(&header) && is_archive(&[0; 512]));
    for head in [&b"\x1f\x8b\x08\0"[..], b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0\0", b"BZh91AY&SY"] {
        assert!(is_archive(head), "{head:?}");
    }
    header[0] = b'b';
    for head in [&b""[..], b"FROM scratch\n", b"BZhello world", &[0; 511], &header] {
        assert!(!is_archive(head), "{head:?}");
    }
}

/// Writes an archive with these empty files.
fn tar_of(names: &[&str]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for name in names {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &[][..]).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn names_of_whiteouts_in_an_archive_are_refused_and_hide_nothing() {
    for names in [&["a", ".wh.a"][..], &["a", ".wh..wh.b"], &[".wh.a"], &["d/.wh..wh..opq", "d/a"], &[".wh.d/a"]] {
        let dir = tempfile::tempdir().unwrap();
        let Err(error) = archive::read(&mut &tar_of(names)[..], dir.path(), "it") else { panic!("{names:?}") };
        let text = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(text.contains(".wh."), "{text}");
    }
}

#[test]
fn a_file_with_names_in_and_out_of_the_folder_that_counts_is_in_it() {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o640);
    tar.append_data(&mut header, "a/first", &b"hello"[..]).unwrap();
    for name in ["sub/x", "sub/y", "z"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Link);
        header.set_size(0);
        header.set_mode(0o640);
        tar.append_link(&mut header, name, "a/first").unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let Ok(Content::Archive(entries)) = archive::read(&mut &tar.into_inner().unwrap()[..], dir.path(), "it") else {
        panic!("no archive")
    };
    let entries = archive::below(entries, &TreePath::new("sub").unwrap());
    let found: Vec<_> = entries.iter().map(|entry| (entry.path.to_string(), entry.kind.word())).collect();
    assert_eq!(
        found,
        [(".", "directory"), ("x", "file"), ("y", "hard link")].map(|(path, kind)| (path.to_owned(), kind))
    );
    assert_eq!(std::fs::read(dir.path().join("sub/x")).unwrap(), b"hello");
    let gathered = Gathered { root: dir.path().join("sub"), entries };
    assert!(Context::of_gathered(gathered, "it").is_ok());
}
