use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use crate::plan::{Base, Plan};
use crate::progress::StepId;
use crate::store::CachedStep;

/// What became of the steps of a build so far, also of one that failed: what a cache elsewhere is told.
#[derive(Debug, Default)]
pub struct Journal {
    steps: Mutex<BTreeMap<StepId, Made>>,
    images: Mutex<Vec<(String, i64)>>,
}

/// A step whose result is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The cache keys under which it is known, 64 hexadecimal digits each.
    pub keys: BTreeSet<String>,
    /// What it made.
    pub step: CachedStep,
}

/// Which steps of a build are told to a cache elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reach {
    /// Those whose layers are part of the image.
    #[default]
    Min,
    /// All.
    Max,
}

impl Journal {
    pub(super) fn note(&self, id: StepId, keys: &[String], step: &CachedStep) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let made = steps.entry(id).or_insert_with(|| Made { keys: BTreeSet::new(), step: step.clone() });
        if (made.step.layer, made.step.created) != (step.layer, step.created) {
            *made = Made { keys: BTreeSet::new(), step: step.clone() };
        }
        made.keys.extend(keys.iter().chain(&step.keys).cloned());
    }

    pub(super) fn note_image(&self, key: &str, made: i64) {
        self.images.lock().unwrap_or_else(PoisonError::into_inner).push((key.to_owned(), made));
    }

    /// Returns the key of each image, and when it was made first; nothing where there is no image, or its time is given.
    pub fn images(&self) -> Vec<(String, i64)> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the steps whose layers are part of the image that `target`, one of [`Plan::targets`], becomes, in the order of the plan.
    pub fn made_for(&self, plan: &Plan, target: usize) -> Vec<Made> {
        self.made_in(plan, &stages_below(plan, target))
    }

    /// Returns the steps of `plan` whose results are known, in its order.
    pub fn made(&self, plan: &Plan, reach: Reach) -> Vec<Made> {
        let stages = match reach {
            Reach::Max => (0..plan.stages.len()).collect::<Vec<_>>(),
            Reach::Min => stages_of_target(plan),
        };
        self.made_in(plan, &stages)
    }

    fn made_in(&self, plan: &Plan, stages: &[usize]) -> Vec<Made> {
        let wanted: BTreeSet<StepId> =
            stages.iter().flat_map(|&at| &plan.stages[at].steps).map(|step| step.id).collect();
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.iter().filter(|(id, _)| wanted.contains(id)).map(|(_, made)| made.clone()).collect()
    }
}

/// The stages whose layers are part of an image, each target before those below it.
pub(super) fn stages_of_target(plan: &Plan) -> Vec<usize> {
    plan.targets().flat_map(|target| stages_below(plan, target)).collect()
}

/// The stage `target`, and those below it.
fn stages_below(plan: &Plan, target: usize) -> Vec<usize> {
    let mut stages = vec![target];
    while let Some(Base::Stage(below)) = stages.last().map(|&at| &plan.stages[at].base) {
        stages.push(*below);
    }
    stages
}
