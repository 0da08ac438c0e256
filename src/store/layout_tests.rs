use super::super::fixture::{Packed, image, layer, store};
use super::*;

fn names(store: &Store) -> Vec<String> {
    store.images().unwrap().into_iter().map(|image| image.name).collect()
}

fn index(store: &Store) -> Value {
    serde_json::from_slice(&fs::read(store.layout().join("index.json")).unwrap()).unwrap()
}

#[test]
fn a_new_store_is_a_layout_without_images() {
    let (_dir, store) = store();
    assert_eq!(fs::read(store.layout().join("oci-layout")).unwrap(), LAYOUT);
    assert_eq!(index(&store)["manifests"], json!([]));
    assert!(store.images().unwrap().is_empty());
}

#[test]
fn a_process_of_the_same_number_elsewhere_is_not_disturbed() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = |n| dir.path().join(format!(".{LAYOUT_FILE}.{}.{n}", std::process::id()));
    let being_made = (0..50).map(|n| {
        fs::write(theirs(n), "theirs").unwrap();
        let file = File::open(theirs(n)).unwrap();
        file.lock().unwrap();
        file
    });
    let being_made: Vec<File> = being_made.collect();
    Layout::at(dir.path()).prepare().unwrap();
    assert_eq!(fs::read(dir.path().join(LAYOUT_FILE)).unwrap(), LAYOUT);
    assert!((0..50).all(|n| fs::read(theirs(n)).is_ok_and(|bytes| bytes == b"theirs")));
    drop(being_made);
}

#[test]
fn what_was_left_by_who_was_killed_while_the_layout_began_goes() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(format!(".{LAYOUT_FILE}.1.2")), "half").unwrap();
    Layout::at(dir.path()).prepare().unwrap();
    let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    assert_eq!(names, ["blobs", LAYOUT_FILE]);
}

#[test]
fn those_who_begin_a_layout_at_the_same_time_have_one() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..100 {
        let layout = Layout::at(&dir.path().join(number.to_string()));
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(|| layout.prepare().unwrap()))));
        assert_eq!(fs::read_dir(layout.dir()).unwrap().count(), 2);
    }
}

#[test]
fn a_tag_is_full_and_moves_to_the_image_that_has_it_last() {
    let (_dir, store) = store();
    let one = image(&store, &[layer("a", b"1")], Packed::Tar);
    let two = image(&store, &[layer("a", b"2")], Packed::Tar);
    store.tag(&["demoweb:2".into(), "quay.io/me/app".into()], &one.descriptor()).unwrap();
    assert_eq!(names(&store), ["docker.io/library/demoweb:2", "quay.io/me/app:latest"]);
    store.tag(&["docker.io/library/demoweb:2".into()], &two.descriptor()).unwrap();
    assert_eq!(names(&store), ["docker.io/library/demoweb:2", "quay.io/me/app:latest"]);
    let found = store.find("demoweb:2").unwrap().unwrap();
    assert_eq!(store.image(&found).unwrap().digest, two.digest);
    assert_eq!(index(&store)["manifests"][0]["annotations"][CONTAINERD_NAME], "docker.io/library/demoweb:2");
    assert!(store.untag("demoweb:2").unwrap());
    assert!(!store.untag("demoweb:2").unwrap());
    assert_eq!(names(&store), ["quay.io/me/app:latest"]);
}

#[test]
fn a_name_that_is_none_and_a_manifest_that_is_missing_are_refused() {
    let (_dir, store) = store();
    let one = image(&store, &[], Packed::Tar);
    let error = store.tag(&["Demo".into()], &one.descriptor()).unwrap_err().to_string();
    assert_eq!(error, "name \"Demo\": repository name must be lower case: \"Demo\"");
    fs::remove_file(store.blob_path(&one.digest)).unwrap();
    assert!(matches!(store.tag(&["demo".into()], &one.descriptor()), Err(StoreError::NoBlob(_))));
}

#[test]
fn tagging_again_writes_nothing() {
    use std::os::unix::fs::MetadataExt;
    let (_dir, store) = store();
    let one = image(&store, &[], Packed::Tar);
    let state = || {
        let of = |name: &str| {
            let metadata = fs::metadata(store.root().join(name)).unwrap();
            (metadata.ino(), metadata.mtime_nsec(), metadata.ctime_nsec())
        };
        [of("oci/index.json"), of("oci"), of("oci.lock"), of("")]
    };
    store.tag(&["demo:1".into(), "demo:2".into()], &one.descriptor()).unwrap();
    let before = state();
    store.tag(&["demo:2".into(), "demo:1".into()], &one.descriptor()).unwrap();
    drop(Store::open(store.root()).unwrap());
    assert_eq!(state(), before);
}

#[test]
fn what_other_tools_wrote_is_kept() {
    let (_dir, store) = store();
    let one = image(&store, &[], Packed::Tar);
    let theirs = json!({"mediaType": media_type::MANIFEST, "digest": one.digest, "size": one.manifest_bytes.len(),
        "x-unknown": [1], "annotations": {"z": "1", "a": "2", REF_NAME: "latest"}});
    let before = json!({"schemaVersion": 2, "x-member": {"b": 1, "a": 2}, "manifests": [theirs],
        "annotations": {"note": "kept"}});
    fs::write(store.layout().join("index.json"), before.to_string()).unwrap();
    store.tag(&["demo".into()], &one.descriptor()).unwrap();
    let after = index(&store);
    assert_eq!(after["manifests"][0], theirs);
    assert_eq!((&after["x-member"], &after["annotations"]), (&before["x-member"], &before["annotations"]));
    assert_eq!(names(&store), ["latest", "docker.io/library/demo:latest"]);
    // A name that is not in full is found all the same, after names in full.
    fs::write(store.layout().join("index.json"), before.to_string()).unwrap();
    assert!(store.find("latest").unwrap().is_some());
    assert!(store.untag("latest").unwrap());
}

#[test]
fn two_writers_lose_nothing() {
    let (_dir, store) = store();
    let one = image(&store, &[], Packed::Tar);
    let root = store.root();
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let descriptor = one.descriptor();
            scope.spawn(move || {
                let own = Store::open(root).unwrap();
                for number in 0..40 {
                    own.tag(&[format!("writer{writer}:{number}")], &descriptor).unwrap();
                }
            });
        }
    });
    let mut all = names(&store);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 80);
}

#[test]
fn a_layout_may_be_begun_by_several_at_once() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| Layout::at(dir.path()).prepare().unwrap());
        }
    });
    let mut files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["blobs", "oci-layout"]);
}

#[test]
fn a_damaged_index_names_the_file_and_says_what_to_do() {
    let (_dir, store) = store();
    let path = store.layout().join("index.json");
    for (content, says) in [
        ("", "it is not JSON"),
        ("{\"schemaVersion\":2,\"manifests\":[", "it is not JSON"),
        ("[]", "it is not an image index"),
        ("{\"schemaVersion\":2,\"manifests\":[1]}", "it is not an image index"),
        ("{\"schemaVersion\":2,\"manifests\":[],\"layers\":[]}", "it has both manifests and layers"),
        ("{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"\\u001b[31m\"}]}", "entry 0: "),
    ] {
        fs::write(&path, content).unwrap();
        let error = store.images().unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, StoreError::Damaged { .. }));
        assert!(text.contains(path.to_str().unwrap()) && text.contains(says), "{text}");
        assert!(text.contains("restore it, or remove it"), "{text}");
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(store.images().unwrap_err().to_string().contains("it is a symbolic link"));
}

#[test]
fn a_name_in_full_comes_from_either_annotation() {
    for (reference, containerd, name) in [
        (Some("quay.io/a/b:1"), None, Some("quay.io/a/b:1")),
        (Some("2"), Some("docker.io/library/demo:2"), Some("docker.io/library/demo:2")),
        (Some("demo:2"), None, Some("docker.io/library/demo:2")),
        (Some("latest"), None, None),
        (Some("NO:1"), None, None),
        (None, None, None),
    ] {
        let mut annotations = std::collections::HashMap::new();
        reference.map(|value| annotations.insert(REF_NAME.to_owned(), value.to_owned()));
        containerd.map(|value| annotations.insert(CONTAINERD_NAME.to_owned(), value.to_owned()));
        let (_dir, store) = store();
        let mut descriptor = image(&store, &[], Packed::Tar).descriptor();
        descriptor.set_annotations(Some(annotations));
        assert_eq!(reference_name(&descriptor).map(|name| name.to_string()).as_deref(), name);
    }
}
