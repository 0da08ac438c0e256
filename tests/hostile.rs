//! Base images made to break out of the store, or to break the builder: whatever they hold, it stays in the container, or is
//! refused in words. The folder that they aim at is the user's own, so nothing but coracle keeps them from it.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use coracle::oci::Digest;
use support::{Outcome, Project, User, base};
use tar::{EntryType, Header};

/// An archive of a layer, written without the checks of the crate tar.
struct Evil(tar::Builder<Vec<u8>>);

impl Evil {
    fn new() -> Self {
        Evil(tar::Builder::new(Vec::new()))
    }

    fn entry(mut self, kind: EntryType, name: &str, target: &str, content: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o4755 });
        header.set_size(content.len() as u64);
        header.set_mtime(0);
        let fields = header.as_old_mut();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str) -> Self {
        self.entry(EntryType::Regular, name, "", b"evil\n")
    }

    fn dir(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name, "", b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, target, b"")
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, target, b"")
    }

    /// An attribute of the next entry.
    fn xattr(self, name: &str, value: &str) -> Self {
        let rest = format!(" SCHILY.xattr.{name}={value}\n");
        let length = (rest.len()..).find(|length| length.to_string().len() + rest.len() == *length).unwrap();
        self.entry(EntryType::XHeader, "pax", "", format!("{length}{rest}").as_bytes())
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Names, bytes, modes and times of all in `dir`.
fn state(dir: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let bytes = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert(path, (meta.mode(), meta.mtime(), meta.mtime_nsec(), bytes));
    }
    found
}

/// A user with a folder to aim at.
struct Target {
    user: User,
    canary: PathBuf,
}

impl Target {
    fn new() -> Self {
        let user = User::new();
        let canary = user.new_dir();
        let make = format!("mkdir {0}/d && echo keep >{0}/f && echo keep >{0}/d/f", canary.display());
        let script = canary.with_extension("sh");
        fs::write(&script, make).unwrap();
        user.tool(&format!("sh {}", script.display())).run().succeeds();
        Target { user, canary }
    }

    /// Pulls busybox with `layer` on it, builds a step that attacks from inside, and returns what came of it.
    fn attack(&self, layer: &[u8], diff_id: Digest, step: &str) -> Outcome {
        let before = state(&self.canary);
        let dir = self.user.new_dir();
        base::busybox_and(&dir, layer, diff_id);
        let mut outcome = self.user.coracle(["pull", &format!("oci:{}", dir.display()), "evil"]).run();
        if outcome.code() == Some(0) {
            let canary = self.canary.display();
            let step = step.replace("CANARY", &canary.to_string());
            let write = "for f in /out/f /etc/resolv.conf /etc/hosts /etc/hostname /etc/passwd; do \
                         (echo evil >$f) 2>/dev/null & done; sleep 0.1";
            let rest = format!("{write}; rm -rf /out/* {canary}; {step}");
            let project = Project::of(&self.user).file("f", "x").file(
                "Dockerfile",
                format!("FROM evil\nCOPY f /out/\nCOPY f {canary}/f\nWORKDIR /out/new\nRUN {rest}\n"),
            );
            outcome = project.call().run();
        }
        assert!(matches!(outcome.code(), Some(0 | 1 | 3)), "{outcome}");
        if outcome.code() != Some(0) {
            assert!(outcome.stderr.contains("error"), "{outcome}");
        }
        assert_eq!(state(&self.canary), before, "{outcome}");
        outcome
    }

    fn layer(&self, layer: Evil) -> Outcome {
        let bytes = layer.bytes();
        self.attack(&bytes, Digest::of(&bytes), "true")
    }
}

#[test]
fn a_harmless_layer_is_built_on() {
    // So that the tests below do not succeed because nothing works.
    let outcome = Target::new().layer(Evil::new().dir("out").file("out/harmless"));
    assert_eq!(outcome.code(), Some(0), "{outcome}");
}

#[test]
fn names_cannot_leave_the_layer() {
    let target = Target::new();
    let canary = target.canary.to_str().unwrap().to_owned();
    let up = "../".repeat(20);
    for name in [format!("{up}{canary}/f"), format!("{canary}/f"), format!("a/{up}{canary}/new"), "..".into()] {
        let name = name.replace("//", "/");
        if name.len() < 100 {
            target.layer(Evil::new().file(&name));
        }
    }
    target.layer(Evil::new().dir("a").file(&format!("a/../../../../../../../..{canary}/d/f")));
}

#[test]
fn a_link_in_a_layer_leads_nowhere_outside() {
    let target = Target::new();
    let canary = target.canary.to_str().unwrap().to_owned();
    let up = format!("../../../../../../../../../..{canary}");
    for to in [canary.clone(), up] {
        target.layer(Evil::new().symlink("out", &to).file("out/f").file("out/new"));
        target.layer(Evil::new().symlink("out", &to).dir("out/").file("out/d/f"));
        target.layer(Evil::new().symlink("out", &to).file("out/.wh.f").file("out/.wh..wh..opq"));
        target.layer(Evil::new().symlink("a", &to).symlink("out", "a/d").file("out/f"));
        target.layer(Evil::new().symlink("out", &to).hard_link("stolen", "out/f"));
    }
    target.layer(Evil::new().hard_link("stolen", &format!("{canary}/f")).file("stolen"));
    target.layer(Evil::new().hard_link("stolen", &format!("../../../../../../../..{canary}/f")));
}

#[test]
fn a_forged_mark_of_overlayfs_hides_nothing() {
    let target = Target::new();
    for (name, value) in [
        ("user.overlay.opaque", "y"),
        ("trusted.overlay.opaque", "y"),
        ("user.overlay.redirect", "/../../.."),
        ("user.overlay.whiteout", "y"),
    ] {
        let layer = Evil::new().xattr(name, value).dir("bin/").bytes();
        let outcome = target.attack(&layer, Digest::of(&layer), "test -L /bin/ls || test -e /bin/ls");
        assert!(matches!(outcome.code(), Some(0 | 3)), "{name}: {outcome}");
    }
}

#[test]
fn a_whiteout_removes_in_the_image_only() {
    let target = Target::new();
    for name in [".wh..", ".wh...", ".wh.", "etc/.wh...", ".wh..wh..opq", ".wh.bin/x", ".wh..wh.plnk/f", ".wh..wh.f"] {
        target.layer(Evil::new().file(name));
    }
    let name = format!("{}/.wh.f", target.canary.display());
    target.layer(Evil::new().file(name.trim_start_matches('/')));
}

#[test]
fn a_layer_that_is_not_what_the_configuration_says_is_refused() {
    let target = Target::new();
    let layer = Evil::new().file("a").bytes();
    target.attack(&layer, Digest::of(b"another"), "true").fails(3).stderr_has("diff_id");
}

#[test]
fn a_layer_that_ends_early_is_a_bad_input() {
    let target = Target::new();
    let layer = Evil::new().file("a").entry(EntryType::Regular, "b", "", &[7; 9000]).bytes();
    for end in [layer.len() - 5000, 700, 100] {
        let cut = &layer[..end];
        target.attack(cut, Digest::of(cut), "true").fails(3);
    }
}

#[test]
fn files_that_the_builder_reads_or_mounts_over_are_taken_for_what_they_are() {
    let target = Target::new();
    let canary = target.canary.to_str().unwrap().to_owned();
    let file = format!("{canary}/f");
    for name in ["etc/passwd", "etc/group", "etc/resolv.conf", "etc/hosts", "etc/hostname"] {
        target.layer(Evil::new().entry(EntryType::Fifo, name, "", b""));
        target.layer(Evil::new().symlink(name, &file));
        target.layer(Evil::new().symlink(name, &format!("../../../../../../../../..{file}")));
        target.layer(Evil::new().symlink(name, "/no/such/file"));
        target.layer(Evil::new().symlink(name, name.trim_start_matches("etc/")));
    }
    for name in ["proc", "sys", "dev", "etc", "tmp"] {
        target.layer(Evil::new().symlink(name, &canary));
    }
}

#[test]
fn a_user_is_looked_up_in_the_image_and_nowhere_else() {
    let target = Target::new();
    let passwd = target.canary.join("f");
    fs::write(&passwd, "root:x:0:0::/:/bin/sh\nthief:x:0:0::/:/bin/sh\n").unwrap();
    for layer in [
        Evil::new().symlink("etc/passwd", passwd.to_str().unwrap()),
        Evil::new().entry(EntryType::Fifo, "etc/passwd", "", b""),
    ] {
        let (dir, bytes) = (target.user.new_dir(), layer.bytes());
        base::busybox_and(&dir, &bytes, Digest::of(&bytes));
        target.user.coracle(["pull", &format!("oci:{}", dir.display()), "evil"]).run().succeeds();
        let project = Project::of(&target.user).dockerfile("FROM evil\nUSER thief\nRUN true");
        project.build().fails_cleanly();
    }
}
