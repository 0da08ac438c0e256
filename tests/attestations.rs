//! `--provenance`, `--sbom` and `--attest`: what is said about an image, beside it in an index.

mod support;

use std::fs;
use std::path::Path;

use coracle::oci::Digest;
use serde_json::{Value, json};
use support::registry::Registry;
use support::repositories::{Server, commit, git};
use support::web::{Answer, Web};
use support::{Image, Layer, Outcome, Project, User, base, here};

fn read(layout: &Path, digest: &Value) -> Value {
    let digest = digest.as_str().unwrap();
    let bytes = fs::read(layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))).unwrap();
    assert_eq!(Digest::of(&bytes).to_string(), digest);
    serde_json::from_slice(&bytes).unwrap()
}

/// The statements about each image of an index, in the order of the images. Checks that they are stored as BuildKit does.
fn statements(layout: &Path, index: &str) -> Vec<Vec<Value>> {
    let entries = Image::index(layout, index);
    let is_about = |entry: &Value| entry["annotations"]["vnd.docker.reference.type"] == "attestation-manifest";
    let (about, images): (Vec<Value>, Vec<Value>) = entries.into_iter().partition(is_about);
    assert_eq!(about.len(), images.len());
    let of_image = |(image, entry): (&Value, &Value)| -> Vec<Value> {
        assert_eq!(entry["platform"], json!({"architecture": "unknown", "os": "unknown"}));
        assert_eq!(entry["annotations"]["vnd.docker.reference.digest"], image["digest"]);
        let manifest = read(layout, &entry["digest"]);
        assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
        let config = read(layout, &manifest["config"]["digest"]);
        assert_eq!((&config["os"], &config["architecture"]), (&json!("unknown"), &json!("unknown")));
        let layers = manifest["layers"].as_array().unwrap();
        let digests: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().iter().collect::<Vec<_>>(), digests);
        let statement = |layer: &Value| {
            assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
            let statement = read(layout, &layer["digest"]);
            assert_eq!(layer["annotations"]["in-toto.io/predicate-type"], statement["predicateType"]);
            let hex = image["digest"].as_str().unwrap().trim_start_matches("sha256:");
            assert_eq!(statement["subject"][0]["digest"]["sha256"], hex);
            statement
        };
        layers.iter().map(statement).collect()
    };
    images.iter().zip(&about).map(of_image).collect()
}

fn digest(outcome: &Outcome) -> String {
    outcome.stdout.trim().to_owned()
}

/// A user whose store has `base:1` for two platforms.
fn user() -> User {
    let user = User::new();
    base::index(&user, "base:1", &["linux/amd64", "linux/arm64"]);
    user
}

#[test]
fn without_a_flag_nothing_is_said_and_with_one_the_image_stays_what_it_is() {
    let user = User::with_busybox();
    let project =
        Project::of(&user).file("f", "f").dockerfile("FROM busybox\nCOPY f /\n").arg("--timestamp=1700000000");
    let plain = digest(&project.call().run().succeeds());
    let off = project.clone().arg("--provenance=false").arg("--attest=type=sbom,disabled=true").call().run().succeeds();
    assert_eq!(digest(&off), plain);
    let said = digest(&project.clone().arg("--provenance=true").call().run().succeeds());
    assert_ne!(said, plain);
    // Beside the very same image.
    assert_eq!(Image::index(&user.layout(), &said)[0]["digest"], json!(plain));
    let statements = statements(&user.layout(), &said);
    let statement = &statements[0][0];
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let name = format!("pkg:docker/test@latest?platform={}", here().replace('/', "%2F"));
    assert_eq!(statement["subject"][0]["name"], json!(name));
    // The same again, and in another store.
    assert_eq!(digest(&project.clone().arg("--attest=type=provenance").call().run().succeeds()), said);
    let other = User::with_busybox();
    let other = Project::of(&other).file("f", "f").dockerfile("FROM busybox\nCOPY f /\n").arg("--timestamp=1700000000");
    assert_eq!(digest(&other.arg("--provenance=mode=max").call().run().succeeds()), said);
}

#[test]
fn provenance_tells_of_all_that_the_image_is_made_of() {
    let web = Web::new(|asked| match asked.path.as_str() {
        "/file" => Answer::ok("from elsewhere"),
        _ => Answer::status(404),
    });
    let user = User::with_busybox();
    let text = format!(
        "FROM busybox AS unused\nADD {} /never\nFROM busybox AS tools\nARG LEVEL\nADD {} /file\n\
         RUN --network=none --mount=type=secret,id=token,required=true echo $LEVEL >/level\nFROM busybox\nCOPY --from=tools /level /\nCOPY f /\n",
        web.url("/gone"),
        web.url("/file")
    );
    let project = Project::of(&user).file("f", "f").file("secret", "hush-hush").dockerfile(&text);
    let secret = format!("--secret=id=token,src={}", project.path("secret").display());
    let project =
        project.arg(&secret).arg("--build-arg=LEVEL=seven").arg("--build-arg=http_proxy=http://u:pw@nowhere:1");
    let predicate = |flag: &str| {
        let built = digest(&project.clone().arg(flag).call().run().succeeds());
        statements(&user.layout(), &built)[0][0].clone()
    };
    let max = predicate("--provenance=mode=max,builder-id=https://ci.example/7,reproducible=true");
    // The instructions themselves are in it as base64.
    let text = max.to_string();
    for hidden in ["hush-hush", "u:pw", "/gone", "/never"] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
    let (definition, details) = (&max["predicate"]["buildDefinition"], &max["predicate"]["runDetails"]);
    let external = &definition["externalParameters"];
    assert_eq!(external["configSource"], json!({"path": "Dockerfile"}));
    assert_eq!(external["request"]["args"]["build-arg:LEVEL"], "seven");
    assert_eq!(external["request"]["secrets"], json!([{"id": "token", "optional": false}]));
    assert_eq!(external["request"]["locals"], json!([{"name": "context"}, {"name": "dockerfile"}]));
    let hex = |bytes: &[u8]| Digest::of(bytes).hex();
    let index: Value = serde_json::from_slice(&fs::read(base::busybox().join("index.json")).unwrap()).unwrap();
    let busybox = index["manifests"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let platform = here().replace('/', "%2F");
    let materials = json!([
        {"uri": web.url("/file"), "digest": {"sha256": hex(b"from elsewhere")}},
        {"uri": format!("pkg:docker/busybox@latest?platform={platform}"), "digest": {"sha256": busybox}},
    ]);
    assert_eq!(definition["resolvedDependencies"], materials);
    assert_eq!(definition["internalParameters"]["builderPlatform"], json!(here()));
    let steps = definition["internalParameters"]["buildConfig"]["steps"].as_array().unwrap();
    assert_eq!((steps.len(), &steps[1]["stage"], &steps[1]["line"]), (5, &json!("tools"), &json!(5)));
    assert_eq!(details["builder"]["id"], "https://ci.example/7");
    let metadata = &details["metadata"];
    assert_eq!(metadata["buildkit_hermetic"], true);
    assert_eq!(metadata["buildkit_reproducible"], true);
    assert_eq!(metadata["buildkit_completeness"], json!({"request": true, "resolvedDependencies": false}));
    assert!(metadata.get("startedOn").is_none(), "no clock: {metadata}");
    // The little that can always be said.
    let min = predicate("--provenance=mode=min");
    let text = min.to_string();
    assert!(!text.contains("seven") && !text.contains("token") && !text.contains("buildConfig"), "{text}");
    assert_eq!(min["predicate"]["buildDefinition"]["resolvedDependencies"], materials);
    let old = predicate("--provenance=mode=max,version=v0.2");
    assert_eq!(old["_type"], "https://in-toto.io/Statement/v0.1");
    assert_eq!(old["predicateType"], "https://slsa.dev/provenance/v0.2");
    assert_eq!(old["predicate"]["materials"], materials);
    assert_eq!(old["predicate"]["buildType"], "https://mobyproject.org/buildkit@v1");
    assert_eq!(old["predicate"]["invocation"]["parameters"]["args"]["build-arg:LEVEL"], "seven");
    assert_eq!(old["predicate"]["invocation"]["configSource"], json!({"entryPoint": "Dockerfile"}));
    assert_eq!(old["predicate"]["metadata"]["completeness"]["parameters"], true);
}

#[test]
fn times_are_those_that_are_given() {
    let user = User::with_busybox();
    let project = Project::of(&user).dockerfile("FROM busybox\nENV A=1\n").arg("--provenance=mode=min");
    let built = digest(&project.call().env("SOURCE_DATE_EPOCH", "1700000000").run().succeeds());
    let metadata = &statements(&user.layout(), &built)[0][0]["predicate"]["runDetails"]["metadata"];
    assert_eq!(
        (&metadata["startedOn"], &metadata["finishedOn"]),
        (&json!("2023-11-14T22:13:20Z"), &json!("2023-11-14T22:13:20Z"))
    );
}

#[test]
fn each_image_of_several_platforms_has_its_own_and_all_of_it_goes_wherever_images_go() {
    let (user, registry) = (user(), Registry::new());
    let out = user.new_dir();
    let path = |name: &str| out.join(name).display().to_string();
    let name = registry.name("web:1");
    let project = Project::of(&user).file("f", "f").dockerfile("FROM base:1\nCOPY f /\n");
    let project = project
        .arg("--platform=linux/amd64,linux/arm64")
        .arg("--provenance=mode=min")
        .arg("--annotation=index:k=v")
        .arg(&format!("--output=type=registry,name={name}"))
        .arg(&format!("--output=type=oci,tar=false,dest={}", path("layout")))
        .arg(&format!("--output=type=local,dest={}", path("local")))
        .arg(&format!("--output=type=tar,dest={}", path("files.tar")))
        .arg(&format!("--metadata-file={}", path("metadata")));
    let built = digest(&project.call().run().succeeds());
    let both = statements(&user.layout(), &built);
    assert_eq!(both, statements(&out.join("layout"), &built));
    let metadata: Value = serde_json::from_str(&fs::read_to_string(path("metadata")).unwrap()).unwrap();
    let files = Layer::read(fs::File::open(path("files.tar")).unwrap());
    for (platform, said) in ["linux/amd64", "linux/arm64"].iter().zip(&both) {
        let platform_part = format!("platform={}", platform.replace('/', "%2F"));
        let names: Vec<&str> =
            said[0]["subject"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
        assert!(names.iter().all(|name| name.ends_with(&platform_part)) && names.len() == 2, "{names:?}");
        let base = &said[0]["predicate"]["buildDefinition"]["resolvedDependencies"][0]["uri"];
        assert!(base.as_str().unwrap().ends_with(&platform_part), "{base}");
        assert_eq!(metadata[format!("buildx.build.provenance/{platform}")], said[0]["predicate"]);
        let folder = platform.replace('/', "_");
        let file = fs::read_to_string(out.join("local").join(&folder).join("provenance.json")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&file).unwrap(), said[0]);
        files.has_file(&format!("{folder}/provenance.json"), &file);
    }
    // Another user has all of it from the registry, and the image for a platform is one to run.
    let other = User::new();
    assert_eq!(digest(&other.coracle(["pull", "--all", &name]).run().succeeds()), built);
    assert_eq!(statements(&other.layout(), &built), both);
    other.coracle(["images"]).run().succeeds().stdout_has("linux/amd64, linux/arm64");
    let copy = format!("oci:{}", other.new_dir().join("copy").display());
    let copied = other.coracle(["copy", "--all", "--format=oci", &format!("docker://{name}"), &copy]).run().succeeds();
    assert_eq!(digest(&copied), built);
    let one = User::new();
    one.coracle(["pull", "--platform=linux/arm64", &name]).run().succeeds();
    let shown = one.coracle(["inspect", "--platform=linux/arm64", &name]).run().succeeds();
    assert!(shown.stdout.contains("arm64"), "{shown}");
    // As a base image it is one like others.
    let upon =
        Project::of(&other).dockerfile(&format!("FROM {name}\nENV A=1\n")).arg("--all-platforms").arg("--pull=never");
    let upon = digest(&upon.call().run().succeeds());
    assert_eq!(Image::index(&other.layout(), &upon).len(), 2);
    // Nobody takes blobs away that a statement is in.
    other.coracle(["prune", "--force"]).run();
    assert_eq!(statements(&other.layout(), &built), both);
}

#[test]
fn what_cannot_hold_attestations_refuses_them() {
    let user = User::with_busybox();
    let project = |flag: &str| Project::of(&user).dockerfile("FROM busybox\n").arg(flag);
    let dest = user.new_dir().join("x.tar");
    let docker = project("--provenance=true").arg(&format!("--output=type=docker,dest={}", dest.display()));
    docker.build().fails(2).stderr_has("type=docker holds an image without attestations");
    project("--sbom=true").arg("--format=docker").build().fails(2).stderr_has("docker's form has no attestations");
    project("--provenance=true").arg("--attest=type=provenance").build().fails(2).stderr_has("is asked for twice");
    project("--provenance=mode=some").build().fails(2).stderr_has("mode= is min or max, not \"some\"");
    project("--attest=type=vex").build().fails(2).stderr_has("the types are provenance and sbom");
    // A file about the image never takes the place of one of its own.
    let own = Project::of(&user).file("provenance.json", "mine").dockerfile("FROM scratch\nCOPY provenance.json /\n");
    let local = |flag: &str| {
        let dest = user.new_dir().join("out");
        let output = format!("--output=type=local,dest={}", dest.display());
        (own.clone().arg(flag).arg(&output).call().run(), dest)
    };
    local("--provenance=true")
        .0
        .fails(2)
        .stderr_has("the image has a file /provenance.json")
        .stderr_has("filename=NAME");
    let (built, dest) = local("--provenance=filename=about.json");
    built.succeeds();
    assert!(fs::read_to_string(dest.join("about.json")).unwrap().contains("slsa.dev"));
    assert_eq!(fs::read_to_string(dest.join("provenance.json")).unwrap(), "mine");
    let (built, dest) = local("--provenance=inline-only=true");
    built.succeeds();
    assert_eq!(fs::read_dir(&dest).unwrap().count(), 1);
}

const SCANNER: &str = r#"set -e
echo looked >&2
src=$BUILDKIT_SCAN_SOURCE
if touch "$src/x" 2>/dev/null; then echo "the source can be written"; exit 9; fi
[ "$(basename $src)" = sbom ]
statement='{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","predicate":%s}'
document="{\"spdxVersion\":\"SPDX-2.3\",\"name\":\"$(cat $src/f)\",\"depth\":\"$BUILDKIT_SCAN_DEPTH\"}"
printf "$statement" "$document" >"$BUILDKIT_SCAN_DESTINATION/sbom.spdx.json"
echo ignored >"$BUILDKIT_SCAN_DESTINATION/notes.txt"
[ -n "$BUILDKIT_SCAN_SOURCE_EXTRAS" ] || exit 0
for extra in "$BUILDKIT_SCAN_SOURCE_EXTRAS"/*; do
    [ -d "$extra" ] || continue
    printf '{"spdxVersion":"SPDX-2.3","name":"%s"}' "$(cat $extra/made $extra/f 2>/dev/null)" \
        >"$BUILDKIT_SCAN_DESTINATION/$(basename "$extra").spdx.json"
done
"#;

/// A user whose store has the generator `scan:1`.
fn user_with_scanner(script: &str) -> User {
    let user = User::with_busybox();
    let text = "FROM busybox\nCOPY scan.sh /scan.sh\nENTRYPOINT [\"sh\"]\nCMD [\"/scan.sh\"]\n";
    Project::of(&user).file("scan.sh", script).dockerfile(text).named("scan:1").call().run().succeeds();
    user
}

#[test]
fn a_generator_looks_at_the_result_and_says_what_is_in_it() {
    let user = user_with_scanner(SCANNER);
    let text = "FROM busybox AS tools\nRUN echo tools >/made\nFROM busybox AS other\nRUN echo other >/made\n\
                FROM busybox\nCOPY --from=tools /made /made\nCOPY --from=other /made /two\nCOPY f /f\n";
    let project = |text: &str| Project::of(&user).file("f", "content").dockerfile(text).arg("--pull=never");
    let sbom = "--sbom=generator=scan:1,DEPTH=2";
    let plain = digest(&project(text).call().run().succeeds());
    let built = project(text).arg(sbom).call().run().succeeds();
    let index = digest(&built);
    built.stderr_has("generating sbom using scan:1");
    assert_eq!(Image::index(&user.layout(), &index)[0]["digest"], json!(plain));
    let said = statements(&user.layout(), &index);
    assert_eq!(said[0].len(), 1);
    assert_eq!(said[0][0]["predicateType"], "https://spdx.dev/Document");
    assert_eq!(said[0][0]["predicate"], json!({"spdxVersion": "SPDX-2.3", "name": "content", "depth": "2"}));
    // It is not asked again where nothing has changed, but it is with --no-cache, and where something has.
    let again = project(text).arg(sbom).call().run().succeeds();
    assert_eq!((digest(&again), again.count("looked")), (index.clone(), 0), "{again}");
    assert_eq!(project(text).arg(sbom).arg("--no-cache").call().run().succeeds().count("looked"), 1);
    let changed = project(text).file("f", "more").arg(sbom).call().run().succeeds();
    assert_eq!(statements(&user.layout(), &digest(&changed))[0][0]["predicate"]["name"], "more");
    // Stages and the context, where that is wanted; with provenance, and in files.
    let dest = user.new_dir().join("out");
    let more = format!(
        "ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\n{}",
        text.replace("AS tools\n", "AS tools\nARG BUILDKIT_SBOM_SCAN_STAGE=true\n")
    );
    let more =
        project(&more).arg(sbom).arg("--provenance=true").arg(&format!("--output=type=local,dest={}", dest.display()));
    let more = digest(&more.call().run().succeeds());
    let said = statements(&user.layout(), &more);
    let of = |kind: &str| {
        said[0]
            .iter()
            .filter(|s| s["predicateType"] == kind)
            .map(|s| s["predicate"]["name"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("https://slsa.dev/provenance/v1").len(), 1);
    assert_eq!(of("https://spdx.dev/Document"), ["content", "tools", "content"]);
    for file in ["provenance.json", "sbom.spdx.json", "sbom-tools.spdx.json", "sbom-context.spdx.json", "f"] {
        assert!(dest.join(file).exists(), "{file}");
    }
    let by_argument = project(text).arg(sbom).arg("--build-arg=BUILDKIT_SBOM_SCAN_STAGE=other,tools");
    assert_eq!(statements(&user.layout(), &digest(&by_argument.call().run().succeeds()))[0].len(), 3);
}

#[test]
fn a_generator_that_does_not_do_its_work_fails_the_build() {
    let text = "FROM busybox\nCOPY f /f\n";
    let failed = |script: &str| {
        let user = user_with_scanner(script);
        let project = Project::of(&user).file("f", "f").dockerfile(text).named("never:1").arg("--pull=never");
        let outcome = project.arg("--sbom=generator=scan:1").call().run();
        assert!(!user.coracle(["images"]).run().succeeds().stdout.contains("never"));
        outcome
    };
    failed("exit 3").fails(1).stderr_has("--sbom=generator=scan:1").stderr_has("3");
    failed("true").fails(3).stderr_has("scan:1 has written no file with the ending .spdx.json");
    failed("echo '{' >/run/out/sbom.spdx.json")
        .fails(3)
        .stderr_has("sbom.spdx.json, which scan:1 has written, is no SBOM");
    failed("echo '{\"predicateType\":\"x\"}' >/run/out/sbom.spdx.json")
        .fails(3)
        .stderr_has("predicateType is not https://spdx.dev/Document");
    let user = User::with_busybox();
    let project = Project::of(&user).file("f", "f").dockerfile(text).arg("--pull=never");
    project.clone().arg("--sbom=true").build().fails(3).stderr_has("buildkit-syft-scanner:stable-1");
    // Where no step can be run, a generator cannot either.
    let user = user_with_scanner(SCANNER);
    let project = Project::of(&user).file("f", "f").dockerfile(text).arg("--pull=never").arg("--isolation=none");
    project.arg("--sbom=generator=scan:1").build().fails(6).stderr_has("generator=scan:1");
}

#[test]
fn a_generator_looks_at_the_image_of_each_platform_on_this_machine() {
    let user = user_with_scanner(SCANNER);
    base::index(&user, "base:1", &["linux/amd64", "linux/arm64"]);
    let project = Project::of(&user)
        .file("amd64", "for amd64")
        .file("arm64", "for arm64")
        .dockerfile("FROM base:1\nARG TARGETARCH\nCOPY $TARGETARCH /f\n");
    let project = project.arg("--pull=never").arg("--platform=linux/amd64,linux/arm64").arg("--sbom=generator=scan:1");
    let built = digest(&project.arg("--cache-to=type=inline,ignore-error=false").call().run().succeeds());
    let said = statements(&user.layout(), &built);
    let names: Vec<&Value> = said.iter().map(|statements| &statements[0]["predicate"]["name"]).collect();
    assert_eq!(names, [&json!("for amd64"), &json!("for arm64")]);
}

#[test]
fn images_of_several_jobs_are_joined_with_what_is_said_about_them() {
    let registry = Registry::new();
    let mut parts = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let user = user();
        let project = Project::of(&user).file("f", architecture).dockerfile("FROM base:1\nCOPY f /\n");
        let by_digest = format!("--output=type=image,name={},push=true,push-by-digest=true", registry.name("web"));
        let project =
            project.arg(&format!("--platform=linux/{architecture}")).arg("--provenance=mode=min").arg(&by_digest);
        parts.push(format!("docker://{}@{}", registry.name("web"), digest(&project.call().run().succeeds())));
    }
    let user = User::new();
    let list = registry.name("web:1");
    user.coracle(["manifest", "create", "--all", &list, &parts[0], &parts[1]]).run().succeeds();
    let pushed = digest(&user.coracle(["manifest", "push", &list]).run().succeeds());
    let other = User::new();
    other.coracle(["pull", "--all", &list]).run().succeeds();
    let entries = Image::index(&other.layout(), &pushed);
    assert_eq!(entries.len(), 4);
    // Each beside its own, in whatever order they came.
    for entry in entries.iter().filter(|entry| entry["platform"]["os"] == "unknown") {
        let about = &entry["annotations"]["vnd.docker.reference.digest"];
        assert!(entries.iter().any(|image| image["digest"] == *about), "{entry}");
    }
    // Who looks at an image sees what is said about it, here and in the registry.
    for place in [list.clone(), format!("docker://{list}")] {
        let inspect = |template: &str| {
            let args = ["inspect", "--platform=linux/arm64", "--format", template, &place];
            other.coracle(args).run().succeeds().stdout
        };
        let said: Value = serde_json::from_str(&inspect("{{json .Provenance.SLSA}}")).unwrap();
        let base = said["buildDefinition"]["resolvedDependencies"][0]["uri"].as_str().unwrap().to_owned();
        assert!(base.ends_with("linux%2Farm64"), "{base}");
        let platforms: Value = serde_json::from_str(&inspect("{{json .Platforms}}")).unwrap();
        assert_eq!(platforms.as_array().map(Vec::len), Some(2), "{platforms}");
        assert_eq!(inspect("{{json .SBOM}}").trim(), "null");
    }
}

#[test]
fn a_push_of_one_image_takes_along_what_is_said_about_it() {
    let (user, registry) = (User::with_busybox(), Registry::new());
    let project = Project::of(&user).dockerfile("FROM busybox\nENV A=1\n").named("web:1").arg("--provenance=true");
    let built = digest(&project.call().run().succeeds());
    let name = registry.name("web:1");
    let pushed = user.coracle(["push", "web:1", &name]).run().succeeds().stderr_has_no("warning");
    assert_eq!(digest(&pushed), built);
    let other = User::new();
    assert_eq!(digest(&other.coracle(["pull", "--all", &name]).run().succeeds()), built);
    assert_eq!(statements(&other.layout(), &built).len(), 1);
    // The image for a platform alone is what was asked for then, and where only that is here it is what there is.
    let alone = format!("--platform={}", here());
    let image = Image::index(&user.layout(), &built)[0]["digest"].clone();
    assert_eq!(
        json!(digest(&user.coracle(["push", &alone, "web:1", &registry.name("one:1")]).run().succeeds())),
        image
    );
    let third = User::new();
    third.coracle(["pull", &name]).run().succeeds();
    assert_eq!(json!(digest(&third.coracle(["push", &name, &registry.name("two:1")]).run().succeeds())), image);
    let archive = format!("docker-archive:{}", user.new_dir().join("a.tar").display());
    user.coracle(["push", "web:1", &archive]).run().succeeds();
}

#[test]
fn repositories_are_materials_with_their_commits() {
    if !support::require_tool("git") {
        return;
    }
    let server = Server::new();
    let context = server.repository("web", &[("Dockerfile", ""), ("f", "f")]);
    let library = server.repository("library", &[("l", "l")]);
    let text = format!("FROM scratch\nADD {} /l/\nCOPY f /f\n", server.url("library"));
    let own = commit(&context, &[("Dockerfile", &text)]);
    let user = User::new();
    let built = user.coracle(["build", "--provenance=mode=max", &server.url("web")]).run().succeeds();
    let said = statements(&user.layout(), &digest(&built));
    let definition = &said[0][0]["predicate"]["buildDefinition"];
    let source = &definition["externalParameters"]["configSource"];
    assert_eq!(source, &json!({"uri": server.url("web"), "digest": {"sha1": own}, "path": "Dockerfile"}));
    assert_eq!(definition["externalParameters"]["request"]["locals"], json!([]));
    let added = git(&library, &["rev-parse", "HEAD"]);
    let mut wanted = vec![
        json!({"uri": server.url("library"), "digest": {"sha1": added}}),
        json!({"uri": server.url("web"), "digest": {"sha1": own}}),
    ];
    wanted.sort_by_key(|one| one["uri"].as_str().map(str::to_owned));
    assert_eq!(definition["resolvedDependencies"], json!(wanted));
    let complete = &said[0][0]["predicate"]["runDetails"]["metadata"]["buildkit_completeness"];
    assert_eq!(complete, &json!({"request": true, "resolvedDependencies": true}));
}
