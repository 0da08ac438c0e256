//! The comments right above an instruction: what they describe, and what they say to the checks.

use super::Settings;
use crate::source::Source;

/// Returns the comments right above the line of the byte `at`, without `#` and white space at either end, top first. An
/// empty line ends them.
pub(super) fn above(source: &Source, at: usize) -> Vec<&str> {
    let line = source.line_of(at);
    let comment = |number: usize| source.line_text(number).trim_start().strip_prefix('#').map(str::trim);
    let mut found: Vec<&str> = (1..line).rev().map_while(comment).collect();
    found.reverse();
    found
}

/// Returns what `comments` say about `name`: the rest of the first that begins with it.
pub(super) fn description<'a>(comments: &[&'a str], name: &str) -> Option<&'a str> {
    comments.iter().find_map(|comment| comment.strip_prefix(name)?.strip_prefix(' ')).map(str::trim)
}

/// Returns what `comments` say to the checks. Of several only the first counts; one that makes no sense says nothing.
pub(super) fn settings(comments: &[&str]) -> Option<Settings> {
    let check = |comment: &&str| {
        let (name, value) = comment.split_once('=')?;
        name.trim_end().eq_ignore_ascii_case("check").then(|| value.trim().to_owned())
    };
    let value = comments.iter().find_map(check)?;
    Settings::parse(value.split(' ').next().unwrap_or_default()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_end_at_an_empty_line_and_at_an_instruction() {
        let text = "# far\n\n# near\n  #nearer \nARG a\n# of b\nARG b\nARG c\n";
        let source = Source::new("Dockerfile", text);
        let of = |name: &str| above(&source, text.find(name).unwrap());
        assert_eq!(of("ARG a"), ["near", "nearer"]);
        assert_eq!(of("ARG b"), ["of b"]);
        assert!(of("ARG c").is_empty());
    }

    #[test]
    fn a_description_begins_with_the_name() {
        let comments = ["something", "port-map no", "port  where it listens "];
        assert_eq!(description(&comments, "port"), Some("where it listens"));
        assert_eq!(description(&comments, "host"), None);
    }

    #[test]
    fn the_first_comment_to_the_checks_counts() {
        let found = settings(&["x=1", "check=skip=UndefinedVar because", "check=skip=all"]).unwrap();
        assert!(!found.makes("UndefinedVar") && found.makes("FromAsCasing"));
        assert_eq!(settings(&["check=nonsense"]), None);
        assert_eq!(settings(&[]), None);
    }
}
