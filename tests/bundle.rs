//! `coracle bundle` and `build --bundle`: a build where there is no network, from an archive that has all that the Dockerfile names.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use coracle::oci::Digest;
use serde_json::Value;
use support::environment::{Environment, Visit, can_be_made};
use support::registry::Registry;
use support::repositories::{Server, commit, git};
use support::web::{Answer, Web};
use support::{Built, Image, Outcome, Project, User, base, here, require_tool, root};

/// Later than all that comes from elsewhere, so that the times of that count.
const EPOCH: &str = "1700000100";

/// A bundle, and the user in whose home it is.
struct Written(PathBuf, #[allow(dead_code)] User);

impl std::ops::Deref for Written {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

/// Writes a bundle of the project.
fn bundle(project: &Project, args: &[&str]) -> (Written, Outcome) {
    let file = project.user().new_dir().join("b.tar");
    let call = project.user().coracle(["bundle", "create", "--retry-delay=10ms", "--output"]).arg(&file);
    let call = args.iter().fold(call, |call, arg| call.arg(arg));
    (Written(file, project.user().clone()), call.arg(project.dir()).run())
}

fn bundled(project: &Project, args: &[&str]) -> Written {
    let (file, outcome) = bundle(project, args);
    outcome.succeeds();
    file
}

/// Builds the project out of a bundle.
fn build(project: &Project, bundle: &Path, args: &[&str]) -> Built {
    let call = project.user().coracle(["build", "--progress=plain", "-t", "test", "--bundle"]).arg(bundle);
    let call = args.iter().fold(call, |call, arg| call.arg(arg));
    project.built(call.arg(project.dir()).env("SOURCE_DATE_EPOCH", EPOCH).run())
}

/// The same project, of a user who has nothing else.
fn elsewhere(text: &str) -> Project {
    Project::of(&User::new()).dockerfile(text).file("own", "own")
}

fn ls(bundle: &Path) -> Value {
    let outcome = User::new().coracle(["bundle", "ls", "--json"]).arg(bundle).run().succeeds();
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

/// Puts busybox into a registry under a name, and returns that in full.
fn put_busybox(user: &User, registry: &Registry, name: &str) -> String {
    let name = registry.name(name);
    let from = format!("oci:{}", base::busybox().display());
    user.coracle(["copy", "--tls-verify=false", &from, &format!("docker://{name}")]).run().succeeds();
    name
}

#[test]
fn a_build_without_a_network_is_the_same_to_the_byte_and_hits_the_same_cache() {
    if !require_tool("git") {
        return;
    }
    let registry = Registry::new();
    let online = User::new();
    let busybox = put_busybox(&online, &registry, "busybox:1");
    for (name, text) in [("other", "other"), ("third", "third")] {
        registry.image(name, "1", &here(), text.as_bytes());
    }
    let web = Web::new(|asked| match asked.path.as_str() {
        "/t/dated" => Answer::ok("dated").header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT"),
        _ => Answer::ok("undated"),
    });
    let server = Server::new();
    let inner = server.repository("inner", &[("deep", "deep")]);
    let outer = server.repository("outer", &[("o", "o"), ("run.sh", "x"), ("dir/d", "d")]);
    git(&outer, &["submodule", "--quiet", "add", "--", &server.url("inner"), "in"]);
    let first = commit(&outer, &[]);
    git(&outer, &["tag", "-a", "v1", "-m", "first"]);
    // More files than git unpacks when they come.
    let many: Vec<(String, String)> = (0..150)
        .map(|at| (format!("f{at}"), format!("{}\n", (0..at).map(|n| format!("line {n}\n")).collect::<String>())))
        .collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    commit(&server.repository("many", &[("a", "a")]), &many);
    let (other, third) = (registry.name("other:1"), registry.name("third:1"));
    let text = format!(
        "ARG BASE=none\nFROM $BASE AS tools\nRUN echo made >/made\nFROM {busybox}\nCOPY own /own\nCOPY --from=tools /made /made\n\
         COPY --from={other} /file /other\nADD {} {} /t/\nADD {}#v1:dir /dir/\nADD {}#main /outer/\nADD --keep-git-dir=true {} /many/\n\
         RUN --mount=from={third},target=/m cat /m/file /t/dated >/ran\n",
        web.url("/t/dated"),
        web.url("/t/undated"),
        server.url("outer"),
        server.url("outer"),
        server.url("many"),
    );
    let base = format!("--build-arg=BASE={busybox}");
    let project = Project::of(&online).dockerfile(&text).file("own", "own").arg(&base);
    let expected = project.built(project.call().env("SOURCE_DATE_EPOCH", EPOCH).run()).succeeds();
    expected
        .has_file("ran", "thirddated")
        .has_file("outer/in/deep", "deep")
        .has_file("dir/d", "d")
        .has_dir("many/.git");
    assert_eq!(expected.node("t/dated").mtime, 1_445_412_480);
    assert_eq!(expected.node("t/undated").mtime, 0);
    assert_eq!(expected.node("outer/o").mtime, 1_700_000_000);

    let file = bundled(&project, &[&base]);
    let again = bundled(&elsewhere(&text), &[&base]);
    assert!(fs::read(&*file).unwrap() == fs::read(&*again).unwrap(), "the same things are other bytes");
    let listed = ls(&file);
    let names = |kind: &str, key: &str| -> Vec<String> {
        let mut names: Vec<String> =
            listed[kind].as_array().unwrap().iter().filter_map(|row| row[key].as_str()).map(String::from).collect();
        names.sort();
        names
    };
    assert_eq!(names("images", "name"), [busybox.clone(), other, third]);
    assert_eq!(names("urls", "digest"), sorted([Digest::of(b"dated"), Digest::of(b"undated")]));
    assert_eq!(names("git", "commit").iter().filter(|id| **id == first).count(), 2);
    assert!(names("git", "commit").contains(&git(&inner, &["rev-parse", "HEAD"])));

    // Nobody is there any more, and nobody is looked for.
    drop(server);
    registry.forget();
    let asked = web.log().len();
    let offline = elsewhere(&text);
    let image = build(&offline, &file, &[&base]).cached(0).succeeds();
    assert_eq!(image.digest(), expected.digest());
    // What was built with a network is in the cache without one, and the other way round.
    let hit = build(&project, &file, &[&base]);
    assert_eq!(hit.count("CACHED"), 9, "{}", hit.stderr);
    assert_eq!(hit.succeeds().digest(), expected.digest());
    assert_eq!((registry.state().log.len(), web.log().len()), (0, asked));
    // The bundle says nothing about names and URLs to later builds.
    assert_eq!(offline.user().coracle(["images", "-q"]).run().succeeds().stdout.lines().count(), 1);
    assert!(!offline.user().store().join("fetch/urls").exists(), "a server has said nothing");
}

fn sorted(digests: [Digest; 2]) -> Vec<String> {
    let mut texts = digests.map(|digest| digest.to_string()).to_vec();
    texts.sort();
    texts
}

#[test]
fn what_is_not_in_the_bundle_is_named_with_its_line_before_anything_is_done() {
    let registry = Registry::new();
    registry.image("base", "1", &here(), b"one");
    let web = Web::new(|_| Answer::ok("file"));
    let name = registry.name("base:1");
    let file = bundled(&Project::of(&User::new()).dockerfile(&format!("FROM {name}\nADD {} /a", web.url("/a"))), &[]);
    registry.image("other", "1", &here(), b"other");
    let other = registry.name("other:1");
    let asked = (registry.state().log.len(), web.log().len());
    build(&elsewhere(&format!("FROM {name}\nCOPY --from={other} /file /\nCOPY --from=nonsense /file /")), &file, &[])
        .fails(3)
        .stderr_has(&format!("image {other} is not in "))
        .stderr_has("Dockerfile:2")
        .stderr_has("nonsense")
        .stderr_has("Dockerfile:3")
        .stderr_has("`coracle bundle create`")
        .stderr_has_no("#1 ");
    build(&elsewhere(&format!("FROM {name}\nADD {} /a\nADD git://127.0.0.1:9/r#main /b/", web.url("/b"))), &file, &[])
        .fails(3)
        .stderr_has("/b is not in ")
        .stderr_has("Dockerfile:2")
        .stderr_has("git://127.0.0.1:9/r#main is not in ")
        .stderr_has("Dockerfile:3")
        .stderr_has("`coracle bundle create`")
        .stderr_has_no("#1 ");
    build(&elsewhere(&format!("FROM --platform=linux/s390x {name}\nENV A=1")), &file, &["--platform=linux/s390x"])
        .succeeds();
    assert_eq!((registry.state().log.len(), web.log().len()), asked, "nobody is asked");
    // By its digest the same image is the same, wherever it came from.
    let user = User::with_busybox();
    let digest =
        Image::named(&user.layout(), "docker.io/library/busybox:latest", Some(user.clone())).digest().to_owned();
    let project = Project::of(&user).dockerfile(&format!("FROM busybox@{digest}\nENV A=1"));
    build(&project, &file, &[]).succeeds();
    build(&Project::of(&user).dockerfile("FROM busybox\nENV A=1"), &file, &[])
        .fails(3)
        .stderr_has("busybox:latest is not in");
}

#[test]
fn a_bundle_has_the_platforms_that_were_asked_for_and_keeps_the_digest_of_the_index() {
    let registry = Registry::new();
    let each = ["linux/amd64", "linux/arm64", "linux/s390x"].map(|platform| {
        let text = format!("for {platform}");
        registry.image("base", platform.rsplit_once('/').unwrap().1, platform, text.as_bytes())
    });
    let index = registry.index("base", "1", &each);
    let name = registry.name("base:1");
    let text = format!("FROM {name} AS base\nFROM scratch\nCOPY --from=base /file /file\n");
    let file = bundled(&Project::of(&User::new()).dockerfile(&text), &["--platform=linux/arm64,linux/amd64"]);
    let listed = ls(&file);
    assert_eq!(listed["images"][0]["digest"], index["digest"]);
    assert_eq!(listed["images"][0]["platforms"], serde_json::json!(["linux/amd64", "linux/arm64"]));
    for platform in ["linux/amd64", "linux/arm64"] {
        let image = build(&elsewhere(&text), &file, &["--platform", platform]).succeeds();
        image.has_file("file", &format!("for {platform}"));
    }
    for flag in ["--platform=linux/amd64,linux/arm64", "--all-platforms"] {
        let project = elsewhere(&text);
        let built = build(&project, &file, &[flag]);
        assert_eq!(built.code(), Some(0), "{}", *built);
        assert_eq!(Image::index(&project.user().layout(), built.stdout.trim()).len(), 2);
    }
    build(&elsewhere(&text), &file, &["--platform=linux/s390x"])
        .fails(3)
        .stderr_has("for linux/amd64, linux/arm64 only, not for linux/s390x")
        .stderr_has("Dockerfile:1")
        .stderr_has("coracle bundle create --platform linux/s390x");
    // By the digest of the index, too, and other tools find the images.
    let pinned = format!("FROM {name}@{}\nENV A=1\n", index["digest"].as_str().unwrap());
    build(&elsewhere(&pinned), &file, &["--platform=linux/arm64"]).succeeds();
    let user = User::new();
    let place = format!("oci-archive:{}:{name}", file.display());
    user.coracle(["copy", "--platform=linux/arm64", &place, "arm"]).run().succeeds();
    user.coracle(["load", "--platform=linux/amd64", "-i"]).arg(&*file).run().succeeds().stdout_has(&name);
    if require_tool("skopeo") {
        let out = user.new_dir().join("out");
        let line = format!("skopeo --insecure-policy --override-arch arm64 copy -q {place} dir:{}", out.display());
        user.tool(&line).run().succeeds();
        let manifest = fs::read(out.join("manifest.json")).expect("a manifest");
        assert_eq!(each[1]["digest"], Digest::of(&manifest).to_string());
    }
}

#[test]
fn the_lock_counts_and_what_it_lacks_is_taken_as_it_is() {
    let registry = Registry::new();
    registry.image("base", "1", &here(), b"old");
    let web = Web::new(|_| Answer::ok("file").header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT"));
    let name = registry.name("base:1");
    let text = format!("FROM {name}\nCOPY --from={name} /file /copy\nADD {} /a\n", web.url("/a"));
    let project = Project::of(&User::new()).dockerfile(&text);
    project.user().coracle(["lock"]).arg(project.dir()).run().succeeds();
    registry.image("base", "1", &here(), b"new");
    let (file, outcome) = bundle(&project, &[]);
    outcome.succeeds().stderr_has_no("warning");
    let offline = elsewhere(&text);
    let lock = fs::read_to_string(project.path("Dockerfile.lock")).expect("a lock");
    build(&offline, &file, &[]).succeeds().layer(1).has_file("copy", "old");
    let offline = offline.file("Dockerfile.lock", &lock);
    let image = build(&offline, &file, &["--locked"]).succeeds();
    image.layer(1).has_file("copy", "old");
    assert_eq!(image.top_layer().node("a").mtime, 1_445_412_480);
    // A bundle that is newer than the lock is none for it.
    let newer = bundled(&Project::of(&User::new()).dockerfile(&text), &[]);
    build(&offline, &newer, &["--locked"])
        .fails(3)
        .stderr_has("base:1 is not what the lock says, sha256:")
        .stderr_has("Dockerfile:1");
    let more = project.dockerfile(&format!("{text}ADD {} /b\n", web.url("/b")));
    let (_, outcome) = bundle(&more, &[]);
    outcome
        .succeeds()
        .stderr_has("/b is not in the lock, so it is taken as it is now")
        .stderr_has_no("base:1 is not in");
}

/// Returns the bundle with another content of one of its files, found by what is in it.
fn changed(bundle: &Path, name_has: &dyn Fn(&str, &[u8]) -> bool, to: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    let bytes = fs::read(bundle).expect("a bundle");
    let (mut out, mut found) = (tar::Builder::new(Vec::new()), 0);
    for entry in tar::Archive::new(&bytes[..]).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a path").display().to_string();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).expect("content");
        let mut header = entry.header().clone();
        if name_has(&name, &content) {
            found += 1;
            match to(&content) {
                Some(new) => content = new,
                None => continue,
            }
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        out.append(&header, &content[..]).expect("in memory");
    }
    assert!(found > 0, "nothing was changed");
    out.into_inner().expect("in memory")
}

#[test]
fn a_hostile_or_broken_bundle_is_refused() {
    if !require_tool("git") {
        return;
    }
    let registry = Registry::new();
    registry.image("base", "1", &here(), b"one");
    let web = Web::new(|_| Answer::ok("content of the file"));
    let server = Server::new();
    let repository = server.repository("lib", &[("a", "one"), ("b", "two")]);
    let first = git(&repository, &["rev-parse", "HEAD"]);
    let name = registry.name("base:1");
    let text = format!("FROM {name}\nADD {} /a\nADD {}#main /lib/\n", web.url("/a"), server.url("lib"));
    let project = Project::of(&User::new()).dockerfile(&text);
    let good = bundled(&project, &[]);
    let dir = project.user().new_dir();
    let refused = |bytes: Vec<u8>, text: &str, says: &str| {
        let file = dir.join("bad.tar");
        fs::write(&file, bytes).expect("a file");
        let outcome = build(&elsewhere(text), &file, &[]).fails(3).stderr_has(says);
        assert!(!outcome.stderr.contains("panicked"), "{outcome}");
    };
    let file = |_: &str, content: &[u8]| content == b"content of the file";
    let pack = |_: &str, content: &[u8]| content.starts_with(b"PACK");
    let layer = |_: &str, content: &[u8]| content.len() > 1000 && content.starts_with(b"file\0");
    let list = |name: &str, content: &[u8]| {
        name.starts_with("blobs") && String::from_utf8_lossy(content).contains("vnd.coracle.bundle.v1")
    };
    let index = |name: &str, _: &[u8]| name == "index.json";
    // What has another digest, another length, or is not there.
    for what in [&file as &dyn Fn(&str, &[u8]) -> bool, &pack, &layer, &list] {
        let flipped = |content: &[u8]| {
            let mut content = content.to_vec();
            *content.last_mut().expect("content") ^= 1;
            Some(content)
        };
        refused(changed(&good, what, &flipped), &text, "has digest sha256:");
        refused(changed(&good, what, &|content| Some([content, b"x"].concat())), &text, "bytes, not");
        refused(changed(&good, what, &|_| None), &text, "is not in ");
    }
    // No archive, half an archive, no bundle, another version, paths for digests.
    let bytes = fs::read(&*good).expect("a bundle");
    refused(b"FROM scratch".to_vec(), &text, "in the middle of a tar");
    refused(bytes[..bytes.len() / 2].to_vec(), &text, "it ends in the middle");
    let archive = project.user().new_dir().join("image.tar");
    let place = format!("oci-archive:{}", archive.display());
    project.user().coracle(["copy", "--tls-verify=false", &format!("docker://{name}"), &place]).run().succeeds();
    refused(fs::read(&archive).expect("an archive"), &text, "is no bundle: it has no list");
    let replace = |from: &'static str, to: &'static str| {
        move |content: &[u8]| Some(String::from_utf8_lossy(content).replace(from, to).into_bytes())
    };
    refused(
        changed(&good, &index, &replace("bundle.v1", "bundle.v2")),
        &text,
        "and this is known: application/vnd.coracle",
    );
    refused(changed(&good, &index, &replace("sha256:", "sha256:../../")), &text, "index.json");
    refused(changed(&good, &index, &|_| None), &text, "no index.json");

    // A bundle whose digests are right, but which has other things than the Dockerfile demands.
    let pinned = format!("FROM {name}\nADD --checksum={} {} /a\n", Digest::of(b"other"), web.url("/a"));
    refused(bytes.clone(), &pinned, "is sha256:");
    let other = commit(&repository, &[("a", "evil")]);
    git(&repository, &["branch", "evil", &other]);
    git(&repository, &["reset", "--quiet", "--hard", &first]);
    let forged =
        rewritten(&bundled(&Project::of(&User::new()).dockerfile(&text.replace("#main", "#evil")), &[]), |list| {
            list.replace("#evil", "#main").replace("heads/evil", "heads/main").replace(&other, &first)
        });
    // The commit is what its id says, or it is not there.
    refused(forged, &text, &format!("the pack of commit {first}"));
    // A tag is one of its commit, or it is not believed.
    let tagged = rewritten(&good, |list| {
        let key = "\"vnd.coracle.bundle.git.commit\"";
        list.replace(key, &format!("\"vnd.coracle.bundle.git.tag\":\"{other}\",{key}"))
    });
    let pinned = text.replace("ADD git", &format!("ADD --checksum={other} git"));
    refused(tagged, &pinned, &format!("the pack of commit {first}"));
    let swapped = rewritten(&good, |list| {
        list.replace(&format!("{}#main", server.url("lib")), &format!("{}#{other}", server.url("lib")))
    });
    refused(swapped, &text.replace("#main", &format!("#{other}")), &format!("is {first}, not {other}"));
}

/// Returns the bundle with another list of what is in it, to which its index leads.
fn rewritten(bundle: &Path, change: impl Fn(&str) -> String) -> Vec<u8> {
    let is_list = |name: &str, content: &[u8]| {
        name.starts_with("blobs") && String::from_utf8_lossy(content).contains("vnd.coracle.bundle.v1")
    };
    let old = std::cell::RefCell::new(Vec::new());
    changed(bundle, &is_list, &|content| {
        *old.borrow_mut() = content.to_vec();
        Some(content.to_vec())
    });
    let old = old.into_inner();
    let new = change(std::str::from_utf8(&old).expect("JSON")).into_bytes();
    let (from, to) = (Digest::of(&old).to_string(), Digest::of(&new).to_string());
    let bytes = fs::read(bundle).expect("a bundle");
    let mut out = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(&bytes[..]).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).expect("content");
        let mut header = entry.header().clone();
        let name = entry.path().expect("a path").display().to_string();
        if content == old {
            content = new.clone();
            header.set_path(format!("blobs/sha256/{}", Digest::of(&new).hex())).expect("a path");
        } else if name == "index.json" {
            let size = |length: usize| format!("\"size\":{length}");
            content = String::from_utf8(content)
                .expect("JSON")
                .replace(&from, &to)
                .replace(&size(old.len()), &size(new.len()))
                .into_bytes();
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        out.append(&header, &content[..]).expect("in memory");
    }
    out.into_inner().expect("in memory")
}

#[test]
fn what_makes_no_sense_together_is_said() {
    let project = Project::of(&User::new()).dockerfile("FROM scratch\nCOPY own /own").file("own", "own");
    let file = bundled(&project, &[]);
    build(&project, &file, &[]).succeeds();
    for (args, says) in [
        (&["--pull=always"][..], "--bundle and --pull=always contradict each other"),
        (&["--check"], "--bundle is for builds"),
        (&["--build-context=x=https://127.0.0.1:9/x.tar"], "is not on this machine"),
        (&["-f", "https://127.0.0.1:9/Dockerfile"], "is not on this machine"),
    ] {
        build(&project, &file, args).fails(2).stderr_has(says);
    }
    build(&project, &file.with_file_name("none.tar"), &[]).fails(3).stderr_has("none.tar");
    let (kept, outcome) =
        bundle(&Project::of(&User::new()).dockerfile("FROM 127.0.0.1:9/none\nENV A=1"), &["--retry=0"]);
    outcome.fails(4).stderr_has("Dockerfile:1");
    assert!(!kept.exists(), "half a bundle is none");
    let table = project.user().coracle(["bundle", "inspect"]).arg(&*file).run().succeeds();
    assert!(table.stdout.starts_with("KIND"), "{table}");
}

#[test]
fn what_is_for_some_only_is_bundled_with_their_secret_and_needs_none_then() {
    let registry = Registry::new();
    registry.image("base", "1", &here(), b"one");
    let web = Web::new(|asked| match asked.header("authorization") {
        Some("Bearer hush-hush") => Answer::ok("for you"),
        _ => Answer::status(401),
    });
    let text = format!("FROM base\nADD {} /a\n", web.url("/a"));
    let alias = format!("--build-context=base=docker-image://{}", registry.name("base:1"));
    let project = Project::of(&User::new()).dockerfile(&text);
    let (_, outcome) = bundle(&project, &[&alias]);
    outcome.fails(4).stderr_has("401").stderr_has("Dockerfile:2");
    let token = project.user().new_dir().join("token");
    fs::write(&token, "hush-hush\n").expect("a file");
    let secret = format!("--secret=id=HTTP_AUTH_TOKEN_{},src={}", web.host(), token.display());
    project.user().coracle(["lock", &alias, &secret]).arg(project.dir()).run().succeeds();
    let file = bundled(&project, &[&alias, &secret]);
    assert!(!String::from_utf8_lossy(&fs::read(&*file).expect("a bundle")).contains("hush"), "no secret is in it");
    build(&elsewhere(&text), &file, &[&alias]).succeeds().top_layer().has_file("a", "for you");
}

#[test]
fn the_seed_is_built_without_any_network() {
    if !can_be_made() {
        return;
    }
    let user = User::new();
    let registry = Registry::new();
    for (layout, name) in base::dotnet().iter().zip(["sdk", "runtime"]) {
        let to = format!("docker://{}", registry.name(&format!("dotnet/core/{name}:3.0-alpine")));
        user.coracle(["copy", "--tls-verify=false", &format!("oci:{}", layout.display()), &to]).run().succeeds();
    }
    let conf = user.home().join("registries.conf");
    let text = format!(
        "[[registry]]\nlocation = \"mcr.microsoft.com\"\n[[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n",
        registry.host()
    );
    fs::write(&conf, text).expect("a file");
    let context = tempfile::tempdir_in("/var/tmp").expect("a folder on the disk");
    support::set_mode(context.path(), 0o777);
    let file = context.path().join("bundle.tar");
    let seed = root().join("tests/fixtures/demo-web");
    let create = user.coracle(["bundle", "create", "--output"]).arg(&file).arg(&seed);
    create.env("CONTAINERS_REGISTRIES_CONF", conf.to_str().expect("text")).run().succeeds();
    let names: Vec<Value> = ls(&file)["images"].as_array().unwrap().iter().map(|row| row["name"].clone()).collect();
    assert_eq!(
        names,
        ["mcr.microsoft.com/dotnet/core/runtime:3.0-alpine", "mcr.microsoft.com/dotnet/core/sdk:3.0-alpine"]
    );
    let copied = std::process::Command::new("cp").arg("-r").arg(&seed).arg(context.path().join("web")).status();
    assert!(copied.expect("cp").success());

    let visit = Visit::with_busybox(context.path())
        .call("alone", "sh -c 'test \"$(ls /sys/class/net)\" = lo && ! ls -A /work/store 2>/dev/null'")
        .call("build", "coracle build --progress plain --bundle /context/bundle.tar -t demoweb:2 /context/web")
        .call("names", "coracle images")
        .call("again", "coracle build --progress plain --bundle /context/bundle.tar -t demoweb:2 /context/web");
    let found = Environment::named("airgap").visit(&visit);
    for name in ["alone", "build", "names", "again"] {
        assert_eq!(found[name].status, 0, "{name}: {}", found[name]);
    }
    assert_eq!(found["build"].stdout, found["again"].stdout);
    assert!(found["again"].stderr.matches("CACHED").count() >= 4, "{}", found["again"]);
    assert!(found["names"].stdout.contains("demoweb") && !found["names"].stdout.contains("mcr"), "{}", found["names"]);
}

#[test]
fn a_bundle_has_the_images_of_which_the_store_has_some_only() {
    let registry = Registry::new();
    let images = ["amd64", "arm64"].map(|architecture| {
        registry.image("base", architecture, &format!("linux/{architecture}"), architecture.as_bytes())
    });
    registry.index("base", "1", &images);
    let (user, name) = (User::new(), registry.name("base:1"));
    user.coracle(["pull", "--platform=linux/amd64", &name]).run().succeeds();
    let project = Project::of(&user).dockerfile(&format!("FROM {name}\n"));
    let both = "--platform=linux/amd64,linux/arm64";
    user.coracle(["lock", both]).arg(project.dir()).run().succeeds();
    let file = user.new_dir().join("bundle.tar");
    let create = user.coracle(["bundle", "create", both, "-o", file.to_str().unwrap()]).arg(project.dir());
    create.run().succeeds();
    let listed = user.coracle(["bundle", "ls"]).arg(&file).run().succeeds();
    listed.stdout_has("linux/amd64").stdout_has("linux/arm64");
}
