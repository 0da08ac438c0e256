use std::path::PathBuf;

use super::registries::Endpoint;
use super::{ConfigError, Reach};
use crate::net::{ClientCertificate, Security};
use crate::oci::Reference;

/// What the command line says about single registries, besides the files. Registries are hosts, with their ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GivenRegistries {
    /// For images of a registry: a place in which they are looked for first, a host with or without a folder. In the order in which they are
    /// tried.
    pub mirrors: Vec<(String, String)>,
    /// Whether the registry itself is asked where it has such places.
    pub fallback: Fallback,
    /// Those that are reached as it can be: without checks, without TLS.
    pub insecure: Vec<String>,
    /// Roots for the certificates of a registry.
    pub roots: Vec<(String, PathBuf)>,
    /// Who we are to a registry.
    pub clients: Vec<(String, ClientCertificate)>,
}

/// Whether a registry is asked for what its mirrors do not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fallback {
    /// It is.
    #[default]
    Registry,
    /// It is not.
    Nobody,
}

impl GivenRegistries {
    /// Returns where an image is looked for that is looked for in `known`.
    pub(super) fn sources(&self, reference: &Reference, known: Vec<Endpoint>) -> Result<Vec<Endpoint>, ConfigError> {
        let own = self.mirrors.iter().filter(|(registry, _)| registry == reference.registry());
        let mut endpoints = Vec::new();
        for (_, place) in own {
            let made = format!("{}/{}", place.trim_end_matches('/'), reference.repository());
            let moved = reference.moved_to(&made);
            let reference = moved.map_err(|_| ConfigError::BadMirror { place: place.clone(), made })?;
            endpoints.push(Endpoint { reference, reach: Reach::Unsaid });
        }
        if endpoints.is_empty() || self.fallback == Fallback::Registry {
            endpoints.extend(known);
        }
        Ok(endpoints.into_iter().map(|endpoint| self.reached(endpoint)).collect())
    }

    /// Returns the endpoint as it may be reached.
    pub(super) fn reached(&self, endpoint: Endpoint) -> Endpoint {
        let insecure = self.insecure.iter().any(|host| host == endpoint.reference.registry());
        if insecure { Endpoint { reach: Reach::Insecure, ..endpoint } } else { endpoint }
    }

    /// Adds what is given for a registry.
    pub(super) fn secure(&self, host: &str, security: &mut Security) {
        let roots = self.roots.iter().filter(|(registry, _)| registry == host);
        security.ca_files.extend(roots.map(|(_, file)| file.clone()));
        if let Some((_, client)) = self.clients.iter().rev().find(|(registry, _)| registry == host) {
            security.client = Some(client.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_first_and_may_be_all() {
        let own: Reference = "docker.io/library/busybox:1".parse().unwrap();
        let known = || vec![Endpoint { reference: own.clone(), reach: Reach::Unsaid }];
        let mut given = GivenRegistries {
            mirrors: vec![("docker.io".into(), "mirror.example/hub/".into()), ("quay.io".into(), "q.example".into())],
            insecure: vec!["mirror.example".into()],
            ..GivenRegistries::default()
        };
        let found = given.sources(&own, known()).unwrap();
        let names: Vec<String> = found.iter().map(|place| place.reference.to_string()).collect();
        assert_eq!(names, ["mirror.example/hub/library/busybox:1", "docker.io/library/busybox:1"]);
        assert_eq!((found[0].reach, found[1].reach), (Reach::Insecure, Reach::Unsaid));
        given.fallback = Fallback::Nobody;
        assert_eq!(given.sources(&own, known()).unwrap().len(), 1);
        let other: Reference = "ghcr.io/a/b:1".parse().unwrap();
        assert_eq!(given.sources(&other, known()).unwrap(), known());
    }
}
