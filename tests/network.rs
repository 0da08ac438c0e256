//! The network of a RUN, names in it, and what root may do.

mod support;

use support::{Project, User};

/// Prints the interfaces.
const INTERFACES: &str = "awk 'NR > 2 { print $1 }' /proc/net/dev | sort | tr '\\n' ' '";

#[test]
fn a_step_without_a_network_has_its_loopback_interface_alone() {
    for (mode, user) in User::both() {
        let project = Project::of(&user).dockerfile(&format!(
            "
            FROM busybox
            RUN --network=none {INTERFACES} >/none; ping -c 1 -W 1 127.0.0.1 >/dev/null && echo up >>/none
            RUN --network=host readlink /proc/self/ns/net >/host
            RUN --network=default readlink /proc/self/ns/net >/default
            RUN readlink /proc/self/ns/net >/unsaid
            "
        ));
        let image = project.build().succeeds();
        image.has_file("none", "lo: up\n");
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string() + "\n";
        for name in ["host", "default", "unsaid"] {
            assert_eq!(image.text(name), ours, "{mode}: {name}");
        }
    }
}

#[test]
fn the_flag_of_the_build_counts_where_the_instruction_says_nothing_and_is_in_the_key() {
    let user = User::with_busybox();
    let project = Project::of(&user).dockerfile(&format!(
        "
        FROM busybox
        RUN {INTERFACES} >/unsaid
        RUN --network=host readlink /proc/self/ns/net >/host
        "
    ));
    project.build().succeeds();
    let built = project.clone().arg("--network=none").build();
    let image = built.cached(0).succeeds();
    image.has_file("unsaid", "lo: ");
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string() + "\n";
    image.has_file("host", &ours);
    project.arg("--network=none").build().cached(2).succeeds();
}

#[test]
fn hosts_and_servers_for_names_are_added_and_stay_out_of_the_image() {
    for (mode, user) in User::both() {
        let project = Project::of(&user).dockerfile(
            "
            FROM busybox
            RUN cat /etc/hosts >/hosts && cat /etc/resolv.conf >/resolv
            ",
        );
        let project = project
            .arg("--add-host=db:192.0.2.7")
            .arg("--add-host=v6=[2001:db8::7]")
            .arg("--add-host=gateway:host-gateway")
            .arg("--dns=192.0.2.53")
            .arg("--dns-search=a.example")
            .arg("--dns-option=ndots:3");
        let image = project.build().succeeds();
        let hosts = image.text("hosts");
        for line in ["192.0.2.7\tdb\n", "2001:db8::7\tv6\n", "127.0.0.1\tgateway\n"] {
            assert!(hosts.contains(line), "{mode}: {hosts}");
        }
        let resolv = image.text("resolv");
        assert!(resolv.ends_with("nameserver 192.0.2.53\nsearch a.example\noptions ndots:3\n"), "{resolv}");
        assert_eq!(resolv.matches("nameserver").count(), 1);
        image.has_no("etc/resolv.conf").has_no("etc/hosts");
        // Servers for names are no part of the key; hosts are.
        let again = Project::of(&user).dockerfile(
            "
            FROM busybox
            RUN cat /etc/hosts >/hosts && cat /etc/resolv.conf >/resolv
            ",
        );
        again.build().cached(0).succeeds();
        again.arg("--dns=192.0.2.54").build().cached(1).succeeds();
    }
}

#[test]
fn the_images_own_files_can_be_left_in_place() {
    let project = Project::new().file("hosts", "own hosts\n").file("resolv.conf", "own resolv\n").dockerfile(
        "
        FROM busybox
        COPY hosts resolv.conf /etc/
        RUN cat /etc/hosts /etc/resolv.conf >/both
        ",
    );
    project.arg("--no-hosts").arg("--dns=none").build().succeeds().has_file("both", "own hosts\nown resolv\n");
}

#[test]
fn capabilities_can_be_given_and_taken_in_both_modes() {
    for (_, user) in User::both() {
        let build = |flags: &[&str]| {
            let project = Project::of(&user).arg("--no-cache").dockerfile(
                "
                FROM busybox
                RUN grep CapEff /proc/self/status | cut -f 2 >/cap; touch /f && chown 5 /f 2>/dev/null || echo refused >/refused
                ",
            );
            flags.iter().fold(project, |project, flag| project.arg(flag)).build().succeeds()
        };
        build(&["--cap-add=SYS_PTRACE"]).has_file("cap", "00000000a80c25fb\n").has_no("refused");
        let image = build(&["--cap-drop=CHOWN", "--cap-drop=cap_mknod"]);
        image.has_file("cap", "00000000a00425fa\n");
        image.has_file("refused", "refused\n");
        build(&["--cap-drop=ALL", "--cap-add=CHOWN"]).has_file("cap", "0000000000000001\n").has_no("refused");
    }
    let project = Project::new().dockerfile("FROM busybox\nRUN true").arg("--cap-add=EVERYTHING");
    project.build().fails(2).stderr_has("there is no capability \"EVERYTHING\"");
}

#[test]
fn a_container_has_the_same_flags() {
    let user = User::with_busybox();
    let run = |flags: &[&str], script: &str| {
        let call = user.coracle(["run"]);
        let call = flags.iter().fold(call, |call, flag| call.arg(flag));
        call.arg("busybox").arg("sh").arg("-c").arg(script).run().succeeds().stdout
    };
    assert_eq!(run(&["--network=none"], INTERFACES), "lo: ");
    assert!(run(&["--add-host=db:192.0.2.7"], "cat /etc/hosts").contains("192.0.2.7\tdb\n"));
    assert!(run(&["--cap-drop=ALL"], "grep CapEff /proc/self/status").contains("0000000000000000"));
}

#[test]
fn a_container_sees_folders_of_the_host_and_its_ports_are_the_hosts() {
    for (mode, user) in User::both() {
        let dir = user.new_dir();
        std::fs::write(dir.join("f"), "of the host\n").unwrap();
        let run = |flags: &[&str], script: &str| {
            let call = flags.iter().fold(user.coracle(["run"]), |call, flag| call.arg(flag));
            call.arg("busybox").arg("sh").arg("-c").arg(script).run()
        };
        let read_only = format!("{}:/deep/in/here:ro", dir.display());
        let read = run(&["-v", &read_only], "cat /deep/in/here/f; touch /deep/in/here/g 2>/dev/null || echo refused");
        assert_eq!(read.succeeds().stdout, "of the host\nrefused\n", "{mode}");
        let writable = format!("{}:/here", dir.display());
        run(&["--volume", &writable], "echo new >/here/made").succeeds();
        assert_eq!(std::fs::read_to_string(dir.join("made")).unwrap(), "new\n");
        let file = format!("{}:/etc/one:ro", dir.join("f").display());
        assert_eq!(run(&["-v", &file], "cat /etc/one").succeeds().stdout, "of the host\n");
        run(&["-v", "/not/there:/here"], "true").fails_cleanly().stderr_has("cannot find the volume /not/there");
        run(&["-v", "data:/here"], "true").fails(2).stderr_has("./data");
        let published = run(&["-p", "18080:18080"], "echo run").succeeds();
        assert_eq!(published.stdout, "run\n");
        published.stderr_has("the container uses the host's network: port 18080 is the host's");
        run(&["--publish", "8080:80"], "true").fails(2).stderr_has("cannot be 8080");
        run(&["--network=none", "-p", "80:80"], "true").fails(2).stderr_has("no network to publish it on");
    }
}

#[test]
fn what_is_bound_and_changed_is_named_as_the_reason_of_a_miss() {
    let user = User::with_busybox();
    let project = |text: &str| {
        Project::of(&user).file("src/a", text).file("src/b", "b").arg("--explain").dockerfile(
            "
            FROM busybox
            RUN --mount=source=src,target=/src cat /src/a
            ",
        )
    };
    project("1").build().succeeds();
    project("2").build().stderr_has("src/a").stderr_has_no("src/b").succeeds();
}
