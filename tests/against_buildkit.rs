//! The cases of `tests/against`, each built by coracle and by the BuildKit that is in Debian's docker: the same configuration, the same
//! files, the same history; and what BuildKit refuses is refused. That BuildKit is one of 2023: where a newer one does another
//! thing, `tests/against/buildkit` says so.
//!
//! Needs root: the daemon of docker does.

mod against;
mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use against::{Case, Image, cases, differences, in_each, ours, project};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{Project, User, base, require_tool};

/// Debian's own: another docker before it on the path may need a plugin to build.
const DOCKER: &str = "/usr/bin/docker";

/// A daemon that has nothing in common with one of the machine: no network, a folder of its own.
struct Docker {
    child: Child,
    dir: tempfile::TempDir,
}

impl Docker {
    fn start() -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").expect("a folder on the disk");
        let at = |name: &str| dir.path().join(name);
        let log = File::create(at("log")).expect("a file");
        let child = Command::new(support::tool("dockerd").expect("it was looked for"))
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--data-root"])
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .arg("--host")
            .arg(format!("unix://{}", at("socket").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("dockerd");
        let docker = Docker { child, dir };
        let since = Instant::now();
        while !docker.call(["version"]).output().expect(DOCKER).status.success() {
            let log = || std::fs::read_to_string(docker.at("log")).unwrap_or_default();
            assert!(since.elapsed() < Duration::from_secs(120), "the daemon does not answer:\n{}", log());
            thread::sleep(Duration::from_millis(100));
        }
        docker
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn call<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = Command::new(DOCKER);
        command.arg("--host").arg(format!("unix://{}", self.at("socket").display())).args(args);
        command.env("DOCKER_BUILDKIT", "1").env("DOCKER_CONFIG", self.dir.path()).stdin(Stdio::null());
        command
    }

    /// Builds, and returns the image, or what was said.
    fn build(&self, name: &str, dockerfile: &Path, context: &Path) -> Result<Image, String> {
        let mut call = self.call(["build", "--network", "host", "--progress=plain", "--tag", name, "--file"]);
        let output = call.arg(dockerfile).arg(context).output().expect(DOCKER);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let mut save = self.call(["save", name]).stdout(Stdio::piped()).spawn().expect(DOCKER);
        let mut files = BTreeMap::new();
        let mut archive = tar::Archive::new(save.stdout.take().expect("a pipe"));
        for entry in archive.entries().expect("an archive") {
            let mut entry = entry.expect("an entry");
            let (path, mut bytes) = (entry.path().expect("a name").into_owned(), Vec::new());
            entry.read_to_end(&mut bytes).expect("a file");
            files.insert(path, bytes);
        }
        assert!(save.wait().expect("our child").success());
        let file = |name: &Value| files[Path::new(name.as_str().expect("a name"))].clone();
        let manifest: Value = serde_json::from_slice(&files[Path::new("manifest.json")]).expect("JSON");
        let document = serde_json::from_slice(&file(&manifest[0]["Config"])).expect("JSON");
        Ok(Image::new(document, manifest[0]["Layers"].as_array().expect("layers").iter().map(file)))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM).map(|()| self.child.wait());
    }
}

/// Builds a case with both and returns what is not the same.
fn compared(case: &Case, number: usize, project: &Project, docker: &Docker, out: &Path) -> Vec<String> {
    let dockerfile = out.join(format!("Dockerfile.{number}"));
    if let Some(exit) = case.differs.get("fails") {
        std::fs::write(&dockerfile, &case.dockerfile).expect("a Dockerfile");
        let call = project.user().coracle(["build", "--progress=plain", "--file"]).arg(&dockerfile);
        let ours = call.arg(project.dir()).run();
        let theirs = docker.build("fails", &dockerfile, project.dir());
        let mut found = Vec::new();
        if ours.code().map(|code| code.to_string()).as_ref() != Some(exit) {
            found.push(format!("coracle does not end with {exit}: {ours}"));
        }
        if theirs.is_ok() && !case.differs.contains_key("works") {
            found.push("BuildKit builds it".into());
        }
        return found;
    }
    let ours = ours(case, number, project, &dockerfile);
    let theirs = match docker.build(&format!("case-{number}"), &dockerfile, project.dir()) {
        Ok(image) => image,
        Err(said) => return vec![format!("BuildKit refuses it: {said}")],
    };
    let mut found = differences(case, &ours, &theirs, |_| false);
    if !case.differs.contains_key("history") {
        let (a, b) = (ours.history(), theirs.history());
        if a.len() != b.len() {
            found.push(format!("history: {a:?} and theirs {b:?}"));
        }
        let pairs = a.iter().zip(&b).filter(|(a, b)| a != b);
        found.extend(pairs.map(|(a, b)| format!("history: {a:?} and theirs {b:?}")));
    }
    found
}

#[test]
fn coracle_and_buildkit_make_the_same_of_small_dockerfiles() {
    if !require_tool("dockerd") || !Path::new(DOCKER).exists() {
        return;
    }
    if !rustix::process::getuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "only root can start the daemon of docker");
        eprintln!("skipped: only root can start the daemon of docker");
        return;
    }
    let docker = Docker::start();
    let user = User::with_busybox();
    let (project, out) = (project(&user), user.new_dir());
    let archive = out.join("busybox.tar");
    let from = format!("oci:{}", base::busybox().display());
    let to = format!("docker-archive:{}:docker.io/library/busybox:latest", archive.display());
    user.coracle(["copy", &from, &to]).run().succeeds();
    let load = docker.call(["load", "--input"]).arg(&archive).output().expect(DOCKER);
    assert!(load.status.success(), "{load:?}");

    let mut all = cases("buildkit");
    // What differs from buildah there does not differ from BuildKit. Their history has forms of another time.
    all.extend(
        cases("cases")
            .into_iter()
            .map(|case| Case { differs: [("history".into(), "not compared".into())].into(), ..case }),
    );
    let found = in_each(&all, |case, number| compared(case, number, &project, &docker, &out));
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}
