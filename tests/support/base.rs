//! Base images, as OCI layouts in `.fixtures`. Made once; `make fixtures` does the same before.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use coracle::oci::Digest;
use serde_json::{Value, json};

use super::{User, root};

/// Returns the layout of docker.io/library/busybox:latest.
pub fn busybox() -> PathBuf {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| make("make-base-images.sh", &["--only", "busybox"]));
    root().join(".fixtures/busybox-latest")
}

/// Returns the layout of docker.io/library/debian:bookworm-slim.
pub fn debian() -> PathBuf {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| make("make-base-images.sh", &["--only", "debian"]));
    root().join(".fixtures/debian-bookworm-slim")
}

/// Returns the layouts of the .NET SDK and of the .NET runtime.
pub fn dotnet() -> [PathBuf; 2] {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| make("make-dotnet-images.sh", &[]));
    ["sdk", "runtime"].map(|name| root().join(".fixtures").join(name))
}

/// Returns a folder with programs for other processors: busybox-arm64 and busybox-s390x.
pub fn foreign() -> PathBuf {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| make("make-foreign-programs.sh", &[]));
    root().join(".fixtures/foreign")
}

/// Makes a layout in `dir`: busybox with one more layer, which the configuration says has `diff_id`.
pub fn busybox_and(dir: &Path, layer: &[u8], diff_id: Digest) {
    busybox_and_all(dir, &[(layer, diff_id)]);
}

/// Makes a layout in `dir`: busybox with more layers, bottom first, and their diff_ids.
pub fn busybox_and_all(dir: &Path, layers: &[(&[u8], Digest)]) {
    let base = busybox();
    let read = |digest: &Value| {
        let hex = digest.as_str().unwrap().trim_start_matches("sha256:");
        fs::read(base.join("blobs/sha256").join(hex)).unwrap()
    };
    let json_of = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let index = json_of(&fs::read(base.join("index.json")).unwrap());
    let mut manifest = json_of(&read(&index["manifests"][0]["digest"]));
    let mut config = json_of(&read(&manifest["config"]["digest"]));
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    let put = |bytes: &[u8], kind: &str| {
        let digest = Digest::of(bytes);
        fs::write(dir.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({"mediaType": kind, "digest": digest.to_string(), "size": bytes.len()})
    };
    put(&read(&manifest["layers"][0]["digest"]), "");
    for (layer, diff_id) in layers {
        config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(diff_id.to_string().into());
        config["history"].as_array_mut().unwrap().push(json!({"created_by": "test"}));
        manifest["layers"].as_array_mut().unwrap().push(put(layer, "application/vnd.oci.image.layer.v1.tar"));
    }
    manifest["config"] = put(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
    let entry = put(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json");
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

fn make(script: &str, args: &[&str]) {
    let made = Command::new(root().join("tests/fixtures").join(script))
        .args(args)
        .arg(root().join(".fixtures"))
        .output()
        .expect("the script is part of the project");
    assert!(made.status.success(), "{script}: {}", String::from_utf8_lossy(&made.stderr));
}

/// Makes a layout of `base:1` in the home of `user`: an index of busybox for these architectures, each with a variant perhaps. All
/// have the programs of this machine.
pub fn index(user: &User, name: &str, platforms: &[&str]) -> String {
    let busybox = busybox();
    let dir = user.new_dir();
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    for blob in fs::read_dir(busybox.join("blobs/sha256")).unwrap().flatten() {
        fs::copy(blob.path(), dir.join("blobs/sha256").join(blob.file_name())).unwrap();
    }
    let read = |digest: &Value| {
        let hex = digest.as_str().unwrap().trim_start_matches("sha256:").to_owned();
        serde_json::from_slice::<Value>(&fs::read(dir.join("blobs/sha256").join(hex)).unwrap()).unwrap()
    };
    let put = |document: &Value, kind: &str| {
        let bytes = serde_json::to_vec(document).unwrap();
        fs::write(dir.join("blobs/sha256").join(Digest::of(&bytes).hex()), &bytes).unwrap();
        json!({"mediaType": format!("application/vnd.oci.image.{kind}.v1+json"), "digest": Digest::of(&bytes).to_string(),
            "size": bytes.len()})
    };
    let index: Value = serde_json::from_slice(&fs::read(busybox.join("index.json")).unwrap()).unwrap();
    let mut members = Vec::new();
    for platform in platforms {
        let parts: Vec<&str> = platform.split('/').collect();
        let mut manifest = read(&index["manifests"][0]["digest"]);
        let mut config = read(&manifest["config"]["digest"]);
        let mut said = json!({"os": parts[0], "architecture": parts[1]});
        parts.get(2).into_iter().for_each(|variant| said["variant"] = (*variant).into());
        config.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
        config["config"]["Env"].as_array_mut().unwrap().push(format!("BASE={platform}").into());
        manifest["config"] = put(&config, "config");
        let mut entry = put(&manifest, "manifest");
        entry["platform"] = said;
        members.push(entry);
    }
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": members});
    let entry = put(&index, "index");
    fs::write(dir.join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string()).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let copied = user.coracle(["copy", "--all", &format!("oci:{}", dir.display()), name]).run().succeeds();
    copied.stdout.trim().to_owned()
}
