//! `--sbom`: an image that looks at the files of each result, and says what is in them.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use super::args::{PullPolicy, Sbom};
use super::arriving::Arriving;
use super::finder;
use super::registry::{LazyClient, Puller, Wants};
use super::report::{ExitStatus, Failure};
use super::request::BuildRequest;
use crate::build::{BuildError, BuildOptions, Builder, CachePolicy, CacheUse, Inputs, Isolation};
use crate::dockerfile::{Arg, Dockerfile, Instruction};
use crate::oci::Platform;
use crate::output::attest::{Claim, STATEMENT_V1};
use crate::output::content::Selection;
use crate::output::{self, Location};
use crate::plan::{Plan, ScanContext, Scanner};
use crate::progress::{Event, Sink, StepId};
use crate::source::{Source, Span};
use crate::store::{Image, Store};
use crate::tree::{Kind, Tree, TreePath};
use coracle_runtime::probe::Wanted;

/// Bytes of one SBOM at the most.
const LARGEST: u64 = 64 << 20;
/// The end of the names of files with an SBOM.
const ENDING: &str = ".spdx.json";
/// The predicate that such a file is.
const SPDX: &str = "https://spdx.dev/Document";

/// What looks at the results of a build.
pub(super) struct Scan {
    /// The flag, to show what went wrong at its place.
    pub flag: Source,
    scanner: Scanner,
    image: Image,
}

impl Scan {
    /// Finds the image; it is pulled as a base image is. With a bundle it must be in the store.
    pub fn find(
        wanted: &Sbom,
        request: &BuildRequest,
        file: &Dockerfile,
        (store, client, arriving, sink): (&Store, &LazyClient<'_>, &Arriving, &dyn Sink),
    ) -> Result<Self, Failure> {
        let written = finder::bare(&wanted.generator);
        let platform = Platform::host();
        let image = if Location::has_transport(written) {
            let selection = Selection::Platform(platform.clone());
            let imported = output::import_for(&written.parse()?, &selection, store, sink)?;
            store.image_for(&imported.descriptor, &platform)?
        } else {
            let platforms = [platform.clone()];
            let puller = Puller { arriving, client, store, wants: Wants::These(&platforms), sink };
            let policy = if request.bundle.is_some() { PullPolicy::Never } else { request.pull };
            let found = puller.find(written, policy).map_err(|failure| failure.with_hint(HINT))?;
            let missing = || {
                let message =
                    format!("error: {written}, the generator of SBOMs, is not in the store, and nobody may be asked");
                Failure::rendered(ExitStatus::Input, message).with_hint(HINT)
            };
            store.image_for(&found.ok_or_else(missing)?.descriptor, &platform)?
        };
        let prefix = "--sbom=generator=";
        let flag = Source::new("command line", format!("{prefix}{}", wanted.generator));
        let scanner = Scanner {
            // No name of an image has a space.
            key: format!("{} (sbom)", wanted.generator),
            name: wanted.generator.clone(),
            config: image.config.clone(),
            platform: image.config.platform.clone(),
            env: wanted.env.clone(),
            span: Span::from(prefix.len()..prefix.len() + wanted.generator.len()),
            context: match said("BUILDKIT_SBOM_SCAN_CONTEXT", request, &file.global_args) {
                Some(value) if is_true(&value) => ScanContext::Yes,
                _ if file.stages.iter().any(|stage| declares(stage, "BUILDKIT_SBOM_SCAN_CONTEXT", request)) => {
                    ScanContext::Yes
                }
                _ => ScanContext::No,
            },
            stages: stages(file, request),
        };
        if scanner.command().is_empty() {
            let message = format!("error: the image {} has no command, so it is no generator of SBOMs", scanner.name);
            return Err(Failure::rendered(ExitStatus::Input, message));
        }
        Ok(Scan { flag, scanner, image })
    }

    /// Returns the plan of a build with all that looks at its results.
    pub fn plan(&self, plan: &Plan) -> Plan {
        self.scanner.scans(plan)
    }

    /// Looks at each result of `plan`, which is built, and returns what was found. The generator is a step like others: it is not run
    /// again where nothing has changed.
    pub fn run(
        &self,
        builder: &mut Builder<'_>,
        plan: &Plan,
        bases: &BTreeMap<String, Image>,
        inputs: &Inputs<'_>,
        options: &BuildOptions,
    ) -> Result<Result<Vec<Vec<Claim>>, Failure>, BuildError> {
        let scans = self.plan(plan);
        let known = plan.stages.iter().flat_map(|stage| &stage.steps).map(|step| step.id).max();
        let sink = OnlyNew { sink: builder.sink, known };
        self.announce(&scans, &sink);
        let mut bases = bases.clone();
        bases.insert(self.scanner.key.clone(), self.image.clone());
        // What was built just now is used, however it was built.
        let except = match options.cache.uses {
            CacheUse::Use => Vec::new(),
            CacheUse::Ignore => vec![Scanner::STAGE.into()],
        };
        let cache = CachePolicy { uses: CacheUse::Use, except, ttl: None, from: options.cache.from.clone() };
        let options = BuildOptions { cache, ..options.clone() };
        let mut own = Builder {
            store: builder.store,
            sink: &sink,
            control: builder.control,
            isolation: std::mem::replace(&mut builder.isolation, Isolation::Undecided(Wanted::Any)),
            on_enter: builder.on_enter,
            remote: builder.remote,
            journal: Arc::default(),
            on_failure: builder.on_failure,
            ship: None,
        };
        let built = own.build(&scans, &bases, inputs, &options);
        let found = built.and_then(|built| {
            let views = built.iter().map(|built| own.files(built)).collect::<Result<Vec<_>, _>>()?;
            Ok(views.iter().map(|view| self.results(view)).collect())
        });
        builder.isolation = own.isolation;
        found
    }

    fn announce(&self, scans: &Plan, sink: &dyn Sink) {
        for target in scans.targets() {
            let stage = &scans.stages[target];
            for (at, step) in stage.steps.iter().enumerate() {
                sink.emit(Event::Planned {
                    step: step.id,
                    platform: stage.shown.clone(),
                    stage: stage.name.clone(),
                    position: (at + 1, stage.steps.len()),
                    text: step.text.clone(),
                    line: 1,
                });
            }
        }
    }

    /// Reads what the generator has left.
    fn results(&self, view: &dyn Tree) -> Result<Vec<Claim>, Failure> {
        let dir = TreePath::new(Scanner::RESULTS.trim_start_matches('/')).expect("a path without dots");
        let bad = |name: &str, why: &str| {
            let message = format!("error: {name}, which {} has written, is no SBOM: {why}", self.scanner.name);
            Failure::rendered(ExitStatus::Input, message)
        };
        let mut claims = Vec::new();
        for (name, node) in view.read_dir(&dir)? {
            let name = String::from_utf8_lossy(&name).into_owned();
            if !name.ends_with(ENDING) {
                continue;
            }
            let Kind::File { size, .. } = node.kind else { return Err(bad(&name, "it is no file")) };
            if size > LARGEST {
                return Err(bad(&name, "it has more than 64 MiB"));
            }
            let mut text = Vec::new();
            let file = view.open(&dir.child(name.as_bytes()))?;
            file.take(LARGEST).read_to_end(&mut text).map_err(|error| bad(&name, &error.to_string()))?;
            let mut document: serde_json::Value =
                serde_json::from_slice(&text).map_err(|error| bad(&name, &error.to_string()))?;
            // In a statement already, or the document alone.
            let predicate = match document.get("predicateType").map(|kind| kind.as_str() == Some(SPDX)) {
                Some(true) => document["predicate"].take(),
                Some(false) => return Err(bad(&name, &format!("its predicateType is not {SPDX}"))),
                None if document.get("spdxVersion").is_some() => document,
                None => return Err(bad(&name, "it has neither a predicateType nor an spdxVersion")),
            };
            claims.push(Claim { statement: STATEMENT_V1, kind: SPDX.into(), predicate, file: Some(name) });
        }
        if claims.is_empty() {
            let message = format!(
                "error: {} has written no file with the ending {ENDING} to {}",
                self.scanner.name,
                Scanner::RESULTS
            );
            return Err(Failure::rendered(ExitStatus::Input, message));
        }
        Ok(claims)
    }
}

const HINT: &str = "--sbom runs the image of a generator: --sbom=generator=IMAGE names another one";

/// Returns the names of the stages whose files the generator is to see, too.
fn stages(file: &Dockerfile, request: &BuildRequest) -> Vec<String> {
    const NAME: &str = "BUILDKIT_SBOM_SCAN_STAGE";
    let name = |(at, stage): (usize, &crate::dockerfile::Stage)| {
        stage.name.as_ref().map_or_else(|| at.to_string(), |name| name.value.clone())
    };
    let general = said(NAME, request, &file.global_args).unwrap_or_default();
    let wanted: Vec<&str> = general.split(',').map(str::trim).collect();
    let fits = |(at, stage): &(usize, &crate::dockerfile::Stage)| {
        let name = name((*at, stage));
        is_true(&general) || wanted.iter().any(|one| one.eq_ignore_ascii_case(&name)) || declares(stage, NAME, request)
    };
    file.stages.iter().enumerate().filter(fits).map(name).collect()
}

/// Returns whether a stage has the argument `name`, and it says yes.
fn declares(stage: &crate::dockerfile::Stage, name: &str, request: &BuildRequest) -> bool {
    let args: Vec<Arg> = stage
        .instructions
        .iter()
        .flat_map(|instruction| match &instruction.value {
            Instruction::Arg(args) => args.iter().filter(|arg| arg.name == name).cloned().collect(),
            _ => Vec::new(),
        })
        .collect();
    !args.is_empty() && said(name, request, &args).is_some_and(|value| is_true(&value))
}

/// Returns the value of an argument: of the command line, else the default of one of `args`.
fn said(name: &str, request: &BuildRequest, args: &[Arg]) -> Option<String> {
    let given = request.build_args.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.clone());
    let default = || args.iter().rev().find(|arg| arg.name == name)?.default.as_ref().map(|word| word.text.clone());
    given.or_else(default)
}

fn is_true(value: &str) -> bool {
    matches!(value.trim().to_ascii_lowercase().as_str(), "1" | "true" | "t")
}

/// Shows what happens to steps that were not part of the build before.
struct OnlyNew<'a> {
    sink: &'a dyn Sink,
    known: Option<StepId>,
}

impl Sink for OnlyNew<'_> {
    fn emit(&self, event: Event) {
        let step = match &event {
            Event::Planned { step, .. }
            | Event::Started { step }
            | Event::Cached { step }
            | Event::Missed { step, .. }
            | Event::Output { step, .. }
            | Event::Again { step, .. }
            | Event::Finished { step, .. } => Some(*step),
            _ => None,
        };
        if step.is_none_or(|step| Some(step) > self.known) {
            self.sink.emit(event);
        }
    }
}
