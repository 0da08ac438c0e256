//! Flags about what is around a command: the network, names, privileges, secrets.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use coracle_runtime::Capability;

/// Which network a command has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum NetworkMode {
    /// That of the host.
    #[default]
    Default,
    /// None but its own loopback interface.
    None,
    /// That of the host.
    Host,
}

/// Flags about network and privileges, with the names of docker and buildah.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network and privileges")]
pub struct AroundArgs {
    /// default, none or host: the host's, or none
    #[arg(long, alias = "net", value_name = "MODE", default_value = "default", hide_possible_values = true)]
    pub network: NetworkMode,
    /// A line for /etc/hosts: NAME:ADDRESS, or NAME:host-gateway; can be repeated
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    pub add_hosts: Vec<HostEntry>,
    /// Leave /etc/hosts as it is in the image
    #[arg(long, conflicts_with = "add_hosts")]
    pub no_hosts: bool,
    /// A server for names in place of the host's, or none; can be repeated
    #[arg(long = "dns", value_name = "ADDRESS")]
    pub dns: Vec<DnsServer>,
    /// A domain to search in place of the host's; . is none
    #[arg(long = "dns-search", value_name = "DOMAIN")]
    pub dns_search: Vec<DnsWord>,
    /// An option of resolv.conf in place of the host's
    #[arg(long = "dns-option", value_name = "OPTION")]
    pub dns_options: Vec<DnsWord>,
    /// Give root a capability, or ALL; can be repeated
    #[arg(long = "cap-add", value_name = "NAME")]
    pub cap_add: Vec<CapabilityName>,
    /// Take a capability from root, or ALL; can be repeated
    #[arg(long = "cap-drop", value_name = "NAME")]
    pub cap_drop: Vec<CapabilityName>,
}

/// Flags of `build` about what RUN steps are given.
#[derive(Debug, Args)]
#[command(next_help_heading = "For RUN --mount, and when a RUN fails")]
pub struct GivenArgs {
    /// A secret: id=NAME[,src=FILE] or id=NAME,env=VARIABLE; can be repeated
    #[arg(long = "secret", value_name = "SPEC")]
    pub secrets: Vec<SecretSpec>,
    /// An ssh agent: default, NAME=SOCKET or NAME=KEYFILE; can be repeated
    #[arg(long = "ssh", value_name = "SPEC")]
    pub ssh: Vec<AgentSpec>,
    /// The folder of cache mounts [default: $CORACLE_CACHE_DIR, or in the store]
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// shell, save=DIR or export=PATH:FILE; the last two can be repeated
    #[arg(long = "on-failure", value_name = "ACTION")]
    pub on_failure: Vec<FailureAction>,
}

/// A value of these flags makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AroundError {
    /// Not a name and an address.
    #[error("a host is NAME:ADDRESS, as db:192.0.2.7 or db:[2001:db8::7], or NAME:host-gateway")]
    Host,
    /// No address of a server.
    #[error("a server for names is an address, as 192.0.2.53, or none")]
    Dns,
    /// White space in a word of resolv.conf.
    #[error("a word of resolv.conf has no spaces and is not empty")]
    DnsWord,
    /// No capability.
    #[error("there is no capability {name:?}: the names are those of capabilities(7), or ALL")]
    Capability {
        /// As given.
        name: String,
    },
    /// Not of the form of a secret.
    #[error("a secret is id=NAME with src=FILE or env=VARIABLE behind a comma: id=token,src=token.txt")]
    Secret,
    /// A part of a secret that is not known.
    #[error("a secret has id, src, env and type (file or env), and no {name:?}")]
    SecretPart {
        /// The part.
        name: String,
    },
    /// An agent has a name.
    #[error("an agent is a name, and behind an equals sign its socket, or files of private keys with commas between")]
    Agent,
    /// No such thing is done on failure.
    #[error("on failure there is shell, save=DIR and export=PATH:FILE")]
    Failure,
}

/// A name and its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// The name.
    pub name: String,
    /// Its address; `None` for that of the host.
    pub address: Option<IpAddr>,
}

impl FromStr for HostEntry {
    type Err = AroundError;

    fn from_str(text: &str) -> Result<Self, AroundError> {
        let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or(AroundError::Host)?;
        let is_word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !is_word {
            return Err(AroundError::Host);
        }
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        let address = match bare {
            "host-gateway" => None,
            bare => Some(bare.parse().map_err(|_| AroundError::Host)?),
        };
        Ok(HostEntry { name: name.into(), address })
    }
}

/// A server for names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsServer {
    /// This one.
    Address(IpAddr),
    /// /etc/resolv.conf stays as it is in the image.
    None,
}

impl FromStr for DnsServer {
    type Err = AroundError;

    fn from_str(text: &str) -> Result<Self, AroundError> {
        match text {
            "none" => Ok(DnsServer::None),
            text => text.parse().map(DnsServer::Address).map_err(|_| AroundError::Dns),
        }
    }
}

/// A word of resolv.conf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsWord(pub String);

impl FromStr for DnsWord {
    type Err = AroundError;

    fn from_str(text: &str) -> Result<Self, AroundError> {
        let is_word = !text.is_empty() && !text.contains(|letter: char| letter.is_whitespace() || letter.is_control());
        if is_word { Ok(DnsWord(text.into())) } else { Err(AroundError::DnsWord) }
    }
}

/// A capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapabilityName(pub Capability);

impl FromStr for CapabilityName {
    type Err = AroundError;

    fn from_str(text: &str) -> Result<Self, AroundError> {
        let known = Capability::parse(text);
        known.map(CapabilityName).ok_or_else(|| AroundError::Capability { name: text.into() })
    }
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSpec {
    /// Its id, not empty.
    pub id: String,
    /// The file, as given.
    pub file: Option<PathBuf>,
    /// The variable.
    pub variable: Option<String>,
}

impl FromStr for SecretSpec {
    type Err = AroundError;

    fn from_str(text: &str) -> Result<Self, AroundError> {
        let (mut id, mut file, mut variable, mut is_env) = (None, None, None, false);
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or(AroundError::Secret)?;
            match name.trim().to_ascii_lowercase().as_str() {
                "id" => id = Some(value.to_owned()).filter(|id| !id.is_empty()),
                "src" | "source" => file = Some(value.to_owned()),
                "env" => variable = Some(value.to_owned()),
                "type" if value == "env" => is_env = true,
                "type" if value == "file" => {}
                "type" => return Err(AroundError::Secret),
                _ => return Err(AroundError::SecretPart { name: name.into() }),
            }
        }
        if is_env && variable.is_none() {
            variable = file.take();
        }
        if file.is_some() && variable.is_some() || file.as_deref() == Some("") || variable.as_deref() == Some("") {
            return Err(AroundError::Secret);
        }
        Ok(SecretSpec { id: id.ok_or(AroundError::Secret)?, file: file.map(PathBuf::from), variable })
    }
}

/// Where an ssh agent is, or the keys of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSpec {
    /// Its id, not empty.
    pub id: String,
    /// Its socket or files of keys, as given; none for the agent of the user.
    pub paths: Vec<PathBuf>,
}

impl FromStr for AgentSpec {
    type Err = AroundError;

    fn from_str(text: &str) -> Result<Self, AroundError> {
        let (id, paths) = text.split_once('=').unwrap_or((text, ""));
        let paths: Vec<PathBuf> = if paths.is_empty() { vec![] } else { paths.split(',').map(PathBuf::from).collect() };
        if id.is_empty() || paths.iter().any(|path| path.as_os_str().is_empty()) {
            return Err(AroundError::Agent);
        }
        Ok(AgentSpec { id: id.into(), paths })
    }
}

/// What is done when a RUN fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureAction {
    /// Open a shell.
    Shell,
    /// Keep all files in this folder.
    Save(PathBuf),
    /// Copy a path of the image to one of the host.
    Export {
        /// In the image.
        from: String,
        /// On the host.
        to: PathBuf,
    },
}

impl FromStr for FailureAction {
    type Err = AroundError;

    fn from_str(text: &str) -> Result<Self, AroundError> {
        match text.split_once('=') {
            None if text == "shell" => Ok(FailureAction::Shell),
            Some(("save", dir)) if !dir.is_empty() => Ok(FailureAction::Save(dir.into())),
            Some(("export", pair)) => match pair.split_once(':') {
                Some((from, to)) if !from.is_empty() && !to.is_empty() => {
                    Ok(FailureAction::Export { from: from.into(), to: to.into() })
                }
                _ => Err(AroundError::Failure),
            },
            _ => Err(AroundError::Failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_file_or_a_variable() {
        let secret = |file: Option<&str>, variable: Option<&str>| SecretSpec {
            id: "a".into(),
            file: file.map(PathBuf::from),
            variable: variable.map(str::to_owned),
        };
        for (text, meant) in [
            ("id=a", secret(None, None)),
            ("id=a,src=b.txt", secret(Some("b.txt"), None)),
            ("type=file,id=a,source=b=c", secret(Some("b=c"), None)),
            ("id=a,env=B", secret(None, Some("B"))),
            ("id=a,type=env,src=B", secret(None, Some("B"))),
        ] {
            assert_eq!(text.parse(), Ok(meant), "{text}");
        }
        for bad in ["", "a", "src=b", "id=a,src=b,env=C", "id=a,type=vault", "id=,src=b", "id=a,src="] {
            assert!(bad.parse::<SecretSpec>().is_err(), "{bad}");
        }
        assert_eq!("id=a,x=y".parse::<SecretSpec>(), Err(AroundError::SecretPart { name: "x".into() }));
    }

    #[test]
    fn hosts_have_addresses_of_both_kinds() {
        let entry = |name: &str, address: Option<&str>| {
            Ok(HostEntry { name: name.into(), address: address.map(|address| address.parse().expect("an address")) })
        };
        assert_eq!("db:192.0.2.7".parse(), entry("db", Some("192.0.2.7")));
        assert_eq!("db=::1".parse(), entry("db", Some("::1")));
        assert_eq!("db:[::1]".parse(), entry("db", Some("::1")));
        assert_eq!("db:host-gateway".parse(), entry("db", None));
        for bad in ["db", "db:", ":192.0.2.7", "a b:192.0.2.7", "db:192.0.2", "db:x\n1.2.3.4 y"] {
            assert_eq!(bad.parse::<HostEntry>(), Err(AroundError::Host), "{bad}");
        }
    }

    #[test]
    fn an_agent_has_a_name_and_a_socket_or_keys() {
        let spec =
            |id: &str, paths: &[&str]| AgentSpec { id: id.into(), paths: paths.iter().map(PathBuf::from).collect() };
        assert_eq!("default".parse(), Ok(spec("default", &[])));
        assert_eq!("default=".parse(), Ok(spec("default", &[])));
        assert_eq!("a=/s".parse(), Ok(spec("a", &["/s"])));
        assert_eq!("a=/k1,k=2".parse(), Ok(spec("a", &["/k1", "k=2"])));
        for bad in ["", "=/s", "a=,", "a=/k,", "a=/k,,/l"] {
            assert_eq!(bad.parse::<AgentSpec>(), Err(AroundError::Agent), "{bad}");
        }
    }

    #[test]
    fn on_failure_there_are_three_things() {
        assert_eq!("shell".parse(), Ok(FailureAction::Shell));
        assert_eq!("save=d".parse(), Ok(FailureAction::Save("d".into())));
        let export = FailureAction::Export { from: "/src/out".into(), to: "./out".into() };
        assert_eq!("export=/src/out:./out".parse(), Ok(export));
        for bad in ["", "shell=x", "save", "save=", "export=/a", "export=:b", "export=a:"] {
            assert_eq!(bad.parse::<FailureAction>(), Err(AroundError::Failure), "{bad}");
        }
    }
}
