//! `coracle build --plan`: what a build would do. Nothing is pulled, entered, unpacked or written.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;

use coracle_runtime::container::Control;
use serde_json::{Value, json};

use super::args::PrintForm;
use super::elsewhere::Elsewhere;
use super::platforms::Graphs;
use super::report::{ExitStatus, Failure};
use super::request::{BuildRequest, PlanStatus, Task};
use super::sources::{Main, Sources};
use super::text::{cut, size, visible};
use super::{build, call, print, volumes};
use crate::build::{Builder, Given, Inputs, Isolation, OnFailure, StagePreview, StepPreview, StepState};
use crate::dockerfile::Dockerfile;
use crate::net::Cancel;
use crate::oci::ImageConfig;
use crate::plan::{Base, BaseImage, CopyFrom, MountKind, Op, Plan, Step};
use crate::progress::Silent;
use crate::source::{Diagnostic, Source};
use crate::store::Image;

/// The version of the document's form.
const FORMAT: u32 = 1;

/// Columns of the text of an instruction.
const COLUMNS: usize = 60;

pub(super) fn plan(
    request: &BuildRequest,
    sources: &Sources<'_>,
    main: Main,
    (source, file): (&Source, &Dockerfile),
) -> Result<ExitCode, Failure> {
    let store = sources.store;
    let failed = |errors: Vec<Diagnostic>| build::rendered(&errors, source, request.style);
    let mut graphs = Graphs::new(file, request).map_err(failed)?;
    let mut bases = BTreeMap::new();
    // What is not there is taken for an image that sets nothing: its stage is unknown anyway.
    let mut known: BTreeMap<String, BaseImage> = BTreeMap::new();
    loop {
        let more = graphs.take_triggers(&known).map_err(failed)?;
        if more.is_empty() {
            break;
        }
        for used in more {
            let image = call::image(&used, store);
            let config = image.as_ref().map_or_else(ImageConfig::default, |image| image.config.clone());
            known.insert(used.key.clone(), BaseImage { config });
            bases.extend(image.map(|image| (used.key, image)));
        }
    }
    let (mut plan, _) = graphs.lower(&known).map_err(|errors| {
        let mut images = graphs.each().iter().flat_map(|graph| graph.images());
        let missing = images.find(|used| !bases.contains_key(&used.key));
        let failure = failed(errors);
        match missing {
            Some(used) => failure.with_hint(format!("{} is not in the store, so what it sets is not known", used.name)),
            None => failure,
        }
    })?;
    volumes::add(&mut plan, &request.host);
    let (context, _keeper) = match build::reads_context(&plan) {
        true => {
            let (context, keeper) = main.with_rules(store, request.sources.ignore_file.clone())?;
            (Some(context), Some(keeper))
        }
        false => (None, None),
    };
    let builder = Builder {
        store,
        sink: &Silent,
        control: &Control::new(),
        isolation: Isolation::Undecided(request.isolation),
        on_enter: &|| {},
        // A cache elsewhere is asked in a build only.
        remote: None,
        journal: Arc::default(),
        on_failure: OnFailure::Nothing,
        ship: None,
    };
    let named = sources.named(&plan)?;
    let volumes = volumes::open(&request.host)?;
    // Nobody is asked for what ADD names elsewhere: what cannot have changed is taken as it was fetched before.
    let fetcher =
        super::sources::fetcher(&request.sources, store, &Given::default(), Cancel::default()).without_network();
    let elsewhere = Elsewhere::new(&fetcher, store, &Silent, None);
    let inputs = Inputs {
        context: context.as_ref(),
        named: named
            .iter()
            .map(|(name, named)| (name.clone(), &named.context))
            .chain(volumes.iter().map(|(name, context)| (name.clone(), context)))
            .collect(),
        remote: Some(&elsewhere),
    };
    // No secret is read: none is part of a key.
    let stages = builder
        .preview(&plan, &bases, &inputs, &build::options(request, Given::default()))
        .map_err(|error| build::unshown_failure(error, source, context.as_ref(), request.style))?;
    let Task::Plan { form, status } = request.task else { return Ok(ExitCode::SUCCESS) };
    print(&match form {
        PrintForm::Json => document(source, &plan, &stages, &bases),
        PrintForm::Text => text(&plan, &stages, &bases),
    })?;
    let all_hit = stages.iter().flat_map(|stage| &stage.steps).all(|step| step.state == StepState::Hit);
    Ok(match status {
        PlanStatus::Cached if !all_hit => ExitStatus::NotCached.into(),
        _ => ExitCode::SUCCESS,
    })
}

fn word(state: StepState) -> &'static str {
    match state {
        StepState::Hit => "hit",
        StepState::Miss => "miss",
        StepState::Unknown => "unknown",
    }
}

fn is_target(plan: &Plan, stage: usize) -> bool {
    plan.targets().any(|target| target == stage)
}

/// Returns how many steps are in each state.
fn counts(stages: &[StagePreview]) -> [usize; 3] {
    let count = |state| stages.iter().flat_map(|stage| &stage.steps).filter(|step| step.state == state).count();
    [count(StepState::Hit), count(StepState::Miss), count(StepState::Unknown)]
}

/// Returns the bytes that must be unpacked before the first step that is not in the cache can be run; `None` where they are not
/// known.
fn unpack(stage: &StagePreview) -> Option<u64> {
    let runs = stage.steps.iter().any(|step| step.state != StepState::Hit);
    if runs { stage.unpack } else { Some(0) }
}

fn steps<'a>(plan: &'a Plan, at: usize, stage: &'a StagePreview) -> impl Iterator<Item = (&'a Step, &'a StepPreview)> {
    let find = move |preview: &'a StepPreview| {
        let step = plan.stages[at].steps.iter().find(|step| step.id == preview.step)?;
        Some((step, preview))
    };
    stage.steps.iter().filter_map(find)
}

fn text(plan: &Plan, stages: &[StagePreview], bases: &BTreeMap<String, Image>) -> String {
    let mut text = String::new();
    for (at, stage) in stages.iter().enumerate() {
        let planned = &plan.stages[at];
        let base = match &planned.base {
            Base::Scratch => "nothing".to_owned(),
            Base::Stage(below) => format!("the stage {}", visible(&plan.stages[*below].name)),
            Base::Image(name) if bases.contains_key(name) => visible(name),
            Base::Image(name) => format!("{}, which is not in the store", visible(name)),
        };
        let target = if is_target(plan, at) { " (target)" } else { "" };
        let platform = planned.shown.as_ref().map(|platform| visible(platform) + " ").unwrap_or_default();
        text += &format!("stage {platform}{}{target} on {base}\n", visible(&planned.name));
        for (number, (step, preview)) in steps(plan, at, stage).enumerate() {
            let key = preview.key.as_deref().unwrap_or_default();
            let line = cut(&visible(&step.text), COLUMNS);
            let count = format!("{}/{}", number + 1, stage.steps.len());
            text +=
                format!("  {:<7}  {count:>5} {line:<COLUMNS$}  {}", word(preview.state), key.get(..12).unwrap_or(key))
                    .trim_end();
            text.push('\n');
            for reason in &preview.reasons {
                text += &format!("                 {}\n", visible(reason));
            }
        }
        match unpack(stage) {
            Some(0) => {}
            Some(bytes) => text += &format!("  {} of its base image to unpack\n", size(bytes)),
            None => text += "  its base image must be brought in first\n",
        }
    }
    let [hit, miss, unknown] = counts(stages);
    text + &format!("{hit} hit, {miss} miss, {unknown} unknown\n")
}

fn document(source: &Source, plan: &Plan, stages: &[StagePreview], bases: &BTreeMap<String, Image>) -> String {
    let stage = |(at, stage): (usize, &StagePreview)| {
        let planned = &plan.stages[at];
        let base = match &planned.base {
            Base::Scratch => json!({ "kind": "scratch" }),
            Base::Stage(below) => json!({ "kind": "stage", "stage": below }),
            Base::Image(name) => {
                let digest = bases.get(name).map(|image| image.digest.to_string());
                json!({ "kind": "image", "name": name, "digest": digest })
            }
        };
        let steps: Vec<Value> = steps(plan, at, stage)
            .map(|(step, preview)| {
                json!({
                    "step": step.id,
                    "line": source.line_of(step.span.start),
                    "instruction": step.text.split_whitespace().next().unwrap_or_default(),
                    "text": step.text,
                    "key": preview.key,
                    "state": word(preview.state),
                    "reasons": preview.reasons,
                })
            })
            .collect();
        json!({
            "stage": at,
            "name": planned.name,
            "platform": planned.shown,
            "target": is_target(plan, at),
            "base": base,
            "needs": needs(plan, at),
            "images": images(plan, at),
            "unpack": unpack(stage),
            "steps": steps,
        })
    };
    let [hit, miss, unknown] = counts(stages);
    let value = json!({
        "format": FORMAT,
        "dockerfile": source.name(),
        "hit": hit,
        "miss": miss,
        "unknown": unknown,
        "stages": stages.iter().enumerate().map(stage).collect::<Vec<_>>(),
    });
    serde_json::to_string_pretty(&value).expect("values always serialise") + "\n"
}

/// Returns where the steps of a stage read files, besides the stage itself.
fn sources(plan: &Plan, at: usize) -> Vec<&CopyFrom> {
    let mut sources = Vec::new();
    for step in &plan.stages[at].steps {
        match &step.op {
            Op::Copy(copy) => sources.push(&copy.from),
            Op::Run(run) => sources.extend(run.mounts.iter().filter_map(|mount| match &mount.kind {
                MountKind::Bind { from, .. } => Some(from),
                MountKind::Cache { from, .. } => from.as_ref(),
                _ => None,
            })),
            _ => {}
        }
    }
    sources
}

/// Returns the stages that must be built before the stage `at` can be.
fn needs(plan: &Plan, at: usize) -> BTreeSet<usize> {
    let base = match &plan.stages[at].base {
        Base::Stage(below) => Some(*below),
        _ => None,
    };
    let read = sources(plan, at).into_iter().filter_map(|from| match from {
        CopyFrom::Stage(stage) => Some(*stage),
        _ => None,
    });
    base.into_iter().chain(read).collect()
}

/// Returns the images that the stage `at` reads, its base not among them.
fn images(plan: &Plan, at: usize) -> BTreeSet<&str> {
    fn image(from: &CopyFrom) -> Option<&str> {
        match from {
            CopyFrom::Image(name) => Some(name.as_str()),
            _ => None,
        }
    }
    sources(plan, at).into_iter().filter_map(image).collect()
}
