//! ONBUILD: what a stage or an image makes the stages do that stand on it.

use std::collections::BTreeMap;

use super::graph::{Graph, Node, Origin};
use super::{BaseImage, ImageUse};
use crate::dockerfile::{Dockerfile, Instruction, Spanned, parse_trigger};
use crate::source::{Diagnostic, Span};

/// The most bytes that the triggers of all stages may have.
const LARGEST: usize = 16 << 20;

/// Returns the triggers of a stage of the file, as text.
pub(super) fn of_stage(file: &Dockerfile, stage: usize) -> Vec<String> {
    let instructions = file.stages[stage].instructions.iter();
    instructions
        .filter_map(|it| match &it.value {
            Instruction::OnBuild(on_build) => Some(on_build.trigger.clone()),
            _ => None,
        })
        .collect()
}

/// Reads `triggers` for a stage whose FROM is at `span`. `total` counts their bytes.
pub(super) fn read(
    triggers: &[String],
    span: Span,
    total: &mut usize,
    errors: &mut Vec<Diagnostic>,
) -> Vec<Spanned<Instruction>> {
    let mut read = Vec::with_capacity(triggers.len());
    for text in triggers {
        *total += text.len() + 100;
        if *total > LARGEST {
            let message = format!("the ONBUILD triggers of all stages have more than {} MiB", LARGEST >> 20);
            errors.push(Diagnostic::error(message).at(span));
            break;
        }
        match parse_trigger(text, span) {
            Ok(trigger) => read.push(trigger),
            Err(found) => errors.extend(found.into_iter().map(|error| labelled(error, text))),
        }
    }
    read
}

/// Says that an error is in a trigger: its place is that of the FROM.
pub(super) fn labelled(error: Diagnostic, trigger: &str) -> Diagnostic {
    let line = trigger.lines().next().unwrap_or_default();
    let mut end = line.len().min(80);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    let more = if end < line.len() { "…" } else { "" };
    error.label(format!("in its trigger `ONBUILD {}{more}`", &line[..end]))
}

impl Graph<'_> {
    /// Takes in the triggers of the images that stages stand on, as far as `bases` has them. Returns the images that the build needs and
    /// `bases` has not: where a trigger copies from an image, or from a stage that stands on one, there may be more of them now. Call
    /// it until there is none.
    ///
    /// # Errors
    /// A trigger cannot be read, or copies from what it cannot copy from.
    pub fn take_triggers(&mut self, bases: &BTreeMap<String, BaseImage>) -> Result<Vec<ImageUse>, Vec<Diagnostic>> {
        let mut errors = Vec::new();
        loop {
            let mut more = false;
            for &index in &self.order.clone() {
                more |= self.take_triggers_of(index, bases, &mut errors);
            }
            if !more {
                break;
            }
            self.find_order(&mut errors);
        }
        if !errors.is_empty() {
            errors.sort_by_key(|error| error.span);
            return Err(errors);
        }
        Ok(self.images().iter().filter(|image| !bases.contains_key(&image.key)).cloned().collect())
    }

    /// Returns whether there are triggers that were not there before.
    fn take_triggers_of(
        &mut self,
        index: usize,
        bases: &BTreeMap<String, BaseImage>,
        errors: &mut Vec<Diagnostic>,
    ) -> bool {
        // Those of an image that takes the place of a stage are not run, as with BuildKit: its last step is done.
        let Node { base: Origin::Image { name, platform }, has_triggers: false, replaced: false, .. } =
            &self.nodes[index]
        else {
            return false;
        };
        let Some(image) = bases.get(&self.options.key(name, platform)) else { return false };
        self.nodes[index].has_triggers = true;
        let triggers = &image.config.config.on_build;
        if triggers.is_empty() {
            return false;
        }
        let span = self.file.stages[index].from.span;
        self.nodes[index].triggers = read(triggers, span, &mut self.trigger_bytes, errors);
        self.resolve_froms(index, errors);
        true
    }
}
