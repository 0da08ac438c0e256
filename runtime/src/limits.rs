//! The limit of open files: raised for this program, as it was for the commands that it runs.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The soft limit that this process was started with, where it was raised.
static ORIGINAL: OnceLock<u64> = OnceLock::new();

/// Raises the soft limit to the hard one.
pub(crate) fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // No current limit is as high as it gets.
    if let Some(soft) = current
        && current != maximum
        && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok()
    {
        let _ = ORIGINAL.set(soft);
    }
}

/// Returns the soft limit from before it was raised; `None` where it was not.
pub(crate) fn original_open_files() -> Option<u64> {
    ORIGINAL.get().copied()
}

/// Sets the soft limit of this process, which may be lower than what is open already. The hard one stays.
pub(crate) fn set_open_files(soft: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Lowering it is always allowed.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum });
}
