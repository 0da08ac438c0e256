//! Whoever writes a cache decides what the steps that it names have made, in the builds that name the cache; and nothing else. All that it says
//! of content is computed before it counts.

mod support;

use std::fs;
use std::path::Path;

use coracle::oci::Digest;
use coracle::store::Index;
use coracle::tree::{Entry, FileDigest, Kind, Meta, TreePath};
use serde_json::{Value, json};
use support::registry::Registry;
use support::{Built, Image, Project, User, base};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.coracle.cache.config.v1+json";
const INDEX: &str = "application/vnd.coracle.cache.index.v1+zstd";

/// A registry with a cache that can be told to lie.
struct Liar {
    registry: Registry,
    manifest: Value,
    list: Value,
}

impl Liar {
    /// Builds `project` and writes a cache of it to `cache:1`.
    fn of(project: &Project) -> Self {
        let registry = Registry::new();
        let to = format!("--cache-to=type=registry,ref={},mode=max", registry.name("cache:1"));
        project.clone().arg(&to).build().succeeds();
        let (manifest, list) = read(&registry, "cache", "1");
        Liar { registry, manifest, list }
    }

    fn name(&self) -> String {
        self.registry.name("cache:1")
    }

    /// Returns the argument by which a build looks into it.
    fn from(&self) -> String {
        format!("--cache-from=type=registry,ref={}", self.name())
    }

    /// Makes what is in `self.list` the cache.
    fn tell(&mut self) {
        let list = self.list.to_string();
        self.manifest["config"] = self.registry.blob("cache", CONFIG, list.as_bytes());
        self.registry.manifest("cache", "1", MANIFEST, &self.manifest);
    }

    /// Returns the record of the only layer.
    fn layer(&mut self) -> &mut Value {
        let layers = self.list["layers"].as_object_mut().expect("layers");
        assert_eq!(layers.len(), 1);
        layers.values_mut().next().expect("one")
    }

    /// Says that the only layer is one with this index.
    fn index(&mut self, (id, bytes): &(String, Vec<u8>)) {
        let blob = zstd::encode_all(&bytes[..], 3).expect("in memory");
        let index = self.registry.blob("cache", INDEX, &blob);
        let record = json!({"digest": index["digest"], "size": index["size"]});
        let mut layer = self.layer().clone();
        layer["index"] = record;
        self.list["layers"] = json!({ id.clone(): layer });
        self.list["steps"][0]["layer"] = json!(id);
        self.tell();
    }

    /// Says that the blob of the only layer is that of busybox, and has it.
    fn names_busybox(&mut self) {
        let (layer, diff_id) = busybox();
        let bytes = fs::read(base::busybox().join("blobs/sha256").join(hex(&layer["digest"]))).expect("the blob");
        self.registry.blob("cache", "", &bytes);
        let record = self.layer();
        record["packed"] = json!({
            "media_type": layer["mediaType"], "digest": layer["digest"], "size": layer["size"], "diff_id": diff_id
        });
        self.tell();
    }
}

fn read(registry: &Registry, repository: &str, tag: &str) -> (Value, Value) {
    let state = registry.state();
    let (_, manifest) = &state.manifests[&(repository.to_owned(), tag.to_owned())];
    let manifest: Value = serde_json::from_slice(manifest).expect("JSON");
    let config = manifest["config"]["digest"].as_str().expect("a digest").to_owned();
    let list = serde_json::from_slice(&state.blobs[&(repository.to_owned(), config)]).expect("JSON");
    (manifest, list)
}

fn hex(digest: &Value) -> &str {
    digest.as_str().expect("a digest").trim_start_matches("sha256:")
}

/// Returns the descriptor of busybox's layer, and its diff_id.
fn busybox() -> (Value, Value) {
    let image = Image::only(&base::busybox());
    (image.manifest()["layers"][0].clone(), image.document()["rootfs"]["diff_ids"][0].clone())
}

/// A layer of one file.
fn marker() -> Project {
    marker_of(&User::with_busybox())
}

fn marker_of(user: &User) -> Project {
    Project::of(user).file("EVIL", "evil").dockerfile("FROM scratch\nCOPY EVIL /\n")
}

/// Checks that in the store of `user` busybox is still busybox.
fn busybox_is_itself(user: &User) {
    let project =
        Project::of(user).dockerfile("FROM busybox\nRUN test ! -e /EVIL && test -x /bin/busybox && echo x >/x\n");
    project.arg("--no-cache").build().succeeds().has_no("EVIL").has_file("x", "x\n").has_dir("bin");
}

/// Checks that the step of [`marker`] makes what it should in the store of `user`, without any cache.
fn the_step_is_itself(user: &User) {
    for arg in ["--no-cache", "--jobs=1"] {
        marker_of(user).arg(arg).build().succeeds().has_file("EVIL", "evil").has_no("bin");
    }
}

#[test]
fn a_promised_layer_never_becomes_a_base_image() {
    let mut liar = Liar::of(&marker());
    liar.layer()["packed"]["diff_id"] = busybox().1;
    liar.tell();
    let project = marker().named(&liar.registry.name("app:1")).arg("--push").arg(&liar.from());
    project.build().cached(1);
    // Its layer is not here.
    project.user().coracle(["rmi", &liar.registry.name("app:1")]).run().succeeds();
    // The layer gets its files.
    marker_of(project.user()).build().succeeds();
    busybox_is_itself(project.user());
    the_step_is_itself(project.user());
}

#[test]
fn the_blob_of_another_image_is_no_layer_of_a_step() {
    let mut liar = Liar::of(&marker());
    liar.names_busybox();
    let project = marker().arg(&liar.from());
    let built = project.build().stderr_has("does not hold layer").cached(0);
    built.succeeds().has_file("EVIL", "evil").has_no("bin");
    the_step_is_itself(project.user());
    busybox_is_itself(project.user());
}

#[test]
fn the_layer_of_another_image_is_no_layer_of_a_step_either() {
    let registry = Registry::new();
    let name = registry.name("web:1");
    let push = marker().arg(&format!("--output=type=registry,name={name}")).arg("--cache-to=type=inline");
    let first = push.build().succeeds();
    // The image is busybox now, but for what it says of its steps.
    let (layer, diff_id) = busybox();
    let bytes = fs::read(base::busybox().join("blobs/sha256").join(hex(&layer["digest"]))).expect("the blob");
    registry.blob("web", "", &bytes);
    let (mut config, mut manifest) = (first.document().clone(), first.manifest().clone());
    config["rootfs"]["diff_ids"][0] = diff_id;
    manifest["layers"][0] = layer;
    manifest["config"] =
        registry.blob("web", "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    registry.manifest("web", "1", MANIFEST, &manifest);
    let project = marker().arg(&format!("--cache-from=type=registry,ref={name}"));
    let built = project.build().stderr_has("does not hold layer").cached(0);
    built.succeeds().has_file("EVIL", "evil").has_no("bin");
    the_step_is_itself(project.user());
    busybox_is_itself(project.user());
}

/// An index with these entries, and its id; what `change` does to its payload is in it.
fn index(entries: Vec<(&str, Kind)>, change: &dyn Fn(&mut Vec<u8>)) -> (String, Vec<u8>) {
    let entry = |(path, kind): (&str, Kind)| Entry {
        path: TreePath::new(path).expect("a path"),
        kind,
        meta: Meta { mode: 0o755, ..Meta::default() },
        implied: false,
    };
    let bytes = Index::new(entries.into_iter().map(entry).collect()).to_bytes();
    let mut payload = bytes[48..].to_vec();
    change(&mut payload);
    let digest = Digest::of(&payload);
    (digest.hex(), [&bytes[..16], digest.raw(), &payload].concat())
}

/// Puts `new` in the place of the last `old`.
fn put(payload: &mut [u8], old: &[u8], new: &[u8]) {
    let at = payload.windows(old.len()).rposition(|part| part == old).expect("it is there");
    payload[at..at + new.len()].copy_from_slice(new);
}

fn file(size: u64) -> Kind {
    Kind::File { size, digest: Some(FileDigest([1; 32])) }
}

fn hard(target: &str) -> Kind {
    Kind::Hardlink { target: TreePath::new(target).expect("a path") }
}

#[test]
fn an_index_that_no_archive_has_is_a_warning_in_that_build_and_nothing_later() {
    let none: &dyn Fn(&mut Vec<u8>) = &|_| {};
    let cases = [
        ("no parent", index(vec![("", Kind::Dir), ("a/b/c", file(1))], none)),
        ("link to nothing", index(vec![("", Kind::Dir), ("a", hard("nowhere"))], none)),
        ("link to itself", index(vec![("", Kind::Dir), ("a", hard("a"))], none)),
        ("root is a file", index(vec![("", file(3)), ("a", file(3))], none)),
        ("huge", index(vec![("", Kind::Dir), ("a", file(u64::MAX)), ("b", file(u64::MAX))], none)),
        ("dots", index(vec![("", Kind::Dir), ("a", Kind::Dir), ("a/xx", file(1))], &|p| put(p, b"a/xx", b"a/.."))),
        ("absolute", index(vec![("", Kind::Dir), ("xetc", file(1))], &|p| put(p, b"xetc", b"/etc"))),
        ("slash", index(vec![("", Kind::Dir), ("a", Kind::Dir), ("a/x", file(1))], &|p| put(p, b"a/x", b"a//"))),
        ("nul", index(vec![("", Kind::Dir), ("axb", file(1))], &|p| put(p, b"axb", b"a\0b"))),
        ("more", index(vec![("", Kind::Dir), ("a", file(1))], &|p| p.extend([7; 9]))),
        (
            "long number",
            index(vec![("", Kind::Dir)], &|p| {
                p[0] = 0x81;
                p.insert(1, 0);
            }),
        ),
    ];
    for (what, index) in cases {
        let mut liar = Liar::of(&marker());
        liar.index(&index);
        let project = marker().arg(&liar.from());
        let built: Built = project.build();
        assert_eq!(built.code(), Some(0), "{what}: {}", *built);
        built.stderr_has("a layer cannot be had from the cache").cached(0).succeeds().has_file("EVIL", "evil");
        the_step_is_itself(project.user());
        // Where the layer itself is to stay in the registry, its files are never seen here.
        let project = marker().named(&liar.registry.name("app:1")).arg("--push").arg(&liar.from());
        assert_eq!(project.build().code(), Some(0), "{what}");
        project.user().coracle(["rmi", &liar.registry.name("app:1")]).run().succeeds();
        the_step_is_itself(project.user());
    }
}

#[test]
fn what_a_cache_gave_counts_in_builds_that_name_it() {
    let random = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/id\n";
    let first = Project::new().dockerfile(random);
    let liar = Liar::of(&first);
    let of_cache = first.image().text("id");
    let project = Project::new().dockerfile(random);
    let with = || project.clone().arg(&liar.from()).build();
    assert_eq!(with().cached(1).succeeds().text("id"), of_cache);
    // All is here now, and nobody is asked; a plan knows that, too.
    project.user().coracle(["prune"]).run().succeeds();
    liar.registry.forget();
    assert_eq!(with().cached(1).succeeds().text("id"), of_cache);
    assert!(liar.registry.state().log.is_empty());
    project.clone().arg(&liar.from()).arg("--plan").call().run().succeeds().stdout_has("1 hit");
    // Who does not name it has nothing of it.
    project.clone().arg("--plan").call().run().succeeds().stdout_has("1 miss");
    let own = project.build().cached(0).succeeds().text("id");
    assert_ne!(own, of_cache);
    assert_eq!(project.build().cached(1).succeeds().text("id"), own);
    // What was made here counts more.
    assert_eq!(with().cached(1).succeeds().text("id"), own);
}

fn keys(list: &Value) -> Vec<String> {
    let steps = list["steps"].as_array().expect("steps").iter();
    let keys = steps.flat_map(|step| step["keys"].as_array().expect("keys").clone());
    let mut keys: Vec<String> = keys.map(|key| key.as_str().expect("a key").to_owned()).collect();
    keys.sort();
    keys
}

fn list_in(folder: &Path) -> Value {
    let json = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).expect("a document")).expect("JSON");
    let blob = |descriptor: &Value| json(&folder.join("blobs/sha256").join(hex(&descriptor["digest"])));
    blob(&blob(&json(&folder.join("index.json"))["manifests"][0])["config"])
}

#[test]
fn keys_that_the_build_did_not_compute_go_no_further() {
    let mut liar = Liar::of(&marker());
    let own = keys(&liar.list);
    let other = "ab".repeat(32);
    liar.list["steps"][0]["keys"].as_array_mut().expect("keys").push(json!(other));
    liar.tell();
    let project = marker();
    let (one, two) = (project.user().new_dir(), project.user().new_dir());
    let to = |dir: &Path| format!("--cache-to=type=local,dest={},mode=max", dir.display());
    project.clone().arg(&liar.from()).arg(&to(&one)).build().cached(1).succeeds();
    // And from the store alone.
    project.clone().arg(&liar.from()).arg(&to(&two)).build().cached(1).succeeds();
    let image = project.clone().arg(&liar.from()).arg("--cache-to=type=inline").build().cached(1).succeeds();
    for list in [list_in(&one), list_in(&two), image.document()["coracle.cache.v1"].clone()] {
        assert_eq!(keys(&list), own);
    }
}

#[test]
fn what_is_no_key_is_refused() {
    for odd in ["../../../x", "", "AB", &"g".repeat(64), &"ab".repeat(33)] {
        let mut liar = Liar::of(&marker());
        liar.list["steps"][0]["keys"].as_array_mut().expect("keys").push(json!(odd));
        liar.tell();
        marker().arg(&liar.from()).build().stderr_has("is not used").cached(0).succeeds();
    }
}

/// Builds with so little memory that what is told must not be made more.
fn in_little_memory(project: &Project) -> support::Outcome {
    let line = format!("ulimit -v 1500000; exec {}", project.call().line());
    project.user().tool("sh").arg("-c").arg(line).run()
}

#[test]
fn a_list_of_many_keys_takes_the_memory_of_its_length() {
    let mut liar = Liar::of(&marker());
    let many = (0..60_000).map(|n| json!(format!("{n:064x}")));
    liar.list["steps"][0]["keys"].as_array_mut().expect("keys").extend(many);
    liar.tell();
    in_little_memory(&marker().arg(&liar.from())).succeeds();
}

#[test]
fn an_index_is_not_larger_than_allowed() {
    let mut liar = Liar::of(&marker());
    liar.layer()["index"]["size"] = json!(1u64 << 50);
    liar.tell();
    let built = marker().arg(&liar.from()).build().stderr_has("a layer cannot be had").stderr_has("more than");
    built.cached(0).succeeds();
    // Some kilobytes that are millions of files.
    let payload = |p: &mut Vec<u8>| {
        let entry = p[1..].to_vec();
        p.splice(..1, [0x80, 0x80, 0x80, 0x08]);
        entry.iter().cycle().take(entry.len() * ((16 << 20) - 1)).for_each(|byte| p.push(*byte));
    };
    let mut liar = Liar::of(&marker());
    liar.index(&index(vec![("", Kind::Dir)], &payload));
    let outcome = in_little_memory(&marker().arg(&liar.from()));
    outcome.stderr_has("a layer cannot be had").succeeds();
}
