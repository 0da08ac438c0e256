//! `coracle build`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use coracle_runtime::container::Control;

use super::elsewhere::Elsewhere;
use super::finder::Finder;
use super::findings::{self, Around, Told};
use super::locked::Locked;
use super::progress::Progress;
use super::registry::{LazyClient, Puller};
use super::remote_cache::{self, CachePlaces};
use super::report::{ExitStatus, Failure, Style};
use super::request::{BuildRequest, Task, UsageError};
use super::result::{self, ImageNames};
use super::sources::{self, Sources};
use super::{given, names, work};
use crate::build::{BuildError, BuildOptions, Builder, Explain, Given, Inputs, Isolation, Times};
use crate::context::Context;
use crate::dockerfile;
use crate::fetch::GitDir;
use crate::net::Cancel;
use crate::output::content::Selection;
use crate::output::{self, Location};
use crate::plan::check::Stages;
use crate::plan::{BaseImage, CopyFrom, Graph, GraphOptions, ImageUse, Op, Plan};
use crate::progress::{Event, Sink};
use crate::source::{Diagnostic, Source};
use crate::store::{Image, RemoteSteps, Store, View};

use super::args::Timestamp;
use super::outputs;

/// Builds the image and writes it wherever it was asked for.
pub(super) fn build(request: &BuildRequest) -> Result<ExitCode, Failure> {
    if request.task != Task::Build {
        return super::call::call(request);
    }
    let progress = Arc::new(Progress::new(request.progress, request.style));
    let told = Told::default();
    let result = run(request, &progress, &told);
    // Also behind a failure, and never in the middle of what steps write.
    told.tell(progress.as_ref());
    progress.finish();
    result.map(|()| ExitCode::SUCCESS)
}

/// Returns what the user may choose about the stages.
pub(super) fn graph_options(request: &BuildRequest) -> GraphOptions {
    GraphOptions {
        target: request.target.clone(),
        build_args: request.build_args.clone(),
        platform: request.platform.clone(),
        contexts: sources::kinds(&request.sources),
        ..GraphOptions::default()
    }
}

/// Returns how the plan is carried out; `given` is what RUN steps are given.
pub(super) fn options(request: &BuildRequest, given: Given) -> BuildOptions {
    BuildOptions {
        cache: request.cache.clone(),
        explain: if request.explain { Explain::Misses } else { Explain::No },
        jobs: request.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        compression: request.compression,
        times: request.times,
        limits: request.limits.clone(),
        around: request.around.clone(),
        given,
    }
}

fn run(request: &BuildRequest, progress: &Arc<Progress>, told: &Told) -> Result<(), Failure> {
    for message in &request.warnings {
        progress.emit(Event::Warning { message: message.clone(), line: None });
    }
    let tags = names::normalised(&request.tags)?;
    outputs::check_folders(request)?;
    given::check_folders(&request.given)?;
    let given = given::given(&request.given)?;
    let store = Store::open(&request.root)?;
    let control = Arc::new(Control::new());
    let cancel = Cancel::new({
        let control = Arc::clone(&control);
        move || control.cancelled()
    });
    let fetcher = sources::fetcher(&request.sources, &store, &given, cancel.clone());
    let sources = Sources {
        request: &request.sources,
        store: &store,
        fetcher: &fetcher,
        git_dir: keeps_git_dir(request),
        sink: progress.as_ref(),
    };
    let (main, source) = sources.main()?;
    let locked = request.locked.then(|| Locked::load(main.dockerfile_here().as_deref(), &source, request.style));
    let locked = locked.transpose()?;
    let failed = |diagnostics: Vec<Diagnostic>| rendered(&diagnostics, &source, request.style);
    let file = dockerfile::parse(&source).map_err(&failed)?;
    let mut graph = Graph::new(&file, graph_options(request)).map_err(&failed)?;
    let client = LazyClient::new(&request.registry, cancel);
    // Now, while nothing is done yet: a helper may open a window, and a mistake in a file is better known early.
    for target in ImageNames::of(request, &tags)?.pushed() {
        client.get()?.prepare_target(target)?;
    }
    let mut bases = BTreeMap::new();
    let mut known: BTreeMap<String, BaseImage> = BTreeMap::new();
    // The triggers of an image may name more images.
    loop {
        let more = graph.take_triggers(&known).map_err(&failed)?;
        if more.is_empty() {
            break;
        }
        let finder = Finder { client: &client, store: &store, sink: progress.as_ref() };
        let more = match &locked {
            Some(locked) => locked.images(more, &finder)?,
            None => more,
        };
        for used in more {
            let image = {
                let puller =
                    Puller { client: &client, store: &store, platform: &used.platform, sink: progress.as_ref() };
                base(request, &used, &puller, &source)?
            };
            known.insert(used.key.clone(), BaseImage { config: image.config.clone() });
            bases.insert(used.key, image);
        }
    }
    let (mut plan, warnings) = graph.lower(&known).map_err(&failed)?;
    label(&mut plan, &request.labels);
    let (context, _keeper) = match reads_context(&plan) {
        true => {
            let (context, keeper) = main.with_rules(&store, request.sources.ignore_file.clone())?;
            (Some(context), Some(keeper))
        }
        false => (None, None),
    };
    let around = Around { bases: &known, context: context.as_ref(), build_args: &request.build_args };
    let checked = findings::look(&source, &file, &graph, Stages::Needed, &around, warnings);
    let checked = checked.map_err(|error| failed(vec![error]))?;
    told.keep(&source, &checked.kept);
    if let Some(rules) = &checked.failed {
        return Err(findings::failure(rules));
    }
    let elsewhere = Elsewhere::new(&fetcher, &store, progress.as_ref(), locked.as_ref().map(|locked| &locked.pins));
    if let Some(locked) = &locked {
        locked.fetches(&plan, &elsewhere)?;
    }
    announce(&plan, &source, progress.as_ref());

    let places = CachePlaces::new(&request.cache_from);
    let cache_client = if remote_cache::needs_client(request) { Some(client.get()?) } else { None };
    let remote = places.sources(&store, cache_client, progress.as_ref());
    let on_enter = work::on_enter(&control, progress);
    let actions =
        given::Actions { actions: &request.given.on_failure, sink: progress.as_ref(), control: control.as_ref() };
    let (tell, keep) = (|terminal| actions.tell(terminal), |view: &View| actions.keep(view));
    let mut builder = Builder {
        store: &store,
        sink: progress.as_ref(),
        control: &control,
        isolation: Isolation::Undecided(request.isolation),
        on_enter: &on_enter,
        remote: remote.as_ref().map(|remote| remote as &dyn RemoteSteps),
        journal: Arc::default(),
        on_failure: given::on_failure(&request.given.on_failure, &tell, &keep),
    };
    let options = BuildOptions { times: times(request.times, graph.source_date_epoch())?, ..options(request, given) };
    let named = sources.named(&plan)?;
    let inputs = Inputs {
        context: context.as_ref(),
        named: named.iter().map(|(name, named)| (name.clone(), &named.context)).collect(),
        remote: Some(&elsewhere),
    };
    let result = builder.build(&plan, &bases, &inputs, &options);
    let written = match result {
        Err(BuildError::Interrupted) => Ok(()),
        // What was done before a failure need not be done again.
        _ => remote_cache::write(&request.cache_to, &mut builder, &plan, request, remote.as_ref(), cache_client),
    };
    let built = result.map_err(|error| failure(error, &source, context.as_ref(), progress, request.style))?;
    written?;
    for output in &request.outputs {
        outputs::write(output, &mut builder, &built, &tags, progress.as_ref())?;
    }
    told.tell(progress.as_ref());
    result::finish(request, &store, &client, &built.image, &tags, progress)
}

/// Returns whether a context from a Git repository has its folder `.git`: BuildKit's argument says so.
pub(super) fn keeps_git_dir(request: &BuildRequest) -> GitDir {
    let argument = request.build_args.iter().rev().find(|(name, _)| name == "BUILDKIT_CONTEXT_KEEP_GIT_DIR");
    match argument.map(|(_, value)| value.as_str()) {
        Some("1" | "true") => GitDir::Kept,
        _ => GitDir::Dropped,
    }
}

/// Finds an image that the Dockerfile names.
fn base(request: &BuildRequest, used: &ImageUse, puller: &Puller<'_>, source: &Source) -> Result<Image, Failure> {
    let failed = |diagnostic: Diagnostic, status| {
        let diagnostic = diagnostic.at(used.span);
        Failure::rendered(status, diagnostic.render(source, request.style == Style::Colour))
    };
    let written = used.name.strip_prefix("docker://").unwrap_or(&used.name);
    let descriptor = if Location::has_transport(written) {
        let location: Location = written.parse().map_err(|error| {
            failed(Diagnostic::error(format!("{written:?} is no image: {error}")), ExitStatus::Input)
        })?;
        output::import_for(&location, &Selection::Platform(used.platform.clone()), puller.store, puller.sink)?
            .descriptor
    } else {
        let name = names::normalise(written)
            .map_err(|error| failed(Diagnostic::error(error.to_string()), ExitStatus::Input))?;
        match puller.find(written, request.pull) {
            Ok(Some(found)) => found.descriptor,
            Ok(None) => {
                let message = match &used.stage_hint {
                    Some(_) => format!("no stage or image named `{written}`"),
                    None => format!("image {name} is not in the store"),
                };
                let hint = "with another --pull than never it would be looked for in its registry";
                let hint = used.stage_hint.clone().unwrap_or_else(|| hint.into());
                return Err(failed(Diagnostic::error(message).hint(hint), ExitStatus::Input));
            }
            Err(failure) => {
                let cause = failure.message().unwrap_or_default();
                let message = match &used.stage_hint {
                    Some(_) => format!("no stage or image named `{written}`: {cause}"),
                    None => cause,
                };
                let hints = used.stage_hint.iter().chain(failure.hints()).cloned();
                return Err(hints.fold(failed(Diagnostic::error(message), failure.status()), Failure::with_hint));
            }
        }
    };
    Ok(puller.store.image_for(&descriptor, &used.platform)?)
}

/// Returns whether the plan reads files of the context.
pub(super) fn reads_context(plan: &Plan) -> bool {
    sources::reads(plan, &CopyFrom::Context)
}

/// Returns which times the image gets: `epoch` is what the Dockerfile or a build argument says, and a flag counts more.
fn times(wanted: Times, epoch: Option<&str>) -> Result<Times, UsageError> {
    match (wanted, epoch) {
        (Times::Set(_), _) | (_, None) => Ok(wanted),
        (_, Some(text)) => match Timestamp::from_seconds(text) {
            Some(Timestamp(seconds)) => Ok(Times::Clamp(seconds)),
            None => Err(UsageError::BadEpoch { value: text.into() }),
        },
    }
}

/// Labels from the command line come last, so they count; they leave no trace in the history.
fn label(plan: &mut Plan, labels: &[(String, String)]) {
    let target = &mut plan.stages[plan.target].config.config;
    target.labels.extend(labels.iter().cloned());
}

fn announce(plan: &Plan, source: &Source, sink: &dyn Sink) {
    for stage in &plan.stages {
        // What changes the configuration only is done when the image is written.
        let steps: Vec<_> = stage.steps.iter().filter(|step| step.op != Op::Config).collect();
        for (at, step) in steps.iter().enumerate() {
            sink.emit(Event::Planned {
                step: step.id,
                stage: stage.name.clone(),
                position: (at + 1, steps.len()),
                text: step.text.clone(),
                line: source.line_of(step.span.start),
            });
        }
    }
}

/// Returns the failure of a Dockerfile that makes no sense.
pub(super) fn rendered(diagnostics: &[Diagnostic], source: &Source, style: Style) -> Failure {
    let text: Vec<String> =
        diagnostics.iter().map(|diagnostic| diagnostic.render(source, style == Style::Colour)).collect();
    Failure::rendered(ExitStatus::Input, text.join("\n"))
}

/// Shows a failed step at its place in the Dockerfile, with what it wrote last.
fn failure(
    error: BuildError,
    source: &Source,
    context: Option<&Context>,
    progress: &Arc<Progress>,
    style: Style,
) -> Failure {
    let step = if let BuildError::Step { step, .. } = &error { Some(*step) } else { None };
    let failure = unshown_failure(error, source, context, style);
    match step {
        Some(step) => failure.with_output(progress.last_lines(step)),
        None => failure,
    }
}

/// As [`failure`], where nothing was shown.
pub(super) fn unshown_failure(error: BuildError, source: &Source, context: Option<&Context>, style: Style) -> Failure {
    let (text, span, cause) = match error {
        BuildError::Step { text, span, source, .. } => (text, span, source),
        other => return other.into(),
    };
    let hint = super::classify::build_hint(&cause, context);
    let status = super::report::Classify::exit_status(cause.as_ref());
    let mut message = format!("{text}: {}", super::report::chain(cause.as_ref()));
    if status == ExitStatus::Failed && message.len() > 300 {
        // The instruction is shown below anyway.
        message = super::report::chain(cause.as_ref());
    }
    let diagnostic = Diagnostic::error(super::text::visible(&message)).at(span).maybe_hint(hint);
    Failure::rendered(status, diagnostic.render(source, style == Style::Colour))
}
