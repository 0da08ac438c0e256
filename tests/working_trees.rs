//! Steps that work in place, on a copy of the stage, make the layers that overlayfs makes.

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the layers below hold, for all cases.
const SETUP: &str = "\
mkdir -p dir/sub deep/er/most empty old && echo one >dir/a && echo two >dir/b && echo three >dir/sub/c && echo x >deep/er/most/f \
&& ln dir/a dir/also-a && ln dir/a other-a && ln -s dir/a link && mkfifo pipe && echo pair >p && ln p q && chmod 600 dir/b \
&& chown 7:8 dir/b && chown -h 9 link && echo gone >old/gone && mkdir sticky && chmod 1777 sticky && cp /bin/busybox big \
&& echo alone >alone && ln -s x sl && ln sl sm && ln pipe pipe2 && touch -d @1000000000 dir/a dir/b p alone dir old deep/er";

/// A change for each line of a table: its name, and the command.
const CHANGES: &[(&str, &str)] = &[
    ("nothing", "true"),
    ("a new file, a new folder", "echo n >new && mkdir -p made/deeper && echo n >made/deeper/n"),
    ("a write", "echo more >>dir/b"),
    (
        "a write of the same bytes and the old time",
        "cat alone >t && cat t >alone && rm t && touch -d @1000000000 alone",
    ),
    ("the same size, another text, the old time", "echo ALONE >alone && touch -d @1000000000 alone"),
    ("the time only", "touch -d @1100000000 alone"),
    ("the mode only", "chmod 640 alone"),
    ("a mode, and back", "chmod 640 alone && chmod 644 alone"),
    ("the owner only", "chown 5:6 alone"),
    ("an owner, and back", "chown 5:6 alone && chown 0:0 alone"),
    ("the owner of a link", "chown -h 11:12 link"),
    ("another link text", "rm link && ln -s dir/b link"),
    ("the mode of a folder", "chmod 700 empty"),
    ("the time of a folder", "touch -d @1100000000 empty"),
    ("a file is removed", "rm dir/b"),
    ("a file is removed and made again, just so", "rm alone && echo alone >alone && touch -d @1000000000 alone"),
    ("a folder is removed", "rm -r deep"),
    ("a folder is emptied", "rm old/gone"),
    ("a folder is removed and made again", "rm -r dir && mkdir dir && echo fresh >dir/fresh && echo two >dir/b"),
    ("a deep folder is made again", "rm -r deep/er && mkdir -p deep/er/most && echo y >deep/er/most/g"),
    ("a folder becomes a file", "rm -r deep && echo file >deep"),
    ("a file becomes a folder", "rm alone && mkdir alone && echo in >alone/in"),
    ("a file becomes a link", "rm alone && ln -s big alone"),
    ("a folder becomes a link", "rm -r deep && ln -s dir deep"),
    ("a link becomes a folder", "rm link && mkdir link"),
    ("a fifo becomes a file", "rm pipe && echo f >pipe"),
    ("a file is renamed", "mv alone moved"),
    ("a file is renamed onto another", "mv alone dir/b"),
    ("a folder is renamed", "mv deep moved"),
    ("a folder is renamed onto an empty one", "mv -T old empty || { rmdir empty && mv old empty; }"),
    ("a new name of a file", "ln alone linked"),
    ("a new name of one of several", "ln p r"),
    ("a new name, and a write through it", "ln alone linked && echo w >>linked"),
    ("one of several names is removed", "rm p"),
    ("one of several names is renamed", "mv p r"),
    ("all names are removed", "rm p q"),
    ("a write through one of several names", "echo w >>dir/also-a"),
    ("a mode through one of several names", "chmod 4755 other-a"),
    ("an owner through all names", "chown -R 3:4 dir other-a"),
    ("a mode through two of three names", "chmod 700 dir/a other-a"),
    ("one of several names is replaced", "echo fresh >t && mv t q"),
    ("a program is made setuid", "chmod 4755 big"),
    ("new names among new files", "echo n >n1 && ln n1 n2 && ln n1 dir/n3"),
    ("a name of a busybox applet", "chmod u+s /bin/su && ln /bin/busybox /bin/applet"),
    ("the owner of one of two names of a link", "chown -h 9:9 sm"),
    ("the owner of one of two names of a fifo, and its mode", "chown 9:9 pipe2 && chmod 600 pipe2"),
    ("the time of one of two names of a link", "touch -h -d @1100000000 sl"),
    ("the owners of all names of a link", "chown -h 3:4 sl sm"),
    ("a write through a name that is gone", "exec 3>>p && rm p && echo w >&3 && exec 3>&-"),
    ("a write through a name that is gone, and a new name", "exec 3>>p && ln p r && rm p && echo w >&3 && exec 3>&-"),
    ("a write, and the name goes", "echo w >>other-a && rm other-a"),
    ("a folder is renamed that the step has made", "mkdir made && echo m >made/m && mv made made2 && mv made2 dir/"),
    ("a folder is renamed into another", "mv dir/sub deep/ && mv deep/er old/er2"),
    ("special modes", "mkdir s && chmod 3777 s && touch s/f && chmod 6711 s/f && chmod 000 s"),
    (
        "a hole",
        "dd if=/dev/null of=hole bs=1 seek=5000000 2>/dev/null && dd if=/dev/zero of=zeros bs=64k count=20 2>/dev/null",
    ),
    ("names that are not text", "touch \"$(printf 'a\\377b')\" \"$(printf 'new\\nline')\" ' '"),
    ("the root of the image", "chmod 700 / && touch /top"),
    ("files of the host", "echo 1 >>/etc/resolv.conf; cat /etc/hosts >/dev/null; touch /etc/here"),
    ("a file beside a place for the host's", "rm -f /etc/group && echo g >/etc/group"),
    ("a time before 1970", "touch -d @-100 alone"),
    ("a file that is gone at once", "echo t >t && rm t && mkdir m && rmdir m"),
];

/// A store for root, without namespaces or with.
struct Root {
    store: tempfile::TempDir,
    chroot: bool,
}

impl Root {
    fn new(chroot: bool) -> Self {
        let root = Root { store: tempfile::tempdir_in("/var/tmp").expect("a folder on the disk"), chroot };
        root.run(&["pull", &format!("oci:{}", support::base::busybox().display())]);
        root
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
        command.env("CORACLE_ROOT", self.store.path()).env("SOURCE_DATE_EPOCH", "1700000000");
        if self.chroot {
            command.env("BUILDAH_ISOLATION", "chroot");
        }
        command
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.command().args(args).output().expect("coracle runs");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Builds `dir` and returns the digest.
    fn build(&self, dir: &Path) -> String {
        self.run(&["build", "--tag", "t", dir.to_str().expect("text")])
    }
}

/// Whether this is root, who alone can do both; says so if not.
fn is_root() -> bool {
    if rustix::process::getuid().as_raw() == 0 {
        return true;
    }
    eprintln!("skipped: only root can work without namespaces");
    assert!(std::env::var_os("CI").is_none(), "CI runs these as root");
    false
}

fn context(dockerfile: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir_in("/var/tmp").expect("a folder");
    fs::write(dir.path().join("Dockerfile"), dockerfile).expect("a file");
    fs::write(dir.path().join("copied"), "copied").expect("a file");
    dir
}

#[test]
fn each_change_makes_the_same_layer_in_place_and_in_an_overlay() {
    if !is_root() {
        return;
    }
    let (stacked, in_place) = (Root::new(false), Root::new(true));
    let mut different = Vec::new();
    for (name, change) in CHANGES {
        let look = "l=$(find / -xdev \\( -path /proc -o -path /dev -o -path /sys \\) -prune -o ! -type d -exec ls -ldn {} + \
                    | grep -v ' /etc/hosts\\| /etc/resolv' | sed -E 's/^(.{10}) +[0-9]+ /\\1 /; s/ [A-Z][a-z][a-z] .* / /' | sort) && echo \"$l\" >/list";
        // The last step sees what the one before left; but overlayfs counts names that it hides.
        let dockerfile = format!("FROM busybox\nWORKDIR /w\nRUN {SETUP}\nRUN {change}\nRUN {look}\n");
        let dir = context(&dockerfile);
        if stacked.build(dir.path()) != in_place.build(dir.path()) {
            different.push(*name);
        }
    }
    assert_eq!(different, [] as [&str; 0]);
}

#[test]
fn what_the_names_of_one_file_may_be_elsewhere_is_told() {
    if !is_root() {
        return;
    }
    let root = Root::new(true);
    let dir = context(
        "FROM busybox
        WORKDIR /w
        RUN for n in a b c d e f; do echo $n >$n && chmod 4755 $n && ln $n $n-too; done
        RUN chmod 600 a && mv a-too a-new
        RUN ln b b-new && chmod 600 b-new
        RUN mv c c-new && ln c-new c && chown 3:3 c-too
        RUN mv d d-new && mv d-too d-newer
        RUN chmod 600 e && rm e-too
        RUN mv f f-new && ln f-too f-newer && rm f-newer
        ",
    );
    let output = root.command().args(["build", "--progress=plain"]).arg(dir.path()).output().expect("coracle runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let mark = " is a file that had several names in the layers below: ";
    let told: Vec<_> = stderr.lines().filter_map(|line| Some(line.split_once(mark)?.0)).collect();
    let expected = ["/w/a-new", "/w/b-new", "/w/c-new", "/w/d-new"].map(|name| format!("warning: {name}"));
    assert_eq!(told, expected, "{stderr}");
}

#[test]
fn layers_of_other_steps_reach_the_tree() {
    if !is_root() {
        return;
    }
    let dockerfile = |last: &str| {
        format!(
            "FROM busybox AS made\nRUN mkdir /m && echo m >/m/f && ln /m/f /m/g\n\
             FROM busybox\nRUN mkdir /a && echo one >/a/one && echo two >/a/two\nCOPY copied /a/one\nWORKDIR /b/c\n\
             RUN cat /a/one >seen && rm /a/two\nCOPY --from=made /m /a/two\nRUN ls -l /a/two >list && echo {last} >>/a/two/f\n"
        )
    };
    let (stacked, in_place) = (Root::new(false), Root::new(true));
    // The second time, all but the last step come from the cache, and the tree is made of their layers.
    for last in ["first", "second"] {
        let dir = context(&dockerfile(last));
        assert_eq!(stacked.build(dir.path()), in_place.build(dir.path()), "{last}");
    }
}

#[test]
fn nothing_that_a_step_was_shown_gets_into_the_layer() {
    if !is_root() {
        return;
    }
    // Images with none of these places, with all of them, and with links.
    let bases = [
        "FROM busybox AS b\nFROM scratch\nCOPY --from=b /bin /bin\n",
        "FROM busybox\nCOPY copied /etc/resolv.conf\nCOPY copied /etc/hosts\nCOPY copied /dev/own\nCOPY copied /proc/own\n",
        "FROM busybox AS m\nRUN mkdir -p /x/etc /x/run && ln -s ../run/hosts /x/etc/hosts\nFROM busybox\nCOPY --from=m /x /\n",
    ];
    let look = "RUN cat /etc/hosts >/seen && test -e /dev/fd -o -L /dev/fd && ! test -e /dev/own && \
                { echo x >/dev/made || true; }; echo y >>/etc/hosts; mkdir -p /etc && touch /etc/here\n";
    let (stacked, in_place) = (Root::new(false), Root::new(true));
    for base in bases {
        let dir = context(&format!("{base}{look}RUN rm /seen\n"));
        assert_eq!(stacked.build(dir.path()), in_place.build(dir.path()), "{base}");
    }
}

#[test]
fn sockets_and_whiteouts_that_a_step_makes_are_gone_afterwards() {
    if !is_root() {
        return;
    }
    let in_place = Root::new(true);
    // A device 0:0 is what overlayfs calls a whiteout: a step must not be able to say so.
    let dir = context(
        "FROM busybox\nRUN echo a >/a && mkdir /d\nRUN rm /a; mknod /a c 0 0; mknod /d/b c 0 0; true\nRUN ! ls /a /d/b\n",
    );
    in_place.build(dir.path());
}

/// The folders in /proc of the processes with `mark` in their command line.
fn marked(mark: &str) -> Vec<PathBuf> {
    let dirs = fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path());
    dirs.filter(|dir| {
        let line = fs::read(dir.join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == mark.as_bytes())
    })
    .collect()
}

fn processes_with(mark: &str) -> usize {
    marked(mark).len()
}

/// Those that sleep, and have no answer to wait for.
fn sleepers_with(mark: &str) -> usize {
    let sleeps = |dir: &PathBuf| fs::read_to_string(dir.join("wchan")).is_ok_and(|wait| wait.contains("nanosleep"));
    marked(mark).iter().filter(|dir| sleeps(dir)).count()
}

fn gone(mark: &str) {
    let begin = Instant::now();
    while processes_with(mark) > 0 {
        assert!(begin.elapsed() < Duration::from_secs(10), "still there: {mark}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A number of seconds that no other process sleeps.
fn mark(of: u32) -> String {
    format!("{}{of}.5", 700_000 + std::process::id())
}

#[test]
fn processes_that_a_step_leaves_behind_end_with_it() {
    if !is_root() {
        return;
    }
    let mark = mark(1);
    let command = format!(
        "sleep {mark} & setsid sleep {mark} & (setsid sh -c 'sleep {mark} & sleep {mark}' &) ; \
         su -s /bin/sh www-data -c 'setsid sleep {mark} &'; sleep 0.1; ps -o args 2>/dev/null; echo left >/left"
    );
    let dir = context(&format!("FROM busybox\nRUN {command}\n"));
    Root::new(true).build(dir.path());
    assert_eq!(processes_with(&mark), 0);
}

#[test]
fn whoever_of_a_build_is_killed_no_process_of_the_step_is_left() {
    if !is_root() {
        return;
    }
    let mark = mark(2);
    let dir = context(&format!("FROM busybox\nRUN (setsid sleep {mark} &); echo ready; sleep {mark}\n"));
    let in_place = Root::new(true);
    for victim in 0..4 {
        let mut build = in_place.command();
        build.args(["build", "--progress", "plain"]).arg(dir.path());
        let mut build = build.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
        let mut output = BufReader::new(build.stderr.take().expect("a pipe")).lines();
        assert!(output.any(|line| line.is_ok_and(|line| line.ends_with(" ready"))), "the step began");
        // coracle, S0, S1 and the command.
        let mut chain = vec![i32::try_from(build.id()).expect("a process")];
        for _ in 0..3 {
            chain.push(first_child(*chain.last().expect("one")));
        }
        let pid = rustix::process::Pid::from_raw(chain[victim]).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("ours");
        assert!(!build.wait().expect("ends").success(), "{victim}");
        gone(&mark);
    }
    let dir = context("FROM busybox\nRUN echo works\n");
    in_place.build(dir.path());
}

fn first_child(pid: i32) -> i32 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process").flatten();
    let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let first = lists.filter_map(|list| list.split_whitespace().next().and_then(|pid| pid.parse().ok())).next();
    first.expect("a child")
}

#[test]
fn what_outlives_everybody_is_ended_by_the_next_build() {
    if !is_root() {
        return;
    }
    let mark = mark(3);
    let dir = context(&format!("FROM busybox\nRUN (setsid sleep {mark} &); echo ready; sleep {mark}\n"));
    let in_place = Root::new(true);
    let mut build = in_place.command();
    build.args(["build", "--progress", "plain"]).arg(dir.path());
    let mut build = build.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut output = BufReader::new(build.stderr.take().expect("a pipe")).lines();
    assert!(output.any(|line| line.is_ok_and(|line| line.ends_with(" ready"))), "the step began");
    while sleepers_with(&mark) < 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let outer = first_child(i32::try_from(build.id()).expect("a process"));
    let inner = first_child(outer);
    // All of them stand still before the first one dies, so none can see to the others.
    for signal in [rustix::process::Signal::STOP, rustix::process::Signal::KILL] {
        for pid in [outer, inner, i32::try_from(build.id()).expect("a process")] {
            let pid = rustix::process::Pid::from_raw(pid).expect("a process");
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
    build.wait().expect("ends");
    assert!(processes_with(&mark) > 0, "at least the one in a session of its own");
    in_place.build(context("FROM busybox\nRUN true\n").path());
    gone(&mark);
    assert_eq!(fs::read_dir(in_place.store.path().join("tmp")).expect("a folder").count(), 0);
}

/// A Dockerfile with a little of everything.
const MIXED: &str = "\
FROM busybox
WORKDIR /w
COPY copied /w/
RUN mkdir -p a/b && echo x >a/b/c && chown -R 7:8 a && chmod 4755 a/b/c && ln -s c a/b/l && chown -h 9:9 a/b/l && ln a/b/c a/hard
RUN rm -rf a/b && mkdir a/b && echo new >a/b/new && echo two >>copied && chmod u+s /bin/su && (setsid sleep 1000 &)
USER www-data
RUN id >/tmp/id
";

/// Builds in a container like those of Docker and Kubernetes, and checks what is said there, once. Returns the digest.
fn build_in(environment: &str, options: &[&str], dockerfile: &str, said: &str) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if !is_root() {
        return None;
    }
    if !["/usr/sbin/runc", "/usr/bin/runc"].iter().any(|path| Path::new(path).exists()) {
        eprintln!("skipped: runc is not installed");
        assert!(std::env::var_os("CI").is_none(), "CI has runc");
        return None;
    }
    let dir = context(dockerfile);
    let bind = |from: &Path, to: &str| format!("{}:{to}:ro", from.display());
    let script = "coracle pull oci:/base >/dev/null && coracle build --progress plain /context; \
                  echo \"status $?, left: $(ls -A /work/store/tmp | wc -l)\" >&2";
    let mut command = Command::new(root.join("tests/environments/in-env"));
    command.arg(environment).args(options).args(["--cwd", "/", "--env", "CORACLE_ROOT=/work/store"]);
    command.args(["--env", "SOURCE_DATE_EPOCH=1700000000"]);
    for (from, to) in [
        (Path::new(env!("CARGO_BIN_EXE_coracle")), "/bin/coracle"),
        (&support::base::busybox(), "/base"),
        (dir.path(), "/context"),
    ] {
        command.args(["--bind", &bind(&fs::canonicalize(from).expect("there"), to)]);
    }
    let output = command.args(["--", "sh", "-c", script]).output().expect("in-env runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(stderr.contains("status 0, left: 0"), "{environment} {options:?}: {stdout}{stderr}");
    assert_eq!(stderr.matches(said).count(), 1, "{environment}: {said}: {stderr}");
    Some(stdout.trim().to_owned())
}

#[test]
fn containers_without_namespaces_or_volumes_make_the_same_image() {
    let places: [(&str, &[&str], &str); 8] = [
        ("docker-default", &[], "in a chroot"),
        ("docker-default", &["--upper-on-overlay"], "works on a copy"),
        ("gitlab-docker", &[], "in a chroot"),
        ("k8s-root-runtimedefault", &[], "in a chroot"),
        ("readonly-rootfs", &[], "in a chroot"),
        ("k8s-hostusers-false", &[], "in a chroot"),
        ("k8s-root-unconfined", &["--upper-on-overlay"], "Invalid argument), so each stage with a RUN works on a copy"),
        ("k8s-hostusers-false-unconfined", &["--upper-on-overlay"], "works on a copy"),
    ];
    let mut expected = None;
    for (environment, options, said) in places {
        let Some(digest) = build_in(environment, options, MIXED, said) else { return };
        let expected = expected.get_or_insert_with(|| Root::new(false).build(context(MIXED).path()));
        assert_eq!(digest, *expected, "{environment} {options:?}");
    }
}

/// What a step finds that has no mounts, and does not reach.
const PLACES: &str = r#"
FROM busybox
RUN test "$(readlink /proc/self/exe)" = /bin/busybox && grep -q ^Pid: /proc/self/status && ls /proc/$$/fd/ >/dev/null && test -d /proc/self/task
RUN echo out >/dev/stdout && echo in | cat /dev/stdin /proc/self/fd/0 && echo x >/dev/null && test ! -s /dev/null && ln -s /proc/mounts /m && cat /m >/dev/null
RUN test "$(head -c 3 /dev/zero | wc -c)" = 3 && ! echo x >/dev/full && head -c 3 /dev/urandom >/dev/null && cd /proc && ! ls 1 && ls self/../../bin >/dev/null
RUN cat /../proc/./self/../version >/dev/null && mkdir -p /a/b && cd /a/b && cat ../../proc/uptime >/dev/null && test ! -e /sys/kernel
RUN test -r /proc/self/stat -a ! -x /proc/self/stat && stat -c %F /dev/null | grep -q character && test "$(stat -c %F /proc)" = directory
RUN su -s /bin/sh www-data -c 'echo x >/dev/null && grep -q "^Uid:.33" /proc/self/status && ! kill -0 1 && readlink /proc/self/cwd'
RUN for p in $(cd /proc && ls -d [0-9]*); do test ! -e /proc/$p/environ || echo $p; done | wc -l | grep -qx '[1-6]' && ! kill -0 1 && (kill -9 -1; true)
RUN rm /m && echo done >/done
"#;

#[test]
fn a_step_without_mounts_has_proc_and_devices_and_does_not_reach_what_is_around_it() {
    let mut first = None;
    for environment in ["docker-default", "k8s-hostusers-false"] {
        let Some(digest) = build_in(environment, &[], PLACES, "in a chroot") else { return };
        assert_eq!(digest, *first.get_or_insert(digest.clone()), "{environment}");
    }
}
