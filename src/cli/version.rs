//! `coracle version`.

use serde_json::json;

use super::report::Failure;
use super::request::VersionRequest;
use crate::oci::Platform;

/// Prints the version.
///
/// # Errors
/// Where standard output cannot be written.
pub fn version(request: &VersionRequest) -> Result<(), Failure> {
    super::print(&text(request, &Platform::host()))
}

fn text(request: &VersionRequest, platform: &Platform) -> String {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    if request.json {
        let Platform { os, architecture, .. } = platform;
        format!("{}\n", json!({ "name": name, "version": version, "os": os, "architecture": architecture }))
    } else {
        format!("{name} {version} ({platform})\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_for_people_and_for_programs() {
        let platform: Platform = "linux/amd64".parse().expect("a platform");
        let (name, version) = ("coracle", env!("CARGO_PKG_VERSION"));
        let said = |json| text(&VersionRequest { json }, &platform);
        assert_eq!(said(false), format!("{name} {version} (linux/amd64)\n"));
        let json =
            format!("{{\"name\":\"{name}\",\"version\":\"{version}\",\"os\":\"linux\",\"architecture\":\"amd64\"}}\n");
        assert_eq!(said(true), json);
    }
}
