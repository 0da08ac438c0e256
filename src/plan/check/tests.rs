use super::*;
use crate::dockerfile::parse;
use crate::plan::GraphOptions;

/// Returns "Check:line" for all that the checks find in `text`, in the order of the file. The image `base` sets `PATH` and
/// `FROM_BASE`; other images are not known.
fn found_with(text: &str, build_args: &[(&str, &str)]) -> Vec<String> {
    let source = Source::new("Dockerfile", text);
    let file = parse(&source).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
    let build_args: Vec<(String, String)> = build_args.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
    let options = GraphOptions { build_args: build_args.clone(), ..GraphOptions::default() };
    let graph = Graph::new(&file, options).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
    let base = |name: &str| {
        let mut config = ImageConfig::default();
        config.config.env = vec!["PATH=/bin".into(), "FROM_BASE=1".into()];
        (name == "base").then_some(config)
    };
    let findings = check(&source, &graph, Stages::All, &base);
    let checks = Checks::new(&source, &file, &build_args).unwrap();
    let kept = checks.filter(file.warnings.iter().cloned().chain(findings.diagnostics));
    let line = |one: &Diagnostic| one.span.map_or(0, |span| source.line_of(span.start));
    kept.iter().map(|one| format!("{}:{}", one.rule.unwrap_or("-"), line(one))).collect()
}

fn found(text: &str) -> Vec<String> {
    found_with(text, &[])
}

#[test]
fn what_each_check_finds() {
    for (text, want) in [
        ("FROM base AS Make\n", &["StageNameCasing:1"][..]),
        ("FROM base as a\n", &["FromAsCasing:1"]),
        ("from base AS a\n", &["FromAsCasing:1"]),
        ("from base as a\n", &[]),
        ("FROM base\nRUN a \\\n\n  b\n", &["NoEmptyContinuation:3"]),
        ("FROM base\nRUN a\nrun b\n", &["ConsistentInstructionCasing:3"]),
        ("from base\nrun a\nRUN b\n", &["ConsistentInstructionCasing:3"]),
        ("FROM base\nRun a\n", &["ConsistentInstructionCasing:2"]),
        ("From base\nrun a\n", &["ConsistentInstructionCasing:1"]),
        ("FROM base AS a\nFROM base AS a\n", &["DuplicateStageName:2"]),
        ("FROM base AS scratch\n", &["ReservedStageName:1"]),
        ("FROM base AS context\n", &["ReservedStageName:1"]),
        ("FROM base\nCMD a b\n", &["JSONArgsRecommended:2"]),
        ("FROM base\nENTRYPOINT a\n", &["JSONArgsRecommended:2"]),
        ("FROM base\nSHELL [\"/bin/bash\", \"-c\"]\nCMD a b\n", &[]),
        ("FROM base\nCMD [\"a\"]\n", &[]),
        ("FROM base\nMAINTAINER me\n", &["MaintainerDeprecated:2"]),
        ("ARG tag\nFROM base$tga\n", &["UndefinedArgInFrom:2", "InvalidDefaultArgInFrom:2"][..1]),
        ("ARG v=1\nFROM base\nWORKDIR x\n", &["WorkdirRelativePath:3"]),
        ("FROM base\nWORKDIR /x\nWORKDIR y\n", &[]),
        ("FROM base\nWORKDIR x\nWORKDIR y\n", &["WorkdirRelativePath:2"]),
        ("FROM base AS a\nWORKDIR /x\nFROM a\nWORKDIR y\n", &[]),
        ("FROM base\nARG d=/x\nWORKDIR $d\n", &[]),
        ("FROM base\nCOPY $a /\n", &["UndefinedVar:2"]),
        ("FROM base\nARG a\nCOPY $a x /\n", &[]),
        ("FROM base\nENV a=$a\n", &["UndefinedVar:2"]),
        ("FROM base\nENV a=$FROM_BASE b=$PATH\n", &[]),
        ("FROM scratch\nENV a=$FROM_BASE b=$PATH\n", &["UndefinedVar:2"]),
        ("FROM base\nENV a=${x:-1} b=${x?no}\n", &[]),
        ("FROM base\nENV a='$x' b=\\$x\n", &[]),
        ("ARG g=1\nFROM base\nLABEL a=$g\n", &["UndefinedVar:3"]),
        ("FROM base AS a\nARG x=1\nFROM a\nLABEL l=$x\n", &[]),
        ("FROM unknown\nLABEL l=$x\n", &[]),
        ("FROM base\nRUN echo $x\n", &[]),
        ("FROM base\nCOPY <<EOF /x\na $b\nEOF\n", &["UndefinedVar:3"]),
        ("FROM base\nCOPY <<'EOF' /x\na $b\nEOF\n", &[]),
        ("FROM base\nCMD [\"a\"]\nCMD [\"b\"]\n", &["MultipleInstructionsDisallowed:2"]),
        ("FROM base\nHEALTHCHECK NONE\nHEALTHCHECK CMD a\n", &["MultipleInstructionsDisallowed:2"]),
        ("FROM base\nENV a b c\n", &["LegacyKeyValueFormat:2"]),
        ("FROM base\nLABEL a b\n", &["LegacyKeyValueFormat:2"]),
        ("FROM base\nENV a= b=\"c d\"\n", &[]),
        ("FROM base\nENV a=b=c\n", &[]),
        ("FROM --platform=$TARGETPLATFORM base\n", &["RedundantTargetPlatform:1"]),
        ("FROM --platform=$BUILDPLATFORM base\n", &[]),
        ("FROM --platform=linux/s390x base AS a\n", &["FromPlatformFlagConstDisallowed:1"]),
        ("FROM --platform=linux/s390x base AS a-s390x\n", &[]),
        ("FROM base\nARG API_KEY\n", &["SecretsUsedInArgOrEnv:2"]),
        ("FROM base\nENV GITHUB_TOKEN=x\n", &["SecretsUsedInArgOrEnv:2"]),
        ("FROM base\nENV PUBLIC_KEY=x TOKEN_FILE=y KEYBOARD=z\n", &[]),
        ("ARG tag\nFROM base:$tag\n", &["InvalidDefaultArgInFrom:2"]),
        ("ARG tag=1\nFROM base:${tag}\n", &[]),
        ("FROM base\nEXPOSE 80/TCP\n", &["ExposeProtoCasing:2"]),
        ("FROM base\nEXPOSE 127.0.0.1:80:80\n", &["ExposeInvalidFormat:2"]),
        ("FROM base\nEXPOSE 80 443/tcp 1-2/udp\n", &[]),
    ] {
        assert_eq!(found_with(text, &[("tag", "1")][..usize::from(text.contains("ARG tag"))]), want, "{text}");
    }
}

#[test]
fn a_description_is_looked_at_where_that_is_asked_for() {
    let file = "# check=experimental=all\n\n# the thing\nARG a=1\nFROM base\n# b is this\nARG b\n# nothing\n\nARG c\n";
    assert_eq!(found(file), ["InvalidDefinitionDescription:4"]);
    assert!(found("# the thing\nARG a=1\nFROM base\n").is_empty());
}

#[test]
fn a_directive_skips_checks_and_a_comment_those_of_its_instruction() {
    let body = "FROM base\nCMD a\nENTRYPOINT b\nMAINTAINER c\n";
    assert_eq!(found(body).len(), 3);
    assert_eq!(found(&format!("# check=skip=JSONArgsRecommended\n{body}")), ["MaintainerDeprecated:5"]);
    assert!(found(&format!("# check=skip=all\n{body}")).is_empty());
    let local = "FROM base\n# check=skip=JSONArgsRecommended\nCMD a\nENTRYPOINT b\n";
    assert_eq!(found(local), ["JSONArgsRecommended:4"]);
}

#[test]
fn the_build_argument_wins_over_the_directive() {
    let file = "# check=skip=all\nFROM base\nCMD a\n";
    assert_eq!(found_with(file, &[("BUILDKIT_DOCKERFILE_CHECK", "skip=UndefinedVar")]), ["JSONArgsRecommended:3"]);
}

#[test]
fn a_check_that_does_not_exist_is_said_and_never_fails_a_build() {
    let text = "# check=skip=UndefinedVra;error=true\nFROM base\n";
    assert_eq!(found(text), ["-:1"]);
    let source = Source::new("Dockerfile", text);
    let checks = Checks::new(&source, &parse(&source).unwrap(), &[]).unwrap();
    let kept = checks.filter([]);
    assert_eq!(kept[0].hint.as_deref(), Some("did you mean `UndefinedVar`?"));
    assert_eq!(checks.failed(&kept), None);
}

#[test]
fn with_error_the_checks_that_found_something_are_named_once() {
    let source = Source::new("Dockerfile", "# check=error=true\nFROM base\nCMD a\n");
    let checks = Checks::new(&source, &parse(&source).unwrap(), &[]).unwrap();
    let one = |rule| Diagnostic::warning("x").rule(rule);
    let kept = checks.filter([one("UndefinedVar"), one("StageNameCasing"), one("UndefinedVar").at(0..1)]);
    assert_eq!(checks.failed(&kept), Some(vec!["StageNameCasing", "UndefinedVar"]));
    assert_eq!(checks.failed(&[]), None);
}

#[test]
fn nonsense_in_the_directive_is_an_error_at_its_place() {
    let source = Source::new("Dockerfile", "# check=skip\nFROM base\n");
    let error = Checks::new(&source, &parse(&source).unwrap(), &[]).unwrap_err();
    assert_eq!(error.span.map(|span| source.line_of(span.start)), Some(1));
}

#[test]
fn base_images_that_are_not_there_are_named() {
    let source = Source::new("Dockerfile", "FROM one AS a\nFROM base\nFROM one\nFROM a\n");
    let file = parse(&source).unwrap();
    let graph = Graph::new(&file, GraphOptions::default()).unwrap();
    let base = |name: &str| (name == "base").then(ImageConfig::default);
    assert_eq!(check(&source, &graph, Stages::All, &base).unseen, ["one"]);
    assert!(check(&source, &graph, Stages::Needed, &base).unseen == ["one"]);
}

#[test]
fn sources_in_the_context_are_known_with_their_variables() {
    let source = Source::new("Dockerfile", "FROM base\nARG d=x\nCOPY a ${d}/b /\nCOPY --from=base q /\nADD $n/c /\n");
    let file = parse(&source).unwrap();
    let graph = Graph::new(&file, GraphOptions::default()).unwrap();
    let findings = check(&source, &graph, Stages::All, &|_| Some(ImageConfig::default()));
    let sources: Vec<(&str, &str)> = findings.sources.iter().map(|it| (it.keyword, it.path.as_str())).collect();
    assert_eq!(sources, [("COPY", "a"), ("COPY", "x/b"), ("ADD", "/c")]);
}

#[test]
fn an_outline_has_what_a_target_takes() {
    let text = "\
# VERSION which one
ARG VERSION=1
ARG UNUSED=2
FROM base:$VERSION AS make
# MODE how it is made
ARG MODE=fast
RUN --mount=type=secret,id=token,required --mount=type=cache,target=/c --mount=type=ssh true
FROM base AS other
ARG NOT_THIS
# app what is run
FROM base AS app
ARG VERSION
COPY --from=make /x /x
RUN --mount=type=secret,target=/run/secrets/token true
";
    let source = Source::new("Dockerfile", text);
    let file = parse(&source).unwrap();
    let options = GraphOptions { build_args: vec![("MODE".into(), "slow".into())], ..GraphOptions::default() };
    let graph = Graph::new(&file, options).unwrap();
    let outline = outline(&source, &graph, &|_| None);
    assert_eq!((outline.name.as_deref(), outline.description.as_deref()), (Some("app"), Some("what is run")));
    let args: Vec<_> = outline
        .args
        .iter()
        .map(|arg| (arg.name.as_str(), arg.value.as_deref().unwrap_or(""), arg.description.as_deref().unwrap_or("")))
        .collect();
    assert_eq!(args, [("VERSION", "1", "which one"), ("MODE", "slow", "how it is made")]);
    let secrets: Vec<_> = outline.secrets.iter().map(|secret| (secret.id.as_str(), secret.required)).collect();
    assert_eq!(secrets, [("token", true)]);
    assert_eq!(outline.ssh[0].id, "default");
    assert_eq!(outline.caches[0].id, "/c");
}

#[test]
fn targets_are_listed_with_their_descriptions() {
    let source = Source::new("Dockerfile", "# make builds it\nFROM base AS Make\nFROM make\n");
    let targets = targets(&source, &parse(&source).unwrap());
    assert_eq!(targets[0].name.as_deref(), Some("make"));
    assert_eq!(targets[0].description.as_deref(), Some("builds it"));
    assert!(!targets[0].is_default && targets[1].is_default);
    assert_eq!(targets[1].base, "make");
}
