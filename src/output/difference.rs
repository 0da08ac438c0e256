//! In what two images differ: in the words of their configurations, and in their files.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::OutputError;
use super::content::Origin;
use crate::layer::{self, UnpackOptions};
use crate::store::Image;
use crate::tree::{Entry, Kind, TreePath};

/// The files of an image, by their paths.
type Files = BTreeMap<TreePath, Entry>;

/// In what two images differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Fields of the configuration, by their paths.
    pub config: Vec<Field>,
    /// Files that only the second has, sorted by path.
    pub added: Vec<Changed>,
    /// Files that only the first has.
    pub removed: Vec<Changed>,
    /// Files that both have, and not the same.
    pub changed: Vec<Changed>,
}

/// A field of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Where it is: "config.Env".
    pub field: String,
    /// What the first image says; null where it does not have it.
    pub from: Value,
    /// What the second says.
    pub to: Value,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Its path, with a slash in front; what is not UTF-8 in it is replaced.
    pub path: String,
    /// What it is: in the second image, if that has it.
    pub kind: &'static str,
    /// Its length in bytes in the first image, where it is a file there.
    pub from_size: Option<u64>,
    /// And in the second.
    pub to_size: Option<u64>,
    /// In what it differs: kind, content, mode, owner, time, attributes.
    pub what: Vec<&'static str>,
}

/// Returns in what the images differ. Each comes with the place where its layers are read.
///
/// # Errors
/// [`OutputError`] where a layer is not there, or cannot be read.
pub fn difference(first: (&Image, &dyn Origin), second: (&Image, &dyn Origin)) -> Result<Difference, OutputError> {
    let mut found = Difference::default();
    let parse = |image: &Image| serde_json::from_slice(&image.config_bytes).unwrap_or(Value::Null);
    fields("", &parse(first.0), &parse(second.0), &mut found.config);
    if first.0.config.rootfs.diff_ids == second.0.config.rootfs.diff_ids {
        return Ok(found);
    }
    let (from, to) = (files(first)?, files(second)?);
    for (path, new) in &to {
        match from.get(path) {
            None => found.added.push(changed(path, None, Some(new), Vec::new())),
            Some(old) => {
                let what = unlike(old, new);
                if !what.is_empty() {
                    found.changed.push(changed(path, Some(old), Some(new), what));
                }
            }
        }
    }
    for (path, old) in &from {
        if !to.contains_key(path) {
            found.removed.push(changed(path, Some(old), None, Vec::new()));
        }
    }
    Ok(found)
}

/// Notes the fields in which two documents differ. Objects are looked into; the layers are told by the files.
fn fields(at: &str, from: &Value, to: &Value, found: &mut Vec<Field>) {
    if from == to || at == "rootfs" || at == "history" {
        return;
    }
    let (Value::Object(old), Value::Object(new)) = (from, to) else {
        found.push(Field { field: at.to_owned(), from: from.clone(), to: to.clone() });
        return;
    };
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let below = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        fields(&below, old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null), found);
    }
}

/// Returns the files of an image: its layers, one upon the other.
fn files((image, from): (&Image, &dyn Origin)) -> Result<Files, OutputError> {
    let mut files = Files::new();
    for layer in image.layers() {
        let reading = |source| OutputError::Read { what: from.blob_name(&layer.digest), source };
        let (reader, _) = from.blob(layer.descriptor)?;
        let mut tar = layer::decompress(reader).map_err(reading)?;
        let scanned = layer::scan(&mut tar, &UnpackOptions::default())?;
        for path in &scanned.opaque {
            files.retain(|known, _| known == path || !known.starts_with(path));
        }
        for entry in scanned.entries {
            put(&mut files, entry);
        }
    }
    Ok(files)
}

fn put(files: &mut Files, entry: Entry) {
    let path = entry.path.clone();
    let was_dir = files.get(&path).is_some_and(|old| old.kind.is_dir());
    if was_dir && !entry.kind.is_dir() {
        // All that was in it goes with it.
        let below: Vec<TreePath> = files
            .range(path.clone()..)
            .map(|(known, _)| known)
            .take_while(|known| known.starts_with(&path))
            .cloned()
            .collect();
        below.iter().for_each(|known| drop(files.remove(known)));
    }
    match &entry.kind {
        Kind::Whiteout => drop(files.remove(&path)),
        // Known only by what lies in it: it is what it was.
        Kind::Dir if entry.implied && was_dir => {}
        Kind::Hardlink { target } => {
            // A second name of a file is a file.
            let file = files.get(target).map(|file| Entry { path: path.clone(), ..file.clone() });
            files.insert(path, file.unwrap_or(entry));
        }
        _ => drop(files.insert(path, entry)),
    }
}

fn unlike(old: &Entry, new: &Entry) -> Vec<&'static str> {
    let mut what = Vec::new();
    let same_kind = std::mem::discriminant(&old.kind) == std::mem::discriminant(&new.kind);
    if !same_kind {
        what.push("kind");
    } else if old.kind != new.kind {
        what.push("content");
    }
    if old.meta.mode != new.meta.mode {
        what.push("mode");
    }
    if (old.meta.uid, old.meta.gid) != (new.meta.uid, new.meta.gid) {
        what.push("owner");
    }
    if old.meta.mtime != new.meta.mtime && !new.kind.is_dir() {
        what.push("time");
    }
    if old.meta.xattrs != new.meta.xattrs {
        what.push("attributes");
    }
    what
}

fn changed(path: &TreePath, old: Option<&Entry>, new: Option<&Entry>, what: Vec<&'static str>) -> Changed {
    let size = |entry: &Entry| match entry.kind {
        Kind::File { size, .. } => Some(size),
        _ => None,
    };
    let kind = new.or(old).map_or("file", |entry| entry.kind.word());
    let path = format!("/{}", String::from_utf8_lossy(path.as_bytes()));
    Changed { path, kind, from_size: old.and_then(size), to_size: new.and_then(size), what }
}
