//! `RUN --mount=type=secret` and `type=ssh`: who sees a secret, and where it must never be.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

use support::environment::{Environment, Mode, Visit, can_be_made};
use support::ssh::{keygen, with_programs};
use support::{Project, User, base, set_mode};

const SECRET: &str = "correct-horse-battery";

/// Whether `bytes` are anywhere below `dir`, in a file or its name.
fn is_below(dir: &Path, bytes: &[u8]) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| {
        let path = entry.path();
        let has = |text: &[u8]| text.windows(bytes.len()).any(|window| window == bytes);
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => is_below(&path, bytes),
            Ok(kind) if kind.is_file() => fs::read(&path).is_ok_and(|text| has(&text)),
            _ => false,
        }
    })
}

// Rule 39.
#[test]
fn a_secret_is_a_file_or_a_variable_for_one_step() {
    for (mode, user) in User::both() {
        let project = Project::of(&user).file("outside/token", SECRET).arg("--timestamp=1700000000").dockerfile(
            "
            FROM busybox
            ENV ONCE=none
            RUN --mount=type=secret,id=token test \"$(cat /run/secrets/token | wc -c)\" = 21 && \
                stat -c '%a %u:%g' /run/secrets/token >/stat && ! echo x 2>/dev/null >/run/secrets/token
            RUN --mount=type=secret,id=token,target=/etc/app/key,mode=0440,uid=33,gid=33 stat -c '%a %u:%g' /etc/app/key >/owner && \
                su -s /bin/sh www-data -c 'test -r /etc/app/key'
            RUN --mount=type=secret,id=token,env=TOKEN test ${#TOKEN} = 21 && ! test -e /run/secrets
            RUN --mount=type=secret,id=token,env=TOKEN,target=/key test \"$TOKEN\" = \"$(cat /key)\"
            RUN --mount=type=secret,id=token,env=ONCE cat /proc/$$/environ | tr '\\0' '\\n' | grep -c ^ONCE= >/once
            RUN --mount=type=secret,id=variable sh -c 'test \"$(cat /run/secrets/variable)\" = of-here' && echo yes >/variable
            RUN --mount=type=secret,id=absent ! test -e /run/secrets/absent && ! test -e /run/secrets
            RUN test -z \"$TOKEN\" && ! test -e /run/secrets && ! test -e /key && ! test -e /etc/app
            ",
        );
        let secret = format!("--secret=id=token,src={}", project.path("outside/token").display());
        let project = project.arg(&secret).arg("--secret=id=variable,env=OF_HERE");
        let built = project.built(project.call().env("OF_HERE", "of-here").run());
        assert!(!built.stdout.contains(SECRET) && !built.stderr.contains(SECRET), "{mode}");
        let image = built.succeeds();
        image.has_file("stat", "400 0:0\n").has_file("owner", "440 33:33\n").has_file("variable", "yes\n");
        image.has_file("once", "1\n");
        assert!(!image.document().to_string().contains(SECRET));
        assert!(!is_below(&user.store(), SECRET.as_bytes()), "{mode}");
    }
}

#[test]
fn a_secret_counts_in_no_key_and_a_required_one_must_be_there() {
    let user = User::with_busybox();
    let project = |more: &str| {
        Project::of(&user)
            .dockerfile(&format!("FROM busybox\nRUN --mount=type=secret,id=t{more} cat /run/secrets/t || true"))
    };
    let with =
        |project: Project, value: &str| project.built(project.call().arg("--secret=id=t,env=T").env("T", value).run());
    with(project(""), "first-value").cached(0).succeeds();
    with(project(""), "other-value").cached(1).succeeds();
    project("").build().cached(1).succeeds();
    let failed = project(",required").build().fails(2);
    failed
        .stderr_has("the secret \"t\" is required, and was not given")
        .stderr_has("Dockerfile:2")
        .stderr_has("--secret id=t,src=FILE");
    with(project(",required"), "value").succeeds();
    // It is said before the first step, not after an hour.
    let late = Project::of(&user).dockerfile(
        "FROM busybox\nRUN echo first\nRUN --mount=type=ssh,required true\nRUN --mount=type=secret,id=u,required true",
    );
    late.build().fails(2).stderr_has("the ssh agent \"default\" is required").stderr_has_no("RUN echo first");
}

#[test]
fn what_a_step_writes_of_a_secret_is_masked_also_when_it_fails() {
    let project = Project::new().file("key", "-----BEGIN KEY-----\nabcdefghijkl\n-----END KEY-----\n").dockerfile(
        "
        FROM busybox
        RUN --mount=type=secret,id=t,env=T --mount=type=secret,id=key \
            echo \"it is $T!\"; cat /run/secrets/key; printf %s \"$T\" | sed 's/./&\\n/12' | tr -d '\\n'; echo short >&2; exit 3
        ",
    );
    let key = format!("--secret=id=key,src={}", project.path("key").display());
    let outcome = project.call().arg("--secret=id=t,env=T").arg(key).env("T", SECRET).run();
    let failed = outcome.fails(1).stderr_has("it is ***!").stderr_has("short");
    failed.stderr_has_no(SECRET).stderr_has_no("abcdefghijkl").stderr_has("the last lines that it wrote");
}

#[test]
fn flags_that_make_no_sense_are_refused_before_anything_is_done() {
    let project =
        Project::new().file("f", "x").file("long", vec![b'x'; 600 << 10]).dockerfile("FROM busybox\nRUN true");
    let refused = |flag: String, code: i32, words: &str| {
        let failed = project.call().arg(flag).run().fails(code);
        failed.stderr_has(words).stderr_has_no("RUN true");
    };
    refused("--secret=id=t,env=NOT_SET_HERE".into(), 2, "the variable NOT_SET_HERE, which is not set");
    refused("--secret=id=t,src=/not/there".into(), 3, "cannot read the secret in /not/there");
    refused(format!("--secret=id=t,src={}", project.path("long").display()), 2, "has more than 500 KiB");
    refused("--ssh=default".into(), 2, "SSH_AUTH_SOCK is not set");
    refused(format!("--ssh=default={}", project.path("f").display()), 2, "that is no private key of ssh");
    refused(format!("--ssh=default={},/not/there", project.path("f").display()), 2, "that is no private key of ssh");
    refused("--ssh=default=/not/there".into(), 3, "cannot find the ssh agent or key at /not/there");
}

#[test]
fn an_ssh_agent_is_reached_through_a_socket_of_the_step() {
    for (mode, user) in User::both() {
        user.pull(&base::debian());
        let dir = user.new_dir();
        let socket = dir.join("agent");
        let listener = UnixListener::bind(&socket).unwrap();
        set_mode(&socket, 0o777);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut asked = [0; 5];
                if stream.read_exact(&mut asked).is_ok() && asked == [0, 0, 0, 1, 11] {
                    let _ = stream.write_all(b"\0\0\0\x17agent says this to you\n");
                }
            }
        });
        let project = Project::of(&user).dockerfile(
            "
            FROM debian:bookworm-slim
            RUN --mount=type=ssh,required echo $SSH_AUTH_SOCK >/where && stat -c '%F %a %u' $SSH_AUTH_SOCK >>/where && \
                perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new($ENV{SSH_AUTH_SOCK}) or die $!; print $s \"\\0\\0\\0\\1\\13\"; $s->flush; read $s, $_, 4; print scalar <$s>' >/said
            RUN --mount=type=ssh,target=/agent,mode=0666,uid=33 stat -c '%a %u' /agent >/stat; test $SSH_AUTH_SOCK = /agent
            RUN --mount=type=ssh,id=other test -z \"$SSH_AUTH_SOCK\"
            RUN test -z \"$SSH_AUTH_SOCK\" && ! test -e /run/buildkit && ! test -e /agent
            ARG SSH_AUTH_SOCK=/mine
            RUN --mount=type=ssh cat /proc/$$/environ | tr '\\0' '\\n' | grep ^SSH_AUTH_SOCK= >/own && test -S /run/buildkit/ssh_agent.0
            ",
        );
        let built =
            project.built(project.call().arg("--ssh=default").env("SSH_AUTH_SOCK", socket.to_str().unwrap()).run());
        let image = built.succeeds();
        image.has_file("where", "/run/buildkit/ssh_agent.0\nsocket 600 0\n").has_file("stat", "666 33\n");
        image.has_file("own", "SSH_AUTH_SOCK=/mine\n");
        assert_eq!(image.text("said"), "agent says this to you\n", "{mode}");
    }
}

/// Rule 39, with keys in place of an agent: the clients of OpenSSH use them, and never see them.
#[test]
fn keys_in_files_sign_for_a_step_that_does_not_get_them() {
    for (mode, user) in User::both() {
        user.pull(&base::debian());
        let dir = user.new_dir();
        let [ed25519, rsa] = [
            keygen(&dir, "ssh-keygen -q -N '' -t ed25519 -C of-mine -f first"),
            keygen(&dir, "ssh-keygen -q -N '' -t rsa -b 2048 -C other -f second"),
        ];
        set_mode(&ed25519, 0o644);
        set_mode(&rsa, 0o644);
        let sign = "ssh-keygen -q -Y sign -n file -f /k.pub /t && ssh-keygen -Y check-novalidate -n file -s /t.sig </t";
        let project = Project::of(&user)
            .file("first.pub", fs::read(dir.join("first.pub")).unwrap())
            .file("second.pub", fs::read(dir.join("second.pub")).unwrap())
            .dockerfile(&format!(
                "
                FROM debian:bookworm-slim
                COPY programs/ /
                RUN --mount=type=ssh,required ssh-add -l >/listed
                RUN --mount=type=ssh,required --mount=source=first.pub,target=/k.pub echo x >/t && {sign} >/first
                RUN --mount=type=ssh,required --mount=source=second.pub,target=/k.pub echo y >/t && rm -f /t.sig && {sign} >/second
                RUN --mount=type=ssh,required ! ssh-add -D && ssh-add -L | wc -l >/left
                RUN ! ssh-add -l
                "
            ));
        let project = with_programs(project, &["/usr/bin/ssh-add", "/usr/bin/ssh-keygen"]);
        let project = project.arg(&format!("--ssh=default={},{}", ed25519.display(), rsa.display()));
        let built = project.build();
        let secret = fs::read_to_string(&ed25519).unwrap();
        let secret = secret.lines().nth(2).expect("a line of the key").to_owned();
        assert!(!built.stdout.contains(&secret) && !built.stderr.contains(&secret), "{mode}");
        let image = built.succeeds();
        let listed = image.text("listed");
        assert!(listed.contains("of-mine (ED25519)") && listed.contains("other (RSA)"), "{listed}");
        assert!(image.text("first").contains("Good \"file\" signature with ED25519"), "{mode}");
        assert!(image.text("second").contains("Good \"file\" signature with RSA"), "{mode}");
        image.has_file("left", "2\n");
        assert!(!is_below(&user.store(), secret.as_bytes()), "{mode}");
        // Other keys are no reason to run a step again.
        let other = keygen(&dir, "ssh-keygen -q -N '' -t ed25519 -f third");
        set_mode(&other, 0o644);
        project.arg(&format!("--ssh=other={}", other.display())).build().cached(6).succeeds();
    }
}

#[test]
fn keys_that_cannot_be_used_are_said_with_what_to_do() {
    let project = Project::new().dockerfile("FROM busybox\nRUN --mount=type=ssh true");
    let dir = project.user().new_dir();
    let locked = keygen(&dir, "ssh-keygen -q -N secret -t ed25519 -f locked");
    set_mode(&locked, 0o644);
    let fails = |spec: String, words: &[&str]| {
        let failed = project.call().arg(format!("--ssh={spec}")).run().fails(2);
        words.iter().fold(failed, |failed, words| failed.stderr_has(words));
    };
    fails(format!("default={}", locked.display()), &["has a passphrase", "`ssh-add` it to an ssh-agent"]);
    fails(format!("default={}.pub", locked.display()), &["a public key", "without .pub"]);
    let socket = dir.join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    fails(format!("default={},{}", socket.display(), locked.display()), &["is a socket, and not alone"]);
    let twice = project.call().arg("--ssh=a=/x").arg("--ssh=a=/y").run().fails(2);
    twice.stderr_has("--ssh \"a\" is given twice");
}

/// In a chroot nothing can be mounted: secrets are files for the time of the step.
#[test]
fn secrets_and_mounts_work_in_a_chroot_and_make_the_same_image() {
    if !can_be_made() {
        return;
    }
    let context = tempfile::tempdir_in("/var/tmp").expect("a folder on the disk");
    set_mode(context.path(), 0o755);
    fs::create_dir(context.path().join("src")).unwrap();
    fs::write(context.path().join("src/f"), "bound").unwrap();
    fs::write(
        context.path().join("Dockerfile"),
        support::dedent(
            "
            FROM busybox AS first
            RUN mkdir -p /out && echo stage >/out/f && chown 5:6 /out/f
            FROM busybox
            RUN --mount=type=secret,id=t,mode=0440,uid=33,gid=33 stat -c '%a %u:%g' /run/secrets/t >/stat && test \"$(cut -d- -f1 /run/secrets/t)\" = canary
            RUN --mount=type=secret,id=t,env=T test \"${T%-*}\" = canary && ! test -e /run/secrets
            RUN --mount=source=src,target=/mnt/src,rw cat /mnt/src/f >/bound && echo x >/mnt/src/f
            RUN --mount=source=src,target=/mnt/src test \"$(cat /mnt/src/f)\" = bound
            RUN --mount=from=first,source=/out,target=/out cp -a /out/f /stage
            RUN --mount=type=cache,target=/root/.cache/x,uid=7 --mount=type=tmpfs,target=/t stat -c %u /root/.cache/x >/cache && echo kept >/root/.cache/x/f && touch /t/f
            RUN --mount=type=cache,target=/root/.cache/x/y,id=y --mount=type=cache,target=/root/.cache/x,uid=7 cat /root/.cache/x/f >/kept && touch /root/.cache/x/y/z
            RUN --mount=type=cache,target=/other,id=y ls /other >/listed && rm -rf /other/* && ! test -e /root/.cache && ! test -e /mnt
            RUN <<EOF
            #!/bin/sh
            echo \"$0\" >/script
            EOF
            RUN ! test -e /dev/pipes && ! test -e /run
            "
        ),
    )
    .unwrap();
    let mut first: Option<String> = None;
    // With namespaces and layers, with namespaces and working trees, and without namespaces.
    let without_volume = |name| Environment { no_volume: true, ..Environment::named(name) };
    let places = [
        Environment::named("host-subuid"),
        Environment::named("host-nosubuid"),
        without_volume("k8s-root-unconfined"),
        without_volume("k8s-nonroot-unconfined"),
        Environment::named("docker-default"),
        Environment::named("k8s-hostusers-false"),
    ];
    for place in places {
        let name = place.title();
        let visit = Visit::with_busybox(context.path())
            .call("pull", "coracle pull oci:/base")
            .call("build", "env T=canary-value coracle build --secret id=t,env=T --progress plain /context")
            .call("network", "sh -c 'mkdir n; printf \"FROM busybox\\nRUN --network=none true\\n\" >n/Dockerfile; coracle build --progress plain n'")
            .call("name", "sh -c 'cd n; echo \"FROM busybox\nRUN true\" >Dockerfile; coracle build --build-arg BUILDKIT_SANDBOX_HOSTNAME=h .'")
            .call("left", "grep -r canary-value /work/store");
        let found = place.visit(&visit);
        let digest = found["build"].digest().unwrap_or_else(|error| panic!("{name}: {error}")).to_owned();
        assert_eq!(digest, *first.get_or_insert(digest.clone()), "{name}");
        assert!(found["left"].status != 0, "{name}: {}", found["left"]);
        if place.mode == Mode::Chroot {
            assert_eq!(found["network"].status, 6, "{name}: {}", found["network"]);
            assert!(found["network"].stderr.contains("unshare(CLONE_NEWNET)"), "{}", found["network"]);
            assert_eq!(found["name"].status, 6, "{name}: {}", found["name"]);
            assert!(found["name"].stderr.contains("sethostname"), "{}", found["name"]);
        } else {
            assert_eq!(found["network"].status, 0, "{name}: {}", found["network"]);
            assert_eq!(found["name"].status, 0, "{name}: {}", found["name"]);
        }
    }
}
