//! Against a real registry (the distribution of Debian: docker-registry), judged by skopeo.

mod support;

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{Image, Project, User, require_tool};

/// A registry, until this is dropped.
struct Server {
    port: u16,
    child: Child,
    dir: tempfile::TempDir,
}

impl Server {
    /// Starts one; `None` where it is not installed.
    fn start(more: impl Fn(&Path) -> String) -> Option<Self> {
        if !require_tool("docker-registry") {
            return None;
        }
        let dir = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let port = support::free_port();
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n{}",
            dir.path().join("data").display(),
            more(dir.path())
        );
        let file = dir.path().join("config.yml");
        fs::write(&file, config).expect("written");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("log")).expect("a file"))
            .spawn()
            .expect("docker-registry");
        let server = Server { port, child, dir };
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(30), "{}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    fn plain() -> Option<Self> {
        Server::start(|_| String::new())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn name(&self, image: &str) -> String {
        format!("127.0.0.1:{}/{image}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// An image with one layer of `megabytes` that do not compress.
fn large(user: &User, name: &str, megabytes: usize) -> Image {
    let mut random = fastrand::Rng::with_seed(7);
    let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(megabytes << 20).collect();
    let project = Project::of(user).file("big", bytes).dockerfile("FROM scratch\nCOPY big /big").named(name);
    project.arg("--compression=none").build().succeeds()
}

#[test]
fn it_takes_and_gives_images_and_skopeo_agrees() {
    let Some(server) = Server::plain() else { return };
    let user = User::with_busybox();
    let original = Image::named(&user.layout(), "busybox:latest", None);
    user.coracle(["push", "busybox", &server.name("base/busybox:1")]).run().succeeds();
    let other = User::new();
    other.coracle(["pull", &server.name("base/busybox:1")]).run().succeeds();
    assert_eq!(Image::named(&other.layout(), &server.name("base/busybox:1"), None).digest(), original.digest());
    if !require_tool("skopeo") {
        return;
    }
    let dir = user.new_dir();
    let inspect = format!(
        "skopeo inspect --tls-verify=false --format {{{{.Digest}}}} docker://{}",
        server.name("base/busybox:1")
    );
    assert_eq!(user.tool(&inspect).run().succeeds().stdout.trim(), original.digest());
    let copy = format!(
        "skopeo copy --insecure-policy --preserve-digests --src-tls-verify=false docker://{} oci:{}:x",
        server.name("base/busybox:1"),
        dir.join("pulled").display()
    );
    user.tool(&copy).run().succeeds();
    let copy = format!(
        "skopeo copy --insecure-policy --preserve-digests --dest-tls-verify=false oci:{}:x docker://{}",
        dir.join("pulled").display(),
        server.name("skopeo/busybox:1")
    );
    user.tool(&copy).run().succeeds();
    let third = User::new();
    let pulled = third.coracle(["pull", &server.name("skopeo/busybox:1")]).run().succeeds();
    assert_eq!(pulled.stdout.trim(), original.digest());
}

#[test]
fn base_layers_are_mounted_and_zstd_layers_come_back() {
    let Some(server) = Server::plain() else { return };
    let user = User::with_busybox();
    let base = server.name("base/busybox:1");
    user.coracle(["push", "busybox", &base]).run().succeeds();
    user.coracle(["pull", &base]).run().succeeds();
    let project = Project::of(&user).file("page", "hello").dockerfile(&format!("FROM {base}\nCOPY page /"));
    let name = server.name("app/web:1");
    let call = user.coracle(["build", "--progress=plain", "--compression=zstd", "--push", "-t", &name]);
    let built = call.arg(project.dir()).run().succeeds();
    let uploads = server.dir.path().join("data/docker/registry/v2/repositories/app/web");
    assert!(uploads.join("_layers").exists());
    let other = User::new();
    other.coracle(["pull", &name]).run().succeeds();
    let image = Image::named(&other.layout(), &name, None);
    assert_eq!(image.digest(), built.stdout.trim());
    assert!(image.manifest()["layers"][1]["mediaType"].as_str().unwrap().ends_with("+zstd"), "{}", image.manifest());
}

#[test]
fn a_pull_that_is_killed_goes_on() {
    let Some(server) = Server::plain() else { return };
    let user = User::new();
    let image = large(&user, "big:1", 96);
    user.coracle(["push", "big:1", &server.name("big:1")]).run().succeeds();
    let other = User::new();
    let partial = other.store().join("partial");
    let mut kept = 0;
    for _ in 0..5 {
        let running = other.coracle(["pull", &server.name("big:1")]).start();
        let begin = Instant::now();
        while size(&partial) <= kept && begin.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        running.signal(Signal::KILL);
        let _ = running.wait();
        kept = size(&partial);
        if kept > 0 {
            break;
        }
    }
    let pulled = other.coracle(["pull", &server.name("big:1")]).run().succeeds();
    assert_eq!(pulled.stdout.trim(), image.digest());
    assert_eq!(size(&partial), 0);
}

#[test]
fn a_push_that_is_killed_is_done_again_and_two_at_once_do_not_disturb_each_other() {
    let Some(server) = Server::plain() else { return };
    let user = User::new();
    let image = large(&user, "big:1", 64);
    let name = server.name("big:1");
    let running = user.coracle(["push", "big:1", &name]).start();
    std::thread::sleep(Duration::from_millis(150));
    running.signal(Signal::KILL);
    let _ = running.wait();
    // What this one has kept of the upload is asked for, is of no use to docker's registry, and is forgotten.
    let both = [1, 2].map(|_| user.coracle(["push", "big:1", &name]).start());
    both.into_iter().for_each(|push| drop(push.wait().succeeds()));
    assert_eq!(size(&user.store().join("uploads")), 0);
    let pulled = User::new().coracle(["pull", &name]).run().succeeds();
    assert_eq!(pulled.stdout.trim(), image.digest());
}

/// Sends a request without a body's head, and returns the head of the answer.
fn ask(server: &Server, head: &str, body: &[u8]) -> String {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("a connection");
    let length = body.len();
    let head =
        format!("{head}\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n", server.port);
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Where an answer says that an upload goes on.
fn location(answer: &str) -> String {
    let line = answer.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap_or_else(|| panic!("{answer}"));
    line.trim().to_owned()
}

#[test]
fn an_upload_of_another_process_is_gone_on_with() {
    use std::os::unix::fs::{MetadataExt, chown};
    let Some(server) = Server::plain() else { return };
    let user = User::new();
    let image = large(&user, "big:1", 8);
    let layer = image.manifest()["layers"][0]["digest"].as_str().expect("a digest").to_owned();
    let bytes = fs::read(user.layout().join("blobs/sha256").join(layer.trim_start_matches("sha256:"))).expect("a blob");
    // As a process leaves it that is killed behind its first piece. (This registry keeps nothing of a piece that broke off.)
    let path = |url: &str| url.split_once(&format!(":{}", server.port)).expect("a URL of it").1.to_owned();
    let begun = path(&location(&ask(&server, "POST /v2/big/blobs/uploads/ HTTP/1.1", b"")));
    let piece = format!("PATCH {begun} HTTP/1.1\r\nContent-Type: application/octet-stream\r\nContent-Range: 0-3999999");
    let moved = location(&ask(&server, &piece, &bytes[..4_000_000]));
    let place = format!("127.0.0.1:{}/big", server.port);
    let name = coracle::oci::Digest::of(format!("{place} {layer}").as_bytes()).hex();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let record = serde_json::json!({"place": place, "digest": layer, "location": moved, "began": now});
    let dir = user.store().join("uploads");
    fs::create_dir_all(&dir).expect("a folder");
    let file = dir.join(format!("{name}.json"));
    fs::write(&file, record.to_string()).expect("written");
    let owner = fs::metadata(user.home()).expect("a home");
    for path in [&dir, &file] {
        chown(path, Some(owner.uid()), Some(owner.gid())).expect("given");
    }
    user.coracle(["push", "big:1", &server.name("big:1")]).run().succeeds();
    let left = server.dir.path().join("data/docker/registry/v2/repositories/big/_uploads");
    assert_eq!(fs::read_dir(left).map_or(0, Iterator::count), 0, "another upload was begun");
    assert!(!file.exists());
    let pulled = User::new().coracle(["pull", &server.name("big:1")]).run().succeeds();
    assert_eq!(pulled.stdout.trim(), image.digest());
}

#[test]
fn tls_by_a_private_ca_and_a_password() {
    if !require_tool("htpasswd") {
        return;
    }
    let Some(server) = Server::start(|dir| {
        let (ca, certificate, key) = certificates();
        for (name, text) in [("ca.crt", ca), ("server.crt", certificate), ("server.key", key)] {
            fs::write(dir.join(name), text).expect("written");
        }
        let hash = Command::new("htpasswd").args(["-Bbn", "ann", "geheim"]).output().expect("htpasswd");
        fs::write(dir.join("htpasswd"), hash.stdout).expect("written");
        let dir = dir.display();
        format!(
            "  tls:\n    certificate: {dir}/server.crt\n    key: {dir}/server.key\nauth:\n  htpasswd:\n    realm: test\n    path: {dir}/htpasswd\n"
        )
    }) else {
        return;
    };
    let user = User::with_busybox();
    let name = server.name("base:1");
    let certs: PathBuf = user.home().join(".config/containers/certs.d").join(format!("127.0.0.1:{}", server.port));
    user.coracle(["push", "--tls-verify", "--retry=0", "busybox", &name]).run().fails(4).stderr_has("certs.d");
    fs::create_dir_all(&certs).expect("a folder");
    fs::copy(server.dir.path().join("ca.crt"), certs.join("ca.crt")).expect("copied");
    for dir in certs.ancestors().take(4) {
        support::set_mode(dir, 0o755);
    }
    support::set_mode(&certs.join("ca.crt"), 0o644);
    user.coracle(["push", "--tls-verify", "--retry=0", "busybox", &name]).run().fails(4).stderr_has("coracle login");
    user.coracle(["push", "--tls-verify", "--creds=ann:geheim", "busybox", &name]).run().succeeds();
    user.coracle(["pull", "--tls-verify", "--creds=ann:geheim", &name]).run().succeeds();
    user.coracle(["pull", "--tls-verify", "--creds=ann:falsch", &name]).run().fails(4);
}

/// Returns a root, and a certificate for 127.0.0.1 with its key, as PEM.
fn certificates() -> (String, String, String) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let root_key = KeyPair::generate().expect("a key");
    let mut root = CertificateParams::new(Vec::new()).expect("no names");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = root.self_signed(&root_key).expect("a certificate").pem();
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".into()]).expect("a name");
    let certificate = params.signed_by(&key, &Issuer::new(root, root_key)).expect("a certificate").pem();
    (ca, certificate, key.serialize_pem())
}

/// The bytes of the files in a folder.
fn size(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
}
