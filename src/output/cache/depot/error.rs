use std::time::Duration;

use crate::net::NetError;
use crate::oci::Digest;
use crate::store::StoreError;

/// A cache in a service could not be read or written. No text of it holds a credential.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DepotError {
    /// The service, or the way there.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The service does not do what it was asked for.
    #[error("{place} refuses: {said} ({status}){}", advised(advice))]
    Refused {
        /// The bucket or service.
        place: String,
        /// The status.
        status: u16,
        /// What it said: its word for it, and a text.
        said: String,
        /// What to do; may be empty.
        advice: String,
    },
    /// Nothing says who we are.
    #[error("nothing says who we are to {place}: {} not set", are(missing))]
    NoCredentials {
        /// The bucket or service.
        place: String,
        /// The keys and variables that are missing.
        missing: Vec<&'static str>,
    },
    /// A credential is none.
    #[error("{what} {reason}")]
    BadCredentials {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No cache was written there yet.
    #[error("there is no cache in {place} yet")]
    NoCache {
        /// The bucket or service, and the name.
        place: String,
    },
    /// What is there under the name of a cache is another thing.
    #[error("what is in {place} is no cache of coracle")]
    NotACache {
        /// The bucket or service, and the name.
        place: String,
    },
    /// A blob is not there.
    #[error("blob {digest} is not in {place}")]
    Missing {
        /// Its digest.
        digest: Digest,
        /// The bucket or service.
        place: String,
    },
    /// A blob has another length than the list says.
    #[error("blob {digest} in {place} has {found} bytes, not {expected}")]
    Length {
        /// Its digest.
        digest: Digest,
        /// The bucket or service.
        place: String,
        /// The length it should have.
        expected: u64,
        /// The length it has.
        found: u64,
    },
    /// An answer is not what it should be.
    #[error("what {place} answers makes no sense: {reason}")]
    Odd {
        /// The bucket or service.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The time is over that was given to it.
    #[error("{place} took longer than {}: timeout= says how long it may take", minutes(*after))]
    TooSlow {
        /// The service.
        place: String,
        /// The limit.
        after: Duration,
    },
    /// The place has no URL.
    #[error("{url:?} with the bucket {bucket:?} makes no URL: {reason}")]
    BadUrl {
        /// That of the service, without what is secret.
        url: String,
        /// The bucket.
        bucket: String,
        /// What is wrong.
        reason: String,
    },
}

fn advised(advice: &str) -> String {
    if advice.is_empty() { String::new() } else { format!(": {advice}") }
}

fn are(names: &[&str]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(" and "))
}

fn minutes(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds > 0 && seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}
