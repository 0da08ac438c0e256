//! What an image looks like outside: annotations at every level, the form of its manifest, how its layers are compressed. skopeo sees the
//! same as we do.

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::registry::Registry;
use support::{Image, Outcome, Project, User, require_tool};

const OCI: &str = "application/vnd.oci.image.";
const DOCKER: &str = "application/vnd.docker.";

fn build(project: &Project, words: &[&str]) -> Outcome {
    let mut all = vec!["build", "--progress", "plain", "--retry-delay", "10ms"];
    all.extend(words);
    let dir = project.dir().display().to_string();
    all.push(&dir);
    project.user().coracle(&all).run()
}

fn project() -> Project {
    Project::new().file("page", "hello").dockerfile("FROM busybox\nHEALTHCHECK CMD true\nCOPY page /site/\n")
}

fn raw(user: &User, name: &str) -> Value {
    let text = user.coracle(["inspect", "--raw", name]).run().succeeds().stdout;
    serde_json::from_str(&text).expect("JSON")
}

fn kinds(manifest: &Value) -> Vec<&str> {
    let layers = manifest["layers"].as_array().expect("layers");
    layers.iter().map(|layer| layer["mediaType"].as_str().expect("a type")).collect()
}

fn index_of(layout: &Path) -> Value {
    serde_json::from_slice(&fs::read(layout.join("index.json")).expect("an index")).expect("JSON")
}

fn document(layout: &Path, digest: &Value) -> Value {
    let digest = digest.as_str().expect("a digest").replace(':', "/");
    serde_json::from_slice(&fs::read(layout.join("blobs").join(digest)).expect("a blob")).expect("JSON")
}

#[test]
fn annotations_go_into_the_manifest_and_to_what_leads_to_it() {
    let (project, out) = (project(), User::new().new_dir());
    let output = format!("type=oci,dest={},tar=false,annotation.own=1", out.join("layout").display());
    let words = [
        "-t",
        "localhost/web:1",
        "--annotation",
        "org.opencontainers.image.title=Web",
        "--annotation",
        "manifest,manifest-descriptor:a.b=c=d",
        "--output",
        &output,
    ];
    build(&project, &words).succeeds();
    let manifest = raw(project.user(), "localhost/web:1");
    assert_eq!(manifest["annotations"], json!({"a.b": "c=d", "org.opencontainers.image.title": "Web"}));
    let stored = index_of(&project.user().layout());
    let entries = stored["manifests"].as_array().expect("entries");
    assert!(entries.iter().any(|entry| entry["annotations"]["a.b"] == "c=d"), "{stored}");
    // The output has one more of its own.
    let index = index_of(&out.join("layout"));
    assert_eq!(index["manifests"][0]["annotations"]["a.b"], "c=d");
    let other = document(&out.join("layout"), &index["manifests"][0]["digest"]);
    assert_eq!(other["annotations"]["own"], "1");
    assert_eq!(other["annotations"]["a.b"], "c=d");
}

#[test]
fn an_index_has_annotations_too() {
    let project = Project::new().file("page", "hello").dockerfile("FROM scratch\nCOPY page /site/\n");
    let out = project.user().new_dir().join("layout");
    let output = format!("type=oci,dest={},tar=false", out.display());
    let words = [
        "--platform",
        "linux/amd64,linux/arm64",
        "--annotation",
        "index,index-descriptor:x=1",
        "--annotation",
        "manifest-descriptor[linux/arm64]:arm=yes",
        "--annotation",
        "manifest[linux/amd64]:amd=yes",
        "-t",
        "localhost/web:1",
        "-o",
        &output,
    ];
    build(&project, &words).succeeds();
    let layout = index_of(&out);
    assert_eq!(layout["manifests"][0]["annotations"]["x"], "1", "{layout}");
    let index = document(&out, &layout["manifests"][0]["digest"]);
    assert_eq!(index["annotations"], json!({"x": "1"}));
    assert_eq!(index["manifests"][0]["annotations"], Value::Null);
    assert_eq!(index["manifests"][1]["annotations"], json!({"arm": "yes"}));
    assert_eq!(document(&out, &index["manifests"][0]["digest"])["annotations"], json!({"amd": "yes"}));
    assert_eq!(document(&out, &index["manifests"][1]["digest"])["annotations"], Value::Null);
    // Of one image there is no index.
    build(&project, &["--annotation", "index:x=1"]).fails(2).stderr_has("for several platforms only");
}

#[test]
fn docker_has_a_form_of_its_own() {
    let (registry, project) = (Registry::new(), project());
    let name = registry.name("web:1");
    let digest = build(&project, &["--format", "docker", "--push", "-t", &name]).succeeds().stdout.trim().to_owned();
    let manifest = raw(project.user(), &name);
    assert_eq!(manifest["mediaType"], format!("{DOCKER}distribution.manifest.v2+json"));
    assert_eq!(manifest["config"]["mediaType"], format!("{DOCKER}container.image.v1+json"));
    assert!(kinds(&manifest).iter().all(|kind| *kind == format!("{DOCKER}image.rootfs.diff.tar.gzip")), "{manifest}");
    let (kind, bytes) = registry.state().manifests[&("web".to_owned(), "1".to_owned())].clone();
    assert_eq!(kind, manifest["mediaType"]);
    assert_eq!(serde_json::from_slice::<Value>(&bytes).expect("JSON"), manifest);
    let config = project.user().coracle(["inspect", "--format", "{{json .Config.Healthcheck}}", &name]).run();
    config.succeeds().stdout_has("[\"CMD-SHELL\",\"true\"]");
    if require_tool("skopeo") {
        let line = format!("skopeo inspect --tls-verify=false --raw docker://{name}");
        let seen: Value = serde_json::from_str(&project.user().tool(&line).run().succeeds().stdout).expect("JSON");
        assert_eq!(seen, manifest);
        let line = format!("skopeo inspect --no-tags --tls-verify=false docker://{name}");
        project.user().tool(&line).run().succeeds().stdout_has(&digest);
    }
    // What is built upon it is of OCI's form again, in all its parts.
    let upon = Project::of(project.user()).dockerfile(&format!("FROM {name}\nRUN echo a >/a\n")).build().succeeds();
    assert_eq!(upon.manifest()["mediaType"], format!("{OCI}manifest.v1+json"));
    assert!(kinds(upon.manifest()).iter().all(|kind| kind.starts_with(OCI)), "{}", upon.manifest());
}

#[test]
fn layers_of_the_base_are_compressed_anew_where_that_is_forced() {
    let project = project();
    let plain = build(&project, &["-t", "localhost/a:1", "--compression", "zstd:5"]).succeeds();
    assert_eq!(kinds(&raw(project.user(), "localhost/a:1")).len(), 2);
    let gzip = kinds(&raw(project.user(), "localhost/a:1"))[0].to_owned();
    let words = ["-t", "localhost/b:1", "--compression", "zstd:5", "--force-compression"];
    let forced = build(&project, &words).succeeds();
    assert_ne!(plain.stdout, forced.stdout);
    let manifest = raw(project.user(), "localhost/b:1");
    assert_eq!(kinds(&manifest), [format!("{OCI}layer.v1.tar+zstd"), format!("{OCI}layer.v1.tar+zstd")]);
    assert_eq!(gzip, format!("{OCI}layer.v1.tar+gzip"));
    assert_eq!(build(&project, &words).succeeds().stdout, forced.stdout, "the same again");
    let image = Image::named(&project.user().layout(), "localhost/b:1", None);
    image.has_file("site/page", "hello").has_dir("bin");
    // What is built upon it finds its files.
    let upon = Project::of(project.user()).dockerfile("FROM localhost/b:1\nRUN cat /site/page >/a\n").build();
    assert_eq!(upon.succeeds().text("a"), "hello");
}

#[test]
fn an_output_may_have_layers_of_its_own_kind() {
    let project = project();
    let out = project.user().new_dir();
    let (first, second) = (out.join("zstd"), out.join("none"));
    let outputs = [
        format!("type=oci,dest={},tar=false,compression=zstd,compression-level=9", first.display()),
        format!("type=oci,dest={},tar=false,compression=uncompressed,force-compression=true", second.display()),
    ];
    build(&project, &["-t", "localhost/web:1", "-o", &outputs[0], "-o", &outputs[1]]).succeeds();
    let layer = |kind: &str| format!("{OCI}layer.v1.tar{kind}");
    assert_eq!(kinds(&raw(project.user(), "localhost/web:1")), [layer("+gzip"), layer("+gzip")]);
    let (zstd, none) = (Image::only(&first), Image::only(&second));
    assert_eq!(kinds(zstd.manifest()), [layer("+gzip"), layer("+zstd")]);
    assert_eq!(kinds(none.manifest()), [layer(""), layer("")]);
    assert_eq!(zstd.document(), none.document(), "the same configuration");
    // An image is one, wherever it goes.
    let words = ["-t", "localhost/web:2", "-o", "type=image,name=localhost/web:3,compression=zstd"];
    build(&project, &words).succeeds();
    assert_eq!(kinds(&raw(project.user(), "localhost/web:2")), [layer("+gzip"), layer("+zstd")]);
    let words = ["--compression=gzip", "-o", "type=image,name=localhost/web:3,compression=zstd"];
    build(&project, &words).fails(2).stderr_has("two values of compression");
}

#[test]
fn an_output_that_is_compressed_is_what_the_flag_makes() {
    let project = project();
    let out = project.user().new_dir().join("out");
    let output = format!("type=oci,dest={},tar=false,compression=zstd", out.display());
    build(&project, &["-t", "localhost/a:1", "-o", &output]).succeeds();
    build(&project, &["-t", "localhost/b:1", "--compression=zstd"]).succeeds();
    let (output, flag) = (Image::only(&out), Image::named(&project.user().layout(), "localhost/b:1", None));
    assert_eq!(output.manifest(), flag.manifest());
}

#[test]
fn what_docker_has_no_word_for_is_refused_before_anything_is_done() {
    let project = project();
    for (words, says) in [
        (&["--format=docker", "--compression=zstd"][..], "docker's form has no layers with zstd"),
        (&["--format=docker", "--annotation=a=b"], "docker's form has no annotations"),
        (&["--annotation=level:a=b"], "there is no level \"level\""),
        (&["--compression-level=30"], "\"gzip:30\" is no compression"),
        (&["-o", "type=docker,dest=a.tar,annotation.a=b"], "means nothing for type=docker"),
    ] {
        build(&project, words).fails(2).stderr_has(says).stderr_has_no("DONE");
    }
}

#[test]
fn a_push_makes_it_look_as_it_is_asked_for() {
    let (registry, project) = (Registry::new(), project());
    build(&project, &["-t", "localhost/web:1"]).succeeds();
    let (docker, zstd) = (registry.name("docker:1"), registry.name("zstd:1"));
    let push = |words: &[&str]| project.user().coracle([&["push", "localhost/web:1"][..], words].concat()).run();
    let digest = push(&["--format", "v2s2", &format!("docker://{docker}")]).succeeds().stdout;
    let manifest = raw(project.user(), &format!("docker://{docker}"));
    assert_eq!(manifest["mediaType"], format!("{DOCKER}distribution.manifest.v2+json"));
    assert!(kinds(&manifest).iter().all(|kind| kind.starts_with(DOCKER)), "{manifest}");
    push(&["--compression-format", "zstd", "--compression-level", "7", &format!("docker://{zstd}")]).succeeds();
    let other = raw(project.user(), &format!("docker://{zstd}"));
    assert!(kinds(&other).iter().all(|kind| *kind == format!("{OCI}layer.v1.tar+zstd")), "{other}");
    assert_eq!(other["config"]["digest"], manifest["config"]["digest"]);
    // What is in the store stays as it is, and so does what is pushed from it.
    assert_eq!(kinds(&raw(project.user(), "localhost/web:1")), vec![format!("{OCI}layer.v1.tar+gzip"); 2]);
    let again = push(&["--format", "docker", &format!("docker://{docker}")]).succeeds().stdout;
    assert_eq!(digest, again);
    push(&["--format", "docker", "--compression-format", "zstd", &docker]).fails(2).stderr_has("no layers with zstd");
}

#[test]
fn a_push_of_an_index_makes_all_its_images_look_so() {
    let (registry, user) = (Registry::new(), User::new());
    let content: Vec<u8> = b"text ".repeat(20_000);
    let images = ["linux/amd64", "linux/arm64"].map(|platform| registry.image("multi", "x", platform, &content));
    let old = registry.index("multi", "1", &images);
    let name = registry.name("multi:1");
    user.coracle(["pull", "--all", &name]).run().succeeds();
    let push = |words: &[&str]| user.coracle([&["push", "--all", &name][..], words].concat()).run();
    let all = |tag: &str| -> (Value, Vec<Value>) {
        let state = registry.state();
        let document = |name: &str| -> Value {
            serde_json::from_slice(&state.manifests[&("new".to_owned(), name.to_owned())].1).expect("JSON")
        };
        let index = document(tag);
        let members = index["manifests"].as_array().expect("a list").iter();
        let members = members.map(|member| document(member["digest"].as_str().expect("a digest"))).collect();
        (index, members)
    };
    let level = ["--compression-format=zstd", "--compression-level=7", "--force-compression"];
    let digest = push(&[&level[..], &[&registry.name("new:zstd")]].concat()).succeeds().stdout;
    let (index, members) = all("zstd");
    assert_eq!(members.len(), 2);
    assert!(members.iter().all(|image| kinds(image) == [format!("{OCI}layer.v1.tar+zstd")]), "{members:?}");
    assert_eq!(index["manifests"][1]["platform"]["architecture"], "arm64");
    let other = User::new();
    let pulled = other.coracle(["pull", "--all", &registry.name("new:zstd")]).run().succeeds();
    assert_eq!(pulled.stdout, digest);
    // Docker's form, with gzip.
    push(&["--compression-format=gzip", "--format=docker", &registry.name("new:docker")]).succeeds();
    let (index, members) = all("docker");
    assert_eq!(index["mediaType"], format!("{DOCKER}distribution.manifest.list.v2+json"));
    assert!(members.iter().all(|image| kinds(image) == [format!("{DOCKER}image.rootfs.diff.tar.gzip")]), "{members:?}");
    // What is so already stays what it is.
    let same = push(&["--compression-format=none", &registry.name("new:same")]).succeeds();
    assert_eq!(same.stdout.trim(), old["digest"].as_str().expect("a digest"));
}

#[test]
fn an_image_that_an_attestation_is_about_is_not_changed() {
    let (registry, user) = (Registry::new(), User::new());
    let image = registry.image("multi", "x", "linux/amd64", b"text");
    let kind = format!("{OCI}manifest.v1+json");
    let config =
        registry.blob("multi", &format!("{OCI}config.v1+json"), br#"{"architecture":"unknown","os":"unknown"}"#);
    let layer = registry.blob("multi", "application/vnd.in-toto+json", b"{}");
    let attestation = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]});
    let mut about = registry.manifest("multi", "y", &kind, &attestation);
    about["platform"] = serde_json::json!({"os": "unknown", "architecture": "unknown"});
    about["annotations"] = serde_json::json!({"vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image["digest"]});
    registry.index("multi", "1", &[image, about]);
    let name = registry.name("multi:1");
    user.coracle(["pull", "--all", &name]).run().succeeds();
    let push = |form: &str, to: &str| {
        user.coracle(["push", "--all", &format!("--compression-format={form}"), &name, &registry.name(to)]).run()
    };
    push("zstd", "new:1").fails_cleanly().stderr_has("would not be right for the changed one");
    push("none", "new:2").succeeds();
}
