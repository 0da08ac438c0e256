//! RUN for another processor, by an emulator that the kernel knows. The kernel has one table of them for the whole machine, so root
//! enters the two that are used here, and they stay; that a build without one is refused is in tests/language.rs.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use support::{Image, Outcome, Project, User, base, root, set_mode};

/// The table.
const TABLE: &str = "/proc/sys/fs/binfmt_misc";

const PLATFORMS: &str = "--platform=linux/arm64,linux/s390x";

/// Names of the emulators in the table, as Debian has them, and how programs for them begin: the magic and the mask.
const EMULATORS: [(&str, &str, &str); 2] = [
    (
        "aarch64",
        r"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
        r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
    ),
    (
        "s390x",
        r"\x7f\x45\x4c\x46\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x16",
        r"\xff\xff\xff\xff\xff\xff\xff\xfc\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff",
    ),
];

/// Whether the kernel has the emulators; enters them where it has not. Says why where that cannot be, and fails then in CI.
fn emulated() -> bool {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let done = DONE.get_or_init(|| EMULATORS.iter().try_for_each(enter));
    if let Err(why) = done {
        assert!(std::env::var_os("CI").is_none(), "no emulator: {why}");
        eprintln!("skipped: no emulator: {why}");
    }
    done.is_ok()
}

fn enter((name, magic, mask): &(&str, &str, &str)) -> Result<(), String> {
    let table = Path::new(TABLE);
    if !table.join("register").exists() {
        let mounted = Command::new("mount").args(["-t", "binfmt_misc", "binfmt_misc", TABLE]).output();
        let mounted = mounted.map_err(|error| error.to_string())?;
        if !mounted.status.success() {
            return Err(format!("{TABLE} cannot be mounted: {}", String::from_utf8_lossy(&mounted.stderr)));
        }
    }
    let entry = table.join(format!("qemu-{name}"));
    if !entry.exists() {
        let program = format!("/usr/bin/qemu-{name}-static");
        if !Path::new(&program).exists() {
            return Err(format!("{program} is not there (scripts/need test)"));
        }
        // Of several that do this at the same time one is the first.
        let line = format!(":qemu-{name}:M::{magic}:{mask}:{program}:F");
        let entered = fs::write(table.join("register"), line);
        if let (Err(error), false) = (entered, entry.exists()) {
            return Err(format!("{TABLE}/register: {error}"));
        }
    }
    match fs::read_to_string(&entry) {
        Ok(text) if text.contains("\nflags: ") && text.lines().any(|l| l.starts_with("flags: ") && l.contains('F')) => {
            Ok(())
        }
        Ok(text) => Err(format!("{} is without the flag F: {text}", entry.display())),
        Err(error) => Err(format!("{}: {error}", entry.display())),
    }
}

/// What shows that a command ran on the machine it is for, as the users it should, and that its files have their owners.
const DOCKERFILE: &str = r#"
    FROM scratch AS machine
    ARG TARGETARCH
    COPY busybox-$TARGETARCH /bin/busybox
    COPY passwd /etc/passwd
    RUN ["/bin/busybox", "--install", "-s", "/bin"]
    FROM machine
    RUN uname -m >/machine && id -u >/user && mkdir -p /d/e && echo x >/d/e/f && ln /d/e/f /d/hard && ln -s f /d/e/link
    RUN chown 1000:2000 /d/e/f && chmod 4751 /d/e/f && chown -h 7:8 /d/e/link && mkfifo /d/pipe
    RUN stat -c '%u:%g %a' /d/e/f >/seen && cd /d && tar cf /archive.tar e && rm -r e && tar xpf /archive.tar && rm /archive.tar
    RUN su -s /bin/sh bob -c 'id -u >/tmp/bob; id -g >>/tmp/bob' && { (sleep 0.1; echo later) >/later & wait; }
    USER bob
    RUN id -u >/tmp/own && test ! -w /etc/passwd
    RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t --mount=type=bind,from=machine,source=/bin,target=/b \
        /b/busybox echo mounted >/tmp/mounted
"#;

fn project(user: &User) -> Project {
    let programs = base::foreign();
    let read = |name: &str| fs::read(programs.join(name)).unwrap();
    let project = Project::of(user)
        .file("busybox-arm64", read("busybox-arm64"))
        .file("busybox-s390x", read("busybox-s390x"))
        .file("passwd", "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:2000::/tmp:/bin/sh\n")
        .folder("tmp")
        .dockerfile(&DOCKERFILE.replace("    RUN [", "    COPY --chmod=1777 tmp /tmp/\n    RUN ["))
        .arg("--timestamp=1700000000");
    for program in ["busybox-arm64", "busybox-s390x"] {
        set_mode(&project.path(program), 0o755);
    }
    project
}

/// Checks that all was done as it should, and returns the digest of the index.
fn is_right(user: &User, outcome: Outcome) -> String {
    let index = outcome.succeeds().stdout.trim().to_owned();
    for (architecture, machine) in [("arm64", "aarch64"), ("s390x", "s390x")] {
        let image = Image::of_platform(&user.layout(), &index, &format!("linux/{architecture}"));
        image
            .has_file("machine", &format!("{machine}\n"))
            .has_file("user", "0\n")
            .has_file("seen", "1000:2000 4751\n")
            .has_file("tmp/bob", "1000\n2000\n")
            .has_file("tmp/own", "1000\n")
            .has_file("tmp/mounted", "mounted\n")
            .has_owner("d/e/f", "1000:2000", 0o4751)
            .has_link("d/e/link", "f")
            .has_no("b")
            .has_no("proc/self");
    }
    index
}

#[test]
fn commands_for_other_processors_make_the_same_image_in_every_way() {
    if !emulated() {
        return;
    }
    let full = User::new();
    let with_ids =
        is_right(&full, project(&full).arg(PLATFORMS).call().run().stderr_has("user namespace, subordinate ids"));
    let single = User::without_subids();
    let emulated =
        is_right(&single, project(&single).arg(PLATFORMS).call().run().stderr_has("one id, owners emulated"));
    assert_eq!(with_ids, emulated);
    // A device is what a full map has not got: then there, too, owners are emulated.
    let device = format!("{DOCKERFILE}    USER root\n    RUN mknod /d/null c 1 3\n");
    let with_device = |user: &User| {
        let project =
            project(user).dockerfile(&device.replace("    RUN [", "    COPY --chmod=1777 tmp /tmp/\n    RUN ["));
        is_right(user, project.arg(PLATFORMS).call().run().stderr_has("one id, owners emulated"))
    };
    assert_eq!(with_device(&full), with_device(&single));
}

#[test]
fn root_runs_commands_for_other_processors_in_a_chroot() {
    if !emulated() {
        return;
    }
    if !rustix::process::getuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "the tests of CI run as root");
        eprintln!("skipped: only root may change its root");
        return;
    }
    let user = User::new();
    let project = project(&user);
    let build = |isolation: &str, name: &str| {
        let store = user.new_dir().join("store");
        let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
        command.arg("--root").arg(&store).args(["build", "--progress=plain", "--timestamp=1700000000", PLATFORMS]);
        let output = command.arg(format!("--isolation={isolation}")).arg(project.dir()).current_dir(root()).output();
        let output = output.expect("the program");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        (String::from_utf8(output.stdout).expect("a digest"), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (chroot, said) = build("chroot", "chroot");
    assert!(said.contains("isolation: chroot"), "{said}");
    let (namespaces, _) = build("auto", "namespaces");
    assert_eq!(chroot, namespaces);
}

#[test]
fn an_emulator_is_found_where_the_table_of_the_kernel_is_not_to_be_seen() {
    if !emulated() {
        return;
    }
    let user = User::new();
    let project = project(&user).file("busybox-wasm", "").dockerfile(
        "FROM scratch\nARG TARGETARCH\nCOPY busybox-$TARGETARCH /bin/busybox\nRUN [\"/bin/busybox\", \"touch\", \"/made\"]\n",
    );
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: only root may hide {TABLE}");
        return;
    }
    let hidden = |platforms: &str| {
        let line = project.clone().arg(platforms).call().line();
        let script = format!("mount -t tmpfs none {TABLE} && exec {line}");
        let output = Command::new("unshare").args(["--mount", "sh", "-c", &script]).current_dir(root()).output();
        let output = output.expect("unshare");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = hidden(PLATFORMS);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = hidden("--platform=linux/arm64,linux/wasm");
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("cannot run programs for linux/wasm"), "{said}");
}

#[test]
fn one_platform_without_an_emulator_ends_the_build_before_any_work() {
    let user = User::with_busybox();
    let project = Project::of(&user).file("f", "f").dockerfile("FROM scratch\nCOPY f /f\nRUN [\"/f\"]\n");
    let refused = project.arg("--platform=linux/amd64,linux/wasm").build().fails(6);
    refused
        .stderr_has("Dockerfile:3")
        .stderr_has("this machine cannot run programs for linux/wasm")
        .stderr_has("qemu-user-static")
        .stderr_has_no("DONE")
        .stderr_has_no("isolation:");
}

#[test]
fn doctor_lists_what_is_emulated() {
    if !emulated() {
        return;
    }
    let user = User::new();
    let said = user.coracle(["doctor"]).run().succeeds();
    let line = said.stdout.lines().find(|line| line.starts_with("emulated ")).expect("a line").to_owned();
    assert!(line.contains("linux/arm64") && line.contains("linux/s390x"), "{line}");
    let json = user.coracle(["doctor", "--json"]).run().succeeds();
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    let listed: Vec<&str> =
        json["emulated"].as_array().expect("a list").iter().filter_map(|one| one.as_str()).collect();
    assert!(listed.contains(&"linux/arm64") && listed.contains(&"linux/s390x"), "{listed:?}");
    assert!(!listed.contains(&"linux/amd64") && !listed.contains(&"linux/386"), "{listed:?}");
}
