//! The configuration and the history: semantics 27 to 34, and what was measured of WORKDIR.

use serde_json::json;

use super::*;

fn with_cmd(config: &mut ImageConfig) {
    config.config.cmd = Some(vec!["base".into()]);
    config.config.entrypoint = Some(vec!["entry".into()]);
}

fn commands(text: &str) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let plan = case(text).image("base", with_cmd).made().plan;
    (plan.exec_config().entrypoint.clone(), plan.exec_config().cmd.clone())
}

fn list(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| word.to_string()).collect())
}

#[test]
fn rule_27_entrypoint_clears_an_inherited_cmd_but_not_one_of_this_stage() {
    assert_eq!(commands("FROM base\nENTRYPOINT [\"e\"]\n"), (list(&["e"]), None));
    assert_eq!(commands("FROM base\nENTRYPOINT e\n"), (list(&["/bin/sh", "-c", "e"]), None));
    assert_eq!(commands("FROM base\nCMD [\"c\"]\nENTRYPOINT [\"e\"]\n"), (list(&["e"]), list(&["c"])));
    assert_eq!(commands("FROM base\nENTRYPOINT [\"e\"]\nCMD [\"c\"]\n"), (list(&["e"]), list(&["c"])));
    // "This stage" is not the one below.
    assert_eq!(commands("FROM base AS a\nCMD [\"c\"]\nFROM a\nENTRYPOINT [\"e\"]\n"), (list(&["e"]), None));
    assert_eq!(commands("FROM base\nCMD [\"c\"]\n"), (list(&["entry"]), list(&["c"])));
}

#[test]
fn rule_27_an_empty_entrypoint_is_none_and_an_empty_cmd_is_an_empty_list() {
    assert_eq!(commands("FROM base\nENTRYPOINT []\n"), (None, None));
    assert_eq!(commands("FROM base\nCMD []\n"), (list(&["entry"]), list(&[])));
}

#[test]
fn rule_27_the_shell_form_is_stored_with_the_shell_of_its_place() {
    let text = "FROM base\nCMD a\nSHELL [\"/bin/bash\", \"-ec\"]\nRUN b\nENTRYPOINT c\n";
    assert_eq!(commands(text), (list(&["/bin/bash", "-ec", "c"]), list(&["/bin/sh", "-c", "a"])));
    let plan = plan(text);
    assert_eq!(plan.runs()[0].args, ["/bin/bash", "-ec", "b"]);
    assert_eq!(plan.exec_config().shell, list(&["/bin/bash", "-ec"]));
}

#[test]
fn rule_28_sets_grow_and_labels_merge_over_the_base() {
    let made = case("FROM base\nLABEL a=2 b=$a\nEXPOSE 80 53/UDP\nVOLUME /b /c\n")
        .image("base", |config| {
            config.config.labels.insert("a".into(), "1".into());
            config.config.labels.insert("z".into(), "1".into());
            config.config.exposed_ports.insert("80/tcp".into(), json!({}));
            config.config.exposed_ports.insert("22/tcp".into(), json!({}));
            config.config.volumes.insert("/a".into(), json!({}));
        })
        .made();
    let json = serde_json::to_value(made.plan.exec_config()).unwrap();
    assert_eq!(json["Labels"], json!({"a": "2", "b": "", "z": "1"}));
    assert_eq!(json["ExposedPorts"], json!({"22/tcp": {}, "53/udp": {}, "80/tcp": {}}));
    assert_eq!(json["Volumes"], json!({"/a": {}, "/b": {}, "/c": {}}));
}

#[test]
fn rule_33_expose_takes_ranges_and_variables_that_hold_several_ports() {
    let plan = plan("FROM base\nENV P=\"9 7-8/sctp\"\nEXPOSE 8001-8002 $P\n");
    let ports: Vec<&str> = plan.exec_config().exposed_ports.keys().map(String::as_str).collect();
    assert_eq!(ports, ["7/sctp", "8/sctp", "8001/tcp", "8002/tcp", "9/tcp"]);
    assert_eq!(plan.history().last().unwrap().0, "EXPOSE [9/tcp 7/sctp 8/sctp 8001/tcp 8002/tcp]");
}

#[test]
fn rule_29_workdir_is_relative_to_the_one_before_and_keeps_a_slash_at_its_end() {
    for (before, lines, expected) in [
        ("", "WORKDIR a\n", "/a"),
        ("/base", "WORKDIR a\n", "/base/a"),
        ("/base", "WORKDIR /a\nWORKDIR b\n", "/a/b"),
        ("/base", "WORKDIR ..\n", "/"),
        ("", "WORKDIR a/\n", "/a/"),
        ("", "WORKDIR a/\nWORKDIR b\n", "/a/b"),
        ("rel", "", "/rel"),
        ("/base", "WORKDIR $unset\n", "/base"),
        ("/base", "WORKDIR \"x y\"\n", "/base/x y"),
    ] {
        let text = format!("FROM base\n{lines}RUN x\n");
        let made = case(&text).image("base", |config| config.config.working_dir = before.into()).made();
        assert_eq!(made.plan.exec_config().working_dir, expected, "{before} {lines}");
        let cwd = if expected == "/" { "/" } else { expected.trim_end_matches('/') };
        assert_eq!(made.plan.runs()[0].cwd, cwd);
    }
}

#[test]
fn rule_29_workdir_makes_a_layer_unless_it_is_the_root() {
    let plan = plan("FROM base\nWORKDIR /\nUSER u\nWORKDIR /a/\nWORKDIR /a\n");
    let ops: Vec<&Op> = plan.last().steps.iter().map(|step| &step.op).collect();
    let workdir = Op::Workdir { path: "/a".into(), user: "u".into() };
    assert_eq!(ops, [&Op::Config, &Op::Config, &workdir, &workdir]);
    assert_eq!(plan.history(), [("WORKDIR /", true), ("USER u", true), ("WORKDIR /a/", false), ("WORKDIR /a", false)]);
}

#[test]
fn rule_30_run_has_the_user_and_directory_of_its_place() {
    let plan = plan("FROM scratch\nRUN a\nUSER u:g\nWORKDIR /w\nRUN [\"b\", \"c d\"]\nUSER 0\n");
    let runs = plan.runs();
    assert_eq!((runs[0].cwd.as_str(), runs[0].user.as_str()), ("/", ""));
    assert_eq!((runs[1].cwd.as_str(), runs[1].user.as_str()), ("/w", "u:g"));
    assert_eq!(runs[1].args, ["b", "c d"]);
    assert_eq!(plan.exec_config().user, "0");
}

#[test]
fn rule_26_scratch_has_the_root_as_its_workdir_and_the_targets_platform() {
    let plan = plan("FROM scratch\n");
    assert_eq!(plan.last().base, Base::Scratch);
    let json = serde_json::to_value(plan.image()).unwrap();
    assert_eq!(
        json,
        json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": []},
        })
    );
}

#[test]
fn rule_34_every_instruction_has_an_entry_in_the_history_as_buildkit_writes_it() {
    let made = case(
        "\
FROM base
ARG A=1
ENV B=\"x y\" C=z
LABEL l=m n=\"o p\"
WORKDIR w
COPY --from=base --chown=1:2 --chmod=755 a b c/
RUN [\"a\", \"b c\"]
USER u
EXPOSE 443 80
VOLUME /v /w
STOPSIGNAL SIGINT
SHELL [\"/bin/bash\", \"-c\"]
MAINTAINER me
CMD a \"b\"
ENTRYPOINT []
",
    )
    .image("base", |config| {
        config.created = Some("2020-01-01T00:00:00Z".into());
        let created_by = Some("ADD rootfs".into());
        config.history.push(crate::oci::History { created_by, ..Default::default() });
    })
    .made();
    assert_eq!(
        made.plan.history(),
        [
            ("ADD rootfs", false),
            ("ARG A=1", true),
            ("ENV B=x y C=z", true),
            ("LABEL l=m n=o p", true),
            ("WORKDIR /w", false),
            ("COPY --chown=1:2 --chmod=755 a b c/ # buildkit", false),
            ("RUN |1 A=1 a b c # buildkit", false),
            ("USER u", true),
            ("EXPOSE [443/tcp 80/tcp]", true),
            ("VOLUME [/v /w]", true),
            ("STOPSIGNAL SIGINT", true),
            ("SHELL [/bin/bash -c]", true),
            ("MAINTAINER me", true),
            ("CMD [\"/bin/bash\" \"-c\" \"a \\\"b\\\"\"]", true),
            ("ENTRYPOINT []", true),
        ]
    );
    let config = &made.plan.image();
    assert_eq!((config.created.as_deref(), config.author.as_deref()), (None, Some("me")));
    assert_eq!(config.rootfs.diff_ids.len(), 1);
    assert!(config.history.iter().skip(1).all(|entry| entry.comment.as_deref() == Some("buildkit.dockerfile.v0")));
    assert!(config.history.iter().all(|entry| entry.created.is_none()));
    assert_eq!(config.config.other["ArgsEscaped"], true);
    // Layers to come: what is not empty, but for the base's own.
    let layers = made.plan.last().steps.iter().filter(|step| step.op != Op::Config).count();
    assert_eq!(layers, made.plan.history().iter().filter(|entry| !entry.1).count() - 1);
}

#[test]
fn what_the_base_says_that_we_do_not_know_is_kept() {
    let made = case("FROM base\nUSER u\n")
        .image("base", |config| {
            config.author = Some("them".into());
            config.config.other.insert("Healthcheck".into(), json!({"Test": ["NONE"]}));
            config.other.insert("os.features".into(), json!(["x"]));
            config.other.insert("container_config".into(), json!({"Cmd": ["stale"]}));
        })
        .made();
    let config = &made.plan.image();
    assert_eq!(config.config.other["Healthcheck"], json!({"Test": ["NONE"]}));
    assert_eq!(config.author.as_deref(), Some("them"));
    assert!(config.other.contains_key("os.features") && !config.other.contains_key("container_config"));
}

#[test]
fn a_destination_is_absolute_and_a_directory_where_it_is_written_as_one() {
    for (written, destination) in
        [(".", "/w/"), ("./", "/w/"), ("x", "/w/x"), ("x/", "/w/x/"), ("/x", "/x"), ("\"\"", "/w/")]
    {
        let plan = plan(&format!("FROM base\nWORKDIR /w\nCOPY a {written}\n"));
        assert_eq!(plan.copies()[0].destination, destination, "{written}");
    }
}

#[test]
fn the_sources_of_copy_are_left_to_the_one_who_has_the_tree() {
    let plan = plan("FROM base\nCOPY ../a /b/ [[]c* d/. /x/\n");
    assert_eq!(plan.copies()[0].paths(), ["../a", "/b/", "[[]c*", "d/."]);
}

#[test]
fn chmod_is_octal_and_at_most_07777_or_in_letters() {
    for (written, mode) in [("755", 0o755), ("0644", 0o644), ("07777", 0o7777), ("0", 0)] {
        assert_eq!(
            plan(&format!("FROM base\nCOPY --chmod={written} a b\n")).copies()[0].chmod,
            Some(Chmod::Octal(mode))
        );
    }
    let letters = SymbolicMode::parse("u=rwX,go=rX").map(Chmod::Symbolic);
    assert_eq!(plan("FROM base\nARG M=rX\nCOPY --chmod=u=rwX,go=$M a b\n").copies()[0].chmod, letters);
    assert_eq!(plan("FROM base\nCOPY --chmod=$unset --chown=$unset a b\n").copies()[0].chmod, None);
    for (written, message) in [
        ("888", "`888` is not a mode"),
        ("10000", "`10000` is not a mode"),
        ("z", "`z` is not a mode"),
        ("u=rwQ", "`u=rwQ` is not a mode"),
    ] {
        assert_eq!(case(&format!("FROM base\nCOPY --chmod={written} a b\n")).errors(), [format!("2: {message}")]);
    }
}

#[test]
fn rule_28_a_healthcheck_is_in_nanoseconds_and_none_is_a_test() {
    let plan = plan("FROM base\nHEALTHCHECK --interval=1m30s --retries=3 --start-period=1500ms CMD a $b\n");
    let json = serde_json::to_string(&plan.exec_config().other["Healthcheck"]).unwrap();
    assert_eq!(json, r#"{"Test":["CMD-SHELL","a $b"],"Interval":90000000000,"StartPeriod":1500000000,"Retries":3}"#);
    assert_eq!(
        plan.history(),
        [(
            "HEALTHCHECK {Test:[CMD-SHELL a $b] Interval:1m30s Timeout:0s StartPeriod:1.5s StartInterval:0s Retries:3}",
            true
        )]
    );
    let none = super::plan("FROM base\nHEALTHCHECK CMD [\"a\"]\nHEALTHCHECK NONE\n");
    assert_eq!(none.exec_config().other["Healthcheck"].to_string(), r#"{"Test":["NONE"]}"#);
}

#[test]
fn copy_does_not_fetch() {
    for source in ["http://a/b", "https://a/b.git", "git@host:a/b"] {
        assert_eq!(case(&format!("FROM base\nCOPY {source} /\n")).errors(), ["2: COPY cannot fetch a URL"]);
    }
}

#[test]
fn words_that_become_empty_and_mean_much_are_warnings() {
    let made = case("FROM base\nUSER $u\nCOPY $a /b\n").made();
    assert_eq!(
        made.warnings,
        ["2: `$u` is empty after expansion: that is root", "3: `$a` is empty after expansion: that copies everything"]
    );
    assert_eq!(case("FROM base\nVOLUME $v\n").errors(), ["2: a path of VOLUME is empty after expansion"]);
}
