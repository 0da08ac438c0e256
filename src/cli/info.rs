//! `coracle info`: the store, this machine, and what a build will use.

use std::process::ExitCode;

use coracle_runtime::probe::{self, Choice, Wanted};
use serde_json::{Value, json};

use super::doctor::existing;
use super::print;
use super::report::Failure;
use super::request::{InfoForm, InfoRequest};
use super::text::{size, visible};
use crate::oci::Platform;
use crate::store::Store;

/// Prints what there is.
pub(super) fn info(request: &InfoRequest) -> Result<ExitCode, Failure> {
    let store = Store::open_read(&request.root)?;
    let place = existing(&request.root);
    let free = rustix::fs::statvfs(&place).map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize)).ok();
    let store = json!({
        "root": request.root.display().to_string(),
        "images": store.images()?.len(),
        "bytes": store.usage()?.total().bytes,
        "free": free,
    });
    let data = document(&probe::choose(&place, Wanted::Any), store);
    let text = match &request.form {
        InfoForm::Lines => lines(&data),
        InfoForm::Json => format!("{data}\n"),
        InfoForm::Template(template) => format!("{}\n", template.render(&data)?),
    };
    print(&text).map(|()| ExitCode::SUCCESS)
}

fn document(choice: &Choice, store: Value) -> Value {
    let Platform { os, architecture, .. } = Platform::host();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "host": {
            "os": os,
            "architecture": architecture,
            "kernel": rustix::system::uname().release().to_string_lossy(),
            "processors": std::thread::available_parallelism().map_or(1, usize::from),
            "memory": { "total": memory(&meminfo, "MemTotal:"), "available": memory(&meminfo, "MemAvailable:") },
            "uid": rustix::process::getuid().as_raw(),
        },
        "mode": choice.mode.to_string(),
        "run": crate::build::obstacle(&choice.mode).is_none(),
        "store": store,
    })
}

/// Returns a row of /proc/meminfo in bytes; nothing where /proc does not show it.
fn memory(meminfo: &str, name: &str) -> Option<u64> {
    let row = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    row.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

fn lines(data: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), visible);
    let bytes = |value: &Value| value.as_u64().map_or_else(|| "unknown".to_owned(), size);
    let (host, store) = (&data["host"], &data["store"]);
    let run = if data["run"] == true { "yes" } else { "no: `coracle doctor` says why" };
    let memory = format!("{}, {} available", bytes(&host["memory"]["total"]), bytes(&host["memory"]["available"]));
    [
        ("version", text(&data["version"])),
        (
            "platform",
            format!("{}/{}, kernel {}", text(&host["os"]), text(&host["architecture"]), text(&host["kernel"])),
        ),
        ("machine", format!("{} processors, memory {memory}", host["processors"])),
        ("user", host["uid"].to_string()),
        ("mode", text(&data["mode"])),
        ("RUN", run.to_owned()),
        ("store", text(&store["root"])),
        ("images", format!("{}, all of the store {}", store["images"], bytes(&store["bytes"]))),
        ("free", bytes(&store["free"])),
    ]
    .map(|(name, value)| format!("{name:<9} {value}\n"))
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_in_bytes_where_proc_shows_it() {
        let text = "MemTotal:       1024 kB\nMemFree:        1 kB\nMemAvailable:   512 kB\n";
        assert_eq!((memory(text, "MemTotal:"), memory(text, "MemAvailable:")), (Some(1 << 20), Some(1 << 19)));
        assert_eq!(memory("", "MemTotal:"), None);
    }
}
