//! Small images for tests.

use std::io::Write;

use serde_json::{Value, json};

use super::{Image, Store};
use crate::oci::{Digest, media_type};

/// How the layers of a made-up image are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Packed {
    Tar,
    Gzip,
    Zstd,
}

/// Opens a new store in a folder that is removed with the first value.
pub(crate) fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(&dir.path().join("store")).expect("a new store");
    (dir, store)
}

/// Returns a tar with one file.
pub(crate) fn layer(name: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, content).expect("a tar in memory");
    tar.into_inner().expect("a tar in memory")
}

/// Puts an image of the layers `tars`, bottom first, into the store.
pub(crate) fn image(store: &Store, tars: &[Vec<u8>], packed: Packed) -> Image {
    let host = crate::oci::Platform::host();
    let config = json!({
        "architecture": host.architecture, "os": host.os, "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": tars.iter().map(|tar| Digest::of(tar)).collect::<Vec<_>>()},
        "moby.unknown": {"kept": true},
    });
    let layers: Vec<Value> = tars.iter().map(|tar| put_layer(store, tar, packed)).collect();
    let config = describe(media_type::CONFIG, &put_json(store, &config));
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config, "layers": layers});
    let digest = Digest::of(&put_json(store, &manifest));
    store.image_of(&digest).expect("the image that was just made")
}

/// Returns a descriptor of `bytes`.
pub(crate) fn describe(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

fn put_layer(store: &Store, tar: &[u8], packed: Packed) -> Value {
    let (kind, bytes) = match packed {
        Packed::Tar => (media_type::LAYER, tar.to_vec()),
        Packed::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(tar).expect("gzip in memory");
            (media_type::LAYER_GZIP, gzip.finish().expect("gzip in memory"))
        }
        Packed::Zstd => (media_type::LAYER_ZSTD, zstd::encode_all(tar, 1).expect("zstd in memory")),
    };
    store.put_blob(&bytes).expect("room in the store");
    describe(kind, &bytes)
}

fn put_json(store: &Store, document: &Value) -> Vec<u8> {
    let bytes = serde_json::to_vec(document).expect("JSON values always serialise");
    store.put_blob(&bytes).expect("room in the store");
    bytes
}
