use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusty_s3::{Bucket, BucketError, Credentials, UrlStyle, signing};

use super::{BucketIn, S3Names, S3Place};
use crate::net::{Agent, Body, Method, Plain, Request, Response, Security, Url, Verify};
use crate::oci::{Digest, MAX_DOCUMENT};
use crate::output::cache::depot::{Depot, DepotError, Piece, Resuming, Said, read_whole};

/// How long a signed request is good for: its last attempt may begin long after the first.
const GOOD_FOR: Duration = Duration::from_secs(3600);
/// The longest object that can be copied within the service at once.
const MOST_COPIED: u64 = 5 << 30;

/// A bucket, opened.
pub struct S3 {
    pub(super) agent: Agent,
    bucket: Bucket,
    credentials: Credentials,
    security: Arc<Security>,
    names: S3Names,
    pub(super) parallel: usize,
    refresh: Duration,
}

impl S3 {
    /// Returns the bucket of a place. Nothing is asked yet.
    ///
    /// # Errors
    /// [`DepotError::NoCredentials`], [`DepotError::BadUrl`].
    pub fn open(place: &S3Place, agent: Agent, verify: Verify) -> Result<Self, DepotError> {
        let S3Place { endpoint, style, bucket: name, region, names, keys, parallel, refresh } = place.clone();
        let Some(keys) = keys else {
            let missing =
                vec!["access_key_id= (or AWS_ACCESS_KEY_ID)", "secret_access_key= (or AWS_SECRET_ACCESS_KEY)"];
            return Err(DepotError::NoCredentials { place: place.to_string(), missing });
        };
        let style = match style {
            BucketIn::Host => UrlStyle::VirtualHost,
            BucketIn::Path => UrlStyle::Path,
        };
        let plain = if endpoint.scheme() == "http" { Plain::Allowed } else { Plain::Refused };
        let shown = endpoint.host_str().unwrap_or_default().to_owned();
        let bucket = Bucket::new(endpoint, style, name.clone(), region).map_err(|error| DepotError::BadUrl {
            url: shown,
            bucket: name,
            reason: match error {
                BucketError::UnsupportedScheme => "it begins with neither http:// nor https://".into(),
                BucketError::MissingHost => "it has no host".into(),
                BucketError::ParseError(error) => error.to_string(),
            },
        })?;
        let credentials = match &keys.token {
            Some(token) => Credentials::new_with_token(keys.id, keys.secret.reveal(), token.reveal()),
            None => Credentials::new(keys.id, keys.secret.reveal()),
        };
        let security = Arc::new(Security { verify, plain, ..Security::default() });
        Ok(S3 { agent, bucket, credentials, security, names, parallel, refresh })
    }

    pub(super) fn blob_key(&self, digest: &Digest) -> String {
        format!("{}{}{digest}", self.names.prefix, self.names.blobs)
    }

    fn manifest_key(&self, name: &str) -> String {
        format!("{}{}{name}", self.names.prefix, self.names.manifests)
    }

    /// Returns a signed request. `query` and `headers` are in the order of their names, which are in lower case.
    pub(super) fn request<'a>(
        &self,
        method: Method,
        key: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Request<'a> {
        let signed = match method {
            Method::HEAD => rusty_s3::Method::Head,
            Method::PUT => rusty_s3::Method::Put,
            Method::POST => rusty_s3::Method::Post,
            Method::DELETE => rusty_s3::Method::Delete,
            _ => rusty_s3::Method::Get,
        };
        let url: Url = signing::sign(
            &Timestamp::now(),
            signed,
            self.bucket.object_url(key),
            self.credentials.key(),
            self.credentials.secret(),
            self.credentials.token(),
            self.bucket.region(),
            GOOD_FOR.as_secs(),
            query.iter().copied(),
            headers.iter().copied(),
        );
        // A signature is for one host: who leads elsewhere is of another region.
        let request = Request::new(method, url).security(Arc::clone(&self.security)).without_redirects();
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }

    /// Returns the answer, where its status is 2xx.
    pub(super) fn success(&self, response: Response) -> Result<Response, DepotError> {
        if (200..300).contains(&response.status()) { Ok(response) } else { Err(self.refused(response)) }
    }

    /// Returns what an answer says that is none.
    pub(super) fn refused(&self, mut response: Response) -> DepotError {
        let (status, said) = (response.status(), Said::of(&mut response));
        self.refusal(status, &said)
    }

    pub(super) fn refusal(&self, status: u16, said: &Said) -> DepotError {
        let secrets = [self.credentials.secret(), self.credentials.token().unwrap_or_default()];
        DepotError::Refused { place: self.place(), status, said: said.line(&secrets), advice: advice(status, said) }
    }

    /// Returns the object, from `offset` on; `None` where there is none.
    fn get(&self, key: &str, offset: u64) -> Result<Option<Response>, DepotError> {
        let mut request = self.request(Method::GET, key, &[], &[]);
        if offset > 0 {
            request = request.header("Range", format!("bytes={offset}-"));
        }
        let mut response = self.agent.send(request)?;
        if response.status() == 404 {
            let said = Said::of(&mut response);
            return if said.code == "NoSuchBucket" { Err(self.refusal(404, &said)) } else { Ok(None) };
        }
        self.success(response).map(Some)
    }

    /// Writes an object over itself, which makes it new again.
    fn touch(&self, key: &str) -> Result<(), DepotError> {
        // Its path, as it is in the URL, less the folders of the service.
        let object = self.bucket.object_url(key);
        let path = object.path().strip_prefix(self.bucket.base_url().path()).unwrap_or_default();
        let (source, now) = (format!("/{}/{path}", self.bucket.name()), Timestamp::now().as_second().to_string());
        let headers = [
            ("x-amz-copy-source", source.as_str()),
            ("x-amz-meta-updated-at", &now),
            ("x-amz-metadata-directive", "REPLACE"),
        ];
        let response = self.agent.send(self.request(Method::PUT, key, &[], &headers))?;
        self.success(response).map(drop)
    }
}

impl Depot for S3 {
    fn place(&self) -> String {
        let url = self.bucket.base_url();
        let host = url.host_str().unwrap_or_default();
        let host = host.strip_prefix(&format!("{}.", self.bucket.name())).unwrap_or(host);
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("bucket {} at {host}{port}", self.bucket.name())
    }

    fn manifests(&self) -> Result<Vec<Vec<u8>>, DepotError> {
        let mut found = Vec::new();
        for name in &self.names.caches {
            found.extend(read_whole(&self.agent, MAX_DOCUMENT, &|| self.get(&self.manifest_key(name), 0))?);
        }
        match found.is_empty() {
            true => {
                Err(DepotError::NoCache { place: format!("{} under {}", self.place(), self.names.caches.join(", ")) })
            }
            false => Ok(found),
        }
    }

    fn open(&self, blob: (&Digest, u64)) -> Result<Box<dyn Read + Send + '_>, DepotError> {
        let digest = *blob.0;
        let ask = move |offset| {
            let found = self.get(&self.blob_key(&digest), offset)?;
            found.ok_or_else(|| DepotError::Missing { digest, place: self.place() })
        };
        Ok(Box::new(Resuming::open(&self.agent, blob, &self.place(), Box::new(ask))?))
    }

    fn has(&self, (digest, size): (&Digest, u64)) -> Result<bool, DepotError> {
        let key = self.blob_key(digest);
        let response = self.agent.send(self.request(Method::HEAD, &key, &[], &[]))?;
        match response.status() {
            200..300 => {}
            // Who may not list a bucket is told this of what is not there. If it is meant, the upload hears it too, and why.
            403 | 404 => return Ok(false),
            _ => return Err(self.refused(response)),
        }
        if response.length().is_some_and(|found| found != size) {
            return Ok(false);
        }
        if size < MOST_COPIED && response.header("last-modified").is_some_and(|time| is_older(time, self.refresh)) {
            // Who may not, or cannot, has the blob all the same.
            let _ = self.touch(&key);
        }
        Ok(true)
    }

    fn put(&self, piece: &Piece<'_>) -> Result<(), DepotError> {
        self.upload(piece)
    }

    fn put_manifest(&self, bytes: &[u8]) -> Result<(), DepotError> {
        for name in &self.names.caches {
            let request = self.request(Method::PUT, &self.manifest_key(name), &[], &[]);
            self.success(self.agent.send(request.body(Body::Bytes(bytes)))?)?;
        }
        Ok(())
    }

    fn width(&self) -> usize {
        self.parallel
    }
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "S3({})", self.place())
    }
}

/// Whether the value of a Last-Modified header is as long ago as `age`.
fn is_older(value: &str, age: Duration) -> bool {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value.trim());
    time.is_ok_and(|time| Duration::try_from(Timestamp::now().duration_since(time)).is_ok_and(|found| found >= age))
}

/// Returns what to do when S3 refuses.
fn advice(status: u16, said: &Said) -> String {
    let region = if said.region.is_empty() { String::new() } else { format!(": region={}", said.region) };
    match (said.code.as_str(), status) {
        ("SignatureDoesNotMatch", _) => {
            "is the secret that of the key? Look at secret_access_key=, or AWS_SECRET_ACCESS_KEY".into()
        }
        ("InvalidAccessKeyId", _) => "look at access_key_id=, or AWS_ACCESS_KEY_ID, and at endpoint_url=".into(),
        ("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired", _) => {
            "get new keys: those for some time have a session_token=, or AWS_SESSION_TOKEN".into()
        }
        ("RequestTimeTooSkewed", _) => "is the clock of this machine right?".into(),
        ("NoSuchBucket", _) => "make the bucket, or look at bucket=, region= and endpoint_url=".into(),
        ("AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError" | "PermanentRedirect", _)
        | (_, 301 | 307) => format!("the bucket is in another region, most likely{region}"),
        (_, 401 | 403) => "the key must allow s3:GetObject and s3:ListBucket there, and s3:PutObject and \
                           s3:AbortMultipartUpload to write"
            .into(),
        (_, 429 | 503) => {
            "it is asked too often; --retry tries longer, upload_parallelism= asks for less at a time".into()
        }
        _ => String::new(),
    }
}
