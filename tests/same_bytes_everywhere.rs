//! The same bytes in every environment: the Dockerfiles of tests/same_bytes, built wherever a RUN step is possible. What is
//! different between two images is shown by tests/environments/canon.
//!
//! Needs root and runc; the set of packages (tests/same_bytes/packages.Dockerfile) a network that reaches the archive of
//! Debian too, and the image debian:bookworm-slim of `make fixtures`.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use support::environment::{Call, ENVIRONMENTS, Environment, Visit, can_be_made, in_each};
use support::{base, nodes, root, set_mode};

/// A context with the Dockerfiles, and a base image beside it.
struct Set {
    dir: tempfile::TempDir,
    base: PathBuf,
    /// What pulls the base image.
    pull: &'static str,
    /// Dockerfiles of tests/same_bytes, without their ending.
    files: Vec<&'static str>,
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
        Set { dir, base, pull: "coracle pull oci:/base", files: files.into() }
    }

    /// Builds all of it in one place.
    fn build(&self, place: Environment) -> BTreeMap<String, Call> {
        let mut visit = self.visit().call("pull", self.pull);
        for name in &self.files {
            visit = visit
                .call(name, &format!("coracle build --progress plain -f /context/{name}.Dockerfile /context/files"));
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
                "coracle build --progress plain -f /context/{name}.Dockerfile -o type=oci,dest=/out/{name}.tar /context/files"
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
        let mut wrong = String::new();
        for (place, found) in &all {
            for name in ["pull"].iter().chain(&self.files) {
                let built = found[*name].digest();
                if let Err(problem) = built {
                    let _ = writeln!(wrong, "{name} in {}: {problem}", place.title());
                } else if *name != "pull" && built.ok() != reference[*name].digest().ok() {
                    let difference = self.difference(name, [*first, *place]);
                    let _ = writeln!(wrong, "{name} in {} and in {}:\n{difference}", first.title(), place.title());
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    }
}

fn difference(archives: &[PathBuf; 2]) -> String {
    let canon = |times: &[&str]| {
        let mut command = Command::new(root().join("tests/environments/canon"));
        let output = command.args(times).arg("--diff").args(archives).output().expect("canon runs");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let all = canon(&[]);
    if all.is_empty() { canon(&["--mtime"]) } else { all }
}

/// The places where a RUN step is possible; the first is the reference.
fn places() -> Vec<Environment> {
    ENVIRONMENTS.into_iter().filter(|place| place.mode.runs()).collect()
}

#[test]
fn owners_files_links_and_removals_are_the_same_in_every_environment() {
    if !can_be_made() {
        return;
    }
    let mut set = Set::new(&["devices", "files", "links", "removal"]);
    set.pull = "coracle pull oci:/base nodes";
    nodes::layout(&set.base);
    set.is_the_same_in(&places());
    let set = Set { base: base::busybox(), ..Set::new(&["owners"]) };
    set.is_the_same_in(&places());
}
