use super::{Directives, Spanned};
use crate::source::{Diagnostic, Span};

/// Reads the comments at the top that speak to the parser. The first line that is not such a comment ends them.
#[derive(Debug, Default)]
pub(super) struct DirectiveReader {
    directives: Directives,
    seen: Vec<&'static str>,
    done: bool,
}

impl DirectiveReader {
    pub fn escape(&self) -> char {
        self.directives.escape
    }

    pub fn finish(self) -> Directives {
        self.directives
    }

    /// Looks at `line`, which is written at `start`.
    pub fn line(&mut self, line: &str, start: usize, found: &mut Vec<Diagnostic>) {
        if self.done {
            return;
        }
        let Some((name, value, value_start)) = directive(line) else {
            self.done = true;
            return;
        };
        let span = Span::new(start, start + line.trim_end().len());
        let value_span = Span::new(start + value_start, start + value_start + value.len());
        if self.seen.contains(&name) {
            found.push(Diagnostic::error(format!("only one `# {name}=` can be used")).at(span));
            return;
        }
        self.seen.push(name);
        match name {
            "escape" => match value {
                "\\" | "`" => self.directives.escape = value.chars().next().unwrap_or('\\'),
                _ => found.push(
                    Diagnostic::error(format!("`{value}` cannot be the escape character"))
                        .at(value_span)
                        .hint("write `# escape=\\` or `# escape=``"),
                ),
            },
            "syntax" => {
                if !is_known_frontend(value) {
                    found.push(
                        Diagnostic::warning(format!("the frontend `{value}` is not fetched"))
                            .at(value_span)
                            .hint("the file is read as an ordinary Dockerfile"),
                    );
                }
                self.directives.syntax = Some(Spanned { value: value.into(), span, text: line.trim_end().into() });
            }
            _ => found.push(
                Diagnostic::error("`# check=` is not supported yet")
                    .at(span)
                    .hint("remove the line: no checks are made"),
            ),
        }
    }
}

/// Returns the name, the value, and where the value starts, if `line` is a directive.
fn directive(line: &str) -> Option<(&'static str, &str, usize)> {
    let rest = line.strip_prefix('#')?.trim_start();
    let (name, value) = rest.split_once('=')?;
    let known = ["escape", "syntax", "check"];
    let name = known.into_iter().find(|known| name.trim_end().eq_ignore_ascii_case(known))?;
    let value = value.trim_start();
    let start = line.len() - value.len();
    (!value.is_empty()).then(|| (name, value.trim_end(), start))
}

/// Whether `image` is the ordinary frontend, whose language this parser reads.
fn is_known_frontend(image: &str) -> bool {
    let image = image.split([' ', '@']).next().unwrap_or_default();
    let name = image.strip_prefix("docker.io/").unwrap_or(image);
    let name = name.split(':').next().unwrap_or_default();
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream")
}
