//! COPY and ADD.

use super::graph::Origin;
use super::lower::Context;
use super::stage::{Said, StageState};
use super::{Add, Chmod, Copy, CopyFrom, CopySource, Op, SymbolicMode, path};
use crate::address;
use crate::dockerfile::{self, AddFlags, Heredoc, Word, expand_heredoc};
use crate::source::{Diagnostic, Span};

impl StageState {
    pub(super) fn copy(
        &self,
        copy: &dockerfile::Copy,
        origin: Option<&Origin>,
        context: &mut Context<'_>,
    ) -> Result<Said, Diagnostic> {
        let keyword = if copy.add.is_some() { "ADD" } else { "COPY" };
        let (link, parents) = (is_on(&copy.link), is_on(&copy.parents));
        let chown = self.flag(&copy.chown, context)?.map(|(owner, _)| owner);
        let chmod = self.flag(&copy.chmod, context)?;
        let mut rest = String::new();
        if parents {
            rest.push_str(" --parents");
        }
        if let Some(owner) = &chown {
            rest.push_str(&format!(" --chown={owner}"));
        }
        if let Some((mode, _)) = &chmod {
            rest.push_str(&format!(" --chmod={mode}"));
        }
        let mut sources = Vec::with_capacity(copy.sources.len());
        for source in &copy.sources {
            match source {
                dockerfile::CopySource::Path(word) => {
                    let text = self.expand(word, context)?;
                    // What is shown and what is kept in the history tells no password.
                    rest.push_str(&format!(" {}", address::shown(&text)));
                    sources.push(source_of(text, word, copy.add.is_some(), context)?);
                }
                dockerfile::CopySource::Heredoc(heredoc) => {
                    rest.push_str(&format!(" <<{}", heredoc.name));
                    sources.push(self.inline(heredoc, context)?);
                }
            }
        }
        let destination = self.expand(&copy.destination, context)?;
        rest.push_str(&format!(" {destination}"));
        let from = match origin {
            None => CopyFrom::Context,
            Some(origin) => {
                origin.in_plan(context).ok_or_else(|| Diagnostic::error("there is nothing in `scratch` to copy"))?
            }
        };
        let mut flags = copy.from.as_ref().map(|from| format!(" --from={}", from.text)).unwrap_or_default();
        if link {
            flags.push_str(" --link");
        }
        let mut exclude = Vec::with_capacity(copy.exclude.len());
        for word in &copy.exclude {
            let pattern = self.expand(word, context)?;
            flags.push_str(&format!(" --exclude={pattern}"));
            exclude.push(pattern);
        }
        let add = copy.add.as_ref().map(|add| self.add(add, &sources, context)).transpose()?;
        Ok(Said {
            created_by: format!("{keyword}{rest} # buildkit"),
            text: Some(format!("{keyword}{flags}{rest}")),
            op: Op::Copy(Copy {
                from,
                sources,
                destination: path::destination(&self.config.config.working_dir, &destination),
                chown,
                chmod: chmod.map(|(mode, span)| mode_of(&mode, span)).transpose()?,
                link,
                parents,
                exclude,
                add,
            }),
        })
    }

    /// Returns the value of a flag, and where it is; `None` where it is empty.
    fn flag(&self, word: &Option<Word>, context: &mut Context<'_>) -> Result<Option<(String, Span)>, Diagnostic> {
        let Some(word) = word else { return Ok(None) };
        let text = self.expand(word, context)?;
        Ok(Some((text, word.span)).filter(|(text, _)| !text.is_empty()))
    }

    fn inline(&self, heredoc: &Heredoc, context: &mut Context<'_>) -> Result<CopySource, Diagnostic> {
        let Heredoc { name, span, .. } = heredoc;
        if matches!(name.as_str(), "." | "..") || name.contains('/') {
            return Err(Diagnostic::error(format!("`{name}` cannot be the name of a file")).at(*span));
        }
        let lookup = |name: &str| self.visible.get(name).map(str::to_owned);
        let text = match heredoc.expand {
            true => expand_heredoc(&heredoc.text(), &lookup)
                .map_err(|error| Diagnostic::error(error.to_string()).at(*span))?,
            false => heredoc.text().into_owned(),
        };
        context.charge(text.len(), *span)?;
        Ok(CopySource::Inline { name: name.clone(), text })
    }

    fn add(&self, flags: &AddFlags, sources: &[CopySource], context: &mut Context<'_>) -> Result<Add, Diagnostic> {
        let checksum = match self.flag(&flags.checksum, context)? {
            None => None,
            Some((checksum, span)) => {
                let paths = sources.iter().filter(|source| !matches!(source, CopySource::Inline { .. })).count();
                let good = match sources {
                    _ if paths != 1 => {
                        let error = Diagnostic::error("`--checksum` is for one source, not for several").at(span);
                        return Err(error.hint("write an ADD of its own for each"));
                    }
                    [CopySource::Url(_), ..] => is_hex(checksum.strip_prefix("sha256:").unwrap_or_default(), 64..=64),
                    [CopySource::Git(_), ..] => is_hex(&checksum, 7..=64),
                    _ => return Err(Diagnostic::error("`--checksum` is for a URL or a git repository").at(span)),
                };
                if !good {
                    return Err(Diagnostic::error(format!("`{checksum}` is not a checksum"))
                        .at(span)
                        .hint("for a URL sha256:… with 64 digits, for git the hash of a commit"));
                }
                Some(checksum)
            }
        };
        let is_true = |word: &Word| word.text == "true";
        let unpack = flags.unpack.as_ref().map(is_true);
        Ok(Add { unpack, checksum, keep_git_dir: flags.keep_git_dir.as_ref().map(is_true) })
    }
}

fn is_on(word: &Option<Word>) -> bool {
    word.as_ref().is_some_and(|word| word.text == "true")
}

fn is_hex(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns what `text`, a source after expansion, means.
fn source_of(text: String, word: &Word, is_add: bool, context: &mut Context<'_>) -> Result<CopySource, Diagnostic> {
    let remote = remote(&text);
    if remote.is_some() && !is_add {
        return Err(Diagnostic::error("COPY cannot fetch a URL").at(word.span).hint("ADD can"));
    }
    if text.is_empty() {
        let message = format!("`{}` is empty after expansion: that copies everything", word.text);
        context.warnings.push(Diagnostic::warning(message).at(word.span));
    }
    Ok(match remote {
        Some(Remote::Git) => CopySource::Git(text),
        Some(Remote::Url) => CopySource::Url(text),
        None => CopySource::Path(text),
    })
}

enum Remote {
    Url,
    Git,
}

/// Returns what kind of remote place `source` is; `None` for a path.
fn remote(source: &str) -> Option<Remote> {
    if source.starts_with("http://") || source.starts_with("https://") {
        let path = source.split(['?', '#']).next().unwrap_or_default();
        return Some(if path.ends_with(".git") { Remote::Git } else { Remote::Url });
    }
    if source.starts_with("git://") || source.starts_with("ssh://") {
        return Some(Remote::Git);
    }
    // As ssh has it: user@host:path.
    let (user, rest) = source.split_once('@')?;
    let (host, _) = rest.split_once(':')?;
    let is_word = |text: &str, more: &[u8]| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    (is_word(user, b"-_") && is_word(host, b"-.")).then_some(Remote::Git)
}

/// Returns what `--chmod` says.
fn mode_of(text: &str, span: Span) -> Result<Chmod, Diagnostic> {
    let bad = || {
        Diagnostic::error(format!("`{text}` is not a mode"))
            .at(span)
            .hint("octal digits, at most 07777, as in --chmod=755, or letters, as in --chmod=u=rwX,go=rX")
    };
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
        return mode.map(Chmod::Octal).ok_or_else(bad);
    }
    SymbolicMode::parse(text).map(Chmod::Symbolic).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_source_is_told_from_a_path() {
        for (source, expected) in [
            ("https://example.org/a.tar.gz", "url"),
            ("http://example.org/", "url"),
            ("https://example.org/a/b.git", "git"),
            ("https://example.org/a/b.git#v1:sub", "git"),
            ("https://example.org/a/b.git?ref=v1", "git"),
            ("https://example.org/b?x=.git", "url"),
            ("git://example.org/b", "git"),
            ("ssh://git@example.org/b", "git"),
            ("git@example.org:a/b.git", "git"),
            ("me@host:b", "git"),
            ("a@b", "path"),
            ("dir/git@host:x", "path"),
            ("example.org/a.git", "path"),
            ("./https://x", "path"),
        ] {
            let found = match remote(source) {
                Some(Remote::Url) => "url",
                Some(Remote::Git) => "git",
                None => "path",
            };
            assert_eq!(found, expected, "{source}");
        }
    }
}
