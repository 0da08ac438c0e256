use crate::build::copy_select::select;
use crate::plan::{Chmod, Copy, CopyFrom, CopySource};
use crate::tree::memory::MemoryTree;

use super::*;

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

fn planned(copy: &Copy, source: &MemoryTree, image: &MemoryTree) -> Result<CopyPlan, CopyError> {
    select(copy, source)?.plan(image, None)
}

/// The targets, with a slash behind directories; the new parents first, with a plus in front.
fn targets(sources: &[&str], destination: &str, source: &MemoryTree, image: &MemoryTree) -> Vec<String> {
    let plan = planned(&copy(sources, destination), source, image).expect("planned");
    let parents = plan.parents.iter().map(|parent| format!("+{parent}"));
    let slash = |item: &CopyItem| if item.node.kind.is_dir() { "/" } else { "" };
    parents.chain(plan.items.iter().map(|item| format!("{}{}", item.target, slash(item)))).collect()
}

fn refused(sources: &[&str], destination: &str, source: &MemoryTree, image: &MemoryTree) -> CopyError {
    planned(&copy(sources, destination), source, image).expect_err("refused")
}

fn digest(sources: &[&str], source: &MemoryTree) -> [u8; 32] {
    select(&copy(sources, "/x/"), source).expect("selected").digest()
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
    let plan = planned(&copy(&["f"], "/a/b"), &sources(), &empty()).expect("planned");
    assert_eq!((plan.parent_meta.mode, plan.parent_meta.uid, plan.parent_meta.gid), (0o755, 0, 0));
    let plan = select(&copy(&["f"], "/a/b"), &sources()).expect("selected").plan(&empty(), Some((5, 6)));
    let meta = plan.expect("planned").parent_meta;
    assert_eq!((meta.uid, meta.gid), (5, 6));
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
        let plan = planned(&copy(&[glob], "/x/"), &sources(), &empty()).expect("planned");
        assert!(plan.items.is_empty() && plan.parents.is_empty());
        assert_eq!(plan.warnings, [format!("{glob:?} matches no file; nothing is copied for it")]);
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
    assert_eq!(plan.items[0].source, path("dir/a"));
    assert_eq!(plan.items[1].node.kind, Kind::Symlink { target: b"a".to_vec() });
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
fn rule_9_a_directory_that_exists_is_no_item_and_a_new_one_has_its_own_attributes() {
    let source = MemoryTree::new()
        .dir("d")
        .owner(100, 200)
        .mode(0o700)
        .dir("d/sub")
        .owner(101, 201)
        .mode(0o711)
        .file("d/sub/x", "");
    let image = empty().dir("there/sub").owner(7, 7).mode(0o1777);
    assert_eq!(targets(&["d"], "/there", &source, &image), ["there/sub/x"]);
    let plan = planned(&copy(&["d"], "/new"), &source, &image).expect("planned");
    assert_eq!((plan.parents, plan.parent_meta.uid, plan.parent_meta.mode), (vec![path("new")], 0, 0o755));
    let meta = &plan.items[0].node.meta;
    assert_eq!((meta.uid, meta.gid, meta.mode), (101, 201, 0o711));
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
    let plan = select(&all, &source).expect("selected").plan(&empty(), Some((5, 6))).expect("planned");
    assert_eq!((plan.parent_meta.uid, plan.parent_meta.gid, plan.parent_meta.mode), (5, 6, 0o4750));
    for item in &plan.items {
        let mode = if matches!(item.node.kind, Kind::Symlink { .. }) { 0o777 } else { 0o4750 };
        let meta = &item.node.meta;
        assert_eq!((meta.uid, meta.gid, meta.mode), (5, 6, mode), "{}", item.target);
    }
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
    let meta = &plan.items[0].node.meta;
    assert_eq!((meta.mode, meta.mtime), (0o6755, Mtime::from_secs(-5)));
    assert_eq!(meta.xattrs.keys().collect::<Vec<_>>(), [&b"security.capability".to_vec()]);
    assert_eq!(plan.items[0].hardlink, None);
    assert_eq!(plan.items[1].hardlink, Some(path("x/a")));
    assert_eq!(plan.items[2].node.kind, Kind::Fifo);
    assert!(matches!(plan.items[0].node.kind, Kind::File { digest: Some(_), .. }));
}

#[test]
fn rule_13_a_hard_link_never_points_at_a_file_that_was_replaced() {
    let source = MemoryTree::new().file("d/a", "1").inode(9).file("d/b", "1").inode(9).file("e/a", "2");
    let plan = planned(&copy(&["d", "e"], "/x"), &source, &empty()).expect("planned");
    let made: Vec<_> = plan.items.iter().map(|item| (item.source.to_string(), item.hardlink.clone())).collect();
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
        select(&copy, tree).expect("selected").digest()
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
    let plan = select(&copy(&["."], "/x"), &context).expect("selected").plan(&empty(), None).expect("planned");
    assert_eq!(plan.items.len(), 1000);
}

#[test]
fn a_source_that_an_ignore_file_hides_is_not_found_and_the_context_knows_why() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("secret"), "").expect("written");
    std::fs::write(dir.path().join(".dockerignore"), "secret").expect("written");
    let context = crate::context::Context::open(dir.path(), None, &Default::default()).expect("opened");
    let Err(CopyError::NotFound { path, .. }) = select(&copy(&["/secret"], "/x"), &context) else { panic!("hidden") };
    assert_eq!(context.explain(&path).expect("a rule").line, 1);
}
