//! A copy out of a registry that was killed goes on where it stopped, whatever it copies to.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coracle::oci::Platform;
use rustix::process::Signal;
use support::User;
use support::registry::{Act, Registry};

/// A registry with an image whose layer has so many bytes, at least.
const LENGTH: usize = 4_000_000;

fn registry() -> Registry {
    let registry = Registry::new();
    let mut random = fastrand::Rng::with_seed(7);
    let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(LENGTH).collect();
    registry.image("big", "1", &format!("linux/{}", Platform::host().architecture), &bytes);
    registry
}

/// The blob that is the layer.
fn layer(registry: &Registry) -> String {
    let state = registry.state();
    let ((_, digest), _) = state.blobs.iter().find(|(_, bytes)| bytes.len() > LENGTH).expect("the layer");
    digest.clone()
}

fn length(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.len())).max().unwrap_or(0)
}

/// Copies to `to`, and kills that twice in the middle of the layer; parts of it lie in `parts`. Returns where the third one went on.
fn killed_twice(user: &User, registry: &Registry, to: &str, parts: &Path) -> u64 {
    let source = format!("docker://{}", registry.name("big:1"));
    let digest = layer(registry);
    for end in [1_000_000, 2_500_000] {
        let there = length(parts);
        registry.fault("GET", &digest, 1, Act::Hold(end - usize::try_from(there).expect("small")));
        let copy = user.coracle(["copy", &source, to]).start();
        let begin = Instant::now();
        while length(parts) + 300_000 < end as u64 {
            assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", registry.state().log);
            std::thread::sleep(Duration::from_millis(5));
        }
        copy.signal(Signal::KILL);
        let _ = copy.wait();
    }
    let asked = registry.seen("GET", &digest);
    assert_eq!(asked.len(), 2);
    assert!(!asked[0].head.contains_key("range") && asked[1].head.contains_key("range"), "{asked:?}");
    registry.forget();
    user.coracle(["copy", &source, to]).run().succeeds();
    let asked = registry.seen("GET", &digest);
    assert_eq!(asked.len(), 1, "{asked:?}");
    let range = asked[0].head["range"].strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
    range.and_then(|range| range.parse().ok()).expect("a range")
}

#[test]
fn into_a_layout() {
    let (user, registry) = (User::new(), registry());
    let layout: PathBuf = user.new_dir().join("layout");
    let parts = layout.join(".coracle-partial");
    let from = killed_twice(&user, &registry, &format!("oci:{}:1", layout.display()), &parts);
    assert!(from > 2_000_000, "{from}");
    assert!(!parts.exists());
    user.coracle(["copy", &format!("oci:{}:1", layout.display()), "again"]).run().succeeds();
}

#[test]
fn into_the_store_where_nothing_is_unpacked_yet() {
    let (user, registry) = (User::new(), registry());
    let from = killed_twice(&user, &registry, "big", &user.store().join("partial"));
    assert!(from > 2_000_000, "{from}");
    let snapshots = fs::read_dir(user.store().join("snapshots")).expect("a folder");
    assert_eq!(snapshots.count(), 0);
    let digest = user.coracle(["copy", "big", &format!("oci:{}:1", user.new_dir().join("x").display())]).run();
    digest.succeeds();
}

#[test]
fn what_was_kept_and_is_wrong_is_fetched_again() {
    let (user, registry) = (User::new(), registry());
    let layout: PathBuf = user.new_dir().join("layout");
    let parts = layout.join(".coracle-partial");
    let to = format!("oci:{}:1", layout.display());
    let source = format!("docker://{}", registry.name("big:1"));
    registry.fault("GET", &layer(&registry), 1, Act::Cut(1_000_000));
    user.coracle(["copy", "--retry=0", &source, &to]).run().fails(4);
    let part = fs::read_dir(&parts).expect("a folder").flatten().next().expect("a part").path();
    let mut bytes = fs::read(&part).expect("bytes");
    assert!(bytes.len() > 500_000);
    bytes[5] ^= 1;
    fs::write(&part, bytes).expect("written");
    user.coracle(["copy", &source, &to]).run().succeeds();
    assert!(!parts.exists());
}

#[test]
fn a_layout_whose_folder_for_parts_leads_elsewhere_is_refused() {
    let (user, registry) = (User::new(), registry());
    let (dir, elsewhere) = (user.new_dir(), user.new_dir());
    let layout = dir.join("layout");
    fs::create_dir(&layout).expect("made");
    support::set_mode(&layout, 0o777);
    std::os::unix::fs::symlink(&elsewhere, layout.join(".coracle-partial")).expect("a link");
    let source = format!("docker://{}", registry.name("big:1"));
    let outcome = user.coracle(["copy", &source, &format!("oci:{}:1", layout.display())]).run();
    outcome.fails_cleanly().stderr_has("not a directory");
    assert_eq!(fs::read_dir(&elsewhere).expect("a folder").count(), 0);
}
