//! What a plan may say and a build cannot do yet: refused before anything is done, at its place.

use crate::plan::{Copy, CopyFrom, Op, Plan};

use super::BuildError;
use super::work::at_step;

/// Refuses a plan that holds what cannot be carried out yet.
///
/// # Errors
/// [`BuildError::Unbuilt`], at its step.
pub(super) fn check(plan: &Plan) -> Result<(), BuildError> {
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        let what = match &step.op {
            Op::Copy(copy) => of_copy(copy),
            Op::Run(_) | Op::Workdir { .. } | Op::Config => None,
        };
        if let Some(what) = what {
            return Err(at_step(step, BuildError::Unbuilt { what }));
        }
    }
    Ok(())
}

fn of_copy(copy: &Copy) -> Option<&'static str> {
    [(matches!(copy.from, CopyFrom::Named(_)), "a named context")]
        .into_iter()
        .find_map(|(there, what)| there.then_some(what))
}
