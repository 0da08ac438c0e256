//! Several processes at once on one store.

mod support;

use std::thread;

use support::{Project, User};

#[test]
fn eight_builds_and_a_prune_on_one_store() {
    let user = User::with_busybox();
    let projects: Vec<_> = (0..8)
        .map(|number| {
            let lines = format!("FROM busybox\nRUN echo same >/same\nRUN echo {number} >/own && sleep 0.{number}\n");
            Project::of(&user).named(&format!("image-{number}:1")).file("Dockerfile", lines)
        })
        .collect();
    thread::scope(|scope| {
        for project in &projects {
            scope.spawn(|| project.build().succeeds());
        }
        scope.spawn(|| user.coracle(["prune"]).run().succeeds());
    });
    for (number, project) in projects.iter().enumerate() {
        project.image().has_file("same", "same\n").has_file("own", &format!("{number}\n"));
    }
}

#[test]
fn pulls_of_one_image_at_the_same_time() {
    let user = User::new();
    let busybox = support::base::busybox();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| user.pull(&busybox));
        }
    });
    Project::of(&user).dockerfile("FROM busybox\nRUN true").build().succeeds();
}

#[test]
fn tags_of_many_processes_are_all_kept() {
    let user = User::with_busybox();
    thread::scope(|scope| {
        for thread in 0..4 {
            let user = &user;
            scope.spawn(move || {
                for number in 0..5 {
                    user.coracle(["tag", "busybox", &format!("tag-{thread}-{number}:1")]).run().succeeds();
                }
            });
        }
    });
    let listed = user.coracle(["images"]).run().succeeds().stdout;
    assert_eq!(listed.matches("tag-").count(), 20, "{listed}");
}
