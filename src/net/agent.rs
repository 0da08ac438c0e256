use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, SocksConnector, TcpConnector};
use url::Url;

use super::error::NetError;
use super::patient::Patient;
use super::proxy::Proxies;
use super::request::host;
use super::retry::RetryPolicy;
use super::tls::{Roots, Security, Tls, Trust};

/// Connections to one host that are kept for the next request.
const IDLE_PER_HOST: usize = 8;

/// How an [`Agent`] behaves.
#[derive(Clone, Debug, Default)]
pub struct AgentOptions {
    /// Where the usual roots are.
    pub roots: Roots,
    /// Which hosts are asked through a proxy.
    pub proxies: Proxies,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// How often something is tried again.
    pub retry: RetryPolicy,
    /// Ends all waits soon after it returns true.
    pub cancel: Cancel,
}

/// How long the network may keep us waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection is there, with TLS and proxies. Default: 30 seconds.
    pub connect: Duration,
    /// Until the whole head of an answer is there. Default: 120 seconds.
    pub answer: Duration,
    /// Until the next byte comes or goes. Default: 60 seconds.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { connect: Duration::from_secs(30), answer: Duration::from_secs(120), stall: Duration::from_secs(60) }
    }
}

/// A question that is asked now and then: should this end? The default is no.
#[derive(Clone, Default)]
pub struct Cancel(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Cancel {
    /// Returns one that asks `question`.
    pub fn new(question: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Cancel(Some(Arc::new(question)))
    }

    /// Returns the answer.
    pub fn is_set(&self) -> bool {
        self.0.as_ref().is_some_and(|question| question())
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cancel({})", self.is_set())
    }
}

/// Sends requests. Cheap to clone; clones share connections. Use one from as many threads as you like.
#[derive(Clone)]
pub struct Agent {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub options: AgentOptions,
    trust: Trust,
    /// By what decides who may share a connection.
    agents: Mutex<HashMap<(Security, Option<String>), ureq::Agent>>,
}

impl Agent {
    /// Returns an agent. Certificates are read when the first connection needs them.
    pub fn new(options: AgentOptions) -> Self {
        let trust = Trust::new(options.roots.clone());
        Agent { shared: Arc::new(Shared { options, trust, agents: Mutex::default() }) }
    }

    /// Returns how it behaves.
    pub fn options(&self) -> &AgentOptions {
        &self.shared.options
    }

    /// Waits, but not for long once it is cancelled.
    ///
    /// # Errors
    /// [`NetError::Cancelled`].
    pub fn wait(&self, time: Duration) -> Result<(), NetError> {
        let end = Instant::now() + time;
        loop {
            if self.shared.options.cancel.is_set() {
                return Err(NetError::Cancelled);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }

    /// Returns the agent for a URL, and its proxy as it may be shown.
    pub(super) fn agent(&self, url: &Url, security: &Security) -> Result<(ureq::Agent, Option<String>), NetError> {
        let proxy = self.shared.options.proxies.for_url(url);
        let (parsed, shown) = match proxy {
            None => (None, None),
            Some(text) => {
                let parsed = ureq::Proxy::new(text).map_err(|_| NetError::BadProxy { host: host(url) })?;
                let shown = format!("{}:{}", parsed.host(), parsed.port());
                (Some(parsed), Some(shown))
            }
        };
        let key = (security.clone(), proxy.map(str::to_owned));
        let mut agents = self.shared.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&key) {
            return Ok((agent.clone(), shown));
        }
        let Timeouts { connect, answer, stall } = self.shared.options.timeouts;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .max_idle_connections_per_host(IDLE_PER_HOST)
            .max_idle_connections(4 * IDLE_PER_HOST)
            .proxy(parsed)
            .timeout_connect(Some(connect))
            .timeout_recv_response(Some(answer))
            .timeout_per_read(Some(stall))
            .timeout_per_write(Some(stall))
            .build();
        let tls = Tls(self.shared.trust.config(security)?);
        let connector =
            ().chain(SocksConnector::default())
                .chain(ConnectProxyConnector::default())
                .chain(TcpConnector::default())
                .chain(Patient(self.shared.options.cancel.clone()))
                .chain(tls);
        let agent = ureq::Agent::with_parts(config, connector, DefaultResolver::default());
        agents.insert(key, agent.clone());
        Ok((agent, shown))
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Agent({:?})", self.shared.options)
    }
}
