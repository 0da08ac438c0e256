//! What a program makes of the process that executes it: execve, execveat. The program itself is started by the kernel,
//! which knows no setuid bits here (no_new_privs).

use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::access::Want;
use super::call::{Answer, At, Call, Reply};
use super::credentials::{Credentials, FileCaps, Program};
use super::resolve::{Handle, Last};
use crate::error::Errno;

/// Interpreters that are scripts themselves, as in the kernel.
const MOST_INTERPRETERS: usize = 4;
/// Bytes of a script that the kernel looks at.
const HEAD: usize = 256;
const CAPABILITY: &str = "security.capability";

pub(super) fn execve(call: &Call<'_>) -> Reply {
    execute(call, &call.at_cwd(0)?, Last::Follow)
}

pub(super) fn execveat(call: &Call<'_>) -> Reply {
    let flags = call.int(4);
    let at = call.at_or_self(1, flags)?;
    execute(call, &at, Last::unless(flags & libc::AT_SYMLINK_NOFOLLOW != 0))
}

fn execute(call: &Call<'_>, at: &At, last: Last) -> Reply {
    let user = call.user()?;
    let file = call.find(&user, at, last)?;
    if file.kind() != FileType::RegularFile {
        return Ok(Answer::Continue);
    }
    call.check(&user, &file, Want::EXECUTE)?;
    if call.is_elsewhere(&file) {
        call.make_way(at, &file)?;
    }
    let mut new = (*user).clone();
    new.execute(program(call, &user, &file, MOST_INTERPRETERS)?)?;
    // What can fail now is the kernel's: too many arguments, no memory, no program. Then a process that is told so is
    // already who the program would have been.
    if new != *user {
        call.become_user(new)?;
    }
    Ok(Answer::Continue)
}

/// Returns what counts of `file`; of a script, of its interpreter.
fn program(call: &Call<'_>, user: &Credentials, file: &Handle, depth: usize) -> Result<Program, Errno> {
    if depth > 0
        && let Some(path) = interpreter(file)
    {
        let at = At::cwd(path);
        // The kernel will say what is wrong with it.
        let Ok(file) = call.find(user, &at, Last::Follow) else { return Ok(Program::default()) };
        if file.kind() == FileType::RegularFile {
            call.check(user, &file, Want::EXECUTE)?;
        }
        return program(call, user, &file, depth - 1);
    }
    let mode = file.stat().st_mode;
    let mut text = [0; 64];
    let length = rustix::fs::getxattr(file.name(), CAPABILITY, &mut text[..]);
    let caps = length.ok().and_then(|length| FileCaps::parse(&text[..length]));
    let is_setuid = mode & libc::S_ISUID != 0;
    let is_setgid = mode & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID | libc::S_IXGRP;
    if caps.is_none() && !is_setuid && !is_setgid || is_nosuid(file) {
        return Ok(Program::default());
    }
    let owner = call.emulator.owners.of(file);
    Ok(Program { setuid: is_setuid.then_some(owner.uid), setgid: is_setgid.then_some(owner.gid), caps })
}

fn is_nosuid(file: &Handle) -> bool {
    rustix::fs::fstatvfs(file.fd()).is_ok_and(|fs| fs.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID))
}

/// Returns the path behind `#!`.
fn interpreter(file: &Handle) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(CWD, file.name(), flags, Mode::empty()).ok()?;
    let mut head = [0; HEAD];
    let length = rustix::io::pread(&opened, &mut head, 0).ok()?;
    interpreter_in(&head[..length]).map(<[u8]>::to_vec)
}

fn interpreter_in(head: &[u8]) -> Option<&[u8]> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let path = line.iter().position(|byte| !is_space(byte)).map(|start| &line[start..])?;
    let end = path.iter().position(|byte| is_space(byte) || *byte == 0).unwrap_or(path.len());
    (end > 0).then_some(&path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_is_what_the_kernel_takes_for_it() {
        let cases: [(&[u8], Option<&[u8]>); 7] = [
            (b"#!/bin/sh\necho", Some(b"/bin/sh")),
            (b"#! \t/usr/bin/env  perl -w\n", Some(b"/usr/bin/env")),
            (b"#!x", Some(b"x")),
            (b"#!\n/bin/sh", None),
            (b"#!   \n", None),
            (b"\x7fELF", None),
            (b"", None),
        ];
        for (head, path) in cases {
            assert_eq!(interpreter_in(head), path);
        }
    }
}
