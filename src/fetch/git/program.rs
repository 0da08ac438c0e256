//! One call of the program git: its arguments, its environment, and what it may take.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Trust;
use crate::address::{GitAddress, Scheme};
use crate::fetch::{FetchError, Fetcher};
use crate::net::{NetError, Plain, Request, Security};

/// How long git may be silent while it talks to somebody.
const SILENCE: Duration = Duration::from_secs(120);

/// What git may write to its standard output, in bytes.
const MOST_OUTPUT: u64 = 256 << 20;

/// Configuration for every call. A value that came from outside is never in it.
const CONFIG: [&str; 20] = [
    "advice.detachedHead=false",
    "core.attributesFile=/dev/null",
    "core.autocrlf=false",
    "core.excludesFile=/dev/null",
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.symlinks=true",
    "credential.helper=",
    "fetch.recurseSubmodules=false",
    // What comes is kept as one pack, which has a name when all of it is there and on the disk.
    "fetch.unpackLimit=1",
    "gc.auto=0",
    "init.defaultBranch=main",
    "maintenance.auto=false",
    "pack.threads=1",
    "protocol.version=2",
    "safe.bareRepository=all",
    "safe.directory=*",
    "submodule.recurse=false",
];

/// What git is given of the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitEnvironment {
    /// Where programs are (PATH).
    pub path: Option<OsString>,
    /// Proxies, by the names that curl knows: `https_proxy`, `no_proxy`, …
    pub proxies: Vec<(String, OsString)>,
    /// A file of certificates to trust instead of those of the system.
    pub ca_file: Option<PathBuf>,
    /// The keys of hosts that ssh knows: a file.
    pub known_hosts: Option<PathBuf>,
    /// The socket of the user's agent, for what the user asks for on the command line.
    pub user_agent: Option<PathBuf>,
    /// The socket of the agent that was given to the build, for what the Dockerfile asks for.
    pub build_agent: Option<PathBuf>,
    /// Files of private keys that were given to the build in place of an agent.
    pub build_keys: Vec<PathBuf>,
}

/// One call.
#[derive(Debug, Default)]
pub(super) struct Call<'a> {
    /// What it is for: "fetch", "list the branches of".
    pub what: &'static str,
    /// The repository: its folder on disk.
    pub repository: Option<&'a Path>,
    /// The folder for the files, and a file for the index.
    pub work_tree: Option<(&'a Path, &'a Path)>,
    pub args: Vec<OsString>,
    /// For a call that talks to somebody: whose URL it is, and with whose credentials.
    pub remote: Option<Remote<'a>>,
    /// Whether a repository on this disk is read by its URL.
    pub from_disk: bool,
    /// What it reads.
    pub stdin: Option<&'a File>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Remote<'a> {
    pub address: &'a GitAddress,
    /// The host that the user or the Dockerfile named; submodules may be elsewhere.
    pub primary: &'a str,
    pub trust: Trust,
}

impl<'a> Call<'a> {
    pub fn new(what: &'static str, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Call { what, args: args.into_iter().map(Into::into).collect(), ..Call::default() }
    }

    pub fn within(self, repository: &'a Path) -> Self {
        Call { repository: Some(repository), ..self }
    }
}

/// Makes the call and returns what git wrote to its standard output. `url` is the repository, for errors.
pub(super) fn git(fetcher: &Fetcher, call: &Call<'_>, url: &str) -> Result<Vec<u8>, FetchError> {
    if let Some(remote) = &call.remote {
        fetcher.may_ask(|| remote.address.to_string())?;
    }
    let retry = fetcher.agent.options().retry.clone();
    let (mut failures, mut waited) = (0, Duration::ZERO);
    loop {
        let error = match once(fetcher, call, url).or_else(|error| elsewhere(fetcher, call, url, error)) {
            Ok(output) => return Ok(output),
            Err(error) => error,
        };
        failures += 1;
        let again = call.remote.is_some() && matches!(&error, FetchError::Git { message, .. } if passing(message));
        let Some(wait) = retry.wait(failures, None, waited).filter(|_| again) else { return Err(error) };
        fetcher.agent.wait(wait)?;
        waited += wait;
    }
}

/// Makes a call again that failed with `error`, if that is because of a redirect: git would take a credential along to wherever it leads,
/// so it follows none with one. The redirect is followed here instead, and git is called with the place and with what is for that.
fn elsewhere(fetcher: &Fetcher, call: &Call<'_>, url: &str, error: FetchError) -> Result<Vec<u8>, FetchError> {
    const REDIRECTS: [&str; 5] = ["error: 301", "error: 302", "error: 303", "error: 307", "error: 308"];
    let message = match &error {
        FetchError::Git { message, .. } => message,
        _ => return Err(error),
    };
    let Some(remote) = call.remote.filter(|_| REDIRECTS.iter().any(|sign| message.ends_with(sign))) else {
        return Err(error);
    };
    let Some(value) = fetcher.options.credentials.for_git(remote.address, remote.primary) else { return Err(error) };
    let Some(address) = follow(fetcher, remote.address, value)? else { return Err(error) };
    let renamed = |arg: &OsString| if *arg == *remote.address.url { address.url.clone().into() } else { arg.clone() };
    let args = call.args.iter().map(renamed).collect();
    let Call { what, repository, work_tree, from_disk, stdin, .. } = *call;
    let remote = Some(Remote { address: &address, ..remote });
    once(fetcher, &Call { what, repository, work_tree, args, remote, from_disk, stdin }, url)
}

/// Returns where redirects of the repository at `address` lead, with the password in its URL only if it is on the same host still.
fn follow(fetcher: &Fetcher, address: &GitAddress, value: String) -> Result<Option<GitAddress>, FetchError> {
    const ASKED: &str = "/info/refs?service=git-upload-pack";
    let plain = if address.scheme == Scheme::Http { Plain::Allowed } else { Plain::Refused };
    let request = Request::get(&format!("{}{ASKED}", address.url.trim_end_matches('/')))?;
    let from = request.url().origin();
    let request = request.header("Authorization", value);
    let response = fetcher.agent.send(request.security(Arc::new(Security { plain, ..Security::default() })))?;
    let Some(url) = response.url().as_str().strip_suffix(ASKED) else { return Ok(None) };
    let Ok(to) = GitAddress::parse(url) else { return Ok(None) };
    let credentials = address.credentials.clone().filter(|_| response.url().origin() == from);
    Ok(Some(GitAddress { url: to.url, scheme: to.scheme, host: to.host, credentials, ..address.clone() }))
}

/// Returns whether what git said is about something that may be over a little later.
fn passing(message: &str) -> bool {
    const SIGNS: [&str; 12] = [
        "Could not resolve host",
        "Temporary failure in name resolution",
        "Connection reset",
        "Connection refused",
        "Connection timed out",
        "timed out",
        "early EOF",
        "hung up unexpectedly",
        "returned error: 429",
        "returned error: 500",
        "returned error: 502",
        "returned error: 503",
    ];
    SIGNS.iter().any(|sign| message.contains(sign))
}

fn once(fetcher: &Fetcher, call: &Call<'_>, url: &str) -> Result<Vec<u8>, FetchError> {
    let tmp = &fetcher.options.tmp;
    let scratch = || {
        let file = tempfile::tempfile_in(tmp);
        file.map_err(|source| FetchError::Io { call: "create a file in", path: tmp.clone(), source })
    };
    let (mut stdout, mut stderr) = (scratch()?, scratch()?);
    let shared = |file: &File| {
        let file = file.try_clone();
        file.map(Stdio::from).map_err(|source| FetchError::Io { call: "duplicate", path: tmp.clone(), source })
    };
    let mut command = command(fetcher, call);
    let stdin = call.stdin.map_or(Ok(Stdio::null()), shared)?;
    command.stdin(stdin).stdout(shared(&stdout)?).stderr(shared(&stderr)?);
    // Else it would go on with what the next process takes for its own.
    coracle_runtime::ends_with_us(&mut command);
    let mut child = command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => FetchError::NoGit { url: url.to_owned() },
        _ => FetchError::Io { call: "start", path: "git".into(), source },
    })?;
    let mut heard = (0, Instant::now());
    let mut pause = Duration::from_millis(1);
    let status = loop {
        let ended = child.try_wait();
        match ended.map_err(|source| FetchError::Io { call: "wait for", path: "git".into(), source })? {
            Some(status) => break status,
            None => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
        let length = |file: &File| file.metadata().map_or(0, |meta| meta.len());
        let said = length(&stdout) + length(&stderr);
        if said != heard.0 {
            heard = (said, Instant::now());
        }
        let error = if fetcher.agent.options().cancel.is_set() {
            NetError::Cancelled.into()
        } else if call.remote.is_some() && heard.1.elapsed() > SILENCE {
            FetchError::GitSilent { what: call.what, url: url.to_owned(), seconds: SILENCE.as_secs() }
        } else if said > MOST_OUTPUT {
            FetchError::Git { what: call.what, url: url.to_owned(), message: "it says too much".into() }
        } else {
            continue;
        };
        end(&mut child);
        return Err(error);
    };
    let read = |file: &mut File| {
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.take(MOST_OUTPUT).read_to_end(&mut bytes)).map(|_| bytes)
    };
    let lost = |source| FetchError::Io { call: "read what was said by", path: "git".into(), source };
    if status.success() {
        return read(&mut stdout).map_err(lost);
    }
    let said = read(&mut stderr).map_err(lost)?;
    Err(FetchError::Git { what: call.what, url: url.to_owned(), message: last_words(&said, &status.to_string()) })
}

/// Ends git: it ends its helpers when it is asked to end.
fn end(child: &mut std::process::Child) {
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
    for _ in 0..100 {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Returns the lines that tell what went wrong, in one line.
fn last_words(said: &[u8], status: &str) -> String {
    let said = String::from_utf8_lossy(said);
    let lines: Vec<&str> = said.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect();
    let telling = |line: &&&str| line.starts_with("fatal:") || line.starts_with("error:") || line.starts_with("ERROR:");
    let mut words: Vec<&str> = lines.iter().filter(telling).take(3).copied().collect();
    // That says nothing: ssh has said why before.
    let is_vague = |line: &&str| line.ends_with("Could not read from remote repository.");
    if words.iter().any(is_vague) {
        let why = lines.iter().take_while(|line| !is_vague(line)).filter(|line| !line.starts_with("Warning:"));
        words = why.last().map_or(words, |line| vec![*line]);
    }
    if words.is_empty() {
        words = lines.iter().rev().take(2).rev().copied().collect();
    }
    let said = |line: &str| line.split_once(": ").map_or(line, |(_, rest)| rest).to_owned();
    let text = words.iter().map(|line| said(line)).collect::<Vec<_>>().join("; ");
    if text.is_empty() { status.to_owned() } else { text.chars().take(600).collect() }
}

fn command(fetcher: &Fetcher, call: &Call<'_>) -> Command {
    let environment = &fetcher.options.git;
    let mut command = Command::new("git");
    // The program is looked for where the caller's PATH says.
    command.env_clear();
    let path = environment.path.clone().unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    command.env("PATH", path);
    for (name, value) in [
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_LFS_SKIP_SMUDGE", "1"),
        ("GIT_LITERAL_PATHSPECS", "1"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        // curl gives up on a peer that sends next to nothing for so long.
        ("GIT_HTTP_LOW_SPEED_LIMIT", "100"),
        ("GIT_HTTP_LOW_SPEED_TIME", "60"),
        ("HOME", "/dev/null"),
        ("LC_ALL", "C"),
        // Whatever a repository says: of an `ext::` or `file://` URL in it nothing is run and nothing read, and what is asked for by https
        // does not come by http.
        ("GIT_ALLOW_PROTOCOL", protocols(call)),
    ] {
        command.env(name, value);
    }
    for (name, value) in &environment.proxies {
        command.env(name, value);
    }
    if let Some(file) = &environment.ca_file {
        command.env("GIT_SSL_CAINFO", file);
    }
    if let Some(remote) = &call.remote {
        ssh(&mut command, environment, remote);
        // Not an argument, which all users of the machine can read.
        if let Some(value) = fetcher.options.credentials.for_git(remote.address, remote.primary) {
            let scheme = if remote.address.scheme == Scheme::Http { "http" } else { "https" };
            command.env("GIT_CONFIG_COUNT", "2");
            command.env("GIT_CONFIG_KEY_0", format!("http.{scheme}://{}/.extraHeader", remote.address.host));
            command.env("GIT_CONFIG_VALUE_0", format!("Authorization: {value}"));
            // git would go on with this header at the host that a redirect leads to.
            command.env("GIT_CONFIG_KEY_1", "http.followRedirects").env("GIT_CONFIG_VALUE_1", "false");
        }
    }
    for setting in CONFIG {
        command.arg("-c").arg(setting);
    }
    if let Some(repository) = call.repository {
        command.arg(option("--git-dir=", repository.as_os_str()));
    }
    if let Some((tree, index)) = call.work_tree {
        command.arg("-c").arg("core.bare=false").arg(option("--work-tree=", tree.as_os_str()));
        command.env("GIT_INDEX_FILE", index).current_dir(tree);
    }
    command.args(&call.args);
    command
}

fn protocols(call: &Call<'_>) -> &'static str {
    match call.remote.map(|remote| remote.address.scheme) {
        None if call.from_disk => "file",
        None => "",
        Some(Scheme::Https) => "https",
        Some(Scheme::Http) => "http:https",
        Some(Scheme::Ssh) => "ssh",
        Some(Scheme::Git) => "git",
    }
}

fn option(name: &str, value: &OsStr) -> OsString {
    let mut option = OsString::from(name);
    option.push(value);
    option
}

/// Says how ssh is called: it reads no configuration, asks nothing, and has the keys and the agent of the user only where it was
/// the user who named the host.
fn ssh(command: &mut Command, environment: &GitEnvironment, remote: &Remote<'_>) {
    let mut line = String::from(
        "ssh -F /dev/null -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=4",
    );
    if let Some(file) = environment.known_hosts.as_deref().and_then(Path::to_str).filter(|file| is_plain(file)) {
        line.push_str(&format!(" -o 'UserKnownHostsFile=\"{file}\"'"));
    }
    let agent = match remote.trust {
        Trust::CommandLine => environment.user_agent.as_ref().or(environment.build_agent.as_ref()),
        Trust::Dockerfile => {
            if environment.build_keys.is_empty() {
                line.push_str(" -o IdentityFile=none");
            }
            environment.build_agent.as_ref()
        }
    };
    for file in environment.build_keys.iter().filter_map(|path| path.to_str()).filter(|file| is_plain(file)) {
        line.push_str(&format!(" -o 'IdentityFile=\"{file}\"'"));
    }
    match agent {
        Some(socket) => drop(command.env("SSH_AUTH_SOCK", socket)),
        None => line.push_str(" -o IdentityAgent=none"),
    }
    command.env("GIT_SSH_COMMAND", line).env("GIT_SSH_VARIANT", "ssh");
}

/// Returns whether a path can stand between quotes in a line of a shell and of ssh.
fn is_plain(path: &str) -> bool {
    !path.chars().any(|c| c.is_control() || matches!(c, '\'' | '"' | '\\' | '%' | '$'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_says_is_told_in_place_of_what_git_makes_of_it() {
        let words = |text: &str| last_words(text.as_bytes(), "exit status: 128");
        let vague =
            "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\n";
        assert_eq!(words(&format!("Host key verification failed.\r\n{vague}")), "Host key verification failed.");
        let denied = "Warning: Permanently added 'h'.\r\nroot@h: Permission denied (publickey).\r\n";
        assert_eq!(words(&format!("{denied}{vague}")), "Permission denied (publickey).");
        let refused = "ssh: connect to host h port 1: Connection refused\r\n";
        assert_eq!(words(&format!("{refused}{vague}")), "connect to host h port 1: Connection refused");
        assert_eq!(words(vague), "Could not read from remote repository.");
        assert_eq!(words("fatal: one\nerror: two\n"), "one; two");
        assert_eq!(words(""), "exit status: 128");
    }
}
