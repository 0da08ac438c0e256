//! The same bytes in every environment: the Dockerfiles of tests/same_bytes, built wherever a RUN step is possible. What is
//! different between two images is shown by tests/environments/canon.
//!
//! Needs root and runc; the set of packages (tests/same_bytes/packages.Dockerfile) a network that reaches the archive of
//! Debian too, and the image debian:bookworm-slim of `make fixtures`.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::environment::{Call, ENVIRONMENTS, Environment, Visit, can_be_made, can_install, in_each};
use support::{Image, Kind, base, nodes, root, set_mode};

/// A context with the Dockerfiles, and a base image beside it.
struct Set {
    dir: tempfile::TempDir,
    base: PathBuf,
    /// What pulls the base image.
    pull: &'static str,
    /// Dockerfiles of tests/same_bytes, without their ending.
    files: Vec<&'static str>,
    /// More flags for each build.
    flags: &'static str,
}

impl Set {
    fn new(files: &[&'static str]) -> Self {
        let dir =
            tempfile::Builder::new().prefix("coracle-test-").tempdir_in("/var/tmp").expect("a folder on the disk");
        for name in files {
            let name = format!("{name}.Dockerfile");
            fs::copy(root().join("tests/same_bytes").join(&name), dir.path().join(name)).expect("a file");
        }
        fs::create_dir(dir.path().join("files")).expect("a folder");
        fs::write(dir.path().join("files/one"), "one\n").expect("a file");
        set_mode(dir.path(), 0o755);
        let base = dir.path().join("base");
        Set { dir, base, pull: "coracle pull oci:/base", files: files.into(), flags: "" }
    }

    /// Builds all of it in one place.
    fn build(&self, place: Environment) -> BTreeMap<String, Call> {
        let mut visit = self.visit().call("pull", self.pull);
        for name in &self.files {
            visit = visit.call(
                name,
                &format!("coracle build --progress plain {} -f /context/{name}.Dockerfile /context/files", self.flags),
            );
        }
        place.visit(&visit)
    }

    fn visit(&self) -> Visit<'_> {
        Visit { base: self.base.clone(), ..Visit::with_busybox(self.dir.path()) }
    }

    /// Builds one Dockerfile in two places again, and returns what is different.
    fn difference(&self, name: &str, places: [Environment; 2]) -> String {
        let archives = places.map(|place| {
            let out = self.dir.path().join(format!("out-{}-{}", place.name, place.no_volume));
            let _ = fs::create_dir(&out);
            set_mode(&out, 0o777);
            let build = format!(
                "coracle build --progress plain {} -f /context/{name}.Dockerfile -o type=oci,dest=/out/{name}.tar /context/files",
                self.flags
            );
            let visit = Visit { out: Some(&out), ..self.visit() };
            place.visit(&visit.call("pull", self.pull).call("build", &build));
            out.join(format!("{name}.tar"))
        });
        difference(&archives)
    }

    /// Builds all of it in each of `places`, and checks that the images are the same in all of them.
    fn is_the_same_in(&self, places: &[Environment]) {
        let all = in_each(places, |place| self.build(place));
        let (first, reference) = &all[0];
        // What goes wrong in the same way in many places is told once.
        let mut wrong: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (place, found) in &all {
            for name in ["pull"].iter().chain(&self.files) {
                let problem = match (found[*name].digest(), reference[*name].digest()) {
                    _ if *name == "pull" && found[*name].status == 0 => continue,
                    (Err(problem), _) => last_lines(&problem),
                    (Ok(digest), Ok(expected)) if digest != expected => self.difference(name, [*first, *place]),
                    _ => continue,
                };
                wrong.entry(format!("{name}:\n{problem}")).or_default().push(place.title());
            }
        }
        let wrong: String =
            wrong.iter().map(|(problem, places)| format!("in {}: {problem}\n", places.join(", "))).collect();
        assert!(wrong.is_empty(), "{wrong}");
    }
}

/// The end of a long text, without the times of its lines.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines[lines.len().saturating_sub(14)..].join("\n")
}

/// What is different in the files of two images; where that is nothing, in their layers.
fn difference(archives: &[PathBuf; 2]) -> String {
    let canon = |times: &[&str]| {
        let mut command = Command::new(root().join("tests/environments/canon"));
        let output = command.args(times).arg("--diff").args(archives).output().expect("canon runs");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let in_files = canon(&[]) + &canon(&["--mtime"]);
    if !in_files.is_empty() {
        return in_files;
    }
    let [one, other] = [0, 1].map(|at| layers(&archives[at]));
    let only = |these: &BTreeSet<String>, those: &BTreeSet<String>, mark: &str| -> String {
        these.difference(those).map(|line| format!("{mark} {line}\n")).collect()
    };
    only(&one, &other, "-") + &only(&other, &one, "+")
}

/// A line for each entry of each layer.
fn layers(archive: &Path) -> BTreeSet<String> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let unpacked = Command::new("tar").arg("-C").arg(dir.path()).arg("-xf").arg(archive).status().expect("tar runs");
    assert!(unpacked.success(), "{archive:?}");
    let image = Image::only(dir.path());
    let lines = (0..image.layer_count()).flat_map(|at| {
        let entries = image.layer(at).entries;
        entries.into_iter().enumerate().map(move |(number, (name, node))| {
            let kind = match &node.kind {
                Kind::File(bytes) => format!("file of {} bytes", bytes.len()),
                other => format!("{other:?}"),
            };
            format!(
                "layer {at}, entry {number}: {name} {kind} {:o} {} {} {:?}",
                node.mode, node.owner, node.mtime, node.xattrs
            )
        })
    });
    lines.collect()
}

/// The places where a RUN step is possible; the first is the reference.
fn places() -> Vec<Environment> {
    ENVIRONMENTS.into_iter().filter(|place| place.mode.runs()).collect()
}

#[test]
fn files_links_devices_and_removals_are_the_same_in_every_environment() {
    if can_be_made() {
        let mut set = Set::new(&["devices", "files", "links", "removal"]);
        set.pull = "coracle pull oci:/base nodes";
        nodes::layout(&set.base);
        set.is_the_same_in(&places());
    }
}

#[test]
fn owners_are_the_same_in_every_environment() {
    if can_be_made() {
        Set { base: base::busybox(), ..Set::new(&["owners"]) }.is_the_same_in(&places());
    }
}

#[test]
fn squashed_layers_are_the_same_in_every_mode() {
    if !can_be_made() {
        return;
    }
    for flags in ["--squash", "--squash-all"] {
        let mut set = Set { flags, ..Set::new(&["devices", "files", "links", "removal"]) };
        set.pull = "coracle pull oci:/base nodes";
        nodes::layout(&set.base);
        set.is_the_same_in(&EACH_MODE.map(Environment::named));
        Set { base: base::busybox(), flags, ..Set::new(&["owners"]) }
            .is_the_same_in(&EACH_MODE.map(Environment::named));
    }
}

/// One place for each mode, and for each kind of it that installs packages in another way.
const EACH_MODE: [&str; 4] = ["host-subuid", "host-nosubuid", "docker-default", "k8s-hostusers-false"];

#[test]
fn installed_packages_are_the_same_in_every_mode() {
    if can_be_made() && can_install() {
        Set { base: base::debian(), ..Set::new(&["packages"]) }.is_the_same_in(&EACH_MODE.map(Environment::named));
    }
}
