use proptest::prelude::*;

use super::*;

fn word(text: &str) -> Word {
    Word { text: text.into(), span: Default::default() }
}

fn lookup(name: &str) -> Option<String> {
    Some(match name {
        "person" => "bob".into(),
        "empty" => String::new(),
        "path" => "/usr/local/bin/tool.tar.gz".into(),
        "list" => "80 443/udp".into(),
        "multi" => "ab\ncd".into(),
        "star" => "*".into(),
        "é" => "accent".into(),
        _ => return None,
    })
}

fn expanded(text: &str) -> String {
    match expand(&word(text), &lookup, '\\') {
        Ok(text) => text,
        Err(error) => format!("error: {error}"),
    }
}

#[track_caller]
fn table(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(expanded(text), *expected, "{text}");
    }
}

#[test]
fn a_variable_is_replaced_and_an_unset_one_is_empty() {
    table(&[
        ("$person", "bob"),
        ("${person}", "bob"),
        ("a${person}b", "abobb"),
        ("$personal", ""),
        ("$person-al", "bob-al"),
        ("$person$person", "bobbob"),
        ("$é", "accent"),
        ("$unset.", "."),
        ("$1x", "x"),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("$.", "$."),
        ("$$", ""),
        ("$@x", "x"),
    ]);
}

#[test]
fn quotes_and_escapes_are_taken_away() {
    table(&[
        ("he'll'o", "hello"),
        (r#"he"ll"o"#, "hello"),
        (r"he\'llo", "he'llo"),
        (r"'it''s'", "its"),
        (r"'$person'", "$person"),
        (r#""$person""#, "bob"),
        (r#""'$person'""#, "'bob'"),
        (r"\$person", "$person"),
        (r#""\$person""#, "$person"),
        (r"'\$person'", r"\$person"),
        (r#""a\"b""#, r#"a"b"#),
        (r#""a\nb""#, r"a\nb"),
        (r"a\nb", "anb"),
        (r"a\\b", r"a\b"),
        (r#""a\\b""#, r"a\b"),
        (r"'a\\b'", r"a\\b"),
        ("a\\", "a"),
        ("a  b", "a  b"),
        (r#"\"\'"#, r#""'"#),
        ("''", ""),
    ]);
}

#[test]
fn defaults_and_alternatives_with_and_without_colon() {
    table(&[
        ("${unset:-word}", "word"),
        ("${empty:-word}", "word"),
        ("${person:-word}", "bob"),
        ("${unset-word}", "word"),
        ("${empty-word}", ""),
        ("${person-word}", "bob"),
        ("${unset:+word}", ""),
        ("${empty:+word}", ""),
        ("${person:+word}", "word"),
        ("${unset+word}", ""),
        ("${empty+word}", "word"),
        ("${person+word}", "word"),
        ("${unset:-}", ""),
        ("${unset:-a b}", "a b"),
        ("${unset:-${empty:-$person}}", "bob"),
        ("${unset:-'$person'}", "$person"),
        (r#"${unset:-"}"}"#, "}"),
        (r"${unset:-\}}", "}"),
        ("${unset:-a}b", "ab"),
        (r#""${unset:-x}""#, "x"),
    ]);
}

#[test]
fn a_required_variable_that_is_missing_is_an_error_with_its_message() {
    table(&[
        ("${person?no}", "bob"),
        ("${person:?no}", "bob"),
        ("${empty?no}", ""),
        ("${empty:?no}", "error: empty: no"),
        ("${empty:?}", "error: empty: is not allowed to be empty"),
        ("${unset?}", "error: unset: is not allowed to be unset"),
        ("${unset?set it, $person}", "error: unset: set it, bob"),
        ("${unset:?}", "error: unset: is not allowed to be unset"),
    ]);
}

#[test]
fn prefixes_and_suffixes_are_cut_shortest_and_longest() {
    table(&[
        ("${path#*/}", "usr/local/bin/tool.tar.gz"),
        ("${path##*/}", "tool.tar.gz"),
        ("${path%.*}", "/usr/local/bin/tool.tar"),
        ("${path%%.*}", "/usr/local/bin/tool"),
        ("${path#/usr}", "/local/bin/tool.tar.gz"),
        ("${path#usr}", "/usr/local/bin/tool.tar.gz"),
        ("${path##*}", ""),
        ("${path#*}", "/usr/local/bin/tool.tar.gz"),
        ("${path%%*}", ""),
        ("${path#/???/}", "local/bin/tool.tar.gz"),
        ("${path%.??}", "/usr/local/bin/tool.tar"),
        ("${unset#x}", ""),
        (r"${star#\*}", ""),
        (r"${star#\?}", "*"),
        ("${person#${person}}", ""),
        ("${person%b}", "bo"),
        ("${person#[b]}", "bob"),
        (r"${person#\x}", r"error: bad pattern `\x`: invalid escape `\x`"),
        ("${multi#*c}", "ab\ncd"),
        ("${multi##a*}", "\ncd"),
    ]);
}

#[test]
fn matches_are_replaced_once_or_all_leftmost_and_longest() {
    table(&[
        ("${person/b/x}", "xob"),
        ("${person//b/x}", "xox"),
        ("${path//\\//-}", "-usr-local-bin-tool.tar.gz"),
        ("${path/*\\//}", "tool.tar.gz"),
        ("${person/o*/x}", "bx"),
        ("${person//?/x}", "xxx"),
        ("${person//*/x}", "x"),
        ("${empty//*/x}", "x"),
        ("${person///x}", "xbxoxbx"),
        ("${person/z/x}", "bob"),
        ("${person/b/$person}", "bobob"),
        ("${person//b/}", "o"),
        ("${unset/a/b}", ""),
        ("${multi//*/x}", "x\nx"),
        ("${person/b}", "error: `${name/pattern` without a second `/`"),
        ("${person/b/", "error: `${` without `}`"),
    ]);
}

#[test]
fn what_is_not_closed_or_not_known_is_an_error() {
    table(&[
        ("${", "error: `${` without `}`"),
        ("${person", "error: `${` without `}`"),
        ("${person:", "error: `${` without `}`"),
        ("${person:-x", "error: `${` without `}`"),
        ("${}", "error: `${` without the name of a variable"),
        ("${{person}}", "error: `${` without the name of a variable"),
        ("${:-x}", "error: `${` without the name of a variable"),
        ("${person!x}", "error: `!` is not a modifier in `${person!…}`"),
        ("${person:=x}", "error: `:=` is not a modifier in `${person:=…}`"),
        ("${person:#b}", "error: `:#` is not a modifier in `${person:#…}`"),
        ("${person:%b}", "error: `:%` is not a modifier in `${person:%…}`"),
        ("'a", "error: a ' without its partner"),
        ("\"a", "error: a \" without its partner"),
    ]);
}

#[test]
fn the_escape_character_may_be_a_backtick() {
    let expanded = |text| expand(&word(text), &lookup, '`').unwrap();
    assert_eq!(expanded(r"c:\$person"), r"c:\bob");
    assert_eq!(expanded("`$person"), "$person");
    assert_eq!(expanded("\"a`\"b\""), "a\"b");
}

#[test]
fn words_are_split_after_expansion_and_not_in_quotes() {
    let words = |text| expand_words(&word(text), &lookup, '\\').unwrap();
    assert_eq!(words("$list"), ["80", "443/udp"]);
    assert_eq!(words("\"$list\""), ["80 443/udp"]);
    assert_eq!(words("a$list b"), ["a80", "443/udp", "b"]);
    assert_eq!(words(r"a\ b 'c d'e"), ["a b", "c de"]);
    assert_eq!(words("$unset '' $empty"), [""; 0]);
}

#[test]
fn a_word_that_grows_without_end_is_refused() {
    let big = |_: &str| Some("x".repeat(LONGEST_WORD / 2 + 1));
    let result = |text: &str| expand(&word(text), &big, '\\');
    assert!(result("$a").is_ok());
    assert_eq!(result("$a$a"), Err(ExpandError::TooLong { most: LONGEST_WORD }));
    assert_eq!(result("\"$a$a\""), Err(ExpandError::TooLong { most: LONGEST_WORD }));
    assert_eq!(result("${a//x/yyyy}"), Err(ExpandError::TooLong { most: LONGEST_WORD }));
    // Looking at much is refused even if nothing of it stays.
    assert_eq!(result(&"${a+}".repeat(1000)), Err(ExpandError::TooLong { most: LONGEST_WORD }));
}

#[test]
fn nesting_without_end_is_refused() {
    let deep = format!("{}{}", "${a:-".repeat(100_000), "}".repeat(100_000));
    assert_eq!(expand(&word(&deep), &|_| None, '\\'), Err(ExpandError::TooDeep));
    let fine = format!("{}x{}", "${a:-".repeat(60), "}".repeat(60));
    assert_eq!(expand(&word(&fine), &|_| None, '\\').unwrap(), "x");
}

#[test]
fn no_pattern_takes_quadratic_time() {
    let value = "a".repeat(LONGEST_WORD);
    let lookup = |_: &str| Some(value.clone());
    for text in ["${a//a*b/x}", "${a//*a*a*a*b/x}", "${a%%a*b}", "${a##*b}", "${a//a?b/x}"] {
        let start = std::time::Instant::now();
        assert_eq!(expand(&word(text), &lookup, '\\').unwrap().len(), LONGEST_WORD, "{text}");
        assert!(start.elapsed().as_secs() < 10, "{text}");
    }
    let long = format!("${{a#{}}}", "?".repeat(2000));
    assert!(matches!(expand(&word(&long), &lookup, '\\'), Err(ExpandError::Pattern { .. })));
}

proptest! {
    #[test]
    fn expansion_never_panics_and_is_bounded(text in "[$'\"\\\\{}:/#%a *?+-]{0,60}|\\PC{0,40}") {
        if let Ok(result) = expand(&word(&text), &lookup, '\\') {
            prop_assert!(result.len() <= LONGEST_WORD);
        }
        let _ = expand_words(&word(&text), &lookup, '`');
        let _ = split_raw(&text);
    }

    #[test]
    fn a_text_in_single_quotes_is_itself(text in "[^']{0,40}") {
        prop_assert_eq!(expanded(&format!("'{text}'")), text);
    }
}
