//! What the checks say of a Dockerfile: gathered from the rooms that find it, filtered, and shown once.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::platforms::{Graphs, add_new};
use super::report::{ExitStatus, Failure};
use crate::context::Context;
use crate::dockerfile::Dockerfile;
use crate::plan::check::{self, Checks, Stages};
use crate::plan::{BaseImage, Graph};
use crate::progress::{Event, Sink};
use crate::source::{Diagnostic, Source};

/// What is to be said of a Dockerfile.
#[derive(Debug)]
pub(super) struct Checked {
    /// In the order of the file.
    pub kept: Vec<Diagnostic>,
    /// The base images that nobody has seen.
    pub unseen: Vec<String>,
    /// The checks that found something, where that is an error.
    pub failed: Option<Vec<&'static str>>,
}

/// What is known of the world around a Dockerfile.
pub(super) struct Around<'a> {
    /// The base images that are there.
    pub bases: &'a BTreeMap<String, BaseImage>,
    /// The context, where it is open.
    pub context: Option<&'a Context>,
    /// The build arguments.
    pub build_args: &'a [(String, String)],
}

/// Returns what is to be said of `file`; `found` is what parsing and lowering said already.
///
/// # Errors
/// What `# check=` says makes no sense.
pub(super) fn look(
    source: &Source,
    file: &Dockerfile,
    graph: &Graph<'_>,
    stages: Stages,
    around: &Around<'_>,
    found: Vec<Diagnostic>,
) -> Result<Checked, Diagnostic> {
    let checks = Checks::new(source, file, around.build_args)?;
    let config = |name: &str| around.bases.get(name).map(|base| base.config.clone());
    let findings = check::check(source, graph, stages, &config);
    let ignored = findings.sources.iter().filter_map(|one| {
        // What ADD fetches is not in the context.
        let is_local = !one.path.contains("://") && !one.path.starts_with("git@");
        let rule = around.context.filter(|_| is_local)?.explain_source(&one.path)?;
        Some(one.ignored(&format!("line {} of {} leaves it out: {:?}", rule.line, rule.file.display(), rule.rule)))
    });
    let ignored: Vec<Diagnostic> = ignored.collect();
    let kept = checks.filter(file.warnings.iter().cloned().chain(found).chain(findings.diagnostics).chain(ignored));
    let failed = checks.failed(&kept);
    Ok(Checked { kept, unseen: findings.unseen, failed })
}

/// As [`look`], for each platform: what is said of several is said once. `found` is by platform.
///
/// # Errors
/// As [`look`].
pub(super) fn look_at_each(
    source: &Source,
    file: &Dockerfile,
    graphs: &Graphs<'_>,
    stages: Stages,
    around: &Around<'_>,
    found: Vec<Vec<Diagnostic>>,
) -> Result<Checked, Diagnostic> {
    let mut all = Checked { kept: Vec::new(), unseen: Vec::new(), failed: None };
    for (graph, found) in graphs.each().iter().zip(found) {
        let Checked { kept, unseen, failed } = look(source, file, graph, stages, around, found)?;
        add_new(&mut all.kept, kept);
        unseen.into_iter().for_each(|name| {
            if !all.unseen.contains(&name) {
                all.unseen.push(name);
            }
        });
        for rule in failed.into_iter().flatten() {
            let rules = all.failed.get_or_insert_default();
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    if graphs.are_several() {
        all.kept.sort_by_key(|one| one.span);
    }
    Ok(all)
}

/// What is still to be told of a Dockerfile, when the build is over.
#[derive(Debug, Default)]
pub(super) struct Told(RefCell<Vec<Event>>);

impl Told {
    /// Keeps `kept`, which are about `source`.
    pub fn keep(&self, source: &Source, kept: &[Diagnostic]) {
        self.0.borrow_mut().extend(kept.iter().map(|one| Event::Finding {
            rule: one.rule,
            message: one.message.clone(),
            hint: one.hint.clone(),
            file: source.name().to_owned(),
            line: one.span.map(|span| source.line_of(span.start)),
        }));
    }

    /// Tells all that was kept, once.
    pub fn tell(&self, sink: &dyn Sink) {
        self.0.take().into_iter().for_each(|event| sink.emit(event));
    }
}

/// Returns the failure of a build whose checks found something.
pub(super) fn failure(rules: &[&'static str]) -> Failure {
    let text = format!("error: the checks found something: {}", rules.join(", "));
    Failure::rendered(ExitStatus::Failed, text).with_hint("`# check=error=true` makes that an error")
}
