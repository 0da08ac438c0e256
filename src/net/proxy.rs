use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

/// Which hosts are asked through which proxy: the values of the customary variables.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For http URLs: a URL of the proxy, maybe with credentials (HTTP_PROXY).
    pub http: Option<String>,
    /// For https URLs (HTTPS_PROXY).
    pub https: Option<String>,
    /// For both, where there is no other (ALL_PROXY).
    pub all: Option<String>,
    /// Hosts that are asked without a proxy, with commas in between (NO_PROXY): names (which stand for the names below them
    /// too), addresses, networks, each maybe with a port; `*` for all.
    pub none: Option<String>,
}

impl Proxies {
    /// Returns the proxy for a URL, as it was given; `None` where it is asked directly.
    pub fn for_url(&self, url: &Url) -> Option<&str> {
        let specific = if url.scheme() == "https" { &self.https } else { &self.http };
        let proxy = specific.as_deref().or(self.all.as_deref()).map(str::trim).filter(|proxy| !proxy.is_empty())?;
        (!self.excepts(url)).then_some(proxy)
    }

    fn excepts(&self, url: &Url) -> bool {
        // As curl and Go have it, this machine is never asked through a proxy.
        let here = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => true,
        };
        here || self.none.iter().flat_map(|list| list.split([',', ' '])).any(|rule| matches(rule.trim(), url))
    }
}

impl fmt::Debug for Proxies {
    /// Shows which ones there are, since their URLs hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("all", &self.all.is_some())
            .field("none", &self.none)
            .finish()
    }
}

fn matches(rule: &str, url: &Url) -> bool {
    if rule.is_empty() {
        return false;
    }
    if rule == "*" {
        return true;
    }
    let (rule, port) = split_port(rule);
    if port.is_some_and(|port| url.port_or_known_default() != Some(port)) {
        return false;
    }
    let address: IpAddr = match url.host() {
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        Some(Host::Domain(name)) => {
            let rule = rule.trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.').to_ascii_lowercase();
            let name = name.trim_end_matches('.');
            return !rule.is_empty()
                && (name == rule || name.strip_suffix(&rule).is_some_and(|rest| rest.ends_with('.')));
        }
        None => return false,
    };
    match rule.split_once('/') {
        Some((network, bits)) => match (network.parse(), bits.parse()) {
            (Ok(network), Ok(bits)) => within(address, network, bits),
            _ => false,
        },
        None => rule.trim_matches(['[', ']']).parse() == Ok(address),
    }
}

/// `host:port` into its parts. What has more than one colon outside of brackets is an IPv6 address without a port.
fn split_port(rule: &str) -> (&str, Option<u16>) {
    match rule.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (rule, None),
        },
        _ => (rule, None),
    }
}

fn within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(none: &str) -> Proxies {
        let some = |text: &str| Some(text.to_owned());
        Proxies { http: some("http://p:1"), https: some("http://p:2"), all: some("http://p:3"), none: some(none) }
    }

    #[test]
    fn the_scheme_chooses_the_proxy() {
        let url = |text: &str| Url::parse(text).expect("a URL");
        let all = proxies("");
        assert_eq!(all.for_url(&url("http://a.example/")), Some("http://p:1"));
        assert_eq!(all.for_url(&url("https://a.example/")), Some("http://p:2"));
        let only = Proxies { all: Some("socks5://p:4".into()), ..Proxies::default() };
        assert_eq!(only.for_url(&url("https://a.example/")), Some("socks5://p:4"));
        assert_eq!(Proxies::default().for_url(&url("https://a.example/")), None);
        for here in ["http://localhost:5000/", "http://127.0.0.1/", "http://[::1]:5000/"] {
            assert_eq!(all.for_url(&url(here)), None, "{here}");
        }
    }

    #[test]
    fn no_proxy() {
        for (none, url, direct) in [
            ("example.com", "https://example.com/", true),
            ("example.com", "https://reg.example.com/", true),
            (".example.com", "https://reg.example.com/", true),
            ("*.example.com", "https://reg.example.com/", true),
            ("example.com", "https://notexample.com/", false),
            ("EXAMPLE.com", "https://example.COM/", true),
            ("a,, b.example", "https://b.example/", true),
            ("reg.example:5000", "https://reg.example:5000/", true),
            ("reg.example:5000", "https://reg.example/", false),
            ("reg.example:443", "https://reg.example/", true),
            ("10.0.0.0/8", "https://10.1.2.3/", true),
            ("10.0.0.0/8", "https://11.1.2.3/", false),
            ("0.0.0.0/0", "https://11.1.2.3/", true),
            ("192.168.1.7", "https://192.168.1.7:5000/", true),
            ("fd00::/8", "https://[fd00::1]/", true),
            ("[fd00::1]:443", "https://[fd00::1]/", true),
            ("fd00::1", "https://[fd00::1]/", true),
            ("10.0.0.0/99", "https://10.1.2.3/", false),
            ("*", "https://a.example/", true),
            ("", "https://a.example/", false),
        ] {
            let proxies = proxies(none);
            let found = proxies.for_url(&Url::parse(url).expect("a URL"));
            assert_eq!(found.is_none(), direct, "{none} {url}");
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        let proxies = Proxies { all: Some("http://ann:geheim@p:3".into()), ..Proxies::default() };
        assert!(!format!("{proxies:?}").contains("geheim"));
    }
}
