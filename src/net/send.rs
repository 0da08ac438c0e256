use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use ureq::http::{HeaderName, HeaderValue, Method, header};
use ureq::{Error, SendBody, Timeout};
use url::Url;

use super::agent::Agent;
use super::error::{NetError, Wait};
use super::request::{Body, Request, host, parse_url, place};
use super::response::Response;
use super::retry::transient;
use super::tls::{Plain, Security};

/// Redirects that are followed for one request.
const REDIRECTS: usize = 10;

/// From this length on, the peer is asked whether it wants the body before it is sent.
const LARGE: u64 = 1 << 20;

impl Agent {
    /// Sends a request, follows redirects, and tries again where the failure looks like a passing one. An answer of any
    /// status is an answer, also one that says after the last attempt that there are too many requests.
    ///
    /// # Errors
    /// [`NetError`], where there was none.
    pub fn send(&self, request: Request<'_>) -> Result<Response, NetError> {
        let policy = &self.options().retry;
        loop {
            let result = self.attempt(&request);
            let asked = match &result {
                Ok(response) if !transient(response.status) => return result,
                Ok(response) => response.retry_after(),
                Err(error) if !error.is_transient() => return result,
                Err(_) => None,
            };
            if !request.repeatable {
                return result;
            }
            let Some(wait) = request.budget.spend(policy, asked) else { return result };
            drop(result);
            self.wait(wait)?;
        }
    }

    /// Sends a request once, and follows redirects.
    fn attempt(&self, request: &Request<'_>) -> Result<Response, NetError> {
        let mut headers = request.checked_headers()?;
        let mut security = Arc::clone(&request.security);
        let (mut method, mut url) = (request.method.clone(), request.url.clone());
        let mut body = request.body.clone();
        take_credentials(&mut url, &mut headers);
        for _ in 0..=REDIRECTS {
            let response = self.exchange(&method, &url, &headers, &body, &security)?;
            let Some(next) = redirect(request, &method, &response)? else { return Ok(response) };
            let drops_body = response.status == 303 && method != Method::HEAD;
            if next.origin() != url.origin() {
                if body.len() > 0 && !drops_body && !request.body_travels {
                    let reason = format!("what was sent is not for {}", host(&next));
                    return Err(NetError::BadRedirect { place: place(&url), reason });
                }
                headers.retain(|(name, _)| {
                    ![header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION].contains(name)
                });
                if security.client.is_some() {
                    security = Arc::new(Security { client: None, ..Security::clone(&security) });
                }
            }
            if drops_body {
                (method, body) = (Method::GET, Body::Empty);
            }
            url = next;
        }
        Err(NetError::TooManyRedirects { place: place(&request.url), limit: REDIRECTS })
    }

    fn exchange(
        &self,
        method: &Method,
        url: &Url,
        headers: &[(HeaderName, HeaderValue)],
        body: &Body<'_>,
        security: &Security,
    ) -> Result<Response, NetError> {
        let cancel = &self.options().cancel;
        if cancel.is_set() {
            return Err(NetError::Cancelled);
        }
        if url.scheme() != "https" && security.plain == Plain::Refused {
            return Err(NetError::PlainRefused { host: host(url) });
        }
        let (agent, proxy) = self.agent(url, security)?;
        let mut builder = ureq::http::Request::builder().method(method).uri(url.as_str());
        for (name, value) in headers {
            let mut value = value.clone();
            value.set_sensitive(*name == header::AUTHORIZATION);
            builder = builder.header(name, value);
        }
        let sends = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
        if sends && body.len() >= LARGE {
            builder = builder.header(header::EXPECT, "100-continue");
        }
        let bad = |error: ureq::http::Error| NetError::BadUrl { url: place(url), reason: error.to_string() };
        let stall = self.options().timeouts.stall;
        let mut broken_source = None;
        let result = match body {
            Body::Empty if !sends => agent.run(builder.body(()).map_err(bad)?),
            Body::Empty => agent.run(builder.body(&[][..]).map_err(bad)?),
            Body::Bytes(bytes) => agent.run(builder.body(*bytes).map_err(bad)?),
            Body::Stream { length, open } => {
                let inner = open().map_err(|source| NetError::Source { place: place(url), source })?;
                let mut source = Source { inner, left: *length, failed: &mut broken_source };
                let builder = builder.header(header::CONTENT_LENGTH, *length);
                agent.run(builder.body(SendBody::from_reader(&mut source)).map_err(bad)?)
            }
        };
        if let Some(source) = broken_source {
            return Err(NetError::Source { place: place(url), source });
        }
        let response = result.map_err(|error| self.failed(error, url, proxy.as_deref()))?;
        let (parts, body) = response.into_parts();
        Ok(Response {
            method: method.clone(),
            status: parts.status.as_u16(),
            headers: parts.headers,
            url: url.clone(),
            body: Box::new(body.into_reader()),
            stall,
            cancel: cancel.clone(),
            waited: Duration::ZERO,
            came: 0,
        })
    }

    fn failed(&self, error: Error, url: &Url, proxy: Option<&str>) -> NetError {
        let timeouts = self.options().timeouts;
        let (wait, after) = match &error {
            Error::Timeout(Timeout::Connect | Timeout::Resolve) => (Wait::Connect, timeouts.connect),
            Error::Timeout(Timeout::RecvResponse) => (Wait::Answer, timeouts.answer),
            _ => (Wait::Data, timeouts.stall),
        };
        failed(error, url, proxy, wait, after)
    }
}

/// Returns where a redirect leads to; `None` where the response is to be taken as it is.
fn redirect(request: &Request<'_>, method: &Method, response: &Response) -> Result<Option<Url>, NetError> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let follows = match response.status {
        301 | 302 => reads,
        303 | 307 | 308 => true,
        _ => false,
    };
    if !follows || !request.follow {
        return Ok(None);
    }
    let nowhere = |reason: String| NetError::BadRedirect { place: place(&response.url), reason };
    let Some(location) = response.header("location") else { return Err(nowhere("it has no Location".into())) };
    let next = response.url.join(location).map_err(|error| nowhere(error.to_string()))?;
    if !matches!(next.scheme(), "http" | "https") {
        return Err(nowhere(format!("it leads to {}:", next.scheme())));
    }
    let mut next = next;
    // What a stranger puts there is not ours to use.
    let _ = next.set_username("").and(next.set_password(None));
    Ok(Some(parse_url(next.as_str())?))
}

/// Moves the credentials of a URL into a header, where there is none yet.
fn take_credentials(url: &mut Url, headers: &mut Vec<(HeaderName, HeaderValue)>) {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    if url.username().is_empty() && url.password().is_none() {
        return;
    }
    let decoded = |text: &str| percent_decoded(text);
    let pair = [decoded(url.username()), decoded(url.password().unwrap_or_default())].join(&b':');
    let value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)));
    if let (Ok(value), false) = (value, headers.iter().any(|(name, _)| *name == header::AUTHORIZATION)) {
        headers.push((header::AUTHORIZATION, value));
    }
    let _ = url.set_username("").and(url.set_password(None));
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) if first == b'%' => {
                out.push(byte);
                rest = &after[2..];
            }
            _ => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

/// Gives exactly as many bytes as were promised, and keeps why it cannot.
struct Source<'a> {
    inner: Box<dyn Read + Send + 'a>,
    left: u64,
    failed: &'a mut Option<io::Error>,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let result = loop {
            match self.inner.read(&mut buffer[..most]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) => break Err(io::ErrorKind::UnexpectedEof.into()),
                other => break other,
            }
        };
        match result {
            Ok(length) => {
                self.left -= length as u64;
                Ok(length)
            }
            Err(error) => {
                let kind = error.kind();
                *self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
}

/// Returns what an error of ureq means for us.
pub(super) fn failed(error: Error, url: &Url, proxy: Option<&str>, wait: Wait, after: Duration) -> NetError {
    let (host, place) = (host(url), place(url));
    match error {
        Error::HostNotFound => NetError::NoSuchHost { host, source: None },
        Error::Io(source) => of_io(source, host, place),
        Error::Timeout(_) => NetError::Timeout { place, wait, after },
        Error::Rustls(source) => NetError::Tls { host, source },
        Error::Tls(reason) => NetError::Tls { host, source: rustls::Error::General(reason.into()) },
        Error::ConnectProxyFailed(reason) => NetError::Proxy { proxy: proxy.unwrap_or_default().into(), host, reason },
        Error::Other(error) => match error.downcast::<NetError>() {
            Ok(error) => *error,
            Err(error) => NetError::Protocol { place, reason: error.to_string() },
        },
        Error::BodyStalled => NetError::Broken { place, source: io::ErrorKind::UnexpectedEof.into() },
        other => NetError::Protocol { place, reason: other.to_string() },
    }
}

fn of_io(error: io::Error, host: String, place: String) -> NetError {
    use io::ErrorKind::*;
    let error = match error.downcast::<rustls::Error>() {
        Ok(source) => return NetError::Tls { host, source },
        Err(error) => error,
    };
    match error.kind() {
        ConnectionRefused | HostUnreachable | NetworkUnreachable | NetworkDown | AddrNotAvailable
        | PermissionDenied => NetError::Connect { host, source: error },
        // The standard library has no kind for what the resolver says.
        _ if error.to_string().contains("failed to lookup address") => {
            NetError::NoSuchHost { host, source: Some(error) }
        }
        _ => NetError::Broken { place, source: error },
    }
}
