//! What is possible where: every place of tests/environments, with what doctor says there, whether a RUN step works, and that
//! the image is the same wherever it does. docs/environments.md is written from this, by UPDATE_DOCS=1.
//!
//! Needs root and runc.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;
use support::environment::{Call, ENVIRONMENTS, Environment, Mode, Visit, can_be_made, in_each};
use support::{root, tool};

/// No RUN, but all else: stages, owners, modes, links.
const COPY_ONLY: &str = "\
FROM busybox AS made
WORKDIR /made/by/workdir
COPY . .
COPY --chown=33:44 --chmod=4755 one /owned
FROM busybox
LABEL made=here
COPY --from=made /made /made
COPY --from=made /owned /etc/passwd /copied/
CMD [\"true\"]
";

/// Owners, modes and types that lie on disk in another way in each mode. No device: a full map of ids is left for those.
const WITH_RUN: &str = "\
FROM busybox
COPY --chown=33:44 one /w/one
RUN mkdir -p /w/a/b && echo x >/w/a/b/c && chown -R 7:8 /w/a && chmod 4755 /w/a/b/c && ln -s c /w/a/b/l \\
 && chown -h 9:9 /w/a/b/l && mkfifo /w/p && chown 5 /w/p && ln /w/a/b/c /w/hard
RUN rm -rf /w/a/b && mkdir /w/a/b && echo new >/w/a/b/new && rm /w/one
USER www-data
RUN id >/tmp/id
";

/// What was found in one place.
type Found = BTreeMap<String, Call>;

fn look(place: Environment, context: &Path) -> Found {
    let build = |file: &str| format!("coracle build --progress plain -f /context/{file} /context/files");
    place.visit(
        &Visit::with_busybox(context)
            .call("doctor", "coracle doctor --json")
            .call("version", "coracle version")
            .call("pull", "coracle pull oci:/base")
            .call("copy", &build("Dockerfile.copy"))
            .call("run", &build("Dockerfile.run"))
            .call("again", &build("Dockerfile.copy"))
            .call("images", "coracle images"),
    )
}

#[test]
fn every_environment_gives_what_is_promised() {
    if !can_be_made() {
        return;
    }
    let context = tempfile::tempdir_in("/var/tmp").expect("a folder on the disk");
    let files = context.path().join("files");
    fs::create_dir_all(files.join("dir")).expect("a folder");
    for (path, text) in
        [("files/one", "one"), ("files/dir/two", "two"), ("Dockerfile.copy", COPY_ONLY), ("Dockerfile.run", WITH_RUN)]
    {
        fs::write(context.path().join(path), text).expect("a file");
    }
    std::os::unix::fs::symlink("dir/two", files.join("link")).expect("a link");
    support::set_mode(context.path(), 0o755);

    let all = in_each(&ENVIRONMENTS, |place| look(place, context.path()));
    let mut wrong = Vec::new();
    for (place, found) in &all {
        for problem in problems(*place, found) {
            wrong.push(format!("{}: {problem}", place.title()));
        }
    }
    // The same bytes everywhere.
    for name in ["copy", "run"] {
        let digests: BTreeSet<&str> = all.iter().filter_map(|(_, found)| found[name].digest().ok()).collect();
        if digests.len() > 1 {
            let each: Vec<String> = all
                .iter()
                .map(|(place, found)| format!("  {:?} {}", found[name].digest().ok(), place.title()))
                .collect();
            wrong.push(format!("the image of {name} is not the same everywhere:\n{}", each.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    check_document(&document(&all));
}

/// Returns what is not as it should be in one place.
fn problems(place: Environment, found: &Found) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in ["doctor", "version", "pull", "copy", "again", "images"] {
        if found[name].status != 0 {
            wrong.push(format!("{name}: {}", found[name]));
        }
    }
    match mode(&found["doctor"]) {
        Ok(mode) if mode == place.mode.word() => {}
        Ok(mode) => wrong.push(format!("doctor says {mode}, not {}", place.mode.word())),
        Err(problem) => wrong.push(problem),
    }
    if found["copy"].stdout != found["again"].stdout {
        wrong.push("the second build of the same files made another image".into());
    }
    let run = &found["run"];
    match place.mode {
        Mode::None { call, errno } => {
            let says = |text: &str| run.stderr.contains(text);
            // Its own line is the first RUN that cannot be done, and nothing was begun before.
            if run.status != 6 || !says(call) || !says(errno) || !says("Dockerfile.run:3") || !says("hint: ") {
                wrong.push(format!("a RUN step is not refused with exit status 6, call and line: {run}"));
            }
            if says("#1 ") {
                wrong.push(format!("something was done before the refusal: {run}"));
            }
        }
        _ if run.status != 0 => wrong.push(format!("a RUN step fails: {run}")),
        _ if run.lines("isolation: ").count() != 1 => wrong.push(format!("there is no line about the mode: {run}")),
        _ => {}
    }
    wrong
}

/// Returns the mode that doctor tells, as the word in our table.
fn mode(doctor: &Call) -> Result<&'static str, String> {
    let said: Value = serde_json::from_str(&doctor.stdout).map_err(|error| format!("doctor: {error}: {doctor}"))?;
    Ok(match said["mode"].as_str() {
        Some("full-map") => "full map",
        Some("single-id") => "single id",
        Some("chroot") => "chroot",
        Some("none") | None => "none",
        Some(other) => return Err(format!("doctor says {other:?}, which the table does not know")),
    })
}

/// Returns docs/environments.md.
fn document(all: &[(Environment, Found)]) -> String {
    let mut text = String::from(
        "# What works where\n\n\
         Written by `UPDATE_DOCS=1 cargo test --test environments` from what was found; the test compares. The places are those of\n\
         `tests/environments/in-env`: simulated with the real seccomp profiles, without AppArmor and SELinux.\n\n\
         - **full map**: a user namespace with many ids. **single id**: one with the caller's id alone; owners are emulated.\n\
         - **chroot**: as root, where namespaces are refused; no boundary around a step (`docs/security.md`).\n\
         - **none**: no RUN. Builds without RUN work everywhere, and so does every verb but `run` and `unshare`.\n\
         - \"no volume\": the store lies on the overlay of the container.\n\n\
         Where a RUN works the image is the same, to the byte.\n\n\
         | environment | what it stands for | mode | RUN | warnings, or what would help |\n| --- | --- | --- | --- | --- |\n",
    );
    let about = about();
    let mut notes: Vec<String> = Vec::new();
    for (place, found) in all {
        let run = &found["run"];
        let can = match place.mode {
            Mode::None { call, errno } => format!("`{call}`: {errno}"),
            _ => "yes".into(),
        };
        let said: Vec<&str> = if place.mode.runs() {
            run.lines("warning: ").collect()
        } else {
            run.stderr.lines().filter_map(|line| line.split_once("hint: ").map(|(_, hint)| hint)).collect()
        };
        let numbers = said.into_iter().map(|note| number_of(without_measures(note), &mut notes).to_string());
        let numbers = numbers.collect::<Vec<_>>().join(", ");
        let what = cell(about.get(place.name).map_or("", String::as_str));
        let _ = writeln!(text, "| {} | {what} | {} | {can} | {numbers} |", place.title(), place.mode.word());
    }
    text.push_str("\nIn their own words:\n\n");
    for (at, note) in notes.iter().enumerate() {
        let _ = writeln!(text, "{}. {note}", at + 1);
    }
    text
}

/// Returns the number of a note, which is added where it is new.
fn number_of(note: String, notes: &mut Vec<String>) -> usize {
    let at = notes.iter().position(|known| *known == note).unwrap_or_else(|| {
        notes.push(note);
        notes.len() - 1
    });
    at + 1
}

/// Leaves out what differs from run to run: what a copy of the files costs, and names of temporary folders.
fn without_measures(text: &str) -> String {
    let cost = text.find(": 1 MB in ").zip(text.find(" s for this one"));
    let text = match cost {
        Some((from, to)) => format!("{}{}", &text[..from], &text[to + " s for this one".len()..]),
        None => text.to_owned(),
    };
    let mut words = text.split("/work/store/tmp/");
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, rest| {
        text + "/work/store/tmp/…" + rest.find(['-', '"']).map_or("", |at| &rest[rest.find("-upper").unwrap_or(at)..])
    })
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// What `in-env --list` says of each place.
fn about() -> BTreeMap<String, String> {
    let list =
        std::process::Command::new(root().join("tests/environments/in-env")).arg("--list").output().expect("in-env");
    let list = String::from_utf8(list.stdout).expect("text");
    list.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, about)| (name.into(), about.trim().into()))
        .collect()
}

fn check_document(text: &str) {
    let path = root().join("docs/environments.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, text).expect("a file of the project");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == text, "docs/environments.md is not what was found: run the test with UPDATE_DOCS=1");
}

#[test]
fn the_table_has_every_environment() {
    if tool("python3").is_none() {
        return;
    }
    let listed: BTreeSet<String> = about().into_keys().collect();
    let tested: BTreeSet<String> = ENVIRONMENTS.iter().map(|place| place.name.to_owned()).collect();
    assert_eq!(listed, tested);
}
