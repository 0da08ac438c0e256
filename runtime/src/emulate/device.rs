//! Devices. No user namespace may make them: in their place stands an empty file that says which device it is.

use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno as E;

use super::call::{Answer, At, Call, Reply};
use super::create::{Kind, Place, new_owner, place};
use super::credentials::Cap;
use super::resolve::Handle;
use crate::error::Errno;
use crate::oci::DEVICES;
use crate::owner::{Device, FileOwner};

/// What the file itself may be opened with, where owners are emulated: by nobody but root, which opens the device in its stead.
const PRIVATE: Mode = Mode::from_bits_retain(0o600);

/// Makes the device `number`, as mknod(2) has it, at `at`.
pub(super) fn make(call: &Call<'_>, at: &At, mode: u32, number: u32) -> Reply {
    let user = call.user()?;
    let (major, minor) = ((number & 0xf_ff00) >> 8, number & 0xff | (number >> 12) & 0xf_ff00);
    let is_whiteout = mode & libc::S_IFMT == libc::S_IFCHR && (major, minor) == (0, 0);
    let Some(Place { dir, name }) = place(call, &user, at, Kind::File)? else { return Ok(Answer::Continue) };
    // Character device 0:0 is the sign of overlayfs for a removed file: it refuses to make one.
    if is_whiteout || !user.may(Cap::MKNOD) {
        return Err(E::PERM.into());
    }
    if !call.emulator.families.owners && call.emulator.end() {
        return Ok(Answer::Told);
    }
    let mode = mode & (libc::S_IFMT | 0o7777) & !call.umask().bits();
    let owner = FileOwner { device: Some(Device { mode, major, minor }), ..new_owner(call, &user, &dir) };
    call.still_waits()?;
    // Before anybody can open it.
    call.emulator.may_have_devices.store(true, Ordering::Release);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir.fd(), &*name, flags, PRIVATE)?;
    if !call.emulator.families.owners {
        // Owner and permissions are those of the file then: nobody sees how they change.
        rustix::fs::fchmod(&fd, Mode::from_bits_retain(mode & 0o7777))?;
    }
    let file = Handle::adopt(fd)?;
    if let Err(errno) = call.emulator.owners.set(&file, owner) {
        let _ = rustix::fs::unlinkat(dir.fd(), &*name, AtFlags::empty());
        // A file system without attributes.
        return Err(if errno.is(E::OPNOTSUPP) { E::PERM.into() } else { errno });
    }
    Ok(Answer::Value(0))
}

/// Opens a device with the flags of open(2): the real one where the container has it, else there is none.
pub(super) fn open(call: &Call<'_>, device: Device, flags: i32) -> Reply {
    if flags & (libc::O_PATH | libc::O_DIRECTORY) != 0 {
        return Ok(Answer::Continue);
    }
    // "The terminal" is that of who opens it: the one of this process is the user's. A step has none.
    let known =
        DEVICES.iter().find(|(name, major, minor)| *name != "tty" && (*major, *minor) == (device.major, device.minor));
    let Some((name, major, minor)) = known.filter(|_| !device.is_block()) else { return Err(E::NXIO.into()) };
    let file = match &call.emulator.outside {
        Some(outside) => outside.device((*major, *minor))?,
        None => find(name, *major, *minor).ok_or(E::NXIO)?,
    };
    let flags = OFlags::from_bits_retain(flags.cast_unsigned()) & !(OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW);
    let opened = rustix::fs::openat(CWD, file.name(), flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?;
    call.give(&opened, flags.bits().cast_signed())
}

/// Returns what is at /dev/`name`, if it is that device: a step may have put anything there.
fn find(name: &str, major: u32, minor: u32) -> Option<Handle> {
    let fd = rustix::fs::open(
        Path::new("/dev").join(name),
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    let file = Handle::adopt(fd).ok()?;
    let is_it = file.kind() == FileType::CharacterDevice && file.stat().st_rdev == rustix::fs::makedev(major, minor);
    is_it.then_some(file)
}

/// Changes the mode of a device. The file on disk stays closed.
pub(super) fn chmod(call: &Call<'_>, file: &Handle, mode: u32) -> Result<Answer, Errno> {
    let _others_wait = call.emulator.owners.change();
    let owner = call.emulator.owners.of(file);
    let Some(device) = owner.device else { return Ok(Answer::Continue) };
    let mode = device.mode & libc::S_IFMT | mode & 0o7777;
    call.emulator.owners.set(file, FileOwner { device: Some(Device { mode, ..device }), ..owner })?;
    Ok(Answer::Value(0))
}
