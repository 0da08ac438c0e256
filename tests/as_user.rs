//! `scripts/as-user`, on which all tests stand: an ordinary user, made for one command.

mod support;

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::{User, processes_with, root};

fn as_user(args: &[&str]) -> Command {
    let mut command = Command::new(root().join("scripts/as-user"));
    command.args(args).stdin(Stdio::null());
    command
}

fn said(args: &[&str]) -> String {
    let output = as_user(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

#[test]
fn the_user_is_not_root_and_has_subordinate_ids() {
    assert_ne!(said(&["id", "-u"]), "0");
    assert!(said(&["unshare", "--map-auto", "--map-root-user", "cat", "/proc/self/uid_map"]).contains("65535"));
}

#[test]
fn the_exit_status_passes_through() {
    assert_eq!(as_user(&["sh", "-c", "exit 7"]).status().unwrap().code(), Some(7));
    assert_eq!(as_user(&["no-such-program"]).status().unwrap().code(), Some(127));
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(as_user(&["sh", "-c", "kill -KILL $$"]).status().unwrap().signal(), Some(9));
}

#[test]
fn signals_pass_through() {
    let mut child = as_user(&["sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

#[test]
fn what_the_command_leaves_running_ends_with_it() {
    if rustix::process::getuid().is_root() {
        let mark = format!("5{}", std::process::id());
        as_user(&["sh", "-c", &format!("setsid sleep {mark} & exit 0")]).status().unwrap();
        assert!(processes_with(&format!("sleep {mark}")).is_empty());
    }
}

#[test]
fn the_home_is_new_and_goes_away_or_is_kept() {
    let home = said(&["sh", "-c", "touch $HOME/file && echo $HOME"]);
    if rustix::process::getuid().is_root() {
        assert!(!fs::exists(home).unwrap());
    }
    let user = User::new();
    let home = user.home().to_str().unwrap();
    assert_eq!(said(&["--home", home, "sh", "-c", "touch $HOME/file && echo $HOME"]), home);
    assert!(user.home().join("file").exists());
}

#[test]
fn the_accounts_of_the_machine_are_not_touched() {
    if rustix::process::getuid().is_root() {
        let before = fs::read("/etc/passwd").unwrap();
        assert!(said(&["cat", "/etc/passwd"]).contains("dev:x:30000:"));
        assert_eq!(fs::read("/etc/passwd").unwrap(), before);
        assert_eq!(said(&["--no-subids", "sh", "-c", "grep -c ^dev: /etc/subuid || true"]), "0");
    }
}
