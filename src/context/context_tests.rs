use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, Mode};
use sha2::{Digest as _, Sha256};

use super::*;

fn path(text: impl AsRef<[u8]>) -> TreePath {
    TreePath::new(text).expect("a good path")
}

fn find_dockerfile(dir: &Path, file: Option<&Path>) -> Result<(PathBuf, String), ContextError> {
    Context::of_folder(dir)?.dockerfile(file)
}

/// A folder with these files in it.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, contents) in files {
        let file = dir.path().join(name);
        fs::create_dir_all(file.parent().expect("inside")).expect("made");
        fs::write(file, contents).expect("written");
    }
    dir
}

fn open(dir: &Path) -> Context {
    Context::open(dir, None, &ContextOptions::default()).expect("opened")
}

fn names(context: &Context, at: &str) -> Vec<String> {
    let listed = context.read_dir(&path(at)).expect("listed");
    listed.into_iter().map(|(name, _)| String::from_utf8_lossy(&name).into_owned()).collect()
}

fn sha256(text: &str) -> FileDigest {
    FileDigest(Sha256::digest(text).into())
}

fn make_fifo(at: &Path) {
    rustix::fs::mkfifoat(CWD, at, Mode::from_raw_mode(0o644)).expect("a fifo");
}

#[test]
fn files_belong_to_root_and_are_sorted() {
    let dir = folder(&[("b", "12"), ("a/x", ""), ("a-", "")]);
    fs::set_permissions(dir.path().join("b"), Permissions::from_mode(0o4751)).expect("set");
    let context = open(dir.path());
    assert_eq!(names(&context, ""), ["a", "a-", "b"]);
    let node = context.lookup(&path("b")).expect("looked").expect("there");
    assert_eq!(node.kind, Kind::File { size: 2, digest: None });
    assert_eq!((node.meta.mode, node.meta.uid, node.meta.gid, node.meta.mtime.nanos), (0o4751, 0, 0, 0));
    assert!(node.meta.mtime.secs > 1_600_000_000 && node.inode.is_none());
    assert!(context.lookup(&TreePath::root()).expect("looked").expect("there").kind.is_dir());
}

#[test]
fn two_names_of_one_file_have_one_inode() {
    let dir = folder(&[("a", "x")]);
    fs::hard_link(dir.path().join("a"), dir.path().join("b")).expect("linked");
    let listed = open(dir.path()).read_dir(&TreePath::root()).expect("listed");
    assert!(listed[0].1.inode.is_some());
    assert_eq!(listed[0].1.inode, listed[1].1.inode);
}

#[test]
fn what_the_ignore_file_leaves_out_is_not_there() {
    let dir = folder(&[(".dockerignore", "*.log\nsecret"), ("a.log", ""), ("secret/key", "k"), ("ok", "")]);
    let context = open(dir.path());
    assert_eq!(names(&context, ""), [".dockerignore", "ok"]);
    assert_eq!(context.lookup(&path("secret/key")).expect("looked"), None);
    assert!(context.open(&path("secret/key")).is_err());
    assert!(context.read_dir(&path("secret")).is_err());
    assert!(context.digests(&[path("a.log")]).is_err());
    let why = context.explain(&path("secret/key")).expect("it is left out");
    assert_eq!((why.line, why.rule), (2, "secret"));
    assert!(why.file.ends_with(".dockerignore"));
}

#[test]
fn a_directory_is_there_for_the_children_that_come_back() {
    let dir = folder(&[
        (".dockerignore", "*\n!src/keep\n!**/*.go"),
        ("src/keep/x", ""),
        ("src/drop", ""),
        ("lib/deep/er/a.go", ""),
        ("lib/other/b.c", ""),
        ("docs/a.md", ""),
    ]);
    let context = open(dir.path());
    assert_eq!(names(&context, ""), ["lib", "src"]);
    assert_eq!(names(&context, "src"), ["keep"]);
    assert_eq!(names(&context, "lib"), ["deep"]);
    assert_eq!(names(&context, "lib/deep/er"), ["a.go"]);
    for (at, there) in [("lib/deep", true), ("lib/other", false), ("docs", false), ("docs/a.md", false)] {
        assert_eq!(context.lookup(&path(at)).expect("looked").is_some(), there, "{at}");
    }
}

#[test]
fn the_ignore_file_beside_the_dockerfile_wins_and_is_not_merged() {
    let dir = folder(&[
        ("build/app.Dockerfile", "FROM scratch"),
        ("build/app.Dockerfile.dockerignore", "a"),
        (".containerignore", "b"),
        (".dockerignore", "c"),
    ]);
    let ignored = |context: &Context| ["a", "b", "c"].map(|name| context.explain(&path(name)).is_some());
    let file = dir.path().join("build/app.Dockerfile");
    let options = ContextOptions::default();
    let own = Context::open(dir.path(), Some(&file), &options).expect("opened");
    assert_eq!(ignored(&own), [true, false, false]);
    assert_eq!(ignored(&open(dir.path())), [false, true, false]);
    fs::remove_file(dir.path().join(".containerignore")).expect("removed");
    assert_eq!(ignored(&open(dir.path())), [false, false, true]);
    fs::remove_file(dir.path().join(".dockerignore")).expect("removed");
    assert_eq!(open(dir.path()).ignore_file(), None);
}

#[test]
fn the_dockerfile_is_found_even_where_it_is_ignored() {
    let dir = folder(&[("Dockerfile", "FROM a"), (".dockerignore", "*")]);
    let (file, text) = find_dockerfile(dir.path(), None).expect("found");
    assert_eq!((file, text.as_str()), (dir.path().join("Dockerfile"), "FROM a"));
    assert_eq!(names(&open(dir.path()), ""), [""; 0]);
    fs::write(dir.path().join("dockerfile"), "FROM c").expect("written");
    assert_eq!(find_dockerfile(dir.path(), None).expect("found").1, "FROM a");
    fs::write(dir.path().join("Containerfile"), "FROM b").expect("written");
    assert_eq!(find_dockerfile(dir.path(), None).expect("found").1, "FROM b");
    let small = folder(&[("dockerfile", "FROM c")]);
    assert_eq!(find_dockerfile(small.path(), None).expect("found").1, "FROM c");
}

#[test]
fn a_named_dockerfile_may_lie_outside_of_the_context() {
    let (dir, other) = (folder(&[]), folder(&[("x", "FROM x"), ("x.dockerignore", "y")]));
    let file = other.path().join("x");
    assert_eq!(find_dockerfile(dir.path(), Some(&file)).expect("found").1, "FROM x");
    let context = Context::open(dir.path(), Some(&file), &ContextOptions::default()).expect("opened");
    assert!(context.explain(&path("y")).is_some());
    let missing = other.path().join("nothing");
    let error = find_dockerfile(dir.path(), Some(&missing)).expect_err("missing");
    assert!(error.to_string().contains("nothing"), "{error}");
}

#[test]
fn no_dockerfile_is_an_error_that_names_the_folder() {
    let dir = folder(&[]);
    assert!(matches!(find_dockerfile(dir.path(), None), Err(ContextError::NoDockerfile { .. })));
    let error = find_dockerfile(&dir.path().join("no"), None).expect_err("no folder");
    assert!(matches!(error, ContextError::Open { .. }));
}

#[test]
fn a_fifo_as_dockerfile_or_ignore_file_does_not_hang() {
    for name in ["Dockerfile", ".dockerignore", "Dockerfile.dockerignore"] {
        let (dir, other) = (folder(&[]), folder(&[]));
        make_fifo(&dir.path().join(name));
        make_fifo(&other.path().join(name));
        for place in [&dir, &other] {
            let file = place.path().join("Dockerfile");
            let error = match name {
                "Dockerfile" => find_dockerfile(dir.path(), Some(&file)).map(drop),
                _ => Context::open(place.path(), Some(&file), &ContextOptions::default()).map(drop),
            };
            assert!(matches!(error, Err(ContextError::NotAFile { found: "fifo", .. })), "{name}: {error:?}");
        }
    }
    let dir = folder(&[]);
    let device = find_dockerfile(dir.path(), Some(Path::new("/dev/zero")));
    assert!(matches!(device, Err(ContextError::NotAFile { found: "character device", .. })));
}

#[test]
fn a_dockerfile_must_be_text_of_a_sensible_length() {
    let dir = folder(&[]);
    fs::write(dir.path().join("Dockerfile"), b"FROM \xff").expect("written");
    let error = find_dockerfile(dir.path(), None).expect_err("no text");
    assert!(matches!(error, ContextError::NotUtf8 { at: 5, .. }), "{error}");
    File::create(dir.path().join("Containerfile")).and_then(|file| file.set_len((16 << 20) + 1)).expect("long");
    let error = find_dockerfile(dir.path(), None).expect_err("too long");
    assert!(matches!(error, ContextError::TooLarge { .. }), "{error}");
    File::create(dir.path().join(".dockerignore")).and_then(|file| file.set_len((1 << 20) + 1)).expect("long");
    assert!(Context::open(dir.path(), None, &ContextOptions::default()).is_err());
}

#[test]
fn a_bad_rule_is_an_error_with_file_and_line() {
    let dir = folder(&[(".dockerignore", "ok\n!")]);
    let error = Context::open(dir.path(), None, &ContextOptions::default()).expect_err("bad");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(error.to_string().contains(".dockerignore") && cause.contains("line 2"), "{error}: {cause}");
}

#[test]
fn a_link_never_leads_out_of_the_context() {
    let other = folder(&[("Dockerfile", "FROM secret"), ("key", "k")]);
    let dir = folder(&[("real/Dockerfile", "FROM inside")]);
    symlink(other.path().join("key"), dir.path().join("key")).expect("linked");
    symlink(other.path(), dir.path().join("dir")).expect("linked");
    symlink(other.path().join("Dockerfile"), dir.path().join("Containerfile")).expect("linked");
    symlink("real/Dockerfile", dir.path().join("Dockerfile")).expect("linked");
    let context = open(dir.path());
    assert!(matches!(context.lookup(&path("key")).expect("looked").expect("there").kind, Kind::Symlink { .. }));
    assert_eq!(context.lookup(&path("dir/key")).expect("looked"), None);
    for outside in ["key", "dir/key"] {
        assert!(context.open(&path(outside)).is_err());
        assert!(context.digests(&[path(outside)]).is_err());
    }
    assert!(context.read_dir(&path("dir")).is_err());
    assert_eq!(tree::resolve(&context, b"key").expect("resolved").node, None);
    assert!(find_dockerfile(dir.path(), None).is_err());
    assert!(find_dockerfile(dir.path(), Some(&dir.path().join("Containerfile"))).is_err());
    let inside = find_dockerfile(dir.path(), Some(&dir.path().join("Dockerfile"))).expect("found");
    assert_eq!(inside.1, "FROM inside");
}

#[test]
fn a_socket_is_an_empty_file_and_a_fifo_is_a_fifo() {
    let dir = folder(&[]);
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s")).expect("bound");
    make_fifo(&dir.path().join("f"));
    let context = open(dir.path());
    let listed = context.read_dir(&TreePath::root()).expect("listed");
    assert_eq!(listed[0].1.kind, Kind::Fifo);
    assert_eq!(listed[1].1.kind, Kind::File { size: 0, digest: None });
    assert_eq!(context.digests(&[path("s")]).expect("digested"), [sha256("")]);
    assert_eq!(io::read_to_string(context.open(&path("s")).expect("opened")).expect("read"), "");
    let error = context.open(&path("f")).expect_err("a fifo is not opened");
    assert!(error.source.to_string().contains("fifo"));
    assert!(context.digests(&[path("f")]).is_err());
}

#[test]
fn names_may_be_any_bytes_and_errors_escape_them() {
    let dir = folder(&[]);
    let name = b"a\n\xff\x1b[31m";
    fs::write(dir.path().join(std::ffi::OsStr::from_bytes(name)), "x").expect("written");
    let context = open(dir.path());
    assert_eq!(context.read_dir(&TreePath::root()).expect("listed")[0].0, name);
    assert_eq!(context.digests(&[path(name)]).expect("digested"), [sha256("x")]);
    fs::remove_file(dir.path().join(std::ffi::OsStr::from_bytes(name))).expect("removed");
    let error = context.digests(&[path(name)]).expect_err("it is gone");
    assert_eq!(error.to_string(), r"look up a\n\xff\u{1b}[31m");
}

#[test]
fn an_unreadable_file_is_an_error_that_names_it() {
    let dir = folder(&[("private", "x"), ("closed/x", "")]);
    for name in ["private", "closed"] {
        fs::set_permissions(dir.path().join(name), Permissions::from_mode(0o000)).expect("set");
    }
    let context = open(dir.path());
    // Root may read all.
    if fs::read(dir.path().join("private")).is_err() {
        assert!(context.digests(&[path("private")]).expect_err("closed").to_string().contains("private"));
        assert!(context.read_dir(&path("closed")).expect_err("closed").to_string().contains("closed"));
    }
    fs::set_permissions(dir.path().join("closed"), Permissions::from_mode(0o755)).expect("set");
}

#[test]
fn a_thousand_levels_are_walked_with_few_descriptors() {
    let dir = folder(&[(".dockerignore", "*\n!**/bottom")]);
    let mut at = rustix::fs::openat(CWD, dir.path(), rustix::fs::OFlags::PATH, Mode::empty()).expect("opened");
    // Longer than the longest path of one system call.
    let mut text = Vec::new();
    for _ in 0..1000 {
        rustix::fs::mkdirat(&at, "low", Mode::from_raw_mode(0o755)).expect("made");
        at = rustix::fs::openat(&at, "low", rustix::fs::OFlags::PATH, Mode::empty()).expect("opened");
        text.extend_from_slice(b"low/");
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    drop(rustix::fs::openat(&at, "bottom", flags, Mode::from_raw_mode(0o644)).expect("made"));
    let context = open(dir.path());
    assert_eq!(names(&context, ""), ["low"]);
    let bottom = path([&text[..], b"bottom"].concat());
    assert!(context.lookup(&bottom).expect("looked").is_some());
    assert_eq!(context.digests(&[bottom]).expect("digested"), [sha256("")]);
}

#[test]
fn a_path_that_the_kernel_would_not_take_is_refused_in_few_words() {
    let dir = folder(&[]);
    let mut at = rustix::fs::openat(CWD, dir.path(), rustix::fs::OFlags::PATH, Mode::empty()).expect("opened");
    let name = "n".repeat(255);
    let mut above = Vec::new();
    for _ in 0..17 {
        rustix::fs::mkdirat(&at, &name, Mode::from_raw_mode(0o755)).expect("made");
        at = rustix::fs::openat(&at, &name, rustix::fs::OFlags::PATH, Mode::empty()).expect("opened");
        above.push(name.clone());
    }
    let error = open(dir.path()).read_dir(&path(above[..16].join("/"))).expect_err("4351 bytes");
    assert_eq!(error.to_string(), format!("read {0}…{0}", "n".repeat(60)));
    assert_eq!(error.source.to_string(), "the path has 4351 bytes, more than 4096");
    assert!(open(dir.path()).lookup(&path(above.join("/"))).is_err());
}

#[test]
fn digests_are_of_the_contents_in_the_order_asked_for() {
    let dir = folder(&[("b/2", "two"), ("a", "one"), ("b/1", "three")]);
    let context = open(dir.path());
    let paths = ["b/2", "a", "b/1", "a"].map(path);
    assert_eq!(context.digests(&paths).expect("digested"), ["two", "one", "three", "one"].map(sha256));
    assert_eq!(context.digests(&[]).expect("digested"), []);
    fs::remove_file(dir.path().join("a")).expect("removed");
    assert_eq!(context.digests(&paths).expect_err("it is gone").to_string(), "look up a");
}

#[test]
fn a_file_that_grew_since_it_was_shown_is_an_error() {
    let dir = folder(&[("a", "one")]);
    let context = open(dir.path());
    context.lookup(&path("a")).expect("looked");
    fs::write(dir.path().join("a"), "longer").expect("written");
    let error = context.digests(&[path("a")]).expect_err("it changed");
    assert_eq!(
        (error.to_string().as_str(), error.source.to_string().as_str()),
        ("read a", "it changed while it was read")
    );
}

fn cached(dir: &Path, cache: &Path) -> Context {
    let options = ContextOptions { cache_dir: Some(cache.to_path_buf()), ..ContextOptions::default() };
    Context::open(dir, None, &options).expect("opened")
}

#[test]
fn a_file_changed_within_the_same_tick_is_read_again() {
    let (dir, cache) = (folder(&[]), folder(&[]));
    let file = dir.path().join("a");
    for turn in 0..200 {
        let text = format!("{turn:04}");
        // In place: the same inode and the same length each time.
        fs::write(&file, &text).expect("written");
        let context = cached(dir.path(), cache.path());
        assert_eq!(context.digests(&[path("a")]).expect("digested"), [sha256(&text)]);
    }
}

#[test]
fn a_settled_file_is_not_read_again_and_a_touched_one_has_the_same_digest() {
    let (dir, cache) = (folder(&[("a", "one")]), folder(&[]));
    std::thread::sleep(Duration::from_millis(60));
    let digest = || cached(dir.path(), cache.path()).digests(&[path("a")]).expect("digested");
    assert_eq!(digest(), [sha256("one")]);
    // Put a lie into the cache: where it is believed, the file was not read.
    let record = fs::read_dir(cache.path()).expect("listed").next().expect("saved").expect("listed").path();
    let stat = HostDir::open(dir.path()).expect("opened").stat(&path("a")).expect("looked").expect("there");
    let mut lie = StatCache::default();
    lie.insert(stat.key, sha256("lie"), SystemTime::now());
    lie.save(&record).expect("saved");
    assert_eq!(digest(), [sha256("lie")]);
    File::open(dir.path().join("a")).and_then(|file| file.set_modified(SystemTime::now())).expect("touched");
    assert_eq!(digest(), [sha256("one")]);
    fs::write(&record, "damaged").expect("written");
    assert_eq!(digest(), [sha256("one")]);
}

#[test]
fn a_cache_folder_that_cannot_be_made_changes_nothing() {
    let dir = folder(&[("a", "one"), ("file", "")]);
    let context = cached(dir.path(), &dir.path().join("file/cache"));
    assert_eq!(context.digests(&[path("a")]).expect("digested"), [sha256("one")]);
}
