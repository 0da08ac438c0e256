use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::RegistryError;
use super::challenge::{Challenge, challenges};
use super::client::{for_others, is_this_machine};
use crate::config::{Credentials, Secret};
use crate::net::{Agent, Body, Budget, Method, Plain, Request, Response, Security, Url};

/// The largest answer of a token server.
const MAX_TOKEN: u64 = 1 << 20;
/// A token is not used any longer when it has less than this to live.
const NEARLY_OVER: Duration = Duration::from_secs(5);
/// How long a token lives that does not say so (distribution-spec, token authentication).
const LIFETIME: u64 = 60;

/// One repository of a registry, and who we are to it.
pub(super) struct Session {
    pub agent: Agent,
    /// The root of the registry.
    pub base: Url,
    pub security: Arc<Security>,
    /// What is demanded of a token server that is another host.
    pub elsewhere: Elsewhere,
    pub repository: String,
    pub credentials: Option<Credentials>,
    /// What the registry has asked for, and the tokens that were got, by what they are good for.
    pub known: Mutex<Known>,
}

/// What is demanded of a token server that is another host than its registry: it is shown a password.
pub(super) enum Elsewhere {
    /// What is demanded of the registry.
    Same,
    /// This, but of these hosts and of this machine only what is demanded of the registry.
    Strict { security: Arc<Security>, but: Arc<BTreeSet<String>> },
}

#[derive(Default)]
pub(super) struct Known {
    basic: bool,
    tokens: HashMap<String, Token>,
}

struct Token {
    text: Secret,
    until: Instant,
}

/// What a request needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Access {
    /// To read the repository.
    Pull,
    /// To write it.
    Push,
    /// To write it, and to read another repository, which blobs are mounted from.
    Mount(String),
    /// Nothing but to be known.
    Anything,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

impl Session {
    /// Returns host and repository, for messages.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host(), self.repository)
    }

    /// Returns the host with its port.
    pub fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        self.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Returns the URL of something in the repository: "manifests/latest".
    pub fn url(&self, path: &str) -> Url {
        self.base.join(&format!("v2/{}/{path}", self.repository)).unwrap_or_else(|_| self.base.clone())
    }

    /// Returns a request for a URL of this registry.
    pub fn request<'a>(&self, method: Method, url: Url) -> Request<'a> {
        Request::new(method, url).security(Arc::clone(&self.security))
    }

    /// Sends a request with what the registry wants to see of us. A token that has run out is replaced, once.
    pub fn send(&self, request: &Request<'_>, access: &Access) -> Result<Response, RegistryError> {
        if request.url().origin() != self.base.origin() {
            // An upload may go somewhere else: nobody there needs to know who we are.
            return Ok(self.agent.send(request.clone().security(for_others(&self.security)))?);
        }
        let scopes = self.scopes(access);
        let mut authorization = self.authorization(&scopes);
        let mut again = true;
        loop {
            let known = authorization.is_some();
            let attempt = match authorization {
                Some(value) => request.clone().header("Authorization", value),
                None => request.clone(),
            };
            let response = self.agent.send(attempt)?;
            if response.status() != 401 {
                return Ok(response);
            }
            if response.url().origin() != self.base.origin() {
                // Where a redirect led to. What is asked there is no question of the registry, and not answered.
                return Err(response.into_error().into());
            }
            // What did not work is not tried a second time; but the first try may have been with a token that is over.
            if !again {
                return Err(self.unauthorized(Some(response), known));
            }
            authorization = self.answer(response, &scopes, request.shared_budget())?;
            again = false;
        }
    }

    /// Returns what is demanded of the token server at `url`. That the registry need not be secure says nothing about others.
    fn security_of(&self, url: &Url) -> Arc<Security> {
        let host = url.host_str().unwrap_or_default();
        let name = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        match &self.elsewhere {
            _ if url.origin() == self.base.origin() => Arc::clone(&self.security),
            Elsewhere::Strict { security, but } if !but.contains(&name) && !is_this_machine(host) => {
                Arc::clone(security)
            }
            _ => for_others(&self.security),
        }
    }

    fn unauthorized(&self, response: Option<Response>, known: bool) -> RegistryError {
        let source = response.map(Response::into_error);
        let known = known && self.credentials.is_some();
        RegistryError::Unauthorized { registry: self.name(), known, source }
    }

    fn scopes(&self, access: &Access) -> Vec<String> {
        let pull = |repository: &str| format!("repository:{repository}:pull");
        match access {
            Access::Pull => vec![pull(&self.repository)],
            Access::Push => vec![format!("repository:{}:pull,push", self.repository)],
            Access::Anything => Vec::new(),
            Access::Mount(from) => vec![format!("repository:{}:pull,push", self.repository), pull(from)],
        }
    }

    /// Returns the header that is known to be needed.
    fn authorization(&self, scopes: &[String]) -> Option<String> {
        if let Some(Credentials::Bearer(token)) = &self.credentials {
            return Some(format!("Bearer {}", token.reveal()));
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.basic {
            return self.basic();
        }
        let token = known.tokens.get(&scopes.join(" "))?;
        (token.until > Instant::now() + NEARLY_OVER).then(|| format!("Bearer {}", token.text.reveal()))
    }

    fn basic(&self) -> Option<String> {
        match &self.credentials {
            Some(Credentials::Basic { user, password }) => {
                Some(format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.reveal()))))
            }
            _ => None,
        }
    }

    /// Returns the header that a 401 asks for.
    fn answer(&self, response: Response, scopes: &[String], budget: &Budget) -> Result<Option<String>, RegistryError> {
        let values = response.headers().get_all("www-authenticate");
        let asked: Vec<Challenge> =
            values.iter().filter_map(|value| value.to_str().ok()).flat_map(challenges).collect();
        for challenge in &asked {
            match challenge {
                Challenge::Bearer { realm, service, scope } => {
                    let mut scopes = scopes.to_vec();
                    let key = scopes.join(" ");
                    let more = scope.iter().filter(|scope| !covered(&scopes, scope)).cloned();
                    scopes.extend(more.collect::<Vec<_>>());
                    let token = self.token(realm, service.as_deref(), &scopes, budget)?;
                    let header = format!("Bearer {}", token.text.reveal());
                    self.known.lock().unwrap_or_else(PoisonError::into_inner).tokens.insert(key, token);
                    return Ok(Some(header));
                }
                Challenge::Basic => {
                    if let Some(header) = self.basic() {
                        self.known.lock().unwrap_or_else(PoisonError::into_inner).basic = true;
                        return Ok(Some(header));
                    }
                }
            }
        }
        if asked.is_empty() {
            let reason = "there is neither Basic nor Bearer in it".into();
            return Err(RegistryError::Challenge { host: self.host(), reason });
        }
        Err(self.unauthorized(Some(response), false))
    }

    /// Gets a token for these scopes.
    fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scopes: &[String],
        budget: &Budget,
    ) -> Result<Token, RegistryError> {
        let bad = |reason: &str| RegistryError::Challenge { host: self.host(), reason: reason.into() };
        let mut url = self.base.join(realm).map_err(|_| bad("its realm is no URL"))?;
        let security = self.security_of(&url);
        if url.scheme() != "https" && security.plain == Plain::Refused {
            return Err(bad("its realm is not encrypted"));
        }
        let form;
        let request = if let Some(Credentials::Identity(token)) = &self.credentials {
            let mut pairs = url::form_urlencoded::Serializer::new(String::new());
            pairs.append_pair("grant_type", "refresh_token").append_pair("client_id", "coracle");
            pairs.append_pair("refresh_token", token.reveal()).append_pair("scope", &scopes.join(" "));
            if let Some(service) = service {
                pairs.append_pair("service", service);
            }
            form = pairs.finish().into_bytes();
            Request::new(Method::POST, url)
                .header("Content-Type", "application/x-www-form-urlencoded")
                .body(Body::Bytes(&form))
                .repeatable()
        } else {
            {
                let mut pairs = url.query_pairs_mut();
                if let Some(service) = service {
                    pairs.append_pair("service", service);
                }
                for scope in scopes {
                    pairs.append_pair("scope", scope);
                }
            }
            let request = Request::new(Method::GET, url);
            match self.basic() {
                Some(header) => request.header("Authorization", header),
                None => request,
            }
        };
        let asked = Instant::now();
        let response = self.agent.send(request.security(security).budget(budget))?;
        if matches!(response.status(), 400 | 401 | 403) {
            return Err(self.unauthorized(Some(response), true));
        }
        let bytes = response.success()?.bytes(MAX_TOKEN)?;
        let answer: Answer =
            serde_json::from_slice(&bytes).map_err(|_| bad("its token server does not answer with a token"))?;
        let text = if answer.token.is_empty() { answer.access_token } else { answer.token };
        if text.is_empty() {
            return Err(bad("its token server answers without a token"));
        }
        let lifetime = Duration::from_secs(answer.expires_in.unwrap_or(LIFETIME).min(24 * 3600));
        Ok(Token { text: Secret::new(text), until: asked + lifetime })
    }
}

/// Whether a scope is part of those that are asked for anyway.
fn covered(scopes: &[String], scope: &str) -> bool {
    let Some((name, actions)) = scope.rsplit_once(':') else { return false };
    scopes.iter().any(|own| {
        own.rsplit_once(':').is_some_and(|(own_name, own_actions)| {
            own_name == name && actions.split(',').all(|action| own_actions.split(',').any(|own| own == action))
        })
    })
}
