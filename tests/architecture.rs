//! The table of imports: which room of the house may use which. Read this first when you look for your way.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A room, and the rooms it may use. Floors go up; `cli` may use all.
const MAY_USE: &[(&str, &[&str])] = &[
    ("source", &[]),
    ("oci", &[]),
    ("tree", &[]),
    ("address", &[]),
    ("net", &[]),
    ("progress", &["source", "oci"]),
    ("dockerfile", &["source"]),
    ("plan", &["source", "oci", "address", "progress", "dockerfile"]),
    ("config", &["oci", "net"]),
    ("context", &["oci", "tree", "progress", "runtime"]),
    ("fetch", &["oci", "tree", "address", "net", "progress", "runtime"]),
    ("store", &["oci", "tree", "progress", "runtime"]),
    ("layer", &["oci", "tree", "runtime"]),
    ("registry", &["oci", "progress", "net", "config"]),
    ("input", &["oci", "tree", "address", "progress", "context", "fetch", "store", "layer"]),
    (
        "build",
        &["source", "oci", "tree", "progress", "plan", "context", "fetch", "address", "store", "layer", "runtime"],
    ),
    ("output", &["oci", "tree", "progress", "net", "config", "registry", "store", "layer"]),
    (
        "cli",
        &[
            "source",
            "oci",
            "tree",
            "address",
            "net",
            "progress",
            "dockerfile",
            "plan",
            "config",
            "context",
            "fetch",
            "store",
            "layer",
            "registry",
            "input",
            "build",
            "output",
            "runtime",
        ],
    ),
];

/// The source files of a folder, without test modules, comments and what follows `#[cfg(test)] mod tests`.
fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a folder of the project").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    let code = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("text");
        let text = text.split("#[cfg(test)]\nmod tests {").next().expect("a first part").to_string();
        text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
    };
    paths.iter().map(|path| (path.strip_prefix(&root).expect("below").to_path_buf(), code(path))).collect()
}

/// The room of a source file: its folder, or its name where it lies in `src` itself.
fn room(path: &Path) -> String {
    let first = path.iter().next().expect("a name").to_str().expect("UTF-8");
    first.trim_end_matches(".rs").to_string()
}

/// The rooms that this code names: `crate::room`, `crate::{room::…, room}`, `super::super::room`, `coracle_runtime`.
fn used(code: &str, depth: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let up = "super::".repeat(depth);
    for prefix in ["crate::", up.as_str()] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if before.is_alphanumeric() || matches!(before, '_' | ':' | '$') {
                continue;
            }
            let rest = &code[at + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(group) => found.extend(heads(group)),
                None => found.extend(identifier(rest)),
            }
        }
    }
    if code.contains("coracle_runtime") {
        found.insert("runtime".into());
    }
    found
}

/// The first identifier of each member of a group in braces.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut at_start, mut found) = (1, true, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => at_start = true,
            _ if at_start && depth == 1 && !letter.is_whitespace() => {
                found.extend(identifier(&group[at..]));
                at_start = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    (!name.is_empty() && !matches!(name.as_str(), "super" | "self")).then_some(name)
}

#[test]
fn rooms_use_what_the_table_says() {
    let mut wrong = Vec::new();
    for (path, code) in sources("src") {
        let room = room(&path);
        if matches!(room.as_str(), "lib" | "main") {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{} is in no room of the table", path.display()));
            continue;
        };
        let is_module_root = path.ends_with("mod.rs");
        let depth = path.iter().count() - usize::from(is_module_root);
        for other in used(&code, depth) {
            let is_room = other == "runtime" || MAY_USE.iter().any(|(name, _)| *name == other);
            if is_room && other != room && !allowed.contains(&other.as_str()) {
                wrong.push(format!("{} uses {other}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_runtime_knows_no_image() {
    for (path, code) in sources("runtime/src") {
        let names_us = code.replace("coracle_runtime", "").contains("coracle::");
        assert!(!names_us, "runtime/src/{} uses the crate coracle", path.display());
    }
}

#[test]
fn only_cli_prints_reads_the_environment_and_knows_exit_codes() {
    const HERS: [&str; 8] =
        ["println!", "eprintln!", "print!(", "eprint!(", "env::var", "env::args", "process::exit", "ExitCode"];
    for (path, code) in sources("src") {
        // A test may ask whether it is run in CI.
        let is_test = path.components().any(|part| part.as_os_str() == "tests");
        if !is_test && !matches!(room(&path).as_str(), "cli" | "main") {
            let found = HERS.iter().find(|word| code.contains(**word));
            assert_eq!(found, None, "src/{}", path.display());
        }
    }
}

#[test]
fn unsafe_code_is_in_one_place() {
    for (dir, path, code) in ["src", "runtime/src"]
        .iter()
        .flat_map(|dir| sources(dir).into_iter().map(move |(path, code)| (dir, path, code)))
    {
        if !(*dir == "runtime/src" && (path == Path::new("sys.rs") || path.starts_with("sys"))) {
            let word =
                code.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|word| word == "unsafe");
            assert!(!word, "{dir}/{} has unsafe code", path.display());
        }
    }
}

#[test]
fn this_test_sees_imports_in_all_their_forms() {
    let code = "use crate::{oci::{Digest, DiffId}, tree::TreePath, source};\nuse super::super::store::Store;\nlet x = crate::plan::key();";
    let rooms: Vec<_> = used(code, 2).into_iter().collect();
    assert_eq!(rooms, ["oci", "plan", "source", "store", "tree"]);
}
