use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::address::{GitAddress, Scheme};

/// Tokens and headers for hosts, by the names that BuildKit gives to secrets: `HTTP_AUTH_TOKEN_<host>`,
/// `HTTP_AUTH_HEADER_<host>`, `GIT_AUTH_TOKEN.<host>`, `GIT_AUTH_HEADER.<host>`, and the last two without a host. A host has its
/// port with it where the URL names one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials(BTreeMap<String, String>);

impl Credentials {
    /// Returns those among `secrets` that are for fetching.
    pub fn new(secrets: impl IntoIterator<Item = (String, String)>) -> Self {
        Credentials(secrets.into_iter().filter(|(name, _)| Credentials::is_one(name)).collect())
    }

    /// Returns whether a secret of this name is for fetching.
    pub fn is_one(name: &str) -> bool {
        ["HTTP_AUTH_TOKEN_", "HTTP_AUTH_HEADER_", "GIT_AUTH_TOKEN", "GIT_AUTH_HEADER"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    }

    /// Returns the value of the Authorization header for files of `host`.
    pub(super) fn for_http(&self, host: &str) -> Option<String> {
        let header = self.get(&format!("HTTP_AUTH_HEADER_{host}")).map(str::to_owned);
        header.or_else(|| Some(format!("Bearer {}", self.get(&format!("HTTP_AUTH_TOKEN_{host}"))?)))
    }

    /// Returns the value of the Authorization header for `address`. What is for no host in particular is for `primary`, the
    /// host that was asked for, and not for those that its submodules name.
    pub(super) fn for_git(&self, address: &GitAddress, primary: &str) -> Option<String> {
        if !matches!(address.scheme, Scheme::Https | Scheme::Http) {
            return None;
        }
        if let Some((user, password)) = &address.credentials {
            return Some(basic(&decoded(user), &decoded(password)));
        }
        let host = &address.host;
        let find = |name: &str| {
            self.get(&format!("{name}.{host}"))
                .or_else(|| self.get(name).filter(|_| host == primary))
                .map(str::to_owned)
        };
        find("GIT_AUTH_HEADER").or_else(|| find("GIT_AUTH_TOKEN").map(|token| basic("x-access-token", &token)))
    }

    /// A line break at the end of a file is no part of a token.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Returns the value of an Authorization header with name and password.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Returns a part of a URL without its percent signs.
pub(super) fn decoded(text: &str) -> String {
    // The parser of forms does that; it would take a plus for a space.
    let escaped = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    let pairs: Vec<_> = url::form_urlencoded::parse(escaped.as_bytes()).collect();
    pairs.first().map(|(text, _)| text.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(secrets: &[(&str, &str)]) -> Credentials {
        Credentials::new(secrets.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn a_token_goes_to_its_host_only() {
        let known = credentials(&[
            ("HTTP_AUTH_TOKEN_a.org", "t\n"),
            ("HTTP_AUTH_HEADER_b.org:8080", "Custom x"),
            ("OTHER", "o"),
        ]);
        assert_eq!(known.for_http("a.org").as_deref(), Some("Bearer t"));
        assert_eq!(known.for_http("b.org:8080").as_deref(), Some("Custom x"));
        for host in ["b.org", "a.org:1", "xa.org", "org"] {
            assert_eq!(known.for_http(host), None, "{host}");
        }
        assert_eq!(format!("{known:?}"), r#"{"HTTP_AUTH_HEADER_b.org:8080", "HTTP_AUTH_TOKEN_a.org"}"#);
    }

    #[test]
    fn a_token_for_git_without_a_host_is_for_the_one_that_was_asked_for() {
        let known = credentials(&[("GIT_AUTH_TOKEN", "t"), ("GIT_AUTH_HEADER.b.org", "Basic b")]);
        let git = |url: &str| GitAddress::parse(url).expect("an address");
        let token = basic("x-access-token", "t");
        assert_eq!(known.for_git(&git("https://a.org/x.git"), "a.org"), Some(token));
        assert_eq!(known.for_git(&git("https://c.org/x.git"), "a.org"), None);
        assert_eq!(known.for_git(&git("https://b.org/x.git"), "a.org").as_deref(), Some("Basic b"));
        assert_eq!(known.for_git(&git("ssh://a.org/x.git"), "a.org"), None);
        let own = git("https://ann:p%40ss+1@a.org/x.git");
        assert_eq!(known.for_git(&own, "a.org"), Some(basic("ann", "p@ss+1")));
    }
}
