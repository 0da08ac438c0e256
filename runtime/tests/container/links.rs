//! Images whose links point to where things are mounted. None of them reaches the host.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use coracle_runtime::RuntimeError;
use coracle_runtime::container::{Control, Exit};

use crate::Case;
use crate::place::{Place, Step};

pub const CASES: &[Case] = &[
    ("an image with a link in place of /proc, /sys or /dev does not reach the host", mount_points_that_are_links),
    ("an image with a file or nothing in place of /proc, /sys or /dev is refused", mount_points_that_are_none),
    ("a bind whose target is a link stays inside", binds_on_links),
    ("the mounts of a step are those that were made for it", mounts),
    ("files of outer processes can not be written", outer_files),
];

/// Targets that lead above the root, or to the root of another process, if anything follows them.
const LINKS: [&str; 12] = [
    "..",
    "/..",
    "../..",
    "/",
    ".",
    "/../proc/..",
    "/proc/self/cwd",
    "/proc/self/root",
    "/proc/self/root/..",
    "/proc/self/cwd/..",
    "/proc/1/root/..",
    "/proc/thread-self/root/..",
];

/// A file of the host that a step must not see, and a step that looks for it in every way out that there may be.
struct Canary {
    file: PathBuf,
}

impl Canary {
    fn new(place: &Place) -> Self {
        let file = place.dir("canary").join("file");
        fs::write(&file, "alive").expect("writes");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("chmod");
        Canary { file }
    }

    fn hunt(&self, place: &Place) -> Step {
        let dirs =
            "/.. /../.. /proc/.. /sys/.. /dev/.. /proc/1/root /proc/1/root/.. /proc/1/cwd/.. /proc /sys /dev /tmp /etc";
        let file = self.file.display();
        place.shell(&format!(
            "for d in {dirs}; do cat $d{file} 2>/dev/null && echo read; echo dead 2>/dev/null >$d{file} && echo wrote; \
             cat $d/etc/passwd 2>/dev/null && echo read; done; echo looked"
        ))
    }

    /// Runs `step`; whether that fails or not, the canary lives and was not seen.
    fn survives(&self, step: &Step, what: &str) -> Option<RuntimeError> {
        let ended = step.try_run(&Control::new());
        assert_eq!(fs::read_to_string(&self.file).expect("reads"), "alive", "{what}");
        match ended {
            Ok(done) => {
                assert_eq!(done.out(), "looked", "{what}: {}", done.err());
                None
            }
            Err(error) => Some(error),
        }
    }
}

fn mount_points_that_are_links(place: &Place) {
    let canary = Canary::new(place);
    assert_eq!(canary.survives(&canary.hunt(place), "no link"), None);
    for name in ["proc", "sys", "dev"] {
        for target in LINKS {
            let layer = place.dir("layer");
            symlink(target, layer.join(name)).expect("link");
            let error = canary.survives(&canary.hunt(place).lower(layer), &format!("{name} -> {target}"));
            let error = error.unwrap_or_else(|| panic!("{name} -> {target} is accepted"));
            assert_eq!(error.to_string(), format!("/{name} of the image is a symbolic link, not a directory"));
        }
    }
}

fn mount_points_that_are_none(place: &Place) {
    let refused = |step: Step| step.try_run(&Control::new()).err().expect("refused").to_string();
    for name in ["proc", "sys", "dev"] {
        let layer = place.dir("layer");
        fs::write(layer.join(name), "").expect("writes");
        assert_eq!(refused(place.step(&["true"]).lower(layer)), format!("/{name} of the image is not a directory"));
        let root = place.dir("root");
        for other in ["proc", "sys", "dev"].into_iter().filter(|other| *other != name) {
            fs::create_dir(root.join(other)).expect("mkdir");
        }
        let mut step = place.step(&["true"]);
        step.spec.rootfs = coracle_runtime::container::RootfsSource::Dir(root);
        assert_eq!(refused(step), format!("/{name} of the image does not exist"));
    }
}

fn binds_on_links(place: &Place) {
    let canary = Canary::new(place);
    for target in LINKS {
        let layer = place.dir("layer");
        fs::create_dir(layer.join("etc")).expect("mkdir");
        symlink(target, layer.join("etc/hosts")).expect("link");
        let source = place.dir("source");
        let step = canary.hunt(place).lower(layer).bind(source, "/etc/hosts", false);
        match canary.survives(&step, target) {
            // /etc itself.
            None => assert_eq!(target, "."),
            Some(error) => assert!(
                matches!(error, RuntimeError::Call { .. } | RuntimeError::RootNotLeft { .. }),
                "{target}: {error}"
            ),
        }
    }
}

fn mounts(place: &Place) {
    let layer = place.dir("layer");
    fs::create_dir(layer.join("mnt")).expect("mkdir");
    let step = place.shell("cat /proc/self/mountinfo").lower(layer).bind(place.dir("source"), "/mnt", true);
    let table = step.prints();
    let mut roots = 0;
    for line in table.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let dash = fields.iter().position(|field| *field == "-").expect("a separator");
        let (point, options, kind) = (fields[4], fields[5], fields[dash + 1]);
        let read_only = options.split(',').any(|option| option == "ro");
        match point {
            "/" => {
                roots += 1;
                assert_eq!(kind, "overlay", "{line}");
            }
            "/dev" | "/dev/shm" => assert_eq!(kind, "tmpfs", "{line}"),
            "/dev/pts" => assert_eq!(kind, "devpts", "{line}"),
            "/dev/mqueue" => assert_eq!(kind, "mqueue", "{line}"),
            "/mnt" => assert!(read_only, "{line}"),
            "/proc" => assert_eq!((kind, read_only), ("proc", place.proc_is_masked()), "{line}"),
            // Those of /proc that are read-only, and masks: the null device, or nothing that can be written.
            point if point.starts_with("/proc/") => {
                assert!(fields[3] == "/null" || read_only, "{line}");
            }
            point if point == "/sys" || point.starts_with("/sys/") => {
                assert!(fields[3] == "/null" || read_only, "{line}")
            }
            point if point.starts_with("/dev/") => {
                let name = Path::new(point).file_name().and_then(|name| name.to_str()).expect("a name");
                assert!(["null", "zero", "full", "random", "urandom", "tty"].contains(&name), "{line}");
            }
            _ => panic!("an unexpected mount: {line}"),
        }
        // Nothing is shared with the host.
        assert!(!fields[6..dash].iter().any(|field| field.starts_with("shared:")), "{line}");
    }
    assert_eq!(roots, 1, "{table}");
}

fn outer_files(place: &Place) {
    if !place.proc_is_masked() {
        assert_eq!(place.shell("echo 500 >/proc/self/oom_score_adj").run().exit(), Exit::Code(0));
        return;
    }
    let file = format!("/proc/{}/oom_score_adj", std::process::id());
    let before = fs::read_to_string(&file).expect("reads");
    let done = place.shell(&format!("[ -e {file} ] || exit 9; echo 500 >{file}")).run();
    assert_eq!(done.exit(), Exit::Code(1));
    assert!(done.err().contains("Read-only file system"), "{}", done.err());
    assert_eq!(fs::read_to_string(&file).expect("reads"), before);
}
