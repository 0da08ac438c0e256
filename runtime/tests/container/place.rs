use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use coracle_runtime::container::{
    Bind, ContainerSpec, Control, DeviceFiles, Devices, Exit, Finished, Ids, Io, Limits, Network, Place as Around,
    RootfsSource, Stdin, Stream, run,
};
use coracle_runtime::{Capabilities, RuntimeError};

const APPLETS: &[&str] = &[
    "sh", "true", "false", "cat", "ls", "id", "sleep", "kill", "echo", "grep", "hostname", "mkdir", "mount", "unshare",
    "touch", "stat", "mknod", "mkfifo", "ln", "mv", "cp", "cut", "chmod", "head", "tr", "pwd", "env", "chown", "rm",
    "wc", "yes", "sed", "readlink", "printf", "awk", "ps", "setsid", "nc",
];

/// Whether steps are in a chroot in this place, because nothing else is possible there.
pub fn is_chroot(name: &str) -> bool {
    name.contains("docker") || name.contains("chroot")
}

/// Libraries of this program, for places where those of this machine can not be mounted.
const LIBRARIES: [&str; 4] =
    ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu"];

/// Where the cases run: a small root file system, and room for what they write.
pub struct Place {
    pub name: String,
    dir: tempfile::TempDir,
    next: AtomicU32,
}

impl Place {
    /// Returns `None` without busybox.
    pub fn new(name: &str) -> Option<Self> {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists())?;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let base = dir.path().join("base");
        for name in ["bin", "proc", "sys", "dev", "etc", "root", "tmp"] {
            fs::create_dir_all(base.join(name)).expect("mkdir");
        }
        fs::set_permissions(base.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("chmod");
        fs::copy(busybox, base.join("bin/busybox")).expect("copies busybox");
        for applet in APPLETS {
            symlink("busybox", base.join("bin").join(applet)).expect("link");
        }
        fs::create_dir(dir.path().join("scratch")).expect("mkdir");
        Some(Place { name: name.into(), dir, next: AtomicU32::new(0) })
    }

    pub fn proc_is_masked(&self) -> bool {
        self.name.contains("masked")
    }

    /// Whether there is one user, and the others are emulated.
    pub fn is_single(&self) -> bool {
        self.name.contains("single")
    }

    fn ids(&self) -> Ids {
        let emulated = Ids::Emulated { special: vec![], devices: DeviceFiles::Absent };
        if self.is_single() || is_chroot(&self.name) { emulated } else { Ids::Real }
    }

    /// A fresh directory.
    pub fn dir(&self, name: &str) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let dir = self.dir.path().join(format!("{name}-{number}"));
        fs::create_dir(&dir).expect("mkdir");
        dir
    }

    /// A step that runs `args` as root on a fresh overlay.
    pub fn step(&self, args: &[&str]) -> Step {
        let rootfs = RootfsSource::Overlay {
            lower: vec![self.dir.path().join("base")],
            upper: self.dir("upper"),
            work: self.dir("work"),
        };
        let ids = self.ids();
        let mut env = vec!["PATH=/bin:/usr/bin".into()];
        if ids != Ids::Real {
            env.push("EMULATED=yes".into());
        }
        if is_chroot(&self.name) {
            env.push("IN_CHROOT=yes".into());
        }
        Step {
            tree: is_chroot(&self.name).then(|| self.dir("tree")),
            following: usize::from(self.name.contains("followed")),
            spec: ContainerSpec {
                rootfs,
                scratch: self.dir.path().join("scratch"),
                binds: vec![],
                mounts: vec![],
                brought: vec![],
                network: Network::Caller,
                capabilities: Capabilities::default(),
                args: args.iter().map(Into::into).collect(),
                env,
                cwd: "/".into(),
                uid: 0,
                gid: 0,
                groups: vec![],
                hostname: "build".into(),
                new_session: true,
                place: Around::Namespaces,
                stdin: Stdin::Null,
                ids,
                devices: Devices::StandIn,
                limits: Limits::default(),
            },
        }
    }

    /// A step that runs `script` in a shell.
    pub fn shell(&self, script: &str) -> Step {
        self.step(&["sh", "-c", script])
    }

    /// A step with the programs of this machine in /usr and /lib, for what busybox can not do.
    pub fn host_programs(&self, args: &[&str]) -> Step {
        let mut step = self.step(args);
        let stubs = self.dir("stubs");
        if step.tree.is_some() {
            for path in LIBRARIES.map(Path::new).into_iter().filter(|path| path.exists()) {
                let target = stubs.join(path.strip_prefix("/").expect("is absolute"));
                fs::create_dir_all(target.parent().expect("is in /lib")).expect("mkdir");
                if path.is_file() {
                    fs::copy(path, target).expect("copies");
                    continue;
                }
                fs::create_dir_all(&target).expect("mkdir");
                for name in ["libc.so.6", "libgcc_s.so.1", "libm.so.6"] {
                    fs::copy(path.join(name), target.join(name)).expect("copies");
                }
            }
            return step.lower(stubs);
        }
        for name in ["usr", "lib", "lib64"].into_iter().filter(|name| Path::new("/").join(name).is_dir()) {
            fs::create_dir(stubs.join(name)).expect("mkdir");
            let path = Path::new("/").join(name);
            step.spec.binds.push(Bind { source: path.clone(), target: path, read_only: true });
        }
        step.lower(stubs)
    }
}

/// A step, changed until it is run.
#[derive(Debug, Clone)]
pub struct Step {
    pub spec: ContainerSpec,
    /// Where it works instead of on an overlay, and without namespaces of its own.
    pub tree: Option<PathBuf>,
    /// How many more are said to follow.
    pub following: usize,
}

impl Step {
    /// Puts `dir` on top of the layers.
    pub fn lower(mut self, dir: PathBuf) -> Self {
        if let RootfsSource::Overlay { lower, .. } = &mut self.spec.rootfs {
            lower.insert(0, dir);
        }
        self
    }

    pub fn user(mut self, uid: u32, gid: u32, groups: &[u32]) -> Self {
        (self.spec.uid, self.spec.gid, self.spec.groups) = (uid, gid, groups.to_vec());
        self
    }

    pub fn bind(mut self, source: PathBuf, target: &str, read_only: bool) -> Self {
        self.spec.binds.push(Bind { source, target: target.into(), read_only });
        self
    }

    /// Where its changes go.
    pub fn upper(&self) -> &Path {
        if let Some(tree) = &self.tree {
            return tree;
        }
        match &self.spec.rootfs {
            RootfsSource::Overlay { upper, .. } => upper,
            RootfsSource::Dir(dir) => dir,
        }
    }

    /// The spec with a new work directory, which overlayfs wants for each mount.
    pub fn fresh_spec(&self) -> ContainerSpec {
        let mut spec = self.spec.clone();
        if let (Some(tree), RootfsSource::Overlay { lower, .. }) = (&self.tree, &self.spec.rootfs) {
            for layer in lower.iter().rev() {
                let copied = Command::new("cp").arg("-a").arg(layer.join(".")).arg(tree).status().expect("cp runs");
                assert!(copied.success(), "{layer:?}");
            }
            spec.rootfs = RootfsSource::Dir(tree.clone());
            spec.place = Around::Chroot { mark: crate::chroot::mark() };
            return spec;
        }
        if let RootfsSource::Overlay { work, .. } = &mut spec.rootfs
            && work.is_dir()
            && work.parent() == self.upper().parent()
        {
            *work = tempfile::Builder::new().prefix("work").tempdir_in(&work).expect("mkdir").keep();
        }
        spec
    }

    pub fn try_run(&self, control: &Control) -> Result<Done, RuntimeError> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut on_output = |stream: Stream, bytes: &[u8]| match stream {
            Stream::Stdout => stdout.extend_from_slice(bytes),
            Stream::Stderr => stderr.extend_from_slice(bytes),
        };
        let finished =
            run(&self.fresh_spec(), Io::Capture { on_output: &mut on_output, following: self.following }, control)?;
        Ok(Done { finished, stdout, stderr })
    }

    pub fn run(&self) -> Done {
        self.try_run(&Control::new()).unwrap_or_else(|error| {
            panic!("{error}: {:?}", error.errno());
        })
    }

    /// Runs it, expects success, and returns what it printed, without spaces around it.
    pub fn prints(&self) -> String {
        let done = self.run();
        assert_eq!(done.finished.exit, Exit::Code(0), "{} {}", done.out(), done.err());
        done.out()
    }
}

/// A step that has ended.
pub struct Done {
    pub finished: Finished,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Done {
    pub fn exit(&self) -> Exit {
        self.finished.exit.clone()
    }

    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}
