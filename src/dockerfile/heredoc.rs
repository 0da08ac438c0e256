use super::word::{split_raw, unquoted};

/// `<<NAME` on a line: what follows the line, up to a line that is `NAME`, belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heredoc {
    /// The line that ends it.
    pub name: String,
    /// `<<-`: tabs at the start of its lines do not count.
    pub chomp: bool,
}

/// Returns the here-documents that `line` opens, in order.
pub(super) fn heredocs(line: &str) -> Vec<Heredoc> {
    if !line.contains("<<") {
        return Vec::new();
    }
    // A line that cannot be split (a lone quote: the shell will complain) has none.
    split_raw(line).unwrap_or_default().iter().filter_map(|word| heredoc(word)).collect()
}

fn heredoc(word: &str) -> Option<Heredoc> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let mut words = unquoted(rest, false).ok()?;
    (words.len() == 1).then(|| Heredoc { name: words.remove(0), chomp })
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
        ];
        for (line, names) in cases {
            let found: Vec<String> = heredocs(line).into_iter().map(|heredoc| heredoc.name).collect();
            assert_eq!(&found, names, "{line}");
        }
    }
}
