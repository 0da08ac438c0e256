use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use ureq::http::{HeaderName, HeaderValue, Method};
use url::Url;

use super::error::NetError;
use super::retry::Budget;
use super::tls::Security;

/// What is asked for. Without a [`security`](Request::security) only https is spoken, and certificates are checked.
#[derive(Clone)]
pub struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    /// Checked when it is sent, so that building a request cannot fail.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body<'a>,
    pub(super) security: Arc<Security>,
    pub(super) follow: bool,
    pub(super) repeatable: bool,
    /// Whether the body goes to wherever a redirect leads.
    pub(super) body_travels: bool,
    pub(super) budget: Budget,
}

/// What is sent with a request.
#[derive(Clone, Default)]
pub enum Body<'a> {
    /// Nothing.
    #[default]
    Empty,
    /// These bytes.
    Bytes(&'a [u8]),
    /// What a reader gives. It is opened again for each attempt, and for a redirect.
    Stream {
        /// Its length in bytes. It must give exactly as many.
        length: u64,
        /// Opens it from its start.
        open: &'a (dyn Fn() -> io::Result<Box<dyn Read + Send + 'a>> + Sync),
    },
}

impl fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.len())
    }
}

impl Body<'_> {
    pub(super) fn len(&self) -> u64 {
        match self {
            Body::Empty => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Stream { length, .. } => *length,
        }
    }
}

impl<'a> Request<'a> {
    /// Returns a request without headers and body.
    pub fn new(method: Method, url: Url) -> Self {
        let repeatable = matches!(method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE);
        Request {
            method,
            url,
            headers: Vec::new(),
            body: Body::Empty,
            security: Arc::default(),
            follow: true,
            repeatable,
            body_travels: false,
            budget: Budget::default(),
        }
    }

    /// Returns a GET request for the text of a URL.
    ///
    /// # Errors
    /// [`NetError::BadUrl`] where it is none with a host.
    pub fn get(url: &str) -> Result<Self, NetError> {
        Ok(Request::new(Method::GET, parse_url(url)?))
    }

    /// Returns the URL that is asked for.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Adds a header. Authorization and Cookie are left out once a redirect leads to another host.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body. It is for the host that is asked, unless [`body_may_travel`](Self::body_may_travel) says otherwise.
    #[must_use]
    pub fn body(mut self, body: Body<'a>) -> Self {
        self.body = body;
        self
    }

    /// Sets what is demanded of the connection. On a redirect to another host the client certificate is left out.
    #[must_use]
    pub fn security(mut self, security: Arc<Security>) -> Self {
        self.security = security;
        self
    }

    /// Sends the body to another host too, where a redirect leads to one: there is nothing in it that is for the first alone. Without this
    /// such a redirect is an error.
    #[must_use]
    pub fn body_may_travel(mut self) -> Self {
        self.body_travels = true;
        self
    }

    /// Has its retries in common with all that has this budget. Without one, a request and its clones have one of their own.
    #[must_use]
    pub fn budget(mut self, budget: &Budget) -> Self {
        self.budget = budget.clone();
        self
    }

    /// Returns what it has its retries in common with.
    pub fn shared_budget(&self) -> &Budget {
        &self.budget
    }

    /// Returns redirects as they are.
    #[must_use]
    pub fn without_redirects(mut self) -> Self {
        self.follow = false;
        self
    }

    /// Sends it once, whatever happens: the caller knows what to do then.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.repeatable = false;
        self
    }

    /// Sends it again after a failure although its method does not promise that this is sound. GET, HEAD, PUT and DELETE
    /// are sent again without this.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    pub(super) fn checked_headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, NetError> {
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let bad = || NetError::BadHeader { name: name.clone(), host: host(&self.url) };
            let value = HeaderValue::from_str(value).map_err(|_| bad())?;
            headers.push((HeaderName::try_from(name.as_str()).map_err(|_| bad())?, value));
        }
        Ok(headers)
    }
}

impl fmt::Debug for Request<'_> {
    /// Shows no header, since some are secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {}, {} bytes)", self.method, place(&self.url), self.body.len())
    }
}

/// Returns the URL of a text.
pub(super) fn parse_url(text: &str) -> Result<Url, NetError> {
    let bad = |reason: &str| NetError::BadUrl { url: without_secrets(text), reason: reason.into() };
    let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("it is neither http nor https"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad("it has no host"));
    }
    Ok(url)
}

/// Returns host and port, the port only where it is not the usual one.
pub(super) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.into(),
    }
}

/// Returns host and path: what errors may name. A query may hold a signature, what stands before the host a password.
pub(super) fn place(url: &Url) -> String {
    let path = url.path();
    let mut place = format!("{}{path}", host(url));
    if place.len() > 300 {
        let end = (0..=300).rev().find(|at| place.is_char_boundary(*at)).unwrap_or(0);
        place.truncate(end);
        place.push('…');
    }
    place
}

/// Cuts what stands before an `@` and after a `?` of something that is not even a URL.
fn without_secrets(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        (None, Some((_, rest))) => rest.into(),
        _ => text.into(),
    }
}
