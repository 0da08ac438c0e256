//! Indexes of images: made of several, with the platform of each.

use oci_spec::image::Descriptor;
use serde_json::{Map, Value, json};

use crate::oci::{Digest, ImageConfig};
use crate::store::describe;

/// Returns an index with `members`, and the descriptor that leads to it. `media_type` is that of OCI or docker's list. The same
/// members give the same bytes.
pub fn assemble(media_type: &str, members: &[Descriptor]) -> (Descriptor, Vec<u8>) {
    let bytes = render(media_type, members.iter().map(entry).collect(), &Map::new());
    (describe(media_type, &Digest::of(&bytes), bytes.len() as u64), bytes)
}

/// Returns the bytes of an index with `entries` and `annotations`.
pub fn render(media_type: &str, entries: Vec<Value>, annotations: &Map<String, Value>) -> Vec<u8> {
    let mut index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
    if !annotations.is_empty() {
        index["annotations"] = annotations.clone().into();
    }
    serde_json::to_vec(&index).expect("JSON values always serialise")
}

/// Returns a descriptor as an entry of an index: annotations by key, since a hash map's order differs from run to run.
pub fn entry(descriptor: &Descriptor) -> Value {
    let mut entry = serde_json::to_value(descriptor).expect("descriptors always serialise");
    if let Some(annotations) = entry.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.sort_keys();
    }
    entry
}

/// Returns the platform of an image as an index says it.
pub fn platform_of(config: &ImageConfig) -> oci_spec::image::Platform {
    let mut platform = oci_spec::image::Platform::default();
    platform.set_architecture(config.platform.architecture.as_str().into());
    platform.set_os(config.platform.os.as_str().into());
    platform.set_variant(config.platform.variant.clone());
    if let Some(Value::String(version)) = config.other.get("os.version") {
        platform.set_os_version(Some(version.clone()));
    }
    platform
}

/// An index cannot be made, or changed, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// A member does not say for which platform it is.
    #[error("{member} does not say for which platform it is")]
    NoPlatform {
        /// Its digest.
        member: String,
    },
    /// Two members are for one platform.
    #[error("{member} is for {platform}, and so is {other}, which is in the index")]
    Doubled {
        /// The digest of the new one.
        member: String,
        /// The platform of both.
        platform: String,
        /// The digest of the other.
        other: String,
    },
    /// There is nothing in it.
    #[error("there is no image in the index")]
    Empty,
    /// No member has this digest.
    #[error("no image in the index has the digest {digest}, only: {}", known.join(", "))]
    NoMember {
        /// The digest.
        digest: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// What should be an index is none.
    #[error("it is not an index of images")]
    NotAnIndex,
}

/// An index that is being made: what it does not know of it stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    document: Value,
}

/// What is said about a member besides what its image says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Its operating system.
    pub os: Option<String>,
    /// Its processor.
    pub architecture: Option<String>,
    /// Its variant of that.
    pub variant: Option<String>,
    /// Its version of the operating system.
    pub os_version: Option<String>,
    /// Features of the operating system.
    pub os_features: Vec<String>,
    /// Annotations.
    pub annotations: Vec<(String, String)>,
}

impl List {
    /// Returns an index without members.
    pub fn new() -> Self {
        let bytes = render(crate::oci::media_type::INDEX, Vec::new(), &Map::new());
        List { document: serde_json::from_slice(&bytes).expect("made just now") }
    }

    /// Returns the index in `bytes`.
    ///
    /// # Errors
    /// [`IndexError::NotAnIndex`].
    pub fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        let document: Value = serde_json::from_slice(bytes).map_err(|_| IndexError::NotAnIndex)?;
        if document.get("manifests").is_some_and(|list| list.as_array().is_some_and(|l| l.iter().all(Value::is_object)))
        {
            Ok(List { document })
        } else {
            Err(IndexError::NotAnIndex)
        }
    }

    /// Returns its entries.
    pub fn entries(&self) -> &[Value] {
        self.document.get("manifests").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn entries_mut(&mut self) -> &mut Vec<Value> {
        self.document.get_mut("manifests").and_then(Value::as_array_mut).expect("`parse` accepts nothing else")
    }

    /// Adds a member, with `details`. One that is there already gets the details only.
    ///
    /// # Errors
    /// [`IndexError::NoPlatform`] and [`IndexError::Doubled`]; then nothing is changed.
    pub fn add(&mut self, member: &Descriptor, details: &Details) -> Result<(), IndexError> {
        let digest = member.digest().to_string();
        let mut new = entry(member);
        details.apply(&mut new);
        let platform = platform_text(&new).ok_or_else(|| IndexError::NoPlatform { member: digest.clone() })?;
        for old in self.entries() {
            let other = old.get("digest").and_then(Value::as_str).unwrap_or_default();
            let same = other != digest && platform_text(old).as_deref() == Some(platform.as_str());
            if same && !is_unknown(old) {
                return Err(IndexError::Doubled { member: digest, platform, other: other.into() });
            }
        }
        let same = |old: &&mut Value| old.get("digest").and_then(Value::as_str) == Some(&digest);
        match self.entries_mut().iter_mut().find(same) {
            Some(old) => details.apply(old),
            None => self.entries_mut().push(new),
        }
        Ok(())
    }

    /// Adds an image, in place of that for the same platform.
    ///
    /// # Errors
    /// [`IndexError::NoPlatform`].
    pub fn put(&mut self, member: &Descriptor) -> Result<(), IndexError> {
        let new = entry(member);
        let digest = || member.digest().to_string();
        let platform = platform_text(&new).ok_or_else(|| IndexError::NoPlatform { member: digest() })?;
        let is_other = |old: &Value| {
            let is_same = old.get("digest").and_then(Value::as_str) == Some(&digest());
            !is_same && platform_text(old).as_deref() == Some(platform.as_str())
        };
        self.entries_mut().retain(|old| !is_other(old));
        self.add(member, &Details::default())
    }

    /// Changes what is said about the member `digest`.
    ///
    /// # Errors
    /// [`IndexError::NoMember`], and [`IndexError::Doubled`] where it would be for the platform of another then.
    pub fn annotate(&mut self, digest: &str, details: &Details) -> Result<(), IndexError> {
        let at = self.position(digest)?;
        let mut new = self.entries()[at].clone();
        details.apply(&mut new);
        let platform = platform_text(&new);
        let member = || new.get("digest").and_then(Value::as_str).unwrap_or_default().to_owned();
        for (other_at, old) in self.entries().iter().enumerate() {
            if other_at != at && platform.is_some() && platform_text(old) == platform {
                let other = old.get("digest").and_then(Value::as_str).unwrap_or_default().to_owned();
                return Err(IndexError::Doubled { member: member(), platform: platform.unwrap_or_default(), other });
            }
        }
        self.entries_mut()[at] = new;
        Ok(())
    }

    /// Sets annotations of the index itself.
    pub fn annotate_index(&mut self, annotations: &[(String, String)]) {
        annotate(&mut self.document, annotations);
    }

    /// Removes the member `digest`.
    ///
    /// # Errors
    /// [`IndexError::NoMember`].
    pub fn remove(&mut self, digest: &str) -> Result<(), IndexError> {
        let at = self.position(digest)?;
        self.entries_mut().remove(at);
        Ok(())
    }

    fn position(&self, digest: &str) -> Result<usize, IndexError> {
        let of = |entry: &Value| entry.get("digest").and_then(Value::as_str).unwrap_or_default().to_owned();
        let fits = |entry: &Value| {
            let known = of(entry);
            known == digest || (digest.len() >= 12 && known.trim_start_matches("sha256:").starts_with(digest))
        };
        self.entries().iter().position(fits).ok_or_else(|| {
            let known = self.entries().iter().take(50).map(of).collect();
            IndexError::NoMember { digest: digest.chars().take(100).collect(), known }
        })
    }

    /// Checks that it can go out: that there is something in it, each for a platform of its own.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn check(&self) -> Result<(), IndexError> {
        if self.entries().is_empty() {
            return Err(IndexError::Empty);
        }
        let mut seen: Vec<(String, String)> = Vec::new();
        for entry in self.entries() {
            let member = entry.get("digest").and_then(Value::as_str).unwrap_or_default().to_owned();
            let Some(platform) = platform_text(entry) else { return Err(IndexError::NoPlatform { member }) };
            if let Some((_, other)) = seen.iter().find(|(known, _)| *known == platform && !is_unknown(entry)) {
                return Err(IndexError::Doubled { member, platform, other: other.clone() });
            }
            seen.push((platform, member));
        }
        Ok(())
    }

    /// Returns its bytes, and the descriptor that leads to them.
    pub fn finish(&self) -> (Descriptor, Vec<u8>) {
        let bytes = serde_json::to_vec(&self.document).expect("JSON values always serialise");
        let kind = self.document.get("mediaType").and_then(Value::as_str).unwrap_or(crate::oci::media_type::INDEX);
        (describe(kind, &Digest::of(&bytes), bytes.len() as u64), bytes)
    }
}

impl Default for List {
    fn default() -> Self {
        List::new()
    }
}

impl Details {
    fn apply(&self, entry: &mut Value) {
        let mut set = |key: &str, value: Value| {
            if !entry.get("platform").is_some_and(Value::is_object) {
                entry["platform"] = json!({});
            }
            entry["platform"][key] = value;
        };
        let texts = [
            ("architecture", &self.architecture),
            ("os", &self.os),
            ("variant", &self.variant),
            ("os.version", &self.os_version),
        ];
        for (key, value) in texts {
            if let Some(value) = value {
                set(key, value.as_str().into());
            }
        }
        if !self.os_features.is_empty() {
            set("os.features", self.os_features.clone().into());
        }
        annotate(entry, &self.annotations);
    }
}

fn annotate(document: &mut Value, annotations: &[(String, String)]) {
    if annotations.is_empty() {
        return;
    }
    if !document.get("annotations").is_some_and(Value::is_object) {
        document["annotations"] = json!({});
    }
    for (key, value) in annotations {
        document["annotations"][key] = value.as_str().into();
    }
    if let Some(map) = document.get_mut("annotations").and_then(Value::as_object_mut) {
        map.sort_keys();
    }
}

/// Returns the platform of an entry as one text; `None` where it does not say system and processor. Variants that go without saying
/// are left out.
fn platform_text(entry: &Value) -> Option<String> {
    let platform = entry.get("platform")?;
    let text = |key: &str| platform.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (os, architecture) = (text("os")?, text("architecture")?);
    let variant =
        text("variant").filter(|variant| !matches!((architecture, *variant), ("arm64", "v8") | ("amd64", "v1")));
    let mut said = format!("{os}/{architecture}");
    for more in [variant.map(|variant| format!("/{variant}")), text("os.version").map(|version| format!(":{version}"))]
    {
        said.extend(more);
    }
    Some(said)
}

/// Whether an entry is no image to run: an attestation says unknown/unknown, and there is one for each image.
fn is_unknown(entry: &Value) -> bool {
    entry.pointer("/platform/os").and_then(Value::as_str) == Some("unknown")
}

/// Returns an index of images for several platforms, with the descriptor that leads to it: `members` say their platforms, as
/// [`crate::store::Image::descriptor`] does.
///
/// # Errors
/// [`IndexError`] for members without a platform, and for two with the same.
pub fn join(members: &[Descriptor], annotations: &[(String, String)]) -> Result<(Descriptor, Vec<u8>), IndexError> {
    let mut list = List::new();
    for member in members {
        list.add(member, &Details::default())?;
    }
    list.annotate_index(annotations);
    list.check()?;
    Ok(list.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(number: u8, os: &str, architecture: &str, variant: Option<&str>) -> Descriptor {
        let mut entry =
            json!({"mediaType": crate::oci::media_type::MANIFEST, "digest": Digest::of(&[number]), "size": 1});
        if !os.is_empty() {
            entry["platform"] = json!({"os": os, "architecture": architecture});
        }
        variant.into_iter().for_each(|variant| entry["platform"]["variant"] = variant.into());
        serde_json::from_value(entry).unwrap()
    }

    #[test]
    fn an_index_has_one_image_for_each_platform() {
        let (amd, arm) = (member(1, "linux", "amd64", None), member(2, "linux", "arm64", Some("v8")));
        let annotations = [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())];
        let (top, bytes) = join(&[amd.clone(), arm.clone()], &annotations).unwrap();
        assert_eq!(top.digest().to_string(), Digest::of(&bytes).to_string());
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.ends_with(r#""annotations":{"a":"1","b":"2"}}"#), "{text}");
        // The same image twice is one; the same platform twice is none.
        assert!(join(&[amd.clone(), amd.clone()], &[]).is_ok());
        let doubled = join(&[arm.clone(), member(3, "linux", "arm64", None)], &[]).unwrap_err();
        assert!(doubled.to_string().contains("is for linux/arm64, and so is sha256:"), "{doubled}");
        assert!(matches!(join(&[member(4, "", "", None)], &[]), Err(IndexError::NoPlatform { .. })));
        assert_eq!(join(&[], &[]), Err(IndexError::Empty));
        assert!(join(&[member(1, "linux", "arm", Some("v6")), member(2, "linux", "arm", Some("v7"))], &[]).is_ok());
    }

    #[test]
    fn members_change_and_go() {
        let mut list = List::new();
        let (one, two) = (member(1, "linux", "amd64", None), member(2, "", "", None));
        list.add(&one, &Details::default()).unwrap();
        let arm = Details {
            os: Some("linux".into()),
            architecture: Some("arm".into()),
            variant: Some("v7".into()),
            annotations: vec![("k".into(), "v".into())],
            ..Details::default()
        };
        list.add(&two, &arm).unwrap();
        let (_, bytes) = list.finish();
        let mut again = List::parse(&bytes).unwrap();
        assert_eq!(again, list);
        let digest = Digest::of(&[2]).to_string();
        let to_amd = Details { architecture: Some("amd64".into()), variant: Some(String::new()), ..Details::default() };
        assert!(matches!(again.annotate(&digest, &to_amd), Err(IndexError::Doubled { .. })));
        let version = Details { os_version: Some("10.0".into()), ..Details::default() };
        again.annotate(&digest[7..30], &version).unwrap();
        assert_eq!(again.entries()[1]["platform"]["os.version"], "10.0");
        assert_eq!(again.entries()[1]["annotations"]["k"], "v");
        again.remove(&digest).unwrap();
        assert!(matches!(again.remove(&digest), Err(IndexError::NoMember { .. })));
        assert!(again.check().is_ok());
        assert_eq!(List::parse(b"{}"), Err(IndexError::NotAnIndex));
    }
}
