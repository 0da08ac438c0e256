//! A cache like that of GitHub's Actions, version 2, in this process. It is strict about what it is asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::service::{Call, Reply, Service};

/// Behind the address of a blob: it must come back as it is.
const SIGNED: &str = "sv=2025-11-05&sig=a%2Bb%2Fc%3D&se=2026-11-30T00%3A00%3A00Z";

/// An entry.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// Its key.
    pub key: String,
    version: String,
    scope: String,
    /// Its content.
    pub bytes: Vec<u8>,
    blocks: BTreeMap<String, Vec<u8>>,
    /// Whether it can be read.
    pub is_done: bool,
}

/// The entries, the oldest first.
pub type Entries = Arc<Mutex<Vec<Entry>>>;

/// The service.
#[derive(Debug)]
pub struct Actions {
    /// The server.
    pub service: Service,
    /// What it has.
    pub entries: Entries,
}

impl Actions {
    /// Starts one without faults.
    pub fn new() -> Self {
        Self::with(|_| None)
    }

    /// Starts one in which some requests go wrong.
    pub fn with(fault: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let entries = Entries::default();
        let inside = Arc::clone(&entries);
        let service = Service::new(move |call| fault(call).unwrap_or_else(|| answer(call, &inside)));
        Actions { service, entries }
    }

    /// Returns the keys that can be read, sorted.
    pub fn keys(&self) -> Vec<String> {
        let entries = self.entries.lock().expect("no panic");
        let mut keys: Vec<_> = entries.iter().filter(|entry| entry.is_done).map(|entry| entry.key.clone()).collect();
        keys.sort();
        keys
    }
}

/// Returns a token as GitHub gives it to a job: for scopes, each with its rights (1 to read, 2 to write).
pub fn token(scopes: &[(&str, u32)]) -> String {
    let scopes: Vec<Value> =
        scopes.iter().map(|(scope, permission)| json!({"Scope": scope, "Permission": permission})).collect();
    let payload = json!({"ac": Value::from(scopes).to_string(), "exp": 4_000_000_000u64, "nbf": 1});
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2lnbmVk", part(&json!({"alg": "RS256"})), part(&payload))
}

/// Returns what a token is for.
fn scopes(call: &Call) -> Option<Vec<(String, u64)>> {
    let token = call.header("authorization").strip_prefix("Bearer ")?;
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let payload: Value = serde_json::from_slice(&payload).ok()?;
    let scopes: Vec<Value> = serde_json::from_str(payload["ac"].as_str()?).ok()?;
    scopes.iter().map(|scope| Some((scope["Scope"].as_str()?.into(), scope["Permission"].as_u64()?))).collect()
}

/// An error as Twirp writes it.
pub fn refusal(status: u16, code: &str, message: &str) -> Reply {
    Reply::new(status, json!({"code": code, "msg": message}).to_string()).header("Content-Type", "application/json")
}

fn answer(call: &Call, entries: &Entries) -> Reply {
    let mut entries = entries.lock().expect("no panic");
    if let Some(number) = call.path.strip_prefix("/store/blob") {
        let number: usize = number.parse().expect("a number");
        return blob(call, &mut entries[number]);
    }
    let Some(method) = call.path.strip_prefix("/twirp/github.actions.results.api.v1.CacheService/") else {
        return refusal(404, "bad_route", "no handler for path");
    };
    let Some(scopes) = scopes(call) else { return refusal(401, "unauthenticated", "invalid token") };
    assert_eq!((call.method.as_str(), call.header("content-type")), ("POST", "application/json"));
    let body: Value = serde_json::from_slice(&call.body).expect("JSON");
    let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("no {name} in {body}")).to_owned();
    let (key, version) = (text("key"), text("version"));
    assert!(key.len() <= 512 && !key.contains(','), "{key}");
    assert!(version.len() == 64 && version.bytes().all(|b| b.is_ascii_hexdigit()), "{version}");
    let names: Vec<&str> = body.as_object().expect("an object").keys().map(String::as_str).collect();
    let host = call.header("host");
    let address = |number: usize| format!("http://{host}/store/blob{number}?{SIGNED}");
    match method {
        "CreateCacheEntry" => {
            assert_eq!(names, ["key", "version"]);
            let Some((scope, _)) = scopes.iter().rfind(|(_, rights)| rights & 2 != 0) else {
                return refusal(403, "permission_denied", "the token may not write");
            };
            let is_it = |entry: &&Entry| (&entry.key, &entry.version, &entry.scope) == (&key, &version, scope);
            if entries.iter().any(|entry| is_it(&entry)) {
                return refusal(
                    409,
                    "already_exists",
                    "cache entry with the same key, version, and scope already exists",
                );
            }
            entries.push(Entry { key, version, scope: scope.clone(), ..Entry::default() });
            Reply::new(200, json!({"ok": true, "signed_upload_url": address(entries.len() - 1)}).to_string())
        }
        "FinalizeCacheEntryUpload" => {
            assert_eq!(names, ["key", "size_bytes", "version"]);
            // 64 bits are text in this JSON.
            let size: usize = text("size_bytes").parse().expect("a number");
            let entry = entries.iter_mut().find(|entry| entry.key == key && entry.version == version);
            let entry = entry.expect("it was begun");
            assert_eq!(entry.bytes.len(), size);
            entry.is_done = true;
            Reply::new(200, json!({"ok": true, "entry_id": "7"}).to_string())
        }
        "GetCacheEntryDownloadURL" => {
            assert_eq!(names, ["key", "restore_keys", "version"]);
            let begins = body["restore_keys"].as_array().expect("a list").clone();
            let fits = |entry: &Entry| {
                entry.key == key || begins.iter().any(|begin| entry.key.starts_with(begin.as_str().expect("text")))
            };
            for (scope, _) in scopes.iter().filter(|(_, rights)| rights & 1 != 0) {
                let is_it =
                    |entry: &Entry| entry.is_done && entry.version == version && entry.scope == *scope && fits(entry);
                if let Some(at) = entries.iter().rposition(is_it) {
                    let found = json!({
                        "ok": true, "signed_download_url": address(at), "matched_key": entries[at].key,
                    });
                    return Reply::new(200, found.to_string());
                }
            }
            Reply::new(200, json!({"ok": false, "signed_download_url": "", "matched_key": ""}).to_string())
        }
        other => refusal(404, "bad_route", other),
    }
}

/// What Azure's storage does.
fn blob(call: &Call, entry: &mut Entry) -> Reply {
    assert_eq!(call.header("authorization"), "", "the token is for GitHub only");
    let more = call.query.strip_prefix(SIGNED).unwrap_or_else(|| panic!("another address: {}", call.query));
    match (call.method.as_str(), call.value("comp").as_deref()) {
        ("GET", None) => {
            let range = call.header("range").strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
            match range.map(|from| from.parse::<usize>().expect("a number")) {
                None => Reply::new(200, entry.bytes.clone()),
                Some(from) => {
                    let range = format!("bytes {from}-{}/{}", entry.bytes.len() - 1, entry.bytes.len());
                    Reply::new(206, &entry.bytes[from..]).header("Content-Range", range)
                }
            }
        }
        ("PUT", None) => {
            assert_eq!((call.header("x-ms-blob-type"), more), ("BlockBlob", ""));
            entry.bytes = call.body.clone();
            Reply::new(201, "")
        }
        ("PUT", Some("block")) => {
            let id = call.value("blockid").expect("an id");
            STANDARD.decode(&id).expect("base64");
            entry.blocks.insert(id, call.body.clone());
            Reply::new(201, "")
        }
        ("PUT", Some("blocklist")) => {
            let text = String::from_utf8(call.body.clone()).expect("text");
            let list = text.strip_prefix("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>").expect("a list");
            let list = list.strip_suffix("</BlockList>").expect("a list");
            let ids = list.split("</Latest>").filter(|id| !id.is_empty());
            let ids = ids.map(|id| id.strip_prefix("<Latest>").expect("an id"));
            entry.bytes = ids.flat_map(|id| entry.blocks.remove(id).expect("a block")).collect();
            Reply::new(201, "")
        }
        other => panic!("{other:?}"),
    }
}
