//! Cache keys: see docs/cache-key.md, which is normative.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::{CopyFrom, Op};

/// Goes into every key. A change of what a key is made of, or of what a step does with it, raises it.
pub const FORMAT_VERSION: u32 = 1;

/// Names what a step makes: equal keys, equal results.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey(pub [u8; 32]);

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes a [`CacheKey`] of tagged fields. Every part has its length in front, so that no two different lists of fields
/// are the same bytes.
///
/// ```
/// use coracle::plan::KeyBuilder;
/// let mut a = KeyBuilder::new("example");
/// a.field("name", b"ab").field("value", b"c");
/// let mut b = KeyBuilder::new("example");
/// b.field("name", b"a").field("value", b"bc");
/// assert_ne!(a.finish(), b.finish());
/// ```
#[derive(Debug, Clone)]
pub struct KeyBuilder(Sha256);

impl KeyBuilder {
    /// Returns a builder for keys of one kind, which is named by `domain`: keys of different kinds are never equal.
    pub fn new(domain: &str) -> Self {
        let mut builder = KeyBuilder(Sha256::new());
        builder.bytes(b"coracle-key").bytes(&FORMAT_VERSION.to_le_bytes()).bytes(domain.as_bytes());
        builder
    }

    /// Adds `bytes` under `tag`.
    pub fn field(&mut self, tag: &str, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.0.update(b"f");
        self.bytes(tag.as_bytes()).bytes(bytes.as_ref())
    }

    /// Adds a list of parts under `tag`, in order.
    pub fn list<T: AsRef<[u8]>>(&mut self, tag: &str, parts: impl IntoIterator<Item = T>) -> &mut Self {
        self.0.update(b"l");
        self.bytes(tag.as_bytes());
        let mut count = 0u64;
        for part in parts {
            self.0.update(b"i");
            self.bytes(part.as_ref());
            count += 1;
        }
        self.0.update(b"e");
        self.0.update(count.to_le_bytes());
        self
    }

    /// Returns the key of all that was added.
    pub fn finish(&self) -> CacheKey {
        CacheKey(self.0.clone().finalize().into())
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }
}

/// Returns the key of what `op` itself says. Not in it: what the op finds (the parent, the files that are copied), and
/// [`Run::uncached_env`](super::Run::uncached_env).
pub fn definition(op: &Op) -> CacheKey {
    let mut key = KeyBuilder::new("definition");
    match op {
        Op::Workdir { path, user } => key.field("op", "workdir").field("path", path).field("user", user),
        Op::Copy(copy) => {
            let from = match &copy.from {
                CopyFrom::Context => "context",
                CopyFrom::Stage(_) => "stage",
                CopyFrom::Image(_) => "image",
            };
            key.field("op", "copy").field("from", from).list("sources", &copy.sources);
            key.field("destination", &copy.destination).list("chown", &copy.chown);
            key.list("chmod", copy.chmod.map(|mode| mode.to_le_bytes()))
        }
        Op::Run(run) => {
            key.field("op", "run").list("args", &run.args).list("env", &run.env);
            key.field("cwd", &run.cwd).field("user", &run.user)
        }
        Op::Config => key.field("op", "config"),
    };
    key.finish()
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
