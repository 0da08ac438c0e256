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

/// A platform is not `os/architecture[/variant]`, or one of the first two alone.
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

    /// Returns this platform under the names that images use: `amd64` for `x86_64`, and the variant only where it says something.
    pub fn normalised(&self) -> Self {
        let variant = self.variant.as_deref().unwrap_or_default();
        let (architecture, variant) = match (self.architecture.as_str(), variant) {
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
            ("aarch64", variant) => ("arm64", variant),
            ("i386", _) => ("386", ""),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            other => other,
        };
        let variant = (!variant.is_empty()).then(|| variant.to_owned());
        Platform { architecture: architecture.into(), os: self.os.clone(), variant }
    }

    /// Returns how well an image for `image` runs on this platform: 0 is best, `None` is not at all. A variant that
    /// goes without saying (arm64/v8, amd64/v1, arm/v7) is the same as none; of the variants of one architecture older ones run as
    /// well, the newest best.
    pub fn rank(&self, image: &Platform) -> Option<u8> {
        let (own, other) = (self.plain(), image.plain());
        if own.0 != other.0 || own.1 != other.1 {
            return None;
        }
        if own.2 == other.2 {
            return Some(0);
        }
        let version = |variant: &str| match (own.1, variant) {
            ("amd64", "") => Some(1),
            ("arm64", "") => Some(8),
            ("amd64" | "arm64" | "arm", variant) => variant.strip_prefix('v')?.parse::<u8>().ok(),
            _ => None,
        };
        version(own.2)?.checked_sub(version(other.2)?)
    }

    /// Returns os, architecture and variant under the names that images use.
    fn plain(&self) -> (&str, &str, &str) {
        let architecture = match self.architecture.as_str() {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let variant = match (architecture, self.variant.as_deref().unwrap_or_default()) {
            ("arm64", "v8" | "8") | ("amd64", "v1") => "",
            ("arm", "") => "v7",
            (_, variant) => variant,
        };
        (&self.os, architecture, variant)
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

/// The operating systems that stand alone for a platform of them.
const SYSTEMS: [&str; 10] =
    ["linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "dragonfly", "solaris", "illumos", "wasip1"];

/// The architectures that stand alone for a platform of Linux.
const ARCHITECTURES: [&str; 23] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64",
    "s390x", "wasm", "x86_64", "x86-64", "aarch64", "armhf", "armel", "i386", "ppc", "riscv", "sparc64",
];

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os/architecture[/variant]`. One word alone is an operating system or an architecture, and `local` is this machine.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let bad = || PlatformError(text.into());
        if !text.contains('/') {
            let word = text.to_ascii_lowercase();
            return match word.as_str() {
                "local" => Ok(Platform::host()),
                word if SYSTEMS.contains(&word) => Ok(Platform { os: word.into(), ..Platform::host() }),
                word if ARCHITECTURES.contains(&word) => format!("linux/{word}").parse(),
                _ => Err(bad()),
            };
        }
        let mut parts = text.split('/');
        let (os, architecture, variant) = (parts.next(), parts.next(), parts.next());
        let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        match (os, architecture, variant, parts.next()) {
            (Some(os), Some(arch), variant, None) if word(os) && word(arch) && variant.is_none_or(word) => {
                let written = Platform {
                    architecture: arch.to_ascii_lowercase(),
                    os: os.to_ascii_lowercase(),
                    variant: variant.map(str::to_ascii_lowercase),
                };
                // The variant stays as it is written, where it is; but other names of an architecture have one in them.
                let normalised = written.normalised();
                Ok(match written.variant.is_some() || matches!(arch, "arm" | "ARM") {
                    true => Platform { architecture: normalised.architecture, ..written },
                    false => normalised,
                })
            }
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_has_other_names_too() {
        for (text, expected) in [
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AArch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64/v8"),
            ("linux/arm", "linux/arm"),
            ("linux/armhf", "linux/arm/v7"),
            ("arm64", "linux/arm64"),
            ("x86_64", "linux/amd64"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected);
        }
        assert_eq!("linux".parse::<Platform>(), Ok(Platform::host()));
        assert_eq!("local".parse::<Platform>(), Ok(Platform::host()));
        for bad in ["", "x", "linux/", "/amd64", "linux/amd64/v1/x", "linux/am d64", "$x"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
        for (text, expected) in
            [("linux/arm64/v8", "linux/arm64"), ("linux/arm", "linux/arm/v7"), ("linux/amd64/v2", "linux/amd64/v2")]
        {
            assert_eq!(text.parse::<Platform>().unwrap().normalised().to_string(), expected);
        }
    }

    #[test]
    fn variants_that_go_without_saying_are_equal_and_older_ones_run_on_newer() {
        for (host, image, rank) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/amd64/v1", Some(0)),
            ("linux/amd64", "linux/amd64/v3", None),
            ("linux/amd64/v3", "linux/amd64", Some(2)),
            ("linux/amd64/v3", "linux/amd64/v2", Some(1)),
            ("linux/amd64/v2", "linux/amd64/v3", None),
            ("linux/arm64/v9", "linux/arm64", Some(1)),
            ("linux/arm64", "linux/arm64/v9", None),
            ("linux/ppc64le/power9", "linux/ppc64le", None),
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/arm64", "linux/arm/v7", None),
            ("linux/arm", "linux/arm/v7", Some(0)),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/amd64", "windows/amd64", None),
        ] {
            let parse = |text: &str| text.parse::<Platform>().unwrap();
            assert_eq!(parse(host).rank(&parse(image)), rank, "{image} on {host}");
        }
    }
}
