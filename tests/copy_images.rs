//! Images go from any place to any other, as they are; skopeo and umoci judge what arrives.

mod support;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use coracle::oci::Digest;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Image, Project, User, noise, require_tool, run, tool};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn sha256(path: &Path) -> String {
    Digest::of(&fs::read(path).unwrap()).to_string()
}

/// Makes a layout with an index of three platforms, all busybox, and returns the digest of the index.
fn three_platforms(layout: &Path) -> String {
    let base = support::base::busybox();
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    for blob in fs::read_dir(base.join("blobs/sha256")).unwrap().flatten() {
        fs::copy(blob.path(), layout.join("blobs/sha256").join(blob.file_name())).unwrap();
    }
    let read = |digest: &Value| {
        let hex = digest.as_str().unwrap().trim_start_matches("sha256:").to_owned();
        serde_json::from_slice::<Value>(&fs::read(layout.join("blobs/sha256").join(hex)).unwrap()).unwrap()
    };
    let put = |bytes: &[u8], kind: &str| {
        fs::write(layout.join("blobs/sha256").join(Digest::of(bytes).hex()), bytes).unwrap();
        json!({"mediaType": kind, "digest": Digest::of(bytes).to_string(), "size": bytes.len()})
    };
    let index: Value = serde_json::from_slice(&fs::read(base.join("index.json")).unwrap()).unwrap();
    let original = read(&index["manifests"][0]["digest"]);
    let mut members = Vec::new();
    for (architecture, variant) in [("amd64", None), ("arm64", Some("v8")), ("s390x", None)] {
        let mut manifest = original.clone();
        let mut config = read(&manifest["config"]["digest"]);
        config["architecture"] = architecture.into();
        manifest["config"] = put(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
        let mut entry = put(manifest.to_string().as_bytes(), MANIFEST);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        variant.into_iter().for_each(|variant: &str| entry["platform"]["variant"] = variant.into());
        members.push(entry);
    }
    // As nobody would write it again.
    let index = json!({"manifests": members, "schemaVersion": 2, "mediaType": INDEX, "annotations": {"by": "test"}});
    let mut entry = put(&serde_json::to_vec_pretty(&index).unwrap(), INDEX);
    let digest = entry["digest"].as_str().unwrap().to_owned();
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "docker.io/library/many:1"});
    fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    digest
}

/// A user whose store has many:1, an index of three platforms; and the digest of the index.
fn user_with_index() -> (User, String) {
    let user = User::new();
    let layout = user.new_dir();
    let digest = three_platforms(&layout);
    let copied = run(&user, &["copy", "--all", &format!("oci:{}", layout.display()), "many:1"]).succeeds();
    assert_eq!(copied.stdout.trim(), digest);
    (user, digest)
}

#[test]
fn an_image_goes_round_all_places_and_stays_the_same() {
    let user = User::with_busybox();
    let original = Image::named(&user.layout(), "busybox:latest", None);
    let dir = user.new_dir();
    let place = |kind: &str| format!("{kind}:{}", dir.join(kind).display());
    let mut from = "busybox".to_owned();
    // Each from the one before it.
    for kind in ["oci", "dir", "oci-archive", "docker-archive"] {
        let copied = run(&user, &["copy", &from, &place(kind)]).succeeds();
        assert_eq!(copied.stdout.trim(), original.digest(), "{kind}");
        from = place(kind);
    }
    let back = run(&user, &["copy", &from, "again:1"]).succeeds();
    // An archive of docker has no manifest, and plain tars.
    assert_ne!(back.stdout.trim(), original.digest());
    let again = Image::named(&user.layout(), "again:1", None);
    assert_eq!(again.document(), original.document());
    run(&user, &["copy", &place("dir"), "third:1"]).succeeds();
    assert_eq!(Image::named(&user.layout(), "third:1", None).digest(), original.digest());
}

#[test]
fn an_index_keeps_its_bytes_everywhere() {
    let (user, digest) = user_with_index();
    let dir = user.new_dir();
    for kind in ["oci", "oci-archive", "dir"] {
        let place = format!("{kind}:{}", dir.join(kind).display());
        assert_eq!(run(&user, &["copy", "-a", "many:1", &place]).succeeds().stdout.trim(), digest, "{kind}");
        let raw = run(&user, &["inspect", "--raw", &place]).succeeds().stdout;
        assert_eq!(Digest::of(raw.as_bytes()).to_string(), digest, "{kind}");
        let other = User::new();
        let back = run(&other, &["--root", user.home().join(kind).to_str().unwrap(), "copy", "--all", &place, "b:1"]);
        assert_eq!(back.succeeds().stdout.trim(), digest, "{kind}");
    }
    // One platform of it.
    let one = format!("oci:{}", dir.join("one").display());
    run(&user, &["copy", "--platform", "linux/s390x", "many:1", &one]).succeeds();
    assert_eq!(Image::only(&dir.join("one")).document()["architecture"], "s390x");
    let missing = run(&user, &["copy", "--platform", "linux/mips", "many:1", &one]).fails(3);
    missing.stderr_has("no image for linux/mips, only for: linux/amd64, linux/arm64/v8, linux/s390x");
    run(&user, &["copy", "--all", "many:1", &format!("docker-archive:{}", dir.join("d").display())])
        .fails(2)
        .stderr_has("is not a single image");
    assert!(!dir.join("d").exists());
    run(&user, &["images"]).succeeds().stdout_has("linux/amd64, linux/arm64/v8, linux/s390x");
    run(&user, &["prune", "--all"]).succeeds();
    assert_eq!(run(&user, &["copy", "-a", "many:1", &one]).succeeds().stdout.trim(), digest);
}

#[test]
fn skopeo_reads_what_is_written_and_writes_what_is_read() {
    if !require_tool("skopeo") {
        return;
    }
    let (user, digest) = user_with_index();
    let dir = user.new_dir();
    for kind in ["oci", "oci-archive", "dir"] {
        let ours = format!("{kind}:{}", dir.join(format!("ours-{kind}")).display());
        let theirs = format!("{kind}:{}", dir.join(format!("theirs-{kind}")).display());
        run(&user, &["copy", "--all", "many:1", &ours]).succeeds();
        let line = format!("skopeo --insecure-policy copy --quiet --all --preserve-digests {ours} {theirs}");
        user.tool(&line).run().succeeds();
        let back = run(&user, &["copy", "--all", &theirs, &format!("back:{kind}")]).succeeds();
        assert_eq!(back.stdout.trim(), digest, "{kind}");
        let raw = user.tool(&format!("skopeo inspect --raw {ours}")).run().succeeds().stdout;
        assert_eq!(Digest::of(raw.trim_end().as_bytes()).to_string(), digest, "{kind}");
    }
    // Docker's form, which skopeo takes for one.
    let docker = format!("dir:{}", dir.join("docker").display());
    run(&user, &["copy", "--format", "docker", "many:1", &docker]).succeeds();
    let raw = user.tool(&format!("skopeo inspect --raw {docker}")).run().succeeds();
    raw.stdout_has("application/vnd.docker.distribution.manifest.v2+json");
    user.tool(&format!("skopeo inspect {docker}")).run().succeeds().stdout_has("\"Architecture\": \"amd64\"");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let user = User::with_busybox();
    let dir = user.new_dir();
    let out = format!("oci:{}", dir.join("out").display());
    for (args, code, says) in [
        (&["copy", "no-such-image", &out][..], 1, "there is no image \"no-such-image\""),
        (&["copy", "busybox", "dir:/etc"], 3, "neither an empty folder nor one that dir: has written"),
        (&["copy", "busybox", "containers-storage:x"], 2, "podman save"),
        (&["copy", "docker-daemon:x:1", &out], 2, "docker save"),
        (&["copy", "oci:/no/such/dir", &out], 3, "cannot open /no/such/dir"),
    ] {
        run(&user, args).fails(code).stderr_has(says);
    }
    assert!(!dir.join("out").exists());
}

#[test]
fn the_digest_is_printed_and_written() {
    let user = User::with_busybox();
    let dir = user.new_dir();
    let (file, out) = (dir.join("digest"), format!("dir:{}", dir.join("out").display()));
    let copied = run(&user, &["copy", "--digestfile", file.to_str().unwrap(), "busybox", &out]).succeeds();
    assert_eq!(fs::read_to_string(&file).unwrap(), copied.stdout.trim());
    assert_eq!(sha256(&dir.join("out/manifest.json")), copied.stdout.trim());
}

#[test]
fn save_and_load_take_several_images_and_oci_archives_keep_digests() {
    let user = User::with_busybox();
    let project = Project::of(&user).dockerfile("FROM busybox\nRUN echo x >/x");
    let built = project.build().succeeds();
    run(&user, &["tag", "test", "test:again"]).succeeds();
    let dir = user.new_dir();
    for format in ["docker-archive", "oci-archive", "both"] {
        let file = dir.join(format);
        let path = file.to_str().unwrap();
        let form = if format == "both" { vec![] } else { vec!["--format", format] };
        // One is named twice: in the archive it is once.
        let names = ["busybox", "test", "docker.io/library/busybox:latest", "test:again"];
        run(&user, &[&["save"], &form[..], &["-o", path], &names].concat()).succeeds();
        let other = User::new();
        let moved = other.home().join("in.tar");
        fs::copy(&file, &moved).unwrap();
        let loaded = run(&other, &["load", "-i", moved.to_str().unwrap()]).succeeds();
        let mut names: Vec<_> = loaded.stdout.lines().collect();
        names.sort_unstable();
        let wanted = ["busybox:latest", "test:again", "test:latest"].map(|name| format!("docker.io/library/{name}"));
        assert_eq!(names, wanted, "{format}");
        let image = Image::named(&other.layout(), "test:latest", None);
        assert_eq!(image.document(), built.document(), "{format}");
        assert_eq!(image.digest() == built.digest(), format != "docker-archive");
    }
    // What is both is read by others as either, with the same configuration.
    let both = dir.join("both");
    for kind in ["docker-archive", "oci-archive"] {
        let line = format!("skopeo inspect --config --raw {kind}:{}:docker.io/library/test:latest", both.display());
        let config = user.tool(&line).run().succeeds().stdout;
        assert_eq!(&serde_json::from_str::<serde_json::Value>(&config).unwrap(), built.document(), "{kind}");
        let line = format!(
            "skopeo copy -q {kind}:{}:docker.io/library/test:latest oci:{}",
            both.display(),
            dir.join(kind).with_extension("d").display()
        );
        user.tool(&line).run().succeeds();
    }
    // By way of a pipe, as people do it.
    let other = User::new();
    let program = env!("CARGO_BIN_EXE_coracle");
    let file = dir.join("docker-archive");
    let script = format!("cat {} | {program} load && {program} save busybox | {program} load", file.display());
    let loaded = other.tool("sh").arg("-c").arg(script).run().succeeds();
    assert_eq!(loaded.stdout.lines().filter(|line| line.ends_with("busybox:latest")).count(), 2, "{loaded}");
    assert!(fs::read_dir(other.store().join("tmp")).unwrap().next().is_none());
    run(&other, &["load", "-i", "/etc/hostname"]).fails(3);
    run(&other, &["load", "-i", "/no/such/file"]).fails(3).stderr_has("/no/such/file");
    // A folder is read too.
    run(&other, &["load", "-i", support::base::busybox().to_str().unwrap()]).succeeds().stdout_has("busybox:latest");
}

#[test]
fn an_archive_goes_to_standard_output_by_any_of_its_names() {
    let user = User::with_busybox();
    let (program, dir) = (env!("CARGO_BIN_EXE_coracle"), user.new_dir());
    let plain = dir.join("plain");
    let script = |line: &str| user.tool("sh").arg("-c").arg(line).run().succeeds();
    script(&format!("{program} save --format docker-archive busybox >{}", plain.display()));
    let plain = fs::read(plain).unwrap();
    for (number, line) in [
        "save --format docker-archive -o /dev/stdout busybox",
        "save --format docker-archive -o /proc/self/fd/1 busybox",
        "copy busybox docker-archive:/dev/stdout",
        "push busybox docker-archive:/dev/fd/1:busybox:latest",
        "save --format docker-archive -o /dev/fd/3 busybox 3>&1 >/dev/null",
    ]
    .iter()
    .enumerate()
    {
        let file = dir.join(number.to_string());
        script(&format!("{program} {line} | cat >{0}.piped; {{ {program} {line}; }} >{0}", file.display()));
        assert!(fs::read(&file).unwrap() == plain, "{line}, to a file");
        assert!(fs::read(file.with_extension("piped")).unwrap() == plain, "{line}, to a pipe");
    }
}

#[test]
fn docker_archives_that_docker_wrote_are_read_by_number() {
    let user = User::with_busybox();
    let dir = user.new_dir();
    let file = dir.join("a.tar");
    run(&user, &["tag", "busybox", "b:1"]).succeeds();
    run(&user, &["save", "-o", file.to_str().unwrap(), "busybox"]).succeeds();
    let place = format!("docker-archive:{}:@0", file.display());
    run(&user, &["copy", &place, "numbered:1"]).succeeds();
    run(&user, &["inspect", "numbered:1"]).succeeds();
    run(&user, &["copy", &format!("docker-archive:{}:@1", file.display()), "n:2"]).fails(3).stderr_has("has no image");
}

#[test]
fn a_copy_that_is_killed_leaves_what_was_there() {
    let project = Project::new().file("big", noise(24 << 20)).dockerfile("FROM busybox\nCOPY big /\n");
    project.build().succeeds();
    let user = project.user();
    let dir = user.new_dir();
    for (round, kind) in ["oci", "oci-archive", "dir", "docker-archive"].iter().cycle().take(12).enumerate() {
        let to = dir.join(kind);
        let place = format!("{kind}:{}", to.display());
        let running = user.coracle(["copy", "test", &place]).start();
        thread::sleep(Duration::from_millis(5 + 12 * round as u64));
        running.signal(Signal::KILL);
        running.wait();
        // Either nothing, or all of it.
        let there = match *kind {
            "oci" => to.join("index.json").exists(),
            "dir" => to.join("manifest.json").exists(),
            _ => to.exists(),
        };
        if there {
            run(user, &["copy", &place, "back:1"]).succeeds();
        }
        run(user, &["copy", "test", &place]).succeeds();
        run(user, &["copy", &place, "back:1"]).succeeds();
        let left = fs::read_dir(if to.is_dir() { &to } else { &dir }).unwrap().flatten();
        let left: Vec<_> =
            left.map(|file| file.file_name()).filter(|name| name.as_encoded_bytes()[0] == b'.').collect();
        assert!(left.is_empty(), "{left:?}");
        let _ = fs::remove_dir_all(&to);
        let _ = fs::remove_file(&to);
    }
    // Into the store.
    let place = format!("dir:{}", dir.join("in").display());
    run(user, &["copy", "test", &place]).succeeds();
    let other = User::new();
    fs::rename(dir.join("in"), other.home().join("in")).unwrap();
    let place = format!("dir:{}", other.home().join("in").display());
    for round in 0..6 {
        let running = other.coracle(["copy", &place, "in:1"]).start();
        thread::sleep(Duration::from_millis(5 + 15 * round));
        running.signal(Signal::KILL);
        running.wait();
        run(&other, &["prune"]).succeeds();
    }
    run(&other, &["copy", &place, "in:1"]).succeeds();
    Image::named(&other.layout(), "in:1", None);
    assert!(fs::read_dir(other.store().join("tmp")).unwrap().next().is_none());
}

#[test]
fn umoci_unpacks_what_was_copied() {
    if tool("umoci").is_none() && !require_tool("umoci") {
        return;
    }
    let user = User::with_busybox();
    let dir = user.new_dir();
    run(&user, &["copy", "busybox", &format!("oci:{}:v1", dir.join("out").display())]).succeeds();
    let bundle = dir.join("bundle");
    let line = format!("umoci unpack --rootless --image {}:v1 {}", dir.join("out").display(), bundle.display());
    user.tool(&line).run().succeeds();
    assert!(bundle.join("rootfs/bin/busybox").exists() || bundle.join("rootfs/bin/sh").exists());
}
