//! Changes of owners: chown, lchown, fchown, fchownat.

use rustix::fs::{AtFlags, Gid, Uid};
use rustix::io::Errno as E;

use super::call::{Answer, At, Call, Reply};
use super::credentials::{Cap, Credentials, KEEP};
use super::resolve::Last;
use crate::owner::FileOwner;

#[cfg(target_arch = "x86_64")]
pub(super) fn chown(call: &Call<'_>) -> Reply {
    change(call, &call.at_cwd(0)?, Last::Follow, call.word(1), call.word(2))
}

#[cfg(target_arch = "x86_64")]
pub(super) fn lchown(call: &Call<'_>) -> Reply {
    change(call, &call.at_cwd(0)?, Last::Keep, call.word(1), call.word(2))
}

pub(super) fn fchown(call: &Call<'_>) -> Reply {
    if call.int(0) < 0 {
        return Err(E::BADF.into());
    }
    change(call, &At::fd(call.int(0)), Last::Follow, call.word(1), call.word(2))
}

pub(super) fn fchownat(call: &Call<'_>) -> Reply {
    let flags = call.int(4);
    if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return Err(E::INVAL.into());
    }
    let at = call.at_or_self(1, flags)?;
    change(call, &at, Last::unless(flags & libc::AT_SYMLINK_NOFOLLOW != 0), call.word(2), call.word(3))
}

fn change(call: &Call<'_>, at: &At, last: Last, uid: u32, gid: u32) -> Reply {
    let owners = &call.emulator.owners;
    let user = call.user()?;
    let file = call.find(&user, at, last)?;
    let _others_wait = owners.change();
    let old = owners.of(&file);
    if !permits(&user, old, uid, gid) || call.is_machines(&file) {
        return Err(E::PERM.into());
    }
    let file = call.apart(file)?;
    call.still_waits()?;
    // The copy-up, the time of change, and what happens to setuid bits and capabilities: all that is the kernel's.
    let root = (uid != KEEP).then_some(Uid::ROOT);
    let group = (gid != KEEP).then_some(Gid::ROOT);
    rustix::fs::chownat(file.fd(), "", root, group, AtFlags::EMPTY_PATH)?;
    let new = |asked: u32, old: u32| if asked == KEEP { old } else { asked };
    // A copy-up may have given it another inode.
    owners.set(&file.again()?, FileOwner { uid: new(uid, old.uid), gid: new(gid, old.gid), device: old.device })?;
    Ok(Answer::Value(0))
}

/// As chown(2) has it: root changes all, the owner may choose among its groups.
fn permits(user: &Credentials, old: FileOwner, uid: u32, gid: u32) -> bool {
    let owns = user.uid.fs == old.uid;
    let uid_stays = uid == KEEP || (owns && uid == old.uid);
    let gid_is_ours = gid == KEEP || (owns && (gid == old.gid || user.in_group(gid)));
    user.may(Cap::CHOWN) || (uid_stays && gid_is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_may_give_a_file_to_its_groups_and_nobody_else_anything() {
        let user = Credentials::new(1000, 50, &[7], 0);
        let (ours, theirs) = (FileOwner::new(1000, 60), FileOwner::new(0, 50));
        for (old, uid, gid, expected) in [
            (ours, KEEP, 7, true),
            (ours, 1000, 50, true),
            (ours, KEEP, 60, true),
            (ours, KEEP, 8, false),
            (ours, 0, KEEP, false),
            (theirs, KEEP, 7, false),
            (theirs, 0, KEEP, false),
            (theirs, KEEP, KEEP, true),
        ] {
            assert_eq!(permits(&user, old, uid, gid), expected, "{old:?} {uid} {gid}");
        }
        let root = Credentials::new(0, 0, &[], Cap::CHOWN.bit());
        assert!(permits(&root, ours, 5, 6));
    }
}
