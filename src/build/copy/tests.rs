mod flags;

use std::collections::BTreeMap;

use super::plan::{CopyItem, CopyPlan, Placing};
use super::*;
use crate::plan::{self as steps, Chmod, Copy, CopyFrom, CopySource, SymbolicMode};
use crate::tree::memory::MemoryTree;
use crate::tree::{Kind, Mtime, TreePath};

fn path(text: &str) -> TreePath {
    TreePath::new(text).expect("a good path")
}

fn copy(sources: &[&str], destination: &str) -> Copy {
    Copy {
        from: CopyFrom::Context,
        sources: sources.iter().map(|&source| CopySource::Path(source.to_owned())).collect(),
        destination: destination.to_owned(),
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        exclude: Vec::new(),
        add: None,
    }
}

/// The time of new directories.
const NOW: i64 = 1234;

fn planned_for(
    copy: &Copy,
    source: &MemoryTree,
    image: &MemoryTree,
    owner: Option<(u32, u32)>,
) -> Result<CopyPlan, CopyError> {
    select(copy, source, Vec::new())?.plan(image, &Placing { owner, now: NOW, ..Placing::default() })
}

fn planned(copy: &Copy, source: &MemoryTree, image: &MemoryTree) -> Result<CopyPlan, CopyError> {
    planned_for(copy, source, image, None)
}

/// Whether an item is a directory that was made for the destination.
fn is_parent(item: &CopyItem) -> bool {
    item.source.is_root() && item.node.kind.is_dir()
}

/// The targets, with a slash behind directories, and a plus in front of new parents, which come first.
fn targets_of(plan: &CopyPlan) -> Vec<String> {
    let parents = plan.items.iter().filter(|item| is_parent(item)).map(|item| format!("+{}", item.target));
    let slash = |item: &CopyItem| if item.node.kind.is_dir() { "/" } else { "" };
    let others = plan.items.iter().filter(|item| !is_parent(item));
    parents.chain(others.map(|item| format!("{}{}", item.target, slash(item)))).collect()
}

fn targets(sources: &[&str], destination: &str, source: &MemoryTree, image: &MemoryTree) -> Vec<String> {
    targets_of(&planned(&copy(sources, destination), source, image).expect("planned"))
}

/// The items that are no new parents.
fn items(plan: &CopyPlan) -> Vec<&CopyItem> {
    plan.items.iter().filter(|item| !is_parent(item)).collect()
}

fn refused(sources: &[&str], destination: &str, source: &MemoryTree, image: &MemoryTree) -> CopyError {
    planned(&copy(sources, destination), source, image).expect_err("refused")
}

fn digest(sources: &[&str], source: &MemoryTree) -> [u8; 32] {
    select(&copy(sources, "/x/"), source, Vec::new()).expect("selected").digest()
}

fn sources() -> MemoryTree {
    MemoryTree::new()
        .file("f", "f")
        .file("g", "g")
        .file(".hidden", "")
        .file("dir/a", "a")
        .file("dir/sub/b", "b")
        .file("sub/one/x", "")
        .file("sub/two/y", "")
        .file("sub/z", "")
}

fn empty() -> MemoryTree {
    MemoryTree::new()
}

#[test]
fn rule_1_the_contents_of_a_directory_are_copied_never_itself() {
    for written in ["dir", "dir/", "dir/.", "/dir", "./dir"] {
        for image in [empty(), empty().dir("d")] {
            let made = targets(&[written], "/d", &sources(), &image);
            let expected = ["d/a", "d/sub/", "d/sub/b"];
            assert_eq!(made.iter().filter(|path| !path.starts_with('+')).collect::<Vec<_>>(), expected, "{written}");
        }
    }
    assert_eq!(targets(&["."], "/", &MemoryTree::new().file("a/b", ""), &empty()), ["a/", "a/b"]);
}

#[test]
fn rule_1_a_glob_copies_the_contents_of_each_directory_that_it_matches() {
    assert_eq!(targets(&["sub/*"], "/x/", &sources(), &empty()), ["+x", "x/x", "x/y", "x/z"]);
}

#[test]
fn rule_2_a_file_goes_into_a_directory_or_gets_the_name_of_the_destination() {
    let image = empty().dir("there");
    assert_eq!(targets(&["f"], "/a/b/", &sources(), &image), ["+a", "+a/b", "a/b/f"]);
    assert_eq!(targets(&["f"], "/a/b/.", &sources(), &image), ["+a", "+a/b", "a/b/f"]);
    assert_eq!(targets(&["f"], "/a/b", &sources(), &image), ["+a", "a/b"]);
    assert_eq!(targets(&["f"], "/there", &sources(), &image), ["there/f"]);
    assert_eq!(targets(&["dir/sub/b"], "/", &sources(), &image), ["b"]);
    assert_eq!(targets(&["f/"], "/x", &sources(), &image), ["x"]);
}

#[test]
fn rule_2_new_parents_are_0755_and_belong_to_the_owner_given() {
    for owner in [None, Some((5, 6))] {
        let plan = planned_for(&copy(&["f"], "/a/b"), &sources(), &empty(), owner).expect("planned");
        let meta = &plan.items[0].node.meta;
        assert_eq!((plan.items[0].target.clone(), meta.mode), (path("a"), 0o755));
        assert_eq!(((meta.uid, meta.gid), meta.mtime), (owner.unwrap_or_default(), Mtime::from_secs(NOW)));
    }
}

#[test]
fn rule_3_dots_above_the_root_stay_at_the_root() {
    for written in ["../f", "/f", "dir/../../../f", "../../*/../f"] {
        assert_eq!(targets(&[written], "/x", &sources(), &empty()), ["x"], "{written}");
    }
    assert!(matches!(refused(&["../missing"], "/x", &sources(), &empty()), CopyError::NotFound { .. }));
}

#[test]
fn rule_4_a_glob_that_matches_nothing_is_a_warning() {
    for glob in ["*.none", "nowhere/*", "f/*", "sub/*/none"] {
        let selection = select(&copy(&[glob], "/x/"), &sources(), Vec::new()).expect("selected");
        assert!(selection.plan(&empty(), &Placing::default()).expect("planned").items.is_empty());
        assert_eq!(selection.warnings(), [format!("{glob:?} matches no file; nothing is copied for it")]);
    }
}

#[test]
fn rule_4_a_plain_source_that_is_missing_is_an_error() {
    let source = MemoryTree::new().file("src/package.json", "");
    let error = refused(&["src/pakage.json"], "/x", &source, &empty());
    assert_eq!(error.to_string(), "\"src/pakage.json\" is not there; did you mean \"src/package.json\"?");
    let error = refused(&["src/nothing/like/it"], "/x", &source, &empty());
    assert_eq!(error.to_string(), "\"src/nothing/like/it\" is not there");
    assert!(matches!(refused(&["src/package.json/x"], "/x", &source, &empty()), CopyError::NotFound { .. }));
    assert!(matches!(refused(&["f", "*", "nothing"], "/x/", &sources(), &empty()), CopyError::NotFound { .. }));
}

#[test]
fn rule_5_globs_are_those_of_filepath_match() {
    let source = MemoryTree::new().file("[x]", "").file("a.b", "").file("back\\slash", "").file("d/e/f", "");
    assert_eq!(targets(&["[[]x]"], "/", &source, &empty()), ["[x]"]);
    assert_eq!(targets(&["?.b"], "/", &source, &empty()), ["a.b"]);
    assert_eq!(targets(&["d/**/f"], "/", &source, &empty()), ["f"]);
    assert_eq!(targets(&["**/f"], "/", &source, &empty()), [""; 0], "two stars are no more than one");
    assert_eq!(targets(&["back\\slash"], "/", &source, &empty()), ["back\\slash"]);
    assert_eq!(targets(&["*"], "/x/", &MemoryTree::new().file(".hidden", ""), &empty()), ["+x", "x/.hidden"]);
    assert!(matches!(refused(&["[a"], "/", &source, &empty()), CopyError::BadPattern { .. }));
}

#[test]
fn rule_6_a_link_that_is_named_or_matched_is_followed_and_one_inside_is_kept() {
    let source = MemoryTree::new()
        .link("to-file", "/../dir/a")
        .link("to-dir", "dir")
        .link("away", "../../etc/passwd")
        .file("dir/a", "a")
        .link("dir/inner", "a");
    assert_eq!(targets(&["to-file"], "/x/", &source, &empty()), ["+x", "x/to-file"]);
    assert_eq!(targets(&["to-f*"], "/x/", &source, &empty()), ["+x", "x/to-file"]);
    assert_eq!(targets(&["to-dir/a"], "/x/", &source, &empty()), ["+x", "x/a"]);
    let plan = planned(&copy(&["to-d?r"], "/x"), &source, &empty()).expect("planned");
    assert_eq!(items(&plan)[0].source, path("dir/a"));
    assert_eq!(items(&plan)[1].node.kind, Kind::Symlink { target: b"a".to_vec() });
    let error = refused(&["away"], "/x", &source, &empty());
    assert_eq!(error.to_string(), "\"away\" is a symbolic link to etc/passwd, which is not there");
    assert!(matches!(refused(&["aw*"], "/x", &source, &empty()), CopyError::DanglingLink { .. }));
    assert_eq!(targets(&["to-dir/*/../a"], "/x", &source, &empty()), ["x"]);
    let turning = MemoryTree::new().link("a", "b").link("b", "a");
    assert!(matches!(refused(&["a"], "/x", &turning, &empty()), CopyError::Tree(_)));
}

#[test]
fn rule_7_links_in_the_destination_are_followed_inside_of_the_image() {
    let image = empty().link("link", "../tmp/target").link("bin", "/usr/bin").dir("usr/bin");
    assert_eq!(targets(&["f"], "/link/", &sources(), &image), ["+tmp", "+tmp/target", "tmp/target/f"]);
    assert_eq!(targets(&["f"], "/link", &sources(), &image), ["+tmp", "tmp/target"]);
    assert_eq!(targets(&["dir"], "/link", &sources(), &image)[..2], ["+tmp", "+tmp/target"]);
    assert_eq!(targets(&["f"], "/bin", &sources(), &image), ["usr/bin/f"]);
    assert_eq!(targets(&["f"], "/bin/f", &sources(), &image), ["usr/bin/f"]);
    let turning = empty().link("a", "b").link("b", "a");
    assert!(matches!(refused(&["f"], "/a/x", &sources(), &turning), CopyError::Tree(_)));
}

#[test]
fn rule_7_a_link_at_the_place_of_a_file_is_replaced_unless_it_is_the_destination() {
    let image = empty().file("etc/real", "").link("etc/f", "real");
    assert_eq!(targets(&["f"], "/etc/f", &sources(), &image), ["etc/real"]);
    assert_eq!(targets(&["f"], "/etc/", &sources(), &image), ["etc/f"]);
    assert_eq!(targets(&["."], "/etc", &MemoryTree::new().file("f", ""), &image), ["etc/f"]);
}

#[test]
fn rule_8_a_directory_and_something_else_do_not_replace_one_another() {
    let image = empty().file("file", "").dir("x/f").file("y/sub", "").link("lib", "usr/lib").dir("usr/lib");
    let error = refused(&["dir"], "/file", &sources(), &image);
    assert_eq!(error.to_string(), "cannot copy the directory dir to file: a file is there");
    let error = refused(&["dir"], "/y", &sources(), &image);
    assert_eq!(error.to_string(), "cannot copy the directory dir/sub to y/sub: a file is there");
    let error = refused(&["f"], "/x/", &sources(), &image);
    assert_eq!(error.to_string(), "cannot copy f to x/f: a directory is there");
    let error = refused(&["f"], "/file/", &sources(), &image);
    assert_eq!(error.to_string(), "cannot copy to \"/file/\": file is a file, not a directory");
    let error = refused(&["f"], "/file/deep/er", &sources(), &image);
    assert_eq!(error.to_string(), "cannot copy to \"/file/deep/er\": file is a file, not a directory");
    let over_link = MemoryTree::new().file("r/lib/x", "");
    let error = refused(&["r"], "/", &over_link, &image);
    assert_eq!(error.to_string(), "cannot copy the directory r/lib to lib: a symbolic link is there");
}

#[test]
fn rule_9_the_destination_keeps_its_attributes_and_directories_in_it_get_those_of_the_source() {
    let source = MemoryTree::new()
        .dir("d")
        .owner(100, 200)
        .mode(0o700)
        .dir("d/sub")
        .owner(101, 201)
        .mode(0o711)
        .file("d/sub/x", "");
    let image = empty().dir("there").mode(0o700).dir("there/sub").owner(7, 7).mode(0o1777).xattr("user.x", "y");
    let meta = |plan: &CopyPlan, at: usize| {
        let meta = &plan.items[at].node.meta;
        (meta.uid, meta.gid, meta.mode)
    };
    let plan = planned(&copy(&["d"], "/there"), &source, &image).expect("planned");
    assert_eq!(targets_of(&plan), ["there/sub/", "there/sub/x"], "the destination itself does not change");
    assert_eq!(meta(&plan, 0), (101, 201, 0o711));
    assert_eq!(plan.items[0].node.meta.xattrs.len(), 1, "nothing is taken away");
    let plan = planned(&copy(&["d"], "/new"), &source, &image).expect("planned");
    assert_eq!(targets_of(&plan), ["+new", "new/sub/", "new/sub/x"]);
    assert_eq!((meta(&plan, 0), meta(&plan, 1)), ((0, 0, 0o755), (101, 201, 0o711)));
}

#[test]
fn rule_10_owners_of_a_stage_are_kept() {
    let source = MemoryTree::new().file("f", "").owner(12, 34);
    let plan = planned(&copy(&["f"], "/x"), &source, &empty()).expect("planned");
    assert_eq!((plan.items[0].node.meta.uid, plan.items[0].node.meta.gid), (12, 34));
}

#[test]
fn rules_11_and_12_chown_and_chmod_apply_to_all_but_the_mode_of_links() {
    let source = MemoryTree::new().file("d/f", "").owner(1, 2).dir("d/e").link("d/l", "f");
    let all = Copy { chown: Some("5:6".into()), chmod: Some(Chmod::Octal(0o4750)), ..copy(&["d"], "/a/b") };
    let plan = planned_for(&all, &source, &empty(), Some((5, 6))).expect("planned");
    assert_eq!(plan.items.len(), 5);
    for item in &plan.items {
        let mode = if matches!(item.node.kind, Kind::Symlink { .. }) { 0o777 } else { 0o4750 };
        let meta = &item.node.meta;
        assert_eq!((meta.uid, meta.gid, meta.mode), (5, 6, mode), "{}", item.target);
    }
}

#[test]
fn rule_12_a_symbolic_chmod_changes_each_mode_and_that_of_new_parents() {
    let source = MemoryTree::new().file("d/f", "").mode(0o600).file("d/run", "").mode(0o700).dir("d/e").mode(0o700);
    let change = SymbolicMode::parse("u=rwX,go=rX,g+w").expect("a mode");
    let all = Copy { chmod: Some(Chmod::Symbolic(change)), ..copy(&["d"], "/a") };
    let plan = planned(&all, &source, &empty()).expect("planned");
    let modes: Vec<_> = plan.items.iter().map(|item| (item.target.to_string(), item.node.meta.mode)).collect();
    let expected = [("a", 0o775), ("a/e", 0o775), ("a/f", 0o664), ("a/run", 0o775)];
    assert_eq!(modes, expected.map(|(path, mode)| (path.to_owned(), mode)));
}

#[test]
fn rule_13_modes_times_capabilities_and_hard_links_are_kept_and_user_attributes_are_not() {
    let source = MemoryTree::new()
        .file("d/a", "same")
        .inode(9)
        .mode(0o6755)
        .mtime(-5)
        .xattr("security.capability", "c")
        .xattr("user.x", "y")
        .file("d/b", "same")
        .inode(9)
        .other("d/fifo", Kind::Fifo)
        .other("d/tty", Kind::Char { device: (5, 0) });
    let plan = planned(&copy(&["d"], "/x"), &source, &empty()).expect("planned");
    let meta = &items(&plan)[0].node.meta;
    assert_eq!((meta.mode, meta.mtime), (0o6755, Mtime::from_secs(-5)));
    assert_eq!(meta.xattrs.keys().collect::<Vec<_>>(), [&b"security.capability".to_vec()]);
    assert_eq!(items(&plan)[0].hardlink, None);
    assert_eq!(items(&plan)[1].hardlink, Some(path("x/a")));
    assert_eq!(items(&plan)[2].node.kind, Kind::Fifo);
    assert!(matches!(items(&plan)[0].node.kind, Kind::File { digest: Some(_), .. }));
}

#[test]
fn rule_13_a_hard_link_never_points_at_a_file_that_was_replaced() {
    let source = MemoryTree::new().file("d/a", "1").inode(9).file("d/b", "1").inode(9).file("e/a", "2");
    let plan = planned(&copy(&["d", "e"], "/x"), &source, &empty()).expect("planned");
    let made: Vec<_> = items(&plan).into_iter().map(|item| (item.source.to_string(), item.hardlink.clone())).collect();
    assert_eq!(made, [("e/a".to_owned(), None), ("d/b".to_owned(), None)]);
}

#[test]
fn rule_17_the_digest_is_of_all_that_is_read_and_of_no_time() {
    let base = || MemoryTree::new().file("d/f", "text").link("d/l", "f").dir("d/e");
    let before = digest(&["d"], &base());
    let same = [
        base().file("other", ""),
        base().file("d/f", "text").mtime(99),
        base().file("d/f", "text").inode(4),
        base().file("d/f", "text").xattr("user.x", "y"),
        base().dir("d").mode(0o700).owner(3, 3),
    ];
    for tree in same {
        assert_eq!(digest(&["d"], &tree), before);
    }
    let other = [
        base().file("d/f", "Text"),
        base().file("d/f", "text").mode(0o755),
        base().file("d/f", "text").owner(1, 0),
        base().file("d/f", "text").owner(0, 1),
        base().file("d/f", "text").xattr("security.capability", "y"),
        base().link("d/l", "g"),
        base().dir("d/l"),
        base().dir("d/e").mode(0o711),
        base().other("d/l", Kind::Fifo),
        base().file("d/g", ""),
    ];
    for (number, tree) in other.into_iter().enumerate() {
        assert_ne!(digest(&["d"], &tree), before, "change {number}");
    }
    assert_ne!(digest(&["d/f"], &base()), digest(&["d"], &base()));
}

#[test]
fn rule_17_owners_do_not_count_where_chown_replaces_them() {
    let read = |tree: &MemoryTree, chown: Option<&str>| {
        let copy = Copy { chown: chown.map(str::to_owned), ..copy(&["f"], "/x") };
        select(&copy, tree, Vec::new()).expect("selected").digest()
    };
    let (a, b) = (MemoryTree::new().file("f", ""), MemoryTree::new().file("f", "").owner(1, 1));
    assert_ne!(read(&a, None), read(&b, None));
    assert_eq!(read(&a, Some("5")), read(&b, Some("5")));
}

#[test]
fn rule_17_a_file_that_moves_between_sources_changes_the_digest() {
    let a = MemoryTree::new().file("d/x", "1").file("e/y", "2");
    let b = MemoryTree::new().file("d/x", "1").file("d/y", "2").dir("e");
    assert_ne!(digest(&["d", "e"], &a), digest(&["d", "e"], &b));
}

#[test]
fn several_sources_to_one_name_write_one_file_and_the_last_wins() {
    let plan = planned(&copy(&["f", "g"], "/x"), &sources(), &empty()).expect("planned");
    assert_eq!(plan.items.len(), 1);
    assert_eq!((plan.items[0].source.to_string(), plan.items[0].target.to_string()), ("g".into(), "x".into()));
}

#[test]
fn a_later_source_sees_what_an_earlier_one_did() {
    assert_eq!(targets(&["dir", "f"], "/x", &sources(), &empty()), ["+x", "x/a", "x/f", "x/sub/", "x/sub/b"]);
    assert!(matches!(refused(&["f", "dir"], "/x", &sources(), &empty()), CopyError::DirectoryOntoOther { .. }));
    let clash = MemoryTree::new().file("a/n/x", "").file("b/n", "");
    assert!(matches!(refused(&["a", "b"], "/x/", &clash, &empty()), CopyError::FileOntoDirectory { .. }));
}

#[test]
fn the_same_file_twice_is_one_item() {
    assert_eq!(targets(&["f", "f", "*f"], "/x/", &sources(), &empty()), ["+x", "x/f"]);
}

#[test]
fn paths_that_no_file_can_have_are_errors() {
    let long = "x".repeat(256);
    for written in [long.as_str(), "a\0b", &format!("{long}/*")] {
        assert!(matches!(refused(&[written], "/x", &sources(), &empty()), CopyError::BadPath { .. }));
    }
    assert!(matches!(refused(&["f"], &format!("/{long}"), &sources(), &empty()), CopyError::BadPath { .. }));
}

#[test]
fn a_context_a_thousand_levels_deep_is_copied() {
    // With names of two bytes: the path has 3000.

    use rustix::fs::{CWD, Mode, OFlags};
    let dir = tempfile::tempdir().expect("a folder");
    let mut at = rustix::fs::openat(CWD, dir.path(), OFlags::PATH, Mode::empty()).expect("opened");
    for _ in 0..1000 {
        rustix::fs::mkdirat(&at, "dd", Mode::from_raw_mode(0o755)).expect("made");
        at = rustix::fs::openat(&at, "dd", OFlags::PATH, Mode::empty()).expect("opened");
    }
    let context = crate::context::Context::open(dir.path(), None, &Default::default()).expect("opened");
    let selection = select(&copy(&["."], "/x"), &context, Vec::new()).expect("selected");
    let plan = selection.plan(&empty(), &Placing::default()).expect("planned");
    assert_eq!(plan.items.len(), 1001);
}

#[test]
fn a_source_that_an_ignore_file_hides_is_not_found_and_the_context_knows_why() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("secret"), "").expect("written");
    std::fs::write(dir.path().join(".dockerignore"), "secret").expect("written");
    let context = crate::context::Context::open(dir.path(), None, &Default::default()).expect("opened");
    let selected = select(&copy(&["/secret"], "/x"), &context, Vec::new());
    let Err(CopyError::NotFound { path, .. }) = selected else { panic!("hidden") };
    assert_eq!(context.explain(&path).expect("a rule").line, 1);
}

#[test]
fn a_source_that_changes_while_it_is_copied_is_an_error() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path()).expect("a store");
    let control = Control::new();
    let (before, after) = (MemoryTree::new().file("f", "text"), MemoryTree::new().file("f", "Text"));
    for add in [None, Some(steps::Add::default())] {
        let selection = select(&Copy { add, ..copy(&["f"], "/x") }, &before, Vec::new()).expect("selected");
        let made = |tree: &MemoryTree| {
            let active = store.prepare().expect("a layer");
            let place = Place { store: &store, active: &active, owners: Owners::Caller, control: &control };
            let main = Main { tree, trust: Trust::MayChange };
            super::copy(&selection, &main, &View::default(), None, &place).map(|(index, _)| index.entries().len())
        };
        assert_eq!(made(&before).expect("copied"), 1);
        let error = made(&after).expect_err("it changed");
        assert!(matches!(&error, BuildError::ChangedMeanwhile { path } if path == "f"), "{error}");
    }
}
