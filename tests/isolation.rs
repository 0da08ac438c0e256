//! Which ways there are to run a step, which is taken, and what works where there is none.

mod support;

use std::fs;

use support::{Project, User, base};

/// The ways to build without running anything: with a full map of ids, with one id, without a namespace.
fn ways() -> [(&'static str, User, &'static str); 3] {
    let [full, single] = [User::new(), User::without_subids()];
    for user in [&full, &single] {
        user.pull(&base::busybox());
    }
    [("full map", full.clone(), "auto"), ("one id", single, "auto"), ("none", full, "none")]
}

fn project(user: &User, isolation: &str) -> Project {
    Project::of(user).arg(&format!("--isolation={isolation}")).arg("--timestamp=1700000000")
}

#[test]
fn a_build_without_run_gives_the_same_bytes_everywhere() {
    let digests = ways().map(|(way, user, isolation)| {
        let built = project(&user, isolation)
            .file("a/secret", "1")
            .file("a/program", "2")
            .file("a/more/file", "3")
            .link("a/link", "program")
            .hard_link("a/program2", "a/program")
            .mode("a/program", 0o4755)
            .mode("a/more", 0o1777)
            .mode("a/secret", 0o444)
            .dockerfile(
                "
                FROM busybox AS first
                COPY --chown=1000:2000 a /srv/a/
                WORKDIR /srv/made
                FROM busybox
                COPY --from=first /srv /copied
                COPY --from=first --chown=7 /bin/busybox /bin/own
                USER 1000
                WORKDIR /home/of/user
                ",
            )
            .arg("--no-cache")
            .build();
        let image = built.succeeds();
        image.has_owner("copied/a/secret", "1000:2000", 0o444);
        (way, image.digest().to_owned())
    });
    for (way, digest) in &digests[1..] {
        assert_eq!(*digest, digests[0].1, "{way}");
    }
}

/// Builds in the way `isolation` as `user`, and returns the digest.
fn digest(user: &User, isolation: &str, dockerfile: &str, line: &str) -> String {
    let mut project = project(user, isolation).file("one", "1").dockerfile(dockerfile).arg("--no-cache");
    for (owner, name) in [("4242424242", "late.tar"), ("7", "early.tar")] {
        let tar = project.path(name);
        user.tool(&format!(
            "tar -cf {} --mtime=@0 --owner=o:{owner} --group=g:5 -C {} one",
            tar.display(),
            project.dir().display()
        ))
        .run()
        .succeeds();
        project = project.touch("one");
    }
    let built = project.build();
    assert_eq!(built.count("isolation: "), line.split('|').count(), "{}", built.stderr);
    line.split('|').for_each(|line| assert!(built.stderr.contains(line), "{line}: {}", built.stderr));
    built.succeeds().digest().to_owned()
}

#[test]
fn what_a_full_map_lacks_has_the_same_bytes_with_it() {
    let [(_, full, _), (_, single, _), _] = ways();
    let emulated = "isolation: user namespace, one id, owners emulated";
    for (dockerfile, line) in [
        // Seen in the Dockerfile: there is one line.
        (
            "FROM busybox\nCOPY --chown=1000680000:70000 one /one\nUSER 1000680000\nRUN id >/tmp/id && touch /tmp/f",
            "isolation: user namespace, one id, owners emulated (no full id map: the id 1000680000 is not in it)",
        ),
        ("FROM busybox\nRUN mknod /n c 1 3 && cp -a /n /m", "(no full id map: no device can be made in it)"),
        // Found while it is built.
        (
            "FROM busybox\nRUN echo 1 >/before\nRUN cp -a /dev/null /n\nRUN cp -a /n /m && [ -c /m ]",
            "isolation: user namespace, subordinate ids|(no full id map: no device can be made in it)",
        ),
        (
            "FROM busybox AS a\nRUN sleep 0.2; echo 1 >/a\nFROM busybox\nRUN echo 1 >/b\nADD late.tar /d/\nCOPY --from=a /a /a\nRUN stat -c %u:%g /d/one >/who",
            "isolation: user namespace, subordinate ids|the id 4242424242 is not in it",
        ),
        (
            "FROM busybox\nRUN echo app:x:1000680000:5::/:/bin/sh >>/etc/passwd\nUSER app\nRUN id >/tmp/id",
            "isolation: user namespace, subordinate ids|the id 1000680000 is not in it",
        ),
        // Not lacking.
        ("FROM busybox\nADD early.tar /d/\nRUN mknod /pipe p", "isolation: user namespace, subordinate ids"),
    ] {
        let (by_full, by_single) =
            (digest(&full, "auto", dockerfile, line), digest(&single, "auto", dockerfile, emulated));
        assert_eq!(by_full, by_single, "{dockerfile}");
        assert_eq!(digest(&full, "single-id", dockerfile, emulated), by_full, "{dockerfile}");
    }
}

#[test]
fn a_step_that_is_begun_again_has_not_failed() {
    let [(_, full, _), ..] = ways();
    let built = project(&full, "auto").dockerfile("FROM busybox\nRUN cp -a /dev/null /n").arg("--no-cache").build();
    built.stderr_has("#1 AGAIN ").stderr_has("#1 DONE ").stderr_has_no("FAILED").succeeds();
}

/// Calls the program as root behind `wrappers`, which are beside in-env.
fn by_root(dir: &std::path::Path, wrappers: &[&str], args: &[&str]) -> std::process::Output {
    let tools = support::root().join("tests/environments");
    let mut words: Vec<_> = wrappers.iter().map(|name| tools.join(name)).collect();
    words.push(env!("CARGO_BIN_EXE_coracle").into());
    let mut command = std::process::Command::new(&words[0]);
    command.args(&words[1..]).arg("--root").arg(dir.join("store")).args(args);
    command.env("CORACLE_CACHE_DIR", dir.join("caches")).current_dir(dir).output().expect("it is there")
}

#[test]
fn where_nothing_can_be_emulated_an_image_with_devices_is_built_on_all_the_same() {
    if !support::environment::can_be_made() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let call = |wrappers: &[&str], args: &[&str], works: bool| {
        let output = by_root(dir.path(), wrappers, args);
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert_eq!(output.status.success(), works, "{wrappers:?} {args:?}: {said:?}");
        said
    };
    let build = |wrappers: &[&str], isolation: &str, name: &str, text: &str| {
        fs::write(dir.path().join("Dockerfile"), text).unwrap();
        let isolation = format!("--isolation={isolation}");
        let [_, stderr] =
            call(wrappers, &["build", "--progress=plain", "--no-cache", &isolation, "-t", name, "."], true);
        stderr
    };
    call(&[], &["pull", &format!("oci:{}", base::busybox().display()), "busybox"], true);
    let makes = "FROM busybox\nRUN mkdir /jail && mknod /jail/null c 1 3";
    build(&[], "single-id", "jail", makes);
    let uses = "FROM jail\nRUN test -e /jail/null && echo ok >/ok && chown 1000:1000 /ok\nRUN test -f /ok";
    let warning = "RUN steps can make no devices here: seccomp(SECCOMP_FILTER_FLAG_NEW_LISTENER): ";
    for isolation in ["auto", "userns"] {
        let said = build(&["deny-listener"], isolation, "full", uses);
        assert!(said.contains("isolation: user namespace, ") && !said.contains("one id"), "{said}");
        assert_eq!((said.matches("isolation: ").count(), said.matches(warning).count()), (1, 1), "{said}");
    }
    let [listed, _] = call(&["deny-listener"], &["run", "jail", "ls", "/jail"], true);
    assert_eq!(listed, "null\n");
    for isolation in ["auto", "chroot"] {
        let said = build(&["deny-namespaces", "deny-listener"], isolation, "chroot", uses);
        assert!(said.contains("isolation: chroot, no namespaces") && !said.contains("emulated"), "{said}");
    }
}

/// The supervisor of a step is in the session of who builds.
#[test]
fn a_device_that_a_step_makes_is_not_the_terminal_of_the_user() {
    let user = User::without_subids();
    user.pull(&base::busybox());
    let project = Project::of(&user).dockerfile(
        "
        FROM busybox
        RUN mknod /t c 5 0; (printf 'cana%s' ry >/t) 2>&1 | grep -q 'No such device or address'
        RUN (printf 'cana%s' ry >/dev/tty) 2>&1 | grep -q 'No such device or address'
        ",
    );
    // With a terminal of its own.
    let built = user.tool("script -qec").arg(project.call().within(project.dir()).line()).arg("/dev/null").run();
    assert!(!built.succeeds().stdout.contains("canary"));
}

#[test]
fn an_image_with_ids_that_a_full_map_lacks_is_pulled_and_built_on() {
    let [(_, full, _), ..] = ways();
    let first = project(&full, "single-id").file("one", "1").named("docker.io/library/big:latest");
    first.dockerfile("FROM busybox\nCOPY --chown=1000680000:70000 one /one").build().succeeds();
    let fresh = User::new();
    let archive = fresh.new_dir().join("big.tar");
    full.coracle(["save", "-o", archive.to_str().unwrap(), "--format", "oci-archive", "big"]).run().succeeds();
    let pulled = fresh.coracle(["pull", &format!("oci-archive:{}", archive.display()), "big"]).run();
    pulled.succeeds().stderr_has("the id 1000680000 is not in it");
    let line = "isolation: user namespace, one id, owners emulated (no full id map: the id 1000680000 is not in it)";
    let built = Project::of(&fresh).dockerfile("FROM big\nRUN stat -c %u:%g /one >/who && touch /one").build();
    assert_eq!(built.count("isolation: "), 1, "it is known from the first time");
    built.stderr_has(line).succeeds().has_file("who", "1000680000:70000\n").has_owner("one", "1000680000:70000", 0o644);
}

#[test]
fn without_isolation_no_namespace_is_entered_and_all_on_disk_is_the_callers() {
    let user = User::with_busybox();
    let built = project(&user, "none").file("f", "x").dockerfile("FROM busybox\nCOPY f /f").build();
    built.stderr_has("isolation: none, no step can be run").succeeds().has_file("f", "x");
    let realms: Vec<_> = fs::read_dir(user.store().join("snapshots")).unwrap().flatten().collect();
    let names: Vec<_> = realms.iter().map(|realm| realm.file_name().into_string().unwrap()).collect();
    assert!(names.contains(&"caller".to_owned()), "{names:?}");
    // No id map is needed to remove it.
    user.tool(&format!("rm -rf {}", user.store().join("snapshots/caller").display())).run().succeeds();
}

#[test]
fn a_run_that_cannot_be_run_is_refused_before_anything_is_done() {
    let user = User::with_busybox();
    let before = || {
        let listing = |dir: &str| fs::read_dir(user.store().join(dir)).map_or(0, Iterator::count);
        ["layers", "snapshots", "snapshots/caller", "cache/steps", "oci/blobs/sha256"].map(listing)
    };
    let there = before();
    let project = project(&user, "none").file("f", "x").dockerfile(
        "
        FROM busybox AS first
        COPY f /f
        FROM busybox AS second
        RUN echo one
        FROM busybox
        COPY --from=first /f /f
        COPY --from=second /etc /etc2
        RUN echo two
        ",
    );
    project
        .build()
        .fails(6)
        .stderr_has("Dockerfile:4:")
        .stderr_has("RUN echo one: no command can be run here: no step is to be run")
        .stderr_has("hint: leave --isolation=none out")
        .stderr_has_no("COPY f /f\n");
    assert_eq!(before(), there, "nothing was unpacked, copied or remembered");
}

#[test]
fn a_run_in_the_cache_is_no_obstacle() {
    let user = User::with_busybox();
    // Layers whose times were changed are no blobs to unpack again, so times are kept here.
    let project = |isolation: &str, text: &str| {
        let project = Project::of(&user).arg(&format!("--isolation={isolation}")).file("f", text);
        project.dockerfile("FROM busybox\nRUN echo made >/made\nCOPY f /f")
    };
    project("auto", "1").build().succeeds();
    let image = project("none", "2").build().cached(1).succeeds();
    image.has_file("made", "made\n").has_file("f", "2");
    // If nothing has to be done, nothing has to be known about the machine.
    project("none", "2").build().cached(2).stderr_has_no("isolation: ").succeeds();
}

#[test]
fn a_way_that_is_asked_for_and_not_there_is_no_obstacle_to_what_runs_nothing() {
    let user = User::with_busybox();
    let here = |text: &str| project(&user, "chroot").file("f", "1").dockerfile(text).build();
    here("FROM busybox\nCOPY f /f").succeeds();
    here("FROM busybox\nRUN true")
        .fails(6)
        .stderr_has("Dockerfile:2:")
        .stderr_has("chroot(\"/\"): Operation not permitted")
        .stderr_has("hint: only root may change the root of a process");
}

#[test]
fn a_container_is_refused_in_the_same_words() {
    let user = User::with_busybox();
    let limited = format!("{} run busybox true", env!("CARGO_BIN_EXE_coracle"));
    let deny = support::root().join("tests/environments/deny-namespaces");
    let failed = user.tool(&format!("{} {limited}", deny.display())).run().fails(6);
    failed.stderr_has("no command can be run here: unshare(CLONE_NEWUSER): ").stderr_has("hint: ");
}

#[test]
fn what_keeps_from_a_full_map_is_said_in_the_line_that_names_the_mode() {
    let user = User::without_subids();
    user.pull(&base::busybox());
    let built = Project::of(&user).file("f", "1").dockerfile("FROM busybox\nCOPY f /f").build();
    built
        .stderr_has(
            "isolation: user namespace, one id, owners emulated (no full id map: user dev has no range in /etc/subuid)",
        )
        .succeeds();
}

/// Returns a PATH with a newuidmap that refuses.
fn path_without_maps(user: &User) -> String {
    let tools = user.new_dir();
    let refuse = "#!/bin/sh\necho 'newuidmap: write to uid_map failed: Operation not permitted' >&2\nexit 1\n";
    fs::write(tools.join("newuidmap"), refuse).unwrap();
    support::set_mode(&tools.join("newuidmap"), 0o755);
    format!("{}:/usr/bin:/bin", tools.display())
}

#[test]
fn a_tool_that_cannot_write_the_map_is_no_end() {
    let user = User::with_busybox();
    let project = Project::of(&user).dockerfile("FROM busybox\nRUN touch /f && chown 5:6 /f");
    let built = project.built(project.call().env("PATH", &path_without_maps(&user)).run());
    built
        .stderr_has("isolation: user namespace, one id, owners emulated (no full id map: newuidmap ")
        .stderr_has("write to uid_map failed: Operation not permitted")
        .succeeds()
        .has_owner("f", "5:6", 0o644);
}

#[test]
fn a_wish_that_buildah_knows_is_followed_where_it_can_be() {
    let user = User::with_busybox();
    let project = Project::of(&user).file("f", "1").dockerfile("FROM busybox\nCOPY f /f");
    let built = project.built(project.call().env("BUILDAH_ISOLATION", "chroot").run());
    built.stderr_has("isolation: user namespace, subordinate ids ").stderr_has(" (no chroot by root: ").succeeds();
}

#[test]
fn one_store_serves_several_modes_in_turn() {
    let user = User::with_busybox();
    let refused = path_without_maps(&user);
    let build = |isolation: &str, path: Option<&str>, text: &str| {
        let project = project(&user, isolation).arg("--no-cache").file("f", "1").dockerfile(text);
        let call = path.into_iter().fold(project.call(), |call, path| call.env("PATH", path));
        project.built(call.run()).succeeds().digest().to_owned()
    };
    let copies = "FROM busybox\nCOPY --chown=5 f /f\nWORKDIR /w";
    let first = build("auto", None, copies);
    for (isolation, path) in [("none", None), ("auto", Some(refused.as_str())), ("auto", None), ("none", None)] {
        assert_eq!(build(isolation, path, copies), first, "{isolation} {path:?}");
    }
    let runs = "FROM busybox\nRUN mkdir -p /d/e && chown -R 7:8 /d && ln -s x /d/l && chown -h 9 /d/l && chmod 2750 /d\nRUN rm -r /d/e";
    let first = build("auto", None, runs);
    assert_eq!(build("auto", Some(&refused), runs), first);
    // What one mode made is known to the others, as far as its blobs go.
    let text = "FROM busybox\nRUN echo x >/x && chown 4 /x";
    let cached = |path: Option<&str>| {
        let project = Project::of(&user).dockerfile(text);
        let call = path.into_iter().fold(project.call(), |call, path| call.env("PATH", path));
        project.built(call.run())
    };
    cached(Some(&refused)).cached(0).succeeds();
    cached(None).cached(1).succeeds();
    user.coracle(["prune", "--all"]).run().succeeds().stderr_has_no("could not be removed");
}

/// The kernel tells where a folder is mounted to be changed and as a layer below at once.
#[test]
fn no_layer_is_mounted_twice() {
    let log = || {
        let output = std::process::Command::new("dmesg").output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Some(before) = log() else {
        eprintln!("not tested: the kernel's log can be read by root only, and by no root of a container");
        assert!(std::env::var_os("CI").is_none() || !rustix::process::getuid().is_root(), "CI must be able to read it");
        return;
    };
    let steps: String = (0..60).map(|n| format!("RUN echo {n} >/f{n}\n")).collect();
    let [full, single] = [User::new(), User::without_subids()];
    for user in [&full, &single] {
        user.pull(&base::busybox());
        for _ in 0..2 {
            Project::of(user).dockerfile(&format!("FROM busybox\n{steps}")).arg("--no-cache").build().succeeds();
        }
    }
    let after = log().expect("it could be read before");
    let since = before.lines().last().and_then(|line| after.split_once(line)).map_or(&*after, |(_, since)| since);
    assert!(!since.contains("in-use as upperdir"), "{since}");
}
