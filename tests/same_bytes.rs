//! The same bytes, whoever builds.

mod support;

use std::process::Command;

use support::{Project, User};

/// Everything that lies on disk in another way under another id map.
const DOCKERFILE: &str = "\
FROM busybox
WORKDIR /w
COPY f d /w/
COPY --chown=33:44 f /owned
RUN mkdir -p a/b && echo x >a/b/c && chown -R 7:8 a && chmod 4755 a/b/c && ln -s c a/b/l && chown -h 9:9 a/b/l \
 && mkfifo p && chown 5 p && ln a/b/c a/hard && ln /etc/passwd /etc/passwd.too
RUN rm -rf a/b && mkdir a/b && echo new >a/b/new && rm /w/f && touch /etc/group
USER www-data
RUN id >/tmp/id
";

#[test]
fn root_and_a_user_with_subordinate_ids_make_the_same_image() {
    if rustix::process::getuid().as_raw() != 0 {
        eprintln!("skipped: only root can be both");
        return;
    }
    let user = User::with_busybox();
    let project = Project::of(&user).file("f", "one").file("d/g", "two").file("Dockerfile", DOCKERFILE);
    let call = |call: support::Call| call.env("SOURCE_DATE_EPOCH", "1700000000").run().succeeds();
    let digest = |outcome: support::Outcome| outcome.stdout.trim().to_owned();
    let by_user = digest(call(project.call()));
    let again = digest(call(project.clone().arg("--no-cache").call()));
    assert_eq!(by_user, again, "twice by one user");

    let root = tempfile::tempdir_in("/var/tmp").expect("a folder on the disk");
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
        command.args(args).env("CORACLE_ROOT", root.path()).env("SOURCE_DATE_EPOCH", "1700000000");
        let output = command.output().expect("coracle runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    run(&["pull", &format!("oci:{}", support::base::busybox().display())]);
    assert_eq!(by_user, run(&["build", project.dir().to_str().expect("text")]), "by root");
}
