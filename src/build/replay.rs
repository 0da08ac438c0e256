//! What the caches know of a plan, before anything is done.

use std::collections::{BTreeMap, HashMap};

use crate::oci::Platform;
use crate::plan::{Op, Step};

use super::work::{Progress, StageReplay, StageState, Work};
use super::{BuildError, foreign};

/// What the cache knows of a plan.
pub(super) enum Replayed<'a> {
    /// Each step; these are the targets.
    All(Vec<Progress>),
    /// Not each step.
    Missing {
        /// The RUNs that are not known to be in the cache, in the order of the Dockerfile.
        runs: Vec<&'a Step>,
        /// The first of these that is for a machine which this one cannot play.
        foreign: Option<(&'a Step, &'a Platform)>,
    },
}

/// Looks up all steps of the plan in the cache.
pub(super) fn replay<'a>(work: &Work<'a>) -> Result<Replayed<'a>, BuildError> {
    work.forget_stages();
    let mut missing: Vec<(&Step, &Platform)> = Vec::new();
    let mut unfinished = BTreeMap::new();
    for (at, stage) in work.plan.stages.iter().enumerate() {
        match work.replay(at)? {
            StageReplay::Known(progress) => work.finish_stage(at, StageState::Done(progress)),
            StageReplay::Missing { step, below } => {
                missing.extend(stage.steps[step..].iter().map(|step| (step, &stage.platform)));
                unfinished.insert(at, (step, below));
            }
        }
    }
    if !unfinished.is_empty() && !work.spare(&unfinished) {
        return replay(work);
    }
    Ok(match work.all_done().filter(|_| unfinished.is_empty()) {
        Some(targets) => Replayed::All(targets),
        None => {
            missing.retain(|(step, _)| matches!(step.op, Op::Run(_)));
            missing.sort_by_key(|(step, _)| step.span.start);
            let runs = missing.iter().map(|(step, _)| *step).collect();
            let mut known: HashMap<&Platform, bool> = HashMap::new();
            let scratch = work.store.tmp();
            let mut can = |platform| *known.entry(platform).or_insert_with(|| foreign::runs(platform, &scratch));
            let foreign = missing.into_iter().find(|(_, platform)| !can(platform));
            Replayed::Missing { runs, foreign }
        }
    })
}
