//! ADD of local archives: what counts as one, where it is unpacked, whose the files are, and what is refused.

mod support;

use std::io::Write;

use support::{Image, Kind, Project, User};
use tar::{EntryType, Header};

/// An archive, written without the checks of the crate tar.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Tar(tar::Builder::new(Vec::new()))
    }

    fn entry(mut self, kind: EntryType, name: &str, target: &str, mode: u32, owner: (u64, u64), content: &str) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_mtime(1000);
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        let fields = header.as_old_mut();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        self.0.append(&header, content.as_bytes()).unwrap();
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, name, "", 0o640, (11, 22), content)
    }

    fn dir(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name, "", 0o750, (33, 44), "")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, target, 0o777, (0, 0), "")
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, target, 0o640, (11, 22), "")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// An archive with a file and a directory that has one too.
fn simple() -> Vec<u8> {
    Tar::new().dir("./").file("./f", "one").dir("./d/").file("./d/g", "two").bytes()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(data: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn xz(data: &[u8]) -> Vec<u8> {
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(data, 1).unwrap()
}

/// What is built of `archive`, as the file a.tar, by the lines after `FROM busybox`.
fn add(archive: Vec<u8>, lines: &str) -> Image {
    Project::new().file("a.tar", archive).dockerfile(&format!("FROM busybox\n{lines}\n")).build().succeeds()
}

// Rule 14.
#[test]
fn an_archive_is_what_has_the_content_of_one_whatever_its_name() {
    let project = Project::new()
        .file("plain", simple())
        .file("a.jpg", gzip(&simple()))
        .file("b.txt", bzip2(&simple()))
        .file("c", xz(&simple()))
        .file("d.tar.gz", zstd(&simple()));
    let dockerfile =
        "FROM scratch\nADD plain /plain\nADD a.jpg /gzip\nADD b.txt /bzip2/\nADD c /xz\nADD d.tar.gz /zstd";
    let image = project.dockerfile(dockerfile).build().succeeds();
    for format in ["plain", "gzip", "bzip2", "xz", "zstd"] {
        image.has_file(&format!("{format}/f"), "one").has_file(&format!("{format}/d/g"), "two");
    }
}

#[test]
fn a_file_that_only_has_the_name_of_an_archive_is_copied() {
    let project = Project::new().file("x.tar.gz", "").file("y.tar", "no archive").file("z.gz", gzip(b"no archive"));
    let image = project.dockerfile("FROM scratch\nADD x.tar.gz y.tar z.gz /d/\nADD x.tar.gz /e").build().succeeds();
    image.has_file("d/x.tar.gz", "").has_file("d/y.tar", "no archive").has_file("e", "");
    assert!(matches!(image.node("d/z.gz").kind, Kind::File(_)));
}

#[test]
fn several_archives_and_those_that_a_glob_matches_are_all_unpacked() {
    let archive = |name: &str| Tar::new().file(name, name).bytes();
    let project = Project::new().file("1.tar", archive("a")).file("2.tar", archive("b")).file("3", archive("c"));
    let image = project.file("4.txt", "text").dockerfile("FROM scratch\nADD *.tar 3 4.txt /d/").build().succeeds();
    image.has_file("d/a", "a").has_file("d/b", "b").has_file("d/c", "c").has_file("d/4.txt", "text").has_no("d/3");
}

#[test]
fn owners_and_modes_are_those_of_the_archive_and_the_destination_is_a_new_directory_of_root() {
    let image = add(simple(), "ADD a.tar /x");
    image.has_owner("x", "0:0", 0o755).has_owner("x/f", "11:22", 0o640).has_owner("x/d", "33:44", 0o750);
    assert_eq!(image.node("x/f").mtime, 1000);
}

#[test]
fn the_root_of_an_archive_does_not_change_the_destination() {
    let image = add(simple(), "RUN mkdir -m 1777 /x && chown 5:6 /x\nADD a.tar /x\nADD a.tar /tmp/");
    image.has_owner("x", "5:6", 0o1777).has_owner("x/d", "33:44", 0o750).has_owner("tmp", "0:0", 0o1777);
}

#[test]
fn chown_is_for_all_that_is_unpacked_and_chmod_for_nothing() {
    let image = add(simple(), "ADD --chown=www-data:7 a.tar /x");
    image.has_owner("x", "33:7", 0o755).has_owner("x/f", "33:7", 0o640).has_owner("x/d", "33:7", 0o750);
    let built = Project::new().file("a.tar", simple()).dockerfile("FROM scratch\nADD --chmod=700 a.tar /x").build();
    let image = built.stderr_has("--chmod does not change").succeeds();
    image.has_owner("x", "0:0", 0o755).has_owner("x/f", "11:22", 0o640);
}

#[test]
fn unpack_says_whether_it_is_unpacked() {
    let image = add(simple(), "ADD --unpack=false a.tar /x/\nADD --unpack=true a.tar /y/");
    assert!(matches!(image.node("x/a.tar").kind, Kind::File(_)));
    image.has_file("y/f", "one");
}

#[test]
fn hard_links_links_and_fifos_are_unpacked() {
    let archive = Tar::new()
        .file("b", "text")
        .hard_link("a", "b")
        .link("l", "/etc/passwd")
        .entry(EntryType::Fifo, "fifo", "", 0o600, (1, 1), "")
        .bytes();
    let image = add(archive, "ADD a.tar /x/");
    let layer = image.top_layer();
    layer.is_canonical().has_file("x/a", "text");
    assert_eq!(layer.node("x/b").kind, Kind::HardLink("x/a".into()));
    assert_eq!(layer.node("x/fifo").kind, Kind::Other);
    image.has_link("x/l", "/etc/passwd");
}

#[test]
fn what_is_there_is_replaced_and_a_link_to_a_directory_is_followed() {
    let archive = Tar::new().file("lib/new", "new").file("was-dir", "file").file("was-file/x", "x").bytes();
    let image = add(
        archive,
        "RUN mkdir -p /r/usr/lib /r/was-dir/old && ln -s /usr/lib /r/lib && touch /r/was-file\nADD a.tar /r\nRUN ls /r/was-dir && ls /r/usr/lib/new",
    );
    image.has_file("r/usr/lib/new", "new").has_link("r/lib", "/usr/lib").has_file("r/was-dir", "file");
    image.has_file("r/was-file/x", "x").has_no("r/was-dir/old");
}

#[test]
fn the_bytes_of_the_archive_are_in_the_cache_key() {
    let project = Project::new().file("a.tar", simple()).dockerfile("FROM scratch\nADD a.tar /");
    project.build().cached(0).succeeds();
    project.clone().touch("a.tar").build().cached(1).succeeds();
    let more = [simple(), vec![0; 512]].concat();
    project.clone().file("a.tar", more).build().cached(0).succeeds();
    project.dockerfile("FROM scratch\nCOPY a.tar /").build().cached(0).succeeds();
}

#[test]
fn copy_never_unpacks() {
    let image = add(simple(), "COPY a.tar /x/");
    assert!(matches!(image.node("x/a.tar").kind, Kind::File(_)));
}

#[test]
fn an_archive_cannot_leave_the_destination() {
    let archive = Tar::new()
        .link("out", "../../../../../../etc")
        .file("out/one", "1")
        .file("../../two", "2")
        .file("/three", "3")
        .link("abs", "/etc")
        .file("abs/four", "4")
        .bytes();
    let image = add(archive, "ADD a.tar /a/b/");
    image.has_no("etc/one").has_no("etc/four").has_no("two").has_no("three");
    image
        .has_file("a/b/etc/one", "1")
        .has_file("a/b/two", "2")
        .has_file("a/b/three", "3")
        .has_file("a/b/etc/four", "4");
    let through_the_image = Tar::new().file("link/x", "x").bytes();
    let image = add(through_the_image, "RUN mkdir /d && ln -s ../../etc /d/link\nADD a.tar /d");
    image.has_no("etc/x").has_file("d/etc/x", "x");
}

#[test]
fn what_is_no_good_archive_fails_in_words() {
    let fails = |archive: Vec<u8>, words: &str| {
        let project = Project::new().file("a.tar", archive).dockerfile("FROM scratch\nADD a.tar /x/");
        project.build().fails(3).stderr_has("Dockerfile:2").stderr_has(words);
        project.user().has_nothing_left_of("a.tar");
    };
    fails(Tar::new().file("x", "").hard_link("y", "/etc/passwd").bytes(), "hard link");
    fails(Tar::new().file(".wh.x", "").bytes(), ".wh.");
    fails(Tar::new().dir("d/").file("d/.wh..wh..opq", "").bytes(), ".wh.");
    let mut cut = Tar::new().file("x", &"text".repeat(1000)).bytes();
    cut.truncate(1500);
    fails(cut.clone(), "cut off");
    let mut damaged = gzip(&simple());
    let end = damaged.len() - 6;
    damaged[end] ^= 1;
    fails(damaged, "cannot unpack");
}

#[test]
fn an_archive_of_a_stage_is_only_copied() {
    let project = Project::new().file("a.tar", simple());
    let image =
        project.dockerfile("FROM scratch AS s\nCOPY a.tar /\nFROM scratch\nCOPY --from=s a.tar /x/").build().succeeds();
    assert!(matches!(image.node("x/a.tar").kind, Kind::File(_)));
}

#[test]
fn the_files_of_an_archive_are_the_same_bytes_where_nothing_can_be_run() {
    let project = Project::new().file("a.tar", xz(&simple())).dockerfile("FROM busybox\nADD a.tar /x");
    let digest = |isolation: &str| {
        let project = project.clone().arg("--no-cache").arg("--isolation").arg(isolation);
        let call = project.call().env("SOURCE_DATE_EPOCH", "5");
        project.built(call.run()).succeeds().digest().to_owned()
    };
    assert_eq!(digest("auto"), digest("chroot"));
}

#[test]
fn a_command_sees_the_owners_of_an_archive_with_and_without_subordinate_ids() {
    for user in [User::with_busybox(), User::without_subids()] {
        user.pull(&support::base::busybox());
        let lines =
            "FROM busybox\nADD a.tar /x\nADD --chown=7:8 a.tar /y\nRUN stat -c '%n %u:%g %a' /x/f /x/d /y/f >/owners";
        let image = Project::of(&user).file("a.tar", simple()).dockerfile(lines).build().succeeds();
        image.has_file("owners", "/x/f 11:22 640\n/x/d 33:44 750\n/y/f 7:8 640\n");
        image.has_owner("y/d", "7:8", 0o750);
    }
}
