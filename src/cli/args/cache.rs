use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::cache_spec::{ActionsSpec, CacheSpec, S3Spec, SpecParser};
use super::output::{bool, csv};
use super::{Compression, OutputError};
use crate::build::Reach;
use crate::oci::Reference;
use crate::output::Location;

/// Flags of `coracle build` about results of earlier builds.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cache")]
pub struct CacheArgs {
    /// Run every step, also those whose result is known
    #[arg(long)]
    pub no_cache: bool,
    /// Run every step of these stages: a,b
    #[arg(long, value_name = "STAGES", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub no_cache_filter: Vec<String>,
    /// Take results from here: type=registry,ref=NAME, type=local,src=DIR, type=s3,bucket=NAME or type=gha; can be repeated
    #[arg(long, value_name = "SPEC", value_parser = SpecParser::<CacheFrom>::new())]
    pub cache_from: Vec<CacheFrom>,
    /// Write results to here: as --cache-from, with dest= and mode=min|max, or type=inline; can be repeated
    #[arg(long, value_name = "SPEC", value_parser = SpecParser::<CacheTo>::new())]
    pub cache_to: Vec<CacheTo>,
    /// Results may be this old: 90m, 24h, 7d
    #[arg(long, value_name = "TIME")]
    pub cache_ttl: Option<Age>,
}

/// The name that a cache has in a layout.
const IN_LAYOUT: &str = "cache";

/// What `--cache-from` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFrom(pub CacheSpec);

/// What `--cache-to` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTo {
    /// Where it goes; `None` for the image itself: `type=inline`.
    pub location: Option<CacheSpec>,
    /// Which steps.
    pub reach: Reach,
    /// How layers are packed that are not packed yet.
    pub compression: Option<Compression>,
    /// What a failure is.
    pub failure: CacheFailure,
}

/// What it means for a build that a cache cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheFailure {
    /// A warning.
    Warns,
    /// An error: `ignore-error=false`.
    Fails,
}

/// Seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age(pub i64);

/// A cache is named that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CacheSpecError {
    /// It is not written as it should be.
    #[error(transparent)]
    Form(#[from] OutputError),
    /// A type that is not there.
    #[error(
        "there is no cache of type {kind:?}: the types are registry (with ref=), local (with src= or dest=), s3 (with \
         bucket=), gha and inline"
    )]
    Type {
        /// The type.
        kind: String,
    },
    /// A type that others have.
    #[error("a cache of type {kind} is not supported: use registry, local, s3 or gha")]
    Unsupported {
        /// The type.
        kind: String,
    },
    /// A cache that is in an image is read by the name of the image.
    #[error("a cache in an image is read by the image's name: type=registry,ref=NAME")]
    FromInline,
    /// A key is missing.
    #[error("type={kind} needs {key}=")]
    Missing {
        /// The type.
        kind: String,
        /// The key.
        key: &'static str,
    },
    /// A key that is not there.
    #[error("type={kind} has no key {key:?}")]
    Key {
        /// The type.
        kind: String,
        /// The key.
        key: String,
    },
    /// A value that a key cannot have.
    #[error("{key}={value} makes no sense: {wanted}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What there is.
        wanted: String,
    },
    /// A key is missing, and the variables that are taken in its place are not set.
    #[error("type={kind} needs {key}=, or {variable}")]
    Unset {
        /// The type.
        kind: &'static str,
        /// The key.
        key: &'static str,
        /// The variables.
        variable: &'static str,
    },
    /// One half of a key.
    #[error("access_key_id= and secret_access_key= belong together")]
    HalfAKey,
    /// It is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// No age.
    #[error("an age is a number, and s, m, h, d or w behind it: 24h")]
    Age,
}

/// A spec, taken apart.
pub(super) struct Parts {
    kind: String,
    pairs: Vec<(String, String)>,
}

impl Parts {
    fn parse(text: &str) -> Result<Self, CacheSpecError> {
        // As with docker: a name alone is in a registry.
        if !text.contains('=') && !text.contains(',') {
            return Ok(Parts { kind: "registry".into(), pairs: vec![("ref".into(), text.to_owned())] });
        }
        let mut pairs = Vec::new();
        for field in csv(text)? {
            let Some((key, value)) = field.split_once('=') else { return Err(OutputError::NoValue(field).into()) };
            let key = key.trim().to_ascii_lowercase();
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(OutputError::Twice(key).into());
            }
            pairs.push((key, value.to_owned()));
        }
        let mut parts = Parts { kind: String::new(), pairs };
        parts.kind = parts.take("type").ok_or(CacheSpecError::Missing { kind: String::new(), key: "type" })?;
        Ok(parts)
    }

    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(known, _)| known == key)?;
        Some(self.pairs.remove(at).1)
    }

    /// Returns the place; `path` is the key of the folder.
    fn location(&mut self, path: &'static str) -> Result<CacheSpec, CacheSpecError> {
        let missing = |kind: &str, key| CacheSpecError::Missing { kind: kind.into(), key };
        match self.kind.as_str() {
            "registry" => {
                let name =
                    self.take("ref").filter(|name| !name.is_empty()).ok_or_else(|| missing("registry", "ref"))?;
                let reference: Reference = name.parse().map_err(|error: crate::oci::ReferenceError| {
                    CacheSpecError::Value { key: "ref".into(), value: name.clone(), wanted: error.to_string() }
                })?;
                Ok(CacheSpec::Image(Location::Registry(reference)))
            }
            "local" => {
                let dir = self.take(path).filter(|dir| !dir.is_empty()).ok_or_else(|| missing("local", path))?;
                let name = self.take("tag").unwrap_or_else(|| IN_LAYOUT.into());
                Ok(CacheSpec::Image(Location::OciDir { path: PathBuf::from(dir), reference: Some(name) }))
            }
            "s3" => Ok(CacheSpec::S3(Box::new(S3Spec::take(self)?))),
            "gha" => Ok(CacheSpec::Actions(ActionsSpec::take(self)?)),
            "inline" => Err(CacheSpecError::FromInline),
            kind @ "azblob" => Err(CacheSpecError::Unsupported { kind: kind.into() }),
            kind => Err(CacheSpecError::Type { kind: kind.into() }),
        }
    }

    /// Fails where something is left.
    fn end(self) -> Result<(), CacheSpecError> {
        match self.pairs.into_iter().next() {
            Some((key, _)) => Err(CacheSpecError::Key { kind: self.kind, key }),
            None => Ok(()),
        }
    }
}

impl FromStr for CacheFrom {
    type Err = CacheSpecError;

    fn from_str(text: &str) -> Result<Self, CacheSpecError> {
        let mut parts = Parts::parse(text)?;
        let location = parts.location("src")?;
        parts.end()?;
        Ok(CacheFrom(location))
    }
}

impl FromStr for CacheTo {
    type Err = CacheSpecError;

    fn from_str(text: &str) -> Result<Self, CacheSpecError> {
        let mut parts = Parts::parse(text)?;
        let inline = parts.kind == "inline";
        let location = if inline { None } else { Some(parts.location("dest")?) };
        let wrong = |key: &str, value: &str, wanted: String| CacheSpecError::Value {
            key: key.into(),
            value: value.into(),
            wanted,
        };
        let reach = match parts.take("mode").as_deref() {
            None | Some("min") => Reach::Min,
            Some("max") if inline => {
                return Err(wrong("mode", "max", "an image has its own layers only, which is min".into()));
            }
            Some("max") => Reach::Max,
            Some(other) => return Err(wrong("mode", other, "it is min or max".into())),
        };
        // The layers of an image are compressed as the image wants it: that is no key of an inline cache.
        let level = if inline { None } else { parts.take("compression-level") };
        let compression = match (if inline { None } else { parts.take("compression") }, level) {
            (None, None) => None,
            (kind, level) => {
                let kind = match kind.as_deref() {
                    Some("uncompressed") => "none".to_owned(),
                    Some(kind) => kind.to_owned(),
                    None => "gzip".to_owned(),
                };
                let text = level.map_or(kind.clone(), |level| format!("{kind}:{level}"));
                let parsed = text.parse::<Compression>();
                Some(parsed.map_err(|error| wrong("compression", &text, error.to_string()))?)
            }
        };
        let failure = match parts.take("ignore-error").map(bool).transpose()? {
            Some(false) => CacheFailure::Fails,
            _ => CacheFailure::Warns,
        };
        // What BuildKit lets choose is so here in any case.
        for key in ["oci-mediatypes", "image-manifest"] {
            if !inline
                && let Some(value) = parts.take(key)
                && !bool(value.clone())?
            {
                return Err(wrong(key, &value, "a cache of coracle is an OCI manifest".into()));
            }
        }
        parts.end()?;
        Ok(CacheTo { location, reach, compression, failure })
    }
}

impl FromStr for Age {
    type Err = CacheSpecError;

    fn from_str(text: &str) -> Result<Self, CacheSpecError> {
        let mut seconds = 0i64;
        let mut rest = text;
        // Go's form may have several parts: 1h30m.
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(CacheSpecError::Age)?;
            let number: i64 = rest[..digits].parse().map_err(|_| CacheSpecError::Age)?;
            let unit = rest[digits..].chars().next().ok_or(CacheSpecError::Age)?;
            let factor = match unit {
                's' => 1,
                'm' => 60,
                'h' => 3600,
                'd' => 86_400,
                'w' => 7 * 86_400,
                _ => return Err(CacheSpecError::Age),
            };
            seconds =
                number.checked_mul(factor).and_then(|part| seconds.checked_add(part)).ok_or(CacheSpecError::Age)?;
            rest = &rest[digits + unit.len_utf8()..];
        }
        if text.is_empty() { Err(CacheSpecError::Age) } else { Ok(Age(seconds)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_asked_for() {
        let layout = |path: &str, name: &str| {
            CacheSpec::Image(Location::OciDir { path: path.into(), reference: Some(name.into()) })
        };
        assert_eq!("type=local,src=/c".parse(), Ok(CacheFrom(layout("/c", "cache"))));
        assert_eq!("type=local,src=/c,tag=main".parse(), Ok(CacheFrom(layout("/c", "main"))));
        let registry = CacheSpec::Image(Location::Registry("localhost:5000/a/cache:x".parse().unwrap()));
        assert_eq!("localhost:5000/a/cache:x".parse(), Ok(CacheFrom(registry.clone())));
        assert_eq!("type=registry,ref=localhost:5000/a/cache:x".parse(), Ok(CacheFrom(registry.clone())));
        let to: CacheTo = "type=registry,mode=max,ref=localhost:5000/a/cache:x,ignore-error=false".parse().unwrap();
        assert_eq!((to.location, to.reach, to.failure), (Some(registry), Reach::Max, CacheFailure::Fails));
        let to: CacheTo = "type=local,dest=c,compression=zstd,compression-level=5".parse().unwrap();
        assert_eq!((to.reach, to.failure), (Reach::Min, CacheFailure::Warns));
        assert_eq!(to.compression, Some("zstd:5".parse().unwrap()));
        let to: CacheTo = "type=inline".parse().unwrap();
        assert_eq!((to.location, to.reach), (None, Reach::Min));
    }

    #[test]
    fn what_is_refused_and_how() {
        for (text, words) in [
            ("type=local", "type=local needs dest="),
            ("type=registry", "type=registry needs ref="),
            ("type=inline,mode=max", "mode=max makes no sense: an image has its own layers only, which is min"),
            ("type=inline,compression=zstd", "type=inline has no key \"compression\""),
            ("type=local,dest=a,mode=mid", "mode=mid makes no sense: it is min or max"),
            ("type=local,dest=a,speed=9", "type=local has no key \"speed\""),
            ("dest=a", "type= needs type="),
        ] {
            assert_eq!(text.parse::<CacheTo>().map_err(|e| e.to_string()), Err(words.into()), "{text}");
        }
    }

    #[test]
    fn ages() {
        for (text, seconds) in [("90m", 5400), ("24h", 86_400), ("7d", 604_800), ("1h30m", 5400), ("0s", 0)] {
            assert_eq!(text.parse(), Ok(Age(seconds)), "{text}");
        }
        for text in ["", "5", "h", "5y", "99999999999999999999s", "9999999999999999w"] {
            assert_eq!(text.parse::<Age>(), Err(CacheSpecError::Age), "{text}");
        }
    }
}
