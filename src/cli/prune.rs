//! `coracle prune` and `df`: what nobody needs goes, and what takes how much room.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use coracle_runtime::probe::full_map;
use coracle_runtime::userns;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;

use super::doctor::existing;
use super::report::{ExitStatus, Failure};
use super::request::{DfRequest, PruneRequest};
use super::table::Table;
use super::{print, say, text};
use crate::store::{Act, Store};

/// Removes what no image and no cache entry needs; with limits also of the cache.
pub(super) fn prune(request: &PruneRequest) -> Result<ExitCode, Failure> {
    end_on_signals();
    let looks = request.options.act == Act::Look;
    // Files of other ids can be removed only by root of the user namespace in which they were made.
    let entered =
        if looks { None } else { full_map(&existing(&request.root)).and_then(|maps| userns::enter(&maps)).err() };
    let on_wait = || say("waiting for other processes that use the store\n");
    let done = Store::collect(&request.root, &request.options, &on_wait)?;
    if done.failed > 0 {
        let why = entered.map(|error| format!(": {error}")).unwrap_or_default();
        say(&format!("warning: {} things could not be removed{why}\n", done.failed));
    }
    if let Some(most) = request.options.max_size.filter(|_| !looks) {
        let have = Store::open_read(&request.root)?.usage()?.total().bytes;
        if have > most {
            let (have, most) = (text::size(have), text::size(most));
            say(&format!("warning: the store still has {have}, more than {most}: images with a name stay\n"));
        }
    }
    let text = if request.json {
        serde_json::to_string(&done).expect("numbers always serialise") + "\n"
    } else {
        format!(
            "{} {} blobs, {} layers, {} cache entries and {} left-overs: {}\n",
            if looks { "would remove" } else { "removed" },
            done.blobs,
            done.layers,
            done.cache_entries,
            done.leftovers,
            text::size(done.bytes)
        )
    };
    print(&text).map(|()| ExitCode::SUCCESS)
}

/// Says what takes how much room.
pub(super) fn df(request: &DfRequest) -> Result<ExitCode, Failure> {
    let usage = Store::open_read(&request.root)?.usage()?;
    let total = usage.total();
    if request.json {
        let mut json = serde_json::to_value(usage).expect("numbers always serialise");
        json["total"] = serde_json::to_value(total).expect("numbers always serialise");
        return print(&format!("{json}\n")).map(|()| ExitCode::SUCCESS);
    }
    let mut table = Table::new(["KIND", "COUNT", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    for (kind, used) in [
        ("blobs", usage.blobs),
        ("layers", usage.layers),
        ("cache", usage.cache),
        ("cache mounts", usage.mounts),
        ("temporary", usage.temporary),
        ("all", total),
    ] {
        table.row([
            kind.to_owned(),
            used.count.to_string(),
            used.active.to_string(),
            text::size(used.bytes),
            text::size(used.reclaimable),
        ]);
    }
    print(&table.render()).map(|()| ExitCode::SUCCESS)
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
