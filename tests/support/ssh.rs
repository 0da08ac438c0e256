//! Keys, programs that use them, and a server for them.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Project;

/// Copies programs of this machine, and the libraries that they need, into the context of `project`.
pub fn with_programs(mut project: Project, programs: &[&str]) -> Project {
    for program in programs {
        let out = Command::new("ldd").arg(program).output().expect("ldd is part of the C library");
        let text = String::from_utf8(out.stdout).expect("paths");
        let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
        for path in libraries.chain([*program]) {
            // Where it lies without links: in the image a folder cannot take the place of a link.
            let path = Path::new(path);
            let folder = fs::canonicalize(path.parent().expect("a folder")).expect("a folder");
            let name = format!("programs{}/{}", folder.display(), path.file_name().expect("a name").display());
            project = project.file(&name, fs::read(path).unwrap()).mode(&name, 0o755);
        }
    }
    project
}

/// Calls `ssh-keygen` in a folder; the last word of the line names the file, which is returned.
pub fn keygen(dir: &Path, line: &str) -> PathBuf {
    let status = Command::new("sh").args(["-ec", line]).current_dir(dir).status().expect("a shell");
    assert!(status.success(), "{line}");
    dir.join(line.split_whitespace().next_back().expect("the file is the last word"))
}

/// A server of OpenSSH on this machine that lets in whoever has one key, for git or for `echo`.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    /// Where it listens.
    pub port: u16,
    /// What its clients know it by: a line of a file of known hosts.
    pub known_host: String,
    _dir: tempfile::TempDir,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sshd {
    /// Starts the server for the holder of `key`, a public one.
    pub fn start(key: &str) -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let host = keygen(dir.path(), "ssh-keygen -q -N '' -t ed25519 -f host");
        fs::write(dir.path().join("allowed"), key).expect("a file");
        let port = super::free_port();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             ForceCommand case $SSH_ORIGINAL_COMMAND in git-upload-pack*|'echo '*) eval $SSH_ORIGINAL_COMMAND ;; *) exit 9 ;; esac\n",
            host.display(),
            dir.path().join("allowed").display()
        );
        let file = dir.path().join("config");
        fs::write(&file, config).expect("a file");
        // Where it puts processes that are not let in yet.
        fs::create_dir_all("/run/sshd").expect("root made it");
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sshd");
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(since.elapsed() < Duration::from_secs(60), "sshd does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        let key = fs::read_to_string(host.with_extension("pub")).expect("a key");
        Sshd { child, port, known_host: format!("[127.0.0.1]:{port} {key}"), _dir: dir }
    }
}
