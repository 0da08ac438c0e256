//! One build for several platforms: an index with an image for each.

mod support;

use std::fs;
use std::path::Path;

use coracle::oci::Digest;
use serde_json::{Value, json};
use support::registry::Registry;
use support::{Image, Layer, Project, User, base, require_tool, run};

const BOTH: &str = "--platform=linux/amd64,linux/arm64";

/// A user whose store has `base:1` for three platforms.
fn user() -> User {
    let user = User::new();
    base::index(&user, "base:1", &["linux/amd64", "linux/arm64", "linux/arm/v7"]);
    user
}

fn platforms(layout: &Path, index: &str) -> Vec<String> {
    let part = |entry: &Value, key: &str| entry["platform"][key].as_str().map(|part| format!("/{part}"));
    let said = |entry: Value| {
        ["os", "architecture", "variant"].iter().filter_map(|key| part(&entry, key)).collect::<String>()[1..].to_owned()
    };
    Image::index(layout, index).into_iter().map(said).collect()
}

#[test]
fn an_index_has_one_image_for_each_platform_in_the_order_given() {
    let user = user();
    let project = Project::of(&user).file("f", "f").dockerfile(
        "FROM base:1\nARG TARGETPLATFORM BUILDPLATFORM TARGETARCH TARGETVARIANT\nCOPY f /$TARGETARCH$TARGETVARIANT\n\
         LABEL target=$TARGETPLATFORM build=$BUILDPLATFORM base=$BASE\n",
    );
    let (iid, metadata, digest) = (project.path("iid"), project.path("metadata"), project.path("digest"));
    let project = project
        .arg("--platform=linux/arm64,linux/amd64")
        .arg("--platform=linux/arm/v7")
        .arg(&format!("--iidfile={}", iid.display()))
        .arg(&format!("--metadata-file={}", metadata.display()))
        .arg(&format!("--digest-file={}", digest.display()))
        .arg("--label=more=1");
    let outcome = project.call().run().succeeds();
    let index = outcome.stdout.trim().to_owned();
    assert_eq!(platforms(&user.layout(), &index), ["linux/arm64", "linux/amd64", "linux/arm/v7"]);
    for (platform, file) in [("linux/arm64", "arm64"), ("linux/amd64", "amd64"), ("linux/arm/v7", "armv7")] {
        let image = Image::of_platform(&user.layout(), &index, platform);
        image.has_file(file, "f").has_layers(2);
        let labels = &image.config()["Labels"];
        for (label, expected) in [("target", platform), ("build", "linux/amd64"), ("base", platform), ("more", "1")] {
            assert_eq!(labels[label], expected, "{labels}");
        }
        assert_eq!(image.document()["architecture"], platform.split('/').nth(1).unwrap());
    }
    // All that is told of the result is about the index.
    let said = |file: &Path| fs::read_to_string(file).unwrap();
    assert_eq!((said(&iid), said(&digest)), (index.clone(), index.clone()));
    let metadata: Value = serde_json::from_str(&said(&metadata)).unwrap();
    assert_eq!(
        (&metadata["containerimage.digest"], &metadata["containerimage.descriptor"]["digest"]),
        (&json!(index), &json!(index))
    );
    assert!(metadata.get("containerimage.config.digest").is_none(), "{metadata}");
    outcome
        .stderr_has("[linux/arm64 0 1/1] COPY f /arm64")
        .stderr_has("[linux/amd64 0 1/1] COPY f /amd64")
        .stderr_has("[linux/arm/v7 0 1/1] COPY f /armv7")
        .stderr_has(&format!("exported docker.io/library/test:latest {index}"));
    // Named, listed, and the same again.
    run(&user, &["images"]).succeeds().stdout_has("linux/arm64, linux/amd64, linux/arm/v7");
    let again = project.call().run().succeeds();
    assert_eq!((again.stdout.trim(), again.count("CACHED")), (index.as_str(), 3));
    assert_eq!(again.count("isolation:"), 0, "{again}");
}

#[test]
fn stages_on_the_machine_that_builds_are_built_once_and_cross_stages_for_each() {
    let user = user();
    let project = Project::of(&user).dockerfile(
        "FROM --platform=$BUILDPLATFORM base:1 AS tools\nRUN echo once >/tool\n\
         FROM tools AS construct\nARG TARGETARCH\nRUN cat /tool >/app && echo $TARGETARCH >>/app\n\
         FROM scratch\nCOPY --from=construct /app /app\nENTRYPOINT [\"/app\"]\n",
    );
    let outcome = project.clone().arg(BOTH).call().run().succeeds();
    for (line, times) in [
        ("[linux/amd64 tools 1/1] RUN echo once >/tool", 1),
        ("tools 1/1] RUN", 1),
        ("[linux/amd64 construct 1/1] RUN", 1),
        ("[linux/amd64->arm64 construct 1/1] RUN", 1),
        ("[linux/amd64 2 1/1] COPY", 1),
        ("[linux/arm64 2 1/1] COPY", 1),
    ] {
        assert_eq!(outcome.count(line), times, "{line}: {outcome}");
    }
    let index = outcome.stdout.trim();
    for architecture in ["amd64", "arm64"] {
        let image = Image::of_platform(&user.layout(), index, &format!("linux/{architecture}"));
        image.has_file("app", &format!("once\n{architecture}\n")).has_layers(1);
        assert_eq!(image.document()["architecture"], architecture);
    }
    // Each platform alone is what it is in the index, and comes from the same cache.
    let alone = project.arg("--platform=linux/arm64").build().cached(3);
    assert_eq!(alone.stdout.trim(), Image::of_platform(&user.layout(), index, "linux/arm64").digest());
}

#[test]
fn steps_without_a_platform_are_done_once_even_without_the_cache() {
    let user = user();
    let project = Project::of(&user).file("f", "f").dockerfile("FROM scratch\nCOPY f /\n").arg("--no-cache");
    let outcome = project.arg(BOTH).call().run().succeeds();
    assert_eq!((outcome.count("CACHED"), outcome.count("DONE")), (1, 1), "{outcome}");
}

#[test]
fn events_for_programs_say_the_platform() {
    let project = Project::of(&user()).dockerfile("FROM base:1\nWORKDIR /x\n");
    let planned = |platform: &str| -> Vec<Value> {
        let dir = project.dir().to_str().unwrap();
        let outcome = run(project.user(), &["build", "--progress=json", platform, dir]).succeeds();
        let events = outcome.stderr.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        events.filter(|event| event["event"] == "planned").map(|event| event["platform"].clone()).collect()
    };
    assert_eq!(planned(BOTH), [json!("linux/amd64"), json!("linux/arm64")]);
    assert_eq!(planned("--platform=linux/arm64"), [Value::Null]);
}

#[test]
fn outputs_have_an_index_or_a_folder_for_each_platform() {
    let user = user();
    let project = Project::of(&user).file("f", "f").dockerfile("FROM scratch\nARG TARGETARCH\nCOPY f /d/$TARGETARCH\n");
    let out = user.new_dir();
    let path = |name: &str| out.join(name).display().to_string();
    let index = project
        .clone()
        .arg(BOTH)
        .arg(&format!("--output=type=oci,tar=false,dest={}", path("layout")))
        .arg(&format!("--output=type=oci,dest={}", path("oci.tar")))
        .arg(&format!("--output=type=local,dest={}", path("local")))
        .arg(&format!("--output=type=tar,dest={}", path("files.tar")))
        .arg("--output=type=image,name=second:1")
        .call()
        .run()
        .succeeds();
    let index = index.stdout.trim();
    for place in [format!("oci:{}", path("layout")), format!("oci-archive:{}", path("oci.tar")), "second:1".into()] {
        let raw = run(&user, &["inspect", "--raw", &place]).succeeds().stdout;
        assert_eq!(Digest::of(raw.as_bytes()).to_string(), index, "{place}");
    }
    Image::of_platform(&out.join("layout"), index, "linux/arm64").has_file("d/arm64", "f");
    for (folder, file) in [("linux_amd64", "amd64"), ("linux_arm64", "arm64")] {
        assert_eq!(fs::read_to_string(out.join("local").join(folder).join("d").join(file)).unwrap(), "f");
    }
    assert!(!out.join("local/linux_arm64/d/amd64").exists());
    let files = Layer::read(fs::File::open(out.join("files.tar")).unwrap());
    let expected =
        ["linux_amd64", "linux_amd64/d", "linux_amd64/d/amd64", "linux_arm64", "linux_arm64/d", "linux_arm64/d/arm64"];
    assert_eq!(files.paths(), expected);
    files.has_file("linux_arm64/d/arm64", "f");
    // What holds one image only is refused before anything is done.
    let docker =
        project.clone().arg(BOTH).arg(&format!("--output=type=docker,dest={}", path("docker.tar"))).call().run();
    docker.fails(2).stderr_has("type=docker holds an image for one platform only").stderr_has("type=oci");
    let alone = project.arg("--platform=linux/arm64").arg(&format!("--output=type=docker,dest={}", path("docker.tar")));
    alone.call().run().succeeds();
    if require_tool("skopeo") {
        let copied = out.join("copied");
        let line = format!("skopeo copy --all oci-archive:{} dir:{}", path("oci.tar"), copied.display());
        user.tool(&line).run().succeeds();
        assert_eq!(Digest::of(&fs::read(copied.join("manifest.json")).unwrap()).to_string(), index);
    }
}

#[test]
fn an_index_is_pushed_with_all_its_images() {
    let (user, registry) = (user(), Registry::new());
    let project = Project::of(&user).file("f", "f").dockerfile("FROM base:1\nARG TARGETARCH\nCOPY f /$TARGETARCH\n");
    let name = registry.name("web:1");
    let pushed = project.clone().named(&name).arg(BOTH).arg("--push").call().run().succeeds();
    let index = pushed.stdout.trim().to_owned();
    let other = User::new();
    for architecture in ["amd64", "arm64"] {
        let platform = format!("--platform=linux/{architecture}");
        run(&other, &["pull", &platform, &name]).succeeds();
        Image::of_platform(&other.layout(), &index, &format!("linux/{architecture}")).has_file(architecture, "f");
    }
    // By its digest alone.
    let by_digest = format!("--output=type=image,name={},push=true,push-by-digest=true", registry.name("quiet"));
    let quiet = project.arg(BOTH).arg(&by_digest).call().run().succeeds();
    assert_eq!(quiet.stdout.trim(), index);
    run(&other, &["inspect", "--raw", &format!("docker://{}@{index}", registry.name("quiet"))]).succeeds();
    run(&other, &["inspect", &format!("docker://{}", registry.name("quiet"))]).fails(4);
}

#[test]
fn doubled_platforms_and_bases_without_one_are_refused() {
    let user = user();
    let project = |text: &str| Project::of(&user).dockerfile(text);
    for (flag, said) in [
        ("--platform=linux/amd64,linux/amd64", "the platform linux/amd64 is named twice"),
        ("--platform=linux/arm64,linux/arm64/v8", "the platform linux/arm64 is named twice"),
        ("--platform=linux/amd64,", "is not a platform"),
        ("--platform=linux/amd64,x/y/z/w", "\"x/y/z/w\" is not a platform"),
    ] {
        project("FROM scratch\n").arg(flag).build().fails(2).stderr_has(said);
    }
    let missing =
        project("FROM scratch AS a\nFROM base:1\n").arg("--platform=linux/amd64,linux/s390x").build().fails(3);
    missing
        .stderr_has("Dockerfile:2:6")
        .stderr_has("has no image for linux/s390x, only for: linux/amd64, linux/arm64, linux/arm/v7");
    // One image that is not an index: for one platform that is a warning, as with BuildKit; an index must not have it twice.
    user.pull(&base::busybox());
    let single = project("FROM busybox\n").arg(BOTH).build().fails(3);
    single.stderr_has("Dockerfile:1:6").stderr_has("busybox has no image for linux/arm64, only for: linux/amd64");
    project("FROM busybox\n").arg("--platform=linux/arm64").call().run().succeeds();
    // Nothing of an index is tagged when one of its images fails.
    let failing = project("FROM --platform=$BUILDPLATFORM base:1\nARG TARGETARCH\nRUN [ $TARGETARCH = amd64 ]\n");
    let failed = failing.named("never:1").arg(BOTH).build().fails(1);
    failed.stderr_has("Dockerfile:3");
    assert!(!run(&user, &["images"]).stdout.contains("never"));
}

#[test]
fn all_platforms_are_those_that_the_bases_have_in_common() {
    let user = user();
    base::index(&user, "second:1", &["linux/s390x", "linux/arm/v6", "linux/arm64/v8", "linux/amd64"]);
    base::index(&user, "windows:1", &["windows/amd64", "linux/amd64"]);
    let project = |text: &str| Project::of(&user).dockerfile(text).arg("--all-platforms").arg("--pull=never");
    for (text, expected) in [
        ("FROM base:1\n", &["linux/amd64", "linux/arm64", "linux/arm/v7"][..]),
        // An older arm runs on a newer.
        (
            "FROM base:1 AS a\nFROM second:1\nCOPY --from=a /etc/passwd /\n",
            &["linux/amd64", "linux/arm64", "linux/arm/v7"],
        ),
        (
            "FROM second:1 AS a\nFROM base:1\nCOPY --from=a /etc/passwd /\n",
            &["linux/amd64", "linux/arm64", "linux/arm/v7"],
        ),
        (
            "FROM --platform=linux/s390x second:1 AS a\nFROM base:1\nCOPY --from=a /etc/passwd /\n",
            &["linux/amd64", "linux/arm64", "linux/arm/v7"],
        ),
        ("FROM windows:1\n", &["linux/amd64"]),
    ] {
        let outcome = project(text).call().run().succeeds();
        let mut found = platforms(&user.layout(), outcome.stdout.trim());
        let mut expected = expected.to_vec();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{text}");
    }
    project("FROM scratch\n").build().fails(3).stderr_has("there is none here but scratch").stderr_has("--platform=");
    base::index(&user, "third:1", &["linux/ppc64le"]);
    project("FROM third:1 AS a\nFROM base:1\nCOPY --from=a /etc/passwd /\n")
        .build()
        .fails(3)
        .stderr_has("no platform that all base images have in common")
        .stderr_has("third:1 is for linux/ppc64le");
    project("FROM base:1\n").arg("--plan").build().fails(2).stderr_has("--all-platforms is for builds");
    project("FROM gone:1\n").build().fails_cleanly().stderr_has("Dockerfile:1:6");
}

#[test]
fn what_is_looked_at_without_building_is_looked_at_for_each_platform() {
    let user = user();
    let project = |text: &str| Project::of(&user).file("f", "f").dockerfile(text).arg(BOTH);
    let text = "FROM base:1 AS a\nARG TARGETARCH\nCOPY f /$TARGETARCH\nFROM a\nWORKDIR /x\n";
    let plan = project(text).arg("--plan").call().run().succeeds();
    plan.stdout_has("stage linux/amd64 a on base:1\n")
        .stdout_has("stage linux/amd64 1 (target) on the stage a\n")
        .stdout_has("stage linux/arm64 1 (target) on the stage a\n")
        .stdout_has("0 hit, 2 miss, 2 unknown");
    let built = project(text);
    built.call().run().succeeds();
    built.clone().arg("--plan").arg("--plan-exit-code").call().run().succeeds().stdout_has("4 hit, 0 miss, 0 unknown");
    let json = built.clone().arg("--plan=json").call().run().succeeds();
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    let stages: Vec<_> = json["stages"].as_array().unwrap().iter().map(|s| (&s["platform"], &s["target"])).collect();
    let (amd, arm) = (json!("linux/amd64"), json!("linux/arm64"));
    assert_eq!(stages, [(&amd, &json!(false)), (&amd, &json!(true)), (&arm, &json!(false)), (&arm, &json!(true))]);
    built.file("f", "g").arg("--explain").call().run().succeeds().stderr_has("[linux/arm64 a 1/1]").stderr_has("MISS");
    // What is wrong on each platform is said once.
    let checked = project("FROM base:1 AS Upper\nFROM Upper\n").arg("--check").call().run();
    assert_eq!(checked.code(), Some(1), "{checked}");
    assert_eq!(checked.stdout.matches("StageNameCasing").count(), 1, "{checked}");
    let warned = project("FROM base:1 AS Upper\nFROM Upper\n").build();
    assert_eq!(warned.count("StageNameCasing"), 1);
    project("FROM base:1\n").arg("--call=outline").build().fails(2).stderr_has("one platform at a time");
    project("FROM base:1 AS a\nFROM a AS b\n").arg("--call=targets").call().run().succeeds().stdout_has("b (default)");
}

#[test]
fn a_cache_elsewhere_has_the_steps_of_all_platforms() {
    let first = user();
    let text = "FROM --platform=$BUILDPLATFORM base:1 AS tools\nARG TARGETARCH\nRUN echo $TARGETARCH >/x\n\
                FROM base:1\nCOPY --from=tools /x /x\n";
    let cache = first.new_dir().join("cache");
    let project = Project::of(&first).dockerfile(text).arg(BOTH);
    let to = format!("--cache-to=type=local,mode=max,dest={}", cache.display());
    let built = project.arg(&to).call().run().succeeds();
    let second = user();
    let place = second.new_dir().join("cache");
    second.tool(&format!("cp -r {} {}", cache.display(), place.display())).run().succeeds();
    let again = Project::of(&second).dockerfile(text).arg(BOTH);
    let again = again.arg(&format!("--cache-from=type=local,src={}", place.display())).call().run().succeeds();
    assert_eq!((again.count("CACHED"), &again.stdout), (4, &built.stdout), "{again}");
    assert_eq!(again.count("isolation:"), 0, "{again}");
}

#[test]
fn a_lock_holds_for_all_platforms() {
    let registry = Registry::new();
    let images = ["amd64", "arm64"].map(|architecture| {
        registry.image("base", architecture, &format!("linux/{architecture}"), architecture.as_bytes())
    });
    registry.index("base", "1", &images);
    let user = User::new();
    let project = Project::of(&user).dockerfile(&format!("FROM {}\nENV A=1\n", registry.name("base:1")));
    run(&user, &["lock", "--tls-verify=false", project.dir().to_str().unwrap()]).succeeds();
    let project = project.arg(BOTH).arg("--locked").arg("--tls-verify=false");
    let built = project.call().run().succeeds();
    let layers = |platform| {
        let image = Image::of_platform(&user.layout(), built.stdout.trim(), platform);
        image.manifest()["layers"].clone()
    };
    assert_ne!(layers("linux/amd64"), layers("linux/arm64"));
    registry.index("base", "1", &images[..1]);
    project.call().run().succeeds();
    // What is not locked is no part of it, on whichever platform.
    let other = project.dockerfile("ARG TARGETARCH\nFROM busybox:$TARGETARCH\n").call().run().fails(3);
    other.stderr_has("busybox:amd64 is not in").stderr_has("busybox:arm64 is not in");
}

/// A registry with `multi:1`, an index for two platforms; and its digest.
fn registry_with_index() -> (Registry, String) {
    let registry = Registry::new();
    let images = ["amd64", "arm64"].map(|architecture| {
        registry.image("multi", architecture, &format!("linux/{architecture}"), architecture.as_bytes())
    });
    let index = registry.index("multi", "1", &images);
    let digest = index["digest"].as_str().unwrap().to_owned();
    (registry, digest)
}

#[test]
fn a_base_of_which_one_platform_was_pulled_gets_the_others_from_the_same_index() {
    let (registry, old) = registry_with_index();
    let (user, name) = (User::new(), registry.name("multi:1"));
    run(&user, &["pull", &name]).succeeds();
    let never = Project::of(&user).dockerfile(&format!("FROM {name}\n")).arg(BOTH).arg("--pull=never").build();
    never.fails(3).stderr_has("is in the store, but not for linux/amd64").stderr_has("Dockerfile:1:6");
    // Its tag leads elsewhere by now: both platforms are still those of the image that is here.
    let newer = registry.image("multi", "newer", "linux/amd64", b"newer");
    registry.index("multi", "1", &[newer]);
    let project = Project::of(&user).dockerfile(&format!("FROM {name}\nENV A=1\n")).arg(BOTH);
    let built = project.call().run().succeeds();
    assert_eq!(platforms(&user.layout(), built.stdout.trim()), ["linux/amd64", "linux/arm64"]);
    let raw = run(&user, &["inspect", "--raw", "--type=index", &name]).succeeds();
    assert_eq!(Digest::of(raw.stdout.as_bytes()).to_string(), old);
    // Then all of it is there, and nobody is asked.
    registry.forget();
    Project::of(&user).dockerfile(&format!("FROM {name}\nENV A=2\n")).arg(BOTH).call().run().succeeds();
    assert!(registry.state().log.is_empty());
    // Whoever asks gets what the tag leads to, for each platform: there the new one has none.
    let always = Project::of(&user).dockerfile(&format!("FROM {name}\n")).arg(BOTH).arg("--pull=always").build();
    always.fails(3).stderr_has("no image for linux/arm64, only for: linux/amd64");
}

#[test]
fn all_of_an_index_is_pulled_pushed_and_copied_as_it_is() {
    let (registry, digest) = registry_with_index();
    let (user, name) = (User::new(), registry.name("multi:1"));
    let pulled = run(&user, &["pull", "--all", &name]).succeeds();
    assert_eq!(pulled.stdout.trim(), digest);
    for architecture in ["amd64", "arm64"] {
        Image::of_platform(&user.layout(), &digest, &format!("linux/{architecture}"));
    }
    registry.forget();
    run(&user, &["pull", "--all", "--policy=missing", &name]).succeeds();
    assert!(registry.state().log.is_empty());
    // Asked again, nothing of it moves again.
    run(&user, &["pull", "--all", &name]).succeeds();
    assert!(registry.seen("GET", "/blobs/").is_empty());
    let (other, to) = (Registry::new(), |registry: &Registry, name: &str| registry.name(name));
    let pushed = run(&user, &["push", "--all", &name, &format!("docker://{}", to(&other, "copy:1"))]).succeeds();
    assert_eq!(pushed.stdout.trim(), digest);
    let second = User::new();
    assert_eq!(run(&second, &["pull", "--all", &to(&other, "copy:1")]).succeeds().stdout.trim(), digest);
    let place = format!("oci:{}", user.new_dir().join("out").display());
    assert_eq!(run(&user, &["push", "--all", &name, &place]).succeeds().stdout.trim(), digest);
    // One image of several: that is told, unless it was asked for.
    let one = run(&user, &["push", &name, &format!("docker://{}", to(&other, "one:1"))]).succeeds();
    one.stderr_has("only the image for linux/amd64 goes out; --all takes all of them: linux/amd64, linux/arm64");
    let arm = format!("docker://{}", to(&other, "arm:1"));
    let arm = run(&user, &["push", "--platform=linux/arm64", &name, &arm]).succeeds().stderr_has_no("--all");
    assert_ne!(arm.stdout.trim(), digest);
    run(&user, &["push", "--platform=linux/s390x", &name]).fails(3).stderr_has("only for: linux/amd64, linux/arm64");
}

// As with BuildKit.
#[test]
fn a_platform_has_the_name_that_images_use_wherever_it_is_told() {
    let label = |platform: &str| {
        let project = Project::new().dockerfile(
            "FROM scratch\nARG TARGETPLATFORM TARGETARCH TARGETVARIANT\nLABEL v=$TARGETPLATFORM:$TARGETARCH$TARGETVARIANT\n",
        );
        let built = project.arg(&format!("--platform={platform}")).build().succeeds();
        built.config()["Labels"]["v"].as_str().expect("a label").to_owned()
    };
    assert_eq!(label("linux/arm64/v8"), "linux/arm64:arm64");
    assert_eq!(label("linux/arm"), "linux/arm/v7:armv7");
    assert_eq!(label("linux/arm/v6"), "linux/arm/v6:armv6");
}

#[test]
fn an_index_of_which_images_were_left_out_says_so_and_what_helps() {
    let (registry, digest) = registry_with_index();
    let (user, name) = (User::new(), registry.name("multi:1"));
    run(&user, &["pull", "--platform=linux/arm64", &name]).succeeds();
    let out = user.new_dir();
    let (layout, archive) = (format!("oci:{}", out.join("l").display()), out.join("a.tar").display().to_string());
    for args in [
        &["copy", "--all", &name, &layout][..],
        &["push", "--all", &name, &layout],
        &["save", "--all", "--format=oci-archive", "-o", &archive, &name],
        &["manifest", "push", &name, &layout],
    ] {
        let failed = run(&user, args).fails(1);
        failed
            .stderr_has(&format!("not all of {name} is in the store: there is none of it for linux/amd64"))
            .stderr_has(&format!("`coracle pull --all {name}` brings the rest in"));
    }
    assert!(!out.join("l").exists() && !Path::new(&archive).exists());
    run(&user, &["copy", "--platform=linux/arm64", &name, &layout]).succeeds();
    run(&user, &["pull", "--all", &name]).succeeds();
    let copied = run(&user, &["copy", "--all", &name, &format!("oci:{}", out.join("all").display())]).succeeds();
    assert_eq!(copied.stdout.trim(), digest);
}
