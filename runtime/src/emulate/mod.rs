//! Users, owners and devices where the kernel has none to give: a supervisor that answers system calls of a step.
//!
//! The calls of all processes of a step that have to do with ids go to a seccomp listener, which a process beside
//! the step reads (V; in a chroot S0). It is in the user and mount namespaces of the step and has its root, but not its pid namespace. What
//! it does, it does with real calls, as the one user that there is; what can not be done for real is written down: the
//! owner of a file in an attribute of the file ([`crate::owner`]), the ids of a process in a limit of the process. Most calls
//! are looked at and left to the kernel.
//!
//! It is no boundary. Arguments are read from memory that the process may change before the kernel reads them again; the
//! boundary is the namespaces, and all users of a step are one to it.

mod access;
mod apart;
mod bound;
mod call;
mod caps;
mod chown;
mod create;
mod credentials;
mod device;
mod dirs;
mod exec;
mod ids;
mod insight;
mod mode;
mod older;
mod open;
mod owners;
mod peers;
mod places;
mod proc;
mod remove;
mod resolve;
mod rules;
mod signal;
mod socket;
mod stat;
mod users;
mod watch;
mod way;
mod xattr;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno as E;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use crate::container::{DeviceFiles, InodeOwner, SpecialOwner};
use crate::error::{Errno, RuntimeError};
use crate::owner::FileOwner;
use crate::sys::{self, notify};

use bound::Bound;
use call::{Answer, Call};
use credentials::Credentials;
use notify::{Response, Turns};
use older::Older;
use owners::Owners;
use proc::Proc;
use resolve::Root;
use rules::Table;
use users::Users;
use watch::Watch;
use way::Ways;

pub(crate) use places::Outside;
pub(crate) use rules::filter;

/// What is emulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Families {
    /// All ids and owners; devices in any case.
    pub(crate) owners: bool,
    /// Paths that lead out of the root of the step: /proc. With `owners` only.
    pub(crate) places: bool,
    /// What an overlay refuses, in a root that is none. Of the others, only devices can be with it besides `owners`.
    pub(crate) tree: bool,
    /// What directories say of the types of their files: where some stand for devices from the beginning. With `owners` only.
    pub(crate) lists: bool,
}

/// What an emulator starts from. It is put together before the root of the step is entered.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) families: Families,
    /// The command, to be ended where the step makes a device and owners are real; `None` where that gets a stand-in.
    pub(crate) ends: Option<OwnedFd>,
    /// Who the command is.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// The capabilities of root.
    pub(crate) capabilities: u64,
    /// Owners of files that can not say it themselves.
    pub(crate) special: Vec<SpecialOwner>,
    /// The pipes that are the command's output, by device and inode: they are the user's that the command is.
    pub(crate) outputs: Vec<(u64, u64)>,
    /// Whether what the step sees may have files that stand for devices.
    pub(crate) devices: DeviceFiles,
    /// The /proc in which this process and those of the step have the numbers that this process knows them by.
    pub(crate) proc: OwnedFd,
    /// The directory that takes the changes, where that is not the root itself.
    pub(crate) upper: Option<OwnedFd>,
    /// The mount namespace in which the threads end that answer calls; `None` where they have no other.
    pub(crate) home: Option<OwnedFd>,
    /// What is shown of the outside where nothing can be mounted.
    pub(crate) outside: Option<Outside>,
    /// Where the root is no overlay: what in it would be mounted elsewhere.
    pub(crate) in_place: Option<Vec<PathBuf>>,
}

/// The supervisor of one step.
#[derive(Debug)]
pub(crate) struct Emulator {
    listener: OwnedFd,
    watch: Watch,
    families: Families,
    ends: Option<OwnedFd>,
    /// Whether it was ended for that.
    ended: AtomicBool,
    table: Table,
    users: Users,
    owners: Owners,
    /// Files of sockets that the kernel is about to make.
    bound: Bound,
    /// Links for programs that are executed by a path of /proc.
    ways: Ways,
    outputs: Vec<(u64, u64)>,
    root: Root,
    outer_proc: OwnedFd,
    proc: Proc,
    outside: Option<Outside>,
    /// Where the root is no overlay.
    older: Option<Older>,
    /// Whether there may be files that stand for devices.
    may_have_devices: AtomicBool,
    /// Whether a process may have another umask than that of the start.
    umask_varies: AtomicBool,
    /// How many threads answer calls; [`MOST_THREADS`] where no more are to be started.
    threads: AtomicUsize,
    /// Whether a process may have another root.
    chrooted: AtomicBool,
    home: Option<OwnedFd>,
    /// How many threads are there.
    running: Mutex<usize>,
    /// The numbers of those that have begun.
    numbers: Mutex<Vec<Pid>>,
    /// All that were started.
    started: Mutex<Vec<JoinHandle<()>>>,
    /// Rings when one has ended.
    one_ended: Condvar,
}

/// Threads that answer the calls of one step at the most.
const MOST_THREADS: usize = 8;

/// The number of bits of RLIMIT_LOCKS that are needed.
const NUMBERS: u64 = users::MOST as u64;

/// Returns the directory from which an emulator sees all processes.
pub(crate) fn open_proc() -> Result<OwnedFd, RuntimeError> {
    rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| RuntimeError::call("open(\"/proc\", O_PATH)", errno))
}

/// Checks that the ids of processes can be kept where they are kept.
pub(crate) fn check_limits() -> Result<(), RuntimeError> {
    let call = "prlimit(RLIMIT_LOCKS): the hard limit is too low to keep ids in";
    match sys::peer::locks_limit(rustix::process::getpid()) {
        Ok((_, hard)) if hard >= NUMBERS => Ok(()),
        Ok(_) => Err(RuntimeError::call(call, E::INVAL)),
        Err(errno) => Err(RuntimeError::call(call, errno)),
    }
}

/// Makes this process the user that the step starts as, by its number.
pub(crate) fn become_first() -> Result<(), RuntimeError> {
    sys::peer::set_locks_limit(rustix::process::getpid(), 0)
        .map_err(|errno| RuntimeError::call("prlimit(RLIMIT_LOCKS, 0)", errno))
}

impl Emulator {
    /// Moves this process to the root of the step, and answers the calls that come to `listener` by threads of their own,
    /// until nobody is left to make any.
    pub(crate) fn start(setup: Setup, listener: OwnedFd, root: &OwnedFd) -> Result<Arc<Self>, RuntimeError> {
        let call = |call: &'static str| move |errno: E| RuntimeError::call(call, errno);
        let look = |what: &'static str| move |errno: Errno| RuntimeError::call(what, errno);
        let Setup { families, ends, uid, gid, groups, capabilities, special, outputs, devices, .. } = setup;
        let Setup { proc: outer_proc, upper, home, outside, in_place, .. } = setup;
        rustix::process::fchdir(root).map_err(call("fchdir(root of the step)"))?;
        rustix::process::chroot(".").map_err(call("chroot(root of the step)"))?;
        rustix::process::fchdir(&outer_proc).map_err(call("fchdir(/proc)"))?;
        let root = Root::open().map_err(look("open(\"/\", O_PATH)"))?;
        let mut owners = Owners::new(!families.owners, upper, root.stat().st_dev);
        for SpecialOwner { path, uid, gid } in special {
            // What the step does not see, it needs no owner of.
            if let Ok(stat) = owners::stat_of(&path) {
                owners.know(&stat, FileOwner::new(uid, gid)).map_err(look("owners of the layers"))?;
            }
        }
        notify::take_turns(listener.as_fd(), Turns::Taken);
        let emulator = Arc::new(Emulator {
            listener,
            watch: Watch::default(),
            families,
            ends,
            ended: AtomicBool::new(false),
            table: Table::new(families),
            users: Users::new(Credentials::new(uid, gid, &groups, capabilities)),
            owners,
            bound: Bound::default(),
            ways: Ways::default(),
            outputs,
            root,
            outer_proc,
            proc: Proc::new(outside.is_some()).map_err(look("stat(/proc)"))?,
            outside,
            older: in_place.map(|mounted| Older::begin(&mounted)),
            may_have_devices: AtomicBool::new(devices == DeviceFiles::Possible),
            umask_varies: AtomicBool::new(false),
            threads: AtomicUsize::new(1),
            // Where chroot(2) is not looked at, each process is asked.
            chrooted: AtomicBool::new(!families.owners),
            home,
            running: Mutex::new(0),
            numbers: Mutex::default(),
            started: Mutex::default(),
            one_ended: Condvar::new(),
        });
        emulator.start_thread().map_err(|error| RuntimeError::call("clone(thread of the emulator)", error))?;
        Ok(emulator)
    }

    fn start_thread(self: &Arc<Self>) -> std::io::Result<()> {
        let emulator = self.clone();
        *self.running() += 1;
        let started = std::thread::Builder::new().name("emulator".into()).spawn(move || {
            sys::may_be_interrupted();
            emulator.numbers.lock().unwrap_or_else(PoisonError::into_inner).push(rustix::thread::gettid());
            emulator.serve();
            emulator.go_home();
            *emulator.running() -= 1;
            emulator.one_ended.notify_all();
        });
        match started {
            Ok(thread) => self.started.lock().unwrap_or_else(PoisonError::into_inner).push(thread),
            Err(error) => {
                *self.running() -= 1;
                return Err(error);
            }
        }
        Ok(())
    }

    fn running(&self) -> MutexGuard<'_, usize> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody is left to make calls, and leaves the mounts of the step.
    pub(crate) fn wait(&self) {
        self.await_end();
        let mut running = self.running();
        while *running > 0 {
            let patience = Duration::from_millis(1);
            running = self.one_ended.wait_timeout(running, patience).unwrap_or_else(PoisonError::into_inner).0;
            if *running > 0 {
                // Before Linux 6.11 who waits for a call is not told that none can come any more.
                self.numbers.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().for_each(sys::interrupt);
            }
        }
        drop(running);
        for thread in self.started.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // Until it has let go of all it holds. It has nothing to say.
            let _ = thread.join();
        }
        self.go_home();
    }

    /// Waits until nobody is left to make calls.
    fn await_end(&self) {
        let mut fds = [PollFd::new(&self.listener, PollFlags::empty())];
        while poll(&mut fds, None) == Err(E::INTR) {}
    }

    /// Takes this thread out of the mounts of the step, which would be there as long as it is.
    fn go_home(&self) {
        if let Some(home) = &self.home {
            // Where that fails, they go with the process.
            let _ = sys::enter_mounts(home.as_fd());
        }
    }

    /// Starts another thread, where there may be one more: calls wait that those at work can not answer at once.
    fn start_another(self: &Arc<Self>) {
        if !self.families.owners || self.threads.load(Ordering::Relaxed) == MOST_THREADS {
            return;
        }
        let most = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, MOST_THREADS));
        let is_one_more = |threads: usize| (threads < most).then_some(threads + 1);
        if self.threads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_one_more).is_err()
            || self.start_thread().is_err()
        {
            // Those that there are have to do.
            self.threads.store(MOST_THREADS, Ordering::Relaxed);
        }
    }

    /// Returns the owners of what can not carry them: in the root file system, and in others.
    pub(crate) fn special(&self) -> (Vec<(u64, u32, u32)>, Vec<InodeOwner>) {
        (self.owners.of_root(), self.owners.of_mounts())
    }

    /// Returns whether the step was ended because it made a device.
    pub(crate) fn has_ended_it(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Ends the step, if it is to be ended where it makes a device.
    fn end(&self) -> bool {
        let Some(command) = &self.ends else { return false };
        self.ended.store(true, Ordering::Release);
        rustix::process::pidfd_send_signal(command, Signal::KILL).is_ok()
    }

    /// Whom the output of the command belongs to: its first user, until that is changed.
    fn owner_of_output(&self, stat: &rustix::fs::Stat) -> FileOwner {
        let first = self.users.first();
        self.owners.in_table(stat).unwrap_or(FileOwner::new(first.uid.effective, first.gid.effective))
    }

    fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Answers calls, until nobody is left to make any. A step whose calls are not answered would wait for ever: so if
    /// this ends otherwise, the process ends, and with it the step.
    fn serve(self: &Arc<Self>) {
        struct EndWithMe;
        impl Drop for EndWithMe {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    sys::exit(1);
                }
            }
        }
        let _end = EndWithMe;
        // The umask and the working directory are this thread's own from now on. The first thread of the process needs neither.
        // Docker's profile allows no unshare(2) at all; then there is one working directory, for the one thread that answers.
        let is_alone = sys::unshare_files().is_err();
        rustix::process::umask(Mode::empty());
        let is_over_or_nothing = |errno: Errno| errno.is(E::NOENT) || errno.is(E::INTR);
        loop {
            self.watch.begin();
            match notify::receive(self.listener()) {
                Ok(notification) => {
                    // It was woken where the call was made, or has been there since the last one.
                    let at_work = self.watch.end(notification.pid, rustix::thread::sched_getcpu());
                    if at_work.takes_two() && !is_alone {
                        self.start_another();
                    }
                    if !is_alone && at_work.looks(rules::is_quick(notification.nr)) {
                        let more = self.poll().contains(PollFlags::IN);
                        at_work.saw(more);
                        if more {
                            self.start_another();
                        }
                    }
                    self.answer(&Call::new(self, notification), at_work.turns());
                }
                // Another thread has taken the call; or it was taken back, by a signal; or the step is over.
                Err(errno) if is_over_or_nothing(errno) && !self.poll().contains(PollFlags::HUP) => {
                    self.watch.in_vain()
                }
                Err(errno) if is_over_or_nothing(errno) => {
                    self.watch.over();
                    return;
                }
                Err(_) => sys::exit(1),
            }
        }
    }

    /// Returns whether calls wait, and whether there is nobody left to make one.
    fn poll(&self) -> PollFlags {
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
        match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(_) => fds[0].revents(),
            Err(_) => PollFlags::empty(),
        }
    }

    /// Answers a call, and wakes who made it as `turns` says.
    fn answer(&self, call: &Call<'_>, turns: Turns) {
        self.bound.settle(call.pid(), &self.owners);
        let response = match self.table.handler(call.nr()).map(|handle| handle(call)) {
            Some(Ok(Answer::Told)) => return,
            Some(Ok(Answer::Continue)) | None => Response::Continue,
            Some(Ok(Answer::Value(value))) => Response::Value(value),
            Some(Err(errno)) => Response::Error(errno),
        };
        if turns == Turns::Free {
            notify::take_turns(self.listener(), Turns::Free);
        }
        // Nobody may wait any more.
        let _ = notify::respond(self.listener(), call.id(), response);
        if turns == Turns::Free {
            notify::take_turns(self.listener(), Turns::Taken);
        }
    }

    /// Calls `act` while `dir` is the working directory of this thread.
    fn while_in<T>(&self, dir: BorrowedFd<'_>, act: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        let result = rustix::process::fchdir(dir).map_err(Errno::from).and_then(|()| act());
        if rustix::process::fchdir(&self.outer_proc).is_err() {
            // All paths of this thread would mean something else.
            sys::exit(1);
        }
        result
    }
}
