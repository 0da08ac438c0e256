//! `RUN --mount`: what a step sees that is in no layer, with a full map of ids and with one id.

mod support;

use support::{Built, Project, User};

/// Builds the same project as each of them; checks that the images are the same, byte for byte, and returns the last.
fn in_each_mode(project: impl Fn(Project) -> Project) -> Built {
    let mut first: Option<(String, Built)> = None;
    for (mode, user) in User::both() {
        let project = project(Project::of(&user).arg("--timestamp=1700000000"));
        let image = project.build().succeeds();
        let digest = image.digest().to_owned();
        match &first {
            Some((known, _)) => assert_eq!(digest, *known, "{mode}"),
            None => first = Some((digest, project.build())),
        }
    }
    first.expect("two users").1
}

#[test]
fn a_bind_of_the_context_is_seen_and_leaves_nothing() {
    let built = in_each_mode(|project| {
        project
            .file("src/a", "1")
            .file("src/secret", "2")
            .file(".dockerignore", "src/secret")
            .mode("src/a", 0o755)
            .link("src/link", "a")
            .dockerfile(
                "
                FROM busybox
                RUN --mount=type=bind,source=src,target=/mnt/deep/src \
                    cat /mnt/deep/src/link >/copy && ! test -e /mnt/deep/src/secret && \
                    ! touch /mnt/deep/src/new 2>/dev/null && stat -c '%a %u:%g' /mnt/deep/src/a >/stat
                WORKDIR /w
                RUN --mount=target=. test -f src/a && ! test -e /mnt && ! test -e src/secret
                ",
            )
    });
    let image = built.succeeds();
    image.has_file("copy", "1").has_file("stat", "755 0:0\n");
    image.layer(1).has_no("mnt");
}

#[test]
fn what_is_written_to_a_bind_is_dropped_and_the_source_stays() {
    let project = Project::new().file("src/a", "1").dockerfile(
        "
        FROM busybox AS first
        RUN mkdir /out && echo stage >/out/f && chown 7:8 /out/f
        FROM busybox
        RUN --mount=source=src,target=/src,rw echo new >/src/a && echo x >/src/b && cat /src/a /src/b >/both
        RUN --mount=source=src,target=/src,rw test \"$(cat /src/a)\" = 1 && ! test -e /src/b
        RUN --mount=from=first,source=/out,target=/out,rw stat -c %u:%g /out/f >/owner && echo more >>/out/f && rm /out/f
        RUN --mount=from=first,source=/out,target=/out cat /out/f >/stage && ! rm /out/f 2>/dev/null
        RUN --mount=from=first,source=/out/f,target=/single cat /single >/one
        RUN --mount=from=busybox,target=/other test -x /other/bin/busybox
        ",
    );
    let image = project.build().succeeds();
    image
        .has_file("both", "new\nx\n")
        .has_file("owner", "7:8\n")
        .has_file("stage", "stage\n")
        .has_file("one", "stage\n");
    assert_eq!(std::fs::read_to_string(project.path("src/a")).unwrap(), "1");
}

#[test]
fn binds_of_stages_give_the_same_bytes_in_both_modes() {
    in_each_mode(|project| {
        project.file("f", "1").dockerfile(
            "
            FROM busybox AS first
            RUN mkdir -p /out/d && echo 1 >/out/d/f && chown -R 5:6 /out && ln -s d /out/l && chown -h 9:9 /out/l
            FROM busybox
            RUN --mount=from=first,source=out,target=/in ls -ln /in/ | sed -E 's/ [A-Z][a-z][a-z] .* / /' >/list; cp -a /in /copy
            RUN --mount=type=tmpfs,target=/t --mount=type=cache,target=/root/.cache/x echo 1 | tee /t/f /root/.cache/x/f >/root/.cache/made
            ",
        )
    })
    .succeeds()
    .has_owner("copy/d/f", "5:6", 0o644);
}

// Rule 36: the content of a bind counts in the key.
#[test]
fn a_change_of_what_is_bound_is_a_miss_and_another_time_is_not() {
    let user = User::with_busybox();
    let project = |a: &str, b: &str| {
        Project::of(&user).file("a", a).file("b", b).dockerfile(
            "
            FROM busybox AS first
            COPY b /b
            FROM busybox
            RUN true
            RUN --mount=target=/c,source=a cat /c
            RUN --mount=from=first,target=/f cat /f/b
            ",
        )
    };
    project("1", "b").build().cached(0).succeeds();
    project("1", "b").touch("a").build().cached(4).succeeds();
    // The RUN behind it stands upon a layer that did not change.
    project("2", "b").build().cached(3).succeeds();
    project("1", "other").build().cached(2).succeeds();
}

#[test]
fn a_tmpfs_has_its_size_and_goes() {
    let built = in_each_mode(|project| {
        project.dockerfile(
            "
            FROM busybox
            RUN --mount=type=tmpfs,target=/t,size=64k df -k /t | awk 'NR==2 { print $2 }' >/size; echo x >/t/x; \
                stat -c %a /t >/mode; head -c 100000 /dev/zero >/t/y 2>/dev/null || echo full >/full
            ",
        )
    });
    built.succeeds().has_file("size", "64\n").has_file("mode", "1777\n").has_file("full", "full\n").has_no("t");
}

// Rule 37.
#[test]
fn what_is_made_to_mount_on_is_removed_and_what_the_image_has_stays() {
    let built = in_each_mode(|project| {
        project.file("resolv.conf", "mine\n").dockerfile(
            "
            FROM busybox
            COPY resolv.conf /etc/
            RUN mkdir -p /there/empty && touch -d @1000000000 /there /root
            RUN --mount=type=tmpfs,target=/there/empty --mount=type=tmpfs,target=/there/new/deep --mount=type=secret,id=s,target=/root/s \
                echo done >/done
            RUN --mount=type=cache,target=/a/b/c echo kept >/a/b/file
            ",
        )
        .arg("--secret=id=s,env=HOME")
    });
    let image = built.succeeds();
    image.has_file("done", "done\n").has_file("a/b/file", "kept\n").has_file("etc/resolv.conf", "mine\n");
    image.layer(3).has_file("done", "done\n").has_no("there").has_no("root");
    image.has_no("there/new").has_no("a/b/c");
}

#[test]
fn mounts_lie_in_each_other() {
    let built = in_each_mode(|project| {
        project.file("app/main", "1").dockerfile(
            "
            FROM busybox
            RUN --mount=source=app,target=/app,rw --mount=type=cache,target=/app/node_modules --mount=type=tmpfs,target=/app/node_modules/.tmp \
                echo x >/app/node_modules/m && echo y >/app/node_modules/.tmp/t && ls /app >/list
            RUN --mount=type=cache,target=/app/node_modules cat /app/node_modules/m >/kept && ! test -e /app/node_modules/.tmp/t
            ",
        )
    });
    built.succeeds().has_file("list", "main\nnode_modules\n").has_file("kept", "x\n").has_no("app");
}

// As BuildKit has it: targets are sorted.
#[test]
fn what_lies_in_another_mount_may_be_written_before_it() {
    let built = in_each_mode(|project| {
        let secret = format!("--secret=id=s,src={}", project.path("token").display());
        project
            .file("token", "t\n")
            .arg(&secret)
            .file("app/main", "1")
            .dockerfile(
                "
                FROM busybox
                RUN --mount=type=cache,target=/app/node_modules --mount=source=app,target=/app,rw \
                    echo x >/app/node_modules/m && ls /app >/list
                RUN --mount=type=cache,target=/app/node_modules cat /app/node_modules/m >/kept
                RUN --mount=type=secret,id=s,target=/app/.npmrc --mount=source=app,target=/app,rw cat /app/.npmrc >/secret
                RUN --mount=type=secret,id=s --mount=type=tmpfs,target=/run cat /run/secrets/s >>/secret
                RUN --mount=type=secret,id=s,target=/both --mount=source=app/main,target=/both cat /both >>/secret
                RUN --mount=type=tmpfs,target=/t/u --mount=type=tmpfs,target=/t-u --mount=type=tmpfs,target=/t \
                    awk '$2 ~ \"^/t\" { print $2 }' /proc/self/mounts >/order
                ",
            )
    });
    let image = built.succeeds();
    image.has_file("list", "main\nnode_modules\n").has_file("kept", "x\n").has_file("secret", "t\nt\nt\n");
    image.has_file("order", "/t\n/t-u\n/t/u\n").has_no("app").has_no("run/secrets");
}

#[test]
fn a_link_on_the_way_is_followed_inside_of_the_image_only() {
    let user = User::with_busybox();
    let outside = user.new_dir();
    let project = Project::of(&user).file("f", "1").link("out", outside.to_str().unwrap()).dockerfile(&format!(
        "
        FROM busybox
        RUN ln -s /real /link && ln -s {outside} /escape && mkdir /real
        RUN --mount=type=cache,target=/link/c test -d /real/c && echo 1 >/link/c/f
        RUN --mount=type=cache,target=/escape/c echo 1 >/escape/c/f
        ",
        outside = outside.display()
    ));
    let image = project.build().succeeds();
    image.has_no("real/c");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    let failed = Project::of(&user).link("out", outside.to_str().unwrap());
    let failed = failed.dockerfile("FROM busybox\nRUN --mount=source=out,target=/o ls /o").build().fails(1);
    failed.stderr_has("there is no /out to be mounted");
}

#[test]
fn what_cannot_be_mounted_says_why() {
    let failed = |line: &str| {
        let project = Project::new().file("f", "1").file("gone", "1").file(".dockerignore", "gone");
        project.dockerfile(&format!("FROM busybox\nRUN {line} true")).build().fails_cleanly()
    };
    failed("--mount=source=missing,target=/m")
        .stderr_has("there is no /missing to be mounted")
        .stderr_has("Dockerfile:2");
    failed("--mount=source=gone,target=/m").stderr_has("leaves it out: \"gone\"");
    failed("--mount=source=f,target=/bin").stderr_has("a file cannot be mounted at /bin: directory is there");
    failed("--mount=type=cache,target=/etc/passwd")
        .stderr_has("a directory cannot be mounted at /etc/passwd: file is there");
}

#[test]
fn a_script_with_a_shebang_is_run_and_in_no_layer() {
    let built = in_each_mode(|project| {
        project.dockerfile(
            "
            FROM busybox
            RUN <<'EOF'
            #!/bin/awk -f
            BEGIN { print \"$HOME from awk\" >\"/out\" }
            EOF
            USER www-data
            RUN --network=none <<RUNME
            #!/bin/sh
            echo $0 >/tmp/name
            RUNME
            ",
        )
    });
    let image = built.succeeds();
    image.has_file("out", "$HOME from awk\n").has_file("tmp/name", "/dev/pipes/RUNME\n").has_no("dev/pipes");
}
