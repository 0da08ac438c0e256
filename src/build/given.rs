//! What the user gives to the commands of a build or of `coracle run`, besides the files: secrets, agents, the network.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use coracle_runtime::Capabilities;

use super::ssh::Agent;

/// What the user gives to RUN steps. Its values are in no layer, no history and no key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// `--secret`, by id.
    pub secrets: BTreeMap<String, Secret>,
    /// `--ssh`, by id.
    pub agents: BTreeMap<String, Agent>,
    /// The folder of cache mounts; `None` for the one in the store.
    pub cache_dir: Option<PathBuf>,
    /// What is in front of the ids of cache mounts: builds with another one have other caches.
    pub cache_namespace: String,
}

/// A value that nobody is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Bytes of a secret at the most, as with BuildKit.
    pub const LONGEST: usize = 500 * 1024;

    /// Returns a secret with these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Secret(bytes)
    }

    /// Returns the bytes: not to be shown.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What is around a command: the network, names of hosts, and what root may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Around {
    /// Which network it has.
    pub network: Access,
    /// The name of the machine; `None` for the one of every build.
    pub hostname: Option<String>,
    /// Lines for /etc/hosts: names and their addresses.
    pub hosts: Vec<(String, IpAddr)>,
    /// Whether it is given an /etc/hosts.
    pub hosts_file: HostsFile,
    /// What its /etc/resolv.conf says.
    pub resolver: Resolver,
    /// What root may do.
    pub capabilities: Capabilities,
    /// What RUN steps of a build see of the host as it is there: then none comes from a cache.
    pub volumes: Vec<Volume>,
}

/// The name that the machine has, where the user chose none: the same everywhere.
pub(super) const HOSTNAME: &str = "coracle";

impl Around {
    /// Returns the name of the machine.
    pub(super) fn hostname(&self) -> &str {
        self.hostname.as_deref().unwrap_or(HOSTNAME)
    }
}

/// A file or folder of the host that a container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Where it is, absolute.
    pub source: PathBuf,
    /// Where it is seen, absolute.
    pub target: String,
    /// Whether it cannot be changed there.
    pub read_only: bool,
}

/// Which network a command has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Access {
    /// That of the host.
    #[default]
    Host,
    /// None but its own loopback interface.
    None,
}

/// Whose /etc/hosts a command sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostsFile {
    /// One that is made for it.
    #[default]
    Made,
    /// That of the image.
    OfImage,
}

/// What /etc/resolv.conf of a command says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Whether it is that of the image: then nothing else counts.
    pub of_image: bool,
    /// Servers, in place of the host's; empty for those.
    pub servers: Vec<IpAddr>,
    /// Domains to search, in place of the host's; empty for those. "." alone is none.
    pub search: Vec<String>,
    /// Options, in place of the host's; empty for those.
    pub options: Vec<String>,
}

impl Resolver {
    /// Returns the file: what `host` says, but for what is set here.
    pub(super) fn file(&self, host: &[u8]) -> Vec<u8> {
        let replaced = |word: &[u8]| match word {
            b"nameserver" => !self.servers.is_empty(),
            b"search" | b"domain" => !self.search.is_empty(),
            b"options" => !self.options.is_empty(),
            _ => false,
        };
        let mut text = Vec::new();
        for line in host.split_inclusive(|&byte| byte == b'\n') {
            let word = line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty()).unwrap_or_default();
            if !replaced(word) {
                text.extend_from_slice(line);
            }
        }
        if *self == Resolver::default() {
            return text;
        }
        if !text.is_empty() && !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        let servers = self.servers.iter().map(|server| format!("nameserver {server}\n"));
        let search = Some(self.search.join(" ")).filter(|search| !search.is_empty() && search != ".");
        let options = Some(self.options.join(" ")).filter(|options| !options.is_empty());
        let lines = servers
            .chain(search.map(|search| format!("search {search}\n")))
            .chain(options.map(|options| format!("options {options}\n")));
        lines.for_each(|line| text.extend_from_slice(line.as_bytes()));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_stands_in_place_of_the_hosts() {
        let host = b"# made\nnameserver 10.0.0.1\nsearch a.example\noptions ndots:2\nnameserver 10.0.0.2";
        assert_eq!(Resolver::default().file(host), host);
        let resolver = Resolver {
            servers: vec!["192.0.2.1".parse().unwrap()],
            search: vec![".".into()],
            options: vec!["timeout:1".into(), "rotate".into()],
            ..Resolver::default()
        };
        let text = String::from_utf8(resolver.file(host)).unwrap();
        assert_eq!(text, "# made\nnameserver 192.0.2.1\noptions timeout:1 rotate\n");
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new(b"hunter2".to_vec())), "Secret");
    }
}
