//! Git repositories that are made to write and read outside of themselves.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::repositories::{Server, commit, commit_tree, git, object, tree};
use support::{Outcome, Project, User};

/// A server with a folder beside its repositories that is nobody's business, and a repository to put there.
fn server() -> (Server, PathBuf, String) {
    let server = Server::new();
    let payload = server.repository("payload", &[("authorized_keys", "theirs"), ("new", "theirs")]);
    let victim = server.dir.path().join("victim");
    fs::create_dir(&victim).expect("a folder");
    fs::write(victim.join("authorized_keys"), "mine").expect("a file");
    for (path, mode) in [("victim", 0o777), ("victim/authorized_keys", 0o666)] {
        support::set_mode(&server.dir.path().join(path), mode);
    }
    let id = git(&payload, &["rev-parse", "HEAD"]);
    (server, victim, id)
}

fn is_untouched(victim: &Path) {
    assert_eq!(fs::read_to_string(victim.join("authorized_keys")).expect("a file"), "mine");
    assert_eq!(fs::read_dir(victim).expect("a folder").count(), 1);
}

fn adding(url: &str) -> Project {
    Project::of(&User::new()).dockerfile(&format!("FROM scratch\nADD {url} /c/\n"))
}

fn building(url: &str) -> Outcome {
    User::new().coracle(["build", "--progress", "plain", url]).run()
}

#[test]
fn a_submodule_goes_through_no_link_and_to_no_other_place() {
    if !support::require_tool("git") {
        return;
    }
    let (server, victim, payload) = server();
    let repository = server.repository("evil", &[("Dockerfile", "FROM scratch\nCOPY . /\n")]);
    let link = object(&repository, "blob", victim.to_str().expect("UTF-8").as_bytes());
    let file = git(&repository, &["rev-parse", "HEAD:Dockerfile"]);
    let mut modules = String::new();
    for (name, path) in ["d", "d/m", "..", "../victim", ".git", ".GIT/hooks", "m"].iter().enumerate() {
        modules += &format!("[submodule \"{name}\"]\n\tpath = {path}\n\turl = ../payload\n");
    }
    let modules = object(&repository, "blob", modules.as_bytes());
    let inner = |entries: &[(&str, &str, &str)]| tree(&repository, entries);
    let m = inner(&[("160000", "m", &payload)]);
    let deep = inner(&[("160000", "victim", &payload)]);
    let hooks = inner(&[("160000", "hooks", &payload)]);
    for entries in [
        &[("160000", "d", payload.as_str()), ("120000", "d", &link)][..],
        &[("120000", "d", &link), ("160000", "d", &payload)],
        &[("120000", "d", &link), ("40000", "d", &m)],
        &[("40000", "d", &m), ("120000", "d", &link)],
        &[("120000", "d", &link), ("160000", "d/m", &payload)],
        &[("160000", "d", &payload), ("40000", "d", &m)],
        &[("160000", "..", &payload)],
        &[("40000", "..", &deep)],
        &[("160000", ".git", &payload)],
        &[("40000", ".GIT", &hooks)],
    ] {
        let whole = [&[("100644", ".gitmodules", &modules[..]), ("100644", "Dockerfile", &file)], entries].concat();
        commit_tree(&repository, &tree(&repository, &whole));
        for parameters in ["", "?keep-git-dir=1"] {
            let url = format!("{}{parameters}", server.url("evil"));
            adding(&url).build().fails(3).stderr_has("is not checked out");
            building(&url).fails(3).stderr_has("is not checked out");
            is_untouched(&victim);
        }
    }
    // And one that is a submodule itself.
    let outer = server.repository("outer", &[("a", "a")]);
    let evil = git(&repository, &["rev-parse", "main"]);
    git(&outer, &["update-index", "--add", "--cacheinfo", &format!("160000,{evil},e")]);
    fs::write(outer.join(".gitmodules"), "[submodule \"e\"]\n\tpath = e\n\turl = ../evil\n").expect("a file");
    git(&outer, &["add", ".gitmodules"]);
    git(&outer, &["commit", "--quiet", "-m", "link"]);
    adding(&server.url("outer")).build().fails(3).stderr_has("is not checked out");
    is_untouched(&victim);
}

#[test]
fn a_directory_of_a_repository_is_never_one_of_this_machine() {
    if !support::require_tool("git") {
        return;
    }
    let (server, victim, _) = server();
    let repository = server.repository("evil", &[("a", "a")]);
    let link = object(&repository, "blob", victim.to_str().expect("UTF-8").as_bytes());
    let [first, file] = ["HEAD", "HEAD:a"].map(|name| git(&repository, &["rev-parse", name]));
    let d = tree(&repository, &[("100644", "x", &file)]);
    let (link, d) = (("120000", "d", link.as_str()), ("40000", "d", d.as_str()));
    for (entries, says) in [([link, d], "no directory \"d\""), ([d, link], "\"d\": it is there twice")] {
        commit_tree(&repository, &tree(&repository, &entries));
        let outcome = adding(&format!("{}#main:d", server.url("evil"))).build();
        assert!(matches!(outcome.code(), Some(3 | 4)));
        outcome.stderr_has(says);
    }
    std::os::unix::fs::symlink(&victim, repository.join("link")).expect("a link");
    git(&repository, &["update-ref", "refs/heads/main", &first]);
    commit(&repository, &[("sub/a", "a")]);
    adding(&format!("{}#main:link", server.url("evil"))).build().fails(4).stderr_has("no directory \"link\"");
    is_untouched(&victim);
}
