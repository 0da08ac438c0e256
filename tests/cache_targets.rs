//! Caches that are written to, whatever became of those that were read: what was lost is done again, and what another has comes from there.

mod support;

use std::fs;
use std::path::Path;

use coracle::oci::Digest;
use serde_json::Value;
use support::Project;
use support::registry::Registry;

/// A stage that the image does not have, and whose result is large.
const DOCKERFILE: &str = "
    FROM busybox AS heavy
    RUN head -c 300000 /dev/urandom >/heavy && head -c 8 /heavy | base64 >/light
    FROM busybox
    COPY --from=heavy /light /light
";

fn project() -> Project {
    Project::new().dockerfile(DOCKERFILE)
}

/// A place of a cache, as the flags name it.
struct Place {
    from: String,
    to: String,
}

impl Place {
    fn folder(dir: &Path) -> Self {
        let dir = dir.display();
        Place { from: format!("--cache-from=type=local,src={dir}"), to: format!("--cache-to=type=local,dest={dir}") }
    }

    fn registry(registry: &Registry, name: &str) -> Self {
        let name = registry.name(name);
        let of = |flag: &str| format!("--{flag}=type=registry,ref={name}");
        Place { from: of("cache-from"), to: of("cache-to") }
    }

    /// Builds for somebody with an empty store, from `also` and this cache to this one; that it cannot be written is an error.
    fn both(&self, also: &[&Place]) -> support::Built {
        let mut project = project().arg("--retry-delay=10ms");
        for place in also.iter().chain([&self]) {
            project = project.arg(&place.from);
        }
        project.arg(&format!("{},mode=max,ignore-error=false", self.to)).build()
    }
}

/// The names of the blobs of a folder, and their lengths.
fn blobs(dir: &Path) -> Vec<(u64, std::path::PathBuf)> {
    let files = fs::read_dir(dir.join("blobs/sha256")).expect("a layout").flatten();
    files.map(|file| (file.metadata().expect("a file").len(), file.path())).collect()
}

#[test]
fn a_cache_in_a_registry_that_lost_a_layer_is_written_again() {
    let registry = Registry::new();
    let cache = Place::registry(&registry, "cache:1");
    let first = cache.both(&[]).cached(0).succeeds().text("light");
    let largest = {
        let state = registry.state();
        let blobs = state.blobs.iter().filter(|((repository, _), _)| repository == "cache");
        blobs.max_by_key(|(_, bytes)| bytes.len()).map(|(key, _)| key.clone()).expect("a blob")
    };
    registry.state().blobs.remove(&largest);
    // Nobody needs it for the image; but a list must not name it.
    let second = cache.both(&[]).cached(2).stderr_has("a layer cannot be had").succeeds();
    assert_eq!(second.text("light"), first);
    // The next one makes it, and then it is there.
    cache.both(&[]).cached(0).succeeds();
    cache.both(&[]).cached(2).stderr_has_no("cannot be had").succeeds();
}

#[test]
fn a_cache_in_a_folder_that_lost_a_layer_or_has_it_damaged_is_written_again() {
    for damage in [(|blob: &Path| fs::remove_file(blob).expect("removed")) as fn(&Path), |blob| {
        let mut bytes = fs::read(blob).expect("a blob");
        bytes[1000] ^= 1;
        fs::write(blob, bytes).expect("written");
    }] {
        let home = project();
        let dir = home.user().new_dir();
        let cache = Place::folder(&dir);
        support::set_mode(&dir, 0o777);
        cache.both(&[]).cached(0).succeeds();
        let (_, largest) = blobs(&dir).into_iter().max().expect("a blob");
        damage(&largest);
        cache.both(&[]).cached(2).stderr_has("a layer cannot be had").succeeds();
        cache.both(&[]).cached(0).succeeds();
        cache.both(&[]).cached(2).stderr_has_no("cannot be had").succeeds();
    }
}

#[test]
fn what_only_another_cache_has_comes_from_there() {
    let registry = Registry::new();
    let (main, branch) = (Place::registry(&registry, "main:1"), Place::registry(&registry, "branch:1"));
    let first = main.both(&[]).cached(0).succeeds().text("light");
    // Nothing was ever written to it.
    let second = branch.both(&[&main]).cached(2).stderr_has_no("is not written").succeeds();
    assert_eq!(second.text("light"), first);
    let third = branch.both(&[]).cached(2).succeeds();
    assert_eq!(third.text("light"), first);
    // Of two tags of one repository the blobs lie together: none moves.
    registry.forget();
    let tag = Place::registry(&registry, "main:2");
    tag.both(&[&main]).cached(2).succeeds();
    let largest = {
        let state = registry.state();
        state.blobs.values().max_by_key(|bytes| bytes.len()).map(|bytes| Digest::of(bytes).to_string()).expect("one")
    };
    assert!(registry.seen("GET", &format!("blobs/{largest}")).is_empty());
    assert_eq!(tag.both(&[]).cached(2).succeeds().text("light"), first);
}

#[test]
fn a_blob_of_a_layout_that_is_damaged_is_replaced() {
    let project = project();
    let image = project.build().succeeds();
    let dir = project.user().new_dir();
    let push = || project.user().coracle(["push", "test"]).arg(format!("oci:{}", dir.display())).run().succeeds();
    push();
    let layer: &Value = &image.manifest()["layers"][0];
    let blob = dir.join("blobs/sha256").join(layer["digest"].as_str().expect("a digest").trim_start_matches("sha256:"));
    let whole = fs::read(&blob).expect("the blob");
    let mut bytes = whole.clone();
    bytes[100] ^= 1;
    fs::write(&blob, &bytes).expect("written");
    push();
    assert!(fs::read(&blob).expect("the blob") == whole);
}
