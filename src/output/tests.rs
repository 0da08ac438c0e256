mod hostile;
mod judges;
mod places;

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Mutex;

use super::content::{Blob, Content, Origin, StoreOrigin, Top};
use super::*;
use crate::oci::Digest;
use crate::progress::{Event, Silent, Sink};
use crate::store::fixture::{Packed, image, layer, store};
use crate::store::{Image, Store};

/// Two layers, the lower one twice, and one that is larger than a chunk of the copy.
fn sample(store: &Store, packed: Packed) -> Image {
    let noise: Vec<u8> = (0..700_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let lower = layer("etc/motd", b"hello");
    image(store, &[lower.clone(), layer("big", &noise), lower], packed)
}

fn location(kind: &str, dir: &Path, reference: Option<&str>) -> Location {
    let path = dir.join("out").display().to_string();
    let text = reference.map_or(format!("{kind}:{path}"), |reference| format!("{kind}:{path}:{reference}"));
    text.parse().unwrap()
}

fn diff_ids(image: &Image) -> Vec<Digest> {
    image.layers().iter().map(|layer| layer.diff_id.0).collect()
}

#[test]
fn what_goes_out_comes_in_again_as_the_same_image() {
    for packed in [Packed::Tar, Packed::Gzip, Packed::Zstd] {
        for kind in ["oci", "oci-archive", "docker-archive"] {
            let (dir, from) = store();
            let sent = sample(&from, packed);
            let place = location(kind, dir.path(), Some("demoweb:2"));
            let descriptor = export(&sent, &from, &place, &["unused:1".into()], &Silent).unwrap();
            assert_eq!(descriptor, sent.descriptor());

            let (_to_dir, to) = store();
            for place in [&place, &location(kind, dir.path(), None)] {
                let imported = import(place, &to, &Silent).unwrap_or_else(|error| panic!("{place}: {error}"));
                assert_eq!(imported.name.as_deref(), Some("docker.io/library/demoweb:2"), "{place}");
                let got = to.image(&imported.descriptor).unwrap();
                assert_eq!(got.config_bytes, sent.config_bytes);
                assert_eq!(diff_ids(&got), diff_ids(&sent));
                if kind != "docker-archive" || matches!(packed, Packed::Tar) {
                    assert_eq!(got.digest, sent.digest, "{place}");
                }
                assert!(got.layers().iter().all(|layer| to.blob_size(&layer.digest) == Some(layer.size)));
            }
            assert_eq!(fs::read_dir(to.tmp()).unwrap().count(), 0);
            assert!(to.images().unwrap().is_empty());
        }
    }
}

#[test]
fn archives_of_the_same_image_are_the_same_bytes() {
    for format in [ArchiveFormat::Oci, ArchiveFormat::Docker] {
        let (_dir, store) = store();
        let image = sample(&store, Packed::Gzip);
        let write = || {
            let mut bytes = Vec::new();
            let names = ["demo:1".to_owned(), "quay.io/me/demo:2".to_owned()];
            write_archive(&image, &store, format, &names, &mut bytes, &Silent).unwrap();
            bytes
        };
        let bytes = write();
        assert_eq!(bytes, write());
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (0, 0));
            names.push(entry.path().unwrap().display().to_string());
        }
        assert!(names.is_sorted(), "{names:?}");
    }
}

#[test]
fn a_layout_is_added_to_and_a_name_moves() {
    let (dir, store) = store();
    let one = image(&store, &[layer("a", b"1")], Packed::Gzip);
    let two = image(&store, &[layer("a", b"2")], Packed::Gzip);
    let write = |image: &Image, name: Option<&str>| {
        export(image, &store, &location("oci", dir.path(), name), &[], &Silent).unwrap();
    };
    let read = |name: Option<&str>| import(&location("oci", dir.path(), name), &store, &Silent);
    let index = || -> serde_json::Value {
        serde_json::from_slice(&fs::read(dir.path().join("out/index.json")).unwrap()).unwrap()
    };
    write(&one, Some("latest"));
    let imported = read(None).unwrap();
    assert_eq!(imported.name, None, "a bare tag is no name");
    write(&two, Some("quay.io/me/app:2"));
    assert_eq!(read(Some("latest")).unwrap().descriptor, one.descriptor());
    assert_eq!(read(Some("quay.io/me/app:2")).unwrap().descriptor, two.descriptor());
    assert_eq!(read(Some(&two.digest.to_string())).unwrap().descriptor, two.descriptor());
    let error = read(None).unwrap_err().to_string();
    assert!(error.ends_with("has several images, name one of: latest, quay.io/me/app:2"), "{error}");
    let error = read(Some("nope")).unwrap_err().to_string();
    assert!(error.ends_with("has no image \"nope\", only: latest, quay.io/me/app:2"), "{error}");
    write(&two, Some("latest"));
    assert_eq!(read(Some("latest")).unwrap().descriptor, two.descriptor());
    assert_eq!(index()["manifests"].as_array().unwrap().len(), 2);
    // Both names lead to one image now: that is the one meant.
    assert_eq!(read(None).unwrap().descriptor, two.descriptor());
    // Without a name, the image without a name is replaced.
    write(&one, None);
    write(&two, None);
    assert_eq!(index()["manifests"].as_array().unwrap().len(), 3);
    let mut files: Vec<_> =
        fs::read_dir(dir.path().join("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["blobs", "index.json", "oci-layout"]);
}

#[test]
fn two_exports_into_one_layout_lose_nothing() {
    let (dir, store) = store();
    let image = image(&store, &[layer("a", b"1")], Packed::Gzip);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (dir, store, image) = (dir.path(), &store, &image);
            scope.spawn(move || {
                for number in 0..10 {
                    let place = location("oci", dir, Some(&format!("w{writer}-{number}")));
                    export(image, store, &place, &[], &Silent).unwrap();
                }
            });
        }
    });
    let entries = crate::store::Layout::at(&dir.path().join("out")).entries().unwrap().unwrap();
    assert_eq!(entries.len(), 40);
}

#[test]
fn each_name_of_a_build_is_in_the_archive() {
    let (dir, store) = store();
    let image = image(&store, &[layer("a", b"1")], Packed::Gzip);
    let names = ["docker.io/library/demo:1".to_owned(), "quay.io/me/demo:2".to_owned()];
    for kind in ["oci-archive", "docker-archive"] {
        export(&image, &store, &location(kind, dir.path(), None), &names, &Silent).unwrap();
        for name in ["demo:1", "quay.io/me/demo:2"] {
            let imported = import(&location(kind, dir.path(), Some(name)), &store, &Silent).unwrap();
            assert!(names.contains(&imported.name.unwrap()));
        }
    }
    let tar = fs::read(dir.path().join("out")).unwrap();
    let text = String::from_utf8_lossy(&tar);
    assert!(text.contains(r#""RepoTags":["demo:1","quay.io/me/demo:2"]"#));
}

#[test]
fn an_image_is_not_written_among_other_files() {
    let (dir, store) = store();
    let image = image(&store, &[], Packed::Tar);
    fs::create_dir(dir.path().join("out")).unwrap();
    let write = || export(&image, &store, &location("oci", dir.path(), None), &[], &Silent);
    fs::write(dir.path().join("out/.gitkeep"), "").unwrap();
    write().unwrap();
    fs::remove_dir_all(dir.path().join("out")).unwrap();
    fs::create_dir(dir.path().join("out")).unwrap();
    fs::write(dir.path().join("out/letter.txt"), "dear").unwrap();
    assert!(write().unwrap_err().to_string().ends_with("out is neither an empty folder nor an OCI layout"));
    assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 1);
    fs::remove_file(dir.path().join("out/letter.txt")).unwrap();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("out/blobs")).unwrap();
    assert!(write().unwrap_err().to_string().contains("out/blobs is damaged: it is not a directory"));
}

#[test]
fn an_export_that_fails_leaves_no_image() {
    for kind in ["oci", "oci-archive", "docker-archive"] {
        let (dir, store) = store();
        let image = sample(&store, Packed::Gzip);
        let layer = image.layers()[1].digest;
        let path = store.blob_path(&layer);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = export(&image, &store, &location(kind, dir.path(), None), &[], &Silent).unwrap_err().to_string();
        assert!(error.contains(&layer.hex()), "{error}");
        match kind {
            "oci" => {
                assert!(!dir.path().join("out/index.json").exists());
                let left: Vec<_> = fs::read_dir(dir.path().join("out")).unwrap().collect();
                assert_eq!(left.len(), 2, "{left:?}");
            }
            _ => assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the store"),
        }
    }
}

#[test]
fn names_that_no_tool_could_read_are_refused() {
    let (dir, store) = store();
    let image = image(&store, &[], Packed::Tar);
    for (kind, name) in [("oci", "a b"), ("oci-archive", "\u{1b}[31m"), ("docker-archive", "Upper:1")] {
        let error = export(&image, &store, &location(kind, dir.path(), Some(name)), &[], &Silent).unwrap_err();
        assert!(error.to_string().contains("cannot be the name of an image"), "{error}");
        assert!(!dir.path().join("out").exists());
    }
}

#[test]
fn a_device_is_written_to_and_not_replaced() {
    let (_dir, store) = store();
    let image = image(&store, &[], Packed::Tar);
    export(&image, &store, &"oci-archive:/dev/null".parse().unwrap(), &[], &Silent).unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    // A name of an open file, behind which is a file with something in it.
    let mut behind = tempfile::tempfile().unwrap();
    behind.write_all(&[b'x'; 1 << 20]).unwrap();
    let name = format!("/dev/fd/{}", behind.as_raw_fd());
    export(&image, &store, &format!("oci-archive:{name}").parse().unwrap(), &[], &Silent).unwrap();
    assert!((1024..1 << 20).contains(&behind.metadata().unwrap().len()));
    let Some(again) = in_place(Path::new(&name)) else { panic!("it would be replaced") };
    assert_eq!(again.unwrap().metadata().unwrap().len(), 0);
    assert!(in_place(Path::new("/dev/shm/a.tar")).is_none() && in_place(Path::new("/tmp")).is_none());
}

#[test]
fn blobs_that_are_there_are_not_moved_again_and_those_that_move_are_reported() {
    #[derive(Default)]
    struct Log(Mutex<Vec<(u64, Option<u64>)>>);
    impl Sink for Log {
        fn emit(&self, event: Event) {
            if let Event::Transfer { done, total, .. } = event {
                self.0.lock().unwrap().push((done, total));
            }
        }
    }
    let (dir, from) = store();
    let image = sample(&from, Packed::Gzip);
    let place = location("oci", dir.path(), None);
    export(&image, &from, &place, &[], &Silent).unwrap();
    let (_to_dir, to) = store();
    let log = Log::default();
    import(&place, &to, &log).unwrap();
    let (done, total) = *log.0.lock().unwrap().last().unwrap();
    assert_eq!(Some(done), total);
    let again = Log::default();
    import(&place, &to, &again).unwrap();
    export(&image, &from, &place, &[], &again).unwrap();
    assert!(again.0.lock().unwrap().is_empty());
}

/// Counts how often blobs are opened.
struct Counting<'a> {
    store: StoreOrigin<'a>,
    opened: std::sync::atomic::AtomicUsize,
}

impl Origin for Counting<'_> {
    fn place(&self) -> String {
        self.store.place()
    }

    fn top(&self) -> Result<Top, OutputError> {
        self.store.top()
    }

    fn document(&self, descriptor: &oci_spec::image::Descriptor, what: &str) -> Result<Vec<u8>, OutputError> {
        self.store.document(descriptor, what)
    }

    fn blob(&self, descriptor: &oci_spec::image::Descriptor) -> Result<Blob<'_>, OutputError> {
        self.opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.store.blob(descriptor)
    }
}

#[test]
fn an_archive_of_docker_reads_each_layer_once_and_is_the_same_in_a_file_and_in_a_stream() {
    let (dir, store) = store();
    let image = sample(&store, Packed::Gzip);
    let from = Counting { store: StoreOrigin(&store), opened: 0.into() };
    let content = Content::of_image(&image);
    let contents = [(&content, vec!["demo:1".to_owned()])];
    let layers: std::collections::BTreeSet<_> = image.layers().iter().map(|layer| layer.digest).collect();
    let opened = || from.opened.swap(0, std::sync::atomic::Ordering::Relaxed);
    let mut bytes = Vec::new();
    write_archives(&contents, &from, ArchiveFormat::Docker, &store.tmp(), &mut bytes, &Silent).unwrap();
    assert_eq!(opened(), layers.len());
    let path = dir.path().join("out");
    let location = location("docker-archive", dir.path(), None);
    content::write_all(&contents, &from, &location, &store.tmp(), &Silent).unwrap();
    assert_eq!(opened(), layers.len());
    assert!(fs::read(&path).unwrap() == bytes);
    // Where nothing can be written, it is read twice.
    let mut again = Vec::new();
    write_archives(&contents, &from, ArchiveFormat::Docker, Path::new("/nonexistent"), &mut again, &Silent).unwrap();
    assert_eq!(opened(), 2 * layers.len());
    assert!(again == bytes);
}
