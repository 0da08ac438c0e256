//! What a Dockerfile names elsewhere, pinned to what it was: the content of `Dockerfile.lock`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{Add, CopySource, Op, Plan};
use crate::oci::Digest;
use crate::source::Span;

/// The version of the format that is written, and the only one that is read.
const VERSION: u32 = 1;

/// What stands at the top of the file.
const HEAD: &str = "\
# What the Dockerfile names elsewhere, as it was when `coracle lock` looked. `coracle build --locked` uses exactly this;
# `coracle lock --update` looks again.
";

/// What names stand for. See `docs/lock.md`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins {
    /// Images: their names in full, or as written where they are places of this machine; digests of the manifest or index.
    pub images: BTreeMap<String, Digest>,
    /// Files that ADD fetches, by URL without a password; digests of their content.
    pub urls: BTreeMap<String, Digest>,
    /// Git repositories that ADD fetches, with reference and directory, without a password; commits in full.
    pub git: BTreeMap<String, String>,
}

/// A text is no lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinsError {
    /// It is no TOML, or has fields that no version of the format has.
    #[error("it is not what `coracle lock` writes: {reason}")]
    Syntax {
        /// What the parser says.
        reason: String,
    },
    /// Another version of the format.
    #[error("it has version {version}, and this is known: {VERSION}")]
    Version {
        /// Its version.
        version: u32,
    },
    /// A name has something else behind it than it must.
    #[error("{value:?} of {name:?} is no {kind}")]
    Value {
        /// The name.
        name: String,
        /// What is behind it.
        value: String,
        /// What should be there.
        kind: &'static str,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    version: u32,
    #[serde(default)]
    images: BTreeMap<String, String>,
    #[serde(default)]
    urls: BTreeMap<String, String>,
    #[serde(default)]
    git: BTreeMap<String, String>,
}

impl Pins {
    /// Returns the pins that `text` holds.
    ///
    /// # Errors
    /// [`PinsError`].
    pub fn parse(text: &str) -> Result<Self, PinsError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let syntax = |error: toml::de::Error| PinsError::Syntax { reason: error.to_string().trim().replace('\n', " ") };
        // First: another version may have other fields.
        let Versioned { version } = toml::from_str(text).map_err(syntax)?;
        if version != VERSION {
            return Err(PinsError::Version { version });
        }
        let raw: Raw = toml::from_str(text).map_err(syntax)?;
        let digests = |pins: BTreeMap<String, String>| {
            let digest = |(name, value): (String, String)| match value.parse::<Digest>() {
                Ok(digest) => Ok((name, digest)),
                Err(_) => Err(PinsError::Value { name, value, kind: "digest" }),
            };
            pins.into_iter().map(digest).collect::<Result<BTreeMap<_, _>, _>>()
        };
        for (name, value) in &raw.git {
            let is_commit = matches!(value.len(), 40 | 64)
                && value.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            if !is_commit {
                return Err(PinsError::Value { name: name.clone(), value: value.clone(), kind: "commit" });
            }
        }
        Ok(Pins { images: digests(raw.images)?, urls: digests(raw.urls)?, git: raw.git })
    }

    /// Returns the text of the file: the same pins give the same bytes.
    pub fn render(&self) -> String {
        let text = |pins: &BTreeMap<String, Digest>| {
            pins.iter().map(|(name, digest)| (name.clone(), digest.to_string())).collect::<BTreeMap<_, _>>()
        };
        let tables = [("images", text(&self.images)), ("urls", text(&self.urls)), ("git", self.git.clone())];
        let mut file = format!("{HEAD}version = {VERSION}\n");
        for (title, pins) in tables.iter().filter(|(_, pins)| !pins.is_empty()) {
            let rows = toml::to_string(pins).expect("a table of strings always serialises");
            let _ = write!(file, "\n[{title}]\n{rows}");
        }
        file
    }

    /// Returns what `newer` has changed, a line each: what is new, what is another now, what is gone.
    pub fn changes(&self, newer: &Pins) -> Vec<String> {
        let (old, new) = (self.rows(), newer.rows());
        let mut lines = Vec::new();
        for (name, value) in &new {
            match old.get(name) {
                None => lines.push(format!("new: {name} {value}")),
                Some(before) if before != value => lines.push(format!("changed: {name} {before} -> {value}")),
                Some(_) => {}
            }
        }
        lines.extend(old.iter().filter(|(name, _)| !new.contains_key(*name)).map(|(name, _)| format!("gone: {name}")));
        lines
    }

    fn rows(&self) -> BTreeMap<&str, String> {
        let digests = self.images.iter().chain(&self.urls).map(|(name, digest)| (name.as_str(), digest.to_string()));
        digests.chain(self.git.iter().map(|(name, commit)| (name.as_str(), commit.clone()))).collect()
    }
}

/// Something that ADD fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch<'a> {
    /// The instruction.
    pub span: Span,
    /// A URL or a repository.
    pub source: &'a CopySource,
    /// How it is added.
    pub add: &'a Add,
}

impl Plan {
    /// Returns all that the steps fetch from elsewhere, images apart, in their order.
    pub fn fetches(&self) -> Vec<Fetch<'_>> {
        let steps = self.stages.iter().flat_map(|stage| &stage.steps);
        let mut found = Vec::new();
        for step in steps {
            let Op::Copy(copy) = &step.op else { continue };
            let Some(add) = &copy.add else { continue };
            let elsewhere = |source: &&CopySource| matches!(source, CopySource::Url(_) | CopySource::Git(_));
            found.extend(copy.sources.iter().filter(elsewhere).map(|source| Fetch { span: step.span, source, add }));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Pins {
        let digest = Digest::of(b"x");
        Pins {
            images: [("docker.io/library/b:1".to_owned(), digest), ("docker.io/library/a:1".to_owned(), digest)].into(),
            urls: [("https://h/\"a\".tar?x=1#y".to_owned(), digest)].into(),
            git: [("https://h/r.git#main:d".to_owned(), "a".repeat(40))].into(),
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_sorted() {
        let text = some().render();
        assert_eq!(Pins::parse(&text), Ok(some()));
        assert_eq!(Pins::parse(&text).unwrap().render(), text);
        assert!(text.find("library/a:1") < text.find("library/b:1") && text.starts_with('#'), "{text}");
        assert_eq!(Pins::parse(&Pins::default().render()), Ok(Pins::default()));
        // Whoever sorts it by hand otherwise is understood, and the next lock sorts it.
        let digest = Digest::of(b"x");
        let unsorted = format!("version = 1\n[urls]\nb = '{digest}'\na = '{digest}'\n[images]\nz = '{digest}'\n");
        let read = Pins::parse(&unsorted).unwrap();
        assert!(read.render().find("a =") < read.render().find("b ="), "{}", read.render());
    }

    #[test]
    fn what_is_no_lock_is_refused() {
        for (text, says) in [
            ("", "version"),
            ("version = 2\nother = 1", "version 2"),
            ("version = 1\nother = 1", "unknown field"),
            ("version = 1\n[images]\na = 'latest'", "\"latest\" of \"a\" is no digest"),
            ("version = 1\n[urls]\na = 1", "expected"),
            ("version = 1\n[git]\na = 'main'", "is no commit"),
            ("version = 1\n[images]\na = 'x'\na = 'y'", "duplicate"),
            ("version = 1\n[images", "lock"),
        ] {
            let error = Pins::parse(text).expect_err(text).to_string();
            assert!(error.contains(says) && !error.contains('\n'), "{text:?}: {error}");
        }
    }

    #[test]
    fn changes_are_told_a_line_each() {
        let mut newer = some();
        newer.urls.clear();
        newer.images.insert("docker.io/library/a:1".into(), Digest::of(b"y"));
        newer.images.insert("docker.io/library/c:1".into(), Digest::of(b"z"));
        let (x, y, z) = (Digest::of(b"x"), Digest::of(b"y"), Digest::of(b"z"));
        assert_eq!(
            some().changes(&newer),
            [
                format!("changed: docker.io/library/a:1 {x} -> {y}"),
                format!("new: docker.io/library/c:1 {z}"),
                "gone: https://h/\"a\".tar?x=1#y".to_owned(),
            ]
        );
        assert!(some().changes(&some()).is_empty());
    }
}
