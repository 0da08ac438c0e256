//! `coracle build`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coracle_runtime::container::Control;

use super::arriving::{Arriving, NotArrived};
use super::bases::Bases;
use super::bundled::Bundled;
use super::dress::Dresser;
use super::early::EarlyPush;
use super::elsewhere::Elsewhere;
use super::finder::Finder;
use super::findings::{self, Around, Told};
use super::locked::Locked;
use super::platforms::{self, Graphs};
use super::product::Product;
use super::progress::Progress;
use super::provenance::Facts;
use super::registry::{LazyClient, WithCaches};
use super::remote_cache::{self, CachePlaces, Ways};
use super::report::{ExitStatus, Failure, Style};
use super::request::{BuildRequest, Platforms, Task};
use super::result::{self, ImageNames};
use super::scan::Scan;
use super::sources::{self, Sources};
use super::{given, lists, names, work};
use crate::build::{BuildError, BuildOptions, Builder, Explain, Given, Inputs, Isolation, Making};
use crate::context::Context;
use crate::dockerfile;
use crate::fetch::GitDir;
use crate::net::Cancel;
use crate::oci::{Platform, Reference};
use crate::output::attest::Claim;
use crate::plan::check::Stages;
use crate::plan::{BaseImage, CopyFrom, Op, Plan};
use crate::progress::{Event, Sink};
use crate::source::{Diagnostic, Source};
use crate::store::{Packed, RemoteSteps, Store, View};

use super::{changes, outputs, volumes};

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

/// Returns how the plan is carried out; `given` is what RUN steps are given.
pub(super) fn options(request: &BuildRequest, given: Given) -> BuildOptions {
    BuildOptions {
        cache: request.cache.clone(),
        explain: if request.explain { Explain::Misses } else { Explain::No },
        jobs: request.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        making: Making {
            compression: request.compression(),
            times: request.times,
            squash: request.changes.squash,
            recorded: request.changes.recorded,
        },
        limits: request.limits.clone(),
        around: crate::build::Around { volumes: request.host.live(), ..request.around.clone() },
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
    volumes::check(&request.host)?;
    result::remove_files(request)?;
    let given = given::given(&request.given)?;
    let store = Store::open(&request.root)?;
    if let Some(list) = &request.changes.list {
        lists::check(&store, list, &tags)?;
    }
    let control = Arc::new(Control::new());
    // A step that fails ends all others, but not the writing of what was done by then to a cache.
    let has_failed = Arc::new(AtomicBool::new(false));
    let cancel = Cancel::new({
        let (control, has_failed) = (Arc::clone(&control), Arc::clone(&has_failed));
        move || control.cancelled() && !has_failed.load(Ordering::Relaxed)
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
    let bundled = request.bundle.as_deref().map(|path| Bundled::open(path, &store, &source, request.style));
    let bundled = bundled.transpose()?;
    let failed = |diagnostics: Vec<Diagnostic>| rendered(&diagnostics, &source, request.style);
    let file = dockerfile::parse(&source).map_err(&failed)?;
    let client = LazyClient::new(&request.registry, cancel.clone());
    client.settle(|| {
        let graphs = Graphs::of(&file, request, Vec::new()).map_err(&failed)?;
        Ok(graphs.first().bases().map(str::to_owned).collect())
    })?;
    let bundle = bundled.as_ref().map(|bundled| bundled.bundle.as_ref());
    let finder = Finder { client: &client, store: &store, sink: progress.as_ref(), bundle };
    let mut graphs = match request.platforms {
        Platforms::All => {
            let platforms = platforms::common(&file, request, &finder, locked.as_ref(), &source)?;
            Graphs::of(&file, request, platforms).map_err(&failed)?
        }
        _ => Graphs::new(&file, request).map_err(&failed)?,
    };
    // Now, while nothing is done yet: a helper may open a window, and a mistake in a file is better known early.
    let pushed: Vec<Reference> = ImageNames::of(request, &tags)?.pushed().cloned().collect();
    for target in &pushed {
        client.get()?.prepare_target(target)?;
    }
    let arriving = Arriving::default();
    let finds = Bases {
        request,
        arriving: &arriving,
        client: &client,
        store: &store,
        source: &source,
        sink: progress.as_ref(),
        several: graphs.are_several(),
        bundled: bundled.as_ref(),
    };
    let (mut bases, mut uses) = (BTreeMap::new(), Vec::new());
    let mut known: BTreeMap<String, BaseImage> = BTreeMap::new();
    // The triggers of an image may name more images.
    loop {
        let more = graphs.take_triggers(&known).map_err(&failed)?;
        if more.is_empty() {
            break;
        }
        let more = match &locked {
            Some(locked) => locked.images(more, &finder)?,
            None => more,
        };
        let images = finds.find(&more)?;
        for (used, image) in more.into_iter().zip(images) {
            known.insert(used.key.clone(), BaseImage { config: image.config.clone() });
            bases.insert(used.key.clone(), image);
            uses.push(used);
        }
    }
    let (mut plan, warnings) = graphs.lower(&known).map_err(&failed)?;
    let made_for: Vec<Platform> = plan.targets().map(|target| plan.config(target).platform.clone()).collect();
    request.check_annotations(&made_for)?;
    changes::apply(&mut plan, &request.changes);
    volumes::add(&mut plan, &request.host);
    let here = (&store, &client, &arriving, progress.as_ref() as &dyn Sink);
    let scan = request.attest.sbom.as_ref().map(|wanted| Scan::find(wanted, request, &file, here)).transpose()?;
    let origin = main.origin(&request.sources);
    let reads = match &scan {
        Some(scan) => reads_context(&scan.plan(&plan)),
        None => reads_context(&plan),
    };
    let (context, _keeper) = match reads {
        true => {
            let (context, keeper) = main.with_rules(&store, request.sources.ignore_file.clone())?;
            (Some(context), Some(keeper))
        }
        false => (None, None),
    };
    let around = Around { bases: &known, context: context.as_ref(), build_args: &request.build_args };
    let checked = findings::look_at_each(&source, &file, &graphs, Stages::Needed, &around, warnings);
    let checked = checked.map_err(|error| failed(vec![error]))?;
    told.keep(&source, &checked.kept);
    if let Some(rules) = &checked.failed {
        return Err(findings::failure(rules));
    }
    let elsewhere = Elsewhere::new(&fetcher, &store, progress.as_ref(), locked.as_ref().map(|locked| &locked.pins));
    let elsewhere = elsewhere.out_of(bundled.as_ref().map(|bundled| Arc::clone(&bundled.bundle)));
    if let Some(bundled) = &bundled {
        bundled.fetches(&plan)?;
    }
    if let Some(locked) = &locked {
        locked.fetches(&plan, &elsewhere)?;
    }
    announce(&plan, &source, progress.as_ref());

    let places = CachePlaces::new(&request.cache_from);
    let cache_client = if remote_cache::needs_client(request) { Some(client.get()?) } else { None };
    let ways = Ways::new(request, cache_client, cancel);
    let remote = places.sources(&store, &ways, progress.as_ref());
    let names = ImageNames::of(request, &tags)?;
    let remote = remote.map(|remote| remote_cache::staying(remote, request, &names));
    let on_enter = work::on_enter(&control, progress);
    let actions =
        given::Actions { actions: &request.given.on_failure, sink: progress.as_ref(), control: control.as_ref() };
    let (tell, keep) = (|terminal| actions.tell(terminal), |view: &View| actions.keep(view));
    let early = match pushed.is_empty() {
        true => None,
        false => EarlyPush::new(request, &pushed, client.get()?, &store),
    };
    let send = |whose, packed: &Packed| early.iter().for_each(|early| early.send(whose, packed));
    let mut builder = Builder {
        store: &store,
        sink: progress.as_ref(),
        control: &control,
        isolation: Isolation::Undecided(request.isolation),
        on_enter: &on_enter,
        remote: remote.as_ref().map(|remote| remote as &dyn RemoteSteps),
        journal: Arc::default(),
        on_failure: given::on_failure(&request.given.on_failure, &tell, &keep),
        ship: early.is_some().then_some(&send),
    };
    let mut options = options(request, given);
    options.making.times = changes::times(request, graphs.first().source_date_epoch(), progress.as_ref())?;
    let named = sources.named(&plan)?;
    let volumes = volumes::open(&request.host)?;
    let inputs = Inputs {
        context: context.as_ref(),
        named: named
            .iter()
            .map(|(name, named)| (name.clone(), &named.context))
            .chain(volumes.iter().map(|(name, context)| (name.clone(), context)))
            .collect(),
        remote: Some(&elsewhere),
    };
    builder.foresee(&plan, &bases);
    let arrived = arriving.bring(&mut builder, &client);
    arrived.map_err(|error| not_arrived(error, &source, request.style))?.name(&store)?;
    let result = builder.build(&plan, &bases, &inputs, &options);
    has_failed.store(!matches!(result, Ok(_) | Err(BuildError::Interrupted)), Ordering::Relaxed);
    let written = match result {
        Err(BuildError::Interrupted) => Ok(()),
        // What was done before a failure need not be done again.
        _ => remote_cache::write(&request.cache_to, &mut builder, &plan, request, remote.as_ref(), &ways),
    };
    let built = result.map_err(|error| failure(error, (&source, context.as_ref()), progress, request))?;
    written?;
    let mut claims: Vec<Vec<Claim>> = Vec::new();
    if let Some(wanted) = &request.attest.provenance {
        let (uses, elsewhere, dockerfile) = (&uses[..], &elsewhere, &source);
        let (plan, bases, options, origin) = (&plan, &bases, &options, origin.as_ref());
        let facts = Facts { request, options, plan, uses, bases, elsewhere, dockerfile, origin };
        claims = facts.claims(wanted)?.into_iter().map(|claim| vec![claim]).collect();
    }
    let provenance = claims.concat().into_iter().map(|claim| claim.predicate).collect();
    if let Some(scan) = &scan {
        let found = scan.run(&mut builder, &plan, &bases, &inputs, &options);
        let found = found.map_err(|error| failure(error, (&scan.flag, context.as_ref()), progress, request))??;
        claims.resize_with(found.len(), Vec::new);
        claims.iter_mut().zip(found).for_each(|(claims, found)| claims.extend(found));
    }
    let dresser =
        Dresser::new(request, &builder, &plan, &bases).with_claims(claims, ImageNames::of(request, &tags)?.all());
    let product = Product::new(built, &dresser, (request, provenance), options.making.times)?;
    for output in &request.outputs {
        outputs::write(output, &mut builder, (&product, &dresser), &tags, progress.as_ref())?;
    }
    told.tell(progress.as_ref());
    let from = WithCaches { store: &store, caches: remote.as_ref() };
    result::finish(request, &from, &client, &product, &tags, progress)
}

/// Returns whether a context from a Git repository has its folder `.git`: BuildKit's argument says so.
pub(super) fn keeps_git_dir(request: &BuildRequest) -> GitDir {
    let argument = request.build_args.iter().rev().find(|(name, _)| name == "BUILDKIT_CONTEXT_KEEP_GIT_DIR");
    match argument.map(|(_, value)| value.as_str()) {
        Some("1" | "true") => GitDir::Kept,
        _ => GitDir::Dropped,
    }
}

/// Shows an image that did not come where it is named.
fn not_arrived(NotArrived { span, failure }: NotArrived, source: &Source, style: Style) -> Failure {
    let (Some(span), Some(message)) = (span, failure.message()) else { return failure };
    let diagnostic = Diagnostic::error(message).at(span).render(source, style == Style::Colour);
    let shown = Failure::rendered(failure.status(), diagnostic);
    failure.hints().iter().cloned().fold(shown, Failure::with_hint)
}

/// Returns whether the plan reads files of the context.
pub(super) fn reads_context(plan: &Plan) -> bool {
    sources::reads(plan, &CopyFrom::Context)
}

fn announce(plan: &Plan, source: &Source, sink: &dyn Sink) {
    for stage in &plan.stages {
        // What changes the configuration only is done when the image is written.
        let steps: Vec<_> = stage.steps.iter().filter(|step| step.op != Op::Config).collect();
        for (at, step) in steps.iter().enumerate() {
            sink.emit(Event::Planned {
                step: step.id,
                platform: stage.shown.clone(),
                stage: stage.name.clone(),
                position: (at + 1, steps.len()),
                text: step.text.clone(),
                line: source.line_of(step.span.start),
            });
        }
    }
}

/// Errors of a Dockerfile that are shown at the most: whoever makes more reads none of them.
const MOST_ERRORS: usize = 100;

/// Returns the failure of a Dockerfile that makes no sense.
pub(super) fn rendered(diagnostics: &[Diagnostic], source: &Source, style: Style) -> Failure {
    let shown = diagnostics.iter().take(MOST_ERRORS);
    let mut text: Vec<String> = shown.map(|diagnostic| diagnostic.render(source, style == Style::Colour)).collect();
    if let more @ 1.. = diagnostics.len().saturating_sub(MOST_ERRORS) {
        text.push(Diagnostic::error(format!("{more} more errors")).render(source, style == Style::Colour));
    }
    Failure::rendered(ExitStatus::Input, text.join("\n"))
}

/// What can be done next where a command failed.
const NEXT: &str = "--on-failure=shell opens a shell where it failed, --on-failure=save=DIR keeps its files";

/// Shows a failed step at its place in the Dockerfile, with what it wrote last, and what can be done next where nothing was asked for.
fn failure(
    error: BuildError,
    (source, context): (&Source, Option<&Context>),
    progress: &Arc<Progress>,
    request: &BuildRequest,
) -> Failure {
    let (style, actions) = (request.style, &request.given.on_failure);
    let BuildError::Step { step, source: cause, .. } = &error else { return error.into() };
    let (step, of_command) = (*step, cause.is_of_command());
    let failure = unshown_failure(error, source, context, style).with_output(progress.last_lines(step));
    match of_command && actions.is_empty() {
        true => failure.with_hint(NEXT),
        false => failure,
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
