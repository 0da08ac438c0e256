use std::fs;
use std::ops::Deref;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::user::set_mode;
use super::{Call, Image, Outcome, Running, User, dedent};

/// The name that images get unless a test gives another.
const NAME: &str = "test:latest";

/// A folder with a Dockerfile and what it copies.
#[derive(Debug, Clone)]
pub struct Project {
    user: User,
    dir: PathBuf,
    args: Vec<String>,
    name: String,
}

impl Project {
    /// Returns an empty project of a new user whose store has busybox.
    pub fn new() -> Self {
        Self::of(&User::with_busybox())
    }

    /// Returns an empty project of `user`.
    pub fn of(user: &User) -> Self {
        Project { user: user.clone(), dir: user.new_dir(), args: Vec::new(), name: NAME.into() }
    }

    /// Writes a file.
    pub fn file(self, path: &str, text: impl AsRef<[u8]>) -> Self {
        let file = self.path(path);
        fs::create_dir_all(file.parent().expect("in the folder")).expect("a folder");
        fs::write(file, text).expect("a file");
        self
    }

    /// Writes the Dockerfile; the indentation that all lines share is taken away.
    pub fn dockerfile(self, text: &str) -> Self {
        self.file("Dockerfile", dedent(text))
    }

    /// Makes a folder.
    pub fn folder(self, path: &str) -> Self {
        fs::create_dir_all(self.path(path)).expect("a folder");
        self
    }

    /// Makes a symbolic link.
    pub fn link(self, path: &str, target: &str) -> Self {
        symlink(target, self.path(path)).expect("a link");
        self
    }

    /// Makes a second name of a file.
    pub fn hard_link(self, path: &str, existing: &str) -> Self {
        fs::hard_link(self.path(existing), self.path(path)).expect("a link");
        self
    }

    /// Changes a mode.
    pub fn mode(self, path: &str, mode: u32) -> Self {
        set_mode(&self.path(path), mode);
        self
    }

    /// Changes the time of a file, and nothing else.
    pub fn touch(self, path: &str) -> Self {
        let later = SystemTime::now() + Duration::from_secs(1000);
        fs::File::open(self.path(path)).and_then(|file| file.set_modified(later)).expect("own file");
        self
    }

    /// Removes a file.
    pub fn without(self, path: &str) -> Self {
        fs::remove_file(self.path(path)).expect("own file");
        self
    }

    /// Adds an argument of `coracle build`.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Gives the image another name.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// Returns the user.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// Returns where a file of the project lies.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    /// Returns the folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the call that builds it.
    pub fn call(&self) -> Call {
        let mut call = self.user.coracle(["build", "--progress", "plain", "--tag", &self.name]);
        for arg in &self.args {
            call = call.arg(arg);
        }
        call.arg(&self.dir)
    }

    /// Builds it.
    pub fn build(&self) -> Built {
        self.built(self.call().run())
    }

    /// Begins to build it.
    pub fn start(&self) -> Running {
        self.call().start()
    }

    /// Returns what a call of `coracle build` for this project has brought.
    pub fn built(&self, outcome: Outcome) -> Built {
        Built { outcome, user: self.user.clone(), name: self.name.clone() }
    }

    /// Returns the image that was built last.
    pub fn image(&self) -> Image {
        Image::named(&self.user.layout(), &self.name, Some(self.user.clone()))
    }
}

/// How a build ended.
#[derive(Debug)]
pub struct Built {
    outcome: Outcome,
    user: User,
    name: String,
}

impl Deref for Built {
    type Target = Outcome;

    fn deref(&self) -> &Outcome {
        &self.outcome
    }
}

impl Built {
    /// Checks that it succeeded and that the store's layout is sound; returns the image.
    pub fn succeeds(self) -> Image {
        self.outcome.succeeds();
        Image::named(&self.user.layout(), &self.name, Some(self.user))
    }

    /// Checks that it failed with this exit code.
    pub fn fails(self, code: i32) -> Outcome {
        self.outcome.fails(code)
    }

    /// Checks that it failed with a documented exit code.
    pub fn fails_cleanly(self) -> Outcome {
        self.outcome.fails_cleanly()
    }

    /// Checks how many steps came from the cache.
    pub fn cached(self, steps: usize) -> Self {
        assert_eq!(self.count("CACHED"), steps, "{}", self.outcome);
        self
    }

    /// Checks what it wrote to standard error.
    pub fn stderr_has(self, text: &str) -> Self {
        Built { outcome: self.outcome.stderr_has(text), ..self }
    }

    /// Checks what it did not write to standard error.
    pub fn stderr_has_no(self, text: &str) -> Self {
        Built { outcome: self.outcome.stderr_has_no(text), ..self }
    }

    /// Checks how long it took.
    pub fn takes_at_most(self, limit: Duration) -> Self {
        Built { outcome: self.outcome.takes_at_most(limit), ..self }
    }
}
