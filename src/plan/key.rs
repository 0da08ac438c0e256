//! Cache keys: see docs/cache-key.md, which is normative.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Add, Chmod, Copy, CopyFrom, CopySource, Mount, MountKind, Network, Op, Run, Script, Sharing};

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
pub struct KeyBuilder {
    hasher: Sha256,
    /// What was added, where somebody wants to know.
    recorded: Option<Vec<Component>>,
}

/// A field of a key, or one part of a list: what a key is made of, as far as it can be kept. Values may be secrets by mistake, so
/// there is only a digest of each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Component {
    /// The tag of the field or list.
    pub tag: String,
    /// The name of a variable, in a list of variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The first 16 hexadecimal digits of the SHA-256 of the value.
    pub digest: String,
}

impl Component {
    fn new(tag: &str, value: &[u8]) -> Self {
        // Of a variable the name is no secret.
        let text = std::str::from_utf8(value).ok().filter(|_| tag == "env");
        let name = text.and_then(|text| text.split_once('=')).map(|(name, _)| name.to_owned());
        Component { tag: tag.into(), name, digest: short_digest(value) }
    }
}

/// Returns the first 16 hexadecimal digits of the SHA-256 of `bytes`: enough to tell that something changed.
pub fn short_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl KeyBuilder {
    /// Returns a builder for keys of one kind, which is named by `domain`: keys of different kinds are never equal.
    pub fn new(domain: &str) -> Self {
        let mut builder = KeyBuilder { hasher: Sha256::new(), recorded: None };
        builder.bytes(b"coracle-key").bytes(&FORMAT_VERSION.to_le_bytes()).bytes(domain.as_bytes());
        builder
    }

    fn record(&mut self, tag: &str, value: &[u8]) {
        if let Some(recorded) = &mut self.recorded {
            recorded.push(Component::new(tag, value));
        }
    }

    /// Adds `bytes` under `tag`.
    pub fn field(&mut self, tag: &str, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.record(tag, bytes.as_ref());
        self.hasher.update(b"f");
        self.bytes(tag.as_bytes()).bytes(bytes.as_ref())
    }

    /// Adds a list of parts under `tag`, in order.
    pub fn list<T: AsRef<[u8]>>(&mut self, tag: &str, parts: impl IntoIterator<Item = T>) -> &mut Self {
        self.hasher.update(b"l");
        self.bytes(tag.as_bytes());
        let mut count = 0u64;
        for part in parts {
            self.record(tag, part.as_ref());
            self.hasher.update(b"i");
            self.bytes(part.as_ref());
            count += 1;
        }
        self.hasher.update(b"e");
        self.hasher.update(count.to_le_bytes());
        self
    }

    /// Returns the key of all that was added.
    pub fn finish(&self) -> CacheKey {
        CacheKey(self.hasher.clone().finalize().into())
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.hasher.update((bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
        self
    }
}

/// Returns the key of what `op` itself says. Not in it: what the op finds (the parent, the files that are copied or mounted), what
/// secrets and caches hold, and [`Run::uncached_env`].
pub fn definition(op: &Op) -> CacheKey {
    described(op, KeyBuilder::new("definition")).finish()
}

/// Returns what the key of `op` is made of.
pub fn components(op: &Op) -> Vec<Component> {
    let builder = KeyBuilder { recorded: Some(Vec::new()), ..KeyBuilder::new("definition") };
    described(op, builder).recorded.unwrap_or_default()
}

fn described(op: &Op, mut key: KeyBuilder) -> KeyBuilder {
    match op {
        Op::Workdir { path, user } => {
            key.field("op", "workdir").field("path", path).field("user", user);
            // Programs up to 2026-11 gave what is made another group.
            if user.bytes().all(|byte| byte.is_ascii_digit()) && user.bytes().any(|byte| byte != b'0') {
                key.field("owner", "number");
            }
        }
        Op::Copy(copy) => define_copy(&mut key, copy),
        Op::Run(run) => define_run(&mut key, run),
        Op::Config => {
            key.field("op", "config");
        }
    }
    key
}

/// The kind only: which it is, is told by its content.
fn kind_of(from: &CopyFrom) -> &'static str {
    match from {
        CopyFrom::Context => "context",
        CopyFrom::Stage(_) => "stage",
        CopyFrom::Image(_) => "image",
        CopyFrom::Named(_) => "named",
    }
}

// What is not there has no field: an instruction keeps its key when the language grows.
fn define_copy(key: &mut KeyBuilder, copy: &Copy) {
    let text = |source: &CopySource| match source {
        CopySource::Path(text) | CopySource::Url(text) | CopySource::Git(text) => text.clone(),
        CopySource::Inline { name, .. } => name.clone(),
    };
    let op = if copy.add.is_some() { "add" } else { "copy" };
    key.field("op", op).field("from", kind_of(&copy.from)).list("sources", copy.sources.iter().map(text));
    key.field("destination", &copy.destination).list("chown", &copy.chown);
    match &copy.chmod {
        None => key.list("chmod", [""; 0]),
        Some(Chmod::Octal(mode)) => key.list("chmod", [mode.to_le_bytes()]),
        Some(Chmod::Symbolic(mode)) => key.field("chmod-symbolic", mode.text()),
    };
    if copy.sources.iter().any(|source| !matches!(source, CopySource::Path(_))) {
        key.list(
            "kinds",
            copy.sources.iter().map(|source| match source {
                CopySource::Path(_) => "path",
                CopySource::Inline { .. } => "inline",
                CopySource::Url(_) => "url",
                CopySource::Git(_) => "git",
            }),
        );
        let inline = copy.sources.iter().filter_map(|source| match source {
            CopySource::Inline { text, .. } => Some(text),
            _ => None,
        });
        key.list("inline", inline);
    }
    if copy.link {
        key.field("link", "");
    }
    if copy.parents {
        key.field("parents", "");
    }
    if !copy.exclude.is_empty() {
        key.list("exclude", &copy.exclude);
    }
    if let Some(Add { unpack, checksum, keep_git_dir }) = &copy.add {
        key.list("unpack", unpack.map(|unpack| unpack.to_string())).list("checksum", checksum);
        key.field("keep-git-dir", keep_git_dir.unwrap_or(false).to_string());
    }
}

fn define_run(key: &mut KeyBuilder, run: &Run) {
    key.field("op", "run").list("args", &run.args).list("env", &run.env);
    key.field("cwd", &run.cwd).field("user", &run.user);
    for mount in &run.mounts {
        define_mount(key, mount);
    }
    if !run.mount_order().is_sorted() {
        // Programs up to 2026-11 showed them as they are written.
        key.field("mount-order", "target");
    }
    if sets_again(run) {
        // Programs up to 2026-11 gave such a variable twice.
        key.field("mount-variables", "once");
    }
    match run.network {
        Network::Default => {}
        Network::None => drop(key.field("network", "none")),
        Network::Host => drop(key.field("network", "host")),
    }
    if let Some(hostname) = &run.hostname {
        key.field("hostname", hostname);
    }
    if let Some(Script { name, text }) = &run.script {
        key.list("script", [name, text]);
    }
}

/// Returns whether a mount sets a variable that is in the environment, too.
fn sets_again(run: &Run) -> bool {
    let is_set =
        |name: &str| run.env.iter().any(|entry| entry.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')));
    run.mounts.iter().any(|mount| match &mount.kind {
        MountKind::Secret { env: Some(name), .. } => is_set(name),
        MountKind::Ssh { .. } => is_set("SSH_AUTH_SOCK"),
        _ => false,
    })
}

fn define_mount(key: &mut KeyBuilder, mount: &Mount) {
    let target = mount.target.as_str();
    let numbers = |mode: u32, uid: u32, gid: u32| format!("{mode:o} {uid} {gid}");
    match &mount.kind {
        MountKind::Bind { from, source, writable } => {
            key.list("mount-bind", [target, kind_of(from), source, &writable.to_string()]);
        }
        MountKind::Cache { id, sharing, from, source, read_only, mode, uid, gid } => {
            let sharing = match sharing {
                Sharing::Shared => "shared",
                Sharing::Private => "private",
                Sharing::Locked => "locked",
            };
            let from = from.as_ref().map_or("", kind_of);
            let (read_only, numbers) = (read_only.to_string(), numbers(*mode, *uid, *gid));
            let parts = [target, id, sharing, from, source, read_only.as_str(), numbers.as_str()];
            // Programs up to 2026-11 took those with one id for one, whatever they begin with.
            let is_other = !from.is_empty() || (*mode, *uid, *gid) != (0o755, 0, 0);
            key.list("mount-cache", parts.into_iter().chain(is_other.then_some("2")));
        }
        MountKind::Tmpfs { size } => {
            key.list("mount-tmpfs", [target, &size.map(|size| size.to_string()).unwrap_or_default()]);
        }
        MountKind::Secret { id, env, file, required, mode, uid, gid } => {
            let (file, required, numbers) = (file.to_string(), required.to_string(), numbers(*mode, *uid, *gid));
            let env = env.as_deref().unwrap_or_default();
            key.list("mount-secret", [target, id, env, &file, &required, &numbers]);
        }
        MountKind::Ssh { id, required, mode, uid, gid } => {
            key.list("mount-ssh", [target, id, &required.to_string(), &numbers(*mode, *uid, *gid)]);
        }
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
