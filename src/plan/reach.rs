//! What an image of a plan is made of.

use std::collections::BTreeSet;

use super::{Base, CopyFrom, Op, Plan, Step};

impl Plan {
    /// Returns the stages that the stage `target` needs, itself among them, in the order of the plan.
    pub fn needed_by(&self, target: usize) -> BTreeSet<usize> {
        let (mut needed, mut todo) = (BTreeSet::new(), vec![target]);
        while let Some(at) = todo.pop() {
            if !needed.insert(at) {
                continue;
            }
            let stage = &self.stages[at];
            if let Base::Stage(below) = stage.base {
                todo.push(below);
            }
            let stages = stage.steps.iter().flat_map(read_by).filter_map(|from| match from {
                CopyFrom::Stage(other) => Some(*other),
                _ => None,
            });
            todo.extend(stages);
        }
        needed
    }

    /// Returns the keys of the images that these stages stand on or read.
    pub fn images_of(&self, stages: &BTreeSet<usize>) -> BTreeSet<&str> {
        let mut keys = BTreeSet::new();
        for &at in stages {
            let stage = &self.stages[at];
            if let Base::Image(key) = &stage.base {
                keys.insert(key.as_str());
            }
            keys.extend(stage.steps.iter().flat_map(read_by).filter_map(|from| match from {
                CopyFrom::Image(key) => Some(key.as_str()),
                _ => None,
            }));
        }
        keys
    }
}

/// Returns where a step has files from.
pub(super) fn read_by(step: &Step) -> Vec<&CopyFrom> {
    match &step.op {
        Op::Copy(copy) => vec![&copy.from],
        Op::Run(run) => run.mounts.iter().filter_map(|mount| mount.kind.from()).collect(),
        Op::Workdir { .. } | Op::Config => Vec::new(),
    }
}
