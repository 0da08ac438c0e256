//! What a build would do: looked up as a build does it, but nothing is entered, unpacked, run or written.

use std::collections::BTreeMap;

use crate::plan::{Base, CopyFrom, CopySource, Op, Plan, Step};
use crate::progress::StepId;
use crate::store::Image;

use super::chain::Chain;
use super::schedule::Begin;
use super::work::{Depth, Lookup, Progress, StageState, Work, at_step};
use super::{BuildError, BuildOptions, Builder, Explain, Inputs, mounts};

/// Whether a step is in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepState {
    /// It is.
    Hit,
    /// It is not: it would be run.
    Miss,
    /// That depends on the result of a step that would be run, or on something that would have to be fetched or read first.
    Unknown,
}

/// What is known of a step before a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepPreview {
    /// The step.
    pub step: StepId,
    /// Its key, as far as that is known: 64 hexadecimal digits.
    pub key: Option<String>,
    /// Whether it is in the cache.
    pub state: StepState,
    /// Why it is not, where [`BuildOptions::explain`] asks for it; why that is not known, where it depends on what lies elsewhere.
    pub reasons: Vec<String>,
}

/// What is known of a stage before a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagePreview {
    /// Its steps that make a layer, in order.
    pub steps: Vec<StepPreview>,
    /// Compressed bytes of its base image that would have to be unpacked for a step to be run; `None` where the base image is
    /// not there.
    pub unpack: Option<u64>,
}

impl Builder<'_> {
    /// Returns for each stage of `plan` what is in the cache. `bases` are the images that are there: not all need be.
    ///
    /// # Errors
    /// [`BuildError`] where a file of the context cannot be read, or a step is sure to fail.
    pub fn preview(
        &self,
        plan: &Plan,
        bases: &BTreeMap<String, Image>,
        inputs: &Inputs<'_>,
        options: &BuildOptions,
    ) -> Result<Vec<StagePreview>, BuildError> {
        let begun = Begin { store: self.store, sink: self.sink, control: self.control };
        let work = begun.work((self.on_disk(), self.place()), plan, bases, inputs, options);
        (0..plan.stages.len()).map(|at| stage(&work, at)).collect()
    }
}

fn stage(work: &Work<'_>, at: usize) -> Result<StagePreview, BuildError> {
    let stage = &work.plan.stages[at];
    // The layers up to some step, as long as they are known.
    let mut chain = match &stage.base {
        Base::Scratch => Some(Chain::scratch()),
        Base::Image(name) => work.bases.get(name).map(|image| Chain::of_image(image, work.store)),
        Base::Stage(below) => work.done(*below).map(|progress| progress.chain),
    };
    let unpack = match (&stage.base, &chain) {
        (Base::Image(_), None) => None,
        (Base::Image(_), Some(chain)) => {
            let missing = chain.links().iter().filter(|link| !work.store.has_snapshot(&work.on_disk.realm, &link.id));
            Some(missing.filter_map(|link| Some(link.origin.as_ref()?.size)).sum())
        }
        _ => Some(0),
    };
    let mut steps = Vec::new();
    for step in stage.steps.iter().filter(|step| step.op != Op::Config) {
        let unknown = StepPreview { step: step.id, key: None, state: StepState::Unknown, reasons: Vec::new() };
        let Some(below) = chain.take().filter(|_| can_look_up(work, step)) else {
            steps.push(unknown);
            continue;
        };
        let found = match work.look_up(step, &below, Depth::Quick) {
            // A build may well have it: it asks.
            Err(error) if reads_elsewhere(step) => {
                steps.push(StepPreview { reasons: vec![why(&error)], ..unknown });
                continue;
            }
            found => found.map_err(|error| at_step(step, error))?,
        };
        match found {
            Lookup::Hit(hit, key) => {
                chain = Some(below.with(hit.layer));
                steps.push(StepPreview { key: Some(key), state: StepState::Hit, ..unknown });
            }
            // By what it is called it misses; by what it holds it may hit, but then its files must be looked at.
            Lookup::Miss(keys) if reads_layers(step) => {
                steps.push(StepPreview { key: keys.last().cloned(), ..unknown })
            }
            Lookup::Miss(keys) => {
                let reasons = match work.options.explain {
                    Explain::Misses => work.reasons(step, &work.record(step, &below, &keys)),
                    Explain::No => Vec::new(),
                };
                let key = keys.last().cloned();
                steps.push(StepPreview { key, state: StepState::Miss, reasons, ..unknown });
            }
        }
    }
    if let Some(chain) = chain {
        work.finish_stage(at, StageState::Done(Progress { chain, created: Vec::new() }));
    }
    Ok(StagePreview { steps, unpack })
}

fn reads_layers(step: &Step) -> bool {
    let is_layers = |from: &CopyFrom| matches!(from, CopyFrom::Stage(_) | CopyFrom::Image(_));
    match &step.op {
        Op::Copy(copy) => is_layers(&copy.from),
        Op::Run(run) => mounts::sources(run).any(|(from, _)| is_layers(from)),
        _ => false,
    }
}

fn reads_elsewhere(step: &Step) -> bool {
    let is_elsewhere = |source: &CopySource| matches!(source, CopySource::Url(_) | CopySource::Git(_));
    matches!(&step.op, Op::Copy(copy) if copy.sources.iter().any(is_elsewhere))
}

/// Returns an error and its causes in one line.
fn why(error: &BuildError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Returns whether all is there that it takes to look up `step`.
fn can_look_up(work: &Work<'_>, step: &Step) -> bool {
    let is_there = |from: &CopyFrom| match from {
        CopyFrom::Context | CopyFrom::Named(_) => matches!(work.inputs.folder(from), Ok(Some(_))),
        from => work.known_source(from).is_some(),
    };
    match &step.op {
        Op::Copy(_) if work.inputs.remote.is_none() && reads_elsewhere(step) => false,
        Op::Copy(copy) => match &copy.from {
            CopyFrom::Context | CopyFrom::Named(_) => {
                let has_paths = copy.sources.iter().any(|source| matches!(source, CopySource::Path(_)));
                !has_paths || matches!(work.inputs.folder(&copy.from), Ok(Some(_)))
            }
            from => work.known_source(from).is_some(),
        },
        Op::Run(run) => mounts::sources(run).all(|(from, _)| is_there(from)),
        _ => true,
    }
}
