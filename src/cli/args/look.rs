//! What an image looks like outside: how layers are compressed, the form of manifests, annotations.

use std::str::FromStr;

use clap::Args;

use super::images::FormName;
use super::{Compression, OutputError};
use crate::oci::Platform;

/// Flags of `coracle build` about that.
#[derive(Debug, Clone, Default, Args)]
pub struct LookArgs {
    /// How to compress layers: gzip, zstd or none [default: gzip]
    #[arg(long, value_name = "KIND[:LEVEL]")]
    pub compression: Option<Compression>,
    /// The level, as kaniko has it
    #[arg(long, value_name = "N", hide = true, allow_negative_numbers = true)]
    pub compression_level: Option<i32>,
    /// Compress the layers of base images so too
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_name = "BOOL", hide_possible_values = true)]
    pub force_compression: bool,
    /// The form of manifests: oci or docker [default: oci]
    #[arg(long, value_name = "FORM", hide_possible_values = true)]
    pub format: Option<FormName>,
    /// Annotate the image: see below; can be repeated
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub annotations: Vec<AnnotationSpec>,
}

/// Flags of `coracle push` about that.
#[derive(Debug, Clone, Default, Args)]
pub struct PushLookArgs {
    /// The form of the manifest: oci, docker or v2s2 [default: as it is]
    #[arg(short, long, value_name = "FORM", hide_possible_values = true)]
    pub format: Option<FormName>,
    /// Compress layers that are not so: gzip, zstd or none [default: as they are]
    #[arg(long, value_name = "KIND[:LEVEL]")]
    pub compression_format: Option<Compression>,
    /// The level
    #[arg(long, value_name = "N", requires = "compression_format")]
    pub compression_level: Option<u8>,
    /// Compress all layers anew
    #[arg(long, requires = "compression_format")]
    pub force_compression: bool,
}

impl PushLookArgs {
    /// Returns what is asked for.
    ///
    /// # Errors
    /// [`OutputError`] where a level does not fit.
    pub fn look(&self) -> Result<Look, OutputError> {
        let compression = match (self.compression_format, self.compression_level) {
            (Some(kind), Some(level)) => Some(parsed_compression(kind_of(kind), Some(&level.to_string()))?),
            (kind, _) => kind,
        };
        let forced = self.force_compression.then_some(true);
        Ok(Look { compression, forced, form: self.format, ..Look::default() })
    }
}

/// Where an annotation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Into the manifest.
    Manifest,
    /// Into the index.
    Index,
    /// To what leads to the manifest.
    ManifestDescriptor,
    /// To what leads to the index.
    IndexDescriptor,
}

impl FromStr for Level {
    type Err = LookError;

    fn from_str(text: &str) -> Result<Self, LookError> {
        Ok(match text {
            "manifest" => Level::Manifest,
            "index" => Level::Index,
            "manifest-descriptor" => Level::ManifestDescriptor,
            "index-descriptor" => Level::IndexDescriptor,
            other => return Err(LookError::Level(other.into())),
        })
    }
}

/// An annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Where it goes.
    pub level: Level,
    /// The image for this platform alone gets it; `None` for all.
    pub platform: Option<Platform>,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// What one `--annotation` says: a key may go to several places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnotationSpec(pub Vec<Annotation>);

/// An annotation, or a compression, that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookError {
    /// No equals sign, or nothing before it.
    #[error("{0:?} is not [LEVEL:]KEY=VALUE")]
    NoValue(String),
    /// A level that nobody knows.
    #[error("there is no level {0:?}: it is manifest, index, manifest-descriptor or index-descriptor")]
    Level(String),
    /// A platform that is none.
    #[error(transparent)]
    Platform(#[from] crate::oci::PlatformError),
    /// An index is one of several images.
    #[error("an index is made for several platforms only: {0:?} has nowhere to go")]
    NoIndexPlatform(String),
}

/// Takes `manifest[linux/amd64]` apart.
fn place(text: &str) -> Result<(Level, Option<Platform>), LookError> {
    let (level, platform) = match text.split_once('[') {
        Some((level, rest)) => {
            let platform = rest.strip_suffix(']').ok_or_else(|| LookError::Level(text.into()))?;
            (level, Some(platform.parse::<Platform>()?.normalised()))
        }
        None => (text, None),
    };
    let level: Level = level.parse()?;
    match (level, platform) {
        (Level::Index | Level::IndexDescriptor, Some(_)) => Err(LookError::NoIndexPlatform(text.into())),
        place => Ok(place),
    }
}

impl FromStr for AnnotationSpec {
    type Err = LookError;

    fn from_str(text: &str) -> Result<Self, LookError> {
        let bad = || LookError::NoValue(text.chars().take(200).collect());
        let (name, value) = text.split_once('=').ok_or_else(bad)?;
        let (places, key) = match name.split_once(':') {
            Some((places, key)) => (places.split(',').map(place).collect::<Result<Vec<_>, _>>()?, key),
            None => (vec![(Level::Manifest, None)], name),
        };
        if key.is_empty() || text.contains('\0') {
            return Err(bad());
        }
        let annotation = |(level, platform)| Annotation { level, platform, key: key.into(), value: value.into() };
        Ok(AnnotationSpec(places.into_iter().map(annotation).collect()))
    }
}

/// What an image looks like; of what is not said that of the build counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// How layers are compressed.
    pub compression: Option<Compression>,
    /// Whether those of base images are too.
    pub forced: Option<bool>,
    /// The form of manifests.
    pub form: Option<FormName>,
    /// Whether SOURCE_DATE_EPOCH is for files too: what an output says is for all.
    pub rewrite: Option<bool>,
    /// Annotations; of one key the last counts.
    pub annotations: Vec<Annotation>,
}

impl Look {
    /// Returns this look, with what `other` says in its place.
    pub fn with(&self, other: &Look) -> Self {
        Look {
            compression: other.compression.or(self.compression),
            forced: other.forced.or(self.forced),
            form: other.form.or(self.form),
            rewrite: other.rewrite.or(self.rewrite),
            annotations: self.annotations.iter().chain(&other.annotations).cloned().collect(),
        }
    }

    /// Returns the first key in which both say something else than the other.
    pub fn contradiction(&self, other: &Look) -> Option<&'static str> {
        let differs = |a: bool, name| a.then_some(name);
        let both = |a: Option<u64>, b: Option<u64>| a.is_some() && b.is_some() && a != b;
        let compression = |look: &Look| {
            look.compression.map(|compression| match compression {
                Compression::None => 0,
                Compression::Gzip(level) => 100 + u64::from(level),
                Compression::Zstd(level) => 200 + u64::from(level),
            })
        };
        differs(both(compression(self), compression(other)), "compression")
            .or(differs(both(self.forced.map(u64::from), other.forced.map(u64::from)), "force-compression"))
            .or(differs(both(self.form.map(|f| f as u64), other.form.map(|f| f as u64)), "oci-mediatypes"))
    }

    /// Takes the keys of an output that are about its look out of `pairs`. `false` for one that stays.
    pub(super) fn take(pairs: &mut Vec<(String, String)>) -> Result<Self, OutputError> {
        let mut look = Look::default();
        let mut level = None;
        let mut rest = Vec::new();
        for (key, value) in pairs.drain(..) {
            match key.as_str() {
                "compression" => look.compression = Some(parsed_compression(&value, None)?),
                "compression-level" => level = Some(value),
                "force-compression" => look.forced = Some(super::output::bool(value)?),
                "rewrite-timestamp" => look.rewrite = Some(super::output::bool(value)?),
                "oci-mediatypes" => {
                    look.form = Some(if super::output::bool(value)? { FormName::Oci } else { FormName::Docker });
                }
                _ => match key.strip_prefix("annotation").and_then(|rest| annotation_key(rest, &value)) {
                    Some(annotation) => look.annotations.push(annotation?),
                    None => rest.push((key, value)),
                },
            }
        }
        if let Some(level) = level {
            let kind = look.compression.unwrap_or_default();
            look.compression = Some(parsed_compression(kind_of(kind), Some(&level))?);
        }
        *pairs = rest;
        Ok(look)
    }
}

/// Returns the annotation of `annotation[-LEVEL][PLATFORM].KEY`, without its first word.
fn annotation_key(rest: &str, value: &str) -> Option<Result<Annotation, OutputError>> {
    let (place_text, key) = match (rest.find('.'), rest.find(']')) {
        // A platform may have dots in it.
        (_, Some(end)) => (rest.get(..=end)?, rest.get(end + 1..)?.strip_prefix('.')?),
        (Some(dot), None) => (&rest[..dot], &rest[dot + 1..]),
        (None, None) => return None,
    };
    let text = match place_text.strip_prefix('-') {
        Some(level) => level.to_owned(),
        None if place_text.is_empty() || place_text.starts_with('[') => format!("manifest{place_text}"),
        None => return None,
    };
    if key.is_empty() {
        return None;
    }
    let annotation = |(level, platform)| Annotation { level, platform, key: key.into(), value: value.into() };
    Some(place(&text).map(annotation).map_err(OutputError::Look))
}

/// Returns the name of a compression, without its level.
pub(super) fn kind_of(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Gzip(_) => "gzip",
        Compression::Zstd(_) => "zstd",
    }
}

/// Returns the compression of this kind and level.
pub(super) fn parsed_compression(kind: &str, level: Option<&str>) -> Result<Compression, OutputError> {
    let text = level.map_or_else(|| kind.to_owned(), |level| format!("{kind}:{level}"));
    Ok(text.parse::<Compression>()?)
}

impl LookArgs {
    /// Returns what is asked for.
    ///
    /// # Errors
    /// [`OutputError`] where a level does not fit.
    pub fn look(&self) -> Result<Look, OutputError> {
        let compression = match self.compression_level {
            None => self.compression,
            // kaniko's: -1 is that of the library.
            Some(-1) => self.compression,
            Some(level) => {
                let kind = kind_of(self.compression.unwrap_or_default());
                Some(parsed_compression(kind, Some(&level.to_string()))?)
            }
        };
        Ok(Look {
            compression,
            forced: self.force_compression.then_some(true),
            form: self.format,
            rewrite: None,
            annotations: self.annotations.iter().flat_map(|spec| spec.0.clone()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotation(level: Level, platform: Option<&str>, key: &str, value: &str) -> Annotation {
        let platform = platform.map(|platform| platform.parse().unwrap());
        Annotation { level, platform, key: key.into(), value: value.into() }
    }

    #[test]
    fn annotations_go_where_they_say() {
        let parsed = |text: &str| text.parse::<AnnotationSpec>().map(|spec| spec.0);
        assert_eq!(parsed("a=b=c"), Ok(vec![annotation(Level::Manifest, None, "a", "b=c")]));
        assert_eq!(parsed("index:a=b"), Ok(vec![annotation(Level::Index, None, "a", "b")]));
        let both = vec![
            annotation(Level::Index, None, "a.b", ""),
            annotation(Level::ManifestDescriptor, Some("linux/arm64"), "a.b", ""),
        ];
        assert_eq!(parsed("index,manifest-descriptor[linux/arm64]:a.b="), Ok(both));
        for (text, words) in [
            ("a", "\"a\" is not [LEVEL:]KEY=VALUE"),
            ("=b", "\"=b\" is not [LEVEL:]KEY=VALUE"),
            (
                "layer:a=b",
                "there is no level \"layer\": it is manifest, index, manifest-descriptor or index-descriptor",
            ),
            (
                "index[linux/amd64]:a=b",
                "an index is made for several platforms only: \"index[linux/amd64]\" has nowhere to go",
            ),
        ] {
            assert_eq!(parsed(text).map_err(|error| error.to_string()), Err(words.into()), "{text}");
        }
    }

    #[test]
    fn outputs_have_looks_of_their_own() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut pairs = vec![
            pair("compression", "zstd"),
            pair("compression-level", "9"),
            pair("oci-mediatypes", "true"),
            pair("annotation.a.b", "c"),
            pair("annotation-manifest-descriptor[linux/amd64].d", "e"),
            pair("annotationx", "f"),
        ];
        let look = Look::take(&mut pairs).unwrap();
        assert_eq!(pairs, [pair("annotationx", "f")]);
        assert_eq!((look.compression, look.form), (Some(Compression::Zstd(9)), Some(FormName::Oci)));
        let wanted = [
            annotation(Level::Manifest, None, "a.b", "c"),
            annotation(Level::ManifestDescriptor, Some("linux/amd64"), "d", "e"),
        ];
        assert_eq!(look.annotations, wanted);
        let other = Look { compression: Some(Compression::ZSTD), ..Look::default() };
        assert_eq!(look.contradiction(&other), Some("compression"));
        assert_eq!(look.contradiction(&Look::default()), None);
    }
}
