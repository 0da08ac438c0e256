use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use ocidir::cap_std::{ambient_authority, fs::Dir};
use ocidir::prelude::OciRead;
use serde_json::Value;

use super::{Kind, Layer, Node, Tree, User};

/// An image in an OCI layout, to look at.
#[derive(Debug)]
pub struct Image {
    layout: PathBuf,
    digest: String,
    manifest: Value,
    document: Value,
    tree: OnceCell<Tree>,
    user: Option<User>,
}

impl Image {
    /// Returns the image `name` of a layout, after a check of the whole layout by the crate ocidir.
    pub fn named(layout: &Path, name: &str, user: Option<User>) -> Self {
        let index = checked_index(layout);
        let entries = index["manifests"].as_array().expect("manifests");
        let names =
            |entry: &Value| entry["annotations"]["org.opencontainers.image.ref.name"].as_str().map(String::from);
        let fits =
            |entry: &&Value| names(entry).is_some_and(|full| full == name || full.ends_with(&format!("/{name}")));
        let found = entries.iter().find(fits);
        let found = found.unwrap_or_else(|| panic!("no {name} in {layout:?}: {:?}", entries.iter().map(names)));
        Self::open(layout, found, user)
    }

    /// Returns the only image of a layout, after the same check.
    pub fn only(layout: &Path) -> Self {
        let index = checked_index(layout);
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1), "one image in {index}");
        Self::open(layout, &index["manifests"][0], None)
    }

    /// Returns the index with this digest: its entries.
    pub fn index(layout: &Path, digest: &str) -> Vec<Value> {
        let bytes = blob(layout, digest);
        assert_eq!(coracle::oci::Digest::of(&bytes).to_string(), digest);
        let index: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
        index["manifests"].as_array().expect("manifests").clone()
    }

    /// Returns the image for a platform of the index with this digest.
    pub fn of_platform(layout: &Path, index: &str, platform: &str) -> Self {
        let entries = Self::index(layout, index);
        let said = |entry: &Value| {
            let part = |key: &str| entry["platform"][key].as_str().map(|part| format!("/{part}")).unwrap_or_default();
            (part("os") + &part("architecture") + &part("variant"))[1..].to_owned()
        };
        let found = entries.iter().find(|entry| said(entry) == platform);
        let found = found.unwrap_or_else(|| panic!("no {platform}: {:?}", entries.iter().map(said)));
        Self::open(layout, found, None)
    }

    fn open(layout: &Path, entry: &Value, user: Option<User>) -> Self {
        let digest = entry["digest"].as_str().expect("a digest").to_string();
        let manifest: Value = serde_json::from_slice(&blob(layout, &digest)).expect("JSON");
        let document = serde_json::from_slice(&blob(layout, text(&manifest["config"]["digest"]))).expect("JSON");
        let image = Image { layout: layout.into(), digest, manifest, document, tree: OnceCell::new(), user };
        let layers = image.layer_count();
        assert_eq!(image.document["rootfs"]["diff_ids"].as_array().map(Vec::len), Some(layers), "{}", image.document);
        let made = image.history().iter().filter(|entry| entry["empty_layer"] != true).count();
        assert_eq!(made, layers, "history entries that made a layer: {:?}", image.history());
        image
    }

    /// Returns the digest of the manifest.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Returns the manifest.
    pub fn manifest(&self) -> &Value {
        &self.manifest
    }

    /// Returns the whole image configuration.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Returns how a container of the image is run: the "config" of the configuration.
    pub fn config(&self) -> &Value {
        &self.document["config"]
    }

    /// Returns a variable of the environment, if it is set.
    pub fn env(&self, name: &str) -> Option<&str> {
        let all = self.config()["Env"].as_array()?;
        all.iter().find_map(|pair| pair.as_str()?.strip_prefix(name)?.strip_prefix('='))
    }

    /// Returns the history, oldest first.
    pub fn history(&self) -> &[Value] {
        self.document["history"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Returns the `created_by` of the newest entry of the history.
    pub fn last_step(&self) -> &str {
        text(&self.history().last().expect("a history")["created_by"])
    }

    /// Returns how many layers there are.
    pub fn layer_count(&self) -> usize {
        self.manifest["layers"].as_array().map_or(0, Vec::len)
    }

    /// Returns a layer, counted from 0, the lowest.
    pub fn layer(&self, number: usize) -> Layer {
        let descriptor = &self.manifest["layers"][number];
        let file = File::open(blob_path(&self.layout, text(&descriptor["digest"]))).expect("a blob");
        let media_type = text(&descriptor["mediaType"]);
        let bytes: Box<dyn Read> = match media_type.rsplit(['+', '.']).next() {
            Some("gzip") => Box::new(flate2::read::MultiGzDecoder::new(file)),
            Some("zstd") => Box::new(zstd::Decoder::new(file).expect("zstd")),
            _ => Box::new(file),
        };
        Layer::read(bytes)
    }

    /// Returns the layer on top.
    pub fn top_layer(&self) -> Layer {
        self.layer(self.layer_count() - 1)
    }

    /// Returns all files.
    pub fn tree(&self) -> &Tree {
        self.tree.get_or_init(|| {
            let mut tree = Tree::default();
            (0..self.layer_count()).for_each(|number| tree.apply(&self.layer(number)));
            tree
        })
    }

    /// Returns the file at `path`; links are not followed.
    pub fn node(&self, path: &str) -> &Node {
        self.tree().get(path).unwrap_or_else(|| panic!("no {path} in the image"))
    }

    /// Returns the text in a file.
    pub fn text(&self, path: &str) -> String {
        match &self.node(path).kind {
            Kind::File(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("{path} is no file, but {other:?}"),
        }
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

    /// Checks that there is a symbolic link with this text.
    pub fn has_link(&self, path: &str, target: &str) -> &Self {
        assert_eq!(self.node(path).kind, Kind::Symlink(target.into()), "{path}");
        self
    }

    /// Checks that there is nothing at `path`.
    pub fn has_no(&self, path: &str) -> &Self {
        assert!(self.tree().get(path).is_none(), "there is {path}");
        self
    }

    /// Checks owner ("0:0") and mode of a file.
    pub fn has_owner(&self, path: &str, owner: &str, mode: u32) -> &Self {
        let node = self.node(path);
        assert_eq!((&*node.owner, format!("{:04o}", node.mode)), (owner, format!("{mode:04o}")), "{path}");
        self
    }

    /// Checks the number of layers.
    pub fn has_layers(&self, count: usize) -> &Self {
        assert_eq!(self.layer_count(), count, "{:?}", self.history());
        self
    }
}

/// Reads the index of a layout, after the crate ocidir has checked all that it leads to.
fn checked_index(layout: &Path) -> Value {
    let dir = Dir::open_ambient_dir(layout, ambient_authority()).unwrap_or_else(|error| panic!("{layout:?}: {error}"));
    let checked = ocidir::OciDir::open(dir).and_then(|layout| layout.fsck());
    checked.unwrap_or_else(|error| panic!("{layout:?} is not sound: {error:?}"));
    serde_json::from_slice(&fs::read(layout.join("index.json")).expect("an index")).expect("JSON")
}

fn blob_path(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs").join(digest.replace(':', "/"))
}

fn blob(layout: &Path, digest: &str) -> Vec<u8> {
    fs::read(blob_path(layout, digest)).unwrap_or_else(|error| panic!("{digest}: {error}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
