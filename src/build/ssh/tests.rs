use std::path::Path;
use std::process::Command;

use super::*;

/// Runs a tool of OpenSSH or OpenSSL, and returns what it writes.
fn tool(line: &str, dir: &Path, socket: &Path) -> Result<String, String> {
    let out = Command::new("sh").args(["-ec", line]).current_dir(dir).env("SSH_AUTH_SOCK", socket).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    if out.status.success() { Ok(text) } else { Err(text) }
}

fn made(dir: &Path, line: &str) -> Vec<u8> {
    tool(&format!("{line} >/dev/null 2>&1"), dir, Path::new("")).unwrap_or_else(|text| panic!("{line}: {text}"));
    std::fs::read(dir.join("k")).unwrap()
}

/// Answers at `socket` with the keys.
fn serve(socket: &Path, agent: Agent) {
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let peer = agent.connect().unwrap();
            std::thread::spawn(move || peer.answer(&client));
        }
    });
}

const KINDS: [&str; 8] = [
    "ssh-keygen -q -N '' -t ed25519 -C me -f k",
    "ssh-keygen -q -N '' -t ecdsa -b 256 -C me -f k",
    "ssh-keygen -q -N '' -t ecdsa -b 384 -C me -f k",
    "ssh-keygen -q -N '' -t rsa -b 2048 -C me -f k",
    "ssh-keygen -q -N '' -t rsa -b 3072 -m PEM -f k",
    "ssh-keygen -q -N '' -t ecdsa -b 256 -m PEM -f k",
    "ssh-keygen -q -N '' -t ecdsa -b 384 -m PKCS8 -f k",
    "ssh-keygen -q -N '' -t rsa -b 2048 -m PKCS8 -f k",
];

#[test]
fn the_tools_of_openssh_take_what_the_keys_sign() {
    for line in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let (dir, socket) = (dir.path(), dir.path().join("s"));
        let mut keys = Keys::default();
        keys.add(&made(dir, line), Path::new("its file")).unwrap_or_else(|error| panic!("{line}: {error}"));
        // The private half is only in the memory of this process.
        std::fs::remove_file(dir.join("k")).unwrap();
        let agent = Agent::Keys(Arc::new(keys));
        assert!(!format!("{agent:?}").contains("PRIVATE"));
        serve(&socket, agent);
        let run = |line: &str| tool(line, dir, &socket);
        let listed = run("ssh-add -L").unwrap();
        let public = std::fs::read_to_string(dir.join("k.pub")).unwrap();
        let words = |text: &str| text.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&listed), words(&public), "{line}");
        assert!(listed.trim_end().ends_with(if line.contains("-C me") { "me" } else { "its file" }), "{listed}");
        let sign = "echo text >t; ssh-keygen -q -Y sign -n file -f k.pub t; \
                    ssh-keygen -Y check-novalidate -n file -s t.sig <t";
        let signed = run(sign).unwrap_or_else(|text| panic!("{line}: {text}"));
        assert!(signed.contains("Good"), "{signed}");
        // The rest of what an agent can do is not done.
        for refused in ["ssh-add -D", "ssh-add -d k.pub", "ssh-keygen -q -N '' -f new && ssh-add new"] {
            assert!(run(refused).is_err(), "{refused}");
        }
        assert_eq!(words(&run("ssh-add -L").unwrap()), words(&public));
    }
}

#[test]
fn what_cannot_be_used_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let error = |text: &[u8]| Keys::default().add(text, Path::new("x")).expect_err("no key");
    let fresh = |line: &str| {
        let _ = std::fs::remove_file(dir.path().join("k"));
        made(dir.path(), line)
    };
    for line in ["-t ed25519", "-t rsa -m PEM", "-t ecdsa -m PKCS8"] {
        assert_eq!(error(&fresh(&format!("ssh-keygen -q -N secret {line} -f k"))), KeyError::Encrypted, "{line}");
    }
    let public = std::fs::read(dir.path().join("k.pub")).unwrap();
    assert_eq!(error(&public), KeyError::Public);
    assert_eq!(
        error(&fresh("ssh-keygen -q -N '' -t ecdsa -b 521 -f k")),
        KeyError::Kind { kind: "ecdsa-sha2-nistp521".into() }
    );
    for text in [&b""[..], b"hello\n", b"\xff\xfe", b"-----BEGIN PRIVATE KEY-----"] {
        assert_eq!(error(text), KeyError::NotAKey);
    }
    // Cut at every place, and with every byte changed: an error or a key, and no panic.
    let whole = fresh("ssh-keygen -q -N '' -t rsa -b 2048 -f k");
    for at in (0..whole.len()).step_by(31) {
        assert!(at + 40 > whole.len() || Keys::default().add(&whole[..at], Path::new("x")).is_err());
        let mut other = whole.clone();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        let _ = Keys::default().add(&other, Path::new("x"));
    }
}

#[test]
fn a_step_can_ask_an_agent_for_keys_and_signatures_alone() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let quiet = std::process::Stdio::null();
    let mut agent = Command::new("ssh-agent").args(["-D", "-a"]).arg(dir.join("real")).stdout(quiet).spawn().unwrap();
    for _ in 0..500 {
        if dir.join("real").exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let [real, passed] = [dir.join("real"), dir.join("passed")];
    serve(&passed, Agent::Socket(real.clone()));
    let done = tool("ssh-keygen -q -N '' -t ed25519 -f k; ssh-add -q k", dir, &real);
    let listed = tool("ssh-add -L", dir, &passed);
    let signed = tool(
        "rm k; echo text >t; ssh-keygen -q -Y sign -n f -f k.pub t; ssh-keygen -Y check-novalidate -n f -s t.sig <t",
        dir,
        &passed,
    );
    let refused = ["ssh-add -D", "ssh-add -d k.pub", "ssh-keygen -q -N '' -f new && ssh-add new"]
        .map(|line| (line, tool(line, dir, &passed)));
    let after = tool("ssh-add -L", dir, &real);
    agent.kill().unwrap();
    agent.wait().unwrap();
    done.unwrap();
    assert_eq!(listed, after);
    assert!(listed.unwrap().starts_with("ssh-ed25519 "));
    assert!(signed.unwrap().contains("Good"));
    for (line, result) in refused {
        assert!(result.is_err(), "{line}");
    }
}
