use std::collections::BTreeMap;

use super::*;
use crate::dockerfile;
use crate::oci::{DiffId, Digest, ExecConfig, ImageConfig, Platform};
use crate::source::{Diagnostic, Source};

mod config;
mod contexts;
mod copies;
mod heredocs;
mod mounts;
mod platforms;
mod stages;
mod triggers;
mod variables;

/// A Dockerfile on its way to a plan.
struct Case {
    source: Source,
    options: GraphOptions,
    bases: BTreeMap<String, BaseImage>,
}

/// What came of it.
struct Made {
    plan: Plan,
    warnings: Vec<String>,
}

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

/// Starts with a Dockerfile for linux/amd64. The image `base` exists; it is empty but for its platform.
fn case(text: &str) -> Case {
    let options = GraphOptions { platform: Some(amd64()), build_platform: amd64(), ..GraphOptions::default() };
    Case { source: Source::new("Dockerfile", text), options, bases: BTreeMap::new() }.image("base", |_| {})
}

/// Returns the plan of a Dockerfile.
fn plan(text: &str) -> Plan {
    case(text).made().plan
}

impl Case {
    fn arg(mut self, name: &str, value: &str) -> Self {
        self.options.build_args.push((name.into(), value.into()));
        self
    }

    fn target(mut self, target: &str) -> Self {
        self.options.target = Some(target.into());
        self
    }

    /// Without a word of the user about the platform.
    fn any_platform(mut self) -> Self {
        self.options.platform = None;
        self
    }

    fn context(mut self, name: &str, kind: ContextKind) -> Self {
        self.options.contexts.push((name.into(), kind));
        self
    }

    fn platform(mut self, platform: &str) -> Self {
        self.options.platform = Some(platform.parse().unwrap());
        self
    }

    fn image(mut self, name: &str, change: impl FnOnce(&mut ImageConfig)) -> Self {
        let mut config = ImageConfig { platform: amd64(), ..ImageConfig::default() };
        config.rootfs.diff_ids.push(DiffId(Digest::of(name.as_bytes())));
        change(&mut config);
        self.bases.insert(name.into(), BaseImage { config });
        self
    }

    fn result(&self) -> Result<Made, Vec<Diagnostic>> {
        let file = dockerfile::parse(&self.source)?;
        let mut graph = Graph::new(&file, self.options.clone())?;
        graph.take_triggers(&self.bases)?;
        let (plan, warnings) = graph.lower(&self.bases)?;
        Ok(Made { plan, warnings: lines(&self.source, &warnings) })
    }

    #[track_caller]
    fn made(&self) -> Made {
        self.result().unwrap_or_else(|errors| {
            let shown: String = errors.iter().map(|error| error.render(&self.source, false) + "\n").collect();
            panic!("{}\n{shown}", self.source.text())
        })
    }

    /// Returns "line: message" for each error.
    #[track_caller]
    fn errors(&self) -> Vec<String> {
        let errors = self.result().err().unwrap_or_else(|| panic!("no error in\n{}", self.source.text()));
        lines(&self.source, &errors)
    }

    /// Returns the names of the images that are needed, and their hints.
    fn images(&self) -> Vec<(String, Option<String>)> {
        let file = dockerfile::parse(&self.source).unwrap();
        let mut graph = Graph::new(&file, self.options.clone()).unwrap();
        graph.take_triggers(&self.bases).unwrap();
        graph.images().iter().map(|image| (image.key.clone(), image.stage_hint.clone())).collect()
    }
}

fn lines(source: &Source, all: &[Diagnostic]) -> Vec<String> {
    let line = |one: &Diagnostic| one.span.map_or(0, |span| source.line_of(span.start));
    all.iter().map(|one| format!("{}: {}", line(one), one.message)).collect()
}

impl Copy {
    /// Returns the sources that are paths.
    fn paths(&self) -> Vec<&str> {
        self.sources
            .iter()
            .filter_map(|it| if let CopySource::Path(path) = it { Some(path.as_str()) } else { None })
            .collect()
    }
}

impl Plan {
    fn last(&self) -> &StagePlan {
        &self.stages[self.target]
    }

    fn image(&self) -> &ImageConfig {
        self.config(self.target)
    }

    fn exec_config(&self) -> &ExecConfig {
        &self.image().config
    }

    /// Returns the RUN steps of the target.
    fn runs(&self) -> Vec<&Run> {
        let steps = self.last().steps.iter();
        steps.filter_map(|step| if let Op::Run(run) = &step.op { Some(run) } else { None }).collect()
    }

    /// Returns the COPY steps of the target.
    fn copies(&self) -> Vec<&Copy> {
        let steps = self.last().steps.iter();
        steps.filter_map(|step| if let Op::Copy(copy) = &step.op { Some(copy) } else { None }).collect()
    }

    /// Returns `created_by` and `empty_layer` of the history that the target ends with.
    fn history(&self) -> Vec<(&str, bool)> {
        let history = self.image().history.iter();
        history.map(|entry| (entry.created_by.as_deref().unwrap_or_default(), entry.empty_layer)).collect()
    }
}

#[test]
fn the_seed_becomes_seven_steps() {
    let made = case(
        "\
FROM sdk:8.0 AS construct
WORKDIR /web
COPY . ./
RUN dotnet publish -c Release -o site
FROM runtime:8.0
COPY --from=construct /web/site ./
ENTRYPOINT [\"dotnet\", \"Demo.Web.dll\"]
",
    )
    .image("sdk:8.0", |config| config.config.env.push("PATH=/usr/bin:/bin".into()))
    .image("runtime:8.0", |config| config.config.working_dir = "/app".into())
    .made();
    assert_eq!(
        made.plan.to_string(),
        r#"stage 0 "construct" from image "sdk:8.0"
  0 workdir "/web" user=""
  1 copy context ["."] -> "/web/"
  2 run ["/bin/sh", "-c", "dotnet publish -c Release -o site"] cwd="/web" user="" env=["PATH=/usr/bin:/bin"]
stage 1 "1" from image "runtime:8.0" (target)
  3 copy stage 0 ["/web/site"] -> "/app/"
  4 config "ENTRYPOINT [\"dotnet\" \"Demo.Web.dll\"]"
"#
    );
    assert_eq!(
        made.plan.history(),
        [("COPY /web/site ./ # buildkit", false), ("ENTRYPOINT [\"dotnet\" \"Demo.Web.dll\"]", true)]
    );
    let texts: Vec<&str> = made.plan.stages.iter().flat_map(|stage| &stage.steps).map(|it| it.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "WORKDIR /web",
            "COPY . ./",
            "RUN dotnet publish -c Release -o site",
            "COPY --from=construct /web/site ./",
            "ENTRYPOINT [\"dotnet\", \"Demo.Web.dll\"]",
        ]
    );
    assert_eq!(made.warnings, [""; 0]);
}

#[test]
fn all_errors_of_the_variables_are_found_at_once() {
    let case = case("FROM base\nENV a=${b?gone}\nSTOPSIGNAL x\nEXPOSE y\nCOPY --chmod=888 a b\nUSER \"z\nRUN ok\n");
    assert_eq!(
        case.errors(),
        [
            "2: b: gone",
            "3: `x` is not a signal",
            "4: `y` is not a port or a range of ports, each at most 65535",
            "5: `888` is not a mode",
            "6: a \" without its partner",
        ]
    );
}

#[test]
fn ten_thousand_instructions_become_a_plan() {
    let mut text = String::from("FROM base\n");
    for n in 0..2_500 {
        text.push_str(&format!("ENV V{n}=x\nLABEL l{n}=$V{n}\nEXPOSE {n}\nCOPY a{n} /b\n"));
    }
    // How long it takes is what scripts/bench-plan measures.
    assert_eq!(plan(&text).last().steps.len(), 10_000);
}

#[test]
fn a_file_that_doubles_itself_is_refused() {
    let mut text = String::from("FROM base\nENV a=xxxxxxxx\n");
    text.push_str(&"ENV a=$a$a\n".repeat(40));
    assert_eq!(case(&text).errors()[0], "20: more than 1048576 bytes after expansion");

    let mut text = String::from("FROM base\nENV a=xxxxxxxx\n");
    text.push_str(&"ENV a=$a$a\n".repeat(16));
    text.push_str(&"ENV b=$a\n".repeat(10_000));
    let errors = case(&text).errors();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].ends_with("the file becomes more than 256 MiB with its variables expanded"), "{errors:?}");

    let ports = format!("FROM base\n{}", "EXPOSE 0-65535\n".repeat(10_000));
    assert!(case(&ports).errors()[0].contains("256 MiB"));
    let stages: String = std::iter::once("FROM base AS s0\n".into())
        .chain((1..20_000).map(|n| format!("FROM s{} AS s{n}\nUSER a\n", n - 1)))
        .collect();
    assert!(case(&stages).errors()[0].contains("256 MiB"));
}
