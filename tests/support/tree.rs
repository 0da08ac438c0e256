use std::collections::BTreeMap;
use std::io::Read;

use tar::EntryType;

/// A file in a layer or an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group: "0:0".
    pub owner: String,
    /// Seconds since 1970.
    pub mtime: u64,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// Type of a file, with what goes with it.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Its bytes.
    File(Vec<u8>),
    /// A directory.
    Dir,
    /// A symbolic link: its text.
    Symlink(String),
    /// A further name of the file with this path.
    HardLink(String),
    /// A device or a fifo.
    Other,
}

/// One layer: what its archive holds, in its order.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Names as in the archive, and the files. A directory ends with a slash.
    pub entries: Vec<(String, Node)>,
}

/// The files of an image, all layers applied. Paths have no slash at either end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tree(BTreeMap<String, Node>);

impl Layer {
    /// Reads a tar archive.
    pub fn read(archive: impl Read) -> Self {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().expect("a tar archive");
        Layer { entries: entries.map(|entry| Self::entry(entry.expect("an entry"))).collect() }
    }

    fn entry(mut entry: tar::Entry<'_, impl Read>) -> (String, Node) {
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let target =
            || entry.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned()).expect("a target");
        let header = entry.header();
        let (mode, mtime) = (header.mode().expect("a mode"), header.mtime().expect("a time"));
        let owner = format!("{}:{}", header.uid().expect("an owner"), header.gid().expect("a group"));
        let mut kind = match header.entry_type() {
            EntryType::Directory => Kind::Dir,
            EntryType::Symlink => Kind::Symlink(target()),
            EntryType::Link => Kind::HardLink(target()),
            EntryType::Regular | EntryType::Continuous => Kind::File(Vec::new()),
            _ => Kind::Other,
        };
        let mut xattrs = BTreeMap::new();
        if let Ok(Some(extensions)) = entry.pax_extensions() {
            for extension in extensions.flatten() {
                if let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) {
                    xattrs.insert(name.into(), extension.value_bytes().into());
                }
            }
        }
        if let Kind::File(bytes) = &mut kind {
            entry.read_to_end(bytes).expect("the bytes of the file");
        }
        (name, Node { kind, mode: mode & 0o7777, owner, mtime, xattrs })
    }

    /// Returns the paths in the layer, whiteouts too, without a slash at either end.
    pub fn paths(&self) -> Vec<String> {
        self.entries.iter().map(|(name, _)| plain(name)).collect()
    }

    /// Returns the file at `path`.
    pub fn node(&self, path: &str) -> &Node {
        let found = self.entries.iter().find(|(name, _)| plain(name) == plain(path));
        &found.unwrap_or_else(|| panic!("no {path} in the layer, but {:?}", self.paths())).1
    }

    /// Checks the contents of a file.
    pub fn has_file(&self, path: &str, text: &str) -> &Self {
        self.node(path).is_file(path, text);
        self
    }

    /// Checks that there is a directory.
    pub fn has_dir(&self, path: &str) -> &Self {
        assert_eq!(self.node(path).kind, Kind::Dir, "{path}");
        self
    }

    /// Checks that there is nothing at `path` or below it.
    pub fn has_no(&self, path: &str) -> &Self {
        let below = plain(path) + "/";
        let found: Vec<_> = self.paths().into_iter().filter(|other| format!("{other}/").starts_with(&below)).collect();
        assert!(found.is_empty(), "{found:?} in the layer");
        self
    }

    /// Checks that the layer takes away `path` of the layers below.
    pub fn removes(&self, path: &str) -> &Self {
        let path = plain(path);
        let (parent, name) = path.rsplit_once('/').map_or(("", &*path), |(parent, name)| (parent, name));
        self.node(plain(&format!("{parent}/.wh.{name}")).as_str());
        self
    }

    /// Checks that the layer changes nothing.
    pub fn is_empty(&self) -> &Self {
        assert!(self.entries.is_empty(), "{:?}", self.paths());
        self
    }

    /// Checks that the archive is written as coracle writes all: sorted, so that each directory comes before what is in
    /// it, a slash at its end, no slash or dot in front.
    pub fn is_canonical(&self) -> &Self {
        let files: Vec<_> = self.paths().into_iter().filter(|path| !path.contains(".wh.")).collect();
        let mut sorted = files.clone();
        sorted.sort_by_cached_key(|path| path.replace('/', "\0"));
        assert_eq!(files, sorted, "not sorted");
        for (name, node) in &self.entries {
            assert_eq!(name.ends_with('/'), node.kind == Kind::Dir, "{name}");
            assert!(!name.starts_with('/') && !name.starts_with("./"), "{name}");
        }
        self
    }
}

impl Node {
    /// Checks the contents of a file.
    pub fn is_file(&self, path: &str, text: &str) {
        match &self.kind {
            Kind::File(bytes) => assert_eq!(String::from_utf8_lossy(bytes), text, "contents of {path}"),
            other => panic!("{path} is no file, but {other:?}"),
        }
    }
}

impl Tree {
    /// Puts a layer on top.
    pub fn apply(&mut self, layer: &Layer) {
        // Whiteouts act on the layers below, wherever they stand in the archive.
        for path in layer.paths() {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if name == ".wh..wh..opq" {
                self.remove(parent, false);
            } else if let Some(gone) = name.strip_prefix(".wh.") {
                self.remove(&plain(&format!("{parent}/{gone}")), true);
            }
        }
        for (name, node) in &layer.entries {
            let path = plain(name);
            if path.is_empty() || path.rsplit('/').next().is_some_and(|name| name.starts_with(".wh.")) {
                continue;
            }
            let mut node = node.clone();
            if let Kind::HardLink(first) = &node.kind {
                node = self.0.get(&plain(first)).unwrap_or_else(|| panic!("{path} is a link to nothing")).clone();
            }
            if node.kind != Kind::Dir {
                self.remove(&path, true);
            }
            self.0.insert(path, node);
        }
    }

    fn remove(&mut self, path: &str, itself: bool) {
        let below = format!("{path}/");
        self.0.retain(|other, _| !(other.starts_with(&below) || path.is_empty() || itself && other == path));
    }

    /// Returns the file at `path`, if there is one.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.0.get(&plain(path))
    }

    /// Returns all paths.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// A path without `./` before it and slashes around it.
fn plain(path: &str) -> String {
    path.trim_start_matches("./").trim_matches('/').trim_end_matches("/.").into()
}
