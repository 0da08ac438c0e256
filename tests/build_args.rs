//! ARG, ENV and --build-arg.

mod support;

use support::Project;

/// What `echo` of these words says in the last line of a Dockerfile.
fn echo(dockerfile: &str, words: &str, args: &[&str]) -> String {
    let mut project = Project::new().file("Dockerfile", format!("{dockerfile}\nRUN echo {words} >/out\n"));
    for arg in args {
        project = project.arg("--build-arg").arg(arg);
    }
    project.build().succeeds().text("out").trim().to_string()
}

// Rule 21.
#[test]
fn an_arg_before_from_is_seen_in_from_and_where_it_is_declared_again() {
    assert_eq!(echo("ARG V=latest\nFROM busybox:$V\nARG W=1", "[$V] $W", &[]), "[] 1");
    assert_eq!(echo("ARG V=latest\nFROM busybox:$V\nARG V", "[$V]", &[]), "[latest]");
}

#[test]
fn a_build_arg_beats_the_default() {
    assert_eq!(echo("FROM busybox\nARG V=1", "$V", &["V=2"]), "2");
    assert_eq!(echo("ARG V=none\nFROM busybox:$V\nARG V=1", "$V", &["V=latest"]), "latest");
}

#[test]
fn a_build_arg_without_a_value_comes_from_the_environment() {
    let project = Project::new().dockerfile("FROM busybox\nARG V=1\nRUN echo $V >/out").arg("--build-arg=V");
    let built = project.built(project.call().env("V", "caller").run());
    built.succeeds().has_file("out", "caller\n");
}

#[test]
fn a_build_arg_that_nobody_declares_is_a_warning() {
    let project = Project::new().dockerfile("FROM busybox\nENV A=1").arg("--build-arg=UNUSED=1");
    project.build().stderr_has("UNUSED").succeeds();
}

// Rule 22.
#[test]
fn a_stage_inherits_the_args_of_the_stage_it_stands_on() {
    assert_eq!(echo("FROM busybox AS a\nARG V=1\nFROM a", "$V", &[]), "1");
    assert_eq!(echo("FROM busybox AS a\nARG V=1\nFROM busybox", "[$V]", &[]), "[]");
}

// Rule 23.
#[test]
fn of_arg_and_env_the_later_wins() {
    assert_eq!(echo("FROM busybox\nARG V=arg\nENV V=env", "$V", &["V=flag"]), "env");
    assert_eq!(echo("FROM busybox\nENV V=env\nARG V=arg", "$V", &["V=flag"]), "flag");
}

// Rule 24.
#[test]
fn an_instruction_is_expanded_as_a_whole() {
    let image = Project::new()
        .dockerfile(
            r#"
            FROM busybox
            ENV a=1
            ENV a=2 b=$a c=${a:-x} d=${none:-default} e=${a:+set} f=\$a g='$a'
            "#,
        )
        .build()
        .succeeds();
    let values = ["a", "b", "c", "d", "e", "f", "g"].map(|name| image.env(name).unwrap_or("(unset)"));
    assert_eq!(values, ["2", "1", "1", "default", "set", "$a", "$a"]);
}

// Rule 25.
#[test]
fn args_are_in_the_history_and_not_in_the_image() {
    let image =
        Project::new().dockerfile("FROM busybox\nARG A=1\nARG B\nRUN true").arg("--build-arg=B=2").build().succeeds();
    assert_eq!(image.env("A"), None);
    assert!(image.last_step().starts_with("RUN |2 A=1 B=2 /bin/sh -c true"), "{}", image.last_step());
}

// Rule 25, second half.
#[test]
fn a_proxy_reaches_the_step_but_neither_key_nor_history() {
    let project = Project::new().dockerfile("FROM busybox\nRUN echo $http_proxy >/out");
    let image = project.clone().arg("--build-arg=http_proxy=p1").build().succeeds();
    image.has_file("out", "p1\n");
    assert!(!image.document().to_string().contains("p1"));
    project.arg("--build-arg=http_proxy=p2").build().cached(1).succeeds();
}

#[test]
fn a_proxy_that_is_given_takes_the_place_of_one_that_the_image_has() {
    let dockerfile =
        "FROM busybox\nENV http_proxy= no_proxy=kept\nRUN [\"sh\", \"-c\", \"env | grep -i proxy | sort >/out\"]";
    let image = Project::new().dockerfile(dockerfile).arg("--build-arg=http_proxy=p1").build().succeeds();
    image.has_file("out", "HTTP_PROXY=p1\nhttp_proxy=p1\nno_proxy=kept\n");
    assert_eq!(image.env("http_proxy"), Some(""));
}

#[test]
fn the_escape_character_can_be_changed() {
    let dockerfile = "# escape=`\nFROM busybox\nENV A=a`\n  B=c:\\dir\n";
    let image = Project::new().file("Dockerfile", dockerfile).build().succeeds();
    assert_eq!((image.env("A"), image.env("B")), (Some("a"), Some("c:\\dir")));
}

#[test]
fn a_syntax_line_is_accepted_and_nothing_is_fetched() {
    Project::new().dockerfile("# syntax=example.invalid/frontend:1\nFROM busybox\nENV A=1").build().succeeds();
}
