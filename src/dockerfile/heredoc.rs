use super::Heredoc;
use super::command::Command;
use super::lines::Lines;
use super::word::{Unquoted, split_raw, unquoted};
use crate::source::Diagnostic;

/// `<<NAME` on a line: what follows the line, up to a line that is `NAME`, belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opening {
    /// The line that ends it.
    pub name: String,
    /// Whether no part of the name is quoted.
    pub expand: bool,
    /// `<<-`: tabs at the start of its lines do not count.
    pub chomp: bool,
}

/// Returns the bodies of the here-documents that `command` opens, in order. `None` where one does not end; `found` says so.
pub(super) fn bodies(
    lines: &mut Lines<'_>,
    command: &Command<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<Vec<Heredoc>> {
    let owner = if command.keyword().eq_ignore_ascii_case("ONBUILD") { &command.inner() } else { command };
    let opens = ["RUN", "COPY", "ADD"].iter().any(|keyword| owner.keyword().eq_ignore_ascii_case(keyword));
    if !opens || !command.line.text.contains("<<") || matches!(owner.json(), Ok(Some(_))) {
        return Some(Vec::new());
    }
    let mut bodies = Vec::new();
    for Opening { name, expand, chomp } in openings(&command.line.text) {
        let Some((body, span)) = lines.body(&name, chomp) else {
            let start = command.line.text.find("<<").unwrap_or(owner.rest.start);
            let length = command.line.text[start..].find(char::is_whitespace);
            let place = start..length.map_or(command.line.text.len(), |length| start + length);
            found.push(
                Diagnostic::error(format!("the here-document `{name}` does not end"))
                    .at(command.line.place(place))
                    .hint(format!("the line that ends it is `{name}` and nothing else")),
            );
            return None;
        };
        bodies.push(Heredoc { name, expand, chomp, body: body.into(), span });
    }
    Some(bodies)
}

/// Returns the here-documents that `line` opens, in order.
pub(super) fn openings(line: &str) -> Vec<Opening> {
    if !line.contains("<<") {
        return Vec::new();
    }
    // A line that cannot be split (a lone quote: the shell will complain) has none.
    split_raw(line).unwrap_or_default().iter().filter_map(|word| opening(word)).collect()
}

/// Returns whether `text` opens a here-document and is nothing but that.
pub(crate) fn is_opening(text: &str) -> bool {
    opening(text).is_some()
}

/// Returns the here-document that `word` opens, if it is nothing but that.
pub(super) fn opening(word: &str) -> Option<Opening> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let plain = unquoted(rest, Unquoted::All).ok()?;
    let written = unquoted(rest, Unquoted::Nothing).ok()?;
    match (&plain[..], &written[..]) {
        ([name], [written]) => Some(Opening { name: name.clone(), expand: name == written, chomp }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heredoc_is_a_word_that_starts_with_two_angles() {
        let cases: &[(&str, &[&str])] = &[
            ("RUN <<EOF", &["EOF"]),
            ("RUN <<-EOF", &["EOF"]),
            ("RUN <<  EOF", &["EOF"]),
            ("RUN 3<<EOF", &["EOF"]),
            ("RUN <<'EOF'", &["EOF"]),
            ("RUN <<'one two'", &["one two"]),
            (r"RUN <<eo\'f", &["eo'f"]),
            ("RUN <<$EOF", &["$EOF"]),
            ("COPY <<a <<b /d", &["a", "b"]),
            ("RUN cat <<EOF > /x", &["EOF"]),
            ("RUN '<<EOF'", &[]),
            ("RUN \"<<EOF\"", &[]),
            ("RUN cat <<<text", &[]),
            ("RUN echo $((1<<3))", &[]),
            ("RUN echo a <<", &[]),
            ("RUN echo 'it", &[]),
            ("RUN : ${x:=y} && cat <<EOF", &["EOF"]),
            ("RUN : \"${x:=y}\"; echo \"${x:0:3}\" <<EOF", &["EOF"]),
            ("RUN f ${@:2} <<EOF", &["EOF"]),
            ("RUN echo ${x: -3} ${y:?no} ${z#a} <<EOF", &["EOF"]),
            // As with BuildKit, whose reader of words knows no more.
            ("RUN echo ${x^^} <<EOF", &[]),
            ("RUN echo ${x=y} <<EOF", &[]),
            ("RUN echo ${x:#y} <<EOF", &[]),
        ];
        for (line, names) in cases {
            let found: Vec<String> = openings(line).into_iter().map(|opening| opening.name).collect();
            assert_eq!(&found, names, "{line}");
        }
    }
}
