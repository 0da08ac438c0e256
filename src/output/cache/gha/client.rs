use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::ActionsPlace;
use super::limit::{Limit, Running};
use super::token::Claims;
use crate::config::Secret;
use crate::net::{
    Agent, AgentOptions, Body, Cancel, Method, NetError, Plain, Request, Response, Security, Url, Verify,
};
use crate::oci::{Digest, MAX_DOCUMENT};
use crate::output::cache::depot::{Depot, DepotError, Piece, Resuming, Said, read_whole};

/// Goes into the version of every entry: what another form has is not found.
const FORM: &[u8] = b"coracle cache 1";
/// How many numbers are tried for a manifest that others write, too.
const TRIES: u64 = 20;
/// Bytes of an answer.
const ANSWER: u64 = 1 << 20;

/// The cache of a job, opened.
pub struct Actions {
    pub(super) agent: Agent,
    pub(super) security: Arc<Security>,
    /// The URL of the methods, with a slash at its end.
    url: Url,
    token: Secret,
    claims: Claims,
    scope: String,
    limit: Limit,
}

/// An entry of the cache.
struct Entry {
    key: String,
    /// Where it is read, for a while. It is secret.
    url: Url,
}

impl Actions {
    /// Returns the cache of a place. Nothing is asked yet. It is reached as by `agent`, which is not used itself.
    ///
    /// # Errors
    /// [`DepotError::NoCredentials`], [`DepotError::BadCredentials`].
    pub fn open(place: &ActionsPlace, agent: &Agent, verify: Verify) -> Result<Self, DepotError> {
        let (url, token) = match (&place.url, &place.token) {
            (Some(url), Some(token)) => (url.clone(), token.clone()),
            (url, token) => {
                let mut missing = Vec::new();
                missing.extend(url.is_none().then_some("url_v2= (or ACTIONS_RESULTS_URL)"));
                missing.extend(token.is_none().then_some("token= (or ACTIONS_RUNTIME_TOKEN)"));
                return Err(DepotError::NoCredentials { place: "the cache of GitHub Actions".into(), missing });
            }
        };
        if !token.reveal().bytes().all(|byte| byte.is_ascii_graphic()) {
            let reason = "has characters that no token has";
            return Err(DepotError::BadCredentials { what: "token= (or ACTIONS_RUNTIME_TOKEN)", reason });
        }
        let mut base = url;
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&format!("{path}/twirp/github.actions.results.api.v1.CacheService/"));
        let plain = if base.scheme() == "http" { Plain::Allowed } else { Plain::Refused };
        let limit = Limit::new(place.timeout);
        let (watched, above) = (limit.clone(), agent.options().cancel.clone());
        let cancel = Cancel::new(move || above.is_set() || watched.reached().is_some());
        Ok(Actions {
            agent: Agent::new(AgentOptions { cancel, ..agent.options().clone() }),
            security: Arc::new(Security { verify, plain, ..Security::default() }),
            url: base,
            claims: Claims::of(token.reveal()),
            token,
            scope: place.scope.clone(),
            limit,
        })
    }

    fn version() -> String {
        Digest::of(FORM).hex()
    }

    fn blob_key(digest: &Digest) -> String {
        format!("coracle-blob-1-{digest}")
    }

    /// Returns the beginning of the names of manifests for a scope of the token.
    fn manifest_key(&self, scope: &str) -> String {
        format!("coracle-cache-1-{}-{}#", self.scope, &Digest::of(scope.as_bytes()).hex()[..8])
    }

    /// Does `act`, in the time that is given to it.
    fn timed<R>(&self, act: impl FnOnce() -> Result<R, DepotError>) -> Result<R, DepotError> {
        let _running = self.limit.begin();
        act().map_err(|error| self.told(error))
    }

    /// An end because of the time is told as such.
    fn told(&self, error: DepotError) -> DepotError {
        let cancelled = matches!(&error, DepotError::Net(NetError::Cancelled));
        match self.limit.reached().filter(|_| cancelled) {
            Some(after) => DepotError::TooSlow { place: self.place(), after },
            None => error,
        }
    }

    fn request(&self, method: &str, body: &Value) -> Result<Response, DepotError> {
        let url = self.url.join(method).expect("a plain word is a URL below another");
        let body = body.to_string();
        let request = Request::new(Method::POST, url)
            .security(Arc::clone(&self.security))
            .header("Authorization", format!("Bearer {}", self.token.reveal()))
            .header("Content-Type", "application/json")
            .header("Accept", "application/json")
            .without_redirects()
            .body(Body::Bytes(body.as_bytes()));
        // Who begins an entry twice hears that it is there: only what was surely not done is asked for again.
        if method != "CreateCacheEntry" {
            return Ok(self.agent.send(request.repeatable())?);
        }
        let (mut failed, mut waited) = (0, Duration::ZERO);
        loop {
            let response = self.agent.send(request.clone())?;
            let asked = response.retry_after();
            failed += 1;
            let wait = self.agent.options().retry.wait(failed, asked, waited);
            let Some(wait) = wait.filter(|_| matches!(response.status(), 429 | 503)) else { return Ok(response) };
            drop(response);
            self.agent.wait(wait)?;
            waited += wait;
        }
    }

    /// Calls a method of the service, and returns its answer; `None` where that says that it did not do it.
    fn call(&self, method: &str, body: &Value) -> Result<Option<Value>, DepotError> {
        let mut response = self.request(method, body)?;
        if !(200..300).contains(&response.status()) {
            let (status, said) = (response.status(), Said::of(&mut response));
            let done = matches!((said.code.as_str(), status), ("already_exists", _) | (_, 409));
            let absent = said.code == "not_found" && method == "GetCacheEntryDownloadURL";
            return if done || absent { Ok(None) } else { Err(self.refusal(status, &said)) };
        }
        let bytes = response.bytes(ANSWER)?;
        let answer: Value = serde_json::from_slice(&bytes).map_err(|error| self.odd(&error.to_string()))?;
        // In the JSON of protocol buffers what is false may be left out.
        Ok(answer.get("ok").and_then(Value::as_bool).unwrap_or_default().then_some(answer))
    }

    pub(super) fn refusal(&self, status: u16, said: &Said) -> DepotError {
        let advice = match status {
            401 | 403 => "is the token that of this job, and may it write? It ends with the job",
            404 => "is url_v2=, or ACTIONS_RESULTS_URL, that of the service, in version 2?",
            429 | 503 => "it is asked too often; --retry tries longer",
            _ => "",
        };
        let said = said.line(&[self.token.reveal()]);
        DepotError::Refused { place: self.place(), status, said, advice: advice.into() }
    }

    pub(super) fn odd(&self, reason: &str) -> DepotError {
        DepotError::Odd { place: self.place(), reason: reason.into() }
    }

    /// Returns a URL of an answer.
    fn url_in(&self, answer: &Value, name: &str) -> Result<Url, DepotError> {
        // Some that are made after GitHub's write names in JSON's way.
        let camel: String = name.split('_').enumerate().map(|(at, word)| capitalised(word, at > 0)).collect();
        let found = answer.get(name).or_else(|| answer.get(&camel)).and_then(Value::as_str);
        let url = found.and_then(|text| Url::parse(text).ok()).filter(|url| matches!(url.scheme(), "http" | "https"));
        url.ok_or_else(|| self.odd(&format!("it gives no {name}")))
    }

    /// Returns the newest entry whose key begins with `key`; `None` where there is none.
    fn find(&self, key: &str) -> Result<Option<Entry>, DepotError> {
        let body = json!({"key": key, "restore_keys": [key], "version": Self::version()});
        let Some(answer) = self.call("GetCacheEntryDownloadURL", &body)? else { return Ok(None) };
        let url = self.url_in(&answer, "signed_download_url")?;
        let matched = answer.get("matched_key").or_else(|| answer.get("matchedKey")).and_then(Value::as_str);
        Ok(Some(Entry { key: matched.unwrap_or_default().to_owned(), url }))
    }

    fn download(&self, url: Url, offset: u64) -> Result<Response, DepotError> {
        let mut request = Request::new(Method::GET, url).security(Arc::clone(&self.security));
        if offset > 0 {
            request = request.header("Range", format!("bytes={offset}-"));
        }
        self.success(self.agent.send(request)?)
    }

    pub(super) fn success(&self, mut response: Response) -> Result<Response, DepotError> {
        match response.status() {
            200..300 => Ok(response),
            status => Err(self.refusal(status, &Said::of(&mut response))),
        }
    }

    fn found(&self, digest: &Digest) -> Result<Option<Entry>, DepotError> {
        let key = Self::blob_key(digest);
        Ok(self.find(&key)?.filter(|entry| entry.key == key))
    }

    /// Begins an entry; `None` where there is one already, or somebody else writes it.
    fn begin(&self, key: &str) -> Result<Option<Url>, DepotError> {
        let answer = self.call("CreateCacheEntry", &json!({"key": key, "version": Self::version()}))?;
        answer.map(|answer| self.url_in(&answer, "signed_upload_url")).transpose()
    }

    fn end(&self, key: &str, size: u64) -> Result<(), DepotError> {
        let body = json!({"key": key, "size_bytes": size.to_string(), "version": Self::version()});
        match self.call("FinalizeCacheEntryUpload", &body)? {
            Some(_) => Ok(()),
            None => Err(self.odd("it does not keep what was sent")),
        }
    }

    /// Returns the number in the key of a manifest.
    fn number(entry: &Entry, prefix: &str) -> Option<u64> {
        entry.key.strip_prefix(prefix)?.parse().ok()
    }
}

impl Depot for Actions {
    fn place(&self) -> String {
        format!("the cache of GitHub Actions, scope {}", self.scope)
    }

    fn manifests(&self) -> Result<Vec<Vec<u8>>, DepotError> {
        self.timed(|| {
            let mut found = Vec::new();
            for scope in &self.claims.reads {
                let prefix = self.manifest_key(scope);
                if let Some(entry) = self.find(&prefix)?.filter(|entry| Self::number(entry, &prefix).is_some()) {
                    let ask = || self.download(entry.url.clone(), 0).map(Some);
                    found.extend(read_whole(&self.agent, MAX_DOCUMENT, &ask)?);
                }
            }
            if found.is_empty() { Err(DepotError::NoCache { place: self.place() }) } else { Ok(found) }
        })
    }

    fn open(&self, blob: (&Digest, u64)) -> Result<Box<dyn Read + Send + '_>, DepotError> {
        let (digest, running) = (*blob.0, self.limit.begin());
        let ask = move |offset| {
            let entry = self.found(&digest)?.ok_or_else(|| DepotError::Missing { digest, place: self.place() })?;
            self.download(entry.url, offset).map_err(|error| self.told(error))
        };
        let inner =
            Resuming::open(&self.agent, blob, &self.place(), Box::new(ask)).map_err(|error| self.told(error))?;
        Ok(Box::new(Counted { inner, of: self, _running: running }))
    }

    fn has(&self, (digest, _): (&Digest, u64)) -> Result<bool, DepotError> {
        self.timed(|| Ok(self.found(digest)?.is_some()))
    }

    fn put(&self, piece: &Piece<'_>) -> Result<(), DepotError> {
        self.timed(|| {
            let key = Self::blob_key(&piece.digest);
            // Another job that writes the same blob does it for both.
            let Some(url) = self.begin(&key)? else { return Ok(()) };
            self.upload(url, piece)?;
            self.end(&key, piece.size)
        })
    }

    fn put_manifest(&self, bytes: &[u8]) -> Result<(), DepotError> {
        self.timed(|| {
            let Some(scope) = &self.claims.writes else {
                let (what, reason) = ("the token of the job", "allows to read caches only");
                return Err(DepotError::BadCredentials { what, reason });
            };
            let prefix = self.manifest_key(scope);
            let last = self.find(&prefix)?.and_then(|entry| Self::number(&entry, &prefix)).unwrap_or_default();
            let next = last.checked_add(1).map(|next| next..=next.saturating_add(TRIES - 1));
            for number in next.into_iter().flatten() {
                let key = format!("{prefix}{number}");
                // That of another job. The one that is written last counts.
                let Some(url) = self.begin(&key)? else { continue };
                self.upload_bytes(url, bytes)?;
                return self.end(&key, bytes.len() as u64);
            }
            Err(self.odd("it has no free name for the list of the cache"))
        })
    }
}

impl std::fmt::Debug for Actions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Actions({})", self.scope)
    }
}

/// A reader whose time counts. Its errors say that the time is over, where it is.
struct Counted<'a> {
    inner: Resuming<'a>,
    of: &'a Actions,
    _running: Running,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| match self.of.limit.reached() {
            Some(after) => io::Error::other(DepotError::TooSlow { place: self.of.place(), after }),
            None => error,
        })
    }
}

fn capitalised(word: &str, is_so: bool) -> String {
    let mut letters = word.chars();
    match letters.next().filter(|_| is_so) {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => word.into(),
    }
}
