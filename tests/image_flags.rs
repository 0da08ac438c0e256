//! Flags that say what the image says about itself, which times it has, and how many layers.

mod support;

use std::fs;

use serde_json::Value;
use support::registry::Registry;
use support::{Image, Project, User, base, require_tool, root};

const EPOCH: u64 = 1_000_000_000;

/// A file of now in a RUN, and one of long ago in a COPY.
fn timed() -> Project {
    Project::new()
        .file("f", "x")
        .dockerfile("FROM busybox\nCOPY f /\nRUN echo y >/g && touch -d '1999-01-01 00:00:00' /old")
}

#[test]
fn source_date_epoch_is_a_flag_too_and_counts_more_than_all_else() {
    let project = timed();
    let outcome = project
        .clone()
        .arg("--source-date-epoch=1000000000")
        .arg("--build-arg=SOURCE_DATE_EPOCH=5")
        .call()
        .env("SOURCE_DATE_EPOCH", "7")
        .run();
    let image = project.built(outcome).succeeds();
    assert_eq!(image.document()["created"], "2001-09-09T01:46:40Z");
    assert_eq!(image.history().last().unwrap()["created"], "2001-09-09T01:46:40Z");
    assert_eq!((image.node("g").mtime, image.node("f").mtime), (EPOCH, EPOCH));
    assert!(image.node("old").mtime < EPOCH, "no file becomes younger");
    // The same as the variable does.
    let variable = project.built(project.call().env("SOURCE_DATE_EPOCH", "1000000000").run()).succeeds();
    assert_eq!(variable.digest(), image.digest());
}

#[test]
fn without_rewriting_the_epoch_is_for_the_image_alone() {
    let project = timed().arg("--source-date-epoch=1000000000");
    let image = project.clone().arg("--rewrite-timestamp=false").build().succeeds();
    assert_eq!(image.document()["created"], "2001-09-09T01:46:40Z");
    assert!(image.node("g").mtime > EPOCH);
    let again = project.clone().arg("--rewrite-timestamp=true").build().succeeds();
    assert_eq!(again.node("g").mtime, EPOCH);
    let dest = project.user().new_dir().join("out.tar");
    let output = format!("--output=type=oci,dest={},rewrite-timestamp=false", dest.display());
    let of_output = project.clone().arg(&output).build().succeeds();
    assert_eq!(of_output.digest(), image.digest(), "an output says it for all");
    project.clone().arg(&output).arg("--rewrite-timestamp").build().fails(2).stderr_has("true and false");
    let plain = timed();
    let outcome = plain.clone().arg("--rewrite-timestamp").build().stderr_has("no SOURCE_DATE_EPOCH");
    outcome.succeeds();
    plain.clone().arg("--timestamp=0").arg("--rewrite-timestamp=false").build().fails(2);
    plain.arg("--timestamp=0").arg("--source-date-epoch=0").build().fails(2);
}

#[test]
fn the_files_of_an_output_follow_the_epoch() {
    let project = timed().arg("--source-date-epoch=1000000000");
    let dir = project.user().new_dir();
    let (tar, out) = (dir.join("out.tar"), dir.join("out"));
    let outputs = [format!("--output=type=tar,dest={}", tar.display()), format!("--output={}", out.display())];
    project.clone().arg(&outputs[0]).arg(&outputs[1]).build().succeeds();
    let mtime = |path: &str| {
        let time = fs::metadata(out.join(path)).unwrap().modified().unwrap();
        time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    };
    assert_eq!((mtime("g"), mtime("f")), (EPOCH, EPOCH));
    assert!(mtime("old") < EPOCH);
    let bytes = fs::read(&tar).unwrap();
    assert!(support::Layer::read(&*bytes).entries.iter().all(|(_, node)| node.mtime <= EPOCH));
}

#[test]
fn an_early_push_sends_the_layers_with_the_times_that_the_image_has() {
    let registry = Registry::new();
    let output = format!("--output=type=registry,name={}", registry.name("web:1"));
    let project = timed().arg(&output);
    let built = project.built(project.call().env("SOURCE_DATE_EPOCH", "1000000000").run());
    let image = built.succeeds();
    let blobs: Vec<String> = registry.state().blobs.keys().map(|(_, digest)| digest.clone()).collect();
    assert_eq!(blobs.len(), image.layer_count() + 1, "no layer went out with other times: {blobs:?}");
    for layer in image.manifest()["layers"].as_array().unwrap() {
        assert!(blobs.contains(&layer["digest"].as_str().unwrap().to_string()), "{layer}");
    }
}

#[test]
fn variables_are_set_in_the_image_alone() {
    let project = Project::new().dockerfile("FROM busybox\nENV KEPT=1 GONE=2\nRUN echo \"${NEW-unset} $GONE\" >/seen");
    let image = project
        .clone()
        .arg("--env=NEW=new")
        .arg("--env=PATH=/x:$PATH")
        .arg("--env=ALSO")
        .arg("--unsetenv=GONE")
        .call()
        .env("ALSO", "too")
        .run();
    let image = project.built(image).succeeds();
    image.has_file("seen", "unset 2\n");
    assert_eq!((image.env("NEW"), image.env("ALSO"), image.env("GONE")), (Some("new"), Some("too"), None));
    assert!(image.env("PATH").unwrap().starts_with("/x:/"));
    assert_eq!(image.env("KEPT"), Some("1"));
    // They are no part of what a step depends on.
    project.arg("--env=NEW=other").build().cached(1).succeeds();
}

#[test]
fn labels_of_the_base_can_be_left_out() {
    let file = "FROM busybox AS a\nLABEL stage=1 both=1\nFROM a\nLABEL own=1 both=2";
    let labels = |project: &Project| {
        let image = project.build().succeeds();
        let labels = image.config()["Labels"].as_object().cloned().unwrap_or_default();
        labels.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap())).collect::<Vec<_>>()
    };
    let project = Project::new().dockerfile(file);
    let all = labels(&project);
    assert!(all.iter().any(|label| label.starts_with("fixture.")) && all.contains(&"stage=1".into()), "{all:?}");
    assert_eq!(labels(&project.clone().arg("--inherit-labels=false")), ["both=2", "own=1"]);
    let unset = project.clone().arg("--inherit-labels=false").arg("--label=more=1").arg("--unsetlabel=own");
    assert_eq!(labels(&unset), ["both=2", "more=1"]);
    assert!(!labels(&project.arg("--unsetlabel=stage")).contains(&"stage=1".into()));
}

#[test]
fn annotations_of_the_base_are_had_where_they_are_wanted() {
    let project = Project::new().dockerfile("FROM busybox\nCMD [\"a\"]");
    project.clone().named("base:1").arg("--annotation=a=1").arg("--annotation=b=1").build().succeeds();
    let child = Project::of(project.user()).dockerfile("FROM base:1 AS below\nFROM below\nCMD [\"b\"]");
    let annotations = |project: &Project| project.build().succeeds().manifest()["annotations"].clone();
    assert_eq!(annotations(&child), Value::Null);
    assert_eq!(annotations(&child.clone().arg("--inherit-annotations=false")), Value::Null);
    let with = child.clone().arg("--inherit-annotations").arg("--annotation=b=2").arg("--annotation=c=3");
    assert_eq!(annotations(&with), serde_json::json!({"a": "1", "b": "2", "c": "3"}));
    assert_eq!(annotations(&with.arg("--unsetannotation=a").arg("--unsetannotation=c")), serde_json::json!({"b": "2"}));
}

#[test]
fn an_image_can_be_without_a_history() {
    let project = Project::new().dockerfile("FROM busybox\nRUN echo x >/x").arg("--omit-history");
    project.call().run().succeeds();
    let shown = project.user().coracle(["inspect", "test:latest"]).run().succeeds();
    assert!(!shown.stdout.contains("created_by"), "{shown}");
    // It can be built upon.
    let child = Project::of(project.user()).named("child:1").dockerfile("FROM test:latest\nRUN echo y >/y");
    child.build().succeeds().has_file("x", "x\n").has_file("y", "y\n").has_layers(3);
}

/// What a build changes in several ways: files that come and go, come again, and have several names.
const BUSY: &str = "
    FROM busybox
    RUN mkdir -p /d/sub && echo 1 >/d/a && echo 1 >/d/sub/x && ln /d/a /d/b && ln /d/a /d/c
    RUN rm -r /d/sub /bin/awk && rm /d/a && echo 2 >/d/c && mkfifo /d/p
    RUN mkdir /d/sub && echo 3 >/d/sub/y && chown -R 3:4 /d/sub && rm -r /var && mkdir /var && echo e >/var/e
    CMD [\"x\"]
";

#[test]
fn squashed_the_layers_of_the_build_are_one_that_does_the_same() {
    let project = Project::new().dockerfile(BUSY);
    let plain = project.build().succeeds();
    let squashed = project.clone().named("squashed:1").arg("--squash").build().cached(3).succeeds();
    assert_eq!(squashed.manifest()["layers"][0], plain.manifest()["layers"][0], "that of the base");
    squashed.has_layers(2);
    squashed
        .top_layer()
        .is_canonical()
        .removes("bin/awk")
        .removes("var/spool")
        .removes("var/www")
        .has_no("d/sub/x")
        .has_no("d/a");
    assert_eq!(squashed.tree(), plain.tree());
    assert_eq!(squashed.config(), plain.config());
    // All steps are told, and the last of those that made a layer stands for it.
    let said = |image: &Image| image.history().iter().map(|step| step["created_by"].clone()).collect::<Vec<_>>();
    assert_eq!(said(&squashed), said(&plain));
    let made: Vec<bool> = squashed.history().iter().map(|step| step["empty_layer"] != true).collect();
    assert_eq!(made.iter().filter(|made| **made).count(), 2);
    assert!(made[made.len() - 2], "CMD is after it: {made:?}");
    // Again: nothing is done, and it is the very same image.
    let again = project.clone().named("squashed:1").arg("--squash").build().cached(3).succeeds();
    assert_eq!(again.digest(), squashed.digest());
    // It can be built upon, and a prune keeps it.
    project.user().coracle(["prune"]).run().succeeds();
    let child = Project::of(project.user()).named("child:1").dockerfile("FROM squashed:1\nRUN cat /d/b /d/sub/y >/z");
    child.build().succeeds().has_file("z", "1\n3\n").has_layers(3);
    let again = project.clone().named("squashed:1").arg("--squash").build().cached(3).succeeds();
    assert_eq!(again.digest(), squashed.digest());
}

#[test]
fn squashed_whole_an_image_is_one_layer() {
    let project = Project::new().dockerfile(BUSY);
    let plain = project.build().succeeds();
    let whole = project.clone().named("whole:1").arg("--squash-all").build().cached(3).succeeds();
    whole.has_layers(1);
    whole.top_layer().is_canonical();
    assert!(whole.top_layer().paths().iter().all(|path| !path.contains(".wh.")));
    assert_eq!(whole.tree(), plain.tree());
    let out = project.user().new_dir();
    let outputs =
        [format!("--output=type=oci,dest={0}/o,tar=false", out.display()), format!("--output={}/files", out.display())];
    let both = project.clone().named("whole:1").arg("--squash-all").arg(&outputs[0]).arg(&outputs[1]).build();
    assert_eq!(both.succeeds().digest(), whole.digest());
    assert_eq!(Image::only(&out.join("o")).digest(), whole.digest());
    assert_eq!(fs::read_to_string(out.join("files/d/c")).unwrap(), "1\n2\n".replace("1\n", ""));
}

#[test]
fn squashed_bytes_are_the_same_in_another_mode_and_with_other_times() {
    let file = "FROM busybox\nCOPY f /d/f\nCOPY f /d/g\nWORKDIR /w\nRUN ln /d/f /d/h && rm /d/f && chown 5:6 /d/g";
    let digest = |user: &User, how: &str| {
        let project = Project::of(user).file("f", "x").dockerfile(file).arg("--timestamp=5").arg("--squash").arg(how);
        let image = project.build().succeeds();
        image.has_layers(2).has_owner("d/g", "5:6", 0o644);
        assert_eq!(image.node("d/h").mtime, 5);
        image.digest().to_owned()
    };
    let full = digest(&User::with_busybox(), "--isolation=userns");
    let single = User::without_subids();
    single.pull(&base::busybox());
    assert_eq!(full, digest(&single, "--isolation=userns"));
}

#[test]
fn squashed_images_are_pushed_and_made_for_several_platforms() {
    let registry = Registry::new();
    let output = format!("--output=type=registry,name={}", registry.name("web:1"));
    let project = Project::new().file("a", "1").file("b", "2").dockerfile("FROM scratch\nCOPY a /x\nCOPY b /x");
    let image = project.clone().arg("--squash").arg(&output).build().succeeds();
    image.has_layers(1).has_file("x", "2");
    assert_eq!(registry.state().blobs.len(), 2, "no layer went out that is not in the image");
    let index = project.clone().arg("--squash").arg("--platform=linux/amd64,linux/arm64").call().run().succeeds();
    for platform in ["linux/amd64", "linux/arm64"] {
        let member = Image::of_platform(&project.user().layout(), index.stdout.trim(), platform);
        member.has_layers(1).has_file("x", "2");
    }
    let cache = project.user().new_dir().join("cache");
    let to = format!("--cache-to=type=local,dest={}", cache.display());
    project.clone().arg("--squash").arg(&to).build().succeeds();
    let other = Project::new().file("a", "1").file("b", "2").dockerfile("FROM scratch\nCOPY a /x\nCOPY b /x");
    let from = format!("--cache-from=type=local,src={}", cache.display());
    let replayed = other.arg("--squash").arg(&from).build().cached(2).succeeds();
    assert_eq!(replayed.manifest()["layers"], image.manifest()["layers"]);
    project.arg("--squash").arg("--cache-to=type=inline").build().fails(2).stderr_has("another --cache-to");
}

#[test]
fn buildah_sets_and_unsets_the_same_and_squashes_to_the_same_files() {
    if !require_tool("buildah") {
        return;
    }
    let user = User::with_busybox();
    let (store, out) = (user.new_dir(), user.new_dir());
    base::busybox();
    let buildah = format!("buildah --root {0}/root --runroot {0}/run --storage-driver vfs", store.display());
    let pull = format!("{buildah} pull -q oci:busybox-latest:docker.io/library/busybox:latest");
    let id = user.tool(&pull).within(&root().join(".fixtures")).run().succeeds().stdout;
    user.tool(&format!("{buildah} tag {} docker.io/library/busybox:latest", id.trim())).run().succeeds();
    let project = Project::of(&user).dockerfile(
        "FROM busybox\nENV A=1 B=2\nRUN mkdir /d && echo 1 >/d/a && echo $B >/d/b\nRUN rm /d/a && echo 2 >/d/c && rm /bin/awk",
    );
    let flags = ["--env=C=3", "--env=P=$PATH:/x", "--unsetenv=B", "--unsetenv=NOBODY"];
    let line = format!(
        "{buildah} bud --squash --isolation chroot --network host --pull-never --format oci --identity-label=false {} -t \
         oci:{}:t {}",
        flags.join(" "),
        out.join("theirs").display(),
        project.dir().display()
    );
    user.tool(&line).run().succeeds();
    let theirs = Image::only(&out.join("theirs"));
    let ours = flags.iter().fold(project, |project, flag| project.arg(flag)).arg("--squash-all").build().succeeds();
    assert_eq!(ours.config()["Env"], theirs.config()["Env"]);
    assert_eq!(ours.layer_count(), theirs.layer_count());
    for path in ["d/b", "d/c", "etc/passwd"] {
        assert_eq!(ours.text(path), theirs.text(path), "{path}");
    }
    theirs.has_no("d/a").has_no("bin/awk");
    ours.has_no("d/a").has_no("bin/awk");
}
