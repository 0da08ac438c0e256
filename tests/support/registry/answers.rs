//! What the registry answers.

use super::*;

impl State {
    /// Keeps what came of an upload before the connection broke, as real registries do.
    pub(super) fn keep(&mut self, request: &Request, body: &[u8]) {
        if let Some((_, "blobs/uploads", id)) = request.parts()
            && let Some(upload) = self.uploads.get_mut(&id)
        {
            upload.extend_from_slice(body);
        }
    }

    pub(super) fn allowed(&mut self, port: u16, request: &Request, counted: bool) -> Result<(), Answer> {
        let shown = request.head.get("authorization").map(String::as_str);
        match self.auth.clone() {
            Auth::Open => Ok(()),
            Auth::Basic(user, password) => {
                if shown == Some(&basic(user, password)) {
                    return Ok(());
                }
                Err(Answer::error(401, "UNAUTHORIZED").header("WWW-Authenticate", "Basic realm=\"test\""))
            }
            Auth::Bearer { .. } => {
                let token = shown.and_then(|shown| shown.strip_prefix("Bearer ")).unwrap_or_default();
                match self.tokens.get_mut(token) {
                    Some(left) if *left > 0 => {
                        *left -= u32::from(counted);
                        return Ok(());
                    }
                    _ => {}
                }
                let realm = format!("Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"test, registry\"");
                Err(Answer::error(401, "UNAUTHORIZED").header("WWW-Authenticate", realm))
            }
        }
    }

    pub(super) fn token(&mut self, request: &Request, body: &[u8]) -> Answer {
        let Auth::Bearer { login, identity, uses } = self.auth.clone() else { return Answer::new(404) };
        let shown = request.head.get("authorization").cloned();
        let form: HashMap<String, String> = url::form_urlencoded::parse(body).into_owned().collect();
        let fine = match (login, identity) {
            (_, Some(identity)) => form.get("refresh_token").is_some_and(|token| token == identity),
            (Some((user, password)), None) => shown == Some(basic(user, password)),
            (None, None) => shown.is_none(),
        };
        if !fine {
            return Answer::error(401, "UNAUTHORIZED");
        }
        self.serial += 1;
        let token = format!("token-{}", self.serial);
        self.tokens.insert(token.clone(), uses);
        let name = if identity.is_some() { "access_token" } else { "token" };
        Answer::new(200).body(json!({name: token, "expires_in": 300}).to_string())
    }

    pub(super) fn answer(&mut self, port: u16, request: &Request, body: Vec<u8>) -> Answer {
        if request.path == "/token" {
            return self.token(request, &body);
        }
        // Storage elsewhere knows only what was signed.
        if request.query.contains_key("signature") {
            return self.blob(request);
        }
        if !request.query.contains_key("elsewhere")
            && let Err(refused) = self.allowed(port, request, true)
        {
            return refused;
        }
        if request.path == "/v2/" {
            return Answer::new(200).body("{}");
        }
        let Some((repository, kind, rest)) = request.parts() else { return Answer::error(404, "NAME_UNKNOWN") };
        match (request.method.as_str(), kind) {
            ("GET" | "HEAD", "manifests") => match self.manifests.get(&(repository, rest)) {
                Some((kind, bytes)) => Answer::new(200)
                    .header("Content-Type", kind.clone())
                    .header("Docker-Content-Digest", Digest::of(bytes).to_string())
                    .body(bytes.clone()),
                None => Answer::error(404, "MANIFEST_UNKNOWN"),
            },
            ("PUT", "manifests") => self.put_manifest(request, repository, rest, body),
            ("GET" | "HEAD", "blobs") => match &self.blobs_elsewhere {
                Some(host) if request.method == "GET" && self.blobs.contains_key(&(repository, rest)) => {
                    let scheme = if host.contains("://") { "" } else { "http://" };
                    let to = format!("{scheme}{host}{}?signature=secret", request.path);
                    Answer::new(307).header("Location", to)
                }
                _ => self.blob(request),
            },
            ("POST", "blobs/uploads") => self.begin(request, repository),
            ("GET", "tags") => self.tags(request, &repository),
            ("GET", "referrers") if self.no_referrers => Answer::error(404, "PAGE_NOT_FOUND"),
            ("GET", "referrers") => {
                let referring = self.manifests.iter().filter(|((own, name), (_, bytes))| {
                    let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
                    *own == repository && name.starts_with("sha256:") && document["subject"]["digest"] == rest.as_str()
                });
                let manifests: Vec<Value> = referring
                    .map(|((_, digest), (kind, bytes))| {
                        let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
                        json!({"mediaType": kind, "digest": digest, "size": bytes.len(), "artifactType": document["artifactType"]})
                    })
                    .collect();
                Answer::new(200).body(json!({"schemaVersion": 2, "manifests": manifests}).to_string())
            }
            (method, "blobs/uploads") => self.go_on(method, request, repository, rest, body),
            _ => Answer::error(405, "UNSUPPORTED"),
        }
    }

    fn tags(&self, request: &Request, repository: &str) -> Answer {
        let own = self.manifests.keys().filter(|(own, name)| own == repository && !name.contains(':'));
        let mut tags: Vec<&String> = own.map(|(_, name)| name).collect();
        if tags.is_empty() {
            return Answer::error(404, "NAME_UNKNOWN");
        }
        tags.sort();
        let last = request.query.get("last").cloned().unwrap_or_default();
        tags.retain(|tag| **tag > last);
        let asked = request.query.get("n").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
        let most = if self.tags_at_once == 0 { asked } else { asked.min(self.tags_at_once) };
        let more = tags.len() > most;
        tags.truncate(most);
        let answer = Answer::new(200).body(json!({"name": repository, "tags": tags}).to_string());
        match tags.last().filter(|_| more) {
            Some(last) => {
                answer.header("Link", format!("</v2/{repository}/tags/list?n={most}&last={last}>; rel=\"next\""))
            }
            None => answer,
        }
    }

    pub(super) fn put_manifest(
        &mut self,
        request: &Request,
        repository: String,
        name: String,
        body: Vec<u8>,
    ) -> Answer {
        let digest = Digest::of(&body).to_string();
        let document: Value = serde_json::from_slice(&body).unwrap_or_default();
        let layers = document["layers"].as_array().cloned().unwrap_or_default();
        let blobs = layers.iter().chain([&document["config"]]).filter_map(|blob| blob["digest"].as_str());
        for blob in blobs {
            if !self.blobs.contains_key(&(repository.clone(), blob.to_owned())) {
                return Answer::error(400, "MANIFEST_BLOB_UNKNOWN");
            }
        }
        let kind = request.head.get("content-type").cloned().unwrap_or_default();
        for name in [name, digest.clone()] {
            self.manifests.insert((repository.clone(), name), (kind.clone(), body.clone()));
        }
        Answer::new(201).header("Docker-Content-Digest", digest)
    }

    pub(super) fn blob(&self, request: &Request) -> Answer {
        let Some((repository, _, digest)) = request.parts() else { return Answer::new(404) };
        let Some(bytes) = self.blobs.get(&(repository, digest)) else { return Answer::error(404, "BLOB_UNKNOWN") };
        let range = request.head.get("range").filter(|_| !self.no_ranges);
        match range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()) {
            Some(start) if start < bytes.len() => Answer::new(206)
                .header("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len()))
                .body(&bytes[start..]),
            Some(_) => Answer::new(416),
            None => Answer::new(200).body(bytes.clone()),
        }
    }

    pub(super) fn begin(&mut self, request: &Request, repository: String) -> Answer {
        if !self.no_mounts
            && let (Some(digest), Some(from)) = (request.query.get("mount"), request.query.get("from"))
            && let Some(bytes) = self.blobs.get(&(from.clone(), digest.clone())).cloned()
        {
            self.blobs.insert((repository, digest.clone()), bytes);
            return Answer::new(201);
        }
        self.serial += 1;
        let id = format!("upload-{}", self.serial);
        self.uploads.insert(id.clone(), Vec::new());
        Answer::new(202).header("Location", self.location(&repository, &id)).header("Range", "0-0")
    }

    pub(super) fn location(&self, repository: &str, id: &str) -> String {
        let path = format!("/v2/{repository}/blobs/uploads/{id}");
        match &self.uploads_elsewhere {
            Some(host) => format!("http://{host}{path}?elsewhere=1"),
            None => format!("{path}?state=s"),
        }
    }

    pub(super) fn go_on(
        &mut self,
        method: &str,
        request: &Request,
        repository: String,
        id: String,
        body: Vec<u8>,
    ) -> Answer {
        let location = self.location(&repository, &id);
        if method == "PUT" && self.no_monolithic && !body.is_empty() {
            return Answer::error(413, "SIZE_INVALID");
        }
        let Some(upload) = self.uploads.get_mut(&id) else { return Answer::error(404, "BLOB_UPLOAD_UNKNOWN") };
        if let Some(range) = request.head.get("content-range") {
            let start = range.split('-').next().and_then(|start| start.parse::<usize>().ok());
            if start != Some(upload.len()) {
                return Answer::new(416).header("Range", format!("0-{}", upload.len().saturating_sub(1)));
            }
        }
        upload.extend_from_slice(&body);
        let range = format!("0-{}", upload.len().saturating_sub(1));
        match method {
            "GET" => Answer::new(204).header("Location", location).header("Range", range),
            "PATCH" => Answer::new(202).header("Location", location).header("Range", range),
            "PUT" => {
                let bytes = self.uploads.remove(&id).expect("there just now");
                let wanted = request.query.get("digest").cloned().unwrap_or_default();
                if Digest::of(&bytes).to_string() != wanted {
                    return Answer::error(400, "DIGEST_INVALID");
                }
                self.blobs.insert((repository, wanted), bytes);
                Answer::new(201)
            }
            _ => Answer::error(405, "UNSUPPORTED"),
        }
    }
}
