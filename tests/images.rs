//! Images in the store: what they are called, what they say about themselves, how they come and go.

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{Image, Project, User, run};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn listed(user: &User) -> Vec<String> {
    let list = json(&run(user, &["images", "--json"]).succeeds().stdout);
    list.as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap().to_owned()).collect()
}

/// The bytes of all files below `dir`.
fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().flatten();
    entries.map(|entry| if entry.path().is_dir() { size(&entry.path()) } else { entry.metadata().unwrap().len() }).sum()
}

fn blob(user: &User, digest: &str) -> std::path::PathBuf {
    user.layout().join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
}

#[test]
fn an_image_can_have_several_names() {
    let user = User::with_busybox();
    run(&user, &["tag", "busybox", "mine:1"]).succeeds();
    assert_eq!(listed(&user), ["docker.io/library/busybox:latest", "docker.io/library/mine:1"]);
    run(&user, &["images"]).succeeds().stdout_has("busybox:latest").stdout_has("mine:1").stdout_has("DIGEST");
    let ids = run(&user, &["images", "-q"]).succeeds().stdout;
    assert_eq!(ids.lines().count(), 1, "each id once: {ids}");
    run(&user, &["rmi", "mine:1"]).succeeds().stdout_has("docker.io/library/mine:1");
    assert_eq!(listed(&user), ["docker.io/library/busybox:latest"]);
    run(&user, &["rmi", "mine:1"]).fails(1).stderr_has("mine:1");
}

#[test]
fn rmi_removes_all_names_or_none() {
    let user = User::with_busybox();
    run(&user, &["rmi", "busybox", "no-such-image"]).fails(1);
    assert_eq!(listed(&user).len(), 1);
    run(&user, &["tag", "busybox", "mine:1"]).succeeds();
    let id = run(&user, &["images", "-q"]).succeeds().stdout;
    run(&user, &["rmi", id.trim().trim_start_matches("sha256:").split_at(12).0]).succeeds();
    assert_eq!(listed(&user), [""; 0]);
}

#[test]
fn inspect_and_history_show_what_the_image_says() {
    let project = Project::new().dockerfile("FROM busybox\nENV A=1\nRUN echo x >/x");
    let image = project.build().succeeds();
    let user = project.user();
    assert_eq!(json(&run(user, &["inspect", "test"]).succeeds().stdout), *image.document());
    let manifest = run(user, &["inspect", "--type", "manifest", "test"]).succeeds().stdout;
    assert_eq!(json(&manifest), *image.manifest());
    let history = json(&run(user, &["history", "--json", "test"]).succeeds().stdout);
    let history = history.as_array().unwrap();
    assert_eq!(history.len(), image.history().len());
    assert!(history[0]["created_by"].as_str().unwrap().contains("echo x >/x"), "the newest first: {history:?}");
    run(user, &["history", "test"]).succeeds().stdout_has("CREATED BY").stdout_has("ENV A=1");
}

#[test]
fn what_is_pushed_can_be_pulled() {
    let user = User::with_busybox();
    let original = Image::named(&user.layout(), "busybox:latest", None);
    let dir = user.new_dir();
    for transport in ["oci", "oci-archive", "docker-archive"] {
        let location = format!("{transport}:{}:docker.io/library/busybox:latest", dir.join(transport).display());
        let pushed = run(&user, &["push", "busybox", &location]).succeeds();
        assert_eq!(pushed.count("exported"), 1, "{pushed}");
        let other = User::new();
        let source = dir.join(transport);
        fs::rename(&source, other.home().join("in")).unwrap();
        run(&other, &["pull", &format!("{transport}:{}", other.home().join("in").display())]).succeeds();
        let image = Image::named(&other.layout(), "busybox:latest", None);
        assert_eq!(image.config(), original.config(), "{transport}");
        assert_eq!(image.document()["rootfs"], original.document()["rootfs"], "{transport}");
        // An archive of docker has plain tars; the others have the very same blobs.
        assert_eq!(image.digest() == original.digest(), transport != "docker-archive", "{transport}");
    }
}

#[test]
fn a_damaged_image_hides_no_other_and_can_go() {
    let user = User::with_busybox();
    let project = Project::of(&user).dockerfile("FROM busybox\nENV A=1");
    let built = project.build().succeeds();
    fs::write(blob(&user, built.digest()), "rotten").unwrap();
    let listed = run(&user, &["images"]).succeeds();
    listed.stdout_has("busybox:latest").stdout_has("damaged").stderr_has("warning: test:latest: ");
    run(&user, &["inspect", "test"]).fails(5).stderr_has("coracle pull");
    run(&user, &["rmi", "test"]).succeeds();
    run(&user, &["images"]).succeeds().stderr_has_no("warning");
}

#[test]
fn a_damaged_blob_is_replaced_by_the_next_pull() {
    let user = User::with_busybox();
    let image = Image::named(&user.layout(), "busybox:latest", None);
    let layer = blob(&user, image.manifest()["layers"][0]["digest"].as_str().unwrap());
    let good = fs::read(&layer).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&layer, &bad).unwrap();
    let to = format!("oci:{}", user.new_dir().join("out").display());
    run(&user, &["push", "busybox", &to]).fails(5).stderr_has("coracle pull");
    user.pull(&support::base::busybox());
    assert_eq!(fs::read(&layer).unwrap(), good);
    run(&user, &["push", "busybox", &to]).succeeds();
}

#[test]
fn prune_gives_space_back_and_keeps_what_has_a_name() {
    let project = Project::new().file("big", vec![7; 3 << 20]).dockerfile("FROM busybox\nCOPY big /\nRUN echo x >/x");
    project.build().succeeds();
    let user = project.user();
    let full = size(&user.layout());
    run(user, &["rmi", "test"]).succeeds();
    let removed = json(&run(user, &["prune", "--all", "--json"]).succeeds().stdout);
    assert!(removed["bytes"].as_u64().unwrap() > 3 << 20, "{removed}");
    assert!(size(&user.layout()) < full, "blobs are gone");
    assert_eq!(listed(user), ["docker.io/library/busybox:latest"]);
    let image = project.build().succeeds();
    for args in [&["prune"][..], &["prune", "--all"]] {
        run(user, args).succeeds();
        assert_eq!(listed(user).len(), 2);
        project.image().has_file("x", "x\n");
    }
    // Steps of a named image stay in the cache; only the time of the image is another.
    assert_eq!(project.build().cached(2).succeeds().document()["rootfs"], image.document()["rootfs"]);
}

#[test]
fn a_store_that_cannot_be_written_can_be_read() {
    let user = User::with_busybox();
    let dir = user.new_dir();
    chmod("a-w", &user.store());
    for args in [&["images"][..], &["inspect", "busybox"], &["history", "busybox"], &["version"], &["doctor"]] {
        run(&user, args).succeeds();
    }
    run(&user, &["push", "busybox", &format!("oci:{}", dir.join("out").display())]).succeeds();
    run(&user, &["tag", "busybox", "b:2"]).fails(5);
    chmod("u+w", &user.store());
    // The store of another user, whose lock may be read and not written.
    let other = User::new();
    let store = user.store();
    for path in [user.home().to_path_buf(), user.home().join(".local"), user.home().join(".local/share"), store.clone()]
    {
        chmod_one("a+rx", &path);
    }
    other.coracle(["--root", store.to_str().unwrap(), "images"]).run().succeeds().stdout_has("busybox");
}

#[test]
fn a_store_that_is_not_there_has_no_images() {
    let user = User::new();
    assert_eq!(run(&user, &["images", "-q"]).succeeds().stdout, "");
    run(&user, &["inspect", "0123456789ab"]).fails(1);
    assert!(!user.store().exists(), "to look makes nothing");
}

#[test]
fn images_are_chosen_and_shown_as_asked_for() {
    let project = Project::new().dockerfile("FROM busybox\nLABEL kind=web tier=1\nCMD [\"serve\"]");
    project.build().succeeds();
    let user = project.user();
    let shown = |args: &[&str]| {
        run(user, &[&["images", "--format", "{{.Repository}}:{{.Tag}}"], args].concat()).succeeds().stdout
    };
    assert_eq!(shown(&[]), "busybox:latest\ntest:latest\n");
    for (args, names) in [
        (&["test"][..], "test:latest\n"),
        (&["te?t:*"], "test:latest\n"),
        (&["no-such"], ""),
        (&["-f", "label=kind"], "test:latest\n"),
        (&["-f", "label=kind=web", "-f", "label=tier=1"], "test:latest\n"),
        (&["-f", "label=kind=db"], ""),
        (&["-f", "label!=kind"], "busybox:latest\n"),
        (&["-f", "reference=busy*"], "busybox:latest\n"),
        (&["-f", "dangling=true"], ""),
        (&["-f", "dangling=false", "-f", "since=busybox"], "test:latest\n"),
        (&["-f", "before=test"], "busybox:latest\n"),
        (&["-f", "until=1h"], "busybox:latest\n"),
    ] {
        assert_eq!(shown(args), names, "{args:?}");
    }
    run(user, &["images", "-f", "colour=red"]).fails(2).stderr_has("there is no filter \"colour\"");
    run(user, &["images", "-f", "dangling=perhaps"]).fails(2).stderr_has("it is true or false");
    run(user, &["images", "-f", "until=perhaps"]).fails(2).stderr_has("it is a time");
    run(user, &["images", "--format", "{{.Nmae}}"]).fails(2).stderr_has("there is no field \"Nmae\"");
    run(user, &["images", "--digests"]).succeeds().stdout_has("sha256:");
    run(user, &["images", "--format", "json"]).succeeds().stdout_has("\"platforms\"");
    // Without a name it is still there until the next prune.
    run(user, &["untag", "test"]).succeeds();
    run(user, &["images", "-a"]).succeeds().stdout_has("<none>");
    assert_eq!(shown(&["-f", "dangling=true"]), "<none>:<none>\n");
    run(user, &["prune"]).succeeds();
    assert_eq!(shown(&["-a"]), "busybox:latest\n");
}

#[test]
fn inspect_answers_questions() {
    let project = Project::new().dockerfile("FROM busybox\nLABEL kind=web\nENV A=1\nCMD [\"serve\", \"--all\"]");
    let image = project.build().succeeds();
    let user = project.user();
    let asked = |args: &[&str]| run(user, &[&["inspect", "test"], args].concat()).succeeds().stdout;
    for (template, answer) in [
        ("{{.Config.Cmd}}", "[serve --all]\n"),
        ("{{json .Config.Cmd}}", "[\"serve\",\"--all\"]\n"),
        ("{{.Os}}/{{.Architecture}}", "linux/amd64\n"),
        ("{{index .Config.Labels \"kind\"}}", "web\n"),
        ("{{join .RepoTags \",\"}}", "test:latest\n"),
        ("{{range .Config.Env}}{{if .}}<{{.}}>{{end}}{{end}}", ""),
    ] {
        let said = asked(&["--format", template]);
        assert!(if answer.is_empty() { said.contains("<A=1>") } else { said == answer }, "{template}: {said}");
    }
    assert_eq!(asked(&["--format", "{{.Digest}}"]).trim(), image.digest());
    assert_eq!(asked(&["--type", "config", "--format", "{{.config.Cmd}}"]), "[serve --all]\n");
    assert_eq!(support_digest(&asked(&["--raw"])), image.digest());
    let config = image.manifest()["config"]["digest"].as_str().unwrap();
    assert_eq!(support_digest(&asked(&["--raw", "--type", "config"])), config);
    run(user, &["inspect", "--type", "index", "test"]).fails(2).stderr_has("is one image, not an index");
    run(user, &["inspect", "--format", "{{.Cmd", "test"]).fails(2).stderr_has("there is no }} behind");
    // At a place, without a store.
    let base = format!("oci:{}", support::base::busybox().display());
    let other = User::new();
    run(&other, &["inspect", &base]).succeeds().stdout_has("fixture.stand-in");
    assert!(!other.store().exists());
    let history = run(user, &["history", "--format", "{{.CreatedBy}}", "test"]).succeeds().stdout;
    assert!(history.lines().next().unwrap().contains("CMD"), "{history}");
    assert_eq!(run(user, &["history", "-q", "test"]).succeeds().stdout.lines().count(), image.layer_count());
}

#[test]
fn diff_says_in_what_images_differ() {
    let user = User::with_busybox();
    let build = |name: &str, text: &str| {
        Project::of(&user).dockerfile(text).named(&format!("{name}:latest")).build().succeeds();
    };
    build(
        "one",
        "FROM busybox\nENV A=1\nRUN mkdir /d /e && echo x >/d/f && echo x >/gone && echo x >/e/in && touch -d @1 /d/f",
    );
    build(
        "two",
        "FROM one\nENV A=2\nRUN echo longer >/d/f && rm /gone && echo y >/new && chmod 700 /d && rm -r /e && ln -s d /e",
    );
    let found = json(&run(&user, &["diff", "--json", "one", "two"]).succeeds().stdout);
    let paths = |kind: &str| -> Vec<String> {
        found[kind].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((paths("added"), paths("removed")), (vec!["/new".into()], vec!["/e/in".into(), "/gone".into()]));
    let changed = |path: &str| {
        let files = found["changed"].as_array().unwrap();
        files.iter().find(|file| file["path"] == path).unwrap_or_else(|| panic!("{path}: {found}")).clone()
    };
    assert_eq!((changed("/d/f")["from_size"].clone(), changed("/d/f")["to_size"].clone()), (2.into(), 7.into()));
    assert!(changed("/d")["what"].as_array().unwrap().contains(&"mode".into()));
    assert_eq!(changed("/e")["what"][0], "kind");
    assert!(found["config"].as_array().unwrap().iter().any(|field| field["field"] == "config.Env"), "{found}");
    let text = run(&user, &["diff", "one", "two"]).succeeds();
    text.stdout_has("+ /new (2 B)")
        .stdout_has("- /gone (2 B)")
        .stdout_has("~ /d/f (2 B → 7 B): content")
        .stdout_has("config config.Env");
    assert_eq!(run(&user, &["diff", "one", "one"]).succeeds().stdout, "");
    let place = format!("oci-archive:{}", user.new_dir().join("a.tar").display());
    run(&user, &["copy", "one", &place]).succeeds();
    assert_eq!(run(&user, &["diff", "one", &place]).succeeds().stdout, "");
}

fn support_digest(text: &str) -> String {
    coracle::oci::Digest::of(text.as_bytes()).to_string()
}

#[test]
fn names_come_and_go() {
    let user = User::with_busybox();
    run(&user, &["tag", "busybox", "a:1", "b:1"]).succeeds();
    assert_eq!(listed(&user).len(), 3);
    run(&user, &["untag", "a:1", "no-such"]).fails(1).stderr_has("no-such");
    assert_eq!(listed(&user).len(), 3, "all or none");
    run(&user, &["untag", "a:1"]).succeeds().stdout_has("docker.io/library/a:1");
    run(&user, &["rmi", "no-such"]).fails(1);
    run(&user, &["rmi", "--ignore", "no-such", "b:1"]).succeeds().stdout_has("b:1");
    run(&user, &["rmi", "--all"]).succeeds().stdout_has("busybox");
    assert_eq!(listed(&user).len(), 0);
}

fn chmod(mode: &str, path: &Path) {
    let status = std::process::Command::new("chmod").arg("-R").arg(mode).arg(path).status();
    assert!(status.unwrap().success());
}

fn chmod_one(mode: &str, path: &Path) {
    assert!(std::process::Command::new("chmod").arg(mode).arg(path).status().unwrap().success());
}

#[test]
fn a_template_makes_a_table_with_a_head() {
    let user = User::with_busybox();
    let list = |format: &str| user.coracle(["images", "--format", format]).run().succeeds().stdout;
    let table = list("table {{.Repository}}\\t{{.ID}}\\t{{.CreatedSince}}\\t{{.MediaType}}");
    let lines: Vec<&str> = table.lines().collect();
    let head: Vec<&str> = lines[0].split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(head, ["REPOSITORY", "IMAGE ID", "CREATED", "MEDIA TYPE"]);
    assert_eq!(lines[0].find("IMAGE ID"), lines[1].find("sha256:"), "{table}");
    assert!(!list("{{.Repository}}").contains("REPOSITORY"));
    user.coracle(["prune", "-f"]).run().succeeds();
}
