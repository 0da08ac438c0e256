//! What is said about an image, besides what it is: `--provenance`, `--sbom` and `--attest`.

use std::str::FromStr;

use clap::Args;

use super::output::csv;

/// The generator of SBOMs where none is named, as with docker.
const GENERATOR: &str = "docker/buildkit-syft-scanner:stable-1";

/// Flags of `coracle build` about that.
#[derive(Debug, Clone, Default, Args)]
pub struct AttestArgs {
    /// Say how the image was made: true, false, or mode=min|max,…
    #[arg(long, value_name = "SPEC")]
    pub provenance: Option<ProvenanceFlag>,
    /// Say what is in the image: true, false, or generator=IMAGE
    #[arg(long, value_name = "SPEC")]
    pub sbom: Option<SbomFlag>,
    /// The same in one flag: type=provenance,… or type=sbom,…; can be repeated
    #[arg(long = "attest", value_name = "SPEC")]
    pub attest: Vec<AttestSpec>,
}

/// How much is said of how an image was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// No values of build arguments, no names of secrets.
    Min,
    /// All that is known, but for secrets.
    #[default]
    Max,
}

/// A version of SLSA's provenance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Slsa {
    /// 0.2.
    V02,
    /// 1.
    #[default]
    V1,
}

/// What is to be said of how an image was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// How much.
    pub mode: Mode,
    /// In which form.
    pub version: Slsa,
    /// Who builds: a URI.
    pub builder_id: String,
    /// The name of the file in outputs of files.
    pub filename: String,
    /// Whether the user says that the build gives the same bytes whenever it is done.
    pub reproducible: bool,
    /// Whether it is in images only, and no file of outputs of files.
    pub inline_only: bool,
}

impl Default for Provenance {
    fn default() -> Self {
        Provenance {
            mode: Mode::default(),
            version: Slsa::default(),
            builder_id: String::new(),
            filename: "provenance.json".into(),
            reproducible: false,
            inline_only: false,
        }
    }
}

/// What is to be said of what is in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sbom {
    /// The image of the program that finds it out.
    pub generator: String,
    /// Variables for it.
    pub env: Vec<String>,
}

/// What one `--attest` asks for; `None` where it is turned off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttestSpec {
    /// How the image was made.
    Provenance(Option<Provenance>),
    /// What is in it.
    Sbom(Option<Sbom>),
}

/// The value of `--provenance`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenanceFlag(pub Option<Provenance>);

/// The value of `--sbom`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SbomFlag(pub Option<Sbom>);

/// An attestation that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    /// The quotes do not fit.
    #[error(transparent)]
    Quotes(#[from] super::OutputError),
    /// A part without an equals sign.
    #[error("{0:?} is not KEY=VALUE")]
    NoValue(String),
    /// There is no `type=`.
    #[error("there is no type= in it: it is provenance or sbom")]
    NoType,
    /// A type that nobody knows.
    #[error("there is no attestation {0:?}: the types are provenance and sbom")]
    UnknownType(String),
    /// A key that is not there.
    #[error("type={kind} has no key {key:?} (its keys are {known})")]
    UnknownKey {
        /// The type.
        kind: &'static str,
        /// The key.
        key: String,
        /// The keys that there are.
        known: &'static str,
    },
    /// A key twice.
    #[error("{0:?} is given twice")]
    Twice(String),
    /// A value that makes no sense.
    #[error("{key}= is {known}, not {value:?}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What it may be.
        known: &'static str,
    },
}

const PROVENANCE_KEYS: &str = "mode, version, builder-id, filename, reproducible, inline-only, disabled";
const SBOM_KEYS: &str = "generator, disabled, and variables of the generator in capitals";

type Pairs = Vec<(String, String)>;

/// Takes `KEY=VALUE,…` apart.
fn pairs(text: &str) -> Result<Pairs, AttestError> {
    let mut found = Pairs::new();
    for field in csv(text)? {
        let (key, value) = field.split_once('=').ok_or_else(|| AttestError::NoValue(field.clone()))?;
        if found.iter().any(|(known, _)| known == key) {
            return Err(AttestError::Twice(key.into()));
        }
        found.push((key.trim().into(), value.into()));
    }
    Ok(found)
}

fn bool(key: &'static str, value: &str) -> Result<bool, AttestError> {
    word(value).ok_or_else(|| AttestError::Value { key, value: value.into(), known: "true or false" })
}

fn word(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" => Some(true),
        "false" | "0" | "f" => Some(false),
        _ => None,
    }
}

/// Returns whether the keys turn it off, and the others.
fn disabled(pairs: Pairs) -> Result<(bool, Pairs), AttestError> {
    let (off, rest): (Pairs, Pairs) = pairs.into_iter().partition(|(key, _)| key == "disabled");
    let off = off.first().map(|(_, value)| bool("disabled", value)).transpose()?;
    Ok((off == Some(true), rest))
}

fn provenance(pairs: Pairs) -> Result<Option<Provenance>, AttestError> {
    let (off, pairs) = disabled(pairs)?;
    let mut wanted = Provenance::default();
    for (key, value) in pairs {
        let bad = |key, known| AttestError::Value { key, value: value.clone(), known };
        match key.as_str() {
            "mode" => {
                wanted.mode = match value.as_str() {
                    "min" => Mode::Min,
                    "max" => Mode::Max,
                    _ => return Err(bad("mode", "min or max")),
                }
            }
            "version" => {
                wanted.version = match value.as_str() {
                    "v0.2" => Slsa::V02,
                    "v1" => Slsa::V1,
                    _ => return Err(bad("version", "v0.2 or v1")),
                }
            }
            "builder-id" => wanted.builder_id = value,
            "filename" => {
                // It becomes a file in a folder of the user.
                if value.is_empty() || value == "." || value == ".." || value.contains(['/', '\0']) {
                    return Err(bad("filename", "the name of a file, without a folder"));
                }
                wanted.filename = value;
            }
            "reproducible" => wanted.reproducible = bool("reproducible", &value)?,
            "inline-only" => wanted.inline_only = bool("inline-only", &value)?,
            _ => return Err(AttestError::UnknownKey { kind: "provenance", key, known: PROVENANCE_KEYS }),
        }
    }
    Ok((!off).then_some(wanted))
}

fn sbom(pairs: Pairs) -> Result<Option<Sbom>, AttestError> {
    let (off, pairs) = disabled(pairs)?;
    let mut wanted = Sbom { generator: GENERATOR.into(), env: Vec::new() };
    for (key, value) in pairs {
        let is_variable = key.starts_with(|first: char| first.is_ascii_uppercase())
            && key.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        match key.as_str() {
            "generator" if value.is_empty() => {
                return Err(AttestError::Value { key: "generator", value, known: "the name of an image" });
            }
            "generator" => wanted.generator = value,
            _ if is_variable => wanted.env.push(format!("BUILDKIT_SCAN_{key}={value}")),
            _ => return Err(AttestError::UnknownKey { kind: "sbom", key, known: SBOM_KEYS }),
        }
    }
    Ok((!off).then_some(wanted))
}

/// Returns the pairs of a flag which may be a word in their place.
fn flag_pairs(text: &str) -> Result<Pairs, AttestError> {
    match word(text) {
        Some(on) => Ok(vec![("disabled".into(), (!on).to_string())]),
        None => pairs(text),
    }
}

impl FromStr for ProvenanceFlag {
    type Err = AttestError;

    fn from_str(text: &str) -> Result<Self, AttestError> {
        provenance(flag_pairs(text)?).map(ProvenanceFlag)
    }
}

impl FromStr for SbomFlag {
    type Err = AttestError;

    fn from_str(text: &str) -> Result<Self, AttestError> {
        sbom(flag_pairs(text)?).map(SbomFlag)
    }
}

impl FromStr for AttestSpec {
    type Err = AttestError;

    fn from_str(text: &str) -> Result<Self, AttestError> {
        let (kind, rest): (Pairs, Pairs) = pairs(text)?.into_iter().partition(|(key, _)| key == "type");
        match kind.first().map(|(_, kind)| kind.as_str()) {
            None => Err(AttestError::NoType),
            Some("provenance") => provenance(rest).map(AttestSpec::Provenance),
            Some("sbom") => sbom(rest).map(AttestSpec::Sbom),
            Some(other) => Err(AttestError::UnknownType(other.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_asked_for() {
        let provenance = |text: &str| text.parse::<ProvenanceFlag>().map(|flag| flag.0);
        assert_eq!(provenance("true"), Ok(Some(Provenance::default())));
        assert_eq!(provenance("false"), Ok(None));
        assert_eq!(provenance("mode=max,disabled=true"), Ok(None));
        let wanted = Provenance {
            mode: Mode::Min,
            version: Slsa::V02,
            builder_id: "https://ci/1".into(),
            filename: "p.json".into(),
            reproducible: true,
            inline_only: true,
        };
        let text = "mode=min,version=v0.2,builder-id=https://ci/1,filename=p.json,reproducible=true,inline-only=1";
        assert_eq!(provenance(text), Ok(Some(wanted.clone())));
        assert_eq!(format!("type=provenance,{text}").parse(), Ok(AttestSpec::Provenance(Some(wanted))));
        let sbom = Sbom { generator: "scan:1".into(), env: vec!["BUILDKIT_SCAN_DEPTH=2".into()] };
        assert_eq!("generator=scan:1,DEPTH=2".parse(), Ok(SbomFlag(Some(sbom.clone()))));
        assert_eq!("type=sbom,generator=scan:1,DEPTH=2".parse(), Ok(AttestSpec::Sbom(Some(sbom))));
        assert_eq!("true".parse(), Ok(SbomFlag(Some(Sbom { generator: GENERATOR.into(), env: vec![] }))));
    }

    #[test]
    fn what_is_refused_and_how() {
        for (text, words) in [
            ("mode=min", "there is no type= in it: it is provenance or sbom"),
            ("type=vex", "there is no attestation \"vex\": the types are provenance and sbom"),
            ("type=provenance,mode=mid", "mode= is min or max, not \"mid\""),
            ("type=provenance,version=v2", "version= is v0.2 or v1, not \"v2\""),
            ("type=provenance,filename=../x", "filename= is the name of a file, without a folder, not \"../x\""),
            ("type=provenance,inline-only=maybe", "inline-only= is true or false, not \"maybe\""),
            ("type=provenance,mode=min,mode=max", "\"mode\" is given twice"),
            ("type=provenance,min", "\"min\" is not KEY=VALUE"),
            (
                "type=provenance,id=1",
                "type=provenance has no key \"id\" (its keys are mode, version, builder-id, filename, reproducible, \
                 inline-only, disabled)",
            ),
            (
                "type=sbom,generater=x",
                "type=sbom has no key \"generater\" (its keys are generator, disabled, and variables of the generator in \
                 capitals)",
            ),
            ("type=sbom,generator=", "generator= is the name of an image, not \"\""),
        ] {
            assert_eq!(text.parse::<AttestSpec>().map_err(|error| error.to_string()), Err(words.into()), "{text}");
        }
    }
}
