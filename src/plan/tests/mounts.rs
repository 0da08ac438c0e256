//! `RUN --mount`, `--network` and `--security`. Semantics 39.

use super::*;

fn mounts(options: &str) -> Vec<Mount> {
    plan(&format!("FROM base AS tools\nFROM base\nENV e=x\nWORKDIR /w\nRUN {options} make\n")).runs()[0].mounts.clone()
}

fn mount(options: &str) -> (String, MountKind) {
    let mount = mounts(&format!("--mount={options}")).remove(0);
    (mount.target, mount.kind)
}

#[track_caller]
fn error(options: &str) -> String {
    case(&format!("FROM base\nRUN --mount={options} make\n")).errors().remove(0)
}

fn bind(from: CopyFrom, source: &str, writable: bool) -> MountKind {
    MountKind::Bind { from, source: source.into(), writable }
}

#[test]
fn a_bind_is_what_a_mount_is_by_default() {
    for (options, target, kind) in [
        ("target=/t", "/t", bind(CopyFrom::Context, "/", false)),
        ("type=bind,source=a/../b,target=t/", "/w/t", bind(CopyFrom::Context, "/b", false)),
        ("type=bind,src=/$e,dst=/$e,rw", "/x", bind(CopyFrom::Context, "/x", true)),
        ("from=tools,destination=/t,readonly=false", "/t", bind(CopyFrom::Stage(0), "/", true)),
        ("from=0,target=/t,ro", "/t", bind(CopyFrom::Stage(0), "/", false)),
        ("TYPE=bind,From=TOOLS,Target=/t,readwrite=0", "/t", bind(CopyFrom::Stage(0), "/", false)),
        // As in BuildKit: without a target, the working directory.
        ("source=.", "/w", bind(CopyFrom::Context, "/", false)),
    ] {
        assert_eq!(mount(options), (target.into(), kind), "{options}");
    }
}

#[test]
fn rule_39_a_cache_is_named_by_its_target_shared_and_made_with_0755() {
    let cache = MountKind::Cache {
        id: "/root/.cache".into(),
        sharing: Sharing::Shared,
        from: None,
        source: "/".into(),
        read_only: false,
        mode: 0o755,
        uid: 0,
        gid: 0,
    };
    assert_eq!(mount("type=cache,target=/root/.cache/"), ("/root/.cache".into(), cache));
    let (target, kind) =
        mount("type=cache,id=$e,target=c,sharing=LOCKED,from=tools,source=/s,ro,mode=0700,uid=7,gid=8");
    let all = MountKind::Cache {
        id: "x".into(),
        sharing: Sharing::Locked,
        from: Some(CopyFrom::Stage(0)),
        source: "/s".into(),
        read_only: true,
        mode: 0o700,
        uid: 7,
        gid: 8,
    };
    assert_eq!((target.as_str(), kind), ("/w/c", all));
    let id = |text: &str| match mount(text).1 {
        MountKind::Cache { id, .. } => id,
        other => panic!("{other:?}"),
    };
    assert_eq!(id("type=cache,target=c/../d"), "d");
    assert!(matches!(mount("type=cache,from=scratch,target=/c").1, MountKind::Cache { from: None, .. }));
}

#[test]
fn the_user_can_give_caches_a_namespace() {
    let made = case("FROM base\nRUN --mount=type=cache,target=/c x\n").arg("BUILDKIT_CACHE_MOUNT_NS", "ns").made();
    assert!(matches!(&made.plan.runs()[0].mounts[0].kind, MountKind::Cache { id, .. } if id == "ns//c"));
}

#[test]
fn a_tmpfs_may_have_a_size() {
    assert_eq!(mount("type=tmpfs,target=/t"), ("/t".into(), MountKind::Tmpfs { size: None }));
    assert_eq!(mount("type=tmpfs,target=/t,size=1.5m"), ("/t".into(), MountKind::Tmpfs { size: Some(3 << 19) }));
    assert_eq!(error("type=tmpfs,target=/t,size=x"), "2: `x` is not a size");
}

#[test]
fn rule_39_a_secret_is_a_file_of_root_under_run_secrets_or_a_variable() {
    let secret = |id: &str, env: Option<&str>, file: bool, required: bool| MountKind::Secret {
        id: id.into(),
        env: env.map(str::to_owned),
        file,
        required,
        mode: 0o400,
        uid: 0,
        gid: 0,
    };
    for (options, target, kind) in [
        ("type=secret,id=a/key", "/run/secrets/key", secret("a/key", None, true, false)),
        ("type=secret,source=key", "/run/secrets/key", secret("key", None, true, false)),
        ("type=secret,target=/root/.netrc", "/root/.netrc", secret(".netrc", None, true, false)),
        ("type=secret,id=k,dst=f,required", "/w/f", secret("k", None, true, true)),
        ("type=secret,id=k,env=TOKEN,required=true", "", secret("k", Some("TOKEN"), false, true)),
        ("type=secret,id=k,env=TOKEN,target=/t", "/t", secret("k", Some("TOKEN"), true, false)),
        ("required=false,type=secret,id=k", "/run/secrets/k", secret("k", None, true, false)),
    ] {
        assert_eq!(mount(options), (target.into(), kind), "{options}");
    }
    let (_, kind) = mount("type=secret,id=k,mode=0444,uid=1000,gid=50");
    assert!(matches!(kind, MountKind::Secret { mode: 0o444, uid: 1000, gid: 50, .. }));
    assert_eq!(error("type=secret"), "2: which secret is mounted is not said");
    assert_eq!(error("type=secret,id=a,source=b"), "2: a secret has an `id` or a `source`, not both");
    assert_eq!(error("type=secret,id=a,from=b"), "2: a mount of type secret has no option `from`");
    assert_eq!(error("type=secret,id=a,env=a=b"), "2: `a=b` cannot be a variable");
}

#[test]
fn rule_39_the_sockets_of_ssh_agents_are_counted() {
    let ssh = |id: &str| MountKind::Ssh { id: id.into(), required: false, mode: 0o600, uid: 0, gid: 0 };
    let made = mounts("--mount=type=ssh --mount=type=ssh,id=b,target=/s --mount=type=ssh,id=c");
    let made: Vec<_> = made.into_iter().map(|mount| (mount.target, mount.kind)).collect();
    assert_eq!(
        made,
        [
            ("/run/buildkit/ssh_agent.0".into(), ssh("default")),
            ("/s".into(), ssh("b")),
            ("/run/buildkit/ssh_agent.2".into(), ssh("c")),
        ]
    );
}

#[test]
fn options_may_be_quoted_as_in_a_table() {
    let (target, kind) = mount(r#"'"target=/a,b",source='"#);
    assert_eq!((target.as_str(), kind), ("/a,b", bind(CopyFrom::Context, "/", false)));
    assert_eq!(error(r#"'target=/a,"source=b'"#), "2: a quote in a mount without its partner");
    assert_eq!(error(r#"'"target=/a"b'"#), "2: a quote in a mount without its partner");
}

#[test]
fn a_mount_that_makes_no_sense_is_refused_at_its_place() {
    for (options, message) in [
        ("tagret=/t", "unknown option `tagret` of a mount"),
        ("type=bnid,target=/t", "`bnid` is no type of a mount"),
        ("type=cache,target=/t,sharing=lock", "`lock` is no sharing of a mount"),
        ("target=/t,dst=/u", "the option `target` is given twice"),
        ("target", "the option `target` needs a value"),
        ("target=/t,,source=a", "an option of the mount is empty"),
        ("target=/", "a mount cannot be on `/`"),
        ("source=x", "a mount cannot be on `/`"),
        ("target=/t/..", "a mount cannot be on `/`"),
        ("target=/t,ro,rw", "a mount is `readonly` or `readwrite`, not both"),
        ("target=/t,ro=maybe", "the option `readonly` is true or false, not `maybe`"),
        ("target=/t,required", "a mount of type bind has no option `required`"),
        ("target=/t,uid=1", "a mount of type bind has no option `uid`"),
        ("target=/t,sharing=locked", "a mount of type bind has no option `sharing`"),
        ("type=cache,target=/t,size=1", "a mount of type cache has no option `size`"),
        ("type=ssh,env=X", "a mount of type ssh has no option `env`"),
        ("type=cache,target=/t,uid=-1", "`-1` is not a uid"),
        ("type=cache,target=/t,gid=4294967295", "`4294967295` is not a gid"),
        ("type=cache,target=/t,mode=888", "`888` is not a mode"),
        ("from=scratch,target=/t", "there is nothing in `scratch` to mount"),
        ("from=$X,target=/t", "`from` takes no variables"),
        ("from=7,target=/t", "there is no stage 7"),
        ("target=${x", "`${` without `}`"),
    ] {
        assert_eq!(error(options), format!("2: {message}"), "{options}");
    }
    let place = case("FROM base\nRUN --mount=type=cache,target=/c,tagret=x make\n");
    let errors = place.result().err().unwrap();
    assert_eq!(
        errors[0].render(&place.source, false),
        "\
error: unknown option `tagret` of a mount
 --> Dockerfile:2:34
  |
2 | RUN --mount=type=cache,target=/c,tagret=x make
  |                                  ^^^^^^^^
  |
  = hint: did you mean `target`?"
    );
}

#[test]
fn an_option_that_means_nothing_and_does_no_harm_is_a_warning() {
    let made = case("FROM base\nRUN --mount=type=tmpfs,target=/t,from=nowhere,rw make\n").made();
    assert_eq!(
        made.warnings,
        [
            "2: the option `from` means nothing for a mount of type tmpfs",
            "2: the option `readwrite` means nothing for a mount of type tmpfs",
        ]
    );
}

#[test]
fn mounts_from_stages_and_images_are_part_of_the_graph() {
    let case =
        case("FROM base AS a\nFROM base AS b\nFROM base\nRUN --mount=from=b,target=/b --mount=from=img,target=/i x\n");
    assert_eq!(case.images().iter().map(|it| it.0.as_str()).collect::<Vec<_>>(), ["base", "img"]);
    let plan = case.image("img", |_| {}).made().plan;
    assert_eq!(plan.stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(), ["b", "2"]);
    let forward = super::case("FROM base\nRUN --mount=from=z,target=/z x\nFROM base AS z\nFROM base\n");
    assert_eq!(forward.made().plan.stages.len(), 1);
    let forward = super::case("FROM base AS y\nRUN --mount=from=z,target=/z x\nFROM base AS z\n").target("y");
    assert_eq!(forward.errors(), ["2: the stage `z` is defined further down"]);
    let own = super::case("FROM base AS y\nRUN --mount=from=y,target=/z x\n");
    assert_eq!(own.errors(), ["2: the stage `y` copies from itself"]);
}

#[test]
fn rule_36_the_definition_of_a_mount_is_in_the_key() {
    let lines = [
        "",
        "--mount=target=/a",
        "--mount=target=/b",
        "--mount=target=/a,rw",
        "--mount=target=/a,source=s",
        "--mount=target=/a,from=tools",
        "--mount=type=cache,target=/a",
        "--mount=type=cache,target=/a,id=b",
        "--mount=type=cache,target=/a,sharing=locked",
        "--mount=type=cache,target=/a,sharing=private",
        "--mount=type=cache,target=/a,mode=700",
        "--mount=type=cache,target=/a,ro",
        "--mount=type=tmpfs,target=/a",
        "--mount=type=tmpfs,target=/a,size=1",
        "--mount=type=secret,id=a",
        "--mount=type=secret,id=a,env=X",
        "--mount=type=secret,id=a,required",
        "--mount=type=ssh",
        "--mount=type=ssh,id=a",
        "--mount=type=ssh --mount=type=ssh",
        "--network=none",
        "--network=host",
    ];
    let key = |options: &str| {
        let text = format!("FROM base AS tools\nFROM base\nRUN {options} x\n");
        let plan = plan(&text);
        definition(&plan.last().steps[0].op)
    };
    let mut keys: Vec<_> = lines.iter().map(|line| key(line)).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), lines.len());
    // What says the same has the same key.
    assert_eq!(key("--network=default --security=sandbox"), key(""));
    assert_eq!(key("--mount=type=bind,dst=/a/,ro"), key("--mount=target=/a"));
}

#[test]
fn network_security_and_device() {
    let network = |flag: &str| plan(&format!("FROM base\nRUN {flag} x\n")).runs()[0].network;
    assert_eq!(network("--network=none"), Network::None);
    assert_eq!(network("--network=host"), Network::Host);
    assert_eq!(network("--network=default"), Network::Default);
    assert_eq!(network("--security=sandbox"), Network::Default);
    for (flag, message) in [
        ("--network=nnoe", "`--network=nnoe` is unknown"),
        ("--network=$N", "`--network=$N` is unknown"),
        ("--security=insecure", "`--security=insecure` is not allowed"),
        ("--security=sand", "`--security=sand` is unknown"),
        ("--device=/dev/x", "`RUN --device` is not allowed"),
        ("--device", "`RUN --device` is not allowed"),
    ] {
        assert_eq!(case(&format!("FROM base\nRUN {flag} x\n")).errors(), [format!("2: {message}")]);
    }
}
