//! `RUN --mount=type=cache`: what stays from build to build, who shares it, and how it is moved.

mod support;

use std::fs;

use support::gate::Gate;
use support::{Project, User, base};

fn project(user: &User, lines: &str) -> Project {
    Project::of(user).arg("--no-cache").dockerfile(&format!("FROM busybox\n{}", support::dedent(lines)))
}

// Rule 39.
#[test]
fn a_cache_stays_and_its_id_is_its_target_unless_it_has_one() {
    for (mode, user) in User::both() {
        let first = project(
            &user,
            "
            RUN --mount=type=cache,target=/c stat -c '%a %u:%g' /c >/stat && echo kept >/c/f && chown 5:6 /c/f
            RUN --mount=type=cache,target=/c/ cat /c/f >/same && ! test -e /d
            RUN --mount=type=cache,target=/d,id=/c stat -c %u:%g /d/f >/owner
            RUN --mount=type=cache,target=/c,id=other ls /c >/other && touch /c/x
            RUN --mount=type=cache,target=/l ln -s x /l/l && chown -h 5:6 /l/l && mkfifo /l/p && chown 7 /l/p && ln -s y /l/m
            RUN --mount=type=cache,target=/l stat -c %u:%g /l/l /l/p /l/m >/links && mv /l/p /l/q && chown -h 0:0 /l/l
            RUN --mount=type=cache,target=/l stat -c %u:%g /l/l /l/q /l/m >/links-then
            RUN --mount=type=cache,target=/c,readonly cat /c/f && ! touch /c/new 2>/dev/null
            ",
        );
        let image = first.build().succeeds();
        image.has_file("stat", "755 0:0\n").has_file("same", "kept\n").has_file("owner", "5:6\n").has_file("other", "");
        image.has_no("c").has_no("d");
        image.has_file("links", "5:6\n7:0\n0:0\n").has_file("links-then", "0:0\n7:0\n0:0\n");
        let again = project(&user, "RUN --mount=type=cache,target=/c,mode=755 cat /c/f >/f");
        again.build().succeeds().has_file("f", "kept\n");
        // Another namespace, another cache.
        let other = project(&user, "RUN --mount=type=cache,target=/c ls /c >/list")
            .arg("--build-arg=BUILDKIT_CACHE_MOUNT_NS=x");
        other.build().succeeds().has_file("list", "");
        user.coracle(["prune"]).run().succeeds();
        let kept = project(&user, "RUN --mount=type=cache,target=/c cat /c/f >/f").build().succeeds();
        assert_eq!(kept.text("f"), "kept\n", "{mode}");
    }
}

#[test]
fn a_cache_begins_with_what_from_says() {
    for (_, user) in User::both() {
        let project = project(
            &user,
            "
            RUN mkdir -p /seed/d && echo 1 >/seed/d/f && ln -s f /seed/d/l && chown -R 3:4 /seed && chown -h 8:9 /seed/d/l
            FROM busybox
            RUN --mount=type=cache,target=/c,from=0,source=/seed stat -c %u:%g /c /c/d/f /c/d/l >/owner && echo 2 >/c/d/f
            RUN --mount=type=cache,target=/c,from=0,source=/seed cat /c/d/f >/second
            ",
        );
        project.build().succeeds().has_file("owner", "3:4\n3:4\n8:9\n").has_file("second", "2\n");
    }
}

// As with BuildKit: what a cache begins with is a part of its name.
#[test]
fn a_cache_that_begins_with_other_files_is_another_one() {
    for (mode, user) in User::both() {
        let seeded = |text: &str, more: &str| {
            Project::of(&user).dockerfile(&support::dedent(&format!(
                "
                FROM busybox AS deps
                RUN mkdir /seed /like && echo {text} >/seed/f && echo {text} >/like/f{more}
                FROM busybox
                RUN --mount=type=cache,target=/c,from=deps,source=/seed cp /c/f /f && touch /c/mine && ls /c >/list
                RUN --mount=type=cache,target=/c ls /c >/plain
                RUN --mount=type=cache,target=/a,id=k,from=deps,source=/seed \
                    --mount=type=cache,target=/b,id=k,from=deps,source=/like touch /a/mine && ls /b >/other
                "
            )))
        };
        let built = seeded("1", "").build().succeeds();
        built.has_file("f", "1\n").has_file("list", "f\nmine\n").has_file("plain", "").has_file("other", "f\n");
        let built = seeded("2", "").build().succeeds();
        assert_eq!(built.text("f"), "2\n", "{mode}");
        // The same files, of another stage: the same cache, which another step has used since.
        let used = project(
            &user,
            "RUN mkdir /seed && echo 2 >/seed/f
            FROM busybox
            RUN --mount=type=cache,target=/c,from=0,source=/seed ls /c >/list && rm /c/f",
        );
        used.build().succeeds().has_file("list", "f\nmine\n");
        let again = seeded("2", " && true").arg("--no-cache").build().fails_cleanly();
        again.stderr_has("/c/f");
    }
}

#[test]
fn a_cache_of_somebody_else_is_another_one() {
    for (mode, user) in User::both() {
        let built = project(
            &user,
            "
            RUN mkdir -p /home/app && chown 1000:1000 /home/app
            RUN --mount=type=cache,target=/home/app/.cache touch /home/app/.cache/of-root
            USER 1000
            RUN --mount=type=cache,target=/home/app/.cache,uid=1000,gid=1000 ls /home/app/.cache >/tmp/list && touch /home/app/.cache/x
            RUN --mount=type=cache,target=/home/app/.cache,gid=1000,uid=1000,mode=755 ls /home/app/.cache >/tmp/again
            RUN --mount=type=cache,target=/home/app/.cache,uid=1000,gid=1000,mode=0700 stat -c '%a %u:%g' /home/app/.cache >/tmp/stat
            ",
        );
        let built = built.build().succeeds();
        built.has_file("tmp/list", "").has_file("tmp/again", "x\n");
        assert_eq!(built.text("tmp/stat"), "700 1000:1000\n", "{mode}");
    }
    let user = User::with_busybox();
    project(&user, "RUN --mount=type=cache,target=/c touch /c/plain").build().succeeds();
    let list = |flag: &[&str]| user.coracle(["cache", "ls"].iter().chain(flag)).run().succeeds().stdout;
    assert!(!list(&[]).contains("BEGINS WITH"), "{}", list(&[]));
    project(&user, "RUN --mount=type=cache,target=/c,uid=7 touch /c/seven").build().succeeds();
    let table = list(&[]);
    assert!(table.contains("BEGINS WITH") && table.contains("uid=7,gid=0,mode=0755"), "{table}");
    assert!(list(&["--json"]).contains("\"variant\": \"uid=7,gid=0,mode=0755\""));
    // Both are moved, and removed, under their one id.
    let out = user.new_dir().join("caches/");
    user.coracle(["cache", "export", "--id", "/c", out.to_str().unwrap()]).run().succeeds();
    user.coracle(["cache", "rm", "/c"]).run().succeeds();
    assert!(!list(&[]).contains("/c"));
    user.coracle(["cache", "import", out.to_str().unwrap()]).run().succeeds();
    let both = "RUN --mount=type=cache,target=/c ls /c >/list
        RUN --mount=type=cache,target=/c,uid=7 ls /c >>/list";
    project(&user, both).build().succeeds().has_file("list", "plain\nseven\n");
}

#[test]
fn the_folder_can_be_named_and_shared_by_stores() {
    let (a, b) = (User::with_busybox(), User::with_busybox());
    let dir = a.new_dir();
    let flag = format!("--cache-dir={}", dir.display());
    project(&a, "RUN --mount=type=cache,target=/c echo a >/c/f").arg(&flag).build().succeeds();
    let reads = project(&b, "RUN --mount=type=cache,target=/c cat /c/f >/f");
    reads.clone().arg(&flag).build().succeeds().has_file("f", "a\n");
    reads.built(reads.call().env("CORACLE_CACHE_DIR", dir.to_str().unwrap()).run()).succeeds().has_file("f", "a\n");
    assert!(!a.store().join("cache/mounts").exists());
}

#[test]
fn two_builds_wait_for_a_locked_cache_and_get_one_each_of_a_private_one() {
    for (mode, user) in User::both() {
        let holds = |target: &str, sharing: &str, end: &str| {
            let gate = Gate::closed();
            let wait = gate.wait();
            // The instruction is shown before the step begins, so it must not have that word in it.
            let mount = format!("--mount=type=cache,target={target}{sharing}");
            let line = format!("RUN {mount} echo 1 >{target}/busy && echo beg''un && {{ {wait}; }} {end}");
            let mut first = project(&user, &line).named("first:latest").start();
            first.wait_for(" begun");
            (first, gate)
        };
        let (first, gate) = holds("/c", ",sharing=locked", "&& rm /c/busy");
        let waits =
            project(&user, "RUN --mount=type=cache,target=/c,sharing=locked test ! -e /c/busy && echo alone >/alone");
        let mut second = waits.start();
        second.wait_for("waiting for the cache mount \"/c\"");
        gate.open();
        waits.built(second.wait()).succeeds().has_file("alone", "alone\n");
        first.wait().succeeds();

        let (first, gate) = holds("/p", ",sharing=private", "");
        let second =
            project(&user, "RUN --mount=type=cache,target=/p,sharing=private ls /p >/list && echo 2 >/p/second")
                .build();
        second.stderr_has_no("waiting").succeeds().has_file("list", "");
        gate.open();
        first.wait().succeeds();
        let third = project(&user, "RUN --mount=type=cache,target=/p,sharing=private ls /p >/list").build().succeeds();
        assert_eq!(third.text("list"), "busy\n", "{mode}: the first one again");

        let (first, gate) = holds("/s", "", "");
        let second = project(&user, "RUN --mount=type=cache,target=/s ls /s >/list").build();
        second.stderr_has_no("waiting").succeeds().has_file("list", "busy\n");
        gate.open();
        first.wait().succeeds();
    }
}

#[test]
fn a_cache_can_be_exported_wiped_imported_and_hit() {
    for (mode, user) in User::both() {
        let fill = "RUN --mount=type=cache,target=/c,id=deps mkdir /c/d && echo dep >/c/d/f && chown 5:6 /c/d/f && chmod 640 /c/d/f && ln -s f /c/d/l && chown -h 9:8 /c/d/l";
        project(&user, fill).build().succeeds();
        project(&user, "RUN --mount=type=cache,target=/c,id=other touch /c/x").build().succeeds();
        let list = user.coracle(["cache", "ls"]).run().succeeds().stdout;
        assert!(list.contains("deps") && list.contains("other"), "{list}");
        let out = user.new_dir();
        for to in ["caches.tar", "folder/"] {
            let path = format!("{}/{to}", out.display());
            user.coracle(["cache", "export", "--id", "deps", &path]).run().succeeds();
            user.coracle(["cache", "rm", "deps", "other"]).run().succeeds();
            assert!(!user.coracle(["cache", "ls", "--json"]).run().succeeds().stdout.contains("deps"));
            user.coracle(["cache", "import", &path]).run().succeeds();
            let hit = project(
                &user,
                "RUN --mount=type=cache,target=/c,id=deps stat -c '%a %u:%g' /c/d/f /c/d/l >/stat && cat /c/d/l >/f",
            );
            let image = hit.build().succeeds();
            assert_eq!(image.text("stat"), "640 5:6\n777 9:8\n", "{mode}");
            image.has_file("f", "dep\n");
            project(&user, "RUN --mount=type=cache,target=/c,id=other ls /c >/list")
                .build()
                .succeeds()
                .has_file("list", "");
        }
        // Through a pipe, as CI systems like it.
        let program = env!("CARGO_BIN_EXE_coracle");
        let pipe = format!(
            "{program} cache export - >{0}/piped && {program} cache rm deps && {program} cache import - <{0}/piped",
            out.display()
        );
        user.tool("sh -c").arg(pipe).run().succeeds();
        let hit = project(&user, "RUN --mount=type=cache,target=/c,id=deps cat /c/d/f >/f").build().succeeds();
        hit.has_file("f", "dep\n");
    }
}

#[test]
fn caches_with_the_same_content_all_come_back() {
    let user = User::with_busybox();
    let fill = "RUN --mount=type=cache,target=/a --mount=type=cache,target=/b touch -d @1700000000 /a /b";
    project(&user, fill).build().succeeds();
    let list = || user.coracle(["cache", "ls", "--json"]).run().succeeds().stdout;
    let out = user.new_dir();
    for (to, words, both) in [
        ("x.tar", &[][..], true),
        ("folder/", &[], true),
        ("x.tar", &["--id", "/a"], false),
        ("folder/", &["--id", "/a"], false),
    ] {
        let path = format!("{}/{to}", out.display());
        if both {
            user.coracle(["cache", "export", &path]).run().succeeds().stderr_has("exported 2 ");
        }
        user.coracle(["cache", "rm", "--all"]).run().succeeds();
        user.coracle([&["cache", "import", &path], words].concat()).run().succeeds();
        assert_eq!((list().contains("\"/a\""), list().contains("\"/b\"")), (true, both), "{to} {words:?}");
    }
}

#[test]
fn an_export_into_a_folder_leaves_nothing_of_the_one_before() {
    use std::os::unix::fs::MetadataExt;
    let user = User::with_busybox();
    let out = user.new_dir();
    let folder = out.join("caches");
    let fill = |line: &str| project(&user, &format!("RUN --mount=type=cache,target=/c {line}")).build().succeeds();
    let names = || {
        user.coracle(["cache", "export", &format!("{}/", folder.display())]).run().succeeds();
        let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
        let mut names: Vec<_> =
            entries.map(|e| (e.file_name().into_string().unwrap(), e.metadata().unwrap().ino())).collect();
        names.sort();
        names
    };
    fill("echo 1 >/c/f");
    let first = names();
    assert_eq!(first.len(), 2, "{first:?}");
    // What is right stays, for those who read it.
    assert_eq!(names()[0], first[0]);
    fill("echo 2 >/c/f");
    let own = out.join("caches/notes.tar.zst");
    user.tool("touch").arg(&own).run().succeeds();
    let second = names();
    assert_eq!(second.len(), 3, "{second:?}");
    assert!(!second.contains(&first[0]) && second.iter().any(|(name, _)| name == "notes.tar.zst"), "{second:?}");
}

#[test]
fn an_export_waits_for_the_steps_that_use_the_cache() {
    let user = User::with_busybox();
    let gate = Gate::closed();
    let line = format!(
        "RUN --mount=type=cache,target=/c touch /c/half && echo beg''un && {{ {}; }} && rm /c/half && touch /c/whole",
        gate.wait()
    );
    let mut build = project(&user, &line).start();
    build.wait_for(" begun");
    let path = user.new_dir().join("caches/");
    let mut export = user.coracle(["cache", "export", path.to_str().unwrap()]).start();
    export.wait_for("waiting for the cache mount \"/c\"");
    gate.open();
    build.wait().succeeds();
    export.wait().succeeds();
    user.coracle(["cache", "rm", "--all"]).run().succeeds();
    user.coracle(["cache", "import", path.to_str().unwrap()]).run().succeeds();
    let list = project(&user, "RUN --mount=type=cache,target=/c ls /c >/list").build().succeeds();
    list.has_file("list", "whole\n");
}

#[test]
fn an_export_keeps_to_its_size_and_an_import_that_means_harm_does_none() {
    let user = User::with_busybox();
    project(&user, "RUN --mount=type=cache,target=/big head -c 3000000 /dev/urandom >/big/f").build().succeeds();
    project(&user, "RUN --mount=type=cache,target=/small echo 1 >/small/f").build().succeeds();
    let out = user.new_dir();
    let path = format!("{}/c.tar", out.display());
    let exported = user.coracle(["cache", "export", "--max-size", "1m", &path]).run().succeeds();
    exported.stderr_has("/big").stderr_has("left out");
    user.coracle(["cache", "rm", "--all"]).run().succeeds();
    user.coracle(["cache", "import", &path]).run().succeeds();
    project(&user, "RUN --mount=type=cache,target=/small cat /small/f >/f").build().succeeds().has_file("f", "1\n");
    fs::write(out.join("bad"), b"not an archive at all, but long enough to be taken for one").unwrap();
    user.coracle(["cache", "import", &format!("{}/bad", out.display())]).run().fails(3);
    user.coracle(["cache", "import", &format!("{}/missing", out.display())]).run().fails(3);
}

#[test]
fn prune_takes_caches_only_when_it_is_told_to() {
    let user = User::with_busybox();
    let fill = || project(&user, "RUN --mount=type=cache,target=/c echo 1 >/c/f").build().succeeds();
    let list = || user.coracle(["cache", "ls", "--json"]).run().succeeds().stdout;
    fill();
    user.coracle(["prune"]).run().succeeds();
    assert!(list().contains("\"/c\""));
    user.coracle(["prune", "--all"]).run().succeeds();
    assert!(!list().contains("\"/c\""));
    fill();
    user.coracle(["cache", "prune", "--older-than", "1h"]).run().succeeds();
    assert!(list().contains("\"/c\""));
    user.coracle(["cache", "prune", "--max-size", "0"]).run().succeeds();
    assert!(!list().contains("\"/c\""));
}

// As two builds of one project do, where owners are emulated.
#[test]
fn a_step_that_is_done_does_not_fail_for_what_another_one_does_to_their_cache() {
    let user = User::without_subids();
    user.pull(&base::busybox());
    let own = "RUN --mount=type=cache,target=/c,id=k ln -sfn x /c/l && chown -h 5:5 /c/l";
    let steps: String = (0..12).map(|number| format!("{own} && echo {number}\n")).collect();
    let lines = format!(
        "FROM busybox AS seed
        RUN i=0; while [ $i -lt 200 ]; do mkdir -p /seed/$i/a/b /seed/$i/c/d; i=$((i+1)); done
        FROM seed AS a
        RUN --mount=type=cache,target=/c,id=k i=0; while [ $i -lt 12 ]; do cp -r /seed /c/t; rm -rf /c/t; i=$((i+1)); done; touch /a
        FROM seed AS b
        {steps}
        RUN --mount=type=cache,target=/c,id=k stat -c %u:%g /c/l >/owner
        FROM busybox
        COPY --from=a /a /a
        COPY --from=b /owner /owner"
    );
    let built = Project::of(&user).arg("--no-cache").dockerfile(&support::dedent(&lines)).build();
    built.succeeds().has_file("owner", "5:5\n");
    // And where the list can not be written at all.
    project(&user, "RUN --mount=type=cache,target=/d touch /d/f").build().succeeds();
    let mounts = user.store().join("cache/mounts");
    user.tool("sh -c")
        .arg(format!("for dir in {}/*/*/; do rm -f $dir/owners.lock; mkdir $dir/owners.lock; done", mounts.display()))
        .run()
        .succeeds();
    let built =
        project(&user, "RUN --mount=type=cache,target=/d ln -s x /d/l && chown -h 5:5 /d/l && touch /done").build();
    built
        .stderr_has("owners of links and fifos in the cache mount \"/d\" are not kept: ")
        .succeeds()
        .has_file("done", "");
}
