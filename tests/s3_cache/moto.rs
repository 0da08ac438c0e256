//! Against moto, an independent service, whose door is kept by botocore: it signs each address again.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::support::bucket::{ID, SECRET, TOKEN};
use super::support::{Project, free_port, root};
use super::{build, heavy, on_heavy, project};

struct Moto {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    port: u16,
}

impl Moto {
    /// Starts it; `None` where it is not installed, which is an error in CI.
    fn start() -> Option<Self> {
        let python = root().join("target/tools/moto/bin/python");
        if !python.exists() {
            assert!(std::env::var_os("CI").is_none(), "moto is not installed: see scripts/need");
            eprintln!("skipped: moto is not installed (scripts/need test)");
            return None;
        }
        let port = free_port();
        let mut child = Command::new(python)
            .arg(root().join("tests/s3_cache/moto_server.py"))
            .args([&port.to_string(), ID, SECRET, TOKEN])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("moto");
        let stdin = child.stdin.take().expect("a pipe");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut moto = Moto { child, stdin, stdout, port };
        assert_eq!(moto.line(), "ready");
        Some(moto)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// Returns the objects, each with its length, as boto3 lists them.
    fn list(&mut self) -> BTreeMap<String, u64> {
        writeln!(self.stdin, "list").expect("a pipe");
        serde_json::from_str(&self.line()).expect("JSON")
    }

    fn unfinished(&mut self) -> String {
        writeln!(self.stdin, "uploads").expect("a pipe");
        self.line()
    }

    fn spec(&self, more: &str) -> String {
        format!("type=s3,bucket=demo,endpoint_url=http://127.0.0.1:{},name=a b;ü+1{more}", self.port)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

#[test]
fn an_empty_store_replays_a_build_from_moto() {
    let Some(mut moto) = Moto::start() else { return };
    let image = build(&project().arg(&format!("--cache-to={}", moto.spec(",mode=max")))).succeeds();
    let names = moto.list();
    assert_eq!(names.len(), 9 + 2, "{names:#?}");
    assert!(names.contains_key("manifests/a b") && names.contains_key("manifests/ü+1"), "{names:#?}");
    let flags = [format!("--cache-from={}", moto.spec("")), format!("--cache-to={}", moto.spec(",touch_refresh=0s"))];
    let again = build(&project().arg(&flags[0]).arg(&flags[1])).stderr_has_no("warning").cached(4).succeeds();
    assert_eq!(image.digest(), again.digest());
    let nowhere = moto.spec("").replace("bucket=demo", "bucket=nowhere");
    build(&project().arg(&format!("--cache-from={nowhere}"))).stderr_has("NoSuchBucket").succeeds();
}

#[test]
fn a_large_layer_goes_to_moto_in_parts() {
    let Some(mut moto) = Moto::start() else { return };
    let first = heavy("one", 70).arg("--compression=none").arg(&format!("--cache-to={}", moto.spec(",mode=max")));
    build(&first).stderr_has_no("is not written").succeeds();
    assert!(moto.list().values().any(|size| *size > 70_000_000));
    assert_eq!(moto.unfinished(), "0");
    let second = Project::new().dockerfile(&on_heavy(70)).arg(&format!("--cache-from={}", moto.spec("")));
    build(&second).stderr_has_no("cannot be had").cached(1).succeeds();
}
