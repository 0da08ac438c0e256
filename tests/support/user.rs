use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Outcome, Running, base, root};

/// An ordinary user: with subordinate ids, a home of their own on the disk, and an empty store in it. All of it is
/// removed with the last clone of this value.
#[derive(Debug, Clone)]
pub struct User(Arc<Home>);

#[derive(Debug)]
struct Home {
    path: PathBuf,
    subids: bool,
    projects: AtomicUsize,
}

impl User {
    /// Returns a new user.
    pub fn new() -> Self {
        Self::with_subids(true)
    }

    /// Returns a new user whose store has docker.io/library/busybox:latest.
    pub fn with_busybox() -> Self {
        let user = Self::new();
        user.pull(&base::busybox());
        user
    }

    /// Returns a new user who has no subordinate ids.
    pub fn without_subids() -> Self {
        Self::with_subids(false)
    }

    /// Returns two new users with busybox, by what their steps run in: one with subordinate ids, and one without.
    pub fn both() -> [(&'static str, User); 2] {
        let users = [("full map", User::new()), ("single id", User::without_subids())];
        for (_, user) in &users {
            user.pull(&base::busybox());
        }
        users
    }

    fn with_subids(subids: bool) -> Self {
        // Not /tmp, which may be in memory.
        let parent = std::env::var_os("TMPDIR").unwrap_or("/var/tmp".into());
        let home = tempfile::Builder::new().prefix("coracle-test-").tempdir_in(parent).expect("a folder on the disk");
        User(Arc::new(Home { path: home.keep(), subids, projects: AtomicUsize::new(0) }))
    }

    /// Returns the home folder.
    pub fn home(&self) -> &Path {
        &self.0.path
    }

    /// Returns the folder of the store.
    pub fn store(&self) -> PathBuf {
        self.home().join(".local/share/coracle")
    }

    /// Returns the OCI layout in the store.
    pub fn layout(&self) -> PathBuf {
        self.store().join("oci")
    }

    /// Takes the image in an OCI layout into the store.
    pub fn pull(&self, layout: &Path) {
        self.coracle(["pull", &format!("oci:{}", layout.display())]).run().succeeds();
    }

    /// Returns a new folder in the home folder that the user may write to.
    pub fn new_dir(&self) -> PathBuf {
        let number = self.0.projects.fetch_add(1, Ordering::Relaxed);
        let path = self.home().join(format!("dir-{number}"));
        fs::create_dir(&path).expect("a new folder");
        set_mode(&path, 0o777);
        path
    }

    /// Returns a call of the program, to be made as this user.
    pub fn coracle<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Call {
        let mut call = self.call(env!("CARGO_BIN_EXE_coracle"));
        call.command.args(args);
        call
    }

    /// Returns a call of some other program, to be made as this user.
    pub fn tool(&self, line: &str) -> Call {
        let mut words = line.split_whitespace();
        let mut call = self.call(words.next().expect("a program"));
        call.command.args(words);
        call
    }

    fn call(&self, program: &str) -> Call {
        let mut command = Command::new(root().join("scripts/as-user"));
        command.arg("--home").arg(self.home());
        if !self.0.subids {
            command.arg("--no-subids");
        }
        command.arg("--").arg(program);
        for name in ["SOURCE_DATE_EPOCH", "NO_COLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        command.current_dir(root()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Call { command }
    }

    /// Checks that a command that was stopped has left nothing: no process with `mark` among its arguments, no temporary
    /// file.
    pub fn has_nothing_left_of(&self, mark: &str) {
        let processes = processes_with(mark);
        assert!(processes.is_empty(), "still running: {processes:?}");
        for dir in [self.home().join(".tmp"), self.store().join("tmp")] {
            let left: Vec<_> = fs::read_dir(&dir).map(|files| files.flatten().collect()).unwrap_or_default();
            assert!(left.is_empty(), "temporary files: {left:?}");
        }
    }
}

/// Returns the command lines of the processes of this machine that have `mark` in them.
pub fn processes_with(mark: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("a /proc").flatten();
    let own = std::process::id().to_string();
    processes
        .filter(|process| process.file_name() != own.as_str())
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(mark))
        .collect()
}

/// Waits until no process has `mark` in its command line.
pub fn gone(mark: &str) {
    let begin = Instant::now();
    while !processes_with(mark).is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(10), "still there: {:?}", processes_with(mark));
        thread::sleep(Duration::from_millis(10));
    }
}

/// Calls the program as `user`.
pub fn run(user: &User, args: &[&str]) -> Outcome {
    user.coracle(args).run()
}

/// Changes the mode of a file.
pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("own file");
}

impl Drop for Home {
    fn drop(&mut self) {
        if fs::remove_dir_all(&self.path).is_err() {
            // Files of subordinate ids: only root of a namespace with those ids may remove them.
            let _ =
                Command::new("unshare").args(["--map-auto", "--map-root-user", "rm", "-rf"]).arg(&self.path).status();
        }
    }
}

/// A call of a program.
#[derive(Debug)]
pub struct Call {
    command: Command,
}

impl Call {
    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives the call a file as its standard input.
    pub fn stdin(mut self, file: &Path) -> Self {
        self.command.stdin(fs::File::open(file).expect("a file"));
        self
    }

    /// Makes the call in another folder than that of the project.
    pub fn within(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Returns the call as a line for a shell.
    pub fn line(&self) -> String {
        let quoted = |word: &OsStr| format!("'{}'", word.to_str().expect("text").replace('\'', "'\\''"));
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        words.map(quoted).collect::<Vec<_>>().join(" ")
    }

    /// Has the call read `text` from its standard input.
    pub fn typing(mut self, text: &str) -> Self {
        use std::io::{Seek, Write};
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(text.as_bytes()).and_then(|()| file.rewind()).expect("a file");
        self.command.stdin(file);
        self
    }

    /// Returns the command, to be started by somebody else.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Makes the call, and returns when it has ended.
    pub fn run(self) -> Outcome {
        self.start().wait()
    }

    /// Makes the call, and returns while it is going on.
    pub fn start(self) -> Running {
        Running::new(self.command)
    }
}
