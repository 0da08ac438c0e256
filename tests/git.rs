//! Git repositories: as contexts, and as sources of ADD.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::repositories::{Server, commit, git};
use support::web::{Answer, Web};
use support::{Image, Outcome, Project, User};

fn adding(flags: &str, address: &str) -> Project {
    Project::of(&User::new()).dockerfile(&format!("FROM scratch\nADD {flags} {address} /c/\n"))
}

fn build(user: &User, context: &str) -> Outcome {
    user.coracle(["build", "--progress", "plain", "--timestamp", "0", "-t", "web", context]).run()
}

#[test]
fn a_repository_is_a_context_at_a_branch_a_tag_or_a_commit() {
    if !support::require_tool("git") {
        return;
    }
    let server = Server::new();
    let files = [
        ("Dockerfile", "FROM scratch\nCOPY . /c/\n"),
        ("a", "one"),
        ("run.sh", "#!/bin/sh"),
        ("dir/Dockerfile", "FROM scratch\nCOPY x /x\n"),
        ("dir/x", "inner"),
        (".dockerignore", "*.log\n"),
        ("b.log", ""),
    ];
    let repository = server.repository("web", &files);
    let first = git(&repository, &["rev-parse", "HEAD"]);
    git(&repository, &["tag", "-a", "v1", "-m", "first"]);
    git(&repository, &["branch", "old"]);
    commit(&repository, &[("a", "two")]);
    // The same files in a folder: with the modes that git gives them.
    let user = User::new();
    let project = files.iter().fold(Project::of(&user), |project, (name, text)| project.file(name, text));
    let project = project.mode("run.sh", 0o755).mode("dir", 0o755);
    let folder = build(&user, project.dir().to_str().expect("UTF-8")).succeeds().stdout;
    let url = server.url("web");
    for reference in ["old", "v1", "refs/heads/old", "refs/tags/v1", first.as_str()] {
        assert_eq!(build(&user, &format!("{url}#{reference}")).succeeds().stdout, folder, "{reference}");
    }
    let image = |context: &str| {
        build(&user, context).succeeds();
        Image::named(&user.layout(), "web:latest", Some(user.clone()))
    };
    image(&url).has_file("c/a", "two").has_no("c/.git").has_no("c/b.log");
    image(&format!("{url}#old:dir")).has_file("x", "inner").has_no("c");
    image(&format!("{url}?branch=old&subdir=dir")).has_file("x", "inner");
    build(&user, &format!("{url}#nothing")).fails(4).stderr_has("has no branch and no tag \"nothing\"");
    build(&user, &format!("{url}#old:nothing")).fails(4).stderr_has("no directory \"nothing\"");
    build(&user, &server.url("nothing")).fails(4).stderr_has("git cannot list the branches of");
    build(&user, &format!("{url}#{}", "0".repeat(40))).fails(4).stderr_has("has no commit");
}

#[test]
fn add_puts_the_files_of_a_commit_into_the_image() {
    if !support::require_tool("git") {
        return;
    }
    let server = Server::new();
    let repository = server.repository("lib", &[("a", "one"), ("run.sh", "x"), ("sub/b", "two")]);
    std::os::unix::fs::symlink("a", repository.join("link")).expect("a link");
    let first = commit(&repository, &[]);
    let url = server.url("lib");
    let project = adding("", &format!("{url}#main"));
    let image = project.build().cached(0).succeeds();
    image.has_file("c/a", "one").has_owner("c/a", "0:0", 0o644).has_owner("c/run.sh", "0:0", 0o755);
    image.has_link("c/link", "a").has_no("c/.git");
    assert_eq!(image.node("c/a").mtime, 1_700_000_000);
    project.build().cached(1).succeeds();
    adding("", &format!("{url}#main:sub")).build().succeeds().has_file("c/b", "two").has_no("c/a");
    adding(&format!("--checksum={first}"), &format!("{url}#main")).build().succeeds();
    adding(&format!("--checksum={}", &first[..12]), &format!("{url}#main")).build().succeeds();
    let second = commit(&repository, &[("a", "three")]);
    project.build().cached(0).succeeds().has_file("c/a", "three");
    let wrong = adding(&format!("--checksum={first}"), &format!("{url}#main")).build();
    wrong.fails(3).stderr_has(&first).stderr_has(&second).stderr_has("--> Dockerfile:2");
}

#[test]
fn a_commit_that_was_fetched_needs_no_network() {
    if !support::require_tool("git") {
        return;
    }
    let server = Server::new();
    let inner = server.repository("inner", &[("deep", "down")]);
    let repository = server.repository("lib", &[("a", "one")]);
    git(&repository, &["submodule", "--quiet", "add", inner.to_str().expect("text"), "module"]);
    let modules = fs::read_to_string(repository.join(".gitmodules")).expect("text");
    let url = modules.replace(inner.to_str().expect("text"), &server.url("inner"));
    let id = commit(&repository, &[(".gitmodules", &url)]);
    let user = User::new();
    let project = |flags: &str, reference: &str| {
        let address = server.url("lib");
        Project::of(&user).dockerfile(&format!("FROM scratch\nADD {flags} {address}{reference} /c/\n"))
    };
    let branch = project("", "#main");
    let pinned = [project("", &format!("#{id}")), project(&format!("--checksum={id}"), "")];
    branch.build().succeeds();
    pinned.iter().for_each(|project| drop(project.build().succeeds()));
    // Gone: whoever asks now learns it.
    let mut server = server;
    let _ = server.daemon.kill().and_then(|()| server.daemon.wait());
    let plan = |project: &Project| project.user().coracle(["build", "--plan"]).arg(project.dir()).run().succeeds();
    for project in pinned {
        project.build().cached(1).succeeds();
        project.clone().arg("--no-cache").build().succeeds().has_file("c/a", "one").has_file("c/module/deep", "down");
        plan(&project).stdout_has("1 hit, 0 miss, 0 unknown");
    }
    plan(&branch).stdout_has("0 hit, 0 miss, 1 unknown").stdout_has("#main is not known without asking for it");
    let outcome = branch.arg("--retry=0").build().fails(4);
    outcome.stderr_has("git cannot list the branches of");
}

#[test]
fn what_a_git_that_was_killed_has_locked_is_no_obstacle() {
    if !support::require_tool("git") {
        return;
    }
    let server = Server::new();
    let repository = server.repository("web", &[("Dockerfile", "FROM scratch\nCOPY . /c/\n"), ("a", "one")]);
    let user = User::new();
    build(&user, &server.url("web")).succeeds();
    let mirror = mirror(&user);
    let refs = mirror.join("refs/coracle");
    let names: Vec<_> = fs::read_dir(&refs).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(!names.is_empty());
    for locked in names.iter().chain(&[mirror.join("shallow"), mirror.join("packed-refs")]) {
        fs::write(locked.with_extension("lock"), "").unwrap();
    }
    commit(&repository, &[("a", "two")]);
    build(&user, &server.url("web")).succeeds();
    Image::named(&user.layout(), "web:latest", Some(user.clone())).has_file("c/a", "two");
}

#[test]
fn git_ends_with_whom_it_works_for() {
    if !support::require_tool("git") {
        return;
    }
    // It says nothing, for as long as anybody waits.
    let port = support::listen(|stream| {
        std::thread::sleep(Duration::from_secs(60));
        drop(stream);
    });
    let mark = format!("git://127.0.0.1:{port}/silent");
    let wait_for = |there: bool| {
        let since = Instant::now();
        let is_git = |line: &String| line.contains("ls-remote");
        while support::processes_with(&mark).iter().any(is_git) != there {
            assert!(since.elapsed() < Duration::from_secs(30), "{:?}", support::processes_with(&mark));
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let running = User::new().coracle(["build", &mark]).start();
    wait_for(true);
    running.signal(Signal::KILL);
    running.wait();
    wait_for(false);
}

/// The folder in which the one repository is kept that was fetched.
fn mirror(user: &User) -> PathBuf {
    let entries = fs::read_dir(user.store().join("cache/fetched/git")).unwrap().flatten();
    entries.map(|entry| entry.path()).find(|path| path.is_dir()).unwrap()
}

fn packs(mirror: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(mirror.join("objects/pack")).unwrap().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "pack")).collect()
}

/// Makes each object a file of its own, as older versions of coracle kept few of them.
const LOOSE: &str = "
    for pack in objects/pack/*.pack; do
        mv $pack aside && rm -f ${pack%.pack}.* && git unpack-objects -q <aside && rm -f aside
    done
";

/// Removes all objects but those of the types in $keep.
const KEEP: &str = "
    git cat-file --batch-check --batch-all-objects | while read id kind size; do
        case $keep in *$kind*) ;; *) rm -f objects/${id%${id#??}}/${id#??} ;; esac
    done
";

#[test]
fn what_an_interrupted_fetch_or_a_power_cut_has_left_is_no_obstacle() {
    if !support::require_tool("git") {
        return;
    }
    let server = Server::new();
    server.repository("lib", &[("a", "one"), ("d/b", "two"), ("d/e/c", "three")]);
    for damage in [
        &format!("{LOOSE} keep=commit {KEEP}"),
        &format!("{LOOSE} keep=commit,tree {KEEP}"),
        &format!("{LOOSE} for file in objects/??/*; do chmod 644 $file; : >$file; done"),
        "find . -mindepth 1 -maxdepth 1 ! -name HEAD -exec rm -rf {} +",
        ": >HEAD",
        "echo [ >config",
        "for file in objects/pack/*; do chmod 644 $file; : >$file; done",
    ] {
        let project = adding("", &server.url("lib#main"));
        project.build().succeeds();
        let mirror = mirror(project.user());
        let script = format!("cd {} && {damage}", mirror.display());
        project.user().tool("sh -c").arg(script).run().succeeds();
        let again = project.arg("--no-cache").build();
        println!("{damage}");
        again.succeeds().has_file("c/a", "one").has_file("c/d/b", "two").has_file("c/d/e/c", "three");
    }
}

#[test]
fn each_fetch_is_a_pack_and_many_packs_become_one_without_a_loss() {
    if !support::require_tool("git") {
        return;
    }
    let server = Server::new();
    let repository = server.repository("lib", &[("a", "one")]);
    let first = git(&repository, &["rev-parse", "HEAD"]);
    let project = adding("", &server.url("lib#main"));
    project.build().succeeds();
    let mirror = mirror(project.user());
    let names = |dir: &str| {
        let mut names: Vec<_> =
            fs::read_dir(mirror.join(dir)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("objects"), ["info", "pack"]);
    let pack = packs(&mirror).remove(0);
    for number in 0..60 {
        let copy = pack.with_file_name(format!("pack-{number:040x}.pack"));
        fs::copy(&pack, &copy).unwrap();
        fs::copy(pack.with_extension("idx"), copy.with_extension("idx")).unwrap();
    }
    let second = commit(&repository, &[("a", "two")]);
    project.build().succeeds().has_file("c/a", "two");
    assert_eq!(packs(&mirror).len(), 1);
    // No branch leads there any more, as far as is known here.
    for id in [first, second] {
        git(&mirror, &["rev-list", "--objects", "--no-walk", &id, "--"]);
    }
}

#[test]
fn the_folder_of_git_is_kept_where_it_is_asked_for_and_is_the_same_each_time() {
    if !support::require_tool("git") {
        return;
    }
    let server = Server::new();
    let repository = server.repository("lib", &[("a", "one")]);
    git(&repository, &["tag", "v1"]);
    let url = format!("{}#v1", server.url("lib"));
    let digests: Vec<String> = (0..2)
        .map(|_| {
            let built = adding("--keep-git-dir=true", &url).arg("--timestamp=0").build().succeeds();
            built
                .has_file("c/a", "one")
                .has_file("c/.git/HEAD", &format!("{}\n", git(&repository, &["rev-parse", "v1"])));
            assert!(built.text("c/.git/config").contains(&server.url("lib")));
            built.digest().to_owned()
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
    adding("", &format!("{}?keep-git-dir=1&tag=v1", server.url("lib"))).build().succeeds().has_dir("c/.git");
    let both = adding("--keep-git-dir=false", &format!("{}?keep-git-dir=1", server.url("lib"))).build().fails_cleanly();
    both.stderr_has("the URL says keep-git-dir=true, and the instruction --keep-git-dir=false");
}

#[test]
fn submodules_come_along() {
    if !support::require_tool("git") {
        return;
    }
    let server = Server::new();
    server.repository("inner", &[("deep", "deep")]);
    let middle = server.repository("middle", &[("m", "m")]);
    git(&middle, &["submodule", "--quiet", "add", "--", &server.url("inner"), "in"]);
    commit(&middle, &[]);
    let outer = server.repository("outer", &[("o", "o")]);
    git(&outer, &["submodule", "--quiet", "add", "--name", "mid", "--", &server.url("middle"), "lib/mid"]);
    git(&outer, &["config", "--file", ".gitmodules", "submodule.mid.url", "../middle"]);
    commit(&outer, &[]);
    let image = adding("", &server.url("outer")).build().succeeds();
    image.has_file("c/o", "o").has_file("c/lib/mid/m", "m").has_file("c/lib/mid/in/deep", "deep");
    image.has_no("c/lib/mid/.git");
    let without = adding("", &format!("{}?submodules=false", server.url("outer"))).build().succeeds();
    without.has_dir("c/lib/mid").has_no("c/lib/mid/m");
}

#[test]
fn nothing_that_an_address_or_a_repository_says_is_run_or_read() {
    if !support::require_tool("git") {
        return;
    }
    let server = Server::new();
    let canary = server.dir.path().join("canary");
    support::set_mode(server.dir.path(), 0o777);
    let touch = format!("touch {}", canary.display());
    let repository = server.repository("evil", &[("a", "one"), (".gitattributes", "* filter=evil\n")]);
    // Options in the place of a reference, a host, a path.
    for address in [
        format!("{}#--upload-pack={touch}", server.url("evil")),
        format!("{}#-x", server.url("evil")),
        "ssh://-oProxyCommand=touch/evil".to_owned(),
        "git@-oProxyCommand=touch:evil".to_owned(),
    ] {
        let user = User::new();
        assert!(matches!(build(&user, &address).code(), Some(2..=4)), "{address}");
        let built = adding("", &address.replace(' ', "${IFS}")).build();
        assert!(matches!(built.code(), Some(1..=4)), "{address}");
    }
    // What .gitmodules would have git's own command do.
    let modules =
        format!("[submodule \"x\"]\n\tpath = x\n\turl = {}\n\tupdate = !{touch}\n\tignore = all\n", server.url("evil"));
    let head = git(&repository, &["rev-parse", "HEAD"]);
    let other = server.repository("other", &[("b", "b"), (".gitmodules", &modules)]);
    git(&other, &["update-index", "--add", "--cacheinfo", &format!("160000,{head},x")]);
    git(&other, &["commit", "--quiet", "-m", "link"]);
    adding("", &server.url("other")).build().succeeds().has_file("c/x/a", "one");
    for url in ["file:///etc", "ext::sh -c touch%20x", "/etc", "--upload-pack=touch"] {
        let modules = format!("[submodule \"x\"]\n\tpath = x\n\turl = {url}\n");
        fs::write(other.join(".gitmodules"), modules).expect("a file");
        git(&other, &["add", ".gitmodules"]);
        git(&other, &["commit", "--quiet", "-m", "url"]);
        adding("", &server.url("other")).build().fails(3).stderr_has("the submodule \"x\"");
    }
    assert!(!canary.exists());
}

#[test]
fn the_configuration_and_the_variables_of_the_user_do_not_count() {
    if !support::require_tool("git") {
        return;
    }
    let server = Server::new();
    server.repository("lib", &[("a", "one\n")]);
    let project = adding("", &server.url("lib"));
    let home = project.user().home().to_path_buf();
    fs::write(
        home.join(".gitconfig"),
        "[core]\n\tautocrlf = true\n\thooksPath = /evil\n[url \"git://nowhere/\"]\n\tinsteadOf = git://127.0.0.1\n",
    )
    .expect("a file");
    let call = project.call().env("GIT_DIR", "/evil").env("GIT_CONFIG_COUNT", "1").env("GIT_SSH_COMMAND", "false");
    project.built(call.run()).succeeds().has_file("c/a", "one\n");
}

#[test]
fn without_git_the_error_says_so() {
    let project = adding("", "https://127.0.0.1:1/lib.git");
    let empty = project.user().new_dir();
    let line = format!(
        "env PATH={} {} build --progress plain {}",
        empty.display(),
        env!("CARGO_BIN_EXE_coracle"),
        project.dir().display()
    );
    project
        .user()
        .tool(&line)
        .run()
        .fails(6)
        .stderr_has("the program git is not installed")
        .stderr_has("--> Dockerfile:2");
}

#[test]
fn a_token_goes_to_its_host_and_is_not_shown() {
    if !support::require_tool("git") {
        return;
    }
    let web = Web::new(|_| Answer::status(404));
    let project = adding("", &format!("{}#main", web.url("/lib.git")));
    let token = project.user().new_dir().join("token");
    fs::write(&token, "s3cret-token-of-the-test").expect("a file");
    let project = project.arg(&format!("--secret=id=GIT_AUTH_TOKEN,src={}", token.display()));
    project.build().fails(4).stderr_has_no("s3cret");
    // x-access-token and the token, as BuildKit gives it.
    let basic = "Basic eC1hY2Nlc3MtdG9rZW46czNjcmV0LXRva2VuLW9mLXRoZS10ZXN0";
    assert_eq!(web.log()[0].header("authorization"), Some(basic), "{:?}", web.log());
}

#[test]
fn a_locked_repository_stays_at_its_commit() {
    if !support::require_tool("git") {
        return;
    }
    let server = Server::new();
    let repository = server.repository("web.git", &[("a", "one")]);
    let first = git(&repository, &["rev-parse", "HEAD"]);
    let project = adding("", &server.url("web.git#main"));
    let lock = |words: &[&str]| project.user().coracle(words).arg(project.dir()).run().succeeds();
    lock(&["lock"]).stdout_has(&format!("new: {} {first}", server.url("web.git#main")));
    let second = commit(&repository, &[("a", "two")]);
    // Also where nothing of it was fetched yet.
    let text = fs::read_to_string(project.path("Dockerfile.lock")).expect("a lock");
    let other = adding("", &server.url("web.git#main")).file("Dockerfile.lock", &text);
    for project in [project.clone(), other.clone()] {
        project.arg("--locked").build().succeeds().top_layer().has_file("c/a", "one");
    }
    lock(&["lock", "--update"]).stdout_has(&format!("{first} -> {second}"));
    project.clone().arg("--locked").build().succeeds().top_layer().has_file("c/a", "two");
    let gone = other.file("Dockerfile.lock", text.replace(&first, &"0123456789".repeat(4)));
    gone.arg("--locked").build().fails(3).stderr_has("is not what the lock says").stderr_has("Dockerfile:2");
}
