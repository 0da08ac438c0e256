use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::store::Index;
use crate::tree::{FileDigest, Mtime, Node};

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn entry(at: &str, kind: Kind) -> Entry {
    Entry { path: path(at), kind, meta: Meta { mode: 0o644, ..Meta::default() }, implied: false }
}

fn file(content: u8) -> Kind {
    Kind::File { size: u64::from(content), digest: Some(FileDigest([content; 32])) }
}

fn link(target: &str) -> Kind {
    Kind::Hardlink { target: path(target) }
}

fn layer(entries: Vec<Entry>) -> ViewLayer {
    let index = Index::new(entries);
    ViewLayer { id: index.layer_id(), index: Arc::new(index), dir: std::path::Path::new("/nonexistent").into() }
}

fn layers(stack: &[&[(&str, Kind)]]) -> Vec<ViewLayer> {
    let of = |entries: &&[(&str, Kind)]| layer(entries.iter().map(|(at, kind)| entry(at, kind.clone())).collect());
    stack.iter().map(of).collect()
}

/// What is visible: each file, and which names are one file, called by the first of them.
fn shown(view: &View) -> BTreeMap<String, (Kind, Meta, Option<String>)> {
    let mut names: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let mut all = BTreeMap::new();
    view.walk(&mut |entry| {
        let Node { kind, meta, inode } = view.lookup(&entry.path).unwrap().unwrap();
        let first = inode.map(|inode| names.entry(inode).or_insert_with(|| entry.path.to_string()).clone());
        all.insert(entry.path.to_string(), (kind, meta, first));
        Ok::<(), ()>(())
    })
    .unwrap();
    all
}

/// Squashes the layers from `below` on, checks that nothing else is visible, and returns the entries that were made.
fn checked(stack: &[ViewLayer], below: usize) -> Vec<Entry> {
    let (lower, upper) = stack.split_at(below);
    let (entries, places) = merge(upper, &View::new(lower.to_vec())).unwrap();
    for pair in entries.windows(2) {
        assert!(pair[0].path < pair[1].path, "sorted, and each path once");
    }
    for entry in entries.iter().filter(|entry| matches!(entry.kind, Kind::File { .. })) {
        let (number, at) = &places[&entry.path];
        assert_eq!(upper[*number].index.get(at).map(|first| &first.kind), Some(&entry.kind), "{:?}", entry.path);
    }
    let squashed = layer(entries.clone());
    let after = View::new(lower.iter().cloned().chain([squashed]).collect());
    assert_eq!(shown(&after), shown(&View::new(stack.to_vec())), "{stack:#?}");
    entries
}

fn listed(entries: &[Entry]) -> Vec<String> {
    let what = |entry: &Entry| match &entry.kind {
        Kind::Hardlink { target } => format!("{} = {target}", entry.path),
        Kind::Whiteout => format!("-{}", entry.path),
        _ => entry.path.to_string(),
    };
    entries.iter().map(what).collect()
}

#[test]
fn what_came_and_went_leaves_nothing() {
    let stack = layers(&[
        &[("d", Kind::Dir), ("d/kept", file(1)), ("d/old", file(1))],
        &[("d", Kind::Dir), ("d/new", file(2)), ("d/short", file(3))],
        &[("d", Kind::Dir), ("d/old", Kind::Whiteout), ("d/short", Kind::Whiteout)],
    ]);
    assert_eq!(listed(&checked(&stack, 1)), ["d", "d/new", "-d/old"]);
    assert_eq!(listed(&checked(&stack, 0)), ["d", "d/kept", "d/new"]);
}

#[test]
fn a_directory_made_again_hides_what_was_in_it() {
    let stack = layers(&[
        &[("d", Kind::Dir), ("d/a", file(1)), ("d/sub", Kind::Dir), ("d/sub/x", file(1)), ("d/sub/y", file(1))],
        &[("d", Kind::Whiteout)],
        &[("d", Kind::Dir), ("d/b", file(2)), ("d/sub", Kind::Dir), ("d/sub/y", file(2))],
    ]);
    assert_eq!(listed(&checked(&stack, 1)), ["d", "-d/a", "d/b", "d/sub", "-d/sub/x", "d/sub/y"]);
    assert_eq!(listed(&checked(&stack, 0)), ["d", "d/b", "d/sub", "d/sub/y"]);
}

#[test]
fn names_of_one_file_stay_together_when_the_first_goes() {
    let stack = layers(&[
        &[("z", file(9))],
        &[("a", file(1)), ("b", link("a")), ("c", link("a"))],
        &[("a", Kind::Whiteout), ("c", file(2)), ("d", link("c"))],
    ]);
    assert_eq!(listed(&checked(&stack, 1)), ["b", "c", "d = c"]);
    let stack = layers(&[&[("z", file(9))], &[("a", file(1)), ("b", link("a")), ("c", link("a"))], &[("a", file(2))]]);
    assert_eq!(listed(&checked(&stack, 1)), ["a", "b", "c = b"]);
}

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// A layer that could follow `below`: a few changes, with the directories that lead to them.
fn any_layer(dice: &mut Dice, below: &View) -> ViewLayer {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let mut entries: BTreeMap<TreePath, Entry> = BTreeMap::new();
    for _ in 0..1 + dice.below(6) {
        let depth = 1 + dice.below(3);
        let at = (0..depth).fold(TreePath::root(), |at, _| at.child(NAMES[dice.below(3)].as_bytes()));
        let leads_on = |entry: &Entry| entry.kind.is_dir();
        let parents: Vec<TreePath> = at.ancestors().filter(|path| !path.is_root()).collect();
        let is_taken = entries.range(at.clone()..).next().is_some_and(|(other, _)| other.starts_with(&at));
        if is_taken || parents.iter().any(|path| entries.get(path).is_some_and(|entry| !leads_on(entry))) {
            continue;
        }
        let earlier: Vec<TreePath> = entries
            .values()
            .filter(|entry| matches!(entry.kind, Kind::File { .. }) && entry.path < at)
            .map(|entry| entry.path.clone())
            .collect();
        let kind = match dice.below(6) {
            0 | 1 => file(1 + dice.below(200) as u8),
            2 => Kind::Dir,
            3 if below.lookup(&at).unwrap().is_some() => Kind::Whiteout,
            4 if !earlier.is_empty() => Kind::Hardlink { target: earlier[dice.below(earlier.len())].clone() },
            _ => Kind::Symlink { target: b"x".to_vec() },
        };
        for path in parents {
            let mut dir = Entry { path: path.clone(), ..entry("x", Kind::Dir) };
            dir.meta.mtime = Mtime::from_secs(dice.below(9) as i64);
            entries.entry(path).or_insert(dir);
        }
        entries.insert(at.clone(), Entry { path: at, ..entry("x", kind) });
    }
    // Links come after what they name, whatever was made when.
    layer(entries.into_values().collect())
}

#[test]
fn whatever_the_layers_the_files_are_the_same() {
    let mut dice = Dice(7);
    for _ in 0..600 {
        let mut stack = Vec::new();
        for _ in 0..2 + dice.below(4) {
            let next = any_layer(&mut dice, &View::new(stack.clone()));
            stack.push(next);
        }
        for below in 0..stack.len() {
            let entries = checked(&stack, below);
            let lower = View::new(stack[..below].to_vec());
            for entry in entries.iter().filter(|entry| entry.kind == Kind::Whiteout) {
                assert!(lower.lookup(&entry.path).unwrap().is_some(), "no whiteout of nothing");
            }
        }
    }
}
