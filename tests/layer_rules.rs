//! What a layer holds, and what it cannot hold: the rules 42 to 50, through COPY and RUN.

mod support;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use coracle::oci::Digest;
use support::{Image, Kind, Project, User, base, nodes};
use tar::{EntryType, Header};

fn build(lines: &str) -> Image {
    Project::new().dockerfile(&format!("FROM busybox\n{lines}\n")).build().succeeds()
}

/// An archive with these files: a name that ends with a slash is a directory, one with ` -> ` a link.
fn archive(names: &[&str]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for name in names {
        let mut header = Header::new_ustar();
        header.set_mode(0o755);
        header.set_size(0);
        let (path, kind) = match name.split_once(" -> ") {
            Some((path, target)) => {
                header.set_link_name(target).unwrap();
                (path, EntryType::Symlink)
            }
            None if name.ends_with('/') => (*name, EntryType::Directory),
            None => (*name, EntryType::Regular),
        };
        header.set_entry_type(kind);
        header.set_path(path).unwrap();
        header.set_cksum();
        archive.append(&header, &[][..]).unwrap();
    }
    archive.into_inner().unwrap()
}

/// A user whose store has the image `many`: busybox with these layers upon it.
fn with_layers(layers: &[Vec<u8>]) -> User {
    let user = User::new();
    let dir = user.new_dir();
    let layers: Vec<(&[u8], Digest)> = layers.iter().map(|layer| (&layer[..], Digest::of(layer))).collect();
    base::busybox_and_all(&dir, &layers);
    user.coracle(["pull", &format!("oci:{}", dir.display()), "many"]).run().succeeds();
    user
}

// Rule 42.
#[test]
fn a_name_that_means_removed_is_an_error_wherever_it_comes_from() {
    let project = || Project::new().file("d/.wh.x", "").file("a", "");
    for line in ["COPY d /d", "COPY d/.wh.x /x/", "COPY a /.wh.b", "COPY <<.wh.c /d/\nx\n.wh.c", "RUN touch /.wh.d"] {
        let failed = project().dockerfile(&format!("FROM busybox\n{line}\n")).build().fails_cleanly();
        failed.stderr_has("Dockerfile:2").stderr_has("no file in a layer may have a name that begins with .wh.");
    }
}

// Rule 43.
#[test]
fn what_takes_the_place_of_something_of_another_type_hides_all_of_it() {
    let image = build(
        "RUN mkdir -p /a/in /b/in /real && touch /a/in/x /b/in/y /c && ln -s /real /d && touch /real/z\n\
         RUN rm -rf /a && echo file >/a && rm -rf /b && ln -s /real /b && rm /c && mkdir /c && rm /d && mkdir /d\n\
         RUN test -f /a && test -e /b/z && test -d /c && test ! -e /d/z",
    );
    image.has_file("a", "file\n").has_link("b", "/real").has_dir("c").has_dir("d").has_file("real/z", "");
    image.has_no("a/in").has_no("d/z");
}

// Rule 44.
#[test]
fn a_directory_of_a_lower_layer_can_be_renamed_and_its_files_keep_all_that_they_have() {
    let image = build(
        "RUN mkdir -p /d/sub && echo x >/d/sub/f && chown 5:6 /d/sub/f && chmod 4711 /d/sub/f && touch -d @1000 /d/sub/f\n\
         RUN mv /d /e && test ! -e /d",
    );
    image.has_owner("e/sub/f", "5:6", 0o4711).has_no("d");
    assert_eq!(image.node("e/sub/f").mtime, 1000);
    image.top_layer().removes("d");
}

// Rule 45.
#[test]
fn a_new_name_of_a_file_of_a_lower_layer_comes_with_the_file() {
    let layer = build("RUN echo text >/z\nRUN ln /z /a").top_layer();
    layer.is_canonical().has_file("a", "text\n");
    assert_eq!(layer.node("z").kind, Kind::HardLink("a".into()), "a name in the same layer, without a slash");
}

// Rule 46.
#[test]
fn headers_have_no_names_of_users_no_fractions_of_seconds_and_no_slash_in_front() {
    let project = Project::new().file("f", "x").dockerfile("FROM busybox\nCOPY f /a/b/\nRUN rm /etc/group");
    let out = project.user().new_dir().join("image.tar");
    let project = project.arg("--output").arg(&format!("type=docker,dest={}", out.display()));
    project.build().succeeds();
    let mut whiteouts = 0;
    let mut outer = tar::Archive::new(fs::File::open(out).unwrap());
    for blob in outer.entries().unwrap().map(Result::unwrap).filter(|e| !e.path().unwrap().ends_with("manifest.json")) {
        let mut layer = tar::Archive::new(blob);
        for entry in layer.entries().unwrap().map_while(Result::ok) {
            let header = entry.header();
            if header.uid().is_err() {
                break;
            }
            assert_eq!((header.username(), header.groupname()), (Ok(Some("")), Ok(Some(""))));
            let path = entry.path_bytes().into_owned();
            assert!(!path.starts_with(b"/"));
            if path.split(|&b| b == b'/').any(|part| part.starts_with(b".wh.")) {
                assert_eq!((header.mtime().unwrap(), header.size().unwrap()), (0, 0));
                whiteouts += 1;
            }
        }
    }
    assert_eq!(whiteouts, 1);
}

// Rule 47.
#[test]
fn names_of_all_bytes_and_lengths_are_copied() {
    let project = Project::new().folder("d");
    let long = "l".repeat(255);
    let names: [&[u8]; 6] =
        [b"new\nline", b"gr\xc3\xbc\xc3\x9fe", b"not\xffutf8", b"a b\\c*?[x]", b"-rf", long.as_bytes()];
    for name in names {
        fs::write(project.path("d").join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    let image =
        project.dockerfile("FROM busybox\nCOPY d /e\nRUN cat /e/not* >/one && cat /e/new* >/two").build().succeeds();
    for name in names {
        let shown = String::from_utf8_lossy(name).into_owned();
        image.has_dir("e");
        let Kind::File(content) = &image.node(&format!("e/{shown}")).kind else { panic!("{shown}") };
        assert_eq!(content, name);
    }
    image.has_file("two", "new\nline");
}

// Rule 48.
#[test]
fn capabilities_are_copied_from_a_stage_and_attributes_of_users_are_not() {
    let user = User::new();
    let dir = user.new_dir();
    nodes::layout(&dir);
    user.coracle(["pull", &format!("oci:{}", dir.display()), "nodes"]).run().succeeds();
    user.pull(&base::busybox());
    let dockerfile =
        "FROM nodes AS n\nFROM busybox\nCOPY --from=n /nodes/capable /nodes/attributes /nodes/setuid /x/\n";
    let image = Project::of(&user).dockerfile(dockerfile).build().succeeds();
    assert_eq!(image.node("x/capable").xattrs.keys().collect::<Vec<_>>(), ["security.capability"]);
    assert!(image.node("x/attributes").xattrs.is_empty());
    image.has_owner("x/setuid", "33:0", 0o4755);
}

// Rule 49, and rule 13: a socket.
#[test]
fn holes_stay_holes_on_disk_and_are_zeros_in_the_layer_and_sockets_are_no_files() {
    const SIZE: u64 = 48 << 20;
    let project = Project::new().folder("d");
    fs::File::create(project.path("d/sparse")).unwrap().set_len(SIZE).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(project.path("d/socket")).unwrap();
    let image = project.clone().dockerfile("FROM busybox\nCOPY d /e").build().succeeds();
    let Kind::File(bytes) = &image.node("e/sparse").kind else { panic!("no file") };
    assert!(bytes.len() as u64 == SIZE && bytes.iter().all(|&b| b == 0));
    assert_eq!(image.node("e/socket").kind, Kind::File(Vec::new()), "as BuildKit has it");
    let copied = find(&project.user().store().join("snapshots"), "sparse").expect("the copy in the store");
    assert!(copied.metadata().unwrap().blocks() * 512 < 1 << 20, "the copy takes space");
}

fn find(dir: &Path, name: &str) -> Option<std::path::PathBuf> {
    fs::read_dir(dir).ok()?.flatten().find_map(|entry| match entry.file_name() == name {
        true => Some(entry.path()),
        false => entry.file_type().ok()?.is_dir().then(|| find(&entry.path(), name))?,
    })
}

// Rule 50.
#[test]
fn directories_that_nobody_may_write_to_have_their_files() {
    let archive = {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, mode) in [("d/", 0o555), ("d/sticky/", 0o1777), ("d/closed/", 0o000)] {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::Directory);
            header.set_mode(mode);
            header.set_size(0);
            archive.append_data(&mut header, name, &[][..]).unwrap();
        }
        for name in ["d/f", "d/closed/g"] {
            let mut header = Header::new_ustar();
            header.set_mode(0o000);
            header.set_size(1);
            archive.append_data(&mut header, name, &b"x"[..]).unwrap();
        }
        archive.into_inner().unwrap()
    };
    let project = Project::new()
        .file("a.tar", archive)
        .dockerfile("FROM busybox AS s\nADD a.tar /x\nFROM busybox\nCOPY --from=s /x /y");
    for isolation in ["auto", "chroot"] {
        let image = project.clone().arg("--no-cache").arg("--isolation").arg(isolation).build().succeeds();
        image.has_owner("y/d", "0:0", 0o555).has_owner("y/d/sticky", "0:0", 0o1777).has_owner("y/d/closed", "0:0", 0);
        image.has_owner("y/d/f", "0:0", 0).has_file("y/d/closed/g", "x");
    }
}

#[test]
fn a_path_through_a_link_of_a_lower_layer_is_where_the_link_leads() {
    let lower = archive(&["r/", "r/usr/", "r/usr/lib/", "r/usr/lib/old", "r/lib -> usr/lib", "r/gone -> ../far/away"]);
    let upper = archive(&["r/lib/new", "r/lib/dir/", "r/lib/dir/x", "r/gone/y"]);
    let user = with_layers(&[lower, upper]);
    let dockerfile = "FROM many\nRUN ls /r/usr/lib >/list && readlink /r/lib >>/list && ls /r/lib/dir/x /far/away/y && cat /r/lib/old";
    let image = Project::of(&user).dockerfile(dockerfile).build().succeeds();
    image.top_layer().has_file("list", "dir\nnew\nold\nusr/lib\n");
    // Also where no step is run.
    let copied =
        "FROM many AS m\nFROM scratch\nCOPY --from=m /r/usr/lib /lib\nCOPY --from=m /r/lib/new /far/away/y /\n";
    let image = Project::of(&user).dockerfile(copied).build().succeeds();
    image.has_file("lib/new", "").has_file("lib/dir/x", "").has_file("new", "").has_file("y", "");
}

#[test]
fn as_many_layers_as_overlayfs_stacks_and_one_more_is_an_error() {
    // With that of busybox and the one that is made: 498.
    let layers: Vec<Vec<u8>> = (0..496).map(|number| archive(&[&format!("many/{number}")])).collect();
    let user = with_layers(&layers);
    let project = Project::of(&user);
    let image = project.clone().dockerfile("FROM many\nRUN ls /many | wc -l >/count").build().succeeds();
    image.top_layer().has_file("count", "496\n");
    let failed = project.dockerfile("FROM many\nRUN ls /many | wc -l >/count\nRUN true").build().fails(3);
    failed.stderr_has("Dockerfile:3").stderr_has("499 layers").stderr_has("join RUN and COPY");
}
