//! What `coracle doctor` says about this machine, to people and to scripts.

mod support;

use serde_json::Value;
use support::{User, schema};

const PROGRAM: &str = env!("CARGO_BIN_EXE_coracle");

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn it_names_the_store_and_every_check() {
    let user = User::new();
    let said = user.coracle(["doctor"]).run().succeeds();
    let store = format!("store    {}\n", user.store().display());
    assert!(said.stdout.starts_with(&store), "{said}");
    said.stdout_has("\nmode     ");
    assert!(!user.store().exists(), "doctor makes no store");
}

#[test]
fn its_json_is_as_the_document_says_whatever_it_finds() {
    let schema = schema::of(include_str!("../docs/doctor.md"));
    for user in [User::new(), User::without_subids()] {
        let said = json(&user.coracle(["doctor", "--json"]).run().succeeds().stdout);
        schema::check(&schema, &said).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert_eq!(said["store"], user.store().to_str().unwrap());
        let mode = said["mode"].as_str().unwrap();
        assert_eq!(said["fix"].is_null(), said["blocker"].is_null(), "{said}");
        let rungs = said["rungs"].as_array().unwrap();
        let names: Vec<_> = rungs.iter().map(|rung| rung["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["full-map", "single-id", "chroot"], "all of them, best first");
        // The first one that works is the mode.
        let works =
            rungs.iter().find(|rung| rung["works"] == true).map_or("none", |rung| rung["name"].as_str().unwrap());
        assert_eq!(works, mode, "{said}");
        for rung in rungs {
            assert_eq!(rung["seen"].is_null(), rung["works"] == true, "{rung}");
        }
        let checks = said["checks"].as_array().unwrap();
        assert!(!checks.is_empty());
        for check in checks {
            let status = check["status"].as_str().unwrap();
            assert_eq!(check["seen"].is_null(), status == "ok", "{check}");
            assert_eq!(check["next"].is_null(), status == "ok", "{check}");
        }
    }
}

#[test]
fn without_subordinate_ids_it_says_what_to_do() {
    let user = User::without_subids();
    let said = user.coracle(["doctor"]).run().succeeds();
    said.stdout_has("\nmode     user namespace, one id, owners emulated\n")
        .stdout_has("\nbetter   no full id map: user dev has no range in /etc/subuid\n")
        .stdout_has("\nfix      ")
        .stdout_has("refused  full id map: user dev has no range in /etc/subuid\n");
    let said = json(&user.coracle(["doctor", "--json"]).run().succeeds().stdout);
    let fix = said["fix"].as_str().unwrap();
    // Another one in a container than on a machine of one's own.
    assert!(fix.contains("--add-subuids") || fix.contains("/etc/subuid"), "{said}");
    assert!(said["blocker"].as_str().unwrap().contains("/etc/subuid"), "{said}");
}

#[test]
fn without_a_home_it_still_tells_the_rest() {
    let user = User::new();
    let call = |args: &str| user.tool(&format!("env -u HOME {PROGRAM} doctor {args}")).run().succeeds();
    call("").stdout_has("store    none: ").stdout_has("HOME is not set").stdout_has("\nmode     ");
    let said = json(&call("--json").stdout);
    assert!(said["store"].is_null() && said["checks"].is_array(), "{said}");
}
