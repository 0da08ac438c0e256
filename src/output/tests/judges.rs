//! Other programs that read what coracle writes.

use std::process::Command;

use ocidir::OciRead;
use ocidir::cap_std::{ambient_authority, fs::Dir as CapDir};

use super::*;

/// Runs a tool and returns its standard output; `None` where it is not installed, which is a failure in CI.
fn run(program: &str, args: &[&str]) -> Option<String> {
    match Command::new(program).args(args).output() {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program} {args:?}: {errors}");
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{program} must be installed in CI: {error}");
            eprintln!("skipped: {program} is not installed: {error}");
            None
        }
    }
}

#[test]
fn ocidir_opens_and_checks_every_layout() {
    for packed in [Packed::Tar, Packed::Gzip, Packed::Zstd] {
        let (dir, store) = store();
        let image = sample(&store, packed);
        let check_dir = |path: &Path| {
            let layout = CapDir::open_ambient_dir(path, ambient_authority()).unwrap();
            ocidir::OciDir::open(layout).unwrap().fsck().unwrap()
        };
        assert_eq!(check_dir(&store.layout()), 0);
        store.tag(&["demo".into(), "demo:2".into()], &image.descriptor()).unwrap();
        // Manifest, configuration, and two layers, one of them twice.
        assert_eq!(check_dir(&store.layout()), 4);
        export(&image, &store, &location("oci", dir.path(), Some("latest")), &[], &Silent).unwrap();
        assert_eq!(check_dir(&dir.path().join("out")), 4);
        let archive = dir.path().join("out.tar");
        let place: Location = format!("oci-archive:{}", archive.display()).parse().unwrap();
        export(&image, &store, &place, &["demo:1".into()], &Silent).unwrap();
        assert_eq!(ocidir::OciArchive::open(&archive).unwrap().fsck().unwrap(), 4);
    }
}

#[test]
fn skopeo_reads_the_store_and_every_export() {
    let (dir, store) = store();
    let image = sample(&store, Packed::Gzip);
    store.tag(&["demoweb:2".into()], &image.descriptor()).unwrap();
    let of_store = format!("oci:{}:docker.io/library/demoweb:2", store.layout().display());
    let mut places = vec![of_store];
    for (kind, name) in [
        ("oci", "demoweb:2"),
        ("oci", "latest"),
        ("oci-archive", "quay.io/me/app:1"),
        ("oci-archive", ""),
        ("docker-archive", "demoweb:2"),
    ] {
        let path = dir.path().join(format!("{kind}-{}", places.len()));
        let place = format!("{kind}:{}", path.display());
        let place = if name.is_empty() { place } else { format!("{place}:{name}") };
        export(&image, &store, &place.parse().unwrap(), &[], &Silent).unwrap();
        places.push(place);
    }
    for place in places {
        let Some(raw) = run("skopeo", &["inspect", "--config", "--raw", &place]) else { return };
        assert_eq!(raw.trim_end().as_bytes(), image.config_bytes, "{place}");
        let copy = format!("oci:{}:copy", dir.path().join("copy").display());
        run("skopeo", &["--insecure-policy", "copy", "--quiet", &place, &copy]);
        // What skopeo writes is read in turn.
        let imported = import(&copy.parse().unwrap(), &store, &Silent).unwrap();
        assert_eq!(diff_ids(&store.image(&imported.descriptor).unwrap()), diff_ids(&image), "{place}");
        fs::remove_dir_all(dir.path().join("copy")).unwrap();
    }
    for kind in ["docker-archive", "oci-archive"] {
        let path = dir.path().join(format!("skopeo-{kind}"));
        let theirs = format!("{kind}:{}:demoweb:2", path.display());
        let ours = format!("oci:{}:docker.io/library/demoweb:2", store.layout().display());
        run("skopeo", &["--insecure-policy", "copy", "--quiet", &ours, &theirs]);
        let imported = import(&theirs.parse().unwrap(), &store, &Silent).unwrap();
        assert_eq!(imported.name.as_deref(), Some("docker.io/library/demoweb:2"));
        assert_eq!(diff_ids(&store.image(&imported.descriptor).unwrap()), diff_ids(&image));
    }
}

#[test]
fn umoci_unpacks_what_is_written() {
    let (dir, store) = store();
    let image = sample(&store, Packed::Gzip);
    store.tag(&["demoweb:2".into()], &image.descriptor()).unwrap();
    export(&image, &store, &location("oci", dir.path(), Some("latest")), &[], &Silent).unwrap();
    let own = format!("{}:docker.io/library/demoweb:2", store.layout().display());
    let out = format!("{}:latest", dir.path().join("out").display());
    for (number, place) in [own, out].iter().enumerate() {
        let bundle = dir.path().join(format!("bundle{number}"));
        let bundle_text = bundle.to_str().unwrap();
        if run("umoci", &["unpack", "--rootless", "--image", place, bundle_text]).is_none() {
            return;
        }
        assert_eq!(fs::read(bundle.join("rootfs/etc/motd")).unwrap(), b"hello");
    }
}
