use std::collections::{HashMap, VecDeque};

use crate::cli::text::beginning;
use crate::progress::StepId;

/// How many lines are kept of each step.
pub const KEPT: usize = 20;
/// How many bytes are kept of each line.
const LONGEST: usize = 4096;

/// The last lines that each step wrote: for the report, when one fails. At most 80 KiB for each running step.
#[derive(Debug, Default)]
pub struct LastLines {
    steps: HashMap<StepId, VecDeque<String>>,
}

impl LastLines {
    /// Adds a line of a step.
    pub fn add(&mut self, step: StepId, line: &str) {
        let lines = self.steps.entry(step).or_default();
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(beginning(line, LONGEST).to_owned());
    }

    /// Forgets a step: it ended well.
    pub fn forget(&mut self, step: StepId) {
        self.steps.remove(&step);
    }

    /// Returns the last lines of a step, at most 20, oldest first.
    pub fn of(&self, step: StepId) -> Vec<String> {
        self.steps.get(&step).into_iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_twenty_lines_of_each_step_are_kept() {
        let mut last = LastLines::default();
        for n in 0..50 {
            last.add(StepId(1), &format!("line {n}"));
        }
        last.add(StepId(2), &"x".repeat(10_000));
        let lines = last.of(StepId(1));
        assert_eq!((lines.len(), lines[0].as_str(), lines[19].as_str()), (20, "line 30", "line 49"));
        assert_eq!(last.of(StepId(2))[0].len(), 4096);
        last.forget(StepId(1));
        assert!(last.of(StepId(1)).is_empty());
    }
}
