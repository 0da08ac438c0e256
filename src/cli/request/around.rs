use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::UsageError;
use crate::build::{Access, Around, HostsFile, Resolver};
use crate::cli::args::{AroundArgs, DnsServer, FailureAction, GivenArgs, NetworkMode};
use crate::cli::environment::Environment;
use coracle_runtime::Capabilities;

/// What RUN steps are given, and what is done when one fails.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GivenRequest {
    /// Secrets: their ids, and where they are.
    pub secrets: Vec<(String, SecretFrom)>,
    /// Agents: their ids, and the socket or the files of keys of each, absolute.
    pub agents: Vec<(String, Vec<PathBuf>)>,
    /// The folder of cache mounts, absolute; `None` for the one in the store.
    pub cache_dir: Option<PathBuf>,
    /// What is in front of the ids of cache mounts.
    pub cache_namespace: String,
    /// What is done when a RUN fails; paths on the host are absolute. A shell is alone.
    pub on_failure: Vec<FailureAction>,
}

/// Where a secret is.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretFrom {
    /// In this file, absolute.
    File(PathBuf),
    /// It is this.
    Value(Vec<u8>),
}

impl std::fmt::Debug for SecretFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SecretFrom::File(path) => write!(f, "File({path:?})"),
            SecretFrom::Value(_) => f.write_str("Value"),
        }
    }
}

/// Returns what the flags put around a command.
pub(super) fn around(args: AroundArgs) -> Result<Around, UsageError> {
    let AroundArgs { network, add_hosts, no_hosts, dns, dns_search, dns_options, cap_add, cap_drop } = args;
    let of_image = dns.contains(&DnsServer::None);
    if of_image && (dns.len() > 1 || !dns_search.is_empty() || !dns_options.is_empty()) {
        return Err(UsageError::DnsNone);
    }
    let servers = dns.into_iter().filter_map(|server| match server {
        DnsServer::Address(address) => Some(address),
        DnsServer::None => None,
    });
    // As with docker: what is given counts over what is taken, but for a single one that is taken.
    let all = coracle_runtime::Capability::parse("ALL").expect("a word for all of them");
    let mut capabilities = Capabilities::default();
    if cap_drop.iter().any(|name| name.0 == all) {
        capabilities = capabilities.without(all);
    }
    capabilities = cap_add.iter().fold(capabilities, |set, name| set.with(name.0));
    capabilities = cap_drop.iter().filter(|name| name.0 != all).fold(capabilities, |set, name| set.without(name.0));
    Ok(Around {
        network: if network == NetworkMode::None { Access::None } else { Access::Host },
        hostname: None,
        // The network is the host's, so the way to the host is the loopback interface.
        hosts: add_hosts
            .into_iter()
            .map(|host| (host.name, host.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))))
            .collect(),
        hosts_file: if no_hosts { HostsFile::OfImage } else { HostsFile::Made },
        resolver: Resolver {
            of_image,
            servers: servers.collect(),
            search: dns_search.into_iter().map(|word| word.0).collect(),
            options: dns_options.into_iter().map(|word| word.0).collect(),
        },
        capabilities,
        volumes: Vec::new(),
    })
}

/// Returns what the flags give to RUN steps.
pub(super) fn given(
    args: GivenArgs,
    build_args: &[(String, String)],
    environment: &Environment,
) -> Result<GivenRequest, UsageError> {
    let mut secrets = Vec::with_capacity(args.secrets.len());
    for secret in args.secrets {
        let value = |name: &str| {
            use std::os::unix::ffi::OsStrExt;
            environment.vars.get(std::ffi::OsStr::new(name)).map(|value| value.as_bytes().to_vec())
        };
        let from = match (secret.file, secret.variable) {
            (Some(file), _) => SecretFrom::File(environment.absolute(&file)?),
            (None, Some(name)) => match value(&name) {
                Some(value) => SecretFrom::Value(value),
                None => return Err(UsageError::SecretNotSet { id: secret.id, variable: name }),
            },
            // Its name alone: a variable of that name, else a file.
            (None, None) => match value(&secret.id) {
                Some(value) => SecretFrom::Value(value),
                None => SecretFrom::File(environment.absolute(secret.id.as_ref())?),
            },
        };
        secrets.push((secret.id, from));
    }
    let mut agents = Vec::with_capacity(args.ssh.len());
    for agent in args.ssh {
        if agents.iter().any(|(id, _)| *id == agent.id) {
            return Err(UsageError::AgentTwice { id: agent.id });
        }
        let mut paths = agent.paths;
        if paths.is_empty() {
            let own = environment.var("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty()).map(PathBuf::from);
            paths.push(own.ok_or_else(|| UsageError::NoAgent { id: agent.id.clone() })?);
        }
        let paths = paths.iter().map(|path| environment.absolute(path)).collect::<Result<_, _>>()?;
        agents.push((agent.id, paths));
    }
    let mut on_failure = args.on_failure;
    if on_failure.contains(&FailureAction::Shell) {
        if on_failure.len() > 1 {
            return Err(UsageError::ShellAlone);
        }
        if !(environment.stdin_is_terminal && environment.stderr_is_terminal) {
            return Err(UsageError::ShellWithoutTerminal);
        }
    }
    for action in &mut on_failure {
        if let FailureAction::Save(path) | FailureAction::Export { to: path, .. } = action {
            *path = environment.absolute(path)?;
        }
    }
    let namespace = build_args.iter().rev().find(|(name, _)| name == "BUILDKIT_CACHE_MOUNT_NS");
    Ok(GivenRequest {
        secrets,
        agents,
        cache_dir: cache_dir(args.cache_dir, environment)?,
        cache_namespace: namespace.map(|(_, value)| format!("{value}/")).filter(|text| text != "/").unwrap_or_default(),
        on_failure,
    })
}

/// Returns the folder of cache mounts, where it is not that of the store.
pub(super) fn cache_dir(flag: Option<PathBuf>, environment: &Environment) -> Result<Option<PathBuf>, UsageError> {
    let dir = flag.or_else(|| environment.var("CORACLE_CACHE_DIR").map(PathBuf::from));
    dir.map(|dir| environment.absolute(&dir)).transpose()
}
