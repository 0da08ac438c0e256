use serde_json::json;

use super::super::fixture::{Packed, describe, image, layer, store};
use super::super::image::Image;
use super::*;
use crate::oci::media_type;

/// Puts an index of these manifests into the store.
fn index_of(store: &Store, manifests: &[&[u8]]) -> oci_spec::image::Descriptor {
    let children: Vec<Value> = manifests.iter().map(|bytes| describe(media_type::MANIFEST, bytes)).collect();
    put(store, media_type::INDEX, &json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": children}))
}

fn put(store: &Store, kind: &str, document: &Value) -> oci_spec::image::Descriptor {
    let bytes = serde_json::to_vec(document).unwrap();
    store.put_blob(&bytes).unwrap();
    serde_json::from_value(describe(kind, &bytes)).unwrap()
}

fn has_all_of(store: &Store, image: &Image) -> bool {
    let manifest: Value = serde_json::from_slice(&image.manifest_bytes).unwrap();
    let parts = manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]);
    parts.map(|part| digest_in(part).unwrap()).chain([image.digest]).all(|digest| store.has_blob(&digest))
}

fn collect(store: Store) -> Store {
    let root = store.root().to_path_buf();
    drop(store);
    Store::collect(&root, &PruneOptions::default(), &|| {}).unwrap();
    Store::open(&root).unwrap()
}

/// A pull may end while a prune waits: it adds to an index that has a name already.
#[test]
fn what_comes_in_while_others_are_waited_for_stays() {
    let ((_dir, store), (_elsewhere, other)) = (store(), store());
    let here = image(&store, &[layer("a", b"1")], Packed::Tar);
    let tars = [layer("b", b"2"), layer("c", b"3")];
    let there = image(&other, &tars, Packed::Gzip);
    store.tag(&["base".into()], &index_of(&store, &[&here.manifest_bytes, &there.manifest_bytes])).unwrap();
    let root = store.root().to_path_buf();
    let (waits, waiting) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let root = &root;
        let pruning =
            scope.spawn(move || Store::collect(root, &PruneOptions::default(), &|| waits.send(()).unwrap()).unwrap());
        waiting.recv().unwrap();
        image(&store, &tars, Packed::Gzip);
        image(&store, &[layer("d", b"of nobody")], Packed::Tar);
        drop(store);
        assert!(pruning.join().unwrap().blobs >= 3);
    });
    let store = Store::open(&root).unwrap();
    assert!(has_all_of(&store, &here) && has_all_of(&store, &there));
}

#[test]
fn a_manifest_that_another_one_calls_a_layer_or_its_configuration_keeps_its_parts() {
    for (place, name) in [("layers", "a"), ("layers", "z"), ("config", "a"), ("config", "z")] {
        let (_dir, store) = store();
        let base = image(&store, &[layer("a", b"1")], Packed::Tar);
        let mut artifact = json!({"schemaVersion": 2, "config": describe(media_type::CONFIG, b"{}"), "layers": []});
        let part = describe(media_type::LAYER, &base.manifest_bytes);
        artifact[place] = if place == "layers" { json!([part]) } else { part };
        let artifact = put(&store, media_type::MANIFEST, &artifact);
        store.tag(&[name.into()], &artifact).unwrap();
        store.tag(&["m".into()], &base.descriptor()).unwrap();
        assert!(has_all_of(&collect(store), &base), "{place} of {name}");
    }
}

#[test]
fn what_an_index_has_at_the_bottom_is_kept_however_deep_it_is() {
    let (_dir, store) = store();
    let base = image(&store, &[layer("a", b"1")], Packed::Tar);
    let mut bytes = base.manifest_bytes.clone();
    for _ in 0..40 {
        let descriptor = index_of(&store, &[&bytes, &bytes]);
        bytes = store.read_blob(&crate::oci::digest_of(&descriptor).unwrap(), MAX_DOCUMENT).unwrap();
        store.tag(&["deep".into()], &descriptor).unwrap();
    }
    store.tag(&["flat".into()], &base.descriptor()).unwrap();
    let store = collect(store);
    assert!(has_all_of(&store, &base));
    store.untag("flat").unwrap();
    assert!(has_all_of(&collect(store), &base));
}

#[test]
fn when_an_image_with_a_name_was_made_is_known_as_long_as_it_has_one() {
    let (_dir, store) = store();
    let named = image(&store, &[layer("a", b"1")], Packed::Tar);
    let other = image(&store, &[layer("b", b"2")], Packed::Tar);
    store.tag(&["app".into()], &named.descriptor()).unwrap();
    let config = |image: &Image| {
        let manifest: Value = serde_json::from_slice(&image.manifest_bytes).unwrap();
        digest_in(&manifest["config"]).unwrap()
    };
    store.remember_made("named", 5, &config(&named)).unwrap();
    store.remember_made("other", 6, &config(&other)).unwrap();
    let root = store.root().to_path_buf();
    drop(store);
    let options = PruneOptions { keep: Keep::Named, ..PruneOptions::default() };
    Store::collect(&root, &options, &|| {}).unwrap();
    let store = Store::open(&root).unwrap();
    assert_eq!((store.made("named"), store.made("other")), (Some(5), None));
}

#[test]
fn what_was_fetched_goes_one_by_one_and_a_repository_with_its_lock() {
    let (_dir, store) = store();
    let fetched = store.fetch_cache();
    let old = std::time::SystemTime::now() - Duration::from_secs(10 * 86_400);
    for (path, time) in [
        ("git/a/HEAD", None),
        ("git/b/HEAD", None),
        ("git/a.lock", Some(old)),
        ("git/b.lock", Some(old)),
        ("git/c.lock", Some(old)),
        ("files/one", Some(old)),
        ("files/two", None),
    ] {
        let path = fetched.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = fs::File::create(&path).unwrap();
        time.map_or(Ok(()), |time| file.set_modified(time)).unwrap();
    }
    fs::File::open(fetched.join("git/a")).unwrap().set_modified(old).unwrap();
    let root = store.root().to_path_buf();
    drop(store);
    let options = PruneOptions { keep_for: Some(Duration::from_secs(7 * 86_400)), ..PruneOptions::default() };
    let would = Store::collect(&root, &PruneOptions { act: Act::Look, ..options.clone() }, &|| {}).unwrap();
    let did = Store::collect(&root, &options, &|| {}).unwrap();
    assert_eq!((would.cache_entries, did.cache_entries), (3, 3));
    let left: Vec<_> = ["git", "files"].iter().flat_map(|dir| files(&fetched.join(dir), 1)).collect();
    assert_eq!(left, ["git/b", "git/b.lock", "files/two"].map(|path| fetched.join(path)));
}

/// Who is killed meanwhile leaves it under a name that means nothing.
#[test]
fn a_cache_mount_that_is_removed_is_out_of_sight_first() {
    let (_dir, store) = store();
    let mounts = store.cache_mounts();
    let take = || {
        let mut fill = |dir: &Path| {
            fs::write(dir.join("first"), "").expect("a file");
            Ok(())
        };
        let name = super::super::CacheName { realm: "realm", id: "a", variant: "" };
        mounts.take(name, super::super::Claim::Alone, &mut fill, &mut || Ok::<(), StoreError>(())).unwrap()
    };
    let mount = take();
    fs::create_dir(mount.dir().join("sub")).unwrap();
    let folder = mount.dir().parent().unwrap().to_path_buf();
    drop(mount);
    // As after a kill in the middle of it.
    let gone = CacheMounts::out_of_sight(&folder);
    fs::remove_file(gone.join("0/first")).unwrap();
    assert!(mounts.list().is_empty() && !folder.exists());
    let mount = take();
    assert!(mount.dir().join("first").exists() && !mount.dir().join("sub").exists());
    drop(mount);
    let root = store.root().to_path_buf();
    drop(store);
    let all = PruneOptions { keep: Keep::Named, ..PruneOptions::default() };
    assert_eq!(Store::collect(&root, &all, &|| {}).unwrap().failed, 0);
    assert!(files(&root.join("cache/mounts"), 2).is_empty());
}
