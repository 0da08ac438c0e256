use std::fmt;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ureq::http::{HeaderMap, Method};
use url::Url;

use super::agent::Cancel;
use super::error::{NetError, Wait};
use super::request::place;
use super::retry::retry_after;
use super::send::failed;

/// Bytes a second that a body must at least come with. Less is a peer that means harm, or of no use.
const SLOWEST: u64 = 100;

/// Bytes of an error's body that are read, to say what it says.
const DETAIL: u64 = 16 << 10;

/// The answer. Its body is read with [`Read`]; its errors hold a [`NetError`] (see [`NetError::from_io`]).
pub struct Response {
    pub(super) method: Method,
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Where it came from in the end.
    pub(super) url: Url,
    pub(super) body: Box<dyn Read + Send>,
    pub(super) stall: Duration,
    pub(super) cancel: Cancel,
    /// Time spent waiting, and what came, since the speed was looked at last.
    pub(super) waited: Duration,
    pub(super) came: u64,
}

impl Response {
    /// Returns the status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns all headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns the first header of this name, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the URL that answered: another one than was asked after a redirect. It may hold secrets.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Returns host and path of the URL that answered, for messages.
    pub fn place(&self) -> String {
        place(&self.url)
    }

    /// Returns how many bytes the body has, where the peer says so.
    pub fn length(&self) -> Option<u64> {
        self.header("content-length").and_then(|length| length.trim().parse().ok())
    }

    /// Returns how long the peer wants to be left alone (Retry-After), where it says so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after").and_then(|value| retry_after(value, Timestamp::now()))
    }

    /// Returns this answer if its status is 2xx.
    ///
    /// # Errors
    /// [`NetError::Status`] for others, with what the body says.
    pub fn success(self) -> Result<Self, NetError> {
        if (200..300).contains(&self.status) { Ok(self) } else { Err(self.into_error()) }
    }

    /// Returns an error for this answer, with what its body says where that is text or the errors of a registry.
    pub fn into_error(mut self) -> NetError {
        let mut text = Vec::new();
        // An error within an error is of no use.
        let _ = self.by_ref().take(DETAIL).read_to_end(&mut text);
        NetError::Status {
            method: self.method.to_string(),
            place: place(&self.url),
            status: self.status,
            detail: detail(&text),
        }
    }

    /// Returns the whole body, of `limit` bytes at the most.
    ///
    /// # Errors
    /// [`NetError::TooLarge`], and what reading a body can end with.
    pub fn bytes(mut self, limit: u64) -> Result<Vec<u8>, NetError> {
        let place = place(&self.url);
        if self.length().is_some_and(|length| length > limit) {
            return Err(NetError::TooLarge { place, limit });
        }
        let mut bytes = Vec::new();
        match self.by_ref().take(limit + 1).read_to_end(&mut bytes) {
            Ok(_) if bytes.len() as u64 > limit => Err(NetError::TooLarge { place, limit }),
            Ok(_) => Ok(bytes),
            Err(error) => Err(NetError::from_io(error).unwrap_or_else(|source| NetError::Broken { place, source })),
        }
    }
}

impl Read for Response {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_set() {
            return Err(NetError::Cancelled.into_io());
        }
        let start = Instant::now();
        let result = self.body.read(buffer);
        self.waited += start.elapsed();
        let length = match result {
            Ok(length) => length,
            Err(error) => {
                let error = match error.downcast::<ureq::Error>() {
                    Ok(error) => failed(error, &self.url, None, Wait::Data, self.stall),
                    Err(source) => failed(ureq::Error::Io(source), &self.url, None, Wait::Data, self.stall),
                };
                return Err(error.into_io());
            }
        };
        self.came += length as u64;
        if self.waited >= self.stall {
            if length > 0 && self.came < self.stall.as_secs() * SLOWEST {
                let error = NetError::Timeout { place: place(&self.url), wait: Wait::Data, after: self.stall };
                return Err(error.into_io());
            }
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
        Ok(length)
    }
}

impl fmt::Debug for Response {
    /// Shows no header, since some are secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({} {}: {})", self.method, place(&self.url), self.status)
    }
}

/// What the body of an error says, in one short line after a colon: the errors of a registry, or plain text.
fn detail(body: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(body) else { return String::new() };
    let said = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(json) => {
            let errors = json.get("errors").and_then(|errors| errors.as_array()).cloned().unwrap_or_default();
            let word = |error: &serde_json::Value, name: &str| {
                error.get(name).and_then(|word| word.as_str()).filter(|word| !word.is_empty()).map(str::to_owned)
            };
            let words = errors.iter().filter_map(|error| match (word(error, "code"), word(error, "message")) {
                (Some(code), Some(message)) => Some(format!("{message} ({code})")),
                (code, message) => message.or(code),
            });
            let words: Vec<String> = words.take(3).collect();
            if words.is_empty() {
                ["message", "error_description", "error", "details"]
                    .iter()
                    .find_map(|name| word(&json, name))
                    .unwrap_or_default()
            } else {
                words.join("; ")
            }
        }
        Err(_) if text.trim_start().starts_with('<') => String::new(),
        Err(_) => text.lines().next().unwrap_or_default().into(),
    };
    let mut said: String = said.chars().filter(|letter| !letter.is_control()).take(300).collect();
    said.truncate(said.trim_end().len());
    if said.is_empty() { said } else { format!(": {said}") }
}

#[cfg(test)]
mod tests {
    use super::detail;

    #[test]
    fn what_an_error_says() {
        let registry = r#"{"errors":[{"code":"DENIED","message":"no access","detail":{}},{"code":"UNKNOWN"}]}"#;
        assert_eq!(detail(registry.as_bytes()), ": no access (DENIED); UNKNOWN");
        assert_eq!(detail(br#"{"message":"out of quota"}"#), ": out of quota");
        assert_eq!(detail(b"slow down\nplease"), ": slow down");
        assert_eq!(detail(b"\x1b[31mred\x1b[0m"), ": [31mred[0m");
        for nothing in [&b""[..], b"<html>no</html>", b"\xff\xfe", b"{}", b"[1]"] {
            assert_eq!(detail(nothing), "");
        }
    }
}
