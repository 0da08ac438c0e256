//! Builds for several platforms together with all else that a build can do: caches, pushes, annotations, outputs, bundles.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use coracle::oci::Digest;
use serde_json::{Value, json};
use support::registry::Registry;
use support::{Image, Layer, Project, User, base};

const BOTH: &str = "--platform=linux/amd64,linux/arm64";
const RANDOM: &str = "cat /proc/sys/kernel/random/uuid";

/// A user whose store has `base:1` for two platforms.
fn user() -> User {
    let user = User::new();
    base::index(&user, "base:1", &["linux/amd64", "linux/arm64"]);
    user
}

/// A Dockerfile whose images differ by platform, and whose RUNs are run on this machine.
fn dockerfile() -> String {
    format!(
        "FROM --platform=$BUILDPLATFORM base:1 AS tools\nARG TARGETARCH\nRUN {RANDOM} >/id && echo $TARGETARCH >>/id\n\
         FROM base:1\nCOPY --from=tools /id /id\nCOPY f /f\n"
    )
}

fn project(user: &User) -> Project {
    Project::of(user).file("f", "f").dockerfile(&dockerfile()).arg(BOTH)
}

fn both(layout: &Path, index: &str) -> [Image; 2] {
    ["linux/amd64", "linux/arm64"].map(|platform| Image::of_platform(layout, index, platform))
}

#[test]
fn each_image_of_an_index_has_the_cache_of_its_platform() {
    // What is made on this machine is no part of an image: it is made again, and has to be the same for the rest to be found.
    let dockerfile = || dockerfile().replace(RANDOM, "echo same");
    let project = |user: &User| Project::of(user).file("f", "f").dockerfile(&dockerfile()).arg(BOTH);
    let registry = Registry::new();
    let (first, name) = (user(), registry.name("web:1"));
    let push = format!("--output=type=registry,name={name}");
    let from = format!("--cache-from=type=registry,ref={name}");
    for flag in ["--compression=gzip", "--compression=zstd"] {
        let pushed = project(&first).arg(&push).arg("--cache-to=type=inline,ignore-error=false").arg(flag);
        // Nothing is missing in an image that is of another one.
        let pushed = pushed.call().run().succeeds().stderr_has_no("warning");
        let index = pushed.stdout.trim();
        for image in both(&first.layout(), index) {
            let steps = image.document()["coracle.cache.v1"]["steps"].as_array().map(Vec::len);
            assert_eq!(steps, Some(2), "{}", image.document());
        }
        let second = user();
        let again = project(&second).arg(&from).arg(&push).arg("--cache-to=type=inline").arg(flag);
        let again = again.call().run().succeeds().stderr_has_no("warning");
        assert_eq!(again.count("CACHED"), 4, "{again}");
        // The same images, but for the cache in them: by the first of its two keys a copy is found, and the second is not computed.
        let made = |user: &User, index: &str| {
            both(&user.layout(), index.trim()).map(|image| (image.manifest()["layers"].clone(), image.config().clone()))
        };
        assert_eq!(made(&second, &again.stdout), made(&first, index));
        // One of the platforms alone finds its own.
        let third = user();
        let alone = Project::of(&third).file("f", "f").dockerfile(&dockerfile()).arg("--platform=linux/arm64");
        let alone = alone.arg(&from).arg(flag).call().run().succeeds();
        assert_eq!(alone.count("CACHED"), 2, "{alone}");
    }
}

#[test]
fn a_cache_in_a_registry_replays_all_platforms_in_an_empty_store() {
    let registry = Registry::new();
    let (first, cache) = (user(), registry.name("cache:1"));
    let to = format!("--cache-to=type=registry,mode=max,ref={cache},compression=zstd");
    let built = project(&first).arg(&to).arg("--compression=zstd").call().run().succeeds();
    let second = user();
    let from = format!("--cache-from=type=registry,ref={cache}");
    let again = project(&second).arg(&from).arg("--compression=zstd").call().run().succeeds();
    assert_eq!((again.count("CACHED"), again.count("isolation:")), (6, 0), "{again}");
    assert_eq!(again.stdout, built.stdout);
    for image in both(&second.layout(), built.stdout.trim()) {
        let layers = image.manifest()["layers"].as_array().unwrap();
        assert!(layers[0]["mediaType"].as_str().unwrap().ends_with("gzip"), "that of the base stays");
        assert!(layers[1..].iter().all(|layer| layer["mediaType"].as_str().unwrap().ends_with("zstd")), "{layers:?}");
    }
}

#[test]
fn layers_of_all_platforms_go_out_while_steps_still_run() {
    let registry = Registry::new();
    let user = user();
    let url = format!("http://{}/v2/go/manifests/1", registry.host());
    let file = format!(
        "FROM --platform=$BUILDPLATFORM base:1 AS late\n\
         RUN n=0; until wget -q -O /dev/null {url}; do n=$((n+1)); [ $n -lt 300 ] || exit 9; sleep 0.2; done; echo >/late\n\
         FROM base:1\nARG TARGETARCH\nCOPY f /$TARGETARCH\nCOPY --from=late /late /late\n"
    );
    let project = Project::of(&user).file("f", "f").dockerfile(&file).named("web:1").arg(BOTH);
    let project = project.arg(&format!("--output=type=registry,name={}", registry.name("web:1")));
    let build = project.start();
    let blobs = || registry.state().blobs.keys().filter(|(repository, _)| repository == "web").count();
    let begin = Instant::now();
    // That of the base, which both have, and one of each platform.
    while blobs() < 3 {
        assert!(begin.elapsed() < Duration::from_secs(120), "the layers never come");
        thread::sleep(Duration::from_millis(20));
    }
    let manifests = registry.state().manifests.keys().filter(|(repository, _)| repository == "web").count();
    assert_eq!(manifests, 0, "nobody sees half an index");
    registry.manifest("go", "1", "application/vnd.oci.image.manifest.v1+json", &json!({"schemaVersion": 2}));
    let built = build.wait().succeeds();
    // Base, one layer each, one that both have, and two configurations; each went once.
    assert_eq!((blobs(), registry.seen("PUT", "/v2/web/blobs/uploads/").len()), (6, 6));
    let tagged = registry.state().manifests[&("web".into(), "1".into())].1.clone();
    assert_eq!(Digest::of(&tagged).to_string(), built.stdout.trim());
}

/// An index with its annotations, and the descriptor in index.json that leads to it.
fn index_of(layout: &Path) -> (Value, Value) {
    let top: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let entry = top["manifests"][0].clone();
    let hex = entry["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    (serde_json::from_slice(&fs::read(layout.join("blobs/sha256").join(hex)).unwrap()).unwrap(), entry)
}

#[test]
fn annotations_of_each_level_are_where_they_belong_and_nowhere_else() {
    let user = user();
    let out = user.new_dir();
    let (plain, own) = (out.join("plain"), out.join("own"));
    let project = project(&user)
        .arg("--annotation=all=m")
        .arg("--annotation=manifest[linux/arm64]:one=arm")
        .arg("--annotation=manifest[linux/arm64]:all=more")
        .arg("--annotation=index:i=1")
        .arg("--annotation=manifest-descriptor:d=2")
        .arg("--annotation=manifest-descriptor[linux/arm64/v8]:d=3")
        .arg("--annotation=index-descriptor:top=4")
        .arg(&format!("--output=type=oci,tar=false,dest={}", plain.display()))
        .arg(&format!("--output=type=oci,tar=false,annotation-index.i=own,annotation.all=own,dest={}", own.display()));
    let built = project.call().run().succeeds();
    let check = |layout: &PathBuf, index_says: &str, all: [&str; 2]| {
        let (index, top) = index_of(layout);
        assert_eq!(index["annotations"], json!({"i": index_says}));
        assert_eq!(top["annotations"]["top"], "4", "{top}");
        assert_eq!(index["manifests"][0]["annotations"], json!({"d": "2"}));
        assert_eq!(index["manifests"][1]["annotations"], json!({"d": "3"}));
        let [amd, arm] = both(layout, top["digest"].as_str().unwrap());
        assert_eq!(amd.manifest()["annotations"], json!({"all": all[0]}));
        assert_eq!(arm.manifest()["annotations"], json!({"all": all[1], "one": "arm"}));
        top["digest"].as_str().unwrap().to_owned()
    };
    assert_eq!(check(&plain, "1", ["m", "more"]), built.stdout.trim());
    // What is for one platform counts more than what is for all, wherever that stands.
    assert_ne!(check(&own, "own", ["own", "more"]), built.stdout.trim());
}

#[test]
fn an_annotation_for_a_platform_that_is_not_built_is_an_error_before_the_build() {
    let user = user();
    let s390x = "--annotation=manifest-descriptor[linux/s390x]:a=b";
    let refused = project(&user).arg(s390x).build().fails(2).stderr_has_no("=> ");
    refused.stderr_has("the annotation \"a\" is for linux/s390x, and images are built for: linux/amd64, linux/arm64");
    let single = |flag: &str| Project::of(&user).dockerfile("FROM base:1\n").arg(flag);
    single("--platform=linux/arm64")
        .arg("--annotation=manifest[linux/amd64]:a=b")
        .build()
        .fails(2)
        .stderr_has("is for linux/amd64, and images are built for: linux/arm64");
    single("--all-platforms").arg(s390x).build().fails(2).stderr_has("linux/amd64, linux/arm64");
    single("--platform=linux/arm64").arg("--annotation=manifest[linux/arm64/v8]:a=b").call().run().succeeds();
    let dest = user.new_dir().join("out");
    let output = format!("--output=type=oci,tar=false,dest={},annotation[linux/s390x].k=v", dest.display());
    single("--pull=never").arg(&output).build().fails(2).stderr_has("\"k\" is for linux/s390x");
    assert!(!dest.exists());
}

#[test]
fn an_annotation_that_a_registry_does_not_keep_is_a_warning() {
    let (user, registry) = (user(), Registry::new());
    let output = format!("--output=type=registry,name={}", registry.name("web:1"));
    let built = |flag: &str| {
        let project = Project::of(&user).dockerfile("FROM base:1\n").arg("--platform=linux/amd64").arg(flag);
        project.arg(&output).call().run().succeeds()
    };
    let said = "the annotation \"k\" does not get to a registry";
    built("--annotation=manifest-descriptor:k=v").stderr_has(said);
    built("--annotation=manifest:k=v").stderr_has_no(said);
    let both = project(&user)
        .arg("--annotation=manifest-descriptor:d=v")
        .arg("--annotation=index-descriptor:k=v")
        .arg(&output);
    both.call().run().succeeds().stderr_has(said);
}

#[test]
fn several_outputs_at_once_and_all_files_about_them_tell_of_the_same_index() {
    let user = user();
    let registry = Registry::new();
    let out = user.new_dir();
    let path = |name: &str| out.join(name).display().to_string();
    let name = registry.name("web:1");
    let project = project(&user)
        .arg("--compression=zstd")
        .arg(&format!("--output=type=oci,dest={}", path("oci.tar")))
        .arg(&format!("--output=type=oci,tar=false,compression=gzip,dest={}", path("gzip")))
        .arg(&format!("--output=type=tar,dest={}", path("files.tar")))
        .arg(&format!("--output=type=local,dest={}", path("local")))
        .arg(&format!("--output=type=registry,name={name}"))
        .arg(&format!("--metadata-file={}", path("metadata")))
        .arg(&format!("--iidfile={}", path("iid")))
        .arg(&format!("--digest-file={}", path("digest")));
    let built = project.call().run().succeeds();
    let index = built.stdout.trim().to_owned();
    let said = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    assert_eq!((said("iid"), said("digest")), (index.clone(), index.clone()));
    let metadata: Value = serde_json::from_str(&said("metadata")).unwrap();
    assert_eq!(metadata["containerimage.digest"], json!(index));
    assert_eq!(metadata["containerimage.descriptor"]["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert!(metadata["image.name"].as_str().unwrap().contains(&name), "{metadata}");
    for place in [format!("oci-archive:{}", path("oci.tar")), format!("docker://{name}")] {
        let raw = user.coracle(["inspect", "--raw", &place]).run().succeeds().stdout;
        assert_eq!(Digest::of(raw.as_bytes()).to_string(), index, "{place}");
    }
    let (_, top) = index_of(&out.join("gzip"));
    assert_ne!(top["digest"].as_str(), Some(index.as_str()));
    let files = Layer::read(fs::File::open(out.join("files.tar")).unwrap());
    for (platform, image) in ["amd64", "arm64"].iter().zip(both(&out.join("gzip"), top["digest"].as_str().unwrap())) {
        let id = image.text("id");
        assert!(id.ends_with(&format!("{platform}\n")), "{id}");
        files.has_file(&format!("linux_{platform}/id"), &id);
        assert_eq!(said(&format!("local/linux_{platform}/id")), id);
        for layer in image.manifest()["layers"].as_array().unwrap() {
            assert!(layer["mediaType"].as_str().unwrap().ends_with("gzip"), "{layer}");
        }
    }
}

#[test]
fn all_platforms_with_a_bundle_a_cache_and_a_push() {
    let registry = Registry::new();
    let images = ["amd64", "arm64"].map(|architecture| {
        registry.image("base", architecture, &format!("linux/{architecture}"), architecture.as_bytes())
    });
    registry.index("base", "1", &images);
    let maker = User::new();
    let text = format!("FROM {}\nARG TARGETARCH\nCOPY f /$TARGETARCH\n", registry.name("base:1"));
    let made = Project::of(&maker).file("f", "f").dockerfile(&text);
    let bundle = maker.new_dir().join("bundle.tar");
    let args = ["bundle", "create", "--platform=linux/amd64,linux/arm64", "-o", bundle.to_str().unwrap()];
    maker.coracle(args).arg(made.dir()).run().succeeds();
    let there = User::new();
    let copied = there.new_dir().join("bundle.tar");
    there.tool(&format!("cp {} {}", bundle.display(), copied.display())).run().succeeds();
    registry.forget();
    let cache = there.new_dir().join("cache");
    let built = Project::of(&there).file("f", "f").dockerfile(&text).arg("--all-platforms");
    let built = built.arg(&format!("--bundle={}", copied.display()));
    let first = built.clone().arg(&format!("--cache-to=type=local,dest={}", cache.display()));
    let first = first.arg("--annotation=index:from=bundle").arg("--compression=zstd").call().run().succeeds();
    assert!(registry.state().log.is_empty(), "{:?}", registry.state().log);
    let [amd, arm] = both(&there.layout(), first.stdout.trim());
    assert_eq!((amd.layer_count(), arm.layer_count()), (2, 2));
    assert_ne!(amd.manifest()["layers"], arm.manifest()["layers"]);
    let name = registry.name("web:1");
    let pushed = built.arg(&format!("--output=type=registry,name={name}")).call().run().succeeds();
    assert_eq!(pushed.count("CACHED"), 2, "{pushed}");
    let raw = there.coracle(["inspect", "--raw", &format!("docker://{name}")]).run().succeeds();
    assert_eq!(Digest::of(raw.stdout.as_bytes()).to_string(), pushed.stdout.trim());
}
