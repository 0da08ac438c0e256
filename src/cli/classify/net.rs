//! Networks, registries, and the files about them.

use super::{Classify, ExitStatus};
use crate::config::ConfigError;
use crate::net::NetError;
use crate::output::cache::DepotError;
use crate::registry::RegistryError;

impl Classify for NetError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            NetError::Cancelled => ExitStatus::Interrupted,
            NetError::BadUrl { .. } | NetError::BadProxy { .. } | NetError::Certificate { .. } => ExitStatus::Usage,
            NetError::Source { .. } => ExitStatus::Store,
            _ => ExitStatus::Network,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            error if error.is_not_tls() => {
                "it speaks no TLS: --tls-verify=false, or `insecure = true` in registries.conf, allows that".into()
            }
            NetError::Tls { host, .. } => format!(
                "put the root that vouches for it into certs.d/{host}/ca.crt, name it with --cert-dir or SSL_CERT_FILE, \
                 or give --tls-verify=false"
            ),
            NetError::PlainRefused { .. } => {
                "--tls-verify=false, or `insecure = true` in registries.conf, allows that".into()
            }
            NetError::Connect { .. } | NetError::NoSuchHost { .. } => {
                "HTTPS_PROXY names a proxy, where one is needed".into()
            }
            NetError::BadProxy { .. } => "look at HTTP_PROXY, HTTPS_PROXY and ALL_PROXY".into(),
            NetError::Status { status: 429, .. } => {
                "it is asked too often: after `coracle login` most allow more, and --retry waits longer".into()
            }
            _ => return None,
        })
    }
}

impl Classify for ConfigError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            ConfigError::Blocked { .. } | ConfigError::Rejected { .. } | ConfigError::Signature { .. } => {
                ExitStatus::Input
            }
            ConfigError::Helper { .. } => ExitStatus::Network,
            ConfigError::Io { .. } => ExitStatus::Store,
            _ => ExitStatus::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ConfigError::Ambiguous { .. } => "write the name in full".into(),
            ConfigError::NoAuthFile => "name a file with --authfile".into(),
            ConfigError::Signature { .. } => {
                "an entry of type insecureAcceptAnything for it would let it in unchecked".into()
            }
            _ => return None,
        })
    }
}

impl Classify for RegistryError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            RegistryError::Net(error) => error.exit_status(),
            RegistryError::Config(error) => error.exit_status(),
            RegistryError::Image(_)
            | RegistryError::Schema1 { .. }
            | RegistryError::Digest { .. }
            | RegistryError::Length { .. } => ExitStatus::Input,
            RegistryError::Destination(_) | RegistryError::Origin(_) => ExitStatus::Store,
            RegistryError::Places { source, .. } => source.exit_status(),
            _ => ExitStatus::Network,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            RegistryError::Net(error) => Classify::hint(error),
            RegistryError::Config(error) => Classify::hint(error),
            RegistryError::Places { source, .. } => source.hint(),
            RegistryError::Unauthorized { registry, .. } => Some(format!(
                "`coracle login {}` keeps credentials for it, and so does `docker login`",
                login_name(registry)
            )),
            RegistryError::Denied { registry, .. } => Some(format!(
                "the account has no right to it there, or the repository does not exist: `coracle login {}` with another one, \
                 or look at the name",
                login_name(registry)
            )),
            RegistryError::NotFound { .. } => {
                Some("is the name right? Some registries say this to those who must log in".into())
            }
            _ => None,
        }
    }
}

/// Returns what `login` calls the registry of a repository.
fn login_name(registry: &str) -> &str {
    match registry.split('/').next().unwrap_or(registry) {
        "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

impl Classify for DepotError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            DepotError::Net(error) => error.exit_status(),
            DepotError::Store(error) => error.exit_status(),
            DepotError::NoCredentials { .. } | DepotError::BadCredentials { .. } | DepotError::BadUrl { .. } => {
                ExitStatus::Usage
            }
            _ => ExitStatus::Network,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            DepotError::Net(error) => Classify::hint(error),
            DepotError::Store(error) => Classify::hint(error),
            // What to do is part of the message, which is a warning as a rule.
            _ => None,
        }
    }
}

/// A login cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginProblem {
    /// Nobody can be asked.
    #[error("standard input is no terminal, so nobody can be asked for the password")]
    NoTerminal,
    /// There is no name, or no password.
    #[error("the name or the password is empty")]
    Empty,
    /// There are no credentials.
    #[error("not logged in to {registry}")]
    NotLoggedIn {
        /// The registry.
        registry: String,
    },
}

/// Credentials were given, and it is not said for which registry.
#[derive(Debug, thiserror::Error)]
#[error("--creds is for the registries that the command line names, and it names none; {}", told(registries))]
pub struct CredentialsForWhom {
    /// Those of the images that the Dockerfile builds on.
    pub registries: Vec<String>,
}

fn told(registries: &[String]) -> String {
    match registries {
        [] => "nor does a FROM".into(),
        registries => format!("the Dockerfile builds on images of {}", registries.join(", ")),
    }
}

impl Classify for CredentialsForWhom {
    fn exit_status(&self) -> ExitStatus {
        ExitStatus::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("`coracle login REGISTRY` keeps them for one registry, and --authfile names a file that says for which they are".into())
    }
}

impl Classify for LoginProblem {
    fn exit_status(&self) -> ExitStatus {
        match self {
            LoginProblem::NotLoggedIn { .. } => ExitStatus::Failed,
            _ => ExitStatus::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            LoginProblem::NoTerminal => Some("give --username NAME --password-stdin".into()),
            _ => None,
        }
    }
}
