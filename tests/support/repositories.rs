//! Git repositories, and a server for them.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Repositories, and a server for them, as long as the value lives.
#[derive(Debug)]
pub struct Server {
    /// The folder that they are in.
    pub dir: tempfile::TempDir,
    port: u16,
    /// The server.
    pub daemon: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Calls git in a folder, as somebody whose times do not change, and returns what it says.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.env_clear().env("PATH", std::env::var("PATH").unwrap_or_default()).env("HOME", "/dev/null");
    for (name, value) in [("AUTHOR", "1700000000 +0000"), ("COMMITTER", "1700000000 +0000")] {
        command.env(format!("GIT_{name}_NAME"), "ann").env(format!("GIT_{name}_EMAIL"), "ann@example.org");
        command.env(format!("GIT_{name}_DATE"), value);
    }
    command
        .args(["-c", "safe.directory=*", "-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"])
        .args(args)
        .current_dir(dir);
    let output = command.output().expect("git");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Server {
    /// Starts the server, without repositories.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        super::set_mode(dir.path(), 0o755);
        let port = super::free_port();
        // Not by way of git, which would start another process that outlives it.
        let program = PathBuf::from(git(dir.path(), &["--exec-path"])).join("git-daemon");
        let daemon = Command::new(program)
            .args(["--export-all", "--reuseaddr", "--listen=127.0.0.1", &format!("--port={port}")])
            .arg(format!("--base-path={}", dir.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("git daemon");
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(since.elapsed() < Duration::from_secs(60), "git daemon does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Server { dir, port, daemon }
    }

    /// Returns the URL of a repository.
    pub fn url(&self, repository: &str) -> String {
        format!("git://127.0.0.1:{}/{repository}", self.port)
    }

    /// Makes a repository of these files, and returns its folder.
    pub fn repository(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).expect("a folder");
        git(&path, &["init", "--quiet"]);
        commit(&path, files);
        path
    }
}

/// Commits files; what ends in `.sh` can be run.
pub fn commit(repository: &Path, files: &[(&str, &str)]) -> String {
    for (name, text) in files {
        let file = repository.join(name);
        fs::create_dir_all(file.parent().expect("in the folder")).expect("a folder");
        fs::write(&file, text).expect("a file");
        super::set_mode(&file, if name.ends_with(".sh") { 0o775 } else { 0o664 });
    }
    git(repository, &["add", "--all"]);
    git(repository, &["commit", "--quiet", "--allow-empty", "-m", "more"]);
    git(repository, &["rev-parse", "HEAD"])
}

/// Writes an object as it is, whatever is wrong with it, and returns its id.
pub fn object(repository: &Path, kind: &str, bytes: &[u8]) -> String {
    let file = repository.join(".git/object-to-be");
    fs::write(&file, bytes).expect("a file");
    git(repository, &["hash-object", "-w", "--literally", "-t", kind, ".git/object-to-be"])
}

/// Writes a tree of these entries, in this order: mode, name and id of each.
pub fn tree(repository: &Path, entries: &[(&str, &str, &str)]) -> String {
    let mut bytes = Vec::new();
    for (mode, name, id) in entries {
        bytes.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        let digit = |at: usize| u8::from_str_radix(&id[at..at + 2], 16).expect("hexadecimal");
        bytes.extend((0..id.len()).step_by(2).map(digit));
    }
    object(repository, "tree", &bytes)
}

/// Commits a tree to the branch main.
pub fn commit_tree(repository: &Path, tree: &str) -> String {
    let id = git(repository, &["commit-tree", tree, "-m", "tree"]);
    git(repository, &["update-ref", "refs/heads/main", &id]);
    id
}
