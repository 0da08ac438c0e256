use super::*;

fn run() -> Run {
    Run {
        args: vec!["/bin/sh".into(), "-c".into(), "make".into()],
        env: vec!["PATH=/bin".into(), "A=1".into()],
        uncached_env: Vec::new(),
        cwd: "/src".into(),
        user: "app".into(),
        mounts: Vec::new(),
        network: Network::Default,
        hostname: None,
        script: None,
    }
}

fn copy() -> Copy {
    Copy {
        from: CopyFrom::Context,
        sources: vec![CopySource::Path("a".into()), CopySource::Path("b".into())],
        destination: "/d/".into(),
        chown: Some("1:2".into()),
        chmod: Some(Chmod::Octal(0o755)),
        link: false,
        parents: false,
        exclude: Vec::new(),
        add: None,
    }
}

/// These were made from docs/cache-key.md by other code than ours. A change here means: every cache of every user is void. Raise [`FORMAT_VERSION`] with it.
#[test]
fn a_key_changes_only_on_purpose() {
    let workdir = Op::Workdir { path: "/web".into(), user: "app".into() };
    let golden = [
        (Op::Run(run()), "f4115c1390db552318886e1e8fba2598b4fae954a49429c750d45fe674e205b5"),
        (Op::Copy(copy()), "b6825718e9bd196f2e748e31114f7c1c2c0f16471d2e7b5418cf50e1c3c6230c"),
        (workdir, "888932cc3e0e283799dfde5b0fb08a67e2659f61e55fff8ccbc66843498ce7e9"),
        (Op::Config, "9d54147e6a6fb4e12fae8de1d01343bf097126fec776a410a1854671ce9e1af3"),
    ];
    for (op, key) in golden {
        assert_eq!(definition(&op).to_string(), key, "{op:?}");
    }
}

#[test]
fn everything_that_decides_a_run_is_in_its_key() {
    let changes: [fn(&mut Run); 6] = [
        |run| run.args[2] = "make all".into(),
        |run| run.args = vec!["/bin/sh".into(), "-cmake".into()],
        |run| run.env.push("B=".into()),
        |run| run.env.swap(0, 1),
        |run| run.cwd = "/".into(),
        |run| run.user = String::new(),
    ];
    let before = definition(&Op::Run(run()));
    for (index, change) in changes.iter().enumerate() {
        let mut run = run();
        change(&mut run);
        assert_ne!(definition(&Op::Run(run)), before, "change {index}");
    }
}

// What an older program kept under the key of a step that showed them in another order must not be found.
#[test]
fn mounts_that_are_shown_in_another_order_than_they_are_written_in_have_a_field() {
    let tmpfs = |target: &str| Mount {
        span: crate::source::Span::default(),
        target: target.into(),
        kind: MountKind::Tmpfs { size: None },
    };
    let secret = |target: &str| Mount {
        kind: MountKind::Secret {
            id: "s".into(),
            env: Some("S".into()),
            file: !target.is_empty(),
            required: true,
            mode: 0o400,
            uid: 0,
            gid: 0,
        },
        ..tmpfs(target)
    };
    for (mounts, ordered) in [
        (vec![], false),
        (vec![tmpfs("/a"), tmpfs("/a/b")], false),
        (vec![tmpfs("/a/b"), tmpfs("/a")], true),
        (vec![tmpfs("/a"), tmpfs("/a")], false),
        (vec![tmpfs("/a"), secret("/a"), tmpfs("/b"), secret("")], false),
        (vec![secret("/a"), tmpfs("/a")], true),
    ] {
        let run = Run { mounts, ..run() };
        let found = components(&Op::Run(run.clone())).iter().any(|part| part.tag == "mount-order");
        assert_eq!(found, ordered, "{:?}", run.mounts);
    }
}

#[test]
fn what_older_programs_made_otherwise_has_another_key() {
    let number = |user: &str| {
        let op = Op::Workdir { path: "/w".into(), user: user.into() };
        components(&op).iter().any(|part| part.tag == "owner")
    };
    for (user, expected) in
        [("", false), ("0", false), ("000", false), ("app", false), ("1000:5", false), ("1000", true), ("010", true)]
    {
        assert_eq!(number(user), expected, "{user}");
    }
    let parts = |from, mode, uid| {
        let (id, source) = ("k".into(), "/".into());
        let kind = MountKind::Cache { id, sharing: Sharing::Shared, from, source, read_only: false, mode, uid, gid: 0 };
        let mounts = vec![Mount { span: crate::source::Span::default(), target: "/c".into(), kind }];
        let all = components(&Op::Run(Run { mounts, ..run() }));
        all.iter().filter(|part| part.tag == "mount-cache").count()
    };
    let again = |env: &str| {
        let kind = MountKind::Secret {
            id: "s".into(),
            env: Some("TOKEN".into()),
            file: false,
            required: true,
            mode: 0o400,
            uid: 0,
            gid: 0,
        };
        let mounts = vec![Mount { span: crate::source::Span::default(), target: String::new(), kind }];
        let all = components(&Op::Run(Run { mounts, env: vec![env.into()], ..run() }));
        all.iter().any(|part| part.tag == "mount-variables")
    };
    assert_eq!([again("TOKEN=none"), again("TOKENS=x"), again("A=TOKEN=")], [true, false, false]);
    assert_eq!(parts(None, 0o755, 0), 7);
    assert_eq!(parts(None, 0o700, 0), 8);
    assert_eq!(parts(None, 0o755, 1), 8);
    assert_eq!(parts(Some(CopyFrom::Context), 0o755, 0), 8);
}

#[test]
fn a_proxy_is_not_in_the_key() {
    let mut with = run();
    with.uncached_env.push("http_proxy=http://proxy:3128".into());
    assert_eq!(definition(&Op::Run(with)), definition(&Op::Run(run())));
}

#[test]
fn everything_that_decides_a_copy_is_in_its_key() {
    let changes: [fn(&mut Copy); 7] = [
        |copy| copy.from = CopyFrom::Stage(0),
        |copy| copy.from = CopyFrom::Image("a".into()),
        |copy| copy.sources = vec![CopySource::Path("ab".into())],
        |copy| copy.destination = "/d".into(),
        |copy| copy.chown = None,
        |copy| copy.chown = Some(String::new()),
        |copy| copy.chmod = None,
    ];
    let before = definition(&Op::Copy(copy()));
    for (index, change) in changes.iter().enumerate() {
        let mut copy = copy();
        change(&mut copy);
        assert_ne!(definition(&Op::Copy(copy)), before, "change {index}");
    }
}

#[test]
fn which_stage_is_copied_from_is_told_by_its_content_not_its_number() {
    let from = |from| definition(&Op::Copy(Copy { from, ..copy() }));
    assert_eq!(from(CopyFrom::Stage(0)), from(CopyFrom::Stage(7)));
    assert_eq!(from(CopyFrom::Image("a".into())), from(CopyFrom::Image("b".into())));
}

#[test]
fn fields_lists_and_domains_do_not_run_into_each_other() {
    let key = |build: &dyn Fn(&mut KeyBuilder)| {
        let mut builder = KeyBuilder::new("d");
        build(&mut builder);
        builder.finish()
    };
    let keys = [
        key(&|k| {
            k.field("a", "bc");
        }),
        key(&|k| {
            k.field("ab", "c");
        }),
        key(&|k| {
            k.list("a", ["bc"]);
        }),
        key(&|k| {
            k.list("a", ["b", "c"]);
        }),
        key(&|k| {
            k.list("a", ["bc", ""]);
        }),
        key(&|k| {
            k.list("a", [""; 0]);
        }),
        key(&|_| ()),
        KeyBuilder::new("").finish(),
    ];
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key), "key {index}");
    }
}

// What explains a miss must never hold a value: a build argument may be a secret.
#[test]
fn the_components_of_a_key_have_names_of_variables_and_digests_only() {
    let of = |run: Run| components(&Op::Run(run));
    let before = of(run());
    let mut changed = run();
    changed.env[1] = "A=secret".into();
    let after = of(changed);
    let different: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).collect();
    let [(a, b)] = different[..] else { panic!("{different:?}") };
    assert_eq!((a.tag.as_str(), a.name.as_deref()), ("env", Some("A")));
    assert_eq!((b.tag.as_str(), b.name.as_deref()), ("env", Some("A")));
    let json = serde_json::to_string(&after).unwrap();
    assert!(!json.contains("secret") && !json.contains("make"), "{json}");
}
