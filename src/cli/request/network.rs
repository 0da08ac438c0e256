use std::path::PathBuf;

use crate::cli::environment::Environment;
use crate::net::{Agent, AgentOptions, Cancel, Proxies, RetryPolicy, Roots};

/// How hosts are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRequest {
    /// Where the usual roots are.
    pub roots: Roots,
    /// Which hosts are asked through a proxy.
    pub proxies: Proxies,
    /// How often something is tried again.
    pub retry: RetryPolicy,
}

impl NetworkRequest {
    pub(super) fn new(environment: &Environment) -> Self {
        let value = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| environment.var(name));
            found.map(|value| value.to_string_lossy().into_owned())
        };
        let dirs = environment.var("SSL_CERT_DIR").map(|dirs| std::env::split_paths(dirs).collect());
        NetworkRequest {
            roots: Roots { file: environment.var("SSL_CERT_FILE").map(PathBuf::from), dirs: dirs.unwrap_or_default() },
            proxies: Proxies {
                // Not HTTP_PROXY in a CGI program, where that is a header of the request; coracle is none.
                http: value(["http_proxy", "HTTP_PROXY"]),
                https: value(["https_proxy", "HTTPS_PROXY"]),
                all: value(["all_proxy", "ALL_PROXY"]),
                none: value(["no_proxy", "NO_PROXY"]),
            },
            retry: RetryPolicy::default(),
        }
    }

    /// Returns an agent that gives up soon after `cancel` says so.
    pub fn agent(&self, cancel: Cancel) -> Agent {
        let NetworkRequest { roots, proxies, retry } = self.clone();
        Agent::new(AgentOptions { roots, proxies, retry, cancel, ..AgentOptions::default() })
    }
}
