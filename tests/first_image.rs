//! The first image: a Dockerfile, a file, an image.

mod support;

use serde_json::json;
use support::{Project, User, base};

#[test]
fn a_file_goes_into_an_image() {
    let image = Project::new()
        .file("page.html", "hello")
        .dockerfile(
            "
            FROM busybox
            COPY page.html /site/
            ",
        )
        .build()
        .succeeds();
    image.has_layers(2);
    image.top_layer().has_file("site/page.html", "hello").has_no("page.html").is_canonical();
}

#[test]
fn a_command_makes_a_file() {
    let image = Project::new().dockerfile("FROM busybox\nRUN echo made >/made").build().succeeds();
    image.top_layer().has_file("made", "made\n").is_canonical();
    assert!(image.last_step().starts_with("RUN /bin/sh -c echo made >/made"), "{}", image.last_step());
}

#[test]
fn an_image_from_scratch_has_one_layer() {
    let image = Project::of(&User::new())
        .file("a", "text")
        .dockerfile("FROM scratch\nCOPY a /b\nCMD [\"/b\"]")
        .build()
        .succeeds();
    image.has_layers(1).has_file("b", "text").has_owner("b", "0:0", 0o644);
    assert_eq!(image.config()["Cmd"], json!(["/b"]));
}

// Rules 26 to 28 and 33 of a Dockerfile's meaning: what the configuration holds.
#[test]
fn the_configuration_holds_what_the_dockerfile_says() {
    let image = Project::new()
        .dockerfile(
            r#"
            FROM busybox
            MAINTAINER somebody
            ENV A=1 B=$A
            ENV C two words
            LABEL one=1 two="2 3"
            WORKDIR /srv
            WORKDIR www
            USER 33
            EXPOSE 8080 53/UDP
            VOLUME /data
            STOPSIGNAL SIGINT
            SHELL ["/bin/ash", "-c"]
            CMD echo hello
            "#,
        )
        .build()
        .succeeds();
    assert_eq!(image.env("A"), Some("1"));
    assert_eq!(image.env("B"), Some(""), "an instruction uses the variables before it");
    assert_eq!(image.env("C"), Some("two words"));
    assert!(image.env("PATH").is_some_and(|path| path.contains("/usr/bin")));
    let config = image.config();
    assert_eq!((&config["Labels"]["one"], &config["Labels"]["two"]), (&json!("1"), &json!("2 3")));
    assert!(config["Labels"]["fixture.stand-in"].is_string(), "labels of the base stay");
    assert_eq!((&config["WorkingDir"], &config["User"]), (&json!("/srv/www"), &json!("33")));
    assert_eq!(config["ExposedPorts"], json!({"53/udp": {}, "8080/tcp": {}}));
    assert_eq!(config["Volumes"], json!({"/data": {}}));
    assert_eq!(config["StopSignal"], json!("SIGINT"));
    assert_eq!(config["Shell"], json!(["/bin/ash", "-c"]));
    assert_eq!(config["Cmd"], json!(["/bin/ash", "-c", "echo hello"]));
    assert_eq!(image.document()["author"], json!("somebody"));
    assert_eq!((&image.document()["os"], &image.document()["architecture"]), (&json!("linux"), &json!("amd64")));
}

// Rule 27.
#[test]
fn an_entrypoint_drops_the_command_of_the_base_but_not_the_stages_own() {
    let drops = Project::new().dockerfile("FROM busybox\nENTRYPOINT [\"x\"]").build().succeeds();
    assert!(drops.config().get("Cmd").is_none_or(|cmd| cmd.is_null()), "{}", drops.config());
    let keeps = Project::new().dockerfile("FROM busybox\nCMD [\"c\"]\nENTRYPOINT [\"x\"]").build().succeeds();
    assert_eq!(keeps.config()["Cmd"], json!(["c"]));
}

// Rules 29 and 34.
#[test]
fn a_working_directory_is_made_and_counts_as_a_layer() {
    let image = Project::new().dockerfile("FROM busybox\nWORKDIR /a/b\nENV X=1").build().succeeds();
    image.has_layers(2).has_dir("a/b").has_owner("a", "0:0", 0o755);
    let empty: Vec<_> = image.history().iter().map(|entry| entry["empty_layer"] == true).collect();
    assert_eq!(empty, [false, true, false, true]);
}

#[test]
fn an_image_can_stand_on_another_that_was_built_here() {
    let user = User::with_busybox();
    Project::of(&user).named("lower:1").dockerfile("FROM busybox\nENV A=1\nRUN echo 1 >/one").build().succeeds();
    let image = Project::of(&user).dockerfile("FROM lower:1\nRUN echo $A >/two").build().succeeds();
    image.has_layers(3).has_file("one", "1\n").has_file("two", "1\n");
}

#[test]
fn a_layout_can_be_a_base_without_a_pull() {
    let from = format!("FROM oci:{}:docker.io/library/busybox:latest\nRUN true\n", base::busybox().display());
    Project::of(&User::new()).file("Dockerfile", from).build().succeeds().has_layers(2);
}

#[test]
fn containerfile_is_a_name_for_it_too_and_another_can_be_given() {
    let project = Project::new().file("Containerfile", "FROM busybox\nENV WHICH=containerfile\n");
    assert_eq!(project.build().succeeds().env("WHICH"), Some("containerfile"));
    let project = project.file("other", "FROM busybox\nENV WHICH=other\n");
    let other = project.path("other");
    let image = project.arg("-f").arg(&other.display().to_string()).build().succeeds();
    assert_eq!(image.env("WHICH"), Some("other"));
}

#[test]
fn a_base_may_be_named_by_its_digest_or_lie_outside_of_the_store() {
    let base = support::Image::only(&support::base::busybox());
    let layout = support::base::busybox();
    let by_digest = format!("busybox@{}", base.digest());
    let outside = format!("oci:{}:docker.io/library/busybox:latest", layout.display());
    for name in [&by_digest, &format!("busybox:latest@{}", base.digest()), &outside] {
        let dockerfile = format!("FROM {name}\nCOPY --from={name} /etc/group /copied\n");
        let image = Project::new().file("Dockerfile", dockerfile).build().succeeds();
        image.has_file("copied", &base.text("etc/group"));
    }
    let unknown = format!("FROM busybox@sha256:{}\nRUN true\n", "0".repeat(64));
    Project::new().file("Dockerfile", unknown).arg("--pull=never").build().fails(3).stderr_has("Dockerfile:1");
}
