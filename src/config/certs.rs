use std::fs;
use std::path::{Path, PathBuf};

use super::{ConfigError, Places};
use crate::net::{ClientCertificate, Security};

/// Returns the certificates that the user's files have for the registry `host` (with its port, if it has one): roots `*.crt`, and
/// `*.cert` with its `*.key` to identify ourselves. Whether they are checked at all is not said by files.
///
/// # Errors
/// [`ConfigError::Missing`] for a certificate without its key, or a folder that the user named; [`ConfigError::Io`].
pub fn security(places: &Places, host: &str) -> Result<Security, ConfigError> {
    let mut security = of_files(places, host)?;
    places.given.secure(host, &mut security);
    Ok(security)
}

fn of_files(places: &Places, host: &str) -> Result<Security, ConfigError> {
    let mut security = Security::default();
    if let Some(dir) = &places.cert_dir {
        if !read_dir(dir, &mut security)? {
            return Err(ConfigError::Missing { path: dir.clone() });
        }
        return Ok(security);
    }
    let own = places.config_dir.as_ref().map(|dir| dir.join("containers"));
    let dirs = own.into_iter().chain([places.etc.join("containers"), places.etc.join("docker")]);
    for dir in dirs {
        // The first folder counts, as it does for the others who read them.
        if read_dir(&dir.join("certs.d").join(host), &mut security)? {
            break;
        }
    }
    Ok(security)
}

/// Reads a folder; returns whether it is there.
fn read_dir(dir: &Path, security: &mut Security) -> Result<bool, ConfigError> {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), NotFound | NotADirectory | PermissionDenied) => return Ok(false),
        Err(source) => return Err(ConfigError::Io { call: "read", path: dir.into(), source }),
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => security.ca_files.push(path),
            Some("cert") => {
                let key = path.with_extension("key");
                if !key.exists() {
                    return Err(ConfigError::Missing { path: key });
                }
                security.client = Some(ClientCertificate { certificate: path, key });
            }
            Some("key") if !path.with_extension("cert").exists() => {
                return Err(ConfigError::Missing { path: path.with_extension("cert") });
            }
            _ => {}
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_folder_with_the_name_of_the_host_counts() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |path: &str| {
            let file = dir.path().join(path);
            fs::create_dir_all(file.parent().expect("in it")).expect("a folder");
            fs::write(&file, "").expect("written");
            file
        };
        let places =
            Places { config_dir: Some(dir.path().join("config")), etc: dir.path().join("etc"), ..Places::default() };
        assert_eq!(security(&places, "reg.example").expect("nothing"), Security::default());
        let docker = write("etc/docker/certs.d/reg.example:5000/ca.crt");
        assert_eq!(security(&places, "reg.example:5000").expect("a root").ca_files, [docker]);
        assert_eq!(security(&places, "reg.example").expect("nothing"), Security::default());
        let (own, certificate, key) = (
            write("config/containers/certs.d/reg.example:5000/own.crt"),
            write("config/containers/certs.d/reg.example:5000/me.cert"),
            write("config/containers/certs.d/reg.example:5000/me.key"),
        );
        let found = security(&places, "reg.example:5000").expect("both");
        assert_eq!(found.ca_files, [own]);
        assert_eq!(found.client, Some(ClientCertificate { certificate, key: key.clone() }));
        fs::remove_file(&key).expect("removed");
        assert!(matches!(security(&places, "reg.example:5000"), Err(ConfigError::Missing { path }) if path == key));
        let named = Places { cert_dir: Some(dir.path().join("none")), ..places };
        assert!(matches!(security(&named, "reg.example"), Err(ConfigError::Missing { .. })));
    }
}
