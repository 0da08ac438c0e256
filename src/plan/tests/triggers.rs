//! ONBUILD. Semantics 32.

use super::*;

fn triggers(list: &[&str]) -> impl FnOnce(&mut ImageConfig) + use<> {
    let list: Vec<String> = list.iter().map(|trigger| (*trigger).to_owned()).collect();
    move |config| config.config.on_build = list
}

fn texts(plan: &Plan) -> Vec<&str> {
    plan.last().steps.iter().map(|step| step.text.as_str()).collect()
}

#[test]
fn rule_32_triggers_are_stored_and_leave_no_history() {
    let plan = plan("FROM base\nONBUILD RUN  a $x \\\n  b\nonbuild COPY <<E /f\n$y\nE\nCMD [\"z\"]\n");
    assert_eq!(plan.exec_config().on_build, ["RUN  a $x   b", "COPY <<E /f\n$y\nE"]);
    assert_eq!(plan.history(), [("CMD [\"z\"]", true)]);
    assert_eq!(plan.last().steps.len(), 1);
}

#[test]
fn rule_32_triggers_run_right_after_from_and_are_not_handed_on() {
    let case = case("FROM t\nRUN last\nONBUILD RUN mine\n").image("t", triggers(&["RUN one", "COPY a $D", "ENV D=/d"]));
    let made = case.made();
    assert_eq!(texts(&made.plan), ["ONBUILD RUN one", "ONBUILD COPY a ", "ONBUILD ENV D=/d", "RUN last"]);
    assert_eq!(made.plan.exec_config().on_build, ["RUN mine"]);
    assert_eq!(made.plan.history()[0].0, "RUN /bin/sh -c one # buildkit");
    // Its place is the FROM.
    assert_eq!(made.plan.last().steps[1].span, (5..6).into());
}

#[test]
fn rule_32_a_stage_has_triggers_too() {
    let plan = plan("FROM base AS a\nRUN a\nONBUILD RUN t\nFROM a AS b\nRUN b\nFROM b\nRUN c\n");
    let of = |stage: usize| plan.stages[stage].steps.iter().map(|step| step.text.as_str()).collect::<Vec<_>>();
    assert_eq!((of(0), of(1), of(2)), (vec!["RUN a"], vec!["ONBUILD RUN t", "RUN b"], vec!["RUN c"]));
    assert_eq!(plan.exec_config().on_build, [""; 0]);
}

#[test]
fn rule_32_to_copy_from_an_image_sets_off_nothing() {
    let made = case("FROM base\nCOPY --from=t a b\n").image("t", triggers(&["RUN x"])).made();
    assert_eq!(texts(&made.plan), ["COPY --from=t a b"]);
}

#[test]
fn rule_32_some_instructions_cannot_be_triggers() {
    for keyword in ["ONBUILD RUN a", "FROM a", "MAINTAINER a"] {
        let word = keyword.split(' ').next().unwrap();
        let message = format!("{word} cannot be the instruction of an ONBUILD");
        assert_eq!(case(&format!("FROM base\nONBUILD {keyword}\n")).errors(), [format!("2: {message}")]);
        let of_image = case("FROM base\nFROM t\n").image("t", triggers(&[keyword]));
        assert_eq!(of_image.errors(), [format!("2: {message}")]);
    }
}

#[test]
fn rule_32_a_trigger_is_read_with_a_backslash_whatever_the_file_says() {
    let case = case("# escape=`\nFROM t\n").image("t", triggers(&["RUN a \\\n b", "ENV c=d\\ e"]));
    let made = case.made();
    assert_eq!(made.plan.runs()[0].args[2], "a  b");
    // But its variables are those of the stage, whose escape character is that of the file.
    assert_eq!(made.plan.exec_config().env[1], "c=d\\ e");
}

#[test]
fn an_error_in_a_trigger_points_at_the_from() {
    let case = case("FROM base AS x\nFROM t\n").image("t", triggers(&["RUN ok", "COPY --chmod=z a b"]));
    let errors = case.result().err().unwrap();
    assert_eq!(
        errors[0].render(&case.source, false),
        "\
error: `z` is not a mode
 --> Dockerfile:2:6
  |
2 | FROM t
  |      ^ in its trigger `ONBUILD COPY --chmod=z a b`
  |
  = hint: octal digits, at most 07777, as in --chmod=755, or letters, as in --chmod=u=rwX,go=rX"
    );
}

#[test]
fn a_trigger_brings_in_stages_and_images_of_its_own() {
    let text = "FROM t2 AS tools\nRUN make tools\nFROM unused\nFROM t\n";
    let case = case(text)
        .image("t", triggers(&["COPY --from=tools /a /a", "RUN --mount=from=img,target=/m x"]))
        .image("t2", triggers(&["COPY --from=img2 /c /c"]));
    assert_eq!(case.images().iter().map(|it| it.0.as_str()).collect::<Vec<_>>(), ["t2", "img2", "t", "img"]);
    let made = case.image("img", |_| {}).image("img2", |_| {}).made();
    assert_eq!(made.plan.stages.len(), 2);
    assert_eq!(made.plan.copies()[0].from, CopyFrom::Stage(0));
    assert_eq!(made.plan.runs()[0].mounts[0].kind.from(), Some(&CopyFrom::Image("img".into())));
    assert_eq!(made.plan.stages[0].steps[0].text, "ONBUILD COPY --from=img2 /c /c");
}

#[test]
fn a_trigger_cannot_copy_from_its_own_stage_or_one_further_down() {
    let case = |trigger: &str| case("FROM t AS x\nFROM base AS y\nFROM x\n").image("t", triggers(&[trigger]));
    assert_eq!(case("COPY --from=x a b").errors(), ["1: the stage `x` copies from itself"]);
    assert_eq!(case("COPY --from=y a b").errors(), ["1: the stage `y` is defined further down"]);
    assert_eq!(case("COPY --from=9 a b").errors(), ["1: there is no stage 9"]);
}

#[test]
fn args_of_a_trigger_are_declared() {
    let made = case("FROM t\n").arg("V", "1").image("t", triggers(&["ARG V", "RUN echo $V"])).made();
    assert_eq!(made.warnings, [""; 0]);
    assert_eq!(made.plan.runs()[0].env.last().unwrap(), "V=1");
}

#[test]
fn a_trigger_that_is_no_instruction_or_several_is_an_error() {
    for (trigger, message) in [
        ("", "a trigger has no instruction"),
        ("# x", "a trigger has no instruction"),
        ("RUN a\nRUN b", "a trigger is one instruction, not several"),
        ("RNU a", "unknown instruction `RNU`"),
        ("RUN <<E\nx", "the here-document `E` does not end"),
    ] {
        assert_eq!(case("FROM t\n").image("t", triggers(&[trigger])).errors(), [format!("1: {message}")], "{trigger}");
    }
}

#[test]
fn triggers_without_end_are_refused() {
    let long = format!("RUN {}", "x".repeat(1 << 20));
    let all: Vec<&str> = std::iter::repeat_n(long.as_str(), 20).collect();
    let errors = case("FROM t\n").image("t", triggers(&all)).errors();
    assert_eq!(errors, ["1: the ONBUILD triggers of all stages have more than 16 MiB"]);
}
