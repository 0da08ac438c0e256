//! ARG and ENV: semantics 21 to 26.

use super::*;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns the environment of the first RUN, but for PATH.
fn env(case: Case) -> Vec<String> {
    let run = case.made().plan.runs()[0].clone();
    run.env.into_iter().filter(|entry| entry != PATH).collect()
}

fn base(case: Case) -> Base {
    case.made().plan.last().base.clone()
}

#[test]
fn rule_21_an_arg_before_from_is_for_from_lines_and_a_stage_must_ask_for_it() {
    let text = "ARG V=1\nARG W=a$V\nFROM base\nARG W\nRUN x $V\n";
    assert_eq!(env(case(text)), ["W=a1"]);
    let from = "ARG TAG=1\nFROM img:$TAG\nRUN x\n";
    assert_eq!(base(case(from).image("img:1", |_| {})), Base::Image("img:1".into()));
    assert_eq!(base(case(from).arg("TAG", "2").image("img:2", |_| {})), Base::Image("img:2".into()));
}

#[test]
fn rule_21_a_build_arg_beats_both_defaults() {
    let text = "ARG V=1\nFROM base\nARG V=2\nRUN x\n";
    assert_eq!(env(case(text)), ["V=2"]);
    assert_eq!(env(case(text).arg("V", "3")), ["V=3"]);
    assert_eq!(env(case(text).arg("V", "3").arg("V", "4")), ["V=4"]);
    assert_eq!(env(case("ARG V=1\nFROM base\nARG V\nRUN x\n").arg("V", "3")), ["V=3"]);
}

#[test]
fn an_arg_without_any_value_is_not_set() {
    assert_eq!(env(case("FROM base\nARG V\nRUN x\n")), [""; 0]);
    assert_eq!(case("FROM base\nARG V\nENV a=${V-unset}\n").made().plan.exec_config().env_value("a"), Some("unset"));
}

#[test]
fn a_base_that_is_empty_or_cannot_be_expanded_is_an_error_once() {
    assert_eq!(case("ARG B\nFROM $B\n").errors(), ["2: `$B` is empty after expansion"]);
    assert_eq!(case("FROM ${B:?which}\n").errors(), ["1: B: which"]);
    assert_eq!(case("ARG B=${C?no}\nFROM base\n").errors(), ["1: C: no"]);
}

#[test]
fn rule_21_a_build_arg_that_nothing_declares_is_a_warning() {
    let made = case("ARG VERSION\nFROM base\n").arg("VERSOIN", "1").arg("x", "").made();
    assert_eq!(
        made.warnings,
        ["0: no ARG declares the build argument `VERSOIN`", "0: no ARG declares the build argument `x`"]
    );
    let fine =
        case("FROM base AS other\nARG A\nFROM base\n").arg("A", "1").arg("http_proxy", "x").arg("TARGETARCH", "x");
    assert_eq!(fine.arg("BUILDKIT_BUILD_NAME", "1").arg("SOURCE_DATE_EPOCH", "0").made().warnings, [""; 0]);
    let slip = case("FROM base\n").arg("BUILDKIT_SANDBOX_HOSTNAMES", "x").arg("BUILDKIT_NEW_THING", "1").made();
    assert_eq!(
        slip.warnings,
        [
            "0: no ARG declares the build argument `BUILDKIT_SANDBOX_HOSTNAMES`",
            "0: no ARG declares the build argument `BUILDKIT_NEW_THING`",
        ]
    );
}

#[test]
fn rule_22_a_stage_on_a_stage_inherits_args_env_workdir_user_and_shell() {
    let plan = plan(
        "FROM base AS a\nARG A=1\nENV E=2\nWORKDIR /w\nUSER u\nSHELL [\"/bin/bash\", \"-c\"]\nFROM a\nENV F=$A$E\nRUN x\n",
    );
    let run = plan.runs()[0];
    assert_eq!(run.env, [PATH, "E=2", "F=12", "A=1"]);
    assert_eq!((run.cwd.as_str(), run.user.as_str()), ("/w", "u"));
    assert_eq!(run.args, ["/bin/bash", "-c", "x"]);
    assert_eq!(plan.history().last().unwrap().0, "RUN |1 A=1 /bin/bash -c x # buildkit");
    assert_eq!(plan.exec_config().env, [PATH, "E=2", "F=12"]);
}

#[test]
fn rule_23_of_env_and_arg_the_later_one_wins() {
    assert_eq!(env(case("FROM base\nENV X=env\nARG X=arg\nRUN x\n")), ["X=arg"]);
    assert_eq!(env(case("FROM base\nARG X=arg\nENV X=env\nRUN x\n")), ["X=env"]);
    assert_eq!(env(case("FROM base\nARG X=arg\nENV X=env\nRUN x\n").arg("X", "given")), ["X=env"]);
}

#[test]
fn rule_23_the_env_of_a_base_image_is_earlier_than_an_arg_which_is_not_persisted() {
    let made = case("FROM base\nARG X\nRUN x\n")
        .arg("X", "given")
        .image("base", |config| config.config.env = vec![PATH.into(), "X=base".into()])
        .made();
    assert_eq!(made.plan.runs()[0].env, [PATH, "X=given"]);
    assert_eq!(made.plan.exec_config().env, [PATH, "X=base"]);
}

#[test]
fn from_sets_the_env_of_a_stage_anew() {
    let text = "FROM base AS a\nENV X=env\nARG X=arg\nRUN a\nFROM a\nRUN b\n";
    assert_eq!(env(case(text)), ["X=env"]);
}

#[test]
fn rule_24_an_instruction_sees_the_values_from_before_it() {
    let plan = plan("FROM base\nENV a=1\nENV a=2 b=$a\nENV c=$a$b\n");
    assert_eq!(plan.exec_config().env, [PATH, "a=2", "b=1", "c=21"]);
    // ARG is several instructions on one line.
    assert_eq!(env(case("FROM base\nARG A=1 B=$A\nRUN x\n")), ["A=1", "B=1"]);
}

#[test]
fn rule_24_the_old_form_of_env_keeps_its_spaces() {
    let plan = plan("FROM base\nENV a  x   y \"z\"\n");
    assert_eq!(plan.exec_config().env_value("a"), Some("x   y z"));
}

#[test]
fn rule_24_variables_are_expanded_where_buildkit_does_and_nowhere_else() {
    let made = case(
        "\
FROM base
ENV v=1
LABEL l$v=$v
WORKDIR /w$v
EXPOSE 80$v
VOLUME /v$v
USER u$v
STOPSIGNAL SIGRTMIN+$v
COPY --chown=$v --chmod=75$v a$v /b$v
RUN echo $v
CMD echo $v
ENTRYPOINT [\"echo\", \"$v\"]
SHELL [\"$v\"]
",
    )
    .made();
    let config = made.plan.exec_config();
    assert_eq!(config.labels["l1"], "1");
    assert_eq!(config.working_dir, "/w1");
    assert!(config.exposed_ports.contains_key("801/tcp") && config.volumes.contains_key("/v1"));
    assert_eq!((config.user.as_str(), config.stop_signal.as_deref()), ("u1", Some("SIGRTMIN+1")));
    let copy = made.plan.copies()[0];
    assert_eq!((copy.paths()[0], copy.destination.as_str()), ("a1", "/b1"));
    assert_eq!((copy.chown.as_deref(), &copy.chmod), (Some("1"), &Some(Chmod::Octal(0o751))));
    assert_eq!(made.plan.runs()[0].args[2], "echo $v");
    assert_eq!(config.cmd.as_ref().unwrap()[2], "echo $v");
    assert_eq!(config.entrypoint.as_ref().unwrap()[1], "$v");
    assert_eq!(config.shell.as_ref().unwrap()[0], "$v");
}

#[test]
fn rule_25_args_are_in_the_environment_and_history_of_run_and_not_in_the_config() {
    let plan = plan("FROM base\nARG A=1\nARG B=2 C\nENV C=3\nRUN make\n");
    assert_eq!(plan.runs()[0].env, [PATH, "C=3", "A=1", "B=2"]);
    assert_eq!(plan.history().last().unwrap().0, "RUN |3 A=1 B=2 C=3 /bin/sh -c make # buildkit");
    assert_eq!(plan.exec_config().env, [PATH, "C=3"]);
    let args: Vec<&str> = plan.history().iter().take(2).map(|entry| entry.0).collect();
    assert_eq!(args, ["ARG A=1", "ARG B=2 C"]);
}

#[test]
fn rule_25_a_proxy_is_given_to_run_but_counts_nowhere_unless_it_is_declared() {
    let with = |text: &str| case(text).arg("HTTP_PROXY", "http://p").made().plan;
    let plan = with("FROM base\nRUN x\n");
    assert_eq!(plan.runs()[0].uncached_env, ["HTTP_PROXY=http://p", "http_proxy=http://p"]);
    assert_eq!(plan.runs()[0].env, [PATH]);
    assert_eq!(plan.history()[0].0, "RUN /bin/sh -c x # buildkit");
    let plan = with("FROM base\nARG HTTP_PROXY\nRUN x\n");
    assert_eq!(plan.runs()[0].env, [PATH, "HTTP_PROXY=http://p"]);
    assert_eq!(plan.runs()[0].uncached_env, ["http_proxy=http://p"]);
    assert_eq!(plan.history()[1].0, "RUN |1 HTTP_PROXY=http://p /bin/sh -c x # buildkit");
    // It wins against ENV, of the base image, too.
    let plan = with("FROM base\nENV http_proxy=old\nRUN x\n");
    assert_eq!(plan.runs()[0].env, [PATH, "http_proxy=old"]);
    assert_eq!(plan.runs()[0].uncached_env, ["HTTP_PROXY=http://p", "http_proxy=http://p"]);
    let plan = with("FROM base\nARG HTTP_PROXY\nENV HTTP_PROXY=old http_proxy=http://p\nRUN x\n");
    assert_eq!(plan.runs()[0].uncached_env, ["HTTP_PROXY=http://p"]);
}

#[test]
fn platform_args_are_known_to_from_and_to_a_stage_that_asks() {
    let text = "FROM base:$TARGETARCH-$BUILDARCH\nARG TARGETPLATFORM\nARG TARGETVARIANT\nARG TARGETSTAGE\nRUN x\n";
    let case = case(text).platform("linux/arm/v7").image("base:arm-amd64", |_| {});
    assert_eq!(env(case), ["TARGETPLATFORM=linux/arm/v7", "TARGETVARIANT=v7", "TARGETSTAGE=default"]);
    let text = "FROM base AS x\nARG TARGETSTAGE\nARG TARGETARCH=mine\nRUN x\n";
    assert_eq!(env(super::case(text)), ["TARGETSTAGE=x", "TARGETARCH=mine"]);
    assert_eq!(env(super::case(text).arg("TARGETARCH", "given")), ["TARGETSTAGE=x", "TARGETARCH=given"]);
}

#[test]
fn rule_26_path_is_added_to_every_stage_whose_base_has_none() {
    assert_eq!(plan("FROM scratch\n").exec_config().env, [PATH]);
    assert_eq!(plan("FROM base\n").exec_config().env, [PATH]);
    let made = case("FROM base\n").image("base", |config| config.config.env.push("PATH=/bin".into())).made();
    assert_eq!(made.plan.exec_config().env, ["PATH=/bin"]);
}

#[test]
fn an_env_keeps_its_place_when_it_changes() {
    assert_eq!(plan("FROM base\nENV a=1 b=2\nENV a=3\n").exec_config().env, [PATH, "a=3", "b=2"]);
    assert_eq!(case("FROM base\nENV $x=1\n").errors(), ["2: the name is empty after expansion"]);
}
