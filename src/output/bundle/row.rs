use std::collections::HashMap;

use oci_spec::image::Descriptor;
use serde_json::{Map, Value, json};

use super::{FILE, PACK, key};
use crate::oci::{Digest, ImageError, Platform, digest_of};

/// An image of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRow {
    /// Its name in full, as the Dockerfile means it.
    pub name: String,
    /// The digest of its manifest or index.
    pub digest: Digest,
    /// For which platforms it is there.
    pub platforms: Vec<Platform>,
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// Where it came from, without a password.
    pub url: String,
    /// What is in it.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// When it was changed, as the peer said: seconds since 1970.
    pub modified: Option<i64>,
}

/// A commit of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRow {
    /// What the Dockerfile calls it, with reference and directory, without a password; `None` for a submodule.
    pub address: Option<String>,
    /// The URL of the repository, without a password.
    pub repository: String,
    /// The whole id of the commit.
    pub commit: String,
    /// The name by which it was found.
    pub reference: Option<String>,
    /// The id of the tag that has this name.
    pub tag: Option<String>,
    /// The digest of the pack.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// A layer of the artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Row {
    File(FileRow),
    Git(GitRow),
}

impl Row {
    /// Returns the row as a descriptor.
    pub fn descriptor(&self) -> Value {
        let mut annotations = Map::new();
        let mut put = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                annotations.insert(key.to_owned(), value.into());
            }
        };
        let (kind, digest, size) = match self {
            Row::File(file) => {
                put(key::MODIFIED, file.modified.map(|seconds| seconds.to_string()));
                put(key::URL, Some(file.url.clone()));
                (FILE, file.digest, file.size)
            }
            Row::Git(git) => {
                put(key::ADDRESS, git.address.clone());
                put(key::COMMIT, Some(git.commit.clone()));
                put(key::REFERENCE, git.reference.clone());
                put(key::REPOSITORY, Some(git.repository.clone()));
                put(key::TAG, git.tag.clone());
                (PACK, git.digest, git.size)
            }
        };
        json!({"mediaType": kind, "digest": digest, "size": size, "annotations": annotations})
    }

    /// Returns the row that a layer of the artifact is, or what is wrong with it.
    pub fn parse(layer: &Descriptor) -> Result<Self, String> {
        let none = HashMap::new();
        let annotations = layer.annotations().as_ref().unwrap_or(&none);
        let get = |key: &str| annotations.get(key).cloned();
        let need = |key: &str| get(key).ok_or_else(|| format!("a layer of it has no annotation {key}"));
        let digest = digest_of(layer).map_err(|error: ImageError| error.to_string())?;
        let size = layer.size();
        match layer.media_type().as_ref() {
            FILE => {
                let seconds = |text: String| {
                    text.parse::<i64>().map_err(|_| format!("a layer of it has the time {:?}", short(&text)))
                };
                let modified = get(key::MODIFIED).map(seconds).transpose()?;
                Ok(Row::File(FileRow { url: need(key::URL)?, digest, size, modified }))
            }
            PACK => Ok(Row::Git(GitRow {
                address: get(key::ADDRESS),
                repository: need(key::REPOSITORY)?,
                commit: need(key::COMMIT)?,
                reference: get(key::REFERENCE),
                tag: get(key::TAG),
                digest,
                size,
            })),
            other => Err(format!("a layer of it is of the kind {:?}", short(other))),
        }
    }

    /// Returns what is asked for to get it, and what that leads to.
    pub fn name(&self) -> (&str, String) {
        match self {
            Row::File(file) => (&file.url, file.digest.to_string()),
            Row::Git(git) => (git.address.as_deref().unwrap_or_default(), git.commit.clone()),
        }
    }
}

impl ImageRow {
    /// Returns the row that an entry of index.json with a name is, or what is wrong with it.
    pub(super) fn parse(name: &str, entry: &Descriptor) -> Result<Self, String> {
        let digest = digest_of(entry).map_err(|error: ImageError| error.to_string())?;
        let said = entry.annotations().as_ref().and_then(|annotations| annotations.get(key::PLATFORMS));
        let said = said.map(String::as_str).unwrap_or_default();
        let platform = |text: &str| text.parse().map_err(|_| format!("it has an image for {:?}", short(text)));
        let platforms = said.split(',').filter(|text| !text.is_empty()).map(platform).collect::<Result<_, _>>()?;
        Ok(ImageRow { name: name.to_owned(), digest, platforms })
    }

    /// Returns the annotation for [`ImageRow::platforms`].
    pub(super) fn annotation(platforms: &[Platform]) -> HashMap<String, String> {
        let text: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        HashMap::from([(key::PLATFORMS.to_owned(), text.join(","))])
    }
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(value: &Value) -> Descriptor {
        serde_json::from_value(value.clone()).expect("a descriptor")
    }

    #[test]
    fn what_is_written_is_read_again() {
        let digest = Digest::of(b"x");
        let file = FileRow { url: "https://h/a?b".into(), digest, size: 1, modified: Some(-3) };
        let git = GitRow {
            address: Some("https://h/r.git#v1".into()),
            repository: "https://h/r.git".into(),
            commit: "a".repeat(40),
            reference: Some("refs/tags/v1".into()),
            tag: Some("b".repeat(40)),
            digest,
            size: 1,
        };
        let module = GitRow { address: None, reference: None, tag: None, ..git.clone() };
        for row in
            [Row::File(file.clone()), Row::File(FileRow { modified: None, ..file }), Row::Git(git), Row::Git(module)]
        {
            assert_eq!(Row::parse(&descriptor(&row.descriptor())), Ok(row));
        }
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let digest = Digest::of(b"x");
        for (kind, annotations, says) in [
            (FILE, json!({}), "has no annotation vnd.coracle.bundle.url"),
            (FILE, json!({key::URL: "u", key::MODIFIED: "now"}), "the time \"now\""),
            (PACK, json!({key::REPOSITORY: "u"}), "has no annotation vnd.coracle.bundle.git.commit"),
            ("text/html", json!({}), "of the kind \"text/html\""),
        ] {
            let layer = json!({"mediaType": kind, "digest": digest, "size": 1, "annotations": annotations});
            let error = Row::parse(&descriptor(&layer)).expect_err(says);
            assert!(error.contains(says), "{error}");
        }
    }
}
