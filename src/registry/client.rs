use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::RegistryError;
use super::repository::Repository;
use super::session::{Elsewhere, Known, Session};
use crate::config::{Auth, Credentials, Endpoint, GivenCredentials, Places, Policy, Reach, Registries, security};
use crate::net::{Agent, Method, NetError, Plain, Request, Security, Url, Verify};
use crate::oci::Reference;

/// Docker Hub is called docker.io, and answers as this.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// How long a host is waited for to speak TLS that need not: it may speak plain HTTP, and wait for more of that.
const PATIENCE: Duration = Duration::from_secs(10);
/// As [`PATIENCE`], for this machine itself.
const OWN_PATIENCE: Duration = Duration::from_secs(2);

/// How a [`Client`] behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientOptions {
    /// Whether certificates are checked.
    pub tls: TlsCheck,
    /// Blobs that are transferred at the same time; 0 for the usual number.
    pub parallel: usize,
}

/// Whether the certificates of registries are checked (--tls-verify).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsCheck {
    /// As registries.conf says; else they are, but not for this machine itself.
    #[default]
    AsConfigured,
    /// They are.
    Always,
    /// They are not, and registries without TLS will do.
    Never,
}

/// Finds images in registries, as the user's files say.
pub struct Client {
    pub(super) agent: Agent,
    pub(super) options: ClientOptions,
    places: Places,
    auth: Auth,
    registries: Registries,
    policy: Policy,
    /// Hosts that need not be secure.
    insecure: Arc<BTreeSet<String>>,
    /// How a host is reached, once that is known.
    hosts: Mutex<HashMap<(String, bool), Host>>,
    /// Who we are to a repository. Asked for once: a helper may open a window.
    credentials: Mutex<HashMap<String, Option<Credentials>>>,
}

#[derive(Clone)]
struct Host {
    base: Url,
    security: Arc<Security>,
    /// What is demanded of a token server elsewhere that need be secure.
    strict: Arc<Security>,
}

impl Client {
    /// Reads the user's files.
    ///
    /// # Errors
    /// [`RegistryError::Config`] where one of them cannot be used.
    pub fn new(
        agent: Agent,
        places: Places,
        given: Option<GivenCredentials>,
        options: ClientOptions,
    ) -> Result<Self, RegistryError> {
        let (registries, policy) = (Registries::load(&places)?, Policy::load(&places)?);
        let auth = match given {
            Some(GivenCredentials { credentials, images }) => {
                Auth::given(credentials, registries.trusted(&images), &places)
            }
            None => Auth::load(&places)?,
        };
        let insecure = Arc::new(registries.insecure());
        let (hosts, credentials) = (Mutex::default(), Mutex::default());
        Ok(Client { agent, options, places, auth, registries, policy, insecure, hosts, credentials })
    }

    /// Returns what a name as the user wrote it may mean, in the order in which it is to be tried.
    ///
    /// # Errors
    /// [`RegistryError::Config`] where the user's files leave it open.
    pub fn candidates(&self, text: &str, reference: &Reference) -> Result<Vec<Reference>, RegistryError> {
        Ok(self.registries.candidates(text, reference)?)
    }

    /// Returns the places where an image may be had from, checked against the policy.
    ///
    /// # Errors
    /// [`RegistryError::Config`] where it is blocked or rejected.
    pub fn sources(&self, reference: &Reference) -> Result<Vec<Endpoint>, RegistryError> {
        self.policy.check(reference)?;
        Ok(self.registries.sources(reference)?)
    }

    /// Returns the repository that an image is pushed to, with the name that it has there.
    ///
    /// # Errors
    /// [`RegistryError`] where it is blocked, or cannot be reached.
    pub fn target(&self, reference: &Reference) -> Result<(Repository, Reference), RegistryError> {
        let endpoint = self.registries.target(reference)?;
        Ok((self.repository(&endpoint)?, endpoint.reference))
    }

    /// Looks up who we are to the registry that an image is pushed to, so that this need not be done later.
    ///
    /// # Errors
    /// [`RegistryError::Config`].
    pub fn prepare_target(&self, reference: &Reference) -> Result<(), RegistryError> {
        let endpoint = self.registries.target(reference)?;
        self.credentials(&endpoint.reference).map(drop)
    }

    /// Returns the repository of an endpoint. A host about which it is not known is asked whether it speaks TLS.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn repository(&self, endpoint: &Endpoint) -> Result<Repository, RegistryError> {
        let reference = &endpoint.reference;
        let host = self.host(reference.registry(), endpoint.reach)?;
        let credentials = self.credentials(reference)?;
        Ok(Repository { session: self.session(host, reference.repository().to_owned(), credentials) })
    }

    fn session(&self, host: Host, repository: String, credentials: Option<Credentials>) -> Session {
        let elsewhere = match self.options.tls {
            TlsCheck::Never => Elsewhere::Same,
            _ => Elsewhere::Strict { security: host.strict, but: Arc::clone(&self.insecure) },
        };
        let (agent, known) = (self.agent.clone(), Mutex::new(Known::default()));
        Session { agent, base: host.base, security: host.security, elsewhere, repository, credentials, known }
    }

    /// Returns the host as which a registry answers.
    pub fn host_of(registry: &str) -> &str {
        if registry == "docker.io" { DOCKER_HUB } else { registry }
    }

    /// Asks a registry whether it accepts these credentials.
    ///
    /// # Errors
    /// [`RegistryError::Unauthorized`] where it does not.
    pub fn check_login(&self, registry: &str, credentials: Credentials) -> Result<(), RegistryError> {
        let host = self.host(registry.split('/').next().unwrap_or(registry), Reach::Unsaid)?;
        let url = host.base.join("v2/").unwrap_or_else(|_| host.base.clone());
        self.session(host, String::new(), Some(credentials)).check(url)
    }

    fn credentials(&self, reference: &Reference) -> Result<Option<Credentials>, RegistryError> {
        let mut known = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&reference.name()) {
            return Ok(found.clone());
        }
        let found = self.auth.of(reference.registry(), reference.repository())?;
        known.insert(reference.name(), found.clone());
        Ok(found)
    }

    fn host(&self, registry: &str, reach: Reach) -> Result<Host, RegistryError> {
        let lax = match (self.options.tls, reach) {
            (TlsCheck::Always, _) | (TlsCheck::AsConfigured, Reach::Secure) => false,
            (TlsCheck::Never, _) | (TlsCheck::AsConfigured, Reach::Insecure) => true,
            (TlsCheck::AsConfigured, Reach::Unsaid) => is_this_machine(registry),
        };
        let key = (registry.to_owned(), lax);
        if let Some(host) = self.hosts.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(host.clone());
        }
        let host = if lax { self.lax(registry)? } else { self.strict(registry)? };
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(key, host.clone());
        Ok(host)
    }

    fn strict(&self, registry: &str) -> Result<Host, RegistryError> {
        let security = Arc::new(security(&self.places, registry)?);
        Ok(Host { base: base("https", registry)?, strict: for_others(&security), security })
    }

    /// Finds out what a host speaks that need not be secure: TLS if it does, for which any certificate will do.
    fn lax(&self, registry: &str) -> Result<Host, RegistryError> {
        let own = security(&self.places, registry)?;
        let strict = for_others(&Arc::new(own.clone()));
        let security = Arc::new(Security { verify: Verify::Skipped, plain: Plain::Allowed, ..own });
        let patience = if is_this_machine(registry) { OWN_PATIENCE } else { PATIENCE };
        let mut options = self.agent.options().clone();
        options.timeouts.connect = options.timeouts.connect.min(patience);
        let impatient = Agent::new(options);
        let ask = |agent: &Agent, scheme| -> Result<Host, NetError> {
            let base = base(scheme, registry)?;
            let url = base.join("v2/").unwrap_or_else(|_| base.clone());
            let request = Request::new(Method::GET, url).security(Arc::clone(&security)).once();
            let [security, strict] = [&security, &strict].map(Arc::clone);
            agent.send(request).map(|_| Host { base, security, strict })
        };
        let with_tls = match ask(&impatient, "https") {
            Ok(host) => return Ok(host),
            Err(NetError::Cancelled) => return Err(NetError::Cancelled.into()),
            Err(error) => error,
        };
        match ask(&self.agent, "http") {
            Ok(host) => Ok(host),
            // Nobody is there at all, or not now: the request itself will tell, and be tried again.
            Err(error) if error.is_transient() => Ok(Host { base: base("http", registry)?, security, strict }),
            Err(_) => Err(with_tls.into()),
        }
    }
}

impl Session {
    fn check(&self, url: Url) -> Result<(), RegistryError> {
        let request = self.request(Method::GET, url);
        let response = self.send(&request, &super::session::Access::Anything)?;
        match response.status() {
            // Some have no such page, and say so only to those whom they know.
            200..300 | 404 => Ok(()),
            _ => Err(response.into_error().into()),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?})", self.options)
    }
}

fn base(scheme: &str, registry: &str) -> Result<Url, NetError> {
    let host = Client::host_of(registry);
    let text = format!("{scheme}://{host}/");
    Url::parse(&text).map_err(|error| NetError::BadUrl { url: text, reason: error.to_string() })
}

/// What is demanded of other hosts that a registry names: the same, but a client certificate is for the registry only.
pub(super) fn for_others(security: &Arc<Security>) -> Arc<Security> {
    match security.client {
        None => Arc::clone(security),
        Some(_) => Arc::new(Security { client: None, ..Security::clone(security) }),
    }
}

/// As docker has it: what does not leave the machine need not be encrypted.
pub(super) fn is_this_machine(registry: &str) -> bool {
    use std::net::{Ipv4Addr, Ipv6Addr};
    if let Some(v6) = registry.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
        return v6.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback());
    }
    let host = registry.split(':').next().unwrap_or(registry);
    host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_this_machine;

    #[test]
    fn this_machine_need_not_be_secure() {
        for here in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"] {
            assert!(is_this_machine(here), "{here}");
        }
        for there in ["localhost.example", "10.0.0.1", "128.0.0.1:5000", "docker.io", "[fd00::1]:5000"] {
            assert!(!is_this_machine(there), "{there}");
        }
    }
}
