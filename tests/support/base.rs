//! Base images, as OCI layouts in `.fixtures`. Made once; `make fixtures` does the same before.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::root;

/// Returns the layout of docker.io/library/busybox:latest.
pub fn busybox() -> PathBuf {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| make("make-base-images.sh", &["--only", "busybox"]));
    root().join(".fixtures/busybox-latest")
}

/// Returns the layouts of the .NET SDK and of the .NET runtime.
pub fn dotnet() -> [PathBuf; 2] {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| make("make-dotnet-images.sh", &[]));
    ["sdk", "runtime"].map(|name| root().join(".fixtures").join(name))
}

fn make(script: &str, args: &[&str]) {
    let made = Command::new(root().join("tests/fixtures").join(script))
        .args(args)
        .arg(root().join(".fixtures"))
        .output()
        .expect("the script is part of the project");
    assert!(made.status.success(), "{script}: {}", String::from_utf8_lossy(&made.stderr));
}
