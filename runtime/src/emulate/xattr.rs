//! Extended attributes: those that the emulator keeps for itself are neither seen nor set, and those of others need what
//! they need of real users.

use rustix::io::Errno as E;

use super::access::Want;
use super::call::{Answer, At, Call, Reply};
use super::credentials::Cap;
use super::resolve::Last;
use crate::error::Errno;

/// What every name of ours starts with.
const OURS: &[u8] = b"user.coracle.";
/// Bytes of a name with its NUL, and of a list of names, at the most.
const LONGEST_NAME: usize = 256;
const LONGEST_LIST: usize = 64 << 10;

/// Returns the name in argument `n`.
fn name(call: &Call<'_>, n: usize) -> Result<Vec<u8>, Errno> {
    call.string(call.long(n), LONGEST_NAME, E::RANGE)
}

fn fd(call: &Call<'_>) -> At {
    At::fd(call.int(0))
}

/// How the calls since Linux 6.13 name a file.
fn at(call: &Call<'_>) -> Result<(At, Last), Errno> {
    let flags = call.int(2);
    Ok((call.at_or_self(1, flags)?, Last::unless(flags & libc::AT_SYMLINK_NOFOLLOW != 0)))
}

pub(super) fn getxattr(call: &Call<'_>) -> Reply {
    get(call, 1, || Ok((call.at_cwd(0)?, Last::Follow)))
}

pub(super) fn lgetxattr(call: &Call<'_>) -> Reply {
    get(call, 1, || Ok((call.at_cwd(0)?, Last::Keep)))
}

pub(super) fn fgetxattr(call: &Call<'_>) -> Reply {
    get(call, 1, || Ok((fd(call), Last::Follow)))
}

pub(super) fn getxattrat(call: &Call<'_>) -> Reply {
    get(call, 3, || at(call))
}

fn get(call: &Call<'_>, n: usize, file: impl FnOnce() -> Result<(At, Last), Errno>) -> Reply {
    let name = name(call, n)?;
    if name.starts_with(OURS) {
        return Err(E::NODATA.into());
    }
    let user = call.user()?;
    if !user.may(Cap::DAC_OVERRIDE) {
        let (at, last) = file()?;
        // An open file was checked when it was opened.
        if !at.path.is_empty() {
            let file = call.find(&user, &at, last)?;
            if name.starts_with(b"user.") {
                call.check(&user, &file, Want::READ)?;
            }
        }
    }
    Ok(Answer::Continue)
}

pub(super) fn setxattr(call: &Call<'_>) -> Reply {
    set_by_name(call, || Ok((call.at_cwd(0)?, Last::Follow)))
}

pub(super) fn lsetxattr(call: &Call<'_>) -> Reply {
    set_by_name(call, || Ok((call.at_cwd(0)?, Last::Keep)))
}

pub(super) fn fsetxattr(call: &Call<'_>) -> Reply {
    set_by_name(call, || Ok((fd(call), Last::Follow)))
}

/// What an attribute is set to: where that lies in the memory of the process, its length, and the flags of setxattr(2).
struct Value {
    address: u64,
    size: u64,
    flags: u32,
}

fn set_by_name(call: &Call<'_>, file: impl Fn() -> Result<(At, Last), Errno>) -> Reply {
    set(call, 1, file, || Ok(Value { address: call.long(2), size: call.long(3), flags: call.word(4) }))
}

/// Sets the attribute whose name is in argument `n`.
fn set(
    call: &Call<'_>,
    n: usize,
    file: impl Fn() -> Result<(At, Last), Errno>,
    value: impl FnOnce() -> Result<Value, Errno>,
) -> Reply {
    let answer = change(call, n, E::PERM, &file)?;
    let name = name(call, n)?;
    if !call.emulator.families.owners || !ACLS.contains(&&name[..]) {
        return Ok(answer);
    }
    let Value { address, size, flags } = value()?;
    if size > LONGEST_ACL {
        return Ok(answer);
    }
    let mut value = vec![0; size as usize];
    call.read(address, &mut value)?;
    let Some(value) = without_names(&value) else { return Ok(answer) };
    let (at, last) = file()?;
    let file = call.find(&*call.user()?, &at, last)?;
    call.still_waits()?;
    let flags = rustix::fs::XattrFlags::from_bits_retain(flags);
    rustix::fs::setxattr(file.name(), &name[..], &value, flags)?;
    Ok(Answer::Value(0))
}

/// The attributes that are access control lists: acl(5).
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
const LONGEST_ACL: u64 = 64 << 10;

/// Returns an access control list without those that it names, whom the kernel does not have; `None` where it names nobody but
/// root. What remains makes the same mode: the bits of the group are those of the mask.
fn without_names(list: &[u8]) -> Option<Vec<u8>> {
    const USER: u16 = 0x02;
    const GROUP: u16 = 0x08;
    const MASK: u16 = 0x10;
    let (version, entries) = list.split_first_chunk::<4>()?;
    let (entries, rest) = entries.as_chunks::<8>();
    let tag = |entry: &[u8; 8]| u16::from_le_bytes([entry[0], entry[1]]);
    let names = |entry: &&[u8; 8]| matches!(tag(entry), USER | GROUP) && entry[4..] != [0; 4];
    // One without a mask makes no sense, which is for the kernel to say.
    if !rest.is_empty() || !entries.iter().any(|entry| names(&entry)) || !entries.iter().any(|entry| tag(entry) == MASK)
    {
        return None;
    }
    let kept = entries.iter().filter(|entry| !names(entry)).flatten();
    Some(version.iter().chain(kept).copied().collect())
}

pub(super) fn setxattrat(call: &Call<'_>) -> Reply {
    let value = || {
        // A `struct xattr_args`; a shorter one the kernel refuses, and a longer one has nothing more that it knows.
        let mut bytes = [0; 16];
        call.read(call.long(4), &mut bytes)?;
        let (words, _) = bytes.as_chunks::<4>();
        let [low, high, size, flags] = [0, 1, 2, 3].map(|at| u32::from_ne_bytes(words[at]));
        Ok(Value { address: u64::from(high) << 32 | u64::from(low), size: size.into(), flags })
    };
    set(call, 3, || at(call), value)
}

pub(super) fn removexattr(call: &Call<'_>) -> Reply {
    change(call, 1, E::NODATA, || Ok((call.at_cwd(0)?, Last::Follow)))
}

pub(super) fn lremovexattr(call: &Call<'_>) -> Reply {
    change(call, 1, E::NODATA, || Ok((call.at_cwd(0)?, Last::Keep)))
}

pub(super) fn fremovexattr(call: &Call<'_>) -> Reply {
    change(call, 1, E::NODATA, || Ok((fd(call), Last::Follow)))
}

pub(super) fn removexattrat(call: &Call<'_>) -> Reply {
    change(call, 3, E::NODATA, || at(call))
}

/// Lets the kernel set or remove an attribute, the name of which is in argument `n`, if the process may; of one of ours it is told `ours`.
fn change(call: &Call<'_>, n: usize, ours: E, file: impl FnOnce() -> Result<(At, Last), Errno>) -> Reply {
    let name = name(call, n)?;
    if name.starts_with(OURS) {
        return Err(ours.into());
    }
    if !call.emulator.families.owners {
        return Ok(Answer::Continue);
    }
    check_change(call, &name, file)
}

/// Checks that the process may change the attribute: xattr(7). The kernel does so for root.
fn check_change(call: &Call<'_>, name: &[u8], file: impl FnOnce() -> Result<(At, Last), Errno>) -> Reply {
    let user = call.user()?;
    if name == b"security.capability" {
        if !user.may(Cap::SETFCAP) {
            return Err(E::PERM.into());
        }
    } else if name.starts_with(b"security.") || name.starts_with(b"trusted.") {
        if !user.may(Cap::SYS_ADMIN) {
            return Err(E::PERM.into());
        }
    } else if !user.may_change_all() {
        let (at, last) = file()?;
        let file = call.find(&user, &at, last)?;
        let is_of_user = name.starts_with(b"user.");
        let is_sticky = file.is_dir() && file.stat().st_mode & libc::S_ISVTX != 0;
        if !is_of_user || is_sticky {
            call.check_owner(&user, &file).map(drop)?;
        }
        if is_of_user {
            call.check(&user, &file, Want::WRITE)?;
        }
    }
    Ok(Answer::Continue)
}

pub(super) fn listxattr(call: &Call<'_>) -> Reply {
    list(call, &call.at_cwd(0)?, Last::Follow, [1, 2])
}

pub(super) fn llistxattr(call: &Call<'_>) -> Reply {
    list(call, &call.at_cwd(0)?, Last::Keep, [1, 2])
}

pub(super) fn flistxattr(call: &Call<'_>) -> Reply {
    list(call, &fd(call), Last::Follow, [1, 2])
}

pub(super) fn listxattrat(call: &Call<'_>) -> Reply {
    let (at, last) = at(call)?;
    list(call, &at, last, [3, 4])
}

fn list(call: &Call<'_>, at: &At, last: Last, [buffer, size]: [usize; 2]) -> Reply {
    let user = call.user()?;
    let file = call.find(&user, at, last)?;
    let mut names = vec![0; LONGEST_LIST];
    let length = rustix::fs::listxattr(file.name(), &mut names[..])?;
    let shown = without_ours(&names[..length]);
    if shown.len() == length {
        return Ok(Answer::Continue);
    }
    match call.long(size) {
        0 => {}
        size if size < shown.len() as u64 => return Err(E::RANGE.into()),
        _ => call.write(call.long(buffer), &shown)?,
    }
    Ok(Answer::Value(shown.len() as i64))
}

/// Returns a list of names, each with its NUL, without ours.
fn without_ours(names: &[u8]) -> Vec<u8> {
    names.split_inclusive(|byte| *byte == 0).filter(|name| !name.starts_with(OURS)).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_access_control_list_stays_whom_the_kernel_knows() {
        let list = |entries: &[(u16, u16, u32)]| {
            let bytes = |&(tag, bits, id): &(u16, u16, u32)| {
                [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()
            };
            [vec![2, 0, 0, 0], entries.iter().flat_map(bytes).collect()].concat()
        };
        const NOBODY: u32 = u32::MAX;
        let (user, group, mask, other) = ((1, 6, NOBODY), (4, 4, NOBODY), (0x10, 7, NOBODY), (0x20, 4, NOBODY));
        let named = list(&[user, (2, 7, 1000), group, (8, 6, 50), mask, other]);
        assert_eq!(without_names(&named), Some(list(&[user, group, mask, other])));
        assert_eq!(without_names(&list(&[user, (2, 7, 0), group, mask, other])), None);
        assert_eq!(without_names(&list(&[user, group, other])), None);
        assert_eq!(without_names(&list(&[user, (2, 7, 1000), group, other])), None, "no mask");
        assert_eq!(without_names(&named[..named.len() - 1]), None);
        assert_eq!(without_names(b"abc"), None);
    }

    #[test]
    fn a_list_of_names_is_shown_without_ours() {
        assert_eq!(without_ours(b"user.a\0user.coracle.file\0security.capability\0"), b"user.a\0security.capability\0");
        assert_eq!(without_ours(b"user.coracle.file\0"), b"");
        assert_eq!(without_ours(b"user.coracle\0"), b"user.coracle\0");
        assert_eq!(without_ours(b""), b"");
    }
}
