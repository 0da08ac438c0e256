//! How the text of an instruction falls into a keyword, flags and words. All ranges are bytes of the joined text.

use std::ops::Range;

/// White space that parts words: not all that Unicode knows.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

/// A flag: `--name` or `--name=value`, without quotes and escapes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flag {
    /// The name, without the dashes.
    pub name: String,
    /// The value, where there is a `=`.
    pub value: Option<String>,
    /// All of it.
    pub range: Range<usize>,
    /// The value alone.
    pub value_range: Range<usize>,
}

/// Returns the bytes of `text` in `range` that are left when white space is cut off at both ends.
pub(super) fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}

/// Returns where the keyword of what is in `range` is, and where the rest.
pub(super) fn keyword(text: &str, range: Range<usize>) -> (Range<usize>, Range<usize>) {
    let all = trim(text, range);
    let length = text[all.clone()].find(is_blank).unwrap_or(all.len());
    let keyword = all.start..all.start + length;
    (keyword.clone(), trim(text, keyword.end..all.end))
}

/// Returns the words of `text` in `range`, parted by white space alone.
pub(super) fn by_blanks(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text[range.clone()].char_indices().map(|(at, c)| (at + range.start, c)) {
        match (is_blank(c), start) {
            (false, None) => start = Some(at),
            (true, Some(first)) => {
                words.push(first..at);
                start = None;
            }
            _ => {}
        }
    }
    words.extend(start.map(|first| first..range.end));
    words
}

/// Returns the words of `text` in `range`, parted by white space outside of quotes. Quotes and escapes stay.
pub(super) fn quoted_words(text: &str, range: Range<usize>, escape: char) -> Vec<(String, Range<usize>)> {
    let mut words = Vec::new();
    let mut chars = text[range.clone()].char_indices().map(|(at, c)| (at + range.start, c)).peekable();
    let mut word: Option<(String, usize)> = None;
    let mut quote = None;
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(word.take().map(|(text, start)| (text, start..at)));
            continue;
        }
        let (out, _) = word.get_or_insert_with(|| (String::new(), at));
        match quote {
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if open == c => quote = None,
            _ => {}
        }
        if c == escape && quote != Some('\'') {
            // An escape at the very end stands for nothing.
            let Some((_, next)) = chars.next() else { break };
            out.push(c);
            out.push(next);
            continue;
        }
        out.push(c);
    }
    words.extend(word.filter(|(text, _)| !text.is_empty()).map(|(text, start)| (text, start..range.end)));
    words
}

/// Returns the flags at the start of `text` in `range`, and the rest. `--` ends the flags.
pub(super) fn flags(text: &str, range: Range<usize>) -> (Vec<Flag>, Range<usize>) {
    let mut flags = Vec::new();
    let mut at = range.start;
    loop {
        let rest = trim(text, at..range.end);
        if !text[rest.clone()].starts_with("--") {
            return (flags, rest);
        }
        let (flag, end) = flag(text, rest.clone());
        at = end;
        match flag {
            Some(flag) => flags.push(flag),
            None => return (flags, trim(text, at..range.end)),
        }
    }
}

/// Reads one flag. Returns it (`None` for `--`) and where it ends.
fn flag(text: &str, range: Range<usize>) -> (Option<Flag>, usize) {
    let mut chars = text[range.clone()].char_indices().map(|(at, c)| (at + range.start, c));
    let mut out = String::new();
    // Where the first `=` is: in the text, and in `out`.
    let mut equals = None;
    let mut quote = None;
    let mut end = range.end;
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                end = at;
                break;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if open == c => quote = None,
            _ if c == '\\' => out.extend(chars.next().map(|(_, c)| c)),
            _ => {
                if c == '=' && equals.is_none() {
                    equals = Some((at, out.len()));
                }
                out.push(c);
            }
        }
    }
    if out == "--" {
        return (None, end);
    }
    let (name, value, value_start) = match equals {
        Some((at, length)) => (&out[..length], Some(out[length + 1..].to_owned()), at + 1),
        None => (out.as_str(), None, end),
    };
    let name = name.get(2..).unwrap_or_default().to_owned();
    (Some(Flag { name, value, range: range.start..end, value_range: value_start..end }), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        quoted_words(text, 0..text.len(), '\\').into_iter().map(|(word, _)| word).collect()
    }

    #[test]
    fn quotes_and_escapes_keep_a_word_together_and_stay() {
        assert_eq!(words(r#"a="b c" d=e\ f g='h \' i=" ""#), [r#"a="b c""#, r"d=e\ f", r"g='h \'", r#"i=" ""#]);
        assert_eq!(words(r"a\"), ["a"]);
        assert_eq!(words("  \t "), [""; 0]);
        assert_eq!(words(r#"a "" b"#), ["a", r#""""#, "b"]);
        assert_eq!(words("a=\"open end"), ["a=\"open end"]);
    }

    #[test]
    fn flags_come_first_and_two_dashes_end_them() {
        let text = r#"--from=a --chown="b c" --x -- --not a"#;
        let (found, rest) = flags(text, 0..text.len());
        let found: Vec<_> = found.iter().map(|flag| (flag.name.as_str(), flag.value.as_deref())).collect();
        assert_eq!(found, [("from", Some("a")), ("chown", Some("b c")), ("x", None)]);
        assert_eq!(&text[rest], "--not a");
    }

    #[test]
    fn the_place_of_a_flags_value_is_known() {
        let text = "--chown=a:b --from=é x";
        let (found, rest) = flags(text, 0..text.len());
        assert_eq!(&text[found[1].value_range.clone()], "é");
        assert_eq!(&text[found[0].range.clone()], "--chown=a:b");
        assert_eq!(&text[rest], "x");
    }

    #[test]
    fn the_keyword_ends_at_white_space() {
        let (word, rest) = keyword("  RUN\t a b ", 0..11);
        assert_eq!((word, rest), (2..5, 7..10));
        assert_eq!(keyword("RUN", 0..3), (0..3, 3..3));
        assert_eq!(keyword("ONBUILD RUN a", 8..13), (8..11, 12..13));
    }
}
