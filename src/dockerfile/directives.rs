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
    /// Returns a reader that finds no directives.
    pub fn none() -> Self {
        DirectiveReader { done: true, ..DirectiveReader::default() }
    }

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
                if let Some((message, hint)) = unlike_ours(value) {
                    found.push(Diagnostic::warning(message).at(value_span).hint(hint));
                }
                self.directives.syntax =
                    Some(Spanned { value: value.into(), span: value_span, text: line.trim_end().into() });
            }
            _ => {
                self.directives.check =
                    Some(Spanned { value: value.into(), span: value_span, text: line.trim_end().into() });
            }
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

/// The newest version of the ordinary frontend whose language this parser reads.
const NEWEST: (u32, u32) = (1, 24);

/// Returns what to say of the frontend `image`, and a hint, if it may read another language than this parser.
fn unlike_ours(image: &str) -> Option<(String, String)> {
    // Options for the frontend may follow.
    let image = image.split_whitespace().next().unwrap_or_default();
    let name = image.split('@').next().unwrap_or_default();
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let (name, tag) = name.split_once(':').unwrap_or((name, ""));
    if !matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream") {
        let message = format!("the frontend `{image}` is not fetched");
        return Some((message, "the file is read as an ordinary Dockerfile".into()));
    }
    let mut numbers = tag.split('-').next().unwrap_or_default().split('.').map_while(|part| part.parse::<u32>().ok());
    let (major, minor) = (numbers.next()?, numbers.next().unwrap_or(0));
    (major > NEWEST.0 || (major == NEWEST.0 && minor > NEWEST.1)).then(|| {
        let (newest_major, newest_minor) = NEWEST;
        let message = format!("the Dockerfile is written for version {major}.{minor} of its language");
        (message, format!("it is read as version {newest_major}.{newest_minor}; the frontend is not fetched"))
    })
}
