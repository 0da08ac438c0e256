//! The flags of kaniko's executor about single registries.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::KanikoError;
use crate::config::{Fallback, GivenRegistries};
use crate::net::ClientCertificate;

/// Flags of `coracle build` that are kaniko's, about single registries.
#[derive(Debug, Default, Args)]
pub struct KanikoRegistryArgs {
    /// Look for images of Docker Hub here first; can be repeated
    #[arg(long, value_name = "HOST", value_parser = NonEmptyStringValueParser::new(), hide = true)]
    registry_mirror: Vec<String>,
    /// Look for images of a registry elsewhere first: REGISTRY=PLACE;…
    #[arg(long, value_name = "MAP", value_parser = NonEmptyStringValueParser::new(), hide = true)]
    registry_map: Vec<String>,
    /// Ask mirrors only, where there are some
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_name = "BOOL", hide = true)]
    skip_default_registry_fallback: bool,
    /// Reach this registry without TLS; can be repeated
    #[arg(long, value_name = "HOST", value_parser = NonEmptyStringValueParser::new(), hide = true)]
    insecure_registry: Vec<String>,
    /// Do not check the certificate of this registry; can be repeated
    #[arg(long, value_name = "HOST", value_parser = NonEmptyStringValueParser::new(), hide = true)]
    skip_tls_verify_registry: Vec<String>,
    /// Trust this root for a registry: HOST=FILE
    #[arg(long, value_name = "HOST=FILE", hide = true)]
    registry_certificate: Vec<String>,
    /// Show this certificate to a registry: HOST=FILE,KEY
    #[arg(long, value_name = "HOST=FILE,KEY", hide = true)]
    registry_client_cert: Vec<String>,
}

impl KanikoRegistryArgs {
    /// Returns what is said; files as they are written.
    pub(super) fn given(self) -> Result<GivenRegistries, KanikoError> {
        let bad = |flag: &'static str, value: &str| KanikoError::Form { flag, value: value.into() };
        let mut given = GivenRegistries {
            fallback: if self.skip_default_registry_fallback { Fallback::Nobody } else { Fallback::Registry },
            insecure: self.insecure_registry,
            ..GivenRegistries::default()
        };
        given.insecure.extend(self.skip_tls_verify_registry);
        given.insecure.iter_mut().for_each(|host| *host = registry(host));
        for mirror in self.registry_mirror {
            given.mirrors.push(("docker.io".into(), place(&mirror)));
        }
        for map in &self.registry_map {
            for pair in map.split(';').filter(|pair| !pair.is_empty()) {
                let (from, to) = pair
                    .split_once('=')
                    .filter(|(from, to)| !from.is_empty() && !to.is_empty())
                    .ok_or_else(|| bad("--registry-map REGISTRY=PLACE;REGISTRY=PLACE", map))?;
                given.mirrors.push((registry(from), place(to)));
            }
        }
        for text in &self.registry_certificate {
            let (host, file) = text.split_once('=').ok_or_else(|| bad("--registry-certificate HOST=FILE", text))?;
            given.roots.push((registry(host), file.into()));
        }
        for text in &self.registry_client_cert {
            let parts = text.split_once('=').and_then(|(host, files)| Some((host, files.split_once(',')?)));
            let (host, (certificate, key)) = parts.ok_or_else(|| bad("--registry-client-cert HOST=FILE,KEY", text))?;
            let client = ClientCertificate { certificate: certificate.into(), key: key.into() };
            given.clients.push((registry(host), client));
        }
        Ok(given)
    }
}

/// Returns the registry as names have it.
fn registry(host: &str) -> String {
    match place(host).as_str() {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" => "docker.io".into(),
        other => other.into(),
    }
}

fn place(text: &str) -> String {
    let text = text.trim();
    let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    text.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_single_registries() {
        let args = KanikoRegistryArgs {
            registry_mirror: vec!["mirror.example".into(), "https://other.example/hub/".into()],
            registry_map: vec!["index.docker.io=a.example;quay.io=b.example/q".into()],
            skip_tls_verify_registry: vec!["index.docker.io".into()],
            registry_client_cert: vec!["r.example=/c.crt,/c.key".into()],
            ..KanikoRegistryArgs::default()
        };
        let given = args.given().unwrap();
        let mirrors: Vec<(&str, &str)> = given.mirrors.iter().map(|(from, to)| (&**from, &**to)).collect();
        let wanted = [
            ("docker.io", "mirror.example"),
            ("docker.io", "other.example/hub"),
            ("docker.io", "a.example"),
            ("quay.io", "b.example/q"),
        ];
        assert_eq!((mirrors.as_slice(), given.insecure), (wanted.as_slice(), vec!["docker.io".to_owned()]));
        let client = ClientCertificate { certificate: "/c.crt".into(), key: "/c.key".into() };
        assert_eq!(given.clients, [("r.example".to_owned(), client)]);
        let bad = KanikoRegistryArgs { registry_map: vec!["a".into()], ..KanikoRegistryArgs::default() };
        assert!(bad.given().unwrap_err().to_string().contains("\"a\" is not --registry-map"));
    }
}
