use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde_json::{Map, Value, json};

use super::blob::{create_new, is_sound, open_regular, remove_unused, same_file, unique_name};
use super::lock::Lock;
use super::{Store, StoreError};
use crate::oci::{Digest, Reference, media_type};

/// The annotation that names an image in a layout (image-spec, annotations.md).
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation by which containerd and docker name an image in a layout.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The largest index.json that is read, in bytes.
const MAX_INDEX: u64 = 64 << 20;
const LAYOUT_FILE: &str = "oci-layout";
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaggedImage {
    /// The name, as the layout has it. In the store: registry, repository and tag in full.
    pub name: String,
    /// Leads to its manifest or index.
    pub descriptor: Descriptor,
}

/// An entry of a layout's index.json.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutEntry {
    /// Its name, as the layout has it; `None` where it has none.
    pub name: Option<String>,
    /// Leads to a manifest or an index.
    pub descriptor: Descriptor,
}

/// The index of an OCI layout on disk: that of the store, or of any other. Blobs are none of its business.
///
/// Each change is a read, a change and an atomic rename under a lock, so that no two processes lose each other's
/// entries. Members and entries that coracle does not know stay as they are.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
    lock: PathBuf,
}

impl Layout {
    /// Returns the layout in the folder `dir`, which need not exist yet. Its lock is on the file `oci-layout`.
    pub fn at(dir: &Path) -> Self {
        Layout { dir: dir.to_path_buf(), lock: dir.join(LAYOUT_FILE) }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }

    /// Returns whether the blob `digest` is there, and its content is `size` bytes with that digest. Reads all of it.
    pub fn blob_is_sound(&self, digest: &Digest, size: u64) -> bool {
        is_sound(&self.blob(digest), digest, size)
    }

    /// Makes the folders and the file `oci-layout`, where they are missing. There is no index.json before the first
    /// image is.
    ///
    /// # Errors
    /// [`StoreError::Io`]; [`StoreError::Damaged`] where the folder is a layout of a version that is not known.
    pub fn prepare(&self) -> Result<(), StoreError> {
        let blobs = self.dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(|source| StoreError::io("create", &blobs, source))?;
        let path = self.dir.join(LAYOUT_FILE);
        if let Some(bytes) = read(&path, 4096)? {
            return check_version(&path, &bytes);
        }
        self.remove_left();
        let (temp, file) = self.temp_layout()?;
        let made = write_new(&file, LAYOUT)
            .and_then(|()| rename_to_free(&temp, &path))
            .map_err(|source| StoreError::io("create", &path, source));
        // Where it got its name, there is nothing to remove.
        let _ = fs::remove_file(&temp);
        made
    }

    /// Returns a new file beside the place of the file `oci-layout`, locked by this process.
    fn temp_layout(&self) -> Result<(PathBuf, File), StoreError> {
        loop {
            let temp = self.dir.join(format!(".{LAYOUT_FILE}.{}", unique_name()));
            let file = create_new(&temp).map_err(|errno| StoreError::io("create", &temp, errno.into()))?;
            file.lock().map_err(|source| StoreError::io("lock", &temp, source))?;
            // Before it was locked another one may have taken it for left over.
            if same_file(&file, &temp) {
                return Ok((temp, file));
            }
        }
    }

    /// Removes what processes left that were killed while they began the layout.
    fn remove_left(&self) {
        let is_temp = |entry: &fs::DirEntry| {
            let name = entry.file_name();
            let rest = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_prefix(LAYOUT_FILE));
            rest.is_some_and(|rest| rest.starts_with('.')) && entry.file_type().is_ok_and(|kind| kind.is_file())
        };
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries.filter(is_temp).for_each(|entry| remove_unused(&entry.path()));
    }

    /// Returns the entries of index.json, in order; `None` where there is no index.json.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where index.json is not the JSON of an index.
    pub fn entries(&self) -> Result<Option<Vec<LayoutEntry>>, StoreError> {
        let path = self.index_path();
        let Some(index) = self.read()? else { return Ok(None) };
        let mut entries = Vec::new();
        for (at, entry) in manifests(&index).iter().enumerate() {
            let descriptor: Descriptor = serde_json::from_value(entry.clone())
                .map_err(|error| damaged(&path, &format!("entry {at}: {}", error.to_string().escape_debug())))?;
            entries.push(LayoutEntry { name: name_of(entry).map(str::to_owned), descriptor });
        }
        Ok(Some(entries))
    }

    /// Names the image of `descriptor` in index.json: once under each of `names`, in place of what had that name before,
    /// or without a name where `names` is empty, in place of an entry without a name for the same platform. Returns
    /// whether anything changed; if not, nothing is written.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where index.json is not the JSON of an index; [`StoreError::Io`].
    pub fn add(&self, names: &[String], descriptor: &Descriptor) -> Result<bool, StoreError> {
        self.change(|entries| {
            let mut changed = false;
            let names: Vec<Option<&str>> =
                if names.is_empty() { vec![None] } else { names.iter().map(|name| Some(name.as_str())).collect() };
            for name in names {
                let new = entry(name, descriptor);
                let same = |old: &Value| match name {
                    Some(name) => name_of(old) == Some(name),
                    None => name_of(old).is_none() && (old.get("platform") == new.get("platform")),
                };
                let old: Vec<usize> = (0..entries.len()).filter(|&at| same(&entries[at])).collect();
                match old.split_first() {
                    Some((&first, [])) if entries[first] == new => continue,
                    Some((&first, rest)) => {
                        entries[first] = new;
                        rest.iter().rev().for_each(|&at| drop(entries.remove(at)));
                    }
                    None => entries.push(new),
                }
                changed = true;
            }
            changed
        })
    }

    /// Removes the entries with the name `name` from index.json. Returns whether there were any.
    ///
    /// # Errors
    /// As [`Layout::add`].
    pub fn remove(&self, name: &str) -> Result<bool, StoreError> {
        self.change(|entries| {
            let before = entries.len();
            entries.retain(|entry| name_of(entry) != Some(name));
            entries.len() != before
        })
    }

    /// Changes the entries. `change` says whether it changed any, and may be called twice.
    fn change(&self, mut change: impl FnMut(&mut Vec<Value>) -> bool) -> Result<bool, StoreError> {
        // Mostly nothing changes, and then there is no lock to take.
        if let Some(mut index) = self.read()?
            && !change(manifests_mut(&mut index))
        {
            return Ok(false);
        }
        let _lock = Lock::wait_alone(&self.lock)?;
        let mut index = match self.read()? {
            Some(index) => index,
            None => json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": []}),
        };
        let changed = change(manifests_mut(&mut index));
        if changed {
            self.write(&index)?;
        }
        Ok(changed)
    }

    fn write(&self, index: &Value) -> Result<(), StoreError> {
        // The blobs' names must be on disk before the index that leads to them.
        sync_dir(&self.dir.join("blobs/sha256"))?;
        let path = self.index_path();
        // One name for all: the lock is held, and what a killed process left is written over.
        let temp = self.dir.join(".index.json.new");
        write_synced(&temp, &serde_json::to_vec(index).expect("JSON values always serialise"))?;
        fs::rename(&temp, &path).map_err(|source| StoreError::io("rename", &path, source))?;
        sync_dir(&self.dir)
    }

    fn read(&self) -> Result<Option<Value>, StoreError> {
        let path = self.index_path();
        let Some(bytes) = read(&path, MAX_INDEX)? else { return Ok(None) };
        let index: Value =
            serde_json::from_slice(&bytes).map_err(|error| damaged(&path, &format!("it is not JSON: {error}")))?;
        let fine = index.get("schemaVersion").and_then(Value::as_u64) == Some(2)
            && index
                .get("manifests")
                .is_some_and(|list| list.as_array().is_some_and(|l| l.iter().all(Value::is_object)));
        if !fine {
            return Err(damaged(&path, "it is not an image index"));
        }
        if index.get("layers").is_some() || index.get("config").is_some() {
            return Err(damaged(&path, "it has both manifests and layers"));
        }
        Ok(Some(index))
    }

    fn index_path(&self) -> PathBuf {
        self.dir.join("index.json")
    }
}

impl Store {
    /// Returns the index of the store's layout.
    pub(super) fn index_layout(&self) -> Layout {
        Layout { dir: self.layout(), lock: self.root.join("oci.lock") }
    }

    /// Returns the images that have a name, in the order of the index.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where index.json is not the JSON of an index.
    pub fn images(&self) -> Result<Vec<TaggedImage>, StoreError> {
        let entries = self.index_layout().entries()?.unwrap_or_default();
        let named = |entry: LayoutEntry| Some(TaggedImage { name: entry.name?, descriptor: entry.descriptor });
        Ok(entries.into_iter().filter_map(named).collect())
    }

    /// Names the image of `descriptor`: each of `names`, which are made full ("demoweb:2" is
    /// "docker.io/library/demoweb:2"), leads to it from now on. Where that is so already, nothing is written.
    ///
    /// # Errors
    /// [`StoreError::NoBlob`] where its manifest is not in the store; [`StoreError::BadImage`] for what is not an image
    /// name; else as [`Store::images`].
    pub fn tag(&self, names: &[String], descriptor: &Descriptor) -> Result<(), StoreError> {
        let digest = crate::oci::digest_of(descriptor)?;
        if !self.has_blob(&digest) {
            return Err(StoreError::NoBlob(digest));
        }
        let full: Result<Vec<String>, StoreError> = names
            .iter()
            .map(|name| match Reference::parse(name) {
                Ok(reference) => Ok(reference.to_string()),
                Err(error) => Err(StoreError::BadImage { what: format!("name {name:?}"), reason: error.to_string() }),
            })
            .collect();
        let full = full?;
        if !full.is_empty() {
            self.index_layout().add(&full, descriptor)?;
        }
        Ok(())
    }

    /// Takes the name `name` (in full or short) from its image. Returns whether an image had it.
    ///
    /// # Errors
    /// As [`Store::images`].
    pub fn untag(&self, name: &str) -> Result<bool, StoreError> {
        match Reference::parse(name) {
            Ok(reference) if self.index_layout().remove(&reference.to_string())? => Ok(true),
            _ => self.index_layout().remove(name),
        }
    }
}

impl Layout {
    /// Makes a layout that other tools can read even without an image in it.
    pub(super) fn create(&self) -> Result<(), StoreError> {
        self.prepare()?;
        if fs::symlink_metadata(self.index_path()).is_ok() {
            return Ok(());
        }
        let _lock = Lock::wait_alone(&self.lock)?;
        match self.read()? {
            Some(_) => Ok(()),
            None => self.write(&json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": []})),
        }
    }
}

/// Returns the name of an entry of an index in full, where it has one: what containerd calls it, or its reference name if
/// that is more than a tag.
pub fn reference_name(descriptor: &Descriptor) -> Option<Reference> {
    let annotations = descriptor.annotations().as_ref()?;
    let full = |name: &String| Reference::parse(name).ok();
    let containerd = annotations.get(CONTAINERD_NAME).and_then(full);
    containerd.or_else(|| annotations.get(REF_NAME).filter(|name| name.contains([':', '/'])).and_then(full))
}

/// Returns the index.json of a layout in which each image has each of its names, or none.
pub fn index_json(images: &[(&[String], &Descriptor)]) -> Vec<u8> {
    let mut entries: Vec<Value> = Vec::new();
    for (names, descriptor) in images {
        match names {
            [] => entries.push(entry(None, descriptor)),
            names => entries.extend(names.iter().map(|name| entry(Some(name), descriptor))),
        }
    }
    let index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": entries});
    serde_json::to_vec(&index).expect("JSON values always serialise")
}

/// Returns the entry of an index that gives `descriptor` the name `name`.
fn entry(name: Option<&str>, descriptor: &Descriptor) -> Value {
    let mut entry = serde_json::to_value(descriptor).expect("descriptors always serialise");
    let mut annotations: BTreeMap<&str, String> = BTreeMap::new();
    for (key, value) in descriptor.annotations().iter().flatten() {
        if key != REF_NAME && key != CONTAINERD_NAME {
            annotations.insert(key, value.clone());
        }
    }
    if let Some(name) = name {
        annotations.insert(REF_NAME, name.to_owned());
        // A bare word may be a tag: only what is more than that is sure to be an image's name.
        if name.contains([':', '/'])
            && let Ok(reference) = Reference::parse(name)
        {
            annotations.insert(CONTAINERD_NAME, reference.to_string());
        }
    }
    let members = entry.as_object_mut().expect("a descriptor is an object");
    members.shift_remove("annotations");
    if !annotations.is_empty() {
        // By key: a hash map's order differs from run to run.
        let annotations: Map<String, Value> =
            annotations.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        members.insert("annotations".into(), annotations.into());
    }
    entry
}

fn name_of(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(REF_NAME)?.as_str()
}

fn manifests(index: &Value) -> &[Value] {
    index.get("manifests").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn manifests_mut(index: &mut Value) -> &mut Vec<Value> {
    index.get_mut("manifests").and_then(Value::as_array_mut).expect("`read` accepts only an index with a list")
}

fn check_version(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let version: Option<Value> = serde_json::from_slice(bytes).ok();
    match version.as_ref().and_then(|v| v.get("imageLayoutVersion")).and_then(Value::as_str) {
        Some(version) if version.starts_with("1.") => Ok(()),
        _ => Err(damaged(path, "it does not say an image layout version 1")),
    }
}

/// Returns the content of the regular file `path`; `None` where there is none.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(file) = open_regular(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|source| StoreError::io("read", path, source))?;
    if bytes.len() as u64 > limit {
        return Err(damaged(path, &format!("it has more than {limit} bytes")));
    }
    Ok(Some(bytes))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))
        .map_err(|errno| StoreError::io("create", path, errno.into()))?;
    let mut file = File::from(fd);
    file.write_all(bytes).and_then(|()| file.sync_data()).map_err(|source| {
        // Nothing half-written stays where others could take it for theirs.
        let _ = fs::remove_file(path);
        StoreError::io("write", path, source)
    })
}

/// Gives a file a name that nothing has; otherwise nothing changes, since others may hold a lock on what is there. On a file system
/// that can do neither of the two, it takes the place.
fn rename_to_free(from: &Path, to: &Path) -> std::io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) | Err(Errno::EXIST) => return Ok(()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        Err(errno) => return Err(errno.into()),
    }
    match fs::hard_link(from, to) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => fs::rename(from, to),
        _ => Ok(()),
    }
}

fn write_new(mut file: &File, bytes: &[u8]) -> std::io::Result<()> {
    file.write_all(bytes)?;
    file.sync_data()
}

fn sync_dir(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|source| StoreError::io("sync", path, source))
}

/// What to do is part of it: an index that cannot be read blocks all work on the layout.
fn damaged(path: &Path, reason: &str) -> StoreError {
    let advice = "restore it, or remove it: the blobs stay, and images can be found by digest and tagged again";
    StoreError::Damaged { path: path.to_path_buf(), reason: format!("{reason}; {advice}") }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
