use super::pattern::{Pattern, PatternError, Syntax};

/// A pattern for one name, in the language of Go's `filepath.Match`: `*`, `?`, `[a-z]`, `[^a-z]`, and `\` before a
/// character that shall mean itself. `*` matches names that begin with a dot; `!` and `{}` mean nothing special.
///
/// ```
/// use coracle::context::Glob;
/// assert!(Glob::new("[a-c]?*.txt").unwrap().matches(b"b1.txt"));
/// assert!(Glob::new("[a-").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Pattern);

impl Glob {
    /// Returns the pattern of one component of a path, compiled.
    ///
    /// # Errors
    /// [`PatternError`] for a set without its end, an empty set, half a range, or a backslash at the end.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        Pattern::parse(pattern, Syntax::Glob).map(Glob)
    }

    /// Returns whether the whole of `name` matches. Its time is at most the length of the pattern times that of the name.
    pub fn matches(&self, name: &[u8]) -> bool {
        self.0.matches(name)
    }

    /// Returns whether `component` is a pattern, not a plain name: whether it has a `*`, `?` or `[` that no backslash
    /// escapes. A name with backslashes only is taken as it is written, as BuildKit does.
    pub fn is_pattern(component: &str) -> bool {
        let mut chars = component.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => {
                    chars.next();
                }
                '*' | '?' | '[' => return true,
                _ => {}
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_filepath_match_does() {
        // Pattern, name, whether it matches.
        let table = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*", "", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*b*c*d*e*", "axbxcxdxe", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "x", true),
            ("[!a]", "!", true),
            ("[!a]", "b", false),
            ("[[]", "[", true),
            ("{a,b}", "a", false),
            ("*", ".hidden", true),
            ("**", "ab", true),
            ("?", "\u{0}", true),
            ("?", "", false),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(Glob::new(pattern).expect(pattern).matches(name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn bad_patterns_are_errors() {
        for bad in ["[", "[]", "[]a]", "[^]", "[a", "[-]", "[x-]", "[-x]", "[a-b-c]", "a\\", "[^bc"] {
            assert!(Glob::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_need_not_be_utf8() {
        assert!(Glob::new("a?b").expect("good").matches(b"a\xffb"));
        assert!(Glob::new("a[^x]b").expect("good").matches(b"a\xe2b"));
        assert!(Glob::new("*\n*").expect("good").matches(b"a\nb"));
    }

    #[test]
    fn only_unescaped_stars_make_a_pattern() {
        assert!(Glob::is_pattern("a*") && Glob::is_pattern("[a]") && Glob::is_pattern("?"));
        assert!(!Glob::is_pattern("a\\*") && !Glob::is_pattern("plain") && !Glob::is_pattern("]"));
    }
}
