//! The places of tests/environments: a login, a container, a pod … with what may be done there, simulated on this machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

use super::{Outcome, Running, base, root, tool};

/// How RUN steps are isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// A user namespace with 65536 ids or more.
    FullMap,
    /// A user namespace with one id; owners are emulated.
    SingleUid,
    /// chroot(2), without namespaces.
    Chroot,
    /// No RUN: `call` fails with `errno`, in words.
    None { call: &'static str, errno: &'static str },
}

impl Mode {
    /// Returns its word in docs/environments.md and in the output of doctor.
    pub fn word(self) -> &'static str {
        match self {
            Mode::FullMap => "full map",
            Mode::SingleUid => "single id",
            Mode::Chroot => "chroot",
            Mode::None { .. } => "none",
        }
    }

    /// Returns whether a RUN step is possible.
    pub fn runs(self) -> bool {
        !matches!(self, Mode::None { .. })
    }
}

/// One of the places.
#[derive(Debug, Clone, Copy)]
pub struct Environment {
    /// Its name for in-env.
    pub name: &'static str,
    /// Whether /work lies on the root overlay: no volume.
    pub no_volume: bool,
    /// What a build uses there.
    pub mode: Mode,
}

const REFUSED: Mode = Mode::None { call: "unshare(CLONE_NEWUSER)", errno: "Operation not permitted" };
const USED_UP: Mode = Mode::None { call: "unshare(CLONE_NEWUSER)", errno: "No space left on device" };

const fn place(name: &'static str, mode: Mode) -> Environment {
    Environment { name, no_volume: false, mode }
}

const fn without_volume(name: &'static str, mode: Mode) -> Environment {
    Environment { name, no_volume: true, mode }
}

/// All places: those of `in-env --list`, and some of them without a volume.
pub const ENVIRONMENTS: [Environment; 21] = [
    place("host-subuid", Mode::FullMap),
    place("host-nosubuid", Mode::SingleUid),
    place("host-nnp", Mode::SingleUid),
    place("host-nouserns", USED_UP),
    place("docker-default", Mode::Chroot),
    place("gitlab-docker", Mode::Chroot),
    place("podman-default", Mode::FullMap),
    place("k8s-root-unconfined", Mode::FullMap),
    place("k8s-root-runtimedefault", Mode::Chroot),
    place("k8s-restricted", REFUSED),
    place("k8s-nonroot-unconfined", Mode::SingleUid),
    place("k8s-nonroot-nnp-unconfined", Mode::SingleUid),
    place("k8s-hostusers-false", Mode::Chroot),
    place("k8s-hostusers-false-unconfined", Mode::FullMap),
    place("openshift-restricted", REFUSED),
    place("masked-proc", Mode::FullMap),
    place("readonly-rootfs", Mode::Chroot),
    place("airgap", Mode::FullMap),
    without_volume("k8s-root-unconfined", Mode::FullMap),
    without_volume("k8s-nonroot-unconfined", Mode::SingleUid),
    without_volume("docker-default", Mode::Chroot),
];

impl Environment {
    /// Returns the place with this name, with a volume.
    pub fn named(name: &str) -> Self {
        ENVIRONMENTS.into_iter().find(|place| place.name == name && !place.no_volume).expect("a place of the table")
    }

    /// Returns its name, and what is different.
    pub fn title(self) -> String {
        if self.no_volume { format!("{}, no volume", self.name) } else { self.name.into() }
    }

    /// Begins to run `script` there, as /bin/sh does. /context, /busybox and /debian are folders of this machine; `coracle` is
    /// found, and its store is /work/store. `bind` is one more folder that is shown, read-only, at /context.
    fn start(self, script: &str, visit: &Visit<'_>) -> Running {
        let mut command = Command::new(root().join("tests/environments/in-env"));
        command.arg(self.name);
        if self.no_volume {
            command.arg("--upper-on-overlay");
        }
        let mut bind = |from: &Path, to: &str| {
            command.arg("--bind").arg(format!("{}:{to}", from.display()));
        };
        bind(Path::new(env!("CARGO_BIN_EXE_coracle")), "/bin/coracle:ro");
        bind(&visit.base, "/base:ro");
        bind(visit.context, "/context:ro");
        if let Some(out) = visit.out {
            bind(out, "/out");
        }
        command.args(["--env", "CORACLE_ROOT=/work/store", "--env", "SOURCE_DATE_EPOCH=1700000000"]);
        // Some have none, and the test is not about that.
        command.args(["--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
        command.args(["--cwd", "/work", "--", "/bin/sh", "-c", script]);
        command.current_dir(root()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::new(command)
    }

    /// Makes the calls of `visit` there, one after the other, and returns what came of them, by name.
    pub fn visit(self, visit: &Visit<'_>) -> BTreeMap<String, Call> {
        let mut script = String::from(
            "call() { name=$1; shift; \"$@\" >.out 2>.err; echo \"@@ $name $?\"; cat .out; echo; echo @@@; cat .err; echo; }\n",
        );
        script.push_str(visit.before);
        for (name, line) in &visit.calls {
            let _ = writeln!(script, "call {name} {line}");
        }
        let outcome = self.start(&script, visit).wait().succeeds();
        let calls = parse(&outcome);
        assert_eq!(calls.len(), visit.calls.len(), "{}: {outcome}", self.title());
        calls
    }
}

/// What is done in a place.
#[derive(Debug)]
pub struct Visit<'a> {
    /// A layout, at /base.
    pub base: PathBuf,
    /// A folder, at /context.
    pub context: &'a Path,
    /// A folder that everybody may write to, at /out.
    pub out: Option<&'a Path>,
    /// Lines of a shell that come before.
    pub before: &'static str,
    /// Names without spaces, and lines of a shell.
    pub calls: Vec<(String, String)>,
}

impl<'a> Visit<'a> {
    /// Returns a visit without calls, with busybox at /base.
    pub fn with_busybox(context: &'a Path) -> Self {
        Visit { base: base::busybox(), context, out: None, before: "", calls: Vec::new() }
    }

    /// Adds a call.
    pub fn call(mut self, name: &str, line: &str) -> Self {
        self.calls.push((name.into(), line.into()));
        self
    }
}

/// What came of a call.
#[derive(Debug, Clone)]
pub struct Call {
    /// The exit status.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {}\n--- stdout\n{}\n--- stderr\n{}", self.status, self.stdout, self.stderr)
    }
}

impl Call {
    /// Returns the digest that a build prints, or what it says instead.
    pub fn digest(&self) -> Result<&str, String> {
        if self.status == 0 { Ok(self.stdout.trim()) } else { Err(self.to_string()) }
    }

    /// Returns the lines of standard error that begin with `mark`, without it.
    pub fn lines<'a>(&'a self, mark: &'a str) -> impl Iterator<Item = &'a str> {
        self.stderr.lines().filter_map(move |line| line.strip_prefix(mark))
    }
}

fn parse(outcome: &Outcome) -> BTreeMap<String, Call> {
    let mut calls = BTreeMap::new();
    for part in outcome.stdout.split("@@ ").skip(1) {
        let (head, rest) = part.split_once('\n').expect("a line");
        let (name, status) = head.rsplit_once(' ').expect("a name and a status");
        let (stdout, stderr) = rest.split_once("\n@@@\n").expect("two outputs");
        let status = status.parse().expect("a number");
        calls.insert(name.to_owned(), Call { status, stdout: stdout.into(), stderr: stderr.into() });
    }
    calls
}

/// Returns whether places can be made: by root, with runc. Says so where they cannot, and panics in CI.
pub fn can_be_made() -> bool {
    let lack = if !rustix::process::getuid().is_root() {
        "only root can make other environments"
    } else if tool("runc").is_none() {
        "runc is not installed (scripts/need test)"
    } else if tool("python3").is_none() {
        "python3 is not installed (scripts/need test)"
    } else {
        return true;
    };
    assert!(std::env::var_os("CI").is_none(), "{lack}");
    eprintln!("skipped: {lack}");
    false
}

/// Returns whether packages can be installed: apt of this machine reaches its archive. Says so where it does not, and panics in
/// CI.
pub fn can_install() -> bool {
    static REACHED: OnceLock<bool> = OnceLock::new();
    let reached = *REACHED.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        // Of the machine's own lists and cache nothing is touched.
        let lists = format!("Dir::State::lists={}", dir.path().display());
        let options =
            ["-o", &lists, "-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none", "--error-on=any"];
        let update = Command::new("apt-get").arg("update").args(options).output();
        update.is_ok_and(|output| output.status.success())
    });
    if !reached {
        let lack = "apt-get update fails: no network, or no Debian";
        assert!(std::env::var_os("CI").is_none(), "{lack}");
        eprintln!("skipped: {lack}");
    }
    reached
}

/// Calls `visit` for each of `places`, some at the same time, and returns what it returns, in order. While you work, the variable
/// PLACES holds the names of those that are left.
pub fn in_each<T: Send>(places: &[Environment], visit: impl Fn(Environment) -> T + Sync) -> Vec<(Environment, T)> {
    let only = std::env::var("PLACES").unwrap_or_default();
    assert!(only.is_empty() || std::env::var_os("CI").is_none(), "PLACES leaves places out");
    let places: Vec<Environment> = places
        .iter()
        .copied()
        .filter(|place| only.is_empty() || only.split(' ').any(|name| name == place.name))
        .collect();
    let next = Mutex::new(places.iter().copied().enumerate());
    let results = Mutex::new(Vec::new());
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let taken = next.lock().expect("no panic while locked").next();
                    let Some((at, place)) = taken else { break };
                    let result = visit(place);
                    results.lock().expect("no panic while locked").push((at, place, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no panic while locked");
    results.sort_by_key(|(at, ..)| *at);
    results.into_iter().map(|(_, place, result)| (place, result)).collect()
}
