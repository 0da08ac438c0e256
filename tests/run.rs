//! RUN: what a command finds, and what stays of it.

mod support;

use std::time::{Duration, Instant};

use support::{Image, Project, processes_with};

/// The image of `FROM busybox` and these lines.
fn image(lines: &str) -> Image {
    Project::new().dockerfile(&format!("FROM busybox\n{}", support::dedent(lines))).build().succeeds()
}

#[test]
fn the_exit_status_of_a_command_is_in_the_message() {
    let failed = Project::new().dockerfile("FROM busybox\nRUN true\nRUN echo why >&2; exit 7").build().fails(1);
    failed.stderr_has("why").stderr_has("7").stderr_has("Dockerfile:3");
}

#[test]
fn a_command_whose_child_was_killed_is_told_about_memory() {
    // The command is process 1, which nobody inside can kill.
    let failed = Project::new().dockerfile("FROM busybox\nRUN sh -c 'kill -KILL $$'; exit $?").build().fails(1);
    failed.stderr_has("Dockerfile:2").stderr_has("137").stderr_has("memory");
}

#[test]
fn the_name_of_the_host_is_the_same_everywhere_unless_a_build_argument_says_one() {
    let project = Project::new().dockerfile(
        "FROM busybox\nRUN hostname >/name && grep -c \"[[:space:]]$(hostname)\\$\" /etc/hosts >/known || true",
    );
    project.build().succeeds().has_file("name", "coracle\n");
    let named = |name: &str| project.clone().arg(&format!("--build-arg=BUILDKIT_SANDBOX_HOSTNAME={name}")).build();
    let image = named("builder-7.example").cached(0).stderr_has_no("no ARG declares").succeeds();
    image.has_file("name", "builder-7.example\n").has_file("known", "1\n");
    named("builder-7.example").cached(1).succeeds();
    named("").cached(1).succeeds().has_file("name", "coracle\n");
    for bad in ["two words", "a\nb", &"x".repeat(65)] {
        named(bad).fails(3).stderr_has("is no name of a host");
    }
}

#[test]
fn a_command_has_environment_and_working_directory() {
    let image = image(
        "
        ARG GIVEN=arg
        ENV NAME=value
        WORKDIR /w
        RUN echo $NAME $GIVEN $PWD $HOME >out
        ",
    );
    image.has_file("w/out", "value arg /w /root\n");
    assert_eq!(image.env("GIVEN"), None);
    assert_eq!(image.env("HOME"), None);
}

#[test]
fn nothing_of_the_callers_environment_reaches_a_command() {
    let project = Project::new().dockerfile("FROM busybox\nRUN env >/env");
    let built = project.built(project.call().env("SECRET_OF_THE_CALLER", "x").run());
    assert!(!built.succeeds().text("env").contains("SECRET_OF_THE_CALLER"));
}

#[test]
fn the_exec_form_needs_no_shell() {
    image(r#"RUN ["/bin/touch", "/a b", "/$HOME"]"#).has_file("a b", "").has_file("$HOME", "");
}

#[test]
fn shell_changes_the_shell() {
    let image = image("SHELL [\"/bin/sh\", \"-ec\"]\nRUN echo $- >/flags");
    assert!(image.text("flags").contains('e'), "the shell has no -e");
}

#[test]
fn a_command_reads_an_empty_standard_input_and_has_no_terminal() {
    image("RUN cat >/in; if (: </dev/tty) 2>/dev/null; then echo tty; else echo none; fi >/tty")
        .has_file("in", "")
        .has_file("tty", "none\n");
}

// Rule 41.
#[test]
fn what_a_command_leaves_running_ends_with_it() {
    let mark = format!("7{}", std::process::id());
    let begin = Instant::now();
    image(&format!("RUN sleep {mark} & echo started"));
    assert!(begin.elapsed() < Duration::from_secs(60));
    assert!(processes_with(&format!("sleep {mark}")).is_empty());
}

#[test]
fn a_command_sees_its_own_processes_only() {
    let image = image("RUN ls -d /proc/[0-9]* | wc -l >/count && echo $$ >/pid");
    let count: usize = image.text("count").trim().parse().unwrap();
    assert!(count < 8, "{count} processes");
}

#[test]
fn a_command_has_dockers_default_capabilities() {
    image("RUN grep CapEff /proc/self/status >/cap && grep CapBnd /proc/self/status >>/cap")
        .has_file("cap", "CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\n");
}

#[test]
fn sys_is_read_only_and_devices_are_the_harmless_ones() {
    let image = image(
        "
        RUN (mkdir /sys/x) 2>/dev/null && echo writable >/sys-is || echo readonly >/sys-is
        RUN echo lost >/dev/null && head -c 4 /dev/zero | wc -c >/zero && ls /dev >/devices
        ",
    );
    image.has_file("sys-is", "readonly\n").has_file("zero", "4\n");
    let devices = image.text("devices");
    for name in ["full", "null", "random", "urandom", "zero", "tty", "shm", "pts", "fd", "stdin"] {
        assert!(devices.lines().any(|device| device == name), "no /dev/{name} in {devices}");
    }
}

// Rule 37.
#[test]
fn files_that_are_lent_for_the_run_do_not_stay() {
    let image = image(
        "
        RUN true
        RUN test -s /etc/hosts && test -e /etc/resolv.conf && test -e /proc/self/status && test -e /dev/null
        ",
    );
    image.top_layer().is_empty();
    image.has_no("etc/hosts").has_no("etc/resolv.conf").has_no("dev/null");
}

// Rule 37, second half.
#[test]
fn the_images_own_resolver_file_survives() {
    let project = Project::new()
        .file("resolv.conf", "own")
        .dockerfile("FROM busybox\nCOPY resolv.conf /etc/resolv.conf\nRUN echo changed >>/etc/resolv.conf || true");
    project.build().succeeds().has_file("etc/resolv.conf", "own");
}

// Rule 38: as BuildKit does it; the classic builder leaves them out.
#[test]
fn the_folders_that_a_command_on_nothing_needs_stay_in_the_image() {
    let project = Project::new().dockerfile(
        "FROM busybox AS tools\nFROM scratch\nCOPY --from=tools /bin/busybox /bin/sh\nRUN [\"/bin/sh\", \"-c\", \"echo x >/x\"]",
    );
    let image = project.build().succeeds();
    let layer = image.top_layer();
    layer.has_dir("dev").has_dir("proc").has_dir("sys").has_file("x", "x\n").is_canonical();
    layer.has_no("etc").has_no("run").has_no("dev/null").has_no("proc/1");
    // Where they are there already, they are not touched.
    let image = Project::new()
        .dockerfile("FROM busybox\nRUN mkdir -p /proc /sys /dev && echo x >/x\nRUN echo y >/y")
        .build()
        .succeeds();
    image.top_layer().has_no("dev").has_no("proc").has_no("sys").has_file("y", "y\n");
}

// Rule 40.
#[test]
fn a_command_that_changes_nothing_makes_an_empty_layer() {
    let image = image("RUN true\nRUN true");
    image.has_layers(3);
    image.top_layer().is_empty();
    let diff_id = image.document()["rootfs"]["diff_ids"][2].as_str().unwrap().to_string();
    assert_eq!(diff_id, "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef");
}

// Rules 42 and 43.
#[test]
fn what_a_command_removes_is_whited_out() {
    let image = image(
        "
        RUN mkdir -p /d/e /f && echo 1 >/d/one && echo 2 >/f/two
        RUN rm -r /d/one /f && echo file >/f
        ",
    );
    image.top_layer().removes("d/one").has_file("f", "file\n").is_canonical();
    image.has_no("d/one").has_dir("d/e").has_file("f", "file\n").has_no("f/two");
}

// Rule 44.
#[test]
fn a_directory_that_is_made_anew_is_empty() {
    let image = image("RUN mkdir /d && echo 1 >/d/one\nRUN rm -rf /d && mkdir /d && echo 2 >/d/two");
    image.has_no("d/one").has_file("d/two", "2\n");
}

// Rule 44, second half: copied up, but changed back.
#[test]
fn a_file_that_is_changed_back_is_not_in_the_layer() {
    let image = image("RUN echo 1 >/one && touch -d @1000 /one\nRUN chmod 600 /one && chmod 644 /one && touch /two");
    image.top_layer().has_no("one").has_file("two", "");
}

#[test]
fn links_owners_and_modes_that_a_command_makes_are_in_the_layer() {
    let image = image("RUN echo x >/f && ln /f /g && ln -s /f /l && mkfifo /p && chown 1000:50 /f && chmod 6711 /f");
    image.has_owner("f", "1000:50", 0o6711).has_owner("g", "1000:50", 0o6711).has_link("l", "/f");
    image.top_layer().is_canonical();
}

// Rule 52.
#[test]
fn a_shell_that_is_not_there_is_named() {
    let project = Project::new().file("a", "").dockerfile("FROM scratch\nCOPY a /\nRUN true");
    project.build().fails(1).stderr_has("/bin/sh");
}

#[test]
fn steps_that_change_nothing_or_the_same_again_are_layers_too() {
    let image = image(
        "
        RUN true
        RUN true again
        RUN echo 1 >/f; touch -d @1000 /f /
        RUN echo 2 >/f; touch -d @1000 /f /
        RUN echo 1 >/f; touch -d @1000 /f /
        RUN cat /f >/g
        ",
    );
    image.has_file("f", "1\n").has_file("g", "1\n");
    assert_eq!(image.history().iter().filter(|step| step["empty_layer"] != true).count(), 7);
}

#[test]
fn an_image_cannot_lead_the_mounts_of_a_step_out_of_it() {
    let user = support::User::with_busybox();
    let secret = user.home().join("secret");
    std::fs::write(&secret, "of the host").unwrap();
    for name in ["proc", "sys", "dev"] {
        for target in ["..", "/..", "../..", "/proc/self/cwd", "/proc/self/root", "/proc/1/root/.."] {
            let dockerfile = format!(
                "FROM busybox AS tools\nFROM scratch\nCOPY --from=tools /bin /bin\nCOPY d /\n\
                 RUN cat /..{secret} >/got; echo x >/..{secret}; true\n",
                secret = secret.display()
            );
            let project =
                Project::of(&user).folder("d").link(&format!("d/{name}"), target).file("Dockerfile", dockerfile);
            let failed = project.arg("--no-cache").build().fails(3);
            failed.stderr_has(&format!("/{name}")).stderr_has("symbolic link");
            assert_eq!(std::fs::read_to_string(&secret).unwrap(), "of the host", "{name} -> {target}");
        }
    }
}

#[test]
fn output_that_comes_in_the_middle_of_a_character_is_not_spoilt() {
    let built = Project::new().dockerfile("FROM busybox\nRUN printf 'caf\\303'; sleep 0.1; printf '\\251\\n'").build();
    built.stderr_has("café").succeeds();
}

// Rule 52, second half.
#[test]
fn a_resolver_link_that_leads_nowhere_does_not_reach_the_host() {
    let image = Project::new()
        .folder("etc")
        .link("etc/resolv.conf", "../../../tmp/nowhere")
        .dockerfile("FROM busybox\nCOPY etc /etc/\nRUN echo x >/x")
        .build()
        .succeeds();
    image.has_link("etc/resolv.conf", "../../../tmp/nowhere").has_file("x", "x\n").has_no("tmp/nowhere");
}

#[test]
fn bytes_that_are_no_text_do_no_harm_in_the_output() {
    let built =
        Project::new().file("Dockerfile", "FROM busybox\nRUN printf 'before\\033]0;title\\007\\377after\\n'\n").build();
    assert!(built.stderr.contains("before") && built.stderr.contains("after"), "{}", built.stderr);
    assert!(!built.stderr.contains('\u{7}'), "control bytes reach the terminal");
    built.succeeds();
}

#[test]
fn what_is_made_again_is_a_change_however_fast_it_was() {
    let image = image(
        "
        RUN mkdir /d && echo same >/d/f
        RUN rm -r /d && mkdir /d && echo same >/d/f
        RUN touch /d/f
        RUN touch /d/x && rm /d/x
        RUN touch -r /d/f /d/f
        ",
    );
    image.layer(2).has_file("d/f", "same\n");
    image.layer(3).has_file("d/f", "same\n");
    image.layer(4).has_dir("d").has_no("d/f");
    image.top_layer().is_empty();
}

// As with BuildKit.
#[test]
fn a_working_directory_that_is_missing_is_made_for_the_user_of_the_step() {
    let image = image(
        "
        WORKDIR /w
        RUN rmdir /w
        RUN pwd >/tmp/p
        WORKDIR /of/user
        RUN rmdir /of/user /of && ln -s /linked/to /of
        USER 1000:50
        RUN pwd >/tmp/q && touch made
        ",
    );
    image.has_file("tmp/p", "/w\n").has_owner("w", "0:0", 0o755).has_file("tmp/q", "/linked/to/user\n");
    for dir in ["linked", "linked/to", "linked/to/user"] {
        image.has_owner(dir, "1000:50", 0o755).top_layer().has_dir(dir);
    }
    image.has_link("of", "/linked/to").top_layer().has_file("linked/to/user/made", "");
}

#[test]
fn a_working_directory_in_a_mount_is_made_there() {
    let lines = "
        WORKDIR /c/sub
        RUN --mount=type=cache,target=/c pwd >/tmp/p && touch there
        RUN --mount=type=cache,target=/c ls /c/sub >/tmp/list
        RUN ls /c/sub >/tmp/none
        RUN --mount=type=tmpfs,target=/c pwd >/tmp/q
        ";
    let image = image(lines);
    image.has_file("tmp/p", "/c/sub\n").has_file("tmp/list", "there\n").has_file("tmp/none", "");
    image.has_file("tmp/q", "/c/sub\n").has_dir("c/sub").has_no("c/sub/there");
}

#[test]
fn a_command_is_in_its_working_directory_though_its_user_may_not_enter_it() {
    let image =
        image("WORKDIR /root/x\nRUN chmod 700 /root\nUSER 1000\nRUN pwd >/tmp/p; ls . || cd .. || touch /tmp/closed");
    image.has_file("tmp/p", "/root/x\n");
}

#[test]
fn a_working_directory_that_is_a_file_is_named() {
    let failed = Project::new().dockerfile("FROM busybox\nWORKDIR /w\nRUN rmdir /w && touch /w\nRUN true").build();
    failed.fails(1).stderr_has("Dockerfile:4").stderr_has("cannot enter the working directory \"/w\"");
}
