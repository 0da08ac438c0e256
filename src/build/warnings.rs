//! What a user is told of a container that is not as it should be.

use coracle_runtime::container::{Kept, Report};

/// Returns what to say of a container: nothing, on an ordinary machine.
pub(super) fn of_report(report: &Report) -> Vec<String> {
    let mut messages = Vec::new();
    if report.steps_exposed {
        messages.push(
            "the kernel refuses a fresh /proc here and has no Landlock, so steps that run at the same time can look into each \
             other: --jobs=1 keeps them apart"
                .to_owned(),
        );
    }
    if report.chroot {
        let missing = if report.proc_missing { "they have no /proc and no /sys" } else { "/sys is empty in them" };
        let wall = if report.unfenced {
            "they share the processes, the network and the files of what is around them, and no boundary protects this \
             build or its credentials from them"
        } else {
            "they share processes and network with what is around them, and Landlock alone keeps them from its memory and \
             its files"
        };
        messages.push(format!("RUN steps work in a chroot: {wall}; {missing}"));
    }
    if let Some(errno) = report.no_listener {
        messages
            .push(format!("RUN steps can make no devices here: seccomp(SECCOMP_FILTER_FLAG_NEW_LISTENER): {errno}"));
    }
    if report.proc_bound {
        messages.push("the kernel refuses a fresh /proc here, so steps see the processes outside".to_owned());
    }
    if report.sys_empty {
        messages.push("/sys cannot be shown read-only here, so it is empty in steps".to_owned());
    }
    if !report.devices_missing.is_empty() {
        messages.push(format!("missing in /dev of steps, because missing here: {}", report.devices_missing.join(", ")));
    }
    messages.extend(of_limits(&report.limits));
    messages
}

/// Returns what to say of limits that no control group keeps; `None` where there are none.
pub(super) fn of_limits(kept: &Kept) -> Option<String> {
    if kept.makeshifts.is_empty() {
        return None;
    }
    let clauses: Vec<String> = kept.makeshifts.iter().map(ToString::to_string).collect();
    let mut message = clauses.join("; ");
    if let Some(reason) = &kept.reason {
        let hint = reason.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
        message += &format!(" ({reason}{hint})");
    }
    Some(message)
}
