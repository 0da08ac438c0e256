use std::cmp::Ordering;
use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A path inside a root file system or a context: relative to its root, without `.`, `..`, empty components or
/// a slash at either end. The root itself is the empty path. Bytes, not necessarily UTF-8.
///
/// Ordered component by component, so that a directory comes directly before all that is in it:
///
/// ```
/// use coracle::tree::TreePath;
/// let mut paths: Vec<TreePath> = ["a-b", "a/c", "a"].iter().map(|p| TreePath::new(p).unwrap()).collect();
/// paths.sort();
/// assert_eq!(paths.iter().map(|p| p.to_string()).collect::<Vec<_>>(), ["a", "a/c", "a-b"]);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct TreePath(Vec<u8>);

/// A path has a component that no file can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// A NUL byte.
    #[error("path {0:?} has a NUL byte")]
    Nul(String),
    /// A component of more than 255 bytes.
    #[error("path {0:?} has a component of more than 255 bytes")]
    LongName(String),
}

impl TreePath {
    /// Returns the root: the empty path.
    pub const fn root() -> Self {
        TreePath(Vec::new())
    }

    /// Returns `path`, taken from the root and cleaned by its text alone: `/`, `.` and empty components are
    /// dropped, `..` drops the component before it and stays at the root there.
    ///
    /// # Errors
    /// [`PathError`] for a NUL byte or a name of more than 255 bytes.
    pub fn new(path: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let path = path.as_ref();
        if path.contains(&0) {
            return Err(PathError::Nul(String::from_utf8_lossy(path).into_owned()));
        }
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in path.split(|&b| b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                long if long.len() > 255 => {
                    return Err(PathError::LongName(String::from_utf8_lossy(path).into_owned()));
                }
                part => parts.push(part),
            }
        }
        Ok(TreePath(parts.join(&b'/')))
    }

    /// Returns the path of `name` in this directory. `name` must be a single component.
    pub fn child(&self, name: &[u8]) -> Self {
        debug_assert!(!name.is_empty() && !name.contains(&b'/') && name != b"." && name != b"..");
        let mut path = Vec::with_capacity(self.0.len() + 1 + name.len());
        path.extend_from_slice(&self.0);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        TreePath(path)
    }

    /// Returns this path with `rest` below it.
    pub fn join(&self, rest: &TreePath) -> Self {
        match (self.0.is_empty(), rest.0.is_empty()) {
            (true, _) => rest.clone(),
            (_, true) => self.clone(),
            _ => TreePath([&self.0[..], b"/", &rest.0[..]].concat()),
        }
    }

    /// Returns the directory that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Some(TreePath(self.0[..end].to_vec()))
    }

    /// Returns the last component; `None` for the root.
    pub fn name(&self) -> Option<&[u8]> {
        if self.0.is_empty() {
            return None;
        }
        let start = self.0.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
        Some(&self.0[start..])
    }

    /// Returns the components, outermost first.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|part| !part.is_empty())
    }

    /// Returns the directories that lead to this path, outermost first, without the root and itself.
    pub fn ancestors(&self) -> impl Iterator<Item = TreePath> + '_ {
        self.0.iter().enumerate().filter(|&(_, &b)| b == b'/').map(|(at, _)| TreePath(self.0[..at].to_vec()))
    }

    /// Returns whether this path is `dir` or lies below it.
    pub fn starts_with(&self, dir: &TreePath) -> bool {
        dir.0.is_empty() || (self.0.starts_with(&dir.0) && matches!(self.0.get(dir.0.len()), None | Some(b'/')))
    }

    /// Returns this path relative to `dir`, which must be a parent of it or itself.
    pub fn strip_prefix(&self, dir: &TreePath) -> Option<TreePath> {
        if !self.starts_with(dir) {
            return None;
        }
        if dir.0.is_empty() {
            return Some(self.clone());
        }
        Some(TreePath(self.0.get(dir.0.len() + 1..).unwrap_or_default().to_vec()))
    }

    /// Returns whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the bytes, without a slash in front.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns this as a relative host path; `.` for the root.
    pub fn as_os_path(&self) -> &std::path::Path {
        use std::os::unix::ffi::OsStrExt;
        std::path::Path::new(std::ffi::OsStr::from_bytes(if self.0.is_empty() { b"." } else { &self.0 }))
    }
}

/// Returns whether `bytes` are those of a path: what [`TreePath::new`] would make of them is the same.
fn is_clean(bytes: &[u8]) -> bool {
    let is_name = |part: &[u8]| !part.is_empty() && part.len() <= 255 && part != b"." && part != b"..";
    bytes.is_empty() || (!bytes.contains(&0) && bytes.split(|&b| b == b'/').all(is_name))
}

/// Reads the bytes of a path, whoever wrote them.
struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = TreePath;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a clean path")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<TreePath, E> {
        match is_clean(bytes) {
            true => Ok(TreePath(bytes.to_vec())),
            false => Err(E::custom("a path in it is none")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<TreePath, A::Error> {
        let mut path = Vec::new();
        while let Some(byte) = bytes.next_element()? {
            path.push(byte);
        }
        self.visit_bytes(&path)
    }
}

impl<'de> Deserialize<'de> for TreePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(Bytes)
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        // A slash sorts below every other byte: that makes byte order the order of components.
        let rank = |b: &u8| if *b == b'/' { 0 } else { u16::from(*b) + 1 };
        self.0.iter().map(rank).cmp(other.0.iter().map(rank))
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for TreePath {
    /// Writes the path without a slash in front; control characters and bytes that are no UTF-8 are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
            }
            for b in chunk.invalid() {
                write!(f, "\\x{b:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text).expect("a good path")
    }

    #[test]
    fn cleaning_clamps_at_the_root() {
        assert_eq!(path("/../../etc/./passwd").as_bytes(), b"etc/passwd");
        assert_eq!(path("a//b/../c/").as_bytes(), b"a/c");
        assert!(path("/..").is_root());
    }

    #[test]
    fn parents_and_prefixes() {
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(TreePath::root()));
        assert_eq!(TreePath::root().parent(), None);
        assert!(path("a/b").starts_with(&path("a")) && !path("ab").starts_with(&path("a")));
        assert_eq!(path("a/b/c").strip_prefix(&path("a")), Some(path("b/c")));
        assert_eq!(path("a/b/c").ancestors().collect::<Vec<_>>(), [path("a"), path("a/b")]);
    }

    #[test]
    fn what_is_read_is_clean_or_refused() {
        for text in ["", "a", "a/b c", "a/...", "\u{e4}"] {
            let bytes = postcard::to_stdvec(&path(text)).unwrap();
            assert_eq!(bytes, postcard::to_stdvec(text.as_bytes()).unwrap(), "as a list of bytes");
            assert_eq!(postcard::from_bytes::<TreePath>(&bytes).unwrap(), path(text));
            assert_eq!(serde_json::from_value::<TreePath>(serde_json::json!(text.as_bytes())).unwrap(), path(text));
        }
        for text in ["/", "/a", "a/", "a//b", ".", "a/..", "../a", "a/./b", "a\0", &"x".repeat(256)] {
            let bytes = postcard::to_stdvec(text.as_bytes()).unwrap();
            assert!(postcard::from_bytes::<TreePath>(&bytes).is_err(), "{text:?}");
        }
    }

    #[test]
    fn bad_names_are_refused() {
        assert!(matches!(TreePath::new("a\0b"), Err(PathError::Nul(_))));
        assert!(matches!(TreePath::new("x".repeat(256)), Err(PathError::LongName(_))));
    }
}
