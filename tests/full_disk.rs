//! A disk that is full: the build ends in words, and what was there before still is.

mod support;

use std::process::Command;
use std::time::Duration;

use support::registry::{Act, Registry};
use support::{User, base, noise, root};

/// Runs a script as an ordinary user whose store lies on a file system of 20 MB; `None` where that cannot be.
fn with_a_small_disk(user: &User, script: &str) -> Option<String> {
    let store = user.store();
    let prepared = format!(
        "set -e; mkdir -p {store}; mount -t tmpfs -o size=20m,mode=777 tmpfs {store}; \
         exec {as_user} --home {home} -- sh -c '{script}'",
        store = store.display(),
        as_user = root().join("scripts/as-user").display(),
        home = user.home().display(),
    );
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &prepared]).output().ok();
    let said = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr));
    match said {
        Some(said) if said.contains("ready\n") => Some(said),
        other => {
            assert!(std::env::var_os("CI").is_none(), "no small disk: {other:?}");
            eprintln!("skipped: only root can mount a small disk: {other:?}");
            None
        }
    }
}

#[test]
fn a_build_that_fills_the_disk_tags_nothing_and_breaks_nothing() {
    let user = User::new();
    let context = user.new_dir();
    std::fs::write(context.join("big"), noise(40 << 20)).expect("room for the context");
    std::fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY big /\n").expect("written");
    std::fs::write(context.join("old"), "FROM busybox\nENV A=1\n").expect("written");
    let script = format!(
        "echo ready; c={program}; cd {context}; \
         $c pull oci:{base}; echo pulled $?; \
         $c build -q -t old -f old .; echo old $?; \
         $c build -t big .; echo big $?; \
         $c inspect big; echo inspect $?; \
         $c push old oci:{context}/out; echo push $?; \
         ls {store}/tmp | wc -l | sed \"s/^/left /\"",
        program = env!("CARGO_BIN_EXE_coracle"),
        context = context.display(),
        base = base::busybox().display(),
        store = user.store().display(),
    );
    let Some(said) = with_a_small_disk(&user, &script) else { return };
    for line in ["pulled 0\n", "old 0\n", "big 5\n", "coracle prune", "inspect 1\n", "push 0\n", "left 0\n"] {
        assert!(said.contains(line), "no `{line}` in {said}");
    }
}

#[test]
fn what_fills_the_disk_is_not_kept() {
    let registry = Registry::new();
    let (large, slow) = (noise(40 << 20), noise(9 << 20));
    registry.image("large", "1", "linux/amd64", &large);
    registry.image("slow", "1", "linux/amd64", &slow);
    registry.fault("GET", "/v2/slow/blobs/", u32::MAX, Act::Slow(200_000, Duration::from_millis(100)));
    let user = User::new();
    let script = format!(
        "echo ready; c={program}; p={store}/partial; cd {home}; \
         $c pull {large}; echo large $?; ls $p | wc -l | sed \"s/^/parts /\"; \
         $c pull {slow} & n=0; until [ -s \"$(echo $p/*)\" ] || [ $n -gt 100 ]; do n=$((n+1)); sleep 0.1; done; \
         head -c 30000000 /dev/zero >{store}/filler; wait $!; echo slow $?; rm {store}/filler; \
         ls $p | wc -l | sed \"s/^/then /\"; \
         mkdir -p $p; echo left >$p/{hex}; $c prune >/dev/null; ls $p | wc -l | sed \"s/^/kept /\"; \
         head -c 30000000 /dev/zero >{store}/filler; $c prune; ls $p | wc -l | sed \"s/^/gone /\"",
        program = env!("CARGO_BIN_EXE_coracle"),
        store = user.store().display(),
        home = user.home().display(),
        large = registry.name("large:1"),
        slow = registry.name("slow:1"),
        hex = "ab".repeat(32),
    );
    let Some(said) = with_a_small_disk(&user, &script) else { return };
    for line in ["large 5\n", "parts 0\n", "slow 5\n", "then 0\n", "kept 1\n", "gone 0\n", "No space left"] {
        assert!(said.contains(line), "no `{line}` in {said}");
    }
}

#[test]
fn an_export_of_caches_that_does_not_fit_leaves_the_one_before() {
    let user = User::new();
    let context = user.new_dir();
    std::fs::write(context.join("big"), noise(12 << 20)).expect("room for the context");
    let lines = "FROM busybox\nRUN --mount=type=bind,target=/x --mount=type=cache,target=/c cp /x/big /c/big\n";
    std::fs::write(context.join("Dockerfile"), lines).expect("written");
    let script = format!(
        "echo ready; export CORACLE_ROOT={context}/root; c={program}; cd {context}; \
         $c pull oci:{base}; echo pulled $?; \
         $c build -q .; echo built $?; \
         $c cache export {disk}/F; echo first $?; \
         $c cache export {disk}/F; echo second $?; \
         $c cache export {disk}/folder/; echo third $?; \
         $c cache rm --all; \
         $c cache import {disk}/F; echo import $?; \
         find {disk} -name *.tmp | wc -l | sed \"s/^/left /\"",
        program = env!("CARGO_BIN_EXE_coracle"),
        context = context.display(),
        base = base::busybox().display(),
        disk = user.store().display(),
    );
    let Some(said) = with_a_small_disk(&user, &script) else { return };
    for line in ["pulled 0\n", "built 0\n", "first 0\n", "second 5\n", "third 5\n", "import 0\n", "left 0\n"] {
        assert!(said.contains(line), "no `{line}` in {said}");
    }
}
