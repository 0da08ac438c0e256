//! The history of an image holds texts that Go's `fmt` made. Other tools compare them, so ours are the same.

use std::fmt::Write as _;

/// Returns `["a" "b"]`, as Go prints a list with `%q`.
pub(super) fn quoted_list(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(" "))
}

/// Returns `[a b]`, as Go prints a list with `%v`.
pub(super) fn plain_list(list: &[String]) -> String {
    format!("[{}]", list.join(" "))
}

/// Returns `text` in double quotes, as Go's `%q` does.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if is_printable(c) => out.push(c),
            c if c < ' ' || c == '\x7f' => write!(out, "\\x{:02x}", c as u32).expect("a string takes all"),
            c if c < '\u{10000}' => write!(out, "\\u{:04x}", c as u32).expect("a string takes all"),
            c => write!(out, "\\U{:08x}", c as u32).expect("a string takes all"),
        }
    }
    out.push('"');
    out
}

/// Whether Go prints `c` as it is. The standard library knows this only as a side effect of escaping; a letter in front
/// keeps it from escaping accents, which Go prints.
fn is_printable(c: char) -> bool {
    let mut text = String::from("a");
    text.push(c);
    matches!(c, ' '..='~') || text.escape_debug().skip(1).eq(std::iter::once(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_as_go_quotes_them() {
        for (text, expected) in [
            ("dotnet", r#""dotnet""#),
            (r#"a "b" \"#, r#""a \"b\" \\""#),
            ("it's", r#""it's""#),
            ("\t\n\x1b\x7f", r#""\t\n\x1b\x7f""#),
            ("é日🎉", r#""é日🎉""#),
            ("e\u{301}", "\"e\u{301}\""),
            ("\u{a0}\u{200b}\u{85}", r#""\u00a0\u200b\u0085""#),
            ("\u{e0001}", r#""\U000e0001""#),
        ] {
            assert_eq!(quoted(text), expected);
        }
        assert_eq!(quoted_list(&["dotnet".into(), "Demo.Web.dll".into()]), r#"["dotnet" "Demo.Web.dll"]"#);
        assert_eq!(quoted_list(&[]), "[]");
    }
}
