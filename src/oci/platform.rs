use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an image runs on: `linux/amd64`, `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Go's name of the processor: amd64, arm64, arm, …
    pub architecture: String,
    /// Go's name of the operating system.
    pub os: String,
    /// The variant of the processor: v7, v8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}
/// A platform is not `os/architecture[/variant]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform (os/architecture[/variant], as linux/amd64)")]
pub struct PlatformError(pub String);

impl Platform {
    /// Returns the platform of this machine.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Platform { architecture: architecture.into(), os: "linux".into(), variant: None }
    }
}

impl Default for Platform {
    fn default() -> Self {
        Platform::host()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let bad = || PlatformError(text.into());
        let mut parts = text.split('/');
        let (os, architecture, variant) = (parts.next(), parts.next(), parts.next());
        let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        match (os, architecture, variant, parts.next()) {
            (Some(os), Some(arch), variant, None) if word(os) && word(arch) && variant.is_none_or(word) => {
                Ok(Platform {
                    architecture: arch.to_ascii_lowercase(),
                    os: os.to_ascii_lowercase(),
                    variant: variant.map(str::to_ascii_lowercase),
                })
            }
            _ => Err(bad()),
        }
    }
}
