use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A request failed, or its answer cannot be used. No text of it holds a credential: places are host and path only.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The text is no URL that can be asked for.
    #[error("{url:?} is no URL that can be fetched: {reason}")]
    BadUrl {
        /// The URL, without credentials.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A header cannot be sent.
    #[error("the header {name} for {host} holds characters that cannot be sent")]
    BadHeader {
        /// The name of the header, not its value.
        name: String,
        /// The host.
        host: String,
    },
    /// Plain HTTP was asked for, and is not allowed for this host.
    #[error("{host} would be asked without encryption, which is not allowed")]
    PlainRefused {
        /// The host.
        host: String,
    },
    /// The name of the host has no address.
    #[error("there is no host {host}")]
    NoSuchHost {
        /// The host.
        host: String,
        /// What the resolver said.
        #[source]
        source: Option<io::Error>,
    },
    /// Nobody answers at the address.
    #[error("cannot connect to {host}")]
    Connect {
        /// The host.
        host: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The proxy does not let us through.
    #[error("the proxy {proxy} does not connect to {host}: {reason}")]
    Proxy {
        /// The proxy, without credentials.
        proxy: String,
        /// Where we wanted to go.
        host: String,
        /// What it said.
        reason: String,
    },
    /// The text of a proxy setting is no URL of a proxy.
    #[error("the proxy that is set for {host} is no URL of a proxy")]
    BadProxy {
        /// The host that should have been asked through it.
        host: String,
    },
    /// The host is not who it says, or speaks no TLS.
    #[error("no trusted connection to {host}")]
    Tls {
        /// The host.
        host: String,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// A file of certificates or keys cannot be used.
    #[error("cannot use the certificate file {path}: {reason}", path = path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The peer was silent for too long.
    #[error("{place}: {wait} took longer than {after:?}")]
    Timeout {
        /// Host and path.
        place: String,
        /// What was waited for.
        wait: Wait,
        /// The limit.
        after: Duration,
    },
    /// The connection broke.
    #[error("{place}: the connection broke")]
    Broken {
        /// Host and path.
        place: String,
        /// How.
        #[source]
        source: io::Error,
    },
    /// What came is no HTTP.
    #[error("{place}: the answer is not HTTP: {reason}")]
    Protocol {
        /// Host and path.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The peer answered, but not what was wanted.
    #[error("{method} {place}: {status}{detail}", status = status_text(*status))]
    Status {
        /// The method.
        method: String,
        /// Host and path.
        place: String,
        /// The status.
        status: u16,
        /// What else the answer says: empty, or ": " and a text.
        detail: String,
    },
    /// One redirect led to the next.
    #[error("{place}: more than {limit} redirects")]
    TooManyRedirects {
        /// Host and path of the first request.
        place: String,
        /// The limit.
        limit: usize,
    },
    /// A redirect has no place to go to.
    #[error("{place}: the redirect leads nowhere: {reason}")]
    BadRedirect {
        /// Host and path of the request.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// A body that should have been small is not.
    #[error("{place}: the answer is larger than {limit} bytes")]
    TooLarge {
        /// Host and path.
        place: String,
        /// The limit.
        limit: u64,
    },
    /// What was to be sent cannot be read.
    #[error("{place}: cannot read what is to be sent")]
    Source {
        /// Host and path.
        place: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The user does not want to wait any longer.
    #[error("interrupted")]
    Cancelled,
}

/// What was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// A connection, with all that belongs to it.
    Connect,
    /// The head of the answer.
    Answer,
    /// The next bytes, either way.
    Data,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wait::Connect => "connecting",
            Wait::Answer => "waiting for an answer",
            Wait::Data => "waiting for the next bytes",
        })
    }
}

impl NetError {
    /// Returns whether the same request may well work a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            NetError::NoSuchHost { source, .. } => source.as_ref().is_some_and(|error| {
                // The resolver of the C library has no other way to say EAI_AGAIN through the standard library.
                error.to_string().contains("emporary failure")
            }),
            NetError::Connect { source, .. } => source.kind() != io::ErrorKind::PermissionDenied,
            NetError::Proxy { .. } | NetError::Timeout { .. } | NetError::Broken { .. } => true,
            NetError::Status { status, .. } => super::retry::transient(*status),
            _ => false,
        }
    }

    /// Returns the status, where the peer answered with one.
    pub fn status(&self) -> Option<u16> {
        match self {
            NetError::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Returns whether the host speaks something else than TLS on this port: plain HTTP, most likely.
    pub fn is_not_tls(&self) -> bool {
        match self {
            NetError::Tls { source, .. } => {
                matches!(source, rustls::Error::InvalidMessage(_) | rustls::Error::DecryptError)
            }
            _ => false,
        }
    }

    /// Returns this error as one of reading a body.
    pub(super) fn into_io(self) -> io::Error {
        let kind = match &self {
            NetError::Timeout { .. } => io::ErrorKind::TimedOut,
            NetError::Broken { source, .. } => source.kind(),
            NetError::Cancelled => io::ErrorKind::Interrupted,
            _ => io::ErrorKind::Other,
        };
        // `Read` users try again after `Interrupted`.
        let kind = if kind == io::ErrorKind::Interrupted { io::ErrorKind::Other } else { kind };
        io::Error::new(kind, self)
    }

    /// Returns the error of this room that reading or copying a body ended with; anything else comes back as it is.
    pub fn from_io(error: io::Error) -> Result<NetError, io::Error> {
        error.downcast::<NetError>()
    }
}

fn status_text(status: u16) -> String {
    let reason = ureq::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    match reason {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    }
}
