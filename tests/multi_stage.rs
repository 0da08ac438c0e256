//! Builds of several stages: what runs, what does not, and what runs at the same time.

mod support;

use support::{Project, User};

#[test]
fn the_last_stage_is_the_image() {
    let image = Project::new()
        .file("page.html", "hello")
        .dockerfile(
            "
            FROM busybox AS construct
            COPY page.html /web/site/
            FROM busybox
            COPY --from=construct /web/site /site
            ",
        )
        .build()
        .succeeds();
    image.has_layers(2);
    image.top_layer().has_file("site/page.html", "hello").has_no("web");
}

// Rule 3, second half.
#[test]
fn a_path_in_a_stage_begins_at_its_root() {
    let image = Project::new()
        .dockerfile(
            "
            FROM busybox AS made
            WORKDIR /place
            RUN echo 1 >/f && echo 2 >/place/f
            FROM busybox
            COPY --from=made f /f
            COPY --from=0 place/f /g
            ",
        )
        .build()
        .succeeds();
    image.has_file("f", "1\n").has_file("g", "2\n");
}

#[test]
fn a_stage_can_stand_on_a_stage() {
    let image = Project::new()
        .dockerfile(
            "
            FROM busybox AS lower
            ENV A=1
            WORKDIR /w
            FROM lower
            RUN echo $A >f
            ",
        )
        .build()
        .succeeds();
    image.has_file("w/f", "1\n");
    assert_eq!(image.env("A"), Some("1"));
}

#[test]
fn copy_from_takes_an_image_too() {
    let user = User::with_busybox();
    Project::of(&user).named("other:1").dockerfile("FROM busybox\nRUN echo 1 >/one").build().succeeds();
    let image = Project::of(&user).dockerfile("FROM scratch\nCOPY --from=other:1 /one /").build().succeeds();
    image.has_layers(1).has_file("one", "1\n");
}

// Rule 35.
#[test]
fn stages_that_the_target_does_not_need_do_not_run() {
    let project = Project::new().dockerfile(
        "
        FROM busybox AS needed
        RUN echo 1 >/one
        FROM busybox AS broken
        RUN exit 3
        FROM busybox AS target
        COPY --from=needed /one /
        FROM broken
        ",
    );
    project.clone().arg("--target=target").build().succeeds().has_file("one", "1\n");
    project.build().fails(1).stderr_has("3");
}

#[test]
fn a_later_stage_cannot_be_copied_from() {
    Project::new()
        .dockerfile("FROM busybox AS first\nCOPY --from=later /x /\nFROM busybox AS later\nFROM first\n")
        .build()
        .fails_cleanly()
        .stderr_has("later")
        .stderr_has("Dockerfile:2");
}

#[test]
fn independent_stages_run_at_the_same_time() {
    // Each waits for the other one, which would take for ever if they came one after the other.
    let meet = |own: &str, other: &str| {
        format!(
            "RUN --mount=type=cache,target=/meet touch /meet/{own}; n=0; until [ -e /meet/{other} ]; \
             do n=$((n+1)); [ $n -lt 1200 ] || exit 9; sleep 0.1; done; echo {own} >/{own}"
        )
    };
    let (a, b) = (meet("a", "b"), meet("b", "a"));
    let file = format!(
        "FROM busybox AS a\n{a}\nFROM busybox AS b\n{b}\nFROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
    );
    let built = Project::new().dockerfile(&file).arg("--jobs=2").build();
    built.succeeds().has_file("a", "a\n").has_file("b", "b\n");
}

#[test]
fn equal_steps_run_once() {
    let image = Project::new()
        .dockerfile(
            "
            FROM busybox AS a
            RUN cat /proc/sys/kernel/random/uuid >/id
            FROM busybox AS b
            RUN cat /proc/sys/kernel/random/uuid >/id
            FROM scratch
            COPY --from=a /id /a
            COPY --from=b /id /b
            ",
        )
        .build()
        .succeeds();
    assert_eq!(image.text("a"), image.text("b"));
}

#[test]
fn the_stage_that_failed_is_the_one_in_the_message() {
    let failed = Project::new()
        .dockerfile(
            "
            FROM busybox AS slow
            RUN sleep 30
            FROM busybox AS bad
            RUN sleep 0.5; echo the real problem; exit 7
            FROM busybox
            COPY --from=slow /etc /a
            COPY --from=bad /etc /b
            ",
        )
        .build()
        .fails(1);
    failed.stderr_has("the real problem").stderr_has("Dockerfile:4").stderr_has("exit status 7");
}
