//! `coracle prune`: what nobody needs goes.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use coracle_runtime::probe::full_map;
use coracle_runtime::userns;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;

use super::doctor::existing;
use super::report::{ExitStatus, Failure};
use super::request::PruneRequest;
use super::{print, say, text};
use crate::store::{Keep, Store};

/// Removes what no image and no cache entry needs; with `--all` the cache too.
pub(super) fn prune(request: &PruneRequest) -> Result<ExitCode, Failure> {
    end_on_signals();
    // Files of other ids can be removed only by root of the user namespace in which they were made.
    let entered = full_map(&existing(&request.root)).and_then(|maps| userns::enter(&maps)).err();
    let keep = if request.cache_too { Keep::Named } else { Keep::Cache };
    let on_wait = || say("waiting for other processes that use the store\n");
    let done = Store::collect(&request.root, keep, &on_wait)?;
    if done.failed > 0 {
        let why = entered.map(|error| format!(": {error}")).unwrap_or_default();
        say(&format!("warning: {} things could not be removed{why}\n", done.failed));
    }
    let text = if request.json {
        serde_json::to_string(&done).expect("numbers always serialise") + "\n"
    } else {
        format!(
            "removed {} blobs, {} layers, {} cache entries and {} left-overs: {}\n",
            done.blobs,
            done.layers,
            done.cache_entries,
            done.leftovers,
            text::size(done.bytes)
        )
    };
    print(&text).map(|()| ExitCode::SUCCESS)
}

/// Ends this process at once on a signal, with the exit code that says so. That is safe at any time: names go before what they
/// lead to, and the next prune takes the rest.
fn end_on_signals() {
    let now = Arc::new(AtomicBool::new(true));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // Without it the signal ends the process all the same.
        let _ = register_conditional_shutdown(signal, ExitStatus::Interrupted.code().into(), Arc::clone(&now));
    }
}
