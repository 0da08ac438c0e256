//! The seed: a two-stage .NET build, verbatim, equal to what buildah makes of it.

mod support;

use std::path::Path;
use std::process::Command;

use support::{Image, Project, User, base, processes_with, require_tool, root};

/// What differs from run to run by itself: the compiler writes its own ids and times, and HOME's caches hold temporary names.
const NOT_COMPARED: [&str; 6] = ["/web/obj", "/web/bin", "/root", "/tmp", "*.dll", "*.pdb"];

#[test]
fn the_verbatim_dockerfile_builds_and_equals_buildahs_image() {
    let user = User::new();
    for layout in base::dotnet() {
        user.pull(&layout);
    }
    let context = root().join("tests/fixtures/demo-web");
    let project = Project::of(&user).named("demoweb:2");
    let build = || project.built(user.coracle(["build", "--progress=plain", "--tag", "demoweb:2"]).arg(&context).run());
    let image = build().succeeds();
    assert!(processes_with("VBCSCompiler").is_empty(), "compiler servers outlive the step");
    image.has_layers(4);
    image.top_layer().has_no("web").is_canonical();
    assert!(image.top_layer().paths().iter().any(|path| path == "Demo.Web.dll"));
    assert_eq!(image.config()["Entrypoint"], serde_json::json!(["dotnet", "Demo.Web.dll"]));
    assert!(image.config().get("Cmd").is_none_or(|cmd| cmd.is_null()), "{}", image.config());

    let again = build();
    assert!(again.count("CACHED") >= 4, "{}", again.stderr);
    assert_eq!(image.digest(), again.succeeds().digest());

    if require_tool("buildah") {
        let out = user.new_dir();
        let ours = out.join("ours");
        user.coracle(["push", "demoweb:2", &format!("oci:{}:v1", ours.display())]).run().succeeds();
        let theirs = out.join("theirs");
        buildah(&user, &context, &theirs);
        same_files(&ours, &theirs);
        same_config(&Image::only(&ours), &Image::only(&theirs));
    }
}

/// Builds the same with buildah into the layout `out`.
fn buildah(user: &User, context: &Path, out: &Path) {
    let store = user.new_dir();
    let call = |line: &str| {
        let line =
            format!("buildah --root {0}/root --runroot {0}/run --storage-driver overlay {line}", store.display());
        // buildah makes a name of the path of a layout, and no part of a name may begin with a dot.
        user.tool(&line).within(&root().join(".fixtures")).run().succeeds().stdout
    };
    for name in ["sdk", "runtime"] {
        let reference = format!("mcr.microsoft.com/dotnet/core/{name}:3.0-alpine");
        let id = call(&format!("pull -q oci:{name}:{reference}"));
        call(&format!("tag {} {reference}", id.trim()));
    }
    call(&format!("bud --isolation rootless --network host --layers --pull-never -t demoweb:2 {}", context.display()));
    call(&format!("push -q demoweb:2 oci:{}:v1", out.display()));
}

fn same_files(ours: &Path, theirs: &Path) {
    let mut canon = Command::new(root().join("tests/environments/canon"));
    canon.arg("--diff").arg(ours).arg(theirs);
    for pattern in NOT_COMPARED {
        canon.args(["--exclude", pattern]);
    }
    let compared = canon.output().expect("python3");
    assert!(compared.status.success(), "-ours +theirs\n{}", String::from_utf8_lossy(&compared.stdout));
    let paths = |image: &Image| image.tree().paths().map(String::from).collect::<Vec<_>>();
    assert_eq!(paths(&Image::only(ours)), paths(&Image::only(theirs)));
}

fn same_config(ours: &Image, theirs: &Image) {
    for member in ["Entrypoint", "Env", "User", "ExposedPorts", "Volumes"] {
        assert_eq!(ours.config()[member], theirs.config()[member], "{member}");
    }
    // buildah adds a label with its own version, and writes "/" for no working directory.
    assert_eq!(ours.config()["Labels"]["fixture.stand-in"], theirs.config()["Labels"]["fixture.stand-in"]);
    assert_eq!(
        ours.config()["WorkingDir"].as_str().unwrap_or("/"),
        theirs.config()["WorkingDir"].as_str().unwrap_or("/")
    );
    assert_eq!(ours.document()["os"], theirs.document()["os"]);
    assert_eq!(ours.document()["architecture"], theirs.document()["architecture"]);
}
