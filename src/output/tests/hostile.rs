//! Layouts and archives that lie.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::oci::media_type;
use crate::store::fixture::describe;

/// A layout in a folder, to be spoiled.
struct Layout {
    dir: tempfile::TempDir,
    store: Store,
    image: Image,
}

impl Layout {
    fn new() -> Self {
        let (dir, store) = store();
        let image = image(&store, &[layer("a", b"1"), layer("b", b"2")], Packed::Gzip);
        export(&image, &store, &location("oci", dir.path(), None), &[], &Silent).unwrap();
        Layout { dir, store, image }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("out").join(name)
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }

    fn put(&self, kind: &str, document: &Value) -> Value {
        let bytes = serde_json::to_vec(document).unwrap();
        fs::write(self.blob(&Digest::of(&bytes)), &bytes).unwrap();
        describe(kind, &bytes)
    }

    fn index(&self, entries: &[Value]) {
        fs::write(self.path("index.json"), json!({"schemaVersion": 2, "manifests": entries}).to_string()).unwrap();
    }

    /// Makes the manifest say something else, with the digests of all documents right.
    fn manifest(&self, change: impl FnOnce(&mut Value)) {
        let mut manifest: Value = serde_json::from_slice(&self.image.manifest_bytes).unwrap();
        change(&mut manifest);
        let entry = self.put(media_type::MANIFEST, &manifest);
        self.index(&[entry]);
    }

    /// Imports into an empty store, which must fail; nothing but whole blobs may be there then.
    fn error(&self) -> String {
        let (_dir, store) = store();
        let error = import(&location("oci", self.dir.path(), None), &store, &Silent).expect_err("it was accepted");
        assert_eq!(fs::read_dir(store.tmp()).unwrap().count(), 0);
        for blob in fs::read_dir(store.layout().join("blobs/sha256")).unwrap() {
            let blob = blob.unwrap();
            let name = blob.file_name().into_string().unwrap();
            assert_eq!(Digest::of(&fs::read(blob.path()).unwrap()).hex(), name);
        }
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            text = format!("{text}: {inner}");
            source = inner.source();
        }
        assert!(!text.contains(char::is_control), "{text:?}");
        text
    }
}

type Spoil = fn(&Layout);

#[test]
fn a_layout_that_lies_is_refused_and_the_error_names_the_object() {
    let table: &[(&str, Spoil, &str)] = &[
        ("a layer's content", |l| flip(&l.blob(&l.image.layers()[1].digest)), "has digest sha256:"),
        ("a layer's length", |l| append(&l.blob(&l.image.layers()[1].digest)), "bytes, not"),
        ("the manifest's content", |l| flip(&l.blob(&l.image.digest)), "manifest sha256:"),
        ("the configuration's content", |l| flip(&l.blob(&l.image.config_digest())), "configuration sha256:"),
        ("a missing layer", |l| fs::remove_file(l.blob(&l.image.layers()[0].digest)).unwrap(), "is not in"),
        ("a missing manifest", |l| fs::remove_file(l.blob(&l.image.digest)).unwrap(), "is not in"),
        ("no index", |l| fs::remove_file(l.path("index.json")).unwrap(), "it has no index.json"),
        ("no oci-layout", |l| fs::remove_file(l.path("oci-layout")).unwrap(), "it is not an OCI layout"),
        ("a future layout", |l| fs::write(l.path("oci-layout"), "{}").unwrap(), "does not say version 1"),
        ("an empty index", |l| l.index(&[]), "has no image"),
        ("a cut index", |l| fs::write(l.path("index.json"), "{\"schema").unwrap(), "index.json in"),
        (
            "an image in the index's place",
            |l| fs::copy(l.blob(&l.image.digest), l.path("index.json")).map(drop).unwrap(),
            "was expected",
        ),
        ("a symbolic link for a blob", |l| link(&l.blob(&l.image.layers()[0].digest)), "it is a symbolic link"),
        ("a symbolic link for the blobs", |l| link(&l.path("blobs/sha256")), "not a directory"),
        ("a symbolic link for the index", |l| link(&l.path("index.json")), "it is a symbolic link"),
        ("a fifo for a blob", |l| fifo(&l.blob(&l.image.layers()[0].digest)), "it is not a regular file"),
        ("a directory for a blob", |l| directory(&l.blob(&l.image.config_digest())), "it is not a regular file"),
        (
            "a path for a digest",
            |l| l.manifest(|m| m["layers"][0]["digest"] = "sha256:../../../../etc/passwd".into()),
            "is not valid",
        ),
        (
            "an absolute path for a digest",
            |l| l.manifest(|m| m["config"]["digest"] = "/etc/passwd".into()),
            "is not valid",
        ),
        (
            "another algorithm",
            |l| l.manifest(|m| m["config"]["digest"] = format!("sha512:{}", "0".repeat(128)).into()),
            "bad digest",
        ),
        ("control bytes", |l| l.manifest(|m| m["layers"][0]["digest"] = "sha256:\u{1b}[31m".into()), "is not valid"),
        ("a negative size", |l| l.manifest(|m| m["layers"][0]["size"] = (-1).into()), "invalid value: integer `-1`"),
        ("a wrong size", |l| l.manifest(|m| m["layers"][0]["size"] = 1.into()), "bytes, not 1"),
        ("a huge size", |l| l.manifest(|m| m["layers"][0]["size"] = u64::MAX.into()), "more than"),
        ("a huge configuration", |l| l.manifest(|m| m["config"]["size"] = (9u64 << 20).into()), "more than 8388608"),
        ("layers and manifests", |l| l.manifest(|m| m["manifests"] = json!([])), "both layers and manifests"),
        ("an artifact", |l| l.manifest(|m| m["config"]["mediaType"] = "application/x".into()), "\"application/x\""),
        (
            "a layer too many",
            |l| {
                l.manifest(|m| {
                    let layer = m["layers"][0].clone();
                    m["layers"].as_array_mut().unwrap().push(layer);
                })
            },
            "3 layers in the manifest, but 2 diff_ids",
        ),
        ("an old schema", |l| l.manifest(|m| m["schemaVersion"] = 1.into()), "schema version 1"),
        (
            "an index that is a manifest",
            |l| {
                l.index(&[json!({"mediaType": media_type::INDEX, "digest": l.image.digest, "size": l.image.manifest_bytes.len()})])
            },
            "was expected",
        ),
    ];
    for (name, spoil, says) in table {
        let layout = Layout::new();
        spoil(&layout);
        let error = layout.error();
        assert!(error.contains(says), "{name}: {error}");
    }
}

#[test]
fn the_platforms_of_an_index_in_an_index_are_listed() {
    let layout = Layout::new();
    let mut entry = describe(media_type::MANIFEST, &layout.image.manifest_bytes);
    entry["platform"] = json!({"os": "plan9", "architecture": "mips"});
    let inner = layout.put(media_type::INDEX, &json!({"schemaVersion": 2, "manifests": [entry]}));
    let outer = layout.put(media_type::INDEX, &json!({"schemaVersion": 2, "manifests": [inner]}));
    layout.index(&[outer]);
    let error = layout.error();
    assert!(error.contains("has no image for linux/") && error.ends_with("only for: plan9/mips"), "{error}");
}

#[test]
fn an_index_of_platforms_without_names_is_one_image() {
    let layout = Layout::new();
    let mut here = describe(media_type::MANIFEST, &layout.image.manifest_bytes);
    let host = crate::oci::Platform::host();
    here["platform"] = json!({"os": host.os, "architecture": host.architecture});
    let mut there = layout.put(media_type::MANIFEST, &json!({"schemaVersion": 2}));
    there["platform"] = json!({"os": "plan9", "architecture": "mips"});
    layout.index(&[there, here]);
    let imported = import(&location("oci", layout.dir.path(), None), &layout.store, &Silent).unwrap();
    assert_eq!(imported.descriptor, layout.image.descriptor());
}

#[test]
fn several_images_without_names_are_listed_by_digest() {
    let layout = Layout::new();
    let one = describe(media_type::MANIFEST, &layout.image.manifest_bytes);
    let two = layout.put(media_type::MANIFEST, &json!({"schemaVersion": 2}));
    layout.index(&[one, two]);
    let error = layout.error();
    assert!(error.contains("has several images") && error.contains(&layout.image.digest.to_string()), "{error}");
}

/// Names and contents.
type Files<'a> = &'a [(&'a str, &'a [u8])];

/// Writes an archive of the given files, in that order.
fn archive(dir: &Path, files: Files<'_>) -> Location {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    fs::write(dir.join("a.tar"), tar.into_inner().unwrap()).unwrap();
    format!("docker-archive:{}", dir.join("a.tar").display()).parse().unwrap()
}

fn manifest(config: &str, tags: Value, layers: &[&str]) -> Vec<u8> {
    json!([{"Config": config, "RepoTags": tags, "Layers": layers}]).to_string().into_bytes()
}

#[test]
fn archives_of_all_times_of_docker_are_read() {
    let (dir, store) = store();
    let tar = layer("a", b"1");
    let made = image(&store, &[tar.clone(), tar.clone()], Packed::Tar);
    let gzip =
        fs::read(store.blob_path(&image(&store, std::slice::from_ref(&tar), Packed::Gzip).layers()[0].digest)).unwrap();
    let config = made.config_bytes.as_slice();
    let hex = made.config_digest().hex();
    let diff_id = Digest::of(&tar).hex();
    let (blob_config, blob_layer) = (format!("blobs/sha256/{hex}"), format!("blobs/sha256/{diff_id}"));
    let old_config = format!("{hex}.json");
    let tags = json!(["demo:1", "demo:2"]);
    let old = manifest(&old_config, tags.clone(), &["x/layer.tar", "y/layer.tar"]);
    let new = manifest(&blob_config, tags.clone(), &[&blob_layer, &blob_layer]);
    let unnamed = manifest("config", Value::Null, &["l", "l"]);
    let cases: [(Files<'_>, bool); 4] = [
        (
            &[
                ("repositories", b"{}"),
                ("x/layer.tar", &tar),
                ("y/layer.tar", &tar),
                (&old_config, config),
                ("manifest.json", &old),
            ],
            true,
        ),
        (
            &[
                (&blob_config, config),
                (&blob_layer, &tar),
                ("index.json", b"{}"),
                ("manifest.json", &new),
                ("oci-layout", b"{}"),
            ],
            true,
        ),
        (&[(&blob_config, config), (&blob_layer, &gzip), ("manifest.json", &new)], true),
        (&[("manifest.json", &unnamed), ("config", config), ("l", &tar)], false),
    ];
    for (files, named) in cases {
        let imported = import(&archive(dir.path(), files), &store, &Silent).unwrap();
        assert_eq!(imported.name.is_some(), named);
        let got = store.image(&imported.descriptor).unwrap();
        assert_eq!(got.config_bytes, made.config_bytes);
        assert!(got.layers().iter().all(|layer| store.blob_size(&layer.digest) == Some(layer.size)));
    }
}

#[test]
fn an_archive_of_docker_that_lies_is_refused() {
    let (dir, from) = store();
    let tar = layer("a", b"1");
    let made = image(&from, std::slice::from_ref(&tar), Packed::Tar);
    let config = made.config_bytes.as_slice();
    let named = format!("{}.json", made.config_digest().hex());
    let other = layer("a", b"2");
    let gzip_other =
        fs::read(from.blob_path(&image(&from, std::slice::from_ref(&other), Packed::Gzip).layers()[0].digest)).unwrap();
    let fine = manifest("c", json!(["demo:1"]), &["l"]);
    let wrong_name = manifest(&named, Value::Null, &["l"]);
    let more = manifest("c", Value::Null, &["l", "l"]);
    let out = manifest("../../etc/passwd", Value::Null, &["/etc/passwd"]);
    let two =
        json!([{"Config": "c", "RepoTags": ["demo:1"]}, {"Config": "c", "RepoTags": ["demo:2", "\u{1b}"]}]).to_string();
    let cases: [(Files<'_>, &str); 12] = [
        (&[("manifest.json", &fine), ("c", config), ("l", &other)], "layer \"l\" has digest"),
        (&[("manifest.json", &fine), ("c", config), ("l", &gzip_other)], "layer \"l\" has digest"),
        (&[("manifest.json", &fine), ("c", config)], "layer \"l\" is not in"),
        (&[("manifest.json", &fine), ("l", &tar)], "configuration \"c\" is not in"),
        (&[("manifest.json", &wrong_name), (&named, b"{}"), ("l", &tar)], "has digest"),
        (&[("manifest.json", &more), ("c", config), ("l", &tar)], "cannot be used"),
        (&[("manifest.json", &fine), ("c", b"[]"), ("l", &tar)], "cannot be used"),
        (&[("manifest.json", &out), ("c", config)], "configuration \"../../etc/passwd\" is not in"),
        (&[("manifest.json", b"{")], "manifest.json"),
        (&[("manifest.json", two.as_bytes()), ("c", config)], "name one of: demo:1, demo:2, \\u{1b}"),
        (&[("repositories", b"{}")], "before 1.10"),
        (&[("oci-layout", b"{}")], "it may be an oci-archive"),
    ];
    for (files, says) in cases {
        let (_dir, store) = store();
        let error = import(&archive(dir.path(), files), &store, &Silent).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
        assert!(!error.contains(char::is_control), "{error:?}");
        assert_eq!(fs::read_dir(store.tmp()).unwrap().count(), 0);
    }
}

#[test]
fn a_file_that_is_no_archive_is_refused() {
    let (dir, store) = store();
    let path = dir.path().join("a.tar");
    let read = || import(&format!("oci-archive:{}", path.display()).parse().unwrap(), &store, &Silent).unwrap_err();
    assert!(read().to_string().contains("cannot open"));
    fs::write(&path, "this is a letter".repeat(100)).unwrap();
    assert!(read().to_string().contains("it is not a tar"));
    fs::write(&path, [0x1f, 0x8b, 8, 0, 1, 2, 3]).unwrap();
    assert!(read().to_string().contains("cannot decompress"));
    fifo(&path);
    assert!(read().to_string().contains("it is not a regular file"));
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn append(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes.push(0);
    fs::write(path, bytes).unwrap();
}

fn link(path: &Path) {
    let moved = path.with_extension("moved");
    fs::rename(path, &moved).unwrap();
    symlink(&moved, path).unwrap();
}

fn fifo(path: &Path) {
    let _ = fs::remove_file(path);
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

fn directory(path: &Path) {
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
}
