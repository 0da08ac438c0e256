//! Results of steps in other places: an empty store replays a build from a cache in a folder.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::Project;

/// Two stages: the first one's result is only copied from.
const DOCKERFILE: &str = "
    FROM busybox AS construct
    COPY source /source
    RUN cat /source /proc/sys/kernel/random/uuid >/made
    FROM busybox
    COPY --from=construct /made /made
    RUN cat /proc/sys/kernel/random/uuid >/id && mkdir -p /d/e && ln -s x /d/l && chmod 4755 /bin/busybox
";

fn project() -> Project {
    Project::new().file("source", "source").dockerfile(DOCKERFILE)
}

fn to(cache: &Path, mode: &str) -> String {
    format!("--cache-to=type=local,dest={},mode={mode}", cache.display())
}

fn from(cache: &Path) -> String {
    format!("--cache-from=type=local,src={}", cache.display())
}

fn blobs(cache: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> =
        fs::read_dir(cache.join("blobs/sha256")).expect("a layout").flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

#[test]
fn an_empty_store_replays_a_whole_build() {
    let first = project();
    let cache = first.user().new_dir();
    let image = first.clone().arg(&to(&cache, "max")).build().cached(0).succeeds();
    let second = project().arg(&from(&cache)).build().cached(4).succeeds();
    assert_eq!(image.text("id"), second.text("id"));
    assert_eq!(image.digest(), second.digest());
}

#[test]
fn layers_of_a_cache_are_made_one_where_that_is_asked_for() {
    let first = project().arg("--squash");
    let cache = first.user().new_dir();
    let image = first.arg(&to(&cache, "max")).build().cached(0).succeeds();
    assert_eq!(image.manifest()["layers"].as_array().expect("layers").len(), 2);
    let second = project().arg("--squash").arg(&from(&cache)).build().cached(4).succeeds();
    assert_eq!(image.digest(), second.digest());
}

#[test]
fn a_step_that_changed_runs_on_the_layers_of_the_cache() {
    let first = project();
    let cache = first.user().new_dir();
    let before = first.clone().arg(&to(&cache, "max")).build().succeeds();
    let second = project().dockerfile(&format!("{DOCKERFILE}    RUN cp /made /copy\n"));
    let after = second.arg(&from(&cache)).build().cached(4).succeeds();
    assert_eq!(before.text("made"), after.text("copy"));
}

#[test]
fn the_mode_min_has_the_layers_of_the_image_only_and_never_those_of_the_base() {
    let first = project();
    let (least, most) = (first.user().new_dir(), first.user().new_dir());
    let image = first.clone().arg(&to(&least, "min")).arg(&to(&most, "max")).build().succeeds();
    // For each layer its files and its index, and for all a list and a manifest.
    let (first, least_blobs) = (first, blobs(&least).len());
    assert_eq!(least_blobs, 2 * 2 + 2);
    assert_eq!(blobs(&most).len(), 4 * 2 + 2);
    let base = image.manifest()["layers"][0]["digest"].as_str().expect("a digest").trim_start_matches("sha256:");
    assert!(!blobs(&most).iter().any(|blob| blob.ends_with(base)), "the base is there");
    // The first stage runs again, with another result, so the second cannot go on.
    project().arg(&from(&least)).build().cached(0).succeeds();
    let one = |project: Project| project.dockerfile("FROM busybox\nCOPY source /\nRUN cp source copy\n");
    one(first).arg(&to(&least, "min")).build().succeeds();
    one(project()).arg(&from(&least)).build().cached(2).succeeds();
}

#[test]
fn steps_before_a_failure_are_written_too() {
    let fails = |project: Project| project.dockerfile("FROM busybox\nRUN echo a >/a\nRUN exit 7\n");
    let first = fails(Project::new());
    let cache = first.user().new_dir();
    first.clone().arg(&to(&cache, "max")).build().fails(1);
    fails(Project::new()).arg(&from(&cache)).build().cached(1).fails(1);
}

#[test]
fn the_first_cache_that_knows_a_step_counts_and_others_add_to_it() {
    let (one, two) =
        (project(), Project::new().dockerfile("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/id\n"));
    let (first, second) = (one.user().new_dir(), one.user().new_dir());
    one.clone().arg(&to(&first, "max")).build().succeeds();
    let image = two.clone().arg(&to(&second, "max")).build().succeeds();
    let third = Project::new().dockerfile("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/id\n");
    let again = third.arg(&from(&first)).arg(&from(&second)).build().cached(1).succeeds();
    assert_eq!(image.text("id"), again.text("id"));
}

#[test]
fn what_is_wrong_with_a_cache_is_a_warning() {
    let project = project();
    let nowhere = project.user().home().join("nowhere");
    let not_a_cache = project.user().layout();
    let out = project.user().home().join("file");
    fs::write(&out, "").expect("a file");
    let project = project.arg(&from(&nowhere)).arg(&from(&not_a_cache)).arg(&to(&out, "max"));
    let built = project.build().stderr_has("is not used").stderr_has("is not written");
    built.succeeds();
}

#[test]
fn with_ignore_error_false_a_cache_that_cannot_be_written_fails_the_build() {
    let project = project();
    let out = project.user().home().join("file");
    fs::write(&out, "").expect("a file");
    let arg = format!("{},ignore-error=false", to(&out, "max"));
    project.arg(&arg).build().fails_cleanly();
}

#[test]
fn a_blob_that_is_damaged_or_missing_is_a_miss_and_never_a_wrong_image() {
    for damage in [(|blob: &Path| fs::remove_file(blob).expect("removed")) as fn(&Path), |blob| {
        fs::write(blob, "not what it was").expect("written")
    }] {
        let first = project();
        let cache = first.user().new_dir();
        let image = first.clone().arg(&to(&cache, "max")).build().succeeds();
        // The largest is a layer: that with busybox, which chmod copied up.
        let largest = blobs(&cache).into_iter().max_by_key(|blob| fs::metadata(blob).map_or(0, |meta| meta.len()));
        damage(&largest.expect("a blob"));
        let built = project().arg(&from(&cache)).build().stderr_has("a layer cannot be had");
        let again = built.succeeds();
        assert_ne!(image.text("id"), again.text("id"), "the step ran again");
        assert_eq!(image.text("made"), again.text("made"), "the others did not");
    }
}

/// The result of one stage is copied from, and far smaller than it.
fn heavy(last: &str) -> Project {
    Project::new().dockerfile(&format!(
        "FROM busybox AS heavy\nRUN head -c 8000000 /dev/urandom >/heavy && head -c 8 /heavy | base64 >/light\n\
         FROM busybox\nCOPY --from=heavy /light /light\nRUN echo {last} >/last\n"
    ))
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |meta| meta.len())
}

#[test]
fn layers_that_no_step_reads_stay_in_the_cache() {
    let first = heavy("one");
    let cache = first.user().new_dir();
    let before = first.clone().arg(&to(&cache, "max")).build().succeeds();
    let largest = blobs(&cache).into_iter().max_by_key(|blob| size(blob)).expect("a blob");
    assert!(size(&largest) > 7_000_000);
    let second = heavy("two").arg(&from(&cache));
    let after = second.build().cached(2).succeeds();
    assert_eq!(before.text("light"), after.text("light"));
    assert_eq!(after.text("last"), "two\n");
    let here = second.user().layout().join("blobs/sha256").join(largest.file_name().expect("a name"));
    assert!(!here.exists(), "nobody needed it");
    // Who reads it gets it.
    let dockerfile = fs::read_to_string(second.path("Dockerfile")).expect("text");
    let third = second.dockerfile(&format!("{dockerfile}COPY --from=heavy /heavy /heavy\n"));
    third.build().cached(3).succeeds();
    assert!(here.exists());
}

#[test]
fn a_cache_that_has_lost_all_its_layers_costs_the_steps_and_nothing_else() {
    let first = heavy("one");
    let cache = first.user().new_dir();
    let before = first.clone().arg(&to(&cache, "max")).build().succeeds();
    // What is left are the indexes and the lists.
    let is_layer = |blob: &PathBuf| fs::read(blob).expect("bytes").starts_with(&[0x1f, 0x8b]);
    let layers: Vec<PathBuf> = blobs(&cache).into_iter().filter(is_layer).collect();
    assert_eq!(layers.len(), 3);
    layers.iter().for_each(|layer| fs::remove_file(layer).expect("removed"));
    let built = heavy("two").arg(&from(&cache)).build().stderr_has("a layer cannot be had");
    assert_ne!(before.text("light"), built.cached(0).succeeds().text("light"), "the step ran again");
}

#[test]
fn results_that_are_too_old_do_not_count() {
    let project = project();
    project.build().succeeds();
    std::thread::sleep(std::time::Duration::from_secs(2));
    project.clone().arg("--cache-ttl=1h").build().cached(4).succeeds();
    project.arg("--cache-ttl=1s").build().cached(0).succeeds();
}

#[test]
fn the_steps_of_a_stage_can_be_run_again() {
    let project = project();
    let before = project.build().succeeds();
    let after = project.arg("--no-cache-filter=construct").build().succeeds();
    assert_ne!(before.text("made"), after.text("made"));
}
