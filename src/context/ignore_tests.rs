use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn path(text: &str) -> TreePath {
    TreePath::new(text).expect("a good path")
}

fn ignored(rules: &str, at: &str) -> bool {
    IgnoreRules::parse(rules).expect(rules).is_ignored(&path(at))
}

/// Whether `dir` is left out with all that is in it: no `!` rule could match below it.
fn can_prune(rules: &IgnoreRules, dir: &TreePath) -> bool {
    rules.is_ignored(dir) && !rules.may_include_below(dir)
}

#[test]
fn one_rule_against_one_path() {
    // Rule, path, whether the path is left out.
    let table = [
        ("fileutils.go", "fileutils.go", true),
        ("file", "file/a", true),
        ("file", "dir/file", false),
        ("file", "filex", false),
        ("/file", "file", true),
        ("./file", "file", true),
        ("dir/", "dir/a", true),
        ("a/../b", "b", true),
        ("../b", "b", false),
        (".", "a", false),
        ("/", "a", false),
        ("*", "a/b/c", true),
        ("*.go", "a.go", true),
        ("*.go", "a/b.go", false),
        ("*.go", "a.go/b", true),
        ("*/*.go", "a/b.go", true),
        ("*/b", "a/b/c", true),
        ("a?c", "abc", true),
        ("a?c", "a/c", false),
        ("[a-c]", "b", true),
        ("[^a]", "a", false),
        ("[^a]", "b", true),
        ("a[^b]c", "a/c", true),
        ("a[!b]c", "a!c", true),
        ("a[!b]c", "axc", false),
        ("a{b,c}", "ab", false),
        ("a.c", "abc", false),
        ("a+", "aa", false),
        ("a(b)$", "a(b)$", true),
        ("\\#a", "#a", true),
        ("a\\*", "a*", true),
        ("a\\*", "ab", false),
        ("**", "file", true),
        ("**", "a/b", true),
        ("**/", "a/b", true),
        ("**/**", "a", true),
        ("**/file", "file", true),
        ("**/file", "a/b/file", true),
        ("**/file", "afile", false),
        ("**file", "a/bfile", true),
        ("**file", "afile/b", true),
        ("**f*", "a/bf", false),
        ("**f*", "a/fb", true),
        ("dir/**", "dir/a/b", true),
        ("dir/**", "dir", false),
        ("dir/**", "dirx/a", false),
        ("dir**", "dirx/a", true),
        ("**/dir/**", "dir/a", true),
        ("**/dir/**", "x/dir/a", true),
        ("**/dir/**", "x/dir", false),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b", true),
        ("a/**/b", "a/x/yb", false),
        ("a**/b", "ax/b", true),
        ("a**b", "ab", true),
        ("a**b", "axb", false),
        ("a**b", "ax/b", true),
        ("*a**/b", "xaab", true),
        ("**/*.go", "a/b/c.go", true),
        ("**/*.go", "c.go", true),
        ("**/*.go", "c.gox", false),
        ("**/.git", "a/.git/config", true),
        ("***", "a", true),
        ("a/***/c", "a/b/c", true),
        ("é?", "éü", true),
        (" padded \r", "padded", true),
        ("#comment", "#comment", false),
        (" #name", "#name", true),
    ];
    for (rule, at, expected) in table {
        assert_eq!(ignored(rule, at), expected, "rule {rule:?}, path {at:?}");
    }
}

#[test]
fn the_last_rule_that_matches_wins() {
    assert!(ignored("!a\na", "a"));
    assert!(!ignored("a\n!a", "a"));
    assert!(ignored("*\n!a\na/b", "a/b"));
    assert!(!ignored("*\n!a\na/b", "a/c"));
    assert!(!ignored("*.md\n!README*.md", "README-secret.md"));
    assert!(ignored("*.md\n!README*.md\nREADME-secret.md", "README-secret.md"));
}

#[test]
fn a_child_comes_back_from_a_directory_that_is_left_out() {
    let rules = "node_modules\n!node_modules/keep\n!**/*.lock";
    assert!(ignored(rules, "node_modules/other/x"));
    assert!(!ignored(rules, "node_modules/keep/x"));
    assert!(!ignored(rules, "node_modules/deep/yarn.lock"));
}

#[test]
fn a_directory_is_pruned_when_no_rule_reaches_into_it() {
    let rules = IgnoreRules::parse("*\n!src\n!docs/**/*.md\n!a/b").expect("good rules");
    for (dir, expected) in
        [("node_modules", true), ("docs", false), ("docs/x", false), ("a", false), ("a/c", true), ("ab", true)]
    {
        assert_eq!(can_prune(&rules, &path(dir)), expected, "{dir}");
    }
    assert!(!can_prune(&rules, &path("src")), "it is not left out at all");
    assert!(!can_prune(&IgnoreRules::parse("*\n!**/x").expect("good rules"), &path("deep")));
}

#[test]
fn the_rule_that_left_a_path_out_is_named() {
    let rules = IgnoreRules::parse("\u{feff}# what\r\n\r\n *.log \r\n!keep.log\nkeep.log").expect("good rules");
    assert_eq!(rules.explain(&path("a.log")), Some((3, "*.log")));
    assert_eq!(rules.explain(&path("keep.log/x")), Some((5, "keep.log")));
    assert_eq!(rules.explain(&path("a.txt")), None);
}

#[test]
fn a_byte_order_mark_is_dropped_before_a_comment_and_a_rule() {
    assert!(ignored("\u{feff}a", "a"));
    assert!(!ignored("\u{feff}#a", "#a"));
}

#[test]
fn bad_rules_are_errors_with_their_line() {
    for (text, line) in [("a\n!", 2), ("! ", 1), ("!/", 1)] {
        assert_eq!(IgnoreRules::parse(text).expect_err(text), IgnoreError::LoneExclamation { line });
    }
    for text in ["[", "a[", "a\\", "[]", "!["] {
        assert!(matches!(IgnoreRules::parse(text), Err(IgnoreError::BadPattern { line: 1, .. })), "{text}");
    }
}

#[test]
fn the_root_is_never_left_out() {
    for rules in ["*", "**", ".", "/"] {
        assert!(!ignored(rules, ""), "{rules}");
    }
}

#[test]
fn patterns_that_make_others_explode_cost_little() {
    let start = Instant::now();
    let text = "a".repeat(250);
    let deep = vec!["a".repeat(40); 90].join("/");
    for rule in ["*a*a*a*a*a*a*a*a*a*a*b", "**/*a**/*a**/*a**/*a**/b", "**a**a**a**a**b", "[a-z]*[a-z]*[a-z]*[a-z]*0"] {
        assert!(!ignored(rule, &text));
        assert!(!ignored(rule, &deep));
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn known_parents_give_the_same_answer() {
    let rules = IgnoreRules::parse("*\n!src\nsrc/**/*.o\n**/tmp\n!src/tmp/x").expect("good rules");
    for at in ["a", "src", "src/a.o", "src/x/a.o", "src/tmp", "src/tmp/x", "src/tmp/y", "b/c/d"] {
        let at = path(at);
        let parent = rules.matches_of(&at.parent().expect("not the root"));
        assert_eq!(rules.is_ignored_in(&parent, &at), rules.is_ignored(&at), "{at}");
    }
}

proptest! {
    #[test]
    fn no_input_makes_the_matcher_panic(rules in "[ab/*?!\\[\\]^\\\\#. é-]{0,24}(\n[ab*/!]{0,8}){0,3}", at in "[ab/.é]{0,24}") {
        if let Ok(rules) = IgnoreRules::parse(&rules) {
            let at = path(&at);
            let ignored = rules.is_ignored(&at);
            prop_assert_eq!(rules.explain(&at).is_some(), ignored);
            if let Some(parent) = at.parent() {
                prop_assert_eq!(rules.is_ignored_in(&rules.matches_of(&parent), &at), ignored);
                // What is pruned holds nothing that is visible.
                prop_assert!(ignored || !can_prune(&rules, &parent));
            }
        }
    }

    #[test]
    fn any_text_parses_or_is_an_error(rules in any::<String>(), at in proptest::collection::vec(1u8.., 0..60)) {
        if let (Ok(rules), Ok(at)) = (IgnoreRules::parse(&rules), TreePath::new(at)) {
            rules.is_ignored(&at);
        }
    }
}
