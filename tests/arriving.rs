//! Layers are unpacked while they come from a registry; what is not whole and right is nowhere.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coracle::oci::{Digest, Platform};
use rustix::process::Signal;
use serde_json::json;
use support::registry::{Act, Registry};
use support::{Project, Running, User};

const FILES: usize = 12;
const FILE: usize = 256 << 10;

/// The content of one of the files of a layer: it does not compress.
fn content(layer: usize, file: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed((layer * 100 + file) as u64);
    std::iter::repeat_with(|| random.u8(..)).take(FILE).collect()
}

fn tar(layer: usize) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in 0..FILES {
        let mut header = tar::Header::new_ustar();
        header.set_size(FILE as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("{layer}-{file}"), &content(layer, file)[..]).expect("in memory");
    }
    archive.into_inner().expect("in memory")
}

/// Puts an image of these layers in, which are said to have these digests when they are not compressed; returns their digests.
fn image(registry: &Registry, layers: &[Vec<u8>], diff_ids: &[Digest]) -> Vec<String> {
    let kind = "application/vnd.oci.image.";
    let blobs: Vec<_> =
        layers.iter().map(|layer| registry.blob("base", &format!("{kind}layer.v1.tar+zstd"), layer)).collect();
    let diff_ids: Vec<String> = diff_ids.iter().map(ToString::to_string).collect();
    let config = json!({
        "architecture": Platform::host().architecture, "os": "linux", "config": {"Cmd": ["true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = registry.blob("base", &format!("{kind}config.v1+json"), config.to_string().as_bytes());
    let kind = format!("{kind}manifest.v1+json");
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": blobs});
    registry.manifest("base", "1", &kind, &manifest);
    blobs.iter().map(|blob| blob["digest"].as_str().expect("a digest").to_owned()).collect()
}

fn packed(tar: &[u8]) -> Vec<u8> {
    zstd::encode_all(tar, 1).expect("in memory")
}

fn with_layers(count: usize) -> (Registry, Vec<String>) {
    let registry = Registry::new();
    let tars: Vec<Vec<u8>> = (0..count).map(tar).collect();
    let layers: Vec<Vec<u8>> = tars.iter().map(|tar| packed(tar)).collect();
    let diff_ids: Vec<Digest> = tars.iter().map(|tar| Digest::of(tar)).collect();
    let digests = image(&registry, &layers, &diff_ids);
    (registry, digests)
}

/// The files below a folder, with their names from there.
fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => todo.push(entry.path()),
                Ok(meta) => {
                    found.push((entry.path().strip_prefix(dir).expect("below").to_path_buf(), meta.len()));
                }
                Err(_) => {}
            }
        }
    }
    found
}

/// The files of layers that are in the store, by name.
fn in_store(user: &User) -> Vec<String> {
    let mut names: Vec<String> = files(&user.store().join("snapshots"))
        .into_iter()
        .filter_map(|(path, _)| Some(path.file_name()?.to_str()?.to_owned()))
        .filter(|name| !name.ends_with(".json"))
        .collect();
    names.sort();
    names
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it does not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until so many whole files of layers were unpacked where nobody sees them yet.
fn unpacked(user: &User, count: usize) {
    let whole = |(path, size): &(PathBuf, u64)| {
        path.components().any(|part| part.as_os_str().to_string_lossy().ends_with("-upper")) && *size == FILE as u64
    };
    wait_until(|| files(&user.store().join("tmp")).iter().filter(|file| whole(file)).count() >= count);
}

fn start(user: &User, registry: &Registry) -> Running {
    user.coracle(["pull", "--retry-delay=10ms", &registry.name("base:1")]).start()
}

/// Checks that the files of all layers are in the store, and what is in them.
fn is_right(user: &User, layers: usize) {
    let all = (0..layers).flat_map(|layer| (0..FILES).map(move |file| (layer, file)));
    let found = files(&user.store().join("snapshots"));
    let mut count = 0;
    for (layer, file) in all {
        let name = format!("{layer}-{file}");
        let (path, _) = found.iter().find(|(path, _)| path.ends_with(&name)).unwrap_or_else(|| panic!("no {name}"));
        assert!(fs::read(user.store().join("snapshots").join(path)).unwrap() == content(layer, file), "{name}");
        count += 1;
    }
    assert_eq!(in_store(user).len(), count);
    assert!(files(&user.store().join("tmp")).is_empty(), "{:?}", files(&user.store().join("tmp")));
    assert!(files(&user.store().join("partial")).is_empty());
}

#[test]
fn files_are_there_before_the_layer_is_but_nobody_sees_them() {
    let (registry, digests) = with_layers(2);
    registry.fault("GET", &digests[0], 1, Act::Hold(FILE * FILES / 2));
    let user = User::new();
    let pull = start(&user, &registry);
    // The other layer whole, and the first files of this one.
    unpacked(&user, FILES + FILES / 2 - 2);
    assert_eq!(in_store(&user), [""; 0]);
    registry.release();
    pull.wait().succeeds();
    is_right(&user, 2);
}

#[test]
fn a_build_unpacks_its_base_while_it_comes() {
    let (registry, digests) = with_layers(1);
    registry.fault("GET", &digests[0], 1, Act::Hold(FILE * FILES / 2));
    let user = User::new();
    let project = Project::of(&user).dockerfile(&format!("FROM {}\nCOPY Dockerfile /", registry.name("base:1")));
    let build = project.start();
    unpacked(&user, FILES / 2 - 2);
    registry.release();
    build.wait().succeeds();
    assert!(in_store(&user).len() > FILES, "{:?}", in_store(&user));
    registry.forget();
    project.build().succeeds();
    assert!(registry.state().log.is_empty(), "it has a name now");
}

#[test]
fn what_breaks_off_goes_on_and_what_begins_anew_is_unpacked_anew() {
    for ranges in [true, false] {
        let (registry, digests) = with_layers(2);
        registry.state().no_ranges = !ranges;
        registry.fault("GET", &digests[0], 1, Act::Cut(FILE * FILES / 2));
        registry.fault("GET", &digests[1], 2, Act::Cut(FILE * 3));
        let user = User::new();
        start(&user, &registry).wait().succeeds();
        is_right(&user, 2);
    }
}

#[test]
fn a_pull_that_was_killed_goes_on_with_what_it_has() {
    let (registry, digests) = with_layers(1);
    registry.fault("GET", &digests[0], 1, Act::Hold(FILE * FILES / 2));
    let user = User::new();
    let pull = start(&user, &registry);
    unpacked(&user, FILES / 2 - 2);
    pull.signal(Signal::KILL);
    let _ = pull.wait();
    assert_eq!(in_store(&user), [""; 0]);
    registry.forget();
    registry.release();
    start(&user, &registry).wait().succeeds();
    let seen = registry.seen("GET", &digests[0]);
    let range = seen[0].head.get("range").expect("a part").strip_prefix("bytes=").unwrap().trim_end_matches('-');
    assert!(range.parse::<usize>().unwrap() >= FILE * (FILES / 2 - 2), "{range}");
    // What the first one left is younger than what is removed.
    let left = files(&user.store().join("tmp"));
    assert!(left.iter().all(|(path, _)| path.starts_with(left[0].0.iter().next().unwrap())), "{left:?}");
    assert_eq!(in_store(&user).len(), FILES);
}

#[test]
fn what_is_wrong_gets_nowhere() {
    let user = User::new();
    // Another content of the same length: it unpacks well enough, but nobody asked for it.
    let (registry, digests) = with_layers(1);
    let other = packed(&tar(7));
    let size = registry.state().blobs[&("base".to_owned(), digests[0].clone())].len();
    let mut bytes = other[..size.min(other.len())].to_vec();
    bytes.resize(size, 0);
    registry.state().blobs.insert(("base".into(), digests[0].clone()), bytes);
    start(&user, &registry).wait().fails(3).stderr_has(&digests[0]);
    assert_eq!(in_store(&user), [""; 0]);
    // The right digest, but not what the configuration says.
    let registry = Registry::new();
    image(&registry, &[packed(&tar(0)), packed(&tar(1))], &[Digest::of(&tar(0)), Digest::of(b"other")]);
    start(&user, &registry).wait().fails(3).stderr_has(&Digest::of(b"other").to_string());
    assert!(in_store(&user).iter().all(|name| name.starts_with("0-")), "{:?}", in_store(&user));
    let images = user.coracle(["images"]).run().succeeds();
    assert!(!images.stdout.contains("base"), "no name leads to it: {images}");
    // No archive at all.
    let registry = Registry::new();
    let junk = vec![7; 100_000];
    image(&registry, std::slice::from_ref(&junk), &[Digest::of(&junk)]);
    start(&user, &registry).wait().fails(3);
    assert!(in_store(&user).iter().all(|name| name.starts_with("0-")), "{:?}", in_store(&user));
    user.has_nothing_left_of(&registry.host());
}

#[test]
fn an_interrupted_pull_ends_at_once() {
    let (registry, digests) = with_layers(1);
    registry.fault("GET", &digests[0], 1, Act::Hold(FILE * FILES / 2));
    let user = User::new();
    let pull = start(&user, &registry);
    unpacked(&user, FILES / 2 - 2);
    let begin = Instant::now();
    pull.signal(Signal::INT);
    let outcome = pull.wait();
    assert_eq!(outcome.code(), Some(130), "{outcome}");
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    assert_eq!(in_store(&user), [""; 0]);
    registry.release();
}
