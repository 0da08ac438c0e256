//! The language of Dockerfiles, from the file to the image: what only a whole build shows. All the rest is in `tests/corpus` and in the
//! tests of the rooms `dockerfile` and `plan`. The numbers are those of the list in docs/dockerfile.md.

mod support;

use serde_json::json;
use support::{Project, User};

#[test]
fn a_heredoc_of_run_is_the_script_of_the_shell() {
    let image = Project::new()
        .dockerfile(
            "
            FROM busybox
            ARG who=world
            RUN <<EOF
            set -e
            echo \"hello $who\" >/one
            EOF
            RUN cat <<-a <<'b' >/two && cat >>/two <<c
            \t$who
            \ta
            b
            $who
            c
            ",
        )
        .build()
        .succeeds();
    let tree = image.tree();
    tree.get("one").expect("made").is_file("one", "hello world\n");
    tree.get("two").expect("made").is_file("two", "world\n");
}

#[test]
fn rule_31_what_comes_behind_a_volume_stays_and_its_folder_is_not_made() {
    let image = Project::new()
        .dockerfile("FROM busybox\nVOLUME /kept /not-made\nRUN mkdir /kept && echo 1 >/kept/f\n")
        .build()
        .succeeds();
    image.tree().get("kept/f").expect("kept").is_file("kept/f", "1\n");
    assert!(image.tree().get("not-made").is_none());
    assert_eq!(image.config()["Volumes"], json!({"/kept": {}, "/not-made": {}}));
}

#[test]
fn rule_32_the_triggers_of_an_image_are_done_in_the_one_that_stands_on_it() {
    let user = User::with_busybox();
    let maker = Project::of(&user)
        .dockerfile("FROM busybox\nONBUILD COPY f /copied\nONBUILD RUN echo run >/ran\nRUN echo maker >/maker\n")
        .named("maker:1");
    let image = maker.build().succeeds();
    assert_eq!(image.config()["OnBuild"], json!(["COPY f /copied", "RUN echo run >/ran"]));
    assert!(image.tree().get("ran").is_none());

    let child = Project::of(&user).file("f", "f").dockerfile("FROM maker:1\nRUN cat /ran /copied >/both\n");
    let built = child.build().stderr_has("ONBUILD COPY f /copied").stderr_has("ONBUILD RUN echo run >/ran");
    let image = built.succeeds();
    image.tree().get("both").expect("made").is_file("both", "run\nf");
    assert!(image.config().get("OnBuild").is_none());
    child.build().cached(3);

    // The child of the child has none of them.
    let image = Project::of(&user).dockerfile("FROM test:latest\nRUN true\n").named("grandchild:1").build().succeeds();
    assert_eq!(image.history().iter().filter(|entry| entry.to_string().contains("echo run")).count(), 1);
}

#[test]
fn rule_32_a_trigger_that_fails_points_at_the_from() {
    let user = User::with_busybox();
    Project::of(&user).dockerfile("FROM busybox\nONBUILD RUN false\n").named("maker:1").build().succeeds();
    let outcome = Project::of(&user).dockerfile("FROM maker:1\n").build().fails(1);
    outcome.stderr_has("Dockerfile:1").stderr_has("ONBUILD RUN false");
}

#[test]
fn rule_28_a_healthcheck_is_in_the_configuration() {
    let image = Project::new()
        .dockerfile("FROM busybox\nHEALTHCHECK --interval=5s --retries=2 CMD wget -q localhost\n")
        .build()
        .succeeds();
    let expected = json!({"Test": ["CMD-SHELL", "wget -q localhost"], "Interval": 5_000_000_000u64, "Retries": 2});
    assert_eq!(image.config()["Healthcheck"], expected);
}

#[test]
fn rule_53_the_image_is_for_the_platform_that_is_asked_for() {
    let project = Project::new().file("f", "f").dockerfile("FROM scratch\nARG TARGETARCH\nCOPY f /$TARGETARCH\n");
    let image = project.arg("--platform=linux/arm64").build().succeeds();
    assert_eq!((&image.document()["os"], &image.document()["architecture"]), (&json!("linux"), &json!("arm64")));
    image.tree().get("arm64").expect("copied").is_file("arm64", "f");
}

#[test]
fn a_command_for_another_processor_is_refused_before_any_work_and_says_what_helps() {
    let project = Project::new()
        .file("f", "f")
        .dockerfile("FROM scratch\nCOPY f /f\nRUN [\"/f\"]\n")
        .arg("--platform=linux/wasm");
    let outcome = project.build().fails(6);
    outcome
        .stderr_has("Dockerfile:3")
        .stderr_has("this machine cannot run programs for linux/wasm")
        .stderr_has("qemu-user-static");
}

#[test]
fn source_date_epoch_is_a_build_argument_and_an_arg() {
    let created = |project: Project| project.build().succeeds().document()["created"].as_str().unwrap().to_owned();
    let project = |text: &str| Project::new().file("f", "f").dockerfile(text);
    let of_file = project("ARG SOURCE_DATE_EPOCH=1000000000\nFROM scratch\nCOPY f /f\n");
    assert_eq!(created(of_file.clone()), "2001-09-09T01:46:40Z");
    assert_eq!(created(of_file.arg("--build-arg=SOURCE_DATE_EPOCH=0")), "1970-01-01T00:00:00Z");
    let bad = project("FROM scratch\n").arg("--build-arg=SOURCE_DATE_EPOCH=soon").build();
    bad.fails(2).stderr_has("soon");
}
