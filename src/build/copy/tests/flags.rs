//! `--exclude`, `--parents`, here-documents, and archives.

use super::*;

fn excluding(exclude: &[&str], sources: &[&str], destination: &str) -> Copy {
    Copy { exclude: exclude.iter().map(|&pattern| pattern.to_owned()).collect(), ..copy(sources, destination) }
}

fn with_parents(sources: &[&str], destination: &str) -> Copy {
    Copy { parents: true, ..copy(sources, destination) }
}

/// The targets of files, without directories.
fn files(copy: &Copy, source: &MemoryTree, image: &MemoryTree) -> Vec<String> {
    let plan = planned(copy, source, image).expect("planned");
    plan.items.iter().filter(|item| !item.node.kind.is_dir()).map(|item| item.target.to_string()).collect()
}

fn pictures() -> MemoryTree {
    MemoryTree::new()
        .file("dir1/101.png", "")
        .file("dir1/102.txt", "")
        .file("dir2/201.pdf", "")
        .file("dir2/deep/202.png", "")
        .file("top.png", "")
        .file("top.txt", "")
}

#[test]
fn excluded_files_are_left_out_by_their_path_from_the_source() {
    let of = |exclude: &[&str], sources: &[&str]| files(&excluding(exclude, sources, "/x/"), &pictures(), &empty());
    assert_eq!(
        of(&["*/*.png"], &["."]),
        ["x/dir1/102.txt", "x/dir2/201.pdf", "x/dir2/deep/202.png", "x/top.png", "x/top.txt"]
    );
    assert_eq!(of(&["**/*.png"], &["."]), ["x/dir1/102.txt", "x/dir2/201.pdf", "x/top.txt"]);
    assert_eq!(
        of(&["*.png", "*.pdf"], &["dir*"]),
        ["x/102.txt", "x/deep/202.png"],
        "from each directory that a glob matches"
    );
    assert_eq!(of(&["dir2"], &["."]), ["x/dir1/101.png", "x/dir1/102.txt", "x/top.png", "x/top.txt"]);
    assert_eq!(of(&["dir2", "!dir2/deep"], &["."]).last().map(String::as_str), Some("x/top.txt"));
    assert!(of(&["dir2", "!dir2/deep"], &["."]).contains(&"x/dir2/deep/202.png".to_owned()), "an exception");
    assert_eq!(of(&["#a", "/top.*", " dir1 "], &["."]), ["x/dir2/201.pdf", "x/dir2/deep/202.png"]);
}

// The reference promises it; BuildKit 0.32 forgets it for sources that are files.
#[test]
fn a_file_that_is_a_source_is_excluded_by_its_name() {
    let of = |exclude: &[&str], sources: &[&str]| files(&excluding(exclude, sources, "/x/"), &pictures(), &empty());
    assert_eq!(of(&["*.txt"], &["top*"]), ["x/top.png"]);
    let copy = excluding(&["*.txt"], &["top.txt"], "/x/");
    let selection = select(&copy, &pictures(), Vec::new()).expect("selected");
    assert_eq!(selection.warnings(), ["\"top.txt\" is left out by --exclude; nothing is copied for it"]);
}

#[test]
fn a_directory_of_which_all_is_excluded_is_made_only_if_it_is_a_source() {
    let plan = planned(&excluding(&["*"], &["dir*"], "/x"), &pictures(), &empty()).expect("planned");
    assert_eq!(targets_of(&plan), ["+x"]);
    let plan =
        planned(&excluding(&["dir1/*", "dir2", "!dir2/none"], &["."], "/x"), &pictures(), &empty()).expect("planned");
    assert_eq!(targets_of(&plan), ["+x", "x/dir1/", "x/top.png", "x/top.txt"], "dir1 itself is not excluded");
}

#[test]
fn what_is_excluded_is_not_in_the_digest() {
    let read =
        |tree: MemoryTree| select(&excluding(&["*.log"], &["d"], "/x"), &tree, Vec::new()).expect("selected").digest();
    let base = || MemoryTree::new().file("d/f", "text");
    assert_eq!(read(base()), read(base().file("d/a.log", "1")));
    assert_ne!(read(base()), read(base().file("d/a.txt", "1")));
}

#[test]
fn a_malformed_exclusion_is_an_error() {
    for bad in ["[a", "!", "a\\"] {
        let error = planned(&excluding(&[bad], &["."], "/x"), &pictures(), &empty()).expect_err("refused");
        assert!(matches!(error, CopyError::BadExclude { .. }), "{bad}: {error}");
    }
}

fn deep() -> MemoryTree {
    MemoryTree::new()
        .file("a/b/c/d/foo", "")
        .file("a/b/c/d/e/bay", "")
        .file("a/b/c2/d/e/baz", "")
        .file("a/b/c2/d/e2/baz", "")
        .file("a/b2/c/d/e/bar", "")
        .file("other", "")
}

#[test]
fn with_parents_a_source_keeps_its_directories_from_the_root_or_the_pivot() {
    let of = |sources: &[&str]| files(&with_parents(sources, "/out"), &deep(), &empty());
    assert_eq!(of(&["a/b/c/d/foo"]), ["out/a/b/c/d/foo"]);
    assert_eq!(of(&["/a/b/c/d/."]), ["out/a/b/c/d/e/bay", "out/a/b/c/d/foo"]);
    assert_eq!(of(&["./a/b/c/d/foo"]), ["out/a/b/c/d/foo"]);
    assert_eq!(of(&["/a/b/./c/d"]), ["out/c/d/e/bay", "out/c/d/foo"]);
    assert_eq!(of(&["/a/./b/./c"]), ["out/b/c/d/e/bay", "out/b/c/d/foo"], "the first pivot counts");
    assert_eq!(of(&["/a/./*/c"]), ["out/b/c/d/e/bay", "out/b/c/d/foo", "out/b2/c/d/e/bar"]);
    assert_eq!(of(&["/a/b*/./c/**/e"]), ["out/c/d/e/bar", "out/c/d/e/bay"]);
    assert_eq!(of(&["/a/b/c*/./d/**/baz", "/a/b*/./c/**/bar"]), ["out/c/d/e/bar", "out/d/e/baz", "out/d/e2/baz"]);
    assert_eq!(of(&["**/ba?"]).len(), 4);
    assert_eq!(of(&["."]).len(), 6);
}

#[test]
fn with_parents_only_what_leads_to_a_file_is_made_and_has_the_attributes_of_its_source() {
    let source = MemoryTree::new().dir("a").mode(0o700).owner(3, 4).file("a/x", "").dir("a/empty").file("b/y", "");
    let plan = planned(&with_parents(&["a/x"], "/out/"), &source, &empty()).expect("planned");
    assert_eq!(targets_of(&plan), ["+out", "out/a/", "out/a/x"]);
    let meta = &plan.items[1].node.meta;
    assert_eq!((meta.mode, meta.uid, meta.gid), (0o700, 3, 4));
    let both = Copy { chmod: Some(Chmod::Octal(0o711)), ..with_parents(&["a/x"], "/out/") };
    let plan = planned_for(&both, &source, &empty(), Some((5, 6))).expect("planned");
    for item in &plan.items {
        let meta = &item.node.meta;
        assert_eq!((meta.mode, meta.uid, meta.gid), (0o711, 5, 6), "{}", item.target);
    }
    // As BuildKit does it: a directory that is there gets the mode of the source.
    let image = empty().dir("out/a").mode(0o1777).owner(9, 9);
    let plan = planned(&with_parents(&["a/x"], "/out/"), &source, &image).expect("planned");
    let meta = &plan.items[0].node.meta;
    assert_eq!((meta.mode, meta.uid, meta.gid), (0o700, 9, 9));
}

#[test]
fn with_parents_a_path_must_be_there_and_a_pattern_need_not() {
    let error = planned(&with_parents(&["a/none"], "/out/"), &deep(), &empty()).expect_err("refused");
    assert!(matches!(error, CopyError::NotFound { .. }), "{error}");
    let error = planned(&with_parents(&["none/./a"], "/out/"), &deep(), &empty()).expect_err("refused");
    assert!(matches!(error, CopyError::NotFound { .. }), "{error}");
    for pattern in ["/a/x*/c", "/a/b/./x*"] {
        let copy = with_parents(&[pattern], "/out/");
        let selection = select(&copy, &deep(), Vec::new()).expect("selected");
        assert_eq!(selection.warnings().len(), 1, "{pattern}");
        let plan = selection.plan(&empty(), &Placing::default()).expect("planned");
        assert_eq!(targets_of(&plan), ["+out"], "{pattern}");
    }
    let linked = deep().link("l", "a/b");
    let error = planned(&with_parents(&["l/c"], "/out/"), &linked, &empty()).expect_err("refused");
    assert!(error.to_string().contains("name a/b/c"), "{error}");
    assert_eq!(
        files(&with_parents(&["l/./c/d/foo"], "/out/"), &linked, &empty()),
        ["out/c/d/foo"],
        "before the pivot it is followed"
    );
}

#[test]
fn exclusions_with_parents_count_from_the_root_or_the_pivot() {
    let of = |exclude: &[&str], source: &str| {
        let copy = Copy { parents: true, ..excluding(exclude, &[source], "/out/") };
        files(&copy, &deep(), &empty())
    };
    assert_eq!(of(&["a/b"], "**/ba?"), ["out/a/b2/c/d/e/bar"]);
    assert_eq!(of(&["b"], "a/./**/ba?"), ["out/b2/c/d/e/bar"]);
    assert_eq!(of(&["a/b"], "a/./**/ba?").len(), 4);
}

fn text(name: &str, text: &str) -> CopySource {
    CopySource::Inline { name: name.into(), text: text.into() }
}

#[test]
fn rule_16_a_here_document_is_a_file_of_root_0644_and_counts_in_the_digest() {
    let with =
        |content: &str, destination: &str| Copy { sources: vec![text("EOF", content)], ..copy(&[], destination) };
    let plan = planned(&with("x\n", "/d/"), &empty(), &empty()).expect("planned");
    assert_eq!(targets_of(&plan), ["+d", "d/EOF"]);
    assert_eq!((plan.items[1].node.meta.mode, plan.items[1].node.meta.uid), (0o644, 0));
    let plan = planned(&with("x\n", "/d"), &empty(), &empty()).expect("planned");
    assert_eq!(targets_of(&plan), ["d"], "a file, named as the destination");
    let digest = |content: &str| select(&with(content, "/d"), &empty(), Vec::new()).expect("selected").digest();
    assert_ne!(digest("a"), digest("b"));
    assert_eq!(digest("a"), digest("a"));
    let changed = Copy { chmod: Some(Chmod::Octal(0o755)), ..with("x", "/d/") };
    let plan = planned_for(&changed, &empty(), &empty(), Some((1, 2))).expect("planned");
    let meta = &plan.items[1].node.meta;
    assert_eq!((meta.mode, meta.uid, meta.gid), (0o755, 1, 2));
}

#[test]
fn here_documents_come_after_files_and_may_share_a_name() {
    let all = Copy { sources: vec![text("f", "1"), text("f", "2"), CopySource::Path("f".into())], ..copy(&[], "/d/") };
    let source = MemoryTree::new().file("f", "of the context");
    let selection = select(&all, &source, Vec::new()).expect("selected");
    let plan = selection.plan(&empty(), &Placing::default()).expect("planned");
    let [_, item] = plan.items.as_slice() else { panic!("one file: {plan:?}") };
    let Origin::Other(number) = item.from else { panic!("of the Dockerfile: {item:?}") };
    let mut found = String::new();
    let mut file = selection.others[number].open(&item.source).expect("opened");
    std::io::Read::read_to_string(&mut file, &mut found).expect("text");
    assert_eq!(found, "2");
    for bad in ["", "..", "a\0b"] {
        let all = Copy { sources: vec![text(bad, "")], ..copy(&[], "/d/") };
        assert!(matches!(planned(&all, &empty(), &empty()), Err(CopyError::BadName { .. })), "{bad:?}");
    }
}

/// What an ADD of the file `a.tar` to `destination` does, with `inside` in it; `leads` are the directories that it does not name.
fn unpacked(inside: &MemoryTree, leads: &[&str], destination: &str, image: &MemoryTree) -> Result<CopyPlan, CopyError> {
    let add = Copy { add: Some(steps::Add::default()), ..copy(&["a.tar"], destination) };
    let selection = select(&add, &MemoryTree::new().file("a.tar", "bytes"), Vec::new()).expect("selected");
    let mut files = find::walk(inside, &TreePath::root(), &Default::default()).expect("walked");
    files.iter_mut().for_each(|file| file.leads = leads.contains(&file.path.to_string().as_str()));
    selection.plan(image, &Placing { now: NOW, archives: BTreeMap::from([(0, files)]), ..Placing::default() })
}

#[test]
fn rule_14_an_archive_is_unpacked_into_the_destination_which_is_a_directory() {
    let inside = MemoryTree::new().dir("d").mode(0o750).owner(1, 2).file("d/f", "").owner(3, 4).mode(0o4755);
    let plan = unpacked(&inside, &[], "/x", &empty()).expect("planned");
    assert_eq!(targets_of(&plan), ["+x", "x/d/", "x/d/f"]);
    let meta = |at: usize| (plan.items[at].node.meta.uid, plan.items[at].node.meta.mode);
    assert_eq!((meta(0), meta(1), meta(2)), ((0, 0o755), (1, 0o750), (3, 0o4755)));
    assert!(matches!(unpacked(&inside, &[], "/f", &empty().file("f", "")), Err(CopyError::NotADirectory { .. })));
}

#[test]
fn rule_14_the_root_of_an_archive_and_directories_that_it_does_not_name_change_nothing() {
    let inside = MemoryTree::new().dir("d").mode(0o700).file("d/f", "");
    let image = empty().dir("x").mode(0o1777).dir("x/d").mode(0o711).owner(8, 8);
    assert_eq!(targets_of(&unpacked(&inside, &["d"], "/x", &image).expect("planned")), ["x/d/f"]);
    let plan = unpacked(&inside, &["d"], "/x", &empty().dir("x")).expect("planned");
    assert_eq!((plan.items[0].target.clone(), plan.items[0].node.meta.mode), (path("x/d"), 0o755));
    let plan = unpacked(&inside, &[], "/x", &image).expect("planned");
    assert_eq!(
        (plan.items[0].target.clone(), plan.items[0].node.meta.mode),
        (path("x/d"), 0o700),
        "named: overwritten"
    );
}

#[test]
fn rule_14_an_archive_follows_links_to_directories_inside_of_the_destination() {
    let inside = MemoryTree::new().file("lib/x", "");
    for (link, expected) in [("usr/lib", "r/usr/lib/x"), ("/usr/lib", "r/usr/lib/x"), ("../../../etc", "r/etc/x")] {
        let image = empty().dir("r/usr/lib").dir("r/etc").link("r/lib", link);
        for leads in [&[][..], &["lib"]] {
            let plan = unpacked(&inside, leads, "/r", &image).expect("planned");
            assert_eq!(targets_of(&plan).last().map(String::as_str), Some(expected), "{link}");
        }
    }
    let plan = unpacked(&inside, &["lib"], "/r", &empty().dir("r").link("r/lib", "gone/far")).expect("planned");
    assert_eq!(plan.items.last().map(|item| item.target.clone()), Some(path("r/gone/far/x")));
    // The destination itself is found as for any COPY.
    let plan = unpacked(&inside, &["lib"], "/to/", &empty().link("to", "/there")).expect("planned");
    assert_eq!(plan.items.last().map(|item| item.target.clone()), Some(path("there/lib/x")));
}

#[test]
fn rule_14_an_archive_replaces_what_is_of_another_type() {
    let inside = MemoryTree::new().file("was-dir", "").file("was-file/x", "");
    let image = empty().file("r/was-dir/old", "").file("r/was-file", "").file("r/loop/x", "");
    let plan = unpacked(&inside, &[], "/r", &image).expect("planned");
    assert_eq!(targets_of(&plan), ["r/was-dir", "r/was-file/", "r/was-file/x"]);
}

#[test]
fn rule_14_what_one_archive_replaced_does_not_come_back_with_the_next() {
    let add = Copy { add: Some(steps::Add::default()), ..copy(&["a.tar", "b.tar"], "/") };
    let source = MemoryTree::new().file("a.tar", "a").file("b.tar", "b");
    let selection = select(&add, &source, Vec::new()).expect("selected");
    let walk = |tree: &MemoryTree| find::walk(tree, &TreePath::root(), &Default::default()).expect("walked");
    let (first, second) = (MemoryTree::new().file("d", ""), MemoryTree::new().file("d/sub/new", ""));
    let archives = BTreeMap::from([(0, walk(&first)), (1, walk(&second))]);
    let image = empty().file("d/old", "").file("d/sub/old", "");
    let plan = selection.plan(&image, &Placing { archives, ..Placing::default() }).expect("planned");
    let made: Vec<_> = plan.items.iter().map(|item| (item.target.to_string(), item.node.kind.word())).collect();
    let expected = [
        ("d", "directory"),
        ("d/old", "whiteout"),
        ("d/sub", "directory"),
        ("d/sub/new", "file"),
        ("d/sub/old", "whiteout"),
    ];
    assert_eq!(made, expected.map(|(path, word)| (path.to_owned(), word)));
}
