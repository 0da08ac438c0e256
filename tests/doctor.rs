//! What `coracle doctor` says about this machine, to people and to scripts.

mod support;

use serde_json::Value;
use support::User;

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
fn its_json_has_the_same_fields_whatever_it_finds() {
    for user in [User::new(), User::without_subids()] {
        let said = json(&user.coracle(["doctor", "--json"]).run().succeeds().stdout);
        assert_eq!(said["version"], 1);
        assert_eq!(said["store"], user.store().to_str().unwrap());
        // There is a mode, or what is in its way.
        assert_ne!(said["mode"].is_null(), said["blocker"].is_null(), "{said}");
        let checks = said["checks"].as_array().unwrap();
        assert!(!checks.is_empty());
        for check in checks {
            for field in ["name", "since", "used_for", "status"] {
                assert!(check[field].is_string(), "{field} in {check}");
            }
            let status = check["status"].as_str().unwrap();
            assert!(["ok", "fallback", "missing"].contains(&status), "{check}");
            assert_eq!(check["seen"].is_null(), status == "ok", "{check}");
            assert_eq!(check["next"].is_null(), status == "ok", "{check}");
        }
    }
}

#[test]
fn without_subordinate_ids_it_says_what_to_do() {
    let user = User::without_subids();
    let said = user.coracle(["doctor"]).run().succeeds();
    said.stdout_has("mode     none: no build is possible here yet").stdout_has("\nblocker  ").stdout_has("\nfix      ");
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
