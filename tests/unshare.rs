//! `coracle unshare` and `coracle info`.

mod support;

use support::User;

#[test]
fn a_command_has_the_ids_that_steps_have_and_mounts_of_its_own() {
    let user = User::with_busybox();
    let line = "id -u && mkdir m && chown 12:34 m && stat -c %u:%g m && mount -t tmpfs none m && touch m/x && ls m; echo bye >&2; exit 7";
    let outcome = user.coracle(["unshare", "sh", "-c", line]).within(user.home()).run().fails(7);
    assert_eq!(outcome.stdout, "0\n12:34\nx\n");
    // The mount was the command's own, and the folder belongs to an id that it has only in there.
    assert!(std::fs::read_dir(user.home().join("m")).unwrap().next().is_none());
    user.coracle(["unshare", "rm", "-r", "m"]).within(user.home()).run().succeeds();
    user.coracle(["unshare", "nothing-of-that-name"])
        .env("PATH", "/usr/bin:/bin")
        .run()
        .fails(127)
        .stderr_has("cannot start \"nothing-of-that-name\"");
    user.coracle(["unshare", "/etc/passwd"]).run().fails(126).stderr_has("Permission denied");
    let shell = user.coracle(["unshare"]).env("SHELL", "/bin/echo").run().succeeds();
    assert_eq!(shell.stdout, "\n");
}

#[test]
fn without_subordinate_ids_there_is_one_id_and_a_warning() {
    let user = User::without_subids();
    let outcome = user.coracle(["unshare", "sh", "-c", "id -u; cat /proc/self/uid_map | wc -l"]).run().succeeds();
    assert_eq!(outcome.stdout, "0\n1\n");
    outcome.stderr_has("the command has one id").stderr_has("hint:");
}

#[test]
fn info_shows_the_store_and_what_a_build_will_use() {
    let user = User::with_busybox();
    let json = user.coracle(["info", "--json"]).run().succeeds().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["store"]["root"], user.store().to_str().unwrap());
    assert_eq!((&json["store"]["images"], &json["run"]), (&1.into(), &true.into()));
    assert!(
        json["store"]["bytes"].as_u64() > Some(100_000) && json["host"]["memory"]["total"].as_u64() > Some(1 << 20)
    );
    let one = user.coracle(["info", "--format", "{{.store.images}} {{.host.os}}"]).run().succeeds();
    assert_eq!(one.stdout, "1 linux\n");
    let lines = user.coracle(["info"]).run().succeeds().stdout;
    assert!(
        lines.contains("\nmode      user namespace") && lines.contains("\nimages    1, all of the store "),
        "{lines}"
    );
    user.coracle(["info", "--format", "{{.nothing}}"]).run().fails(2).stderr_has("there is no field");
}
