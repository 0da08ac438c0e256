//! A service like Amazon's S3 in this process. It checks signatures by itself, and has faults where it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ring::digest::{SHA256, digest};
use ring::hmac;

use super::service::{Call, Reply, Service};

/// The id of the key.
pub const ID: &str = "AKIDTEST";
/// The key.
pub const SECRET: &str = "the/very+secret/key";
/// The token that belongs to it.
pub const TOKEN: &str = "session/token+with==signs";

/// What is in the buckets: by path, as `/bucket/key`.
pub type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// Says that something goes wrong with a request, and how.
pub type Fault = dyn Fn(&Call) -> Option<Reply> + Send + Sync;

/// The service.
#[derive(Debug)]
pub struct Buckets {
    /// The server.
    pub service: Service,
    /// What it has. There is one bucket, `demo`.
    pub objects: Objects,
}

impl Buckets {
    /// Starts one without faults.
    pub fn new() -> Self {
        Self::with(|_| None)
    }

    /// Starts one in which some requests go wrong.
    pub fn with(fault: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let objects = Objects::default();
        let (inside, parts) = (Arc::clone(&objects), Objects::default());
        let service = Service::new(move |call| {
            if let Err(error) = check(call) {
                return error;
            }
            fault(call).unwrap_or_else(|| answer(call, &inside, &parts))
        });
        Buckets { service, objects }
    }

    /// Returns the flag for the bucket, with more keys.
    pub fn spec(&self, more: &str) -> String {
        format!("type=s3,bucket=demo,endpoint_url={},use_path_style=true{more}", self.service.url())
    }

    /// Returns the names of the objects in it.
    pub fn names(&self) -> Vec<String> {
        self.objects.lock().expect("no panic").keys().cloned().collect()
    }
}

/// An error as S3 writes it.
pub fn refusal(status: u16, code: &str, message: &str) -> Reply {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message><RequestId>1</RequestId></Error>"
    );
    Reply::new(status, body).header("Content-Type", "application/xml")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks a signature of version 4 in the query, as Amazon's documentation describes it.
fn check(call: &Call) -> Result<(), Reply> {
    let denied = |code: &str, message: &str| refusal(403, code, message);
    let value = |name: &str| call.value(name).ok_or_else(|| denied("AccessDenied", &format!("There is no {name}.")));
    let (credential, date) = (value("X-Amz-Credential")?, value("X-Amz-Date")?);
    let (id, scope) = credential.split_once('/').ok_or_else(|| denied("AccessDenied", "An odd credential."))?;
    if id != ID {
        return Err(denied("InvalidAccessKeyId", "The key does not exist in our records."));
    }
    if call.value("X-Amz-Security-Token").is_some_and(|token| token != TOKEN) {
        return Err(denied("InvalidToken", "The token is malformed."));
    }
    let mut pairs: Vec<&str> = call.query.split('&').filter(|pair| !pair.starts_with("X-Amz-Signature=")).collect();
    pairs.sort_unstable();
    let signed = value("X-Amz-SignedHeaders")?;
    let headers: String = signed.split(';').map(|name| format!("{name}:{}\n", call.header(name))).collect();
    for (name, _) in call.headers.iter().filter(|(name, _)| name.starts_with("x-amz-")) {
        if !signed.split(';').any(|known| known == name) {
            return Err(denied("AccessDenied", &format!("There is an unsigned header: {name}.")));
        }
    }
    let canonical =
        format!("{}\n{}\n{}\n{headers}\n{signed}\nUNSIGNED-PAYLOAD", call.method, call.path, pairs.join("&"));
    let hash = hex(digest(&SHA256, canonical.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hash}");
    let mac = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
    let key = scope.split('/').fold(format!("AWS4{SECRET}").into_bytes(), |key, part| mac(&key, part).as_ref().into());
    match hex(mac(&key, &text).as_ref()) == value("X-Amz-Signature")? {
        true => Ok(()),
        false => Err(denied("SignatureDoesNotMatch", "The signature does not match the one that was provided.")),
    }
}

fn answer(call: &Call, objects: &Objects, parts: &Objects) -> Reply {
    // The bucket may be in the name of the host.
    let bucket = if call.header("host").starts_with("demo.") { "/demo" } else { "" };
    let path = format!("{bucket}{}", call.decoded());
    if !path.starts_with("/demo/") {
        return refusal(404, "NoSuchBucket", "The specified bucket does not exist");
    }
    let (mut objects, mut parts) = (objects.lock().expect("no panic"), parts.lock().expect("no panic"));
    let modified = "Mon, 06 Jan 2020 10:00:00 GMT";
    match (call.method.as_str(), call.value("uploadId"), call.value("partNumber")) {
        ("GET" | "HEAD", ..) => match objects.get(&path) {
            None => refusal(404, "NoSuchKey", "The specified key does not exist."),
            Some(bytes) => {
                let range = call.header("range").strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
                let reply = match range.and_then(|from| from.parse::<usize>().ok()) {
                    Some(from) => Reply::new(206, &bytes[from..])
                        .header("Content-Range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())),
                    None => Reply::new(200, bytes.clone()).header("Content-Length", bytes.len().to_string()),
                };
                reply.header("Last-Modified", modified)
            }
        },
        ("PUT", None, _) if !call.header("x-amz-copy-source").is_empty() => {
            Reply::new(200, "<CopyObjectResult></CopyObjectResult>")
        }
        ("PUT", None, _) => {
            objects.insert(path, call.body.clone());
            Reply::new(200, "").header("ETag", "\"tag\"")
        }
        ("POST", None, _) if call.value("uploads").is_some() => {
            let body = "<?xml version=\"1.0\"?><InitiateMultipartUploadResult xmlns=\"http://s3.example.org/\">\
                        <Bucket>demo</Bucket><UploadId>up&amp;load</UploadId></InitiateMultipartUploadResult>";
            Reply::new(200, body)
        }
        ("PUT", Some(id), Some(number)) if id == "up&load" => {
            let number: u32 = number.parse().expect("a number");
            parts.insert(format!("{path}#{number:05}"), call.body.clone());
            Reply::new(200, "").header("ETag", format!("\"part-{number}\""))
        }
        ("POST", Some(id), None) if id == "up&load" => {
            let mine = |name: &&String| name.starts_with(&format!("{path}#"));
            let names: Vec<String> = parts.keys().filter(mine).cloned().collect();
            let wanted: String = (1..=names.len())
                .map(|number| format!("<Part><PartNumber>{number}</PartNumber><ETag>\"part-{number}\"</ETag></Part>"))
                .collect();
            let wanted = format!("<CompleteMultipartUpload>{wanted}</CompleteMultipartUpload>");
            if String::from_utf8_lossy(&call.body) != wanted {
                return refusal(400, "InvalidPart", "One or more of the specified parts could not be found.");
            }
            let all = names.iter().flat_map(|name| parts.remove(name).expect("it is there")).collect();
            objects.insert(path, all);
            Reply::new(200, "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")
        }
        ("DELETE", Some(_), _) => {
            parts.retain(|name, _| !name.starts_with(&format!("{path}#")));
            Reply::new(204, "")
        }
        _ => refusal(405, "MethodNotAllowed", "The specified method is not allowed."),
    }
}
