use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::build::PullPolicy;
use crate::oci::Platform;
use crate::output::{Location, LocationError};

/// Flags of all verbs that talk to registries.
#[derive(Debug, Args, Default)]
#[command(next_help_heading = "Registries")]
pub struct RegistryArgs {
    /// Take credentials from FILE, and from nowhere else
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// Show these credentials to the registries named here
    #[arg(long, value_name = "USER:PASSWORD", hide_env_values = true)]
    pub creds: Option<Hidden>,
    /// Trust the certificates in DIR: *.crt; *.cert and *.key are ours
    #[arg(long, value_name = "DIR")]
    pub cert_dir: Option<PathBuf>,
    /// Demand TLS and check certificates, or do not: true or false
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub tls_verify: Option<bool>,
    /// Try again N times [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=100))]
    pub retry: Option<u32>,
    /// Wait so long before the first of them: 2s, 500ms, 1m [default: 1s]
    #[arg(long, value_name = "TIME")]
    pub retry_delay: Option<Time>,
    /// What other flags say of single registries.
    #[arg(skip)]
    pub given: crate::config::GivenRegistries,
}

/// Text that is not shown.
#[derive(Clone)]
pub struct Hidden(pub String);

impl FromStr for Hidden {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((user, _)) if !user.is_empty() => Ok(Hidden(text.into())),
            // The text is part of the message of clap, so it must not be repeated.
            _ => Err("credentials are USER:PASSWORD".into()),
        }
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden")
    }
}

/// A length of time: a number, and ms, s, m or h; seconds without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
        let factor = match &text[end..] {
            "ms" => 0.001,
            "" | "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => f64::NAN,
        };
        let seconds = text[..end].parse::<f64>().unwrap_or(f64::NAN) * factor;
        match Duration::try_from_secs_f64(seconds) {
            Ok(time) if time <= Duration::from_secs(24 * 3600) => Ok(Time(time)),
            _ => Err("a time is a number with ms, s, m or h behind it, a day at the most".into()),
        }
    }
}

/// Where an image is pulled from, with the name as it was written: a short one may mean several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it is.
    pub location: Location,
    /// As it was written, without `docker://`.
    pub written: String,
}

impl FromStr for Source {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let written = text.strip_prefix("docker://").unwrap_or(text).to_owned();
        Ok(Source { location: text.parse()?, written })
    }
}

/// Flags of `coracle pull`.
#[derive(Debug, Args)]
#[command(after_help = "\
Sources:
  NAME, docker://NAME        an image in a registry
  oci:DIR[:REF]              an image layout
  oci-archive:FILE[:REF]     an image layout in a tar file
  docker-archive:FILE[:REF]  what `docker save` writes
  dir:DIR                    what `skopeo copy` writes

registries.conf, certs.d and policy.json count as they do for podman and buildah.")]
pub struct PullArgs {
    /// Where the image is: see below
    pub source: Source,
    /// The name that it gets [default: the one that the source gives it]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: Option<String>,
    /// Ask the registry: always, missing, newer or never
    #[arg(long, value_name = "POLICY", default_value = "always", hide_possible_values = true)]
    pub policy: PullPolicy,
    /// The platform of the image: OS/ARCHITECTURE[/VARIANT]
    #[arg(long, value_name = "PLATFORM", conflicts_with_all = ["arch", "os", "variant"])]
    pub platform: Option<Platform>,
    /// The parts of it.
    #[command(flatten)]
    pub parts: super::PartArgs,
    /// Pull the images for all platforms, and their index
    #[arg(long, conflicts_with_all = ["platform", "arch", "os", "variant"])]
    pub all: bool,
    /// Pull what all tags of the repository lead to
    #[arg(short, long, conflicts_with = "name")]
    pub all_tags: bool,
    /// Print the digest only
    #[arg(short, long)]
    pub quiet: bool,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Flags of `coracle push`.
#[derive(Debug, Args)]
#[command(after_help = "\
Destinations:
  NAME, docker://NAME        a registry
  oci:DIR[:REF]              an image layout: made, or added to
  oci-archive:FILE[:REF]     an image layout in a tar file
  docker-archive:FILE[:REF]  what `docker load` reads
  dir:DIR                    what `skopeo copy` reads")]
pub struct PushArgs {
    /// The image in the store
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    /// Where it goes: see below [default: the registry that its name says]
    pub destination: Option<Location>,
    /// Push the images for all platforms, and their index
    #[arg(long, conflicts_with = "platform")]
    pub all: bool,
    /// Push all names that the store has in this repository
    #[arg(short, long, conflicts_with_all = ["destination", "digestfile"])]
    pub all_tags: bool,
    /// Push the image for this platform [default: that of this machine]
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<Platform>,
    /// Write the digest of the manifest to FILE
    #[arg(long, alias = "digest-file", value_name = "FILE")]
    pub digestfile: Option<PathBuf>,
    /// Print the digest only
    #[arg(short, long)]
    pub quiet: bool,
    /// What the image looks like there.
    #[command(flatten)]
    pub look: super::PushLookArgs,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Flags of `coracle login`.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// The registry, or a part of it.
    // Not from the line above: for rustdoc the brackets would be a link.
    #[arg(
        default_value = "docker.io",
        value_parser = NonEmptyStringValueParser::new(),
        help = "The registry, or a part of it: HOST[:PORT][/PATH]"
    )]
    pub registry: String,
    /// The name of the account
    #[arg(short, long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub username: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub password_stdin: bool,
    /// Print the name that is logged in, and do nothing else
    #[arg(long, conflicts_with_all = ["username", "password_stdin"])]
    pub get_login: bool,
    /// Keep the credentials in FILE
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// Keep them in FILE as docker does in its config.json
    #[arg(long, value_name = "FILE", conflicts_with = "authfile")]
    pub compat_auth_file: Option<PathBuf>,
    /// Trust the certificates in DIR: *.crt; *.cert and *.key are ours
    #[arg(long, value_name = "DIR")]
    pub cert_dir: Option<PathBuf>,
    /// Demand TLS and check certificates, or do not: true or false
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub tls_verify: Option<bool>,
}

/// Flags of `coracle logout`.
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// The registry, as it was given to `login`
    #[arg(default_value = "docker.io", value_parser = NonEmptyStringValueParser::new())]
    pub registry: String,
    /// Forget all of them
    #[arg(short, long)]
    pub all: bool,
    /// Where the credentials are kept
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// The same, for a config.json of docker
    #[arg(long, value_name = "FILE", conflicts_with = "authfile")]
    pub compat_auth_file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_credentials() {
        let time = |text: &str| text.parse::<Time>().map(|time| time.0.as_millis());
        for (text, millis) in [("2s", 2000), ("500ms", 500), ("1m", 60_000), ("0.5", 500), ("1h", 3_600_000), ("0", 0)]
        {
            assert_eq!(time(text), Ok(millis), "{text}");
        }
        for text in ["", "s", "-1s", "1d", "1e9h", "25h", "1.2.3s"] {
            assert!(time(text).is_err(), "{text}");
        }
        assert!("ann:geheim".parse::<Hidden>().is_ok_and(|creds| !format!("{creds:?}").contains("geheim")));
        assert!("geheim".parse::<Hidden>().is_err_and(|error| !error.contains("geheim")));
    }
}
