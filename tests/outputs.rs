//! Where images go, and who can read them.

mod support;

use std::fs;
use std::process::Command;

use serde_json::Value;
use support::{Image, Layer, Project, Tree, User, require_tool};

const DOCKERFILE: &str = "
    FROM busybox
    RUN mkdir /d && echo x >/d/f && chown 1:2 /d/f && ln /d/f /d/g && ln -s f /d/l
    CMD [\"/bin/cat\", \"/d/f\"]
";

fn project() -> Project {
    Project::new().dockerfile(DOCKERFILE)
}

/// Builds with `--output`, and returns the image that the build tagged in the store.
fn build_to(project: &Project, output: &str) -> Image {
    project.clone().arg("--output").arg(output).build().succeeds();
    project.image()
}

#[test]
fn a_layout_is_written_and_is_the_stores_image() {
    let project = project();
    let dest = project.user().new_dir().join("out");
    let image = build_to(&project, &format!("type=oci,dest={},tar=false", dest.display()));
    let written = Image::only(&dest);
    assert_eq!(written.digest(), image.digest());
    written.has_owner("d/f", "1:2", 0o644).has_owner("d/g", "1:2", 0o644).has_link("d/l", "f");
}

#[test]
fn an_archive_is_a_layout_in_a_tar() {
    let project = project();
    let dest = project.user().new_dir().join("out.tar");
    let image = build_to(&project, &format!("type=oci,dest={}", dest.display()));
    let unpacked = project.user().new_dir();
    tar::Archive::new(fs::File::open(&dest).unwrap()).unpack(&unpacked).unwrap();
    assert_eq!(Image::only(&unpacked).digest(), image.digest());
}

#[test]
fn an_archive_can_go_to_standard_output() {
    let project = project().arg("--output=type=oci,dest=-");
    let built = project.build();
    assert!(
        built.stdout.contains("oci-layout") && built.stdout.contains("index.json"),
        "no archive on standard output"
    );
    built.succeeds();
}

#[test]
fn a_folder_gets_the_files() {
    let project = project();
    let dest = project.user().new_dir().join("out");
    build_to(&project, &format!("type=local,dest={}", dest.display()));
    assert_eq!(fs::read_to_string(dest.join("d/f")).unwrap(), "x\n");
    assert_eq!(fs::read_link(dest.join("d/l")).unwrap().to_str(), Some("f"));
}

#[test]
fn a_file_does_not_replace_a_folder_of_the_user() {
    let project = project();
    let dest = project.user().new_dir().join("out");
    fs::create_dir_all(dest.join("d/f/precious")).unwrap();
    support::set_mode(&dest, 0o777);
    let failed = project.clone().arg("--output").arg(&format!("type=local,dest={}", dest.display())).build();
    failed.fails_cleanly().stderr_has("d/f is a folder");
    assert!(dest.join("d/f/precious").is_dir() && !dest.join("etc").exists(), "nothing was written");
}

#[test]
fn a_tar_gets_the_files_with_their_owners() {
    let project = project();
    let dest = project.user().new_dir().join("out.tar");
    build_to(&project, &format!("type=tar,dest={}", dest.display()));
    let mut tree = Tree::default();
    tree.apply(&Layer::read(fs::File::open(dest).unwrap()));
    assert_eq!(tree.get("d/f").unwrap().owner, "1:2");
    build_to(&project, "type=tar,dest=/dev/null");
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

// Rule 51.
#[test]
fn compression_changes_the_blob_and_not_the_layer() {
    let project = project();
    let gzip = project.build().succeeds();
    let dest = project.user().new_dir().join("out");
    let output = format!("type=oci,dest={},tar=false", dest.display());
    project.clone().arg("--compression").arg("zstd").arg("--output").arg(&output).build().succeeds();
    let zstd = Image::only(&dest);
    assert_eq!(zstd.document()["rootfs"], gzip.document()["rootfs"]);
    let media_type = |image: &Image| image.manifest()["layers"][1]["mediaType"].as_str().unwrap().to_string();
    assert_eq!(media_type(&gzip), "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(media_type(&zstd), "application/vnd.oci.image.layer.v1.tar+zstd");
}

#[test]
fn the_layers_of_the_base_are_not_made_anew() {
    let image = project().build().succeeds();
    let base = Image::only(&support::base::busybox());
    assert_eq!(image.manifest()["layers"][0]["digest"], base.manifest()["layers"][0]["digest"]);
    assert_eq!(image.history()[..2], *base.history());
}

#[test]
fn layers_are_written_in_one_way() {
    let image = Project::new()
        .dockerfile("FROM busybox\nRUN mkdir -p /a-b /a/b /a.c && touch /a/z /a/b/x /a-b/y && ln /a/z /a/b/link")
        .build()
        .succeeds();
    image.top_layer().is_canonical().has_no("bin");
}

#[test]
fn source_date_epoch_makes_two_builds_equal() {
    let digest = || {
        let project =
            Project::new().file("f", "x").dockerfile("FROM busybox\nCOPY f /\nRUN date >/dev/null && echo y >/g");
        let built = project.built(project.call().env("SOURCE_DATE_EPOCH", "1000000000").run());
        let image = built.succeeds();
        assert_eq!(image.document()["created"], "2001-09-09T01:46:40Z");
        assert_eq!(image.node("g").mtime, 1_000_000_000);
        image.digest().to_string()
    };
    assert_eq!(digest(), digest());
}

#[test]
fn the_digest_can_be_written_to_files() {
    let project = project();
    let dir = project.user().new_dir();
    let (id, metadata) = (dir.join("id"), dir.join("metadata"));
    let mut call = project.call().arg("--iidfile").arg(&id).arg("--metadata-file").arg(&metadata);
    let keys = ["key.a", "key.b", "key.c", "key.d", "key.e", "key.f"];
    for key in keys.iter().rev() {
        call = call.arg("--annotation").arg(format!("manifest-descriptor:{key}=v"));
    }
    let built = call.run();
    let image = project.built(built).succeeds();
    assert!(fs::read_to_string(id).unwrap().trim().starts_with("sha256:"));
    let text = fs::read_to_string(metadata).unwrap();
    let places: Vec<_> = keys.iter().map(|key| text.find(key).expect("the annotation")).collect();
    assert!(places.is_sorted(), "the same bytes each time: {text}");
    let metadata: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(metadata["containerimage.digest"], image.digest());
}

#[test]
fn push_writes_a_layout_and_archives() {
    let project = project();
    let image = project.build().succeeds();
    let dir = project.user().new_dir();
    let push = |kind: &str, name: &str| {
        let dest = dir.join(name);
        project.user().coracle(["push", "test:latest", &format!("{kind}:{}:v1", dest.display())]).run().succeeds();
        dest
    };
    assert_eq!(Image::only(&push("oci", "layout")).digest(), image.digest());
    push("oci-archive", "oci.tar");
    let docker = push("docker-archive", "docker.tar");
    let other = User::new();
    other.coracle(["pull", &format!("docker-archive:{}", docker.display())]).run().succeeds();
}

#[test]
fn skopeo_and_umoci_accept_the_store() {
    let project = project();
    let image = project.build().succeeds();
    let names: Value = serde_json::from_slice(&fs::read(project.user().layout().join("index.json")).unwrap()).unwrap();
    let name = names["manifests"].as_array().unwrap().iter().find(|entry| entry["digest"] == image.digest()).unwrap();
    let name = name["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap();
    let layout = project.user().layout();
    if require_tool("skopeo") {
        let call = project.user().tool(&format!("skopeo inspect oci:{}:{name}", layout.display()));
        call.run().succeeds().stdout_has("\"Architecture\": \"amd64\"");
    }
    if require_tool("umoci") {
        // umoci wants names without a colon: give it the image in a layout of its own.
        let dir = project.user().new_dir();
        let copy = dir.join("copy");
        project.user().coracle(["push", "test:latest", &format!("oci:{}:v1", copy.display())]).run().succeeds();
        let bundle = dir.join("bundle");
        let line = format!("umoci unpack --rootless --image {}:v1 {}", copy.display(), bundle.display());
        project.user().tool(&line).run().succeeds();
        assert_eq!(fs::read_to_string(bundle.join("rootfs/d/f")).unwrap(), "x\n");
    }
}

#[test]
fn canon_reads_what_is_written() {
    let project = project();
    let dest = project.user().new_dir().join("out");
    build_to(&project, &format!("type=oci,dest={},tar=false", dest.display()));
    let canon = Command::new(support::root().join("tests/environments/canon")).arg(&dest).output().unwrap();
    let listing = String::from_utf8(canon.stdout).unwrap();
    assert!(listing.contains("/d/g\tf\t0644\t1:2"), "{listing}");
}

#[test]
fn images_are_listed_tagged_and_removed() {
    let user = User::with_busybox();
    user.coracle(["tag", "busybox", "mine:1"]).run().succeeds();
    user.coracle(["images"]).run().succeeds().stdout_has("mine").stdout_has("busybox");
    user.coracle(["inspect", "mine:1"]).run().succeeds().stdout_has("fixture.stand-in");
    user.coracle(["history", "mine:1"]).run().succeeds().stdout_has("fixture layer");
    user.coracle(["rmi", "mine:1"]).run().succeeds();
    user.coracle(["inspect", "mine:1"]).run().fails_cleanly().stderr_has("mine:1");
}

#[test]
fn prune_keeps_what_is_tagged() {
    let project = project();
    project.build().succeeds();
    project.user().coracle(["prune"]).run().succeeds();
    project.image().has_file("d/f", "x\n");
    project.build().succeeds().has_file("d/f", "x\n");
}
