//! The user's files about registries: who they are to them ([`Auth`]), where images really lie ([`Registries`]), which
//! certificates count ([`security`]) and what may be used at all ([`Policy`]).
//!
//! All formats are those of others: docker's config.json, and auth.json, registries.conf (version 2), certs.d and policy.json of
//! buildah, podman and skopeo. This room reads no environment: [`Places`] says where the files are. It asks no registry, and runs
//! nothing but credential helpers. What is secret is in a [`Secret`], which shows itself to nobody.

mod auth;
mod certs;
mod error;
mod given;
mod helper;
mod login;
mod policy;
mod registries;
mod secret;

pub use auth::Auth;
pub use certs::security;
pub use error::ConfigError;
pub use given::{Fallback, GivenRegistries};
pub use login::{log_in, log_out, logged_in};
pub use policy::Policy;
pub use registries::{Endpoint, Reach, Registries};
pub use secret::{Credentials, GivenCredentials, Secret};

use std::path::PathBuf;

/// Where the files are. Those that do not exist say nothing; those that are named by the user must exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The file with credentials that the user named (--authfile, REGISTRY_AUTH_FILE): no other counts then.
    pub auth_file: Option<PathBuf>,
    /// Where `login` of podman and buildah writes to: XDG_RUNTIME_DIR, if there is one.
    pub runtime_dir: Option<PathBuf>,
    /// The folder of docker's files: DOCKER_CONFIG, else .docker at home.
    pub docker_dir: Option<PathBuf>,
    /// The folder of the user's settings: XDG_CONFIG_HOME, else .config at home.
    pub config_dir: Option<PathBuf>,
    /// The file about registries that the user named (CONTAINERS_REGISTRIES_CONF).
    pub registries_conf: Option<PathBuf>,
    /// The folder with certificates that the user named (--cert-dir): no other counts then.
    pub cert_dir: Option<PathBuf>,
    /// The folder of the machine's settings: /etc.
    pub etc: PathBuf,
    /// What the command line says of single registries: it counts more than the files.
    pub given: GivenRegistries,
}

impl Default for Places {
    fn default() -> Self {
        Places {
            auth_file: None,
            runtime_dir: None,
            docker_dir: None,
            config_dir: None,
            registries_conf: None,
            cert_dir: None,
            etc: "/etc".into(),
            given: GivenRegistries::default(),
        }
    }
}

/// The largest file of these kinds that is read.
const MAX_FILE: u64 = 16 << 20;

/// Returns the text of a file; `None` where there is none.
fn read(path: &std::path::Path) -> Result<Option<String>, ConfigError> {
    use std::io::Read;
    let failed = |source| ConfigError::Io { call: "read", path: path.into(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}
