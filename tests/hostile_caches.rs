//! `coracle cache import` of what means harm: whoever writes a cache of CI may be a stranger. It stays in the folder of that cache, or is
//! refused in words, and then what was there before stays.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use coracle::oci::Digest;
use serde_json::{Value, json};
use support::{Outcome, Project, User, tar_header};

/// Name, type, link text and content.
type Member<'a> = (&'a str, u8, &'a str, &'a [u8]);

/// A header of tar, with a right checksum.
fn archive(members: &[Member<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, flag, link, content) in members {
        bytes.extend_from_slice(&tar_header(name, *flag, link, content.len() as u64, (0o4755, 0)));
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// What an export says of one cache with this content.
fn listed(id: &str, content: &[u8]) -> Value {
    json!({"id": id, "file": "x", "size": content.len(), "digest": Digest::of(content).to_string()})
}

fn list(caches: &[Value]) -> Vec<u8> {
    json!({"version": 1, "caches": caches}).to_string().into_bytes()
}

/// A user with a cache `c` that holds the file `kept`, and a folder to aim at.
struct Aim {
    user: User,
    dir: PathBuf,
}

impl Aim {
    fn new(user: User) -> Self {
        user.pull(&support::base::busybox());
        let dir = user.new_dir();
        fs::write(dir.join("canary"), "untouched").unwrap();
        let aim = Aim { user, dir };
        aim.with_cache("echo kept >/c/kept").succeeds();
        aim
    }

    fn with_cache(&self, line: &str) -> support::Built {
        Project::of(&self.user)
            .dockerfile(&format!("FROM busybox\nRUN --mount=type=cache,target=/c,id=c {line}"))
            .arg("--no-cache")
            .build()
    }

    /// Imports the archive `content` as the cache `c`.
    fn import(&self, content: &[u8]) -> Outcome {
        self.import_whole(&archive(&[
            ("coracle-caches.json", b'0', "", &list(&[listed("c", content)])),
            ("x", b'0', "", content),
        ]))
    }

    fn import_whole(&self, bytes: &[u8]) -> Outcome {
        let file = self.dir.join("export.tar");
        fs::write(&file, bytes).unwrap();
        self.user.coracle(["cache", "import", "--max-size=8m"]).arg(&file).run()
    }

    /// Nothing of what it aimed at has changed.
    fn is_untouched(&self, what: &str) {
        assert_eq!(fs::read_to_string(self.dir.join("canary")).unwrap(), "untouched", "{what}");
        let names: Vec<String> = names(&self.dir);
        assert!(names.iter().all(|name| ["canary", "export.tar"].contains(&name.as_str())), "{what}: {names:?}");
        assert!(names_below(&self.user.store().join("tmp")).is_empty(), "{what}");
    }
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn names_below(dir: &Path) -> Vec<String> {
    if dir.exists() { names(dir) } else { vec![] }
}

#[test]
fn names_and_links_that_lead_out_reach_nothing() {
    for user in [User::new(), User::without_subids()] {
        let aim = Aim::new(user);
        let canary = aim.dir.join("canary").display().to_string();
        let dir = aim.dir.display().to_string();
        let up = format!("{}{}", "../".repeat(20), canary.trim_start_matches('/'));
        let file: Member<'_> = ("f", b'0', "", b"f");
        let cases: Vec<Vec<Member<'_>>> = vec![
            vec![("../../../../canary", b'0', "", b"bad"), file],
            vec![(&canary, b'0', "", b"bad")],
            vec![(&up[..up.len().min(99)], b'0', "", b"bad")],
            vec![("out", b'2', &dir, b""), ("out/canary", b'0', "", b"bad"), ("out/new", b'0', "", b"bad")],
            vec![("out", b'2', &dir, b""), ("out/new", b'5', "", b"")],
            vec![("a", b'2', "..", b""), ("a/b", b'2', "..", b""), ("a/b/canary", b'0', "", b"bad")],
            vec![("link", b'2', &canary, b""), ("link", b'0', "", b"bad")],
            vec![("hard", b'1', &canary, b""), ("hard", b'0', "", b"bad")],
            vec![("out", b'2', &dir, b""), ("hard", b'1', "out/canary", b""), ("hard", b'0', "", b"bad")],
            vec![("dir", b'5', "", b""), ("dir", b'2', &dir, b""), ("dir/canary", b'0', "", b"bad")],
            vec![(".", b'2', &dir, b""), ("canary", b'0', "", b"bad")],
        ];
        for members in cases {
            let what = format!("{members:?}");
            let outcome = aim.import(&archive(&members));
            assert!(matches!(outcome.code(), Some(0 | 3)), "{what}: {outcome}");
            aim.is_untouched(&what);
            // Whatever became of it, a step can use the cache, and sees nothing of the host by it.
            let seen =
                aim.with_cache("cat /c/canary /c/link /c/hard /c/out/canary >/seen 2>/dev/null; true").succeeds();
            assert!(!seen.text("seen").contains("untouched"), "{what}");
        }
    }
}

#[test]
fn devices_and_marks_of_layers_are_no_cache() {
    let aim = Aim::new(User::new());
    for member in [
        ("null", b'3', "", &b""[..]),
        ("disk", b'4', "", b""),
        (".wh.kept", b'0', "", b""),
        ("d/.wh..wh..opq", b'0', "", b""),
    ] {
        let outcome = aim.import(&archive(&[member])).fails(3);
        outcome.stderr_has(if member.1 == b'0' { "no cache has" } else { "device" });
        aim.is_untouched(member.0);
        aim.with_cache("cat /c/kept").succeeds();
    }
}

#[test]
fn what_is_larger_than_allowed_is_refused_and_what_was_there_stays() {
    let aim = Aim::new(User::new());
    let zeros = vec![0u8; 64 << 20];
    let large = archive(&[("zeros", b'0', "", &zeros)]);
    // 64 MiB in some kB.
    let small = zstd::encode_all(&large[..], 3).unwrap();
    assert!(small.len() < 100_000);
    aim.import(&small).fails(3).stderr_has("--max-size");
    // A million names without content.
    let mut names = Vec::new();
    for number in 0..1_000_000 {
        names.extend_from_slice(&tar_header(&format!("d{number}"), b'5', "", 0, (0o4755, 0)));
    }
    names.resize(names.len() + 1024, 0);
    let names = zstd::encode_all(&names[..], 1).unwrap();
    aim.import(&names).fails(3).stderr_has("--max-size");
    // A list that says that a file has an exabyte.
    let mut claimed = listed("c", &small);
    claimed["size"] = json!(1u64 << 60);
    let whole = archive(&[("coracle-caches.json", b'0', "", &list(&[claimed])), ("x", b'0', "", &small)]);
    aim.import_whole(&whole).fails(3).stderr_has("--max-size");
    aim.is_untouched("bombs");
    aim.with_cache("test \"$(cat /c/kept)\" = kept && ! test -e /c/zeros && ! test -e /c/d1").succeeds();
}

#[test]
fn what_is_cut_or_does_not_fit_its_list_is_refused() {
    let aim = Aim::new(User::new());
    let inner = archive(&[("f", b'0', "", &[b'x'; 2000])]);
    let whole = |caches: &[Value], name: &str| {
        archive(&[("coracle-caches.json", b'0', "", &list(caches)), (name, b'0', "", &inner)])
    };
    let good = whole(&[listed("c", &inner)], "x");
    // Cut in the inner archive, whose digest is right for what is left.
    aim.import(&inner[..1100]).fails(3);
    for at in [0, 300, 600, 1500, 2600] {
        aim.import_whole(&good[..at]).fails(3);
    }
    let changed = |key: &str, value: Value| {
        let mut one = listed("c", &inner);
        one[key] = value;
        one
    };
    let other = Digest::of(b"other").to_string();
    for (key, value) in [
        ("digest", json!(other)),
        ("digest", json!("sha256:../../x")),
        ("size", json!(7)),
        ("size", json!(-7)),
        ("file", json!("../x")),
        ("file", json!("/etc/passwd")),
        ("file", json!("..")),
        ("id", json!("")),
    ] {
        let outcome = aim.import_whole(&whole(&[changed(key, value.clone())], "x"));
        assert_eq!(outcome.code(), Some(3), "{key}={value}: {outcome}");
    }
    // One file cannot be two things.
    let mut second = changed("digest", json!(other));
    second["id"] = json!("d");
    aim.import_whole(&whole(&[listed("c", &inner), second], "x")).fails(3);
    // The list comes first, and once.
    aim.import_whole(&archive(&[
        ("x", b'0', "", &inner),
        ("coracle-caches.json", b'0', "", &list(&[listed("c", &inner)])),
    ]))
    .fails(3);
    aim.import_whole(&archive(&[("coracle-caches.json", b'0', "", b"{}")])).fails(3);
    aim.is_untouched("lists");
    aim.with_cache("test \"$(cat /c/kept)\" = kept && ! test -e /c/f").succeeds();
    // A name of a cache is no path.
    let id = "../../../../up\u{1b}[31m\n";
    let mut strange = listed("c", &inner);
    strange["id"] = json!(id);
    aim.import_whole(&whole(&[strange], "x")).succeeds();
    let shown = aim.user.coracle(["cache", "ls"]).run().succeeds().stdout;
    assert!(shown.contains("../../../../up") && !shown.contains('\u{1b}'), "{shown}");
    aim.is_untouched("a strange name");
    aim.import_whole(&good).succeeds();
    aim.with_cache("! test -e /c/kept && test \"$(wc -c </c/f)\" = 2000").succeeds();
}

#[test]
fn a_folder_that_is_imported_is_read_as_itself() {
    let aim = Aim::new(User::new());
    let inner = archive(&[("f", b'0', "", b"f")]);
    let dir = aim.user.new_dir();
    fs::write(dir.join("coracle-caches.json"), list(&[listed("c", &inner)])).unwrap();
    let import = || aim.user.coracle(["cache", "import"]).arg(&dir).run();
    import().fails(3).stderr_has("x");
    let elsewhere = aim.user.new_dir();
    fs::write(elsewhere.join("target"), &inner).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("target"), dir.join("x")).unwrap();
    import().fails(3).stderr_has("no file");
    fs::remove_file(dir.join("x")).unwrap();
    // Something that would be waited for without end.
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.join("x"), 0o666.into()).unwrap();
    import().fails(3).stderr_has("no file");
    fs::remove_file(dir.join("x")).unwrap();
    fs::write(dir.join("x"), &inner).unwrap();
    import().succeeds();
    aim.with_cache("test -e /c/f").succeeds();
}
