//! What `coracle build` leaves: files for several platforms in one folder, an exact folder, an entry in a list, or nothing at all.

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::registry::Registry;
use support::{Image, Project, User, set_mode};

const BOTH: &str = "--platform=linux/amd64,linux/arm64";

/// A file with the name of its platform.
fn by_platform(more: &str) -> Project {
    let file = format!("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /bin/tool-$TARGETARCH\n{more}");
    Project::new().file("amd64", "a").file("arm64", "b").dockerfile(&file)
}

fn listed(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn files_for_several_platforms_can_go_into_one_folder() {
    let project = by_platform("");
    let dir = project.user().new_dir();
    let build = |project: &Project, kind: &str, name: &str, split: &str, platform: &str| {
        let output = format!("--output=type={kind},dest={},{split}", dir.join(name).display());
        project.clone().arg(&output).arg(platform).call().run()
    };
    build(&project, "local", "one", "platform-split=false", BOTH).succeeds();
    assert_eq!(listed(&dir.join("one/bin")), ["tool-amd64", "tool-arm64"]);
    build(&project, "tar", "one.tar", "platform-split=false", BOTH).succeeds();
    let layer = support::Layer::read(fs::File::open(dir.join("one.tar")).unwrap());
    assert_eq!(layer.paths(), ["bin", "bin/tool-amd64", "bin/tool-arm64"]);
    // Of one platform, too, if that is wanted.
    build(&project, "local", "split", "platform-split=true", "--platform=linux/amd64").succeeds();
    assert_eq!(listed(&dir.join("split")), ["linux_amd64"]);
    let same = by_platform("COPY $TARGETARCH /same");
    for (kind, name) in [("local", "clash"), ("tar", "clash.tar")] {
        let failed = build(&same, kind, name, "platform-split=false", BOTH).fails_cleanly();
        failed.stderr_has("/same is in the images for two platforms");
    }
    assert!(!dir.join("clash.tar").exists() && listed(&dir.join("clash")).is_empty(), "nothing was written");
}

#[test]
fn a_folder_can_be_made_exactly_what_the_image_has() {
    let project = Project::new().file("f", "new").dockerfile("FROM scratch\nCOPY f /d/f\nCOPY f /g");
    let here = project.user().new_dir();
    let out = here.join("out");
    let build = |dest: &str, mode: &str| {
        let output = format!("--output=type=local,dest={dest},mode={mode}");
        project.clone().arg(&output).call().within(&here).run()
    };
    build("out", "copy").succeeds();
    fs::remove_file(out.join("g")).unwrap();
    for dir in ["d/old/deep", "g", "gone"] {
        fs::create_dir_all(out.join(dir)).unwrap();
    }
    fs::create_dir(here.join("precious")).unwrap();
    fs::write(here.join("precious/file"), "x").unwrap();
    fs::write(out.join("gone/file"), "x").unwrap();
    std::os::unix::fs::symlink("../precious", out.join("link")).unwrap();
    for dir in ["d/old", "d/old/deep", "g", "gone"] {
        set_mode(&out.join(dir), 0o777);
    }
    build("out", "copy").fails_cleanly().stderr_has("g is a folder");
    build("out", "delete").succeeds();
    assert_eq!((listed(&out), listed(&out.join("d"))), (vec!["d".into(), "g".into()], vec!["f".to_string()]));
    assert_eq!(fs::read_to_string(out.join("d/f")).unwrap(), "new");
    assert!(here.join("precious/file").exists(), "what a link leads to is not in the folder");
    // Nothing that lies elsewhere is ever removed.
    let elsewhere = project.user().new_dir();
    fs::write(elsewhere.join("kept"), "x").unwrap();
    std::os::unix::fs::symlink(&elsewhere, here.join("away")).unwrap();
    for dest in [".", "..", "out/../..", "away", &elsewhere.display().to_string()] {
        build(dest, "delete").fails(2).stderr_has("below the working directory");
    }
    assert!(elsewhere.join("kept").exists() && here.join("precious/file").exists());
}

#[test]
fn cacheonly_makes_results_and_no_image() {
    let project = Project::new().dockerfile("FROM busybox\nRUN echo x >/x");
    let only = project.clone().arg("--output=type=cacheonly");
    only.call().run().succeeds().stderr_has("gets none of its names");
    let images = project.user().coracle(["images"]).run().succeeds();
    assert!(!images.stdout.contains("test:latest"), "{images}");
    project.build().cached(1).succeeds().has_file("x", "x\n");
    only.arg("--output=type=oci,dest=a").build().fails(2).stderr_has("leave out the other outputs");
}

#[test]
fn a_platform_can_be_said_in_parts() {
    let project = Project::new().dockerfile("FROM scratch\nLABEL a=1");
    let image = project.clone().arg("--arch=arm").arg("--variant=v6").arg("--os-version=1.2").build().succeeds();
    let said = |key: &str| image.document()[key].clone();
    assert_eq!((said("os"), said("architecture"), said("variant")), ("linux".into(), "arm".into(), "v6".into()));
    assert_eq!(said("os.version"), "1.2");
    project.clone().arg("--arch=arm64").arg("--platform=linux/amd64").build().fails(2);
    let registry = Registry::new();
    let members = ["linux/amd64", "linux/arm64"].map(|platform| registry.image("a", platform, platform, b"x"));
    registry.index("a", "1", &members);
    let user = User::new();
    let pull = |flags: &[&str]| {
        let name = registry.name("a:1");
        let args = ["pull", "--tls-verify=false"].into_iter().chain(flags.iter().copied()).chain([name.as_str()]);
        user.coracle(args).run()
    };
    pull(&["--arch=arm64"]).succeeds();
    let asked =
        |member: &Value| registry.seen("GET", &format!("manifests/{}", member["digest"].as_str().unwrap())).len();
    assert_eq!(members.each_ref().map(asked), [0, 1]);
    pull(&["--arch=riscv64"]).fails_cleanly().stderr_has("linux/arm64");
    pull(&["--arch=arm64", "--all"]).fails(2);
}

/// Returns platform and digest of each image of a list.
fn members(user: &User, list: &str) -> Vec<(String, String)> {
    let shown = user.coracle(["manifest", "inspect", list]).run().succeeds();
    let list: Value = serde_json::from_str(&shown.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = list["manifests"].as_array().unwrap().iter();
    entries.map(|entry| (text(&entry["platform"]["architecture"]), text(&entry["digest"]))).collect()
}

#[test]
fn a_list_gets_what_is_built_in_place_of_what_was_built_before() {
    let project = Project::new().file("f", "1").dockerfile("FROM scratch\nCOPY f /");
    let with = |arch: &str| project.clone().arg("--manifest=all:1").arg(&format!("--arch={arch}"));
    // The crate that checks a layout knows no indexes in it.
    let digest = |project: &Project| project.call().run().succeeds().stdout.trim().to_owned();
    let (amd, arm) = (digest(&with("amd64")), digest(&with("arm64")));
    assert_eq!(members(project.user(), "all:1"), [("amd64".into(), amd.clone()), ("arm64".into(), arm.clone())]);
    // Again for one of them.
    let project = project.clone().file("f", "2");
    let new = digest(&project.clone().arg("--manifest=all:1").arg("--arch=amd64"));
    assert_ne!(new, amd);
    let mut found = members(project.user(), "all:1");
    found.sort();
    assert_eq!(found, [("amd64".into(), new), ("arm64".into(), arm)]);
    // All at once.
    let index = project.clone().arg("--manifest=new:1").arg(BOTH).call().run().succeeds();
    let both = Image::index(&project.user().layout(), index.stdout.trim());
    let digests: Vec<String> = members(project.user(), "new:1").into_iter().map(|(_, digest)| digest).collect();
    assert_eq!(digests, both.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect::<Vec<_>>());
    // Neither an image nor the name of this one.
    project.user().coracle(["tag", "test:latest", "image:1"]).run().succeeds();
    digest(&project.clone().named("image:2").arg("--arch=amd64"));
    project.clone().arg("--manifest=image:2").build().fails_cleanly().stderr_has("image:2");
    project.clone().arg("--manifest=test:latest").build().fails(2).stderr_has("another name");
}

#[test]
fn what_is_so_anyway_can_be_said_and_nothing_else() {
    let project = Project::new().dockerfile("FROM scratch\nLABEL a=1");
    let dir = project.user().new_dir();
    let raw = format!("--iidfile-raw={}", dir.join("id").display());
    let image = project.clone().arg("--layers").arg("--rm=true").arg("--force-rm=false").arg(&raw).build().succeeds();
    assert_eq!(format!("sha256:{}", fs::read_to_string(dir.join("id")).unwrap()), image.digest());
    project.clone().arg("--layers=false").build().fails(2).stderr_has("--squash");
    project.clone().arg("--rm=false").build().fails(2).stderr_has("--on-failure");
}
