//! Small Dockerfiles, each built by coracle and by buildah: the same configuration, and the same files. Where they differ on purpose,
//! `tests/against/cases` says why. buildah knows neither here-documents in COPY nor symbolic modes, and others of the newer
//! flags: those are held against what BuildKit makes of them in the tests of the room `plan`.

mod against;
mod support;

use std::path::Path;

use against::{Case, Image, cases, differences, in_each, ours, project};
use serde_json::Value;
use support::{Project, User, base, require_tool, root};

/// What buildah leaves in the image after a RUN: mount points of its own.
const LEFT_BY_BUILDAH: [&str; 6] = ["run", "etc/hosts", "etc/resolv.conf", "etc/hostname", "proc", "sys"];

/// Reads what buildah wrote with the transport `dir`.
fn of_dir(dir: &Path) -> Image {
    let json =
        |name: &str| -> Value { serde_json::from_slice(&std::fs::read(dir.join(name)).expect(name)).expect("JSON") };
    let blob = |descriptor: &Value| descriptor["digest"].as_str().expect("a digest")["sha256:".len()..].to_owned();
    let manifest = json("manifest.json");
    let layers = manifest["layers"].as_array().expect("layers");
    let layers = layers.iter().map(|layer| std::fs::read(dir.join(blob(layer))).expect("a layer"));
    Image::new(json(&blob(&manifest["config"])), layers)
}

/// Builds a case with both and returns what is not the same.
fn compared(case: &Case, number: usize, project: &Project, store: &Path, out: &Path) -> Vec<String> {
    let dockerfile = out.join(format!("Dockerfile.{number}"));
    let ours = ours(case, number, project, &dockerfile);
    let theirs = out.join(format!("theirs-{number}"));
    let line = format!(
        "{} bud --layers=false --isolation chroot --network host --pull-never --format docker --identity-label=false \
         -f {} -t dir:{} {}",
        buildah(store),
        dockerfile.display(),
        theirs.display(),
        project.dir().display(),
    );
    project.user().tool(&line).run().succeeds();
    let runs = case.dockerfile.to_ascii_uppercase().contains("RUN ");
    differences(case, &ours, &of_dir(&theirs), |path| {
        let below = |of: &str| path == of || path.starts_with(&format!("{of}/"));
        runs && LEFT_BY_BUILDAH.iter().any(|of| below(of))
    })
}

fn buildah(store: &Path) -> String {
    format!("buildah --root {0}/root --runroot {0}/run --storage-driver vfs", store.display())
}

#[test]
fn coracle_and_buildah_make_the_same_of_small_dockerfiles() {
    if !require_tool("buildah") {
        return;
    }
    let user = User::with_busybox();
    let (project, store, out) = (project(&user), user.new_dir(), user.new_dir());
    // buildah makes a name of the path of a layout, and no part of a name may begin with a dot.
    base::busybox();
    let pull = format!("{} pull -q oci:busybox-latest:docker.io/library/busybox:latest", buildah(&store));
    let id = user.tool(&pull).within(&root().join(".fixtures")).run().succeeds().stdout;
    user.tool(&format!("{} tag {} docker.io/library/busybox:latest", buildah(&store), id.trim())).run().succeeds();

    let cases = cases("cases");
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let found = in_each(&cases, |case, number| compared(case, number, &project, &store, &out));
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}
