//! The same images on older kernels, and where a sandbox hides calls: whichever way is taken, the same bytes come out.
//!
//! The whole program runs so (runtime/tests/kernels), and what it starts. Needs root, for users with all ids.

mod support;

/// Not all of it is needed here.
#[allow(dead_code)]
#[path = "../runtime/tests/kernels/mod.rs"]
mod kernels;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek};

use kernels::{Kernel, Users};
use support::{Call, Project, User, base, nodes, root};

/// Dockerfiles of tests/same_bytes, and [`MOUNTS`]. The last one takes as long as the others together.
const ALL: [&str; 4] = ["mounts", "removal", "devices", "owners"];

/// Whom what is mounted belongs to, where there are no attributes in memory before Linux 6.6; and the rest of what is mounted.
const MOUNTS: &str = "
    FROM busybox AS below
    RUN mkdir -p /part/of && echo low >/part/of/it && chown 5:6 /part/of/it
    FROM busybox
    RUN --mount=type=secret,id=s,uid=7,gid=8,mode=0440 stat -c '%u:%g %a' /run/secrets/s >/secret
    RUN --mount=type=tmpfs,target=/t touch /t/f && chown 9:10 /t/f && ln -s f /t/l && chown -h 11 /t/l && mkdir /t/d && chown 12 /t/d \\
     && cp -a /t /of-memory && stat -c '%n %u:%g' /t/* >/in-memory
    RUN touch /dev/shm/f && chown 13:14 /dev/shm/f && cp -a /dev/shm/f /of-shm
    RUN --mount=type=bind,from=below,source=/part,target=/p,rw cp -a /p /of-layers && echo more >/p/of/it && mv /p/of /p/at
    RUN --mount=type=cache,target=/own,uid=15,mode=0700 stat -c '%u %a' /own >/cache && echo kept >/own/f
    RUN --mount=type=cache,target=/own,uid=15,mode=0700 cp -a /own/f /of-cache
    RUN --mount=type=bind,target=/context cp -a /context/one /of-context
    RUN stat -c '%n %F %t:%T %a' /dev/* >/devices; echo lost >/dev/null; cat /proc/kcore /proc/keys /proc/timer_list >/masked 2>&1; \\
        ! touch /proc/sys/x /sys/x 2>/dev/null; [ -c /dev/null ]
    RUN <<END
        cat /proc/self/mountinfo | awk '{ print $5 }' | sort >/mounts
    END
";

/// Builds `names` on `kernel`, or on that which there is, and returns the digests, and what was refused.
fn digests(
    user: &User,
    kernel: Option<&Kernel>,
    names: &[&'static str],
) -> (BTreeMap<&'static str, String>, BTreeMap<&'static str, u32>) {
    user.pull(&base::busybox());
    let layout = user.new_dir();
    nodes::layout(&layout);
    user.coracle(["pull", &format!("oci:{}", layout.display()), "nodes"]).run().succeeds();
    let mut digests = BTreeMap::new();
    let mut refused = BTreeMap::new();
    for &name in names {
        let project = Project::of(user).named(&format!("{name}:latest")).file("one", "one\n").file("secret", "hidden");
        let secret = format!("--secret=id=s,src={}", project.path("secret").display());
        let project = match name {
            "mounts" => project.dockerfile(MOUNTS).arg(&secret),
            _ => {
                let text = fs::read_to_string(root().join(format!("tests/same_bytes/{name}.Dockerfile")));
                project.file("Dockerfile", text.expect("a Dockerfile"))
            }
        };
        let call = project.call().env("SOURCE_DATE_EPOCH", "1700000000");
        match kernel {
            None => drop(call.run().succeeds()),
            Some(kernel) => {
                for (what, count) in on(kernel, call).1 {
                    *refused.entry(what).or_default() += count;
                }
            }
        }
        digests.insert(name, project.image().digest().to_owned());
    }
    (digests, refused)
}

/// Makes a call that succeeds on this kernel. Returns what it printed, and what was refused.
fn on(kernel: &Kernel, call: Call) -> (String, BTreeMap<&'static str, u32>) {
    ending(kernel, call, 0)
}

/// As [`on`], where the call ends with this code.
fn ending(kernel: &Kernel, call: Call, expected: i32) -> (String, BTreeMap<&'static str, u32>) {
    let mut command = call.into_command();
    let mut output = tempfile::tempfile().expect("a file");
    let [stdout, stderr] = [(); 2].map(|()| output.try_clone().expect("a descriptor"));
    let (code, refused) = kernel.run(command.stdout(stdout).stderr(stderr)).expect("starts");
    let mut text = String::new();
    output.rewind().and_then(|()| output.read_to_string(&mut text)).expect("text");
    assert_eq!(code, expected, "as on {}:\n{text}", kernel.name);
    (text, refused)
}

/// Returns whether older kernels can be played here.
fn can_play() -> bool {
    let can = kernels::is_possible() && rustix::process::getuid().is_root();
    if !can {
        eprintln!("skipped: older kernels are played by root, on x86-64");
        assert!(std::env::var_os("CI").is_none(), "CI needs both");
    }
    can
}

#[test]
fn images_are_the_same_on_older_kernels_and_in_sandboxes() {
    if !can_play() {
        return;
    }
    let (expected, _) = digests(&User::new(), None, &ALL);
    let (oldest, sandbox) = (&kernels::LINUX_5_14, &kernels::INITRAMFS);
    let cases = [
        (oldest, Users::Real, User::new(), &ALL[..3]),
        (oldest, Users::Emulated, User::without_subids(), &ALL),
        (sandbox, Users::Real, User::new(), &ALL[..3]),
        (sandbox, Users::Emulated, User::without_subids(), &ALL[..3]),
    ];
    std::thread::scope(|scope| {
        for (kernel, users, user, names) in &cases {
            let expected = &expected;
            scope.spawn(move || {
                let (found, refused) = digests(user, Some(kernel), names);
                for (name, digest) in found {
                    assert_eq!(digest, expected[name], "{name} as on {}, {users:?}", kernel.name);
                }
                let unmet = kernel.unmet(&refused, *users);
                assert_eq!(unmet, [""; 0], "nobody tried what is not there, {users:?}: {refused:?}");
            });
        }
    });
}

/// In memory there are no attributes before Linux 6.6. Overlayfs takes such a folder and then can not replace a directory: EIO. Played, it
/// can, since it is in the kernel; so it must not be asked.
#[test]
fn where_files_keep_no_attributes_layers_are_not_stacked() {
    if !can_play() {
        return;
    }
    let [dir, other] = [(); 2].map(|()| tempfile::tempdir_in("/dev/shm").expect("memory"));
    for dir in [&dir, &other] {
        support::set_mode(dir.path(), 0o777);
    }
    let store = |dir: &tempfile::TempDir| dir.path().join("store").display().to_string();
    let pull = |user: &User, dir| {
        let call = user.coracle(["pull", &format!("oci:{}", base::busybox().display())]);
        call.env("CORACLE_ROOT", &store(dir)).run().succeeds();
    };
    let user = User::new();
    pull(&user, &dir);
    let project = Project::of(&user).dockerfile(
        "FROM busybox\nRUN rm -r /var && mkdir /var && echo x >/var/f && mv /home /home2 && chown 5:6 /var",
    );
    let build = |dir| project.call().env("CORACLE_ROOT", &store(dir)).env("SOURCE_DATE_EPOCH", "1700000000");
    let (text, _) = on(&kernels::LINUX_5_14, build(&dir));
    assert!(text.contains("layers cannot be stacked here"), "{text}");
    pull(&user, &other);
    let (newer, _) = on(&kernels::LINUX_6_12, build(&other));
    assert!(!newer.contains("cannot be stacked"), "{newer}");
    let digest = |text: &str| text.lines().rfind(|line| line.starts_with("sha256:")).map(str::to_owned);
    assert!(digest(&text).is_some() && digest(&text) == digest(&newer), "{text}\n{newer}");
    // With one id there is nowhere to write down whom files belong to.
    let single = User::without_subids();
    let call = Project::of(&single).dockerfile("FROM scratch\nRUN [\"/x\"]").call().env("CORACLE_ROOT", &store(&dir));
    let (text, _) = ending(&kernels::LINUX_5_14, call, 6);
    assert!(text.contains("put the store on another one, with --root or CORACLE_ROOT"), "{text}");
}

#[test]
fn doctor_says_what_is_not_there_and_what_is_done_instead() {
    if !can_play() {
        return;
    }
    let user = User::new();
    for (kernel, missing) in [
        (
            &kernels::LINUX_5_14,
            &["Landlock", "seccomp listener for which signals wait", "overlayfs with lowerdir+"][..],
        ),
        (&kernels::SANDBOX, &["openat2", "Landlock", "pivot_root"]),
        (
            &kernels::INITRAMFS,
            &["openat2", "Landlock", "overlayfs with volatile", "pivot_root", "overlayfs with lowerdir+"],
        ),
    ] {
        let (text, _) = on(kernel, user.coracle(["doctor"]));
        let fallbacks: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("fallback ")?.split(" (").next()).collect();
        assert_eq!(fallbacks, missing, "as on {}:\n{text}", kernel.name);
        assert!(text.contains("\nRUN      yes\n"), "{text}");
    }
}
