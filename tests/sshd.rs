//! `--ssh` against the server of OpenSSH: a step and `ADD ssh://…` get in by keys that neither of them sees.
//!
//! Needs root: the server does.

mod support;

use std::fs;

use support::repositories::Server;
use support::ssh::{Sshd, with_programs};
use support::{Project, User, base, require_tool, set_mode};

#[test]
fn a_step_and_add_reach_a_server_by_a_key_in_a_file() {
    if !require_tool("sshd") || !require_tool("git") {
        return;
    }
    let user = User::new();
    user.pull(&base::debian());
    let dir = user.new_dir();
    let [key, other] = ["key", "other"].map(|name| {
        // Its own: ssh uses no key that others can read.
        let line = format!("ssh-keygen -q -t ed25519 -f {}", dir.join(name).display());
        user.tool(&line).arg("-N").arg("").run().succeeds();
        dir.join(name)
    });
    let sshd = Sshd::start(&fs::read_to_string(key.with_extension("pub")).unwrap());
    let ssh = user.home().join(".ssh");
    fs::create_dir_all(&ssh).unwrap();
    set_mode(&ssh, 0o755);
    fs::write(ssh.join("known_hosts"), &sshd.known_host).unwrap();
    let server = Server::new();
    let repository = server.repository("lib", &[("a", "one")]);
    let port = sshd.port;
    let text = format!(
        "
        FROM debian:bookworm-slim
        COPY programs/ /
        COPY known /etc/ssh/ssh_known_hosts
        ADD ssh://root@127.0.0.1:{port}{}#main /sources/
        RUN --mount=type=ssh,required --network=host ssh -p {port} root@127.0.0.1 echo in >/said
        RUN --network=host ! ssh -o BatchMode=yes -p {port} root@127.0.0.1 echo in
        ",
        repository.display()
    );
    let project = Project::of(&user).file("known", &sshd.known_host).dockerfile(&text);
    let project = with_programs(project, &["/usr/bin/ssh"]);
    let with = |key: &std::path::Path| project.call().arg(format!("--ssh=default={}", key.display())).run();
    // A key that the server does not know: git says so, and the step is never run.
    with(&other).fails(4).stderr_has("Permission denied").stderr_has("--ssh default=FILE").stderr_has_no("RUN --mount");
    let image = project.built(with(&key)).succeeds();
    image.has_file("said", "in\n").has_file("sources/a", "one");
    // A host that nobody knows is not talked to.
    fs::write(ssh.join("known_hosts"), "").unwrap();
    project
        .call()
        .arg("--no-cache")
        .arg(format!("--ssh=default={}", key.display()))
        .run()
        .fails(4)
        .stderr_has("Host key verification failed")
        .stderr_has("ssh-keyscan");
}
