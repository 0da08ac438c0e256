//! What a build context can be: a folder, an archive, standard input, an address.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::environment::{Environment, Visit};
use support::{Outcome, Project, User, tar_header};

/// A folder with a bit of everything that a context can hold, and a Dockerfile.
fn project() -> Project {
    Project::new()
        .file("a.txt", "one")
        .file("src/main.rs", "fn main() {}")
        .file("src/run", "#!/bin/sh")
        .mode("src/run", 0o755)
        .mode("src/main.rs", 0o444)
        .file("empty", "")
        .folder("src/nothing")
        .link("link", "src/main.rs")
        .hard_link("again", "a.txt")
        .file("debug.log", "left out")
        .file("docs/.keep", "")
        .file(".dockerignore", "*.log\n")
        .dockerfile("FROM scratch\nCOPY . /c/\n")
}

/// A tar archive of the folder, with `args` for tar.
fn archive(project: &Project, name: &str, args: &[&str]) -> PathBuf {
    let file = project.user().new_dir().join(name);
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--file").arg(&file).args(args).arg("--directory").arg(project.dir());
    assert!(tar.arg(".").status().expect("tar").success());
    file
}

fn build(user: &User, context: &str, args: &[&str], stdin: Option<&Path>) -> Outcome {
    let mut call = user.coracle(["build", "--progress", "plain", "--timestamp", "0"]);
    for arg in args {
        call = call.arg(arg);
    }
    call = call.arg(context);
    match stdin {
        Some(file) => call.stdin(file).run(),
        None => call.run(),
    }
}

fn digest(outcome: Outcome) -> String {
    let digest = outcome.succeeds().stdout.trim().to_owned();
    assert!(digest.starts_with("sha256:"), "{digest}");
    digest
}

#[test]
fn an_archive_is_as_good_as_the_folder_in_any_compression() {
    let project = project();
    let user = project.user();
    let folder = digest(build(user, project.dir().to_str().expect("UTF-8"), &[], None));
    for (name, args) in [
        ("context.tar", &[][..]),
        ("context.tar.gz", &["--gzip"]),
        ("not.named.so", &["--use-compress-program=zstd", "--sort=name"]),
        ("context.tar.bz2", &["--bzip2"]),
        ("context.tar.xz", &["--xz", "--format=pax"]),
        ("old", &["--format=v7"]),
    ] {
        let file = archive(&project, name, args);
        let path = file.to_str().expect("UTF-8");
        assert_eq!(digest(build(user, path, &[], None)), folder, "{name} by its path");
        let piped = build(user, "-", &[], Some(&file));
        assert_eq!(digest(piped), folder, "{name} on standard input");
    }
    user.has_nothing_left_of("coracle-no-such-mark");
}

#[test]
fn the_cache_does_not_ask_where_the_files_came_from() {
    let project = project();
    let user = project.user();
    build(user, project.dir().to_str().expect("UTF-8"), &[], None).succeeds();
    let again = build(user, "-", &[], Some(&archive(&project, "a.tar", &["--mtime=@0"]))).succeeds();
    assert_eq!(again.count("CACHED"), 1, "{again}");
}

#[test]
fn a_dockerfile_alone_on_standard_input_has_an_empty_context() {
    let user = User::with_busybox();
    let file = user.new_dir().join("text");
    fs::write(&file, "FROM busybox\nLABEL a=b\n").expect("a file");
    build(&user, "-", &[], Some(&file)).succeeds();
    fs::write(&file, "FROM busybox\nCOPY a /\n").expect("a file");
    build(&user, "-", &[], Some(&file)).fails(1).stderr_has("\"a\" is not there").stderr_has("--> -:2");
    fs::write(&file, "FROM busybox\nCOPY . /a\n").expect("a file");
    build(&user, "-", &[], Some(&file)).succeeds();
    build(&user, "-", &["-f", "other"], Some(&file)).fails(2).stderr_has("--file names another one");
}

#[test]
fn standard_input_that_is_neither_is_said_to_be_so() {
    let user = User::new();
    let file = user.new_dir().join("bytes");
    let fails = |bytes: &[u8], words: &str| {
        fs::write(&file, bytes).expect("a file");
        build(&user, "-", &[], Some(&file)).fails(3).stderr_has(words);
    };
    fails(b"", "standard input is empty");
    fails(b"FROM \xff", "byte 5 is not part of a UTF-8 character");
    fails(b"\x1f\x8b\x08not gzip at all", "standard input");
    let mut cut = vec![0; 600];
    cut[..512].copy_from_slice(&tar_header("a", b'0', "", 4000, (0o644, 0o1750)));
    fails(&cut, "the archive is cut off");
    build(&user, "-", &["-f", "-"], Some(&file)).fails(2).stderr_has("cannot both be on standard input");
}

#[test]
fn a_file_that_is_no_archive_is_no_context() {
    let user = User::new();
    let file = user.new_dir().join("Dockerfile");
    fs::write(&file, "FROM scratch\n").expect("a file");
    build(&user, file.to_str().expect("UTF-8"), &[], None).fails(3).stderr_has("is neither a folder nor a tar archive");
    build(&user, "no/such/folder", &[], None).fails(2).stderr_has("cannot open the build context");
    build(&user, "s3://bucket/a.tar", &[], None).fails(2).stderr_has("no contexts of the kind \"s3\"");
}

#[test]
fn the_dockerfile_in_an_archive_is_named_by_its_path_there() {
    let project = Project::new()
        .file("deploy/app.Dockerfile", "FROM scratch\nCOPY . /c/\nCOPY x /y\n")
        .file("deploy/app.Dockerfile.dockerignore", "*.md\n")
        .file("x", "x")
        .file("a.md", "left out");
    let file = archive(&project, "a.tar", &[]);
    let user = project.user();
    for name in ["deploy/app.Dockerfile", "./deploy/../deploy/app.Dockerfile", "/deploy/app.Dockerfile"] {
        build(user, "-", &["-t", "named", "-f", name], Some(&file)).succeeds();
    }
    support::Image::named(&user.layout(), "named:latest", Some(user.clone())).has_file("y", "x").has_no("c/a.md");
    build(user, "-", &["-f", "../../etc/passwd"], Some(&file)).fails_cleanly().stderr_has_no("root:x");
    build(user, "-", &[], Some(&file)).fails(2).stderr_has("no Containerfile and no Dockerfile");
}

#[test]
fn only_a_folder_of_a_context_can_be_taken() {
    let project = Project::new()
        .file("outer", "")
        .file("app/a", "a")
        .hard_link("app/b", "app/a")
        .file("app/Dockerfile", "FROM scratch\nCOPY . /c/\n");
    let user = project.user();
    let args = ["-t", "part", "--context-sub-path", "app"];
    let folder = digest(build(user, project.dir().to_str().expect("UTF-8"), &args, None));
    assert_eq!(digest(build(user, "-", &args, Some(&archive(&project, "a.tar", &[])))), folder);
    support::Image::named(&user.layout(), "part:latest", Some(user.clone())).has_file("c/a", "a").has_no("c/outer");
    let missing = ["--context-sub-path", "nothing"];
    build(user, "-", &missing, Some(&archive(&project, "a.tar", &[]))).fails(2).stderr_has("no directory nothing");
}

#[test]
fn an_ignore_file_can_be_named() {
    let project = Project::new()
        .file("a", "")
        .file("b", "")
        .file(".dockerignore", "a\n")
        .dockerfile("FROM scratch\nCOPY . /c/\n");
    let other = project.user().new_dir().join("ignore");
    fs::write(&other, "b\n").expect("a file");
    let path = other.to_str().expect("UTF-8");
    let built = project.clone().arg("--ignorefile").arg(path).build().succeeds();
    built.has_file("c/a", "").has_no("c/b");
    let args = ["-t", "x", "--ignorefile", path];
    build(project.user(), "-", &args, Some(&archive(&project, "a.tar", &[]))).succeeds();
    let image = support::Image::named(&project.user().layout(), "x:latest", Some(project.user().clone()));
    image.has_file("c/a", "").has_no("c/b");
    project.arg("--ignorefile").arg("no/such/file").build().fails(2).stderr_has("no/such/file");
}

/// A header of tar, with a right checksum.
/// An archive of these entries, and a Dockerfile that copies all.
fn hostile(at: &Path, entries: &[(&str, u8, &str, &[u8])]) {
    let mut file = File::create(at).expect("a file");
    let dockerfile = ("Dockerfile", b'0', "", &b"FROM scratch\nCOPY . /c/\n"[..]);
    for (name, flag, link, bytes) in [dockerfile].iter().chain(entries) {
        file.write_all(&tar_header(name, *flag, link, bytes.len() as u64, (0o644, 0o1750))).expect("written");
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().next_multiple_of(512), 0);
        file.write_all(&padded).expect("written");
    }
    file.write_all(&[0; 1024]).expect("written");
}

#[test]
fn a_hostile_archive_reaches_nothing_outside_of_it() {
    let user = User::with_busybox();
    let dir = user.new_dir();
    let canary = dir.join("canary");
    fs::write(&canary, "untouched").expect("a file");
    let canary_path = canary.to_str().expect("UTF-8").to_owned();
    let up = format!("{}canary", "../".repeat(20));
    let file = dir.join("hostile.tar");
    /// Name, type, link text and content.
    type Member<'a> = (&'a str, u8, &'a str, &'a [u8]);
    let cases: Vec<Vec<Member<'_>>> = vec![
        vec![("../../../canary", b'0', "", b"overwritten"), (&canary_path, b'0', "", b"overwritten")],
        vec![("out", b'2', dir.to_str().expect("UTF-8"), b""), ("out/canary", b'0', "", b"overwritten")],
        vec![("up", b'2', "../../../../../../..", b""), ("up/etc/x", b'0', "", b"y")],
        vec![("link", b'2', &canary_path, b""), ("link", b'0', "", b"overwritten")],
        vec![(&up, b'0', "", b"overwritten")],
        vec![("dir", b'5', "", b""), ("dir", b'2', "/etc", b""), ("dir/passwd", b'0', "", b"x")],
        vec![("fifo", b'6', "", b""), ("null", b'3', "", b""), ("disk", b'4', "", b"")],
    ];
    for entries in &cases {
        hostile(&file, entries);
        let outcome = build(&user, "-", &[], Some(&file));
        assert!(matches!(outcome.code(), Some(0..=6)), "{outcome}");
        assert_eq!(fs::read_to_string(&canary).expect("there"), "untouched", "{entries:?}");
    }
    // A link to a file of this machine is no file of the archive.
    for target in [canary_path.as_str(), "/etc/passwd", "../canary"] {
        hostile(&file, &[("hard", b'1', target, b"")]);
        build(&user, "-", &[], Some(&file)).fails(3).stderr_has("hard link");
    }
    // What is read of the context never comes from outside.
    hostile(&file, &[("secret", b'2', &canary_path, b"")]);
    build(&user, "-", &["-t", "x"], Some(&file)).succeeds();
    support::Image::named(&user.layout(), "x:latest", Some(user.clone())).has_link("c/secret", &canary_path);
}

#[test]
fn files_that_nobody_may_read_are_read_all_the_same_in_an_archive() {
    let project = Project::new().file("closed/a", "a").dockerfile("FROM scratch\nCOPY . /c/\n");
    let file = archive(&project, "a.tar", &["--mode=a-rwx"]);
    build(project.user(), "-", &["-t", "x"], Some(&file)).succeeds();
    let image = support::Image::named(&project.user().layout(), "x:latest", Some(project.user().clone()));
    image.has_owner("c/closed", "0:0", 0).has_owner("c/closed/a", "0:0", 0).has_file("c/closed/a", "a");
}

#[test]
fn an_archive_is_a_context_where_nothing_can_be_run() {
    let user = User::new();
    let (dir, out) = (user.new_dir(), user.new_dir());
    fs::write(dir.join("Dockerfile"), "FROM scratch\nCOPY . /c/\n").expect("a file");
    fs::write(dir.join("a"), "text").expect("a file");
    let file = out.join("context.tar");
    let tar =
        Command::new("tar").arg("--create").arg("--file").arg(&file).arg("--directory").arg(&dir).arg(".").status();
    assert!(tar.expect("tar").success());
    let place = Environment::named("k8s-restricted");
    let visit = Visit::with_busybox(&out);
    let calls = visit
        .call("piped", "sh -c 'coracle build --progress plain --timestamp 0 - </context/context.tar'")
        .call("named", "coracle build --progress plain --timestamp 0 /context/context.tar")
        .call("listed", "coracle context ls --all /context/context.tar");
    let found = place.visit(&calls);
    for name in ["piped", "named", "listed"] {
        assert_eq!(found[name].status, 0, "{name}: {}", found[name]);
    }
    assert_eq!(found["piped"].stdout, found["named"].stdout);
}

#[test]
fn a_folder_with_a_name_is_copied_from_with_its_own_ignore_file() {
    let project = Project::new()
        .file("a", "of the context")
        .file(".dockerignore", "b\n")
        .dockerfile("FROM scratch\nCOPY --from=docs . /d/\nCOPY a /a\n");
    let docs = project.user().new_dir();
    for (name, text) in [("b", "of docs"), ("a", "left out"), (".dockerignore", "a\n")] {
        fs::write(docs.join(name), text).expect("a file");
    }
    let given = project.clone().arg(&format!("--build-context=docs={}", docs.display()));
    let image = given.build().cached(0).succeeds();
    image.has_file("d/b", "of docs").has_no("d/a").has_file("a", "of the context");
    given.build().cached(2).succeeds();
    fs::write(docs.join("a"), "still left out").expect("a file");
    given.build().cached(2).succeeds();
    fs::write(docs.join("b"), "changed").expect("a file");
    given.build().cached(0).succeeds().has_file("d/b", "changed");
    project.clone().arg("--pull=never").build().fails(3).stderr_has("docs");
    let missing = project.clone().arg("--build-context=docs=no/such/folder").build();
    missing.fails(2).stderr_has("no/such/folder");
}

#[test]
fn an_archive_with_a_name_and_an_image_with_a_name() {
    let project = Project::new()
        .file("x", "x")
        .dockerfile("FROM base AS first\nCOPY --from=files /x /y\nFROM scratch\nCOPY --from=first /y /y\n");
    let file = archive(&project, "a.tar", &[]);
    let layout = support::base::busybox();
    for base in ["docker-image://busybox".to_owned(), format!("oci-layout://{}", layout.display())] {
        let given = project.clone().arg(&format!("--build-context=base={base}"));
        given.arg(&format!("--build-context=files={}", file.display())).build().succeeds().has_file("y", "x");
    }
    for (context, words) in
        [("base", "NAME=PLACE"), ("base=target:x", "no contexts of the kind \"target\""), ("=x", "NAME=LOCATION")]
    {
        project.clone().arg("--build-context").arg(context).build().fails(2).stderr_has(words);
    }
}

/// What `--build-context` names is mounted as it is copied: with its own ignore file, by what is in it, and never changed.
#[test]
fn a_mount_reads_from_whatever_has_a_name() {
    for user in [User::with_busybox(), without_subids()] {
        let docs = user.new_dir();
        for (name, text) in [("b", "of docs"), ("left", "left out"), (".dockerignore", "left\n"), ("d/c", "below")] {
            fs::create_dir_all(docs.join(name).parent().expect("a folder")).expect("a folder");
            fs::write(docs.join(name), text).expect("a file");
        }
        let line = "RUN --mount=from=docs,target=/m,rw ! test -e /m/left && cat /m/b /m/d/c >/seen && echo x >/m/b && echo y >/m/new";
        let part = "RUN --mount=from=docs,source=d/c,target=/one cat /one >/part";
        let cache = "RUN --mount=type=cache,from=docs,target=/c cat /c/b >/filled";
        let project = Project::of(&user)
            .dockerfile(&format!("FROM busybox\n{line}\n{part}\n{cache}\n"))
            .arg(&format!("--build-context=docs={}", docs.display()));
        let image = project.build().cached(0).succeeds();
        image.has_file("seen", "of docsbelow").has_file("part", "below").has_file("filled", "of docs");
        image.has_no("m").has_no("one").has_no("c");
        assert_eq!(fs::read_to_string(docs.join("b")).expect("a file"), "of docs");
        assert!(!docs.join("new").exists());
        // What the ignore file leaves out, and times, are not in the key; what is mounted is.
        fs::write(docs.join("left"), "changed").expect("a file");
        fs::File::open(docs.join("b")).and_then(|file| file.set_modified(std::time::UNIX_EPOCH)).expect("a time");
        project.build().cached(3).succeeds();
        fs::write(docs.join("b"), "changed").expect("a file");
        project.build().cached(0).succeeds().has_file("seen", "changedbelow");
        fs::write(docs.join("d/c"), "changed").expect("a file");
        project.build().cached(0).succeeds().has_file("part", "changed");
    }
}

#[test]
fn a_mount_reads_from_archives_layouts_and_images_with_a_name() {
    for user in [User::with_busybox(), without_subids()] {
        let project = Project::of(&user).file("bin/marker", "x").dockerfile(
            "
            FROM busybox
            RUN --mount=from=other,target=/m,rw ls /m/bin >/seen && touch /m/bin/new
            RUN --mount=from=other,target=/m ! test -e /m/bin/new && ! touch /m/x 2>/dev/null
            ",
        );
        let layout = support::base::busybox();
        for place in ["docker-image://busybox".to_owned(), format!("oci-layout://{}", layout.display())] {
            let image = project.clone().arg(&format!("--build-context=other={place}")).build().succeeds();
            assert!(image.text("seen").lines().any(|line| line == "busybox"), "{place}");
            image.has_no("m");
        }
        let file = archive(&project, "a.tar", &[]);
        let image = project.clone().arg(&format!("--build-context=other={}", file.display())).build().succeeds();
        image.has_file("seen", "marker\n");
        let missing = project.clone().arg("--build-context=other=oci-layout:///not/there").build();
        missing.fails_cleanly().stderr_has("/not/there");
        // Without it, the name is that of an image.
        project
            .clone()
            .arg("--pull=never")
            .build()
            .fails(3)
            .stderr_has("library/other:latest")
            .stderr_has("Dockerfile:2:13");
    }
}

fn without_subids() -> User {
    let user = User::without_subids();
    user.pull(&support::base::busybox());
    user
}

#[test]
fn a_name_beats_a_stage_and_an_image_of_that_name() {
    let project = Project::new()
        .dockerfile("FROM busybox AS files\nRUN echo stage >/which\nFROM scratch\nCOPY --from=files /which /which\n");
    let dir = project.user().new_dir();
    fs::write(dir.join("which"), "context").expect("a file");
    project.arg(&format!("--build-context=files={}", dir.display())).build().succeeds().has_file("which", "context");
}
