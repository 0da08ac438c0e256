//! Stages, targets and images: semantics 35, 53, and what was measured of `FROM 0`.

use super::*;

const CHAIN: &str = "\
FROM base AS a
RUN a
FROM base AS b
RUN b
FROM a AS c
COPY --from=b /x /y
FROM base
RUN unused
";

fn stages(plan: &Plan) -> Vec<&str> {
    plan.stages.iter().map(|stage| stage.name.as_str()).collect()
}

#[test]
fn rule_35_only_stages_that_the_target_needs_are_in_the_plan() {
    let c = case(CHAIN).target("c").made().plan;
    assert_eq!(stages(&c), ["a", "b", "c"]);
    assert_eq!(c.last().base, Base::Stage(0));
    assert_eq!(c.copies()[0].from, CopyFrom::Stage(1));
    assert_eq!(stages(&case(CHAIN).target("b").made().plan), ["b"]);
}

#[test]
fn without_a_target_the_last_stage_is_built() {
    let plan = plan(CHAIN);
    assert_eq!((stages(&plan), plan.target), (vec!["3"], 0));
}

#[test]
fn steps_are_numbered_in_the_order_of_the_plan() {
    let plan = case(CHAIN).target("c").made().plan;
    let ids: Vec<usize> = plan.stages.iter().flat_map(|stage| &stage.steps).map(|step| step.id.0).collect();
    assert_eq!(ids, [0, 1, 2]);
}

#[test]
fn an_unknown_target_says_what_may_be_meant() {
    let error = |target: &str| case(CHAIN).target(target).result().err().unwrap().remove(0);
    assert_eq!(error("x1").message, "no stage named `x1`");
    assert_eq!(error("zzzzzz").hint.unwrap(), "the stages are: `a`, `b`, `c`");
    let named = case("FROM base AS construct\n").target("constuct").result().err().unwrap().remove(0);
    assert_eq!(named.hint.unwrap(), "did you mean `construct`?");
}

#[test]
fn a_stage_index_is_no_target_and_no_base() {
    assert_eq!(case(CHAIN).target("0").errors(), ["0: no stage named `0`"]);
    assert_eq!(case("FROM base\nFROM 0\n").errors(), ["2: `0` is neither a stage nor an image"]);
}

#[test]
fn stage_names_are_found_in_any_case() {
    let plan = case("FROM base AS Build\nFROM BUILD\nCOPY --from=bUILD a b\n").target("Build").made().plan;
    assert_eq!(stages(&plan), ["build"]);
    let plan = super::plan("FROM base AS Build\nFROM BUILD AS x\nCOPY --from=bUILD a b\n");
    assert_eq!((plan.last().base.clone(), plan.copies()[0].from.clone()), (Base::Stage(0), CopyFrom::Stage(0)));
}

#[test]
fn of_two_stages_with_a_name_the_later_one_is_meant() {
    let plan = plan("FROM base AS x\nRUN 1\nFROM base AS x\nRUN 2\nFROM x\nCOPY --from=x a b\n");
    assert_eq!(stages(&plan), ["x", "2"]);
    assert_eq!(plan.stages[0].steps[0].text, "RUN 2");
}

#[test]
fn a_stage_may_have_the_name_of_the_image_that_it_stands_on() {
    let plan = plan("FROM base AS base\nFROM base\n");
    assert_eq!(plan.stages[0].base, Base::Image("base".into()));
    assert_eq!(plan.stages[1].base, Base::Stage(0));
}

#[test]
fn rule_35_copy_takes_a_stage_by_its_number() {
    let plan = plan("FROM base\nFROM base AS x\nFROM base\nCOPY --from=0 a b\nCOPY --from=1 a b\n");
    assert_eq!((&plan.copies()[0].from, &plan.copies()[1].from), (&CopyFrom::Stage(0), &CopyFrom::Stage(1)));
    assert_eq!(case("FROM base\nCOPY --from=1 a b\n").errors(), ["2: there is no stage 1"]);
    assert_eq!(case("FROM base\nCOPY --from=99999999999999999999 a b\n").errors().len(), 1);
}

#[test]
fn rule_35_a_stage_cannot_copy_from_itself_or_from_one_behind_it() {
    assert_eq!(case("FROM base AS x\nCOPY --from=x a b\n").errors(), ["2: the stage `x` copies from itself"]);
    assert_eq!(case("FROM base\nCOPY --from=0 a b\n").errors(), ["2: the stage `0` copies from itself"]);
    let forward = "FROM base AS x\nCOPY --from=y a b\nFROM base AS y\nFROM x\n";
    assert_eq!(case(forward).errors(), ["2: the stage `y` is defined further down"]);
    // What the target does not need is not looked at.
    assert_eq!(stages(&case(forward).target("y").made().plan), ["y"]);
}

#[test]
fn copy_from_takes_no_variables() {
    assert_eq!(
        case("ARG S=x\nFROM base AS x\nFROM base\nCOPY --from=$S a b\n").errors(),
        ["4: `from` takes no variables"]
    );
}

#[test]
fn rule_35_a_name_that_is_no_stage_is_an_image_each_named_once() {
    let case = case(
        "FROM base AS construct\nFROM base\nCOPY --from=constuct a b\nCOPY --from=constuct c d\nCOPY --from=tools a b\n",
    );
    assert_eq!(
        case.images(),
        [("base".into(), None), ("constuct".into(), Some("did you mean `construct`?".into())), ("tools".into(), None)]
    );
}

#[test]
fn an_image_that_is_not_there_points_at_its_place_and_the_stage_that_was_meant() {
    let case = case("FROM base AS construct\nFROM base\nCOPY --from=constuct /web/site ./\n");
    let errors = case.result().err().unwrap();
    assert_eq!(
        errors[0].render(&case.source, false),
        "\
error: no stage or image named `constuct`
 --> Dockerfile:3:13
  |
3 | COPY --from=constuct /web/site ./
  |             ^^^^^^^^
  |
  = hint: did you mean `construct`?"
    );
}

#[test]
fn from_a_later_stage_is_an_image_of_that_name() {
    let images = case("FROM tool\nFROM base AS tool\nFROM base\n").target("tool").images();
    assert_eq!(images, [("base".into(), None)]);
    let images = case("FROM tool AS x\nFROM base AS tool\nFROM x\n").images();
    assert_eq!(
        images[0].1.as_deref(),
        Some("the stage `tool` is defined further down; FROM sees those before it only")
    );
}

#[test]
fn images_of_stages_that_are_not_needed_are_not_asked_for() {
    assert_eq!(case("FROM nowhere AS x\nFROM base\n").images(), [("base".into(), None)]);
}

#[test]
fn there_is_nothing_in_scratch_to_copy() {
    assert_eq!(case("FROM base\nCOPY --from=scratch a b\n").errors(), ["2: there is nothing in `scratch` to copy"]);
}

#[test]
fn rule_53_the_image_is_for_the_target_platform_and_a_base_for_another_is_a_warning() {
    let made = case("FROM base\n").platform("linux/arm64").made();
    assert_eq!(made.plan.image().platform.to_string(), "linux/arm64");
    assert_eq!(made.warnings, ["1: base image `base` is for linux/amd64, the build is for linux/arm64"]);
}

#[test]
fn rule_53_what_only_the_base_knows_of_its_platform_is_kept_where_it_fits() {
    let version = |config: &mut ImageConfig| {
        config.platform = "linux/arm64/v8".parse().unwrap();
        config.other.insert("os.version".into(), "1".into());
    };
    let same = case("FROM base\n").platform("linux/arm64").image("base", version).made();
    // The variant that goes without saying is left out.
    assert_eq!(same.plan.image().platform.to_string(), "linux/arm64");
    assert!(same.plan.image().other.contains_key("os.version"));
    assert_eq!(same.warnings, [""; 0]);
    let other = case("FROM base\n").image("base", version).made();
    assert_eq!(other.plan.image().platform.to_string(), "linux/amd64");
    assert!(!other.plan.image().other.contains_key("os.version"));
}
