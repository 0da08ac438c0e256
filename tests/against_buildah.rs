//! Small Dockerfiles, each built by coracle and by buildah: the same configuration, and the same files. Where they differ on purpose,
//! `tests/against_buildah/cases` says why. buildah knows neither here-documents in COPY nor symbolic modes, and others of the newer
//! flags: those are held against what BuildKit makes of them in the tests of the room `plan`.

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use support::{Kind, Layer, Node, Project, Tree, User, base, require_tool, root};

/// Parts of the configuration that are compared.
const PARTS: [&str; 12] = [
    "Cmd",
    "Entrypoint",
    "Env",
    "Labels",
    "User",
    "WorkingDir",
    "ExposedPorts",
    "Volumes",
    "StopSignal",
    "Shell",
    "OnBuild",
    "Healthcheck",
];

/// What buildah leaves in the image after a RUN: mount points of its own.
const LEFT_BY_BUILDAH: [&str; 6] = ["run", "etc/hosts", "etc/resolv.conf", "etc/hostname", "proc", "sys"];

/// How many are built at the same time.
const AT_ONCE: usize = 2;

struct Case {
    name: String,
    dockerfile: String,
    /// Parts that differ, with the reason.
    differs: BTreeMap<String, String>,
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(root().join("tests/against_buildah/cases")).expect("the cases");
    let cases = text.split("\n=== ").skip(1).map(|case| {
        let (name, rest) = case.split_once('\n').expect("a name and a Dockerfile");
        let mut case = Case { name: name.into(), dockerfile: String::new(), differs: BTreeMap::new() };
        for line in rest.lines() {
            match line.strip_prefix("! ") {
                Some(difference) => {
                    let (part, why) = difference.split_once(": ").expect("a part and a reason");
                    case.differs.insert(part.into(), why.into());
                }
                None => case.dockerfile.extend([line, "\n"]),
            }
        }
        case
    });
    cases.collect()
}

/// Returns a project with the files that the cases copy.
fn project(user: &User) -> Project {
    let archive = |bytes: &mut Vec<u8>| {
        let mut archive = tar::Builder::new(bytes);
        for (path, text) in [("in/one", "1"), ("in/deep/two", "22")] {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.set_mode(0o640);
            header.set_uid(9);
            header.set_gid(10);
            archive.append_data(&mut header, path, text.as_bytes()).expect("an entry");
        }
        archive.finish().expect("an archive");
    };
    let (mut plain, mut squeezed) = (Vec::new(), Vec::new());
    archive(&mut plain);
    let mut encoder = flate2::read::GzEncoder::new(plain.as_slice(), flate2::Compression::default());
    encoder.read_to_end(&mut squeezed).expect("gzip");
    Project::of(user)
        .file("f", "f")
        .file("g", "gg")
        .file("a.txt", "a")
        .file("b.txt", "bb")
        .file("with space", "s")
        .file("dir/a", "a")
        .file("dir/sub/b", "b")
        .file("sub/one/x", "x")
        .file("sub/two/y", "y")
        .file("links/target", "t")
        .link("links/to-it", "target")
        .link("links/to-nothing", "nothing")
        .file("tool", "#!/bin/sh\n")
        .mode("tool", 0o755)
        .file("private", "p")
        .mode("private", 0o604)
        .file("plain.tar", &plain)
        .file("squeezed.tar.gz", &squeezed)
}

/// What was built, in the same form for both.
struct Image {
    config: Value,
    files: BTreeMap<String, Node>,
}

impl Image {
    fn new(config: &Value, tree: &Tree) -> Self {
        let nodes: BTreeMap<String, Node> =
            tree.paths().map(|path| (path.to_owned(), tree.get(path).expect("it was just named").clone())).collect();
        let files = nodes.iter().map(|(path, node)| {
            let mut node = Node { mtime: 0, ..node.clone() };
            // Which of several names is the file and which ones are links does not matter.
            if let Kind::HardLink(target) = &node.kind {
                node.kind = nodes.get(target.trim_matches('/')).map_or(Kind::Other, |file| file.kind.clone());
            }
            (path.clone(), node)
        });
        Image { config: config.clone(), files: files.collect() }
    }

    /// Reads what buildah wrote with the transport `dir`.
    fn of_dir(dir: &Path) -> Self {
        let json = |name: &str| -> Value {
            serde_json::from_slice(&std::fs::read(dir.join(name)).expect(name)).expect("JSON")
        };
        let blob = |descriptor: &Value| descriptor["digest"].as_str().expect("a digest")["sha256:".len()..].to_owned();
        let manifest = json("manifest.json");
        let mut tree = Tree::default();
        for layer in manifest["layers"].as_array().expect("layers") {
            let mut bytes = Vec::new();
            File::open(dir.join(blob(layer))).and_then(|mut file| file.read_to_end(&mut bytes)).expect("a layer");
            let layer = match bytes.starts_with(&[0x1f, 0x8b]) {
                true => Layer::read(flate2::read::MultiGzDecoder::new(bytes.as_slice())),
                false => Layer::read(bytes.as_slice()),
            };
            tree.apply(&layer);
        }
        Image::new(&json(&blob(&manifest["config"]))["config"], &tree)
    }

    /// Returns a part of the configuration; what says nothing is nothing.
    fn part(&self, name: &str) -> Value {
        let mut value = self.config[name].clone();
        if let Some(labels) = value.as_object_mut() {
            labels.remove("io.buildah.version");
        }
        let empty = match &value {
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::String(text) => text.is_empty() || (name == "WorkingDir" && text == "/"),
            _ => false,
        };
        if empty { Value::Null } else { value }
    }
}

/// Returns what is not the same, a line each.
fn differences(case: &Case, ours: &Image, theirs: &Image) -> Vec<String> {
    let mut found = Vec::new();
    for part in PARTS {
        let (a, b) = (ours.part(part), theirs.part(part));
        if a != b && !case.differs.contains_key(part) {
            found.push(format!("{part}: {a} and buildah {b}"));
        }
    }
    let left = |path: &str| {
        let below = |of: &str| path == of || path.starts_with(&format!("{of}/"));
        case.dockerfile.to_ascii_uppercase().contains("RUN ") && LEFT_BY_BUILDAH.iter().any(|of| below(of))
    };
    let paths: std::collections::BTreeSet<&String> = ours.files.keys().chain(theirs.files.keys()).collect();
    for path in paths {
        let (a, b) = (ours.files.get(path), theirs.files.get(path));
        if a != b && !left(path) && !case.differs.contains_key(&format!("tree {path}")) {
            found.push(format!("/{path}: {a:?} and buildah {b:?}"));
        }
    }
    found
}

/// Builds a case with both and returns what is not the same.
fn compared(case: &Case, number: usize, project: &Project, store: &Path, out: &Path) -> Vec<String> {
    let dockerfile = out.join(format!("Dockerfile.{number}"));
    std::fs::write(&dockerfile, &case.dockerfile).expect("a Dockerfile");
    let (file, context) = (dockerfile.display(), project.dir().display());
    let name = format!("case-{number}:1");
    let ours = project.clone().named(&name);
    let call = ours.user().coracle(["build", "--progress=plain", "--tag", &name, "--file"]).arg(&dockerfile);
    let ours = ours.built(call.arg(project.dir()).run()).succeeds();
    let theirs = out.join(format!("theirs-{number}"));
    let line = format!(
        "{} bud --layers=false --isolation chroot --network host --pull-never --format docker --identity-label=false \
         -f {file} -t dir:{} {context}",
        buildah(store),
        theirs.display(),
    );
    project.user().tool(&line).run().succeeds();
    let found = differences(case, &Image::new(ours.config(), ours.tree()), &Image::of_dir(&theirs));
    found.into_iter().map(|line| format!("{}: {line}", case.name)).collect()
}

fn buildah(store: &Path) -> String {
    format!("buildah --root {0}/root --runroot {0}/run --storage-driver vfs", store.display())
}

#[test]
fn coracle_and_buildah_make_the_same_of_small_dockerfiles() {
    if !require_tool("buildah") {
        return;
    }
    let user = User::with_busybox();
    let (project, store, out) = (project(&user), user.new_dir(), user.new_dir());
    // buildah makes a name of the path of a layout, and no part of a name may begin with a dot.
    base::busybox();
    let pull = format!("{} pull -q oci:busybox-latest:docker.io/library/busybox:latest", buildah(&store));
    let id = user.tool(&pull).within(&root().join(".fixtures")).run().succeeds().stdout;
    user.tool(&format!("{} tag {} docker.io/library/busybox:latest", buildah(&store), id.trim())).run().succeeds();

    let cases = cases();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let only = std::env::var("CASE").ok();
    let work = || {
        while let Some((number, case)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            cases.get(number).map(|case| (number, case))
        } {
            if only.as_ref().is_some_and(|only| !case.name.contains(only.as_str())) {
                continue;
            }
            let different = compared(case, number, &project, &store, &out);
            found.lock().unwrap_or_else(PoisonError::into_inner).extend(different);
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(work))));
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}
