//! Indexes and images between all kinds of places, byte for byte.

use serde_json::json;

use super::*;
use crate::oci::{Platform, media_type};
use crate::output::content::{Content, Destination, Form, InStore, Selection, copy};
use crate::output::{Place, index};
use crate::store::fixture::describe;

/// Puts an index of two platforms into the store, with an attestation as BuildKit writes it; returns its descriptor.
fn index_of_two(store: &Store) -> oci_spec::image::Descriptor {
    let here = image(store, &[layer("a", b"here")], Packed::Gzip);
    let mut config: serde_json::Value = serde_json::from_slice(&here.config_bytes).unwrap();
    config["architecture"] = "s390x".into();
    let config = serde_json::to_vec(&config).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&here.manifest_bytes).unwrap();
    manifest["config"] = describe(media_type::CONFIG, &config);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    store.put_blob(&config).unwrap();
    store.put_blob(&manifest).unwrap();
    let mut there = describe(media_type::MANIFEST, &manifest);
    there["platform"] = json!({"os": "linux", "architecture": "s390x"});
    let statement = b"{\"_type\":\"https://in-toto.io/Statement/v0.1\"}";
    let empty = b"{}";
    store.put_blob(statement).unwrap();
    store.put_blob(empty).unwrap();
    let proof = json!({"schemaVersion": 2, "mediaType": media_type::MANIFEST,
        "config": describe("application/vnd.oci.empty.v1+json", empty),
        "layers": [describe("application/vnd.in-toto+json", statement)]});
    let proof = serde_json::to_vec(&proof).unwrap();
    store.put_blob(&proof).unwrap();
    let mut proof = describe(media_type::MANIFEST, &proof);
    proof["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    proof["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    // With spaces, as nobody would write it again.
    let text = json!({"schemaVersion": 2, "mediaType": media_type::INDEX,
        "manifests": [here.descriptor(), there, proof], "annotations": {"a": "b"}});
    let bytes = serde_json::to_vec_pretty(&text).unwrap();
    store.put_blob(&bytes).unwrap();
    crate::store::describe(media_type::INDEX, &Digest::of(&bytes), bytes.len() as u64)
}

fn send(store: &Store, top: &oci_spec::image::Descriptor, selection: &Selection, form: Option<Form>, to: &Location) {
    let origin = InStore { store, top: top.clone(), name: Some("docker.io/library/demo:1".into()) };
    let to = Destination::Place { location: to, scratch: Path::new("/var/tmp") };
    copy(&origin, selection, form, to, &["demo:1".into()], &Silent).unwrap();
}

fn fetch(from: &Location, selection: &Selection, store: &Store) -> Content {
    let place = Place::open(from, &store.tmp()).unwrap();
    let origin = place.origin(None).unwrap();
    copy(origin.as_ref(), selection, None, Destination::Store(store), &[], &Silent).unwrap().0
}

#[test]
fn an_index_goes_everywhere_and_stays_the_same_bytes() {
    let (dir, from) = store();
    let top = index_of_two(&from);
    for kind in ["oci", "oci-archive", "dir"] {
        let place: Location = format!("{kind}:{}", dir.path().join(kind).display()).parse().unwrap();
        send(&from, &top, &Selection::All, None, &place);
        let (_dir, to) = store();
        let content = fetch(&place, &Selection::All, &to);
        assert_eq!(content.top.digest(), top.digest(), "{kind}");
        assert_eq!((content.documents.len(), content.configs.len()), (4, 2), "{kind}");
        let digest = crate::oci::digest_of(&top).unwrap();
        assert_eq!(to.read_blob(&digest, 1 << 20).unwrap(), from.read_blob(&digest, 1 << 20).unwrap());
        assert_eq!(to.image(&content.top).unwrap().config.platform, Platform::host());
        assert_eq!(to.image_for(&content.top, &"linux/s390x".parse().unwrap()).unwrap().layers().len(), 1);
        assert!(content.blobs.iter().all(|(digest, blob)| to.blob_is_sound(digest, blob.size())), "{kind}");
        // One platform alone.
        let (_dir, one) = store();
        let other = Selection::Platform("linux/s390x".parse().unwrap());
        let content = fetch(&place, &other, &one);
        assert_eq!(content.image().unwrap().unwrap().config.platform.architecture, "s390x");
    }
    let place: Location = format!("docker-archive:{}", dir.path().join("docker").display()).parse().unwrap();
    let origin = InStore { store: &from, top, name: None };
    let to = Destination::Place { location: &place, scratch: dir.path() };
    let error = copy(&origin, &Selection::All, None, to, &[], &Silent).unwrap_err().to_string();
    assert!(error.contains("is not a single image"), "{error}");
}

#[test]
fn an_image_in_a_dir_is_replaced_and_other_files_are_not() {
    let (dir, store) = store();
    let place: Location = format!("dir:{}", dir.path().join("out").display()).parse().unwrap();
    let here = Selection::Platform(Platform::host());
    for content in [b"one", b"two"] {
        let image = image(&store, &[layer("a", content)], Packed::Gzip);
        send(&store, &image.descriptor(), &here, None, &place);
        let (_dir, to) = super::store();
        assert_eq!(fetch(&place, &here, &to).digest(), image.digest);
        // version, manifest.json, configuration, layer: nothing of the image before.
        assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 4);
    }
    let image = image(&store, &[], Packed::Tar);
    fs::create_dir(dir.path().join("letters")).unwrap();
    fs::write(dir.path().join("letters/dear"), "you").unwrap();
    for other in ["letters", "store/oci"] {
        let place: Location = format!("dir:{}", dir.path().join(other).display()).parse().unwrap();
        let error = export(&image, &store, &place, &[], &Silent).unwrap_err().to_string();
        assert!(error.ends_with("is neither an empty folder nor one that dir: has written"), "{error}");
    }
}

type Spoil = fn(&Path, &Image);

#[test]
fn a_dir_that_lies_is_refused() {
    let spoil: [(Spoil, &str); 6] = [
        (|dir, _| fs::write(dir.join("manifest.json"), "{").unwrap(), "is not valid"),
        (|dir, _| fs::remove_file(dir.join("manifest.json")).unwrap(), "it has no manifest.json"),
        (|dir, image| fs::write(dir.join(image.config_digest().hex()), "{}").unwrap(), "bytes, not"),
        (|dir, image| fs::remove_file(dir.join(image.layers()[0].digest.hex())).unwrap(), "is not in"),
        (
            |dir, image| {
                let path = dir.join(image.layers()[0].digest.hex());
                let length = fs::metadata(&path).unwrap().len();
                fs::write(path, vec![0; length as usize]).unwrap();
            },
            "has digest",
        ),
        (
            |dir, image| {
                let path = dir.join(image.layers()[0].digest.hex());
                fs::remove_file(&path).unwrap();
                std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
            },
            "it is a symbolic link",
        ),
    ];
    for (spoil, says) in spoil {
        let (dir, store) = store();
        let image = image(&store, &[layer("a", b"1")], Packed::Gzip);
        let place: Location = format!("dir:{}", dir.path().join("out").display()).parse().unwrap();
        export(&image, &store, &place, &[], &Silent).unwrap();
        spoil(&dir.path().join("out"), &image);
        let (_dir, to) = super::store();
        let error = import(&place, &to, &Silent).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
        assert_eq!(fs::read_dir(to.tmp()).unwrap().count(), 0);
    }
}

#[test]
fn forms_change_the_words_and_nothing_else() {
    let (dir, from) = store();
    let image = image(&from, &[layer("a", b"1")], Packed::Gzip);
    let here = Selection::Platform(Platform::host());
    let docker: Location = format!("dir:{}", dir.path().join("docker").display()).parse().unwrap();
    send(&from, &image.descriptor(), &here, Some(Form::Docker), &docker);
    let (_dir, to) = store();
    let content = fetch(&docker, &here, &to);
    let got = content.image().unwrap().unwrap();
    assert_eq!(got.media_type, media_type::DOCKER_MANIFEST);
    assert_eq!(got.manifest.config().media_type().as_ref(), media_type::DOCKER_CONFIG);
    assert_eq!(got.layers()[0].descriptor.media_type().as_ref(), media_type::DOCKER_LAYER_GZIP);
    assert_eq!((&got.config_bytes, got.layers().len()), (&image.config_bytes, 1));
    // And back: the very same image.
    let oci: Location = format!("dir:{}", dir.path().join("oci").display()).parse().unwrap();
    send(&to, &content.top, &here, Some(Form::Oci), &oci);
    let (_dir, back) = store();
    assert_eq!(fetch(&oci, &here, &back).digest(), image.digest);
    // What is in the form already is not touched.
    let again: Location = format!("dir:{}", dir.path().join("again").display()).parse().unwrap();
    let top = index_of_two(&from);
    send(&from, &top, &Selection::All, Some(Form::Oci), &again);
    assert_eq!(fetch(&again, &Selection::All, &back).top.digest(), top.digest());
    // Docker has no attestations and no zstd.
    let zstd = super::image(&from, &[layer("a", b"1")], Packed::Zstd);
    for (top, selection) in [(top, Selection::All), (zstd.descriptor(), here)] {
        let origin = InStore { store: &from, top, name: None };
        let to = Destination::Place { location: &again, scratch: dir.path() };
        let error = copy(&origin, &selection, Some(Form::Docker), to, &[], &Silent).unwrap_err().to_string();
        assert!(error.contains("docker's form has no word"), "{error}");
    }
}

#[test]
fn several_images_are_in_one_archive() {
    let (dir, from) = store();
    let one = Content::of_image(&image(&from, &[layer("a", b"1")], Packed::Gzip));
    let two = Content::of_image(&image(&from, &[layer("a", b"2")], Packed::Gzip));
    for kind in ["oci-archive", "docker-archive"] {
        let place: Location = format!("{kind}:{}", dir.path().join(kind).display()).parse().unwrap();
        let names = |name: &str| vec![format!("docker.io/library/{name}:1")];
        let contents = [(&one, names("one")), (&two, names("two"))];
        content::write_all(&contents, &content::StoreOrigin(&from), &place, dir.path(), &Silent).unwrap();
        let opened = Place::open(&place, dir.path()).unwrap();
        let listed = opened.images().unwrap();
        let found: Vec<_> = listed.iter().map(|image| image.names.clone()).collect();
        assert_eq!(found, [names("one"), names("two")], "{kind}");
        let (_dir, to) = store();
        for (listed, content) in listed.iter().zip([&one, &two]) {
            let origin = opened.origin(Some(&listed.reference)).unwrap();
            let to = Destination::Store(&to);
            let here = Selection::Platform(Platform::host());
            let (got, top) = copy(origin.as_ref(), &here, None, to, &[], &Silent).unwrap();
            assert_eq!(top.names, listed.names);
            let image = |content: &Content| content.image().unwrap().unwrap();
            assert_eq!(image(&got).config_digest(), image(content).config_digest());
        }
    }
}

#[test]
fn an_index_is_the_same_bytes_each_time() {
    let (_dir, store) = store();
    let one = image(&store, &[layer("a", b"1")], Packed::Gzip).descriptor();
    let (descriptor, bytes) = index::assemble(media_type::INDEX, &[one.clone(), one.clone()]);
    assert_eq!(index::assemble(media_type::INDEX, &[one.clone(), one]), (descriptor.clone(), bytes.clone()));
    assert_eq!(descriptor.digest().to_string(), Digest::of(&bytes).to_string());
}
