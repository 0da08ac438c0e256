//! Dockerfiles and what becomes of them: `tests/corpus/good/*.Dockerfile` with the printed plan and the configuration,
//! `tests/corpus/bad/*.Dockerfile` with what the user is told. The expected text lies beside each, as `.expected`;
//! `BLESS=1 cargo test --test corpus` writes it anew, for a person to read before it is committed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use coracle::dockerfile;
use coracle::oci::{ImageConfig, Platform};
use coracle::plan::{BaseImage, Graph, GraphOptions};
use coracle::source::{Diagnostic, Source};

fn platform() -> Platform {
    "linux/amd64".parse().expect("a platform")
}

/// The images that exist. One is there for another machine, too, and one has triggers.
fn bases() -> BTreeMap<String, BaseImage> {
    let image = |workdir: &str| {
        let mut config = ImageConfig { platform: platform(), ..ImageConfig::default() };
        config.config.env.push("PATH=/usr/bin:/bin".into());
        config.config.working_dir = workdir.into();
        BaseImage { config }
    };
    let names = [("base", ""), ("sdk:8.0", ""), ("runtime:8", "/app"), ("certs:latest", "/")];
    let mut bases: BTreeMap<_, _> = names.map(|(name, workdir)| (name.to_owned(), image(workdir))).into();
    let mut foreign = image("");
    foreign.config.platform = "linux/arm64".parse().expect("a platform");
    bases.insert("base (linux/arm64)".into(), foreign);
    let mut onbuild = image("");
    onbuild.config.config.on_build = vec!["WORKDIR /app".into(), "COPY --from=certs:latest . certs".into()];
    bases.insert("onbuild".into(), onbuild);
    bases
}

/// Returns the plan as text, or the errors.
fn outcome(source: &Source) -> Result<String, String> {
    let shown = |all: &[Diagnostic]| all.iter().map(|one| one.render(source, false) + "\n").collect::<String>();
    let file = dockerfile::parse(source).map_err(|errors| shown(&errors))?;
    let options = GraphOptions { platform: Some(platform()), build_platform: platform(), ..GraphOptions::default() };
    let mut graph = Graph::new(&file, options).map_err(|errors| shown(&errors))?;
    graph.take_triggers(&bases()).map_err(|errors| shown(&errors))?;
    let (plan, warnings) = graph.lower(&bases()).map_err(|errors| shown(&errors))?;
    let mut text = plan.to_string();
    let config = plan.config(plan.target);
    let json = serde_json::to_string_pretty(&config.config).expect("a configuration is JSON");
    writeln!(text, "\n{json}\n").expect("a string takes all");
    for entry in &config.history {
        let empty = if entry.empty_layer { "" } else { "layer " };
        writeln!(text, "{empty}{}", entry.created_by.as_deref().unwrap_or_default()).expect("a string takes all");
    }
    let warnings: Vec<Diagnostic> = file.warnings.iter().chain(&warnings).cloned().collect();
    if !warnings.is_empty() {
        write!(text, "\n{}", shown(&warnings)).expect("a string takes all");
    }
    Ok(text)
}

fn dockerfiles(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let entries = std::fs::read_dir(&folder).expect("the corpus is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "Dockerfile"));
    files.sort();
    assert!(!files.is_empty());
    files
}

fn check(file: &Path, text: &str) {
    let expected = file.with_extension("expected");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&expected, text).expect("the corpus can be written");
    }
    let before = std::fs::read_to_string(&expected).unwrap_or_default();
    assert_eq!(text, before, "{}", file.display());
}

fn read(file: &Path) -> Source {
    Source::new("Dockerfile", std::fs::read_to_string(file).expect("a Dockerfile is text"))
}

#[test]
fn good_dockerfiles_become_these_plans() {
    for file in dockerfiles("good") {
        let text = outcome(&read(&file)).unwrap_or_else(|errors| panic!("{}\n{errors}", file.display()));
        check(&file, &text);
    }
}

#[test]
fn bad_dockerfiles_say_what_is_wrong_with_them() {
    for file in dockerfiles("bad") {
        let errors = outcome(&read(&file)).expect_err(&file.display().to_string());
        check(&file, &errors);
    }
}
