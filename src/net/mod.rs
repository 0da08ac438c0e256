//! HTTP for all who need it: registries, downloads of ADD, contexts.
//!
//! An [`Agent`] sends a [`Request`] and returns a [`Response`] whose body streams. It trusts the roots of the system, the
//! files that it was given, and where there are none those that are built in. It follows redirects itself, so that
//! credentials never go to another host; it tries again where that is sound; each of its waits has a bound; its errors name
//! host and path, and never a credential. What a status means is the caller's affair: see [`Response::success`].
//!
//! This room does not know what a registry is, reads no environment, and keeps nothing on disk.

mod agent;
mod error;
mod patient;
mod proxy;
mod request;
mod response;
mod retry;
mod send;
mod tls;

pub use agent::{Agent, AgentOptions, Cancel, Timeouts};
pub use error::{NetError, Wait};
pub use proxy::Proxies;
pub use request::{Body, Request};
pub use response::Response;
pub use retry::{Budget, RetryPolicy};
pub use tls::{ClientCertificate, Plain, Roots, Security, Verify};

pub use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
pub use url::Url;

#[cfg(test)]
mod tests;
