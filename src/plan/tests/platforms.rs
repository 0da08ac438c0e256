//! Platforms: of the command line, and of FROM. Semantics 53.

use super::*;

fn arm64(config: &mut ImageConfig) {
    config.platform = "linux/arm64".parse().unwrap();
}

fn platforms(made: &Made) -> (String, String) {
    (made.plan.last().platform.to_string(), made.plan.image().platform.to_string())
}

#[test]
fn a_base_is_looked_for_under_its_name_and_platform() {
    let case =
        case("FROM --platform=linux/arm64 base\nFROM base\nCOPY --from=0 a b\n").image("base (linux/arm64)", arm64);
    assert_eq!(case.images(), [("base (linux/arm64)".into(), None), ("base".into(), None)]);
    let made = case.made();
    assert_eq!(made.warnings, [""; 0]);
    assert_eq!(made.plan.stages[0].platform.to_string(), "linux/arm64");
    assert_eq!(made.plan.stages[0].base, Base::Image("base (linux/arm64)".into()));
    assert_eq!(platforms(&made), ("linux/amd64".into(), "linux/amd64".into()));
}

#[test]
fn rule_53_the_image_is_for_the_target_even_when_from_says_otherwise() {
    let case = case("FROM --platform=linux/arm64 base\n").image("base (linux/arm64)", arm64);
    // Its programs are those of the base all the same.
    assert_eq!(platforms(&case.made()), ("linux/arm64".into(), "linux/amd64".into()));
}

#[test]
fn rule_53_without_a_target_the_image_is_for_what_its_base_is_for() {
    let case = case("FROM --platform=linux/arm64 base\n").any_platform().image("base (linux/arm64)", arm64);
    assert_eq!(platforms(&case.made()), ("linux/arm64".into(), "linux/arm64".into()));
    let made = super::case("FROM base\n").any_platform().image("base", arm64).made();
    assert_eq!(platforms(&made), ("linux/arm64".into(), "linux/arm64".into()));
    assert_eq!(made.warnings, ["1: base image `base` is for linux/arm64, the build is for linux/amd64"]);
}

#[test]
fn platform_of_from_takes_global_args_and_the_platform_args() {
    for (text, key) in [
        ("FROM --platform=$BUILDPLATFORM base\n", "base (linux/amd64)"),
        ("FROM --platform=$TARGETPLATFORM base\n", "base"),
        ("ARG P=linux/s390x\nFROM --platform=$P base\n", "base (linux/s390x)"),
        ("FROM --platform=${TARGETOS}/${BUILDARCH} base\n", "base (linux/amd64)"),
        ("FROM --platform=aarch64 base\n", "base"),
    ] {
        let case = case(text).platform("linux/arm64");
        assert_eq!(case.image(key, |_| {}).images()[0].0, key, "{text}");
    }
    assert_eq!(case("FROM --platform=$NONE base\n").errors(), ["1: the platform `$NONE` is empty after expansion"]);
    assert_eq!(case("FROM --platform=lunix base\n").errors(), ["1: `lunix` is not a platform"]);
}

#[test]
fn a_stage_on_another_stage_has_its_platform_and_scratch_that_of_the_target() {
    let case = case("FROM --platform=linux/arm64 base AS a\nFROM --platform=linux/s390x a\n");
    assert_eq!(platforms(&case.image("base (linux/arm64)", arm64).made()).0, "linux/arm64");
    assert_eq!(platforms(&super::case("FROM --platform=linux/s390x scratch\n").made()).0, "linux/amd64");
}

#[test]
fn copy_from_an_image_takes_the_one_for_the_target() {
    let case = case("FROM --platform=$BUILDPLATFORM base\nCOPY --from=tools a b\n").platform("linux/arm64");
    let case = case.image("base (linux/amd64)", |_| {}).image("tools", arm64);
    assert_eq!(case.made().plan.copies()[0].from, CopyFrom::Image("tools".into()));
}
