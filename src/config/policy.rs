use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::{ConfigError, Places, read};
use crate::oci::Reference;

/// Which images may be used: policy.json. Where there is none, all may.
#[derive(Debug, Default)]
pub struct Policy {
    path: PathBuf,
    file: Option<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

#[derive(Debug, Deserialize)]
struct Requirement {
    #[serde(rename = "type")]
    kind: String,
}

impl Policy {
    /// Reads the user's policy.json, else that of the machine.
    ///
    /// # Errors
    /// [`ConfigError::Format`], [`ConfigError::Io`].
    pub fn load(places: &Places) -> Result<Self, ConfigError> {
        let own = places.config_dir.as_ref().map(|dir| dir.join("containers/policy.json"));
        for path in own.into_iter().chain([places.etc.join("containers/policy.json")]) {
            if let Some(text) = read(&path)? {
                let bad =
                    |error: serde_json::Error| ConfigError::Format { path: path.clone(), reason: error.to_string() };
                let file: File = serde_json::from_str(&text).map_err(bad)?;
                if file.default.is_empty() {
                    let reason = "its default is empty, which accepts and rejects nothing".into();
                    return Err(ConfigError::Format { path, reason });
                }
                return Ok(Policy { path, file: Some(file) });
            }
        }
        Ok(Policy::default())
    }

    /// Returns whether the image `name` of a registry may be used.
    ///
    /// # Errors
    /// [`ConfigError::Rejected`]; [`ConfigError::Signature`] where only a signature would decide.
    pub fn check(&self, name: &Reference) -> Result<(), ConfigError> {
        let Some(file) = &self.file else { return Ok(()) };
        let requirements = match file.transports.get("docker") {
            Some(scopes) => scopes_of(name).iter().find_map(|scope| scopes.get(scope)).unwrap_or(&file.default),
            None => &file.default,
        };
        let (name, path) = (name.to_string(), self.path.clone());
        match requirements.iter().find(|requirement| requirement.kind != "insecureAcceptAnything") {
            // c/image: an empty list is a mistake in the file, and accepts nothing.
            None if requirements.is_empty() => Err(ConfigError::Rejected { name, path }),
            None => Ok(()),
            Some(requirement) if requirement.kind == "reject" => Err(ConfigError::Rejected { name, path }),
            Some(requirement) => Err(ConfigError::Signature { name, kind: requirement.kind.clone(), path }),
        }
    }
}

/// Returns the scopes that an image is in, the narrowest first.
fn scopes_of(name: &Reference) -> Vec<String> {
    let mut scope = name.name();
    let mut scopes = Vec::new();
    match (name.digest(), name.tag()) {
        (Some(digest), _) => scopes.push(format!("{scope}@{digest}")),
        (None, Some(tag)) => scopes.push(format!("{scope}:{tag}")),
        (None, None) => {}
    }
    loop {
        scopes.push(scope.clone());
        match scope.rfind('/') {
            Some(slash) => scope.truncate(slash),
            None => break,
        }
    }
    let mut host = name.registry();
    while let Some((_, parent)) = host.split_once('.') {
        scopes.push(format!("*.{parent}"));
        host = parent;
    }
    scopes.push(String::new());
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        Policy { path: "/policy.json".into(), file: Some(serde_json::from_str(text).expect("a policy")) }
    }

    #[test]
    fn the_narrowest_scope_decides() {
        let policy = policy(
            r#"{"default": [{"type": "reject"}], "transports": {
                "docker": {
                    "docker.io/library": [{"type": "insecureAcceptAnything"}],
                    "docker.io/library/evil": [{"type": "reject"}],
                    "reg.example:5000": [{"type": "insecureAcceptAnything"}],
                    "reg.example:5000/app:1": [{"type": "reject"}],
                    "*.good.example": [{"type": "insecureAcceptAnything"}],
                    "signed.example": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}]
                },
                "docker-daemon": {"": [{"type": "insecureAcceptAnything"}]}
            }}"#,
        );
        for (name, says) in [
            ("busybox", None),
            ("evil", Some("docker.io/library/evil:latest is rejected by /policy.json")),
            ("team/app", Some("is rejected")),
            ("reg.example:5000/a/b", None),
            ("reg.example:5000/app:1", Some("is rejected")),
            ("reg.example:5000/app:2", None),
            ("a.b.good.example/x", None),
            ("good.example/x", Some("is rejected")),
            ("signed.example/x", Some("demands signedBy of signed.example/x:latest")),
        ] {
            let checked = policy.check(&name.parse().expect("a name"));
            match says {
                None => assert!(checked.is_ok(), "{name}: {checked:?}"),
                Some(says) => assert!(checked.expect_err(name).to_string().contains(says), "{name}"),
            }
        }
        assert!(Policy::default().check(&"evil".parse().expect("a name")).is_ok());
    }
}
