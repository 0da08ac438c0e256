//! Named contexts: `--build-context`. Semantics 35.

use super::*;

fn image(name: &str) -> ContextKind {
    ContextKind::Image(name.into())
}

#[test]
fn rule_35_a_named_context_beats_a_stage_and_an_image_of_its_name() {
    let made = case("FROM nowhere AS tools\nRUN x\nFROM base\nCOPY --from=tools a b\nCOPY --from=0 a b\n")
        .context("tools", ContextKind::Folder)
        .made();
    assert_eq!(made.plan.stages.len(), 1);
    assert_eq!(made.plan.copies()[0].from, CopyFrom::Named("tools".into()));
    assert_eq!(made.plan.copies()[1].from, CopyFrom::Named("tools".into()));

    let case = case("FROM nowhere\nCOPY --from=other a b\n").context("nowhere", image("base"));
    let case = case.context("other", image("base"));
    assert_eq!(case.images(), [("base".into(), None)]);
    assert_eq!(case.made().plan.last().base, Base::Image("base".into()));
}

#[test]
fn the_name_of_a_context_is_found_in_all_its_forms() {
    for (given, written) in [
        ("busybox", "docker.io/library/busybox:latest"),
        ("docker.io/library/busybox", "busybox:latest"),
        ("busybox:1", "docker.io/busybox:1"),
        ("Tools", "tools"),
    ] {
        let case = case(&format!("FROM base\nCOPY --from={written} a b\n")).context(given, image("base"));
        assert_eq!(case.images(), [("base".into(), None)], "{given} {written}");
    }
    let other = case("FROM base\nCOPY --from=busybox:2 a b\n").context("busybox", image("base"));
    assert_eq!(other.images()[1].0, "busybox:2");
}

#[test]
fn a_stage_that_an_image_stands_for_has_no_steps_of_its_own() {
    let made = case("FROM nowhere AS a\nRUN x\nFROM a\nRUN y\n").context("a", image("base")).made();
    assert_eq!((made.plan.stages.len(), made.plan.stages[0].steps.len()), (2, 0));
    assert_eq!(made.plan.stages[0].base, Base::Image("base".into()));
    let target = case("FROM nowhere AS a\nRUN x\n").context("a", image("base")).made();
    assert_eq!(target.plan.last().steps, []);
}

#[test]
fn triggers_of_an_image_that_stands_for_a_stage_are_not_run() {
    let with = |text: &str| {
        let case = case(text).context("a", image("base"));
        case.image("base", |config| config.config.on_build = vec!["RUN trigger".into()]).made().plan
    };
    let plan = with("FROM nowhere AS a\nRUN x\nFROM a\nRUN y\n");
    assert_eq!((plan.stages[0].steps.len(), plan.stages[1].steps.len()), (0, 1));
    assert_eq!(with("FROM nowhere AS a\nRUN x\n").last().steps, []);
    // Where it is what a stage stands on, they are.
    assert_eq!(with("FROM a\nRUN y\n").last().steps.len(), 2);
}

#[test]
fn a_stage_cannot_stand_on_a_folder() {
    let message = "the named context `src` is a folder: a stage cannot stand on it";
    for text in ["FROM src\n", "FROM nowhere AS src\nFROM src\n", "FROM nowhere AS src\n"] {
        let errors = case(text).context("src", ContextKind::Folder).errors();
        assert!(errors.len() == 1 && errors[0].ends_with(message), "{text} {errors:?}");
    }
}

#[test]
fn scratch_is_never_a_context() {
    let made = case("FROM scratch\nCOPY a b\n").context("scratch", image("base")).made();
    assert_eq!(made.plan.last().base, Base::Scratch);
}

#[test]
fn a_mount_has_its_files_from_a_named_context() {
    let made = case("FROM base\nRUN --mount=from=src,target=/src x\n").context("src", ContextKind::Folder).made();
    assert_eq!(made.plan.runs()[0].mounts[0].kind.from(), Some(&CopyFrom::Named("src".into())));
}
