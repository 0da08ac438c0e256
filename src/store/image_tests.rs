use serde_json::{Value, json};

use super::super::fixture::{Packed, describe, image, layer, store};
use super::*;
use crate::oci::media_type;

#[test]
fn an_image_is_its_documents_checked_and_its_layers_with_their_diff_ids() {
    let (_dir, store) = store();
    let tars = [layer("a", b"1"), layer("b", b"2")];
    let image = image(&store, &tars, Packed::Gzip);
    assert_eq!(image.media_type, media_type::MANIFEST);
    assert_eq!(image.digest, Digest::of(&image.manifest_bytes));
    assert_eq!(image.config.other["moby.unknown"], json!({"kept": true}));
    let layers = image.layers();
    assert_eq!(layers.iter().map(|layer| layer.diff_id.0).collect::<Vec<_>>(), tars.map(|tar| Digest::of(&tar)));
    assert!(layers.iter().all(|layer| store.blob_size(&layer.digest) == Some(layer.size)));
    let same = Image::new(&image.media_type, image.manifest_bytes.clone(), image.config_bytes.clone()).unwrap();
    assert_eq!(same.digest, image.digest);
    assert!(Image::new(&image.media_type, image.manifest_bytes.clone(), b"{}".to_vec()).is_err());
}

#[test]
fn an_image_without_a_name_is_found_by_its_id() {
    let (_dir, store) = store();
    let image = image(&store, &[layer("a", b"1")], Packed::Gzip);
    let (manifest, config) = (image.digest.hex(), image.config_digest().hex());
    for id in [
        manifest.clone(),
        format!("sha256:{manifest}"),
        manifest[..12].to_owned(),
        format!("sha256:{}", &manifest[..20]),
        config.clone(),
        config[..12].to_owned(),
        format!("sha256:{config}"),
    ] {
        let found = store.find(&id).unwrap().unwrap_or_else(|| panic!("{id} is not found"));
        assert_eq!(store.image(&found).unwrap().digest, image.digest, "{id}");
    }
    for id in [&manifest[..11], "demo", "sha256:", &"0".repeat(64), &image.layers()[0].digest.hex()] {
        assert!(store.find(id).unwrap().is_none(), "{id}");
    }
}

#[test]
fn a_name_with_a_digest_is_found_if_it_is_that_image() {
    let (_dir, store) = store();
    let image = image(&store, &[], Packed::Tar);
    store.tag(&["demo:1".into()], &image.descriptor()).unwrap();
    assert!(store.find(&format!("demo@{}", image.digest)).unwrap().is_some());
    assert!(store.find(&format!("other@{}", image.digest)).unwrap().is_none());
    assert!(store.find(&format!("demo@{}", Digest::of(b""))).unwrap().is_none());
}

#[test]
fn documents_that_do_not_fit_are_refused() {
    let (_dir, store) = store();
    let image = image(&store, &[layer("a", b"1")], Packed::Tar);
    let mut wrong_size = image.descriptor();
    wrong_size.set_size(1);
    assert!(matches!(store.image(&wrong_size), Err(StoreError::Mismatch { .. })));
    let mut wrong_type = image.descriptor();
    wrong_type.set_media_type(media_type::INDEX.into());
    assert!(matches!(store.image(&wrong_type), Err(StoreError::Image(ImageError::MediaType { .. }))));
    fs::remove_file(store.blob_path(&image.config_digest())).unwrap();
    let error = store.image(&image.descriptor()).unwrap_err().to_string();
    assert_eq!(error, format!("blob {} is not in the store", image.config_digest()));
}

#[test]
fn an_index_in_the_store_gives_the_image_of_this_platform_or_lists_the_others() {
    let (_dir, store) = store();
    let image = image(&store, &[], Packed::Tar);
    let index = |platform: Value| {
        let mut entry = describe(media_type::MANIFEST, &image.manifest_bytes);
        entry["platform"] = platform;
        store.put_blob(json!({"schemaVersion": 2, "manifests": [entry]}).to_string().as_bytes()).unwrap()
    };
    let host = Platform::host();
    let here = index(json!({"architecture": host.architecture, "os": host.os}));
    assert_eq!(store.image_of(&here).unwrap().digest, image.digest);
    let elsewhere = index(json!({"architecture": "amd64", "os": "plan9"}));
    let error = store.image_of(&elsewhere).unwrap_err().to_string();
    assert_eq!(error, format!("index {elsewhere} has no image for {host}, only for: plan9/amd64"));
}
