//! Users, groups and owners.

mod support;

use support::Project;

/// What `id` says in a step after these lines.
fn id(lines: &str) -> String {
    let dockerfile = format!("FROM busybox\n{lines}\nRUN echo $(id -u):$(id -g):$(id -G | tr ' ' ,) $HOME >/tmp/id\n");
    Project::new().file("Dockerfile", dockerfile).build().succeeds().text("tmp/id").trim().to_string()
}

// Rule 30.
#[test]
fn user_gives_ids_groups_and_home() {
    let cases = [
        ("", "0:0:0,10 /root"),
        ("USER www-data", "33:33:33 /var/www"),
        ("USER 33", "33:33:33 /var/www"),
        ("USER 1234", "1234:0:0 /"),
        ("USER 1234:5678", "1234:5678:5678 /"),
        ("USER www-data:staff", "33:50:50 /var/www"),
        ("RUN echo more:x:77:www-data >>/etc/group\nUSER www-data", "33:33:33,77 /var/www"),
    ];
    for (lines, expected) in cases {
        assert_eq!(id(lines), expected, "{lines}");
    }
}

#[test]
fn an_unknown_user_is_an_error_where_it_matters() {
    Project::new().dockerfile("FROM busybox\nUSER nobody-at-all\nENV A=1").build().succeeds();
    let failed = Project::new().dockerfile("FROM busybox\nUSER nobody-at-all\nRUN true").build().fails_cleanly();
    failed.stderr_has("nobody-at-all").stderr_has("Dockerfile:3");
}

// Rule 29.
#[test]
fn every_new_level_of_a_working_directory_belongs_to_the_user() {
    let image = Project::new().dockerfile("FROM busybox\nUSER www-data\nWORKDIR /a/b\nRUN touch f").build().succeeds();
    image.has_owner("a", "33:33", 0o755).has_owner("a/b", "33:33", 0o755).has_owner("a/b/f", "33:33", 0o644);
    // A number alone is both, as for --chown, whatever /etc/passwd says of it.
    let cases = [
        ("USER 1234", "1234:1234"),
        ("RUN echo a:x:77:5::/:/bin/sh >>/etc/passwd\nUSER 77", "77:77"),
        ("RUN echo a:x:77:5::/:/bin/sh >>/etc/passwd\nUSER a", "77:5"),
        ("USER 1234:5", "1234:5"),
        ("USER 33:staff", "33:50"),
        ("USER 0", "0:0"),
    ];
    for (before, owner) in cases {
        let dockerfile = format!("FROM busybox\n{before}\nWORKDIR /a/b\n");
        let image = Project::new().file("Dockerfile", dockerfile).build().succeeds();
        image.has_owner("a", owner, 0o755).has_owner("a/b", owner, 0o755);
    }
}

// Rule 11.
#[test]
fn chown_takes_names_of_the_image_and_numbers() {
    let cases = [
        ("busybox", "www-data", "33:33"),
        ("busybox", "www-data:staff", "33:50"),
        ("busybox", "12", "12:12"),
        ("busybox", "12:34", "12:34"),
        ("scratch", "40000:5", "40000:5"),
    ];
    for (base, chown, owner) in cases {
        let dockerfile = format!("FROM {base}\nCOPY --chown={chown} f /f\n");
        let built = Project::new().file("f", "").file("Dockerfile", dockerfile).build();
        built.succeeds().has_owner("f", owner, 0o644);
    }
}

// Rule 11: no silent root.
#[test]
fn a_name_that_the_image_does_not_know_is_an_error() {
    for (base, name) in [("busybox", "stranger"), ("busybox", "0:strangers"), ("scratch", "www-data")] {
        let dockerfile = format!("FROM {base}\nCOPY --chown={name} f /f\n");
        let failed = Project::new().file("f", "").file("Dockerfile", dockerfile).build().fails_cleanly();
        failed.stderr_has("Dockerfile:2");
    }
}

#[test]
fn a_step_may_become_another_user() {
    let image = Project::new()
        .dockerfile(
            "
            FROM busybox
            RUN echo app:x:1000:1000::/home/app:/bin/sh >>/etc/passwd && mkdir /home/app && chown app:1000 /home/app
            RUN su app -c 'id -u >/home/app/id' && su app -c 'cat /etc/shadow' && exit 1 || true
            ",
        )
        .build()
        .succeeds();
    image.has_file("home/app/id", "1000\n").has_owner("home/app/id", "1000:1000", 0o644);
}

#[test]
fn an_id_that_the_user_has_not_is_emulated() {
    let built = Project::new().dockerfile("FROM busybox\nRUN touch /f && chown 100000 /f").build();
    built
        .stderr_has("owners emulated (no full id map: the id 100000 is not in it)")
        .succeeds()
        .has_owner("f", "100000:0", 0o644);
}
