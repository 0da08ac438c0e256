use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{ConfigError, Credentials, Secret};

/// How long a helper may take: some open a browser.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most that a helper may say.
const MAX_ANSWER: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Returns what the credential helper `docker-credential-NAME` knows of `server`; `None` where that is nothing.
pub(super) fn get(name: &str, server: &str) -> Result<Option<Credentials>, ConfigError> {
    let program = format!("docker-credential-{name}");
    let failed = |reason: String| ConfigError::Helper { program: program.clone(), registry: server.into(), reason };
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
        return Err(failed("that is no name of a helper".into()));
    }
    let child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let (ok, said) = converse(child, server, PATIENCE).map_err(failed)?;
    if !ok {
        // The text is part of the protocol.
        let nothing = ["credentials not found", "no credentials server URL", "no credentials username"];
        let line = said.lines().next().unwrap_or_default().trim();
        if nothing.iter().any(|text| line.contains(text)) {
            return Ok(None);
        }
        let line: String = line.chars().filter(|letter| !letter.is_control()).take(200).collect();
        return Err(failed(if line.is_empty() { "it ended with an error".into() } else { line }));
    }
    let answer: Answer =
        serde_json::from_str(&said).map_err(|_| failed("its answer is not what it should be".into()))?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    let secret = Secret::new(answer.secret);
    Ok(Some(match answer.username.as_str() {
        "<token>" => Credentials::Identity(secret),
        _ => Credentials::Basic { user: answer.username, password: secret },
    }))
}

/// Tells the child one line, and returns whether it ended well and what it said.
fn converse(mut child: Child, line: &str, patience: Duration) -> Result<(bool, String), String> {
    let start = Instant::now();
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (said, heard) = mpsc::channel();
    // Not a scoped one: a process that the helper left behind could keep its output open for ever.
    std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(stdout) = stdout {
            // What is no text is no answer.
            let _ = stdout.take(MAX_ANSWER).read_to_string(&mut text);
        }
        let _ = said.send(text);
    });
    if let Some(mut stdin) = stdin {
        // A helper that does not listen says so by its answer.
        let _ = stdin.write_all(line.as_bytes());
    }
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < patience => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                let _ = child.kill().and_then(|()| child.wait());
                return Err(format!("it took longer than {} seconds", patience.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    };
    let text = heard.recv_timeout(Duration::from_secs(2)).map_err(|_| "it leaves its output open".to_owned())?;
    Ok((status.success(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Child {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.spawn().expect("sh")
    }

    #[test]
    fn a_helper_is_told_and_heard_and_does_not_take_for_ever() {
        let patience = Duration::from_secs(20);
        assert_eq!(converse(sh("cat"), "reg.example", patience), Ok((true, "reg.example".into())));
        assert_eq!(converse(sh("echo no; exit 1"), "x", patience), Ok((false, "no\n".into())));
        let start = Instant::now();
        let error = converse(sh("exec sleep 20"), "x", Duration::from_millis(100)).expect_err("too long");
        assert!(error.contains("took longer"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_name_that_is_a_path_is_refused() {
        let error = get("../../bin/sh", "x").expect_err("a path").to_string();
        assert!(error.contains("no name of a helper"), "{error}");
        let error = get("no-such-helper-here", "reg.example").expect_err("no program").to_string();
        assert!(error.contains("docker-credential-no-such-helper-here failed for reg.example"), "{error}");
    }
}
