//! What the comparisons with other builders share: cases, their context, and images in a form in which they can be compared.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::support::{Kind, Layer, Node, Project, Tree, User, root};

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

/// How many are built at the same time.
const AT_ONCE: usize = 2;

/// A Dockerfile to build with both.
pub struct Case {
    pub name: String,
    pub dockerfile: String,
    /// Parts that differ, with the reason.
    pub differs: BTreeMap<String, String>,
}

/// Returns the cases of a file in `tests/against`: `=== name` begins one, a line `! PART: why` in it names a difference.
pub fn cases(file: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(root().join("tests/against").join(file)).expect("the cases");
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
pub fn project(user: &User) -> Project {
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
pub struct Image {
    document: Value,
    files: BTreeMap<String, Node>,
}

impl Image {
    /// Returns an image with this configuration, and these layers, the lowest first: archives, packed or not.
    pub fn new(document: Value, layers: impl Iterator<Item = Vec<u8>>) -> Self {
        let mut tree = Tree::default();
        for bytes in layers {
            let layer = match bytes.starts_with(&[0x1f, 0x8b]) {
                true => Layer::read(flate2::read::MultiGzDecoder::new(bytes.as_slice())),
                false => Layer::read(bytes.as_slice()),
            };
            tree.apply(&layer);
        }
        Self::of_tree(document, &tree)
    }

    /// Returns an image with this configuration and these files.
    pub fn of_tree(document: Value, tree: &Tree) -> Self {
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
        Image { document, files: files.collect() }
    }

    /// Returns a part of the configuration; what says nothing is nothing.
    fn part(&self, name: &str) -> Value {
        let mut value = self.document["config"][name].clone();
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

    /// Returns, for each entry of the history, by what it was made, and whether it has a layer.
    pub fn history(&self) -> Vec<(String, bool)> {
        let entry = |entry: &Value| (entry["created_by"].as_str().unwrap_or("").into(), entry["empty_layer"] != true);
        self.document["history"].as_array().map_or_else(Vec::new, |all| all.iter().map(entry).collect())
    }
}

/// Returns in what `ours` is not like `theirs`, a line each. Paths for which `left` is true belong to the other builder.
pub fn differences(case: &Case, ours: &Image, theirs: &Image, left: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for part in PARTS {
        let (a, b) = (ours.part(part), theirs.part(part));
        if a != b && !case.differs.contains_key(part) {
            found.push(format!("{part}: {a} and theirs {b}"));
        }
    }
    let paths: BTreeSet<&String> = ours.files.keys().chain(theirs.files.keys()).collect();
    for path in paths {
        let (a, b) = (ours.files.get(path), theirs.files.get(path));
        if a != b && !left(path) && !case.differs.contains_key(&format!("tree {path}")) {
            found.push(format!("/{path}: {a:?} and theirs {b:?}"));
        }
    }
    found
}

/// Calls `compared` with each case and its number, two at a time, and returns all that it finds. While you work, the variable CASE
/// holds a part of the names of those that are left.
pub fn in_each(cases: &[Case], compared: impl Fn(&Case, usize) -> Vec<String> + Sync) -> Vec<String> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let only = std::env::var("CASE").ok();
    assert!(only.is_none() || std::env::var_os("CI").is_none(), "CASE leaves cases out");
    let work = || {
        while let Some((number, case)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            cases.get(number).map(|case| (number, case))
        } {
            if only.as_ref().is_none_or(|only| case.name.contains(only.as_str())) {
                let lines = compared(case, number).into_iter().map(|line| format!("{}: {line}", case.name));
                found.lock().unwrap_or_else(PoisonError::into_inner).extend(lines);
            }
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(work))));
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Builds a case with coracle.
pub fn ours(case: &Case, number: usize, project: &Project, dockerfile: &Path) -> Image {
    let name = format!("case-{number}:1");
    std::fs::write(dockerfile, &case.dockerfile).expect("a Dockerfile");
    let call = project.user().coracle(["build", "--progress=plain", "--tag", &name, "--file"]).arg(dockerfile);
    let built = project.clone().named(&name).built(call.arg(project.dir()).run()).succeeds();
    Image::of_tree(built.document().clone(), built.tree())
}
